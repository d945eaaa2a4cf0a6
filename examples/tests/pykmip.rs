//! A client that nobody here wrote: PyKMIP's, over TLS, against a server of ours, in KMIP 1.0 to 1.4 and 2.0.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use keyferry_examples::{host, pki::Pki};
use keyferry_s2s::Policy;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python that has PyKMIP: the one that `KEYFERRY_PYKMIP` names, or that of the environment that `.ci/run` makes.
fn python() -> Option<PathBuf> {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pykmip-venv/bin/python");
    let candidate = std::env::var_os("KEYFERRY_PYKMIP").map_or(made, PathBuf::from);
    let has_it = Command::new(&candidate).args(["-c", "import kmip"]).output().is_ok_and(|output| output.status.success());
    has_it.then_some(candidate)
}

#[test]
fn pykmips_client_finds_what_it_expects() {
    let Some(python) = python() else {
        let required = std::env::var("KEYFERRY_REQUIRE_PYKMIP").is_ok_and(|value| value == "1");
        assert!(!required, "PyKMIP is required and not there");
        println!("SKIPPED: no PyKMIP: set KEYFERRY_PYKMIP to a Python that has it, or make target/pykmip-venv");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::open(folder.path()).unwrap();
    let credentials = pki.credentials("server", &[]).unwrap();
    pki.credentials("pykmip", &[]).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let files = keyferry_examples::host::Files::beside(folder.path().join("server.redb"));
    let host = runtime.block_on(host::start("a", &files, "127.0.0.1:0", &credentials, Policy::closed())).unwrap();
    let (certificate, key) = pki.files("pykmip");
    let output = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pykmip_client.py"))
        .arg(host.handle.local_addr().port().to_string())
        .args([pki.ca(), certificate, key])
        .output()
        .unwrap();
    runtime.block_on(host.handle.shutdown());
    let (told, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}\n{wrong}");
    assert_eq!(told.lines().filter(|line| line.ends_with("passed")).count(), 6, "{told}");
}
