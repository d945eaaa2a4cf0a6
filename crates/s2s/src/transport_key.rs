//! A transport key: the AES key that a server makes for what goes to a partner under an RSA key, as others recognise it
//! ([rule D](crate::design#rule-d)).

use keyferry_kmip::spec::{AttributeValue as V, CryptographicUsageMask, ObjectType, tag};
use keyferry_kmip::{ApplicationSpecificInformation, Identity, Text};
use keyferry_store::Record;
use keyferry_ttlv::Extra;

/// The Application Namespace of the mark that names the receiver's half of the RSA pair.
const THERE: &str = "keyferry-transport";

/// The Application Namespace of the mark that names the issuer's half of the RSA pair.
const HERE: &str = "keyferry-transport-from";

/// What a transport key may be used for, and nothing else.
pub(crate) const USAGE: CryptographicUsageMask = CryptographicUsageMask(
    CryptographicUsageMask::WRAP_KEY.0 | CryptographicUsageMask::UNWRAP_KEY.0,
);

/// The marks of a transport key: Application Specific Information that names the RSA pair under which it goes, as its receiver calls its half and
/// as its issuer calls the other. Two partners may call their keys alike.
pub(crate) fn marks(here: &Text, there: &Text) -> [V; 2] {
    [(THERE, there), (HERE, here)].map(|(namespace, key)| {
        V::ApplicationSpecificInformation(ApplicationSpecificInformation {
            namespace: namespace.into(),
            data: Some(key.clone()),
            extra: Extra::NONE,
        })
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
    marked(record, THERE)
}

/// Whether an object is a transport key that this server has made for this RSA pair.
pub(crate) fn goes_under(record: &Record, here: &Text, there: &Text) -> bool {
    rsa_key_of(record) == Some(there) && marked(record, HERE) == Some(here)
}

fn marked<'a>(record: &'a Record, namespace: &str) -> Option<&'a Text> {
    record
        .attributes
        .iter()
        .find_map(|attribute| match &attribute.value {
            V::ApplicationSpecificInformation(information)
                if information.namespace == *namespace =>
            {
                information.data.as_ref()
            }
            _ => None,
        })
}
