//! Two key servers become one after an acquisition: `cargo run --release --example merge`. Both have numbered their objects 1, 2, 3 and both
//! call a key "database"; all of the second one's objects come to the first, under identifiers and Names that are free there.

use keyferry_examples::{Result, finish, log, stage::Stage};
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{Bulk, BulkOptions, Collisions, OnIdentifier, OnName, Peer, Policy, Strategy, Told};
use keyferry_ttlv::Extra;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

const NAMES: [&str; 3] = ["database", "mail", "archive"];

fn main() -> ExitCode {
    log();
    finish(merge())
}

fn key(byte: u8) -> Object {
    Object::symmetric_key(CryptographicAlgorithm::AES, 256, Secret::new(&[byte; 32]))
}

/// Key `n` of a server; each but the first replaces the one before it.
fn import(n: u8, byte: u8, name: &str) -> ImportRequest {
    let mut attributes = Attributes::new().with(V::Name(Name::text(name)));
    if n > 1 {
        let target = (n - 1).to_string().as_str().into();
        attributes.push(V::Link(Link { link_type: LinkType::REPLACED_OBJECT_LINK, target, extra: Extra::NONE }));
    }
    ImportRequest {
        unique_identifier: n.to_string().as_str().into(),
        object_type: Some(ObjectType::SYMMETRIC_KEY),
        replace_existing: None,
        key_wrap_type: None,
        attributes,
        object: Some(key(byte)),
        extra: Extra::NONE,
    }
}

fn merge() -> Result<ExitCode> {
    let stage = Stage::new()?;
    let rule = Collisions { identifier: OnIdentifier::Assign, name: OnName::Rename("{name} ({server})".into()) };
    let north = stage.server("north", Policy::closed().with("south", Peer::new("south").may_send().colliding(rule)))?;
    let south = stage.server("south", Policy::closed())?;
    for (server, base) in [(&north, 0x10), (&south, 0x20)] {
        let mut operator = stage.operator(server)?;
        for (n, name) in (1..).zip(NAMES) {
            let name = if base == 0x20 && n == 3 { "payroll" } else { name };
            operator.ask::<ImportResponse>(&import(n, base + n, name))?;
        }
    }

    let told: Arc<Mutex<Vec<Told>>> = Arc::default();
    let options = BulkOptions::new("north", Strategy::Import);
    let foreseen = stage.run(Bulk::new(BulkOptions { dry_run: true, ..options.clone() }), "south", &south, &north)?;
    print!("{}", foreseen.table());
    let list = told.clone();
    let session =
        Bulk::new(options.clone()).telling(move |told| list.lock().unwrap_or_else(PoisonError::into_inner).push(told.clone()));
    let report = stage.run(session, "south", &south, &north)?;
    println!();
    print!("{}", report.table());
    let again = stage.run(Bulk::new(options), "south", &south, &north)?;

    println!();
    let mut operator = stage.operator(&north)?;
    let mut previous = String::from("1");
    let mut wrong = 0;
    for (n, told) in (1u8..).zip(told.lock().unwrap_or_else(PoisonError::into_inner).iter()) {
        let here = told.target.as_deref().unwrap_or(&told.identifier);
        let got: GetResponse = operator.ask(&GetRequest::of(here))?;
        let shown: GetAttributesResponse = operator.ask(&GetAttributesRequest::of(here))?;
        let name = shown.attributes.names().next().map_or("-", |name| name.value.as_str()).to_owned();
        let link = shown.attributes.iter().find_map(|attribute| match &attribute.value {
            V::Link(link) => link.target.as_text().map(str::to_owned),
            _ => None,
        });
        println!("south's {} is {here} at north, {name:?}, {}", told.identifier, told.ending);
        wrong += u32::from(got.object != key(0x20 + n));
        wrong += u32::from(link != (n > 1).then(|| previous.clone()));
        previous = here.to_owned();
    }
    // North's own are what they were.
    for n in 1..=3 {
        let got: GetResponse = operator.ask(&GetRequest::of(n.to_string().as_str()))?;
        wrong += u32::from(got.object != key(0x10 + n));
    }
    println!("{wrong} of the keys and Links are wrong; a second run finds {} unchanged", again.counts.unchanged);
    let good = wrong == 0 && report.counts.renamed == Some(3) && again.counts.unchanged == 3;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
