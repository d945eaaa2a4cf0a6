//! The surroundings of encoding and decoding: the protocol version, the limits, the slips that may pass, the names.
//!
//! A caller makes one [`Context`] for a message and hands it to whatever reads or writes it.

use crate::dictionary::Dictionary;
use crate::types::Version;
use core::fmt;

/// The parameters of encoding and decoding.
#[derive(Clone, Copy)]
pub struct Context {
    /// The protocol version; a message's header replaces it when decoding.
    pub version: Version,
    /// Limits for what comes in.
    pub limits: Limits,
    /// The violations of the standard that are accepted from peers.
    pub lenient: Lenient,
    /// The names for errors; without them tags are hexadecimal.
    pub dictionary: Option<&'static dyn Dictionary>,
}

impl Context {
    /// A context of this version, with safe limits and no names.
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

/// The limits for what comes in, checked before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Limits {
    /// Bytes in a message (16 MiB).
    pub size: usize,
    /// Structures within structures (32). For a part that was kept as it came and is read later, they are counted from that part.
    pub depth: usize,
    /// Items in a message (1 000 000).
    pub items: usize,
    /// Bytes in a text (1 MiB).
    pub text: usize,
}

impl Limits {
    /// The limits that stand in brackets above.
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

/// Violations of the standard that some peers send, and that may be accepted. None is accepted by default. Any other fault in the form of an
/// item is always an error, since its meaning could only be guessed.
///
/// Items that are kept as they came ([`Raw`](crate::Raw), [`Extra`](crate::Extra)) are written back as they came, violations included.
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
    /// Accepts none of them.
    pub const NEVER: Lenient = Lenient {
        padding: false,
        boolean: false,
        big_integer: false,
    };
    /// Accepts all of them.
    pub const ALWAYS: Lenient = Lenient {
        padding: true,
        boolean: true,
        big_integer: true,
    };
}
