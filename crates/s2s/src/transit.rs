//! Key material wrapped on its way, under a key that both servers have, or under the receiver's RSA key (KMIP 2.1 §3.3 and §7.18).

use crate::{Ask, Cx, Error, ErrorKind, Node, Unrestricted, outgoing::withheld, wrap::key_block};
use keyferry_kmip::spec::{
    BlockCipherMode, EncodingOption, HashingAlgorithm, KeyWrapType, MaskGenerator, Operation,
    PaddingMethod, WrappingMethod,
};
use keyferry_kmip::{
    AttributeReference, Attributes, Cause, CryptographicParameters, Failure, Identity,
    ImportRequest, KeyValue, KeyWrappingSpecification, Now, Object, Random, RandomFailed, Text,
    UniqueIdentifier, WrappingKeyInformation, context,
};
use keyferry_store::{Record, Store, StoreExt};
use keyferry_ttlv::{Extra, Version};
use std::sync::Arc;

/// How key material is wrapped between two servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapping {
    /// The Unique Identifier of the wrapping key here.
    pub here: Text,
    /// That of the same key at the peer; of an RSA pair, that of the other half, or of the same half where a Private Key Link leads on.
    pub there: Text,
    /// How. Under an AES key the Block Cipher Mode NIST Key Wrap (RFC 3394) or AES Key Wrap Padding (RFC 5649); under an RSA key the Padding
    /// Method OAEP with its hashes.
    pub parameters: CryptographicParameters,
    /// The attributes that are wrapped with the key, by name, of those that the object has: a receiver refuses the key with others.
    pub bound: Vec<Text>,
}

impl Wrapping {
    /// By NIST Key Wrap, with the Cryptographic Usage Mask bound.
    pub fn new(here: impl Into<Text>, there: impl Into<Text>) -> Wrapping {
        let parameters = CryptographicParameters {
            block_cipher_mode: Some(BlockCipherMode::NIST_KEY_WRAP),
            ..Default::default()
        };
        Wrapping {
            here: here.into(),
            there: there.into(),
            parameters,
            bound: vec!["Cryptographic Usage Mask".into()],
        }
    }

    /// By RSAES-OAEP with SHA-256, with the Cryptographic Usage Mask bound, in 1.4 and later (the versions before can't say how the mask is
    /// made). Whoever wraps has the receiver's Public Key object, Active and with Wrap Key in its mask; the receiver has the Private Key
    /// object, with Unwrap Key. So `here` is the public half for a push, and the private one for a pull.
    ///
    /// RSA holds little: symmetric keys, and secrets of about 100 bytes under 2048 bits. What is longer fails and is named.
    pub fn oaep(here: impl Into<Text>, there: impl Into<Text>) -> Wrapping {
        let parameters = CryptographicParameters {
            padding_method: Some(PaddingMethod::OAEP),
            hashing_algorithm: Some(HashingAlgorithm::SHA_256),
            mask_generator: Some(MaskGenerator::MGF1),
            mask_generator_hashing_algorithm: Some(HashingAlgorithm::SHA_256),
            ..Default::default()
        };
        Wrapping {
            parameters,
            ..Wrapping::new(here, there)
        }
    }

    /// What a Get or Export is asked, of the server where the key is called so.
    pub(crate) fn specification(
        &self,
        key: &Text,
        attribute_names: Vec<Text>,
    ) -> KeyWrappingSpecification {
        KeyWrappingSpecification {
            wrapping_method: WrappingMethod::ENCRYPT,
            encryption_key_information: Some(WrappingKeyInformation {
                unique_identifier: UniqueIdentifier::Text(key.clone()),
                cryptographic_parameters: Some(Box::new(self.parameters.clone())),
                extra: Extra::NONE,
            }),
            mac_signature_key_information: None,
            attribute_names,
            encoding_option: Some(EncodingOption::TTLV_ENCODING),
            extra: Extra::NONE,
        }
    }
}

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
    cx: &mut Cx<'_>,
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
            let ask = Ask {
                snapshot,
                caller: &caller,
                operation: Operation::GET,
                rights: &Unrestricted,
                is_client: false,
                tls: &caller,
                now,
                random: &mut NotDrawn,
                cx: context(version),
                placeholder: None,
                earlier: &[],
            };
            self.wrapped_for(&ask, object.clone(), record, wrapping)
                .map_err(|e| Error::new(ErrorKind::Encode, e))
        })?;
        if withheld(record, is_wrapped(&object)).is_some() {
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
