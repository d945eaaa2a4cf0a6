//! The forgiving reader: good and broken messages, with secrets masked.

use keyferry_ttlv::inspect::{Inspection, Options, tree, unhex};
use keyferry_ttlv::{Context, Dictionary, ErrorKind, Result, Tag, Version, Writer};
use proptest::prelude::*;

const MESSAGE: Tag = Tag::new(0x420078);
const NAME: Tag = Tag::new(0x42000A);
const VALUE: Tag = Tag::new(0x42000B);
const STATE: Tag = Tag::new(0x42008D);
const MASK: Tag = Tag::new(0x42002C);
const KEY: Tag = Tag::new(0x420043);

struct Names;

impl Dictionary for Names {
    fn tag_name(&self, tag: Tag) -> Option<&'static str> {
        [
            (MESSAGE, "Request Message"),
            (NAME, "Attribute Name"),
            (VALUE, "Attribute Value"),
            (STATE, "State"),
            (MASK, "Mask"),
            (KEY, "Key Material"),
        ]
        .into_iter()
        .find_map(|(t, name)| (t == tag).then_some(name))
    }
    fn value_name(&self, tag: Tag, value: u32) -> Option<&'static str> {
        (tag == STATE && value == 2).then_some("Active")
    }
    fn bit_name(&self, tag: Tag, bit: u32) -> Option<&'static str> {
        match (tag, bit) {
            (MASK, 1) => Some("Sign"),
            (MASK, 4) => Some("Encrypt"),
            _ => None,
        }
    }
    fn tag_named(&self, name: &str) -> Option<Tag> {
        (name == "State").then_some(STATE)
    }
    fn attribute_tags(&self) -> Option<(Tag, Tag)> {
        Some((NAME, VALUE))
    }
}

fn shown(message: &[u8], show_secrets: bool) -> Inspection {
    let options = Options {
        dictionary: &Names,
        is_secret: |tag| tag == KEY,
        show_secrets,
    };
    tree(
        message,
        Context {
            dictionary: Some(&Names),
            ..Context::new(Version::V2_1)
        },
        &options,
    )
}

fn message(content: impl FnOnce(&mut Writer) -> Result<()>) -> Vec<u8> {
    let mut w = Writer::new(Context::new(Version::V2_1));
    w.structure(MESSAGE, content).unwrap();
    w.finish().to_vec()
}

#[test]
fn a_sound_message_is_shown_with_names_and_offsets() {
    let bytes = message(|w| {
        w.text(NAME, "State")?;
        w.enumeration(VALUE, 2);
        w.enumeration(STATE, 9);
        w.integer(MASK, 5);
        w.integer(MASK, 2);
        w.integer(Tag::new(0x540001), -3);
        w.boolean(Tag::new(0x540002), true);
        w.date_time(Tag::new(0x540003), 77);
        w.interval(Tag::new(0x540004), 60);
        w.bytes(Tag::new(0x540005), &[0xAB, 0xCD])
    });
    let inspection = shown(&bytes, false);
    assert_eq!(inspection.error, None);
    let expected = [
        "     0  Request Message (Structure, 160)",
        "     8    Attribute Name (Text String, 5) = \"State\"",
        "    24    Attribute Value (Enumeration, 4) = Active",
        "    40    State (Enumeration, 4) = 00000009",
        "    56    Mask (Integer, 4) = Sign | Encrypt",
        "    72    Mask (Integer, 4) = 2",
        "    88    540001 (Integer, 4) = -3",
        "   104    540002 (Boolean, 8) = True",
        "   120    540003 (Date-Time, 8) = 77 s since 1970",
        "   136    540004 (Interval, 4) = 60 s",
        "   152    540005 (Byte String, 2) = 0xabcd",
    ];
    assert_eq!(inspection.text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn secrets_are_masked_unless_they_are_asked_for() {
    let bytes = message(|w| w.bytes(KEY, &[0xDE, 0xAD, 0xBE, 0xEF]));
    let masked = shown(&bytes, false).text;
    assert!(
        masked.contains("Key Material (Byte String, 4) = (masked)") && !masked.contains("dead"),
        "{masked}"
    );
    assert!(shown(&bytes, true).text.contains("0xdeadbeef"));
}

#[test]
fn secrets_that_are_structures_are_masked_to_the_ground() {
    let bytes = message(|w| {
        w.structure(KEY, |w| {
            w.bytes(Tag::new(0x42003F), &[0xDE, 0xAD, 0xBE, 0xEF])
        })
    });
    let masked = shown(&bytes, false).text;
    assert!(!masked.contains("deadbeef"), "{masked}");
    assert!(masked.contains("42003F"), "the tags are shown: {masked}");
    assert!(shown(&bytes, true).text.contains("deadbeef"));
}

#[test]
fn a_secret_in_a_broken_message_stays_masked() {
    let bytes = message(|w| {
        w.structure(KEY, |w| {
            w.bytes(Tag::new(0x42003F), b"secretsecret")?;
            w.bytes(Tag::new(0x42003F), b"secretsecret")
        })
    });
    for cut in 0..bytes.len() {
        let inspection = shown(&bytes[..cut], false);
        assert!(inspection.error.is_some());
        assert!(
            !inspection.text.contains("736563726574"),
            "{}",
            inspection.text
        );
    }
}

#[test]
fn a_message_cut_anywhere_is_shown_as_far_as_it_goes() {
    let bytes = message(|w| {
        w.structure(NAME, |w| w.text(NAME, "inner"))?;
        w.integer(MASK, 1);
        Ok(())
    });
    let whole = shown(&bytes, false);
    for cut in 0..bytes.len() {
        let inspection = shown(&bytes[..cut], false);
        let error = inspection.error.unwrap();
        assert!(
            matches!(error.kind(), ErrorKind::Truncated(_)),
            "cut at {cut}: {error}"
        );
        let lines = inspection.text.lines().count();
        assert!(lines <= whole.text.lines().count());
        assert!(cut < 8 || lines >= 1, "cut at {cut}");
    }
}

#[test]
fn an_error_has_path_and_byte() {
    let mut bytes = message(|w| {
        w.structure(NAME, |w| {
            w.boolean(STATE, true);
            Ok(())
        })
    });
    *bytes.last_mut().unwrap() = 7;
    let inspection = shown(&bytes, false);
    let error = inspection.error.unwrap();
    assert_eq!(
        error.to_string(),
        "Request Message > Attribute Name > State: Boolean is neither 0 nor 1 (byte 24)"
    );
    assert!(
        inspection.text.contains("State (Boolean, 8)"),
        "it is shown all the same"
    );
}

#[test]
fn odd_lengths_and_unknown_types_are_shown_and_judged() {
    let bytes = message(|w| {
        w.raw(&[0x42, 0, 0x2C, 2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
        Ok(())
    });
    let inspection = shown(&bytes, false);
    assert!(
        inspection
            .text
            .contains("Mask (Integer, 8) = 0x0000000000000001"),
        "{}",
        inspection.text
    );
    assert_eq!(inspection.error.unwrap().kind(), &ErrorKind::WrongLength(8));
    let bytes = message(|w| {
        w.raw(&[0x42, 0, 0x2C, 0x77, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
        w.integer(MASK, 1);
        Ok(())
    });
    let inspection = shown(&bytes, false);
    assert!(
        inspection.text.contains("Mask (type 77, 8)") && inspection.text.contains("= Sign"),
        "{}",
        inspection.text
    );
    assert_eq!(
        inspection.error.unwrap().kind(),
        &ErrorKind::UnknownType(0x77)
    );
}

#[test]
fn nothing_at_all_is_an_error() {
    let inspection = shown(&[], false);
    assert_eq!(
        (inspection.text.as_str(), inspection.error.unwrap().kind()),
        ("", &ErrorKind::Truncated(8))
    );
}

#[test]
fn several_messages_one_after_another_are_shown() {
    let one = message(|_| Ok(()));
    let inspection = shown(&[one.clone(), one].concat(), false);
    assert_eq!(
        (inspection.error, inspection.text.lines().count()),
        (None, 2)
    );
}

#[test]
fn depth_costs_no_stack() {
    let mut bomb = Vec::new();
    for inner in (0..50_000u32).rev() {
        bomb.extend_from_slice(&[0x42, 0, 0x78, 1]);
        bomb.extend_from_slice(&(inner * 8).to_be_bytes());
    }
    let inspection = shown(&bomb, false);
    assert!(matches!(
        inspection.error.unwrap().kind(),
        ErrorKind::Depth(_)
    ));
}

#[test]
fn hexadecimal_in_its_usual_forms() {
    for text in [
        "42007801",
        "0x42007801",
        "42 00 78 01",
        " 4200\n7801\r\n",
        "0X42007801",
        "4 2 0 0 7 8 0 1",
    ] {
        assert_eq!(
            unhex(text.as_bytes()).unwrap(),
            [0x42, 0, 0x78, 1],
            "{text:?}"
        );
    }
    assert_eq!(
        unhex(&[0x42, 0, 0x78, 1]).unwrap(),
        [0x42, 0, 0x78, 1],
        "binary is left alone"
    );
    assert_eq!(unhex(b"").unwrap(), [0; 0]);
    assert!(unhex(b"420").unwrap_err().to_string().contains("odd"));
    let error = unhex(b"4200 xyz").unwrap_err();
    assert_eq!(error.offset(), Some(5));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        shown(&bytes, false);
        let _ = unhex(&bytes);
    }

    #[test]
    fn no_changed_byte_shows_a_secret(at in 0usize..72, value in any::<u8>()) {
        let mut bytes = message(|w| {
            w.text(NAME, "State")?;
            w.bytes(KEY, &[0xEE; 24])
        });
        let at = at % bytes.len();
        // The key's own tag, and the lengths before it, say what is secret; nothing else may unmask it.
        prop_assume!(!(0..40).contains(&at));
        bytes[at] = value;
        prop_assert!(!shown(&bytes, false).text.contains("eeee"));
    }
}
