use crate::record::{object_of, read};
use crate::{
    Error, ErrorKind, Incarnation, IndexKey, ObjectId, Order, Part, Record, RecordNumber, Result,
    Snapshot, Span, Store, Transaction, index,
};
use keyferry_kmip::{Object, Secret, Text, extension as x};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::ops::ControlFlow;

/// Who this store's server is among others. Kept in the store, so that a copy knows whose copy it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[ttlv(tag = x::IDENTITY)]
pub struct Home {
    /// The server id.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    /// The instance, drawn when the store was made.
    #[ttlv(tag = x::INSTANCE)]
    pub instance: Vec<u8>,
    /// The key of material fingerprints, drawn when the store was made.
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
    /// Runs `f` over a consistent snapshot and returns what it makes.
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

    /// Who this store's server is; made by `new` when the store is.
    ///
    /// # Errors
    /// Those of the store, and [`ErrorKind::Misuse`] when the store belongs to a server of another name.
    fn home(&self, server: &str, new: impl FnMut() -> Home) -> Result<Home>;

    /// Says that this store is a copy of an older moment, such as a restored file or dump: it takes `incarnation`, drawn for this, so
    /// that peers notice, and a new reign begins. To be called before the store is served.
    ///
    /// # Errors
    /// Those of the store, and [`ErrorKind::Misuse`] when that is its incarnation already.
    fn restored(&self, incarnation: Incarnation) -> Result<()>;

    /// Begins a reign of this server, under an id drawn for it: to be called whenever the store is opened for changes. The changes that it
    /// makes from now on can be told from those that it made before, also from those that a copy of an older moment knows nothing of,
    /// whoever opened that without saying what it is (DESIGN: rule 10).
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

    fn restored(&self, incarnation: Incarnation) -> Result<()> {
        self.transact(|transaction| {
            if transaction.incarnation()? == incarnation {
                return Err(Error::new(
                    ErrorKind::Misuse,
                    "a restored store takes an incarnation that it did not have",
                ));
            }
            take_incarnation(transaction, incarnation)
        })
    }

    fn begin_reign(&self, id: [u8; 16]) -> Result<()> {
        self.transact(|transaction| transaction.set_state(REIGN, Some(&id)))
    }
}

/// The store is a copy of an older moment from now on: its incarnation is a new one, and so is the reign.
pub(crate) fn take_incarnation(
    transaction: &mut dyn Transaction,
    incarnation: Incarnation,
) -> Result<()> {
    transaction.set_state(REIGN, Some(&incarnation.0))?;
    transaction.restored(incarnation)
}

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
    /// A record by its number.
    ///
    /// # Errors
    /// Those of the store; so for all of these.
    fn record(&self, number: RecordNumber) -> Result<Option<Record>> {
        self.get(number, Part::Attributes)?
            .map(|row| Record::decode(&row.attributes))
            .transpose()
    }

    /// A record with its material.
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

    /// The newest record under an index key that `is` holds for.
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

    /// The record with this Unique Identifier.
    fn by_identifier(&self, identifier: &str) -> Result<Option<(RecordNumber, Record)>> {
        self.first(&index::identifier(identifier), &|record| {
            record.identifier == *identifier
        })
    }

    /// The record with this object id.
    fn by_object_id(&self, id: &ObjectId) -> Result<Option<(RecordNumber, Record)>> {
        // Most have here the identifier that they were born with.
        let is = |record: &Record| record.id == *id;
        match self.first(&index::identifier(&id.identifier), &is)? {
            Some(found) => Ok(Some(found)),
            None => self.first(&index::object_id(id)?, &is),
        }
    }

    /// The value of one key of the s2s state.
    fn state_value(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut found = None;
        self.state(&Span::exact(key), &mut |_, value| {
            found = Some(value.to_vec());
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Who this store's server is.
    fn home(&self) -> Result<Option<Home>> {
        self.state_value(HOME)?
            .map(|bytes| read(&bytes, "server identity"))
            .transpose()
    }

    /// The reign under which this server makes changes: the incarnation, as long as none was begun.
    fn reign(&self) -> Result<Incarnation> {
        let begun = self.state_value(REIGN)?.and_then(|id| id.try_into().ok());
        begun.map_or_else(|| self.incarnation(), |id| Ok(Incarnation(id)))
    }

    /// The incarnation.
    fn incarnation(&self) -> Result<Incarnation> {
        Ok(self.head()?.incarnation)
    }
}

impl<S: Snapshot + ?Sized> SnapshotExt for S {}
