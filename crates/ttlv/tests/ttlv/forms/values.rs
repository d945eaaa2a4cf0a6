//! The forms of the values, in both encodings.

use crate::forms::support::*;
use keyferry_ttlv::{Context, ErrorKind, Tag, Version, Writer, json, xml};

type Write = fn(&mut Writer);

/// Type, value in XML, value in JSON, what it is; the first row of several is what is written.
#[rustfmt::skip]
const GOOD: &[(&str, &str, &str, Write)] = &[
    ("Integer", "10", "10", |w| w.integer(PLAIN, 10)),
    ("Integer", "-1", "-1", |w| w.integer(PLAIN, -1)),
    ("Integer", "-2147483648", "-2147483648", |w| w.integer(PLAIN, i32::MIN)),
    ("LongInteger", "-2", "-2", |w| w.long_integer(PLAIN, -2)),
    ("LongInteger", "4503599627370495", "4503599627370495", |w| w.long_integer(PLAIN, (1 << 52) - 1)),
    ("LongInteger", "4503599627370496", "\"0x0010000000000000\"", |w| w.long_integer(PLAIN, 1 << 52)),
    ("LongInteger", "-4503599627370496", "\"0xfff0000000000000\"", |w| w.long_integer(PLAIN, -(1 << 52))),
    ("LongInteger", "-9223372036854775808", "\"0x8000000000000000\"", |w| w.long_integer(PLAIN, i64::MIN)),
    ("BigInteger", "00000000000000ff", "\"0x00000000000000ff\"", |w| w.big_integer(PLAIN, &[0, 0xFF]).unwrap()),
    ("BigInteger", "ffffffffffffff80", "\"0xffffffffffffff80\"", |w| w.big_integer(PLAIN, &[0x80]).unwrap()),
    ("Enumeration", "0x0000000A", "\"0x0000000A\"", |w| w.enumeration(PLAIN, 10)),
    ("Boolean", "true", "true", |w| w.boolean(PLAIN, true)),
    ("Boolean", "false", "false", |w| w.boolean(PLAIN, false)),
    ("TextString", "", "\"\"", |w| w.text(PLAIN, "").unwrap()),
    ("TextString", " 0x0A ", "\" 0x0A \"", |w| w.text(PLAIN, " 0x0A ").unwrap()),
    ("TextString", "a&amp;b&lt;c&gt;&quot;'\u{e9}&#9;&#10;&#13;", "\"a&b<c>\\\"'\u{e9}\\u0009\\u000a\\u000d\"",
        |w| w.text(PLAIN, "a&b<c>\"'\u{e9}\t\n\r").unwrap()),
    ("ByteString", "", "\"\"", |w| w.bytes(PLAIN, &[]).unwrap()),
    ("ByteString", "c50f77", "\"c50f77\"", |w| w.bytes(PLAIN, &[0xC5, 0x0F, 0x77]).unwrap()),
    ("DateTime", "2013-06-26T09:09:17+00:00", "\"2013-06-26T09:09:17+00:00\"", |w| w.date_time(PLAIN, 1_372_237_757)),
    ("DateTime", "0001-01-01T00:00:00+00:00", "\"0001-01-01T00:00:00+00:00\"", |w| w.date_time(PLAIN, -62_135_596_800)),
    ("DateTime", "9999-12-31T23:59:59+00:00", "\"9999-12-31T23:59:59+00:00\"", |w| w.date_time(PLAIN, 253_402_300_799)),
    ("DateTime", "1969-12-31T23:59:59+00:00", "\"1969-12-31T23:59:59+00:00\"", |w| w.date_time(PLAIN, -1)),
    ("DateTime", "2000-02-29T00:00:00+00:00", "\"2000-02-29T00:00:00+00:00\"", |w| w.date_time(PLAIN, 951_782_400)),
    ("DateTime", "0x0000003afff44180", "\"0x0000003afff44180\"", |w| w.date_time(PLAIN, 253_402_300_800)),
    ("DateTime", "0x7fffffffffffffff", "\"0x7fffffffffffffff\"", |w| w.date_time(PLAIN, i64::MAX)),
    ("DateTimeExtended", "2013-06-26T09:09:17.000123+00:00", "\"2013-06-26T09:09:17.000123+00:00\"",
        |w| w.date_time_extended(PLAIN, 1_372_237_757_000_123)),
    ("DateTimeExtended", "1969-12-31T23:59:59.999999+00:00", "\"1969-12-31T23:59:59.999999+00:00\"", |w| w.date_time_extended(PLAIN, -1)),
    ("DateTimeExtended", "0x7fffffffffffffff", "\"0x7fffffffffffffff\"", |w| w.date_time_extended(PLAIN, i64::MAX)),
    ("Interval", "27", "27", |w| w.interval(PLAIN, 27)),
    ("Interval", "4294967295", "4294967295", |w| w.interval(PLAIN, u32::MAX)),
];

#[test]
fn every_type_is_written_and_read() {
    for (ty, in_xml, in_json, write) in GOOD {
        let bytes = written(|w| Ok(write(w)));
        assert_eq!(
            xml_value(ty, in_xml).unwrap().to_vec(),
            bytes,
            "{ty} {in_xml}"
        );
        assert_eq!(
            json_value(ty, in_json).unwrap().to_vec(),
            bytes,
            "{ty} {in_json}"
        );
        let expected = format!("<BatchCount type=\"{ty}\" value=\"{in_xml}\"/>\n");
        assert_eq!(*xml::from_ttlv(&bytes, cx()).unwrap(), expected);
        let expected =
            format!("{{\"tag\":\"BatchCount\", \"type\":\"{ty}\", \"value\":{in_json}}}\n");
        assert_eq!(*json::from_ttlv(&bytes, cx()).unwrap(), expected);
    }
}

/// Forms that are read and not written.
#[rustfmt::skip]
const OTHER_XML: &[(&str, &str, Write)] = &[
    ("Integer", "0x0000100c", |w| w.integer(PLAIN, 0x100C)),
    ("Integer", "0xFFFFFFFF", |w| w.integer(PLAIN, -1)),
    ("Integer", " +10\n", |w| w.integer(PLAIN, 10)),
    ("LongInteger", "0xfffffffffffffffe", |w| w.long_integer(PLAIN, -2)),
    ("BigInteger", "0xFFFFFFFFFFFFFFFF", |w| w.big_integer(PLAIN, &[0xFF]).unwrap()),
    ("BigInteger", "0000000000000001", |w| w.big_integer(PLAIN, &[1]).unwrap()),
    ("Boolean", "1", |w| w.boolean(PLAIN, true)),
    ("Boolean", "0", |w| w.boolean(PLAIN, false)),
    ("Boolean", "0x0000000000000001", |w| w.boolean(PLAIN, true)),
    ("TextString", "&#x41;&apos;&#66;a\tb\r\nc\nd", |w| w.text(PLAIN, "A'Ba b c d").unwrap()),
    ("ByteString", "C50F77", |w| w.bytes(PLAIN, &[0xC5, 0x0F, 0x77]).unwrap()),
    ("DateTime", "0x000000003a505520", |w| w.date_time(PLAIN, 0x3A505520)),
    ("DateTime", "2001-01-01T10:00:00", |w| w.date_time(PLAIN, 978_343_200)),
    ("DateTime", "2001-01-01T10:00:00Z", |w| w.date_time(PLAIN, 978_343_200)),
    ("DateTime", "2001-01-01T10:00:00+10:00", |w| w.date_time(PLAIN, 978_307_200)),
    ("DateTime", "2001-01-01T10:00:00-05:30", |w| w.date_time(PLAIN, 978_363_000)),
    ("DateTime", "2001-01-01T10:00:00.999999999Z", |w| w.date_time(PLAIN, 978_343_200)),
    ("DateTime", "2000-12-31T24:00:00Z", |w| w.date_time(PLAIN, 978_307_200)),
    ("DateTime", "0000-12-31T23:59:59Z", |w| w.date_time(PLAIN, -62_135_596_801)),
    ("DateTime", "-0001-12-31T23:59:59Z", |w| w.date_time(PLAIN, -62_167_219_201)),
    ("DateTimeExtended", "1970-01-01T00:00:01.5Z", |w| w.date_time_extended(PLAIN, 1_500_000)),
    ("DateTimeExtended", "1970-01-01T00:00:01", |w| w.date_time_extended(PLAIN, 1_000_000)),
    ("Interval", "0x0000001b", |w| w.interval(PLAIN, 27)),
];
#[rustfmt::skip]
const OTHER_JSON: &[(&str, &str, Write)] = &[
    ("Integer", "\"0x0000000A\"", |w| w.integer(PLAIN, 10)),
    ("LongInteger", "\"0x1000000000000000\"", |w| w.long_integer(PLAIN, 1 << 60)),
    ("LongInteger", "9223372036854775807", |w| w.long_integer(PLAIN, i64::MAX)),
    ("BigInteger", "0", |w| w.big_integer(PLAIN, &[0]).unwrap()),
    ("BigInteger", "-9223372036854775808", |w| w.big_integer(PLAIN, &i64::MIN.to_be_bytes()).unwrap()),
    ("BigInteger", "\"0x0000000000000000\"", |w| w.big_integer(PLAIN, &[0]).unwrap()),
    ("Enumeration", "2", |w| w.enumeration(PLAIN, 2)),
    ("Enumeration", "4294967295", |w| w.enumeration(PLAIN, u32::MAX)),
    ("Boolean", "\"0x0000000000000001\"", |w| w.boolean(PLAIN, true)),
    ("Boolean", "\"0x0000000000000000\"", |w| w.boolean(PLAIN, false)),
    ("TextString", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\ude00\"", |w| w.text(PLAIN, "\"\\/\u{8}\u{C}\n\r\t\u{e9}\u{1F600}").unwrap()),
    ("ByteString", "\"\\u0041b\"", |w| w.bytes(PLAIN, &[0xAB]).unwrap()),
    ("DateTime", "\"0x000000003a505520\"", |w| w.date_time(PLAIN, 0x3A505520)),
    ("DateTime", "\"2001-01-01T10:00:00+10:00\"", |w| w.date_time(PLAIN, 978_307_200)),
    ("Interval", "\"0x0000001b\"", |w| w.interval(PLAIN, 27)),
];

#[test]
fn other_forms_are_read() {
    for (ty, value, write) in OTHER_XML {
        assert_eq!(
            xml_value(ty, value).unwrap().to_vec(),
            written(|w| Ok(write(w))),
            "{ty} {value}"
        );
    }
    for (ty, value, write) in OTHER_JSON {
        assert_eq!(
            json_value(ty, value).unwrap().to_vec(),
            written(|w| Ok(write(w))),
            "{ty} {value}"
        );
    }
}

#[test]
fn what_is_no_value_is_refused_where_it_stands() {
    #[rustfmt::skip]
    let bad_xml = [
        ("Integer", ""), ("Integer", "2147483648"), ("Integer", "1.0"), ("Integer", "0x10"), ("Integer", "0x0000000010"), ("Integer", "x"),
        ("Integer", "0x+0000001"), ("Integer", "|"),
        ("LongInteger", "9223372036854775808"), ("LongInteger", "0x01"), ("LongInteger", ""),
        ("BigInteger", ""), ("BigInteger", "0x"), ("BigInteger", "0xFF"), ("BigInteger", "000000000000000001"), ("BigInteger", "123"), ("BigInteger", "-1"), ("BigInteger", "0g"),
        ("Enumeration", "2"), ("Enumeration", "0x2"), ("Enumeration", "Nothing"), ("Enumeration", ""),
        ("Boolean", "True"), ("Boolean", "2"), ("Boolean", "0x0000000000000002"), ("Boolean", "0x1"), ("Boolean", ""),
        ("ByteString", "0xAB"), ("ByteString", "ABC"), ("ByteString", "A B"), ("ByteString", "\u{e9}"),
        ("DateTime", ""), ("DateTime", "2001-01-01"), ("DateTime", "2001-02-29T00:00:00Z"), ("DateTime", "2001-01-01T24:00:01Z"),
        ("DateTime", "2001-01-01T00:60:00Z"), ("DateTime", "2001-01-01T00:00:60Z"), ("DateTime", "2001-13-01T00:00:00Z"),
        ("DateTime", "2001-01-01T00:00:00+14:01"), ("DateTime", "2001-01-01T00:00:00+1400"), ("DateTime", "2001-01-01 00:00:00Z"),
        ("DateTime", "20010-01-01T00:00:00Z"), ("DateTime", "2001-01-01T00:00:00.Z"), ("DateTime", "0x3a505520"), ("DateTime", "+2001-01-01T00:00:00Z"),
        ("DateTimeExtended", "2001-01-01T00:00:00.1234567Z"),
        ("Interval", "-1"), ("Interval", "4294967296"), ("Interval", "0x1b"),
        ("TextString", "&nbsp;"), ("TextString", "&#0;"), ("TextString", "&#xD800;"), ("TextString", "&#x1F;"), ("TextString", "&amp"), ("TextString", "a<b"),
        ("TextString", "&#99999999999;"),
        ("Date", "1"), ("Long Integer", "1"), ("", "1"), ("integer", "1"),
    ];
    for (ty, value) in bad_xml {
        let error = xml_value(ty, value).map(|frame| frame.len()).unwrap_err();
        assert_eq!(error.path(), [PLAIN], "{ty} {value}: {error}");
        assert!(
            error.offset().is_some_and(|at| at >= 18),
            "{ty} {value}: {error}"
        );
    }
    #[rustfmt::skip]
    let bad_json = [
        ("Integer", "\"10\""), ("Integer", "2147483648"), ("Integer", "1.0"), ("Integer", "1e2"), ("Integer", "true"), ("Integer", "null"),
        ("Integer", "[]"), ("Integer", "\"0x10\""), ("Integer", "\"\""),
        ("LongInteger", "9223372036854775808"), ("LongInteger", "\"-2\""), ("LongInteger", "0.5"),
        ("BigInteger", "9223372036854775808"), ("BigInteger", "\"00\""), ("BigInteger", "\"\""), ("BigInteger", "\"0x\""), ("BigInteger", "1.5"),
        ("Enumeration", "-1"), ("Enumeration", "4294967296"), ("Enumeration", "\"2\""), ("Enumeration", "1.0"),
        ("Boolean", "1"), ("Boolean", "\"true\""), ("Boolean", "\"1\""), ("Boolean", "\"0x0000000000000002\""), ("Boolean", "null"),
        ("TextString", "1"), ("TextString", "null"), ("TextString", "{}"), ("TextString", "\"\\uD83D\""), ("TextString", "\"\\uDE00\\uD83D\""),
        ("ByteString", "\"0xAB\""), ("ByteString", "10"), ("ByteString", "\"A\""),
        ("DateTime", "978343200"), ("DateTime", "\"today\""), ("DateTimeExtended", "1"), ("Interval", "-1"), ("Interval", "\"27\""),
        ("Identifier", "1"),
    ];
    for (ty, value) in bad_json {
        let error = json_value(ty, value).map(|frame| frame.len()).unwrap_err();
        assert_eq!(error.path(), [PLAIN], "{ty} {value}: {error}");
        assert!(
            error.offset().is_some_and(|at| at >= 27),
            "{ty} {value}: {error}"
        );
    }
}

#[test]
fn an_error_says_no_content() {
    for text in [
        "<BatchCount type=\"Integer\" value=\"secret\"/>",
        "<BatchCount type=\"secret\" value=\"1\"/>",
        "<secret/>",
        "<BatchCount secret=\"1\"/>",
        "<BatchCount>secret</BatchCount>",
        "<BatchCount></secret>",
        "<BatchCount type=\"TextString\" value=\"&secret;\"/>",
    ] {
        let error = xml::to_ttlv(text, cx())
            .map(|frame| frame.len())
            .unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
    for text in [
        "{\"secret\":1}",
        "secret",
        "{\"tag\":\"secret\"}",
        "{\"tag\":\"BatchCount\",\"type\":\"Integer\",\"value\":\"secret\"}",
    ] {
        let error = json::to_ttlv(text, cx())
            .map(|frame| frame.len())
            .unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
}

fn mask(value: &str) -> String {
    format!("<CryptographicUsageMask type=\"Integer\" value=\"{value}\"/>\n")
}

#[test]
fn masks_go_by_the_names_of_their_bits() {
    let read = |value| xml::to_ttlv(&mask(value), cx()).map(|frame| frame.to_vec());
    let is = |number| written(|w| Ok(w.integer(MASK, number)));
    for (value, number) in [
        ("Encrypt Decrypt CertificateSign", 0x100C),
        ("Encrypt|Decrypt|CertificateSign", 0x100C),
        ("CertificateSign 0x00000004 0x0000008", 0x100C),
        ("CertificateSign 0x0000000c", 0x100C),
        ("0x0000100c", 0x100C),
        ("Certificate\tSign 0x0", 0),
        ("Sign", 1),
        ("12", 12),
    ] {
        if value.contains('\t') {
            assert!(read(value).is_err());
            continue;
        }
        assert_eq!(read(value).unwrap(), is(number), "{value}");
        let in_json = format!(
            "{{\"tag\":\"CryptographicUsageMask\", \"type\":\"Integer\", \"value\":\"{value}\"}}"
        );
        if value != "12" {
            assert_eq!(
                json::to_ttlv(&in_json, cx()).unwrap().to_vec(),
                is(number),
                "{value}"
            );
        }
    }
    for (value, kind) in [
        ("Sign Swear", ErrorKind::UnknownName("bit")),
        ("Sign 0x123456789", ErrorKind::UnknownName("bit")),
    ] {
        assert_eq!(read(value).unwrap_err().kind(), &kind);
    }
    for (number, value) in [
        (0x100C, "Encrypt Decrypt CertificateSign"),
        (0x11, "Sign 0x00000010"),
        (0x10, "16"),
        (0, "0"),
    ] {
        assert_eq!(*xml::from_ttlv(&is(number), cx()).unwrap(), mask(value));
    }
    assert_eq!(
        *xml::from_ttlv(&is(i32::MIN | 1), cx()).unwrap(),
        mask("Sign 0x80000000")
    );
    assert!(
        json::from_ttlv(&is(5), cx())
            .unwrap()
            .contains("\"Sign|Encrypt\"")
    );
    assert!(
        json::from_ttlv(&is(2), cx())
            .unwrap()
            .contains("\"value\":2}")
    );
}

/// The name of an attribute says what its value means, within its structure and behind it.
#[test]
fn an_attribute_value_takes_the_names_of_the_attribute() {
    let attribute =
        |content: &str| xml::to_ttlv(&format!("<RequestMessage>{content}</RequestMessage>"), cx());
    let name = "<AttributeName type=\"TextString\" value=\"State\"/>";
    let value = "<AttributeValue type=\"Enumeration\" value=\"PreActive\"/>";
    let message = attribute(&format!("{name}{value}")).unwrap();
    let bytes = written(|w| {
        w.structure(MESSAGE, |w| {
            w.text(NAME, "State")?;
            Ok(w.enumeration(VALUE, 1))
        })
    });
    assert_eq!(message.to_vec(), bytes);
    assert!(xml::from_ttlv(&bytes, cx()).unwrap().contains(value));
    assert!(
        json::from_ttlv(&bytes, cx())
            .unwrap()
            .contains("\"PreActive\"")
    );
    let mask = "<AttributeName type=\"TextString\" value=\"Cryptographic Usage Mask\"/><AttributeValue type=\"Integer\" value=\"Sign\"/>";
    assert!(attribute(mask).is_ok());
    for content in [
        format!("{value}{name}"),
        format!("{name}<RequestMessage>{value}</RequestMessage>"),
        format!("<RequestMessage>{name}</RequestMessage>{value}"),
        format!("{name}<AttributeName type=\"TextString\" value=\"x-own\"/>{value}"),
        format!("<AttributeName type=\"ByteString\" value=\"00\"/>{value}"),
    ] {
        assert_eq!(
            attribute(&content)
                .map(|frame| frame.len())
                .unwrap_err()
                .kind(),
            &ErrorKind::UnknownName("value"),
            "{content}"
        );
    }
}

/// A name that does not lead back to what it stands for is not written.
#[test]
fn names_are_written_only_where_they_lead_back() {
    for (tag, written_as) in [
        (STATE, "<State/>\n"),
        (OTHER, "<TTLV tag=\"0x54FFFF\"/>\n"),
        (Tag::new(0x420001), "<TTLV tag=\"0x420001\"/>\n"),
        (Tag::new(0x420002), "<TTLV tag=\"0x420002\"/>\n"),
        (Tag::new(0x420003), "<TTLV tag=\"0x420003\"/>\n"),
        (Tag::new(0x420004), "<TTLV tag=\"0x420004\"/>\n"),
    ] {
        let bytes = written(|w| w.structure(tag, |_| Ok(())));
        assert_eq!(*xml::from_ttlv(&bytes, cx()).unwrap(), written_as);
        assert_eq!(xml::to_ttlv(written_as, cx()).unwrap().to_vec(), bytes);
        let in_json = json::from_ttlv(&bytes, cx()).unwrap();
        assert_eq!(json::to_ttlv(&in_json, cx()).unwrap().to_vec(), bytes);
    }
    for value in [1, 2, 7, 8, 9] {
        let bytes = written(|w| Ok(w.enumeration(STATE, value)));
        let text = xml::from_ttlv(&bytes, cx()).unwrap();
        assert_eq!(text.contains("0x"), value > 2, "{}", *text);
        assert_eq!(xml::to_ttlv(&text, cx()).unwrap().to_vec(), bytes);
    }
}

#[test]
fn without_a_dictionary_there_are_numbers() {
    let bytes = written(|w| {
        w.structure(MESSAGE, |w| {
            w.enumeration(STATE, 2);
            Ok(w.integer(MASK, 5))
        })
    });
    let cx = Context::new(Version::V1_0);
    let text = xml::from_ttlv(&bytes, cx).unwrap();
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "<TTLV tag=\"0x420078\">",
            "  <TTLV tag=\"0x42008D\" type=\"Enumeration\" value=\"0x00000002\"/>",
            "  <TTLV tag=\"0x42002C\" type=\"Integer\" value=\"5\"/>",
            "</TTLV>",
        ]
    );
    assert_eq!(xml::to_ttlv(&text, cx).unwrap().to_vec(), bytes);
    assert_eq!(
        xml::to_ttlv("<State/>", cx)
            .map(|frame| frame.len())
            .unwrap_err()
            .kind(),
        &ErrorKind::UnknownName("tag")
    );
    let text = json::from_ttlv(&bytes, cx).unwrap();
    assert_eq!(json::to_ttlv(&text, cx).unwrap().to_vec(), bytes);
}
