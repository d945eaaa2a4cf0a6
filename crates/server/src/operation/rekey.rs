//! Re-key and Re-key Key Pair (KMIP 2.1 §6.1.46 and §6.1.47): a new key replaces an old one and takes over its Names.

use super::create::{self, Origin, set_requested};
use super::key_pair::{link, made, of_one};
use super::{Operations, changed, check_storage, own};
use keyferry_kmip::spec::{AttributeValue as V, LinkType, ObjectType, tag};
use keyferry_kmip::{
    Attributes, Cause, DateTime, Failure, Interval, Object, ReKeyKeyPairRequest,
    ReKeyKeyPairResponse, ReKeyRequest, ReKeyResponse, RequestItem, Text, UniqueIdentifier,
};
use keyferry_s2s::{Answered, Ask};
use keyferry_store::{Effects, Material, Record, RecordNumber};
use keyferry_ttlv::Extra;

/// Re-key, for symmetric keys.
pub(super) fn re_key(
    ops: &Operations,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: ReKeyRequest = item.payload(ask.cx)?;
    check_storage(request.protection_storage_masks.as_ref())?;
    let old = existing(
        ops,
        ask,
        request.unique_identifier.as_ref(),
        ObjectType::SYMMETRIC_KEY,
    )?;
    let mut attributes = replacement(&old.1, request.offset, ask.now.wall);
    let mut asked = Attributes::new();
    if let Some(given) = request.attributes {
        set_requested(
            &mut asked,
            given,
            ObjectType::SYMMETRIC_KEY,
            ask,
            Some(&old.1),
        )?;
    }
    over(&mut attributes, asked);
    let object = create::new_key(&attributes, ask)?;
    let identifier = create::identifier(ask)?;
    let mut effects = Effects::none();
    replace(
        ops,
        ask,
        old,
        (identifier.clone(), attributes, object),
        &mut effects,
    )?;
    let response = ReKeyResponse {
        unique_identifier: identifier.clone().into(),
        attributes: None,
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?
        .with(effects)
        .with_placeholder(identifier))
}

/// Re-key Key Pair, for both keys of the pair; the request names the private one.
pub(super) fn re_key_key_pair(
    ops: &Operations,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: ReKeyKeyPairRequest = item.payload(ask.cx)?;
    check_storage(request.common_protection_storage_masks.as_ref())?;
    check_storage(request.private_protection_storage_masks.as_ref())?;
    check_storage(request.public_protection_storage_masks.as_ref())?;
    let old_private = existing(
        ops,
        ask,
        request.private_key_unique_identifier.as_ref(),
        ObjectType::PRIVATE_KEY,
    )?;
    let public_key = public_key_of(&old_private.1)?;
    let old_public = existing(ops, ask, Some(&public_key), ObjectType::PUBLIC_KEY)?;
    let common = request.common_attributes.as_ref();
    let (mut private, mut public) = (
        replacement(&old_private.1, request.offset, ask.now.wall),
        replacement(&old_public.1, request.offset, ask.now.wall),
    );
    let asked = of_one(
        ask,
        ObjectType::PRIVATE_KEY,
        request.private_key_attributes,
        common,
        Some(&old_private.1),
    )?;
    over(&mut private, asked);
    let asked = of_one(
        ask,
        ObjectType::PUBLIC_KEY,
        request.public_key_attributes,
        common,
        Some(&old_public.1),
    )?;
    over(&mut public, asked);
    let pair = made(ops, ask, private, public)?;
    let (private_id, public_id) = (pair.private.0.clone(), pair.public.0.clone());
    let mut effects = Effects::none();
    replace(ops, ask, old_private, pair.private, &mut effects)?;
    replace(ops, ask, old_public, pair.public, &mut effects)?;
    let response = ReKeyKeyPairResponse {
        private_key_unique_identifier: private_id.clone().into(),
        public_key_unique_identifier: public_id.into(),
        private_key_attributes: None,
        public_key_attributes: None,
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?
        .with(effects)
        .with_placeholder(private_id))
}

/// The public key that a private key has a Link to.
fn public_key_of(record: &Record) -> Result<UniqueIdentifier, Failure> {
    let public_key = record.attributes.iter().find_map(|a| match &a.value {
        V::Link(link) if link.link_type == LinkType::PUBLIC_KEY_LINK => Some(link.target.clone()),
        _ => None,
    });
    public_key.ok_or_else(|| {
        Failure::new(
            Cause::InvalidField,
            "the private key has no Link to its public key",
        )
    })
}

/// The key to replace.
fn existing(
    ops: &Operations,
    ask: &Ask<'_>,
    given: Option<&UniqueIdentifier>,
    object_type: ObjectType,
) -> Result<(RecordNumber, Record), Failure> {
    let old = own(&ops.node, ask, given)?;
    if old.1.object_type != object_type {
        let why = format_args!(
            "the object is a {}, and not a {object_type}",
            old.1.object_type
        );
        return Err(Failure::new(Cause::InvalidObjectType, why));
    }
    if old.1.is_destroyed() {
        return Err(Failure::new(
            Cause::ObjectDestroyed,
            "the object was destroyed",
        ));
    }
    Ok(old)
}

/// The attributes that the new key takes over from the old one (KMIP 2.1 §6.1.46, Tables 303 and 304).
fn replacement(old: &Record, offset: Option<Interval>, now: DateTime) -> Attributes {
    let mut new = Attributes::new();
    let activation = old.attributes.date(tag::ACTIVATION_DATE);
    let begins = offset.map(|offset| DateTime(now.0.saturating_add(i64::from(offset.0))));
    let moved = |date: DateTime| match (begins, activation) {
        (Some(begins), Some(before)) => {
            DateTime(date.0.saturating_add(begins.0.saturating_sub(before.0)))
        }
        _ => date,
    };
    for attribute in &old.attributes {
        let value = match attribute.value.clone() {
            V::Link(_)
            | V::InitialDate(_)
            | V::DestroyDate(_)
            | V::CompromiseOccurrenceDate(_)
            | V::CompromiseDate(_)
            | V::RevocationReason(_)
            | V::ArchiveDate(_)
            | V::State(_)
            | V::Digest(_)
            | V::LastChangeDate(_)
            | V::RandomNumberGenerator(_)
            | V::OriginalCreationDate(_)
            | V::ShortUniqueIdentifier(_)
            | V::AlwaysSensitive(_)
            | V::NeverExtractable(_)
            | V::Fresh(_)
            | V::KeyFormatType(_)
            | V::KeyValuePresent(_)
            | V::KeyValueLocation(_)
            | V::RotateDate(_) => continue,
            V::RotateGeneration(generation) => V::RotateGeneration(generation.saturating_add(1)),
            V::ActivationDate(date) => V::ActivationDate(begins.unwrap_or(date)),
            V::ProcessStartDate(date) => V::ProcessStartDate(moved(date)),
            V::ProtectStopDate(date) => V::ProtectStopDate(moved(date)),
            V::DeactivationDate(date) => V::DeactivationDate(moved(date)),
            V::UsageLimits(mut limits) => {
                limits.count = Some(limits.total);
                V::UsageLimits(limits)
            }
            other => other,
        };
        new.push(value);
    }
    if let Some(begins) = begins {
        new.set_default(V::ActivationDate(begins));
    }
    new
}

/// Overrides attributes that were taken over with those that the request asks for.
fn over(attributes: &mut Attributes, asked: Attributes) {
    let repeated =
        |attributes: &Attributes, value: &V| attributes.iter().any(|a| a.value == *value);
    for attribute in asked {
        if !attribute.value.may_repeat() {
            attributes.set(attribute.value);
        } else if !repeated(attributes, &attribute.value) {
            attributes.push(attribute.value);
        }
    }
}

/// Stores the new key, and links the old one, which loses its Names, to it.
fn replace(
    ops: &Operations,
    ask: &mut Ask<'_>,
    old: (RecordNumber, Record),
    (identifier, mut attributes, object): (Text, Attributes, Object),
    effects: &mut Effects,
) -> Result<(), Failure> {
    let mut after = old.1.clone();
    after.attributes.remove(tag::NAME);
    // Each key of a line of replacements is linked to the next.
    if after.attributes.get(tag::ROTATE_LATEST).is_some() {
        after.attributes.set(V::RotateLatest(false));
    }
    after
        .attributes
        .push(link(LinkType::REPLACEMENT_OBJECT_LINK, &identifier));
    after.attributes.check_count()?;
    attributes.push(link(LinkType::REPLACED_OBJECT_LINK, &old.1.identifier));
    effects.extend(changed(&ops.node, ask, old, after, Material::Keep)?);
    effects.extend(create::enter(
        ops,
        ask,
        (identifier, attributes, object),
        Origin::Made,
    )?);
    Ok(())
}
