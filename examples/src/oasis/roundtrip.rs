//! Carries each message of a case through the model and all three encodings, and compares every item with what it was.

use super::Outcome;
use super::case::{Case, Kind, Message, Placeholder};
use keyferry_kmip::spec::{self, tag};
use keyferry_kmip::{RequestMessage, RequestPayload, ResponseMessage, ResponsePayload, context};
use keyferry_ttlv::{
    Dictionary, Encode, Error, ErrorKind, Frame, Item, Reader, Tag, Tagged, Version, json, xml,
};
use std::fmt::Display;

/// Why a message was given up.
enum Stop {
    Fail(String),
    Skip(String),
}

/// Carries the messages of a case through everything.
pub fn check(case: &Case) -> Outcome {
    let mut outcome = Outcome::Pass;
    for message in &case.messages {
        match carry(message) {
            Ok(()) => {}
            Err(Stop::Fail(why)) => return Outcome::Fail(why),
            // Another message may still fail.
            Err(Stop::Skip(why)) => outcome = Outcome::Skip(why),
        }
    }
    outcome
}

/// The moment that `$NOW` stands for, in seconds since 1970.
const NOW: i64 = 1_372_237_757;

/// What a placeholder is filled with where its type does not let it stand as the text that it is: bytes that are its name, a date that is
/// as far from now as it says, a number.
fn stand_in(placeholder: &Placeholder) -> Option<String> {
    let Placeholder { name, offset, .. } = placeholder;
    let digits =
        |bytes: &str| -> String { bytes.bytes().map(|byte| format!("{byte:02x}")).collect() };
    let date = || NOW.saturating_add(*offset);
    Some(match placeholder.ty.as_str() {
        "ByteString" => digits(name),
        "BigInteger" => {
            let digits = digits(name);
            format!(
                "{digits:0>width$}",
                width = digits.len().next_multiple_of(16)
            )
        }
        "DateTime" => format!("0x{:016x}", date()),
        "DateTimeExtended" => format!("0x{:016x}", date().saturating_mul(1_000_000)),
        "Integer" | "LongInteger" => offset.to_string(),
        "Interval" => offset.unsigned_abs().to_string(),
        "Enumeration" => "0x00000001".to_owned(),
        "Boolean" => "true".to_owned(),
        _ => return None,
    })
}

/// A message whose payloads are read.
trait Typed: Encode + Tagged + PartialEq + Sized {
    fn read(frame: &[u8]) -> Result<Self, Error>;
    fn write(&self) -> Result<Frame, Error>;
}

impl Typed for RequestMessage<RequestPayload> {
    fn read(frame: &[u8]) -> Result<Self, Error> {
        RequestMessage::from_frame(frame)?.read_payloads()
    }

    fn write(&self) -> Result<Frame, Error> {
        self.to_frame()
    }
}

impl Typed for ResponseMessage<ResponsePayload> {
    fn read(frame: &[u8]) -> Result<Self, Error> {
        ResponseMessage::from_frame(frame)?.read_payloads()
    }

    fn write(&self) -> Result<Frame, Error> {
        self.to_frame()
    }
}

fn carry(message: &Message) -> Result<(), Stop> {
    let text = message.filled(stand_in);
    let number = |number: i32| u8::try_from(number).ok();
    let version = message
        .version
        .and_then(|(major, minor)| Some(Version::new(number(major)?, number(minor)?)));
    // The context only names things here; a message without a version is refused when it is read.
    let version = version.unwrap_or(Version::V1_0);
    let first = xml::to_ttlv(&text, context(version)).map_err(|error| {
        let line = message.line_at(&text, error.offset().unwrap_or_default());
        match (error.kind(), error.path().last()) {
            (
                ErrorKind::UnknownName("value"),
                Some(&tag::PKCS_11_FUNCTION | &tag::PKCS_11_RETURN_CODE),
            ) => Stop::Skip(format!(
                "the PKCS#11 standard, not KMIP, says what number this name has (line {line})"
            )),
            _ => failed(line, told(&error)),
        }
    })?;
    match message.kind {
        Kind::Request => round::<RequestMessage<RequestPayload>>(message, &first, version),
        Kind::Response => round::<ResponseMessage<ResponsePayload>>(message, &first, version),
    }
}

fn failed(line: usize, why: impl Display) -> Stop {
    Stop::Fail(format!("{why} (line {line})"))
}

/// An error without its byte, which is one of no file.
fn told(error: &Error) -> String {
    let text = error.to_string();
    let byte = error
        .offset()
        .map(|byte| format!(" (byte {byte})"))
        .unwrap_or_default();
    text.strip_suffix(&byte).map(str::to_owned).unwrap_or(text)
}

/// TTLV to typed, to bytes, to typed; then to XML and to JSON, and back from both.
fn round<M: Typed>(message: &Message, first: &[u8], version: Version) -> Result<(), Stop> {
    let cx = context(version);
    let top = message.line_of(0);
    let on = |step: &'static str| {
        move |error: Error| failed(top, format_args!("{}, {step}", told(&error)))
    };
    let same = |step, again: &[u8]| match difference(first, again, version) {
        None => Ok(()),
        Some(Difference { byte, path, why }) => Err(failed(
            message.line_of(item_at(first, byte)),
            format_args!("{}: {why}, {step}", names(&path)),
        )),
    };
    let read = |bytes: &[u8]| {
        M::read(bytes).map_err(|error| {
            let item = error.offset().map_or(0, |byte| item_at(bytes, byte));
            failed(message.line_of(item), told(&error))
        })
    };
    let typed = read(first)?;
    let frame = typed.write().map_err(on("written as bytes"))?;
    same("written as bytes", &frame)?;
    let typed_again = read(&frame)?;
    let as_xml = xml::encode(&typed_again, cx).map_err(on("written as XML"))?;
    let from_xml = xml::to_ttlv(&as_xml, cx).map_err(on("read from XML"))?;
    same("by way of XML", &from_xml)?;
    let as_json = json::encode(&typed_again, cx).map_err(on("written as JSON"))?;
    let from_json = json::to_ttlv(&as_json, cx).map_err(on("read from JSON"))?;
    same("by way of JSON", &from_json)?;
    if typed_again != typed || read(&from_xml)? != typed || read(&from_json)? != typed {
        return Err(failed(
            top,
            format_args!(
                "{}: the same bytes were read as another message",
                names(&[M::TAG])
            ),
        ));
    }
    Ok(())
}

/// Where two messages part.
struct Difference {
    /// The byte of the first of them that the item begins at.
    byte: usize,
    /// The tags down to the item.
    path: Vec<Tag>,
    why: String,
}

/// The first item in which the second message is not the first.
fn difference(first: &[u8], second: &[u8], version: Version) -> Option<Difference> {
    let (r, s) = (
        Reader::new(first, context(version)),
        Reader::new(second, context(version)),
    );
    match (Item::parse(first), Item::parse(second)) {
        (Ok(one), Ok(other)) => compare(one, &r, other, &s),
        _ => Some(Difference {
            byte: 0,
            path: Vec::new(),
            why: "the message is broken".to_owned(),
        }),
    }
}

// What was read is within the limits, and so is the depth of this.
fn compare<'a, 'b>(
    one: Item<'a>,
    r: &Reader<'a>,
    other: Item<'b>,
    s: &Reader<'b>,
) -> Option<Difference> {
    if one.raw() == other.raw() {
        return None;
    }
    let here = |item: Item<'a>, why| {
        Some(Difference {
            byte: r.offset(item),
            path: vec![item.tag()],
            why,
        })
    };
    let (ours, theirs) = (r.children(one), s.children(other));
    let (Ok(mut ours), Ok(mut theirs), true) = (ours, theirs, one.tag() == other.tag()) else {
        return here(one, format!("was {}, is {}", shown(one), shown(other)));
    };
    let difference = loop {
        match (ours.step(), theirs.step()) {
            (Some(child), Some(again)) => {
                if let Some(difference) = compare(child, r, again, s) {
                    break difference;
                }
            }
            (Some(child), None) => break here(child, format!("{} was lost", shown(child)))?,
            (None, Some(again)) => return here(one, format!("{} was added", shown(again))),
            // The children are the same, so the bytes around them are not.
            (None, None) => return here(one, "the length is another".to_owned()),
        }
    };
    let path = std::iter::once(one.tag()).chain(difference.path).collect();
    Some(Difference { path, ..difference })
}

/// The number of the item that a byte of a message belongs to, the message itself being item 0.
fn item_at(message: &[u8], byte: usize) -> usize {
    let r = Reader::new(message, context(Version::V2_1));
    let mut open: Vec<_> = Item::parse(message)
        .and_then(|item| r.children(item))
        .into_iter()
        .collect();
    let mut number = 0;
    while let Some(children) = open.last_mut() {
        match children.step() {
            None => drop(open.pop()),
            Some(item) if r.offset(item) > byte => break,
            Some(item) => {
                number += 1;
                open.extend(r.children(item));
            }
        }
    }
    number
}

/// The names of tags, outermost first: `Request Message > Batch Item`.
fn names(path: &[Tag]) -> String {
    let name = |tag: &Tag| {
        spec::Names
            .tag_name(*tag)
            .map_or_else(|| format!("0x{tag}"), str::to_owned)
    };
    path.iter().map(name).collect::<Vec<_>>().join(" > ")
}

/// An item as XML, on one line and not too long.
fn shown(item: Item<'_>) -> String {
    let Ok(text) = xml::from_ttlv(item.raw(), context(Version::V2_1)) else {
        return names(&[item.tag()]);
    };
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(160) {
        line.truncate(end);
        line.push('…');
    }
    line
}
