//! Relations with other servers, as data in the store, and what is kept beside them.

pub(crate) mod account;
pub(crate) mod alarm;
pub(crate) mod compromised_twin;
pub(crate) mod differing;
pub(crate) mod doubtful;
pub(crate) mod emergency;
pub(crate) mod ended;
pub(crate) mod followed;
pub(crate) mod foreign_master;
pub(crate) mod foreign_replica;
pub(crate) mod identifier_map;
pub(crate) mod kept;
pub(crate) mod keys;
pub(crate) mod mended;
pub(crate) mod owed;
pub(crate) mod receipts;
pub(crate) mod record_set;
pub(crate) mod retry;
pub(crate) mod rotten;
pub(crate) mod scrub;
pub(crate) mod stored;
pub(crate) mod unkept;
pub(crate) mod withheld;
