//! [`Failure`], the reason why an operation failed, and the Result Reason that each version has for it.

use crate::escape::escaped;
use crate::spec::enumeration::message::ResultReason as R;
use keyferry_ttlv::{ErrorKind, Version};
use std::fmt;
use std::sync::Arc;

/// Why an operation failed. One value per cause; which Result Reason a version has for it is decided in one place, [`Failure::reason`].
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    cause: Cause,
    message: String,
    /// The rule that denied it, for the log alone.
    rule: Option<String>,
    #[cfg_attr(feature = "serde", serde(skip))]
    source: Source,
}

/// The error that caused a failure. It is for the server's own code and log: it takes no part in comparisons and is never sent.
#[derive(Clone, Debug, Default)]
struct Source(Option<Arc<dyn std::error::Error + Send + Sync>>);

impl PartialEq for Source {
    fn eq(&self, _: &Source) -> bool {
        true
    }
}

impl Eq for Source {}

/// Bytes of a Result Message.
const LONGEST: usize = 400;

/// The causes of failure.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The object does not exist, or the caller may not know of it.
    ObjectNotFound,
    /// An object has this identifier already.
    ObjectExists,
    /// An object has this Name already, and the request would create another.
    NameExists,
    /// An object has this Name already, and the request would add or change one.
    NameTaken,
    /// The caller may not do this.
    PermissionDenied,
    /// The credentials are not good, or too many, or missing.
    Authentication,
    /// The attribute can't be changed by a client, or not any more.
    ReadOnlyAttribute,
    /// The object's State does not allow the attribute to be changed any more.
    AttributeSettled,
    /// The object has no such attribute.
    AttributeNotFound,
    /// The object has no such attribute, to be modified.
    AttributeAbsent,
    /// The object has no such instance of the attribute, to be changed.
    InstanceNotFound,
    /// The object has the single instance of this attribute already.
    AttributeExists,
    /// The attribute is unknown, or the version does not have it.
    UnknownAttribute,
    /// The attribute's value is not allowed.
    InvalidAttribute,
    /// The object's State does not allow it.
    WrongState,
    /// The object was destroyed.
    ObjectDestroyed,
    /// The object was destroyed, and nothing of what is asked for is left.
    ObjectGone,
    /// The object is archived.
    ObjectArchived,
    /// The message is malformed or contradicts itself.
    InvalidMessage,
    /// A field's value is not allowed.
    InvalidField,
    /// The message holds a field of the wrong type or size, so that it can't be read.
    InvalidDataType,
    /// A required field is missing.
    MissingData,
    /// The version is not spoken.
    UnsupportedVersion,
    /// The operation is not there.
    OperationNotSupported,
    /// Part of the operation is not there.
    FeatureNotSupported,
    /// A critical extension is unknown.
    UnknownExtension,
    /// The object can't be returned in this format.
    KeyFormatNotSupported,
    /// The object can't be returned compressed in this way.
    KeyCompressionNotSupported,
    /// The object can't be returned wrapped in this way.
    KeyWrapNotSupported,
    /// No wrapping key has this identifier.
    WrappingKeyNotFound,
    /// The wrapping key was destroyed.
    WrappingKeyDestroyed,
    /// The wrapping key is archived.
    WrappingKeyArchived,
    /// The object can't be kept where it shall be kept.
    ProtectionStorage,
    /// The Encoding Option does not fit what is wrapped.
    EncodingOption,
    /// The Cryptographic Usage Mask does not allow it.
    UsageMask,
    /// More usage is asked for than is left.
    UsageLimitExceeded,
    /// The operation does not take objects of this type.
    InvalidObjectType,
    /// The attribute has several instances, and the operation takes one.
    MultiValuedAttribute,
    /// The number would be out of its range.
    NumericRange,
    /// The server does not hold the key value.
    KeyValueNotPresent,
    /// The answer would exceed the Maximum Response Size.
    ResponseTooLarge,
    /// The message exceeds what the server takes.
    RequestTooLarge,
    /// The object is Sensitive and not to be had in the clear.
    Sensitive,
    /// The object is not Extractable.
    NotExtractable,
    /// The cryptographic library failed.
    Cryptographic,
    /// The request goes beyond a limit of the server.
    ServerLimit,
    /// The server failed.
    Internal,
}

impl Failure {
    /// A failure. `message` goes to the peer and must not hold key material. A long one is cut, and what does not print in it is
    /// [escaped](crate::Escaped).
    pub fn new(cause: Cause, message: impl fmt::Display) -> Self {
        let mut message = escaped(message.to_string());
        if message.len() > LONGEST {
            message.truncate(message.floor_char_boundary(LONGEST));
            message.push_str("...");
        }
        Failure {
            cause,
            message,
            rule: None,
            source: Source::default(),
        }
    }

    /// The same failure with the error that caused it, for [`source`](std::error::Error::source): the peer is not told of it.
    #[must_use]
    pub fn caused_by(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Failure {
            source: Source(Some(Arc::new(source))),
            ..self
        }
    }

    /// A denial. The caller learns only that access was denied; the log gets the rule.
    pub fn denied(rule: impl fmt::Display) -> Self {
        Failure {
            rule: Some(escaped(rule.to_string())),
            ..Failure::new(Cause::PermissionDenied, "access denied")
        }
    }

    /// The rule of a denial, which is not sent to the caller.
    pub fn rule(&self) -> Option<&str> {
        self.rule.as_deref()
    }

    /// The cause.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// The Result Message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The Result Reason that `version` has for it (KMIP 2.1 §11.46, 1.4 §9.1.3.2.29 and §11).
    pub fn reason(&self, version: Version) -> R {
        use Cause as C;
        let two = version >= Version::V2_0;
        let pick = |one: R, other: R| if two { other } else { one };
        match self.cause {
            C::ObjectNotFound => pick(R::ITEM_NOT_FOUND, R::OBJECT_NOT_FOUND),
            C::ObjectExists if version >= Version::V1_4 => R::OBJECT_ALREADY_EXISTS,
            C::ObjectExists => R::ILLEGAL_OPERATION,
            C::NameExists => pick(R::INVALID_FIELD, R::NON_UNIQUE_NAME_ATTRIBUTE),
            C::NameTaken => pick(R::ILLEGAL_OPERATION, R::NON_UNIQUE_NAME_ATTRIBUTE),
            C::Authentication => R::AUTHENTICATION_NOT_SUCCESSFUL,
            C::ReadOnlyAttribute => pick(R::PERMISSION_DENIED, R::ATTRIBUTE_READ_ONLY),
            // Of Modify Attribute and Add Attribute since 2.1 (KMIP 2.1 §6.1.34.1; 2.0 has it for other operations alone).
            C::AttributeSettled if version >= Version::V2_1 => R::WRONG_KEY_LIFECYCLE_STATE,
            C::AttributeNotFound => pick(R::ITEM_NOT_FOUND, R::ATTRIBUTE_NOT_FOUND),
            C::AttributeAbsent => pick(R::INVALID_FIELD, R::ATTRIBUTE_NOT_FOUND),
            C::InstanceNotFound => pick(R::ITEM_NOT_FOUND, R::ATTRIBUTE_INSTANCE_NOT_FOUND),
            C::AttributeExists => pick(R::ILLEGAL_OPERATION, R::ATTRIBUTE_SINGLE_VALUED),
            C::UnknownAttribute => pick(R::INVALID_FIELD, R::INVALID_ATTRIBUTE),
            C::InvalidAttribute => pick(R::INVALID_FIELD, R::INVALID_ATTRIBUTE_VALUE),
            C::WrongState => pick(R::PERMISSION_DENIED, R::WRONG_KEY_LIFECYCLE_STATE),
            C::ObjectDestroyed => pick(R::PERMISSION_DENIED, R::OBJECT_DESTROYED),
            C::ObjectGone => pick(R::ITEM_NOT_FOUND, R::OBJECT_DESTROYED),
            C::ObjectArchived => R::OBJECT_ARCHIVED,
            C::InvalidMessage | C::RequestTooLarge => R::INVALID_MESSAGE,
            C::InvalidDataType => pick(R::INVALID_FIELD, R::INVALID_DATA_TYPE),
            C::MissingData => R::MISSING_DATA,
            C::UnsupportedVersion => pick(R::INVALID_MESSAGE, R::UNSUPPORTED_PROTOCOL_VERSION),
            C::OperationNotSupported => R::OPERATION_NOT_SUPPORTED,
            C::FeatureNotSupported => R::FEATURE_NOT_SUPPORTED,
            C::UnknownExtension => pick(R::FEATURE_NOT_SUPPORTED, R::UNKNOWN_MESSAGE_EXTENSION),
            C::InvalidField => R::INVALID_FIELD,
            C::ProtectionStorage => {
                pick(R::FEATURE_NOT_SUPPORTED, R::PROTECTION_STORAGE_UNAVAILABLE)
            }
            C::KeyFormatNotSupported
            | C::KeyCompressionNotSupported
            | C::KeyWrapNotSupported
            | C::WrappingKeyNotFound
            | C::WrappingKeyArchived
            | C::WrappingKeyDestroyed
            | C::KeyValueNotPresent
            | C::Sensitive
            | C::NotExtractable
            | C::EncodingOption => self.key_form_reason(version),
            C::UsageMask => pick(
                R::PERMISSION_DENIED,
                R::INCOMPATIBLE_CRYPTOGRAPHIC_USAGE_MASK,
            ),
            C::UsageLimitExceeded => pick(R::PERMISSION_DENIED, R::USAGE_LIMIT_EXCEEDED),
            C::InvalidObjectType => pick(R::INVALID_FIELD, R::INVALID_OBJECT_TYPE),
            C::MultiValuedAttribute => pick(R::INVALID_FIELD, R::MULTI_VALUED_ATTRIBUTE),
            C::NumericRange => pick(R::INVALID_FIELD, R::NUMERIC_RANGE),
            C::ResponseTooLarge => R::RESPONSE_TOO_LARGE,
            C::PermissionDenied | C::AttributeSettled => R::PERMISSION_DENIED,
            C::Cryptographic => R::CRYPTOGRAPHIC_FAILURE,
            C::Internal => pick(R::GENERAL_FAILURE, R::INTERNAL_SERVER_ERROR),
            C::ServerLimit => pick(R::INDEX_OUT_OF_BOUNDS, R::SERVER_LIMIT_EXCEEDED),
        }
    }

    /// The Result Reason of a cause that lies in the form of a key, in its wrapping, or in what of it may leave.
    fn key_form_reason(&self, version: Version) -> R {
        let two = version >= Version::V2_0;
        let pick = |one: R, other: R| if two { other } else { one };
        match self.cause {
            Cause::KeyFormatNotSupported => R::KEY_FORMAT_TYPE_NOT_SUPPORTED,
            Cause::KeyCompressionNotSupported => R::KEY_COMPRESSION_TYPE_NOT_SUPPORTED,
            Cause::KeyWrapNotSupported => {
                pick(R::FEATURE_NOT_SUPPORTED, R::KEY_WRAP_TYPE_NOT_SUPPORTED)
            }
            Cause::WrappingKeyNotFound => pick(R::ITEM_NOT_FOUND, R::WRAPPING_OBJECT_NOT_FOUND),
            Cause::WrappingKeyArchived => pick(R::OBJECT_ARCHIVED, R::WRAPPING_OBJECT_ARCHIVED),
            Cause::WrappingKeyDestroyed => pick(R::PERMISSION_DENIED, R::WRAPPING_OBJECT_DESTROYED),
            Cause::KeyValueNotPresent if version >= Version::V1_2 => R::KEY_VALUE_NOT_PRESENT,
            Cause::KeyValueNotPresent => R::ITEM_NOT_FOUND,
            Cause::Sensitive if version >= Version::V1_4 => R::SENSITIVE,
            Cause::NotExtractable if version >= Version::V1_4 => R::NOT_EXTRACTABLE,
            Cause::Sensitive | Cause::NotExtractable => R::PERMISSION_DENIED,
            Cause::EncodingOption if version >= Version::V1_1 => R::ENCODING_OPTION_ERROR,
            _ => R::INVALID_FIELD,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.source.0.as_deref()?;
        Some(source)
    }
}

/// The failure with which a message that can't be read is answered. It names the place in the message, and none of its bytes.
impl From<keyferry_ttlv::Error> for Failure {
    fn from(error: keyferry_ttlv::Error) -> Self {
        let cause = match error.kind() {
            ErrorKind::WrongType { .. } => Cause::InvalidDataType,
            ErrorKind::Missing(_) | ErrorKind::Repeated(_) | ErrorKind::Unexpected(_) => {
                Cause::InvalidMessage
            }
            ErrorKind::Value(_) => Cause::InvalidField,
            ErrorKind::NotInVersion { .. } => Cause::FeatureNotSupported,
            ErrorKind::Size { .. } => Cause::RequestTooLarge,
            _ => Cause::InvalidMessage,
        };
        Failure::new(cause, error)
    }
}
