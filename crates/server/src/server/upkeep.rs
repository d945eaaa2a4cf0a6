//! This module stores what comes to pass without a request: the States that dates lead to, and what was revoked while the server could not change
//! its objects.

use super::Server;
use crate::error::Error;
use keyferry_kmip::{Now, lifecycle};
use keyferry_s2s::{check_no_pending_give_back, settle_emergency_revokes};
use keyferry_store::{Effects, Material, Order, Snapshot, SnapshotExt, StoreExt, index};
use std::ops::ControlFlow;

impl Server {
    /// Stores the State transitions that dates have caused, of up to `most` objects that this server issues, in one commit; returns the number
    /// of these objects. Call it now and then: reads see the new States without it, but peers learn of them by it, and Locate by State
    /// becomes faster ([rule 7](keyferry_s2s::design#rule-7)). What was revoked in an emergency while this server waited for what it had lost becomes
    /// a change here, too ([rule 5](keyferry_s2s::design#rule-5)).
    ///
    /// While the wall clock is not [trusted](keyferry_s2s::Clock), nothing is stored that a date has caused; the log and an
    /// [`Alarm`](keyferry_s2s::Alarm) say so. [`confirm_time`](Server::confirm_time) ends that.
    ///
    /// # Errors
    /// When the store fails; nothing was changed then.
    pub fn store_due_states(&self, now: Now, most: usize) -> Result<usize, Error> {
        let node = self.node();
        let (settled, is_named) = self.store.transact(|transaction| {
            if check_no_pending_give_back(transaction).is_err() {
                return Ok((0, false));
            }
            let mut effects = settle_emergency_revokes(node, transaction, now.wall, most)?;
            if effects.changes.is_empty() && node.clock.is_trusted(transaction, now)? {
                effects.extend(self.due_states(transaction, now, most)?);
            }
            node.spread_compromise(transaction, now.wall, &mut effects)?;
            let is_named = node.watch_clock(transaction, now, &mut effects)?;
            if !effects.is_empty() {
                effects.apply(transaction)?;
            }
            Ok::<_, Error>((effects.changes.len(), is_named))
        })?;
        if is_named {
            tracing::warn!(
                wall = now.wall.0,
                "the clock has jumped: what dates have led to is not stored until it is right again or confirmed"
            );
        }
        self.committed(settled > 0);
        Ok(settled)
    }

    /// Trusts the wall clock as it is, because a person has looked: to be called when it was set on purpose.
    pub fn confirm_time(&self, now: Now) {
        self.node().clock.confirm(now);
    }

    /// The effects of the transitions that dates have caused.
    fn due_states(&self, snapshot: &dyn Snapshot, now: Now, most: usize) -> Result<Effects, Error> {
        let (node, mut effects, mut due) = (self.node(), Effects::none(), Vec::new());
        let reign = snapshot.reign()?;
        snapshot.scan(
            index::DUE,
            &index::due_until(now.wall),
            Order::Ascending,
            None,
            &mut |_, number| {
                // The State of a copy is stored by its issuer.
                due.extend(
                    snapshot
                        .record(number)?
                        .filter(|record| node.issues(record))
                        .map(|record| (number, record)),
                );
                Ok(if due.len() < most {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            },
        )?;
        for (number, record) in due {
            let mut after = record.clone();
            lifecycle::store_state_at(&mut after.attributes, now.wall);
            node.advance(&mut after, reign, now.wall);
            effects.extend(Effects::change(
                Some((number, record)),
                after,
                Material::Keep,
            ));
        }
        Ok(effects)
    }
}
