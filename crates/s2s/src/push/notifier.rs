//! The notifier: a relation's session that keeps a receiver of Put and Notify up to date.

use crate::error::{Error, ErrorKind, Result};
use crate::material::transit::reason_withheld;
use crate::outgoing::feed::FeedPage;
use crate::outgoing::item::representable_attributes;
use crate::push::notice::Notice;
use crate::push::publish::steps::{is_usable, wanted_attributes};
use crate::push::running::{Running, was_brought};
use crate::relation::identifier_map;
use crate::relation::identifier_map::Mapped;
use crate::relation::keys::published_counts;
use crate::report::{ObjectResult, Outcome};
use crate::selection::ChosenObjects;
use crate::session::{Session, SessionContext, Step};
use crate::transfer::ledger::Ledger;
use crate::transfer::plan::Purpose;
use keyferry_kmip::lifecycle::is_lifecycle_attribute;
use keyferry_kmip::spec::{AttributeValue as V, Operation, PutFunction, ResultReason, tag};
use keyferry_kmip::{
    Attributes, DeletedAttributes, Lost, NotifyRequest, Object, PutRequest, RequestItem,
    RequestMessage, ResponseItem, ResponseMessage, Ticket, UniqueIdentifier, context, lifecycle,
};
use keyferry_store::{Record, RecordNumber, Snapshot, SnapshotExt, StoreExt};
use keyferry_ttlv::{Extra, Version};
use std::fmt;

/// Options of a notifier.
#[derive(Clone, Debug)]
pub struct NotifierOptions {
    /// The name of the relation that [`ForeignReplica::publish`](crate::ForeignReplica::publish) has begun, by Put.
    pub relation: String,
    /// The version that is spoken (1.4).
    pub version: Version,
    /// Whether the receiver takes Notify (true). Otherwise an object that has changed is Put once more as a whole, in place of itself.
    pub notifies: bool,
}

impl NotifierOptions {
    /// Makes the usual options.
    pub fn new(relation: impl Into<String>) -> Self {
        NotifierOptions {
            relation: relation.into(),
            version: Version::V1_4,
            notifies: true,
        }
    }
}

/// A session that keeps a receiver of Put and Notify up to date (KMIP 1.4 §5, 2.1 §6.2): Put for new objects, Notify for attributes that have
/// changed or are gone, one object a message, under the identifiers that objects have here.
///
/// It continues behind the relation's place in the feed, as a [`Publication`](crate::Publication) does. Nobody can look at what such a receiver
/// holds: a key that is not usable is never Put, and it is not seen if others have destroyed an object there. The attributes that the receiver was
/// told are kept, so that it is told of a deletion: in 1.x by name and index without a value, in 2.x by an Attribute Reference together with the
/// values that are left.
pub struct Notifier {
    options: NotifierOptions,
    ledger: Ledger,
    running: Option<Running>,
    chosen: Option<ChosenObjects>,
    /// The feed number up to which the feed was read.
    read_up_to: u64,
    notification: Option<Notification>,
    under_way: Option<Ticket>,
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// An object that the receiver is told of.
struct Notification {
    record: Record,
    object: Option<Object>,
    is_deselected: bool,
    mapped: Option<Mapped>,
    delivery: Delivery,
    notice: Notice,
}

/// The message that tells of an object.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Delivery {
    /// Put as new.
    Put,
    /// Put in place of itself.
    Replace,
    Notify,
}

/// What happens with an object.
enum Decision {
    Deliver(Delivery),
    /// Nothing is sent, and this is reported.
    Report(ObjectResult),
}

const CANNOT_TELL: &str =
    "the receiver takes no Notify: that the object can't be used any more can't be told";

const CANNOT_SEE: &str =
    "nobody can see whether the receiver keeps the State of a key that is not usable";

const TOLD_THOUGH_DESELECTED: &str = "it has left the selection: it is told what its State becomes";

impl Notifier {
    /// Makes a session with these options.
    pub fn new(options: NotifierOptions) -> Self {
        let ledger = Ledger::new(published_counts(&options.relation), false);
        Notifier {
            options,
            ledger,
            running: None,
            chosen: None,
            read_up_to: 0,
            notification: None,
            under_way: None,
        }
    }

    /// Calls `sink` with what became of each object.
    #[must_use]
    pub fn on_object(mut self, sink: impl FnMut(&ObjectResult) + Send + 'static) -> Self {
        self.ledger.sink = Some(Box::new(sink));
        self
    }

    /// Begins the run of the relation, at its place in the feed.
    fn start(&mut self, cx: &SessionContext<'_>) -> Result<()> {
        let running = Running::begin(cx, &self.options.relation, &[Operation::PUT])?;
        let selection = running.relation.selection();
        let purpose = Purpose {
            name: &self.options.relation,
            strategy: "notify",
            version: self.options.version,
            selection: selection.digest()?,
        };
        self.ledger.start(cx, &purpose)?;
        self.chosen = Some(
            cx.store
                .view(|snapshot| selection.choose(snapshot, cx.now.wall))?,
        );
        self.read_up_to = running.committed;
        self.running = Some(running);
        Ok(())
    }

    /// Goes on to the next object: one that is due to be told again, or one from the feed. Returns `false` at the end.
    fn next_object(&mut self, cx: &mut SessionContext<'_>) -> Result<bool> {
        let mut found = self.due_object(cx)?;
        let Some(chosen) = &self.chosen else {
            return Ok(false);
        };
        let name = &self.options.relation;
        if found.is_none() {
            let include_deselected = &mut |snapshot: &dyn Snapshot, _, record: &Record| {
                was_brought(snapshot, name, record)
            };
            let page = FeedPage::read(
                cx.store,
                self.read_up_to,
                1,
                usize::MAX,
                chosen,
                include_deselected,
            )?;
            let Some(page) = page else {
                return Ok(false);
            };
            self.read_up_to = page.end;
            found = page.objects.into_iter().next();
        }
        let Some((number, record, object)) = found else {
            return Ok(true);
        };
        let is_deselected = !chosen.has(number, &record);
        let mapped = cx
            .store
            .view::<_, Error>(|snapshot| identifier_map::find(snapshot, name, &record.id))?;
        let object = object.filter(|_| !is_deselected);
        self.consider(cx, record, object, is_deselected, mapped)?;
        Ok(true)
    }

    /// The next object that is due to be told again.
    fn due_object(
        &mut self,
        cx: &SessionContext<'_>,
    ) -> Result<Option<(RecordNumber, Record, Option<Object>)>> {
        let Some(running) = &mut self.running else {
            return Ok(None);
        };
        let Some(id) = running.due_retries(cx, 1)?.pop() else {
            return Ok(None);
        };
        cx.store.view::<_, Error>(|snapshot| {
            let Some((number, _)) = snapshot.by_object_id(&id)? else {
                return Ok(None);
            };
            Ok(snapshot
                .whole(number)?
                .map(|(record, object)| (number, record, object)))
        })
    }

    /// Finds out what the receiver is to be told of an object. Stores the intent if it is told for the first time.
    fn consider(
        &mut self,
        cx: &mut SessionContext<'_>,
        record: Record,
        object: Option<Object>,
        is_deselected: bool,
        mapped: Option<Mapped>,
    ) -> Result<()> {
        let wanted = self.wanted(cx, &record, is_deselected, mapped.as_ref())?;
        let nothing = Attributes::new();
        let told = mapped.as_ref().map_or(&nothing, |mapped| &mapped.told);
        let notice = Notice::between(self.options.version, told, &wanted);
        let usable = is_usable(record.state(cx.now.wall));
        let decision = self.choose_delivery(
            &record,
            usable,
            is_deselected,
            mapped.as_ref(),
            notice.is_empty(),
        );
        let delivery = match decision {
            Decision::Deliver(delivery) => delivery,
            Decision::Report(result) => return self.record_result(cx, &record, result, mapped),
        };
        if mapped.is_none() {
            self.store_intent(cx, &record)?;
        }
        self.notification = Some(Notification {
            record,
            object,
            is_deselected,
            mapped,
            delivery,
            notice,
        });
        Ok(())
    }

    /// Chooses the message that tells of an object, or says why there is none.
    fn choose_delivery(
        &self,
        record: &Record,
        usable: bool,
        is_deselected: bool,
        mapped: Option<&Mapped>,
        nothing_changed: bool,
    ) -> Decision {
        let report = |outcome| Decision::Report(ObjectResult::new(&record.identifier, outcome));
        let fail =
            |why: &str| Decision::Report(ObjectResult::failed(&record.identifier, None, why));
        let delivery = match mapped {
            None if is_deselected || record.is_destroyed() => return report(Outcome::Skipped),
            None if !usable => return fail(CANNOT_SEE),
            None => Delivery::Put,
            Some(mapped) => {
                let arrived = mapped.there.is_some();
                let can_be_put = usable && !is_deselected;
                if arrived && nothing_changed {
                    return report(if is_deselected {
                        Outcome::Skipped
                    } else {
                        Outcome::Unchanged
                    });
                }
                match (arrived, can_be_put) {
                    (true, _) | (false, false) if self.options.notifies => Delivery::Notify,
                    (true, true) => Delivery::Replace,
                    (false, true) => Delivery::Put,
                    (_, false) => return fail(CANNOT_TELL),
                }
            }
        };
        match reason_withheld(record, false) {
            Some(why) if delivery != Delivery::Notify => fail(why),
            _ => Decision::Deliver(delivery),
        }
    }

    /// Stores that an object is about to be Put for the first time.
    fn store_intent(&self, cx: &SessionContext<'_>, record: &Record) -> Result<()> {
        let intent =
            identifier_map::entries(&self.options.relation, &Mapped::intended(&record.id))?;
        cx.store.transact::<_, Error>(|transaction| {
            if let Some(running) = &self.running {
                running.check(transaction)?;
            }
            identifier_map::store(transaction, &self.options.relation, &intent)
        })
    }

    /// The attributes that the receiver should know of an object. Of an object that has left the selection, they are those that it was told, with
    /// the State that the object has now.
    fn wanted(
        &self,
        cx: &SessionContext<'_>,
        record: &Record,
        is_deselected: bool,
        mapped: Option<&Mapped>,
    ) -> Result<Vec<V>> {
        let Some(Running { name, relation, .. }) = &self.running else {
            return Ok(Vec::new());
        };
        let version = self.options.version;
        let mut all = cx
            .store
            .view::<_, Error>(|snapshot| wanted_attributes(snapshot, name, record, version))?;
        if is_deselected && let Some(mapped) = mapped {
            let is_updated = |value: &V| {
                is_lifecycle_attribute(value.tag()) || value.tag() == tag::LAST_CHANGE_DATE
            };
            all.retain(is_updated);
            all.extend(
                mapped
                    .told
                    .iter()
                    .map(|told| told.value.clone())
                    .filter(|value| !is_updated(value)),
            );
        }
        let Some(state) = record.state(cx.now.wall) else {
            return Ok(all);
        };
        let rank = lifecycle::Rank::of(state);
        let (mut told_state, mut destroyed) = (state, None);
        if lifecycle::is_destroyed(state) && !relation.may_destroy {
            let revoked = lifecycle::Rank { step: 2, ..rank };
            told_state = revoked.joined_state(revoked);
            all.retain(|value| value.tag() != tag::DESTROY_DATE);
        } else if is_deselected && relation.destroys_left && !lifecycle::is_destroyed(state) {
            let gone = lifecycle::Rank { step: 3, ..rank };
            told_state = gone.joined_state(gone);
            destroyed = record.attributes.date(tag::LAST_CHANGE_DATE);
        }
        all.retain(|value| value.tag() != tag::STATE);
        all.push(V::State(told_state));
        all.extend(destroyed.map(V::DestroyDate));
        Ok(all)
    }

    /// Makes the message that tells of an object.
    fn message(
        &self,
        cx: &SessionContext<'_>,
        notification: &Notification,
    ) -> Result<RequestMessage> {
        let version = self.options.version;
        let unique_identifier = UniqueIdentifier::Text(notification.record.identifier.clone());
        let put = |put_function, replaced_unique_identifier| {
            let payload = PutRequest {
                unique_identifier: unique_identifier.clone(),
                put_function,
                replaced_unique_identifier,
                object: notification.object.clone(),
                attributes: notification.notice.known.clone(),
                extra: Extra::NONE,
            };
            RequestItem::new(&payload, context(version))
        };
        let item = match notification.delivery {
            Delivery::Put => put(PutFunction::NEW, None),
            Delivery::Replace => put(PutFunction::REPLACE, Some(unique_identifier.clone())),
            Delivery::Notify => {
                let payload = NotifyRequest {
                    unique_identifier: unique_identifier.clone(),
                    attributes: notification.notice.changed.clone(),
                    deleted: DeletedAttributes(notification.notice.deleted.clone()),
                    extra: Extra::NONE,
                };
                RequestItem::new(&payload, context(version))
            }
        };
        let mut message = RequestMessage::new(version, vec![item.map_err(Error::encode)?]);
        // A server's request has a Time Stamp (KMIP 1.0 §6.5), and nothing that a header may ask of a server (KMIP 1.4 §5).
        message.header.time_stamp = Some(cx.now.wall);
        Ok(message)
    }

    /// Counts what became of an object, and stores it with the map and the place in the feed.
    fn record_result(
        &mut self,
        cx: &mut SessionContext<'_>,
        record: &Record,
        result: ObjectResult,
        mapped: Option<Mapped>,
    ) -> Result<()> {
        let (name, end) = (&self.options.relation, self.read_up_to);
        self.ledger.report.counts.cursor = i64::try_from(end).unwrap_or(i64::MAX);
        let mut entries = match &mapped {
            Some(mapped) => identifier_map::entries(name, mapped)?,
            None => vec![identifier_map::forgotten(name, &record.id)?],
        };
        let results = [(record.id.clone(), result.clone())];
        self.ledger.record_result(result);
        let counts = self.ledger.counts_entry()?;
        entries.extend(counts.map(|(key, value)| (key, Some(value))));
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        cx.store.transact::<_, Error>(|transaction| {
            running.record_results(transaction, cx.now.wall, &mut *cx.random, &results, end)?;
            identifier_map::store(transaction, &self.options.relation, &entries)
        })?;
        running.committed = end;
        Ok(())
    }

    fn apply_answer(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        let under_way = self.under_way.take();
        let notification = self.notification.take();
        let Ok(response) = response else {
            if let Some(running) = &mut self.running {
                running.reread_retries();
                self.read_up_to = running.committed;
            }
            return Ok(());
        };
        let (Some(notification), true) = (notification, under_way == Some(ticket)) else {
            return Err(Error::new(
                ErrorKind::Protocol,
                "an answer came to nothing that was asked",
            ));
        };
        let item = response
            .batch
            .first()
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "an answer without an item"))?;
        if item.is_success() {
            self.on_accepted(cx, notification)
        } else {
            self.on_refused(cx, notification, item)
        }
    }

    fn on_refused(
        &mut self,
        cx: &mut SessionContext<'_>,
        mut notification: Notification,
        item: &ResponseItem,
    ) -> Result<()> {
        let was_put = notification.delivery == Delivery::Put;
        let exists = item.result_reason == Some(ResultReason::OBJECT_ALREADY_EXISTS);
        if exists && was_put && notification.mapped.is_some() && self.options.notifies {
            // An earlier Put had arrived: the receiver is told by Notify what it should know.
            notification.delivery = Delivery::Notify;
            self.notification = Some(notification);
            return Ok(());
        }
        let why = item
            .result_message
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let record = &notification.record;
        let result = ObjectResult::failed(&record.identifier, item.result_reason, why);
        // A Put that was refused is forgotten, unless the receiver may have the object.
        let mapped = notification.mapped.filter(|_| !was_put || exists);
        self.record_result(cx, record, result, mapped)
    }

    fn on_accepted(
        &mut self,
        cx: &mut SessionContext<'_>,
        notification: Notification,
    ) -> Result<()> {
        let Notification {
            record,
            is_deselected,
            delivery,
            notice,
            ..
        } = notification;
        let identifier = record.identifier.clone();
        let destroyed = is_deselected
            && self
                .running
                .as_ref()
                .is_some_and(|running| running.relation.destroys_left);
        let (outcome, message) = match delivery {
            _ if destroyed => (Outcome::Withdrawn, None),
            _ if is_deselected => (Outcome::Skipped, Some(TOLD_THOUGH_DESELECTED.to_owned())),
            Delivery::Put => (Outcome::Created, None),
            Delivery::Replace | Delivery::Notify => (Outcome::Updated, None),
        };
        let mapped = Mapped {
            there: Some(identifier.clone()),
            digest: Some(record.copy_digest()?),
            left: is_deselected.then_some(true),
            told: notice.known,
            ..Mapped::intended(&record.id)
        };
        let (_, lost) = representable_attributes(&record.attributes, self.options.version);
        let result = ObjectResult {
            lost,
            message,
            ..ObjectResult::new(&identifier, outcome)
        };
        self.record_result(cx, &record, result, Some(mapped))
    }

    /// Reports an object that the version can't say.
    fn report_unsayable(&mut self, cx: &mut SessionContext<'_>, error: &Error) -> Result<()> {
        let Some(notification) = self.notification.take() else {
            return Ok(());
        };
        let record = &notification.record;
        let result = ObjectResult::failed(&record.identifier, None, error.to_string());
        let mapped = notification.mapped.filter(|mapped| mapped.there.is_some());
        self.record_result(cx, record, result, mapped)
    }
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
            let Some(notification) = &self.notification else {
                if self.next_object(cx)? {
                    continue;
                }
                self.ledger.end()?;
                self.ledger.save(cx)?;
                self.running = None;
                return Ok(Step::Done(Box::new(self.ledger.finish())));
            };
            match self.message(cx, notification) {
                Ok(message) => {
                    self.under_way = Some(ticket);
                    return Ok(Step::Send(Box::new(message)));
                }
                Err(error) if error.kind() == ErrorKind::Encode => {
                    self.report_unsayable(cx, &error)?;
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
        let applied = self.apply_answer(cx, ticket, response);
        if let (Err(error), Some(running)) = (&applied, &self.running) {
            running.note_failure(cx.store, error);
        }
        applied
    }
}
