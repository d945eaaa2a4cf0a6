//! From any KMIP server to any other, by what KMIP has had since 1.0 (Locate, Get, Register, Activate, Revoke), with a report of everything
//! that the new server did not keep: `cargo run --release --example migrate`. Without `--from` and `--to` it makes two servers to show it.

use keyferry_examples::migration::{How, Migrated, migrate};
use keyferry_examples::site::{OPERATOR, Site, check, held, import, main as run_example, named};
use keyferry_examples::{Result, host, pki::Pki};
use keyferry_kmip::spec::AttributeValue as V;
use keyferry_net::{ClientConfig, Connector, Credentials, Protocols};
use keyferry_s2s::Policy;
use keyferry_ttlv::Version;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
migrate: everything from one KMIP server to another

  --from HOST:PORT    the old server
  --to HOST:PORT      the new server
  --ca FILE           who has signed both servers' certificates
  --cert FILE         our certificate, by which both know us
  --key FILE          its key
  --data DIR          the way station's files; a second run with them moves only what has changed
  --version 1.0 .. 2.1    which KMIP to speak (1.4)
  --dry-run           pulls, and tells what the new server would get
  --plan FILE         with --dry-run: writes what it found out into FILE (needs --data)
  --execute FILE      pulls, and does what the plan in FILE says, or stops where it is not so any more (needs --data)
  --json              the reports as JSON
";

#[derive(Default)]
struct Arguments {
    from: Option<String>,
    to: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    data: Option<PathBuf>,
    version: Option<Version>,
    dry_run: bool,
    plan: Option<PathBuf>,
    execute: Option<PathBuf>,
    json: bool,
}

fn arguments() -> Result<Option<Arguments>> {
    let mut parsed = Arguments::default();
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        use lexopt::prelude::*;
        match arg {
            Long("from") => parsed.from = Some(args.value()?.string()?),
            Long("to") => parsed.to = Some(args.value()?.string()?),
            Long("ca") => parsed.ca = Some(args.value()?.into()),
            Long("cert") => parsed.cert = Some(args.value()?.into()),
            Long("key") => parsed.key = Some(args.value()?.into()),
            Long("data") => parsed.data = Some(args.value()?.into()),
            Long("version") => {
                let told = args.value()?.string()?;
                let known = [
                    Version::V1_0,
                    Version::V1_1,
                    Version::V1_2,
                    Version::V1_3,
                    Version::V1_4,
                    Version::V2_0,
                    Version::V2_1,
                ];
                let version = known
                    .into_iter()
                    .find(|version| version.to_string() == told);
                parsed.version = Some(version.ok_or_else(|| format!("there is no KMIP {told}"))?);
            }
            Long("dry-run") => parsed.dry_run = true,
            Long("plan") => parsed.plan = Some(args.value()?.into()),
            Long("execute") => parsed.execute = Some(args.value()?.into()),
            Long("json") => parsed.json = true,
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(None);
            }
            other => return Err(format!("{}; --help tells the options", other.unexpected()).into()),
        }
    }
    Ok(Some(parsed))
}

fn main() -> ExitCode {
    run_example(async {
        match arguments()? {
            None => Ok(()),
            Some(Arguments {
                from: None,
                to: None,
                version,
                ..
            }) => show(version.unwrap_or(Version::V1_4)).await,
            Some(arguments) => between(arguments).await,
        }
    })
}

fn tell(migrated: &Migrated, json: bool) {
    for (which, report) in [
        ("from the old server", &migrated.pulled),
        ("to the new server", &migrated.registered),
    ] {
        if json {
            println!("{}", report.json());
        } else {
            println!("{which}\n{}", report.table());
        }
    }
}

impl Arguments {
    fn how(&self) -> Result<How> {
        if self.data.is_none() && (self.plan.is_some() || self.execute.is_some()) {
            return Err("a plan is for one way station's store: --data DIR is needed".into());
        }
        let in_file = |path: &Path, file: std::io::Result<File>| {
            file.map_err(|e| format!("{}: {e}", path.display()))
        };
        Ok(match (self.dry_run, &self.plan, &self.execute) {
            (false, None, None) => How::Move,
            (true, None, None) => How::DryRun,
            (true, Some(path), None) => How::Plan(in_file(path, File::create(path))?),
            (false, None, Some(path)) => How::Execute(in_file(path, File::open(path))?),
            _ => return Err("--plan goes with --dry-run, and --execute with neither".into()),
        })
    }
}

/// Between two servers that run somewhere.
async fn between(arguments: Arguments) -> Result {
    let (Some(from), Some(to)) = (&arguments.from, &arguments.to) else {
        return Err("--from and --to go together".into());
    };
    let (Some(ca), Some(cert), Some(key)) = (&arguments.ca, &arguments.cert, &arguments.key) else {
        return Err("both servers want to see a certificate: --ca, --cert and --key".into());
    };
    let how = arguments.how()?;
    // Some servers speak TLS 1.2 alone.
    let credentials = Credentials::from_files(ca, cert, key)?.with_protocols(Protocols::default());
    let connector = |address: &str| -> Result<Connector> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        Ok(Connector::new(
            address,
            ClientConfig::new(&credentials, host)?,
        ))
    };
    let temporary = tempfile::tempdir()?;
    let data = arguments
        .data
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    let pki = Pki::open(data.join("pki"))?;
    let files = host::Files::beside(data.join("way.redb"));
    let way = host::start(
        "way",
        &files,
        "127.0.0.1:0",
        &pki.credentials("way", &[])?,
        Policy::closed(),
    )
    .await?;
    let version = arguments.version.unwrap_or(Version::V1_4);
    let migrated = migrate(&way, &connector(from)?, &connector(to)?, version, how).await;
    way.handle.shutdown().await;
    let migrated = migrated?;
    tell(&migrated, arguments.json);
    check(
        migrated.registered.stopped.is_none(),
        "everything was as planned",
    )
}

/// Between two servers of our own, as strangers to each other.
async fn show(version: Version) -> Result {
    let site = Site::new()?;
    let (old, way, new) = (
        site.start("old", Policy::closed()).await?,
        site.start("way", Policy::closed()).await?,
        site.start("new", Policy::closed()).await?,
    );
    for n in 0..200u8 {
        let attributes = named(format!("key {n}")).with(V::ObjectGroup("everything".into()));
        import(&old, OPERATOR, &n.to_string(), [n; 16], attributes)?;
    }
    let connector = |host: &host::Host| site.connector(OPERATOR, host);
    let plan = site.folder().join("plan");
    let how = How::Plan(File::create(&plan)?);
    let planned = migrate(&way, &connector(&old)?, &connector(&new)?, version, how).await?;
    check(
        planned.registered.counts.created == 200 && held(&new)?.is_empty(),
        "a dry run plans it and writes nothing there",
    )?;
    // Another one comes to the old server, and is not in the plan.
    import(&old, OPERATOR, "late", [201; 16], named("late"))?;
    let how = How::Execute(File::open(&plan)?);
    let migrated = migrate(&way, &connector(&old)?, &connector(&new)?, version, how).await?;
    tell(&migrated, false);
    check(
        migrated.registered.counts.created == 200,
        "the 200 planned objects are at the new server",
    )?;
    let again = migrate(
        &way,
        &connector(&old)?,
        &connector(&new)?,
        version,
        How::Move,
    )
    .await?;
    let counts = &again.registered.counts;
    check(
        (counts.unchanged, counts.created) == (200, 1),
        "a run without a plan finds them there, and brings the late one",
    )?;
    for host in [old, way, new] {
        host.handle.shutdown().await;
    }
    Ok(())
}
