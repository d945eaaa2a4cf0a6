//! This module says which clients may use the server, and what they may do with which objects.

use crate::operation::table;
use keyferry_kmip::spec::{AttributeValue, ObjectType, Operation};
use keyferry_kmip::{Credential, Failure, Identity, Text};
use keyferry_store::Record;
use std::collections::BTreeSet;

/// The clients that may use this server; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// No client at all. Peers are admitted by [`keyferry_s2s::Policy`] instead.
    #[default]
    Closed,
    /// The clients with these canonical names ([`Identity::name`]). What the policy knows as a peer is not among them, whatever it is called.
    Named(BTreeSet<String>),
    /// Every client whose certificate the server's certification authority has signed, but for the peers of the policy.
    Authenticated,
}

impl Access {
    /// Whether this client may use the server.
    pub fn allows(&self, identity: &Identity) -> bool {
        match self {
            Access::Closed => false,
            Access::Named(names) => names.contains(&identity.name),
            Access::Authenticated => true,
        }
    }
}

/// Finds out who sent a request with credentials (KMIP 2.1 §9.4, since 1.0): a name and a password, a device, a ticket.
///
/// # Contract
/// The result depends on the arguments and on what the implementor knows of its users. It is called for every request with credentials,
/// after the TLS identity was admitted, but not for those of peers, which are refused. Neither the result nor a log shows a password. Only
/// the name of the result counts. It must not be one that the policy gives to a peer, and must not begin like the name of a peer or of a
/// certificate of another kind ([`Identity::is_reserved`]), except that it may be the TLS identity's own; else the request is refused.
pub trait Authenticator: Send + Sync {
    /// Returns the identity that owns what the request creates, and whose rights apply.
    ///
    /// # Errors
    /// [`Cause::Authentication`](keyferry_kmip::Cause::Authentication).
    fn authenticate(&self, tls: &Identity, credentials: &[Credential])
    -> Result<Identity, Failure>;
}

/// The rights of clients to objects. By default only the owner may use an object, which is the client that created, registered or imported
/// it, and every client may read certificates and public keys: this is the default operation policy of KMIP 1.x (1.4 §3.18.2), applied in
/// all versions. A copy of another server's object has no owner here. All other rights are granted.
///
/// These are the built-in rules. An application that needs others implements [`keyferry_s2s::Rights`]. They are the rights of clients: a peer
/// has by them what belongs or is granted to its own name ([`Identity::peer`]), and nothing that is granted to clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    grants: Vec<Grant>,
}

/// A grant of rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The name of the client that gets the rights; every client, but no peer, without one. A peer gets rights by its own
    /// name, `peer:` and its server id: it needs them for the key by which what it sends is unwrapped.
    pub client: Option<Text>,
    /// The objects to which the rights apply.
    pub objects: Granted,
    /// The rights.
    pub level: Level,
}

/// The objects of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Granted {
    /// All objects.
    All,
    /// All copies of other servers' objects, whichever server they come from: they have no owner here, so each copy counts that does not
    /// belong to a client. Without a [client](Grant::client) in the grant, everyone whom [`Access`] admits may read every key that was ever
    /// copied here, the keys of other clients' owners elsewhere among them. Give it to clients that you name, or where all clients may know
    /// all copies.
    Copies,
    /// Objects of this Object Group.
    ObjectGroup(Text),
    /// Objects of this owner.
    OwnedBy(Text),
}

/// The extent of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// To find and read objects: Locate, Check, Get, Get Attributes, Get Attribute List, Obtain Lease, Export.
    Read,
    /// Everything that the owner may.
    Manage,
}

impl Rights {
    /// The default rights: those of owners.
    pub fn owners() -> Rights {
        Rights::default()
    }

    /// The rights by which every client may do everything with every object.
    pub fn shared() -> Rights {
        Rights::owners().with(Grant {
            client: None,
            objects: Granted::All,
            level: Level::Manage,
        })
    }

    /// Adds a grant.
    #[must_use]
    pub fn with(mut self, grant: Grant) -> Rights {
        self.grants.push(grant);
        self
    }
}

impl keyferry_s2s::Rights for Rights {
    fn check(
        &self,
        caller: &Identity,
        operation: Operation,
        record: &Record,
    ) -> Result<(), Failure> {
        let reads = table::find(operation).is_some_and(|row| row.is_for_readers);
        let public = matches!(
            record.object_type,
            ObjectType::CERTIFICATE | ObjectType::PUBLIC_KEY
        );
        if record.owner.as_deref() == Some(caller.name.as_str()) || reads && public {
            return Ok(());
        }
        // Every client is no peer; a peer has what is granted to its own name.
        let is_meant = |client: Option<&Text>| match client {
            Some(client) => *client == *caller.name,
            None => !caller.is_peer(),
        };
        let granted = |grant: &Grant| {
            is_meant(grant.client.as_ref())
                && (reads || grant.level >= Level::Manage)
                && match &grant.objects {
                    Granted::All => true,
                    Granted::Copies => record.owner.is_none(),
                    Granted::ObjectGroup(group) => record.attributes.iter().any(
                        |a| matches!(&a.value, AttributeValue::ObjectGroup(own) if own == group),
                    ),
                    Granted::OwnedBy(owner) => record.owner.as_ref() == Some(owner),
                }
        };
        if self.grants.iter().any(granted) {
            return Ok(());
        }
        let owner = record.owner.as_deref().unwrap_or("nobody here");
        Err(Failure::denied(format_args!(
            "the object {:?} belongs to {owner}, and nothing is granted",
            record.identifier
        )))
    }
}
