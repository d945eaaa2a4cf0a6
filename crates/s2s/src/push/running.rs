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

/// A session of such a relation.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) name: String,
    /// The relation, as this session began it.
    pub(crate) slave: ForeignReplica,
    /// Up to where it was committed.
    pub(crate) from: u64,
    /// What is due to be tried again; none while that was not looked for.
    again: Option<VecDeque<ObjectId>>,
}

impl Running {
    /// Begins a session, under a number above all earlier ones. `by` are the operations that it knows.
    pub(crate) fn begin(cx: &SessionContext<'_>, name: &str, by: &[Operation]) -> Result<Running> {
        let refused = |why: &str| Err(Error::new(ErrorKind::Relation, why));
        let mut slave = ForeignReplica::change(cx.store, name, |slave| {
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
    pub(crate) fn due(&mut self, cx: &SessionContext<'_>, most: usize) -> Result<Vec<ObjectId>> {
        let again = match &mut self.again {
            Some(again) => again,
            None => {
                let retries = cx
                    .store
                    .view(|snapshot| ForeignReplica::retries(snapshot, &self.name))?;
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
    fn current(&self, snapshot: &dyn Snapshot) -> Result<ForeignReplica> {
        match ForeignReplica::find(snapshot, &self.name)? {
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
        told: &[(ObjectId, ObjectResult)],
        end: u64,
    ) -> Result<()> {
        let mut slave = self.current(transaction)?;
        for (id, told) in told {
            let key = about(published_retry_prefix(&self.name), id)?;
            let stored = if slave.retried > 0 {
                transaction.state_value(&key)?
            } else {
                None
            };
            let tried: Option<Retry> = stored
                .map(|bytes| read(&bytes, "object to retry"))
                .transpose()?;
            if told.outcome.is_failure() {
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
        let _ = ForeignReplica::change(store, &self.name, |slave| {
            if slave.session == self.slave.session {
                slave.error = Some(error.to_string().as_str().into());
            }
            Ok(())
        });
    }
}

/// Whether an object is told of though it was not chosen: it is there, or was meant to be.
pub(crate) fn has_left(snapshot: &dyn Snapshot, name: &str, record: &Record) -> Result<bool> {
    Ok(identifier_map::find(snapshot, name, &record.id)?.is_some())
}
