//! The operations beside those of the s2s responder, one file for each kind.

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
mod template;
mod usage;

use keyferry_kmip::spec::{Operation, ProtectionStorageMask, tag};
use keyferry_kmip::{
    Attributes, Cause, Failure, Interval, KeyPair, ProtectionStorageMasks, RequestItem,
    RequestMessage, context,
};
use keyferry_s2s::{Ask, Node, Outcome, Responder, check_extensions, store_failed};
use keyferry_store::{
    Effects, Material, Record, RecordNumber, SnapshotExt, Store, StoreExt, index,
};
use keyferry_ttlv::Version;
use std::sync::{Arc, Mutex, PoisonError};

/// The operations of clients.
#[derive(Debug)]
pub(crate) struct Operations {
    pub(crate) node: Arc<Node>,
    pub(crate) settings: Settings,
    /// RSA key pairs that were made before the transaction that gives them out: each takes long.
    ready: Mutex<Vec<(i32, KeyPair)>>,
}

/// What an application may choose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// How long a client may use an object without asking again.
    pub(crate) lease_time: Interval,
    /// Whether Interop is answered.
    pub(crate) interop: bool,
}

/// Every operation that the server answers, those of the s2s responder included.
pub(crate) const OPERATIONS: &[Operation] = &[
    Operation::CREATE,
    Operation::CREATE_KEY_PAIR,
    Operation::REGISTER,
    Operation::RE_KEY,
    Operation::RE_KEY_KEY_PAIR,
    Operation::LOCATE,
    Operation::CHECK,
    Operation::GET,
    Operation::GET_ATTRIBUTES,
    Operation::GET_ATTRIBUTE_LIST,
    Operation::ADD_ATTRIBUTE,
    Operation::MODIFY_ATTRIBUTE,
    Operation::DELETE_ATTRIBUTE,
    Operation::SET_ATTRIBUTE,
    Operation::ADJUST_ATTRIBUTE,
    Operation::OBTAIN_LEASE,
    Operation::GET_USAGE_ALLOCATION,
    Operation::ACTIVATE,
    Operation::REVOKE,
    Operation::DESTROY,
    Operation::ARCHIVE,
    Operation::RECOVER,
    Operation::QUERY,
    Operation::DISCOVER_VERSIONS,
    Operation::IMPORT,
    Operation::EXPORT,
    Operation::PUT,
    Operation::NOTIFY,
    Operation::PING,
    Operation::LOG,
    Operation::SET_ENDPOINT_ROLE,
];

/// Whether a peer that is no client may ask for an operation; what it may do by it, the policy says.
pub(crate) fn is_for_peers(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::IMPORT
            | Operation::PUT
            | Operation::NOTIFY
            | Operation::QUERY
            | Operation::DISCOVER_VERSIONS
            | Operation::PING
            | keyferry_s2s::FOLLOW
            | keyferry_s2s::GIVE_BACK
            | keyferry_s2s::POKE
    )
}

/// Whether an operation mostly has no effects.
pub(crate) fn is_read(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::LOCATE
            | Operation::GET
            | Operation::GET_ATTRIBUTES
            | Operation::GET_ATTRIBUTE_LIST
            | Operation::QUERY
            | Operation::DISCOVER_VERSIONS
            | Operation::EXPORT
            | Operation::CHECK
            | Operation::OBTAIN_LEASE
            | Operation::PING
            | Operation::LOG
            | Operation::INTEROP
            | Operation::SET_ENDPOINT_ROLE
            | keyferry_s2s::FOLLOW
            | keyferry_s2s::POKE
    )
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

/// RSA key pairs that one message may ask for.
const PAIRS: usize = 16;

impl Operations {
    /// Makes the RSA key pairs that a message asks for, before it holds up others by a transaction.
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
        let wanted: Vec<i32> = store
            .view::<_, keyferry_store::Error>(|snapshot| {
                let items = message.batch.iter().filter(pairs);
                Ok(items
                    .filter_map(|item| key_pair::rsa_wanted(snapshot, item, context(version)))
                    .collect())
            })
            .map_err(store_failed)?;
        if wanted.len() > PAIRS {
            return Err(Failure::new(
                Cause::ServerLimit,
                format_args!("one message makes {PAIRS} RSA key pairs at the most"),
            ));
        }
        for bits in wanted {
            let pair = key_pair::rsa(&self.node, bits)?;
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            // What earlier failures have left over is not hoarded.
            if ready.len() < 4 * PAIRS {
                ready.push((bits, pair));
            }
        }
        Ok(())
    }

    /// A key pair that was made before, which nobody has got yet.
    fn ready(&self, bits: i32) -> Option<KeyPair> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let place = ready.iter().position(|(length, _)| *length == bits)?;
        Some(ready.swap_remove(place).1)
    }
}

impl Responder for Operations {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Outcome, Failure>> {
        let answer: fn(&Operations, &mut Ask<'_>, &RequestItem) -> Result<Outcome, Failure> =
            match item.operation {
                Operation::CREATE => create::create,
                Operation::CREATE_KEY_PAIR => key_pair::create_key_pair,
                Operation::REGISTER => create::register,
                Operation::RE_KEY => rekey::re_key,
                Operation::RE_KEY_KEY_PAIR => rekey::re_key_key_pair,
                Operation::LOCATE => |ops, ask, item| locate::locate(&ops.node, ask, item),
                Operation::CHECK => usage::check,
                Operation::GET => |ops, ask, item| get::get(&ops.node, ask, item),
                Operation::GET_ATTRIBUTES => {
                    |ops, ask, item| get::get_attributes(&ops.node, ask, item)
                }
                Operation::GET_ATTRIBUTE_LIST => {
                    |ops, ask, item| get::get_attribute_list(&ops.node, ask, item)
                }
                Operation::ADD_ATTRIBUTE => |ops, ask, item| attribute::add(&ops.node, ask, item),
                Operation::MODIFY_ATTRIBUTE => {
                    |ops, ask, item| attribute::modify(&ops.node, ask, item)
                }
                Operation::DELETE_ATTRIBUTE => {
                    |ops, ask, item| attribute::delete(&ops.node, ask, item)
                }
                Operation::SET_ATTRIBUTE => |ops, ask, item| adjust::set(&ops.node, ask, item),
                Operation::ADJUST_ATTRIBUTE => {
                    |ops, ask, item| adjust::adjust(&ops.node, ask, item)
                }
                Operation::OBTAIN_LEASE => usage::obtain_lease,
                Operation::GET_USAGE_ALLOCATION => usage::allocate,
                Operation::ACTIVATE => |ops, ask, item| lifecycle::activate(&ops.node, ask, item),
                Operation::REVOKE => |ops, ask, item| lifecycle::revoke(&ops.node, ask, item),
                Operation::DESTROY => |ops, ask, item| lifecycle::destroy(&ops.node, ask, item),
                Operation::ARCHIVE => |ops, ask, item| lifecycle::archive(&ops.node, ask, item),
                Operation::RECOVER => |ops, ask, item| lifecycle::recover(&ops.node, ask, item),
                Operation::QUERY => |ops, ask, item| discover::query(ops, ask, item),
                Operation::DISCOVER_VERSIONS => {
                    |_, ask, item| discover::discover_versions(ask, item)
                }
                Operation::PING => |_, ask, item| service::ping(ask, item),
                Operation::LOG => |_, ask, item| service::log(ask, item),
                Operation::INTEROP => |ops, ask, item| service::interop(ops, ask, item),
                Operation::SET_ENDPOINT_ROLE => {
                    |_, ask, item| service::set_endpoint_role(ask, item)
                }
                _ => return None,
            };
        Some(check_extensions(&item.message_extensions).and_then(|()| answer(self, ask, item)))
    }
}

/// The change of an object that this server issues: stamped, dated, with date-driven transitions stored.
fn changed(
    node: &Node,
    ask: &Ask<'_>,
    before: (RecordNumber, Record),
    mut after: Record,
    material: Material,
) -> Result<Effects, Failure> {
    let reign = ask.snapshot.reign().map_err(store_failed)?;
    keyferry_kmip::lifecycle::store_state_at(&mut after.attributes, ask.now.wall);
    node.advance(&mut after, reign, ask.now.wall);
    Ok(Effects::change(Some(before), after, material))
}

/// The record that a request wants to change: one that this server issues.
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

/// Fails when an object may not be kept in software, which is where this server keeps all.
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

/// Fails when another object has one of the Names.
fn check_names(
    ask: &Ask<'_>,
    attributes: &Attributes,
    own: Option<&Record>,
    cause: Cause,
) -> Result<(), Failure> {
    for name in attributes.names() {
        let clashes = |other: &Record| {
            own.is_none_or(|own| own.id != other.id) && other.names().any(|theirs| theirs == name)
        };
        if ask
            .snapshot
            .first(&index::name(&name.value), &clashes)
            .map_err(store_failed)?
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
