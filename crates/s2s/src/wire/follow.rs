//! What a replica asks and its issuer answers: operations of our own, in messages of KMIP 2.1.

use crate::selection::Selected;
use crate::wire::copy::Copy;
use crate::wire::place::Place;
use keyferry_kmip::spec::{ObjectType, Operation, tag};
use keyferry_kmip::{Failure, Payload, Secret, Text, extension as x};
use keyferry_store::{ObjectId, Stamp};
use keyferry_ttlv::{Decode, Encode, Extra, Version};

/// The operation by which a replica asks for what has changed.
pub const FOLLOW: Operation = Operation(0x8000_4B01);

/// The operation by which a replica gives a restored server back what it has lost.
pub const GIVE_BACK: Operation = Operation(0x8000_4B02);

/// The version in which two keyferry servers speak of these.
pub(crate) const SPOKEN: Version = Version::V2_1;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::REQUEST_PAYLOAD)]
pub(crate) struct FollowRequest {
    #[ttlv(tag = x::RELATION)]
    pub(crate) relation: Text,
    #[ttlv(tag = x::SESSION)]
    pub(crate) session: i64,
    /// The reign of the issuer, as it last told.
    #[ttlv(tag = x::REIGN)]
    pub(crate) reign: Option<Vec<u8>>,
    /// What was committed; without it, what follows the last answer in this session is asked for.
    #[ttlv(tag = x::AFTER)]
    pub(crate) after: Option<Place>,
    /// The head of the issuer's feed, as it last told.
    #[ttlv(tag = x::HEAD)]
    pub(crate) head: Place,
    pub(crate) selected: Selected,
    #[ttlv(tag = x::WITHOUT)]
    pub(crate) without: Vec<Text>,
    /// Whether material is to come with objects that were offered before.
    #[ttlv(tag = x::ANEW)]
    pub(crate) anew: Option<bool>,
    /// What is asked for again, since it could not be taken.
    #[ttlv(tag = x::AGAIN)]
    pub(crate) again: Vec<ObjectId>,
    /// Withdrawals that were carried out.
    pub(crate) done: Vec<Done>,
    /// How often the issuer has noted something of what this one was offered, as it last told.
    #[ttlv(tag = x::OFFERS)]
    pub(crate) offers: i64,
    /// Whether it is going to say, or has begun to, which copies it holds.
    #[ttlv(tag = x::CHECKING)]
    pub(crate) checking: Option<bool>,
    /// Copies that are held here: of those that are not the sender's to have any more, it wants to hear.
    #[ttlv(tag = x::HOLDS)]
    pub(crate) held: Vec<ObjectId>,
    /// Whether what follows the answer may be asked for before it has come.
    #[ttlv(tag = x::MORE)]
    pub(crate) more: Option<bool>,
    #[ttlv(tag = x::MOST_OBJECTS)]
    pub(crate) objects: i32,
    #[ttlv(tag = x::MOST_BYTES)]
    pub(crate) bytes: i32,
    #[ttlv(tag = x::COUNT_FORKED)]
    pub(crate) forked: Option<i64>,
    #[ttlv(tag = x::COUNT_RETRIED)]
    pub(crate) retried: Option<i64>,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// A withdrawal that was carried out.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::WITHDRAWALS)]
pub(crate) struct Done {
    pub(crate) id: ObjectId,
    pub(crate) stamp: Stamp,
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
    /// How the question is answered.
    Answer {
        /// These are the changes.
        CHANGES = 1;
        /// The place is none of this feed, or the selection is another one: to be asked from the beginning.
        START_OVER = 2;
        /// This server has lost something: to be given back what the replica has, then asked from the beginning.
        GIVE_BACK = 3;
        /// Another session has been here: only a later number is answered.
        SUPERSEDED = 4;
        /// Nothing for the time being.
        PAUSED = 5;
        /// This server has started since, and does nothing before it is asked under its reign.
        STARTED = 6;
    }
}

numbers! {
    /// What is told of an object.
    Kind {
        /// It is like this.
        COPY = 1;
        /// It does not belong to the selection any more; what is told is its State.
        WITHDRAWN = 2;
        /// It may not leave as it is: why is told.
        WITHHELD = 3;
        /// What was asked for again is not there, or does not belong to the selection.
        GONE = 4;
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::CHANGE)]
pub(crate) struct Change {
    #[ttlv(tag = x::CHANGE_KIND)]
    pub(crate) kind: Kind,
    /// Its Unique Identifier at the sender.
    #[ttlv(tag = x::LOCAL_IDENTIFIER)]
    pub(crate) identifier: Text,
    pub(crate) object_type: Option<ObjectType>,
    /// Whose it is, which change, and its attributes; of what is gone, its object id alone counts.
    pub(crate) copy: Copy,
    /// The object as stores keep it, when it is new there.
    #[ttlv(tag = x::MATERIAL)]
    pub(crate) material: Option<Secret>,
    /// It was wrapped for the way, and is to be unwrapped.
    #[ttlv(tag = x::WRAPPED)]
    pub(crate) wrapped: Option<bool>,
    #[ttlv(tag = x::WHY)]
    pub(crate) why: Option<Text>,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::RESPONSE_PAYLOAD)]
pub(crate) struct FollowResponse {
    #[ttlv(tag = x::AS_AN_ANSWER)]
    pub(crate) answer: Answer,
    #[ttlv(tag = x::SERVER_ID)]
    pub(crate) server: Text,
    #[ttlv(tag = x::INSTANCE)]
    pub(crate) instance: Vec<u8>,
    #[ttlv(tag = x::REIGN)]
    pub(crate) reign: Vec<u8>,
    /// The number that later sessions must be above.
    #[ttlv(tag = x::SESSION)]
    pub(crate) session: i64,
    /// Where these changes end.
    pub(crate) place: Place,
    /// The head of the feed.
    #[ttlv(tag = x::HEAD)]
    pub(crate) head: Place,
    pub(crate) changes: Vec<Change>,
    /// How often something was noted of what the replica was offered.
    #[ttlv(tag = x::OFFERS)]
    pub(crate) offers: i64,
    /// The replica has gone back behind what it had: it is to say which copies it holds.
    #[ttlv(tag = x::CHECKING)]
    pub(crate) check: Option<bool>,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Payload for FollowResponse {
    const OPERATION: Operation = FOLLOW;
}

/// What a restored server is given back.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::REQUEST_PAYLOAD)]
pub(crate) struct GiveBackRequest {
    #[ttlv(tag = x::RELATION)]
    pub(crate) relation: Text,
    #[ttlv(tag = x::SESSION)]
    pub(crate) session: i64,
    /// The reign of the receiver that asked for it.
    #[ttlv(tag = x::REIGN)]
    pub(crate) reign: Option<Vec<u8>>,
    pub(crate) changes: Vec<Change>,
    /// Whether this is all.
    #[ttlv(tag = x::LAST_PART)]
    pub(crate) last: bool,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Payload for GiveBackRequest {
    const OPERATION: Operation = GIVE_BACK;
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::RESPONSE_PAYLOAD)]
pub(crate) struct GiveBackResponse {
    /// How many objects were taken back, or known already.
    #[ttlv(tag = x::COUNT_UPDATED)]
    pub(crate) taken: i64,
    /// How many were changed on both sides.
    #[ttlv(tag = x::COUNT_FORKED)]
    pub(crate) forked: i64,
    /// How many could not be taken.
    #[ttlv(tag = x::COUNT_FAILED)]
    pub(crate) failed: i64,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Payload for GiveBackResponse {
    const OPERATION: Operation = GIVE_BACK;
}

/// Fails unless the message is of the version in which these are spoken.
pub(crate) fn check_version(version: Version) -> Result<(), Failure> {
    if version == SPOKEN {
        return Ok(());
    }
    Err(Failure::new(
        keyferry_kmip::Cause::OperationNotSupported,
        "servers follow each other in KMIP 2.1",
    ))
}
