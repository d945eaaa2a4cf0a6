//! What is wrong is an error, with its byte and its path.

use crate::support::*;
use keyferry_ttlv::{
    Context, Decode, Dictionary, Error, ErrorKind, Item, Lenient, Limits, Reader, Result, Tag,
    Tagged, Type, Version, Writer, decode, encode,
};
use proptest::prelude::*;

fn read<D: Decode>(bytes: &[u8]) -> Result<D> {
    let r = Reader::new(bytes, cx());
    D::decode(Item::parse(bytes)?, &r)
}

#[test]
fn each_kind_of_error_names_its_byte() {
    use ErrorKind as E;
    assert_eq!(kind(Item::parse(&[])), (E::Truncated(8), 0));
    assert_eq!(kind(Item::parse(&[0x42, 0, 1])), (E::Truncated(5), 0));
    assert_eq!(
        kind(Item::parse(&item(0x420001, 2, &[0; 4])[..15])),
        (E::Truncated(1), 4)
    );
    assert_eq!(
        kind(Item::parse(&item(0x410001, 2, &[0; 4]))),
        (E::UnknownTag, 0)
    );
    assert_eq!(
        kind(Item::parse(&item(0x000000, 2, &[0; 4]))),
        (E::UnknownTag, 0)
    );
    for ty in [0, 12, 0x80, 0xFF] {
        assert_eq!(
            kind(Item::parse(&item(0x420001, ty, &[]))),
            (E::UnknownType(ty), 3)
        );
    }
    let mut padded = item(0x420001, 8, &[1, 2, 3]);
    padded[12] = 9;
    assert_eq!(kind(Item::parse(&padded)), (E::Padding, 11));
    let mut longer = item(0x420001, 2, &[0; 4]);
    longer.extend_from_slice(&[0; 5]);
    assert_eq!(kind(Item::parse(&longer)), (E::TrailingBytes(5), 16));
    assert_eq!(
        kind(read::<bool>(&item(0x420001, 6, &[0, 0, 0, 0, 0, 0, 0, 2]))),
        (E::Boolean, 8)
    );
    assert_eq!(
        kind(read::<String>(&item(0x420001, 7, b"ab\xFFcd"))),
        (E::Utf8, 10)
    );
    assert_eq!(
        kind(read::<String>(&item(0x420001, 8, b"ab"))),
        (
            E::WrongType {
                expected: Type::TextString,
                found: Type::ByteString
            },
            3
        )
    );
}

#[test]
fn lengths_have_to_fit_the_type() {
    for (ty, good) in [
        (2u8, 4u32),
        (3, 8),
        (5, 4),
        (6, 8),
        (9, 8),
        (10, 4),
        (11, 8),
    ] {
        for length in [0, 1, 3, 4, 5, 7, 8, 9, 16] {
            let bytes = item(0x420001, ty, &vec![0; length as usize]);
            assert_eq!(
                Item::parse(&bytes).is_ok(),
                length == good,
                "type {ty}, length {length}"
            );
            if length != good {
                assert_eq!(
                    kind(Item::parse(&bytes)),
                    (ErrorKind::WrongLength(length), 4)
                );
            }
        }
    }
    for (length, ok) in [(0, false), (7, false), (8, true), (9, false), (16, true)] {
        assert_eq!(
            Item::parse(&item(0x420001, 4, &vec![1; length])).is_ok(),
            ok,
            "a Big Integer of {length}"
        );
    }
    for (length, ok) in [(0, true), (7, false), (8, true), (9, false)] {
        assert_eq!(
            Item::parse(&item(0x420001, 1, &vec![0; length])).is_ok(),
            ok,
            "a Structure of {length}"
        );
    }
}

#[test]
fn lengths_beyond_the_input_allocate_nothing_and_do_not_wrap() {
    for ty in [1u8, 4, 7, 8] {
        for length in [8u32, 0x7FFF_FFF8, 0xFFFF_FFF0, 0xFFFF_FFF8] {
            let bytes = item_saying(0x420001, ty, length, &[]);
            assert_eq!(
                kind(Item::parse(&bytes)).1,
                4,
                "type {ty} length {length:X}"
            );
        }
    }
    assert!(Item::parse(&item_saying(0x420001, 8, u32::MAX, &[0; 8])).is_err());
}

#[derive(Debug, PartialEq)]
struct Inner(i32);

impl Tagged for Outer {
    const TAG: Tag = T;
}

#[derive(Debug, PartialEq)]
struct Outer(Vec<Inner>);

impl Decode for Inner {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        let mut children = r.children(item)?;
        let mut value = None;
        while let Some(child) = children.next(r)? {
            r.once::<i32>(&mut value, child)?;
        }
        value.map(Inner).ok_or_else(|| r.missing(item, V))
    }
}

impl Decode for Outer {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        let mut children = r.children(item)?;
        let mut all = Vec::new();
        while let Some(child) = children.next(r)? {
            all.push(r.child(child)?);
        }
        Ok(Outer(all))
    }
}

struct Names;

impl Dictionary for Names {
    fn tag_name(&self, tag: Tag) -> Option<&'static str> {
        match tag {
            T => Some("Outer"),
            U => Some("Inner"),
            V => Some("State"),
            _ => None,
        }
    }
    fn value_name(&self, _: Tag, _: u32) -> Option<&'static str> {
        None
    }
    fn bit_name(&self, _: Tag, _: u32) -> Option<&'static str> {
        None
    }
    fn tag_named(&self, _: &str) -> Option<Tag> {
        None
    }
}

#[test]
fn the_path_leads_to_the_place() {
    let bytes = written(|w| {
        w.structure(T, |w| {
            w.structure(U, |w| {
                w.integer(V, 1);
                Ok(())
            })?;
            w.structure(U, |w| w.text(V, "no number"))
        })
    });
    let plain = keyferry_ttlv::decode::<Outer>(&bytes, cx()).unwrap_err();
    assert_eq!(
        (plain.path(), plain.offset()),
        (&[T, U, V][..], Some(8 + 24 + 8 + 3))
    );
    assert_eq!(
        plain.to_string(),
        "420001 > 420002 > 540003: expected Integer, found Text String (byte 43)"
    );
    let named = keyferry_ttlv::decode::<Outer>(
        &bytes,
        Context {
            dictionary: Some(&Names),
            ..cx()
        },
    )
    .unwrap_err();
    assert_eq!(
        named.to_string(),
        "Outer > Inner > State: expected Integer, found Text String (byte 43)"
    );
    assert_eq!(
        format!("{named:?}"),
        "Error(Outer > Inner > State: expected Integer, found Text String (byte 43))"
    );
}

#[test]
fn what_is_missing_or_stands_twice_is_named_with_its_structure() {
    let none = written(|w| w.structure(T, |w| w.structure(U, |_| Ok(()))));
    let error = keyferry_ttlv::decode::<Outer>(&none, cx()).unwrap_err();
    assert_eq!(
        (error.kind(), error.offset(), error.path()),
        (&ErrorKind::Missing(V), Some(8), &[T, U][..])
    );
    let twice = written(|w| {
        w.structure(T, |w| {
            w.structure(U, |w| {
                w.integer(V, 1);
                w.integer(V, 1);
                Ok(())
            })
        })
    });
    let error = keyferry_ttlv::decode::<Outer>(&twice, cx()).unwrap_err();
    assert_eq!(
        (error.kind(), error.offset()),
        (&ErrorKind::Repeated(V), Some(32))
    );
}

#[test]
fn errors_inside_a_structure_have_places_in_the_whole() {
    let mut bytes = written(|w| w.structure(T, |w| w.structure(U, |w| w.bytes(V, &[1]))));
    *bytes.last_mut().unwrap() = 1;
    let error = keyferry_ttlv::decode::<Outer>(&bytes, cx()).unwrap_err();
    assert_eq!(
        (error.kind(), error.offset()),
        (&ErrorKind::Padding, Some(8 + 8 + 8 + 1))
    );
    let other =
        keyferry_ttlv::decode::<Outer>(&written(|w| w.structure(U, |_| Ok(()))), cx()).unwrap_err();
    assert_eq!(
        other.kind(),
        &ErrorKind::WrongTag {
            expected: T,
            found: U
        }
    );
}

#[test]
fn every_error_can_be_told_in_words() {
    use ErrorKind as E;
    let kinds = [
        E::Truncated(1),
        E::TrailingBytes(1),
        E::UnknownTag,
        E::UnknownType(1),
        E::Padding,
        E::Boolean,
        E::Utf8,
        E::Depth(1),
        E::Items(1),
        E::WrongType {
            expected: Type::Integer,
            found: Type::Boolean,
        },
        E::WrongTag {
            expected: T,
            found: U,
        },
        E::WrongLength(1),
        E::Size { size: 2, limit: 1 },
        E::Missing(T),
        E::Unexpected(T),
        E::Repeated(T),
        E::Value("why"),
        E::NotInVersion {
            version: Version::V1_0,
            since: Version::V1_2,
            until: Some(Version::V1_4),
        },
    ];
    let mut seen: Vec<String> = kinds
        .into_iter()
        .map(|kind| Error::new(kind).to_string())
        .collect();
    assert!(seen.iter().all(|text| !text.is_empty()));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 18);
    assert_eq!(
        Error::new(E::Padding).at(3).at(9).offset(),
        Some(3),
        "the innermost place counts"
    );
}

#[test]
fn what_the_version_lacks_is_not_written() {
    let w = Writer::new(Context::new(Version::V1_2));
    w.require(T, Version::V1_0, None).unwrap();
    w.require(T, Version::V1_2, Some(Version::V1_2)).unwrap();
    assert_eq!(
        *w.require(T, Version::V1_3, None).unwrap_err().kind(),
        ErrorKind::NotInVersion {
            version: Version::V1_2,
            since: Version::V1_3,
            until: None
        }
    );
    let error = w
        .require(T, Version::V1_0, Some(Version::V1_1))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "420001: not in KMIP 1.2, only since 1.0 and until 1.1"
    );
    let mut w = Writer::new(Context::new(Version::V1_2));
    let nested = w
        .structure(T, |w| w.structure(U, |w| w.require(V, Version::V2_0, None)))
        .unwrap_err();
    assert_eq!(nested.path(), [T, U, V]);
}

#[test]
fn slips_of_peers_pass_where_they_are_let() {
    let read = |bytes: &[u8], lenient| {
        let cx = Context { lenient, ..cx() };
        let r = Reader::new(bytes, cx);
        let mut children = r.children(Item::parse(bytes)?)?;
        let item = children.next(&r)?.unwrap();
        r.check(item)?;
        match item.ty() {
            Type::Boolean => item.boolean(&r).map(|value| vec![u8::from(value)]),
            Type::BigInteger => item.big_integer(&r).map(<[u8]>::to_vec),
            Type::Integer => item.integer(&r).map(|value| value.to_be_bytes().to_vec()),
            _ => item.text(&r).map(|value| value.as_bytes().to_vec()),
        }
    };
    let padded = |mut bytes: Vec<u8>| {
        *bytes.last_mut().unwrap() = 1;
        bytes
    };
    let only = |set: fn(&mut Lenient)| {
        let mut lenient = Lenient::NEVER;
        set(&mut lenient);
        lenient
    };
    for (slip, value, kind, allowing) in [
        (
            padded(item(0x420001, 2, &[0, 0, 0, 5])),
            vec![0, 0, 0, 5],
            ErrorKind::Padding,
            only(|l| l.padding = true),
        ),
        (
            padded(item(0x420001, 7, b"abc")),
            b"abc".to_vec(),
            ErrorKind::Padding,
            only(|l| l.padding = true),
        ),
        (
            item(0x420001, 6, &[0xFF; 8]),
            vec![1],
            ErrorKind::Boolean,
            only(|l| l.boolean = true),
        ),
        (
            item(0x420001, 4, &[0x12, 0x34]),
            vec![0x12, 0x34],
            ErrorKind::WrongLength(2),
            only(|l| l.big_integer = true),
        ),
    ] {
        let bytes = written(|w| {
            w.structure(T, |w| {
                w.raw(&slip);
                Ok(())
            })
        });
        assert_eq!(read(&bytes, Lenient::NEVER).unwrap_err().kind(), &kind);
        assert_eq!(read(&bytes, allowing).unwrap(), value);
        assert_eq!(read(&bytes, Lenient::ALWAYS).unwrap(), value);
    }
    for never in [
        item(0x420001, 5, &[0; 8]),
        item(0x420001, 7, b"ab\xFF"),
        item(0x420001, 4, &[]),
        item(0x420001, 6, &[0; 4]),
    ] {
        let bytes = written(|w| {
            w.structure(T, |w| {
                w.raw(&never);
                Ok(())
            })
        });
        read(&bytes, Lenient::ALWAYS).unwrap_err();
    }
}

#[test]
fn an_item_longer_than_its_structure_is_told_from_an_input_that_ends() {
    let mut bytes = item_saying(0x420001, 1, 16, &item_saying(0x420002, 8, 16, &[0; 8]));
    assert_eq!(
        kind(read::<super::derive::All>(&bytes)),
        (ErrorKind::Overrun(8), 12)
    );
    bytes.truncate(16);
    assert_eq!(
        kind(read::<super::derive::All>(&bytes)),
        (ErrorKind::Truncated(8), 4)
    );
}

proptest! {
    /// Typed values are checked where they are read: whatever a type accepts, the check of everything accepts, too.
    #[test]
    fn what_a_type_accepts_is_sound(at in 0usize..400, bit in 0u8..8, more in proptest::option::of((0usize..400, any::<u8>()))) {
        let mut bytes = encode(&super::derive::full(), cx()).unwrap().to_vec();
        let length = bytes.len();
        bytes[at % length] ^= 1 << bit;
        if let Some((at, byte)) = more {
            bytes[at % length] = byte;
        }
        if decode::<super::derive::All>(&bytes, cx()).is_ok() {
            let r = Reader::new(&bytes, Context { limits: Limits::DEFAULT, ..cx() });
            prop_assert!(r.check(Item::parse(&bytes).unwrap()).is_ok());
        }
    }
}
