//! Which copies a relay passes on although nobody keeps them true here: it says so to those behind it, when they ask
//! ([rule 17](crate::design#rule-17)).

use crate::error::Result;
use crate::node::Node;
use crate::relation::differing::DifferingCopy;
use crate::relation::retry::{Retry, objects_missing_at_issuer};
use crate::relation::unkept::Keepers;
use keyferry_kmip::DateTime;
use keyferry_store::{ObjectId, Record, RecordNumber, Snapshot};
use std::collections::HashSet;

/// What is known here of whether copies of others' objects are true.
pub(crate) struct Doubtful {
    keepers: Keepers,
    /// Those that are listed one by one.
    pub(crate) listed: HashSet<ObjectId>,
}

impl Doubtful {
    pub(crate) fn of(snapshot: &dyn Snapshot) -> Result<Doubtful> {
        let (keepers, mut listed) = (Keepers::of(snapshot)?, HashSet::new());
        for upstream in keepers.upstreams() {
            listed.extend(objects_missing_at_issuer(snapshot, &upstream.relation)?);
            if upstream.retried > 0 {
                let retries = Retry::all(snapshot, &upstream.relation)?;
                listed.extend(retries.into_iter().map(|retry| retry.id));
            }
            if upstream.differing.is_some() {
                let differing = DifferingCopy::all(snapshot, &upstream.relation)?;
                listed.extend(differing.into_iter().map(|copy| copy.id));
            }
        }
        Ok(Doubtful { keepers, listed })
    }

    /// A digest of all on which it depends beside the list.
    pub(crate) fn digest(&self) -> Result<[u8; 32]> {
        self.keepers.digest()
    }

    /// Whether nobody keeps this copy true.
    pub(crate) fn has(
        &self,
        (node, now): (&Node, DateTime),
        snapshot: &dyn Snapshot,
        (number, record): (RecordNumber, &Record),
    ) -> Result<bool> {
        if node.issues(record) {
            return Ok(false);
        }
        let unkept = self
            .keepers
            .unkept((node, now), snapshot, (number, record))?;
        Ok(unkept.is_some() || self.listed.contains(&record.id))
    }
}
