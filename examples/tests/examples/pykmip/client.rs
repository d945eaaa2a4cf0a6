//! Its client against a server of ours, by every call that it has, in KMIP 1.0 to 1.4 and 2.0.

use super::python;
use keyferry_examples::{host, pki::Pki};
use keyferry_s2s::Policy;
use std::path::Path;
use std::process::Command;

#[test]
fn pykmips_client_finds_what_it_expects() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::open(folder.path()).unwrap();
    let credentials = pki.credentials("server", &[]).unwrap();
    pki.credentials("pykmip", &[]).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let files = keyferry_examples::host::Files::beside(folder.path().join("server.redb"));
    let host = runtime
        .block_on(host::start(
            "a",
            &files,
            "127.0.0.1:0",
            &credentials,
            Policy::closed(),
        ))
        .unwrap();
    let (certificate, key) = pki.files("pykmip");
    let output = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples/pykmip/client.py"))
        .arg(host.handle.local_addr().port().to_string())
        .args([pki.ca(), certificate, key])
        .output()
        .unwrap();
    runtime.block_on(host.handle.shutdown());
    let (told, wrong) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{told}\n{wrong}");
    assert_eq!(
        told.lines().filter(|line| line.ends_with("passed")).count(),
        6,
        "{told}"
    );
}
