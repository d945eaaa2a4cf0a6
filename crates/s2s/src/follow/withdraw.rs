//! The replica's side of a withdrawal: an object leaves what is followed ([rule 6](crate::design#rule-6)).

use crate::ask::Ask;
use crate::follow::receiver::{Decision, Receiver, Standing};
use crate::planted::planted;
use crate::receive::authority::{ChangeRef, Speaker, check_speaker};
use crate::relation::followed::Upstream;
use crate::relation::kept::KeptCopies;
use crate::relation::keys::{Entry, about, done_prefix, missing_prefix};
use crate::report::{ObjectResult, Outcome};
use crate::wire::follow::{Change, Done};
use keyferry_kmip::{Failure, lifecycle};
use keyferry_store::record::bytes_of;
use keyferry_store::{
    Descent, Effects, Material, Overlay, Record, RecordNumber, SnapshotExt, descent,
};
use keyferry_ttlv::Extra;

impl Receiver<'_> {
    /// Lets an object leave what is followed: its material goes, unless it comes by another relation, too. The State that the issuer tells counts.
    pub(super) fn withdraw(&self, ask: &Ask<'_>, change: &Change) -> Result<Decision, Failure> {
        let mut effects = Effects::none();
        let ends = |effects, standing| {
            Ok(Decision {
                result: ObjectResult::new(&change.identifier, Outcome::Withdrawn),
                effects,
                standing,
                refused: None,
            })
        };
        let (id, stamp) = (change.copy.id.clone(), change.copy.stamp.clone());
        let done = Done {
            id: id.clone(),
            stamp: stamp.clone(),
            extra: Extra::NONE,
        };
        let key = about(done_prefix(&self.options.relation), &id)?;
        effects.state.push((key, Some(bytes_of(&done)?)));
        let Some((number, held)) = ask.snapshot.by_object_id(&id)? else {
            return ends(effects, Standing::AsBefore);
        };
        let speaker = self.speaker(change, &held)?;
        if !self.may_withdraw(ask, speaker, number)? || held.is_withdrawn() && held.is_destroyed() {
            return ends(effects, Standing::AsBefore);
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
        let (still_comes, given_up) = self.leave(ask, (number, &held), by_issuer)?;
        let (after, material) = withdrawn(&held, change, still_comes, by_issuer);
        // Whoever goes by this server's feed finds what comes by another relation no more.
        if after != held || !given_up.is_empty() {
            effects.extend(Effects::change(Some((number, held)), after, material));
        }
        effects.state.extend(given_up);
        ends(effects, Standing::Leaves(number))
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
    fn may_withdraw(
        &self,
        ask: &Ask<'_>,
        speaker: Speaker,
        number: RecordNumber,
    ) -> Result<bool, Failure> {
        let (server, relation) = (&self.options.from.server, &self.options.relation);
        Ok(match speaker {
            Speaker::Issuer => true,
            Speaker::Relay => {
                let mut kept = KeptCopies::of(server, &relation.as_str().into());
                kept.has(ask.snapshot, number)? || planted!(RelayWithdrawsAnything)
            }
            Speaker::Holder => false,
        })
    }

    /// Whether the object comes still by another relation, and what notes that it comes no more by some. What a server withdraws, none of its relations
    /// that were ended brings any more. What the issuer withdraws comes by relays no more: two of them could keep it for each other.
    fn leave(
        &self,
        ask: &Ask<'_>,
        (number, held): (RecordNumber, &Record),
        by_issuer: bool,
    ) -> Result<(bool, Vec<Entry>), Failure> {
        let (mut still_comes, mut given_up) = (false, Vec::new());
        let server = &self.options.from.server;
        for mut copies in KeptCopies::all(ask.snapshot)? {
            let is_own = copies.server == *server && copies.relation == *self.options.relation;
            if is_own || !copies.has(ask.snapshot, number)? {
                continue;
            }
            let runs = Upstream::find(ask.snapshot, &copies.relation)?
                .is_some_and(|upstream| upstream.server == copies.server);
            let remains = match by_issuer {
                true => runs && copies.server == held.stamp.issuer,
                false => runs || copies.server != *server,
            };
            still_comes |= remains;
            if !remains {
                copies.set(ask.snapshot, number, false)?;
                given_up.extend(copies.changed());
            }
        }
        Ok((still_comes, given_up))
    }
}

/// The record as a withdrawal leaves it, which may come still by other relations, and what becomes of its material.
fn withdrawn(
    held: &Record,
    change: &Change,
    still_comes: bool,
    by_issuer: bool,
) -> (Record, Material) {
    let mut after = held.clone();
    let overlay = after.overlay.get_or_insert_with(Overlay::default);
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
    } else if !still_comes || planted!(WithdrawnFromAllRelations) {
        overlay.withdrawn = Some(true);
        overlay.by_issuer = by_issuer.then_some(true);
        overlay.hidden.clear();
        Material::Remove
    } else {
        Material::left_to(&after)
    };
    (after, material)
}
