//! This module defines a request that was read and may be answered.

use keyferry_kmip::spec::{BatchErrorContinuationOption, Operation};
use keyferry_kmip::{Identity, RequestMessage};
use keyferry_ttlv::Version;

/// A request of somebody who may ask.
pub(crate) struct Request {
    pub(crate) message: RequestMessage,
    pub(crate) version: Version,
    /// Who asks as a client: the TLS identity, or the identity that its credentials stand for. Of a peer that is no client, the peer.
    pub(crate) caller: Identity,
    /// The peer that asks; `None` when the TLS identity is not a peer's.
    pub(crate) peer: Option<Identity>,
    /// The TLS identity.
    pub(crate) tls: Identity,
    /// Whether the TLS identity is a client of this server.
    pub(crate) is_client: bool,
}

impl Request {
    /// As whom a peer that is a client besides asks for an operation: what only peers do, it does as the peer.
    pub(crate) fn caller_of(&self, operation: Operation) -> &Identity {
        match &self.peer {
            Some(peer) if matches!(operation, Operation::PUT | Operation::NOTIFY) => peer,
            _ => &self.caller,
        }
    }

    /// Whether a failed item undoes the whole batch.
    pub(crate) fn undoes(&self) -> bool {
        self.message.header.batch_error_continuation_option
            == Some(BatchErrorContinuationOption::UNDO)
    }

    /// Whether a failed item does not end the batch.
    pub(crate) fn continues(&self) -> bool {
        self.message.header.batch_error_continuation_option
            == Some(BatchErrorContinuationOption::CONTINUE)
    }

    /// Whether the request shares no commit with others: an answer that turns out too large, or a failed item, undoes it as a whole.
    pub(crate) fn is_alone(&self) -> bool {
        self.message.header.maximum_response_size.is_some() || self.undoes()
    }
}
