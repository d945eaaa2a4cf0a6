//! Who may say what of an object ([rule A](crate::design#rule-a)). What a peer sends of an object passes here before it is compared with what is
//! held, whichever message brought it.

use crate::limits::{Limits, exceeded};
use crate::node::Node;
use crate::planted::planted;
use crate::policy::Peer;
use crate::refusals::Unauthorised;
use keyferry_kmip::{Cause, Failure};
use keyferry_store::{ObjectId, Record, Stamp};

/// The highest epoch that an object has without a grant: that of an adopted one.
const HIGHEST_EPOCH: i64 = 2;

/// A change of an object, as a message names it.
#[derive(Clone, Copy)]
pub(crate) struct ChangeRef<'a> {
    pub(crate) id: &'a ObjectId,
    pub(crate) stamp: &'a Stamp,
    pub(crate) lineage: &'a [Stamp],
}

/// As whom a peer speaks of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// As its issuer.
    Issuer,
    /// As a relay, which policy lets speak for the issuer.
    Relay,
    /// As a holder of an object that this very server issues: what it says counts with a receipt alone.
    Holder,
}

/// Finds out as whom a peer says something of an object; `held` is what is held of the object here.
///
/// # Errors
/// [`Cause::PermissionDenied`] when the peer may not say it, in words that do not tell whether the object is held here, and
/// [`Cause::InvalidField`] when its stamps contradict each other, and [`Cause::ServerLimit`] when its lineage or object id is too long.
pub(crate) fn check_speaker(
    node: &Node,
    peer: &Peer,
    change: &ChangeRef<'_>,
    held: Option<&Record>,
) -> Result<Speaker, Failure> {
    check_line(change, &node.policy.limits)?;
    let issuer = &change.stamp.issuer;
    let speaker = if *issuer == node.home.server {
        Speaker::Holder
    } else if *issuer == peer.server {
        Speaker::Issuer
    } else if peer.relays.has(issuer) {
        Speaker::Relay
    } else {
        return Err(may_not_say());
    };
    let may_begin = speaker != Speaker::Holder && is_origin_credible(node, peer, change);
    let is_of_its_issuer = held.map_or(may_begin, |held| {
        held.stamp.issuer == *issuer && held.stamp.epoch == change.stamp.epoch
    });
    if is_of_its_issuer || planted!(AnyIssuerTaken) && speaker != Speaker::Holder {
        Ok(speaker)
    } else {
        Err(may_not_say())
    }
}

/// The failure of whoever says what it may not, the same for all that it could be.
pub(crate) fn may_not_say() -> Failure {
    Failure::denied("this peer may not say this of this object").caused_by(Unauthorised)
}

/// Whether an object that is not held here may have this origin. The issuer is its origin, or observes or has adopted it at a foreign server where
/// policy lets it do so.
fn is_origin_credible(node: &Node, peer: &Peer, change: &ChangeRef<'_>) -> bool {
    let (origin, issuer) = (&change.id.server, &change.stamp.issuer);
    if planted!(AnyOriginTaken) {
        return true;
    }
    if origin == issuer {
        // It takes a grant to begin another epoch, and none can be checked yet.
        return change.stamp.epoch == 1;
    }
    let observes = |peer: &Peer| peer.observes.has(origin);
    *origin != node.home.server && (observes(peer) || node.policy.peers_of(issuer).any(observes))
}

/// Fails unless stamp and lineage can be those of one object: one issuer, reigns in the order of their changes, each once, the last of them that of
/// the stamp.
fn check_line(change: &ChangeRef<'_>, limits: &Limits) -> Result<(), Failure> {
    let ChangeRef { stamp, lineage, .. } = change;
    let ObjectId {
        server,
        instance,
        identifier,
    } = change.id;
    if server.len() + instance.len() + identifier.len() > limits.name_bytes {
        return Err(exceeded("bytes in an object id", limits.name_bytes));
    }
    if lineage.len() > limits.reigns {
        return Err(exceeded("reigns in a lineage", limits.reigns));
    }
    let is_credible = |of: &Stamp| {
        of.issuer == stamp.issuer
            && (1..=HIGHEST_EPOCH).contains(&of.epoch)
            && (1..=stamp.sequence).contains(&of.sequence)
            && of.incarnation.len() == REIGN_BYTES
            && of.grant.is_none()
    };
    let is_in_order = |pair: &[Stamp]| match pair {
        [one, next] => (one.epoch, one.sequence) <= (next.epoch, next.sequence),
        _ => true,
    };
    let ends_with_the_stamp = lineage.last().is_none_or(|last| is_same_reign(last, stamp));
    if is_credible(stamp)
        && lineage.iter().all(is_credible)
        && lineage.windows(2).all(is_in_order)
        && ends_with_the_stamp
        && has_each_once(lineage)
    {
        return Ok(());
    }
    Err(Failure::new(
        Cause::InvalidField,
        "the stamp and the lineage of the copy contradict each other",
    ))
}

/// The bytes of the id of a reign.
const REIGN_BYTES: usize = 16;

fn is_same_reign(one: &Stamp, other: &Stamp) -> bool {
    one.epoch == other.epoch && one.incarnation == other.incarnation
}

fn has_each_once(lineage: &[Stamp]) -> bool {
    let mut reigns: Vec<(i64, &[u8])> = lineage
        .iter()
        .map(|reign| (reign.epoch, &reign.incarnation[..]))
        .collect();
    reigns.sort_unstable();
    reigns.windows(2).all(|pair| match pair {
        [one, next] => one != next,
        _ => true,
    })
}

#[cfg(test)]
mod tests;
