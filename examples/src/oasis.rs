//! The OASIS test cases: XML documents of requests and the responses to them, run against the codec and the model.

pub mod before;
pub mod case;
pub mod compare;
pub mod replay;
pub mod roundtrip;
pub mod tree;

use crate::Result;
use case::{Case, Malformed};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What became of a case.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is as it must be.
    Pass,
    /// It is not; the text says where and why.
    Fail(String),
    /// Nobody can say; the text says why.
    Skip(String),
    /// It uses an operation that is not tried.
    Unsupported(String),
}

/// What is done with a case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Its messages are carried through the model and all encodings.
    #[default]
    Roundtrip,
    /// Its requests are sent to a server.
    Replay,
}

/// What to do with which cases.
#[derive(Debug, Default)]
pub struct Options {
    /// What is done with them.
    pub mode: Mode,
    /// Whether cases of KMIP 3.0 are tried.
    pub draft: bool,
    /// Files, and folders whose files are meant.
    pub paths: Vec<PathBuf>,
}

impl Options {
    /// What a command line asks for; nothing when it asks for help.
    ///
    /// # Errors
    /// An option that there is not, or no path.
    pub fn parse(mut args: lexopt::Parser) -> Result<Option<Options>> {
        use lexopt::prelude::*;
        let mut options = Options::default();
        while let Some(arg) = args.next()? {
            match arg {
                Long("roundtrip") => options.mode = Mode::Roundtrip,
                Long("replay") => options.mode = Mode::Replay,
                Long("draft") => options.draft = true,
                Short('h') | Long("help") => return Ok(None),
                Value(path) => options.paths.push(path.into()),
                other => return Err(other.unexpected().into()),
            }
        }
        if options.paths.is_empty() {
            Err("no file or folder is named".into())
        } else {
            Ok(Some(options))
        }
    }
}

/// How many cases ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Nothing was lost.
    pub passed: usize,
    /// Something was.
    pub failed: usize,
    /// They use operations that are not tried.
    pub unsupported: usize,
    /// Nobody looked.
    pub skipped: usize,
}

/// A file to look at.
struct Found {
    path: PathBuf,
    /// Whether it was named itself, and not a folder around it.
    named: bool,
}

/// Looks at all cases and says what became of each on a line, and at last how many ended how.
///
/// # Errors
/// A path that can't be read, before anything else is done; or that nothing can be written.
pub fn run(options: &Options, out: &mut impl Write) -> Result<std::result::Result<Tally, String>> {
    let files = match found(&options.paths) {
        Ok(files) => files,
        Err(unreadable) => return Ok(Err(unreadable)),
    };
    let (mut tally, mut draft) = (Tally::default(), Tally::default());
    for file in &files {
        let name = file
            .path
            .file_stem()
            .unwrap_or(file.path.as_os_str())
            .to_string_lossy();
        let (is_draft, outcome) = look_at(file, options)?;
        let (tally, mark) = if is_draft {
            (&mut draft, "draft ")
        } else {
            (&mut tally, "")
        };
        match outcome {
            Outcome::Pass => {
                tally.passed += 1;
                writeln!(out, "{mark}pass {name}")?;
            }
            Outcome::Fail(why) => {
                tally.failed += 1;
                writeln!(out, "{mark}fail {name}: {why}")?;
            }
            Outcome::Unsupported(operation) => {
                tally.unsupported += 1;
                writeln!(out, "{mark}unsupported {name}: {operation}")?;
            }
            Outcome::Skip(why) => {
                tally.skipped += 1;
                writeln!(out, "skip {name}: {why}")?;
            }
        }
    }
    tally.skipped += draft.skipped;
    if options.draft {
        writeln!(
            out,
            "draft: {} passed, {} failed",
            draft.passed, draft.failed
        )?;
    }
    writeln!(out, "{}", tally.line(options.mode))?;
    Ok(Ok(tally))
}

impl Tally {
    /// The counts as the last line has them.
    pub fn line(&self, mode: Mode) -> String {
        let Tally {
            passed,
            failed,
            unsupported,
            skipped,
        } = self;
        match (mode, skipped) {
            (Mode::Roundtrip, _) => format!("{passed} passed, {failed} failed, {skipped} skipped"),
            (Mode::Replay, 0) => {
                format!("{passed} passed, {failed} failed, {unsupported} unsupported")
            }
            (Mode::Replay, _) => format!(
                "{passed} passed, {failed} failed, {unsupported} unsupported, {skipped} skipped"
            ),
        }
    }
}

/// What becomes of a file, and whether it counts for the draft.
fn look_at(file: &Found, options: &Options) -> Result<(bool, Outcome)> {
    let case = match read(&file.path) {
        Ok(case) => case,
        Err(why) => return Ok((false, Outcome::Fail(why))),
    };
    if case.messages.is_empty() {
        let why =
            "not a KMIP test case: there is no RequestMessage or ResponseMessage in it".to_owned();
        return Ok((
            false,
            if file.named {
                Outcome::Fail(why)
            } else {
                Outcome::Skip(why)
            },
        ));
    }
    // What 3.0 will be is not settled, and what comes behind it less so.
    Ok(
        match case
            .messages
            .iter()
            .filter_map(|message| message.version)
            .find(|(major, _)| *major >= 3)
        {
            Some((major, minor)) if !options.draft => (
                true,
                Outcome::Skip(format!(
                    "a case of KMIP {major}.{minor}, which is a draft: --draft tries it"
                )),
            ),
            version => {
                let outcome = match options.mode {
                    Mode::Roundtrip => roundtrip::check(&case),
                    Mode::Replay => replay::check(&case)?,
                };
                (version.is_some(), outcome)
            }
        },
    )
}

fn read(path: &Path) -> std::result::Result<Case, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = bytes
            .iter()
            .take(error.valid_up_to())
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        Malformed {
            line,
            why: "the text is not UTF-8".to_owned(),
        }
        .to_string()
    })?;
    case::read(text).map_err(|malformed| malformed.to_string())
}

/// The files that are meant: those named, and all `*.xml` below the folders named, in order of their paths.
fn found(paths: &[PathBuf]) -> std::result::Result<Vec<Found>, String> {
    let mut files = Vec::new();
    for path in paths {
        let unreadable = |error: std::io::Error| format!("{}: {error}", path.display());
        if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
            let mut below = Vec::new();
            collect(path, &mut below)?;
            below.sort();
            if below.is_empty() {
                eprintln!("{}: there is no *.xml in it", path.display());
            }
            files.extend(below.into_iter().map(|path| Found { path, named: false }));
        } else {
            std::fs::File::open(path).map_err(unreadable)?;
            files.push(Found {
                path: path.clone(),
                named: true,
            });
        }
    }
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::result::Result<(), String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
        // A link to a folder could lead in a circle.
        if kind.is_dir() {
            collect(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("xml"))
            && path.is_file()
        {
            files.push(path);
        }
    }
    Ok(())
}
