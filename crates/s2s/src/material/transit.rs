//! Key material wrapped on its way, under a key that both servers have, or under the receiver's RSA key (KMIP 2.1 §3.3 and §7.18).

use crate::ask::Ask;
use crate::error::{Error, ErrorKind};
use crate::material::wrap::key_block;
use crate::node::Node;
use crate::policy::Wrapping;
use crate::rights::Unrestricted;
use crate::session::SessionContext;
use keyferry_kmip::spec::{AttributeValue, KeyWrapType, Operation, tag};
use keyferry_kmip::{
    AttributeReference, Attributes, Cause, Failure, Identity, ImportRequest, KeyValue, Now, Object,
    Random, RandomFailed, Text, UniqueIdentifier, context,
};
use keyferry_store::{Record, Store, StoreExt};
use keyferry_ttlv::Version;
use std::sync::Arc;

fn is_wrapped(object: &Object) -> bool {
    object
        .key_block()
        .is_some_and(|block| block.key_wrapping_data.is_some())
}

impl Node {
    /// An object as it leaves under a wrapping: `true` when it was wrapped for the way. What is wrapped already leaves as it is, and so
    /// does what has no key value, unless it is Sensitive.
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
        let has = |name: &&Text| record.attributes.has(&AttributeReference::named(name));
        let bound = wrapping.bound.iter().filter(has).cloned().collect();
        let mut object = self.wrapped(
            ask,
            object,
            record,
            &wrapping.specification(&wrapping.here, bound),
        )?;
        name_key(&mut object, &wrapping.there);
        Ok((object, true))
    }

    /// The object that an Import brings, in the clear when it says that it was wrapped for the way; the wrapping key is named by its identifier
    /// here. Also whether that key is Sensitive or not Extractable.
    ///
    /// # Errors
    /// Those of [`Node::unwrapped`], and for a copy those of attributes that were wrapped with the key and are not those beside it.
    pub fn brought(
        &self,
        ask: &Ask<'_>,
        request: &mut ImportRequest,
        is_copy: bool,
    ) -> Result<(Option<Object>, bool), Failure> {
        let object = request.object.take();
        let Some(object) = object else {
            return Ok((None, false));
        };
        if request.key_wrap_type != Some(KeyWrapType::NOT_WRAPPED) {
            return Ok((Some(object), false));
        }
        let (mut object, sensitive) = self.unwrapped(ask, object)?;
        if is_copy {
            check_bound(&mut object, &request.attributes)?;
        }
        Ok((Some(object), sensitive))
    }

    /// The object in the clear, unwrapped by the key that has this identifier here, whatever it is called where the object comes from. One
    /// with a key value in the clear is refused.
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

/// An object as it leaves, and whether it was wrapped for the way. What can't be wrapped and is Sensitive does not leave.
pub(crate) fn on_its_way(
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

/// Wrapping draws nothing from the session: what RSA needs the cryptographic library draws by itself.
struct NotDrawn;

impl Random for NotDrawn {
    fn fill(&mut self, _: &mut [u8]) -> Result<(), RandomFailed> {
        Err(RandomFailed)
    }
}

impl Node {
    /// An object as it leaves under a wrapping, in a message of this version, and whether it was wrapped for the way.
    ///
    /// # Errors
    /// [`ErrorKind::Encode`] when it can't be wrapped, or has nothing to wrap and is Sensitive, and those of the store.
    pub fn leaving(
        &self,
        store: &dyn Store,
        now: Now,
        version: Version,
        wrapping: &Wrapping,
        record: &Record,
        object: Object,
    ) -> Result<(Object, bool), Error> {
        let caller = Identity {
            name: self.home.server.to_string(),
            fingerprint: [0; 32],
        };
        let (object, wrapped) = store.view::<_, Error>(|snapshot| {
            let mut none = NotDrawn;
            let ask = Ask::new(snapshot, &caller, Operation::GET, now, &mut none)
                .in_context(context(version));
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

fn name_key(object: &mut Object, key: &Text) {
    let data = key_block(object).and_then(|block| block.key_wrapping_data.as_deref_mut());
    if let Some(information) = data.and_then(|data| data.encryption_key_information.as_mut()) {
        information.unique_identifier = UniqueIdentifier::Text(key.clone());
    }
}

/// Fails when attributes were wrapped with the key that are not those told beside it; takes them out of the Key Value.
pub(crate) fn check_bound(object: &mut Object, attributes: &Attributes) -> Result<(), Failure> {
    let Some(KeyValue::Plain(plain)) = key_block(object).and_then(|block| block.key_value.as_mut())
    else {
        return Ok(());
    };
    let bound = std::mem::take(&mut plain.attributes);
    if bound
        .iter()
        .all(|bound| attributes.iter().any(|told| told.value == bound.value))
    {
        return Ok(());
    }
    Err(Failure::new(
        Cause::InvalidMessage,
        "the attributes that were wrapped with the key are not those beside it",
    ))
}

/// Why an object may not be sent, if it may not: one that is Sensitive leaves wrapped or not at all. `wraps` says whether it will be.
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
