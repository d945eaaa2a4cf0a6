//! The issuer's side: what a replica is answered.

use crate::ask::{Answered, Ask, is_of_this_reign};
use crate::material::transit::reason_withheld;
use crate::node::Node;
use crate::planted::planted;
use crate::policy::Peer;
use crate::relation::followed::Downstream;
use crate::relation::offered::OfferedSet;
use crate::relation::owed::{is_owed, owed};
use crate::wire::copy::Copy;
use crate::wire::follow::{
    Answer, Change, Done, FollowRequest, FollowResponse, Kind, check_version,
};
use crate::wire::place::Place;
use keyferry_kmip::spec::tag;
use keyferry_kmip::{
    AttributeReference, Attributes, Cause, Failure, Object, RequestItem, Secret, Text,
};
use keyferry_store::record::material_of;
use keyferry_store::{Effects, Incarnation, Record, RecordNumber, SnapshotExt};
use keyferry_ttlv::Extra;
use std::ops::ControlFlow;

/// Objects in an answer at the most, and bytes of them, about.
const OBJECTS: usize = 1000;

const BYTES: usize = 640 * 1024;

/// Feed entries that are looked at for an answer, for each object that it may have.
const LOOKED_AT: usize = 16;

/// Relations that one peer may have.
const RELATIONS: usize = 32;

/// What a relation lets through, for one answer.
struct Terms<'a> {
    node: &'a Node,
    peer: &'a Peer,
    slave: &'a Downstream,
    selection: crate::selection::ChosenObjects,
    anew: bool,
}

/// How an object goes.
enum Goes {
    /// As a copy: with material or without.
    Copy {
        with_material: bool,
    },
    Withdrawn,
    Not,
}

pub(crate) fn follow(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    check_version(ask.cx.version)?;
    let Some(peer) = node.policy.peer(ask.tls).filter(|peer| peer.may_follow) else {
        return Err(Failure::denied(
            "only a peer that may follow is told what changes",
        ));
    };
    let request: FollowRequest = item.payload(ask.cx)?;
    let held = Downstream::find(ask.snapshot, &peer.server, &request.relation)?;
    if held.is_none() {
        let others = Downstream::all(ask.snapshot)?;
        if others
            .iter()
            .filter(|other| other.server == peer.server)
            .count()
            >= RELATIONS
        {
            return Err(Failure::new(
                Cause::ServerLimit,
                "this peer has too many relations: one of them has to be ended first",
            ));
        }
    }
    let agreed = peer.agreed.digest()?;
    let mut slave = held.clone().unwrap_or_else(|| Downstream {
        server: peer.server.clone(),
        relation: request.relation.clone(),
        selected: request.selected.clone(),
        without: request.without.clone(),
        agreed: agreed.clone(),
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
    });
    let mut effects = Effects::none();
    // A question from before this start of the server, which may have been put back meanwhile, says nothing.
    if !is_of_this_reign(ask, request.reign.as_deref())? && !planted!(ReignUnasked) {
        return answer(node, ask, &slave, Answer::STARTED, effects);
    }
    if request.session < slave.session && !planted!(RevivedSessionAnswered) {
        return answer(node, ask, &slave, Answer::SUPERSEDED, effects);
    }
    if slave.paused == Some(true) {
        return answer(node, ask, &slave, Answer::PAUSED, effects);
    }
    if request.session > slave.session && request.after.is_none() {
        return Err(Failure::new(
            Cause::InvalidField,
            "a session begins with the place that was committed",
        ));
    }
    slave.session = request.session;
    slave.forked = request.forked.or(slave.forked);
    slave.retried = request.retried.or(slave.retried);
    let another = slave.selected != request.selected
        || slave.without != request.without
        || slave.agreed != agreed;
    let another = another && !planted!(SelectionChangeUnnoticed);
    if another {
        slave.selected = request.selected.clone();
        slave.without = request.without.clone();
        slave.agreed = agreed;
    }
    let from = match &request.after {
        None => u64::try_from(slave.sent).unwrap_or(0),
        Some(after) => {
            // The head that it was told counts, too: an entry that had moved up behind its place when it was there has not, in a store that
            // was restored to a moment before.
            let known = after.is_of(ask.snapshot)?
                && (planted!(HeadForgotten) || request.head.is_of(ask.snapshot)?);
            let owes = is_owed(ask.snapshot, &slave.server)?;
            if (owes || !known && !planted!(UntoldUnnoticed)) && peer.may_give_back {
                if !owes {
                    let ours = ask.snapshot.incarnation()?;
                    effects.extend(owed(ask, &slave.server)?);
                    if request.head.incarnation == ours.0 && !planted!(UntoldUnnoticed) {
                        // Nobody has said that this store is an older copy: the others know things, too.
                        let mut incarnation = [0; 16];
                        ask.random
                            .fill(&mut incarnation)
                            .map_err(|e| Failure::new(Cause::Cryptographic, e))?;
                        effects.restored = Some(Incarnation(incarnation));
                        let others = Downstream::all(ask.snapshot)?;
                        for other in others
                            .iter()
                            .filter(|other| node.policy.gives_back(&other.server))
                        {
                            effects.extend(owed(ask, &other.server)?);
                        }
                    }
                }
                effects.state.push(slave.entry()?);
                return answer(node, ask, &slave, Answer::GIVE_BACK, effects);
            }
            if !known || another && after.number != 0 {
                (slave.sent, slave.acknowledged) = (0, 0);
                effects.state.push(slave.entry()?);
                return answer(node, ask, &slave, Answer::START_OVER, effects);
            }
            after.number()
        }
    };
    if slave.selection().with_links {
        return Err(Failure::new(
            Cause::InvalidField,
            crate::relation::stored::LINKS,
        ));
    }
    let selection = slave
        .selection()
        .choose(ask.snapshot, ask.now.wall)
        .map_err(refused)?;
    let terms = Terms {
        node,
        peer,
        slave: &slave,
        selection,
        anew: request.anew == Some(true),
    };
    let mut offered = OfferedSet::to(&slave.server, &slave.relation);
    terms.done(ask, &request.done, &mut offered)?;
    let mut changes = Vec::new();
    for id in &request.again {
        changes.push(terms.again(ask, id, &mut offered)?);
    }
    for id in &request.held {
        changes.extend(terms.check(ask, id, &mut offered)?);
    }
    let most = usize::try_from(request.objects)
        .unwrap_or(0)
        .clamp(1, OBJECTS);
    let bytes = usize::try_from(request.bytes).unwrap_or(0).clamp(1, BYTES);
    let end = terms.stretch(ask, from, (most, bytes), &mut offered, &mut changes)?;
    let head = Place::from(ask.snapshot.head()?);
    let pages = offered.changed();
    let heard = ask.now.wall != slave.contact;
    if request.checking == Some(true) || planted!(ChecksNeverAsked) {
        slave.checks = None;
    } else if request
        .after
        .as_ref()
        .is_some_and(|after| after.number < slave.acknowledged || request.offers != slave.offers)
    {
        slave.checks = Some(true);
    }
    slave.offers = slave.offers.max(request.offers) + i64::from(!pages.is_empty());
    if let Some(after) = &request.after {
        slave.acknowledged = after.number;
    }
    slave.contact = ask.now.wall;
    slave.sent = i64::try_from(end).unwrap_or(i64::MAX);
    let is_new = held
        .as_ref()
        .is_none_or(|held| held.session != slave.session || another);
    // What goes on behind this answer has to know where it ended; the rest is noted once a second.
    let noted = held
        .as_ref()
        .is_none_or(|held| held.acknowledged != slave.acknowledged);
    let is_new = is_new
        || held
            .as_ref()
            .is_none_or(|held| (held.checks, held.offers) != (slave.checks, slave.offers));
    if is_new
        || request.more == Some(true)
        || end < head.number()
        || request.after.is_none()
        || !pages.is_empty()
        || heard && noted
    {
        effects
            .state
            .extend(pages.into_iter().filter(|_| !planted!(OfferedNotStored)));
        effects.state.push(slave.entry()?);
    }
    let end = if planted!(PlaceIsHead) {
        head.number()
    } else {
        end
    };
    let place = Place::at(ask.snapshot, end)?;
    let response = FollowResponse {
        answer: Answer::CHANGES,
        server: node.home.server.clone(),
        instance: node.home.instance.clone(),
        reign: ask.snapshot.reign()?.0.to_vec(),
        session: slave.session,
        place,
        head,
        changes,
        offers: slave.offers,
        check: slave.checks,
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?.with(effects))
}

/// What the peer has selected can't be looked for.
fn refused(error: crate::error::Error) -> Failure {
    if error.kind() == crate::error::ErrorKind::Selection {
        Failure::new(Cause::InvalidField, error)
    } else {
        error.into()
    }
}

/// An answer without changes.
fn answer(
    node: &Node,
    ask: &Ask<'_>,
    slave: &Downstream,
    kind: Answer,
    effects: Effects,
) -> Result<Answered, Failure> {
    let head = Place::from(ask.snapshot.head()?);
    // With what this changes, another one begins.
    let reign = effects.restored.map_or_else(|| ask.snapshot.reign(), Ok)?;
    let response = FollowResponse {
        answer: kind,
        server: node.home.server.clone(),
        instance: node.home.instance.clone(),
        reign: reign.0.to_vec(),
        session: slave.session,
        place: Place::default(),
        head,
        changes: Vec::new(),
        offers: slave.offers,
        check: None,
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?.with(effects))
}

impl Terms<'_> {
    /// Whether the object is one that the relation is about.
    fn has(&self, ask: &Ask<'_>, number: RecordNumber, record: &Record) -> Result<bool, Failure> {
        let theirs =
            record.stamp.issuer == self.peer.server || record.id.server == self.peer.server;
        let ours = self.node.issues(record) || self.peer.may_follow_copies;
        Ok(!theirs
            && ours
            && !record.is_withdrawn()
            && self.selection.has(number, record)
            && self.peer.has_agreed(record, ask.now.wall)?)
    }

    fn goes(
        &self,
        ask: &Ask<'_>,
        number: RecordNumber,
        record: &Record,
        offered: &mut OfferedSet,
    ) -> Result<Goes, Failure> {
        let was_offered = offered.has(ask.snapshot, number)?;
        Ok(match (self.has(ask, number, record)?, was_offered) {
            // A tombstone goes where the object was offered.
            (true, false) if record.is_destroyed() && !planted!(TombstoneEverywhere) => Goes::Not,
            (true, true) if record.is_destroyed() && planted!(TombstoneSkipped) => Goes::Not,
            (false, true) if planted!(NotWithdrawn) => Goes::Not,
            (true, _) => Goes::Copy {
                with_material: (self.anew || !was_offered) && !record.is_destroyed(),
            },
            (false, true) if !record.is_withdrawn() => Goes::Withdrawn,
            (false, _) => Goes::Not,
        })
    }

    /// Takes the bits from what was withdrawn, unless it has changed since.
    fn done(&self, ask: &Ask<'_>, done: &[Done], offered: &mut OfferedSet) -> Result<(), Failure> {
        for Done { id, stamp, .. } in done {
            let held = ask.snapshot.by_object_id(id)?;
            if let Some((number, record)) = held
                && (planted!(AckTakenBlindly)
                    || record.stamp == *stamp && !self.has(ask, number, &record)?)
            {
                offered.set(ask.snapshot, number, false)?;
            }
        }
        Ok(())
    }

    /// An object that is asked for again, with its material.
    fn again(
        &self,
        ask: &mut Ask<'_>,
        id: &keyferry_store::ObjectId,
        offered: &mut OfferedSet,
    ) -> Result<Change, Failure> {
        let Some((number, record)) = ask.snapshot.by_object_id(id)? else {
            return Ok(gone(id));
        };
        match self.goes(ask, number, &record, offered)? {
            Goes::Copy { .. } => {
                let with_material = !record.is_destroyed() && !planted!(AgainWithoutMaterial);
                self.copy(ask, number, record, with_material, offered)
                    .map(|(change, _)| change)
            }
            Goes::Withdrawn => self.withdrawal(record),
            Goes::Not => Ok(gone(id)),
        }
    }

    /// What is to be told of a copy that the replica says it holds: nothing, when it may and the feed tells of it. That it holds it is as good as
    /// its having been offered.
    fn check(
        &self,
        ask: &mut Ask<'_>,
        id: &keyferry_store::ObjectId,
        offered: &mut OfferedSet,
    ) -> Result<Option<Change>, Failure> {
        let Some((number, record)) = ask.snapshot.by_object_id(id)? else {
            return Ok(Some(gone(id)));
        };
        let has = self.has(ask, number, &record)?;
        offered.set(ask.snapshot, number, true)?;
        if record.is_withdrawn() {
            return Ok(None);
        }
        match has {
            // Its entry may lie behind already, and an answer that told it may have been lost.
            true if record.is_destroyed() => self
                .copy(ask, number, record, false, offered)
                .map(|(change, _)| Some(change)),
            true => Ok(None),
            false => self.withdrawal(record).map(Some),
        }
    }

    /// Reads the feed behind `from`, as much as an answer takes, and says where it ended.
    fn stretch(
        &self,
        ask: &mut Ask<'_>,
        from: u64,
        (most, bytes): (usize, usize),
        offered: &mut OfferedSet,
        changes: &mut Vec<Change>,
    ) -> Result<u64, Failure> {
        let (mut end, mut size, mut looked_at) = (from, 0, 0);
        loop {
            let mut numbers = Vec::new();
            ask.snapshot.feed(end, &mut |row| {
                numbers.push((row.number, row.record));
                Ok(if numbers.len() < most {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })?;
            if numbers.is_empty() {
                return Ok(end);
            }
            for (place, number) in numbers {
                let record = ask.snapshot.record(number)?.ok_or_else(|| {
                    Failure::new(
                        Cause::Internal,
                        "the feed names an object that the store does not hold",
                    )
                })?;
                end = place;
                looked_at += 1;
                match self.goes(ask, number, &record, offered)? {
                    Goes::Copy { with_material } => {
                        let (change, bytes) =
                            self.copy(ask, number, record, with_material, offered)?;
                        changes.push(change);
                        size += bytes;
                    }
                    Goes::Withdrawn => {
                        changes.push(self.withdrawal(record)?);
                        size += 400;
                    }
                    Goes::Not => {}
                }
                if size >= bytes || changes.len() >= most || looked_at >= LOOKED_AT * most {
                    return Ok(end);
                }
            }
        }
    }

    /// The copy of an object, which counts as offered from now on, and about how many bytes it takes.
    fn copy(
        &self,
        ask: &mut Ask<'_>,
        number: RecordNumber,
        mut record: Record,
        with_material: bool,
        offered: &mut OfferedSet,
    ) -> Result<(Change, usize), Failure> {
        let wrapping = self.peer.wrapping.as_ref();
        if let Some(why) =
            reason_withheld(&record, wrapping.is_some()).filter(|_| !record.is_destroyed())
        {
            return Ok((self.held_back(record, why.into())?, 400));
        }
        let mut object = None;
        if with_material {
            object = ask.snapshot.whole(number)?.and_then(|(_, object)| object);
        }
        let (mut wrapped, mut length) = (None, 600);
        if let Some(clear) = object.take() {
            let way = match wrapping {
                Some(wrapping) => self.node.wrapped_for(ask, clear, &record, wrapping),
                None => Ok((clear, false)),
            };
            match way {
                Ok((ready, was_wrapped))
                    if was_wrapped || reason_withheld(&record, is_wrapped(&ready)).is_none() =>
                {
                    wrapped = was_wrapped.then_some(true);
                    length += ready.material_len();
                    object = Some(ready);
                }
                Ok(_) => {
                    let why = "the object is Sensitive, and has nothing that could be wrapped";
                    return Ok((self.held_back(record, why.into())?, 400));
                }
                Err(failure) => {
                    return Ok((self.held_back(record, failure.message().into())?, 400));
                }
            }
        }
        let material = object.map(|object| material_of(&object)).transpose()?;
        offered.set(ask.snapshot, number, true)?;
        let left_out = leave_out(&mut record.attributes, &self.slave.without);
        let mut without = record
            .overlay
            .as_ref()
            .map_or_else(Vec::new, |overlay| overlay.without.clone());
        without.extend(
            left_out
                .into_iter()
                .filter(|name| !without.contains(name))
                .collect::<Vec<_>>(),
        );
        without.sort();
        let attributes = record.attributes.clone();
        let mut copy = Copy::of(&record, attributes, None)?;
        copy.without = without;
        if planted!(LineageForgotten) {
            copy.lineage.clear();
        }
        copy.owner = match &record.overlay {
            Some(overlay) if !self.node.issues(&record) => overlay.owner.clone(),
            _ => record.owner.clone(),
        };
        let change = Change {
            kind: Kind::COPY,
            identifier: record.identifier,
            object_type: Some(record.object_type),
            copy,
            material: material.map(|bytes| Secret::new(&bytes)),
            wrapped,
            why: None,
            extra: Extra::NONE,
        };
        Ok((change, length))
    }

    /// An object that may not leave, and why.
    fn held_back(&self, record: Record, why: Text) -> Result<Change, Failure> {
        let copy = Copy::of(&record, Attributes::new(), None)?;
        Ok(Change {
            why: Some(why),
            ..told(Kind::WITHHELD, record.identifier, copy)
        })
    }

    /// What is told of an object that was offered and does not belong to the selection any more: its State.
    fn withdrawal(&self, record: Record) -> Result<Change, Failure> {
        let state = record
            .attributes
            .iter()
            .filter(|attribute| is_of_state(attribute.value.tag()))
            .cloned();
        let mut attributes = Attributes::new();
        state.for_each(|attribute| attributes.keep(attribute));
        let copy = Copy::of(&record, attributes, None)?;
        Ok(told(Kind::WITHDRAWN, record.identifier, copy))
    }
}

fn is_wrapped(object: &Object) -> bool {
    object
        .key_block()
        .is_some_and(|block| block.key_wrapping_data.is_some())
}

pub(crate) fn told(kind: Kind, identifier: Text, copy: Copy) -> Change {
    Change {
        kind,
        identifier,
        object_type: None,
        copy,
        material: None,
        wrapped: None,
        why: None,
        extra: Extra::NONE,
    }
}

fn gone(id: &keyferry_store::ObjectId) -> Change {
    let stamp = keyferry_store::Stamp::first(&id.server, Incarnation([0; 16]));
    let copy = Copy {
        id: id.clone(),
        stamp,
        lineage: Vec::new(),
        digest: Vec::new(),
        projection: crate::wire::copy::PROJECTION,
        unrepresentable: Attributes::new(),
        without: Vec::new(),
        owner: None,
        session: None,
        extra: Extra::NONE,
    };
    told(Kind::GONE, id.identifier.clone(), copy)
}

fn is_of_state(tag: keyferry_ttlv::Tag) -> bool {
    matches!(
        tag,
        tag::STATE
            | tag::INITIAL_DATE
            | tag::ACTIVATION_DATE
            | tag::DEACTIVATION_DATE
            | tag::DESTROY_DATE
            | tag::COMPROMISE_DATE
            | tag::COMPROMISE_OCCURRENCE_DATE
            | tag::REVOCATION_REASON
            | tag::LAST_CHANGE_DATE
    )
}

/// Leaves out what the relation does without, but for what belongs to the life cycle; returns what was left out.
fn leave_out(attributes: &mut Attributes, without: &[Text]) -> Vec<Text> {
    let mut left_out = Vec::new();
    for name in without {
        let reference = AttributeReference::named(name);
        let before = attributes.len();
        attributes.retain(|attribute| {
            attribute.value.reference() != reference || is_of_state(attribute.value.tag())
        });
        if attributes.len() < before {
            left_out.push(name.clone());
        }
    }
    left_out
}
