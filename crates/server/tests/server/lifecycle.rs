//! Activate, Revoke, Destroy: the ten transitions, their dates, and what is refused.

use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::Version;

const REASONS: [RevocationReasonCode; 7] = [
    RevocationReasonCode::UNSPECIFIED,
    RevocationReasonCode::KEY_COMPROMISE,
    RevocationReasonCode::CA_COMPROMISE,
    RevocationReasonCode::AFFILIATION_CHANGED,
    RevocationReasonCode::SUPERSEDED,
    RevocationReasonCode::CESSATION_OF_OPERATION,
    RevocationReasonCode::PRIVILEGE_WITHDRAWN,
];

/// An object led to `state` by requests alone.
fn object_in(client: &Client, state: State) -> String {
    let id = client.create(none());
    let compromise = RevocationReasonCode::KEY_COMPROMISE;
    match state {
        State::ACTIVE => client.activate(&id).unwrap(),
        State::DEACTIVATED => {
            client.activate(&id).unwrap();
            client
                .revoke(&id, RevocationReasonCode::SUPERSEDED)
                .unwrap();
        }
        State::COMPROMISED => client.revoke(&id, compromise).unwrap(),
        State::DESTROYED => client.destroy(&id).unwrap(),
        State::DESTROYED_COMPROMISED => {
            client.revoke(&id, compromise).unwrap();
            client.destroy(&id).unwrap();
        }
        _ => {}
    }
    assert_eq!(client.state(&id), state);
    id
}

const STATES: [State; 6] = [
    State::PRE_ACTIVE,
    State::ACTIVE,
    State::DEACTIVATED,
    State::COMPROMISED,
    State::DESTROYED,
    State::DESTROYED_COMPROMISED,
];

#[test]
fn every_state_takes_the_transitions_of_the_standard_and_no_other() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        for state in STATES {
            let destroyed = matches!(state, State::DESTROYED | State::DESTROYED_COMPROMISED);
            let wrong = by(
                version,
                ResultReason::PERMISSION_DENIED,
                if destroyed {
                    ResultReason::OBJECT_DESTROYED
                } else {
                    ResultReason::WRONG_KEY_LIFECYCLE_STATE
                },
            );
            type Event = (
                &'static str,
                fn(&Client, &str) -> ItemResult,
                fn(State) -> Option<State>,
            );
            let events: [Event; 4] = [
                (
                    "activate",
                    |c, id| c.activate(id),
                    |s| (s == State::PRE_ACTIVE).then_some(State::ACTIVE),
                ),
                (
                    "revoke",
                    |c, id| c.revoke(id, RevocationReasonCode::SUPERSEDED),
                    |s| (s == State::ACTIVE).then_some(State::DEACTIVATED),
                ),
                (
                    "compromise",
                    |c, id| c.revoke(id, RevocationReasonCode::KEY_COMPROMISE),
                    |s| match s {
                        State::PRE_ACTIVE | State::ACTIVE | State::DEACTIVATED => {
                            Some(State::COMPROMISED)
                        }
                        State::DESTROYED => Some(State::DESTROYED_COMPROMISED),
                        _ => None,
                    },
                ),
                (
                    "destroy",
                    |c, id| c.destroy(id),
                    |s| match s {
                        State::PRE_ACTIVE | State::DEACTIVATED => Some(State::DESTROYED),
                        State::COMPROMISED => Some(State::DESTROYED_COMPROMISED),
                        _ => None,
                    },
                ),
            ];
            for (what, event, expected) in events {
                let id = object_in(&client, state);
                let before = client.attributes(&id);
                host.pass(1);
                match expected(state) {
                    Some(next) => {
                        event(&client, &id).unwrap();
                        assert_eq!(client.state(&id), next, "{what} {state} in {version}");
                        assert_eq!(
                            client.attributes(&id).date(tag::LAST_CHANGE_DATE),
                            Some(host.now().wall)
                        );
                    }
                    None => {
                        assert_eq!(
                            reason(event(&client, &id)),
                            wrong,
                            "{what} {state} in {version}"
                        );
                        assert_eq!(client.attributes(&id), before, "a refusal changes nothing");
                    }
                }
            }
        }
    }
}

#[test]
fn transitions_set_their_dates() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let id = client.create(none());
        let initial = host.now().wall;
        let date = |tag| client.attributes(&id).date(tag);
        host.pass(10);
        client.activate(&id).unwrap();
        assert_eq!(date(tag::ACTIVATION_DATE), Some(host.now().wall));
        host.pass(10);
        client
            .revoke(&id, RevocationReasonCode::CESSATION_OF_OPERATION)
            .unwrap();
        assert_eq!(date(tag::DEACTIVATION_DATE), Some(host.now().wall));
        assert_eq!(date(tag::COMPROMISE_DATE), None);
        host.pass(10);
        client
            .revoke(&id, RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        assert_eq!(date(tag::COMPROMISE_DATE), Some(host.now().wall));
        assert_eq!(
            date(tag::COMPROMISE_OCCURRENCE_DATE),
            Some(initial),
            "unknown: since it was made"
        );
        host.pass(10);
        client.destroy(&id).unwrap();
        assert_eq!(date(tag::DESTROY_DATE), Some(host.now().wall));
        let Some(V::RevocationReason(reason)) =
            client.attributes(&id).get(tag::REVOCATION_REASON).cloned()
        else {
            panic!()
        };
        assert_eq!(
            (reason.code, reason.message.unwrap()),
            (RevocationReasonCode::KEY_COMPROMISE, "why".into())
        );
    }
}

#[test]
fn a_compromise_may_have_happened_before_it_was_told() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let id = client.create(none());
    client
        .revoke_at(&id, RevocationReasonCode::KEY_COMPROMISE, Some(START - 77))
        .unwrap();
    assert_eq!(
        client.attributes(&id).date(tag::COMPROMISE_OCCURRENCE_DATE),
        Some(DateTime(START - 77))
    );
    let other = client.create(none());
    client.activate(&other).unwrap();
    assert_eq!(
        reason(client.revoke_at(&other, RevocationReasonCode::SUPERSEDED, Some(START))),
        ResultReason::INVALID_FIELD
    );
}

#[test]
fn every_reason_leads_where_it_should() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        for code in REASONS {
            let id = object_in(&client, State::ACTIVE);
            client.revoke(&id, code).unwrap();
            let compromise = matches!(
                code,
                RevocationReasonCode::KEY_COMPROMISE | RevocationReasonCode::CA_COMPROMISE
            );
            let expected = if compromise {
                State::COMPROMISED
            } else {
                State::DEACTIVATED
            };
            assert_eq!(client.state(&id), expected, "{code} in {version}");
            assert_eq!(
                client.attributes(&id).date(tag::COMPROMISE_DATE).is_some(),
                compromise
            );
        }
    }
}

#[test]
fn dates_that_pass_change_what_is_allowed() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let id = client.create(
        none()
            .with(V::ActivationDate(DateTime(START + 10)))
            .with(V::DeactivationDate(DateTime(START + 20))),
    );
    host.pass(10);
    assert_eq!(
        reason(client.activate(&id)),
        ResultReason::WRONG_KEY_LIFECYCLE_STATE,
        "active by its date"
    );
    assert_eq!(
        reason(client.destroy(&id)),
        ResultReason::WRONG_KEY_LIFECYCLE_STATE
    );
    host.pass(10);
    client.destroy(&id).unwrap();
    assert_eq!(client.state(&id), State::DESTROYED);
}

#[test]
fn any_kind_of_object_has_a_lifecycle() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    for (what, object) in crate::objects::all(Version::V2_1) {
        let id = client.register(object, none());
        client.activate(&id).unwrap();
        client
            .revoke(&id, RevocationReasonCode::UNSPECIFIED)
            .unwrap();
        client.destroy(&id).unwrap();
        assert_eq!(client.state(&id), State::DESTROYED, "{what}");
        assert!(host.object(&id).is_none());
    }
}

#[test]
fn each_change_counts_up_the_stamp_by_one() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let id = client.create(none());
    assert_eq!(host.record(&id).stamp.sequence, 1);
    client.activate(&id).unwrap();
    client.activate(&id).unwrap_err();
    client.add(&id, name("n")).unwrap();
    client.attributes(&id);
    assert_eq!(host.record(&id).stamp.sequence, 3);
    assert_eq!(host.record(&id).stamp.issuer, "a");
}
