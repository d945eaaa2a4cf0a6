//! The names of the tables and of our own tags, both ways.

use super::domain::{Domain, value_name};
use super::{enumeration_domains, mask_domains, tag, tag_row};
use keyferry_ttlv::{Context, Dictionary, Tag, Version, normalized};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// The standard's names and those of our own tags: for errors, for `inspect`, for XML and JSON.
///
/// Three rules lead to the names of a value: an Attribute Value takes those of the attribute that its Attribute Name says, the value of an
/// Attribute Reference is a tag, and some tags take the values of another one.
#[derive(Clone, Copy, Debug)]
pub struct Names;

/// Names that the standard's messages write otherwise than its tables.
const SHORT: &[(Tag, u32, &str)] = &[(tag::CRYPTOGRAPHIC_USAGE_MASK, 0x400, "Content Commitment")];

/// The tag whose enumeration an item of this tag takes.
fn enumeration(tag: Tag) -> Tag {
    match tag {
        tag::MASK_GENERATOR_HASHING_ALGORITHM => tag::HASHING_ALGORITHM,
        tag::LINKED_OBJECT_IDENTIFIER | tag::CERTIFICATE_REQUEST_UNIQUE_IDENTIFIER => {
            tag::UNIQUE_IDENTIFIER
        }
        tag => tag,
    }
}

/// Tags or values by name, in the form of the tables and in that of XML and JSON. Of two that share a name, the first has it.
type ByName<T> = HashMap<Cow<'static, str>, T>;

fn by_name<T: Copy>(names: impl Iterator<Item = (&'static str, T)>) -> ByName<T> {
    let mut table = HashMap::new();
    for (name, named) in names {
        table.entry(Cow::Borrowed(name)).or_insert(named);
        table.entry(Cow::Owned(normalized(name))).or_insert(named);
    }
    table
}

/// The values of an enumeration or the bits of a mask.
struct Values {
    domain: &'static Domain,
    by_name: ByName<u32>,
}

impl Values {
    /// The values, with the tag under which they stand.
    fn of(domain: &'static Domain) -> Option<(Tag, Values)> {
        // The types have no tag of their own.
        let tag = domain
            .tag
            .or((domain.name == "Item Type").then_some(tag::EXTENSION_TYPE))?;
        let short = SHORT
            .iter()
            .filter(|(of, ..)| *of == tag)
            .map(|(_, value, name)| (*name, *value));
        let by_name = by_name(
            domain
                .values
                .iter()
                .map(|row| (row.name, row.value))
                .chain(short),
        );
        Some((tag, Values { domain, by_name }))
    }
}

static TAGS: LazyLock<ByName<Tag>> = LazyLock::new(|| {
    let standard = tag::ROWS.iter().map(|row| (row.name, row.tag));
    by_name(
        standard.chain(
            crate::extension::ROWS
                .iter()
                .map(|(tag, name)| (*name, *tag)),
        ),
    )
});
static VALUES: LazyLock<HashMap<Tag, Values>> =
    LazyLock::new(|| enumeration_domains().filter_map(Values::of).collect());
static BITS: LazyLock<HashMap<Tag, Values>> =
    LazyLock::new(|| mask_domains().filter_map(Values::of).collect());

impl Dictionary for Names {
    fn tag_name(&self, tag: Tag) -> Option<&'static str> {
        tag_row(tag)
            .map(|row| row.name)
            .or_else(|| crate::extension::tag_name(tag))
    }

    fn value_name(&self, tag: Tag, value: u32) -> Option<&'static str> {
        if tag == tag::ATTRIBUTE_REFERENCE {
            return Some(Tag::new(value))
                .filter(|tag| tag.number() == value)
                .and_then(|tag| self.tag_name(tag));
        }
        VALUES
            .get(&enumeration(tag))
            .and_then(|values| value_name(values.domain, value))
    }

    fn bit_name(&self, tag: Tag, bit: u32) -> Option<&'static str> {
        let short = SHORT
            .iter()
            .find(|(of, value, _)| *of == tag && *value == bit)
            .map(|(.., name)| *name);
        short.or_else(|| {
            BITS.get(&tag)
                .and_then(|values| value_name(values.domain, bit))
        })
    }

    fn tag_named(&self, name: &str) -> Option<Tag> {
        TAGS.get(name).copied()
    }

    fn value_named(&self, tag: Tag, name: &str) -> Option<u32> {
        if tag == tag::ATTRIBUTE_REFERENCE {
            return self.tag_named(name).map(Tag::number);
        }
        VALUES
            .get(&enumeration(tag))
            .and_then(|values| values.by_name.get(name))
            .copied()
    }

    fn bit_named(&self, tag: Tag, name: &str) -> Option<u32> {
        BITS.get(&tag)
            .and_then(|values| values.by_name.get(name))
            .copied()
    }

    fn attribute_tags(&self) -> Option<(Tag, Tag)> {
        Some((tag::ATTRIBUTE_NAME, tag::ATTRIBUTE_VALUE))
    }
}

/// The context in which messages are read and written: the standard's names in errors.
pub fn context(version: Version) -> Context {
    Context {
        dictionary: Some(&Names),
        ..Context::new(version)
    }
}
