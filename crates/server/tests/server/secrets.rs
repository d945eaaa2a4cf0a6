//! Key material shows up in no Debug, no Display, and no message.

use crate::objects;
use crate::printed::{SECRET, shows_it};
use crate::support::*;
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_store::{Effects, Material};
use keyferry_ttlv::Version;

#[test]
fn the_check_itself_finds_the_usual_forms() {
    assert!(shows_it(&format!("{SECRET:?}")));
    assert!(shows_it(
        &format!("{SECRET:02X?}").replace(", ", "").to_string()
    ));
    assert!(shows_it(&String::from_utf8_lossy(SECRET)));
}

fn secret_objects(version: Version) -> Vec<Object> {
    let secret = || Secret::new(SECRET);
    let mut all = vec![
        key(SECRET),
        Object::secret_data(SecretDataType::PASSWORD, secret()),
        Object::OpaqueObject(OpaqueObject {
            opaque_data_type: Enumeration(1),
            value: secret(),
            extra: Default::default(),
        }),
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
                attributes: none().into(),
                object: Some(object.clone()),
                protection_storage_masks: None,
                extra: Default::default(),
            };
            assert!(!shows_it(&format!("{register:?}")), "payload");
            let message = RequestMessage::new(version, vec![client.item(&register)]);
            assert!(
                !shows_it(&format!("{message:?} {:?}", message.to_frame().unwrap())),
                "message"
            );
            let id = client.register(object.clone(), none());
            let got = client.get(&id).unwrap();
            let response = ResponseMessage::new(
                version,
                DateTime(0),
                vec![ResponseItem::success(&got, client.cx()).unwrap()],
            );
            assert!(!shows_it(&format!("{got:?} {response:?}")), "response");
            let record = host.record(&id);
            let effects = Effects::change(None, record.clone(), Material::Set(Box::new(object)));
            assert!(
                !shows_it(&format!("{record:?} {effects:?}")),
                "record and effects"
            );
        }
    }
    let put = host.client(Version::V2_1);
    assert!(!shows_it(&format!(
        "{:?}",
        put.put_request("p", Some(key(SECRET)), none())
    )));
    assert!(!shows_it(&format!(
        "{:?}",
        put.import_request("p", Some(key(SECRET)), none())
    )));
}

#[test]
fn debug_of_server_node_and_home_shows_no_key() {
    let host = Host::new();
    let node = host.server.node();
    let shown = format!("{:?} {:?} {:?}", host.server, node, node.home);
    let key = secret_of_home(node);
    assert!(
        !shown.contains(format!("{:?}", &key[..4]).trim_matches(['[', ']'])),
        "{shown}"
    );
}

fn secret_of_home(node: &keyferry_s2s::Node) -> Vec<u8> {
    node.home.fingerprint_key.expose().to_vec()
}
