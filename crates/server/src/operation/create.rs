//! Create and Register: new objects, and the attributes that the server sets.

use super::template::expanded;
use super::{Operations, check_names, check_storage};
use keyferry_kmip::spec::{
    AttributeValue as V, CertificateType, CryptographicAlgorithm, KeyFormatType, ObjectType,
    ProtectionStorageMask, RNGAlgorithm, SecretDataType, SetBy, attribute_row, tag,
};
use keyferry_kmip::{
    Attributes, Cause, CreateRequest, CreateResponse, Failure, Object, RegisterRequest,
    RegisterResponse, RequestItem, RngParameters, Secret, TemplateAttribute, Text,
    UniqueIdentifier, lifecycle,
};
use keyferry_s2s::{Answered, Ask, Node};
use keyferry_store::{Effects, Material, Record, SnapshotExt};
use keyferry_ttlv::{Extra, Version};
use zeroize::Zeroizing;

/// Create (KMIP 2.1 §6.1.8): makes a symmetric key, or Secret Data since 1.4. The standard also wants a Cryptographic Usage Mask; the OASIS case
/// TC-CS-CORVAL-1 does not.
pub(super) fn create(
    ops: &Operations,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: CreateRequest = item.payload(ask.cx)?;
    check_storage(request.protection_storage_masks.as_ref())?;
    let object_type = request.object_type;
    let secret = object_type == ObjectType::SECRET_DATA && ask.cx.version >= Version::V1_4;
    if object_type != ObjectType::SYMMETRIC_KEY && !secret {
        return Err(Failure::new(
            Cause::InvalidObjectType,
            format_args!(
                "Create makes symmetric keys and, since KMIP 1.4, Secret Data, and not a {object_type}"
            ),
        ));
    }
    let mut attributes = Attributes::new();
    set_requested(&mut attributes, request.attributes, object_type, ask, None)?;
    let object = if secret {
        new_secret(&attributes, ask)?
    } else {
        new_key(&attributes, ask)?
    };
    let identifier = identifier(ask)?;
    let effects = enter(
        ops,
        ask,
        (identifier.clone(), attributes, object),
        Origin::Made,
    )?;
    let response = CreateResponse {
        object_type,
        unique_identifier: UniqueIdentifier::Text(identifier.clone()),
        attributes: None,
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?
        .with(effects)
        .with_placeholder(identifier))
}

fn length(attributes: &Attributes) -> Result<i32, Failure> {
    let bits = attributes.iter().find_map(|a| {
        if let V::CryptographicLength(bits) = a.value {
            Some(bits)
        } else {
            None
        }
    });
    bits.ok_or_else(|| Failure::new(Cause::MissingData, "Create needs the Cryptographic Length"))
}

fn random(ask: &mut Ask<'_>, bytes: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut out = Zeroizing::new(vec![0; bytes]);
    ask.random
        .fill(&mut out)
        .map_err(|e| Failure::new(Cause::Cryptographic, e))?;
    Ok(out)
}

/// A new symmetric key of the algorithm and length that attributes ask for.
pub(super) fn new_key(attributes: &Attributes, ask: &mut Ask<'_>) -> Result<Object, Failure> {
    let algorithm = attributes.iter().find_map(|a| match a.value {
        V::CryptographicAlgorithm(algorithm) => Some(algorithm),
        _ => None,
    });
    let algorithm = algorithm.ok_or_else(|| {
        Failure::new(
            Cause::MissingData,
            "Create needs the Cryptographic Algorithm",
        )
    })?;
    let bits = length(attributes)?;
    let key = random(ask, key_bytes(algorithm, bits)?)?;
    Ok(Object::symmetric_key(algorithm, bits, Secret::new(&key)))
}

/// New Secret Data of this many bits.
fn new_secret(attributes: &Attributes, ask: &mut Ask<'_>) -> Result<Object, Failure> {
    let bits = length(attributes)?;
    if bits % 8 != 0 || !(8..=65_536).contains(&bits) {
        let why =
            format_args!("Secret Data has 8 to 65 536 bits, in multiples of 8, and not {bits}");
        return Err(Failure::new(Cause::InvalidField, why));
    }
    let value = random(ask, usize::try_from(bits / 8).unwrap_or_default())?;
    Ok(Object::secret_data(
        SecretDataType::PASSWORD,
        Secret::new(&value),
    ))
}

/// The length of a key in bytes, where the algorithm has keys of this length.
fn key_bytes(algorithm: CryptographicAlgorithm, bits: i32) -> Result<usize, Failure> {
    use CryptographicAlgorithm as A;
    let fits = match algorithm {
        A::AES => matches!(bits, 128 | 192 | 256),
        A::TRIPLE_DES => matches!(bits, 112 | 128 | 168 | 192),
        A::DES => matches!(bits, 56 | 64),
        A::RSA | A::DSA | A::ECDSA | A::DH | A::ECDH | A::EC => {
            return Err(Failure::new(
                Cause::InvalidField,
                format_args!("{algorithm} is no algorithm of symmetric keys"),
            ));
        }
        _ => bits % 8 == 0 && (40..=4096).contains(&bits),
    };
    if !fits {
        return Err(Failure::new(
            Cause::InvalidField,
            format_args!("{algorithm} has no keys of {bits} bits"),
        ));
    }
    // A DES key is stored with its parity bits; its length may be given with or without them.
    let bits = match (algorithm, bits) {
        (A::TRIPLE_DES, 112) => 128,
        (A::TRIPLE_DES, 168) => 192,
        (A::DES, 56) => 64,
        (_, bits) => bits,
    };
    usize::try_from(bits / 8)
        .map_err(|_| Failure::new(Cause::InvalidField, "the length is negative"))
}

/// Register (KMIP 2.1 §6.1.43): stores an object that a client has made.
pub(super) fn register(
    ops: &Operations,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: RegisterRequest = item.payload(ask.cx)?;
    check_storage(request.protection_storage_masks.as_ref())?;
    let object = request
        .object
        .ok_or_else(|| Failure::new(Cause::MissingData, "the object itself is missing"))?;
    if object.object_type() != request.object_type {
        return Err(Failure::new(
            Cause::InvalidField,
            format_args!(
                "the Object Type is {}, and the object a {}",
                request.object_type,
                object.object_type()
            ),
        ));
    }
    let mut attributes = Attributes::new();
    set_requested(
        &mut attributes,
        request.attributes,
        request.object_type,
        ask,
        None,
    )?;
    let identifier = identifier(ask)?;
    let effects = enter(
        ops,
        ask,
        (identifier.clone(), attributes, object),
        Origin::Brought,
    )?;
    let response = RegisterResponse {
        unique_identifier: UniqueIdentifier::Text(identifier.clone()),
        attributes: None,
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?
        .with(effects)
        .with_placeholder(identifier))
}

/// Takes the attributes that a client may set, and refuses others. A replacement may have the Names of the object that it replaces.
pub(super) fn set_requested(
    attributes: &mut Attributes,
    asked: TemplateAttribute,
    object_type: ObjectType,
    ask: &Ask<'_>,
    replaced: Option<&Record>,
) -> Result<(), Failure> {
    asked.attributes.check_count()?;
    for attribute in expanded(asked, object_type, ask)? {
        let value = super::attribute::normalised(ask, attribute.value)?;
        super::attribute::check_value(&value)?;
        match (&value, attribute_row(value.tag())) {
            (V::Custom(_), _) => {}
            // This version does not have the attribute, though another one may.
            (V::Unknown(_), _) => {
                return Err(Failure::new(
                    Cause::UnknownAttribute,
                    format_args!("unknown attribute {}", value.reference()),
                ));
            }
            // Algorithm, length and the attributes of certificates are set by the server, but for a new object the client may give them.
            (
                V::CryptographicAlgorithm(_)
                | V::CryptographicLength(_)
                | V::CertificateType(_)
                | V::CertificateLength(_),
                _,
            ) => {}
            (V::DigitalSignatureAlgorithm(_), _) => {}
            (_, Some(row)) if row.set_by == SetBy::Server => {
                return Err(Failure::new(
                    Cause::ReadOnlyAttribute,
                    format_args!("{} is set by the server", row.name),
                ));
            }
            (_, Some(_)) => {}
            (_, None) => {
                return Err(Failure::new(
                    Cause::UnknownAttribute,
                    format_args!("unknown attribute {}", value.reference()),
                ));
            }
        }
        if !value.may_repeat() && attributes.iter().any(|a| a.value.is_same_attribute(&value)) {
            return Err(Failure::new(
                Cause::InvalidAttribute,
                format_args!("{} is given more than once", value.reference()),
            ));
        }
        attributes.push(value);
    }
    let owner = ask.caller.name.as_str();
    check_names(ask, attributes, replaced, Some(owner), Cause::NameExists)
}

/// The origin of a new object.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Origin {
    /// The server made it.
    Made,
    /// A client brought it.
    Brought,
}

/// A new Unique Identifier.
pub(super) fn identifier(ask: &mut Ask<'_>) -> Result<Text, Failure> {
    let mut bytes = [0; 16];
    ask.random
        .fill(&mut bytes)
        .map_err(|e| Failure::new(Cause::Cryptographic, e))?;
    Ok(Text::from(
        uuid::Builder::from_random_bytes(bytes)
            .into_uuid()
            .to_string(),
    ))
}

/// The effects of storing a new object, with the attributes that the server sets.
pub(super) fn enter(
    ops: &Operations,
    ask: &mut Ask<'_>,
    (identifier, mut attributes, object): (Text, Attributes, Object),
    origin: Origin,
) -> Result<Effects, Failure> {
    let object_type = object.object_type();
    if let Object::Template(template) = &object {
        template.attributes.check_count()?;
        // A template may have its Names in either place.
        let named = attributes.names().next().is_some();
        for name in template.attributes.names().filter(|_| !named) {
            attributes.push(V::Name(name.clone()));
        }
        let owner = ask.caller.name.as_str();
        check_names(ask, &attributes, None, Some(owner), Cause::NameExists)?;
        attributes.set_default(V::LeaseTime(ops.settings.lease_time));
    } else {
        describe(&ops.node, &mut attributes, &object)?;
        serve(ops, ask, &mut attributes, object_type, &identifier, origin);
    }
    ops.node
        .set_default_attributes(ask.snapshot, &mut attributes, ask.now)?;
    lifecycle::check_dates(&attributes)?;
    attributes.check_count()?;
    let reign = ask.snapshot.reign()?;
    let mut record = ops
        .node
        .new_record(reign, identifier, object_type, attributes);
    record.owner = Some(ask.caller.name.as_str().into());
    ops.node.recognise(ask, &mut record, &object)?;
    Ok(Effects::change(None, record, Material::Set(object.into())))
}

/// The description of the random number generator of keys, of which the server knows nothing.
pub(super) fn generator() -> RngParameters {
    RngParameters {
        rng_algorithm: RNGAlgorithm::UNSPECIFIED,
        cryptographic_algorithm: None,
        cryptographic_length: None,
        hashing_algorithm: None,
        drbg_algorithm: None,
        recommended_curve: None,
        fips186_variation: None,
        prediction_resistance: None,
        extra: Extra::NONE,
    }
}

/// Sets the attributes that only this server knows.
fn serve(
    ops: &Operations,
    ask: &Ask<'_>,
    attributes: &mut Attributes,
    object_type: ObjectType,
    identifier: &str,
    origin: Origin,
) {
    let fits =
        |tag| attribute_row(tag).is_some_and(|row| row.may_be_on(object_type, Version::V1_4));
    let rng = origin == Origin::Made && fits(tag::RANDOM_NUMBER_GENERATOR);
    if fits(tag::LEASE_TIME) {
        attributes.set_default(V::LeaseTime(ops.settings.lease_time));
    }
    if origin == Origin::Made {
        attributes.set_default(V::OriginalCreationDate(ask.now.wall));
    }
    if rng {
        attributes.set_default(V::RandomNumberGenerator(generator().into()));
    }
    attributes.set_default(V::ProtectionStorageMask(ProtectionStorageMask::SOFTWARE));
    // Sixteen bytes of its digest are as unique as the identifier.
    let short = ops.node.crypto.sha256(&[identifier.as_bytes()]);
    attributes.set_default(V::ShortUniqueIdentifier(
        short.iter().take(16).copied().collect(),
    ));
}

/// Sets the attributes that follow from the object itself, and checks given ones against it.
fn describe(node: &Node, attributes: &mut Attributes, object: &Object) -> Result<(), Failure> {
    if let Some(block) = object.key_block() {
        let told = [
            block.cryptographic_algorithm.map(V::CryptographicAlgorithm),
            block.cryptographic_length.map(V::CryptographicLength),
            (block.key_format_type != KeyFormatType(0))
                .then_some(V::KeyFormatType(block.key_format_type)),
        ];
        for told in told.into_iter().flatten() {
            if let Some(said) = attributes.get(told.tag())
                && *said != told
            {
                return Err(Failure::new(
                    Cause::InvalidField,
                    format_args!("{} is another one in the Key Block", told.reference()),
                ));
            }
            attributes.set_default(told);
        }
        if block.key_value.is_none() {
            attributes.set_default(V::KeyValuePresent(false));
        }
    }
    match object {
        Object::Certificate(certificate) => {
            attributes.set_default(V::CertificateType(certificate.certificate_type));
            attributes.set_default(V::CertificateLength(
                i32::try_from(certificate.value.len()).unwrap_or(i32::MAX),
            ));
            if certificate.certificate_type == CertificateType::X509 {
                super::certificate::describe(attributes, &certificate.value);
            }
            attributes.set_default(V::KeyFormatType(KeyFormatType::RAW));
        }
        Object::OpaqueObject(opaque) => {
            attributes.set_default(V::OpaqueDataType(opaque.opaque_data_type))
        }
        _ => {}
    }
    node.digest(attributes, object);
    attributes.set_default(V::Sensitive(false));
    attributes.set_default(V::Extractable(true));
    let holds = |wanted: V| attributes.iter().any(|a| a.value == wanted);
    let (sensitive, extractable) = (holds(V::Sensitive(true)), holds(V::Extractable(true)));
    attributes.set(V::AlwaysSensitive(sensitive));
    attributes.set(V::NeverExtractable(!extractable));
    attributes.set_default(V::Fresh(true));
    Ok(())
}
