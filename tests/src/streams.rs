//! Standard streams of a command: input from a test, outputs that cannot be written.

use crate::hub::Run;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs a command with this input.
pub fn with_input(mut command: Command, input: &[u8]) -> Run {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    // A command that ends early does not read its input.
    _ = child.stdin.take().expect("it is a pipe").write_all(input);
    Run::from(child.wait_with_output().expect("it was started here"))
}

/// A standard output whose reader has gone, or that is on a full disk.
pub fn broken(is_full: bool) -> Stdio {
    match is_full {
        true => OpenOptions::new().write(true).open("/dev/full").expect("the system has it").into(),
        false => std::io::pipe().expect("a pipe").1.into(),
    }
}
