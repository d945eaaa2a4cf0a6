//! This module keeps the State of an object from moving back when its attributes are replaced.

use keyferry_kmip::spec::{AttributeValue, tag};
use keyferry_kmip::{Attributes, DateTime, lifecycle};
use keyferry_ttlv::Tag;

/// The attributes that say when and why an object came to its State, in the order in which they are added.
const DETAILS_OF_STATE: [Tag; 4] = [
    tag::COMPROMISE_DATE,
    tag::COMPROMISE_OCCURRENCE_DATE,
    tag::REVOCATION_REASON,
    tag::DESTROY_DATE,
];

/// Raises the State in `attributes` to the join with the one held, and adds the dates and the reason that belong to what was held: nothing that was
/// known here is forgotten ([rule 5](crate::design#rule-5)).
pub(crate) fn keep_known_state(attributes: &mut Attributes, held: &Attributes) {
    let (Some(here), Some(there)) = (held.state(), attributes.state()) else {
        return;
    };
    let joined = lifecycle::Rank::of(here).joined_state(lifecycle::Rank::of(there));
    if joined != there {
        attributes.set(AttributeValue::State(joined));
        for tag in DETAILS_OF_STATE {
            if let Some(value) = held.get(tag) {
                attributes.set_default(value.clone());
            }
        }
    }
}

/// Makes the State in `attributes` the join with Compromised, as of now.
pub(crate) fn compromise(attributes: &mut Attributes, now: DateTime) {
    let Some(state) = attributes.state() else {
        return;
    };
    let known = lifecycle::Rank {
        step: 0,
        compromised: true,
    };
    let joined = lifecycle::Rank::of(state).joined_state(known);
    attributes.set(AttributeValue::State(joined));
    attributes.set_default(AttributeValue::CompromiseDate(now));
}
