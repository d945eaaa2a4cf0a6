//! Arbitrary trees come back from text; arbitrary text does not panic.

use crate::forms::support::*;
use keyferry_ttlv::{
    DateTime, DateTimeExtended, Encode, Interval, Result, Tag, Value, Writer, json, xml,
};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
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
}

fn tag() -> impl Strategy<Value = Tag> {
    prop_oneof![
        (0x420000u32..0x430000).prop_map(Tag::new),
        (0x540000u32..0x550000).prop_map(Tag::new),
        prop::sample::select(vec![
            MESSAGE,
            NAME,
            VALUE,
            STATE,
            MASK,
            PLAIN,
            Tag::new(0x420001),
            Tag::new(0x420003)
        ]),
    ]
}

fn text(letter: impl Strategy<Value = char> + 'static) -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec!["State", "Cryptographic Usage Mask", "Batch Count"])
        .prop_map(str::to_owned);
    let letters = vec(letter, 0..20).prop_map(|letters| letters.into_iter().collect::<String>());
    prop_oneof![names, letters].prop_map(|text| Value::Text(text.as_str().into()))
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        -100_000_000_000i64..300_000_000_000,
        -10i64..10
    ]
}

fn leaf(letter: impl Strategy<Value = char> + 'static) -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i32>().prop_map(Value::Integer),
        (0..0x2000i32).prop_map(Value::Integer),
        number().prop_map(Value::LongInteger),
        vec(vec(any::<u8>(), 8), 1..5).prop_map(|parts| Value::BigInteger(parts.concat())),
        prop_oneof![any::<u32>(), 0..12u32].prop_map(Value::Enumeration),
        any::<bool>().prop_map(Value::Boolean),
        text(letter),
        vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
        number().prop_map(|v| Value::DateTime(DateTime(v))),
        any::<u32>().prop_map(|v| Value::Interval(Interval(v))),
        prop_oneof![number(), number().prop_map(|v| v.wrapping_mul(999_999))]
            .prop_map(|v| Value::DateTimeExtended(DateTimeExtended(v))),
    ]
}

fn tree(letter: impl Strategy<Value = char> + Clone + 'static) -> impl Strategy<Value = Tree> {
    let leaf = (tag(), leaf(letter)).prop_map(|(tag, value)| Tree::Leaf(tag, value));
    leaf.prop_recursive(5, 60, 6, |inner| {
        (tag(), vec(inner, 0..6)).prop_map(|(tag, all)| Tree::Node(tag, all))
    })
}

fn legal() -> impl Strategy<Value = char> + Clone {
    let is_legal = |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..);
    prop_oneof![
        any::<char>().prop_filter("XML carries it", is_legal),
        prop::sample::select("<>&\"' \t\r\n".chars().collect::<Vec<_>>())
    ]
}

/// A message with something replaced in it.
fn changed(text: &str, at: prop::sample::Index, with: &str) -> String {
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let at = places[at.index(places.len())];
    let behind = text[at..]
        .char_indices()
        .nth(1)
        .map_or(text.len(), |(n, _)| at + n);
    format!("{}{with}{}", &text[..at], &text[behind..])
}

proptest! {
    #[test]
    fn trees_come_back_from_xml(tree in tree(legal())) {
        let bytes = written(|w| tree.write(w));
        for cx in [cx(), nameless()] {
            let text = xml::from_ttlv(&bytes, cx).unwrap();
            prop_assert_eq!(xml::to_ttlv(&text, cx).unwrap().to_vec(), &bytes[..], "{}", *text);
        }
    }

    #[test]
    fn trees_come_back_from_json(tree in tree(any::<char>())) {
        let bytes = written(|w| tree.write(w));
        for cx in [cx(), nameless()] {
            let text = json::from_ttlv(&bytes, cx).unwrap();
            prop_assert_eq!(json::to_ttlv(&text, cx).unwrap().to_vec(), &bytes[..], "{}", *text);
        }
    }

    #[test]
    fn changed_messages_never_panic(tree in tree(legal()), at in any::<prop::sample::Index>(), with in "[<>&\"{}\\[\\]\\\\,: /a0-]{0,3}") {
        let bytes = written(|w| tree.write(w));
        for text in [xml::from_ttlv(&bytes, cx()).unwrap(), json::from_ttlv(&bytes, cx()).unwrap()] {
            let text = changed(&text, at, &with);
            let read = if text.starts_with('<') { xml::to_ttlv(&text, cx()) } else { json::to_ttlv(&text, cx()) };
            if let Err(error) = read {
                prop_assert!(error.offset().is_some_and(|at| text.is_char_boundary(at)), "{error}");
            }
        }
    }

    #[test]
    fn any_text_never_panics(text in "(<|/?>|&|;|\"|'|=| |State|TTLV|tag|type|value|[{}\\[\\]:,]|\\PC){0,40}") {
        let _ = xml::to_ttlv(&text, cx());
        let _ = json::to_ttlv(&text, cx());
    }

    #[test]
    fn any_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = xml::from_ttlv(&bytes, cx());
        let _ = json::from_ttlv(&bytes, cx());
    }
}
