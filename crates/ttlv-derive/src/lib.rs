//! `#[derive(Encode, Decode, Downgrade)]` for `keyferry-ttlv`: one description of a structure serves reading and writing, and says what
//! another version lacks.
//!
//! ```
//! use keyferry_ttlv::{Context, Decode, Encode, Extra, Tag, Version, decode, encode};
//!
//! const PROTOCOL_VERSION: Tag = Tag::new(0x420069);
//! const MAJOR: Tag = Tag::new(0x42006A);
//! const MINOR: Tag = Tag::new(0x42006B);
//!
//! #[derive(Debug, PartialEq, Encode, Decode)]
//! #[ttlv(tag = PROTOCOL_VERSION)]
//! struct ProtocolVersion {
//!     #[ttlv(tag = MAJOR)]
//!     major: i32,
//!     #[ttlv(tag = MINOR)]
//!     minor: i32,
//!     #[ttlv(extra)]
//!     extra: Extra,
//! }
//!
//! let cx = Context::new(Version::V2_1);
//! let version = ProtocolVersion { major: 2, minor: 1, extra: Extra::NONE };
//! assert_eq!(decode::<ProtocolVersion>(&encode(&version, cx)?, cx)?, version);
//! # Ok::<(), keyferry_ttlv::Error>(())
//! ```
//!
//! On a structure, each field names its tag, or has a type that is `Tagged`. `Option<T>` may be absent, `Vec<T>` repeats, anything else
//! must be there.
//!
//! | attribute | meaning |
//! |---|---|
//! | `tag = 0x42006A`, `tag = MAJOR` | the tag, a number or a constant of type `Tag`; on the type: implement `Tagged` (`Encode` does) |
//! | `since = "1.2"` | the first version that has the field, or the form of a choice |
//! | `until = "1.4"` | the last version that has it |
//! | `required_since = "2.0"` | an `Option` that must be there to be written for this version or a later one |
//! | `required_until = "1.0"` | an `Option` that must be there to be written for this version or an earlier one |
//! | `at_least_one` | a `Vec` that must not be empty to be written |
//! | `vital` | a field without which, or without a part of which, the whole means something else: `Downgrade` leaves the whole behind then |
//! | `downgrade = Self::path` | on the type: what `Downgrade` asks before it looks at the fields, a `fn(&mut Self, Version, &mut Loss) -> bool` |
//! | `implied = Self::path` | what such an `Option` is where it is absent, for `Downgrade`: a `fn(&Self) -> Option<T>` |
//! | `repeated_since = "2.0"` | a `Vec` that holds one value at the most to be written for an earlier version |
//! | `default`, `default = value` | what an absent field means: taken when it is absent, and not written when it is this |
//! | `choice` | the field's type implements `Choice`: its own tag says which form it is |
//! | `group = how` | the field's type implements `Group`: which items it takes depends on the version |
//! | `extra` | an `Extra`: takes every field that is not known, or not known in the message's version |
//!
//! On an enum, each variant holds one value and names its tag, perhaps with versions; the derives then implement `Choice`, both derives
//! together.
//!
//! A field that the message's version lacks counts as unknown: it goes to `extra`, or is an error where there is none. A type parameter must
//! itself be what is derived. It writes nothing by guess; what is wrong, or would be without effect, is a compile error:
//!
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode};
//! #[derive(Encode, Decode)]
//! struct NoTag { major: i32 }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode};
//! #[derive(Encode, Decode)]
//! struct NoSuchTag { #[ttlv(tag = 0x43006A)] major: i32 }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode, Tag};
//! # const MAJOR: Tag = Tag::new(0x42006A);
//! #[derive(Encode, Decode)]
//! struct OneTagTwice { #[ttlv(tag = MAJOR)] major: i32, #[ttlv(tag = MAJOR, since = "1.2")] minor: Option<i32> }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode, Tag};
//! # const MAJOR: Tag = Tag::new(0x42006A);
//! #[derive(Encode, Decode)]
//! struct NoVersion { #[ttlv(tag = MAJOR, since = "one")] major: i32 }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode, Tag};
//! # const MAJOR: Tag = Tag::new(0x42006A);
//! #[derive(Encode, Decode)]
//! struct RequiredAnyway { #[ttlv(tag = MAJOR, required_since = "2.0")] major: i32 }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode, Tag};
//! # const MAJOR: Tag = Tag::new(0x42006A);
//! #[derive(Encode, Decode)]
//! struct OneAnyway { #[ttlv(tag = MAJOR, at_least_one)] major: i32 }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode, Tag};
//! # const MAJOR: Tag = Tag::new(0x42006A);
//! #[derive(Encode, Decode)]
//! struct NeverDemanded { #[ttlv(tag = MAJOR, implied = Self::one)] major: Option<i32> }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode, Tag};
//! # const MAJOR: Tag = Tag::new(0x42006A);
//! #[derive(Encode, Decode)]
//! struct UnknownOption { #[ttlv(tag = MAJOR, optional)] major: Option<i32> }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode, Tag};
//! # const MAJOR: Tag = Tag::new(0x42006A);
//! #[derive(Encode, Decode)]
//! struct OneTagByTwoNames { #[ttlv(tag = MAJOR)] major: i32, #[ttlv(tag = 0x42006A)] other: i32 }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode};
//! #[derive(Encode, Decode)]
//! struct Never { #[ttlv(tag = 0x42006A, since = "2.0", until = "1.4")] major: Option<i32> }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode, Extra};
//! #[derive(Encode, Decode)]
//! struct WithoutEffect { #[ttlv(extra, since = "2.0")] extra: Extra }
//! ```
//!
//! [`macro@serde_form`] derives serde's traits by the rules of `keyferry_ttlv::serde_form`, whose feature `serde` it needs.
//!
//! It does not derive for tuples and unions, and has no features.

mod decode;
mod downgrade;
mod encode;
mod field;
mod serde_form;

use syn::{DeriveInput, Error, parse_macro_input};

/// Implements `Encode`, which writes the fields in the order of their declaration, and `Tagged`.
#[proc_macro_derive(Encode, attributes(ttlv))]
pub fn encode(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    encode::expand(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

/// Implements `Decode`, which reads the fields in any order; for an enum, `Choice`.
#[proc_macro_derive(Decode, attributes(ttlv))]
pub fn decode(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    decode::expand(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

/// Implements `Downgrade`, which leaves behind, field by field, what another version lacks.
#[proc_macro_derive(Downgrade, attributes(ttlv))]
pub fn downgrade(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    downgrade::expand(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

/// Derives serde's `Serialize` and `Deserialize` by the rules of `keyferry_ttlv::serde_form`. A field that is absent or empty, or a `group`
/// with its default value, is left out, and need not be there to be read. Bytes are hexadecimal. A field that is not known is an error. The
/// attribute stands before the other derives.
#[proc_macro_attribute]
pub fn serde_form(
    _: proc_macro::TokenStream,
    input: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    serde_form::expand(input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}
