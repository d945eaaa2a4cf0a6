//! A bank's branch sends its keys towards the centre, one way only: the centre follows the branch, and the branch learns nothing back, neither
//! objects nor errors. What the centre has in the branch's way is settled at the centre.

use keyferry_examples::{Result, follower, site};
use keyferry_kmip::*;
use keyferry_s2s::{
    Collisions, Driven, Follow, FollowOptions, OnIdentifier, OnName, Peer, Policy, Upstream,
    UpstreamOptions,
};
use site::{OPERATOR, Site, check};

fn main() -> std::process::ExitCode {
    site::main(example())
}

async fn example() -> Result {
    let site = Site::new()?;
    // The branch lets the centre follow. It takes nothing from it, and the centre lets the branch follow nothing.
    let branch = site
        .start(
            "branch",
            Policy::closed().with("centre", Peer::new("centre").may_follow()),
        )
        .await?;
    let from = Peer::new("branch").learns_nothing().colliding(Collisions {
        identifier: OnIdentifier::Assign,
        name: OnName::Rename("{server}: {name}".into()),
    });
    let centre = site
        .start("centre", Policy::closed().with("branch", from.clone()))
        .await?;

    // Both number their keys alike.
    for n in 0..20 {
        site::import(
            &branch,
            OPERATOR,
            &format!("{n}"),
            [1; 16],
            site::named(format!("till {n}")),
        )?;
    }
    site::import(&centre, OPERATOR, "7", [2; 16], site::named("till 7"))?;
    let options = FollowOptions {
        tells: false,
        ..FollowOptions::new("tills", from).every(50)
    };
    let connector = site.connector("centre", &branch)?;
    let following = follower::follow(&centre, &UpstreamOptions::default(), options, connector)?;
    let relation = follower::up_to_date(&centre, "tills", follower::head(&branch)?, 20).await?;
    println!(
        "the centre has taken {} keys of the branch",
        relation.counts.asked
    );
    check(
        relation.counts.renamed == Some(1),
        "one of them was in the way of the centre's own, and is shown otherwise there",
    )?;

    let revoke = RevokeRequest::of("7", spec::RevocationReasonCode::KEY_COMPROMISE, None);
    site::ask::<_, RevokeResponse>(&branch, OPERATOR, &revoke)?;
    follower::up_to_date(&centre, "tills", follower::head(&branch)?, 20).await?;
    let states = |host| -> Result<Vec<String>> {
        let held = site::held(host)?;
        let of_the_branch = held
            .iter()
            .filter(|(record, _)| record.id.identifier == *"7");
        Ok(of_the_branch
            .map(|(record, _)| {
                format!(
                    "{} is {}",
                    record.id,
                    record.stored_state().unwrap_or(spec::State::PRE_ACTIVE)
                )
            })
            .collect())
    };
    println!(
        "a compromise at the branch: {}; at the centre {}",
        states(&branch)?.join(", "),
        states(&centre)?.join(", ")
    );

    // The other way round nothing goes.
    let now = keyferry_net::clock().wall;
    Upstream::follow(
        &*branch.store,
        "back",
        "centre",
        &UpstreamOptions::default(),
        now,
    )?;
    let session = Follow::new(
        branch.server.node().clone(),
        FollowOptions::new("back", Peer::new("centre")),
    );
    let mut driven = Driven::new(
        session,
        branch.store.clone(),
        Box::new(keyferry_crypto::SystemRandom::new()),
    );
    keyferry_net::drive(&mut driven, &site.connector("branch", &centre)?).await?;
    let refused = driven
        .into_outcome()
        .is_some_and(|outcome| outcome.is_err());
    check(refused, "the centre lets the branch follow nothing")?;
    check(
        site::held(&branch)?.len() == 20,
        "the branch holds its own keys, and no others",
    )?;
    println!("the branch asked for what the centre has, and got nothing");
    following.abort();
    Ok(())
}
