//! Servers over memory stores, and the bundles between them.

use keyferry_bundle::*;
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{Peer, Policy};
use keyferry_server::{Access, Grant, Granted, Level, Options, Rights, Server};
use keyferry_store::{Incarnation, Memory, Record, SnapshotExt, Store, StoreExt};
use keyferry_ttlv::{Extra, Frame, Version};
use std::sync::Arc;

pub const NOW: DateTime = DateTime(1_700_000_000);
pub const LATER: DateTime = DateTime(1_700_600_000);

/// A server that may be sent copies by `alpha`.
pub struct Host {
    pub server: Server,
    pub store: Arc<Memory>,
    pub name: &'static str,
}

pub fn now() -> Now {
    Now {
        tick: Tick(0),
        wall: NOW,
    }
}

/// The identifier of the shared key at a server.
pub fn kek(server: &str) -> String {
    format!("kek of {server}")
}

pub fn caller(name: &str) -> Identity {
    Identity::new(name).with_certificate([7; 32], [7; 32])
}

impl Host {
    pub fn new(name: &'static str) -> Host {
        let mut incarnation = [0; 16];
        SystemRandom::new().fill(&mut incarnation).unwrap();
        let store = Arc::new(Memory::new(Incarnation(incarnation)));
        let server = Server::new(Options {
            server: name.into(),
            store: store.clone(),
            crypto: Arc::new(Ring::new()),
            random: Box::new(SystemRandom::new()),
            access: Access::Named(["client".to_owned()].into()),
            policy: Policy::closed()
                .with(
                    "alpha's",
                    Peer::new("alpha").may_send().unwrapping(kek(name)),
                )
                .with(
                    "beta's",
                    Peer::new("beta")
                        .may_send()
                        .may_relay()
                        .unwrapping(kek(name)),
                ),
        });
        // Its client may revoke what beta holds of others.
        let rights = Rights::owners().with(Grant {
            client: Some("client".into()),
            objects: Granted::Copies,
            level: Level::Manage,
        });
        Host {
            server: server.unwrap().with_rights(rights),
            store,
            name,
        }
    }

    pub fn answer(&self, who: &str, message: &RequestMessage) -> ResponseMessage {
        match self
            .server
            .answer(&caller(who), now(), &message.to_frame().unwrap())
        {
            Answer::Reply(frame) => ResponseMessage::from_frame(&frame).unwrap(),
            other => panic!("no answer: {other:?}"),
        }
    }

    fn call<P: Payload, R: Payload>(&self, payload: &P) -> R {
        let cx = context(Version::V2_1);
        let response = self.answer(
            "client",
            &RequestMessage::new(Version::V2_1, vec![RequestItem::new(payload, cx).unwrap()]),
        );
        let item = &response.batch[0];
        assert!(
            item.is_success(),
            "{:?} {:?}",
            item.result_reason,
            item.result_message
        );
        item.payload(cx).unwrap()
    }

    pub fn register(&self, object: Object, attributes: Attributes) -> String {
        let object_type = object.object_type();
        let request = RegisterRequest {
            object_type,
            attributes: attributes.into(),
            object: Some(object),
            protection_storage_masks: None,
            extra: Extra::NONE,
        };
        self.call::<_, RegisterResponse>(&request)
            .unique_identifier
            .as_text()
            .unwrap()
            .to_owned()
    }

    /// Imports an object under an identifier of the client's choice.
    pub fn import(&self, identifier: &str, object: Object, attributes: Attributes) -> String {
        let request = ImportRequest {
            unique_identifier: identifier.into(),
            object_type: Some(object.object_type()),
            replace_existing: None,
            key_wrap_type: None,
            attributes,
            object: Some(object),
            extra: Extra::NONE,
        };
        self.call::<_, ImportResponse>(&request)
            .unique_identifier
            .as_text()
            .unwrap()
            .to_owned()
    }

    /// An active AES key of these bytes.
    pub fn key(&self, byte: u8, name: &str) -> String {
        self.register(
            Object::symmetric_key(CryptographicAlgorithm::AES, 256, Secret::new(&[byte; 32])),
            Attributes::new()
                .with(V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT))
                .with(V::ActivationDate(NOW))
                .with(V::Name(Name::text(name))),
        )
    }

    pub fn revoke(&self, id: &str, code: RevocationReasonCode) {
        let request = RevokeRequest {
            unique_identifier: Some(id.into()),
            revocation_reason: RevocationReason {
                code,
                message: None,
                extra: Extra::NONE,
            },
            compromise_occurrence_date: None,
            extra: Extra::NONE,
        };
        self.call::<_, RevokeResponse>(&request);
    }

    pub fn destroy(&self, id: &str) {
        self.call::<_, DestroyResponse>(&DestroyRequest {
            unique_identifier: Some(id.into()),
            extra: Extra::NONE,
        });
    }

    pub fn rename(&self, id: &str, group: &str) {
        self.add(id, V::ObjectGroup(group.into()));
    }

    pub fn add(&self, id: &str, value: V) {
        let request = AddAttributeRequest {
            unique_identifier: Some(id.into()),
            attribute: [value].into_iter().collect(),
            extra: Extra::NONE,
        };
        self.call::<_, AddAttributeResponse>(&request);
    }

    pub fn delete(&self, request: &DeleteAttributeRequest) {
        self.call::<_, DeleteAttributeResponse>(request);
    }

    /// What the store holds under an identifier.
    pub fn held(&self, id: &str) -> Option<(Record, Option<Object>)> {
        self.store
            .view::<_, keyferry_store::Error>(|s| {
                s.by_identifier(id)?
                    .map_or(Ok(None), |(number, _)| s.whole(number))
            })
            .unwrap()
    }

    pub fn state(&self, id: &str) -> State {
        self.held(id).unwrap().0.state(NOW).unwrap()
    }

    pub fn count(&self) -> u64 {
        let mut count = 0;
        self.store
            .read(&mut |s| s.count().map(|n| count = n))
            .unwrap();
        count
    }

    /// Everything that it holds, as copies are compared: what each is, which change, and its material.
    pub fn copies(&self) -> Vec<(String, Vec<u8>, i64, Option<Object>)> {
        let mut copies = Vec::new();
        self.store
            .read(&mut |s| {
                copies.clear();
                for n in 1..=s.count()? {
                    let (record, object) = s.whole(keyferry_store::RecordNumber(n))?.unwrap();
                    copies.push((
                        record.id.to_string(),
                        record.copy_digest()?,
                        record.stamp.sequence,
                        object,
                    ));
                }
                Ok(())
            })
            .unwrap();
        copies.sort_by(|a, b| a.0.cmp(&b.0));
        copies
    }
}

/// The keys of one sender and one receiver.
pub struct Keys {
    pub sign: SigningKey,
    pub identity: AgeIdentity,
    pub trusted: Vec<Signer>,
}

impl Keys {
    pub fn new() -> Keys {
        let (sign, _) = SigningKey::generate(&mut SystemRandom::new()).unwrap();
        Keys {
            trusted: vec![Signer::new("alpha", sign.verifying_key())],
            sign,
            identity: AgeIdentity::generate(),
        }
    }

    /// A bundle of everything that `from` has, for `beta`, in small segments.
    pub fn seal(&self, from: &Host) -> Vec<u8> {
        self.seal_by(from, 10).1
    }

    pub fn seal_by(&self, from: &Host, batch: usize) -> (Sealed, Vec<u8>) {
        let readers = [self.identity.recipient()];
        let home = &from.server.node().home;
        let options = SealOptions {
            batch,
            ..SealOptions::new(home, "beta", &self.sign, &readers, NOW, LATER)
        };
        let mut file = Vec::new();
        let sealed = seal(&*from.store, &options, &mut file).unwrap();
        (sealed, file)
    }

    /// Applies a bundle through the node of `to`, from its beginning.
    pub fn open(&self, file: &[u8], to: &Host) -> (Opened, keyferry_s2s::Report) {
        self.take(file, to, &*to.store, true).unwrap()
    }

    /// Applies a bundle to `store` through the node of `to`.
    pub fn take(
        &self,
        file: &[u8],
        to: &Host,
        store: &dyn Store,
        again: bool,
    ) -> Result<(Opened, keyferry_s2s::Report)> {
        let from = caller("alpha's");
        let node = &**to.server.node();
        let receiving = Receiving {
            responder: node,
            store,
            caller: &from,
            now: now(),
            again,
            restoring: None,
        };
        let options = OpenOptions::new(to.name, &self.trusted, &self.identity, NOW);
        receiving.take(file, &options, &mut SystemRandom::new())
    }

    /// What is wrong with a bundle, and how many segments were handed out before.
    pub fn refusal(&self, file: &[u8]) -> (ErrorKind, u64) {
        self.refusal_by(
            file,
            &OpenOptions::new("beta", &self.trusted, &self.identity, NOW),
        )
    }

    pub fn refusal_by(&self, file: &[u8], options: &OpenOptions<'_>) -> (ErrorKind, u64) {
        let mut handed = 0;
        let error = open::<Error>(file, options, |part| {
            handed = part.number;
            Ok(())
        })
        .unwrap_err();
        assert!(!error.to_string().is_empty());
        (error.kind(), handed)
    }

    fn age(&self) -> age::x25519::Identity {
        self.identity.secret_text().unwrap().parse().unwrap()
    }

    /// The parts of a bundle: manifest and segments, sealed.
    pub fn parts(&self, file: &[u8]) -> Vec<Frame> {
        let plain = age::decrypt(&self.age(), file).unwrap();
        let mut parts = Vec::new();
        let mut rest = &plain[..];
        while !rest.is_empty() {
            let length = 8 + u32::from_be_bytes(rest[4..8].try_into().unwrap()) as usize;
            parts.push(Frame::new(rest[..length].to_vec()));
            rest = &rest[length..];
        }
        parts
    }

    /// A file of these parts, as whoever has the recipient can make it.
    pub fn join(&self, parts: &[&Frame]) -> Vec<u8> {
        let plain: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        age::encrypt(&self.age().to_public(), &plain).unwrap()
    }
}
