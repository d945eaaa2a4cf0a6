//! The relation with a foreign server that this one publishes to, as data in the store. The foreign server knows nothing of it
//! ([rule 14](crate::design#rule-14)).

use crate::error::{Error, ErrorKind, Result};
use crate::feed;
use crate::relation::identifier_map;
use crate::relation::keys;
use crate::relation::retry::Retry;
use crate::relation::stored::{self, Address, Relation};
use crate::report::Counts;
use crate::selection::{Selected, Selection};
use crate::wire::place::Place;
use keyferry_kmip::spec::Operation;
use keyferry_kmip::{DateTime, Text, extension as x};
use keyferry_store::{ObjectId, Snapshot, Store, StoreExt, Transaction};
use keyferry_ttlv::{Decode, Encode, Extra};

/// A foreign server that this one publishes to. A [`Publication`](crate::Publication) runs the relation, or a [`Notifier`](crate::Notifier)
/// where the server takes Put and Notify.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::FOREIGN_SLAVE)]
#[non_exhaustive]
pub struct ForeignReplica {
    /// The name of the relation here. The map of identifiers is kept under the same name.
    #[ttlv(tag = x::RELATION)]
    pub relation: Text,
    /// The server id by which clients see it.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    /// Which objects are published.
    pub(crate) selected: Selected,
    /// The operation that brings objects there: Import, Register or Put.
    #[ttlv(tag = x::BY_OPERATION)]
    pub by: Operation,
    /// Whether an object that is destroyed here is destroyed there; otherwise it is revoked there.
    #[ttlv(tag = x::MAY_DESTROY)]
    pub may_destroy: bool,
    /// Whether an object that has left the selection is destroyed there; otherwise it stays, and only changes of its State are sent.
    #[ttlv(tag = x::DESTROYS_LEFT)]
    pub destroys_left: bool,
    /// The place in this server's feed up to which everything was published, except for the objects that are tried again.
    #[ttlv(tag = x::PLACE)]
    pub cursor: Place,
    /// The number of the last session. An earlier session writes nothing any more.
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
    /// Whether the relation is paused.
    #[ttlv(tag = x::PAUSED)]
    pub paused: Option<bool>,
    /// How many objects could not be brought there as they are, and are tried again.
    #[ttlv(tag = x::COUNT_RETRIED)]
    pub retried: i64,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// Options of a relation with a foreign server that is published to. The values in parentheses are the defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignReplicaOptions {
    /// Which objects are published (all).
    pub selection: Selection,
    /// The operation that brings objects there (Import, which exists since 1.4): Import, Register, or Put.
    pub by: Operation,
    /// Whether an object that is destroyed here is destroyed there, too, if this server brought it there (true). Otherwise it is revoked
    /// there.
    pub may_destroy: bool,
    /// Whether an object that has left the selection is destroyed there (false). Otherwise it stays there and is reported, and only changes
    /// of its State are sent, so that nobody works with a key that was revoked since.
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

impl Relation for ForeignReplica {
    const PREFIX: &'static [u8] = keys::FOREIGN_REPLICA;
    const KIND: &'static str = "foreign relation";

    fn key(&self) -> Vec<u8> {
        keys::foreign_replica(&self.relation)
    }

    fn paused(&mut self) -> &mut Option<bool> {
        &mut self.paused
    }
}

impl ForeignReplica {
    fn address(relation: &str) -> Address<'_> {
        Address {
            key: keys::foreign_replica(relation),
            name: relation,
        }
    }

    /// The foreign servers that are published to.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<ForeignReplica>> {
        stored::all(snapshot)
    }

    /// One foreign server, by the name of the relation.
    ///
    /// # Errors
    /// Those of the store.
    pub fn find(snapshot: &dyn Snapshot, relation: &str) -> Result<Option<ForeignReplica>> {
        stored::find(snapshot, &keys::foreign_replica(relation))
    }

    /// The objects that could not be brought there as they are, each with the reason and the time when it is tried again.
    ///
    /// # Errors
    /// Those of the store.
    pub fn retries(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<Retry>> {
        Retry::all_under(snapshot, &keys::published_retry_prefix(relation))
    }

    /// The objects that have left the selection and are still there.
    ///
    /// # Errors
    /// Those of the store.
    pub fn left(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<ObjectId>> {
        identifier_map::left(snapshot, relation)
    }

    /// The objects that are published.
    pub fn selection(&self) -> Selection {
        self.selected.selection()
    }

    /// What became of the objects of the current pass, or of the last one.
    ///
    /// # Errors
    /// Those of the store.
    pub fn counts(&self, snapshot: &dyn Snapshot) -> Result<Counts> {
        stored::counts(snapshot, &keys::published_counts(&self.relation))
    }

    /// How many entries of this server's feed were not published yet.
    ///
    /// # Errors
    /// Those of the store.
    pub fn lag(&self, snapshot: &dyn Snapshot) -> Result<u64> {
        Ok(snapshot.head()?.number.saturating_sub(self.cursor.number()))
    }

    /// For how many seconds the oldest change that was not published has waited. `None` when there is no such change.
    ///
    /// # Errors
    /// Those of the store.
    pub fn lag_seconds(&self, snapshot: &dyn Snapshot, now: DateTime) -> Result<Option<u64>> {
        feed::seconds_waiting(snapshot, self.cursor.number(), now)
    }

    pub(crate) fn put(&self, transaction: &mut dyn Transaction) -> Result<()> {
        stored::put(transaction, self)
    }

    /// Begins to publish to a foreign server, or publishes with other options from now on: then the whole feed is read again.
    ///
    /// # Errors
    /// [`ErrorKind::Selection`] for a selection that can't be followed, [`ErrorKind::Relation`] when the relation is with another server or
    /// by another operation, or nothing can be published by that operation, and those of the store.
    pub fn publish(
        store: &dyn Store,
        relation: &str,
        server: &str,
        what: &ForeignReplicaOptions,
        now: DateTime,
    ) -> Result<()> {
        stored::check_selection(&what.selection)?;
        if !matches!(
            what.by,
            Operation::IMPORT | Operation::REGISTER | Operation::PUT
        ) {
            return Err(Error::new(
                ErrorKind::Relation,
                format_args!("nothing is published by {}", what.by),
            ));
        }
        store.transact(|transaction| {
            let new = ForeignReplica::new(relation, server, what, now);
            let replica = match ForeignReplica::find(transaction, relation)? {
                None => new,
                Some(held) if held.server != *server || held.by != what.by => {
                    let more = format!(", by {}", held.by);
                    return Err(stored::is_with_another(relation, &held.server, &more));
                }
                Some(held) => ForeignReplica {
                    session: held.session,
                    since: held.since,
                    contact: held.contact,
                    paused: held.paused,
                    retried: held.retried,
                    extra: held.extra,
                    ..new
                },
            };
            stored::put(transaction, &replica)
        })
    }

    fn new(
        relation: &str,
        server: &str,
        what: &ForeignReplicaOptions,
        now: DateTime,
    ) -> ForeignReplica {
        ForeignReplica {
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
        }
    }

    /// Changes the relation as it is stored, and returns it as it is then.
    pub(crate) fn change(
        store: &dyn Store,
        relation: &str,
        change: impl Fn(&mut ForeignReplica) -> Result<()>,
    ) -> Result<ForeignReplica> {
        stored::change(store, &ForeignReplica::address(relation), change)
    }

    /// Stops publishing until it is [resumed](ForeignReplica::resume).
    ///
    /// # Errors
    /// [`ErrorKind::Relation`] when there is no such relation, and those of the store.
    pub fn pause(store: &dyn Store, relation: &str) -> Result<()> {
        stored::pause::<ForeignReplica>(store, &ForeignReplica::address(relation))
    }

    /// Publishes again.
    ///
    /// # Errors
    /// As for [`pause`](ForeignReplica::pause).
    pub fn resume(store: &dyn Store, relation: &str) -> Result<()> {
        stored::resume::<ForeignReplica>(store, &ForeignReplica::address(relation))
    }

    /// Ends the relation. The foreign server keeps what it has, and the map of identifiers stays.
    ///
    /// # Errors
    /// As for [`pause`](ForeignReplica::pause).
    pub fn end(store: &dyn Store, relation: &str) -> Result<()> {
        stored::end::<ForeignReplica>(
            store,
            &ForeignReplica::address(relation),
            &[keys::published_counts(relation)],
            &[keys::published_retry_prefix(relation)],
        )
    }
}
