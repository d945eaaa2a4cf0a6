//! The account of a server: what this one has sent it, by whatever way, and tells it of. It outlives the ways
//! ([rule 17](crate::design#rule-17)).

use crate::error::Result;
use crate::relation::followed::Downstream;
use crate::relation::keys;
use crate::relation::record_set::RecordSet;
use keyferry_kmip::Text;
use keyferry_kmip::lifecycle::Rank;
use keyferry_kmip::spec::State;
use keyferry_store::{Record, RecordNumber, Snapshot, Span, Store};
use std::ops::ControlFlow;

/// What this server has sent another one: in one way, which is in use, and in the other ways that tell of nothing any more by themselves.
///
/// A way is a relation, the pushes of one name, or the bundles. A relation that has not ended tells of its copies itself.
#[derive(Debug)]
pub struct Account {
    own: RecordSet,
    others: Vec<RecordSet>,
}

impl Account {
    /// The account of a server that follows this one.
    pub(crate) fn in_relation(
        snapshot: &dyn Snapshot,
        server: &str,
        relation: &str,
    ) -> Result<Account> {
        Account::of(snapshot, server, keys::offered_prefix(server, relation))
    }

    /// The account of a server of this instance that this one pushes to. Another server, under whatever name, has one of its own.
    pub(crate) fn by_push(
        snapshot: &dyn Snapshot,
        server: &str,
        (transfer, instance): (&str, &[u8]),
    ) -> Result<Account> {
        let own = keys::pushed_prefix(server, transfer, instance);
        let mut account = Account::of(snapshot, server, own)?;
        account
            .others
            .retain(|set| keys::is_of_instance(set.prefix(), instance));
        Ok(account)
    }

    /// The account of a server that gets bundles.
    ///
    /// # Errors
    /// Those of the store.
    pub fn in_bundles(snapshot: &dyn Snapshot, recipient: &str) -> Result<Account> {
        Account::of(snapshot, recipient, keys::bundle_offered_prefix(recipient))
    }

    fn of(snapshot: &dyn Snapshot, server: &str, own: Vec<u8>) -> Result<Account> {
        let mut others = Vec::new();
        let mut running = Vec::new();
        for downstream in Downstream::of(snapshot, server)? {
            if downstream.ended != Some(true) {
                running.push(keys::offered_prefix(server, &downstream.relation));
            }
        }
        for prefix in keys::account_prefixes(server) {
            for set in sets_under(snapshot, &prefix)? {
                if set != own && !running.contains(&set) {
                    others.push(RecordSet::under(set));
                }
            }
        }
        Ok(Account {
            own: RecordSet::under(own),
            others,
        })
    }

    /// All servers that were sent anything, with what each was sent in one way.
    pub(crate) fn holders(snapshot: &dyn Snapshot) -> Result<Vec<(Text, RecordSet)>> {
        let mut holders = Vec::new();
        for kind in keys::ACCOUNTS {
            for set in sets_under(snapshot, kind)? {
                let server = keys::first_name(kind, &set);
                holders.push((server, RecordSet::under(set)));
            }
        }
        Ok(holders)
    }

    /// Whether the server was sent the record in the way that is in use.
    ///
    /// # Errors
    /// Those of the store.
    pub fn has(&mut self, snapshot: &dyn Snapshot, number: RecordNumber) -> Result<bool> {
        Ok(self.own.has(snapshot, number)?)
    }

    /// Whether the server was sent the record in any way.
    ///
    /// # Errors
    /// Those of the store.
    pub fn has_anyhow(&mut self, snapshot: &dyn Snapshot, number: RecordNumber) -> Result<bool> {
        for set in std::iter::once(&mut self.own).chain(&mut self.others) {
            if set.has(snapshot, number)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the server has to hear of a record that it does not get any more: it was sent the record, which may not be used any more.
    ///
    /// # Errors
    /// Those of the store.
    pub fn has_ended(
        &mut self,
        snapshot: &dyn Snapshot,
        number: RecordNumber,
        record: &Record,
    ) -> Result<bool> {
        let is_over = record.is_compromised()
            || (record.stored_state())
                .is_some_and(|state| Rank::of(state).step >= Rank::of(State::DEACTIVATED).step);
        Ok(is_over && self.has_anyhow(snapshot, number)?)
    }

    /// Notes that the server is sent a record, or that it gave its copy up.
    pub(crate) fn set(
        &mut self,
        snapshot: &dyn Snapshot,
        number: RecordNumber,
        sent: bool,
    ) -> Result<()> {
        Ok(self.own.set(snapshot, number, sent)?)
    }

    /// The entries of the s2s state that have changed.
    pub(crate) fn changed(self) -> Vec<keys::Entry> {
        self.own.changed()
    }

    /// Notes in the store that the server is sent these records, in a transaction of its own, unless all of that is noted. What was read of the account
    /// before stays as it was read.
    ///
    /// # Errors
    /// Those of the store.
    pub fn note(&self, store: &dyn Store, numbers: &[RecordNumber]) -> Result<()> {
        Ok(self.own.note(store, numbers)?)
    }
}

/// What the keys of each set begin with that stands under a prefix of the state's keys.
pub(crate) fn sets_under(snapshot: &dyn Snapshot, prefix: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let mut span = Span::prefix(prefix);
    loop {
        let mut first = None;
        snapshot.state(&span, &mut |key, _| {
            first = Some(key.to_vec());
            Ok(ControlFlow::Break(()))
        })?;
        let Some(mut key) = first else {
            return Ok(found);
        };
        key.truncate(key.len().saturating_sub(keys::PAGE_BYTES));
        // Behind all pages of this one.
        let behind = Span::prefix(&key).to;
        found.push(key);
        match behind {
            Some(behind) => span.from = behind,
            None => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests;
