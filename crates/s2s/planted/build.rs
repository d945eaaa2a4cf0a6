//! Sets the one `cfg` by which the engine's sources take planted faults in.

fn main() {
    println!("cargo::rustc-cfg=keyferry_planted");
    println!("cargo::rerun-if-changed=build.rs");
}
