//! The faults that the simulation can put into the engine, to see that it finds them. Only this package's own build compiles them.

#![allow(missing_docs)]

/// A deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    TombstoneSkipped,
    TombstoneEverywhere,
    NotWithdrawn,
    WithdrawnKeepsMaterial,
    WithdrawnForgetsState,
    WithdrawnFromAllRelations,
    RelaysOutlastIssuer,
    NothingCompared,
    DifferenceUnlisted,
    RotCounts,
    AckTakenBlindly,
    RetryForgotten,
    RetryNeverDue,
    PlaceIsHead,
    HeadForgotten,
    IncarnationIsEnough,
    RevivedSessionAnswered,
    ForkOverwrites,
    ForkUnnamed,
    OlderApplies,
    StateFollowsTheCopy,
    CompromiseNotRecognised,
    TwinsStayAsTheyAre,
    EmergencyForgotten,
    AnyPeerRevokes,
    OtherMaterialTaken,
    LineageForgotten,
    ReignForgotten,
    RestoredForgetsPeers,
    UntoldUnnoticed,
    WritesWhileOwed,
    GivenBackOverwrites,
    UntakenUnnamed,
    NothingChecked,
    ChecksNeverAsked,
    OfferedNotStored,
    AgainWithoutMaterial,
    SelectionChangeUnnoticed,
    DerivedStateCounts,
    DecisionKeepsOneLine,
    GoneIsWithdrawn,
    InstanceIgnored,
    CommitAfterAnswer,
    PokeUnheard,
    LostPokeCounts,
    NotTurnedBack,
    ReignUnasked,
    AnyIssuerTaken,
    AnyOriginTaken,
    ReceiptUnchecked,
    PlaceBelieved,
    ClaimBelieved,
    EndedForgotten,
    RelayWithdrawsAnything,
    AnyTwinCounts,
    GapTaken,
}

pub const ALL: &[Bug] = &[
    Bug::TombstoneSkipped,
    Bug::TombstoneEverywhere,
    Bug::NotWithdrawn,
    Bug::WithdrawnKeepsMaterial,
    Bug::WithdrawnForgetsState,
    Bug::WithdrawnFromAllRelations,
    Bug::RelaysOutlastIssuer,
    Bug::NothingCompared,
    Bug::DifferenceUnlisted,
    Bug::RotCounts,
    Bug::AckTakenBlindly,
    Bug::RetryForgotten,
    Bug::RetryNeverDue,
    Bug::PlaceIsHead,
    Bug::HeadForgotten,
    Bug::IncarnationIsEnough,
    Bug::RevivedSessionAnswered,
    Bug::ForkOverwrites,
    Bug::ForkUnnamed,
    Bug::OlderApplies,
    Bug::StateFollowsTheCopy,
    Bug::CompromiseNotRecognised,
    Bug::TwinsStayAsTheyAre,
    Bug::EmergencyForgotten,
    Bug::AnyPeerRevokes,
    Bug::OtherMaterialTaken,
    Bug::LineageForgotten,
    Bug::ReignForgotten,
    Bug::RestoredForgetsPeers,
    Bug::UntoldUnnoticed,
    Bug::WritesWhileOwed,
    Bug::GivenBackOverwrites,
    Bug::UntakenUnnamed,
    Bug::NothingChecked,
    Bug::ChecksNeverAsked,
    Bug::OfferedNotStored,
    Bug::AgainWithoutMaterial,
    Bug::SelectionChangeUnnoticed,
    Bug::DerivedStateCounts,
    Bug::DecisionKeepsOneLine,
    Bug::GoneIsWithdrawn,
    Bug::InstanceIgnored,
    Bug::CommitAfterAnswer,
    Bug::PokeUnheard,
    Bug::LostPokeCounts,
    Bug::NotTurnedBack,
    Bug::ReignUnasked,
    Bug::AnyIssuerTaken,
    Bug::AnyOriginTaken,
    Bug::ReceiptUnchecked,
    Bug::PlaceBelieved,
    Bug::ClaimBelieved,
    Bug::EndedForgotten,
    Bug::RelayWithdrawsAnything,
    Bug::AnyTwinCounts,
    Bug::GapTaken,
];

thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Puts a fault in for this thread, or takes it out.
pub fn plant(bug: Option<Bug>) {
    PLANTED.with(|planted| planted.set(bug));
}

/// Whether this fault is in.
pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.with(|planted| planted.get() == Some(bug))
}

/// Whether the servers compare what they hold. They would heal what most of the other faults do, so it is left off for those.
pub fn compares() -> bool {
    let of_comparison = [
        Bug::NothingCompared,
        Bug::DifferenceUnlisted,
        Bug::RotCounts,
        Bug::RelaysOutlastIssuer,
    ];
    !ALL.iter().any(|bug| is_planted(*bug)) || of_comparison.into_iter().any(is_planted)
}
