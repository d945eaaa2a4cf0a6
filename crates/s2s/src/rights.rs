//! The rights of a caller: what it may do with which object.

use keyferry_kmip::spec::Operation;
use keyferry_kmip::{Failure, Identity};
use keyferry_store::Record;

/// The access rules of a server: who may do what with which object.
///
/// # Contract
/// An answer depends on the arguments alone. What the failure says goes to the caller: it names no rule.
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

/// Rights by which everybody may do everything. They serve questions that no client asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unrestricted;

impl Rights for Unrestricted {
    fn check(&self, _: &Identity, _: Operation, _: &Record) -> Result<(), Failure> {
        Ok(())
    }
}
