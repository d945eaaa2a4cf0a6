use crate::ledger::Ledger;
use crate::listing::Listing;
use crate::plan::{Planned, Purpose};
use crate::progress::Progress;
use crate::report::{NAMED, Told};
use crate::{Cx, Error, ErrorKind, Node, Peer, Result, Selection, Session, Step, Wrapping};
use keyferry_kmip::spec::{
    AttributeValue, BatchErrorContinuationOption, Operation, QueryFunction, ResultReason as Reason,
};
use keyferry_kmip::{
    DateTime, ExportRequest, GetAttributesRequest, GetRequest, LocateResponse, Lost, Payload,
    QueryRequest, QueryResponse, RequestItem, RequestMessage, ResponseMessage, Text, Ticket,
    UniqueIdentifier, context, projection::split_by_version,
};
use keyferry_store::plan::Query;
use keyferry_store::record::read;
use keyferry_store::{Cursor, Index, Order, SnapshotExt, Span, StoreExt};
use keyferry_ttlv::{Decode, Encode, Extra, Version};
use observing::Observing;
use shown::{Seeing, Shown, shown};
use std::collections::VecDeque;
use std::io::{Read, Seek, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

mod observing;
mod shown;
mod take;

/// By which operation a session pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullStrategy {
    /// Locate, then Get and Get Attributes, in any version.
    Get,
    /// Locate, then Export, since 1.4. A keyferry server at which we [may pull](Peer::may_pull) gives the copy verbatim.
    Export,
}

impl PullStrategy {
    fn operations(self) -> &'static [Operation] {
        match self {
            PullStrategy::Get => &[Operation::LOCATE, Operation::GET, Operation::GET_ATTRIBUTES],
            PullStrategy::Export => &[Operation::LOCATE, Operation::EXPORT],
        }
    }
}

/// How a pull goes about it.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// Names the transfer in our store: its progress is kept under it.
    pub name: String,
    /// Whom we pull from: its server id, whether others' copies are taken from it, and what becomes of collisions.
    pub from: Peer,
    /// The instance of that server, so that one that was set up anew is another one. A keyferry server's copies tell their own.
    pub instance: Vec<u8>,
    /// By which operation.
    pub strategy: PullStrategy,
    /// In which version.
    pub version: Version,
    /// Which objects (all). Its attributes become a Locate, and each hit is checked again here.
    pub selection: Selection,
    /// The client that gets the objects of a foreign server for good: this server takes them over. Without one it observes them: they
    /// are the foreign master's, may not be changed here, and follow it with each pull.
    pub adopter: Option<Text>,
    /// How key material is wrapped on its way, under a key that both servers have. It is unwrapped when it arrives; nothing is bound, since
    /// the attributes of the objects are not known when they are asked for.
    pub wrapping: Option<Wrapping>,
    /// Whether to find out what would become of each object, and write nothing.
    pub dry_run: bool,
    /// Objects in a message at the most (250).
    pub batch: usize,
    /// Bytes of an answer at the most (1 MiB).
    pub largest: i32,
    /// Messages under way at the most (16).
    pub in_flight: usize,
}

impl PullOptions {
    /// The usual ones: Get in 1.4, Export in 2.1.
    pub fn new(name: impl Into<String>, from: Peer, strategy: PullStrategy) -> Self {
        PullOptions {
            name: name.into(),
            from,
            instance: Vec::new(),
            strategy,
            version: if strategy == PullStrategy::Get {
                Version::V1_4
            } else {
                Version::V2_1
            },
            selection: Selection::everything(),
            adopter: None,
            wrapping: None,
            dry_run: false,
            batch: 250,
            largest: 1 << 20,
            in_flight: 16,
        }
    }

    fn purpose(&self) -> Result<Purpose<'_>> {
        let strategy = match self.strategy {
            PullStrategy::Get => "get",
            PullStrategy::Export => "export",
        };
        Ok(Purpose {
            name: &self.name,
            strategy,
            version: self.version,
            selection: self.selection.digest()?,
        })
    }
}

/// Takes in the selected objects of another server that need not know of it.
///
/// What it found is taken message by message, objects and progress in one transaction; an interrupted pull looks through the server again
/// and asks for nothing that it has taken. What the server does not show, the report names.
pub struct Pull {
    options: PullOptions,
    node: Arc<Node>,
    ledger: Ledger,
    query: Option<Query>,
    peer: Asked,
    listing: Option<Listing>,
    /// A Locate is under way.
    locating: bool,
    wanted: VecDeque<Sought>,
    flights: VecDeque<(Ticket, Flight)>,
    /// Objects in a message, as many as the server's answers have room for.
    batch: usize,
    /// Whether the server goes on behind a failed item.
    continues: bool,
    /// Lists of taken objects stored so far.
    stored: u64,
    /// The relation that it runs, where it runs one.
    observing: Option<Observing>,
}

#[derive(Clone, Copy, PartialEq)]
enum Asked {
    No,
    Now,
    Yes,
}

/// An object to be asked for.
#[derive(Clone, Debug)]
struct Sought {
    identifier: Text,
    why: Why,
    planned: Option<Planned>,
}

/// Why an object is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Why {
    /// The server has listed it.
    Located,
    /// The selection names it.
    Named,
    /// A Link leads to it: it need not have the selection's attributes.
    Reached,
    /// A relation asks again: it could not be taken, or is held here and was not listed.
    Again,
}

enum Flight {
    Query,
    Locate,
    Fetch(Vec<Sought>),
}

/// Objects that an interrupted pull has taken.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = keyferry_kmip::extension::SEEN)]
struct Taken {
    #[ttlv(tag = keyferry_kmip::extension::LOCAL_IDENTIFIER)]
    identifiers: Vec<Text>,
    #[ttlv(extra)]
    extra: Extra,
}

impl Pull {
    /// A session with these options. `node` says who we are.
    pub fn new(node: Arc<Node>, options: PullOptions) -> Self {
        let ledger = Ledger::new(
            [b"pull/", options.name.as_bytes()].concat(),
            options.dry_run,
        );
        let batch = options.batch.max(1);
        Pull {
            options,
            node,
            ledger,
            query: None,
            peer: Asked::No,
            listing: None,
            locating: false,
            wanted: VecDeque::new(),
            flights: VecDeque::new(),
            batch,
            continues: true,
            stored: 0,
            observing: None,
        }
    }

    /// Runs the relation of this name ([`ForeignMaster::observe`](crate::ForeignMaster::observe) has begun it) instead of a transfer by
    /// itself: a pass over what changed since the last one, by Last Change Date, or over everything where that is due, or the server does not
    /// know that attribute. Whatever cannot be taken is asked for again. What is observed, the relation says; it is not run dry, and has no
    /// plan.
    #[must_use]
    pub fn observing(mut self) -> Self {
        self.ledger.key = crate::foreign_master::counts_key(&self.options.name);
        self.observing = Some(Observing::default());
        self
    }

    /// Calls `observer` after each message, and at the end, with how far it has come. Of how many objects, is known when the server tells
    /// (Located Items, since 1.3), and in any case when its list has come to the end.
    #[must_use]
    pub fn observed(mut self, observer: impl FnMut(&Progress) + Send + 'static) -> Self {
        self.ledger.observer = Some(Box::new(observer));
        self
    }

    /// Tells `sink` what became of each object.
    #[must_use]
    pub fn telling(mut self, sink: impl FnMut(&Told) + Send + 'static) -> Self {
        self.ledger.sink = Some(Box::new(sink));
        self
    }

    /// Finds out what would become of each object, as a dry run, and writes it to `sink` as a plan, which [`executing`](Pull::executing)
    /// takes. A plan holds no key material; nobody but this store can make one for it.
    #[must_use]
    pub fn planning(mut self, sink: impl Write + Send + 'static) -> Self {
        self.ledger.plans(sink);
        self
    }

    /// Takes the objects that a plan names, and no others, as they were shown when it was made, if they find here in the same transaction what
    /// was held then. At the first object of which that is not so the session stops, and the report says [where](crate::Report::stopped). A
    /// bad plan ends the session before anything is asked for; an execution that was interrupted goes on where it was.
    #[must_use]
    pub fn executing(mut self, plan: impl Read + Seek + Send + 'static) -> Self {
        self.ledger.executes(plan);
        self
    }

    /// Where the lists of taken objects are kept, of all transfers under this name.
    fn lists(&self) -> Vec<u8> {
        match self.observing {
            Some(_) => crate::foreign_master::lists(&self.options.name),
            None => [b"pulled/", self.options.name.as_bytes(), &[0]].concat(),
        }
    }

    /// Those of this transfer.
    fn own_lists(&self) -> Vec<u8> {
        [
            &self.lists()[..],
            &self.ledger.report.counts.session.to_be_bytes(),
        ]
        .concat()
    }

    fn start(&mut self, cx: &Cx<'_>) -> Result<()> {
        self.begin(cx)?;
        let selection = &self.options.selection;
        self.query = Some(selection.query()?);
        let purpose = self.options.purpose()?;
        self.ledger.start(cx, &purpose)?;
        let executes = self.ledger.executing.is_some();
        if let Some(planning) = &mut self.ledger.planning {
            planning.begin(cx, &purpose, None)?;
        }
        if selection.with_links && !executes && self.ledger.report.counts.asked > 0 {
            // Where the Links led that were followed so far, nobody knows any more.
            self.ledger.start_over();
        }
        // Over which dates a pass goes, the server's clock decides.
        if self.observing.is_some() {
            Ok(())
        } else {
            self.list(cx, None)
        }
    }

    /// Begins the list, behind what was taken already.
    fn list(&mut self, cx: &Cx<'_>, from: Option<DateTime>) -> Result<()> {
        let executes = self.ledger.executing.is_some();
        let mut criteria =
            split_by_version(&self.options.selection.criteria, self.options.version).0;
        // Whether a server knows patterns, nobody can tell: those are checked here alone.
        let is_pattern = |value: &AttributeValue| {
            value
                .item()
                .is_some_and(|raw| raw.bytes().iter().any(|byte| matches!(byte, b'*' | b'?')))
        };
        criteria
            .retain(|attribute| attribute.value.date().is_some() || !is_pattern(&attribute.value));
        for date in from.into_iter().flat_map(|from| [from, observing::LAST]) {
            criteria.push(AttributeValue::LastChangeDate(date));
        }
        let mut listing = Listing::new(self.options.version, criteria, cx.now.wall);
        let prefix = self.own_lists();
        cx.store.view::<_, Error>(|snapshot| {
            self.stored = 0;
            snapshot.state(&Span::prefix(&prefix), &mut |_, value| {
                self.stored += 1;
                let taken: Taken = read(value, "objects that were pulled")?;
                for identifier in &taken.identifiers {
                    listing.seen.insert(identifier);
                }
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(())
        })?;
        self.wanted.clear();
        if executes {
            return Ok(());
        }
        if let Some(listed) = &self.options.selection.listed {
            let left = listed
                .iter()
                .filter(|identifier| listing.seen.insert(identifier));
            // What a relation names may be gone some day.
            let why = if self.observing.is_some() {
                Why::Again
            } else {
                Why::Named
            };
            self.wanted.extend(left.map(|identifier| Sought {
                identifier: identifier.clone(),
                why,
                planned: None,
            }));
        }
        self.listing = Some(listing);
        Ok(())
    }

    /// What is asked next of a server's list; nothing when it was named.
    fn locate(&self) -> Option<keyferry_kmip::LocateRequest> {
        if self.options.selection.listed.is_some() {
            None
        } else {
            self.listing.as_ref()?.next()
        }
    }

    fn item<P: Payload>(&self, payload: &P) -> Result<RequestItem> {
        RequestItem::new(payload, context(self.options.version))
            .map_err(|e| Error::new(ErrorKind::Encode, e))
    }

    fn message(&self, items: Vec<RequestItem>) -> RequestMessage {
        let mut message = RequestMessage::new(self.options.version, items);
        message.header.maximum_response_size = Some(self.options.largest);
        if message.batch.len() > 1 && self.continues {
            message.header.batch_error_continuation_option =
                Some(BatchErrorContinuationOption::CONTINUE);
        }
        message
    }

    fn fetch(&self, sought: &[Sought]) -> Result<RequestMessage> {
        let wrapping = self
            .options
            .wrapping
            .as_ref()
            .map(|wrapping| wrapping.specification(&wrapping.there, Vec::new()));
        let mut items = Vec::new();
        for Sought { identifier, .. } in sought {
            let unique_identifier = Some(UniqueIdentifier::Text(identifier.clone()));
            if self.options.strategy == PullStrategy::Export {
                let request = ExportRequest {
                    unique_identifier,
                    key_wrapping_specification: wrapping.clone(),
                    ..Default::default()
                };
                items.push(self.item(&request)?);
                continue;
            }
            // Attributes last, since a Get may change Fresh; first, where what follows a failure is not answered.
            let attributes = self.item(&GetAttributesRequest::of(identifier.as_str()))?;
            let get = GetRequest {
                unique_identifier,
                key_wrapping_specification: wrapping.clone(),
                ..Default::default()
            };
            let get = self.item(&get)?;
            items.extend(if self.continues {
                [get, attributes]
            } else {
                [attributes, get]
            });
        }
        Ok(self.message(items))
    }

    /// Has the objects asked for again, in smaller messages; one alone is refused for good.
    fn again(
        &mut self,
        cx: &mut Cx<'_>,
        mut sought: Vec<Sought>,
        response: &ResponseMessage,
    ) -> Result<()> {
        let item = response.batch.first();
        if sought.len() > 1 {
            self.batch = (sought.len() / 2).max(1);
            sought
                .into_iter()
                .rev()
                .for_each(|sought| self.wanted.push_front(sought));
            return Ok(());
        }
        let reason = item.and_then(|item| item.result_reason);
        let unknown_option = matches!(
            reason,
            Some(
                Reason::FEATURE_NOT_SUPPORTED
                    | Reason::INVALID_MESSAGE
                    | Reason::OPERATION_NOT_SUPPORTED
            )
        );
        if self.continues && unknown_option && self.options.strategy == PullStrategy::Get {
            (self.continues, self.batch) = (false, 1);
            self.wanted.extend(sought.pop());
            return Ok(());
        }
        let message = item
            .and_then(|item| item.result_message.as_ref())
            .map(ToString::to_string)
            .unwrap_or_default();
        let told = sought.into_iter().map(|sought| {
            let told = Told::failed(&sought.identifier, reason, message.clone());
            (sought, Shown::Told(told))
        });
        self.take(cx, told.collect())
    }

    /// How many objects there are: those that are done, and those that are asked for or will be.
    fn expect(&mut self) {
        let Some(listing) = &self.listing else { return };
        let under_way = self.flights.iter().map(|(_, flight)| {
            if let Flight::Fetch(sought) = flight {
                sought.len()
            } else {
                0
            }
        });
        let found = self.wanted.len() + under_way.sum::<usize>();
        let left = match self.locate() {
            None => Some(found),
            Some(_) => listing.unfound().map(|more| found.saturating_add(more)),
        };
        let left = left.and_then(|left| i64::try_from(left).ok());
        self.ledger.report.counts.total =
            left.map(|left| self.ledger.report.counts.asked.saturating_add(left));
    }

    /// Names what is held here of this server and was not seen there (DESIGN: rule 6).
    fn missing(&mut self, cx: &Cx<'_>) -> Result<()> {
        if self.observing.is_some() {
            return self.name_missing(cx);
        }
        let Some(listing) = &self.listing else {
            return Ok(());
        };
        if !self.options.selection.is_everything() || !listing.unseen.is_empty() {
            return Ok(());
        }
        let mut after: Option<Cursor> = None;
        loop {
            let (mut last, mut missing) = (None, Vec::new());
            cx.store.view::<_, Error>(|snapshot| {
                (last, missing) = (None, Vec::new());
                let mut numbers = Vec::new();
                snapshot.scan(
                    Index::ARRIVAL,
                    &Span::all(),
                    Order::Ascending,
                    after.as_ref(),
                    &mut |key, number| {
                        numbers.push(number);
                        last = Some(Cursor {
                            key: key.to_vec(),
                            number,
                        });
                        Ok(if numbers.len() < 250 {
                            ControlFlow::Continue(())
                        } else {
                            ControlFlow::Break(())
                        })
                    },
                )?;
                for number in numbers {
                    let Some(record) = snapshot.record(number)? else {
                        continue;
                    };
                    let is_of = record.id.server == self.options.from.server
                        && record.id.instance == self.options.instance;
                    if is_of && !record.is_destroyed() && !listing.seen.has(&record.id.identifier) {
                        missing.push(record.identifier.to_string());
                    }
                }
                Ok(())
            })?;
            let room = NAMED.saturating_sub(self.ledger.report.missing.len());
            self.ledger
                .report
                .missing
                .extend(missing.into_iter().take(room));
            match last {
                Some(last) if room > 0 => after = Some(last),
                _ => return Ok(()),
            }
        }
    }

    fn finish(&mut self, cx: &Cx<'_>) -> Result<Step> {
        self.missing(cx)?;
        if let Some(listing) = &mut self.listing {
            self.ledger.report.unseen = std::mem::take(&mut listing.unseen);
        }
        self.ledger.end()?;
        if let Some((key, value)) = self.ledger.kept()? {
            // The execution of a plan has none.
            let prefix = self.lists();
            let has_lists = self.ledger.executing.is_none();
            cx.store.transact::<_, Error>(|transaction| {
                self.passed(cx, transaction)?;
                let mut keys = Vec::new();
                transaction.state(&Span::prefix(&prefix), &mut |key, _| {
                    keys.push(key.to_vec());
                    Ok(ControlFlow::Continue(()))
                })?;
                keys.iter()
                    .filter(|_| has_lists)
                    .try_for_each(|key| transaction.set_state(key, None))?;
                Ok(transaction.set_state(&key, Some(&value))?)
            })?;
        }
        self.ledger.observe(cx.now);
        Ok(Step::Done(Box::new(self.ledger.finish())))
    }
}

impl Session for Pull {
    fn poll(&mut self, cx: &mut Cx<'_>, ticket: Ticket) -> Result<Step> {
        if !self.ledger.is_started() {
            self.start(cx)?;
        }
        match self.peer {
            Asked::No => {
                self.peer = Asked::Now;
                self.flights.push_back((ticket, Flight::Query));
                let query_functions = vec![QueryFunction::QUERY_OPERATIONS];
                let query = QueryRequest {
                    query_functions,
                    object_groups: None,
                    extra: Extra::NONE,
                };
                return Ok(Step::Send(Box::new(self.message(vec![self.item(&query)?]))));
            }
            Asked::Now => return Ok(Step::Wait(None)),
            Asked::Yes => {}
        }
        // What is planned comes in its order.
        let in_flight = if self.ledger.executing.is_some() {
            1
        } else {
            self.options.in_flight.max(1)
        };
        if self.flights.len() >= in_flight {
            return Ok(Step::Wait(None));
        }
        if self.ledger.report.stopped.is_some() {
            return self.finish(cx);
        }
        if let Some(plan) = self
            .ledger
            .executing
            .as_mut()
            .filter(|_| self.wanted.is_empty())
        {
            let planned = plan.next(self.options.batch.max(1))?.into_iter();
            let sought = |planned: Planned| Sought {
                identifier: planned.identifier.clone(),
                why: Why::Located,
                planned: Some(planned),
            };
            self.wanted.extend(planned.map(sought));
        }
        // The list is read on before what it brought is all asked for.
        if !self.locating
            && self.wanted.len() < self.batch * self.options.in_flight
            && let Some(locate) = self.locate()
        {
            self.locating = true;
            self.flights.push_back((ticket, Flight::Locate));
            return Ok(Step::Send(Box::new(
                self.message(vec![self.item(&locate)?]),
            )));
        }
        if !self.wanted.is_empty() {
            let sought: Vec<Sought> = self
                .wanted
                .drain(..self.batch.min(self.wanted.len()))
                .collect();
            let message = self.fetch(&sought)?;
            self.flights.push_back((ticket, Flight::Fetch(sought)));
            return Ok(Step::Send(Box::new(message)));
        }
        if !self.flights.is_empty() {
            return Ok(Step::Wait(None));
        }
        if self.has_more(cx)? {
            self.poll(cx, ticket)
        } else {
            self.finish(cx)
        }
    }

    fn answer(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        let answered = self.answered(cx, ticket, response);
        if let Err(error) = &answered {
            self.failed(cx, error);
        }
        answered
    }
}

impl Pull {
    fn answered(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        let Ok(response) = response else {
            // What was under way is asked for again, once there is a connection.
            for (_, flight) in std::mem::take(&mut self.flights).into_iter().rev() {
                if let Flight::Fetch(sought) = flight {
                    sought
                        .into_iter()
                        .rev()
                        .for_each(|sought| self.wanted.push_front(sought));
                }
            }
            (self.peer, self.locating) = (Asked::No, false);
            return Ok(());
        };
        let flight = self
            .flights
            .pop_front_if(|(expected, _)| *expected == ticket);
        let Some((_, flight)) = flight else {
            return Err(Error::new(
                ErrorKind::Protocol,
                "an answer came to nothing that was asked",
            ));
        };
        let cx_of = context(self.options.version);
        match flight {
            Flight::Query => {
                let query: Option<QueryResponse> = response
                    .batch
                    .first()
                    .filter(|item| item.is_success())
                    .and_then(|item| item.payload(cx_of).ok());
                let Some(query) = query else {
                    return Err(Error::new(
                        ErrorKind::Peer,
                        format_args!("the peer does not answer Query in {}", self.options.version),
                    ));
                };
                let lacking = self
                    .options
                    .strategy
                    .operations()
                    .iter()
                    .find(|one| !query.operations.contains(one));
                if let Some(lacking) = lacking {
                    return Err(Error::new(
                        ErrorKind::Peer,
                        format_args!("the peer does not offer {lacking}"),
                    ));
                }
                self.peer = Asked::Yes;
                self.begin_pass(cx, response.header.time_stamp)
            }
            Flight::Locate => {
                self.locating = false;
                let is_window = self.is_window();
                let Some(listing) = &mut self.listing else {
                    return Ok(());
                };
                let Some(item) = response.batch.first() else {
                    return Err(Error::new(
                        ErrorKind::Protocol,
                        "a Locate was answered with nothing",
                    ));
                };
                if !item.is_success() {
                    if is_window && item.result_reason != Some(Reason::RESPONSE_TOO_LARGE) {
                        return self.widen(cx, observing::is_unknown(item.result_reason));
                    }
                    listing.refused(
                        item.result_reason,
                        item.result_message.as_deref().unwrap_or("no reason given"),
                    );
                    return Ok(());
                }
                let found: LocateResponse = item
                    .payload(cx_of)
                    .map_err(|e| Error::new(ErrorKind::Protocol, e))?;
                listing.told(found.located_items);
                let fresh = listing.found(found.unique_identifiers.iter());
                self.wanted
                    .extend(fresh.into_iter().map(|identifier| Sought {
                        identifier,
                        why: Why::Located,
                        planned: None,
                    }));
                Ok(())
            }
            Flight::Fetch(sought) => {
                let each = if self.options.strategy == PullStrategy::Get {
                    2
                } else {
                    1
                };
                let whole = response.batch.len() == each * sought.len();
                let too_large = response
                    .batch
                    .iter()
                    .any(|item| item.result_reason == Some(Reason::RESPONSE_TOO_LARGE));
                let stopped = !self.continues && !response.batch.is_empty();
                if !(whole || stopped) || too_large && sought.len() > 1 {
                    return self.again(cx, sought, &response);
                }
                self.batch = (self.batch + 1).min(self.options.batch.max(1));
                let bytes: usize = response
                    .batch
                    .iter()
                    .filter_map(|item| item.response_payload.as_ref())
                    .map(|raw| raw.bytes().len())
                    .sum();
                self.ledger.report.counts.bytes += i64::try_from(bytes).unwrap_or(i64::MAX);
                let shown = sought
                    .into_iter()
                    .zip(response.batch.chunks(each))
                    .map(|(sought, items)| {
                        let shown = shown(&sought, items, cx_of).unwrap_or_else(Shown::Told);
                        (sought, shown)
                    })
                    .collect();
                self.take(cx, shown)
            }
        }
    }
}
