//! What is JSON, and this encoding of a message.

use crate::forms::support::*;
use keyferry_ttlv::ErrorKind::{Syntax, UnknownName, UnknownTag, Value};
use keyferry_ttlv::{ErrorKind, Tag, json};

#[test]
fn properties_stand_in_any_order() {
    let one = written(|w| Ok(w.integer(PLAIN, 1)));
    for text in [
        r#"{"tag":"BatchCount","type":"Integer","value":1}"#,
        r#" { "value" : 1 , "type" : "Integer" , "tag" : "BatchCount" } "#,
        r#"{"tag":"0x42000d","name":"Anything","type":"Integer","value":1}"#,
        r#"{"tag":"0x42000D","name":"","type":"Integer","value":1}"#,
        r#"{"t\u0061g":"Batch\u0043ount","type":"\u0049nteger","value":1}"#,
        "{\"tag\":\"BatchCount\",\r\n\t\"type\":\"Integer\",\"value\":1}\n",
    ] {
        assert_eq!(json::to_ttlv(text, cx()).unwrap().to_vec(), one, "{text}");
    }
}

#[test]
fn structures_nest_and_may_be_empty() {
    let bytes = written(|w| {
        w.structure(MESSAGE, |w| {
            w.structure(STATE, |_| Ok(()))?;
            w.structure(OTHER, |w| Ok(w.integer(PLAIN, 1)))
        })
    });
    let text = r#"{"tag":"RequestMessage", "value":[
  {"tag":"State", "value":[]},
  {"tag":"0x54FFFF", "value":[
    {"tag":"BatchCount", "type":"Integer", "value":1}
  ]}
]}
"#;
    assert_eq!(*json::from_ttlv(&bytes, cx()).unwrap(), text);
    assert_eq!(json::to_ttlv(text, cx()).unwrap().to_vec(), bytes);
    for empty in [
        r#"{"tag":"State"}"#,
        r#"{"tag":"State","type":"Structure","value":null}"#,
        r#"{"tag":"State","value":[ ]}"#,
    ] {
        assert_eq!(
            json::to_ttlv(empty, cx()).unwrap().to_vec(),
            written(|w| w.structure(STATE, |_| Ok(()))),
            "{empty}"
        );
    }
}

/// The text, what is wrong with it, how it goes on where that is, and in which items.
#[test]
fn what_is_no_message_is_refused_where_it_goes_wrong() {
    const IN: &[Tag] = &[MESSAGE];
    const AT: &[Tag] = &[MESSAGE, PLAIN];
    let within = |item: &str| {
        format!("{{\"tag\":\"RequestMessage\",\"value\":[\n{{\"tag\":\"State\"}},\n{item}]}}")
    };
    #[rustfmt::skip]
    let cases: &[(String, ErrorKind, &str, &[Tag])] = &[
        (String::new(), Syntax("this is no JSON"), "", &[]),
        ("{\"tag\":\"State\"".into(), Syntax("this is no JSON"), "\"", &[]),
        ("{\"tag\":\"State\"}}".into(), Syntax("this is no JSON"), "}", &[]),
        ("{\"tag\":\"State\"} {\"tag\":\"State\"}".into(), Syntax("this is no JSON"), "{\"tag\":\"State\"}", &[]),
        ("{\"tag\":\n\"State\",}".into(), Syntax("this is no JSON"), "}", &[]),
        ("{tag:\"State\"}".into(), Syntax("this is no JSON"), "tag", &[]),
        ("[]".into(), Syntax("an item is no object"), "[]", &[]),
        ("null".into(), Syntax("an item is no object"), "null", &[]),
        ("{}".into(), Syntax("the tag is missing"), "{}", &[]),
        (within("[]"), Syntax("an item is no object"), "[]]", IN),
        (within("1"), Syntax("an item is no object"), "1]", IN),
        (within("{\"type\":\"Integer\"}"), Syntax("the tag is missing"), "{\"type", IN),
        (within("{\"tag\":1}"), Syntax("this is no string"), "1}", IN),
        (within("{\"tag\":\"Unheard\"}"), UnknownName("tag"), "\"Unheard", IN),
        (within("{\"tag\":\"0x4200\"}"), UnknownName("tag"), "\"0x4200", IN),
        (within("{\"tag\":\"0x550000\"}"), UnknownTag, "{\"tag\":\"0x55", IN),
        (within("{\"tag\":\"BatchCount\",\"type\":null}"), Syntax("this is no string"), "null", AT),
        (within("{\"tag\":\"BatchCount\",\"type\":\"Number\"}"), UnknownName("type"), "\"Number", AT),
        (within("{\"tag\":\"BatchCount\",\"type\":\"Integer\"}"), Syntax("the value is missing"), "{\"tag\":\"Batch", AT),
        (within("{\"tag\":\"BatchCount\",\"value\":1}"), Syntax("a structure's value is no array"), "1}", AT),
        (within("{\"tag\":\"BatchCount\",\"value\":{}}"), Syntax("a structure's value is no array"), "{}", AT),
        (within("{\"tag\":\"BatchCount\",\"colour\":1}"), Syntax("a property that the encoding does not have"), "\"colour", IN),
        (within("{\"tag\":\"BatchCount\",\"tag\":\"State\"}"), Syntax("a property stands twice"), "\"tag\":\"State\"}]", IN),
        (within("{\"name\":\"a\",\"tag\":\"BatchCount\",\"name\":\"b\"}"), Syntax("a property stands twice"), "\"name\":\"b\"}", IN),
        (within("{\"tag\":\"BatchCount\",\"name\":{\"any\":[1]}}"), Syntax("this is no string"), "{\"any", IN),
        (within("{\"tag\":\"BatchCount\",\"type\":\"Integer\",\"value\":\"1x\"}"), Value("no Integer, or one beyond 32 bits"), "\"1x", AT),
        (within("{\"tag\":\"BatchCount\",\"type\":\"Integer\",\"value\":1.0}"), Value("no Integer, or one beyond 32 bits"), "1.0", AT),
        (within("{\"tag\":\"BatchCount\",\"type\":\"TextString\",\"value\":\"a\\ud800b\"}"), Syntax("half of a surrogate pair"), "\\ud800", AT),
    ];
    for (text, kind, at, path) in cases {
        assert_wrong(json::to_ttlv(text, cx()), text, kind, at, path);
    }
}

#[test]
fn a_message_is_checked_when_it_is_written() {
    let mut bytes = written(|w| w.structure(MESSAGE, |w| Ok(w.boolean(PLAIN, true))));
    bytes[23] = 2;
    let error = json::from_ttlv(&bytes, cx()).unwrap_err();
    assert_eq!(
        (error.kind(), error.path()),
        (&ErrorKind::Boolean, &[MESSAGE, PLAIN][..])
    );
    assert_eq!(
        json::from_ttlv(&bytes[..23], cx()).unwrap_err().kind(),
        &ErrorKind::Truncated(1)
    );
    let any: String = (0..0x20u8)
        .map(char::from)
        .chain("\u{7F}\u{2028}\u{FFFE}\u{10FFFF}".chars())
        .collect();
    let bytes = written(|w| w.text(PLAIN, &any));
    let text = json::from_ttlv(&bytes, cx()).unwrap();
    assert_eq!(json::to_ttlv(&text, cx()).unwrap().to_vec(), bytes);
}
