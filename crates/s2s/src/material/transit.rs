//! This module wraps key material for the way between two servers, under a key that both have or under the receiver's RSA key, and unwraps it
//! on arrival (KMIP 2.1 §3.3 and §7.18).

use crate::ask::Ask;
use crate::error::{Error, ErrorKind};
use crate::material::wrap::key_block_mut;
use crate::material::wrapping_key::private_half;
use crate::node::Node;
use crate::policy::{Peer, Wrapping};
use crate::rights::{Rights, Unrestricted};
use crate::session::SessionContext;
use crate::transport_key::rsa_key_of;
use keyferry_kmip::spec::{AttributeValue, Operation, tag};
use keyferry_kmip::{
    AttributeReference, Attributes, Cause, Failure, Identity, KeyValue, Now, Object, Random,
    RandomFailed, Text, UniqueIdentifier, context,
};
use keyferry_store::{Record, Snapshot, SnapshotExt, Store, StoreExt};
use keyferry_ttlv::{Tag, Version};
use std::sync::Arc;

fn is_wrapped(object: &Object) -> bool {
    object
        .key_block()
        .is_some_and(|block| block.key_wrapping_data.is_some())
}

impl Node {
    /// Wraps an object for the way; `true` when that was done. An object that is wrapped already, or has no key value, stays as it is.
    pub(crate) fn wrapped_for(
        &self,
        ask: &Ask<'_>,
        object: Object,
        record: &Record,
        wrapping: &Wrapping,
    ) -> Result<(Object, bool), Failure> {
        let has_value = object
            .key_block()
            .is_some_and(|block| block.key_value.is_some());
        if is_wrapped(&object) || !has_value {
            return Ok((object, false));
        }
        let bound = bound_attributes(record, &wrapping.bound);
        let mut object = self.wrapped(
            ask,
            object,
            record,
            &wrapping.specification(&wrapping.here, bound),
        )?;
        name_key(&mut object, &wrapping.there);
        Ok((object, true))
    }

    /// The object of a peer's copy in the clear, which came wrapped for the way ([rule D](crate::design#rule-d)).
    ///
    /// # Errors
    /// Those of [`Node::unwrapped`]; when the agreement with the peer does not name the key that it is wrapped by; when the attributes that were
    /// wrapped with it are not those beside it, or do not say what the key is for.
    pub fn unwrapped_from(
        &self,
        ask: &Ask<'_>,
        peer: &Peer,
        object: Object,
        attributes: &Attributes,
    ) -> Result<Object, Failure> {
        if !is_wrapped(&object) {
            return Err(Failure::new(
                Cause::InvalidMessage,
                "the copy is said to be wrapped for the way, and is not",
            ));
        }
        let rights = AgreedKeys::to(ask.snapshot, peer, &object)?;
        let (mut clear, _) = self.unwrapped_by(ask, object, &rights)?;
        check_bound(&mut clear, attributes, true)?;
        Ok(clear)
    }

    /// The object of a peer's copy in the clear, whether it was wrapped for the way or not, and the name of the key that it was wrapped by then.
    pub(crate) fn opened(
        &self,
        ask: &Ask<'_>,
        peer: &Peer,
        object: Option<Object>,
        is_wrapped: bool,
        attributes: &Attributes,
    ) -> Result<(Option<Object>, Option<Text>), Failure> {
        let Some(wrapped) = object else {
            return Ok((None, None));
        };
        if !is_wrapped {
            return Ok((Some(wrapped), None));
        }
        let by = wrapped_by(&wrapped);
        let clear = self.unwrapped_from(ask, peer, wrapped, attributes)?;
        Ok((Some(clear), by))
    }

    /// The object in the clear, unwrapped by the key that has this identifier here, whatever identifier it has at the sender. An object with a key
    /// value in the clear is refused.
    pub(crate) fn unwrapped_under(
        &self,
        ask: &Ask<'_>,
        mut object: Object,
        key: &Text,
    ) -> Result<Object, Failure> {
        if object
            .key_block()
            .is_some_and(|block| block.key_value.is_some())
            && !is_wrapped(&object)
        {
            return Err(Failure::new(
                Cause::KeyWrapNotSupported,
                "the key came in the clear, and was to be wrapped",
            ));
        }
        name_key(&mut object, key);
        self.unwrapped_by(ask, object, &Unrestricted)
            .map(|(object, _)| object)
    }
}

/// Wraps an object for the way where a wrapping is set; `true` when that was done. An object that is Sensitive and cannot be wrapped does not leave.
pub(crate) fn wrap_for_transit(
    cx: &mut SessionContext<'_>,
    wrapping: Option<&(Arc<Node>, Wrapping)>,
    version: Version,
    record: &Record,
    object: Option<Object>,
) -> Result<(Option<Object>, bool), Error> {
    let (Some((node, wrapping)), Some(object)) = (wrapping, &object) else {
        return Ok((object, false));
    };
    node.leaving(cx.store, cx.now, version, wrapping, record, object.clone())
        .map(|(object, wrapped)| (Some(object), wrapped))
}

/// Randomness that is never asked for: the cryptographic library draws by itself what OAEP needs.
struct NoRandom;

impl Random for NoRandom {
    fn fill(&mut self, _: &mut [u8]) -> Result<(), RandomFailed> {
        Err(RandomFailed)
    }
}

impl Node {
    /// Wraps an object for the way, in a message of this version; `true` when that was done.
    ///
    /// # Errors
    /// [`ErrorKind::Encode`] when it cannot be wrapped, or is Sensitive and has nothing to wrap, and those of the store.
    pub fn leaving(
        &self,
        store: &dyn Store,
        now: Now,
        version: Version,
        wrapping: &Wrapping,
        record: &Record,
        object: Object,
    ) -> Result<(Object, bool), Error> {
        let caller = Identity::new(self.home.server.as_str());
        let (object, wrapped) = store.view::<_, Error>(|snapshot| {
            let ask = Ask {
                snapshot,
                caller: &caller,
                operation: Operation::GET,
                rights: &Unrestricted,
                is_client: false,
                tls: &caller,
                now,
                random: &mut NoRandom,
                cx: context(version),
                placeholder: None,
                earlier: &[],
            };
            self.wrapped_for(&ask, object.clone(), record, wrapping)
                .map_err(Error::encode)
        })?;
        if reason_withheld(record, is_wrapped(&object)).is_some() {
            return Err(Error::new(
                ErrorKind::Encode,
                "the object is Sensitive, and has nothing that could be wrapped",
            ));
        }
        Ok((object, wrapped))
    }
}

/// Names the wrapping key of an object by another identifier.
fn name_key(object: &mut Object, key: &Text) {
    let data = key_block_mut(object).and_then(|block| block.key_wrapping_data.as_deref_mut());
    if let Some(information) = data.and_then(|data| data.encryption_key_information.as_mut()) {
        information.unique_identifier = UniqueIdentifier::Text(key.clone());
    }
}

/// The name of the key that an object is wrapped by; `None` when it is not wrapped, or by nothing that has a name.
pub(crate) fn wrapped_by(object: &Object) -> Option<Text> {
    let data = object.key_block()?.key_wrapping_data.as_deref()?;
    let information = data.encryption_key_information.as_ref()?;
    information.unique_identifier.as_text().map(Text::from)
}

/// The rights of a peer whose copies are unwrapped: to the keys that the agreement with it names, whoever owns them here.
struct AgreedKeys<'a> {
    peer: &'a Peer,
    /// The transport key that wraps the copy, which the peer has sent under a key of the agreement.
    transport: Option<Text>,
}

impl<'a> AgreedKeys<'a> {
    /// The rights to unwrap an object of the peer.
    fn to(
        snapshot: &dyn Snapshot,
        peer: &'a Peer,
        wrapped: &Object,
    ) -> Result<AgreedKeys<'a>, Failure> {
        let mut rights = AgreedKeys {
            peer,
            transport: None,
        };
        if let Some(name) = wrapped_by(wrapped)
            && !peer.unwraps_by(&name)
            && let Some((_, key)) = snapshot.by_identifier(&name)?
            && key.stamp.issuer == peer.server
            && let Some(rsa_key) = rsa_key_of(&key)
            && rights.name(snapshot, rsa_key)?
        {
            rights.transport = Some(name);
        }
        Ok(rights)
    }

    /// Whether the agreement names a key, by the identifier of either half of an RSA pair.
    fn name(&self, snapshot: &dyn Snapshot, key: &Text) -> Result<bool, Failure> {
        if self.peer.unwraps_by(key) {
            return Ok(true);
        }
        let public = snapshot.by_identifier(key)?;
        let private = public.and_then(|(_, public)| private_half(&public));
        Ok(private.is_some_and(|private| self.peer.unwraps_by(&private)))
    }
}

impl Rights for AgreedKeys<'_> {
    fn check(&self, _: &Identity, _: Operation, record: &Record) -> Result<(), Failure> {
        if self.peer.unwraps_by(&record.identifier)
            || self.transport.as_ref() == Some(&record.identifier)
        {
            return Ok(());
        }
        Err(Failure::new(
            Cause::PermissionDenied,
            "the agreement with this peer does not name the key that the copy is wrapped by",
        ))
    }
}

/// The attributes that are always wrapped together with a key: they say what it may be used for, and how it may leave.
const ALWAYS_BOUND: [(&str, Tag); 3] = [
    ("Cryptographic Usage Mask", tag::CRYPTOGRAPHIC_USAGE_MASK),
    ("Sensitive", tag::SENSITIVE),
    ("Extractable", tag::EXTRACTABLE),
];

/// The attribute that is wrapped together with a key that has no Cryptographic Usage Mask. Every object has it, so that what a client has wrapped
/// under the same key, without any attribute, is never taken for a copy.
const BOUND_INSTEAD: (&str, Tag) = ("Initial Date", tag::INITIAL_DATE);

/// The names of the attributes that are wrapped together with a key: those that always are, and those in `more`, as far as the object has them.
pub(crate) fn bound_attributes(record: &Record, more: &[Text]) -> Vec<Text> {
    let always = ALWAYS_BOUND.iter().map(|(name, _)| Text::from(*name));
    let has_mask = record
        .attributes
        .get(tag::CRYPTOGRAPHIC_USAGE_MASK)
        .is_some();
    let instead = (!has_mask).then(|| Text::from(BOUND_INSTEAD.0));
    let mut bound: Vec<Text> = Vec::new();
    for name in always.chain(instead).chain(more.iter().cloned()) {
        if !bound.contains(&name) && record.attributes.has(&AttributeReference::named(&name)) {
            bound.push(name);
        }
    }
    bound
}

/// Removes the attributes that were wrapped with the key from the Key Value. Fails when one of them is not among those beside the object; of what
/// a keyferry server wrapped also when one of those that are always bound was not wrapped.
pub(crate) fn check_bound(
    object: &mut Object,
    attributes: &Attributes,
    by_keyferry: bool,
) -> Result<(), Failure> {
    let Some(KeyValue::Plain(plain)) =
        key_block_mut(object).and_then(|block| block.key_value.as_mut())
    else {
        return Ok(());
    };
    let bound = std::mem::take(&mut plain.attributes);
    let is_among = |all: &Attributes, one: &AttributeValue| all.iter().any(|a| a.value == *one);
    let are_beside = bound.iter().all(|bound| is_among(attributes, &bound.value));
    let are_bound = ALWAYS_BOUND.iter().all(|(_, tag)| {
        let mut beside = attributes.all(*tag);
        beside.all(|value| is_among(&bound, value))
    });
    let is_of_an_object =
        bound.get(tag::CRYPTOGRAPHIC_USAGE_MASK).is_some() || bound.get(BOUND_INSTEAD.1).is_some();
    if are_beside && (!by_keyferry || are_bound && is_of_an_object) {
        return Ok(());
    }
    Err(Failure::new(
        Cause::InvalidMessage,
        "the attributes that were wrapped with the key are not those beside it",
    ))
}

/// The reason why an object may not be sent, if there is one: an object that is not Extractable stays, a Sensitive one leaves wrapped or not at all.
/// `wraps` says whether it will be wrapped.
pub fn reason_withheld(record: &Record, wraps: bool) -> Option<&'static str> {
    if !wraps
        && matches!(
            record.attributes.get(tag::SENSITIVE),
            Some(AttributeValue::Sensitive(true))
        )
    {
        return Some("the object is Sensitive, and would leave in the clear");
    }
    if matches!(
        record.attributes.get(tag::EXTRACTABLE),
        Some(AttributeValue::Extractable(false))
    ) {
        return Some("the object is not Extractable");
    }
    None
}
