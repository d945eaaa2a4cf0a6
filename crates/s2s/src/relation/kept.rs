//! By which relations the copies come that are held here: the account of this server with each that it follows, or has followed
//! ([rule 17](crate::design#rule-17)). It stands beside the records, so that a relation that is begun under another name changes none of them.

use crate::error::Result;
use crate::relation::account::sets_under;
use crate::relation::followed::Upstream;
use crate::relation::keys::{self, Entry};
use crate::relation::record_set::RecordSet;
use keyferry_kmip::Text;
use keyferry_store::{RecordNumber, Snapshot};

/// The copies that one relation brings, or has brought before it was ended here.
#[derive(Debug)]
pub(crate) struct KeptCopies {
    pub(crate) server: Text,
    pub(crate) relation: Text,
    set: RecordSet,
}

impl KeptCopies {
    pub(crate) fn of(server: &Text, relation: &Text) -> KeptCopies {
        KeptCopies {
            server: server.clone(),
            relation: relation.clone(),
            set: RecordSet::under(keys::kept_prefix(server, relation)),
        }
    }

    /// Those of all relations that brought anything.
    pub(crate) fn all(snapshot: &dyn Snapshot) -> Result<Vec<KeptCopies>> {
        KeptCopies::under(snapshot, keys::KEPT)
    }

    /// Those of all relations with one server.
    pub(crate) fn by(snapshot: &dyn Snapshot, server: &str) -> Result<Vec<KeptCopies>> {
        KeptCopies::under(snapshot, &keys::kept_by(server))
    }

    fn under(snapshot: &dyn Snapshot, prefix: &[u8]) -> Result<Vec<KeptCopies>> {
        let sets = sets_under(snapshot, prefix)?;
        let sets = sets.into_iter().map(|set| {
            let server = keys::first_name(keys::KEPT, &set);
            let relation = keys::second_name(keys::KEPT, &set);
            KeptCopies {
                server,
                relation,
                set: RecordSet::under(set),
            }
        });
        Ok(sets.collect())
    }

    /// Whether the relation brings the copy. A page of the set is read from the store once only.
    pub(crate) fn has(&mut self, snapshot: &dyn Snapshot, number: RecordNumber) -> Result<bool> {
        Ok(self.set.has(snapshot, number)?)
    }

    /// Notes that the relation brings the copy, or does so no more.
    pub(crate) fn set(
        &mut self,
        snapshot: &dyn Snapshot,
        number: RecordNumber,
        comes: bool,
    ) -> Result<()> {
        Ok(self.set.set(snapshot, number, comes)?)
    }

    /// The entries of the s2s state that have changed.
    pub(crate) fn changed(self) -> Vec<Entry> {
        self.set.changed()
    }
}

impl Upstream {
    /// Whether a copy comes by this relation: the server that is followed goes on telling of it.
    ///
    /// # Errors
    /// Those of the store.
    pub fn brings(&self, snapshot: &dyn Snapshot, number: RecordNumber) -> Result<bool> {
        KeptCopies::of(&self.server, &self.relation).has(snapshot, number)
    }
}
