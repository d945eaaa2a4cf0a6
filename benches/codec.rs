//! What reading and writing cost, beside a walk over all headers: `cargo bench --bench codec`.
#![allow(clippy::unwrap_used)]

use keyferry_benches as messages;
use keyferry_kmip::{CreateRequest, RegisterRequest, RequestMessage, context};
use keyferry_ttlv::{Frame, Item, Reader, Version};

fn main() {
    divan::main();
}

const MESSAGES: &[&str] = &["create", "100 registers"];

fn message(name: &str) -> Frame {
    if name == "create" { messages::create().unwrap() } else { messages::registers().unwrap() }
}

/// The floor: every header is visited and checked, nothing is made of it.
#[divan::bench(args = MESSAGES)]
fn header_walk(bencher: divan::Bencher<'_, '_>, name: &str) {
    let frame = message(name);
    bencher.bench(|| Reader::new(&frame, context(Version::V2_1)).check(Item::parse(&frame).unwrap()).unwrap());
}

/// Message and payloads as owned values.
#[divan::bench(args = MESSAGES)]
fn decode(bencher: divan::Bencher<'_, '_>, name: &str) {
    let frame = message(name);
    let cx = context(Version::V2_1);
    bencher.bench(|| {
        for item in &RequestMessage::from_frame(&frame).unwrap().batch {
            if name == "create" {
                divan::black_box(item.payload::<CreateRequest>(cx).unwrap());
            } else {
                divan::black_box(item.payload::<RegisterRequest>(cx).unwrap());
            }
        }
    });
}

/// The message with its payloads encoded already.
#[divan::bench(args = MESSAGES)]
fn encode(bencher: divan::Bencher<'_, '_>, name: &str) {
    let parsed = RequestMessage::from_frame(&message(name)).unwrap();
    bencher.bench(|| parsed.to_frame().unwrap());
}
