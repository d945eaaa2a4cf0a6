use crate::error::{Error, ErrorKind, Result};
use crate::material::transit::reason_withheld;
use crate::outgoing::feed::FeedPage;
use crate::push::notice::Notice;
use crate::push::publish::steps::{is_usable, wanted};
use crate::push::running::{Running, has_left};
use crate::relation::foreign_replica::counts_key;
use crate::relation::identifier_map;
use crate::relation::identifier_map::Mapped;
use crate::report::{ObjectResult, Outcome};
use crate::selection::ChosenObjects;
use crate::session::{Session, SessionContext, Step};
use crate::transfer::ledger::Ledger;
use crate::transfer::plan::Purpose;
use keyferry_kmip::spec::{AttributeValue as V, Operation, PutFunction, ResultReason, tag};
use keyferry_kmip::{
    Attributes, DeletedAttributes, Lost, NotifyRequest, Object, PutRequest, RequestItem,
    RequestMessage, ResponseMessage, Ticket, UniqueIdentifier, context, lifecycle,
};
use keyferry_store::{Record, Snapshot, SnapshotExt, StoreExt};
use keyferry_ttlv::{Extra, Version};

/// How a receiver is notified.
#[derive(Clone, Debug)]
pub struct NotifierOptions {
    /// The relation, as [`ForeignReplica::publish`](crate::ForeignReplica::publish) has begun it, by Put.
    pub relation: String,
    /// In which version (1.4).
    pub version: Version,
    /// Whether the receiver takes Notify (true). Otherwise an object that has changed is Put once more as a whole, in the place of itself.
    pub notifies: bool,
}

impl NotifierOptions {
    /// The usual ones.
    pub fn new(relation: impl Into<String>) -> Self {
        NotifierOptions {
            relation: relation.into(),
            version: Version::V1_4,
            notifies: true,
        }
    }
}

/// Keeps a receiver up to date that takes Put and Notify (KMIP 1.4 §5, 2.1 §6.2): Put for what is new, Notify for what has changed or is no
/// more of its attributes, one object a message, under the identifiers that objects have here.
///
/// It goes on behind the place of our feed up to which the receiver was told, as a [`Publication`](crate::Publication) does. Nobody can look at
/// what such a receiver holds: no key is Put that is not usable, and what was destroyed there by others is not seen. What it was told of
/// attributes is kept, so that a deletion is told: in 1.x by name and index without a value, in 2.x by an Attribute Reference with the values
/// that are left.
pub struct Notifier {
    options: NotifierOptions,
    ledger: Ledger,
    running: Option<Running>,
    chosen: Option<ChosenObjects>,
    /// How far the feed was read.
    end: u64,
    work: Option<Work>,
    under_way: Option<Ticket>,
}

/// An object that the receiver is told of.
struct Work {
    record: Record,
    object: Option<Object>,
    left: bool,
    mapped: Option<Mapped>,
    how: How,
    notice: Notice,
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Put,
    /// In the place of itself.
    Replace,
    Notify,
}

const UNTOLD: &str =
    "the receiver takes no Notify: that the object can't be used any more can't be told";

const UNSEEN: &str =
    "nobody can see whether the receiver keeps the State of a key that is not usable";

impl Notifier {
    /// A session with these options.
    pub fn new(options: NotifierOptions) -> Self {
        let ledger = Ledger::new(counts_key(&options.relation), false);
        Notifier {
            options,
            ledger,
            running: None,
            chosen: None,
            end: 0,
            work: None,
            under_way: None,
        }
    }

    /// Tells `sink` what became of each object.
    #[must_use]
    pub fn on_object(mut self, sink: impl FnMut(&ObjectResult) + Send + 'static) -> Self {
        self.ledger.sink = Some(Box::new(sink));
        self
    }

    fn start(&mut self, cx: &SessionContext<'_>) -> Result<()> {
        let running = Running::begin(cx, &self.options.relation, &[Operation::PUT])?;
        let selection = running.slave.selection();
        let (name, version) = (&self.options.relation, self.options.version);
        self.ledger.start(
            cx,
            &Purpose {
                name,
                strategy: "notify",
                version,
                selection: selection.digest()?,
            },
        )?;
        self.chosen = Some(
            cx.store
                .view(|snapshot| selection.choose(snapshot, cx.now.wall))?,
        );
        self.end = running.from;
        self.running = Some(running);
        Ok(())
    }

    /// The next object, due to be told again or from the feed; `false` at the end.
    fn next(&mut self, cx: &mut SessionContext<'_>) -> Result<bool> {
        let (Some(running), Some(chosen)) = (&mut self.running, &self.chosen) else {
            return Ok(false);
        };
        let name = &self.options.relation;
        let mut found = None;
        for id in running.due(cx, 1)? {
            found = cx.store.view::<_, Error>(|snapshot| {
                let Some((number, _)) = snapshot.by_object_id(&id)? else {
                    return Ok(None);
                };
                Ok(snapshot
                    .whole(number)?
                    .map(|(record, object)| (number, record, object)))
            })?;
        }
        if found.is_none() {
            let tells =
                &mut |snapshot: &dyn Snapshot, _, record: &Record| has_left(snapshot, name, record);
            let Some(stretch) = FeedPage::read(cx.store, self.end, 1, usize::MAX, chosen, tells)?
            else {
                return Ok(false);
            };
            self.end = stretch.end;
            found = stretch.objects.into_iter().next();
        }
        let Some((number, record, object)) = found else {
            return Ok(true);
        };
        let left = !chosen.has(number, &record);
        let mapped = cx
            .store
            .view::<_, Error>(|snapshot| identifier_map::find(snapshot, name, &record.id))?;
        self.consider(cx, record, object.filter(|_| !left), left, mapped)?;
        Ok(true)
    }

    /// What is to be told of an object, if anything.
    fn consider(
        &mut self,
        cx: &mut SessionContext<'_>,
        record: Record,
        object: Option<Object>,
        left: bool,
        mapped: Option<Mapped>,
    ) -> Result<()> {
        let identifier = record.identifier.clone();
        let told = |outcome| ObjectResult::new(&identifier, outcome);
        let is_known = mapped.as_ref().is_some_and(|mapped| mapped.there.is_some());
        let usable = is_usable(record.state(cx.now.wall));
        let wanted = self.wanted(cx, &record, left, mapped.as_ref())?;
        let nothing = Attributes::new();
        let held = mapped.as_ref().map_or(&nothing, |mapped| &mapped.told);
        let notice = Notice::of(self.options.version, held, &wanted);
        let how = match (&mapped, is_known) {
            _ if left && mapped.is_none() => {
                return self.settle(cx, &record, told(Outcome::Skipped), None);
            }
            (Some(_), true) if notice.is_empty() => {
                let outcome = if left {
                    Outcome::Skipped
                } else {
                    Outcome::Unchanged
                };
                return self.settle(cx, &record, told(outcome), mapped);
            }
            (Some(_), true) if self.options.notifies => How::Notify,
            (Some(_), true) if usable && !left => How::Replace,
            (Some(_), true) => {
                return self.settle(
                    cx,
                    &record,
                    ObjectResult::failed(&identifier, None, UNTOLD),
                    mapped,
                );
            }
            // It came there, perhaps: what it became meanwhile is told in any case.
            (Some(_), false) if (left || !usable) && self.options.notifies => How::Notify,
            (Some(_), false) if left || !usable => {
                return self.settle(
                    cx,
                    &record,
                    ObjectResult::failed(&identifier, None, UNTOLD),
                    mapped,
                );
            }
            (None, _) if record.is_destroyed() => {
                return self.settle(cx, &record, told(Outcome::Skipped), None);
            }
            (None, _) if !usable => {
                return self.settle(
                    cx,
                    &record,
                    ObjectResult::failed(&identifier, None, UNSEEN),
                    None,
                );
            }
            _ => How::Put,
        };
        if let Some(why) = reason_withheld(&record, false).filter(|_| how != How::Notify) {
            return self.settle(
                cx,
                &record,
                ObjectResult::failed(&identifier, None, why),
                mapped,
            );
        }
        if mapped.is_none() {
            let intent =
                identifier_map::entries(&self.options.relation, &Mapped::meant(&record.id))?;
            cx.store.transact::<_, Error>(|transaction| {
                self.running
                    .as_ref()
                    .map_or(Ok(()), |running| running.check(transaction))?;
                Ok(intent
                    .iter()
                    .try_for_each(|(key, value)| transaction.set_state(key, value.as_deref()))?)
            })?;
        }
        self.work = Some(Work {
            record,
            object,
            left,
            mapped,
            how,
            notice,
        });
        Ok(())
    }

    /// What the receiver should know of an object. Of one that has left the selection it is told what its State has become.
    fn wanted(
        &self,
        cx: &SessionContext<'_>,
        record: &Record,
        left: bool,
        mapped: Option<&Mapped>,
    ) -> Result<Vec<V>> {
        let Some(Running { name, slave, .. }) = &self.running else {
            return Ok(Vec::new());
        };
        let version = self.options.version;
        let mut all = cx
            .store
            .view::<_, Error>(|snapshot| wanted(snapshot, name, record, version))?;
        if left && let Some(mapped) = mapped {
            let follows = |value: &V| is_of_state(value) || value.tag() == tag::LAST_CHANGE_DATE;
            all.retain(follows);
            all.extend(
                mapped
                    .told
                    .iter()
                    .map(|told| told.value.clone())
                    .filter(|value| !follows(value)),
            );
        }
        let Some(state) = record.state(cx.now.wall) else {
            return Ok(all);
        };
        let rank = lifecycle::Rank::of(state);
        let (mut goal, mut destroyed) = (state, None);
        if lifecycle::is_destroyed(state) && !slave.may_destroy {
            let revoked = lifecycle::Rank { step: 2, ..rank };
            goal = revoked.joined_state(revoked);
            all.retain(|value| value.tag() != tag::DESTROY_DATE);
        } else if left && slave.destroys_left && !lifecycle::is_destroyed(state) {
            let gone = lifecycle::Rank { step: 3, ..rank };
            goal = gone.joined_state(gone);
            destroyed = record.attributes.date(tag::LAST_CHANGE_DATE);
        }
        all.retain(|value| value.tag() != tag::STATE);
        all.push(V::State(goal));
        all.extend(destroyed.map(V::DestroyDate));
        Ok(all)
    }

    fn message(&self, cx: &SessionContext<'_>, work: &Work) -> Result<RequestMessage> {
        let version = self.options.version;
        let unique_identifier = UniqueIdentifier::Text(work.record.identifier.clone());
        let item = match work.how {
            How::Notify => {
                let attributes = work.notice.changed.clone();
                let deleted = DeletedAttributes(work.notice.deleted.clone());
                RequestItem::new(
                    &NotifyRequest {
                        unique_identifier,
                        attributes,
                        deleted,
                        extra: Extra::NONE,
                    },
                    context(version),
                )
            }
            How::Put | How::Replace => {
                let replaced = (work.how == How::Replace).then(|| unique_identifier.clone());
                let put_function = if replaced.is_some() {
                    PutFunction::REPLACE
                } else {
                    PutFunction::NEW
                };
                let payload = PutRequest {
                    unique_identifier,
                    put_function,
                    replaced_unique_identifier: replaced,
                    object: work.object.clone(),
                    attributes: work.notice.known.clone(),
                    extra: Extra::NONE,
                };
                RequestItem::new(&payload, context(version))
            }
        };
        let mut message = RequestMessage::new(version, vec![item.map_err(Error::encode)?]);
        // A server's request has one (KMIP 1.0 §6.5), and none of what a header may ask of a server (KMIP 1.4 §5).
        message.header.time_stamp = Some(cx.now.wall);
        Ok(message)
    }

    /// What became of an object is stored with the place in the feed.
    fn settle(
        &mut self,
        cx: &mut SessionContext<'_>,
        record: &Record,
        told: ObjectResult,
        mapped: Option<Mapped>,
    ) -> Result<()> {
        let (name, end) = (&self.options.relation, self.end);
        self.ledger.report.counts.cursor = i64::try_from(end).unwrap_or(i64::MAX);
        let mut entries = match &mapped {
            Some(mapped) => identifier_map::entries(name, mapped)?,
            None => vec![identifier_map::forgotten(name, &record.id)?],
        };
        let kept = [(record.id.clone(), told.clone())];
        self.ledger.tell(told);
        entries.extend(self.ledger.kept()?.map(|(key, value)| (key, Some(value))));
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        cx.store.transact::<_, Error>(|transaction| {
            running.keep(transaction, cx.now.wall, &mut *cx.random, &kept, end)?;
            Ok(entries
                .iter()
                .try_for_each(|(key, value)| transaction.set_state(key, value.as_deref()))?)
        })?;
        running.from = end;
        Ok(())
    }

    fn answered(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        let under_way = self.under_way.take();
        let work = self.work.take();
        let Ok(response) = response else {
            let Some(running) = &mut self.running else {
                return Ok(());
            };
            running.lost();
            self.end = running.from;
            return Ok(());
        };
        let (Some(mut work), true) = (work, under_way == Some(ticket)) else {
            return Err(Error::new(
                ErrorKind::Protocol,
                "an answer came to nothing that was asked",
            ));
        };
        let item = response
            .batch
            .first()
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "an answer without an item"))?;
        let identifier = work.record.identifier.clone();
        if !item.is_success() {
            let exists = item.result_reason == Some(ResultReason::OBJECT_ALREADY_EXISTS);
            if exists && work.how == How::Put && work.mapped.is_some() && self.options.notifies {
                // An earlier Put had arrived: what it should know is told.
                work.how = How::Notify;
                self.work = Some(work);
                return Ok(());
            }
            let why = item
                .result_message
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            let told = ObjectResult::failed(&identifier, item.result_reason, why);
            // What was refused is not there; what may be there stays meant.
            let mapped = work.mapped.filter(|_| work.how != How::Put || exists);
            return self.settle(cx, &work.record, told, mapped);
        }
        let gone = work.left
            && self
                .running
                .as_ref()
                .is_some_and(|running| running.slave.destroys_left);
        let (outcome, message) = match work.how {
            _ if gone => (Outcome::Withdrawn, None),
            _ if work.left => (
                Outcome::Skipped,
                Some("it has left the selection: it is told what its State becomes".to_owned()),
            ),
            How::Put => (Outcome::Created, None),
            _ => (Outcome::Updated, None),
        };
        let mapped = Mapped {
            there: Some(identifier.clone()),
            digest: Some(work.record.copy_digest()?),
            left: work.left.then_some(true),
            told: work.notice.known,
            ..Mapped::meant(&work.record.id)
        };
        let lost = crate::outgoing::item::carried(&work.record.attributes, self.options.version).1;
        self.settle(
            cx,
            &work.record,
            ObjectResult {
                lost,
                message,
                ..ObjectResult::new(&identifier, outcome)
            },
            Some(mapped),
        )
    }
}

/// What belongs to the State.
fn is_of_state(value: &V) -> bool {
    matches!(
        value,
        V::State(_)
            | V::ActivationDate(_)
            | V::DeactivationDate(_)
            | V::DestroyDate(_)
            | V::CompromiseDate(_)
            | V::CompromiseOccurrenceDate(_)
            | V::RevocationReason(_)
    )
}

impl Session for Notifier {
    fn poll(&mut self, cx: &mut SessionContext<'_>, ticket: Ticket) -> Result<Step> {
        if self.running.is_none() {
            self.start(cx)?;
        }
        if self.under_way.is_some() {
            return Ok(Step::Wait(None));
        }
        loop {
            let Some(work) = &self.work else {
                if self.next(cx)? {
                    continue;
                }
                self.ledger.end()?;
                self.ledger.save(cx)?;
                self.running = None;
                return Ok(Step::Done(Box::new(self.ledger.finish())));
            };
            match self.message(cx, work) {
                Ok(message) => {
                    self.under_way = Some(ticket);
                    return Ok(Step::Send(Box::new(message)));
                }
                // What the version can't say stays here.
                Err(error) if error.kind() == ErrorKind::Encode => {
                    let Some(work) = self.work.take() else {
                        continue;
                    };
                    let told =
                        ObjectResult::failed(&work.record.identifier, None, error.to_string());
                    let mapped = work.mapped.filter(|mapped| mapped.there.is_some());
                    self.settle(cx, &work.record, told, mapped)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn answer(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        let answered = self.answered(cx, ticket, response);
        if let (Err(error), Some(running)) = (&answered, &self.running) {
            running.failed(cx.store, error);
        }
        answered
    }
}
