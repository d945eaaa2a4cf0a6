//! Two partners exchange an agreed set of keys, wrapped on their way under a key that both have: `cargo run --release --example partner`. What
//! is not agreed does not leave, and is not let in.

use keyferry_examples::site::{OPERATOR, Site, check, held, import, main as run_example, named};
use keyferry_examples::{Result, bar};
use keyferry_kmip::Attributes;
use keyferry_kmip::spec::{AttributeValue as V, CryptographicUsageMask, ResultReason};
use keyferry_s2s::{Bulk, BulkOptions, Peer, Policy, Selection, Strategy, Wrapping};
use keyferry_server::{Grant, Granted, Level, Rights};
use std::process::ExitCode;

fn main() -> ExitCode {
    run_example(partner())
}

async fn partner() -> Result {
    let site = Site::new()?;
    // Ours sends, theirs takes; nothing is agreed for the other direction.
    let ours = site
        .start("ours", Policy::closed().with("theirs", Peer::new("theirs")))
        .await?;
    let agreed = Selection::everything().with(V::ObjectGroup("for the partner".into()));
    // The agreement names the one key that unwraps what ours sends: no other key of theirs is used for it.
    let agreement = Peer::new("ours")
        .may_send()
        .agreed(agreed.clone())
        .unwrapping("shared with ours");
    let policy = Policy::closed().with("ours", agreement);
    // As a peer, ours may use that key by the group that it is in, and is no client there.
    let rights = Rights::owners().with(Grant {
        client: Some("peer:ours".into()),
        objects: Granted::ObjectGroup("for transport".into()),
        level: Level::Manage,
    });
    let theirs = site.start_with("theirs", policy, rights).await?;
    // The key that both have, each under an identifier of its own.
    let shared = || {
        let usage = CryptographicUsageMask::WRAP_KEY | CryptographicUsageMask::UNWRAP_KEY;
        Attributes::new()
            .with(V::CryptographicUsageMask(usage))
            .with(V::ObjectGroup("for transport".into()))
    };
    import(&ours, OPERATOR, "partner key", [0x4B; 16], shared())?;
    import(&theirs, OPERATOR, "shared with ours", [0x4B; 16], shared())?;
    for n in 0..60u8 {
        let group = if n < 20 { "for the partner" } else { "inside" };
        let attributes = named(format!("key {n}"))
            .with(V::ObjectGroup(group.into()))
            .with(V::Sensitive(true));
        import(&ours, OPERATOR, &n.to_string(), [n; 16], attributes)?;
    }
    let options = BulkOptions {
        selection: agreed,
        ..BulkOptions::new("theirs", Strategy::Import)
    };

    let report = site
        .run(
            &ours,
            "ours",
            &theirs,
            Bulk::new(options.clone()).on_progress(bar::observer("in the clear")),
        )
        .await?;
    println!("in the clear: {report}");
    check(
        report.counts.failed == 20,
        "Sensitive keys do not leave in the clear",
    )?;

    let wrapping = Wrapping::new("partner key", "shared with ours");
    let session = Bulk::new(options)
        .wrapping(ours.server.node().clone(), wrapping.clone())
        .on_progress(bar::observer("wrapped"));
    let report = site.run(&ours, "ours", &theirs, session).await?;
    println!("wrapped: {report}");
    check(report.counts.created == 20, "what was agreed is there")?;
    let all = held(&theirs)?;
    check(all.len() == 21, "and nothing else")?;
    for (record, object) in held(&ours)?
        .into_iter()
        .filter(|(record, _)| record.attributes.names().count() > 0)
    {
        let there = all.iter().find(|(other, _)| other.id == record.id);
        check(
            there.is_none_or(|(_, other)| *other == object),
            "the keys are the same",
        )?;
    }

    let more = Selection::everything().with(V::ObjectGroup("inside".into()));
    let options = BulkOptions {
        selection: more,
        ..BulkOptions::new("theirs, more", Strategy::Import)
    };
    let session = Bulk::new(options).wrapping(ours.server.node().clone(), wrapping);
    let report = site.run(&ours, "ours", &theirs, session).await?;
    println!("more than that: {report}");
    check(
        report.counts.failed == 40,
        "what was not agreed is not taken",
    )?;

    import(&theirs, OPERATOR, "uninvited", [9; 16], named("uninvited"))?;
    let back = BulkOptions {
        selection: Selection::everything().listed(["uninvited".into()]),
        ..BulkOptions::new("ours", Strategy::Import)
    };
    let report = site.run(&theirs, "theirs", &ours, Bulk::new(back)).await?;
    println!("the other way: {report}");
    let refused = report.failures.first().and_then(|failed| failed.reason);
    check(
        refused == Some(ResultReason::PERMISSION_DENIED),
        "nothing is let in that was not agreed",
    )?;
    ours.handle.shutdown().await;
    theirs.handle.shutdown().await;
    Ok(())
}
