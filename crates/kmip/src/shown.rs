//! The model in serde's formats: names instead of numbers, secrets masked. What needs more than a derive.

use crate::spec::{Domain, ItemType, Names, UniqueIdentifierEnumeration};
use crate::{ExtensionType, Password, Secret, UniqueIdentifier, UniqueIdentifiers};
use keyferry_ttlv::shown::{number, scalar, secret};
use keyferry_ttlv::{Dictionary, Text};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

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

/// Tags by the standard's names: for `#[serde(with = …)]`.
pub(crate) mod tag {
    use super::*;
    use keyferry_ttlv::Tag;

    pub(crate) fn serialize<S: Serializer>(tag: &Tag, serializer: S) -> Result<S::Ok, S::Error> {
        match Names
            .tag_name(*tag)
            .filter(|name| Names.tag_named(name) == Some(*tag))
        {
            Some(name) => serializer.serialize_newtype_struct("Tag", name),
            None => tag.serialize(serializer),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tag, D::Error> {
        let tag = |number: u32| Some(Tag::new(number)).filter(|tag| tag.number() == number);
        scalar(
            deserializer,
            "Tag",
            "the name of a tag, or a tag such as 0x420008",
            |text| Names.tag_named(text).or_else(|| tag(number(text)?)),
            |number| tag(u32::try_from(number).ok()?),
        )
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        secret::serialize(self.expose(), serializer)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        secret::deserialize(deserializer).map(|bytes| Secret::new(&bytes))
    }
}

/// The text's bytes in hexadecimal, like every secret: a text could look like a mask.
impl Serialize for Password {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        secret::serialize(self.expose(), serializer)
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A type of its own, so that a reader can tell that it has to be a text.
        #[derive(Deserialize)]
        #[serde(rename = "Password")]
        struct Bytes(#[serde(with = "secret")] Zeroizing<Vec<u8>>);
        let Bytes(bytes) = Bytes::deserialize(deserializer)?;
        std::str::from_utf8(&bytes)
            .map(Password::from)
            .map_err(|_| D::Error::custom("a password is not UTF-8"))
    }
}

/// A text, a number, or `{"enumeration": "ID Placeholder"}`.
impl Serialize for UniqueIdentifier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            UniqueIdentifier::Text(text) => {
                serializer.serialize_newtype_struct("UniqueIdentifier", text)
            }
            UniqueIdentifier::Integer(n) => {
                serializer.serialize_newtype_struct("UniqueIdentifier", n)
            }
            UniqueIdentifier::Enumeration(value) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("enumeration", value)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for UniqueIdentifier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = UniqueIdentifier;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an identifier, a place in the batch, or an enumeration")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<UniqueIdentifier, D::Error> {
                deserializer.deserialize_any(self)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<UniqueIdentifier, E> {
                Ok(text.into())
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<UniqueIdentifier, E> {
                n.try_into()
                    .map(UniqueIdentifier::Integer)
                    .map_err(|_| E::custom("a place in the batch has 32 bits"))
            }
            fn visit_u64<E: Error>(self, n: u64) -> Result<UniqueIdentifier, E> {
                n.try_into()
                    .map(UniqueIdentifier::Integer)
                    .map_err(|_| E::custom("a place in the batch has 32 bits"))
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<UniqueIdentifier, A::Error> {
                match map.next_entry::<Text, UniqueIdentifierEnumeration>()? {
                    Some((key, value)) if key == "enumeration" => {
                        Ok(UniqueIdentifier::Enumeration(value))
                    }
                    _ => Err(A::Error::missing_field("enumeration")),
                }
            }
        }
        deserializer.deserialize_newtype_struct("UniqueIdentifier", Forms)
    }
}

impl Serialize for UniqueIdentifiers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for UniqueIdentifiers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = UniqueIdentifiers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("identifiers")
            }
            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<UniqueIdentifiers, A::Error> {
                let mut identifiers = UniqueIdentifiers::new();
                while let Some(text) = list.next_element::<Text>()? {
                    identifiers.push(&text);
                }
                Ok(identifiers)
            }
        }
        deserializer.deserialize_seq(Texts)
    }
}

impl Serialize for ExtensionType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_value(&ItemType::DOMAIN, self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for ExtensionType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_value(&ItemType::DOMAIN, deserializer).map(ExtensionType)
    }
}
