//! A nightly bundle goes to a backup server; the working server is lost; another one takes everything back from the backup, states intact:
//! `cargo run --release --example backup`.

use keyferry_bundle::{AgeIdentity, Error, OpenOptions, Receiving, SealOptions, Signer, SigningKey, open, seal};
use keyferry_crypto::SystemRandom;
use keyferry_examples::site::{OPERATOR, Site, ask, check, held, import, main as run_example, named};
use keyferry_examples::{Result, host::Host};
use keyferry_kmip::spec::{RevocationReasonCode, State};
use keyferry_kmip::{DateTime, DestroyRequest, DestroyResponse, Identity, RevokeRequest, RevokeResponse};
use keyferry_s2s::{Peer, Policy, Pull, PullOptions, PullStrategy, Report};
use std::fs::File;
use std::process::ExitCode;

const KEYS: u8 = 200;

fn main() -> ExitCode {
    run_example(backup())
}

/// One night: everything of the working server in a file, and the file into the backup.
fn night(site: &Site, working: &Host, backup: &Host, key: &SigningKey, reader: &AgeIdentity) -> Result<Report> {
    let now = keyferry_net::clock();
    let file = site.folder().join("nightly.bundle");
    let readers = [reader.recipient()];
    let options =
        SealOptions::new(&working.server.node().home, "backup", key, &readers, now.wall, DateTime(now.wall.0 + 2 * 86_400));
    seal(&*working.store, &options, File::create(&file)?)?;
    let caller = Identity { name: "working".into(), fingerprint: [0; 32] };
    let receiving = Receiving { responder: &**backup.server.node(), store: &*backup.store, caller: &caller, now };
    let (mut random, mut report) = (SystemRandom::new(), Report::default());
    let trusted = [Signer::new("working", key.verifying_key())];
    let options = OpenOptions::new("backup", &trusted, reader, now.wall);
    open::<Error>(File::open(&file)?, &options, |part| receiving.apply(&mut random, &part.message, &mut report))?;
    Ok(report)
}

async fn backup() -> Result {
    let site = Site::new()?;
    let working = site.start("working", Policy::closed()).await?;
    // The backup takes copies of the working server, and gives them to the one that stands in for it.
    let policy =
        Policy::closed().with("working", Peer::new("working").may_send()).with("stand-in", Peer::new("stand-in").may_pull());
    let backup = site.start("backup", policy).await?;
    for n in 0..KEYS {
        import(&working, OPERATOR, &n.to_string(), [n; 16], named(format!("key {n}")))?;
    }
    let (reader, (key, _)) = (AgeIdentity::generate(), SigningKey::generate(&mut SystemRandom::new())?);
    println!("the first night: {}", night(&site, &working, &backup, &key, &reader)?);
    let reason = RevocationReasonCode::KEY_COMPROMISE;
    let _: RevokeResponse = ask(&working, OPERATOR, &RevokeRequest::of("1", reason, Some(DateTime(1_600_000_000))))?;
    let reason = RevocationReasonCode::CESSATION_OF_OPERATION;
    let _: RevokeResponse = ask(&working, OPERATOR, &RevokeRequest::of("2", reason, None))?;
    let _: DestroyResponse = ask(&working, OPERATOR, &DestroyRequest::of("2"))?;
    let report = night(&site, &working, &backup, &key, &reader)?;
    println!("the second night: {report}");
    check((report.counts.updated, report.counts.unchanged) == (2, i64::from(KEYS) - 2), "only what has changed is written")?;

    let was = held(&working)?;
    working.handle.shutdown().await;
    println!("the working server is lost");

    let stand_in = site.start("stand-in", Policy::closed()).await?;
    let from = Peer::new("backup").may_relay();
    let session = Pull::new(stand_in.server.node().clone(), PullOptions::new("backup", from, PullStrategy::Export));
    let report = site.run(&stand_in, "stand-in", &backup, session).await?;
    println!("from the backup: {report}");
    let is = held(&stand_in)?;
    check(is.len() == was.len(), "everything is there")?;
    for (record, object) in &was {
        let found = is.iter().find(|(other, _)| other.id == record.id);
        let same = found.is_some_and(|(other, kept)| {
            other.identifier == record.identifier
                && other.stamp == record.stamp
                && other.copy_digest().ok() == record.copy_digest().ok()
                && kept == object
        });
        check(same, format_args!("{} is what it was, attribute by attribute", record.id))?;
    }
    let states = |state| is.iter().filter(|(record, _)| record.attributes.state() == Some(state)).count();
    check(states(State::COMPROMISED) == 1 && states(State::DESTROYED) == 1, "and no state went back")?;
    println!("{} objects are as they were, states and all", is.len());
    backup.handle.shutdown().await;
    stand_in.handle.shutdown().await;
    Ok(())
}
