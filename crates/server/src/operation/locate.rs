use keyferry_kmip::{Cause, Failure, LocateRequest, LocateResponse, RequestItem};
use keyferry_s2s::{Ask, Outcome, Placeholder, store_failed};
use keyferry_store::plan::Query;
use keyferry_ttlv::Extra;

/// Identifiers in one answer, when the client names no maximum or a larger one.
const MAXIMUM: usize = 10_000;

/// Locate (KMIP 2.1 §6.1.28), newest first. Located Items is told to a client that pages, as far as counting is not too much: the OASIS
/// cases want it there and nowhere else.
pub(super) fn locate(ask: &Ask<'_>, item: &RequestItem) -> Result<Outcome, Failure> {
    let request: LocateRequest = item.payload(ask.cx)?;
    if request.object_group_member.is_some() {
        return Err(Failure::new(Cause::FeatureNotSupported, "Object Group Member is not supported yet"));
    }
    let count = |given: Option<i32>, otherwise: usize, what: &str| match given.map(usize::try_from) {
        None => Ok(otherwise),
        Some(Ok(n)) => Ok(n),
        Some(Err(_)) => Err(Failure::new(Cause::InvalidField, format_args!("{what} is negative"))),
    };
    let maximum = count(request.maximum_items, MAXIMUM, "Maximum Items")?.min(MAXIMUM);
    let offset = count(request.offset_items, 0, "Offset Items")?;
    let query = Query::new(&request.attributes, request.storage_status_mask)?;
    let pages = request.offset_items.is_some();
    let most = if pages { MAXIMUM } else { maximum };
    let mut located = query.locate(ask.snapshot, ask.now.wall, (offset, most), &|_| true).map_err(store_failed)?;
    located.identifiers.truncate(maximum);
    let total = located.total.filter(|_| pages);
    let response = LocateResponse {
        located_items: total.map(|total| i32::try_from(total).unwrap_or(i32::MAX)),
        unique_identifiers: located.identifiers.iter().map(|identifier| identifier.as_str()).collect(),
        extra: Extra::NONE,
    };
    let mut outcome = Outcome::answer(&response, ask.cx)?;
    outcome.placeholder = match located.identifiers.as_slice() {
        [only] => Placeholder::Set(only.clone()),
        _ => Placeholder::Clear,
    };
    Ok(outcome)
}
