use keyferry_kmip::spec::{AttributeValue, ObjectType, Operation};
use keyferry_kmip::{Credential, Failure, Identity, Text};
use keyferry_store::Record;
use std::collections::BTreeSet;

/// Which clients may use this server. Closed by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// No client at all; peers are another matter, see [`keyferry_s2s::Policy`].
    #[default]
    Closed,
    /// Those with these names in their TLS certificates.
    Named(BTreeSet<String>),
    /// Every client whose certificate the server's certification authority has signed.
    Authenticated,
}

impl Access {
    /// Whether this one may.
    pub fn allows(&self, identity: &Identity) -> bool {
        match self {
            Access::Closed => false,
            Access::Named(names) => names.contains(&identity.name),
            Access::Authenticated => true,
        }
    }
}

/// Says who a request with credentials comes from (KMIP 2.1 §9.4, since 1.0): a name and a password, a device, a ticket.
///
/// # Contract
/// The answer depends on the arguments and on what the implementor knows of its users. It is asked for every request that has credentials,
/// behind the TLS identity, which has been allowed. Neither answer nor log shows a password.
pub trait Authenticator: Send + Sync {
    /// Who it is: the owner of what the request creates, and who the rights are looked up for.
    ///
    /// # Errors
    /// [`Cause::Authentication`](keyferry_kmip::Cause::Authentication).
    fn authenticate(&self, tls: &Identity, credentials: &[Credential])
    -> Result<Identity, Failure>;
}

/// What clients may do with which objects. By default an object is its owner's, who created, registered or imported it; certificates and
/// public keys may be read by every client: the default operation policy of KMIP 1.x (1.4 §3.18.2), held to in all versions. A copy of
/// another server's object has no owner here. What else clients may do is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    grants: Vec<Grant>,
}

/// What is granted to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// To which client, by its name; to all without.
    pub client: Option<Text>,
    /// For which objects.
    pub objects: Granted,
    /// What.
    pub level: Level,
}

/// Objects that something is granted for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Granted {
    /// All.
    All,
    /// Copies of other servers' objects, which have no owner here.
    Copies,
    /// Those of this Object Group.
    ObjectGroup(Text),
    /// Those of this owner.
    OwnedBy(Text),
}

/// How much is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// To find and to read: Locate, Check, Get, Get Attributes, Get Attribute List, Obtain Lease, Export.
    Read,
    /// Everything that the owner may.
    Manage,
}

impl Rights {
    /// Owners' rights alone.
    pub fn owners() -> Rights {
        Rights::default()
    }

    /// Every client may do everything with every object.
    pub fn shared() -> Rights {
        Rights::owners().with(Grant {
            client: None,
            objects: Granted::All,
            level: Level::Manage,
        })
    }

    /// Grants more.
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
        let reads = matches!(
            operation,
            Operation::LOCATE
                | Operation::CHECK
                | Operation::GET
                | Operation::GET_ATTRIBUTES
                | Operation::GET_ATTRIBUTE_LIST
                | Operation::OBTAIN_LEASE
                | Operation::EXPORT
        );
        let public = matches!(
            record.object_type,
            ObjectType::CERTIFICATE | ObjectType::PUBLIC_KEY
        );
        if record.owner.as_deref() == Some(caller.name.as_str()) || reads && public {
            return Ok(());
        }
        let granted = |grant: &Grant| {
            grant
                .client
                .as_ref()
                .is_none_or(|client| *client == *caller.name)
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
