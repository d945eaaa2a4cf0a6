use crate::report::Outcome;
use keyferry_kmip::projection::Projection;
use keyferry_kmip::spec::tag;
use keyferry_kmip::{
    Attributes, Cause, Failure, MessageExtension, ResponseItem, Text, context, extension as x,
};
use keyferry_store::{ObjectId, Record, Stamp};
use keyferry_ttlv::{Context, Decode, Encode, Extra, Raw, Result, Version};
use std::fmt;

/// What a server holds of an object: nothing, or a change of it.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[ttlv(tag = x::HELD)]
pub(crate) struct Held {
    /// Its stamp; a foreign server has none.
    pub(crate) stamp: Option<Stamp>,
    /// The digest of its attributes, or of what a foreign server showed of them.
    #[ttlv(tag = x::DIGEST_VALUE)]
    pub(crate) digest: Option<Vec<u8>>,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Held {
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

    /// A foreign server's object, by the digest of what it shows.
    pub(crate) fn foreign(digest: Vec<u8>) -> Held {
        Held {
            digest: Some(digest),
            ..Held::default()
        }
    }

    /// Whether it is this very change of an object.
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

/// The first bytes of a digest.
pub(crate) struct Short<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .take(6)
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a keyferry server adds to an Import or a Put of another one: whose object this is, which change of it, and what KMIP has no
/// place for. It stands in a Message Extension of the vendor [`x::VENDOR`].
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::COPY)]
pub struct Copy {
    /// The object.
    pub id: ObjectId,
    /// The change.
    pub stamp: Stamp,
    /// Its earlier reigns.
    #[ttlv(tag = x::LINEAGE)]
    pub lineage: Vec<Stamp>,
    /// The digest of the whole copy, so that what was lost on the way is noticed.
    #[ttlv(tag = x::DIGEST_VALUE)]
    pub digest: Vec<u8>,
    /// The version of what the digest covers.
    #[ttlv(tag = x::DIGEST_PROJECTION)]
    pub projection: i32,
    /// Attributes that the message's version can't carry, or not with their indices.
    #[ttlv(group = Projection::Stored)]
    pub unrepresentable: Attributes,
    /// Attributes, by name, that the relation leaves out of it: the digest does not cover them.
    #[ttlv(tag = x::WITHOUT)]
    pub without: Vec<Text>,
    /// The client that the object belongs to at its issuer, so that a restored issuer can be told.
    #[ttlv(tag = x::OWNER)]
    pub owner: Option<Text>,
    /// The sender's session, which fences off an earlier one that comes back to life.
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
        Ok(Copy {
            digest: record.copy_digest()?,
            id: record.id.clone(),
            stamp: record.stamp.clone(),
            lineage: record.lineage.clone(),
            projection: PROJECTION,
            unrepresentable,
            without: Vec::new(),
            owner: None,
            session,
            extra: Extra::NONE,
        })
    }
}

/// The digest that this build makes.
pub(crate) const PROJECTION: i32 = 1;

/// What is ours in a message has one form, whatever version the message is of: it has to say what that version lacks.
fn form() -> Context {
    context(Version::V2_1)
}

/// The content of our Message Extension, in both directions.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::VENDOR_EXTENSION)]
pub(crate) struct KeyferryExtension {
    pub(crate) copy: Option<Copy>,
    #[ttlv(tag = x::OUTCOME)]
    pub(crate) outcome: Option<Outcome>,
    /// What would become of it is asked for, and nothing is to be done.
    #[ttlv(tag = x::DRY_RUN)]
    pub(crate) dry_run: Option<bool>,
    /// What has to be so, or nothing is done.
    pub(crate) expected: Option<Expected>,
    /// What is held of the object: told when it was asked what would become of it.
    pub(crate) held: Option<Held>,
    /// What was taken of the receiver's feed, of who turns the connection round.
    pub(crate) place: Option<crate::wire::place::Place>,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// What was planned for an object.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::EXPECTED)]
pub(crate) struct Expected {
    /// What the receiver held.
    pub(crate) held: Option<Held>,
    /// What was to become of it.
    #[ttlv(tag = x::OUTCOME)]
    pub(crate) outcome: Outcome,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl KeyferryExtension {
    pub(crate) fn extension(&self, critical: bool) -> Result<MessageExtension> {
        Ok(MessageExtension {
            vendor_identification: Text::from(x::VENDOR),
            criticality_indicator: critical,
            vendor_extension: Raw::of(tag::VENDOR_EXTENSION, self, form())?,
            extra: Extra::NONE,
        })
    }

    /// Ours among the extensions of an item.
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

/// What the answer to a copy says became of it; `None` when the answer does not come from a keyferry server.
///
/// # Errors
/// When our extension in it can't be read.
pub fn answered_outcome(item: &ResponseItem) -> Result<Option<Outcome>, Failure> {
    Ok(KeyferryExtension::find(&item.message_extension)?.outcome)
}

/// Refuses an item with a critical extension that is not ours (KMIP 2.1 §9.13).
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
