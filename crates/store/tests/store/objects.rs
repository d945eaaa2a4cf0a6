//! Records as servers have them, put into a store.

use keyferry_kmip::spec::{
    AttributeValue as V, HashingAlgorithm, KeyFormatType, ObjectType, State,
};
use keyferry_kmip::{Attributes, DateTime, Digest, Name, Text};
use keyferry_store::{
    Entry, EntryKind, Incarnation, MaterialChange, ObjectId, Put, Record, RecordNumber, Stamp,
    Store, StoreExt, index,
};
use keyferry_ttlv::Extra;

/// A record with a Name, a Digest and dates. The identifier here is another one than in the object id, so it is in that index, too.
pub(crate) fn record(name: &str, object_type: ObjectType, digest: [u8; 32]) -> Record {
    let id = ObjectId {
        server: "alpha".into(),
        instance: vec![1; 16],
        identifier: Text::from(format!("{name} there")),
    };
    let born = DateTime(1_700_000_000);
    let attributes = Attributes::new()
        .with(V::Name(Name::text(name.to_owned())))
        .with(V::CryptographicLength(256))
        .with(V::Digest(Digest {
            hashing_algorithm: HashingAlgorithm::SHA_256,
            value: Some(digest.to_vec()),
            key_format_type: Some(KeyFormatType::RAW),
            extra: Extra::NONE,
        }))
        .with(V::InitialDate(born))
        .with(V::LastChangeDate(born))
        .with(V::State(State::ACTIVE));
    let stamp = Stamp::first(&id.server, Incarnation([7; 16]));
    Record {
        identifier: Text::from(name.to_owned()),
        owner: Some("client".into()),
        lineage: vec![stamp.clone()].into(),
        stamp,
        id,
        object_type,
        attributes,
        overlay: None,
        fingerprint: Some(vec![9; 32]),
        lost: Vec::new(),
        extra: Extra::NONE,
    }
}

/// The feed entry of a record.
pub(crate) fn entry(record: &Record) -> Vec<u8> {
    let entry = Entry {
        id: record.id.clone(),
        stamp: record.stamp.clone(),
        kind: EntryKind::CHANGED,
        before: Vec::new(),
        extra: Extra::NONE,
    };
    entry.encoded().unwrap()
}

/// Puts a record; a changed one keeps its index keys.
pub(crate) fn put(
    store: &dyn Store,
    number: Option<RecordNumber>,
    record: &Record,
    material: MaterialChange<'_>,
) -> RecordNumber {
    let keys = index::keys(record).unwrap();
    let put = Put {
        number,
        id: &record.id.encoded().unwrap(),
        attributes: &record.encoded().unwrap(),
        material,
        remove: &[],
        insert: if number.is_none() { &keys } else { &[] },
        entry: &entry(record),
    };
    store
        .transact::<_, keyferry_store::Error>(|tx| tx.put(&[put]))
        .unwrap()[0]
}
