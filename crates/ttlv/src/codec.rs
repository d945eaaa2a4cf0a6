//! Encoding and decoding of a whole message.

use crate::context::Context;
use crate::decoding::Decode;
use crate::encoding::Encode;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Frame;
use crate::item::Item;
use crate::item::reader::Reader;
use crate::tagged::Tagged;
use crate::writer::Writer;

/// Decodes a whole message, or any item, checking its tag.
///
/// # Errors
/// The first thing that is wrong.
///
/// ```
/// use keyferry_ttlv::{decode, encode, Context, Tag, Tagged, Version, Encode, Decode, Item, Reader, Writer, Result};
/// struct BatchCount(i32);
/// impl Tagged for BatchCount { const TAG: Tag = Tag::new(0x42000D); }
/// impl Encode for BatchCount {
///     fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> { self.0.encode(tag, w) }
/// }
/// impl Decode for BatchCount {
///     fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> { i32::decode(item, r).map(BatchCount) }
/// }
/// let cx = Context::new(Version::V2_1);
/// let frame = encode(&BatchCount(3), cx)?;
/// assert_eq!(frame[..4], [0x42, 0x00, 0x0D, 0x02]);
/// assert_eq!(decode::<BatchCount>(&frame, cx)?.0, 3);
/// # Ok::<(), keyferry_ttlv::Error>(())
/// ```
pub fn decode<T: Decode + Tagged>(message: &[u8], cx: Context) -> Result<T> {
    let limit = cx.limits.size;
    if message.len() > limit {
        return Err(Error::new(ErrorKind::Size {
            size: message.len(),
            limit,
        })
        .at(0));
    }
    let item = Item::whole(message).map_err(|e| e.named(cx.dictionary))?;
    let r = Reader::new(message, cx);
    r.check_count(item)?;
    if item.tag() != T::TAG {
        return Err(r.error(
            item,
            ErrorKind::WrongTag {
                expected: T::TAG,
                found: item.tag(),
            },
        ));
    }
    r.child(item)
}

/// Encodes a whole message, or anything that has a tag of its own.
///
/// # Errors
/// When the context's version has no form for it.
pub fn encode<T: Encode + Tagged + ?Sized>(value: &T, cx: Context) -> Result<Frame> {
    let mut w = Writer::new(cx);
    value.encode(T::TAG, &mut w)?;
    Ok(w.finish())
}
