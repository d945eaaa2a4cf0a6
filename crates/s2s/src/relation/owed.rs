//! Give-backs that are pending: while a restored server waits for a peer to give back what it has lost, clients change nothing in it
//! ([rule 10](crate::design#rule-10)).

use crate::ask::Ask;
use crate::error::Result;
use crate::planted::planted;
use crate::relation::keys;
use crate::relation::stored;
use keyferry_kmip::{Cause, DateTime, Failure, Text, extension as x};
use keyferry_store::record::bytes_of;
use keyferry_store::{Effects, Snapshot, SnapshotExt, Span};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::ops::ControlFlow;

/// A peer that may know of changes which this server has lost. Clients change nothing here until the peer has given them back, or a person has
/// [waived](crate::waive_give_back) them.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::TAKING_BACK)]
#[non_exhaustive]
pub struct PendingGiveBack {
    /// The server id of the peer.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    /// Since when this server waits for it.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl PendingGiveBack {
    /// The peers that this server waits for.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<PendingGiveBack>> {
        stored::all_under(snapshot, keys::GIVE_BACK, "restored server's peer")
    }
}

/// Checks that this server waits for no peer to give back what it has lost.
///
/// # Errors
/// [`Cause::PermissionDenied`], naming them.
pub fn check_no_pending_give_back(snapshot: &dyn Snapshot) -> Result<(), Failure> {
    let mut peers = Vec::new();
    snapshot.state(&Span::prefix(keys::GIVE_BACK), &mut |key, _| {
        peers.push(
            String::from_utf8_lossy(key.get(keys::GIVE_BACK.len()..).unwrap_or_default())
                .into_owned(),
        );
        Ok(ControlFlow::Continue(()))
    })?;
    if peers.is_empty() || planted!(WritesWhileOwed) {
        return Ok(());
    }
    let why = format_args!(
        "this server was restored, and changes nothing until it has taken back what {peers:?} hold"
    );
    Err(Failure::new(Cause::PermissionDenied, why))
}

/// Whether this server waits for the peer of this server id.
pub(crate) fn is_owed(snapshot: &dyn Snapshot, server: &str) -> keyferry_store::Result<bool> {
    Ok(snapshot.state_value(&keys::give_back(server))?.is_some())
}

/// The effects by which this server waits for the peer of this server id from now on.
pub(crate) fn owed(ask: &Ask<'_>, server: &Text) -> Result<Effects, Failure> {
    let owed = PendingGiveBack {
        server: server.clone(),
        since: ask.now.wall,
        extra: Extra::NONE,
    };
    let mut effects = Effects::none();
    effects
        .state
        .push((keys::give_back(server), Some(bytes_of(&owed)?)));
    Ok(effects)
}
