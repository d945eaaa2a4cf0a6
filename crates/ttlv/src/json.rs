//! The JSON encoding of a message (Additional Message Encodings 1.0 §4, since 1.0), both ways.
//!
//! ```
//! use keyferry_ttlv::{Context, Version, json};
//!
//! let cx = Context::new(Version::V2_1);
//! let text = r#"{"tag":"0x420069", "value":[
//!   {"tag":"0x42006A", "type":"Integer", "value":2},
//!   {"tag":"0x42006B", "type":"Integer", "value":1}
//! ]}
//! "#;
//! let message = json::to_ttlv(text, cx)?;
//! assert_eq!(message.len(), 40);
//! assert_eq!(*json::from_ttlv(&message, cx)?, text);
//! # Ok::<(), keyferry_ttlv::Error>(())
//! ```
//!
//! Tags, values and bits of masks have names where the context's [`Dictionary`](crate::Dictionary) has them, else numbers.
//!
//! Reading is strict: properties that the encoding does not have, repeated ones and numbers with a fraction are errors.
//! [`Limits`](crate::Limits) are those of the message that comes of it, as the standard counts lengths; a text deeper than 256
//! structures is not read whatever they say. It does not look at what a message means.

use crate::context::Context;
use crate::decoding::Decode;
use crate::encoding::Encode;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Frame;
use crate::tagged::Tagged;
use crate::text_form::Scope;
use crate::text_form::name::{tag_of, type_named};
use crate::text_form::read::{Draft, Literal, Plain, place};
use crate::text_form::write::{Form, render};
use crate::types::{Tag, Type};
use crate::writer::Writer;
use core::fmt;
use nom::branch::alt;
use nom::bytes::complete::{tag, take};
use nom::character::complete::{anychar, one_of};
use nom::combinator::{map_opt, map_res};
use nom::sequence::preceded;
use nom::{IResult, Parser};
use serde::Deserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::string::String;
use zeroize::Zeroizing;

/// The message that `text` stands for.
///
/// # Errors
/// What is wrong with the text, the byte of it, and the path of tags; or which limit the message is beyond.
pub fn to_ttlv(text: &str, cx: Context) -> Result<Frame> {
    // Finds every slip in the syntax, so that what comes then is about the encoding. Takes no stack.
    let root: &RawValue = serde_json::from_str(text).map_err(|e| {
        let before: usize = text
            .split_inclusive('\n')
            .take(e.line().saturating_sub(1))
            .map(str::len)
            .sum();
        wrong(
            "this is no JSON",
            text.len().min(before + e.column().saturating_sub(1)),
        )
    })?;
    Draft::new(cx)
        .message(|draft, w| Document { text, draft, w }.item(root, 0, &mut Scope::default()))
}

/// `message` as text: an item a line, indented. Wipe it when it holds secrets; this type does when it is dropped.
///
/// # Errors
/// What is wrong with the message, which is checked as a whole.
pub fn from_ttlv(message: &[u8], cx: Context) -> Result<Zeroizing<String>> {
    render(message, cx, Form::Json)
}

/// Decodes a whole message, or any item, from text.
///
/// # Errors
/// Those of [`to_ttlv`], and then those of [`decode`](crate::decode), whose places are in the TTLV.
pub fn decode<T: Decode + Tagged>(text: &str, cx: Context) -> Result<T> {
    crate::codec::decode(&to_ttlv(text, cx)?, cx)
}

/// Encodes a whole message, or anything that has a tag of its own, as text.
///
/// # Errors
/// Those of [`encode`](crate::encode) and of [`from_ttlv`].
pub fn encode<T: Encode + Tagged + ?Sized>(value: &T, cx: Context) -> Result<Zeroizing<String>> {
    from_ttlv(&crate::codec::encode(value, cx)?, cx)
}

#[cold]
fn wrong(why: &'static str, at: usize) -> Error {
    Error::new(ErrorKind::Syntax(why)).at(at)
}

struct Document<'d, 't> {
    text: &'t str,
    draft: &'d mut Draft,
    w: &'d mut Writer,
}

impl<'t> Document<'_, 't> {
    fn at(&self, raw: &RawValue) -> usize {
        place(self.text, raw.get())
    }

    /// Writes what an object stands for.
    fn item(&mut self, raw: &'t RawValue, depth: usize, scope: &mut Scope) -> Result<()> {
        let at = self.at(raw);
        let properties = self.properties(raw)?;
        let (tag, tag_at) = properties
            .tag
            .map(|raw| self.string(raw))
            .ok_or_else(|| wrong("the tag is missing", at))??;
        let tag = tag_of(&tag, self.draft.dictionary())
            .ok_or_else(|| Error::new(ErrorKind::UnknownName("tag")).at(tag_at))?;
        let ty = match properties.ty {
            Some(raw) => {
                let (name, at) = self.string(raw).map_err(|e| e.within(tag))?;
                type_named(&name)
                    .ok_or_else(|| self.w.error(tag, ErrorKind::UnknownName("type")).at(at))?
            }
            None => Type::Structure,
        };
        self.draft.begin(tag, ty, depth, at, self.w)?;
        match (ty, properties.value) {
            (Type::Structure, value) => self.structure(tag, value, depth),
            (_, Some(value)) => self.value(tag, ty, value, scope),
            (_, None) => Err(wrong("the value is missing", at).within(tag)),
        }
    }

    fn structure(&mut self, tag: Tag, value: Option<&'t RawValue>, depth: usize) -> Result<()> {
        let Document {
            text,
            ref mut draft,
            ref mut w,
        } = *self;
        w.structure(tag, |w| match value {
            Some(raw) if raw.get().starts_with('[') => {
                let mut error = None;
                let items = Items {
                    document: Document { text, draft, w },
                    depth: depth + 1,
                    error: &mut error,
                };
                let done = serde_json::Deserializer::from_str(raw.get()).deserialize_seq(items);
                match error {
                    Some(error) => Err(error),
                    None => done.map_err(|_| wrong("this is no array", place(text, raw.get()))),
                }
            }
            Some(raw) if raw.get() != "null" => Err(wrong(
                "a structure's value is no array",
                place(text, raw.get()),
            )),
            _ => Ok(()),
        })
    }

    fn value(&mut self, tag: Tag, ty: Type, raw: &'t RawValue, scope: &mut Scope) -> Result<()> {
        let at = self.at(raw);
        let text = raw.get();
        if text.starts_with('"') {
            let (text, at) = self.string(raw).map_err(|e| e.within(tag))?;
            return self.draft.value(
                tag,
                ty,
                Literal {
                    text: &text,
                    at,
                    quoted: true,
                    bare: false,
                },
                scope,
                self.w,
            );
        }
        self.draft.value(
            tag,
            ty,
            Literal {
                text,
                at,
                quoted: false,
                bare: true,
            },
            scope,
            self.w,
        )
    }

    /// The properties of an object.
    fn properties(&self, raw: &'t RawValue) -> Result<Properties<'t>> {
        let mut found = Properties::default();
        let mut error = None;
        if !raw.get().starts_with('{') {
            return Err(wrong("an item is no object", self.at(raw)));
        }
        let done = serde_json::Deserializer::from_str(raw.get()).deserialize_map(Fields {
            document: self,
            found: &mut found,
            error: &mut error,
        });
        match (error, done) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(found),
            (None, Err(_)) => Err(wrong("this is no object", self.at(raw))),
        }
    }

    /// A string and its place.
    fn string(&self, raw: &'t RawValue) -> Result<(Plain<'t>, usize)> {
        let at = self.at(raw);
        let inner = raw
            .get()
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        let inner = inner.ok_or_else(|| wrong("this is no string", at))?;
        let mut rest = inner;
        if !inner.contains('\\') {
            return Ok((Plain::Borrowed(inner), at));
        }
        // What an escape stands for is never longer than the escape.
        let mut text = Zeroizing::new(String::with_capacity(inner.len()));
        while !rest.is_empty() {
            let (behind, c) = letter(rest).map_err(|_| {
                wrong(
                    "half of a surrogate pair",
                    at + 1 + inner.len() - rest.len(),
                )
            })?;
            text.push(c);
            rest = behind;
        }
        Ok((Plain::Owned(text), at))
    }
}

/// A letter of a string, or what an escape stands for.
fn letter(input: &str) -> IResult<&str, char> {
    let unit = || {
        preceded(
            tag("\\u"),
            map_res(take(4usize), |digits| u16::from_str_radix(digits, 16)),
        )
    };
    let pair = |(high, low)| char::decode_utf16([high, low]).next().and_then(Result::ok);
    let short = |c| match c {
        'b' => '\u{8}',
        'f' => '\u{C}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        c => c,
    };
    alt((
        map_opt(unit(), |unit| char::from_u32(unit.into())),
        map_opt((unit(), unit()), pair),
        preceded(tag("\\"), one_of("\"\\/bfnrt")).map(short),
        map_opt(anychar, |c| (c != '\\').then_some(c)),
    ))
    .parse(input)
}

/// The properties of an object.
#[derive(Default)]
struct Properties<'t> {
    tag: Option<&'t RawValue>,
    name: Option<&'t RawValue>,
    ty: Option<&'t RawValue>,
    value: Option<&'t RawValue>,
}

/// Sorts the properties of an object.
struct Fields<'f, 'd, 't> {
    document: &'f Document<'d, 't>,
    found: &'f mut Properties<'t>,
    error: &'f mut Option<Error>,
}

impl<'t> Visitor<'t> for Fields<'_, '_, 't> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry::<&'t RawValue, &'t RawValue>()? {
            let property = self.document.string(key).and_then(|(name, at)| {
                let slot = match &*name {
                    "tag" => &mut self.found.tag,
                    "name" => &mut self.found.name,
                    "type" => &mut self.found.ty,
                    "value" => &mut self.found.value,
                    _ => return Err(wrong("a property that the encoding does not have", at)),
                };
                if slot.replace(value).is_some() {
                    return Err(wrong("a property stands twice", at));
                }
                // A name says nothing, but must be a text.
                if *name == *"name" {
                    self.document.string(value).map(drop)
                } else {
                    Ok(())
                }
            });
            if let Err(error) = property {
                *self.error = Some(error);
                return Err(de::Error::custom(""));
            }
        }
        Ok(())
    }
}

/// Writes the items of an array.
struct Items<'e, 'd, 't> {
    document: Document<'d, 't>,
    depth: usize,
    error: &'e mut Option<Error>,
}

impl<'t> Visitor<'t> for Items<'_, '_, 't> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'t>>(mut self, mut items: A) -> Result<(), A::Error> {
        let mut scope = Scope::default();
        while let Some(raw) = items.next_element::<&'t RawValue>()? {
            if let Err(error) = self.document.item(raw, self.depth, &mut scope) {
                *self.error = Some(error);
                return Err(de::Error::custom(""));
            }
        }
        Ok(())
    }
}
