//! A restored issuer takes back what its replicas hold.

use crate::bulk::drive::*;
use crate::bulk::follows::*;
use crate::support::*;
use keyferry_kmip::spec::*;
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_store::{Incarnation, StoreExt};
use keyferry_ttlv::Version;

#[test]
fn a_restored_issuer_takes_back_what_its_replica_holds_and_refuses_changes_until_then() {
    for told in [true, false] {
        let (a, b) = (issuer(), follower("b"));
        let ids = fill(&a);
        begin(&b, &UpstreamOptions::default());
        pass(&b, &a);
        // A copy of this moment.
        let earlier = a.store.inner().clone();
        let client = a.client(Version::V2_1);
        client.add(&ids[0], name("lost")).unwrap();
        client
            .revoke(&ids[1], RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        let new = client.register(key(&[9; 16]), named("made and lost"));
        pass(&b, &a);
        let policy = a.server.node().policy.clone();
        let store = std::sync::Arc::new(keyferry_store::Faulty::new(earlier));
        if told {
            begin_restored(&*store, &policy, Incarnation([7; 16]), a.now().wall).unwrap();
        }
        let a = Host::over(
            "a",
            store,
            Access::Named(["client".to_owned()].into()),
            policy,
        );
        let client = a.client(Version::V2_1);
        if told {
            let refused = client.add(&ids[2], name("too early")).unwrap_err();
            assert_eq!(refused.0, ResultReason::PERMISSION_DENIED);
            assert!(refused.1.contains("restored"), "{refused:?}");
            assert_eq!(
                a.client(Version::V2_1).state(&ids[2]),
                a.record(&ids[2]).state(a.now().wall).unwrap()
            );
        } else {
            // Nobody has said so, and it goes on.
            client.add(&ids[2], name("meanwhile")).unwrap();
            client.add(&ids[0], name("another line")).unwrap();
        }
        pass(&b, &a);
        // The other peer that may give back has nothing: a person says so.
        waive_give_back(&*a.store, "c", "somebody", a.now().wall).unwrap();
        client.add(&ids[3], name("after all")).unwrap();
        assert_eq!(client.state(&ids[1]), State::COMPROMISED, "taken back");
        assert_eq!(a.object(&new), b.object(&new));
        assert_eq!(a.record(&new).owner.as_deref(), Some("client"));
        pass(&b, &a);
        let forks = |host: &Host| host.store.view::<_, Error>(|s| Fork::all(s)).unwrap();
        if told {
            assert!(forks(&a).is_empty() && forks(&b).is_empty());
            assert_same(
                &a,
                &b,
                &[
                    ids[0].clone(),
                    ids[1].clone(),
                    ids[2].clone(),
                    ids[3].clone(),
                    new.clone(),
                ],
            );
            assert!(
                a.record(&ids[0])
                    .attributes
                    .names()
                    .any(|name| name.value == "lost")
            );
        } else {
            // Both lines of the first object are kept and named, at both servers, until somebody decides.
            assert_eq!((forks(&a).len(), forks(&b).len()), (1, 1));
            let fork = forks(&a).remove(0);
            assert_eq!(fork.id, a.record(&ids[0]).id);
            assert!(fork.attributes.names().any(|name| name.value == "lost"));
            resolve_fork(
                &*a.store,
                a.server.node(),
                &fork.id,
                &fork.stamp,
                ForkVersion::Other,
                "somebody",
                a.now(),
            )
            .unwrap();
            pass(&b, &a);
            assert!(
                forks(&a).is_empty() && forks(&b).is_empty(),
                "{:?}",
                forks(&b)
            );
            assert!(
                b.record(&ids[0])
                    .attributes
                    .names()
                    .any(|name| name.value == "lost")
            );
            assert_same(&a, &b, &[ids[0].clone(), ids[2].clone()]);
        }
    }
}
