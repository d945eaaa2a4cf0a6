//! What two keyferry servers say to each other beyond the standard: message extensions, private payloads and places in a feed.

pub(crate) mod copy;
pub(crate) mod follow;
pub(crate) mod place;
pub(crate) mod proof;
pub(crate) mod receipt;
pub(crate) mod server_information;
pub(crate) mod terms;
pub(crate) mod turn;
