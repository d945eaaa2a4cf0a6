//! Peers that misuse a connection that was turned round.

use crate::support::{REFUSED, Rig, Toy, answer_to, frame, number, within};
use crate::turn::{Log, Talk, asks, said, sends, turn, until};
use keyferry_kmip::{Step, Tick, is_turned, turn_request};
use keyferry_net::{Driver, ErrorKind, Limits};
use keyferry_ttlv::{Frame, Version};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Reads one message.
async fn message(stream: &mut TlsStream<TcpStream>) -> Frame {
    let mut bytes = vec![0; 8];
    stream.read_exact(&mut bytes).await.unwrap();
    let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
    bytes.resize(8 + length, 0);
    stream.read_exact(&mut bytes[8..]).await.unwrap();
    Frame::new(bytes)
}

/// A server that asks 1 and waits then, and a client's stream that was turned round and has read that.
async fn asked(log: &Log, change: impl FnOnce(&mut Limits)) -> (Rig, TlsStream<TcpStream>) {
    let rig = Rig::with(change).await;
    asks(
        &rig,
        log,
        sends([1]).chain([Step::Wait(Some(Tick(u64::MAX)))]),
    );
    let mut stream = rig.connect().await.into_stream();
    stream
        .write_all(&turn_request(Version::V2_1).unwrap())
        .await
        .unwrap();
    stream.flush().await.unwrap();
    assert!(is_turned(&message(&mut stream).await));
    assert_eq!(number(&message(&mut stream).await), 1);
    (rig, stream)
}

/// Sends bytes; fails unless the server cuts the connection without a word.
async fn is_cut(rig: Rig, mut stream: TlsStream<TcpStream>, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    let mut back = Vec::new();
    stream
        .read_to_end(&mut back)
        .await
        .expect("closed in order");
    assert!(back.is_empty(), "{} bytes", back.len());
    rig.until(|counters| counters.open() == 0).await;
    assert_eq!(
        rig.handle.counters().requests(),
        1,
        "the turn, and nothing behind it"
    );
    assert_eq!(
        number(&rig.connect().await.call(&frame(5, 0)).await.unwrap()),
        5
    );
}

#[tokio::test]
async fn a_request_where_an_answer_is_due() {
    within(async {
        let log = Log::default();
        let (rig, stream) = asked(&log, |_| ()).await;
        is_cut(rig, stream, &frame(1, 0)).await;
        assert!(
            said(&log)[0].contains("a request where answers are due"),
            "{:?}",
            said(&log)
        );
    })
    .await;
}

#[tokio::test]
async fn two_answers_to_one_request() {
    within(async {
        let log = Log::default();
        let (rig, stream) = asked(&log, |_| ()).await;
        let answer = answer_to(&frame(1, 0));
        is_cut(rig, stream, &[&answer[..], &answer[..]].concat()).await;
        assert_eq!(said(&log), ["1"]);
    })
    .await;
}

#[tokio::test]
async fn garbage_and_half_answers() {
    within(async {
        for bytes in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            vec![0x42, 0x00, 0x7b, 0x01, 0x7f, 0xff, 0xff, 0xf8],
        ] {
            let log = Log::default();
            let (rig, stream) = asked(&log, |_| ()).await;
            is_cut(rig, stream, &bytes).await;
            assert!(said(&log)[0].starts_with("lost"), "{:?}", said(&log));
        }
        for bytes in [&[][..], &answer_to(&frame(1, 0))[..20]] {
            let log = Log::default();
            let (rig, stream) = asked(&log, |limits| {
                limits.answer_time = Duration::from_millis(100)
            })
            .await;
            is_cut(rig, stream, bytes).await;
            assert!(
                said(&log)[0].contains("no answer in time"),
                "{:?}",
                said(&log)
            );
        }
    })
    .await;
}

/// It turns the connection round and asks on at once. The handler never sees that.
#[tokio::test]
async fn a_request_right_behind_the_turn() {
    within(async {
        let (rig, log) = (Rig::new().await, Log::default());
        asks(&rig, &log, sends([1]));
        let mut stream = rig.connect().await.into_stream();
        let bytes = [
            &turn_request(Version::V2_1).unwrap()[..],
            &frame(2, 0),
            &frame(3, 0),
        ]
        .concat();
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
        let mut back = Vec::new();
        stream
            .read_to_end(&mut back)
            .await
            .expect("closed in order");
        assert!(is_turned(&Frame::new(back)), "the answer to the turn alone");
        assert!(rig.toy.seen.lock().unwrap().is_empty());
        assert!(said(&log).is_empty());
    })
    .await;
}

/// The same for a client that reads nothing of what it is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_no_requests() {
    within(async {
        let rig = Rig::with(|limits| {
            limits.message_time = Duration::from_millis(200);
            limits.answer_time = Duration::from_millis(200);
        })
        .await;
        let log = Log::default();
        asks(&rig, &log, (0..64).map(|n| Step::Send(frame(n, 1 << 20))));
        let mut stream = rig.connect().await.into_stream();
        stream
            .write_all(&turn_request(Version::V2_1).unwrap())
            .await
            .unwrap();
        stream.flush().await.unwrap();
        rig.until(|counters| counters.turned() == 1 && counters.open() == 0)
            .await;
        assert!(said(&log).iter().all(|said| said.starts_with("lost")) && !said(&log).is_empty());
    })
    .await;
}

/// What a server asks of a client that has turned its connection round, and what the driver says to that.
async fn asked_of_us(steps: impl IntoIterator<Item = Step>) -> (keyferry_net::Error, Vec<u32>) {
    let (rig, log) = (Rig::new().await, Log::default());
    let toy = Arc::new(Toy::default());
    asks(&rig, &log, steps);
    let mut talk = Talk::new(&log, [turn(), Step::Wait(Some(Tick(u64::MAX)))]);
    let error = Driver::new(rig.connector())
        .answering(toy.clone())
        .drive(&mut talk)
        .await
        .unwrap_err();
    until(|| rig.handle.counters().open() == 0).await;
    let seen = toy.seen.lock().unwrap().clone();
    (error, seen)
}

#[tokio::test]
async fn a_server_that_answers_while_it_should_ask() {
    within(async {
        let (error, seen) =
            asked_of_us(sends([1]).chain([Step::Send(answer_to(&frame(2, 0)))])).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(seen.len() <= 1, "{seen:?}");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_asks_on_behind_its_turning_back() {
    within(async {
        let back = || Step::Send(turn_request(Version::V2_1).unwrap());
        let (error, seen) = asked_of_us([back()].into_iter().chain(sends([1, 2]))).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(seen.is_empty(), "{seen:?}");
    })
    .await;
}

/// The connection ends, as it does where a handler of a server's fails or closes.
#[tokio::test]
async fn a_handler_that_fails_or_closes() {
    within(async {
        use crate::support::Trick;
        for trick in [
            Trick::Panic,
            Trick::Forget,
            Trick::Close,
            Trick::ReplyAndClose,
        ] {
            let (rig, log) = (Rig::new().await, Log::default());
            let toy = Arc::new(Toy::default());
            toy.tricks.lock().unwrap().insert(REFUSED, trick);
            asks(&rig, &log, sends([REFUSED]));
            let driver = Driver::new(rig.connector()).answering(toy);
            let error = driver
                .drive(&mut Talk::new(&Log::default(), [turn()]))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
            rig.until(|counters| counters.open() == 0).await;
            let answered = matches!(trick, Trick::ReplyAndClose);
            assert_eq!(
                said(&log)[0].starts_with("lost"),
                !answered,
                "{:?}",
                said(&log)
            );
        }
    })
    .await;
}
