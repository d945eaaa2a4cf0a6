//! What reading and writing cost, as ratios to a plain walk over all headers: `cargo bench --bench codec`.
//!
//! First a table of ratios: walk, decode and encode of a message take turns, so that the machine's moods meet all three alike. Decode
//! reads a message into owned values of the operation's own type, strictly, and includes giving them back; encode makes a new frame and
//! wipes it. Then divan's table of times. The allocations of each: `cargo bench --bench allocations`.
#![allow(clippy::unwrap_used)]

use divan::{Bencher, black_box};
use keyferry_benches::{self as messages, CASES, Case, walk};
use std::time::Instant;

fn main() {
    let arguments = std::env::args()
        .skip(1)
        .any(|argument| argument != "--bench");
    if !arguments {
        table();
    }
    divan::main();
}

fn table() {
    println!(
        "{:26}{:>8}{:>7}{:>10}{:>11}{:>7}{:>11}{:>7}",
        "message", "bytes", "items", "walk ns", "decode ns", "x", "encode ns", "x"
    );
    for name in CASES {
        let case = messages::case(name);
        let walking = || _ = black_box(walk(black_box(&case.frame)));
        let rounds = (400_000 / case.frame.len().max(100)) as u32 + 1;
        let (mut floor, mut decode, mut encode) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..301 {
            floor.push(sample(&walking, rounds));
            decode.push(sample(&case.decode, rounds));
            encode.push(sample(&case.encode, rounds));
        }
        let (floor, decode, encode) =
            (median(&mut floor), median(&mut decode), median(&mut encode));
        let (bytes, items) = (case.frame.len(), walk(&case.frame));
        println!(
            "{name:26}{bytes:>8}{items:>7}{floor:>10.0}{decode:>11.0}{:>7.2}{encode:>11.0}{:>7.2}",
            decode / floor,
            encode / floor
        );
    }
    println!();
}

/// The time of one run in nanoseconds, over as many as the clock needs.
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

fn bench(bencher: Bencher<'_, '_>, name: &str, run: impl Fn(&Case) + Sync) {
    let case = messages::case(name);
    bencher.bench_local(|| run(&case));
}

#[divan::bench(args = CASES)]
fn decode(bencher: Bencher<'_, '_>, name: &str) {
    bench(bencher, name, |case| (case.decode)());
}

#[divan::bench(args = CASES)]
fn encode(bencher: Bencher<'_, '_>, name: &str) {
    bench(bencher, name, |case| (case.encode)());
}

/// The floor: every header is visited and its length checked, nothing is made of it.
#[divan::bench(args = CASES)]
fn header_walk(bencher: Bencher<'_, '_>, name: &str) {
    bench(bencher, name, |case| {
        _ = black_box(walk(black_box(&case.frame)))
    });
}
