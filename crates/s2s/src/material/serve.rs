//! This module serves the object itself, for Get and Export: whether it may leave, and in which form.

use crate::ask::Ask;
use crate::material::format::in_format;
use crate::material::wrap::key_block_mut;
use crate::node::Node;
use keyferry_kmip::spec::{AttributeValue, KeyCompressionType, KeyFormatType, KeyWrapType, tag};
use keyferry_kmip::{Cause, Failure, KeyWrappingSpecification, Object, Text, UniqueIdentifier};
use keyferry_store::{ObjectId, Record, RecordNumber, SnapshotExt};

/// The form in which a Get or Export wants the object (KMIP 2.1 §6.1.18 and §6.1.19).
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestedForm<'a> {
    /// The Key Format Type.
    pub key_format_type: Option<KeyFormatType>,
    /// Whether a wrapped key is wanted as it was registered, or in the clear.
    pub key_wrap_type: Option<KeyWrapType>,
    /// The form of an elliptic curve point.
    pub key_compression_type: Option<KeyCompressionType>,
    /// How to wrap the key.
    pub key_wrapping_specification: Option<&'a KeyWrappingSpecification>,
}

impl Node {
    /// The object itself in the wanted form, if it may leave. A destroyed object has none; one that is not Extractable stays; a Sensitive one leaves
    /// wrapped or not at all.
    ///
    /// # Errors
    /// [`Cause::Sensitive`], [`Cause::NotExtractable`], [`Cause::ObjectArchived`], and those of the format and the wrapping.
    pub fn served(
        &self,
        ask: &Ask<'_>,
        number: RecordNumber,
        record: &Record,
        wanted: &RequestedForm<'_>,
    ) -> Result<Option<Object>, Failure> {
        if record.is_destroyed() {
            return Ok(None);
        }
        check_may_leave(record)?;
        self.check_kept(ask.snapshot, (number, record), ask.now)?;
        let Some(object) = ask.snapshot.whole(number)?.and_then(|(_, object)| object) else {
            return Ok(None);
        };
        let object = localize_wrapping_key(ask, record, object)?;
        let object = self.unwrapped_if_wanted(ask, record, object, wanted)?;
        check_compression(&object, wanted.key_compression_type)?;
        let object = in_format(object, wanted.key_format_type, ask.cx.version)?;
        match wanted.key_wrapping_specification {
            Some(specification) => self.wrapped(ask, object, record, specification).map(Some),
            None => Ok(Some(object)),
        }
    }

    /// The object in the clear where the request wants a wrapped one so, otherwise as it is. Fails when it is Sensitive, by itself or by its wrapping
    /// key, and would leave in the clear.
    fn unwrapped_if_wanted(
        &self,
        ask: &Ask<'_>,
        record: &Record,
        object: Object,
        wanted: &RequestedForm<'_>,
    ) -> Result<Object, Failure> {
        let will_be_wrapped = wanted.key_wrapping_specification.is_some();
        let is_wrapped = object
            .key_block()
            .is_some_and(|block| block.key_wrapping_data.is_some());
        let unwraps = is_wrapped && wanted.key_wrap_type == Some(KeyWrapType::NOT_WRAPPED);
        let leaves_wrapped = will_be_wrapped || is_wrapped && !unwraps;
        let sensitive = AttributeValue::Sensitive(true);
        if !leaves_wrapped && record.attributes.get(tag::SENSITIVE) == Some(&sensitive) {
            return Err(Failure::new(
                Cause::Sensitive,
                "the object is Sensitive: it leaves wrapped or not at all",
            ));
        }
        if !unwraps {
            return Ok(object);
        }
        let (object, key_is_sensitive) = self.unwrapped(ask, object)?;
        // What a Sensitive key protects is as Sensitive as the key.
        if key_is_sensitive && !will_be_wrapped {
            return Err(Failure::new(
                Cause::Sensitive,
                "the wrapping key is Sensitive: the object leaves wrapped or not at all",
            ));
        }
        Ok(object)
    }
}

/// Fails when the object is archived or not Extractable.
fn check_may_leave(record: &Record) -> Result<(), Failure> {
    if record.attributes.get(tag::ARCHIVE_DATE).is_some() {
        return Err(Failure::new(
            Cause::ObjectArchived,
            "the object is archived",
        ));
    }
    let kept = AttributeValue::Extractable(false);
    if record.attributes.get(tag::EXTRACTABLE) == Some(&kept) {
        return Err(Failure::new(
            Cause::NotExtractable,
            "the object is not Extractable",
        ));
    }
    Ok(())
}

/// Fails when the key is kept with another compression than the wanted one: keys are not compressed here.
fn check_compression(object: &Object, wanted: Option<KeyCompressionType>) -> Result<(), Failure> {
    let (Some(wanted), Some(block)) = (wanted, object.key_block()) else {
        return Ok(());
    };
    let kept = block
        .key_compression_type
        .unwrap_or(KeyCompressionType::EC_PUBLIC_KEY_TYPE_UNCOMPRESSED);
    if kept == wanted {
        return Ok(());
    }
    Err(Failure::new(
        Cause::KeyCompressionNotSupported,
        format_args!("the key is not given as {wanted}"),
    ))
}

/// Gives the key that a copy is wrapped under the identifier that it has here.
fn localize_wrapping_key(
    ask: &Ask<'_>,
    record: &Record,
    mut object: Object,
) -> Result<Object, Failure> {
    let data = key_block_mut(&mut object).and_then(|block| block.key_wrapping_data.as_deref_mut());
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
            && let Some(here) = wrapping_key_here(ask, record, identifier)?
        {
            *identifier = here;
        }
    }
    Ok(object)
}

/// The id of the object that an identifier in a copy names: an object of the server that the copy is of.
pub(crate) fn id_at_origin(record: &Record, identifier: &Text) -> ObjectId {
    ObjectId {
        server: record.id.server.clone(),
        instance: record.id.instance.clone(),
        identifier: identifier.clone(),
    }
}

/// The identifier here of the key that a copy's material is wrapped under, where it differs from the one at its origin.
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
