//! Deterministic simulation of several servers: network, clocks, disks, crashes and restores, all from one printed seed. After each run the
//! rules of docs/design.md hold.
//!
//! `SIM_RUNS` says how many runs, `SIM_SEED` which one to begin with; a failed run prints its seed.
#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[cfg(keyferry_planted)]
extern crate keyferry_s2s_planted as keyferry_s2s;

mod check;
mod foreign;
mod foreign_histories;
mod forger;
mod histories;
mod hostile;
#[cfg(keyferry_planted)]
mod planted;
mod relations;
mod restore;
mod rng;
mod run;
mod site;
mod world;
mod writes;

use std::time::Instant;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| {
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number"))
    })
}

/// Says what happens, when `SIM_TRACE` is set.
pub fn trace(what: impl FnOnce() -> String) {
    if std::env::var_os("SIM_TRACE").is_some() {
        println!("{}", what());
    }
}

/// Whether the servers compare what they hold.
#[cfg(keyferry_planted)]
pub use keyferry_s2s::faults::compares;

/// Whether the servers compare what they hold.
#[cfg(not(keyferry_planted))]
pub fn compares() -> bool {
    true
}

#[cfg_attr(not(keyferry_planted), test)]
fn random_runs() {
    let runs = number("SIM_RUNS").unwrap_or(300);
    let first = number("SIM_SEED").unwrap_or(1);
    let started = Instant::now();
    let mut sum = run::Figures::default();
    for seed in first..first + runs {
        let outcome = std::panic::catch_unwind(|| run::run(seed));
        match outcome {
            Ok(figures) => sum.add(&figures),
            Err(_) => panic!("the run with SIM_SEED={seed} SIM_RUNS=1 failed"),
        }
    }
    println!(
        "{runs} runs in {:.1} s: {sum:?}",
        started.elapsed().as_secs_f64()
    );
    // What never happens proves nothing.
    if runs >= 200 {
        assert!(sum.is_everything(), "{sum:?}");
    }
}
