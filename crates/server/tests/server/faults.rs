//! A store that fails.

use crate::support::*;
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_store::{ErrorKind, Fault};
use keyferry_ttlv::{Extra, Version};

fn batch(client: &Client) -> ResponseMessage {
    let create = |label: &str| client.item(&create_request(aes(named(label))));
    let activate = ActivateRequest {
        unique_identifier: None,
        extra: Extra::NONE,
    };
    client.batch(vec![create("one"), client.item(&activate), create("two")])
}

#[test]
fn a_commit_that_fails_fails_every_item_and_leaves_nothing() {
    for version in ALL {
        for fault in [
            Fault::Refuse(ErrorKind::Io),
            Fault::RollBack(ErrorKind::Full),
            Fault::RollBack(ErrorKind::Conflict),
        ] {
            let host = Host::new();
            let client = host.client(version);
            host.store.fail(1, fault);
            let response = batch(&client);
            assert_eq!(response.batch.len(), 3, "{fault:?} {version}");
            let two = version >= Version::V2_0;
            let failed = if two {
                ResultReason::INTERNAL_SERVER_ERROR
            } else {
                ResultReason::GENERAL_FAILURE
            };
            for item in &response.batch {
                assert_eq!(refused(item).0, failed);
                assert!(item.operation.is_some() && item.unique_batch_item_id.is_some());
            }
            assert_eq!((host.count(), host.head()), (0, 0));
            assert!(client.locate(none()).is_empty());
            assert!(
                batch(&client).batch.iter().all(ResponseItem::is_success),
                "the server goes on"
            );
            assert_eq!(host.count(), 2);
        }
    }
}

#[test]
fn a_failed_change_leaves_the_object_as_it_was() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let id = client.register(key(&[1; 16]), named("n"));
    let before = client.attributes(&id);
    host.pass(9);
    host.store.fail(1, Fault::RollBack(ErrorKind::Full));
    assert_eq!(
        reason(client.destroy(&id)),
        ResultReason::INTERNAL_SERVER_ERROR
    );
    host.store.fail(1, Fault::RollBack(ErrorKind::Full));
    assert_eq!(
        reason(client.modify(&id, None, name("m"))),
        ResultReason::INTERNAL_SERVER_ERROR
    );
    assert_eq!(client.attributes(&id), before);
    assert_eq!(client.get(&id).unwrap().object, key(&[1; 16]));
    assert_eq!(
        (
            client.locate(named("n")).len(),
            client.locate(named("m")).len()
        ),
        (1, 0)
    );
}

#[test]
fn a_transaction_that_runs_twice_is_done_once() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    host.store.fail(1, Fault::Rerun);
    let response = batch(&client);
    assert!(response.batch.iter().all(ResponseItem::is_success));
    assert_eq!(host.count(), 2);
    let id = text(
        &client
            .read::<CreateResponse>(&response.batch[0])
            .unwrap()
            .unique_identifier,
    );
    assert_eq!(client.state(&id), State::ACTIVE);
    assert_eq!(host.record(&id).stamp.sequence, 2);
}

#[test]
fn an_answer_that_was_lost_after_the_commit_does_not_claim_that_nothing_was_done() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    host.store.fail(1, Fault::LoseAnswer);
    let Refused(reason, message) = client.create_with(aes(none())).unwrap_err();
    assert_eq!(reason, ResultReason::INTERNAL_SERVER_ERROR);
    assert!(!message.contains("nothing was done"), "{message}");
    assert_eq!(host.count(), 1);
}

#[test]
fn reads_go_on_while_writes_fail() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let id = client.create(none());
    // The first time it takes the freshness off the object.
    client.get(&id).unwrap();
    let writes = host.store.writes();
    client.get(&id).unwrap();
    client.attributes(&id);
    client.locate(none());
    client.export(&id).unwrap();
    assert_eq!(
        host.store.writes(),
        writes,
        "what only reads begins no transaction"
    );
}

#[test]
fn a_store_belongs_to_one_server_name() {
    let host = Host::new();
    let other = keyferry_server::Server::new(keyferry_server::Options {
        server: "b".into(),
        store: host.store.clone(),
        crypto: std::sync::Arc::new(keyferry_crypto::Ring::new()),
        random: Box::new(keyferry_crypto::SystemRandom::new()),
        access: keyferry_server::Access::Closed,
        policy: keyferry_s2s::Policy::closed(),
    });
    assert!(other.is_err());
    let again = Host::over(
        "a",
        host.store.clone(),
        keyferry_server::Access::Authenticated,
        keyferry_s2s::Policy::closed(),
    );
    assert_eq!(
        again.server.node().home,
        host.server.node().home,
        "the identity is kept in the store"
    );
}

/// Randomness that has run out after so many draws.
struct Exhausted(u32);

impl Random for Exhausted {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), RandomFailed> {
        self.0 = self.0.checked_sub(1).ok_or(RandomFailed)?;
        out.fill(0x5A);
        Ok(())
    }
}

#[test]
fn without_randomness_no_key_is_made() {
    let mut host = Host::new();
    let server = |draws| {
        keyferry_server::Server::new(keyferry_server::Options {
            server: "a".into(),
            store: host.store.clone(),
            crypto: std::sync::Arc::new(keyferry_crypto::Ring::new()),
            random: Box::new(Exhausted(draws)),
            access: keyferry_server::Access::Authenticated,
            policy: keyferry_s2s::Policy::closed(),
        })
    };
    assert!(server(1).is_err(), "nor a server");
    let served = server(3).unwrap();
    host.server = std::sync::Arc::new(served);
    let client = host.client(Version::V2_1);
    assert_eq!(
        reason(client.create_with(aes(none()))),
        ResultReason::CRYPTOGRAPHIC_FAILURE,
        "a key, and no identifier for it"
    );
    assert_eq!(
        reason(client.create_with(aes(none()))),
        ResultReason::CRYPTOGRAPHIC_FAILURE
    );
    assert_eq!(host.count(), 0);
    assert!(client.locate(none()).is_empty(), "reading needs none");
}
