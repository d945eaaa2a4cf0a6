//! Locate.

use keyferry_kmip::spec::{AttributeValue, ObjectGroupMember, Operation};
use keyferry_kmip::{Attributes, Cause, Failure, LocateRequest, LocateResponse, RequestItem, Text};
use keyferry_s2s::{Answered, Ask, Node, Placeholder, keys};
use keyferry_store::plan::{Located, Query};
use keyferry_store::{Effects, Error, Order, Record, RecordNumber, SnapshotExt, Span, index};
use keyferry_ttlv::{Extra, Version};
use std::cell::Cell;
use std::ops::ControlFlow;

/// The most identifiers in one answer.
const MAXIMUM: usize = 10_000;

/// Locate (KMIP 2.1 §6.1.28): finds objects that the caller may see, newest first. Located Items is in the answer to a client that pages,
/// unless counting takes too long: the OASIS cases want it there and nowhere else.
pub(super) fn locate(node: &Node, ask: &Ask<'_>, item: &RequestItem) -> Result<Answered, Failure> {
    let request: LocateRequest = item.payload(ask.cx)?;
    let maximum = count(request.maximum_items, MAXIMUM, "Maximum Items")?.min(MAXIMUM);
    let offset = count(request.offset_items, 0, "Offset Items")?;
    let pages = request.offset_items.is_some();
    let mut attributes = request.attributes;
    if request.object_group_member == Some(ObjectGroupMember::GROUP_MEMBER_FRESH) {
        attributes.push(AttributeValue::Fresh(true));
    }
    let shadow = split_shadow(&mut attributes);
    let query = Query::new(
        &attributes,
        request.storage_status_mask,
        ask.cx.version < Version::V2_0,
    )?;
    // The failure that stopped the search.
    let failed = Cell::new(None);
    let may_see = |record: &Record| {
        may_see(node, ask, &shadow, record).map_err(|failure| {
            failed.set(Some(failure));
            Error::aborted()
        })
    };
    let mut effects = Effects::none();
    let located = if request.object_group_member == Some(ObjectGroupMember::GROUP_MEMBER_DEFAULT) {
        default_member(ask, &attributes, &query, &may_see, &mut effects).map(|member| Located {
            identifiers: member.into_iter().collect(),
            total: None,
        })
    } else {
        let most = if pages { MAXIMUM } else { maximum };
        query
            .locate(ask.snapshot, ask.now.wall, (offset, most), &may_see)
            .map_err(Failure::from)
    };
    let mut located = match failed.take() {
        Some(failure) => return Err(failure),
        None => located?,
    };
    located.identifiers.truncate(maximum);
    located.total = located.total.filter(|_| pages);
    answer(ask, &located, effects)
}

/// A number of items that a request gives, or the default.
fn count(given: Option<i32>, default: usize, what: &str) -> Result<usize, Failure> {
    match given.map(usize::try_from) {
        None => Ok(default),
        Some(Ok(n)) => Ok(n),
        Some(Err(_)) => Err(Failure::new(
            Cause::InvalidField,
            format_args!("{what} is negative"),
        )),
    }
}

/// Takes the attributes out that show what this server knows of others, which are in no index.
fn split_shadow(attributes: &mut Attributes) -> Attributes {
    let mut shadow = Attributes::new();
    attributes.retain(|attribute| {
        let is_shadow = keyferry_s2s::is_shadow(&attribute.value);
        if is_shadow {
            shadow.keep(attribute.clone());
        }
        !is_shadow
    });
    shadow
}

/// Whether the caller may see a record, and it has all attributes of `shadow`.
fn may_see(
    node: &Node,
    ask: &Ask<'_>,
    shadow: &Attributes,
    record: &Record,
) -> Result<bool, Failure> {
    let permitted = ask.rights.check(ask.caller, Operation::LOCATE, record);
    Ok(permitted.is_ok() && (shadow.is_empty() || has_shadow(node, ask, shadow, record)?))
}

fn has_shadow(
    node: &Node,
    ask: &Ask<'_>,
    shadow: &Attributes,
    record: &Record,
) -> Result<bool, Failure> {
    let Some((number, _)) = ask.snapshot.by_object_id(&record.id)? else {
        return Ok(false);
    };
    let own = node.shadow(ask.snapshot, number, record)?;
    Ok(shadow
        .iter()
        .all(|wanted| own.iter().any(|attribute| attribute.value == wanted.value)))
}

fn answer(ask: &Ask<'_>, located: &Located, effects: Effects) -> Result<Answered, Failure> {
    let response = LocateResponse {
        located_items: located
            .total
            .map(|total| i32::try_from(total).unwrap_or(i32::MAX)),
        unique_identifiers: located
            .identifiers
            .iter()
            .map(|identifier| identifier.as_str())
            .collect(),
        extra: Extra::NONE,
    };
    let mut answered = Answered::answer(&response, ask.cx)?.with(effects);
    answered.placeholder = match located.identifiers.as_slice() {
        [only] => Placeholder::Set(only.clone()),
        _ => Placeholder::Clear,
    };
    Ok(answered)
}

/// The member of an Object Group that clients are to use now: each in turn, the oldest first.
fn default_member(
    ask: &Ask<'_>,
    attributes: &Attributes,
    query: &Query,
    may_see: &dyn Fn(&Record) -> keyferry_store::Result<bool>,
    effects: &mut Effects,
) -> Result<Option<Text>, Failure> {
    let group = attributes.iter().find_map(|a| match &a.value {
        AttributeValue::ObjectGroup(group) => Some(group),
        _ => None,
    });
    let group = group.ok_or_else(|| {
        Failure::new(
            Cause::InvalidField,
            "Object Group Member needs an Object Group",
        )
    })?;
    let key = index::object_group(group);
    let turn = keys::group_member(&key.key);
    let last = ask.snapshot.state_value(&turn)?;
    let last = last
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_be_bytes);
    let (mut first, mut next): (Option<(RecordNumber, Text)>, Option<(RecordNumber, Text)>) =
        (None, None);
    ask.snapshot.scan(
        key.index,
        &Span::exact(&key.key),
        Order::Ascending,
        None,
        &mut |_, number| {
            if first.is_some() && number.0 <= last {
                return Ok(ControlFlow::Continue(()));
            }
            let record = ask.snapshot.record(number)?;
            let Some(record) = record.filter(|record| query.matches(record, ask.now.wall)) else {
                return Ok(ControlFlow::Continue(()));
            };
            if !may_see(&record)? {
                return Ok(ControlFlow::Continue(()));
            }
            if number.0 > last {
                next = Some((number, record.identifier));
                return Ok(ControlFlow::Break(()));
            }
            first = Some((number, record.identifier));
            Ok(ControlFlow::Continue(()))
        },
    )?;
    let Some((number, identifier)) = next.or(first) else {
        return Ok(None);
    };
    effects
        .state
        .push((turn, Some(number.0.to_be_bytes().to_vec())));
    Ok(Some(identifier))
}
