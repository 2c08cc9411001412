//! `sheratan-sim`: the simulator's command line.

// The clock tells how long a check took and whether a step never ends.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
