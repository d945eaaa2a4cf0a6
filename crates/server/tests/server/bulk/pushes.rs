//! Pushes that are repeated: whoever was sent an object hears what becomes of it, also when it is selected no more or may not leave any more.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{Bulk, BulkOptions, Report, Selection, Strategy};
use keyferry_ttlv::Version;

fn group(name: &str) -> V {
    V::ObjectGroup(name.into())
}

fn shop() -> Selection {
    Selection::everything().with(group("shop"))
}

fn push(a: &Host, b: &Host, strategy: Strategy, selection: Selection, cut: Cut) -> Option<Report> {
    let mut session = Bulk::new(BulkOptions {
        selection,
        ..options(strategy)
    });
    let report = drive(a, b, &mut session, "a.example", cut, &mut |_, _| {})?;
    Some(report.unwrap())
}

/// Objects of the shop at `a`; each is brought to an end in another way once it was pushed.
fn fill_shop(a: &Host, count: usize) -> Vec<String> {
    let client = a.client(Version::V2_1);
    let all = (0..count).map(|n| {
        let attributes = named(&format!("key {n}")).with(group("shop"));
        let id = client.create(attributes);
        client.activate(&id).unwrap();
        id
    });
    all.collect()
}

#[test]
fn what_has_left_the_selection_of_a_push_is_still_heard_of() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let ids = fill_shop(&a, 5);
        let elsewhere = a.client(Version::V2_1).create(named("elsewhere"));
        push(&a, &b, strategy, shop(), Cut::Never).unwrap();
        let client = a.client(Version::V2_1);
        a.pass(10);
        for id in &ids[..4] {
            client.modify(id, None, group("warehouse")).unwrap();
        }
        // One leaves and is compromised, one is destroyed, one is deactivated, one may be used still, and one stays in the shop.
        client
            .revoke(&ids[0], RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        client
            .revoke(&ids[1], RevocationReasonCode::CESSATION_OF_OPERATION)
            .unwrap();
        client.destroy(&ids[1]).unwrap();
        client
            .revoke(&ids[2], RevocationReasonCode::CESSATION_OF_OPERATION)
            .unwrap();
        client.add(&ids[3], name("later")).unwrap();
        let report = push(&a, &b, strategy, shop(), Cut::Never).unwrap();
        assert_eq!(counts(&report), (0, 3, 1, 0), "{strategy:?}");
        assert_same(&a, &b, &ids[..3]);
        let there = b.client(Version::V2_1);
        assert_eq!(there.state(&ids[0]), State::COMPROMISED);
        assert!(b.object(&ids[1]).is_none());
        assert_eq!(there.state(&ids[2]), State::DEACTIVATED);
        // Clients of the master see where a copy is.
        let is_there = |id: &str| {
            let attributes = a.client(Version::V2_1).attributes(id);
            attributes
                .iter()
                .any(|one| one.value == custom("s2s-slave-b", "1"))
        };
        assert!(ids.iter().all(|id| is_there(id)) && !is_there(&elsewhere));
        // What was never sent is not told of.
        assert!(
            there
                .get_attributes(&elsewhere, AttributeReferences::default())
                .is_err()
        );
        // Nothing new is unchanged.
        let again = push(&a, &b, strategy, shop(), Cut::Never).unwrap();
        assert_eq!(counts(&again), (0, 0, 4, 0));
    }
}

#[test]
fn what_may_not_leave_any_more_is_heard_of_and_its_material_stays() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let ids = fill_shop(&a, 2);
        push(&a, &b, strategy, shop(), Cut::Never).unwrap();
        let client = a.client(Version::V2_1);
        a.pass(10);
        client.modify(&ids[0], None, V::Sensitive(true)).unwrap();
        client
            .revoke(&ids[0], RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        // This one was Sensitive before it could be sent.
        let withheld = client.create(
            named("withheld")
                .with(group("shop"))
                .with(V::Sensitive(true)),
        );
        let report = push(&a, &b, strategy, shop(), Cut::Never).unwrap();
        assert_eq!(
            counts(&report),
            (0, 1, 1, 1),
            "{strategy:?}: {}",
            report.table()
        );
        assert_eq!(b.client(Version::V2_1).state(&ids[0]), State::COMPROMISED);
        assert!(b.object(&ids[0]).is_some(), "what was brought stays");
        assert!(
            b.client(Version::V2_1)
                .get_attributes(&withheld, AttributeReferences::default())
                .is_err()
        );
    }
}

#[test]
fn a_push_that_was_cut_off_is_remembered_as_far_as_it_may_have_come() {
    for (strategy, cut) in BOTH.into_iter().flat_map(|strategy| {
        (1..4).flat_map(move |at| {
            [Cut::Before(at), Cut::Behind(at), Cut::Dead(at)].map(|cut| (strategy, cut))
        })
    }) {
        let (a, b) = (master(), replica());
        let ids = fill_shop(&a, 7);
        push(&a, &b, strategy, shop(), cut);
        let client = a.client(Version::V2_1);
        a.pass(10);
        for id in &ids {
            client.modify(id, None, group("warehouse")).unwrap();
            client
                .revoke(id, RevocationReasonCode::KEY_COMPROMISE)
                .unwrap();
        }
        let report = push(&a, &b, strategy, shop(), Cut::Never).unwrap();
        assert_eq!(
            report.counts.failed,
            0,
            "{strategy:?} {cut:?}: {}",
            report.table()
        );
        for id in &ids {
            let client = b.client(Version::V2_1);
            if let Ok(attributes) = client.get_attributes(id, AttributeReferences::default()) {
                assert_eq!(
                    attributes.state(),
                    Some(State::COMPROMISED),
                    "{strategy:?} {cut:?}"
                );
            }
        }
        let there = b.count();
        assert_eq!(
            report.counts.updated + report.counts.unchanged,
            there as i64,
            "{strategy:?} {cut:?}: {}",
            report.table()
        );
    }
}
