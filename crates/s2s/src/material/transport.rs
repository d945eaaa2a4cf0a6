//! This module makes and finds transport keys: under an RSA key goes one AES key, and under that one everything else
//! ([rule D](crate::design#rule-d)).

use crate::error::{Error, ErrorKind, Result};
use crate::material::wrapping_key::{KeyUse, check_usable};
use crate::node::{Node, new_identifier, set_default_attributes};
use crate::policy::Wrapping;
use crate::relation::keys;
use crate::relation::owed::check_no_pending_give_back;
use crate::transport_key::{USAGE, goes_under, marks, owner};
use keyferry_kmip::spec::{
    AttributeValue as V, BlockCipherMode, CryptographicAlgorithm, KeyFormatType, ObjectType, tag,
};
use keyferry_kmip::{
    Attributes, CryptographicParameters, DateTime, Now, Object, Random, Secret, Text,
};
use keyferry_store::{
    Effects, Incarnation, Material, Record, RecordNumber, Snapshot, SnapshotExt, Store, StoreExt,
};
use zeroize::Zeroizing;

/// Seconds after which a transport key wraps nothing more, and another one is made: a year.
const LIFETIME: i64 = 365 * 24 * 60 * 60;

/// The bits of a transport key.
const BITS: i32 = 256;

/// A key that wraps what goes to a partner who has an RSA key, and that goes there first, under the RSA key.
#[derive(Debug)]
#[non_exhaustive]
pub struct TransportKey {
    /// The number of its record in this store.
    pub number: RecordNumber,
    /// Its record.
    pub record: Record,
    /// The wrapping under it: AES key wrap with padding (RFC 5649), so that a key value may have any length.
    pub wrapping: Wrapping,
}

impl TransportKey {
    fn new((number, record): (RecordNumber, Record), under: &Wrapping) -> TransportKey {
        let identifier = record.identifier.clone();
        let parameters = CryptographicParameters {
            block_cipher_mode: Some(BlockCipherMode::AES_KEY_WRAP_PADDING),
            ..Default::default()
        };
        TransportKey {
            number,
            record,
            wrapping: Wrapping {
                here: identifier.clone(),
                there: identifier,
                parameters,
                bound: under.bound.clone(),
            },
        }
    }
}

impl Node {
    /// The transport key that wraps now for the RSA key of a [`Wrapping::oaep`]; `None` if none was made, or the last one is too old or may not be
    /// used any more.
    ///
    /// # Errors
    /// Those of the store.
    pub fn transport_key(
        &self,
        snapshot: &dyn Snapshot,
        under: &Wrapping,
        now: DateTime,
    ) -> Result<Option<TransportKey>> {
        let Some(identifier) = snapshot.state_value(&keys::transport(&under.here, &under.there))?
        else {
            return Ok(None);
        };
        let Some(found) = std::str::from_utf8(&identifier)
            .ok()
            .map(|identifier| snapshot.by_identifier(identifier))
            .transpose()?
            .flatten()
        else {
            return Ok(None);
        };
        let record = &found.1;
        let wraps = self.issues(record)
            && goes_under(record, &under.here, &under.there)
            && !record.is_destroyed()
            && record.attributes.get(tag::ARCHIVE_DATE).is_none()
            && check_usable(record, now, KeyUse::Protect).is_ok();
        Ok(wraps.then(|| TransportKey::new(found, under)))
    }

    /// Makes a transport key for this RSA key, which takes the place of the one before.
    pub(crate) fn new_transport_key(
        &self,
        reign: Incarnation,
        under: &Wrapping,
        now: DateTime,
        random: &mut dyn Random,
    ) -> Result<Effects> {
        let mut bytes = Zeroizing::new([0; 32]);
        random
            .fill(&mut bytes[..])
            .map_err(|error| Error::caused_by(ErrorKind::Random, error))?;
        let aes = CryptographicAlgorithm::AES;
        let object = Object::symmetric_key(aes, BITS, Secret::new(&bytes[..]));
        // It has no attribute Extractable, which is bound where it stands: in 1.4 the key would not fit under 2048 bits of RSA with it.
        let [there, here] = marks(&under.here, &under.there);
        let mut attributes = Attributes::new()
            .with(there)
            .with(here)
            .with(V::CryptographicAlgorithm(aes))
            .with(V::CryptographicLength(BITS))
            .with(V::KeyFormatType(KeyFormatType::RAW))
            .with(V::CryptographicUsageMask(USAGE))
            .with(V::Sensitive(true))
            .with(V::AlwaysSensitive(true))
            .with(V::ActivationDate(now))
            .with(V::ProtectStopDate(DateTime(now.0.saturating_add(LIFETIME))));
        self.digest(&mut attributes, &object);
        set_default_attributes(&mut attributes, now);
        let identifier =
            new_identifier(random).map_err(|error| Error::caused_by(ErrorKind::Random, error))?;
        let kind = ObjectType::SYMMETRIC_KEY;
        let mut record = self.new_record(reign, identifier.clone(), kind, attributes);
        record.owner = Some(owner(&self.home.server));
        record.fingerprint = Some(self.fingerprint(&object)?);
        let mut effects = Effects::change(None, record, Material::Set(object.into()));
        let key = keys::transport(&under.here, &under.there);
        effects
            .state
            .push((key, Some(identifier.as_bytes().to_vec())));
        Ok(effects)
    }
}

/// The transport key that wraps now for this RSA key; it is made if there is none.
pub(crate) fn ensured(
    store: &dyn Store,
    node: &Node,
    under: &Wrapping,
    now: DateTime,
    random: &mut dyn Random,
) -> Result<TransportKey> {
    let found = store.view::<_, Error>(|snapshot| node.transport_key(snapshot, under, now))?;
    if let Some(found) = found {
        return Ok(found);
    }
    renew_transport_key(
        store,
        node,
        under,
        Now {
            wall: now,
            ..Now::default()
        },
        random,
    )?;
    store
        .view::<_, Error>(|snapshot| node.transport_key(snapshot, under, now))?
        .ok_or_else(|| Error::new(ErrorKind::Policy, "a new transport key does not wrap"))
}

/// Makes another transport key for the partner whose RSA key a [`Wrapping::oaep`] names, and returns its Unique Identifier. What is sent from
/// now on is wrapped by it. The one before still unwraps what is under way, until somebody destroys it.
///
/// A relation and a push make the first one themselves, and another one after a year. A bundle does not: before the first one, and when a key
/// is to be replaced, call this.
///
/// # Errors
/// [`ErrorKind::Policy`] where the wrapping is not under an RSA key, [`ErrorKind::Relation`] while this server waits for what it has lost, and those of the store and of the source of randomness.
pub fn renew_transport_key(
    store: &dyn Store,
    node: &Node,
    under: &Wrapping,
    now: Now,
    random: &mut dyn Random,
) -> Result<Text> {
    if !under.is_rsa() {
        let why = "only what goes under an RSA key needs a transport key";
        return Err(Error::new(ErrorKind::Policy, why));
    }
    store.transact::<_, Error>(|transaction| {
        check_no_pending_give_back(transaction)
            .map_err(|failure| Error::caused_by(ErrorKind::Relation, failure))?;
        let reign = transaction.reign()?;
        let effects = node.new_transport_key(reign, under, now.wall, &mut *random)?;
        effects.apply(transaction)?;
        let made = effects.changes.into_iter().next();
        made.map(|change| change.after.identifier)
            .ok_or_else(|| Error::new(ErrorKind::Policy, "no transport key was made"))
    })
}
