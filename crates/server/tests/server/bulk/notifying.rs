//! Receivers that take Put and Notify are kept up to date.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_store::StoreExt;
use keyferry_ttlv::Version;
use std::collections::BTreeSet;

fn publisher(what: ForeignReplicaOptions) -> Host {
    let a = master();
    let what = ForeignReplicaOptions {
        by: Operation::PUT,
        ..what
    };
    ForeignReplica::publish(&*a.store, "r", "r", &what, a.now().wall).unwrap();
    a
}

fn session(version: Version) -> Notifier {
    Notifier::new(NotifierOptions {
        version,
        ..NotifierOptions::new("r")
    })
}

/// One run; and what was sent.
fn notify(a: &Host, r: &Host, version: Version, cut: Cut) -> (Option<Report>, Vec<Operation>) {
    let mut sent = Vec::new();
    let ended = drive(
        a,
        r,
        &mut session(version),
        "a.example",
        cut,
        &mut |_, message| {
            let header = &message.header;
            assert!(
                message.batch.len() == 1 && header.time_stamp.is_some(),
                "one item, and a Time Stamp"
            );
            assert!(
                header.maximum_response_size.is_none()
                    && header.batch_error_continuation_option.is_none()
            );
            assert!(message.batch[0].message_extensions.is_empty());
            if message.batch[0].operation == Operation::NOTIFY {
                let notice: NotifyRequest = message.batch[0].payload(context(version)).unwrap();
                assert!(
                    notice.attributes.get(tag::LAST_CHANGE_DATE).is_some(),
                    "it goes with every Notify"
                );
            }
            sent.push(message.batch[0].operation);
        },
    );
    (ended.map(|ended| ended.unwrap()), sent)
}

fn run(a: &Host, r: &Host, version: Version) -> (Report, Vec<Operation>) {
    let (report, sent) = notify(a, r, version, Cut::Never);
    let report = report.unwrap();
    assert!(report.counts.finished && report.counts.add_up(), "{report}");
    (report, sent)
}

/// The values of what clients set, as a set.
fn values(host: &Host, id: &str) -> BTreeSet<String> {
    let record = host.record(id);
    let of = [
        tag::NAME,
        tag::OBJECT_GROUP,
        tag::CONTACT_INFORMATION,
        tag::STATE,
        tag::LAST_CHANGE_DATE,
        tag::DESTROY_DATE,
    ];
    let told = record
        .attributes
        .iter()
        .filter(|a| of.contains(&a.value.tag()) || matches!(a.value, V::Custom(_)));
    told.map(|a| format!("{:?}", a.value)).collect()
}

fn undated(host: &Host, id: &str) -> BTreeSet<String> {
    values(host, id)
        .into_iter()
        .filter(|value| !value.contains("Date("))
        .collect()
}

fn changes(client: &Client, ids: &[String], round: usize) {
    let group = |n: usize| V::ObjectGroup(format!("g{n}").into());
    match round {
        0 => {
            client
                .add(&ids[0], V::ContactInformation("somebody".into()))
                .unwrap();
            client.delete_at_first(&ids[1]);
            client.activate(&ids[2]).unwrap();
        }
        1 => {
            client
                .delete_all(&ids[0], reference(tag::CONTACT_INFORMATION))
                .unwrap();
            client.add(&ids[1], group(7)).unwrap();
            client
                .revoke(&ids[2], RevocationReasonCode::KEY_COMPROMISE)
                .unwrap();
            client.destroy(&ids[3]).unwrap();
        }
        _ => {
            client
                .delete_all(&ids[1], reference(tag::OBJECT_GROUP))
                .unwrap();
            client.add(&ids[4], custom("mark", "later")).unwrap();
        }
    }
}

trait Deletes {
    fn delete_at_first(&self, id: &str);
}

impl Deletes for Client {
    /// Takes one of several values away.
    fn delete_at_first(&self, id: &str) {
        self.delete(id, V::ObjectGroup("g1".into())).unwrap();
    }
}

fn fill_groups(client: &Client) -> Vec<String> {
    let groups = |attributes: Attributes| {
        (1..4).fold(attributes, |all, n| {
            all.with(V::ObjectGroup(format!("g{n}").into()))
        })
    };
    (0..5u8)
        .map(|n| client.register(key(&[n; 16]), groups(named(&format!("n{n}")))))
        .collect()
}

#[test]
fn what_is_new_is_put_and_what_changed_or_is_no_more_is_notified() {
    for version in [
        Version::V1_0,
        Version::V1_2,
        Version::V1_4,
        Version::V2_0,
        Version::V2_1,
    ] {
        let (a, r) = (publisher(ForeignReplicaOptions::default()), receiver());
        let client = a.client(Version::V2_1);
        let ids = fill_groups(&client);
        assert_eq!(run(&a, &r, version).1, [Operation::PUT; 5]);
        assert!(run(&a, &r, version).1.is_empty());
        for round in 0..3 {
            a.pass(5);
            r.pass(5);
            changes(&client, &ids, round);
            let (report, sent) = run(&a, &r, version);
            assert_eq!(
                (report.counts.failed, report.counts.asked),
                (0, sent.len() as i64),
                "{version} {}",
                report.table()
            );
            assert!(
                !sent.is_empty() && sent.iter().all(|one| *one == Operation::NOTIFY),
                "{version} {sent:?}"
            );
            for id in &ids {
                assert_eq!(values(&r, id), values(&a, id), "{version} {round}");
            }
        }
        assert_eq!(
            (r.object(&ids[3]), r.object(&ids[2])),
            (None, Some(key(&[2; 16])))
        );
        let shown = client.attributes(&ids[0]);
        assert!(
            shown
                .iter()
                .any(|a| a.value == V::Custom(CustomAttribute::text("s2s-slave-r", "1")))
        );
    }
}

#[test]
fn losses_at_every_message_leave_the_receiver_as_it_should_be() {
    for version in [Version::V1_4, Version::V2_1] {
        for at in 0..6 {
            for cut in [Cut::Before(at), Cut::Behind(at), Cut::Dead(at)] {
                let (a, r) = (publisher(ForeignReplicaOptions::default()), receiver());
                let client = a.client(Version::V2_1);
                let ids = fill_groups(&client);
                for round in 0..3 {
                    notify(&a, &r, version, cut);
                    a.pass(5000);
                    r.pass(5000);
                    changes(&client, &ids, round);
                }
                notify(&a, &r, version, cut);
                (0..2).for_each(|_| {
                    a.pass(5000);
                    r.pass(5000);
                    run(&a, &r, version);
                });
                let retries = a
                    .store
                    .view::<_, Error>(|snapshot| ForeignReplica::retries(snapshot, "r"))
                    .unwrap();
                let unput = |id: &String| retries.iter().any(|retry| retry.id == a.record(id).id);
                for id in &ids {
                    if a.record(id).is_destroyed() && r.find(id).is_none() {
                        continue;
                    }
                    match r.find(id) {
                        // A key that became unusable before it came there stays here, by name.
                        None => assert!(unput(id), "{version} {cut:?}"),
                        // When it changed is the receiver's own to say.
                        Some(_) => {
                            assert_eq!(undated(&r, id), undated(&a, id), "{version} {cut:?}")
                        }
                    }
                }
                assert!(r.count() >= 3 && r.count() <= 5, "{version} {cut:?}");
            }
        }
    }
}

trait Finds {
    fn find(&self, id: &str) -> Option<keyferry_store::Record>;
}

impl Finds for Host {
    fn find(&self, id: &str) -> Option<keyferry_store::Record> {
        use keyferry_store::SnapshotExt;
        self.store
            .view::<_, keyferry_store::Error>(|s| {
                Ok(s.by_identifier(id)?.map(|(_, record)| record))
            })
            .unwrap()
    }
}

#[test]
fn what_can_not_be_told_is_named() {
    // Not usable before it came there; destroyed only by explicit leave; what left the selection.
    let selection = Selection::everything().with(V::ObjectGroup("g2".into()));
    let (a, r) = (
        publisher(ForeignReplicaOptions {
            selection,
            may_destroy: false,
            ..ForeignReplicaOptions::default()
        }),
        receiver(),
    );
    let client = a.client(Version::V2_1);
    let ids = fill_groups(&client);
    client
        .revoke(&ids[0], RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    let (report, _) = run(&a, &r, Version::V1_4);
    assert_eq!(
        (report.counts.created, report.counts.failed),
        (4, 1),
        "{}",
        report.table()
    );
    assert_eq!(r.find(&ids[0]), None);
    a.pass(1);
    client.destroy(&ids[1]).unwrap();
    client.delete(&ids[2], V::ObjectGroup("g2".into())).unwrap();
    let (report, _) = run(&a, &r, Version::V1_4);
    assert_eq!(
        (report.counts.updated, report.counts.skipped),
        (1, Some(1)),
        "{}",
        report.table()
    );
    assert_eq!(
        r.record(&ids[1]).attributes.state(),
        Some(State::DEACTIVATED)
    );
    assert_eq!(
        r.record(&ids[2]).attributes.all(tag::OBJECT_GROUP).count(),
        3,
        "it is told of its State alone"
    );
    client
        .revoke(&ids[2], RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    run(&a, &r, Version::V1_4);
    assert_eq!(
        r.record(&ids[2]).attributes.state(),
        Some(State::COMPROMISED)
    );
    // Where Notify is not taken, a changed object is Put in the place of itself, and a revoked one is named.
    let (a, mut r) = (publisher(ForeignReplicaOptions::default()), receiver());
    r.server = std::sync::Arc::new(
        std::sync::Arc::into_inner(r.server)
            .unwrap()
            .with(std::sync::Arc::new(PutAlone)),
    );
    let client = a.client(Version::V2_1);
    let ids = fill_groups(&client);
    run(&a, &r, Version::V1_4);
    client.add(&ids[0], V::ObjectGroup("g9".into())).unwrap();
    client
        .revoke(&ids[1], RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    let mut session = Notifier::new(NotifierOptions {
        notifies: false,
        ..NotifierOptions::new("r")
    });
    let report = drive(
        &a,
        &r,
        &mut session,
        "a.example",
        Cut::Never,
        &mut |_, _| {},
    )
    .unwrap()
    .unwrap();
    assert_eq!(
        (report.counts.updated, report.counts.failed),
        (1, 1),
        "{}",
        report.table()
    );
    assert_eq!(report.failures[0].identifier, ids[1]);
}

/// Takes a Put that replaces, and no Notify.
struct PutAlone;

impl Responder for PutAlone {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Answered, Failure>> {
        match item.operation {
            Operation::NOTIFY => Some(Err(Failure::new(Cause::OperationNotSupported, "not here"))),
            Operation::PUT => {
                let request: PutRequest = item.payload(ask.cx).unwrap();
                let replaces = request.put_function == PutFunction::REPLACE;
                assert_eq!(replaces, request.replaced_unique_identifier.is_some());
                replaces.then(|| {
                    assert!(
                        request.attributes.all(tag::OBJECT_GROUP).count() == 4
                            && request.object.is_some()
                    );
                    Answered::answer(&PutResponse::default(), ask.cx)
                })
            }
            _ => None,
        }
    }
}
