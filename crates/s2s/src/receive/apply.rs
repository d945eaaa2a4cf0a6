//! The one loop that applies what a page brings: an answer of a followed server, of a server that is pulled from, or a segment of a bundle.

use crate::error::{Error, ErrorKind, Result};
use crate::node::Node;
use keyferry_kmip::{Cause, Failure, Now, RandomFailed};
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

/// Applies the items of a page in their order, each of which sees what those before it have changed. A compromise that an item brings is carried on
/// as `spread` says ([`Node::spread_compromise`]); `None` where what decides has done that.
///
/// A refusal concerns its item alone: [`ApplyPage::record`] says what is kept of it. A failure of this server itself ends the page with an error, so
/// that its transaction is rolled back: it is never counted as an object that failed, and no progress is committed past it.
///
/// # Errors
/// [`ErrorKind::Store`] or [`ErrorKind::Random`] for a failure of this server, whose cause is kept, and those of [`ApplyPage::record`].
pub fn apply_page<P: ApplyPage>(
    world: &mut Deferred<'_, '_>,
    spread: Option<(&Node, Now)>,
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
            ControlFlow::Continue(mut effects) => {
                if let Some((node, now)) = spread {
                    node.spread_compromise(&*world, now.wall, &mut effects)?;
                }
                world.add(effects)?;
            }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::Policy;
    use keyferry_kmip::Secret;
    use keyferry_store::{Home, Incarnation, Memory, SnapshotExt, StoreExt};

    /// Writes an entry for each item, and fails at one as it is told.
    struct Failing {
        at: u8,
        failure: Failure,
        refused: Vec<u8>,
    }

    impl ApplyPage for Failing {
        type Item = u8;
        type Decided = u8;

        fn decide(&mut self, _: &dyn Snapshot, item: &u8) -> Result<u8, Failure> {
            if *item == self.at {
                Err(self.failure.clone())
            } else {
                Ok(*item)
            }
        }

        fn record(
            &mut self,
            _: &dyn Snapshot,
            item: &u8,
            decided: Result<u8, Failure>,
        ) -> Result<ControlFlow<(), Effects>> {
            let mut effects = Effects::none();
            match decided {
                Ok(item) => effects.state.push((vec![b'i', item], Some(vec![item]))),
                Err(_) => self.refused.push(*item),
            }
            Ok(ControlFlow::Continue(effects))
        }
    }

    /// Applies items 1 to 3, of which 2 fails; returns what the store holds of them, and which were refused.
    fn apply_failing(failure: Failure) -> (Result<Vec<u8>>, usize) {
        let store = Memory::new(Incarnation([1; 16]));
        let home = Home {
            server: "here".into(),
            instance: vec![1; 16],
            fingerprint_key: Secret::new(&[7; 32]),
            extra: Default::default(),
        };
        let crypto = std::sync::Arc::new(keyferry_crypto::Ring::new());
        let node = Node::new(home, Policy::closed(), crypto);
        let applied = store.transact(|transaction| {
            let mut world = Deferred::new(transaction);
            let mut page = Failing {
                at: 2,
                failure: failure.clone(),
                refused: Vec::new(),
            };
            apply_page(
                &mut world,
                Some((&node, Now::default())),
                &mut page,
                &[1, 2, 3],
            )?;
            world.finish()?;
            Ok::<_, Error>(page.refused)
        });
        let kept = store
            .view::<_, Error>(|snapshot| {
                let mut kept = 0;
                for item in 1..=3 {
                    kept += usize::from(snapshot.state_value(&[b'i', item])?.is_some());
                }
                Ok(kept)
            })
            .unwrap();
        (applied, kept)
    }

    #[test]
    fn a_refusal_concerns_its_item_alone() {
        let (applied, kept) = apply_failing(Failure::denied("not this one"));
        assert_eq!((applied.unwrap(), kept), (vec![2], 2));
    }

    #[test]
    fn a_failure_of_the_store_ends_the_page_and_keeps_its_kind() {
        use keyferry_store::ErrorKind as Kind;
        for kind in [Kind::Full, Kind::Corrupt, Kind::Io] {
            let (applied, kept) =
                apply_failing(keyferry_store::Error::new(kind, "on order").into());
            let error = applied.unwrap_err();
            assert_eq!((error.kind(), kept), (ErrorKind::Store, 0));
            assert_eq!(error.store_kind(), Some(kind));
        }
    }

    #[test]
    fn a_lack_of_randomness_ends_the_page() {
        let failure = Failure::new(Cause::Cryptographic, RandomFailed).caused_by(RandomFailed);
        let (applied, kept) = apply_failing(failure);
        assert_eq!((applied.unwrap_err().kind(), kept), (ErrorKind::Random, 0));
        // What the object itself is to blame for is no failure of the server.
        let (applied, kept) = apply_failing(Failure::new(Cause::Cryptographic, "a bad key"));
        assert_eq!((applied.unwrap(), kept), (vec![2], 2));
    }
}
