//! `sheratan-sim`: the simulator's command line.

// The clock tells how long a check took and whether a step never ends.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
