//! What requests and responses have in common: how they are read and written, and the fields that both may have (KMIP 2.1 §8 and §9, 1.4 §6
//! and §7).

use crate::protocol_version::{ProtocolVersion, version_of};
use crate::spec::names::{Names, context};
use crate::spec::*;
use keyferry_ttlv::{
    Decode, Downgrade, Encode, Error, ErrorKind, Extra, Frame, Item, Raw, Reader, Result, Tag,
    Tagged, Text, Version, Writer,
};

pub(crate) mod request;
pub(crate) mod response;

pub use request::{RequestHeader, RequestItem, RequestMessage};
pub use response::{ResponseHeader, ResponseItem, ResponseMessage};

/// Whether an answer may come later (KMIP 2.1 §9.2: an Enumeration; 1.4 §6.7: a Boolean).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsynchronousMode {
    /// 1.x.
    Boolean(bool),
    /// 2.x.
    Indicator(AsynchronousIndicator),
}

impl Tagged for AsynchronousMode {
    const TAG: Tag = tag::ASYNCHRONOUS_INDICATOR;
}

impl Decode for AsynchronousMode {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        if r.version() >= Version::V2_0 {
            return AsynchronousIndicator::decode(item, r).map(AsynchronousMode::Indicator);
        }
        item.boolean(r).map(AsynchronousMode::Boolean)
    }
}

impl Encode for AsynchronousMode {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        match (self, w.version() >= Version::V2_0) {
            (AsynchronousMode::Boolean(value), false) => w.boolean(tag, *value),
            (AsynchronousMode::Indicator(value), true) => w.enumeration(tag, value.0),
            (AsynchronousMode::Boolean(_), true) => {
                w.require(tag, Version::V1_0, Some(Version::V1_4))?
            }
            (AsynchronousMode::Indicator(_), false) => w.require(tag, Version::V2_0, None)?,
        }
        Ok(())
    }
}

/// A vendor's addition to a batch item (KMIP 2.1 §9.13, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::MESSAGE_EXTENSION)]
pub struct MessageExtension {
    /// Whose.
    #[ttlv(tag = tag::VENDOR_IDENTIFICATION)]
    pub vendor_identification: Text,
    /// Whether a receiver that does not know it must refuse.
    #[ttlv(tag = tag::CRITICALITY_INDICATOR)]
    pub criticality_indicator: bool,
    /// The content, a structure.
    #[ttlv(tag = tag::VENDOR_EXTENSION)]
    pub vendor_extension: Raw,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

fn to_frame<M: Encode + Tagged>(message: &M, version: Version, items: usize) -> Result<Frame> {
    // Room for a Create or a small Register each: rarely too little, and soon doubled.
    let mut w = Writer::with_capacity(
        context(version),
        items.saturating_mul(768).saturating_add(256),
    );
    message.encode(M::TAG, &mut w)?;
    Ok(w.finish())
}

#[cold]
fn another_operation(message: Tag) -> Error {
    let why = ErrorKind::Value("an item is of another operation");
    Error::new(why)
        .within(tag::OPERATION)
        .within(tag::BATCH_ITEM)
        .within(message)
        .named(Some(&Names))
}

/// Reads the header, sets the version, and reads the items: the same for both kinds of message.
fn read_message<'a, H: Decode, I: Decode>(
    item: Item<'a>,
    r: &Reader<'a>,
    header_tag: Tag,
    stated: impl Fn(&H) -> (ProtocolVersion, i32),
) -> Result<(H, Vec<I>)> {
    let mut children = r.enter(item)?;
    let first = children
        .step()
        .filter(|child| child.tag() == header_tag)
        .ok_or_else(|| r.missing(item, header_tag))?;
    // The version stands in the header and governs how the header itself is read.
    let mut inside = r.children(first).map_err(|e| e.within(header_tag))?;
    while let Some(child) = inside.step() {
        if child.tag() == tag::PROTOCOL_VERSION {
            let protocol = r
                .child::<ProtocolVersion>(child)
                .map_err(|e| e.within(header_tag))?;
            r.set_version(
                version_of(protocol).map_err(|e| e.at(r.offset(child)).within(header_tag))?,
            );
            break;
        }
    }
    let header: H = r.child(first)?;
    let (version, count) = stated(&header);
    r.set_version(version_of(version)?);
    // Room for what the header announces, as far as there are bytes for it.
    let most = item.value().len() / size_of::<I>().max(1);
    let mut batch = Vec::with_capacity(usize::try_from(count).unwrap_or(0).min(most + 1));
    while let Some(child) = children.step() {
        if child.tag() != tag::BATCH_ITEM {
            return Err(r.unexpected(child));
        }
        batch.push(r.child(child)?);
    }
    r.leave(children)?;
    Ok((header, batch))
}
