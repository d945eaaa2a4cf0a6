//! Peers that send garbage, half messages, too much, or nothing.

use crate::support::{REFUSED, Rig, frame, number, within};
use keyferry_net::{Connection, ErrorKind};
use keyferry_ttlv::{ErrorKind as Ttlv, Frame};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Sends bytes over TLS and returns what comes back until the server closes in order.
async fn send(connection: Connection, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connection.into_stream();
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    let mut back = Vec::new();
    stream
        .read_to_end(&mut back)
        .await
        .expect("closed in order");
    back
}

fn is_refusal(bytes: &[u8]) -> bool {
    bytes == &frame(REFUSED, 0)[..]
}

async fn goes_on(rig: &Rig) {
    assert_eq!(
        number(&rig.connect().await.call(&frame(5, 0)).await.unwrap()),
        5
    );
}

#[tokio::test]
async fn garbage_instead_of_tls() {
    within(async {
        let rig = Rig::new().await;
        for garbage in [
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            &[0x42; 100],
            &[0; 10_000],
        ] {
            let mut stream = TcpStream::connect(rig.address()).await.unwrap();
            let _ = stream.write_all(garbage).await;
            let mut back = Vec::new();
            let _ = stream.read_to_end(&mut back).await;
        }
        rig.until(|counters| counters.refused() == 3).await;
        goes_on(&rig).await;
    })
    .await;
}

#[tokio::test]
async fn garbage_inside_tls() {
    within(async {
        let rig = Rig::new().await;
        let back = send(rig.connect().await, b"GET / HTTP/1.1\r\n\r\n").await;
        assert!(is_refusal(&back));
        assert!(matches!(
            rig.toy.refusals.lock().unwrap()[0].kind(),
            Ttlv::UnknownTag
        ));
        goes_on(&rig).await;
    })
    .await;
}

#[tokio::test]
async fn requests_before_garbage_are_answered() {
    within(async {
        let rig = Rig::new().await;
        let mut bytes = frame(1, 8).to_vec();
        bytes.extend_from_slice(&frame(2, 8));
        bytes.extend_from_slice(&[0xff; 64]);
        let back = send(rig.connect().await, &bytes).await;
        let size = frame(0, 8).len();
        assert_eq!(number(&Frame::new(back[size..].to_vec())), 2);
        assert!(is_refusal(&back[2 * size..]));
    })
    .await;
}

#[tokio::test]
async fn half_a_message_then_silence() {
    within(async {
        let rig = Rig::with(|limits| limits.message_time = Duration::from_millis(300)).await;
        let whole = frame(1, 100);
        let silent = send(rig.connect().await, &whole[..50]);
        let (back, ()) = tokio::join!(silent, goes_on(&rig));
        assert!(is_refusal(&back));
        assert_eq!(
            *rig.toy.refusals.lock().unwrap()[0].kind(),
            Ttlv::Truncated(whole.len() - 50)
        );
    })
    .await;
}

#[tokio::test]
async fn half_a_message_then_the_end() {
    within(async {
        let rig = Rig::new().await;
        let mut stream = rig.connect().await.into_stream();
        stream.write_all(&frame(1, 100)[..50]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert!(is_refusal(&back));
        drop(stream);
        let stream = rig.connect().await.into_stream();
        drop(stream); // without a goodbye
        rig.until(|counters| counters.accepted() == 2 && counters.open() == 0)
            .await;
        goes_on(&rig).await;
    })
    .await;
}

#[tokio::test]
async fn message_over_the_limit() {
    within(async {
        let rig = Rig::new().await;
        let back = send(
            rig.connect().await,
            &[0x42, 0x00, 0x78, 0x01, 0x7f, 0xff, 0xff, 0xf8],
        )
        .await;
        assert!(is_refusal(&back));
        let kind = rig.toy.refusals.lock().unwrap()[0].kind().clone();
        assert_eq!(
            kind,
            Ttlv::Size {
                size: 0x8000_0000,
                limit: 16 << 20
            }
        );
        goes_on(&rig).await;
    })
    .await;
}

/// The peer is still writing its too long message when it is refused: it gets to read the answer, not a reset connection.
#[tokio::test]
async fn message_over_the_limit_that_keeps_coming() {
    within(async {
        let rig = Rig::with(|limits| limits.message_size = 1 << 20).await;
        let answer = rig.connect().await.call(&frame(1, 1 << 20)).await.unwrap();
        assert_eq!(number(&answer), REFUSED);
    })
    .await;
}

#[tokio::test]
async fn idle_connection_is_closed() {
    within(async {
        let rig = Rig::with(|limits| limits.idle_time = Duration::from_millis(100)).await;
        let back = send(rig.connect().await, &[]).await;
        assert!(back.is_empty());
        assert!(rig.toy.refusals.lock().unwrap().is_empty());
    })
    .await;
}

/// The client sends large requests without reading an answer, then gives up when the server does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_never_reads() {
    within(async {
        let rig = Rig::with(|limits| limits.message_time = Duration::from_millis(500)).await;
        let mut stream = rig.connect().await.into_stream();
        let request = frame(0, 1 << 20);
        for _ in 0..1000 {
            if stream.write_all(&request).await.is_err() {
                break;
            }
        }
        rig.until(|counters| counters.open() == 0).await;
        goes_on(&rig).await;
    })
    .await;
}

#[tokio::test]
async fn silent_handshake_times_out() {
    within(async {
        let rig = Rig::with(|limits| limits.handshake_time = Duration::from_millis(100)).await;
        let mut silent = TcpStream::connect(rig.address()).await.unwrap();
        assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
        rig.until(|counters| counters.refused() == 1).await;
        goes_on(&rig).await;
    })
    .await;
}

#[tokio::test]
async fn silent_handshakes_make_room_for_others() {
    within(async {
        let rig = Rig::with(|limits| {
            limits.handshakes = 3;
            limits.handshake_time = Duration::from_secs(3600);
        })
        .await;
        let mut silent = Vec::new();
        for _ in 0..10 {
            silent.push(TcpStream::connect(rig.address()).await.unwrap());
        }
        rig.until(|counters| counters.refused() == 7).await;
        goes_on(&rig).await;
        assert_eq!(
            rig.handle.counters().refused(),
            8,
            "the oldest made room for the client"
        );
    })
    .await;
}

#[tokio::test]
async fn too_many_connections() {
    within(async {
        let rig = Rig::with(|limits| limits.connections = 1).await;
        let mut first = rig.connect().await;
        first.call(&frame(1, 0)).await.unwrap();
        let error = match rig.connector().connect().await {
            Ok(mut second) => second.call(&frame(2, 0)).await.map(drop).unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
        first.call(&frame(3, 0)).await.unwrap();
        first.close().await;
        rig.until(|counters| counters.open() == 0).await;
        goes_on(&rig).await;
    })
    .await;
}

#[tokio::test]
async fn who_is_being_closed_holds_no_place() {
    within(async {
        let rig = Rig::with(|limits| limits.connections = 1).await;
        let mut hostile = rig.connect().await.into_stream();
        hostile.write_all(&[0; 100]).await.unwrap();
        hostile.flush().await.unwrap();
        let mut back = vec![0; frame(REFUSED, 0).len()];
        hostile.read_exact(&mut back).await.unwrap();
        assert!(is_refusal(&back));
        // It stays, and the server still listens to it for a while.
        goes_on(&rig).await;
        drop(hostile);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_with_hostile_ones_among_them() {
    within(async {
        let rig = Rig::with(|limits| {
            limits.handshakes = 80; // the 50 may all come at once
            limits.message_time = Duration::from_secs(3600); // nobody is saved by a time-out
            limits.handshake_time = Duration::from_secs(3600);
        })
        .await;
        let mut hostile = Vec::new();
        let mut tls = Vec::new();
        for n in 0..8 {
            hostile.push(TcpStream::connect(rig.address()).await.unwrap()); // silent
            let mut garbage = TcpStream::connect(rig.address()).await.unwrap();
            let _ = garbage.write_all(&[n; 300]).await;
            hostile.push(garbage);
            let mut half = rig.connect().await.into_stream();
            half.write_all(&frame(0, 1000)[..500]).await.unwrap();
            half.flush().await.unwrap();
            tls.push(half);
            let mut deaf = rig.connect().await.into_stream();
            let _ = tokio::time::timeout(Duration::from_millis(200), async {
                let request = frame(0, 1 << 20);
                while deaf.write_all(&request).await.is_ok() {}
            })
            .await;
            tls.push(deaf);
        }
        let mut clients = JoinSet::new();
        for client in 0..50u32 {
            let connector = rig.connector();
            clients.spawn(async move {
                let mut connection = connector.connect().await.unwrap();
                for n in 0..20 {
                    let number = client * 100 + n;
                    assert_eq!(
                        connection
                            .call(&frame(number, 64))
                            .await
                            .map(|answer| self::number(&answer))
                            .unwrap(),
                        number
                    );
                }
            });
        }
        let mut done = 0;
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
            done += 1;
        }
        assert_eq!(done, 50);
        drop((hostile, tls));
    })
    .await;
}
