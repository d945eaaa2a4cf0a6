//! The terms of a relation as each side has them in its policy: the two exchange them when they meet, and name where they differ
//! ([rule E](crate::design#rule-e)).

use crate::error::Result;
use crate::policy::{Peer, Servers};
use keyferry_kmip::extension as x;
use keyferry_ttlv::{Decode, Encode, Extra};

/// What one side of a relation has agreed to, as far as the other can tell whether it has agreed to the same.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::TERMS)]
pub(crate) struct Terms {
    /// The digest of the selection that both have agreed on; none for all objects.
    #[ttlv(tag = x::AGREED)]
    agreed: Option<Vec<u8>>,
    /// Whether keys are wrapped on their way, or, at the replica, whether it has a key to unwrap them by.
    #[ttlv(tag = x::WRAPPED)]
    wraps: bool,
    /// Whether copies of what other servers issue are sent, or, at the replica, taken.
    #[ttlv(tag = x::WITH_COPIES)]
    copies: bool,
    #[ttlv(extra)]
    extra: Extra,
}

impl Terms {
    /// The terms of a server that is followed, by its policy for the replica.
    pub(crate) fn of_issuer(replica: &Peer) -> Result<Terms> {
        Ok(Terms {
            agreed: replica.agreed.digest()?,
            wraps: replica.wrapping.is_some(),
            copies: replica.may_follow_copies,
            extra: Extra::NONE,
        })
    }

    /// The terms of a replica, by its policy for the server that it follows.
    pub(crate) fn of_replica(issuer: &Peer) -> Result<Terms> {
        Ok(Terms {
            agreed: issuer.agreed.digest()?,
            wraps: issuer.wrapping.is_some() || !issuer.unwraps.is_empty(),
            copies: issuer.relays != Servers::None || issuer.observes != Servers::None,
            extra: Extra::NONE,
        })
    }

    /// In which respect the terms of the two sides differ so that one sends what the other does not take; `None` if they do not.
    pub(crate) fn difference(issuer: &Terms, replica: &Terms) -> Option<String> {
        let mut differences = Vec::new();
        if issuer.agreed != replica.agreed {
            differences.push("the two have agreed on different objects");
        }
        if issuer.wraps && !replica.wraps {
            differences.push(
                "keys are wrapped on their way, and the replica names none to unwrap them by",
            );
        }
        if issuer.copies && !replica.copies {
            differences
                .push("copies of other servers' objects are sent, and the replica takes none");
        }
        (!differences.is_empty()).then(|| differences.join("; "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::Wrapping;
    use crate::selection::Selection;
    use keyferry_kmip::spec::AttributeValue;

    fn difference(at_issuer: &Peer, at_replica: &Peer) -> Option<String> {
        let issuer = Terms::of_issuer(at_issuer).unwrap();
        Terms::difference(&issuer, &Terms::of_replica(at_replica).unwrap())
    }

    #[test]
    fn the_same_terms_do_not_differ() {
        let red = || Selection::everything().with(AttributeValue::ObjectGroup("red".into()));
        let replica = Peer::new("shop").may_follow().agreed(red());
        let centre = Peer::new("centre").agreed(red());
        assert_eq!(difference(&replica, &centre), None);
        // Whoever could take more than is sent misses nothing.
        let centre = centre.may_relay().unwrapping("kek");
        assert_eq!(difference(&replica, &centre), None);
    }

    #[test]
    fn each_difference_is_named() {
        let red = Selection::everything().with(AttributeValue::ObjectGroup("red".into()));
        let replica = Peer::new("shop")
            .may_follow()
            .may_follow_copies()
            .wrapping(Wrapping::new("kek here", "kek there"));
        let named = difference(&replica, &Peer::new("centre").agreed(red)).unwrap();
        for part in ["different objects", "names none to unwrap", "takes none"] {
            assert!(named.contains(part), "{named}");
        }
    }
}
