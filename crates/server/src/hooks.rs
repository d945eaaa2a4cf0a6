//! This module names the types of the functions that an application gives to a server.

use keyferry_kmip::{Conversation, Identity, RequestMessage};
use keyferry_ttlv::Frame;

/// Sends a request on to the server of this id, as this client, and returns its answer.
pub(crate) type Forwarder = dyn Fn(&str, &Identity, &RequestMessage) -> Option<Frame> + Send + Sync;

/// Returns the conversation that asks on a connection which a peer wants turned round.
pub(crate) type Turning =
    dyn Fn(&Identity, &RequestMessage) -> Option<Box<dyn Conversation>> + Send + Sync;

/// Is called after a commit.
pub(crate) type Committed = dyn Fn() + Send + Sync;
