//! How large an object may become by what a client asks, and what becomes of one that is larger.

use crate::bulk::drive::*;
use crate::bulk::follows::*;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_store::StoreExt;
use keyferry_ttlv::Version;

const SMALL: usize = 20_000;

/// A server that `b` may follow, whose limits are changed.
fn limited(change: impl Fn(&mut Limits)) -> Host {
    let mut limits = Limits::default();
    change(&mut limits);
    let policy = Policy::closed()
        .with("b.example", Peer::new("b").may_follow())
        .with_limits(limits);
    Host::named("a", Access::Named(["client".to_owned()].into()), policy)
}

fn secret(length: usize) -> Object {
    Object::secret_data(SecretDataType::PASSWORD, Secret::new(&vec![0x5A; length]))
}

/// The largest length for which it is `taken`; one more is refused with the name of the limit.
fn largest(what: &str, mut taken: impl FnMut(usize) -> ItemResult<()>) -> usize {
    let (mut fits, mut too_long) = (SMALL / 4, 2 * SMALL);
    assert!(taken(fits).is_ok(), "{what}");
    while too_long - fits > 1 {
        let middle = (fits + too_long) / 2;
        match taken(middle) {
            Ok(()) => fits = middle,
            Err(_) => too_long = middle,
        }
    }
    let refused = taken(too_long).unwrap_err();
    assert!(
        refused.1.contains("the limit object_bytes"),
        "{what}: {refused:?}"
    );
    fits
}

fn long(length: usize) -> V {
    V::Description("d".repeat(length).into())
}

#[test]
fn what_a_client_brings_or_adds_stays_below_the_limit_which_is_named() {
    let a = limited(|limits| limits.object_bytes = SMALL);
    let client = a.client(Version::V2_1);
    let mut n = 0;
    let mut fresh = || {
        n += 1;
        client.register(secret(8), named(&format!("object {n}")))
    };
    let register = largest("Register", |length| {
        let object = secret(length);
        client
            .register_with(object.object_type(), Some(object), none())
            .map(|_| ())
    });
    assert!((SMALL - 2000..SMALL).contains(&register), "{register}");
    largest("Create", |length| {
        client
            .create_with(aes(none().with(long(length))))
            .map(|_| ())
    });
    let mut import = 0;
    largest("Import", |length| {
        import += 1;
        client
            .import(&format!("i{import}"), Some(secret(length)), none(), false)
            .map(|_| ())
    });
    let held = fresh();
    largest("Import over another", |length| {
        let attributes = none().with(long(length));
        client
            .import(&held, Some(secret(8)), attributes, true)
            .map(|_| ())
    });
    largest("Add Attribute", |length| {
        client.add(&fresh(), long(length)).map(|_| ())
    });
    let described = fresh();
    client.add(&described, long(1)).unwrap();
    largest("Modify Attribute", |length| {
        client.modify(&described, None, long(length)).map(|_| ())
    });
    let set = fresh();
    largest("Set Attribute", |length| {
        let request = SetAttributeRequest {
            unique_identifier: Some(set.as_str().into()),
            attribute: none().with(long(length)),
            extra: keyferry_ttlv::Extra::NONE,
        };
        client.call::<_, SetAttributeResponse>(&request).map(|_| ())
    });
}

#[test]
fn many_small_additions_do_not_pass_the_limit_either() {
    let a = limited(|limits| limits.object_bytes = SMALL);
    let client = a.client(Version::V2_1);
    let id = client.register(secret(8), named("grows"));
    let mut added = 0;
    let refused = loop {
        match client.add(&id, V::ObjectGroup(format!("{added:0500}").into())) {
            Ok(_) => added += 1,
            Err(refused) => break refused,
        }
    };
    assert!(refused.1.contains("the limit object_bytes"), "{refused:?}");
    assert!((20..40).contains(&added), "{added}");
    // It can be made smaller, and whatever is no editing still goes.
    client
        .delete(&id, V::ObjectGroup(format!("{:0500}", 3).into()))
        .unwrap();
    client
        .revoke(&id, RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    client.destroy(&id).unwrap();
}

/// The longest secret that a client may register by the default limits.
fn at_the_limit(client: &Client) -> String {
    let limit = Limits::default().object_bytes;
    let (mut fits, mut too_long) = (limit - 4096, limit + 4096);
    let mut id = None;
    while too_long - fits > 1 {
        let middle = (fits + too_long) / 2;
        let object = secret(middle);
        match client.register_with(object.object_type(), Some(object), none()) {
            Ok(taken) => {
                fits = middle;
                if let Some(before) = id.replace(taken) {
                    client.destroy(&before).unwrap();
                }
            }
            Err(_) => too_long = middle,
        }
    }
    id.unwrap()
}

#[test]
fn an_object_at_the_limit_is_answered_followed_pushed_and_pulled() {
    let limits = Limits::default();
    assert!(limits.object_bytes + 64 * 1024 <= limits.copy_bytes);
    let a = limited(|_| {});
    let id = at_the_limit(&a.client(Version::V2_1));
    for version in [Version::V1_0, Version::V1_4, Version::V2_1] {
        let client = a.client(version);
        assert!(client.get(&id).is_ok());
        assert!(!client.attributes(&id).is_empty());
        assert!(version < Version::V1_4 || client.export(&id).is_ok());
    }
    let b = follower("b");
    begin(&b, &UpstreamOptions::default());
    let report = pass(&b, &a);
    assert_eq!(report.counts.failed, 0, "{}", report.table());
    assert_same(&a, &b, &[id.clone()]);
    for strategy in BOTH {
        let c = replica();
        let report = transfer(&a, &c, strategy);
        assert_eq!(report.counts.failed, 0, "{strategy:?} {}", report.table());
        assert_eq!(c.object(&id), a.object(&id));
    }
    let p = Host::named("p", Access::Authenticated, Policy::closed());
    let options = PullOptions {
        selection: Selection::everything().listed([id.as_str().into()]),
        ..PullOptions::new("a", Peer::new("a"), PullStrategy::Get)
    };
    let mut session = Pull::new(p.server.node().clone(), options);
    let report = drive(&p, &a, &mut session, "client", Cut::Never, &mut |_, _| {})
        .unwrap()
        .unwrap();
    assert_eq!(
        (report.counts.created, report.counts.failed),
        (1, 0),
        "{}",
        report.table()
    );
}

fn withheld(a: &Host) -> Vec<(String, String)> {
    let listed = a
        .store
        .view::<_, Error>(|snapshot| WithheldObject::all(snapshot, "b", "r"))
        .unwrap();
    listed
        .into_iter()
        .map(|one| (one.identifier.to_string(), one.why.to_string()))
        .collect()
}

/// What a replica lists of what is withheld from it: as many as it counts.
fn lacking(b: &Host) -> Vec<String> {
    let listed = b
        .store
        .view::<_, Error>(|snapshot| {
            let listed = WithheldObject::lacking(snapshot, "r")?;
            let counted = Upstream::find(snapshot, "r")?.unwrap().withheld;
            assert_eq!(counted.unwrap_or(0), listed.len() as i64);
            Ok(listed)
        })
        .unwrap();
    listed
        .into_iter()
        .map(|one| one.identifier.to_string())
        .collect()
}

fn count(a: &Host) -> Option<i64> {
    let all = a.store.view::<_, Error>(|s| Downstream::all(s)).unwrap();
    all[0].withheld
}

#[test]
fn an_object_that_is_too_large_is_withheld_listed_at_both_ends_and_holds_nobody_up() {
    let a = limited(|limits| limits.copy_bytes = SMALL);
    let client = a.client(Version::V2_1);
    let mut ids: Vec<String> = (1..5)
        .map(|n| client.register(key(&[n; 16]), none()))
        .collect();
    let large = client.register(secret(2 * SMALL), named("large"));
    let grown = client.register(secret(SMALL / 2), named("grows"));
    ids.push(client.register(key(&[5; 16]), none()));
    let b = follower("b");
    begin(&b, &UpstreamOptions::default());
    let report = pass(&b, &a);
    assert_eq!(of(&report, Outcome::Skipped), 1, "{}", report.table());
    assert!(
        report.table().to_string().contains("the limit copy_bytes"),
        "{}",
        report.table()
    );
    assert_same(&a, &b, &ids);
    let listed = withheld(&a);
    assert_eq!((listed.len(), count(&a)), (1, Some(1)));
    assert_eq!(listed[0].0, large);
    assert!(listed[0].1.contains("the limit copy_bytes"));
    assert_eq!(lacking(&b), [large.clone()]);
    // Whatever comes later comes, as often as the large one changes.
    for n in 0..20_u8 {
        client.add(&large, name(&format!("n{n}"))).unwrap();
        ids.push(client.register(key(&[n + 10; 16]), none()));
        pass(&b, &a);
        assert_same(&a, &b, &ids);
        assert_eq!(count(&a), Some(1));
    }
    assert_eq!(pass(&b, &a).counts.asked, 0);
    // One that has grown too large stays there as it was, and is listed: but its State is heard.
    let was = b.record(&grown);
    client.add(&grown, long(SMALL)).unwrap();
    pass(&b, &a);
    assert_eq!((b.record(&grown), count(&a)), (was, Some(2)));
    assert_eq!(lacking(&b).len(), 2);
    client
        .revoke(&grown, RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    pass(&b, &a);
    let at_b = b.client(Version::V2_1);
    assert_eq!(at_b.state(&grown), State::COMPROMISED);
    // One that has got smaller comes, and is listed no more.
    client
        .delete_all(&grown, reference(tag::DESCRIPTION))
        .unwrap();
    pass(&b, &a);
    assert_same(&a, &b, &[grown]);
    assert_eq!((withheld(&a).len(), count(&a)), (1, Some(1)));
    client.destroy(&large).unwrap();
    pass(&b, &a);
    assert_eq!(withheld(&a), []);
    assert_eq!(lacking(&b), [""; 0]);
}

#[test]
fn no_more_withheld_objects_are_listed_than_the_limit_says() {
    let a = limited(|limits| (limits.copy_bytes, limits.withheld_objects) = (SMALL, 3));
    let client = a.client(Version::V2_1);
    let objects = |n: usize| {
        (0..n).for_each(|_| {
            client.register(secret(2 * SMALL), none());
        });
    };
    let b = follower("b");
    begin(&b, &UpstreamOptions::default());
    for (more, listed) in [(3, 3), (1, 3)] {
        objects(more);
        assert_eq!(of(&pass(&b, &a), Outcome::Skipped), more as i64);
        assert_eq!((withheld(&a).len(), count(&a)), (listed, Some(3)));
    }
}
