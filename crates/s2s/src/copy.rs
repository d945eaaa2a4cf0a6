use crate::Ending;
use crate::plan::Held;
use keyferry_kmip::projection::Projection;
use keyferry_kmip::spec::tag;
use keyferry_kmip::{
    Attributes, Cause, Failure, MessageExtension, ResponseItem, Text, context, extension as x,
};
use keyferry_store::{ObjectId, Record, Stamp};
use keyferry_ttlv::{Context, Decode, Encode, Extra, Raw, Result, Version};

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
    pub rest: Attributes,
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
    /// The copy of a record. `rest` is what the message itself does not say of its attributes.
    pub(crate) fn of(
        record: &Record,
        rest: Attributes,
        session: Option<i64>,
    ) -> keyferry_store::Result<Copy> {
        Ok(Copy {
            digest: record.copy_digest()?,
            id: record.id.clone(),
            stamp: record.stamp.clone(),
            lineage: record.lineage.clone(),
            projection: PROJECTION,
            rest,
            without: Vec::new(),
            owner: None,
            session,
            extra: Extra::NONE,
        })
    }
}

/// The digest that this build makes.
pub(crate) const PROJECTION: i32 = 1;

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate(pub u32);

impl Fate {
    /// The object is new here.
    pub const CREATED: Fate = Fate(1);
    /// The object was an earlier one.
    pub const UPDATED: Fate = Fate(2);
    /// The object was the same already, or a later one.
    pub const UNCHANGED: Fate = Fate(3);
    /// Another object has its identifier, and it was left out.
    pub const SKIPPED: Fate = Fate(4);
    /// The object is new here, under another identifier or other Names.
    pub const RENAMED: Fate = Fate(5);
    /// The object was changed on both sides: both are kept.
    pub const FORKED: Fate = Fate(6);
    /// The object is gone, since it does not belong to the selection any more.
    pub const WITHDRAWN: Fate = Fate(8);
    /// The object was not taken.
    pub const FAILED: Fate = Fate(7);
}

impl From<Ending> for Fate {
    fn from(ending: Ending) -> Fate {
        match ending {
            Ending::Created => Fate::CREATED,
            Ending::Updated => Fate::UPDATED,
            Ending::Unchanged => Fate::UNCHANGED,
            Ending::Skipped => Fate::SKIPPED,
            Ending::Renamed => Fate::RENAMED,
            Ending::Forked => Fate::FORKED,
            Ending::Withdrawn => Fate::WITHDRAWN,
            Ending::Failed => Fate::FAILED,
        }
    }
}

impl Fate {
    /// How a report names it.
    pub fn ending(self) -> Ending {
        match self {
            Fate::UPDATED => Ending::Updated,
            Fate::UNCHANGED => Ending::Unchanged,
            Fate::SKIPPED => Ending::Skipped,
            Fate::RENAMED => Ending::Renamed,
            Fate::FORKED => Ending::Forked,
            Fate::FAILED => Ending::Failed,
            Fate::WITHDRAWN => Ending::Withdrawn,
            _ => Ending::Created,
        }
    }

    /// What the answer to a copy tells; `None` when it does not come from a keyferry server.
    ///
    /// # Errors
    /// When our extension in it can't be read.
    pub fn told(item: &ResponseItem) -> Result<Option<Fate>, Failure> {
        Ok(Addition::find(&item.message_extension)?.fate)
    }
}

impl Decode for Fate {
    fn decode<'a>(item: keyferry_ttlv::Item<'a>, r: &keyferry_ttlv::Reader<'a>) -> Result<Self> {
        item.enumeration(r).map(Fate)
    }
}

impl Encode for Fate {
    fn encode(&self, tag: keyferry_ttlv::Tag, w: &mut keyferry_ttlv::Writer) -> Result<()> {
        w.enumeration(tag, self.0);
        Ok(())
    }
}

/// What is ours in a message has one form, whatever version the message is of: it has to say what that version lacks.
fn form() -> Context {
    context(Version::V2_1)
}

/// The content of our Message Extension, in both directions.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::VENDOR_EXTENSION)]
pub(crate) struct Addition {
    pub(crate) copy: Option<Copy>,
    #[ttlv(tag = x::OUTCOME)]
    pub(crate) fate: Option<Fate>,
    /// What would become of it is asked for, and nothing is to be done.
    #[ttlv(tag = x::DRY_RUN)]
    pub(crate) dry_run: Option<bool>,
    /// What has to be so, or nothing is done.
    pub(crate) expected: Option<Expected>,
    /// What is held of the object: told when it was asked what would become of it.
    pub(crate) held: Option<Held>,
    /// What was taken of the receiver's feed, of who turns the connection round.
    pub(crate) place: Option<crate::Place>,
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
    pub(crate) fate: Fate,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Addition {
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
    ) -> Result<Addition, Failure> {
        let ours = extensions
            .into_iter()
            .find(|extension| extension.vendor_identification == x::VENDOR);
        match ours {
            Some(extension) => Ok(extension.vendor_extension.read(form())?),
            None => Ok(Addition::default()),
        }
    }
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
