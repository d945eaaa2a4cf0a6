//! The bulk session: one pass that sends selected objects to a peer by Import or Put, as one-off migrations and repeated pushes need it.

mod answers;
mod message;
mod pushed;
mod transport;

use crate::error::{Error, ErrorKind, Result};
use crate::node::Node;
use crate::outgoing::item::Strategy;
use crate::policy::Wrapping;
use crate::progress::Progress;
use crate::push::bulk::answers::{PeerAnswer, planned_from_answer};
use crate::push::bulk::message::NextMessage;
use crate::push::bulk::pushed::Pushed;
use crate::push::bulk::transport::Transport;
use crate::push::publish::{CreateBy, Publish, Setting};
use crate::relation::keys;
use crate::relation::receipts::Sender;
use crate::report::ObjectResult;
use crate::selection::{ChosenObjects, Selection};
use crate::session::{Session, SessionContext, Step};
use crate::transfer::ledger::Ledger;
use crate::transfer::plan::Purpose;
use keyferry_kmip::spec::{Operation, QueryFunction, ResultReason};
use keyferry_kmip::{
    Lost, QueryRequest, RequestItem, RequestMessage, ResponseItem, ResponseMessage, Text, Ticket,
    context,
};
use keyferry_store::{ObjectId, SnapshotExt, StoreExt};
use keyferry_ttlv::{Extra, Version};
use std::collections::VecDeque;
use std::fmt;
use std::io::{Read, Seek, Write};
use std::sync::Arc;

/// Options of a bulk session.
#[derive(Clone, Debug)]
pub struct BulkOptions {
    /// The name of the transfer in this store, usually the peer's server id: its cursor and counts are kept under it.
    pub name: String,
    /// The operation that carries the objects.
    pub strategy: Strategy,
    /// The version that is spoken.
    pub version: Version,
    /// The objects to send (all).
    pub selection: Selection,
    /// Whether the session only finds out what would become of each object, and writes nothing on either side (false). A foreign peer is asked
    /// whether it has an object of the identifier.
    pub dry_run: bool,
    /// The largest number of objects in a message (250).
    pub batch: usize,
    /// About how many bytes of material and attributes a message may have (512 KiB).
    pub batch_bytes: usize,
    /// The largest number of messages under way (16).
    pub in_flight: usize,
    /// The number of messages whose progress is stored in one transaction (8). What is not stored yet is sent again after a crash, and found
    /// unchanged.
    pub group: usize,
    /// Whether an object that is destroyed here is destroyed at a foreign peer, too, where this transfer has put it (true). Otherwise it is
    /// revoked there. A keyferry server decides for itself.
    pub may_destroy: bool,
}

impl BulkOptions {
    /// Makes the usual options.
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

/// A session that sends the selected objects of this store to a peer: one pass over the feed, from the stored cursor to the head.
///
/// A finished transfer starts over when it is run again, and finds unchanged what the peer has. An interrupted transfer continues where its last
/// stored group of messages ended.
///
/// A keyferry server goes on hearing of what this transfer has sent to it: of an object that is selected and may not leave any more, and of one that is
/// selected no more and was deactivated, compromised or destroyed, the State and the attributes go, without the material
/// ([rule 17](crate::design#rule-17)). A plan has what is selected alone.
///
/// To a foreign peer, Import works as [`Register`](crate::Register) does: it stores an intent first, sends a probe before a key that is not usable,
/// brings each object to its State, and reads it back; and it brings up to date what was brought there before. Put carries each object once, and no
/// key that is not usable.
pub struct Bulk {
    options: BulkOptions,
    ledger: Ledger,
    chosen: Option<ChosenObjects>,
    /// The feed number up to which the feed was read. It is ahead of the cursor by what is under way.
    read_up_to: u64,
    peer: Peer,
    flights: VecDeque<Flight>,
    /// The number of messages that were answered since progress was stored.
    unsaved: usize,
    wrapping: Option<(Arc<Node>, Wrapping)>,
    transport: Transport,
    /// What makes the receipts of what is sent; `None` until the peer is known, and for a store without a home.
    sender: Option<Sender>,
    /// The session that does the work instead, once the peer is known to be a foreign one.
    publish: Option<Box<Publish>>,
    /// What the peer was sent, now and earlier.
    pushed: Pushed,
}

impl fmt::Debug for Bulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulk")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What is known of the peer.
#[derive(Clone, Copy, Debug)]
enum Peer {
    Unknown,
    /// Query is under way.
    Asked,
    Known {
        keyferry: bool,
    },
}

/// A message under way.
struct Flight {
    ticket: Ticket,
    content: Content,
}

/// What a message under way is about.
enum Content {
    /// Query: what the peer can do.
    Query,
    /// The transport key.
    Transport,
    Objects(Batch),
}

/// The objects of a message.
struct Batch {
    /// The feed number of the last entry.
    end: u64,
    objects: Vec<Outgoing>,
    bytes: usize,
}

impl Batch {
    /// The number of items that were sent of it.
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
    /// The digest of what is sent, if a plan is written.
    digest: Option<Vec<u8>>,
    /// The names of the attributes that the message can't carry.
    lost: Vec<String>,
    /// Why the object is not sent, if it is not.
    refused: Option<ObjectResult>,
    /// Whether it goes without its material, because the peer may not have that, or not any more.
    without_material: bool,
}

impl Bulk {
    /// Makes a session with these options.
    pub fn new(options: BulkOptions) -> Self {
        let ledger = Ledger::new(keys::bulk(&options.name), options.dry_run);
        Bulk {
            pushed: Pushed::to(&options.name, None, None),
            options,
            ledger,
            chosen: None,
            read_up_to: 0,
            peer: Peer::Unknown,
            flights: VecDeque::new(),
            unsaved: 0,
            wrapping: None,
            transport: Transport::None,
            sender: None,
            publish: None,
        }
    }

    /// Calls `observer` after each answer, and at the end, with how far the transfer has come.
    #[must_use]
    pub fn on_progress(mut self, observer: impl FnMut(&Progress) + Send + 'static) -> Self {
        self.ledger.observer = Some(Box::new(observer));
        self
    }

    /// Calls `sink` with what became of each object, as soon as that is known.
    #[must_use]
    pub fn on_object(mut self, sink: impl FnMut(&ObjectResult) + Send + 'static) -> Self {
        self.ledger.sink = Some(Box::new(sink));
        self
    }

    /// Makes the session a dry run that writes a plan to `sink`: what would become of each object. [`executing`](Bulk::executing) takes the plan.
    /// Put to a foreign peer can't be planned. A plan has no key material; only this store can make one for itself.
    #[must_use]
    pub fn planning(mut self, sink: impl Write + Send + 'static) -> Self {
        self.ledger.write_plan(sink);
        self
    }

    /// Makes the session execute a plan, and do nothing else: it sends the planned objects as they were when they were planned, one message after
    /// another, and the receiver checks inside its own write that it holds what it held then. At the first object that is not as planned the session
    /// stops, and the report says [where](crate::Report::stopped). A bad plan ends the session before anything is sent. An interrupted execution
    /// continues where it was; an object that is at the peer already as planned counts as done.
    ///
    /// At a foreign peer each object is looked at just before it is sent, one by one: somebody else can still come in between.
    #[must_use]
    pub fn executing(mut self, plan: impl Read + Seek + Send + 'static) -> Self {
        self.ledger.execute_plan(plan);
        self
    }

    /// Wraps key material for the way; keys that are Sensitive are sent, too, then. `node` says who this server is. Import alone tells a receiver to
    /// unwrap: with another strategy the session fails. To a keyferry server under an RSA key the transport key goes first, in a dry run, too.
    #[must_use]
    pub fn wrapping(mut self, node: Arc<Node>, wrapping: Wrapping) -> Self {
        self.wrapping = Some((node, wrapping));
        self
    }

    /// Finds out where the transfer stands, and which objects it is about.
    fn start(&mut self, cx: &SessionContext<'_>) -> Result<ChosenObjects> {
        let chosen = cx
            .store
            .view::<_, Error>(|snapshot| self.options.selection.choose(snapshot, cx.now.wall))?;
        let purpose = self.options.purpose()?;
        self.ledger.start(cx, &purpose)?;
        self.ledger
            .expect_total(|| cx.store.view(|snapshot| chosen.count(snapshot)))?;
        self.read_up_to = self.cursor();
        Ok(chosen)
    }

    /// The feed number up to which everything is answered.
    fn cursor(&self) -> u64 {
        u64::try_from(self.ledger.report.counts.cursor).unwrap_or(0)
    }

    /// Begins the plan for the peer's store, or checks that the plan is for it. Starts over if the cursor belongs to another store of the peer.
    fn check_peer_store(
        &mut self,
        cx: &SessionContext<'_>,
        incarnation: Option<Vec<u8>>,
    ) -> Result<()> {
        let home = cx.store.view::<_, Error>(|snapshot| Ok(snapshot.home()?))?;
        self.sender = home.as_ref().map(Sender::of);
        if let Some(plan) = &self.ledger.executing {
            plan.check_peer(incarnation.as_ref())?;
        }
        if let Some(planning) = &mut self.ledger.planning {
            planning.begin(cx, &self.options.purpose()?, incarnation.clone())?;
        }
        if self.ledger.report.counts.peer.is_some() && self.ledger.report.counts.peer != incarnation
        {
            self.ledger.start_over();
            self.read_up_to = 0;
        }
        self.ledger.report.counts.peer = incarnation;
        Ok(())
    }

    /// Leaves the work to [`Publish`]: a foreign peer does not tell by itself what became of an object.
    fn hand_over(&mut self, operations: Vec<Operation>) -> Result<()> {
        let setting = Setting {
            name: self.options.name.clone(),
            create_by: CreateBy::Import,
            version: self.options.version,
            selection: self.options.selection.clone(),
            batch: self.options.batch,
            batch_bytes: self.options.batch_bytes,
            may_destroy: self.options.may_destroy,
        };
        let mut publish = Publish::new(setting, std::mem::take(&mut self.ledger));
        publish.wrapping = self.wrapping.take();
        publish.accept_operations(operations)?;
        self.publish = Some(Box::new(publish));
        Ok(())
    }

    fn save(&mut self, cx: &SessionContext<'_>) -> Result<()> {
        self.ledger.save(cx)?;
        self.unsaved = 0;
        Ok(())
    }

    /// Asks what the peer can do.
    fn query(&mut self, ticket: Ticket) -> Result<Step> {
        let version = self.options.version;
        let query = QueryRequest {
            query_functions: vec![
                QueryFunction::QUERY_OPERATIONS,
                QueryFunction::QUERY_SERVER_INFORMATION,
            ],
            object_groups: None,
            extra: Extra::NONE,
        };
        let item = RequestItem::new(&query, context(version)).map_err(Error::encode)?;
        self.peer = Peer::Asked;
        self.flights.push_back(Flight {
            ticket,
            content: Content::Query,
        });
        Ok(Step::Send(Box::new(RequestMessage::new(
            version,
            vec![item],
        ))))
    }

    /// Counts what the answer to a message says of each object, and moves the cursor behind the message.
    fn record_batch_results(&mut self, batch: Batch, items: &[ResponseItem]) -> Result<()> {
        let planned = match &mut self.ledger.executing {
            Some(plan) => plan.upcoming(batch.objects.len())?,
            None => Vec::new(),
        };
        let (mut items, mut planned, mut done) = (items.iter(), planned.into_iter(), 0);
        for outgoing in batch.objects {
            let (mut result, item) = match &outgoing.refused {
                Some(refused) => (refused.clone(), None),
                None => match items.next() {
                    Some(item) => (self.result_of(&outgoing, item)?, Some(item)),
                    // The peer stopped before it.
                    None => break,
                },
            };
            if let Some(planned) = planned.next()
                && self.ledger.stop_if_unplanned(&planned, &mut result)
            {
                break;
            }
            if self.ledger.planning.is_some() {
                let planned = planned_from_answer(outgoing, &result, item)?;
                self.ledger.add_to_plan(|| planned)?;
            }
            done += 1;
            self.ledger.record_result(result);
        }
        self.ledger.report.counts.bytes += i64::try_from(batch.bytes).unwrap_or(i64::MAX);
        if self.ledger.executing.is_some() {
            self.ledger.complete_planned(done);
        } else {
            self.ledger.report.counts.cursor = i64::try_from(batch.end).unwrap_or(i64::MAX);
        }
        self.unsaved += 1;
        Ok(())
    }

    /// Counts the messages at the front of the queue that had nothing to send.
    fn record_unsent_batches(&mut self) -> Result<()> {
        while let Some(flight) = self.flights.pop_front_if(
            |flight| matches!(&flight.content, Content::Objects(batch) if batch.items() == 0),
        ) {
            if let Content::Objects(batch) = flight.content {
                self.record_batch_results(batch, &[])?;
            }
        }
        Ok(())
    }

    /// Forgets what is under way when the connection is lost: the next one continues behind what was answered.
    fn on_lost(&mut self, cx: &SessionContext<'_>) -> Result<()> {
        self.flights.clear();
        self.peer = Peer::Unknown;
        self.transport = Transport::None;
        self.read_up_to = self.cursor();
        self.save(cx)
    }

    /// Fails unless a message was answered item by item.
    fn check_item_count(&self, content: &Content, response: &ResponseMessage) -> Result<()> {
        let expected = match content {
            Content::Query | Content::Transport => 1,
            Content::Objects(batch) => batch.items(),
        };
        // The peer stops at the first refusal when a plan is executed.
        let stopped = self.ledger.executing.is_some()
            && (1..expected).contains(&response.batch.len())
            && response.batch.last().is_some_and(|item| !item.is_success());
        if response.batch.len() == expected || stopped {
            return Ok(());
        }
        let why = response
            .batch
            .first()
            .and_then(|item| item.result_message.as_ref())
            .map(ToString::to_string)
            .unwrap_or_default();
        Err(Error::new(
            ErrorKind::Protocol,
            format_args!(
                "{expected} items were asked for and {} answered {why}",
                response.batch.len()
            ),
        ))
    }

    /// Reads what the peer can do, and decides who does the work.
    fn on_query_answer(
        &mut self,
        cx: &mut SessionContext<'_>,
        response: &ResponseMessage,
    ) -> Result<()> {
        let PeerAnswer {
            keyferry,
            incarnation,
            server,
            instance,
            operations,
        } = PeerAnswer::read(self.options.strategy, self.options.version, response)?;
        if !keyferry {
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
        self.peer = Peer::Known { keyferry };
        self.check_peer_store(cx, incarnation)?;
        self.pushed = Pushed::to(&self.options.name, server, instance);
        if keyferry && self.options.strategy == Strategy::Import {
            self.prepare_transport_key(cx)?;
        }
        Ok(())
    }

    /// Counts the answer to a message with objects.
    fn on_objects_answer(
        &mut self,
        cx: &SessionContext<'_>,
        batch: Batch,
        response: &ResponseMessage,
    ) -> Result<()> {
        if response.batch.len() > 1
            && response.batch.iter().all(|item| {
                matches!(
                    item.result_reason,
                    Some(ResultReason::GENERAL_FAILURE | ResultReason::INTERNAL_SERVER_ERROR)
                )
            })
        {
            // The trouble is the peer, not these objects: another run sends again what is behind the
            // cursor. (With a single object, the object may be the trouble.)
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
        self.record_batch_results(batch, &response.batch)?;
        self.record_unsent_batches()?;
        if self.unsaved >= self.options.group {
            self.save(cx)?;
        }
        self.ledger.observe(cx.now);
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
            Peer::Unknown => return self.query(ticket),
            Peer::Asked => return Ok(Step::Wait(None)),
            Peer::Known { keyferry } => keyferry,
        };
        if matches!(self.transport, Transport::Due(_))
            && let Some(step) = self.send_transport_key(cx, ticket)?
        {
            return Ok(step);
        }
        if matches!(self.transport, Transport::Sent(_)) {
            return Ok(Step::Wait(None));
        }
        loop {
            self.record_unsent_batches()?;
            // A planned message waits for the answer to the one before it, which may stop the execution.
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
            match self.next_message(cx, ticket, keyferry)? {
                NextMessage::NothingToSend => {}
                NextMessage::Send(message) => return Ok(Step::Send(message)),
                NextMessage::End => break,
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
        let Ok(response) = response else {
            return self.on_lost(cx);
        };
        self.record_unsent_batches()?;
        let flight = self
            .flights
            .pop_front_if(|flight| flight.ticket == ticket)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Protocol,
                    "an answer came to nothing that was asked",
                )
            })?;
        self.check_item_count(&flight.content, &response)?;
        match flight.content {
            Content::Query => self.on_query_answer(cx, &response),
            Content::Transport => {
                self.on_transport_key_answer(&response);
                Ok(())
            }
            Content::Objects(batch) => self.on_objects_answer(cx, batch, &response),
        }
    }
}
