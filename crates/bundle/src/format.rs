//! The form of manifest and segments, and what is signed.

use crate::error::{Error, ErrorKind, Result};
use crate::hash::sha256;
use crate::key::{SigningKey, VerifyingKey};
use keyferry_kmip::spec::{State, tag};
use keyferry_kmip::{DateTime, Text, context, extension as x};
use keyferry_s2s::Selection;
use keyferry_ttlv::{Context, Decode, Encode, Extra, Frame, Raw, Tag, Tagged, Version, Writer};

/// The format that this build writes, and the only one it reads.
pub const FORMAT: i32 = 1;

/// Segments up to this many bytes are written, and longer ones refused when reading: 17 MiB, so that any object fits that fits a message.
pub const SEGMENT_LIMIT: usize = 17 << 20;

/// A manifest is short, unless its selection lists many objects: 4 MiB hold some 80 000 identifiers.
pub(crate) const MANIFEST_LIMIT: usize = 4 << 20;

/// Manifest, segments and the messages in them are written in KMIP 2.1.
pub(crate) fn form() -> Context {
    let cx = context(Version::V2_1);
    Context {
        limits: keyferry_ttlv::Limits {
            size: SEGMENT_LIMIT,
            ..cx.limits
        },
        ..cx
    }
}

/// What a bundle says about itself, signed.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::BUNDLE_MANIFEST)]
pub struct Manifest {
    /// The version of the format: [`FORMAT`].
    #[ttlv(tag = x::FORMAT_VERSION)]
    pub format: i32,
    /// The id of the key it is signed with.
    #[ttlv(tag = x::SIGNER)]
    pub signer: Vec<u8>,
    /// The server id of the sender.
    #[ttlv(tag = x::SENDER)]
    pub sender: Text,
    /// The instance of the sender.
    #[ttlv(tag = x::SENDER_INSTANCE)]
    pub instance: Vec<u8>,
    /// The server id of the only server that may take it.
    #[ttlv(tag = x::RECIPIENT)]
    pub recipient: Text,
    /// The incarnation of the sender's store.
    #[ttlv(tag = x::INCARNATION)]
    pub incarnation: Vec<u8>,
    /// The head of the sender's feed when the bundle was begun. Everything up to there is in it, as it was then or later.
    #[ttlv(tag = x::POSITION_NUMBER)]
    pub position: i64,
    /// The commit that the position belongs to.
    #[ttlv(tag = x::POSITION_COMMIT)]
    pub commit: Vec<u8>,
    /// Counts the bundles from the sender's store to the recipient, from 1.
    #[ttlv(tag = x::SESSION)]
    pub number: i64,
    /// Which objects, as it was told when the bundle was made.
    pub selection: Selection,
    /// How many objects that was when the bundle was begun. How many are in it, the last segment tells.
    #[ttlv(tag = x::OBJECT_COUNT)]
    pub objects: i64,
    /// When it was begun.
    #[ttlv(tag = x::CREATED)]
    pub created: DateTime,
    /// When nobody takes it any more.
    #[ttlv(tag = x::EXPIRES)]
    pub expires: DateTime,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Manifest {
    /// Fails when the bundle is meant for another server than `server`, or its time is over.
    ///
    /// # Errors
    /// [`ErrorKind::Misdirected`] and [`ErrorKind::Expired`].
    pub fn check(&self, server: &str, now: DateTime) -> Result<()> {
        if self.recipient != *server {
            return Err(Error::new(
                ErrorKind::Misdirected,
                format_args!(
                    "the bundle is meant for the server {:?}, and this is {server:?}",
                    self.recipient
                ),
            ));
        }
        if self.expires <= now {
            return Err(Error::new(
                ErrorKind::Expired,
                format_args!(
                    "the bundle expired {} seconds ago",
                    now.0.saturating_sub(self.expires.0)
                ),
            ));
        }
        Ok(())
    }
}

/// As much of a manifest of any format as is needed for reading the rest.
#[derive(Decode)]
pub(crate) struct Opening {
    #[ttlv(tag = x::FORMAT_VERSION)]
    pub(crate) format: i32,
    #[ttlv(tag = x::SIGNER)]
    pub(crate) signer: Vec<u8>,
    #[ttlv(extra)]
    #[allow(dead_code)]
    pub(crate) rest: Extra,
}

/// A stretch of the sender's feed. The one marked as the last closes the bundle and has no request.
#[derive(Debug, Encode, Decode)]
#[ttlv(tag = x::BUNDLE_SEGMENT)]
pub(crate) struct Segment {
    /// Counts from 1.
    #[ttlv(tag = x::SEGMENT_NUMBER)]
    pub(crate) number: i64,
    /// SHA-256 over everything before it: the sealed manifest and the sealed segments.
    #[ttlv(tag = x::RUNNING_HASH)]
    pub(crate) before: Vec<u8>,
    #[ttlv(tag = x::LAST_SEGMENT)]
    pub(crate) last: bool,
    /// The number in the sender's feed up to which everything is in the bundle.
    #[ttlv(tag = x::CURSOR)]
    pub(crate) cursor: i64,
    /// How many objects there are up to here, its own included.
    #[ttlv(tag = x::OBJECT_COUNT)]
    pub(crate) objects: i64,
    #[ttlv(tag = tag::REQUEST_MESSAGE)]
    pub(crate) request: Option<Raw>,
    /// What the sender knows of the states of its copies beyond their issuers.
    pub(crate) raised: Vec<Raised>,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// A copy whose State the sender has raised by itself. Only its issuer makes it part of the object, when it takes the object back.
#[derive(Clone, Debug, Encode, Decode)]
#[ttlv(tag = x::OVERLAY)]
pub(crate) struct Raised {
    #[ttlv(tag = tag::UNIQUE_IDENTIFIER)]
    pub(crate) identifier: Text,
    #[ttlv(tag = x::LOCAL_STATE)]
    pub(crate) state: State,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// A manifest with its signature.
#[derive(Encode, Decode)]
#[ttlv(tag = x::SEALED_MANIFEST)]
pub(crate) struct SealedManifest {
    #[ttlv(tag = x::BUNDLE_MANIFEST)]
    pub(crate) content: Raw,
    #[ttlv(tag = x::SIGNATURE)]
    pub(crate) signature: Vec<u8>,
}

/// A segment with its signature.
#[derive(Encode, Decode)]
#[ttlv(tag = x::SEALED_SEGMENT)]
pub(crate) struct SealedSegment {
    #[ttlv(tag = x::BUNDLE_SEGMENT)]
    pub(crate) content: Raw,
    #[ttlv(tag = x::SIGNATURE)]
    pub(crate) signature: Vec<u8>,
}

/// `content` under `tag`, with its signature.
pub(crate) fn sealed<T: Encode + Tagged>(tag: Tag, content: &T, key: &SigningKey) -> Result<Frame> {
    let content = keyferry_ttlv::encode(content, form()).map_err(encode)?;
    let mut w = Writer::with_capacity(form(), content.len() + 128);
    w.structure(tag, |w| {
        w.raw(&content);
        w.bytes(x::SIGNATURE, &key.sign(&signed(&content)))
    })
    .map_err(encode)?;
    Ok(w.finish())
}

pub(crate) fn is_signed_by(key: &VerifyingKey, content: &Raw, signature: &[u8]) -> bool {
    key.verifies(&signed(content.bytes()), signature)
}

/// What is signed for a manifest or a segment: our own name in front, so that a key that also signs other things can't be fooled, and
/// the hash of it, so that it need not be copied. Which of the two it is, its own tag says.
fn signed(content: &[u8]) -> Vec<u8> {
    [b"keyferry bundle\0".as_slice(), &sha256(&[content])].concat()
}

pub(crate) fn encode(error: keyferry_ttlv::Error) -> Error {
    Error::new(ErrorKind::Encode, error)
}

/// A count as it is written. None is ever near the end of the range.
pub(crate) fn long(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
