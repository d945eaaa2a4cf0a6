//! A server that knows nothing of it and is kept up to date all the same, as data in the store: how far it was told (DESIGN: rule 14).

use crate::follow::taking::later;
use crate::follow::{Retry, about};
use crate::foreign_master::all;
use crate::mapping;
use crate::relation::{LINKS, Place, forget, none};
use crate::report::{Counts, Ending, Told};
use crate::selection::Selected;
use crate::{Cx, Error, ErrorKind, Result, Selection};
use keyferry_kmip::spec::{Operation, tag};
use keyferry_kmip::{DateTime, Random, Text, extension as x};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{ObjectId, Record, Snapshot, SnapshotExt, Store, StoreExt, Transaction};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// A foreign server that this one publishes to: run by a [`Publication`](crate::Publication), or by a [`Notifier`](crate::Notifier) where it
/// takes Put and Notify.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::FOREIGN_SLAVE)]
pub struct ForeignSlave {
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
pub struct Publishing {
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

impl Default for Publishing {
    fn default() -> Self {
        Publishing {
            selection: Selection::everything(),
            by: Operation::IMPORT,
            may_destroy: true,
            destroys_left: false,
        }
    }
}

fn key(relation: &str) -> Vec<u8> {
    [b"foreign/slave/", relation.as_bytes()].concat()
}

fn retry_prefix(relation: &str) -> Vec<u8> {
    [b"foreign/again/", relation.as_bytes(), &[0]].concat()
}

/// Where the counts of its passes are kept.
pub(crate) fn counts_key(relation: &str) -> Vec<u8> {
    [b"foreign/published/", relation.as_bytes()].concat()
}

impl ForeignSlave {
    /// The foreign servers that are published to.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<ForeignSlave>> {
        all(snapshot, b"foreign/slave/")
    }

    /// One of them, by the name of the relation.
    ///
    /// # Errors
    /// Those of the store.
    pub fn find(snapshot: &dyn Snapshot, relation: &str) -> Result<Option<ForeignSlave>> {
        let stored = snapshot.state_value(&key(relation))?;
        Ok(stored
            .map(|bytes| read(&bytes, "foreign relation"))
            .transpose()?)
    }

    /// What could not be brought there as it is, why, and when it is tried again.
    ///
    /// # Errors
    /// Those of the store.
    pub fn retries(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<Retry>> {
        all(snapshot, &retry_prefix(relation))
    }

    /// The objects that have left the selection and are there still.
    ///
    /// # Errors
    /// Those of the store.
    pub fn left(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<ObjectId>> {
        mapping::left(snapshot, relation)
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
        let stored = snapshot.state_value(&counts_key(&self.relation))?;
        Ok(stored
            .map(|bytes| read(&bytes, "progress of a transfer"))
            .transpose()?
            .unwrap_or_default())
    }

    /// How many places of our feed lie behind the one up to which it was told.
    ///
    /// # Errors
    /// Those of the store.
    pub fn behind(&self, snapshot: &dyn Snapshot) -> Result<u64> {
        Ok(snapshot.head()?.number.saturating_sub(self.cursor.number()))
    }

    /// For how many seconds the oldest change has waited that it was not told yet. Nothing when there is none.
    ///
    /// # Errors
    /// Those of the store.
    pub fn late(&self, snapshot: &dyn Snapshot, now: DateTime) -> Result<Option<u64>> {
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

    fn put(&self, transaction: &mut dyn Transaction) -> Result<()> {
        Ok(transaction.set_state(&key(&self.relation), Some(&bytes_of(self)?))?)
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
        what: &Publishing,
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
            let held = ForeignSlave::find(transaction, relation)?;
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
            let fresh = ForeignSlave {
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
                Some(held) => ForeignSlave {
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

    fn change(
        store: &dyn Store,
        relation: &str,
        change: impl Fn(&mut ForeignSlave) -> Result<()>,
    ) -> Result<ForeignSlave> {
        store.transact(|transaction| {
            let mut slave =
                ForeignSlave::find(transaction, relation)?.ok_or_else(|| none(relation))?;
            change(&mut slave)?;
            slave.put(transaction)?;
            Ok(slave)
        })
    }

    /// Tells it nothing until it is [resumed](ForeignSlave::resume).
    ///
    /// # Errors
    /// When there is no such relation, and those of the store; so for the next two.
    pub fn pause(store: &dyn Store, relation: &str) -> Result<()> {
        let pause = |slave: &mut ForeignSlave| {
            slave.paused = Some(true);
            Ok(())
        };
        ForeignSlave::change(store, relation, pause).map(drop)
    }

    /// Goes on telling it.
    ///
    /// # Errors
    /// As for [`pause`](ForeignSlave::pause).
    pub fn resume(store: &dyn Store, relation: &str) -> Result<()> {
        let resume = |slave: &mut ForeignSlave| {
            slave.paused = None;
            Ok(())
        };
        ForeignSlave::change(store, relation, resume).map(drop)
    }

    /// Publishes to it no more. It keeps what it has, and the map of identifiers stays.
    ///
    /// # Errors
    /// As for [`pause`](ForeignSlave::pause).
    pub fn end(store: &dyn Store, relation: &str) -> Result<()> {
        store.transact(|transaction| {
            if ForeignSlave::find(transaction, relation)?.is_none() {
                return Err(none(relation));
            }
            transaction.set_state(&key(relation), None)?;
            transaction.set_state(&counts_key(relation), None)?;
            Ok(forget(transaction, &retry_prefix(relation))?)
        })
    }
}

/// A session of such a relation.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) name: String,
    /// The relation, as this session began it.
    pub(crate) slave: ForeignSlave,
    /// Up to where it was committed.
    pub(crate) from: u64,
    /// What is due to be tried again; none while that was not looked for.
    again: Option<VecDeque<ObjectId>>,
}

impl Running {
    /// Begins a session, under a number above all earlier ones. `by` are the operations that it knows.
    pub(crate) fn begin(cx: &Cx<'_>, name: &str, by: &[Operation]) -> Result<Running> {
        let refused = |why: &str| Err(Error::new(ErrorKind::Relation, why));
        let mut slave = ForeignSlave::change(cx.store, name, |slave| {
            if !by.contains(&slave.by) {
                return refused("the relation is by another operation");
            }
            if slave.paused == Some(true) {
                return refused("the relation is paused");
            }
            slave.session += 1;
            Ok(())
        })?;
        // A place of another history says nothing; the map knows what is there.
        if !cx
            .store
            .view::<_, Error>(|snapshot| Ok(slave.cursor.is_of(snapshot)?))?
        {
            slave.cursor = Place::default();
        }
        Ok(Running {
            name: name.to_owned(),
            from: slave.cursor.number(),
            slave,
            again: None,
        })
    }

    /// Looks for what is due once more.
    pub(crate) fn lost(&mut self) {
        self.again = None;
    }

    /// The next objects that are due to be tried again.
    pub(crate) fn due(&mut self, cx: &Cx<'_>, most: usize) -> Result<Vec<ObjectId>> {
        let again = match &mut self.again {
            Some(again) => again,
            None => {
                let retries = cx
                    .store
                    .view(|snapshot| ForeignSlave::retries(snapshot, &self.name))?;
                let due = retries
                    .into_iter()
                    .filter(|retry| retry.due <= cx.now.wall)
                    .map(|retry| retry.id);
                self.again.insert(due.collect())
            }
        };
        Ok(again.drain(..most.max(1).min(again.len())).collect())
    }

    /// The relation as it is stored now, if this session may still write.
    fn current(&self, snapshot: &dyn Snapshot) -> Result<ForeignSlave> {
        match ForeignSlave::find(snapshot, &self.name)? {
            Some(slave) if slave.session == self.slave.session && slave.paused != Some(true) => {
                Ok(slave)
            }
            _ => Err(Error::new(
                ErrorKind::Relation,
                "another session has begun, or the relation was paused or ended",
            )),
        }
    }

    /// Fails unless this session may still write.
    pub(crate) fn check(&self, snapshot: &dyn Snapshot) -> Result<()> {
        self.current(snapshot).map(drop)
    }

    /// Keeps what became of objects, and up to where the feed was told, in the transaction that keeps the rest.
    pub(crate) fn keep(
        &self,
        transaction: &mut dyn Transaction,
        now: DateTime,
        random: &mut dyn Random,
        told: &[(ObjectId, Told)],
        end: u64,
    ) -> Result<()> {
        let mut slave = self.current(transaction)?;
        for (id, told) in told {
            let key = about(retry_prefix(&self.name), id)?;
            let stored = if slave.retried > 0 {
                transaction.state_value(&key)?
            } else {
                None
            };
            let tried: Option<Retry> = stored
                .map(|bytes| read(&bytes, "object to retry"))
                .transpose()?;
            if told.ending == Ending::Failed {
                let next = Retry {
                    id: id.clone(),
                    why: told.message.as_deref().unwrap_or_default().into(),
                    attempts: tried
                        .as_ref()
                        .map_or(1, |tried| tried.attempts.saturating_add(1)),
                    due: later(now, tried.as_ref(), random),
                    pass: slave.session,
                    extra: Extra::NONE,
                };
                transaction.set_state(&key, Some(&bytes_of(&next)?))?;
                slave.retried += i64::from(tried.is_none());
            } else if tried.is_some() {
                transaction.set_state(&key, None)?;
                slave.retried = slave.retried.saturating_sub(1);
            }
        }
        slave.cursor = Place::at(transaction, end)?;
        (slave.contact, slave.error) = (now, None);
        slave.put(transaction)
    }

    /// Notes why a session failed, for whoever looks at the relation.
    pub(crate) fn failed(&self, store: &dyn Store, error: &Error) {
        // That this can't be stored would be no better reason.
        let _ = ForeignSlave::change(store, &self.name, |slave| {
            if slave.session == self.slave.session {
                slave.error = Some(error.to_string().as_str().into());
            }
            Ok(())
        });
    }
}

/// Whether an object is told of though it was not chosen: it is there, or was meant to be.
pub(crate) fn has_left(snapshot: &dyn Snapshot, name: &str, record: &Record) -> Result<bool> {
    Ok(mapping::find(snapshot, name, &record.id)?.is_some())
}
