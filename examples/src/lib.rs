//! What the examples share: throw-away certificates, a server over a file, objects of every kind, a comparison over the wire.

pub mod bar;
pub mod engine;
pub mod fill;
pub mod follower;
pub mod host;
pub mod migration;
pub mod oasis;
pub mod offline;
pub mod pki;
pub mod site;
pub mod verify;

/// The result of an example's parts: any error ends it with its text.
pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Log lines on standard error: warnings and errors, or everything from `KEYFERRY_LOG` = error, warn, info, debug, trace.
pub fn log() {
    let level = std::env::var("KEYFERRY_LOG")
        .ok()
        .and_then(|level| level.parse().ok())
        .unwrap_or(tracing::Level::WARN);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
}

/// What `main` returns: the exit code, or 1 after saying the error.
pub fn finish(result: Result<std::process::ExitCode>) -> std::process::ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("error: {}", keyferry_kmip::Escaped(&error.to_string()));
        std::process::ExitCode::FAILURE
    })
}

/// A runtime with few threads, since each one's heap takes memory. More than there are processors: those that wait for their turn to write
/// hold one each, and all of them share the next commit.
///
/// # Errors
/// When no thread can be started.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .enable_all()
        .build()
}

/// The most memory that a process has held so far, in MiB, where the system tells.
pub fn peak_memory(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace()
        .next()?
        .parse::<f64>()
        .ok()
        .map(|kib| kib / 1024.0)
}
