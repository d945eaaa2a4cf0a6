//! The framer, in whatever pieces the bytes come.

use crate::support::*;
use keyferry_ttlv::{ErrorKind, Framer};
use proptest::prelude::*;

fn message(content: usize) -> Vec<u8> {
    written(|w| w.structure(T, |w| w.bytes(U, &vec![0xAB; content])))
}

/// Feeds `stream` in pieces of the lengths given (cyclically) and returns the messages.
fn cut(
    framer: &mut Framer,
    stream: &[u8],
    pieces: &[usize],
) -> Result<Vec<Vec<u8>>, keyferry_ttlv::Error> {
    let (mut at, mut frames) = (0, Vec::new());
    let mut pieces = pieces.iter().cycle();
    while at < stream.len() {
        let space = framer.space();
        assert!(
            !space.is_empty(),
            "a framer always has room for what it needs"
        );
        let n = space
            .len()
            .min(*pieces.next().unwrap())
            .min(stream.len() - at)
            .max(1);
        space[..n].copy_from_slice(&stream[at..at + n]);
        at += n;
        framer.filled(n)?;
        if let Some(frame) = framer.frame() {
            frames.push(frame.to_vec());
        }
    }
    Ok(frames)
}

#[test]
fn one_message_in_every_split_in_two() {
    let message = message(100);
    for split in 1..message.len() {
        let mut framer = Framer::new(1 << 20);
        assert_eq!(
            cut(&mut framer, &message, &[split, message.len()]).unwrap(),
            [message.clone()],
            "split at {split}"
        );
        assert!(!framer.is_midway());
    }
}

#[test]
fn needed_counts_down_and_never_asks_for_the_next_message() {
    let message = message(3);
    let mut framer = Framer::new(1 << 20);
    assert_eq!(framer.needed(), 8);
    for at in 0..message.len() {
        assert_eq!(
            framer.needed(),
            if at < 8 { 8 - at } else { message.len() - at }
        );
        assert!(framer.space().len() <= message.len() - at);
        framer.space()[0] = message[at];
        assert!(framer.frame().is_none());
        framer.filled(1).unwrap();
        assert!(framer.is_midway());
    }
    assert_eq!(framer.frame().unwrap().to_vec(), message);
    assert_eq!(framer.needed(), 8);
}

#[test]
fn an_empty_structure_is_a_message() {
    let mut framer = Framer::new(8);
    let message = item(0x420078, 1, &[]);
    assert_eq!(cut(&mut framer, &message, &[8]).unwrap(), [message]);
}

#[test]
fn what_is_no_message_is_told_after_eight_bytes() {
    use keyferry_ttlv::Type;
    for (bytes, expected) in [
        (*b"GET / HT", ErrorKind::UnknownTag),
        ([0x16, 3, 1, 0, 0, 0, 0, 0], ErrorKind::UnknownTag),
        (
            [0x42, 0, 0x78, 2, 0, 0, 0, 4],
            ErrorKind::WrongType {
                expected: Type::Structure,
                found: Type::Integer,
            },
        ),
        (
            [0x42, 0, 0x78, 0x33, 0, 0, 0, 8],
            ErrorKind::UnknownType(0x33),
        ),
        ([0x42, 0, 0x78, 1, 0, 0, 0, 7], ErrorKind::WrongLength(7)),
        (
            [0x42, 0, 0x78, 1, 0xFF, 0xFF, 0xFF, 0xF8],
            ErrorKind::Size {
                size: 0x1_0000_0000,
                limit: 1000,
            },
        ),
        (
            [0x42, 0, 0x78, 1, 0, 0, 4, 0],
            ErrorKind::Size {
                size: 1032,
                limit: 1000,
            },
        ),
    ] {
        let mut framer = Framer::new(1000);
        assert_eq!(
            *cut(&mut framer, &bytes, &[3]).unwrap_err().kind(),
            expected
        );
    }
    let mut exact = Framer::new(message(976).len());
    assert_eq!(
        cut(&mut exact, &message(976), &[64]).unwrap().len(),
        1,
        "as long as the limit is not too long"
    );
}

#[test]
fn room_grows_with_what_came_and_not_with_what_was_announced() {
    let mut framer = Framer::new(usize::MAX);
    let header = [0x42, 0, 0x78, 1, 0x7F, 0xFF, 0xFF, 0xF8];
    framer.space().copy_from_slice(&header);
    framer.filled(8).unwrap();
    assert!(framer.space().len() <= 64 * 1024);
}

proptest! {
    #[test]
    fn many_messages_in_any_pieces(contents in proptest::collection::vec(0usize..300, 1..6), pieces in proptest::collection::vec(1usize..400, 1..8)) {
        let messages: Vec<Vec<u8>> = contents.into_iter().map(message).collect();
        let mut framer = Framer::new(1 << 20);
        prop_assert_eq!(cut(&mut framer, &messages.concat(), &pieces).unwrap(), messages);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), pieces in proptest::collection::vec(1usize..50, 1..4)) {
        let mut framer = Framer::new(128);
        let _ = cut(&mut framer, &bytes, &pieces);
    }
}
