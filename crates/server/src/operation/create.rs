use super::check_names;
use keyferry_kmip::spec::{
    AttributeValue as V, CryptographicAlgorithm, HashingAlgorithm, KeyFormatType, ObjectType, SetBy, attribute_row,
};
use keyferry_kmip::{
    Attributes, Cause, CreateRequest, CreateResponse, Digest, Failure, Object, RegisterRequest, RegisterResponse, RequestItem,
    Secret, TemplateAttribute, Text, UniqueIdentifier,
};
use keyferry_s2s::{Ask, Node, Outcome, complete, store_failed};
use keyferry_store::{Effects, Material, SnapshotExt};
use keyferry_ttlv::Extra;
use zeroize::Zeroizing;

/// Create (KMIP 2.1 §6.1.8): a symmetric key. The standard also wants a Cryptographic Usage Mask; the OASIS case TC-CS-CORVAL-1 does not.
pub(super) fn create(node: &Node, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Outcome, Failure> {
    let request: CreateRequest = item.payload(ask.cx)?;
    if request.object_type != ObjectType::SYMMETRIC_KEY {
        return Err(Failure::new(
            Cause::InvalidField,
            format_args!("Create makes symmetric keys, not a {}", request.object_type),
        ));
    }
    let mut attributes = Attributes::new();
    take(&mut attributes, request.attributes, ask)?;
    let missing = |what: &str| Failure::new(Cause::MissingData, format_args!("Create needs the {what}"));
    let find = |pick: fn(&V) -> Option<i32>| attributes.iter().find_map(|a| pick(&a.value));
    let algorithm = attributes
        .iter()
        .find_map(|a| match a.value {
            V::CryptographicAlgorithm(algorithm) => Some(algorithm),
            _ => None,
        })
        .ok_or_else(|| missing("Cryptographic Algorithm"))?;
    let bits = find(|v| if let V::CryptographicLength(bits) = v { Some(*bits) } else { None })
        .ok_or_else(|| missing("Cryptographic Length"))?;
    let bytes = key_bytes(algorithm, bits)?;
    let mut key = Zeroizing::new(vec![0; bytes]);
    ask.random.fill(&mut key).map_err(|e| Failure::new(Cause::Cryptographic, e))?;
    let object = Object::symmetric_key(algorithm, bits, Secret::new(&key));
    attributes.set_default(V::OriginalCreationDate(ask.now.wall));
    let (identifier, effects) = enter(node, ask, attributes, object)?;
    let response = CreateResponse {
        object_type: ObjectType::SYMMETRIC_KEY,
        unique_identifier: UniqueIdentifier::Text(identifier.clone()),
        attributes: None,
        extra: Extra::NONE,
    };
    Ok(Outcome::answer(&response, ask.cx)?.with(effects).placing(identifier))
}

/// The length of a key in bytes, where algorithm and length go together.
fn key_bytes(algorithm: CryptographicAlgorithm, bits: i32) -> Result<usize, Failure> {
    use CryptographicAlgorithm as A;
    let fits = match algorithm {
        A::AES => matches!(bits, 128 | 192 | 256),
        A::TRIPLE_DES => matches!(bits, 112 | 128 | 168 | 192),
        A::DES => matches!(bits, 56 | 64),
        A::RSA | A::DSA | A::ECDSA | A::DH | A::ECDH | A::EC => {
            return Err(Failure::new(Cause::InvalidField, format_args!("{algorithm} is no algorithm of symmetric keys")));
        }
        _ => bits % 8 == 0 && (40..=4096).contains(&bits),
    };
    if !fits {
        return Err(Failure::new(Cause::InvalidField, format_args!("{algorithm} has no keys of {bits} bits")));
    }
    // Parity bits are part of a DES key's bytes, and may or may not be of its length.
    let bits = match (algorithm, bits) {
        (A::TRIPLE_DES, 112) => 128,
        (A::TRIPLE_DES, 168) => 192,
        (A::DES, 56) => 64,
        (_, bits) => bits,
    };
    usize::try_from(bits / 8).map_err(|_| Failure::new(Cause::InvalidField, "the length is negative"))
}

/// Register (KMIP 2.1 §6.1.43): an object that a client brings.
pub(super) fn register(node: &Node, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Outcome, Failure> {
    let request: RegisterRequest = item.payload(ask.cx)?;
    let object = request.object.ok_or_else(|| Failure::new(Cause::MissingData, "the object itself is missing"))?;
    if object.object_type() != request.object_type {
        return Err(Failure::new(
            Cause::InvalidField,
            format_args!("the Object Type is {}, and the object a {}", request.object_type, object.object_type()),
        ));
    }
    let mut attributes = Attributes::new();
    take(&mut attributes, request.attributes, ask)?;
    let (identifier, effects) = enter(node, ask, attributes, object)?;
    let response =
        RegisterResponse { unique_identifier: UniqueIdentifier::Text(identifier.clone()), attributes: None, extra: Extra::NONE };
    Ok(Outcome::answer(&response, ask.cx)?.with(effects).placing(identifier))
}

/// Takes over what a client may set, and refuses what it may not.
fn take(attributes: &mut Attributes, asked: TemplateAttribute, ask: &Ask<'_>) -> Result<(), Failure> {
    if let Some(name) = asked.names.first() {
        // A template that is not expanded may not be passed over.
        return Err(Failure::new(Cause::ObjectNotFound, format_args!("there is no template {}", name.value)));
    }
    asked.attributes.check_count()?;
    for attribute in asked.attributes {
        let value = super::attribute::normalised(attribute.value);
        super::attribute::check_value(&value)?;
        match (&value, attribute_row(value.tag())) {
            (V::Custom(_), _) => {}
            // The version does not have it, though another one may.
            (V::Unknown(_), _) => {
                return Err(Failure::new(Cause::UnknownAttribute, format_args!("unknown attribute {}", value.reference())));
            }
            // Algorithm, length and certificate facts are the server's to set, from what the client says of the object.
            (V::CryptographicAlgorithm(_) | V::CryptographicLength(_) | V::CertificateType(_) | V::CertificateLength(_), _) => {}
            (V::DigitalSignatureAlgorithm(_), _) => {}
            (_, Some(row)) if row.set_by == SetBy::Server => {
                return Err(Failure::new(Cause::ReadOnlyAttribute, format_args!("{} is set by the server", row.name)));
            }
            (_, Some(_)) => {}
            (_, None) => {
                return Err(Failure::new(Cause::UnknownAttribute, format_args!("unknown attribute {}", value.reference())));
            }
        }
        if !value.may_repeat() && attributes.iter().any(|a| a.value.is_same_attribute(&value)) {
            return Err(Failure::new(Cause::InvalidAttribute, format_args!("{} is given more than once", value.reference())));
        }
        attributes.push(value);
    }
    check_names(ask, attributes, None, Cause::NameExists)
}

/// Enters a new object into the store, with the attributes that the server sets.
fn enter(node: &Node, ask: &mut Ask<'_>, mut attributes: Attributes, object: Object) -> Result<(Text, Effects), Failure> {
    describe(node, &mut attributes, &object)?;
    complete(&mut attributes, ask.now.wall);
    let mut bytes = [0; 16];
    ask.random.fill(&mut bytes).map_err(|e| Failure::new(Cause::Cryptographic, e))?;
    let identifier = Text::from(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string());
    let incarnation = ask.snapshot.incarnation().map_err(store_failed)?;
    let mut record = node.born(incarnation, identifier.clone(), object.object_type(), attributes);
    record.owner = Some(ask.caller.name.as_str().into());
    node.recognise(ask, &mut record, &object).map_err(store_failed)?;
    Ok((identifier, Effects::change(None, record, Material::Set(object.into()))))
}

/// Sets what the object itself tells, and checks it against what was said.
fn describe(node: &Node, attributes: &mut Attributes, object: &Object) -> Result<(), Failure> {
    let mut format = None;
    if let Some(block) = object.key_block() {
        format = Some(block.key_format_type);
        let told = [
            block.cryptographic_algorithm.map(V::CryptographicAlgorithm),
            block.cryptographic_length.map(V::CryptographicLength),
            (block.key_format_type != KeyFormatType(0)).then_some(V::KeyFormatType(block.key_format_type)),
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
            attributes.set_default(V::CertificateLength(i32::try_from(certificate.value.len()).unwrap_or(i32::MAX)));
        }
        Object::OpaqueObject(opaque) => attributes.set_default(V::OpaqueDataType(opaque.opaque_data_type)),
        _ => {}
    }
    if let Some(bytes) = object.digestible() {
        attributes.push(V::Digest(Digest {
            hashing_algorithm: HashingAlgorithm::SHA_256,
            value: Some(node.crypto.sha256(&[bytes]).to_vec()),
            key_format_type: format,
            extra: Extra::NONE,
        }));
    }
    attributes.set_default(V::Sensitive(false));
    attributes.set_default(V::Extractable(true));
    let holds = |wanted: V| attributes.iter().any(|a| a.value == wanted);
    let (sensitive, extractable) = (holds(V::Sensitive(true)), holds(V::Extractable(true)));
    attributes.set(V::AlwaysSensitive(sensitive));
    attributes.set(V::NeverExtractable(!extractable));
    attributes.set_default(V::Fresh(true));
    Ok(())
}
