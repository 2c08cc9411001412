//! What `sheratan-hub diagnose` says of the binary's making.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods)]

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let said = |name: &str| env::var(name).unwrap_or_default();
    let rustc = Command::new(said("RUSTC")).arg("--version").output();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    println!("cargo::rustc-env=SHERATAN_BUILD_TARGET={}", said("TARGET"));
    println!("cargo::rustc-env=SHERATAN_BUILD_PROFILE={}", said("PROFILE"));
    println!("cargo::rustc-env=SHERATAN_BUILD_RUSTC={rustc}");
}
