//! What happens when a copy wants an identifier or a Name that another object has here, and where its Links lead. The copy itself stays
//! verbatim: all of it lies in the overlay.

use crate::ask::Ask;
use crate::material::serve::meant;
use crate::node::Node;
use crate::policy::OnName;
use crate::relation::keys;
use keyferry_kmip::spec::{AlternativeNameType, AttributeValue};
use keyferry_kmip::{
    AlternativeName, Attributes, Cause, Failure, Link, Name, Random, Text, UniqueIdentifier,
};
use keyferry_store::{
    Change, Effects, Hidden, Material, Overlay, Record, SnapshotExt, Span, index,
};
use keyferry_ttlv::Extra;
use std::ops::ControlFlow;

/// How many numbers are tried behind a Name.
const NUMBERS: u32 = 1000;

/// A new Unique Identifier.
pub(crate) fn new_identifier(random: &mut dyn Random) -> Result<Text, Failure> {
    let mut bytes = [0; 16];
    random
        .fill(&mut bytes)
        .map_err(|e| Failure::new(Cause::Cryptographic, e))?;
    Ok(Text::from(
        uuid::Builder::from_random_bytes(bytes)
            .into_uuid()
            .to_string(),
    ))
}

/// Whether another object has the Name here. Names of one issuer's objects do not clash among themselves: it has seen to that, and they may
/// arrive in another order than they were given in.
fn taken(
    node: &Node,
    ask: &Ask<'_>,
    name: &Name,
    own: Option<&Record>,
    local: bool,
) -> Result<bool, Failure> {
    let clashes = |other: &Record| {
        other.names().any(|theirs| theirs == name)
            && own.is_none_or(|own| {
                other.id != own.id
                    && (local
                        || node.issues(own) && !node.observes(own)
                        || !is_of_same_source(own, other))
            })
    };
    Ok(ask
        .snapshot
        .first(&index::name(&name.value), &clashes)?
        .is_some())
}

/// Whether one server has named both. An observer issues what several foreign masters have named.
fn is_of_same_source(one: &Record, other: &Record) -> bool {
    let origin = |record: &Record| (record.id.server.clone(), record.id.instance.clone());
    one.stamp.issuer == other.stamp.issuer
        && (one.stamp.issuer == one.id.server || origin(one) == origin(other))
}

/// Fails when a Name is another object's.
pub(crate) fn check_names(
    node: &Node,
    ask: &Ask<'_>,
    attributes: &Attributes,
    own: Option<&Record>,
) -> Result<(), Failure> {
    for name in attributes.names() {
        if taken(node, ask, name, own, false)? {
            return Err(clash(name));
        }
    }
    Ok(())
}

fn clash(name: &Name) -> Failure {
    Failure::new(
        Cause::NameExists,
        format_args!("another object has the Name {:?}", name.value),
    )
}

/// Settles the Names of a copy that comes in; `true` when one is shown otherwise. What was settled before stays so: a Name that the copy
/// `held` here shows has gone to nobody else since.
pub(crate) fn settle_names(
    node: &Node,
    ask: &Ask<'_>,
    record: &mut Record,
    held: Option<&Record>,
    on: &OnName,
) -> Result<bool, Failure> {
    let mut hidden = take(record, |value| matches!(value, AttributeValue::Name(_)));
    hidden.retain(|hidden| {
        record
            .attributes
            .iter()
            .any(|own| hidden.value() == Some(&own.value))
    });
    for name in record.attributes.names() {
        let value = AttributeValue::Name(name.clone());
        let is_settled = hidden.iter().any(|hidden| hidden.value() == Some(&value))
            || held.is_some_and(|held| held.attributes.names().any(|known| known == name));
        if is_settled || !taken(node, ask, name, Some(record), false)? {
            continue;
        }
        let instead = match on {
            OnName::Fail => return Err(clash(name)),
            OnName::Rename(rule) => AttributeValue::Name(renamed(node, ask, record, name, rule)?),
            OnName::Park => AttributeValue::AlternativeName(AlternativeName {
                value: name.value.clone(),
                alternative_name_type: AlternativeNameType::UNINTERPRETED_TEXT_STRING,
                extra: Extra::NONE,
            }),
        };
        hidden.push(Hidden::new(value, Some(instead)));
    }
    let any = !hidden.is_empty();
    put_back(record, hidden);
    Ok(any)
}

fn renamed(
    node: &Node,
    ask: &Ask<'_>,
    record: &Record,
    name: &Name,
    rule: &str,
) -> Result<Name, Failure> {
    let shown = rule
        .replace("{server}", &record.id.server)
        .replace("{name}", &name.value);
    for number in 1..=NUMBERS {
        let value = if number == 1 {
            shown.clone()
        } else {
            format!("{shown} {number}")
        };
        let candidate = Name {
            value: value.into(),
            ..name.clone()
        };
        if candidate != *name && !taken(node, ask, &candidate, Some(record), true)? {
            return Ok(candidate);
        }
    }
    Err(clash(name))
}

/// Takes what is hidden of one kind out of the overlay.
fn take(record: &mut Record, is: impl Fn(&AttributeValue) -> bool) -> Vec<Hidden> {
    let Some(overlay) = &mut record.overlay else {
        return Vec::new();
    };
    overlay
        .hidden
        .extract_if(.., |hidden| hidden.value().is_some_and(&is))
        .collect()
}

fn put_back(record: &mut Record, hidden: Vec<Hidden>) {
    if !hidden.is_empty() {
        record
            .overlay
            .get_or_insert_with(Overlay::default)
            .hidden
            .extend(hidden);
    }
    record
        .overlay
        .take_if(|overlay| *overlay == Overlay::default());
}

/// Lets the Links of a copy lead where their targets are here. A target that is not here yet is waited for; meanwhile the Link is not shown
/// where another object has its identifier.
pub(crate) fn settle_links(
    ask: &Ask<'_>,
    record: &mut Record,
    effects: &mut Effects,
) -> Result<(), Failure> {
    settle_links_with(ask, record, effects, None)
}

fn settle_links_with(
    ask: &Ask<'_>,
    record: &mut Record,
    effects: &mut Effects,
    arriving: Option<&Record>,
) -> Result<(), Failure> {
    drop(take(record, |value| {
        matches!(value, AttributeValue::Link(_))
    }));
    let mut hidden = Vec::new();
    for attribute in &record.attributes {
        let AttributeValue::Link(link) = &attribute.value else {
            continue;
        };
        let UniqueIdentifier::Text(identifier) = &link.target else {
            continue;
        };
        let id = meant(record, identifier);
        let here = if id == record.id {
            Some(record.identifier.clone())
        } else if let Some(arriving) = arriving.filter(|arriving| arriving.id == id) {
            Some(arriving.identifier.clone())
        } else {
            ask.snapshot
                .by_object_id(&id)?
                .map(|(_, target)| target.identifier)
        };
        let instead = match here {
            Some(here) if here == *identifier => continue,
            Some(here) => Some(AttributeValue::Link(Link {
                target: UniqueIdentifier::Text(here),
                ..link.clone()
            })),
            None => {
                let key = [&keys::awaited_prefix(&id)?, record.identifier.as_bytes()].concat();
                effects.state.push((key, Some(Vec::new())));
                let is_another = ask.snapshot.by_identifier(identifier)?.is_some();
                if !is_another {
                    continue;
                }
                None
            }
        };
        hidden.push(Hidden::new(attribute.value.clone(), instead));
    }
    put_back(record, hidden);
    Ok(())
}

/// Lets the Links of what has waited for this object lead to it.
pub(crate) fn arrived(
    ask: &Ask<'_>,
    record: &Record,
    effects: &mut Effects,
) -> Result<(), Failure> {
    let prefix = keys::awaited_prefix(&record.id)?;
    let mut keys = Vec::new();
    ask.snapshot.state(&Span::prefix(&prefix), &mut |key, _| {
        keys.push(key.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    for key in keys {
        let identifier = key
            .get(prefix.len()..)
            .and_then(|rest| std::str::from_utf8(rest).ok())
            .unwrap_or_default();
        let waiting = ask.snapshot.by_identifier(identifier)?;
        effects.state.push((key.clone(), None));
        let Some((number, before)) = waiting.filter(|(_, waiting)| waiting.id != record.id) else {
            continue;
        };
        let mut after = before.clone();
        let mut still = Effects::none();
        settle_links_with(ask, &mut after, &mut still, Some(record))?;
        effects
            .state
            .extend(still.state.into_iter().filter(|(other, _)| *other != key));
        if after != before {
            effects.changes.push(Change {
                before: Some((number, before)),
                after,
                material: Material::Keep,
            });
        }
    }
    Ok(())
}
