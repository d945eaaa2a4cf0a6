//! Searches that help, that do not, and that are lost.

use super::*;

#[test]
fn searches_that_do_not_help_raise_an_alarm_and_pause() {
    let mut replica = Replica::with(5);
    let mut all = leaves(&replica.copies);
    replica.hear(&saying(&all, None));
    all.extend(strange(2));
    for search in 1..=3 {
        replica.hear(&saying(&all, None));
        assert!(replica.is_searching(), "{search}");
        replica.asks();
        let located = replica.hear(&saying(&all, Some(0..32))).unwrap();
        assert_eq!(located.repaired, Some(2 * search));
        replica.asks();
        assert_eq!(replica.alarms(), []);
    }
    let given_up = replica.hear(&saying(&all, None)).unwrap();
    assert_eq!(given_up.proved, None);
    assert_eq!(replica.alarms(), [AlarmKind::COPIES_DIFFER]);
    assert!(!replica.is_searching());
    // What is listed while it rests counts afterwards.
    let id = replica.copies[4].id.clone();
    let row = DifferingCopy {
        id: id.clone(),
        stamp: None,
        digest: None,
        since: DateTime(1),
        extra: Extra::NONE,
    };
    replica.list(&row);
    let upstream = replica.upstream();
    let nothing_listed = saying(&leaves(&replica.copies), None);
    replica.hear_as(&nothing_listed, upstream, vec![(id, Some(None))]);
    replica.now.tick.0 += PAUSE - 1;
    assert!(replica.hear(&saying(&all, None)).is_none() && !replica.is_searching());
    replica.now.tick.0 += 1;
    replica.hear(&saying(&all, None));
    assert!(replica.is_searching());
    // One that helps begins a new count.
    replica.hear(&saying(&leaves(&replica.copies[..4]), None));
    assert!(!replica.is_searching() && replica.follow.comparison.searches == 0);
}

#[test]
fn a_question_that_checks_copies_is_not_filled_with_others() {
    let mut replica = Replica::with(3);
    replica.follow.comparison.search = Some(Search::Repair(Differences {
        wanted: vec![[1; 8]],
        claimed: vec![RecordNumber(1)],
        ..Differences::default()
    }));
    let question = |replica: &mut Replica| {
        let step =
            replica.in_session(|follow, cx| follow.ask(cx, keyferry_kmip::Ticket(1)).unwrap());
        let crate::session::Step::Send(message) = step else {
            panic!("it asks");
        };
        let cx = keyferry_kmip::context(crate::wire::follow::SPOKEN);
        message.batch[0].payload::<FollowRequest>(cx).unwrap()
    };
    replica.in_session(|follow, cx| {
        let session = follow.session();
        let checking = |upstream: &mut Upstream| upstream.checking = Some(0);
        let upstream = follow.change_upstream(cx, session, checking).unwrap();
        follow.upstream = Some(upstream);
        follow.reached = crate::follow::Reached::Part;
    });
    let checks = question(&mut replica);
    assert_eq!((checks.held.len(), checks.wanted.len()), (3, 0));
    assert!(replica.is_searching());
    replica.in_session(|follow, cx| {
        let session = follow.session();
        let checked = |upstream: &mut Upstream| upstream.checking = None;
        let upstream = follow.change_upstream(cx, session, checked).unwrap();
        follow.upstream = Some(upstream);
    });
    let searches = question(&mut replica);
    assert_eq!((searches.held.len(), searches.wanted.len()), (1, 1));
}

#[test]
fn a_question_that_was_lost_is_no_search_that_has_not_helped() {
    let mut replica = Replica::with(2);
    let mut all = leaves(&replica.copies);
    all.extend(strange(1));
    for _ in 0..5 {
        replica.hear(&saying(&all, None));
        replica.asks();
        replica.hear(&saying(&all, Some(0..32)));
        replica.asks();
        replica.follow.comparison.search = Some(Search::Cells(Vec::new(), 32));
        replica.follow.forget_connection();
        assert!(!replica.is_searching());
        replica.has_asked = false;
        replica.begin();
    }
    assert!(replica.alarms().is_empty() && replica.follow.comparison.searches == 0);
    // Of a search in several parts, the last answer counts.
    replica.follow.comparison.search = Some(Search::Repair(Differences {
        wanted: vec![[1; 8]; 900],
        ..Differences::default()
    }));
    for searches in [0, 0, 1] {
        replica.asks();
        replica.hear(&saying(&all, None));
        assert_eq!(replica.follow.comparison.searches, searches);
    }
}

#[test]
fn a_relation_that_listed_too_much_is_compared_again_when_its_feed_is_read_anew() {
    let anew: [&dyn Fn(&mut Replica); 3] = [
        &|replica| Upstream::accept(&replica.store, "r").unwrap(),
        &|replica| {
            let selection = crate::Selection::everything().listed(["x".into()]);
            let what = UpstreamOptions {
                selection,
                ..UpstreamOptions::default()
            };
            let wall = replica.now.wall;
            Upstream::follow(&replica.store, "r", "c", &what, wall).unwrap();
        },
        &|replica| {
            replica.in_session(|follow, cx| follow.start_over(cx, Place::default()).unwrap());
        },
    ];
    for read_anew in anew {
        let mut replica = Replica::with(1);
        replica.in_session(|follow, cx| {
            let session = follow.session();
            let full = |upstream: &mut Upstream| upstream.uncompared = Some(true);
            follow.change_upstream(cx, session, full).unwrap();
        });
        read_anew(&mut replica);
        let upstream = replica.upstream();
        assert_eq!((upstream.uncompared, upstream.checking), (None, Some(0)));
        assert_eq!(upstream.cursor, Place::default());
    }
}

#[test]
fn a_question_is_about_objects_when_it_names_any() {
    let id = a_claim().id;
    let about = |searched: Searched| searched.is_about_objects();
    assert!(!about(Searched::default()));
    assert!(!about(Searched {
        cells: Some(32),
        ..Searched::default()
    }));
    assert!(about(Searched {
        again: vec![id],
        ..Searched::default()
    }));
    assert!(about(Searched {
        wanted: vec![vec![1; 8]],
        ..Searched::default()
    }));
    assert!(about(Searched {
        claimed: vec![a_claim()],
        ..Searched::default()
    }));
}

fn a_claim() -> HeldCopy {
    let copy = Replica::with(1).copies.remove(0);
    HeldCopy {
        id: copy.id,
        stamp: copy.stamp,
        proof: None,
        extra: Extra::NONE,
    }
}
