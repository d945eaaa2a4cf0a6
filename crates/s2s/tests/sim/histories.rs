//! Histories that are known to go wrong, one by one.
