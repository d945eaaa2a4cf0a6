//! The limits of what this server keeps of what peers send it, each with its default.

use keyferry_kmip::{Cause, Failure, Text};
use keyferry_store::Lineage;

/// How much a server keeps and carries. Each limit is named by the error of what exceeds it.
///
/// A limit stops a single object, which is named as refused or as to be tried again; only [`retries`](Limits::retries) stops a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of the object id of a copy that comes in, and of the name of a relation (4096).
    pub name_bytes: usize,
    /// Reigns in the lineage of a copy that comes in (4096, and never more).
    pub reigns: usize,
    /// Undecided forks of one object (16).
    pub forks: usize,
    /// Objects of one relation that could not be taken and are asked for again (10 000). A relation with more of them stops.
    pub retries: usize,
    /// Objects of one peer that could not be taken back and are kept by name (1000). More are counted alone.
    pub failed_give_backs: usize,
    /// Refused copies of one peer that learns nothing, which are kept by name (1000). More are counted alone.
    pub refused_copies: usize,
    /// Relations that one peer may have (32).
    pub relations: usize,
    /// Objects that one question of a follower names: those asked for again, those withdrawn, those held (1000 of each).
    pub named_objects: usize,
    /// Objects with the material of one compromised object that are raised at once, and such objects of other issuers that are kept by name (1000
    /// of each). More are counted by an alarm.
    pub twins: usize,
    /// Bytes of one object with its attributes in an answer to a follower (15 MiB). What is larger is withheld.
    pub copy_bytes: usize,
    /// Bytes of one object with its attributes that a client may bring or bring about (14 MiB). It stays below
    /// [`copy_bytes`](Limits::copy_bytes), so that the object can be sent on after many starts of this server, wrapped and relayed.
    pub object_bytes: usize,
    /// Copies of one relation that are not held as they were told, and are kept by name (10 000). While there are more, the relation is not compared.
    pub differing: usize,
    /// Records that were found rotten and are kept by name (10 000). More are found by a later pass, when these are right again.
    pub rotten: usize,
    /// Objects withheld from one relation, which are listed by name (1000).
    pub withheld_objects: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            name_bytes: 4096,
            reigns: Lineage::MOST,
            forks: 16,
            retries: 10_000,
            failed_give_backs: 1000,
            refused_copies: 1000,
            relations: 32,
            named_objects: 1000,
            twins: 1000,
            copy_bytes: 15 << 20,
            object_bytes: 14 << 20,
            differing: 10_000,
            rotten: 10_000,
            withheld_objects: 1000,
        }
    }
}

/// The most bytes of a reason that is kept with an object.
const REASON_BYTES: usize = 400;

/// A reason, short enough to be kept for each of many objects: it may repeat what a peer has sent.
pub(crate) fn short(reason: &str) -> Text {
    let mut end = reason.len().min(REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default().into()
}

/// The failure of what exceeds a limit, which it names.
pub(crate) fn exceeded(limit: &str, most: usize) -> Failure {
    Failure::new(
        Cause::ServerLimit,
        format_args!("more than {most} {limit}: the limit of this server"),
    )
}
