//! The rules of attributes: who sets one, who may change it and when, and which objects have it.

use super::enumeration::object::ObjectType;

/// The side that sets an attribute first.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetBy {
    /// The server alone.
    Server,
    /// The client alone.
    Client,
    /// Either.
    Both,
}

/// The time at which an attribute may be changed or deleted.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeRule {
    /// Never.
    Never,
    /// At any time.
    Always,
    /// While the object is Pre-Active.
    PreActive,
    /// While the object is Pre-Active or Active.
    PreActiveOrActive,
    /// While the object is Pre-Active or Active, until the date has been reached.
    UntilReached,
    /// Until usage was first allocated.
    UntilAllocated,
}

/// The objects that an attribute may be on.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKinds {
    /// All Objects.
    All,
    /// All Cryptographic Objects.
    Cryptographic,
    /// All Cryptographic Objects, Opaque Objects.
    CryptographicOpaque,
    /// All Cryptographic Objects, Templates.
    CryptographicTemplates,
    /// Keys, Templates.
    KeysTemplates,
    /// Keys, Certificates, Templates.
    KeysCertificatesTemplates,
    /// Symmetric Keys, Split Keys of symmetric keys, Templates.
    SymmetricTemplates,
    /// Symmetric Key, Private Key, Split Key, Secret Data.
    Confidential,
    /// Public Keys, Private Keys.
    Asymmetric,
    /// Asymmetric Keys, Templates.
    AsymmetricTemplates,
    /// Certificates.
    Certificates,
    /// Certificates, PGP keys.
    CertificatesPgpKeys,
    /// Opaque Objects.
    Opaque,
}

impl ObjectKinds {
    /// Whether an object of this type is one of them. A type that the standard does not have is one of all objects alone.
    pub fn includes(self, object_type: ObjectType) -> bool {
        use ObjectType as T;
        let pair = matches!(object_type, T::PUBLIC_KEY | T::PRIVATE_KEY);
        let key = pair || matches!(object_type, T::SYMMETRIC_KEY | T::SPLIT_KEY | T::PGP_KEY);
        let certificate = object_type == T::CERTIFICATE;
        let template = object_type == T::TEMPLATE;
        let cryptographic = key || certificate || object_type == T::SECRET_DATA;
        match self {
            ObjectKinds::All => true,
            ObjectKinds::Cryptographic => cryptographic,
            ObjectKinds::CryptographicOpaque => cryptographic || object_type == T::OPAQUE_OBJECT,
            ObjectKinds::CryptographicTemplates => cryptographic || template,
            ObjectKinds::KeysTemplates => key || template,
            ObjectKinds::KeysCertificatesTemplates => key || certificate || template,
            ObjectKinds::SymmetricTemplates => {
                matches!(object_type, T::SYMMETRIC_KEY | T::SPLIT_KEY) || template
            }
            ObjectKinds::Confidential => {
                matches!(
                    object_type,
                    T::SYMMETRIC_KEY | T::PRIVATE_KEY | T::SPLIT_KEY | T::SECRET_DATA
                )
            }
            ObjectKinds::Asymmetric => pair,
            ObjectKinds::AsymmetricTemplates => pair || template,
            ObjectKinds::Certificates => certificate,
            ObjectKinds::CertificatesPgpKeys => certificate || object_type == T::PGP_KEY,
            ObjectKinds::Opaque => object_type == T::OPAQUE_OBJECT,
        }
    }
}
