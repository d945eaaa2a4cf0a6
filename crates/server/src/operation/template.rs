//! Templates: objects whose attributes a request uses by naming the template (KMIP 1.4 §2.1.8 and §2.2.6, 1.0 to 1.4).

use keyferry_kmip::spec::{ObjectType, tag};
use keyferry_kmip::{Attribute, Attributes, Cause, Failure, Name, Object, TemplateAttribute};
use keyferry_s2s::Ask;
use keyferry_store::{Record, SnapshotExt, index};

/// The most templates that a request may name.
const MOST: usize = 16;

/// The attributes that a request asks for: those of the templates that it names, overridden by its own.
pub(super) fn expanded(
    asked: TemplateAttribute,
    object_type: ObjectType,
    ask: &Ask<'_>,
) -> Result<Attributes, Failure> {
    let TemplateAttribute { names, attributes } = asked;
    if names.is_empty() {
        return Ok(attributes);
    }
    if object_type == ObjectType::TEMPLATE {
        return Err(Failure::new(
            Cause::InvalidField,
            "a template is not made from templates",
        ));
    }
    let mut all: Vec<Attribute> = Vec::new();
    for (n, name) in names.iter().enumerate() {
        if n >= MOST || names.iter().take(n).any(|earlier| earlier == name) {
            return Err(Failure::new(
                Cause::InvalidField,
                "a template is named twice, or there are too many",
            ));
        }
        for attribute in &named(name, ask)? {
            // A Name in a template is that of the template, or of the first object that was made from it.
            let said = |other: &Attribute| {
                !other.value.may_repeat() && other.value.is_same_attribute(&attribute.value)
            };
            if attribute.value.tag() == tag::NAME || attributes.iter().any(said) {
                continue;
            }
            // Of several templates the last one counts.
            all.retain(|earlier| !said(earlier));
            all.push(attribute.value.clone().into());
        }
        if all.len() > Attributes::MOST {
            return Err(Failure::new(
                Cause::ServerLimit,
                "the templates have more attributes than an object may",
            ));
        }
    }
    all.extend(attributes);
    Ok(all.into_iter().collect())
}

/// The attributes of the template with this Name.
fn named(name: &Name, ask: &Ask<'_>) -> Result<Attributes, Failure> {
    let is = |record: &Record| {
        record.object_type == ObjectType::TEMPLATE
            && !record.is_destroyed()
            && record.names().any(|own| own == name)
            && ask.rights.check(ask.caller, ask.operation, record).is_ok()
    };
    let found = ask.snapshot.first(&index::name(&name.value), &is)?;
    let missing = || {
        Failure::new(
            Cause::ObjectNotFound,
            format_args!("there is no template {:?}", name.value),
        )
    };
    let (number, _) = found.ok_or_else(missing)?;
    match ask.snapshot.whole(number)? {
        Some((_, Some(Object::Template(template)))) => Ok(template.attributes),
        _ => Err(missing()),
    }
}
