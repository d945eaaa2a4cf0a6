//! The rights of a caller: what it may do with which object.

use keyferry_kmip::spec::Operation;
use keyferry_kmip::{Failure, Identity};
use keyferry_store::Record;
use std::sync::Arc;

/// The access rules of a server: who may do what with which object.
///
/// # Contract
/// An answer depends on the arguments alone. What the failure says goes to the caller: it names no rule.
///
/// The caller is a client, by the name of its certificate or of its login. A peer that acts as one is named `peer:` and its server id
/// ([`Identity::is_peer`]), which no client is: an owner or a grant of a client with the same text is not the peer's.
pub trait Rights: Send + Sync {
    /// Checks whether the caller may do this with this object.
    ///
    /// # Errors
    /// [`PermissionDenied`](keyferry_kmip::Cause::PermissionDenied).
    fn check(
        &self,
        caller: &Identity,
        operation: Operation,
        record: &Record,
    ) -> Result<(), Failure>;
}

impl<R: Rights + ?Sized> Rights for Arc<R> {
    fn check(
        &self,
        caller: &Identity,
        operation: Operation,
        record: &Record,
    ) -> Result<(), Failure> {
        (**self).check(caller, operation, record)
    }
}

/// Rights by which everybody may do everything. They serve questions that no client asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unrestricted;

impl Rights for Unrestricted {
    fn check(&self, _: &Identity, _: Operation, _: &Record) -> Result<(), Failure> {
        Ok(())
    }
}
