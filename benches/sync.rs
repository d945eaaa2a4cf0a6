//! How fast replicas follow: changes per second to one and to ten slaves, the time from the commit at the master to the commit at the replica,
//! bytes per change, and what a relation costs in which nothing happens. `cargo bench --bench sync`, with `-- --objects N --changes N --idle N,N`
//! if others than 10 000 objects, 40 000 changes, and idle relations with 1 000 and 100 000 objects are wanted. Sealed files, mutual TLS, all
//! servers in this process on its processors.
//!
//! `cargo bench --bench sync -- prove 1000000` loads so many objects and finds 0, 1, 100, 1 000 and 10 000 differences by comparison: the bytes
//! and round trips until they are known, and the time that takes at both ends. The first round trip is one that goes anyway, in which the
//! proof counts alone; all further ones count as a whole. Without TLS.
//!
//! `cargo bench --bench sync -- accounts 1000000 1000` loads so many objects into one replica: the bytes of the accounts at both ends, and what it costs to
//! begin the relation under another name. Then so many replicas with stores in memory follow 100 objects: what a question costs the issuer in which
//! nothing happens, and one after a change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use keyferry_examples::host::Host;
use keyferry_examples::site::{OPERATOR, Site};
use keyferry_examples::{follower, peak_memory, runtime};
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_net::{clock, drive};
use keyferry_s2s::*;
use keyferry_store::{
    Effects, Home, Incarnation, Material, Memory, SnapshotExt, Span, Store, StoreExt,
};
use keyferry_ttlv::{Extra, Version};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn call(host: &Host, items: Vec<RequestItem>) {
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

fn fill(host: &Host, objects: u64) {
    let cx = context(Version::V2_1);
    for first in (0..objects).step_by(1000) {
        let item = |n: u64| {
            let material: Vec<u8> = (0..4)
                .flat_map(|w| {
                    (n * 4 + w)
                        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                        .to_be_bytes()
                })
                .collect();
            let request = ImportRequest {
                unique_identifier: format!("{n}").as_str().into(),
                object_type: Some(ObjectType::SYMMETRIC_KEY),
                replace_existing: None,
                key_wrap_type: None,
                attributes: Attributes::new()
                    .with(AttributeValue::Name(Name::text(format!("object {n:07}"))))
                    .with(AttributeValue::ObjectGroup("bench".into()))
                    .with(AttributeValue::Comment("first".into())),
                object: Some(Object::symmetric_key(
                    CryptographicAlgorithm::AES,
                    256,
                    Secret::new(&material),
                )),
                extra: Extra::NONE,
            };
            RequestItem::new(&request, cx).unwrap()
        };
        call(host, (first..objects.min(first + 1000)).map(item).collect());
    }
}

/// Changes so many objects in one message.
fn change(host: &Host, objects: u64, first: u64, many: u64) {
    let item = |n: u64| {
        let request = ModifyAttributeRequest {
            unique_identifier: Some(
                format!("{}", n.wrapping_mul(7919) % objects)
                    .as_str()
                    .into(),
            ),
            attribute: [AttributeValue::Comment(
                format!("change {n}").as_str().into(),
            )]
            .into_iter()
            .collect(),
            current: Attributes::new(),
            extra: Extra::NONE,
        };
        RequestItem::new(&request, context(Version::V2_1)).unwrap()
    };
    call(host, (first..first + many).map(item).collect());
}

fn policy(replicas: usize) -> Policy {
    (0..replicas).fold(Policy::closed(), |policy, n| {
        policy.with(
            format!("replica {n}"),
            Peer::new(format!("replica {n}").as_str()).may_follow(),
        )
    })
}

fn options() -> FollowOptions {
    FollowOptions::new("r", Peer::new("master"))
}

fn follow(replica: &Host) {
    Upstream::follow(
        &*replica.store,
        "r",
        "master",
        &UpstreamOptions::default(),
        clock().wall,
    )
    .unwrap();
}

/// One pass to the head.
async fn pass(site: &Site, name: &str, replica: &Host, master: &Host) -> Report {
    let session = Follow::new(replica.server.node().clone(), options());
    let report = site.run(replica, name, master, session).await.unwrap();
    assert_eq!(report.counts.failed, 0, "{}", report.table());
    report
}

/// Changes that wait for one replica or several, taken by all at once.
async fn throughput(objects: u64, changes: u64, replicas: usize) {
    let site = Site::new().unwrap();
    let master = site.start("master", policy(replicas)).await.unwrap();
    fill(&master, objects);
    let mut slaves = Vec::new();
    for n in 0..replicas {
        let name = format!("replica {n}");
        let host = site.start(&name, Policy::closed()).await.unwrap();
        follow(&host);
        let started = Instant::now();
        pass(&site, &name, &host, &master).await;
        if n == 0 && replicas == 1 {
            println!(
                "{:<34} {:>12.0} objects/s",
                "first load of one slave",
                objects as f64 / started.elapsed().as_secs_f64()
            );
        }
        slaves.push((name, host));
    }
    let counters = master.handle.counters();
    let bytes = || counters.bytes_in() + counters.bytes_out();
    let (mut taken, mut seconds, sent) = (0, 0.0, bytes());
    // Written and then taken, so that the master's own work is not part of it; each round changes every object at the most once.
    for first in (0..changes).step_by(usize::try_from(objects.min(changes)).unwrap()) {
        let many = objects.min(changes - first);
        for at in (first..first + many).step_by(1000) {
            change(&master, objects, at, 1000.min(first + many - at));
        }
        let started = Instant::now();
        let passes = slaves
            .iter()
            .map(|(name, host)| pass(&site, name, host, &master));
        let mut all = Vec::new();
        for one in passes.map(Box::pin).collect::<Vec<_>>() {
            all.push(one);
        }
        let reports = join(all).await;
        seconds += started.elapsed().as_secs_f64();
        taken += reports
            .iter()
            .map(|report| report.counts.asked)
            .sum::<i64>();
    }
    let what = format!(
        "changes to {replicas} slave{}",
        if replicas == 1 { "" } else { "s" }
    );
    println!(
        "{what:<34} {:>12.0} changes/s in all, {:.0} bytes each",
        taken as f64 / seconds,
        (bytes() - sent) as f64 / taken as f64
    );
    for (name, host) in &slaves {
        let same = follower::compare(&*master.store, &*host.store).unwrap();
        assert_eq!(same, objects, "{name}");
    }
}

async fn join<F: Future + Unpin>(mut all: Vec<F>) -> Vec<F::Output> {
    let mut done: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (one, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(output) = std::pin::Pin::new(one).poll(cx)
            {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// From the commit at the master to the commit at the replica, at so many changes a second.
async fn latency(objects: u64, rate: u64, seconds: u64, every: u64) {
    let site = Site::new().unwrap();
    let master = site.start("master", policy(1)).await.unwrap();
    fill(&master, objects);
    let replica = site.start("replica 0", Policy::closed()).await.unwrap();
    follow(&replica);
    pass(&site, "replica 0", &replica, &master).await;
    // Committed at the master and not yet at the replica: feed number and when.
    let waiting: Arc<Mutex<VecDeque<(u64, Instant)>>> = Arc::default();
    let times: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let (queue, seen) = (waiting.clone(), times.clone());
    let session = Follow::new(replica.server.node().clone(), options().every(every)).on_progress(
        move |progress| {
            let now = Instant::now();
            let mut queue = queue.lock().unwrap();
            while queue.front().is_some_and(|(number, _)| {
                i64::try_from(*number).unwrap() <= progress.counts.cursor
            }) {
                let (_, committed) = queue.pop_front().unwrap();
                seen.lock()
                    .unwrap()
                    .push(now.saturating_duration_since(committed));
            }
        },
    );
    let mut driven = Driven::new(
        session,
        replica.store.clone(),
        Box::new(keyferry_crypto::SystemRandom::new()),
    );
    let connector = site.connector("replica 0", &master).unwrap();
    let following = tokio::spawn(async move { drive(&mut driven, &connector).await });
    let master = Arc::new(master);
    let writer = master.clone();
    let queue = waiting.clone();
    // A disk that is slow to sync makes it fewer.
    let written = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        for n in 0..rate * seconds {
            let due = started + Duration::from_nanos(1_000_000_000 / rate * n);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            change(&writer, objects, n, 1);
            let head = follower::head(&writer).unwrap();
            queue.lock().unwrap().push_back((head, Instant::now()));
        }
        (rate * seconds) as f64 / started.elapsed().as_secs_f64()
    })
    .await
    .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    following.abort();
    let mut times = std::mem::take(&mut *times.lock().unwrap());
    times.sort();
    assert!(waiting.lock().unwrap().is_empty() && !times.is_empty());
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{:<34} {:>9.1} ms p50, {:.1} ms p99 at {written:.0} changes/s of {rate}",
        format!("commit to commit, asking every {every} ms"),
        at(0.5),
        at(0.99)
    );
}

/// What it costs to ask when nothing has happened.
async fn idle(objects: u64) -> f64 {
    let site = Site::new().unwrap();
    let master = site.start("master", policy(1)).await.unwrap();
    fill(&master, objects);
    let replica = site.start("replica 0", Policy::closed()).await.unwrap();
    follow(&replica);
    pass(&site, "replica 0", &replica, &master).await;
    const TIMES: u32 = 300;
    let started = Instant::now();
    for _ in 0..TIMES {
        let session = Follow::new(replica.server.node().clone(), options());
        site.run(&replica, "replica 0", &master, session)
            .await
            .unwrap();
    }
    let each = started.elapsed().as_secs_f64() / f64::from(TIMES);
    println!(
        "{:<34} {:>9.2} ms, connecting and a new session included",
        format!("nothing new, {objects} objects"),
        each * 1e3
    );
    each
}

/// What a pass has cost until the differences were known.
#[derive(Default)]
struct Cost {
    bytes: usize,
    rounds: usize,
    issuer: Duration,
    replica: Duration,
}

/// A replica, as a session sees it.
struct Follower<'a> {
    node: &'a Arc<Node>,
    store: &'a dyn Store,
    name: String,
    relation: &'a str,
}

impl<'a> Follower<'a> {
    fn of(replica: &'a Host, relation: &'a str) -> Follower<'a> {
        Follower {
            node: replica.server.node(),
            store: &*replica.store,
            name: "replica 0".into(),
            relation,
        }
    }

    fn upstream(&self) -> Upstream {
        let found = self
            .store
            .view::<_, keyferry_s2s::Error>(|snapshot| Upstream::find(snapshot, self.relation));
        found.unwrap().unwrap()
    }
}

/// One pass to the head, without a connection in between. Costs are counted until the replica knows of so many differences that it has found.
fn pass_by_hand(replica: &Follower<'_>, master: &Host, until: i64) -> Cost {
    let options = FollowOptions {
        relation: replica.relation.into(),
        ..options()
    };
    let mut session = Follow::new(replica.node.clone(), options);
    let mut random = keyferry_crypto::SystemRandom::new();
    let (mut cost, mut ticket) = (Cost::default(), 0);
    loop {
        let mut cx = SessionContext {
            now: clock(),
            store: replica.store,
            random: &mut random,
        };
        let is_known = replica.upstream().repaired.unwrap_or(0) >= until && cost.rounds > 0;
        let started = Instant::now();
        let asked = match session.poll(&mut cx, Ticket(ticket)).unwrap() {
            keyferry_s2s::Step::Send(asked) => asked.to_frame().unwrap(),
            keyferry_s2s::Step::Done(_) => return cost,
            other => panic!("{other:?}"),
        };
        let polled = started.elapsed();
        let started = Instant::now();
        let name = Identity::new(replica.name.as_str());
        let Answer::Reply(reply) = master.server.answer(&name, clock(), &asked) else {
            panic!("no answer")
        };
        let answered = started.elapsed();
        let started = Instant::now();
        let answer = ResponseMessage::from_frame(&reply).unwrap();
        session.answer(&mut cx, Ticket(ticket), Ok(answer)).unwrap();
        ticket += 1;
        if !is_known {
            // The first proof comes with an answer that comes anyway.
            cost.bytes += match cost.rounds {
                0 => proof_len(&reply),
                _ => asked.len() + reply.len(),
            };
            cost.rounds += 1;
            cost.issuer += answered;
            cost.replica += polled + started.elapsed();
        }
    }
}

/// The bytes of the proof in an answer; none in one that says something else.
fn proof_len(reply: &[u8]) -> usize {
    let tag = extension::SET_PROOF.number().to_be_bytes();
    let found = reply
        .windows(8)
        .find(|at| at[..3] == tag[1..] && at[3] == 1);
    found.map_or(0, |at| {
        8 + u32::from_be_bytes(at[4..].try_into().unwrap()) as usize
    })
}

/// Changes so many copies at the replica by nobody's word.
fn rot(replica: &Host, objects: u64, many: u64) {
    for first in (0..many).step_by(1000) {
        replica
            .store
            .transact::<_, keyferry_store::Error>(|transaction| {
                let mut effects = Effects::none();
                for n in first..many.min(first + 1000) {
                    let identifier = format!("{}", n.wrapping_mul(7919) % objects);
                    let (number, before) = transaction.by_identifier(&identifier)?.unwrap();
                    let mut after = before.clone();
                    after.attributes.set(AttributeValue::Comment(
                        format!("rotten {many}").as_str().into(),
                    ));
                    let held = Some((number, before));
                    effects.extend(Effects::change(held, after, Material::Keep));
                }
                effects.apply(transaction)
            })
            .unwrap();
    }
}

/// A master with so many objects, and a replica that has taken and compared them all.
async fn loaded(objects: u64) -> (Site, Host, Host) {
    let site = Site::new().unwrap();
    let master = site.start("master", policy(1)).await.unwrap();
    fill(&master, objects);
    let replica = site.start("replica 0", Policy::closed()).await.unwrap();
    follow(&replica);
    let follower = Follower::of(&replica, "r");
    // Until both ends have read all that they compare.
    while follower.upstream().proved.is_none() {
        pass_by_hand(&follower, &master, 0);
    }
    (site, master, replica)
}

/// What it costs to prove that a replica holds what it was told, and to find what differs.
async fn prove(objects: u64) {
    let (_site, master, replica) = loaded(objects).await;
    let follower = Follower::of(&replica, "r");
    let mut found = 0;
    for differences in [0, 1, 100, 1000, 10_000] {
        let differences = objects.min(differences);
        rot(&replica, objects, differences);
        // The table reads what was written here before it is compared.
        let mut cost = Cost::default();
        found += i64::try_from(differences).unwrap();
        while cost.rounds == 0 || follower.upstream().repaired.unwrap_or(0) < found {
            cost = pass_by_hand(&follower, &master, found);
        }
        println!(
            "differences {differences}   {} B   {} rounds   {:.1} ms at the issuer   {:.1} ms at the replica",
            cost.bytes,
            cost.rounds,
            cost.issuer.as_secs_f64() * 1e3,
            cost.replica.as_secs_f64() * 1e3
        );
    }
    assert_eq!(follower.upstream().repaired.unwrap_or(0), found);
    let same = follower::compare(&*master.store, &*replica.store).unwrap();
    assert_eq!(same, objects);
}

/// The bytes of what a store keeps under a prefix of the state's keys.
fn kept(store: &dyn Store, prefix: &[u8]) -> usize {
    let mut bytes = 0;
    store
        .read(&mut |snapshot| {
            bytes = 0;
            snapshot.state(&Span::prefix(prefix), &mut |key, value| {
                bytes += key.len() + value.len();
                Ok(ControlFlow::Continue(()))
            })
        })
        .unwrap();
    bytes
}

/// What accounts take, and what a relation costs that is begun under another name.
async fn accounts(objects: u64) {
    let (_site, master, replica) = loaded(objects).await;
    println!(
        "accounts of {objects} objects   {} B at the issuer   {} B at the replica",
        kept(&*master.store, b"offered/"),
        kept(&*replica.store, b"kept/"),
    );
    let head = || {
        replica
            .store
            .view(|snapshot| snapshot.head())
            .unwrap()
            .number
    };
    let before = head();
    Upstream::end(&*replica.store, "r").unwrap();
    let all = UpstreamOptions::default();
    Upstream::follow(&*replica.store, "s", "master", &all, clock().wall).unwrap();
    let (follower, started) = (Follower::of(&replica, "s"), Instant::now());
    while follower.upstream().proved.is_none() {
        pass_by_hand(&follower, &master, 0);
    }
    println!(
        "begun under another name   {:.1} s   {} records written",
        started.elapsed().as_secs_f64(),
        head() - before
    );
}

/// What many replicas cost their issuer.
async fn many(replicas: usize) {
    let site = Site::new().unwrap();
    let master = site.start("master", policy(replicas)).await.unwrap();
    fill(&master, 100);
    let mut all = Vec::new();
    for n in 0..replicas {
        let (name, store) = (format!("replica {n}"), Memory::new(Incarnation([7; 16])));
        let home = || Home {
            server: name.as_str().into(),
            instance: n.to_be_bytes().to_vec(),
            fingerprint_key: Secret::new(&[7; 32]),
            extra: Extra::NONE,
        };
        let home = store.home(&name, home).unwrap();
        let node = Node::new(
            home,
            Policy::closed(),
            Arc::new(keyferry_crypto::Ring::new()),
        );
        let options = UpstreamOptions::default();
        Upstream::follow(&store, "r", "master", &options, clock().wall).unwrap();
        all.push((name, store, Arc::new(node)));
    }
    let pass = || {
        let mut cost = Cost::default();
        for (name, store, node) in &all {
            let follower = Follower {
                node,
                store,
                name: name.clone(),
                relation: "r",
            };
            let one = pass_by_hand(&follower, &master, i64::MAX);
            cost.rounds += one.rounds;
            cost.issuer += one.issuer;
        }
        cost
    };
    let told = |what: &str, cost: Cost| {
        let each = cost.issuer.as_secs_f64() * 1e3 / cost.rounds as f64;
        println!("{replicas} replicas, {what:<20} {each:.3} ms at the issuer for each question");
    };
    told("first load", pass());
    told("nothing new", pass());
    change(&master, 100, 0, 1);
    told("a change", pass());
    println!(
        "accounts of {replicas} replicas   {} B at the issuer",
        kept(&*master.store, b"offered/")
    );
}

fn main() {
    let (mut objects, mut changes, mut idles) = (10_000u64, 40_000u64, vec![1_000u64, 100_000]);
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "prove") {
        let objects = arguments.get(at + 1).and_then(|n| n.parse().ok());
        let objects = objects.expect("a number of objects behind prove");
        return runtime().unwrap().block_on(prove(objects));
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "accounts") {
        let number = |at: usize| arguments.get(at).and_then(|n| n.parse::<u64>().ok());
        let [objects, replicas] = [at + 1, at + 2].map(|at| number(at).expect("two numbers"));
        return runtime().unwrap().block_on(async {
            accounts(objects).await;
            many(usize::try_from(replicas).unwrap()).await;
        });
    }
    for pair in arguments.windows(2) {
        let [name, value] = pair else { continue };
        match name.as_str() {
            "--objects" => objects = value.parse().expect("a number of objects"),
            "--changes" => changes = value.parse().expect("a number of changes"),
            "--idle" => {
                idles = value
                    .split(',')
                    .map(|n| n.parse().expect("a number of objects"))
                    .collect()
            }
            _ => {}
        }
    }
    runtime().unwrap().block_on(async {
        throughput(objects, changes, 1).await;
        throughput(objects, changes / 4, 10).await;
        latency(objects, 500, 8, 5).await;
        let mut each = Vec::new();
        for objects in &idles {
            each.push(idle(*objects).await);
        }
        if let [few, .., many] = each.as_slice() {
            println!(
                "{:<34} {:>9.2} times the cost of few",
                "idle with many objects",
                many / few
            );
        }
    });
    if let Some(peak) = peak_memory(std::process::id()) {
        println!("peak memory of all servers together: {peak:.0} MiB");
    }
}
