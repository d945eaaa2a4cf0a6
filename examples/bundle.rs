//! Objects from one server to another in a file: `cargo run --example bundle -- keygen|seal|inspect|open`; a demonstration without any.

use keyferry_bundle::{
    AgeIdentity, AgeRecipient, Manifest, OpenOptions, Receiving, SealOptions, Signer, SigningKey,
    VerifyingKey, manifest, open, seal,
};
use keyferry_crypto::SystemRandom;
use keyferry_examples::bar::Watched;
use keyferry_examples::offline::{Offline, differences};
use keyferry_examples::{Result, finish, host::Files, log, pki::write_secret};
use keyferry_kmip::spec::{AttributeValue, RevocationReasonCode};
use keyferry_kmip::{DateTime, Escaped, Identity, ImportRequest, Name, context};
use keyferry_s2s::{Peer, Policy, Selection};
use keyferry_store::{SnapshotExt, StoreExt};
use keyferry_ttlv::Version;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

const HELP: &str = "\
bundle: moves objects between servers in an encrypted, signed file

  bundle                                            a demonstration in a temporary folder
  bundle keygen  --keys DIR                         makes a server's keys, and prints what others are to be told
  bundle seal    --data DIR --keys DIR --to SERVER --reader AGE FILE
  bundle inspect --keys DIR --from SERVER=KEY FILE  what is in it, without key material
  bundle open    --data DIR --keys DIR --from SERVER=KEY FILE

  --data DIR          the folder of a server as `serve` makes it, which must not run meanwhile
  --keys DIR          where this server's keys are
  --server NAME       this server's id, where it is not that of the store (seal, open), or the bundle's recipient (inspect)
  --to SERVER         the id of the only server that may take it
  --reader AGE        who can read it, age1...; may be given several times
  --passphrase FILE   instead of that, and of the key in --keys: a file with a passphrase
  --from SERVER=KEY   whose signature counts, and as which server's; may be given several times
  --group, --name     none but objects of this Object Group, or with this Name; * and ? stand for others
  --days N            how long it is good for (7)
  --again             takes from the beginning what was taken before
";

#[derive(Default)]
struct Arguments {
    command: Option<String>,
    file: Option<PathBuf>,
    data: Option<PathBuf>,
    keys: Option<PathBuf>,
    server: Option<String>,
    to: Option<String>,
    readers: Vec<AgeRecipient>,
    passphrase: Option<PathBuf>,
    from: Vec<Signer>,
    selection: Selection,
    days: Option<i64>,
    again: bool,
}

fn arguments() -> Result<Option<Arguments>> {
    let mut parsed = Arguments::default();
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        use lexopt::prelude::*;
        match arg {
            Long("data") => parsed.data = Some(args.value()?.into()),
            Long("keys") => parsed.keys = Some(args.value()?.into()),
            Long("server") => parsed.server = Some(args.value()?.string()?),
            Long("to") => parsed.to = Some(args.value()?.string()?),
            Long("reader") => parsed.readers.push(args.value()?.string()?.parse()?),
            Long("passphrase") => parsed.passphrase = Some(args.value()?.into()),
            Long("from") => {
                let text = args.value()?.string()?;
                let (server, key) = text.split_once('=').ok_or("--from takes SERVER=KEY")?;
                parsed
                    .from
                    .push(Signer::new(server, VerifyingKey(*unhex(key)?)));
            }
            Long("group") => {
                parsed.selection = parsed
                    .selection
                    .with(AttributeValue::ObjectGroup(args.value()?.string()?.into()));
            }
            Long("name") => {
                parsed.selection = parsed
                    .selection
                    .with(AttributeValue::Name(Name::text(args.value()?.string()?)));
            }
            Long("days") => parsed.days = Some(args.value()?.parse()?),
            Long("again") => parsed.again = true,
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(None);
            }
            Value(command) if parsed.command.is_none() => parsed.command = Some(command.string()?),
            Value(file) if parsed.file.is_none() => parsed.file = Some(file.into()),
            other => return Err(format!("{}; --help tells the options", other.unexpected()).into()),
        }
    }
    Ok(Some(parsed))
}

fn main() -> ExitCode {
    log();
    finish(arguments().and_then(|arguments| {
        let Some(arguments) = arguments else {
            return Ok(ExitCode::SUCCESS);
        };
        match arguments.command.as_deref() {
            None | Some("demo") => demo(),
            Some("keygen") => Keys::make(arguments.keys()?)
                .map(|keys| keys.tell())
                .map(|()| ExitCode::SUCCESS),
            Some("seal") => seal_file(&arguments),
            Some("inspect") => inspect_file(&arguments),
            Some("open") => open_file(&arguments),
            Some(other) => Err(format!("{other:?} is no command; --help tells them").into()),
        }
    }))
}

impl Arguments {
    fn keys(&self) -> Result<&Path> {
        Ok(self.keys.as_deref().ok_or("--keys DIR is needed")?)
    }

    fn file(&self) -> Result<&Path> {
        Ok(self.file.as_deref().ok_or("a file is needed")?)
    }

    fn passphrase(&self) -> Result<Option<Zeroizing<String>>> {
        let read = |path: &PathBuf| {
            fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
        };
        let text = self
            .passphrase
            .as_ref()
            .map(read)
            .transpose()?
            .map(Zeroizing::new);
        Ok(text.map(|text| Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())))
    }

    fn identity(&self) -> Result<AgeIdentity> {
        match self.passphrase()? {
            Some(passphrase) => Ok(AgeIdentity::passphrase(&passphrase)),
            None => Ok(Keys::read(self.keys()?)?.identity),
        }
    }

    /// The server of the data folder, which knows the senders that are trusted.
    fn offline(&self) -> Result<Offline> {
        let data = self.data.as_deref().ok_or("--data DIR is needed")?;
        let files = Files::beside(data.join("objects.redb"));
        let name = match &self.server {
            Some(name) => name.clone(),
            None => {
                if !files.store.exists() {
                    return Err(format!(
                        "{}: there is no store; --server NAME makes one",
                        files.store.display()
                    )
                    .into());
                }
                let store = keyferry_examples::host::open(&files, &Policy::closed())?;
                let home = store.view::<_, keyferry_store::Error>(|snapshot| snapshot.home())?;
                home.ok_or("the store is nobody's yet: --server NAME is needed")?
                    .server
                    .to_string()
            }
        };
        fs::create_dir_all(data)?;
        let closed = Policy::closed();
        let known = |policy: Policy, signer: &Signer| {
            policy.with(
                signer.server.as_str(),
                Peer::new(signer.server.clone()).may_send(),
            )
        };
        Offline::open(&name, &files, self.from.iter().fold(closed, known))
    }
}

/// A server's keys: what it signs with, and what it reads with.
struct Keys {
    signing: SigningKey,
    identity: AgeIdentity,
}

impl Keys {
    fn make(folder: &Path) -> Result<Keys> {
        fs::create_dir_all(folder)?;
        let (sign, age) = (folder.join("sign.key"), folder.join("age.key"));
        if sign.exists() || age.exists() {
            return Err(format!("{}: there are keys already", folder.display()).into());
        }
        let (signing, seed) = SigningKey::generate(&mut SystemRandom::new())?;
        let identity = AgeIdentity::generate();
        write_secret(&sign, &Zeroizing::new(hex(&*seed)))?;
        write_secret(&age, &identity.secret_text().ok_or("no X25519 identity")?)?;
        Ok(Keys { signing, identity })
    }

    fn read(folder: &Path) -> Result<Keys> {
        let text = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path)
                .map(Zeroizing::new)
                .map_err(|e| format!("{}: {e}", path.display()))
        };
        let signing = SigningKey::from_seed(&*unhex(&text("sign.key")?)?)?;
        Ok(Keys {
            signing,
            identity: text("age.key")?.parse()?,
        })
    }

    /// What others are to be told.
    fn tell(&self) {
        println!("signs with  {}", hex(&self.signing.verifying_key().0));
        if let Some(reader) = self.identity.recipient().text() {
            println!("reads as    {reader}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Zeroizing<[u8; 32]>> {
    let (text, mut bytes) = (text.trim(), Zeroizing::new([0; 32]));
    if text.len() != 64 || !text.is_ascii() {
        return Err("a key is 64 hexadecimal digits".into());
    }
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * n..2 * n + 2).unwrap_or_default(), 16)?;
    }
    Ok(bytes)
}

fn now() -> DateTime {
    keyferry_net::clock().wall
}

fn seal_file(arguments: &Arguments) -> Result<ExitCode> {
    let (file, keys, offline) = (
        arguments.file()?,
        Keys::read(arguments.keys()?)?,
        arguments.offline()?,
    );
    let passphrase = arguments
        .passphrase()?
        .map(|passphrase| AgeRecipient::passphrase(&passphrase));
    let alone: Vec<AgeRecipient> = passphrase.into_iter().collect();
    let readers = if alone.is_empty() {
        &arguments.readers
    } else {
        &alone
    };
    let to = arguments.to.as_deref().ok_or("--to SERVER is needed")?;
    let expires = DateTime(
        now()
            .0
            .saturating_add(arguments.days.unwrap_or(7).saturating_mul(86_400)),
    );
    let options = SealOptions {
        selection: arguments.selection.clone(),
        ..SealOptions::new(
            &offline.server.node().home,
            to,
            &keys.signing,
            readers,
            now(),
            expires,
        )
    };
    let output =
        BufWriter::new(File::create(file).map_err(|e| format!("{}: {e}", file.display()))?);
    let mut output = Watched::new("sealing", output, None);
    let sealed = seal(&*offline.store, &options, &mut output)?;
    output
        .into_inner()
        .into_inner()
        .map_err(|e| e.to_string())?
        .sync_all()?;
    println!(
        "sealed {} objects, {} of them destroyed; {} stay",
        sealed.objects, sealed.tombstones, sealed.left
    );
    sealed.named.iter().for_each(|left| {
        println!(
            "stays: {}: {}",
            Escaped(&left.identifier),
            Escaped(&left.message)
        )
    });
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<File> {
    Ok(File::open(file).map_err(|e| format!("{}: {e}", file.display()))?)
}

fn watched(file: &Path) -> Result<Watched<File>> {
    let length = fs::metadata(file).ok().map(|metadata| metadata.len());
    Ok(Watched::new("opening", read(file)?, length))
}

fn show(manifest: &Manifest) {
    println!(
        "from       {} (number {})",
        manifest.sender, manifest.number
    );
    println!("for        {}", manifest.recipient);
    println!(
        "position   {} of incarnation {}",
        manifest.position,
        hex(&manifest.incarnation)
    );
    println!(
        "created    {} seconds ago",
        now().0.saturating_sub(manifest.created.0)
    );
    println!(
        "expires    in {} seconds",
        manifest.expires.0.saturating_sub(now().0)
    );
    println!("objects    {}", manifest.objects);
    println!("selected   {}", manifest.selection);
}

fn inspect_file(arguments: &Arguments) -> Result<ExitCode> {
    let (file, identity) = (arguments.file()?, arguments.identity()?);
    let manifest = manifest(read(file)?, &arguments.from, &identity)?;
    show(&manifest);
    // Whoever can read it may look at it, though it be another's, or late.
    let options = OpenOptions::new(
        &manifest.recipient,
        &arguments.from,
        &identity,
        manifest.created,
    );
    let (mut kinds, mut groups) = (BTreeMap::<String, u64>::new(), BTreeSet::new());
    let opened = open::<Box<dyn std::error::Error + Send + Sync>>(read(file)?, &options, |part| {
        for item in &part.message.batch {
            let import: ImportRequest = item.payload(context(Version::V2_1))?;
            let object_type = import
                .object_type
                .map(|object_type| object_type.to_string())
                .unwrap_or_default();
            let state = import
                .attributes
                .state()
                .map(|state| state.to_string())
                .unwrap_or_default();
            *kinds.entry(format!("{object_type}, {state}")).or_default() += 1;
            for attribute in &import.attributes {
                if let AttributeValue::ObjectGroup(group) = &attribute.value {
                    groups.insert(group.to_string());
                }
            }
        }
        Ok(())
    })?;
    kinds
        .iter()
        .for_each(|(kind, count)| println!("  {count:>8}  {kind}"));
    println!(
        "groups     {}",
        groups.into_iter().take(20).collect::<Vec<_>>().join(", ")
    );
    println!(
        "whole and verified: {} objects in {} segments",
        opened.objects, opened.segments
    );
    Ok(ExitCode::SUCCESS)
}

fn open_file(arguments: &Arguments) -> Result<ExitCode> {
    let (file, identity, offline) = (
        arguments.file()?,
        arguments.identity()?,
        arguments.offline()?,
    );
    let node = &**offline.server.node();
    let sender = manifest(read(file)?, &arguments.from, &identity)?.sender;
    let caller = Identity::new(sender.as_str());
    let receiving = Receiving {
        responder: node,
        store: &*offline.store,
        caller: &caller,
        now: keyferry_net::clock(),
        again: arguments.again,
        restoring: None,
    };
    let options = OpenOptions::new(&node.home.server, &arguments.from, &identity, now());
    let (opened, report) = receiving.take(watched(file)?, &options, &mut SystemRandom::new())?;
    println!(
        "bundle {} of {}: {report}",
        opened.manifest.number,
        Escaped(&opened.manifest.sender)
    );
    report.failures.iter().for_each(|failed| {
        println!(
            "failed: {}: {}",
            Escaped(&failed.identifier),
            Escaped(&failed.message)
        )
    });
    Ok(if report.counts.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// All of it in a folder that vanishes: the commands above, one after the other.
fn demo() -> Result<ExitCode> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let [centre, branch] =
        ["centre", "branch"].map(|name| Keys::make(&at(&format!("{name}-keys"))));
    let (centre, branch) = (centre?, branch?);
    fs::create_dir_all(at("centre"))?;
    let filled = Offline::open(
        "centre",
        &Files::beside(at("centre").join("objects.redb")),
        Policy::closed(),
    )?;
    let made = filled.create(600, "branch office")?;
    for (n, identifier) in made.iter().enumerate() {
        match n % 10 {
            2 => filled.revoke(identifier, RevocationReasonCode::KEY_COMPROMISE)?,
            4 => filled.destroy(identifier)?,
            _ => {}
        }
    }
    println!(
        "centre holds {} keys, every second one of the group \"branch office\"",
        made.len()
    );
    let wanted = filled.held()?;
    drop(filled);

    let trusted = vec![Signer::new("centre", centre.signing.verifying_key())];
    let sealing = Arguments {
        file: Some(at("one.age")),
        data: Some(at("centre")),
        keys: Some(at("centre-keys")),
        to: Some("branch".into()),
        readers: vec![branch.identity.recipient()],
        selection: Selection::everything()
            .with(AttributeValue::ObjectGroup("branch office".into())),
        ..Arguments::default()
    };
    seal_file(&sealing)?;
    let mut opening = Arguments {
        file: Some(at("one.age")),
        data: Some(at("branch")),
        keys: Some(at("branch-keys")),
        server: Some("branch".into()),
        from: trusted,
        ..Arguments::default()
    };
    inspect_file(&opening)?;

    let mut bytes = fs::read(at("one.age"))?;
    let middle = bytes.len() / 2;
    bytes
        .iter_mut()
        .skip(middle)
        .take(1)
        .for_each(|byte| *byte ^= 1);
    fs::write(at("bad.age"), &bytes)?;
    opening.file = Some(at("bad.age"));
    match open_file(&opening) {
        Err(error) => println!("with one bit flipped: {error}"),
        Ok(_) => return Err("a bundle with a flipped bit was taken".into()),
    }
    opening.file = Some(at("one.age"));
    open_file(&opening)?;
    open_file(&Arguments {
        again: true,
        ..opening
    })?;

    let held = Offline::open(
        "branch",
        &Files::beside(at("branch").join("objects.redb")),
        Policy::closed(),
    )?
    .held()?;
    let wanted: BTreeMap<_, _> = wanted
        .into_iter()
        .filter(|(id, _)| held.contains_key(id))
        .collect();
    let differences = differences(&wanted, &held).len();
    println!(
        "{} objects at branch, {differences} differences",
        held.len()
    );
    std::io::stdout().flush()?;
    Ok(if differences == 0 && held.len() == 300 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
