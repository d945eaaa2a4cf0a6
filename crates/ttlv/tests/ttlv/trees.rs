//! Arbitrary trees come back; arbitrary bytes do not panic.

use crate::support::*;
use keyferry_ttlv::{
    DateTime, DateTimeExtended, Decode, Encode, Interval, Item, Raw, Reader, Result, Tag, Type,
    Value, Writer,
};
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Leaf(Tag, Value),
    Node(Tag, Vec<Tree>),
}

impl Tree {
    fn write(&self, w: &mut Writer) -> Result<()> {
        match self {
            Tree::Leaf(tag, value) => value.encode(*tag, w),
            Tree::Node(tag, children) => w.structure(*tag, |w| {
                children.iter().try_for_each(|child| child.write(w))
            }),
        }
    }

    fn read<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Tree> {
        if item.ty() != Type::Structure {
            return Ok(Tree::Leaf(item.tag(), Value::decode(item, r)?));
        }
        let (mut children, mut all) = (r.children(item)?, Vec::new());
        while let Some(child) = children.next(r)? {
            all.push(Tree::read(child, r)?);
        }
        Ok(Tree::Node(item.tag(), all))
    }
}

fn tag() -> impl Strategy<Value = Tag> {
    prop_oneof![
        (0x420000u32..0x420200).prop_map(Tag::new),
        (0x540000u32..0x550000).prop_map(Tag::new)
    ]
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i32>().prop_map(Value::Integer),
        any::<i64>().prop_map(Value::LongInteger),
        proptest::collection::vec(any::<u8>(), 8).prop_map(Value::BigInteger),
        any::<u32>().prop_map(Value::Enumeration),
        any::<bool>().prop_map(Value::Boolean),
        any::<String>().prop_map(|text| Value::Text(text.into())),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
        any::<i64>().prop_map(|v| Value::DateTime(DateTime(v))),
        any::<u32>().prop_map(|v| Value::Interval(Interval(v))),
        any::<i64>().prop_map(|v| Value::DateTimeExtended(DateTimeExtended(v))),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = (tag(), leaf()).prop_map(|(tag, value)| Tree::Leaf(tag, value));
    leaf.prop_recursive(5, 60, 6, |inner| {
        (tag(), proptest::collection::vec(inner, 0..6)).prop_map(|(tag, all)| Tree::Node(tag, all))
    })
}

proptest! {
    #[test]
    fn arbitrary_trees_come_back(tree in tree()) {
        let bytes = written(|w| tree.write(w));
        prop_assert_eq!(bytes.len() % 8, 0);
        let r = Reader::new(&bytes, cx());
        let item = Item::parse(&bytes).unwrap();
        r.check(item).unwrap();
        prop_assert_eq!(Tree::read(item, &r).unwrap(), tree);
        // Kept raw and written again, it is the same byte for byte.
        let raw = Raw::decode(item, &r).unwrap();
        prop_assert_eq!(written(|w| raw.encode(T, w)), bytes);
    }

    #[test]
    fn changed_trees_never_panic(tree in tree(), at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut bytes = written(|w| tree.write(w));
        let at = at.index(bytes.len());
        bytes[at] = value;
        let r = Reader::new(&bytes, cx());
        if let Ok(item) = Item::parse(&bytes) {
            let checked = r.check(item).is_ok();
            let read = Tree::read(item, &r);
            prop_assert!(!checked || read.is_ok(), "what was checked can be read");
            if let Err(error) = read {
                prop_assert!(error.offset().unwrap() <= bytes.len());
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let r = Reader::new(&bytes, cx());
        if let Ok(item) = Item::parse(&bytes) {
            let _ = r.check(item);
            let _ = Tree::read(item, &r);
            let _ = item.integer(&r);
            let _ = item.text(&r);
            let _ = item.boolean(&r);
        }
    }
}
