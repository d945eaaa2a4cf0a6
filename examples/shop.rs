//! A shop with an unreliable line keeps read-only copies of the centre's keys. It opens the connection itself and turns it round, so that the
//! centre can say when there is something new; it loses it, goes on serving reads,
//! refuses changes by naming the centre, and catches up when the line is there again.

use keyferry_examples::{Result, follower, site};
use keyferry_kmip::spec::{AttributeValue as V, State};
use keyferry_kmip::*;
use keyferry_s2s::{FollowOptions, Peer, Policy, Selection, UpstreamOptions};
use keyferry_ttlv::Extra;
use site::{OPERATOR, Site, check};

fn main() -> std::process::ExitCode {
    site::main(example())
}

async fn example() -> Result {
    let site = Site::new()?;
    let centre = site
        .start(
            "centre",
            Policy::closed().with("shop", Peer::new("shop").may_follow().may_turn()),
        )
        .await?;
    let shop = site
        .start("shop", Policy::closed().with("centre", Peer::new("centre")))
        .await?;
    let group = || V::ObjectGroup("shop".into());
    for n in 0..50u8 {
        let mut attributes = site::named(format!("key {n}"));
        if n % 2 == 0 {
            attributes.push(group());
        }
        // Each key has bytes of its own: a compromise counts for every object that holds the same ones.
        site::import(&centre, OPERATOR, &format!("key {n}"), [n; 16], attributes)?;
    }
    let what = UpstreamOptions {
        selection: Selection::everything().with(group()),
        address: Some(centre.handle.local_addr().to_string().as_str().into()),
        ..UpstreamOptions::default()
    };
    // Once it has everything it turns the connection round: the centre pokes it when there is more, and nobody asks in between.
    let options = FollowOptions::new("keys", Peer::new("centre")).turning();
    let line = follower::follow(
        &shop,
        &what,
        options.clone(),
        site.connector("shop", &centre)?,
    )?;
    follower::up_to_date(&shop, "keys", follower::head(&centre)?, 20).await?;
    check(
        site::held(&shop)?.len() == 25,
        "the shop has its keys, and no others",
    )?;
    println!("the shop has 25 keys of the centre's 50");
    let before = centre.handle.counters().requests();
    site::import(
        &centre,
        OPERATOR,
        "key 50",
        [50; 16],
        site::named("key 50").with(group()),
    )?;
    follower::up_to_date(&shop, "keys", follower::head(&centre)?, 20).await?;
    let asked = centre.handle.counters().requests() - before;
    println!("a key more at the centre is at the shop, which asked {asked} times meanwhile");

    line.abort();
    let _ = line.await;
    println!("the line is down");
    let got: GetResponse = site::ask(&shop, OPERATOR, &GetRequest::of("key 4"))?;
    check(got.object.key_block().is_some(), "a key can be read")?;
    let request = AddAttributeRequest {
        unique_identifier: Some("key 4".into()),
        attribute: [V::Comment("the shop's".into())].into_iter().collect(),
        extra: Extra::NONE,
    };
    let refused = site::ask::<_, AddAttributeResponse>(&shop, OPERATOR, &request);
    println!(
        "the shop serves key 4; a change of it is refused: {}",
        refused.err().ok_or("it was not refused")?
    );
    // Meanwhile at the centre: a compromise, a key that leaves the shop, one that enters, one that is destroyed.
    let revoke = RevokeRequest::of("key 2", spec::RevocationReasonCode::KEY_COMPROMISE, None);
    site::ask::<_, RevokeResponse>(&centre, OPERATOR, &revoke)?;
    let leave = DeleteAttributeRequest {
        unique_identifier: Some("key 6".into()),
        current: [group()].into_iter().collect(),
        ..Default::default()
    };
    site::ask::<_, DeleteAttributeResponse>(&centre, OPERATOR, &leave)?;
    let enter = AddAttributeRequest {
        unique_identifier: Some("key 7".into()),
        attribute: [group()].into_iter().collect(),
        extra: Extra::NONE,
    };
    site::ask::<_, AddAttributeResponse>(&centre, OPERATOR, &enter)?;
    let supersede = RevokeRequest::of("key 8", spec::RevocationReasonCode::SUPERSEDED, None);
    site::ask::<_, RevokeResponse>(&centre, OPERATOR, &supersede)?;
    site::ask::<_, DestroyResponse>(&centre, OPERATOR, &DestroyRequest::of("key 8"))?;
    println!("{}", follower::table(&*centre.store)?);

    let line = follower::follow(&shop, &what, options, site.connector("shop", &centre)?)?;
    follower::up_to_date(&shop, "keys", follower::head(&centre)?, 20).await?;
    println!("the line is there again, and the shop has caught up:");
    let held = site::held(&shop)?;
    let of = |identifier: &str| {
        held.iter()
            .find(|(record, _)| record.identifier == *identifier)
    };
    let state = |identifier: &str| of(identifier).and_then(|(record, _)| record.stored_state());
    println!("  key 2 is {}", state("key 2").ok_or("key 2 is missing")?);
    check(
        state("key 2") == Some(State::COMPROMISED),
        "the compromise has arrived",
    )?;
    check(
        of("key 6").is_some_and(|(record, object)| record.is_withdrawn() && object.is_none()),
        "key 6 is gone",
    )?;
    check(
        of("key 7").is_some_and(|(_, object)| object.is_some()),
        "key 7 is there",
    )?;
    check(
        of("key 8").is_some_and(|(record, object)| record.is_destroyed() && object.is_none()),
        "key 8 is destroyed",
    )?;
    println!("  key 6 has left, key 7 has come, key 8 is destroyed");
    line.abort();
    Ok(())
}
