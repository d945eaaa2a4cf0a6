//! What stands for an object when two servers compare what they hold: a leaf, made by a key that both have, and the sum of all leaves.

use crate::compare::sketch::Leaf;
use crate::wire::receipt::Parts;
use hmac::{Hmac, KeyInit, Mac};
use keyferry_store::{ObjectId, Record, Stamp};
use sha2::{Digest as _, Sha256};

/// The bytes of the key of a comparison.
pub(crate) const KEY_BYTES: usize = 16;

/// What is hashed, so that no two kinds of it are the same bytes.
const OBJECT: u8 = 1;
const COPY: u8 = 2;
const ADDEND: u8 = 3;
const TOLD: u8 = 4;

/// What one server tells another one of an object, in 16 bytes: the change, and the digest of the attributes, the State among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CopySum([u8; 16]);

impl CopySum {
    /// The sum of a copy that has come with this stamp and digest.
    pub(crate) fn of(stamp: &Stamp, digest: &[u8]) -> CopySum {
        let mut parts = Parts::new(TOLD);
        parts.add_stamp(stamp);
        parts.add(digest);
        CopySum(first(&Sha256::digest(parts.bytes())))
    }

    /// The sum of the verbatim copy that a record holds.
    ///
    /// # Errors
    /// When an attribute has no stored form.
    pub(crate) fn of_record(record: &Record) -> keyferry_store::Result<CopySum> {
        let digest = record.copy_digest()?;
        Ok(CopySum::of(&record.stamp, &digest))
    }
}

/// The key of a comparison: both servers have it, and nobody else, so that no client can choose objects whose leaves cancel each other out.
#[derive(Clone)]
pub(crate) struct ProofKey {
    bytes: [u8; KEY_BYTES],
    mac: Hmac<Sha256>,
}

impl ProofKey {
    pub(crate) fn new(bytes: [u8; KEY_BYTES]) -> ProofKey {
        ProofKey {
            bytes,
            // HMAC takes a key of any length.
            mac: <Hmac<Sha256> as KeyInit>::new_from_slice(&bytes)
                .unwrap_or_else(|_| <Hmac<Sha256> as KeyInit>::new(&Default::default())),
        }
    }

    pub(crate) fn bytes(&self) -> [u8; KEY_BYTES] {
        self.bytes
    }

    /// The leaf of an object.
    pub(crate) fn leaf(&self, id: &ObjectId, sum: CopySum) -> Leaf {
        let mut of_object = Parts::new(OBJECT);
        of_object.add_id(id);
        let whole = self.hash(of_object.bytes(), &[]);
        Leaf {
            object: first(&whole),
            copy: first(&self.hash(&[COPY], &[&whole, &sum.0])),
        }
    }

    fn addend(&self, leaf: Leaf) -> [u64; 4] {
        words(&self.hash(&[ADDEND], &[&leaf.object, &leaf.copy]))
    }

    fn hash(&self, first: &[u8], more: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(first);
        more.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

/// The sum of leaves: the keyed hash of each, added modulo 2^256, and how many there are. Two sets with one sum are the same set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeafSum {
    words: [u64; 4],
    pub(crate) count: i64,
}

impl LeafSum {
    pub(crate) fn add(&mut self, key: &ProofKey, leaf: Leaf) {
        let mut carry = false;
        for (word, more) in self.words.iter_mut().zip(key.addend(leaf)) {
            let (sum, first) = word.overflowing_add(more);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*word, carry) = (sum, first | second);
        }
        self.count = self.count.wrapping_add(1);
    }

    pub(crate) fn remove(&mut self, key: &ProofKey, leaf: Leaf) {
        let mut borrow = false;
        for (word, less) in self.words.iter_mut().zip(key.addend(leaf)) {
            let (rest, first) = word.overflowing_sub(less);
            let (rest, second) = rest.overflowing_sub(u64::from(borrow));
            (*word, borrow) = (rest, first | second);
        }
        self.count = self.count.wrapping_sub(1);
    }

    /// The 32 bytes of the sum, the lowest first.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }
}

/// The words of a hash, the lowest first.
fn words(hash: &[u8]) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(hash.chunks(8)) {
        *word = u64::from_le_bytes(first(bytes));
    }
    words
}

/// The first bytes of a hash.
fn first<const N: usize>(hash: &[u8]) -> [u8; N] {
    std::array::from_fn(|at| hash.get(at).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyferry_store::Incarnation;

    fn id(name: &str) -> ObjectId {
        ObjectId {
            server: "a".into(),
            instance: vec![1; 16],
            identifier: name.into(),
        }
    }

    fn stamp(sequence: i64) -> Stamp {
        Stamp {
            sequence,
            ..Stamp::first(&"a".into(), Incarnation([3; 16]))
        }
    }

    #[test]
    fn a_leaf_tells_objects_changes_and_digests_apart() {
        let key = ProofKey::new([7; 16]);
        let sum = CopySum::of(&stamp(1), &[5; 32]);
        let leaf = key.leaf(&id("x"), sum);
        assert_eq!(key.leaf(&id("x"), sum), leaf);
        let others = [
            CopySum::of(&stamp(2), &[5; 32]),
            CopySum::of(&stamp(1), &[6; 32]),
            CopySum::of(
                &Stamp {
                    epoch: 2,
                    ..stamp(1)
                },
                &[5; 32],
            ),
            CopySum::of(&Stamp::first(&"b".into(), Incarnation([3; 16])), &[5; 32]),
            CopySum::of(&Stamp::first(&"a".into(), Incarnation([4; 16])), &[5; 32]),
        ];
        for other in others {
            let changed = key.leaf(&id("x"), other);
            assert_eq!(changed.object, leaf.object, "it is the same object");
            assert_ne!(changed.copy, leaf.copy);
        }
        let another = key.leaf(&id("y"), sum);
        assert_ne!(another.object, leaf.object);
        assert_ne!(another.copy, leaf.copy);
        assert_ne!(ProofKey::new([8; 16]).leaf(&id("x"), sum), leaf);
    }

    #[test]
    fn a_sum_does_not_depend_on_the_order_and_takes_back_what_it_took() {
        let key = ProofKey::new([7; 16]);
        let leaves: Vec<Leaf> = (0..100)
            .map(|n| key.leaf(&id(&format!("{n}")), CopySum::of(&stamp(n), &[])))
            .collect();
        let (mut one, mut other) = (LeafSum::default(), LeafSum::default());
        leaves.iter().for_each(|leaf| one.add(&key, *leaf));
        leaves.iter().rev().for_each(|leaf| other.add(&key, *leaf));
        assert_eq!(one, other);
        assert_eq!((one.count, one.bytes().len()), (100, 32));
        for leaf in &leaves {
            let mut without = one;
            without.remove(&key, *leaf);
            assert_ne!(without.bytes(), one.bytes());
        }
        leaves.iter().for_each(|leaf| other.remove(&key, *leaf));
        assert_eq!(other, LeafSum::default());
        // Below zero and back.
        leaves.iter().for_each(|leaf| other.remove(&key, *leaf));
        leaves.iter().for_each(|leaf| other.add(&key, *leaf));
        assert_eq!(other, LeafSum::default());
    }
}
