//! What an issuer notes in a relation of the question that it answers.

use crate::ask::Ask;
use crate::follow::issuer::Question;
use crate::planted::planted;
use crate::relation::account::Account;
use crate::relation::followed::Downstream;
use crate::relation::keys::withheld_prefix;
use crate::relation::withheld::WithheldObject;
use crate::wire::follow::Change;
use crate::wire::place::Place;
use keyferry_kmip::Failure;
use keyferry_store::Effects;

impl Question<'_> {
    /// Lists what the replica does not get.
    pub(super) fn note_withheld(
        &mut self,
        ask: &Ask<'_>,
        changes: &[Change],
        effects: &mut Effects,
    ) -> Result<(), Failure> {
        let terms = (ask.now.wall, self.node.policy.limits.withheld_objects);
        let prefix = withheld_prefix(&self.downstream.server, &self.downstream.relation);
        let counted = &mut self.downstream.withheld;
        let listed = WithheldObject::note(ask.snapshot, &prefix, counted, changes, terms)?;
        effects.state.extend(listed);
        Ok(())
    }

    /// Notes in the relation what was sent and acknowledged. What only says when the replica was heard last is written once a second.
    pub(super) fn note_sent(
        &mut self,
        ask: &Ask<'_>,
        end: u64,
        head: &Place,
        account: Account,
        effects: &mut Effects,
    ) -> Result<(), Failure> {
        let (request, downstream) = (&self.request, &mut self.downstream);
        let pages = account.changed();
        let is_another_second = ask.now.wall != downstream.contact;
        if request.checking == Some(true) || planted!(ChecksNeverAsked) {
            downstream.checks = None;
        } else if request.after.as_ref().is_some_and(|after| {
            after.number < downstream.acknowledged || request.offers != downstream.offers
        }) {
            downstream.checks = Some(true);
        }
        let noted = i64::from(!pages.is_empty());
        downstream.offers = downstream.offers.max(request.offers).saturating_add(noted);
        if let Some(after) = &request.after {
            downstream.acknowledged = after.number;
        }
        downstream.contact = ask.now.wall;
        downstream.sent = i64::try_from(end).unwrap_or(i64::MAX);
        let differs = |what: fn(&Downstream, &Downstream) -> bool| {
            self.held.as_ref().is_none_or(|held| what(held, downstream))
        };
        let is_new = self.selection_changed
            || differs(|held, now| held.session != now.session)
            || differs(|held, now| held.terms_differ != now.terms_differ)
            || differs(|held, now| (held.checks, held.offers) != (now.checks, now.offers))
            || differs(|held, now| held.withheld != now.withheld);
        // A question that goes on behind this answer has to know where it ended.
        let goes_on = request.more == Some(true) || end < head.number() || request.after.is_none();
        let has_advanced = differs(|held, now| held.acknowledged != now.acknowledged);
        if is_new || goes_on || !pages.is_empty() || is_another_second && has_advanced {
            let pages = pages.into_iter().filter(|_| !planted!(OfferedNotStored));
            effects.state.extend(pages);
            effects.state.push(downstream.entry()?);
        }
        Ok(())
    }
}
