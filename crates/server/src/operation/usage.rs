//! Check, Obtain Lease and Get Usage Allocation: whether, how long and how much an object may be used.

use super::{Operations, changed, own};
use keyferry_kmip::spec::{AttributeValue as V, CryptographicUsageMask, ObjectType, tag};
use keyferry_kmip::{
    Cause, CheckRequest, CheckResponse, Failure, GetUsageAllocationRequest,
    GetUsageAllocationResponse, ObtainLeaseRequest, ObtainLeaseResponse, RequestItem,
};
use keyferry_s2s::{Answered, Ask, KeyUse, Placeholder, check_usable};
use keyferry_store::{Material, Record};
use keyferry_ttlv::{Extra, Version};

/// The amount of use that is left, where it is limited.
fn left(record: &Record) -> Option<i64> {
    record.attributes.iter().find_map(|a| match &a.value {
        V::UsageLimits(limits) => Some(limits.count.unwrap_or(limits.total)),
        _ => None,
    })
}

/// Check (KMIP 2.1 §6.1.7): the answer has only what forbids the use that the client intends; the ID Placeholder is empty then.
pub(super) fn check(
    ops: &Operations,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: CheckRequest = item.payload(ask.cx)?;
    let (_, record) = ask.record(request.unique_identifier.as_ref())?;
    check_present(&record)?;
    let allowed = usage_mask(&record).unwrap_or_default();
    let lease = ops.settings.lease_time;
    let usage_limits_count = request
        .usage_limits_count
        .filter(|count| left(&record).is_some_and(|left| *count > left));
    let cryptographic_usage_mask = request
        .cryptographic_usage_mask
        .filter(|mask| mask.0 & !allowed.0 != 0);
    let lease_time = request
        .lease_time
        .filter(|wanted| lease.0 != 0 && (wanted.0 > lease.0 || wanted.0 == 0));
    if ask.cx.version >= Version::V2_0 {
        check_limits(
            cryptographic_usage_mask.is_some(),
            usage_limits_count.is_some(),
        )?;
    }
    let denied =
        usage_limits_count.is_some() || cryptographic_usage_mask.is_some() || lease_time.is_some();
    let response = CheckResponse {
        unique_identifier: (!denied).then(|| record.identifier.clone().into()),
        usage_limits_count,
        cryptographic_usage_mask,
        lease_time,
        extra: Extra::NONE,
    };
    let mut outcome = Answered::answer(&response, ask.cx)?;
    if denied {
        outcome.placeholder = Placeholder::Clear;
    }
    Ok(outcome)
}

/// Fails when an object is destroyed or archived.
fn check_present(record: &Record) -> Result<(), Failure> {
    if record.is_destroyed() {
        return Err(Failure::new(
            Cause::ObjectDestroyed,
            "the object was destroyed",
        ));
    }
    if record.attributes.get(tag::ARCHIVE_DATE).is_some() {
        return Err(Failure::new(
            Cause::ObjectArchived,
            "the object is archived",
        ));
    }
    Ok(())
}

/// Fails when the mask or the limits forbid a use, for which 2.x has Result Reasons.
fn check_limits(mask_forbids: bool, limits_forbid: bool) -> Result<(), Failure> {
    if mask_forbids {
        return Err(Failure::new(
            Cause::UsageMask,
            "the Cryptographic Usage Mask does not allow it",
        ));
    }
    if limits_forbid {
        return Err(Failure::new(
            Cause::UsageLimitExceeded,
            "the Usage Limits do not allow it",
        ));
    }
    Ok(())
}

fn usage_mask(record: &Record) -> Option<CryptographicUsageMask> {
    record.attributes.iter().find_map(|a| match a.value {
        V::CryptographicUsageMask(mask) => Some(mask),
        _ => None,
    })
}

/// Obtain Lease (KMIP 2.1 §6.1.35): for objects that are not destroyed or compromised.
pub(super) fn obtain_lease(
    ops: &Operations,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: ObtainLeaseRequest = item.payload(ask.cx)?;
    let (_, record) = ask.record(request.unique_identifier.as_ref())?;
    if record.is_destroyed() {
        return Err(Failure::new(
            Cause::ObjectDestroyed,
            "the object was destroyed",
        ));
    }
    if record.is_compromised() {
        return Err(Failure::new(
            Cause::WrongState,
            "no lease is given for a compromised object",
        ));
    }
    if record.attributes.get(tag::ARCHIVE_DATE).is_some() {
        return Err(Failure::new(
            Cause::ObjectArchived,
            "the object is archived",
        ));
    }
    let lease_time = record.attributes.iter().find_map(|a| match a.value {
        V::LeaseTime(lease) => Some(lease),
        _ => None,
    });
    let response = ObtainLeaseResponse {
        unique_identifier: record.identifier.clone().into(),
        lease_time: lease_time.unwrap_or(ops.settings.lease_time),
        last_change_date: record
            .attributes
            .date(tag::LAST_CHANGE_DATE)
            .unwrap_or(ask.now.wall),
        extra: Extra::NONE,
    };
    Answered::answer(&response, ask.cx)
}

/// The uses that apply protection.
const PROTECTS: CryptographicUsageMask = CryptographicUsageMask(
    CryptographicUsageMask::SIGN.0
        | CryptographicUsageMask::ENCRYPT.0
        | CryptographicUsageMask::WRAP_KEY.0
        | CryptographicUsageMask::MAC_GENERATE.0
        | CryptographicUsageMask::DERIVE_KEY.0
        | CryptographicUsageMask::CERTIFICATE_SIGN.0
        | CryptographicUsageMask::CRL_SIGN.0,
);

/// Get Usage Allocation (KMIP 2.1 §6.1.23): takes an amount from the rest of the Usage Limits, while the object may apply protection.
pub(super) fn allocate(
    ops: &Operations,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: GetUsageAllocationRequest = item.payload(ask.cx)?;
    let before = own(&ops.node, ask, request.unique_identifier.as_ref())?;
    let record = &before.1;
    let wanted = request.usage_limits_count;
    if wanted <= 0 {
        return Err(Failure::new(
            Cause::InvalidField,
            "the Usage Limits Count is not above 0",
        ));
    }
    check_protects(record)?;
    let Some(left) = left(record) else {
        return Err(Failure::new(
            Cause::AttributeNotFound,
            "the object has no Usage Limits",
        ));
    };
    check_usable(record, ask.now.wall, KeyUse::Protect)?;
    if wanted > left {
        return Err(Failure::new(
            Cause::UsageLimitExceeded,
            format_args!("{wanted} is asked for, and {left} left"),
        ));
    }
    let mut after = before.1.clone();
    for attribute in after.attributes.iter_mut() {
        if let V::UsageLimits(limits) = &mut attribute.value {
            limits.count = Some(left - wanted);
        }
    }
    let identifier = after.identifier.clone();
    let effects = changed(&ops.node, ask, before, after, Material::Keep)?;
    let response = GetUsageAllocationResponse {
        unique_identifier: identifier.clone().into(),
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?.with(effects))
}

/// Fails when an object can never apply protection.
fn check_protects(record: &Record) -> Result<(), Failure> {
    let is_key = matches!(
        record.object_type,
        ObjectType::SYMMETRIC_KEY
            | ObjectType::PRIVATE_KEY
            | ObjectType::PUBLIC_KEY
            | ObjectType::SPLIT_KEY
            | ObjectType::PGP_KEY
            | ObjectType::SECRET_DATA
    );
    if !is_key {
        return Err(Failure::new(
            Cause::InvalidObjectType,
            format_args!("a {} applies no protection", record.object_type),
        ));
    }
    if usage_mask(record).is_some_and(|mask| mask.0 & PROTECTS.0 == 0) {
        return Err(Failure::new(
            Cause::PermissionDenied,
            "the object may not be used to apply protection",
        ));
    }
    Ok(())
}
