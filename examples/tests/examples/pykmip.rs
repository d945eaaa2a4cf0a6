//! PyKMIP, which nobody here wrote: its client against our server, and our client against its server, over mutual TLS.

mod bulk;
mod client;
mod matrix;
#[allow(unreachable_pub, reason = "others use it, too")]
#[path = "../../../crates/server/tests/server/objects.rs"]
mod objects;
mod server;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python that has PyKMIP: the one that `KEYFERRY_PYKMIP` names, or that of the environment that `.ci/run` makes.
fn python() -> Option<PathBuf> {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pykmip-venv/bin/python");
    let candidate = std::env::var_os("KEYFERRY_PYKMIP").map_or(made, PathBuf::from);
    if Command::new(&candidate)
        .args(["-c", "import kmip"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return Some(candidate);
    }
    let required = std::env::var("KEYFERRY_REQUIRE_PYKMIP").is_ok_and(|value| value == "1");
    assert!(!required, "PyKMIP is required and not there");
    crate::skipped(
        "no PyKMIP: set KEYFERRY_PYKMIP to a Python that has it, or make target/pykmip-venv",
    );
    None
}
