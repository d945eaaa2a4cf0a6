//! A replica can act as a gateway: it sends requests that it may not execute on to the master, with the client's credentials.

use crate::operation::table;
use crate::request::Request;
use crate::server::Server;
use keyferry_kmip::spec::tag;
use keyferry_kmip::{Identity, RequestItem, RequestMessage, Text, context};
use keyferry_store::{Snapshot, SnapshotExt, StoreExt};
use keyferry_ttlv::{Frame, Reader, Version};

impl Server {
    /// Sends requests that change copies on to the master of these copies, by calling `forward`.
    ///
    /// `forward` gets the server id of the master, the identity of the client (that of its TLS certificate or of its credentials), and the
    /// message as it came, with the client's credentials in its header (KMIP 2.1 §9.4). The client gets the frame that it returns. It
    /// returns `None` when it cannot reach the master; the client then gets the same refusal as without a forwarder. It may block.
    ///
    /// A message is sent on as a whole or not at all: only when all its items change copies of one master that have the same identifiers
    /// there, and when the client has the right to change them here as well.
    #[must_use]
    pub fn with_forwarder(
        mut self,
        forward: impl Fn(&str, &Identity, &RequestMessage) -> Option<Frame> + Send + Sync + 'static,
    ) -> Server {
        self.forwarder = Some(Box::new(forward));
        self
    }

    /// Whether a request may have to be sent on to a master.
    pub(crate) fn may_forward(&self, request: &Request) -> bool {
        self.forwarder.is_some()
            && request.is_client
            && request
                .message
                .batch
                .iter()
                .all(|item| table::find(item.operation).is_some_and(|row| row.is_forwardable))
    }

    /// Sends a request on to the master, if there is one for it, and returns the answer.
    pub(crate) fn forwarded(&self, request: &Request) -> Option<Frame> {
        let forward = self.forwarder.as_ref()?;
        let master = self
            .store()
            .view::<_, keyferry_store::Error>(|snapshot| self.master(snapshot, request))
            .ok()??;
        forward(&master, &request.caller, &request.message)
    }

    /// The server id of the one master whose copies all items are about.
    fn master(
        &self,
        snapshot: &dyn Snapshot,
        request: &Request,
    ) -> keyferry_store::Result<Option<Text>> {
        let mut master = None;
        for item in &request.message.batch {
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
                    .check(&request.caller, item.operation, &record)
                    .is_err()
            {
                return Ok(None);
            }
            master = Some(record.stamp.issuer);
        }
        Ok(master)
    }
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
