use crate::operation::{self, Operations};
use crate::{Access, Error};
use keyferry_kmip::spec::{AsynchronousIndicator, BatchErrorContinuationOption, Operation, ResultStatus};
use keyferry_kmip::{
    Answer, AsynchronousMode, Cause, Crypto, DateTime, Failure, Handler, Identity, Now, ProtocolVersion, Random, RandomFailed,
    RequestItem, RequestMessage, ResponseItem, ResponseMessage, Secret, Text, VERSIONS, context,
};
use keyferry_s2s::{Ask, Node, Outcome, Placeholder, Policy, Responder};
use keyferry_store::{Deferred, Effects, Home, Snapshot, Store, StoreExt};
use keyferry_ttlv::{Extra, Frame, Version};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

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
    node: Arc<Node>,
    responders: Vec<Arc<dyn Responder>>,
    random: Mutex<Box<dyn Random>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("node", &self.node).field("access", &self.access).finish_non_exhaustive()
    }
}

/// Bytes in an answer, and about how many in the answers that are held at once.
const LARGEST_ANSWER: usize = keyferry_ttlv::Limits::DEFAULT.size - 4096;

/// One request as far as it could be read.
enum Parsed {
    Message(Box<RequestMessage>, Version),
    /// Can't be read or may not be served: this goes back.
    Refused(Frame),
}

impl Server {
    /// A server over a store, which from now on belongs to this server id.
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
        let node = Arc::new(Node { home, policy: options.policy, crypto: options.crypto });
        let operations = Operations::new(node.clone());
        Ok(Server {
            store: options.store,
            access: options.access,
            responders: vec![node.clone(), Arc::new(operations)],
            node,
            random: Mutex::new(options.random),
        })
    }

    /// Asks `responder` before the built-in ones: for operations that an application adds or replaces.
    #[must_use]
    pub fn with(mut self, responder: Arc<dyn Responder>) -> Server {
        self.responders.insert(0, responder);
        self
    }

    /// Who this server is among others.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The store it serves.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Answers one request.
    pub fn answer(&self, caller: &Identity, now: Now, request: &Frame) -> Answer {
        self.handle(caller, now, std::slice::from_ref(request)).pop().unwrap_or(Answer::Close)
    }

    fn parse(&self, caller: &Identity, now: Now, request: &Frame) -> Parsed {
        let message = match RequestMessage::from_frame(request) {
            Ok(message) => message,
            // A version that is not spoken may be why it can't be read.
            Err(error) => {
                let version = RequestMessage::version_hint(request).map_or(Ok(Version::V1_0), spoken);
                return Parsed::Refused(match version {
                    Ok(version) => refusal(version, now.wall, &error.into()),
                    Err(nearest) => not_spoken(nearest, now.wall),
                });
            }
        };
        let refuse = |version, cause, why: &str| Parsed::Refused(refusal(version, now.wall, &Failure::new(cause, why)));
        let version = match spoken(message.header.protocol_version) {
            Ok(version) => version,
            Err(nearest) => return Parsed::Refused(not_spoken(nearest, now.wall)),
        };
        let header = &message.header;
        if usize::try_from(header.batch_count).ok() != Some(message.batch.len()) {
            return refuse(version, Cause::InvalidMessage, "the Batch Count is not the number of batch items");
        }
        if header.batch_error_continuation_option == Some(BatchErrorContinuationOption::UNDO) {
            return refuse(version, Cause::FeatureNotSupported, "the Batch Error Continuation Option Undo is not supported");
        }
        if header.asynchronous_indicator == Some(AsynchronousMode::Indicator(AsynchronousIndicator::MANDATORY)) {
            return refuse(version, Cause::FeatureNotSupported, "asynchronous answers are not supported");
        }
        let is_peer = self.node.policy.peer(caller).is_some();
        if !is_peer && !self.access.allows(caller) {
            tracing::warn!(caller = %caller.name, rule = "access", "denied: not a client of this server");
            return refuse(version, Cause::PermissionDenied, "not a client of this server");
        }
        Parsed::Message(Box::new(message), version)
    }

    /// Answers one batch item from what the transaction shows.
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Outcome, Failure> {
        if !ask.is_client && !operation::is_for_peers(item.operation) {
            tracing::warn!(caller = %ask.caller.name, operation = %item.operation, rule = "access", "denied: a peer, and not a client");
            return Err(Failure::new(Cause::PermissionDenied, "not a client of this server"));
        }
        let exists =
            Operation::DOMAIN.values.iter().any(|row| row.value == item.operation.0 && row.versions.contain(ask.cx.version));
        let known = exists || item.operation.0 >= 0x8000_0000;
        let answered = known.then(|| self.responders.iter().find_map(|responder| responder.respond(ask, item))).flatten();
        answered.unwrap_or_else(|| {
            Err(Failure::new(Cause::OperationNotSupported, format_args!("the operation {} is not supported", item.operation)))
        })
    }

    /// Answers a message; `tx` is where effects go, `None` when none of its operations has any.
    fn message(
        &self,
        world: &mut World<'_, '_>,
        caller: &Identity,
        now: Now,
        message: &RequestMessage,
        version: Version,
    ) -> Result<Frame, Error> {
        let cx = context(version);
        let is_client = self.access.allows(caller);
        let mut random = Shared(&self.random);
        let (mut placeholder, mut size) = (None, 0);
        let mut items = Vec::with_capacity(message.batch.len());
        for item in &message.batch {
            let mut ask = Ask {
                snapshot: world.snapshot(),
                caller,
                is_client,
                now,
                random: &mut random,
                cx,
                placeholder: placeholder.clone(),
            };
            let outcome = self.respond(&mut ask, item);
            let mut response = match outcome {
                Ok(outcome) => {
                    world.apply(outcome.effects)?;
                    match outcome.placeholder {
                        Placeholder::Keep => {}
                        Placeholder::Set(identifier) => placeholder = Some(identifier),
                        Placeholder::Clear => placeholder = None,
                    }
                    outcome.response
                }
                Err(failure) => {
                    tracing::debug!(caller = %caller.name, operation = %item.operation, %failure, "failed");
                    ResponseItem::failure(Some(item.operation), &failure, version)
                }
            };
            response.operation = Some(item.operation);
            size += response.response_payload.as_ref().map_or(0, |payload| payload.bytes().len());
            if size > LARGEST_ANSWER {
                return Err(Error::TooLarge);
            }
            response.unique_batch_item_id = item.unique_batch_item_id.clone();
            let failed = response.result_status == ResultStatus::OPERATION_FAILED;
            items.push(response);
            let goes_on = message.header.batch_error_continuation_option == Some(BatchErrorContinuationOption::CONTINUE);
            if failed && !goes_on {
                break;
            }
        }
        let mut response = ResponseMessage::new(version, now.wall, items);
        response.header.client_correlation_value = message.header.client_correlation_value.clone();
        let frame = response.to_frame().map_err(Error::Encode)?;
        let maximum = message.header.maximum_response_size.and_then(|size| usize::try_from(size).ok());
        if maximum.is_some_and(|maximum| frame.len() > maximum) {
            return Err(Error::TooLarge);
        }
        Ok(frame)
    }

    /// Answers messages that share one commit; not all of them when the answers grow large.
    fn group(&self, caller: &Identity, now: Now, group: &[(&RequestMessage, Version)]) -> Vec<Frame> {
        let writes = group.iter().any(|(message, _)| message.batch.iter().any(|item| !operation::is_read(item.operation)));
        let answer = |world: &mut World<'_, '_>| {
            let (mut answers, mut size) = (Vec::with_capacity(group.len()), 0);
            for (message, version) in group {
                let frame = self.message(world, caller, now, message, *version)?;
                size += frame.len();
                answers.push(frame);
                if size >= LARGEST_ANSWER {
                    break;
                }
            }
            Ok(answers)
        };
        let answered: Result<Vec<Frame>, Error> = if writes {
            self.store.transact(|transaction| {
                let mut world = World::Write(Deferred::new(transaction));
                let answers = answer(&mut world)?;
                world.finish()?;
                Ok(answers)
            })
        } else {
            self.store.view(|snapshot| answer(&mut World::Read(snapshot)))
        };
        if let ([first, _, ..], Err(_)) = (group, &answered) {
            // One of them is the trouble, and the others shall not suffer for it: the first alone, the rest when they are offered again.
            return self.group(caller, now, std::slice::from_ref(first));
        }
        answered.unwrap_or_else(|error| {
            let failure = match error {
                Error::TooLarge => Failure::new(
                    Cause::ResponseTooLarge,
                    "the answer is larger than its receiver or this server takes; nothing was done",
                ),
                other => {
                    tracing::error!(caller = %caller.name, error = %other, "a request failed inside the server");
                    Failure::new(Cause::Internal, "the server failed")
                }
            };
            group.iter().map(|(message, version)| failed_whole(message, *version, now.wall, &failure)).collect()
        })
    }
}

/// The server's randomness, locked for a moment at a time: requests of several connections are answered side by side.
struct Shared<'a>(&'a Mutex<Box<dyn Random>>);

impl Random for Shared<'_> {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), RandomFailed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(out)
    }
}

/// Where a message's operations look and, when they write, act.
enum World<'a, 't> {
    Read(&'a dyn Snapshot),
    Write(Deferred<'a, 't>),
}

impl World<'_, '_> {
    fn snapshot(&self) -> &dyn Snapshot {
        match self {
            World::Read(snapshot) => *snapshot,
            World::Write(deferred) => deferred,
        }
    }

    fn apply(&mut self, effects: Effects) -> Result<(), Error> {
        match self {
            _ if effects.is_empty() => Ok(()),
            World::Write(deferred) => Ok(deferred.add(effects)?),
            World::Read(_) => Err(Error::Misplaced),
        }
    }

    fn finish(self) -> Result<(), Error> {
        match self {
            World::Write(deferred) => Ok(deferred.finish()?),
            World::Read(_) => Ok(()),
        }
    }
}

impl Handler for Server {
    fn handle(&self, caller: &Identity, now: Now, requests: &[Frame]) -> Vec<Answer> {
        let parsed: Vec<Parsed> = requests.iter().map(|request| self.parse(caller, now, request)).collect();
        let mut answers = Vec::with_capacity(parsed.len());
        let mut group: Vec<(&RequestMessage, Version)> = Vec::new();
        let flush = |answers: &mut Vec<Answer>, group: &mut Vec<(&RequestMessage, Version)>| {
            let asked = std::mem::take(group);
            let frames = if asked.is_empty() { Vec::new() } else { self.group(caller, now, &asked) };
            let all = frames.len() == asked.len() && frames.iter().map(|frame| frame.len()).sum::<usize>() < LARGEST_ANSWER;
            answers.extend(frames.into_iter().map(Answer::Reply));
            all
        };
        for one in &parsed {
            match one {
                Parsed::Message(message, version) if message.header.maximum_response_size.is_none() => {
                    group.push((message, *version))
                }
                // An answer that turns out too large undoes its request, and must not undo others.
                Parsed::Message(message, version) => {
                    if !flush(&mut answers, &mut group) {
                        return answers;
                    }
                    group.push((message, *version));
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

/// The version, when it is spoken; otherwise the one in which to say so.
fn spoken(protocol: ProtocolVersion) -> Result<Version, Version> {
    let version = protocol.version().filter(|version| VERSIONS.contains(version));
    version.ok_or(if protocol.major == 1 { Version::V1_4 } else { Version::V2_1 })
}

fn not_spoken(nearest: Version, now: DateTime) -> Frame {
    refusal(nearest, now, &Failure::new(Cause::UnsupportedVersion, "KMIP 1.0 to 1.4, 2.0 and 2.1 are spoken here"))
}

/// A response to a request that could not be read far enough to know its operations.
fn refusal(version: Version, now: DateTime, failure: &Failure) -> Frame {
    let item = ResponseItem::failure(None, failure, version);
    ResponseMessage::new(version, now, vec![item]).to_frame().unwrap_or_default()
}

/// A response that fails every item alike.
fn failed_whole(message: &RequestMessage, version: Version, now: DateTime, failure: &Failure) -> Frame {
    let items = message
        .batch
        .iter()
        .map(|item| ResponseItem {
            unique_batch_item_id: item.unique_batch_item_id.clone(),
            ..ResponseItem::failure(Some(item.operation), failure, version)
        })
        .collect();
    let mut response = ResponseMessage::new(version, now, items);
    response.header.client_correlation_value = message.header.client_correlation_value.clone();
    response.to_frame().unwrap_or_default()
}
