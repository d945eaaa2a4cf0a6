//! The KMIP wire encoding (tag, type, length, value), without a single KMIP name in it.
//!
//! A Query to a server and its answer, over any stream of bytes, with this crate alone:
//!
//! ```
//! use keyferry_ttlv::{Context, Decode, Encode, Enumeration, Extra, Framer, Raw, Tagged, Version, decode, encode};
//! use std::io::{Error, ErrorKind, Read, Write};
//!
//! #[derive(Encode)] #[ttlv(tag = 0x420078)]
//! struct Request { header: Header, item: Asked }
//! #[derive(Encode)] #[ttlv(tag = 0x420077)]
//! struct Header { version: Protocol, #[ttlv(tag = 0x42000D)] batch_count: i32 }
//! #[derive(Encode)] #[ttlv(tag = 0x420069)]
//! struct Protocol { #[ttlv(tag = 0x42006A)] major: i32, #[ttlv(tag = 0x42006B)] minor: i32 }
//! #[derive(Encode)] #[ttlv(tag = 0x42000F)]
//! struct Asked { #[ttlv(tag = 0x42005C)] operation: Enumeration, query: Query }
//! #[derive(Encode)] #[ttlv(tag = 0x420079)]
//! struct Query { #[ttlv(tag = 0x420074)] functions: Vec<Enumeration> }
//!
//! #[derive(Encode, Decode)] #[ttlv(tag = 0x42007B)]
//! struct Response { #[ttlv(tag = 0x42007A)] header: Raw, item: Answered }
//! #[derive(Encode, Decode)] #[ttlv(tag = 0x42000F)]
//! struct Answered { #[ttlv(tag = 0x42007F)] status: Enumeration, able: Option<Able>, #[ttlv(extra)] rest: Extra }
//! #[derive(Encode, Decode)] #[ttlv(tag = 0x42007C)]
//! struct Able { #[ttlv(tag = 0x42005C)] operations: Vec<Enumeration>, #[ttlv(extra)] rest: Extra }
//!
//! fn call<A: Decode + Tagged>(stream: &mut (impl Read + Write), request: &(impl Encode + Tagged)) -> std::io::Result<A> {
//!     let cx = Context::new(Version::V1_4);
//!     stream.write_all(&encode(request, cx).map_err(Error::other)?)?;
//!     let mut framer = Framer::new(cx.limits.size);
//!     while framer.needed() > 0 {
//!         match stream.read(framer.space())? {
//!             0 => return Err(ErrorKind::UnexpectedEof.into()),
//!             n => framer.filled(n).map_err(Error::other)?,
//!         }
//!     }
//!     decode(&framer.frame().unwrap_or_default(), cx).map_err(Error::other)
//! }
//!
//! # struct Server(Vec<u8>, std::io::Cursor<Vec<u8>>);
//! # impl Read for Server { fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> { self.1.read(into) } }
//! # impl Write for Server {
//! #     fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> { self.0.write(bytes) }
//! #     fn flush(&mut self) -> std::io::Result<()> { Ok(()) }
//! # }
//! # const ANSWER: &[u8] = b"\
//! #     \x42\x00\x7B\x01\0\0\0\x80\x42\x00\x7A\x01\0\0\0\x48\x42\x00\x69\x01\0\0\0\x20\
//! #     \x42\x00\x6A\x02\0\0\0\x04\0\0\0\x01\0\0\0\0\x42\x00\x6B\x02\0\0\0\x04\0\0\0\x04\0\0\0\0\
//! #     \x42\x00\x92\x09\0\0\0\x08\0\0\0\0\x65\x53\xF1\0\x42\x00\x0D\x02\0\0\0\x04\0\0\0\x01\0\0\0\0\
//! #     \x42\x00\x0F\x01\0\0\0\x28\x42\x00\x7F\x05\0\0\0\x04\0\0\0\0\0\0\0\0\
//! #     \x42\x00\x7C\x01\0\0\0\x10\x42\x00\x5C\x05\0\0\0\x04\0\0\0\x18\0\0\0\0";
//! # let mut stream = Server(Vec::new(), std::io::Cursor::new(ANSWER.to_vec()));
//! let header = Header { version: Protocol { major: 1, minor: 4 }, batch_count: 1 };
//! let item = Asked { operation: Enumeration(24), query: Query { functions: vec![Enumeration(1)] } };
//! let answer: Response = call(&mut stream, &Request { header, item })?; // a TcpStream, a TLS stream, ...
//! assert_eq!(answer.item.status, Enumeration(0));
//! assert_eq!(answer.item.able.unwrap().operations, [Enumeration(24)]); // it can do Query
//! # assert_eq!(&stream.0[..8], b"\x42\x00\x78\x01\0\0\0\x70");
//! # Ok::<(), Error>(())
//! ```
//!
//! The example `codec_only` of the workspace does the same over TLS. A caller that only reads or writes a few items needs no types:
//!
//! ```
//! use keyferry_ttlv::{Context, Item, Reader, Tag, Version, Writer};
//!
//! let mut w = Writer::new(Context::new(Version::V2_1));
//! w.structure(Tag::new(0x420069), |w| {
//!     w.integer(Tag::new(0x42006A), 2);
//!     w.integer(Tag::new(0x42006B), 1);
//!     Ok(())
//! })?;
//! let message = w.finish();
//!
//! let r = Reader::new(&message, Context::new(Version::V2_1));
//! let mut fields = r.children(Item::parse(&message)?)?;
//! assert_eq!(fields.next(&r)?.map(|item| item.integer(&r)).transpose()?, Some(2));
//! # Ok::<(), keyferry_ttlv::Error>(())
//! ```
//!
//! [`Item`] borrows from the message and only looks at it. [`Decode`] and [`Encode`] turn items into owned types and back; the derives of
//! the same names implement them for structures and choices. [`Framer`] cuts a stream into messages and does no input or output.
//!
//! The codec is strict both ways. Wrong lengths, non-zero padding, Booleans other than 0 and 1, and texts that are not UTF-8 are errors,
//! which name the byte and the path of tags. So is a field that the version to encode for lacks. Unknown fields are kept and written back.
//!
//! XML and JSON are renderings of the same items, both ways: the modules `xml` and `json`, behind the features of these names.
//!
//! The crate opens no connection and knows no tag by name: a [`Dictionary`] brings names for errors and for the text forms.
//!
//! Features: `std` (default; without it the crate needs `alloc` alone), `derive` (default), `inspect` (the forgiving reader), `xml`, `json`,
//! and `serde` (values in serde's formats, readable, with secrets masked; see the module `serde_form`).
#![cfg_attr(not(feature = "std"), no_std)]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod codec;
mod context;
mod decoding;
mod dictionary;
mod downgrade;
mod encoding;
mod error;
mod frame;
mod group;
mod head;
#[cfg(feature = "inspect")]
pub mod inspect;
mod item;
#[cfg(feature = "json")]
pub mod json;
mod name;
mod primitive;
mod raw;
#[cfg(feature = "serde")]
pub mod serde_form;
#[cfg(feature = "serde")]
mod serde_impls;
mod tagged;
mod text;
#[cfg(any(
    feature = "inspect",
    feature = "xml",
    feature = "json",
    feature = "serde"
))]
mod text_form;
mod types;
mod value;
mod writer;
#[cfg(feature = "xml")]
pub mod xml;

pub use codec::{decode, encode};
pub use context::{Context, Lenient, Limits};
pub use decoding::Decode;
pub use dictionary::Dictionary;
pub use downgrade::{Downgrade, Loss, Lost};
pub use encoding::Encode;
pub use error::{Error, ErrorKind, Result};
pub use frame::{Frame, Framer};
pub use group::Group;
pub use item::Item;
pub use item::reader::{Children, Reader};
#[cfg(all(feature = "derive", feature = "serde"))]
pub use keyferry_ttlv_derive::serde_form;
#[cfg(feature = "derive")]
pub use keyferry_ttlv_derive::{Decode, Downgrade, Encode};
pub use name::normalized;
pub use primitive::{DateTime, DateTimeExtended, Enumeration, Interval};
pub use raw::{Extra, Raw};
pub use tagged::{Choice, Tagged};
pub use text::Text;
pub use types::{Tag, Type, Version};
pub use value::Value;
pub use writer::Writer;

#[doc(hidden)]
pub mod __private {
    use crate::types::{Tag, Version};
    pub use alloc::vec::Vec;

    /// Whether no two of these fields have one tag in one version.
    pub const fn distinct(fields: &[(Tag, Version, Option<Version>)]) -> bool {
        const fn begins_in(version: Version, until: Option<Version>) -> bool {
            match until {
                Some(until) => {
                    version.major < until.major
                        || version.major == until.major && version.minor <= until.minor
                }
                None => true,
            }
        }
        let mut rest = fields;
        while let [(tag, since, until), behind @ ..] = rest {
            rest = behind;
            let mut others = behind;
            while let [(other, from, to), behind @ ..] = others {
                if tag.number() == other.number()
                    && begins_in(*since, *to)
                    && begins_in(*from, *until)
                {
                    return false;
                }
                others = behind;
            }
        }
        true
    }

    /// A tag given by its number, where only a path may stand.
    pub struct Numbered<const N: u32>;
    impl<const N: u32> Numbered<N> {
        pub const TAG: Tag = Tag::new(N);
    }
}
