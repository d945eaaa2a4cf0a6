//! Connections that are turned round, and conversations that are woken.

use crate::support::{Rig, Toy, answer_to, frame, number, within};
use keyferry_kmip::{Conversation, Lost, Now, Step, Tick, Ticket, Wake, is_turned, turn_request};
use keyferry_net::{Driver, ErrorKind, Retry, clock, drive};
use keyferry_ttlv::{Frame, Version};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What was said, in order.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

/// Does what its list says, waits for what is under way then, and notes what it is answered.
#[derive(Default)]
pub(crate) struct Talk {
    steps: VecDeque<Step>,
    under_way: usize,
    wake: Option<Wake>,
    log: Log,
}

impl Talk {
    pub(crate) fn new(log: &Log, steps: impl IntoIterator<Item = Step>) -> Self {
        Talk {
            steps: steps.into_iter().collect(),
            log: log.clone(),
            ..Talk::default()
        }
    }

    fn woken_by(mut self, wake: &Wake) -> Self {
        self.wake = Some(wake.clone());
        self
    }
}

impl Conversation for Talk {
    fn poll(&mut self, _: Now, _: Ticket) -> Step {
        let end = if self.under_way == 0 {
            Step::Done
        } else {
            Step::Wait(None)
        };
        let step = self.steps.pop_front().unwrap_or(end);
        self.under_way += usize::from(matches!(step, Step::Send(_) | Step::Turn(_)));
        step
    }

    fn answer(&mut self, _: Now, _: Ticket, response: Result<Frame, Lost>) {
        self.under_way -= 1;
        let said = match response {
            Ok(frame) if is_turned(&frame) => "turned".to_owned(),
            Ok(frame) => number(&frame).to_string(),
            Err(Lost(reason)) => format!("lost: {reason}"),
        };
        self.log.lock().unwrap().push(said);
    }

    fn wake(&self) -> Option<Wake> {
        self.wake.clone()
    }
}

pub(crate) fn said(log: &Log) -> Vec<String> {
    log.lock().unwrap().clone()
}

pub(crate) fn sends(numbers: impl IntoIterator<Item = u32>) -> impl Iterator<Item = Step> {
    numbers.into_iter().map(|n| Step::Send(frame(n, 0)))
}

pub(crate) fn turn() -> Step {
    Step::Turn(turn_request(Version::V2_1).unwrap())
}

/// Who asks when a client turns its connection round next.
pub(crate) fn asks(rig: &Rig, log: &Log, steps: impl IntoIterator<Item = Step>) {
    rig.toy
        .askings
        .lock()
        .unwrap()
        .push_back(Box::new(Talk::new(log, steps)));
}

/// Waits until something holds.
pub(crate) async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn driver(rig: &Rig, toy: &Arc<Toy>) -> Driver {
    Driver::new(rig.connector()).answering(toy.clone())
}

async fn there_and_back() {
    let (rig, here, there) = (Rig::new().await, Log::default(), Log::default());
    let toy = Arc::new(Toy::default());
    for n in 1..=3 {
        asks(&rig, &there, sends([10 * n, 10 * n + 1]).chain([turn()]));
    }
    let mut talk = Talk::new(
        &here,
        sends([1])
            .chain([turn()])
            .chain(sends([2, 3]))
            .chain([turn(), turn()])
            .chain(sends([4])),
    );
    driver(&rig, &toy).drive(&mut talk).await.unwrap();
    assert_eq!(
        said(&here),
        ["1", "turned", "2", "3", "turned", "turned", "4"]
    );
    rig.until(|counters| counters.open() == 0).await;
    assert_eq!(
        said(&there),
        [
            "10", "11", "turned", "20", "21", "turned", "30", "31", "turned"
        ]
    );
    assert_eq!(*toy.seen.lock().unwrap(), [10, 11, 20, 21, 30, 31]);
    assert_eq!(*rig.toy.seen.lock().unwrap(), [1, 2, 3, 4]);
    assert!(
        toy.callers
            .lock()
            .unwrap()
            .iter()
            .all(|caller| caller.name == "server"),
        "whose certificate was shown"
    );
    let counters = rig.handle.counters();
    assert_eq!((counters.accepted(), counters.turned()), (1, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turned_and_turned_back_several_times() {
    within(there_and_back()).await;
}

#[tokio::test]
async fn on_a_current_thread_runtime() {
    within(there_and_back()).await;
}

/// The turn waits until everything before it is answered, and nothing is asked behind it until it is turned back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_is_answered_first() {
    within(async {
        let (rig, here, there) = (Rig::new().await, Log::default(), Log::default());
        let toy = Arc::new(Toy::default());
        asks(&rig, &there, sends(100..140).chain([turn()]));
        let mut talk = Talk::new(&here, sends(0..30).chain([turn()]).chain(sends(30..60)));
        driver(&rig, &toy).drive(&mut talk).await.unwrap();
        rig.until(|counters| counters.open() == 0).await;
        let mut expected: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        expected.push("turned".to_owned());
        expected.extend((30..60).map(|n| n.to_string()));
        assert_eq!(said(&here), expected);
        assert_eq!(*toy.seen.lock().unwrap(), (100..140).collect::<Vec<_>>());
        assert_eq!(said(&there).len(), 41);
    })
    .await;
}

/// Both ways large, so that neither side may wait for the other to read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_on_a_turned_connection() {
    within(async {
        let (rig, here, there) = (Rig::new().await, Log::default(), Log::default());
        let toy = Arc::new(Toy::default());
        // Where KMIP has no operation for it.
        let turn = || Step::Turn(turn_request(Version::V1_0).unwrap());
        asks(
            &rig,
            &there,
            (0..20)
                .map(|n| Step::Send(frame(n, 1 << 20)))
                .chain([turn()]),
        );
        driver(&rig, &toy)
            .drive(&mut Talk::new(&here, [turn()]))
            .await
            .unwrap();
        rig.until(|counters| counters.open() == 0).await;
        assert_eq!(said(&there).len(), 21);
    })
    .await;
}

#[tokio::test]
async fn nobody_answers_on_this_side() {
    within(async {
        let (rig, here) = (Rig::new().await, Log::default());
        asks(&rig, &here, []);
        let error = drive(&mut Talk::new(&here, [turn()]), &rig.connector())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stalled, "{error}");
        assert_eq!(rig.handle.counters().turned(), 0, "nothing was asked");
    })
    .await;
}

/// The other side stays what it is: the conversation sees the refusal, and goes on.
#[tokio::test]
async fn a_turn_that_is_refused() {
    within(async {
        let (rig, here) = (Rig::new().await, Log::default());
        let mut talk = Talk::new(&here, [turn(), Step::Send(frame(7, 0))]);
        driver(&rig, &rig.toy.clone())
            .drive(&mut talk)
            .await
            .unwrap();
        let refused = number(&answer_to(&turn_request(Version::V2_1).unwrap()));
        assert_eq!(said(&here), [refused.to_string(), "7".to_owned()]);
        assert_eq!(rig.handle.counters().turned(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_while_it_asks() {
    within(async {
        let (rig, here, there) = (Rig::new().await, Log::default(), Log::default());
        let toy = Arc::new(Toy::default());
        asks(
            &rig,
            &there,
            sends([1]).chain([Step::Wait(Some(Tick(u64::MAX)))]),
        );
        let driver = driver(&rig, &toy);
        let mut talk = Talk::new(&here, [turn()]);
        let driving = tokio::spawn(async move { driver.drive(&mut talk).await });
        until(|| said(&there) == ["1"]).await;
        drop(rig.handle);
        let error = driving.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    })
    .await;
}

/// On the next connection the conversation asks again, and may turn that one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_while_turned_is_retried() {
    within(async {
        let (rig, here, there) = (Rig::new().await, Log::default(), Log::default());
        let toy = Arc::new(Toy::default());
        asks(&rig, &there, sends([1])); // done then, so the connection is closed
        asks(&rig, &there, sends([2]).chain([turn()]));
        let mut retry = Retry::new(1);
        retry.first = Duration::from_millis(2);
        let steps = [turn(), Step::Send(frame(5, 0)), turn()]
            .into_iter()
            .chain(sends([6]));
        let mut talk = Talk::new(&here, steps);
        driver(&rig, &toy)
            .with_retry(retry)
            .drive(&mut talk)
            .await
            .unwrap();
        assert_eq!(said(&here), ["turned", "5", "turned", "6"]);
        assert_eq!(rig.handle.counters().accepted(), 2);
        assert_eq!(*toy.seen.lock().unwrap(), [1, 2]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_while_it_is_asked() {
    within(async {
        let (rig, here, there) = (Rig::new().await, Log::default(), Log::default());
        let toy = Arc::new(Toy::default());
        toy.gate.close();
        asks(&rig, &there, sends([1, 2]));
        let driver = driver(&rig, &toy);
        let mut talk = Talk::new(&here, [turn()]);
        let driving = tokio::spawn(async move { driver.drive(&mut talk).await });
        toy.gate.reached(1).await;
        driving.abort();
        rig.until(|counters| counters.open() == 0).await;
        toy.gate.open();
        let said = said(&there);
        assert!(
            said.iter().all(|said| said.starts_with("lost")) && (1..=2).contains(&said.len()),
            "{said:?}"
        );
    })
    .await;
}

/// The conversation that asks waits for ever: the shutdown does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_while_nothing_is_under_way() {
    within(async {
        let (rig, here, there) = (
            Rig::with(|limits| limits.shutdown_time = Duration::from_secs(3600)).await,
            Log::default(),
            Log::default(),
        );
        let toy = Arc::new(Toy::default());
        asks(
            &rig,
            &there,
            sends([1]).chain([Step::Wait(Some(Tick(u64::MAX)))]),
        );
        let driver = driver(&rig, &toy);
        let mut talk = Talk::new(&here, [turn()]);
        let driving = tokio::spawn(async move { driver.drive(&mut talk).await });
        until(|| said(&there) == ["1"]).await;
        rig.handle.shutdown().await;
        let error = driving.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_waits_for_what_is_under_way() {
    within(async {
        let (rig, here, there) = (Rig::new().await, Log::default(), Log::default());
        let toy = Arc::new(Toy::default());
        toy.gate.close();
        asks(
            &rig,
            &there,
            sends([1]).chain([Step::Wait(None)]).chain(sends([2])),
        );
        let driver = driver(&rig, &toy);
        let mut talk = Talk::new(&here, [turn()]);
        let driving = tokio::spawn(async move { driver.drive(&mut talk).await });
        toy.gate.reached(1).await;
        let shutdown = tokio::spawn(rig.handle.shutdown());
        tokio::time::sleep(Duration::from_millis(50)).await; // it would have ended by now
        assert!(!shutdown.is_finished());
        toy.gate.open();
        shutdown.await.unwrap();
        assert_eq!(said(&there), ["1"], "answered, and nothing more is asked");
        assert_eq!(driving.await.unwrap().unwrap_err().kind(), ErrorKind::Lost);
    })
    .await;
}

#[tokio::test]
async fn a_silent_peer_is_taken_for_lost() {
    within(async {
        let (rig, here, there) = (Rig::new().await, Log::default(), Log::default());
        asks(&rig, &there, [Step::Wait(Some(Tick(u64::MAX)))]);
        let driver = driver(&rig, &Arc::default()).silent_for(Duration::from_millis(50));
        let error = driver
            .drive(&mut Talk::new(&here, [turn()]))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    })
    .await;
}

/// Neither has a tick: without being woken, nothing would happen any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_can_be_woken() {
    within(async {
        let (rig, here, there) = (Rig::new().await, Log::default(), Log::default());
        let toy = Arc::new(Toy::default());
        let (wake_here, wake_there) = (Wake::new(), Wake::new());
        let steps = [Step::Wait(None)]
            .into_iter()
            .chain(sends([10]))
            .chain([turn()]);
        rig.toy
            .askings
            .lock()
            .unwrap()
            .push_back(Box::new(Talk::new(&there, steps).woken_by(&wake_there)));
        let mut talk = Talk::new(&here, [Step::Wait(None), Step::Send(frame(1, 0)), turn()])
            .woken_by(&wake_here);
        let driver = driver(&rig, &toy);
        let driving = tokio::spawn(async move { driver.drive(&mut talk).await });
        rig.until(|counters| counters.open() == 1).await;
        assert_eq!(rig.handle.counters().requests(), 0);
        wake_here.wake();
        rig.until(|counters| counters.turned() == 1).await;
        until(|| said(&here) == ["1", "turned"]).await;
        assert!(toy.seen.lock().unwrap().is_empty());
        wake_there.wake();
        driving.await.unwrap().unwrap();
        rig.until(|counters| counters.open() == 0).await;
        assert_eq!(
            (said(&there), said(&here)),
            (
                vec!["10".into(), "turned".into()],
                vec!["1".into(), "turned".into()]
            )
        );
    })
    .await;
}

/// It comes while the conversation has no connection, and counts once.
#[tokio::test]
async fn waking_is_not_lost() {
    within(async {
        let (rig, here, wake) = (Rig::new().await, Log::default(), Wake::new());
        wake.wake();
        wake.wake();
        let later = Tick(clock().tick.0 + 20);
        let steps = [
            Step::Wait(None),
            Step::Wait(Some(later)),
            Step::Send(frame(1, 0)),
        ];
        drive(
            &mut Talk::new(&here, steps).woken_by(&wake),
            &rig.connector(),
        )
        .await
        .unwrap();
        assert_eq!(said(&here), ["1"]);
        assert!(clock().tick >= later && !wake.take());
    })
    .await;
}
