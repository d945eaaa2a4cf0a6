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

/// The ways in which objects go to a peer or come from it.
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

/// Pushing, the best way first.
const PUSHING: [TransferMethod; 3] = [
    TransferMethod::Import,
    TransferMethod::Put,
    TransferMethod::Register,
];

/// Pulling, the best way first.
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

    /// What a peer must offer for it.
    fn needs(self) -> &'static [Operation] {
        match self {
            TransferMethod::Import => &[Operation::IMPORT],
            TransferMethod::Put => &[Operation::PUT],
            TransferMethod::Register => &[
                Operation::REGISTER,
                Operation::LOCATE,
                Operation::GET_ATTRIBUTES,
            ],
            // What it takes is no operation of the standard.
            TransferMethod::Feed => &[],
            TransferMethod::Export => &[Operation::LOCATE, Operation::EXPORT],
            TransferMethod::Get => &[Operation::LOCATE, Operation::GET, Operation::GET_ATTRIBUTES],
        }
    }

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
            .find(|way| way.name() == name);
        known.ok_or_else(|| {
            Error::new(
                ErrorKind::Peer,
                format_args!("there is no strategy {name:?}"),
            )
        })
    }
}

/// What a peer can do, by its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAbilities {
    /// The versions that it speaks, of those that we do, newest first.
    pub versions: Vec<Version>,
    /// The operations that it offers in the newest of them.
    pub operations: Vec<Operation>,
    /// Whether it is a keyferry server, which takes what KMIP has no place for.
    pub keyferry: bool,
}

impl PeerAbilities {
    /// The newest version in which it can go this way. Whether it lets itself be followed, only trying tells.
    pub fn version_for(&self, way: TransferMethod) -> Option<Version> {
        let newest = self
            .versions
            .first()
            .copied()
            .filter(|_| self.keyferry || way != TransferMethod::Feed)?;
        (newest >= way.since()
            && way
                .needs()
                .iter()
                .all(|needed| self.operations.contains(needed)))
        .then_some(newest)
    }

    /// The best way to push to it.
    pub fn push(&self) -> Option<(TransferMethod, Version)> {
        self.best(&PUSHING)
    }

    /// The best way to pull from it.
    pub fn pull(&self) -> Option<(TransferMethod, Version)> {
        self.best(&PULLING)
    }

    fn best(&self, ways: &[TransferMethod]) -> Option<(TransferMethod, Version)> {
        // To one that is no keyferry server, a Put goes only where it knows us as its server: nobody can see that from outside.
        let open = |way: &&TransferMethod| {
            self.keyferry || !matches!(way, TransferMethod::Put | TransferMethod::Feed)
        };
        ways.iter()
            .filter(open)
            .find_map(|way| Some((*way, self.version_for(*way)?)))
    }

    /// The attributes, by name, that can't be kept as a whole this way in a version, whatever the peer does with the others. Fields that a
    /// version lacks of an attribute that it has are told of each object. Between keyferry servers
    /// nothing is lost but by *get*, which shows what any client sees.
    pub fn not_kept(&self, way: TransferMethod, version: Version) -> Vec<&'static str> {
        if self.keyferry
            && matches!(
                way,
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
                || way == TransferMethod::Register && is_lost_by_register(row.tag)
        };
        attribute_rows()
            .iter()
            .filter(is_lost)
            .map(|row| row.name)
            .collect()
    }
}

/// Whether only servers set an attribute, and a Register does not bring it about.
pub(crate) fn is_lost_by_register(tag: Tag) -> bool {
    is_set_by_servers(tag) && !KEPT_BY_REGISTER.contains(&tag)
}

/// Whether only servers set an attribute.
pub(crate) fn is_set_by_servers(tag: Tag) -> bool {
    attribute_row(tag).is_some_and(|row| row.set_by == SetBy::Server)
}

/// What only servers set and a Register brings about all the same: by what it registers, and by Activate, Revoke and Destroy behind it.
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

/// Asks a peer what it can do (Discover Versions, then Query), and tells it to whoever listens. Nothing is written on either side.
pub struct Explore<F> {
    told: F,
    /// The version that is asked in, of those that are tried one after another.
    attempt: usize,
    versions: Option<Vec<Version>>,
    under_way: Option<Ticket>,
    done: bool,
}

/// In which version Discover Versions is asked; 1.0 does not have it.
const ATTEMPTS: [Version; 3] = [Version::V1_2, Version::V2_1, Version::V1_0];

impl<F: FnMut(PeerAbilities) + Send> Explore<F> {
    /// A session that ends by calling `told`.
    pub fn new(told: F) -> Self {
        Explore {
            told,
            attempt: 0,
            versions: None,
            under_way: None,
            done: false,
        }
    }

    /// The version to ask in.
    fn version(&self) -> Result<Version> {
        let tried = ATTEMPTS.get(self.attempt).copied();
        let found = self
            .versions
            .as_ref()
            .and_then(|versions| versions.first().copied());
        found.or(tried).ok_or_else(|| {
            Error::new(
                ErrorKind::Peer,
                "the peer speaks no version that is spoken here",
            )
        })
    }
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
        if self.versions.is_none() && version > Version::V1_0 {
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
        let item = response.batch.first().filter(|item| item.is_success());
        let discovers = self.versions.is_none() && version > Version::V1_0;
        let Some(item) = item else {
            if self.versions.is_some() || version == Version::V1_0 {
                return Err(Error::new(
                    ErrorKind::Peer,
                    format_args!("the peer does not answer Query in {version}"),
                ));
            }
            self.attempt += 1;
            return Ok(());
        };
        if discovers {
            let told: DiscoverVersionsResponse =
                item.payload(context(version)).map_err(Error::protocol)?;
            let mut versions: Vec<Version> = told
                .protocol_versions
                .iter()
                .filter_map(|version| version.version())
                .collect();
            versions.sort_by(|a, b| b.cmp(a));
            versions.dedup();
            if versions.is_empty() {
                return Err(Error::new(
                    ErrorKind::Peer,
                    "the peer speaks no version that is spoken here",
                ));
            }
            self.versions = Some(versions);
            return Ok(());
        }
        let query: QueryResponse = item.payload(context(version)).map_err(Error::protocol)?;
        let keyferry = query
            .vendor_identification
            .as_ref()
            .is_some_and(|vendor| *vendor == x::VENDOR);
        let versions = self.versions.take().unwrap_or_else(|| vec![version]);
        (self.told)(PeerAbilities {
            versions,
            operations: query.operations,
            keyferry,
        });
        self.done = true;
        Ok(())
    }
}
