//! The replica's side of a withdrawal: an object leaves what is followed ([rule 6](crate::design#rule-6)).

use crate::ask::Ask;
use crate::follow::receiver::Receiver;
use crate::planted::planted;
use crate::receive::authority::{ChangeRef, Speaker, check_speaker};
use crate::relation::followed::Upstream;
use crate::relation::keys::{about, done_prefix, missing_prefix};
use crate::wire::follow::{Change, Done};
use keyferry_kmip::{Failure, Text, lifecycle};
use keyferry_store::record::bytes_of;
use keyferry_store::{Descent, Effects, Material, Overlay, Record, SnapshotExt, descent};
use keyferry_ttlv::Extra;

impl Receiver<'_> {
    /// Lets an object leave what is followed: its material goes, unless it comes by another relation, too. The State that the issuer tells counts.
    pub(super) fn withdraw(&self, ask: &Ask<'_>, change: &Change) -> Result<Effects, Failure> {
        let mut effects = Effects::none();
        let (id, stamp) = (change.copy.id.clone(), change.copy.stamp.clone());
        let done = Done {
            id: id.clone(),
            stamp: stamp.clone(),
            extra: Extra::NONE,
        };
        let key = about(done_prefix(&self.options.relation), &id)?;
        effects.state.push((key, Some(bytes_of(&done)?)));
        let Some((number, held)) = ask.snapshot.by_object_id(&id)? else {
            return Ok(effects);
        };
        let speaker = self.speaker(change, &held)?;
        if !self.may_withdraw(speaker, &held) || held.is_withdrawn() && held.is_destroyed() {
            return Ok(effects);
        }
        let by_issuer = speaker == Speaker::Issuer && !planted!(RelaysOutlastIssuer);
        // Its issuer does not know the change that is held: the mark of it stays, and is named.
        let told = descent((&held.stamp, &held.lineage), (&stamp, &change.copy.lineage));
        if matches!(told, Descent::Older | Descent::Fork)
            && stamp.issuer == self.options.from.server
        {
            let key = about(missing_prefix(&self.options.relation), &id)?;
            effects.state.push((key, Some(bytes_of(&id)?)));
        }
        let left = self.left_via(ask, &held, by_issuer)?;
        let (after, material) = withdrawn(&held, change, left, by_issuer);
        if after != held {
            effects.extend(Effects::change(Some((number, held)), after, material));
        }
        Ok(effects)
    }

    /// As whom the server speaks of the object.
    fn speaker(&self, change: &Change, held: &Record) -> Result<Speaker, Failure> {
        let named = ChangeRef {
            id: &change.copy.id,
            stamp: &change.copy.stamp,
            lineage: &change.copy.lineage,
        };
        check_speaker(self.node, &self.options.from, &named, Some(held))
    }

    /// Whether the server may withdraw the object: its issuer may, and a relay what it has brought itself.
    fn may_withdraw(&self, speaker: Speaker, held: &Record) -> bool {
        let relation = &self.options.relation;
        let is_kept_by_it = held
            .overlay
            .as_ref()
            .is_some_and(|overlay| overlay.via.iter().any(|via| *via == **relation));
        match speaker {
            Speaker::Issuer => true,
            Speaker::Relay => is_kept_by_it || planted!(RelayWithdrawsAnything),
            Speaker::Holder => false,
        }
    }

    /// The relations by which the object comes still. What its issuer withdraws comes by relays no more: two of them could keep it for each other.
    fn left_via(
        &self,
        ask: &Ask<'_>,
        held: &Record,
        by_issuer: bool,
    ) -> Result<Vec<Text>, Failure> {
        let via = held.overlay.iter().flat_map(|overlay| &overlay.via);
        let others = via.filter(|via| **via != *self.options.relation);
        let mut left: Vec<Text> = others.cloned().collect();
        if by_issuer && !left.is_empty() {
            let upstreams = Upstream::all(ask.snapshot)?;
            left.retain(|via| {
                upstreams.iter().any(|upstream| {
                    upstream.relation == *via && upstream.server == held.stamp.issuer
                })
            });
        }
        Ok(left)
    }
}

/// The record as a withdrawal leaves it, which comes by these relations still, and what becomes of its material.
fn withdrawn(
    held: &Record,
    change: &Change,
    left: Vec<Text>,
    by_issuer: bool,
) -> (Record, Material) {
    let mut after = held.clone();
    let overlay = after.overlay.get_or_insert_with(Overlay::default);
    overlay.via = left;
    if let (Some(here), Some(there)) = (held.stored_state(), change.copy.unrepresentable.state()) {
        let (own, new) = (lifecycle::Rank::of(here), lifecycle::Rank::of(there));
        let joined = own.joined_state(new);
        if !planted!(WithdrawnForgetsState) {
            overlay.state = (joined != here).then_some(joined).or(overlay.state);
        }
    }
    let material = if planted!(WithdrawnKeepsMaterial) {
        overlay.withdrawn = Some(true);
        Material::Keep
    } else if overlay.via.is_empty() || planted!(WithdrawnFromAllRelations) {
        overlay.withdrawn = Some(true);
        overlay.by_issuer = by_issuer.then_some(true);
        overlay.hidden.clear();
        Material::Remove
    } else {
        Material::left_to(&after)
    };
    (after, material)
}
