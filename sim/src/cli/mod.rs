//! Command line: the words that `sheratan-sim` takes, one module a subcommand.
//!
//! Exit codes: 0 no failure, 1 a violation or another failure, 2 a wrong command line, 130 interrupted.

mod interrupt;
mod load;
mod mesh;
mod model_check;
mod mutants;
mod replay;
mod run;
mod scenario;
mod terminal;
mod watch;

use clap::{Parser, Subcommand};
use std::io;
use std::process::ExitCode;

/// What `sheratan-sim --help` says at its end.
const EXAMPLES: &str = "\
Examples:
  sheratan-sim run --seeds 0..2000              the mesh, with all that can go wrong, two thousand seeds
  sheratan-sim run --seed 7                     one of these runs, with what it was like
  sheratan-sim run --seed 7 --html seed-7.html  the same as a page, with what happened when
  sheratan-sim run --list                       the names of all scenarios
  sheratan-sim load spike --html spike.html     a load scenario, with its timeline
  sheratan-sim replay --journal .sheratan       what a hub recorded, minute by minute
  sheratan-sim model check --seeds 0..1000      the core beside a naive model, a thousand seeds
  sheratan-sim model run --seed 7 --verbose     one of these runs, step by step
  sheratan-sim model replay sim/regressions/*.txt   what was found before
  sheratan-sim mutants                          whether mistakes that are put in are found";

/// Sheratan Hub under virtual time, from a seed.
#[derive(Parser)]
#[command(name = "sheratan-sim", version, about, after_help = EXAMPLES, subcommand_required = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A scenario: the mesh (nodes, clients, network, disk and hub) with everything that can go wrong, or a load
    Run(run::Args),
    /// A load scenario: how a hub does under it, with a report
    Load(load::Args),
    /// What a hub recorded in its data folder, and what would have come of it under other limits
    Replay(replay::Args),
    /// The state machine alone, beside a naive model: random commands, crashes and replays
    Model(model_check::Args),
    /// Whether mistakes that are put in are found
    Mutants(mutants::Args),
}

/// Runs what the command line says; the process's exit code.
pub fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => return run::run(&args),
        Command::Load(args) => return load::run(&args),
        Command::Replay(args) => return replay::run(&args),
        Command::Model(args) => model_check::run(args),
        Command::Mutants(args) => mutants::run(args),
    };
    match done {
        Ok(is_well) => terminal::ended(is_well),
        // Standard output is closed, as in `sheratan-sim model run --verbose | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => terminal::failed(terminal::unwritten(&error), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_subcommand_has_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("sheratan-sim"), "{} has no examples", command.get_name());
        }
    }
}
