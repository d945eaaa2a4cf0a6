//! One master, and two replicas in processes of their own that follow it over mutual TLS. Clients change keys at the master all the time; one
//! replica is killed and started again meanwhile, and catches up. A table shows how far each replica is.
//!
//! `--seconds N` says how long clients write (6), `--objects N` how many keys they work with (500).

use keyferry_examples::host::{self, Files};
use keyferry_examples::pki::Pki;
use keyferry_examples::{Result, finish, follower, log, runtime, site};
use keyferry_kmip::spec::AttributeValue as V;
use keyferry_kmip::*;
use keyferry_net::{ClientConfig, Connector};
use keyferry_s2s::{FollowOptions, Peer, Policy, UpstreamOptions};
use keyferry_ttlv::Extra;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    log();
    finish(runtime().map_err(Into::into).and_then(|runtime| {
        let mut arguments = std::env::args().skip(1);
        let (mut seconds, mut objects) = (6, 500);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--seconds" => seconds = value()?.parse()?,
                "--objects" => objects = value()?.parse()?,
                // What the example starts itself with.
                "--replica" => {
                    let (folder, name, address) = (PathBuf::from(value()?), value()?, value()?);
                    return runtime
                        .block_on(replica(&folder, &name, &address))
                        .map(|()| ExitCode::SUCCESS);
                }
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        runtime
            .block_on(example(seconds, objects))
            .map(|()| ExitCode::SUCCESS)
    }))
}

/// A replica, until it is killed.
async fn replica(folder: &Path, name: &str, address: &str) -> Result {
    let credentials = Pki::open(folder.join("pki"))?.credentials(name, &[])?;
    let files = Files::beside(folder.join(format!("{name}.redb")));
    let here = host::start(name, &files, "127.0.0.1:0", &credentials, Policy::closed()).await?;
    let connector = Connector::new(address, ClientConfig::new(&credentials, "127.0.0.1")?);
    let options = FollowOptions::new("copies", Peer::new("master")).every(100);
    follower::follow(&here, &UpstreamOptions::default(), options, connector)?.await?;
    Ok(())
}

fn start(folder: &Path, name: &str, address: &str) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("--replica")
        .arg(folder)
        .args([name, address])
        .stdin(Stdio::null());
    Ok(command.spawn()?)
}

/// Its child processes end with it.
struct Children(Vec<Child>);

impl Children {
    fn kill(&mut self, at: usize) {
        if let Some(child) = self.0.get_mut(at) {
            let _ = child.kill(); // it may have ended by itself
            let _ = child.wait();
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        (0..self.0.len()).for_each(|at| self.kill(at));
    }
}

async fn example(seconds: u64, objects: usize) -> Result {
    let folder = tempfile::tempdir()?;
    let pki = Pki::open(folder.path().join("pki"))?;
    for name in ["master", "north", "south"] {
        pki.credentials(name, &[])?;
    }
    let follower = |name: &str| Peer::new(name).may_follow().may_give_back();
    let policy = Policy::closed()
        .with("north", follower("north"))
        .with("south", follower("south"));
    let files = Files::beside(folder.path().join("master.redb"));
    let master = host::start(
        "master",
        &files,
        "127.0.0.1:0",
        &pki.credentials("master", &[])?,
        policy,
    )
    .await?;
    let address = master.handle.local_addr().to_string();
    let names = ["north", "south"];
    let mut children = Children(
        names
            .iter()
            .map(|name| start(folder.path(), name, &address))
            .collect::<Result<_>>()?,
    );
    for n in 0..objects {
        let seed = u8::try_from(n % 251)?;
        site::import(
            &master,
            site::OPERATOR,
            &format!("key {n}"),
            [seed; 16],
            site::named(format!("name of key {n}")),
        )?;
    }
    let started = Instant::now();
    let (mut writes, mut shown, mut killed, mut again) = (0_u64, started, false, false);
    while started.elapsed() < Duration::from_secs(seconds) {
        let n = usize::try_from(writes)? * 7919 % objects.max(1);
        let request = ModifyAttributeRequest {
            unique_identifier: Some(format!("key {n}").as_str().into()),
            attribute: [V::Comment(format!("change {writes}").as_str().into())]
                .into_iter()
                .collect(),
            current: Attributes::new(),
            extra: Extra::NONE,
        };
        let changed = site::ask::<_, ModifyAttributeResponse>(&master, site::OPERATOR, &request);
        if changed.is_err() {
            let request = AddAttributeRequest {
                unique_identifier: request.unique_identifier,
                attribute: request.attribute,
                extra: Extra::NONE,
            };
            site::ask::<_, AddAttributeResponse>(&master, site::OPERATOR, &request)?;
        }
        writes += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
        let passed = started.elapsed().as_secs_f64() / seconds.max(1) as f64;
        if passed > 0.3 && !killed {
            children.kill(1);
            killed = true;
            println!("south is killed");
        }
        if passed > 0.7 && !again {
            children.0[1] = start(folder.path(), "south", &address)?;
            again = true;
            println!("south is started again");
        }
        if shown.elapsed() > Duration::from_millis(500) {
            println!("{}", follower::table(&*master.store)?);
            shown = Instant::now();
        }
    }
    println!(
        "{writes} changes in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    // Everything arrives.
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let behind = follower::lag(&*master.store)?;
        println!("{}", follower::table(&*master.store)?);
        if behind == [0, 0] {
            break;
        }
        site::check(Instant::now() < patience, "the replicas catch up in time")?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    drop(children);
    for name in names {
        let replica = host::open(
            &Files::beside(folder.path().join(format!("{name}.redb"))),
            &Policy::closed(),
        )?;
        let same = follower::compare(&*master.store, &*replica)?;
        println!("{name} holds {same} objects, each the same as at the master");
    }
    Ok(())
}
