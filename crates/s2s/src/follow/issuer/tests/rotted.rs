//! What an issuer answers whose feed has rotted.

use super::*;
use crate::testing::rewrite;
use keyferry_crypto::SystemRandom;
use keyferry_kmip::spec::Operation;
use keyferry_kmip::{Identity, Secret};
use keyferry_store::{
    Incarnation, MaterialChange, Memory, RecordNumber, Sealed, Store, Transaction,
};

type SealedStore = Sealed<Arc<Memory>>;

/// Flips a bit of what stands of a record behind the seal, in its feed entry or in its attributes.
fn flip(
    at: &mut dyn Transaction,
    number: RecordNumber,
    in_entry: bool,
) -> keyferry_store::Result<()> {
    let flip = |attributes: &mut Vec<u8>, entry: &mut Vec<u8>| {
        let bytes = if in_entry { entry } else { attributes };
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    rewrite(at, number, flip, (&[], MaterialChange::Keep))
}

/// Asks a server whose store is sealed; what that notes is written.
fn ask_sealed(
    issuer: &Issuer,
    store: &SealedStore,
    request: &FollowRequest,
) -> Result<FollowResponse, Failure> {
    let cx = context(Version::V2_1);
    let item = RequestItem::new(request, cx).unwrap();
    let (peer, tls) = (Identity::peer("b"), Identity::new("b.example"));
    let mut random = SystemRandom::new();
    let mut answered = None;
    store
        .read(&mut |snapshot| {
            let mut ask = Ask::new(
                snapshot,
                &peer,
                Operation::IMPORT,
                issuer.now(),
                &mut random,
            )
            .in_context(cx)
            .over_tls(&tls);
            answered = Some(follow(&issuer.node, &mut ask, &item));
            Ok(())
        })
        .unwrap();
    let answered = answered.unwrap()?;
    store
        .transact(|at| answered.effects.apply(at).map(drop))
        .unwrap();
    Ok(answered.response.payload(cx).unwrap())
}

#[test]
fn an_issuer_makes_an_entry_of_its_feed_anew_and_answers_the_next_question() {
    let issuer = Issuer::new(|peer| peer);
    let ids: Vec<ObjectId> = (1..=4)
        .map(|n| issuer.key(&"x".repeat(n), Vec::new()))
        .collect();
    let behind = Arc::new(Memory::new(Incarnation([1; 16])));
    let key = Secret::new(&[1; 32]);
    let mut random = SystemRandom::new();
    let store = Sealed::open(behind.clone(), Arc::new(Ring::new()), key, &mut random).unwrap();
    store.begin_reign(REIGN).unwrap();
    for id in &ids {
        let material = Material::Set(issuer.object(id).unwrap().into());
        let effects = Effects::change(None, issuer.record(id).unwrap(), material);
        store.transact(|at| effects.apply(at).map(drop)).unwrap();
    }
    let number_of = |id: &ObjectId| {
        let found = store.view(|snapshot| snapshot.by_object_id(id));
        found.unwrap().unwrap().0
    };
    let number = number_of(&ids[1]);
    behind
        .transact::<_, keyferry_store::Error>(|at| flip(at, number, true))
        .unwrap();
    let first = ask_sealed(&issuer, &store, &question()).unwrap();
    assert_eq!((first.answer, first.changes.len()), (Answer::CHANGES, 0));
    assert_eq!(first.place.number, 0);
    // Nothing counts as offered that was not sent.
    let second = ask_sealed(&issuer, &store, &super::behind(&first)).unwrap();
    assert_eq!(kinds(&second), [Kind::COPY; 4]);
    assert!(
        second
            .changes
            .iter()
            .all(|change| change.material.is_some())
    );
    assert_eq!(second.place.number, second.head.number);
    assert_eq!(
        second.changes[3].copy.id, ids[1],
        "it stands at the end now"
    );
    assert!(store.verify().unwrap().is_sound());
    // Where the record can't be read either, the question fails, and nothing is passed over.
    for in_entry in [false, true] {
        behind
            .transact::<_, keyferry_store::Error>(|at| flip(at, number, in_entry))
            .unwrap();
    }
    let failed = ask_sealed(&issuer, &store, &super::behind(&second)).unwrap_err();
    assert!(is_internal(&failed));
}
