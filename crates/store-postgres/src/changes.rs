//! This module collects what a write has put, which the end of the write needs for the feed and the commit chain.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// The changes of a write so far.
#[derive(Default)]
pub(crate) struct Changes {
    /// The puts, in order.
    pub(crate) puts: Vec<Pending>,
    /// The records that existed before, whose earlier feed entries go away.
    pub(crate) superseded: BTreeSet<i64>,
    /// The rows of the state that are set or removed and do not stand in the table yet: they go there together.
    pub(crate) state: RefCell<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    /// Whether anything was changed.
    pub(crate) any: bool,
}

/// What the commit chain and the feed need of a put.
pub(crate) struct Pending {
    pub(crate) record: i64,
    pub(crate) id: Box<[u8]>,
    pub(crate) attributes: Box<[u8]>,
    pub(crate) entry: Box<[u8]>,
}
