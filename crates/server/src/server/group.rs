//! This module answers messages together, in one transaction, and decides which of them share one.

use super::Server;
use super::message::{LARGEST_ANSWER, failed_whole};
use super::world::World;
use crate::commit_queue::Waiting;
use crate::error::Error;
use crate::operation;
use crate::request::Request;
use keyferry_kmip::{Cause, Escaped, Failure, Now};
use keyferry_store::{Deferred, ErrorKind, StoreExt};
use keyferry_ttlv::Frame;
use std::sync::Arc;

/// Requests that wait for a commit, and the answers to them.
type WaitingGroup = Waiting<(Now, Vec<Arc<Request>>), Result<Vec<Frame>, Error>>;

impl Server {
    /// Answers the messages of a group one after another, as many as the size of the answers allows.
    fn answers(
        &self,
        world: &mut World<'_, '_>,
        now: Now,
        group: &[Arc<Request>],
    ) -> Result<Vec<Frame>, Error> {
        let (mut answers, mut size) = (Vec::with_capacity(group.len()), 0);
        for request in group {
            let frame = self.message(world, now, request)?;
            size += frame.len();
            answers.push(frame);
            if size >= LARGEST_ANSWER {
                break;
            }
        }
        Ok(answers)
    }

    /// Answers groups in one commit. Nothing is done when one of them fails, or when their answers are too large to be held at once.
    fn together(&self, groups: &[(Now, &[Arc<Request>])]) -> Result<Vec<Vec<Frame>>, Error> {
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

    /// Answers one group in a commit of its own.
    fn alone(&self, now: Now, group: &[Arc<Request>]) -> Result<Vec<Frame>, Error> {
        self.together(&[(now, group)])
            .map(|mut answers| answers.pop().unwrap_or_default())
    }

    /// Answers a group that writes, in one commit with those of other connections that wait for one.
    fn write(&self, now: Now, group: &[Arc<Request>]) -> Result<Vec<Frame>, Error> {
        if group.iter().any(|request| request.is_alone()) {
            return self.alone(now, group);
        }
        self.commits
            .commit((now, group.to_vec()), |all| self.write_all(all))
            .unwrap_or(Err(Error::Lost))
    }

    /// Answers groups in one commit; when it fails, each in a commit of its own, so that one that cannot be answered does no harm to others.
    fn write_all(&self, all: &[Arc<WaitingGroup>]) {
        let groups: Vec<(Now, &[Arc<Request>])> = all
            .iter()
            .map(|one| (one.asked.0, one.asked.1.as_slice()))
            .collect();
        let error = match self.together(&groups) {
            Ok(answers) => {
                all.iter()
                    .zip(answers)
                    .for_each(|(one, answers)| one.finish(Ok(answers)));
                return;
            }
            Err(error) => error,
        };
        if let [only] = all {
            return only.finish(Err(error));
        }
        for (one, (now, group)) in all.iter().zip(groups) {
            one.finish(match &error {
                // The outcome of a commit is unknown when the store failed at it, so it is not tried again.
                Error::Store(failed) if failed.kind() == ErrorKind::Io => {
                    Err(Error::Store(failed.clone()))
                }
                _ => self.alone(now, group),
            });
        }
    }

    /// Answers messages that share one commit, or the first of them when they cannot be answered together, or when the answers grow large. The
    /// others are offered again.
    pub(super) fn group(&self, now: Now, group: &[Arc<Request>]) -> Vec<Frame> {
        let is_read = |request: &Arc<Request>| {
            let mut items = request.message.batch.iter();
            items.all(|item| operation::is_read(item.operation))
        };
        let mut answered: Result<Vec<Frame>, Error> = if group.iter().all(is_read) {
            self.store
                .view(|snapshot| self.answers(&mut World::Read(snapshot), now, group))
        } else {
            Err(Error::Misplaced)
        };
        // An operation that rarely has effects may have some, such as the first Get of a fresh object.
        if let Err(Error::Misplaced) = answered {
            for (place, request) in group.iter().enumerate() {
                if let Err(failure) =
                    self.operations
                        .prepare(&*self.store, &request.message, request.version)
                {
                    return match group {
                        [first, ..] if place > 0 => self.group(now, std::slice::from_ref(first)),
                        _ => vec![failed(request, now, &failure)],
                    };
                }
            }
            answered = self.write(now, group);
        }
        let unknown =
            matches!(&answered, Err(Error::Store(failed)) if failed.kind() == ErrorKind::Io);
        match (group, answered) {
            (_, Ok(frames)) => frames,
            // One of them cannot be answered: the first alone now.
            ([first, _, ..], Err(_)) if !unknown => self.group(now, std::slice::from_ref(first)),
            (group, Err(error)) => refused(group, now, error),
        }
    }
}

/// The answers to a group that failed as a whole.
fn refused(group: &[Arc<Request>], now: Now, error: Error) -> Vec<Frame> {
    let failure = match error {
        Error::Undone(frame) => return vec![frame],
        Error::TooLarge => Failure::new(
            Cause::ResponseTooLarge,
            "the answer is larger than its receiver or this server takes; nothing was done",
        ),
        other => {
            let caller = group.first().map_or("", |request| &request.caller.name);
            let caller = Escaped(caller);
            tracing::error!(%caller, error = %other, "a request failed inside the server");
            Failure::new(Cause::Internal, "the server failed")
        }
    };
    group
        .iter()
        .map(|request| failed(request, now, &failure))
        .collect()
}

fn failed(request: &Request, now: Now, failure: &Failure) -> Frame {
    failed_whole(&request.message, request.version, now.wall, failure)
}
