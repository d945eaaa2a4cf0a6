//! The keys of the s2s state: every prefix under which any crate of the workspace keeps something, one row each, and the functions that
//! make the keys. Stored keys never change, so a row is added here and never altered.

use keyferry_kmip::{DateTime, Text};
use keyferry_store::{ObjectId, RecordNumber, Stamp, index};

/// One change of the s2s state: a key, and its new value or that it goes.
pub(crate) type Entry = (Vec<u8>, Option<Vec<u8>>);

/// One kind of entry in the s2s state of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateKey {
    /// What its keys begin with. It is the whole key where there is one entry of the kind.
    pub prefix: &'static [u8],
    /// What its keys consist of behind the prefix, where `0` is a zero byte and `object` the index key of an
    /// [`ObjectId`](keyferry_store::ObjectId) (16 bytes).
    pub rest: &'static str,
    /// What stands under it.
    pub holds: &'static str,
    /// Who writes it.
    pub writer: &'static str,
}

macro_rules! state_keys {
    ($($name:ident = $prefix:literal + $rest:literal: $holds:literal, $writer:literal;)*) => {
        $(pub(crate) const $name: &[u8] = $prefix;)*

        /// Every kind of entry in the s2s state, of all crates. No prefix is the beginning of another one.
        pub const STATE_KEYS: &[StateKey] = &[$(StateKey {
            prefix: $name,
            rest: $rest,
            holds: $holds,
            writer: $writer,
        },)*];
    };
}

#[rustfmt::skip]
state_keys! {
    HOME = b"home" + "": "the server id, the instance and the fingerprint key of the store", "store: StoreExt";
    REIGN = b"reign" + "": "the number of this start of the server", "store: StoreExt";
    SEAL = b"\0keyferry sealed\0" + "name": "a sealed data key, which callers of the sealed store never see", "store: Sealed";
    DOWNSTREAM = b"slave/" + "server 0 relation": "a replica that follows this server (Downstream)", "follow, at the issuer";
    ENDED_RELATION = b"left/" + "relation": "since when the copies of a relation are unkept that was ended here (EndedRelation)", "Upstream::end";
    SENDER = b"sender/" + "server": "when copies last came from a server beside relations, in seconds (8 bytes)", "receive: import; pull";
    UPSTREAM = b"master/" + "relation": "a server that this one follows (Upstream)", "follow, at the replica";
    RETRY = b"retry/" + "relation 0 object": "an object that could not be applied and is asked for again (Retry)", "follow, at the replica";
    DIFFERING = b"differs/" + "relation 0 object": "a copy that is not held as it was told, with what was told (DifferingCopy)", "follow, at the replica";
    ROTTEN = b"rotten/" + "number": "a record that is not what was written (RottenRecord), under its number (8 bytes)", "relation: rotten";
    SCRUB = b"scrub" + "": "how far the slow reading of the store has come (Scrub)", "relation: rotten";
    MISSING = b"missing/" + "relation 0 object": "a copy that the issuer does not have (its ObjectId)", "follow, at the replica";
    WITHDRAWN = b"withdrawn/" + "relation 0 object": "a withdrawal that the relation's next request confirms", "follow, at the replica";
    OFFERED = b"offered/" + "server 0 relation 0 page": "which records a replica was offered (RecordSet)", "follow, at the issuer";
    KEPT = b"kept/" + "server 0 relation 0 page": "which copies a relation brings, or has brought (RecordSet)", "follow, at the replica";
    GIVE_BACK = b"taking back/" + "server": "a peer that has yet to give back what this server lost (PendingGiveBack)", "receive: give_back";
    WAIVED = b"waived/" + "server / time / person": "a PendingGiveBack that a person has waived", "receive: give_back";
    FAILED_GIVE_BACK = b"untaken/" + "server / object": "an object that could not be given back (FailedGiveBack)", "receive: give_back";
    FORK = b"fork/" + "object / reign / epoch issuer": "a change that does not descend from the one held here (Fork)", "receive: fork";
    FORK_DECISION = b"decided/" + "object / time incarnation": "what a person decided about a fork (ForkDecision)", "receive: fork";
    RECEIPT = b"receipt/" + "object": "the receipts of the copy that is held of an object (Receipts)", "receive: import; follow; pull";
    ENDED = b"ended/" + "incarnation": "nothing: that an incarnation of this store has ended", "receive: give_back; follow, at the issuer";
    REFUSED_COPY = b"refused/" + "server 0 object": "a refused copy of a peer that learns nothing (RefusedCopy)", "receive: import";
    ALARM = b"alarm/" + "server 0 kind": "what a peer did that an operator should know (Alarm)", "follow, at the issuer";
    EMERGENCY_REVOKE = b"emergency/" + "object": "a Revoke for a compromise that its issuer does not know yet (EmergencyRevoke)", "receive: compromise";
    COMPROMISED_TWIN = b"twin/" + "object": "an object with the material of a compromised one of another issuer (CompromisedTwin)", "receive: compromise";
    CLOCK = b"clock" + "": "the wall time when it was last noted, in seconds (8 bytes)", "server: store_due_states";
    AWAITED = b"await/" + "object / identifier": "nothing: that the Links of an object wait for another one", "receive: collision";
    FOREIGN_MASTER = b"foreign/master/" + "relation": "a foreign server that is observed (ForeignMaster)", "pull";
    FOREIGN_RETRY = b"foreign/retry/" + "relation 0 object": "an object that could not be taken from it (Retry)", "pull";
    FOREIGN_MISSING = b"foreign/missing/" + "relation 0 object": "an object that it does not have any more (its ObjectId)", "pull";
    FOREIGN_COUNTS = b"foreign/counts/" + "relation": "the counts of its passes (Counts)", "pull";
    FOREIGN_TAKEN = b"foreign/taken/" + "relation 0 session page": "the identifiers that a pass has taken", "pull";
    FOREIGN_REPLICA = b"foreign/slave/" + "relation": "a foreign server that is published to (ForeignReplica)", "push: publication, notifier";
    PUBLISHED_RETRY = b"foreign/again/" + "relation 0 object": "an object that could not be brought there (Retry)", "push: publication, notifier";
    PUBLISHED_COUNTS = b"foreign/published/" + "relation": "the counts of its passes (Counts)", "push: publication, notifier";
    THERE = b"there/" + "transfer 0 object": "an object at a peer that gives identifiers of its own (Mapped)", "push: identifier_map";
    HERE = b"here/" + "transfer 0 identifier there": "the ObjectId of the object that has this identifier there", "push: identifier_map";
    PROBE = b"probe/" + "transfer": "the identifier of a throw-away object at a peer", "push: register, publication";
    PUSHED = b"pushed/" + "server 0 transfer 0 instance 0 page": "which records a peer was sent by a push (RecordSet)", "push: bulk";
    BULK = b"bulk/" + "transfer": "the progress of a Bulk (Counts)", "push: bulk";
    REGISTER = b"register/" + "transfer": "the progress of a Register (Counts)", "push: register";
    PULL = b"pull/" + "transfer": "the progress of a Pull (Counts)", "pull";
    PULLED = b"pulled/" + "transfer 0 session page": "the identifiers that a Pull has taken", "pull";
    PLAN = b"plan/" + "key of the transfer": "the progress of a plan's execution (Counts)", "transfer: ledger";
    BUNDLE_OFFERED = b"bundle/offered/" + "recipient 0 page": "which records a recipient of bundles was offered (RecordSet)", "bundle: seal";
    BUNDLE_NUMBER = b"bundle/number/" + "recipient": "the number of its last bundle (8 bytes)", "bundle: seal";
    BUNDLE_APPLIED = b"bundle/taken/" + "bundle": "how far a bundle was applied", "bundle: apply";
    WITHHELD = b"unsent/" + "server 0 relation 0 object": "an object that a replica does not get (WithheldObject)", "follow, at the issuer";
    LACKING = b"lacking/" + "relation 0 object": "an object that the server that is followed withholds from this one (WithheldObject)", "follow, at the replica";
    TRANSPORT = b"transport/" + "RSA key here 0 RSA key there": "the identifier of the transport key that wraps now for this RSA key", "follow, at the issuer; push: bulk; renew_transport_key";
    GROUP_MEMBER = b"turn/" + "index key of the group": "the record that Locate named last as the group's default member (8 bytes)", "server: Locate";
}

/// What a prefix is followed by where a second part comes behind it.
fn under(prefix: &[u8], name: &str) -> Vec<u8> {
    [prefix, name.as_bytes(), &[0]].concat()
}

fn named(prefix: &[u8], name: &str) -> Vec<u8> {
    [prefix, name.as_bytes()].concat()
}

/// The key of something about an object, below a prefix.
pub(crate) fn about(prefix: Vec<u8>, id: &ObjectId) -> keyferry_store::Result<Vec<u8>> {
    Ok([&prefix[..], &index::object_id(id)?.key].concat())
}

pub(crate) fn downstream(server: &str, relation: &str) -> Vec<u8> {
    [&under(DOWNSTREAM, server)[..], relation.as_bytes()].concat()
}

pub(crate) fn upstream(relation: &str) -> Vec<u8> {
    named(UPSTREAM, relation)
}

pub(crate) fn retry_prefix(relation: &str) -> Vec<u8> {
    under(RETRY, relation)
}

pub(crate) fn missing_prefix(relation: &str) -> Vec<u8> {
    under(MISSING, relation)
}

pub(crate) fn done_prefix(relation: &str) -> Vec<u8> {
    under(WITHDRAWN, relation)
}

pub(crate) fn rotten(number: RecordNumber) -> Vec<u8> {
    [ROTTEN, &number.0.to_be_bytes()].concat()
}

/// What the keys of the copies begin with that are not held as they were told in a relation.
pub(crate) fn differing_prefix(relation: &str) -> Vec<u8> {
    under(DIFFERING, relation)
}

/// How many bytes of a key stand for the number of a page of a set.
pub(crate) const PAGE_BYTES: usize = 8;

/// What the keys of all accounts begin with, each followed by a server.
pub(crate) const ACCOUNTS: [&[u8]; 3] = [OFFERED, PUSHED, BUNDLE_OFFERED];

/// What the keys of the account of a server begin with.
pub(crate) fn account_prefixes(server: &str) -> [Vec<u8>; 3] {
    ACCOUNTS.map(|kind| under(kind, server))
}

/// The name that follows a prefix in a key, up to the 0 behind it.
pub(crate) fn first_name(prefix: &[u8], key: &[u8]) -> Text {
    name_at(prefix, key, 0)
}

/// The name behind that.
pub(crate) fn second_name(prefix: &[u8], key: &[u8]) -> Text {
    name_at(prefix, key, 1)
}

fn name_at(prefix: &[u8], key: &[u8], place: usize) -> Text {
    let rest = key.get(prefix.len()..).unwrap_or_default();
    let name = rest.split(|byte| *byte == 0).nth(place);
    String::from_utf8_lossy(name.unwrap_or_default())
        .as_ref()
        .into()
}

/// What the keys of the copies begin with that relations with a server bring.
pub(crate) fn kept_by(server: &str) -> Vec<u8> {
    under(KEPT, server)
}

/// What the keys of the copies begin with that one relation brings.
pub(crate) fn kept_prefix(server: &str, relation: &str) -> Vec<u8> {
    [&kept_by(server)[..], relation.as_bytes(), &[0]].concat()
}

/// What the pages of the set of what a replica was offered begin with: the number of the page follows.
pub(crate) fn offered_prefix(server: &str, relation: &str) -> Vec<u8> {
    [&under(OFFERED, server)[..], relation.as_bytes(), &[0]].concat()
}

pub(crate) fn lacking_prefix(relation: &str) -> Vec<u8> {
    under(LACKING, relation)
}

/// What the keys of the objects that a replica does not get begin with.
pub(crate) fn withheld_prefix(server: &str, relation: &str) -> Vec<u8> {
    [&under(WITHHELD, server)[..], relation.as_bytes(), &[0]].concat()
}

/// The key of the transport key that wraps for the RSA key with these identifiers here and at its owner.
pub(crate) fn transport(here: &str, there: &str) -> Vec<u8> {
    [&under(TRANSPORT, here)[..], there.as_bytes()].concat()
}

pub(crate) fn give_back(server: &str) -> Vec<u8> {
    named(GIVE_BACK, server)
}

pub(crate) fn waived(server: &str, now: DateTime, by: &str) -> Vec<u8> {
    let time = now.0.to_be_bytes();
    [WAIVED, server.as_bytes(), b"/", &time, b"/", by.as_bytes()].concat()
}

pub(crate) fn failed_give_back(server: &str, id: &ObjectId) -> keyferry_store::Result<Vec<u8>> {
    about(failed_give_backs_prefix(server), id)
}

pub(crate) fn receipt(id: &ObjectId) -> keyferry_store::Result<Vec<u8>> {
    about(RECEIPT.to_vec(), id)
}

pub(crate) fn emergency_revoke(id: &ObjectId) -> keyferry_store::Result<Vec<u8>> {
    about(EMERGENCY_REVOKE.to_vec(), id)
}

pub(crate) fn compromised_twin(id: &ObjectId) -> keyferry_store::Result<Vec<u8>> {
    about(COMPROMISED_TWIN.to_vec(), id)
}

pub(crate) fn ended(incarnation: &[u8]) -> Vec<u8> {
    [ENDED, incarnation].concat()
}

pub(crate) fn refused_copies_prefix(server: &str) -> Vec<u8> {
    under(REFUSED_COPY, server)
}

pub(crate) fn alarm(server: &str, kind: u32) -> Vec<u8> {
    [&under(ALARM, server)[..], &kind.to_be_bytes()].concat()
}

pub(crate) fn failed_give_backs_prefix(server: &str) -> Vec<u8> {
    [FAILED_GIVE_BACK, server.as_bytes(), b"/"].concat()
}

/// What the keys of the forks of one object begin with.
pub(crate) fn forks_prefix(id: &ObjectId) -> keyferry_store::Result<Vec<u8>> {
    Ok([&about(FORK.to_vec(), id)?[..], b"/"].concat())
}

/// The key of the fork of one line: one object, epoch, issuer and reign.
pub(crate) fn fork(id: &ObjectId, stamp: &Stamp) -> keyferry_store::Result<Vec<u8>> {
    let epoch = stamp.epoch.to_be_bytes();
    let line = [
        &stamp.incarnation[..],
        b"/",
        &epoch,
        stamp.issuer.as_bytes(),
    ]
    .concat();
    Ok([forks_prefix(id)?, line].concat())
}

/// The key under which earlier builds kept a fork.
pub(crate) fn fork_by_reign(id: &ObjectId, stamp: &Stamp) -> keyferry_store::Result<Vec<u8>> {
    Ok([&forks_prefix(id)?[..], &stamp.incarnation].concat())
}

/// What the keys of the decisions about one object begin with.
pub(crate) fn fork_decisions_prefix(id: &ObjectId) -> keyferry_store::Result<Vec<u8>> {
    Ok([&about(FORK_DECISION.to_vec(), id)?[..], b"/"].concat())
}

pub(crate) fn fork_decision(
    id: &ObjectId,
    at: DateTime,
    dropped: &Stamp,
) -> keyferry_store::Result<Vec<u8>> {
    let prefix = fork_decisions_prefix(id)?;
    Ok([&prefix[..], &at.0.to_be_bytes(), &dropped.incarnation].concat())
}

/// What the keys of all that waits for one object begin with: the identifier of what waits follows.
pub(crate) fn awaited_prefix(id: &ObjectId) -> keyferry_store::Result<Vec<u8>> {
    Ok([&about(AWAITED.to_vec(), id)?[..], b"/"].concat())
}

pub(crate) fn foreign_master(relation: &str) -> Vec<u8> {
    named(FOREIGN_MASTER, relation)
}

pub(crate) fn foreign_retry_prefix(relation: &str) -> Vec<u8> {
    under(FOREIGN_RETRY, relation)
}

pub(crate) fn foreign_missing_prefix(relation: &str) -> Vec<u8> {
    under(FOREIGN_MISSING, relation)
}

pub(crate) fn foreign_counts(relation: &str) -> Vec<u8> {
    named(FOREIGN_COUNTS, relation)
}

/// What the lists of what an observing pass has taken begin with: the numbers of the session and of the page follow.
pub(crate) fn foreign_taken_prefix(relation: &str) -> Vec<u8> {
    under(FOREIGN_TAKEN, relation)
}

pub(crate) fn foreign_replica(relation: &str) -> Vec<u8> {
    named(FOREIGN_REPLICA, relation)
}

pub(crate) fn published_retry_prefix(relation: &str) -> Vec<u8> {
    under(PUBLISHED_RETRY, relation)
}

pub(crate) fn published_counts(relation: &str) -> Vec<u8> {
    named(PUBLISHED_COUNTS, relation)
}

/// What the map of identifiers of one transfer begins with.
pub(crate) fn there_prefix(transfer: &str) -> Vec<u8> {
    under(THERE, transfer)
}

pub(crate) fn here(transfer: &str, identifier_there: &str) -> Vec<u8> {
    [&under(HERE, transfer)[..], identifier_there.as_bytes()].concat()
}

pub(crate) fn probe(transfer: &str) -> Vec<u8> {
    named(PROBE, transfer)
}

pub(crate) fn bulk(transfer: &str) -> Vec<u8> {
    named(BULK, transfer)
}

pub(crate) fn register(transfer: &str) -> Vec<u8> {
    named(REGISTER, transfer)
}

pub(crate) fn pull(transfer: &str) -> Vec<u8> {
    named(PULL, transfer)
}

/// What the lists of what a pull has taken begin with: the numbers of the session and of the page follow.
pub(crate) fn pulled_prefix(transfer: &str) -> Vec<u8> {
    under(PULLED, transfer)
}

/// The progress of the execution of a plan, which is none of the transfer without one.
pub(crate) fn plan(transfer: &[u8]) -> Vec<u8> {
    [PLAN, transfer].concat()
}

pub(crate) fn ended_relation(relation: &str) -> Vec<u8> {
    named(ENDED_RELATION, relation)
}

pub(crate) fn sender(server: &str) -> Vec<u8> {
    named(SENDER, server)
}

pub(crate) fn pushed_prefix(server: &str, transfer: &str, instance: &[u8]) -> Vec<u8> {
    let transfer = [transfer.as_bytes(), &[0]].concat();
    [&under(PUSHED, server)[..], &transfer, instance, &[0]].concat()
}

/// Whether what the keys of an account begin with is of a server of this instance, as far as it says.
pub(crate) fn is_of_instance(prefix: &[u8], instance: &[u8]) -> bool {
    let end = [&[0], instance, &[0]].concat();
    !prefix.starts_with(PUSHED) || prefix.ends_with(&end)
}

pub(crate) fn bundle_offered_prefix(recipient: &str) -> Vec<u8> {
    under(BUNDLE_OFFERED, recipient)
}

/// The key of the number of the last bundle for a recipient.
pub fn bundle_number(recipient: &str) -> Vec<u8> {
    named(BUNDLE_NUMBER, recipient)
}

/// The key of how far a bundle was applied.
pub fn bundle_applied(bundle: &[u8]) -> Vec<u8> {
    [BUNDLE_APPLIED, bundle].concat()
}

/// The key of which member of an Object Group was named last as the default; `group` is the group's index key.
pub fn group_member(group: &[u8]) -> Vec<u8> {
    [GROUP_MEMBER, group].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use keyferry_kmip::Secret;
    use keyferry_store::{Home, Incarnation, Memory, Span, StoreExt};
    use keyferry_ttlv::Extra;
    use std::ops::ControlFlow;
    use std::path::{Path, PathBuf};

    fn row(key: &[u8]) -> Option<&'static StateKey> {
        STATE_KEYS.iter().find(|row| key.starts_with(row.prefix))
    }

    #[test]
    fn no_prefix_is_the_beginning_of_another() {
        for (place, one) in STATE_KEYS.iter().enumerate() {
            for (_, other) in STATE_KEYS.iter().enumerate().filter(|(at, _)| *at != place) {
                let shadows = other.prefix.starts_with(one.prefix);
                assert!(!shadows, "{:?} begins like {:?}", other.holds, one.holds);
            }
        }
    }

    /// One key of each function.
    fn keys() -> keyferry_store::Result<Vec<Vec<u8>>> {
        let mut keys = keys_of_accounts();
        keys.extend(other_keys()?);
        Ok(keys)
    }

    fn keys_of_accounts() -> Vec<Vec<u8>> {
        vec![
            offered_prefix("s", "r"),
            bundle_offered_prefix("r"),
            pushed_prefix("s", "t", b"i"),
            kept_prefix("s", "r"),
        ]
    }

    fn other_keys() -> keyferry_store::Result<Vec<Vec<u8>>> {
        let id = ObjectId {
            server: "s".into(),
            instance: vec![1; 16],
            identifier: "o".into(),
        };
        let stamp = Stamp::first(&"s".into(), Incarnation([2; 16]));
        let now = DateTime(1);
        Ok(vec![
            downstream("s", "r"),
            upstream("r"),
            about(retry_prefix("r"), &id)?,
            about(differing_prefix("r"), &id)?,
            rotten(RecordNumber(1)),
            SCRUB.to_vec(),
            about(missing_prefix("r"), &id)?,
            about(done_prefix("r"), &id)?,
            give_back("s"),
            waived("s", now, "p"),
            failed_give_back("s", &id)?,
            fork(&id, &stamp)?,
            fork_by_reign(&id, &stamp)?,
            receipt(&id)?,
            ended(b"i"),
            emergency_revoke(&id)?,
            compromised_twin(&id)?,
            CLOCK.to_vec(),
            refused_copies_prefix("s"),
            alarm("s", 1),
            fork_decision(&id, now, &stamp)?,
            awaited_prefix(&id)?,
            foreign_master("r"),
            about(foreign_retry_prefix("r"), &id)?,
            about(foreign_missing_prefix("r"), &id)?,
            foreign_counts("r"),
            foreign_taken_prefix("r"),
            foreign_replica("r"),
            about(published_retry_prefix("r"), &id)?,
            published_counts("r"),
            about(there_prefix("t"), &id)?,
            here("t", "o"),
            probe("t"),
            bulk("t"),
            register("t"),
            pull("t"),
            pulled_prefix("t"),
            plan(&pull("t")),
            ended_relation("r"),
            sender("s"),
            bundle_number("r"),
            bundle_applied(b"b"),
            about(withheld_prefix("s", "r"), &id)?,
            about(lacking_prefix("r"), &id)?,
            transport("h", "t"),
            group_member(b"g"),
        ])
    }

    #[test]
    fn every_key_begins_with_a_row_of_its_own() {
        let keys = keys().unwrap();
        let mut found: Vec<_> = keys.iter().filter_map(|key| row(key)).collect();
        assert_eq!(found.len(), keys.len());
        found.extend([HOME, REIGN, SEAL].into_iter().filter_map(row));
        let in_table = |row: &&StateKey| STATE_KEYS.iter().position(|other| other == *row);
        found.sort_by_key(in_table);
        found.dedup();
        assert!(found.into_iter().eq(STATE_KEYS));
    }

    #[test]
    fn what_a_store_keeps_of_itself_has_a_row() {
        let store = Memory::new(Incarnation([1; 16]));
        let home = || Home {
            server: "s".into(),
            instance: vec![2; 16],
            fingerprint_key: Secret::new(&[3; 32]),
            extra: Extra::NONE,
        };
        store.home("s", home).unwrap();
        store.begin_reign([4; 16]).unwrap();
        let mut kept = Vec::new();
        store
            .view::<_, keyferry_store::Error>(|snapshot| {
                snapshot.state(&Span::prefix(b""), &mut |key, _| {
                    kept.push(key.to_vec());
                    Ok(ControlFlow::Continue(()))
                })
            })
            .unwrap();
        assert_eq!(kept, [HOME, REIGN]);
    }

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }

    /// Byte strings that look like a prefix stand here and nowhere else.
    #[test]
    fn no_other_file_makes_keys() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut files = Vec::new();
        for name in ["s2s", "bundle", "server", "store"] {
            sources(&crates.join(name).join("src"), &mut files);
        }
        for path in files
            .iter()
            .filter(|path| !path.ends_with("relation/keys.rs"))
        {
            let text = std::fs::read_to_string(path).unwrap();
            for literal in text.split("b\"").skip(1) {
                let literal = literal.split('"').next().unwrap_or_default();
                let is_prefix = literal.len() > 1 && literal.ends_with('/');
                assert!(!is_prefix, "{}: b\"{literal}\"", path.display());
            }
        }
    }
}
