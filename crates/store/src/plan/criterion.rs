use crate::{Index, IndexKey, Record, Span, index};
use keyferry_kmip::spec::{AttributeValue, ObjectType, State, tag};
use keyferry_kmip::{
    AttributeReference, Attributes, Cause, DateTime, Failure, Text, UniqueIdentifier,
    UnknownAttribute, context,
};
use keyferry_ttlv::{Item, Raw, Reader, Tag, Type, Version};

/// One thing that a Locate wants of an object.
#[derive(Clone, Debug)]
pub(super) enum Criterion {
    Identifier(Text),
    ObjectType(ObjectType),
    State(State),
    /// An inclusive range; both ends the same for one value.
    Date(Tag, DateTime, DateTime),
    /// A date that the object does not have.
    NoDate(Tag),
    /// All bits of the mask are set.
    UsageMask(u32),
    /// At least as much is left.
    UsageLimits(i64, Option<i64>),
    /// Some instance equals it.
    Equal(AttributeValue),
    /// Some instance has all its fields, and texts that fit its patterns.
    Like(AttributeReference, Raw, Wild),
    /// The identifier fits a pattern.
    IdentifierLike(Text),
}

/// Whether `*` and `?` in a text stand for others: until 1.4 (KMIP 1.4 §4.9); 2.0 took them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wild(pub(super) bool);

/// Where the matches of a criterion stand in an index.
pub(super) enum Place {
    /// Under one key, in the order of arrival.
    Key(IndexKey),
    /// Under several keys, which one object may have more than one of.
    Span(Index, Span),
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Criteria that a query has at the most, and bytes of one that is compared as a pattern, or field by field.
const MOST: usize = 128;
const LONGEST: usize = 4096;
const WHOLE: usize = 128 << 10;

/// The criteria of a request's attributes.
pub(super) fn criteria(attributes: &Attributes, wild: Wild) -> Result<Vec<Criterion>, Failure> {
    let mut criteria: Vec<Criterion> = Vec::new();
    if attributes.len() > MOST {
        return Err(Failure::new(
            Cause::ServerLimit,
            format_args!("a Locate has {MOST} attributes at the most"),
        ));
    }
    for attribute in attributes {
        let value = &attribute.value;
        if let Some(date) = value.date() {
            let same = criteria.iter_mut().find_map(|criterion| match criterion {
                Criterion::Date(tag, low, high) if *tag == value.tag() => Some((low, high)),
                _ => None,
            });
            match same {
                _ if date.0 == i64::MAX => criteria.push(Criterion::NoDate(value.tag())),
                Some((low, high)) if low == high => {
                    let (one, other) = (*low, date);
                    *low = one.min(other);
                    *high = one.max(other);
                }
                Some(_) => {
                    return Err(Failure::new(
                        Cause::InvalidField,
                        "a date may be given once or, as a range, twice",
                    ));
                }
                None => criteria.push(Criterion::Date(value.tag(), date, date)),
            }
            continue;
        }
        criteria.push(match value {
            AttributeValue::UniqueIdentifier(UniqueIdentifier::Text(pattern))
                if wild.0 && has_wildcard(pattern) =>
            {
                Criterion::IdentifierLike(pattern.clone())
            }
            AttributeValue::UniqueIdentifier(UniqueIdentifier::Text(identifier)) => {
                Criterion::Identifier(identifier.clone())
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
            AttributeValue::UsageLimits(limits) => {
                Criterion::UsageLimits(limits.total, limits.count)
            }
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
        });
    }
    let long = |criterion: &Criterion| match criterion {
        Criterion::Like(_, raw, wild) => {
            raw.bytes().len()
                > if wild.0 && raw.bytes().iter().any(|b| matches!(b, b'*' | b'?')) {
                    LONGEST
                } else {
                    WHOLE
                }
        }
        Criterion::IdentifierLike(pattern) => pattern.len() > LONGEST,
        _ => false,
    };
    if criteria.iter().any(long) {
        return Err(Failure::new(
            Cause::ServerLimit,
            format_args!(
                "an attribute that is looked for has {WHOLE} bytes at the most, and a pattern {LONGEST}"
            ),
        ));
    }
    Ok(criteria)
}

/// The attribute that a request has some fields of.
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

/// Whether a value may match others that do not equal it: a structure, which need not have all fields, or a pattern.
fn is_loose(raw: &Raw, wild: Wild) -> bool {
    let r = Reader::new(raw.bytes(), context(Version::V2_1));
    raw.item().is_ok_and(|item| match item.ty() {
        Type::Structure => true,
        Type::TextString => wild.0 && item.text(&r).is_ok_and(has_wildcard),
        _ => false,
    })
}

/// Whether what is there has all fields of what is wanted.
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
    // Where the last star stood, and what it has swallowed: going back to it is enough.
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
        let Some((behind, swallowed)) = &mut star else {
            return false;
        };
        if swallowed.next().is_none() {
            return false;
        }
        pattern = behind.clone();
        text = swallowed.clone();
    }
}

impl Criterion {
    /// Where an index has all matches, and how much is to be expected there: less for a smaller number.
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

    /// Whether a record meets it, whose State now is `state`.
    pub(super) fn meets(&self, record: &Record, state: Option<State>) -> bool {
        let mut values = record.shown().map(|attribute| &attribute.value);
        match self {
            Criterion::Identifier(identifier) => record.identifier == *identifier,
            Criterion::IdentifierLike(pattern) => fits(pattern, &record.identifier),
            Criterion::ObjectType(object_type) => record.object_type == *object_type,
            // A template has a State for the server alone.
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

/// The text of a structure's field.
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
