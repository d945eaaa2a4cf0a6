//! The one loop that applies what a page brings: an answer of a followed server, of a server that is pulled from, or a segment of a bundle.

use crate::error::{Error, ErrorKind, Result};
use keyferry_kmip::{Cause, Failure, RandomFailed};
use keyferry_store::{Deferred, Effects, Snapshot};
use std::ops::ControlFlow;

/// What [`apply_page`] asks about each item of a page.
///
/// # Contract
/// Nothing that `decide` and `record` do outlives a transaction that is rolled back or run again: what a page keeps in itself is made anew
/// with each run of the transaction's closure.
pub trait ApplyPage {
    /// One item of the page.
    type Item;
    /// What was decided of an item.
    type Decided;

    /// Decides what becomes of an item, and changes nothing.
    ///
    /// # Errors
    /// What stands against the item. A failure of this server itself ([`is_internal`]) ends the page.
    fn decide(
        &mut self,
        snapshot: &dyn Snapshot,
        item: &Self::Item,
    ) -> Result<Self::Decided, Failure>;

    /// Records what was decided, or why the item was refused, and returns what is to be written; with `Break` the item and those behind it are
    /// left alone.
    ///
    /// # Errors
    /// When the page can't go on: the transaction is rolled back.
    fn record(
        &mut self,
        snapshot: &dyn Snapshot,
        item: &Self::Item,
        decided: Result<Self::Decided, Failure>,
    ) -> Result<ControlFlow<(), Effects>>;
}

/// Applies the items of a page in their order, each of which sees what those before it have changed.
///
/// A refusal concerns its item alone: [`ApplyPage::record`] says what is kept of it. A failure of this server itself ends the page with an error, so
/// that its transaction is rolled back: it is never counted as an object that failed, and no progress is committed past it.
///
/// # Errors
/// [`ErrorKind::Store`] or [`ErrorKind::Random`] for a failure of this server, whose cause is kept, and those of [`ApplyPage::record`].
pub fn apply_page<P: ApplyPage>(
    world: &mut Deferred<'_, '_>,
    page: &mut P,
    items: &[P::Item],
) -> Result<()> {
    for item in items {
        let decided = page.decide(&*world, item);
        if let Err(failure) = &decided
            && is_internal(failure)
        {
            return Err(internal(failure.clone()));
        }
        match page.record(&*world, item, decided)? {
            ControlFlow::Continue(effects) => world.add(effects)?,
            ControlFlow::Break(()) => break,
        }
    }
    Ok(())
}

/// Whether this server failed (its store, its source of randomness), and not what it was asked.
pub fn is_internal(failure: &Failure) -> bool {
    failure.cause() == Cause::Internal || is_of_randomness(failure)
}

fn is_of_randomness(failure: &Failure) -> bool {
    std::error::Error::source(failure).is_some_and(|source| source.is::<RandomFailed>())
}

fn internal(failure: Failure) -> Error {
    let kind = if is_of_randomness(&failure) {
        ErrorKind::Random
    } else {
        ErrorKind::Store
    };
    Error::caused_by(kind, failure)
}
