//! Receipts: keyed hashes by which a server recognises what it once sent, a copy or a place of its feed ([rule B](crate::design#rule-b)).

use hmac::{Hmac, KeyInit, Mac};
use keyferry_kmip::{Text, extension as x};
use keyferry_store::{Home, ObjectId, Stamp};
use keyferry_ttlv::{Decode, Encode, Extra};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The bytes of a keyed hash that a receipt has.
const HASH: usize = 16;

/// What is hashed, so that a receipt of one kind is none of another.
const OF_COPY: u8 = 1;
const OF_PLACE: u8 = 2;
const OF_MATERIAL: u8 = 3;
const OF_TERMS: u8 = 4;

/// The receipt of a copy, made by the server that sent it. Others keep it and show it; none of them can make or check one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[ttlv(tag = x::RECEIPT)]
pub struct Receipt {
    /// A sum over the copy (16 bytes), the keyed hash over object id, stamp and sum (16 bytes), and the keyed hash over the material
    /// (16 bytes, if the sender knew the material).
    #[ttlv(tag = x::PROOF)]
    pub(crate) proof: Vec<u8>,
    /// The Unique Identifier of the object at the server that made the receipt.
    #[ttlv(tag = x::LOCAL_IDENTIFIER)]
    pub(crate) identifier: Text,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Receipt {
    /// Whether the receipt is of a copy with these facts, as far as anybody can tell who did not make it.
    pub(crate) fn is_of(&self, facts: &CopyFacts<'_>) -> bool {
        let material = self.proof.get(2 * HASH..).unwrap_or_default();
        let told = self.proof.get(..HASH).unwrap_or_default();
        is_same(&sum(facts, &self.identifier, material), told)
    }
}

/// What a receipt of a copy covers.
pub(crate) struct CopyFacts<'a> {
    pub(crate) id: &'a ObjectId,
    pub(crate) stamp: &'a Stamp,
    pub(crate) lineage: &'a [Stamp],
    pub(crate) digest: &'a [u8],
    pub(crate) owner: Option<&'a Text>,
    /// The names of the attributes that are left out.
    pub(crate) without: &'a [Text],
}

/// The key of a server's receipts. It comes from a secret in the server's store, so that a restored server has it, too.
pub(crate) struct ReceiptKey(Zeroizing<[u8; 32]>);

impl ReceiptKey {
    /// The key of the receipts of this server.
    pub(crate) fn of(home: &Home) -> ReceiptKey {
        // Twice, because a fingerprint of material shows half of what the first makes of that material.
        let first = keyed(home.fingerprint_key.expose(), &[b"keyferry receipts"]);
        ReceiptKey(Zeroizing::new(*keyed(&*first, &[b"keyferry receipts 1"])))
    }

    /// Makes the receipt of a copy. `fingerprint` is that of the material, if there is any.
    pub(crate) fn receipt(
        &self,
        facts: &CopyFacts<'_>,
        identifier: &Text,
        fingerprint: Option<&[u8]>,
    ) -> Receipt {
        let material = fingerprint.map(|fingerprint| self.of_material(facts.id, fingerprint));
        let material = material.as_ref().map_or(&[][..], |material| material);
        let sum = sum(facts, identifier, material);
        let hash = self.of_copy(facts.id, facts.stamp, &sum);
        Receipt {
            proof: [&sum[..], &hash, material].concat(),
            identifier: identifier.clone(),
            extra: Extra::NONE,
        }
    }

    /// Whether this server has made the receipt of this very copy. `fingerprint` is that of the material, where it came along.
    pub(crate) fn is_genuine(
        &self,
        facts: &CopyFacts<'_>,
        receipt: &Receipt,
        fingerprint: Option<&[u8]>,
    ) -> bool {
        let Some((told, rest)) = receipt.proof.split_at_checked(HASH) else {
            return false;
        };
        let Some((hash, material)) = rest.split_at_checked(HASH) else {
            return false;
        };
        let is_of_material = fingerprint
            .is_none_or(|fingerprint| is_same(&self.of_material(facts.id, fingerprint), material));
        let sum = sum(facts, &receipt.identifier, material);
        is_of_material
            && is_same(&sum, told)
            && is_same(&self.of_copy(facts.id, facts.stamp, &sum), hash)
    }

    /// Whether this server has sent a copy of this object in this change, by the proof of its receipt.
    pub(crate) fn is_claim_genuine(&self, id: &ObjectId, stamp: &Stamp, proof: &[u8]) -> bool {
        let Some((sum, rest)) = proof.split_at_checked(HASH) else {
            return false;
        };
        let hash = rest.get(..HASH).unwrap_or_default();
        is_same(&self.of_copy(id, stamp, sum), hash)
    }

    /// The receipt of a place.
    pub(crate) fn of_place(&self, incarnation: &[u8], number: i64, commit: &[u8]) -> Vec<u8> {
        let mut parts = Parts::new(OF_PLACE);
        parts.add(incarnation);
        parts.add(&number.to_be_bytes());
        parts.add(commit);
        self.hash(&parts).to_vec()
    }

    /// The key of the comparison with those that follow by these terms, in one incarnation of the store.
    pub(crate) fn of_terms(&self, incarnation: &[u8], terms: &[u8]) -> [u8; HASH] {
        let mut parts = Parts::new(OF_TERMS);
        parts.add(incarnation);
        parts.add(terms);
        self.hash(&parts)
    }

    fn of_copy(&self, id: &ObjectId, stamp: &Stamp, sum: &[u8]) -> [u8; HASH] {
        let mut parts = Parts::new(OF_COPY);
        parts.add_id(id);
        parts.add_stamp(stamp);
        parts.add(sum);
        self.hash(&parts)
    }

    fn of_material(&self, id: &ObjectId, fingerprint: &[u8]) -> [u8; HASH] {
        let mut parts = Parts::new(OF_MATERIAL);
        parts.add_id(id);
        parts.add(fingerprint);
        self.hash(&parts)
    }

    fn hash(&self, parts: &Parts) -> [u8; HASH] {
        let whole = keyed(&*self.0, &[&parts.0]);
        std::array::from_fn(|at| whole.get(at).copied().unwrap_or_default())
    }
}

/// Whether two keyed hashes are the same; how long that takes does not tell where they differ.
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .fold(0, |differs, (one, other)| differs | (one ^ other))
            == 0
}

/// The sum over all of a copy but what stands in its stamp and object id.
fn sum(facts: &CopyFacts<'_>, identifier: &Text, material: &[u8]) -> [u8; HASH] {
    let mut parts = Parts::new(OF_COPY);
    parts.add(&(facts.lineage.len() as u64).to_be_bytes());
    facts
        .lineage
        .iter()
        .for_each(|reign| parts.add_stamp(reign));
    parts.add(facts.digest);
    // Nobody and somebody without a name are two owners.
    parts.add(&[u8::from(facts.owner.is_some())]);
    parts.add(facts.owner.map_or(&[][..], |owner| owner.as_bytes()));
    parts.add(identifier.as_bytes());
    parts.add(&(facts.without.len() as u64).to_be_bytes());
    facts
        .without
        .iter()
        .for_each(|name| parts.add(name.as_bytes()));
    parts.add(material);
    let whole = Sha256::digest(&parts.0);
    std::array::from_fn(|at| whole.get(at).copied().unwrap_or_default())
}

fn keyed(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    // HMAC takes a key of any length.
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(key) else {
        return Zeroizing::new([0; 32]);
    };
    parts.iter().for_each(|part| mac.update(part));
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// The parts that are hashed, each behind its length, so that no two lists of parts are the same bytes.
pub(crate) struct Parts(Vec<u8>);

impl Parts {
    pub(crate) fn new(kind: u8) -> Parts {
        Parts(vec![kind])
    }

    pub(crate) fn add(&mut self, part: &[u8]) {
        self.0.extend_from_slice(&(part.len() as u64).to_be_bytes());
        self.0.extend_from_slice(part);
    }

    pub(crate) fn add_id(&mut self, id: &ObjectId) {
        self.add(id.server.as_bytes());
        self.add(&id.instance);
        self.add(id.identifier.as_bytes());
    }

    /// The bytes to hash.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn add_stamp(&mut self, stamp: &Stamp) {
        self.add(&stamp.epoch.to_be_bytes());
        self.add(stamp.issuer.as_bytes());
        self.add(&stamp.incarnation);
        self.add(&stamp.sequence.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyferry_kmip::Secret;
    use keyferry_store::Incarnation;

    fn key(secret: u8) -> ReceiptKey {
        ReceiptKey::of(&Home {
            server: "centre".into(),
            instance: vec![1],
            fingerprint_key: Secret::new(&[secret; 32]),
            extra: Extra::NONE,
        })
    }

    fn id() -> ObjectId {
        ObjectId {
            server: "centre".into(),
            instance: vec![1],
            identifier: "1".into(),
        }
    }

    #[test]
    fn a_receipt_is_of_one_copy_and_of_one_server() {
        let (id, other) = (
            id(),
            ObjectId {
                identifier: "2".into(),
                ..id()
            },
        );
        let stamp = Stamp::first(&"centre".into(), Incarnation([1; 16]));
        let later = Stamp {
            sequence: 2,
            ..stamp.clone()
        };
        let (owner, without): (Text, [Text; 1]) = ("alice".into(), ["Contact Information".into()]);
        let facts = || CopyFacts {
            id: &id,
            stamp: &stamp,
            lineage: &[],
            digest: &[7; 32],
            owner: Some(&owner),
            without: &[],
        };
        let receipt = key(1).receipt(&facts(), &"1".into(), Some(&[9; 16]));
        assert!(key(1).is_genuine(&facts(), &receipt, Some(&[9; 16])));
        assert!(
            key(1).is_genuine(&facts(), &receipt, None),
            "the material stayed behind"
        );
        assert!(!key(2).is_genuine(&facts(), &receipt, None));
        assert!(!key(1).is_genuine(&facts(), &receipt, Some(&[8; 16])));
        let lineage = [stamp.clone()];
        let changes: [&dyn Fn(&mut CopyFacts<'_>); 4] = [
            &|facts| facts.lineage = &[],
            &|facts| facts.digest = &[8; 32],
            &|facts| facts.owner = None,
            &|facts| facts.without = &[],
        ];
        let all = || CopyFacts {
            lineage: &lineage,
            without: &without,
            ..facts()
        };
        let receipt_of_all = key(1).receipt(&all(), &"1".into(), None);
        for change in changes {
            let mut changed = all();
            change(&mut changed);
            assert!(!key(1).is_genuine(&changed, &receipt_of_all, None));
        }
        let (mut of_other, mut of_later) = (facts(), facts());
        (of_other.id, of_later.stamp) = (&other, &later);
        assert!(!key(1).is_genuine(&of_other, &receipt, None));
        assert!(!key(1).is_genuine(&of_later, &receipt, None));
        let renamed = Receipt {
            identifier: "3".into(),
            ..receipt.clone()
        };
        assert!(!key(1).is_genuine(&facts(), &renamed, None));
    }

    #[test]
    fn a_receipt_that_was_altered_is_none() {
        let (id, other) = (
            id(),
            ObjectId {
                identifier: "2".into(),
                ..id()
            },
        );
        let stamp = Stamp::first(&"centre".into(), Incarnation([1; 16]));
        let later = Stamp {
            sequence: 2,
            ..stamp.clone()
        };
        let facts = || CopyFacts {
            id: &id,
            stamp: &stamp,
            lineage: &[],
            digest: &[7; 32],
            owner: None,
            without: &[],
        };
        let receipt = key(1).receipt(&facts(), &"1".into(), Some(&[9; 16]));
        assert!(key(1).is_claim_genuine(&id, &stamp, &receipt.proof));
        assert!(!key(1).is_claim_genuine(&other, &stamp, &receipt.proof));
        assert!(!key(1).is_claim_genuine(&id, &later, &receipt.proof));
        for at in 0..receipt.proof.len() {
            let mut flipped = receipt.clone();
            flipped.proof[at] ^= 1;
            assert!(
                !key(1).is_genuine(&facts(), &flipped, Some(&[9; 16])),
                "byte {at}"
            );
            let cut = receipt.proof.get(..at).unwrap_or_default();
            let cut = Receipt {
                proof: cut.to_vec(),
                ..receipt.clone()
            };
            assert!(
                !key(1).is_genuine(&facts(), &cut, Some(&[9; 16])),
                "cut to {at}"
            );
        }
    }

    #[test]
    fn a_copy_without_material_has_a_receipt_that_vouches_for_no_material() {
        let id = id();
        let stamp = Stamp::first(&"centre".into(), Incarnation([1; 16]));
        let facts = CopyFacts {
            id: &id,
            stamp: &stamp,
            lineage: &[],
            digest: &[7; 32],
            owner: None,
            without: &[],
        };
        let receipt = key(1).receipt(&facts, &"1".into(), None);
        assert!(key(1).is_genuine(&facts, &receipt, None));
        assert!(!key(1).is_genuine(&facts, &receipt, Some(&[9; 16])));
    }

    #[test]
    fn the_receipt_of_a_place_is_of_that_place() {
        let told = key(1).of_place(&[1; 16], 7, &[2; 16]);
        assert_eq!(told.len(), HASH);
        assert!(is_same(&told, &key(1).of_place(&[1; 16], 7, &[2; 16])));
        for other in [
            key(2).of_place(&[1; 16], 7, &[2; 16]),
            key(1).of_place(&[3; 16], 7, &[2; 16]),
            key(1).of_place(&[1; 16], 8, &[2; 16]),
            key(1).of_place(&[1; 16], 7, &[3; 16]),
        ] {
            assert!(!is_same(&told, &other));
        }
    }

    #[test]
    fn the_key_of_a_comparison_is_of_one_store_incarnation_and_terms() {
        let made = |secret: u8, incarnation: u8, terms: &[u8]| {
            key(secret).of_terms(&[incarnation; 16], terms)
        };
        assert_eq!(made(1, 1, b"x"), made(1, 1, b"x"));
        for other in [made(2, 1, b"x"), made(1, 2, b"x"), made(1, 1, b"y")] {
            assert_ne!(made(1, 1, b"x"), other);
        }
    }
}
