//! What was altered behind a seal is an error when it is read, whatever it is and however it was altered.

use crate::objects::{put, record};
use crate::rows::Rows;
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::spec::ObjectType;
use keyferry_kmip::{Crypto, Secret};
use keyferry_store::{
    Error, ErrorKind, Home, Incarnation, Index, IndexKey, MaterialChange, Memory, Order, Part,
    RecordNumber, Result, Sealed, Snapshot, SnapshotExt, Span, Store, StoreExt, index,
};
use keyferry_ttlv::Extra;
use std::ops::ControlFlow;
use std::sync::Arc;

const PASSWORD: &[u8] = b"correct horse";
const FINGERPRINT_KEY: [u8; 32] = [0x5A; 32];

fn open<S: Store>(store: S) -> Result<Sealed<S>> {
    let random = &mut SystemRandom::default();
    Sealed::open(store, Arc::new(Ring), Secret::new(&[1; 32]), random)
}

/// The digest of the password.
fn digest() -> [u8; 32] {
    Ring.sha256(&[PASSWORD])
}

/// A key, a password, a key without material, one that was changed under another data key, and some state.
fn filled() -> (Arc<Memory>, Sealed<Arc<Memory>>) {
    let behind = Arc::new(Memory::new(Incarnation([1; 16])));
    let store = open(behind.clone()).unwrap();
    let home = || Home {
        server: "alpha".into(),
        instance: vec![1; 16],
        fingerprint_key: Secret::new(&FINGERPRINT_KEY),
        extra: Extra::NONE,
    };
    store.home("alpha", home).unwrap();
    store.begin_reign([4; 16]).unwrap();
    let key = record("key", ObjectType::SYMMETRIC_KEY, [3; 32]);
    let first = put(&store, None, &key, MaterialChange::Set(&[6; 40]));
    let password = record("password", ObjectType::SECRET_DATA, digest());
    put(&store, None, &password, MaterialChange::Set(PASSWORD));
    let bare = record("bare", ObjectType::SYMMETRIC_KEY, [4; 32]);
    put(&store, None, &bare, MaterialChange::Keep);
    store.new_data_key(&mut SystemRandom::default()).unwrap();
    put(&store, Some(first), &key, MaterialChange::Keep);
    (behind, store)
}

fn state(at: &dyn Snapshot, span: &Span) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut seen = Vec::new();
    at.state(span, &mut |key, value| {
        seen.push((key.to_vec(), value.to_vec()));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(seen)
}

fn scan(at: &dyn Snapshot, index: u8, span: &Span, order: Order) -> Result<Vec<(Vec<u8>, u64)>> {
    let mut seen = Vec::new();
    at.scan(Index(index), span, order, None, &mut |key, number| {
        seen.push((key.to_vec(), number.0));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(seen)
}

type Row = (Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// The answer to every kind of question.
#[derive(Debug, PartialEq)]
struct Answers {
    head: Result<Incarnation, ErrorKind>,
    whole: Vec<Result<Option<Row>, ErrorKind>>,
    attributes: Vec<Result<Option<Row>, ErrorKind>>,
    arrivals: [Result<Vec<(Vec<u8>, u64)>, ErrorKind>; 2],
    indexes: Vec<Result<Vec<(Vec<u8>, u64)>, ErrorKind>>,
    feed: Result<Vec<(u64, Vec<u8>)>, ErrorKind>,
    state: Result<Vec<(Vec<u8>, Vec<u8>)>, ErrorKind>,
    home: Result<Option<Home>, ErrorKind>,
}

fn row(at: &dyn Snapshot, number: u64, part: Part) -> Result<Option<Row>, ErrorKind> {
    let row = at.get(RecordNumber(number), part).map_err(kind)?;
    Ok(row.map(|row| (row.id, row.attributes, row.material.map(|m| m.to_vec()))))
}

fn kind(error: Error) -> ErrorKind {
    error.kind()
}

fn feed(at: &dyn Snapshot) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut seen = Vec::new();
    at.feed(0, &mut |row| {
        seen.push((row.record.0, row.entry.to_vec()));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(seen)
}

impl Answers {
    fn of(store: &dyn Store) -> Answers {
        let mut answers = None;
        let mut ask = |at: &dyn Snapshot| {
            let all = Span::all();
            answers = Some(Answers {
                head: at.incarnation().map_err(kind),
                whole: (0..6).map(|n| row(at, n, Part::Whole)).collect(),
                attributes: (0..6).map(|n| row(at, n, Part::Attributes)).collect(),
                arrivals: [Order::Ascending, Order::Descending]
                    .map(|order| scan(at, 0, &all, order).map_err(kind)),
                indexes: (1..=10)
                    .map(|index| scan(at, index, &all, Order::Ascending).map_err(kind))
                    .collect(),
                feed: feed(at).map_err(kind),
                state: state(at, &all).map_err(kind),
                home: at.home().map_err(kind),
            });
            Ok(())
        };
        store.read(&mut ask).unwrap();
        answers.unwrap()
    }

    /// How many questions were refused, and all others answered as `right`; index entries and, of the whole feed and of single keys of
    /// the state, what is gone may be missing where `may_miss` says so.
    fn refused(&self, right: &Answers, may_miss: bool, place: &str) -> usize {
        let mut refused = 0;
        refused += same(&self.head, &right.head, place);
        for (mine, theirs) in self.whole.iter().zip(&right.whole) {
            refused += same(mine, theirs, place);
        }
        for (mine, theirs) in self.attributes.iter().zip(&right.attributes) {
            refused += same(mine, theirs, place);
        }
        for (mine, theirs) in self.arrivals.iter().zip(&right.arrivals) {
            refused += same(mine, theirs, place);
        }
        for (mine, theirs) in self.indexes.iter().zip(&right.indexes) {
            refused += part(mine, theirs, may_miss, place);
        }
        refused += part(&self.feed, &right.feed, may_miss, place);
        refused += same(&self.state, &right.state, place);
        match (&self.home, may_miss) {
            (Ok(None), true) => {}
            _ => refused += same(&self.home, &right.home, place),
        }
        refused
    }
}

/// 1 for a refusal, 0 for the right answer.
fn same<T: PartialEq + std::fmt::Debug>(
    mine: &Result<T, ErrorKind>,
    right: &Result<T, ErrorKind>,
    place: &str,
) -> usize {
    match mine {
        Err(kind) => {
            assert!(
                matches!(kind, ErrorKind::Corrupt | ErrorKind::Key),
                "{place}: {kind:?}"
            );
            1
        }
        Ok(_) => {
            assert_eq!(mine, right, "{place}");
            0
        }
    }
}

fn part<T: PartialEq + std::fmt::Debug + Clone>(
    mine: &Result<Vec<T>, ErrorKind>,
    right: &Result<Vec<T>, ErrorKind>,
    may_miss: bool,
    place: &str,
) -> usize {
    match (mine, right) {
        (Ok(mine), Ok(right)) if may_miss => {
            let is_there = mine.iter().all(|one| right.contains(one));
            assert!(is_there && mine.len() <= right.len(), "{place}: {mine:?}");
            0
        }
        _ => same(mine, right, place),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    Incarnation,
    RecordNumber,
    Id,
    Attributes,
    MaterialNumber,
    Material,
    Index,
    IndexKey,
    IndexNumber,
    FeedRecord,
    FeedEntry,
    StateKey,
    StateValue,
}

/// Every byte string and every number of the rows; a number is given as its bytes.
fn fields(rows: &Rows) -> Vec<(Field, usize, usize)> {
    let mut fields = vec![(Field::Incarnation, 0, 16)];
    for (at, stored) in rows.records.iter().enumerate() {
        fields.push((Field::RecordNumber, at, 8));
        fields.push((Field::Id, at, stored.id.len()));
        fields.push((Field::Attributes, at, stored.attributes.len()));
    }
    for (at, (_, material)) in rows.material.iter().enumerate() {
        fields.push((Field::MaterialNumber, at, 8));
        fields.push((Field::Material, at, material.len()));
    }
    for (at, (_, key, _)) in rows.index.iter().enumerate() {
        fields.push((Field::Index, at, 1));
        fields.push((Field::IndexKey, at, key.len()));
        fields.push((Field::IndexNumber, at, 8));
    }
    for (at, (.., entry)) in rows.feed.iter().enumerate() {
        fields.push((Field::FeedRecord, at, 8));
        fields.push((Field::FeedEntry, at, entry.len()));
    }
    for (at, (key, value)) in rows.state.iter().enumerate() {
        fields.push((Field::StateKey, at, key.len()));
        fields.push((Field::StateValue, at, value.len()));
    }
    fields
}

fn flip(rows: &mut Rows, (field, at): (Field, usize), bit: usize) {
    let in_bytes = |bytes: &mut [u8]| bytes[bit / 8] ^= 1 << (bit % 8);
    let in_number = |number: &mut u64| *number ^= 1 << bit;
    match field {
        Field::Incarnation => in_bytes(&mut rows.incarnation),
        Field::RecordNumber => in_number(&mut rows.records[at].number),
        Field::Id => in_bytes(&mut rows.records[at].id),
        Field::Attributes => in_bytes(&mut rows.records[at].attributes),
        Field::MaterialNumber => in_number(&mut rows.material[at].0),
        Field::Material => in_bytes(&mut rows.material[at].1),
        Field::Index => rows.index[at].0 ^= 1 << bit,
        Field::IndexKey => in_bytes(&mut rows.index[at].1),
        Field::IndexNumber => in_number(&mut rows.index[at].2),
        Field::FeedRecord => in_number(&mut rows.feed[at].1),
        Field::FeedEntry => in_bytes(&mut rows.feed[at].2),
        Field::StateKey => in_bytes(&mut rows.state[at].0),
        Field::StateValue => in_bytes(&mut rows.state[at].1),
    }
}

/// One bit of each sixteen or so, other ones with another `KEYFERRY_SEED`; every one with `KEYFERRY_EVERY=1`.
#[test]
fn a_flipped_bit_is_an_error_and_never_another_answer() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let mut random: u64 = number("KEYFERRY_SEED").unwrap_or(1);
    let every = number("KEYFERRY_EVERY").unwrap_or(16);
    println!("KEYFERRY_SEED={random} KEYFERRY_EVERY={every}");
    let (behind, store) = filled();
    let right = Answers::of(&store);
    assert_eq!(right, Answers::of(&open(Rows::of(&*behind)).unwrap()));
    assert!(right.state.as_ref().unwrap().len() == 2 && right.feed.as_ref().unwrap().len() == 3);
    let rows = Rows::of(&*behind);
    let mut flipped = 0;
    for (field, at, length) in fields(&rows) {
        for bit in 0..length * 8 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            if !(random >> 33).is_multiple_of(every) {
                continue;
            }
            let mut rows = rows.clone();
            flip(&mut rows, (field, at), bit);
            check_flipped(rows, &right, field, &format!("{field:?} {at}, bit {bit}"));
            flipped += 1;
        }
    }
    assert!(flipped * every as usize > 10_000, "{flipped}");
}

fn check_flipped(rows: Rows, right: &Answers, field: Field, place: &str) {
    let store = match open(rows) {
        Ok(store) => store,
        // A data key, or what made one of something else.
        Err(error) => {
            let is_state = matches!(field, Field::StateKey | Field::StateValue);
            assert!(is_state, "{place}: {error}");
            return assert!(
                matches!(error.kind(), ErrorKind::Key | ErrorKind::Corrupt),
                "{place}: {error}"
            );
        }
    };
    let is_index = matches!(field, Field::Index | Field::IndexKey | Field::IndexNumber);
    let may_miss = is_index || field == Field::StateKey;
    let refused = Answers::of(&store).refused(right, may_miss, place);
    // An index entry may have gone where no question leads.
    assert!(refused > 0 || is_index, "{place}: nothing was refused");
    match store.verify() {
        Ok(found) => assert!(!found.is_sound(), "{place}: it passes for sound"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Key, "{place}: {error}"),
    }
}

/// The rows behind the seal, altered, and the error of a question.
fn error_of(
    alter: impl FnOnce(&mut Rows),
    ask: impl Fn(&dyn Snapshot) -> Result<()>,
) -> (ErrorKind, String) {
    let mut rows = Rows::of(&*filled().0);
    alter(&mut rows);
    let store = open(rows).unwrap();
    assert!(!store.verify().unwrap().is_sound());
    let error = store.read(&mut |at| ask(at)).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn what_stands_at_another_place_is_refused_and_the_place_named() {
    let get = |number| move |at: &dyn Snapshot| at.get(RecordNumber(number), Part::Whole).map(drop);
    let swap = |rows: &mut Rows| {
        let (one, other) = (rows.records[0].number, rows.records[2].number);
        (rows.records[0].number, rows.records[2].number) = (other, one);
    };
    for number in [1, 3] {
        let (kind, text) = error_of(swap, get(number));
        assert_eq!(kind, ErrorKind::Corrupt);
        assert!(text.contains(&format!("record {number}:")), "{text}");
    }
    let (kind, text) = error_of(|rows| _ = rows.records.remove(1), get(2));
    assert!(
        kind == ErrorKind::Corrupt && text.contains("record 2: it is missing"),
        "{text}"
    );
    let (kind, text) = error_of(|rows| _ = rows.material.remove(0), get(1));
    assert!(
        kind == ErrorKind::Corrupt && text.contains("key material"),
        "{text}"
    );
    let values = |rows: &mut Rows| {
        let place = |key: &[u8]| rows.state.iter().position(|(at, _)| at == key).unwrap();
        let (home, reign) = (place(b"home"), place(b"reign"));
        rows.state[reign].1 = rows.state[home].1.clone();
    };
    let (kind, text) = error_of(values, |at| at.reign().map(drop));
    assert_eq!(kind, ErrorKind::Corrupt);
    assert!(
        text.contains("the state under the key 726569676e"),
        "{text}"
    );
    let (kind, text) = error_of(|rows| rows.feed[0].1 = 1, |at| feed(at).map(drop));
    assert!(
        kind == ErrorKind::Corrupt && text.contains("feed entry 2"),
        "{text}"
    );
}

#[test]
fn an_index_entry_is_believed_only_when_the_record_has_the_key() {
    let name = index::name("key");
    let moved = |rows: &mut Rows| {
        let (index, key) = (name.index.0, name.key.to_vec());
        rows.index.push((index, key, 3));
    };
    let (kind, text) = error_of(moved, |at| {
        scan(at, name.index.0, &Span::exact(&name.key), Order::Ascending).map(drop)
    });
    assert_eq!(kind, ErrorKind::Corrupt);
    assert!(text.contains("record 3: index 3, key 6b6579"), "{text}");
    // One that is gone is found when all is read.
    let mut rows = Rows::of(&*filled().0);
    let gone = rows.index.remove(4);
    let found = open(rows).unwrap().verify().unwrap();
    assert_eq!(found.faults, 1, "{found:?}");
    assert!(found.named[0].contains("the entry is missing"), "{found:?}");
    assert!(
        found.named[0].contains(&format!("record {}: index {}", gone.2, gone.0)),
        "{found:?}"
    );
}

#[test]
fn an_earlier_record_is_not_taken_without_all_that_goes_with_it() {
    let (behind, store) = filled();
    let earlier = Rows::of(&*behind);
    let mut key = record("key", ObjectType::SYMMETRIC_KEY, [3; 32]);
    key.stamp.sequence = 2;
    key.owner = Some("another".into());
    put(
        &store,
        Some(RecordNumber(1)),
        &key,
        MaterialChange::Set(&[7; 40]),
    );
    let now = Rows::of(&*behind);
    let reads = |rows: &Rows| {
        let store = open(rows.clone()).unwrap();
        let read = store.view::<_, Error>(|at| at.get(RecordNumber(1), Part::Whole));
        read.map(|row| row.is_some()).map_err(kind)
    };
    assert_eq!(reads(&now), Ok(true));
    let mut rows = now.clone();
    rows.records[0] = earlier.records[0].clone();
    assert_eq!(reads(&rows), Err(ErrorKind::Corrupt));
    let mut rows = now.clone();
    rows.material[0] = earlier.material[0].clone();
    assert_eq!(reads(&rows), Err(ErrorKind::Corrupt));
    let mut rows = now.clone();
    rows.feed = earlier.feed.clone();
    let found = open(rows).unwrap().verify().unwrap();
    assert!(!found.is_sound());
}

#[test]
fn what_is_kept_is_not_vouched_for_unless_it_is_right() {
    let (behind, store) = filled();
    let key = record("key", ObjectType::SYMMETRIC_KEY, [3; 32]);
    let other = record("key", ObjectType::SYMMETRIC_KEY, [8; 32]);
    // Behind the seal: other attributes, and no material.
    put(
        &*behind,
        Some(RecordNumber(1)),
        &other,
        MaterialChange::Remove,
    );
    let id = key.id.encoded().unwrap();
    let kept = keyferry_store::Put {
        number: Some(RecordNumber(1)),
        id: &id,
        attributes: &key.encoded().unwrap(),
        material: MaterialChange::Keep,
        remove: &[],
        insert: &[],
        entry: b"entry",
    };
    let error = store
        .write(&mut |tx| tx.put(&[kept]).map(drop))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    // To set all of it anew heals it.
    put(
        &store,
        Some(RecordNumber(1)),
        &key,
        MaterialChange::Set(&[6; 40]),
    );
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn nothing_that_tells_a_guess_can_be_read_at_rest() {
    let (behind, _) = filled();
    let rows = Rows::of(&*behind);
    let mut bytes = Vec::new();
    for stored in &rows.records {
        bytes.push(stored.attributes.clone());
    }
    bytes.extend(rows.index.iter().map(|(_, key, _)| key.clone()));
    bytes.extend(rows.feed.iter().map(|(.., entry)| entry.clone()));
    bytes.extend(rows.state.iter().map(|(_, value)| value.clone()));
    bytes.extend(rows.material.iter().map(|(_, material)| material.clone()));
    for secret in [&digest()[..], PASSWORD, &FINGERPRINT_KEY] {
        let is_there = bytes.iter().any(|bytes| {
            bytes
                .windows(8)
                .any(|part| secret.windows(8).any(|own| own == part))
        });
        assert!(!is_there, "{secret:?}");
    }
    // The Digest of a key that nobody can guess stays.
    assert!(
        rows.records[0]
            .attributes
            .windows(32)
            .any(|part| part == [3; 32])
    );
    // Nor does the commit chain: it covers what stands there.
    let password = record("password", ObjectType::SECRET_DATA, digest());
    let stored = &rows.records[1];
    assert_ne!(stored.attributes, password.encoded().unwrap());
    assert_eq!(stored.id, password.id.encoded().unwrap());
}

#[test]
fn an_incarnation_is_the_one_that_the_seal_knows() {
    let (behind, store) = filled();
    let beside = open(behind.clone()).unwrap();
    let next = Incarnation([9; 16]);
    let seen = store.transact::<_, Error>(|tx| {
        tx.restored(next)?;
        tx.incarnation()
    });
    assert_eq!(seen.unwrap(), next);
    for store in [&store, &beside, &open(behind.clone()).unwrap()] {
        assert_eq!(store.view::<_, Error>(|at| at.incarnation()).unwrap(), next);
    }
    behind
        .transact::<_, Error>(|tx| tx.restored(Incarnation([8; 16])))
        .unwrap();
    let error = store.view::<_, Error>(|at| at.head()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn a_sealed_store_says_nothing_to_who_opens_it_without_the_seal() {
    let (behind, store) = filled();
    let home = behind.view::<_, Error>(|at| at.home());
    assert_eq!(home.unwrap_err().kind(), ErrorKind::Corrupt);
    // What was written without the seal is not taken.
    let new = record("new", ObjectType::SYMMETRIC_KEY, [5; 32]);
    let number = put(&*behind, None, &new, MaterialChange::Keep);
    let error = store.view::<_, Error>(|at| at.record(number)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        error.to_string().contains("it was not written here"),
        "{error}"
    );
    behind
        .transact::<_, Error>(|tx| tx.set_state(b"reign", Some(&[4; 16])))
        .unwrap();
    let error = store.view::<_, Error>(|at| at.reign()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let found = store.verify().unwrap();
    assert_eq!(found.named.len() as u64, found.faults);
    assert!(found.to_string().contains("4 records"), "{found}");
}

/// State without a record is no less filled without a seal.
#[test]
fn state_in_clear_is_refused() {
    let behind = Arc::new(Memory::new(Incarnation([1; 16])));
    behind
        .transact::<_, Error>(|tx| tx.set_state(b"cursor", Some(b"1")))
        .unwrap();
    let error = open(behind).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Key);
}

/// Index keys of records that the store's users do not know are theirs to keep.
#[test]
fn attributes_that_are_no_record_have_any_keys() {
    let store = open(Memory::new(Incarnation([1; 16]))).unwrap();
    let insert = [IndexKey {
        index: Index(200),
        key: Box::from(*b"key"),
    }];
    let put = keyferry_store::Put {
        number: None,
        id: b"id",
        attributes: b"attributes",
        material: MaterialChange::Keep,
        remove: &[],
        insert: &insert,
        entry: b"entry",
    };
    store.transact::<_, Error>(|tx| tx.put(&[put])).unwrap();
    let seen = store.view::<_, Error>(|at| scan(at, 200, &Span::all(), Order::Descending));
    assert_eq!(seen.unwrap(), [(b"key".to_vec(), 1)]);
    assert!(store.verify().unwrap().is_sound());
}
