//! What this build is called: the journal's files carry it, so that a record that is replayed otherwise can be matched
//! with a build.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods)]

use std::env;

/// What a header of the journal has room for.
const BUILD_BYTES: usize = 64;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SHERATAN_BUILD");
    let said = |name: &str| env::var(name).unwrap_or_default();
    println!(
        "cargo::rustc-env=SHERATAN_BUILD_NAME={}",
        build_name(&said("CARGO_PKG_VERSION"), &said("SHERATAN_BUILD"))
    );
}

/// The version, and what whoever compiles calls this build, such as a commit: `1.2.0+0123abcd`.
fn build_name(version: &str, build: &str) -> String {
    let name = if build.is_empty() { version.to_owned() } else { format!("{version}+{build}") };
    assert!(
        name.len() <= BUILD_BYTES && name.bytes().all(|byte| byte.is_ascii_graphic()),
        "SHERATAN_BUILD is printable ASCII without spaces, with the version at most {BUILD_BYTES} bytes: {name:?}"
    );
    name
}
