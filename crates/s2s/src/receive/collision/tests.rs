//! Which object keeps which other one from having a Name, and how Links find their targets.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::policy::Peer;
use crate::testing::TestServer;
use keyferry_kmip::spec::LinkType;
use keyferry_store::Overlay;

fn server() -> TestServer {
    TestServer::new(|peer: Peer| peer)
}

fn name() -> AttributeValue {
    AttributeValue::Name(Name::text("n"))
}

/// Whose an object is: made at this server and issued by that one, in an instance of this number.
#[derive(Clone, Copy, Debug)]
struct Whose(&'static str, &'static str, u8);

/// Made and issued here.
const OWN: Whose = Whose("a", "a", 2);
/// Copies of two servers, one of them relayed or adopted from a foreign server there.
const OF_C: Whose = Whose("c", "c", 7);
const OF_D: Whose = Whose("d", "d", 7);
const BY_C_FROM_F: Whose = Whose("f", "c", 7);
const BY_C_FROM_F_ANEW: Whose = Whose("f", "c", 8);
const BY_C_FROM_G: Whose = Whose("g", "c", 7);
/// Observed here at foreign servers.
const SEEN_AT_F: Whose = Whose("f", "a", 7);
const SEEN_AT_G: Whose = Whose("g", "a", 7);

fn record(server: &TestServer, identifier: &str, whose: Whose, owner: Option<&str>) -> Record {
    let id = server.key(identifier, vec![name()]);
    let mut record = server.record(&id).unwrap();
    let Whose(origin, issuer, instance) = whose;
    record.id.server = origin.into();
    record.id.instance = vec![instance; 16];
    record.stamp.issuer = issuer.into();
    record.owner = owner.map(Into::into);
    record
}

/// Whether `own` may not have the Name that `other` has.
fn is_taken(own: (Whose, Option<&str>), other: (Whose, Option<&str>), local: bool) -> bool {
    let source = server();
    let (own, other) = (
        record(&source, "own", own.0, own.1),
        record(&source, "other", other.0, other.1),
    );
    let server = server();
    server.apply(Effects::change(None, other, Material::Keep));
    let name = Name::text("n");
    server
        .asking(|ask| is_name_taken(&server.node, ask, &name, Some(&own), local))
        .unwrap()
}

#[test]
fn names_clash_where_this_server_has_to_see_to_it() {
    let table = [
        // An object of this server: every other one of its own, and copies of the same client alone.
        (OWN, None, OWN, None, true),
        (OWN, Some("alice"), OF_C, None, false),
        (OWN, Some("alice"), OF_C, Some("bob"), false),
        (OWN, Some("alice"), OF_C, Some("alice"), true),
        (OWN, None, OF_C, None, false),
        (OWN, Some("alice"), SEEN_AT_F, Some("alice"), true),
        (OWN, Some("alice"), SEEN_AT_F, None, false),
        // A copy: whatever is here, unless its issuer has named both.
        (OF_C, None, OWN, None, true),
        (OF_C, None, OF_C, None, false),
        (OF_C, None, OF_D, None, true),
        (OF_D, None, BY_C_FROM_F, None, true),
        // Its issuer has named what it made itself, not what it observes.
        (OF_C, None, BY_C_FROM_F, None, false),
        (BY_C_FROM_F, None, BY_C_FROM_F, None, false),
        (BY_C_FROM_F, None, BY_C_FROM_G, None, true),
        (BY_C_FROM_F, None, BY_C_FROM_F_ANEW, None, true),
        // What is observed here.
        (SEEN_AT_F, None, SEEN_AT_F, None, false),
        (SEEN_AT_F, None, SEEN_AT_G, None, true),
        (SEEN_AT_F, None, OWN, None, true),
    ];
    for (own, owner, other, others, taken) in table {
        assert_eq!(
            is_taken((own, owner), (other, others), false),
            taken,
            "{own:?} {owner:?}, {other:?} {others:?}"
        );
    }
    // A Name that this server makes up is looked for among all.
    assert!(is_taken((OF_C, None), (OF_C, None), true));
    assert!(is_taken((SEEN_AT_F, None), (SEEN_AT_F, None), true));
}

#[test]
fn an_object_does_not_clash_with_itself_and_a_new_one_does_with_others() {
    let server = server();
    let id = server.key("k", vec![name()]);
    let held = server.record(&id).unwrap();
    let taken = |name: &str, own: Option<&Record>| {
        let name = Name::text(name);
        server
            .asking(|ask| is_name_taken(&server.node, ask, &name, own, false))
            .unwrap()
    };
    assert!(!taken("n", Some(&held)));
    // The peer that asks makes a new one.
    assert!(taken("n", None));
    assert!(!taken("m", None));
    let names: Attributes = [name()].into_iter().collect();
    let check = |own| server.asking(|ask| check_names(&server.node, ask, &names, own));
    assert_eq!(check(None).unwrap_err().cause(), Cause::NameExists);
    check(Some(&held)).unwrap();
}

#[test]
fn a_name_that_was_settled_is_not_looked_at_again() {
    let server = server();
    server.key("local", vec![name()]);
    let rename = OnName::Rename("{name} of {server}".into());
    let settle = |record: &mut Record, held: Option<&Record>, on: &OnName| {
        server.asking(|ask| resolve_names(&server.node, ask, record, held, on))
    };
    let copy = || record(&self::server(), "copy", OF_C, None);
    let shown = |record: &Record| {
        let mut names: Vec<String> = record.names().map(|name| name.value.to_string()).collect();
        names.sort();
        names
    };
    let mut first = copy();
    assert!(settle(&mut first, None, &rename).unwrap());
    assert_eq!(shown(&first), ["n of c"]);
    // It goes on with the Name that it got, whatever the policy says now.
    let mut again = first.clone();
    assert!(settle(&mut again, Some(&first), &OnName::Fail).unwrap());
    assert!(settle(&mut first.clone(), None, &OnName::Fail).unwrap());
    assert_eq!(shown(&again), ["n of c"]);
    // A Name that it has had all along needs no other one either.
    let mut known = copy();
    assert!(!settle(&mut known, Some(&copy()), &OnName::Fail).unwrap());
    assert_eq!(shown(&known), ["n"]);
    // A held copy with another Name settles nothing.
    let mut other = copy();
    other.attributes.remove(keyferry_kmip::spec::tag::NAME);
    other.attributes.push(AttributeValue::Name(Name::text("m")));
    let mut named = copy();
    let refused = settle(&mut named, Some(&other), &OnName::Fail).unwrap_err();
    assert_eq!(refused.cause(), Cause::NameExists);
    // Nor does what was hidden for a Name that it has no more.
    let mut stale = copy();
    stale.overlay = Some(Overlay {
        hidden: vec![Hidden::new(AttributeValue::Name(Name::text("old")), None)],
        ..Overlay::default()
    });
    assert!(settle(&mut stale, None, &rename).unwrap());
    assert_eq!(stale.overlay.unwrap().hidden.len(), 1);
}

fn target(identifier: &str) -> ObjectId {
    ObjectId {
        server: "c".into(),
        instance: vec![7; 16],
        identifier: identifier.into(),
    }
}

fn link(to: &str) -> AttributeValue {
    AttributeValue::Link(Link {
        link_type: LinkType::PUBLIC_KEY_LINK,
        target: to.into(),
        extra: Extra::NONE,
    })
}

/// The object of `c` that Links may point to, as it is called here.
fn target_record(identifier: &str, here: &str) -> Record {
    let mut record = record(&server(), "target", OF_C, None);
    record.id = target(identifier);
    record.identifier = here.into();
    record.attributes = Attributes::new();
    record
}

/// A copy with Links to what is here under its own identifier, under another one, to what is not here while another object is called so, and to
/// what is not here; and what its Links have come to.
fn linked() -> (TestServer, Record, Effects) {
    let server = server();
    for (there, here) in [("same", "same"), ("there", "here")] {
        let record = target_record(there, here);
        server.apply(Effects::change(None, record, Material::Keep));
    }
    server.key("another", Vec::new());
    let mut record = record(&self::server(), "copy", OF_C, None);
    record.attributes = ["same", "there", "another", "later"]
        .map(link)
        .into_iter()
        .collect();
    let mut effects = Effects::none();
    server
        .asking(|ask| resolve_links(ask, &mut record, &mut effects))
        .unwrap();
    (server, record, effects)
}

#[test]
fn links_point_to_where_their_targets_are_here() {
    let (_, record, effects) = linked();
    let hidden = record.overlay.unwrap_or_default().hidden;
    let shown: Vec<_> = hidden
        .iter()
        .map(|one| (one.value().cloned(), one.instead().cloned()))
        .collect();
    // One is shown with its identifier here, one would point to a stranger; the others are right as they are.
    assert_eq!(
        shown,
        [
            (Some(link("there")), Some(link("here"))),
            (Some(link("another")), None)
        ]
    );
    assert_eq!(effects.state.len(), 2, "two wait for their targets");
}

#[test]
fn links_that_wait_find_their_targets_when_these_arrive() {
    let (server, record, effects) = linked();
    server.apply(Effects::change(None, record, Material::Keep));
    server.apply(effects);
    let arrive = |identifier: &str, here: &str| {
        let arriving = target_record(identifier, here);
        let mut effects = Effects::none();
        server
            .asking(|ask| resolve_waiting_links(ask, &arriving, &mut effects))
            .unwrap();
        let changes = effects.changes.into_iter();
        let changed: Vec<Record> = changes.map(|change| change.after).collect();
        let state = effects.state.iter().map(|(_, value)| value.is_some());
        (changed, state.collect::<Vec<bool>>())
    };
    let (changed, state) = arrive("later", "later");
    // It is right as it is, and the other target is waited for still.
    assert_eq!((changed.len(), state), (0, vec![false, true]));
    let (changed, state) = arrive("another", "renamed");
    assert_eq!((changed.len(), state), (1, vec![false, true]));
    let hidden = &changed[0].overlay.as_ref().unwrap().hidden;
    assert_eq!(hidden[1].instead(), Some(&link("renamed")));
    assert_eq!(arrive("nobody waits", "for it").0.len(), 0);
}

struct NoRandom;

impl keyferry_kmip::Random for NoRandom {
    fn fill(&mut self, _: &mut [u8]) -> Result<(), keyferry_kmip::RandomFailed> {
        Err(keyferry_kmip::RandomFailed)
    }
}

#[test]
fn a_lack_of_randomness_is_a_failure_of_this_server_and_not_of_the_object() {
    let failure = crate::node::new_identifier(&mut NoRandom).err();
    assert!(failure.is_some_and(|failure| {
        failure.cause() == Cause::Cryptographic && crate::receive::apply::is_internal(&failure)
    }));
}
