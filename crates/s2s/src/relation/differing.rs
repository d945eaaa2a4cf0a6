//! Copies that are not held here as the server that is followed has told them, with what it has told ([rule 17](crate::design#rule-17)). The two servers
//! compare what was told with what is held, and these do not spoil the comparison.

use crate::compare::leaf::CopySum;
use crate::error::Result;
use crate::relation::keys::differing_prefix;
use crate::relation::stored;
use keyferry_kmip::{DateTime, extension as x};
use keyferry_store::{ObjectId, Snapshot, Stamp};
use keyferry_ttlv::{Decode, Encode, Extra};

/// An object that is not held here as the server that is followed has told it: it was refused, it is withheld, it was changed on both sides, another
/// relation has brought more of it, or that server has it no more.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::DIFFERING)]
#[non_exhaustive]
pub struct DifferingCopy {
    /// The object.
    pub id: ObjectId,
    /// The change that was told; `None` where that server said that it does not have the object, or not for this one.
    pub stamp: Option<Stamp>,
    /// The digest of the copy that was told.
    #[ttlv(tag = x::DIGEST_VALUE)]
    pub digest: Option<Vec<u8>>,
    /// Since when it differs.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl DifferingCopy {
    /// The copies of one relation that differ from what was told, as many as [`Limits::differing`](crate::Limits::differing) keeps.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<DifferingCopy>> {
        stored::all_under(snapshot, &differing_prefix(relation), "differing copy")
    }

    /// What the comparison counts for the object.
    pub(crate) fn sum(&self) -> Option<CopySum> {
        let stamp = self.stamp.as_ref()?;
        let digest = self.digest.as_deref().unwrap_or_default();
        Some(CopySum::of(stamp, digest))
    }
}
