//! What happens to a file on its way.

use crate::support::*;
use keyferry_bundle::*;
use keyferry_kmip::DateTime;
use std::io::{self, Read};

/// Several hundred kilobytes, so that age has several chunks and the file several segments.
fn big() -> (Keys, Vec<u8>) {
    let (alpha, keys) = (Host::new("alpha"), Keys::new());
    for n in 0..250u32 {
        alpha.key(n as u8, &format!("key {n} {}", "x".repeat(400)));
    }
    let file = keys.seal(&alpha);
    assert!(file.len() > 200_000, "{}", file.len());
    (keys, file)
}

fn small() -> (Keys, Vec<u8>) {
    let (alpha, keys) = (Host::new("alpha"), Keys::new());
    alpha.key(1, "one");
    let file = keys.seal(&alpha);
    (keys, file)
}

#[test]
fn cut_anywhere_it_is_refused() {
    let (keys, file) = big();
    for at in [
        file.len() - 1,
        file.len() - 16,
        file.len() - 500,
        150_000,
        70_000,
    ] {
        let (kind, handed) = keys.refusal(&file[..at]);
        assert_eq!(kind, ErrorKind::Truncated, "cut at {at}");
        assert!(handed < 25, "{handed} segments from {at} bytes");
    }
    // At the end of one of age's chunks: they begin behind the line of the MAC and a nonce.
    let header = file
        .windows(5)
        .position(|window| window == b"\n--- ")
        .unwrap()
        + 5
        + 43
        + 1
        + 16;
    let (kind, handed) = keys.refusal(&file[..header + 2 * (65_536 + 16)]);
    assert_eq!(kind, ErrorKind::Truncated);
    assert!(handed > 0, "what is whole and verified has been handed out");
}

#[test]
fn every_cut_of_a_small_one_hands_out_nothing() {
    let (keys, file) = small();
    for at in 0..file.len() {
        let (kind, handed) = keys.refusal(&file[..at]);
        assert_eq!((kind, handed), (ErrorKind::Truncated, 0), "cut at {at}");
    }
}

#[test]
fn every_flipped_bit_of_a_small_one_hands_out_nothing() {
    let (keys, mut file) = small();
    for at in 0..file.len() {
        file[at] ^= 1 << (at % 8);
        let (kind, handed) = keys.refusal(&file);
        assert_eq!(handed, 0, "byte {at}: {kind:?}");
        file[at] ^= 1 << (at % 8);
    }
    open::<Error>(
        &file[..],
        &OpenOptions::new("beta", &keys.trusted, &keys.identity, NOW),
        |_| Ok(()),
    )
    .unwrap();
}

#[test]
fn a_flipped_bit_is_damage() {
    let (keys, file) = big();
    for at in [1_000, 70_000, 100_000, 140_000] {
        let mut bad = file.clone();
        bad[at] ^= 4;
        let (kind, handed) = keys.refusal(&bad);
        assert_eq!(kind, ErrorKind::Damaged, "byte {at}");
        // Nothing of the chunk that holds the bit: 11 KiB a segment, generously counted.
        assert!(
            (handed as usize) * 9_000 < at,
            "{handed} segments before byte {at}"
        );
    }
    let mut end = file.clone();
    *end.last_mut().unwrap() ^= 1;
    assert_eq!(
        keys.refusal(&end).0,
        ErrorKind::Truncated,
        "the end altered, or the file cut: one can't tell"
    );
    let appended = [&file[..], b"more"].concat();
    assert!(matches!(
        keys.refusal(&appended).0,
        ErrorKind::Truncated | ErrorKind::Damaged
    ));
}

#[test]
fn another_key_does_not_open_it() {
    let (keys, file) = small();
    let other = AgeIdentity::generate();
    let options = OpenOptions::new("beta", &keys.trusted, &other, NOW);
    assert_eq!(
        keys.refusal_by(&file, &options),
        (ErrorKind::NotForThisKey, 0)
    );
}

#[test]
fn what_is_no_age_file_is_no_bundle() {
    let keys = Keys::new();
    for garbage in [
        &b"PK\x03\x04 something else entirely"[..],
        b"age-encryption.org/v9\n-> X25519 a\n",
        &[0; 4096],
    ] {
        assert_eq!(
            keys.refusal(garbage),
            (ErrorKind::NotABundle, 0),
            "{garbage:?}"
        );
    }
    assert_eq!(keys.refusal(b""), (ErrorKind::Truncated, 0));
}

#[test]
fn an_endless_header_is_not_read_to_its_end() {
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let line = b"-> X25519 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
            let start = b"age-encryption.org/v1\n";
            for byte in buffer.iter_mut() {
                let at = self.0 as usize;
                *byte = if at < start.len() {
                    start[at]
                } else {
                    line[(at - start.len()) % line.len()]
                };
                self.0 += 1;
            }
            assert!(self.0 < 1 << 20, "it goes on reading");
            Ok(buffer.len())
        }
    }
    let keys = Keys::new();
    let options = OpenOptions::new("beta", &keys.trusted, &keys.identity, NOW);
    assert_eq!(
        open::<Error>(Endless(0), &options, |_| Ok(()))
            .unwrap_err()
            .kind(),
        ErrorKind::TooLarge
    );
}

#[test]
fn it_expires() {
    let (keys, file) = small();
    let at = |now| {
        keys.refusal_by(
            &file,
            &OpenOptions::new("beta", &keys.trusted, &keys.identity, now),
        )
    };
    assert_eq!(at(LATER), (ErrorKind::Expired, 0));
    assert_eq!(at(DateTime(i64::MAX)), (ErrorKind::Expired, 0));
    let options = OpenOptions::new("beta", &keys.trusted, &keys.identity, DateTime(LATER.0 - 1));
    open::<Error>(&file[..], &options, |_| Ok(())).unwrap();
}

#[test]
fn only_the_server_it_is_meant_for_takes_it() {
    let (keys, file) = small();
    let options = OpenOptions::new("gamma", &keys.trusted, &keys.identity, NOW);
    assert_eq!(
        keys.refusal_by(&file, &options),
        (ErrorKind::Misdirected, 0)
    );
}

#[test]
fn a_failing_disk_is_not_damage() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer) {
                Ok(0) => Err(io::Error::other("a bad sector")),
                other => other,
            }
        }
    }
    let (keys, file) = big();
    let options = OpenOptions::new("beta", &keys.trusted, &keys.identity, NOW);
    for at in [10, 100, 1_000, 100_000] {
        let error = open::<Error>(Failing(&file[..at]), &options, |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    }
}
