//! Publishing to a server that knows nothing of it: each object is brought there by Import or Register, led to its State, brought up to date
//! attribute by attribute later, and read back. One batch of objects at a time, phase by phase.

pub(crate) mod answers;
pub(crate) mod change;
pub(crate) mod next;
pub(crate) mod object;
pub(crate) mod steps;

use crate::error::{Error, ErrorKind, Result};
use crate::material::transit::on_its_way;
use crate::node::Node;
use crate::outgoing::item::{SendOptions, Strategy, planned_item};
use crate::policy::Wrapping;
use crate::push::publish::object::Work;
use crate::push::publish::steps::{Level, is_usable, leading_to, marking, reading, registrable};
use crate::push::running::Running;
use crate::relation::identifier_map;
use crate::relation::identifier_map::Mapped;
use crate::relation::keys;
use crate::report::{ObjectResult, Outcome};
use crate::selection::{ChosenObjects, Selection};
use crate::session::{SessionContext, Step};
use crate::transfer::ledger::Ledger;
use crate::transfer::plan::Purpose;
use keyferry_kmip::spec::{
    BatchErrorContinuationOption, ObjectType, Operation, QueryFunction, State,
};
use keyferry_kmip::{
    Attributes, LocateRequest, Lost, Payload, QueryRequest, QueryResponse, RegisterRequest,
    RequestItem, RequestMessage, ResponseItem, ResponseMessage, Tick, Ticket, context,
};
use keyferry_store::StoreExt;
use keyferry_ttlv::{Extra, Version};
use std::collections::VecDeque;
use std::sync::Arc;

/// By which operation objects come to be at the peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Birth {
    /// With a marker, under an identifier that the peer gives.
    Register,
    /// Under their own identifiers.
    Import,
}

/// What is published, and how.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) birth: Birth,
    pub(crate) version: Version,
    pub(crate) selection: Selection,
    pub(crate) batch: usize,
    pub(crate) batch_bytes: usize,
    /// Whether what is destroyed here is destroyed there, where it was brought by us.
    pub(crate) may_destroy: bool,
}

impl Setting {
    fn purpose(&self) -> Result<Purpose<'_>> {
        let strategy = match self.birth {
            Birth::Register => "register",
            Birth::Import => "import",
        };
        Ok(Purpose {
            name: &self.name,
            strategy,
            version: self.version,
            selection: self.selection.digest()?,
        })
    }
}

pub(crate) struct Publish {
    pub(crate) setting: Setting,
    pub(crate) ledger: Ledger,
    pub(crate) wrapping: Option<(Arc<Node>, Wrapping)>,
    /// What the peer offers.
    operations: Vec<Operation>,
    chosen: Option<ChosenObjects>,
    phase: Phase,
    works: Vec<Work>,
    /// The batch's end in the feed.
    end: u64,
    /// Whether an earlier probe was looked for.
    swept: bool,
    /// Whether the peer keeps the State of an unusable key, once that is known.
    keeps: Option<bool>,
    /// How much of an object's attributes the peer takes, by Object Type, as far as that was learnt.
    levels: Vec<(ObjectType, Level)>,
    /// The objects of a message one by one, after one that was refused as a whole.
    single: bool,
    /// Objects of the next batch: more while the peer takes them quickly.
    batch: usize,
    /// When this one was begun.
    began: Tick,
    under_way: Option<(Ticket, Vec<usize>)>,
    /// What an answer has to change in the map.
    changed: Vec<keys::Entry>,
    /// Whether it runs a relation, and that one, once it was begun.
    pub(crate) runs: bool,
    pub(crate) running: Option<Running>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Phase {
    Query,
    /// What is next in the feed, or in the plan.
    Next,
    /// What a plan is about is looked at.
    Check,
    /// What may have been registered is looked for by its marker.
    Locate,
    Birth,
    /// The State is looked at; then attributes and State are brought to where they belong, and all is read back.
    Look,
    Lead,
    /// The probe goes.
    Remove,
}

/// How many hits are looked at, where a peer finds more than it was asked for.
const CANDIDATES: i32 = 100;

/// Objects in the first batch.
const FIRST: usize = 20;

/// Milliseconds within which a batch grows, and behind which it shrinks: a slow peer is not kept from answering.
const QUICK: u64 = 2_000;

const SLOW: u64 = 10_000;

/// About what a message may hold.
const LARGEST: usize = keyferry_ttlv::Limits::DEFAULT.size - 4096;

pub(crate) const NOT_KEPT: &str =
    "the peer does not keep the State of a key that is not usable, as far as can be seen";

impl Publish {
    pub(crate) fn new(setting: Setting, ledger: Ledger) -> Self {
        Publish {
            batch: setting.batch.clamp(1, FIRST),
            began: Tick(0),
            setting,
            ledger,
            wrapping: None,
            operations: Vec::new(),
            chosen: None,
            phase: Phase::Query,
            works: Vec::new(),
            end: 0,
            swept: false,
            keeps: None,
            levels: Vec::new(),
            single: false,
            under_way: None,
            changed: Vec::new(),
            runs: false,
            running: None,
        }
    }

    /// Runs the relation of its name.
    pub(crate) fn running(mut self) -> Self {
        self.runs = true;
        self
    }

    /// Whether the peer shows what it has.
    fn can_look(&self) -> bool {
        self.operations.contains(&Operation::GET_ATTRIBUTES)
    }

    fn item<P: Payload>(&self, payload: &P) -> Result<RequestItem> {
        RequestItem::new(payload, context(self.setting.version)).map_err(Error::encode)
    }

    fn send(&mut self, ticket: Ticket, of: Vec<usize>, items: Vec<RequestItem>) -> Step {
        let mut message = RequestMessage::new(self.setting.version, items);
        if message.batch.len() > 1 {
            message.header.batch_error_continuation_option =
                Some(BatchErrorContinuationOption::CONTINUE);
        }
        self.under_way = Some((ticket, of));
        Step::Send(Box::new(message))
    }

    fn store(&self, cx: &SessionContext<'_>, entries: &[keys::Entry]) -> Result<()> {
        if self.ledger.dry_run || entries.is_empty() {
            return Ok(());
        }
        cx.store.transact::<_, Error>(|transaction| {
            self.running
                .as_ref()
                .map_or(Ok(()), |running| running.check(transaction))?;
            identifier_map::store(transaction, &self.setting.name, entries)
        })
    }

    /// The message of this phase, for as many objects as are waiting for it; `None` when none is.
    fn message(&mut self, cx: &mut SessionContext<'_>, ticket: Ticket) -> Result<Option<Step>> {
        if self.keeps.is_none()
            && self
                .works
                .first()
                .is_some_and(|work| work.probe && !work.stale && work.at.is_none())
        {
            self.keeps = Some(false);
        }
        self.forbid_unusable(cx);
        // A probe goes through all phases before anything depends on it.
        let probing = self
            .works
            .first()
            .is_some_and(|work| work.probe && work.at.is_some());
        let waiting = self
            .works
            .iter()
            .enumerate()
            .filter(|(n, work)| work.at == Some(self.phase) && (!probing || *n == 0));
        let is_alone = |work: &Work| work.singly.is_some();
        let alone = self.single
            || probing
            || waiting
                .clone()
                .next()
                .is_some_and(|(_, work)| is_alone(work));
        let together = waiting
            .filter(|(_, work)| alone || !is_alone(work))
            .map(|(n, _)| n);
        let of: Vec<usize> = together.take(if alone { 1 } else { usize::MAX }).collect();
        if of.is_empty() {
            return Ok(None);
        }
        let (mut items, mut asked, mut over, mut size) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for n in of {
            let own = match self.items(cx, n) {
                Ok(own) => own,
                // What the version can't say stays here.
                Err(error) if error.kind() == ErrorKind::Encode => {
                    over.push((n, Some(error.to_string())));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let bytes: usize = own
                .iter()
                .map(|item| item.request_payload.bytes().len() + 64)
                .sum();
            if bytes > LARGEST {
                over.push((
                    n,
                    Some(format!(
                        "the object takes about {bytes} bytes, more than a message may have"
                    )),
                ));
            } else if own.is_empty() {
                over.push((n, None));
            } else if size + bytes > LARGEST {
                break;
            } else {
                size += bytes;
                items.extend(own);
                asked.push(n);
            }
        }
        for (n, why) in over {
            if let Some(work) = self.works.get_mut(n) {
                work.at = None;
                if let Some(why) = why {
                    work.there = None;
                    work.told = Some(ObjectResult::failed(&work.record.identifier, None, why));
                }
            }
        }
        if items.is_empty() {
            return self.message(cx, ticket);
        }
        if self.phase == Phase::Lead {
            self.saying(cx, &asked)?;
        }
        self.ledger.report.counts.bytes += i64::try_from(size).unwrap_or(i64::MAX);
        Ok(Some(self.send(ticket, asked, items)))
    }

    /// What is asked of one object in this phase.
    fn items(&mut self, cx: &mut SessionContext<'_>, n: usize) -> Result<Vec<RequestItem>> {
        let phase = self.phase;
        if let (Phase::Lead, Some(work)) = (phase, self.works.get_mut(n))
            && let Some(next) = work.singly.as_mut().and_then(VecDeque::pop_front)
        {
            work.changing = true;
            return Ok(vec![next]);
        }
        let Some(work) = self.works.get(n) else {
            return Ok(Vec::new());
        };
        let (there, version) = (work.there.as_ref(), self.setting.version);
        let state = work.shown.as_ref().and_then(Attributes::state);
        Ok(match phase {
            Phase::Locate => {
                let criteria = Attributes::new().with(marking(&work.record.id)?);
                vec![self.item(&LocateRequest {
                    maximum_items: Some(CANDIDATES),
                    storage_status_mask: steps::everywhere(version),
                    ..LocateRequest::of(criteria)
                })?]
            }
            Phase::Birth => {
                let Some(object) = work.object.clone() else {
                    return Ok(Vec::new());
                };
                match self.setting.birth {
                    Birth::Register => {
                        let (name, record, level) = (&self.setting.name, &work.record, work.level);
                        let attributes = cx.store.view::<_, Error>(|snapshot| {
                            registrable(snapshot, name, record, level, version)
                        })?;
                        vec![self.item(&RegisterRequest::of(object, attributes))?]
                    }
                    Birth::Import => {
                        let wrapping = self.wrapping.as_ref().filter(|_| !work.probe);
                        let (object, wrapped) =
                            on_its_way(cx, wrapping, version, &work.record, Some(object))?;
                        let strategy = Strategy::Import;
                        let terms = SendOptions {
                            strategy,
                            version,
                            keyferry: false,
                            session: None,
                            dry_run: false,
                            wrapped,
                        };
                        vec![planned_item(terms, work.record.clone(), object, None)?]
                    }
                }
            }
            Phase::Check | Phase::Look => vec![self.item(&reading(there))?],
            Phase::Lead => {
                let mut items = self.leading(cx, n)?;
                items.push(self.item(&reading(there))?);
                items
            }
            Phase::Remove => leading_to(
                there,
                &work.record,
                state,
                Some(State::DESTROYED),
                context(version),
            )?,
            Phase::Query | Phase::Next => Vec::new(),
        })
    }

    /// What is still to be done to an object that is there.
    fn leading(&self, cx: &SessionContext<'_>, n: usize) -> Result<Vec<RequestItem>> {
        let Some(work) = self.works.get(n) else {
            return Ok(Vec::new());
        };
        let state = work.shown.as_ref().and_then(Attributes::state);
        let mut items = if work.singly.is_none() {
            self.changes(cx, work)?
        } else {
            Vec::new()
        };
        let cx_of = context(self.setting.version);
        items.extend(leading_to(
            work.there.as_ref(),
            &work.record,
            state,
            self.goal(cx, work),
            cx_of,
        )?);
        Ok(items)
    }

    /// How the attributes of an object that was there before are brought up to date.
    fn changes(&self, cx: &SessionContext<'_>, work: &Work) -> Result<Vec<RequestItem>> {
        let (Some(identifier), Some(shown)) = (&work.there, &work.shown) else {
            return Ok(Vec::new());
        };
        if work.born || work.left {
            return Ok(Vec::new());
        }
        let (name, version) = (&self.setting.name, self.setting.version);
        let wanted = cx
            .store
            .view::<_, Error>(|snapshot| steps::wanted(snapshot, name, &work.record, version))?;
        let target = change::Target {
            identifier,
            version,
            operations: &self.operations,
        };
        change::changes(&target, &wanted, shown, work.said())
    }

    /// The phase behind this one. A probe leads through all of them first.
    fn forward(&mut self) {
        self.phase = match self.phase {
            Phase::Check => Phase::Locate,
            Phase::Locate => Phase::Birth,
            Phase::Birth => Phase::Look,
            Phase::Look => Phase::Lead,
            Phase::Lead => Phase::Remove,
            Phase::Remove if self.works.iter().any(|work| work.at.is_some()) => Phase::Check,
            _ => Phase::Next,
        };
    }

    /// The batch is done: its counts, its map and its end are stored together.
    fn settle(&mut self, cx: &mut SessionContext<'_>) -> Result<()> {
        let (mut entries, mut done, mut kept) = (Vec::new(), 0, Vec::new());
        entries.extend(
            self.works
                .iter()
                .any(|work| work.gone)
                .then(|| (self.probe_key(), None)),
        );
        for work in std::mem::take(&mut self.works)
            .into_iter()
            .filter(|work| !work.probe)
        {
            let none =
                || ObjectResult::failed(&work.record.identifier, None, "it did not come to an end");
            let mut told = work.told.clone().unwrap_or_else(none);
            let name = &self.setting.name;
            if work.unsure {
                // Whether it ever came there, the next look tells.
                entries.extend(work.mapped.as_ref().map_or_else(
                    || Ok(Vec::new()),
                    |mapped| identifier_map::entries(name, mapped),
                )?);
            } else if told.outcome == Outcome::Withdrawn {
                entries.push(identifier_map::forgotten(name, &work.record.id)?);
            } else if let Some(mapped) = work
                .mapped
                .clone()
                .filter(|_| work.left && work.there.is_some())
            {
                let mapped = Mapped {
                    there: work.there.clone(),
                    left: Some(true),
                    ..mapped
                };
                entries.extend(identifier_map::entries(name, &mapped)?);
            } else if let Some(there) = work.there.clone() {
                let whole = !told.outcome.is_failure();
                let wanted = || {
                    cx.store.view::<_, Error>(|snapshot| {
                        steps::wanted(snapshot, name, &work.record, self.setting.version)
                    })
                };
                let said = if whole {
                    Some(change::marks(wanted()?.iter()))
                } else {
                    Some(work.said().to_vec())
                };
                let digest = whole.then(|| work.record.copy_digest()).transpose()?;
                let mapped = Mapped {
                    there: Some(there),
                    digest,
                    said,
                    ..Mapped::intended(&work.record.id)
                };
                entries.extend(identifier_map::entries(name, &mapped)?);
            } else if told.outcome.is_failure() || work.mapped.is_some() {
                entries.push(identifier_map::forgotten(name, &work.record.id)?);
            }
            if let Some(planned) = &work.planned
                && self.ledger.is_unplanned(planned, &mut told)
            {
                break;
            }
            if self.ledger.planning.is_some() {
                let planned = work.plan(&told)?;
                self.ledger.plan(|| planned)?;
            }
            done += 1;
            kept.push((work.record.id, told.clone()));
            self.ledger.tell(told);
        }
        if self.ledger.executing.is_some() {
            self.ledger.done(done);
        } else {
            self.ledger.report.counts.cursor = i64::try_from(self.end).unwrap_or(i64::MAX);
        }
        entries.extend(self.ledger.kept()?.map(|(key, value)| (key, Some(value))));
        if let Some(running) = &mut self.running {
            let end = self.end;
            cx.store.transact::<_, Error>(|transaction| {
                running.keep(transaction, cx.now.wall, &mut *cx.random, &kept, end)?;
                identifier_map::store(transaction, &self.setting.name, &entries)
            })?;
            running.from = end;
        } else {
            self.store(cx, &entries)?;
        }
        self.batch = match cx.now.tick.0.saturating_sub(self.began.0) {
            taken if self.single || taken > SLOW => (self.batch / 2).max(1),
            taken if taken < QUICK => (self.batch * 2).min(self.setting.batch.max(1)),
            _ => self.batch,
        };
        self.single = false;
        self.ledger.observe(cx.now);
        Ok(())
    }

    /// After a probe that failed, what is not usable stays here.
    fn forbid_unusable(&mut self, cx: &SessionContext<'_>) {
        if self.keeps != Some(false) {
            return;
        }
        for work in self
            .works
            .iter_mut()
            .filter(|work| work.at == Some(Phase::Birth) && !work.probe)
        {
            if !is_usable(work.record.state(cx.now.wall)) {
                let told = ObjectResult::failed(&work.record.identifier, None, NOT_KEPT);
                work.over(told);
            }
        }
    }

    /// Where it stands, and which objects it is about.
    fn start(&mut self, cx: &SessionContext<'_>) -> Result<()> {
        self.begin(cx)?;
        let purpose = self.setting.purpose()?;
        self.ledger.start(cx, &purpose)?;
        if let Some(planning) = &mut self.ledger.planning {
            planning.begin(cx, &purpose, None)?;
        }
        let chosen = cx
            .store
            .view::<_, Error>(|snapshot| self.setting.selection.choose(snapshot, cx.now.wall))?;
        self.ledger
            .expect(|| cx.store.view(|snapshot| chosen.count(snapshot)))?;
        self.chosen = Some(chosen);
        self.end = self.committed();
        Ok(())
    }

    /// Up to where of the feed everything is done.
    fn committed(&self) -> u64 {
        let cursor = || u64::try_from(self.ledger.report.counts.cursor).unwrap_or(0);
        self.running
            .as_ref()
            .map_or_else(cursor, |running| running.from)
    }

    pub(crate) fn poll(&mut self, cx: &mut SessionContext<'_>, ticket: Ticket) -> Result<Step> {
        if self.chosen.is_none() {
            self.start(cx)?;
        }
        if self.under_way.is_some() {
            return Ok(Step::Wait(None));
        }
        loop {
            if self.ledger.report.stopped.is_some() {
                // What was not begun leaves no intent.
                for work in std::mem::take(&mut self.works)
                    .into_iter()
                    .filter(|work| !work.probe && work.mapped.is_none())
                {
                    self.store(
                        cx,
                        &[identifier_map::forgotten(
                            &self.setting.name,
                            &work.record.id,
                        )?],
                    )?;
                }
                return self.finish(cx);
            }
            match self.phase {
                Phase::Query => {
                    let query_functions = vec![QueryFunction::QUERY_OPERATIONS];
                    let item = self.item(&QueryRequest {
                        query_functions,
                        object_groups: None,
                        extra: Extra::NONE,
                    })?;
                    return Ok(self.send(ticket, Vec::new(), vec![item]));
                }
                Phase::Next => {
                    if !self.works.is_empty() {
                        self.settle(cx)?;
                    } else if !self.next(cx)? && self.ledger.report.stopped.is_none() {
                        return self.finish(cx);
                    }
                }
                _ => {
                    if let Some(step) = self.message(cx, ticket)? {
                        return Ok(step);
                    }
                    self.forward();
                }
            }
        }
    }

    fn finish(&mut self, cx: &SessionContext<'_>) -> Result<Step> {
        self.ledger.end()?;
        self.ledger.save(cx)?;
        self.ledger.observe(cx.now);
        Ok(Step::Done(Box::new(self.ledger.finish())))
    }

    /// Takes what the peer says that it offers.
    pub(crate) fn offered(&mut self, operations: Vec<Operation>) -> Result<()> {
        let needed: &[Operation] = match self.setting.birth {
            Birth::Register => &[
                Operation::REGISTER,
                Operation::LOCATE,
                Operation::GET_ATTRIBUTES,
            ],
            Birth::Import => &[Operation::IMPORT],
        };
        if let Some(lacking) = needed.iter().find(|one| !operations.contains(one)) {
            return Err(Error::new(
                ErrorKind::Peer,
                format_args!("the peer does not offer {lacking}"),
            ));
        }
        (self.operations, self.phase) = (operations, Phase::Next);
        Ok(())
    }

    pub(crate) fn answer(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        let under_way = self.under_way.take();
        let Ok(response) = response else {
            // From the stored cursor on, where the intents say what may have been brought there.
            (self.phase, self.works, self.swept) = (Phase::Query, Vec::new(), false);
            self.end = self.committed();
            self.running.iter_mut().for_each(Running::lost);
            return Ok(());
        };
        let Some((_, of)) = under_way.filter(|(expected, _)| *expected == ticket) else {
            return Err(Error::new(
                ErrorKind::Protocol,
                "an answer came to nothing that was asked",
            ));
        };
        if self.phase == Phase::Query {
            let item = response.batch.first().filter(|item| item.is_success());
            let cx = context(self.setting.version);
            let query: Option<QueryResponse> = item.and_then(|item| item.payload(cx).ok());
            let version = self.setting.version;
            let query = query.ok_or_else(|| {
                Error::new(
                    ErrorKind::Peer,
                    format_args!("the peer does not answer Query in {version}"),
                )
            })?;
            return self.offered(query.operations);
        }
        // Each object's items end with the one that tells: the only one, or the reading back.
        let refused = response.batch.len() == 1
            && response
                .batch
                .first()
                .is_some_and(|item| !item.is_success());
        if refused && of.len() > 1 {
            // As a whole, for one of them: once more, one by one.
            self.single = true;
            return Ok(());
        }
        let is_whole = |items: &&[ResponseItem]| {
            items
                .last()
                .is_some_and(|item| item.operation == Some(Operation::GET_ATTRIBUTES))
        };
        if let (Phase::Lead, [n]) = (self.phase, &of[..])
            && !is_whole(&&response.batch[..])
            && self.goes_singly(cx, *n)?
        {
            return Ok(());
        }
        let groups: Vec<&[ResponseItem]> = match self.phase {
            _ if of.len() == 1 => vec![&response.batch],
            Phase::Lead => {
                let reads = |item: &ResponseItem| item.operation == Some(Operation::GET_ATTRIBUTES);
                response
                    .batch
                    .split_inclusive(reads)
                    .filter(is_whole)
                    .collect()
            }
            Phase::Remove => Vec::new(),
            _ => response.batch.chunks(1).collect(),
        };
        if groups.is_empty() {
            self.single = true;
        }
        // Where the peer stopped half way, the others are asked for again.
        for (n, items) in of.iter().zip(groups) {
            self.take(cx, *n, items)?;
        }
        let changed = std::mem::take(&mut self.changed);
        self.store(cx, &changed)
    }

    /// Whether an object's attributes go on being changed one by one: that is how it goes already, or the peer could not take them together.
    fn goes_singly(&mut self, cx: &SessionContext<'_>, n: usize) -> Result<bool> {
        let Some(work) = self.works.get(n) else {
            return Ok(false);
        };
        if work.changing {
            // Whether this one was taken, the reading back tells.
            self.works
                .get_mut(n)
                .into_iter()
                .for_each(|work| work.changing = false);
            return Ok(true);
        }
        if work.singly.is_some() {
            return Ok(false);
        }
        let changes = self.changes(cx, work)?;
        let goes_on = !changes.is_empty();
        if let Some(work) = self.works.get_mut(n).filter(|_| goes_on) {
            work.singly = Some(changes.into());
        }
        Ok(goes_on)
    }
}
