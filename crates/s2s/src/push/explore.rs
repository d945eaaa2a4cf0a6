//! The exploration of a peer: which ways of transfer it knows, in which version, and what is lost on each.

use crate::error::{Error, ErrorKind, Result};
use crate::session::{Session, SessionContext, Step};
use keyferry_kmip::spec::{
    AttributeRow, Operation, QueryFunction, SetBy, attribute_row, attribute_rows, tag,
};
use keyferry_kmip::{
    DiscoverVersionsRequest, DiscoverVersionsResponse, Lost, Payload, QueryRequest, QueryResponse,
    RequestItem, RequestMessage, ResponseMessage, Ticket, context, extension as x,
};
use keyferry_ttlv::{Extra, Tag, Version};
use std::fmt;
use std::str::FromStr;

/// A way in which objects go to a peer or come from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferMethod {
    /// Push by Import: [`Bulk`](crate::Bulk).
    Import,
    /// Push by Put: [`Bulk`](crate::Bulk).
    Put,
    /// Push by Register and what follows it: [`Register`](crate::Register).
    Register,
    /// Pull by following a keyferry server's feed: [`Follow`](crate::Follow).
    Feed,
    /// Pull by Export: [`Pull`](crate::Pull).
    Export,
    /// Pull by Get and Get Attributes: [`Pull`](crate::Pull).
    Get,
}

/// The ways to push, the best one first.
const PUSHING: [TransferMethod; 3] = [
    TransferMethod::Import,
    TransferMethod::Put,
    TransferMethod::Register,
];

/// The ways to pull, the best one first.
const PULLING: [TransferMethod; 3] = [
    TransferMethod::Feed,
    TransferMethod::Export,
    TransferMethod::Get,
];

impl TransferMethod {
    fn name(self) -> &'static str {
        match self {
            TransferMethod::Import => "import",
            TransferMethod::Put => "put",
            TransferMethod::Register => "register",
            TransferMethod::Feed => "feed",
            TransferMethod::Export => "export",
            TransferMethod::Get => "get",
        }
    }

    /// The operations that a peer must offer for it.
    fn needed_operations(self) -> &'static [Operation] {
        match self {
            TransferMethod::Import => &[Operation::IMPORT],
            TransferMethod::Put => &[Operation::PUT],
            TransferMethod::Register => &[
                Operation::REGISTER,
                Operation::LOCATE,
                Operation::GET_ATTRIBUTES,
            ],
            // Following is no operation of the standard.
            TransferMethod::Feed => &[],
            TransferMethod::Export => &[Operation::LOCATE, Operation::EXPORT],
            TransferMethod::Get => &[Operation::LOCATE, Operation::GET, Operation::GET_ATTRIBUTES],
        }
    }

    /// The first version that has it.
    fn since(self) -> Version {
        match self {
            TransferMethod::Feed => Version::V2_1,
            TransferMethod::Import | TransferMethod::Export => Version::V1_4,
            TransferMethod::Put | TransferMethod::Register | TransferMethod::Get => Version::V1_0,
        }
    }
}

impl fmt::Display for TransferMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TransferMethod {
    type Err = Error;

    fn from_str(name: &str) -> Result<TransferMethod> {
        let known = PUSHING
            .into_iter()
            .chain(PULLING)
            .find(|method| method.name() == name);
        known.ok_or_else(|| {
            Error::new(
                ErrorKind::Peer,
                format_args!("there is no strategy {name:?}"),
            )
        })
    }
}

/// What a peer says that it can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAbilities {
    /// The versions that it speaks and that are known here, newest first.
    pub versions: Vec<Version>,
    /// The operations that it offers in the newest of these versions.
    pub operations: Vec<Operation>,
    /// Whether it is a keyferry server, which understands what KMIP has no place for.
    pub keyferry: bool,
}

impl PeerAbilities {
    /// Returns the newest version in which objects can go this way, if they can. Whether a keyferry server lets itself be followed, only trying
    /// shows.
    pub fn version_for(&self, method: TransferMethod) -> Option<Version> {
        let newest = self
            .versions
            .first()
            .copied()
            .filter(|_| self.keyferry || method != TransferMethod::Feed)?;
        (newest >= method.since()
            && method
                .needed_operations()
                .iter()
                .all(|needed| self.operations.contains(needed)))
        .then_some(newest)
    }

    /// Returns the best way to push to it, with the version.
    pub fn push(&self) -> Option<(TransferMethod, Version)> {
        self.best(&PUSHING)
    }

    /// Returns the best way to pull from it, with the version.
    pub fn pull(&self) -> Option<(TransferMethod, Version)> {
        self.best(&PULLING)
    }

    fn best(&self, methods: &[TransferMethod]) -> Option<(TransferMethod, Version)> {
        // A foreign peer takes a Put only from a server that it knows as its own: nobody can see that from outside.
        let is_visible = |method: &&TransferMethod| {
            self.keyferry || !matches!(method, TransferMethod::Put | TransferMethod::Feed)
        };
        methods
            .iter()
            .filter(is_visible)
            .find_map(|method| Some((*method, self.version_for(*method)?)))
    }

    /// Returns the names of the attributes that are lost on this way in a version, whatever the peer does with the others. If a version lacks only
    /// fields of an attribute, the report says so of each object. Between keyferry servers
    /// nothing is lost but by *get*, which shows what any client sees.
    pub fn not_kept(&self, method: TransferMethod, version: Version) -> Vec<&'static str> {
        if self.keyferry
            && matches!(
                method,
                TransferMethod::Import
                    | TransferMethod::Put
                    | TransferMethod::Feed
                    | TransferMethod::Export
            )
        {
            return Vec::new();
        }
        let is_lost = |row: &&AttributeRow| {
            !row.versions.contain(version)
                || method == TransferMethod::Register && is_lost_by_register(row.tag)
        };
        attribute_rows()
            .iter()
            .filter(is_lost)
            .map(|row| row.name)
            .collect()
    }
}

/// Whether only servers set an attribute, and a Register does not bring it about.
pub(super) fn is_lost_by_register(tag: Tag) -> bool {
    is_set_by_servers(tag) && !KEPT_BY_REGISTER.contains(&tag)
}

/// Whether only servers set an attribute.
pub(super) fn is_set_by_servers(tag: Tag) -> bool {
    attribute_row(tag).is_some_and(|row| row.set_by == SetBy::Server)
}

/// The attributes that only servers set and that a Register brings about all the same: by what it registers, or by the Activate, Revoke and Destroy
/// behind it.
const KEPT_BY_REGISTER: &[Tag] = &[
    tag::OBJECT_TYPE,
    tag::STATE,
    tag::CRYPTOGRAPHIC_ALGORITHM,
    tag::CRYPTOGRAPHIC_LENGTH,
    tag::CERTIFICATE_TYPE,
    tag::CERTIFICATE_LENGTH,
    tag::CERTIFICATE_IDENTIFIER,
    tag::CERTIFICATE_SUBJECT,
    tag::CERTIFICATE_ISSUER,
    tag::X509_CERTIFICATE_IDENTIFIER,
    tag::X509_CERTIFICATE_SUBJECT,
    tag::X509_CERTIFICATE_ISSUER,
    tag::DIGITAL_SIGNATURE_ALGORITHM,
    tag::DIGEST,
    tag::KEY_VALUE_PRESENT,
    tag::KEY_FORMAT_TYPE,
    tag::OPAQUE_DATA_TYPE,
    tag::REVOCATION_REASON,
    tag::COMPROMISE_OCCURRENCE_DATE,
];

/// A session that asks a peer what it can do, by Discover Versions and then Query. Nothing is written on either side.
pub struct Explore<F> {
    on_found: F,
    /// The index of the version that is asked in, of those that are tried one after another.
    attempt: usize,
    /// The versions that the peer speaks, once they are known.
    versions: Option<Vec<Version>>,
    under_way: Option<Ticket>,
    done: bool,
}

impl<F> fmt::Debug for Explore<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explore")
            .field("versions", &self.versions)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

/// The versions in which Discover Versions is asked, in this order. 1.0 does not have it.
const ATTEMPTS: [Version; 3] = [Version::V1_2, Version::V2_1, Version::V1_0];

impl<F: FnMut(PeerAbilities) + Send> Explore<F> {
    /// Makes a session that ends by calling `on_found`.
    pub fn new(on_found: F) -> Self {
        Explore {
            on_found,
            attempt: 0,
            versions: None,
            under_way: None,
            done: false,
        }
    }

    /// The version in which the next question is asked.
    fn version(&self) -> Result<Version> {
        let tried = ATTEMPTS.get(self.attempt).copied();
        let found = self
            .versions
            .as_ref()
            .and_then(|versions| versions.first().copied());
        found.or(tried).ok_or_else(no_common_version)
    }

    /// Whether the next question, or the one under way, is Discover Versions.
    fn asks_versions(&self, version: Version) -> bool {
        self.versions.is_none() && version > Version::V1_0
    }

    /// Tries the next version after a refusal. A refusal of Query is final.
    fn on_refused(&mut self, version: Version) -> Result<()> {
        if self.asks_versions(version) {
            self.attempt += 1;
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Peer,
            format_args!("the peer does not answer Query in {version}"),
        ))
    }

    fn on_versions(&mut self, response: &DiscoverVersionsResponse) -> Result<()> {
        let mut versions: Vec<Version> = response
            .protocol_versions
            .iter()
            .filter_map(|version| version.version())
            .collect();
        versions.sort_by(|a, b| b.cmp(a));
        versions.dedup();
        if versions.is_empty() {
            return Err(no_common_version());
        }
        self.versions = Some(versions);
        Ok(())
    }

    fn on_query(&mut self, version: Version, query: QueryResponse) {
        let keyferry = query
            .vendor_identification
            .as_ref()
            .is_some_and(|vendor| *vendor == x::VENDOR);
        let versions = self.versions.take().unwrap_or_else(|| vec![version]);
        (self.on_found)(PeerAbilities {
            versions,
            operations: query.operations,
            keyferry,
        });
        self.done = true;
    }
}

fn no_common_version() -> Error {
    Error::new(
        ErrorKind::Peer,
        "the peer speaks no version that is spoken here",
    )
}

fn message<P: Payload>(version: Version, payload: &P) -> Result<Step> {
    let item = RequestItem::new(payload, context(version)).map_err(Error::encode)?;
    Ok(Step::Send(Box::new(RequestMessage::new(
        version,
        vec![item],
    ))))
}

impl<F: FnMut(PeerAbilities) + Send> Session for Explore<F> {
    fn poll(&mut self, _: &mut SessionContext<'_>, ticket: Ticket) -> Result<Step> {
        if self.done {
            return Ok(Step::Done(Box::default()));
        }
        if self.under_way.is_some() {
            return Ok(Step::Wait(None));
        }
        let version = self.version()?;
        self.under_way = Some(ticket);
        if self.asks_versions(version) {
            return message(version, &DiscoverVersionsRequest::default());
        }
        let query_functions = vec![
            QueryFunction::QUERY_OPERATIONS,
            QueryFunction::QUERY_SERVER_INFORMATION,
        ];
        message(
            version,
            &QueryRequest {
                query_functions,
                object_groups: None,
                extra: Extra::NONE,
            },
        )
    }

    fn answer(
        &mut self,
        _: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        if self.under_way.take() != Some(ticket) {
            return Err(Error::new(
                ErrorKind::Protocol,
                "an answer came to nothing that was asked",
            ));
        }
        let Ok(response) = response else {
            return Ok(());
        };
        let version = self.version()?;
        let Some(item) = response.batch.first().filter(|item| item.is_success()) else {
            return self.on_refused(version);
        };
        if self.asks_versions(version) {
            let response: DiscoverVersionsResponse =
                item.payload(context(version)).map_err(Error::protocol)?;
            return self.on_versions(&response);
        }
        let query: QueryResponse = item.payload(context(version)).map_err(Error::protocol)?;
        self.on_query(version, query);
        Ok(())
    }
}
