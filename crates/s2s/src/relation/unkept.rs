//! Copies that nobody keeps true here any more ([rule 17](crate::design#rule-17)): whom each came from, since when nobody tells of it, and what can be
//! done about it.

use crate::error::{Error, ErrorKind, Result};
use crate::feed::entries;
use crate::node::Node;
use crate::relation::differing::DifferingCopy;
use crate::relation::ended::EndedRelation;
use crate::relation::followed::Upstream;
use crate::relation::foreign_master::ForeignMaster;
use crate::relation::kept::KeptCopies;
use crate::relation::keys::{self, Entry, about, missing_prefix};
use crate::relation::receipts::Receipts;
use crate::wire::receipt::Parts;
use keyferry_kmip::{Cause, DateTime, Escaped, Failure, Now, Text};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{
    Effects, Material, ObjectId, Overlay, Record, RecordNumber, Snapshot, SnapshotExt, Store,
    StoreExt,
};
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::fmt;

/// A usable copy whose changes nobody tells this server of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnkeptCopy {
    /// The object.
    pub id: ObjectId,
    /// Its Unique Identifier here.
    pub identifier: Text,
    /// The server that issues it, or the foreign server that it was observed at.
    pub master: Text,
    /// When a server that keeps copies of it told this one something for the last time, as far as was noted. `None` when that was never noted.
    pub since: Option<DateTime>,
    /// Why nobody tells of it.
    pub why: UnkeptReason,
}

/// Why nobody tells of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnkeptReason {
    /// It came by a push or a bundle, or was pulled: this server hears of it when that is done again, and not before.
    Sent,
    /// The relation that brought it was ended here.
    Ended,
    /// The server that is followed has ended the relation that brought it.
    EndedThere,
    /// The relation that brought it is with a relay, which does not hear of its issuer itself, or lists the copy as not being kept true.
    AtRelay,
    /// The relation that brought it is paused here.
    Paused,
}

impl fmt::Display for UnkeptReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UnkeptReason::Sent => "was pushed, pulled or came in a bundle",
            UnkeptReason::Ended => "the relation was ended here",
            UnkeptReason::EndedThere => "the relation was ended by the other server",
            UnkeptReason::AtRelay => "the relay does not keep it true itself",
            UnkeptReason::Paused => "the relation is paused",
        })
    }
}

/// Seconds after which it is noted again that copies came from a server.
const NOTED_EVERY: i64 = 60;

/// Notes that copies came from a server, at most once a minute.
pub(crate) fn note_sender(
    snapshot: &dyn Snapshot,
    server: &str,
    now: DateTime,
) -> keyferry_store::Result<Option<Entry>> {
    let last = last_sent(snapshot, server)?;
    let is_noted =
        last.is_some_and(|last| (0..NOTED_EVERY).contains(&now.0.saturating_sub(last.0)));
    Ok((!is_noted).then(|| (keys::sender(server), Some(now.0.to_be_bytes().to_vec()))))
}

fn last_sent(snapshot: &dyn Snapshot, server: &str) -> keyferry_store::Result<Option<DateTime>> {
    let stored = snapshot.state_value(&keys::sender(server))?;
    let seconds = stored.and_then(|bytes| bytes.try_into().ok());
    Ok(seconds.map(|bytes| DateTime(i64::from_be_bytes(bytes))))
}

/// Who keeps copies true here.
pub(crate) struct Keepers {
    upstreams: Vec<Upstream>,
    ended: Vec<EndedRelation>,
    foreign: Vec<ForeignMaster>,
    /// By which relations copies come.
    kept: RefCell<Vec<KeptCopies>>,
}

/// Since when nobody tells of a copy, and why.
type Unkept = (Option<DateTime>, UnkeptReason);

impl Keepers {
    pub(crate) fn of(snapshot: &dyn Snapshot) -> Result<Keepers> {
        Ok(Keepers {
            upstreams: Upstream::all(snapshot)?,
            ended: EndedRelation::all(snapshot)?,
            foreign: ForeignMaster::all(snapshot)?,
            kept: RefCell::new(KeptCopies::all(snapshot)?),
        })
    }

    /// The servers that are followed here.
    pub(crate) fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    /// A digest of all on which it depends who keeps which copy, but for what is noted of single ones.
    pub(crate) fn digest(&self) -> Result<[u8; 32]> {
        let mut parts = Parts::new(0);
        for upstream in &self.upstreams {
            parts.add(upstream.relation.as_bytes());
            parts.add(upstream.server.as_bytes());
            parts.add(&bytes_of(&upstream.selected)?);
            parts.add(&[
                u8::from(upstream.paused == Some(true)),
                u8::from(upstream.ended.is_some()),
            ]);
            for path in &upstream.keeps {
                parts.add(&bytes_of(path)?);
            }
            // While the whole feed is read, what comes of it counts at the end.
            let account = upstream.account.filter(|_| upstream.anew != Some(true));
            parts.add(&account.unwrap_or(-1).to_be_bytes());
        }
        for master in &self.foreign {
            parts.add(master.server.as_bytes());
            parts.add(&[u8::from(master.paused == Some(true))]);
        }
        Ok(Sha256::digest(parts.bytes()).into())
    }

    /// Since when nobody tells of a copy that is usable, and why; `None` when somebody does, and of what is no copy.
    pub(crate) fn unkept(
        &self,
        (node, now): (&Node, DateTime),
        snapshot: &dyn Snapshot,
        (number, held): (RecordNumber, &Record),
    ) -> Result<Option<Unkept>> {
        if held.is_destroyed() || held.is_withdrawn() {
            return Ok(None);
        }
        if node.observes(held) {
            return self.unobserved(snapshot, held);
        }
        if node.issues(held) {
            return Ok(None);
        }
        let via = self.relations_of(snapshot, number)?;
        // What came beside relations is told of where a relation with its issuer selects it.
        let (mut since, mut why) = (None, None);
        for upstream in &self.upstreams {
            let selects = via.is_empty()
                && upstream.server == held.stamp.issuer
                && upstream.selection().is_match(held, now)?;
            if !selects && !via.contains(&(upstream.server.clone(), upstream.relation.clone())) {
                continue;
            }
            match (upstream.paused == Some(true), upstream.ended) {
                (false, None) if upstream.tells_of(&held.stamp.issuer) => {
                    if !is_given_up(snapshot, upstream, held)? {
                        return Ok(None);
                    }
                    why = why.or(Some(UnkeptReason::AtRelay));
                }
                (false, None) => why = why.or(Some(UnkeptReason::AtRelay)),
                (_, Some(_)) => why = Some(UnkeptReason::EndedThere),
                (true, None) => why = why.or(Some(UnkeptReason::Paused)),
            }
            since = since.max(Some(upstream.contact));
        }
        for ended in &self.ended {
            if via.iter().any(|(_, relation)| *relation == ended.relation) {
                why = why.or(Some(UnkeptReason::Ended));
                since = since.max(Some(ended.contact));
            }
        }
        // Relations of earlier builds have left nothing behind.
        let by_relation = (!via.is_empty()).then_some(UnkeptReason::Ended);
        let why = why.or(by_relation).unwrap_or(UnkeptReason::Sent);
        let mut senders = Receipts::servers(snapshot, held)?;
        senders.push(held.stamp.issuer.clone());
        for server in senders {
            since = since.max(last_sent(snapshot, &server)?);
        }
        Ok(Some((since, why)))
    }

    /// The relations by which a copy comes, or has come before they were ended here, each behind its server.
    fn relations_of(
        &self,
        snapshot: &dyn Snapshot,
        number: RecordNumber,
    ) -> Result<Vec<(Text, Text)>> {
        let mut relations = Vec::new();
        for copies in self.kept.borrow_mut().iter_mut() {
            if copies.has(snapshot, number)? {
                relations.push((copies.server.clone(), copies.relation.clone()));
            }
        }
        Ok(relations)
    }

    /// The same of what was observed at a foreign server.
    fn unobserved(&self, snapshot: &dyn Snapshot, held: &Record) -> Result<Option<Unkept>> {
        let server = &held.id.server;
        let mut why = UnkeptReason::Sent;
        for master in self
            .foreign
            .iter()
            .filter(|master| master.server == *server)
        {
            if master.paused != Some(true) {
                return Ok(None);
            }
            why = UnkeptReason::Paused;
        }
        Ok(Some((last_sent(snapshot, server)?, why)))
    }
}

/// Whether a relay has said that it does not keep this copy true.
fn is_given_up(
    snapshot: &dyn Snapshot,
    upstream: &Upstream,
    held: &Record,
) -> keyferry_store::Result<bool> {
    if upstream.server == held.stamp.issuer || upstream.differing.is_none() {
        return Ok(false);
    }
    let key = about(keys::differing_prefix(&upstream.relation), &held.id)?;
    let listed = snapshot.state_value(&key)?;
    let listed = listed.map(|bytes| read::<DifferingCopy>(&bytes, "differing copy"));
    Ok(listed
        .transpose()?
        .is_some_and(|listed| listed.stamp.is_none()))
}

impl UnkeptCopy {
    /// The unkept copies among the records behind a number of this server's feed, of which so many are looked at; and the number to go on
    /// from, `None` at the end.
    ///
    /// # Errors
    /// Those of the store.
    pub fn page(
        node: &Node,
        snapshot: &dyn Snapshot,
        now: DateTime,
        (after, most): (u64, usize),
    ) -> Result<(Vec<UnkeptCopy>, Option<u64>)> {
        let keepers = Keepers::of(snapshot)?;
        let rows = entries(snapshot, after, most)?;
        let last = rows.last().map(|(place, _)| *place);
        let mut unkept = Vec::new();
        for (_, number) in rows {
            let Some(record) = snapshot.record(number)? else {
                continue;
            };
            if let Some((since, why)) = keepers.unkept((node, now), snapshot, (number, &record))? {
                let master = match node.observes(&record) {
                    true => record.id.server.clone(),
                    false => record.stamp.issuer.clone(),
                };
                unkept.push(UnkeptCopy {
                    id: record.id,
                    identifier: record.identifier,
                    master,
                    since,
                    why,
                });
            }
        }
        Ok((unkept, last))
    }

    /// All unkept copies. Every record is read: [`page`](UnkeptCopy::page) does that in parts.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(node: &Node, store: &dyn Store, now: DateTime) -> Result<Vec<UnkeptCopy>> {
        let (mut all, mut after) = (Vec::new(), Some(0));
        while let Some(from) = after {
            let (more, last) =
                store.view(|snapshot| UnkeptCopy::page(node, snapshot, now, (from, AT_ONCE)))?;
            all.extend(more);
            after = last;
        }
        Ok(all)
    }

    /// The copies as a table for a person: identifier, master, for how many seconds nobody has kept it true by now, and why.
    pub fn table(copies: &[UnkeptCopy], now: DateTime) -> String {
        let mut table = String::from("identifier\tmaster\tunkept for s\twhy\n");
        for copy in copies {
            let seconds = copy.since.map(|since| now.0.saturating_sub(since.0));
            let seconds =
                seconds.map_or_else(|| "not known".to_owned(), |seconds| seconds.to_string());
            let (identifier, master) = (Escaped(&copy.identifier), Escaped(&copy.master));
            let line = format!("{identifier}\t{master}\t{seconds}\t{}\n", copy.why);
            table.push_str(&line);
        }
        table
    }

    /// Withdraws the copy of an object that nobody keeps true, or that its master does not have any more: the material is erased, clients do not see
    /// the object any more, and replicas of this server are told. Its mark stays, with its State, for when a server brings it again.
    ///
    /// # Errors
    /// [`ErrorKind::Relation`] when there is no such copy, or somebody keeps it true: end that relation first; and those of the store.
    pub fn withdraw(node: &Node, store: &dyn Store, id: &ObjectId, now: DateTime) -> Result<()> {
        store.transact(|transaction| {
            let refused = |why: &str| Error::new(ErrorKind::Relation, format_args!("{id}: {why}"));
            let held = transaction.by_object_id(id)?;
            let Some((number, held)) = held.filter(|(_, held)| !node.issues(held)) else {
                return Err(refused("there is no copy of such an object here"));
            };
            let mut effects = Effects::none();
            for upstream in Upstream::all(transaction)? {
                let key = about(missing_prefix(&upstream.relation), id)?;
                if transaction.state_value(&key)?.is_some() {
                    effects.state.push((key, None));
                }
            }
            let is_missing = !effects.state.is_empty();
            let keepers = Keepers::of(transaction)?;
            let of = (number, &held);
            if !is_missing && keepers.unkept((node, now), transaction, of)?.is_none() {
                return Err(refused(
                    "a server that is followed keeps this copy true: the relation has to be ended first",
                ));
            }
            let mut after = held.clone();
            let overlay = after.overlay.get_or_insert_with(Overlay::default);
            overlay.withdrawn = Some(true);
            overlay.by_issuer = None;
            overlay.hidden.clear();
            effects.extend(Effects::change(Some((number, held)), after, Material::Remove));
            for mut copies in KeptCopies::all(transaction)? {
                copies.set(transaction, number, false)?;
                effects.state.extend(copies.changed());
            }
            effects.apply(transaction)?;
            Ok(())
        })
    }
}

/// The records that are looked at in one view of the store.
const AT_ONCE: usize = 1000;

impl Node {
    /// Fails where policy says that a copy is withheld from clients when nobody has kept it true for so long
    /// ([`Peer::withholding_unkept`](crate::Peer::withholding_unkept)).
    pub(crate) fn check_kept(
        &self,
        snapshot: &dyn Snapshot,
        (number, record): (RecordNumber, &Record),
        now: Now,
    ) -> Result<(), Failure> {
        let master = match self.observes(record) {
            true => &record.id.server,
            false => &record.stamp.issuer,
        };
        let of_master = self.policy.peers_of(master);
        let Some(longest) = of_master.filter_map(|peer| peer.unkept_seconds).min() else {
            return Ok(());
        };
        let unkept = Keepers::of(snapshot)?.unkept((self, now.wall), snapshot, (number, record))?;
        let Some((since, why)) = unkept else {
            return Ok(());
        };
        let seconds = since.map(|since| now.wall.0.saturating_sub(since.0));
        if seconds.is_some_and(|seconds| seconds <= longest) {
            return Ok(());
        }
        Err(Failure::new(
            Cause::PermissionDenied,
            format_args!(
                "nobody has kept this copy true for longer than policy allows ({longest} seconds): {why}"
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::relation::followed::UpstreamOptions;
    use crate::selection::Selection;
    use crate::testing::TestServer;
    use crate::wire::follow::KeptPath;
    use keyferry_kmip::spec::AttributeValue;
    use keyferry_ttlv::Extra;

    #[test]
    fn all_on_which_it_depends_who_keeps_what_has_another_digest() {
        let server = TestServer::new(|peer| peer);
        let what = UpstreamOptions::default();
        Upstream::follow(&server.store, "r", "c", &what, DateTime(1)).unwrap();
        let digest = || {
            let found = server.asking(|ask| Keepers::of(ask.snapshot)?.digest());
            found.unwrap()
        };
        let change = |change: &dyn Fn(&mut Upstream)| {
            server
                .store
                .transact::<_, Error>(|transaction| {
                    let mut upstream = Upstream::find(transaction, "r")?.unwrap();
                    change(&mut upstream);
                    let (key, value) = upstream.entry()?;
                    Ok(transaction.set_state(&key, value.as_deref())?)
                })
                .unwrap();
        };
        // While the feed is read from its beginning, what is noted of single copies counts at the end.
        let mut seen = vec![digest()];
        change(&|upstream| upstream.account = Some(7));
        assert_eq!(digest(), seen[0]);
        let ways = |servers: &[&str]| KeptPath {
            servers: servers.iter().map(|server| (*server).into()).collect(),
            extra: Extra::NONE,
        };
        let steps: [&dyn Fn(&mut Upstream); 7] = [
            &|upstream| upstream.anew = None,
            &|upstream| upstream.account = Some(8),
            &|upstream| upstream.paused = Some(true),
            &|upstream| (upstream.paused, upstream.ended) = (None, Some(DateTime(1))),
            &|upstream| (upstream.ended, upstream.keeps) = (None, vec![ways(&["d"])]),
            &|upstream| upstream.keeps = vec![ways(&["d", "e"])],
            &|upstream| {
                let red = AttributeValue::ObjectGroup("red".into());
                let red = Selection::everything().with(red);
                upstream.selected = crate::selection::Selected::of(&red);
            },
        ];
        for step in steps {
            change(step);
            let now = digest();
            assert!(!seen.contains(&now));
            assert_eq!(digest(), now);
            seen.push(now);
        }
        Upstream::follow(&server.store, "s", "c", &what, DateTime(1)).unwrap();
        assert!(!seen.contains(&digest()));
    }

    #[test]
    fn a_reason_is_told_in_words() {
        for why in [
            UnkeptReason::Sent,
            UnkeptReason::Ended,
            UnkeptReason::EndedThere,
            UnkeptReason::AtRelay,
            UnkeptReason::Paused,
        ] {
            assert!(why.to_string().len() > 10);
        }
    }
}
