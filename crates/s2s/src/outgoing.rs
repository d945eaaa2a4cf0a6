//! What leaves this server: the feed is read a page at a time, and each object of a page becomes one request item.

pub(crate) mod feed;
pub(crate) mod item;
