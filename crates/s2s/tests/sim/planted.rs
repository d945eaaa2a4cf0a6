//! Deliberate faults, each of which the suite has to find. The table says what found it.
//!
//! | fault | found by |
//! |---|---|
//! | TombstoneSkipped | history: another server's object 1 |
//! | TombstoneEverywhere | random run 2 |
//! | NotWithdrawn | history: one shop and another |
//! | WithdrawnKeepsMaterial | history: one shop and another |
//! | WithdrawnForgetsState | history: one shop and another |
//! | WithdrawnFromAllRelations | random run 144 |
//! | AckTakenBlindly | history: a late acknowledgement |
//! | RetryForgotten | history: a change and the next one |
//! | RetryNeverDue | history: a change and the next one |
//! | PlaceIsHead | history: names that move |
//! | HeadForgotten | history: an entry that comes back |
//! | IncarnationIsEnough | history: a master restored below its replica |
//! | RevivedSessionAnswered | history: a session back to life |
//! | ForkOverwrites | history: a master restored below its replica |
//! | ForkUnnamed | history: a master restored below its replica |
//! | OlderApplies | random run 6 |
//! | StateFollowsTheCopy | random run 50 |
//! | CompromiseNotRecognised | history: compromised material |
//! | TwinsStayAsTheyAre | history: twins |
//! | EmergencyForgotten | history: an emergency |
//! | AnyPeerRevokes | history: an emergency |
//! | OtherMaterialTaken | history: other material |
//! | LineageForgotten | history: a master restored below its replica |
//! | ReignForgotten | random run 17 |
//! | RestoredForgetsPeers | history: a master restored below its replica |
//! | UntoldUnnoticed | history: a master restored below its replica |
//! | WritesWhileOwed | history: a master restored below its replica |
//! | GivenBackOverwrites | history: an older copy given back |
//! | UntakenUnnamed | history: not taken back |
//! | NothingChecked | history: a master restored below its replica |
//! | ChecksNeverAsked | random run 415 |
//! | OfferedNotStored | history: another server's object 1 |
//! | AgainWithoutMaterial | history: a change and the next one |
//! | SelectionChangeUnnoticed | random run 2 |
//! | DerivedStateCounts | history: a date that passes |
//! | DecisionKeepsOneLine | history: a master restored below its replica |
//! | GoneIsWithdrawn | history: an emptied master |
//! | InstanceIgnored | history: an emptied master |
//! | CommitAfterAnswer | history: a master restored below its replica |
//! | PokeUnheard | random run 1 |
//! | LostPokeCounts | random run 20 |
//! | NotTurnedBack | random run 1 |
//!
//! Random runs change with the simulation; the test prints the table of the day.

use crate::{histories, hostile, run};
use keyferry_s2s::faults::{ALL, Bug, plant};
use std::num::NonZero;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Random runs that a fault may take to show.
const RUNS: u64 = 3000;

/// Whether a fault lets somebody say what is another's to say.
fn is_of_authority(bug: Bug) -> bool {
    matches!(
        bug,
        Bug::AnyIssuerTaken
            | Bug::AnyOriginTaken
            | Bug::ReceiptUnchecked
            | Bug::PlaceBelieved
            | Bug::ClaimBelieved
            | Bug::AnyTwinCounts
    )
}

fn finds(bug: Bug) -> Option<String> {
    plant(Some(bug));
    let history = histories::ALL
        .iter()
        .find(|(_, history)| catch_unwind(history).is_err());
    let first = |ends_well: fn(u64) -> bool, what: &str| {
        let seed = (1..=RUNS).find(|seed| !ends_well(*seed));
        seed.map(|seed| format!("{what} run {seed}"))
    };
    let random = |seed| catch_unwind(|| run::run(seed)).is_ok();
    let found = match history {
        Some((name, _)) => Some(format!("history: {name}")),
        // What only a liar makes use of shows in the company of one.
        None if is_of_authority(bug) => first(hostile::ends_well, "hostile"),
        None => first(random, "random"),
    };
    plant(None);
    found
}

#[test]
fn every_planted_fault_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    // A fault is planted for one thread.
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                while let Some(bug) = ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let by = finds(*bug);
                    found.lock().unwrap().push((*bug, by));
                }
            });
        }
    });
    let mut found: Vec<(Bug, Option<String>)> = found.into_inner().unwrap();
    found.sort_by_key(|(bug, _)| ALL.iter().position(|other| other == bug));
    drop(std::panic::take_hook());
    for (bug, by) in &found {
        println!("| {bug:?} | {} |", by.as_deref().unwrap_or("NOT FOUND"));
    }
    assert!(ALL.len() >= 25 && found.iter().all(|(_, by)| by.is_some()));
}
