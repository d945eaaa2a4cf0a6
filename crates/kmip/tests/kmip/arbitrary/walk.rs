//! Walks the bytes of a message and says what stands there that the version lacks, by the tables alone.

use keyferry_kmip::context;
use keyferry_kmip::spec::{
    Domain, attribute_row, attribute_rows, enumeration_domains, mask_domains, tag, tag_row,
};
use keyferry_ttlv::{Item, Reader, Tag, Type, Version};

/// What `version` lacks of the item and all below it.
pub fn lacking(item: &[u8], version: Version) -> Vec<String> {
    let mut found = Vec::new();
    let r = Reader::new(item, context(version));
    look(Item::parse(item).unwrap(), None, &r, version, &mut found);
    found
}

fn domain(tag: Tag, mut domains: impl Iterator<Item = &'static Domain>) -> Option<&'static Domain> {
    let tag = if tag == tag::MASK_GENERATOR_HASHING_ALGORITHM {
        tag::HASHING_ALGORITHM
    } else {
        tag
    };
    domains.find(|domain| domain.tag == Some(tag))
}

/// `named` is the attribute whose value stands here by name.
fn look<'a>(
    item: Item<'a>,
    named: Option<Tag>,
    r: &Reader<'a>,
    version: Version,
    found: &mut Vec<String>,
) {
    if item.tag().is_extension() {
        return;
    }
    let name = match tag_row(item.tag()) {
        Some(row) if row.versions.contain(version) => row.name,
        Some(row) => return found.push(format!("tag {}", row.name)),
        None => return found.push(format!("tag {}", item.tag())),
    };
    let meaning = named
        .filter(|_| item.tag() == tag::ATTRIBUTE_VALUE)
        .unwrap_or(item.tag());
    match item.ty() {
        Type::Enumeration => {
            let value = item.enumeration(r).unwrap();
            if item.tag() == tag::ATTRIBUTE_REFERENCE {
                if let Some(row) =
                    attribute_row(Tag::new(value)).filter(|row| !row.versions.contain(version))
                {
                    found.push(format!("reference to {}", row.name));
                }
            } else if domain(meaning, enumeration_domains())
                .is_some_and(|domain| !domain.has(value, version))
            {
                found.push(format!("{name} {value:X}"));
            }
        }
        Type::Integer => {
            let bits = item.integer(r).unwrap().cast_unsigned();
            if let Some(domain) = domain(meaning, mask_domains()) {
                let lacks = (0..32)
                    .map(|n| 1 << n)
                    .filter(|bit| bits & bit != 0 && !domain.has(*bit, version));
                found.extend(lacks.map(|bit| format!("{name} {bit:X}")));
            }
        }
        Type::DateTimeExtended if version < Version::V2_0 => {
            found.push(format!("the type of {name}"))
        }
        Type::TextString if item.tag() == tag::ATTRIBUTE_NAME => {
            let text = item.text(r).unwrap();
            if let Some(row) = attribute_rows()
                .iter()
                .find(|row| row.name == text && !row.versions.contain(version))
            {
                found.push(format!("attribute {}", row.name));
            }
        }
        Type::Structure => {
            let of_attributes = [
                tag::ATTRIBUTES,
                tag::COMMON_ATTRIBUTES,
                tag::PRIVATE_KEY_ATTRIBUTES,
                tag::PUBLIC_KEY_ATTRIBUTES,
                tag::NEW_ATTRIBUTE,
                tag::CURRENT_ATTRIBUTE,
            ];
            let (mut named, mut has_name, mut children) = (None, false, r.children(item).unwrap());
            while let Some(child) = children.next(r).unwrap() {
                if child.tag() == tag::ATTRIBUTE_NAME {
                    let text = child.text(r).unwrap();
                    has_name = true;
                    named = attribute_rows()
                        .iter()
                        .find(|row| row.name == text)
                        .map(|row| row.tag);
                }
                if of_attributes.contains(&item.tag())
                    && let Some(row) =
                        attribute_row(child.tag()).filter(|row| !row.versions.contain(version))
                {
                    found.push(format!("attribute {}", row.name));
                }
                look(child, named, r, version, found);
            }
            // In 2.x nothing else says what it is.
            if item.tag() == tag::ATTRIBUTE && version >= Version::V2_0 && !has_name {
                found.push("an attribute without a name".to_owned());
            }
        }
        _ => {}
    }
}
