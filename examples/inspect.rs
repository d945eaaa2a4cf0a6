//! A TTLV message as a tree: `cargo run --example inspect -- FILE`, or from standard input; binary or hexadecimal.

use keyferry_examples::{Result, finish};
use keyferry_kmip::{context, spec};
use keyferry_ttlv::{Version, inspect};
use std::io::{Read, Write};
use std::process::ExitCode;

const HELP: &str = "\
inspect: shows a TTLV message as an indented tree

  inspect [--show-secrets] [FILE]    binary or hexadecimal; standard input without FILE, or for -
";

fn main() -> ExitCode {
    finish(run())
}

fn run() -> Result<ExitCode> {
    let (mut file, mut show_secrets) = (None, false);
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        use lexopt::prelude::*;
        match arg {
            Long("show-secrets") => show_secrets = true,
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            Value(path) if file.is_none() => file = Some(path),
            other => return Err(format!("{}; --help tells the options", other.unexpected()).into()),
        }
    }
    let mut input = zeroize::Zeroizing::new(Vec::new());
    match file.filter(|path| path != "-") {
        Some(path) => {
            let mut opened =
                std::fs::File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            opened.read_to_end(&mut input)?;
        }
        None => {
            std::io::stdin().read_to_end(&mut input)?;
        }
    }
    let message = zeroize::Zeroizing::new(inspect::unhex(&input)?);
    let options = inspect::Options {
        dictionary: &spec::Names,
        is_secret: spec::is_secret,
        show_secrets,
    };
    let inspection = inspect::tree(&message, context(Version::V2_1), &options);
    std::io::stdout().write_all(inspection.text.as_bytes())?;
    match inspection.error {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => {
            eprintln!("error: {error}");
            Ok(ExitCode::FAILURE)
        }
    }
}
