use crate::ledger::Ledger;
use crate::mapping::{self, Mapped};
use crate::outgoing::{Stretch, withheld};
use crate::report::{Counts, Ending, Told};
use crate::selection::Chosen;
use crate::{Cx, Error, ErrorKind, Result, Selection, Session, Step};
use keyferry_kmip::spec::{BatchErrorContinuationOption, CryptographicAlgorithm, Operation, QueryFunction, State};
use keyferry_kmip::{
    Attributes, LocateRequest, LocateResponse, Lost, Object, Payload, QueryRequest, QueryResponse, RegisterRequest,
    RegisterResponse, RequestItem, RequestMessage, ResponseItem, ResponseMessage, Secret, Text, Ticket, UniqueIdentifier,
    context,
};
use keyferry_store::{ObjectId, Record, Stamp, StoreExt};
use keyferry_ttlv::{Extra, Version};
use steps::{Level, lacking, leading_to, marking, reading, registrable};

mod steps;

/// How a register goes about it.
#[derive(Clone, Debug)]
pub struct RegisterOptions {
    /// Names the transfer and its identifier map in our store, usually the peer's server id.
    pub name: String,
    /// In which version (1.2).
    pub version: Version,
    /// Which objects (all).
    pub selection: Selection,
    /// Whether to find out what is to be done, and do nothing.
    pub dry_run: bool,
    /// Objects in a message at the most (20).
    pub batch: usize,
}

impl RegisterOptions {
    /// The usual ones.
    pub fn new(name: impl Into<String>) -> Self {
        RegisterOptions {
            name: name.into(),
            version: Version::V1_2,
            selection: Selection::everything(),
            dry_run: false,
            batch: 20,
        }
    }
}

/// Emulates a transfer to a server that knows nothing of it, in any version: Register, then Activate, Revoke and Destroy until the State is
/// right, then Get Attributes to see what arrived. What the server did not keep is reported, attribute by attribute: the identifier, dates
/// and everything else that only a server sets, at least.
///
/// An intent is stored before a Register is sent, and the object carries a marker (Application Specific Information), by which a
/// resumed session finds what was registered already. Material of a key that is not usable goes only where a throw-away
/// probe kept its State.
pub struct Register {
    options: RegisterOptions,
    ledger: Ledger,
    chosen: Option<Chosen>,
    phase: Phase,
    works: Vec<Work>,
    /// The batch's end in the feed.
    end: u64,
    /// Whether the peer keeps the State of an unusable key, once that is known.
    keeps: Option<bool>,
    /// How much of an object's attributes the peer takes, by Object Type, as far as that was learnt.
    levels: Vec<(keyferry_kmip::spec::ObjectType, Level)>,
    /// The objects of a message one by one, after one that was refused as a whole.
    single: bool,
    under_way: Option<(Ticket, Vec<usize>)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Query,
    /// What is next in the feed.
    Next,
    /// What may have been registered is looked for by its marker.
    Locate,
    Register,
    /// The State is looked at, then brought to where it belongs, then all is read back.
    Look,
    Lead,
    /// The probe goes.
    Remove,
}

/// An object on its way.
struct Work {
    record: Record,
    object: Option<Object>,
    there: Option<Text>,
    /// What else the peer found by its marker.
    candidates: Vec<Text>,
    /// An earlier run meant to register it.
    meant: bool,
    level: Level,
    probe: bool,
    known: bool,
    /// What the peer showed last.
    shown: Option<Attributes>,
    /// The phase that it waits for; it is over without one.
    at: Option<Phase>,
    told: Option<Told>,
}

impl Work {
    fn over(&mut self, told: Told) {
        self.at = None;
        self.told = Some(told);
    }
}

impl Register {
    /// A session with these options.
    pub fn new(options: RegisterOptions) -> Self {
        let ledger = Ledger::new([b"register/", options.name.as_bytes()].concat(), options.dry_run);
        Register {
            options,
            ledger,
            chosen: None,
            phase: Phase::Query,
            works: Vec::new(),
            end: 0,
            keeps: None,
            levels: Vec::new(),
            single: false,
            under_way: None,
        }
    }

    /// Calls `observer` after each batch, with what has been done so far.
    #[must_use]
    pub fn observed(mut self, observer: impl FnMut(&Counts) + Send + 'static) -> Self {
        self.ledger.observer = Some(Box::new(observer));
        self
    }

    /// Tells `sink` what became of each object.
    #[must_use]
    pub fn telling(mut self, sink: impl FnMut(&Told) + Send + 'static) -> Self {
        self.ledger.sink = Some(Box::new(sink));
        self
    }

    fn item<P: Payload>(&self, payload: &P) -> Result<RequestItem> {
        RequestItem::new(payload, context(self.options.version)).map_err(|e| Error::new(ErrorKind::Encode, e))
    }

    fn send(&mut self, ticket: Ticket, of: Vec<usize>, items: Vec<RequestItem>) -> Step {
        let mut message = RequestMessage::new(self.options.version, items);
        if message.batch.len() > 1 {
            message.header.batch_error_continuation_option = Some(BatchErrorContinuationOption::CONTINUE);
        }
        self.under_way = Some((ticket, of));
        Step::Send(Box::new(message))
    }

    /// Reads the next batch; `false` at the end of the feed.
    fn next(&mut self, cx: &mut Cx<'_>) -> Result<bool> {
        let Some(chosen) = &self.chosen else { return Ok(false) };
        let stretch = Stretch::read(cx.store, self.end, self.options.batch.max(1), 256 * 1024, chosen, &mut |_, _, _| Ok(false))?;
        let Some(Stretch { objects, end }) = stretch else { return Ok(false) };
        for (_, record, object) in objects {
            let known = cx.store.view::<_, Error>(|snapshot| mapping::find(snapshot, &self.options.name, &record.id))?;
            let work = self.work(record, object, known, cx)?;
            self.works.push(work);
        }
        self.end = end;
        let unusable = |work: &Work| work.at == Some(Phase::Register) && !steps::is_usable(work.record.state(cx.now.wall));
        if self.keeps.is_none() && !self.options.dry_run && self.works.iter().any(unusable) {
            let probe = self.probe(cx)?;
            self.works.insert(0, probe);
        }
        let meant: Vec<_> =
            self.works.iter().filter(|work| work.at == Some(Phase::Register) && !work.probe && !work.meant).collect();
        // The intents, before anything is sent.
        let intents = meant.into_iter().map(|work| {
            let mapped = Mapped { id: work.record.id.clone(), there: None, digest: None, extra: Extra::NONE };
            mapping::entries(&self.options.name, &mapped)
        });
        let intents: Vec<_> = intents.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        self.store(cx, &intents)?;
        self.phase = Phase::Locate;
        Ok(true)
    }

    fn store(&self, cx: &Cx<'_>, entries: &[mapping::Entry]) -> Result<()> {
        if self.options.dry_run || entries.is_empty() {
            return Ok(());
        }
        cx.store.transact::<_, Error>(|transaction| {
            Ok(entries.iter().try_for_each(|(key, value)| transaction.set_state(key, value.as_deref()))?)
        })
    }

    /// What is to be done for an object.
    fn work(&self, record: Record, object: Option<Object>, known: Option<Mapped>, cx: &Cx<'_>) -> Result<Work> {
        let level = self.levels.iter().find(|(of, _)| *of == record.object_type).map_or(Level::Full, |(_, level)| *level);
        let there = known.as_ref().and_then(|known| known.there.clone());
        let mut work = Work {
            meant: known.is_some() && there.is_none(),
            known: known.as_ref().is_some_and(|known| known.digest.is_some()),
            there,
            candidates: Vec::new(),
            level,
            probe: false,
            shown: None,
            at: None,
            told: None,
            record,
            object,
        };
        let identifier = work.record.identifier.clone();
        let told = |ending, message: &str| Told { message: Some(message.to_owned()), ..Told::new(&identifier, ending) };
        let digest = work.record.copy_digest()?;
        if known.is_some_and(|known| known.digest == Some(digest)) {
            let unchanged = Told::new(&identifier, Ending::Unchanged);
            work.over(Told { target: work.there.as_ref().map(ToString::to_string), ..unchanged });
        } else if let Some(why) = withheld(&work.record, false) {
            work.over(Told::failed(&identifier, None, why));
        } else if work.there.is_some() {
            work.at = Some(Phase::Look);
        } else if work.record.is_destroyed() && !work.meant {
            work.over(told(Ending::Skipped, "it is destroyed: there is nothing to register"));
        } else if work.meant {
            work.at = Some(Phase::Locate);
        } else if self.keeps == Some(false) && !steps::is_usable(work.record.state(cx.now.wall)) {
            work.over(Told::failed(&identifier, None, NOT_KEPT));
        } else {
            work.at = Some(Phase::Register);
        }
        if self.options.dry_run && work.at.is_some() {
            let ending = if work.there.is_some() { Ending::Updated } else { Ending::Created };
            let lost = steps::expected_losses(&work.record, self.options.version);
            work.over(Told { lost, ..Told::new(&identifier, ending) });
        }
        Ok(work)
    }

    /// A key for nothing, which shows whether the peer keeps the State of one that is not usable.
    fn probe(&self, cx: &mut Cx<'_>) -> Result<Work> {
        let mut bytes = [0; 32];
        cx.random.fill(&mut bytes).map_err(|e| Error::new(ErrorKind::Random, e))?;
        let (name, material) = bytes.split_at(16);
        let identifier = Text::from(name.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let record = Record {
            id: ObjectId { server: "probe".into(), instance: Vec::new(), identifier: identifier.clone() },
            identifier,
            owner: None,
            stamp: Stamp::first(&"probe".into(), keyferry_store::Incarnation([0; 16])),
            lineage: Vec::new(),
            object_type: keyferry_kmip::spec::ObjectType::SYMMETRIC_KEY,
            attributes: steps::probe_attributes(),
            overlay: None,
            fingerprint: None,
            lost: Vec::new(),
            extra: Extra::NONE,
        };
        let object = Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(material));
        Ok(Work {
            record,
            object: Some(object),
            there: None,
            candidates: Vec::new(),
            meant: false,
            level: Level::Core,
            probe: true,
            known: false,
            shown: None,
            at: Some(Phase::Register),
            told: None,
        })
    }

    /// The message of this phase, for as many objects as are waiting for it; `None` when none is.
    fn message(&mut self, cx: &Cx<'_>, ticket: Ticket) -> Result<Option<Step>> {
        if self.keeps.is_none() && self.works.first().is_some_and(|work| work.probe && work.at.is_none()) {
            self.keeps = Some(false);
        }
        self.forbid_unusable(cx);
        let waiting = self.works.iter().enumerate().filter(|(_, work)| work.at == Some(self.phase)).map(|(n, _)| n);
        // A probe goes through all phases before anything depends on it.
        let probing = self.works.first().is_some_and(|work| work.probe && work.at.is_some());
        let of: Vec<usize> =
            waiting.take(if self.single || probing { 1 } else { usize::MAX }).filter(|n| !probing || *n == 0).collect();
        if of.is_empty() {
            return Ok(None);
        }
        let (mut items, mut asked, mut over) = (Vec::new(), Vec::new(), Vec::new());
        for n in of {
            let Some(work) = self.works.get(n) else { continue };
            match self.items(cx, work) {
                Ok(own) if own.is_empty() => over.push((n, None)),
                Ok(own) => {
                    items.extend(own);
                    asked.push(n);
                }
                // What the version can't say stays here.
                Err(error) if error.kind() == ErrorKind::Encode => over.push((n, Some(error.to_string()))),
                Err(error) => return Err(error),
            }
        }
        for (n, why) in over {
            if let Some(work) = self.works.get_mut(n) {
                work.at = None;
                if let Some(why) = why {
                    work.told = Some(Told::failed(&work.record.identifier, None, why));
                }
            }
        }
        if items.is_empty() {
            return self.message(cx, ticket);
        }
        Ok(Some(self.send(ticket, asked, items)))
    }

    /// What is asked of one object in this phase.
    fn items(&self, cx: &Cx<'_>, work: &Work) -> Result<Vec<RequestItem>> {
        let (there, version) = (work.there.as_ref(), self.options.version);
        let shown = work.shown.as_ref().and_then(Attributes::state);
        Ok(match self.phase {
            Phase::Locate => {
                let criteria = Attributes::new().with(marking(&work.record.id)?);
                vec![self.item(&LocateRequest { maximum_items: Some(CANDIDATES), ..LocateRequest::of(criteria) })?]
            }
            Phase::Register => {
                let attributes = cx
                    .store
                    .view::<_, Error>(|snapshot| registrable(snapshot, &self.options.name, &work.record, work.level, version))?;
                match work.object.clone() {
                    Some(object) => vec![self.item(&RegisterRequest::of(object, attributes))?],
                    None => Vec::new(),
                }
            }
            Phase::Look => vec![self.item(&reading(there))?],
            Phase::Lead => {
                let mut items = leading_to(there, &work.record, shown, work.record.state(cx.now.wall), context(version))?;
                items.push(self.item(&reading(there))?);
                items
            }
            Phase::Remove => leading_to(there, &work.record, shown, Some(State::DESTROYED), context(version))?,
            Phase::Query | Phase::Next => Vec::new(),
        })
    }

    /// The phase behind this one. A probe leads through all of them first.
    fn forward(&mut self) -> bool {
        self.phase = match self.phase {
            Phase::Locate => Phase::Register,
            Phase::Register => Phase::Look,
            Phase::Look => Phase::Lead,
            Phase::Lead => Phase::Remove,
            Phase::Remove if self.works.iter().any(|work| work.at.is_some()) => Phase::Locate,
            _ => Phase::Next,
        };
        self.phase != Phase::Next
    }

    /// The batch is done: its counts, its map and its end are stored together.
    fn settle(&mut self, cx: &Cx<'_>) -> Result<()> {
        let mut entries = Vec::new();
        for work in std::mem::take(&mut self.works).into_iter().filter(|work| !work.probe) {
            let told = work.told.unwrap_or_else(|| Told::failed(&work.record.identifier, None, "it did not come to an end"));
            if told.ending == Ending::Failed && work.there.is_none() {
                entries.push(mapping::forgotten(&self.options.name, &work.record.id)?);
            } else if let Some(there) = work.there {
                let digest = (told.ending != Ending::Failed).then(|| work.record.copy_digest()).transpose()?;
                let mapped = Mapped { id: work.record.id.clone(), there: Some(there), digest, extra: Extra::NONE };
                entries.extend(mapping::entries(&self.options.name, &mapped)?);
            }
            self.ledger.tell(told);
        }
        self.ledger.report.counts.cursor = i64::try_from(self.end).unwrap_or(i64::MAX);
        entries.extend(self.ledger.kept()?.map(|(key, value)| (key, Some(value))));
        self.store(cx, &entries)?;
        self.single = false;
        self.ledger.observe();
        Ok(())
    }

    fn read<P: Payload>(&self, item: &ResponseItem) -> Result<P> {
        item.payload(context(self.options.version)).map_err(|e| Error::new(ErrorKind::Protocol, e))
    }

    /// What the answer about one object says.
    fn take(&mut self, cx: &Cx<'_>, n: usize, items: &[ResponseItem]) -> Result<()> {
        let phase = self.phase;
        let last = items.last();
        let shown: Option<Attributes> = match (phase, last.filter(|item| item.is_success())) {
            (Phase::Look | Phase::Lead, Some(item)) => Some(self.read::<keyferry_kmip::GetAttributesResponse>(item)?.attributes),
            _ => None,
        };
        let found: Vec<Text> = match (phase, last.filter(|item| item.is_success())) {
            (Phase::Locate, Some(item)) => self.read::<LocateResponse>(item)?.unique_identifiers.iter().map(Text::from).collect(),
            (Phase::Register, Some(item)) => match self.read::<RegisterResponse>(item)?.unique_identifier {
                UniqueIdentifier::Text(there) => vec![there],
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        let Some(work) = self.works.get_mut(n) else { return Ok(()) };
        let identifier = work.record.identifier.clone();
        let refused = last.filter(|item| !item.is_success());
        let message = |item: &ResponseItem| item.result_message.as_ref().map(ToString::to_string).unwrap_or_default();
        match phase {
            Phase::Locate => {
                // A hit is checked by what it shows; with none, it was never registered.
                work.candidates = found;
                work.there = work.candidates.pop();
                if work.there.is_none() && work.object.is_none() {
                    work.over(Told::new(&identifier, Ending::Skipped));
                    return Ok(());
                }
                work.at = Some(if work.there.is_some() { Phase::Look } else { Phase::Register });
            }
            Phase::Register => match (found.into_iter().next(), refused) {
                (Some(there), _) => {
                    work.there = Some(there);
                    work.at = Some(Phase::Look);
                    let (of, level) = (work.record.object_type, work.level);
                    self.levels.retain(|(known, _)| *known != of);
                    self.levels.push((of, level));
                    let mapped = self.works.get(n).filter(|work| !work.probe).map(|work| Mapped {
                        id: work.record.id.clone(),
                        there: work.there.clone(),
                        digest: None,
                        extra: Extra::NONE,
                    });
                    if let Some(mapped) = mapped {
                        self.store(cx, &mapping::entries(&self.options.name, &mapped)?)?;
                    }
                }
                (None, refused) => match work.level.less() {
                    Some(less) => work.level = less,
                    None if work.probe => work.at = None,
                    None => {
                        let reason = refused.and_then(|item| item.result_reason);
                        work.over(Told::failed(&identifier, reason, refused.map(message).unwrap_or_default()));
                    }
                },
            },
            Phase::Look => match (shown, refused) {
                (Some(shown), _) if work.meant && !steps::has_marker(&shown, &work.record.id)? => {
                    // Another object, which the peer has taken for it.
                    work.there = work.candidates.pop();
                    work.at = Some(if work.there.is_some() { Phase::Look } else { Phase::Register });
                    work.meant = work.there.is_some();
                }
                (Some(shown), _) => {
                    work.shown = Some(shown);
                    work.at = Some(Phase::Lead);
                }
                (None, refused) => {
                    let reason = refused.and_then(|item| item.result_reason);
                    work.over(Told::failed(&identifier, reason, refused.map(message).unwrap_or_default()));
                }
            },
            Phase::Lead => {
                let Some(shown) = shown else {
                    let reason = refused.and_then(|item| item.result_reason);
                    // What was destroyed there may have no attributes any more.
                    let told = if work.record.is_destroyed() {
                        Told { lost: steps::all(&work.record), ..Told::new(&identifier, Ending::Updated) }
                    } else {
                        Told::failed(&identifier, reason, refused.map(message).unwrap_or_default())
                    };
                    work.over(told);
                    return Ok(());
                };
                let kept = steps::is_usable(shown.state()) == steps::is_usable(work.record.state(cx.now.wall));
                if work.probe {
                    self.keeps = Some(kept);
                    work.shown = Some(shown);
                    work.at = Some(Phase::Remove);
                } else if !kept {
                    // It must not stay there as one that can be used.
                    work.shown = Some(shown);
                    work.told = Some(Told::failed(&identifier, None, NOT_KEPT));
                    work.at = Some(Phase::Remove);
                } else {
                    let lost = lacking(cx.store, &self.options.name, &work.record, &shown, cx.now.wall)?;
                    let ending = if work.known { Ending::Updated } else { Ending::Created };
                    let target = work.there.as_ref().map(ToString::to_string);
                    work.over(Told { lost, target, ..Told::new(&identifier, ending) });
                }
            }
            Phase::Remove => work.at = None,
            Phase::Query | Phase::Next => {}
        }
        Ok(())
    }

    /// After a probe that failed, what is not usable stays here.
    fn forbid_unusable(&mut self, cx: &Cx<'_>) {
        if self.keeps != Some(false) {
            return;
        }
        for work in self.works.iter_mut().filter(|work| work.at == Some(Phase::Register) && !work.probe) {
            if !steps::is_usable(work.record.state(cx.now.wall)) {
                let told = Told::failed(&work.record.identifier, None, NOT_KEPT);
                work.over(told);
            }
        }
    }
}

/// How many hits are looked at, where a peer finds more than it was asked for.
const CANDIDATES: i32 = 100;

const NOT_KEPT: &str = "the peer does not keep the State of a key that is not usable";

impl Session for Register {
    fn poll(&mut self, cx: &mut Cx<'_>, ticket: Ticket) -> Result<Step> {
        if !self.ledger.is_started() {
            self.ledger.start(cx, self.options.selection.digest()?)?;
            self.chosen = Some(cx.store.view::<_, Error>(|snapshot| self.options.selection.choose(snapshot, cx.now.wall))?);
            self.end = u64::try_from(self.ledger.report.counts.cursor).unwrap_or(0);
        }
        if self.under_way.is_some() {
            return Ok(Step::Wait(None));
        }
        loop {
            match self.phase {
                Phase::Query => {
                    let query_functions = vec![QueryFunction::QUERY_OPERATIONS];
                    let item = self.item(&QueryRequest { query_functions, object_groups: None, extra: Extra::NONE })?;
                    return Ok(self.send(ticket, Vec::new(), vec![item]));
                }
                Phase::Next => {
                    if !self.works.is_empty() {
                        self.settle(cx)?;
                    }
                    if !self.next(cx)? {
                        self.ledger.report.counts.finished = true;
                        self.ledger.save(cx)?;
                        return Ok(Step::Done(Box::new(self.ledger.finish())));
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

    fn answer(&mut self, cx: &mut Cx<'_>, ticket: Ticket, response: std::result::Result<ResponseMessage, Lost>) -> Result<()> {
        let under_way = self.under_way.take();
        let Ok(response) = response else {
            // From the stored cursor on, where the intents say what may have been registered.
            (self.phase, self.works) = (Phase::Query, Vec::new());
            self.end = u64::try_from(self.ledger.report.counts.cursor).unwrap_or(0);
            return Ok(());
        };
        let Some((_, of)) = under_way.filter(|(expected, _)| *expected == ticket) else {
            return Err(Error::new(ErrorKind::Protocol, "an answer came to nothing that was asked"));
        };
        if self.phase == Phase::Query {
            let item = response.batch.first().filter(|item| item.is_success());
            let query: Option<QueryResponse> = item.and_then(|item| self.read(item).ok());
            let needed = [Operation::REGISTER, Operation::LOCATE, Operation::GET_ATTRIBUTES];
            let lacking = |query: QueryResponse| needed.into_iter().find(|one| !query.operations.contains(one));
            let why = match query.map(lacking) {
                Some(None) => {
                    self.phase = Phase::Next;
                    return Ok(());
                }
                Some(Some(operation)) => format!("the peer does not offer {operation}"),
                None => format!("the peer does not answer Query in {}", self.options.version),
            };
            return Err(Error::new(ErrorKind::Peer, why));
        }
        // Each object's items end with the one that tells: the only one, or the reading back.
        let refused = response.batch.len() == 1 && response.batch.first().is_some_and(|item| !item.is_success());
        if refused && of.len() > 1 {
            // As a whole, for one of them: once more, one by one.
            self.single = true;
            return Ok(());
        }
        let groups: Vec<&[ResponseItem]> = match self.phase {
            _ if of.len() == 1 => vec![&response.batch],
            Phase::Lead => response.batch.split_inclusive(|item| item.operation == Some(Operation::GET_ATTRIBUTES)).collect(),
            Phase::Remove => Vec::new(),
            _ => response.batch.chunks(1).collect(),
        };
        if groups.len() < of.len() && groups.is_empty() {
            self.single = true;
        }
        // Where the peer stopped half way, the others are asked for again.
        for (n, items) in of.iter().zip(groups) {
            self.take(cx, *n, items)?;
        }
        Ok(())
    }
}
