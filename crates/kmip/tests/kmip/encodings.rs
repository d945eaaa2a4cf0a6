//! The messages that OASIS gives as XML and as JSON, through all three encodings.

use crate::tables::rows;
use crate::vectors::{shared, unhex};
use keyferry_kmip::{RequestMessage, context, spec};
use keyferry_ttlv::{Dictionary, ErrorKind, Tag, Version, json, normalized, xml};

const VERSIONS: &[(&str, Version)] = &[
    ("1.0", Version::V1_0),
    ("1.1", Version::V1_1),
    ("1.2", Version::V1_2),
    ("1.3", Version::V1_3),
    ("1.4", Version::V1_4),
    ("2.0", Version::V2_0),
    ("2.1", Version::V2_1),
];

/// The messages of a case, one after another.
fn messages(text: &str) -> Vec<&str> {
    let mut messages = Vec::new();
    let mut rest = text;
    while let Some(start) = ["<RequestMessage", "<ResponseMessage"]
        .iter()
        .filter_map(|name| rest.find(name))
        .min()
    {
        let name = if rest[start..].starts_with("<RequestMessage") {
            "</RequestMessage>"
        } else {
            "</ResponseMessage>"
        };
        let end = start + rest[start..].find(name).unwrap() + name.len();
        messages.push(&rest[start..end]);
        rest = &rest[end..];
    }
    messages
}

/// Puts a value into the place of each placeholder, where the type does not let it stand as text; says how many.
fn filled(text: &str) -> (String, usize) {
    let (mut filled, mut count) = (String::new(), 0);
    for line in text.split_inclusive('\n') {
        let value = match line
            .split("type=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
        {
            Some("DateTime") => "2013-06-26T09:09:17+00:00",
            Some("ByteString") => "0102030405060708",
            _ => {
                filled.push_str(line);
                continue;
            }
        };
        match line.split_once("value=\"$") {
            Some((before, behind)) => {
                let behind = behind.split_once('"').unwrap().1;
                filled.push_str(&format!("{before}value=\"{value}\"{behind}"));
                count += 1;
            }
            None => filled.push_str(line),
        }
    }
    (filled, count)
}

#[test]
fn every_message_of_the_cases_is_the_same_in_all_three() {
    let Some(folder) = shared("vectors") else {
        return;
    };
    let (mut seen, mut placeholders) = (0, 0);
    for (number, version) in VERSIONS {
        let cx = context(*version);
        for entry in std::fs::read_dir(folder.join(number)).unwrap() {
            let path = entry.unwrap().path();
            let (text, count) = filled(&std::fs::read_to_string(&path).unwrap());
            placeholders += count;
            for (i, message) in messages(&text).into_iter().enumerate() {
                let place = format!("{} message {i}", path.display());
                let frame = xml::to_ttlv(message, cx).unwrap_or_else(|e| panic!("{place}: {e}"));
                let as_xml = xml::from_ttlv(&frame, cx).unwrap();
                assert_eq!(*xml::to_ttlv(&as_xml, cx).unwrap(), *frame, "{place}");
                let as_json = json::from_ttlv(&frame, cx).unwrap();
                assert_eq!(*json::to_ttlv(&as_json, cx).unwrap(), *frame, "{place}");
                // Nothing in the standard's messages is without a name, but for the extensions that they try things with.
                let numbers = as_xml.matches("\"0x").count();
                assert_eq!(
                    numbers,
                    message.matches("\"0x").count(),
                    "{place}: {}",
                    *as_xml
                );
                seen += 1;
            }
        }
    }
    eprintln!(
        "{seen} messages; {placeholders} placeholders, which stood for dates and bytes, were given a value"
    );
    assert!(seen > 5000, "only {seen} messages");
}

/// The JSON messages that the standard gives, and their bytes.
#[test]
fn the_standards_json_agrees_with_its_bytes() {
    let Some(folder) = shared("vectors") else {
        return;
    };
    let text = std::fs::read_to_string(folder.join("encodings/TTLV.tsv")).unwrap();
    let (mut same, mut others) = (0, Vec::new());
    for line in text.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let name = format!("{}-{}", columns[0], columns[1]);
        let text = std::fs::read_to_string(folder.join(format!("encodings/{name}.json"))).unwrap();
        let cx = context(Version::V1_2);
        match json::to_ttlv(&text, cx) {
            // It lacks its final brace.
            Err(e) if name == "MSGENC-JSON-M-1-10-0" => {
                assert!(matches!(e.kind(), ErrorKind::Syntax(_)), "{e}")
            }
            Err(e) => panic!("{name}: {e}"),
            // Their timestamps differ from that of the bytes.
            Ok(frame)
                if matches!(
                    name.as_str(),
                    "MSGENC-JSON-M-1-11-1" | "MSGENC-JSON-M-1-11-3"
                ) =>
            {
                assert_eq!(frame.len(), unhex(columns[5]).len(), "{name}");
            }
            Ok(frame) => {
                assert_eq!(frame.to_vec(), unhex(columns[5]), "{name}");
                same += 1;
                continue;
            }
        }
        others.push(name);
    }
    eprintln!("{same} messages agree; known to be otherwise: {others:?}");
    assert_eq!((same, others.len()), (9, 3));
}

#[test]
fn a_request_is_the_same_from_all_three() {
    let cx = context(Version::V1_2);
    let text = r#"
        <RequestMessage xmlns="urn:oasis:tc:kmip:xmlns">
          <RequestHeader>
            <ProtocolVersion>
              <ProtocolVersionMajor type="Integer" value="1"/>
              <ProtocolVersionMinor type="Integer" value="2"/>
            </ProtocolVersion>
            <BatchCount type="Integer" value="1"/>
          </RequestHeader>
          <BatchItem>
            <Operation type="Enumeration" value="Create"/>
            <RequestPayload>
              <ObjectType type="Enumeration" value="SymmetricKey"/>
              <TemplateAttribute>
                <Attribute>
                  <AttributeName type="TextString" value="Cryptographic Algorithm"/>
                  <AttributeValue type="Enumeration" value="AES"/>
                </Attribute>
                <Attribute>
                  <AttributeName type="TextString" value="Cryptographic Usage Mask"/>
                  <AttributeValue type="Integer" value="Encrypt Decrypt"/>
                </Attribute>
              </TemplateAttribute>
            </RequestPayload>
          </BatchItem>
        </RequestMessage>"#;
    let from_xml: RequestMessage = xml::decode(text, cx).unwrap();
    let frame = xml::to_ttlv(text, cx).unwrap();
    assert_eq!(RequestMessage::from_frame(&frame).unwrap(), from_xml);
    let as_json = json::encode(&from_xml, cx).unwrap();
    assert!(
        as_json
            .contains(r#"{"tag":"AttributeValue", "type":"Integer", "value":"Encrypt|Decrypt"}"#),
        "{}",
        *as_json
    );
    assert_eq!(
        json::decode::<RequestMessage>(&as_json, cx).unwrap(),
        from_xml
    );
    assert_eq!(
        *xml::to_ttlv(&xml::encode(&from_xml, cx).unwrap(), cx).unwrap(),
        *frame
    );
}

#[test]
fn the_standards_names_normalise_to_those_of_its_messages() {
    let (Some(tags), Some(enums), Some(masks)) =
        (rows("tags.tsv"), rows("enums.tsv"), rows("masks.tsv"))
    else {
        return;
    };
    let mut otherwise = Vec::new();
    for row in tags
        .iter()
        .chain(&enums)
        .chain(&masks)
        .filter(|row| row["last"] != "reserved")
    {
        let name = row.get("name").unwrap();
        if normalized(name) != row["xml_name"] {
            otherwise.push(name.as_str());
        }
    }
    // The standard's own messages write this one without what stands in brackets.
    assert_eq!(otherwise, ["Content Commitment (Non Repudiation)"]);
}

/// What is written by name is read as what it was.
#[test]
fn every_name_leads_back() {
    let names = spec::Names;
    let tags = spec::tag::ROWS
        .iter()
        .map(|row| row.tag)
        .chain((0x544B00..0x544C00).map(Tag::new));
    for tag in tags {
        let Some(name) = names.tag_name(tag) else {
            continue;
        };
        assert_eq!(names.tag_named(name), Some(tag), "{name}");
        assert_eq!(names.tag_named(&normalized(name)), Some(tag), "{name}");
        assert_eq!(
            names.value_named(spec::tag::ATTRIBUTE_REFERENCE, &normalized(name)),
            Some(tag.number()),
            "{name}"
        );
        assert_eq!(
            names.value_name(spec::tag::ATTRIBUTE_REFERENCE, tag.number()),
            Some(name)
        );
        assert_eq!(
            names.value_name(spec::tag::ATTRIBUTE_REFERENCE, tag.number() | 1 << 24),
            None
        );
    }
    for domain in spec::enumeration_domains() {
        let tag = domain.tag.unwrap_or(spec::tag::EXTENSION_TYPE);
        for row in domain.values {
            assert_eq!(
                names.value_named(tag, row.name),
                Some(row.value),
                "{}: {}",
                domain.name,
                row.name
            );
            assert_eq!(
                names.value_named(tag, &normalized(row.name)),
                Some(row.value),
                "{}: {}",
                domain.name,
                row.name
            );
            assert!(
                names.value_name(tag, row.value).is_some(),
                "{}: {}",
                domain.name,
                row.name
            );
        }
    }
    for domain in spec::mask_domains() {
        let tag = domain.tag.unwrap();
        for row in domain.values {
            let shown = names.bit_name(tag, row.value).unwrap();
            for name in [row.name, shown, &normalized(row.name), &normalized(shown)] {
                assert_eq!(names.bit_named(tag, name), Some(row.value), "{name}");
            }
        }
    }
    let content_commitment = names
        .bit_name(spec::tag::CRYPTOGRAPHIC_USAGE_MASK, 0x400)
        .map(normalized);
    assert_eq!(content_commitment.as_deref(), Some("ContentCommitment"));
}
