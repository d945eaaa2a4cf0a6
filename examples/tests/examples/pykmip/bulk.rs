//! Objects move to PyKMIP by *register* and from it by *get*, and from one PyKMIP to another.

use super::server::PyKmip;
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_examples::migration::{How, migrate};
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_net::{ClientConfig, Connector, blocking};
use keyferry_s2s::*;
use keyferry_server::{Access, Options, Server};
use keyferry_store::{Incarnation, Memory, SnapshotExt, Store, StoreExt};
use keyferry_ttlv::{Extra, Version};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A server of ours, in memory.
pub(crate) fn ours(name: &str, incarnation: u8) -> (Server, Arc<dyn Store>) {
    let store: Arc<dyn Store> = Arc::new(Memory::new(Incarnation([incarnation; 16])));
    let server = Server::new(Options {
        server: name.into(),
        store: store.clone(),
        crypto: Arc::new(Ring::new()),
        random: Box::new(SystemRandom::new()),
        access: Access::Authenticated,
        policy: Policy::closed(),
    });
    (server.unwrap(), store)
}

pub(crate) fn run(to: &PyKmip, store: &Arc<dyn Store>, session: impl Session) -> Report {
    let report = run_to_the_end(to, store, session);
    assert!(
        report.counts.finished && report.counts.add_up(),
        "{}",
        report.table()
    );
    report
}

fn run_to_the_end(to: &PyKmip, store: &Arc<dyn Store>, session: impl Session) -> Report {
    let mut driven = Driven::new(session, store.clone(), Box::new(SystemRandom::new()));
    let connector = Connector::new(
        &to.address,
        ClientConfig::new(&to.credentials, "127.0.0.1").unwrap(),
    );
    blocking::drive(&mut driven, &connector).unwrap();
    driven.into_outcome().unwrap().unwrap()
}

/// Asks a server of ours without a connection.
pub(crate) fn ask(server: &Server, items: Vec<RequestItem>) -> ResponseMessage {
    let frame = RequestMessage::new(Version::V1_4, items)
        .to_frame()
        .unwrap();
    let caller = Identity::new("client");
    match server.answer(&caller, keyferry_net::clock(), &frame) {
        Answer::Reply(frame) => ResponseMessage::from_frame(&frame).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn fill(server: &Server) -> usize {
    let cx = context(Version::V1_4);
    let usage = |usage| V::CryptographicUsageMask(usage);
    let key =
        |n: u8| Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&[n; 16]));
    let encrypt = CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT;
    let named = |name: String| Attributes::new().with(V::Name(Name::text(name)));
    let mut states = Vec::new();
    for n in 0..30u8 {
        let attributes = named(format!("key {n}"))
            .with(usage(encrypt))
            .with(V::ObjectGroup("moved".into()));
        // What it refuses, and what it can't even read.
        let attributes = match n % 3 {
            0 => attributes,
            1 => attributes.with(V::ContactInformation("somebody".into())),
            _ => attributes
                .with(V::Description("a word".into()))
                .with(V::Custom(CustomAttribute::text("mark", "7"))),
        };
        let id = import(server, &format!("{n}"), key(n), attributes);
        match n % 5 {
            1 => states.push(RequestItem::new(&ActivateRequest::of(id), cx).unwrap()),
            2 => {
                let request = RevokeRequest::of(
                    id,
                    RevocationReasonCode::KEY_COMPROMISE,
                    Some(DateTime(1_600_000_000)),
                );
                states.push(RequestItem::new(&request, cx).unwrap());
            }
            _ => {}
        }
    }
    import(
        server,
        "secret",
        Object::secret_data(SecretDataType::PASSWORD, Secret::new(b"open")),
        named("secret".into()).with(usage(encrypt)),
    );
    let opaque = OpaqueObject {
        opaque_data_type: keyferry_ttlv::Enumeration(0x8000_0000),
        value: Secret::new(b"data"),
        extra: Extra::NONE,
    };
    import(
        server,
        "opaque",
        Object::OpaqueObject(opaque),
        named("opaque".into()),
    );
    for item in states {
        assert!(ask(server, vec![item]).batch[0].is_success());
    }
    32
}

fn import(server: &Server, id: &str, object: Object, attributes: Attributes) -> UniqueIdentifier {
    let request = ImportRequest {
        unique_identifier: id.into(),
        object_type: None,
        replace_existing: None,
        key_wrap_type: None,
        attributes,
        object: Some(object),
        extra: Extra::NONE,
    };
    let answer = ask(
        server,
        vec![RequestItem::new(&request, context(Version::V1_4)).unwrap()],
    );
    assert!(
        answer.batch[0].is_success(),
        "{:?}",
        answer.batch[0].result_message
    );
    id.into()
}

type Held = BTreeMap<String, (Option<State>, Vec<String>, Option<Object>)>;

/// What a store holds, by Name: State, groups, material.
fn held(store: &dyn Store) -> Held {
    let now = keyferry_net::clock().wall;
    store
        .view::<_, keyferry_store::Error>(|snapshot| {
            let mut numbers = Vec::new();
            snapshot.feed(0, &mut |row| {
                numbers.push(row.record);
                Ok(std::ops::ControlFlow::Continue(()))
            })?;
            let mut held = BTreeMap::new();
            for number in numbers {
                let (record, object) = snapshot.whole(number)?.unwrap();
                let groups = record
                    .attributes
                    .all(tag::OBJECT_GROUP)
                    .map(|group| format!("{group:?}"))
                    .collect();
                let name = record.names().next().unwrap().value.to_string();
                held.insert(name, (record.state(now), groups, object));
            }
            Ok(held)
        })
        .unwrap()
}

#[test]
fn to_it_by_register_and_back_by_get() {
    let Some(pykmip) = PyKmip::start() else {
        return;
    };
    let (server, store) = ours("ours", 1);
    let count = fill(&server) as i64;
    for version in [Version::V1_0, Version::V1_2, Version::V1_4, Version::V2_0] {
        let name = format!("pykmip {version}");
        let before = run(
            &pykmip,
            &store,
            Register::new(RegisterOptions {
                dry_run: true,
                version,
                ..RegisterOptions::new(&*name)
            }),
        );
        assert_eq!(before.counts.created, count, "{}", before.table());
        let report = run(
            &pykmip,
            &store,
            Register::new(RegisterOptions {
                version,
                ..RegisterOptions::new(&*name)
            }),
        );
        assert_eq!(
            (report.counts.created, report.counts.failed),
            (count, 0),
            "{version}: {}",
            report.table()
        );
        let lost: Vec<&str> = report
            .losses
            .iter()
            .flat_map(|loss| &loss.attributes)
            .map(String::as_str)
            .collect();
        for attribute in ["Contact Information", "Description", "Last Change Date"] {
            assert!(
                lost.contains(&attribute),
                "{version}: {attribute} can't have been kept: {lost:?}"
            );
        }
        // It has no State for opaque objects.
        let stateless = report
            .losses
            .iter()
            .filter(|loss| loss.attributes.iter().any(|lost| lost == "State"));
        assert_eq!(
            stateless
                .map(|loss| loss.identifier.as_str())
                .collect::<Vec<_>>(),
            ["opaque"]
        );
        assert!(
            !lost.contains(&"Name") && !lost.contains(&"Object Group"),
            "{lost:?}"
        );
        let again = run(
            &pykmip,
            &store,
            Register::new(RegisterOptions {
                version,
                ..RegisterOptions::new(&*name)
            }),
        );
        assert_eq!(again.counts.unchanged, count);

        // Back into another server of ours; what earlier versions have registered has the same Names there, and other identifiers.
        let selection = Selection::everything().listed(pulled(&store, &name));
        let (back, other) = ours("back", 2);
        let options = PullOptions {
            version,
            selection,
            ..PullOptions::new("pykmip", Peer::new("pykmip"), PullStrategy::Get)
        };
        let report = run(
            &pykmip,
            &other,
            Pull::new(back.node().clone(), options.clone()),
        );
        assert_eq!(
            (report.counts.created, report.counts.failed),
            (count, 0),
            "{version}: {}",
            report.table()
        );
        assert_eq!(held(&*other), held(&*store), "{version}");
        let again = run(&pykmip, &other, Pull::new(back.node().clone(), options));
        assert_eq!(
            again.counts.unchanged,
            count,
            "{version}: {}",
            again.table()
        );
    }
}

/// Its Query tells of no operation on attributes: what has changed of them is named, and States follow.
#[test]
fn what_changes_later_is_led_there_or_named() {
    let Some(pykmip) = PyKmip::start() else {
        return;
    };
    let cx = context(Version::V1_4);
    for version in [Version::V1_0, Version::V1_2, Version::V1_4, Version::V2_0] {
        let (server, store) = ours("ours", 1);
        let count = fill(&server) as i64;
        let name = format!("pykmip {version}");
        let options = || RegisterOptions {
            version,
            ..RegisterOptions::new(&*name)
        };
        run(&pykmip, &store, Register::new(options()));
        let renamed = ModifyAttributeRequest {
            unique_identifier: Some("0".into()),
            attribute: Attributes::new().with(V::Name(Name::text("another"))),
            ..Default::default()
        };
        let superseded = RevokeRequest::of("1", RevocationReasonCode::SUPERSEDED, None);
        for item in [
            RequestItem::new(&renamed, cx).unwrap(),
            RequestItem::new(&superseded, cx).unwrap(),
            RequestItem::new(&DestroyRequest::of("2"), cx).unwrap(),
            RequestItem::new(&ActivateRequest::of("3"), cx).unwrap(),
        ] {
            assert!(ask(&server, vec![item]).batch[0].is_success());
        }
        let report = run(&pykmip, &store, Register::new(options()));
        assert_eq!(
            (report.counts.updated, report.counts.unchanged),
            (4, count - 4),
            "{version}: {}",
            report.table()
        );
        let lost = |id: &str| {
            report
                .losses
                .iter()
                .find(|loss| loss.identifier == id)
                .map(|loss| loss.attributes.clone())
        };
        assert!(
            lost("0").is_some_and(|lost| lost.contains(&"Name".to_owned())),
            "{version}: {:?}",
            report.losses
        );
        for id in ["1", "3"] {
            assert!(
                lost(id).is_some_and(|lost| !lost.contains(&"State".to_owned())),
                "{version} {id}: {:?}",
                lost(id)
            );
        }
        let again = run(&pykmip, &store, Register::new(options()));
        assert_eq!(
            again.counts.unchanged,
            count,
            "{version}: {}",
            again.table()
        );
    }
}

/// The identifiers that a register gave.
pub(crate) fn pulled(store: &Arc<dyn Store>, name: &str) -> Vec<Text> {
    store
        .view::<_, Error>(|snapshot| {
            let mut ids = Vec::new();
            snapshot.feed(0, &mut |row| {
                ids.push(keyferry_store::Entry::decode(row.entry)?.id);
                Ok(std::ops::ControlFlow::Continue(()))
            })?;
            ids.iter()
                .filter_map(|id| identifier_at_peer(snapshot, name, id).transpose())
                .collect()
        })
        .unwrap()
}

#[test]
fn everything_that_it_has_is_found_in_every_version() {
    let Some(pykmip) = PyKmip::start() else {
        return;
    };
    let (server, store) = ours("ours", 1);
    let count = fill(&server) as i64;
    run(
        &pykmip,
        &store,
        Register::new(RegisterOptions::new("pykmip")),
    );
    for version in [
        Version::V1_0,
        Version::V1_1,
        Version::V1_2,
        Version::V1_3,
        Version::V1_4,
        Version::V2_0,
    ] {
        for selection in [
            Selection::everything(),
            Selection::everything().with(V::ObjectGroup("moved".into())),
        ] {
            let expected = if selection.is_everything() { count } else { 30 };
            let (puller, other) = ours("puller", 3);
            let options = PullOptions {
                version,
                selection,
                ..PullOptions::new("f", Peer::new("f"), PullStrategy::Get)
            };
            let report = run(&pykmip, &other, Pull::new(puller.node().clone(), options));
            assert_eq!(
                report.counts.created,
                expected,
                "{version}: {}",
                report.table()
            );
            assert_eq!(report.counts.failed, 0, "{version}: {}", report.table());
            // All of it arrived within a few seconds, and nothing was cut: nobody can swear to it in 1.0 to 1.2.
            assert!(report.unseen.len() <= 1, "{:?}", report.unseen);
        }
    }
}

#[test]
fn the_example_migrate_moves_everything_from_one_to_another() {
    let (Some(old), Some(new)) = (PyKmip::start(), PyKmip::start()) else {
        return;
    };
    let (server, store) = ours("ours", 1);
    let count = fill(&server) as i64;
    run(&old, &store, Register::new(RegisterOptions::new("old")));
    let connector = |to: &PyKmip| {
        Connector::new(
            &to.address,
            ClientConfig::new(&to.credentials, "127.0.0.1").unwrap(),
        )
    };
    let site = keyferry_examples::site::Site::new().unwrap();
    keyferry_examples::runtime().unwrap().block_on(async {
        let way = site.start("way", Policy::closed()).await.unwrap();
        let (from, to) = (connector(&old), connector(&new));
        let plan = site.folder().join("plan");
        let file = || std::fs::File::open(&plan).unwrap();
        let written = How::Plan(std::fs::File::create(&plan).unwrap());
        for (how, created, unchanged) in [
            (How::DryRun, count, 0),
            (written, count, 0),
            (How::Execute(file()), count, 0),
            (How::Move, 0, count),
        ] {
            let moved = migrate(&way, &from, &to, Version::V1_4, how).await.unwrap();
            assert_eq!(moved.registered.stopped, None);
            assert_eq!(moved.pulled.counts.failed, 0, "{}", moved.pulled.table());
            let counts = &moved.registered.counts;
            assert_eq!(
                (counts.created, counts.unchanged),
                (created, unchanged),
                "{}",
                moved.registered.table()
            );
        }
        way.handle.shutdown().await;
    });
    let (back, other) = ours("back", 2);
    let options = PullOptions::new("new", Peer::new("new"), PullStrategy::Get);
    let report = run(&new, &other, Pull::new(back.node().clone(), options));
    assert_eq!(report.counts.created, count, "{}", report.table());
    assert_eq!(
        held(&*other),
        held(&*store),
        "from ours to one, to the other, and back: Names, groups, States, material"
    );
}

#[test]
fn what_it_can_do_is_found_out() {
    let Some(pykmip) = PyKmip::start() else {
        return;
    };
    let (_, store) = ours("ours", 1);
    let (told, abilities) = std::sync::mpsc::channel();
    run_to_the_end(
        &pykmip,
        &store,
        Explore::new(move |abilities| told.send(abilities).unwrap()),
    );
    let abilities: PeerAbilities = abilities.recv().unwrap();
    assert_eq!(
        (abilities.push(), abilities.pull()),
        (
            Some((TransferMethod::Register, Version::V2_0)),
            Some((TransferMethod::Get, Version::V2_0))
        )
    );
    assert!(
        abilities
            .not_kept(TransferMethod::Register, Version::V2_0)
            .contains(&"Initial Date")
    );
}

/// It keeps no Last Change Date, so each pass is over everything, and says so.
#[test]
fn it_is_observed_and_only_what_changed_is_taken_again() {
    let Some(pykmip) = PyKmip::start() else {
        return;
    };
    for version in [Version::V1_2, Version::V2_0] {
        let (server, store) = ours("ours", 1);
        let count = fill(&server) as i64;
        let name = format!("pykmip {version}");
        let now = keyferry_net::clock().wall;
        let what = ForeignReplicaOptions {
            by: Operation::REGISTER,
            ..ForeignReplicaOptions::default()
        };
        ForeignReplica::publish(&*store, &name, "pykmip", &what, now).unwrap();
        let publish = || {
            Publication::new(PublicationOptions {
                version,
                ..PublicationOptions::new(&*name)
            })
        };
        assert_eq!(run(&pykmip, &store, publish()).counts.created, count);
        assert_eq!(
            run(&pykmip, &store, publish()).counts.asked,
            0,
            "nothing has changed since"
        );

        let (back, other) = ours("back", 2);
        let selection = Selection::everything().listed(pulled(&store, &name));
        let what = ForeignMasterOptions {
            selection,
            ..ForeignMasterOptions::default()
        };
        ForeignMaster::observe(&*other, "pykmip", "pykmip", &what, now).unwrap();
        let observe = || {
            let options = PullOptions {
                version,
                ..PullOptions::new("pykmip", Peer::new("pykmip"), PullStrategy::Get)
            };
            Pull::new(back.node().clone(), options).observing()
        };
        let report = run(&pykmip, &other, observe());
        assert_eq!(
            (report.counts.created, report.counts.failed),
            (count, 0),
            "{version}: {}",
            report.table()
        );
        assert_eq!(held(&*other), held(&*store), "{version}");
        let cx = context(Version::V1_4);
        for item in [
            RequestItem::new(
                &RevokeRequest::of("1", RevocationReasonCode::SUPERSEDED, None),
                cx,
            )
            .unwrap(),
            RequestItem::new(&ActivateRequest::of("3"), cx).unwrap(),
            RequestItem::new(&DestroyRequest::of("5"), cx).unwrap(),
        ] {
            assert!(ask(&server, vec![item]).batch[0].is_success());
        }
        let report = run(&pykmip, &store, publish());
        assert_eq!(
            (report.counts.updated, report.counts.asked),
            (3, 3),
            "{version}: {}",
            report.table()
        );
        let report = run(&pykmip, &other, observe());
        let counts = (
            report.counts.updated,
            report.counts.unchanged,
            report.counts.failed,
        );
        assert_eq!(counts, (2, count - 3, 0), "{version}: {}", report.table());
        // What it destroys it forgets: that is named, and nothing is destroyed here for it.
        assert_eq!(report.missing.len(), 1, "{version}: {}", report.table());
        let relation = other
            .view::<_, Error>(|snapshot| ForeignMaster::find(snapshot, "pykmip"))
            .unwrap()
            .unwrap();
        assert_eq!(
            (relation.newest, relation.runs, relation.missing),
            (None, 0, 1),
            "every pass is over everything"
        );
        assert_eq!(
            other
                .view::<_, keyferry_store::Error>(|snapshot| snapshot.count())
                .unwrap() as i64,
            count
        );
    }
}
