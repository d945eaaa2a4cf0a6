//! Histories that are known to go wrong, one by one.

mod compared;
mod copies;
mod restored;
mod states;

use crate::rng::Rng;
use crate::site::Site;
use crate::world::World;
use crate::writes::make;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_store::ObjectId;

/// Servers that may all follow each other, and give back.
pub fn sites(names: &[&str]) -> World {
    let mut policy = Policy::closed();
    for name in names {
        policy = policy.with(
            format!("{name}.example"),
            Peer::new(*name).may_follow().may_give_back(),
        );
    }
    World::new(
        names
            .iter()
            .enumerate()
            .map(|(n, name)| Site::new(name, policy.clone(), Rng(n as u64 + 1)))
            .collect(),
    )
}
pub fn follow(world: &mut World, replica: usize, issuer: usize, selection: Selection) -> usize {
    let (r, i) = (
        world.sites[replica].name.clone(),
        world.sites[issuer].name.clone(),
    );
    world.link(
        &format!("{r} of {i}"),
        replica,
        issuer,
        Peer::new(i.as_str()),
        selection,
    )
}
pub fn id(world: &World, site: usize, identifier: &str) -> ObjectId {
    let home = &world.sites[site].node.home;
    ObjectId {
        server: home.server.clone(),
        instance: home.instance.clone(),
        identifier: identifier.into(),
    }
}
pub fn group(value: &str) -> Attributes {
    Attributes::new().with(V::ObjectGroup(value.into()))
}
pub fn now(world: &World, site: usize) -> Now {
    world.now(site)
}
pub fn settle(world: &mut World) {
    for _ in 0..3 {
        world.time += 10_000;
        world.settle();
    }
}
pub fn create(
    world: &mut World,
    site: usize,
    identifier: &str,
    material: u64,
    attributes: Attributes,
) -> ObjectId {
    let now = now(world, site);
    assert!(make(
        &mut world.sites[site],
        now,
        identifier,
        material,
        attributes
    ));
    id(world, site, identifier)
}
pub fn equal(world: &World, a: usize, b: usize, id: &ObjectId) {
    let (one, other) = (
        world.sites[a].record(id).unwrap().1,
        world.sites[b].record(id).unwrap().1,
    );
    assert_eq!(
        (one.stamp.clone(), one.copy_digest().unwrap()),
        (other.stamp.clone(), other.copy_digest().unwrap())
    );
    assert_eq!(world.sites[a].material(id), world.sites[b].material(id));
}
pub fn state(world: &World, site: usize, id: &ObjectId) -> State {
    let wall = world.now(site).wall;
    world.sites[site].record(id).unwrap().1.state(wall).unwrap()
}

/// Servers of which c follows b, with what b has of a; `may` says where a client's emergency Revoke is taken on.
pub fn chain(may: bool) -> World {
    let peer = |name: &str| Peer::new(name).may_follow().may_follow_copies();
    let revoking = |peer: Peer| if may { peer.may_revoke() } else { peer };
    let policies = [
        Policy::closed().with("b.example", revoking(peer("b"))),
        Policy::closed().with("c.example", peer("c").may_revoke()),
        Policy::closed(),
    ];
    let mut world = World::new(
        ["a", "b", "c"]
            .iter()
            .zip(policies)
            .zip(1..)
            .map(|((name, policy), seed)| Site::new(name, policy, Rng(seed)))
            .collect(),
    );
    follow(&mut world, 1, 0, Selection::everything());
    world.link(
        "c of b",
        2,
        1,
        Peer::new("b").may_relay(),
        Selection::everything(),
    );
    world
}

/// All of them, for whoever runs them one by one.
pub const ALL: &[(&str, fn())] = &[
    (
        "a master restored below its replica",
        restored::a_master_restored_below_its_replica_writes_on,
    ),
    (
        "a change and the next one",
        copies::a_change_is_not_lost_because_the_next_one_arrived,
    ),
    (
        "another server's object 1",
        copies::a_tombstone_hits_its_own_object_alone,
    ),
    (
        "one shop and another",
        copies::an_object_leaves_one_shop_and_is_compromised_in_another,
    ),
    (
        "an emptied master",
        restored::a_full_pass_against_an_emptied_master_takes_nothing_away,
    ),
    (
        "names that move",
        copies::names_move_between_two_keys_and_arrive_in_the_other_order,
    ),
    (
        "a date that passes",
        states::a_date_passes_at_the_replica_while_its_postponement_is_under_way,
    ),
    (
        "an entry that comes back",
        restored::an_entry_that_had_moved_up_comes_back_with_a_restore,
    ),
    ("a cycle of relays", copies::a_cycle_of_relays_comes_to_rest),
    (
        "a late acknowledgement",
        copies::a_withdrawal_is_acknowledged_when_the_object_is_back,
    ),
    (
        "a session back to life",
        copies::an_earlier_session_that_comes_back_to_life_gets_nothing,
    ),
    (
        "compromised material",
        states::material_that_is_compromised_is_taken_under_no_other_name_elsewhere,
    ),
    (
        "other material",
        copies::the_same_identifier_with_other_material_is_no_update,
    ),
    (
        "not taken back",
        restored::what_can_not_be_taken_back_is_named,
    ),
    (
        "twins",
        states::a_compromise_reaches_the_twins_that_are_held_already,
    ),
    (
        "an emergency",
        states::an_emergency_at_a_replica_travels_to_the_issuer,
    ),
    (
        "a state raised here",
        states::a_state_that_was_raised_here_outlives_the_next_change_there,
    ),
    (
        "a place that has ended",
        restored::a_place_of_an_incarnation_that_has_ended_restores_nobody,
    ),
    (
        "a late give-back",
        restored::what_an_earlier_start_asked_for_is_not_taken_back,
    ),
    (
        "a relay that withdraws",
        copies::a_relay_withdraws_only_what_it_has_brought,
    ),
    (
        "a late question",
        restored::a_late_question_moves_no_other_session_on,
    ),
    ("no news", copies::an_answer_without_news_is_not_written),
    (
        "pushed before",
        copies::what_was_pushed_before_hears_of_its_end_when_a_relation_begins,
    ),
    (
        "a relay that died",
        copies::whoever_attaches_to_the_issuer_after_its_relay_died_hears_of_what_ended_meanwhile,
    ),
    (
        "a relay that passes on",
        copies::a_relay_passes_a_withdrawal_on,
    ),
    (
        "an older copy given back",
        restored::an_older_copy_that_is_given_back_changes_nothing,
    ),
    (
        "a copy that changed by itself",
        compared::a_copy_that_changed_by_itself_is_found_and_sent_again,
    ),
    (
        "a copy that can't be repaired",
        compared::a_copy_that_can_not_be_repaired_is_listed_as_it_was_told,
    ),
    (
        "what its issuer has withdrawn",
        copies::two_relays_do_not_keep_for_each_other_what_its_issuer_has_withdrawn,
    ),
];
