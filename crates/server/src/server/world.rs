//! This module is the view of the store that the items of a message share, with what they have changed so far.

use crate::error::Error;
use keyferry_store::{Deferred, Effects, Snapshot};

/// Where the items of a message read and, when they have effects, write.
pub(super) enum World<'a, 't> {
    Read(&'a dyn Snapshot),
    /// And whether the head of the feed moves.
    Write(Deferred<'a, 't>, bool),
}

impl World<'_, '_> {
    pub(super) fn snapshot(&self) -> &dyn Snapshot {
        match self {
            World::Read(snapshot) => *snapshot,
            World::Write(deferred, _) => deferred,
        }
    }

    /// Adds the effects of an item.
    ///
    /// # Errors
    /// [`Error::Misplaced`] when there are effects and this is for reading.
    pub(super) fn apply(&mut self, effects: Effects) -> Result<(), Error> {
        match self {
            _ if effects.is_empty() => Ok(()),
            World::Write(deferred, moves) => {
                *moves |= !effects.changes.is_empty() || effects.restored.is_some();
                Ok(deferred.add(effects)?)
            }
            World::Read(_) => Err(Error::Misplaced),
        }
    }

    /// Applies what is left, and returns whether the head of the feed moves.
    pub(super) fn finish(self) -> Result<bool, Error> {
        match self {
            World::Write(deferred, moves) => Ok(deferred.finish().map(|()| moves)?),
            World::Read(_) => Ok(false),
        }
    }
}
