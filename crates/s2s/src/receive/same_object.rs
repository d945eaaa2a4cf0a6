//! Whether a copy is of the object that is held under its object id, or of another one ([rule 1](crate::design#rule-1)).

use crate::ask::Ask;
use crate::node::Node;
use crate::planted::planted;
use keyferry_kmip::spec::{AttributeValue, tag};
use keyferry_kmip::{Attributes, Cause, Digest, Failure, Object};
use keyferry_store::{Record, RecordNumber, SnapshotExt};

/// Fails when the copy has another type or other key material than the record: those are two objects under one id.
pub(crate) fn check_same_object(
    node: &Node,
    held: &Record,
    incoming: &Record,
    object: Option<&Object>,
) -> Result<(), Failure> {
    let collision = |what: &str| {
        Err(Failure::new(
            Cause::InvalidField,
            format_args!(
                "{} is held here with another {what}: a collision, not an update",
                held.id
            ),
        ))
    };
    if held.object_type != incoming.object_type {
        return collision("Object Type");
    }
    let fingerprint = object.map(|object| node.fingerprint(object)).transpose()?;
    if let (Some(one), Some(other)) = (&held.fingerprint, &fingerprint)
        && one != other
        && !planted!(OtherMaterialTaken)
    {
        return collision("key material");
    }
    if has_other_material(&held.attributes, &incoming.attributes) && !planted!(OtherMaterialTaken) {
        return collision("key material, by its Digest");
    }
    Ok(())
}

/// Whether the object itself came along and is another one than is held, be it in its format or algorithm alone.
pub(super) fn has_other_object(
    ask: &Ask<'_>,
    number: RecordNumber,
    object: Option<&Object>,
) -> Result<bool, Failure> {
    let Some(object) = object else {
        return Ok(false);
    };
    let held = ask.snapshot.whole(number)?.and_then(|(_, object)| object);
    Ok(held.is_some_and(|held| held != *object))
}

/// Whether two Digests of the same kind say that these are attributes of different material.
fn has_other_material(held: &Attributes, incoming: &Attributes) -> bool {
    let digests = |of: &Attributes| -> Vec<Digest> {
        let all = of.all(tag::DIGEST).filter_map(|value| match value {
            AttributeValue::Digest(digest) if digest.value.is_some() => Some(digest.clone()),
            _ => None,
        });
        all.collect()
    };
    let (held, incoming) = (digests(held), digests(incoming));
    held.iter().any(|one| {
        incoming.iter().any(|other| {
            (one.hashing_algorithm, one.key_format_type)
                == (other.hashing_algorithm, other.key_format_type)
                && one.value != other.value
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use keyferry_kmip::spec::HashingAlgorithm;
    use keyferry_ttlv::Extra;

    #[test]
    fn digests_tell_other_material_where_both_have_a_value_of_one_kind() {
        let digest = |algorithm, value: Option<u8>| {
            AttributeValue::Digest(Digest {
                hashing_algorithm: algorithm,
                value: value.map(|byte| vec![byte; 32]),
                key_format_type: None,
                extra: Extra::NONE,
            })
        };
        let attributes = |value| [value].into_iter().collect::<Attributes>();
        let (sha256, sha512) = (HashingAlgorithm::SHA_256, HashingAlgorithm::SHA_512);
        let one = attributes(digest(sha256, Some(1)));
        for (other, differs) in [
            (digest(sha256, Some(2)), true),
            (digest(sha256, Some(1)), false),
            (digest(sha256, None), false),
            (digest(sha512, Some(2)), false),
        ] {
            let other = attributes(other);
            assert_eq!(has_other_material(&one, &other), differs);
            assert_eq!(has_other_material(&other, &one), differs);
        }
    }
}
