//! Any bytes: the forgiving reader and the strict one.
#![no_main]
use keyferry_kmip::{context, spec};
use keyferry_ttlv::{Version, inspect};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let options = inspect::Options {
        dictionary: &spec::Names,
        is_secret: spec::is_secret,
        show_secrets: true,
    };
    let _ = inspect::tree(data, context(Version::V2_1), &options);
});
