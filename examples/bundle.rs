//! A bundle is sealed, looked into without its material, and opened at another server that has no connection to the first:
//! `cargo run --release --example bundle`.

use keyferry_bundle::{AgeIdentity, Error, OpenOptions, Receiving, SealOptions, Signer, SigningKey, manifest, open, seal};
use keyferry_crypto::SystemRandom;
use keyferry_examples::Result;
use keyferry_examples::site::{OPERATOR, Site, check, held, import, main as run_example, named};
use keyferry_kmip::spec::AttributeValue as V;
use keyferry_kmip::{DateTime, Identity};
use keyferry_s2s::{Peer, Policy, Report, Selection};
use std::fs::File;
use std::process::ExitCode;

fn main() -> ExitCode {
    run_example(bundle())
}

async fn bundle() -> Result {
    let site = Site::new()?;
    let centre = site.start("centre", Policy::closed()).await?;
    let branch = site.start("branch", Policy::closed().with("centre", Peer::new("centre").may_send())).await?;
    for n in 0..200u8 {
        let group = if n % 2 == 0 { "branch" } else { "centre" };
        import(&centre, OPERATOR, &n.to_string(), [n; 16], named(format!("key {n}")).with(V::ObjectGroup(group.into())))?;
    }
    // The branch has given the centre its public key, and the centre the branch the one that it signs with.
    let reader = AgeIdentity::generate();
    let (key, _) = SigningKey::generate(&mut SystemRandom::new())?;
    let trusted = [Signer::new("centre", key.verifying_key())];

    let file = site.folder().join("keys.bundle");
    let now = keyferry_net::clock();
    let readers = [reader.recipient()];
    let home = &centre.server.node().home;
    let next_week = DateTime(now.wall.0 + 7 * 86_400);
    let options = SealOptions {
        selection: Selection::everything().with(V::ObjectGroup("branch".into())),
        ..SealOptions::new(home, "branch", &key, &readers, now.wall, next_week)
    };
    let sealed = seal(&*centre.store, &options, File::create(&file)?)?;
    println!("sealed {} objects in {} segments, {} bytes", sealed.objects, sealed.segments, std::fs::metadata(&file)?.len());

    let inside = manifest(File::open(&file)?, &trusted, &reader)?;
    println!(
        "from {} for {}: {}",
        inside.sender,
        inside.recipient,
        inside.selection.as_ref().map_or("all objects", |selection| selection.as_str())
    );

    let caller = Identity { name: "centre".into(), fingerprint: [0; 32] };
    let receiving = Receiving { responder: &**branch.server.node(), store: &*branch.store, caller: &caller, now };
    let mut random = SystemRandom::new();
    for again in [false, true] {
        let mut report = Report::default();
        let options = OpenOptions::new("branch", &trusted, &reader, now.wall);
        open::<Error>(File::open(&file)?, &options, |part| receiving.apply(&mut random, &part.message, &mut report))?;
        println!("opened: {report}");
        let done = if again { report.counts.unchanged } else { report.counts.created };
        check(done == 100, "the branch has its hundred keys")?;
    }
    let elsewhere = OpenOptions::new("elsewhere", &trusted, &reader, now.wall);
    let misdirected = open::<Error>(File::open(&file)?, &elsewhere, |_| Ok(()));
    check(misdirected.is_err(), "another server does not take it")?;
    check(held(&branch)?.len() == 100, "nothing else came")?;
    centre.handle.shutdown().await;
    branch.handle.shutdown().await;
    Ok(())
}
