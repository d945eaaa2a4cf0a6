//! A centre pushes keys down to three web sites, to each those of its Object Group: `cargo run --release --example push_down`. What a site
//! has, it has to read; what happens to a key at the centre happens to it at the site with the next push.

use keyferry_examples::{Result, finish, log, stage::Stage};
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{Bulk, BulkOptions, Peer, Policy, Selection, Strategy};
use std::process::ExitCode;

const SITES: [&str; 3] = ["berlin", "nairobi", "quito"];
const KEYS: usize = 20;

fn main() -> ExitCode {
    log();
    finish(push_down())
}

fn push_down() -> Result<ExitCode> {
    let stage = Stage::new()?;
    let centre = stage.server("centre", Policy::closed())?;
    let mut operator = stage.operator(&centre)?;
    let mut made: Vec<UniqueIdentifier> = Vec::new();
    for n in 0..KEYS * SITES.len() {
        let site = SITES.get(n % SITES.len()).copied().unwrap_or_default();
        let mut request = CreateRequest::symmetric_key(CryptographicAlgorithm::AES, 256).named(format!("{site} {n}"));
        request.attributes.push(V::ObjectGroup(site.into()));
        let created: CreateResponse = operator.ask(&request)?;
        operator.ask::<ActivateResponse>(&ActivateRequest::of(created.unique_identifier.clone()))?;
        made.push(created.unique_identifier);
    }
    // No site may send anything to the centre, or to another site.
    let from_centre = || Policy::closed().with("centre", Peer::new("centre").may_send());
    let sites = SITES.map(|site| stage.server(site, from_centre()).map(|server| (site, server)));
    let sites = sites.into_iter().collect::<Result<Vec<_>>>()?;
    let push = |site: &str, server| {
        let selection = Selection::everything().with(V::ObjectGroup(site.into()));
        let options = BulkOptions { selection, ..BulkOptions::new(site, Strategy::Import) };
        stage.run(Bulk::new(options), "centre", &centre, server)
    };
    let mut good = true;
    for (site, server) in &sites {
        let report = push(site, server)?;
        println!("{site}: {report}");
        good &= report.counts.created == KEYS as i64;
    }

    let (Some(leaked), Some((site, server))) = (made.first(), sites.first()) else { return Err("nothing was made".into()) };
    let mut local = stage.operator(server)?;
    let refused = local.ask::<RevokeResponse>(&RevokeRequest::of(leaked.clone(), RevocationReasonCode::SUPERSEDED, None));
    match &refused {
        Ok(_) => println!("{site} revoked a key of the centre's"),
        Err(error) => println!("{site} may not revoke a key of the centre's: {error}"),
    }
    let since = Some(keyferry_net::clock().wall);
    operator.ask::<RevokeResponse>(&RevokeRequest::of(leaked.clone(), RevocationReasonCode::KEY_COMPROMISE, since))?;
    let report = push(site, server)?;
    println!("{site}: {report}");
    let shown: GetAttributesResponse = local.ask(&GetAttributesRequest::of(leaked.clone()))?;
    let state = shown.attributes.state();
    println!("{site} shows the key that leaked as {}", state.map_or_else(|| "-".into(), |state| state.to_string()));
    good &= refused.is_err() && state == Some(State::COMPROMISED) && report.counts.updated == 1;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
