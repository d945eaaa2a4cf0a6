//! [`TemplateAttribute`], the attributes that a new object shall have.

use crate::attribute::Attributes;
use crate::attribute::structure::Name;
use crate::projection::{within, write_all};
use crate::spec::tag;
use crate::spec::versions::is_tagged;
use keyferry_ttlv::{
    Downgrade, Encode, ErrorKind, Group, Item, Loss, Reader, Result, Tag, Version, Writer,
};
use std::ops::{Deref, DerefMut};

/// The attributes that a new object shall have: a Template-Attribute (KMIP 1.4 §2.1.8, 1.0 to 1.4), which may also name templates, or
/// Attributes (2.x).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TemplateAttribute {
    /// The Names of templates whose attributes are wanted as well, until 1.4.
    pub names: Vec<Name>,
    /// The attributes.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "keyferry_ttlv::serde_form::is_default")
    )]
    pub attributes: Attributes,
}

impl From<Attributes> for TemplateAttribute {
    fn from(attributes: Attributes) -> Self {
        TemplateAttribute {
            names: Vec::new(),
            attributes,
        }
    }
}

impl Deref for TemplateAttribute {
    type Target = Attributes;
    fn deref(&self) -> &Attributes {
        &self.attributes
    }
}

impl DerefMut for TemplateAttribute {
    fn deref_mut(&mut self) -> &mut Attributes {
        &mut self.attributes
    }
}

/// The tags under which a Template-Attribute stands.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateTags {
    /// The tag in 1.x.
    pub(crate) named: Tag,
    /// The tag in 2.x, where it has one.
    tagged: Option<Tag>,
}

impl TemplateTags {
    /// The tags of an object's attributes: Template-Attribute, Attributes.
    pub const OBJECT: TemplateTags = TemplateTags::new(tag::TEMPLATE_ATTRIBUTE, tag::ATTRIBUTES);
    /// The tags of attributes that both keys of a pair have.
    pub const COMMON: TemplateTags =
        TemplateTags::new(tag::COMMON_TEMPLATE_ATTRIBUTE, tag::COMMON_ATTRIBUTES);
    /// The tags of the attributes of a pair's private key.
    pub const PRIVATE_KEY: TemplateTags = TemplateTags::new(
        tag::PRIVATE_KEY_TEMPLATE_ATTRIBUTE,
        tag::PRIVATE_KEY_ATTRIBUTES,
    );
    /// The tags of the attributes of a pair's public key.
    pub const PUBLIC_KEY: TemplateTags = TemplateTags::new(
        tag::PUBLIC_KEY_TEMPLATE_ATTRIBUTE,
        tag::PUBLIC_KEY_ATTRIBUTES,
    );

    const fn new(named: Tag, tagged: Tag) -> Self {
        TemplateTags {
            named,
            tagged: Some(tagged),
        }
    }

    /// The same tags, in 1.x alone: for attributes that a server set by implication.
    pub const fn until_1_4(self) -> Self {
        TemplateTags {
            tagged: None,
            ..self
        }
    }

    pub(crate) fn of(self, version: Version) -> Option<Tag> {
        if is_tagged(version) {
            self.tagged
        } else {
            Some(self.named)
        }
    }
}

impl Group for TemplateAttribute {
    type How = TemplateTags;

    fn accepts(tags: TemplateTags, item: Item<'_>, r: &Reader<'_>) -> bool {
        tags.of(r.version()) == Some(item.tag())
    }

    fn absorb<'a>(
        &mut self,
        _: TemplateTags,
        before: usize,
        item: Item<'a>,
        r: &Reader<'a>,
    ) -> Result<()> {
        if before > 0 {
            return Err(r.error(item, ErrorKind::Repeated(item.tag())));
        }
        self.attributes.make_room_for(item);
        let mut read = || {
            let mut children = r.enter(item)?;
            while let Some(child) = children.step() {
                if child.tag() == tag::NAME && !is_tagged(r.version()) {
                    self.names.push(r.child(child)?);
                } else {
                    within(&mut self.attributes, child, r)?;
                }
            }
            r.leave(children)
        };
        read().map_err(|e| e.within(item.tag()))
    }

    fn downgrade(&mut self, tags: TemplateTags, version: Version, loss: &mut Loss) -> bool {
        self.downgrade_as(tags, version, loss)
    }

    fn write(&self, tags: TemplateTags, w: &mut Writer) -> Result<()> {
        let Some(tag) = tags.of(w.version()) else {
            return w.require(tags.named, Version::V1_0, Some(Version::V1_4));
        };
        w.structure(tag, |w| {
            for name in &self.names {
                w.require(tags.named, Version::V1_0, Some(Version::V1_4))?;
                Encode::encode(name, tag::NAME, w)?;
            }
            write_all(&self.attributes, w)
        })
    }
}

/// A structure without anything in it.
struct Empty;

impl Encode for Empty {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        w.structure(tag, |_| Ok(()))
    }
}

impl TemplateAttribute {
    fn downgrade_as(&mut self, tags: TemplateTags, version: Version, loss: &mut Loss) -> bool {
        let there = tags.of(version).is_some();
        if !there && self.names.is_empty() && self.attributes.is_empty() {
            loss.record(tags.named, &Empty);
        }
        let names = self.names.len();
        let _ = loss.repeated(
            &mut self.names,
            tag::NAME,
            !is_tagged(version),
            false,
            version,
        ); // what they are to whom, is judged here
        self.attributes
            .leave_behind(loss, |value, loss| there && value.downgrade(version, loss));
        if is_tagged(version) {
            self.attributes.leave_indices(loss);
        }
        // Without its templates an object would be made with other attributes than were asked for.
        there && self.names.len() == names
    }
}
