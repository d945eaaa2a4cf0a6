//! The embedded store: redb, pure Rust, crash-safe
