//! A KMIP server over one file that nobody talks to: for what is done beside the network.

use crate::{Result, host};
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::Policy;
use keyferry_server::{Access, Grant, Granted, Level, Options, Rights, Server};
use keyferry_store::{Record, RecordNumber, SnapshotExt, Store, StoreExt};
use keyferry_ttlv::{Extra, Version};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A server without sockets.
pub struct Offline {
    /// Its semantics.
    pub server: Server,
    /// Its store.
    pub store: Arc<dyn Store>,
}

/// What a copy is compared by: state, digest of its attributes, digest of its material.
pub type Held = (Option<State>, Vec<u8>, Option<[u8; 32]>);

/// The client that owns what is made here.
pub fn operator() -> Identity {
    Identity::new("operator")
}

impl Offline {
    /// The server `name` over these files, made if there are none.
    ///
    /// # Errors
    /// When a file can't be used, or is another server's.
    pub fn open(name: &str, files: &host::Files, policy: Policy) -> Result<Offline> {
        let store = host::open(files, &policy)?;
        let server = Server::new(Options {
            server: name.into(),
            store: store.clone(),
            crypto: Arc::new(Ring::new()),
            random: Box::new(SystemRandom::new()),
            access: Access::Authenticated,
            policy,
        })?;
        // The operator sees what a backup server keeps for whom; nobody else asks it.
        let copies = Grant {
            client: Some(operator().name.into()),
            objects: Granted::Copies,
            level: Level::Read,
        };
        Ok(Offline {
            server: server.with_rights(Rights::owners().with(copies)),
            store,
        })
    }

    fn ask<P: Payload, R: Payload>(&self, payloads: &[P]) -> Result<Vec<R>> {
        let cx = context(Version::V2_1);
        let items = payloads
            .iter()
            .map(|payload| RequestItem::new(payload, cx))
            .collect::<std::result::Result<_, _>>()?;
        let request = RequestMessage::new(Version::V2_1, items).to_frame()?;
        let Answer::Reply(answer) =
            self.server
                .answer(&operator(), keyferry_net::clock(), &request)
        else {
            return Err("the server did not answer".into());
        };
        let read = |item: &ResponseItem| match item.is_success() {
            true => Ok(item.payload(cx)?),
            false => Err(format!("{:?}: {:?}", item.result_reason, item.result_message).into()),
        };
        ResponseMessage::from_frame(&answer)?
            .batch
            .iter()
            .map(read)
            .collect()
    }

    /// Makes so many active AES keys, every second one of this group, and returns their identifiers.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn create(&self, count: usize, group: &str) -> Result<Vec<Text>> {
        let mut identifiers = Vec::with_capacity(count);
        let now = keyferry_net::clock().wall;
        let requests: Vec<CreateRequest> = (0..count)
            .map(|n| {
                let usage = CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT;
                let mut attributes = Attributes::new()
                    .with(V::CryptographicAlgorithm(CryptographicAlgorithm::AES))
                    .with(V::CryptographicLength(256))
                    .with(V::CryptographicUsageMask(usage))
                    .with(V::ActivationDate(now));
                if n % 2 == 0 {
                    attributes.push(V::ObjectGroup(group.into()));
                }
                CreateRequest {
                    object_type: ObjectType::SYMMETRIC_KEY,
                    attributes: attributes.into(),
                    protection_storage_masks: None,
                    extra: Extra::NONE,
                }
            })
            .collect();
        for batch in requests.chunks(100) {
            for made in self.ask::<_, CreateResponse>(batch)? {
                identifiers.push(
                    made.unique_identifier
                        .as_text()
                        .ok_or("no identifier")?
                        .into(),
                );
            }
        }
        Ok(identifiers)
    }

    /// Revokes an object.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn revoke(&self, identifier: &Text, code: RevocationReasonCode) -> Result {
        let request = RevokeRequest {
            unique_identifier: Some(identifier.clone().into()),
            revocation_reason: RevocationReason {
                code,
                message: None,
                extra: Extra::NONE,
            },
            compromise_occurrence_date: None,
            extra: Extra::NONE,
        };
        self.ask::<_, RevokeResponse>(&[request]).map(drop)
    }

    /// Revokes an object and destroys it.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn destroy(&self, identifier: &Text) -> Result {
        self.revoke(identifier, RevocationReasonCode::CESSATION_OF_OPERATION)?;
        let request = DestroyRequest {
            unique_identifier: Some(identifier.clone().into()),
            extra: Extra::NONE,
        };
        self.ask::<_, DestroyResponse>(&[request]).map(drop)
    }

    /// How many objects that are not destroyed have these attributes.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn located(&self, attributes: Attributes) -> Result<usize> {
        let request = LocateRequest {
            attributes,
            ..Default::default()
        };
        let found: Vec<LocateResponse> = self.ask(&[request])?;
        Ok(found
            .iter()
            .map(|found| found.unique_identifiers.iter().count())
            .sum())
    }

    /// Every object by its identity between servers.
    ///
    /// # Errors
    /// Those of the store.
    pub fn held(&self) -> Result<BTreeMap<String, Held>> {
        let (now, node) = (keyferry_net::clock().wall, self.server.node());
        let held = |(record, object): (Record, Option<Object>)| {
            let material = object
                .map(|object| keyferry_store::record::material_of(&object))
                .transpose()?;
            let material = material.map(|bytes| node.crypto.sha256(&[&bytes]));
            Ok((
                record.id.to_string(),
                (record.state(now), record.copy_digest()?, material),
            ))
        };
        let held = self.store.view::<_, keyferry_store::Error>(|snapshot| {
            (1..=snapshot.count()?)
                .filter_map(|n| snapshot.whole(RecordNumber(n)).transpose())
                .map(|row| held(row?))
                .collect()
        })?;
        Ok(held)
    }
}

/// The objects that are not the same in both, or only in one.
pub fn differences(one: &BTreeMap<String, Held>, other: &BTreeMap<String, Held>) -> Vec<String> {
    let differs = |(id, held): &(&String, &Held)| other.get(*id) != Some(held);
    let lacking = other.keys().filter(|id| !one.contains_key(*id));
    one.iter()
        .filter(differs)
        .map(|(id, _)| id)
        .chain(lacking)
        .cloned()
        .collect()
}
