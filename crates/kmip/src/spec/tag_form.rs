//! Tags in serde's formats, by the standard's names: for `#[serde(with = …)]`.

use super::names::Names;
use keyferry_ttlv::serde_form::{number, scalar};
use keyferry_ttlv::{Dictionary, Tag};
use serde::Serialize;
use serde::de::Deserializer;
use serde::ser::Serializer;

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
