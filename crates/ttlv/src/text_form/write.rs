//! Messages as text.

use super::{Scope, bits, date, hex, name};
use crate::context::Context;
use crate::dictionary::Dictionary;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{reserve, wipe};
use crate::item::Item;
use crate::item::reader::{Children, Reader};
use crate::types::{Tag, Type};
use core::fmt::{self, Display, Write};
use std::string::String;
use std::vec::Vec;
use zeroize::Zeroizing;

/// The text form to write.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)] // which of them is asked for depends on the features
pub(crate) enum Form {
    Xml,
    Json,
}

/// The message as text. Checks all of it, and does not recurse.
pub(crate) fn render(message: &[u8], cx: Context, form: Form) -> Result<Zeroizing<String>> {
    let mut page = Page {
        text: Vec::new(),
        form,
        dictionary: cx.dictionary,
    };
    let mut open = Vec::new();
    walk(message, cx, &mut page, &mut open).map_err(|e| {
        open.iter()
            .rev()
            .fold(e, |e, structure: &Open<'_>| e.within(structure.tag))
            .named(cx.dictionary)
    })?;
    let text = String::from_utf8(core::mem::take(&mut page.text));
    text.map(Zeroizing::new)
        .map_err(|_| Error::new(ErrorKind::Utf8))
}

/// A structure that is being written.
struct Open<'a> {
    tag: Tag,
    content: Children<'a>,
    scope: Scope,
    /// The number of items in it that were written.
    items: usize,
}

fn walk<'a>(
    message: &'a [u8],
    cx: Context,
    page: &mut Page,
    open: &mut Vec<Open<'a>>,
) -> Result<()> {
    let limits = cx.limits;
    if message.len() > limits.size {
        return Err(Error::new(ErrorKind::Size {
            size: message.len(),
            limit: limits.size,
        })
        .at(0));
    }
    let r = Reader::new(message, cx);
    let mut next = Some(Item::whole(message)?);
    let mut items = 0;
    loop {
        if let Some(item) = next {
            let wrong = |kind| r.error(item, kind).within(item.tag());
            items += 1;
            if items > limits.items {
                return Err(wrong(ErrorKind::Items(limits.items)));
            }
            let (depth, mut alone) = (open.len(), Scope::default());
            page.begin(depth, item);
            if item.ty() != Type::Structure {
                let scope = open.last_mut().map_or(&mut alone, |outer| &mut outer.scope);
                page.value(item, &r, scope)
                    .map_err(|e| e.within(item.tag()))?;
            } else if depth >= limits.depth {
                return Err(wrong(ErrorKind::Depth(limits.depth)));
            } else {
                open.push(Open {
                    tag: item.tag(),
                    content: r.children(item)?,
                    scope: Scope::default(),
                    items: 0,
                });
            }
        }
        let Some(innermost) = open.last_mut() else {
            break;
        };
        next = innermost.content.next(&r)?;
        let before = innermost.items;
        innermost.items += 1;
        match next {
            Some(_) => page.between(before),
            None => {
                let tag = innermost.tag;
                open.pop();
                page.close(open.len(), tag, before);
            }
        }
    }
    page.put("\n");
    Ok(())
}

/// The text. Leaves no copies behind in memory when it grows.
struct Page {
    text: Vec<u8>,
    form: Form,
    dictionary: Option<&'static dyn Dictionary>,
}

impl Write for Page {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text);
        Ok(())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        wipe(&mut self.text);
    }
}

impl Page {
    fn put(&mut self, text: &str) {
        reserve(&mut self.text, text.len());
        self.text.extend_from_slice(text.as_bytes());
    }

    /// Formats something; writing to memory does not fail.
    fn show(&mut self, what: fmt::Arguments<'_>) {
        let _ = self.write_fmt(what);
    }

    /// Writes an item up to its value, or up to where the content of a structure begins.
    fn begin(&mut self, depth: usize, item: Item<'_>) {
        let (tag, indent) = (item.tag(), depth * 2);
        let ty = name::of_type(item.ty());
        match (self.form, name::of_tag(tag, self.dictionary)) {
            (Form::Xml, Some(name)) => self.show(format_args!("{:indent$}<{name}", "")),
            (Form::Xml, None) => self.show(format_args!("{:indent$}<TTLV tag=\"0x{tag}\"", "")),
            (Form::Json, Some(name)) => {
                self.show(format_args!("{:indent$}{{\"tag\":\"{name}\"", ""))
            }
            (Form::Json, None) => self.show(format_args!("{:indent$}{{\"tag\":\"0x{tag}\"", "")),
        }
        match (self.form, item.ty()) {
            (Form::Xml, Type::Structure) => {}
            (Form::Xml, _) => self.show(format_args!(" type=\"{ty}\" value=")),
            (Form::Json, Type::Structure) => self.put(", \"value\":["),
            (Form::Json, _) => self.show(format_args!(", \"type\":\"{ty}\", \"value\":")),
        }
    }

    /// Goes to an item of a structure that has so many items before it.
    fn between(&mut self, before: usize) {
        self.put(match (self.form, before) {
            (Form::Xml, 0) => ">\n",
            (Form::Xml, _) | (Form::Json, 0) => "\n",
            (Form::Json, _) => ",\n",
        });
    }

    /// Ends a structure of so many items.
    fn close(&mut self, depth: usize, tag: Tag, items: usize) {
        let indent = depth * 2;
        match (self.form, items) {
            (Form::Xml, 0) => self.put("/>"),
            (Form::Json, 0) => self.put("]}"),
            (Form::Json, _) => self.show(format_args!("\n{:indent$}]}}", "")),
            (Form::Xml, _) => {
                let name = name::of_tag(tag, self.dictionary);
                self.show(format_args!(
                    "\n{:indent$}</{}>",
                    "",
                    name.as_deref().unwrap_or("TTLV")
                ));
            }
        }
    }

    fn value<'a>(&mut self, item: Item<'a>, r: &Reader<'a>, scope: &mut Scope) -> Result<()> {
        let domain = scope.domain(item.tag(), self.dictionary);
        match item.ty() {
            Type::Structure => {}
            Type::Integer => self.mask(domain, item.integer(r)?),
            // Numbers of JSON are exact up to here in every language.
            Type::LongInteger => match item.long_integer(r)? {
                number if self.form == Form::Json && number.unsigned_abs() >= 1 << 52 => {
                    self.quoted(format_args!("0x{number:016x}"));
                }
                number => self.bare(number),
            },
            Type::BigInteger => {
                let value = item.big_integer(r)?;
                self.bytes(if self.form == Form::Json { "0x" } else { "" }, value);
            }
            Type::Enumeration => {
                let number = item.enumeration(r)?;
                match name::of_value(domain, number, self.dictionary) {
                    Some(name) => self.quoted(name),
                    None => self.quoted(format_args!("0x{number:08X}")),
                }
            }
            Type::Boolean => self.bare(item.boolean(r)?),
            Type::TextString => {
                let text = item.text(r)?;
                self.put("\"");
                for (at, c) in text.char_indices() {
                    self.letter(c)
                        .map_err(|kind| Error::new(kind).at(r.offset(item) + 8 + at))?;
                }
                self.put("\"");
                scope.note(item.tag(), text, self.dictionary);
            }
            Type::ByteString => self.bytes("", item.bytes(r)?),
            Type::DateTime => self.date(item.date_time(r)?, None),
            Type::DateTimeExtended => {
                let number = item.date_time_extended(r)?;
                self.date(number.div_euclid(1_000_000), Some(number));
            }
            Type::Interval => self.bare(item.interval(r)?),
        }
        if self.form == Form::Json {
            self.put("}")
        } else {
            self.put("/>")
        }
        Ok(())
    }

    fn quoted(&mut self, value: impl Display) {
        self.show(format_args!("\"{value}\""));
    }

    /// A number or a Boolean, which JSON does not quote.
    fn bare(&mut self, value: impl Display) {
        if self.form == Form::Json {
            self.show(format_args!("{value}"))
        } else {
            self.quoted(value)
        }
    }

    fn bytes(&mut self, prefix: &str, bytes: &[u8]) {
        reserve(
            &mut self.text,
            bytes.len().saturating_mul(2).saturating_add(4),
        );
        self.put("\"");
        self.put(prefix);
        // Digits are single bytes.
        self.text.extend(hex(bytes).map(|digit| digit as u8));
        self.put("\"");
    }

    /// An Integer by the names of its bits, where there are some.
    fn mask(&mut self, domain: Tag, number: i32) {
        let names = || bits(number).map(|bit| (bit, name::of_bit(domain, bit, self.dictionary)));
        if names().all(|(_, name)| name.is_none()) {
            return self.bare(number);
        }
        let mut text = String::new();
        for (bit, name) in names() {
            let separator = match self.form {
                _ if text.is_empty() => "",
                Form::Xml => " ",
                Form::Json => "|",
            };
            text.push_str(separator);
            match name {
                Some(name) => text.push_str(&name),
                None => drop(write!(text, "0x{bit:08X}")),
            }
        }
        self.quoted(text);
    }

    /// Seconds since 1970; the microseconds where it is a Date-Time Extended.
    fn date(&mut self, seconds: i64, extended: Option<i64>) {
        match (date::parts(seconds), extended) {
            (None, _) => self.quoted(format_args!("0x{:016x}", extended.unwrap_or(seconds))),
            (Some([year, month, day, hour, minute, second]), _) => {
                self.show(format_args!(
                    "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
                ));
                if let Some(number) = extended {
                    self.show(format_args!(".{:06}", number.rem_euclid(1_000_000)));
                }
                self.put("+00:00\"");
            }
        }
    }

    /// A letter of a text, escaped.
    fn letter(&mut self, c: char) -> Result<(), ErrorKind> {
        match (self.form, c) {
            (Form::Xml, '&') => self.put("&amp;"),
            (Form::Xml, '<') => self.put("&lt;"),
            (Form::Xml, '>') => self.put("&gt;"),
            (Form::Xml, '"') => self.put("&quot;"),
            // As they are, they would be read as spaces.
            (Form::Xml, '\t' | '\n' | '\r') => self.show(format_args!("&#{};", u32::from(c))),
            (Form::Xml, c) if !is_xml(c) => {
                return Err(ErrorKind::Value("a character that XML cannot carry"));
            }
            (Form::Json, '"' | '\\') => {
                self.put("\\");
                self.put(c.encode_utf8(&mut [0; 4]));
            }
            (Form::Json, '\0'..' ') => self.show(format_args!("\\u{:04x}", u32::from(c))),
            (_, c) => self.put(c.encode_utf8(&mut [0; 4])),
        }
        Ok(())
    }
}

/// Whether XML 1.0 can carry a character (§2.2 there).
pub(crate) fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}
