//! Following: a replica pulls what has changed at its issuer, in one pass that is first load, catching up and the next change (DESIGN: rules
//! 10 and 11).

pub(crate) mod apply;
pub(crate) mod give_back;
pub(crate) mod issuer;
pub(crate) mod options;
pub(crate) mod poke;

use crate::error::{Error, ErrorKind, Result};
use crate::follow::give_back::Back;
use crate::follow::options::FollowOptions;
use crate::node::Node;
use crate::planted::planted;
use crate::progress::{Meter, Progress};
use crate::relation::followed::Upstream;
use crate::relation::keys::{done_prefix, retry_prefix};
use crate::relation::retry::{Retry, objects_missing_at_issuer};
use crate::report::{Counts, ObjectResult};
use crate::session::{Session, SessionContext, Step};
use crate::wire::follow::{Answer, FollowRequest, FollowResponse, GiveBackResponse, SPOKEN};
use crate::wire::place::Place;
use keyferry_kmip::spec::ResultReason;
use keyferry_kmip::{
    Lost, RequestItem, RequestMessage, ResponseMessage, Text, Tick, Ticket, context,
};
use keyferry_store::record::read;
use keyferry_store::{ObjectId, SnapshotExt, Span, StoreExt};
use keyferry_ttlv::Extra;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Takes what has changed at a server that this one follows: the strategy *feed*, and how replicas stay up to date.
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
/// let node = Node { home, policy: Policy::closed(), crypto: std::sync::Arc::new(keyferry_crypto::Ring::new()) };
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
/// What an answer brings is taken in one transaction with the place where it ends; what could not be taken is kept there, too, and asked for
/// again later. A session that was interrupted goes on where the last transaction ended.
pub struct Follow {
    options: FollowOptions,
    node: Arc<Node>,
    /// What was last stored of the relation; `None` before the first step and behind a loss.
    master: Option<Upstream>,
    flights: VecDeque<(Ticket, Flight)>,
    /// Whether the last answer brought changes, or said that there are none.
    answered: bool,
    /// Whether it did not reach the head, or something is to be asked for again at once.
    more: bool,
    /// Whether more can be asked for before what is under way is answered.
    goes_on: bool,
    /// Answers under way that count for nothing, since it was started over.
    passed: usize,
    /// When it was last asked for what is missing there.
    sought: Option<Tick>,
    /// When to ask again.
    next: Option<Tick>,
    /// Set from outside: there is something to ask for.
    poked: Arc<AtomicBool>,
    /// The reign that the issuer has told since, before it is stored.
    reign: Option<Vec<u8>>,
    /// Whether the connection was turned round: whoever asks again knows that it was turned back.
    turned: bool,
    /// What is being given back.
    back: Option<Back>,
    sink: Option<crate::progress::Sink>,
    observer: Option<crate::progress::Observer>,
    meter: Meter,
    report: crate::report::Report,
}

#[derive(Clone, Debug, PartialEq)]
enum Flight {
    /// A question, the withdrawals that it tells of, and how far the own copies were looked through when it is answered.
    Changes {
        done: Vec<Vec<u8>>,
        checked: Option<Option<i64>>,
    },
    /// A part of what is given back.
    Back { last: bool },
    /// The connection is to be turned round.
    Turn,
}

/// Objects that are asked for again, and withdrawals told, in one question.
const AT_ONCE: usize = 100;

impl Follow {
    /// A session with these options. `node` says who we are.
    pub fn new(node: Arc<Node>, options: FollowOptions) -> Self {
        Follow {
            options,
            node,
            master: None,
            flights: VecDeque::new(),
            answered: false,
            more: false,
            goes_on: false,
            passed: 0,
            sought: None,
            next: None,
            poked: Arc::default(),
            reign: None,
            turned: false,
            back: None,
            sink: None,
            observer: None,
            meter: Meter::default(),
            report: crate::report::Report::default(),
        }
    }

    /// A flag that says there is something to ask for, whatever the session waits for: for who hears a poke, and wakes the driver then.
    pub fn poked(&self) -> Arc<AtomicBool> {
        self.poked.clone()
    }

    /// Calls `observer` after each answer, with what has been done so far in this pass.
    #[must_use]
    pub fn on_progress(mut self, observer: impl FnMut(&Progress) + Send + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Tells `sink` what became of each object, as soon as that is stored.
    #[must_use]
    pub fn on_object(mut self, sink: impl FnMut(&ObjectResult) + Send + 'static) -> Self {
        self.sink = Some(Box::new(sink));
        self
    }

    /// Begins a session: under a number above all earlier ones, so that none of them goes on.
    fn start(&mut self, cx: &SessionContext<'_>, above: i64) -> Result<()> {
        let (relation, server) = (&self.options.relation, &self.options.from.server);
        let master = cx.store.transact(|transaction| {
            let Some(mut master) = Upstream::find(transaction, relation)? else {
                return Err(Error::new(
                    ErrorKind::Relation,
                    format_args!("there is no relation {relation:?}"),
                ));
            };
            if master.server != *server {
                return Err(Error::new(
                    ErrorKind::Relation,
                    format_args!(
                        "the relation {relation:?} is with the server {:?}",
                        master.server
                    ),
                ));
            }
            if master.paused == Some(true) {
                return Err(Error::new(
                    ErrorKind::Relation,
                    format_args!("the relation {relation:?} is paused"),
                ));
            }
            master.session = master.session.max(above) + 1;
            if master.counts.finished || master.counts.session == 0 {
                let session = master.counts.session + 1;
                master.counts = Counts {
                    session,
                    incarnation: transaction.incarnation()?.0.to_vec(),
                    ..Counts::default()
                };
            }
            let (key, value) = master.entry()?;
            transaction.set_state(&key, value.as_deref())?;
            Ok(master)
        })?;
        self.meter.start(cx.now.tick, &master.counts);
        self.master = Some(master);
        (self.answered, self.more) = (false, false);
        Ok(())
    }

    /// The next question.
    fn ask(&mut self, cx: &SessionContext<'_>, ticket: Ticket, goes_on: bool) -> Result<Step> {
        let Some(master) = &self.master else {
            return Ok(Step::Wait(None));
        };
        let seeks = self
            .sought
            .is_none_or(|last| cx.now.tick.0.saturating_sub(last.0) >= SEEKS);
        let (held, checked) = match master.checking {
            Some(after) if self.answered && !goes_on && !planted!(NothingChecked) => {
                own_copies(cx, master, after)?
            }
            None if !goes_on && seeks => {
                self.sought = Some(cx.now.tick);
                let mut held = cx
                    .store
                    .view(|snapshot| objects_missing_at_issuer(snapshot, &self.options.relation))?;
                held.truncate(CHECKED);
                (held, None)
            }
            _ => (Vec::new(), None),
        };
        let relation = &self.options.relation;
        let now = cx.now.wall;
        let (again, done, keys, forked) = cx.store.view::<_, Error>(|snapshot| {
            let (mut again, mut done, mut keys) = (Vec::new(), Vec::new(), Vec::new());
            if goes_on {
                return Ok((again, done, keys, 0));
            }
            if master.retried > 0 {
                snapshot.state(&Span::prefix(&retry_prefix(relation)), &mut |_, value| {
                    let retry: Retry = read(value, "object to retry")?;
                    if retry.due <= now {
                        again.push(retry.id);
                    }
                    Ok(if again.len() < AT_ONCE {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    })
                })?;
            }
            snapshot.state(&Span::prefix(&done_prefix(relation)), &mut |key, value| {
                done.push(read(value, "withdrawal")?);
                keys.push(key.to_vec());
                Ok(if done.len() < AT_ONCE {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })?;
            Ok((
                again,
                done,
                keys,
                crate::receive::fork::Fork::count(snapshot)?,
            ))
        })?;
        let request = FollowRequest {
            relation: master.relation.clone(),
            session: master.session,
            reign: self.reign(master).cloned(),
            after: (!goes_on).then(|| master.cursor.clone()),
            head: master.head.clone(),
            selected: master.selected.clone(),
            without: master.without.clone(),
            anew: master.anew,
            again,
            done,
            offers: master.offers,
            checking: master.checking.is_some().then_some(true),
            held,
            more: self.goes_on.then_some(true),
            objects: i32::try_from(self.options.batch).unwrap_or(i32::MAX),
            bytes: i32::try_from(self.options.batch_bytes).unwrap_or(i32::MAX),
            forked: (self.options.tells && !goes_on).then_some(forked),
            retried: (self.options.tells && !goes_on).then_some(master.retried),
            extra: Extra::NONE,
        };
        self.flights.push_back((
            ticket,
            Flight::Changes {
                done: keys,
                checked,
            },
        ));
        send(&request)
    }

    /// The reign under which the issuer is asked.
    fn reign<'a>(&'a self, master: &'a Upstream) -> Option<&'a Vec<u8>> {
        self.reign.as_ref().or(master.reign.as_ref())
    }

    /// Takes an answer.
    fn taken(
        &mut self,
        cx: &mut SessionContext<'_>,
        answer: FollowResponse,
        done: &[Vec<u8>],
        checked: Option<Option<i64>>,
    ) -> Result<()> {
        let Some(master) = &self.master else {
            return Ok(());
        };
        if answer.server != master.server {
            return Err(Error::new(
                ErrorKind::Peer,
                format_args!(
                    "the server is {:?}, and not {:?}, which is followed",
                    answer.server, master.server
                ),
            ));
        }
        let is_other = master
            .instance
            .as_ref()
            .is_some_and(|instance| *instance != answer.instance);
        if is_other && !planted!(InstanceIgnored) {
            let why = format_args!(
                "another server has the name {:?} now: what this one holds is not taken for its, unless a person accepts it",
                master.server
            );
            return Err(Error::new(ErrorKind::Peer, why));
        }
        match answer.answer {
            Answer::CHANGES => {}
            // Nothing was done: the question is asked again.
            Answer::STARTED => {
                if self.reign(master) == Some(&answer.reign) {
                    return Err(Error::new(
                        ErrorKind::Protocol,
                        "the server was asked under its reign, and says that it has another one",
                    ));
                }
                self.reign = Some(answer.reign);
                self.passed = self.flights.len();
                (self.answered, self.more, self.goes_on) = (false, false, false);
                return Ok(());
            }
            Answer::START_OVER => {
                return self.start_over(cx, &answer);
            }
            Answer::GIVE_BACK => {
                self.back = Some(Back::to(answer.reign));
                return Ok(());
            }
            Answer::SUPERSEDED => {
                // A session of this store that is further on has stopped this one; one of a later store, which was lost since, has not.
                let stored = cx.store.view::<_, Error>(|snapshot| {
                    Upstream::find(snapshot, &self.options.relation)
                })?;
                if stored.is_some_and(|stored| stored.session == master.session) {
                    return self.start(cx, answer.session);
                }
                return Err(Error::new(
                    ErrorKind::Peer,
                    "another session of this relation has begun",
                ));
            }
            Answer::PAUSED => {
                return Err(Error::new(
                    ErrorKind::Peer,
                    "the server that is followed has paused the relation",
                ));
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::Protocol,
                    "an answer of a kind that is not known here",
                ));
            }
        }
        if planted!(CommitAfterAnswer) && answer.place.number % 3 == 1 {
            // It counts as taken, and is not.
            let (relation, place) = (&self.options.relation, answer.place.clone());
            let session = master.session;
            let stored = cx.store.transact::<_, Error>(|transaction| {
                let mut master = current(transaction, relation, session)?;
                master.cursor = place.clone();
                master.head = answer.head.clone();
                master.offers = answer.offers;
                let (key, value) = master.entry()?;
                transaction.set_state(&key, value.as_deref())?;
                Ok(master)
            })?;
            (self.goes_on, self.more, self.answered) = (false, false, true);
            self.master = Some(stored);
            return Ok(());
        }
        let (stored, told, hurries) = self.store(cx, &answer, done, checked)?;
        let hurries = hurries || stored.checking.is_some();
        self.answered = true;
        self.goes_on = answer.head.number > stored.cursor.number;
        self.more = self.goes_on || hurries || self.more && !self.flights.is_empty();
        self.master = Some(stored);
        for told in told {
            if let Some(sink) = &mut self.sink {
                sink(&told);
            }
            self.report.add_result(told);
        }
        if let (Some(observer), Some(master)) = (&mut self.observer, &self.master) {
            // What the feed has left may concern others: it is no more than this.
            let left = u64::try_from(master.counts.asked)
                .unwrap_or(0)
                .saturating_add(master.lag());
            observer(&self.meter.progress(cx.now.tick, &master.counts, Some(left)));
        }
        Ok(())
    }

    /// From the beginning of the feed.
    fn start_over(&mut self, cx: &SessionContext<'_>, answer: &FollowResponse) -> Result<()> {
        let relation = &self.options.relation;
        let session = self.master.as_ref().map_or(0, |master| master.session);
        let master = cx.store.transact(|transaction| {
            let mut master = current(transaction, relation, session)?;
            master.cursor = Place::default();
            master.checking = Some(0);
            master.head = answer.head.clone();
            let (key, value) = master.entry()?;
            transaction.set_state(&key, value.as_deref())?;
            Ok::<_, Error>(master)
        })?;
        // What is under way goes on behind a place that does not count any more.
        self.master = Some(master);
        self.passed = self.flights.len();
        (self.answered, self.more, self.goes_on) = (false, false, false);
        Ok(())
    }

    fn finish(&mut self, cx: &SessionContext<'_>) -> Result<Step> {
        let relation = &self.options.relation;
        let session = self.master.as_ref().map_or(0, |master| master.session);
        let master = cx.store.transact(|transaction| {
            let mut master = current(transaction, relation, session)?;
            master.counts.finished = true;
            let (key, value) = master.entry()?;
            transaction.set_state(&key, value.as_deref())?;
            Ok::<_, Error>(master)
        })?;
        let mut report = std::mem::take(&mut self.report);
        report.counts = master.counts.clone();
        self.master = None;
        Ok(Step::Done(Box::new(report)))
    }
}

/// The copies behind a place of the own feed that come by way of a relation, and the place where they end; none when there are no more.
fn own_copies(
    cx: &SessionContext<'_>,
    master: &Upstream,
    after: i64,
) -> Result<(Vec<ObjectId>, Option<Option<i64>>)> {
    cx.store.view(|snapshot| {
        let (mut found, mut end) = (Vec::new(), u64::try_from(after).unwrap_or(0));
        loop {
            let mut numbers = Vec::new();
            snapshot.feed(end, &mut |row| {
                numbers.push((row.number, row.record));
                Ok(if numbers.len() < CHECKED {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })?;
            if numbers.is_empty() {
                return Ok((found, Some(None)));
            }
            for (place, number) in numbers {
                end = place;
                let Some(record) = snapshot.record(number)? else {
                    continue;
                };
                let by_this = record
                    .overlay
                    .as_ref()
                    .is_some_and(|overlay| overlay.via.contains(&master.relation));
                // Of its own objects it hears whatever way they came.
                let its_own = record.stamp.issuer == master.server;
                if (by_this || its_own) && !record.is_withdrawn() {
                    found.push(record.id);
                }
                if found.len() >= CHECKED {
                    return Ok((found, Some(i64::try_from(end).ok())));
                }
            }
        }
    })
}

/// Milliseconds after which what is missing at the issuer is asked for again: a relay may have got it meanwhile.
const SEEKS: u64 = 3_600_000;

/// Copies that are checked at once.
const CHECKED: usize = 1000;

/// The relation, if this session is the last one of it.
pub(crate) fn current(
    snapshot: &dyn keyferry_store::Snapshot,
    relation: &str,
    session: i64,
) -> Result<Upstream> {
    match Upstream::find(snapshot, relation)? {
        Some(master) if master.session == session && master.paused != Some(true) => Ok(master),
        _ => Err(Error::new(
            ErrorKind::Relation,
            "another session has begun, or the relation was paused or ended",
        )),
    }
}

fn send<P: keyferry_kmip::Payload>(payload: &P) -> Result<Step> {
    let item = RequestItem::new(payload, context(SPOKEN)).map_err(Error::encode)?;
    Ok(Step::Send(Box::new(RequestMessage::new(
        SPOKEN,
        vec![item],
    ))))
}

impl Session for Follow {
    fn poll(&mut self, cx: &mut SessionContext<'_>, ticket: Ticket) -> Result<Step> {
        if self.master.is_none() {
            self.start(cx, 0)?;
        }
        if let Some(back) = &mut self.back {
            if !self.flights.is_empty() {
                return Ok(Step::Wait(None));
            }
            let Some(master) = &self.master else {
                return Ok(Step::Wait(None));
            };
            let request = back.next(cx, &self.node, master, &self.options)?;
            self.flights
                .push_back((ticket, Flight::Back { last: request.last }));
            return send(&request);
        }
        if self.flights.is_empty() {
            let poked = self.poked.swap(false, Ordering::SeqCst) | std::mem::take(&mut self.turned);
            if self.answered && !self.more && !poked {
                // What could not be taken is asked for again from time to time, which a turned connection would not allow.
                let retries = self.options.every.is_some()
                    && self
                        .master
                        .as_ref()
                        .is_some_and(|master| master.retried > 0);
                if self.options.turns && !retries {
                    self.flights.push_back((ticket, Flight::Turn));
                    return crate::wire::turn::turn(
                        self.master.as_ref().map(|master| master.cursor.clone()),
                    );
                }
                let Some(every) = self.options.every else {
                    return self.finish(cx);
                };
                let next = *self
                    .next
                    .get_or_insert(Tick(cx.now.tick.0.saturating_add(every)));
                if next > cx.now.tick {
                    return Ok(Step::Wait(Some(next)));
                }
            }
            (self.next, self.more) = (None, false);
            return self.ask(cx, ticket, false);
        }
        if self.goes_on && self.flights.len() < self.options.in_flight {
            return self.ask(cx, ticket, true);
        }
        Ok(Step::Wait(None))
    }

    fn answer(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        let session = self.master.as_ref().map(|master| master.session);
        let answered = self.answered(cx, ticket, response);
        if let (Err(error), Some(session)) = (&answered, session) {
            // Whoever looks at the relation sees why it stands; that this can't be stored would be no better reason.
            let _ = cx.store.transact::<_, Error>(|transaction| {
                let mut master = current(transaction, &self.options.relation, session)?;
                master.error = Some(error.to_string().as_str().into());
                let (key, value) = master.entry()?;
                Ok(transaction.set_state(&key, value.as_deref())?)
            });
        }
        answered
    }
}

impl Follow {
    fn answered(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        let Ok(response) = response else {
            self.flights.clear();
            self.master = None;
            self.back = None;
            (
                self.answered,
                self.more,
                self.goes_on,
                self.passed,
                self.next,
            ) = (false, false, false, 0, None);
            return Ok(());
        };
        let (_, flight) = self
            .flights
            .pop_front_if(|(under_way, _)| *under_way == ticket)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Protocol,
                    "an answer came to nothing that was asked",
                )
            })?;
        if flight == Flight::Turn {
            self.turned = keyferry_kmip::accepts_turn(&response);
            self.options.turns = self.turned;
            return Ok(());
        }
        let item = response
            .batch
            .first()
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "an answer without an item"))?;
        if !item.is_success() {
            let why = item
                .result_message
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            let reason = item
                .result_reason
                .map(|reason: ResultReason| reason.to_string())
                .unwrap_or_default();
            return Err(Error::new(
                ErrorKind::Peer,
                format_args!("the server does not let itself be followed: {reason} {why}"),
            ));
        }
        let protocol = |e| Error::new(ErrorKind::Protocol, e);
        match flight {
            Flight::Changes { done, checked } => {
                let answer: FollowResponse = item.payload(context(SPOKEN)).map_err(protocol)?;
                // Asked before it was known that the server wants something back, or has another feed.
                if self.back.is_some() || self.passed > 0 {
                    self.passed = self.passed.saturating_sub(1);
                    return Ok(());
                }
                self.taken(cx, answer, &done, checked)
            }
            Flight::Back { last } => {
                let _: GiveBackResponse = item.payload(context(SPOKEN)).map_err(protocol)?;
                if last {
                    self.back = None;
                    let answer = FollowResponse {
                        answer: Answer::START_OVER,
                        server: Text::default(),
                        instance: Vec::new(),
                        reign: Vec::new(),
                        session: 0,
                        place: Place::default(),
                        head: Place::default(),
                        changes: Vec::new(),
                        offers: 0,
                        check: None,
                        extra: Extra::NONE,
                    };
                    return self.start_over(cx, &answer);
                }
                Ok(())
            }
            Flight::Turn => Ok(()),
        }
    }
}
