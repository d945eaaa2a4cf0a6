pub(crate) mod format;
pub(crate) mod serve;
pub(crate) mod transit;
pub(crate) mod wrap;
