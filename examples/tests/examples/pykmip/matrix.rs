//! What goes to PyKMIP and comes back, in every version that it speaks: each attribute arrives, or it is named as lost on the way there or on
//! the way back.

use super::bulk::{ask, ours, pulled, run};
use super::objects;
use super::server::PyKmip;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_server::Server;
use keyferry_store::{SnapshotExt, Store, StoreExt};
use keyferry_ttlv::{Extra, Version};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const VERSIONS: [Version; 6] = [
    Version::V1_0,
    Version::V1_1,
    Version::V1_2,
    Version::V1_3,
    Version::V1_4,
    Version::V2_0,
];

/// Objects of every type that 1.4 has, keys in every State, and kinds of attributes.
fn fill(server: &Server) -> usize {
    let named = |name: &str| Attributes::new().with(V::Name(Name::text(name)));
    let usage = V::CryptographicUsageMask(
        CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT,
    );
    let key =
        |n: u8| Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&[n; 16]));
    let mut all: Vec<(Object, Attributes)> = objects::all(Version::V1_4)
        .into_iter()
        .map(|(what, object)| (object, named(what).with(usage.clone())))
        .collect();
    let dates = named("dates")
        .with(V::ActivationDate(DateTime(4_000_000_000)))
        .with(V::ProcessStartDate(DateTime(4_000_000_001)))
        .with(V::ProtectStopDate(DateTime(4_000_000_002)))
        .with(V::DeactivationDate(DateTime(4_000_000_003)));
    let limits = UsageLimits {
        total: 1000,
        count: None,
        unit: UsageLimitsUnit::BYTE,
        extra: Extra::NONE,
    };
    let information = |data: &str| {
        V::ApplicationSpecificInformation(ApplicationSpecificInformation {
            namespace: "disks".into(),
            data: Some(data.into()),
            extra: Extra::NONE,
        })
    };
    let parameters = CryptographicParameters {
        block_cipher_mode: Some(BlockCipherMode::CBC),
        padding_method: Some(PaddingMethod::PKCS5),
        ..CryptographicParameters::default()
    };
    let various = [
        dates,
        named("limited").with(V::UsageLimits(limits)),
        named("names")
            .with(V::Name(Name::text("another")))
            .with(V::ObjectGroup("g1".into()))
            .with(V::ObjectGroup("g2".into())),
        named("informed")
            .with(information("one"))
            .with(information("two")),
        named("parameters").with(V::CryptographicParameters(parameters.into())),
        named("contact").with(V::ContactInformation("somebody".into())),
        named("custom").with(V::Custom(CustomAttribute::text("mark", "7"))),
        named("described")
            .with(V::Description("a word".into()))
            .with(V::Comment("two words".into())),
        named("sensitive").with(V::Sensitive(true)),
        named("kept").with(V::Extractable(false)),
        named("\u{fc}n\u{ef}c\u{f6}d\u{e9} \u{1F511}"),
    ];
    all.extend(
        various
            .into_iter()
            .zip(0x40..)
            .map(|(attributes, n)| (key(n), attributes.with(usage.clone()))),
    );
    let states = [
        "active",
        "deactivated",
        "compromised",
        "destroyed",
        "destroyed compromised",
    ];
    let (first_state, cx) = (all.len(), context(Version::V1_4));
    all.extend(
        states
            .iter()
            .zip(0x70..)
            .map(|(state, n)| (key(n), named(state).with(usage.clone()))),
    );
    let register = |object: Object, attributes: Attributes| {
        let answer = ask(
            server,
            vec![RequestItem::new(&RegisterRequest::of(object, attributes), cx).unwrap()],
        );
        answer.batch[0]
            .payload::<RegisterResponse>(cx)
            .unwrap()
            .unique_identifier
    };
    let mut ids: Vec<UniqueIdentifier> = all
        .into_iter()
        .map(|(object, attributes)| register(object, attributes))
        .collect();
    let link = V::Link(Link {
        link_type: LinkType::REPLACED_OBJECT_LINK,
        target: ids[0].clone(),
        extra: Extra::NONE,
    });
    ids.push(register(key(0x60), named("linked").with(usage).with(link)));
    let id = |n: usize| ids[first_state + n].clone();
    let compromise = |n: usize| {
        let request = RevokeRequest::of(
            id(n),
            RevocationReasonCode::KEY_COMPROMISE,
            Some(DateTime(1_600_000_000)),
        );
        RequestItem::new(&request, cx).unwrap()
    };
    let activate = |n: usize| RequestItem::new(&ActivateRequest::of(id(n)), cx).unwrap();
    let destroy = |n: usize| RequestItem::new(&DestroyRequest::of(id(n)), cx).unwrap();
    let superseded = RevokeRequest::of(id(1), RevocationReasonCode::SUPERSEDED, None);
    let superseded = RequestItem::new(&superseded, cx).unwrap();
    for item in [
        activate(0),
        activate(1),
        superseded,
        compromise(2),
        destroy(3),
        compromise(4),
        destroy(4),
    ] {
        assert!(ask(server, vec![item]).batch[0].is_success());
    }
    ids.len()
}

type Records = BTreeMap<String, (keyferry_store::Record, Option<Object>)>;

fn records(store: &dyn Store) -> Records {
    let read = |snapshot: &dyn keyferry_store::Snapshot| {
        let mut numbers = Vec::new();
        snapshot.feed(0, &mut |row| {
            numbers.push(row.record);
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        let whole = |number: &keyferry_store::RecordNumber| {
            let (record, object) = snapshot.whole(*number)?.unwrap();
            Ok((record.identifier.to_string(), (record, object)))
        };
        numbers.iter().map(whole).collect()
    };
    store.view::<_, keyferry_store::Error>(read).unwrap()
}

type Sink = Arc<Mutex<Vec<ObjectResult>>>;

fn by_identifier(sink: &Sink) -> BTreeMap<String, ObjectResult> {
    std::mem::take(&mut *sink.lock().unwrap())
        .into_iter()
        .map(|told| (told.identifier.clone(), told))
        .collect()
}

/// What each server sets for itself, or what is of the moment.
const LOCAL: [keyferry_ttlv::Tag; 2] = [tag::FRESH, tag::LEASE_TIME];

fn shown(record: &keyferry_store::Record) -> Vec<V> {
    let now = keyferry_net::clock().wall;
    let mut attributes = record.attributes.clone();
    record
        .state(now)
        .into_iter()
        .for_each(|state| attributes.set(V::State(state)));
    LOCAL.into_iter().for_each(|tag| attributes.remove(tag));
    attributes
        .iter()
        .map(|attribute| attribute.value.clone())
        .collect()
}

fn silent(pykmip: &PyKmip, version: Version) -> (usize, Vec<String>) {
    let (source, store) = ours("ours", 1);
    let count = fill(&source);
    let name = format!("pykmip {version}");
    let sink = || -> (Sink, Sink) {
        let all = Sink::default();
        (all.clone(), all)
    };
    let (gone, into) = sink();
    let session = Register::new(RegisterOptions {
        version,
        ..RegisterOptions::new(&*name)
    });
    let there = run(
        pykmip,
        &store,
        session.on_object(move |told| into.lock().unwrap().push(told.clone())),
    );
    let gone = by_identifier(&gone);
    let selection = Selection::everything().listed(pulled(&store, &name));
    let (back, other) = ours("back", 2);
    let options = PullOptions {
        version,
        selection,
        ..PullOptions::new("pykmip", Peer::new("pykmip"), PullStrategy::Get)
    };
    let (came, into) = sink();
    let session = Pull::new(back.node().clone(), options)
        .on_object(move |told| into.lock().unwrap().push(told.clone()));
    let here = run(pykmip, &other, session);
    let came = by_identifier(&came);
    let (sources, copies) = (records(&*store), records(&*other));
    assert_eq!(sources.len(), count);
    let abilities = PeerAbilities {
        versions: vec![version],
        operations: Vec::new(),
        keyferry: false,
    };
    let (over, home) = (
        abilities.not_kept(TransferMethod::Register, version),
        abilities.not_kept(TransferMethod::Get, version),
    );
    let (mut silent, mut arrived) = (Vec::new(), 0);
    let target = |id: &str| gone.get(id).and_then(|told| told.target.clone());
    for (id, (record, object)) in &sources {
        let Some(told) = gone.get(id) else {
            silent.push(format!("{id} is not told of"));
            continue;
        };
        if !matches!(told.outcome, Outcome::Created | Outcome::Renamed) {
            if told.message.is_none() {
                silent.push(format!("{id} is {} without a reason", told.outcome));
            }
            continue;
        }
        let there = told.target.clone().unwrap_or_else(|| id.clone());
        let Some(back) = came.get(&there) else {
            // What it destroys it forgets; and that the selection names it and nobody finds it is a report, too.
            if !here.missing.iter().any(|missing| missing.contains(&there))
                && here.unseen.is_empty()
            {
                silent.push(format!("{there} did not come back, and nobody says so"));
            }
            continue;
        };
        if !matches!(back.outcome, Outcome::Created | Outcome::Renamed) {
            if back.message.is_none() {
                silent.push(format!(
                    "{there} is {} without a reason on the way back",
                    back.outcome
                ));
            }
            continue;
        }
        arrived += 1;
        let (copy, material) = &copies[back.target.as_deref().unwrap_or(&there)];
        if material != object {
            silent.push(format!(
                "the material of {id}: {}",
                record.names().next().unwrap().value
            ));
        }
        let (mut own, theirs) = (shown(record), shown(copy));
        for value in &mut own {
            if let V::Link(link) = value
                && let Some(target) = link.target.as_text().and_then(target)
            {
                link.target = target.as_str().into();
            }
        }
        // The marker, and the policy that a server sets where it is told none (KMIP 1.4 §3.18).
        let is_added = |value: &V| match value {
            V::ApplicationSpecificInformation(one) => one.namespace == "keyferry",
            V::OperationPolicyName(_) => true,
            _ => false,
        };
        let not_in = |one: &[V], other: &[V]| {
            one.iter()
                .filter(|value| !other.contains(value))
                .cloned()
                .collect::<Vec<V>>()
        };
        for (how, values) in [
            ("is not there", not_in(&own, &theirs)),
            ("is there alone", not_in(&theirs, &own)),
        ] {
            for value in values {
                let name = value.reference().to_string();
                let told = told.lost.contains(&name) || back.lost.contains(&name);
                let foretold = over.contains(&name.as_str()) || home.contains(&name.as_str());
                let added = is_added(&value) && how == "is there alone";
                if !(told || foretold || added) {
                    silent.push(format!(
                        "{how}: {value:?} of {}",
                        record.names().next().unwrap().value
                    ));
                }
            }
        }
    }
    println!(
        "{version}: {arrived} of {count} came back; {}",
        there.table()
    );
    (arrived, silent)
}

#[test]
fn no_difference_is_silent_there_and_back() {
    let Some(pykmip) = PyKmip::start() else {
        return;
    };
    let mut wrong = Vec::new();
    for version in VERSIONS {
        let (arrived, silent) = silent(&pykmip, version);
        assert!(arrived >= 19, "{version}: only {arrived}");
        wrong.extend(silent.into_iter().map(|what| format!("{version}: {what}")));
    }
    assert!(
        wrong.is_empty(),
        "{} silent differences:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
