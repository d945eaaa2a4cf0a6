//! XML and JSON: every form of every value, what is no message, and trees that come back.

mod json;
mod limits;
mod support;
mod trees;
mod values;
mod xml;
