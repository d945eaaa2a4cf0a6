//! A server that knows nothing of it and is kept up to date all the same, as data in the store: how far it was told (DESIGN: rule 14).

use crate::error::{Error, ErrorKind, Result};
use crate::relation::followed::LINKS;
use crate::relation::foreign_master::all;
use crate::relation::identifier_map;
use crate::relation::keys::{self, forget, none};
use crate::relation::retry::Retry;
use crate::report::Counts;
use crate::selection::{Selected, Selection};
use crate::wire::place::Place;
use keyferry_kmip::spec::{Operation, tag};
use keyferry_kmip::{DateTime, Text, extension as x};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{ObjectId, Snapshot, SnapshotExt, Store, StoreExt, Transaction};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::ops::ControlFlow;

/// A foreign server that this one publishes to: run by a [`Publication`](crate::Publication), or by a [`Notifier`](crate::Notifier) where it
/// takes Put and Notify.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::FOREIGN_SLAVE)]
pub struct ForeignReplica {
    /// What the relation is called here; the map of identifiers is kept under the same name.
    #[ttlv(tag = x::RELATION)]
    pub relation: Text,
    /// The server id that is shown of it.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    pub(crate) selected: Selected,
    /// By which operation objects come there: Import, Register or Put.
    #[ttlv(tag = x::BY_OPERATION)]
    pub by: Operation,
    /// Whether what is destroyed here is destroyed there; otherwise it is revoked there.
    #[ttlv(tag = x::MAY_DESTROY)]
    pub may_destroy: bool,
    /// Whether what has left the selection is destroyed there; otherwise it is named, and only its State is led on.
    #[ttlv(tag = x::DESTROYS_LEFT)]
    pub destroys_left: bool,
    /// Up to where of our own feed it was told, but for what is to be tried again.
    #[ttlv(tag = x::PLACE)]
    pub cursor: Place,
    /// The number of the last session: an earlier one writes no more.
    #[ttlv(tag = x::SESSION)]
    pub session: i64,
    /// Since when it is published to.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// When it last answered, as last noted.
    #[ttlv(tag = x::CONTACT)]
    pub contact: DateTime,
    /// Why the last session failed.
    #[ttlv(tag = x::WHY)]
    pub error: Option<Text>,
    /// Whether it is told nothing for the time being.
    #[ttlv(tag = x::PAUSED)]
    pub paused: Option<bool>,
    /// How many objects could not be brought there as they are, and are tried again.
    #[ttlv(tag = x::COUNT_RETRIED)]
    pub retried: i64,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// What is published, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignReplicaOptions {
    /// Which objects.
    pub selection: Selection,
    /// By which operation objects come there: Import (the usual one, since 1.4), Register, or Put.
    pub by: Operation,
    /// Whether what is destroyed here is destroyed there, too, where it was brought by us (true). Otherwise it is revoked there.
    pub may_destroy: bool,
    /// Whether what has left the selection is destroyed there (false). Otherwise it stays there and is named, and only its State is led on, so
    /// that nobody works with a key that was revoked since.
    pub destroys_left: bool,
}

impl Default for ForeignReplicaOptions {
    fn default() -> Self {
        ForeignReplicaOptions {
            selection: Selection::everything(),
            by: Operation::IMPORT,
            may_destroy: true,
            destroys_left: false,
        }
    }
}

impl ForeignReplica {
    /// The foreign servers that are published to.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<ForeignReplica>> {
        all(snapshot, keys::FOREIGN_REPLICA)
    }

    /// One of them, by the name of the relation.
    ///
    /// # Errors
    /// Those of the store.
    pub fn find(snapshot: &dyn Snapshot, relation: &str) -> Result<Option<ForeignReplica>> {
        let stored = snapshot.state_value(&keys::foreign_replica(relation))?;
        Ok(stored
            .map(|bytes| read(&bytes, "foreign relation"))
            .transpose()?)
    }

    /// What could not be brought there as it is, why, and when it is tried again.
    ///
    /// # Errors
    /// Those of the store.
    pub fn retries(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<Retry>> {
        all(snapshot, &keys::published_retry_prefix(relation))
    }

    /// The objects that have left the selection and are there still.
    ///
    /// # Errors
    /// Those of the store.
    pub fn left(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<ObjectId>> {
        identifier_map::left(snapshot, relation)
    }

    /// What is published.
    pub fn selection(&self) -> Selection {
        self.selected.selection()
    }

    /// What became of the objects of the pass under way, or of the last one.
    ///
    /// # Errors
    /// Those of the store.
    pub fn counts(&self, snapshot: &dyn Snapshot) -> Result<Counts> {
        let stored = snapshot.state_value(&keys::published_counts(&self.relation))?;
        Ok(stored
            .map(|bytes| read(&bytes, "progress of a transfer"))
            .transpose()?
            .unwrap_or_default())
    }

    /// How many places of our feed lie behind the one up to which it was told.
    ///
    /// # Errors
    /// Those of the store.
    pub fn lag(&self, snapshot: &dyn Snapshot) -> Result<u64> {
        Ok(snapshot.head()?.number.saturating_sub(self.cursor.number()))
    }

    /// For how many seconds the oldest change has waited that it was not told yet. Nothing when there is none.
    ///
    /// # Errors
    /// Those of the store.
    pub fn lag_seconds(&self, snapshot: &dyn Snapshot, now: DateTime) -> Result<Option<u64>> {
        let mut next = None;
        snapshot.feed(self.cursor.number(), &mut |row| {
            next = Some(row.record);
            Ok(ControlFlow::Break(()))
        })?;
        let Some(record) = next
            .map(|number| snapshot.record(number))
            .transpose()?
            .flatten()
        else {
            return Ok(None);
        };
        let changed = record.attributes.date(tag::LAST_CHANGE_DATE).unwrap_or(now);
        Ok(Some(
            u64::try_from(now.0.saturating_sub(changed.0)).unwrap_or(0),
        ))
    }

    pub(crate) fn put(&self, transaction: &mut dyn Transaction) -> Result<()> {
        Ok(transaction.set_state(
            &keys::foreign_replica(&self.relation),
            Some(&bytes_of(self)?),
        )?)
    }

    /// Begins to publish to a foreign server, or publishes something else to it from now on: then the feed is looked through again.
    ///
    /// # Errors
    /// [`ErrorKind::Selection`] for a selection that can't be followed, [`ErrorKind::Relation`] when the relation is with another server or
    /// by another operation, or there is no such way, and those of the store.
    pub fn publish(
        store: &dyn Store,
        relation: &str,
        server: &str,
        what: &ForeignReplicaOptions,
        now: DateTime,
    ) -> Result<()> {
        if what.selection.with_links {
            return Err(Error::new(ErrorKind::Selection, LINKS));
        }
        if !matches!(
            what.by,
            Operation::IMPORT | Operation::REGISTER | Operation::PUT
        ) {
            return Err(Error::new(
                ErrorKind::Relation,
                format_args!("nothing is published by {}", what.by),
            ));
        }
        what.selection.query()?;
        store.transact(|transaction| {
            let held = ForeignReplica::find(transaction, relation)?;
            if let Some(held) = held
                .as_ref()
                .filter(|held| held.server != *server || held.by != what.by)
            {
                let why = format_args!(
                    "the relation {relation:?} is with the server {:?}, by {}",
                    held.server, held.by
                );
                return Err(Error::new(ErrorKind::Relation, why));
            }
            let fresh = ForeignReplica {
                relation: relation.into(),
                server: server.into(),
                selected: Selected::of(&what.selection),
                by: what.by,
                may_destroy: what.may_destroy,
                destroys_left: what.destroys_left,
                cursor: Place::default(),
                session: 0,
                since: now,
                contact: DateTime(0),
                error: None,
                paused: None,
                retried: 0,
                extra: Extra::NONE,
            };
            let slave = match held {
                None => fresh,
                Some(held) => ForeignReplica {
                    session: held.session,
                    since: held.since,
                    contact: held.contact,
                    paused: held.paused,
                    retried: held.retried,
                    extra: held.extra,
                    ..fresh
                },
            };
            slave.put(transaction)
        })
    }

    pub(crate) fn change(
        store: &dyn Store,
        relation: &str,
        change: impl Fn(&mut ForeignReplica) -> Result<()>,
    ) -> Result<ForeignReplica> {
        store.transact(|transaction| {
            let mut slave =
                ForeignReplica::find(transaction, relation)?.ok_or_else(|| none(relation))?;
            change(&mut slave)?;
            slave.put(transaction)?;
            Ok(slave)
        })
    }

    /// Tells it nothing until it is [resumed](ForeignReplica::resume).
    ///
    /// # Errors
    /// When there is no such relation, and those of the store; so for the next two.
    pub fn pause(store: &dyn Store, relation: &str) -> Result<()> {
        let pause = |slave: &mut ForeignReplica| {
            slave.paused = Some(true);
            Ok(())
        };
        ForeignReplica::change(store, relation, pause).map(drop)
    }

    /// Goes on telling it.
    ///
    /// # Errors
    /// As for [`pause`](ForeignReplica::pause).
    pub fn resume(store: &dyn Store, relation: &str) -> Result<()> {
        let resume = |slave: &mut ForeignReplica| {
            slave.paused = None;
            Ok(())
        };
        ForeignReplica::change(store, relation, resume).map(drop)
    }

    /// Publishes to it no more. It keeps what it has, and the map of identifiers stays.
    ///
    /// # Errors
    /// As for [`pause`](ForeignReplica::pause).
    pub fn end(store: &dyn Store, relation: &str) -> Result<()> {
        store.transact(|transaction| {
            if ForeignReplica::find(transaction, relation)?.is_none() {
                return Err(none(relation));
            }
            transaction.set_state(&keys::foreign_replica(relation), None)?;
            transaction.set_state(&keys::published_counts(relation), None)?;
            Ok(forget(
                transaction,
                &keys::published_retry_prefix(relation),
            )?)
        })
    }
}
