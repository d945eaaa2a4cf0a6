//! Key material shows up in no Debug, no Display, no message and no log line.

use crate::objects;
use crate::support::*;
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_store::{Effects, Material};
use keyferry_ttlv::{Frame, Version};
use std::sync::{Arc, Mutex};

/// A secret that no other text holds, and all the ways in which it might be printed.
const SECRET: &[u8; 16] = b"\xDE\xAD\xBE\xEFS3cr3tM4ter!";

fn shows_it(text: &str) -> bool {
    let lower = text.to_lowercase();
    let hex: String = SECRET.iter().map(|b| format!("{b:02x}")).collect();
    let list = format!("{:?}", &SECRET[..4]);
    let list = list.trim_matches(['[', ']']);
    lower.contains(&hex) || lower.contains(&hex[8..20]) || text.contains(list) || text.contains("S3cr3t")
}

#[test]
fn the_check_itself_finds_the_usual_forms() {
    assert!(shows_it(&format!("{SECRET:?}")));
    assert!(shows_it(&format!("{SECRET:02X?}").replace(", ", "").to_string()));
    assert!(shows_it(&String::from_utf8_lossy(SECRET)));
}

fn secret_objects(version: Version) -> Vec<Object> {
    let secret = || Secret::new(SECRET);
    let mut all = vec![
        key(SECRET),
        Object::secret_data(SecretDataType::PASSWORD, secret()),
        Object::OpaqueObject(OpaqueObject { opaque_data_type: Enumeration(1), value: secret(), extra: Default::default() }),
    ];
    for (_, mut object) in objects::all(version) {
        if let Object::PrivateKey(key) | Object::SymmetricKey(key) = &mut object
            && let Some(value) = &mut key.key_block.key_value
        {
            match value {
                KeyValue::Wrapped(bytes) => *bytes = secret(),
                KeyValue::Plain(plain) => {
                    if matches!(plain.key_material, KeyMaterial::Bytes(_)) {
                        plain.key_material = KeyMaterial::Bytes(secret());
                    }
                }
            }
            all.push(object);
        }
    }
    all
}

#[test]
fn debug_of_objects_messages_and_effects_is_masked() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        for object in secret_objects(version) {
            assert!(!shows_it(&format!("{object:?}")), "object");
            let register = RegisterRequest {
                object_type: object.object_type(),
                attributes: none(),
                object: Some(object.clone()),
                protection_storage_masks: None,
                extra: Default::default(),
            };
            assert!(!shows_it(&format!("{register:?}")), "payload");
            let message = RequestMessage::new(version, vec![client.item(&register)]);
            assert!(!shows_it(&format!("{message:?} {:?}", message.to_frame().unwrap())), "message");
            let id = client.register(object.clone(), none());
            let got = client.get(&id).unwrap();
            let response = ResponseMessage::new(version, DateTime(0), vec![ResponseItem::success(&got, client.cx()).unwrap()]);
            assert!(!shows_it(&format!("{got:?} {response:?}")), "response");
            let record = host.record(&id);
            let effects = Effects::change(None, record.clone(), Material::Set(Box::new(object)));
            assert!(!shows_it(&format!("{record:?} {effects:?}")), "record and effects");
        }
    }
    let put = host.client(Version::V2_1);
    assert!(!shows_it(&format!("{:?}", put.put_request("p", Some(key(SECRET)), none()))));
    assert!(!shows_it(&format!("{:?}", put.import_request("p", Some(key(SECRET)), none()))));
}

#[test]
fn debug_of_server_node_and_home_shows_no_key() {
    let host = Host::new();
    let node = host.server.node();
    let shown = format!("{:?} {:?} {:?}", host.server, node, node.home);
    let key = secret_of_home(node);
    assert!(!shown.contains(format!("{:?}", &key[..4]).trim_matches(['[', ']'])), "{shown}");
}

fn secret_of_home(node: &keyferry_s2s::Node) -> Vec<u8> {
    node.home.fingerprint_key.expose().to_vec()
}

/// Where log lines go.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn failures_and_log_lines_show_no_material() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let host = Host::new();
        for version in ALL {
            let client = host.client(version);
            let id = client.register(key(SECRET), none());
            // Every byte of a Register changed in turn: whatever the complaint, it must not quote the key.
            let register = RegisterRequest {
                object_type: ObjectType::SYMMETRIC_KEY,
                attributes: named("n"),
                object: Some(key(SECRET)),
                protection_storage_masks: None,
                extra: Default::default(),
            };
            let whole = RequestMessage::new(version, vec![client.item(&register)]).to_frame().unwrap();
            for at in 0..whole.len() {
                let mut bytes = whole.to_vec();
                bytes[at] ^= 0x41;
                let response = host.server.answer(&client.identity, host.now(), &Frame::new(bytes));
                let Answer::Reply(frame) = response else { panic!() };
                for item in ResponseMessage::from_frame(&frame).unwrap().batch {
                    assert!(
                        !shows_it(item.result_message.as_deref().unwrap_or_default()),
                        "byte {at}: {:?}",
                        item.result_message
                    );
                }
            }
            client.revoke(&id, RevocationReasonCode::SUPERSEDED).unwrap_err();
            client.destroy(&id).unwrap();
            client.get(&id).unwrap_err();
            host.store.fail(1, keyferry_store::Fault::Refuse(keyferry_store::ErrorKind::Io));
            client.register_with(ObjectType::SYMMETRIC_KEY, Some(key(SECRET)), none()).unwrap_err();
        }
        let stranger = Host::named("x", keyferry_server::Access::Closed, keyferry_s2s::Policy::closed());
        stranger.client(Version::V2_1).register_with(ObjectType::SYMMETRIC_KEY, Some(key(SECRET)), none()).unwrap_err();
    });
    let text = String::from_utf8_lossy(&lines.0.lock().unwrap()).into_owned();
    assert!(text.contains("failed") && text.contains("denied"), "there are log lines: {text}");
    assert!(!shows_it(&text));
}
