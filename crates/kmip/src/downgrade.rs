//! Values made fit for another protocol version, with a report of what was left behind.

use crate::spec::tag_row;
use keyferry_ttlv::{Downgrade, Loss, Lost, Tag, Version};

mod model;

/// A value of version `from` made fit for version `to`, and the record of what was left behind; `None` when `to` has no form for the value at
/// all. This works towards later versions as well, which lack some fields of the earlier ones.
///
/// A message states its own version, whatever `from` is. For anything else `from` counts, since the same fields may mean something else: an
/// Attribute Reference to delete is one instance in 1.x and all of them in 2.x.
///
/// ```
/// use keyferry_kmip::{*, spec::*};
/// use keyferry_ttlv::Version;
///
/// let attributes = Attributes::new().with(AttributeValue::Comment("hot".into())).with(AttributeValue::State(State::ACTIVE));
/// let (kept, loss) = downgraded(attributes, Version::V2_1, Version::V1_3);
/// assert_eq!(kept, Some(Attributes::new().with(AttributeValue::State(State::ACTIVE))));
/// assert_eq!(describe_loss(&loss), ["Comment"]);
/// ```
pub fn downgraded<T: Downgrade>(mut value: T, from: Version, to: Version) -> (Option<T>, Loss) {
    let mut loss = Loss::of_version(from);
    let kept = value.downgrade(to, &mut loss);
    (kept.then_some(value), loss)
}

/// A description of each thing that was left behind, by the names on its path: `Request Payload > x-Colour`.
pub fn describe_loss(loss: &Loss) -> Vec<String> {
    let name = |tag: &Tag| tag_row(*tag).map_or_else(|| tag.to_string(), |row| row.name.to_owned());
    let describe = |lost: &Lost| {
        let mut path: Vec<String> = lost.path.iter().map(name).collect();
        if let (Some(named), Some(last)) = (&lost.name, path.last_mut()) {
            *last = named.to_string();
        }
        path.join(" > ")
    };
    loss.iter().map(describe).collect()
}
