//! This module runs random operations on a store and on plain maps, and compares the two.

use super::image::{INDEXES, feed, look, state};
use super::scans::{expected, scan_some};
use super::{Change, Material, Subject, clause, must};
use crate::contract::{Cursor, Order, Part, Put, RecordNumber, Snapshot, Span, Store, Transaction};
use crate::error::{Error, ErrorKind, Result};
use crate::position::{CommitId, Incarnation};
use std::collections::{BTreeMap, BTreeSet};

const CLAUSE: &str = "against_model";

/// Runs random operations on the store and on plain maps, and compares them; the seed is printed.
///
/// `KEYFERRY_SEED` and `KEYFERRY_ROUNDS` in the environment change the seed and the number of transactions.
pub fn against_model(subject: &dyn Subject) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    against_model_seeded(
        subject,
        number("KEYFERRY_SEED").unwrap_or(1),
        number("KEYFERRY_ROUNDS").unwrap_or(200),
    );
}

/// [`against_model`] with a seed and a number of transactions.
pub fn against_model_seeded(subject: &dyn Subject, seed: u64, rounds: u64) {
    println!("against_model: KEYFERRY_SEED={seed} KEYFERRY_ROUNDS={rounds}");
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut store = subject.open();
    let mut model = Model {
        incarnation: look(CLAUSE, &*store, |at| Ok(at.head()?.incarnation)),
        ..Model::default()
    };
    for round in 0..rounds {
        write(&*store, &mut model, &mut random);
        if round % 40 == 39 {
            store = subject.reopen(store);
        }
        must(
            CLAUSE,
            "a read",
            store.read(&mut |at| {
                let head = at.head()?;
                let expected = (model.incarnation, model.chain);
                clause!(
                    CLAUSE,
                    (head.incarnation, head.commit) == expected,
                    "the head is {head:?}, not {expected:?}"
                );
                model.compare_content(at, &mut random)?;
                model.compare_feed(at, &mut random)
            }),
        );
    }
}

/// Runs one random transaction on the store and, when it commits, on the model; one in five is aborted.
fn write(store: &dyn Store, model: &mut Model, random: &mut Random) {
    let abort = random.one_in(5);
    let start = random.clone();
    let mut next = None;
    let result = store.write(&mut |tx| {
        // A rerun begins where the first run began.
        *random = start.clone();
        let mut draft = model.clone();
        let mut commit = Vec::new();
        for _ in 0..1 + random.below(4) {
            operation(tx, (model, &mut draft), &mut commit, random)?;
        }
        draft.committed(&commit);
        next = Some(draft);
        if abort { Err(Error::aborted()) } else { Ok(()) }
    });
    match (abort, result) {
        (false, result) => {
            must(CLAUSE, "a write", result);
            *model = next.unwrap();
        }
        (true, Err(error)) if error.kind() == ErrorKind::Aborted => {}
        (true, other) => {
            panic!("conformance clause `{CLAUSE}` is broken: an aborted write returned {other:?}")
        }
    }
}

/// Runs one random operation on the transaction and on the draft of the model, or compares them.
fn operation(
    tx: &mut dyn Transaction,
    (model, draft): (&Model, &mut Model),
    commit: &mut Vec<Change>,
    random: &mut Random,
) -> Result<()> {
    match random.below(12) {
        0..6 => {
            let batch = draft.invent(random);
            let puts: Vec<Put<'_>> = batch.iter().map(Change::put).collect();
            let numbers = tx.put(&puts)?;
            clause!(
                CLAUSE,
                numbers.len() == puts.len(),
                "{} puts returned {} numbers",
                puts.len(),
                numbers.len()
            );
            for (change, number) in batch.iter().zip(numbers) {
                draft.apply(change, number);
            }
            commit.extend(batch);
        }
        6..9 => {
            let (key, value) = (random.key(), (!random.one_in(3)).then(|| random.bytes(40)));
            tx.set_state(&key, value.as_deref())?;
            draft.set_state(key, value);
        }
        9 if random.one_in(8) => {
            draft.incarnation = Incarnation([random.below(256) as u8; 16]);
            tx.restored(draft.incarnation)?;
        }
        _ => {
            draft.compare_content(tx, random)?;
            model.compare_feed(tx, random)?;
        }
    }
    Ok(())
}

/// xorshift64*, which is enough to vary a test.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let length = if self.one_in(30) {
            9000
        } else {
            self.below(most)
        };
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// A short key of few different bytes, so that keys meet and are prefixes of one another.
    fn key(&mut self) -> Vec<u8> {
        let alphabet = [0, 1, b'a', 0xFF];
        (0..self.below(5))
            .map(|_| alphabet[self.below(4) as usize])
            .collect()
    }

    fn span(&mut self) -> Span {
        match self.below(4) {
            0 => Span::all(),
            1 => Span::exact(&self.key()),
            2 => Span::prefix(&self.key()),
            _ => Span {
                from: self.key(),
                to: (!self.one_in(3)).then(|| self.key()),
            },
        }
    }
}

#[derive(Clone, Default)]
struct Known {
    id: Vec<u8>,
    attributes: Vec<u8>,
    material: Option<Vec<u8>>,
    keys: BTreeSet<(u8, Vec<u8>)>,
    /// The place of its last put among all puts, and its feed entry.
    entry: (u64, Vec<u8>),
    commit: Option<CommitId>,
}

#[derive(Clone)]
struct Model {
    incarnation: Incarnation,
    chain: CommitId,
    puts: u64,
    records: BTreeMap<u64, Known>,
    /// Records put in the transaction under way.
    touched: BTreeSet<u64>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Default for Model {
    fn default() -> Model {
        Model {
            incarnation: Incarnation([0; 16]),
            chain: CommitId::ZERO,
            puts: 0,
            records: BTreeMap::new(),
            touched: BTreeSet::new(),
            state: BTreeMap::new(),
        }
    }
}

impl Model {
    /// A random batch: new records, and changes of different old ones.
    fn invent(&self, random: &mut Random) -> Vec<Change> {
        let mut old = BTreeSet::new();
        (0..random.below(6))
            .map(|_| self.invent_one(random, &mut old))
            .collect()
    }

    fn invent_one(&self, random: &mut Random, old: &mut BTreeSet<u64>) -> Change {
        let numbers: Vec<u64> = self.records.keys().copied().collect();
        let picked = numbers
            .get(random.below(numbers.len() as u64 * 3 / 2 + 1) as usize)
            .copied();
        let picked = picked.filter(|number| old.insert(*number));
        let known = picked.and_then(|number| self.records.get(&number)).cloned();
        let (id, keys) = known.map_or_else(
            || (random.bytes(20), BTreeSet::new()),
            |known| (known.id, known.keys),
        );
        let mut change = Change {
            number: picked.map(RecordNumber),
            id,
            ..Change::default()
        };
        change = change.attributes(random.bytes(300)).entry(random.bytes(60));
        change = change.material(match random.below(4) {
            0 => Material::Remove,
            1 => Material::Keep,
            _ => Material::Set(random.bytes(100)),
        });
        for (index, key) in keys {
            if random.one_in(3) {
                change = change.remove(index, key);
            }
        }
        for _ in 0..random.below(5) {
            change = change.insert(INDEXES[random.below(4) as usize], random.key());
        }
        change
    }

    fn apply(&mut self, change: &Change, number: RecordNumber) {
        self.puts += 1;
        let known = self.records.entry(number.0).or_default();
        known.id.clone_from(&change.id);
        known.attributes.clone_from(&change.attributes);
        match &change.material {
            Material::Keep => {}
            Material::Set(bytes) => known.material = Some(bytes.clone()),
            Material::Remove => known.material = None,
        }
        for key in &change.remove {
            known.keys.remove(&(key.index.0, key.key.to_vec()));
        }
        known.keys.extend(
            change
                .insert
                .iter()
                .map(|key| (key.index.0, key.key.to_vec())),
        );
        known.entry = (self.puts, change.entry.clone());
        self.touched.insert(number.0);
    }

    fn set_state(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.state.insert(key, value),
            None => self.state.remove(&key),
        };
    }

    fn committed(&mut self, puts: &[Change]) {
        self.chain = super::chain(self.chain, puts);
        for number in std::mem::take(&mut self.touched) {
            if let Some(known) = self.records.get_mut(&number) {
                known.commit = Some(self.chain);
            }
        }
    }

    fn compare_content(&self, at: &dyn Snapshot, random: &mut Random) -> Result<()> {
        self.compare_records(at, random)?;
        self.compare_indexes(at, random)?;
        self.compare_state(at, random)
    }

    fn compare_records(&self, at: &dyn Snapshot, random: &mut Random) -> Result<()> {
        let count = at.count()?;
        clause!(
            CLAUSE,
            count == self.records.len() as u64,
            "count is {count}, not {}",
            self.records.len()
        );
        for _ in 0..4 {
            let number = random.below(self.records.keys().next_back().copied().unwrap_or(0) + 2);
            let row = at.get(RecordNumber(number), Part::Whole)?;
            let seen = row.map(|row| (row.id, row.attributes, row.material.map(|m| m.to_vec())));
            let expected = self
                .records
                .get(&number)
                .map(|k| (k.id.clone(), k.attributes.clone(), k.material.clone()));
            clause!(
                CLAUSE,
                seen == expected,
                "record {number} is {seen:?}, not {expected:?}"
            );
        }
        Ok(())
    }

    fn compare_indexes(&self, at: &dyn Snapshot, random: &mut Random) -> Result<()> {
        let mut entries = BTreeSet::new();
        for (number, known) in &self.records {
            entries.insert((0, number.to_be_bytes().to_vec(), *number));
            entries.extend(
                known
                    .keys
                    .iter()
                    .map(|(index, key)| (*index, key.clone(), *number)),
            );
        }
        for _ in 0..6 {
            let index = match random.one_in(6) {
                true => 0,
                false => INDEXES[random.below(4) as usize],
            };
            let order = match random.one_in(2) {
                true => Order::Ascending,
                false => Order::Descending,
            };
            let span = match index {
                0 => Span::all(),
                _ => random.span(),
            };
            let number = RecordNumber(random.below(self.records.len() as u64 + 2));
            let key = match index {
                0 => number.0.to_be_bytes().to_vec(),
                _ => random.key(),
            };
            let after = random.one_in(2).then_some(Cursor { key, number });
            let limit = match random.one_in(2) {
                true => 1 + random.below(5) as usize,
                false => usize::MAX,
            };
            let mut expected = expected(&entries, index, &span, order, after.as_ref());
            expected.truncate(limit);
            let seen = scan_some(at, index, &span, order, after.as_ref(), limit)?;
            let place = format_args!("index {index}, {span:?}, {order:?}, behind {after:?}");
            clause!(
                CLAUSE,
                seen == expected,
                "{place} shows {seen:?}, not {expected:?}"
            );
        }
        Ok(())
    }

    fn compare_state(&self, at: &dyn Snapshot, random: &mut Random) -> Result<()> {
        let span = random.span();
        let seen = state(at, &span)?;
        let expected: Vec<_> = self
            .state
            .iter()
            .filter(|(key, _)| span.contains(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        clause!(
            CLAUSE,
            seen == expected,
            "state in {span:?} is {seen:?}, not {expected:?}"
        );
        Ok(())
    }

    fn compare_feed(&self, at: &dyn Snapshot, random: &mut Random) -> Result<()> {
        let mut order: Vec<_> = self
            .records
            .iter()
            .map(|(number, known)| (known.entry.0, *number, known))
            .collect();
        order.sort_unstable_by_key(|(place, ..)| *place);
        let all = feed(at, 0)?;
        let seen: Vec<_> = all
            .iter()
            .map(|(_, record, entry)| (*record, entry.as_slice()))
            .collect();
        let expected: Vec<_> = order
            .iter()
            .map(|(_, number, known)| (*number, known.entry.1.as_slice()))
            .collect();
        clause!(
            CLAUSE,
            seen == expected,
            "the feed is {seen:?}, not {expected:?}"
        );
        clause!(
            CLAUSE,
            all.is_sorted_by(|x, y| x.0 < y.0),
            "feed numbers do not rise: {all:?}"
        );
        let head = at.head()?;
        clause!(
            CLAUSE,
            all.last().is_none_or(|(number, ..)| *number == head.number),
            "the head is {head:?}, and the last entry {:?}",
            all.last()
        );
        for ((number, ..), (_, _, known)) in all.iter().zip(&order) {
            let id = at.commit_id(*number)?;
            clause!(
                CLAUSE,
                id == known.commit,
                "entry {number} has {id:?}, not {:?}",
                known.commit
            );
        }
        let after = random.below(head.number + 2);
        let tail = feed(at, after)?;
        let expected: Vec<_> = all
            .into_iter()
            .filter(|(number, ..)| *number > after)
            .collect();
        clause!(
            CLAUSE,
            tail == expected,
            "the feed behind {after} is {tail:?}, not {expected:?}"
        );
        Ok(())
    }
}
