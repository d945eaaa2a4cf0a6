use crate::ask::Ask;
use crate::planted::planted;
use crate::policy::Policy;
use crate::relation::followed::Upstream;
use keyferry_kmip::spec::{
    AttributeValue, HashingAlgorithm, KeyFormatType, ObjectType, State, tag,
};
use keyferry_kmip::{
    Attributes, Cause, Crypto, DateTime, Digest, Failure, Object, Text, UniqueIdentifier, lifecycle,
};
use keyferry_store::record::material_of;
use keyferry_store::{
    Error, Home, Incarnation, ObjectId, Overlay, Record, Result, Snapshot, SnapshotExt, Stamp,
    index,
};
use keyferry_ttlv::Extra;
use std::sync::Arc;

/// This server among others: who it is, whom it trusts with what, and its cryptographic library.
pub struct Node {
    /// Who it is.
    pub home: Home,
    /// Whom it trusts with what.
    pub policy: Policy,
    /// Its cryptographic library.
    pub crypto: Arc<dyn Crypto>,
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
    /// The record of an object that is born here: this server is its origin and its issuer.
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
            lineage: Vec::new(),
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

    /// Fails unless this server may change the object; the message names who may, and where that one is, if a relation says so.
    ///
    /// # Errors
    /// [`Cause::PermissionDenied`], and that the store failed.
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

    /// Whether this server only follows a foreign master that has the object: it issues the copies of what it sees, and changes nothing.
    pub fn observes(&self, record: &Record) -> bool {
        self.issues(record) && record.stamp.epoch == 1 && record.id.server != self.home.server
    }

    /// Marks one more change of an object that this server issues: stamp, lineage, Last Change Date.
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
            // Whoever has missed so many of its issuer's reigns takes it for a fork.
            let most = record.lineage.len().saturating_sub(REIGNS);
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

    /// A digest of the material that only this store can make, for recognising material that comes again.
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

    /// Sets the fingerprint of a record, and raises its state where the same material is known to be compromised: material stays
    /// compromised under any identifier (DESIGN: rule 5). What this server issues is compromised for all; a copy is so here alone.
    ///
    /// # Errors
    /// Those of the store.
    pub fn recognise(
        &self,
        ask: &Ask<'_>,
        record: &mut Record,
        object: &Object,
    ) -> Result<(), Error> {
        let fingerprint = self.fingerprint(object)?;
        let same = |other: &Record| {
            other.fingerprint.as_ref() == Some(&fingerprint) && other.is_compromised()
        };
        let known = ask
            .snapshot
            .first(&index::compromised(&fingerprint), &same)?;
        if known.is_some() && !record.is_compromised() && !planted!(CompromiseNotRecognised) {
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
        }
        record.fingerprint = Some(fingerprint);
        Ok(())
    }
}

/// Reigns that an object remembers.
const REIGNS: usize = 64;

/// All attributes of an object as a client sees them now: identifier and type, the copy's, and what is local.
pub fn client_attributes(record: &Record, now: DateTime) -> Attributes {
    let mut shown = Attributes::new()
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
        // What is local gets the next index of its attribute; the copy's keep theirs.
        match attribute.index {
            None => shown.push(attribute.value.clone()),
            Some(_) => shown.keep(attribute.clone()),
        }
    }
    if let Some(state) = record.state(now).filter(|_| !is_template) {
        shown.set(AttributeValue::State(state));
    }
    shown
}

/// Sets what an object must have and a request did not bring: State, Initial Date, Last Change Date.
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
