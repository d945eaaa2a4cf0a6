//! The loop that drives a session, with planned losses of the connection.

use crate::support::*;
use keyferry_crypto::SystemRandom;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{
    Bulk, BulkOptions, Collisions, Copy, Error, Fork, Limits, Peer, Policy, Report, Session,
    SessionContext, Step, Strategy,
};
use keyferry_server::Access;
use keyferry_store::StoreExt;
use keyferry_ttlv::{Encode, Extra, Raw, Tag, Version, Writer};
use std::collections::VecDeque;

/// Where the connection is lost, counted in messages that the peer took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    Never,
    /// The peer never sees this message.
    Before(usize),
    /// The peer takes this message, and its answer is lost.
    Behind(usize),
    /// Our own side stops for good instead of this message.
    Dead(usize),
}

pub const BOTH: [Strategy; 2] = [Strategy::Import, Strategy::Put];

/// The server that the objects are of.
pub fn master() -> Host {
    Host::named(
        "a",
        Access::Named(["client".to_owned()].into()),
        Policy::closed(),
    )
}

/// The same, whose clients may bring objects that are too large to be carried.
pub fn master_of_large_objects() -> Host {
    let mut limits = Limits::default();
    limits.object_bytes = usize::MAX;
    let policy = Policy::closed().with_limits(limits);
    Host::named("a", Access::Named(["client".to_owned()].into()), policy)
}

/// A server that takes copies from `a`, and lets a client look.
pub fn replica() -> Host {
    let keys = ["kek", "kek at b", "private", "other", "nobody"];
    let peer = keys
        .into_iter()
        .fold(Peer::new("a").may_send(), |peer, key| peer.unwrapping(key));
    let policy = Policy::closed().with("a.example", peer);
    Host::named("b", Access::Named(["client".to_owned()].into()), policy)
}

/// A server that takes what `a` Puts as a foreign server does.
pub fn receiver() -> Host {
    let policy = Policy::closed().with("a.example", Peer::new("a").may_send().foreign());
    Host::named("b", Access::Named(["client".to_owned()].into()), policy)
}

/// The same, which settles collisions in a way.
pub fn replica_with(collisions: Collisions) -> Host {
    let policy =
        Policy::closed().with("a.example", Peer::new("a").may_send().colliding(collisions));
    Host::named("b", Access::Named(["client".to_owned()].into()), policy)
}

pub fn options(strategy: Strategy) -> BulkOptions {
    BulkOptions {
        batch: 3,
        in_flight: 2,
        group: 2,
        ..BulkOptions::new("b", strategy)
    }
}

/// Drives a session to its end; `None` when our side died. `each` is called with the number of messages taken so far.
pub fn drive(
    from: &Host,
    to: &Host,
    session: &mut dyn Session,
    caller: &str,
    cut: Cut,
    each: &mut dyn FnMut(usize, &RequestMessage),
) -> Option<Result<Report, Error>> {
    let (mut ticket, mut taken) = (0, 0);
    let mut under_way: VecDeque<(Ticket, RequestMessage)> = VecDeque::new();
    let mut random = SystemRandom::new();
    let (store, caller) = (from.store.clone(), identity(caller));
    loop {
        let mut cx = SessionContext {
            now: from.now(),
            store: &*store,
            random: &mut random,
        };
        match session.poll(&mut cx, Ticket(ticket)) {
            Err(error) => return Some(Err(error)),
            Ok(Step::Done(report)) => {
                assert!(under_way.is_empty(), "done with answers outstanding");
                return Some(Ok(*report));
            }
            Ok(Step::Send(message)) => {
                under_way.push_back((Ticket(ticket), *message));
                ticket += 1;
                continue;
            }
            Ok(Step::Wait(_)) => {}
            Ok(other) => panic!("{other:?}"),
        }
        let (answered, message) = under_way.pop_front().expect("it waits for nothing");
        if cut == Cut::Dead(taken) {
            return None;
        }
        let lost = |session: &mut dyn Session,
                    cx: &mut SessionContext<'_>,
                    rest: &mut VecDeque<(Ticket, RequestMessage)>| {
            session
                .answer(cx, answered, Err(Lost("planned".into())))
                .unwrap();
            for (ticket, _) in rest.drain(..) {
                session
                    .answer(cx, ticket, Err(Lost("planned".into())))
                    .unwrap();
            }
        };
        if cut == Cut::Before(taken) {
            taken += 1;
            lost(session, &mut cx, &mut under_way);
            continue;
        }
        each(taken, &message);
        let answer = to
            .server
            .answer(&caller, to.now(), &message.to_frame().unwrap());
        let Answer::Reply(frame) = answer else {
            panic!("no reply")
        };
        let mut cx = SessionContext {
            now: from.now(),
            store: &*store,
            random: &mut random,
        };
        let here = taken;
        taken += 1;
        if cut == Cut::Behind(here) {
            lost(session, &mut cx, &mut under_way);
        } else if let Err(error) = session.answer(
            &mut cx,
            answered,
            Ok(ResponseMessage::from_frame(&frame).unwrap()),
        ) {
            return Some(Err(error));
        }
    }
}

/// What is kept beside what the server holds.
pub fn forks(host: &Host) -> Vec<Fork> {
    host.store
        .view::<_, Error>(|snapshot| Fork::all(snapshot))
        .unwrap()
}

/// One undisturbed transfer from `a`.
pub fn transfer(from: &Host, to: &Host, strategy: Strategy) -> Report {
    let mut session = Bulk::new(options(strategy));
    let report = drive(
        from,
        to,
        &mut session,
        "a.example",
        Cut::Never,
        &mut |_, _| {},
    )
    .unwrap()
    .unwrap();
    assert!(report.counts.finished && report.counts.add_up(), "{report}");
    report
}

/// Created, updated, unchanged, failed.
pub fn counts(report: &Report) -> (i64, i64, i64, i64) {
    let c = &report.counts;
    assert_eq!(c.created + c.updated + c.unchanged + c.failed, c.asked);
    (c.created, c.updated, c.unchanged, c.failed)
}

/// Objects of every kind and state. Returns their identifiers.
pub fn fill(host: &Host) -> Vec<String> {
    let client = host.client(Version::V2_1);
    let mut ids = Vec::new();
    for (what, object) in crate::objects::all(Version::V2_1) {
        // Put speaks 1.4, which has no form for this object.
        if what != "certificate request" {
            ids.push(
                client.register(
                    object,
                    named(what)
                        .with(name(&format!("also {what}")))
                        .with(custom("kind", what)),
                ),
            );
        }
    }
    let rich = client.create(
        named("rich")
            .with(V::ObjectGroup("g1".into()))
            .with(V::ObjectGroup("g2".into()))
            .with(V::QuantumSafe(true))
            .with(V::Description("what 1.4 knows".into()))
            .with(V::RotateName(RotateName {
                value: "r".into(),
                rotate_name_type: RotateNameType::UNINTERPRETED_TEXT_STRING,
                extra: Extra::NONE,
            }))
            .with(V::Custom(CustomAttribute {
                vendor: "acme".into(),
                ..CustomAttribute::text("v", "w")
            }))
            .with(V::UsageLimits(UsageLimits {
                total: 5,
                count: None,
                unit: UsageLimitsUnit::BYTE,
                extra: Extra::NONE,
            }))
            .with(V::Link(Link {
                link_type: LinkType::NEXT_LINK,
                target: ids[0].as_str().into(),
                extra: Extra::NONE,
            }))
            .with(V::ApplicationSpecificInformation(
                ApplicationSpecificInformation {
                    namespace: "ns".into(),
                    data: Some("d".into()),
                    extra: Extra::NONE,
                },
            )),
    );
    // A gap in the indices.
    let old = host.client(Version::V1_2);
    old.add(&rich, V::ObjectGroup("g3".into())).unwrap();
    old.delete_at(&rich, reference(tag::OBJECT_GROUP), Some(1))
        .unwrap();
    ids.push(rich);
    for state in 2..=6 {
        let id = client
            .create(named(&format!("state {state}")).with(V::ActivationDate(DateTime(START + 50))));
        host.pass(1);
        match State(state) {
            State::ACTIVE => client.activate(&id).unwrap(),
            State::DEACTIVATED => {
                client.activate(&id).unwrap();
                client
                    .revoke(&id, RevocationReasonCode::SUPERSEDED)
                    .unwrap();
            }
            State::COMPROMISED => client
                .revoke(&id, RevocationReasonCode::KEY_COMPROMISE)
                .unwrap(),
            State::DESTROYED => client.destroy(&id).unwrap(),
            _ => {
                client
                    .revoke(&id, RevocationReasonCode::KEY_COMPROMISE)
                    .unwrap();
                client.destroy(&id).unwrap();
            }
        }
        ids.push(id);
    }
    ids
}

/// The attributes, whatever their order, but for what a server shows of what it knows of others.
pub fn sorted(attributes: &Attributes) -> Vec<String> {
    let own = attributes
        .iter()
        .filter(|a| !keyferry_s2s::is_shadow(&a.value));
    let mut all: Vec<String> = own
        .map(|a| format!("{:?} {:?}", a.index.unwrap_or(0), a.value))
        .collect();
    all.sort();
    all
}

/// Fails unless both hold the same, verbatim, under the same stamps.
pub fn assert_same(from: &Host, to: &Host, ids: &[String]) {
    for id in ids {
        let (here, there) = (from.record(id), to.record(id));
        assert_eq!(sorted(&there.attributes), sorted(&here.attributes), "{id}");
        assert_eq!(
            (&there.id, &there.stamp, &there.lineage),
            (&here.id, &here.stamp, &here.lineage)
        );
        assert_eq!(there.copy_digest().unwrap(), here.copy_digest().unwrap());
        assert_eq!(there.object_type, here.object_type);
        assert_eq!(to.object(id), from.object(id), "{id}");
        assert_eq!(here.is_destroyed(), to.object(id).is_none());
    }
}

/// An Import that carries a copy, made by hand.
pub fn copy_item(
    client: &Client,
    record: &keyferry_store::Record,
    object: Option<Object>,
    change: impl FnOnce(&mut Copy),
) -> RequestItem {
    let mut copy = Copy {
        id: record.id.clone(),
        stamp: record.stamp.clone(),
        lineage: record.lineage.clone(),
        digest: record.copy_digest().unwrap(),
        projection: 1,
        unrepresentable: Attributes::new(),
        without: Vec::new(),
        owner: None,
        receipt: None,
        relay_receipt: None,
        session: Some(1),
        extra: Extra::NONE,
    };
    change(&mut copy);
    struct Content(Copy);
    impl Encode for Content {
        fn encode(&self, tag: Tag, w: &mut Writer) -> keyferry_ttlv::Result<()> {
            w.structure(tag, |w| self.0.encode(extension::COPY, w))
        }
    }
    let (attributes, rest) = projection::split_by_version(&record.attributes, client.version);
    copy.unrepresentable = rest;
    let mut request = client.import_request(&record.identifier, object, attributes);
    request.object_type = Some(record.object_type);
    let mut item = client.item(&request);
    item.message_extensions.push(MessageExtension {
        vendor_identification: extension::VENDOR.into(),
        criticality_indicator: true,
        vendor_extension: Raw::of(tag::VENDOR_EXTENSION, &Content(copy), client.cx()).unwrap(),
        extra: Extra::NONE,
    });
    item
}
