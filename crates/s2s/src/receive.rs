//! These modules take in what other servers send, and what this one fetches from them: objects, copies, changes and what is given back.

pub(crate) mod apply;
pub(crate) mod authority;
pub(crate) mod check;
pub(crate) mod collision;
pub(crate) mod compromise;
pub(crate) mod copy;
pub(crate) mod export;
pub(crate) mod fork;
pub(crate) mod give_back;
pub(crate) mod given_back;
pub(crate) mod import;
pub(crate) mod merge;
pub(crate) mod notify;
pub(crate) mod refused;
pub(crate) mod returned;
pub(crate) mod same_object;
pub(crate) mod state;
