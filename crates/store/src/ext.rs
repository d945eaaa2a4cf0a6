//! These extension traits give any store, snapshot and transaction typed, convenient calls.

use crate::contract::{IndexKey, Order, Part, RecordNumber, Snapshot, Span, Store, Transaction};
use crate::error::{Error, ErrorKind, Result};
use crate::index;
use crate::position::Incarnation;
use crate::record::{ObjectId, Record};
use crate::record::{object_of, read};
use keyferry_kmip::{Object, Secret, Text, extension as x};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::ops::ControlFlow;

/// The identity of the server that a store belongs to. It is kept in the store, so that a copy of the store knows whose copy it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[ttlv(tag = x::IDENTITY)]
pub struct Home {
    /// The server id.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    /// The instance: random, made with the store.
    #[ttlv(tag = x::INSTANCE)]
    pub instance: Vec<u8>,
    /// The key of material fingerprints: random, made with the store.
    #[ttlv(tag = x::FINGERPRINT_KEY)]
    pub fingerprint_key: Secret,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

const HOME: &[u8] = b"home";
const REIGN: &[u8] = b"reign";

/// Typed conveniences over any store.
pub trait StoreExt: Store {
    /// Runs `f` over a consistent snapshot and returns its result.
    ///
    /// # Errors
    /// Those of `f` and of the store.
    fn view<T, E: From<Error>>(&self, f: impl FnMut(&dyn Snapshot) -> Result<T, E>)
    -> Result<T, E>;

    /// Runs `f` in a transaction, which commits when `f` returns `Ok`. `f` may run several times.
    ///
    /// # Errors
    /// Those of `f`, after a rollback, and those of the store.
    fn transact<T, E: From<Error>>(
        &self,
        f: impl FnMut(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E>;

    /// Returns the identity of this store's server; a new store gets the one that `new` returns.
    ///
    /// # Errors
    /// Those of the store, and [`ErrorKind::Misuse`] when the store belongs to a server of another name.
    fn home(&self, server: &str, new: impl FnMut() -> Home) -> Result<Home>;

    /// Begins a reign of this server, whose id is random and made for this call. Call it whenever the store is opened for
    /// changes: the changes of this reign can then be told apart from all that the server made before, also from those that
    /// a restored copy of the store knows nothing of, even if nobody said that it is one (rule 10 of docs/design.md).
    ///
    /// # Errors
    /// Those of the store.
    fn begin_reign(&self, id: [u8; 16]) -> Result<()>;
}

impl<S: Store + ?Sized> StoreExt for S {
    fn view<T, E: From<Error>>(
        &self,
        mut f: impl FnMut(&dyn Snapshot) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut outcome = None;
        let read = self.read(&mut |snapshot| {
            outcome = Some(f(snapshot));
            Ok(())
        });
        finish(read, outcome)
    }

    fn transact<T, E: From<Error>>(
        &self,
        mut f: impl FnMut(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut outcome = None;
        let write = self.write(&mut |transaction| {
            let made = f(transaction);
            let failed = made.is_err();
            outcome = Some(made);
            if failed {
                Err(Error::aborted())
            } else {
                Ok(())
            }
        });
        match (write, outcome) {
            (Err(error), Some(Err(own))) if error.kind() == ErrorKind::Aborted => Err(own),
            (write, outcome) => finish(write, outcome),
        }
    }

    fn home(&self, server: &str, mut new: impl FnMut() -> Home) -> Result<Home> {
        if let Some(home) = self.view(|snapshot| snapshot.home())? {
            return check_home(home, server);
        }
        self.transact(|transaction| match transaction.home()? {
            Some(home) => check_home(home, server),
            None => {
                let home = new();
                transaction.set_state(HOME, Some(&crate::record::bytes_of(&home)?))?;
                Ok(home)
            }
        })
    }

    fn begin_reign(&self, id: [u8; 16]) -> Result<()> {
        self.transact(|transaction| transaction.set_state(REIGN, Some(&id)))
    }
}

/// Typed conveniences over any transaction.
pub trait TransactionExt: Transaction {
    /// Marks this store as a copy of an older moment, such as a restored file or dump: it gets `incarnation`, which is random
    /// and made for this call, so that peers notice, and a new reign begins. Call it before the store is served.
    ///
    /// A server whose objects others replicate must note in the same transaction which replicas may hold what it lost, so
    /// that it accepts no change before it has taken that back; for that reason no call does this in a transaction of its own.
    ///
    /// # Errors
    /// Those of the store, and [`ErrorKind::Misuse`] when the store has this incarnation already.
    fn mark_restored(&mut self, incarnation: Incarnation) -> Result<()> {
        if self.incarnation()? == incarnation {
            return Err(Error::new(
                ErrorKind::Misuse,
                "a restored store takes an incarnation that it did not have",
            ));
        }
        self.set_state(REIGN, Some(&incarnation.0))?;
        self.restored(incarnation)
    }
}

impl<T: Transaction + ?Sized> TransactionExt for T {}

fn check_home(home: Home, server: &str) -> Result<Home> {
    if home.server == *server {
        return Ok(home);
    }
    Err(Error::new(
        ErrorKind::Misuse,
        format_args!(
            "this store belongs to the server {:?}, not to {server:?}",
            home.server
        ),
    ))
}

fn finish<T, E: From<Error>>(store: Result<()>, outcome: Option<Result<T, E>>) -> Result<T, E> {
    store?;
    outcome.unwrap_or_else(|| {
        Err(Error::new(ErrorKind::Misuse, "the store did not run the closure").into())
    })
}

/// Typed conveniences over any snapshot.
pub trait SnapshotExt: Snapshot {
    /// Returns a record by its number.
    ///
    /// # Errors
    /// Those of the store, like all methods of this trait.
    fn record(&self, number: RecordNumber) -> Result<Option<Record>> {
        self.get(number, Part::Attributes)?
            .map(|row| Record::decode(&row.attributes))
            .transpose()
    }

    /// Returns a record with its key material.
    fn whole(&self, number: RecordNumber) -> Result<Option<(Record, Option<Object>)>> {
        let Some(row) = self.get(number, Part::Whole)? else {
            return Ok(None);
        };
        let object = row
            .material
            .as_ref()
            .map(|material| object_of(material))
            .transpose()?;
        Ok(Some((Record::decode(&row.attributes)?, object)))
    }

    /// Returns the newest record under an index key for which `is` returns true.
    fn first(
        &self,
        key: &IndexKey,
        is: &dyn Fn(&Record) -> bool,
    ) -> Result<Option<(RecordNumber, Record)>> {
        let mut found = None;
        self.scan(
            key.index,
            &Span::exact(&key.key),
            Order::Descending,
            None,
            &mut |_, number| {
                if let Some(record) = self.record(number)?.filter(|record| is(record)) {
                    found = Some((number, record));
                    return Ok(ControlFlow::Break(()));
                }
                Ok(ControlFlow::Continue(()))
            },
        )?;
        Ok(found)
    }

    /// Returns the record with this Unique Identifier.
    fn by_identifier(&self, identifier: &str) -> Result<Option<(RecordNumber, Record)>> {
        self.first(&index::identifier(identifier), &|record| {
            record.identifier == *identifier
        })
    }

    /// Returns the record with this object id.
    fn by_object_id(&self, id: &ObjectId) -> Result<Option<(RecordNumber, Record)>> {
        // Most objects have the identifier here that they were created with.
        let is = |record: &Record| record.id == *id;
        match self.first(&index::identifier(&id.identifier), &is)? {
            Some(found) => Ok(Some(found)),
            None => self.first(&index::object_id(id)?, &is),
        }
    }

    /// Returns the number of the record with this object id that can't be read; `None` when there is none, or it can be read.
    fn damaged(&self, id: &ObjectId) -> Result<Option<RecordNumber>> {
        let encoded = id.encoded()?;
        for key in [index::identifier(&id.identifier), index::object_id(id)?] {
            let found = self.first(&key, &|record| record.id == *id);
            let number = match found {
                Err(error) if error.kind() == ErrorKind::Corrupt => error.record(),
                Err(error) => return Err(error),
                Ok(_) => None,
            };
            let number = number.map(RecordNumber);
            if let Some(number) = number
                && (self.remains(number)?).is_some_and(|remains| remains.id == encoded)
            {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Returns the value of one key of the s2s state.
    fn state_value(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut found = None;
        self.state(&Span::exact(key), &mut |_, value| {
            found = Some(value.to_vec());
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Returns the identity of this store's server, once there is one.
    fn home(&self) -> Result<Option<Home>> {
        self.state_value(HOME)?
            .map(|bytes| read(&bytes, "server identity"))
            .transpose()
    }

    /// Returns the reign under which this server makes changes: the incarnation, until a reign was begun.
    fn reign(&self) -> Result<Incarnation> {
        let begun = self.state_value(REIGN)?.and_then(|id| id.try_into().ok());
        begun.map_or_else(|| self.incarnation(), |id| Ok(Incarnation(id)))
    }

    /// Returns the incarnation of the store.
    fn incarnation(&self) -> Result<Incarnation> {
        Ok(self.head()?.incarnation)
    }
}

impl<S: Snapshot + ?Sized> SnapshotExt for S {}
