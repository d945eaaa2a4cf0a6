//! What relays have told of an object before its issuer has, or what it does not know: the issuer's own word counts ([rule A](crate::design#rule-a)).

use crate::ask::Ask;
use crate::follow::receiver::{Receiver, ToldChange};
use crate::receive::authority::Speaker;
use crate::receive::merge::Incoming;
use crate::relation::keys::Entry;
use crate::relation::receipts::Receipts;
use keyferry_kmip::{Cause, Failure};
use keyferry_store::{Descent, Record, SnapshotExt, descent};

impl Receiver<'_> {
    /// Has the issuer asked at once where relays have told of a change that it does not know, or not yet. What it answers then counts, if it is still
    /// in the reign of that change: then it has not lost it either ([rule A](crate::design#rule-a)).
    pub(super) fn check_hearsay(
        &self,
        ask: &Ask<'_>,
        incoming: &mut Incoming,
        held: &Record,
    ) -> Result<(), Failure> {
        if incoming.speaker != Speaker::Issuer || self.reign != held.stamp.incarnation {
            return Ok(());
        }
        let newer = &incoming.record;
        let told = descent((&held.stamp, &held.lineage), (&newer.stamp, &newer.lineage));
        if !matches!(told, Descent::Older | Descent::Fork)
            || !Receipts::is_hearsay(ask.snapshot, held)?
        {
            return Ok(());
        }
        if self.asked_again.contains(&held.id) {
            incoming.overrules = true;
            return Ok(());
        }
        Err(Failure::new(
            Cause::MissingData,
            "a relay has told of a change that its issuer has not told of: the issuer is asked for it",
        ))
    }

    /// Notes whether an issuer is behind what is held here of its object: then it has lost a change, and takes none back.
    pub(super) fn note_behind(
        &self,
        ask: &Ask<'_>,
        told: &ToldChange,
        held: &ToldChange,
    ) -> Result<Option<Entry>, Failure> {
        let is_behind = told.stamp.issuer == self.options.from.server
            && descent(held.line(), told.line()) == Descent::Older;
        let (key, _) = self.missing(&told.id, false)?;
        let was_missing = ask.snapshot.state_value(&key)?.is_some();
        (was_missing != is_behind)
            .then(|| self.missing(&told.id, is_behind))
            .transpose()
    }
}
