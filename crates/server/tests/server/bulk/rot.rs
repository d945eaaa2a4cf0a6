//! Bits that were flipped in a replica's sealed store: what can't be read any more is found, sent again by its issuer, and counted.

use crate::bulk::follows::{follow_options, issuer};
use crate::support::*;
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::{Answer, DateTime, Identity, Object, ResponseMessage, Secret, Ticket};
use keyferry_s2s::*;
use keyferry_server::{Access, Options, Server};
use keyferry_store::{
    Home, Incarnation, IndexKey, MaterialChange, Memory, Part, Put, Record, RecordNumber, Sealed,
    Snapshot, SnapshotExt, StoreExt,
};
use keyferry_ttlv::{Extra, Version};
use std::ops::ControlFlow;
use std::sync::Arc;

struct Replica {
    behind: Arc<Memory>,
    store: Sealed<Arc<Memory>>,
    node: Arc<Node>,
}

impl Replica {
    fn new() -> Replica {
        let behind = Arc::new(Memory::new(Incarnation([7; 16])));
        let key = Secret::new(&[1; 32]);
        let mut random = SystemRandom::new();
        let store = Sealed::open(behind.clone(), Arc::new(Ring::new()), key, &mut random).unwrap();
        let home = || Home {
            server: "b".into(),
            instance: vec![7; 16],
            fingerprint_key: Secret::new(&[2; 32]),
            extra: Extra::NONE,
        };
        let home = store.home("b", home).unwrap();
        let node = Node::new(home, Policy::closed(), Arc::new(Ring::new()));
        Replica {
            behind,
            store,
            node: Arc::new(node),
        }
    }

    /// Takes all there is, by a session that knows nothing but what is stored.
    fn pass(&self, a: &Host) -> Report {
        self.try_pass(a).unwrap()
    }

    fn try_pass(&self, a: &Host) -> Result<Report, Error> {
        let (mut session, mut random) = (
            Follow::new(self.node.clone(), follow_options()),
            SystemRandom::new(),
        );
        for ticket in 0..1000 {
            let mut cx = SessionContext {
                now: a.now(),
                store: &self.store,
                random: &mut random,
            };
            let asked = match session.poll(&mut cx, Ticket(ticket))? {
                Step::Send(asked) => asked,
                Step::Done(report) => return Ok(*report),
                other => panic!("{other:?}"),
            };
            let frame = asked.to_frame().unwrap();
            let Answer::Reply(reply) =
                a.server
                    .answer(&Identity::new("b.example"), a.now(), &frame)
            else {
                panic!("no answer")
            };
            let answer = ResponseMessage::from_frame(&reply).unwrap();
            session.answer(&mut cx, Ticket(ticket), Ok(answer))?;
        }
        panic!("it does not end")
    }

    fn flip(&self, number: u64, part: Part) {
        flip(&self.behind, RecordNumber(number), part);
    }

    /// Has another entry stand in the feed for a record, and other keys in the indexes, behind the seal.
    fn misplace(
        &self,
        number: u64,
        entry: impl Fn(&mut Vec<u8>),
        keys: impl Fn(&[IndexKey]) -> (Vec<IndexKey>, Vec<IndexKey>),
    ) {
        let number = RecordNumber(number);
        self.behind
            .transact::<_, keyferry_store::Error>(|at| {
                let row = at.get(number, Part::Attributes)?.unwrap();
                let mut stands = Vec::new();
                at.feed(0, &mut |row| {
                    if row.record == number {
                        stands = row.entry.to_vec();
                    }
                    Ok(ControlFlow::Continue(()))
                })?;
                entry(&mut stands);
                let (remove, insert) = keys(&at.remains(number)?.unwrap().keys);
                at.put(&[Put {
                    number: Some(number),
                    id: &row.id,
                    attributes: &row.attributes,
                    material: MaterialChange::Keep,
                    remove: &remove,
                    insert: &insert,
                    entry: &stands,
                }])
            })
            .unwrap();
        assert!(!self.store.verify().unwrap().is_sound());
    }

    fn scrub(&self, now: DateTime) -> Scrub {
        self.node.scrub(&self.store, 1000, now).unwrap()
    }

    fn upstream(&self) -> Upstream {
        let found = self.store.view::<_, Error>(|at| Upstream::find(at, "r"));
        found.unwrap().unwrap()
    }

    fn rotten(&self) -> Vec<u64> {
        let listed = self.store.view::<_, Error>(|at| RottenRecord::all(at));
        let numbers = listed.unwrap().into_iter().map(|one| one.number as u64);
        numbers.collect()
    }
}

/// Flips a bit of what stands of a record behind the seal.
fn flip(behind: &Memory, number: RecordNumber, part: Part) {
    behind
        .transact::<_, keyferry_store::Error>(|at| {
            let mut row = at.get(number, Part::Whole)?.unwrap();
            let mut entry = Vec::new();
            at.feed(0, &mut |row| {
                if row.record == number {
                    entry = row.entry.to_vec();
                }
                Ok(ControlFlow::Continue(()))
            })?;
            let material = match part {
                Part::Attributes => {
                    let middle = row.attributes.len() / 2;
                    row.attributes[middle] ^= 4;
                    MaterialChange::Keep
                }
                Part::Whole => {
                    let material = row.material.as_mut().unwrap();
                    let middle = material.len() / 2;
                    material[middle] ^= 4;
                    MaterialChange::Set(material)
                }
            };
            at.put(&[Put {
                number: Some(number),
                id: &row.id,
                attributes: &row.attributes,
                material,
                remove: &[],
                insert: &[],
                entry: &entry,
            }])
        })
        .unwrap();
}

/// An issuer with so many keys, and its replica.
fn filled(objects: usize) -> (Host, Replica, Vec<String>) {
    let (a, b) = (issuer(), Replica::new());
    let client = a.client(Version::V2_1);
    let ids = (0..objects)
        .map(|n| client.create(named(&format!("key {n}"))))
        .collect();
    let what = UpstreamOptions::default();
    Upstream::follow(&b.store, "r", "a", &what, a.now().wall).unwrap();
    b.pass(&a);
    (a, b, ids)
}

fn all_equal(a: &Host, b: &Replica, ids: &[String]) {
    for id in ids {
        let held = |at: &dyn Snapshot| at.by_identifier(id);
        let (_, own) = a.store.view(held).unwrap().unwrap();
        let (number, copy) = b.store.view(held).unwrap().unwrap();
        assert_eq!(
            (&own.id, &own.stamp, own.copy_digest().unwrap()),
            (&copy.id, &copy.stamp, copy.copy_digest().unwrap())
        );
        let material = b.store.view(|at| at.whole(number)).unwrap().unwrap().1;
        assert!(material.is_some(), "{id}");
    }
    let verified = b.store.verify().unwrap();
    assert!(verified.is_sound(), "{verified}: {:?}", verified.named);
}

#[test]
fn a_record_that_can_not_be_read_is_sent_again_into_its_place() {
    let (a, b, ids) = filled(20);
    all_equal(&a, &b, &ids);
    for number in [3, 4, 11] {
        b.flip(number, Part::Attributes);
    }
    assert!(!b.store.verify().unwrap().is_sound());
    b.pass(&a);
    all_equal(&a, &b, &ids);
    let upstream = b.upstream();
    assert_eq!((upstream.repaired, upstream.differing), (Some(3), None));
    // What changes later comes as ever.
    a.client(Version::V2_1).activate(&ids[2]).unwrap();
    b.pass(&a);
    all_equal(&a, &b, &ids);
    assert_eq!(b.upstream().repaired, Some(3));
}

#[test]
fn material_that_can_not_be_read_is_found_by_the_slow_reading_and_sent_again() {
    let (a, b, ids) = filled(20);
    for number in [3, 7] {
        b.flip(number, Part::Whole);
    }
    b.flip(12, Part::Attributes);
    let now = a.now().wall;
    let scrub = b.node.scrub(&b.store, 1000, now).unwrap();
    assert_eq!((scrub.found, scrub.last_pass), (3, Some(now)));
    assert_eq!(b.rotten(), [3, 7, 12]);
    b.pass(&a);
    all_equal(&a, &b, &ids);
    assert_eq!((b.upstream().repaired, b.rotten().len()), (Some(3), 0));
    assert_eq!(b.node.scrub(&b.store, 1000, now).unwrap().found, 3);
}

#[test]
fn the_state_that_was_raised_here_outlives_the_damage() {
    let (a, b, ids) = filled(3);
    let (number, held) = b
        .store
        .view(|at| at.by_identifier(&ids[1]))
        .unwrap()
        .unwrap();
    // Compromised here, and its issuer does not know.
    let mut raised = held.clone();
    raised.overlay.as_mut().unwrap().state = Some(keyferry_kmip::spec::State::COMPROMISED);
    let change = keyferry_store::Effects::change(
        Some((number, held)),
        raised,
        keyferry_store::Material::Keep,
    );
    b.store
        .transact::<_, keyferry_store::Error>(|at| change.apply(at))
        .unwrap();
    b.flip(number.0, Part::Attributes);
    b.pass(&a);
    all_equal(&a, &b, &ids);
    let copy = b.store.view(|at| at.by_identifier(&ids[1])).unwrap();
    assert!(copy.unwrap().1.is_compromised());
}

fn flip_entry(b: &Replica, number: u64) {
    let flip = |entry: &mut Vec<u8>| {
        let middle = entry.len() / 2;
        entry[middle] ^= 1;
    };
    b.misplace(number, flip, |_| (Vec::new(), Vec::new()));
}

#[test]
fn an_entry_of_the_feed_that_has_rotted_is_made_anew_by_whoever_meets_it() {
    // A session that compares meets it: the session ends, with the reason, and the next one finds all right.
    let (a, b, ids) = filled(20);
    flip_entry(&b, 5);
    let error = b.try_pass(&a).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    b.pass(&a);
    all_equal(&a, &b, &ids);
    assert_eq!(b.scrub(a.now().wall).mended, Some(1));
    // The slow reading meets it, in whatever part of the feed.
    for number in [1, 7, 20] {
        flip_entry(&b, number);
    }
    let scrub = b.scrub(a.now().wall);
    assert_eq!((scrub.mended, scrub.found), (Some(4), 0));
    all_equal(&a, &b, &ids);
    let before = b.store.view(|at| at.head()).unwrap();
    assert_eq!(b.scrub(a.now().wall).mended, Some(4));
    assert_eq!(b.store.view(|at| at.head()).unwrap(), before);
    // What changes later comes as ever, into the same records.
    a.client(Version::V2_1).activate(&ids[4]).unwrap();
    b.pass(&a);
    all_equal(&a, &b, &ids);
    assert_eq!(b.store.view(|at| at.count()).unwrap(), 20);
}

#[test]
fn an_index_entry_that_has_rotted_is_made_anew_by_the_slow_reading() {
    let (a, b, ids) = filled(10);
    let flipped = |key: &IndexKey| {
        let mut other = key.clone();
        let mut bytes = other.key.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        other.key = bytes.as_slice().into();
        other
    };
    // One leads nowhere for each kind of index entry that a record has, and one is not there at all.
    let count = {
        let keys = b.behind.view(|at| at.remains(RecordNumber(4))).unwrap();
        keys.unwrap().keys.len()
    };
    assert!(count > 3);
    for at in 0..count {
        let moved = |keys: &[IndexKey]| (vec![keys[at].clone()], vec![flipped(&keys[at])]);
        b.misplace(4, |_| {}, moved);
        let scrub = b.scrub(a.now().wall);
        assert_eq!(scrub.mended, Some(i64::try_from(at).unwrap() + 1), "{at}");
        all_equal(&a, &b, &ids);
    }
    b.misplace(9, |_| {}, |keys| (vec![keys[0].clone()], Vec::new()));
    b.scrub(a.now().wall);
    all_equal(&a, &b, &ids);
    a.client(Version::V2_1).activate(&ids[3]).unwrap();
    b.pass(&a);
    all_equal(&a, &b, &ids);
    assert_eq!(b.store.view(|at| at.count()).unwrap(), 10);
}

#[test]
fn an_entry_whose_record_can_not_be_read_either_is_met_again_and_skips_nothing() {
    let (a, b, _) = filled(6);
    flip_entry(&b, 2);
    b.flip(2, Part::Attributes);
    let scrub = b.scrub(a.now().wall);
    assert_eq!((scrub.mended, scrub.found), (None, 1));
    assert_eq!(b.rotten(), [2]);
    // Two faults at once: a person has to look.
    assert_eq!(b.try_pass(&a).unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(b.try_pass(&a).unwrap_err().kind(), ErrorKind::Store);
}

/// A server whose store is sealed, what stands behind the seal, and a client's keys in it.
fn sealed_issuer(
    keys: usize,
    may_give_back: bool,
) -> (Host, Arc<Memory>, SealedStore, Vec<String>) {
    let behind = Arc::new(Memory::new(Incarnation([9; 16])));
    let key = Secret::new(&[1; 32]);
    let mut random = SystemRandom::new();
    let sealed = Sealed::open(behind.clone(), Arc::new(Ring::new()), key, &mut random);
    let store = Arc::new(sealed.unwrap());
    let peer = Peer::new("b").may_follow();
    let peer = match may_give_back {
        true => peer.may_give_back(),
        false => peer,
    };
    let server = Server::new(Options {
        server: "a".into(),
        store: store.clone(),
        crypto: Arc::new(Ring::new()),
        random: Box::new(SystemRandom::new()),
        access: Access::Named(["client".to_owned()].into()),
        policy: Policy::closed().with("b.example", peer),
    });
    let host = Host {
        server: Arc::new(server.unwrap().with_rights(Unrestricted)),
        ..issuer()
    };
    let client = host.client(Version::V2_1);
    let ids = (0..keys).map(|n| client.create(named(&format!("key {n}"))));
    let ids = ids.collect();
    (host, behind, store, ids)
}

type SealedStore = Arc<Sealed<Arc<Memory>>>;

/// A record of a store as it can be read, with its object.
fn whole(store: &SealedStore, id: &str) -> (RecordNumber, Record, Option<Object>) {
    let found = store.view::<_, keyferry_store::Error>(|at| {
        let (number, record) = at.by_identifier(id)?.unwrap();
        let object = at.whole(number)?.unwrap().1;
        Ok((number, record, object))
    });
    found.unwrap()
}

fn rotten_at(store: &SealedStore) -> usize {
    let listed = store.view::<_, Error>(|at| RottenRecord::all(at));
    listed.unwrap().len()
}

fn replica_of(a: &Host) -> Replica {
    let b = Replica::new();
    let what = UpstreamOptions::default();
    Upstream::follow(&b.store, "r", "a", &what, a.now().wall).unwrap();
    b.pass(a);
    b
}

#[test]
fn what_has_rotted_at_its_issuer_is_given_back_by_a_replica() {
    let (a, behind, store, ids) = sealed_issuer(9, true);
    // One is known to be lost, in a State of its own, and one has lost a Name.
    let client = a.client(Version::V2_1);
    client.activate(&ids[1]).unwrap();
    client
        .revoke(
            &ids[1],
            keyferry_kmip::spec::RevocationReasonCode::KEY_COMPROMISE,
        )
        .unwrap();
    client.modify(&ids[2], None, name("another name")).unwrap();
    let before: Vec<_> = ids.iter().map(|id| whole(&store, id)).collect();
    let b = replica_of(&a);
    for (at, part) in [
        (0, Part::Attributes),
        (1, Part::Attributes),
        (2, Part::Attributes),
        (3, Part::Whole),
        (4, Part::Whole),
    ] {
        flip(&behind, before[at].0, part);
    }
    assert!(!store.verify().unwrap().is_sound());
    let scrub = |most| a.server.node().scrub(&*store, most, a.now().wall).unwrap();
    assert_eq!((scrub(100).found, rotten_at(&store)), (5, 5));
    b.pass(&a);
    b.pass(&a);
    assert_eq!(rotten_at(&store), 0);
    for (id, before) in ids.iter().zip(&before) {
        let after = whole(&store, id);
        assert_eq!(
            (after.0, &after.1, &after.2),
            (before.0, &before.1, &before.2),
            "{id}"
        );
    }
    let verified = store.verify().unwrap();
    assert!(verified.is_sound(), "{verified}: {:?}", verified.named);
    // All goes on as ever.
    client.activate(&ids[0]).unwrap();
    b.pass(&a);
    assert_eq!((scrub(100).found, rotten_at(&store)), (5, 0));
    assert_eq!(b.upstream().differing, None);
}

#[test]
fn an_older_copy_does_not_take_the_place_of_what_has_rotted() {
    let (a, behind, store, ids) = sealed_issuer(2, true);
    let client = a.client(Version::V2_1);
    let b = replica_of(&a);
    // The replica has not heard of this.
    client.activate(&ids[0]).unwrap();
    flip(&behind, whole(&store, &ids[0]).0, Part::Attributes);
    let scrub = || a.server.node().scrub(&*store, 100, a.now().wall).unwrap();
    assert_eq!(scrub().found, 1);
    for _ in 0..3 {
        b.pass(&a);
    }
    assert_eq!((scrub().found, rotten_at(&store)), (1, 1));
    assert!(store.view(|at| at.by_identifier(&ids[0])).is_err());
    // The others are served as ever.
    client.get(&ids[1]).unwrap();
}

#[test]
fn nothing_is_given_back_by_whom_policy_does_not_name() {
    let (a, behind, store, ids) = sealed_issuer(2, false);
    let b = replica_of(&a);
    flip(&behind, whole(&store, &ids[0]).0, Part::Whole);
    a.server.node().scrub(&*store, 100, a.now().wall).unwrap();
    for _ in 0..3 {
        b.pass(&a);
    }
    assert_eq!(rotten_at(&store), 1);
}
