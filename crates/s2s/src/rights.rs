use keyferry_kmip::spec::Operation;
use keyferry_kmip::{Failure, Identity};
use keyferry_store::Record;

/// Who may do what with which object.
///
/// # Contract
/// An answer depends on the arguments alone. What the failure says goes to the caller: it names no rule.
pub trait Rights: Send + Sync {
    /// Fails when the caller may not do this with this object.
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

/// Everybody may do everything: for what is not asked by a client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unrestricted;

impl Rights for Unrestricted {
    fn check(&self, _: &Identity, _: Operation, _: &Record) -> Result<(), Failure> {
        Ok(())
    }
}
