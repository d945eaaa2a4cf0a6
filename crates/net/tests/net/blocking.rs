//! The client without asynchronous code.

use crate::support::{Counting, Rig, Trick, answer_to, frame, frames, number};
use keyferry_net::blocking::{self, Client};
use keyferry_net::{ErrorKind, Retry};
use std::time::Duration;

/// A server on a runtime of its own.
fn serve() -> (tokio::runtime::Runtime, Rig) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let rig = runtime.block_on(Rig::new());
    (runtime, rig)
}

#[test]
fn calls() {
    let (_runtime, rig) = serve();
    let mut client = Client::connect(rig.address(), &rig.authority.client("client")).unwrap();
    assert_eq!(client.peer().name, "server");
    for n in 0..100 {
        assert_eq!(number(&client.call(&frame(n, 10)).unwrap()), n);
    }
    client.close();
}

#[test]
fn many_at_once_both_ways() {
    let (_runtime, rig) = serve();
    let mut client = Client::connect(rig.address(), &rig.authority.client("client")).unwrap();
    let requests = frames(64, 1 << 20);
    let expected: Vec<_> = requests.iter().map(answer_to).collect();
    assert!(client.call_all(&requests).unwrap() == expected);
    assert!(client.call_all(&[]).unwrap().is_empty());
}

#[test]
fn an_answer_that_does_not_come() {
    let (_runtime, rig) = serve();
    rig.toy.gate.close();
    let mut config = rig.authority.client("client");
    config.answer_time = Duration::from_millis(100);
    let mut client = Client::connect(rig.address(), &config).unwrap();
    let error = client.call(&frame(0, 0)).unwrap_err();
    rig.toy.gate.open();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[test]
fn conversations() {
    let (_runtime, rig) = serve();
    let mut conversation = Counting::new(200, 100);
    blocking::drive(&mut conversation, &rig.connector()).unwrap();
    assert_eq!(conversation.answered.len(), 200);
    rig.toy.tricks.lock().unwrap().insert(50, Trick::Close);
    let mut conversation = Counting::new(100, 100);
    let mut retry = Retry::new(2);
    retry.first = Duration::from_millis(1);
    blocking::drive_with_retry(&mut conversation, &rig.connector(), &retry).unwrap();
    assert_eq!(conversation.answered.len(), 100);
}

#[test]
fn may_be_dropped_inside_asynchronous_code() {
    let (runtime, rig) = serve();
    let client = Client::connect(rig.address(), &rig.authority.client("client")).unwrap();
    runtime.block_on(async move { drop(client) });
}
