//! Other projects' programs that some tests need: looked for on PATH, and what a test does without.

use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::thread;

/// The path of a program that a Debian package provides. Without it the test is skipped, and says so; with
/// `SHERATAN_TEST_TOOLS=required` it fails.
#[track_caller]
pub fn tool(name: &str, package: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        let reason = format!("{name} is not installed (apt-get install {package})");
        assert!(env::var_os("SHERATAN_TEST_TOOLS").is_none_or(|value| value != "required"), "{reason}");
        skipped(&reason);
    }
    found
}

/// Reports that this test was skipped. Writes to standard error directly, since the test harness captures `eprintln!`.
pub fn skipped(reason: &str) {
    let thread = thread::current();
    let line = format!("SKIPPED {}: {reason}\n", thread.name().unwrap_or("a test"));
    std::io::stderr().write_all(line.as_bytes()).expect("the standard error output takes a line");
}
