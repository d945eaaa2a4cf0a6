//! The OASIS test cases, every message through the model and all three encodings, or every request to a server:
//! `cargo run --release --example oasis -- [--replay] PATH…`

use keyferry_examples::oasis::{Options, run};
use keyferry_examples::{Result, finish};
use std::io::Write;
use std::process::ExitCode;

const HELP: &str = "\
oasis: reads OASIS KMIP test cases and says what is lost on the way, or what a server answers otherwise

  oasis [--roundtrip | --replay] [--draft] PATH...    XML files, or folders with *.xml anywhere below

  --roundtrip    XML to typed to bytes to typed to XML, and to JSON and back, comparing every item; the default
  --replay       each case's requests, in their order, to a server of its own in memory, comparing the answers by the notation's rules
  --draft        tries cases of KMIP 3.0 too; they count by themselves

A line a case: pass NAME, fail NAME: path: reason (line), skip NAME: reason, unsupported NAME: Operation; the last line counts them.
The exit code is 1 when something failed, 2 when the command line is wrong or a path can't be read.
";

fn main() -> ExitCode {
    finish(carry_out())
}

fn carry_out() -> Result<ExitCode> {
    let options = match Options::parse(lexopt::Parser::from_env()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            std::io::stdout().write_all(HELP.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Ok(wrong(&format!("{error}; --help tells the options"))),
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let tally = run(&options, &mut out)?;
    out.flush()?;
    match tally {
        Ok(tally) if tally.failed == 0 => Ok(ExitCode::SUCCESS),
        Ok(_) => Ok(ExitCode::FAILURE),
        Err(unreadable) => Ok(wrong(&unreadable)),
    }
}

fn wrong(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::from(2)
}
