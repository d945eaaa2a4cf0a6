pub(crate) mod feed;
pub(crate) mod item;
