//! What separates the attributes that a receiver was told from those that it should know, as one Notify says it (KMIP 1.4 §5.1, 2.1 §6.2.2).

use keyferry_kmip::spec::{AttributeValue as V, tag};
use keyferry_kmip::{Attribute, AttributeReference, Attributes, DeletedAttribute};
use keyferry_ttlv::Version;

/// The content of a Notify, and what the receiver knows behind it.
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

    /// What is to be told of `wanted` where `told` is known.
    ///
    /// In 1.x an instance goes by the index under which it was told: a value that is no more is deleted by it, or makes room for another. In 2.x
    /// an attribute of which a value is no more is told as deleted beside all values that are left.
    pub(crate) fn of(version: Version, told: &Attributes, wanted: &[V]) -> Notice {
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
            if version < TAGGED {
                notice.named(reference, held, ours)
            } else {
                notice.tagged(reference, &held, &ours)
            }
        }
        // It goes with every Notify.
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

    fn named(
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
        // What is no more makes room, lowest index first.
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

    fn next_index(&self, reference: &AttributeReference) -> i32 {
        let last = self
            .known
            .of(reference)
            .map(|attribute| attribute.index.unwrap_or(0))
            .max();
        last.map_or(0, |last| last.saturating_add(1))
    }

    fn tagged(&mut self, reference: &AttributeReference, held: &[&Attribute], ours: &[&V]) {
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

/// From here on attributes stand by tag, and have no index.
const TAGGED: Version = Version::V2_0;

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

    fn said(notice: &Notice) -> (Vec<String>, Vec<String>) {
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
        let first = Notice::of(
            Version::V1_4,
            &Attributes::new(),
            &[group("a"), group("b"), group("c"), date(1)],
        );
        let indices: Vec<Option<i32>> = first.known.iter().map(|a| a.index).collect();
        assert_eq!(indices, [Some(0), Some(1), Some(2), None]);
        // One in the middle goes: its index is told, and no other one moves.
        let second = Notice::of(
            Version::V1_4,
            &first.known,
            &[group("c"), group("a"), date(2)],
        );
        assert_eq!(
            said(&second),
            (
                vec![format!("None {:?}", date(2))],
                vec!["Object Group Some(1)".to_owned()]
            )
        );
        let third = Notice::of(
            Version::V1_4,
            &second.known,
            &[group("c"), group("d"), date(3)],
        );
        assert_eq!(
            said(&third).0,
            [
                format!("Some(0) {:?}", group("d")),
                format!("None {:?}", date(3))
            ]
        );
        assert!(third.deleted.is_empty());
        assert!(
            Notice::of(
                Version::V1_4,
                &third.known,
                &[group("d"), group("c"), date(3)]
            )
            .is_empty()
        );
    }

    #[test]
    fn since_2_0_what_is_left_is_told_beside_the_reference() {
        let first = Notice::of(
            Version::V2_1,
            &Attributes::new(),
            &[group("a"), group("b"), date(1)],
        );
        let second = Notice::of(Version::V2_1, &first.known, &[group("b"), date(2)]);
        let (changed, deleted) = said(&second);
        assert_eq!(
            changed,
            [
                format!("None {:?}", group("b")),
                format!("None {:?}", date(2))
            ]
        );
        assert_eq!(deleted, ["Object Group None"]);
        let third = Notice::of(
            Version::V2_1,
            &second.known,
            &[group("b"), group("c"), date(3)],
        );
        assert_eq!(
            (said(&third).0.len(), third.deleted.len()),
            (3, 0),
            "an addition deletes nothing"
        );
        let fourth = Notice::of(Version::V2_1, &third.known, &[date(4)]);
        assert_eq!(
            said(&fourth),
            (
                vec![format!("None {:?}", date(4))],
                vec!["Object Group None".to_owned()]
            )
        );
    }
}
