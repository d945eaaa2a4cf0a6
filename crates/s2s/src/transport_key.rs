//! A transport key: the AES key that a server makes for what goes to a partner under an RSA key, as others recognise it
//! ([rule D](crate::design#rule-d)).

use keyferry_kmip::spec::{AttributeValue as V, CryptographicUsageMask, ObjectType, tag};
use keyferry_kmip::{ApplicationSpecificInformation, Identity, Text};
use keyferry_store::Record;
use keyferry_ttlv::Extra;

/// The Application Namespace of the mark.
const NAMESPACE: &str = "keyferry-transport";

/// What a transport key may be used for, and nothing else.
pub(crate) const USAGE: CryptographicUsageMask = CryptographicUsageMask(
    CryptographicUsageMask::WRAP_KEY.0 | CryptographicUsageMask::UNWRAP_KEY.0,
);

/// The mark of a transport key: Application Specific Information that names the RSA key of its receiver, under which it goes.
pub(crate) fn mark(rsa_key: &Text) -> V {
    V::ApplicationSpecificInformation(ApplicationSpecificInformation {
        namespace: NAMESPACE.into(),
        data: Some(rsa_key.clone()),
        extra: Extra::NONE,
    })
}

/// The owner of the transport keys that a server makes: the server itself, which no client is called like.
pub(crate) fn owner(server: &str) -> Text {
    Identity::peer(server).name.into()
}

/// Whether an object is a transport key: its issuer has made it, and owns it by a name that no client has.
pub(crate) fn is_transport_key(record: &Record) -> bool {
    rsa_key_of(record).is_some()
}

/// The RSA key of its receiver, as the receiver calls it, under which a transport key goes; `None` for any other object.
pub(crate) fn rsa_key_of(record: &Record) -> Option<&Text> {
    if record.object_type != ObjectType::SYMMETRIC_KEY || record.id.server != record.stamp.issuer {
        return None;
    }
    let usage = record.attributes.get(tag::CRYPTOGRAPHIC_USAGE_MASK);
    if usage != Some(&V::CryptographicUsageMask(USAGE))
        || record.attributes.names().next().is_some()
    {
        return None;
    }
    let at_issuer = record
        .overlay
        .as_ref()
        .and_then(|overlay| overlay.owner.as_ref());
    if at_issuer.or(record.owner.as_ref()) != Some(&owner(&record.id.server)) {
        return None;
    }
    record
        .attributes
        .iter()
        .find_map(|attribute| match &attribute.value {
            V::ApplicationSpecificInformation(information)
                if information.namespace == *NAMESPACE =>
            {
                information.data.as_ref()
            }
            _ => None,
        })
}
