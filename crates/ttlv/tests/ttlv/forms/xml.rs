//! What is XML, and this encoding of a message.

use crate::forms::support::*;
use keyferry_ttlv::ErrorKind::{Missing, Syntax, UnknownName, UnknownTag, Value};
use keyferry_ttlv::{DateTime, ErrorKind, Result, Tag, Tagged, Writer, xml};

#[test]
fn an_item_has_several_forms() {
    let one = written(|w| Ok(w.integer(PLAIN, 1)));
    for text in [
        "<BatchCount type=\"Integer\" value=\"1\"/>",
        "<BatchCount value='1' type='Integer'></BatchCount>",
        "<TTLV tag=\"0x42000D\" name=\"Anything\" type=\"Integer\" value=\"1\"/>",
        "<TTLV value=\"1\" type=\"Integer\" tag=\"0x42000d\"/>",
        "<TTLV tag=\"BatchCount\" type=\"Integer\" value=\"1\"/>",
        "<x42000D type=\"Integer\" value=\"1\"/>",
        "<BatchCount xmlns=\"urn:oasis:tc:kmip:xmlns\" type=\"Integer\" value=\"1\"/>",
        "<k:BatchCount xmlns:k=\"urn:oasis:tc:kmip:xmlns\" type=\"Integer\" value=\"1\"/>",
        "<BatchCount xmlns=\"\" type=\"&#73;nteger\" value=\"1\" />",
        "\u{FEFF}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- a remark -->\n<?step 1?>\n<BatchCount type=\"Integer\" value=\"1\"/>\n<!-- -->\n",
        "<BatchCount\ttype = \"Integer\"\nvalue= \"1\"><!-- nothing --></BatchCount >",
    ] {
        assert_eq!(xml::to_ttlv(text, cx()).unwrap().to_vec(), one, "{text}");
    }
    let extension = written(|w| w.text(Tag::new(0x540001), "na"));
    assert_eq!(
        xml::to_ttlv("<x540001 type=\"TextString\" value=\"na\"/>", cx())
            .unwrap()
            .to_vec(),
        extension
    );
}

#[test]
fn structures_nest_and_may_be_empty() {
    let bytes = written(|w| {
        w.structure(MESSAGE, |w| {
            w.structure(STATE, |_| Ok(()))?;
            w.structure(OTHER, |w| Ok(w.integer(PLAIN, 1)))
        })
    });
    let text = "<RequestMessage>\n  <State/>\n  <TTLV tag=\"0x54FFFF\">\n    <BatchCount type=\"Integer\" value=\"1\"/>\n  </TTLV>\n</RequestMessage>\n";
    assert_eq!(*xml::from_ttlv(&bytes, cx()).unwrap(), text);
    assert_eq!(xml::to_ttlv(text, cx()).unwrap().to_vec(), bytes);
    let otherwise = "<k:RequestMessage xmlns:k=\"urn:oasis:tc:kmip:xmlns\" type=\"Structure\"><k:State type=\"Structure\"></k:State>\
        <x54FFFF><k:BatchCount type=\"Integer\" value=\"1\"/></x54FFFF></k:RequestMessage>";
    assert_eq!(xml::to_ttlv(otherwise, cx()).unwrap().to_vec(), bytes);
}

/// The text, what is wrong with it, how it goes on where that is, and in which items.
#[test]
fn what_is_no_message_is_refused_where_it_goes_wrong() {
    const IN: &[Tag] = &[MESSAGE];
    const AT: &[Tag] = &[MESSAGE, PLAIN];
    #[rustfmt::skip]
    let cases: &[(&str, ErrorKind, &str, &[Tag])] = &[
        ("", Syntax("an element is missing"), "", &[]),
        ("<!-- -->", Syntax("an element is missing"), "", &[]),
        ("no", Syntax("text between elements"), "no", &[]),
        ("<", Syntax("this is no XML"), "<", &[]),
        ("<RequestMessage", Syntax("this is no XML"), "<R", &[]),
        ("<RequestMessage>", Syntax("an element is not closed"), "", IN),
        ("<RequestMessage></State>", Syntax("this is no XML"), "</State>", IN),
        ("</RequestMessage>", Syntax("this is no XML"), "</R", &[]),
        ("<RequestMessage/><State/>", Syntax("an element behind the message"), "<State/>", &[]),
        ("<RequestMessage/>x", Syntax("text between elements"), "x", &[]),
        ("<RequestMessage>\u{1}</RequestMessage>", Syntax("a character that XML does not allow"), "\u{1}", &[]),
        ("<RequestMessage>x</RequestMessage>", Syntax("text between elements"), "x", IN),
        ("<RequestMessage><![CDATA[ ]]></RequestMessage>", Syntax("text between elements"), "<![", IN),
        ("<RequestMessage>&amp;</RequestMessage>", Syntax("text between elements"), "&amp;", IN),
        ("<!DOCTYPE a><RequestMessage/>", Syntax("a document type"), "<!D", &[]),
        ("<!DOCTYPE a [<!ENTITY b \"c\">]><RequestMessage/>", Syntax("a document type"), "<!D", &[]),
        (" <?xml version=\"1.0\"?><RequestMessage/>", Syntax("an XML declaration that is not at the beginning"), "<?xml", &[]),
        ("<!-- a -- b --><RequestMessage/>", Syntax("this is no XML"), "", &[]),
        ("<RequestMessage><Unheard/></RequestMessage>", UnknownName("tag"), "<Unheard", IN),
        ("<RequestMessage><x5400/></RequestMessage>", UnknownName("tag"), "<x5400", IN),
        ("<TTLV/>", Syntax("the tag is missing"), "<TTLV", &[]),
        ("<TTLV tag=\"0x4200\"/>", UnknownName("tag"), "0x4200", &[]),
        ("<TTLV tag=\"0x430000\"/>", UnknownTag, "<TTLV", &[]),
        ("<State tag=\"0x42008D\"/>", Syntax("an attribute that only the element TTLV has"), "0x", &[]),
        ("<State name=\"State\"/>", Syntax("an attribute that only the element TTLV has"), "State\"", &[]),
        ("<State colour=\"red\"/>", Syntax("an attribute that the encoding does not have"), "colour", &[]),
        ("<State type=\"Integer\" type=\"Integer\" value=\"1\"/>", Syntax("an attribute stands twice"), "type=\"Integer\" v", &[]),
        ("<State value=\"1\"type=\"Integer\"/>", Syntax("no space before an attribute"), "type", &[]),
        ("<State type=Integer value=\"1\"/>", Syntax("an attribute is incomplete"), " type", &[]),
        ("<State type/>", Syntax("an attribute is incomplete"), " type", &[]),
        ("<State xmlns=\"urn:other\"/>", Syntax("another namespace"), "urn:other", &[]),
        ("<k:State xmlns:k=\"urn:other\"/>", Syntax("another namespace"), "urn:other", &[]),
        ("<State xmlns:k=\"\"/>", Syntax("another namespace"), "\"", &[]),
        ("<State xmlns:k=\"urn:oasis:tc:kmip:xmlns\" xmlns:l=\"urn:oasis:tc:kmip:xmlns\"/>", Syntax("a second namespace prefix"), "xmlns:l", &[]),
        ("<k:State/>", Syntax("a namespace prefix that was not declared"), "<k", &[]),
        ("<RequestMessage><State xmlns:k=\"urn:oasis:tc:kmip:xmlns\"/><k:State/></RequestMessage>",
            Syntax("a namespace prefix that was not declared"), "<k", IN),
        ("<RequestMessage><BatchCount type=\"Integer\"/></RequestMessage>", Syntax("the value is missing"), "<Batch", AT),
        ("<RequestMessage><BatchCount value=\"1\"/></RequestMessage>", Syntax("a structure has no value"), "1", AT),
        ("<RequestMessage><BatchCount type=\"Integer\" value=\"1\"><State/></BatchCount></RequestMessage>",
            Syntax("an element within a value"), "<State", AT),
        ("<RequestMessage><BatchCount type=\"Integer\" value=\"1\">1</BatchCount></RequestMessage>", Syntax("text between elements"), "1<", AT),
        ("<RequestMessage><BatchCount type=\"Integer\" value=\"x1\"/></RequestMessage>", UnknownName("bit"), "x1", AT),
        ("<RequestMessage><BatchCount type=\"Integer\" value=\"1x\"/></RequestMessage>", Value("no Integer, or one beyond 32 bits"), "1x", AT),
        ("<RequestMessage><BatchCount type=\"integer\" value=\"1\"/></RequestMessage>", UnknownName("type"), "integer", AT),
        ("<RequestMessage><BatchCount type=\"Boolean\" value=\"0x0000000000000003\"/></RequestMessage>", ErrorKind::Boolean, "0x", AT),
        ("<RequestMessage><BatchCount type=\"TextString\" value=\"a&b;\"/></RequestMessage>",
            Syntax("a reference that XML itself does not define"), "&b", AT),
    ];
    for (text, kind, at, path) in cases {
        assert_wrong(xml::to_ttlv(text, cx()), text, kind, at, path);
    }
}

#[test]
fn an_error_reads_well() {
    let text =
        "<RequestMessage>\n  <State type=\"Enumeration\" value=\"Unheard\"/>\n</RequestMessage>";
    let error = xml::to_ttlv(text, cx())
        .map(|frame| frame.len())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Request Message > State: no value has this name (byte 52)"
    );
}

#[test]
fn a_message_is_checked_when_it_is_written() {
    let good = written(|w| w.structure(MESSAGE, |w| w.text(PLAIN, "abc")));
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        let error = xml::from_ttlv(&bytes, cx()).unwrap_err();
        (error.kind().clone(), error.offset(), error.path().to_vec())
    };
    assert!(xml::from_ttlv(&good, cx()).is_ok());
    assert_eq!(
        changed(11, 99),
        (ErrorKind::UnknownType(99), Some(11), vec![MESSAGE])
    );
    let (kind, at, path) = changed(20, 1);
    assert_eq!((kind, at, path[0]), (ErrorKind::Padding, Some(19), MESSAGE));
    let padded: [fn(&mut Writer) -> Result<()>; 4] = [
        |w| Ok(w.integer(PLAIN, 1)),
        |w| Ok(w.enumeration(PLAIN, 1)),
        |w| Ok(w.interval(PLAIN, 1)),
        |w| w.bytes(PLAIN, &[1, 2, 3, 4]),
    ];
    for write in padded {
        let mut bytes = written(|w| w.structure(MESSAGE, write));
        bytes[21] = 1;
        assert_eq!(
            xml::from_ttlv(&bytes, cx()).unwrap_err().kind(),
            &ErrorKind::Padding
        );
    }
    assert_eq!(
        changed(17, 0xFF),
        (ErrorKind::Utf8, Some(17), vec![MESSAGE, PLAIN])
    );
    assert_eq!(
        changed(17, 0x07),
        (
            Value("a character that XML cannot carry"),
            Some(17),
            vec![MESSAGE, PLAIN]
        )
    );
    assert_eq!(changed(0, 0x43), (UnknownTag, Some(0), vec![]));
    assert_eq!(
        xml::from_ttlv(&good[..16], cx()).unwrap_err().kind(),
        &ErrorKind::Truncated(8)
    );
    assert_eq!(
        xml::from_ttlv(&[], cx()).unwrap_err().kind(),
        &ErrorKind::Truncated(8)
    );
    for text in ["\0", "\u{8}", "\u{1F}", "\u{FFFE}", "\u{FFFF}"] {
        let bytes = written(|w| w.text(PLAIN, text));
        assert_eq!(xml::from_ttlv(&bytes, cx()).unwrap_err().offset(), Some(8));
    }
}

#[test]
fn types_go_straight_to_text_and_back() {
    #[derive(Debug, PartialEq, keyferry_ttlv::Encode, keyferry_ttlv::Decode)]
    #[ttlv(tag = PLAIN)]
    struct Dated {
        #[ttlv(tag = STATE)]
        at: DateTime,
    }
    assert_eq!(Dated::TAG, PLAIN);
    let value = Dated { at: DateTime(0) };
    let text = xml::encode(&value, cx()).unwrap();
    assert_eq!(
        *text,
        "<BatchCount>\n  <State type=\"DateTime\" value=\"1970-01-01T00:00:00+00:00\"/>\n</BatchCount>\n"
    );
    assert_eq!(xml::decode::<Dated>(&text, cx()).unwrap(), value);
    assert_eq!(
        xml::decode::<Dated>("<BatchCount/>", cx())
            .unwrap_err()
            .kind(),
        &Missing(STATE)
    );
    let text = keyferry_ttlv::json::encode(&value, cx()).unwrap();
    assert_eq!(
        keyferry_ttlv::json::decode::<Dated>(&text, cx()).unwrap(),
        value
    );
}
