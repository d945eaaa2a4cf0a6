//! An issuer whose own record has rotted takes the copy back that a replica holds, if it is the one that the issuer has sent, and of the change that
//! stood in the record ([rule 17](crate::design#rule-17)).

use crate::ask::{Answered, Ask};
use crate::node::Node;
use crate::policy::Peer;
use crate::receive::apply::is_internal;
use crate::receive::copy::is_own_word;
use crate::receive::given_back::{GivenBack, not_sent};
use crate::relation::account::Account;
use crate::relation::alarm::{Alarm, AlarmKind};
use crate::relation::keys;
use crate::relation::rotten::{RottenRecord, readable};
use crate::wire::follow::{Change, GiveBackRequest, GiveBackResponse};
use keyferry_kmip::{Cause, Failure};
use keyferry_store::record::read;
use keyferry_store::{Effects, Entry, Material, ObjectId, RecordNumber, Snapshot, Stamp};
use keyferry_ttlv::Extra;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// The most objects that one answer wants back.
const AT_ONCE: usize = 100;

/// The objects that this server issues, has sent to a peer, and can't read any more: a peer that may give back is asked for them.
pub(crate) fn wanted_back(
    node: &Node,
    snapshot: &dyn Snapshot,
    peer: &Peer,
    account: &mut Account,
) -> Result<Vec<ObjectId>, Failure> {
    let mut wanted = Vec::new();
    if !peer.may_give_back {
        return Ok(wanted);
    }
    for rotten in RottenRecord::all(snapshot)? {
        let number = rotten.record_number();
        let Some(id) = rotten.id.filter(|id| is_own(node, id)) else {
            continue;
        };
        if account.has_anyhow(snapshot, number)? {
            wanted.push(id);
        }
        if wanted.len() >= AT_ONCE {
            break;
        }
    }
    Ok(wanted)
}

/// Whether an object whose record can't be read is one that was made here. What was adopted has to be looked at by a person.
fn is_own(node: &Node, id: &ObjectId) -> bool {
    id.server == node.home.server && id.instance == node.home.instance
}

/// Takes what a peer gives back in the place of records that have rotted.
pub(crate) fn take(
    node: &Node,
    ask: &mut Ask<'_>,
    peer: &Peer,
    request: GiveBackRequest,
) -> Result<Answered, Failure> {
    let listed = RottenRecord::all(ask.snapshot)?;
    let (mut effects, mut seen) = (Effects::none(), HashSet::new());
    let (mut taken, mut failed, mut unproved) = (0, 0, false);
    for change in request.changes {
        let id = change.copy.id.clone();
        let rotten = listed
            .iter()
            .find(|rotten| rotten.id.as_ref() == Some(&id))
            .filter(|_| is_own(node, &id) && seen.insert(id.encoded().unwrap_or_default()));
        let Some(rotten) = rotten else {
            // It is right again, or never was wrong.
            failed += 1;
            continue;
        };
        match replaced(node, ask, peer, (rotten.record_number(), change)) {
            Ok(replaced) => {
                effects.extend(replaced);
                taken += 1;
            }
            Err(failure) if is_internal(&failure) => return Err(failure),
            Err(failure) => {
                node.refusals.count(&failure);
                unproved |= failure.cause() == Cause::PermissionDenied;
                failed += 1;
            }
        }
    }
    if unproved {
        let kind = AlarmKind::UNPROVED_GIVE_BACK;
        effects.state.extend(Alarm::raise(ask, &peer.server, kind)?);
    }
    let response = GiveBackResponse {
        taken,
        forked: 0,
        failed,
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?.with(effects))
}

/// What puts a copy in the place of the record that has rotted.
fn replaced(
    node: &Node,
    ask: &Ask<'_>,
    peer: &Peer,
    (number, change): (RecordNumber, Change),
) -> Result<Effects, Failure> {
    let given = GivenBack::read(node, ask, peer, change)?;
    if !is_own_word(node, &given.copy, given.object.as_ref())? {
        return Err(not_sent());
    }
    if !given.copy.without.is_empty() {
        return Err(Failure::new(
            Cause::MissingData,
            "the copy lacks attributes that a relation leaves out",
        ));
    }
    let entry = entry_of(ask.snapshot, number)?;
    let Some(entry) = entry.filter(|entry| is_of(entry, &given.copy.id, &given.copy.stamp)) else {
        return Err(Failure::new(
            Cause::InvalidField,
            "the copy is of another change than the record that has rotted",
        ));
    };
    let (mut record, object) = given.into_record();
    let material = match object {
        _ if record.is_destroyed() => Material::Remove,
        Some(object) => {
            record.fingerprint = Some(node.fingerprint(&object)?);
            Material::Set(object.into())
        }
        None => {
            return Err(Failure::new(
                Cause::MissingData,
                "the object itself is missing",
            ));
        }
    };
    record.lost = entry.before;
    let remains = ask
        .snapshot
        .remains(number)?
        .ok_or_else(|| Failure::new(Cause::Internal, "the store has nothing left of the record"))?;
    let mut effects = Effects::replacing(number, remains, record, material);
    effects.state.push((keys::rotten(number), None));
    Ok(effects)
}

fn is_of(entry: &Entry, id: &ObjectId, stamp: &Stamp) -> bool {
    entry.id == *id && entry.stamp == *stamp
}

/// The feed's entry of a record, where it can be read: the whole feed is.
fn entry_of(snapshot: &dyn Snapshot, number: RecordNumber) -> Result<Option<Entry>, Failure> {
    let mut found = None;
    let read_all = snapshot.feed(0, &mut |row| {
        if row.record != number {
            return Ok(ControlFlow::Continue(()));
        }
        found = Some(read::<Entry>(row.entry, "feed entry")?);
        Ok(ControlFlow::Break(()))
    });
    readable(read_all)?;
    Ok(found)
}

#[cfg(test)]
mod tests;
