//! Two key servers whose identifiers and Names collide become one: `cargo run --release --example merge`. The one pulls from both by what
//! any KMIP server knows, gives new identifiers and Names where it has to, keeps the Links right, and takes the objects over.

use keyferry_examples::site::{OPERATOR, Site, check, held, import, main as run_example, named};
use keyferry_examples::{Result, bar, host::Host};
use keyferry_kmip::spec::{AttributeValue as V, LinkType};
use keyferry_kmip::{Link, UniqueIdentifier};
use keyferry_s2s::{
    Collisions, OnIdentifier, OnName, Peer, Policy, Pull, PullOptions, PullStrategy,
};
use keyferry_ttlv::Extra;
use std::process::ExitCode;

const EACH: u8 = 100;

fn main() -> ExitCode {
    run_example(merge())
}

/// Objects that are called 1 to 100 on every server, each with a Link to the next.
fn fill(host: &Host, offset: u8) -> Result {
    for n in 1..=EACH {
        let target = UniqueIdentifier::Text((n % EACH + 1).to_string().as_str().into());
        let link = V::Link(Link {
            link_type: LinkType::NEXT_LINK,
            target,
            extra: Extra::NONE,
        });
        import(
            host,
            OPERATOR,
            &n.to_string(),
            [n + offset; 16],
            named(format!("key {n}")).with(link),
        )?;
    }
    Ok(())
}

async fn merge() -> Result {
    let site = Site::new()?;
    let (north, south) = (
        site.start("north", Policy::closed()).await?,
        site.start("south", Policy::closed()).await?,
    );
    let one = site.start("one", Policy::closed()).await?;
    fill(&north, 0)?;
    fill(&south, 100)?;
    let collisions = Collisions {
        identifier: OnIdentifier::Assign,
        name: OnName::Rename("{name} ({server})".into()),
    };
    for (name, host) in [("north", &north), ("south", &south)] {
        let options = PullOptions {
            adopter: Some(OPERATOR.into()),
            ..PullOptions::new(
                name,
                Peer::new(name).colliding(collisions.clone()),
                PullStrategy::Get,
            )
        };
        for dry_run in [true, false] {
            let options = PullOptions {
                dry_run,
                ..options.clone()
            };
            let session =
                Pull::new(one.server.node().clone(), options).on_progress(bar::observer(name));
            let report = site.run(&one, OPERATOR, host, session).await?;
            println!("from {name}\n{}", report.table());
            check(
                report.counts.failed == 0 && report.unseen.is_empty(),
                "nothing fails, and nothing is left unseen",
            )?;
        }
    }
    let all = held(&one)?;
    check(
        all.len() == 2 * usize::from(EACH),
        "everything is there once",
    )?;
    let mut names: Vec<_> = all
        .iter()
        .flat_map(|(record, _)| record.names())
        .map(|name| &name.value)
        .collect();
    names.sort();
    names.dedup();
    check(
        names.len() == all.len(),
        "every object has a Name of its own",
    )?;
    for (record, _) in &all {
        let next = record
            .client_attributes()
            .find_map(|attribute| match &attribute.value {
                V::Link(link) => link.target.as_text(),
                _ => None,
            });
        let target = all
            .iter()
            .find(|(other, _)| Some(other.identifier.as_str()) == next);
        check(
            target.is_some_and(|(target, _)| target.id.server == record.id.server),
            "every Link leads to the right object",
        )?;
    }
    println!("{} objects of two servers are one server's now", all.len());
    for host in [north, south, one] {
        host.handle.shutdown().await;
    }
    Ok(())
}
