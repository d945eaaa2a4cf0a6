//! Every item type: the bytes of the standard's examples, and back.

use crate::support::*;
use keyferry_ttlv::{
    Context, DateTime, DateTimeExtended, Decode, Encode, Enumeration, ErrorKind, Interval, Item,
    Raw, Reader, Tag, Type, Value, Version, Writer,
};

fn back<D: Decode>(bytes: &[u8]) -> D {
    let r = Reader::new(bytes, cx());
    D::decode(Item::parse(bytes).unwrap(), &r).unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|d| d as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// The examples of KMIP 2.1 §9.1.2, all under the tag 420020.
#[test]
fn the_examples_of_the_standard() {
    let tag = Tag::new(0x420020);
    let w = |f: &dyn Fn(&mut Writer)| {
        written(|w| {
            f(w);
            Ok(())
        })
    };
    assert_eq!(
        w(&|w| w.integer(tag, 8)),
        hex("42 00 20 02 00 00 00 04 00 00 00 08 00 00 00 00")
    );
    assert_eq!(
        w(&|w| w.long_integer(tag, 123_456_789_000_000_000)),
        hex("42 00 20 03 00 00 00 08 01 B6 9B 4B A5 74 92 00")
    );
    let big = hex("00 00 00 00 03 FD 35 EB 6B C2 DF 46 18 08 00 00");
    assert_eq!(
        w(&|w| w.big_integer(tag, &big).unwrap()),
        [hex("42 00 20 04 00 00 00 10"), big.clone()].concat()
    );
    assert_eq!(
        w(&|w| w.enumeration(tag, 255)),
        hex("42 00 20 05 00 00 00 04 00 00 00 FF 00 00 00 00")
    );
    assert_eq!(
        w(&|w| w.boolean(tag, true)),
        hex("42 00 20 06 00 00 00 08 00 00 00 00 00 00 00 01")
    );
    assert_eq!(
        w(&|w| w.text(tag, "Hello World").unwrap()),
        hex("42 00 20 07 00 00 00 0B 48 65 6C 6C 6F 20 57 6F 72 6C 64 00 00 00 00 00")
    );
    assert_eq!(
        w(&|w| w.bytes(tag, &[1, 2, 3]).unwrap()),
        hex("42 00 20 08 00 00 00 03 01 02 03 00 00 00 00 00")
    );
    assert_eq!(
        w(&|w| w.date_time(tag, 0x47DA67F8)),
        hex("42 00 20 09 00 00 00 08 00 00 00 00 47 DA 67 F8")
    );
    assert_eq!(
        w(&|w| w.interval(tag, 864_000)),
        hex("42 00 20 0A 00 00 00 04 00 0D 2F 00 00 00 00 00")
    );
    let structure = written(|w| {
        w.structure(tag, |w| {
            w.enumeration(Tag::new(0x420004), 254);
            w.integer(Tag::new(0x420005), 255);
            Ok(())
        })
    });
    assert_eq!(
        structure,
        hex(
            "42 00 20 01 00 00 00 20 42 00 04 05 00 00 00 04 00 00 00 FE 00 00 00 00 42 00 05 02 00 00 00 04 00 00 00 FF 00 00 00 00"
        )
    );
}

#[test]
fn extreme_values_come_back() {
    for value in [0, 1, -1, i32::MIN, i32::MAX] {
        assert_eq!(back::<i32>(&encoded(&value)), value);
    }
    for value in [0, -1, i64::MIN, i64::MAX] {
        assert_eq!(back::<i64>(&encoded(&value)), value);
        assert_eq!(
            back::<DateTime>(&encoded(&DateTime(value))),
            DateTime(value)
        );
        assert_eq!(
            back::<DateTimeExtended>(&encoded(&DateTimeExtended(value))),
            DateTimeExtended(value)
        );
    }
    for value in [0, 1, u32::MAX] {
        assert_eq!(
            back::<Interval>(&encoded(&Interval(value))),
            Interval(value)
        );
        assert_eq!(
            back::<Enumeration>(&encoded(&Enumeration(value))),
            Enumeration(value)
        );
    }
    for value in [true, false] {
        assert_eq!(back::<bool>(&encoded(&value)), value);
    }
    for length in 0..20 {
        let (bytes, text) = (vec![0xA5u8; length], "x".repeat(length));
        assert_eq!(back::<Vec<u8>>(&encoded(&bytes)), bytes);
        assert_eq!(back::<String>(&encoded(&text)), text);
    }
    assert_eq!(
        back::<String>(&encoded(&"\u{1F511}\0é".to_owned())),
        "\u{1F511}\0é"
    );
}

#[test]
fn a_big_integer_is_extended_by_its_sign() {
    for (value, expected) in [
        (vec![0x7F], vec![0, 0, 0, 0, 0, 0, 0, 0x7F]),
        (
            vec![0x80],
            vec![0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x80],
        ),
        (
            vec![1, 2, 3, 4, 5, 6, 7, 8, 9],
            vec![0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        ),
    ] {
        let bytes = written(|w| w.big_integer(T, &value));
        assert_eq!(bytes[8..], expected);
    }
    let mut w = Writer::new(cx());
    assert_eq!(
        *w.big_integer(T, &[]).unwrap_err().kind(),
        ErrorKind::WrongLength(0)
    );
}

#[test]
fn values_of_any_type_keep_type_and_content() {
    let raw = Raw::of(T, "inner", cx()).unwrap();
    struct Around(Raw);
    impl Encode for Around {
        fn encode(&self, tag: Tag, w: &mut Writer) -> keyferry_ttlv::Result<()> {
            w.structure(tag, |w| self.0.encode(T, w))
        }
    }
    let values = [
        (
            Value::Structure(Raw::of(T, &Around(raw), cx()).unwrap()),
            Type::Structure,
        ),
        (Value::Integer(-5), Type::Integer),
        (Value::LongInteger(1 << 40), Type::LongInteger),
        (Value::BigInteger(vec![1; 16]), Type::BigInteger),
        (Value::Enumeration(7), Type::Enumeration),
        (Value::Boolean(false), Type::Boolean),
        (Value::Text("t".into()), Type::TextString),
        (Value::Bytes(vec![]), Type::ByteString),
        (Value::DateTime(DateTime(3)), Type::DateTime),
        (Value::Interval(Interval(4)), Type::Interval),
        (
            Value::DateTimeExtended(DateTimeExtended(5)),
            Type::DateTimeExtended,
        ),
    ];
    for (value, ty) in values {
        assert_eq!(value.ty(), ty);
        assert_eq!(back::<Value>(&encoded(&value)), value);
        assert_eq!(Item::parse(&encoded(&value)).unwrap().ty(), ty);
        assert_eq!(Type::from_number(ty as u8), Some(ty));
    }
    let mut old = Writer::new(Context::new(Version::V1_4));
    let late = Value::DateTimeExtended(DateTimeExtended(5))
        .encode(T, &mut old)
        .unwrap_err();
    assert!(matches!(
        late.kind(),
        ErrorKind::NotInVersion {
            since: Version::V2_0,
            ..
        }
    ));
}

#[test]
fn raw_items_are_equal_when_their_bytes_are() {
    let around = written(|w| {
        w.structure(T, |w| {
            w.integer(U, 1);
            w.integer(U, 1);
            w.integer(U, 2);
            Ok(())
        })
    });
    let r = Reader::new(&around, cx());
    let mut children = r.children(Item::parse(&around).unwrap()).unwrap();
    let mut next = || r.child::<Raw>(children.next(&r).unwrap().unwrap()).unwrap();
    let (one, same, other) = (next(), next(), next());
    assert_eq!(one, same);
    assert_ne!(one, other);
    assert_eq!(one.tag(), U);
    assert_eq!(format!("{one:?}"), "Raw(420002, 16 bytes)");
    let error = other.read::<String>(cx()).unwrap_err();
    assert_eq!(
        error.offset(),
        Some(8 + 32 + 3),
        "places are those of the whole message"
    );
}
