//! This module wraps keys that leave, and unwraps wrapped ones (KMIP 2.1 §3.3 and §7.18, 1.4 §2.1.5 and §2.1.6).

use crate::ask::Ask;
use crate::material::wrapping_key::{KeyUse, WrappingKey};
use crate::node::Node;
use crate::rights::Rights;
use keyferry_kmip::spec::{EncodingOption, WrappingMethod, tag};
use keyferry_kmip::{
    AttributeReference, Attributes, Cause, Failure, KeyBlock, KeyMaterial, KeyValue,
    KeyWrappingData, KeyWrappingSpecification, Object, PlainKeyValue, Secret, Text,
    WrappingKeyInformation, context,
};
use keyferry_store::Record;
use keyferry_ttlv::{Encode, Extra, Item, Reader, Version, Writer};

impl Node {
    /// The object with its key value wrapped as a request wants it.
    ///
    /// # Errors
    /// When the object has no key value or a wrapped one already, the wrapping key is not here or may not wrap, or the way to wrap is not supported.
    pub fn wrapped(
        &self,
        ask: &Ask<'_>,
        mut object: Object,
        record: &Record,
        wanted: &KeyWrappingSpecification,
    ) -> Result<Object, Failure> {
        let information = encryption(wanted.wrapping_method, &wanted.encryption_key_information)?;
        if wanted.mac_signature_key_information.is_some() {
            return Err(Failure::new(
                Cause::KeyWrapNotSupported,
                "no MAC or signature is made over a wrapped key",
            ));
        }
        let is_encoded = is_encoded(wanted.encoding_option)?;
        let key = WrappingKey::find(ask, information, KeyUse::Protect, ask.rights)?;
        let Some(block) = key_block_mut(&mut object) else {
            return Err(Failure::new(
                Cause::InvalidObjectType,
                format_args!("a {} is not wrapped", record.object_type),
            ));
        };
        let plain = clear_value(block)?;
        let attributes = attributes_to_wrap(&wanted.attribute_names, record)?;
        let bytes = if is_encoded {
            encoded_value(plain, attributes, ask.cx.version)?
        } else {
            bare_value(plain, &attributes)?
        };
        block.key_value = Some(KeyValue::Wrapped(key.wrap(&*self.crypto, &bytes)?));
        block.key_wrapping_data = Some(Box::new(KeyWrappingData {
            wrapping_method: wanted.wrapping_method,
            // The key's identifier: what the request named it by may mean something in its own batch only.
            encryption_key_information: Some(WrappingKeyInformation {
                unique_identifier: key.identifier.into(),
                ..information.clone()
            }),
            mac_signature_key_information: None,
            mac_signature: None,
            iv_counter_nonce: None,
            encoding_option: wanted.encoding_option,
            extra: Extra::NONE,
        }));
        Ok(object)
    }

    /// The object in the clear, unwrapped by a key of this server; also whether that key is Sensitive or not Extractable, so that the object should
    /// not leave in the clear either. An object that is not wrapped stays as it is.
    ///
    /// # Errors
    /// When the wrapping key is not here or is another one, or the way to unwrap is not supported.
    pub fn unwrapped(&self, ask: &Ask<'_>, object: Object) -> Result<(Object, bool), Failure> {
        self.unwrapped_by(ask, object, ask.rights)
    }

    /// The same with other rights than the caller's.
    pub(crate) fn unwrapped_by(
        &self,
        ask: &Ask<'_>,
        mut object: Object,
        rights: &dyn Rights,
    ) -> Result<(Object, bool), Failure> {
        let Some(block) = key_block_mut(&mut object) else {
            return Ok((object, false));
        };
        let Some(data) = block.key_wrapping_data.take() else {
            return Ok((object, false));
        };
        let information = encryption(data.wrapping_method, &data.encryption_key_information)?;
        if information.unique_identifier.as_text().is_none() {
            return Err(Failure::new(
                Cause::InvalidField,
                "what a wrapping key is named by stands in one batch alone",
            ));
        }
        let key = WrappingKey::find(ask, information, KeyUse::Process, rights)?;
        let unwrap = |wrapped: &Secret| key.unwrap(&*self.crypto, wrapped);
        let is_bare = data.encoding_option == Some(EncodingOption::NO_ENCODING);
        let value = match block.key_value.take() {
            Some(KeyValue::Wrapped(wrapped)) if is_bare => PlainKeyValue {
                key_material: KeyMaterial::Bytes(unwrap(&wrapped)?),
                attributes: Attributes::new(),
                extra: Extra::NONE,
            },
            Some(KeyValue::Wrapped(wrapped)) => read_key_value(&unwrap(&wrapped)?, ask.cx.version)?,
            Some(KeyValue::Plain(PlainKeyValue {
                key_material: KeyMaterial::Bytes(wrapped),
                attributes,
                extra,
            })) => PlainKeyValue {
                key_material: KeyMaterial::Bytes(unwrap(&wrapped)?),
                attributes,
                extra,
            },
            _ => {
                return Err(Failure::new(
                    Cause::KeyValueNotPresent,
                    "there is no wrapped key value",
                ));
            }
        };
        block.key_value = Some(KeyValue::Plain(value));
        Ok((object, key.is_sensitive))
    }
}

/// What a request or a wrapped object says of its encryption key, when encryption alone was used.
fn encryption(
    method: WrappingMethod,
    information: &Option<WrappingKeyInformation>,
) -> Result<&WrappingKeyInformation, Failure> {
    if method != WrappingMethod::ENCRYPT {
        return Err(Failure::new(
            Cause::KeyWrapNotSupported,
            format_args!("the Wrapping Method {method} is not supported"),
        ));
    }
    information.as_ref().ok_or_else(|| {
        Failure::new(
            Cause::MissingData,
            "the Encryption Key Information is missing",
        )
    })
}

/// Whether a key is wrapped as an encoded Key Value (the default), and not as bare bytes.
fn is_encoded(option: Option<EncodingOption>) -> Result<bool, Failure> {
    match option {
        None | Some(EncodingOption::TTLV_ENCODING) => Ok(true),
        Some(EncodingOption::NO_ENCODING) => Ok(false),
        Some(other) => Err(Failure::new(
            Cause::EncodingOption,
            format_args!("the Encoding Option {other} is unknown"),
        )),
    }
}

/// The key value of an object that is not wrapped yet.
fn clear_value(block: &KeyBlock) -> Result<&PlainKeyValue, Failure> {
    match &block.key_value {
        Some(KeyValue::Plain(plain)) if block.key_wrapping_data.is_none() => Ok(plain),
        Some(_) => Err(Failure::new(
            Cause::KeyWrapNotSupported,
            "the key is wrapped already",
        )),
        None => Err(Failure::new(
            Cause::KeyValueNotPresent,
            "the server does not hold the key value",
        )),
    }
}

/// The attributes that a request wants to be wrapped with the key.
fn attributes_to_wrap(names: &[Text], record: &Record) -> Result<Attributes, Failure> {
    let mut bound = Attributes::new();
    for name in names {
        let reference = AttributeReference::named(name);
        let mut found = record.attributes.of(&reference).peekable();
        if found.peek().is_none() {
            return Err(Failure::new(
                Cause::AttributeNotFound,
                format_args!("the object has no attribute {name}"),
            ));
        }
        found.for_each(|attribute| bound.keep(attribute.clone()));
    }
    Ok(bound)
}

/// A Key Value with its encoding, as it is wrapped.
fn encoded_value(
    plain: &PlainKeyValue,
    attributes: Attributes,
    version: Version,
) -> Result<Secret, Failure> {
    let mut w = Writer::new(context(version));
    let whole = PlainKeyValue {
        attributes,
        ..plain.clone()
    };
    whole.encode(tag::KEY_VALUE, &mut w)?;
    Ok(Secret::new(&w.finish()))
}

/// The bytes of a key without encoding, as they are wrapped.
fn bare_value(plain: &PlainKeyValue, attributes: &Attributes) -> Result<Secret, Failure> {
    if !attributes.is_empty() {
        return Err(Failure::new(
            Cause::EncodingOption,
            "without encoding no attributes are wrapped with the key",
        ));
    }
    match &plain.key_material {
        KeyMaterial::Bytes(bytes) => Ok(bytes.clone()),
        KeyMaterial::Structure(_) => Err(Failure::new(
            Cause::EncodingOption,
            "a transparent key is wrapped with an encoding alone",
        )),
    }
}

/// Reads a Key Value that was wrapped with its encoding.
fn read_key_value(bytes: &Secret, version: Version) -> Result<PlainKeyValue, Failure> {
    // The failure does not say what is wrong: the content was secret.
    let wrong = || Failure::new(Cause::EncodingOption, "what was wrapped is no Key Value");
    let r = Reader::new(bytes.expose(), context(version));
    let item = Item::parse(bytes.expose()).map_err(|_| wrong())?;
    if item.tag() != tag::KEY_VALUE {
        return Err(wrong());
    }
    r.child(item).map_err(|_| wrong())
}

/// The Key Block of an object that has one.
pub(crate) fn key_block_mut(object: &mut Object) -> Option<&mut KeyBlock> {
    match object {
        Object::PgpKey(key) => Some(&mut key.key_block),
        Object::PrivateKey(key) | Object::PublicKey(key) | Object::SymmetricKey(key) => {
            Some(&mut key.key_block)
        }
        Object::SecretData(secret) => Some(&mut secret.key_block),
        Object::SplitKey(key) => Some(&mut key.key_block),
        _ => None,
    }
}
