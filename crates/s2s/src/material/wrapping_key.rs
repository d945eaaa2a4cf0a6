//! This module finds the key that wraps or unwraps another one, and uses it: AES key wrap, or RSA with OAEP (KMIP 2.1 §4.16 and §7.18).

use crate::ask::Ask;
use crate::material::format::in_format;
use crate::rights::Rights;
use keyferry_kmip::spec::{
    AttributeValue as V, BlockCipherMode, CryptographicUsageMask, HashingAlgorithm, KeyFormatType,
    LinkType, MaskGenerator, ObjectType, Operation, PaddingMethod, State, tag,
};
use keyferry_kmip::{
    Attributes, Cause, Crypto, CryptoError, CryptoErrorKind, CryptographicParameters, DateTime,
    Failure, KeyMaterial, KeyValue, KeyWrap, Oaep, OaepHash, PlainKeyValue, Secret, Text,
    WrappingKeyInformation,
};
use keyferry_store::{Record, RecordNumber, SnapshotExt};
use keyferry_ttlv::Version;

/// The use that is made of an object.
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

/// A key that wraps or unwraps others.
pub(crate) struct WrappingKey {
    pub(crate) identifier: Text,
    bytes: Secret,
    method: Method,
    /// Whether it is Sensitive or not Extractable.
    pub(crate) is_sensitive: bool,
}

/// The algorithm that a key wraps by.
#[derive(Clone, Copy)]
enum Method {
    Aes(KeyWrap),
    Rsa(Oaep),
}

impl WrappingKey {
    /// Finds the key that a request or a wrapped object names. Whoever has something wrapped or unwrapped by it must be allowed to use it as its
    /// owner does: the right to read it is not enough.
    ///
    /// # Errors
    /// When it is not here or is not in the clear, the caller may not use it so, its State, dates or usage mask forbid it, or the algorithm is not
    /// supported.
    pub(crate) fn find(
        ask: &Ask<'_>,
        information: &WrappingKeyInformation,
        used: KeyUse,
        rights: &dyn Rights,
    ) -> Result<WrappingKey, Failure> {
        let (identifier, number, record) = find_record(ask, information, used)?;
        check_allowed(ask, &record, used, rights)?;
        let parameters = information
            .cryptographic_parameters
            .as_deref()
            .or_else(|| own_parameters(&record.attributes));
        let method = Method::of(&record, used, parameters, ask.cx.version)?;
        let bytes = clear_bytes(ask, number, method)?.ok_or_else(|| {
            Failure::new(
                Cause::KeyWrapNotSupported,
                "a wrapping key is in the clear: a symmetric one in the format Raw, or of RSA",
            )
        })?;
        let is = |value: V| record.attributes.get(value.tag()) == Some(&value);
        Ok(WrappingKey {
            identifier,
            bytes,
            method,
            is_sensitive: is(V::Sensitive(true)) || is(V::Extractable(false)),
        })
    }

    /// Wraps a key value.
    ///
    /// # Errors
    /// When the key value is too long or too short for the algorithm, or the cryptographic library fails.
    pub(crate) fn wrap(&self, crypto: &dyn Crypto, plain: &Secret) -> Result<Secret, Failure> {
        let wrapped = match self.method {
            Method::Aes(method) => crypto.wrap_key(self.bytes.expose(), method, plain.expose()),
            Method::Rsa(oaep) => crypto.wrap_key_oaep(self.bytes.expose(), oaep, plain.expose()),
        };
        match wrapped {
            Ok(wrapped) => Ok(Secret::new(&wrapped)),
            Err(error) => Err(self.wrap_failure(error, plain.len())),
        }
    }

    fn wrap_failure(&self, error: CryptoError, length: usize) -> Failure {
        match (error.kind(), self.method) {
            (CryptoErrorKind::Length, Method::Aes(_)) => Failure::new(
                Cause::KeyWrapNotSupported,
                "NIST key wrap takes keys of 16 bytes or more, in multiples of 8",
            ),
            (CryptoErrorKind::Length, Method::Rsa(_)) => Failure::new(
                Cause::KeyWrapNotSupported,
                format_args!(
                    "the key takes {length} bytes, more than the RSA key can hold: wrap it under a symmetric key"
                ),
            ),
            (CryptoErrorKind::Unsupported, _) => Failure::new(Cause::KeyWrapNotSupported, error),
            _ => Failure::new(Cause::Cryptographic, error),
        }
    }

    /// Unwraps a key value.
    ///
    /// # Errors
    /// [`Cause::Cryptographic`] when this key did not wrap it.
    pub(crate) fn unwrap(&self, crypto: &dyn Crypto, wrapped: &Secret) -> Result<Secret, Failure> {
        let plain = match self.method {
            Method::Aes(method) => crypto.unwrap_key(self.bytes.expose(), method, wrapped.expose()),
            Method::Rsa(oaep) => {
                crypto.unwrap_key_oaep(self.bytes.expose(), oaep, wrapped.expose())
            }
        };
        plain
            .map(|plain| Secret::new(&plain))
            .map_err(|error| Failure::new(Cause::Cryptographic, error))
    }
}

impl Method {
    /// The algorithm that a key's type and the Cryptographic Parameters stand for.
    fn of(
        record: &Record,
        used: KeyUse,
        parameters: Option<&CryptographicParameters>,
        version: Version,
    ) -> Result<Method, Failure> {
        match (record.object_type, used) {
            (ObjectType::SYMMETRIC_KEY, _) => block_cipher(parameters).map(Method::Aes),
            (ObjectType::PUBLIC_KEY, KeyUse::Protect)
            | (ObjectType::PRIVATE_KEY, KeyUse::Process) => {
                oaep(parameters, version).map(Method::Rsa)
            }
            (other, _) => Err(Failure::new(
                Cause::KeyWrapNotSupported,
                format_args!("a {other} is no key that does this"),
            )),
        }
    }
}

/// The identifier, number and record of the key. What a public key has wrapped, its private half unwraps.
fn find_record(
    ask: &Ask<'_>,
    information: &WrappingKeyInformation,
    used: KeyUse,
) -> Result<(Text, RecordNumber, Record), Failure> {
    let identifier = ask.identifier(Some(&information.unique_identifier))?;
    let (number, record) = find(ask, &identifier)?;
    if used == KeyUse::Protect || record.object_type != ObjectType::PUBLIC_KEY {
        return Ok((identifier, number, record));
    }
    let identifier = private_half(&record).ok_or_else(|| {
        Failure::new(
            Cause::WrappingKeyNotFound,
            "the public key has no Private Key Link to unwrap by",
        )
    })?;
    let (number, record) = find(ask, &identifier)?;
    Ok((identifier, number, record))
}

fn find(ask: &Ask<'_>, identifier: &str) -> Result<(RecordNumber, Record), Failure> {
    let found = ask.snapshot.by_identifier(identifier)?;
    found.ok_or_else(|| {
        Failure::new(
            Cause::WrappingKeyNotFound,
            format_args!("there is no wrapping key {identifier:?}"),
        )
    })
}

/// The private key that a public key's Link leads to.
pub(crate) fn private_half(public: &Record) -> Option<Text> {
    public
        .client_attributes()
        .find_map(|attribute| match &attribute.value {
            V::Link(link) if link.link_type == LinkType::PRIVATE_KEY_LINK => {
                link.target.as_text().map(Text::from)
            }
            _ => None,
        })
}

/// Fails unless the caller may use the key so, and its State, dates and usage mask allow it.
fn check_allowed(
    ask: &Ask<'_>,
    record: &Record,
    used: KeyUse,
    rights: &dyn Rights,
) -> Result<(), Failure> {
    let (operation, bit) = match used {
        KeyUse::Protect => (Operation::ENCRYPT, CryptographicUsageMask::WRAP_KEY),
        KeyUse::Process => (Operation::DECRYPT, CryptographicUsageMask::UNWRAP_KEY),
    };
    rights.check(ask.caller, operation, record)?;
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
    check_usable(record, ask.now.wall, used)?;
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
    Ok(())
}

/// The key's bytes, where it is kept in the clear: an RSA key as PKCS#1.
fn clear_bytes(
    ask: &Ask<'_>,
    number: RecordNumber,
    method: Method,
) -> Result<Option<Secret>, Failure> {
    let Some(object) = ask.snapshot.whole(number)?.and_then(|(_, object)| object) else {
        return Ok(None);
    };
    let wanted = matches!(method, Method::Rsa(_)).then_some(KeyFormatType::PKCS_1);
    let object = in_format(object, wanted, ask.cx.version)?;
    let value = object
        .key_block()
        .and_then(|block| block.key_value.as_ref());
    Ok(match value {
        Some(KeyValue::Plain(PlainKeyValue {
            key_material: KeyMaterial::Bytes(bytes),
            ..
        })) => Some(bytes.clone()),
        _ => None,
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

/// The AES key wrap that Cryptographic Parameters name.
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

/// The OAEP that Cryptographic Parameters describe (KMIP 2.1 §4.16). PKCS1 v1.5 is not supported: a caller who may ask for keys to be unwrapped by
/// it can decrypt anything by asking often (Bleichenbacher's attack).
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
        // SHA-1 is the default since 1.4; earlier versions have none.
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
