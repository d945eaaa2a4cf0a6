use keyferry_kmip::spec::{AttributeValue, tag};
use keyferry_kmip::{Attributes, lifecycle};

/// Nothing that was known here is forgotten (DESIGN: rule 5).
pub(crate) fn join(attributes: &mut Attributes, held: &Attributes) {
    let (Some(here), Some(there)) = (held.state(), attributes.state()) else {
        return;
    };
    let joined = lifecycle::Rank::of(here).joined_state(lifecycle::Rank::of(there));
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
