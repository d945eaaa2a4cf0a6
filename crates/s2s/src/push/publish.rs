//! Publishing to a foreign server, which knows nothing of transfers: the machinery that `bulk`, `register` and `publication` share.
//!
//! Each object is created at the peer by Import or Register, brought to its State by the operations of the lifecycle, brought up to date attribute
//! by attribute in later runs, and read back. A batch of objects goes through these steps phase by phase, so that one message carries many objects.

mod answers;
mod change;
mod message;
mod next;
mod object;
mod probe;
mod reading;
mod results;
pub(super) mod steps;

use crate::error::{Error, ErrorKind, Result};
use crate::node::Node;
use crate::policy::Wrapping;
use crate::push::publish::object::{Changes, Stage, Work};
use crate::push::publish::steps::Level;
use crate::push::running::Running;
use crate::relation::identifier_map;
use crate::relation::keys;
use crate::selection::{ChosenObjects, Selection};
use crate::session::{SessionContext, Step};
use crate::transfer::ledger::Ledger;
use crate::transfer::plan::Purpose;
use keyferry_kmip::spec::{ObjectType, Operation, QueryFunction};
use keyferry_kmip::{
    Lost, QueryRequest, QueryResponse, ResponseItem, ResponseMessage, Tick, Ticket, context,
};
use keyferry_store::StoreExt;
use keyferry_ttlv::{Extra, Version};
use std::sync::Arc;

/// The operation that creates objects at the peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CreateBy {
    /// Register, with a marker; the peer gives the identifier.
    Register,
    /// Import, under the object's own identifier.
    Import,
}

/// What is published, and how.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) create_by: CreateBy,
    pub(crate) version: Version,
    pub(crate) selection: Selection,
    pub(crate) batch: usize,
    pub(crate) batch_bytes: usize,
    /// Whether an object that is destroyed here is destroyed at the peer, if this transfer has brought it there.
    pub(crate) may_destroy: bool,
}

impl Setting {
    /// The largest number of objects in a message, unless options say another one. A session begins with fewer.
    pub(crate) const DEFAULT_BATCH: usize = 4000;

    /// About how many bytes of material and attributes a message may have, unless options say another number: 4 MiB.
    pub(crate) const DEFAULT_BATCH_BYTES: usize = 4 << 20;

    fn purpose(&self) -> Result<Purpose<'_>> {
        let strategy = match self.create_by {
            CreateBy::Register => "register",
            CreateBy::Import => "import",
        };
        Ok(Purpose {
            name: &self.name,
            strategy,
            version: self.version,
            selection: self.selection.digest()?,
        })
    }
}

/// A session that publishes.
pub(crate) struct Publish {
    pub(crate) setting: Setting,
    pub(crate) ledger: Ledger,
    pub(crate) wrapping: Option<(Arc<Node>, Wrapping)>,
    /// The operations that the peer offers.
    operations: Vec<Operation>,
    chosen: Option<ChosenObjects>,
    phase: Phase,
    /// The objects of the batch.
    works: Vec<Work>,
    /// The feed number at which the batch ends.
    batch_end: u64,
    /// Whether the probe of an earlier session was looked for.
    looked_for_leftover_probe: bool,
    keeps_state: KeepsState,
    /// How many of an object's attributes the peer takes, by Object Type, as far as that was learnt.
    levels: Vec<(ObjectType, Level)>,
    /// Whether each object gets a message of its own, since a message was refused as a whole.
    one_by_one: bool,
    /// The number of objects in the next batch: more while the peer takes them quickly.
    batch: usize,
    batch_began: Tick,
    under_way: Option<UnderWay>,
    /// The changes of the map that follow from the answer being read.
    map_changes: Vec<keys::Entry>,
    /// Whether the session runs a relation.
    runs_relation: bool,
    /// The run of that relation, once it has begun.
    pub(crate) running: Option<Running>,
}

/// The message under way, with the numbers of the objects that it is about.
struct UnderWay {
    ticket: Ticket,
    works: Vec<usize>,
}

/// Whether the peer keeps the State of a key that is not usable.
#[derive(Clone, Copy, Debug, PartialEq)]
enum KeepsState {
    /// No probe has shown it yet.
    Unknown,
    Yes,
    No,
}

/// What the next message is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// To ask what the peer can do.
    Query,
    /// There is no message: the next batch is read.
    Next,
    /// To look at objects before anything is written: for a plan, or by one.
    Check,
    /// To search by their marker for objects that may have been registered.
    Locate,
    /// To register or import objects.
    Create,
    /// To look at the State and the attributes that objects have.
    Inspect,
    /// To change attributes and State, and to read all back.
    Update,
    /// To destroy probes, and keys whose State is not kept.
    Remove,
}

/// The number of objects in the first batch.
const FIRST_BATCH: usize = 20;

/// Why a key that is not usable stays here.
pub(crate) const STATE_NOT_KEPT: &str =
    "the peer does not keep the State of a key that is not usable, as far as can be seen";

impl Publish {
    /// Makes a session.
    pub(crate) fn new(setting: Setting, ledger: Ledger) -> Self {
        Publish {
            batch: setting.batch.clamp(1, FIRST_BATCH),
            batch_began: Tick(0),
            setting,
            ledger,
            wrapping: None,
            operations: Vec::new(),
            chosen: None,
            phase: Phase::Query,
            works: Vec::new(),
            batch_end: 0,
            looked_for_leftover_probe: false,
            keeps_state: KeepsState::Unknown,
            levels: Vec::new(),
            one_by_one: false,
            under_way: None,
            map_changes: Vec::new(),
            runs_relation: false,
            running: None,
        }
    }

    /// Makes it a session of the relation of its name.
    pub(crate) fn of_relation(mut self) -> Self {
        self.runs_relation = true;
        self
    }

    fn imports(&self) -> bool {
        self.setting.create_by == CreateBy::Import
    }

    /// Whether the peer shows what it has.
    fn can_look(&self) -> bool {
        self.operations.contains(&Operation::GET_ATTRIBUTES)
    }

    /// Stores changes of the map and of the probe, unless it is a dry run or another session has begun.
    fn store(&self, cx: &SessionContext<'_>, entries: &[keys::Entry]) -> Result<()> {
        if self.ledger.dry_run || entries.is_empty() {
            return Ok(());
        }
        cx.store.transact::<_, Error>(|transaction| {
            if let Some(running) = &self.running {
                running.check(transaction)?;
            }
            identifier_map::store(transaction, &self.setting.name, entries)
        })
    }

    /// Goes on to the next phase. A probe goes through all phases before the other objects of its batch.
    fn advance_phase(&mut self) {
        self.phase = match self.phase {
            Phase::Check => Phase::Locate,
            Phase::Locate => Phase::Create,
            Phase::Create => Phase::Inspect,
            Phase::Inspect => Phase::Update,
            Phase::Update => Phase::Remove,
            Phase::Remove if self.works.iter().any(|work| !work.is_over()) => Phase::Check,
            Phase::Remove | Phase::Query | Phase::Next => Phase::Next,
        };
    }

    /// Finds out where the transfer stands, and which objects it is about.
    fn start(&mut self, cx: &SessionContext<'_>) -> Result<()> {
        if self.runs_relation {
            self.begin_relation(cx)?;
        }
        let purpose = self.setting.purpose()?;
        self.ledger.start(cx, &purpose)?;
        if let Some(planning) = &mut self.ledger.planning {
            planning.begin(cx, &purpose, None)?;
        }
        let chosen = cx
            .store
            .view::<_, Error>(|snapshot| self.setting.selection.choose(snapshot, cx.now.wall))?;
        self.ledger
            .expect_total(|| cx.store.view(|snapshot| chosen.count(snapshot)))?;
        self.chosen = Some(chosen);
        self.batch_end = self.committed();
        Ok(())
    }

    /// Begins the run of the relation, which says what is published and how.
    fn begin_relation(&mut self, cx: &SessionContext<'_>) -> Result<()> {
        let operations = [Operation::IMPORT, Operation::REGISTER];
        let running = Running::begin(cx, &self.setting.name, &operations)?;
        let relation = &running.relation;
        self.setting.selection = relation.selection();
        self.setting.may_destroy = relation.may_destroy;
        self.setting.create_by = if relation.by == Operation::REGISTER {
            CreateBy::Register
        } else {
            CreateBy::Import
        };
        self.running = Some(running);
        Ok(())
    }

    /// The feed number up to which everything is done.
    fn committed(&self) -> u64 {
        let cursor = || u64::try_from(self.ledger.report.counts.cursor).unwrap_or(0);
        self.running
            .as_ref()
            .map_or_else(cursor, |running| running.committed)
    }

    /// Says what to do next, as [`Session::poll`](crate::Session::poll).
    pub(crate) fn poll(&mut self, cx: &mut SessionContext<'_>, ticket: Ticket) -> Result<Step> {
        if self.chosen.is_none() {
            self.start(cx)?;
        }
        if self.under_way.is_some() {
            return Ok(Step::Wait(None));
        }
        loop {
            if self.ledger.report.stopped.is_some() {
                self.forget_unused_intents(cx)?;
                return self.finish(cx);
            }
            match self.phase {
                Phase::Query => return self.query(ticket),
                Phase::Next => {
                    if !self.works.is_empty() {
                        self.record_batch_results(cx)?;
                    } else if !self.next_batch(cx)? && self.ledger.report.stopped.is_none() {
                        return self.finish(cx);
                    }
                }
                _ => {
                    if let Some(step) = self.next_message(cx, ticket)? {
                        return Ok(step);
                    }
                    self.advance_phase();
                }
            }
        }
    }

    /// Takes the intents of objects back that were not sent, once the execution of a plan has stopped.
    fn forget_unused_intents(&mut self, cx: &SessionContext<'_>) -> Result<()> {
        for work in std::mem::take(&mut self.works) {
            if !work.is_probe() && work.mapped.is_none() {
                let entry = identifier_map::forgotten(&self.setting.name, &work.record.id)?;
                self.store(cx, &[entry])?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, cx: &SessionContext<'_>) -> Result<Step> {
        self.ledger.end()?;
        self.ledger.save(cx)?;
        self.ledger.observe(cx.now);
        Ok(Step::Done(Box::new(self.ledger.finish())))
    }

    /// Asks what the peer can do.
    fn query(&mut self, ticket: Ticket) -> Result<Step> {
        let query = QueryRequest {
            query_functions: vec![QueryFunction::QUERY_OPERATIONS],
            object_groups: None,
            extra: Extra::NONE,
        };
        let item = self.item(&query)?;
        Ok(self.send(ticket, Vec::new(), vec![item]))
    }

    /// Notes the operations that the peer offers, and fails if it lacks one without which nothing can be published.
    pub(crate) fn accept_operations(&mut self, operations: Vec<Operation>) -> Result<()> {
        let needed: &[Operation] = match self.setting.create_by {
            CreateBy::Register => &[
                Operation::REGISTER,
                Operation::LOCATE,
                Operation::GET_ATTRIBUTES,
            ],
            CreateBy::Import => &[Operation::IMPORT],
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

    /// Takes the answer to a message, as [`Session::answer`](crate::Session::answer).
    pub(crate) fn answer(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        let under_way = self.under_way.take();
        let Ok(response) = response else {
            self.on_lost();
            return Ok(());
        };
        let Some(UnderWay { works, .. }) = under_way.filter(|sent| sent.ticket == ticket) else {
            return Err(Error::new(
                ErrorKind::Protocol,
                "an answer came to nothing that was asked",
            ));
        };
        if self.phase == Phase::Query {
            self.on_query_answer(&response)
        } else {
            self.on_batch_answer(cx, &works, &response)
        }
    }

    /// Begins again behind what is stored when the connection is lost. The intents say what may be at the peer.
    fn on_lost(&mut self) {
        self.phase = Phase::Query;
        self.works = Vec::new();
        self.looked_for_leftover_probe = false;
        self.batch_end = self.committed();
        self.running.iter_mut().for_each(Running::reread_retries);
    }

    fn on_query_answer(&mut self, response: &ResponseMessage) -> Result<()> {
        let version = self.setting.version;
        let item = response.batch.first().filter(|item| item.is_success());
        let query: Option<QueryResponse> =
            item.and_then(|item| item.payload(context(version)).ok());
        let query = query.ok_or_else(|| {
            Error::new(
                ErrorKind::Peer,
                format_args!("the peer does not answer Query in {version}"),
            )
        })?;
        self.accept_operations(query.operations)
    }

    /// Reads an answer object by object, and stores the changes of the map.
    fn on_batch_answer(
        &mut self,
        cx: &SessionContext<'_>,
        works: &[usize],
        response: &ResponseMessage,
    ) -> Result<()> {
        let refused = response.batch.len() == 1
            && response
                .batch
                .first()
                .is_some_and(|item| !item.is_success());
        if refused && works.len() > 1 {
            // The message was refused as a whole, for one of its objects.
            self.one_by_one = true;
            return Ok(());
        }
        if let (Phase::Update, [n]) = (self.phase, works)
            && !ends_with_reading(&response.batch)
            && self.continue_singly(cx, *n)?
        {
            return Ok(());
        }
        let groups = self.items_by_object(works.len(), &response.batch);
        if groups.is_empty() {
            self.one_by_one = true;
        }
        // Where the peer stopped half way, the other objects are asked for again.
        for (n, items) in works.iter().zip(groups) {
            self.apply_answer(cx, *n, items)?;
        }
        let changes = std::mem::take(&mut self.map_changes);
        self.store(cx, &changes)
    }

    /// Separates the items of an answer by the objects that they are about. An object's items end with the one that says what became of it: its only
    /// one, or the reading back.
    fn items_by_object<'a>(
        &self,
        objects: usize,
        items: &'a [ResponseItem],
    ) -> Vec<&'a [ResponseItem]> {
        match self.phase {
            _ if objects == 1 => vec![items],
            Phase::Update => items
                .split_inclusive(is_reading)
                .filter(|items| ends_with_reading(items))
                .collect(),
            Phase::Remove => Vec::new(),
            _ => items.chunks(1).collect(),
        }
    }

    /// Goes on changing an object's attributes in messages of their own, if the peer could not take them together. Returns whether it does.
    fn continue_singly(&mut self, cx: &SessionContext<'_>, n: usize) -> Result<bool> {
        let Some(work) = self.works.get_mut(n) else {
            return Ok(false);
        };
        if let Stage::Update {
            changes: Changes::Singly { under_way, .. },
            ..
        } = &mut work.stage
        {
            // Whether the peer took this change, the reading back shows.
            return Ok(std::mem::take(under_way));
        }
        let Some(work) = self.works.get(n) else {
            return Ok(false);
        };
        let Stage::Update { shown, .. } = &work.stage else {
            return Ok(false);
        };
        let remaining = self.attribute_changes(cx, work, shown)?;
        if remaining.is_empty() {
            return Ok(false);
        }
        if let Some(Work {
            stage: Stage::Update { changes, .. },
            ..
        }) = self.works.get_mut(n)
        {
            *changes = Changes::Singly {
                remaining: remaining.into(),
                under_way: false,
            };
        }
        Ok(true)
    }
}

fn is_reading(item: &ResponseItem) -> bool {
    item.operation == Some(Operation::GET_ATTRIBUTES)
}

fn ends_with_reading(items: &[ResponseItem]) -> bool {
    items.last().is_some_and(is_reading)
}
