//! This module keeps the connections to the database.

use crate::failure::Failure;
use keyferry_store::{Error, ErrorKind, Result};
use postgres::types::ToSql;
use postgres::{Client, Row, Statement};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

pub(crate) type Connect = dyn Fn() -> std::result::Result<Client, postgres::Error> + Send + Sync;
pub(crate) type Params<'p> = &'p [&'p (dyn ToSql + Sync)];

/// The most connections that are kept while nobody uses them. A busy server has one for each of its transactions.
const IDLE: usize = 8;

/// The connections of one server to its database.
pub(crate) struct Pool {
    connect: Box<Connect>,
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    client: Client,
    statements: HashMap<&'static str, Statement>,
}

impl Pool {
    pub(crate) fn new(connect: Box<Connect>) -> Pool {
        Pool {
            connect,
            idle: Mutex::default(),
        }
    }

    /// A connection without a transaction.
    pub(crate) fn lease(&self) -> Result<Lease<'_>, Failure> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let connection = match idle {
            Some(connection) if !connection.client.is_closed() => connection,
            _ => self.connect()?,
        };
        Ok(Lease {
            pool: self,
            connection: Some(connection),
            open: false,
        })
    }

    /// A connection with a transaction.
    ///
    /// An idle connection may turn out to be lost only now, after a restart of the database; then a new one is made.
    pub(crate) fn begin(&self, begin: &'static str) -> Result<Lease<'_>, Failure> {
        let mut lease = self.lease()?;
        match lease.begin(begin) {
            Ok(()) => Ok(lease),
            Err(failure) if failure.kind() == ErrorKind::Io => {
                lease.connection = Some(self.connect()?);
                lease.begin(begin)?;
                Ok(lease)
            }
            Err(failure) => Err(failure),
        }
    }

    fn connect(&self) -> Result<Connection, Failure> {
        let client = (self.connect)()?;
        Ok(Connection {
            client,
            statements: HashMap::new(),
        })
    }
}

/// A connection on loan. Dropping it rolls back its transaction, if one is open.
pub(crate) struct Lease<'p> {
    pool: &'p Pool,
    /// `None` once it was lost.
    connection: Option<Connection>,
    /// Whether a transaction is open.
    open: bool,
}

impl Lease<'_> {
    fn begin(&mut self, begin: &'static str) -> Result<(), Failure> {
        self.open = true;
        self.batch(begin)
    }

    /// Commits. An error of the connection leaves the outcome unknown.
    pub(crate) fn commit(&mut self) -> Result<(), Failure> {
        self.batch("COMMIT")?;
        self.open = false;
        Ok(())
    }

    pub(crate) fn batch(&mut self, sql: &'static str) -> Result<(), Failure> {
        Ok(self.connection()?.client.batch_execute(sql)?)
    }

    pub(crate) fn query(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Failure> {
        let connection = self.connection()?;
        let statement = connection.prepare(sql)?;
        Ok(connection.client.query(&statement, params)?)
    }

    pub(crate) fn execute(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<u64, Failure> {
        let connection = self.connection()?;
        let statement = connection.prepare(sql)?;
        Ok(connection.client.execute(&statement, params)?)
    }

    fn connection(&mut self) -> Result<&mut Connection, Failure> {
        let lost = || Error::new(ErrorKind::Io, "PostgreSQL: the connection was lost");
        Ok(self.connection.as_mut().ok_or_else(lost)?)
    }
}

impl Connection {
    fn prepare(&mut self, sql: &'static str) -> Result<Statement, Failure> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql)?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        // When the rollback gets no answer, the connection is closed, which makes the database roll back.
        if self.open && connection.client.batch_execute("ROLLBACK").is_err()
            || connection.client.is_closed()
        {
            return;
        }
        let mut idle = self
            .pool
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(connection);
        }
    }
}
