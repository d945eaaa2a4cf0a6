//! Schema versions, restored dumps, a full device and damage, as PostgreSQL has them.

use crate::cluster::{cluster, program, skip};
use keyferry_kmip::spec::{AttributeValue, ObjectType};
use keyferry_kmip::{Attributes, Name};
use keyferry_store::{
    Entry, EntryKind, Error, ErrorKind, Incarnation, Index, IndexKey, MaterialChange, ObjectId,
    Order, Put, Record, RecordNumber, SnapshotExt, Span, Stamp, Store, StoreExt, TransactionExt,
    index, schema,
};
use keyferry_store_postgres::{Config, PostgresStore};
use keyferry_ttlv::Extra;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

fn open(config: &Config) -> Result<PostgresStore, Error> {
    PostgresStore::open(config.clone(), Incarnation([7; 16]))
}

fn sql(config: &Config, sql: &str) {
    config
        .connect(postgres::NoTls)
        .unwrap()
        .batch_execute(sql)
        .unwrap();
}

fn version(config: &Config) -> String {
    let row = config
        .connect(postgres::NoTls)
        .unwrap()
        .query_one("SELECT value FROM keyferry_meta WHERE name = 'schema'", &[]);
    String::from_utf8(row.unwrap().get(0)).unwrap()
}

/// Identifiers here and at the origin.
const OBJECTS: [(&str, &str); 3] = [
    (
        "0123abcd-4567-89ef-0011-223344556677",
        "0123abcd-4567-89ef-0011-223344556677",
    ),
    ("key-1", "key-1"),
    ("key-2", "0123abcd-4567-89ef-0011-223344556679"),
];

fn record((here, origin): (&str, &str)) -> Record {
    let stamp = Stamp::first(&"origin".into(), Incarnation([7; 16]));
    Record {
        id: ObjectId {
            server: "origin".into(),
            instance: vec![3; 4],
            identifier: origin.into(),
        },
        identifier: here.into(),
        owner: None,
        lineage: vec![stamp.clone()].into(),
        stamp,
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: Attributes::new()
            .with(AttributeValue::Name(Name::text(format!("name of {here}")))),
        overlay: None,
        fingerprint: Some(here.as_bytes().to_vec()),
        lost: Vec::new(),
        extra: Extra::NONE,
    }
}

/// Fills the tables as the first version of the schema had them: the same tables, other index keys.
fn as_version_1(config: &Config) {
    let store = open(config).unwrap();
    for object in OBJECTS {
        let record = record(object);
        let mut keys = index::keys(&record).unwrap();
        let new = [index::IDENTIFIER, index::OBJECT_ID, index::FINGERPRINT];
        keys.retain(|key| !new.contains(&key.index));
        keys.push(IndexKey {
            index: index::IDENTIFIER,
            key: [object.0.as_bytes(), &[0, 0]].concat().into(),
        });
        keys.push(index::object_id(&record.id).unwrap());
        let (id, stamp) = (record.id.clone(), record.stamp.clone());
        let entry = Entry {
            id,
            stamp,
            kind: EntryKind::CHANGED,
            before: Vec::new(),
            extra: Extra::NONE,
        }
        .encoded()
        .unwrap();
        let (id, attributes) = (record.id.encoded().unwrap(), record.encoded().unwrap());
        let material = MaterialChange::Keep;
        let put = Put {
            number: None,
            id: &id,
            attributes: &attributes,
            material,
            remove: &[],
            insert: &keys,
            entry: &entry,
        };
        store.write(&mut |tx| tx.put(&[put]).map(|_| ())).unwrap();
    }
    sql(
        config,
        "UPDATE keyferry_meta SET value = '1' WHERE name = 'schema'",
    );
}

#[test]
fn the_first_version_is_brought_up_to_date_once_however_many_servers_start() {
    let Some(cluster) = cluster() else {
        return;
    };
    let config = cluster.database();
    as_version_1(&config);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| open(&config).unwrap());
        }
    });
    assert_eq!(version(&config), schema::VERSION.to_string());
    let store = open(&config).unwrap();
    store
        .view::<_, Error>(|at| {
            let mut expected = Vec::new();
            for object in OBJECTS {
                let (number, record) = at
                    .by_identifier(object.0)?
                    .expect("it is found by its identifier");
                assert_eq!(
                    at.by_object_id(&record.id)?
                        .expect("it is found by its object id")
                        .0,
                    number
                );
                expected.extend(index::keys(&record)?.into_iter().map(|key| (key, number)));
            }
            let mut found = Vec::new();
            for index in (1..=255).map(Index) {
                at.scan(
                    index,
                    &Span::all(),
                    Order::Ascending,
                    None,
                    &mut |key, number| {
                        found.push((
                            IndexKey {
                                index,
                                key: key.into(),
                            },
                            number,
                        ));
                        Ok(ControlFlow::Continue(()))
                    },
                )?;
            }
            let order =
                |(key, number): &(IndexKey, RecordNumber)| (key.index, key.key.clone(), *number);
            expected.sort_by_key(order);
            assert_eq!(found, expected);
            assert_eq!(at.head()?.number, 3);
            Ok(())
        })
        .unwrap();
}

#[test]
fn tables_that_cannot_be_brought_up_to_date_stay_as_they_were() {
    let Some(cluster) = cluster() else {
        return;
    };
    let config = cluster.database();
    as_version_1(&config);
    sql(
        &config,
        "UPDATE keyferry_records SET attributes = substring(attributes from 1 for 20) WHERE number = 2",
    );
    let error = open(&config).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(
        error
            .to_string()
            .contains("record 2 cannot be brought up to date"),
        "{error}"
    );
    assert_eq!(version(&config), "1");
}

#[test]
fn a_migration_that_was_interrupted_goes_on_where_it_was() {
    let Some(cluster) = cluster() else {
        return;
    };
    let config = cluster.database();
    as_version_1(&config);
    // From version 2, and record 2 was the last one.
    sql(
        &config,
        "INSERT INTO keyferry_meta (name, value) VALUES ('migrating', '\\x000000020000000000000002')",
    );
    let store = open(&config).unwrap();
    let mut found = Vec::new();
    store
        .view::<_, Error>(|at| {
            found.clear();
            let span = Span::all();
            at.scan(
                index::FINGERPRINT,
                &span,
                Order::Ascending,
                None,
                &mut |_, number| {
                    found.push(number);
                    Ok(ControlFlow::Continue(()))
                },
            )
        })
        .unwrap();
    assert_eq!(found, [RecordNumber(3)]);
    assert_eq!(version(&config), schema::VERSION.to_string());
}

#[test]
fn a_later_version_is_refused() {
    let Some(cluster) = cluster() else {
        return;
    };
    let config = cluster.database();
    drop(open(&config).unwrap());
    sql(
        &config,
        "UPDATE keyferry_meta SET value = '9' WHERE name = 'schema'",
    );
    let error = open(&config).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    assert!(error.to_string().contains("schema version 9"), "{error}");
    sql(
        &config,
        "UPDATE keyferry_meta SET value = 'new' WHERE name = 'schema'",
    );
    assert_eq!(open(&config).err().unwrap().kind(), ErrorKind::Corrupt);
}

fn put(store: &impl Store, id: &[u8]) -> Result<(), Error> {
    let material = MaterialChange::Set(b"m");
    let put = Put {
        number: None,
        id,
        attributes: id,
        material,
        remove: &[],
        insert: &[],
        entry: id,
    };
    store.write(&mut |tx| tx.put(&[put]).map(|_| ()))
}

/// Copies a database as an operator would, by its own programs.
fn dump_and_restore((dump, psql): (&Path, &Path), from: &Config, to: &Config) {
    let connection = |command: &mut Command, config: &Config| {
        let Some(postgres::config::Host::Unix(folder)) = config.get_hosts().first() else {
            panic!("a socket")
        };
        command
            .arg("-h")
            .arg(folder)
            .arg("-p")
            .arg(config.get_ports()[0].to_string())
            .args(["-U", "keyferry"]);
        command.arg("-d").arg(config.get_dbname().unwrap());
    };
    let mut dump = Command::new(dump);
    connection(&mut dump, from);
    let dumped = dump.output().unwrap();
    assert!(
        dumped.status.success(),
        "{}",
        String::from_utf8_lossy(&dumped.stderr)
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), dumped.stdout).unwrap();
    let mut restore = Command::new(psql);
    connection(&mut restore, to);
    let restored = restore
        .args(["-q", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(file.path())
        .output()
        .unwrap();
    assert!(
        restored.status.success(),
        "{}",
        String::from_utf8_lossy(&restored.stderr)
    );
}

#[test]
fn a_restored_dump_takes_a_new_incarnation() {
    let Some(cluster) = cluster() else {
        return;
    };
    let (Some(dump), Some(psql)) = (program("pg_dump"), program("psql")) else {
        return skip("no pg_dump or psql");
    };
    let (config, copy) = (cluster.database(), cluster.database());
    let store = open(&config).unwrap();
    put(&store, b"one").unwrap();
    put(&store, b"two").unwrap();
    dump_and_restore((&dump, &psql), &config, &copy);
    put(&store, b"three").unwrap();
    let restored = open(&copy).unwrap();
    restored
        .transact::<_, Error>(|tx| tx.mark_restored(Incarnation([8; 16])))
        .unwrap();
    drop(restored);
    let restored = open(&copy).unwrap();
    put(&restored, b"another three").unwrap();
    let head = |store: &PostgresStore| store.view::<_, Error>(|at| at.head()).unwrap();
    let (first, second) = (head(&store), head(&restored));
    assert_eq!(
        (first.incarnation, second.incarnation),
        (Incarnation([7; 16]), Incarnation([8; 16]))
    );
    assert_eq!(first.number, second.number);
    assert_ne!(first.commit, second.commit);
    let before = |store: &PostgresStore| store.view::<_, Error>(|at| at.commit_id(2)).unwrap();
    assert_eq!(before(&store), before(&restored));
}

#[test]
fn what_the_database_says_of_its_device_is_told_and_the_rest_is_unharmed() {
    let Some(cluster) = cluster() else {
        return;
    };
    let config = cluster.database();
    let store = open(&config).unwrap();
    put(&store, b"kept").unwrap();
    for (table, code, kind) in [
        ("keyferry_records", "53100", ErrorKind::Full),
        ("keyferry_feed", "53100", ErrorKind::Full),
        ("keyferry_index", "XX001", ErrorKind::Corrupt),
        ("keyferry_material", "58030", ErrorKind::Io),
        ("keyferry_material", "XX000", ErrorKind::Io),
    ] {
        // The error that the database gives when a table can't grow, or a page makes no sense, wherever it comes in a write.
        sql(
            &config,
            &format!(
                "CREATE OR REPLACE FUNCTION fail() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'told' USING ERRCODE = '{code}'; END $$ \
                 LANGUAGE plpgsql; CREATE TRIGGER fail BEFORE INSERT ON {table} EXECUTE FUNCTION fail()"
            ),
        );
        let keys = [IndexKey {
            index: Index(1),
            key: b"key".as_slice().into(),
        }];
        let material = MaterialChange::Set(b"m");
        let lost = Put {
            number: None,
            id: b"lost",
            attributes: b"",
            material,
            remove: &[],
            insert: &keys,
            entry: b"",
        };
        let error = store
            .write(&mut |tx| tx.put(&[lost]).map(|_| ()))
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{table}: {error}");
        let source = std::error::Error::source(&error).expect("the driver's own error");
        assert!(source.is::<postgres::Error>(), "{source:?}");
        assert!(
            error.to_string().contains("told") && error.to_string().contains(code),
            "{error}"
        );
        sql(&config, &format!("DROP TRIGGER fail ON {table}"));
    }
    put(&store, b"kept too").unwrap();
    let (count, head) = store
        .view::<_, Error>(|at| Ok((at.count()?, at.head()?.number)))
        .unwrap();
    assert_eq!((count, head), (2, 2));
}

/// The tables on a file system without room: `KEYFERRY_SMALL_DEVICE` names an empty folder there that belongs to the server's user.
#[test]
#[ignore = "needs a small file system of its own"]
fn a_full_device_keeps_what_is_there() {
    let Some(cluster) = cluster() else {
        return;
    };
    let folder = std::env::var("KEYFERRY_SMALL_DEVICE").expect("a folder on a small file system");
    let config = cluster.database();
    sql(
        &config,
        &format!("CREATE TABLESPACE small LOCATION '{folder}'"),
    );
    sql(
        &cluster.database(),
        &format!(
            "ALTER DATABASE {} SET TABLESPACE small",
            config.get_dbname().unwrap()
        ),
    );
    let store = open(&config).unwrap();
    let id = vec![b'i'; 100_000];
    let incompressible: Vec<u8> = (0..100_000_u64)
        .map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect();
    let mut kept = 0;
    let error = loop {
        let material = MaterialChange::Set(&incompressible);
        let put = Put {
            number: None,
            id: &id,
            attributes: &incompressible,
            material,
            remove: &[],
            insert: &[],
            entry: b"e",
        };
        match store.write(&mut |tx| tx.put(&[put]).map(|_| ())) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 100_000, "the file system is not small");
    };
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    let (count, head) = store
        .view::<_, Error>(|at| Ok((at.count()?, at.head()?.number)))
        .unwrap();
    assert_eq!((count, head), (kept, kept), "after {error}");
    println!("full after {kept} writes: {error}");
}
