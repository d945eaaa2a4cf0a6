//! Operations on an object's life and use: Activate, Revoke, Destroy, Archive, Recover, leases, usage.

use super::payloads;
use crate::attribute::structure::RevocationReason;
use crate::identifier::UniqueIdentifier;
use crate::object::Certificate;
use crate::spec::*;
use keyferry_ttlv::{DateTime, Decode, Downgrade, Encode, Extra, Interval};

payloads! {
    /// KMIP 2.1 §6.1.1, since 1.0.
    #[derive(Default)]
    ActivateRequest: ACTIVATE {
        unique_identifier: Option<UniqueIdentifier>,
    }
    /// KMIP 2.1 §6.1.1, since 1.0.
    ActivateResponse: ACTIVATE {
        unique_identifier: UniqueIdentifier,
    }
    /// KMIP 2.1 §6.1.44, since 1.0.
    RevokeRequest: REVOKE {
        unique_identifier: Option<UniqueIdentifier>,
        revocation_reason: RevocationReason,
        #[ttlv(tag = tag::COMPROMISE_OCCURRENCE_DATE)]
        compromise_occurrence_date: Option<DateTime>,
    }
    /// KMIP 2.1 §6.1.44, since 1.0.
    RevokeResponse: REVOKE {
        unique_identifier: UniqueIdentifier,
    }
    /// KMIP 2.1 §6.1.15, since 1.0.
    #[derive(Default)]
    DestroyRequest: DESTROY {
        unique_identifier: Option<UniqueIdentifier>,
    }
    /// KMIP 2.1 §6.1.15, since 1.0.
    DestroyResponse: DESTROY {
        unique_identifier: UniqueIdentifier,
    }
    /// KMIP 2.1 §6.1.4, since 1.0.
    #[derive(Default)]
    ArchiveRequest: ARCHIVE {
        unique_identifier: Option<UniqueIdentifier>,
    }
    /// KMIP 2.1 §6.1.4, since 1.0.
    ArchiveResponse: ARCHIVE {
        unique_identifier: UniqueIdentifier,
    }
    /// KMIP 2.1 §6.1.42, since 1.0.
    #[derive(Default)]
    RecoverRequest: RECOVER {
        unique_identifier: Option<UniqueIdentifier>,
    }
    /// KMIP 2.1 §6.1.42, since 1.0.
    RecoverResponse: RECOVER {
        unique_identifier: UniqueIdentifier,
    }
    /// KMIP 2.1 §6.1.35, since 1.0.
    #[derive(Default)]
    ObtainLeaseRequest: OBTAIN_LEASE {
        unique_identifier: Option<UniqueIdentifier>,
    }
    /// KMIP 2.1 §6.1.35, since 1.0.
    ObtainLeaseResponse: OBTAIN_LEASE {
        unique_identifier: UniqueIdentifier,
        #[ttlv(tag = tag::LEASE_TIME)]
        lease_time: Interval,
        #[ttlv(tag = tag::LAST_CHANGE_DATE)]
        last_change_date: DateTime,
    }
    /// KMIP 2.1 §6.1.23, since 1.0.
    GetUsageAllocationRequest: GET_USAGE_ALLOCATION {
        unique_identifier: Option<UniqueIdentifier>,
        #[ttlv(tag = tag::USAGE_LIMITS_COUNT)]
        usage_limits_count: i64,
    }
    /// KMIP 2.1 §6.1.23, since 1.0.
    GetUsageAllocationResponse: GET_USAGE_ALLOCATION {
        unique_identifier: UniqueIdentifier,
    }
    /// KMIP 2.1 §6.1.57, since 1.0.
    #[derive(Default)]
    ValidateRequest: VALIDATE {
        #[ttlv(tag = tag::CERTIFICATE)]
        certificates: Vec<Certificate>,
        unique_identifiers: Vec<UniqueIdentifier>,
        #[ttlv(tag = tag::VALIDITY_DATE)]
        validity_date: Option<DateTime>,
    }
    /// KMIP 2.1 §6.1.57, since 1.0.
    ValidateResponse: VALIDATE {
        validity_indicator: ValidityIndicator,
    }
}
