//! A file of an earlier schema version is brought up to date when it is opened, and goes on where it was when that was interrupted.
//!
//! `schema-1.runs` is a file that the first version made, with its runs of equal bytes counted.

use keyferry_kmip::Attributes;
use keyferry_kmip::spec::ObjectType;
use keyferry_store::{
    Error, ErrorKind, Incarnation, Index, IndexKey, MaterialChange, ObjectId, Order, Put, Record,
    RecordNumber, SnapshotExt, Span, Stamp, Store, StoreExt, index, schema,
};
use keyferry_store_redb::{Options, RedbStore};
use redb::{ReadableDatabase, ReadableTable};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

/// The identifiers here and at their origin of the four objects of the file.
const OBJECTS: [(&str, &str, &str); 4] = [
    (
        "0123abcd-4567-89ef-0011-223344556677",
        "origin",
        "0123abcd-4567-89ef-0011-223344556677",
    ),
    ("key-1", "origin", "key-1"),
    ("0123abcd-4567-89ef-0011-223344556678", "another", "key-1"),
    ("key-2", "origin", "0123abcd-4567-89ef-0011-223344556679"),
];

/// Writes the file of version 1.
fn unpack(path: &Path) {
    let mut packed = &include_bytes!("schema-1.runs")[..];
    let mut content = Vec::new();
    while let Some((header, rest)) = packed.split_first_chunk::<9>() {
        let number =
            |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap()) as usize;
        let (plain, rest) = rest.split_at(number(0));
        content.extend_from_slice(plain);
        content.resize(content.len() + number(4), header[8]);
        packed = rest;
    }
    fs::write(path, content).unwrap();
}

fn open(path: &Path) -> Result<RedbStore, Error> {
    RedbStore::open(path, Options::new(Incarnation([1; 16])))
}

fn version(path: &Path) -> u32 {
    let database = redb::Database::open(path).unwrap();
    let at = database.begin_read().unwrap();
    let meta = at
        .open_table(redb::TableDefinition::<&str, &[u8]>::new("meta"))
        .unwrap();
    u32::from_be_bytes(
        meta.get("schema")
            .unwrap()
            .unwrap()
            .value()
            .try_into()
            .unwrap(),
    )
}

/// All index entries that are stored.
fn entries(store: &dyn Store) -> Vec<(IndexKey, u64)> {
    let mut entries = Vec::new();
    for index in (1..=255).map(Index) {
        store
            .read(&mut |at| {
                at.scan(
                    index,
                    &Span::all(),
                    Order::Ascending,
                    None,
                    &mut |key, number| {
                        entries.push((
                            IndexKey {
                                index,
                                key: key.into(),
                            },
                            number.0,
                        ));
                        Ok(ControlFlow::Continue(()))
                    },
                )
            })
            .unwrap();
    }
    entries
}

#[test]
fn the_first_version_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    unpack(&path);
    assert_eq!(version(&path), 1);
    for _ in 0..2 {
        let store = open(&path).unwrap();
        let expected = store.view::<_, Error>(|at| {
            let head = at.head()?;
            assert_eq!(
                (head.number, head.incarnation, at.count()?),
                (4, Incarnation([7; 16]), 4)
            );
            assert_eq!(at.state_value(b"cursor")?.as_deref(), Some(&b"17"[..]));
            let mut expected = Vec::new();
            for (number, (here, server, origin)) in (1..).zip(OBJECTS) {
                let (found, record) = at
                    .by_identifier(here)?
                    .expect("it is found by its identifier");
                assert_eq!((found, &*record.identifier), (RecordNumber(number), here));
                let id = ObjectId {
                    server: server.into(),
                    instance: vec![3; 4],
                    identifier: origin.into(),
                };
                assert_eq!(
                    at.by_object_id(&id)?
                        .expect("it is found by its object id")
                        .0,
                    RecordNumber(number)
                );
                assert!(at.whole(RecordNumber(number))?.unwrap().1.is_some());
                expected.extend(index::keys(&record)?.into_iter().map(|key| (key, number)));
            }
            expected.sort_by(|(left, l), (right, r)| {
                (left.index, &left.key, l).cmp(&(right.index, &right.key, r))
            });
            Ok(expected)
        });
        assert_eq!(entries(&store), expected.unwrap());
        drop(store);
        assert_eq!(version(&path), schema::VERSION);
    }
}

#[test]
fn a_file_that_cannot_be_brought_up_to_date_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    unpack(&path);
    let database = redb::Database::open(&path).unwrap();
    let at = database.begin_write().unwrap();
    let records = redb::TableDefinition::<u64, &[u8]>::new("records");
    let mut stored = at
        .open_table(records)
        .unwrap()
        .get(3)
        .unwrap()
        .unwrap()
        .value()
        .to_vec();
    stored.truncate(stored.len() - 8);
    at.open_table(records)
        .unwrap()
        .insert(3, stored.as_slice())
        .unwrap();
    at.commit().unwrap();
    drop(database);
    let error = open(&path).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("store.redb") && text.contains("record 3 cannot be brought up to date"),
        "{text}"
    );
    assert_eq!(version(&path), 1);
}

#[test]
fn a_later_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    drop(open(&path).unwrap());
    for other in [0, schema::VERSION + 1] {
        let database = redb::Database::open(&path).unwrap();
        let at = database.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        at.open_table(meta)
            .unwrap()
            .insert("schema", other.to_be_bytes().as_slice())
            .unwrap();
        at.commit().unwrap();
        drop(database);
        let error = open(&path).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("store.redb") && text.contains(&format!("schema version {other}")),
            "{text}"
        );
        assert_eq!(version(&path), other);
    }
}

/// A store with `objects` keys as version 2 had them: without fingerprints in an index.
fn as_version_2(path: &Path, objects: u8) {
    let store = open(path).unwrap();
    for number in 1..=objects {
        let record = record(number);
        let mut keys = index::keys(&record).unwrap();
        keys.retain(|key| key.index != index::FINGERPRINT);
        let (id, attributes) = (record.id.encoded().unwrap(), record.encoded().unwrap());
        let put = Put {
            number: None,
            id: &id,
            attributes: &attributes,
            material: MaterialChange::Keep,
            remove: &[],
            insert: &keys,
            entry: b"entry",
        };
        store.write(&mut |tx| tx.put(&[put]).map(|_| ())).unwrap();
    }
    drop(store);
    note(path, 2, None);
}

fn record(number: u8) -> Record {
    let stamp = Stamp::first(&"origin".into(), Incarnation([7; 16]));
    Record {
        id: ObjectId {
            server: "origin".into(),
            instance: vec![3; 4],
            identifier: format!("key-{number}").into(),
        },
        identifier: format!("key-{number}").into(),
        owner: None,
        lineage: vec![stamp.clone()].into(),
        stamp,
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: Attributes::new(),
        overlay: None,
        fingerprint: Some(vec![number; 16]),
        lost: Vec::new(),
        extra: Default::default(),
    }
}

/// Sets the version of a file, and how far its migration has come.
fn note(path: &Path, version: u32, progress: Option<schema::Progress>) {
    let database = redb::Database::open(path).unwrap();
    let at = database.begin_write().unwrap();
    {
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        let mut meta = at.open_table(meta).unwrap();
        meta.insert("schema", version.to_be_bytes().as_slice())
            .unwrap();
        if let Some(progress) = progress {
            meta.insert("migrating", progress.to_bytes().as_slice())
                .unwrap();
        }
    }
    at.commit().unwrap();
}

/// The numbers of the records whose fingerprints are indexed.
fn fingerprints(store: &dyn Store) -> Vec<u64> {
    entries(store)
        .into_iter()
        .filter(|(key, _)| key.index == index::FINGERPRINT)
        .map(|(_, number)| number)
        .collect()
}

#[test]
fn fingerprints_are_indexed_in_a_store_of_version_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    as_version_2(&path, 5);
    for _ in 0..2 {
        assert_eq!(fingerprints(&open(&path).unwrap()), [1, 2, 3, 4, 5]);
        assert_eq!(version(&path), schema::VERSION);
    }
}

#[test]
fn a_migration_that_was_interrupted_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    as_version_2(&path, 5);
    let reached = schema::Progress { from: 2, after: 3 };
    note(&path, schema::VERSION, Some(reached));
    assert_eq!(fingerprints(&open(&path).unwrap()), [4, 5]);
    // It is complete, and is not done again.
    assert_eq!(fingerprints(&open(&path).unwrap()), [4, 5]);
    let later = schema::Progress {
        from: schema::VERSION + 1,
        after: 3,
    };
    note(&path, schema::VERSION, Some(later));
    assert_eq!(open(&path).err().unwrap().kind(), ErrorKind::Schema);
}
