//! Random sequences of requests against a naive model.

use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::Version;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Act {
    Create(Option<u8>),
    Import(u8, Option<u8>, bool, u8),
    AddName(usize, u8),
    RemoveName(usize, u8),
    Rename(usize, u8, u8),
    Activate(usize),
    Revoke(usize, bool),
    Destroy(usize),
    Pass(u8),
    Deactivation(usize, i8),
}

fn act() -> impl Strategy<Value = Act> {
    let which = 0usize..8;
    let label = 0u8..6;
    prop_oneof![
        3 => prop::option::of(label.clone()).prop_map(Act::Create),
        2 => (0u8..4, prop::option::of(label.clone()), any::<bool>(), 1u8..7).prop_map(|(i, n, r, s)| Act::Import(i, n, r, s)),
        2 => (which.clone(), label.clone()).prop_map(|(w, n)| Act::AddName(w, n)),
        1 => (which.clone(), label.clone()).prop_map(|(w, n)| Act::RemoveName(w, n)),
        1 => (which.clone(), label.clone(), label).prop_map(|(w, n, m)| Act::Rename(w, n, m)),
        2 => which.clone().prop_map(Act::Activate),
        2 => (which.clone(), any::<bool>()).prop_map(|(w, c)| Act::Revoke(w, c)),
        2 => which.clone().prop_map(Act::Destroy),
        1 => (1u8..5).prop_map(Act::Pass),
        1 => (which, -3i8..6).prop_map(|(w, d)| Act::Deactivation(w, d)),
    ]
}

#[derive(Clone, Debug)]
struct Thing {
    arrival: usize,
    names: Vec<u8>,
    state: State,
    deactivation: Option<i64>,
}

#[derive(Default)]
struct Model {
    things: BTreeMap<String, Thing>,
    now: i64,
}

impl Model {
    fn taken(&self, label: u8, but: Option<&str>) -> bool {
        self.things
            .iter()
            .any(|(id, thing)| Some(id.as_str()) != but && thing.names.contains(&label))
    }

    fn tick(&mut self) {
        for thing in self.things.values_mut() {
            if thing.state == State::ACTIVE
                && thing.deactivation.is_some_and(|date| date <= self.now)
            {
                thing.state = State::DEACTIVATED;
            }
        }
    }

    /// The identifiers in the order of arrival.
    fn nth(&self, n: usize) -> Option<String> {
        let mut ids: Vec<_> = self.things.iter().collect();
        ids.sort_by_key(|(_, thing)| thing.arrival);
        (!ids.is_empty()).then(|| ids[n % ids.len()].0.clone())
    }
}

fn may_become(old: State, new: State) -> bool {
    let destroyed = |s| matches!(s, State::DESTROYED | State::DESTROYED_COMPROMISED);
    let compromised = |s| matches!(s, State::COMPROMISED | State::DESTROYED_COMPROMISED);
    if destroyed(old) || (compromised(old) && !compromised(new)) {
        return false;
    }
    compromised(new) || new.0 >= old.0
}

fn label(n: u8) -> String {
    format!("label {n}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn identifiers_names_and_states_are_those_of_a_plain_map(acts in proptest::collection::vec(act(), 1..40)) {
        let host = Host::new();
        let client = host.client(Version::V2_1);
        let mut model = Model { now: START, ..Model::default() };
        for (step, act) in acts.into_iter().enumerate() {
            match act {
                Act::Create(name) => {
                    let attributes = name.map_or(none(), |n| named(&label(n)));
                    let answered = client.create_with(aes(attributes));
                    prop_assert_eq!(answered.is_ok(), name.is_none_or(|n| !model.taken(n, None)));
                    if let Ok(id) = answered {
                        model.things.insert(id, Thing { arrival: step, names: name.into_iter().collect(), state: State::PRE_ACTIVE, deactivation: None });
                    }
                }
                Act::Import(n, name, replace, state) => {
                    let (id, state) = (format!("import {n}"), State(u32::from(state.min(6))));
                    let attributes = name.map_or(none(), |n| named(&label(n))).with(V::State(state));
                    let material = key(&[n, 2, 3, 4, 5, 6, 7, 8, 1, 1, 1, 1, 1, 1, 1, 1]);
                    let answered = client.import(&id, Some(material), attributes, replace);
                    let allowed = match model.things.get(&id) {
                        Some(held) => replace && held.state != State::COMPROMISED && may_become(held.state, state) && name.is_none_or(|n| !model.taken(n, Some(&id))),
                        None => name.is_none_or(|n| !model.taken(n, None)),
                    };
                    prop_assert_eq!(answered.is_ok(), allowed, "{:?}", answered);
                    if allowed {
                        let arrival = model.things.get(&id).map_or(step, |held| held.arrival);
                        model.things.insert(id, Thing { arrival, names: name.into_iter().collect(), state, deactivation: None });
                    }
                }
                Act::AddName(w, n) => if let Some(id) = model.nth(w) {
                    let answered = client.add(&id, name(&label(n)));
                    prop_assert_eq!(answered.is_ok(), !model.taken(n, None));
                    if answered.is_ok() { model.things.get_mut(&id).unwrap().names.push(n); }
                },
                Act::RemoveName(w, n) => if let Some(id) = model.nth(w) {
                    let thing = model.things.get_mut(&id).unwrap();
                    let answered = client.delete(&id, name(&label(n)));
                    prop_assert_eq!(answered.is_ok(), thing.names.contains(&n));
                    thing.names.retain(|own| *own != n);
                },
                Act::Rename(w, from, to) => if let Some(id) = model.nth(w) {
                    let answered = client.modify(&id, Some(name(&label(from))), name(&label(to)));
                    let own = model.things[&id].names.clone();
                    let expected = own.contains(&from) && !model.taken(to, Some(&id)) && (from == to || !own.contains(&to));
                    prop_assert_eq!(answered.is_ok(), expected, "{:?}", answered);
                    if expected {
                        for name in &mut model.things.get_mut(&id).unwrap().names { if *name == from { *name = to } }
                    }
                },
                Act::Activate(w) => if let Some(id) = model.nth(w) {
                    let thing = model.things.get_mut(&id).unwrap();
                    let answered = client.activate(&id);
                    prop_assert_eq!(answered.is_ok(), thing.state == State::PRE_ACTIVE);
                    if answered.is_ok() { thing.state = State::ACTIVE; }
                },
                Act::Revoke(w, compromise) => if let Some(id) = model.nth(w) {
                    let thing = model.things.get_mut(&id).unwrap();
                    let code = if compromise { RevocationReasonCode::KEY_COMPROMISE } else { RevocationReasonCode::SUPERSEDED };
                    let next = match (thing.state, compromise) {
                        (State::ACTIVE, false) => Some(State::DEACTIVATED),
                        (State::PRE_ACTIVE | State::ACTIVE | State::DEACTIVATED, true) => Some(State::COMPROMISED),
                        (State::DESTROYED, true) => Some(State::DESTROYED_COMPROMISED),
                        _ => None,
                    };
                    prop_assert_eq!(client.revoke(&id, code).is_ok(), next.is_some());
                    thing.state = next.unwrap_or(thing.state);
                },
                Act::Destroy(w) => if let Some(id) = model.nth(w) {
                    let thing = model.things.get_mut(&id).unwrap();
                    let next = match thing.state {
                        State::PRE_ACTIVE | State::DEACTIVATED => Some(State::DESTROYED),
                        State::COMPROMISED => Some(State::DESTROYED_COMPROMISED),
                        _ => None,
                    };
                    prop_assert_eq!(client.destroy(&id).is_ok(), next.is_some());
                    thing.state = next.unwrap_or(thing.state);
                },
                Act::Pass(seconds) => {
                    host.pass(seconds.into());
                    model.now += i64::from(seconds);
                }
                Act::Deactivation(w, days) => if let Some(id) = model.nth(w) {
                    let date = model.now + i64::from(days);
                    let thing = model.things.get_mut(&id).unwrap();
                    let has = client.attributes(&id).date(tag::DEACTIVATION_DATE).is_some();
                    let value = V::DeactivationDate(DateTime(date));
                    let answered = if has { client.modify(&id, None, value) } else { client.add(&id, value) };
                    prop_assert_eq!(answered.is_ok(), matches!(thing.state, State::PRE_ACTIVE | State::ACTIVE), "{:?}", answered);
                    if answered.is_ok() { thing.deactivation = Some(date); }
                },
            }
            model.tick();
        }
        // Everything can be seen, in order, and the store agrees with the model.
        let mut expected: Vec<(&String, &Thing)> = model.things.iter().collect();
        expected.sort_by_key(|(_, thing)| std::cmp::Reverse(thing.arrival));
        let all = StorageStatusMask(7);
        let request = LocateRequest { storage_status_mask: Some(all), offset_items: Some(0), ..client.locate_request(none()) };
        let (found, total) = client.locate_by(&request).unwrap();
        prop_assert_eq!(found, expected.iter().map(|(id, _)| (*id).clone()).collect::<Vec<_>>());
        prop_assert_eq!(total, Some(expected.len() as i32));
        for (id, thing) in &model.things {
            let attributes = client.attributes(id);
            prop_assert_eq!(attributes.state(), Some(thing.state), "{}", id);
            let mut names: Vec<String> = attributes.names().map(|n| n.value.to_string()).collect();
            let mut expected: Vec<String> = thing.names.iter().map(|n| label(*n)).collect();
            names.sort();
            expected.sort();
            prop_assert_eq!(names, expected);
            let gone = matches!(thing.state, State::DESTROYED | State::DESTROYED_COMPROMISED);
            prop_assert_eq!(host.object(id).is_none(), gone);
        }
        for n in 0..6 {
            let request = LocateRequest { storage_status_mask: Some(all), ..client.locate_request(named(&label(n))) };
            let owners: Vec<String> = model.things.iter().filter(|(_, t)| t.names.contains(&n)).map(|(id, _)| id.clone()).collect();
            prop_assert_eq!(client.locate_by(&request).unwrap().0, owners);
        }
        for state in (1..=6).map(State) {
            let request = LocateRequest { storage_status_mask: Some(all), ..client.locate_request(none().with(V::State(state))) };
            let expected: Vec<String> = expected.iter().filter(|(_, t)| t.state == state).map(|(id, _)| (*id).clone()).collect();
            prop_assert_eq!(client.locate_by(&request).unwrap().0, expected);
        }
    }
}
