//! What reading and writing a message allocates: `cargo bench --bench allocations`. Apart from `codec`, since counting costs time.

use divan::{AllocProfiler, Bencher};
use keyferry_benches::{CASES, case};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench(args = CASES, sample_count = 1, sample_size = 1)]
fn decode(bencher: Bencher<'_, '_>, name: &str) {
    bencher
        .with_inputs(|| case(name))
        .bench_local_refs(|case| (case.decode)());
}

#[divan::bench(args = CASES, sample_count = 1, sample_size = 1)]
fn encode(bencher: Bencher<'_, '_>, name: &str) {
    bencher
        .with_inputs(|| case(name))
        .bench_local_refs(|case| (case.encode)());
}
