//! Sets against a difference made member by member, and the form of the cells.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use std::collections::BTreeSet;

mod hostile;

/// SplitMix64, once more, so that a failure can be repeated from the seed that it prints.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Small numbers as often as large ones.
    fn size(&mut self, most: u64) -> u64 {
        let most = 1 + self.below(most + 1);
        self.below(most)
    }

    fn tag(&mut self) -> [u8; 8] {
        self.next().to_le_bytes()
    }

    fn leaf(&mut self) -> Leaf {
        let (object, copy) = (self.tag(), self.tag());
        Leaf { object, copy }
    }

    fn key(&mut self) -> Key {
        let halves = [self.next(), self.next()];
        Key(halves[0], halves[1])
    }
}

/// How often a test with random input runs: more often with SKETCH_RUNS, never less often.
fn runs(least: u64) -> u64 {
    let runs = std::env::var("SKETCH_RUNS").ok();
    least.max(runs.map_or(0, |runs| runs.parse().unwrap()))
}

type Set = BTreeSet<Leaf>;

fn cells_of(key: &Key, set: &Set, range: Range<u32>) -> Vec<Cell> {
    cells(key, set.iter().copied(), range)
}

fn difference(key: &Key, there: &Set, here: &Set, range: Range<u32>) -> Vec<Cell> {
    let theirs = to_bytes(&cells_of(key, there, range.clone()));
    let theirs = from_bytes(&theirs).unwrap();
    subtract(&theirs, &cells_of(key, here, range)).unwrap()
}

fn naive(there: &Set, here: &Set) -> Outcome {
    let only_there = there.difference(here).copied().collect();
    let only_here = here.difference(there).copied().collect();
    Outcome::Done {
        only_there,
        only_here,
    }
}

/// Reconciles two sets as the two servers do: cells come in portions of growing size. Returns the outcome and the number of cells.
fn reconcile(key: Key, there: &Set, here: &Set, first: u32, most: u32) -> (Outcome, u32) {
    let mut decoder = Decoder::new(key);
    let (mut from, mut to) = (0, first);
    loop {
        decoder.extend(difference(&key, there, here, from..to));
        let outcome = decoder.decode();
        if outcome != Outcome::More || to >= most {
            return (outcome, to);
        }
        (from, to) = (to, to + to.div_ceil(2));
    }
}

/// Two sets with a common part, and members of each alone, some of which share their object.
fn pair(rng: &mut Rng, common: u64, changed: u64, there: u64, here: u64) -> (Set, Set) {
    let both: Set = (0..common).map(|_| rng.leaf()).collect();
    let (mut left, mut right) = (both.clone(), both);
    for _ in 0..changed {
        let leaf = rng.leaf();
        left.insert(leaf);
        right.insert(Leaf {
            copy: rng.tag(),
            ..leaf
        });
    }
    left.extend((0..there).map(|_| rng.leaf()));
    right.extend((0..here).map(|_| rng.leaf()));
    (left, right)
}

#[test]
fn the_hash_is_siphash_2_4() {
    let key = Key::new(*b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f");
    let hash = key.hash(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
    // As `openssl mac` says it, too.
    assert_eq!(hash.to_le_bytes(), *b"\xdb\x9b\xc2\x57\x7f\xcc\x2a\x3f");
}

/// Servers of different versions must make the same cells. Who changes these bytes has to change how the two agree on sketches, too. The
/// figures are from an implementation in another language, after the text of the module.
#[test]
fn cells_stay_the_same_for_ever() {
    let key = Key::new([0x5a; 16]);
    let leaves = (0u8..5).map(|n| Leaf {
        object: [n; 8],
        copy: [n ^ 0xf0; 8],
    });
    let bytes = to_bytes(&cells(&key, leaves, 0..8));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        "0404040404040404f4f4f4f4f4f4f4f48738136f0a0404040404040404f4f4f4f4f4f4f4f48738136f0a",
        "060606060606060606060606060606060944b7f2040202020202020202020202020202020296d4984704",
        "0000000000000000f0f0f0f0f0f0f0f09f4ac5e2020404040404040404f4f4f4f4f4f4f4f400daea5702",
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    ];
    assert_eq!(hex, expected.concat());
    let leaves = (0u64..2000).map(|n| Leaf {
        object: n.to_le_bytes(),
        copy: (n * n).to_le_bytes(),
    });
    let bytes = to_bytes(&cells(&key, leaves, 0..1000));
    let fold = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let folded = bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold); // FNV-1a
    assert_eq!(folded, 0x3ce7399a8cb12256);
}

#[test]
fn a_cell_has_its_share_of_the_members() {
    let mut rng = Rng(1);
    let n = 20_000;
    let leaves: Set = (0..n).map(|_| rng.leaf()).collect();
    let cells = cells_of(&rng.key(), &leaves, 0..4096);
    assert_eq!(cells[0].count, n);
    let mut sum = (0.0, 0.0);
    for (i, cell) in (0u32..).zip(&cells).skip(1) {
        let share = 1.0 / (1.0 + f64::from(i) / 2.0);
        let expected = 20_000.0 * share;
        let count = f64::from(i32::try_from(cell.count).unwrap());
        // The formula is a near one: it takes 0.64 for 2/3 at cell 1, and 0.49 for 1/2 at cell 2.
        let slack = expected * 0.05 + 5.0 * (expected * (1.0 - share)).sqrt();
        assert!(
            (count - expected).abs() < slack,
            "cell {i}: {count}, not {expected}"
        );
        sum = (sum.0 + count, sum.1 + expected);
    }
    assert!((sum.0 / sum.1 - 1.0).abs() < 0.02, "{sum:?}");
}

#[test]
fn a_walk_goes_forward_and_ends_beyond_32_bits() {
    let mut rng = Rng(2);
    for _ in 0..200 {
        let mut walk = Walk {
            at: 0,
            state: rng.next(),
        };
        let (start, mut passed) = (walk, 0);
        for _ in 0..1000 {
            if walk.at >= u64::from(u32::MAX) {
                break;
            }
            assert!(start.reaches(walk.at));
            let before = walk.at;
            walk.advance();
            assert!(walk.at > before);
            passed += 1;
            let between = before + (walk.at - before) / 2;
            assert_eq!(start.reaches(between), between == before);
        }
        assert!((10..150).contains(&passed), "{passed} cells");
    }
    // The least random number there is, from the first cell and from the last.
    for (at, next) in [
        (0, 3 << 30),
        (u64::from(u32::MAX) - 1, ((1 << 33) - 1) << 30),
    ] {
        let mut walk = Walk {
            at,
            state: 0u64.wrapping_sub(0x9e37_79b9_7f4a_7c15),
        };
        walk.advance();
        assert_eq!(walk.at, next - 1);
    }
}

#[test]
fn portions_add_up_to_the_whole() {
    let mut rng = Rng(3);
    let (set, key) = (pair(&mut rng, 300, 0, 0, 0).0, rng.key());
    let whole = cells_of(&key, &set, 0..100);
    for cut in 0..=100 {
        let mut parts = cells_of(&key, &set, 0..cut);
        parts.extend(cells_of(&key, &set, cut..100));
        assert_eq!(parts, whole);
    }
}

#[test]
fn the_difference_is_that_of_the_sets() {
    let (mut needed, mut differ) = (0, 0);
    for run in 0..runs(300) {
        let mut rng = Rng(run);
        let (common, changed) = (rng.size(120), rng.size(60));
        let (there, here) = (rng.size(60), rng.size(60));
        let (left, right) = pair(&mut rng, common, changed, there, here);
        let first = 1 + u32::try_from(rng.below(40)).unwrap();
        let (outcome, cells) = reconcile(rng.key(), &left, &right, first, 5000);
        assert_eq!(outcome, naive(&left, &right), "seed {run}, {cells} cells");
        needed += u64::from(cells);
        differ += 2 * changed + there + here;
    }
    // Up to a half more than necessary, since portions grow by a half, and the first ones are up to 40 cells.
    let most = 2 * differ + 20 * runs(300);
    assert!(needed < most, "{needed} cells for {differ}");
}

#[test]
fn differences_of_all_sizes() {
    let mut rng = Rng(4);
    for common in [0, 1000] {
        for differ in [0, 1, 2, 10, 100, 1000] {
            for (changed, there, here) in [(differ, 0, 0), (0, differ, 0), (0, 0, differ)] {
                let (left, right) = pair(&mut rng, common, changed, there, here);
                let (outcome, _) = reconcile(rng.key(), &left, &right, 1, 20_000);
                assert_eq!(
                    outcome,
                    naive(&left, &right),
                    "{common} {changed} {there} {here}"
                );
            }
        }
    }
}

/// The tags are pseudo-random, but nothing depends on it.
#[test]
fn tags_may_be_alike() {
    let number = |n: u64| n.to_le_bytes();
    let kinds: [fn(u64) -> (u64, u64); 6] = [
        |n| (0, n),
        |n| (n, 0),
        |n| (n, n),
        |n| (n, !n),
        |n| (n & 1, n >> 1),
        |n| (1 << (n % 64), n / 64),
    ];
    for (index, kind) in kinds.iter().enumerate() {
        let set = |range: Range<u64>| -> Set {
            let leaves = range.map(kind);
            leaves
                .map(|(a, b)| Leaf {
                    object: number(a),
                    copy: number(b),
                })
                .collect()
        };
        for (there, here) in [
            (0..300, 0..0),
            (0..1, 0..0),
            (0..400, 100..500),
            (0..256, 0..255),
        ] {
            let (left, right) = (set(there), set(here));
            let (outcome, _) = reconcile(Key::new([9; 16]), &left, &right, 8, 5000);
            assert_eq!(outcome, naive(&left, &right), "kind {index}");
        }
    }
}

/// Cells come one at a time, or all at once: the same number of them suffices, and further ones change nothing.
#[test]
fn portions_do_not_matter() {
    let mut rng = Rng(5);
    for _ in 0..20 {
        let changed = rng.size(40);
        let ((left, right), key) = (pair(&mut rng, 50, changed, 3, 0), rng.key());
        let cells = difference(&key, &left, &right, 0..400);
        let mut single = Decoder::new(key);
        let mut before = Outcome::More;
        for (i, cell) in cells.iter().enumerate() {
            single.extend([*cell]);
            let outcome = single.decode();
            let mut at_once = Decoder::new(key);
            at_once.extend(cells[..=i].iter().copied());
            assert_eq!(outcome, at_once.decode());
            assert!(before == Outcome::More || before == outcome);
            before = outcome;
        }
        assert_eq!(before, naive(&left, &right));
    }
}

/// What the sketch is for: 1000 changed objects of a million take no more than 75 kB.
#[test]
fn a_thousand_changed_objects_take_75_kilobytes() {
    let mut rng = Rng(6);
    let (mut cells_needed, tries) = (0, 4);
    for _ in 0..tries {
        let ((left, right), key) = (pair(&mut rng, 0, 1000, 0, 0), rng.key());
        let cells = difference(&key, &left, &right, 0..4000);
        let mut decoder = Decoder::new(key);
        let needed = cells.iter().position(|cell| {
            decoder.extend([*cell]);
            decoder.decode() != Outcome::More
        });
        let needed = 1 + needed.unwrap();
        let mut sent = cells[..needed].to_vec();
        let share = |i: i64| 1_000_000 * 2 / (2 + i);
        (0..)
            .zip(&mut sent)
            .for_each(|(i, cell)| cell.count = share(i));
        let bytes = to_bytes(&sent).len();
        assert!(bytes <= 70_000, "{needed} cells, {bytes} bytes");
        cells_needed += needed;
    }
    assert!(cells_needed <= tries * 2900, "{cells_needed}");
}

#[test]
fn another_key_makes_other_cells() {
    let mut rng = Rng(7);
    let (left, right) = pair(&mut rng, 100, 5, 0, 0);
    for bit in 0..128 {
        let (ours, theirs) = (1u128, 1u128 ^ (1 << bit));
        let [ours, theirs] = [ours, theirs].map(|bits| Key::new(bits.to_le_bytes()));
        let theirs = cells_of(&theirs, &left, 0..200);
        let cells = subtract(&theirs, &cells_of(&ours, &right, 0..200)).unwrap();
        let mut decoder = Decoder::new(ours);
        decoder.extend(cells);
        assert!(!matches!(decoder.decode(), Outcome::Done { .. }));
    }
}

#[test]
fn only_cells_of_the_same_range_are_subtracted() {
    let mut rng = Rng(8);
    let ((left, right), key) = (pair(&mut rng, 5, 5, 0, 0), rng.key());
    let (theirs, ours) = (cells_of(&key, &left, 0..5), cells_of(&key, &right, 0..4));
    assert_eq!(subtract(&theirs, &ours), None);
    assert_eq!(subtract(&ours, &theirs), None);
}

#[test]
fn without_cells_nothing_is_known() {
    let mut decoder = Decoder::new(Key::new([1; 16]));
    assert_eq!(decoder.decode(), Outcome::More);
    decoder.extend([]);
    assert_eq!(decoder.decode(), Outcome::More);
    decoder.extend([Cell::default()]);
    assert_eq!(decoder.decode(), naive(&Set::new(), &Set::new()));
}

#[test]
fn bytes_and_cells_are_one_to_one() {
    let mut rng = Rng(14);
    for bit in 0..64 {
        for count in [
            1i64 << bit,
            (1i64 << bit).wrapping_sub(1),
            -1i64 << bit,
            !(-1i64 << bit),
        ] {
            let check = u32::try_from(rng.below(1 << 32)).unwrap();
            let (object, copy) = (rng.next(), rng.next());
            let cell = Cell {
                object,
                copy,
                check,
                count,
            };
            let bytes = to_bytes(&[cell, Cell::default(), cell]);
            assert_eq!(
                from_bytes(&bytes),
                Some(vec![cell, Cell::default(), cell]),
                "{count}"
            );
        }
    }
    let small = |count| {
        to_bytes(&[Cell {
            count,
            ..Cell::default()
        }])
        .len()
    };
    assert_eq!(
        [-64, 63, 64, 8191, 8192, i64::MIN].map(small),
        [21, 21, 22, 22, 23, 30]
    );
    assert_eq!(from_bytes(&[]), Some(vec![]));
}
