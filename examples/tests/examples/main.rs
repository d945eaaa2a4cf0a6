//! The tests of the examples and of what they share: whole servers with files, TLS and processes of their own.
//!
//! A test that kills a process, or measures its memory, starts this binary again for it, with the one test that is the other process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crowd;
mod cut;
mod identities;
mod killed;
mod oasis;
mod poke;
mod pykmip;
mod replay;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;

/// Says that a test can't run here, past the test harness, which would keep it to itself.
fn skipped(why: impl Display) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}"); // where nobody listens, nothing is to be said
}

/// The folder with the test cases of OASIS: where `KMIP_VECTORS` says, or beside the repository.
fn cases() -> Option<PathBuf> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors"));
    let folder = std::env::var_os("KMIP_VECTORS").map_or(beside, PathBuf::from);
    if !folder.is_dir() {
        skipped(format_args!(
            "the cases of OASIS are not at {}: set KMIP_VECTORS",
            folder.display()
        ));
        return None;
    }
    Some(folder)
}
