//! A thousand servers follow one: those that are slow or dead cost the others nothing.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_crypto::SystemRandom;
use keyferry_kmip::*;
use keyferry_s2s::{Step, *};
use keyferry_server::Access;
use keyferry_store::StoreExt;
use keyferry_ttlv::{Frame, Version};

const OBJECTS: usize = 6;

struct Crowd {
    a: Host,
    ids: Vec<String>,
    replicas: Vec<Host>,
}

/// What a pass costs one of those that are well: its requests, the writes that the master began for them, and what it took.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    requests: usize,
    writes: u64,
    asked: i64,
}

fn options() -> FollowOptions {
    FollowOptions {
        batch: 4,
        in_flight: 2,
        ..FollowOptions::new("r", Peer::new("a"))
    }
}

impl Crowd {
    fn new(size: usize) -> Crowd {
        let policy = (0..size).fold(Policy::closed(), |policy, n| {
            let name = format!("b{n}");
            policy.with(
                format!("{name}.example"),
                Peer::new(name.as_str()).may_follow(),
            )
        });
        let a = Host::named("a", Access::Named(["client".to_owned()].into()), policy);
        let client = a.client(Version::V2_1);
        let ids = (0..OBJECTS)
            .map(|n| client.create(named(&format!("key {n}"))))
            .collect();
        let replica = |n: usize| {
            let host = Host::named(
                &format!("b{n}"),
                Access::Named(["client".to_owned()].into()),
                Policy::closed(),
            );
            Upstream::follow(
                &*host.store,
                "r",
                "a",
                &UpstreamOptions::default(),
                host.now().wall,
            )
            .unwrap();
            host
        };
        Crowd {
            a,
            ids,
            replicas: (0..size).map(replica).collect(),
        }
    }

    fn cut(&self, n: usize, cut: Cut) -> Option<Cost> {
        let replica = &self.replicas[n];
        let mut session = Follow::new(replica.server.node().clone(), options());
        let (mut requests, before) = (0, self.a.store.writes());
        let outcome = drive(
            replica,
            &self.a,
            &mut session,
            &format!("b{n}.example"),
            cut,
            &mut |_, _| requests += 1,
        )?;
        let counts = outcome.unwrap().counts;
        assert!(counts.add_up() && counts.failed == 0);
        Some(Cost {
            requests,
            writes: self.a.store.writes() - before,
            asked: counts.asked,
        })
    }

    /// One pass to the head by each of these, which must cost each the same.
    fn passes(&self, these: std::ops::Range<usize>) -> Cost {
        let costs: Vec<Cost> = these.map(|n| self.cut(n, Cut::Never).unwrap()).collect();
        assert!(costs.iter().all(|cost| cost == &costs[0]), "{costs:?}");
        costs[0]
    }

    /// A replica that asks, and then does not take the answer.
    fn asks(&self, n: usize) -> (Follow, Frame) {
        let replica = &self.replicas[n];
        let mut session = Follow::new(replica.server.node().clone(), options());
        let (store, mut random) = (replica.store.clone(), SystemRandom::new());
        let mut cx = SessionContext {
            now: replica.now(),
            store: &*store,
            random: &mut random,
        };
        let mut ask = |session: &mut Follow| {
            let Step::Send(message) = session.poll(&mut cx, Ticket(0)).unwrap() else {
                panic!("it has nothing to ask")
            };
            let caller = identity(&format!("b{n}.example"));
            let answer = self
                .a
                .server
                .answer(&caller, self.a.now(), &message.to_frame().unwrap());
            let Answer::Reply(frame) = answer else {
                panic!("no reply")
            };
            frame
        };
        // First it gets to know the master.
        let known = ask(&mut session);
        let mut random = SystemRandom::new();
        let mut cx = SessionContext {
            now: replica.now(),
            store: &*store,
            random: &mut random,
        };
        session
            .answer(
                &mut cx,
                Ticket(0),
                Ok(ResponseMessage::from_frame(&known).unwrap()),
            )
            .unwrap();
        let frame = ask(&mut session);
        (session, frame)
    }

    /// What each kind of pass costs one that is well, when these others are not.
    fn costs(&self, well: usize, slow: usize) -> [Cost; 3] {
        let size = self.replicas.len();
        let (slow, dead) = (well..well + slow, well + slow..size);
        let waiting: Vec<_> = slow.clone().map(|n| self.asks(n)).collect();
        for n in dead.clone() {
            assert_eq!(self.cut(n, Cut::Dead(2)), None);
        }
        let first = self.passes(0..well);
        let client = self.a.client(Version::V2_1);
        for round in 0..3 {
            for id in &self.ids[..3] {
                client
                    .add(id, custom(&format!("x-{round}"), "changed"))
                    .unwrap();
            }
        }
        client.destroy(&self.ids[5]).unwrap();
        let next = self.passes(0..well);
        self.a.pass(2);
        let idle = self.passes(0..well);
        for n in 0..well {
            assert_same(&self.a, &self.replicas[n], &self.ids);
        }
        // The master knows who is behind.
        let behind = |n: usize| {
            self.a
                .store
                .view::<_, Error>(|s| Downstream::find(s, &format!("b{n}"), "r")?.unwrap().lag(s))
                .unwrap()
        };
        assert!((0..well).all(|n| behind(n) == 0));
        assert!((well..size).all(|n| behind(n) > 0));
        // Who comes late takes the answer that it asked for, and then the newest of each object once, however much has changed.
        for (n, (mut session, frame)) in slow.zip(waiting) {
            let replica = &self.replicas[n];
            let (store, mut random) = (replica.store.clone(), SystemRandom::new());
            let mut cx = SessionContext {
                now: replica.now(),
                store: &*store,
                random: &mut random,
            };
            session
                .answer(
                    &mut cx,
                    Ticket(0),
                    Ok(ResponseMessage::from_frame(&frame).unwrap()),
                )
                .unwrap();
            self.comes_late(n);
        }
        dead.for_each(|n| self.comes_late(n));
        [first, next, idle]
    }

    fn comes_late(&self, n: usize) {
        let cost = self.cut(n, Cut::Never).unwrap();
        assert!(
            cost.requests <= 4 && cost.asked <= OBJECTS as i64 + 4,
            "{cost:?}"
        );
        // The last one was destroyed before it was offered.
        assert_same(&self.a, &self.replicas[n], &self.ids[..5]);
        assert_eq!(self.replicas[n].count(), 5);
    }
}

#[test]
fn of_a_thousand_that_follow_the_slow_and_the_dead_cost_the_others_nothing() {
    let few = Crowd::new(3).costs(3, 0);
    assert!(
        few[0].requests >= 2
            && few[0].asked == OBJECTS as i64
            && few[1].asked == 4
            && few[2].asked == 0,
        "{few:?}"
    );
    assert_eq!(few[2].requests, 1);
    assert_eq!(Crowd::new(1000).costs(800, 100), few);
}
