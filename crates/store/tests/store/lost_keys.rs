//! A feed entry names the index keys that its object has lost, over all changes that a reader may have missed.

use crate::objects::record;
use keyferry_kmip::spec::{AttributeValue, ObjectType};
use keyferry_kmip::{DateTime, Name};
use keyferry_store::record::{KeyBefore, read};
use keyferry_store::{
    Effects, Entry, Error, Incarnation, Material, Memory, Record, SnapshotExt, StoreExt, index,
};
use std::ops::ControlFlow;

/// Changes the one object of a store, and returns the keys that its feed entry says it has lost.
fn change(store: &Memory, change: impl Fn(&mut Record)) -> Vec<KeyBefore> {
    let done = store.transact::<_, Error>(|transaction| {
        let held = transaction.by_identifier("one")?;
        let mut after = match &held {
            Some((_, held)) => held.clone(),
            None => record("one", ObjectType::SECRET_DATA, [1; 32]),
        };
        change(&mut after);
        after.stamp.sequence += 1;
        Effects::change(held, after, Material::Keep)
            .apply(transaction)
            .map(drop)
    });
    done.unwrap();
    let entries = store.view::<_, Error>(|snapshot| {
        let mut entries = Vec::new();
        snapshot.feed(0, &mut |row| {
            entries.push(read::<Entry>(row.entry, "feed entry")?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(entries)
    });
    let mut entries = entries.unwrap();
    assert_eq!(entries.len(), 1, "the feed has the newest entry alone");
    entries.remove(0).before
}

fn named(n: usize) -> AttributeValue {
    AttributeValue::Name(Name::text(format!("name {n}")))
}

#[test]
fn lost_keys_add_up_come_back_and_are_any_key_when_they_are_too_many() {
    let store = Memory::new(Incarnation([1; 16]));
    let rename = |n| change(&store, |record| record.attributes.set(named(n)));
    let before = rename(0);
    assert_eq!(before, []);
    assert_eq!(rename(1).len(), 1);
    assert_eq!(rename(2).len(), 2);
    // A key that the object has again is not lost.
    assert_eq!(rename(1).len(), 2);
    // Dates by themselves are no keys that a relation selects by; the State that one leads to is.
    let set_date = |at| {
        change(&store, |record| {
            record
                .attributes
                .set(AttributeValue::DeactivationDate(DateTime(at)));
        })
    };
    set_date(1);
    let lost = set_date(2);
    assert_eq!(lost.len(), 3);
    assert!(lost.iter().all(|key| key.0.index != index::DATE));
    for n in 3..64 {
        let lost = rename(n);
        assert_eq!(lost.len(), n + 1, "{lost:?}");
    }
    assert_eq!(rename(64), [KeyBefore::any()]);
    assert_eq!(rename(65), [KeyBefore::any()]);
}
