//! Set Attribute and Adjust Attribute (since 2.0): they change an attribute whether or not the object has it.

use super::attribute::{single, with_added, with_modified};
use super::{changed, own};
use keyferry_kmip::spec::{AdjustmentType, AttributeValue as V, attribute_row};
use keyferry_kmip::{
    AdjustAttributeRequest, AdjustAttributeResponse, AttributeReference, Cause, CustomAttribute,
    Failure, Interval, RequestItem, SetAttributeRequest, SetAttributeResponse,
};
use keyferry_s2s::{Answered, Ask, Node};
use keyferry_store::{Material, Record};
use keyferry_ttlv::{Extra, Value};

/// The number of instances of an attribute that an object has.
fn instances(record: &Record, reference: &AttributeReference) -> usize {
    record.attributes.of(reference).count()
}

fn with_set(ask: &Ask<'_>, record: &Record, value: V) -> Result<Record, Failure> {
    let reference = value.reference();
    match instances(record, &reference) {
        0 => with_added(ask, record, value),
        1 => with_modified(ask, record, value, None, None).map(|(after, _)| after),
        _ => Err(Failure::new(
            Cause::MultiValuedAttribute,
            format_args!("the object has several instances of {reference}"),
        )),
    }
}

/// Set Attribute (KMIP 2.1 §6.1.51).
pub(super) fn set(node: &Node, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Answered, Failure> {
    let request: SetAttributeRequest = item.payload(ask.cx)?;
    let before = own(node, ask, request.unique_identifier.as_ref())?;
    let after = with_set(ask, &before.1, single(request.attribute)?.value)?;
    let identifier = after.identifier.clone();
    let effects = changed(node, ask, before, after, Material::Keep)?;
    let response = SetAttributeResponse {
        unique_identifier: identifier.clone().into(),
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?.with(effects))
}

/// Adjust Attribute (KMIP 2.1 §6.1.3): increments or decrements a number, an interval or a date, or negates a Boolean. An attribute that the
/// object does not have counts as 0 or False.
pub(super) fn adjust(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: AdjustAttributeRequest = item.payload(ask.cx)?;
    let [reference] = request.references.0.as_slice() else {
        return Err(Failure::new(Cause::InvalidField, "one attribute at a time"));
    };
    let before = own(node, ask, request.unique_identifier.as_ref())?;
    if instances(&before.1, reference) > 1 {
        let why = format_args!("the object has several instances of {reference}");
        return Err(Failure::new(Cause::MultiValuedAttribute, why));
    }
    let held = before
        .1
        .attributes
        .of(reference)
        .next()
        .map(|a| a.value.clone());
    let value = adjusted(
        reference,
        held,
        request.adjustment_type,
        request.adjustment_value.as_ref(),
    )?;
    let after = with_set(ask, &before.1, value)?;
    let identifier = after.identifier.clone();
    let effects = changed(node, ask, before, after, Material::Keep)?;
    let response = AdjustAttributeResponse {
        unique_identifier: identifier.clone().into(),
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?.with(effects))
}

/// The attribute's value after the adjustment.
fn adjusted(
    reference: &AttributeReference,
    held: Option<V>,
    how: AdjustmentType,
    by: Option<&Value>,
) -> Result<V, Failure> {
    let known = match reference {
        AttributeReference::Standard(tag) => attribute_row(*tag).is_some(),
        AttributeReference::Custom { .. } => true,
        AttributeReference::Unknown(_) => false,
    };
    if !known {
        return Err(Failure::new(
            Cause::UnknownAttribute,
            format_args!("unknown attribute {reference}"),
        ));
    }
    let before = match (&held, reference) {
        (Some(value), _) => value.bare(),
        (None, AttributeReference::Standard(tag)) => ZEROES
            .iter()
            .find(|zero| V::of_bare(*tag, zero).is_some())
            .cloned(),
        // A custom attribute that the object does not have gets the type of the adjustment.
        (None, _) => by.and_then(zero_like),
    };
    let wrong = || {
        Failure::new(
            Cause::InvalidDataType,
            format_args!("{reference} is nothing that can be adjusted in this way"),
        )
    };
    let after = step(&before.ok_or_else(wrong)?, how, by).ok_or_else(wrong)??;
    match reference {
        AttributeReference::Custom { vendor, name } => Ok(V::Custom(CustomAttribute {
            vendor: vendor.clone(),
            name: name.clone(),
            value: Some(after),
        })),
        AttributeReference::Standard(tag) => V::of_bare(*tag, &after).ok_or_else(wrong),
        AttributeReference::Unknown(_) => Err(wrong()),
    }
}

/// The value that a missing attribute counts as, by its type.
const ZEROES: &[Value] = &[
    Value::Integer(0),
    Value::LongInteger(0),
    Value::Interval(Interval(0)),
    Value::Boolean(false),
];

fn zero_like(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Integer(_) => Value::Integer(0),
        Value::LongInteger(_) => Value::LongInteger(0),
        Value::Interval(_) => Value::Interval(Interval(0)),
        Value::Boolean(_) => Value::Boolean(false),
        _ => return None,
    })
}

/// One adjustment; `None` when the types do not match.
fn step(before: &Value, how: AdjustmentType, by: Option<&Value>) -> Option<Result<Value, Failure>> {
    if let Value::Boolean(value) = before {
        return match (how, by) {
            (AdjustmentType::NEGATE, None) => Some(Ok(Value::Boolean(!value))),
            _ => None,
        };
    }
    let number = |value: &Value| match value {
        Value::Integer(n) => Some(i64::from(*n)),
        Value::LongInteger(n) => Some(*n),
        Value::Interval(interval) => Some(i64::from(interval.0)),
        Value::DateTime(date) => Some(date.0),
        _ => None,
    };
    let held = number(before)?;
    let by = match by {
        Some(by) => number(by)?,
        None => 1,
    };
    let after = match how {
        AdjustmentType::INCREMENT => held.checked_add(by),
        AdjustmentType::DECREMENT => held.checked_sub(by),
        AdjustmentType::NEGATE => held.checked_neg(),
        _ => return None,
    };
    let after = after.and_then(|after| {
        Some(match before {
            Value::Integer(_) => Value::Integer(after.try_into().ok()?),
            Value::Interval(_) => Value::Interval(Interval(after.try_into().ok()?)),
            Value::DateTime(_) => Value::DateTime(keyferry_kmip::DateTime(after)),
            _ => Value::LongInteger(after),
        })
    });
    Some(after.ok_or_else(|| {
        Failure::new(
            Cause::NumericRange,
            "the adjusted value would be out of its range",
        )
    }))
}
