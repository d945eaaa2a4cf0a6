//! What a following session asks: how it begins, and the requests that it sends.

use crate::error::{Error, ErrorKind, Result};
use crate::feed::entries;
use crate::follow::compare::Searched;
use crate::follow::{Asked, Checked, Follow, InFlight, Reached, put_upstream};
use crate::planted::planted;
use crate::receive::fork::Fork;
use crate::relation::emergency::EmergencyRevoke;
use crate::relation::followed::Upstream;
use crate::relation::kept::KeptCopies;
use crate::relation::keys::{EMERGENCY_REVOKE, done_prefix, retry_prefix};
use crate::relation::receipts::Receipts;
use crate::relation::retry::{Retry, objects_missing_at_issuer};
use crate::relation::rotten::readable;
use crate::report::Counts;
use crate::session::{SessionContext, Step};
use crate::wire::follow::{Done, FollowRequest, HeldCopy, RaisedCopy, SPOKEN};
use crate::wire::terms::Terms;
use keyferry_kmip::{DateTime, Payload, RequestItem, RequestMessage, Ticket, context};
use keyferry_store::record::read;
use keyferry_store::{ObjectId, Record, RecordNumber, Snapshot, SnapshotExt, Span, StoreExt};
use keyferry_ttlv::Extra;
use std::ops::ControlFlow;

/// Objects that one question asks for again, and withdrawals that it acknowledges, at the most.
const AT_ONCE: usize = 100;

/// Copies that one question checks, at the most.
const CHECKED: usize = 1000;

/// Milliseconds after which the issuer is asked again for what was missing there: a relay may have got it meanwhile.
const MISSING_EVERY: u64 = 3_600_000;

/// What a question that waits for its answer says beside the place in the feed.
#[derive(Default)]
struct Errands {
    /// Objects that could not be taken, and are due to be asked for again.
    again: Vec<ObjectId>,
    /// Withdrawals that were done here.
    withdrawn: Vec<Done>,
    /// The state keys under which these are kept.
    keys: Vec<Vec<u8>>,
    /// What was revoked here in an emergency, and the issuer does not tell as Compromised.
    raised: Vec<RaisedCopy>,
    /// How many forks there are here.
    forked: i64,
}

impl Follow {
    /// Begins a session, under a number that is above all earlier ones and `above`, so that none of them goes on.
    pub(super) fn begin(&mut self, cx: &SessionContext<'_>, above: i64) -> Result<()> {
        let (relation, server) = (&self.options.relation, &self.options.from.server);
        let refused = |why: std::fmt::Arguments<'_>| Error::new(ErrorKind::Relation, why);
        let upstream = cx.store.transact(|transaction| {
            let Some(mut upstream) = Upstream::find(transaction, relation)? else {
                return Err(refused(format_args!("there is no relation {relation:?}")));
            };
            if upstream.server != *server {
                return Err(refused(format_args!(
                    "the relation {relation:?} is with the server {:?}",
                    upstream.server
                )));
            }
            if upstream.paused == Some(true) {
                return Err(refused(format_args!("the relation {relation:?} is paused")));
            }
            let last = upstream.session.max(above);
            upstream.session = last.checked_add(1).ok_or_else(|| {
                Error::new(
                    ErrorKind::Protocol,
                    "the server names a session that none can follow",
                )
            })?;
            let trust = self.options.from.trust().map_err(Error::encode)?;
            if upstream.trust.as_ref().is_some_and(|known| *known != trust) {
                upstream.read_anew();
            }
            upstream.trust = Some(trust);
            if upstream.account.is_none() {
                upstream.read_anew();
                upstream.account = Some(0);
            }
            if upstream.counts.finished || upstream.counts.session == 0 {
                upstream.counts = Counts {
                    session: upstream.counts.session + 1,
                    incarnation: transaction.incarnation()?.0.to_vec(),
                    ..Counts::default()
                };
            }
            put_upstream(transaction, &upstream)?;
            Ok(upstream)
        })?;
        self.meter.start(cx.now.tick, &upstream.counts);
        self.upstream = Some(upstream);
        self.reached = Reached::Unknown;
        Ok(())
    }

    /// Asks for what stands behind the committed place, while nothing is under way.
    pub(super) fn ask(&mut self, cx: &SessionContext<'_>, ticket: Ticket) -> Result<Step> {
        let (held, checked) = self.copies_to_check(cx)?;
        if self.reached == Reached::Part {
            self.reached = Reached::Head;
        }
        let Some(upstream) = self.upstream.clone() else {
            return Ok(Step::Wait(None));
        };
        let upstream = &upstream;
        let (mut errands, told) = cx.store.view(|snapshot| {
            let errands = errands(snapshot, upstream, cx.now.wall)?;
            Ok::<_, Error>((
                errands,
                raised_copies(snapshot, upstream, &self.told_raised)?,
            ))
        })?;
        (errands.raised, self.told_raised) = told;
        let tells = self.options.tells;
        let request = FollowRequest {
            after: Some(upstream.cursor.clone()),
            again: errands.again,
            done: errands.withdrawn,
            terms: tells
                .then(|| Terms::of_replica(&self.options.from))
                .transpose()?,
            held,
            raised: errands.raised,
            time: Some(cx.now.wall),
            forked: tells.then_some(errands.forked),
            retried: tells.then_some(upstream.retried),
            ..self.request(upstream)
        };
        // A question that checks copies is full of them.
        let searched = if request.held.is_empty() {
            let comparison = &mut self.comparison;
            cx.store
                .view(|snapshot| comparison.ask(snapshot, upstream))?
        } else {
            Searched::default()
        };
        let searches = searched.is_about_objects();
        let request = searched.add_to(request);
        let asked = Asked {
            searches,
            acknowledged: errands.keys,
            again: request.again.clone(),
            checked,
        };
        self.in_flight.push_back((ticket, InFlight::Changes(asked)));
        send(&request)
    }

    /// Asks for the next page while others are under way: the issuer goes on where its last answer ended.
    pub(super) fn ask_ahead(&mut self, ticket: Ticket) -> Result<Step> {
        let Some(upstream) = &self.upstream else {
            return Ok(Step::Wait(None));
        };
        let request = self.request(upstream);
        self.in_flight.push_back((
            ticket,
            InFlight::Changes(Asked {
                acknowledged: Vec::new(),
                again: Vec::new(),
                searches: false,
                checked: Checked::NoFurther,
            }),
        ));
        send(&request)
    }

    /// Sends the next part of what is given back to the issuer.
    pub(super) fn give_back(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
    ) -> Result<Step> {
        let (Some(pass), Some(upstream)) = (&mut self.giving_back, &self.upstream) else {
            return Ok(Step::Wait(None));
        };
        let request = pass.next(cx, &self.node, upstream, &self.options)?;
        let (last, mends) = (request.last, request.mends == Some(true));
        self.in_flight
            .push_back((ticket, InFlight::GiveBack { last, mends }));
        send(&request)
    }

    /// A question that asks for the next page and nothing else.
    pub(super) fn request(&self, upstream: &Upstream) -> FollowRequest {
        FollowRequest {
            relation: upstream.relation.clone(),
            session: upstream.session,
            reign: self.reign(upstream).cloned(),
            after: None,
            head: upstream.head.clone(),
            selected: upstream.selected.clone(),
            without: upstream.without.clone(),
            anew: upstream.anew,
            again: Vec::new(),
            done: Vec::new(),
            terms: None,
            offers: upstream.offers,
            checking: upstream.checking.is_some().then_some(true),
            held: Vec::new(),
            wanted: Vec::new(),
            cells: None,
            cells_from: None,
            raised: Vec::new(),
            time: None,
            more: self.asks_ahead.then_some(true),
            objects: i32::try_from(self.options.batch).unwrap_or(i32::MAX),
            bytes: i32::try_from(self.options.batch_bytes).unwrap_or(i32::MAX),
            forked: None,
            retried: None,
            extra: Extra::NONE,
        }
    }

    /// The reign under which the issuer is asked: the last one that it told.
    pub(super) fn reign<'a>(&'a self, upstream: &'a Upstream) -> Option<&'a Vec<u8>> {
        self.told_reign.as_ref().or(upstream.reign.as_ref())
    }

    /// The copies that the question asks the issuer to check, and how far all are checked with it: the own ones one after the other while that
    /// is wanted, else from time to time those that were missing there.
    fn copies_to_check(&mut self, cx: &SessionContext<'_>) -> Result<(Vec<HeldCopy>, Checked)> {
        let Some(upstream) = &self.upstream else {
            return Ok((Vec::new(), Checked::NoFurther));
        };
        match upstream.checking {
            Some(after) if self.reached != Reached::Unknown && !planted!(NothingChecked) => cx
                .store
                .view(|snapshot| own_copies(snapshot, upstream, after)),
            None if self
                .asked_for_missing
                .is_none_or(|last| cx.now.tick.0.saturating_sub(last.0) >= MISSING_EVERY) =>
            {
                self.asked_for_missing = Some(cx.now.tick);
                let missing = cx
                    .store
                    .view(|snapshot| missing_copies(snapshot, upstream))?;
                Ok((missing, Checked::NoFurther))
            }
            _ => Ok((Vec::new(), Checked::NoFurther)),
        }
    }
}

/// What is due to be asked for again, and the withdrawals that the issuer was not told of yet.
fn errands(snapshot: &dyn Snapshot, upstream: &Upstream, now: DateTime) -> Result<Errands> {
    let relation = &upstream.relation;
    let mut errands = Errands::default();
    let go_on = |found: usize| {
        if found < AT_ONCE {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    if upstream.retried > 0 {
        snapshot.state(&Span::prefix(&retry_prefix(relation)), &mut |_, value| {
            let retry: Retry = read(value, "object to retry")?;
            if retry.due <= now {
                errands.again.push(retry.id);
            }
            Ok(go_on(errands.again.len()))
        })?;
    }
    snapshot.state(&Span::prefix(&done_prefix(relation)), &mut |key, value| {
        errands.withdrawn.push(read(value, "withdrawal")?);
        errands.keys.push(key.to_vec());
        Ok(go_on(errands.withdrawn.len()))
    })?;
    errands.forked = Fork::count(snapshot)?;
    Ok(errands)
}

/// What was revoked here in an emergency of what comes by way of a relation, behind the object that was told of last; and the object from which the
/// next question goes on. They are told again and again, some at a time, until the issuer has taken them.
fn raised_copies(
    snapshot: &dyn Snapshot,
    upstream: &Upstream,
    after: &[u8],
) -> Result<(Vec<RaisedCopy>, Vec<u8>)> {
    let mut raised = Vec::new();
    let mut span = Span::prefix(EMERGENCY_REVOKE);
    let last = [after, &[0]].concat();
    span.from = span.from.max(last);
    let mut all: Vec<(Vec<u8>, EmergencyRevoke)> = Vec::new();
    snapshot.state(&span, &mut |key, value| {
        all.push((key.to_vec(), read(value, "emergency Revoke")?));
        Ok(if all.len() < CHECKED {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    let is_all = all.len() < CHECKED;
    let mut kept = KeptCopies::by(snapshot, &upstream.server)?;
    for (key, emergency) in all {
        let Some((number, record)) = snapshot.by_object_id(&emergency.id)? else {
            continue;
        };
        if !is_from(snapshot, (number, &record), (upstream, &mut kept))? {
            continue;
        }
        let receipt = Receipts::of(snapshot, &record, &upstream.server)?;
        raised.push(RaisedCopy {
            id: record.id,
            stamp: record.stamp,
            proof: receipt.map(|receipt| receipt.proof),
            at: emergency.at,
            reason: emergency.reason,
            occurrence: emergency.occurrence,
            extra: Extra::NONE,
        });
        if raised.len() >= AT_ONCE {
            return Ok((raised, key));
        }
        span.from = key;
    }
    Ok((raised, if is_all { Vec::new() } else { span.from }))
}

/// Whether the server that is followed issues the object, or a relation with it brings the copy, or has brought it.
fn is_from(
    snapshot: &dyn Snapshot,
    (number, record): (RecordNumber, &Record),
    (upstream, kept): (&Upstream, &mut [KeptCopies]),
) -> Result<bool> {
    if record.stamp.issuer == upstream.server {
        return Ok(true);
    }
    for copies in kept {
        if copies.has(snapshot, number)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The copies behind a number of the own feed that relations with the server bring or have brought, or that it issues, and how far they go.
fn own_copies(
    snapshot: &dyn Snapshot,
    upstream: &Upstream,
    after: i64,
) -> Result<(Vec<HeldCopy>, Checked)> {
    let (mut found, mut end) = (Vec::new(), u64::try_from(after).unwrap_or(0));
    let mut kept = KeptCopies::by(snapshot, &upstream.server)?;
    loop {
        let entries = entries(snapshot, end, CHECKED)?;
        if entries.is_empty() {
            return Ok((found, Checked::All));
        }
        for (place, number) in entries {
            end = place;
            let Some(record) = readable(snapshot.record(number))?.flatten() else {
                continue;
            };
            // A server tells of its own objects whatever way their copies came.
            let is_from = is_from(snapshot, (number, &record), (upstream, &mut kept))?;
            if is_from && !record.is_withdrawn() {
                found.push(Receipts::claim(snapshot, &upstream.server, record)?);
            }
            if found.len() >= CHECKED {
                let end = i64::try_from(end).unwrap_or(i64::MAX);
                return Ok((found, Checked::UpTo(end)));
            }
        }
    }
}

/// The copies that were missing at the issuer, as far as they are held still.
fn missing_copies(snapshot: &dyn Snapshot, upstream: &Upstream) -> Result<Vec<HeldCopy>> {
    let missing = objects_missing_at_issuer(snapshot, &upstream.relation)?;
    let mut copies = Vec::new();
    for id in missing.iter().take(CHECKED) {
        if let Some((_, record)) = snapshot.by_object_id(id)? {
            copies.push(Receipts::claim(snapshot, &upstream.server, record)?);
        }
    }
    Ok(copies)
}

fn send<P: Payload>(payload: &P) -> Result<Step> {
    let item = RequestItem::new(payload, context(SPOKEN)).map_err(Error::encode)?;
    Ok(Step::Send(Box::new(RequestMessage::new(
        SPOKEN,
        vec![item],
    ))))
}
