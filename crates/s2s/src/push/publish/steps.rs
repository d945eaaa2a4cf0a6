//! The single steps of a publication: what an object is sent as, by which operations its State changes, and what a peer's answer shows of it.

use crate::error::{Error, Result};
use crate::outgoing::item::representable_attributes;
use crate::push::explore::{is_lost_by_register, is_set_by_servers};
use crate::relation::identifier_map;
use keyferry_kmip::spec::{
    AttributeValue as V, CryptographicAlgorithm, CryptographicUsageMask, RevocationReasonCode,
    State, StorageStatusMask, tag,
};
use keyferry_kmip::{
    ActivateRequest, ApplicationSpecificInformation, Attributes, DateTime, DestroyRequest,
    GetAttributesRequest, Link, Payload, RequestItem, RevokeRequest, Text, UniqueIdentifier,
    lifecycle,
};
use keyferry_store::{ObjectId, Record, Snapshot, Store, StoreExt, index};
use keyferry_ttlv::{Context, Extra, Tag, Version};

/// The set of an object's attributes that a Register names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Level {
    /// All that a client may set.
    Full,
    /// Those that every server knows.
    Core,
    /// The marker, and what no object can be without.
    Bare,
}

impl Level {
    /// The next smaller set, if there is one.
    pub(super) fn reduced(self) -> Option<Level> {
        match self {
            Level::Full => Some(Level::Core),
            Level::Core => Some(Level::Bare),
            Level::Bare => None,
        }
    }

    fn has(self, tag: Tag) -> bool {
        match self {
            // Some servers want the attributes that the key itself says.
            Level::Full => tag != tag::FRESH && (CORE.contains(&tag) || !is_set_by_servers(tag)),
            Level::Core => CORE.contains(&tag),
            Level::Bare => tag == tag::CRYPTOGRAPHIC_USAGE_MASK,
        }
    }
}

/// The attributes that every server knows.
const CORE: &[Tag] = &[
    tag::NAME,
    tag::OBJECT_GROUP,
    tag::APPLICATION_SPECIFIC_INFORMATION,
    tag::CRYPTOGRAPHIC_USAGE_MASK,
    tag::CRYPTOGRAPHIC_ALGORITHM,
    tag::CRYPTOGRAPHIC_LENGTH,
];

/// The marker of an object: a digest that tells it from others, and is the same in every run.
fn marker(id: &ObjectId) -> Result<Text> {
    let key = index::object_id(id)?;
    Ok(key
        .key
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .into())
}

/// Makes the attribute that has the marker: Application Specific Information (KMIP 1.0 §3.30).
pub(super) fn marker_attribute(id: &ObjectId) -> Result<V> {
    Ok(V::ApplicationSpecificInformation(
        ApplicationSpecificInformation {
            namespace: "keyferry".into(),
            data: Some(marker(id)?),
            extra: Extra::NONE,
        },
    ))
}

/// Whether the peer shows the marker of an object.
pub(super) fn has_marker(shown: &Attributes, id: &ObjectId) -> Result<bool> {
    let marker = marker_attribute(id)?;
    Ok(shown.iter().any(|attribute| attribute.value == marker))
}

/// The Storage Status Mask of a search for a marker. It includes what was destroyed meanwhile, which can be said since KMIP 2.0.
pub(super) fn locate_storage_mask(version: Version) -> Option<StorageStatusMask> {
    let mask = StorageStatusMask::ON_LINE_STORAGE | StorageStatusMask::ARCHIVAL_STORAGE;
    (version >= Version::V2_0).then(|| mask | StorageStatusMask::DESTROYED_STORAGE)
}

/// Whether a key in this State can be used, or may come to be.
pub(crate) fn is_usable(state: Option<State>) -> bool {
    matches!(state, None | Some(State::PRE_ACTIVE | State::ACTIVE))
}

/// The attributes that an object should have at the peer: those that the version can say, with Links to the peer's identifiers as far as the map
/// knows them.
pub(crate) fn wanted_attributes(
    snapshot: &dyn Snapshot,
    name: &str,
    record: &Record,
    version: Version,
) -> Result<Vec<V>> {
    let mut wanted = Vec::new();
    for attribute in &representable_attributes(&record.attributes, version).0 {
        wanted.extend(attribute_at_peer(snapshot, name, record, &attribute.value)?);
    }
    Ok(wanted)
}

/// Whether the object that a peer shows may be the one that was imported: Initial Date and Digest say so as far as they are shown. Nothing else is
/// known of an Import whose answer was lost.
pub(super) fn may_be_imported(shown: &Attributes, record: &Record) -> bool {
    let matches: Vec<bool> = [tag::INITIAL_DATE, tag::DIGEST]
        .into_iter()
        .filter_map(|tag| {
            let own = record.attributes.get(tag)?;
            let mut shown = shown.all(tag).peekable();
            shown.peek()?;
            Some(shown.any(|value| value == own))
        })
        .collect();
    !matches.is_empty() && !matches.contains(&false)
}

/// The digest of what a peer shows of an object, by which a plan sees whether it has changed.
pub(super) fn digest_of_shown(record: &Record, shown: &Attributes) -> Result<Vec<u8>> {
    let mut shown = shown.clone();
    // These change by themselves.
    [tag::FRESH, tag::LEASE_TIME]
        .into_iter()
        .for_each(|tag| shown.remove(tag));
    Ok(keyferry_store::record::copy_digest(
        record.object_type,
        &shown,
    )?)
}

/// An attribute as it should be at the peer: a Link leads to the peer's identifier of its target. `None` for a Link whose target the map does not
/// know.
fn attribute_at_peer(
    snapshot: &dyn Snapshot,
    name: &str,
    record: &Record,
    value: &V,
) -> Result<Option<V>> {
    let V::Link(link) = value else {
        return Ok(Some(value.clone()));
    };
    let UniqueIdentifier::Text(target) = &link.target else {
        return Ok(None);
    };
    let id = ObjectId {
        server: record.id.server.clone(),
        instance: record.id.instance.clone(),
        identifier: target.clone(),
    };
    let known = identifier_map::identifier_at_peer(snapshot, name, &id)?;
    Ok(known.map(|target| {
        V::Link(Link {
            target: UniqueIdentifier::Text(target),
            ..link.clone()
        })
    }))
}

/// The attributes that a Register of an object names, with the marker.
pub(super) fn register_attributes(
    snapshot: &dyn Snapshot,
    name: &str,
    record: &Record,
    level: Level,
    version: Version,
) -> Result<Attributes> {
    let mut attributes = Attributes::new();
    for attribute in &representable_attributes(&record.attributes, version).0 {
        if level.has(attribute.value.tag()) {
            attribute_at_peer(snapshot, name, record, &attribute.value)?
                .into_iter()
                .for_each(|value| attributes.push(value));
        }
    }
    attributes.push(marker_attribute(&record.id)?);
    Ok(attributes)
}

/// The request for all attributes of an object.
pub(super) fn read_request(peer_identifier: Option<&Text>) -> GetAttributesRequest {
    GetAttributesRequest::of(peer_identifier.map(Text::as_str).unwrap_or_default())
}

/// Makes the operations that bring an object at the peer from one State to another (KMIP 1.4 §3.22).
pub(super) fn state_change_items(
    peer_identifier: Option<&Text>,
    record: &Record,
    from: Option<State>,
    to: Option<State>,
    cx: Context,
) -> Result<Vec<RequestItem>> {
    let mut items = Vec::new();
    let (Some(identifier), Some(to)) = (peer_identifier, to) else {
        return Ok(items);
    };
    let from = from.unwrap_or(State::PRE_ACTIVE);
    let id = || UniqueIdentifier::Text(identifier.clone());
    let (now, wanted) = (lifecycle::Rank::of(from), lifecycle::Rank::of(to));
    if now.step < 1 && wanted.step >= 1 && wanted.step < 3 && !wanted.compromised {
        items.push(item(&ActivateRequest::of(id()), cx)?);
    }
    if wanted.compromised && !now.compromised {
        items.push(item(&revoke_as_compromised(id(), record), cx)?);
    } else if now.step < 2 && wanted.step >= 2 && !(wanted.step == 3 && now.step == 0) {
        items.push(item(&revoke_as_ended(id(), record), cx)?);
    }
    if now.step < 3 && wanted.step == 3 {
        items.push(item(&DestroyRequest::of(id()), cx)?);
    }
    Ok(items)
}

/// The Revoke of a compromised object.
fn revoke_as_compromised(id: UniqueIdentifier, record: &Record) -> RevokeRequest {
    let code = match record.attributes.get(tag::REVOCATION_REASON) {
        Some(V::RevocationReason(reason)) if reason.code == RevocationReasonCode::CA_COMPROMISE => {
            reason.code
        }
        _ => RevocationReasonCode::KEY_COMPROMISE,
    };
    // Every server wants a Compromise Occurrence Date, and may know no earlier moment than these.
    let since = record
        .attributes
        .date(tag::COMPROMISE_OCCURRENCE_DATE)
        .or(record.attributes.date(tag::COMPROMISE_DATE))
        .or(record.attributes.date(tag::INITIAL_DATE));
    RevokeRequest::of(id, code, since.or(Some(DateTime(0))))
}

/// The Revoke of an object that is not used any more, and is not compromised.
fn revoke_as_ended(id: UniqueIdentifier, record: &Record) -> RevokeRequest {
    let code = match record.attributes.get(tag::REVOCATION_REASON) {
        Some(V::RevocationReason(reason))
            if !matches!(
                reason.code,
                RevocationReasonCode::KEY_COMPROMISE | RevocationReasonCode::CA_COMPROMISE
            ) =>
        {
            reason.code
        }
        _ => RevocationReasonCode::CESSATION_OF_OPERATION,
    };
    RevokeRequest::of(id, code, None)
}

fn item<P: Payload>(payload: &P, cx: Context) -> Result<RequestItem> {
    RequestItem::new(payload, cx).map_err(Error::encode)
}

/// The names of the attributes that the peer does not show as they are here. A Unique Identifier that the peer gave is one of them.
pub(super) fn names_not_kept(
    store: &dyn Store,
    name: &str,
    record: &Record,
    shown: &Attributes,
    now: DateTime,
) -> Result<Vec<String>> {
    store.view::<_, Error>(|snapshot| {
        let mut lost = Vec::new();
        for attribute in &record.attributes {
            let kept = match &attribute.value {
                V::State(_) => shown.state() == record.state(now),
                value => attribute_at_peer(snapshot, name, record, value)?
                    .is_some_and(|wanted| shown.iter().any(|theirs| theirs.value == wanted)),
            };
            if !kept {
                lost.push(attribute.value.reference().to_string());
            }
        }
        lost.dedup();
        Ok(lost)
    })
}

/// The names of all attributes of an object.
pub(super) fn attribute_names(record: &Record) -> Vec<String> {
    let mut names: Vec<String> = record
        .attributes
        .iter()
        .map(|attribute| attribute.value.reference().to_string())
        .collect();
    names.dedup();
    names
}

/// The names of the attributes that a Register in this version does not bring about at the peer.
pub(super) fn expected_losses(record: &Record, version: Version) -> Vec<String> {
    let (sent, mut lost) = representable_attributes(&record.attributes, version);
    let not_set = sent.iter().filter(|a| is_lost_by_register(a.value.tag()));
    lost.extend(not_set.map(|attribute| attribute.value.reference().to_string()));
    lost.dedup();
    lost
}

/// The attributes of a probe: a compromised AES key of 128 bits.
pub(super) fn probe_attributes() -> Attributes {
    Attributes::new()
        .with(V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT))
        .with(V::CryptographicAlgorithm(CryptographicAlgorithm::AES))
        .with(V::CryptographicLength(128))
        .with(V::State(State::COMPROMISED))
}
