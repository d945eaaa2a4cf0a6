//! Pokes, connections that peers turn round, and who hears of commits.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_s2s::{Step, *};
use keyferry_server::{Access, Options, Server};
use keyferry_store::{Faulty, Incarnation, Memory, Span, Store, StoreExt};
use keyferry_ttlv::{Extra, Frame, Version};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

fn host(name: &str, policy: Policy, make: impl FnOnce(Server) -> Server) -> Host {
    let mut incarnation = [0; 16];
    SystemRandom::new().fill(&mut incarnation).unwrap();
    let store = Arc::new(Faulty::new(Memory::new(Incarnation(incarnation))));
    let server = Server::new(Options {
        server: name.into(),
        store: store.clone(),
        crypto: Arc::new(Ring::new()),
        random: Box::new(SystemRandom::new()),
        access: Access::Named(["client".to_owned()].into()),
        policy,
    });
    Host {
        server: Arc::new(make(server.unwrap())),
        store,
        clock: Arc::new(AtomicI64::new(START)),
        jumped: Arc::default(),
    }
}

type Heard = Arc<Mutex<Vec<(String, u64)>>>;

/// A server that hears pokes and knows `a` and `c` as peers.
fn replica(heard: &Heard) -> Host {
    let heard = heard.clone();
    let policy = Policy::closed()
        .with("a.example", Peer::new("a"))
        .with("c.example", Peer::new("c"));
    host("b", policy, move |server| {
        let pokes = PokeResponder::new(server.node().clone(), move |server, head| {
            heard
                .lock()
                .unwrap()
                .push((server.to_owned(), head.number()));
        });
        server.with(Arc::new(pokes))
    })
}

fn issuer(change: impl Fn(Peer) -> Peer, make: impl FnOnce(Server) -> Server) -> Host {
    host(
        "a",
        Policy::closed().with("b.example", change(Peer::new("b").may_follow())),
        make,
    )
}

fn follow(b: &Host, a: &Host) {
    Upstream::follow(
        &*b.store,
        "r",
        "a",
        &UpstreamOptions::default(),
        b.now().wall,
    )
    .unwrap();
    pass(b, a);
}

fn pass(b: &Host, a: &Host) {
    let mut session = Follow::new(
        b.server.node().clone(),
        FollowOptions::new("r", Peer::new("a")),
    );
    drive(b, a, &mut session, "b.example", Cut::Never, &mut |_, _| {})
        .unwrap()
        .unwrap();
}

fn poll(host: &Host, session: &mut dyn Session, ticket: u64) -> Step {
    session
        .poll(
            &mut SessionContext {
                now: host.now(),
                store: &*host.store,
                random: &mut SystemRandom::new(),
            },
            Ticket(ticket),
        )
        .unwrap()
}

fn answered(
    host: &Host,
    session: &mut dyn Session,
    ticket: u64,
    answer: ResponseMessage,
) -> Result<(), Error> {
    let mut random = SystemRandom::new();
    session.answer(
        &mut SessionContext {
            now: host.now(),
            store: &*host.store,
            random: &mut random,
        },
        Ticket(ticket),
        Ok(answer),
    )
}

fn ask(host: &Host, caller: &str, message: &RequestMessage) -> ResponseMessage {
    let answer = host
        .server
        .answer(&identity(caller), host.now(), &message.to_frame().unwrap());
    let Answer::Reply(frame) = answer else {
        panic!("{answer:?}")
    };
    ResponseMessage::from_frame(&frame).unwrap()
}

/// All that is kept beside the objects.
fn state(host: &Host) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    let read = host.store.read(&mut |snapshot| {
        all.clear();
        snapshot.state(&Span::prefix(b""), &mut |key, value| {
            all.push((key.to_vec(), value.to_vec()));
            Ok(ControlFlow::Continue(()))
        })
    });
    read.unwrap();
    all
}

fn sent(step: Step) -> RequestMessage {
    let Step::Send(message) = step else {
        panic!("{step:?}")
    };
    *message
}

#[test]
fn a_replica_hears_of_what_it_has_not_taken_and_says_nothing() {
    let heard = Heard::default();
    let (a, b) = (issuer(|peer| peer, |server| server), replica(&heard));
    a.client(Version::V2_1)
        .register(key(&[1; 16]), named("one"));
    follow(&b, &a);
    let before = (b.head(), state(&b));
    let mut poke = Poke::new(a.server.node(), "b", Place::default());
    // It has everything already.
    let message = sent(poll(&a, &mut poke, 1));
    assert_eq!(message.batch[0].operation, POKE);
    assert!(
        matches!(poll(&a, &mut poke, 2), Step::Wait(None)),
        "one at a time"
    );
    let answer = ask(&b, "a.example", &message);
    assert!(answer.batch[0].is_success());
    answered(&a, &mut poke, 1, answer).unwrap();
    assert!(heard.lock().unwrap().is_empty());
    assert!(
        matches!(poll(&a, &mut poke, 2), Step::Wait(None)),
        "nothing new, and no heartbeat"
    );
    // Several changes, and one poke.
    for n in 2..6 {
        a.client(Version::V2_1)
            .register(key(&[n; 16]), named(&n.to_string()));
    }
    let message = sent(poll(&a, &mut poke, 2));
    let answer = ask(&b, "a.example", &message);
    assert_eq!(
        answer.batch[0]
            .response_payload
            .as_ref()
            .map(|payload| payload.bytes().len()),
        Some(8),
        "an empty payload"
    );
    answered(&a, &mut poke, 2, answer).unwrap();
    assert_eq!(*heard.lock().unwrap(), [("a".to_owned(), a.head())]);
    assert!(matches!(poll(&a, &mut poke, 3), Step::Wait(None)));
    assert_eq!((b.head(), state(&b)), before, "a poke changes nothing");
    // Who may not is told the same, whatever the reason.
    let elsewhere = replica(&heard);
    let refusals = [
        ask(&b, "c.example", &message),
        ask(&elsewhere, "a.example", &message),
        ask(&elsewhere, "c.example", &message),
    ];
    for refused in refusals {
        let item = &refused.batch[0];
        assert_eq!(item.result_reason, Some(ResultReason::PERMISSION_DENIED));
        assert_eq!(item.result_message.as_deref(), Some("access denied"));
    }
    assert_eq!(
        ask(&b, "stranger", &message).batch[0].result_reason,
        Some(ResultReason::PERMISSION_DENIED)
    );
    assert_eq!(
        ask(&b, "client", &message).batch[0].result_reason,
        Some(ResultReason::PERMISSION_DENIED)
    );
    let mut early = message.clone();
    early.header.protocol_version = Version::V1_4.into();
    assert!(!ask(&b, "a.example", &early).batch[0].is_success());
    assert_eq!(heard.lock().unwrap().len(), 1);
}

#[test]
fn heartbeats_tell_the_same_head_and_a_lost_poke_is_repeated() {
    let heard = Heard::default();
    let (a, b) = (issuer(|peer| peer, |server| server), replica(&heard));
    a.client(Version::V2_1)
        .register(key(&[1; 16]), named("one"));
    follow(&b, &a);
    let mut random = SystemRandom::new();
    let mut at = |poke: &mut Poke, tick, ticket| {
        let now = Now {
            tick: Tick(tick),
            wall: a.now().wall,
        };
        poke.poll(
            &mut SessionContext {
                now,
                store: &*a.store,
                random: &mut random,
            },
            Ticket(ticket),
        )
        .unwrap()
    };
    let mut poke = Poke::new(a.server.node(), "b", Place::default()).every(1000);
    let message = sent(at(&mut poke, 0, 1));
    answered(&a, &mut poke, 1, ask(&b, "a.example", &message)).unwrap();
    assert!(matches!(
        at(&mut poke, 999, 2),
        Step::Wait(Some(Tick(1000)))
    ));
    let beat = sent(at(&mut poke, 1000, 2));
    assert_eq!(
        beat.batch[0].request_payload,
        message.batch[0].request_payload
    );
    let lost = poke.answer(
        &mut SessionContext {
            now: a.now(),
            store: &*a.store,
            random: &mut SystemRandom::new(),
        },
        Ticket(2),
        Err(Lost("planned".into())),
    );
    lost.unwrap();
    let again = sent(at(&mut poke, 1001, 3));
    answered(&a, &mut poke, 3, ask(&b, "a.example", &again)).unwrap();
    // It is done with who follows no more.
    Downstream::pause(&*a.store, "b", "r").unwrap();
    assert!(matches!(at(&mut poke, 1002, 4), Step::Done(_)));
    Downstream::resume(&*a.store, "b", "r").unwrap();
    let refused = ask(&b, "c.example", &sent(at(&mut poke, 2001, 4)));
    assert_eq!(
        answered(&a, &mut poke, 4, refused).unwrap_err().kind(),
        ErrorKind::Peer
    );
}

/// The conversation that a replica's turned connection is given.
fn poking(server: Server) -> Server {
    let (node, store) = (server.node().clone(), server.store().clone());
    server.with_turning(move |peer, request| {
        let replica = node.policy.peer(peer)?.server.clone();
        let poke = Poke::new(&node, replica, replica_position(request)).turning_back();
        Some(Box::new(Driven::new(
            poke,
            store.clone(),
            Box::new(SystemRandom::new()),
        )))
    })
}

#[test]
fn a_follower_turns_round_is_poked_and_asks() {
    let heard = Heard::default();
    let (a, b) = (issuer(Peer::may_turn, poking), replica(&heard));
    let client = a.client(Version::V2_1);
    let mut ids = vec![client.register(key(&[1; 16]), named("1"))];
    Upstream::follow(
        &*b.store,
        "r",
        "a",
        &UpstreamOptions::default(),
        b.now().wall,
    )
    .unwrap();
    let mut follow = Follow::new(
        b.server.node().clone(),
        FollowOptions::new("r", Peer::new("a")).turning(),
    );
    let (mut ticket, mut questions) = (0, 0);
    for round in 0..4 {
        // It asks until it has everything; then it wants to be asked.
        let turn = loop {
            ticket += 1;
            match poll(&b, &mut follow, ticket) {
                Step::Send(message) => {
                    questions += 1;
                    answered(&b, &mut follow, ticket, ask(&a, "b.example", &message)).unwrap();
                }
                Step::Turn(message) => break message,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            questions,
            round + 2,
            "one question a round, and one to get to know each other"
        );
        assert_same(&a, &b, &ids);
        let between = round == 2;
        if between {
            // A change that comes between the question and the turn is not missed.
            ids.push(client.register(key(&[10; 16]), named("between")));
        }
        let answer = a
            .server
            .answer(&identity("b.example"), a.now(), &turn.to_frame().unwrap());
        let Answer::Turn(frame, Asking(mut asking)) = answer else {
            panic!("{answer:?}")
        };
        answered(
            &b,
            &mut follow,
            ticket,
            ResponseMessage::from_frame(&frame).unwrap(),
        )
        .unwrap();
        if !between {
            assert!(
                matches!(
                    asking.poll(a.now(), Ticket(1)),
                    keyferry_kmip::Step::Wait(None)
                ),
                "nothing to tell"
            );
            ids.push(client.register(
                key(&[round as u8 + 2; 16]),
                named(&format!("{}", round + 2)),
            ));
        }
        let keyferry_kmip::Step::Send(poke) = asking.poll(a.now(), Ticket(1)) else {
            panic!("no poke")
        };
        let Answer::Reply(answer) = b.server.answer(&identity("a.example"), b.now(), &poke) else {
            panic!()
        };
        asking.answer(a.now(), Ticket(1), Ok(answer));
        let keyferry_kmip::Step::Turn(back) = asking.poll(a.now(), Ticket(2)) else {
            panic!("not turned back")
        };
        assert!(asks_to_turn(&RequestMessage::from_frame(&back).unwrap()));
        assert_eq!(heard.lock().unwrap().len(), round + 1);
    }
    // A loss while it is turned: on the next connection it asks first.
    assert_eq!(sent(poll(&b, &mut follow, 1000)).batch[0].operation, FOLLOW);
}

/// Who is refused goes on by the clock, and a flag from outside has it ask at once.
#[test]
fn a_follower_that_may_not_turn_asks_by_itself() {
    let heard = Heard::default();
    let (a, b) = (issuer(|peer| peer, poking), replica(&heard));
    Upstream::follow(
        &*b.store,
        "r",
        "a",
        &UpstreamOptions::default(),
        b.now().wall,
    )
    .unwrap();
    let options = FollowOptions::new("r", Peer::new("a"))
        .turning()
        .every(60_000);
    let mut follow = Follow::new(b.server.node().clone(), options);
    let poked = follow.poked();
    for _ in 0..2 {
        let message = sent(poll(&b, &mut follow, 1));
        answered(&b, &mut follow, 1, ask(&a, "b.example", &message)).unwrap();
    }
    let Step::Turn(turn) = poll(&b, &mut follow, 2) else {
        panic!()
    };
    let refused = ask(&a, "b.example", &turn);
    assert_eq!(
        refused.batch[0].result_reason,
        Some(ResultReason::PERMISSION_DENIED)
    );
    answered(&b, &mut follow, 2, refused).unwrap();
    assert!(matches!(
        poll(&b, &mut follow, 3),
        Step::Wait(Some(Tick(60_000)))
    ));
    assert!(matches!(
        poll(&b, &mut follow, 3),
        Step::Wait(Some(Tick(60_000)))
    ));
    poked.store(true, Ordering::SeqCst);
    let message = sent(poll(&b, &mut follow, 3));
    answered(&b, &mut follow, 3, ask(&a, "b.example", &message)).unwrap();
    assert!(
        matches!(poll(&b, &mut follow, 4), Step::Wait(Some(Tick(60_000)))),
        "once"
    );
}

#[test]
fn only_a_peer_that_may_turns_a_connection_and_alone() {
    let a = issuer(Peer::may_turn, poking);
    let role = |role| SetEndpointRoleRequest {
        endpoint_role: role,
        extra: Extra::NONE,
    };
    let item =
        |endpoint_role| RequestItem::new(&role(endpoint_role), context(Version::V2_1)).unwrap();
    let turn = turn_request(Version::V2_1).unwrap();
    for version in ALL {
        let turn = turn_request(version).unwrap();
        assert!(
            matches!(
                a.server.answer(&identity("b.example"), a.now(), &turn),
                Answer::Turn(..)
            ),
            "{version}"
        );
        let alone = RequestMessage::from_frame(&turn).unwrap();
        assert!(
            !ask(&a, "client", &alone).batch[0].is_success()
                && !ask(&a, "stranger", &alone).batch[0].is_success()
        );
    }
    let refused = |caller: &str, message: &RequestMessage| {
        assert_eq!(
            ask(&a, caller, message).batch[0].result_reason,
            Some(ResultReason::PERMISSION_DENIED),
            "{caller}"
        );
    };
    let alone = RequestMessage::from_frame(&turn).unwrap();
    refused("client", &alone);
    refused("stranger", &alone);
    refused(
        "b.example",
        &RequestMessage::new(
            Version::V2_1,
            vec![item(EndpointRole::CLIENT), item(EndpointRole::CLIENT)],
        ),
    );
    refused(
        "b.example",
        &RequestMessage::new(Version::V2_1, vec![item(EndpointRole::SERVER)]),
    );
    // What stands behind it in a group is not answered, and not done.
    let ping = RequestItem::new(&PingRequest::default(), context(Version::V2_1)).unwrap();
    let ping = RequestMessage::new(Version::V2_1, vec![ping])
        .to_frame()
        .unwrap();
    let group: Vec<Frame> = vec![ping.clone(), turn.clone(), ping.clone()];
    let answers = a.server.handle(&identity("b.example"), a.now(), &group);
    assert!(
        matches!(&answers[..], [Answer::Reply(_), Answer::Turn(..)]),
        "{answers:?}"
    );
    // An application that has nobody who asks refuses, too.
    let a = issuer(Peer::may_turn, |server| server.with_turning(|_, _| None));
    assert_eq!(
        ask(&a, "b.example", &alone).batch[0].result_reason,
        Some(ResultReason::PERMISSION_DENIED)
    );
}

#[test]
fn commits_that_move_the_head_are_heard_of() {
    let count = Arc::new(AtomicUsize::new(0));
    let heard = count.clone();
    let a = issuer(
        |peer| peer,
        |server| {
            server.on_commit(move || {
                heard.fetch_add(1, Ordering::SeqCst);
            })
        },
    );
    let client = a.client(Version::V2_1);
    let commits = || count.load(Ordering::SeqCst);
    let id = client.create(named("one").with(AttributeValue::ActivationDate(DateTime(START + 10))));
    assert_eq!(commits(), 1);
    client.state(&id);
    client.get("nothing").unwrap_err();
    client.destroy("nothing").unwrap_err();
    follow(&replica(&Heard::default()), &a);
    assert_eq!(commits(), 1, "what it keeps of a replica moves no head");
    a.pass(20);
    assert_eq!(a.server.store_due_states(a.now(), 10).unwrap(), 1);
    assert_eq!(commits(), 2);
    assert_eq!(a.server.store_due_states(a.now(), 10).unwrap(), 0);
    assert_eq!(commits(), 2);
    let unmoved = a
        .store
        .view::<_, keyferry_store::Error>(|snapshot| snapshot.head())
        .unwrap();
    assert!(unmoved.number >= 2);
}
