//! What lies in the store behind a seal is sealed, and comes out for the right key alone.

use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::Secret;
use keyferry_store::{
    ErrorKind, Incarnation, MaterialChange, Memory, Part, Put, RecordNumber, Result, Sealed, Span,
    Store, StoreExt,
};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const PLAIN: &[u8] = b"sixteen or more bytes of key material";

fn memory() -> Arc<Memory> {
    Arc::new(Memory::new(Incarnation([1; 16])))
}

fn open(store: &Arc<Memory>, key: u8) -> Result<Sealed<Arc<Memory>>> {
    Sealed::open(
        Arc::clone(store),
        Arc::new(Ring),
        Secret::new(&[key; 32]),
        &mut SystemRandom::default(),
    )
}

fn put(
    number: Option<RecordNumber>,
    id: &'static [u8],
    material: MaterialChange<'static>,
) -> Put<'static> {
    Put {
        number,
        id,
        attributes: b"attributes",
        material,
        remove: &[],
        insert: &[],
        entry: b"entry",
    }
}

fn write(store: &impl Store, put: Put<'_>) -> RecordNumber {
    store
        .transact::<_, keyferry_store::Error>(|tx| tx.put(&[put]))
        .unwrap()[0]
}

fn material(store: &impl Store, number: RecordNumber) -> Result<Option<Vec<u8>>> {
    store.view::<_, keyferry_store::Error>(|at| {
        Ok(at
            .get(number, Part::Whole)?
            .unwrap()
            .material
            .map(|material| material.to_vec()))
    })
}

#[test]
fn material_is_sealed_and_nothing_else_is_changed() {
    let behind = memory();
    let store = open(&behind, 1).unwrap();
    let number = write(&store, put(None, b"id", MaterialChange::Set(PLAIN)));
    assert_eq!(material(&store, number).unwrap().as_deref(), Some(PLAIN));
    let sealed = material(&behind, number).unwrap().unwrap();
    assert!(
        !sealed
            .windows(8)
            .any(|window| PLAIN.windows(8).any(|plain| plain == window))
    );
    let row = behind
        .view::<_, keyferry_store::Error>(|at| at.get(number, Part::Attributes))
        .unwrap()
        .unwrap();
    assert_eq!(
        (row.id, row.attributes, row.material),
        (b"id".to_vec(), b"attributes".to_vec(), None)
    );
    // The same once more, and nothing else, looks the same; for another object it does not.
    let other = write(&store, put(None, b"another", MaterialChange::Set(PLAIN)));
    assert_ne!(
        material(&behind, other).unwrap().unwrap()[17..],
        sealed[17..]
    );
    write(&store, put(Some(number), b"id", MaterialChange::Keep));
    assert_eq!(material(&store, number).unwrap().as_deref(), Some(PLAIN));
    write(&store, put(Some(number), b"id", MaterialChange::Remove));
    assert_eq!(material(&store, number).unwrap(), None);
}

#[test]
fn another_key_is_told_before_anything_is_read() {
    let behind = memory();
    let number = write(
        &open(&behind, 1).unwrap(),
        put(None, b"id", MaterialChange::Set(PLAIN)),
    );
    let error = open(&behind, 2).err().expect("another key");
    assert_eq!(error.kind(), ErrorKind::Key);
    assert!(error.to_string().contains("key-encryption key"), "{error}");
    assert_eq!(
        material(&open(&behind, 1).unwrap(), number)
            .unwrap()
            .as_deref(),
        Some(PLAIN)
    );
    let short = Sealed::open(
        memory(),
        Arc::new(Ring),
        Secret::new(&[1; 31]),
        &mut SystemRandom::default(),
    );
    assert_eq!(short.err().expect("31 bytes").kind(), ErrorKind::Key);
}

#[test]
fn a_store_that_was_filled_without_a_seal_is_refused() {
    let behind = memory();
    write(&behind, put(None, b"id", MaterialChange::Set(PLAIN)));
    assert_eq!(
        open(&behind, 1)
            .err()
            .expect("it has plain material")
            .kind(),
        ErrorKind::Key
    );
}

#[test]
fn what_was_altered_or_belongs_to_another_object_does_not_come_out() {
    let behind = memory();
    let store = open(&behind, 1).unwrap();
    let number = write(&store, put(None, b"id", MaterialChange::Set(PLAIN)));
    let sealed = material(&behind, number).unwrap().unwrap();
    for place in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[place] ^= 1;
        let altered: &'static [u8] = altered.leak();
        write(
            &behind,
            put(Some(number), b"id", MaterialChange::Set(altered)),
        );
        assert_eq!(
            material(&store, number).unwrap_err().kind(),
            ErrorKind::Corrupt,
            "byte {place}"
        );
    }
    for short in [0, 1, 16, 32, sealed.len() - 1] {
        let cut: &'static [u8] = sealed[..short].to_vec().leak();
        write(&behind, put(Some(number), b"id", MaterialChange::Set(cut)));
        assert_eq!(
            material(&store, number).unwrap_err().kind(),
            ErrorKind::Corrupt,
            "{short} bytes"
        );
    }
    let sealed: &'static [u8] = sealed.leak();
    let other = write(&behind, put(None, b"another", MaterialChange::Set(sealed)));
    assert_eq!(
        material(&store, other).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    write(
        &behind,
        put(Some(number), b"id", MaterialChange::Set(sealed)),
    );
    assert_eq!(material(&store, number).unwrap().as_deref(), Some(PLAIN));
}

#[test]
fn keys_change_while_the_store_is_in_use() {
    let behind = memory();
    let (store, second) = (open(&behind, 1).unwrap(), open(&behind, 1).unwrap());
    let old = write(&store, put(None, b"old", MaterialChange::Set(PLAIN)));
    store.new_data_key(&mut SystemRandom::default()).unwrap();
    let new = write(&store, put(None, b"new", MaterialChange::Set(PLAIN)));
    assert_ne!(
        material(&behind, old).unwrap().unwrap()[..5],
        material(&behind, new).unwrap().unwrap()[..5]
    );
    // One that was open before looks up the data key that it lacks.
    assert_eq!(material(&second, new).unwrap().as_deref(), Some(PLAIN));
    store.change_key(Secret::new(&[2; 32])).unwrap();
    for store in [&store, &second] {
        assert_eq!(material(store, old).unwrap().as_deref(), Some(PLAIN));
    }
    assert_eq!(
        second.change_key(Secret::new(&[3; 32])).unwrap_err().kind(),
        ErrorKind::Key,
        "it has the old one"
    );
    assert_eq!(
        open(&behind, 1).err().expect("the old key").kind(),
        ErrorKind::Key
    );
    let again = open(&behind, 2).unwrap();
    for number in [old, new] {
        assert_eq!(material(&again, number).unwrap().as_deref(), Some(PLAIN));
    }
}

#[test]
fn the_keys_in_the_state_are_nobody_elses() {
    let behind = memory();
    let store = open(&behind, 1).unwrap();
    let keys = |store: &dyn Store| {
        let mut keys = Vec::new();
        store
            .read(&mut |at| {
                at.state(&Span::all(), &mut |key, _| {
                    keys.push(key.to_vec());
                    Ok(ControlFlow::Continue(()))
                })
            })
            .unwrap();
        keys
    };
    assert!(keys(&store).is_empty());
    let hidden = keys(&*behind);
    assert_eq!(hidden.len(), 1);
    let touched = store.write(&mut |tx| tx.set_state(&hidden[0], None));
    assert_eq!(touched.unwrap_err().kind(), ErrorKind::Misuse);
    assert_eq!(keys(&*behind), hidden);
}

/// Writers and readers go on while both kinds of key are changed again and again, by the one who has the store open and by another.
#[test]
fn keys_are_changed_without_a_pause() {
    let behind = memory();
    let store = open(&behind, 0).unwrap();
    let done = AtomicBool::new(false);
    let (store, done) = (&store, &done);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3_u8)
            .map(|writer| {
                scope.spawn(move || {
                    let mut numbers = Vec::new();
                    while !done.load(Ordering::SeqCst) || numbers.is_empty() {
                        numbers.push(write(store, put(None, b"id", MaterialChange::Set(PLAIN))));
                        let nth = numbers[numbers.len() * usize::from(writer) / 3];
                        assert_eq!(material(store, nth).unwrap().as_deref(), Some(PLAIN));
                        write(store, put(Some(nth), b"id", MaterialChange::Set(PLAIN)));
                    }
                    numbers
                })
            })
            .collect();
        for key in 1..=20 {
            store.change_key(Secret::new(&[key; 32])).unwrap();
            store.new_data_key(&mut SystemRandom::default()).unwrap();
        }
        done.store(true, Ordering::SeqCst);
        let written: Vec<RecordNumber> = writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect();
        assert_eq!(
            open(&behind, 19).err().expect("an old key").kind(),
            ErrorKind::Key
        );
        let again = open(&behind, 20).unwrap();
        for number in written {
            assert_eq!(material(&again, number).unwrap().as_deref(), Some(PLAIN));
        }
    });
}
