//! This module is the server itself: how it is made and configured, and how requests that arrive together are answered.

use crate::access::{self, Access, Authenticator};
use crate::commit_queue::CommitQueue;
use crate::error::Error;
use crate::hooks::{Committed, Forwarder, Turning};
use crate::operation::Operations;
use crate::request::Request;
use keyferry_kmip::{Answer, Crypto, Handler, Identity, Interval, Now, Random, Secret, Text};
use keyferry_s2s::{Node, Policy, Responder, Rights};
use keyferry_store::{Home, Store, StoreExt};
use keyferry_ttlv::{Extra, Frame, Version};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zeroize::Zeroizing;

mod group;
mod log;
mod message;
mod parse;
mod upkeep;
mod world;

use log::log;
use message::LARGEST_ANSWER;
use parse::{Parsed, refusal};

/// The parts of which a server is made.
pub struct Options {
    /// Its server id, stable for the life of its store.
    pub server: Text,
    /// The store of its objects.
    pub store: Arc<dyn Store>,
    /// Its cryptographic library.
    pub crypto: Arc<dyn Crypto>,
    /// Its source of randomness.
    pub random: Box<dyn Random>,
    /// The clients that may use it.
    pub access: Access,
    /// The rights of its peers.
    pub policy: Policy,
}

impl Options {
    /// The parts of a server that admits no clients and knows no peers: [`access`](Options::access) and [`policy`](Options::policy) say who may
    /// come.
    pub fn new(
        server: impl Into<Text>,
        store: Arc<dyn Store>,
        crypto: Arc<dyn Crypto>,
        random: impl Random + 'static,
    ) -> Options {
        Options {
            server: server.into(),
            store,
            crypto,
            random: Box::new(random),
            access: Access::Closed,
            policy: Policy::closed(),
        }
    }
}

/// A KMIP server: request bytes in, response bytes out. It opens no socket, starts no thread and reads no clock.
pub struct Server {
    store: Arc<dyn Store>,
    access: Access,
    rights: Arc<dyn Rights>,
    authenticator: Option<Arc<dyn Authenticator>>,
    operations: Operations,
    applications: Vec<Arc<dyn Responder>>,
    random: Mutex<Box<dyn Random>>,
    stopwatch: Option<fn() -> Duration>,
    commits: CommitQueue<(Now, Vec<Arc<Request>>), Result<Vec<Frame>, Error>>,
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

impl Server {
    /// Makes a server over a store, which belongs to this server id from now on, and begins a new reign in it.
    ///
    /// # Errors
    /// When the store fails or belongs to another server, the source of randomness fails, or the policy is refused
    /// ([`Policy::check`](keyferry_s2s::Policy::check)).
    pub fn new(mut options: Options) -> Result<Server, Error> {
        options.policy.check()?;
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
        let node = Arc::new(Node::new(home, options.policy, options.crypto));
        Ok(Server {
            store: options.store,
            access: options.access,
            rights: Arc::new(access::Rights::owners()),
            authenticator: None,
            operations: Operations::new(node),
            applications: Vec::new(),
            random: Mutex::new(options.random),
            stopwatch: None,
            commits: CommitQueue::default(),
            turning: None,
            forwarder: None,
            committed: Vec::new(),
        })
    }

    /// Adds a responder, for operations that an application adds or replaces: it is asked before the built-in ones and before those that were
    /// added earlier. Query does not name its operations.
    #[must_use]
    pub fn with(mut self, responder: Arc<dyn Responder>) -> Server {
        self.applications.insert(0, responder);
        self
    }

    /// Sets the rights of clients to objects: the built-in [`Rights`](access::Rights), or an application's own, which may be shared as an
    /// `Arc<dyn keyferry_s2s::Rights>`. Without this, those of [`Rights::owners`](access::Rights::owners) apply.
    #[must_use]
    pub fn with_rights(mut self, rights: impl Rights + 'static) -> Server {
        self.rights = Arc::new(rights);
        self
    }

    /// Sets the authenticator for the credentials of requests. Without one, the TLS identity counts, whatever credentials a request has.
    #[must_use]
    pub fn with_authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Server {
        self.authenticator = Some(authenticator);
        self
    }

    /// Sets the time for which clients may use an object without asking again, in seconds: 3600 by default, 0 for ever.
    #[must_use]
    pub fn with_lease_time(mut self, seconds: u32) -> Server {
        self.operations.settings.lease_time = Interval(seconds);
        self
    }

    /// Sets a monotonic clock, by which the log says how long a request took, its commit included.
    #[must_use]
    pub fn with_stopwatch(mut self, clock: fn() -> Duration) -> Server {
        self.stopwatch = Some(clock);
        self
    }

    /// Lets the server answer Interop, by which a test says where it begins and ends; not for a server in use (KMIP 2.1 §6.1.26).
    #[must_use]
    pub fn with_interop(mut self) -> Server {
        self.operations.settings.interop = true;
        self
    }

    /// This server as its peers know it: its identity, its policy and its cryptographic library.
    pub fn node(&self) -> &Arc<Node> {
        &self.operations.node
    }

    /// The rights of clients to objects.
    pub(crate) fn rights(&self) -> &dyn Rights {
        &*self.rights
    }

    /// The store of its objects.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Answers one request.
    pub fn answer(&self, caller: &Identity, now: Now, request: &Frame) -> Answer {
        self.handle(caller, now, std::slice::from_ref(request))
            .pop()
            .unwrap_or(Answer::Close)
    }
}

impl Handler for Server {
    fn handle(&self, caller: &Identity, now: Now, requests: &[Frame]) -> Vec<Answer> {
        let parsed: Vec<Parsed> = requests
            .iter()
            .map(|request| self.parse(caller, now, request))
            .collect();
        let mut answering = Answering {
            server: self,
            now,
            answers: Vec::with_capacity(parsed.len()),
            group: Vec::new(),
        };
        for one in parsed {
            if answering.add(one).is_break() {
                return answering.answers;
            }
        }
        let _ = answering.answer_group();
        answering.answers
    }

    fn refuse(&self, now: Now, why: &keyferry_ttlv::Error) -> Option<Frame> {
        Some(refusal(Version::V1_0, now.wall, &why.clone().into()))
    }
}

/// The answers to requests that arrived together, in their order. `Break` leaves the rest to be offered again.
struct Answering<'a> {
    server: &'a Server,
    now: Now,
    answers: Vec<Answer>,
    /// Requests that are still to be answered, together.
    group: Vec<Arc<Request>>,
}

impl Answering<'_> {
    /// Takes the next request: it is answered with the group, or by itself after the group.
    fn add(&mut self, parsed: Parsed) -> ControlFlow<()> {
        match parsed {
            Parsed::Message(request) if self.server.may_turn(&request) => {
                self.answer_group()?;
                if let Some(answer) = self.server.turn(&request, self.now) {
                    self.answers.push(answer);
                    return ControlFlow::Break(());
                }
                self.group.push(request);
            }
            Parsed::Message(request) if self.server.may_forward(&request) => {
                self.answer_group()?;
                match self.server.forwarded(&request) {
                    Some(frame) => self.answers.push(Answer::Reply(frame)),
                    None => self.group.push(request),
                }
            }
            Parsed::Message(request) if !request.is_alone() => self.group.push(request),
            Parsed::Message(request) => {
                self.answer_group()?;
                self.group.push(request);
                self.answer_group()?;
            }
            Parsed::Refused(frame) => {
                self.answer_group()?;
                self.answers.push(Answer::Reply(frame));
            }
        }
        ControlFlow::Continue(())
    }

    /// Answers the group and logs its requests. Breaks when not all were answered, or the answers grew large.
    fn answer_group(&mut self) -> ControlFlow<()> {
        let group = std::mem::take(&mut self.group);
        let stopwatch = self.server.stopwatch;
        let started = stopwatch.map(|clock| clock());
        let frames = if group.is_empty() {
            Vec::new()
        } else {
            self.server.group(self.now, &group)
        };
        let is_complete = frames.len() == group.len()
            && frames.iter().map(|frame| frame.len()).sum::<usize>() < LARGEST_ANSWER;
        let duration = stopwatch
            .zip(started)
            .map(|(clock, started)| clock().saturating_sub(started));
        for (request, frame) in group.iter().zip(&frames) {
            log(request, frame, self.now, duration);
        }
        self.answers.extend(frames.into_iter().map(Answer::Reply));
        if is_complete {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }
}
