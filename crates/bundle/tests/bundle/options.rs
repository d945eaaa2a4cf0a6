//! Keys as text, passphrases, and options that make no sense.

use crate::support::*;
use keyferry_bundle::*;
use keyferry_crypto::SystemRandom;
use keyferry_store::{Fault, Faulty, Memory, StoreExt};
use std::io::{self, Write};

#[test]
fn a_passphrase_opens_it() {
    let (alpha, mut keys) = (Host::new("alpha"), Keys::new());
    alpha.key(1, "one");
    keys.identity = AgeIdentity::passphrase("correct horse");
    let file = keys.seal(&alpha);
    let beta = Host::new("beta");
    assert_eq!(keys.open(&file, &beta).0.objects, 1);
    let other = AgeIdentity::passphrase("battery staple");
    assert_eq!(
        keys.refusal_by(&file, &OpenOptions::new("beta", &keys.trusted, &other, NOW)),
        (ErrorKind::NotForThisKey, 0)
    );
    let key = AgeIdentity::generate();
    assert_eq!(
        keys.refusal_by(&file, &OpenOptions::new("beta", &keys.trusted, &key, NOW)),
        (ErrorKind::NotForThisKey, 0)
    );
}

#[test]
fn keys_survive_as_text() {
    let identity = AgeIdentity::generate();
    let again: AgeIdentity = identity.secret_text().unwrap().parse().unwrap();
    assert_eq!(
        format!("{:?}", identity.recipient()),
        format!("{:?}", again.recipient())
    );
    assert!(AgeIdentity::passphrase("x").secret_text().is_none());
    for bad in ["", "age1", "AGE-SECRET-KEY-1", "ssh-ed25519 AAAA"] {
        assert_eq!(
            bad.parse::<AgeIdentity>().unwrap_err().kind(),
            ErrorKind::Key,
            "{bad:?}"
        );
        assert_eq!(
            bad.parse::<AgeRecipient>().unwrap_err().kind(),
            ErrorKind::Key,
            "{bad:?}"
        );
    }
    let (key, seed) = SigningKey::generate(&mut SystemRandom::new()).unwrap();
    assert_eq!(
        SigningKey::from_seed(&seed).unwrap().verifying_key(),
        key.verifying_key()
    );
    assert_eq!(
        SigningKey::from_pkcs8(b"nothing").unwrap_err().kind(),
        ErrorKind::Key
    );
    // The key pair of RFC 8032 §7.1, test 1, in the form of RFC 8410 §7.
    let hex = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let seed: Vec<u8> = (0..32)
        .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
        .collect();
    let der = [
        &b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"[..],
        &seed,
    ]
    .concat();
    let public = format!(
        "{:?}",
        SigningKey::from_pkcs8(&der).unwrap().verifying_key()
    );
    assert_eq!(
        public,
        "VerifyingKey(d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a)"
    );
}

#[test]
fn several_readers_and_none() {
    let (alpha, keys, other) = (Host::new("alpha"), Keys::new(), AgeIdentity::generate());
    alpha.key(1, "one");
    let home = &alpha.server.node().home;
    let make = |readers: &[AgeRecipient], expires| {
        let mut file = Vec::new();
        seal(
            &*alpha.store,
            &SealOptions::new(home, "beta", &keys.sign, readers, NOW, expires),
            &mut file,
        )
        .map(|_| file)
    };
    let file = make(&[other.recipient(), keys.identity.recipient()], LATER).unwrap();
    for identity in [&other, &keys.identity] {
        open::<Error>(
            &file[..],
            &OpenOptions::new("beta", &keys.trusted, identity, NOW),
            |_| Ok(()),
        )
        .unwrap();
    }
    assert_eq!(make(&[], LATER).unwrap_err().kind(), ErrorKind::Misuse);
    let mixed = [other.recipient(), AgeRecipient::passphrase("x")];
    assert_eq!(make(&mixed, LATER).unwrap_err().kind(), ErrorKind::Misuse);
    assert_eq!(
        make(&[other.recipient()], NOW).unwrap_err().kind(),
        ErrorKind::Misuse,
        "expired before it begins"
    );
}

#[test]
fn a_full_disk_is_told() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or_else(|| io::Error::other("no space left"))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (alpha, keys) = (Host::new("alpha"), Keys::new());
    alpha.key(1, "one");
    let readers = [keys.identity.recipient()];
    let options = SealOptions::new(
        &alpha.server.node().home,
        "beta",
        &keys.sign,
        &readers,
        NOW,
        LATER,
    );
    for room in [0, 100, 1_000] {
        assert_eq!(
            seal(&*alpha.store, &options, Full(room))
                .unwrap_err()
                .kind(),
            ErrorKind::Io
        );
    }
}

#[test]
fn a_failing_store_stops_it_and_counts_nothing() {
    let (alpha, keys) = (Host::new("alpha"), Keys::new());
    for n in 0..25 {
        alpha.key(n, &format!("key {n}"));
    }
    let file = keys.seal(&alpha);
    let beta = Host::new("beta");
    let store = Faulty::new(Memory::new(keyferry_store::Incarnation([9; 16])));
    store.fail(2, Fault::RollBack(keyferry_store::ErrorKind::Io));
    let stopped = keys.take(&file, &beta, &store, false).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Store);
    assert_eq!(
        store
            .view::<_, keyferry_store::Error>(|s| s.count())
            .unwrap(),
        10,
        "one whole segment"
    );
    // A conflict in the store reruns the closure, and counts once.
    store.fail(2, Fault::Rerun);
    let (_, report) = keys.take(&file, &beta, &store, false).unwrap();
    assert_eq!(
        (
            report.counts.asked,
            report.counts.unchanged,
            report.counts.created
        ),
        (25, 0, 25)
    );
}
