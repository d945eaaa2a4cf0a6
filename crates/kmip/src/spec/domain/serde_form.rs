//! Values of enumerations and bits of masks in serde's formats: names in place of numbers.

use super::Domain;
use keyferry_ttlv::Text;
use keyferry_ttlv::serde_form::{number, scalar};
use serde::Serialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use std::fmt;

/// The name of a value, unless it would be read as another one.
fn name_of(domain: &Domain, value: u32) -> Option<&'static str> {
    let row = domain.values.iter().find(|row| row.value == value)?;
    (named(domain, row.name) == Some(value)).then_some(row.name)
}

fn named(domain: &Domain, name: &str) -> Option<u32> {
    domain
        .values
        .iter()
        .find(|row| row.name == name)
        .map(|row| row.value)
}

/// Writes a value of an enumeration as its name, or as a number where it has none.
pub(crate) fn write_value<S: Serializer>(
    domain: &'static Domain,
    value: u32,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match name_of(domain, value) {
        Some(name) => serializer.serialize_newtype_struct(domain.name, name),
        None => serializer.serialize_newtype_struct(domain.name, &format!("0x{value:08X}")),
    }
}

/// Reads a value of an enumeration by its name or its number.
pub(crate) fn read_value<'de, D: Deserializer<'de>>(
    domain: &'static Domain,
    deserializer: D,
) -> Result<u32, D::Error> {
    scalar(
        deserializer,
        domain.name,
        "the name of a value, or a number such as 0x80000001",
        |text| named(domain, text).or_else(|| number(text)),
        |number| u32::try_from(number).ok(),
    )
}

/// The names of the bits that are set, and those without a name together as a number.
struct Bits(&'static Domain, u32);

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Bits(domain, mut rest) = *self;
        let mut list = serializer.serialize_seq(None)?;
        for bit in (0..32).map(|n| 1 << n).filter(|bit| self.1 & bit != 0) {
            if let Some(name) = name_of(domain, bit) {
                list.serialize_element(name)?;
                rest &= !bit;
            }
        }
        if rest != 0 {
            list.serialize_element(&format!("0x{rest:08X}"))?;
        }
        list.end()
    }
}

/// Writes a mask as the names of its bits.
pub(crate) fn write_bits<S: Serializer>(
    domain: &'static Domain,
    bits: u32,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_newtype_struct(domain.name, &Bits(domain, bits))
}

/// Reads a mask: names and numbers, or one number.
pub(crate) fn read_bits<'de, D: Deserializer<'de>>(
    domain: &'static Domain,
    deserializer: D,
) -> Result<u32, D::Error> {
    struct Mask(&'static Domain);
    impl<'de> Visitor<'de> for Mask {
        type Value = u32;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the names of bits")
        }
        fn visit_newtype_struct<D: Deserializer<'de>>(
            self,
            deserializer: D,
        ) -> Result<u32, D::Error> {
            deserializer.deserialize_any(self)
        }
        fn visit_u64<E: Error>(self, bits: u64) -> Result<u32, E> {
            u32::try_from(bits).map_err(|_| E::custom("a mask has 32 bits"))
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<u32, A::Error> {
            let mut bits = 0;
            while let Some(name) = list.next_element::<Text>()? {
                bits |= named(self.0, &name)
                    .or_else(|| number(&name))
                    .ok_or_else(|| {
                        A::Error::custom(format_args!("{} has no bit {name}", self.0.name))
                    })?;
            }
            Ok(bits)
        }
    }
    deserializer.deserialize_newtype_struct(domain.name, Mask(domain))
}
