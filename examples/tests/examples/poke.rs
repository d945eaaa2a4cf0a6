//! A replica hears of a change at once, over a connection that either side has opened, and nobody asks in between: requests are counted.

use keyferry_crypto::{Ring, SystemRandom};
use keyferry_examples::pki::Pki;
use keyferry_examples::runtime;
use keyferry_kmip::spec::{AttributeValue, CryptographicAlgorithm, CryptographicUsageMask};
use keyferry_kmip::*;
use keyferry_net::{ClientConfig, Connector, Driver, Retry, ServerConfig, ServerHandle, clock};
use keyferry_s2s::{
    Driven, Follow, FollowOptions, Peer, Place, Poke, PokeResponder, Policy, Upstream,
    UpstreamOptions, replica_position,
};
use keyferry_server::{Access, Options, Server};
use keyferry_store::{Incarnation, Memory, Store, StoreExt};
use keyferry_ttlv::{Extra, Version};
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn server(name: &str, policy: Policy) -> Server {
    let mut incarnation = [0; 16];
    SystemRandom::new().fill(&mut incarnation).unwrap();
    Server::new(Options {
        server: name.into(),
        store: Arc::new(Memory::new(Incarnation(incarnation))),
        crypto: Arc::new(Ring::new()),
        random: Box::new(SystemRandom::new()),
        access: Access::Named(["client".to_owned()].into()),
        policy,
    })
    .unwrap()
}

async fn listen(pki: &Pki, server: &Arc<Server>, address: &str) -> ServerHandle {
    let name = server.node().home.server.to_string();
    let config = ServerConfig::new(&pki.credentials(&name, &[]).unwrap()).unwrap();
    keyferry_net::Server::bind(address, config, server.clone())
        .await
        .unwrap()
        .serve()
}

fn connector(pki: &Pki, name: &str, to: &ServerHandle) -> Connector {
    let config = ClientConfig::new(&pki.credentials(name, &[]).unwrap(), "127.0.0.1").unwrap();
    Connector::new(to.local_addr().to_string(), config)
}

/// A client of the server makes a key; not over the network, so that no request of its is counted.
fn create(server: &Server, name: &str) {
    let attributes = Attributes::new()
        .with(AttributeValue::CryptographicAlgorithm(
            CryptographicAlgorithm::AES,
        ))
        .with(AttributeValue::CryptographicLength(128))
        .with(AttributeValue::CryptographicUsageMask(
            CryptographicUsageMask::ENCRYPT,
        ))
        .with(AttributeValue::Name(Name::text(name)));
    let request = CreateRequest {
        object_type: spec::ObjectType::SYMMETRIC_KEY,
        attributes: attributes.into(),
        protection_storage_masks: None,
        extra: Extra::NONE,
    };
    let item = RequestItem::new(&request, context(Version::V2_1)).unwrap();
    let message = RequestMessage::new(Version::V2_1, vec![item])
        .to_frame()
        .unwrap();
    let caller = Identity::new("client");
    let Answer::Reply(frame) = server.answer(&caller, clock(), &message) else {
        panic!("no answer")
    };
    assert!(ResponseMessage::from_frame(&frame).unwrap().batch[0].is_success());
}

fn count(server: &Server) -> u64 {
    server
        .store()
        .view::<_, keyferry_store::Error>(|snapshot| snapshot.count())
        .unwrap()
}

/// Ends a test that hangs. Not a measurement: a passing test never comes near it.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), future)
        .await
        .expect("hangs")
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Who pokes is woken by every commit.
type Wakes = Arc<Mutex<Vec<Wake>>>;

fn waking(server: Server, wakes: &Wakes) -> Server {
    let wakes = wakes.clone();
    server.on_commit(move || wakes.lock().unwrap().iter().for_each(Wake::wake))
}

/// An issuer that pokes whoever turns a connection round.
fn issuer(wakes: &Wakes) -> Arc<Server> {
    let policy = Policy::closed().with("shop", Peer::new("shop").may_follow().may_turn());
    let server = waking(server("centre", policy), wakes);
    let (node, store, wakes) = (server.node().clone(), server.store().clone(), wakes.clone());
    Arc::new(server.with_turning(move |peer, request| {
        let wake = Wake::new();
        let mut all = wakes.lock().unwrap();
        all.clear(); // there is one replica, and it turns one connection
        all.push(wake.clone());
        let replica = node.policy.peer(peer)?.server.clone();
        let poke = Poke::new(&node, replica, replica_position(request)).turning_back();
        Some(Box::new(
            Driven::new(poke, store.clone(), Box::new(SystemRandom::new())).woken_by(wake),
        ))
    }))
}

fn driven(server: &Server, session: Follow) -> Driven<Follow> {
    Driven::new(
        session,
        server.store().clone(),
        Box::new(SystemRandom::new()),
    )
}

#[test]
fn over_a_connection_that_the_replica_has_opened() {
    runtime().unwrap().block_on(within(async {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path()).unwrap();
        let wakes = Wakes::default();
        let centre = issuer(&wakes);
        create(&centre, "first");
        let mut listening = listen(&pki, &centre, "127.0.0.1:0").await;
        // The shop listens nowhere.
        let heard = Arc::new(Mutex::new(Vec::new()));
        let shop = server("shop", Policy::closed().with("centre", Peer::new("centre")));
        let hears = heard.clone();
        let pokes = PokeResponder::new(shop.node().clone(), move |_, head: &Place| {
            hears.lock().unwrap().push(head.number())
        });
        let shop = Arc::new(shop.with(Arc::new(pokes)));
        let store: &dyn Store = &**shop.store();
        Upstream::follow(
            store,
            "all",
            "centre",
            &UpstreamOptions::default(),
            clock().wall,
        )
        .unwrap();
        let session = Follow::new(
            shop.node().clone(),
            FollowOptions::new("all", Peer::new("centre")).turning(),
        );
        let mut conversation = driven(&shop, session);
        let mut retry = Retry::new(7);
        retry.first = Duration::from_millis(5);
        retry.longest = Duration::from_millis(20);
        retry.attempts = 10_000;
        let driver = Driver::new(connector(&pki, "shop", &listening))
            .with_retry(retry)
            .answering(shop.clone());
        let driving = tokio::spawn(async move { driver.drive(&mut conversation).await });
        let counters = listening.counters();
        until(|| count(&shop) == 1 && counters.turned() == 1).await;
        assert_eq!(
            counters.requests(),
            3,
            "one question to get to know each other, one for what is new, and the turn"
        );
        // Each change is a poke, the turning back, one question and the turn.
        for n in 1..=5 {
            create(&centre, &format!("change {n}"));
            until(|| count(&shop) == 1 + n && counters.turned() == 1 + n).await;
            assert_eq!(counters.requests(), 3 + 2 * n);
        }
        assert_eq!(heard.lock().unwrap().len(), 5);
        // Of many changes at once, pokes tell together.
        for n in 0..50 {
            create(&centre, &format!("many {n}"));
        }
        until(|| count(&shop) == 56 && counters.requests() == 1 + 2 * counters.turned()).await;
        // What happens while there is no connection comes with the next one.
        let address = listening.local_addr().to_string();
        listening.shutdown().await;
        create(&centre, "meanwhile");
        listening = listen(&pki, &centre, &address).await;
        let counters = listening.counters();
        until(|| count(&shop) == 57 && counters.turned() == 1).await;
        assert_eq!(counters.requests(), 2);
        create(&centre, "afterwards");
        until(|| count(&shop) == 58 && counters.turned() == 2).await;
        assert_eq!((counters.requests(), counters.accepted()), (4, 1));
        assert!(!driving.is_finished());
        driving.abort();
        listening.shutdown().await;
    }));
}

#[test]
fn over_a_connection_that_the_issuer_has_opened() {
    runtime().unwrap().block_on(within(async {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path()).unwrap();
        let wakes = Wakes::default();
        let centre = issuer(&wakes);
        create(&centre, "first");
        let centre_listens = listen(&pki, &centre, "127.0.0.1:0").await;
        // The shop asks once an hour, and when it is poked.
        let shop = server("shop", Policy::closed().with("centre", Peer::new("centre")));
        let store: &dyn Store = &**shop.store();
        Upstream::follow(
            store,
            "all",
            "centre",
            &UpstreamOptions::default(),
            clock().wall,
        )
        .unwrap();
        let session = Follow::new(
            shop.node().clone(),
            FollowOptions::new("all", Peer::new("centre")).every(3_600_000),
        );
        let (poked, wake) = (session.poked(), Wake::new());
        let wakes_it = wake.clone();
        let pokes = PokeResponder::new(shop.node().clone(), move |_, _: &Place| {
            poked.store(true, Ordering::SeqCst);
            wakes_it.wake();
        });
        let mut conversation = driven(&shop, session).woken_by(wake);
        let shop = Arc::new(shop.with(Arc::new(pokes)));
        let shop_listens = listen(&pki, &shop, "127.0.0.1:0").await;
        let driver = Driver::new(connector(&pki, "shop", &centre_listens));
        let following = tokio::spawn(async move { driver.drive(&mut conversation).await });
        let (asked, told) = (centre_listens.counters(), shop_listens.counters());
        until(|| count(&shop) == 1).await;
        let wake = Wake::new();
        wakes.lock().unwrap().push(wake.clone());
        let poke = Poke::new(centre.node(), "shop", Place::default());
        let mut poking =
            Driven::new(poke, centre.store().clone(), Box::new(SystemRandom::new())).woken_by(wake);
        let driver = Driver::new(connector(&pki, "centre", &shop_listens));
        let poking = tokio::spawn(async move { driver.drive(&mut poking).await });
        until(|| told.requests() == 1).await;
        for n in 1..=5 {
            create(&centre, &format!("change {n}"));
            until(|| count(&shop) == 1 + n && told.requests() > n).await;
            assert_eq!(
                (asked.requests(), told.requests()),
                (2 + n, 1 + n),
                "a poke and a question, and one to get to know each other"
            );
        }
        for task in [following, poking] {
            assert!(!task.is_finished());
            task.abort();
        }
    }));
}
