//! Whatever a file holds, opening and using it ends in an error that names the file, never in a panic.

use keyferry_store::{
    ErrorKind, Incarnation, Index, IndexKey, MaterialChange, Order, Part, Put, RecordNumber,
    Result, Span, Store,
};
use keyferry_store_redb::{Options, RedbStore};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::{fs, iter};

fn options() -> Options {
    Options {
        cache_bytes: 1 << 20,
        ..Options::new(Incarnation([7; 16]))
    }
}

fn put<'a>(id: &'a [u8], number: Option<RecordNumber>, insert: &'a [IndexKey]) -> Put<'a> {
    Put {
        number,
        id,
        attributes: &[b'a'; 300],
        material: MaterialChange::Set(&[b'm'; 100]),
        remove: &[],
        insert,
        entry: id,
    }
}

/// A closed store of a few hundred pages.
fn sound(path: &Path) -> Vec<u8> {
    let store = RedbStore::open(path, options()).unwrap();
    for round in 0..6_u32 {
        let ids: Vec<_> = (0..60_u32)
            .map(|i| (round * 1000 + i).to_be_bytes())
            .collect();
        let keys: Vec<_> = ids
            .iter()
            .map(|id| {
                [IndexKey {
                    index: Index(1),
                    key: id.repeat(10).into(),
                }]
            })
            .collect();
        let puts: Vec<_> = ids
            .iter()
            .zip(&keys)
            .map(|(id, keys)| put(id, None, keys))
            .collect();
        store.write(&mut |tx| tx.put(&puts).map(|_| ())).unwrap();
        store
            .write(&mut |tx| tx.set_state(&ids[0], Some(&[1; 500])))
            .unwrap();
    }
    drop(store);
    fs::read(path).unwrap()
}

/// Opens the file and does a little of everything.
fn use_it(path: &Path) -> Result<()> {
    let store = RedbStore::open(path, options())?;
    let reading = store.read(&mut |at| {
        at.head()?;
        at.commit_id(3)?;
        at.count()?;
        for index in [Index::ARRIVAL, Index(1)] {
            at.scan(
                index,
                &Span::all(),
                Order::Ascending,
                None,
                &mut |_, number| {
                    at.get(number, Part::Whole)?;
                    Ok(ControlFlow::Continue(()))
                },
            )?;
        }
        at.feed(0, &mut |_| Ok(ControlFlow::Continue(())))?;
        at.state(&Span::all(), &mut |_, _| Ok(ControlFlow::Continue(())))
    });
    let keys = [IndexKey {
        index: Index(1),
        key: b"new".as_slice().into(),
    }];
    let writing = store.write(&mut |tx| {
        tx.put(&[
            put(b"old", Some(RecordNumber(5)), &keys),
            put(b"new", None, &keys),
        ])?;
        tx.set_state(b"state", Some(b"new"))
    });
    // The store is still of some use after a failure: the call after it ends as well.
    let again = store.read(&mut |at| at.head().map(|_| ()));
    reading.and(writing).and(again)
}

/// Puts `content` into the file and uses it; a panic fails the test.
fn survives(path: &Path, content: &[u8], what: &str) -> Result<()> {
    // A new file, since a store that met damage may hold the old one until the process ends.
    let _ = fs::remove_file(path);
    fs::write(path, content).unwrap();
    let result = catch_unwind(AssertUnwindSafe(|| use_it(path)));
    let result = result.unwrap_or_else(|_| panic!("{what}: the store panicked"));
    if let Err(error) = &result {
        let text = error.to_string();
        assert!(
            text.contains("store.redb"),
            "{what}: the message does not name the file: {text}"
        );
    }
    result
}

/// xorshift64.
fn random(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |limit| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 8) as usize % limit.max(1)
    }
}

#[test]
fn an_empty_file_is_a_new_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    fs::write(&path, b"").unwrap();
    let store = RedbStore::open(&path, options()).unwrap();
    let mut incarnation = None;
    store
        .read(&mut |at| {
            incarnation = Some(at.head()?.incarnation);
            Ok(())
        })
        .unwrap();
    assert_eq!(incarnation, Some(Incarnation([7; 16])));
}

#[test]
fn garbage_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let mut random = random(11);
    for length in [1, 8, 9, 100, 512, 4096, 5000, 73_728, 200_000] {
        let content: Vec<u8> = iter::repeat_with(|| random(256) as u8)
            .take(length)
            .collect();
        let error = survives(&path, &content, "garbage").unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Corrupt,
            "{length} bytes of garbage: {error}"
        );
        let source = std::error::Error::source(&error).expect("the engine's own error");
        assert!(
            source.is::<redb::Error>() || source.is::<std::io::Error>(),
            "{source:?}"
        );
        assert_eq!(fs::read(&path).unwrap(), content, "the garbage was changed");
        let error = survives(&path, &vec![0; length], "zeroes").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{length} zeroes: {error}");
    }
    let text = survives(&path, b"keyferry: this is a text file, not a store", "text")
        .unwrap_err()
        .to_string();
    assert!(text.contains("not a redb database"), "{text}");
}

#[test]
fn a_truncated_store_is_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let content = sound(&path);
    survives(&path, &content, "a sound store").unwrap();
    let mut random = random(5);
    let mut lengths: Vec<usize> = vec![
        1,
        63,
        64,
        320,
        4095,
        4096,
        4097,
        8192,
        content.len() / 2,
        content.len() - 4096,
        content.len() - 1,
    ];
    lengths.extend(iter::repeat_with(|| random(content.len())).take(30));
    for length in lengths {
        let _ = survives(&path, &content[..length], &format!("cut to {length} bytes"));
    }
}

#[test]
fn changed_bytes_do_not_panic() {
    let rounds = std::env::var("KEYFERRY_DAMAGE_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(150);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let content = sound(&path);
    let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut random = random(3);
    for round in 0..rounds {
        let mut damaged = content.clone();
        // The header first, then anywhere: single bytes, and whole pages.
        let what = match round % 4 {
            0 => {
                let at = random(512);
                damaged[at] ^= 1 << random(8);
                format!("byte {at} changed")
            }
            1 => {
                let at = random(used);
                damaged[at] = random(256) as u8;
                format!("byte {at} set")
            }
            2 => {
                let page = random(used / 4096) * 4096;
                damaged[page..page + 4096].fill(0);
                format!("page at {page} zeroed")
            }
            _ => {
                let page = random(used / 4096) * 4096;
                (page..(page + 32).min(used)).for_each(|at| damaged[at] = random(256) as u8);
                format!("start of the page at {page} scrambled")
            }
        };
        let _ = survives(&path, &damaged, &what);
    }
}

#[test]
fn a_check_while_opening_finds_every_changed_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let content = sound(&path);
    let checked = |content: &[u8]| {
        let _ = fs::remove_file(&path);
        fs::write(&path, content).unwrap();
        RedbStore::open(
            &path,
            Options {
                check: true,
                ..options()
            },
        )
        .map(drop)
    };
    checked(&content).unwrap();
    // A page of some record: plain opening would trust it.
    let place = content
        .windows(300)
        .position(|window| window == [b'a'; 300])
        .unwrap();
    let mut damaged = content.clone();
    damaged[place + 100] ^= 1;
    fs::write(&path, &damaged).unwrap();
    RedbStore::open(&path, options()).unwrap();
    let error = checked(&damaged).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("store.redb"), "{error}");
    // Any page, the engine's own bookkeeping included: it is found, or it was not in use; then the store can be used.
    let mut random = random(17);
    let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let rounds: usize = std::env::var("KEYFERRY_DAMAGE_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(60);
    let mut found = 0;
    for round in 0..rounds {
        let mut damaged = content.clone();
        let page = random(used / 4096) * 4096;
        (page..(page + 64).min(used)).for_each(|at| damaged[at] = random(256) as u8);
        match catch_unwind(AssertUnwindSafe(|| checked(&damaged)))
            .unwrap_or_else(|_| panic!("round {round}: panic"))
        {
            Ok(()) => use_it(&path).unwrap_or_else(|error| {
                panic!("round {round}: the page at {page} passed the check: {error}")
            }),
            Err(_) => found += 1,
        }
    }
    assert!(found > rounds / 4, "only {found} of {rounds} were found");
}

#[test]
fn a_foreign_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let foreign = redb::Database::create(&path).unwrap();
    let at = foreign.begin_write().unwrap();
    at.open_table(redb::TableDefinition::<u64, u64>::new("records"))
        .unwrap()
        .insert(1, 1)
        .unwrap();
    at.commit().unwrap();
    drop(foreign);
    let error = use_it(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(
        error.to_string().contains("not a store of keyferry"),
        "{error}"
    );
}

#[test]
fn a_store_in_use_a_folder_and_a_missing_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = RedbStore::open(&path, options()).unwrap();
    let error = RedbStore::open(&path, options()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("open already"), "{error}");
    drop(store);
    RedbStore::open(&path, options()).unwrap();
    for place in [
        folder.path().to_path_buf(),
        folder.path().join("missing/store.redb"),
    ] {
        let error = RedbStore::open(&place, options()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    }
}

#[test]
fn an_unfinished_new_file_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    fs::write(
        folder.path().join("store.redb.new"),
        b"killed while it was made",
    )
    .unwrap();
    RedbStore::open(&path, options()).unwrap();
    assert!(!folder.path().join("store.redb.new").exists());
}
