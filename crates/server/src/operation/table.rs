//! This module is the table of operations: for each, who may ask for it, what it needs, and who answers it.

use super::{
    Operations, adjust, attribute, create, discover, get, key_pair, lifecycle, locate, rekey,
    service, usage,
};
use keyferry_kmip::spec::Operation;
use keyferry_kmip::{Failure, RequestItem};
use keyferry_s2s::{Answered, Ask};

/// Answers one batch item.
pub(crate) type Handler = fn(&Operations, &mut Ask<'_>, &RequestItem) -> Result<Answered, Failure>;

/// All that this server knows of an operation beside its handler's code.
pub(crate) struct Row {
    pub(crate) operation: Operation,
    /// Answers it; `None` when the s2s responder or an application does.
    pub(crate) handler: Option<Handler>,
    /// Whether a peer that is no client may ask for it. What the peer may do by it, the policy says.
    pub(crate) is_for_peers: bool,
    /// Whether it has no effects, except rarely.
    pub(crate) is_read: bool,
    /// Whether the right to read the object is enough, where others need the right to manage it.
    pub(crate) is_for_readers: bool,
    /// Whether it changes the object that it names and no other, so that a replica may send it on to the master.
    pub(crate) is_forwardable: bool,
    /// Whether Query names it.
    pub(crate) listed: Listed,
}

/// Whether Query names an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listed {
    Always,
    /// When Interop is switched on.
    WithInterop,
    Never,
}

impl Row {
    /// An operation of clients that changes something and needs the right to manage the object.
    const fn of(operation: Operation, handler: Handler) -> Row {
        Row {
            handler: Some(handler),
            ..Row::elsewhere(operation)
        }
    }

    /// The same, answered by the s2s responder or by an application.
    const fn elsewhere(operation: Operation) -> Row {
        Row {
            operation,
            handler: None,
            is_for_peers: false,
            is_read: false,
            is_for_readers: false,
            is_forwardable: false,
            listed: Listed::Always,
        }
    }

    const fn for_peers(mut self) -> Row {
        self.is_for_peers = true;
        self
    }

    const fn reads(mut self) -> Row {
        self.is_read = true;
        self
    }

    const fn for_readers(mut self) -> Row {
        self.is_for_readers = true;
        self
    }

    const fn forwardable(mut self) -> Row {
        self.is_forwardable = true;
        self
    }

    const fn listed(mut self, listed: Listed) -> Row {
        self.listed = listed;
        self
    }
}

/// All operations, in the order in which Query names them.
pub(crate) static TABLE: [Row; 35] = [
    Row::of(Operation::CREATE, create::create),
    Row::of(Operation::CREATE_KEY_PAIR, key_pair::create_key_pair),
    Row::of(Operation::REGISTER, create::register),
    Row::of(Operation::RE_KEY, rekey::re_key),
    Row::of(Operation::RE_KEY_KEY_PAIR, rekey::re_key_key_pair),
    Row::of(Operation::LOCATE, |ops, ask, item| {
        locate::locate(&ops.node, ask, item)
    })
    .reads()
    .for_readers(),
    Row::of(Operation::CHECK, usage::check)
        .reads()
        .for_readers(),
    Row::of(Operation::GET, |ops, ask, item| {
        get::get(&ops.node, ask, item)
    })
    .reads()
    .for_readers(),
    Row::of(Operation::GET_ATTRIBUTES, |ops, ask, item| {
        get::get_attributes(&ops.node, ask, item)
    })
    .reads()
    .for_readers(),
    Row::of(Operation::GET_ATTRIBUTE_LIST, |ops, ask, item| {
        get::get_attribute_list(&ops.node, ask, item)
    })
    .reads()
    .for_readers(),
    Row::of(Operation::ADD_ATTRIBUTE, |ops, ask, item| {
        attribute::add(&ops.node, ask, item)
    })
    .forwardable(),
    Row::of(Operation::MODIFY_ATTRIBUTE, |ops, ask, item| {
        attribute::modify(&ops.node, ask, item)
    })
    .forwardable(),
    Row::of(Operation::DELETE_ATTRIBUTE, |ops, ask, item| {
        attribute::delete(&ops.node, ask, item)
    })
    .forwardable(),
    Row::of(Operation::SET_ATTRIBUTE, |ops, ask, item| {
        adjust::set(&ops.node, ask, item)
    })
    .forwardable(),
    Row::of(Operation::ADJUST_ATTRIBUTE, |ops, ask, item| {
        adjust::adjust(&ops.node, ask, item)
    })
    .forwardable(),
    Row::of(Operation::OBTAIN_LEASE, usage::obtain_lease)
        .reads()
        .for_readers(),
    Row::of(Operation::GET_USAGE_ALLOCATION, usage::allocate).forwardable(),
    Row::of(Operation::ACTIVATE, |ops, ask, item| {
        lifecycle::activate(&ops.node, ask, item)
    })
    .forwardable(),
    Row::of(Operation::REVOKE, |ops, ask, item| {
        lifecycle::revoke(&ops.node, ask, item)
    })
    .forwardable(),
    Row::of(Operation::DESTROY, |ops, ask, item| {
        lifecycle::destroy(&ops.node, ask, item)
    })
    .forwardable(),
    Row::of(Operation::ARCHIVE, |ops, ask, item| {
        lifecycle::archive(&ops.node, ask, item)
    }),
    Row::of(Operation::RECOVER, |ops, ask, item| {
        lifecycle::recover(&ops.node, ask, item)
    }),
    Row::of(Operation::QUERY, |ops, ask, item| {
        discover::query(ops, ask, item)
    })
    .reads()
    .for_peers(),
    Row::of(Operation::DISCOVER_VERSIONS, |_, ask, item| {
        discover::discover_versions(ask, item)
    })
    .reads()
    .for_peers(),
    Row::elsewhere(Operation::IMPORT).for_peers(),
    Row::elsewhere(Operation::EXPORT).reads().for_readers(),
    Row::elsewhere(Operation::PUT).for_peers(),
    Row::elsewhere(Operation::NOTIFY).for_peers(),
    Row::of(Operation::PING, |_, ask, item| service::ping(ask, item))
        .reads()
        .for_peers(),
    Row::of(Operation::LOG, |_, ask, item| service::log(ask, item)).reads(),
    Row::of(Operation::SET_ENDPOINT_ROLE, |_, ask, item| {
        service::set_endpoint_role(ask, item)
    })
    .reads(),
    Row::of(Operation::INTEROP, |ops, ask, item| {
        service::interop(ops, ask, item)
    })
    .reads()
    .listed(Listed::WithInterop),
    Row::elsewhere(keyferry_s2s::FOLLOW)
        .reads()
        .for_peers()
        .listed(Listed::Never),
    Row::elsewhere(keyferry_s2s::GIVE_BACK)
        .for_peers()
        .listed(Listed::Never),
    Row::elsewhere(keyferry_s2s::POKE)
        .reads()
        .for_peers()
        .listed(Listed::Never),
];

/// The row of an operation; `None` when neither this server nor the s2s responder knows it.
pub(crate) fn find(operation: Operation) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.operation == operation)
}

#[cfg(test)]
mod tests {
    use super::TABLE;

    #[test]
    fn every_operation_has_one_row() {
        for (place, row) in TABLE.iter().enumerate() {
            assert!(
                TABLE[..place]
                    .iter()
                    .all(|earlier| earlier.operation != row.operation),
                "{}",
                row.operation
            );
        }
    }

    #[test]
    fn what_is_sent_on_to_the_master_changes_an_object_and_needs_the_right_to() {
        for row in TABLE.iter().filter(|row| row.is_forwardable) {
            let changes = !row.is_read && !row.is_for_readers && !row.is_for_peers;
            assert!(changes, "{}", row.operation);
        }
    }
}
