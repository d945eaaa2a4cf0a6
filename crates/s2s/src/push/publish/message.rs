//! The next message to the peer: which objects it is about, and what is asked of each.

use crate::error::{Error, ErrorKind, Result};
use crate::material::transit::wrap_for_transit;
use crate::outgoing::item::{
    MAX_ITEM_BYTES, SendOptions, Strategy, conditional_request_item, item_size,
};
use crate::push::publish::object::{Changes, Stage, Work};
use crate::push::publish::steps::{
    is_usable, locate_storage_mask, marker_attribute, read_request, register_attributes,
    state_change_items, wanted_attributes,
};
use crate::push::publish::{
    CreateBy, KeepsState, Phase, Publish, STATE_NOT_KEPT, UnderWay, change,
};
use crate::session::{SessionContext, Step};
use keyferry_kmip::spec::{BatchErrorContinuationOption, State};
use keyferry_kmip::{
    Attributes, LocateRequest, Payload, RegisterRequest, RequestItem, RequestMessage, Ticket,
    context,
};
use keyferry_store::StoreExt;

/// The number of hits that are looked at where a peer finds more objects than it was asked for.
const MAX_CANDIDATES: i32 = 100;

/// The items of a message, the objects that they are about, and their size.
#[derive(Default)]
struct Content {
    items: Vec<RequestItem>,
    works: Vec<usize>,
    bytes: usize,
}

impl Publish {
    /// Makes the message of this phase, for as many of the waiting objects as it takes; `None` when no object waits.
    pub(super) fn next_message(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
    ) -> Result<Option<Step>> {
        loop {
            self.conclude_probe();
            self.refuse_unusable(cx);
            let waiting = self.waiting();
            if waiting.is_empty() {
                return Ok(None);
            }
            let content = self.content_for(cx, waiting)?;
            if content.items.is_empty() {
                // These objects are over. Others may wait.
                continue;
            }
            if self.phase == Phase::Update {
                self.store_marks_to_send(cx, &content.works)?;
            }
            self.ledger.report.counts.bytes += i64::try_from(content.bytes).unwrap_or(i64::MAX);
            return Ok(Some(self.send(ticket, content.works, content.items)));
        }
    }

    /// The objects that the next message is about, if they fit.
    fn waiting(&self) -> Vec<usize> {
        // A probe goes through all phases before anything depends on it.
        let probing = self.is_probing();
        let waiting =
            self.works.iter().enumerate().filter(|(n, work)| {
                work.stage.phase() == Some(self.phase) && (!probing || *n == 0)
            });
        let first = waiting.clone().next();
        let alone =
            self.one_by_one || probing || first.is_some_and(|(_, work)| work.is_sent_alone());
        if alone {
            return first.map(|(n, _)| n).into_iter().collect();
        }
        waiting
            .filter(|(_, work)| !work.is_sent_alone())
            .map(|(n, _)| n)
            .collect()
    }

    /// Collects the items of objects until a message is full. Objects that can't be sent are over.
    fn content_for(&mut self, cx: &mut SessionContext<'_>, waiting: Vec<usize>) -> Result<Content> {
        let mut content = Content::default();
        for n in waiting {
            let items = match self.items(cx, n) {
                Ok(items) => items,
                // An object that the version can't say stays here.
                Err(error) if error.kind() == ErrorKind::Encode => {
                    self.refuse_to_send(n, error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            let bytes: usize = items.iter().map(item_size).sum();
            if bytes > MAX_ITEM_BYTES {
                let why =
                    format!("the object takes about {bytes} bytes, more than a message may have");
                self.refuse_to_send(n, why);
            } else if items.is_empty() {
                self.works.get_mut(n).into_iter().for_each(Work::end_unsent);
            } else if content.bytes + bytes > MAX_ITEM_BYTES {
                break;
            } else {
                content.bytes += bytes;
                content.items.extend(items);
                content.works.push(n);
            }
        }
        Ok(content)
    }

    fn refuse_to_send(&mut self, n: usize, why: String) {
        if let Some(work) = self.works.get_mut(n) {
            work.peer_identifier = None;
            work.report_failure(why);
        }
    }

    /// Ends objects that are not usable, once it is known that the peer does not keep their State.
    fn refuse_unusable(&mut self, cx: &SessionContext<'_>) {
        if self.keeps_state != KeepsState::No {
            return;
        }
        for work in &mut self.works {
            if matches!(work.stage, Stage::Create)
                && !work.is_probe()
                && !is_usable(work.record.state(cx.now.wall))
            {
                work.report_failure(STATE_NOT_KEPT);
            }
        }
    }

    /// What is asked of one object in its stage.
    fn items(&mut self, cx: &mut SessionContext<'_>, n: usize) -> Result<Vec<RequestItem>> {
        let Some(work) = self.works.get_mut(n) else {
            return Ok(Vec::new());
        };
        if let Some(change) = work.next_single_change() {
            return Ok(vec![change]);
        }
        let Some(work) = self.works.get(n) else {
            return Ok(Vec::new());
        };
        let identifier = work.peer_identifier.as_ref();
        Ok(match &work.stage {
            Stage::Locate => {
                let criteria = Attributes::new().with(marker_attribute(&work.record.id)?);
                vec![self.item(&LocateRequest {
                    maximum_items: Some(MAX_CANDIDATES),
                    storage_status_mask: locate_storage_mask(self.setting.version),
                    ..LocateRequest::of(criteria)
                })?]
            }
            Stage::Create => self.create_item(cx, work)?.into_iter().collect(),
            Stage::Check | Stage::Inspect { .. } => vec![self.item(&read_request(identifier))?],
            Stage::Update { .. } => {
                let mut items = self.update_items(cx, work)?;
                items.push(self.item(&read_request(identifier))?);
                items
            }
            Stage::Remove { shown, .. } => state_change_items(
                identifier,
                &work.record,
                shown.state(),
                Some(State::DESTROYED),
                context(self.setting.version),
            )?,
            Stage::Over(_) => Vec::new(),
        })
    }

    /// The Register or Import of an object; `None` if it has no material.
    fn create_item(&self, cx: &mut SessionContext<'_>, work: &Work) -> Result<Option<RequestItem>> {
        let Some(object) = work.object.clone() else {
            return Ok(None);
        };
        let version = self.setting.version;
        let item = match self.setting.create_by {
            CreateBy::Register => {
                let attributes = cx.store.view::<_, Error>(|snapshot| {
                    let name = &self.setting.name;
                    register_attributes(snapshot, name, &work.record, work.level, version)
                })?;
                self.item(&RegisterRequest::of(object, attributes))?
            }
            CreateBy::Import => {
                let wrapping = self.wrapping.as_ref().filter(|_| !work.is_probe());
                let (object, wrapped) =
                    wrap_for_transit(cx, wrapping, version, &work.record, Some(object))?;
                let options = SendOptions {
                    strategy: Strategy::Import,
                    version,
                    keyferry: false,
                    session: None,
                    dry_run: false,
                    wrapped,
                };
                conditional_request_item(options, work.record.clone(), object, None, None)?
            }
        };
        Ok(Some(item))
    }

    /// What is still to be changed of an object that the peer has: its attributes, then its State.
    pub(super) fn update_items(
        &self,
        cx: &SessionContext<'_>,
        work: &Work,
    ) -> Result<Vec<RequestItem>> {
        let Stage::Update { shown, changes } = &work.stage else {
            return Ok(Vec::new());
        };
        let mut items = match changes {
            Changes::Together => self.attribute_changes(cx, work, shown)?,
            Changes::Singly { .. } => Vec::new(),
        };
        items.extend(state_change_items(
            work.peer_identifier.as_ref(),
            &work.record,
            shown.state(),
            self.target_state(cx, work),
            context(self.setting.version),
        )?);
        Ok(items)
    }

    /// The changes that bring the attributes of an object up to date which was at the peer before.
    pub(super) fn attribute_changes(
        &self,
        cx: &SessionContext<'_>,
        work: &Work,
        shown: &Attributes,
    ) -> Result<Vec<RequestItem>> {
        let Some(identifier) = &work.peer_identifier else {
            return Ok(Vec::new());
        };
        if work.presence.is_created() || work.is_deselected() {
            return Ok(Vec::new());
        }
        let wanted = self.wanted_at_peer(cx, work)?;
        let target = change::Target {
            identifier,
            version: self.setting.version,
            operations: &self.operations,
        };
        change::changes(&target, &wanted, shown, work.sent_marks())
    }

    /// The attributes that an object should have at the peer.
    pub(super) fn wanted_at_peer(
        &self,
        cx: &SessionContext<'_>,
        work: &Work,
    ) -> Result<Vec<keyferry_kmip::spec::AttributeValue>> {
        let (name, version) = (&self.setting.name, self.setting.version);
        cx.store
            .view(|snapshot| wanted_attributes(snapshot, name, &work.record, version))
    }

    pub(super) fn item<P: Payload>(&self, payload: &P) -> Result<RequestItem> {
        RequestItem::new(payload, context(self.setting.version)).map_err(Error::encode)
    }

    /// Sends items, and notes which objects they are about.
    pub(super) fn send(
        &mut self,
        ticket: Ticket,
        works: Vec<usize>,
        items: Vec<RequestItem>,
    ) -> Step {
        let mut message = RequestMessage::new(self.setting.version, items);
        if message.batch.len() > 1 {
            message.header.batch_error_continuation_option =
                Some(BatchErrorContinuationOption::CONTINUE);
        }
        self.under_way = Some(UnderWay { ticket, works });
        Step::Send(Box::new(message))
    }
}
