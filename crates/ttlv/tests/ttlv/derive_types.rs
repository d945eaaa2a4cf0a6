//! The types that the derive takes: choices, groups, defaults, parameters, types within themselves.

use crate::derive::{All, REQUIRED, Strict, at, least, message};
use crate::support::*;
use keyferry_ttlv::{
    Context, Decode, Encode, ErrorKind, Extra, Group, Item, Limits, Raw, Reader, Result, Tag,
    Tagged, Version, Writer, decode, encode,
};

const ONE: Tag = Tag::new(0x420020);
const TWO: Tag = Tag::new(0x420021);

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
enum Either {
    #[ttlv(tag = ONE)]
    Number(i32),
    #[ttlv(tag = TWO)]
    Text(String),
    Strict(Strict),
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = T)]
struct Chosen {
    #[ttlv(choice)]
    first: Either,
    #[ttlv(tag = REQUIRED)]
    number: Option<i32>,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = T)]
struct Several {
    #[ttlv(choice)]
    all: Vec<Either>,
}

#[test]
fn a_choice_is_told_by_its_tag() {
    for first in [
        Either::Number(5),
        Either::Text("t".into()),
        Either::Strict(Strict { required: 1 }),
    ] {
        let chosen = Chosen {
            first,
            number: Some(3),
        };
        let bytes = encode(&chosen, cx()).unwrap();
        assert_eq!(decode::<Chosen>(&bytes, cx()).unwrap(), chosen);
    }
    let both = message(|w| {
        w.integer(ONE, 1);
        w.text(TWO, "t").unwrap();
    });
    assert_eq!(
        decode::<Chosen>(&both, cx()).unwrap_err().kind(),
        &ErrorKind::Repeated(TWO)
    );
    assert!(matches!(
        decode::<Chosen>(&message(|_| ()), cx()).unwrap_err().kind(),
        ErrorKind::Missing(_)
    ));
    let several: Several = decode(&both, cx()).unwrap();
    assert_eq!(several.all, [Either::Number(1), Either::Text("t".into())]);
    assert_eq!(encode(&several, cx()).unwrap().to_vec(), both);
    let wrong = decode::<Chosen>(&message(|w| w.text(ONE, "t").unwrap()), cx()).unwrap_err();
    assert_eq!((wrong.path(), wrong.offset()), (&[T, ONE][..], Some(11)));
}

/// Several numbers in 1.x, one structure with them in 2.x.
#[derive(Clone, Debug, Default, PartialEq)]
struct Numbers(Vec<i32>);

impl Group for Numbers {
    type How = Tag;

    fn accepts(how: Tag, item: Item<'_>, r: &Reader<'_>) -> bool {
        let tag = item.tag();
        tag == if r.version() >= Version::V2_0 {
            how
        } else {
            ONE
        }
    }

    fn absorb<'a>(&mut self, _: Tag, _: usize, item: Item<'a>, r: &Reader<'a>) -> Result<()> {
        if r.version() < Version::V2_0 {
            self.0.push(r.child(item)?);
            return Ok(());
        }
        let mut children = r.children(item)?;
        while let Some(child) = children.next(r)? {
            self.0.push(r.child(child)?);
        }
        Ok(())
    }

    fn write(&self, how: Tag, w: &mut Writer) -> Result<()> {
        let each = |w: &mut Writer| self.0.iter().try_for_each(|n| n.encode(ONE, w));
        if w.version() >= Version::V2_0 {
            w.structure(how, each)
        } else {
            each(w)
        }
    }
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = T)]
struct Grouped {
    #[ttlv(group = TWO)]
    numbers: Numbers,
    #[ttlv(tag = REQUIRED)]
    required: i32,
}

#[test]
fn a_group_takes_other_items_in_other_versions() {
    let grouped = Grouped {
        numbers: Numbers(vec![1, 2]),
        required: 3,
    };
    for version in [Version::V1_4, Version::V2_0] {
        let bytes = encode(&grouped, at(version)).unwrap();
        assert_eq!(decode::<Grouped>(&bytes, at(version)).unwrap(), grouped);
    }
    assert_ne!(
        encode(&grouped, at(Version::V1_4)).unwrap(),
        encode(&grouped, at(Version::V2_0)).unwrap()
    );
    let old = encode(&grouped, at(Version::V1_4)).unwrap();
    assert_eq!(
        decode::<Grouped>(&old, at(Version::V2_0))
            .unwrap_err()
            .kind(),
        &ErrorKind::Unexpected(ONE)
    );
}

#[test]
fn tags_of_types_are_used_where_a_field_names_none() {
    #[derive(Debug, PartialEq, Encode, Decode)]
    #[ttlv(tag = V)]
    struct Holder {
        inner: Strict,
        boxed: Option<Box<All>>,
    }
    assert_eq!(<Box<All> as Tagged>::TAG, T);
    let holder = Holder {
        inner: Strict { required: 1 },
        boxed: Some(Box::new(least())),
    };
    let bytes = encode(&holder, cx()).unwrap();
    assert_eq!(decode::<Holder>(&bytes, cx()).unwrap(), holder);
}

#[derive(Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = T)]
struct Defaults {
    #[ttlv(tag = ONE, default)]
    one: bool,
    #[ttlv(tag = TWO, since = "1.2", default = 7)]
    two: i32,
}

#[test]
fn a_default_stands_for_an_absent_field_and_is_not_written() {
    let cx = at(Version::V1_0);
    let usual = Defaults { one: false, two: 7 };
    let bytes = encode(&usual, cx).unwrap();
    assert_eq!(
        bytes.len(),
        8,
        "a field that the version lacks may have its default"
    );
    assert_eq!(decode::<Defaults>(&bytes, cx).unwrap(), usual);
    let other = Defaults { one: true, two: 8 };
    let later = at(Version::V1_2);
    assert_eq!(
        decode::<Defaults>(&encode(&other, later).unwrap(), later).unwrap(),
        other
    );
    assert!(matches!(
        encode(&other, cx).unwrap_err().kind(),
        ErrorKind::NotInVersion { .. }
    ));
    let stated = message(|w| w.integer(TWO, 7));
    assert_eq!(
        decode::<Defaults>(&stated, later).unwrap(),
        usual,
        "a default may be stated"
    );
}

#[derive(Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = T)]
struct Around<P> {
    #[ttlv(tag = ONE)]
    one: Option<P>,
    #[ttlv(tag = TWO)]
    many: Vec<P>,
}

#[test]
fn type_parameters_are_read_and_written_as_what_they_are() {
    let cx = at(Version::V2_1);
    let numbers = Around {
        one: Some(1),
        many: vec![2, 3],
    };
    assert_eq!(
        decode::<Around<i32>>(&encode(&numbers, cx).unwrap(), cx).unwrap(),
        numbers
    );
    let texts = Around {
        one: None,
        many: vec![String::from("x")],
    };
    let bytes = encode(&texts, cx).unwrap();
    assert_eq!(decode::<Around<String>>(&bytes, cx).unwrap(), texts);
    assert!(matches!(
        decode::<Around<i32>>(&bytes, cx).unwrap_err().kind(),
        ErrorKind::WrongType { .. }
    ));
}

#[derive(Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = 0x420001)]
struct Node {
    inner: Option<Box<Node>>,
    #[ttlv(tag = TWO)]
    others: Vec<Node>,
    #[ttlv(extra)]
    extra: Extra,
}

/// `depth` structures within one another, every second one as one of several.
fn nodes(depth: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(depth * 8);
    for inner in (0..depth).rev() {
        let tag = if inner % 2 == 0 && inner + 1 != depth {
            TWO
        } else {
            Tag::new(0x420001)
        };
        bytes.extend_from_slice(&(tag.number() << 8 | 1).to_be_bytes());
        bytes.extend_from_slice(&((inner * 8) as u32).to_be_bytes());
    }
    bytes
}

#[test]
fn a_type_that_contains_itself_is_read_as_deep_as_the_limit() {
    let at_most = |depth| Context {
        limits: Limits {
            depth,
            ..Limits::DEFAULT
        },
        ..cx()
    };
    decode::<Node>(&nodes(9), at_most(9)).unwrap();
    assert_eq!(
        kind(decode::<Node>(&nodes(10), at_most(9))),
        (ErrorKind::Depth(9), 72)
    );
    assert_eq!(
        kind(decode::<Node>(&nodes(100_000), cx())),
        (ErrorKind::Depth(32), 256)
    );
    // What is kept raw counts from where it stands.
    let raw = |depth: usize| {
        written(|w| {
            w.structure(Tag::new(0x420001), |w| {
                w.structure(TWO, |w| {
                    w.raw(
                        &[
                            &[0x54, 0, 1, 1, 0, 0, 0, (depth * 8) as u8][..],
                            &nodes(depth),
                        ]
                        .concat(),
                    );
                    Ok(())
                })
            })
        })
    };
    decode::<Node>(&raw(2), at_most(5)).unwrap();
    assert_eq!(
        kind(decode::<Node>(&raw(3), at_most(5))).0,
        ErrorKind::Depth(5)
    );
    // One after another is not one within another.
    let beside = Node {
        inner: None,
        others: (0..99)
            .map(|_| Node {
                inner: None,
                others: vec![],
                extra: Extra::NONE,
            })
            .collect(),
        extra: Extra::NONE,
    };
    assert_eq!(
        decode::<Node>(&encode(&beside, cx()).unwrap(), at_most(2)).unwrap(),
        beside
    );
}

#[derive(Debug, PartialEq, Encode, Decode)]
enum Form {
    #[ttlv(tag = ONE)]
    Always(i32),
    #[ttlv(tag = TWO, since = "1.2", until = "1.4")]
    Sometimes(i32),
}

#[derive(Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = T)]
struct Formed {
    #[ttlv(choice, tag = ONE)]
    form: Option<Form>,
    #[ttlv(extra)]
    extra: Extra,
}

#[test]
fn a_form_of_a_choice_has_versions() {
    let sometimes = Formed {
        form: Some(Form::Sometimes(1)),
        extra: Extra::NONE,
    };
    let bytes = encode(&sometimes, at(Version::V1_3)).unwrap();
    assert_eq!(
        decode::<Formed>(&bytes, at(Version::V1_3)).unwrap(),
        sometimes
    );
    for version in [Version::V1_1, Version::V2_0] {
        assert!(matches!(
            encode(&sometimes, at(version)).unwrap_err().kind(),
            ErrorKind::NotInVersion { .. }
        ));
        let unknown = decode::<Formed>(&bytes, at(version)).unwrap();
        assert!(unknown.form.is_none() && unknown.extra.find(TWO).is_some());
        assert_eq!(encode(&unknown, at(version)).unwrap()[..], bytes[..]);
    }
}

#[derive(Encode)]
#[ttlv(tag = T)]
struct Borrowed<'a> {
    #[ttlv(tag = ONE)]
    text: &'a str,
}

#[test]
fn what_is_only_written_may_be_borrowed() {
    let bytes = encode(&Borrowed { text: "x" }, cx()).unwrap();
    assert_eq!(bytes[..], message(|w| w.text(ONE, "x").unwrap())[..]);
}

/// What is printed of an error has no bytes of the message: behind a wrong length they may be a key.
#[test]
fn errors_do_not_quote() {
    #[derive(Debug, Encode, Decode)]
    #[ttlv(tag = T)]
    struct Closed {
        #[ttlv(tag = ONE)]
        flag: Option<bool>,
    }
    let flag = message(|w| {
        w.raw(&[
            0x42, 0, 0x20, 6, 0, 0, 0, 8, 0xDE, 0xAD, 0xBE, 0xEF, 1, 2, 3, 4,
        ])
    });
    let tag = message(|w| w.raw(&[0xDE, 0xAD, 0xBE, 2, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0]));
    for bytes in [flag, tag] {
        let r = Reader::new(&bytes, cx());
        let whole = r.check(Item::parse(&bytes).unwrap()).unwrap_err();
        for error in [
            decode::<Closed>(&bytes, cx()).unwrap_err(),
            decode::<Node>(&bytes, cx()).unwrap_err(),
            whole,
        ] {
            let said = format!("{error} {error:?} {:?} {:?}", error.kind(), error.path());
            assert!(!said.contains("DEAD") && !said.contains("222"), "{said}");
        }
    }
}

#[test]
fn a_check_tells_the_path() {
    let wrong = [0x42, 0, 0x21, 6, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2];
    let bytes = written(|w| {
        w.structure(T, |w| {
            w.structure(ONE, |w| {
                w.raw(&wrong);
                Ok(())
            })
        })
    });
    let r = Reader::new(&bytes, cx());
    let error = r.check(Item::parse(&bytes).unwrap()).unwrap_err();
    assert_eq!(
        (error.kind(), error.path(), error.offset()),
        (&ErrorKind::Boolean, &[ONE, TWO][..], Some(24))
    );
    let error = decode::<Closing>(&bytes, cx()).unwrap_err();
    assert_eq!(
        (error.path(), error.offset()),
        (&[T, ONE, TWO][..], Some(24))
    );
}

#[derive(Debug, Encode, Decode)]
#[ttlv(tag = T)]
struct Closing {
    #[ttlv(tag = ONE)]
    raw: Raw,
}
