//! The tests of the codec: binary, derived types, the text forms, the forgiving reader.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cloned_ref_to_slice_refs,
    clippy::unit_arg
)]

mod derive;
mod derive_types;
#[cfg(all(feature = "xml", feature = "json"))]
mod forms;
mod frames;
#[cfg(feature = "inspect")]
mod inspect;
mod limits;
mod strict;
mod support;
mod trees;
mod types;
