//! Copies that were refused while their sender was answered as if they had been taken, because it learns nothing
//! ([rule C](crate::design#rule-c)).

use crate::ask::Ask;
use crate::error::Result;
use crate::limits::short;
use crate::node::Node;
use crate::relation::keys::{self, about};
use crate::relation::stored;
use keyferry_kmip::{DateTime, Failure, Text, extension as x};
use keyferry_store::record::bytes_of;
use keyferry_store::{Effects, ObjectId, Snapshot, SnapshotExt, Span};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::ops::ControlFlow;

/// A copy that was refused, and whose sender does not know it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::REFUSED)]
#[non_exhaustive]
pub struct RefusedCopy {
    /// The object, as the sender has named it.
    pub id: ObjectId,
    /// The server id of the sender.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    /// Why it was refused.
    #[ttlv(tag = x::WHY)]
    pub why: Text,
    /// When it was refused for the first time for this reason.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl RefusedCopy {
    /// The refused copies of one sender, as many as [`Limits::refused_copies`](crate::Limits::refused_copies) keeps.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot, server: &str) -> Result<Vec<RefusedCopy>> {
        stored::all_under(
            snapshot,
            &keys::refused_copies_prefix(server),
            "refused copy",
        )
    }

    /// What notes a refused copy. One that was noted for the same reason, or is one too many, is not noted again.
    pub(crate) fn note(
        node: &Node,
        ask: &Ask<'_>,
        id: &ObjectId,
        failure: &Failure,
    ) -> Result<Effects, Failure> {
        let Some(peer) = node.policy.peer(ask.tls) else {
            return Ok(Effects::none());
        };
        let prefix = keys::refused_copies_prefix(&peer.server);
        let key = about(prefix.clone(), id)?;
        let refused = RefusedCopy {
            id: id.clone(),
            server: peer.server.clone(),
            why: short(failure.message()),
            since: ask.now.wall,
            extra: Extra::NONE,
        };
        let mut effects = Effects::none();
        let known = match ask.snapshot.state_value(&key)? {
            Some(bytes) => Some(keyferry_store::record::read::<RefusedCopy>(
                &bytes,
                "refused copy",
            )?),
            None => None,
        };
        let is_new = known.as_ref().is_none_or(|known| known.why != refused.why);
        let most = node.policy.limits.refused_copies;
        if is_new && (known.is_some() || count_under(ask.snapshot, &prefix, most)? < most) {
            effects.state.push((key, Some(bytes_of(&refused)?)));
        }
        Ok(effects)
    }
}

/// How many entries of the state stand under a prefix, counted up to `most`.
pub(crate) fn count_under(
    snapshot: &dyn Snapshot,
    prefix: &[u8],
    most: usize,
) -> keyferry_store::Result<usize> {
    let mut count = 0;
    if most == 0 {
        return Ok(0);
    }
    snapshot.state(&Span::prefix(prefix), &mut |_, _| {
        count += 1;
        Ok(if count < most {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    Ok(count)
}
