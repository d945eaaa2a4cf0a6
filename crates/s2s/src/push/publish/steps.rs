//! The single steps: what is sent of an object, and what is read off the answer.

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

/// How much of an object's attributes a Register names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Level {
    /// Whatever a client may set.
    Full,
    /// What every server knows.
    Core,
    /// The marker, and what the object can't be without.
    Bare,
}

impl Level {
    pub(super) fn less(self) -> Option<Level> {
        match self {
            Level::Full => Some(Level::Core),
            Level::Core => Some(Level::Bare),
            Level::Bare => None,
        }
    }

    fn has(self, tag: Tag) -> bool {
        match self {
            // Some servers want to be told what the key itself says.
            Level::Full => tag != tag::FRESH && (CORE.contains(&tag) || !is_set_by_servers(tag)),
            Level::Core => CORE.contains(&tag),
            Level::Bare => tag == tag::CRYPTOGRAPHIC_USAGE_MASK,
        }
    }
}

const CORE: &[Tag] = &[
    tag::NAME,
    tag::OBJECT_GROUP,
    tag::APPLICATION_SPECIFIC_INFORMATION,
    tag::CRYPTOGRAPHIC_USAGE_MASK,
    tag::CRYPTOGRAPHIC_ALGORITHM,
    tag::CRYPTOGRAPHIC_LENGTH,
];

/// The marker of an object: it says nothing about it, and is the same again.
pub(super) fn marker(id: &ObjectId) -> Result<Text> {
    let key = index::object_id(id)?;
    Ok(key
        .key
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .into())
}

/// The attribute that bears the marker (KMIP 1.0 §3.30).
pub(crate) fn marking(id: &ObjectId) -> Result<V> {
    Ok(V::ApplicationSpecificInformation(
        ApplicationSpecificInformation {
            namespace: "keyferry".into(),
            data: Some(marker(id)?),
            extra: Extra::NONE,
        },
    ))
}

pub(super) fn has_marker(shown: &Attributes, id: &ObjectId) -> Result<bool> {
    let marking = marking(id)?;
    Ok(shown.iter().any(|attribute| attribute.value == marking))
}

/// Where a marker is looked for: also among what was destroyed meanwhile, as far as the version can say so.
pub(super) fn everywhere(version: Version) -> Option<StorageStatusMask> {
    let mask = StorageStatusMask::ON_LINE_STORAGE | StorageStatusMask::ARCHIVAL_STORAGE;
    (version >= Version::V2_0).then(|| mask | StorageStatusMask::DESTROYED_STORAGE)
}

/// Whether a key in this State could be used, or come to be.
pub(crate) fn is_usable(state: Option<State>) -> bool {
    matches!(state, None | Some(State::PRE_ACTIVE | State::ACTIVE))
}

/// What an object should have at the peer, as far as the version says it and the map knows what its Links lead to.
pub(crate) fn wanted(
    snapshot: &dyn Snapshot,
    name: &str,
    record: &Record,
    version: Version,
) -> Result<Vec<V>> {
    let mut wanted = Vec::new();
    for attribute in &representable_attributes(&record.attributes, version).0 {
        wanted.extend(there(snapshot, name, record, &attribute.value)?);
    }
    Ok(wanted)
}

/// Whether what a peer shows can be what was imported: nothing else is known of an Import whose answer was lost.
pub(super) fn may_be(shown: &Attributes, record: &Record) -> bool {
    let told: Vec<bool> = [tag::INITIAL_DATE, tag::DIGEST]
        .into_iter()
        .filter_map(|tag| {
            let own = record.attributes.get(tag)?;
            let mut shown = shown.all(tag).peekable();
            shown.peek()?;
            Some(shown.any(|value| value == own))
        })
        .collect();
    !told.is_empty() && !told.contains(&false)
}

/// Tells what a peer shows from what it showed before.
pub(super) fn shown_digest(record: &Record, shown: &Attributes) -> Result<Vec<u8>> {
    let mut shown = shown.clone();
    // What is of the moment.
    [tag::FRESH, tag::LEASE_TIME]
        .into_iter()
        .for_each(|tag| shown.remove(tag));
    Ok(keyferry_store::record::copy_digest(
        record.object_type,
        &shown,
    )?)
}

/// An attribute as the peer would call it: a Link leads to the peer's identifier of its target, where that is known.
fn there(snapshot: &dyn Snapshot, name: &str, record: &Record, value: &V) -> Result<Option<V>> {
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

/// What a Register of an object names.
pub(crate) fn registrable(
    snapshot: &dyn Snapshot,
    name: &str,
    record: &Record,
    level: Level,
    version: Version,
) -> Result<Attributes> {
    let mut attributes = Attributes::new();
    for attribute in &representable_attributes(&record.attributes, version).0 {
        if level.has(attribute.value.tag()) {
            there(snapshot, name, record, &attribute.value)?
                .into_iter()
                .for_each(|value| attributes.push(value));
        }
    }
    attributes.push(marking(&record.id)?);
    Ok(attributes)
}

/// Reads all attributes of an object.
pub(crate) fn reading(there: Option<&Text>) -> GetAttributesRequest {
    GetAttributesRequest::of(there.map(Text::as_str).unwrap_or_default())
}

/// The operations that lead an object at the peer from its State to another one (KMIP 1.4 §3.22).
pub(crate) fn leading_to(
    there: Option<&Text>,
    record: &Record,
    from: Option<State>,
    to: Option<State>,
    cx: Context,
) -> Result<Vec<RequestItem>> {
    let mut items = Vec::new();
    let (Some(there), Some(to)) = (there, to) else {
        return Ok(items);
    };
    let from = from.unwrap_or(State::PRE_ACTIVE);
    let id = || UniqueIdentifier::Text(there.clone());
    let (now, wanted) = (lifecycle::Rank::of(from), lifecycle::Rank::of(to));
    if now.step < 1 && wanted.step >= 1 && wanted.step < 3 && !wanted.compromised {
        items.push(item(&ActivateRequest::of(id()), cx)?);
    }
    if wanted.compromised && !now.compromised {
        let code = match record.attributes.get(tag::REVOCATION_REASON) {
            Some(V::RevocationReason(reason))
                if reason.code == RevocationReasonCode::CA_COMPROMISE =>
            {
                reason.code
            }
            _ => RevocationReasonCode::KEY_COMPROMISE,
        };
        let since = record.attributes.date(tag::COMPROMISE_OCCURRENCE_DATE);
        // Every server wants one, and knows no earlier moment than this.
        let since = since
            .or(record.attributes.date(tag::COMPROMISE_DATE))
            .or(record.attributes.date(tag::INITIAL_DATE));
        items.push(item(
            &RevokeRequest::of(id(), code, since.or(Some(DateTime(0)))),
            cx,
        )?);
    } else if now.step < 2 && wanted.step >= 2 && !(wanted.step == 3 && now.step == 0) {
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
        items.push(item(&RevokeRequest::of(id(), code, None), cx)?);
    }
    if now.step < 3 && wanted.step == 3 {
        items.push(item(&DestroyRequest::of(id()), cx)?);
    }
    Ok(items)
}

fn item<P: Payload>(payload: &P, cx: Context) -> Result<RequestItem> {
    RequestItem::new(payload, cx).map_err(Error::encode)
}

/// The attributes of an object that the peer does not show as they are, by name; its Unique Identifier is another one in any case.
pub(crate) fn lacking(
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
                value => there(snapshot, name, record, value)?
                    .is_some_and(|there| shown.iter().any(|own| own.value == there)),
            };
            if !kept {
                lost.push(attribute.value.reference().to_string());
            }
        }
        lost.dedup();
        Ok(lost)
    })
}

/// All attributes, by name.
pub(super) fn all(record: &Record) -> Vec<String> {
    let mut all: Vec<String> = record
        .attributes
        .iter()
        .map(|attribute| attribute.value.reference().to_string())
        .collect();
    all.dedup();
    all
}

/// What a Register can't say of an object in a version.
pub(super) fn expected_losses(record: &Record, version: Version) -> Vec<String> {
    let (said, mut lost) = representable_attributes(&record.attributes, version);
    let unsaid = said.iter().filter(|a| is_lost_by_register(a.value.tag()));
    lost.extend(unsaid.map(|attribute| attribute.value.reference().to_string()));
    lost.dedup();
    lost
}

/// A key for nothing that is compromised.
pub(super) fn probe_attributes() -> Attributes {
    Attributes::new()
        .with(V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT))
        .with(V::CryptographicAlgorithm(CryptographicAlgorithm::AES))
        .with(V::CryptographicLength(128))
        .with(V::State(State::COMPROMISED))
}
