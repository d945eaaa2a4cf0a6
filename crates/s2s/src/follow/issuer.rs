//! The issuer's side of following: how a replica's question is answered, in five steps.
//!
//! [`follow`] authorises the peer, fences the session off from earlier ones, detects that one of the two stores was put back, has the [page of
//! changes](crate::follow::page) built, and notes what was sent.

use crate::ask::{Answered, Ask, is_of_this_reign};
use crate::error::{Error, ErrorKind};
use crate::follow::page::{ChangesBuilder, PageLimits};
use crate::node::Node;
use crate::planted::planted;
use crate::policy::Peer;
use crate::relation::followed::Downstream;
use crate::relation::offered::OfferedSet;
use crate::relation::owed::{is_owed, owed};
use crate::relation::stored::LINKS;
use crate::wire::follow::{Answer, Change, FollowRequest, FollowResponse, check_version};
use crate::wire::place::Place;
use keyferry_kmip::{Cause, Failure, RequestItem};
use keyferry_store::{Effects, Incarnation, SnapshotExt};
use keyferry_ttlv::Extra;

/// Relations that one peer may have.
const RELATIONS: usize = 32;

/// A replica's question, while it is answered.
struct Question<'a> {
    node: &'a Node,
    peer: &'a Peer,
    request: FollowRequest,
    /// The relation as it is stored; `None` for a new one.
    held: Option<Downstream>,
    /// The relation as it will be stored.
    downstream: Downstream,
    /// Whether another selection is asked for than before, or it is cut down by another agreement.
    selection_changed: bool,
}

/// From where a question is answered.
enum Start {
    /// Behind this number of the feed.
    Behind(u64),
    /// Not at all: this is said instead.
    Instead(Answer),
}

/// Answers a question for what has changed.
pub(crate) fn follow(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let mut question = authorise(node, ask, item)?;
    let mut effects = Effects::none();
    if let Some(instead) = question.fence_session(ask)? {
        return question.answer_without_changes(ask, instead, effects);
    }
    let from = match question.detect_restore(ask, &mut effects)? {
        Start::Behind(number) => number,
        Start::Instead(instead) => {
            effects.state.push(question.downstream.entry()?);
            return question.answer_without_changes(ask, instead, effects);
        }
    };
    let mut offered = OfferedSet::to(&question.downstream.server, &question.downstream.relation);
    let (changes, end) = question.build_page(ask, from, &mut offered)?;
    let head = Place::from(ask.snapshot.head()?);
    question.note_sent(ask, end, &head, offered, &mut effects)?;
    let end = if planted!(PlaceIsHead) {
        head.number()
    } else {
        end
    };
    let response = FollowResponse {
        place: Place::at(ask.snapshot, end)?,
        changes,
        check: question.downstream.checks,
        ..question.response(Answer::CHANGES, ask.snapshot.reign()?, head)
    };
    Ok(Answered::answer(&response, ask.cx)?.with(effects))
}

/// Fails unless the peer may follow, and has no more relations than are allowed.
fn authorise<'a>(
    node: &'a Node,
    ask: &Ask<'_>,
    item: &RequestItem,
) -> Result<Question<'a>, Failure> {
    check_version(ask.cx.version)?;
    let Some(peer) = node.policy.peer(ask.tls).filter(|peer| peer.may_follow) else {
        return Err(Failure::denied(
            "only a peer that may follow is told what changes",
        ));
    };
    let request: FollowRequest = item.payload(ask.cx)?;
    let held = Downstream::find(ask.snapshot, &peer.server, &request.relation)?;
    if held.is_none() {
        let relations = Downstream::all(ask.snapshot)?;
        let of_peer = relations.iter().filter(|other| other.server == peer.server);
        if of_peer.count() >= RELATIONS {
            return Err(Failure::new(
                Cause::ServerLimit,
                "this peer has too many relations: one of them has to be ended first",
            ));
        }
    }
    let downstream = match &held {
        Some(held) => held.clone(),
        None => begin_relation(ask, peer, &request)?,
    };
    Ok(Question {
        node,
        peer,
        request,
        held,
        downstream,
        selection_changed: false,
    })
}

/// A relation that begins with this question.
fn begin_relation(
    ask: &Ask<'_>,
    peer: &Peer,
    request: &FollowRequest,
) -> Result<Downstream, Failure> {
    Ok(Downstream {
        server: peer.server.clone(),
        relation: request.relation.clone(),
        selected: request.selected.clone(),
        without: request.without.clone(),
        agreed: peer.agreed.digest()?,
        session: 0,
        sent: 0,
        acknowledged: 0,
        offers: 0,
        checks: None,
        since: ask.now.wall,
        contact: ask.now.wall,
        paused: None,
        forked: None,
        retried: None,
        extra: Extra::NONE,
    })
}

impl Question<'_> {
    /// Refuses what is not of the last session in this reign, and takes over what the question says of the relation. Returns what is to be
    /// answered instead of changes, if anything.
    fn fence_session(&mut self, ask: &Ask<'_>) -> Result<Option<Answer>, Failure> {
        let (request, downstream) = (&self.request, &mut self.downstream);
        // A question from before this start of the server, which may have been put back meanwhile, says nothing.
        if !is_of_this_reign(ask, request.reign.as_deref())? && !planted!(ReignUnasked) {
            return Ok(Some(Answer::STARTED));
        }
        if request.session < downstream.session && !planted!(RevivedSessionAnswered) {
            return Ok(Some(Answer::SUPERSEDED));
        }
        if downstream.paused == Some(true) {
            return Ok(Some(Answer::PAUSED));
        }
        if request.session > downstream.session && request.after.is_none() {
            return Err(Failure::new(
                Cause::InvalidField,
                "a session begins with the place that was committed",
            ));
        }
        downstream.session = request.session;
        downstream.forked = request.forked.or(downstream.forked);
        downstream.retried = request.retried.or(downstream.retried);
        let agreed = self.peer.agreed.digest()?;
        let changed = downstream.selected != request.selected
            || downstream.without != request.without
            || downstream.agreed != agreed;
        self.selection_changed = changed && !planted!(SelectionChangeUnnoticed);
        if self.selection_changed {
            downstream.selected = request.selected.clone();
            downstream.without = request.without.clone();
            downstream.agreed = agreed;
        }
        Ok(None)
    }

    /// Finds out from where the question is answered: behind the place that the replica has committed, unless that place says that one of the two
    /// stores is a copy of an older moment.
    fn detect_restore(
        &mut self,
        ask: &mut Ask<'_>,
        effects: &mut Effects,
    ) -> Result<Start, Failure> {
        let Some(after) = &self.request.after else {
            let sent = u64::try_from(self.downstream.sent).unwrap_or(0);
            return Ok(Start::Behind(sent));
        };
        // The head that the replica was told counts, too: an entry that had moved up behind its place when it was there has not, in a store that
        // was restored to a moment before.
        let is_known = after.is_of(ask.snapshot)?
            && (planted!(HeadForgotten) || self.request.head.is_of(ask.snapshot)?);
        let is_owed = is_owed(ask.snapshot, &self.downstream.server)?;
        if (is_owed || !is_known && !planted!(UntoldUnnoticed)) && self.peer.may_give_back {
            if !is_owed {
                self.begin_give_back(ask, effects)?;
            }
            return Ok(Start::Instead(Answer::GIVE_BACK));
        }
        if !is_known || self.selection_changed && after.number != 0 {
            (self.downstream.sent, self.downstream.acknowledged) = (0, 0);
            return Ok(Start::Instead(Answer::START_OVER));
        }
        Ok(Start::Behind(after.number()))
    }

    /// Waits from now on for what this server has lost: from the peer, and from the others, too, where nobody has said that this store is an
    /// older copy.
    fn begin_give_back(&self, ask: &mut Ask<'_>, effects: &mut Effects) -> Result<(), Failure> {
        let ours = ask.snapshot.incarnation()?;
        effects.extend(owed(ask, &self.downstream.server)?);
        if self.request.head.incarnation != ours.0 || planted!(UntoldUnnoticed) {
            return Ok(());
        }
        let mut incarnation = [0; 16];
        ask.random
            .fill(&mut incarnation)
            .map_err(|e| Failure::new(Cause::Cryptographic, e).caused_by(e))?;
        effects.restored = Some(Incarnation(incarnation));
        for other in Downstream::all(ask.snapshot)? {
            if self.node.policy.gives_back(&other.server) {
                effects.extend(owed(ask, &other.server)?);
            }
        }
        Ok(())
    }

    /// Builds the page: what the replica asks for by name, then the feed behind a number. Returns where the page ends, too.
    fn build_page(
        &self,
        ask: &mut Ask<'_>,
        from: u64,
        offered: &mut OfferedSet,
    ) -> Result<(Vec<Change>, u64), Failure> {
        let selection = self.downstream.selection();
        if selection.with_links {
            return Err(Failure::new(Cause::InvalidField, LINKS));
        }
        let chosen = selection
            .choose(ask.snapshot, ask.now.wall)
            .map_err(refuse_selection)?;
        let request = &self.request;
        let mut builder = ChangesBuilder {
            node: self.node,
            peer: self.peer,
            without: &self.downstream.without,
            chosen,
            anew: request.anew == Some(true),
            offered,
        };
        builder.acknowledge_withdrawals(ask, &request.done)?;
        let mut changes = Vec::new();
        for id in &request.again {
            changes.push(builder.repeat(ask, id)?);
        }
        for id in &request.held {
            changes.extend(builder.check_held(ask, id)?);
        }
        let limits = PageLimits::new(request.objects, request.bytes);
        let end = builder.read_feed(ask, from, limits, &mut changes)?;
        Ok((changes, end))
    }

    /// Notes in the relation what was sent and acknowledged. What only says when the replica was heard last is written once a second.
    fn note_sent(
        &mut self,
        ask: &Ask<'_>,
        end: u64,
        head: &Place,
        offered: OfferedSet,
        effects: &mut Effects,
    ) -> Result<(), Failure> {
        let (request, downstream) = (&self.request, &mut self.downstream);
        let pages = offered.changed();
        let is_another_second = ask.now.wall != downstream.contact;
        if request.checking == Some(true) || planted!(ChecksNeverAsked) {
            downstream.checks = None;
        } else if request.after.as_ref().is_some_and(|after| {
            after.number < downstream.acknowledged || request.offers != downstream.offers
        }) {
            downstream.checks = Some(true);
        }
        downstream.offers = downstream.offers.max(request.offers) + i64::from(!pages.is_empty());
        if let Some(after) = &request.after {
            downstream.acknowledged = after.number;
        }
        downstream.contact = ask.now.wall;
        downstream.sent = i64::try_from(end).unwrap_or(i64::MAX);
        let differs = |what: fn(&Downstream, &Downstream) -> bool| {
            self.held.as_ref().is_none_or(|held| what(held, downstream))
        };
        let is_new = self.selection_changed
            || differs(|held, now| held.session != now.session)
            || differs(|held, now| (held.checks, held.offers) != (now.checks, now.offers));
        // A question that goes on behind this answer has to know where it ended.
        let goes_on = request.more == Some(true) || end < head.number() || request.after.is_none();
        let has_advanced = differs(|held, now| held.acknowledged != now.acknowledged);
        if is_new || goes_on || !pages.is_empty() || is_another_second && has_advanced {
            let pages = pages.into_iter().filter(|_| !planted!(OfferedNotStored));
            effects.state.extend(pages);
            effects.state.push(downstream.entry()?);
        }
        Ok(())
    }

    /// An answer without changes.
    fn answer_without_changes(
        &self,
        ask: &Ask<'_>,
        answer: Answer,
        effects: Effects,
    ) -> Result<Answered, Failure> {
        let head = Place::from(ask.snapshot.head()?);
        // With what this changes, another reign begins.
        let reign = effects.restored.map_or_else(|| ask.snapshot.reign(), Ok)?;
        let response = self.response(answer, reign, head);
        Ok(Answered::answer(&response, ask.cx)?.with(effects))
    }

    fn response(&self, answer: Answer, reign: Incarnation, head: Place) -> FollowResponse {
        FollowResponse {
            answer,
            server: self.node.home.server.clone(),
            instance: self.node.home.instance.clone(),
            reign: reign.0.to_vec(),
            session: self.downstream.session,
            place: Place::default(),
            head,
            changes: Vec::new(),
            offers: self.downstream.offers,
            check: None,
            extra: Extra::NONE,
        }
    }
}

/// What the peer has selected can't be looked for: that is its fault, and anything else is this server's.
fn refuse_selection(error: Error) -> Failure {
    if error.kind() == ErrorKind::Selection {
        Failure::new(Cause::InvalidField, error)
    } else {
        error.into()
    }
}
