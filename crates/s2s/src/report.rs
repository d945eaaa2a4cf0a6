use keyferry_kmip::extension as x;
use keyferry_ttlv::{Decode, Encode, Extra};

/// What became of a transfer. Counts cover the whole transfer, however often it was interrupted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The counts.
    pub counts: Counts,
    /// The first of what failed, with the reasons; [`Counts::failed`] says how many there are.
    pub failures: Vec<FailedObject>,
    /// The first of the attributes that could not be carried; [`Counts::lost`] says how many there are.
    pub losses: Vec<Loss>,
}

/// What an object that went over lost on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Its Unique Identifier here.
    pub identifier: String,
    /// The attributes, by name.
    pub attributes: Vec<String>,
}

/// An object that was not transferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedObject {
    /// Its Unique Identifier here.
    pub identifier: String,
    /// The peer's Result Reason, where it gave one.
    pub reason: Option<keyferry_kmip::spec::ResultReason>,
    /// Why, in words.
    pub message: String,
}

/// How many objects ended how. `created + updated + unchanged + failed` is `asked`, once a transfer has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[ttlv(tag = x::PROGRESS)]
pub struct Counts {
    /// Where the transfer stands in our feed.
    #[ttlv(tag = x::CURSOR)]
    pub cursor: i64,
    /// Counts the transfers under this name.
    #[ttlv(tag = x::SESSION)]
    pub session: i64,
    /// Whether it came to its end.
    #[ttlv(tag = x::FINISHED)]
    pub finished: bool,
    /// Objects that were to go over.
    #[ttlv(tag = x::COUNT_ASKED)]
    pub asked: i64,
    /// New there.
    #[ttlv(tag = x::COUNT_CREATED)]
    pub created: i64,
    /// Brought up to date there.
    #[ttlv(tag = x::COUNT_UPDATED)]
    pub updated: i64,
    /// The same there already.
    #[ttlv(tag = x::COUNT_UNCHANGED)]
    pub unchanged: i64,
    /// Not taken.
    #[ttlv(tag = x::COUNT_FAILED)]
    pub failed: i64,
    /// Bytes of requests sent.
    #[ttlv(tag = x::COUNT_BYTES)]
    pub bytes: i64,
    /// The incarnation of our store that the cursor belongs to.
    #[ttlv(tag = x::INCARNATION)]
    pub incarnation: Vec<u8>,
    /// The incarnation of the peer's store, where it told: what another one was sent says nothing about this one.
    #[ttlv(tag = x::PEER_INCARNATION)]
    pub peer: Option<Vec<u8>>,
    /// Attributes of objects that went over, which the peer or the version could not carry.
    #[ttlv(tag = x::COUNT_LOST)]
    pub lost: Option<i64>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Counts {
    /// Whether everything that was asked for has an ending.
    pub fn add_up(&self) -> bool {
        self.created + self.updated + self.unchanged + self.failed == self.asked
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let c = &self.counts;
        write!(
            f,
            "asked {}, created {}, updated {}, unchanged {}, failed {}",
            c.asked, c.created, c.updated, c.unchanged, c.failed
        )
    }
}
