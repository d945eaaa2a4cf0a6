//! This module carries a compromise on: to other objects with the same key material, and to the issuer of an object that was revoked elsewhere
//! ([rule 5](crate::design#rule-5)).

use crate::ask::Ask;
use crate::node::{Node, is_secret};
use crate::planted::planted;
use crate::receive::refused::count_under;
use crate::receive::state::compromise;
use crate::relation::alarm::{Alarm, AlarmKind};
use crate::relation::compromised_twin::CompromisedTwin;
use crate::relation::emergency::EmergencyRevoke;
use crate::relation::keys;
use crate::relation::owed::check_no_pending_give_back;
use keyferry_kmip::lifecycle::{self, Event, Rank, is_compromised};
use keyferry_kmip::spec::{AttributeValue, ObjectType, RevocationReasonCode, State};
use keyferry_kmip::{Cause, DateTime, Failure, RevocationReason, Text};
use keyferry_store::{
    Change, Effects, IndexKey, Material, Order, Overlay, Record, RecordNumber, Result, Snapshot,
    SnapshotExt, Span, index,
};
use keyferry_ttlv::Extra;
use std::collections::HashSet;
use std::ops::ControlFlow;

impl Node {
    /// Adds to effects what follows from an object's becoming compromised by them. `snapshot` shows the store without them.
    ///
    /// Other objects with the same secret material that are held become compromised, too: where this server issues both, as a change; where another
    /// server issues both, as the State that its copies have here. Those of other issuers are listed as a [`CompromisedTwin`]. Whoever applies
    /// effects calls this before; [`apply_page`](crate::apply_page) and the responder do so. It changes nothing when it is called again.
    ///
    /// # Errors
    /// Those of the store.
    pub fn spread_compromise(
        &self,
        snapshot: &dyn Snapshot,
        now: DateTime,
        effects: &mut Effects,
    ) -> Result<()> {
        let mut news = Vec::new();
        for change in &effects.changes {
            if is_newly_compromised(change) {
                news.push(Compromised::of(self, snapshot, change)?);
            }
        }
        // All that has one issuer and one material is raised by one of them.
        let mut seen = HashSet::new();
        for compromised in news {
            forget_what_is_known(snapshot, &compromised, effects)?;
            if seen.insert((
                compromised.key.clone(),
                compromised.record.stamp.issuer.clone(),
            )) {
                raise_twins(self, snapshot, now, &compromised, effects)?;
            }
        }
        report_new_twins(self, snapshot, now, effects)
    }

    /// Whether effects change objects that this server issues, by a change that others will hear of.
    pub fn changes_own_objects(&self, effects: &Effects) -> bool {
        effects.changes.iter().any(|change| {
            let held = change.before.as_ref().map(|(_, held)| &held.stamp);
            self.issues(&change.after) && held != Some(&change.after.stamp)
        })
    }

    /// The effects of a Revoke for a compromise, which is taken anywhere and at any time.
    ///
    /// Where this server may change the object it is an ordinary change. Elsewhere, and while this server waits for what it has lost, the State counts
    /// for clients here at once, and is kept as an [`EmergencyRevoke`].
    ///
    /// # Errors
    /// [`Cause::WrongState`] and [`Cause::InvalidField`] when the object is compromised already or the reason is no compromise.
    pub fn revoke_compromised(
        &self,
        ask: &Ask<'_>,
        (number, held): (RecordNumber, Record),
        reason: RevocationReason,
        occurrence: Option<DateTime>,
    ) -> Result<Effects, Failure> {
        let emergency = EmergencyRevoke {
            id: held.id.clone(),
            by: ask.caller.name.as_str().into(),
            at: ask.now.wall,
            reason,
            occurrence,
            extra: Extra::NONE,
        };
        self.take_emergency(ask, (number, held), emergency)
    }

    /// Takes an emergency Revoke of a client or of a peer.
    pub(crate) fn take_emergency(
        &self,
        ask: &Ask<'_>,
        (number, held): (RecordNumber, Record),
        emergency: EmergencyRevoke,
    ) -> Result<Effects, Failure> {
        if !is_compromise(&emergency.reason) {
            return Err(Failure::new(
                Cause::InvalidField,
                "the Revocation Reason is no compromise",
            ));
        }
        let mut after = held.clone();
        if self.issues(&held) && check_no_pending_give_back(ask.snapshot).is_ok() {
            revoke(&mut after, &emergency)?;
            self.advance(&mut after, ask.snapshot.reign()?, ask.now.wall);
            return Ok(Effects::change(Some((number, held)), after, Material::Keep));
        }
        let mut shown = held.clone();
        if let Some(state) = held.stored_state() {
            shown.attributes.set(AttributeValue::State(state));
        }
        revoke(&mut shown, &emergency)?;
        after.overlay.get_or_insert_with(Overlay::default).state = shown.attributes.state();
        let mut effects = Effects::change(Some((number, held)), after, Material::Keep);
        if !planted!(EmergencyForgotten) {
            effects.state.push(emergency.entry()?);
        }
        Ok(effects)
    }
}

/// Whether a reason says that the key material is known to others.
fn is_compromise(reason: &RevocationReason) -> bool {
    matches!(
        reason.code,
        RevocationReasonCode::KEY_COMPROMISE | RevocationReasonCode::CA_COMPROMISE
    )
}

/// Revokes a record as an emergency Revoke says.
fn revoke(record: &mut Record, emergency: &EmergencyRevoke) -> Result<(), Failure> {
    let event = Event::Revoke(emergency.reason.clone(), emergency.occurrence);
    lifecycle::apply(&mut record.attributes, &event, emergency.at)
}

/// The effects by which emergency Revokes of this server's own objects become changes, up to `most` of them, once it waits for nobody any more.
///
/// # Errors
/// Those of the store.
pub fn settle_emergency_revokes(
    node: &Node,
    snapshot: &dyn Snapshot,
    now: DateTime,
    most: usize,
) -> Result<Effects> {
    let mut effects = Effects::none();
    if check_no_pending_give_back(snapshot).is_err() {
        return Ok(effects);
    }
    for emergency in EmergencyRevoke::stored(snapshot)? {
        let held = snapshot.by_object_id(&emergency.id)?;
        let Some((number, held)) = held.filter(|(_, held)| node.issues(held)) else {
            continue;
        };
        if effects.changes.len() >= most {
            break;
        }
        let mut after = held.clone();
        if let Some(overlay) = &mut after.overlay {
            overlay.state = None;
        }
        if !after.is_compromised() && revoke(&mut after, &emergency).is_err() {
            compromise(&mut after.attributes, emergency.at);
        }
        node.advance(&mut after, snapshot.reign()?, now);
        effects.extend(Effects::change(Some((number, held)), after, Material::Keep));
        effects.state.push(emergency.removal()?);
    }
    Ok(effects)
}

/// An object that effects make compromised.
struct Compromised {
    record: Record,
    /// Whether the own copy of it says so, and not this server alone.
    is_told: bool,
    /// The key of its material, if that may be a secret.
    key: Option<IndexKey>,
    is_own: bool,
}

impl Compromised {
    fn of(node: &Node, snapshot: &dyn Snapshot, change: &Change) -> Result<Compromised> {
        let record = change.after.clone();
        let fingerprint = record.fingerprint.as_deref();
        let mut key = fingerprint
            .filter(|_| index::may_be_secret(record.object_type))
            .map(index::fingerprint);
        if key.is_some()
            && record.object_type == ObjectType::SECRET_DATA
            && !may_be_secret_data(snapshot, change)?
        {
            key = None;
        }
        Ok(Compromised {
            is_told: record.attributes.state().is_some_and(is_compromised),
            key,
            is_own: node.issues(&record),
            record,
        })
    }
}

fn is_newly_compromised(change: &Change) -> bool {
    let told = |record: &Record| record.attributes.state().is_some_and(is_compromised);
    let was = change
        .before
        .as_ref()
        .is_some_and(|(_, held)| held.is_compromised() && (told(held) || !told(&change.after)));
    change.after.is_compromised() && !was
}

/// Whether Secret Data is a secret that nobody has by chance. It counts as one where the material is gone.
fn may_be_secret_data(snapshot: &dyn Snapshot, change: &Change) -> Result<bool> {
    let held = match (&change.material, &change.before) {
        (Material::Set(object), _) => return Ok(is_secret(object)),
        (_, Some((number, _))) => snapshot.whole(*number)?.and_then(|(_, object)| object),
        (_, None) => None,
    };
    Ok(held.as_ref().is_none_or(is_secret))
}

/// Removes the notes about an object that is compromised now: its issuer says so itself, or it is a twin no more.
fn forget_what_is_known(
    snapshot: &dyn Snapshot,
    compromised: &Compromised,
    effects: &mut Effects,
) -> Result<()> {
    let id = &compromised.record.id;
    let twin = keys::compromised_twin(id)?;
    if snapshot.state_value(&twin)?.is_some() {
        effects.state.push((twin, None));
    }
    if compromised.is_told
        && let Some(emergency) = EmergencyRevoke::find(snapshot, id)?
    {
        effects.state.push(emergency.removal()?);
    }
    Ok(())
}

/// Raises or reports all that is held with the material of an object that becomes compromised.
fn raise_twins(
    node: &Node,
    snapshot: &dyn Snapshot,
    now: DateTime,
    compromised: &Compromised,
    effects: &mut Effects,
) -> Result<()> {
    let Some(key) = &compromised.key else {
        return Ok(());
    };
    if planted!(TwinsStayAsTheyAre) {
        return Ok(());
    }
    let mut left = node.policy.limits.twins;
    let mut found = Vec::new();
    let span = Span::exact(&key.key);
    snapshot.scan(
        key.index,
        &span,
        Order::Ascending,
        None,
        &mut |_, number| {
            if let Some(record) = snapshot.record(number)?
                && !record.is_compromised()
                && record.id != compromised.record.id
            {
                found.push((number, record));
            }
            Ok(if found.len() > left {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        },
    )?;
    for (number, held) in found {
        if left == 0 {
            let issuer = &compromised.record.stamp.issuer;
            let alarm = Alarm::raise_at(snapshot, now, issuer, AlarmKind::TWINS_LEFT)?;
            effects.state.extend(alarm);
            break;
        }
        left -= 1;
        if held.object_type == ObjectType::SECRET_DATA {
            let object = snapshot.whole(number)?.and_then(|(_, object)| object);
            if !object.as_ref().is_some_and(is_secret) {
                continue;
            }
        }
        raise_twin(node, snapshot, now, compromised, (number, held), effects)?;
    }
    Ok(())
}

fn raise_twin(
    node: &Node,
    snapshot: &dyn Snapshot,
    now: DateTime,
    compromised: &Compromised,
    (number, held): (RecordNumber, Record),
    effects: &mut Effects,
) -> Result<()> {
    if held.stamp.issuer != compromised.record.stamp.issuer {
        return report_twin(node, snapshot, now, &compromised.record, &held, effects);
    }
    let mut change = take_change(effects, (number, held));
    if !change.after.is_compromised() {
        raise_change(node, snapshot, now, compromised, &mut change, effects)?;
    }
    effects.changes.push(change);
    Ok(())
}

/// Makes a twin of the same issuer compromised: by a change of this server's own object, else here alone.
fn raise_change(
    node: &Node,
    snapshot: &dyn Snapshot,
    now: DateTime,
    compromised: &Compromised,
    change: &mut Change,
    effects: &mut Effects,
) -> Result<()> {
    if compromised.is_own && check_no_pending_give_back(snapshot).is_ok() {
        compromise(&mut change.after.attributes, now);
        node.advance(&mut change.after, snapshot.reign()?, now);
        return Ok(());
    }
    raise_here(&mut change.after);
    if compromised.is_own {
        let emergency = EmergencyRevoke {
            id: change.after.id.clone(),
            by: compromised.record.identifier.clone(),
            at: now,
            reason: key_compromise(),
            occurrence: None,
            extra: Extra::NONE,
        };
        effects.state.push(emergency.entry()?);
    }
    Ok(())
}

/// Takes the change of a record out of effects, or makes one that leaves it as it is.
fn take_change(effects: &mut Effects, (number, held): (RecordNumber, Record)) -> Change {
    let is_its = |change: &Change| matches!(&change.before, Some((other, _)) if *other == number);
    match effects.changes.iter().position(is_its) {
        Some(place) => effects.changes.remove(place),
        None => Change {
            before: Some((number, held.clone())),
            after: held,
            material: Material::Keep,
        },
    }
}

fn key_compromise() -> RevocationReason {
    RevocationReason {
        code: RevocationReasonCode::KEY_COMPROMISE,
        message: None,
        extra: Extra::NONE,
    }
}

/// Raises the State that a record has here to Compromised.
fn raise_here(record: &mut Record) {
    let state = record.stored_state().unwrap_or(State::PRE_ACTIVE);
    let known = Rank {
        step: 0,
        compromised: true,
    };
    let joined = Rank::of(state).joined_state(known);
    record.overlay.get_or_insert_with(Overlay::default).state = Some(joined);
}

/// Lists a twin of another issuer, as far as the limit goes.
fn report_twin(
    node: &Node,
    snapshot: &dyn Snapshot,
    now: DateTime,
    compromised: &Record,
    twin: &Record,
    effects: &mut Effects,
) -> Result<()> {
    let most = node.policy.limits.twins;
    let issuer: &Text = &compromised.stamp.issuer;
    let found = CompromisedTwin::new(
        twin.id.clone(),
        issuer.clone(),
        compromised.identifier.clone(),
        now,
    );
    let (key, value) = found.entry()?;
    let begun = |entry: &&(Vec<u8>, Option<Vec<u8>>)| {
        entry.0.starts_with(keys::COMPROMISED_TWIN) && entry.1.is_some()
    };
    let named = count_under(snapshot, keys::COMPROMISED_TWIN, most)?
        + effects.state.iter().filter(begun).count();
    if snapshot.state_value(&key)?.is_some() {
        return Ok(());
    }
    if named >= most {
        let alarm = Alarm::raise_at(snapshot, now, issuer, AlarmKind::TWINS_LEFT)?;
        effects.state.extend(alarm);
        return Ok(());
    }
    effects.state.push((key, value));
    Ok(())
}

/// Lists copies that come in with the material of a compromised object of another issuer. What this server issues itself is not made with such.
fn report_new_twins(
    node: &Node,
    snapshot: &dyn Snapshot,
    now: DateTime,
    effects: &mut Effects,
) -> Result<()> {
    let mut found: Vec<(Record, Record)> = Vec::new();
    for change in &effects.changes {
        let (Material::Set(object), after) = (&change.material, &change.after) else {
            continue;
        };
        let Some(fingerprint) = after.fingerprint.as_deref() else {
            continue;
        };
        if node.issues(after) || after.is_compromised() || !is_secret(object) {
            continue;
        }
        let is_other = |other: &Record| {
            other.stamp.issuer != after.stamp.issuer && index::may_be_secret(other.object_type)
        };
        let other = snapshot.first(&index::compromised(fingerprint), &is_other)?;
        found.extend(other.map(|(_, other)| (other, after.clone())));
    }
    for (compromised, twin) in found {
        report_twin(node, snapshot, now, &compromised, &twin, effects)?;
    }
    Ok(())
}
