use crate::Put;
use sha2::{Digest, Sha256};
use std::fmt;

/// What a store's history was up to one commit: a hash chain, so that two copies of a store that went different
/// ways never agree on it again, and that no randomness is needed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub [u8; 16]);

impl CommitId {
    /// The id of the empty history.
    pub const ZERO: CommitId = CommitId([0; 16]);

    /// The id after one more commit with these puts, in this order. A commit without puts (state only) does not change it.
    pub fn next<'a>(self, puts: impl IntoIterator<Item = &'a Put<'a>>) -> CommitId {
        let mut chain = Chain::after(self);
        for put in puts {
            chain.add(put);
        }
        chain.finish()
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CommitId(")?;
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// [`CommitId::next`] in steps, for a backend that meets the puts of one commit one call at a time.
#[derive(Clone)]
pub struct Chain {
    before: CommitId,
    hash: Sha256,
    empty: bool,
}

impl Chain {
    /// A chain whose last commit is `before`.
    pub fn after(before: CommitId) -> Chain {
        let mut hash = Sha256::new();
        hash.update(before.0);
        Chain {
            before,
            hash,
            empty: true,
        }
    }

    /// Adds one put of the commit under way.
    pub fn add(&mut self, put: &Put<'_>) {
        self.empty = false;
        for part in [put.id, put.attributes, put.entry] {
            self.hash.update((part.len() as u64).to_be_bytes());
            self.hash.update(part);
        }
    }

    /// The id of the commit.
    pub fn finish(self) -> CommitId {
        if self.empty {
            return self.before;
        }
        let digest = self.hash.finalize();
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(digest.iter()) {
            *to = *from;
        }
        CommitId(id)
    }
}
