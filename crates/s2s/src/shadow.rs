//! Master, Slaves, Backup and Working Server, as clients see them: custom attributes `x-s2s-…` (2.x: vendor `x`), made of what the store knows
//! when they are read, and kept or sent nowhere.

use crate::node::Node;
use crate::relation::followed::Downstream;
use crate::relation::foreign_replica::ForeignReplica;
use crate::relation::identifier_map;
use crate::relation::offered::OfferedSet;
use keyferry_kmip::spec::AttributeValue;
use keyferry_kmip::{Attributes, CustomAttribute, Failure, Text};
use keyferry_store::{Record, RecordNumber, Snapshot};

/// The names of these attributes begin so.
const PREFIX: &str = "s2s-";

/// Whether an attribute is one of these.
pub fn is_shadow(value: &AttributeValue) -> bool {
    matches!(value, AttributeValue::Custom(custom) if custom.vendor == "x" && custom.name.starts_with(PREFIX))
}

fn attribute(name: &str, value: &str) -> AttributeValue {
    AttributeValue::Custom(CustomAttribute::text(format!("{PREFIX}{name}"), value))
}

impl Node {
    /// What this server knows of other servers in matters of an object:
    ///
    /// | attribute | of | says |
    /// |---|---|---|
    /// | `x-s2s-master` | a copy | the server that may change it |
    /// | `x-s2s-origin` | a copy | the server that it works for (Working Server): where it was made |
    /// | `x-s2s-backup` | a copy | `1`, where this server is its master's [backup](crate::Peer::backed_up) |
    /// | `x-s2s-slave-`*server* | an own object | `1`, for each server that follows and was offered it, and each foreign one that it was brought to |
    ///
    /// # Errors
    /// When the store fails.
    pub fn shadow(
        &self,
        snapshot: &dyn Snapshot,
        number: RecordNumber,
        record: &Record,
    ) -> Result<Attributes, Failure> {
        let mut shadow = Attributes::new();
        if !self.issues(record) || self.observes(record) {
            let master = if self.observes(record) {
                &record.id.server
            } else {
                &record.stamp.issuer
            };
            shadow.push(attribute("master", master));
            shadow.push(attribute("origin", &record.id.server));
            if self.policy.is_backup_of(master) {
                shadow.push(attribute("backup", "1"));
            }
        }
        let mut slaves: Vec<Text> = Vec::new();
        for slave in Downstream::all(snapshot)? {
            let mut offered = OfferedSet::to(&slave.server, &slave.relation);
            if !slaves.contains(&slave.server) && offered.has(snapshot, number)? {
                shadow.push(attribute(&format!("slave-{}", slave.server), "1"));
                slaves.push(slave.server);
            }
        }
        for slave in ForeignReplica::all(snapshot)? {
            let there = || {
                identifier_map::identifier_at_peer(snapshot, &slave.relation, &record.id)
                    .map_err(Failure::from)
            };
            if !slaves.contains(&slave.server) && there()?.is_some() {
                shadow.push(attribute(&format!("slave-{}", slave.server), "1"));
                slaves.push(slave.server);
            }
        }
        Ok(shadow)
    }
}
