//! The requests that clients make most, in one line each.
//!
//! ```
//! use keyferry_kmip::{*, spec::*};
//! use keyferry_ttlv::Version;
//!
//! let create = CreateRequest::symmetric_key(CryptographicAlgorithm::AES, 256).named("backup key");
//! let locate = LocateRequest::by_name("backup key");
//! let batch = RequestMessage::of(Version::V1_4, [create.into(), locate.into(), GetRequest::default().into()]);
//! assert_eq!(batch.header.batch_count, 3);
//! let frame = batch.to_frame()?;
//! # Ok::<(), keyferry_ttlv::Error>(())
//! ```

use super::*;
use crate::attribute::Attributes;
use crate::attribute::reference::AttributeReferences;
use crate::attribute::structure::{Name, RevocationReason};
use crate::identifier::UniqueIdentifier;
use crate::message::request::{RequestItem, RequestMessage};
use crate::object::Object;
use crate::spec::attribute::AttributeValue as V;
use keyferry_ttlv::{DateTime, Extra, Text, Version};

impl CreateRequest {
    /// A symmetric key of so many bits, to encrypt and decrypt with.
    pub fn symmetric_key(algorithm: CryptographicAlgorithm, bits: i32) -> Self {
        let usage = CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT;
        let attributes = Attributes::new()
            .with(V::CryptographicAlgorithm(algorithm))
            .with(V::CryptographicLength(bits))
            .with(V::CryptographicUsageMask(usage));
        CreateRequest {
            object_type: ObjectType::SYMMETRIC_KEY,
            attributes: attributes.into(),
            protection_storage_masks: None,
            extra: Extra::NONE,
        }
    }

    /// Adds a Name.
    #[must_use]
    pub fn named(mut self, name: impl Into<Text>) -> Self {
        self.attributes.push(V::Name(Name::text(name)));
        self
    }
}

impl RegisterRequest {
    /// A request to register this object with these attributes.
    pub fn of(object: Object, attributes: Attributes) -> Self {
        RegisterRequest {
            object_type: object.object_type(),
            attributes: attributes.into(),
            object: Some(object),
            protection_storage_masks: None,
            extra: Extra::NONE,
        }
    }

    /// Adds a Name.
    #[must_use]
    pub fn named(mut self, name: impl Into<Text>) -> Self {
        self.attributes.push(V::Name(Name::text(name)));
        self
    }
}

impl LocateRequest {
    /// The objects with these attributes.
    pub fn of(attributes: Attributes) -> Self {
        LocateRequest {
            attributes,
            ..LocateRequest::default()
        }
    }

    /// The objects with this Name.
    pub fn by_name(name: impl Into<Text>) -> Self {
        LocateRequest::of(Attributes::new().with(V::Name(Name::text(name))))
    }
}

impl GetAttributesRequest {
    /// All attributes of an object.
    pub fn of(unique_identifier: impl Into<UniqueIdentifier>) -> Self {
        let references = AttributeReferences::default();
        GetAttributesRequest {
            unique_identifier: Some(unique_identifier.into()),
            references,
            extra: Extra::NONE,
        }
    }
}

impl RevokeRequest {
    /// A request to revoke an object for this reason; a compromise needs the date since when.
    pub fn of(
        unique_identifier: impl Into<UniqueIdentifier>,
        code: RevocationReasonCode,
        compromise_occurrence_date: Option<DateTime>,
    ) -> Self {
        RevokeRequest {
            unique_identifier: Some(unique_identifier.into()),
            revocation_reason: RevocationReason {
                code,
                message: None,
                extra: Extra::NONE,
            },
            compromise_occurrence_date,
            extra: Extra::NONE,
        }
    }
}

macro_rules! of_an_object {
    ($($request:ident: $what:literal,)*) => {$(
        impl $request {
            #[doc = concat!($what, " this object.")]
            pub fn of(unique_identifier: impl Into<UniqueIdentifier>) -> Self {
                $request { unique_identifier: Some(unique_identifier.into()), ..$request::default() }
            }
        }
    )*};
}

of_an_object! {
    GetRequest: "Gets",
    GetAttributeListRequest: "Names the attributes of",
    ActivateRequest: "Activates",
    DestroyRequest: "Destroys",
    ArchiveRequest: "Archives",
    RecoverRequest: "Recovers",
    ExportRequest: "Exports",
    ObtainLeaseRequest: "Obtains a lease for",
    CheckRequest: "Checks",
}

impl RequestMessage<RequestPayload> {
    /// A request of these operations, one after another.
    pub fn of(version: Version, payloads: impl IntoIterator<Item = RequestPayload>) -> Self {
        let item = |payload: RequestPayload| RequestItem::of(payload.operation(), payload);
        RequestMessage::new(version, payloads.into_iter().map(item).collect())
    }
}
