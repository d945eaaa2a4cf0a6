//! Add, Modify and Delete Attribute: the rules by which a client may change attributes.

use super::{changed, check_names, own};
use keyferry_kmip::attribute::AttributeReference;
use keyferry_kmip::spec::{AttributeValue as V, ChangeRule, SetBy, State, attribute_row};
use keyferry_kmip::{
    AddAttributeRequest, AddAttributeResponse, Attribute, Attributes, Cause, DateTime,
    DeleteAttributeRequest, DeleteAttributeResponse, Failure, ModifyAttributeRequest,
    ModifyAttributeResponse, RequestItem, lifecycle,
};
use keyferry_s2s::{Answered, Ask, Node};
use keyferry_store::{Material, Record};
use keyferry_ttlv::{Extra, Version};

/// Fails when a client may not set a custom attribute of this name, or a value makes no sense.
pub(super) fn check_value(value: &V) -> Result<(), Failure> {
    match value {
        V::Custom(custom) if custom.vendor == "y" => Err(Failure::new(
            Cause::ReadOnlyAttribute,
            "attributes of the vendor y are the server's to set",
        )),
        V::Custom(custom) if custom.vendor == "x" && custom.name.starts_with("s2s-") => {
            Err(Failure::new(
                Cause::ReadOnlyAttribute,
                "attributes x-s2s-... show what the server knows of other servers",
            ))
        }
        V::Custom(custom) if custom.value.is_none() => Err(Failure::new(
            Cause::MissingData,
            "the Attribute Value is missing",
        )),
        V::Custom(custom) if custom.name.is_empty() || custom.vendor.is_empty() => {
            Err(Failure::new(
                Cause::InvalidAttribute,
                "a custom attribute needs a name and a vendor",
            ))
        }
        V::Custom(custom) if custom.is_nested() => Err(Failure::new(
            Cause::InvalidAttribute,
            "a custom attribute may be a structure of values, and no deeper one",
        )),
        V::Name(name) if name.value.is_empty() => {
            Err(Failure::new(Cause::InvalidAttribute, "a Name is empty"))
        }
        _ => Ok(()),
    }
}

/// The attribute of a request; fails when there is none or more than one.
pub(super) fn single(attributes: Attributes) -> Result<Attribute, Failure> {
    let mut attributes = attributes.into_iter();
    match (attributes.next(), attributes.next()) {
        (Some(attribute), None) => Ok(attribute),
        (None, _) => Err(Failure::new(Cause::MissingData, "the attribute is missing")),
        _ => Err(Failure::new(Cause::InvalidField, "one attribute at a time")),
    }
}

/// Whether a rule permits a client to change an attribute now.
fn permits(may: ChangeRule, record: &Record, value: &V, now: DateTime) -> bool {
    let state = record.state(now);
    let live = matches!(state, Some(State::PRE_ACTIVE | State::ACTIVE));
    match may {
        ChangeRule::Never => false,
        ChangeRule::Always => true,
        ChangeRule::PreActive => state == Some(State::PRE_ACTIVE),
        ChangeRule::PreActiveOrActive => live,
        ChangeRule::UntilReached => {
            live && record
                .attributes
                .date(value.tag())
                .is_none_or(|date| date > now)
        }
        ChangeRule::UntilAllocated => record.attributes.iter().all(|a| match &a.value {
            V::UsageLimits(limits) => limits.count.is_none_or(|count| count == limits.total),
            _ => true,
        }),
    }
}

fn read_only(value: &V) -> Failure {
    Failure::new(
        Cause::ReadOnlyAttribute,
        format_args!(
            "{} can't be changed by a client, or not any more",
            value.reference()
        ),
    )
}

/// The failure of a change that the rule does not permit; it blames the State where the rule depends on that (OASIS case SKLC-M-3).
fn not_now(may: ChangeRule, value: &V) -> Failure {
    match may {
        ChangeRule::PreActive | ChangeRule::PreActiveOrActive | ChangeRule::UntilReached => {
            Failure::new(
                Cause::AttributeSettled,
                format_args!("{} can't be changed any more", value.reference()),
            )
        }
        ChangeRule::Never | ChangeRule::Always | ChangeRule::UntilAllocated => read_only(value),
    }
}

/// The rule for clients that change an attribute; a custom attribute may always be changed.
fn rule(
    value: &V,
    pick: fn(&keyferry_kmip::spec::AttributeRow) -> ChangeRule,
) -> Result<ChangeRule, Failure> {
    match value {
        V::Custom(_) => Ok(ChangeRule::Always),
        V::Unknown(_) => Err(Failure::new(
            Cause::UnknownAttribute,
            format_args!("unknown attribute {}", value.reference()),
        )),
        value => Ok(attribute_row(value.tag()).map_or(ChangeRule::Never, pick)),
    }
}

/// The value that a client's value stands for: the server sets the count of Usage Limits, and a Link into the batch becomes a Link to the
/// object.
pub(super) fn normalised(ask: &Ask<'_>, value: V) -> Result<V, Failure> {
    Ok(match value {
        V::UsageLimits(mut limits) => {
            limits.count = Some(limits.total);
            V::UsageLimits(limits)
        }
        V::Link(mut link) => {
            link.target = ask.identifier(Some(&link.target))?.into();
            V::Link(link)
        }
        other => other,
    })
}

fn named_only(attribute: Attribute, version: Version) -> Attributes {
    let mut attributes = Attributes::new();
    if version < Version::V2_0 {
        attributes.keep(attribute);
    }
    attributes
}

/// The record with one more value.
pub(super) fn with_added(ask: &Ask<'_>, record: &Record, value: V) -> Result<Record, Failure> {
    let value = normalised(ask, value)?;
    check_value(&value)?;
    let may = rule(&value, |row| {
        if row.set_by == SetBy::Server {
            ChangeRule::Never
        } else {
            row.client_modifies
        }
    })?;
    let there = record
        .attributes
        .iter()
        .any(|a| a.value.is_same_attribute(&value));
    if there && !value.may_repeat() {
        return Err(match may {
            ChangeRule::Never => read_only(&value),
            _ => Failure::new(
                Cause::AttributeExists,
                format_args!("the object has the attribute {} already", value.reference()),
            ),
        });
    }
    // An attribute that is set when the object is made cannot be added later.
    let initial = attribute_row(value.tag())
        .is_some_and(|row| row.set_by != SetBy::Server && row.client_modifies == ChangeRule::Never);
    // These two may be added later, once (KMIP 2.1 §4.36, §4.48).
    let once = matches!(
        value,
        V::OriginalCreationDate(_) | V::RandomNumberGenerator(_)
    );
    if !once && (initial || !permits(may, record, &value, ask.now.wall)) {
        return Err(if initial {
            read_only(&value)
        } else {
            not_now(may, &value)
        });
    }
    let mut one = Attributes::new();
    one.keep(value.clone().into());
    check_names(ask, &one, None, record.owner.as_deref(), Cause::NameTaken)?;
    let mut after = record.clone();
    after.attributes.push(value);
    after.attributes.check_count()?;
    lifecycle::check_dates(&after.attributes)?;
    Ok(after)
}

/// Add Attribute (KMIP 2.1 §6.1.2).
pub(super) fn add(node: &Node, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Answered, Failure> {
    let request: AddAttributeRequest = item.payload(ask.cx)?;
    let attribute = single(request.attribute)?;
    if attribute.index.is_some() {
        return Err(Failure::new(
            Cause::InvalidField,
            "Add Attribute takes no Attribute Index",
        ));
    }
    let before = own(node, ask, request.unique_identifier.as_ref())?;
    let after = with_added(ask, &before.1, attribute.value)?;
    let added = after.attributes.iter().last().cloned();
    let identifier = after.identifier.clone();
    let effects = changed(node, ask, before, after, Material::Keep)?;
    let response = AddAttributeResponse {
        unique_identifier: identifier.clone().into(),
        attribute: added
            .map(|a| named_only(a, ask.cx.version))
            .unwrap_or_default(),
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?.with(effects))
}

/// The place of the instance that a request means: given by its index in 1.x (0 by default), by its current value in 2.x (where a single
/// instance needs none).
fn instance(
    record: &Record,
    like: &V,
    index: Option<i32>,
    current: Option<&V>,
    version: Version,
) -> Result<usize, Failure> {
    if let Some(current) = current.filter(|_| version >= Version::V2_0)
        && !current.is_same_attribute(like)
    {
        return Err(Failure::new(
            Cause::InvalidField,
            "the Current and the New Attribute are different ones",
        ));
    }
    let places: Vec<(usize, &Attribute)> = record
        .attributes
        .iter()
        .enumerate()
        .filter(|(_, a)| a.value.is_same_attribute(like))
        .collect();
    let find = |is: &dyn Fn(&Attribute) -> bool| {
        let found = places.iter().find(|(_, a)| is(a));
        found.map(|(place, _)| *place)
    };
    let no_instance = |which: &str| {
        Failure::new(
            Cause::InstanceNotFound,
            format_args!("{} has no {which}", like.reference()),
        )
    };
    let missing = || {
        Failure::new(
            Cause::AttributeNotFound,
            format_args!("the object has no attribute {}", like.reference()),
        )
    };
    match (current, places.as_slice()) {
        (_, []) if version < Version::V2_0 => Err(missing()),
        _ if version < Version::V2_0 => {
            let wanted = index.unwrap_or(0);
            find(&|a| a.index.unwrap_or(0) == wanted)
                .ok_or_else(|| no_instance(&format!("instance {wanted}")))
        }
        (Some(current), _) => {
            find(&|a| a.value == *current).ok_or_else(|| no_instance("such value"))
        }
        (None, []) => Err(missing()),
        (None, [(place, _)]) => Ok(*place),
        (None, _) => Err(Failure::new(
            Cause::InvalidField,
            format_args!("{} has several values: say which one", like.reference()),
        )),
    }
}

/// The record with another value for one instance, and that instance.
pub(super) fn with_modified(
    ask: &Ask<'_>,
    record: &Record,
    value: V,
    index: Option<i32>,
    current: Option<&V>,
) -> Result<(Record, Option<Attribute>), Failure> {
    let value = normalised(ask, value)?;
    check_value(&value)?;
    let may = rule(&value, |row| row.client_modifies)?;
    let place = instance(record, &value, index, current, ask.cx.version).map_err(|failure| {
        match failure.cause() {
            Cause::AttributeNotFound => Failure::new(Cause::AttributeAbsent, failure.message()),
            _ => failure,
        }
    });
    if !permits(may, record, &value, ask.now.wall) {
        return Err(not_now(may, &value));
    }
    let place = place?;
    let mut one = Attributes::new();
    one.keep(value.clone().into());
    let owner = record.owner.as_deref();
    check_names(ask, &one, Some(record), owner, Cause::NameTaken)?;
    let is_own_other = |(n, a): (usize, &Attribute)| n != place && a.value == value;
    if matches!(value, V::Name(_)) && record.attributes.iter().enumerate().any(is_own_other) {
        return Err(Failure::new(
            Cause::NameTaken,
            "the object has this Name already",
        ));
    }
    let mut after = record.clone();
    let mut modified = None;
    if let Some(attribute) = after.attributes.iter_mut().nth(place) {
        attribute.value = value;
        modified = Some(attribute.clone());
    }
    lifecycle::check_dates(&after.attributes)?;
    Ok((after, modified))
}

/// Modify Attribute (KMIP 2.1 §6.1.34).
pub(super) fn modify(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: ModifyAttributeRequest = item.payload(ask.cx)?;
    let Attribute { index, value } = single(request.attribute)?;
    let current = if request.current.is_empty() {
        None
    } else {
        Some(single(request.current)?.value)
    };
    let before = own(node, ask, request.unique_identifier.as_ref())?;
    let (after, modified) = with_modified(ask, &before.1, value, index, current.as_ref())?;
    let identifier = after.identifier.clone();
    let effects = changed(node, ask, before, after, Material::Keep)?;
    let response = ModifyAttributeResponse {
        unique_identifier: identifier.clone().into(),
        attribute: modified
            .map(|a| named_only(a, ask.cx.version))
            .unwrap_or_default(),
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?.with(effects))
}

/// Delete Attribute (KMIP 2.1 §6.1.13).
pub(super) fn delete(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: DeleteAttributeRequest = item.payload(ask.cx)?;
    let before = own(node, ask, request.unique_identifier.as_ref())?;
    let current = if request.current.is_empty() {
        None
    } else {
        Some(single(request.current)?.value)
    };
    let reference = deleted_reference(current.as_ref(), request.references.0.as_slice())?;
    let like = check_deletable(ask, &before.1, &reference)?;
    let mut after = before.1.clone();
    let mut deleted = None;
    if ask.cx.version >= Version::V2_0 && current.is_none() {
        // An Attribute Reference means every instance.
        after
            .attributes
            .retain(|a| a.value.reference() != reference);
    } else {
        // Only in 1.0 there is no default index.
        if ask.cx.version == Version::V1_0
            && request.attribute_index.is_none()
            && before.1.attributes.of(&reference).nth(1).is_some()
        {
            return Err(Failure::new(
                Cause::InvalidField,
                format_args!("{reference} has several values: say which one"),
            ));
        }
        let (index, current) = (request.attribute_index, current.as_ref());
        let place = instance(&before.1, &like, index, current, ask.cx.version)?;
        deleted = remove(&mut after.attributes, place);
    }
    let identifier = after.identifier.clone();
    let effects = changed(node, ask, before, after, Material::Keep)?;
    let response = DeleteAttributeResponse {
        unique_identifier: identifier.clone().into(),
        attribute: deleted
            .map(|a| named_only(a, ask.cx.version))
            .unwrap_or_default(),
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?.with(effects))
}

/// The attribute that a request deletes, which it names by a value or by a reference.
fn deleted_reference(
    current: Option<&V>,
    references: &[AttributeReference],
) -> Result<AttributeReference, Failure> {
    let reference = match (current, references) {
        (Some(value), []) => value.reference(),
        (None, [reference]) => reference.clone(),
        (None, []) => {
            return Err(Failure::new(
                Cause::MissingData,
                "the attribute is not named",
            ));
        }
        _ => return Err(Failure::new(Cause::InvalidField, "one attribute at a time")),
    };
    match reference {
        AttributeReference::Unknown(name) => Err(Failure::new(
            Cause::UnknownAttribute,
            format_args!("unknown attribute {name}"),
        )),
        reference => Ok(reference),
    }
}

/// Fails when the client may not delete an attribute; returns one of its values.
fn check_deletable(
    ask: &Ask<'_>,
    record: &Record,
    reference: &AttributeReference,
) -> Result<V, Failure> {
    let rule = match reference {
        AttributeReference::Standard(tag) => attribute_row(*tag).map(|row| row.client_deletes),
        _ => Some(ChangeRule::Always),
    };
    let Some(may) = rule else {
        return Err(Failure::new(
            Cause::UnknownAttribute,
            format_args!("unknown attribute {reference}"),
        ));
    };
    let Some(held) = record.attributes.of(reference).next() else {
        return Err(if may == ChangeRule::Never {
            Failure::new(
                Cause::ReadOnlyAttribute,
                format_args!("{reference} can't be deleted"),
            )
        } else {
            Failure::new(
                Cause::AttributeNotFound,
                format_args!("the object has no attribute {reference}"),
            )
        });
    };
    check_value(&held.value)?;
    if !permits(may, record, &held.value, ask.now.wall) {
        return Err(read_only(&held.value));
    }
    Ok(held.value.clone())
}

/// Removes and returns the attribute at a place.
fn remove(attributes: &mut Attributes, place: usize) -> Option<Attribute> {
    let (mut at, mut removed) = (0, None);
    attributes.retain(|attribute| {
        let is_it = at == place;
        at += 1;
        if is_it {
            removed = Some(attribute.clone());
        }
        !is_it
    });
    removed
}
