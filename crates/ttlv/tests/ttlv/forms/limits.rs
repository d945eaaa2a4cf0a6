//! The limits, which hold for text as for bytes.

use crate::forms::support::*;
use keyferry_ttlv::{Context, ErrorKind, Frame, Limits, Result, json, xml};

fn within(limits: Limits) -> Context {
    Context { limits, ..cx() }
}

/// So many structures within each other.
fn nested(depth: usize) -> [String; 2] {
    let in_xml = format!("{}{}", "<State>".repeat(depth), "</State>".repeat(depth));
    let in_json = format!(
        "{}null{}",
        "{\"tag\":\"State\",\"value\":[".repeat(depth),
        "]}".repeat(depth)
    )
    .replace("[null]", "null");
    [in_xml, in_json]
}

fn read(text: &str, cx: Context) -> Result<Frame> {
    if text.starts_with('<') {
        xml::to_ttlv(text, cx)
    } else {
        json::to_ttlv(text, cx)
    }
}

fn kind(text: &str, cx: Context) -> ErrorKind {
    read(text, cx)
        .map(|frame| frame.len())
        .unwrap_err()
        .kind()
        .clone()
}

#[test]
fn depth_is_limited_before_the_stack_is() {
    for text in nested(32) {
        let frame = read(&text, cx()).unwrap();
        assert!(xml::from_ttlv(&frame, cx()).is_ok() && json::from_ttlv(&frame, cx()).is_ok());
        let shallow = within(Limits {
            depth: 31,
            ..Limits::DEFAULT
        });
        for error in [
            xml::from_ttlv(&frame, shallow).unwrap_err(),
            json::from_ttlv(&frame, shallow).unwrap_err(),
        ] {
            assert_eq!(
                (error.kind(), error.offset(), error.path().len()),
                (&ErrorKind::Depth(31), Some(31 * 8), 32)
            );
        }
        let error = read(&text, shallow).map(|frame| frame.len()).unwrap_err();
        assert_eq!(
            (error.kind(), error.path().len()),
            (&ErrorKind::Depth(31), 32)
        );
    }
    let deep = within(Limits {
        depth: usize::MAX,
        ..Limits::DEFAULT
    });
    for text in nested(200_000) {
        assert_eq!(kind(&text, cx()), ErrorKind::Depth(32));
    }
    for text in nested(20_000) {
        assert_eq!(kind(&text, deep), ErrorKind::Depth(256));
    }
    for text in nested(256) {
        assert_eq!(read(&text, deep).unwrap().len(), 256 * 8);
    }
    for text in [
        "<State>".repeat(200_000),
        "[".repeat(200_000),
        "{\"tag\":".repeat(200_000),
        "<a ".repeat(200_000),
    ] {
        assert!(read(&text, cx()).is_err());
    }
}

#[test]
fn the_message_is_no_longer_than_the_limit() {
    let item = "<BatchCount type=\"Integer\" value=\"1\"/>";
    let text = format!("<RequestMessage>{}</RequestMessage>", item.repeat(10));
    assert_eq!(
        read(
            &text,
            within(Limits {
                size: 168,
                ..Limits::DEFAULT
            })
        )
        .unwrap()
        .len(),
        168
    );
    let error = read(
        &text,
        within(Limits {
            size: 167,
            ..Limits::DEFAULT
        }),
    )
    .map(|frame| frame.len())
    .unwrap_err();
    assert_eq!(
        error.kind(),
        &ErrorKind::Size {
            size: 168,
            limit: 167
        }
    );
    assert_eq!(
        (error.offset().unwrap(), error.path()),
        (text.rfind("1\"/>").unwrap(), &[MESSAGE, PLAIN][..])
    );
    let cx = within(Limits {
        size: 24,
        ..Limits::DEFAULT
    });
    for value in [
        "TextString\" value=\"123456789",
        "ByteString\" value=\"112233445566778899",
        "BigInteger\" value=\"112233445566778899",
    ] {
        let text = format!("<RequestMessage><BatchCount type=\"{value}\"/></RequestMessage>");
        assert!(
            matches!(kind(&text, cx), ErrorKind::Size { limit: 24, .. }),
            "{text}"
        );
        let text = text
            .replace("112233445566778899", "1122334455667788")
            .replace("123456789", "12345678");
        assert_eq!(read(&text, cx).unwrap().len(), 24);
    }
    let text =
        r#"{"tag":"RequestMessage","value":[{"tag":"State"},{"tag":"State"},{"tag":"State"}]}"#;
    assert_eq!(
        kind(text, cx),
        ErrorKind::Size {
            size: 32,
            limit: 24
        }
    );
    let frame = read("<RequestMessage/>", cx).unwrap();
    let cx = within(Limits {
        size: 7,
        ..Limits::DEFAULT
    });
    assert_eq!(
        json::from_ttlv(&frame, cx).unwrap_err().kind(),
        &ErrorKind::Size { size: 8, limit: 7 }
    );
}

#[test]
fn items_and_texts_are_limited() {
    let cx = within(Limits {
        items: 3,
        text: 4,
        ..Limits::DEFAULT
    });
    let few = "<RequestMessage><State/><State/></RequestMessage>";
    let frame = read(few, cx).unwrap();
    assert!(json::from_ttlv(&frame, cx).is_ok());
    let many = "<RequestMessage><State/><State/><State/></RequestMessage>";
    assert_eq!(kind(many, cx), ErrorKind::Items(3));
    let frame = read(many, crate::forms::support::cx()).unwrap();
    assert_eq!(
        xml::from_ttlv(&frame, cx).unwrap_err().kind(),
        &ErrorKind::Items(3)
    );
    let text =
        r#"{"tag":"RequestMessage","value":[{"tag":"State"},{"tag":"State"},{"tag":"State"}]}"#;
    assert_eq!(kind(text, cx), ErrorKind::Items(3));
    assert!(xml_value("TextString", "12&#51;4").is_ok());
    let text = "<BatchCount type=\"TextString\" value=\"12&#51;4\"/>";
    assert!(read(text, cx).is_ok());
    assert_eq!(
        kind(&text.replace("12", "122"), cx),
        ErrorKind::Size { size: 5, limit: 4 }
    );
    let frame = written(|w| w.text(PLAIN, "12345"));
    assert_eq!(
        xml::from_ttlv(&frame, cx).unwrap_err().kind(),
        &ErrorKind::Size { size: 5, limit: 4 }
    );
}

/// Nothing in a text costs more than the number of its bytes, times the depth.
#[test]
fn long_texts_take_no_long_time() {
    let attributes: String = (0..200_000)
        .map(|n| format!(" xmlns:a{n}=\"urn:oasis:tc:kmip:xmlns\""))
        .collect();
    assert!(read(&format!("<State{attributes}/>"), cx()).is_err());
    let repeated = " a=\"\"".repeat(200_000);
    assert!(read(&format!("<State{repeated}/>"), cx()).is_err());
    let properties = "\"name\":1,".repeat(200_000);
    assert!(read(&format!("{{{properties}\"tag\":\"State\"}}"), cx()).is_err());
    for letters in ["&".repeat(1_000_000), "&amp;".repeat(200_000)] {
        let text = format!("<BatchCount type=\"TextString\" value=\"{letters}\"/>");
        assert_eq!(read(&text, cx()).is_ok(), letters.contains("amp"));
    }
    let bits = "Sign ".repeat(200_000);
    assert!(
        read(
            &format!("<CryptographicUsageMask type=\"Integer\" value=\"{bits}\"/>"),
            cx()
        )
        .is_ok()
    );
}
