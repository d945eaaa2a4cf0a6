//! Deliberate faults, each of which the suite has to find. The table says what found it.

use crate::{histories, run};
use keyferry_s2s::planted::{ALL, Bug, plant};
use std::panic::catch_unwind;

/// Random runs that a fault may take to show.
const RUNS: u64 = 3000;

fn finds(bug: Bug) -> Option<String> {
    plant(Some(bug));
    let history = histories::ALL.iter().find(|(_, history)| catch_unwind(history).is_err());
    let found = match history {
        Some((name, _)) => Some(format!("history: {name}")),
        None => (1..=RUNS).find(|seed| catch_unwind(|| run::run(*seed)).is_err()).map(|seed| format!("random run {seed}")),
    };
    plant(None);
    found
}

#[test]
fn every_planted_fault_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let found: Vec<(Bug, Option<String>)> = ALL.iter().map(|bug| (*bug, finds(*bug))).collect();
    drop(std::panic::take_hook());
    for (bug, by) in &found {
        println!("| {bug:?} | {} |", by.as_deref().unwrap_or("NOT FOUND"));
    }
    assert!(ALL.len() >= 25 && found.iter().all(|(_, by)| by.is_some()));
}
