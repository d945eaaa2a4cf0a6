//! Stopping a server.

use crate::support::{Rig, frame, number, numbers, within};
use keyferry_net::ErrorKind;
use keyferry_ttlv::Frame;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_begun_is_finished() {
    within(async {
        let rig = Rig::new().await;
        let mut idle = rig.connect().await;
        idle.call(&frame(0, 0)).await.unwrap();
        rig.toy.gate.close();
        let mut busy = rig.connect().await.into_stream();
        busy.write_all(&frame(0, 8)).await.unwrap();
        busy.flush().await.unwrap();
        rig.toy.gate.reached(2).await;
        for n in 1..6 {
            busy.write_all(&frame(n, 8)).await.unwrap(); // arrives while the handler is at work
        }
        busy.flush().await.unwrap();
        let (address, toy, counters) = (rig.address(), rig.toy.clone(), rig.handle.counters());
        let shutdown = tokio::spawn(rig.handle.shutdown());
        // The idle connection is closed at once, though the busy one is not finished.
        while counters.open() > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let error = idle.call(&frame(1, 0)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Lost), "{error}");
        assert!(!shutdown.is_finished());
        toy.gate.open();
        let mut answers = Vec::new();
        busy.read_to_end(&mut answers)
            .await
            .expect("closed in order");
        let answers: Vec<Frame> = answers
            .chunks(frame(0, 8).len())
            .map(|answer| Frame::new(answer.to_vec()))
            .collect();
        assert_eq!(numbers(&answers), [0, 1, 2, 3, 4, 5]);
        drop(busy);
        shutdown.await.unwrap();
        assert!(
            std::net::TcpStream::connect(address).is_err(),
            "nobody listens any more"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_handler_does_not_hold_up_the_shutdown_for_ever() {
    within(async {
        let rig = Rig::with(|limits| limits.shutdown_time = Duration::from_millis(100)).await;
        rig.toy.gate.close();
        let mut connection = rig.connect().await;
        let call = tokio::spawn(async move { connection.call(&frame(1, 0)).await });
        rig.toy.gate.reached(1).await;
        let toy = rig.toy.clone();
        rig.handle.shutdown().await;
        assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Lost);
        toy.gate.open();
    })
    .await;
}

#[tokio::test]
async fn half_a_message_is_not_waited_for() {
    within(async {
        let rig = Rig::with(|limits| limits.message_time = Duration::from_secs(3600)).await;
        let mut stream = rig.connect().await.into_stream();
        stream.write_all(&frame(1, 0)).await.unwrap();
        stream.write_all(&frame(2, 100)[..60]).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = vec![0; frame(1, 0).len()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(number(&Frame::new(answer)), 1);
        rig.handle.shutdown().await;
        let mut rest = Vec::new();
        stream
            .read_to_end(&mut rest)
            .await
            .expect("closed in order");
        assert!(rest.is_empty());
    })
    .await;
}

#[tokio::test]
async fn run_ends_when_its_future_is_ready() {
    within(async {
        let authority = crate::support::Authority::new();
        let config = keyferry_net::ServerConfig::new(&authority.credentials("server")).unwrap();
        let toy = std::sync::Arc::new(crate::support::Toy::default());
        let server = keyferry_net::Server::bind("127.0.0.1:0", config, toy)
            .await
            .unwrap();
        let connector = keyferry_net::Connector::new(
            server.local_addr().to_string(),
            authority.client("client"),
        );
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let client = async {
            let answer = connector
                .connect()
                .await
                .unwrap()
                .call(&frame(9, 0))
                .await
                .unwrap();
            stop.send(()).unwrap();
            number(&answer)
        };
        let (answer, ()) = tokio::join!(client, server.run(async { stopped.await.unwrap() }));
        assert_eq!(answer, 9);
    })
    .await;
}
