//! What a server holds by way of a relation, as it compares it with what it was told.

use crate::compare::leaf::CopySum;
use crate::compare::table::Table;
use keyferry_store::ObjectId;
use std::collections::HashMap;

/// The leaves of what is held by way of a relation. Sessions come and go; these stay as long as the process.
#[derive(Default)]
pub(crate) struct HeldTable {
    /// `None` until the server that is followed has told the key.
    pub(crate) table: Option<Table>,
    /// The listed copies that the table has leaves of, with what was told of each.
    pub(crate) listed: HashMap<ObjectId, Option<CopySum>>,
    /// The count of the relation's account up to which the table knows which copies come by it.
    pub(crate) account: Option<i64>,
    /// The session for which `listed` was compared with what the store lists: another process may have changed that before.
    pub(crate) loaded_for: Option<i64>,
}
