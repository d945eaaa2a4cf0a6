//! What the answer to a follower says about all that was told in the relation, so that the follower can compare what it holds.

use keyferry_kmip::extension as x;
use keyferry_ttlv::{Decode, Encode, Extra};

/// What a server says of all that it has told in a relation, up to the head of its feed that the answer names.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::SET_PROOF)]
pub(crate) struct SetProof {
    /// The key of the leaves (16 bytes).
    #[ttlv(tag = x::PROOF_KEY)]
    pub(crate) key: Vec<u8>,
    /// The sum of the leaves' keyed hashes, modulo 2^256 (32 bytes, the lowest first), where the answer reaches the head and the server has them all.
    #[ttlv(tag = x::PROOF)]
    pub(crate) sum: Option<Vec<u8>>,
    /// How many leaves there are.
    #[ttlv(tag = x::OBJECT_COUNT)]
    pub(crate) count: Option<i64>,
    /// The cells of the sketch that were asked for.
    #[ttlv(tag = x::SKETCH)]
    pub(crate) cells: Option<Vec<u8>>,
    /// Which of them is the first, if it is not that of the sketch.
    #[ttlv(tag = x::SKETCH_FROM)]
    pub(crate) cells_from: Option<i32>,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}
