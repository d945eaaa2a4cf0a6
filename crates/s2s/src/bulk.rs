use crate::copy::Fate;
use crate::ledger::Ledger;
use crate::outgoing::{Stretch, Terms, carried, request_item, withheld};
use crate::report::{Counts, Ending, Told};
use crate::selection::Chosen;
use crate::transit::{Wrapping, on_its_way};
use crate::{Cx, Error, ErrorKind, Node, Result, Selection, Session, Step};
use keyferry_kmip::spec::{BatchErrorContinuationOption, Operation, QueryFunction, ResultReason, tag};
use keyferry_kmip::{
    AttributeReference, AttributeReferences, GetAttributesRequest, ImportResponse, Lost, QueryRequest, QueryResponse,
    RequestItem, RequestMessage, ResponseItem, ResponseMessage, Text, Ticket, UniqueIdentifier, context, extension as x,
};
use keyferry_store::StoreExt;
use keyferry_ttlv::{Extra, Version};
use std::collections::VecDeque;
use std::sync::Arc;

/// By which operation a bulk session sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Import, without Replace Existing, since 1.4.
    Import,
    /// Put, in any version.
    Put,
}

impl Strategy {
    /// The version that it speaks unless another one is asked for: 2.1 for Import, 1.4 for Put.
    pub fn version(self) -> Version {
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
    /// Messages under way at the most (8).
    pub in_flight: usize,
    /// Messages whose progress is stored in one transaction (8). What is not stored yet is sent again after a crash, and found unchanged.
    pub group: usize,
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
            in_flight: 8,
            group: 8,
        }
    }
}

/// Sends the selected objects of our store to a peer: one pass over the feed, from the stored cursor to the head.
///
/// A finished transfer starts over when it is run again, and finds unchanged what the peer has. One that was interrupted goes on
/// where its last stored group ended.
pub struct Bulk {
    options: BulkOptions,
    ledger: Ledger,
    chosen: Option<Chosen>,
    /// How far the feed was read; ahead of the cursor by what is under way.
    ahead: u64,
    peer: Peer,
    flights: VecDeque<Flight>,
    /// Messages answered since progress was stored.
    unsaved: usize,
    wrapping: Option<(Arc<Node>, Wrapping)>,
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
    refused: Vec<Told>,
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

impl Bulk {
    /// A session with these options.
    pub fn new(options: BulkOptions) -> Self {
        let ledger = Ledger::new([b"bulk/", options.name.as_bytes()].concat(), options.dry_run);
        Bulk {
            options,
            ledger,
            chosen: None,
            ahead: 0,
            peer: Peer::Unknown,
            flights: VecDeque::new(),
            unsaved: 0,
            wrapping: None,
        }
    }

    /// Calls `observer` after each answer, with what has been done so far.
    #[must_use]
    pub fn observed(mut self, observer: impl FnMut(&Counts) + Send + 'static) -> Self {
        self.ledger.observer = Some(Box::new(observer));
        self
    }

    /// Tells `sink` what became of each object, as soon as that is known.
    #[must_use]
    pub fn telling(mut self, sink: impl FnMut(&Told) + Send + 'static) -> Self {
        self.ledger.sink = Some(Box::new(sink));
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
    fn start(&mut self, cx: &Cx<'_>) -> Result<Chosen> {
        let chosen = cx.store.view::<_, Error>(|snapshot| self.options.selection.choose(snapshot, cx.now.wall))?;
        self.ledger.start(cx, self.options.selection.digest()?)?;
        self.ahead = u64::try_from(self.ledger.report.counts.cursor).unwrap_or(0);
        Ok(chosen)
    }

    /// Starts over when the peer's store is another one than the cursor belongs to.
    fn know(&mut self, incarnation: Option<Vec<u8>>) {
        if self.ledger.report.counts.peer.is_some() && self.ledger.report.counts.peer != incarnation {
            self.ledger.start_over();
            self.ahead = 0;
        }
        self.ledger.report.counts.peer = incarnation;
    }

    fn save(&mut self, cx: &Cx<'_>) -> Result<()> {
        self.ledger.save(cx)?;
        self.unsaved = 0;
        Ok(())
    }

    fn ask(&mut self, ticket: Ticket) -> Result<Step> {
        let version = self.options.version;
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
    fn next(&mut self, cx: &mut Cx<'_>, ticket: Ticket, keyferry: bool) -> Result<Option<Step>> {
        // A Put's header may not ask a foreign client to go on behind a failure (KMIP 1.4 §5.2): one object a message then.
        let batch = if self.options.strategy == Strategy::Put && !keyferry { 1 } else { self.options.batch };
        self.next_of(cx, ticket, keyferry, batch)
    }

    /// The same, of so many objects at the most; fewer when they would not fit a message.
    fn next_of(&mut self, cx: &mut Cx<'_>, ticket: Ticket, keyferry: bool, batch: usize) -> Result<Option<Step>> {
        let chosen = match self.chosen.take() {
            Some(chosen) => chosen,
            None => self.start(cx)?,
        };
        let options = &self.options;
        let terms = Terms {
            strategy: options.strategy,
            version: options.version,
            keyferry,
            session: Some(self.ledger.report.counts.session),
            dry_run: options.dry_run,
            wrapped: false,
        };
        if self.wrapping.is_some() && terms.strategy != Strategy::Import {
            return Err(Error::new(ErrorKind::Peer, "only Import can say that a key was wrapped for its way"));
        }
        let stretch = Stretch::read(cx.store, self.ahead, batch, options.batch_bytes, &chosen, &mut |_, _, _| Ok(false));
        self.chosen = Some(chosen);
        let Some(Stretch { objects, end }) = stretch? else { return Ok(None) };
        let several = objects.len() / 2;
        let version = terms.version;
        let (mut items, mut identifiers, mut refused, mut lost) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (_, record, object) in objects {
            if let Some(why) = withheld(&record, self.wrapping.is_some()) {
                refused.push(Told::failed(&record.identifier, None, why));
                continue;
            }
            let identifier = record.identifier.clone();
            let left = if keyferry { Vec::new() } else { carried(&record.attributes, version).1 };
            let item = if terms.dry_run && !keyferry {
                existing(&identifier, version)
            } else {
                on_its_way(cx, self.wrapping.as_ref(), version, &record, object)
                    .and_then(|(object, wrapped)| request_item(Terms { wrapped, ..terms }, record, object))
            };
            match item {
                Ok(item) => {
                    identifiers.push(identifier);
                    items.push(item);
                    lost.push(left);
                }
                // What the version can't say stays here; the others go on.
                Err(error) if error.kind() == ErrorKind::Encode => {
                    refused.push(Told::failed(&identifier, None, error.to_string()));
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
            refused.extend(identifiers.drain(..).map(|identifier| Told::failed(&identifier, None, message.clone())));
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

    /// Counts what a message's answer says of each object, and moves the cursor behind it.
    fn count(&mut self, flight: Flight, items: &[ResponseItem]) -> Result<()> {
        let Some(end) = flight.end else { return Ok(()) };
        let asks_only = self.options.dry_run && matches!(self.peer, Peer::Known { keyferry: false });
        for ((identifier, item), lost) in flight.items.iter().zip(items).zip(flight.lost) {
            let told = if asks_only { told_of_existing(identifier, item) } else { told(identifier, item, self.options.version)? };
            self.ledger.tell(Told { lost, ..told });
        }
        flight.refused.into_iter().for_each(|refused| self.ledger.tell(refused));
        self.ledger.report.counts.bytes += i64::try_from(flight.bytes).unwrap_or(i64::MAX);
        self.ledger.report.counts.cursor = i64::try_from(end).unwrap_or(i64::MAX);
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
        self.ledger.report.counts.finished = true;
        self.save(cx)?;
        Ok(Step::Done(Box::new(self.ledger.finish())))
    }

    fn answer(&mut self, cx: &mut Cx<'_>, ticket: Ticket, response: std::result::Result<ResponseMessage, Lost>) -> Result<()> {
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
            let (peer, incarnation) = peer(self.options.strategy, self.options.version, &response)?;
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
        self.ledger.observe();
        Ok(())
    }
}

fn encode(error: keyferry_ttlv::Error) -> Error {
    Error::new(ErrorKind::Encode, error)
}

/// What the peer says of itself, and whether it can do what the strategy needs.
fn peer(strategy: Strategy, version: Version, response: &ResponseMessage) -> Result<(Peer, Option<Vec<u8>>)> {
    let answer = response.batch.first().filter(|item| item.is_success());
    let Some(answer) = answer else {
        let why =
            response.batch.first().and_then(|item| item.result_message.as_ref()).map_or("no reason given", |text| text.as_str());
        return Err(Error::new(ErrorKind::Peer, format_args!("the peer does not answer Query in {version}: {why}")));
    };
    let query: QueryResponse = answer.payload(context(version)).map_err(|e| Error::new(ErrorKind::Protocol, e))?;
    if !query.operations.contains(&strategy.operation()) {
        return Err(Error::new(ErrorKind::Peer, format_args!("the peer does not offer {}", strategy.operation())));
    }
    let keyferry = query.vendor_identification.as_ref().is_some_and(|vendor| *vendor == x::VENDOR);
    let incarnation = if keyferry { crate::peer::incarnation(&query, version) } else { None };
    Ok((Peer::Known { keyferry }, incarnation))
}

/// Asks whether the peer has an object of this identifier.
fn existing(identifier: &Text, version: Version) -> Result<RequestItem> {
    let references = AttributeReferences(vec![AttributeReference::Standard(tag::OBJECT_TYPE)]);
    let unique_identifier = Some(UniqueIdentifier::Text(identifier.clone()));
    RequestItem::new(&GetAttributesRequest { unique_identifier, references, extra: Extra::NONE }, context(version))
        .map_err(encode)
}

/// What would become of an object, by the answer to [`existing`].
fn told_of_existing(identifier: &Text, item: &ResponseItem) -> Told {
    match item.result_reason {
        Some(ResultReason::ITEM_NOT_FOUND | ResultReason::OBJECT_NOT_FOUND) => Told::new(identifier.as_str(), Ending::Created),
        _ => Told::failed(
            identifier.as_str(),
            Some(ResultReason::OBJECT_ALREADY_EXISTS),
            "the peer has an object of this identifier",
        ),
    }
}

/// What became of an object, by the answer to it.
fn told(identifier: &Text, item: &ResponseItem, version: Version) -> Result<Told> {
    if !item.is_success() {
        let message = item.result_message.as_ref().map(ToString::to_string).unwrap_or_default();
        return Ok(Told::failed(identifier.as_str(), item.result_reason, message));
    }
    let fate = Fate::told(item).map_err(|e| Error::new(ErrorKind::Protocol, e))?;
    let mut told = Told::new(identifier.as_str(), fate.map_or(Ending::Created, Fate::ending));
    if item.operation == Some(Operation::IMPORT) && item.response_payload.is_some() {
        let answer: ImportResponse = item.payload(context(version)).map_err(|e| Error::new(ErrorKind::Protocol, e))?;
        told.target = answer.unique_identifier.as_text().filter(|there| **there != **identifier).map(str::to_owned);
        if told.target.is_some() && told.ending == Ending::Created {
            told.ending = Ending::Renamed;
        }
    }
    Ok(told)
}
