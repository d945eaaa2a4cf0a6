//! The XML encoding of a message (Additional Message Encodings 1.0 §6, since 1.0), both ways.
//!
//! ```
//! use keyferry_ttlv::{Context, Version, xml};
//!
//! let cx = Context::new(Version::V2_1);
//! let text = r#"<TTLV tag="0x420069">
//!   <TTLV tag="0x42006A" type="Integer" value="2"/>
//!   <TTLV tag="0x42006B" type="Integer" value="1"/>
//! </TTLV>
//! "#;
//! let message = xml::to_ttlv(text, cx)?;
//! assert_eq!(message.len(), 40);
//! assert_eq!(*xml::from_ttlv(&message, cx)?, text);
//! # Ok::<(), keyferry_ttlv::Error>(())
//! ```
//!
//! Elements, values and bits of masks have names where the context's [`Dictionary`](crate::Dictionary) has them, else numbers.
//!
//! Reading is strict: a DTD, entities beyond XML's own five, text between elements, attributes that the encoding does not have and
//! namespaces other than `urn:oasis:tc:kmip:xmlns` are errors. [`Limits`](crate::Limits) are those of the message that comes of it, as the
//! standard counts lengths; a text deeper than 256 structures is not read whatever they say. It does not look at what a message means, and
//! does not keep comments.

use crate::context::Context;
use crate::decoding::Decode;
use crate::encoding::Encode;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Frame;
use crate::tagged::Tagged;
use crate::text_form::Scope;
use crate::text_form::name::{tag_of, type_named};
use crate::text_form::read::{Draft, Literal, Plain, place};
use crate::text_form::write::{Form, is_xml, render};
use crate::types::{Tag, Type};
use crate::writer::Writer;
use nom::branch::alt;
use nom::bytes::complete::tag;
use nom::character::complete::{digit1, hex_digit1};
use nom::combinator::{map_opt, value};
use nom::sequence::delimited;
use nom::{IResult, Parser};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::borrow::Cow;
use std::string::String;
use zeroize::Zeroizing;

const NAMESPACE: &str = "urn:oasis:tc:kmip:xmlns";

/// The message that `text` stands for.
///
/// # Errors
/// What is wrong with the text, the byte of it, and the path of tags; or which limit the message is beyond.
pub fn to_ttlv(text: &str, cx: Context) -> Result<Frame> {
    if let Some((at, _)) = text.char_indices().find(|(_, c)| !is_xml(*c)) {
        return Err(Error::new(ErrorKind::Syntax("a character that XML does not allow")).at(at));
    }
    let mut xml = Reader::from_str(text);
    xml.config_mut().expand_empty_elements = true;
    xml.config_mut().check_comments = true;
    let mut document = Document { text, xml };
    Draft::new(cx).message(|draft, w| {
        match document.next()? {
            (at, Event::Start(root)) => document.element(
                &root,
                at,
                &Around::default(),
                &mut Scope::default(),
                draft,
                w,
            )?,
            (at, _) => return Err(wrong("an element is missing", at)),
        }
        match document.next()? {
            (_, Event::Eof) => Ok(()),
            (at, _) => Err(wrong("an element behind the message", at)),
        }
    })
}

/// `message` as text: an element a line, indented. Wipe it when it holds secrets; this type does when it is dropped.
///
/// # Errors
/// What is wrong with the message, which is checked as a whole, or that a text in it has a character that XML cannot carry.
pub fn from_ttlv(message: &[u8], cx: Context) -> Result<Zeroizing<String>> {
    render(message, cx, Form::Xml)
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

#[cold]
fn lacks(tag: Tag, why: &'static str, at: usize, w: &Writer) -> Result<()> {
    Err(w.error(tag, ErrorKind::Syntax(why)).at(at))
}

/// The elements around an element: how many, and which namespace prefixes they declare.
#[derive(Clone, Copy, Default)]
struct Around<'p> {
    depth: usize,
    prefix: Option<&'p str>,
    outer: Option<&'p Around<'p>>,
}

impl Around<'_> {
    /// Whether a prefix stands for the namespace here. No other one can be declared.
    fn declares(&self, prefix: &str) -> bool {
        let mut around = Some(self);
        while let Some(here) = around {
            if here.prefix == Some(prefix) {
                return true;
            }
            around = here.outer;
        }
        false
    }
}

/// An attribute's value and its place.
type Attribute<'e> = Option<(&'e str, usize)>;

/// The attributes of an element.
#[derive(Default)]
struct Attributes<'e> {
    tag: Attribute<'e>,
    name: Attribute<'e>,
    ty: Attribute<'e>,
    value: Attribute<'e>,
    namespace: Attribute<'e>,
    /// The prefix that is declared here; more than one would stand for the same.
    prefix: Option<&'e str>,
}

struct Document<'t> {
    text: &'t str,
    xml: Reader<&'t [u8]>,
}

impl<'t> Document<'t> {
    fn position(&self) -> usize {
        usize::try_from(self.xml.buffer_position()).unwrap_or(usize::MAX)
    }

    /// The next beginning or end of an element, or of the text, and its place.
    fn next(&mut self) -> Result<(usize, Event<'t>)> {
        loop {
            let at = self.position();
            match self.xml.read_event() {
                Ok(event @ (Event::Start(_) | Event::End(_) | Event::Eof)) => {
                    return Ok((at, event));
                }
                Ok(Event::Text(text)) if text.bytes().all(|b| b.is_ascii_whitespace()) => {}
                Ok(Event::Comment(_) | Event::PI(_)) => {}
                Ok(Event::Decl(declaration)) if at == 0 => {
                    let version = declaration
                        .version()
                        .is_ok_and(|version| version.starts_with("1."));
                    let encoding = declaration.encoding().map(|encoding| {
                        encoding.is_ok_and(|name| name.eq_ignore_ascii_case("UTF-8"))
                    });
                    if !version || encoding == Some(false) {
                        return Err(wrong(
                            "an XML declaration of another version or encoding",
                            at,
                        ));
                    }
                }
                Ok(Event::Text(_) | Event::GeneralRef(_) | Event::CData(_)) => {
                    return Err(wrong("text between elements", at));
                }
                Ok(Event::DocType(_)) => return Err(wrong("a document type", at)),
                Ok(_) => return Err(wrong("an XML declaration that is not at the beginning", at)),
                // What the reader says may quote the text.
                Err(_) => {
                    return Err(wrong(
                        "this is no XML",
                        usize::try_from(self.xml.error_position()).unwrap_or(at),
                    ));
                }
            }
        }
    }

    /// Writes what an element stands for. The reader is behind its start.
    fn element(
        &mut self,
        start: &BytesStart<'t>,
        at: usize,
        around: &Around<'_>,
        scope: &mut Scope,
        draft: &mut Draft,
        w: &mut Writer,
    ) -> Result<()> {
        let attributes = self.attributes(start)?;
        let inner = Around {
            depth: around.depth + 1,
            prefix: attributes.prefix,
            outer: Some(around),
        };
        let name = start.name().into_inner();
        let local = match name.split_once(':') {
            Some((prefix, local)) if inner.declares(prefix) => local,
            Some(_) => return Err(wrong("a namespace prefix that was not declared", at)),
            None => name,
        };
        let tag = tag_of_element(local, &attributes, at, draft)?;
        let ty = match attributes.ty {
            Some((name, at)) => type_named(&plain(name, at)?)
                .ok_or_else(|| w.error(tag, ErrorKind::UnknownName("type")).at(at))?,
            None => Type::Structure,
        };
        draft.begin(tag, ty, around.depth, at, w)?;
        match (ty, attributes.value) {
            (Type::Structure, Some((_, at))) => lacks(tag, "a structure has no value", at, w),
            (Type::Structure, None) => w.structure(tag, |w| {
                let mut scope = Scope::default();
                loop {
                    match self.next()? {
                        (at, Event::Start(start)) => {
                            self.element(&start, at, &inner, &mut scope, draft, w)?
                        }
                        (_, Event::End(_)) => return Ok(()),
                        (at, _) => return Err(wrong("an element is not closed", at)),
                    }
                }
            }),
            (_, None) => lacks(tag, "the value is missing", at, w),
            (_, Some(value)) => {
                self.value(tag, ty, value, scope, draft, w)?;
                match self.next() {
                    Ok((_, Event::End(_))) => Ok(()),
                    Ok((at, _)) => lacks(tag, "an element within a value", at, w),
                    Err(e) => Err(e.within(tag)),
                }
            }
        }
    }

    /// Writes the value of an element that is no structure.
    fn value(
        &self,
        tag: Tag,
        ty: Type,
        (raw, at): (&str, usize),
        scope: &mut Scope,
        draft: &Draft,
        w: &mut Writer,
    ) -> Result<()> {
        let plain = plain(raw, at).map_err(|e| e.within(tag))?;
        // XML Schema collapses white space around everything but strings.
        let text = if ty == Type::TextString {
            &plain
        } else {
            plain.trim_matches([' ', '\t', '\n', '\r'])
        };
        let literal = Literal {
            text,
            at,
            quoted: true,
            bare: true,
        };
        draft.value(tag, ty, literal, scope, w)
    }

    fn attributes<'e>(&self, start: &'e BytesStart<'t>) -> Result<Attributes<'e>> {
        let mut found = Attributes::default();
        // Looks for repeated ones itself, which takes one comparison a pair of attributes.
        for attribute in start.attributes().with_checks(false) {
            let Ok((key, Cow::Borrowed(value))) =
                attribute.map(|attribute| (attribute.key.into_inner(), attribute.value))
            else {
                return Err(wrong(
                    "an attribute is incomplete",
                    place(self.text, start.attributes_raw()),
                ));
            };
            let at = place(self.text, key);
            if !at
                .checked_sub(1)
                .and_then(|at| self.text.as_bytes().get(at))
                .is_some_and(u8::is_ascii_whitespace)
            {
                return Err(wrong("no space before an attribute", at));
            }
            let value = (value, place(self.text, value));
            let declared = key.strip_prefix("xmlns:");
            let repeated = match (key, declared) {
                ("tag", _) => found.tag.replace(value).is_some(),
                ("name", _) => found.name.replace(value).is_some(),
                ("type", _) => found.ty.replace(value).is_some(),
                ("value", _) => found.value.replace(value).is_some(),
                ("xmlns", _) => found.namespace.replace(value).is_some(),
                (_, Some(_)) if found.prefix.is_some() => {
                    return Err(wrong("a second namespace prefix", at));
                }
                (_, Some(prefix)) => found.prefix.replace(prefix).is_some(),
                _ => return Err(wrong("an attribute that the encoding does not have", at)),
            };
            if repeated {
                return Err(wrong("an attribute stands twice", at));
            }
            if key == "name" {
                plain(value.0, value.1)?; // says nothing, but must be a text
            }
            if key == "xmlns" && value.0.is_empty() || key != "xmlns" && declared.is_none() {
                continue;
            }
            if *plain(value.0, value.1)? != *NAMESPACE {
                return Err(wrong("another namespace", value.1));
            }
        }
        Ok(found)
    }
}

/// The tag of an element with this name.
fn tag_of_element(
    name: &str,
    attributes: &Attributes<'_>,
    at: usize,
    draft: &Draft,
) -> Result<Tag> {
    let unknown = |at| Error::new(ErrorKind::UnknownName("tag")).at(at);
    if name == "TTLV" {
        let (text, at) = attributes
            .tag
            .ok_or_else(|| wrong("the tag is missing", at))?;
        return tag_of(&plain(text, at)?, draft.dictionary()).ok_or_else(|| unknown(at));
    }
    if let Some((_, at)) = attributes.tag.or(attributes.name) {
        return Err(wrong("an attribute that only the element TTLV has", at));
    }
    // As in `<x540001 …/>` (§6.1.6.5).
    let number = || tag_of(&std::format!("0{name}"), None);
    tag_of(name, draft.dictionary())
        .or_else(number)
        .ok_or_else(|| unknown(at))
}

/// The value of an attribute: white space as spaces, references as what they stand for.
fn plain(raw: &str, at: usize) -> Result<Plain<'_>> {
    if !raw.contains(['&', '<', '\t', '\n', '\r']) {
        return Ok(Plain::Borrowed(raw));
    }
    // What a reference stands for is never longer than the reference.
    let mut text = Zeroizing::new(String::with_capacity(raw.len()));
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        let here = at + raw.len() - rest.len();
        let mut behind = rest.get(c.len_utf8()..).unwrap_or_default();
        text.push(match c {
            '<' => return Err(wrong("the sign < in a value", here)),
            '\r' if behind.starts_with('\n') => {
                rest = behind;
                continue;
            }
            '\t' | '\n' | '\r' => ' ',
            '&' => {
                let (after, c) = reference(behind)
                    .map_err(|_| wrong("a reference that XML itself does not define", here))?;
                behind = after;
                c
            }
            c => c,
        });
        rest = behind;
    }
    Ok(Plain::Owned(text))
}

/// Reads a character reference, behind its sign `&`.
fn reference(input: &str) -> IResult<&str, char> {
    let number = |digits, radix| {
        u32::from_str_radix(digits, radix)
            .ok()
            .and_then(char::from_u32)
            .filter(|c| is_xml(*c))
    };
    alt((
        value('&', tag("amp;")),
        value('<', tag("lt;")),
        value('>', tag("gt;")),
        value('"', tag("quot;")),
        value('\'', tag("apos;")),
        delimited(
            tag("#x"),
            map_opt(hex_digit1, move |digits| number(digits, 16)),
            tag(";"),
        ),
        delimited(
            tag("#"),
            map_opt(digit1, move |digits| number(digits, 10)),
            tag(";"),
        ),
    ))
    .parse(input)
}
