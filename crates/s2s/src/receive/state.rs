//! This module keeps the State of an object from moving back when its attributes are replaced.

use keyferry_kmip::spec::{AttributeValue, tag};
use keyferry_kmip::{Attributes, lifecycle};

/// Raises the State in `attributes` to the join with the one held, and adds the dates and the reason that belong to what was held: nothing that was
/// known here is forgotten (DESIGN: rule 5).
pub(crate) fn keep_known_state(attributes: &mut Attributes, held: &Attributes) {
    let (Some(here), Some(there)) = (held.state(), attributes.state()) else {
        return;
    };
    let joined = lifecycle::Rank::of(here).join(lifecycle::Rank::of(there));
    if joined != there {
        attributes.set(AttributeValue::State(joined));
        for tag in [
            tag::COMPROMISE_DATE,
            tag::COMPROMISE_OCCURRENCE_DATE,
            tag::REVOCATION_REASON,
            tag::DESTROY_DATE,
        ] {
            if let Some(value) = held.get(tag) {
                attributes.set_default(value.clone());
            }
        }
    }
}
