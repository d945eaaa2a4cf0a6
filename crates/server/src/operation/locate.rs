use keyferry_kmip::spec::{AttributeValue, ObjectGroupMember, Operation};
use keyferry_kmip::{Attributes, Cause, Failure, LocateRequest, LocateResponse, RequestItem, Text};
use keyferry_s2s::{Answered, Ask, Node, Placeholder, keys};
use keyferry_store::plan::{Located, Query};
use keyferry_store::{Effects, Order, Record, RecordNumber, SnapshotExt, Span, index};
use keyferry_ttlv::{Extra, Version};
use std::ops::ControlFlow;

/// Identifiers in one answer, when the client names no maximum or a larger one.
const MAXIMUM: usize = 10_000;

/// Locate (KMIP 2.1 §6.1.28), newest first, of what the caller may see. Located Items is told to a client that pages, as far as counting is
/// not too much: the OASIS cases want it there and nowhere else.
pub(super) fn locate(node: &Node, ask: &Ask<'_>, item: &RequestItem) -> Result<Answered, Failure> {
    let request: LocateRequest = item.payload(ask.cx)?;
    let count = |given: Option<i32>, otherwise: usize, what: &str| match given.map(usize::try_from)
    {
        None => Ok(otherwise),
        Some(Ok(n)) => Ok(n),
        Some(Err(_)) => Err(Failure::new(
            Cause::InvalidField,
            format_args!("{what} is negative"),
        )),
    };
    let maximum = count(request.maximum_items, MAXIMUM, "Maximum Items")?.min(MAXIMUM);
    let offset = count(request.offset_items, 0, "Offset Items")?;
    let mut attributes = request.attributes;
    if request.object_group_member == Some(ObjectGroupMember::GROUP_MEMBER_FRESH) {
        attributes.push(AttributeValue::Fresh(true));
    }
    // What shows this server's knowledge of others is in no index.
    let mut shadow = Attributes::new();
    attributes.retain(|attribute| {
        let is_shadow = keyferry_s2s::is_shadow(&attribute.value);
        if is_shadow {
            shadow.keep(attribute.clone());
        }
        !is_shadow
    });
    let query = Query::new(
        &attributes,
        request.storage_status_mask,
        ask.cx.version < Version::V2_0,
    )?;
    let pages = request.offset_items.is_some();
    let has_shadow = |record: &Record| {
        let Ok(Some((number, _))) = ask.snapshot.by_object_id(&record.id) else {
            return false;
        };
        let own = node
            .shadow(ask.snapshot, number, record)
            .unwrap_or_default();
        shadow
            .iter()
            .all(|wanted| own.iter().any(|attribute| attribute.value == wanted.value))
    };
    let may_see = |record: &Record| {
        (shadow.is_empty() || has_shadow(record))
            && ask
                .rights
                .check(ask.caller, Operation::LOCATE, record)
                .is_ok()
    };
    let mut effects = Effects::none();
    let located = if request.object_group_member == Some(ObjectGroupMember::GROUP_MEMBER_DEFAULT) {
        let member = default_member(ask, &attributes, &query, &may_see, &mut effects)?;
        Located {
            identifiers: member.into_iter().collect(),
            total: None,
        }
    } else {
        let most = if pages { MAXIMUM } else { maximum };
        query.locate(ask.snapshot, ask.now.wall, (offset, most), &may_see)?
    };
    let mut identifiers = located.identifiers;
    identifiers.truncate(maximum);
    let total = located.total.filter(|_| pages);
    let response = LocateResponse {
        located_items: total.map(|total| i32::try_from(total).unwrap_or(i32::MAX)),
        unique_identifiers: identifiers
            .iter()
            .map(|identifier| identifier.as_str())
            .collect(),
        extra: Extra::NONE,
    };
    let mut outcome = Answered::answer(&response, ask.cx)?.with(effects);
    outcome.placeholder = match identifiers.as_slice() {
        [only] => Placeholder::Set(only.clone()),
        _ => Placeholder::Clear,
    };
    Ok(outcome)
}

/// The member of an Object Group that its clients shall use now: each in turn, the oldest first.
fn default_member(
    ask: &Ask<'_>,
    attributes: &Attributes,
    query: &Query,
    may_see: &dyn Fn(&Record) -> bool,
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
    let scanned = ask.snapshot.scan(
        key.index,
        &Span::exact(&key.key),
        Order::Ascending,
        None,
        &mut |_, number| {
            if first.is_some() && number.0 <= last {
                return Ok(ControlFlow::Continue(()));
            }
            let Some(record) = ask
                .snapshot
                .record(number)?
                .filter(|record| query.matches(record, ask.now.wall) && may_see(record))
            else {
                return Ok(ControlFlow::Continue(()));
            };
            if number.0 > last {
                next = Some((number, record.identifier));
                return Ok(ControlFlow::Break(()));
            }
            first = Some((number, record.identifier));
            Ok(ControlFlow::Continue(()))
        },
    );
    scanned?;
    let Some((number, identifier)) = next.or(first) else {
        return Ok(None);
    };
    effects
        .state
        .push((turn, Some(number.0.to_be_bytes().to_vec())));
    Ok(Some(identifier))
}
