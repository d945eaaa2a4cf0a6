//! What reading and writing cost, as ratios to a plain walk over all headers: `cargo bench --bench codec`.
#![allow(clippy::unwrap_used)]

use divan::black_box;
use keyferry_benches::{self as messages, VERSION, walk};
use keyferry_kmip::{DateTime, Payload, RequestItem, RequestMessage, ResponseItem, ResponseMessage};
use keyferry_ttlv::Frame;
use std::time::Instant;

/// One message: its bytes, and what reads and writes it.
struct Case {
    name: &'static str,
    frame: Frame,
    decode: Box<dyn Fn()>,
    encode: Box<dyn Fn()>,
}

fn request<P: Payload + Clone + 'static>(name: &'static str, payloads: Vec<P>) -> Case {
    let items = payloads.into_iter().map(|payload| RequestItem::of(P::OPERATION, payload)).collect();
    let message = RequestMessage::new(VERSION, items);
    let frame = message.to_frame().unwrap();
    let bytes = frame.clone();
    Case {
        name,
        frame,
        decode: Box::new(move || drop(black_box(RequestMessage::<P>::typed(black_box(&bytes)).unwrap()))),
        encode: Box::new(move || drop(black_box(black_box(&message).to_frame().unwrap()))),
    }
}

fn response<P: Payload + Clone + 'static>(name: &'static str, payload: P) -> Case {
    let message = ResponseMessage::new(VERSION, DateTime(1_700_000_000), vec![ResponseItem::of(P::OPERATION, payload)]);
    let frame = message.to_frame().unwrap();
    let bytes = frame.clone();
    Case {
        name,
        frame,
        decode: Box::new(move || drop(black_box(ResponseMessage::<P>::typed(black_box(&bytes)).unwrap()))),
        encode: Box::new(move || drop(black_box(black_box(&message).to_frame().unwrap()))),
    }
}

fn cases() -> Vec<Case> {
    vec![
        request("a  Create, 4 attributes", vec![messages::create()]),
        response("b  Locate, 1000 found", messages::located()),
        response("c  Get, AES-256", messages::got()),
        response("d  Get Attributes, 25", messages::attributes()),
        request("e  100 Registers", messages::registers()),
    ]
}

/// The median time of one run in nanoseconds, each sample long enough for the clock.
fn sample(run: &dyn Fn(), rounds: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..rounds {
        run();
    }
    start.elapsed().as_nanos() as f64 / f64::from(rounds)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    if let Some(only) = std::env::args().find(|a| a.len() == 1) {
        let case = cases().into_iter().find(|c| c.name.starts_with(&only)).unwrap();
        for _ in 0..1_000_000_000 / case.frame.len() / 10 {
            (case.decode)();
        }
        return;
    }
    println!("{:26}{:>8}{:>7}{:>10}{:>10}{:>7}{:>10}{:>7}", "message", "bytes", "items", "walk ns", "decode", "x", "encode", "x");
    for case in cases() {
        let walking = || _ = black_box(walk(black_box(&case.frame)));
        let rounds = (400_000 / case.frame.len().max(100)) as u32 + 1;
        let (mut floor, mut decode, mut encode) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..201 {
            floor.push(sample(&walking, rounds));
            decode.push(sample(&case.decode, rounds));
            encode.push(sample(&case.encode, rounds));
        }
        let (floor, decode, encode) = (median(&mut floor), median(&mut decode), median(&mut encode));
        println!(
            "{:26}{:>8}{:>7}{:>10.0}{:>10.0}{:>7.2}{:>10.0}{:>7.2}",
            case.name,
            case.frame.len(),
            walk(&case.frame),
            floor,
            decode,
            decode / floor,
            encode,
            encode / floor
        );
    }
}
