//! Every failure has a Result Reason that its version knows.

use keyferry_kmip::spec::ResultReason;
use keyferry_kmip::{Cause, Failure, VERSIONS};
use keyferry_ttlv::Version;

const CAUSES: &[Cause] = &[
    Cause::ObjectNotFound,
    Cause::ObjectExists,
    Cause::NameExists,
    Cause::NameTaken,
    Cause::PermissionDenied,
    Cause::Authentication,
    Cause::ReadOnlyAttribute,
    Cause::AttributeSettled,
    Cause::AttributeNotFound,
    Cause::AttributeAbsent,
    Cause::InstanceNotFound,
    Cause::AttributeExists,
    Cause::UnknownAttribute,
    Cause::InvalidAttribute,
    Cause::WrongState,
    Cause::ObjectDestroyed,
    Cause::ObjectGone,
    Cause::ObjectArchived,
    Cause::InvalidMessage,
    Cause::InvalidField,
    Cause::InvalidDataType,
    Cause::MissingData,
    Cause::UnsupportedVersion,
    Cause::OperationNotSupported,
    Cause::FeatureNotSupported,
    Cause::UnknownExtension,
    Cause::KeyFormatNotSupported,
    Cause::KeyCompressionNotSupported,
    Cause::KeyWrapNotSupported,
    Cause::WrappingKeyNotFound,
    Cause::WrappingKeyDestroyed,
    Cause::WrappingKeyArchived,
    Cause::ProtectionStorage,
    Cause::EncodingOption,
    Cause::UsageMask,
    Cause::UsageLimitExceeded,
    Cause::InvalidObjectType,
    Cause::MultiValuedAttribute,
    Cause::NumericRange,
    Cause::KeyValueNotPresent,
    Cause::ResponseTooLarge,
    Cause::RequestTooLarge,
    Cause::Sensitive,
    Cause::NotExtractable,
    Cause::Cryptographic,
    Cause::ServerLimit,
    Cause::Internal,
];

#[test]
fn each_reason_exists_in_its_version() {
    for version in VERSIONS {
        for cause in CAUSES {
            let reason = Failure::new(*cause, "").reason(*version);
            let row = ResultReason::DOMAIN
                .values
                .iter()
                .find(|row| row.value == reason.0)
                .unwrap();
            assert!(
                row.versions.contain(*version),
                "{cause:?} is {reason} in {version}"
            );
        }
    }
}

#[test]
fn reasons_that_2_x_reserves_are_not_sent_there() {
    for cause in CAUSES {
        let reason = Failure::new(*cause, "").reason(Version::V2_1);
        assert!(
            !matches!(reason, ResultReason(0x0B) | ResultReason(0x0E)),
            "{cause:?}"
        );
    }
}
