//! What a replica makes of what an answer says about all that was told.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod accounts;
mod searches;

use super::*;
use crate::compare::leaf::LeafSum;
use crate::compare::sketch::to_bytes;
use crate::follow::apply::Applied;
use crate::follow::options::FollowOptions;
use crate::policy::Peer;
use crate::relation::followed::UpstreamOptions;
use crate::testing::{TestServer, note_kept};
use crate::wire::follow::Answer;
use crate::wire::place::Place;
use keyferry_crypto::SystemRandom;
use keyferry_kmip::{DateTime, Now};
use keyferry_store::record::bytes_of;
use keyferry_store::{Effects, Material, Memory, Overlay};
use keyferry_ttlv::Extra;

/// The server `a`, which follows `c` and has so many copies of it.
struct Replica {
    store: Memory,
    follow: Follow,
    now: Now,
    copies: Vec<Record>,
    /// Whether the last question was about what differs.
    /// The records that the next answer moves in the relation's account.
    moved: Vec<RecordNumber>,
    /// What the next answer writes, and tells.
    written: Option<Written>,
    told: Told,
    has_asked: bool,
}

const KEY: [u8; KEY_BYTES] = [6; KEY_BYTES];

fn key() -> ProofKey {
    ProofKey::new(KEY)
}

fn leaf(record: &Record) -> Leaf {
    key().leaf(&record.id, CopySum::of_record(record).unwrap())
}

impl Replica {
    fn with(copies: usize) -> Replica {
        let server = TestServer::new(|peer| peer);
        let what = UpstreamOptions::default();
        let now = server.now();
        Upstream::follow(&server.store, "r", "c", &what, now.wall).unwrap();
        let own = server.key("own", Vec::new());
        let like = server.record(&own).unwrap();
        let records: Vec<Record> = (0..copies)
            .map(|n| {
                let mut record = like.clone();
                record.id.server = "c".into();
                record.id.identifier = format!("{n}").as_str().into();
                record.identifier = record.id.identifier.clone();
                record.stamp.issuer = "c".into();
                record.overlay = Some(Overlay::default());
                record
            })
            .collect();
        for record in &records {
            server.apply(Effects::change(None, record.clone(), Material::Keep));
            note_kept(&server.store, ("c", "r"), &record.id, true);
        }
        let TestServer { node, store, .. } = server;
        let options = FollowOptions::new("r", Peer::new("c"));
        let mut replica = Replica {
            store,
            follow: Follow::new(node.into(), options),
            now,
            copies: records,
            has_asked: false,
            moved: Vec::new(),
            written: None,
            told: Told::new(),
        };
        replica.begin();
        replica
    }

    fn in_session<T>(&mut self, f: impl FnOnce(&mut Follow, &SessionContext<'_>) -> T) -> T {
        let cx = SessionContext {
            now: self.now,
            store: &self.store,
            random: &mut SystemRandom::new(),
        };
        f(&mut self.follow, &cx)
    }

    /// Begins a session, of a relation that has come to the head.
    fn begin(&mut self) {
        self.in_session(|follow, cx| {
            follow.begin(cx, 0).unwrap();
            let session = follow.session();
            let upstream = follow
                .change_upstream(cx, session, |upstream| {
                    (upstream.anew, upstream.checking) = (None, None);
                })
                .unwrap();
            follow.upstream = Some(upstream);
        });
    }

    fn upstream(&self) -> Upstream {
        let found = self
            .store
            .view::<_, Error>(|snapshot| Upstream::find(snapshot, "r"));
        found.unwrap().unwrap()
    }

    fn hear(&mut self, answer: &FollowResponse) -> Option<Upstream> {
        self.hear_as(answer, self.upstream(), Vec::new())
    }

    fn hear_as(
        &mut self,
        answer: &FollowResponse,
        upstream: Upstream,
        differing: Vec<(ObjectId, Option<Option<CopySum>>)>,
    ) -> Option<Upstream> {
        let applied = Applied {
            differing,
            moved: std::mem::take(&mut self.moved),
            written: self.written.take(),
            told: std::mem::take(&mut self.told),
            ..Applied::none(upstream)
        };
        let asked = Asked {
            acknowledged: Vec::new(),
            again: Vec::new(),
            searches: std::mem::take(&mut self.has_asked),
            checked: crate::follow::Checked::NoFurther,
        };
        self.in_session(|follow, cx| follow.compare(cx, answer, (&asked, &applied)).unwrap())
    }

    /// What the next question asks.
    fn asks(&mut self) -> Searched {
        let upstream = self.upstream();
        let Replica { store, follow, .. } = self;
        let asked = store
            .view(|snapshot| follow.comparison.ask(snapshot, &upstream))
            .unwrap();
        self.has_asked = asked.is_about_objects();
        asked
    }

    /// Lists a copy in the store.
    fn list(&self, row: &DifferingCopy) {
        let prefix = crate::relation::keys::differing_prefix("r");
        let key = crate::relation::keys::about(prefix, &row.id).unwrap();
        let value = Some(bytes_of(row).unwrap());
        let mut effects = Effects::none();
        effects.state.push((key, value));
        self.store
            .transact::<_, keyferry_store::Error>(|transaction| effects.apply(transaction))
            .unwrap();
    }

    fn alarms(&self) -> Vec<AlarmKind> {
        let all = self
            .store
            .view::<_, Error>(|snapshot| Alarm::all(snapshot))
            .unwrap();
        all.iter().map(|alarm| alarm.kind).collect()
    }

    fn is_searching(&self) -> bool {
        self.follow.comparison.is_searching()
    }
}

/// An answer at the head that says that these leaves were told, with the cells in this range.
fn saying(leaves: &[Leaf], range: Option<std::ops::Range<u32>>) -> FollowResponse {
    let mut sum = LeafSum::default();
    leaves.iter().for_each(|leaf| sum.add(&key(), *leaf));
    let made = |range: std::ops::Range<u32>| {
        to_bytes(&cells(&Key::new(KEY), leaves.iter().copied(), range))
    };
    let from = range.as_ref().map_or(0, |range| range.start);
    let proof = SetProof {
        key: KEY.to_vec(),
        sum: Some(sum.bytes()),
        count: Some(sum.count),
        cells: range.map(made),
        cells_from: i32::try_from(from).ok().filter(|from| *from > 0),
        extra: Extra::NONE,
    };
    let head = Place {
        incarnation: vec![8; 16],
        number: 7,
        commit: vec![8; 32],
        ..Place::default()
    };
    FollowResponse {
        wanted_back: Vec::new(),
        answer: Answer::CHANGES,
        server: "c".into(),
        instance: vec![9; 16],
        reign: vec![5; 16],
        session: 1,
        behind: None,
        place: head.clone(),
        head,
        changes: Vec::new(),
        terms: None,
        offers: 0,
        check: None,
        time: None,
        keeps: Vec::new(),
        proof: Some(proof),
        extra: Extra::NONE,
    }
}

fn leaves(copies: &[Record]) -> Vec<Leaf> {
    copies.iter().map(leaf).collect()
}

/// So many leaves of objects that nobody has here.
fn strange(many: u8) -> Vec<Leaf> {
    let leaf = |n: u8| Leaf {
        object: [n; 8],
        copy: [n ^ 0xFF; 8],
    };
    (1..=many).map(leaf).collect()
}

#[test]
fn what_is_held_as_it_was_told_is_proved_and_noted_once_an_hour() {
    let mut replica = Replica::with(20);
    let all = saying(&leaves(&replica.copies), None);
    let noted = replica.hear(&all).unwrap();
    assert_eq!(noted.proved, Some(replica.now.wall));
    assert_eq!(replica.upstream().proved, noted.proved);
    assert!(!replica.is_searching());
    for (seconds, is_noted) in [(0, false), (3599, false), (3600, true)] {
        let since = noted.proved.unwrap();
        replica.now.wall = DateTime(since.0 + seconds);
        assert_eq!(replica.hear(&all).is_some(), is_noted, "{seconds}");
    }
    // A clock that went back notes it, too.
    replica.now.wall = DateTime(5);
    assert!(replica.hear(&all).is_some());
}

#[test]
fn what_can_not_be_compared_yet_is_not() {
    let mut replica = Replica::with(3);
    let wrong = saying(&strange(2), None);
    let held = replica.upstream();
    let unsettled: [&dyn Fn(&mut Upstream); 3] = [
        &|upstream| upstream.anew = Some(true),
        &|upstream| upstream.checking = Some(0),
        &|upstream| upstream.uncompared = Some(true),
    ];
    for change in unsettled {
        let mut upstream = held.clone();
        change(&mut upstream);
        assert!(replica.hear_as(&wrong, upstream, Vec::new()).is_none());
        assert!(!replica.is_searching());
    }
    let mut answers: Vec<FollowResponse> = (0..4).map(|_| wrong.clone()).collect();
    answers[0].place.number -= 1;
    answers[1].proof = None;
    let proof = |answer: &mut FollowResponse, change: &dyn Fn(&mut SetProof)| {
        change(answer.proof.as_mut().unwrap());
    };
    proof(&mut answers[2], &|proof| proof.sum = None);
    proof(&mut answers[3], &|proof| proof.key = vec![6; 15]);
    for answer in answers {
        assert!(replica.hear(&answer).is_none() && !replica.is_searching());
    }
    replica.hear(&wrong);
    assert!(replica.is_searching());
}

#[test]
fn a_sum_with_another_count_is_another_sum() {
    let mut replica = Replica::with(3);
    let mut answer = saying(&leaves(&replica.copies), None);
    answer.proof.as_mut().unwrap().count = Some(4);
    replica.hear(&answer);
    assert!(replica.is_searching());
}

#[test]
fn the_sketch_is_asked_for_in_parts_that_grow() {
    let mut replica = Replica::with(5);
    // More differs than any of the first parts can say.
    let mut all = leaves(&replica.copies);
    all.extend(strange(255));
    replica.hear(&saying(&all, None));
    let (mut from, mut to) = (None, 32);
    for next in [256, 512] {
        let asked = replica.asks();
        assert_eq!((asked.cells, asked.cells_from), (Some(to), from));
        assert!(asked.again.is_empty() && asked.wanted.is_empty() && asked.claimed.is_empty());
        let range = from.unwrap_or(0).cast_unsigned()..to.cast_unsigned();
        assert!(replica.hear(&saying(&all, Some(range))).is_none());
        (from, to) = (Some(to), next);
    }
    // Meanwhile something has happened there: it begins anew, with as many as were asked for.
    let located = replica.hear(&saying(&all, Some(0..512))).unwrap();
    assert_eq!(located.repaired, Some(255));
    let asked = replica.asks();
    assert_eq!((asked.cells, asked.cells_from), (None, None));
    assert_eq!(
        (asked.wanted.len(), asked.again.len(), asked.claimed.len()),
        (255, 0, 0)
    );
    assert!(!replica.is_searching(), "all was asked for");
    let sequence: Vec<u32> =
        std::iter::successors(Some(FIRST_CELLS), |most| Some(next_cells(*most)))
            .take_while(|most| *most < MOST_CELLS)
            .collect();
    assert_eq!(sequence[..7], [32, 256, 512, 1024, 2048, 2867, 4013]);
    assert_eq!(sequence.len(), 15);
    assert_eq!(next_cells(*sequence.last().unwrap()), MOST_CELLS);
}

#[test]
fn differences_are_asked_about_by_what_is_known_of_them() {
    let mut replica = Replica::with(6);
    // One is told otherwise, one is not told, and one is not known here.
    let mut all = leaves(&replica.copies[..4]);
    let mut newer = replica.copies[4].clone();
    newer.stamp.sequence += 1;
    all.push(leaf(&newer));
    all.extend(strange(1));
    replica.hear(&saying(&all, None));
    replica.asks();
    let located = replica.hear(&saying(&all, Some(0..32))).unwrap();
    assert_eq!(located.repaired, Some(3));
    // Until it has asked, what differs is no new difference.
    assert!(replica.hear(&saying(&all, None)).is_none());
    let asked = replica.asks();
    assert_eq!(asked.again, [newer.id]);
    assert_eq!(asked.wanted, [vec![1; 8]]);
    let claimed: Vec<_> = asked.claimed.iter().map(|claim| &claim.id).collect();
    assert_eq!(claimed, [&replica.copies[5].id]);
}

#[test]
fn a_question_asks_about_so_many_at_the_most() {
    let mut replica = Replica::with(0);
    let many: Vec<[u8; 8]> = (0..1200_u64).map(u64::to_be_bytes).collect();
    replica.follow.comparison.search = Some(Search::Repair(Differences {
        wanted: many.clone(),
        ..Differences::default()
    }));
    let mut asked = Vec::new();
    for most in [400, 400, 400] {
        assert!(replica.is_searching());
        let part = replica.asks().wanted;
        assert_eq!(part.len(), most);
        asked.extend(part);
    }
    asked.sort();
    assert!(
        asked
            .iter()
            .map(Vec::as_slice)
            .eq(many.iter().map(|tag| &tag[..]))
    );
    assert!(!replica.is_searching());
    // What the question asks for anyway is not asked for twice.
    let id = TestServer::new(|peer| peer).key("k", Vec::new());
    let searched = Searched {
        again: vec![id.clone(), id.clone()],
        ..Searched::default()
    };
    let upstream = replica.upstream();
    let request = replica.follow.request(&upstream);
    let request = searched.add_to(FollowRequest {
        again: vec![id.clone()],
        ..request
    });
    assert_eq!(request.again, [id]);
}

#[test]
fn what_no_sketch_says_is_read_from_the_beginning() {
    let garbled: [&dyn Fn(&mut SetProof); 4] = [
        &|proof| proof.cells = Some(vec![0xA5; 32 * 22]),
        &|proof| proof.cells = Some(vec![1, 2, 3]),
        &|proof| proof.cells_from = Some(1),
        &|proof| proof.cells_from = Some(-1),
    ];
    for (at, garble) in garbled.iter().enumerate() {
        let mut replica = Replica::with(5);
        let all = strange(2);
        replica.hear(&saying(&all, None));
        let mut answer = saying(&all, Some(0..32));
        garble(answer.proof.as_mut().unwrap());
        let begun = replica.hear(&answer).unwrap();
        assert_eq!(
            (begun.cursor.number, begun.checking, begun.anew),
            (0, Some(0), Some(true)),
            "{at}"
        );
        assert!(!replica.is_searching());
        assert_eq!(replica.upstream().checking, Some(0));
    }
}

#[test]
fn what_is_listed_counts_as_it_was_told() {
    let mut replica = Replica::with(4);
    let told = |n: i64| {
        let mut stamp = replica.copies[3].stamp.clone();
        stamp.sequence += n;
        CopySum::of(&stamp, &[7; 32])
    };
    let id = replica.copies[3].id.clone();
    let sums: Vec<CopySum> = (1..3).map(told).collect();
    let with = |copies: &[Record], sum: Option<CopySum>| {
        let mut all = leaves(&copies[..3]);
        all.extend(sum.map(|sum| key().leaf(&id, sum)));
        saying(&all, None)
    };
    // Told otherwise, told otherwise again, not told, and then held as it was told.
    let steps = [Some(Some(sums[0])), Some(Some(sums[1])), Some(None)];
    let copies = replica.copies.clone();
    // The first time, all that the store lists is read.
    replica.hear(&saying(&leaves(&copies), None));
    for listed in steps {
        let answer = with(&copies, listed.flatten());
        let upstream = replica.upstream();
        replica.hear_as(&answer, upstream, vec![(id.clone(), listed)]);
        assert!(!replica.is_searching(), "{listed:?}");
    }
    let upstream = replica.upstream();
    let all = saying(&leaves(&copies), None);
    replica.hear_as(&all, upstream, vec![(id.clone(), None)]);
    assert!(!replica.is_searching());
}

#[test]
fn a_new_session_looks_at_what_is_listed() {
    let mut replica = Replica::with(4);
    let (copies, id) = (replica.copies.clone(), replica.copies[3].id.clone());
    let all = saying(&leaves(&copies), None);
    replica.hear(&all);
    // Others may have changed it meanwhile.
    let row = DifferingCopy {
        id: id.clone(),
        stamp: Some(copies[3].stamp.clone()),
        digest: Some(vec![9; 32]),
        since: DateTime(1),
        extra: Extra::NONE,
    };
    let entry = |value: Option<Vec<u8>>| {
        let prefix = crate::relation::keys::differing_prefix("r");
        let row_key = crate::relation::keys::about(prefix, &id).unwrap();
        let mut effects = Effects::none();
        effects.state.push((row_key, value));
        effects
    };
    let apply = |replica: &Replica, effects: Effects| {
        replica
            .store
            .transact::<_, keyferry_store::Error>(|transaction| effects.apply(transaction))
            .unwrap();
    };
    apply(&replica, entry(Some(bytes_of(&row).unwrap())));
    replica.begin();
    let mut listed = leaves(&copies[..3]);
    listed.push(key().leaf(&id, row.sum().unwrap()));
    replica.hear(&saying(&listed, None));
    assert!(!replica.is_searching());
    apply(&replica, entry(None));
    replica.begin();
    replica.hear(&all);
    assert!(!replica.is_searching());
}

#[test]
fn only_live_copies_of_the_relation_are_compared() {
    let mut replica = Replica::with(5);
    let change = |replica: &Replica, at: usize, change: &dyn Fn(&mut Record)| {
        replica
            .store
            .transact::<_, keyferry_store::Error>(|transaction| {
                let (number, held) = transaction.by_object_id(&replica.copies[at].id)?.unwrap();
                let mut after = held.clone();
                change(&mut after);
                Effects::change(Some((number, held)), after, Material::Keep).apply(transaction)
            })
            .unwrap();
    };
    let state = |state| keyferry_kmip::spec::AttributeValue::State(state);
    let destroyed = keyferry_kmip::spec::State::DESTROYED;
    note_kept(&replica.store, ("c", "r"), &replica.copies[0].id, false);
    note_kept(
        &replica.store,
        ("c", "another"),
        &replica.copies[0].id,
        true,
    );
    change(&replica, 1, &|record| {
        record.overlay.as_mut().unwrap().withdrawn = Some(true);
    });
    change(&replica, 2, &|record| {
        record.attributes.set(state(destroyed));
    });
    // Destroyed here alone: its issuer tells of it all the same.
    change(&replica, 3, &|record| {
        record.overlay.as_mut().unwrap().state = Some(destroyed);
    });
    let live = leaves(&replica.copies[3..]);
    replica.hear(&saying(&live, None));
    assert!(!replica.is_searching() && replica.upstream().proved.is_some());
}

#[test]
fn a_store_that_was_put_back_is_read_anew() {
    let mut replica = Replica::with(4);
    let older = replica.store.clone();
    let mut more = replica.copies[0].clone();
    more.id.identifier = "more".into();
    more.identifier = "more".into();
    let effects = Effects::change(None, more.clone(), Material::Keep);
    replica
        .store
        .transact::<_, keyferry_store::Error>(|transaction| effects.apply(transaction))
        .unwrap();
    note_kept(&replica.store, ("c", "r"), &more.id, true);
    let mut all = leaves(&replica.copies);
    all.push(leaf(&more));
    replica.hear(&saying(&all, None));
    assert!(replica.upstream().proved.is_some());
    // Another object comes to the older store, in the same place of its feed.
    replica.store = older;
    more.id.identifier = "else".into();
    more.identifier = "else".into();
    let effects = Effects::change(None, more.clone(), Material::Keep);
    replica
        .store
        .transact::<_, keyferry_store::Error>(|transaction| effects.apply(transaction))
        .unwrap();
    note_kept(&replica.store, ("c", "r"), &more.id, true);
    replica.begin();
    let mut all = leaves(&replica.copies);
    all.push(leaf(&more));
    replica.hear(&saying(&all, None));
    assert!(!replica.is_searching() && replica.upstream().proved.is_some());
}
