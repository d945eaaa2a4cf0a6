//! A server for the tests of single functions: a node, its store, and a clock that stands still.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::ask::Ask;
use crate::node::Node;
use crate::policy::{Peer, Policy};
use crate::relation::kept::KeptCopies;
use crate::relation::receipts::Sender;
use crate::wire::copy::Copy;
use crate::wire::follow::{Change, Kind};
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::spec::{AttributeValue, CryptographicAlgorithm, ObjectType, Operation, State};
use keyferry_kmip::{Attributes, DateTime, Identity, Now, Object, Secret, Text, context};
use keyferry_store::record::material_of;
use keyferry_store::{
    Effects, Home, Incarnation, IndexKey, Material, MaterialChange, Memory, ObjectId, Part, Put,
    Record, RecordNumber, SnapshotExt, Store, StoreExt, Transaction,
};
use keyferry_ttlv::{Extra, Version};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The server `a`, with the peer `b`.
pub(crate) struct TestServer {
    pub(crate) node: Node,
    pub(crate) store: Memory,
    pub(crate) wall: i64,
}

/// The reign of a new server.
pub(crate) const REIGN: [u8; 16] = [3; 16];

impl TestServer {
    pub(crate) fn new(change: impl Fn(Peer) -> Peer) -> TestServer {
        let store = Memory::new(Incarnation([1; 16]));
        let home = || Home {
            server: "a".into(),
            instance: vec![2; 16],
            fingerprint_key: Secret::new(&[7; 32]),
            extra: Extra::NONE,
        };
        let home = store.home("a", home).unwrap();
        store.begin_reign(REIGN).unwrap();
        let policy = Policy::closed().with("b.example", change(Peer::new("b").may_follow()));
        TestServer {
            node: Node::new(home, policy, Arc::new(Ring::new())),
            store,
            wall: 1_000_000,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            wall: DateTime(self.wall),
            ..Now::default()
        }
    }

    pub(crate) fn key(&self, name: &str, more: Vec<AttributeValue>) -> ObjectId {
        let mut attributes: Attributes = more.into_iter().collect();
        attributes.push(AttributeValue::State(State::ACTIVE));
        attributes.push(AttributeValue::InitialDate(self.now().wall));
        let object = Object::symmetric_key(
            CryptographicAlgorithm::AES,
            128,
            Secret::new(&[name.len() as u8 + 1; 16]),
        );
        let record = self.store.view(|snapshot| {
            let reign = snapshot.reign()?;
            let mut record = self.node.new_record(
                reign,
                name.into(),
                ObjectType::SYMMETRIC_KEY,
                attributes.clone(),
            );
            record.fingerprint = Some(self.node.fingerprint(&object).unwrap());
            Ok::<_, keyferry_store::Error>(record)
        });
        let record = record.unwrap();
        let id = record.id.clone();
        self.apply(Effects::change(
            None,
            record,
            Material::Set(object.clone().into()),
        ));
        id
    }

    pub(crate) fn change(&self, id: &ObjectId, change: impl Fn(&mut Record)) {
        let effects = self.store.view(|snapshot| {
            let (number, held) = snapshot.by_object_id(id)?.unwrap();
            let mut after = held.clone();
            change(&mut after);
            self.node
                .advance(&mut after, snapshot.reign()?, self.now().wall);
            let material = Material::left_to(&after);
            Ok::<_, keyferry_store::Error>(Effects::change(Some((number, held)), after, material))
        });
        self.apply(effects.unwrap());
    }

    pub(crate) fn apply(&self, effects: Effects) {
        self.store
            .transact(|transaction| effects.apply(transaction).map(drop))
            .unwrap();
    }

    pub(crate) fn record(&self, id: &ObjectId) -> Option<Record> {
        self.store
            .view::<_, keyferry_store::Error>(|s| Ok(s.by_object_id(id)?.map(|(_, record)| record)))
            .unwrap()
    }

    pub(crate) fn object(&self, id: &ObjectId) -> Option<Object> {
        self.store
            .view::<_, keyferry_store::Error>(|s| {
                let number = s.by_object_id(id)?.unwrap().0;
                Ok(s.whole(number)?.unwrap().1)
            })
            .unwrap()
    }

    /// Asks by the peer `b`.
    pub(crate) fn asking<T>(&self, f: impl FnOnce(&mut Ask<'_>) -> T) -> T {
        let (peer, tls) = (Identity::peer("b"), Identity::new("b.example"));
        let (mut random, mut f, mut result) = (SystemRandom::new(), Some(f), None);
        self.store
            .read(&mut |snapshot| {
                let operation = Operation::IMPORT;
                let mut ask = Ask::new(snapshot, &peer, operation, self.now(), &mut random)
                    .in_context(context(Version::V2_1))
                    .over_tls(&tls);
                result = f.take().map(|f| f(&mut ask));
                Ok(())
            })
            .unwrap();
        result.unwrap()
    }
}

/// Notes in a store that a relation with a server brings the copy of an object, or does so no more.
pub(crate) fn note_kept(store: &dyn Store, way: (&str, &str), id: &ObjectId, comes: bool) {
    let noted = store.transact::<_, keyferry_store::Error>(|transaction| {
        let (number, _) = transaction.by_object_id(id)?.unwrap();
        let mut kept = KeptCopies::of(&way.0.into(), &way.1.into());
        kept.set(transaction, number, comes).unwrap();
        let changed = kept.changed();
        changed
            .iter()
            .try_for_each(|(key, page)| transaction.set_state(key, page.as_deref()))
    });
    noted.unwrap();
}

/// The relations that bring the copy of an object, by a store.
pub(crate) fn relations_of(store: &dyn Store, id: &ObjectId) -> Vec<Text> {
    let found = store.view::<_, crate::error::Error>(|snapshot| {
        let (number, _) = snapshot.by_object_id(id)?.unwrap();
        let mut relations = Vec::new();
        for mut kept in KeptCopies::all(snapshot)? {
            if kept.has(snapshot, number)? {
                relations.push(kept.relation);
            }
        }
        Ok(relations)
    });
    found.unwrap()
}

/// What an answer tells of a record: its copy, without the object itself.
pub(crate) fn change(kind: Kind, record: &Record) -> Change {
    Change {
        kind,
        identifier: record.identifier.clone(),
        object_type: Some(record.object_type),
        copy: Copy::of(record, record.attributes.clone(), None).unwrap(),
        material: None,
        wrapped: None,
        raised: None,
        why: None,
        extra: Extra::NONE,
    }
}

/// What a replica gives back of an object that this server sent to it as `record`, without these attributes.
pub(crate) fn given(server: &TestServer, record: &Record, without: &[&str]) -> Change {
    let mut copy = Copy::of(record, record.attributes.clone(), None).unwrap();
    copy.without = without.iter().map(|name| (*name).into()).collect();
    let sender = Sender::of(&server.node.home);
    server
        .asking(|ask| sender.sign(ask.snapshot, record, &mut copy))
        .unwrap();
    Change {
        kind: Kind::COPY,
        identifier: record.identifier.clone(),
        object_type: Some(record.object_type),
        copy,
        material: None,
        wrapped: None,
        raised: None,
        why: None,
        extra: Extra::NONE,
    }
}

/// A change with the material.
pub(crate) fn with_material(change: Change, object: &Object) -> Change {
    Change {
        material: Some(Secret::new(&material_of(object).unwrap())),
        ..change
    }
}

/// Writes a record once more as it stands, but for what `change` makes of its attributes and its feed entry, without these index entries and with this
/// material.
pub(crate) fn rewrite(
    at: &mut dyn Transaction,
    number: RecordNumber,
    change: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>),
    (remove, material): (&[IndexKey], MaterialChange<'_>),
) -> keyferry_store::Result<()> {
    let mut row = at.get(number, Part::Attributes)?.unwrap();
    let mut entry = Vec::new();
    at.feed(0, &mut |row| {
        if row.record == number {
            entry = row.entry.to_vec();
        }
        Ok(ControlFlow::Continue(()))
    })?;
    change(&mut row.attributes, &mut entry);
    let put = Put {
        number: Some(number),
        id: &row.id,
        attributes: &row.attributes,
        material,
        remove,
        insert: &[],
        entry: &entry,
    };
    at.put(&[put]).map(drop)
}
