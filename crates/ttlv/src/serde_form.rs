//! Values in serde's formats, for logs and tools: readable, and with secrets masked (feature `serde`).
//!
//! This is not the JSON encoding of KMIP, which the feature `json` brings. It is for formats that describe themselves, such as JSON: absent
//! fields are left out, dates are ISO 8601, bytes and tags hexadecimal. A secret is written as `"(32 bytes masked)"`, unless it stands in
//! [`Exposed`]. A secret that was written exposed can be read again; reading a masked one is an error.

use crate::text_form;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use serde::de::{Deserializer, Error as _, Unexpected, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

std::thread_local! {
    /// How many [`Exposed`] are being written on this thread.
    static EXPOSED: Cell<usize> = const { Cell::new(0) };
}

/// A value whose secrets are shown, in hexadecimal, when it is serialised: for tools that were asked to.
///
/// While the value is being serialised, this applies to everything that this thread serialises. A serialiser that puts work off to later, or
/// to other threads, writes masks.
///
/// ```
/// use keyferry_ttlv::Frame;
/// use keyferry_ttlv::serde_form::Exposed;
///
/// let frame = Frame::new(vec![0x42, 0x00, 0x7B]);
/// assert_eq!(serde_json::to_string(&frame)?, r#""(3 bytes masked)""#);
/// let shown = serde_json::to_string(&Exposed(&frame))?;
/// assert_eq!(shown, r#""42007b""#);
/// assert_eq!(serde_json::from_str::<Frame>(&shown)?, frame);
/// # Ok::<(), serde_json::Error>(())
/// ```
pub struct Exposed<'a, T: ?Sized>(pub &'a T);

impl<T: ?Sized> fmt::Debug for Exposed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exposed(..)")
    }
}

/// Counts down again however the serialiser ends, also by a panic.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        EXPOSED.set(EXPOSED.get().saturating_sub(1));
    }
}

impl<T: Serialize + ?Sized> Serialize for Exposed<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        EXPOSED.set(EXPOSED.get().saturating_add(1));
        let _guard = Guard;
        self.0.serialize(serializer)
    }
}

/// Whether secrets are to be shown, within an [`Exposed`].
pub fn is_exposed() -> bool {
    EXPOSED.get() > 0
}

/// Whether a field has its default value, and is left out.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn digits(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().saturating_mul(2)));
    text.extend(text_form::hex(bytes));
    text
}

/// Bytes that are secret: for `#[serde(with = …)]`.
pub mod secret {
    use super::*;

    /// Writes the mask, or the bytes within an [`Exposed`].
    ///
    /// # Errors
    /// The serialiser's.
    pub fn serialize<B: AsRef<[u8]> + ?Sized, S: Serializer>(
        secret: &B,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let bytes = secret.as_ref();
        if is_exposed() {
            serializer.serialize_str(&digits(bytes))
        } else {
            serializer.serialize_str(&format!("({} bytes masked)", bytes.len()))
        }
    }

    /// Reads what was written exposed. The copies on the way are wiped, as far as the format hands them over.
    ///
    /// # Errors
    /// When it was masked, or is not hexadecimal; neither shows what was there.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Zeroizing<Vec<u8>>, D::Error> {
        // As a text that may be handed over, and then wiped.
        deserializer.deserialize_string(Digits)
    }

    struct Digits;

    impl Visitor<'_> for Digits {
        type Value = Zeroizing<Vec<u8>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes in hexadecimal")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            if text.starts_with('(') && text.ends_with(" masked)") {
                return Err(E::custom("this secret was masked when it was written"));
            }
            text_form::unhex(text).ok_or_else(|| E::custom("a secret is not hexadecimal"))
        }

        fn visit_string<E: serde::de::Error>(self, mut text: String) -> Result<Self::Value, E> {
            let read = self.visit_str(&text);
            text.zeroize();
            read
        }

        fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
            Ok(Zeroizing::new(bytes.to_vec()))
        }
    }
}

/// Bytes that are no secret: for `#[serde(with = …)]`.
pub mod bytes {
    use super::*;

    /// A type that holds bytes: byte strings, optional ones, several of them.
    pub trait Bytes: Sized {
        /// Writes them in hexadecimal.
        ///
        /// # Errors
        /// The serialiser's.
        fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
        /// Reads hexadecimal.
        ///
        /// # Errors
        /// When it is something else.
        fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
    }

    impl Bytes for Vec<u8> {
        fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(&digits(self))
        }
        fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            secret::deserialize(deserializer).map(|mut bytes| core::mem::take(&mut *bytes))
        }
    }

    impl<const N: usize> Bytes for [u8; N] {
        fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(&digits(self))
        }
        fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let bytes = secret::deserialize(deserializer)?;
            bytes
                .as_slice()
                .try_into()
                .map_err(|_| D::Error::invalid_length(bytes.len(), &"another number of bytes"))
        }
    }

    /// One byte string of several.
    struct Part<T>(T);

    impl<T: Bytes> Serialize for Part<&T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.write(serializer)
        }
    }

    impl<'de, T: Bytes> Deserialize<'de> for Part<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            T::read(deserializer).map(Part)
        }
    }

    impl Bytes for Option<Vec<u8>> {
        fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.as_ref().map(Part).serialize(serializer)
        }
        fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Ok(Option::<Part<Vec<u8>>>::deserialize(deserializer)?.map(|part| part.0))
        }
    }

    impl Bytes for Vec<Vec<u8>> {
        fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(self.iter().map(Part))
        }
        fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Ok(Vec::<Part<Vec<u8>>>::deserialize(deserializer)?
                .into_iter()
                .map(|part| part.0)
                .collect())
        }
    }

    /// Writes them in hexadecimal.
    ///
    /// # Errors
    /// The serialiser's.
    pub fn serialize<T: Bytes, S: Serializer>(bytes: &T, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.write(serializer)
    }

    /// Reads hexadecimal.
    ///
    /// # Errors
    /// When it is something else.
    pub fn deserialize<'de, T: Bytes, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        T::read(deserializer)
    }
}

/// Reads a value that is written as a text or as a number.
///
/// # Errors
/// When neither `text` nor `number` makes something of it.
pub fn scalar<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    name: &'static str,
    expecting: &'static str,
    text: impl FnOnce(&str) -> Option<T>,
    number: impl FnOnce(i64) -> Option<T>,
) -> Result<T, D::Error> {
    deserializer.deserialize_newtype_struct(
        name,
        Scalar {
            expecting,
            text,
            number,
            makes: PhantomData,
        },
    )
}

struct Scalar<F, G, T> {
    expecting: &'static str,
    text: F,
    number: G,
    makes: PhantomData<T>,
}

impl<'de, T, F: FnOnce(&str) -> Option<T>, G: FnOnce(i64) -> Option<T>> Visitor<'de>
    for Scalar<F, G, T>
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.text)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self.expecting))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        (self.number)(number)
            .ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self.expecting))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        match i64::try_from(number) {
            Ok(number) => self.visit_i64(number),
            Err(_) => Err(E::invalid_value(
                Unexpected::Unsigned(number),
                &self.expecting,
            )),
        }
    }
}

/// A number of 32 bits in hexadecimal, as everything without a name is written: `0x80000001`.
pub fn number(text: &str) -> Option<u32> {
    let digits = text
        .strip_prefix("0x")
        .filter(|digits| !digits.starts_with('+'))?;
    u32::from_str_radix(digits, 16).ok()
}
