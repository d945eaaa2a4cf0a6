//! A replica as a gateway: what it may not change itself goes on to the master, with the client's credentials.

use crate::Server;
use crate::server::Asked;
use keyferry_kmip::spec::{Operation, tag};
use keyferry_kmip::{Identity, RequestItem, RequestMessage, Text, context};
use keyferry_s2s::Rights as _;
use keyferry_store::{Snapshot, SnapshotExt, StoreExt};
use keyferry_ttlv::{Frame, Reader, Version};

/// Sends a request on to the server of this id, as this client, and gives its answer.
pub(crate) type Forwarder = dyn Fn(&str, &Identity, &RequestMessage) -> Option<Frame> + Send + Sync;

impl Server {
    /// Lets `forward` send requests that change copies on to the master of these, whose server id it is given: the whole message as it came,
    /// the client's credentials in its header included (KMIP 2.1 §9.4), and who its TLS certificate, or they, say that it is. What it
    /// returns goes back to the client as it is; `None` when the master can't be reached, and the client is refused as without it. The rights
    /// that the client has here must allow the change, too. A message goes on as a whole or not at all: when all its items change copies of one
    /// master, under the identifiers that these have there. `forward` may block.
    #[must_use]
    pub fn with_forwarder(
        mut self,
        forward: impl Fn(&str, &Identity, &RequestMessage) -> Option<Frame> + Send + Sync + 'static,
    ) -> Server {
        self.forwarder = Some(Box::new(forward));
        self
    }

    /// Whether a message could be for a master.
    pub(crate) fn may_forward(&self, asked: &Asked) -> bool {
        self.forwarder.is_some()
            && asked.is_client
            && asked
                .message
                .batch
                .iter()
                .all(|item| goes_on(item.operation))
    }

    /// The master's answer to a message that is for it.
    pub(crate) fn forwarded(&self, asked: &Asked) -> Option<Frame> {
        let forward = self.forwarder.as_ref()?;
        let master = self
            .store()
            .view::<_, keyferry_store::Error>(|snapshot| self.master(snapshot, asked))
            .ok()??;
        forward(&master, &asked.caller, &asked.message)
    }

    /// The one server whose copies all items are about.
    fn master(
        &self,
        snapshot: &dyn Snapshot,
        asked: &Asked,
    ) -> keyferry_store::Result<Option<Text>> {
        let mut master = None;
        for item in &asked.message.batch {
            let found = match identifier(item) {
                Some(identifier) => snapshot.by_identifier(&identifier)?,
                None => None,
            };
            let Some((_, record)) = found else {
                return Ok(None);
            };
            let is_copy = !self.node().issues(&record) && record.identifier == record.id.identifier;
            let same = master
                .as_ref()
                .is_none_or(|master| *master == record.stamp.issuer);
            if !is_copy
                || !same
                || self
                    .rights()
                    .check(&asked.caller, item.operation, &record)
                    .is_err()
            {
                return Ok(None);
            }
            master = Some(record.stamp.issuer);
        }
        Ok(master)
    }
}

/// Operations that change the object that they name, and no other.
fn goes_on(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::ADD_ATTRIBUTE
            | Operation::MODIFY_ATTRIBUTE
            | Operation::SET_ATTRIBUTE
            | Operation::ADJUST_ATTRIBUTE
            | Operation::DELETE_ATTRIBUTE
            | Operation::ACTIVATE
            | Operation::REVOKE
            | Operation::DESTROY
            | Operation::GET_USAGE_ALLOCATION
    )
}

/// The Unique Identifier that an item names.
fn identifier(item: &RequestItem) -> Option<Text> {
    let payload = &item.request_payload;
    let r = Reader::new(payload.bytes(), context(Version::V2_1));
    let mut children = r.children(payload.item().ok()?).ok()?;
    while let Some(child) = children.step() {
        if child.tag() == tag::UNIQUE_IDENTIFIER {
            return child.text(&r).ok().map(Text::from);
        }
    }
    None
}
