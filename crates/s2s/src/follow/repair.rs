//! The replica's side of a repair: a copy that has changed by itself, or can't be read any more, gives way to what its keeper sends when it is asked for
//! it ([rule 17](crate::design#rule-17)).

use crate::ask::Ask;
use crate::follow::receiver::Receiver;
use crate::planted::planted;
use crate::receive::authority::{ChangeRef, Speaker, check_speaker};
use crate::receive::merge::Incoming;
use crate::relation::keys;
use crate::relation::receipts::Receipts;
use crate::wire::follow::Change;
use keyferry_kmip::spec::{ObjectType, State};
use keyferry_kmip::{Cause, Failure, Text, lifecycle};
use keyferry_store::{
    Effects, ErrorKind, IndexKey, Material, Overlay, Record, RecordNumber, Remains, SnapshotExt,
    index,
};
use keyferry_ttlv::Extra;

impl Receiver<'_> {
    /// Whether what is held has changed by itself since it came, and gives way to a copy that proves right: the server that is followed, asked for it,
    /// tells the same change with other attributes, and no receipt that came with what is held is of it; or the slow reading of the store has found it
    /// rotten. The issuer's word is proof; what a relay tells has to be what the receipts are of.
    pub(super) fn has_rotted(
        &self,
        ask: &Ask<'_>,
        (number, held): &(RecordNumber, Record),
        incoming: &Incoming,
    ) -> Result<bool, Failure> {
        let was_asked_for = self.searches || self.asked_again.contains(&held.id);
        if !was_asked_for
            || planted!(RotCounts)
            || incoming.speaker == Speaker::Holder
            || incoming.record.stamp != held.stamp
        {
            return Ok(false);
        }
        let is_listed = ask.snapshot.state_value(&keys::rotten(*number))?.is_some();
        let is_rotten = is_listed && (incoming.object.is_some() || incoming.record.is_destroyed())
            || held.copy_digest()? != incoming.digest
                && Receipts::are_of_another_copy(ask.snapshot, held)?;
        // A relay's copy has to be the one that the receipts are of.
        Ok(is_rotten
            && (incoming.speaker == Speaker::Issuer
                || Receipts::vouch_for(ask.snapshot, held, &incoming.record)? == Some(true)))
    }

    /// Puts the mark of a withdrawn copy in the place of a record of this object that can't be read, so that the object can come again. What its index
    /// entries still say counts: its identifier here, and how far along its State was. `None` when no such record is of this object.
    pub(super) fn clear_damaged(
        &self,
        ask: &Ask<'_>,
        change: &Change,
    ) -> Result<Option<Effects>, Failure> {
        let copy = &change.copy;
        let Some(number) = ask.snapshot.damaged(&copy.id)? else {
            return Ok(None);
        };
        let Some(remains) = ask.snapshot.remains(number)? else {
            return Ok(None);
        };
        let named = ChangeRef {
            id: &copy.id,
            stamp: &copy.stamp,
            lineage: &copy.lineage,
        };
        if check_speaker(self.node, &self.options.from, &named, None)? == Speaker::Holder {
            return Ok(None);
        }
        let mark = Record {
            id: copy.id.clone(),
            identifier: identifier_of(&remains, &change.identifier),
            owner: None,
            stamp: copy.stamp.clone(),
            lineage: copy.lineage.clone(),
            object_type: change.object_type.unwrap_or(ObjectType::OPAQUE_OBJECT),
            attributes: copy.unrepresentable.clone(),
            overlay: Some(Overlay {
                withdrawn: Some(true),
                state: state_of(&remains),
                ..Overlay::default()
            }),
            fingerprint: None,
            lost: Vec::new(),
            extra: Extra::NONE,
        };
        let mut effects = Effects::replacing(number, remains, mark, Material::Remove);
        effects.state.push((keys::rotten(number), None));
        Ok(Some(effects))
    }
}

/// Whether something failed because what is stored has rotted.
pub(super) fn is_corrupt(failure: &Failure) -> bool {
    let source = std::error::Error::source(failure);
    let of_store = source.and_then(|source| source.downcast_ref::<keyferry_store::Error>());
    of_store.is_some_and(|error| error.kind() == ErrorKind::Corrupt)
}

/// The failure of an object whose record could not be read: it is asked for again at once.
pub(super) fn damaged() -> Failure {
    Failure::new(
        Cause::MissingData,
        "what was held of the object can't be read any more: it is asked for again",
    )
}

/// The identifier that a record has here, by its index entries; `told` where these do not say.
fn identifier_of(remains: &Remains, told: &Text) -> Text {
    let own = remains
        .keys
        .iter()
        .find(|key| key.index == index::IDENTIFIER);
    own.and_then(|key| {
        let text = std::str::from_utf8(&key.key).ok()?;
        // A long identifier stands there as a digest.
        (index::identifier(text) == *key).then(|| text.into())
    })
    .unwrap_or_else(|| told.clone())
}

/// How far along the State of a record was, by its index entries.
fn state_of(remains: &Remains) -> Option<State> {
    let has = |key: &IndexKey| remains.keys.contains(key);
    let known = (1..=6)
        .map(State)
        .filter(|state| has(&index::state(*state)));
    known.reduce(|one, other| lifecycle::Rank::of(one).joined_state(lifecycle::Rank::of(other)))
}
