//! Alarms: what a peer did that an operator should know, one entry for each peer and kind.

use crate::ask::Ask;
use crate::error::Result;
use crate::relation::keys::{self, Entry};
use crate::relation::stored;
use keyferry_kmip::{DateTime, Failure, Text, extension as x};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{Snapshot, SnapshotExt};
use keyferry_ttlv::{Decode, Encode, Extra, Item, Reader, Tag, Writer};
use std::fmt;

/// What a peer did that an operator should know, how often, and when last.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::ALARM)]
#[non_exhaustive]
pub struct Alarm {
    /// The server id of the peer.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    /// What it did.
    #[ttlv(tag = x::ALARM_KIND)]
    pub kind: AlarmKind,
    /// How often.
    #[ttlv(tag = x::ATTEMPTS)]
    pub count: i64,
    /// When first.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// When last.
    #[ttlv(tag = x::CONTACT)]
    pub last: DateTime,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// The kind of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmKind(pub u32);

impl AlarmKind {
    /// It showed a place of this server's feed that contradicts this server's history and has no receipt, or a false one: it was made up, or is of a
    /// build without receipts. The peer had to start over. If this store was restored from a backup, say so ([`begin_restored`](crate::begin_restored)).
    pub const UNPROVED_PLACE: AlarmKind = AlarmKind(1);
    /// It gave back objects that this server has never sent, by their receipts.
    pub const UNPROVED_GIVE_BACK: AlarmKind = AlarmKind(2);
    /// More objects have the material of a compromised one than are raised or named at once ([`twins`](crate::Limits::twins)). The alarm is of the
    /// compromised object's issuer. Revoke one of those that are left to raise the next.
    pub const TWINS_LEFT: AlarmKind = AlarmKind(3);
    /// This server's own clock has jumped, or starts far from where it was: what dates have led to is not stored until the time is confirmed
    /// ([`Clock`](crate::Clock)).
    pub const CLOCK: AlarmKind = AlarmKind(4);
    /// It is a foreign server that is pulled from or observed, and the State of an object went back there: it was restored from a backup, or holds
    /// another object under the old identifier. The State that was known counts here on ([rule 5](crate::design#rule-5)); the report names the object.
    pub const STATE_WENT_BACK: AlarmKind = AlarmKind(5);
    /// It is followed, and copies differ from what it has told, although they were asked for again: they are compared again in an hour
    /// ([rule 17](crate::design#rule-17)).
    pub const COPIES_DIFFER: AlarmKind = AlarmKind(6);
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            AlarmKind::UNPROVED_PLACE => f.write_str("showed a place that this server never told"),
            AlarmKind::UNPROVED_GIVE_BACK => {
                f.write_str("gave back objects that this server never sent")
            }
            AlarmKind::TWINS_LEFT => {
                f.write_str("has a compromised object with more twins than are named at once")
            }
            AlarmKind::CLOCK => f.write_str("has a clock that jumped"),
            AlarmKind::STATE_WENT_BACK => f.write_str("shows a State that has gone back"),
            AlarmKind::COPIES_DIFFER => {
                f.write_str("has told of copies otherwise than they are held here")
            }
            AlarmKind(other) => write!(f, "alarm {other}"),
        }
    }
}

impl Decode for AlarmKind {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> keyferry_ttlv::Result<Self> {
        item.enumeration(r).map(AlarmKind)
    }
}

impl Encode for AlarmKind {
    fn encode(&self, tag: Tag, w: &mut Writer) -> keyferry_ttlv::Result<()> {
        w.enumeration(tag, self.0);
        Ok(())
    }
}

impl Alarm {
    /// All alarms.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<Alarm>> {
        stored::all_under(snapshot, keys::ALARM, "alarm")
    }

    /// What raises an alarm. It is written once a second at most, so that a peer can't fill the store or wear it out.
    pub(crate) fn raise(
        ask: &Ask<'_>,
        server: &Text,
        kind: AlarmKind,
    ) -> Result<Option<Entry>, Failure> {
        Ok(Alarm::raise_at(ask.snapshot, ask.now.wall, server, kind)?)
    }

    /// The same at a time.
    pub(crate) fn raise_at(
        snapshot: &dyn Snapshot,
        now: DateTime,
        server: &Text,
        kind: AlarmKind,
    ) -> keyferry_store::Result<Option<Entry>> {
        let key = keys::alarm(server, kind.0);
        let mut alarm = match snapshot.state_value(&key)? {
            Some(bytes) => read(&bytes, "alarm")?,
            None => Alarm {
                server: server.clone(),
                kind,
                count: 0,
                since: now,
                last: DateTime(i64::MIN),
                extra: Extra::NONE,
            },
        };
        if alarm.last == now {
            return Ok(None);
        }
        alarm.count = alarm.count.saturating_add(1);
        alarm.last = now;
        Ok(Some((key, Some(bytes_of(&alarm)?))))
    }
}
