//! Which copies are not held as an answer has told them: they are listed, with what was told ([`DifferingCopy`]).

use crate::compare::leaf::CopySum;
use crate::error::Result;
use crate::follow::apply::ChangesPage;
use crate::follow::compare::is_compared_here;
use crate::planted::planted;
use crate::relation::differing::DifferingCopy;
use crate::relation::keys::{Entry, about, differing_prefix};
use crate::relation::rotten::readable;
use crate::report::Outcome;
use crate::transport_key::is_transport_key;
use crate::wire::follow::Change;
use keyferry_kmip::lifecycle;
use keyferry_store::record::bytes_of;
use keyferry_store::{Effects, Snapshot, SnapshotExt};
use keyferry_ttlv::Extra;

impl ChangesPage<'_> {
    /// Lists the object of a change if it is not held as it was told, with what `effects` make of it, or not any more if it is.
    pub(super) fn note_difference(
        &mut self,
        snapshot: &dyn Snapshot,
        change: &Change,
        outcome: Outcome,
        effects: &Effects,
    ) -> Result<Option<Entry>> {
        let told = told_sum(change);
        let copy = &change.copy;
        let taken = matches!(
            outcome,
            Outcome::Created | Outcome::Updated | Outcome::Renamed
        );
        let changed = effects.changes.iter();
        let changed = changed.rev().find(|one| one.after.id == copy.id);
        let stored = match changed {
            Some(_) => None,
            None => readable(snapshot.by_object_id(&copy.id))?.flatten(),
        };
        let changed =
            changed.map(|one| (one.before.as_ref().map(|(number, _)| *number), &one.after));
        let after = changed.or(stored
            .as_ref()
            .map(|(number, record)| (Some(*number), record)));
        let is_key = after.is_some_and(|(_, record)| is_transport_key(record));
        let comes = match after {
            Some((Some(number), _)) => self.kept.has(snapshot, number)?,
            // It is created, by what came.
            Some((None, _)) => true,
            None => false,
        };
        let after = after.map(|(_, record)| record);
        let is_held = match after.filter(|after| comes && is_compared_here(after)) {
            Some(_) if taken && told.is_some() => true,
            Some(after) => Some(CopySum::of_record(after)?) == told,
            None => told.is_none() || is_key,
        };
        // What was told of it before in this answer does not count any more.
        self.applied.told.remove(&copy.id);
        if is_held && let Some(sum) = told.filter(|_| !is_key) {
            self.applied
                .told
                .insert(copy.id.clone(), (copy.stamp.clone(), sum));
        }
        let count = self.applied.upstream.differing.unwrap_or(0);
        if is_held && count == 0 || planted!(DifferenceUnlisted) {
            return Ok(None);
        }
        let key = about(differing_prefix(&self.options.relation), &copy.id)?;
        let listed = snapshot.state_value(&key)?;
        if is_held {
            if listed.is_none() {
                return Ok(None);
            }
            self.applied.upstream.differing = Some(count - 1).filter(|count| *count > 0);
            self.applied.differing.push((copy.id.clone(), None));
            return Ok(Some((key, None)));
        }
        self.list_difference(change, told, (key, listed.is_none()))
    }

    /// Lists an object that is not held as it was told, if there is room for one that `is_new` on the list.
    fn list_difference(
        &mut self,
        change: &Change,
        told: Option<CopySum>,
        (key, is_new): (Vec<u8>, bool),
    ) -> Result<Option<Entry>> {
        let copy = &change.copy;
        let count = self.applied.upstream.differing.unwrap_or(0);
        let most = i64::try_from(self.node.policy.limits.differing).unwrap_or(i64::MAX);
        if is_new && count >= most {
            self.applied.upstream.uncompared = Some(true);
            return Ok(None);
        }
        self.applied.upstream.differing = Some(count + i64::from(is_new));
        let differing = DifferingCopy {
            id: copy.id.clone(),
            stamp: told.map(|_| copy.stamp.clone()),
            digest: told.map(|_| copy.digest.clone()),
            since: self.now.wall,
            extra: Extra::NONE,
        };
        self.applied.differing.push((copy.id.clone(), Some(told)));
        Ok(Some((key, Some(bytes_of(&differing)?))))
    }
}

/// What a change tells of an object that the two servers compare; `None` where it tells that there is nothing to compare.
fn told_sum(change: &Change) -> Option<CopySum> {
    let copy = &change.copy;
    let state = copy.unrepresentable.state();
    let is_over = [state, change.raised]
        .into_iter()
        .flatten()
        .any(lifecycle::is_destroyed);
    let is_live = change.kind.tells_of_a_copy() && !is_over;
    is_live.then(|| CopySum::of(&copy.stamp, &copy.digest))
}

#[cfg(test)]
mod tests;
