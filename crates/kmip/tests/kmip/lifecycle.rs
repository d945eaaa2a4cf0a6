//! States, transitions, dates: every combination.

use keyferry_kmip::lifecycle::{
    Event, Rank, apply, is_compromised, is_destroyed, is_lifecycle_attribute,
    is_server_lifecycle_attribute, state_at,
};
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::Extra;

const STATES: [State; 6] = [
    State::PRE_ACTIVE,
    State::ACTIVE,
    State::DEACTIVATED,
    State::COMPROMISED,
    State::DESTROYED,
    State::DESTROYED_COMPROMISED,
];
const NOW: DateTime = DateTime(1000);

fn revoke(code: RevocationReasonCode) -> Event {
    Event::Revoke(
        RevocationReason {
            code,
            message: None,
            extra: Extra::NONE,
        },
        None,
    )
}

fn events() -> Vec<Event> {
    let mut events = vec![Event::Activate, Event::Destroy];
    events.extend((1..=7).map(|code| revoke(RevocationReasonCode(code))));
    events
}

/// The transitions of KMIP 2.1 §4.57 that requests lead to.
fn expected(state: State, event: &Event) -> Option<State> {
    use State as S;
    Some(match (state, event) {
        (S::PRE_ACTIVE, Event::Activate) => S::ACTIVE,
        (S::PRE_ACTIVE | S::DEACTIVATED, Event::Destroy) => S::DESTROYED,
        (S::COMPROMISED, Event::Destroy) => S::DESTROYED_COMPROMISED,
        (_, Event::Revoke(reason, _)) => match (state, matches!(reason.code.0, 2 | 3)) {
            (S::PRE_ACTIVE | S::ACTIVE | S::DEACTIVATED, true) => S::COMPROMISED,
            (S::DESTROYED, true) => S::DESTROYED_COMPROMISED,
            (S::ACTIVE, false) => S::DEACTIVATED,
            _ => return None,
        },
        _ => return None,
    })
}

#[test]
fn exactly_the_ten_transitions() {
    for state in STATES {
        for event in events() {
            let mut attributes = Attributes::new()
                .with(V::State(state))
                .with(V::InitialDate(DateTime(1)));
            let before = attributes.clone();
            let applied = apply(&mut attributes, &event, NOW);
            match expected(state, &event) {
                Some(next) => {
                    applied.unwrap();
                    assert_eq!(attributes.state(), Some(next), "{state} {event:?}");
                    assert!(
                        Rank::of(state).may_become(Rank::of(next)),
                        "a transition never goes back"
                    );
                    let date = |tag| attributes.date(tag);
                    assert_eq!(date(tag::DESTROY_DATE).is_some(), event == Event::Destroy);
                    assert_eq!(
                        date(tag::ACTIVATION_DATE).is_some(),
                        event == Event::Activate
                    );
                    let compromise = is_compromised(next) && event != Event::Destroy;
                    assert_eq!(
                        (
                            date(tag::COMPROMISE_DATE),
                            date(tag::COMPROMISE_OCCURRENCE_DATE)
                        ),
                        if compromise {
                            (Some(NOW), Some(DateTime(1)))
                        } else {
                            (None, None)
                        }
                    );
                    assert_eq!(
                        date(tag::DEACTIVATION_DATE).is_some(),
                        next == State::DEACTIVATED
                    );
                    assert_eq!(
                        attributes.get(tag::REVOCATION_REASON).is_some(),
                        matches!(event, Event::Revoke(..))
                    );
                }
                None => {
                    let cause = if is_destroyed(state) {
                        Cause::ObjectDestroyed
                    } else {
                        Cause::WrongState
                    };
                    assert_eq!(applied.unwrap_err().cause(), cause, "{state} {event:?}");
                    assert_eq!(attributes, before);
                }
            }
        }
    }
}

#[test]
fn dates_that_have_passed_move_the_state_on() {
    let dates = [None, Some(NOW.0 - 1), Some(NOW.0), Some(NOW.0 + 1)];
    for state in STATES {
        for activation in dates {
            for deactivation in dates {
                let mut attributes = Attributes::new().with(V::State(state));
                attributes = activation.into_iter().fold(attributes, |all, date| {
                    all.with(V::ActivationDate(DateTime(date)))
                });
                attributes = deactivation.into_iter().fold(attributes, |all, date| {
                    all.with(V::DeactivationDate(DateTime(date)))
                });
                let reached = |date: Option<i64>| date.is_some_and(|date| date <= NOW.0);
                let expected = match state {
                    State::PRE_ACTIVE if reached(activation) && reached(deactivation) => {
                        State::DEACTIVATED
                    }
                    State::PRE_ACTIVE if reached(activation) => State::ACTIVE,
                    State::ACTIVE if reached(deactivation) => State::DEACTIVATED,
                    other => other,
                };
                assert_eq!(state_at(&attributes, NOW), Some(expected), "{attributes:?}");
                // Events see the state that the dates have led to.
                let destroyed = apply(&mut attributes.clone(), &Event::Destroy, NOW);
                assert_eq!(
                    destroyed.is_ok(),
                    !matches!(
                        expected,
                        State::ACTIVE | State::DESTROYED | State::DESTROYED_COMPROMISED
                    )
                );
            }
        }
    }
    assert_eq!(state_at(&Attributes::new(), NOW), None);
}

#[test]
fn dates_that_contradict_each_other_are_refused() {
    let at = |seconds: i64| DateTime(1_700_000_000 + seconds);
    let activated = |of: i64| V::ActivationDate(at(of));
    let started = |of: i64| V::ProcessStartDate(at(of));
    let stopped = |of: i64| V::ProtectStopDate(at(of));
    let deactivated = |of: i64| V::DeactivationDate(at(of));
    let check = |dates: &[V]| {
        let mut attributes = Attributes::new();
        dates.iter().cloned().for_each(|date| attributes.set(date));
        lifecycle::check_dates(&attributes).map_err(|failure| failure.cause())
    };
    let refused = Err(Cause::InvalidAttribute);
    for (dates, expected) in [
        (vec![activated(10), started(10)], Ok(())),
        (vec![activated(10), started(11)], Ok(())),
        (vec![activated(10), started(9)], refused),
        (vec![stopped(20), deactivated(20)], Ok(())),
        (vec![stopped(19), deactivated(20)], Ok(())),
        (vec![stopped(21), deactivated(20)], refused),
        (vec![activated(10), started(9), stopped(9)], refused),
        (vec![started(1), stopped(30)], Ok(())),
        (vec![activated(30), deactivated(1)], Ok(())),
        (
            vec![activated(10), deactivated(20), started(12), stopped(18)],
            Ok(()),
        ),
        (vec![], Ok(())),
    ] {
        assert_eq!(check(&dates), expected, "{dates:?}");
    }
}

#[test]
fn joining_states_is_a_semilattice_that_never_goes_back() {
    let join = |a: State, b: State| Rank::of(a).joined_state(Rank::of(b));
    for a in STATES {
        assert_eq!(join(a, a), a);
        for b in STATES {
            let joined = join(a, b);
            assert_eq!(joined, join(b, a));
            assert!(
                Rank::of(a).may_become(Rank::of(joined)),
                "{a} and {b} join to {joined}"
            );
            assert_eq!(is_destroyed(joined), is_destroyed(a) || is_destroyed(b));
            assert_eq!(
                is_compromised(joined),
                is_compromised(a) || is_compromised(b)
            );
            for c in STATES {
                assert_eq!(join(join(a, b), c), join(a, join(b, c)));
            }
        }
    }
}

#[test]
fn may_become_is_the_reach_of_the_transitions() {
    let mut reach: Vec<(State, State)> = STATES.iter().map(|state| (*state, *state)).collect();
    loop {
        let before = reach.len();
        for (from, to) in reach.clone() {
            let dated = match to {
                State::PRE_ACTIVE => Some(State::ACTIVE),
                State::ACTIVE => Some(State::DEACTIVATED),
                _ => None,
            };
            for next in events()
                .iter()
                .filter_map(|event| expected(to, event))
                .chain(dated)
            {
                if !reach.contains(&(from, next)) {
                    reach.push((from, next));
                }
            }
        }
        if reach.len() == before {
            break;
        }
    }
    for from in STATES {
        for to in STATES {
            assert_eq!(
                Rank::of(from).may_become(Rank::of(to)),
                reach.contains(&(from, to)),
                "{from} to {to}"
            );
        }
    }
}

#[test]
fn the_attributes_of_the_life_cycle_are_those_that_a_transition_sets() {
    let before = |state| {
        Attributes::new()
            .with(V::State(state))
            .with(V::InitialDate(DateTime(1)))
    };
    let revoke = |code| {
        let reason = RevocationReason {
            code,
            message: None,
            extra: Extra::NONE,
        };
        Event::Revoke(reason, Some(DateTime(1)))
    };
    let mut set = std::collections::BTreeSet::new();
    for (state, event) in [
        (State::PRE_ACTIVE, Event::Activate),
        (
            State::ACTIVE,
            revoke(RevocationReasonCode::CESSATION_OF_OPERATION),
        ),
        (State::ACTIVE, revoke(RevocationReasonCode::KEY_COMPROMISE)),
        (State::DEACTIVATED, Event::Destroy),
    ] {
        let mut after = before(state);
        apply(&mut after, &event, DateTime(2)).unwrap();
        set.extend(
            after
                .iter()
                .filter(|attribute| !before(state).iter().any(|old| old == *attribute))
                .map(|attribute| attribute.value.tag()),
        );
    }
    for row in attribute_rows() {
        assert_eq!(
            is_lifecycle_attribute(row.tag),
            set.contains(&row.tag),
            "{}",
            row.name
        );
        assert_eq!(
            is_server_lifecycle_attribute(row.tag),
            set.contains(&row.tag) && row.set_by == SetBy::Server,
            "{}",
            row.name
        );
    }
}
