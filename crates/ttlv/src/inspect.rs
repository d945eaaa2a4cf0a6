//! The forgiving reader: shows a message as an indented tree, as far as it goes.
//!
//! The tree is for people. Whether the message is sound is judged by the strict reader all the same: see [`Inspection::error`].

use crate::context::Context;
use crate::dictionary::Dictionary;
use crate::error::{Error, ErrorKind};
use crate::item::Item;
use crate::item::reader::Reader;
use crate::text_form::{Scope, bits, hex, unhex as bytes_of};
use crate::types::{Tag, Type};
use core::fmt::Write;
use nom::bytes::complete::take_while_m_n;
use nom::character::complete::{char as letter, hex_digit1, multispace0, multispace1};
use nom::combinator::{all_consuming, opt};
use nom::multi::fold_many0;
use nom::number::complete::{be_i32, be_i64, be_u24, be_u32, u8 as byte};
use nom::sequence::preceded;
use nom::{IResult, Parser};
use std::string::{String, ToString};
use std::vec::Vec;

/// The options of [`tree`].
pub struct Options<'d> {
    /// Names of tags and values.
    pub dictionary: &'d dyn Dictionary,
    /// Whether values under a tag are key material or another secret.
    pub is_secret: fn(Tag) -> bool,
    /// Whether to show secrets; they are masked otherwise.
    pub show_secrets: bool,
}

/// A message as a tree, and what is wrong with it.
#[derive(Debug)]
pub struct Inspection {
    /// The tree: a line for each item, with offset, tag, type and value.
    pub text: String,
    /// The first thing that the strict reader objects to.
    pub error: Option<Error>,
}

/// The bytes of a message that is given as they are, or as hexadecimal text (with or without `0x`, spaces and line ends).
///
/// # Errors
/// When it looks like text and is not hexadecimal.
pub fn unhex(input: &[u8]) -> Result<Vec<u8>, Error> {
    if !input
        .iter()
        .all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace())
    {
        return Ok(input.to_vec());
    }
    let text = core::str::from_utf8(input).unwrap_or_default();
    let parsed: IResult<&str, String> = all_consuming(preceded(
        (
            multispace0,
            opt((letter('0'), take_while_m_n(1, 1, |c| c == 'x' || c == 'X'))),
        ),
        fold_many0(
            (hex_digit1, opt(multispace1)),
            String::new,
            |mut digits: String, (run, _): (&str, _)| {
                digits.push_str(run);
                digits
            },
        ),
    ))
    .parse(text);
    let digits = match parsed {
        Ok((_, digits)) => digits,
        Err(nom::Err::Error(e) | nom::Err::Failure(e)) => {
            return Err(
                Error::new(ErrorKind::Value("neither binary TTLV nor hexadecimal"))
                    .at(text.len() - e.input.len()),
            );
        }
        Err(nom::Err::Incomplete(_)) => {
            return Err(Error::new(ErrorKind::Value("hexadecimal ends too early")).at(text.len()));
        }
    };
    let odd = || Error::new(ErrorKind::Value("an odd number of hexadecimal digits")).at(text.len());
    bytes_of(&digits)
        .map(|bytes| bytes.to_vec())
        .ok_or_else(odd)
}

/// Renders `message` as an indented tree.
pub fn tree(message: &[u8], cx: Context, options: &Options<'_>) -> Inspection {
    let mut tree = Tree {
        options,
        text: String::new(),
        open: Vec::new(),
        alone: Scope::default(),
        masked_to: 0,
    };
    let mut at = 0;
    while let Some(rest) = message.get(at..).filter(|rest| !rest.is_empty()) {
        tree.close(at);
        // Deeper than this it is no message, and lines of mere indentation would fill memory.
        if tree.open.len() > cx.limits.depth {
            break;
        }
        match tree.item(at, rest) {
            Some(next) if next <= message.len() => at = next,
            _ => break,
        }
    }
    Inspection {
        text: tree.text,
        error: strict(message, cx).err(),
    }
}

/// The tree as far as it has been written. Nothing recurses, so that depth costs no stack.
struct Tree<'o, 'd> {
    options: &'o Options<'d>,
    text: String,
    /// Where each open structure ends, and the names within it.
    open: Vec<(usize, Scope)>,
    /// The names where no structure is open.
    alone: Scope,
    /// Where the outermost open structure that is a secret ends.
    masked_to: usize,
}

impl Tree<'_, '_> {
    /// Closes the structures that end at or before byte `at`.
    fn close(&mut self, at: usize) {
        while self.open.last().is_some_and(|(end, _)| at >= *end) {
            self.open.pop();
        }
    }

    /// Writes the line of the item at byte `at`, with which `rest` begins. Returns where the next item begins, unless nothing sensible can follow.
    fn item(&mut self, at: usize, rest: &[u8]) -> Option<usize> {
        let (value, (tag, ty, length)) = header(rest).ok()?;
        let options = self.options;
        let indent = self.open.len() * 2;
        if !options.show_secrets && !matches!(tag >> 16, 0x42 | 0x54) {
            // Behind a wrong length this may be key material, and not a header at all.
            let _ = writeln!(self.text, "{at:>6}  {:indent$}(no item)", "");
            return None;
        }
        let tag = Tag::new(tag);
        let name = options
            .dictionary
            .tag_name(tag)
            .map_or_else(|| tag.to_string(), ToString::to_string);
        let known = Type::from_number(ty);
        let kind = known.map_or_else(|| std::format!("type {ty:02X}"), |ty| ty.to_string());
        let _ = write!(
            self.text,
            "{at:>6}  {:indent$}{name} ({kind}, {length})",
            ""
        );
        let masked = ((options.is_secret)(tag) || at < self.masked_to) && !options.show_secrets;
        let (start, length) = (at.saturating_add(8), length as usize);
        if known == Some(Type::Structure) {
            self.text.push('\n');
            let end = start.saturating_add(length);
            self.open.push((end, Scope::default()));
            if masked {
                self.masked_to = self.masked_to.max(end);
            }
            return Some(start);
        }
        if let (Some(ty), Some(content)) = (known, value.get(..length)) {
            self.value(tag, ty, content, masked);
        }
        self.text.push('\n');
        start.checked_add(length.saturating_add(length.wrapping_neg() & 7))
    }

    /// Writes a value behind the item's header.
    fn value(&mut self, tag: Tag, ty: Type, content: &[u8], masked: bool) {
        let names = Some(self.options.dictionary);
        let scope = self
            .open
            .last_mut()
            .map_or(&mut self.alone, |(_, scope)| scope);
        let domain = scope.domain(tag, names);
        if masked {
            self.text.push_str(" = (masked)");
        } else {
            let value = value_text(domain, ty, content, self.options.dictionary);
            let _ = write!(self.text, " = {value}");
        }
        if let Ok(text) = core::str::from_utf8(content) {
            scope.note(tag, text, names);
        }
    }
}

fn strict(message: &[u8], cx: Context) -> Result<(), Error> {
    if message.is_empty() {
        return Err(Error::new(ErrorKind::Truncated(8)).at(0));
    }
    let r = Reader::new(message, cx);
    let mut rest = message;
    while !rest.is_empty() {
        let at = message.len() - rest.len();
        let (item, behind) = Item::first(rest).map_err(|e| e.shifted(at).named(cx.dictionary))?;
        r.check(item).map_err(|e| e.within(item.tag()))?;
        rest = behind;
    }
    Ok(())
}

fn header(input: &[u8]) -> IResult<&[u8], (u32, u8, u32)> {
    (be_u24, byte, be_u32).parse(input)
}

fn value_text(tag: Tag, ty: Type, content: &[u8], dictionary: &dyn Dictionary) -> String {
    let odd = || "0x".chars().chain(hex(content)).collect();
    let four = |content| -> Option<i32> {
        all_consuming(be_i32::<&[u8], nom::error::Error<&[u8]>>)
            .parse(content)
            .ok()
            .map(|(_, v)| v)
    };
    let eight = |content| -> Option<i64> {
        all_consuming(be_i64::<&[u8], nom::error::Error<&[u8]>>)
            .parse(content)
            .ok()
            .map(|(_, v)| v)
    };
    match ty {
        Type::Integer => four(content).map_or_else(odd, |value| mask(tag, value, dictionary)),
        Type::Interval => {
            four(content).map_or_else(odd, |value| std::format!("{} s", value.cast_unsigned()))
        }
        Type::Enumeration => four(content).map_or_else(odd, |value| {
            match dictionary.value_name(tag, value.cast_unsigned()) {
                Some(name) => name.to_string(),
                None => std::format!("{value:08X}"),
            }
        }),
        Type::LongInteger => eight(content).map_or_else(odd, |value| value.to_string()),
        Type::DateTime => {
            eight(content).map_or_else(odd, |value| std::format!("{value} s since 1970"))
        }
        Type::DateTimeExtended => {
            eight(content).map_or_else(odd, |value| std::format!("{value} us since 1970"))
        }
        Type::Boolean => match eight(content) {
            Some(0) => "False".to_string(),
            Some(1) => "True".to_string(),
            _ => odd(),
        },
        Type::TextString => {
            core::str::from_utf8(content).map_or_else(|_| odd(), |text| std::format!("{text:?}"))
        }
        Type::ByteString | Type::BigInteger | Type::Structure => odd(),
    }
}

fn mask(tag: Tag, value: i32, dictionary: &dyn Dictionary) -> String {
    let names: Option<Vec<_>> = bits(value)
        .map(|bit| dictionary.bit_name(tag, bit))
        .collect();
    match names {
        Some(names) if !names.is_empty() => names.join(" | "),
        _ => value.to_string(),
    }
}
