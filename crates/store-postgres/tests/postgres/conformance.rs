//! These tests run the conformance kit over PostgreSQL, with two servers on one database, and cut connections.

use crate::cluster::cluster;
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::Secret;
use keyferry_store::conformance::Subject;
use keyferry_store::{
    ErrorKind, Incarnation, MaterialChange, Put, RecordNumber, Sealed, Snapshot, Store,
};
use keyferry_store_postgres::{Config, PostgresStore};
use std::sync::Arc;

struct Database(Config);

impl Database {
    fn new() -> Option<Database> {
        Some(Database(cluster()?.database()))
    }

    fn store(&self) -> PostgresStore {
        PostgresStore::open(self.0.clone(), Incarnation([7; 16])).unwrap()
    }

    /// Runs SQL beside the store.
    fn sql(&self, sql: &str) -> u64 {
        self.0
            .connect(postgres::NoTls)
            .unwrap()
            .execute(sql, &[])
            .unwrap()
    }
}

impl Subject for Database {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.store())
    }

    fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.open()
    }

    fn beside(&self, _: &Arc<dyn Store>) -> Arc<dyn Store> {
        self.open()
    }
}

keyferry_store::conformance!(Database::new);

/// The same with material sealed; every server that opens it takes a new data key.
struct UnderSeal(Database);

impl UnderSeal {
    fn seal(store: Arc<dyn Store>) -> Arc<dyn Store> {
        let random = &mut SystemRandom::default();
        let sealed = Sealed::open(store, Arc::new(Ring), Secret::new(&[9; 32]), random).unwrap();
        sealed.new_data_key(random).unwrap();
        Arc::new(sealed)
    }
}

impl Subject for UnderSeal {
    fn open(&self) -> Arc<dyn Store> {
        UnderSeal::seal(self.0.open())
    }

    fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.open()
    }

    fn beside(&self, _: &Arc<dyn Store>) -> Arc<dyn Store> {
        self.open()
    }
}

mod under_seal {
    use super::*;
    keyferry_store::conformance!(|| Database::new().map(UnderSeal));
}

fn put(id: &[u8], number: Option<RecordNumber>) -> Put<'_> {
    Put {
        number,
        id,
        attributes: b"attributes",
        material: MaterialChange::Set(b"m"),
        remove: &[],
        insert: &[],
        entry: id,
    }
}

fn count(store: &PostgresStore) -> u64 {
    let mut count = 0;
    let mut look = |at: &dyn Snapshot| {
        count = at.count()?;
        Ok(())
    };
    store.read(&mut look).unwrap();
    count
}

const CUT: &str = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[test]
fn a_cut_connection_fails_one_write_and_no_more() {
    let Some(database) = Database::new() else {
        return;
    };
    let store = database.store();
    store
        .write(&mut |tx| tx.put(&[put(b"kept", None)]).map(|_| ()))
        .unwrap();
    // Idle connections that are gone cost nothing.
    database.sql(CUT);
    store
        .write(&mut |tx| tx.put(&[put(b"kept too", None)]).map(|_| ()))
        .unwrap();
    // One that goes within a transaction fails it, also when the closure does not mind.
    for mind in [true, false] {
        let cut = store.write(&mut |tx| {
            tx.put(&[put(b"lost", None)])?;
            database.sql(CUT);
            match tx.put(&[put(b"lost", None)]) {
                Err(error) if mind => Err(error),
                _ => Ok(()),
            }
        });
        assert_eq!(cut.map_err(|error| error.kind()), Err(ErrorKind::Io));
    }
    assert_eq!(count(&store), 2);
    store
        .write(&mut |tx| tx.put(&[put(b"kept again", None)]).map(|_| ()))
        .unwrap();
    assert_eq!(count(&store), 3);
}

#[test]
fn a_lost_turn_is_noticed() {
    let Some(database) = Database::new() else {
        return;
    };
    let (store, other) = (database.store(), database.store());
    let number = {
        let mut numbers = Vec::new();
        store
            .write(&mut |tx| {
                numbers = tx.put(&[put(b"one", None)])?;
                Ok(())
            })
            .unwrap();
        numbers[0]
    };
    // A write that begins, and another one that commits before the first one ends.
    let mut runs = 0;
    store
        .write(&mut |tx| {
            runs += 1;
            tx.put(&[put(b"one", Some(number))])?;
            if runs == 1 {
                other.write(&mut |tx| tx.put(&[put(b"two", None)]).map(|_| ()))?;
            }
            Ok(())
        })
        .unwrap();
    // Someone without the turn takes the place that the next commit wants: that write waits, meets a conflict and is run again.
    let mut intruder = database.0.connect(postgres::NoTls).unwrap();
    let mut at = intruder.transaction().unwrap();
    let take = "INSERT INTO keyferry_commits (first, last, id) SELECT max(last) + 1, max(last) + 3, '0123456789abcdef' FROM keyferry_commits";
    assert_eq!(at.execute(take, &[]).unwrap(), 1);
    let mut runs = 0;
    std::thread::scope(|scope| {
        let write = scope.spawn(|| {
            store.write(&mut |tx| {
                runs += 1;
                tx.put(&[put(b"three", None)]).map(|_| ())
            })
        });
        let waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while at.query(waiting, &[]).unwrap().is_empty() && !write.is_finished() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        at.commit().unwrap();
        write.join().unwrap().unwrap();
    });
    assert_eq!(runs, 2, "the write that lost its place was not run again");
    let gaps = "DELETE FROM keyferry_commits c WHERE first > 1 AND NOT EXISTS (SELECT 1 FROM keyferry_commits b WHERE b.last + 1 = c.first)";
    assert_eq!(database.sql(gaps), 0, "the commits are not one line");
}

#[test]
fn many_servers_make_the_tables_at_once() {
    let Some(database) = Database::new() else {
        return;
    };
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                database
                    .store()
                    .write(&mut |tx| tx.put(&[put(b"first", None)]).map(|_| ()))
                    .unwrap()
            });
        }
    });
    assert_eq!(count(&database.store()), 6);
}

#[test]
fn no_server_is_an_error() {
    let mut config = Config::new();
    config.host_path("/nonexistent").user("keyferry");
    let error = PostgresStore::open(config, Incarnation([7; 16]))
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

/// What rustls needs to trust these certificates, PEM.
fn trusting(certificate: &str) -> rustls::ClientConfig {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap())
        .unwrap();
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[test]
fn tls_is_used_and_a_certificate_that_is_not_trusted_is_not() {
    let Some(cluster) = cluster() else {
        return;
    };
    let config = cluster.database_by_address();
    let store = PostgresStore::open_tls(
        config.clone(),
        trusting(&cluster.certificate()),
        Incarnation([7; 16]),
    )
    .unwrap();
    store
        .write(&mut |tx| tx.put(&[put(b"first", None)]).map(|_| ()))
        .unwrap();
    assert_eq!(count(&store), 1);
    let encrypted = "SELECT 1 FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE s.ssl AND a.datname = $1";
    let mut beside = config.connect(postgres::NoTls).unwrap();
    let sessions = beside
        .query(encrypted, &[&config.get_dbname().unwrap()])
        .unwrap();
    assert!(!sessions.is_empty(), "no session of the store is encrypted");
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])
        .unwrap()
        .cert
        .pem();
    let error = PostgresStore::open_tls(config, trusting(&other), Incarnation([7; 16]))
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

#[test]
fn a_database_without_tls_is_refused() {
    // By its socket the server speaks no TLS.
    let Some(database) = Database::new() else {
        return;
    };
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])
        .unwrap()
        .cert
        .pem();
    let error = PostgresStore::open_tls(
        database.0.clone(),
        trusting(&certificate),
        Incarnation([7; 16]),
    )
    .err()
    .unwrap();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}
