//! The forgiving reader: shows a message as an indented tree, as far as it goes.
//!
//! The tree is for people. Whether the message is sound is judged by the strict reader all the same: see [`Inspection::error`].

use crate::text_form::{Scope, bits, hex, unhex as bytes_of};
use crate::{Context, Dictionary, Error, ErrorKind, Item, Reader, Tag, Type};
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

/// How a message is shown.
pub struct Options<'d> {
    /// Names of tags and values.
    pub dictionary: &'d dyn Dictionary,
    /// Says under which tags values are key material or other secrets.
    pub is_secret: fn(Tag) -> bool,
    /// Shows those, too.
    pub show_secrets: bool,
}

/// A message as shown, and what is wrong with it.
#[derive(Debug)]
pub struct Inspection {
    /// One line an item: offset, tag, type, value.
    pub text: String,
    /// The first thing that the strict reader objects to.
    pub error: Option<Error>,
}

/// Binary as it is, hexadecimal text (with or without `0x`, spaces and line ends) as what it stands for.
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

/// Shows `message`.
pub fn tree(message: &[u8], cx: Context, options: &Options<'_>) -> Inspection {
    let mut text = String::new();
    // Where each open structure ends, and its names; nothing recurses, so that depth costs no stack.
    let mut open: Vec<(usize, Scope)> = Vec::new();
    let mut alone = Scope::default();
    let names = Some(options.dictionary);
    // Where the outermost open structure that is a secret ends.
    let mut masked_to = 0;
    let mut at = 0;
    while let Some(rest) = message.get(at..).filter(|rest| !rest.is_empty()) {
        while open.last().is_some_and(|(end, _)| at >= *end) {
            open.pop();
        }
        // Deeper than this it is no message, and lines of mere indentation would fill memory.
        if open.len() > cx.limits.depth {
            break;
        }
        let Ok((value, (tag, ty, length))) = header(rest) else {
            break;
        };
        if !options.show_secrets && !matches!(tag >> 16, 0x42 | 0x54) {
            // Behind a wrong length this may be key material, and not a header at all.
            let _ = writeln!(text, "{at:>6}  {:1$}(no item)", "", open.len() * 2);
            break;
        }
        let tag = Tag::new(tag);
        let indent = open.len() * 2;
        let name = options
            .dictionary
            .tag_name(tag)
            .map_or_else(|| tag.to_string(), ToString::to_string);
        let known = Type::from_number(ty);
        let kind = known.map_or_else(|| std::format!("type {ty:02X}"), |ty| ty.to_string());
        let _ = write!(text, "{at:>6}  {:indent$}{name} ({kind}, {length})", "");
        let secret = ((options.is_secret)(tag) || at < masked_to) && !options.show_secrets;
        if known == Some(Type::Structure) {
            text.push('\n');
            let end = at.saturating_add(8).saturating_add(length as usize);
            open.push((end, Scope::default()));
            if secret {
                masked_to = masked_to.max(end);
            }
            at += 8;
            continue;
        }
        let content = value.get(..length as usize);
        if let (Some(ty), Some(content)) = (known, content) {
            let scope = open.last_mut().map_or(&mut alone, |(_, scope)| scope);
            let shown_as = scope.domain(tag, names);
            if secret {
                text.push_str(" = (masked)");
            } else {
                let _ = write!(
                    text,
                    " = {}",
                    value_text(shown_as, ty, content, options.dictionary)
                );
            }
            if let Ok(text) = core::str::from_utf8(content) {
                scope.saw(tag, text, names);
            }
        }
        text.push('\n');
        let padded = (length as usize).saturating_add((length as usize).wrapping_neg() & 7);
        match at
            .checked_add(8)
            .and_then(|start| start.checked_add(padded))
        {
            Some(next) if next <= message.len() => at = next,
            _ => break,
        }
    }
    Inspection {
        text,
        error: strict(message, cx).err(),
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
        let (item, behind) = Item::first(rest).map_err(|e| e.behind(at).named(cx.dictionary))?;
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
