//! The issuer's side of following: how a replica's question is answered, in five steps.
//!
//! [`follow`] authorises the peer, fences the session off from earlier ones, detects that one of the two stores was put back, has the [page of
//! changes](crate::follow::page) built, and notes what was sent.

mod noted;

use crate::ask::{Answered, Ask, is_of_this_reign};
use crate::compare::table::Told;
use crate::error::{Error, ErrorKind};
use crate::follow::page::{ChangesBuilder, Page, ReadFeed};
use crate::limits::exceeded;
use crate::node::Node;
use crate::planted::planted;
use crate::policy::Peer;
use crate::receive::apply::is_internal;
use crate::receive::returned::wanted_back;
use crate::relation::account::Account;
use crate::relation::alarm::{Alarm, AlarmKind};
use crate::relation::doubtful::Doubtful;
use crate::relation::emergency::EmergencyRevoke;
use crate::relation::followed::{Downstream, Upstream};
use crate::relation::keys::{self, Entry, withheld_prefix};
use crate::relation::mended::{damaged_record, made_anew};
use crate::relation::owed::{check_no_pending_give_back, is_owed, owed};
use crate::relation::receipts::Sender;
use crate::relation::stored::LINKS;
use crate::wire::follow::{Answer, Change, FollowRequest, FollowResponse, KeptPath, check_version};
use crate::wire::place::Place;
use crate::wire::proof::SetProof;
use crate::wire::receipt::ReceiptKey;
use crate::wire::terms::Terms;
use keyferry_kmip::{Cause, Failure, RequestItem, Text};
use keyferry_store::{Effects, Incarnation, SnapshotExt};
use keyferry_ttlv::Extra;
use std::collections::HashSet;

/// A replica's question, while it is answered.
struct Question<'a> {
    node: &'a Node,
    peer: &'a Peer,
    request: FollowRequest,
    /// What makes and checks this server's receipts.
    key: ReceiptKey,
    /// The relation as it is stored; `None` for a new one.
    held: Option<Downstream>,
    /// The relation as it will be stored.
    downstream: Downstream,
    /// Whether another selection is asked for than before, or it is cut down by another agreement.
    selection_changed: bool,
}

/// The page that answers a question.
struct Built {
    changes: Vec<Change>,
    /// The feed number where it ends.
    end: u64,
    /// What was told by all pages together, where this one reaches the head.
    proof: Option<SetProof>,
}

impl Built {
    /// A page that tells of nothing, and ends where it begins.
    fn nothing(from: u64) -> Built {
        Built {
            changes: Vec::new(),
            end: from,
            proof: None,
        }
    }
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
    let mut account = question.account(ask)?;
    question.take_revoked(ask, &mut account, &mut effects)?;
    let Built {
        changes,
        end,
        proof,
    } = match question.new_transport_key(ask)? {
        // The next question is answered under it.
        Some(made) => {
            effects.extend(made);
            Built::nothing(from)
        }
        None => question.build_or_mend(ask, from, &mut account, &mut effects)?,
    };
    let head = Place::from(ask.snapshot.head()?).signed(&question.key);
    let wanted_back = wanted_back(node, ask.snapshot, question.peer, &mut account)?;
    question.note_withheld(ask, &changes, &mut effects)?;
    question.note_sent(ask, end, &head, account, &mut effects)?;
    let end = if planted!(PlaceIsHead) {
        head.number()
    } else {
        end
    };
    let response = FollowResponse {
        behind: Some(i64::try_from(from).unwrap_or(i64::MAX)),
        place: Place::at(ask.snapshot, end)?.signed(&question.key),
        changes,
        check: question.downstream.checks,
        proof,
        terms: match &question.request.terms {
            Some(_) => Some(Terms::of_issuer(question.peer)?),
            None => None,
        },
        time: Some(ask.now.wall),
        wanted_back,
        keeps: question.ways(ask)?,
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
    let most = node.policy.limits.name_bytes;
    if request.relation.len() > most {
        return Err(exceeded("bytes in the name of a relation", most));
    }
    let most = node.policy.limits.named_objects;
    let named = [
        request.again.len(),
        request.done.len(),
        request.held.len(),
        request.raised.len(),
        request.wanted.len(),
    ];
    if named.iter().any(|count| *count > most) {
        return Err(exceeded("objects named in one question", most));
    }
    let held = Downstream::find(ask.snapshot, &peer.server, &request.relation)?;
    if held.is_none() {
        let relations = Downstream::of(ask.snapshot, &peer.server)?;
        let of_peer = relations.iter().filter(|other| other.ended != Some(true));
        let most = node.policy.limits.relations;
        if of_peer.count() >= most {
            return Err(exceeded("relations of one peer", most));
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
        key: ReceiptKey::of(&node.home),
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
        ended: None,
        forked: None,
        retried: None,
        terms_differ: None,
        withheld: None,
        extra: Extra::NONE,
    })
}

impl Question<'_> {
    /// Refuses what is not of the last session in this reign, and takes over what the question says of the relation. Returns what is to be
    /// answered instead of changes, if anything.
    fn fence_session(&mut self, ask: &Ask<'_>) -> Result<Option<Answer>, Failure> {
        if let Some(time) = self.request.time.filter(|_| self.peer.may_confirm_time) {
            self.node.clock.hear(time, ask.now);
        }
        let (request, downstream) = (&self.request, &mut self.downstream);
        // A question from before this start of the server, which may have been put back meanwhile, says nothing.
        if !is_of_this_reign(ask, request.reign.as_deref())? && !planted!(ReignUnasked) {
            return Ok(Some(Answer::STARTED));
        }
        if request.session < downstream.session && !planted!(RevivedSessionAnswered) {
            return Ok(Some(Answer::SUPERSEDED));
        }
        if downstream.ended == Some(true) {
            return Ok(Some(Answer::ENDED));
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
        if let Some(theirs) = &request.terms {
            let differ = Terms::difference(&Terms::of_issuer(self.peer)?, theirs);
            downstream.terms_differ = differ.map(Text::from);
        }
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
        let head = (!planted!(HeadForgotten)).then_some(&self.request.head);
        let mut contradicting = Vec::new();
        for place in [Some(after), head].into_iter().flatten() {
            if !place.is_of(ask.snapshot)? {
                contradicting.push(place);
            }
        }
        let is_known = contradicting.is_empty();
        let told = self.told_before(ask, &contradicting)?;
        let is_owed = is_owed(ask.snapshot, &self.downstream.server)?;
        if (is_owed || !told.is_empty() && !planted!(UntoldUnnoticed)) && self.peer.may_give_back {
            effects.state.extend(ended(&told));
            if !is_owed {
                self.begin_give_back(ask, effects)?;
            }
            return Ok(Start::Instead(Answer::GIVE_BACK));
        }
        if !is_known || self.selection_changed && after.number != 0 {
            if contradicting
                .iter()
                .any(|place| !place.is_genuine(&self.key))
            {
                self.node.refusals.count_unproved();
                let kind = AlarmKind::UNPROVED_PLACE;
                let alarm = Alarm::raise(ask, &self.downstream.server, kind)?;
                effects.state.extend(alarm);
            }
            effects.state.extend(ended(&told));
            (self.downstream.sent, self.downstream.acknowledged) = (0, 0);
            return Ok(Start::Instead(Answer::START_OVER));
        }
        Ok(Start::Behind(after.number()))
    }

    /// Those of the places that contradict this server's history which it has once told, in an incarnation that is not known to have ended: these
    /// show that it has lost something. What others make up, and what was dealt with before, shows nothing ([rule B](crate::design#rule-b)).
    fn told_before<'p>(
        &self,
        ask: &Ask<'_>,
        contradicting: &[&'p Place],
    ) -> Result<Vec<&'p Place>, Failure> {
        let mut told = Vec::new();
        for place in contradicting {
            let ended = ask.snapshot.state_value(&keys::ended(&place.incarnation))?;
            if place.is_genuine(&self.key) && (ended.is_none() || planted!(EndedForgotten)) {
                told.push(*place);
            }
        }
        Ok(told)
    }

    /// Waits from now on for what this server has lost: from the peer, and from all that may give back, where nobody has said that this store is an
    /// older copy.
    fn begin_give_back(&self, ask: &mut Ask<'_>, effects: &mut Effects) -> Result<(), Failure> {
        effects.extend(owed(ask, &self.downstream.server)?);
        if planted!(UntoldUnnoticed) {
            return Ok(());
        }
        let mut incarnation = [0; 16];
        ask.random
            .fill(&mut incarnation)
            .map_err(|e| Failure::new(Cause::Cryptographic, e).caused_by(e))?;
        effects.restored = Some(Incarnation(incarnation));
        let ours = ask.snapshot.incarnation()?;
        effects.state.push((keys::ended(&ours.0), Some(Vec::new())));
        for other in self.node.policy.givers_back(&self.node.home.server) {
            effects.extend(owed(ask, other)?);
        }
        Ok(())
    }

    /// Takes what was revoked at the replica in an emergency, if the peer may revoke, and as far as this server has sent it the objects
    /// ([rule 5](crate::design#rule-5)). The replica goes on telling of it until its copy is Compromised.
    fn take_revoked(
        &self,
        ask: &Ask<'_>,
        account: &mut Account,
        effects: &mut Effects,
    ) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        let may_revoke = self.peer.may_revoke || planted!(AnyPeerRevokes);
        for raised in self.request.raised.iter().filter(|_| may_revoke) {
            let held = ask.snapshot.by_object_id(&raised.id)?;
            let Some((number, held)) = held.filter(|(number, _)| seen.insert(*number)) else {
                continue;
            };
            let is_proved = raised
                .proof
                .as_ref()
                .is_some_and(|proof| self.key.is_claim_genuine(&raised.id, &raised.stamp, proof));
            if held.is_compromised() || !is_proved && !account.has_anyhow(ask.snapshot, number)? {
                continue;
            }
            let emergency = EmergencyRevoke {
                id: raised.id.clone(),
                by: self.downstream.server.clone(),
                at: raised.at.min(ask.now.wall),
                reason: raised.reason.clone(),
                occurrence: raised.occurrence,
                extra: Extra::NONE,
            };
            // What is no compromise, or says what can't be, changes nothing.
            match self.node.take_emergency(ask, (number, held), emergency) {
                Err(failure) if is_internal(&failure) => return Err(failure),
                taken => effects.extend(taken.unwrap_or_default()),
            }
        }
        Ok(())
    }

    /// The effects of making the transport key for the replica; `None` where none is needed, or it is there.
    fn new_transport_key(&self, ask: &mut Ask<'_>) -> Result<Option<Effects>, Failure> {
        let rsa = self.peer.wrapping.as_ref().filter(|under| under.is_rsa());
        let Some(under) = rsa else {
            return Ok(None);
        };
        let (node, now) = (self.node, ask.now.wall);
        let waits = check_no_pending_give_back(ask.snapshot).is_err();
        if waits || node.transport_key(ask.snapshot, under, now)?.is_some() {
            return Ok(None);
        }
        let reign = ask.snapshot.reign()?;
        let made = node.new_transport_key(reign, under, now, &mut *ask.random)?;
        Ok(Some(made))
    }

    fn account(&self, ask: &Ask<'_>) -> Result<Account, Failure> {
        let (server, relation) = (&self.downstream.server, &self.downstream.relation);
        Ok(Account::in_relation(ask.snapshot, server, relation)?)
    }

    /// Builds the page. Where what leads to a record has rotted, it is made anew, and the next question is answered.
    fn build_or_mend(
        &self,
        ask: &mut Ask<'_>,
        from: u64,
        account: &mut Account,
        effects: &mut Effects,
    ) -> Result<Built, Failure> {
        let built = self.build_page(ask, from, account);
        let Err(failure) = built else {
            return built;
        };
        let damaged = damaged_record(&failure);
        let mended = damaged.map(|number| made_anew(ask.snapshot, number));
        let Some(mended) = mended.transpose()?.flatten() else {
            return Err(failure);
        };
        effects.extend(mended);
        // What was to be sent is not.
        *account = self.account(ask)?;
        Ok(Built::nothing(from))
    }

    /// Builds the page: what the replica asks for by name, then the feed behind a number. Also says what was told by all pages together.
    fn build_page(
        &self,
        ask: &mut Ask<'_>,
        from: u64,
        account: &mut Account,
    ) -> Result<Built, Failure> {
        let selection = self.downstream.selection();
        if selection.with_links {
            return Err(Failure::new(Cause::InvalidField, LINKS));
        }
        let chosen = selection
            .choose(ask.snapshot, ask.now.wall)
            .map_err(refuse_selection)?;
        let request = &self.request;
        let sender = Sender::of(&self.node.home);
        let rsa = self.peer.wrapping.as_ref().filter(|under| under.is_rsa());
        let transport = rsa
            .map(|under| self.node.transport_key(ask.snapshot, under, ask.now.wall))
            .transpose()?
            .flatten();
        let mut builder = ChangesBuilder {
            transport,
            node: self.node,
            peer: self.peer,
            without: &self.downstream.without,
            chosen,
            anew: request.anew == Some(true),
            account,
            sender: &sender,
            key: &self.key,
            told: Told::new(),
            read: ReadFeed::default(),
            doubtful: match self.peer.may_follow_copies {
                true => Some(Doubtful::of(ask.snapshot)?),
                false => None,
            },
            listed: (self.downstream.withheld)
                .map(|_| withheld_prefix(&self.downstream.server, &self.downstream.relation)),
        };
        builder.acknowledge_withdrawals(ask, &request.done)?;
        let mut page = Page::new(request.objects, request.bytes);
        builder.add_transport_key(ask, !request.again.is_empty(), &mut page)?;
        for claim in &request.held {
            builder.check_held(ask, claim, &mut page)?;
        }
        let wanted = builder.wanted(ask, &self.downstream, &request.wanted)?;
        for asked in [&request.again, &wanted] {
            builder.repeat(ask, asked, &mut page)?;
        }
        let end = builder.read_feed(ask, from, &mut page)?;
        let reaches_head = end == ask.snapshot.head()?.number;
        let proof = builder.prove(ask, &self.downstream, request, reaches_head)?;
        Ok(Built {
            changes: page.changes,
            end,
            proof,
        })
    }

    /// On which ways this server hears of what others issue, where it passes that on.
    fn ways(&self, ask: &Ask<'_>) -> Result<Vec<KeptPath>, Failure> {
        match self.peer.may_follow_copies {
            true => Ok(Upstream::kept_paths(ask.snapshot, &self.peer.server)?),
            false => Ok(Vec::new()),
        }
    }

    /// An answer without changes.
    fn answer_without_changes(
        &self,
        ask: &Ask<'_>,
        answer: Answer,
        effects: Effects,
    ) -> Result<Answered, Failure> {
        let head = Place::from(ask.snapshot.head()?).signed(&self.key);
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
            behind: None,
            place: Place::default(),
            head,
            changes: Vec::new(),
            terms: None,
            offers: self.downstream.offers,
            check: None,
            time: None,
            keeps: Vec::new(),
            proof: None,
            wanted_back: Vec::new(),
            extra: Extra::NONE,
        }
    }
}

/// What notes that the incarnations of these places of this server's feed have ended, so that they are dealt with once.
fn ended(places: &[&Place]) -> impl Iterator<Item = Entry> {
    let keys: Vec<_> = places
        .iter()
        .map(|place| keys::ended(&place.incarnation))
        .collect();
    keys.into_iter().map(|key| (key, Some(Vec::new())))
}

/// What the peer has selected can't be looked for: that is its fault, and anything else is this server's.
fn refuse_selection(error: Error) -> Failure {
    if error.kind() == ErrorKind::Selection {
        Failure::new(Cause::InvalidField, error)
    } else {
        error.into()
    }
}

#[cfg(test)]
mod tests;
