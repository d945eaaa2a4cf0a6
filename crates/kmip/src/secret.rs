//! [`Secret`], bytes that are wiped, masked, and compared in constant time.

use keyferry_ttlv::{Decode, Encode, Item, Reader, Result, Tag, Writer};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes that are key material: wiped on drop, never printed, compared in constant time.
#[derive(Clone)]
pub struct Secret(Zeroizing<Box<[u8]>>);

impl Secret {
    /// Takes a copy of `bytes`; wiping the original is the caller's affair.
    pub fn new(bytes: &[u8]) -> Self {
        Secret(Zeroizing::new(bytes.into()))
    }

    /// The bytes. Named so that every place that reads them is easy to find.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .0
                .iter()
                .zip(other.0.iter())
                .fold(0u8, |all, (a, b)| std::hint::black_box(all | (a ^ b)))
                == 0
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.len())
    }
}

impl Decode for Secret {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        item.bytes(r).map(Secret::new)
    }
}

impl Encode for Secret {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        w.bytes(tag, self.expose())
    }
}
