//! The connection is cut at random bytes, again and again, whichever way objects go; half of the time whoever drives the session is gone
//! with it. In the end everything is there once, as it was. `KEYFERRY_CUTS` says how many cuts each way has to stand (6).

use keyferry_crypto::SystemRandom;
use keyferry_examples::host::Host;
use keyferry_examples::runtime;
use keyferry_examples::site::{self, OPERATOR, Site};
use keyferry_kmip::spec::{CryptographicAlgorithm, ObjectType, RevocationReasonCode, State};
use keyferry_kmip::*;
use keyferry_net::{Connector, clock, drive};
use keyferry_s2s::*;
use keyferry_store::StoreExt;
use keyferry_ttlv::{Extra, Version};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

const OBJECTS: usize = 300;
const BATCH: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq)]
enum TransferMethod {
    Import,
    Put,
    Export,
    Get,
    Feed,
    Register,
}

const WAYS: [TransferMethod; 6] = [
    TransferMethod::Import,
    TransferMethod::Put,
    TransferMethod::Export,
    TransferMethod::Get,
    TransferMethod::Feed,
    TransferMethod::Register,
];

fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).unwrap();
    u64::from_ne_bytes(bytes) % below.max(1)
}

/// Passes bytes on until there are none left, and then the connection is cut, in the middle of whatever it was.
async fn passing(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, left: Arc<AtomicI64>) {
    let mut buffer = vec![0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let before = left.fetch_sub(n as i64, Ordering::SeqCst);
        let whole = before.clamp(0, n as i64) as usize;
        if to
            .write_all(buffer.get(..whole).unwrap_or_default())
            .await
            .is_err()
            || whole < n
        {
            return;
        }
    }
}

/// A way to a server that is cut when so many bytes have gone, in either direction, by all connections.
async fn proxy(to: std::net::SocketAddr, left: Arc<AtomicI64>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(to).await else {
                continue;
            };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            let (there, back) = (
                passing(near_in, far_out, left.clone()),
                passing(far_in, near_out, left.clone()),
            );
            // The end of either is the end of both.
            tokio::spawn(async move {
                tokio::select! { () = there => {}, () = back => {} }
            });
        }
    });
    address
}

fn fill(host: &Host) {
    let cx = context(Version::V2_1);
    let mut items = Vec::new();
    for n in 0..OBJECTS {
        let mut bytes = [1; 16];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        let id = format!("key {n}");
        let request = ImportRequest {
            unique_identifier: id.as_str().into(),
            object_type: Some(ObjectType::SYMMETRIC_KEY),
            replace_existing: None,
            key_wrap_type: None,
            attributes: site::named(format!("name {n}")),
            object: Some(Object::symmetric_key(
                CryptographicAlgorithm::AES,
                128,
                Secret::new(&bytes),
            )),
            extra: Extra::NONE,
        };
        items.push(RequestItem::new(&request, cx).unwrap());
        let (code, since) = match n % 9 {
            1 => (RevocationReasonCode::SUPERSEDED, None),
            2 => (
                RevocationReasonCode::KEY_COMPROMISE,
                Some(DateTime(1_600_000_000)),
            ),
            _ => continue,
        };
        if since.is_none() {
            items.push(RequestItem::new(&ActivateRequest::of(id.as_str()), cx).unwrap());
        }
        items.push(RequestItem::new(&RevokeRequest::of(id.as_str(), code, since), cx).unwrap());
    }
    let caller = Identity::new(OPERATOR);
    let frame = RequestMessage::new(Version::V2_1, items)
        .to_frame()
        .unwrap();
    let Answer::Reply(answer) = host.server.answer(&caller, clock(), &frame) else {
        panic!("no answer")
    };
    assert!(
        ResponseMessage::from_frame(&answer)
            .unwrap()
            .batch
            .iter()
            .all(ResponseItem::is_success)
    );
}

type Held = BTreeMap<String, (Option<State>, Option<Object>)>;

/// By Name, since not every way keeps identifiers.
fn by_name(host: &Host) -> Held {
    let mut all = site::held(host).unwrap();
    // Of a probe this is left.
    all.retain(|(record, _)| record.names().next().is_some() || !record.is_destroyed());
    let count = all.len();
    let name = |attributes: &Attributes| attributes.names().next().unwrap().value.to_string();
    let held: Held = all
        .into_iter()
        .map(|(record, object)| {
            (
                name(&record.attributes),
                (record.state(clock().wall), object),
            )
        })
        .collect();
    assert_eq!(held.len(), count, "nothing is there twice");
    held
}

fn session(way: TransferMethod, here: &Host) -> Box<dyn Session> {
    let bulk = |strategy| BulkOptions {
        batch: BATCH,
        in_flight: 2,
        group: 1,
        ..BulkOptions::new("t", strategy)
    };
    let pull = |strategy| PullOptions {
        batch: BATCH,
        in_flight: 2,
        ..PullOptions::new("source", Peer::new("source"), strategy)
    };
    let node = here.server.node().clone();
    match way {
        TransferMethod::Import => Box::new(Bulk::new(bulk(Strategy::Import))),
        TransferMethod::Put => Box::new(Bulk::new(bulk(Strategy::Put))),
        TransferMethod::Export => Box::new(Pull::new(node, pull(PullStrategy::Export))),
        TransferMethod::Get => Box::new(Pull::new(node, pull(PullStrategy::Get))),
        TransferMethod::Feed => {
            let options = FollowOptions {
                batch: BATCH,
                in_flight: 2,
                ..FollowOptions::new("r", Peer::new("source"))
            };
            Box::new(Follow::new(node, options))
        }
        TransferMethod::Register => Box::new(Register::new(RegisterOptions {
            batch: BATCH,
            ..RegisterOptions::new("t")
        })),
    }
}

/// Over as many connections, and by as many sessions, as it takes.
async fn run(
    way: TransferMethod,
    here: &Host,
    connector: &Connector,
    left: &AtomicI64,
    mut cuts: usize,
) -> (Report, usize) {
    let mut survived = 0;
    let again = |cuts: usize| {
        left.store(
            if cuts > 0 {
                1_000 + random(40_000) as i64
            } else {
                i64::MAX / 2
            },
            Ordering::SeqCst,
        )
    };
    again(cuts);
    'sessions: loop {
        let mut driven = Driven::new(
            session(way, here),
            here.store.clone(),
            Box::new(SystemRandom::new()),
        );
        loop {
            match drive(&mut driven, connector).await {
                Ok(()) => return (driven.into_outcome().unwrap().unwrap(), survived),
                Err(error) => {
                    assert!(cuts > 0, "{way:?}: nobody has cut it: {error}");
                    (cuts, survived) = (cuts - 1, survived + 1);
                    again(cuts);
                    if random(2) == 0 {
                        continue 'sessions;
                    }
                }
            }
        }
    }
}

#[test]
fn cut_at_any_byte_nothing_is_lost_or_doubled() {
    let cuts = std::env::var("KEYFERRY_CUTS").map_or(6, |cuts| cuts.parse().unwrap());
    runtime().unwrap().block_on(async {
        for way in WAYS {
            let site = Site::new().unwrap();
            let policy = || {
                let target = Peer::new("target").may_pull().also_client().may_follow();
                Policy::closed()
                    .with("source", Peer::new("source").may_send())
                    .with("target", target)
            };
            let source = site.start("source", policy()).await.unwrap();
            // A server that knows nothing of ours, where it is the standard's operations alone that count.
            let target = site
                .start(
                    "target",
                    if way == TransferMethod::Register {
                        Policy::closed()
                    } else {
                        policy()
                    },
                )
                .await
                .unwrap();
            fill(&source);
            let pulls = matches!(
                way,
                TransferMethod::Export | TransferMethod::Get | TransferMethod::Feed
            );
            let (here, there) = if pulls {
                (&target, &source)
            } else {
                (&source, &target)
            };
            if way == TransferMethod::Feed {
                Upstream::follow(
                    &*here.store,
                    "r",
                    "source",
                    &UpstreamOptions::default(),
                    clock().wall,
                )
                .unwrap();
            }
            let caller = match way {
                TransferMethod::Feed => "target",
                TransferMethod::Export | TransferMethod::Get | TransferMethod::Register => OPERATOR,
                TransferMethod::Import | TransferMethod::Put => "source",
            };
            let left = Arc::new(AtomicI64::new(0));
            let address = proxy(there.handle.local_addr(), left.clone()).await;
            let connector = site.connector_to(caller, address).unwrap();
            let (report, survived) = run(way, here, &connector, &left, cuts).await;
            let counts = &report.counts;
            assert!(
                counts.finished && counts.add_up() && counts.failed == 0,
                "{way:?} {report}"
            );
            assert_eq!(by_name(&target), by_name(&source), "{way:?}");
            if way != TransferMethod::Feed {
                assert_eq!(
                    counts.created + counts.unchanged + counts.updated,
                    OBJECTS as i64,
                    "{way:?}: the whole: {report}"
                );
                let repeated = (counts.unchanged + counts.updated) as usize;
                assert!(
                    repeated <= survived * 3 * BATCH,
                    "{way:?}: {repeated} were sent again by {survived} cuts"
                );
            }
            let (again, _) = run(way, here, &connector, &left, 0).await;
            assert_eq!(again.counts.created, 0, "{way:?}: {again}");
            assert_eq!(by_name(&target), by_name(&source), "{way:?}");
            println!("{way:?}: {survived} cuts, {} unchanged", counts.unchanged);
            let known = here
                .store
                .view::<_, Error>(|snapshot| Ok(Upstream::all(snapshot)?.len()))
                .unwrap();
            assert_eq!(known, usize::from(way == TransferMethod::Feed));
            source.handle.shutdown().await;
            target.handle.shutdown().await;
        }
    });
}
