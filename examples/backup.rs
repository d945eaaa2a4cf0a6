//! A nightly bundle to a backup server, and the way back after a loss: `cargo run --example backup`.
//!
//! The server alpha seals what it has every night; the backup server takes it. At noon a key is compromised and one is destroyed, and alpha
//! sends what is so at once. Then alpha loses everything, and takes it back from the backup server: no state is weaker than it was.

use keyferry_bundle::{
    AgeIdentity, OpenOptions, Receiving, Restoring, SealOptions, Signer, SigningKey, seal,
};
use keyferry_crypto::SystemRandom;
use keyferry_examples::bar::Watched;
use keyferry_examples::offline::{Offline, differences, operator};
use keyferry_examples::{Result, finish, host::Files, log};
use keyferry_kmip::spec::{AttributeValue, RevocationReasonCode, State};
use keyferry_kmip::{Attributes, CustomAttribute, DateTime, Identity};
use keyferry_s2s::{Peer, Policy, Report, Selection};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::process::ExitCode;

/// A server with its keys.
struct Party {
    name: &'static str,
    offline: Offline,
    signing: SigningKey,
    identity: AgeIdentity,
}

impl Party {
    /// The server in its folder, made if there is none. The other one may send it copies, of whatever issuer.
    fn open(folder: &Path, name: &'static str, other: &str) -> Result<Party> {
        let data = folder.join(name);
        fs::create_dir_all(&data)?;
        let peer = Peer::new(other).may_send().may_relay();
        let policy = Policy::closed().with(
            other,
            if name == "vault" {
                peer.backed_up()
            } else {
                peer
            },
        );
        let offline = Offline::open(name, &Files::beside(data.join("objects.redb")), policy)?;
        let (signing, _) = SigningKey::generate(&mut SystemRandom::new())?;
        Ok(Party {
            name,
            offline,
            signing,
            identity: AgeIdentity::generate(),
        })
    }

    /// Seals what is selected into `file`, for `to`.
    fn seal(&self, to: &Party, selection: Selection, file: &Path) -> Result {
        let now = keyferry_net::clock().wall;
        let (home, readers) = (&self.offline.server.node().home, [to.identity.recipient()]);
        let usual = SealOptions::new(
            home,
            to.name,
            &self.signing,
            &readers,
            now,
            DateTime(now.0 + 86_400),
        );
        let output = Watched::new("sealing", BufWriter::new(File::create(file)?), None);
        let sealed = seal(
            &*self.offline.store,
            &SealOptions { selection, ..usual },
            output,
        )?;
        println!(
            "{} seals {} objects, {} of them destroyed",
            self.name, sealed.objects, sealed.tombstones
        );
        Ok(())
    }

    /// Takes the bundle `file` of `from`; with a person's word also what it issues itself.
    fn take(&self, from: &Party, file: &Path, restores: bool) -> Result<Report> {
        let node = &**self.offline.server.node();
        let caller = Identity::new(from.name);
        let receiving = Receiving {
            responder: node,
            store: &*self.offline.store,
            caller: &caller,
            now: keyferry_net::clock(),
            again: false,
            restoring: restores.then(|| Restoring {
                node,
                owner: Some(operator().name.into()),
            }),
        };
        let trusted = [Signer::new(from.name, from.signing.verifying_key())];
        let options = OpenOptions::new(self.name, &trusted, &self.identity, receiving.now.wall);
        let input = Watched::new(
            "opening",
            File::open(file)?,
            Some(fs::metadata(file)?.len()),
        );
        let (_, report) = receiving.take(input, &options, &mut SystemRandom::new())?;
        println!("{} takes it: {report}", self.name);
        Ok(report)
    }
}

fn main() -> ExitCode {
    log();
    finish(run())
}

fn run() -> Result<ExitCode> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let [night, noon, back, next] =
        ["night.age", "noon.age", "back.age", "next.age"].map(|name| folder.join(name));
    let (alpha, vault) = (
        Party::open(folder, "alpha", "vault")?,
        Party::open(folder, "vault", "alpha")?,
    );
    let keys = alpha.offline.create(500, "payments")?;
    let [destroyed, gone, compromised] = [7, 8, 9].map(|n| keys.get(n).cloned());
    let (Some(destroyed), Some(gone), Some(compromised)) = (destroyed, gone, compromised) else {
        return Err("too few keys".into());
    };
    alpha.offline.destroy(&destroyed)?;

    println!("-- night");
    alpha.seal(&vault, Selection::everything(), &night)?;
    vault.take(&alpha, &night, false)?;

    // What it keeps for whom, its clients see as the attributes Backup and Working Server.
    let shown =
        |name: &str, value: &str| AttributeValue::Custom(CustomAttribute::text(name, value));
    let kept = Attributes::new()
        .with(shown("s2s-backup", "1"))
        .with(shown("s2s-origin", "alpha"));
    println!(
        "vault keeps {} usable keys as the backup of their working server alpha",
        vault.offline.located(kept)?
    );

    println!("-- noon: a key is compromised, and another one destroyed");
    alpha
        .offline
        .revoke(&compromised, RevocationReasonCode::KEY_COMPROMISE)?;
    alpha.offline.destroy(&gone)?;
    alpha.seal(
        &vault,
        Selection::everything().with(AttributeValue::State(State::COMPROMISED)),
        &noon,
    )?;
    vault.take(&alpha, &noon, false)?;
    let before = alpha.offline.held()?;

    println!("-- alpha is lost, and set up anew");
    drop(alpha);
    fs::remove_dir_all(folder.join("alpha"))?;
    let alpha = Party::open(folder, "alpha", "vault")?;
    vault.seal(&alpha, Selection::everything(), &back)?;
    let report = alpha.take(&vault, &back, true)?;
    let restored = alpha.offline.held()?;
    let mut wrong = differences(&before, &restored);

    println!("-- the next night");
    alpha.offline.create(5, "payments")?;
    alpha.offline.revoke(
        keys.first().ok_or("no key")?,
        RevocationReasonCode::SUPERSEDED,
    )?;
    alpha.seal(&vault, Selection::everything(), &next)?;
    let again = vault.take(&alpha, &next, false)?;
    wrong.extend(differences(&alpha.offline.held()?, &vault.offline.held()?));

    let is = |identifier: &str, state| {
        let id = format!("alpha/{identifier}");
        restored.get(&id).is_some_and(|(held, _, material)| {
            *held == Some(state) && (state == State::COMPROMISED || material.is_none())
        })
    };
    let states = [
        (
            "destroyed before the backup",
            is(&destroyed, State::DESTROYED),
        ),
        ("destroyed after the backup", is(&gone, State::DESTROYED)),
        (
            "compromised after the backup",
            is(&compromised, State::COMPROMISED),
        ),
    ];
    states.iter().for_each(|(what, held)| {
        println!("{what}: {}", if *held { "still so" } else { "FORGOTTEN" })
    });
    wrong.iter().for_each(|id| println!("differs: {id}"));
    let failed = report.counts.failed + again.counts.failed;
    println!(
        "{} objects restored, {} differences, {failed} failed",
        restored.len(),
        wrong.len()
    );
    let good = wrong.is_empty()
        && failed == 0
        && states.iter().all(|(_, held)| *held)
        && again.counts.updated == 1;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
