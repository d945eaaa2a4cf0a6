//! The Message Extension of keyferry: what it adds to an Import, a Put or an Export of an object, and to the answer.

use crate::report::Outcome;
use crate::wire::receipt::{CopyFacts, Receipt};
use keyferry_kmip::projection::Projection;
use keyferry_kmip::spec::tag;
use keyferry_kmip::{
    Attributes, Cause, Failure, MessageExtension, ResponseItem, Text, context, extension as x,
};
use keyferry_store::record::copy_digest_and_size;
use keyferry_store::{Lineage, ObjectId, Record, Stamp};
use keyferry_ttlv::{Context, Decode, Encode, Extra, Raw, Result, Version};
use std::fmt;

/// What a server holds of an object: nothing, or one change of it.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[ttlv(tag = x::HELD)]
pub(crate) struct Held {
    /// The stamp of the change; a foreign server has none.
    pub(crate) stamp: Option<Stamp>,
    /// The digest of the attributes, or of those that a foreign server showed.
    #[ttlv(tag = x::DIGEST_VALUE)]
    pub(crate) digest: Option<Vec<u8>>,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Held {
    /// What a record holds; nothing without one.
    pub(crate) fn of(record: Option<&Record>) -> keyferry_store::Result<Held> {
        let Some(record) = record else {
            return Ok(Held::default());
        };
        Ok(Held {
            stamp: Some(record.stamp.clone()),
            digest: Some(record.copy_digest()?),
            extra: Extra::NONE,
        })
    }

    /// An object at a foreign server, by the digest of the attributes that it shows.
    pub(crate) fn foreign(digest: Vec<u8>) -> Held {
        Held {
            digest: Some(digest),
            ..Held::default()
        }
    }

    /// Whether it is exactly this change of an object.
    pub(crate) fn is(&self, stamp: &Stamp, digest: &[u8]) -> bool {
        self.stamp.as_ref() == Some(stamp) && self.digest.as_deref() == Some(digest)
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(digest) = &self.digest else {
            return f.write_str("nothing");
        };
        match &self.stamp {
            Some(stamp) => write!(
                f,
                "change {} of {} (digest {})",
                stamp.sequence,
                stamp.issuer,
                Short(digest)
            ),
            None => write!(f, "an object of digest {}", Short(digest)),
        }
    }
}

/// The first six bytes of a digest, for messages.
pub(crate) struct Short<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .take(6)
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a keyferry server adds to an object that it sends to another one: whose object it is, which change of it, and the attributes that KMIP has
/// no place for. It stands in a Message Extension of the vendor [`x::VENDOR`].
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::COPY)]
pub struct Copy {
    /// The object.
    pub id: ObjectId,
    /// The stamp of the change.
    pub stamp: Stamp,
    /// Its earlier reigns.
    #[ttlv(group = ())]
    pub lineage: Lineage,
    /// The digest of the whole copy, by which the receiver notices losses.
    #[ttlv(tag = x::DIGEST_VALUE)]
    pub digest: Vec<u8>,
    /// The version of the rule that says what the digest covers.
    #[ttlv(tag = x::DIGEST_PROJECTION)]
    pub projection: i32,
    /// The attributes that the message's version can't represent, or not with their indices.
    #[ttlv(group = Projection::Stored)]
    pub unrepresentable: Attributes,
    /// The attributes, by name, that the relation leaves out of the copy. The digest does not cover them.
    #[ttlv(tag = x::WITHOUT)]
    pub without: Vec<Text>,
    /// The client that owns the object at its issuer, so that a restored issuer learns it again.
    #[ttlv(tag = x::OWNER)]
    pub owner: Option<Text>,
    /// The receipt of the issuer, by which it recognises its own copy.
    pub receipt: Option<Receipt>,
    /// The receipt of the sender, where that is not the issuer.
    #[ttlv(tag = x::RELAY_RECEIPT)]
    pub relay_receipt: Option<Receipt>,
    /// The number of the sender's session. It fences off an earlier session that is still alive.
    #[ttlv(tag = x::SESSION)]
    pub session: Option<i64>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Copy {
    /// The copy of a record. `unrepresentable` is what the message itself does not say of its attributes.
    pub(crate) fn of(
        record: &Record,
        unrepresentable: Attributes,
        session: Option<i64>,
    ) -> keyferry_store::Result<Copy> {
        Ok(Copy::with_size(record, unrepresentable, session)?.0)
    }

    /// The copy of a record, and about how many bytes its attributes and its lineage take.
    pub(crate) fn with_size(
        record: &Record,
        unrepresentable: Attributes,
        session: Option<i64>,
    ) -> keyferry_store::Result<(Copy, usize)> {
        let (digest, bytes) = copy_digest_and_size(record.object_type, &record.attributes)?;
        let copy = Copy {
            digest,
            id: record.id.clone(),
            stamp: record.stamp.clone(),
            lineage: record.lineage.clone(),
            projection: PROJECTION,
            unrepresentable,
            without: Vec::new(),
            owner: None,
            receipt: None,
            relay_receipt: None,
            session,
            extra: Extra::NONE,
        };
        Ok((copy, bytes + record.lineage.len() * REIGN_BYTES))
    }
}

/// About how many bytes a reign takes in a lineage.
pub(crate) const REIGN_BYTES: usize = 24;

impl Copy {
    /// What a receipt of the copy covers.
    pub(crate) fn facts(&self) -> CopyFacts<'_> {
        CopyFacts {
            id: &self.id,
            stamp: &self.stamp,
            lineage: &self.lineage,
            digest: &self.digest,
            owner: self.owner.as_ref(),
            without: &self.without,
        }
    }
}

/// The version of the digest and of the lineage's form that this build writes. It reads the first one, too.
pub(crate) const PROJECTION: i32 = 2;

/// Whether this build can read a copy of this version.
pub(crate) fn is_known_projection(projection: i32) -> bool {
    (1..=PROJECTION).contains(&projection)
}

/// The encoding of the extension. It is the same in every version of a message, since it carries what some versions lack.
fn form() -> Context {
    context(Version::V2_1)
}

/// The content of keyferry's Message Extension, in requests and in answers.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::VENDOR_EXTENSION)]
pub(crate) struct KeyferryExtension {
    /// What belongs to an object that is sent: in an Import, a Put, or the answer to an Export.
    pub(crate) copy: Option<Copy>,
    /// What became of the object, in the answer to an Import or a Put.
    #[ttlv(tag = x::OUTCOME)]
    pub(crate) outcome: Option<Outcome>,
    /// In a request: whether the receiver only answers what would become of the object, and changes nothing.
    #[ttlv(tag = x::DRY_RUN)]
    pub(crate) dry_run: Option<bool>,
    /// In a request that executes a plan: what the receiver has to find, or it changes nothing.
    pub(crate) expected: Option<Expected>,
    /// In the answer to a dry run: what the receiver holds of the object.
    pub(crate) held: Option<Held>,
    /// In a Set Endpoint Role request: up to which place the sender has committed the receiver's feed.
    pub(crate) place: Option<crate::wire::place::Place>,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// What a plan expects of an object.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::EXPECTED)]
pub(crate) struct Expected {
    /// What the receiver held when the plan was made.
    pub(crate) held: Option<Held>,
    /// What was to become of the object.
    #[ttlv(tag = x::OUTCOME)]
    pub(crate) outcome: Outcome,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl KeyferryExtension {
    /// The Message Extension with this content.
    pub(crate) fn extension(&self, critical: bool) -> Result<MessageExtension> {
        Ok(MessageExtension {
            vendor_identification: Text::from(x::VENDOR),
            criticality_indicator: critical,
            vendor_extension: Raw::of(tag::VENDOR_EXTENSION, self, form())?,
            extra: Extra::NONE,
        })
    }

    /// The content of keyferry's extension among those of an item; it is empty if there is none.
    pub(crate) fn find<'e>(
        extensions: impl IntoIterator<Item = &'e MessageExtension>,
    ) -> Result<KeyferryExtension, Failure> {
        let ours = extensions
            .into_iter()
            .find(|extension| extension.vendor_identification == x::VENDOR);
        match ours {
            Some(extension) => Ok(extension.vendor_extension.read(form())?),
            None => Ok(KeyferryExtension::default()),
        }
    }
}

/// The outcome in the answer to a copy; `None` if the answer does not come from a keyferry server.
///
/// # Errors
/// When keyferry's extension in it can't be read.
pub fn answered_outcome(item: &ResponseItem) -> Result<Option<Outcome>, Failure> {
    Ok(KeyferryExtension::find(&item.message_extension)?.outcome)
}

/// Checks that an item has no critical extension of another vendor (KMIP 2.1 §9.13).
///
/// # Errors
/// [`Cause::UnknownExtension`].
pub fn check_extensions(extensions: &[MessageExtension]) -> Result<(), Failure> {
    match extensions
        .iter()
        .find(|e| e.criticality_indicator && e.vendor_identification != x::VENDOR)
    {
        Some(unknown) => Err(Failure::new(
            Cause::UnknownExtension,
            format_args!(
                "the critical Message Extension of {:?} is not known here",
                unknown.vendor_identification
            ),
        )),
        None => Ok(()),
    }
}
