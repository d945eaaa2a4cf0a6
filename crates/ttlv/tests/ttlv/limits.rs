//! Limits, and input that is made to hurt.

use crate::support::*;
use keyferry_ttlv::{Context, Decode, ErrorKind, Item, Limits, Raw, Reader, Result};

fn check(bytes: &[u8], limits: Limits) -> Result<()> {
    let cx = Context { limits, ..cx() };
    let r = Reader::new(bytes, cx);
    r.check(Item::parse(bytes)?)
}

fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(depth * 8);
    for inner in (0..depth).rev() {
        bytes.extend_from_slice(&[0x42, 0, 1, 1]);
        bytes.extend_from_slice(&((inner * 8) as u32).to_be_bytes());
    }
    bytes
}

#[test]
fn depth_is_limited_and_costs_no_stack() {
    let limits = Limits {
        depth: 10,
        ..Limits::DEFAULT
    };
    check(&nested(10), limits).unwrap();
    assert_eq!(kind(check(&nested(11), limits)), (ErrorKind::Depth(10), 80));
    assert_eq!(
        kind(check(&nested(500_000), Limits::DEFAULT)).0,
        ErrorKind::Depth(32)
    );
    // Even where the limit is lifted, nothing recurses.
    std::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(|| {
            check(
                &nested(200_000),
                Limits {
                    depth: usize::MAX,
                    ..Limits::DEFAULT
                },
            )
            .unwrap()
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn items_are_limited() {
    let bytes = written(|w| {
        w.structure(T, |w| {
            (0..100).for_each(|n| w.integer(U, n));
            Ok(())
        })
    });
    check(
        &bytes,
        Limits {
            items: 101,
            ..Limits::DEFAULT
        },
    )
    .unwrap();
    assert_eq!(
        kind(check(
            &bytes,
            Limits {
                items: 100,
                ..Limits::DEFAULT
            }
        )),
        (ErrorKind::Items(100), 8 + 99 * 16)
    );
}

#[test]
fn texts_are_limited_and_byte_strings_by_the_message() {
    let text = written(|w| w.text(T, &"x".repeat(65)));
    let limits = Limits {
        text: 64,
        ..Limits::DEFAULT
    };
    assert_eq!(
        kind(check(&text, limits)),
        (
            ErrorKind::Size {
                size: 65,
                limit: 64
            },
            4
        )
    );
    check(&written(|w| w.bytes(T, &[0; 65])), limits).unwrap();
}

#[test]
fn a_message_over_the_limit_is_not_looked_into() {
    struct Never;
    impl keyferry_ttlv::Tagged for Never {
        const TAG: keyferry_ttlv::Tag = T;
    }
    impl Decode for Never {
        fn decode<'a>(_: Item<'a>, _: &Reader<'a>) -> Result<Self> {
            panic!("looked into")
        }
    }
    let cx = Context {
        limits: Limits {
            size: 15,
            ..Limits::DEFAULT
        },
        ..cx()
    };
    let error = keyferry_ttlv::decode::<Never>(&item(0x420001, 2, &[0; 4]), cx)
        .err()
        .unwrap();
    assert_eq!(
        error.kind(),
        &ErrorKind::Size {
            size: 16,
            limit: 15
        }
    );
}

#[test]
fn what_is_kept_raw_is_checked_to_the_ground() {
    let read = |bytes: &[u8]| {
        let r = Reader::new(bytes, cx());
        Raw::decode(Item::parse(bytes).unwrap(), &r).map(drop)
    };
    assert_eq!(kind(read(&nested(40))).0, ErrorKind::Depth(32));
    let bad = written(|w| {
        w.structure(T, |w| {
            w.raw(&item(0x420002, 7, b"\xFF"));
            Ok(())
        })
    });
    assert_eq!(kind(read(&bad)), (ErrorKind::Utf8, 16));
    let bad = written(|w| {
        w.structure(T, |w| {
            w.raw(&item(0x420002, 6, &[9; 8]));
            Ok(())
        })
    });
    assert!(matches!(kind(read(&bad)).0, ErrorKind::Boolean));
    let bad = written(|w| {
        w.structure(T, |w| {
            w.raw(&[0x42, 0, 2, 8, 0, 0, 1, 0]);
            Ok(())
        })
    });
    assert_eq!(kind(read(&bad)), (ErrorKind::Overrun(256), 12));
}
