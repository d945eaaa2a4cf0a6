//! The replica's side of following: a session that pulls what has changed at the issuer ([rules 10](crate::design#rule-10) and [11](crate::design#rule-11)).
//!
//! `question` makes the requests, `answer` reads what comes back, `apply` takes it into the store, and `give_back` returns to an issuer what it has
//! lost; `compare` finds out whether all is held as it was told. `issuer` is the other side: it answers, and `prove` says what was told. `poke` tells a replica that there is something to ask for.

mod answer;
pub(crate) mod apply;
mod compare;
mod difference;
mod form;
pub(crate) mod give_back;
mod hearsay;
pub(crate) mod issuer;
pub(crate) mod options;
mod page;
pub(crate) mod poke;
mod prove;
mod question;
mod receiver;
mod repair;
mod withdraw;

use crate::error::{Error, ErrorKind, Result};
use crate::follow::compare::Comparison;
use crate::follow::give_back::GiveBackPass;
use crate::follow::options::FollowOptions;
use crate::limits::short;
use crate::node::Node;
use crate::progress::{Meter, Observer, Progress, Sink};
use crate::relation::followed::Upstream;
use crate::relation::mended::mend_after;
use crate::report::{ObjectResult, Report};
use crate::session::{Session, SessionContext, Step};
use keyferry_kmip::{Lost, ResponseMessage, Tick, Ticket};
use keyferry_store::{ObjectId, Snapshot, StoreExt, Transaction};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The session by which this server follows another one: it takes what has changed there, for the first load, for catching up and for the next
/// change alike. As a strategy of bulk transfer it is called *feed*.
///
/// ```
/// use keyferry_kmip::{DateTime, Now, Secret, Ticket};
/// use keyferry_s2s::{SessionContext, FOLLOW, Follow, FollowOptions, UpstreamOptions, Upstream, Node, Peer, Policy, Session, Step};
/// use keyferry_store::{Home, Incarnation, Memory, StoreExt};
///
/// let store = Memory::new(Incarnation([1; 16]));
/// let mut random = keyferry_crypto::SystemRandom::new();
/// let home = store.home("shop", || Home {
///     server: "shop".into(),
///     instance: vec![1; 16],
///     fingerprint_key: Secret::new(&[7; 32]), // drawn at random
///     extra: Default::default(),
/// })?;
/// let node = Node::new(home, Policy::closed(), std::sync::Arc::new(keyferry_crypto::Ring::new()));
///
/// // The relation is data in the store; the session goes on from there, now and after each restart.
/// Upstream::follow(&store, "keys", "centre", &UpstreamOptions::default(), DateTime(1_700_000_000))?;
/// let mut session = Follow::new(node.into(), FollowOptions::new("keys", Peer::new("centre")));
/// let mut cx = SessionContext { now: Now::default(), store: &store, random: &mut random };
/// let Step::Send(question) = session.poll(&mut cx, Ticket(1))? else { panic!("nothing to send") };
/// assert_eq!(question.batch[0].operation, FOLLOW);
/// // The answer, by whatever connection, goes to `session.answer`; how far it is, the store tells.
/// let masters = store.view::<_, keyferry_s2s::Error>(|snapshot| Upstream::all(snapshot))?;
/// assert!(!masters[0].is_up_to_date());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The session applies an answer in one transaction with the place in the feed where the answer ends. An object that could not be taken is kept
/// there as a [`Retry`](crate::Retry), and asked for again later. A session that was interrupted goes on where the last transaction ended.
pub struct Follow {
    options: FollowOptions,
    node: Arc<Node>,
    /// The relation as this session has stored it last; `None` before the first step and after a loss of the connection.
    upstream: Option<Upstream>,
    in_flight: VecDeque<(Ticket, InFlight)>,
    reached: Reached,
    /// Whether the next page may be asked for while answers are under way: the last answer did not reach the head.
    asks_ahead: bool,
    /// How many of the answers under way count for nothing, since the session started over after they were asked for.
    void_answers: usize,
    /// When the issuer was last asked for the objects that are missing there.
    asked_for_missing: Option<Tick>,
    /// When to ask again, while everything was taken.
    next_question: Option<Tick>,
    /// Set from outside: there is something to ask for.
    poked: Arc<AtomicBool>,
    /// The issuer's reign, where it has told a newer one than the store knows.
    told_reign: Option<Vec<u8>>,
    /// Whether this session turned the connection round: that it is polled again says that the issuer has turned it back.
    turned: bool,
    /// The state key of the last emergency Revoke that the issuer was told of; empty at the beginning.
    told_raised: Vec<u8>,
    /// What is being given back to the issuer.
    giving_back: Option<GiveBackPass>,
    /// What was given back because it has rotted there: it is once in a session.
    given_back: HashSet<ObjectId>,
    /// What is known of whether all is held as it was told.
    comparison: Comparison,
    sink: Option<Sink>,
    observer: Option<Observer>,
    meter: Meter,
    report: Report,
}

/// How far the session is, by the last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// No answer that counts has come yet.
    Unknown,
    /// There is nothing to ask for at once.
    Head,
    /// The answer ended before the head, or left something that is to be asked for at once.
    Part,
}

/// A request that is not answered yet.
#[derive(Clone, Debug, PartialEq)]
enum InFlight {
    /// A question for changes.
    Changes(Asked),
    /// A part of what is given back.
    GiveBack { last: bool, mends: bool },
    /// The connection is to be turned round.
    Turn,
}

/// What a question asks beside the changes behind a place.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    /// The state keys of the withdrawals that it acknowledges.
    acknowledged: Vec<Vec<u8>>,
    /// The objects that it asks for again.
    again: Vec<ObjectId>,
    /// Whether it asks about objects that were found by comparison.
    searches: bool,
    checked: Checked,
}

/// How far the copies held here have been checked with the issuer, once a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checked {
    /// The question checks nothing.
    NoFurther,
    /// Up to this number of the own feed.
    UpTo(i64),
    /// All of them.
    All,
}

impl Follow {
    /// Makes a session with these options. `node` says who this server is.
    pub fn new(node: Arc<Node>, options: FollowOptions) -> Self {
        Follow {
            options,
            node,
            upstream: None,
            in_flight: VecDeque::new(),
            told_raised: Vec::new(),
            reached: Reached::Unknown,
            asks_ahead: false,
            void_answers: 0,
            asked_for_missing: None,
            next_question: None,
            poked: Arc::default(),
            told_reign: None,
            turned: false,
            giving_back: None,
            given_back: HashSet::new(),
            comparison: Comparison::default(),
            sink: None,
            observer: None,
            meter: Meter::default(),
            report: Report::default(),
        }
    }

    /// Returns a flag that makes the session ask at once, whatever it waits for. Whoever hears a [poke](crate::PokeResponder) sets it, and wakes
    /// the driver then.
    pub fn poked(&self) -> Arc<AtomicBool> {
        self.poked.clone()
    }

    /// Calls `observer` after each answer, with what has been done so far in this pass.
    #[must_use]
    pub fn on_progress(mut self, observer: impl FnMut(&Progress) + Send + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Calls `sink` with the result of each object, as soon as that is stored.
    #[must_use]
    pub fn on_object(mut self, sink: impl FnMut(&ObjectResult) + Send + 'static) -> Self {
        self.sink = Some(Box::new(sink));
        self
    }

    /// Changes the stored relation, if this session is still the last one of it.
    fn change_upstream(
        &self,
        cx: &SessionContext<'_>,
        session: i64,
        change: impl Fn(&mut Upstream),
    ) -> Result<Upstream> {
        cx.store.transact(|transaction| {
            let mut upstream = self.current_upstream(transaction, session)?;
            change(&mut upstream);
            put_upstream(transaction, &upstream)?;
            Ok(upstream)
        })
    }

    /// The stored relation, if the session of this number is the last one of it.
    fn current_upstream(&self, snapshot: &dyn Snapshot, session: i64) -> Result<Upstream> {
        match Upstream::find(snapshot, &self.options.relation)? {
            Some(upstream) if upstream.session == session && upstream.paused != Some(true) => {
                Ok(upstream)
            }
            _ => Err(Error::new(
                ErrorKind::Relation,
                "another session has begun, or the relation was paused or ended",
            )),
        }
    }

    /// The number of this session; 0 before it has begun.
    fn session(&self) -> i64 {
        self.upstream
            .as_ref()
            .map_or(0, |upstream| upstream.session)
    }

    /// Ends the pass: everything up to the head was taken, and nobody wants to hear of more.
    fn finish(&mut self, cx: &SessionContext<'_>) -> Result<Step> {
        let upstream = self.change_upstream(cx, self.session(), |upstream| {
            upstream.counts.finished = true;
        })?;
        let mut report = std::mem::take(&mut self.report);
        report.counts = upstream.counts;
        self.upstream = None;
        Ok(Step::Done(Box::new(report)))
    }

    /// What a session does that has taken everything; `None` when it is time to ask again.
    fn rest(&mut self, cx: &SessionContext<'_>, ticket: Ticket) -> Result<Option<Step>> {
        let upstream = self.upstream.as_ref();
        // What could not be taken is asked for again from time to time, which a turned connection would not allow.
        let retries =
            self.options.every.is_some() && upstream.is_some_and(|upstream| upstream.retried > 0);
        if self.options.turns && !retries {
            let position = upstream.map(|upstream| upstream.cursor.clone());
            self.in_flight.push_back((ticket, InFlight::Turn));
            return crate::wire::turn::turn(position).map(Some);
        }
        let Some(every) = self.options.every else {
            return self.finish(cx).map(Some);
        };
        let next = *self
            .next_question
            .get_or_insert(Tick(cx.now.tick.0.saturating_add(every)));
        Ok((next > cx.now.tick).then_some(Step::Wait(Some(next))))
    }
}

fn put_upstream(transaction: &mut dyn Transaction, upstream: &Upstream) -> Result<()> {
    let (key, value) = upstream.entry()?;
    Ok(transaction.set_state(&key, value.as_deref())?)
}

impl Session for Follow {
    fn poll(&mut self, cx: &mut SessionContext<'_>, ticket: Ticket) -> Result<Step> {
        let step = self.step(cx, ticket);
        if let Err(error) = &step {
            // That this fails, too, would be no better reason.
            let _ = mend_after(cx.store, error);
        }
        step
    }

    fn answer(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        let begun = self.upstream.is_some();
        let session = self.session();
        let taken = self.take_response(cx, ticket, response);
        if let Err(error) = &taken {
            let _ = mend_after(cx.store, error);
            if begun {
                // Whoever looks at the relation sees why it stands; that this can't be stored would be no better reason.
                let why = error.to_string();
                let _ = self.change_upstream(cx, session, |upstream| {
                    upstream.error = Some(short(&why));
                });
            }
        }
        taken
    }
}

impl Follow {
    /// What is to be done next. A session that fails because something here has rotted ends, and the next one finds it right again, where it can be made
    /// anew.
    fn step(&mut self, cx: &mut SessionContext<'_>, ticket: Ticket) -> Result<Step> {
        if self.upstream.is_none() {
            self.begin(cx, 0)?;
        }
        if self.giving_back.is_some() {
            if !self.in_flight.is_empty() {
                return Ok(Step::Wait(None));
            }
            return self.give_back(cx, ticket);
        }
        if self.in_flight.is_empty() {
            let poked = self.poked.swap(false, Ordering::SeqCst) | std::mem::take(&mut self.turned);
            if self.reached == Reached::Head
                && !poked
                && let Some(step) = self.rest(cx, ticket)?
            {
                return Ok(step);
            }
            self.next_question = None;
            return self.ask(cx, ticket);
        }
        if self.asks_ahead && self.in_flight.len() < self.options.in_flight {
            return self.ask_ahead(ticket);
        }
        Ok(Step::Wait(None))
    }
}
