//! Secrets are masked, unless somebody asked to show them.

use crate::serde_form::support::*;
use keyferry_kmip::*;
use keyferry_ttlv::Version;
use serde::Serialize;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[test]
fn no_secret_is_shown_unasked() {
    for request in requests() {
        let shown = serde_json::to_string(&request).unwrap();
        assert!(!tells(&shown), "{shown}");
        assert!(shown.contains(" bytes masked)"), "{shown}");
        // Neither in a message whose payloads were not looked into.
        let frame = request.to_frame().unwrap();
        let unread = serde_json::to_string(&RequestMessage::from_frame(&frame).unwrap()).unwrap();
        assert!(!tells(&unread), "{unread}");
        assert!(!tells(&serde_json::to_string(&frame).unwrap()));
        let error = serde_json::from_str::<RequestMessage<RequestPayload>>(&shown).unwrap_err();
        assert!(error.to_string().contains("masked"), "{error}");
    }
    for key in objects()
        .iter()
        .filter_map(|object| object.key_block()?.transparent().ok()?)
    {
        assert!(!tells(&serde_json::to_string(&key).unwrap()));
    }
    let pair = KeyPair {
        private: HUSH.to_vec().into(),
        public: vec![1].into(),
    };
    assert_eq!(
        serde_json::to_string(&pair).unwrap(),
        r#"{"private":"(8 bytes masked)","public":"(1 bytes masked)"}"#
    );
}

#[test]
fn what_was_left_behind_is_told_without_its_secrets() {
    let mut told = 0;
    for request in requests() {
        let (_, loss) = downgraded(request, Version::V2_1, Version::V1_0);
        told += loss.len();
        let shown = serde_json::to_string(&loss).unwrap();
        assert!(!tells(&shown), "{shown}");
        let exposed = serde_json::to_string(&Exposed(&loss)).unwrap();
        assert_eq!(
            serde_json::from_str::<keyferry_ttlv::Loss>(&exposed).unwrap(),
            loss
        );
    }
    assert!(told >= 5, "only {told}");
}

#[test]
fn exposed_it_comes_back_the_same() {
    for request in requests() {
        let shown = serde_json::to_string(&Exposed(&request)).unwrap();
        assert!(tells(&shown), "{shown}");
        assert_eq!(
            serde_json::from_str::<RequestMessage<RequestPayload>>(&shown).unwrap(),
            request,
            "{shown}"
        );
        // Also by way of a tree, which hands over texts that it owns.
        let tree = serde_json::to_value(Exposed(&request)).unwrap();
        assert_eq!(
            serde_json::from_value::<RequestMessage<RequestPayload>>(tree).unwrap(),
            request
        );
        let unread = RequestMessage::from_frame(&request.to_frame().unwrap()).unwrap();
        let shown = serde_json::to_string(&Exposed(&unread)).unwrap();
        assert_eq!(
            serde_json::from_str::<RequestMessage>(&shown).unwrap(),
            unread
        );
    }
}

#[test]
fn it_is_exposed_no_longer_than_that_however_it_ends() {
    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            assert!(keyferry_ttlv::serde_form::is_exposed());
            panic!("on purpose")
        }
    }
    struct Fails;
    impl Serialize for Fails {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("on purpose"))
        }
    }
    let secret = hush();
    let masked = || serde_json::to_string(&secret).unwrap() == r#""(8 bytes masked)""#;
    assert!(masked());
    serde_json::to_string(&Exposed(&Fails)).unwrap_err();
    assert!(masked());
    catch_unwind(AssertUnwindSafe(|| {
        serde_json::to_string(&Exposed(&(Exposed(&secret), Panics)))
    }))
    .unwrap_err();
    assert!(masked());
    assert_eq!(
        serde_json::to_string(&(Exposed(&(Exposed(&secret), &secret)), &secret))
            .unwrap()
            .matches("masked")
            .count(),
        1
    );
    // What is written on another thread meanwhile is not.
    struct Elsewhere<'a>(&'a Secret);
    impl Serialize for Elsewhere<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let there = std::thread::scope(|scope| {
                scope
                    .spawn(|| serde_json::to_string(self.0).unwrap())
                    .join()
                    .unwrap()
            });
            serializer.serialize_str(&there)
        }
    }
    assert!(!tells(
        &serde_json::to_string(&Exposed(&Elsewhere(&secret))).unwrap()
    ));
}

#[test]
fn a_secret_that_can_not_be_read_is_not_quoted() {
    for wrong in ["\"hush-key\"", "\"687573682d6b657\"", "[104,117,115,104]"] {
        let error = serde_json::from_str::<Secret>(wrong)
            .unwrap_err()
            .to_string();
        assert!(!tells(&error) && !error.contains("6875"), "{error}");
    }
    let error = serde_json::from_str::<Password>("\"ff\"")
        .unwrap_err()
        .to_string();
    assert!(error.contains("UTF-8"), "{error}");
}
