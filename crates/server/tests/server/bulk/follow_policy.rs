//! Who may follow whom, and what a peer that may not learn much is told.

use crate::bulk::drive::*;
use crate::bulk::follows::*;
use crate::support::*;
use keyferry_crypto::SystemRandom;
use keyferry_kmip::*;
use keyferry_s2s::{Step, *};
use keyferry_server::Access;
use keyferry_store::StoreExt;
use keyferry_ttlv::Version;

#[test]
fn nobody_follows_who_may_not_and_an_earlier_session_is_stopped() {
    let (a, b) = (master(), follower("b"));
    begin(&b, &UpstreamOptions::default());
    let refused = pass_cut(&b, &a, follow_options(), Cut::Never)
        .unwrap()
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Peer);
    let (a, b) = (issuer(), follower("b"));
    fill(&a);
    begin(&b, &UpstreamOptions::default());
    let mut random = SystemRandom::new();
    let mut old = Follow::new(b.server.node().clone(), follow_options());
    let mut cx = SessionContext {
        now: b.now(),
        store: &*b.store,
        random: &mut random,
    };
    let Step::Send(question) = old.poll(&mut cx, Ticket(1)).unwrap() else {
        panic!()
    };
    pass(&b, &a);
    let Answer::Reply(answer) = a.server.answer(
        &identity("b.example"),
        a.now(),
        &question.to_frame().unwrap(),
    ) else {
        panic!()
    };
    let mut cx = SessionContext {
        now: b.now(),
        store: &*b.store,
        random: &mut random,
    };
    // What that says is the reign alone.
    old.answer(
        &mut cx,
        Ticket(1),
        Ok(ResponseMessage::from_frame(&answer).unwrap()),
    )
    .unwrap();
    let Step::Send(question) = old.poll(&mut cx, Ticket(2)).unwrap() else {
        panic!()
    };
    let Answer::Reply(answer) = a.server.answer(
        &identity("b.example"),
        a.now(),
        &question.to_frame().unwrap(),
    ) else {
        panic!()
    };
    let stopped = old
        .answer(
            &mut cx,
            Ticket(2),
            Ok(ResponseMessage::from_frame(&answer).unwrap()),
        )
        .unwrap_err();
    assert!(stopped.to_string().contains("another session"), "{stopped}");
}

#[test]
fn a_branch_learns_nothing_from_the_centre() {
    // The branch's policy lets the centre follow, and no more; the centre's lets the branch send, and tells it nothing.
    let branch = Host::named(
        "branch",
        Access::Named(["client".to_owned()].into()),
        Policy::closed().with("centre.example", Peer::new("centre").may_follow()),
    );
    let centre = Host::named(
        "centre",
        Access::Named(["client".to_owned()].into()),
        Policy::closed().with(
            "branch.example",
            Peer::new("branch").may_send().learns_nothing(),
        ),
    );
    let client = branch.client(Version::V2_1);
    let one = client.register(key(&[1; 16]), named("one"));
    let clashing = client.register(key(&[2; 16]), named("the centre has it"));
    centre
        .client(Version::V2_1)
        .register(key(&[3; 16]), named("the centre has it"));
    Upstream::follow(
        &*centre.store,
        "r",
        "branch",
        &UpstreamOptions::default(),
        centre.now().wall,
    )
    .unwrap();
    let options = FollowOptions {
        tells: false,
        ..FollowOptions::new("r", Peer::new("branch"))
    };
    let mut asked = Vec::new();
    let mut session = Follow::new(centre.server.node().clone(), options);
    for _ in 0..3 {
        let report = drive(
            &centre,
            &branch,
            &mut session,
            "centre.example",
            Cut::Never,
            &mut |_, message| {
                asked.push(message.clone());
            },
        );
        let report = report.unwrap().unwrap();
        assert!(report.counts.add_up());
        centre.pass(10);
    }
    assert_same(&branch, &centre, &[one.clone()]);
    // What the centre asks tells nothing of why, or how many.
    for message in &asked {
        let payload = message.batch[0].request_payload.bytes();
        for tag in [
            extension::COUNT_FORKED,
            extension::COUNT_RETRIED,
            extension::WHY,
        ] {
            assert!(
                !payload
                    .windows(3)
                    .any(|window| window == &tag.number().to_be_bytes()[1..]),
                "{tag:?}"
            );
        }
    }
    // The other way round nothing goes: the branch may neither follow nor pull, and the centre may not send.
    Upstream::follow(
        &*branch.store,
        "back",
        "centre",
        &UpstreamOptions::default(),
        branch.now().wall,
    )
    .unwrap();
    let mut session = Follow::new(
        branch.server.node().clone(),
        FollowOptions::new("back", Peer::new("centre")),
    );
    assert!(
        drive(
            &branch,
            &centre,
            &mut session,
            "branch.example",
            Cut::Never,
            &mut |_, _| {}
        )
        .unwrap()
        .is_err()
    );
    let mut session = Bulk::new(BulkOptions::new("branch", Strategy::Import));
    let report = drive(
        &centre,
        &branch,
        &mut session,
        "centre.example",
        Cut::Never,
        &mut |_, _| {},
    )
    .unwrap()
    .unwrap();
    assert_eq!(report.counts.failed, report.counts.asked);
    // What the branch pushes is answered alike, whatever becomes of it: taken, known, renamed or in the way of another.
    let report = transfer_as(&branch, &centre, "branch.example");
    let fates = (of(&report, Outcome::Created), report.counts.asked);
    assert_eq!(fates, (2, 2), "{}", report.table());
    assert!(report.failures.is_empty());
    // The centre names what it has refused.
    let refused = centre
        .store
        .view::<_, Error>(|snapshot| RefusedCopy::all(snapshot, "branch"))
        .unwrap();
    let of_clashing = |copy: &RefusedCopy| copy.id == branch.record(&clashing).id;
    assert_eq!(refused.len(), 1);
    assert!(of_clashing(&refused[0]), "{refused:?}");
    assert!(refused[0].why.contains("has the Name"), "{refused:?}");
}

fn transfer_as(from: &Host, to: &Host, caller: &str) -> Report {
    let mut session = Bulk::new(BulkOptions::new("centre", Strategy::Import));
    drive(from, to, &mut session, caller, Cut::Never, &mut |_, _| {})
        .unwrap()
        .unwrap()
}
