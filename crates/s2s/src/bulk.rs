use crate::copy::Fate;
use crate::outgoing::{Stretch, request_item, withheld};
use crate::report::{Counts, FailedObject, Loss};
use crate::{Cx, Error, ErrorKind, Report, Result, Session, Step};
use keyferry_kmip::attribute::part;
use keyferry_kmip::spec::{BatchErrorContinuationOption, Operation, QueryFunction, ResultReason};
use keyferry_kmip::{
    Lost, QueryRequest, QueryResponse, RequestItem, RequestMessage, ResponseItem, ResponseMessage, Text, Ticket, context,
    extension as x,
};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{Record, SnapshotExt, StoreExt};
use keyferry_ttlv::{Extra, Version};
use std::collections::VecDeque;

/// By which operation a bulk session sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Import, without Replace Existing, in KMIP 2.1.
    Import,
    /// Put, in KMIP 1.4.
    Put,
}

impl Strategy {
    pub(crate) fn version(self) -> Version {
        match self {
            Strategy::Import => Version::V2_1,
            Strategy::Put => Version::V1_4,
        }
    }

    fn operation(self) -> Operation {
        match self {
            Strategy::Import => Operation::IMPORT,
            Strategy::Put => Operation::PUT,
        }
    }
}

/// How a bulk session goes about it.
#[derive(Clone, Debug)]
pub struct BulkOptions {
    /// Names the transfer in our store: its cursor and counts are kept under it, usually the peer's server id.
    pub name: String,
    /// By which operation.
    pub strategy: Strategy,
    /// Objects in a message at the most (250).
    pub batch: usize,
    /// Bytes of material and attributes in a message, about (512 KiB).
    pub batch_bytes: usize,
    /// Messages under way at the most (8).
    pub in_flight: usize,
    /// Messages whose progress is stored in one transaction (8). What is not stored yet is sent again after a crash, and found unchanged.
    pub group: usize,
}

impl BulkOptions {
    /// The usual ones.
    pub fn new(name: impl Into<String>, strategy: Strategy) -> Self {
        BulkOptions { name: name.into(), strategy, batch: 250, batch_bytes: 512 * 1024, in_flight: 8, group: 8 }
    }
}

/// Sends every object of our store to a peer: one pass over the feed, from the stored cursor to the head.
///
/// A finished transfer starts over when it is run again, and finds unchanged what the peer has. One that was interrupted goes on
/// where its last stored group ended.
pub struct Bulk {
    options: BulkOptions,
    counts: Option<Counts>,
    /// How far the feed was read; ahead of the cursor by what is under way.
    ahead: u64,
    peer: Peer,
    flights: VecDeque<Flight>,
    /// Messages answered since progress was stored.
    unsaved: usize,
    failures: Vec<FailedObject>,
    losses: Vec<Loss>,
    observer: Option<Box<dyn FnMut(&Counts) + Send>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Peer {
    Unknown,
    Asked,
    Known { keyferry: bool },
}

struct Flight {
    ticket: Ticket,
    /// The feed number behind which this message's entries end; `None` for the opening question.
    end: Option<u64>,
    /// The identifiers of its objects, and what is known to fail beforehand.
    items: Vec<Text>,
    refused: Vec<FailedObject>,
    /// What each of its objects loses on the way.
    lost: Vec<Vec<String>>,
    bytes: usize,
}

/// About what a message may hold: what receivers take by default, less its header.
const LARGEST: usize = keyferry_ttlv::Limits::DEFAULT.size - 4096;

/// About how many bytes an item adds to its message.
fn size(item: &RequestItem) -> usize {
    let extensions: usize = item.message_extensions.iter().map(|extension| extension.vendor_extension.bytes().len() + 96).sum();
    item.request_payload.bytes().len() + extensions + 64
}

/// How many failures a report names.
const NAMED_FAILURES: usize = 100;

impl Bulk {
    /// A session with these options.
    pub fn new(options: BulkOptions) -> Self {
        Bulk {
            options,
            counts: None,
            ahead: 0,
            peer: Peer::Unknown,
            flights: VecDeque::new(),
            unsaved: 0,
            failures: Vec::new(),
            losses: Vec::new(),
            observer: None,
        }
    }

    /// Calls `observer` after each answer, with what has been done so far.
    #[must_use]
    pub fn observed(mut self, observer: impl FnMut(&Counts) + Send + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    fn key(&self) -> Vec<u8> {
        [b"bulk/", self.options.name.as_bytes()].concat()
    }

    /// Where the transfer stands: stored progress, or a new one.
    fn start(&mut self, cx: &Cx<'_>) -> Result<()> {
        let key = self.key();
        let (stored, head) = cx.store.view::<_, Error>(|snapshot| Ok((snapshot.state_value(&key)?, snapshot.head()?)))?;
        let stored: Counts = stored.map(|bytes| read(&bytes, "progress of a transfer")).transpose()?.unwrap_or_default();
        // A cursor of another incarnation says nothing about this feed.
        let goes_on = !stored.finished && stored.session > 0 && stored.incarnation == head.incarnation.0;
        let counts = if goes_on {
            stored
        } else {
            Counts { session: stored.session + 1, incarnation: head.incarnation.0.to_vec(), ..Counts::default() }
        };
        self.ahead = u64::try_from(counts.cursor).unwrap_or(0);
        self.counts = Some(counts);
        Ok(())
    }

    /// Starts over when the peer's store is another one than the cursor belongs to.
    fn know(&mut self, incarnation: Option<Vec<u8>>) {
        let Some(counts) = &mut self.counts else { return };
        if counts.peer.is_some() && counts.peer != incarnation {
            let (session, own) = (counts.session + 1, std::mem::take(&mut counts.incarnation));
            *counts = Counts { session, incarnation: own, ..Counts::default() };
            self.ahead = 0;
            self.failures.clear();
            self.losses.clear();
        }
        counts.peer = incarnation;
    }

    fn save(&mut self, cx: &Cx<'_>) -> Result<()> {
        let Some(counts) = &self.counts else { return Ok(()) };
        let (key, value) = (self.key(), bytes_of(counts)?);
        cx.store.transact::<_, Error>(|transaction| Ok(transaction.set_state(&key, Some(&value))?))?;
        self.unsaved = 0;
        Ok(())
    }

    fn ask(&mut self, ticket: Ticket) -> Result<Step> {
        let version = self.options.strategy.version();
        let query = QueryRequest {
            query_functions: vec![QueryFunction::QUERY_OPERATIONS, QueryFunction::QUERY_SERVER_INFORMATION],
            object_groups: None,
            extra: Extra::NONE,
        };
        let item = RequestItem::new(&query, context(version)).map_err(encode)?;
        self.peer = Peer::Asked;
        self.flights.push_back(Flight { ticket, end: None, items: Vec::new(), refused: Vec::new(), lost: Vec::new(), bytes: 0 });
        Ok(Step::Send(Box::new(RequestMessage::new(version, vec![item]))))
    }

    /// The next message's worth of the feed.
    fn next(&mut self, cx: &Cx<'_>, ticket: Ticket, keyferry: bool) -> Result<Option<Step>> {
        // A Put's header may not ask a foreign client to go on behind a failure (KMIP 1.4 §5.2): one object a message then.
        let batch = if self.options.strategy == Strategy::Put && !keyferry { 1 } else { self.options.batch };
        self.next_of(cx, ticket, keyferry, batch)
    }

    /// The same, of so many objects at the most; fewer when they would not fit a message.
    fn next_of(&mut self, cx: &Cx<'_>, ticket: Ticket, keyferry: bool, batch: usize) -> Result<Option<Step>> {
        let session = self.counts.as_ref().map(|counts| counts.session);
        let (options, after) = (&self.options, self.ahead);
        let Some(Stretch { objects, end }) = Stretch::read(cx.store, after, batch, options.batch_bytes)? else { return Ok(None) };
        let several = objects.len() / 2;
        let version = options.strategy.version();
        let (mut items, mut identifiers, mut refused, mut lost) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (record, object) in objects {
            if let Some(why) = withheld(&record) {
                refused.push(FailedObject { identifier: record.identifier.to_string(), reason: None, message: why.into() });
                continue;
            }
            let identifier = record.identifier.clone();
            let left = if keyferry { Vec::new() } else { losses(&record, version) };
            match request_item(options.strategy, record, object, keyferry, session) {
                Ok(item) => {
                    identifiers.push(identifier);
                    items.push(item);
                    lost.push(left);
                }
                // What the version can't say stays here; the others go on.
                Err(error) if error.kind() == ErrorKind::Encode => {
                    refused.push(FailedObject { identifier: identifier.to_string(), reason: None, message: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        let mut bytes = items.iter().map(size).sum();
        if bytes > LARGEST {
            if several > 0 {
                return self.next_of(cx, ticket, keyferry, several);
            }
            // This one alone is too large: it stays here, and the others go on.
            let message = format!("the object takes about {bytes} bytes, more than a message may have");
            refused.extend(identifiers.drain(..).map(|identifier| FailedObject {
                identifier: identifier.to_string(),
                reason: None,
                message: message.clone(),
            }));
            items.clear();
            lost.clear();
            bytes = 0;
        }
        self.ahead = end;
        let empty = items.is_empty();
        self.flights.push_back(Flight { ticket, end: Some(end), items: identifiers, refused, lost, bytes });
        if empty {
            // Nothing to send: it counts as answered at once, when its turn comes.
            return Ok(Some(Step::Wait(None)));
        }
        let mut message = RequestMessage::new(version, items);
        if message.batch.len() > 1 {
            message.header.batch_error_continuation_option = Some(BatchErrorContinuationOption::CONTINUE);
        }
        Ok(Some(Step::Send(Box::new(message))))
    }

    fn fail(&mut self, failed: FailedObject) {
        if let Some(counts) = &mut self.counts {
            counts.failed += 1;
        }
        if self.failures.len() < NAMED_FAILURES {
            self.failures.push(failed);
        }
    }

    /// Counts what a message's answer says of each object, and moves the cursor behind it.
    fn count(&mut self, flight: Flight, items: &[ResponseItem]) -> Result<()> {
        let version = self.options.strategy.version();
        let Some(end) = flight.end else { return Ok(()) };
        for ((identifier, item), lost) in flight.items.iter().zip(items).zip(flight.lost) {
            if !item.is_success() {
                self.fail(FailedObject {
                    identifier: identifier.to_string(),
                    reason: item.result_reason,
                    message: item.result_message.as_ref().map(ToString::to_string).unwrap_or_default(),
                });
                continue;
            }
            let told = Fate::told(item, context(version)).map_err(|e| Error::new(ErrorKind::Protocol, e))?;
            let Some(counts) = &mut self.counts else { continue };
            match told {
                Some(Fate::UPDATED) => counts.updated += 1,
                Some(Fate::UNCHANGED) => counts.unchanged += 1,
                _ => counts.created += 1,
            }
            if !lost.is_empty() {
                *counts.lost.get_or_insert(0) += i64::try_from(lost.len()).unwrap_or(i64::MAX);
                if self.losses.len() < NAMED_FAILURES {
                    self.losses.push(Loss { identifier: identifier.to_string(), attributes: lost });
                }
            }
        }
        let asked = flight.items.len() + flight.refused.len();
        for refused in flight.refused {
            self.fail(refused);
        }
        if let Some(counts) = &mut self.counts {
            counts.asked += i64::try_from(asked).unwrap_or(i64::MAX);
            counts.bytes += i64::try_from(flight.bytes).unwrap_or(i64::MAX);
            counts.cursor = i64::try_from(end).unwrap_or(i64::MAX);
        }
        self.unsaved += 1;
        Ok(())
    }

    /// Counts messages at the front that had nothing to send.
    fn settle(&mut self) -> Result<()> {
        while let Some(flight) = self.flights.pop_front_if(|flight| flight.end.is_some() && flight.items.is_empty()) {
            self.count(flight, &[])?;
        }
        Ok(())
    }
}

impl Session for Bulk {
    fn poll(&mut self, cx: &mut Cx<'_>, ticket: Ticket) -> Result<Step> {
        if self.counts.is_none() {
            self.start(cx)?;
        }
        let keyferry = match self.peer {
            Peer::Unknown => return self.ask(ticket),
            Peer::Asked => return Ok(Step::Wait(None)),
            Peer::Known { keyferry } => keyferry,
        };
        loop {
            self.settle()?;
            if self.flights.len() >= self.options.in_flight {
                return Ok(Step::Wait(None));
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
        if let Some(counts) = &mut self.counts {
            counts.finished = true;
        }
        self.save(cx)?;
        let report = Report {
            counts: self.counts.take().unwrap_or_default(),
            failures: std::mem::take(&mut self.failures),
            losses: std::mem::take(&mut self.losses),
        };
        Ok(Step::Done(Box::new(report)))
    }

    fn answer(&mut self, cx: &mut Cx<'_>, ticket: Ticket, response: std::result::Result<ResponseMessage, Lost>) -> Result<()> {
        let response = match response {
            Ok(response) => response,
            Err(_) => {
                // Nothing under way counts: go on behind what was answered, once there is a connection again.
                self.flights.clear();
                self.peer = Peer::Unknown;
                self.ahead = self.counts.as_ref().and_then(|counts| u64::try_from(counts.cursor).ok()).unwrap_or(0);
                return self.save(cx);
            }
        };
        self.settle()?;
        let flight = self
            .flights
            .pop_front_if(|flight| flight.ticket == ticket)
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "an answer came to nothing that was asked"))?;
        let expected = if flight.end.is_none() { 1 } else { flight.items.len() };
        if response.batch.len() != expected {
            let why =
                response.batch.first().and_then(|item| item.result_message.as_ref()).map(ToString::to_string).unwrap_or_default();
            return Err(Error::new(
                ErrorKind::Protocol,
                format_args!("{expected} items were asked for and {} answered {why}", response.batch.len()),
            ));
        }
        if flight.end.is_none() {
            let (peer, incarnation) = peer(self.options.strategy, &response)?;
            self.peer = peer;
            self.know(incarnation);
            return Ok(());
        }
        if response.batch.len() > 1
            && response.batch.iter().all(|item| {
                matches!(item.result_reason, Some(ResultReason::GENERAL_FAILURE | ResultReason::INTERNAL_SERVER_ERROR))
            })
        {
            // Not these objects are the trouble but the peer: what is behind the cursor is sent again another time. (One object alone may be.)
            self.save(cx)?;
            let why = response
                .batch
                .first()
                .and_then(|item| item.result_message.as_ref())
                .map_or("no reason given", |text| text.as_str());
            return Err(Error::new(ErrorKind::Peer, format_args!("the peer took nothing of a whole message: {why}")));
        }
        self.count(flight, &response.batch)?;
        self.settle()?;
        if self.unsaved >= self.options.group {
            self.save(cx)?;
        }
        if let (Some(observer), Some(counts)) = (&mut self.observer, &self.counts) {
            observer(counts);
        }
        Ok(())
    }
}

fn encode(error: keyferry_ttlv::Error) -> Error {
    Error::new(ErrorKind::Encode, error)
}

/// What the peer says of itself, and whether it can do what the strategy needs.
fn peer(strategy: Strategy, response: &ResponseMessage) -> Result<(Peer, Option<Vec<u8>>)> {
    let answer = response.batch.first().filter(|item| item.is_success());
    let Some(answer) = answer else {
        let why =
            response.batch.first().and_then(|item| item.result_message.as_ref()).map_or("no reason given", |text| text.as_str());
        return Err(Error::new(ErrorKind::Peer, format_args!("the peer does not answer Query in {}: {why}", strategy.version())));
    };
    let query: QueryResponse = answer.payload(context(strategy.version())).map_err(|e| Error::new(ErrorKind::Protocol, e))?;
    if !query.operations.contains(&strategy.operation()) {
        return Err(Error::new(ErrorKind::Peer, format_args!("the peer does not offer {}", strategy.operation())));
    }
    let keyferry = query.vendor_identification.as_ref().is_some_and(|vendor| *vendor == x::VENDOR);
    let incarnation = if keyferry { crate::peer::incarnation(&query, strategy.version()) } else { None };
    Ok((Peer::Known { keyferry }, incarnation))
}

/// The attributes of an object that a foreign peer is not told in this version.
fn losses(record: &Record, version: Version) -> Vec<String> {
    let (_, rest) = part(&record.attributes, version);
    rest.iter().map(|attribute| attribute.value.reference().to_string()).collect()
}
