//! This module answers one message, item by item.

use super::Server;
use super::world::World;
use crate::error::Error;
use crate::operation;
use crate::request::Request;
use keyferry_kmip::spec::{Operation, ResultStatus, tag};
use keyferry_kmip::{
    Cause, DateTime, Escaped, Failure, Now, Random, RandomFailed, RequestItem, RequestMessage,
    ResponseItem, ResponseMessage, Text, context,
};
use keyferry_s2s::{Answered, Ask, EarlierIdentifier, GIVE_BACK, Node, Placeholder, Responder};
use keyferry_ttlv::{Frame, Reader, Version};
use std::sync::{Mutex, PoisonError};

/// The most bytes in an answer, and about the most in all answers that are held at once.
pub(super) const LARGEST_ANSWER: usize = keyferry_ttlv::Limits::DEFAULT.size - 4096;

/// The most bytes that an item of an answer takes beside its payload and message.
const ITEM: usize = 160;

/// The items of a message that were answered so far.
struct Batch {
    items: Vec<ResponseItem>,
    /// The ID Placeholder.
    placeholder: Option<Text>,
    /// The identifiers in the answers, which later items may refer to.
    earlier: Vec<EarlierIdentifier>,
    /// About the number of bytes in the answer.
    size: usize,
}

impl Server {
    /// Answers a message; `world` takes the effects.
    pub(super) fn message(
        &self,
        world: &mut World<'_, '_>,
        now: Now,
        request: &Request,
    ) -> Result<Frame, Error> {
        let mut batch = Batch {
            items: Vec::with_capacity(request.message.batch.len()),
            placeholder: None,
            earlier: Vec::new(),
            size: 0,
        };
        for item in &request.message.batch {
            let response = self.item(world, now, request, item, &mut batch)?;
            let failed = response.result_status == ResultStatus::OPERATION_FAILED;
            batch.add(response, request, item)?;
            if failed && request.undoes() {
                return Err(Error::Undone(undone(request, now, batch.items)?));
            }
            if failed && !request.continues() {
                break;
            }
        }
        let frame = ResponseMessage::new(request.version, now.wall, batch.items).to_frame()?;
        let maximum = request
            .message
            .header
            .maximum_response_size
            .and_then(|size| usize::try_from(size).ok());
        if maximum.is_some_and(|maximum| frame.len() > maximum) {
            return Err(Error::TooLarge);
        }
        Ok(frame)
    }

    /// Answers an item and applies its effects.
    fn item(
        &self,
        world: &mut World<'_, '_>,
        now: Now,
        request: &Request,
        item: &RequestItem,
        batch: &mut Batch,
    ) -> Result<ResponseItem, Error> {
        let mut random = Shared(&self.random);
        let (operation, snapshot) = (item.operation, world.snapshot());
        let mut ask = Ask::new(
            snapshot,
            request.caller_of(operation),
            operation,
            now,
            &mut random,
        )
        .in_context(context(request.version))
        .with_rights(self.rights())
        .by_client(request.is_client)
        .over_tls(&request.tls)
        .after(batch.placeholder.clone(), &batch.earlier);
        let answered = self
            .respond(&mut ask, item)
            .and_then(|mut answered| {
                let wall = now.wall;
                self.node()
                    .spread_compromise(ask.snapshot, wall, &mut answered.effects)?;
                Ok(answered)
            })
            .and_then(|answered| self.check_restored(&ask, answered))
            .and_then(|answered| self.check_size(&ask, item, answered));
        let mut response = match answered {
            Ok(answered) => {
                world.apply(answered.effects)?;
                match answered.placeholder {
                    Placeholder::Keep => {}
                    Placeholder::Set(identifier) => batch.placeholder = Some(identifier),
                    Placeholder::Clear => batch.placeholder = None,
                }
                answered.response
            }
            Err(failure) => {
                // After a use that is not allowed, later items find no placeholder (KMIP 2.1 §6.1.7).
                if item.operation == Operation::CHECK {
                    batch.placeholder = None;
                }
                log_failure(request, item, &failure);
                ResponseItem::failure(Some(item.operation), &failure, request.version)
            }
        };
        response.operation = Some(item.operation);
        response.unique_batch_item_id = item.unique_batch_item_id.clone();
        Ok(response)
    }

    /// Answers one item from what the transaction shows.
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Answered, Failure> {
        if !ask.is_client && !operation::is_for_peers(item.operation) {
            return Err(Failure::denied("a peer, and not a client of this server"));
        }
        let exists = Operation::DOMAIN
            .values
            .iter()
            .any(|row| row.value == item.operation.0 && row.versions.contain(ask.cx.version));
        let known = exists || item.operation.0 >= 0x8000_0000;
        let node: &Node = self.node();
        let built_in: [&dyn Responder; 2] = [node, &self.operations];
        let mut responders = self
            .applications
            .iter()
            .map(|application| &**application)
            .chain(built_in);
        let answered = known
            .then(|| responders.find_map(|responder| responder.respond(ask, item)))
            .flatten();
        answered.unwrap_or_else(|| {
            Err(Failure::new(
                Cause::OperationNotSupported,
                format_args!("the operation {} is not supported", item.operation),
            ))
        })
    }

    /// Fails when a restored server would change its objects before it has taken back what it lost. What only reads is answered all the same, and
    /// that it was read is forgotten ([rule 10](keyferry_s2s::design#rule-10)).
    fn check_restored(&self, ask: &Ask<'_>, mut answered: Answered) -> Result<Answered, Failure> {
        let node = self.node();
        if ask.operation == keyferry_s2s::GIVE_BACK || !node.changes_own_objects(&answered.effects)
        {
            return Ok(answered);
        }
        let waits = keyferry_s2s::check_no_pending_give_back(ask.snapshot);
        if waits.is_err() && operation::is_read(ask.operation) {
            answered.effects.changes.clear();
            return Ok(answered);
        }
        waits.map(|()| answered)
    }
}

impl Server {
    /// Fails when an object of this server would become larger than can be answered and carried. What other servers tell of an object that is
    /// held already joins whatever its size.
    fn check_size(
        &self,
        ask: &Ask<'_>,
        item: &RequestItem,
        answered: Answered,
    ) -> Result<Answered, Failure> {
        let request = item.request_payload.bytes().len();
        for change in &answered.effects.changes {
            let is_told = !ask.is_client && change.before.is_some();
            if self.node().issues(&change.after) && !is_told && item.operation != GIVE_BACK {
                self.node()
                    .check_size(ask.snapshot, item.operation, request, change)?;
            }
        }
        Ok(answered)
    }
}

impl Batch {
    /// Adds the answer to an item.
    fn add(
        &mut self,
        response: ResponseItem,
        request: &Request,
        item: &RequestItem,
    ) -> Result<(), Error> {
        let payload = response.response_payload.as_ref();
        let message = response.result_message.as_ref();
        self.size += payload.map_or(0, |payload| payload.bytes().len())
            + message.map_or(0, |text| text.len())
            + ITEM;
        if self.size > LARGEST_ANSWER {
            return Err(Error::TooLarge);
        }
        if request.version >= Version::V2_0 && request.message.batch.len() > 1 {
            let place = self.items.len();
            let named = identifiers(&response)
                .map(|identifier| EarlierIdentifier::new(place, item.operation, identifier));
            self.earlier.extend(named);
        }
        self.items.push(response);
        Ok(())
    }
}

fn log_failure(request: &Request, item: &RequestItem, failure: &Failure) {
    let caller = Escaped(&request.caller_of(item.operation).name);
    let operation = operation_name(item.operation);
    match failure.rule() {
        Some(rule) => tracing::warn!(%caller, operation, rule, "denied"),
        None => tracing::debug!(%caller, operation, %failure, "failed"),
    }
}

/// The identifiers that the answer to an item names.
pub(super) fn identifiers(response: &ResponseItem) -> impl Iterator<Item = Text> + use<> {
    let mut found = Vec::new();
    if let Some(payload) = response
        .response_payload
        .as_ref()
        .filter(|_| response.is_success())
    {
        let r = Reader::new(payload.bytes(), context(Version::V2_1));
        let mut children = payload.item().and_then(|item| r.children(item)).ok();
        while let Some(child) = children.as_mut().and_then(|children| children.step()) {
            if matches!(
                child.tag(),
                tag::UNIQUE_IDENTIFIER
                    | tag::PRIVATE_KEY_UNIQUE_IDENTIFIER
                    | tag::PUBLIC_KEY_UNIQUE_IDENTIFIER
            ) {
                found.extend(child.text(&r).ok().map(Text::from));
            }
        }
    }
    found.into_iter()
}

/// The answer to a batch that is undone because its last item failed: the earlier items are marked as undone (KMIP 2.1 §9.7, 1.4 §6.13).
fn undone(request: &Request, now: Now, mut items: Vec<ResponseItem>) -> Result<Frame, Error> {
    for item in items.iter_mut().filter(|item| item.is_success()) {
        item.result_status = ResultStatus::OPERATION_UNDONE;
    }
    Ok(ResponseMessage::new(request.version, now.wall, items).to_frame()?)
}

/// A response that fails every item in the same way.
pub(super) fn failed_whole(
    message: &RequestMessage,
    version: Version,
    now: DateTime,
    failure: &Failure,
) -> Frame {
    let items = message
        .batch
        .iter()
        .map(|item| ResponseItem {
            unique_batch_item_id: item.unique_batch_item_id.clone(),
            ..ResponseItem::failure(Some(item.operation), failure, version)
        })
        .collect();
    ResponseMessage::new(version, now, items)
        .to_frame()
        .unwrap_or_default()
}

/// The server's source of randomness, which is locked for each draw, since requests of several connections are answered concurrently.
struct Shared<'a>(&'a Mutex<Box<dyn Random>>);

impl Random for Shared<'_> {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), RandomFailed> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill(out)
    }
}

/// The name of an operation; keyferry's own have names here alone.
pub(super) fn operation_name(operation: Operation) -> String {
    match operation {
        keyferry_s2s::FOLLOW => "Follow".to_owned(),
        keyferry_s2s::GIVE_BACK => "Give Back".to_owned(),
        other => other.to_string(),
    }
}
