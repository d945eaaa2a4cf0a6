//! A server that follows another one, for the examples about attribute synchronisation.

use crate::host::Host;
use crate::{Result, site};
use keyferry_crypto::SystemRandom;
use keyferry_kmip::Wake;
use keyferry_net::{Connector, Driver, Retry};
use keyferry_s2s::{
    Downstream, Driven, Error, Follow, FollowOptions, Poke, PokeResponder, Upstream,
    UpstreamOptions, replica_position,
};
use keyferry_server::Server;
use keyferry_store::{SnapshotExt, Store, StoreExt};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Lets a server poke the replicas that turn a connection round, whenever it has committed something, and hear the pokes of whom it follows.
pub fn poking(server: Server) -> Server {
    let wakes: Arc<Mutex<HashMap<String, Wake>>> = Arc::default();
    let all = wakes.clone();
    let (node, store) = (server.node().clone(), server.store().clone());
    let locked = |wakes: &Mutex<HashMap<String, Wake>>| -> Vec<Wake> {
        wakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    };
    // Who follows by a connection that turns it back, and then asks: there is nothing to do about a poke itself.
    let pokes = PokeResponder::new(node.clone(), |_, _| {});
    server
        .on_commit(move || locked(&all).iter().for_each(Wake::wake))
        .with_turning(move |peer, request| {
            let wake = Wake::new();
            wakes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(peer.name.clone(), wake.clone());
            let replica = node.policy.peer(peer)?.server.clone();
            let poke = Poke::new(&node, replica, replica_position(request))
                .turning_back()
                .every(HEARTBEAT);
            Some(Box::new(
                Driven::new(poke, store.clone(), Box::new(SystemRandom::new())).woken_by(wake),
            ))
        })
        .with(Arc::new(pokes))
}

/// Milliseconds between signs of life on a connection that was turned round.
const HEARTBEAT: u64 = 1000;

/// Begins a relation, and follows the server at the other end of `connector` until the task is aborted: whatever becomes of the line, it is tried
/// again.
///
/// # Errors
/// When the relation can't be stored.
pub fn follow(
    here: &Host,
    what: &UpstreamOptions,
    options: FollowOptions,
    connector: Connector,
) -> Result<JoinHandle<()>> {
    let now = keyferry_net::clock().wall;
    Upstream::follow(
        &*here.store,
        &options.relation,
        &options.from.server,
        what,
        now,
    )?;
    let (store, node) = (here.store.clone(), here.server.node().clone());
    let mut retry = Retry::new(now.0.unsigned_abs());
    retry.attempts = u32::MAX;
    retry.longest = std::time::Duration::from_secs(2);
    let server = here.server.clone();
    Ok(tokio::spawn(async move {
        let driver = Driver::new(connector)
            .with_retry(retry.clone())
            .answering(server);
        let driver = driver.silent_for(Duration::from_millis(5 * HEARTBEAT));
        loop {
            let session = Follow::new(node.clone(), options.clone());
            let mut driven = Driven::new(session, store.clone(), Box::new(SystemRandom::new()));
            let lost = driver.drive(&mut driven).await;
            // What ended it stands in the relation, too.
            tracing::info!(?lost, "the session ended");
            tokio::time::sleep(retry.first).await;
        }
    }))
}

/// Who follows a server, as a table.
///
/// # Errors
/// Those of the store.
pub fn table(store: &dyn Store) -> Result<String> {
    let now = keyferry_net::clock().wall;
    let lines = store.view::<_, Error>(|snapshot| {
        let mut lines = format!("head {:>7} |", snapshot.head()?.number);
        for slave in Downstream::all(snapshot)? {
            let (behind, late) = (slave.lag(snapshot)?, slave.lag_seconds(snapshot, now)?);
            let _ = write!(
                lines,
                " {}: at {:>7}, {:>6} behind, {:>3} s late, {} forks, {} to retry |",
                slave.server,
                slave.acknowledged,
                behind,
                late.unwrap_or(0),
                slave.forked.unwrap_or(0),
                slave.retried.unwrap_or(0)
            );
        }
        Ok(lines)
    })?;
    Ok(lines)
}

/// How many changes each of those that follow a server has not committed yet.
///
/// # Errors
/// Those of the store.
pub fn lag(store: &dyn Store) -> Result<Vec<u64>> {
    Ok(store.view::<_, Error>(|snapshot| {
        Downstream::all(snapshot)?
            .iter()
            .map(|slave| slave.lag(snapshot))
            .collect()
    })?)
}

/// Waits until everything that the server at the other end had was taken.
///
/// # Errors
/// When it takes longer than `seconds`.
pub async fn up_to_date(
    here: &Host,
    relation: &str,
    at_least: u64,
    seconds: u64,
) -> Result<Upstream> {
    let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        let master = here
            .store
            .view::<_, Error>(|snapshot| Upstream::find(snapshot, relation))?;
        if let Some(master) =
            master.filter(|master| master.is_up_to_date() && master.cursor.number() >= at_least)
        {
            return Ok(master);
        }
        site::check(
            tokio::time::Instant::now() < patience,
            "it is up to date in time",
        )?;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The number of the last change in a server's feed.
///
/// # Errors
/// Those of the store.
pub fn head(host: &Host) -> Result<u64> {
    Ok(host
        .store
        .view::<_, keyferry_store::Error>(|snapshot| Ok(snapshot.head()?.number))?)
}

/// How many of the objects that a server holds are the same, verbatim, at another one; fails for the first that is not.
///
/// # Errors
/// Those of the stores, and what differs.
pub fn compare(issuer: &dyn Store, replica: &dyn Store) -> Result<u64> {
    let mut after = 0;
    let mut same = 0;
    loop {
        let mut numbers = Vec::new();
        issuer.read(&mut |snapshot| {
            numbers.clear();
            snapshot.feed(after, &mut |row| {
                numbers.push((row.number, row.record));
                Ok(if numbers.len() < 1000 {
                    std::ops::ControlFlow::Continue(())
                } else {
                    std::ops::ControlFlow::Break(())
                })
            })
        })?;
        let Some((last, _)) = numbers.last() else {
            return Ok(same);
        };
        after = *last;
        for (_, number) in numbers {
            let (Some(record), object) = issuer.view::<_, keyferry_store::Error>(|snapshot| {
                let whole = snapshot.whole(number)?;
                Ok((
                    whole.as_ref().map(|(record, _)| record.clone()),
                    whole.and_then(|(_, object)| object),
                ))
            })?
            else {
                continue;
            };
            let copy = replica.view::<_, keyferry_store::Error>(|snapshot| {
                let Some((number, _)) = snapshot.by_object_id(&record.id)? else {
                    return Ok(None);
                };
                snapshot.whole(number)
            })?;
            let is_same = match &copy {
                Some((copy, material)) => {
                    copy.stamp == record.stamp
                        && copy.copy_digest()? == record.copy_digest()?
                        && *material == object
                        && !copy.is_withdrawn()
                }
                None => record.is_destroyed(),
            };
            site::check(
                is_same,
                format_args!("{} is the same at both servers", record.id),
            )?;
            same += u64::from(copy.is_some());
        }
    }
}
