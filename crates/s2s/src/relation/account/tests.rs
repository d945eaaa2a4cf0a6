//! What an account has, and of what it tells.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::selection::{Selected, Selection};
use crate::testing::TestServer;
use keyferry_kmip::DateTime;
use keyferry_kmip::spec::AttributeValue;
use keyferry_store::{Effects, StoreExt};
use keyferry_ttlv::Extra;

const ALL: [u64; 6] = [1, 2, 3, 4, 5, 6];

/// Notes what a server was sent in one way.
fn send(server: &TestServer, prefix: Vec<u8>, numbers: &[u64]) {
    let numbers: Vec<RecordNumber> = numbers.iter().copied().map(RecordNumber).collect();
    RecordSet::under(prefix)
        .note(&server.store, &numbers)
        .unwrap();
}

/// A relation in which `b` follows, or has followed.
fn relation(server: &TestServer, name: &str, ended: bool) {
    let downstream = Downstream {
        server: "b".into(),
        relation: name.into(),
        selected: Selected::of(&Selection::everything()),
        without: Vec::new(),
        agreed: None,
        session: 1,
        sent: 0,
        acknowledged: 0,
        offers: 0,
        checks: None,
        since: DateTime(1),
        contact: DateTime(1),
        paused: None,
        ended: ended.then_some(true),
        forked: None,
        retried: None,
        terms_differ: None,
        withheld: None,
        extra: Extra::NONE,
    };
    let mut effects = Effects::none();
    effects.state.push(downstream.entry().unwrap());
    server.apply(effects);
}

/// What `b` was sent: in a relation that runs, one that has ended, by pushes of two names, by one to another instance, and in bundles. `c` was sent one
/// record, too.
fn sent() -> TestServer {
    let server = TestServer::new(|peer| peer);
    relation(&server, "runs", false);
    relation(&server, "ended", true);
    send(&server, keys::offered_prefix("b", "runs"), &[1, 2]);
    send(&server, keys::offered_prefix("b", "ended"), &[3]);
    send(&server, keys::pushed_prefix("b", "nightly", b"i"), &[4]);
    send(&server, keys::pushed_prefix("b", "nightly", b"j"), &[5]);
    send(&server, keys::bundle_offered_prefix("b"), &[6, 9000]);
    send(&server, keys::offered_prefix("c", "runs"), &[5]);
    server
}

/// Which records an account has, in its own way and in any.
fn held(
    server: &TestServer,
    open: impl Fn(&dyn Snapshot) -> Result<Account>,
) -> (Vec<u64>, Vec<u64>) {
    let found = server.store.view(|snapshot| {
        let mut account = open(snapshot)?;
        let (mut own, mut any) = (Vec::new(), Vec::new());
        for number in ALL {
            if account.has(snapshot, RecordNumber(number))? {
                own.push(number);
            }
            if account.has_anyhow(snapshot, RecordNumber(number))? {
                any.push(number);
            }
        }
        Ok::<_, crate::error::Error>((own, any))
    });
    found.unwrap()
}

#[test]
fn an_account_has_all_ways_but_relations_that_tell_of_their_copies_themselves() {
    let server = sent();
    assert_eq!(
        held(&server, |s| Account::in_relation(s, "b", "runs")),
        (vec![1, 2], vec![1, 2, 3, 4, 5, 6])
    );
    assert_eq!(
        held(&server, |s| Account::in_relation(s, "b", "ended")),
        (vec![3], vec![3, 4, 5, 6])
    );
    assert_eq!(
        held(&server, |s| Account::in_relation(s, "b", "new")),
        (vec![], vec![3, 4, 5, 6])
    );
    // A push knows the instance of its peer: another one is another server.
    assert_eq!(
        held(&server, |s| Account::by_push(s, "b", ("nightly", b"i"))),
        (vec![4], vec![3, 4, 6])
    );
    assert_eq!(
        held(&server, |s| Account::by_push(s, "b", ("hourly", b"j"))),
        (vec![], vec![3, 5, 6])
    );
    assert_eq!(
        held(&server, |s| Account::in_bundles(s, "b")),
        (vec![6], vec![3, 4, 5, 6])
    );
    assert_eq!(
        held(&server, |s| Account::in_relation(s, "c", "else")),
        (vec![], vec![5])
    );
}

#[test]
fn all_that_were_sent_anything_are_holders() {
    let server = sent();
    let holders = server.store.view(|snapshot| Account::holders(snapshot));
    let mut names: Vec<String> = holders
        .unwrap()
        .into_iter()
        .map(|(name, _)| name.to_string())
        .collect();
    names.sort();
    assert_eq!(names, ["b", "b", "b", "b", "b", "c"]);
}

#[test]
fn what_is_over_is_told_of_to_whoever_was_sent_it() {
    let server = sent();
    for (state, is_told) in [
        (State::PRE_ACTIVE, false),
        (State::ACTIVE, false),
        (State::DEACTIVATED, true),
        (State::COMPROMISED, true),
        (State::DESTROYED, true),
        (State::DESTROYED_COMPROMISED, true),
    ] {
        let id = server.key(&format!("{state}"), Vec::new());
        let mut record = server.record(&id).unwrap();
        record.attributes.set(AttributeValue::State(state));
        let told = server.store.view(|snapshot| {
            let mut account = Account::in_relation(snapshot, "b", "runs")?;
            let told = [2, 6, 7].map(|number| {
                let number = RecordNumber(number);
                account.has_ended(snapshot, number, &record).unwrap()
            });
            Ok::<_, crate::error::Error>(told)
        });
        assert_eq!(told.unwrap(), [is_told, is_told, false], "{state}");
    }
}

#[test]
fn sets_are_found_each_once_however_many_pages_they_have() {
    let server = TestServer::new(|peer| peer);
    let prefix = keys::kept_prefix("b", "r");
    send(&server, prefix.clone(), &[1, 5000, 10_000, 1_000_000]);
    send(&server, keys::kept_prefix("b", "r2"), &[1]);
    send(&server, keys::kept_prefix("bb", "r"), &[1]);
    let under = |prefix: &[u8]| {
        let found = server.store.view(|snapshot| sets_under(snapshot, prefix));
        found.unwrap()
    };
    let all = [
        prefix,
        keys::kept_prefix("b", "r2"),
        keys::kept_prefix("bb", "r"),
    ];
    assert_eq!(under(keys::KEPT), all);
    assert_eq!(under(&keys::kept_by("b")), all[..2]);
    assert_eq!(under(keys::OFFERED), [[0u8; 0]; 0]);
    assert_eq!(keys::first_name(keys::KEPT, &all[2]), "bb");
    assert_eq!(keys::second_name(keys::KEPT, &all[1]), "r2");
}
