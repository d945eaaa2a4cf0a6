//! Values as text, on their way into a message.

use super::name::prefixed;
use super::{Scope, date, unhex};
use crate::context::Context;
use crate::dictionary::Dictionary;
use crate::error::{ErrorKind, Result};
use crate::frame::Frame;
use crate::types::{Tag, Type};
use crate::writer::Writer;
use core::ops::Deref;
use std::string::String;
use zeroize::Zeroizing;

/// A piece of the text with its escapes resolved; wiped where that took a copy.
pub(crate) enum Plain<'t> {
    Borrowed(&'t str),
    Owned(Zeroizing<String>),
}

impl Deref for Plain<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        match self {
            Plain::Borrowed(text) => text,
            Plain::Owned(text) => text,
        }
    }
}

/// A value as it stands in the text.
#[derive(Clone, Copy)]
pub(crate) struct Literal<'t> {
    pub(crate) text: &'t str,
    /// The byte at which it begins.
    pub(crate) at: usize,
    /// Whether it may be what JSON puts into quotes; so everything may in XML.
    pub(crate) quoted: bool,
    /// Whether it may be what JSON does not put into quotes, likewise.
    pub(crate) bare: bool,
}

impl<'t> Literal<'t> {
    fn quoted<T>(self, read: impl FnOnce(&'t str) -> Option<T>) -> Option<T> {
        if self.quoted { read(self.text) } else { None }
    }

    fn bare<T>(self, read: impl FnOnce(&'t str) -> Option<T>) -> Option<T> {
        if self.bare { read(self.text) } else { None }
    }

    /// A number without quotes, which JSON has and XML has not.
    fn json_number(self, read: fn(&str) -> Option<i64>) -> Option<i64> {
        if self.quoted { None } else { read(self.text) }
    }

    /// The number of exactly `digits` hexadecimal digits behind a `0x`.
    fn hex(self, digits: usize) -> Option<u64> {
        self.quoted(|text| prefixed(text, digits, digits))
    }

    fn long_integer(self) -> Result<i64, ErrorKind> {
        self.bare(|text| text.parse().ok())
            .or(self.hex(16).map(u64::cast_signed))
            .ok_or(ErrorKind::Value("no Long Integer, or one beyond 64 bits"))
    }

    fn enumeration(
        self,
        domain: Tag,
        dictionary: Option<&dyn Dictionary>,
    ) -> Result<u32, ErrorKind> {
        let number = self
            .json_number(|text| text.parse::<u32>().ok().map(i64::from))
            .map(|number| number as u32);
        let named =
            |text: &str| dictionary.and_then(|dictionary| dictionary.value_named(domain, text));
        number
            .or(self.hex(8).map(|number| number as u32))
            .or_else(|| self.quoted(named))
            .ok_or(if self.quoted {
                ErrorKind::UnknownName("value")
            } else {
                ErrorKind::Value("no Enumeration")
            })
    }

    fn boolean(self) -> Result<bool, ErrorKind> {
        match (self.text, self.hex(16)) {
            ("true", _) if self.bare => Ok(true),
            ("false", _) if self.bare => Ok(false),
            ("1", _) if self.bare && self.quoted => Ok(true),
            ("0", _) if self.bare && self.quoted => Ok(false),
            (_, Some(number @ (0 | 1))) => Ok(number == 1),
            (_, Some(_)) => Err(ErrorKind::Boolean),
            _ => Err(ErrorKind::Value("no Boolean")),
        }
    }

    fn date_time(self) -> Result<i64, ErrorKind> {
        let iso = |text: &str| date::seconds(text).map(|(seconds, _)| seconds);
        self.hex(16)
            .map(u64::cast_signed)
            .or_else(|| self.quoted(iso))
            .ok_or(ErrorKind::Value("no Date-Time"))
    }

    fn interval(self) -> Result<u32, ErrorKind> {
        self.bare(|text| text.parse().ok())
            .or(self.hex(8).map(|number| number as u32))
            .ok_or(ErrorKind::Value("no Interval, or one beyond 32 bits"))
    }

    fn date_time_extended(self) -> Result<i64, ErrorKind> {
        self.hex(16)
            .map(u64::cast_signed)
            .or_else(|| self.quoted(date::microseconds))
            .ok_or(ErrorKind::Value("no Date-Time Extended"))
    }
}

/// Structures within structures that are read at most, whatever the limit: reading takes stack for each, a few kilobytes when not optimised.
const DEEPEST: usize = 256;

/// Keeps a message that is being read from text within the limits.
pub(crate) struct Draft {
    cx: Context,
    items: usize,
}

impl Draft {
    pub(crate) fn new(mut cx: Context) -> Self {
        cx.limits.depth = cx.limits.depth.min(DEEPEST);
        Draft { cx, items: 0 }
    }

    pub(crate) fn dictionary(&self) -> Option<&'static dyn Dictionary> {
        self.cx.dictionary
    }

    /// The message that `content` writes.
    pub(crate) fn message(
        mut self,
        content: impl FnOnce(&mut Draft, &mut Writer) -> Result<()>,
    ) -> Result<Frame> {
        let mut w = Writer::new(self.cx);
        content(&mut self, &mut w).map_err(|e| e.named(self.cx.dictionary))?;
        Ok(w.finish())
    }

    /// Makes sure that an item whose value has so many bytes finds room.
    fn room(&self, size: usize, w: &Writer) -> Result<(), ErrorKind> {
        let size = w
            .len()
            .saturating_add(8)
            .saturating_add(size.saturating_add(7) & !7);
        let limit = self.cx.limits.size;
        if size > limit {
            Err(ErrorKind::Size { size, limit })
        } else {
            Ok(())
        }
    }

    /// Begins an item that stands in `depth` structures: counts it, and looks at its tag.
    pub(crate) fn begin(
        &mut self,
        tag: Tag,
        ty: Type,
        depth: usize,
        at: usize,
        w: &Writer,
    ) -> Result<()> {
        let limits = self.cx.limits;
        self.items += 1;
        let sound = match tag.number() >> 16 {
            0x42 | 0x54 if self.items > limits.items => Err(ErrorKind::Items(limits.items)),
            0x42 | 0x54 if ty == Type::Structure && depth >= limits.depth => {
                Err(ErrorKind::Depth(limits.depth))
            }
            0x42 | 0x54 => self.room(0, w),
            _ => Err(ErrorKind::UnknownTag),
        };
        sound.map_err(|kind| w.error(tag, kind).at(at))
    }

    /// Writes a value that is no structure.
    pub(crate) fn value(
        &self,
        tag: Tag,
        ty: Type,
        literal: Literal<'_>,
        scope: &mut Scope,
        w: &mut Writer,
    ) -> Result<()> {
        self.write(tag, ty, literal, scope, w)
            .map_err(|kind| w.error(tag, kind).at(literal.at))
    }

    fn write(
        &self,
        tag: Tag,
        ty: Type,
        literal: Literal<'_>,
        scope: &mut Scope,
        w: &mut Writer,
    ) -> Result<(), ErrorKind> {
        let dictionary = self.cx.dictionary;
        let domain = scope.domain(tag, dictionary);
        if ty.fixed_length().is_some() {
            self.room(8, w)?;
        }
        match ty {
            Type::Structure => {
                return Err(ErrorKind::Syntax("a structure has no value of its own"));
            }
            Type::Integer => match literal.bare(|text| text.parse().ok()) {
                Some(number) => w.integer(tag, number),
                None => w.integer(tag, self.mask(domain, literal)?.cast_signed()),
            },
            Type::LongInteger => w.long_integer(tag, literal.long_integer()?),
            Type::BigInteger => self.write_big_integer(tag, literal, w)?,
            Type::Enumeration => w.enumeration(tag, literal.enumeration(domain, dictionary)?),
            Type::Boolean => w.boolean(tag, literal.boolean()?),
            Type::TextString => {
                let text = self.text(literal, w)?;
                w.text(tag, text).map_err(|e| e.kind().clone())?;
                scope.note(tag, text, dictionary);
            }
            Type::ByteString => {
                self.room(literal.text.len() / 2, w)?;
                let bytes = literal
                    .quoted(unhex)
                    .ok_or(ErrorKind::Value("no Byte String"))?;
                w.bytes(tag, &bytes).map_err(|e| e.kind().clone())?;
            }
            Type::DateTime => w.date_time(tag, literal.date_time()?),
            Type::Interval => w.interval(tag, literal.interval()?),
            Type::DateTimeExtended => w.date_time_extended(tag, literal.date_time_extended()?),
        }
        Ok(())
    }

    /// Writes a Big Integer: a number without quotes in JSON, else hexadecimal.
    fn write_big_integer(
        &self,
        tag: Tag,
        literal: Literal<'_>,
        w: &mut Writer,
    ) -> Result<(), ErrorKind> {
        let wrong = ErrorKind::Value("no Big Integer");
        if let Some(number) = literal.json_number(|text| text.parse().ok()) {
            self.room(8, w)?;
            return w
                .big_integer(tag, &number.to_be_bytes())
                .map_err(|e| e.kind().clone());
        }
        // XML does without the prefix, JSON does not.
        let digits = literal.quoted(|text| {
            text.strip_prefix("0x")
                .or(Some(text).filter(|_| literal.bare))
        });
        let Some(digits) = digits.filter(|digits| !digits.is_empty()) else {
            return Err(wrong);
        };
        self.room(digits.len() / 2, w)?;
        // All sign bits stand in the text (KMIP Additional Message Encodings §4.1.1, §6.1.1): nothing is put in front.
        let bytes = unhex(digits).ok_or(wrong)?;
        if !bytes.len().is_multiple_of(8) && !self.cx.lenient.big_integer {
            return Err(ErrorKind::WrongLength(bytes.len() as u32));
        }
        w.big_integer(tag, &bytes).map_err(|e| e.kind().clone())
    }

    /// A Text String that is within the limits.
    fn text<'t>(&self, literal: Literal<'t>, w: &Writer) -> Result<&'t str, ErrorKind> {
        let text = literal
            .quoted(Some)
            .ok_or(ErrorKind::Value("no Text String"))?;
        let limit = self.cx.limits.text;
        if text.len() > limit {
            return Err(ErrorKind::Size {
                size: text.len(),
                limit,
            });
        }
        self.room(text.len(), w)?;
        Ok(text)
    }

    /// An Integer that is no decimal number: a mask by the names of its bits, or hexadecimal.
    fn mask(&self, domain: Tag, literal: Literal<'_>) -> Result<u32, ErrorKind> {
        let text = literal.text;
        if let Some(number) = literal.quoted(|text| prefixed(text, 8, 8)) {
            return Ok(number as u32);
        }
        let mut parts = text
            .split([' ', '|', '\t', '\n', '\r'])
            .filter(|part| !part.is_empty());
        let several = parts.clone().nth(1).is_some();
        let numeric =
            |text: &str| text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+'));
        if !literal.quoted || parts.clone().next().is_none() || !several && numeric(text) {
            return Err(ErrorKind::Value("no Integer, or one beyond 32 bits"));
        }
        parts.try_fold(0, |mask, part| {
            let named = || {
                self.cx
                    .dictionary
                    .and_then(|dictionary| dictionary.bit_named(domain, part))
            };
            // The standard's own example has seven digits (§4.1.6.4).
            let bit = prefixed(part, 1, 8)
                .map(|number| number as u32)
                .or_else(named);
            bit.map(|bit| mask | bit)
                .ok_or(ErrorKind::UnknownName("bit"))
        })
    }
}

/// The byte of `text` at which a piece of it begins.
pub(crate) fn place(text: &str, piece: &str) -> usize {
    (piece.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}
