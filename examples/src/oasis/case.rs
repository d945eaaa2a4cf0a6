//! A test case of OASIS: an XML document with the requests of a client and the responses of a server, in their order.
//!
//! Some values in it are placeholders: `$NOW-3600`, `$UNIQUE_IDENTIFIER_0`. A placeholder is a whole value, a dollar sign and a name, and
//! stands for the same value wherever it stands; seconds may be added to it or taken from it. Its name says what was meant, its type what
//! may be put there. So any name is taken, not only those that are known.

use keyferry_kmip::spec::{self, tag};
use keyferry_ttlv::{Dictionary, Tag};
use quick_xml::events::{BytesEnd, BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::reader::NsReader;
use quick_xml::{XmlVersion, escape::escape};
use std::fmt;
use std::ops::Range;

const NAMESPACE: &str = "urn:oasis:tc:kmip:xmlns";

/// What a client and a server say to each other.
#[derive(Debug, Default)]
pub struct Case {
    /// In the order of the document.
    pub messages: Vec<Message>,
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To the server.
    Request,
    /// To the client.
    Response,
}

/// One message of a case.
#[derive(Debug)]
pub struct Message {
    /// Which way it goes.
    pub kind: Kind,
    /// The major and minor number of its Protocol Version, where it has one.
    pub version: Option<(i32, i32)>,
    /// What stands in it for other values.
    pub placeholders: Vec<Placeholder>,
    /// The message as XML, its names without prefixes.
    text: String,
    /// The lines of the document that its elements begin on.
    lines: Vec<usize>,
}

/// What stands for a value that is known only when the case is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// Without the dollar sign: `UNIQUE_IDENTIFIER_0`.
    pub name: String,
    /// What is added to it: -3600 in `$NOW-3600`.
    pub offset: i64,
    /// The type that the value has, as XML names it: `DateTime`.
    pub ty: String,
    /// Its place in the message's text.
    place: Range<usize>,
}

/// A document that is no XML, or no test case.
#[derive(Debug)]
pub struct Malformed {
    /// The line of it.
    pub line: usize,
    /// What is wrong there.
    pub why: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl Message {
    /// The message with `value` in the place of each placeholder, and those left that there is none for.
    pub fn filled(&self, mut value: impl FnMut(&Placeholder) -> Option<String>) -> String {
        let (mut filled, mut copied) = (String::with_capacity(self.text.len()), 0);
        for placeholder in &self.placeholders {
            let Some(value) = value(placeholder) else {
                continue;
            };
            filled.push_str(
                self.text
                    .get(copied..placeholder.place.start)
                    .unwrap_or_default(),
            );
            filled.push_str(&escape(&value));
            copied = placeholder.place.end;
        }
        filled.push_str(self.text.get(copied..).unwrap_or_default());
        filled
    }

    /// The line of the document that an item of the message begins on, the message itself being item 0.
    pub fn line_of(&self, item: usize) -> usize {
        self.lines
            .get(item)
            .or(self.lines.first())
            .copied()
            .unwrap_or(1)
    }

    /// The line of the document that a byte of a filled text stands on.
    pub fn line_at(&self, filled: &str, byte: usize) -> usize {
        // Placeholders and what stands for them take no more than a line.
        self.line_of(0) + filled.bytes().take(byte).filter(|b| *b == b'\n').count()
    }
}

impl Placeholder {
    /// A value that is a placeholder, without its place.
    fn of(value: &str, ty: &str) -> Option<Placeholder> {
        let rest = value.strip_prefix('$')?;
        let name = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let (name, behind) = (rest.strip_suffix(name)?, name);
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let offset = match behind.split_at_checked(1) {
            None => 0,
            // Only digits: a second sign is none.
            Some((sign @ ("+" | "-"), digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                let offset: i64 = digits.parse().ok()?;
                if sign == "-" { -offset } else { offset }
            }
            Some(_) => return None,
        };
        Some(Placeholder {
            name: name.to_owned(),
            offset,
            ty: ty.to_owned(),
            place: 0..0,
        })
    }
}

/// Reads the document. It has one root, or stands of messages alone.
///
/// # Errors
/// What is wrong with it as XML, or that an element in a message is not of KMIP. A message itself is not looked into; a document without
/// one is a case of none.
pub fn read(document: &str) -> Result<Case, Malformed> {
    let text = document.strip_prefix('\u{FEFF}').unwrap_or(document);
    let mut xml = NsReader::from_str(text);
    xml.config_mut().expand_empty_elements = true;
    xml.config_mut().check_comments = true;
    let mut reading = Reading {
        text,
        lines: Lines {
            text,
            at: 0,
            line: 1,
        },
        open: Vec::new(),
        roots: Roots::None,
        message: None,
    };
    let mut case = Case::default();
    loop {
        let at = position(xml.buffer_position());
        let (namespace, event) = match xml.read_resolved_event() {
            Ok((namespace, event)) => (Belongs::of(&namespace), event),
            Err(error) => {
                let at = position(xml.error_position()).max(at);
                return Err(reading.malformed(at, &format!("this is no XML: {error}")));
            }
        };
        let behind = position(xml.buffer_position());
        match event {
            Event::Start(start) => reading.start(&start, at, &namespace)?,
            Event::End(end) => case.messages.extend(reading.end(&end, at, behind)),
            Event::Eof => break,
            Event::Decl(_) if at != 0 => {
                return Err(
                    reading.malformed(at, "an XML declaration that is not at the beginning")
                );
            }
            Event::DocType(_) if !matches!(reading.roots, Roots::None) => {
                return Err(reading.malformed(at, "a document type that is not at the beginning"));
            }
            Event::Text(content) if reading.open.is_empty() && !content.trim_ascii().is_empty() => {
                return Err(reading.malformed(at, "text outside all elements"));
            }
            Event::CData(_) | Event::GeneralRef(_) if reading.open.is_empty() => {
                return Err(reading.malformed(at, "text outside all elements"));
            }
            _ => {}
        }
    }
    if let Some(open) = reading.open.last() {
        let why = format!("the element {} is not closed", open.name);
        return Err(Malformed {
            line: open.line,
            why,
        });
    }
    match reading.roots {
        Roots::None => Err(reading.malformed(text.len(), "there is no element in it")),
        _ => Ok(case),
    }
}

fn position(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Where a piece of the text stands in it.
fn place(text: &str, piece: &str) -> Range<usize> {
    let start = (piece.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    start..start + piece.len()
}

/// The namespace of an element.
enum Belongs {
    /// KMIP's, or none.
    Kmip,
    Elsewhere(String),
    Undeclared(String),
}

impl Belongs {
    fn of(namespace: &ResolveResult<'_>) -> Belongs {
        match namespace {
            ResolveResult::Unbound | ResolveResult::Bound(Namespace(NAMESPACE)) => Belongs::Kmip,
            ResolveResult::Bound(Namespace(other)) => Belongs::Elsewhere((*other).to_owned()),
            ResolveResult::Unknown(prefix) => Belongs::Undeclared(prefix.clone()),
        }
    }
}

/// Counts lines as it goes.
struct Lines<'t> {
    text: &'t str,
    at: usize,
    line: usize,
}

impl Lines<'_> {
    fn of(&mut self, at: usize) -> usize {
        self.line += self
            .text
            .as_bytes()
            .get(self.at..at)
            .unwrap_or_default()
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        self.at = self.at.max(at);
        self.line
    }
}

/// The elements that nothing stands around.
enum Roots {
    None,
    /// One around everything.
    Wrapper,
    /// Messages alone.
    Messages,
}

/// An element that is not closed yet.
struct Open<'t> {
    name: &'t str,
    tag: Option<Tag>,
    line: usize,
}

/// A message that is not closed yet.
struct Draft {
    message: Message,
    /// How many elements stand around it.
    depth: usize,
    /// Up to where the document was copied.
    copied: usize,
    major: Option<i32>,
    minor: Option<i32>,
}

struct Reading<'t> {
    text: &'t str,
    lines: Lines<'t>,
    open: Vec<Open<'t>>,
    roots: Roots,
    message: Option<Draft>,
}

/// The attributes of an element that matter.
#[derive(Default)]
struct Attributes {
    tag: Option<String>,
    ty: Option<String>,
    value: Option<(String, Range<usize>)>,
    /// Those that declare namespaces.
    namespaces: Vec<Range<usize>>,
}

impl<'t> Reading<'t> {
    #[cold]
    fn malformed(&mut self, at: usize, why: &str) -> Malformed {
        Malformed {
            line: self.lines.of(at),
            why: why.to_owned(),
        }
    }

    fn start(
        &mut self,
        start: &BytesStart<'t>,
        at: usize,
        namespace: &Belongs,
    ) -> Result<(), Malformed> {
        let line = self.lines.of(at);
        let attributes = self
            .attributes(start)
            .map_err(|why| Malformed { line, why })?;
        let local = start.local_name().into_inner();
        let tag = match (namespace, &attributes.tag) {
            (Belongs::Undeclared(prefix), _) => {
                return Err(Malformed {
                    line,
                    why: format!("the namespace prefix {prefix} was not declared"),
                });
            }
            (Belongs::Elsewhere(other), _) if self.message.is_some() => {
                return Err(Malformed {
                    line,
                    why: format!("the element {local} of another namespace, {other}, in a message"),
                });
            }
            (Belongs::Elsewhere(_), _) => None,
            (Belongs::Kmip, Some(tag)) if local == "TTLV" => number_or_name(tag),
            (Belongs::Kmip, _) => spec::Names.tag_named(local),
        };
        let kind = match tag {
            Some(tag::REQUEST_MESSAGE) => Some(Kind::Request),
            Some(tag::RESPONSE_MESSAGE) => Some(Kind::Response),
            _ => None,
        };
        if self.open.is_empty() {
            self.roots = match (&self.roots, kind) {
                (Roots::None, None) => Roots::Wrapper,
                (Roots::None | Roots::Messages, Some(_)) => Roots::Messages,
                _ => {
                    return Err(Malformed {
                        line,
                        why: "a second root element".to_owned(),
                    });
                }
            };
        }
        if let (None, Some(kind)) = (&self.message, kind) {
            let message = Message {
                kind,
                version: None,
                placeholders: Vec::new(),
                text: String::new(),
                lines: Vec::new(),
            };
            self.message = Some(Draft {
                message,
                depth: self.open.len(),
                copied: at,
                major: None,
                minor: None,
            });
        }
        let in_version =
            matches!(self.open.last(), Some(open) if open.tag == Some(tag::PROTOCOL_VERSION));
        let written = at + 1..at + 1 + start.name().into_inner().len();
        if let Some(draft) = &mut self.message {
            draft.message.lines.push(line);
            // Which prefix it has, and where that was declared, does not matter any more.
            draft.skip(self.text, written.start..written.end - local.len());
            draft.attributes(self.text, &attributes);
            if in_version && let Some((value, _)) = &attributes.value {
                match tag {
                    Some(tag::PROTOCOL_VERSION_MAJOR) => {
                        draft.major = draft.major.or(integer(value))
                    }
                    Some(tag::PROTOCOL_VERSION_MINOR) => {
                        draft.minor = draft.minor.or(integer(value))
                    }
                    _ => {}
                }
            }
        }
        self.open.push(Open {
            name: self.text.get(written).unwrap_or_default(),
            tag,
            line,
        });
        Ok(())
    }

    /// The message that ends here, if one does.
    fn end(&mut self, end: &BytesEnd<'t>, at: usize, behind: usize) -> Option<Message> {
        self.open.pop();
        let (name, local) = (end.name().into_inner(), end.local_name().into_inner());
        let draft = self.message.as_mut()?;
        if at < behind {
            draft.skip(self.text, at + 2..at + 2 + (name.len() - local.len()));
        }
        if draft.depth < self.open.len() {
            return None;
        }
        let mut draft = self.message.take()?;
        draft.skip(self.text, behind..behind);
        draft.message.version = draft.major.zip(draft.minor);
        Some(draft.message)
    }

    fn attributes(&self, start: &BytesStart<'t>) -> Result<Attributes, String> {
        let mut found = Attributes::default();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| format!("this is no XML: {error}"))?;
            let (key, raw) = (attribute.key.into_inner(), &*attribute.value);
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| format!("the attribute {key}: {error}"))?;
            match key {
                "tag" => found.tag = Some(value.into_owned()),
                "type" => found.ty = Some(value.into_owned()),
                "value" => found.value = Some((value.into_owned(), place(self.text, raw))),
                _ if key == "xmlns" || key.starts_with("xmlns:") => {
                    // With the quote behind it.
                    found
                        .namespaces
                        .push(place(self.text, key).start..place(self.text, raw).end + 1);
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

impl Draft {
    /// Copies the document up to a place, and goes on behind it.
    fn skip(&mut self, text: &str, place: Range<usize>) {
        self.message
            .text
            .push_str(text.get(self.copied..place.start).unwrap_or_default());
        self.copied = place.end;
    }

    /// Copies the attributes but for those that declare namespaces, and takes note of a placeholder.
    fn attributes(&mut self, text: &str, attributes: &Attributes) {
        let ty = attributes.ty.as_deref().unwrap_or_default();
        let placeholder = attributes.value.as_ref().and_then(|(value, place)| {
            // White space around it belongs to a text, and to nothing else.
            let value = if ty == "TextString" {
                value
            } else {
                value.trim_ascii()
            };
            Some((Placeholder::of(value, ty)?, place))
        });
        let mut declared = attributes.namespaces.iter().peekable();
        if let Some((placeholder, place)) = placeholder {
            while let Some(namespace) = declared.next_if(|namespace| namespace.start < place.start)
            {
                self.skip(text, namespace.clone());
            }
            self.skip(text, place.start..place.start);
            let start = self.message.text.len();
            self.skip(text, place.end..place.end);
            let place = start..self.message.text.len();
            self.message.placeholders.push(Placeholder {
                place,
                ..placeholder
            });
        }
        for namespace in declared {
            self.skip(text, namespace.clone());
        }
    }
}

/// The tag of an element `<TTLV tag="…">`.
fn number_or_name(text: &str) -> Option<Tag> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok().map(Tag::new),
        None => spec::Names.tag_named(text),
    }
}

/// An Integer as XML writes it.
fn integer(text: &str) -> Option<i32> {
    let text = text.trim_ascii();
    match text.strip_prefix("0x") {
        Some(digits) => i32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
