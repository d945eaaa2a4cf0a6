//! serde's traits for the types of this crate, by the rules of [`serde_form`](mod@crate::serde_form).

use crate::context::{Context, Lenient};
use crate::decoding::Decode;
use crate::downgrade::{Loss, Lost};
use crate::error::Error;
use crate::frame::Frame;
use crate::item::Item;
use crate::item::reader::Reader;
use crate::primitive::{DateTime, DateTimeExtended, Enumeration};
use crate::raw::{Extra, Raw};
use crate::serde_form::{number, scalar, secret};
use crate::text::Text;
use crate::text_form::date;
use crate::types::{Tag, Version};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct("Tag", &format!("0x{self}"))
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tag = |number: u32| Some(Tag::new(number)).filter(|tag| tag.number() == number);
        scalar(
            deserializer,
            "Tag",
            "a tag such as 0x420008",
            |text| tag(number(text)?),
            |number| tag(u32::try_from(number).ok()?),
        )
    }
}

impl Serialize for Enumeration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct("Enumeration", &format!("0x{:08X}", self.0))
    }
}

impl<'de> Deserialize<'de> for Enumeration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = |number| u32::try_from(number).ok();
        scalar(
            deserializer,
            "Enumeration",
            "a number such as 0x80000001",
            number,
            whole,
        )
        .map(Enumeration)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct("Version", &format!("{self}"))
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let version = |text: &str| {
            let (major, minor) = text.split_once('.')?;
            Some(Version::new(major.parse().ok()?, minor.parse().ok()?))
        };
        scalar(
            deserializer,
            "Version",
            "a version such as 2.1",
            version,
            |_| None,
        )
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl Visitor<'_> for Texts {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(text.into())
            }
        }
        deserializer.deserialize_str(Texts)
    }
}

/// Year, month, day and time as ISO 8601 has them, where the year has four digits.
fn iso(seconds: i64) -> Option<String> {
    let [year, month, day, hour, minute, second] = date::parts(seconds)?;
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    ))
}

impl Serialize for DateTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match iso(self.0) {
            Some(date) => serializer.serialize_newtype_struct("DateTime", &format!("{date}Z")),
            None => serializer.serialize_newtype_struct("DateTime", &self.0),
        }
    }
}

impl<'de> Deserialize<'de> for DateTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = |text: &str| {
            date::seconds(text)
                .filter(|(_, fraction)| fraction.is_empty())
                .map(|(seconds, _)| seconds)
        };
        scalar(
            deserializer,
            "DateTime",
            "a date such as 2026-03-01T12:00:00Z, or seconds since 1970",
            seconds,
            Some,
        )
        .map(DateTime)
    }
}

impl Serialize for DateTimeExtended {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match iso(self.0.div_euclid(1_000_000)) {
            Some(date) => {
                let date = format!("{date}.{:06}Z", self.0.rem_euclid(1_000_000));
                serializer.serialize_newtype_struct("DateTimeExtended", &date)
            }
            None => serializer.serialize_newtype_struct("DateTimeExtended", &self.0),
        }
    }
}

impl<'de> Deserialize<'de> for DateTimeExtended {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "a date such as 2026-03-01T12:00:00.000001Z, or microseconds since 1970";
        scalar(
            deserializer,
            "DateTimeExtended",
            expecting,
            date::microseconds,
            Some,
        )
        .map(DateTimeExtended)
    }
}

impl Serialize for Frame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        secret::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Frame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        secret::deserialize(deserializer).map(|mut bytes| Frame::new(core::mem::take(&mut *bytes)))
    }
}

/// Written as the tag, and the whole item, which is masked.
impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Item<'a>(&'a Raw);
        impl Serialize for Item<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                secret::serialize(self.0.bytes(), serializer)
            }
        }
        let mut shown = serializer.serialize_struct("Raw", 2)?;
        shown.serialize_field("tag", &self.tag())?;
        shown.serialize_field("item", &Item(self))?;
        shown.end()
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Raw;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an item with its tag")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let (mut tag, mut item) = (None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "tag" => tag = Some(map.next_value::<Tag>()?),
                        "item" => item = Some(map.next_value::<Frame>()?),
                        _ => return Err(A::Error::unknown_field(&key, &["tag", "item"])),
                    }
                }
                let frame = item.ok_or_else(|| A::Error::missing_field("item"))?;
                // As it came from a peer, slips included.
                let cx = Context {
                    lenient: Lenient::ALWAYS,
                    ..Context::new(Version::V2_1)
                };
                let r = Reader::new(&frame, cx);
                let raw = Item::whole(&frame)
                    .and_then(|item| Raw::decode(item, &r))
                    .map_err(A::Error::custom)?;
                match tag {
                    Some(tag) if tag != raw.tag() => {
                        Err(A::Error::custom("the item has another tag"))
                    }
                    _ => Ok(raw),
                }
            }
        }
        deserializer.deserialize_struct("Raw", &["tag", "item"], Fields)
    }
}

impl Serialize for Extra {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Extra {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = Extra;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("items with their tags")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Extra, A::Error> {
                let mut extra = Extra::NONE;
                while let Some(raw) = items.next_element()? {
                    extra.push(raw);
                }
                Ok(extra)
            }
        }
        deserializer.deserialize_seq(Items)
    }
}

/// Written as a list.
impl Serialize for Loss {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Loss {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Lost>::deserialize(deserializer).map(Loss::of)
    }
}

/// Written as its message.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
