//! The simulator's command line: what becomes of output that nobody reads or that cannot be written.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use sheratan_tests::sim;
use sheratan_tests::streams::broken;
use std::process::{Command, Output, Stdio};

fn run(args: &str, stdout: Stdio, stderr: Stdio) -> Output {
    let mut command = Command::new(sim());
    command.args(args.split(' ')).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    command.spawn().expect("the binary starts").wait_with_output().expect("it was started here")
}

#[test]
fn a_run_whose_output_is_unwanted_ends_quietly_and_one_that_cannot_write_it_says_so() {
    for args in [
        "run --list",
        "run --seeds 0..2 --minutes 1",
        "run --seed 1 --minutes 1 --json",
        "run --scenario spike --seed 3",
        "model run --seed 1 --steps 100 --verbose",
        "model run --seed 1 --steps 100 --json",
        "model check --seeds 0..2 --steps 100",
    ] {
        for (is_full, code) in [(false, 0), (true, 1)] {
            let output = run(args, broken(is_full), Stdio::piped());
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{args}, full: {is_full}: {stderr}");
            assert_eq!(stderr.contains("the output cannot be written"), is_full, "{args}: {stderr}");
        }
    }
}

#[test]
fn a_failure_that_cannot_be_reported_keeps_its_exit_code() {
    for (args, code) in [("replay --journal /nowhere", 1), ("run no-such-scenario", 2), ("run --nonsense", 2)] {
        assert_eq!(run(args, Stdio::null(), Stdio::piped()).status.code(), Some(code), "{args}");
        for is_full in [false, true] {
            assert_eq!(
                run(args, broken(is_full), broken(is_full)).status.code(),
                Some(code),
                "{args}, full: {is_full}"
            );
        }
    }
}
