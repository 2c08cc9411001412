//! Other projects' programs that some tests need: looked for on PATH, and what a test does without.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::thread;

/// The path of a program that a Debian package provides. Without it the test is skipped.
pub fn tool(name: &str, package: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        skipped(&format!("{name} is not installed (apt-get install {package})"));
    }
    found
}

/// Reports that this test was skipped, to the file that `CI_SKIPS` names as well: `.ci/run` fails if `.ci/may-skip` does not
/// list the test. Writes to standard error directly, since the test harness captures `eprintln!`.
pub fn skipped(reason: &str) {
    let thread = thread::current();
    let line = format!("SKIPPED: {}: {reason}\n", thread.name().unwrap_or("a test"));
    std::io::stderr().write_all(line.as_bytes()).expect("the standard error output takes a line");
    if let Some(path) = env::var_os("CI_SKIPS") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the list of skips takes a line");
    }
}

/// An address of this machine by which it is no loopback, if it has one; nothing is sent to find it.
pub fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // TEST-NET-1 (RFC 5737): the system only chooses the address that it would send from.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().expect("it is bound").ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}
