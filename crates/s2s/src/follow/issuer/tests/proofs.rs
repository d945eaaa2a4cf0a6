//! What an answer says of all that was told, and what a replica may ask about it.

use super::*;
use crate::compare::leaf::{CopySum, KEY_BYTES, LeafSum, ProofKey};
use crate::compare::sketch::{Decoder, Key, Outcome, from_bytes};
use crate::relation::keys;
use crate::testing::note_kept;
use crate::wire::proof::SetProof;
use keyferry_kmip::spec::tag;
use keyferry_store::Overlay;

fn key_of(proof: &SetProof) -> ProofKey {
    ProofKey::new(<[u8; KEY_BYTES]>::try_from(proof.key.as_slice()).unwrap())
}

/// What the proof has to say of these records.
fn expected(proof: &SetProof, records: &[Record]) -> (Option<Vec<u8>>, Option<i64>) {
    let (key, mut sum) = (key_of(proof), LeafSum::default());
    for record in records {
        let copy = CopySum::of_record(record).unwrap();
        sum.add(&key, key.leaf(&record.id, copy));
    }
    (Some(sum.bytes()), Some(sum.count))
}

fn told(answer: &FollowResponse) -> (Option<Vec<u8>>, Option<i64>) {
    let proof = answer.proof.as_ref().unwrap();
    (proof.sum.clone(), proof.count)
}

fn says(issuer: &Issuer, answer: &FollowResponse, ids: &[&ObjectId]) {
    let records: Vec<Record> = ids.iter().map(|id| issuer.record(id).unwrap()).collect();
    let proof = answer.proof.as_ref().unwrap();
    assert_eq!(told(answer), expected(proof, &records));
}

#[test]
fn an_answer_at_the_head_says_the_sum_of_all_that_was_told() {
    let (issuer, one, next) = settled();
    let (_, nothing_new) = issuer.ask(&next);
    says(&issuer, &nothing_new, &[&one]);
    let two = issuer.key("other", Vec::new());
    let three = issuer.key("third one", Vec::new());
    // One that ends before the head has no sum.
    let short = FollowRequest {
        objects: 1,
        ..behind(&nothing_new)
    };
    let (_, part) = issuer.ask(&short);
    assert_eq!(told(&part), (None, None));
    let (_, rest) = issuer.ask(&behind(&part));
    says(&issuer, &rest, &[&one, &two, &three]);
    // What changes, and what is destroyed.
    issuer.change(&two, |record| {
        record.attributes.set(AttributeValue::Comment("x".into()));
    });
    issuer.change(&three, |record| {
        record
            .attributes
            .set(AttributeValue::State(State::DESTROYED));
    });
    let (_, news) = issuer.ask(&behind(&rest));
    assert_eq!(news.changes.len(), 2);
    says(&issuer, &news, &[&one, &two]);
}

#[test]
fn the_sum_is_of_the_selection_and_of_what_is_left_out() {
    let issuer = Issuer::new(|peer| peer);
    let red = issuer.key("red", vec![AttributeValue::ObjectGroup("red".into())]);
    issuer.key("blue one", Vec::new());
    let selected = Selection::everything().with(AttributeValue::ObjectGroup("red".into()));
    let of_red = FollowRequest {
        selected: Selected::of(&selected),
        ..question()
    };
    let (_, answer) = issuer.ask(&of_red);
    says(&issuer, &answer, &[&red]);
    // The other relation has another key, and its copies lack an attribute.
    let without = FollowRequest {
        relation: "q".into(),
        without: vec!["Object Group".into()],
        ..of_red
    };
    let (_, bare) = issuer.ask(&without);
    let mut record = issuer.record(&red).unwrap();
    record.attributes.remove(tag::OBJECT_GROUP);
    let proof = bare.proof.as_ref().unwrap();
    assert_ne!(proof.key, answer.proof.as_ref().unwrap().key);
    assert_eq!(told(&bare), expected(proof, &[record]));
    // Also when the record is read again, because the answer does not tell of it.
    let next = FollowRequest {
        relation: "q".into(),
        without: without.without.clone(),
        selected: without.selected.clone(),
        ..behind(&bare)
    };
    for table in issuer.node.tables.all() {
        let mut table = table.lock().unwrap();
        *table = crate::compare::table::Table::new(table.key().clone());
    }
    let (_, again) = issuer.ask(&next);
    assert_eq!((again.changes.len(), told(&again)), (0, told(&bare)));
}

#[test]
fn what_was_once_the_followers_own_is_not_told_to_it() {
    let issuer = Issuer::new(|peer| peer);
    let own = issuer.key("own", Vec::new());
    let adopted = issuer.key("adopted one", Vec::new());
    // As if it had been made at b, and adopted here.
    let mut record = issuer.record(&adopted).unwrap();
    record.id.server = "b".into();
    record.identifier = "adopted from b".into();
    let id = record.id.clone();
    issuer.apply(Effects::change(None, record, Material::Keep));
    let (_, answer) = issuer.ask(&question());
    assert_eq!(answer.changes.len(), 2);
    says(&issuer, &answer, &[&own, &adopted]);
    let (_, again) = issuer.ask(&behind(&answer));
    says(&issuer, &again, &[&own, &adopted]);
    assert!(issuer.record(&id).is_some());
}

#[test]
fn a_relay_counts_neither_marks_nor_what_it_holds_as_destroyed() {
    let relay = Issuer::new(|peer| peer.may_follow_copies());
    let what = crate::relation::followed::UpstreamOptions::default();
    Upstream::follow(&relay.store, "u", "c", &what, DateTime(1)).unwrap();
    let own = relay.key("own", Vec::new());
    let like = relay.record(&own).unwrap();
    let copy = |name: &str, change: &dyn Fn(&mut Overlay)| {
        let mut record = like.clone();
        record.id.server = "c".into();
        record.id.identifier = name.into();
        record.identifier = name.into();
        record.stamp.issuer = "c".into();
        let mut overlay = Overlay::default();
        change(&mut overlay);
        record.overlay = Some(overlay);
        let id = record.id.clone();
        relay.apply(Effects::change(None, record, Material::Keep));
        note_kept(&relay.store, ("c", "u"), &id, true);
        id
    };
    let live = copy("live", &|_| {});
    copy("withdrawn", &|overlay| overlay.withdrawn = Some(true));
    copy("destroyed", &|overlay| {
        overlay.state = Some(State::DESTROYED);
    });
    let (_, answer) = relay.ask(&question());
    says(&relay, &answer, &[&own, &live]);
}

#[test]
fn the_sketch_comes_in_parts_as_long_as_nothing_happens() {
    let (issuer, one, next) = settled();
    let asking = |cells, from, behind: &FollowRequest| FollowRequest {
        cells: Some(cells),
        cells_from: from,
        ..behind.clone()
    };
    let (_, first) = issuer.ask(&asking(8, None, &next));
    let proof = first.proof.clone().unwrap();
    let mut cells = from_bytes(proof.cells.as_ref().unwrap()).unwrap();
    assert_eq!((cells.len(), proof.cells_from), (8, None));
    let (_, more) = issuer.ask(&asking(20, Some(8), &behind(&first)));
    let part = more.proof.clone().unwrap();
    let rest = from_bytes(part.cells.as_ref().unwrap()).unwrap();
    assert_eq!((rest.len(), part.cells_from), (12, Some(8)));
    cells.extend(rest);
    // All of them together say what there is.
    let key = key_of(&proof);
    let mut decoder = Decoder::new(Key::new(key.bytes()));
    decoder.extend(cells);
    let leaf = |id: &ObjectId| {
        let record = issuer.record(id).unwrap();
        key.leaf(id, CopySum::of_record(&record).unwrap())
    };
    assert_eq!(
        decoder.decode(),
        Outcome::Done {
            only_there: vec![leaf(&one)],
            only_here: Vec::new()
        }
    );
    // A change begins a new sketch.
    issuer.key("other", Vec::new());
    let (_, anew) = issuer.ask(&asking(20, Some(8), &behind(&more)));
    let part = anew.proof.clone().unwrap();
    let all = from_bytes(part.cells.as_ref().unwrap()).unwrap();
    assert_eq!((all.len(), part.cells_from), (20, None));
    let none = FollowRequest {
        cells_from: Some(3),
        ..behind(&anew)
    };
    let proof = issuer.ask(&none).1.proof.unwrap();
    assert_eq!((proof.cells, proof.cells_from), (None, None));
    // Nobody has more made than there are for anything.
    for (cells, from) in [(-1, None), (5, Some(9)), (i32::MAX, None)] {
        let (_, odd) = issuer.ask(&asking(cells, from, &behind(&anew)));
        let made = from_bytes(odd.proof.unwrap().cells.as_ref().unwrap()).unwrap();
        let most = if cells > 5 { 1 << 16 } else { 0 };
        assert_eq!(made.len(), most, "{cells} {from:?}");
    }
}

#[test]
fn an_object_is_asked_for_by_the_tag_of_its_leaf() {
    let (issuer, one, next) = settled();
    let two = issuer.key("other", Vec::new());
    let (_, answer) = issuer.ask(&next);
    let key = key_of(answer.proof.as_ref().unwrap());
    let tag = |id: &ObjectId| {
        let record = issuer.record(id).unwrap();
        key.leaf(id, CopySum::of_record(&record).unwrap()).object
    };
    let wanting = |tags: Vec<Vec<u8>>| FollowRequest {
        wanted: tags,
        ..behind(&answer)
    };
    let (_, found) = issuer.ask(&wanting(vec![tag(&one).to_vec(), vec![9; 8]]));
    assert_eq!(found.changes.len(), 1);
    assert_eq!(found.changes[0].copy.id, one);
    assert!(found.changes[0].material.is_some());
    let both = wanting(vec![tag(&one).to_vec(), tag(&two).to_vec()]);
    assert_eq!(issuer.ask(&both).1.changes.len(), 2);
    let refused = issuer.try_ask(&wanting(vec![vec![1; 7]])).unwrap_err();
    assert_eq!(refused.cause(), Cause::InvalidField);
    let most = issuer.node.policy.limits.named_objects;
    let refused = issuer.try_ask(&wanting(vec![vec![1; 8]; most + 1]));
    assert_eq!(refused.unwrap_err().cause(), Cause::ServerLimit);
    assert!(issuer.try_ask(&wanting(vec![vec![1; 8]; most])).is_ok());
}

#[test]
fn what_is_asked_about_is_looked_at_anew() {
    let issuer = Issuer::new(|peer| peer);
    let dated = vec![AttributeValue::DeactivationDate(DateTime(1_000_050))];
    let one = issuer.key("dated one", dated);
    let active = Selection::everything().with(AttributeValue::State(State::ACTIVE));
    let asked = FollowRequest {
        selected: Selected::of(&active),
        ..question()
    };
    let (_, answer) = issuer.ask(&asked);
    says(&issuer, &answer, &[&one]);
    // It leaves the selection because time passes: nothing tells of that but the question about it.
    let mut later = issuer;
    later.wall = 1_000_100;
    let next = FollowRequest {
        selected: Selected::of(&active),
        ..behind(&answer)
    };
    let (_, same) = later.ask(&next);
    says(&later, &same, &[&one]);
    let about = FollowRequest {
        again: vec![one.clone()],
        ..next
    };
    let (_, known) = later.ask(&about);
    says(&later, &known, &[]);
}

#[test]
fn a_table_that_is_in_use_holds_nobody_up() {
    let (issuer, _, next) = settled();
    let tables = issuer.node.tables.all();
    let held: Vec<_> = tables.iter().map(|table| table.lock().unwrap()).collect();
    assert_eq!(issuer.ask(&next).1.proof, None);
    drop(held);
    assert!(issuer.ask(&next).1.proof.is_some());
}

/// A relay that passes on a copy of `c`, which it follows in the relation `u`, and the copy.
fn relaying() -> (Issuer, ObjectId) {
    let relay = Issuer::new(|peer| peer.may_follow_copies());
    let what = crate::relation::followed::UpstreamOptions::default();
    Upstream::follow(&relay.store, "u", "c", &what, DateTime(1)).unwrap();
    let own = relay.key("own", Vec::new());
    let mut record = relay.record(&own).unwrap();
    record.id.server = "c".into();
    record.id.identifier = "copy".into();
    record.identifier = "copy".into();
    record.stamp.issuer = "c".into();
    record.overlay = Some(Overlay::default());
    let id = record.id.clone();
    relay.apply(Effects::change(None, record, Material::Keep));
    note_kept(&relay.store, ("c", "u"), &id, true);
    (relay, id)
}

/// Has it stand in the store of a server, or not, that the one it follows as "u" has the object no more.
fn list_missing(relay: &Issuer, id: &ObjectId, is_missing: bool) {
    let key = keys::about(keys::missing_prefix("u"), id).unwrap();
    let value = is_missing.then(|| keyferry_store::record::bytes_of(id).unwrap());
    let mut effects = Effects::none();
    effects.state.push((key, value));
    relay.apply(effects);
}

fn own(relay: &Issuer) -> ObjectId {
    let found = relay
        .store
        .view::<_, keyferry_store::Error>(|snapshot| snapshot.by_identifier("own"));
    found.unwrap().unwrap().1.id
}

#[test]
fn a_relay_counts_what_it_does_not_keep_true_no_more() {
    let (relay, copy) = relaying();
    let own = own(&relay);
    let (_, answer) = relay.ask(&question());
    says(&relay, &answer, &[&own, &copy]);
    let listed = |is_missing: bool| list_missing(&relay, &copy, is_missing);
    // Nothing stands in the feed of it.
    listed(true);
    let next = behind(&answer);
    let (_, without) = relay.ask(&next);
    says(&relay, &without, &[&own]);
    // Who asks about it is told so, with the object or without.
    let again = FollowRequest {
        again: vec![copy.clone()],
        ..next.clone()
    };
    assert_eq!(kinds(&relay.ask(&again).1), [Kind::COPY, Kind::UNKEPT]);
    let stamp = relay.record(&copy).unwrap().stamp;
    let claiming = |id: &ObjectId| claiming(id, &stamp, &next);
    let (_, told) = relay.ask(&claiming(&copy));
    assert_eq!(kinds(&told), [Kind::UNKEPT]);
    assert_eq!(told.changes[0].copy.id, copy);
    assert_eq!(kinds(&relay.ask(&claiming(&own)).1), []);
    listed(false);
    says(&relay, &relay.ask(&next).1, &[&own, &copy]);
    assert_eq!(kinds(&relay.ask(&claiming(&copy)).1), []);
    assert_eq!(kinds(&relay.ask(&again).1), [Kind::COPY]);
    // While the relation is paused, nobody keeps any of its copies.
    Upstream::pause(&relay.store, "u").unwrap();
    says(&relay, &relay.ask(&next).1, &[&own]);
    Upstream::resume(&relay.store, "u").unwrap();
    says(&relay, &relay.ask(&next).1, &[&own, &copy]);
}

#[test]
fn a_relay_counts_what_it_could_not_take_no_more() {
    let (relay, copy) = relaying();
    let own = own(&relay);
    let (_, answer) = relay.ask(&question());
    says(&relay, &answer, &[&own, &copy]);
    let retry = crate::relation::retry::Retry {
        id: copy.clone(),
        why: "another object has its Name".into(),
        attempts: 1,
        due: DateTime(1),
        pass: 1,
        extra: Extra::NONE,
    };
    let retried = |count: i64| {
        let mut effects = Effects::none();
        let key = keys::about(keys::retry_prefix("u"), &copy).unwrap();
        let value = (count > 0).then(|| keyferry_store::record::bytes_of(&retry).unwrap());
        effects.state.push((key, value));
        let upstream = relay
            .store
            .view::<_, Error>(|snapshot| Upstream::find(snapshot, "u"));
        let mut upstream = upstream.unwrap().unwrap();
        upstream.retried = count;
        effects.state.push(upstream.entry().unwrap());
        relay.apply(effects);
    };
    retried(1);
    let next = behind(&answer);
    says(&relay, &relay.ask(&next).1, &[&own]);
    let again = FollowRequest {
        again: vec![copy.clone()],
        ..next.clone()
    };
    assert_eq!(kinds(&relay.ask(&again).1), [Kind::COPY, Kind::UNKEPT]);
    retried(0);
    says(&relay, &relay.ask(&next).1, &[&own, &copy]);
}

#[test]
fn what_is_in_doubt_when_it_is_told_first_is_not_counted() {
    let (relay, copy) = relaying();
    list_missing(&relay, &copy, true);
    let (_, answer) = relay.ask(&question());
    assert_eq!(answer.changes.len(), 2);
    says(&relay, &answer, &[&own(&relay)]);
}

#[test]
fn who_may_not_have_the_material_hears_of_doubts_too() {
    let (relay, copy) = relaying();
    relay.change(&copy, |record| {
        record.attributes.set(AttributeValue::Extractable(false));
    });
    list_missing(&relay, &copy, true);
    let (_, answer) = relay.ask(&question());
    says(&relay, &answer, &[&own(&relay)]);
    let again = FollowRequest {
        again: vec![copy],
        ..behind(&answer)
    };
    assert_eq!(kinds(&relay.ask(&again).1), [Kind::WITHHELD, Kind::UNKEPT]);
}

#[test]
fn who_gets_own_objects_alone_hears_of_no_doubts() {
    let issuer = Issuer::new(|peer| peer);
    let one = issuer.key("one", Vec::new());
    let (_, answer) = issuer.ask(&question());
    let again = FollowRequest {
        again: vec![one.clone()],
        ..behind(&answer)
    };
    let what = crate::relation::followed::UpstreamOptions::default();
    Upstream::follow(&issuer.store, "u", "c", &what, DateTime(1)).unwrap();
    list_missing(&issuer, &one, true);
    let (_, told) = issuer.ask(&again);
    assert_eq!(kinds(&told), [Kind::COPY]);
    says(&issuer, &told, &[&one]);
}
