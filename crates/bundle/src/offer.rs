//! What goes into a bundle: what was chosen, and what the recipient is to hear about what it was offered earlier.

use crate::error::{Error, Result};
use keyferry_kmip::DateTime;
use keyferry_s2s::{Account, ChosenObjects, FeedPage, Selection, keys};
use keyferry_store::{Record, RecordNumber, Snapshot, SnapshotExt, Store, StoreExt};

/// What one recipient is offered.
pub(crate) struct Offer {
    chosen: ChosenObjects,
    account: Account,
}

impl Offer {
    /// What this selection offers the recipient now.
    ///
    /// # Errors
    /// [`Misuse`](crate::ErrorKind::Misuse) when an attribute can't be looked for, and [`Store`](crate::ErrorKind::Store).
    pub(crate) fn new(
        store: &dyn Store,
        recipient: &str,
        selection: &Selection,
        now: DateTime,
    ) -> Result<Offer> {
        store.view::<_, Error>(|snapshot| {
            Ok(Offer {
                chosen: selection.choose(snapshot, now)?,
                account: Account::in_bundles(snapshot, recipient)?,
            })
        })
    }

    /// How many objects there are to offer now.
    pub(crate) fn count(&mut self, store: &dyn Store) -> Result<u64> {
        let Offer { chosen, account } = self;
        Ok(FeedPage::count(
            store,
            chosen,
            &mut |snapshot, number, record| account.has_ended(snapshot, number, record),
        )?)
    }

    /// Reads what stands behind the feed number `after`: so many objects at the most, and about so many bytes. `None` at the end of the feed.
    pub(crate) fn page(
        &mut self,
        store: &dyn Store,
        after: u64,
        most: usize,
        bytes: usize,
    ) -> Result<Option<FeedPage>> {
        let Offer { chosen, account } = self;
        let mut tells = |snapshot: &dyn Snapshot, number, record: &Record| {
            account.has_ended(snapshot, number, record)
        };
        Ok(FeedPage::read(
            store, after, most, bytes, chosen, &mut tells,
        )?)
    }

    /// Whether the recipient was sent it before, in whatever way.
    pub(crate) fn has(&mut self, store: &dyn Store, number: RecordNumber) -> Result<bool> {
        store.view::<_, Error>(|snapshot| Ok(self.account.has_anyhow(snapshot, number)?))
    }

    /// Keeps in mind what the recipient is offered, before it can have it: of these it hears when they are no more.
    pub(crate) fn note(&self, store: &dyn Store, numbers: &[RecordNumber]) -> Result<()> {
        Ok(self.account.note(store, numbers)?)
    }
}

/// The number of the next bundle for a recipient, from 1: no two manifests of one store are the same.
pub(crate) fn number(store: &dyn Store, recipient: &str) -> Result<i64> {
    let key = keys::bundle_number(recipient);
    store.transact::<_, Error>(|transaction| {
        let held = transaction
            .state_value(&key)?
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, i64::from_be_bytes);
        let next = held.saturating_add(1);
        transaction.set_state(&key, Some(&next.to_be_bytes()))?;
        Ok(next)
    })
}
