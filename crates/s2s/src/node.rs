//! This server as a [`Node`] among others, and what it alone does with records: it makes, changes and recognises them.

use crate::ask::Ask;
use crate::clock::Clock;
use crate::compare::held::HeldTable;
use crate::compare::shared::Shared;
use crate::compare::table::Table;
use crate::planted::planted;
use crate::policy::Policy;
use crate::refusals::Refusals;
use crate::relation::alarm::{Alarm, AlarmKind};
use crate::relation::followed::Upstream;
use keyferry_kmip::spec::{
    AttributeValue, HashingAlgorithm, KeyFormatType, ObjectType, SecretDataType, State, tag,
};
use keyferry_kmip::{
    Attributes, Cause, Crypto, DateTime, Digest, Failure, Now, Object, Random, Text,
    UniqueIdentifier, lifecycle,
};
use keyferry_store::record::material_of;
use keyferry_store::{
    Effects, Home, Incarnation, Lineage, ObjectId, Overlay, Record, Result, Snapshot, SnapshotExt,
    Stamp, index,
};
use keyferry_ttlv::Extra;
use std::sync::Arc;

/// This server among others: its identity, its policy and its cryptographic library.
#[non_exhaustive]
pub struct Node {
    /// Its server id, its instance and the key of its fingerprints.
    pub home: Home,
    /// What each peer may do here.
    pub policy: Policy,
    /// Its cryptographic library.
    pub crypto: Arc<dyn Crypto>,
    /// What it knows of its own clock.
    pub clock: Clock,
    /// How often it has refused what others said.
    pub refusals: Refusals,
    /// What it has told those who follow it, as they compare it with what they hold.
    pub(crate) tables: Shared<Table>,
    /// What it holds of those whom it follows, as it compares it with what they have told.
    pub(crate) held: Shared<HeldTable>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("server", &self.home.server)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// The server with this identity, which is what [`StoreExt::home`](keyferry_store::StoreExt::home) returned.
    pub fn new(home: Home, policy: Policy, crypto: Arc<dyn Crypto>) -> Node {
        Node {
            home,
            policy,
            crypto,
            clock: Clock::default(),
            refusals: Refusals::default(),
            tables: Shared::default(),
            held: Shared::default(),
        }
    }

    /// The record of an object that is created here: this server is its origin and its issuer.
    pub fn new_record(
        &self,
        reign: Incarnation,
        identifier: Text,
        object_type: ObjectType,
        attributes: Attributes,
    ) -> Record {
        Record {
            id: ObjectId {
                server: self.home.server.clone(),
                instance: self.home.instance.clone(),
                identifier: identifier.clone(),
            },
            identifier,
            owner: None,
            stamp: Stamp::first(&self.home.server, reign),
            lineage: Lineage::new(),
            object_type,
            attributes,
            overlay: None,
            fingerprint: None,
            lost: Vec::new(),
            extra: Extra::NONE,
        }
    }

    /// Whether this server is the one that may change the object.
    pub fn issues(&self, record: &Record) -> bool {
        record.stamp.issuer == self.home.server
    }

    /// Checks that this server may change the object. The failure names the server that may, and its address if a relation has it.
    ///
    /// # Errors
    /// [`Cause::PermissionDenied`], and those of the store.
    pub fn check_issuer(&self, snapshot: &dyn Snapshot, record: &Record) -> Result<(), Failure> {
        let master = if self.observes(record) {
            &record.id.server
        } else {
            &record.stamp.issuer
        };
        if *master == self.home.server {
            return Ok(());
        }
        let relations = Upstream::all(snapshot)?;
        let address = relations
            .into_iter()
            .filter(|relation| relation.server == *master)
            .find_map(|relation| relation.address);
        let at = address
            .map(|address| format!(", at {address}"))
            .unwrap_or_default();
        Err(Failure::new(
            Cause::PermissionDenied,
            format_args!("this is a copy; its master is the server {master:?}{at}"),
        ))
    }

    /// Whether the object belongs to a foreign server that this one observes. This server issues the copies of it, and changes nothing else.
    pub fn observes(&self, record: &Record) -> bool {
        is_observed_by(&self.home.server, record)
    }

    /// Marks one more change of an object that this server issues, in its stamp, its lineage and its Last Change Date.
    pub fn advance(&self, record: &mut Record, reign: Incarnation, now: DateTime) {
        let next = record.stamp.sequence.saturating_add(1);
        if record.stamp.incarnation != reign.0 && !planted!(ReignForgotten) {
            // A new reign: whoever holds an earlier change can see that this one descends from it.
            if record.lineage.is_empty() {
                record.lineage.push(Stamp {
                    sequence: 1,
                    ..record.stamp.clone()
                });
            }
            record.stamp.incarnation = reign.0.to_vec();
            record.lineage.push(Stamp {
                sequence: next,
                ..record.stamp.clone()
            });
            // A replica that has missed more reigns than that takes the next change for a fork.
            let most = record.lineage.len().saturating_sub(Lineage::MOST);
            record.lineage.drain(..most);
        }
        record.stamp.sequence = next;
        record.attributes.set(AttributeValue::LastChangeDate(now));
        // "Always" and "never" end with the first exception (KMIP 2.1 §4.3, §4.33).
        let is = |wanted: AttributeValue| record.attributes.get(wanted.tag()) == Some(&wanted);
        let (open, extractable) = (
            is(AttributeValue::Sensitive(false)),
            is(AttributeValue::Extractable(true)),
        );
        if open {
            record
                .attributes
                .set(AttributeValue::AlwaysSensitive(false));
        }
        if extractable {
            record
                .attributes
                .set(AttributeValue::NeverExtractable(false));
        }
    }

    /// Stores the State that dates have led to by now, unless the clock has jumped ([rule 7](crate::design#rule-7)).
    ///
    /// # Errors
    /// Those of the store.
    pub fn store_reached_state(
        &self,
        snapshot: &dyn Snapshot,
        attributes: &mut Attributes,
        now: Now,
    ) -> Result<()> {
        if self.clock.is_trusted(snapshot, now)? {
            lifecycle::store_state_at(attributes, now.wall);
        }
        Ok(())
    }

    /// Notes a trusted time, or raises the alarm that the clock has jumped; `true` when that is new.
    ///
    /// # Errors
    /// Those of the store.
    pub fn watch_clock(
        &self,
        snapshot: &dyn Snapshot,
        now: Now,
        effects: &mut Effects,
    ) -> Result<bool> {
        if self.clock.is_trusted(snapshot, now)? {
            effects.state.extend(self.clock.note(snapshot, now)?);
            return Ok(false);
        }
        let is_new = self.clock.is_to_be_named();
        if is_new {
            let server = &self.home.server;
            let alarm = Alarm::raise_at(snapshot, now.wall, server, AlarmKind::CLOCK)?;
            effects.state.extend(alarm);
        }
        Ok(is_new)
    }

    /// Sets the attributes that every object has, where the request did not bring them: State, Initial Date, Last Change Date. While the clock is not
    /// trusted the State is Pre-Active, and reads tell what the dates have led to.
    ///
    /// # Errors
    /// Those of the store.
    pub fn set_default_attributes(
        &self,
        snapshot: &dyn Snapshot,
        attributes: &mut Attributes,
        now: Now,
    ) -> Result<()> {
        if !self.clock.is_trusted(snapshot, now)? {
            attributes.set_default(AttributeValue::State(State::PRE_ACTIVE));
        }
        set_default_attributes(attributes, now.wall);
        Ok(())
    }

    /// Sets the Digest of an object that has none (KMIP 2.1 §4.21).
    pub fn digest(&self, attributes: &mut Attributes, object: &Object) {
        let Some(bytes) = object.digestible() else {
            return;
        };
        let format = match object.key_block() {
            Some(block) => Some(block.key_format_type),
            // A certificate's bytes as they are.
            None => matches!(object, Object::Certificate(_)).then_some(KeyFormatType::RAW),
        };
        attributes.set_default(AttributeValue::Digest(Digest {
            hashing_algorithm: HashingAlgorithm::SHA_256,
            value: Some(self.crypto.sha256(&[bytes]).to_vec()),
            key_format_type: format,
            extra: Extra::NONE,
        }));
    }

    /// A keyed digest of the material, which only this store can make. It recognises material that arrives again.
    ///
    /// # Errors
    /// When the object has no stored form.
    pub fn fingerprint(&self, object: &Object) -> Result<Vec<u8>> {
        let digest = match object.digestible() {
            Some(bytes) => self
                .crypto
                .hmac_sha256(self.home.fingerprint_key.expose(), &[bytes]),
            None => self
                .crypto
                .hmac_sha256(self.home.fingerprint_key.expose(), &[&material_of(object)?]),
        };
        Ok(digest.iter().take(16).copied().collect())
    }

    /// Sets the fingerprint of a record. If the same material is known as compromised by the same issuer, the record becomes compromised, too:
    /// material stays compromised under any identifier ([rule 5](crate::design#rule-5)). An object that this server issues becomes so for all
    /// servers, a copy here alone. That goes for secrets: certificates, public keys, passwords and opaque objects are nobody's secret, and two
    /// of them with the same bytes have nothing to do with each other.
    ///
    /// # Errors
    /// [`Cause::PermissionDenied`] when a client brings material as usable that is known to be compromised, and those of the store.
    pub fn recognise(
        &self,
        ask: &Ask<'_>,
        record: &mut Record,
        object: &Object,
    ) -> Result<(), Failure> {
        let fingerprint = self.fingerprint(object)?;
        record.fingerprint = Some(fingerprint.clone());
        if record.is_compromised() || !is_secret(object) || planted!(CompromiseNotRecognised) {
            return Ok(());
        }
        let (issuer, is_client) = (record.stamp.issuer.clone(), ask.is_client);
        let same = |other: &Record| {
            other.fingerprint.as_ref() == Some(&fingerprint)
                && other.is_compromised()
                && (is_client || other.stamp.issuer == issuer || planted!(AnyTwinCounts))
        };
        let twin = ask
            .snapshot
            .first(&index::compromised(&fingerprint), &same)?;
        if twin.is_none() {
            return Ok(());
        }
        if is_client && !record.is_destroyed() {
            return Err(Failure::new(
                Cause::PermissionDenied,
                "this key material is known to be compromised: it is not taken as if it were not",
            ));
        }
        let raised = lifecycle::Rank {
            step: if record.is_destroyed() { 3 } else { 0 },
            compromised: true,
        };
        let state = raised.joined_state(raised);
        if self.issues(record) {
            record.attributes.set(AttributeValue::State(state));
            record
                .attributes
                .set_default(AttributeValue::CompromiseDate(ask.now.wall));
        } else {
            record.overlay.get_or_insert_with(Overlay::default).state = Some(state);
        }
        Ok(())
    }
}

/// Whether an object belongs to a foreign server that the server of this id observes, and is issued by it for that reason alone.
pub(crate) fn is_observed_by(server: &str, record: &Record) -> bool {
    *record.stamp.issuer == *server && record.stamp.epoch == 1 && *record.id.server != *server
}

/// The bytes from which on a seed is taken for a secret that no two servers have by chance.
const SEED_BYTES: usize = 16;

/// Whether an object is a secret that nobody has by chance: a symmetric, private or split key, or a seed that is long enough.
pub(crate) fn is_secret(object: &Object) -> bool {
    match object {
        Object::SymmetricKey(_) | Object::PrivateKey(_) | Object::SplitKey(_) => true,
        Object::SecretData(data) => {
            data.secret_data_type == SecretDataType::SEED && object.material_len() >= SEED_BYTES
        }
        _ => false,
    }
}

/// Makes a new Unique Identifier: a random UUID.
///
/// # Errors
/// [`Cause::Cryptographic`], with [`RandomFailed`](keyferry_kmip::RandomFailed) as its source, when there is no randomness.
pub(crate) fn new_identifier(random: &mut dyn Random) -> Result<Text, Failure> {
    let mut bytes = [0; 16];
    random
        .fill(&mut bytes)
        .map_err(|error| Failure::new(Cause::Cryptographic, error).caused_by(error))?;
    Ok(Text::from(
        uuid::Builder::from_random_bytes(bytes)
            .into_uuid()
            .to_string(),
    ))
}

/// All attributes of an object as a client sees them now: its identifier and type, the attributes of the copy, and those of this server alone.
pub fn client_attributes(record: &Record, now: DateTime) -> Attributes {
    let mut attributes = Attributes::new()
        .with(AttributeValue::UniqueIdentifier(UniqueIdentifier::Text(
            record.identifier.clone(),
        )))
        .with(AttributeValue::ObjectType(record.object_type));
    // A template has a State for the server alone.
    let is_template = record.object_type == ObjectType::TEMPLATE;
    for attribute in record.client_attributes() {
        if is_template && matches!(attribute.value.tag(), tag::STATE | tag::DESTROY_DATE) {
            continue;
        }
        // An attribute of this server alone gets the next free index; those of the copy keep theirs.
        match attribute.index {
            None => attributes.push(attribute.value.clone()),
            Some(_) => attributes.keep(attribute.clone()),
        }
    }
    if let Some(state) = record.state(now).filter(|_| !is_template) {
        attributes.set(AttributeValue::State(state));
    }
    attributes
}

/// Sets the attributes that every object has, where the request did not bring them: State, Initial Date, Last Change Date.
pub fn set_default_attributes(attributes: &mut Attributes, now: DateTime) {
    let reached = |tag| attributes.date(tag).is_some_and(|date| date <= now);
    let state = if reached(tag::ACTIVATION_DATE) {
        State::ACTIVE
    } else {
        State::PRE_ACTIVE
    };
    attributes.set_default(AttributeValue::State(state));
    attributes.set_default(AttributeValue::InitialDate(now));
    attributes.set_default(AttributeValue::LastChangeDate(now));
}
