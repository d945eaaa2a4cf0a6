//! Messages that are answered together, in one transaction.

use super::{Asked, Server, failed_whole, named};
use crate::Error;
use crate::operation;
use keyferry_kmip::spec::{BatchErrorContinuationOption, Operation, ResultStatus, tag};
use keyferry_kmip::{
    Cause, Failure, Now, Random, RandomFailed, ResponseItem, ResponseMessage, Text, context,
};
use keyferry_s2s::{Ask, EarlierIdentifier, Placeholder};
use keyferry_store::{Deferred, Effects, ErrorKind, Snapshot, StoreExt};
use keyferry_ttlv::{Frame, Reader, Version};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes in an answer, and about how many in the answers that are held at once.
pub(super) const LARGEST_ANSWER: usize = keyferry_ttlv::Limits::DEFAULT.size - 4096;

/// Bytes that an item of an answer takes at the most beside its payload and message.
const ITEM: usize = 160;

impl Server {
    /// Answers a message; `world` is where effects go.
    fn message(&self, world: &mut World<'_, '_>, now: Now, asked: &Asked) -> Result<Frame, Error> {
        let Asked {
            message,
            version,
            caller,
            tls,
            is_client,
        } = asked;
        let cx = context(*version);
        let mut random = Shared(&self.random);
        let (mut placeholder, mut size, mut earlier) = (None, 0, Vec::new());
        let mut items: Vec<ResponseItem> = Vec::with_capacity(message.batch.len());
        for item in &message.batch {
            let (operation, snapshot) = (item.operation, world.snapshot());
            let mut ask = Ask::new(snapshot, caller, operation, now, &mut random)
                .in_context(cx)
                .with_rights(&self.rights)
                .by_client(*is_client)
                .over_tls(tls)
                .after(placeholder.clone(), &earlier);
            let outcome = self
                .respond(&mut ask, item)
                .and_then(|outcome| self.check_restored(&ask, outcome));
            let mut response = match outcome {
                Ok(outcome) => {
                    world.apply(outcome.effects)?;
                    match outcome.placeholder {
                        Placeholder::Keep => {}
                        Placeholder::Set(identifier) => placeholder = Some(identifier),
                        Placeholder::Clear => placeholder = None,
                    }
                    outcome.response
                }
                Err(failure) => {
                    // A use that is not allowed is not gone on with (KMIP 2.1 §6.1.7).
                    if item.operation == Operation::CHECK {
                        placeholder = None;
                    }
                    match failure.rule() {
                        Some(rule) => {
                            tracing::warn!(caller = %caller.name, operation = named(item.operation), rule, "denied")
                        }
                        None => {
                            tracing::debug!(caller = %caller.name, operation = named(item.operation), %failure, "failed")
                        }
                    }
                    ResponseItem::failure(Some(item.operation), &failure, *version)
                }
            };
            response.operation = Some(item.operation);
            size += response
                .response_payload
                .as_ref()
                .map_or(0, |payload| payload.bytes().len())
                + response
                    .result_message
                    .as_ref()
                    .map_or(0, |text| text.len())
                + ITEM;
            if size > LARGEST_ANSWER {
                return Err(Error::TooLarge);
            }
            response.unique_batch_item_id = item.unique_batch_item_id.clone();
            if *version >= Version::V2_0 && message.batch.len() > 1 {
                earlier.extend(identifiers(&response).map(|identifier| {
                    EarlierIdentifier::new(items.len(), item.operation, identifier)
                }));
            }
            let failed = response.result_status == ResultStatus::OPERATION_FAILED;
            items.push(response);
            if failed && asked.undoes() {
                return Err(Error::Undone(undone(asked, now, items)?));
            }
            let goes_on = message.header.batch_error_continuation_option
                == Some(BatchErrorContinuationOption::CONTINUE);
            if failed && !goes_on {
                break;
            }
        }
        let frame = ResponseMessage::new(*version, now.wall, items)
            .to_frame()
            .map_err(Error::Encode)?;
        let maximum = message
            .header
            .maximum_response_size
            .and_then(|size| usize::try_from(size).ok());
        if maximum.is_some_and(|maximum| frame.len() > maximum) {
            return Err(Error::TooLarge);
        }
        Ok(frame)
    }

    /// Answers the messages of a group one after another; not all of them when the answers grow large.
    fn answers(
        &self,
        world: &mut World<'_, '_>,
        now: Now,
        group: &[Arc<Asked>],
    ) -> Result<Vec<Frame>, Error> {
        let (mut answers, mut size) = (Vec::with_capacity(group.len()), 0);
        for asked in group {
            let frame = self.message(world, now, asked)?;
            size += frame.len();
            answers.push(frame);
            if size >= LARGEST_ANSWER {
                break;
            }
        }
        Ok(answers)
    }

    /// Answers groups in one commit; nothing is done where one of them fails, or their answers are too much to hold at once.
    fn together(&self, groups: &[(Now, &[Arc<Asked>])]) -> Result<Vec<Vec<Frame>>, Error> {
        let (answers, moved) = self.store.transact(|transaction| {
            let mut world = World::Write(Deferred::new(transaction), false);
            let (mut answers, mut size) = (Vec::with_capacity(groups.len()), 0);
            for (now, group) in groups {
                let frames = self.answers(&mut world, *now, group)?;
                size += frames.iter().map(|frame| frame.len()).sum::<usize>();
                if size >= LARGEST_ANSWER && groups.len() > 1 {
                    return Err(Error::TooLarge);
                }
                answers.push(frames);
            }
            Ok::<_, Error>((answers, world.finish()?))
        })?;
        self.committed(moved);
        Ok(answers)
    }

    /// Answers a group that writes: in one commit with those of other connections that wait for one.
    fn write(&self, now: Now, group: &[Arc<Asked>]) -> Result<Vec<Frame>, Error> {
        let alone = |(now, group): (Now, &[Arc<Asked>])| {
            self.together(&[(now, group)])
                .map(|mut answers| answers.pop().unwrap_or_default())
        };
        if group.iter().any(|asked| asked.is_alone()) {
            return alone((now, group));
        }
        let outcome = self.turns.take((now, group.to_vec()), |all| {
            let groups: Vec<(Now, &[Arc<Asked>])> = all
                .iter()
                .map(|one| (one.asked.0, one.asked.1.as_slice()))
                .collect();
            match self.together(&groups) {
                Ok(answers) => all
                    .iter()
                    .zip(answers)
                    .for_each(|(one, answers)| one.finish(Ok(answers))),
                // One of them is the trouble, and the others shall not suffer for it.
                Err(error) => match all {
                    [only] => only.finish(Err(error)),
                    // What became of a commit that the store failed at, nobody knows: it is not tried again.
                    several => several.iter().zip(groups).for_each(|(one, group)| {
                        one.finish(match &error {
                            Error::Store(failed) if failed.kind() == ErrorKind::Io => {
                                Err(Error::Store(failed.clone()))
                            }
                            _ => alone(group),
                        });
                    }),
                },
            }
        });
        outcome.unwrap_or(Err(Error::Lost))
    }

    /// Answers messages that share one commit; not all of them when the answers grow large.
    pub(super) fn group(&self, now: Now, group: &[Arc<Asked>]) -> Vec<Frame> {
        let writes = group.iter().any(|asked| {
            asked
                .message
                .batch
                .iter()
                .any(|item| !operation::is_read(item.operation))
        });
        let mut answered: Result<Vec<Frame>, Error> = if writes {
            Err(Error::Misplaced)
        } else {
            self.store
                .view(|snapshot| self.answers(&mut World::Read(snapshot), now, group))
        };
        // What mostly reads had something to write: a Get that takes the freshness off an object.
        if let Err(Error::Misplaced) = answered {
            for asked in group {
                if let Err(failure) =
                    self.operations
                        .prepare(&*self.store, &asked.message, asked.version)
                {
                    let refusal = |asked: &Arc<Asked>| {
                        failed_whole(&asked.message, asked.version, now.wall, &failure)
                    };
                    // The others when they are offered again.
                    return match group {
                        [first, ..] if !Arc::ptr_eq(first, asked) => {
                            self.group(now, std::slice::from_ref(first))
                        }
                        _ => vec![refusal(asked)],
                    };
                }
            }
            answered = self.write(now, group);
        }
        let unknown =
            matches!(&answered, Err(Error::Store(failed)) if failed.kind() == ErrorKind::Io);
        if let ([first, _, ..], Err(_), false) = (group, &answered, unknown) {
            // One of them is the trouble, and the others shall not suffer for it: the first alone, the rest when they are offered again.
            return self.group(now, std::slice::from_ref(first));
        }
        answered.unwrap_or_else(|error| {
            let failure = match error {
                Error::Undone(frame) => return vec![frame],
                Error::TooLarge => Failure::new(
                    Cause::ResponseTooLarge,
                    "the answer is larger than its receiver or this server takes; nothing was done",
                ),
                other => {
                    let caller = group.first().map_or("", |asked| &asked.caller.name);
                    tracing::error!(caller, error = %other, "a request failed inside the server");
                    Failure::new(Cause::Internal, "the server failed")
                }
            };
            group
                .iter()
                .map(|asked| failed_whole(&asked.message, asked.version, now.wall, &failure))
                .collect()
        })
    }
}

/// The identifiers that the answer to an item names.
pub(super) fn identifiers(response: &ResponseItem) -> impl Iterator<Item = Text> {
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

/// The answer to a batch that is undone because its last item failed: those before it are told so (KMIP 2.1 §9.7, 1.4 §6.13).
fn undone(asked: &Asked, now: Now, mut items: Vec<ResponseItem>) -> Result<Frame, Error> {
    for item in items.iter_mut().filter(|item| item.is_success()) {
        item.result_status = ResultStatus::OPERATION_UNDONE;
    }
    ResponseMessage::new(asked.version, now.wall, items)
        .to_frame()
        .map_err(Error::Encode)
}

/// The server's randomness, locked for a moment at a time: requests of several connections are answered side by side.
struct Shared<'a>(&'a Mutex<Box<dyn Random>>);

impl Random for Shared<'_> {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), RandomFailed> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill(out)
    }
}

/// Where a message's operations look and, when they write, act.
enum World<'a, 't> {
    Read(&'a dyn Snapshot),
    /// And whether the head of the feed moves.
    Write(Deferred<'a, 't>, bool),
}

impl World<'_, '_> {
    fn snapshot(&self) -> &dyn Snapshot {
        match self {
            World::Read(snapshot) => *snapshot,
            World::Write(deferred, _) => deferred,
        }
    }

    fn apply(&mut self, effects: Effects) -> Result<(), Error> {
        match self {
            _ if effects.is_empty() => Ok(()),
            World::Write(deferred, moves) => {
                *moves |= !effects.changes.is_empty() || effects.restored.is_some();
                Ok(deferred.add(effects)?)
            }
            World::Read(_) => Err(Error::Misplaced),
        }
    }

    fn finish(self) -> Result<bool, Error> {
        match self {
            World::Write(deferred, moves) => deferred.finish().map(|_| moves).map_err(Error::from),
            World::Read(_) => Ok(false),
        }
    }
}
