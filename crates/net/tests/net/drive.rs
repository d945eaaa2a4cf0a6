//! Conversations.

use crate::support::{Counting, Rig, Trick, frame, number, within};
use keyferry_kmip::{Conversation, Lost, Now, Step, Tick, Ticket};
use keyferry_net::{Connector, ErrorKind, Retry, clock, drive, drive_with_retry};
use keyferry_ttlv::Frame;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn quick() -> Retry {
    let mut retry = Retry::new(1);
    retry.first = Duration::from_millis(2);
    retry
}

async fn completes(count: u32, ballast: usize) {
    let rig = Rig::new().await;
    let mut conversation = Counting::new(count, ballast);
    drive(&mut conversation, &rig.connector()).await.unwrap();
    assert_eq!(conversation.answered, (0..count).collect::<Vec<_>>());
    let mut tickets = conversation.tickets.clone();
    tickets.dedup();
    assert_eq!(tickets.len(), count as usize);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_to_its_end() {
    within(completes(500, 16)).await;
}

#[tokio::test]
async fn on_a_current_thread_runtime() {
    within(completes(500, 16)).await;
}

#[tokio::test]
async fn of_no_requests() {
    within(completes(0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_both_ways() {
    within(completes(64, 1 << 20)).await;
}

#[tokio::test]
async fn big_both_ways_on_a_current_thread_runtime() {
    within(completes(64, 1 << 20)).await;
}

/// No more than the limit are under way, however many the conversation would send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_under_way_are_limited() {
    within(async {
        let rig = Rig::new().await;
        rig.toy.gate.close();
        let mut config = rig.authority.client("client");
        config.in_flight = 5;
        let connector = Connector::new(rig.address(), config);
        let mut conversation = Counting::new(100, 0);
        let all_sent = conversation.all_sent.clone();
        let driving = tokio::spawn(async move {
            drive(&mut conversation, &connector).await.unwrap();
            conversation
        });
        rig.toy.gate.reached(1).await;
        tokio::time::sleep(Duration::from_millis(50)).await; // it would have sent more by now
        assert!(!all_sent.load(Ordering::SeqCst));
        rig.toy.gate.open();
        assert_eq!(driving.await.unwrap().answered.len(), 100);
        assert!(
            rig.toy
                .groups
                .lock()
                .unwrap()
                .iter()
                .all(|group| *group <= 5)
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_killed_in_the_middle() {
    within(async {
        let rig = Rig::new().await;
        rig.toy.gate.close();
        let connector = rig.connector();
        let mut conversation = Counting::new(3, 0);
        let all_sent = conversation.all_sent.clone();
        let driving =
            tokio::spawn(async move { (drive(&mut conversation, &connector).await, conversation) });
        rig.toy.gate.reached(1).await;
        while !all_sent.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let toy = rig.toy.clone();
        drop(rig.handle);
        let (result, conversation) = driving.await.unwrap();
        toy.gate.open();
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
        assert!(conversation.answered.is_empty());
        assert_eq!(
            conversation
                .lost
                .iter()
                .map(|(n, _)| *n)
                .collect::<Vec<_>>(),
            [0, 1, 2]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_resumes() {
    within(async {
        let rig = Rig::new().await;
        let tricks = [
            (10, Trick::Close),
            (20, Trick::Panic),
            (30, Trick::ReplyAndClose),
            (40, Trick::Close),
        ];
        rig.toy.tricks.lock().unwrap().extend(tricks);
        let mut conversation = Counting::new(60, 2000);
        let mut retry = quick();
        retry.attempts = 20;
        drive_with_retry(&mut conversation, &rig.connector(), &retry)
            .await
            .unwrap();
        let mut answered = conversation.answered.clone();
        answered.sort();
        assert_eq!(answered, (0..60).collect::<Vec<_>>());
        assert!(!conversation.lost.is_empty());
        assert!(rig.handle.counters().accepted() == 5);
        let mut tickets = conversation.tickets.clone();
        tickets.sort();
        tickets.dedup();
        assert_eq!(tickets.len(), conversation.tickets.len(), "no ticket twice");
    })
    .await;
}

#[tokio::test]
async fn retries_end() {
    within(async {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let connector = Connector::new(
            port.to_string(),
            crate::support::Authority::new().client("client"),
        );
        let error = drive_with_retry(&mut Counting::new(1, 0), &connector, &quick())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_refusal_by_tls_is_not_retried() {
    within(async {
        let rig = Rig::new().await;
        let stranger = crate::support::Authority::new();
        let connector = Connector::new(rig.address(), stranger.client("stranger"));
        let mut retry = quick();
        retry.first = Duration::from_secs(3600);
        retry.longest = retry.first;
        let error = drive_with_retry(&mut Counting::new(1, 0), &connector, &retry)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_come() {
    within(async {
        let rig = Rig::new().await;
        rig.toy.gate.close();
        let mut config = rig.authority.client("client");
        config.answer_time = Duration::from_millis(100);
        let mut conversation = Counting::new(2, 0);
        let error = drive(&mut conversation, &Connector::new(rig.address(), config))
            .await
            .unwrap_err();
        rig.toy.gate.open();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert_eq!(conversation.lost.len(), 2);
    })
    .await;
}

/// Does what its list says.
struct Script(Vec<Step>, Vec<Result<u32, String>>);

impl Conversation for Script {
    fn poll(&mut self, _: Now, _: Ticket) -> Step {
        if self.0.is_empty() {
            Step::Done
        } else {
            self.0.remove(0)
        }
    }

    fn answer(&mut self, _: Now, _: Ticket, response: Result<Frame, Lost>) {
        self.1.push(
            response
                .map(|frame| number(&frame))
                .map_err(|Lost(reason)| reason),
        );
    }
}

#[tokio::test]
async fn waiting_for_nothing_is_an_error() {
    within(async {
        let rig = Rig::new().await;
        let error = drive(
            &mut Script(vec![Step::Wait(None)], vec![]),
            &rig.connector(),
        )
        .await
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stalled, "{error}");
    })
    .await;
}

#[tokio::test]
async fn waiting_for_the_clock() {
    within(async {
        let rig = Rig::new().await;
        let soon = Tick(clock().tick.0 + 30);
        let steps = vec![
            Step::Wait(Some(soon)),
            Step::Send(frame(4, 0)),
            Step::Wait(None),
            Step::Wait(Some(Tick(0))),
        ];
        let mut script = Script(steps, vec![]);
        drive(&mut script, &rig.connector()).await.unwrap();
        assert!(clock().tick >= soon);
        assert_eq!(script.1, [Ok(4)]);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_goes_while_nothing_is_under_way() {
    within(async {
        let rig = Rig::with(|limits| limits.idle_time = Duration::from_millis(50)).await;
        let steps = vec![Step::Wait(Some(Tick(u64::MAX)))];
        let error = drive(&mut Script(steps, vec![]), &rig.connector())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    })
    .await;
}
