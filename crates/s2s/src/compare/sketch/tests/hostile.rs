//! What a peer may send that has made no honest cells, or has been tampered with on the way.

use super::*;

/// An honest difference in which one cell was tampered with, in any of its parts, is that of no two sets.
#[test]
fn no_altered_cell_goes_unnoticed() {
    for run in 0..runs(300) {
        let mut rng = Rng(run);
        let changed = rng.size(30);
        let ((left, right), key) = (pair(&mut rng, 10, changed, 2, 2), rng.key());
        let mut cells = difference(&key, &left, &right, 0..300);
        let at = usize::try_from(rng.size(299)).unwrap();
        let (member, bit) = (Member::of(&key, rng.leaf()), rng.below(32));
        match rng.below(6) {
            0 => cells[at].object ^= 1 << bit,
            1 => cells[at].copy ^= 1 << bit,
            2 => cells[at].check ^= 1 << bit,
            3 => cells[at].count ^= 1 << bit,
            4 => cells[at].add(&member, 1),
            _ => {
                cells[at] = cells[at].minus(&Cell {
                    count: 1,
                    ..cells[at]
                })
            }
        }
        let mut decoder = Decoder::new(key);
        decoder.extend(cells);
        assert!(
            !matches!(decoder.decode(), Outcome::Done { .. }),
            "seed {run}"
        );
    }
}

/// A cell of this member alone, or of its lack.
fn cell_with(member: &Member, count: i64) -> Cell {
    let mut cell = Cell::default();
    cell.add(member, count);
    cell
}

/// A member that is in cell 1, or isn't. All are in cell 0.
fn in_cell_1(key: &Key, rng: &mut Rng, is_in: bool) -> Member {
    let mut some = (0..100).map(|_| Member::of(key, rng.leaf()));
    some.find(|member| member.walk().reaches(1) == is_in)
        .unwrap()
}

#[test]
fn a_member_is_only_believed_in_its_own_cells() {
    let mut rng = Rng(9);
    let key = rng.key();
    let member = in_cell_1(&key, &mut rng, false);
    let mut decoder = Decoder::new(key);
    decoder.extend([Cell::default(), cell_with(&member, 1)]);
    assert_eq!(decoder.decode(), Outcome::More);
    assert!(decoder.recovered.is_empty());
}

#[test]
fn the_side_is_told_by_the_count_and_other_counts_are_no_member() {
    let mut rng = Rng(10);
    let key = rng.key();
    let leaf = rng.leaf();
    let (member, none) = (Member::of(&key, leaf), vec![]);
    let of = |count| {
        let mut decoder = Decoder::new(key);
        decoder.extend([cell_with(&member, count)]);
        decoder.decode()
    };
    let (only_there, only_here) = (vec![leaf], none.clone());
    assert_eq!(
        of(1),
        Outcome::Done {
            only_there,
            only_here
        }
    );
    let (only_there, only_here) = (none, vec![leaf]);
    assert_eq!(
        of(-1),
        Outcome::Done {
            only_there,
            only_here
        }
    );
    for count in [0, 2, -2, 3, i64::MIN, i64::MAX, i64::MIN + 1] {
        assert_eq!(of(count), Outcome::More);
    }
}

#[test]
fn counts_wrap() {
    let of = |count| Cell {
        count,
        ..Cell::default()
    };
    let cells = subtract(
        &[of(i64::MIN), of(1), of(i64::MAX)],
        &[of(1), of(i64::MIN), of(-1)],
    );
    let counts: Vec<i64> = cells.unwrap().iter().map(|cell| cell.count).collect();
    assert_eq!(counts, [i64::MAX, i64::MIN + 1, i64::MIN]);
}

#[test]
fn a_member_that_turns_up_twice_is_garbage() {
    let mut rng = Rng(11);
    let key = rng.key();
    let member = in_cell_1(&key, &mut rng, true);
    // It is in cell 1, as it must be, but cell 0 says that there is none.
    let mut decoder = Decoder::new(key);
    decoder.extend([Cell::default(), cell_with(&member, 1)]);
    assert_eq!(decoder.decode(), Outcome::Garbage);
    decoder.extend([Cell::default(); 9]);
    assert_eq!(decoder.decode(), Outcome::Garbage);
    // Both cells have it, but on different sides.
    let mut decoder = Decoder::new(key);
    decoder.extend([cell_with(&member, -1), cell_with(&member, 1)]);
    assert_eq!(decoder.decode(), Outcome::More);
}

#[test]
fn more_members_than_cells_are_garbage() {
    let mut rng = Rng(12);
    let key = rng.key();
    for recovered in 0..3 {
        let member = in_cell_1(&key, &mut rng, false);
        let mut decoder = Decoder::new(key);
        decoder.extend([cell_with(&member, 1), Cell::default()]);
        // No cells are known that get here by themselves.
        decoder.recovered = (0..recovered).map(|_| (rng.leaf(), 0)).collect();
        let outcome = decoder.decode();
        assert_eq!(outcome == Outcome::Garbage, recovered == 2, "{recovered}");
    }
}

/// Cells of random bytes, of random members of the right form, and of nothing but extremes, for as long as the caller goes on.
#[test]
fn a_lying_peer_gets_nowhere() {
    for run in 0..runs(60) {
        let mut rng = Rng(run);
        let (key, kind) = (rng.key(), rng.below(5));
        let pool: Vec<Member> = (0..20).map(|_| Member::of(&key, rng.leaf())).collect();
        let mut decoder = Decoder::new(key);
        for _ in 0..1 + rng.size(30) {
            let portion: Vec<Cell> = (0..rng.size(100))
                .map(|_| lie(&mut rng, kind, &pool))
                .collect();
            decoder.extend(portion);
            let outcome = decoder.decode();
            assert!(decoder.recovered.len() <= decoder.cells.len(), "seed {run}");
            let is_empty = decoder.cells.iter().all(Cell::is_empty) && !decoder.cells.is_empty();
            let is_done = matches!(outcome, Outcome::Done { .. });
            assert!(
                is_empty == is_done || outcome == Outcome::Garbage,
                "seed {run}"
            );
            let not_empty = decoder.cells.iter().filter(|cell| !cell.is_empty()).count();
            assert_eq!(decoder.not_empty, not_empty, "seed {run}");
        }
    }
}

fn lie(rng: &mut Rng, kind: u64, pool: &[Member]) -> Cell {
    let member = pool[usize::try_from(rng.below(20)).unwrap()];
    let extremes = [i64::MIN, i64::MAX, i64::MIN + 1, 0, 1, -1];
    let extreme = extremes[usize::try_from(rng.below(6)).unwrap()];
    let (object, copy) = (rng.next(), rng.next());
    let check = u32::try_from(rng.below(1 << 32)).unwrap();
    match kind {
        0 => Cell {
            object,
            copy,
            check,
            count: rng.next().cast_signed(),
        },
        1 => Cell {
            object,
            copy,
            check,
            count: 1,
        },
        2 => Cell {
            count: extreme,
            ..Cell::default()
        },
        3 => cell_with(&member, extreme),
        _ => cell_with(&member, 1),
    }
}

/// Cells come one by one, for ever, and the decoder is asked each time. The time grows with the number of cells, hardly faster.
#[test]
fn endless_cells_take_linear_time() {
    let mut rng = Rng(13);
    for (members, suffices) in [(100_000, false), (20_000, true), (3, true)] {
        let key = rng.key();
        let set: Set = (0..members).map(|_| rng.leaf()).collect();
        let mut decoder = Decoder::new(key);
        let mut done_at = None;
        for (at, cell) in cells_of(&key, &set, 0..30_000).into_iter().enumerate() {
            decoder.extend([cell]);
            if done_at.is_none() && decoder.decode() != Outcome::More {
                done_at = Some(at);
            }
        }
        assert_eq!(done_at.is_some(), suffices, "{members}");
        assert_eq!(
            decoder.decode() == naive(&set, &Set::new()),
            suffices,
            "{members}"
        );
    }
}

#[test]
fn other_bytes_are_refused() {
    let mut rng = Rng(15);
    let set: Set = (0..200).map(|_| rng.leaf()).collect();
    let cells = cells_of(&rng.key(), &set, 0..5);
    let bytes = to_bytes(&cells);
    for end in 0..bytes.len() {
        let expected = (0..5).find(|n| to_bytes(&cells[..*n]).len() == end);
        assert_eq!(
            from_bytes(&bytes[..end]),
            expected.map(|n| cells[..n].to_vec())
        );
    }
    let with_count = |count: &[u8]| from_bytes(&[&[1; 20][..], count].concat());
    assert!(with_count(&[0]).is_some());
    assert!(with_count(&[0x80, 0x01]).is_some());
    let ones = [0xff; 9];
    assert!(
        with_count(&[&ones[..], &[1]].concat()).is_some_and(|cells| cells[0].count == i64::MIN)
    );
    let refused: [&[u8]; 6] = [&[], &[0x80], &[0x80, 0], &[0xff, 0x80, 0], &ones, &[0; 9]];
    for count in refused {
        assert_eq!(with_count(count), None, "{count:?}");
    }
    for last in [0, 2, 0x7f, 0x80, 0x81, 0xff] {
        assert_eq!(with_count(&[&ones[..], &[last]].concat()), None, "{last}");
        assert_eq!(
            with_count(&[&ones[..], &[last, 1]].concat()),
            None,
            "{last}"
        );
    }
}

#[test]
fn random_bytes_are_read_as_what_they_are_or_refused() {
    let mut read = 0;
    for run in 0..runs(2000) {
        let mut rng = Rng(run);
        let bytes: Vec<u8> = (0..rng.size(70)).map(|_| rng.tag()[0]).collect();
        if let Some(cells) = from_bytes(&bytes) {
            assert_eq!(to_bytes(&cells), bytes, "seed {run}");
            read += usize::from(!cells.is_empty());
        }
    }
    assert!(read > 0);
}
