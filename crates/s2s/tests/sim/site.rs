//! One server: its disk, its clock, and how it answers.

use crate::rng::Rng;
use keyferry_crypto::Ring;
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_store::{
    Deferred, Effects, Home, Incarnation, Memory, ObjectId, Record, RecordNumber, SnapshotExt,
    Store, StoreExt,
};
use keyferry_ttlv::{Extra, Version};
use std::sync::Arc;

/// When runs begin.
pub const START: i64 = 1_700_000_000;

pub struct Site {
    pub name: String,
    pub policy: Policy,
    /// What is on the disk: a crash loses nothing of it, and all that is not there.
    pub disk: Memory,
    pub node: Arc<Node>,
    /// Seconds that its clock is off.
    pub skew: i64,
    pub up: bool,
    pub backups: Vec<Memory>,
    /// The incarnation that was lost when an older disk was put in, if nobody has said so.
    pub lost: Option<Incarnation>,
    /// Whether an older disk was ever put in.
    pub was_restored: bool,
    pub rng: Rng,
}

pub fn identity(name: &str) -> Identity {
    Identity::new(format!("{name}.example"))
}

fn open(name: &str, policy: &Policy, disk: &Memory, rng: &mut Rng) -> Arc<Node> {
    let (instance, key) = (rng.id(), rng.id());
    let home = disk
        .home(name, || Home {
            server: name.into(),
            instance: instance.to_vec(),
            fingerprint_key: Secret::new(&key),
            extra: Extra::NONE,
        })
        .unwrap();
    disk.begin_reign(rng.id()).unwrap();
    let crypto = Arc::new(Ring::new());
    Arc::new(Node::new(home, policy.clone(), crypto))
}

impl Site {
    pub fn new(name: &str, policy: Policy, mut rng: Rng) -> Site {
        let disk = Memory::new(Incarnation(rng.id()));
        let node = open(name, &policy, &disk, &mut rng);
        Site {
            name: name.into(),
            policy,
            disk,
            node,
            skew: 0,
            up: true,
            backups: Vec::new(),
            lost: None,
            was_restored: false,
            rng,
        }
    }

    /// Starts again from what is on the disk.
    pub fn restart(&mut self) {
        self.node = open(&self.name, &self.policy, &self.disk, &mut self.rng);
    }

    /// Puts an older disk in.
    pub fn restore(&mut self, older: Memory, told: bool, now: Now) {
        self.disk = older;
        self.was_restored = true;
        self.lost = (!told).then(|| self.incarnation());
        if told {
            let incarnation = Incarnation(self.rng.id());
            begin_restored(&self.disk, &self.policy, incarnation, now.wall).unwrap();
        }
        self.restart();
    }

    pub fn ask<'a>(
        &'a self,
        snapshot: &'a dyn keyferry_store::Snapshot,
        caller: &'a Identity,
        operation: spec::Operation,
        now: Now,
        random: &'a mut Rng,
    ) -> Ask<'a> {
        Ask::new(snapshot, caller, operation, now, random)
            .by_client(caller.name.starts_with("client"))
    }

    /// Answers a message as a server does: one commit, and no changes of its own while something is owed to it.
    pub fn answer(
        &mut self,
        caller: &Identity,
        now: Now,
        message: &RequestMessage,
    ) -> ResponseMessage {
        let mut random = self.rng.clone();
        let items = self.disk.transact::<_, Error>(|transaction| {
            random = self.rng.clone();
            let mut world = Deferred::new(transaction);
            let mut items = Vec::new();
            for item in &message.batch {
                let mut ask = self.ask(&world, caller, item.operation, now, &mut random);
                let outcome = self
                    .node
                    .respond(&mut ask, item)
                    .expect("an operation of ours")
                    .and_then(|outcome| {
                        let own = self.node.changes_own_objects(&outcome.effects);
                        if own && item.operation != GIVE_BACK {
                            check_no_pending_give_back(&world)?;
                        }
                        Ok(outcome)
                    });
                match outcome {
                    Ok(outcome) => {
                        world.add(outcome.effects)?;
                        items.push(outcome.response);
                    }
                    Err(failure) => items.push(ResponseItem::failure(
                        Some(item.operation),
                        &failure,
                        Version::V2_1,
                    )),
                }
            }
            world.finish()?;
            Ok(items)
        });
        self.rng = random;
        ResponseMessage::new(Version::V2_1, now.wall, items.unwrap())
    }

    /// A change of one of its own objects, or a new one, by a client. `false` when it was refused.
    pub fn change(
        &mut self,
        now: Now,
        change: impl Fn(&Site, &mut Ask<'_>) -> Result<Effects, Failure>,
    ) -> bool {
        let mut random = self.rng.clone();
        let caller = identity("client");
        let done = self.disk.transact::<_, Error>(|transaction| {
            random = self.rng.clone();
            if check_no_pending_give_back(transaction).is_err() {
                return Ok(false);
            }
            let mut ask = self.ask(
                transaction,
                &caller,
                spec::Operation::IMPORT,
                now,
                &mut random,
            );
            match change(self, &mut ask) {
                Ok(mut effects) => {
                    self.node
                        .spread_compromise(transaction, now.wall, &mut effects)?;
                    effects.apply(transaction)?;
                    Ok(!effects.is_empty())
                }
                Err(_) => Ok(false),
            }
        });
        self.rng = random;
        done.unwrap()
    }

    /// An emergency Revoke by a client, which is taken anywhere and at any time. `false` when it was refused.
    pub fn emergency(&mut self, now: Now, id: &ObjectId) -> bool {
        let mut random = self.rng.clone();
        let caller = identity("client");
        self.disk
            .transact::<_, Error>(|transaction| {
                let operation = spec::Operation::REVOKE;
                let ask = self.ask(transaction, &caller, operation, now, &mut random);
                let Some(held) = transaction.by_object_id(id)? else {
                    return Ok(false);
                };
                let reason = RevocationReason {
                    code: spec::RevocationReasonCode::KEY_COMPROMISE,
                    message: None,
                    extra: Extra::NONE,
                };
                let Ok(mut effects) = self.node.revoke_compromised(&ask, held, reason, None) else {
                    return Ok(false);
                };
                self.node
                    .spread_compromise(transaction, now.wall, &mut effects)?;
                effects.apply(transaction)?;
                Ok(true)
            })
            .unwrap()
    }

    /// Makes changes of what was revoked while it waited.
    pub fn settle_emergencies(&mut self, now: Now) {
        self.disk
            .transact::<_, Error>(|transaction| {
                let mut effects =
                    settle_emergency_revokes(&self.node, transaction, now.wall, usize::MAX)?;
                self.node
                    .spread_compromise(transaction, now.wall, &mut effects)?;
                if !effects.is_empty() {
                    effects.apply(transaction)?;
                }
                Ok(())
            })
            .unwrap();
    }

    /// The objects that were revoked in an emergency, and whose issuer has not said so.
    pub fn emergencies(&self) -> Vec<ObjectId> {
        let all = self
            .disk
            .view::<_, Error>(|snapshot| EmergencyRevoke::all(snapshot));
        all.unwrap().into_iter().map(|one| one.id).collect()
    }

    /// The servers that it waits for.
    pub fn owes(&self) -> Vec<String> {
        self.disk
            .view::<_, Error>(|snapshot| PendingGiveBack::all(snapshot))
            .unwrap()
            .into_iter()
            .map(|owed| owed.server.to_string())
            .collect()
    }

    pub fn incarnation(&self) -> Incarnation {
        self.disk
            .view::<_, keyferry_store::Error>(|snapshot| snapshot.incarnation())
            .unwrap()
    }

    /// How many entries its s2s state has.
    pub fn entries(&self) -> usize {
        let mut count = 0;
        self.disk
            .view::<_, keyferry_store::Error>(|snapshot| {
                count = 0;
                snapshot.state(&keyferry_store::Span::prefix(b""), &mut |_, _| {
                    count += 1;
                    Ok(std::ops::ControlFlow::Continue(()))
                })
            })
            .unwrap();
        count
    }

    pub fn record(&self, id: &ObjectId) -> Option<(RecordNumber, Record)> {
        self.disk
            .view::<_, keyferry_store::Error>(|snapshot| snapshot.by_object_id(id))
            .unwrap()
    }

    /// The relations that bring the copy of an object.
    pub fn relations_of(&self, id: &ObjectId) -> Vec<Text> {
        let found = self.disk.view::<_, Error>(|snapshot| {
            let mut relations = Vec::new();
            let Some((number, _)) = snapshot.by_object_id(id)? else {
                return Ok(relations);
            };
            for upstream in Upstream::all(snapshot)? {
                if upstream.brings(snapshot, number)? {
                    relations.push(upstream.relation);
                }
            }
            Ok(relations)
        });
        found.unwrap()
    }

    /// Everything that it holds.
    pub fn records(&self) -> Vec<Record> {
        let mut numbers = Vec::new();
        self.disk
            .read(&mut |snapshot| {
                numbers.clear();
                snapshot.feed(0, &mut |row| {
                    numbers.push(row.record);
                    Ok(std::ops::ControlFlow::Continue(()))
                })
            })
            .unwrap();
        self.disk
            .view::<_, keyferry_store::Error>(|snapshot| {
                numbers
                    .iter()
                    .map(|number| Ok(snapshot.record(*number)?.unwrap()))
                    .collect()
            })
            .unwrap()
    }

    pub fn material(&self, id: &ObjectId) -> Option<Object> {
        self.disk
            .view::<_, keyferry_store::Error>(|snapshot| {
                let Some((number, _)) = snapshot.by_object_id(id)? else {
                    return Ok(None);
                };
                Ok(snapshot.whole(number)?.and_then(|(_, object)| object))
            })
            .unwrap()
    }

    pub fn forks(&self) -> Vec<Fork> {
        self.disk
            .view::<_, Error>(|snapshot| Fork::all(snapshot))
            .unwrap()
    }
}
