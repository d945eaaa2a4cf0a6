//! The two operations by which a replica follows its issuer: Follow asks for changes, Give Back returns what a restored issuer lost. They are
//! private operations in messages of KMIP 2.1.

use crate::selection::Selected;
use crate::wire::copy::Copy;
use crate::wire::place::Place;
use crate::wire::proof::SetProof;
use crate::wire::terms::Terms;
use keyferry_kmip::spec::{ObjectType, Operation, State, tag};
use keyferry_kmip::{DateTime, Failure, Payload, RevocationReason, Secret, Text, extension as x};
use keyferry_store::{ObjectId, Stamp};
use keyferry_ttlv::{Decode, Encode, Extra, Version};

/// The operation by which a replica asks its issuer for changes.
pub const FOLLOW: Operation = Operation(0x8000_4B01);

/// The operation by which a replica gives a restored issuer back what it has lost.
pub const GIVE_BACK: Operation = Operation(0x8000_4B02);

/// The KMIP version of the messages with these operations.
pub(crate) const SPOKEN: Version = Version::V2_1;

/// The request of a replica for changes.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::REQUEST_PAYLOAD)]
pub(crate) struct FollowRequest {
    /// The name of the relation.
    #[ttlv(tag = x::RELATION)]
    pub(crate) relation: Text,
    /// The number of the replica's session. The issuer refuses requests of earlier sessions.
    #[ttlv(tag = x::SESSION)]
    pub(crate) session: i64,
    /// The reign of the issuer, by its last answer.
    #[ttlv(tag = x::REIGN)]
    pub(crate) reign: Option<Vec<u8>>,
    /// The place up to which the replica has committed the feed. Without it, the issuer continues behind its last answer in this session.
    #[ttlv(tag = x::AFTER)]
    pub(crate) after: Option<Place>,
    /// The head of the issuer's feed, by its last answer.
    #[ttlv(tag = x::HEAD)]
    pub(crate) head: Place,
    /// Which objects the replica follows.
    pub(crate) selected: Selected,
    /// Attributes, by name, that the issuer is to leave out.
    #[ttlv(tag = x::WITHOUT)]
    pub(crate) without: Vec<Text>,
    /// Whether objects that were offered before come with their material, too.
    #[ttlv(tag = x::ANEW)]
    pub(crate) anew: Option<bool>,
    /// Objects that are asked for again, since they could not be applied.
    #[ttlv(tag = x::AGAIN)]
    pub(crate) again: Vec<ObjectId>,
    /// The withdrawals that the replica has carried out.
    pub(crate) done: Vec<Done>,
    /// How often the issuer has noted what the replica was offered, by its last answer.
    #[ttlv(tag = x::OFFERS)]
    pub(crate) offers: i64,
    /// Whether the replica is about to report, or is reporting, which copies it holds.
    #[ttlv(tag = x::CHECKING)]
    pub(crate) checking: Option<bool>,
    /// The terms by the policy of the replica, which the issuer compares with its own.
    pub(crate) terms: Option<Terms>,
    /// Copies that the replica holds. The issuer answers for those that the replica may not have any more.
    pub(crate) held: Vec<HeldCopy>,
    /// Objects that the replica lacks, or has otherwise than it was told, by the tags of their leaves (8 bytes each).
    #[ttlv(tag = x::WANTED)]
    pub(crate) wanted: Vec<Vec<u8>>,
    /// Up to which cell of the sketch of all that was told the replica asks for it.
    #[ttlv(tag = x::SKETCH_CELLS)]
    pub(crate) cells: Option<i32>,
    /// From which cell on, if the head of the feed is still the one that the question names; else from the first on.
    #[ttlv(tag = x::SKETCH_FROM)]
    pub(crate) cells_from: Option<i32>,
    /// Whether the replica may send the next request before the answer has come.
    #[ttlv(tag = x::MORE)]
    pub(crate) more: Option<bool>,
    /// How many objects the answer may have.
    #[ttlv(tag = x::MOST_OBJECTS)]
    pub(crate) objects: i32,
    /// About how many bytes the answer may have.
    #[ttlv(tag = x::MOST_BYTES)]
    pub(crate) bytes: i32,
    /// What was revoked at the replica in an emergency, and the issuer has not told as Compromised yet.
    pub(crate) raised: Vec<RaisedCopy>,
    /// The replica's wall time.
    #[ttlv(tag = x::WALL_TIME)]
    pub(crate) time: Option<DateTime>,
    /// How many forks the replica has.
    #[ttlv(tag = x::COUNT_FORKED)]
    pub(crate) forked: Option<i64>,
    /// How many objects the replica could not apply.
    #[ttlv(tag = x::COUNT_RETRIED)]
    pub(crate) retried: Option<i64>,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// A copy that a replica says it holds.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::CLAIM)]
pub(crate) struct HeldCopy {
    /// The object.
    pub(crate) id: ObjectId,
    /// The change of it that is held.
    pub(crate) stamp: Stamp,
    /// The proof of the receipt that the asked server gave for the copy, where there is one: without it, the asked server believes only what it
    /// has noted itself.
    #[ttlv(tag = x::PROOF)]
    pub(crate) proof: Option<Vec<u8>>,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// A copy that was revoked at a replica for a compromise.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::EMERGENCY_REVOKE)]
pub(crate) struct RaisedCopy {
    /// The object.
    pub(crate) id: ObjectId,
    /// The change of it that is held.
    pub(crate) stamp: Stamp,
    /// The proof of the receipt that the asked server gave for the copy, where there is one.
    #[ttlv(tag = x::PROOF)]
    pub(crate) proof: Option<Vec<u8>>,
    /// When it was revoked.
    #[ttlv(tag = x::SINCE)]
    pub(crate) at: DateTime,
    /// The Revocation Reason.
    pub(crate) reason: RevocationReason,
    /// The Compromise Occurrence Date, if it was given.
    #[ttlv(tag = tag::COMPROMISE_OCCURRENCE_DATE)]
    pub(crate) occurrence: Option<DateTime>,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// A withdrawal that a replica has carried out.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::WITHDRAWALS)]
pub(crate) struct Done {
    /// The object.
    pub(crate) id: ObjectId,
    /// The change in which it left the selection.
    pub(crate) stamp: Stamp,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// On which way a server hears of the objects of another one. No server believes a way that leads over itself, so that no circle of replicas keeps
/// itself ([rule 17](crate::design#rule-17)).
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::KEEPS)]
pub(crate) struct KeptPath {
    /// The servers on the way, from the one that is followed to the issuer of the objects.
    #[ttlv(tag = x::SERVER_ID)]
    pub(crate) servers: Vec<Text>,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Payload for FollowRequest {
    const OPERATION: Operation = FOLLOW;
}

macro_rules! numbers {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $id:ident = $number:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) u32);

        impl $name {
            $($(#[$doc])* pub(crate) const $id: $name = $name($number);)*
        }

        impl Decode for $name {
            fn decode<'a>(item: keyferry_ttlv::Item<'a>, r: &keyferry_ttlv::Reader<'a>) -> keyferry_ttlv::Result<Self> {
                item.enumeration(r).map($name)
            }
        }

        impl Encode for $name {
            fn encode(&self, tag: keyferry_ttlv::Tag, w: &mut keyferry_ttlv::Writer) -> keyferry_ttlv::Result<()> {
                w.enumeration(tag, self.0);
                Ok(())
            }
        }
    };
}

numbers! {
    /// The kind of answer to a request for changes.
    Answer {
        /// The changes follow.
        CHANGES = 1;
        /// The place does not belong to this feed, or the selection has changed: the replica asks from the beginning of the feed.
        START_OVER = 2;
        /// The issuer has lost something: the replica gives back what it holds, then asks from the beginning of the feed.
        GIVE_BACK = 3;
        /// A later session exists: only a session with a higher number is answered.
        SUPERSEDED = 4;
        /// The relation is paused.
        PAUSED = 5;
        /// The issuer has started since: it answers only requests that name its current reign.
        STARTED = 6;
        /// The issuer has ended the relation: the copies stay where they are, and nobody keeps them true any more.
        ENDED = 7;
    }
}

numbers! {
    /// What a change says about an object.
    Kind {
        /// The object is as this copy says.
        COPY = 1;
        /// The object does not belong to the selection any more; the change carries its State.
        WITHDRAWN = 2;
        /// The object may not be sent as it is; the change carries the reason.
        WITHHELD = 3;
        /// The object that was asked for again does not exist, or does not belong to the selection.
        GONE = 4;
        /// The relay holds the object as the replica does, or will, and nobody keeps it true there.
        UNKEPT = 5;
        /// The object was sent to the replica beside the relation (by a push, a bundle, a relation that ended), and is deactivated, compromised or
        /// destroyed by now; the change carries its State.
        ENDED = 6;
    }
}

impl Kind {
    /// Whether the change tells how an object stands at the sender, so that it counts when what was told is compared
    /// ([rule 17](crate::design#rule-17)).
    pub(crate) fn tells_of_a_copy(self) -> bool {
        matches!(self, Kind::COPY | Kind::WITHHELD)
    }
}

/// One object in an answer, or in what is given back.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::CHANGE)]
pub(crate) struct Change {
    /// What is said about it.
    #[ttlv(tag = x::CHANGE_KIND)]
    pub(crate) kind: Kind,
    /// Its Unique Identifier at the sender.
    #[ttlv(tag = x::LOCAL_IDENTIFIER)]
    pub(crate) identifier: Text,
    /// Its Object Type.
    pub(crate) object_type: Option<ObjectType>,
    /// Its object id, the change, and its attributes. Of an object that is gone, only the object id counts.
    pub(crate) copy: Copy,
    /// The object as stores keep it, if it is new to the receiver.
    #[ttlv(tag = x::MATERIAL)]
    pub(crate) material: Option<Secret>,
    /// Whether the material was wrapped for the way, so that the receiver unwraps it.
    #[ttlv(tag = x::WRAPPED)]
    pub(crate) wrapped: Option<bool>,
    /// The State that the sender has raised the object to, where that is above the copy's own.
    #[ttlv(tag = x::LOCAL_STATE)]
    pub(crate) raised: Option<State>,
    /// Why the object is withheld.
    #[ttlv(tag = x::WHY)]
    pub(crate) why: Option<Text>,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// The answer to a request for changes.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::RESPONSE_PAYLOAD)]
pub(crate) struct FollowResponse {
    /// The kind of answer.
    #[ttlv(tag = x::AS_AN_ANSWER)]
    pub(crate) answer: Answer,
    /// The server id of the issuer.
    #[ttlv(tag = x::SERVER_ID)]
    pub(crate) server: Text,
    /// The instance of the issuer.
    #[ttlv(tag = x::INSTANCE)]
    pub(crate) instance: Vec<u8>,
    /// The current reign of the issuer.
    #[ttlv(tag = x::REIGN)]
    pub(crate) reign: Vec<u8>,
    /// The number of the session. Later sessions need a higher one.
    #[ttlv(tag = x::SESSION)]
    pub(crate) session: i64,
    /// The number of the feed's last entry before these changes: where the answer before ended, or the replica was.
    #[ttlv(tag = x::SENT)]
    pub(crate) behind: Option<i64>,
    /// The place in the feed where these changes end.
    pub(crate) place: Place,
    /// The head of the feed.
    #[ttlv(tag = x::HEAD)]
    pub(crate) head: Place,
    /// The changes.
    pub(crate) changes: Vec<Change>,
    /// The terms by the policy of the issuer, where the replica has told its own.
    pub(crate) terms: Option<Terms>,
    /// How often the issuer has noted what the replica was offered.
    #[ttlv(tag = x::OFFERS)]
    pub(crate) offers: i64,
    /// Whether the replica was found to be a copy of an older moment: then it reports which copies it holds.
    #[ttlv(tag = x::CHECKING)]
    pub(crate) check: Option<bool>,
    /// The issuer's wall time.
    #[ttlv(tag = x::WALL_TIME)]
    pub(crate) time: Option<DateTime>,
    /// The servers whose objects the issuer passes on and hears of itself, and on which way.
    pub(crate) keeps: Vec<KeptPath>,
    /// What the issuer has told in this relation, where the changes end at the head.
    pub(crate) proof: Option<SetProof>,
    /// The objects whose records have rotted at the issuer, and that the replica was sent: it may give them back.
    pub(crate) wanted_back: Vec<ObjectId>,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Payload for FollowResponse {
    const OPERATION: Operation = FOLLOW;
}

/// The request by which a replica gives objects back to a server that was restored, or whose records have rotted.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::REQUEST_PAYLOAD)]
pub(crate) struct GiveBackRequest {
    /// The name of the relation.
    #[ttlv(tag = x::RELATION)]
    pub(crate) relation: Text,
    /// The number of the replica's session.
    #[ttlv(tag = x::SESSION)]
    pub(crate) session: i64,
    /// The reign of the restored server in which it asked for them.
    #[ttlv(tag = x::REIGN)]
    pub(crate) reign: Option<Vec<u8>>,
    /// The objects.
    pub(crate) changes: Vec<Change>,
    /// Whether this is the last part.
    #[ttlv(tag = x::LAST_PART)]
    pub(crate) last: bool,
    /// Whether the objects are given back because their records have rotted; otherwise, because the server was restored.
    #[ttlv(tag = x::MENDS)]
    pub(crate) mends: Option<bool>,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Payload for GiveBackRequest {
    const OPERATION: Operation = GIVE_BACK;
}

/// The answer of the restored server.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::RESPONSE_PAYLOAD)]
pub(crate) struct GiveBackResponse {
    /// How many objects were accepted, or known already.
    #[ttlv(tag = x::COUNT_UPDATED)]
    pub(crate) taken: i64,
    /// How many objects were changed on both sides.
    #[ttlv(tag = x::COUNT_FORKED)]
    pub(crate) forked: i64,
    /// How many objects could not be accepted.
    #[ttlv(tag = x::COUNT_FAILED)]
    pub(crate) failed: i64,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Payload for GiveBackResponse {
    const OPERATION: Operation = GIVE_BACK;
}

/// Checks that the message is of the version of these operations.
pub(crate) fn check_version(version: Version) -> Result<(), Failure> {
    if version == SPOKEN {
        return Ok(());
    }
    Err(Failure::new(
        keyferry_kmip::Cause::OperationNotSupported,
        "servers follow each other in KMIP 2.1",
    ))
}
