//! The attributes Master, Slaves, Backup and Working Server, by which clients see the relations of an object. They are custom attributes
//! `x-s2s-…` (2.x: vendor `x`), made from the state of the store whenever they are read; they are never stored and never sent to a peer.

use crate::node::Node;
use crate::relation::account::Account;
use crate::relation::foreign_replica::ForeignReplica;
use crate::relation::identifier_map;
use keyferry_kmip::spec::AttributeValue;
use keyferry_kmip::{Attributes, CustomAttribute, Failure, Text};
use keyferry_store::{Record, RecordNumber, Snapshot};

/// What the names of these attributes begin with.
const PREFIX: &str = "s2s-";

/// Whether an attribute is one of those that [`Node::shadow`] makes.
pub fn is_shadow(value: &AttributeValue) -> bool {
    matches!(value, AttributeValue::Custom(custom) if custom.vendor == "x" && custom.name.starts_with(PREFIX))
}

fn attribute(name: &str, value: &str) -> AttributeValue {
    AttributeValue::Custom(CustomAttribute::text(format!("{PREFIX}{name}"), value))
}

impl Node {
    /// The attributes that tell a client how an object stands to other servers:
    ///
    /// | attribute | of | value |
    /// |---|---|---|
    /// | `x-s2s-master` | a copy | the server that may change it |
    /// | `x-s2s-origin` | a copy | the server where it was made, for which this one holds it (Working Server) |
    /// | `x-s2s-backup` | a copy | `1`, if this server is its master's [backup](crate::Peer::backed_up) |
    /// | `x-s2s-slave-`*server* | an object that this server issues | `1`, for each server that was sent it (in a relation, by a push, in a bundle), and each foreign server that it was brought to |
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
        for (server, mut sent) in Account::holders(snapshot)? {
            if !slaves.contains(&server) && sent.has(snapshot, number)? {
                shadow.push(attribute(&format!("slave-{server}"), "1"));
                slaves.push(server);
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
