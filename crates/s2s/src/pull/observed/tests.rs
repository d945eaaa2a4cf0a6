//! What becomes of what a foreign server shows, by what is held of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::policy::{OnName, Peer};
use crate::testing::TestServer;
use keyferry_kmip::spec::{CryptographicAlgorithm, ObjectType};
use keyferry_kmip::{CustomAttribute, DateTime, Name, Secret};
use keyferry_store::{Hidden, Overlay};

fn server() -> TestServer {
    TestServer::new(|peer: Peer| peer)
}

fn key(byte: u8) -> Object {
    Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&[byte; 16]))
}

fn shown(attributes: Vec<AttributeValue>) -> SeenObject {
    SeenObject {
        identifier: "k".into(),
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: attributes.into_iter().collect(),
        object: Some(key(1)),
        wrapped_by: None,
    }
}

fn active() -> Vec<AttributeValue> {
    vec![
        AttributeValue::State(State::ACTIVE),
        AttributeValue::InitialDate(DateTime(5)),
        AttributeValue::LastChangeDate(DateTime(6)),
    ]
}

fn id() -> ObjectId {
    ObjectId {
        server: "f".into(),
        instance: vec![4],
        identifier: "k".into(),
    }
}

/// Sees an object at the foreign server `f`, and takes it for good where an adopter is named. The effects are applied.
fn see(
    server: &TestServer,
    sight: SeenObject,
    adopter: Option<&str>,
) -> Result<(Outcome, Option<String>), Failure> {
    let adopter = adopter.map(Text::from);
    let collisions = Collisions {
        name: OnName::Rename("{name} of {server}".into()),
        ..Collisions::default()
    };
    let of = Observed {
        server: &"f".into(),
        instance: &[4],
        adopter: adopter.as_ref(),
    };
    let (merged, why) = server.asking(|ask| {
        let (incoming, held) = observed_copy(&server.node, ask, &of, sight)?;
        take_observed(&server.node, ask, &collisions, incoming, held.as_ref())
    })?;
    server.apply(merged.effects);
    Ok((merged.outcome, why))
}

fn held(server: &TestServer) -> Record {
    server.record(&id()).unwrap()
}

#[test]
fn what_is_seen_again_is_the_same_change_and_what_differs_is_the_next() {
    let server = server();
    assert_eq!(
        see(&server, shown(active()), None).unwrap(),
        (Outcome::Created, None)
    );
    let first = held(&server);
    assert_eq!(
        (first.stamp.epoch, first.stamp.sequence, first.owner.clone()),
        (1, 1, None)
    );
    assert_eq!(first.stamp.issuer, "a");
    assert_eq!(
        see(&server, shown(active()), None).unwrap(),
        (Outcome::Unchanged, None)
    );
    assert_eq!(held(&server).stamp, first.stamp);
    let mut more = active();
    more.push(AttributeValue::Comment("new".into()));
    assert_eq!(
        see(&server, shown(more), None).unwrap(),
        (Outcome::Updated, None)
    );
    assert_eq!(held(&server).stamp.sequence, 2);
}

#[test]
fn what_the_server_does_not_tell_any_more_stays_as_it_was_told() {
    let server = server();
    see(&server, shown(active()), None).unwrap();
    let first = held(&server);
    assert!(first.attributes.get(tag::DIGEST).is_some());
    let comment = AttributeValue::Comment("all that is told".into());
    see(&server, shown(vec![comment]), None).unwrap();
    let now = held(&server);
    for tag in [tag::STATE, tag::INITIAL_DATE, tag::DIGEST] {
        assert_eq!(now.attributes.get(tag), first.attributes.get(tag), "{tag}");
    }
    // Other attributes are gone when they are not told.
    see(&server, shown(active()), None).unwrap();
    assert!(held(&server).attributes.get(tag::COMMENT).is_none());
}

#[test]
fn what_it_says_of_other_servers_is_left_out_and_what_contradicts_itself_is_refused() {
    let server = server();
    let mut attributes = active();
    let custom = |name| AttributeValue::Custom(CustomAttribute::text(name, "a"));
    attributes.extend([custom("s2s-master"), custom("site")]);
    see(&server, shown(attributes), None).unwrap();
    let customs = held(&server).attributes;
    let customs: Vec<_> = customs
        .iter()
        .filter(|one| matches!(one.value, AttributeValue::Custom(_)))
        .collect();
    assert_eq!(customs.len(), 1);
    assert_eq!(customs[0].value, custom("site"));
    let mut other = Attributes::new();
    server.node.digest(&mut other, &key(2));
    let mut attributes = active();
    attributes.extend(other.all(tag::DIGEST).cloned());
    assert!(see(&server, shown(attributes), None).is_err());
}

#[test]
fn what_is_taken_over_belongs_to_the_adopter_and_its_names_are_its_own() {
    let server = server();
    let taken = Name::text("key");
    server.key("local", vec![AttributeValue::Name(taken.clone())]);
    // The local object belongs to the client that takes over.
    let local = ObjectId {
        server: "a".into(),
        instance: vec![2; 16],
        identifier: "local".into(),
    };
    server.change(&local, |record| record.owner = Some("client".into()));
    let mut attributes = active();
    attributes.push(AttributeValue::Name(taken.clone()));
    assert_eq!(
        see(&server, shown(attributes.clone()), Some("client"))
            .unwrap()
            .0,
        Outcome::Renamed
    );
    let adopted = held(&server);
    assert_eq!(
        (
            adopted.stamp.epoch,
            adopted.stamp.sequence,
            adopted.lineage.len()
        ),
        (2, 2, 2)
    );
    assert_eq!(adopted.owner.as_deref(), Some("client"));
    assert_eq!(
        adopted.attributes.names().collect::<Vec<_>>(),
        [&Name::text("key of f")]
    );
    assert_eq!(adopted.overlay, None);
    // What is only observed keeps the Name that its master gave it, and shows another one.
    let server = self::server();
    server.key("local", vec![AttributeValue::Name(taken.clone())]);
    assert_eq!(
        see(&server, shown(attributes.clone()), None).unwrap().0,
        Outcome::Renamed
    );
    assert_eq!(
        held(&server).names().collect::<Vec<_>>(),
        [&Name::text("key of f")]
    );
    assert_eq!(
        held(&server).attributes.names().collect::<Vec<_>>(),
        [&taken]
    );
    // Taken over already: whoever pulls, it stays so.
    let server = self::server();
    see(&server, shown(active()), Some("client")).unwrap();
    let before = held(&server);
    let (outcome, why) = see(&server, shown(attributes), Some("another")).unwrap();
    assert_eq!(
        (outcome, why.as_deref()),
        (Outcome::Unchanged, Some("this server has taken it over"))
    );
    assert_eq!(held(&server), before);
}

#[test]
fn names_alone_become_the_objects_own() {
    let hide = |value: AttributeValue, instead: Option<AttributeValue>| Hidden::new(value, instead);
    let name = |text: &str| AttributeValue::Name(Name::text(text));
    let link = AttributeValue::Comment("stands for a link".into());
    let make = |epoch, hidden: Vec<Hidden>| {
        let server = server();
        let id = server.key("k", vec![name("shown there"), name("gone")]);
        let mut record = server.record(&id).unwrap();
        record.stamp.epoch = epoch;
        record.overlay = Some(Overlay {
            hidden,
            ..Overlay::default()
        });
        own_names(&mut record);
        record
    };
    let names = |record: &Record| -> Vec<String> {
        record
            .attributes
            .names()
            .map(|name| name.value.to_string())
            .collect()
    };
    let both = || {
        vec![
            hide(name("shown there"), Some(name("shown here"))),
            hide(name("gone"), None),
        ]
    };
    let own = make(2, both());
    assert_eq!(
        (names(&own), own.overlay),
        (vec!["shown here".to_owned()], None)
    );
    let mut more = both();
    more.push(hide(link.clone(), None));
    let own = make(2, more);
    assert_eq!(names(&own), ["shown here"]);
    assert_eq!(own.overlay.unwrap().hidden, [hide(link, None)]);
    // A copy keeps the Names that its issuer gave it.
    let copy = make(1, both());
    assert_eq!(names(&copy), ["shown there", "gone"]);
    assert_eq!(copy.overlay.unwrap().hidden.len(), 2);
}

#[test]
fn what_another_server_issues_or_is_another_object_is_left_alone() {
    let server = server();
    see(&server, shown(active()), None).unwrap();
    let other_type = SeenObject {
        object_type: ObjectType::SECRET_DATA,
        object: None,
        ..shown(active())
    };
    assert!(see(&server, other_type, None).is_err());
    server.change(&id(), |record| record.stamp.issuer = "c".into());
    let before = held(&server);
    let mut attributes = active();
    attributes.push(AttributeValue::Comment("new".into()));
    let (outcome, why) = see(&server, shown(attributes.clone()), None).unwrap();
    assert_eq!(
        (outcome, why.as_deref()),
        (Outcome::Unchanged, Some("another server issues it"))
    );
    let other_type = SeenObject {
        object_type: ObjectType::SECRET_DATA,
        object: None,
        ..shown(attributes)
    };
    assert!(see(&server, other_type, None).is_err());
    assert_eq!(held(&server), before);
}

#[test]
fn a_state_that_goes_back_is_named_and_one_that_goes_on_is_not() {
    let server = server();
    let in_state = |state| {
        let mut attributes = active();
        attributes.retain(|value| value.tag() != tag::STATE);
        attributes.push(AttributeValue::State(state));
        attributes
    };
    see(&server, shown(in_state(State::ACTIVE)), None).unwrap();
    let (_, why) = see(&server, shown(in_state(State::DEACTIVATED)), None).unwrap();
    assert_eq!(why, None);
    let (outcome, why) = see(&server, shown(in_state(State::ACTIVE)), None).unwrap();
    assert_eq!(outcome, Outcome::Updated);
    assert!(why.unwrap().contains("Deactivated counts here"));
    assert_eq!(held(&server).stored_state(), Some(State::DEACTIVATED));
    let alarms = server.asking(|ask| Alarm::all(ask.snapshot)).unwrap();
    assert_eq!((alarms.len(), &*alarms[0].server), (1, "f"));
}
