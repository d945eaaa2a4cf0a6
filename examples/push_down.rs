//! A centre pushes one Object Group, and what its Links reach, down to three web sites: `cargo run --release --example push_down`. The sites
//! hold copies: their clients use them and can't change them, and the next push brings them up to date.

use keyferry_examples::site::{
    OPERATOR, Site, ask, check, held, import, main as run_example, named,
};
use keyferry_examples::{Result, bar};
use keyferry_kmip::spec::{AttributeValue as V, LinkType, RevocationReasonCode, State};
use keyferry_kmip::{DateTime, Link, RevokeRequest, RevokeResponse};
use keyferry_s2s::{Bulk, BulkOptions, Peer, Policy, Selection, Strategy};
use keyferry_ttlv::Extra;
use std::process::ExitCode;

fn main() -> ExitCode {
    run_example(push_down())
}

async fn push_down() -> Result {
    let site = Site::new()?;
    let centre = site.start("centre", Policy::closed()).await?;
    for n in 0..120u8 {
        let group = if n % 3 == 0 { "web" } else { "inside" };
        let mut attributes = named(format!("key {n}")).with(V::ObjectGroup(group.into()));
        if n == 0 {
            attributes.push(V::Link(Link {
                link_type: LinkType::PREVIOUS_LINK,
                target: "1".into(),
                extra: Extra::NONE,
            }));
        }
        import(&centre, OPERATOR, &n.to_string(), [n; 16], attributes)?;
    }
    let policy = || Policy::closed().with("centre", Peer::new("centre").may_send());
    let mut webs = Vec::new();
    for name in ["web-1", "web-2", "web-3"] {
        webs.push((name, site.start(name, policy()).await?));
    }
    let selection = Selection::everything()
        .with(V::ObjectGroup("web".into()))
        .with_links();
    println!("to each site: {selection}");
    for compromised in [false, true] {
        if compromised {
            let reason = RevocationReasonCode::KEY_COMPROMISE;
            let _: RevokeResponse = ask(
                &centre,
                OPERATOR,
                &RevokeRequest::of("3", reason, Some(DateTime(1_600_000_000))),
            )?;
        }
        for (name, web) in &webs {
            let options = BulkOptions {
                selection: selection.clone(),
                ..BulkOptions::new(*name, Strategy::Import)
            };
            let report = site
                .run(
                    &centre,
                    "centre",
                    web,
                    Bulk::new(options).on_progress(bar::observer(*name)),
                )
                .await?;
            println!("{name}: {report}");
            let expected = if compromised { (0, 1, 40) } else { (41, 0, 0) };
            let counts = &report.counts;
            check(
                (counts.created, counts.updated, counts.unchanged) == expected,
                "40 keys and one that a Link reaches",
            )?;
        }
    }
    for (name, web) in &webs {
        let all = held(web)?;
        check(all.len() == 41, format_args!("{name} holds nothing else"))?;
        let leaked = all.iter().find(|(record, _)| record.identifier == *"3");
        let state = leaked.and_then(|(record, _)| record.state(keyferry_net::clock().wall));
        check(
            state == Some(State::COMPROMISED),
            "a key that was compromised is so everywhere",
        )?;
        let refused = ask::<_, RevokeResponse>(
            web,
            OPERATOR,
            &RevokeRequest::of("6", RevocationReasonCode::SUPERSEDED, None),
        );
        check(
            refused.is_err(),
            "a copy is not changed by clients of a site",
        )?;
    }
    for host in webs.into_iter().map(|(_, web)| web).chain([centre]) {
        host.handle.shutdown().await;
    }
    Ok(())
}
