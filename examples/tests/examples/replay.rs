//! What `oasis --replay` says of cases: small ones, and those of OASIS.

use keyferry_examples::oasis::{Mode, Options, Tally, run};
use std::path::{Path, PathBuf};

/// How many of the cases of KMIP 1.0 to 2.1 pass at least.
const PASSES: usize = 282;

fn told(paths: Vec<PathBuf>) -> (Vec<String>, Tally) {
    let mut out = Vec::new();
    let tally = run(
        &Options {
            mode: Mode::Replay,
            draft: false,
            paths,
        },
        &mut out,
    )
    .unwrap()
    .unwrap();
    let lines: Vec<String> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(*lines.last().unwrap(), tally.line(Mode::Replay));
    (lines, tally)
}

/// What is said of a case of these messages.
fn told_of(messages: &[String]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("CASE-1.xml");
    std::fs::write(&path, format!("<KMIP>\n{}</KMIP>", messages.concat())).unwrap();
    let (lines, tally) = told(vec![path]);
    assert_eq!(tally.passed + tally.failed + tally.unsupported, 1);
    lines.first().unwrap().clone()
}

fn version(minor: u8) -> String {
    format!(
        "<ProtocolVersion><ProtocolVersionMajor type='Integer' value='1'/>\
         <ProtocolVersionMinor type='Integer' value='{minor}'/></ProtocolVersion>"
    )
}

fn request(operation: &str, payload: &str) -> String {
    format!(
        "<RequestMessage><RequestHeader>{}<BatchCount type='Integer' value='1'/></RequestHeader><BatchItem>\
         <Operation type='Enumeration' value='{operation}'/><RequestPayload>{payload}</RequestPayload></BatchItem>\
         </RequestMessage>\n",
        version(2)
    )
}

fn response(operation: &str, payload: &str) -> String {
    format!(
        "<ResponseMessage><ResponseHeader>{}<TimeStamp type='DateTime' value='$NOW'/><BatchCount type='Integer' value='1'/>\
         </ResponseHeader><BatchItem><Operation type='Enumeration' value='{operation}'/>\
         <ResultStatus type='Enumeration' value='Success'/><ResponsePayload>{payload}</ResponsePayload></BatchItem>\
         </ResponseMessage>\n",
        version(2)
    )
}

fn attribute(name: &str, ty: &str, value: &str) -> String {
    format!(
        "<Attribute><AttributeName type='TextString' value='{name}'/><AttributeValue type='{ty}' value='{value}'/></Attribute>"
    )
}

fn id(number: u8) -> String {
    format!("<UniqueIdentifier type='TextString' value='$UNIQUE_IDENTIFIER_{number}'/>")
}

const SYMMETRIC: &str = "<ObjectType type='Enumeration' value='SymmetricKey'/>";

/// Creates a key with these attributes, which `$UNIQUE_IDENTIFIER_0` then stands for.
fn created(number: u8, more: &str) -> [String; 2] {
    let attributes = [
        attribute("Cryptographic Algorithm", "Enumeration", "AES"),
        attribute("Cryptographic Length", "Integer", "128"),
        attribute("Cryptographic Usage Mask", "Integer", "Encrypt Decrypt"),
    ];
    let template = format!(
        "{SYMMETRIC}<TemplateAttribute>{}{more}</TemplateAttribute>",
        attributes.concat()
    );
    [
        request("Create", &template),
        response("Create", &format!("{SYMMETRIC}{}", id(number))),
    ]
}

/// Asks for attributes, and expects these.
fn read(names: &[&str], expected: &[String]) -> [String; 2] {
    let names: String = names
        .iter()
        .map(|name| format!("<AttributeName type='TextString' value='{name}'/>"))
        .collect();
    [
        request("GetAttributes", &(id(0) + &names)),
        response("GetAttributes", &(id(0) + &expected.concat())),
    ]
}

fn key(material: &str) -> String {
    format!(
        "{SYMMETRIC}{}<SymmetricKey><KeyBlock><KeyFormatType type='Enumeration' value='Raw'/><KeyValue>\
         <KeyMaterial type='ByteString' value='{material}'/></KeyValue><CryptographicAlgorithm type='Enumeration' value='AES'/>\
         <CryptographicLength type='Integer' value='128'/></KeyBlock></SymmetricKey>",
        id(0)
    )
}

#[test]
fn what_a_server_chooses_is_bound_and_the_rest_is_compared() {
    let mut case = created(0, "").to_vec();
    let state = |state: &str| attribute("State", "Enumeration", state);
    let length = |length: &str| attribute("Cryptographic Length", "Integer", length);
    case.extend(read(
        &["State", "Cryptographic Length"],
        &[length("128"), state("PreActive")],
    ));
    let material = "00112233445566778899aabbccddeeff";
    case.extend([request("Get", &id(0)), response("Get", &key(material))]);
    assert_eq!(told_of(&case), "pass CASE-1");
    // The same bytes of the case are the same bytes of the server, and two keys have two identifiers.
    let again = [
        case.clone(),
        vec![request("Get", &id(0)), response("Get", &key(material))],
    ]
    .concat();
    assert_eq!(told_of(&again), "pass CASE-1");
    let shorter = [
        case.clone(),
        vec![request("Get", &id(0)), response("Get", &key("0011"))],
    ]
    .concat();
    assert!(
        told_of(&shorter).ends_with("Key Material: expected 2 bytes, found 16 bytes (line 9)"),
        "{}",
        told_of(&shorter)
    );
    let second = [created(0, ""), created(0, "")].concat();
    let why = "Unique Identifier: not what $UNIQUE_IDENTIFIER_0 stood for before (line 5)";
    assert_eq!(
        told_of(&second),
        format!("fail CASE-1: Response Message > Batch Item > Response Payload > {why}")
    );
    let begin = "fail CASE-1: Response Message > Batch Item > Response Payload > ";
    let wrong = [created(0, ""), read(&["State"], &[state("Active")])].concat();
    let why = "Attribute State > Attribute Value: expected Active, found PreActive (line 5)";
    assert_eq!(told_of(&wrong), format!("{begin}{why}"));
    let more = [
        created(0, ""),
        read(&["State", "Cryptographic Length"], &[state("PreActive")]),
    ]
    .concat();
    let why = "Attribute Cryptographic Length: is not in the case: Attribute Cryptographic Length of 2 items (line 5)";
    assert_eq!(told_of(&more), format!("{begin}{why}"));
    // All are asked for, and some are in the case.
    assert_eq!(
        told_of(&[created(0, ""), read(&[], &[state("PreActive")])].concat()),
        "pass CASE-1"
    );
    let less = [
        created(0, ""),
        read(&["State"], &[state("PreActive"), length("128")]),
    ]
    .concat();
    assert_eq!(
        told_of(&less),
        format!("{begin}Attribute Cryptographic Length: is missing (line 5)")
    );
}

#[test]
fn dates_are_those_of_the_case() {
    let given = attribute("Activation Date", "DateTime", "$NOW-60");
    let activation = |date: &str| attribute("Activation Date", "DateTime", date);
    let with = |date: &str| {
        told_of(
            &[
                created(0, &given),
                read(&["Activation Date"], &[activation(date)]),
            ]
            .concat(),
        )
    };
    assert_eq!(with("$NOW-60"), "pass CASE-1");
    assert!(
        with("$NOW").starts_with("fail CASE-1: "),
        "{}",
        with("$NOW")
    );
    // What no request gave is the server's choice.
    let initial = attribute("Initial Date", "DateTime", "2012-10-05T21:41:46+00:00");
    assert_eq!(
        told_of(&[created(0, ""), read(&["Initial Date"], &[initial])].concat()),
        "pass CASE-1"
    );
    let written = "2012-10-05T21:41:46+00:00";
    let fixed = activation(written);
    let read = |date: &str| {
        told_of(
            &[
                created(0, &fixed),
                read(&["Activation Date"], &[activation(date)]),
            ]
            .concat(),
        )
    };
    assert_eq!(read(written), "pass CASE-1");
}

#[test]
fn time_passes_where_a_case_waits_for_it() {
    let dates = attribute("Activation Date", "DateTime", "$NOW")
        + &attribute("Deactivation Date", "DateTime", "$NOW+120");
    let state = |state: &str| read(&["State"], &[attribute("State", "Enumeration", state)]);
    let case = [created(0, &dates), state("Active"), state("Deactivated")].concat();
    assert_eq!(told_of(&case), "pass CASE-1");
    let never = [created(0, &dates), state("Compromised")].concat();
    assert!(
        told_of(&never).ends_with("expected Compromised, found Deactivated (line 5)"),
        "{}",
        told_of(&never)
    );
}

#[test]
fn what_is_not_tried_and_what_is_not_known_is_said() {
    let encrypt = request("Encrypt", "<Data type='ByteString' value='00'/>");
    let both = [created(0, "").concat(), encrypt];
    assert_eq!(told_of(&both), "unsupported CASE-1: Encrypt");
    let unknown = [request("Get", &id(7)), response("Get", "")];
    assert_eq!(
        told_of(&unknown),
        "fail CASE-1: Request Message: no answer has told what $UNIQUE_IDENTIFIER_7 stands for (line 2)"
    );
    assert_eq!(
        told_of(&[response("Get", "")]),
        "fail CASE-1: Response Message: nothing was asked (line 2)"
    );
    let refused = [
        request("Activate", &id(0).replace('$', "no such ")),
        response("Activate", &id(0)),
    ];
    let told = told_of(&refused);
    let why = "Result Status: expected Success, found OperationFailed; the server says: ";
    assert!(
        told.starts_with(&format!(
            "fail CASE-1: Response Message > Batch Item > {why}"
        )),
        "{told}"
    );
}

#[test]
fn a_case_finds_what_it_goes_on_with() {
    let group = attribute("Object Group", "TextString", "somewhere else");
    let case = [
        request("Locate", &group),
        response("Locate", &id(0)),
        request("Get", &id(0)),
        response("Get", &key("00112233445566778899aabbccddeeff")),
    ];
    assert_eq!(told_of(&case), "pass CASE-1");
}

#[test]
fn the_cases_of_oasis_pass() {
    let Some(folder) = crate::cases() else {
        return;
    };
    let folders = ["1.0", "1.1", "1.2", "1.3", "1.4", "2.0", "2.1"]
        .map(|version| Path::new(&folder).join(version));
    let (lines, counted) = told(folders.to_vec());
    let failed: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("fail "))
        .collect();
    assert!(
        counted.passed >= PASSES,
        "only {} cases: {failed:#?}",
        counted.passed
    );
    assert_eq!(counted.skipped, 0);
}
