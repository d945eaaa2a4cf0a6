//! Keys that leave wrapped, and wrapped ones that are unwrapped (KMIP 2.1 §3.3 and §7.18, 1.4 §2.1.5 and §2.1.6).

use crate::ask::Ask;
use crate::material::format::in_format;
use crate::node::Node;
use crate::rights::Rights;
use keyferry_kmip::spec::{
    AttributeValue as V, BlockCipherMode, CryptographicUsageMask, EncodingOption, HashingAlgorithm,
    KeyFormatType, LinkType, MaskGenerator, ObjectType, Operation, PaddingMethod, State,
    WrappingMethod, tag,
};
use keyferry_kmip::{
    AttributeReference, Attributes, Cause, CryptoErrorKind, CryptographicParameters, DateTime,
    Failure, KeyBlock, KeyMaterial, KeyValue, KeyWrap, KeyWrappingData, KeyWrappingSpecification,
    Oaep, OaepHash, Object, PlainKeyValue, Secret, Text, WrappingKeyInformation, context,
};
use keyferry_store::{Record, SnapshotExt};
use keyferry_ttlv::{Encode, Extra, Item, Reader, Version, Writer};

impl Node {
    /// The object with its key value wrapped as a request wants it.
    ///
    /// # Errors
    /// When it has no key value or a wrapped one already, the wrapping key is not there or may not wrap, or the way is not known here.
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
        let no_encoding = match wanted.encoding_option {
            None | Some(EncodingOption::TTLV_ENCODING) => false,
            Some(EncodingOption::NO_ENCODING) => true,
            Some(other) => {
                return Err(Failure::new(
                    Cause::EncodingOption,
                    format_args!("the Encoding Option {other} is unknown"),
                ));
            }
        };
        let key = self.wrapping_key(ask, information, KeyUse::Protect, ask.rights)?;
        let Some(block) = key_block(&mut object) else {
            return Err(Failure::new(
                Cause::InvalidObjectType,
                format_args!("a {} is not wrapped", record.object_type),
            ));
        };
        let plain = match &block.key_value {
            Some(KeyValue::Plain(plain)) if block.key_wrapping_data.is_none() => plain,
            Some(_) => {
                return Err(Failure::new(
                    Cause::KeyWrapNotSupported,
                    "the key is wrapped already",
                ));
            }
            None => {
                return Err(Failure::new(
                    Cause::KeyValueNotPresent,
                    "the server does not hold the key value",
                ));
            }
        };
        let bound = bound(&wanted.attribute_names, record)?;
        let bytes = if no_encoding {
            if !bound.is_empty() {
                return Err(Failure::new(
                    Cause::EncodingOption,
                    "without encoding no attributes are wrapped with the key",
                ));
            }
            match &plain.key_material {
                KeyMaterial::Bytes(bytes) => bytes.clone(),
                KeyMaterial::Structure(_) => {
                    return Err(Failure::new(
                        Cause::EncodingOption,
                        "a transparent key is wrapped with an encoding alone",
                    ));
                }
            }
        } else {
            let mut w = Writer::new(context(ask.cx.version));
            let whole = PlainKeyValue {
                attributes: bound,
                ..plain.clone()
            };
            whole
                .encode(tag::KEY_VALUE, &mut w)
                .map_err(Failure::from)?;
            Secret::new(&w.finish())
        };
        let wrapped = match key.method {
            Method::Aes(method) => self
                .crypto
                .wrap_key(key.bytes.expose(), method, bytes.expose()),
            Method::Rsa(oaep) => {
                self.crypto
                    .wrap_key_oaep(key.bytes.expose(), oaep, bytes.expose())
            }
        };
        let wrapped = wrapped.map_err(|error| match (error.kind(), key.method) {
            (CryptoErrorKind::Length, Method::Aes(_)) => {
                Failure::new(Cause::KeyWrapNotSupported, "NIST key wrap takes keys of 16 bytes or more, in multiples of 8")
            }
            (CryptoErrorKind::Length, Method::Rsa(_)) => Failure::new(
                Cause::KeyWrapNotSupported,
                format_args!(
                    "the key takes {} bytes, more than the RSA key can hold: wrap it under a symmetric key",
                    bytes.len()
                ),
            ),
            (CryptoErrorKind::Unsupported, _) => Failure::new(Cause::KeyWrapNotSupported, error),
            _ => Failure::new(Cause::Cryptographic, error),
        })?;
        block.key_value = Some(KeyValue::Wrapped(Secret::new(&wrapped)));
        block.key_wrapping_data = Some(Box::new(KeyWrappingData {
            wrapping_method: wanted.wrapping_method,
            // By its identifier, whatever it was pointed at by in this batch.
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

    /// The object in the clear, unwrapped by a key of this server, and whether that key is Sensitive or not Extractable, so that the object should
    /// not leave in the clear either; one that is not wrapped stays as it is.
    ///
    /// # Errors
    /// When the wrapping key is not there or is another one, or the way is not known here.
    pub fn unwrapped(&self, ask: &Ask<'_>, object: Object) -> Result<(Object, bool), Failure> {
        self.unwrapped_by(ask, object, ask.rights)
    }

    pub(crate) fn unwrapped_by(
        &self,
        ask: &Ask<'_>,
        mut object: Object,
        rights: &dyn Rights,
    ) -> Result<(Object, bool), Failure> {
        let Some(block) = key_block(&mut object) else {
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
        let key = self.wrapping_key(ask, information, KeyUse::Process, rights)?;
        let unwrap = |wrapped: &Secret| {
            let plain = match key.method {
                Method::Aes(method) => {
                    self.crypto
                        .unwrap_key(key.bytes.expose(), method, wrapped.expose())
                }
                Method::Rsa(oaep) => {
                    self.crypto
                        .unwrap_key_oaep(key.bytes.expose(), oaep, wrapped.expose())
                }
            };
            plain
                .map(|plain| Secret::new(&plain))
                .map_err(|error| Failure::new(Cause::Cryptographic, error))
        };
        let no_encoding = data.encoding_option == Some(EncodingOption::NO_ENCODING);
        let value = match block.key_value.take() {
            Some(KeyValue::Wrapped(wrapped)) if no_encoding => PlainKeyValue {
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

    /// The wrapping key. Whoever has something wrapped or unwrapped by it must be allowed to use it as its owner does: to read it is not enough.
    fn wrapping_key(
        &self,
        ask: &Ask<'_>,
        information: &WrappingKeyInformation,
        used: KeyUse,
        rights: &dyn Rights,
    ) -> Result<WrappingKey, Failure> {
        let identifier = ask.identifier(Some(&information.unique_identifier))?;
        let (mut identifier, (mut number, mut record)) =
            (identifier.clone(), find(ask, &identifier)?);
        if used == KeyUse::Process && record.object_type == ObjectType::PUBLIC_KEY {
            // It was wrapped under this one; the other half unwraps it.
            identifier = private_half(&record).ok_or_else(|| {
                Failure::new(
                    Cause::WrappingKeyNotFound,
                    "the public key has no Private Key Link to unwrap by",
                )
            })?;
            (number, record) = find(ask, &identifier)?;
        }
        let (operation, bit) = match used {
            KeyUse::Protect => (Operation::ENCRYPT, CryptographicUsageMask::WRAP_KEY),
            KeyUse::Process => (Operation::DECRYPT, CryptographicUsageMask::UNWRAP_KEY),
        };
        rights.check(ask.caller, operation, &record)?;
        if record.is_destroyed() {
            return Err(Failure::new(
                Cause::WrappingKeyDestroyed,
                "the wrapping key was destroyed",
            ));
        }
        if record.attributes.get(tag::ARCHIVE_DATE).is_some() {
            return Err(Failure::new(
                Cause::WrappingKeyArchived,
                "the wrapping key is archived",
            ));
        }
        check_usable(&record, ask.now.wall, used)?;
        let mask = record.attributes.iter().find_map(|a| match a.value {
            V::CryptographicUsageMask(mask) => Some(mask),
            _ => None,
        });
        if mask.is_some_and(|mask| !mask.contains(bit)) {
            return Err(Failure::new(
                Cause::UsageMask,
                "the Cryptographic Usage Mask of the wrapping key does not allow it",
            ));
        }
        let parameters = information
            .cryptographic_parameters
            .as_deref()
            .or_else(|| own_parameters(&record.attributes));
        let method = match (record.object_type, used) {
            (ObjectType::SYMMETRIC_KEY, _) => block_cipher(parameters).map(Method::Aes),
            (ObjectType::PUBLIC_KEY, KeyUse::Protect)
            | (ObjectType::PRIVATE_KEY, KeyUse::Process) => {
                oaep(parameters, ask.cx.version).map(Method::Rsa)
            }
            (other, _) => Err(Failure::new(
                Cause::KeyWrapNotSupported,
                format_args!("a {other} is no key that does this"),
            )),
        }?;
        let object = ask.snapshot.whole(number)?.and_then(|(_, object)| object);
        let wanted = matches!(method, Method::Rsa(_)).then_some(KeyFormatType::PKCS_1);
        let object = object
            .map(|object| in_format(object, wanted, ask.cx.version))
            .transpose()?;
        let bytes = object
            .as_ref()
            .and_then(Object::key_block)
            .and_then(|block| match &block.key_value {
                Some(KeyValue::Plain(PlainKeyValue {
                    key_material: KeyMaterial::Bytes(bytes),
                    ..
                })) => Some(bytes.clone()),
                _ => None,
            });
        let is = |value: V| record.attributes.get(value.tag()) == Some(&value);
        let is_sensitive = is(V::Sensitive(true)) || is(V::Extractable(false));
        bytes
            .map(|bytes| WrappingKey {
                identifier,
                bytes,
                method,
                is_sensitive,
            })
            .ok_or_else(|| {
                Failure::new(
                    Cause::KeyWrapNotSupported,
                    "a wrapping key is in the clear: a symmetric one in the format Raw, or of RSA",
                )
            })
    }
}

fn find(
    ask: &Ask<'_>,
    identifier: &str,
) -> Result<(keyferry_store::RecordNumber, Record), Failure> {
    let found = ask.snapshot.by_identifier(identifier)?;
    found.ok_or_else(|| {
        Failure::new(
            Cause::WrappingKeyNotFound,
            format_args!("there is no wrapping key {identifier:?}"),
        )
    })
}

fn private_half(public: &Record) -> Option<Text> {
    public.shown().find_map(|attribute| match &attribute.value {
        V::Link(link) if link.link_type == LinkType::PRIVATE_KEY_LINK => {
            link.target.as_text().map(Text::from)
        }
        _ => None,
    })
}

fn block_cipher(parameters: Option<&CryptographicParameters>) -> Result<KeyWrap, Failure> {
    match parameters.and_then(|parameters| parameters.block_cipher_mode) {
        Some(BlockCipherMode::NIST_KEY_WRAP) => Ok(KeyWrap::Rfc3394),
        Some(BlockCipherMode::AES_KEY_WRAP_PADDING) => Ok(KeyWrap::Rfc5649),
        Some(other) => Err(Failure::new(
            Cause::KeyWrapNotSupported,
            format_args!("keys are not wrapped by {other}"),
        )),
        None => Err(Failure::new(
            Cause::KeyWrapNotSupported,
            "neither request nor wrapping key says how to wrap",
        )),
    }
}

/// What Cryptographic Parameters say of OAEP (KMIP 2.1 §4.16). PKCS1 v1.5 is not done: whoever may ask for keys to be unwrapped by it can
/// decrypt anything by asking often (Bleichenbacher's attack).
fn oaep(parameters: Option<&CryptographicParameters>, version: Version) -> Result<Oaep, Failure> {
    let refused = |what: &str| Err(Failure::new(Cause::KeyWrapNotSupported, what));
    let Some(parameters) = parameters else {
        return refused("neither request nor wrapping key says how to wrap");
    };
    match parameters.padding_method {
        Some(PaddingMethod::OAEP) => {}
        Some(PaddingMethod::PKCS1_V1_5) => {
            return refused(
                "PKCS1 v1.5 lets attackers decrypt: under RSA keys are wrapped by OAEP",
            );
        }
        _ => return refused("under RSA keys are wrapped by OAEP"),
    }
    if parameters
        .p_source
        .as_ref()
        .is_some_and(|source| !source.is_empty())
    {
        return refused("OAEP is done with an empty P Source");
    }
    if parameters
        .mask_generator
        .is_some_and(|generator| generator != MaskGenerator::MGF1)
    {
        return refused("the Mask Generator is MGF1");
    }
    let Some(hash) = parameters.hashing_algorithm.and_then(hash) else {
        return refused(
            "the Hashing Algorithm of OAEP is SHA-1, SHA-256, SHA-384 or SHA-512, and has to be said",
        );
    };
    let mask = match parameters.mask_generator_hashing_algorithm {
        Some(algorithm) => hash_of(algorithm)?,
        // The default since 1.4; before, nothing says what it is.
        None if version >= Version::V1_4 || hash == OaepHash::Sha1 => OaepHash::Sha1,
        None => {
            return refused(
                "before 1.4 a message can't say how the mask of OAEP is made, unless all is SHA-1",
            );
        }
    };
    Ok(Oaep { hash, mask })
}

fn hash(algorithm: HashingAlgorithm) -> Option<OaepHash> {
    match algorithm {
        HashingAlgorithm::SHA_1 => Some(OaepHash::Sha1),
        HashingAlgorithm::SHA_256 => Some(OaepHash::Sha256),
        HashingAlgorithm::SHA_384 => Some(OaepHash::Sha384),
        HashingAlgorithm::SHA_512 => Some(OaepHash::Sha512),
        _ => None,
    }
}

fn hash_of(algorithm: HashingAlgorithm) -> Result<OaepHash, Failure> {
    hash(algorithm).ok_or_else(|| {
        Failure::new(
            Cause::KeyWrapNotSupported,
            "the Mask Generator Hashing Algorithm is SHA-1, SHA-256, SHA-384 or SHA-512",
        )
    })
}

/// A key that wraps others.
struct WrappingKey {
    identifier: Text,
    bytes: Secret,
    method: Method,
    is_sensitive: bool,
}

/// How it does.
#[derive(Clone, Copy)]
enum Method {
    Aes(KeyWrap),
    Rsa(Oaep),
}

/// What an object is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// To apply protection: encrypt, sign, wrap.
    Protect,
    /// To process what is protected: decrypt, verify, unwrap.
    Process,
}

/// Fails unless State and dates let an object be used now (KMIP 2.1 §4.40, §4.41 and §4.57).
///
/// # Errors
/// [`Cause::WrongState`].
pub fn check_usable(record: &Record, now: DateTime, used: KeyUse) -> Result<(), Failure> {
    let reached = |tag| record.attributes.date(tag).is_some_and(|date| date <= now);
    let ahead = |tag| record.attributes.date(tag).is_some_and(|date| date > now);
    let state = record.state(now);
    let allowed = match used {
        KeyUse::Protect => state == Some(State::ACTIVE) && !reached(tag::PROTECT_STOP_DATE),
        KeyUse::Process => {
            matches!(
                state,
                Some(State::ACTIVE | State::DEACTIVATED | State::COMPROMISED)
            ) && !ahead(tag::PROCESS_START_DATE)
        }
    };
    if allowed {
        return Ok(());
    }
    Err(Failure::new(
        Cause::WrongState,
        format_args!(
            "{} may not be used so in its State and at this time",
            record.identifier
        ),
    ))
}

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

/// The first Cryptographic Parameters of a key that say how to wrap.
fn own_parameters(attributes: &Attributes) -> Option<&CryptographicParameters> {
    let is_enough = |one: &CryptographicParameters| {
        one.block_cipher_mode.is_some() || one.padding_method.is_some()
    };
    attributes.iter().find_map(|a| match &a.value {
        V::CryptographicParameters(parameters) if is_enough(parameters) => Some(&**parameters),
        _ => None,
    })
}

/// The attributes that shall be wrapped with the key.
fn bound(names: &[keyferry_kmip::Text], record: &Record) -> Result<Attributes, Failure> {
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

pub(crate) fn key_block(object: &mut Object) -> Option<&mut KeyBlock> {
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

/// A Key Value that was wrapped with its encoding.
fn read_key_value(bytes: &Secret, version: Version) -> Result<PlainKeyValue, Failure> {
    // What is wrong in there is not said: it was secret.
    let wrong = || Failure::new(Cause::EncodingOption, "what was wrapped is no Key Value");
    let r = Reader::new(bytes.expose(), context(version));
    let item = Item::parse(bytes.expose()).map_err(|_| wrong())?;
    if item.tag() != tag::KEY_VALUE {
        return Err(wrong());
    }
    r.child(item).map_err(|_| wrong())
}
