//! This module computes commit ids: the hash chain over all commits of a store.

use crate::contract::Put;
use crate::position::CommitId;
use sha2::{Digest, Sha256};

impl CommitId {
    /// The id after one more commit that consists of these puts, in this order. A commit without puts (of state alone) does
    /// not change the id.
    pub fn next<'a>(self, puts: impl IntoIterator<Item = &'a Put<'a>>) -> CommitId {
        let mut chain = Chain::after(self);
        for put in puts {
            chain.add(put);
        }
        chain.finish()
    }
}

/// [`CommitId::next`] in steps, for a backend that receives the puts of one commit in several calls.
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
