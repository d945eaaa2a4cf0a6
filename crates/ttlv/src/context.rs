//! The surroundings of encoding and decoding: the protocol version, the limits, the slips that may pass, the names.
//!
//! A caller makes one [`Context`] for a message and hands it to whatever reads or writes it.

use crate::dictionary::Dictionary;
use crate::types::Version;
use core::fmt;

/// What encoding and decoding depend on beside the bytes.
#[derive(Clone, Copy)]
pub struct Context {
    /// The protocol version; a message's header replaces it when decoding.
    pub version: Version,
    /// Limits for what comes in.
    pub limits: Limits,
    /// Slips of peers that are let pass.
    pub lenient: Lenient,
    /// Names for errors; hexadecimal without.
    pub dictionary: Option<&'static dyn Dictionary>,
}

impl Context {
    /// This version, safe limits, no names.
    pub const fn new(version: Version) -> Self {
        Context {
            version,
            limits: Limits::DEFAULT,
            lenient: Lenient::NEVER,
            dictionary: None,
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("version", &self.version)
            .field("limits", &self.limits)
            .field("lenient", &self.lenient)
            .finish_non_exhaustive()
    }
}

/// How much of something is too much. Checked before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Limits {
    /// Bytes in a message (16 MiB).
    pub size: usize,
    /// Structures within structures (32); of a part that was kept as it came and is read by itself, counted from there.
    pub depth: usize,
    /// Items in a message (1 000 000).
    pub items: usize,
    /// Bytes in a text (1 MiB).
    pub text: usize,
}

impl Limits {
    /// The figures above.
    pub const DEFAULT: Limits = Limits {
        size: 16 << 20,
        depth: 32,
        items: 1_000_000,
        text: 1 << 20,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}

/// What the standard forbids and some peers send all the same. Nothing of it passes unless it is asked for; everything else that is wrong
/// with an item's form is an error always, since it could only be guessed at.
///
/// What is kept as it came ([`Raw`], [`Extra`]) is written back as it came, slips included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Lenient {
    /// Padding bytes may have any value. The text names none (KMIP 1.4 §9.1.1.3, 2.1 §10.1.5); its examples and test cases have zeros.
    pub padding: bool,
    /// Any Boolean but 0 is true (KMIP 1.4 §9.1.1.4, 2.1 §10.1.4: 0 or 1).
    pub boolean: bool,
    /// A Big Integer may have any length but 0, padded like a string (KMIP 1.4 §9.1.1.3, 2.1 §10.1.3: a multiple of eight).
    pub big_integer: bool,
}

impl Lenient {
    /// Lets nothing pass.
    pub const NEVER: Lenient = Lenient {
        padding: false,
        boolean: false,
        big_integer: false,
    };
    /// Lets everything above pass.
    pub const ALWAYS: Lenient = Lenient {
        padding: true,
        boolean: true,
        big_integer: true,
    };
}
