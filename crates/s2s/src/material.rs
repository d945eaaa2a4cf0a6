//! These modules turn key material into the form in which it is served or sent, and back: formats, wrapping, and what may leave at all.

pub(crate) mod format;
pub(crate) mod serve;
pub(crate) mod transit;
pub(crate) mod transport;
pub(crate) mod wrap;
pub(crate) mod wrapping_key;
