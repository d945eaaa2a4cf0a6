//! Peers that are no keyferry server.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_s2s::{Answered, Ask, Bulk, ErrorKind, Peer, Policy, Responder, Strategy};
use keyferry_server::Access;
use keyferry_ttlv::{Extra, Version};
use std::sync::Arc;

/// Answers Query like another product.
pub struct Foreign(pub Vec<Operation>);

impl Responder for Foreign {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Answered, Failure>> {
        assert!(
            item.message_extensions.is_empty(),
            "a foreign peer is sent no extension of ours"
        );
        if item.operation != Operation::QUERY {
            return None;
        }
        let response = QueryResponse {
            operations: self.0.clone(),
            object_types: Vec::new(),
            vendor_identification: Some("acme".into()),
            server_information: None,
            application_namespaces: Vec::new(),
            extension_information: Vec::new(),
            attestation_types: Vec::new(),
            rng_parameters: Vec::new(),
            profile_information: Vec::new(),
            validation_information: Vec::new(),
            capability_information: Vec::new(),
            client_registration_methods: Vec::new(),
            defaults_information: None,
            protection_storage_masks: None,
            extra: Extra::NONE,
        };
        Some(Answered::answer(&response, ask.cx))
    }
}

pub fn foreign(operations: &[Operation]) -> Host {
    let mut host = Host::named(
        "f",
        Access::Authenticated,
        Policy::closed().with(
            "a.example",
            Peer::new("a").may_send().foreign().also_client(),
        ),
    );
    let server = Arc::into_inner(host.server)
        .unwrap()
        .with(Arc::new(Foreign(operations.to_vec())));
    host.server = Arc::new(server);
    host
}

#[test]
fn a_foreign_peer_gets_standard_messages_alone() {
    for strategy in BOTH {
        let a = master();
        let client = a.client(Version::V1_4);
        let ids: Vec<String> = (0..5)
            .map(|n| client.register(key(&[n; 16]), named(&format!("n{n}"))))
            .collect();
        client.activate(&ids[1]).unwrap();
        let f = foreign(&[Operation::IMPORT, Operation::PUT]);
        let mut session = Bulk::new(options(strategy));
        let mut largest = 0;
        let report = drive(
            &a,
            &f,
            &mut session,
            "a.example",
            Cut::Never,
            &mut |_, message| largest = largest.max(message.batch.len()),
        )
        .unwrap()
        .unwrap();
        assert_eq!(counts(&report), (5, 0, 0, 0));
        assert_eq!(
            largest,
            if strategy == Strategy::Put { 1 } else { 3 },
            "a Put message to a client holds one object"
        );
        for id in &ids {
            assert_eq!(
                sorted(&f.client(Version::V1_4).attributes(id)),
                sorted(&client.attributes(id)),
                "{strategy:?}"
            );
            assert_eq!(f.object(id), a.object(id));
        }
        let report = transfer(&a, &f, strategy);
        if strategy == Strategy::Import {
            // The map knows what is there.
            assert_eq!(counts(&report), (0, 0, 5, 0));
            continue;
        }
        // A Put has no way to say "unchanged": it exists already.
        assert_eq!(counts(&report), (0, 0, 0, 5));
        assert!(
            report
                .failures
                .iter()
                .all(|f| f.reason == Some(ResultReason::OBJECT_ALREADY_EXISTS))
        );
    }
}

#[test]
fn a_peer_that_lacks_the_operation_is_told_from_one_that_fails() {
    for (strategy, offered) in [
        (Strategy::Import, Operation::PUT),
        (Strategy::Put, Operation::IMPORT),
    ] {
        let a = master();
        a.client(Version::V2_1).create(none());
        let f = foreign(&[offered]);
        let ended = drive(
            &a,
            &f,
            &mut Bulk::new(options(strategy)),
            "a.example",
            Cut::Never,
            &mut |_, _| {},
        )
        .unwrap();
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Peer);
        assert_eq!(f.count(), 0);
    }
}

#[test]
fn what_a_foreign_peer_can_not_be_told_is_named() {
    let a = master();
    let client = a.client(Version::V2_1);
    let id = client.register(key(&[1; 16]), named("n"));
    client.add(&id, AttributeValue::QuantumSafe(true)).unwrap();
    let report = transfer(&a, &foreign(&[Operation::IMPORT]), Strategy::Import);
    assert_eq!(
        (report.counts.lost, report.losses.len()),
        (None, 0),
        "2.1 has everything"
    );
    let report = transfer(&a, &foreign(&[Operation::PUT]), Strategy::Put);
    assert_eq!(report.losses.len(), 1);
    assert_eq!(report.losses[0].identifier, id);
    assert!(
        report.losses[0]
            .attributes
            .contains(&"Quantum Safe".to_owned()),
        "{:?}",
        report.losses
    );
    assert_eq!(
        report.counts.lost,
        Some(report.losses[0].attributes.len() as i64)
    );
}
