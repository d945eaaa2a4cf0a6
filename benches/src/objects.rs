//! Records as a key server has them, the same ones for the same numbers, in the form in which a store takes them.

use keyferry_kmip::spec::{
    AttributeValue as V, CryptographicAlgorithm, CryptographicUsageMask, HashingAlgorithm,
    KeyFormatType, ObjectType, State,
};
use keyferry_kmip::{
    Attributes, CustomAttribute, DateTime, Digest, Interval, Name, Object, Secret,
};
use keyferry_store::{
    Entry, EntryKind, Incarnation, IndexKey, MaterialChange, ObjectId, Put, Record, Result, Stamp,
    index, record::material_of,
};
use keyferry_ttlv::Extra;
use std::ops::Range;

/// What one put holds.
pub struct Written {
    id: Vec<u8>,
    attributes: Vec<u8>,
    material: Vec<u8>,
    keys: Vec<IndexKey>,
    entry: Vec<u8>,
}

impl Written {
    /// The put that creates it.
    pub fn put(&self) -> Put<'_> {
        Put {
            number: None,
            id: &self.id,
            attributes: &self.attributes,
            material: MaterialChange::Set(&self.material),
            remove: &[],
            insert: &self.keys,
            entry: &self.entry,
        }
    }

    /// Its bytes without the index keys.
    pub fn size(&self) -> usize {
        self.id.len() + self.attributes.len() + self.material.len() + self.entry.len()
    }
}

/// splitmix64.
pub fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The Unique Identifier of object `n`: random to look at, as those of servers are.
pub fn identifier(n: u64) -> String {
    let (high, low) = (scatter(n), scatter(n ^ 0xABCD_EF01));
    let (a, b, c) = (high >> 32, (high >> 16) & 0xFFFF, high & 0xFFF);
    format!(
        "{a:08x}-{b:04x}-4{c:03x}-8{:03x}-{:012x}",
        low >> 52,
        low & 0xFFFF_FFFF_FFFF
    )
}

/// The Name of object `n`.
pub fn name(n: u64) -> String {
    format!("object {n:07}")
}

/// An active AES key with a Name, a group, a custom attribute and six dates: twelve index keys.
fn record(n: u64) -> Record {
    let born = DateTime(1_700_000_000 + n.cast_signed() / 100);
    let digest: Vec<u8> = (0..4)
        .flat_map(|i| scatter(n * 4 + i).to_be_bytes())
        .collect();
    let attributes = Attributes::new()
        .with(V::Name(Name::text(name(n))))
        .with(V::ObjectGroup(format!("site {:02}", n % 40).into()))
        .with(V::CryptographicAlgorithm(CryptographicAlgorithm::AES))
        .with(V::CryptographicLength(256))
        .with(V::CryptographicUsageMask(
            CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT,
        ))
        .with(V::Digest(Digest {
            hashing_algorithm: HashingAlgorithm::SHA_256,
            value: Some(digest),
            key_format_type: Some(KeyFormatType::RAW),
            extra: Extra::NONE,
        }))
        .with(V::ContactInformation("keys@example.com".into()))
        .with(V::Custom(CustomAttribute::text("ID", format!("asset-{n}"))))
        .with(V::Sensitive(false))
        .with(V::Extractable(true))
        .with(V::LeaseTime(Interval(3600)))
        .with(V::InitialDate(born))
        .with(V::OriginalCreationDate(born))
        .with(V::ActivationDate(born))
        .with(V::ProcessStartDate(born))
        .with(V::DeactivationDate(DateTime(born.0 + 100_000_000)))
        .with(V::LastChangeDate(born))
        .with(V::State(State::ACTIVE));
    let server = "benches".into();
    let stamp = Stamp::first(&server, Incarnation([7; 16]));
    Record {
        id: ObjectId {
            server,
            instance: vec![3; 16],
            identifier: identifier(n).into(),
        },
        identifier: identifier(n).into(),
        owner: Some("client".into()),
        lineage: vec![stamp.clone()].into(),
        stamp,
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes,
        overlay: None,
        fingerprint: Some(vec![n as u8; 32]),
        lost: Vec::new(),
        extra: Extra::NONE,
    }
}

/// Object `n`.
///
/// # Errors
/// None in practice.
pub fn written(n: u64) -> Result<Written> {
    let record = record(n);
    let key: Vec<u8> = (0..4).flat_map(|i| scatter(n + i).to_be_bytes()).collect();
    let object = Object::symmetric_key(CryptographicAlgorithm::AES, 256, Secret::new(&key));
    let entry = Entry {
        id: record.id.clone(),
        stamp: record.stamp.clone(),
        kind: EntryKind::CHANGED,
        before: Vec::new(),
        extra: Extra::NONE,
    };
    Ok(Written {
        id: record.id.encoded()?,
        attributes: record.encoded()?,
        material: material_of(&object)?.to_vec(),
        keys: index::keys(&record)?,
        entry: entry.encoded()?,
    })
}

/// These objects.
///
/// # Errors
/// None in practice.
pub fn all_written(numbers: Range<u64>) -> Result<Vec<Written>> {
    numbers.map(written).collect()
}

/// The highest and the present memory use of this process, in MiB; 0 where the system does not say.
pub fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |field: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .unwrap_or_default();
        line.split_whitespace()
            .next()
            .and_then(|kib| kib.parse::<u64>().ok())
            .unwrap_or(0)
            / 1024
    };
    (of("VmHWM:"), of("VmRSS:"))
}
