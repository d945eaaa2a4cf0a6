//! Who is a peer and who is a client, over TLS, with certificates that try to be another's (rule F of docs/design.md).

use keyferry_examples::host::{self, Files};
use keyferry_examples::{pki::Pki, runtime};
use keyferry_kmip::spec::{PutFunction, ResultReason};
use keyferry_kmip::*;
use keyferry_net::{ClientConfig, Connector, Credentials, identity, pem};
use keyferry_s2s::{Peer, PeerName, Policy};
use keyferry_ttlv::{Extra, Version};
use rcgen::{CertificateParams, CustomExtension, DnType, Issuer, KeyPair};
use std::fs;

/// A certificate of the authority in a folder, for this key.
fn certificate(pki: &Pki, key: &KeyPair, subject: &[(DnType, &str)]) -> Credentials {
    let ca_key = KeyPair::from_pem(&fs::read_to_string(pki.ca().with_extension("key")).unwrap());
    let mut ca = CertificateParams::default();
    ca.distinguished_name
        .push(DnType::CommonName, "keyferry example CA");
    let issuer = Issuer::new(ca, ca_key.unwrap());
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), *value);
    }
    // Each certificate is another one, also of the same key.
    let number = fs::read_dir(pki.ca().parent().unwrap()).unwrap().count();
    params.custom_extensions = vec![CustomExtension::from_oid_content(
        &[1, 3, 6, 1, 4, 1, 99_999, 1],
        vec![4, 1, number as u8],
    )];
    let signed = params.signed_by(key, &issuer).unwrap();
    let file = pki.ca().with_file_name(format!("made-{number}.pem"));
    fs::write(&file, signed.pem()).unwrap();
    let key_file = file.with_extension("key");
    fs::write(&key_file, key.serialize_pem()).unwrap();
    let trust = pem::certificates(pki.ca()).unwrap();
    let chain = pem::certificates(file).unwrap();
    Credentials::new(trust, chain, pem::private_key(key_file).unwrap())
}

/// What the server at this address answers a holder of these credentials.
async fn answer(address: &str, credentials: &Credentials, item: RequestItem) -> ResponseItem {
    let config = ClientConfig::new(credentials, "localhost").unwrap();
    let connector = Connector::new(address, config);
    let mut connection = connector.connect().await.unwrap();
    let request = RequestMessage::new(Version::V2_1, vec![item]);
    let response = connection.call(&request.to_frame().unwrap()).await.unwrap();
    ResponseMessage::from_frame(&response)
        .unwrap()
        .batch
        .remove(0)
}

fn put(id: &str) -> RequestItem {
    let key = Object::symmetric_key(
        spec::CryptographicAlgorithm::AES,
        128,
        Secret::new(&[1; 16]),
    );
    let request = PutRequest {
        unique_identifier: id.into(),
        put_function: PutFunction::NEW,
        replaced_unique_identifier: None,
        object: Some(key),
        attributes: Attributes::new(),
        extra: Extra::NONE,
    };
    RequestItem::new(&request, context(Version::V2_1)).unwrap()
}

fn get(id: &str) -> RequestItem {
    RequestItem::new(&GetRequest::of(id), context(Version::V2_1)).unwrap()
}

#[test]
fn a_certificate_speaks_for_its_own_holder_alone() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::open(folder.path().join("pki")).unwrap();
    let key = KeyPair::generate().unwrap();
    let named = |key: &KeyPair, name: &str| certificate(&pki, key, &[(DnType::CommonName, name)]);
    let centre = named(&key, "centre");
    let der = pem::certificates(pki.ca().with_file_name("made-2.pem"));
    let public_key = identity(&der.unwrap()[0]).unwrap().public_key;
    let policy = Policy::closed()
        .with(
            PeerName::named("centre").with_keys([public_key]),
            Peer::new("centre").may_send().foreign(),
        )
        .with("branch", Peer::new("branch").may_send().foreign());
    let files = Files::beside(folder.path().join("a.redb"));
    let credentials = pki.credentials("server", &[]).unwrap();
    runtime().unwrap().block_on(async {
        let host = host::start("a", &files, "127.0.0.1:0", &credentials, policy)
            .await
            .unwrap();
        let address = host.handle.local_addr().to_string();
        assert!(answer(&address, &centre, put("first")).await.is_success());
        let renewed = named(&key, "centre");
        assert!(
            answer(&address, &renewed, put("renewed"))
                .await
                .is_success()
        );
        let other = || KeyPair::generate().unwrap();
        let cn = DnType::CommonName;
        let same_again = DnType::CustomDnType(vec![2, 5, 4, 3]);
        let two = [(cn.clone(), "alice"), (same_again, "branch")];
        for (who, credentials) in [
            ("the name and another key", named(&other(), "centre")),
            (
                "the name of what the peer puts",
                named(&other(), "peer:centre"),
            ),
            ("the key and another name", named(&key, "somebody")),
            ("two names", certificate(&pki, &other(), &two)),
            (
                "what reads like a subject",
                named(&other(), "subject:CN=branch"),
            ),
            ("a line of its own", named(&other(), "branch\nx")),
            ("a space behind", named(&other(), "branch ")),
            (
                "another part",
                certificate(&pki, &other(), &[(DnType::OrganizationName, "branch")]),
            ),
            ("no name", certificate(&pki, &other(), &[])),
        ] {
            for item in [put(who), get("first")] {
                let refused = answer(&address, &credentials, item).await;
                assert_eq!(
                    refused.result_reason,
                    Some(ResultReason::PERMISSION_DENIED),
                    "{who}"
                );
            }
        }
        // Who signs certificates answers for names: that is what a peer by its name alone rests on.
        let branch = named(&other(), "branch");
        assert!(answer(&address, &branch, put("by name")).await.is_success());
        assert!(!answer(&address, &branch, get("by name")).await.is_success());
        host.handle.shutdown().await;
    });
}
