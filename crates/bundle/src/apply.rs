//! Taking a bundle into a store: one transaction a segment, and what is kept of how far it came.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Raised, encode, long};
use crate::open::{OpenOptions, Opened, Part, open};
use crate::restore::{Restoring, take_back};
use keyferry_kmip::spec::{ResultReason, tag};
use keyferry_kmip::{
    Cause, DateTime, Failure, Identity, ImportRequest, Now, Random, RequestItem, Text, context,
    extension as x,
};
use keyferry_s2s::{
    ApplyPage, Ask, Counts, FailedObject, Outcome, Report, Responder, answered_outcome, apply_page,
    keys,
};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{Deferred, Effects, Snapshot, SnapshotExt, Span, Store, StoreExt};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::io::Read;
use std::ops::ControlFlow;

/// Where the messages of a bundle go: for applications that do not hand them to a server of their own.
pub struct Receiving<'a> {
    /// What answers them, usually a [`Node`](keyferry_s2s::Node). Its policy decides.
    pub responder: &'a dyn Responder,
    /// Where its effects go.
    pub store: &'a dyn Store,
    /// As whom the sender counts: the name that the policy knows the manifest's sender by.
    pub caller: &'a Identity,
    /// The time.
    pub now: Now,
    /// Begins from the first segment, whatever was taken of the bundle before: for objects that were refused, and would be taken now.
    pub again: bool,
    /// A person's word that this server takes back what it lost.
    pub restoring: Option<Restoring<'a>>,
}

impl std::fmt::Debug for Receiving<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiving")
            .field("caller", &self.caller)
            .field("again", &self.again)
            .finish_non_exhaustive()
    }
}

/// How many failures a report names.
const NAMED: usize = 100;

/// How far a bundle was taken. It commits with the objects of the segment.
#[derive(Clone, Encode, Decode)]
#[ttlv(tag = x::PROGRESS)]
struct Taken {
    /// Up to this segment.
    #[ttlv(tag = x::SEGMENT_NUMBER)]
    segment: i64,
    /// The hash up to there.
    #[ttlv(tag = x::RUNNING_HASH)]
    hash: Vec<u8>,
    /// When the bundle expires: nobody needs this any more then.
    #[ttlv(tag = x::EXPIRES)]
    expires: DateTime,
    counts: Counts,
    failures: Vec<Failed>,
    #[ttlv(extra)]
    extra: Extra,
}

#[derive(Clone, Encode, Decode)]
#[ttlv(tag = tag::BATCH_ITEM)]
struct Failed {
    #[ttlv(tag = tag::UNIQUE_IDENTIFIER)]
    identifier: Text,
    #[ttlv(tag = tag::RESULT_REASON)]
    reason: Option<ResultReason>,
    #[ttlv(tag = tag::RESULT_MESSAGE)]
    message: Text,
}

impl Receiving<'_> {
    /// Takes a bundle, one transaction a segment, and reports what became of each object. One that is refused does not stop the others.
    ///
    /// What interrupts it, a crash among that, leaves whole segments: taken again, the bundle goes on behind the last of them, and the report
    /// covers all. One that was taken to its end is read, verified and reported once more, and not applied.
    ///
    /// # Errors
    /// Those of [`open`], and [`ErrorKind::Store`].
    pub fn take(
        &self,
        input: impl Read,
        options: &OpenOptions<'_>,
        random: &mut dyn Random,
    ) -> Result<(Opened, Report)> {
        let mut taken = None;
        let opened = open(input, options, |part| {
            let before = match taken.take() {
                Some(before) => before,
                None => self.begin(&part)?,
            };
            let number = long(part.number);
            taken = Some(match number.cmp(&before.segment) {
                std::cmp::Ordering::Greater => self.apply(&mut *random, &part, &before)?,
                std::cmp::Ordering::Equal if part.hash != *before.hash => return Err(another()),
                _ => before,
            });
            Ok(())
        })?;
        let mut report = Report::default();
        if let Some(taken) = taken {
            if long(opened.segments) <= taken.segment {
                return Err(another());
            }
            report.counts = taken.counts;
            report.failures = taken
                .failures
                .into_iter()
                .map(Failed::into_failed_object)
                .collect();
        }
        report.counts.finished = true;
        report.counts.cursor = opened.cursor;
        report.counts.incarnation = opened.manifest.incarnation.clone();
        report.counts.session = opened.manifest.number;
        Ok((opened, report))
    }

    /// What was taken of the bundle before. What is kept of bundles that have expired goes.
    fn begin(&self, part: &Part<'_>) -> Result<Taken> {
        let key = keys::bundle_applied(&part.bundle);
        let (held, expired) = self.store.view::<_, Error>(|snapshot| {
            let mut expired = Vec::new();
            snapshot.state(
                &Span::prefix(&keys::bundle_applied(&[])),
                &mut |key, value| {
                    if read::<Taken>(value, "progress of a bundle")?.expires <= self.now.wall {
                        expired.push(key.to_vec());
                    }
                    Ok(ControlFlow::Continue(()))
                },
            )?;
            Ok((snapshot.state_value(&key)?, expired))
        })?;
        if !expired.is_empty() {
            self.store.transact::<_, Error>(|tx| {
                Ok(expired.iter().try_for_each(|key| tx.set_state(key, None))?)
            })?;
        }
        Ok(match held.filter(|_| !self.again) {
            Some(held) => read(&held, "progress of a bundle")?,
            None => Taken {
                segment: 0,
                hash: Vec::new(),
                expires: part.manifest.expires,
                counts: Counts::default(),
                failures: Vec::new(),
                extra: Extra::NONE,
            },
        })
    }

    /// Answers a segment's message and stores that it did, in one transaction. An item that is refused is counted; a failure of this server
    /// rolls the segment back.
    fn apply(&self, random: &mut dyn Random, part: &Part<'_>, before: &Taken) -> Result<Taken> {
        let version = part.message.version().map_err(encode)?;
        let key = keys::bundle_applied(&part.bundle);
        self.store.transact::<_, Error>(|transaction| {
            let mut world = Deferred::new(transaction);
            let mut page = SegmentPage {
                receiving: self,
                random: &mut *random,
                cx: context(version),
                raised: &part.raised,
                taken: Taken {
                    segment: long(part.number),
                    hash: part.hash.to_vec(),
                    ..before.clone()
                },
            };
            // The responder has carried a compromise on already.
            let spread = self.restoring.as_ref().map(|own| (own.node, self.now));
            apply_page(&mut world, spread, &mut page, &part.message.batch)?;
            world.finish()?;
            let taken = page.taken;
            transaction.set_state(&key, Some(&bytes_of(&taken)?))?;
            Ok(taken)
        })
    }
}

/// The items of one segment, while they are applied.
struct SegmentPage<'a> {
    receiving: &'a Receiving<'a>,
    random: &'a mut dyn Random,
    cx: keyferry_ttlv::Context,
    raised: &'a [Raised],
    taken: Taken,
}

impl ApplyPage for SegmentPage<'_> {
    type Item = RequestItem;
    type Decided = (Effects, Outcome);

    fn decide(
        &mut self,
        snapshot: &dyn Snapshot,
        item: &RequestItem,
    ) -> Result<(Effects, Outcome), Failure> {
        let receiving = self.receiving;
        let mut ask = Ask::new(
            snapshot,
            receiving.caller,
            item.operation,
            receiving.now,
            &mut *self.random,
        )
        .in_context(self.cx);
        if let Some(restoring) = &receiving.restoring
            && let Some(taken) = take_back(restoring, &ask, item, self.raised)
        {
            return taken;
        }
        let answered = receiving
            .responder
            .respond(&mut ask, item)
            .unwrap_or_else(|| {
                Err(Failure::new(
                    Cause::OperationNotSupported,
                    format_args!("the operation {} is not supported", item.operation),
                ))
            })?;
        let outcome = answered_outcome(&answered.response)?;
        Ok((answered.effects, outcome.unwrap_or(Outcome::Created)))
    }

    fn record(
        &mut self,
        _: &dyn Snapshot,
        item: &RequestItem,
        decided: Result<(Effects, Outcome), Failure>,
    ) -> keyferry_s2s::Result<ControlFlow<(), Effects>> {
        let counts = &mut self.taken.counts;
        counts.bytes += long(item.request_payload.bytes().len() as u64);
        let effects = match decided {
            Ok((effects, outcome)) => {
                counts.count(outcome);
                effects
            }
            Err(failure) => {
                counts.count(Outcome::Failed);
                if self.taken.failures.len() < NAMED {
                    self.taken.failures.push(Failed {
                        identifier: identifier(item, self.cx).into(),
                        reason: Some(failure.reason(self.cx.version)),
                        message: failure.to_string().into(),
                    });
                }
                Effects::none()
            }
        };
        Ok(ControlFlow::Continue(effects))
    }
}

impl Failed {
    fn into_failed_object(self) -> FailedObject {
        FailedObject::new(self.identifier.as_str(), self.reason, self.message.as_str())
    }
}

fn another() -> Error {
    Error::new(
        ErrorKind::Chain,
        "a bundle with this manifest was taken before, and went on otherwise",
    )
}

fn identifier(item: &RequestItem, cx: keyferry_ttlv::Context) -> String {
    item.payload::<ImportRequest>(cx)
        .map(|request| request.unique_identifier.to_string())
        .unwrap_or_default()
}
