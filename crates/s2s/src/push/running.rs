//! A session that runs a relation to a foreign replica: it continues at the relation's place in the feed, and keeps what has to be tried again.

use crate::error::{Error, ErrorKind, Result};
use crate::relation::foreign_replica::ForeignReplica;
use crate::relation::identifier_map;
use crate::relation::keys::{about, published_retry_prefix};
use crate::relation::retry::{Retry, later};
use crate::report::ObjectResult;
use crate::session::SessionContext;
use crate::wire::place::Place;
use keyferry_kmip::spec::Operation;
use keyferry_kmip::{DateTime, Random};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{ObjectId, Record, Snapshot, SnapshotExt, Store, StoreExt, Transaction};
use keyferry_ttlv::Extra;
use std::collections::VecDeque;

/// A run of a relation to a foreign replica.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) name: String,
    /// The relation, as this session began it.
    pub(crate) relation: ForeignReplica,
    /// The feed number up to which everything is committed.
    pub(crate) committed: u64,
    /// The objects that are due to be tried again; `None` while they were not looked for.
    due: Option<VecDeque<ObjectId>>,
}

impl Running {
    /// Begins a run, under a session number above all earlier ones. It fails if the relation is paused, or is by none of these operations.
    pub(crate) fn begin(
        cx: &SessionContext<'_>,
        name: &str,
        operations: &[Operation],
    ) -> Result<Running> {
        let refused = |why: &str| Err(Error::new(ErrorKind::Relation, why));
        let mut relation = ForeignReplica::change(cx.store, name, |relation| {
            if !operations.contains(&relation.by) {
                return refused("the relation is by another operation");
            }
            if relation.paused == Some(true) {
                return refused("the relation is paused");
            }
            relation.session += 1;
            Ok(())
        })?;
        // A place of another history of the store says nothing; the identifier map knows what is at the peer.
        if !cx
            .store
            .view::<_, Error>(|snapshot| Ok(relation.cursor.is_of(snapshot)?))?
        {
            relation.cursor = Place::default();
        }
        Ok(Running {
            name: name.to_owned(),
            committed: relation.cursor.number(),
            relation,
            due: None,
        })
    }

    /// Has the objects that are due read again, after a connection was lost.
    pub(crate) fn reread_retries(&mut self) {
        self.due = None;
    }

    /// Returns the next objects that are due to be tried again, at most `most`.
    pub(crate) fn due_retries(
        &mut self,
        cx: &SessionContext<'_>,
        most: usize,
    ) -> Result<Vec<ObjectId>> {
        let due = match &mut self.due {
            Some(due) => due,
            None => {
                let retries = cx
                    .store
                    .view(|snapshot| ForeignReplica::retries(snapshot, &self.name))?;
                let due = retries
                    .into_iter()
                    .filter(|retry| retry.due <= cx.now.wall)
                    .map(|retry| retry.id);
                self.due.insert(due.collect())
            }
        };
        Ok(due.drain(..most.max(1).min(due.len())).collect())
    }

    /// The relation as it is stored now, if this session may still write.
    fn current(&self, snapshot: &dyn Snapshot) -> Result<ForeignReplica> {
        match ForeignReplica::find(snapshot, &self.name)? {
            Some(relation)
                if relation.session == self.relation.session && relation.paused != Some(true) =>
            {
                Ok(relation)
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

    /// Keeps which of these objects have to be tried again, and the place in the feed, in the transaction that keeps the rest.
    pub(crate) fn record_results(
        &self,
        transaction: &mut dyn Transaction,
        now: DateTime,
        random: &mut dyn Random,
        results: &[(ObjectId, ObjectResult)],
        end: u64,
    ) -> Result<()> {
        let mut relation = self.current(transaction)?;
        for (id, result) in results {
            let key = about(published_retry_prefix(&self.name), id)?;
            let stored = if relation.retried > 0 {
                transaction.state_value(&key)?
            } else {
                None
            };
            let tried: Option<Retry> = stored
                .map(|bytes| read(&bytes, "object to retry"))
                .transpose()?;
            if result.outcome.is_failure() {
                let next = Retry {
                    id: id.clone(),
                    why: result.message.as_deref().unwrap_or_default().into(),
                    attempts: tried
                        .as_ref()
                        .map_or(1, |tried| tried.attempts.saturating_add(1)),
                    due: later(now, tried.as_ref(), random),
                    pass: relation.session,
                    extra: Extra::NONE,
                };
                transaction.set_state(&key, Some(&bytes_of(&next)?))?;
                relation.retried += i64::from(tried.is_none());
            } else if tried.is_some() {
                transaction.set_state(&key, None)?;
                relation.retried = relation.retried.saturating_sub(1);
            }
        }
        relation.cursor = Place::at(transaction, end)?;
        (relation.contact, relation.error) = (now, None);
        relation.put(transaction)
    }

    /// Notes in the relation why a session failed.
    pub(crate) fn note_failure(&self, store: &dyn Store, error: &Error) {
        // If this can't be stored either, the caller's own error says more.
        let _ = ForeignReplica::change(store, &self.name, |relation| {
            if relation.session == self.relation.session {
                relation.error = Some(error.to_string().as_str().into());
            }
            Ok(())
        });
    }
}

/// Whether an object was brought to the peer of a relation, or an intent says that it may have been: it is told of although it was not chosen.
pub(crate) fn was_brought(snapshot: &dyn Snapshot, name: &str, record: &Record) -> Result<bool> {
    Ok(identifier_map::find(snapshot, name, &record.id)?.is_some())
}
