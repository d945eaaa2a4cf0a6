use crate::failure::explain;
use keyferry_store::{Error, ErrorKind, Result};
use postgres::types::ToSql;
use postgres::{Client, Row, Statement};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

pub(crate) type Connect = dyn Fn() -> std::result::Result<Client, postgres::Error> + Send + Sync;
pub(crate) type Params<'p> = &'p [&'p (dyn ToSql + Sync)];

/// So many connections are kept when nobody uses them; a busy server has as many as it has transactions.
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

    /// A connection, without a transaction.
    pub(crate) fn lease(&self) -> Result<Lease<'_>> {
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

    /// A connection in a transaction.
    ///
    /// A connection that was idle may turn out to be gone only now, when the database was restarted, so a new one is tried then.
    pub(crate) fn begin(&self, begin: &'static str) -> Result<Lease<'_>> {
        let mut lease = self.lease()?;
        match lease.begin(begin) {
            Ok(()) => Ok(lease),
            Err(error) if error.kind() == ErrorKind::Io => {
                lease.connection = Some(self.connect()?);
                lease.begin(begin)?;
                Ok(lease)
            }
            Err(error) => Err(error),
        }
    }

    fn connect(&self) -> Result<Connection> {
        let client = (self.connect)().map_err(|e| explain(&e))?;
        Ok(Connection {
            client,
            statements: HashMap::new(),
        })
    }
}

/// A connection on loan. When it is dropped inside a transaction, that is rolled back.
pub(crate) struct Lease<'p> {
    pool: &'p Pool,
    /// `None` once it was lost.
    connection: Option<Connection>,
    open: bool,
}

impl Lease<'_> {
    fn begin(&mut self, begin: &'static str) -> Result<()> {
        self.open = true;
        self.batch(begin)
    }

    /// Commits. An error of the connection leaves the outcome unknown.
    pub(crate) fn commit(&mut self) -> Result<()> {
        self.batch("COMMIT")?;
        self.open = false;
        Ok(())
    }

    pub(crate) fn batch(&mut self, sql: &'static str) -> Result<()> {
        self.connection()?
            .client
            .batch_execute(sql)
            .map_err(|e| explain(&e))
    }

    pub(crate) fn query(&mut self, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>> {
        let connection = self.connection()?;
        let statement = connection.prepare(sql)?;
        connection
            .client
            .query(&statement, params)
            .map_err(|e| explain(&e))
    }

    pub(crate) fn execute(&mut self, sql: &'static str, params: Params<'_>) -> Result<u64> {
        let connection = self.connection()?;
        let statement = connection.prepare(sql)?;
        connection
            .client
            .execute(&statement, params)
            .map_err(|e| explain(&e))
    }

    fn connection(&mut self) -> Result<&mut Connection> {
        let lost = || Error::new(ErrorKind::Io, "PostgreSQL: the connection was lost");
        self.connection.as_mut().ok_or_else(lost)
    }
}

impl Connection {
    fn prepare(&mut self, sql: &'static str) -> Result<Statement> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).map_err(|e| explain(&e))?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        // Without an answer to the rollback the connection is closed, and then the database rolls back.
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
