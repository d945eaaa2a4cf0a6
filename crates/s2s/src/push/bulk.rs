pub(crate) mod answers;

use crate::error::{Error, ErrorKind, Result};
use crate::material::transit::{on_its_way, reason_withheld};
use crate::node::Node;
use crate::outgoing::feed::FeedPage;
use crate::outgoing::item::{SendOptions, Strategy, carried, planned_item};
use crate::policy::Wrapping;
use crate::progress::Progress;
use crate::push::bulk::answers::{existing, held, peer, told, told_of_existing};
use crate::push::publish::steps::is_usable;
use crate::push::publish::{Birth, NOT_KEPT, Publish, Setting};
use crate::relation::keys;
use crate::report::ObjectResult;
use crate::selection::{ChosenObjects, Selection};
use crate::session::{Session, SessionContext, Step};
use crate::transfer::ledger::Ledger;
use crate::transfer::plan::{Planned, Purpose};
use crate::wire::copy::Expected;
use keyferry_kmip::spec::{BatchErrorContinuationOption, Operation, QueryFunction, ResultReason};
use keyferry_kmip::{
    Lost, Object, QueryRequest, RequestItem, RequestMessage, ResponseItem, ResponseMessage, Text,
    Ticket, context,
};
use keyferry_store::{ObjectId, Record, StoreExt};
use keyferry_ttlv::{Extra, Version};
use std::collections::VecDeque;
use std::io::{Read, Seek, Write};
use std::sync::Arc;

/// How a bulk session goes about it.
#[derive(Clone, Debug)]
pub struct BulkOptions {
    /// Names the transfer in our store: its cursor and counts are kept under it, usually the peer's server id.
    pub name: String,
    /// By which operation.
    pub strategy: Strategy,
    /// In which version.
    pub version: Version,
    /// Which objects (all).
    pub selection: Selection,
    /// Whether to find out what would become of each object, and write nothing on either side. A foreign peer is asked whether it has an
    /// object of the identifier.
    pub dry_run: bool,
    /// Objects in a message at the most (250).
    pub batch: usize,
    /// Bytes of material and attributes in a message, about (512 KiB).
    pub batch_bytes: usize,
    /// Messages under way at the most (16).
    pub in_flight: usize,
    /// Messages whose progress is stored in one transaction (8). What is not stored yet is sent again after a crash, and found unchanged.
    pub group: usize,
    /// Whether what is destroyed here is destroyed at a peer that is no keyferry server, too, where we have put it (true). Otherwise it is
    /// revoked there. A keyferry server decides for itself.
    pub may_destroy: bool,
}

impl BulkOptions {
    /// The usual ones.
    pub fn new(name: impl Into<String>, strategy: Strategy) -> Self {
        BulkOptions {
            name: name.into(),
            strategy,
            version: strategy.version(),
            selection: Selection::everything(),
            dry_run: false,
            batch: 250,
            batch_bytes: 512 * 1024,
            in_flight: 16,
            group: 8,
            may_destroy: true,
        }
    }
}

impl BulkOptions {
    fn purpose(&self) -> Result<Purpose<'_>> {
        let strategy = match self.strategy {
            Strategy::Import => "import",
            Strategy::Put => "put",
        };
        Ok(Purpose {
            name: &self.name,
            strategy,
            version: self.version,
            selection: self.selection.digest()?,
        })
    }
}

/// Objects of a message, with what is planned for them, and the feed number behind which they end.
type Gathered = (Vec<(Record, Option<Object>, Option<Planned>)>, u64);

/// Sends the selected objects of our store to a peer: one pass over the feed, from the stored cursor to the head.
///
/// A finished transfer starts over when it is run again, and finds unchanged what the peer has. One that was interrupted goes on
/// where its last stored group ended.
///
/// To a peer that is no keyferry server, Import goes as [`Register`](crate::Register) does: behind a stored intent, after a probe
/// where a key is not usable, led to its State and read back; and what was brought there before is brought up to date. Put carries each
/// object once, and no key that is not usable.
pub struct Bulk {
    options: BulkOptions,
    ledger: Ledger,
    chosen: Option<ChosenObjects>,
    /// How far the feed was read; ahead of the cursor by what is under way.
    ahead: u64,
    peer: Peer,
    flights: VecDeque<Flight>,
    /// Messages answered since progress was stored.
    unsaved: usize,
    wrapping: Option<(Arc<Node>, Wrapping)>,
    /// What goes on instead, once the peer is seen to be no keyferry server.
    publish: Option<Box<Publish>>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Peer {
    Unknown,
    Asked,
    Known { keyferry: bool },
}

struct Flight {
    ticket: Ticket,
    /// The feed number behind which this message's entries end; `None` for the opening question.
    end: Option<u64>,
    objects: Vec<Outgoing>,
    bytes: usize,
}

impl Flight {
    /// How many items ask about objects.
    fn items(&self) -> usize {
        self.objects
            .iter()
            .filter(|object| object.refused.is_none())
            .count()
    }
}

/// An object on its way.
struct Outgoing {
    identifier: Text,
    id: ObjectId,
    /// The digest of what is sent, where a plan wants to know.
    digest: Option<Vec<u8>>,
    /// What it loses on the way.
    lost: Vec<String>,
    /// Why it stays here.
    refused: Option<ObjectResult>,
}

/// About what a message may hold: what receivers take by default, less its header.
const LARGEST: usize = keyferry_ttlv::Limits::DEFAULT.size - 4096;

/// About how many bytes an item adds to its message.
fn size(item: &RequestItem) -> usize {
    let extensions: usize = item
        .message_extensions
        .iter()
        .map(|extension| extension.vendor_extension.bytes().len() + 96)
        .sum();
    item.request_payload.bytes().len() + extensions + 64
}

impl Bulk {
    /// A session with these options.
    pub fn new(options: BulkOptions) -> Self {
        let ledger = Ledger::new(keys::bulk(&options.name), options.dry_run);
        Bulk {
            options,
            ledger,
            chosen: None,
            ahead: 0,
            peer: Peer::Unknown,
            flights: VecDeque::new(),
            unsaved: 0,
            wrapping: None,
            publish: None,
        }
    }

    /// Calls `observer` after each answer, and at the end, with how far it has come.
    #[must_use]
    pub fn on_progress(mut self, observer: impl FnMut(&Progress) + Send + 'static) -> Self {
        self.ledger.observer = Some(Box::new(observer));
        self
    }

    /// Tells `sink` what became of each object, as soon as that is known.
    #[must_use]
    pub fn on_object(mut self, sink: impl FnMut(&ObjectResult) + Send + 'static) -> Self {
        self.ledger.sink = Some(Box::new(sink));
        self
    }

    /// Finds out what would become of each object, as a dry run, and writes it to `sink` as a plan, which [`executing`](Bulk::executing) takes.
    /// Not for Put to a peer that is no keyferry server. A plan holds no key material; nobody but this store can make one for it.
    #[must_use]
    pub fn planning(mut self, sink: impl Write + Send + 'static) -> Self {
        self.ledger.plans(sink);
        self
    }

    /// Does what a plan says, and nothing else: it sends the objects that are planned, as they were when they were planned, one message after
    /// another, and the receiver checks inside its own write that it holds what it held then. At the first object of which that is not
    /// so the session stops, and the report says [where](crate::Report::stopped). A bad plan ends the session before anything is sent. An
    /// execution that was interrupted goes on where it was; what is there already as planned counts as done.
    ///
    /// A peer that is no keyferry server is looked at just before each object is sent, one by one: somebody else can still come in between.
    #[must_use]
    pub fn executing(mut self, plan: impl Read + Seek + Send + 'static) -> Self {
        self.ledger.executes(plan);
        self
    }

    /// Wraps key material for the way; what is Sensitive leaves then, too. `node` says who we are. Import alone tells a receiver to unwrap:
    /// with another strategy the session fails.
    #[must_use]
    pub fn wrapping(mut self, node: Arc<Node>, wrapping: Wrapping) -> Self {
        self.wrapping = Some((node, wrapping));
        self
    }

    /// Where the transfer stands, and which objects it is about.
    fn start(&mut self, cx: &SessionContext<'_>) -> Result<ChosenObjects> {
        let chosen = cx
            .store
            .view::<_, Error>(|snapshot| self.options.selection.choose(snapshot, cx.now.wall))?;
        let purpose = self.options.purpose()?;
        self.ledger.start(cx, &purpose)?;
        self.ledger
            .expect(|| cx.store.view(|snapshot| chosen.count(snapshot)))?;
        self.ahead = u64::try_from(self.ledger.report.counts.cursor).unwrap_or(0);
        Ok(chosen)
    }

    /// Starts over when the peer's store is another one than the cursor belongs to.
    fn know(&mut self, cx: &SessionContext<'_>, incarnation: Option<Vec<u8>>) -> Result<()> {
        if let Some(plan) = &self.ledger.executing {
            plan.check_peer(incarnation.as_ref())?;
        }
        if let Some(planning) = &mut self.ledger.planning {
            planning.begin(cx, &self.options.purpose()?, incarnation.clone())?;
        }
        if self.ledger.report.counts.peer.is_some() && self.ledger.report.counts.peer != incarnation
        {
            self.ledger.start_over();
            self.ahead = 0;
        }
        self.ledger.report.counts.peer = incarnation;
        Ok(())
    }

    /// A foreign peer is published to: it tells nothing by itself of what became of an object.
    fn hand_over(&mut self, operations: Vec<Operation>) -> Result<()> {
        let setting = Setting {
            name: self.options.name.clone(),
            birth: Birth::Import,
            version: self.options.version,
            selection: self.options.selection.clone(),
            batch: self.options.batch,
            batch_bytes: self.options.batch_bytes,
            may_destroy: self.options.may_destroy,
        };
        let mut publish = Publish::new(setting, std::mem::take(&mut self.ledger));
        publish.wrapping = self.wrapping.take();
        publish.offered(operations)?;
        self.publish = Some(Box::new(publish));
        Ok(())
    }

    fn save(&mut self, cx: &SessionContext<'_>) -> Result<()> {
        self.ledger.save(cx)?;
        self.unsaved = 0;
        Ok(())
    }

    fn ask(&mut self, ticket: Ticket) -> Result<Step> {
        let version = self.options.version;
        let query = QueryRequest {
            query_functions: vec![
                QueryFunction::QUERY_OPERATIONS,
                QueryFunction::QUERY_SERVER_INFORMATION,
            ],
            object_groups: None,
            extra: Extra::NONE,
        };
        let item = RequestItem::new(&query, context(version)).map_err(encode)?;
        self.peer = Peer::Asked;
        self.flights.push_back(Flight {
            ticket,
            end: None,
            objects: Vec::new(),
            bytes: 0,
        });
        Ok(Step::Send(Box::new(RequestMessage::new(
            version,
            vec![item],
        ))))
    }

    /// The next message's worth of the feed.
    fn next(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        keyferry: bool,
    ) -> Result<Option<Step>> {
        // A Put's header may not ask a foreign client to go on behind a failure (KMIP 1.4 §5.2): one object a message then.
        let batch = if self.options.strategy == Strategy::Put && !keyferry {
            1
        } else {
            self.options.batch
        };
        self.next_of(cx, ticket, keyferry, batch)
    }

    /// The objects of the next message; nothing at the end.
    fn gather(&mut self, cx: &SessionContext<'_>, batch: usize) -> Result<Option<Gathered>> {
        let most = self.options.batch_bytes;
        if let Some(plan) = &mut self.ledger.executing {
            let mut objects = Vec::new();
            let (mut size, mut moved) = (0, None);
            for planned in plan.next(batch)? {
                let (record, object) = match planned.source(cx)? {
                    Ok(source) => source,
                    Err(words) => {
                        moved = Some((planned, words));
                        break;
                    }
                };
                size += 600 + object.as_ref().map_or(0, Object::material_len);
                objects.push((record, object, Some(planned)));
                if size >= most {
                    break;
                }
            }
            // What stands before it goes first.
            if let Some((planned, (was, found))) = moved.filter(|_| objects.is_empty()) {
                self.ledger.stop(&planned, was, found);
            }
            return Ok((!objects.is_empty()).then_some((objects, 0)));
        }
        let chosen = match self.chosen.take() {
            Some(chosen) => chosen,
            None => self.start(cx)?,
        };
        let stretch = FeedPage::read(
            cx.store,
            self.ahead,
            batch,
            most,
            &chosen,
            &mut |_, _, _| Ok(false),
        );
        self.chosen = Some(chosen);
        let with_no_plan = |(_, record, object)| (record, object, None);
        Ok(stretch?.map(|stretch| {
            (
                stretch.objects.into_iter().map(with_no_plan).collect(),
                stretch.end,
            )
        }))
    }

    /// The same, of so many objects at the most; fewer when they would not fit a message.
    fn next_of(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        keyferry: bool,
        batch: usize,
    ) -> Result<Option<Step>> {
        let Some((gathered, end)) = self.gather(cx, batch)? else {
            return Ok(None);
        };
        let terms = SendOptions {
            strategy: self.options.strategy,
            version: self.options.version,
            keyferry,
            session: Some(self.ledger.report.counts.session),
            dry_run: self.ledger.dry_run,
            wrapped: false,
        };
        if self.wrapping.is_some() && terms.strategy != Strategy::Import {
            return Err(Error::new(
                ErrorKind::Peer,
                "only Import can say that a key was wrapped for its way",
            ));
        }
        let several = gathered.len() / 2;
        let (mut items, mut objects) = (Vec::new(), Vec::new());
        for (record, object, planned) in gathered {
            let mut outgoing = Outgoing {
                identifier: record.identifier.clone(),
                id: record.id.clone(),
                digest: if self.ledger.planning.is_some() {
                    Some(record.copy_digest()?)
                } else {
                    None
                },
                lost: if keyferry {
                    Vec::new()
                } else {
                    carried(&record.attributes, terms.version).1
                },
                refused: None,
            };
            let refused = |why: String| Some(ObjectResult::failed(&record.identifier, None, why));
            match self.item(cx, terms, &record, object, planned) {
                Ok(Ok(item)) => items.push(item),
                Ok(Err(why)) => outgoing.refused = refused(why.to_owned()),
                // What the version can't say stays here; the others go on.
                Err(error) if error.kind() == ErrorKind::Encode => {
                    outgoing.refused = refused(error.to_string())
                }
                Err(error) => return Err(error),
            }
            objects.push(outgoing);
        }
        let mut bytes = items.iter().map(size).sum();
        if bytes > LARGEST {
            if several > 0 {
                return self.next_of(cx, ticket, keyferry, several);
            }
            // This one alone is too large: it stays here, and the others go on.
            let message =
                format!("the object takes about {bytes} bytes, more than a message may have");
            for object in &mut objects {
                object.refused.get_or_insert_with(|| {
                    ObjectResult::failed(&object.identifier, None, message.clone())
                });
            }
            items.clear();
            bytes = 0;
        }
        self.ahead = end;
        self.flights.push_back(Flight {
            ticket,
            end: Some(end),
            objects,
            bytes,
        });
        if items.is_empty() {
            // Nothing to send: it counts as answered at once, when its turn comes.
            return Ok(Some(Step::Wait(None)));
        }
        let mut message = RequestMessage::new(terms.version, items);
        if message.batch.len() > 1 {
            // Behind what is not as planned, nothing is done.
            let planned = self.ledger.executing.is_some();
            let option = if planned {
                BatchErrorContinuationOption::STOP
            } else {
                BatchErrorContinuationOption::CONTINUE
            };
            message.header.batch_error_continuation_option = Some(option);
        }
        Ok(Some(Step::Send(Box::new(message))))
    }

    /// What is sent of an object, or why nothing is.
    fn item(
        &self,
        cx: &mut SessionContext<'_>,
        mut terms: SendOptions,
        record: &Record,
        object: Option<Object>,
        planned: Option<Planned>,
    ) -> Result<std::result::Result<RequestItem, &'static str>> {
        // Of what is destroyed there is no material that could leave.
        if let Some(why) =
            reason_withheld(record, self.wrapping.is_some()).filter(|_| !record.is_destroyed())
        {
            return Ok(Err(why));
        }
        // Nobody can see what becomes of its State where it is Put (DESIGN: rule 14).
        if !terms.keyferry && object.is_some() && !is_usable(record.state(cx.now.wall)) {
            return Ok(Err(NOT_KEPT));
        }
        // What was refused is asked about again, and must not be taken now.
        terms.dry_run |= planned
            .as_ref()
            .is_some_and(|planned| planned.outcome.is_failure());
        if terms.dry_run && !terms.keyferry {
            return existing(&record.identifier, terms.version).map(Ok);
        }
        let expected = planned.filter(|_| !terms.dry_run);
        let expected = expected.map(|planned| Expected {
            held: planned.held,
            outcome: planned.outcome,
            extra: Extra::NONE,
        });
        let (object, wrapped) =
            on_its_way(cx, self.wrapping.as_ref(), terms.version, record, object)?;
        planned_item(
            SendOptions { wrapped, ..terms },
            record.clone(),
            object,
            expected,
        )
        .map(Ok)
    }

    /// Counts what a message's answer says of each object, and moves the cursor behind it.
    fn count(&mut self, flight: Flight, items: &[ResponseItem]) -> Result<()> {
        let Some(end) = flight.end else { return Ok(()) };
        let asks_only = self.ledger.dry_run && matches!(self.peer, Peer::Known { keyferry: false });
        let planned = match &mut self.ledger.executing {
            Some(plan) => plan.next(flight.objects.len())?,
            None => Vec::new(),
        };
        let (mut items, mut planned, mut done) = (items.iter(), planned.into_iter(), 0);
        for outgoing in flight.objects {
            let identifier = &outgoing.identifier;
            let (told, item) = match outgoing.refused {
                Some(refused) => (refused, None),
                None => match items.next() {
                    Some(item) if asks_only => (told_of_existing(identifier, item), Some(item)),
                    Some(item) => (told(identifier, item, self.options.version)?, Some(item)),
                    // The peer stopped before it.
                    None => break,
                },
            };
            let mut told = ObjectResult {
                lost: if told.outcome.is_failure() {
                    Vec::new()
                } else {
                    outgoing.lost
                },
                ..told
            };
            if let Some(planned) = planned.next()
                && self.ledger.is_unplanned(&planned, &mut told)
            {
                break;
            }
            if self.ledger.planning.is_some() {
                let held = match item {
                    Some(item) if !told.outcome.is_failure() => Some(held(item)?),
                    _ => None,
                };
                let (id, digest, outcome) = (outgoing.id, outgoing.digest, told.outcome);
                self.ledger.plan(|| Planned {
                    id,
                    identifier: outgoing.identifier,
                    digest,
                    held,
                    outcome,
                    extra: Extra::NONE,
                })?;
            }
            done += 1;
            self.ledger.tell(told);
        }
        self.ledger.report.counts.bytes += i64::try_from(flight.bytes).unwrap_or(i64::MAX);
        if self.ledger.executing.is_some() {
            self.ledger.done(done);
        } else {
            self.ledger.report.counts.cursor = i64::try_from(end).unwrap_or(i64::MAX);
        }
        self.unsaved += 1;
        Ok(())
    }

    /// Counts messages at the front that had nothing to send.
    fn settle(&mut self) -> Result<()> {
        while let Some(flight) = self
            .flights
            .pop_front_if(|flight| flight.end.is_some() && flight.items() == 0)
        {
            self.count(flight, &[])?;
        }
        Ok(())
    }
}

impl Session for Bulk {
    fn poll(&mut self, cx: &mut SessionContext<'_>, ticket: Ticket) -> Result<Step> {
        if let Some(publish) = &mut self.publish {
            return publish.poll(cx, ticket);
        }
        if !self.ledger.is_started() {
            self.chosen = Some(self.start(cx)?);
        }
        let keyferry = match self.peer {
            Peer::Unknown => return self.ask(ticket),
            Peer::Asked => return Ok(Step::Wait(None)),
            Peer::Known { keyferry } => keyferry,
        };
        loop {
            self.settle()?;
            // Nothing is under way behind what may not be as planned.
            let in_flight = if self.ledger.executing.is_some() {
                1
            } else {
                self.options.in_flight
            };
            if self.flights.len() >= in_flight {
                return Ok(Step::Wait(None));
            }
            if self.ledger.report.stopped.is_some() {
                break;
            }
            match self.next(cx, ticket, keyferry)? {
                Some(Step::Wait(_)) => {}
                Some(step) => return Ok(step),
                None => break,
            }
        }
        if !self.flights.is_empty() {
            return Ok(Step::Wait(None));
        }
        self.ledger.end()?;
        self.save(cx)?;
        self.ledger.observe(cx.now);
        Ok(Step::Done(Box::new(self.ledger.finish())))
    }

    fn answer(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        if let Some(publish) = &mut self.publish {
            return publish.answer(cx, ticket, response);
        }
        let response = match response {
            Ok(response) => response,
            Err(_) => {
                // Nothing under way counts: go on behind what was answered, once there is a connection again.
                self.flights.clear();
                self.peer = Peer::Unknown;
                self.ahead = u64::try_from(self.ledger.report.counts.cursor).unwrap_or(0);
                return self.save(cx);
            }
        };
        self.settle()?;
        let flight = self
            .flights
            .pop_front_if(|flight| flight.ticket == ticket)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Protocol,
                    "an answer came to nothing that was asked",
                )
            })?;
        let expected = if flight.end.is_none() {
            1
        } else {
            flight.items()
        };
        // In a plan the peer stops at what is refused.
        let stops = self.ledger.executing.is_some()
            && (1..expected).contains(&response.batch.len())
            && response.batch.last().is_some_and(|item| !item.is_success());
        if response.batch.len() != expected && !stops {
            let why = response
                .batch
                .first()
                .and_then(|item| item.result_message.as_ref())
                .map(ToString::to_string)
                .unwrap_or_default();
            return Err(Error::new(
                ErrorKind::Protocol,
                format_args!(
                    "{expected} items were asked for and {} answered {why}",
                    response.batch.len()
                ),
            ));
        }
        if flight.end.is_none() {
            let (peer, incarnation, operations) =
                peer(self.options.strategy, self.options.version, &response)?;
            if peer == (Peer::Known { keyferry: false }) {
                if self.options.strategy == Strategy::Import {
                    return self.hand_over(operations);
                }
                if self.ledger.executing.is_some() || self.ledger.planning.is_some() {
                    return Err(Error::new(
                        ErrorKind::Plan,
                        "what a foreign peer is Put can't be planned",
                    ));
                }
            }
            self.peer = peer;
            return self.know(cx, incarnation);
        }
        if response.batch.len() > 1
            && response.batch.iter().all(|item| {
                matches!(
                    item.result_reason,
                    Some(ResultReason::GENERAL_FAILURE | ResultReason::INTERNAL_SERVER_ERROR)
                )
            })
        {
            // Not these objects are the trouble but the peer: what is behind the cursor is sent again another time. (One object alone may be.)
            self.save(cx)?;
            let why = response
                .batch
                .first()
                .and_then(|item| item.result_message.as_ref())
                .map_or("no reason given", |text| text.as_str());
            return Err(Error::new(
                ErrorKind::Peer,
                format_args!("the peer took nothing of a whole message: {why}"),
            ));
        }
        self.count(flight, &response.batch)?;
        self.settle()?;
        if self.unsaved >= self.options.group {
            self.save(cx)?;
        }
        self.ledger.observe(cx.now);
        Ok(())
    }
}

pub(crate) fn encode(error: keyferry_ttlv::Error) -> Error {
    Error::new(ErrorKind::Encode, error)
}
