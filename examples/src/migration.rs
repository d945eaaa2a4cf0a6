//! From any KMIP server to any other: what the example `migrate` does.

use crate::host::Host;
use crate::site::run;
use crate::{Result, bar};
use keyferry_net::Connector;
use keyferry_s2s::{Peer, Pull, PullOptions, PullStrategy, Register, RegisterOptions, Report};
use keyferry_ttlv::Version;
use std::fs::File;
use std::io::{BufReader, BufWriter};

/// What became of the two halves of a migration.
pub struct Migrated {
    /// From the old server to ours, which observes it.
    pub pulled: Report,
    /// From ours to the new server.
    pub registered: Report,
}

/// What is done with what was pulled.
pub enum How {
    /// It is put to the new server.
    Move,
    /// What would become of it is told.
    DryRun,
    /// The same, and written into this file as a plan.
    Plan(File),
    /// The plan in this file is executed.
    Execute(File),
}

/// Pulls everything from one server by *get*, and puts it to another by *register*. Neither need know anything of it. `way` is a server of
/// ours by whose store the objects go: an interrupted migration goes on where that says, and one that is run again moves what has
/// changed since.
///
/// # Errors
/// Those of the connections and sessions.
pub async fn migrate(
    way: &Host,
    from: &Connector,
    to: &Connector,
    version: Version,
    how: How,
) -> Result<Migrated> {
    let options = PullOptions {
        version,
        ..PullOptions::new("old", Peer::new("old"), PullStrategy::Get)
    };
    let session = Pull::new(way.server.node().clone(), options).on_progress(bar::observer("from"));
    let pulled = run(session, way, from).await?;
    let dry_run = matches!(how, How::DryRun);
    let session = Register::new(RegisterOptions {
        version,
        dry_run,
        ..RegisterOptions::new("new")
    });
    let session = match how {
        How::Move | How::DryRun => session,
        How::Plan(file) => session.planning(BufWriter::new(file)),
        How::Execute(file) => session.executing(BufReader::new(file)),
    };
    let registered = run(session.on_progress(bar::observer("to")), way, to).await?;
    Ok(Migrated { pulled, registered })
}
