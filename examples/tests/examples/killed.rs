//! A replica is killed at random moments while its master's objects change, and is the same in the end. `KEYFERRY_KILLED` = "objects changes
//! kills" makes it larger than the few thousand that it takes by default: "100000 10000 20", for example.

use keyferry_examples::host::{self, Files, Host};
use keyferry_examples::site::{self, OPERATOR};
use keyferry_examples::{follower, pki::Pki, runtime};
use keyferry_kmip::spec::{AttributeValue as V, CryptographicAlgorithm};
use keyferry_kmip::*;
use keyferry_net::{ClientConfig, Connector};
use keyferry_s2s::{FollowOptions, Peer, Policy, UpstreamOptions};
use keyferry_store::StoreExt;
use keyferry_ttlv::{Extra, Version};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PLACE: &str = "KEYFERRY_KILLED_PLACE";

/// The other process: a replica, until it is killed.
#[test]
fn a_replica_to_be_killed() {
    let Some(place) = std::env::var_os(PLACE) else {
        return;
    };
    let (address, folder) = place
        .to_str()
        .unwrap()
        .split_once(' ')
        .map(|(a, f)| (a, PathBuf::from(f)))
        .unwrap();
    runtime().unwrap().block_on(async {
        let credentials = Pki::open(folder.join("pki"))
            .unwrap()
            .credentials("replica", &[])
            .unwrap();
        let files = Files::beside(folder.join("replica.redb"));
        let here = host::start(
            "replica",
            &files,
            "127.0.0.1:0",
            &credentials,
            Policy::closed(),
        )
        .await
        .unwrap();
        let connector = Connector::new(
            address,
            ClientConfig::new(&credentials, "127.0.0.1").unwrap(),
        );
        let options = FollowOptions {
            batch: 200,
            ..FollowOptions::new("copies", Peer::new("master")).every(20)
        };
        follower::follow(&here, &UpstreamOptions::default(), options, connector)
            .unwrap()
            .await
            .unwrap();
    });
}

/// The replica in its process; it ends with the test.
struct Replica(Child);

impl Replica {
    fn start(folder: &Path, address: &str) -> Replica {
        let place = format!("{address} {}", folder.display());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "killed::a_replica_to_be_killed", "--nocapture"])
            .env(PLACE, place);
        Replica(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.0.kill(); // SIGKILL: it gets to do nothing more
        let _ = self.0.wait();
    }
}

/// splitmix64
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

fn call(host: &Host, items: Vec<RequestItem>) {
    let caller = Identity::new(OPERATOR);
    let frame = RequestMessage::new(Version::V2_1, items)
        .to_frame()
        .unwrap();
    let Answer::Reply(answer) = host.server.answer(&caller, keyferry_net::clock(), &frame) else {
        panic!("no answer")
    };
    assert!(
        ResponseMessage::from_frame(&answer)
            .unwrap()
            .batch
            .iter()
            .all(ResponseItem::is_success)
    );
}

fn import(n: u64) -> RequestItem {
    let bytes: Vec<u8> = (0..2)
        .flat_map(|w| {
            (n * 2 + w)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .to_be_bytes()
        })
        .collect();
    let object = Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&bytes));
    let request = ImportRequest {
        unique_identifier: format!("key {n}").as_str().into(),
        object_type: Some(object.object_type()),
        replace_existing: None,
        key_wrap_type: None,
        attributes: site::named(format!("name of key {n}")).with(V::Comment("first".into())),
        object: Some(object),
        extra: Extra::NONE,
    };
    RequestItem::new(&request, context(Version::V2_1)).unwrap()
}

/// What clients do, in so many changes: most change an attribute, some make an object, some destroy one.
struct Clients {
    objects: u64,
    destroyed: u64,
    done: u64,
}

impl Clients {
    fn change(&mut self, host: &Host, rng: &mut Rng, many: u64) {
        let cx = context(Version::V2_1);
        let mut items = Vec::new();
        for _ in 0..many {
            self.done += 1;
            items.push(match rng.below(20) {
                0 => {
                    self.objects += 1;
                    import(self.objects - 1)
                }
                // The oldest go first, so that nobody changes what is gone.
                1 => {
                    self.destroyed += 1;
                    let identifier = Some(format!("key {}", self.destroyed - 1).as_str().into());
                    RequestItem::new(
                        &DestroyRequest {
                            unique_identifier: identifier,
                            extra: Extra::NONE,
                        },
                        cx,
                    )
                    .unwrap()
                }
                _ => {
                    let n = self.destroyed + 1000 + rng.below(self.objects - self.destroyed - 1000);
                    let request = ModifyAttributeRequest {
                        unique_identifier: Some(format!("key {n}").as_str().into()),
                        attribute: [V::Comment(format!("change {}", self.done).as_str().into())]
                            .into_iter()
                            .collect(),
                        current: Attributes::new(),
                        extra: Extra::NONE,
                    };
                    RequestItem::new(&request, cx).unwrap()
                }
            });
        }
        call(host, items);
    }
}

#[test]
fn a_replica_that_is_killed_again_and_again_is_the_same_in_the_end() {
    if std::env::var_os(PLACE).is_some() {
        return;
    }
    let sizes = std::env::var("KEYFERRY_KILLED").unwrap_or_else(|_| "5000 2000 8".into());
    let sizes: Vec<u64> = sizes
        .split_whitespace()
        .map(|size| size.parse().unwrap())
        .collect();
    let [objects, changes, kills] = sizes[..] else {
        panic!("objects, changes and kills")
    };
    assert!(objects >= 2000, "some are always left to be changed");
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut rng = Rng(seed);
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::open(folder.path().join("pki")).unwrap();
    pki.credentials("replica", &[]).unwrap();
    let credentials = pki.credentials("master", &[]).unwrap();
    let runtime = runtime().unwrap();
    let policy = Policy::closed().with("replica", Peer::new("replica").may_follow());
    let files = Files::beside(folder.path().join("master.redb"));
    let master = runtime
        .block_on(host::start(
            "master",
            &files,
            "127.0.0.1:0",
            &credentials,
            policy,
        ))
        .unwrap();
    let address = master.handle.local_addr().to_string();
    for first in (0..objects).step_by(500) {
        call(
            &master,
            (first..objects.min(first + 500)).map(import).collect(),
        );
    }
    let started = Instant::now();
    let mut clients = Clients {
        objects,
        destroyed: 0,
        done: 0,
    };
    let (mut midway, mut progress) = (0, Vec::new());
    for kill in 1..=kills {
        let replica = Replica::start(folder.path(), &address);
        let requests = master.handle.counters().requests();
        // It has begun to follow by then; how far it gets is left to chance.
        let patience = Instant::now() + Duration::from_secs(30);
        while master.handle.counters().requests() == requests {
            assert!(Instant::now() < patience, "the replica does not ask");
            std::thread::sleep(Duration::from_millis(1));
        }
        let until = Instant::now() + Duration::from_millis(rng.below(700 + objects / 25));
        while clients.done < changes * kill / kills || Instant::now() < until {
            let left = (changes * kill / kills).saturating_sub(clients.done);
            if left > 0 {
                let many = left.min(1 + rng.below(60));
                clients.change(&master, &mut rng, many);
                std::thread::sleep(Duration::from_millis(rng.below(20)));
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        drop(replica);
        let behind = follower::lag(&*master.store).unwrap();
        midway += u64::from(behind.iter().any(|behind| *behind > 0));
        progress.push(behind);
    }
    println!(
        "{} changes, {kills} kills in {:.1} s; behind by then: {progress:?}",
        clients.done,
        started.elapsed().as_secs_f64()
    );
    assert_eq!(clients.done, changes);
    assert!(midway > 0, "it was killed only when it had nothing to do");
    let replica = Replica::start(folder.path(), &address);
    // One more change, so that the last of all is new to it.
    clients.change(&master, &mut rng, 1);
    let patience = Instant::now() + Duration::from_secs(60 + objects / 500);
    while follower::lag(&*master.store).unwrap() != [0] {
        assert!(Instant::now() < patience, "it does not catch up");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(replica);
    let store = host::open(
        &Files::beside(folder.path().join("replica.redb")),
        &Policy::closed(),
    )
    .unwrap();
    let same = follower::compare(&*master.store, &*store).unwrap();
    let count = store
        .view::<_, keyferry_store::Error>(|snapshot| snapshot.count())
        .unwrap();
    assert_eq!(count, same, "the replica holds nothing else");
    println!(
        "{same} objects are the same after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    // Those that were destroyed before the replica got them need not be there.
    assert!(
        same >= clients.objects - clients.destroyed && same <= clients.objects,
        "{same}"
    );
    runtime.block_on(master.handle.shutdown());
}
