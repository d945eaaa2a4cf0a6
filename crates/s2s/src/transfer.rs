//! What all transfers share, in either direction: the ledger keeps their progress, and a saved plan says what they may do.

pub(crate) mod ledger;
pub(crate) mod plan;
