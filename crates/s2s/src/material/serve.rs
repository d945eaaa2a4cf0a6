use crate::ask::Ask;
use crate::material::format;
use crate::node::Node;
use keyferry_kmip::spec::{KeyCompressionType, KeyFormatType, KeyWrapType};
use keyferry_kmip::{Cause, Failure, KeyWrappingSpecification, Object, Text, UniqueIdentifier};
use keyferry_store::{ObjectId, Record, RecordNumber, SnapshotExt};

/// How a Get or Export wants the object (KMIP 2.1 §6.1.18 and §6.1.19).
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestedForm<'a> {
    /// In which format.
    pub key_format_type: Option<KeyFormatType>,
    /// Whether as it was registered, or in the clear.
    pub key_wrap_type: Option<KeyWrapType>,
    /// How an elliptic curve point is compressed.
    pub key_compression_type: Option<KeyCompressionType>,
    /// How to wrap it.
    pub key_wrapping_specification: Option<&'a KeyWrappingSpecification>,
}

impl Node {
    /// The object itself as it is wanted, if it may leave: a destroyed one has none, one that is not Extractable stays, a Sensitive one leaves
    /// wrapped or not at all.
    ///
    /// # Errors
    /// [`Cause::Sensitive`], [`Cause::NotExtractable`], and what stands against the format or the wrapping.
    pub fn served(
        &self,
        ask: &Ask<'_>,
        number: RecordNumber,
        record: &Record,
        wanted: &RequestedForm<'_>,
    ) -> Result<Option<Object>, Failure> {
        use keyferry_kmip::spec::{AttributeValue as V, tag};
        if record.is_destroyed() {
            return Ok(None);
        }
        if record.attributes.get(tag::ARCHIVE_DATE).is_some() {
            return Err(Failure::new(
                Cause::ObjectArchived,
                "the object is archived",
            ));
        }
        if matches!(
            record.attributes.get(tag::EXTRACTABLE),
            Some(V::Extractable(false))
        ) {
            return Err(Failure::new(
                Cause::NotExtractable,
                "the object is not Extractable",
            ));
        }
        let Some(object) = ask.snapshot.whole(number)?.and_then(|(_, object)| object) else {
            return Ok(None);
        };
        let object = localize_wrapping_key(ask, record, object)?;
        let is_wrapped = object
            .key_block()
            .is_some_and(|block| block.key_wrapping_data.is_some());
        let unwraps = is_wrapped && wanted.key_wrap_type == Some(KeyWrapType::NOT_WRAPPED);
        let leaves_wrapped = wanted.key_wrapping_specification.is_some() || is_wrapped && !unwraps;
        if !leaves_wrapped
            && matches!(
                record.attributes.get(tag::SENSITIVE),
                Some(V::Sensitive(true))
            )
        {
            return Err(Failure::new(
                Cause::Sensitive,
                "the object is Sensitive: it leaves wrapped or not at all",
            ));
        }
        let object = match unwraps {
            true => match self.unwrapped(ask, object)? {
                // What a Sensitive key protects is as Sensitive as it is.
                (_, true) if wanted.key_wrapping_specification.is_none() => {
                    return Err(Failure::new(
                        Cause::Sensitive,
                        "the wrapping key is Sensitive: the object leaves wrapped or not at all",
                    ));
                }
                (object, _) => object,
            },
            false => object,
        };
        if let (Some(wanted), Some(block)) = (wanted.key_compression_type, object.key_block())
            && block
                .key_compression_type
                .unwrap_or(KeyCompressionType::EC_PUBLIC_KEY_TYPE_UNCOMPRESSED)
                != wanted
        {
            let why = format_args!("the key is not given as {wanted}");
            return Err(Failure::new(Cause::KeyCompressionNotSupported, why));
        }
        let object = format::in_format(object, wanted.key_format_type, ask.cx.version)?;
        match wanted.key_wrapping_specification {
            Some(specification) => self.wrapped(ask, object, record, specification).map(Some),
            None => Ok(Some(object)),
        }
    }
}

/// A copy as it is served here: the key that it is wrapped under has its identifier here.
fn localize_wrapping_key(
    ask: &Ask<'_>,
    record: &Record,
    mut object: Object,
) -> Result<Object, Failure> {
    let data = crate::material::wrap::key_block(&mut object)
        .and_then(|block| block.key_wrapping_data.as_deref_mut());
    for information in data.into_iter().flat_map(|data| {
        let mac = data
            .mac_signature_key_information
            .as_mut()
            .map(|mac| &mut mac.unique_identifier);
        data.encryption_key_information
            .as_mut()
            .map(|key| &mut key.unique_identifier)
            .into_iter()
            .chain(mac)
    }) {
        if let UniqueIdentifier::Text(identifier) = information
            && let Some(here) = crate::material::serve::wrapping_key_here(ask, record, identifier)?
        {
            *identifier = here;
        }
    }
    Ok(object)
}

/// The object that an identifier in a copy means: one of the server that the copy is of.
pub(crate) fn id_at_origin(record: &Record, identifier: &Text) -> ObjectId {
    ObjectId {
        server: record.id.server.clone(),
        instance: record.id.instance.clone(),
        identifier: identifier.clone(),
    }
}

/// The identifier here of the key that a copy's material is wrapped under, when it is another one than at its origin.
pub(crate) fn wrapping_key_here(
    ask: &Ask<'_>,
    record: &Record,
    identifier: &Text,
) -> Result<Option<Text>, Failure> {
    let found = ask
        .snapshot
        .by_object_id(&id_at_origin(record, identifier))?;
    Ok(found
        .map(|(_, key)| key.identifier)
        .filter(|here| here != identifier))
}
