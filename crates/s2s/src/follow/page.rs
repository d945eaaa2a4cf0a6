//! A page of changes: what of the feed a relation lets through, and in which form.

use crate::ask::Ask;
use crate::compare::leaf::CopySum;
use crate::compare::table::{Told, is_compared};
use crate::feed::entries;
use crate::follow::form::{
    NOTE_BYTES, SizedChange, change, ended, gone, is_wrapped, leave_out, withdrawal, withheld,
};
use crate::material::transit::reason_withheld;
use crate::material::transport::TransportKey;
use crate::node::Node;
use crate::planted::planted;
use crate::policy::Peer;
use crate::receive::apply::is_internal;
use crate::relation::account::Account;
use crate::relation::doubtful::Doubtful;
use crate::relation::keys::about;
use crate::relation::receipts::Sender;
use crate::relation::rotten::readable;
use crate::selection::ChosenObjects;
use crate::size::copy_bytes;
use crate::transport_key::is_transport_key;
use crate::wire::copy::Copy;
use crate::wire::follow::{Change, Done, HeldCopy, Kind};
use crate::wire::receipt::ReceiptKey;
use keyferry_kmip::lifecycle::is_destroyed;
use keyferry_kmip::{Cause, Failure, Object, Secret, Text};
use keyferry_store::record::material_of;
use keyferry_store::{ObjectId, Record, RecordNumber, SnapshotExt};
use keyferry_ttlv::Limits;

/// Objects in an answer at the most.
const OBJECTS: usize = 1000;

/// Bytes of an answer at the most, about.
const BYTES: usize = 640 * 1024;

/// Feed entries that are looked at for an answer, for each object that it may have.
const ENTRIES_AN_OBJECT: usize = 16;

/// Why a copy is withheld that no answer could carry.
const TOO_LARGE: &str =
    "the object takes more bytes than this server sends of one (the limit copy_bytes)";

/// Bytes of an answer that no further object brings above, about: what messages may have, less what stands around the changes.
const MOST_BYTES: usize = Limits::DEFAULT.size - 64 * 1024;

/// The changes of one answer, and how much room they leave.
pub(super) struct Page {
    pub(super) changes: Vec<Change>,
    bytes: usize,
    most_objects: usize,
    most_bytes: usize,
}

impl Page {
    /// An empty page that takes what the replica asks for, within what this server gives at once.
    pub(super) fn new(objects: i32, bytes: i32) -> Page {
        Page {
            changes: Vec::new(),
            bytes: 0,
            most_objects: usize::try_from(objects).unwrap_or(0).clamp(1, OBJECTS),
            most_bytes: usize::try_from(bytes).unwrap_or(0).clamp(1, BYTES),
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= self.most_bytes || self.changes.len() >= self.most_objects
    }

    /// Whether a change of so many bytes goes into the same answer as those before it.
    fn has_room(&self, bytes: usize) -> bool {
        self.changes.is_empty() || self.bytes + bytes <= MOST_BYTES
    }

    fn add(&mut self, change: Change, bytes: usize) {
        self.changes.push(change);
        self.bytes += bytes;
    }
}

/// Builds the changes of one answer by the terms of a relation.
pub(super) struct ChangesBuilder<'a> {
    pub(super) node: &'a Node,
    pub(super) peer: &'a Peer,
    /// Attributes, by name, that the relation leaves out.
    pub(super) without: &'a [Text],
    pub(super) chosen: ChosenObjects,
    /// Whether material comes with each object, also where it was offered before.
    pub(super) anew: bool,
    /// The key under which material goes, where the agreement names an RSA key and the replica can have this one.
    pub(super) transport: Option<TransportKey>,
    /// What the replica was sent: it changes with what the page brings.
    pub(super) account: &'a mut Account,
    /// What makes the receipts of the copies.
    pub(super) sender: &'a Sender,
    /// What checks the receipts that the replica shows.
    pub(super) key: &'a ReceiptKey,
    /// Where the objects are listed that are withheld from the replica, if any are.
    pub(super) listed: Option<Vec<u8>>,
    /// What the page tells of objects that the replica compares.
    pub(super) told: Told,
    /// The part of the feed that was read.
    pub(super) read: ReadFeed,
    /// What nobody keeps true here, where copies of others' objects are passed on.
    pub(super) doubtful: Option<Doubtful>,
}

/// The part of the feed that was read for a page: all entries behind one number, up to another one.
#[derive(Default)]
pub(super) struct ReadFeed {
    pub(super) behind: u64,
    pub(super) end: u64,
    /// The records, with the object where the page tells of its copy.
    pub(super) entries: Vec<(RecordNumber, Option<ObjectId>)>,
}

/// In which form an object is sent.
enum Form {
    Copy {
        with_material: bool,
    },
    Withdrawal,
    /// Its State alone: it was sent beside the relation.
    Ended,
    Nothing,
}

/// What becomes of the material of a copy.
enum Material {
    Sent {
        material: Option<Object>,
        wrapped: bool,
    },
    /// The object may not leave, for this reason.
    Withheld(Text),
}

impl ChangesBuilder<'_> {
    /// Whether the object is one that the relation is about.
    fn covers(
        &self,
        ask: &Ask<'_>,
        number: RecordNumber,
        record: &Record,
    ) -> Result<bool, Failure> {
        Ok(!self.is_theirs(record) && self.lets_through(ask, number, record)?)
    }

    /// Whether the object is the replica's own, or once was.
    pub(super) fn is_theirs(&self, record: &Record) -> bool {
        record.stamp.issuer == self.peer.server || record.id.server == self.peer.server
    }

    /// Whether the terms let the object through, to whomever they hold for.
    pub(super) fn lets_through(
        &self,
        ask: &Ask<'_>,
        number: RecordNumber,
        record: &Record,
    ) -> Result<bool, Failure> {
        let is_own = self.node.issues(record);
        let may_go = is_own || self.peer.may_follow_copies && !is_transport_key(record);
        let is_chosen = self.chosen.has(number, record) || is_transport_key(record);
        Ok(may_go
            && !record.is_withdrawn()
            && is_chosen
            && self.peer.has_agreed(record, ask.now.wall)?)
    }

    /// In which form an object is sent when the feed tells of it.
    fn form(
        &mut self,
        ask: &Ask<'_>,
        number: RecordNumber,
        record: &Record,
    ) -> Result<Form, Failure> {
        let was_offered = self.account.has(ask.snapshot, number)?;
        let form = match (self.covers(ask, number, record)?, was_offered) {
            // A tombstone goes where the object was offered.
            (true, false) if record.is_destroyed() && !planted!(TombstoneEverywhere) => {
                Form::Nothing
            }
            (true, true) if record.is_destroyed() && planted!(TombstoneSkipped) => Form::Nothing,
            (false, true) if planted!(NotWithdrawn) => Form::Nothing,
            (true, _) => Form::Copy {
                with_material: (self.anew || !was_offered) && !record.is_destroyed(),
            },
            // Also of a copy that was withdrawn from this server: who has it from here has it no longer.
            (false, true) => Form::Withdrawal,
            (false, false) => Form::Nothing,
        };
        let is_told_beside = !was_offered
            && matches!(form, Form::Nothing)
            && self.may_tell_of(record)
            && self.account.has_ended(ask.snapshot, number, record)?;
        Ok(if is_told_beside { Form::Ended } else { form })
    }

    /// Whether the replica may hear of the object from this server, if it was sent the object.
    fn may_tell_of(&self, record: &Record) -> bool {
        (self.node.issues(record) || self.peer.may_follow_copies)
            && !self.is_theirs(record)
            && !record.is_withdrawn()
            && !is_transport_key(record)
    }

    /// Forgets that objects were offered whose withdrawal the replica has acknowledged, unless they have changed since.
    pub(super) fn acknowledge_withdrawals(
        &mut self,
        ask: &Ask<'_>,
        acknowledged: &[Done],
    ) -> Result<(), Failure> {
        for Done { id, stamp, .. } in acknowledged {
            let held = ask.snapshot.by_object_id(id)?;
            if let Some((number, record)) = held
                && (planted!(AckTakenBlindly)
                    || record.stamp == *stamp && !self.covers(ask, number, &record)?)
            {
                self.account.set(ask.snapshot, number, false)?;
            }
        }
        Ok(())
    }

    /// Adds the objects that are asked for again, with their material, as long as there is room. The others are asked for once more.
    pub(super) fn repeat(
        &mut self,
        ask: &mut Ask<'_>,
        ids: &[ObjectId],
        page: &mut Page,
    ) -> Result<(), Failure> {
        for id in ids {
            let found = readable(ask.snapshot.by_object_id(id))?.flatten();
            let Some((number, record)) = found else {
                page.add(gone(id), NOTE_BYTES);
                continue;
            };
            let sized = match self.form(ask, number, &record)? {
                Form::Copy { .. } => {
                    let with_material = !record.is_destroyed() && !planted!(AgainWithoutMaterial);
                    self.copy(ask, number, record, with_material)?
                }
                Form::Withdrawal => withdrawal(record)?,
                Form::Ended => ended(record)?,
                Form::Nothing => SizedChange::note(gone(id)),
            };
            let tells_of_a_copy = sized.change.kind.tells_of_a_copy();
            if !self.send(ask, number, sized, page)? {
                break;
            }
            if tells_of_a_copy {
                self.add_doubt(ask, number, page)?;
            }
        }
        Ok(())
    }

    /// Says of a copy that nobody keeps it true here, where that is so.
    fn add_doubt(
        &self,
        ask: &Ask<'_>,
        number: RecordNumber,
        page: &mut Page,
    ) -> Result<(), Failure> {
        let (Some(doubtful), Some(record)) = (
            &self.doubtful,
            readable(ask.snapshot.record(number))?.flatten(),
        ) else {
            return Ok(());
        };
        if doubtful.has((self.node, ask.now.wall), ask.snapshot, (number, &record))? {
            page.add(
                change(Kind::UNKEPT, record.identifier, gone(&record.id).copy),
                NOTE_BYTES,
            );
        }
        Ok(())
    }

    /// Adds the transport key to the front of the page where the replica may lack it: it goes before what it wraps. Where it can't go, the RSA
    /// key itself wraps what is short enough.
    pub(super) fn add_transport_key(
        &mut self,
        ask: &mut Ask<'_>,
        asks_again: bool,
        page: &mut Page,
    ) -> Result<(), Failure> {
        let Some(transport) = &self.transport else {
            return Ok(());
        };
        let (number, record) = (transport.number, transport.record.clone());
        if !asks_again && !self.anew && self.account.has(ask.snapshot, number)? {
            return Ok(());
        }
        let sized = self.copy(ask, number, record, true)?;
        if sized.change.kind == Kind::COPY {
            self.send(ask, number, sized, page)?;
        } else {
            self.transport = None;
        }
        Ok(())
    }

    /// Adds a change to the page, after which a copy counts as offered; `false` when there is no room.
    fn send(
        &mut self,
        ask: &Ask<'_>,
        number: RecordNumber,
        SizedChange { change, bytes }: SizedChange,
        page: &mut Page,
    ) -> Result<bool, Failure> {
        if !page.has_room(bytes) {
            return Ok(false);
        }
        if change.kind == Kind::COPY {
            self.account.set(ask.snapshot, number, true)?;
        }
        page.add(change, bytes);
        Ok(true)
    }

    /// Adds what is to be told of a copy that the replica says it holds: nothing, when it may hold it and the feed tells of it. That it holds the
    /// copy counts as its having been offered, if a receipt of this server proves it. Of a copy that nothing proves it hears what it would hear of
    /// an object that does not exist ([rule C](crate::design#rule-c)).
    pub(super) fn check_held(
        &mut self,
        ask: &mut Ask<'_>,
        claim: &HeldCopy,
        page: &mut Page,
    ) -> Result<(), Failure> {
        let id = &claim.id;
        let found = readable(ask.snapshot.by_object_id(id))?.flatten();
        let Some((number, record)) = found else {
            page.add(gone(id), NOTE_BYTES);
            return Ok(());
        };
        let is_genuine = claim
            .proof
            .as_ref()
            .is_some_and(|proof| self.key.is_claim_genuine(id, &claim.stamp, proof));
        if !is_genuine
            && !self.account.has_anyhow(ask.snapshot, number)?
            && !planted!(ClaimBelieved)
        {
            self.node.refusals.count_unproved();
            page.add(gone(id), NOTE_BYTES);
            return Ok(());
        }
        let is_covered = self.covers(ask, number, &record)?;
        self.account.set(ask.snapshot, number, true)?;
        let told = match is_covered {
            // Its entry may lie behind already, and an answer that told it may have been lost.
            true if record.is_destroyed() => self.copy(ask, number, record, false)?,
            true => return self.add_doubt(ask, number, page),
            false => withdrawal(record)?,
        };
        page.add(told.change, told.bytes);
        Ok(())
    }

    /// Reads the feed behind `from`, as much as the page takes, and says where it ended.
    pub(super) fn read_feed(
        &mut self,
        ask: &mut Ask<'_>,
        from: u64,
        page: &mut Page,
    ) -> Result<u64, Failure> {
        let (mut end, mut looked_at) = (from, 0);
        self.read.behind = from;
        loop {
            self.read.end = end;
            if page.is_full() {
                return Ok(end);
            }
            let entries = entries(ask.snapshot, end, page.most_objects)?;
            if entries.is_empty() {
                return Ok(end);
            }
            for (place, number) in entries {
                let Some(record) = readable(ask.snapshot.record(number))? else {
                    // It holds nobody up. Whoever has it finds by comparison that it is not told.
                    (end, looked_at) = (place, looked_at + 1);
                    self.read.entries.push((number, None));
                    continue;
                };
                let record = record.ok_or_else(|| {
                    Failure::new(
                        Cause::Internal,
                        "the feed names an object that the store does not hold",
                    )
                })?;
                let told = match self.form(ask, number, &record)? {
                    Form::Copy { with_material } => {
                        Some(self.copy_as_far_as_may_be(ask, number, record, with_material)?)
                    }
                    Form::Withdrawal => Some(withdrawal(record)?),
                    Form::Ended => Some(ended(record)?),
                    Form::Nothing if self.is_listed(ask, &record.id)? => {
                        Some(SizedChange::note(gone(&record.id)))
                    }
                    Form::Nothing => None,
                };
                let id = told.as_ref().and_then(SizedChange::copied).cloned();
                if let Some(told) = told
                    && !self.send(ask, number, told, page)?
                {
                    return Ok(end);
                }
                end = place;
                looked_at += 1;
                self.read.entries.push((number, id));
                self.read.end = end;
                if page.is_full() || looked_at >= ENTRIES_AN_OBJECT * page.most_objects {
                    return Ok(end);
                }
            }
        }
    }

    /// Whether the replica was told that the object is withheld from it: then it hears that this is over, too.
    fn is_listed(&self, ask: &Ask<'_>, id: &ObjectId) -> Result<bool, Failure> {
        let Some(prefix) = &self.listed else {
            return Ok(false);
        };
        let key = about(prefix.clone(), id)?;
        Ok(ask.snapshot.state_value(&key)?.is_some())
    }

    /// The copy of an object. Where the replica was offered the object, and may not have its material now, the copy goes without: a State and
    /// attributes always travel to whoever holds a copy ([rule 9](crate::design#rule-9)).
    fn copy_as_far_as_may_be(
        &mut self,
        ask: &mut Ask<'_>,
        number: RecordNumber,
        record: Record,
        with_material: bool,
    ) -> Result<SizedChange, Failure> {
        if !with_material || !self.account.has(ask.snapshot, number)? {
            return self.copy(ask, number, record, with_material);
        }
        let whole = self.copy(ask, number, record.clone(), true)?;
        if whole.change.kind == Kind::WITHHELD {
            return self.copy(ask, number, record, false);
        }
        Ok(whole)
    }

    /// The copy of an object, or that it is withheld.
    fn copy(
        &mut self,
        ask: &mut Ask<'_>,
        number: RecordNumber,
        mut record: Record,
        with_material: bool,
    ) -> Result<SizedChange, Failure> {
        let (material, wrapped) = match self.material(ask, number, &record, with_material)? {
            Material::Sent { material, wrapped } => (material, wrapped),
            Material::Withheld(why) => return withheld(record, self.without, why),
        };
        let material = material.map(|object| material_of(&object)).transpose()?;
        let without: &[Text] = if is_transport_key(&record) {
            &[]
        } else {
            self.without
        };
        let left_out = leave_out(&mut record.attributes, without);
        let mut without = record
            .overlay
            .as_ref()
            .map_or_else(Vec::new, |overlay| overlay.without.clone());
        let more: Vec<Text> = left_out
            .into_iter()
            .filter(|name| !without.contains(name))
            .collect();
        without.extend(more);
        without.sort();
        let attributes = record.attributes.clone();
        let (mut copy, size) = Copy::with_size(&record, attributes, None)?;
        if is_compared(&record) {
            let sum = CopySum::of(&copy.stamp, &copy.digest);
            let told = (copy.stamp.clone(), sum);
            self.told.insert(copy.id.clone(), told);
        }
        let raised = record.overlay.as_ref().and_then(|overlay| overlay.state);
        let length = material.as_ref().map_or(0, |material| material.len());
        let bytes = copy_bytes(&record.identifier, size, length);
        if bytes > self.node.policy.limits.copy_bytes {
            return withheld(record, self.without, TOO_LARGE.into());
        }
        copy.without = without;
        if planted!(LineageForgotten) {
            copy.lineage.clear();
        }
        self.sender.sign(ask.snapshot, &record, &mut copy)?;
        let change = Change {
            object_type: Some(record.object_type),
            material: material.map(|bytes| Secret::new(&bytes)),
            wrapped: wrapped.then_some(true),
            // Whoever compares it knows that it counts no more.
            raised: raised.filter(|state| is_destroyed(*state)),
            ..change(Kind::COPY, record.identifier, copy)
        };
        Ok(SizedChange { change, bytes })
    }

    /// The material as it leaves, wrapped where the agreement says so, or why the object may not leave.
    fn material(
        &self,
        ask: &Ask<'_>,
        number: RecordNumber,
        record: &Record,
        with_material: bool,
    ) -> Result<Material, Failure> {
        if !with_material {
            return Ok(Material::Sent {
                material: None,
                wrapped: false,
            });
        }
        let transport = (self.transport.as_ref()).filter(|_| !is_transport_key(record));
        let wrapping = match transport {
            Some(transport) => Some(&transport.wrapping),
            None => self.peer.wrapping.as_ref(),
        };
        if !record.is_destroyed()
            && let Some(why) = reason_withheld(record, wrapping.is_some())
        {
            return Ok(Material::Withheld(why.into()));
        }
        let Some(whole) = readable(ask.snapshot.whole(number))? else {
            return Ok(Material::Withheld("its key material can't be read".into()));
        };
        let object = whole.and_then(|(_, object)| object);
        let Some(clear) = object else {
            return Ok(Material::Sent {
                material: None,
                wrapped: false,
            });
        };
        let ready = match wrapping {
            Some(wrapping) => self.node.wrapped_for(ask, clear, record, wrapping),
            None => Ok((clear, false)),
        };
        match ready {
            Ok((ready, wrapped))
                if wrapped || reason_withheld(record, is_wrapped(&ready)).is_none() =>
            {
                let material = Some(ready);
                Ok(Material::Sent { material, wrapped })
            }
            Ok(_) => {
                let why = "the object is Sensitive, and has nothing that could be wrapped";
                Ok(Material::Withheld(why.into()))
            }
            Err(failure) if is_internal(&failure) => Err(failure),
            Err(failure) => Ok(Material::Withheld(failure.message().into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_room_for_one_object_and_then_for_what_a_message_can_carry() {
        let mut page = Page::new(10, 10);
        assert!(page.has_room(MOST_BYTES + 1), "one object goes alone");
        page.add(gone_for_test(), 100);
        assert!(page.has_room(MOST_BYTES - 100));
        assert!(!page.has_room(MOST_BYTES - 99));
        assert!(page.is_full(), "it has more bytes than were asked for");
    }

    fn gone_for_test() -> Change {
        gone(&ObjectId {
            server: "a".into(),
            instance: Vec::new(),
            identifier: "k".into(),
        })
    }
}
