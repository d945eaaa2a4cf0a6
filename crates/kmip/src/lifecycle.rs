//! The states of an object, the ten transitions between them, and the dates that they set (KMIP 2.1 §4.57, 1.4 §3.22).
//!
//! Pure functions of state, event and time; nothing here reads a clock.

use crate::attribute::Attributes;
use crate::attribute::structure::RevocationReason;
use crate::failure::{Cause, Failure};
use crate::spec::attribute::AttributeValue;
use crate::spec::enumeration::object::{RevocationReasonCode, State};
use crate::spec::tag;
use keyferry_ttlv::{DateTime, Tag};

/// An event in the life of an object: a request that may change its State.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Activate.
    Activate,
    /// Revoke, with the reason and, for a compromise, when it is thought to have happened: with other reasons that date is passed over.
    Revoke(RevocationReason, Option<DateTime>),
    /// Destroy.
    Destroy,
}

/// The rank of a State, which never goes back: Pre-Active < Active < Deactivated < Destroyed, and a bit for compromise.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// 0 Pre-Active, 1 Active, 2 Deactivated, 3 Destroyed. Compromised counts as Pre-Active, since the State before it is not known.
    pub step: u8,
    /// Compromised or Destroyed Compromised.
    pub compromised: bool,
}

impl Rank {
    /// The rank of a state. A state that the standard does not know ranks lowest.
    pub fn of(state: State) -> Rank {
        match state {
            State::ACTIVE => Rank {
                step: 1,
                compromised: false,
            },
            State::DEACTIVATED => Rank {
                step: 2,
                compromised: false,
            },
            State::COMPROMISED => Rank {
                step: 0,
                compromised: true,
            },
            State::DESTROYED => Rank {
                step: 3,
                compromised: false,
            },
            State::DESTROYED_COMPROMISED => Rank {
                step: 3,
                compromised: true,
            },
            _ => Rank {
                step: 0,
                compromised: false,
            },
        }
    }

    /// The state that is at least as far along as both.
    pub fn joined_state(self, other: Rank) -> State {
        let step = self.step.max(other.step);
        match (self.compromised || other.compromised, step) {
            (true, 3) => State::DESTROYED_COMPROMISED,
            (true, _) => State::COMPROMISED,
            (false, 0) => State::PRE_ACTIVE,
            (false, 1) => State::ACTIVE,
            (false, 2) => State::DEACTIVATED,
            (false, _) => State::DESTROYED,
        }
    }

    /// Whether an object of this rank may come to the rank `other`: no step goes back, and no compromise is forgotten.
    pub fn may_become(self, other: Rank) -> bool {
        if self.compromised {
            other.compromised && (self.step < 3 || other.step == 3)
        } else {
            other.compromised && self.step < 3 || other.step >= self.step
        }
    }
}

/// Whether an object in this state holds no material any more.
pub fn is_destroyed(state: State) -> bool {
    Rank::of(state).step == 3
}

/// Whether the material of an object in this state counts as known to others.
pub fn is_compromised(state: State) -> bool {
    Rank::of(state).compromised
}

/// Whether an attribute tells how far an object's life cycle has come: State, the dates that belong to a transition, and Revocation Reason.
///
/// Initial Date and Last Change Date are none of them: they say when an object or any of its attributes came to be, and no transition needs
/// them. Nor are Process Start Date and Protect Stop Date, which bound the use of an Active object.
pub fn is_lifecycle_attribute(tag: Tag) -> bool {
    is_server_lifecycle_attribute(tag)
        || matches!(tag, tag::ACTIVATION_DATE | tag::DEACTIVATION_DATE)
}

/// Whether an attribute is one of those of the life cycle that the server alone sets: all but Activation Date and Deactivation Date, which a
/// client may set as well.
pub fn is_server_lifecycle_attribute(tag: Tag) -> bool {
    matches!(
        tag,
        tag::STATE
            | tag::DESTROY_DATE
            | tag::COMPROMISE_DATE
            | tag::COMPROMISE_OCCURRENCE_DATE
            | tag::REVOCATION_REASON
    )
}

/// The state as it is at `now`: what is stored, moved on by an Activation Date or Deactivation Date that has passed (transitions 4 and 6).
pub fn state_at(attributes: &Attributes, now: DateTime) -> Option<State> {
    let stored = attributes.state()?;
    let reached = |tag| attributes.date(tag).is_some_and(|date| date <= now);
    Some(match stored {
        State::PRE_ACTIVE if reached(tag::ACTIVATION_DATE) && reached(tag::DEACTIVATION_DATE) => {
            State::DEACTIVATED
        }
        State::PRE_ACTIVE if reached(tag::ACTIVATION_DATE) => State::ACTIVE,
        State::ACTIVE if reached(tag::DEACTIVATION_DATE) => State::DEACTIVATED,
        other => other,
    })
}

/// Stores the state that dates have led to (transitions 4 and 6): what happens to the dates later does not turn it back.
pub fn store_state_at(attributes: &mut Attributes, now: DateTime) {
    if let Some(state) = state_at(attributes, now) {
        attributes.set(AttributeValue::State(state));
    }
}

/// Fails when dates contradict each other (KMIP 2.1 §4.40 and §4.41): a Process Start Date before the Activation Date, a Protect Stop Date
/// behind the Deactivation Date.
///
/// # Errors
/// [`Cause::InvalidAttribute`].
pub fn check_dates(attributes: &Attributes) -> Result<(), Failure> {
    let behind = |one, other| match (attributes.date(one), attributes.date(other)) {
        (Some(one), Some(other)) => one > other,
        _ => false,
    };
    if behind(tag::ACTIVATION_DATE, tag::PROCESS_START_DATE) {
        return Err(Failure::new(
            Cause::InvalidAttribute,
            "the Process Start Date lies before the Activation Date",
        ));
    }
    if behind(tag::PROTECT_STOP_DATE, tag::DEACTIVATION_DATE) {
        return Err(Failure::new(
            Cause::InvalidAttribute,
            "the Protect Stop Date lies behind the Deactivation Date",
        ));
    }
    Ok(())
}

/// Applies an event: changes State and the dates that belong to the transition, and nothing when it fails.
///
/// # Errors
/// [`Cause::WrongState`], [`Cause::ObjectDestroyed`] or [`Cause::InvalidField`] when the transition is none of the ten.
pub fn apply(attributes: &mut Attributes, event: &Event, now: DateTime) -> Result<(), Failure> {
    let Some(state) = state_at(attributes, now) else {
        return Err(Failure::new(Cause::WrongState, "the object has no State"));
    };
    match event {
        Event::Activate => activate(attributes, state, now),
        Event::Revoke(reason, occurrence) => revoke(attributes, state, reason, *occurrence, now),
        Event::Destroy => destroy(attributes, state, now),
    }
}

/// The failure of an event that an object in this state does not allow.
fn refuse(what: &str, state: State) -> Result<(), Failure> {
    let cause = if is_destroyed(state) {
        Cause::ObjectDestroyed
    } else {
        Cause::WrongState
    };
    Err(Failure::new(
        cause,
        format_args!("can't {what} an object that is {state}"),
    ))
}

fn activate(attributes: &mut Attributes, state: State, now: DateTime) -> Result<(), Failure> {
    if state != State::PRE_ACTIVE {
        return refuse("activate", state);
    }
    attributes.set(AttributeValue::ActivationDate(now));
    attributes.set(AttributeValue::State(State::ACTIVE));
    Ok(())
}

fn revoke(
    attributes: &mut Attributes,
    state: State,
    reason: &RevocationReason,
    occurrence: Option<DateTime>,
    now: DateTime,
) -> Result<(), Failure> {
    let compromise = matches!(
        reason.code,
        RevocationReasonCode::KEY_COMPROMISE | RevocationReasonCode::CA_COMPROMISE
    );
    if reason.code.name().is_none() {
        return Err(Failure::new(
            Cause::InvalidField,
            "the Revocation Reason Code is unknown",
        ));
    }
    let next = match (state, compromise) {
        (State::PRE_ACTIVE | State::ACTIVE | State::DEACTIVATED, true) => State::COMPROMISED,
        (State::DESTROYED, true) => State::DESTROYED_COMPROMISED,
        (State::ACTIVE, false) => State::DEACTIVATED,
        _ => return refuse("revoke", state),
    };
    if compromise {
        attributes.set(AttributeValue::CompromiseDate(now));
        if let Some(date) = occurrence.or_else(|| attributes.date(tag::INITIAL_DATE)) {
            attributes.set(AttributeValue::CompromiseOccurrenceDate(date));
        }
    } else {
        attributes.set(AttributeValue::DeactivationDate(now));
    }
    attributes.set(AttributeValue::RevocationReason(reason.clone()));
    attributes.set(AttributeValue::State(next));
    Ok(())
}

fn destroy(attributes: &mut Attributes, state: State, now: DateTime) -> Result<(), Failure> {
    let next = match state {
        State::PRE_ACTIVE | State::DEACTIVATED => State::DESTROYED,
        State::COMPROMISED => State::DESTROYED_COMPROMISED,
        _ => return refuse("destroy", state),
    };
    attributes.set(AttributeValue::DestroyDate(now));
    attributes.set(AttributeValue::State(next));
    Ok(())
}
