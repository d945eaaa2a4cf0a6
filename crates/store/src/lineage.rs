//! The lineage of an object: the first stamp of each reign that changed it, packed into few bytes.

use crate::stamp::Stamp;
use keyferry_kmip::Text;
use keyferry_kmip::extension as x;
use keyferry_ttlv::{Decode, Encode, ErrorKind, Extra, Group, Item, Reader, Result, Type, Writer};
use std::ops::{Deref, DerefMut};

/// The first stamp of each reign that changed an object, oldest first; the reign of its last change is the last. An object that only one reign
/// has changed has an empty lineage.
///
/// It is written as one byte string: a reign of an issuer that is named already takes about 22 bytes. The form of earlier builds, one structure
/// for each stamp, is still read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage(Vec<Stamp>);

/// The version of the packed form.
const FORM: u8 = 1;

impl Lineage {
    /// The most reigns that a lineage has. One that is longer is not read.
    pub const MOST: usize = 4096;

    /// A lineage without a reign.
    pub const fn new() -> Lineage {
        Lineage(Vec::new())
    }
}

impl From<Vec<Stamp>> for Lineage {
    fn from(stamps: Vec<Stamp>) -> Lineage {
        Lineage(stamps)
    }
}

impl Deref for Lineage {
    type Target = Vec<Stamp>;

    fn deref(&self) -> &Vec<Stamp> {
        &self.0
    }
}

impl DerefMut for Lineage {
    fn deref_mut(&mut self) -> &mut Vec<Stamp> {
        &mut self.0
    }
}

impl Group for Lineage {
    type How = ();

    fn accepts((): (), item: Item<'_>, _: &Reader<'_>) -> bool {
        item.tag() == x::LINEAGE
    }

    fn absorb<'a>(&mut self, (): (), _: usize, item: Item<'a>, r: &Reader<'a>) -> Result<()> {
        if item.ty() == Type::Structure {
            self.0.push(Stamp::decode(item, r)?);
        } else {
            let bytes = item.bytes(r)?;
            let read = unpack(bytes, &mut self.0);
            read.ok_or_else(|| r.error(item, ErrorKind::Value("a lineage that can't be read")))?;
        }
        if self.0.len() > Lineage::MOST {
            return Err(r.error(item, ErrorKind::Value("a lineage of more than 4096 reigns")));
        }
        Ok(())
    }

    fn write(&self, (): (), w: &mut Writer) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        // A stamp with more than its four fields has no packed form.
        if self
            .0
            .iter()
            .any(|stamp| stamp.grant.is_some() || stamp.extra != Extra::NONE)
        {
            return self
                .0
                .iter()
                .try_for_each(|stamp| stamp.encode(x::LINEAGE, w));
        }
        w.bytes(x::LINEAGE, &pack(&self.0))
    }
}

/// Packs stamps: the names of their issuers, each once, then for each stamp the number of its issuer, its epoch, its sequence and its reign.
fn pack(stamps: &[Stamp]) -> Vec<u8> {
    let mut issuers: Vec<&Text> = Vec::new();
    let mut rows = Vec::with_capacity(stamps.len() * 20);
    for stamp in stamps {
        let known = issuers.iter().position(|issuer| **issuer == stamp.issuer);
        let number = known.unwrap_or_else(|| {
            issuers.push(&stamp.issuer);
            issuers.len() - 1
        });
        put_number(&mut rows, number as u64);
        put_number(&mut rows, stamp.epoch.cast_unsigned());
        put_number(&mut rows, stamp.sequence.cast_unsigned());
        put_bytes(&mut rows, &stamp.incarnation);
    }
    let mut packed = vec![FORM];
    put_number(&mut packed, issuers.len() as u64);
    issuers
        .iter()
        .for_each(|issuer| put_bytes(&mut packed, issuer.as_bytes()));
    packed.extend_from_slice(&rows);
    packed
}

/// Reads what [`pack`] has written. `None` when it is damaged or too long.
fn unpack(packed: &[u8], stamps: &mut Vec<Stamp>) -> Option<()> {
    let (form, mut rest) = packed.split_first()?;
    if *form != FORM {
        return None;
    }
    let mut issuers: Vec<Text> = Vec::new();
    for _ in 0..take_number(&mut rest)? {
        issuers.push(std::str::from_utf8(take_bytes(&mut rest)?).ok()?.into());
    }
    while !rest.is_empty() {
        let issuer = issuers.get(usize::try_from(take_number(&mut rest)?).ok()?)?;
        stamps.push(Stamp {
            epoch: take_number(&mut rest)?.cast_signed(),
            issuer: issuer.clone(),
            sequence: take_number(&mut rest)?.cast_signed(),
            incarnation: take_bytes(&mut rest)?.to_vec(),
            grant: None,
            extra: Extra::NONE,
        });
        if stamps.len() > Lineage::MOST {
            return Some(());
        }
    }
    Some(())
}

/// Appends a number in groups of seven bits, the lowest first (LEB128).
fn put_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_number(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn take_number(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        let group = u64::from(byte & 0x7f);
        if shift == 63 && group > 1 {
            return None;
        }
        number |= group << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_number(from)?).ok()?;
    let (bytes, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::position::Incarnation;
    use crate::record::{Entry, EntryKind, ObjectId};
    use keyferry_ttlv::Tagged;

    /// A structure with a lineage, as records and copies have.
    #[derive(Debug, PartialEq, Encode, Decode)]
    #[ttlv(tag = x::RECORD)]
    struct Holder {
        #[ttlv(group = ())]
        lineage: Lineage,
        #[ttlv(extra)]
        extra: Extra,
    }

    /// The same as earlier builds wrote it.
    #[derive(Debug, PartialEq, Encode, Decode)]
    #[ttlv(tag = x::RECORD)]
    struct Earlier {
        #[ttlv(tag = x::LINEAGE)]
        lineage: Vec<Stamp>,
        #[ttlv(extra)]
        extra: Extra,
    }

    fn reigns(count: usize) -> Vec<Stamp> {
        (0..count)
            .map(|n| Stamp {
                epoch: 1 + i64::from(n % 7 == 6),
                sequence: i64::try_from(n * 3 + 1).unwrap(),
                ..Stamp::first(
                    &["centre", "branch"][n % 2].into(),
                    Incarnation([u8::try_from(n % 251).unwrap(); 16]),
                )
            })
            .collect()
    }

    fn written<T: Encode + Tagged>(value: &T) -> Vec<u8> {
        crate::record::bytes_of(value).unwrap()
    }

    fn read(bytes: &[u8]) -> crate::error::Result<Holder> {
        crate::record::read(bytes, "holder")
    }

    #[test]
    fn what_is_packed_is_read_again() {
        for count in [0, 1, 2, 3, 64, 4096] {
            let holder = Holder {
                lineage: reigns(count).into(),
                extra: Extra::NONE,
            };
            assert_eq!(read(&written(&holder)).unwrap(), holder);
        }
    }

    #[test]
    fn a_reign_takes_few_bytes() {
        let bytes = |count| {
            written(&Holder {
                lineage: reigns(count).into(),
                extra: Extra::NONE,
            })
            .len()
        };
        assert!(bytes(4096) - bytes(96) <= 4000 * 21, "{}", bytes(4096));
    }

    #[test]
    fn the_form_of_earlier_builds_is_read() {
        let earlier = Earlier {
            lineage: reigns(5),
            extra: Extra::NONE,
        };
        assert_eq!(*read(&written(&earlier)).unwrap().lineage, reigns(5));
    }

    #[test]
    fn a_stamp_with_more_than_its_fields_keeps_them() {
        let mut stamps = reigns(3);
        let entry = Entry {
            id: ObjectId {
                server: "centre".into(),
                instance: vec![1],
                identifier: "1".into(),
            },
            stamp: reigns(1).remove(0),
            kind: EntryKind::CHANGED,
            before: Vec::new(),
            extra: Extra::NONE,
        };
        stamps[1].grant = Some(
            keyferry_ttlv::Raw::of(
                x::GRANT,
                &entry,
                keyferry_kmip::context(keyferry_ttlv::Version::V2_1),
            )
            .unwrap(),
        );
        let holder = Holder {
            lineage: stamps.into(),
            extra: Extra::NONE,
        };
        assert_eq!(read(&written(&holder)).unwrap(), holder);
    }

    #[test]
    fn more_reigns_than_the_limit_are_refused_in_either_form() {
        let packed = written(&Holder {
            lineage: reigns(Lineage::MOST + 1).into(),
            extra: Extra::NONE,
        });
        let single = written(&Earlier {
            lineage: reigns(Lineage::MOST + 1),
            extra: Extra::NONE,
        });
        for bytes in [packed, single] {
            let error = read(&bytes).unwrap_err();
            assert!(error.to_string().contains("4096 reigns"), "{error}");
        }
    }

    #[test]
    fn damage_is_noticed_or_read_and_never_panics() {
        let packed = pack(&reigns(9));
        for at in 0..packed.len() {
            for bit in 0..8 {
                let mut damaged = packed.clone();
                damaged[at] ^= 1 << bit;
                let _ = unpack(&damaged, &mut Vec::new());
            }
            let mut cut = Vec::new();
            let whole = unpack(&packed[..at], &mut cut).is_some();
            assert!(!whole || cut.len() < 9);
        }
    }
}
