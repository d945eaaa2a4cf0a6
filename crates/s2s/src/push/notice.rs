//! The content of a Notify: how the attributes that a receiver should know differ from those that it was told (KMIP 1.4 §5.1, 2.1 §6.2.2).

use keyferry_kmip::spec::{AttributeValue as V, tag};
use keyferry_kmip::{Attribute, AttributeReference, Attributes, DeletedAttribute};
use keyferry_ttlv::Version;

/// The content of a Notify, and the attributes that the receiver knows after it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Notice {
    pub(crate) changed: Attributes,
    pub(crate) deleted: Vec<DeletedAttribute>,
    pub(crate) known: Attributes,
}

impl Notice {
    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.deleted.is_empty()
    }

    /// Makes the notice that turns the attributes `told` before into those that are `wanted`.
    ///
    /// In 1.x an instance of an attribute is named by the index under which it was told: a value that is gone is deleted by its index, or its index
    /// is used for another value. In 2.x an attribute of which a value is gone is told as deleted, together with all values that are left.
    pub(crate) fn between(version: Version, told: &Attributes, wanted: &[V]) -> Notice {
        let mut notice = Notice::default();
        let mut references: Vec<AttributeReference> = Vec::new();
        for reference in wanted
            .iter()
            .map(V::reference)
            .chain(told.iter().map(|attribute| attribute.value.reference()))
        {
            if !references.contains(&reference) {
                references.push(reference);
            }
        }
        for reference in &references {
            let held: Vec<&Attribute> = told.of(reference).collect();
            let ours: Vec<&V> = wanted
                .iter()
                .filter(|value| value.reference() == *reference)
                .collect();
            if version < FIRST_WITHOUT_INDEX {
                notice.add_indexed(reference, held, ours)
            } else {
                notice.add_tagged(reference, &held, &ours)
            }
        }
        // Every Notify has the Last Change Date.
        let date = wanted
            .iter()
            .find(|value| value.tag() == tag::LAST_CHANGE_DATE);
        if let Some(date) = date
            .filter(|_| !notice.is_empty() && notice.changed.get(tag::LAST_CHANGE_DATE).is_none())
        {
            notice.changed.keep(date.clone().into());
        }
        notice
    }

    /// Adds the changes of one attribute, whose instances have an index.
    fn add_indexed(
        &mut self,
        reference: &AttributeReference,
        mut held: Vec<&Attribute>,
        mut ours: Vec<&V>,
    ) {
        ours.retain(
            |value| match held.iter().position(|other| other.value == **value) {
                Some(place) => {
                    self.known.keep(held.remove(place).clone());
                    false
                }
                None => true,
            },
        );
        // The indices of values that are gone are used again, the lowest first.
        held.sort_by_key(|attribute| attribute.index.unwrap_or(0));
        let mut free = held.into_iter();
        for value in ours {
            let index = free
                .next()
                .map(|attribute| attribute.index.unwrap_or(0))
                .unwrap_or_else(|| self.next_index(reference));
            let attribute = Attribute {
                index: value.may_repeat().then_some(index),
                value: value.clone(),
            };
            self.known.keep(attribute.clone());
            self.changed.keep(attribute);
        }
        self.deleted.extend(free.map(|attribute| DeletedAttribute {
            reference: reference.clone(),
            index: attribute.index,
        }));
    }

    /// The first index behind those that are known.
    fn next_index(&self, reference: &AttributeReference) -> i32 {
        let last = self
            .known
            .of(reference)
            .map(|attribute| attribute.index.unwrap_or(0))
            .max();
        last.map_or(0, |last| last.saturating_add(1))
    }

    /// Adds the changes of one attribute, whose instances have no index.
    fn add_tagged(&mut self, reference: &AttributeReference, held: &[&Attribute], ours: &[&V]) {
        let all = || {
            ours.iter().map(|value| Attribute {
                index: None,
                value: (*value).clone(),
            })
        };
        all().for_each(|attribute| self.known.keep(attribute));
        let is_gone = |attribute: &&&Attribute| !ours.contains(&&attribute.value);
        let repeats = held
            .first()
            .is_some_and(|attribute| attribute.value.may_repeat());
        let gone = held.iter().any(|attribute| is_gone(&attribute)) && (repeats || ours.is_empty());
        if gone {
            self.deleted.push(DeletedAttribute {
                reference: reference.clone(),
                index: None,
            });
        }
        if gone
            || ours.len() != held.len()
            || !ours
                .iter()
                .all(|value| held.iter().any(|other| other.value == **value))
        {
            all().for_each(|attribute| self.changed.keep(attribute));
        }
    }
}

/// The first version in which the instances of an attribute have no index.
const FIRST_WITHOUT_INDEX: Version = Version::V2_0;

#[cfg(test)]
mod tests {
    use super::*;
    use keyferry_kmip::DateTime;

    fn group(name: &str) -> V {
        V::ObjectGroup(name.into())
    }

    fn date(at: i64) -> V {
        V::LastChangeDate(DateTime(at))
    }

    fn contents(notice: &Notice) -> (Vec<String>, Vec<String>) {
        let changed = notice
            .changed
            .iter()
            .map(|a| format!("{:?} {:?}", a.index, a.value))
            .collect();
        (
            changed,
            notice
                .deleted
                .iter()
                .map(|d| format!("{} {:?}", d.reference, d.index))
                .collect(),
        )
    }

    #[test]
    fn an_index_stays_that_of_its_value_and_room_is_used_again() {
        let first = Notice::between(
            Version::V1_4,
            &Attributes::new(),
            &[group("a"), group("b"), group("c"), date(1)],
        );
        let indices: Vec<Option<i32>> = first.known.iter().map(|a| a.index).collect();
        assert_eq!(indices, [Some(0), Some(1), Some(2), None]);
        // One in the middle goes: its index is told, and no other one moves.
        let second = Notice::between(
            Version::V1_4,
            &first.known,
            &[group("c"), group("a"), date(2)],
        );
        assert_eq!(
            contents(&second),
            (
                vec![format!("None {:?}", date(2))],
                vec!["Object Group Some(1)".to_owned()]
            )
        );
        let third = Notice::between(
            Version::V1_4,
            &second.known,
            &[group("c"), group("d"), date(3)],
        );
        assert_eq!(
            contents(&third).0,
            [
                format!("Some(0) {:?}", group("d")),
                format!("None {:?}", date(3))
            ]
        );
        assert!(third.deleted.is_empty());
        assert!(
            Notice::between(
                Version::V1_4,
                &third.known,
                &[group("d"), group("c"), date(3)]
            )
            .is_empty()
        );
    }

    #[test]
    fn since_2_0_what_is_left_is_told_beside_the_reference() {
        let first = Notice::between(
            Version::V2_1,
            &Attributes::new(),
            &[group("a"), group("b"), date(1)],
        );
        let second = Notice::between(Version::V2_1, &first.known, &[group("b"), date(2)]);
        let (changed, deleted) = contents(&second);
        assert_eq!(
            changed,
            [
                format!("None {:?}", group("b")),
                format!("None {:?}", date(2))
            ]
        );
        assert_eq!(deleted, ["Object Group None"]);
        let third = Notice::between(
            Version::V2_1,
            &second.known,
            &[group("b"), group("c"), date(3)],
        );
        assert_eq!(
            (contents(&third).0.len(), third.deleted.len()),
            (3, 0),
            "an addition deletes nothing"
        );
        let fourth = Notice::between(Version::V2_1, &third.known, &[date(4)]);
        assert_eq!(
            contents(&fourth),
            (
                vec![format!("None {:?}", date(4))],
                vec!["Object Group None".to_owned()]
            )
        );
    }
}
