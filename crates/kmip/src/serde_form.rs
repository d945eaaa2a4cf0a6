//! serde's traits for the types that a derive does not do justice to: secrets are masked, identifiers are texts.

use crate::credential::Password;
use crate::identifier::{UniqueIdentifier, UniqueIdentifiers};
use crate::payload::data::ExtensionType;
use crate::secret::Secret;
use crate::spec::domain::serde_form::{read_value, write_value};
use crate::spec::enumeration::message::ItemType;
use crate::spec::enumeration::message::UniqueIdentifierEnumeration;
use keyferry_ttlv::Text;
use keyferry_ttlv::serde_form::secret;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

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
