//! This module turns the attributes of a Locate request into criteria, and compares records with them.

use crate::contract::{Index, IndexKey, Span};
use crate::index;
use crate::record::Record;
use keyferry_kmip::spec::{AttributeValue, ObjectType, State, tag};
use keyferry_kmip::{
    AttributeReference, Attributes, Cause, DateTime, Failure, Text, UniqueIdentifier,
    UnknownAttribute, context,
};
use keyferry_ttlv::{Item, Raw, Reader, Tag, Type, Version};

/// One condition that a Locate puts on an object.
#[derive(Clone, Debug)]
pub(super) enum Criterion {
    Identifier(Text),
    ObjectType(ObjectType),
    State(State),
    /// The date is in this range, both ends included; they are equal when one date was given.
    Date(Tag, DateTime, DateTime),
    /// The object does not have this date.
    NoDate(Tag),
    /// All these bits of the mask are set.
    UsageMask(u32),
    /// The usage limits are at least these: total, and count left.
    UsageLimits(i64, Option<i64>),
    /// An instance of the attribute equals this one.
    Equal(AttributeValue),
    /// An instance of the attribute has all these fields, with texts that fit the patterns.
    Like(AttributeReference, Raw, Wild),
    /// The Unique Identifier fits this pattern.
    IdentifierLike(Text),
}

/// Whether `*` and `?` in a text are wildcards: they are until 1.4 (KMIP 1.4 §4.9), and no longer in 2.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wild(pub(super) bool);

/// The place of the matches of a criterion in an index.
pub(super) enum Place {
    /// All matches are under one key, in the order of arrival.
    Key(IndexKey),
    /// The matches are under several keys; one object may have more than one of them.
    Span(Index, Span),
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// The most criteria of a query.
const MOST: usize = 128;
/// The most bytes of a criterion with wildcards.
const LONGEST: usize = 4096;
/// The most bytes of a criterion that is compared field by field.
const WHOLE: usize = 128 << 10;

/// The criteria for the attributes of a request.
///
/// # Errors
/// When there are too many, one is too long, unknown, or given in a way that Locate does not allow.
pub(super) fn criteria(attributes: &Attributes, wild: Wild) -> Result<Vec<Criterion>, Failure> {
    let mut criteria: Vec<Criterion> = Vec::new();
    if attributes.len() > MOST {
        return Err(Failure::new(
            Cause::ServerLimit,
            format_args!("a Locate has {MOST} attributes at the most"),
        ));
    }
    for attribute in attributes {
        match attribute.value.date() {
            Some(date) => add_date(&mut criteria, attribute.value.tag(), date)?,
            None => criteria.push(criterion(&attribute.value, wild)?),
        }
    }
    if criteria.iter().any(Criterion::is_too_long) {
        return Err(Failure::new(
            Cause::ServerLimit,
            format_args!(
                "an attribute that is looked for has {WHOLE} bytes at the most, and a pattern {LONGEST}"
            ),
        ));
    }
    Ok(criteria)
}

/// Adds the criterion of a date. The second value of the same date makes a range of the first one.
fn add_date(criteria: &mut Vec<Criterion>, tag: Tag, date: DateTime) -> Result<(), Failure> {
    if date.0 == i64::MAX {
        criteria.push(Criterion::NoDate(tag));
        return Ok(());
    }
    let same = criteria.iter_mut().find_map(|criterion| match criterion {
        Criterion::Date(other, low, high) if *other == tag => Some((low, high)),
        _ => None,
    });
    match same {
        None => criteria.push(Criterion::Date(tag, date, date)),
        Some((low, high)) if low == high => {
            let first = *low;
            *low = first.min(date);
            *high = first.max(date);
        }
        Some(_) => {
            return Err(Failure::new(
                Cause::InvalidField,
                "a date may be given once or, as a range, twice",
            ));
        }
    }
    Ok(())
}

/// The criterion of an attribute that is no date.
fn criterion(value: &AttributeValue, wild: Wild) -> Result<Criterion, Failure> {
    Ok(match value {
        AttributeValue::UniqueIdentifier(UniqueIdentifier::Text(text)) => {
            if wild.0 && has_wildcard(text) {
                Criterion::IdentifierLike(text.clone())
            } else {
                Criterion::Identifier(text.clone())
            }
        }
        AttributeValue::UniqueIdentifier(_) => {
            return Err(Failure::new(
                Cause::InvalidField,
                "Locate takes a Unique Identifier as text alone",
            ));
        }
        AttributeValue::ObjectType(object_type) => Criterion::ObjectType(*object_type),
        AttributeValue::State(state) => Criterion::State(*state),
        AttributeValue::CryptographicUsageMask(mask) => Criterion::UsageMask(mask.0),
        AttributeValue::UsageLimits(limits) => Criterion::UsageLimits(limits.total, limits.count),
        AttributeValue::Unknown(unknown) => match partial(unknown) {
            Some((reference, raw)) => Criterion::Like(reference, raw.clone(), wild),
            None => {
                let why = format_args!("unknown attribute {}", value.reference());
                return Err(Failure::new(Cause::UnknownAttribute, why));
            }
        },
        other => match other.item() {
            Some(raw) if is_loose(&raw, wild) => Criterion::Like(other.reference(), raw, wild),
            _ => Criterion::Equal(other.clone()),
        },
    })
}

/// The standard attribute of which a request gives only some fields, and those fields; `None` when it is not one.
fn partial(unknown: &UnknownAttribute) -> Option<(AttributeReference, &Raw)> {
    let raw = unknown.value.as_ref()?;
    let reference = match &unknown.name {
        Some(name) => AttributeReference::named(name),
        None => AttributeReference::Standard(raw.tag()),
    };
    let AttributeReference::Standard(tag) = &reference else {
        return None;
    };
    let is_structure = raw.item().is_ok_and(|item| item.ty() == Type::Structure);
    (is_structure && keyferry_kmip::spec::attribute_row(*tag).is_some()).then_some((reference, raw))
}

/// Whether values that differ from this one may match it: it is a structure, of which some fields may be missing, or a pattern.
fn is_loose(raw: &Raw, wild: Wild) -> bool {
    let r = Reader::new(raw.bytes(), context(Version::V2_1));
    raw.item().is_ok_and(|item| match item.ty() {
        Type::Structure => true,
        Type::TextString => wild.0 && item.text(&r).is_ok_and(has_wildcard),
        _ => false,
    })
}

/// Whether `have` has all fields of `wanted`, with equal values or texts that fit.
fn is_like(wanted: Item<'_>, have: Item<'_>, r: (&Reader<'_>, &Reader<'_>), wild: Wild) -> bool {
    match (wanted.ty(), have.ty()) {
        (Type::Structure, Type::Structure) => {
            let Ok(mut fields) = r.0.children(wanted) else {
                return false;
            };
            loop {
                match fields.next(r.0) {
                    Ok(None) => return true,
                    Err(_) => return false,
                    Ok(Some(field)) => {
                        let Ok(mut there) = r.1.children(have) else {
                            return false;
                        };
                        let mut found = false;
                        while let Ok(Some(other)) = there.next(r.1) {
                            found |= other.tag() == field.tag() && is_like(field, other, r, wild);
                        }
                        if !found {
                            return false;
                        }
                    }
                }
            }
        }
        (Type::TextString, Type::TextString) if wild.0 => {
            match (wanted.text(r.0), have.text(r.1)) {
                (Ok(pattern), Ok(text)) => fits(pattern, text),
                _ => false,
            }
        }
        (one, other) => one == other && wanted.value() == have.value(),
    }
}

/// Whether a text fits a pattern: `*` stands for any text, `?` for one character.
fn fits(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // The pattern after the last star, and the text after what that star matched: it is enough to go back to these.
    let mut star: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let before = (pattern.clone(), text.clone());
        match (pattern.next(), text.next()) {
            (Some('*'), _) => {
                text = before.1;
                star = Some((pattern.clone(), text.clone()));
                continue;
            }
            (None, None) => return true,
            (Some('?'), Some(_)) => continue,
            (Some(wanted), Some(found)) if wanted == found => continue,
            _ => {}
        }
        let Some((after_star, unmatched)) = &mut star else {
            return false;
        };
        if unmatched.next().is_none() {
            return false;
        }
        pattern = after_star.clone();
        text = unmatched.clone();
    }
}

impl Criterion {
    /// Whether comparing records with it would take too long.
    fn is_too_long(&self) -> bool {
        match self {
            Criterion::Like(_, raw, wild) => {
                let has_wildcard = wild.0 && raw.bytes().iter().any(|b| matches!(b, b'*' | b'?'));
                raw.bytes().len() > if has_wildcard { LONGEST } else { WHOLE }
            }
            Criterion::IdentifierLike(pattern) => pattern.len() > LONGEST,
            _ => false,
        }
    }

    /// The place of all matches in an index, where there is one, with its cost: the lower, the fewer entries are expected.
    pub(super) fn place(&self) -> Option<(u8, Place)> {
        let key = |cost, key| Some((cost, Place::Key(key)));
        match self {
            Criterion::Identifier(identifier) => key(0, index::identifier(identifier)),
            Criterion::Equal(AttributeValue::Custom(custom)) => key(
                2,
                index::custom(&custom.vendor, &custom.name, custom.value.as_ref()?)?,
            ),
            Criterion::Date(tag, low, high) if low == high => key(3, index::date(*tag, *low)),
            Criterion::Equal(AttributeValue::ObjectGroup(group)) => {
                key(4, index::object_group(group))
            }
            Criterion::State(state) => key(5, index::state(*state)),
            Criterion::ObjectType(object_type) => key(7, index::object_type(*object_type)),
            Criterion::Date(tag, low, high) => {
                let end = index::date(*tag, DateTime(high.0.saturating_add(1)));
                let span = Span {
                    from: index::date(*tag, *low).key.into(),
                    to: Some(end.key.into()),
                };
                Some((6, Place::Span(index::DATE, span)))
            }
            Criterion::Like(AttributeReference::Standard(tag::NAME), raw, wild) => {
                let name = field_text(raw, tag::NAME_VALUE)?;
                if wild.0 && has_wildcard(&name) {
                    let start = name.split(['*', '?']).next().unwrap_or_default();
                    return index::name_prefix(start)
                        .map(|span| (3, Place::Span(index::NAME, span)));
                }
                key(1, index::name(&name))
            }
            _ => None,
        }
    }

    /// Whether a record meets the criterion; `state` is the record's State at the time of the request.
    pub(super) fn meets(&self, record: &Record, state: Option<State>) -> bool {
        let mut values = record.client_attributes().map(|attribute| &attribute.value);
        match self {
            Criterion::Identifier(identifier) => record.identifier == *identifier,
            Criterion::IdentifierLike(pattern) => fits(pattern, &record.identifier),
            Criterion::ObjectType(object_type) => record.object_type == *object_type,
            // The State of a template is internal to the server.
            Criterion::State(wanted) => state == Some(*wanted) && record.object_type != ObjectType::TEMPLATE,
            Criterion::Date(tag, low, high) => {
                values.any(|value| value.tag() == *tag && value.date().is_some_and(|date| *low <= date && date <= *high))
            }
            Criterion::NoDate(tag) => !values.any(|value| value.tag() == *tag),
            Criterion::UsageMask(mask) => {
                values.any(|value| matches!(value, AttributeValue::CryptographicUsageMask(own) if own.0 & mask == *mask))
            }
            Criterion::UsageLimits(total, count) => values.any(|value| match value {
                AttributeValue::UsageLimits(own) => {
                    own.total >= *total && count.is_none_or(|count| own.count.is_some_and(|own| own >= count))
                }
                _ => false,
            }),
            Criterion::Equal(wanted) => values.any(|value| value == wanted),
            Criterion::Like(reference, raw, wild) => values.any(|value| {
                let is_one = match reference {
                    AttributeReference::Standard(tag) => value.tag() == *tag,
                    other => value.reference() == *other,
                };
                is_one && value.item().is_some_and(|have| has_fields(raw, &have, *wild))
            }),
        }
    }
}

fn has_fields(wanted: &Raw, have: &Raw, wild: Wild) -> bool {
    let readers = (
        Reader::new(wanted.bytes(), context(Version::V2_1)),
        Reader::new(have.bytes(), context(Version::V2_1)),
    );
    match (wanted.item(), have.item()) {
        (Ok(wanted), Ok(have)) => is_like(wanted, have, (&readers.0, &readers.1), wild),
        _ => false,
    }
}

/// The text in a field of a structure.
fn field_text(raw: &Raw, field: Tag) -> Option<String> {
    let r = Reader::new(raw.bytes(), context(Version::V2_1));
    let mut fields = r.children(raw.item().ok()?).ok()?;
    while let Ok(Some(item)) = fields.next(&r) {
        if item.tag() == field {
            return item.text(&r).ok().map(str::to_owned);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns() {
        for (pattern, text, is) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b*", "abc", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("??", "\u{e9}\u{1f511}", true),
            ("**a", "bba", true),
            ("ab", "abc", false),
        ] {
            assert_eq!(fits(pattern, text), is, "{pattern} {text}");
        }
        let (stars, text) = ("*a".repeat(50) + "b", "a".repeat(5000));
        assert!(!fits(&stars, &text), "and it is soon known");
    }
}
