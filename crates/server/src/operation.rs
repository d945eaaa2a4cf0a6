//! This module answers the operations that the s2s responder does not; there is one file for each kind.

mod adjust;
mod attribute;
mod certificate;
mod create;
mod discover;
mod get;
mod key_pair;
mod lifecycle;
mod locate;
mod rekey;
mod service;
pub(crate) mod table;
mod template;
mod usage;

use keyferry_kmip::spec::{Operation, ProtectionStorageMask, tag};
use keyferry_kmip::{
    Attributes, Cause, Failure, Interval, KeyPair, ProtectionStorageMasks, RequestItem,
    RequestMessage, context,
};
use keyferry_s2s::{Answered, Ask, Node, Responder, blocks_name, check_extensions};
use keyferry_store::{
    Effects, Material, Record, RecordNumber, SnapshotExt, Store, StoreExt, index,
};
use keyferry_ttlv::Version;
use std::sync::{Arc, Mutex, PoisonError};
use table::Listed;

/// The operations that this server answers itself, and what they share.
#[derive(Debug)]
pub(crate) struct Operations {
    pub(crate) node: Arc<Node>,
    pub(crate) settings: Settings,
    /// RSA key pairs, which take long to make, and so are made before the transaction that uses them.
    ready: Mutex<Vec<(i32, KeyPair)>>,
}

/// The settings of an application.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The time for which a client may use an object without asking again.
    pub(crate) lease_time: Interval,
    /// Whether Interop is answered.
    pub(crate) interop: bool,
}

/// Whether a peer that is no client may ask for an operation. What it may do by it, the policy says.
pub(crate) fn is_for_peers(operation: Operation) -> bool {
    table::find(operation).is_some_and(|row| row.is_for_peers)
}

/// Whether an operation has no effects, except rarely.
pub(crate) fn is_read(operation: Operation) -> bool {
    table::find(operation).is_some_and(|row| row.is_read)
}

impl Operations {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Operations {
            node,
            settings: Settings {
                lease_time: Interval(3600),
                interop: false,
            },
            ready: Mutex::default(),
        }
    }
}

impl Operations {
    /// The operations that Query names, of all versions.
    fn listed(&self) -> impl Iterator<Item = Operation> {
        let is_listed = |listed| match listed {
            Listed::Always => true,
            Listed::WithInterop => self.settings.interop,
            Listed::Never => false,
        };
        table::TABLE
            .iter()
            .filter(move |row| is_listed(row.listed))
            .map(|row| row.operation)
    }
}

/// The most RSA key pairs that one message may ask for.
const PAIRS: usize = 16;

impl Operations {
    /// Makes the RSA key pairs that a message asks for, before its transaction, which would make others wait.
    ///
    /// # Errors
    /// When they are too many, or can't be made.
    pub(crate) fn prepare(
        &self,
        store: &dyn Store,
        message: &RequestMessage,
        version: Version,
    ) -> Result<(), Failure> {
        let pairs = |item: &&RequestItem| {
            matches!(
                item.operation,
                Operation::CREATE_KEY_PAIR | Operation::RE_KEY_KEY_PAIR
            )
        };
        if !message.batch.iter().any(|item| pairs(&item)) {
            return Ok(());
        }
        let wanted: Vec<i32> = store.view::<_, keyferry_store::Error>(|snapshot| {
            let items = message.batch.iter().filter(pairs);
            Ok(items
                .filter_map(|item| key_pair::rsa_wanted(snapshot, item, context(version)))
                .collect())
        })?;
        if wanted.len() > PAIRS {
            return Err(Failure::new(
                Cause::ServerLimit,
                format_args!("one message makes {PAIRS} RSA key pairs at the most"),
            ));
        }
        for bits in wanted {
            let pair = key_pair::rsa(&self.node, bits)?;
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            // Pairs that earlier failures left over do not pile up.
            if ready.len() < 4 * PAIRS {
                ready.push((bits, pair));
            }
        }
        Ok(())
    }

    /// A key pair that was made before and is unused.
    fn ready(&self, bits: i32) -> Option<KeyPair> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let place = ready.iter().position(|(length, _)| *length == bits)?;
        Some(ready.swap_remove(place).1)
    }
}

impl Responder for Operations {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Answered, Failure>> {
        let answer = table::find(item.operation)?.handler?;
        Some(check_extensions(&item.message_extensions).and_then(|()| answer(self, ask, item)))
    }
}

/// The effects of changing an object that this server issues: the change gets a stamp and a date, and State transitions that are due are stored.
fn changed(
    node: &Node,
    ask: &Ask<'_>,
    before: (RecordNumber, Record),
    mut after: Record,
    material: Material,
) -> Result<Effects, Failure> {
    let reign = ask.snapshot.reign()?;
    node.store_reached_state(ask.snapshot, &mut after.attributes, ask.now)?;
    node.advance(&mut after, reign, ask.now.wall);
    Ok(Effects::change(Some(before), after, material))
}

/// The record that a request wants to change; fails when another server issues it, or when it is archived.
fn own(
    node: &Node,
    ask: &Ask<'_>,
    given: Option<&keyferry_kmip::UniqueIdentifier>,
) -> Result<(RecordNumber, Record), Failure> {
    let (number, record) = ask.record(given)?;
    node.check_issuer(ask.snapshot, &record)?;
    if record.attributes.get(tag::ARCHIVE_DATE).is_some() {
        return Err(Failure::new(
            Cause::ObjectArchived,
            "the object is archived",
        ));
    }
    Ok((number, record))
}

/// Fails when an object may not be kept in software, as this server keeps all objects.
fn check_storage(masks: Option<&ProtectionStorageMasks>) -> Result<(), Failure> {
    let fits = |masks: &ProtectionStorageMasks| {
        masks
            .protection_storage_masks
            .iter()
            .any(|mask| mask.contains(ProtectionStorageMask::SOFTWARE))
    };
    if masks.is_some_and(|masks| !masks.protection_storage_masks.is_empty() && !fits(masks)) {
        return Err(Failure::new(
            Cause::ProtectionStorage,
            "this server keeps objects in software",
        ));
    }
    Ok(())
}

/// Fails when another object has one of the Names, which blocks it for objects of the `owner`.
fn check_names(
    ask: &Ask<'_>,
    attributes: &Attributes,
    own: Option<&Record>,
    owner: Option<&str>,
    cause: Cause,
) -> Result<(), Failure> {
    if attributes.names().next().is_none() {
        return Ok(());
    }
    let home = ask.snapshot.home()?;
    let server = home.as_ref().map_or("", |home| &*home.server);
    for name in attributes.names() {
        let clashes = |other: &Record| {
            own.is_none_or(|own| own.id != other.id)
                && blocks_name(other, server, owner)
                && other.names().any(|theirs| theirs == name)
        };
        if ask
            .snapshot
            .first(&index::name(&name.value), &clashes)?
            .is_some()
        {
            return Err(Failure::new(
                cause,
                format_args!("another object has the Name {:?}", name.value),
            ));
        }
    }
    Ok(())
}
