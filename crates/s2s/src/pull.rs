//! The session that pulls: it takes in the selected objects of another server, which need not know of keyferry.
//!
//! `requests` makes what it sends, `responses` and `answers` read what comes back, `apply` takes it into the store. `listing` finds all identifiers of a
//! server, `observed` makes records of what a foreign server shows, `observing` runs a pull as a relation, and `missing` names what was not shown.

mod answers;
mod apply;
mod listing;
mod missing;
mod observed;
mod observing;
pub(crate) mod options;
mod requests;
mod responses;

use crate::error::{Error, Result};
use crate::node::Node;
use crate::progress::Progress;
use crate::pull::listing::Listing;
use crate::pull::observing::Observing;
use crate::pull::options::PullOptions;
use crate::relation::keys;
use crate::report::ObjectResult;
use crate::session::{Session, SessionContext, Step};
use crate::transfer::ledger::Ledger;
use crate::transfer::plan::Planned;
use keyferry_kmip::{Lost, ResponseMessage, Text, Ticket};
use keyferry_store::plan::Query;
use keyferry_store::{Span, StoreExt};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::collections::VecDeque;
use std::io::{Read, Seek, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Takes in the selected objects of another server that need not know of it.
///
/// What it found is taken message by message, objects and progress in one transaction; an interrupted pull looks through the server again
/// and asks for nothing that it has taken. What the server does not show, the report names.
pub struct Pull {
    options: PullOptions,
    node: Arc<Node>,
    ledger: Ledger,
    query: Option<Query>,
    peer: PeerQuery,
    listing: Option<Listing>,
    /// A Locate is under way.
    locating: bool,
    wanted: VecDeque<Sought>,
    flights: VecDeque<(Ticket, InFlight)>,
    /// Objects in a message, as many as the server's answers have room for.
    batch: usize,
    /// Whether the server goes on behind a failed item.
    continues: bool,
    /// Lists of taken objects stored so far.
    stored: u64,
    /// The relation that it runs, where it runs one.
    observing: Option<Observing>,
}

/// Whether the peer was asked what it can do.
#[derive(Clone, Copy, PartialEq)]
enum PeerQuery {
    NotAsked,
    Asked,
    Answered,
}

/// An object to be asked for.
#[derive(Clone, Debug)]
pub(crate) struct Sought {
    identifier: Text,
    why: Why,
    planned: Option<Planned>,
}

/// Why an object is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Why {
    /// The server has listed it.
    Located,
    /// The selection names it.
    Named,
    /// A Link leads to it: it need not have the selection's attributes.
    Reached,
    /// A relation asks again: it could not be taken, or is held here and was not listed.
    Again,
}

/// A request that is not answered yet.
enum InFlight {
    Query,
    Locate,
    Fetch(Vec<Sought>),
}

/// Objects that an interrupted pull has taken.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = keyferry_kmip::extension::SEEN)]
pub(crate) struct Taken {
    #[ttlv(tag = keyferry_kmip::extension::LOCAL_IDENTIFIER)]
    identifiers: Vec<Text>,
    #[ttlv(extra)]
    extra: Extra,
}

impl Pull {
    /// A session with these options. `node` says who we are.
    pub fn new(node: Arc<Node>, options: PullOptions) -> Self {
        let ledger = Ledger::new(keys::pull(&options.name), options.dry_run);
        let batch = options.batch.max(1);
        Pull {
            options,
            node,
            ledger,
            query: None,
            peer: PeerQuery::NotAsked,
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
        self.ledger.key = keys::foreign_counts(&self.options.name);
        self.observing = Some(Observing::default());
        self
    }

    /// Calls `observer` after each message, and at the end, with how far it has come. Of how many objects, is known when the server tells
    /// (Located Items, since 1.3), and in any case when its list has come to the end.
    #[must_use]
    pub fn on_progress(mut self, observer: impl FnMut(&Progress) + Send + 'static) -> Self {
        self.ledger.observer = Some(Box::new(observer));
        self
    }

    /// Tells `sink` what became of each object.
    #[must_use]
    pub fn on_object(mut self, sink: impl FnMut(&ObjectResult) + Send + 'static) -> Self {
        self.ledger.sink = Some(Box::new(sink));
        self
    }

    /// Finds out what would become of each object, as a dry run, and writes it to `sink` as a plan, which [`executing`](Pull::executing)
    /// takes. A plan holds no key material; nobody but this store can make one for it.
    #[must_use]
    pub fn planning(mut self, sink: impl Write + Send + 'static) -> Self {
        self.ledger.write_plan(sink);
        self
    }

    /// Takes the objects that a plan names, and no others, as they were shown when it was made, if they find here in the same transaction what
    /// was held then. At the first object of which that is not so the session stops, and the report says [where](crate::Report::stopped). A
    /// bad plan ends the session before anything is asked for; an execution that was interrupted goes on where it was.
    #[must_use]
    pub fn executing(mut self, plan: impl Read + Seek + Send + 'static) -> Self {
        self.ledger.execute_plan(plan);
        self
    }

    /// Where the lists of taken objects are kept, of all transfers under this name.
    fn lists(&self) -> Vec<u8> {
        match self.observing {
            Some(_) => keys::foreign_taken_prefix(&self.options.name),
            None => keys::pulled_prefix(&self.options.name),
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

    fn start(&mut self, cx: &SessionContext<'_>) -> Result<()> {
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

    fn finish(&mut self, cx: &SessionContext<'_>) -> Result<Step> {
        self.name_what_was_not_shown(cx)?;
        if let Some(listing) = &mut self.listing {
            self.ledger.report.unseen = std::mem::take(&mut listing.unseen);
        }
        self.ledger.end()?;
        if let Some((key, value)) = self.ledger.counts_entry()? {
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
    fn poll(&mut self, cx: &mut SessionContext<'_>, ticket: Ticket) -> Result<Step> {
        if !self.ledger.is_started() {
            self.start(cx)?;
        }
        match self.peer {
            PeerQuery::NotAsked => return self.ask_query(ticket),
            PeerQuery::Asked => return Ok(Step::Wait(None)),
            PeerQuery::Answered => {}
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
        self.read_plan()?;
        if let Some(step) = self.next_request(ticket)? {
            return Ok(step);
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
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        let taken = self.take_response(cx, ticket, response);
        if let Err(error) = &taken {
            self.failed(cx, error);
        }
        taken
    }
}
