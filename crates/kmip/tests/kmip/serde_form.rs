//! The model in serde's formats: readable, with secrets masked unless somebody was asked to show them.

mod form;
mod masked;
mod support;
