//! What the example `oasis` says of cases: small ones, and those of OASIS.

use keyferry_examples::oasis::{Mode, Options, Tally, case, run};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn options(args: &[&str]) -> Options {
    Options::parse(lexopt::Parser::from_args(args))
        .unwrap()
        .unwrap()
}

/// The lines about these paths, and the counts of the last one.
fn told(draft: bool, paths: &[&Path]) -> (Vec<String>, Tally) {
    let options = Options {
        draft,
        mode: Mode::Roundtrip,
        paths: paths.iter().map(PathBuf::from).collect(),
    };
    let mut out = Vec::new();
    let tally = run(&options, &mut out).unwrap().unwrap();
    let lines: Vec<String> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    let Tally {
        passed,
        failed,
        skipped,
        ..
    } = tally;
    assert_eq!(
        *lines.last().unwrap(),
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    );
    (lines, tally)
}

fn tally(passed: usize, failed: usize, skipped: usize) -> Tally {
    Tally {
        passed,
        failed,
        skipped,
        unsupported: 0,
    }
}

/// What is said of one document.
fn told_of(document: &str, draft: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("CASE-1.xml");
    std::fs::write(&path, document).unwrap();
    told(draft, &[&path]).0.first().unwrap().clone()
}

/// A response of this version to a Get Attributes, with these items in its payload, the first of them on line 15.
fn response(version: [u8; 2], payload: &str) -> String {
    let [major, minor] = version;
    format!(
        r#"<KMIP>
<ResponseMessage>
  <ResponseHeader>
    <ProtocolVersion>
      <ProtocolVersionMajor type="Integer" value="{major}"/>
      <ProtocolVersionMinor type="Integer" value="{minor}"/>
    </ProtocolVersion>
    <TimeStamp type="DateTime" value="$NOW"/>
    <BatchCount type="Integer" value="1"/>
  </ResponseHeader>
  <BatchItem>
    <Operation type="Enumeration" value="GetAttributes"/>
    <ResultStatus type="Enumeration" value="Success"/>
    <ResponsePayload>
      {payload}
    </ResponsePayload>
  </BatchItem>
</ResponseMessage>
</KMIP>
"#
    )
}

#[test]
fn placeholders_stand_for_values_of_every_type() {
    let types = "Integer LongInteger BigInteger Enumeration Boolean TextString ByteString DateTime DateTimeExtended Interval";
    let mut payload =
        r#"<UniqueIdentifier type="TextString" value="$UNIQUE_IDENTIFIER_0"/><Attributes>"#
            .to_owned();
    for ty in types.split(' ') {
        for value in ["$NOW", "$NOW+60", "$SOME_VALUE-3"] {
            let value = format!(
                r#"<VendorIdentification type="TextString" value="x"/><AttributeName type="TextString" value="{ty}{value}"/><AttributeValue type="{ty}" value="{value}"/>"#
            );
            write!(payload, "<Attribute>{value}</Attribute>").unwrap();
        }
    }
    payload.push_str("</Attributes>");
    assert_eq!(told_of(&response([2, 1], &payload), false), "pass CASE-1");
    for broken in [
        "$",
        "$3",
        "$NOW+",
        "$NOW+-3",
        "$NOW 3",
        "NOW",
        "$NOW-99999999999999999999",
    ] {
        let document =
            response([2, 1], "").replace(r#"value="$NOW""#, &format!(r#"value="{broken}""#));
        let why =
            "fail CASE-1: Response Message > Response Header > Time Stamp: no Date-Time (line 8)";
        assert_eq!(told_of(&document, false), why, "{broken}");
    }
}

#[test]
fn messages_are_found_wherever_xml_lets_them_stand() {
    let request = |prefix: &str, declared: &str| {
        let p = prefix;
        format!(
            "<{p}RequestMessage {declared} ><{p}RequestHeader>\n<!-- <RequestMessage> --><{p}ProtocolVersion>\
             <{p}ProtocolVersionMajor type = '&#49;' value='1'/><?and so on?>\
             <{p}ProtocolVersionMinor value=' 4 ' type='Integer'></{p}ProtocolVersionMinor></{p}ProtocolVersion>\
             <{p}BatchCount type=\"Integer\" value=\"1\"/></{p}RequestHeader><{p}BatchItem>\
             <{p}Operation type='Enumeration' value='Get'/><{p}RequestPayload>\
             <{p}UniqueIdentifier type='TextString' value='&#36;UNIQUE_IDENTIFIER_0'/></{p}RequestPayload></{p}BatchItem>\
             </{p}RequestMessage>"
        )
        .replace("&#49;", "Integer")
    };
    let kmip = "urn:oasis:tc:kmip:xmlns";
    let plain = request("", "");
    for document in [
        format!(
            "\u{FEFF}<?xml version='1.0' encoding='UTF-8'?>\r\n<!DOCTYPE KMIP>\r\n<KMIP xmlns='{kmip}'>{plain}{plain}</KMIP>\r\n"
        ),
        format!(
            "<!-- <KMIP> --><tests at='home'><!--<RequestMessage>--><![CDATA[<ResponseMessage>]]>words<one>{plain}</one>{plain}</tests>"
        ),
        format!(
            "<k:KMIP xmlns:k='{kmip}' xmlns:o='urn:other' o:at='home'>{}{}</k:KMIP>",
            request("k:", ""),
            request("k:", "")
        ),
        format!(
            "<o:KMIP xmlns:o='urn:other'>{}<o:RequestMessage/>{plain}</o:KMIP>",
            request("k:", &format!("xmlns:k='{kmip}'"))
        ),
        format!("{plain}\n{plain}\n<!-- a part of a document -->"),
    ] {
        let case = case::read(&document).unwrap_or_else(|e| panic!("{e}: {document}"));
        assert_eq!(case.messages.len(), 2, "{document}");
        for message in &case.messages {
            assert_eq!(
                (message.kind, message.version),
                (case::Kind::Request, Some((1, 4)))
            );
            let [placeholder] = &*message.placeholders else {
                panic!("{:?}", message.placeholders)
            };
            assert_eq!(
                (&*placeholder.name, placeholder.offset, &*placeholder.ty),
                ("UNIQUE_IDENTIFIER_0", 0, "TextString")
            );
            let filled = message.filled(|_| Some("<'\"&>".to_owned()));
            assert!(
                filled.contains("value='&lt;&apos;&quot;&amp;&gt;'"),
                "{filled}"
            );
            assert!(
                !filled.contains("k:") && !filled.contains("xmlns"),
                "{filled}"
            );
        }
        assert_eq!(told_of(&document, false), "pass CASE-1", "{document}");
    }
    let numbers = "<TTLV tag='0x420078'><TTLV tag='RequestHeader'><TTLV tag='0x420069'><TTLV tag='0x42006A' type='Integer' value='3'/>\
                   <TTLV tag='0x42006B' type='Integer' value='0'/></TTLV></TTLV></TTLV>";
    assert_eq!(
        case::read(numbers)
            .unwrap()
            .messages
            .first()
            .unwrap()
            .version,
        Some((3, 0))
    );
}

#[test]
fn what_is_wrong_is_told_with_its_path_and_line() {
    let begin = "fail CASE-1: Response Message > Batch Item > ";
    let identifier = r#"<UniqueIdentifier type="TextString" value="1"/>"#;
    let told = |payload: &str| told_of(&response([2, 1], payload), false);
    assert_eq!(told(&format!("{identifier}\n<Attributes/>")), "pass CASE-1");
    // The model puts what it does not know behind what it knows.
    let moved = format!(r#"<x540001 type="Integer" value="7"/>{identifier}<Attributes/>"#);
    let why = r#"was <TTLV tag="0x540001" type="Integer" value="7"/>, is <UniqueIdentifier type="TextString" value="1"/>"#;
    assert_eq!(
        told(&moved),
        format!("{begin}Response Payload > 0x540001: {why}, written as bytes (line 15)")
    );
    let typed =
        format!("{identifier}\n<Attributes>\n<State type='Integer' value='1'/></Attributes>");
    let why = "expected Enumeration, found Integer (line 17)";
    assert_eq!(
        told(&typed),
        format!("{begin}Response Payload > Attributes > State: {why}")
    );
    let twice = format!("{identifier}\n{identifier}<Attributes/>");
    assert_eq!(
        told(&twice),
        format!("{begin}Response Payload: Unique Identifier stands more than once (line 16)")
    );
    let named = format!(
        "{identifier}\n\n<Attributes><State type='Enumeration' value='Asleep'/></Attributes>"
    );
    assert!(
        told(&named).ends_with("> State: no value has this name (line 17)"),
        "{}",
        told(&named)
    );
    assert_eq!(told("").split("Payload").count(), 2, "{}", told(""));
}

#[test]
fn what_is_no_xml_or_no_case_fails() {
    for (document, why) in [
        ("", "line 1: there is no element in it"),
        (
            "<KMIP>\n<RequestMessage>\n</KMIP>",
            "line 3: this is no XML: ",
        ),
        (
            "<KMIP>\n<RequestMessage>\n",
            "line 2: the element RequestMessage is not closed",
        ),
        ("<KMIP/>\n\n<KMIP/>", "line 3: a second root element"),
        ("<KMIP>\n<a b=c/></KMIP>", "line 2: this is no XML: "),
        ("<KMIP/>\nand so on", "line 1: text outside all elements"),
        (
            "<KMIP>\n<k:RequestMessage/></KMIP>",
            "line 2: the namespace prefix k was not declared",
        ),
        (
            "<RequestMessage>\n<a xmlns='urn:b'/></RequestMessage>",
            "line 2: the element a of another namespace, urn:b, in a message",
        ),
        (
            "<html/>",
            "not a KMIP test case: there is no RequestMessage or ResponseMessage in it",
        ),
        (
            "<RequestMessage/>",
            "Request Message: Request Header is missing (line 1)",
        ),
    ] {
        let told = told_of(document, false);
        assert!(
            told.starts_with(&format!("fail CASE-1: {why}")),
            "{document}: {told}"
        );
    }
}

#[test]
fn drafts_and_other_standards_are_skipped() {
    let draft = response([3, 0], "<Attributes/>");
    assert_eq!(
        told_of(&draft, false),
        "skip CASE-1: a case of KMIP 3.0, which is a draft: --draft tries it"
    );
    let told = told_of(&draft, true);
    assert!(
        told.starts_with("draft pass CASE-1") || told.starts_with("draft fail CASE-1: "),
        "{told}"
    );
    let calls = response(
        [2, 1],
        r#"<PKCS_11Function type="Enumeration" value="C_Initialize"/>"#,
    )
    .replace("GetAttributes", "PKCS_11");
    assert_eq!(
        told_of(&calls, false),
        "skip CASE-1: the PKCS#11 standard, not KMIP, says what number this name has (line 15)"
    );
}

#[test]
fn a_folder_stands_for_the_cases_below_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    std::fs::create_dir(root.join("b")).unwrap();
    let passing = response(
        [2, 1],
        r#"<UniqueIdentifier type="TextString" value="1"/><Attributes/>"#,
    );
    for (name, document) in [
        ("c.xml", &*passing),
        ("b/d.XML", &passing),
        ("a.xml", "<other/>"),
        ("e.txt", "none"),
        ("f.xml", "<"),
    ] {
        std::fs::write(root.join(name), document).unwrap();
    }
    std::fs::write(root.join("g.xml"), response([3, 0], "")).unwrap();
    let begins = |draft: bool, paths: &[&Path]| {
        let (lines, tally) = told(draft, paths);
        (
            lines
                .iter()
                .map(|line| line.split(':').next().unwrap().to_owned())
                .collect::<Vec<_>>(),
            tally,
        )
    };
    let (lines, counted) = begins(false, &[root]);
    assert_eq!(
        lines,
        [
            "skip a",
            "pass d",
            "pass c",
            "fail f",
            "skip g",
            "2 passed, 1 failed, 2 skipped"
        ]
    );
    assert_eq!(counted, tally(2, 1, 2));
    let (lines, counted) = begins(
        true,
        &[&root.join("b"), &root.join("a.xml"), &root.join("g.xml")],
    );
    assert_eq!(
        lines,
        [
            "pass d",
            "fail a",
            "draft fail g",
            "draft",
            "1 passed, 1 failed, 0 skipped"
        ]
    );
    assert_eq!(counted, tally(1, 1, 0));
}

#[test]
fn a_command_line_is_right_or_wrong() {
    let both = options(&["--roundtrip", "a", "--draft", "b"]);
    assert!(
        both.draft
            && both.mode == Mode::Roundtrip
            && both.paths == [PathBuf::from("a"), PathBuf::from("b")]
    );
    assert_eq!(options(&["--replay", "a"]).mode, Mode::Replay);
    assert!(
        Options::parse(lexopt::Parser::from_args(["--help"]))
            .unwrap()
            .is_none()
    );
    for wrong in [
        &[][..],
        &["--draft"],
        &["--drafts", "a"],
        &["--draft=yes", "a"],
        &["-r", "a"],
    ] {
        assert!(
            Options::parse(lexopt::Parser::from_args(wrong)).is_err(),
            "{wrong:?}"
        );
    }
    let absent = run(&options(&["Cargo.toml", "no such folder"]), &mut Vec::new())
        .unwrap()
        .unwrap_err();
    assert!(absent.starts_with("no such folder: "), "{absent}");
}

#[test]
fn the_cases_of_oasis_pass() {
    let Some(folder) = crate::cases() else {
        return;
    };
    let folders =
        ["1.0", "1.1", "1.2", "1.3", "1.4", "2.0", "2.1"].map(|version| folder.join(version));
    let (lines, counted) = told(false, &folders.each_ref().map(PathBuf::as_path));
    let others: Vec<&str> = lines
        .iter()
        .filter(|line| !line.starts_with("pass "))
        .filter_map(|line| line.split(':').next())
        .collect();
    let (last, others) = others.split_last().unwrap();
    assert!(others.is_empty(), "{others:#?}");
    assert_eq!(
        *last,
        format!("{} passed, 0 failed, 0 skipped", counted.passed)
    );
    assert!(counted.passed >= 400, "only {} cases", counted.passed);
}
