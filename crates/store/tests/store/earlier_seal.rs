//! A store that an earlier build sealed, which sealed key material alone, is brought up to date when it is opened.

use crate::objects::{put, record};
use crate::rows::Rows;
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::spec::ObjectType;
use keyferry_kmip::{Crypto, Secret};
use keyferry_store::{
    Error, ErrorKind, Fault, Faulty, Incarnation, MaterialChange, Memory, Part, RecordNumber,
    Result, Sealed, SnapshotExt, Span, Store, StoreExt,
};
use std::ops::ControlFlow;
use std::sync::Arc;

const PREFIX: &[u8] = b"\0keyferry sealed\0";
const OUTER: [u8; 32] = [1; 32];
const INNER: [u8; 32] = [2; 32];
/// More than two pages of each.
const RECORDS: u64 = 600;

/// What earlier builds sealed: form, number of the data key, nonce, text, tag.
fn seal(key: &[u8], associated: &[u8], plain: &[u8]) -> Vec<u8> {
    let derived = |name: &[u8]| Ring.hmac_sha256(key, &[name]);
    let nonce = Ring.hmac_sha256(
        &derived(b"keyferry nonce"),
        &[&(associated.len() as u64).to_be_bytes(), associated, plain],
    );
    let header = [1, 0, 0, 0, 1];
    let nonce: [u8; 12] = *nonce.first_chunk().unwrap();
    let mut text = plain.to_vec();
    let associated = [&header, associated].concat();
    Ring.seal(&derived(b"keyferry seal"), &nonce, &associated, &mut text)
        .unwrap();
    [&header[..], &nonce, &text].concat()
}

fn material(n: u64) -> Vec<u8> {
    n.to_be_bytes().repeat(4)
}

/// A store as an earlier build left it: some passwords among the keys, some state, one record without material.
fn earlier() -> Memory {
    let store = Memory::new(Incarnation([1; 16]));
    let name = [PREFIX, &1_u32.to_be_bytes()].concat();
    let data_key = seal(&OUTER, &name, &INNER);
    let set = |key: &[u8], value: &[u8]| {
        let set = store.transact::<_, Error>(|tx| tx.set_state(key, Some(value)));
        set.unwrap();
    };
    set(&name, &data_key);
    for n in 0..RECORDS {
        let object_type = match n % 10 {
            0 => ObjectType::SECRET_DATA,
            _ => ObjectType::SYMMETRIC_KEY,
        };
        let record = record(&format!("object {n}"), object_type, [n as u8; 32]);
        let id = record.id.encoded().unwrap();
        let sealed = seal(&INNER, &id, &material(n));
        let material = match n {
            7 => MaterialChange::Keep,
            _ => MaterialChange::Set(&sealed),
        };
        put(&store, None, &record, material);
        set(format!("cursor {n}").as_bytes(), &n.to_be_bytes());
    }
    // On both sides of the keys of the seal.
    set(b"", b"nothing");
    set(b"\xFF", b"last");
    store
}

fn open<S: Store>(store: S, key: u8) -> Result<Sealed<S>> {
    let random = &mut SystemRandom::default();
    Sealed::open(store, Arc::new(Ring), Secret::new(&[key; 32]), random)
}

/// All of it is there, and all of it is authenticated.
fn check(store: &Sealed<impl Store>) {
    let found = store.verify().unwrap();
    assert!(found.is_sound(), "{found:?}");
    assert_eq!((found.records, found.feed_entries), (RECORDS, RECORDS));
    assert_eq!(found.state_rows, RECORDS + 2);
    let read = store.view::<_, Error>(|at| {
        for n in 0..RECORDS {
            let row = at.get(RecordNumber(n + 1), Part::Whole)?.unwrap();
            let expected = (n != 7).then(|| material(n));
            assert_eq!(row.material.map(|bytes| bytes.to_vec()), expected);
            let (_, record) = at.by_identifier(&format!("object {n}"))?.unwrap();
            assert_eq!(*record.identifier, format!("object {n}"));
            let cursor = at.state_value(format!("cursor {n}").as_bytes())?;
            assert_eq!(cursor.as_deref(), Some(&n.to_be_bytes()[..]));
        }
        assert_eq!(at.state_value(b"")?.as_deref(), Some(&b"nothing"[..]));
        assert_eq!(at.state_value(b"\xFF")?.as_deref(), Some(&b"last"[..]));
        Ok(())
    });
    read.unwrap();
}

#[test]
fn a_store_of_an_earlier_build_is_brought_up_to_date() {
    let behind = Arc::new(earlier());
    let before = Rows::of(&*behind);
    assert_eq!(
        open(behind.clone(), 2).err().unwrap().kind(),
        ErrorKind::Key
    );
    let store = open(behind.clone(), 1).unwrap();
    check(&store);
    // The next opening has nothing to do.
    let after = Rows::of(&*behind);
    check(&open(behind.clone(), 1).unwrap());
    let again = Rows::of(&*behind);
    assert_eq!(again.feed, after.feed);
    assert_eq!(again.state, after.state);
    // Index keys and object ids are what they were; the attributes of passwords are not, and their entries have moved up.
    assert_eq!(after.index, before.index);
    for (before, after) in before.records.iter().zip(&after.records) {
        assert_eq!(before.id, after.id);
        let is_password = (before.number - 1) % 10 == 0;
        assert_eq!(before.attributes != after.attributes, is_password);
    }
    let highest = after.feed.last().unwrap().0;
    assert_eq!(highest, RECORDS + RECORDS / 10);
    // Both kinds of key change as in any other store.
    store.new_data_key(&mut SystemRandom::default()).unwrap();
    store.change_key(Secret::new(&[3; 32])).unwrap();
    check(&open(behind.clone(), 3).unwrap());
}

/// Crashes at each of its writes, before and after the commit.
#[test]
fn a_crash_in_between_loses_nothing() {
    let whole = Arc::new(Faulty::new(earlier()));
    open(whole.clone(), 1).unwrap();
    let writes = whole.writes();
    assert!(writes > 6, "{writes}");
    for nth in 1..=writes {
        for committed in [false, true] {
            let store = Arc::new(Faulty::new(earlier()));
            store.fail(nth, Fault::Crash { committed });
            let failed = open(store.clone(), 1).err();
            assert_eq!(failed.unwrap().kind(), ErrorKind::Io, "{nth}");
            store.revive();
            check(&open(store.clone(), 1).unwrap());
        }
    }
}

/// An earlier build refuses what this one has begun: to it, all rows of the seal are data keys under the key-encryption key.
#[test]
fn a_half_migrated_store_opens_with_no_other_key() {
    let store = Arc::new(Faulty::new(earlier()));
    store.fail(3, Fault::Crash { committed: true });
    assert!(open(store.clone(), 1).is_err());
    store.revive();
    assert_eq!(open(store.clone(), 2).err().unwrap().kind(), ErrorKind::Key);
    let rows = Rows::of(&*store);
    let of_the_seal = rows.state.iter().filter(|(key, _)| key.starts_with(PREFIX));
    assert_eq!(of_the_seal.count(), 2);
    check(&open(store, 1).unwrap());
}

/// The data key of the earlier form, put back beside newer ones, does not make an earlier store of this one.
#[test]
fn a_data_key_of_the_earlier_form_is_not_taken_again() {
    let earlier = earlier();
    let mut old = None;
    let take = earlier.read(&mut |at| {
        at.state(&Span::prefix(PREFIX), &mut |key, value| {
            old = Some((key.to_vec(), value.to_vec()));
            Ok(ControlFlow::Break(()))
        })
    });
    take.unwrap();
    let (name, value) = old.unwrap();
    let behind = Arc::new(earlier);
    let store = open(behind.clone(), 1).unwrap();
    store.new_data_key(&mut SystemRandom::default()).unwrap();
    let put_back = || behind.transact::<_, Error>(|tx| tx.set_state(&name, Some(&value)));
    put_back().unwrap();
    assert_eq!(
        open(behind.clone(), 1).err().unwrap().kind(),
        ErrorKind::Corrupt
    );
}

#[test]
fn once_the_key_is_changed_no_earlier_copy_opens() {
    let copy = Arc::new(earlier());
    let behind = Arc::new(Memory::clone(&copy));
    let store = open(behind, 1).unwrap();
    store.change_key(Secret::new(&[3; 32])).unwrap();
    assert_eq!(open(copy, 3).err().unwrap().kind(), ErrorKind::Key);
}
