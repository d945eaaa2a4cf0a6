//! Our client against its server, in KMIP 1.0 to 1.4 and 2.0; and what it does otherwise than the standard says, so that whoever moves keys
//! to it or from it knows.

use super::python;
use keyferry_examples::pki::Pki;
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_net::blocking::Client;
use keyferry_net::{ClientConfig, Credentials};
use keyferry_ttlv::{Extra, Frame, Version};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Its server in a process group of its own: its children outlive it otherwise.
pub(crate) struct PyKmip {
    process: Child,
    pub(crate) address: String,
    pub(crate) credentials: Credentials,
    folder: tempfile::TempDir,
}

impl PyKmip {
    pub(crate) fn start() -> Option<PyKmip> {
        let python = python()?;
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path().join("pki")).unwrap();
        pki.credentials("pykmip", &[]).unwrap();
        let credentials = pki.credentials("keyferry", &[]).unwrap();
        let policies = folder.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let (certificate, key) = pki.files("pykmip");
        let path = |path: &Path| path.display().to_string();
        let settings = [
            ("hostname", "127.0.0.1".to_owned()),
            ("port", port.to_string()),
            ("certificate_path", path(&certificate)),
            ("key_path", path(&key)),
            ("ca_path", path(&pki.ca())),
            ("auth_suite", "TLS1.2".to_owned()),
            ("policy_path", path(&policies)),
            ("enable_tls_client_auth", "True".to_owned()),
            ("logging_level", "CRITICAL".to_owned()),
            ("database_path", path(&folder.path().join("pykmip.db"))),
        ];
        let settings: String = settings
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        let configuration = folder.path().join("server.conf");
        std::fs::write(&configuration, format!("[server]\n{settings}")).unwrap();
        let mut command = Command::new(python);
        command
            .args([
                "-c",
                "from kmip.services.server.server import main; main()",
                "-f",
            ])
            .arg(&configuration)
            .arg("-l");
        command
            .arg(folder.path().join("server.log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let process = command.spawn().unwrap();
        let mut started = PyKmip {
            process,
            address: format!("127.0.0.1:{port}"),
            credentials,
            folder,
        };
        while std::net::TcpStream::connect(&started.address).is_err() {
            assert!(
                started.process.try_wait().unwrap().is_none(),
                "it ended: {}",
                started.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(started)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    fn connect(&self, version: Version) -> Talk {
        let config = ClientConfig::new(&self.credentials, "127.0.0.1").unwrap();
        Talk {
            client: Client::connect(&self.address, &config).unwrap(),
            version,
            cx: context(version),
        }
    }
}

impl Drop for PyKmip {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status(); // it may be gone
        let _ = self.process.wait();
    }
}

/// A connection and its version.
struct Talk {
    client: Client,
    version: Version,
    cx: keyferry_ttlv::Context,
}

impl Talk {
    fn send(&mut self, message: &RequestMessage) -> ResponseMessage {
        let answer: Frame = self.client.call(&message.to_frame().unwrap()).unwrap();
        ResponseMessage::from_frame(&answer).unwrap()
    }

    fn item<Q: Payload>(&mut self, payload: &Q) -> ResponseItem {
        let item = RequestItem::new(payload, self.cx).unwrap();
        let mut answer = self.send(&RequestMessage::new(self.version, vec![item]));
        assert_eq!(answer.batch.len(), 1);
        answer.batch.pop().unwrap()
    }

    fn ask<Q: Payload, A: Payload>(&mut self, payload: &Q) -> A {
        let item = self.item(payload);
        assert!(
            item.is_success(),
            "{} in {}: {:?}",
            Q::OPERATION,
            self.version,
            item.result_message
        );
        item.payload(self.cx).unwrap()
    }

    /// The reason of a refusal.
    fn refused<Q: Payload>(&mut self, payload: &Q) -> ResultReason {
        let item = self.item(payload);
        assert!(
            !item.is_success(),
            "{} in {} was not refused",
            Q::OPERATION,
            self.version
        );
        item.result_reason.unwrap()
    }

    fn locate(&mut self, request: &LocateRequest) -> Vec<String> {
        let found: LocateResponse = self.ask(request);
        found.unique_identifiers.iter().map(str::to_owned).collect()
    }

    fn attributes(&mut self, identifier: &UniqueIdentifier) -> Attributes {
        self.ask::<_, GetAttributesResponse>(&GetAttributesRequest::of(identifier.clone()))
            .attributes
    }

    fn state(&mut self, identifier: &UniqueIdentifier) -> Option<State> {
        self.attributes(identifier).state()
    }

    fn destroy(&mut self, identifier: &UniqueIdentifier) {
        let request = DestroyRequest {
            unique_identifier: Some(identifier.clone()),
            extra: Extra::NONE,
        };
        let _: DestroyResponse = self.ask(&request);
    }
}

const VERSIONS: [Version; 6] = [
    Version::V1_0,
    Version::V1_1,
    Version::V1_2,
    Version::V1_3,
    Version::V1_4,
    Version::V2_0,
];

fn aes(material: &[u8]) -> Object {
    let bits = i32::try_from(material.len() * 8).unwrap();
    let block = KeyBlock::plain(
        KeyFormatType::RAW,
        Some((CryptographicAlgorithm::AES, bits)),
        Secret::new(material),
    );
    Object::SymmetricKey(Key {
        key_block: block.into(),
        extra: Extra::NONE,
    })
}

fn named(name: &str) -> Attributes {
    let usage = CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT;
    Attributes::new()
        .with(AttributeValue::CryptographicUsageMask(usage))
        .with(AttributeValue::Name(Name::text(name)))
}

/// With what PyKMIP takes only where the key itself has it too.
fn keyed(attributes: Attributes) -> Attributes {
    attributes
        .with(AttributeValue::CryptographicAlgorithm(
            CryptographicAlgorithm::AES,
        ))
        .with(AttributeValue::CryptographicLength(128))
}

fn introductions(talk: &mut Talk) {
    let functions = vec![
        QueryFunction::QUERY_OPERATIONS,
        QueryFunction::QUERY_OBJECTS,
        QueryFunction::QUERY_SERVER_INFORMATION,
    ];
    let told: QueryResponse = talk.ask(&QueryRequest {
        query_functions: functions,
        ..Default::default()
    });
    assert!(told.operations.contains(&Operation::REGISTER) && told.object_types.is_empty());
    for lacking in [
        Operation::ADD_ATTRIBUTE,
        Operation::IMPORT,
        Operation::PUT,
        Operation::NOTIFY,
        Operation::EXPORT,
    ] {
        assert!(!told.operations.contains(&lacking), "{lacking}");
    }
    if talk.version > Version::V1_0 {
        let told: DiscoverVersionsResponse = talk.ask(&DiscoverVersionsRequest::default());
        let spoken: Vec<_> = told
            .protocol_versions
            .iter()
            .filter_map(|version| version.version())
            .collect();
        assert_eq!(spoken.len(), 6);
        assert!(VERSIONS.iter().all(|version| spoken.contains(version)));
    }
}

/// A key from Create to Destroy.
fn life(talk: &mut Talk) {
    let name = format!("life {}", talk.version);
    let mut create = CreateRequest::symmetric_key(CryptographicAlgorithm::AES, 256);
    create
        .attributes
        .attributes
        .push(AttributeValue::Name(Name::text(name.clone())));
    let made: CreateResponse = talk.ask(&create);
    let id = made.unique_identifier;
    assert_eq!(
        talk.locate(&LocateRequest::by_name(name.clone())),
        [id.as_text().unwrap()]
    );
    let got: GetResponse = talk.ask(&GetRequest::of(id.clone()));
    let Object::SymmetricKey(key) = &got.object else {
        panic!("{:?}", got.object_type)
    };
    assert_eq!(
        (got.object_type, key.key_block.cryptographic_length),
        (ObjectType::SYMMETRIC_KEY, Some(256))
    );
    let list: GetAttributeListResponse = talk.ask(&GetAttributeListRequest {
        unique_identifier: Some(id.clone()),
        extra: Extra::NONE,
    });
    assert!(list.references.0.len() > 5);
    let attributes = talk.attributes(&id);
    assert_eq!(
        attributes
            .names()
            .map(|name| &*name.value)
            .collect::<Vec<_>>(),
        [name]
    );
    assert_eq!(attributes.state(), Some(State::PRE_ACTIVE));
    let activate = ActivateRequest {
        unique_identifier: Some(id.clone()),
        extra: Extra::NONE,
    };
    let _: ActivateResponse = talk.ask(&activate);
    assert_eq!(talk.state(&id), Some(State::ACTIVE));
    talk.refused(&DestroyRequest {
        unique_identifier: Some(id.clone()),
        extra: Extra::NONE,
    });
    let _: RevokeResponse = talk.ask(&RevokeRequest::of(
        id.clone(),
        RevocationReasonCode::CESSATION_OF_OPERATION,
        None,
    ));
    assert_eq!(talk.state(&id), Some(State::DEACTIVATED));
    talk.destroy(&id);
    assert_eq!(
        talk.refused(&GetRequest::of(id)),
        ResultReason::ITEM_NOT_FOUND
    );
}

/// Register, and what comes back; attributes that change.
fn registered(talk: &mut Talk) {
    let (name, later) = (
        format!("registered {}", talk.version),
        format!("renamed {}", talk.version),
    );
    let material = [7; 16];
    let attributes = keyed(named(&name)).with(AttributeValue::ObjectGroup("group".into()));
    let made: RegisterResponse = talk.ask(&RegisterRequest::of(aes(&material), attributes));
    let id = made.unique_identifier;
    let got: GetResponse = talk.ask(&GetRequest::of(id.clone()));
    assert_eq!(got.object, aes(&material));
    let (old, new) = (
        AttributeValue::Name(Name::text(name.clone())),
        AttributeValue::Name(Name::text(later.clone())),
    );
    let is_tagged = talk.version >= Version::V2_0;
    let mut attribute = Attribute::from(new.clone());
    attribute.index = (!is_tagged).then_some(0);
    let current = if is_tagged {
        Attributes::new().with(old)
    } else {
        Attributes::new()
    };
    let modify = ModifyAttributeRequest {
        unique_identifier: Some(id.clone()),
        current,
        attribute: std::iter::once(attribute).collect(),
        extra: Extra::NONE,
    };
    let _: ModifyAttributeResponse = talk.ask(&modify);
    assert_eq!(
        talk.locate(&LocateRequest::by_name(later.clone())),
        [id.as_text().unwrap()]
    );
    assert_eq!(
        talk.locate(&LocateRequest::by_name(name)),
        Vec::<String>::new()
    );
    let group = AttributeValue::ObjectGroup("group".into());
    let delete = |value: AttributeValue| DeleteAttributeRequest {
        unique_identifier: Some(id.clone()),
        current: if is_tagged {
            Attributes::new().with(value.clone())
        } else {
            Attributes::new()
        },
        references: AttributeReferences(if is_tagged {
            Vec::new()
        } else {
            vec![AttributeReference::Standard(value.tag())]
        }),
        attribute_index: (!is_tagged).then_some(0),
        extra: Extra::NONE,
    };
    let _: DeleteAttributeResponse = talk.ask(&delete(group));
    assert_eq!(talk.attributes(&id).all(tag::OBJECT_GROUP).count(), 0);
    if is_tagged {
        // A Name, it can't delete by its value.
        assert_eq!(talk.refused(&delete(new)), ResultReason::GENERAL_FAILURE);
        let sensitive = Attributes::new().with(AttributeValue::Sensitive(true));
        let set = SetAttributeRequest {
            unique_identifier: Some(id.clone()),
            attribute: sensitive,
            extra: Extra::NONE,
        };
        let _: SetAttributeResponse = talk.ask(&set);
        assert_eq!(
            talk.attributes(&id).get(tag::SENSITIVE),
            Some(&AttributeValue::Sensitive(true))
        );
    } else {
        let _: DeleteAttributeResponse = talk.ask(&delete(new));
        assert_eq!(talk.attributes(&id).names().count(), 0);
    }
    talk.destroy(&id);
}

/// A pair, and what its keys do.
fn pair(talk: &mut Talk) {
    let common = Attributes::new()
        .with(AttributeValue::CryptographicAlgorithm(
            CryptographicAlgorithm::RSA,
        ))
        .with(AttributeValue::CryptographicLength(2048));
    let usage = |usage| Attributes::new().with(AttributeValue::CryptographicUsageMask(usage));
    let made: CreateKeyPairResponse = talk.ask(&CreateKeyPairRequest {
        common_attributes: Some(common.into()),
        private_key_attributes: Some(usage(CryptographicUsageMask::SIGN).into()),
        public_key_attributes: Some(usage(CryptographicUsageMask::VERIFY).into()),
        ..Default::default()
    });
    let public: GetResponse = talk.ask(&GetRequest::of(made.public_key_unique_identifier.clone()));
    assert!(
        matches!(&public.object, Object::PublicKey(key) if key.key_block.key_format_type == KeyFormatType::PKCS_1)
    );
    if talk.version > Version::V1_1 {
        for id in [
            &made.private_key_unique_identifier,
            &made.public_key_unique_identifier,
        ] {
            let _: ActivateResponse = talk.ask(&ActivateRequest {
                unique_identifier: Some(id.clone()),
                extra: Extra::NONE,
            });
        }
        let parameters = CryptographicParameters {
            padding_method: Some(PaddingMethod::PKCS1_V1_5),
            hashing_algorithm: Some(HashingAlgorithm::SHA_256),
            cryptographic_algorithm: Some(CryptographicAlgorithm::RSA),
            ..Default::default()
        };
        let data = Data::Bytes(Secret::new(b"something to sign"));
        let signed: SignResponse = talk.ask(&SignRequest {
            unique_identifier: Some(made.private_key_unique_identifier.clone()),
            cryptographic_parameters: Some(Box::new(parameters.clone())),
            data: Some(data.clone()),
            ..Default::default()
        });
        let verified: SignatureVerifyResponse = talk.ask(&SignatureVerifyRequest {
            unique_identifier: Some(made.public_key_unique_identifier.clone()),
            cryptographic_parameters: Some(Box::new(parameters)),
            data: Some(data),
            signature_data: signed.signature_data,
            ..Default::default()
        });
        assert_eq!(verified.validity_indicator, Some(ValidityIndicator::VALID));
    }
}

/// Attributes that it does not take, each in its own way.
fn unwelcome(talk: &mut Talk) {
    let register =
        |value: AttributeValue| RegisterRequest::of(aes(&[9; 16]), named("unwelcome").with(value));
    let refuses = [
        AttributeValue::ActivationDate(DateTime(1_600_000_000)),
        AttributeValue::ContactInformation("somebody".into()),
        AttributeValue::Custom(CustomAttribute::text("mark", "7")),
    ];
    for value in refuses {
        let what = value.tag();
        let reason = talk.refused(&register(value));
        // In 2.0 it can't even read one of a vendor.
        let unread = talk.version >= Version::V2_0 && what == tag::ATTRIBUTE;
        assert_eq!(
            reason,
            if unread {
                ResultReason::INVALID_MESSAGE
            } else {
                ResultReason::INVALID_FIELD
            },
            "{what}"
        );
    }
    // These it can't read, and the rest of the message with them: the items that were right are lost too.
    let unreadable = [
        AttributeValue::Comment("a word".into()),
        AttributeValue::Description("a word".into()),
    ];
    if talk.version == Version::V1_4 {
        for value in unreadable {
            let right = RequestItem::new(
                &RegisterRequest::of(aes(&[9; 16]), named("never there")),
                talk.cx,
            )
            .unwrap();
            let wrong = RequestItem::new(&register(value), talk.cx).unwrap();
            let answer = talk.send(&RequestMessage::new(talk.version, vec![right, wrong]));
            assert_eq!(answer.batch.len(), 1);
            assert_eq!(
                answer.batch.first().unwrap().result_reason,
                Some(ResultReason::INVALID_MESSAGE)
            );
        }
        assert_eq!(
            talk.locate(&LocateRequest::by_name("never there")),
            Vec::<String>::new()
        );
    }
    // The connection goes on.
    introductions(talk);
}

/// What a batch needs there.
fn batches(talk: &mut Talk) {
    let cx = talk.cx;
    let register = |name: &str| {
        RequestItem::new(&RegisterRequest::of(aes(&[3; 16]), named(name)), cx).unwrap()
    };
    let names = [
        format!("batch 1 {}", talk.version),
        format!("batch 2 {}", talk.version),
    ];
    let answer = talk.send(&RequestMessage::new(
        talk.version,
        names.iter().map(|name| register(name)).collect(),
    ));
    assert!(answer.batch.len() == 2 && answer.batch.iter().all(ResponseItem::is_success));
    for name in &names {
        let found = talk.locate(&LocateRequest::by_name(name.as_str()));
        assert_eq!(found.len(), 1);
    }
    // Without identifiers of its items a batch is refused, and so is Undo.
    let mut bare = RequestMessage::new(talk.version, vec![register("bare 1"), register("bare 2")]);
    for item in &mut bare.batch {
        item.unique_batch_item_id = None;
    }
    let mut undo = RequestMessage::new(
        talk.version,
        vec![register("undone 1"), register("undone 2")],
    );
    undo.header.batch_error_continuation_option = Some(BatchErrorContinuationOption::UNDO);
    for message in [bare, undo] {
        let answer = talk.send(&message);
        assert!(answer.batch.len() == 1 && !answer.batch.iter().any(ResponseItem::is_success));
    }
    for name in ["bare 1", "bare 2", "undone 1", "undone 2"] {
        assert_eq!(
            talk.locate(&LocateRequest::by_name(name)),
            Vec::<String>::new()
        );
    }
}

/// It finds everything by a date of the last change, and much by attributes that an object does not have: hits are looked at.
fn hits(talk: &mut Talk) {
    let (mine, other) = (
        format!("hit {}", talk.version),
        format!("miss {}", talk.version),
    );
    for name in [&mine, &other] {
        let _: RegisterResponse = talk.ask(&RegisterRequest::of(aes(&[5; 16]), named(name)));
    }
    let never = Attributes::new().with(AttributeValue::LastChangeDate(DateTime(86_400)));
    let found = talk.locate(&LocateRequest::of(never));
    assert!(found.len() >= 2, "it has learnt to tell dates: {found:?}");
    let is_mine = |attributes: &Attributes| attributes.names().any(|name| *name.value == *mine);
    let kept = found
        .iter()
        .filter(|id| is_mine(&talk.attributes(&UniqueIdentifier::from(id.as_str()))))
        .count();
    assert_eq!(kept, 1);
    // Pages are pages: it knows Offset Items, in every version that has them.
    if talk.version >= Version::V1_3 {
        let page = |offset| LocateRequest {
            maximum_items: Some(1),
            offset_items: Some(offset),
            ..Default::default()
        };
        assert_ne!(talk.locate(&page(0)), talk.locate(&page(1)));
    }
}

#[test]
fn what_it_does_otherwise_is_known() {
    let Some(pykmip) = PyKmip::start() else {
        return;
    };
    for version in VERSIONS {
        let mut talk = pykmip.connect(version);
        for part in [unwelcome, batches, hits] {
            part(&mut talk);
        }
    }
    // A version that it does not speak is refused, in one that it does.
    let mut talk = pykmip.connect(Version::V2_1);
    let item = RequestItem::new(&DiscoverVersionsRequest::default(), talk.cx).unwrap();
    let answer = talk.send(&RequestMessage::new(Version::V2_1, vec![item]));
    assert!(answer.batch.iter().all(|item| !item.is_success()));
}

#[test]
fn its_server_does_what_our_client_asks() {
    let Some(pykmip) = PyKmip::start() else {
        return;
    };
    for version in VERSIONS {
        let mut talk = pykmip.connect(version);
        for part in [introductions, life, registered, pair] {
            part(&mut talk);
        }
    }
}
