//! From any KMIP server to any other: what the example `migrate` does.

use crate::host::Host;
use crate::site::run;
use crate::{Result, bar};
use keyferry_net::Connector;
use keyferry_s2s::{Peer, Pull, PullOptions, PullStrategy, Register, RegisterOptions, Report};
use keyferry_ttlv::Version;

/// What became of the two halves of a migration.
pub struct Migrated {
    /// From the old server to ours, which observes it.
    pub pulled: Report,
    /// From ours to the new server.
    pub registered: Report,
}

/// Pulls everything from one server by *get*, and puts it to another by *register*. Neither need know anything of it. `way` is a server of
/// ours by whose store the objects go: an interrupted migration goes on where that says, and one that is run again moves what has
/// changed since.
///
/// # Errors
/// Those of the connections and sessions.
pub async fn migrate(way: &Host, from: &Connector, to: &Connector, version: Version, dry_run: bool) -> Result<Migrated> {
    let options = PullOptions { version, ..PullOptions::new("old", Peer::new("old"), PullStrategy::Get) };
    let session = Pull::new(way.server.node().clone(), options).observed(bar::observer("from"));
    let pulled = run(session, way, from).await?;
    let options = RegisterOptions { version, dry_run, ..RegisterOptions::new("new") };
    let registered = run(Register::new(options).observed(bar::observer("to")), way, to).await?;
    Ok(Migrated { pulled, registered })
}
