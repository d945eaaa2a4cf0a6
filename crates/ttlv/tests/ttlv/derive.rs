//! What the derive makes of fields.

use crate::support::*;
use keyferry_ttlv::{
    Context, Decode, Encode, ErrorKind, Extra, Item, Limits, Raw, Reader, Tag, Version, Writer,
    decode, encode,
};

pub(crate) const REQUIRED: Tag = Tag::new(0x420010);
const OPTIONAL: Tag = Tag::new(0x420011);
const REPEATED: Tag = Tag::new(0x420012);
const SINCE: Tag = Tag::new(0x420013);
const UNTIL: Tag = Tag::new(0x420014);
const LATER_REQUIRED: Tag = Tag::new(0x420015);
const LATER_REPEATED: Tag = Tag::new(0x420016);
const BYTES: Tag = Tag::new(0x420017);

#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[ttlv(tag = T)]
pub(crate) struct All {
    #[ttlv(tag = REQUIRED)]
    required: i32,
    #[ttlv(tag = OPTIONAL)]
    optional: Option<String>,
    #[ttlv(tag = REPEATED)]
    repeated: Vec<i32>,
    #[ttlv(tag = BYTES)]
    bytes: Vec<u8>,
    #[ttlv(tag = SINCE, since = "1.2")]
    since: Option<i32>,
    #[ttlv(tag = UNTIL, until = "1.4")]
    until: Option<i32>,
    #[ttlv(tag = LATER_REQUIRED, required_since = "2.0")]
    later_required: Option<i32>,
    #[ttlv(tag = LATER_REPEATED, repeated_since = "2.0")]
    later_repeated: Vec<i32>,
    #[ttlv(extra)]
    extra: Extra,
}

/// Every field of the newest version, and one that is not known.
pub(crate) fn full() -> All {
    let mut all = All {
        required: -1,
        optional: Some("a text".into()),
        repeated: vec![1, 2, 3],
        bytes: vec![1, 2, 3],
        since: Some(3),
        later_required: Some(4),
        later_repeated: vec![5, 6],
        ..All::default()
    };
    all.extra.push(Raw::of(U, "kept", cx()).unwrap());
    all
}

pub(crate) fn at(version: Version) -> Context {
    Context::new(version)
}

pub(crate) fn least() -> All {
    All {
        required: 1,
        later_required: Some(2),
        ..All::default()
    }
}

pub(crate) fn message(content: impl FnOnce(&mut Writer)) -> Vec<u8> {
    written(|w| {
        w.structure(T, |w| {
            content(w);
            Ok(())
        })
    })
}

#[test]
fn fields_come_back_in_the_order_of_the_type() {
    let all = All {
        optional: Some("o".into()),
        repeated: vec![1, 2, 3],
        bytes: vec![9],
        since: Some(5),
        ..least()
    };
    let bytes = encode(&all, at(Version::V2_1)).unwrap();
    assert_eq!(decode::<All>(&bytes, at(Version::V2_1)).unwrap(), all);
    let r = Reader::new(&bytes, cx());
    let (mut children, mut tags) = (
        r.children(Item::parse(&bytes).unwrap()).unwrap(),
        Vec::new(),
    );
    while let Some(child) = children.next(&r).unwrap() {
        tags.push(child.tag());
    }
    assert_eq!(
        tags,
        [
            REQUIRED,
            OPTIONAL,
            REPEATED,
            REPEATED,
            REPEATED,
            BYTES,
            SINCE,
            LATER_REQUIRED
        ]
    );
}

#[test]
fn fields_are_taken_in_any_order() {
    let bytes = message(|w| {
        w.integer(REPEATED, 1);
        w.bytes(BYTES, &[]).unwrap();
        w.integer(REQUIRED, 7);
        w.integer(REPEATED, 2);
    });
    let all: All = decode(&bytes, at(Version::V1_0)).unwrap();
    assert_eq!((all.required, all.repeated), (7, vec![1, 2]));
}

#[test]
fn required_fields_have_to_be_there_and_single_ones_once() {
    let error = decode::<All>(&message(|w| w.integer(REQUIRED, 1)), at(Version::V1_0)).unwrap_err();
    assert_eq!(
        error.kind(),
        &ErrorKind::Missing(BYTES),
        "a Byte String is one field, not a repeated one"
    );
    let twice = message(|w| {
        w.integer(REQUIRED, 1);
        w.integer(REQUIRED, 1);
    });
    assert_eq!(
        decode::<All>(&twice, at(Version::V1_0)).unwrap_err().kind(),
        &ErrorKind::Repeated(REQUIRED)
    );
}

#[test]
fn a_field_outside_its_versions_is_not_written_and_is_kept_raw_when_it_comes() {
    let since = All {
        since: Some(5),
        ..least()
    };
    let error = encode(&since, at(Version::V1_1)).unwrap_err();
    assert_eq!(
        error.kind(),
        &ErrorKind::NotInVersion {
            version: Version::V1_1,
            since: Version::V1_2,
            until: None
        }
    );
    assert_eq!(error.path(), [T, SINCE]);
    let until = All {
        until: Some(5),
        ..least()
    };
    encode(&until, at(Version::V1_4)).unwrap();
    assert!(encode(&until, at(Version::V2_0)).is_err());
    let bytes = message(|w| {
        w.integer(REQUIRED, 1);
        w.bytes(BYTES, &[]).unwrap();
        w.integer(SINCE, 5);
    });
    let early: All = decode(&bytes, at(Version::V1_1)).unwrap();
    assert_eq!((early.since, early.extra.iter().count()), (None, 1));
    assert_eq!(
        encode(&early, at(Version::V1_1)).unwrap().to_vec(),
        bytes,
        "and written back byte for byte"
    );
    assert_eq!(
        decode::<All>(&bytes, at(Version::V1_2)).unwrap().since,
        Some(5)
    );
}

#[test]
fn required_since_binds_the_writer_and_not_the_reader() {
    let without = All {
        later_required: None,
        ..least()
    };
    encode(&without, at(Version::V1_4)).unwrap();
    let error = encode(&without, at(Version::V2_0)).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Missing(LATER_REQUIRED));
    let bytes = encode(&without, at(Version::V1_4)).unwrap();
    assert_eq!(
        decode::<All>(&bytes, at(Version::V2_1)).unwrap(),
        without,
        "others may be lax"
    );
}

#[test]
fn repeated_since_lets_one_through_before() {
    let one = All {
        later_repeated: vec![1],
        ..least()
    };
    encode(&one, at(Version::V1_0)).unwrap();
    let two = All {
        later_repeated: vec![1, 2],
        ..least()
    };
    assert_eq!(
        encode(&two, at(Version::V1_4)).unwrap_err().kind(),
        &ErrorKind::Repeated(LATER_REPEATED)
    );
    assert_eq!(
        decode::<All>(&encode(&two, at(Version::V2_0)).unwrap(), at(Version::V2_0)).unwrap(),
        two
    );
}

#[test]
fn unknown_fields_are_kept_and_written_back_behind_the_others() {
    let bytes = message(|w| {
        w.integer(REQUIRED, 1);
        w.bytes(BYTES, &[]).unwrap();
        w.structure(V, |w| w.text(U, "unknown")).unwrap();
        w.integer(U, 3);
    });
    let all: All = decode(&bytes, at(Version::V2_1)).unwrap();
    assert_eq!(all.extra.iter().map(Raw::tag).collect::<Vec<_>>(), [V, U]);
    assert!(all.extra.find(U).is_some() && all.extra.find(T).is_none() && !all.extra.is_empty());
    let again = All {
        later_required: None,
        ..all
    };
    assert_eq!(encode(&again, at(Version::V1_4)).unwrap().to_vec(), bytes);
}

#[test]
fn what_is_kept_is_checked_all_the_same() {
    let mut bytes = message(|w| {
        w.integer(REQUIRED, 1);
        w.bytes(BYTES, &[]).unwrap();
        w.boolean(V, true);
    });
    *bytes.last_mut().unwrap() = 3;
    assert_eq!(
        decode::<All>(&bytes, cx()).unwrap_err().kind(),
        &ErrorKind::Boolean
    );
    let deep = message(|w| {
        w.raw(&written(|w| {
            w.structure(V, |w| w.structure(V, |w| w.structure(V, |_| Ok(()))))
        }))
    });
    let cx = Context {
        limits: Limits {
            depth: 2,
            ..Limits::DEFAULT
        },
        ..cx()
    };
    assert_eq!(
        decode::<All>(&deep, cx).unwrap_err().kind(),
        &ErrorKind::Depth(2)
    );
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = U)]
pub(crate) struct Strict {
    #[ttlv(tag = REQUIRED)]
    pub(crate) required: i32,
}

#[test]
fn without_a_place_for_them_unknown_fields_are_an_error() {
    let bytes = written(|w| {
        w.structure(U, |w| {
            w.integer(REQUIRED, 1);
            w.integer(V, 1);
            Ok(())
        })
    });
    let error = decode::<Strict>(&bytes, cx()).unwrap_err();
    assert_eq!(
        (error.kind(), error.offset()),
        (&ErrorKind::Unexpected(V), Some(24))
    );
}
