//! Every way in every version that it claims, to and from keyferry servers and others: an attribute arrives, or it is named as lost.

use crate::bulk::drive::*;
use crate::bulk::foreign::foreign;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_ttlv::{DateTimeExtended, Extra, Interval, Tag, Value, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// What is of the moment, or each server's own.
const LOCAL: [Tag; 2] = [tag::FRESH, tag::LEASE_TIME];

/// Objects of every type, State and kind of attribute.
fn everything(host: &Host) -> Vec<String> {
    let mut ids = fill(host);
    let client = host.client(Version::V2_1);
    let (_, request) = crate::objects::all(Version::V2_1)
        .into_iter()
        .find(|(what, _)| *what == "certificate request")
        .unwrap();
    ids.push(client.register(request, named("certificate request")));
    let values = [
        ("integer", Value::Integer(i32::MIN)),
        ("long integer", Value::LongInteger(i64::MIN)),
        (
            "big integer",
            Value::BigInteger(vec![0x80, 0, 0, 0, 0, 0, 0, 1]),
        ),
        ("enumeration", Value::Enumeration(0x8000_0001)),
        ("boolean", Value::Boolean(true)),
        ("text", Value::Text("ünïcödé \u{1F511}".into())),
        ("bytes", Value::Bytes((0..=255).collect())),
        ("date", Value::DateTime(DateTime(i64::MAX))),
        ("interval", Value::Interval(Interval(u32::MAX))),
        (
            "extended",
            Value::DateTimeExtended(DateTimeExtended(i64::MIN)),
        ),
    ];
    let mut attributes = named("custom");
    for (name, value) in values {
        attributes = attributes.with(V::Custom(CustomAttribute {
            vendor: "x".into(),
            name: name.into(),
            value: Some(value),
        }));
    }
    ids.push(client.register(key(&[0x21; 16]), attributes));
    for (n, unit) in [UsageLimitsUnit::BYTE, UsageLimitsUnit::OBJECT]
        .into_iter()
        .enumerate()
    {
        let limits = UsageLimits {
            total: i64::MAX,
            count: None,
            unit,
            extra: Extra::NONE,
        };
        ids.push(client.register(
            key(&[0x22 + n as u8; 16]),
            named(&format!("limited {n}")).with(V::UsageLimits(limits)),
        ));
    }
    let dates = named("dates")
        .with(V::ActivationDate(DateTime(i64::MAX - 2)))
        .with(V::ProcessStartDate(DateTime(i64::MAX - 2)))
        .with(V::ProtectStopDate(DateTime(i64::MAX - 1)))
        .with(V::DeactivationDate(DateTime(i64::MAX)))
        .with(V::OriginalCreationDate(DateTime(i64::MIN)));
    ids.push(client.register(key(&[0x24; 16]), dates));
    ids.push(client.register(
        key(&[0x25; 16]),
        named("sensitive").with(V::Sensitive(true)),
    ));
    ids.push(client.register(key(&[0x26; 16]), named("kept").with(V::Extractable(false))));
    ids
}

/// A way in a version, to a keyferry server or another.
type Case = (&'static str, Version, bool);

/// What all ways claim.
fn claimed() -> BTreeSet<Case> {
    let found = Arc::new(Mutex::new(None));
    let into = found.clone();
    let mut session = Explore::new(move |abilities| *into.lock().unwrap() = Some(abilities));
    drive(
        &master(),
        &replica(),
        &mut session,
        "client",
        Cut::Never,
        &mut |_, _| {},
    )
    .unwrap()
    .unwrap();
    let all: PeerAbilities = found.lock().unwrap().take().unwrap();
    let mut claimed = BTreeSet::new();
    for version in ALL {
        for (name, way) in WAYS {
            let abilities = PeerAbilities {
                versions: vec![version],
                ..all.clone()
            };
            if abilities.version_for(way).is_some() {
                // A Register, and a Get, are the same to all servers; a feed only keyferry servers have.
                let alone = matches!(way, TransferMethod::Register | TransferMethod::Get);
                claimed.extend((way != TransferMethod::Feed).then_some((name, version, false)));
                claimed.extend((!alone).then_some((name, version, true)));
            }
        }
    }
    claimed
}

const WAYS: [(&str, TransferMethod); 6] = [
    ("import", TransferMethod::Import),
    ("put", TransferMethod::Put),
    ("register", TransferMethod::Register),
    ("feed", TransferMethod::Feed),
    ("export", TransferMethod::Export),
    ("get", TransferMethod::Get),
];

/// Goes one way; returns source, target, identifiers, and what was told.
fn go(
    way: TransferMethod,
    version: Version,
    keyferry: bool,
) -> (Host, Host, Vec<String>, Report, Vec<ObjectResult>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let into = told.clone();
    let sink = move |one: &ObjectResult| into.lock().unwrap().push(one.clone());
    let (from, to) = match way {
        TransferMethod::Import | TransferMethod::Put if keyferry => (master(), replica()),
        TransferMethod::Import | TransferMethod::Put => {
            (master(), foreign(&[Operation::IMPORT, Operation::PUT]))
        }
        TransferMethod::Register => (
            master(),
            Host::named("t", Access::Authenticated, Policy::closed()),
        ),
        TransferMethod::Feed => {
            let policy = Policy::closed().with("b.example", Peer::new("b").may_follow());
            let client = || Access::Named(["client".to_owned()].into());
            (
                Host::named("a", client(), policy),
                Host::named("b", client(), Policy::closed()),
            )
        }
        _ => {
            let policy = Policy::closed();
            let policy = if keyferry {
                policy.with("client", Peer::new("p").may_pull().also_client())
            } else {
                policy
            };
            let named = |name, policy| Host::named(name, Access::Authenticated, policy);
            (named("a", policy), named("p", Policy::closed()))
        }
    };
    let ids = everything(&from);
    to.pass(from.now().wall.0 - to.now().wall.0);
    let report = match way {
        TransferMethod::Import | TransferMethod::Put => {
            let strategy = if way == TransferMethod::Put {
                Strategy::Put
            } else {
                Strategy::Import
            };
            let mut session = Bulk::new(BulkOptions {
                version,
                ..options(strategy)
            })
            .on_object(sink);
            drive(
                &from,
                &to,
                &mut session,
                "a.example",
                Cut::Never,
                &mut |_, _| {},
            )
        }
        TransferMethod::Register => {
            let options = RegisterOptions {
                version,
                batch: 4,
                ..RegisterOptions::new("t")
            };
            drive(
                &from,
                &to,
                &mut Register::new(options).on_object(sink),
                "anyone",
                Cut::Never,
                &mut |_, _| {},
            )
        }
        TransferMethod::Feed => {
            Upstream::follow(
                &*to.store,
                "r",
                "a",
                &UpstreamOptions::default(),
                to.now().wall,
            )
            .unwrap();
            let options = FollowOptions {
                batch: 7,
                ..FollowOptions::new("r", Peer::new("a"))
            };
            let mut session = Follow::new(to.server.node().clone(), options).on_object(sink);
            drive(
                &to,
                &from,
                &mut session,
                "b.example",
                Cut::Never,
                &mut |_, _| {},
            )
        }
        _ => {
            let strategy = if way == TransferMethod::Get {
                PullStrategy::Get
            } else {
                PullStrategy::Export
            };
            let options = PullOptions {
                version,
                batch: 7,
                ..PullOptions::new("a", Peer::new("a").may_send(), strategy)
            };
            let mut session = Pull::new(to.server.node().clone(), options).on_object(sink);
            drive(
                &to,
                &from,
                &mut session,
                "client",
                Cut::Never,
                &mut |_, _| {},
            )
        }
    };
    let report = report.unwrap().unwrap();
    let told = std::mem::take(&mut *told.lock().unwrap());
    (from, to, ids, report, told)
}

/// What a client sees in 2.1, whose attributes are a superset of the others'.
fn shown(host: &Host, id: &str) -> Attributes {
    let mut shown = host.client(Version::V2_1).attributes(id);
    LOCAL
        .into_iter()
        .chain([tag::UNIQUE_IDENTIFIER])
        .for_each(|tag| shown.remove(tag));
    shown
}

/// By which a Register that is resumed finds what it has sent (rule 13 of docs/design.md).
fn is_marker(value: &V) -> bool {
    matches!(value, V::ApplicationSpecificInformation(information) if information.namespace == "keyferry")
}

fn cut(value: &V, version: Version) -> (Option<V>, bool) {
    let (kept, loss) = downgraded(value.clone(), Version::V2_1, version);
    (kept, !loss.is_empty())
}

/// Whether a version can't say all of a value: a server that is pulled from in it shows the rest to nobody, and nobody can tell of it.
fn is_cut(value: &V, version: Version) -> bool {
    let (kept, lossy) = cut(value, version);
    kept.is_none() || lossy
}

/// The differences that nobody told of.
fn silent(way: TransferMethod, version: Version, keyferry: bool) -> Vec<String> {
    let (from, to, ids, report, told) = go(way, version, keyferry);
    assert!(report.counts.finished && report.counts.add_up(), "{report}");
    let abilities = PeerAbilities {
        versions: vec![version],
        operations: Vec::new(),
        keyferry,
    };
    let foretold = abilities.not_kept(way, version);
    let pulls = matches!(way, TransferMethod::Get) || way == TransferMethod::Export && !keyferry;
    let mut silent = Vec::new();
    let by_id: BTreeMap<&str, &ObjectResult> = told
        .iter()
        .map(|told| (told.identifier.as_str(), told))
        .collect();
    if by_id.len() != told.len() {
        silent.push("an object is told of twice".to_owned());
    }
    let there = |id: &str| {
        by_id
            .get(id)
            .map(|told| told.target.clone().unwrap_or_else(|| id.to_owned()))
    };
    let mut arrived = 0;
    for id in &ids {
        let record = from.record(id);
        let Some(told) = by_id.get(id.as_str()) else {
            // In 1.x nobody can ask for destroyed objects (KMIP 2.1 §12.3, since 2.0).
            // By a feed a tombstone goes where the object was offered (rule 6 of docs/design.md).
            let old = matches!(way, TransferMethod::Get | TransferMethod::Export)
                && version < Version::V2_0;
            let unseen = (old || way == TransferMethod::Feed) && record.is_destroyed();
            silent.extend((!unseen).then(|| format!("{id} is not told of")));
            continue;
        };
        match told.outcome {
            Outcome::Created | Outcome::Renamed => {}
            _ if told.message.is_some() || told.outcome == Outcome::Skipped => continue,
            _ => {
                silent.push(format!("{id} is {} without a reason", told.outcome));
                continue;
            }
        }
        arrived += 1;
        let target = there(id).unwrap();
        if to.object(&target) != from.object(id) {
            silent.push(format!("the material of {id}"));
        }
        let (mut here, copy) = (shown(&from, id), shown(&to, &target));
        for attribute in here.iter_mut() {
            if let V::Link(link) = &mut attribute.value
                && let Some(target) = link.target.as_text().and_then(&there)
            {
                link.target = target.as_str().into();
            }
        }
        let differs = |one: &Attributes, other: &Attributes| -> Vec<V> {
            // What a server shows of what it knows of others is not the object's.
            let own = one
                .iter()
                .filter(|attribute| !keyferry_s2s::is_shadow(&attribute.value));
            let values = own.filter(|value| !other.iter().any(|there| there.value == value.value));
            values.map(|attribute| attribute.value.clone()).collect()
        };
        for (how, values) in [
            ("is not there", differs(&here, &copy)),
            ("is there alone", differs(&copy, &here)),
        ] {
            for value in values {
                let name = value.reference().to_string();
                let said = told.lost.contains(&name) || foretold.contains(&name.as_str());
                let marker = way == TransferMethod::Register && is_marker(&value);
                let unshown = pulls
                    && (is_cut(&value, version)
                        || here
                            .iter()
                            .any(|one| cut(&one.value, version).0.as_ref() == Some(&value)));
                if !said && !marker && !unshown {
                    silent.push(format!("{how}: {value:?} of {}", record.object_type));
                }
            }
        }
    }
    assert!(
        arrived >= 15,
        "{way} {version}: only {arrived} arrived: {}",
        report.table()
    );
    if to.count() < arrived {
        silent.push("fewer objects are there than were told of".to_owned());
    }
    silent
}

#[test]
fn no_difference_is_silent_whichever_way_an_object_goes() {
    let claimed = claimed();
    // Import and Export since 1.4, in three versions, to two kinds of servers; Put in seven; Register and Get in seven, to any; one feed.
    assert_eq!(claimed.len(), 3 * 2 + 3 * 2 + 7 * 2 + 7 + 7 + 1);
    let mut wrong = Vec::new();
    for (name, version, keyferry) in claimed {
        let way = WAYS
            .into_iter()
            .find(|(known, _)| *known == name)
            .unwrap()
            .1;
        let kind = if keyferry { "keyferry" } else { "foreign" };
        wrong.extend(
            silent(way, version, keyferry)
                .into_iter()
                .map(|what| format!("{name} {version} {kind}: {what}")),
        );
    }
    assert!(
        wrong.is_empty(),
        "{} silent differences:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
