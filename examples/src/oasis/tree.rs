//! A message as a tree of owned items, each knowing what it means and where it stood.

use keyferry_kmip::context;
use keyferry_kmip::spec::{self, tag};
use keyferry_ttlv::{Item, Reader, Tag, Type, Version, xml};

/// An item and those within it.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its tag.
    pub tag: Tag,
    /// The tag of what it says: that of the attribute for the Attribute Value of KMIP 1.x, otherwise its own.
    pub means: Tag,
    /// Its type.
    pub ty: Type,
    /// Its bytes, where it is no structure.
    pub value: Vec<u8>,
    /// The items in it.
    pub children: Vec<Node>,
    /// The number of the item in its message, the message itself being item 0.
    pub number: usize,
}

impl Node {
    /// The tree of a message.
    ///
    /// # Errors
    /// What is wrong with its bytes.
    pub fn read(message: &[u8], version: Version) -> Result<Node, keyferry_ttlv::Error> {
        let r = Reader::new(message, context(version));
        let item = Item::parse(message)?;
        r.check(item)?;
        Node::of(item, &r, &mut 0)
    }

    // What was checked is within the limits, and so is the depth of this.
    fn of<'a>(
        item: Item<'a>,
        r: &Reader<'a>,
        count: &mut usize,
    ) -> Result<Node, keyferry_ttlv::Error> {
        let (tag, ty, number) = (item.tag(), item.ty(), *count);
        *count += 1;
        let (mut value, mut children) = (Vec::new(), Vec::new());
        if ty == Type::Structure {
            let mut within = r.children(item)?;
            while let Some(child) = within.next(r)? {
                children.push(Node::of(child, r, count)?);
            }
        } else {
            value = item.value().to_vec();
        }
        let mut node = Node {
            tag,
            means: tag,
            ty,
            value,
            children,
            number,
        };
        if let (tag::ATTRIBUTE, Some(attribute)) = (
            tag,
            node.text(tag::ATTRIBUTE_NAME).and_then(spec::tag_named),
        ) {
            let vendor = node.child(tag::VENDOR_IDENTIFICATION).is_some();
            for value in node
                .children
                .iter_mut()
                .filter(|child| child.tag == tag::ATTRIBUTE_VALUE && !vendor)
            {
                value.means = attribute;
            }
        }
        Ok(node)
    }

    /// A structure of these items.
    pub fn structure(tag: Tag, children: Vec<Node>) -> Node {
        Node {
            tag,
            means: tag,
            ty: Type::Structure,
            value: Vec::new(),
            children,
            number: 0,
        }
    }

    /// An Integer.
    pub fn integer(tag: Tag, value: i32) -> Node {
        Node {
            tag,
            means: tag,
            ty: Type::Integer,
            value: value.to_be_bytes().to_vec(),
            children: Vec::new(),
            number: 0,
        }
    }

    /// An Enumeration.
    pub fn enumeration(tag: Tag, value: u32) -> Node {
        Node {
            ty: Type::Enumeration,
            value: value.to_be_bytes().to_vec(),
            ..Node::integer(tag, 0)
        }
    }

    /// A Text String.
    pub fn text_string(tag: Tag, value: &str) -> Node {
        Node {
            ty: Type::TextString,
            value: value.as_bytes().to_vec(),
            ..Node::integer(tag, 0)
        }
    }

    /// Its bytes as TTLV.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes_as(self.tag)
    }

    fn bytes_as(&self, tag: Tag) -> Vec<u8> {
        let [_, high, middle, low] = tag.number().to_be_bytes();
        let content = match self.ty {
            Type::Structure => self.children.iter().flat_map(Node::to_bytes).collect(),
            _ => self.value.clone(),
        };
        let length = u32::try_from(content.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        let mut bytes = vec![high, middle, low, self.ty as u8];
        bytes.extend(length);
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    /// The first item of this tag in it.
    pub fn child(&self, tag: Tag) -> Option<&Node> {
        self.all(tag).next()
    }

    /// The items of this tag in it.
    pub fn all(&self, tag: Tag) -> impl Iterator<Item = &Node> {
        self.children.iter().filter(move |child| child.tag == tag)
    }

    /// The text that the item of this tag in it holds.
    pub fn text(&self, tag: Tag) -> Option<&str> {
        self.child(tag)?.as_text()
    }

    /// Its text, where it is one.
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.value)
            .ok()
            .filter(|_| self.ty == Type::TextString)
    }

    /// Its number, where it is an Integer or an Enumeration.
    pub fn as_number(&self) -> Option<u32> {
        self.value
            .as_slice()
            .try_into()
            .ok()
            .map(u32::from_be_bytes)
    }

    /// Its date, where it is one.
    pub fn as_date(&self) -> Option<i64> {
        let bytes = self
            .value
            .as_slice()
            .try_into()
            .ok()
            .filter(|_| self.ty == Type::DateTime);
        bytes.map(i64::from_be_bytes)
    }

    /// Itself and everything in it, outermost first.
    pub fn walk(&self, visit: &mut impl FnMut(&Node)) {
        visit(self);
        for child in &self.children {
            child.walk(visit);
        }
    }

    /// What it is called in a path: `Batch Item`, `Attribute State`.
    pub fn label(&self) -> String {
        let name = spec::tag_row(self.tag)
            .map_or_else(|| format!("0x{}", self.tag), |row| row.name.to_owned());
        match self.text(tag::ATTRIBUTE_NAME) {
            Some(attribute) if self.tag == tag::ATTRIBUTE => format!("{name} {attribute}"),
            _ => name,
        }
    }

    /// Itself in a few words, no secret among them.
    pub fn shown(&self, version: Version) -> String {
        match self.ty {
            Type::Structure => format!("{} of {} items", self.label(), self.children.len()),
            Type::ByteString | Type::BigInteger => format!("{} bytes", self.value.len()),
            _ => self
                .in_xml(version)
                .unwrap_or_else(|| format!("{:?}", self.ty)),
        }
    }

    /// The value as XML has it.
    fn in_xml(&self, version: Version) -> Option<String> {
        let text = xml::from_ttlv(&self.bytes_as(self.means), context(version)).ok()?;
        let value = text.split_once(" value=\"")?.1;
        Some(value.rsplit_once('"')?.0.to_owned())
    }
}
