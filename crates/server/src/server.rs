use crate::forward::Forwarder;
use crate::operation::{self, Operations};
use crate::turning::{Committed, Turning};
use crate::turns::Turns;
use crate::{Access, Authenticator, Error, Rights};
use keyferry_kmip::spec::{
    AsynchronousIndicator, BatchErrorContinuationOption, Operation, ResultStatus,
};
use keyferry_kmip::{
    Answer, AsynchronousMode, Cause, Crypto, DateTime, Failure, Handler, Identity, Interval, Now,
    ProtocolVersion, Random, RequestItem, RequestMessage, ResponseItem, ResponseMessage, Secret,
    Text, VERSIONS, lifecycle,
};
use keyferry_s2s::{Ask, Node, Outcome, Policy, Responder};
use keyferry_store::{Effects, Home, Material, Order, SnapshotExt, Store, StoreExt, index};
use keyferry_ttlv::{Extra, Frame, Version};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zeroize::Zeroizing;

mod group;

use group::{LARGEST_ANSWER, identifiers};

/// What a server is made of.
pub struct Options {
    /// Its server id, stable for the life of its store.
    pub server: Text,
    /// Where its objects are.
    pub store: Arc<dyn Store>,
    /// Its cryptographic library.
    pub crypto: Arc<dyn Crypto>,
    /// Its randomness.
    pub random: Box<dyn Random>,
    /// Which clients may use it.
    pub access: Access,
    /// Which peers may do what.
    pub policy: Policy,
}

/// A KMIP server: request bytes in, response bytes out. It opens no socket, starts no thread and reads no clock.
pub struct Server {
    store: Arc<dyn Store>,
    access: Access,
    rights: Rights,
    authenticator: Option<Arc<dyn Authenticator>>,
    operations: Operations,
    applications: Vec<Arc<dyn Responder>>,
    random: Mutex<Box<dyn Random>>,
    stopwatch: Option<fn() -> Duration>,
    turns: Turns<(Now, Vec<Arc<Asked>>), Result<Vec<Frame>, Error>>,
    pub(crate) turning: Option<Box<Turning>>,
    pub(crate) forwarder: Option<Box<Forwarder>>,
    pub(crate) committed: Vec<Box<Committed>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("node", &self.operations.node)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

/// A request that may be answered.
pub(crate) struct Asked {
    pub(crate) message: RequestMessage,
    version: Version,
    /// Who asks: the TLS identity, or who its credentials stand for.
    pub(crate) caller: Identity,
    /// The TLS identity.
    pub(crate) tls: Identity,
    /// Whether that is a client.
    pub(crate) is_client: bool,
}

impl Asked {
    fn undoes(&self) -> bool {
        self.message.header.batch_error_continuation_option
            == Some(BatchErrorContinuationOption::UNDO)
    }

    /// Whether it shares no commit with others: an answer that turns out too large, or a failed item, undoes it as a whole.
    fn is_alone(&self) -> bool {
        self.message.header.maximum_response_size.is_some() || self.undoes()
    }
}

/// One request as far as it could be read.
enum Parsed {
    Message(Arc<Asked>),
    /// Can't be read or may not be served: this goes back.
    Refused(Frame),
}

impl Server {
    /// A server over a store, which from now on belongs to this server id, and in which a new reign of its begins.
    ///
    /// # Errors
    /// When the store fails, belongs to another server, or there is no randomness.
    pub fn new(mut options: Options) -> Result<Server, Error> {
        let (mut instance, mut fingerprint_key) = (vec![0; 16], Zeroizing::new(vec![0; 32]));
        options.random.fill(&mut instance)?;
        options.random.fill(&mut fingerprint_key)?;
        let home = options.store.home(&options.server, || Home {
            server: options.server.clone(),
            instance: instance.clone(),
            fingerprint_key: Secret::new(&fingerprint_key),
            extra: Extra::NONE,
        })?;
        let mut reign = [0; 16];
        options.random.fill(&mut reign)?;
        options.store.begin_reign(reign)?;
        let node = Arc::new(Node {
            home,
            policy: options.policy,
            crypto: options.crypto,
        });
        Ok(Server {
            store: options.store,
            access: options.access,
            rights: Rights::owners(),
            authenticator: None,
            operations: Operations::new(node),
            applications: Vec::new(),
            random: Mutex::new(options.random),
            stopwatch: None,
            turns: Turns::default(),
            turning: None,
            forwarder: None,
            committed: Vec::new(),
        })
    }

    /// Asks `responder` before the built-in ones, and before those that were added earlier: for operations that an application adds or
    /// replaces. Query does not name them.
    #[must_use]
    pub fn with(mut self, responder: Arc<dyn Responder>) -> Server {
        self.applications.insert(0, responder);
        self
    }

    /// What clients may do with which objects, where it is more than owners' rights.
    #[must_use]
    pub fn with_rights(mut self, rights: Rights) -> Server {
        self.rights = rights;
        self
    }

    /// Looks at the credentials of requests. Without, the TLS identity counts, whatever credentials a request has.
    #[must_use]
    pub fn with_authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Server {
        self.authenticator = Some(authenticator);
        self
    }

    /// How long clients may use an object without asking again, in seconds; 3600 where nothing is said, 0 for ever.
    #[must_use]
    pub fn with_lease_time(mut self, seconds: u32) -> Server {
        self.operations.settings.lease_time = Interval(seconds);
        self
    }

    /// A monotonic clock, for the log alone: how long a request took, its commit included.
    #[must_use]
    pub fn with_stopwatch(mut self, clock: fn() -> Duration) -> Server {
        self.stopwatch = Some(clock);
        self
    }

    /// Answers Interop, by which a test tells where it begins and ends. Not for a server in use (KMIP 2.1 §6.1.26).
    #[must_use]
    pub fn with_interop(mut self) -> Server {
        self.operations.settings.interop = true;
        self
    }

    /// Who this server is among others.
    pub fn node(&self) -> &Arc<Node> {
        &self.operations.node
    }

    /// What clients may do with which objects.
    pub(crate) fn rights(&self) -> &Rights {
        &self.rights
    }

    /// The store it serves.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Stores the States that dates have led to, of objects that this server issues: `most` of them in one commit, and says how many there
    /// were. Reads see them without it; peers are told by it, and Locate finds by State sooner (DESIGN: rule 7). To be called now and then.
    ///
    /// # Errors
    /// When the store fails: nothing was changed then.
    pub fn settle(&self, now: Now, most: usize) -> Result<usize, Error> {
        let node = self.node();
        let settled = self.store.transact(|transaction| {
            let mut effects = Effects::none();
            if keyferry_s2s::check_nothing_owed(transaction).is_err() {
                return Ok(0);
            }
            let reign = transaction.reign()?;
            let mut due = Vec::new();
            transaction.scan(
                index::DUE,
                &index::due_until(now.wall),
                Order::Ascending,
                None,
                &mut |_, number| {
                    // A copy's State is its issuer's to store.
                    due.extend(
                        transaction
                            .record(number)?
                            .filter(|record| node.issues(record))
                            .map(|record| (number, record)),
                    );
                    Ok(if due.len() < most {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    })
                },
            )?;
            for (number, record) in due {
                let mut after = record.clone();
                lifecycle::store_state_at(&mut after.attributes, now.wall);
                node.advance(&mut after, reign, now.wall);
                effects.extend(Effects::change(
                    Some((number, record)),
                    after,
                    Material::Keep,
                ));
            }
            effects.apply(transaction)?;
            Ok::<_, Error>(effects.changes.len())
        })?;
        self.committed(settled > 0);
        Ok(settled)
    }

    /// Answers one request.
    pub fn answer(&self, caller: &Identity, now: Now, request: &Frame) -> Answer {
        self.handle(caller, now, std::slice::from_ref(request))
            .pop()
            .unwrap_or(Answer::Close)
    }

    fn parse(&self, tls: &Identity, now: Now, request: &Frame) -> Parsed {
        let caller = tls;
        let message = match RequestMessage::from_frame(request) {
            Ok(message) => message,
            // A version that is not spoken may be why it can't be read.
            Err(error) => {
                let version =
                    RequestMessage::version_hint(request).map_or(Ok(Version::V1_0), spoken);
                return Parsed::Refused(match version {
                    Ok(version) => refusal(version, now.wall, &error.into()),
                    Err(nearest) => not_spoken(nearest, now.wall),
                });
            }
        };
        let refuse = |version, cause, why: &str| {
            Parsed::Refused(refusal(version, now.wall, &Failure::new(cause, why)))
        };
        let version = match spoken(message.header.protocol_version) {
            Ok(version) => version,
            Err(nearest) => return Parsed::Refused(not_spoken(nearest, now.wall)),
        };
        let header = &message.header;
        if usize::try_from(header.batch_count).ok() != Some(message.batch.len()) {
            return refuse(
                version,
                Cause::InvalidMessage,
                "the Batch Count is not the number of batch items",
            );
        }
        let identifiers: HashSet<&[u8]> = message
            .batch
            .iter()
            .filter_map(|item| item.unique_batch_item_id.as_deref())
            .collect();
        if message.batch.len() > 1 && identifiers.len() < message.batch.len() {
            return refuse(
                version,
                Cause::InvalidMessage,
                "each item of a batch needs a Unique Batch Item ID of its own",
            );
        }
        if header.asynchronous_indicator
            == Some(AsynchronousMode::Indicator(
                AsynchronousIndicator::MANDATORY,
            ))
        {
            return refuse(
                version,
                Cause::FeatureNotSupported,
                "asynchronous answers are not supported",
            );
        }
        let is_peer = self.node().policy.peer(caller).is_some();
        if !is_peer && !self.access.allows(caller) {
            tracing::warn!(caller = %caller.name, rule = "access", "denied: not a client of this server");
            return refuse(
                version,
                Cause::PermissionDenied,
                "not a client of this server",
            );
        }
        let caller = match (&self.authenticator, &header.authentication) {
            (Some(authenticator), Some(authentication)) if !is_peer => {
                match authenticator.authenticate(caller, &authentication.credentials) {
                    Ok(identity) => identity,
                    Err(failure) => {
                        tracing::warn!(caller = %caller.name, rule = "credentials", "denied: {failure}");
                        return Parsed::Refused(failed_whole(
                            &message, version, now.wall, &failure,
                        ));
                    }
                }
            }
            _ => caller.clone(),
        };
        Parsed::Message(Arc::new(Asked {
            is_client: self.access.allows(tls),
            tls: tls.clone(),
            caller,
            message,
            version,
        }))
    }

    /// Answers one batch item from what the transaction shows.
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Outcome, Failure> {
        if !ask.is_client && !operation::is_for_peers(item.operation) {
            return Err(Failure::denied("a peer, and not a client of this server"));
        }
        let exists = Operation::DOMAIN
            .values
            .iter()
            .any(|row| row.value == item.operation.0 && row.versions.contain(ask.cx.version));
        let known = exists || item.operation.0 >= 0x8000_0000;
        let node: &Node = self.node();
        let built_in: [&dyn Responder; 2] = [node, &self.operations];
        let mut responders = self
            .applications
            .iter()
            .map(|application| &**application)
            .chain(built_in);
        let answered = known
            .then(|| responders.find_map(|responder| responder.respond(ask, item)))
            .flatten();
        answered.unwrap_or_else(|| {
            Err(Failure::new(
                Cause::OperationNotSupported,
                format_args!("the operation {} is not supported", item.operation),
            ))
        })
    }

    /// Fails when a restored server would change its objects before it has taken back what it lost.
    fn check_restored(&self, ask: &Ask<'_>, outcome: Outcome) -> Result<Outcome, Failure> {
        let changes_own = outcome
            .effects
            .changes
            .iter()
            .any(|change| self.node().issues(&change.after));
        if changes_own && ask.operation != keyferry_s2s::GIVE_BACK {
            keyferry_s2s::check_nothing_owed(ask.snapshot)?;
        }
        Ok(outcome)
    }
}

impl Handler for Server {
    fn handle(&self, caller: &Identity, now: Now, requests: &[Frame]) -> Vec<Answer> {
        let parsed: Vec<Parsed> = requests
            .iter()
            .map(|request| self.parse(caller, now, request))
            .collect();
        let mut answers = Vec::with_capacity(parsed.len());
        let mut group: Vec<Arc<Asked>> = Vec::new();
        let flush = |answers: &mut Vec<Answer>, group: &mut Vec<Arc<Asked>>| {
            let asked = std::mem::take(group);
            let started = self.stopwatch.map(|clock| clock());
            let frames = if asked.is_empty() {
                Vec::new()
            } else {
                self.group(now, &asked)
            };
            let all = frames.len() == asked.len()
                && frames.iter().map(|frame| frame.len()).sum::<usize>() < LARGEST_ANSWER;
            let taken = self
                .stopwatch
                .zip(started)
                .map(|(clock, started)| clock().saturating_sub(started));
            for (asked, frame) in asked.iter().zip(&frames) {
                log(asked, frame, now, taken);
            }
            answers.extend(frames.into_iter().map(Answer::Reply));
            all
        };
        for one in &parsed {
            match one {
                Parsed::Message(asked) if self.may_turn(asked) => {
                    if !flush(&mut answers, &mut group) {
                        return answers;
                    }
                    if let Some(answer) = self.turn(asked, now) {
                        answers.push(answer);
                        return answers;
                    }
                    group.push(asked.clone());
                }
                Parsed::Message(asked) if self.may_forward(asked) => {
                    if !flush(&mut answers, &mut group) {
                        return answers;
                    }
                    match self.forwarded(asked) {
                        Some(frame) => answers.push(Answer::Reply(frame)),
                        None => group.push(asked.clone()),
                    }
                }
                Parsed::Message(asked) if !asked.is_alone() => group.push(asked.clone()),
                Parsed::Message(asked) => {
                    if !flush(&mut answers, &mut group) {
                        return answers;
                    }
                    group.push(asked.clone());
                    if !flush(&mut answers, &mut group) {
                        return answers;
                    }
                }
                Parsed::Refused(frame) => {
                    if !flush(&mut answers, &mut group) {
                        return answers;
                    }
                    answers.push(Answer::Reply(frame.clone()));
                }
            }
        }
        flush(&mut answers, &mut group);
        answers
    }

    fn refuse(&self, now: Now, why: &keyferry_ttlv::Error) -> Option<Frame> {
        Some(refusal(Version::V1_0, now.wall, &why.clone().into()))
    }
}

/// One line for each request, and none of its secrets: of a batch the operations, and what the first failed item failed for. Requests that
/// were answered together took as long as all of them.
fn log(asked: &Asked, answer: &Frame, now: Now, taken: Option<Duration>) {
    if !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    let Ok(response) = ResponseMessage::from_frame(answer) else {
        return;
    };
    let mut operations = String::new();
    for item in asked.message.batch.iter().take(LOGGED) {
        if !operations.is_empty() {
            operations.push_str(", ");
        }
        operations.push_str(&named(item.operation));
    }
    let failed = response
        .batch
        .iter()
        .find(|item| item.result_status == ResultStatus::OPERATION_FAILED);
    let result = match failed {
        None => "Success".to_owned(),
        Some(item) => item.result_reason.map_or_else(
            || item.result_status.to_string(),
            |reason| reason.to_string(),
        ),
    };
    tracing::info!(
        peer = %asked.caller.name,
        version = %asked.version,
        operation = operations,
        items = asked.message.batch.len(),
        identifier = response.batch.iter().flat_map(identifiers).next().as_deref().unwrap_or_default(),
        result,
        time = now.wall.0,
        micros = taken.map(|taken| u64::try_from(taken.as_micros()).unwrap_or(u64::MAX)),
        "request"
    );
}

/// An operation by name, those of our own included.
fn named(operation: Operation) -> String {
    match operation {
        keyferry_s2s::FOLLOW => "Follow".to_owned(),
        keyferry_s2s::GIVE_BACK => "Give Back".to_owned(),
        other => other.to_string(),
    }
}

/// Operations of a batch that a log line names.
const LOGGED: usize = 8;

/// The version, when it is spoken; otherwise the one in which to say so.
fn spoken(protocol: ProtocolVersion) -> Result<Version, Version> {
    let version = protocol
        .version()
        .filter(|version| VERSIONS.contains(version));
    version.ok_or(if protocol.major == 1 {
        Version::V1_4
    } else {
        Version::V2_1
    })
}

fn not_spoken(nearest: Version, now: DateTime) -> Frame {
    refusal(
        nearest,
        now,
        &Failure::new(
            Cause::UnsupportedVersion,
            "KMIP 1.0 to 1.4, 2.0 and 2.1 are spoken here",
        ),
    )
}

/// A response to a request that could not be read far enough to know its operations.
fn refusal(version: Version, now: DateTime, failure: &Failure) -> Frame {
    let item = ResponseItem::failure(None, failure, version);
    ResponseMessage::new(version, now, vec![item])
        .to_frame()
        .unwrap_or_default()
}

/// A response that fails every item alike.
fn failed_whole(
    message: &RequestMessage,
    version: Version,
    now: DateTime,
    failure: &Failure,
) -> Frame {
    let items = message
        .batch
        .iter()
        .map(|item| ResponseItem {
            unique_batch_item_id: item.unique_batch_item_id.clone(),
            ..ResponseItem::failure(Some(item.operation), failure, version)
        })
        .collect();
    ResponseMessage::new(version, now, items)
        .to_frame()
        .unwrap_or_default()
}
