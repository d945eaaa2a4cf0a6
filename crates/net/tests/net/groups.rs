//! Pipelining: what arrives together is handled together, answers keep the order.

use crate::support::{Rig, Trick, answer_to, frame, frames, number, numbers, within};
use keyferry_net::ErrorKind;
use keyferry_ttlv::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn burst_of_500_requests_in_order() {
    within(async {
        let rig = Rig::new().await;
        let mut connection = rig.connect().await;
        let answers = connection.call_all(&frames(500, 16)).await.unwrap();
        assert_eq!(numbers(&answers), (0..500).collect::<Vec<_>>());
        let counters = rig.handle.counters();
        let size = frame(0, 16).len() as u64;
        rig.until(|counters| counters.bytes_out() == 500 * size)
            .await;
        assert_eq!(
            (counters.requests(), counters.bytes_in()),
            (500, 500 * size)
        );
        assert_eq!(
            counters.groups(),
            rig.toy.groups.lock().unwrap().len() as u64
        );
        assert!(
            rig.toy
                .groups
                .lock()
                .unwrap()
                .iter()
                .all(|group| *group <= 64)
        );
    })
    .await;
}

#[tokio::test]
async fn what_has_arrived_goes_as_one_group() {
    within(async {
        let rig = Rig::with(|limits| limits.group_requests = 10).await;
        rig.toy.gate.close();
        let mut stream = rig.connect().await.into_stream();
        stream.write_all(&frame(0, 0)).await.unwrap();
        stream.flush().await.unwrap();
        rig.toy.gate.reached(1).await;
        for n in 1..=25 {
            stream.write_all(&frame(n, 0)).await.unwrap();
        }
        stream.flush().await.unwrap();
        rig.toy.gate.open();
        let mut answers = vec![0; frame(0, 0).len() * 26];
        stream.read_exact(&mut answers).await.unwrap();
        assert_eq!(*rig.toy.groups.lock().unwrap(), [1, 10, 10, 5]);
    })
    .await;
}

#[tokio::test]
async fn a_group_is_bounded_in_bytes() {
    within(async {
        let rig = Rig::with(|limits| limits.group_bytes = 2 * frame(0, 1000).len()).await;
        rig.toy.gate.close();
        let mut stream = rig.connect().await.into_stream();
        stream.write_all(&frame(0, 0)).await.unwrap();
        stream.flush().await.unwrap();
        rig.toy.gate.reached(1).await;
        for n in 1..=6 {
            stream.write_all(&frame(n, 1000)).await.unwrap();
        }
        stream.flush().await.unwrap();
        rig.toy.gate.open();
        let mut answers = vec![0; frame(0, 0).len() + 6 * frame(0, 1000).len()];
        stream.read_exact(&mut answers).await.unwrap();
        assert_eq!(*rig.toy.groups.lock().unwrap(), [1, 2, 2, 2]);
    })
    .await;
}

/// A mebibyte each way, 64 times, all under way at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_pipelined_transfer_both_ways() {
    within(async {
        let rig = Rig::new().await;
        let mut connection = rig.connect().await;
        let requests = frames(64, 1 << 20);
        let answers = connection.call_all(&requests).await.unwrap();
        assert!(answers == requests.iter().map(answer_to).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn the_largest_message_passes() {
    within(async {
        let largest = frame(1, 1 << 20);
        let rig = Rig::with(|limits| limits.message_size = largest.len()).await;
        let answer = rig.connect().await.call(&largest).await.unwrap();
        assert!(answer == answer_to(&largest));
    })
    .await;
}

#[tokio::test]
async fn reply_and_close() {
    within(async {
        let rig = Rig::new().await;
        rig.toy
            .tricks
            .lock()
            .unwrap()
            .insert(3, Trick::ReplyAndClose);
        let mut stream = rig.connect().await.into_stream();
        for n in 0..10 {
            stream.write_all(&frame(n, 0)).await.unwrap();
        }
        stream.flush().await.unwrap();
        let mut answers = Vec::new();
        stream
            .read_to_end(&mut answers)
            .await
            .expect("closed in order");
        let size = frame(0, 0).len();
        assert_eq!(answers.len(), 4 * size);
        assert_eq!(number(&Frame::new(answers[3 * size..].to_vec())), 3);
    })
    .await;
}

#[tokio::test]
async fn close_without_a_word() {
    within(async {
        let rig = Rig::new().await;
        rig.toy.tricks.lock().unwrap().insert(0, Trick::Close);
        let mut connection = rig.connect().await;
        let error = connection.call(&frame(0, 0)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
        let again = connection.call(&frame(1, 0)).await.unwrap_err();
        assert!(again.to_string().contains("earlier call"), "{again}");
    })
    .await;
}

/// A handler that panics or forgets an answer costs that connection, not the server.
#[tokio::test]
async fn a_failing_handler_costs_one_connection() {
    within(async {
        for trick in [Trick::Panic, Trick::Forget] {
            let rig = Rig::new().await;
            rig.toy.tricks.lock().unwrap().insert(0, trick);
            let mut other = rig.connect().await;
            let error = rig.connect().await.call(&frame(0, 0)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
            other.call(&frame(1, 0)).await.expect("the server goes on");
        }
    })
    .await;
}
