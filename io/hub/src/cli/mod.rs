//! Command line of `sheratan-hub`: one module for each subcommand.
//!
//! Exit codes: 0 success, 1 failure, 2 invalid command line, 3 a result does not match its checksum.

mod answer;
mod audit;
mod completions;
mod demo;
mod diagnose;
mod dlq;
mod ended;
mod ends;
mod failure;
mod flags;
mod instant;
mod interrupt;
mod jobs;
mod journal;
mod kinds;
mod lifeline;
mod link;
mod listing;
mod man;
mod names;
mod nodes;
mod orphans;
mod patience;
mod policy;
mod query;
mod reload;
mod serve;
mod settings;
mod shared_token;
mod smoke;
mod submit;
mod table;
mod target;
mod terminal;
mod token;
mod watch;
mod weights;
mod worker;

use clap::{CommandFactory, Parser, Subcommand};
use sheratan_io::journal::Build;
use std::process::ExitCode;

/// The end of `sheratan-hub --help`.
const EXAMPLES: &str = "\
Examples:
  sheratan-hub serve                                     run the hub
  sheratan-hub demo .                                    a demonstration on the files of this folder
  sheratan-hub worker --exec 'python3 work.py'           run jobs on this machine
  sheratan-hub submit resize '{\"file\":\"a.png\"}' --wait   submit a job and see its result
  sheratan-hub jobs explain job_…                        why a job is not running
  sheratan-hub dlq requeue --kind resize --dry-run       how many dead jobs would run again
  sheratan-hub smoke                                     check that a running hub works as specified
  sheratan-hub audit query --event 'NODE_*' --since 2h   search the audit log
  sheratan-hub diagnose                                  write an archive for support

Exit code 0 if it was done, 1 if it failed in whole or in part, 2 for an invalid command line, 3 if a result does not match \
its checksum.";

#[derive(Parser)]
#[command(name = "sheratan-hub", version = Build::THIS.as_str(), after_help = EXAMPLES, subcommand_required = true)]
#[command(about = "A durable job queue for a mesh of workers: jobs, leases, results")]
struct Cli {
    /// Ends this process when its standard input ends, so that it does not outlive its parent.
    #[arg(long, hide = true)]
    lifeline: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the hub
    Serve(serve::Args),
    /// Run a demonstration: a hub, three workers, and a job for each file of a folder
    Demo(demo::Args),
    /// Run jobs on this machine, each by a command: its input is the job's params, its output the result
    Worker(worker::Args),
    /// Submit one job, or one job per line of standard input
    Submit(submit::Args),
    /// List, show, explain, watch or cancel jobs
    Jobs(jobs::Args),
    /// List, show, requeue or discard dead letters
    Dlq(dlq::Args),
    /// List, set, pause or resume kinds of jobs
    Kinds(kinds::Args),
    /// Show or set the weights of clients or kinds that take turns
    Weights(weights::Args),
    /// List, show, drain, accept, quarantine or remove nodes
    Nodes(nodes::Args),
    /// Show the shared token's rotation, or replace the token without downtime
    Token(token::Args),
    /// List, show, adopt or discard results of unknown jobs
    Orphans(orphans::Args),
    /// Check that a running hub works as specified
    Smoke(smoke::Args),
    /// Write an archive for support, with everything needed to find a fault and without secrets
    Diagnose(diagnose::Args),
    /// Verify the journal, or repair it
    Journal(journal::Args),
    /// Verify, follow or search the audit log
    Audit(audit::Args),
    /// Apply alert rules to an audit log, outside the hub
    Watch(watch::Args),
    /// Check, compare, add, activate and explain policies
    Policy(policy::Args),
    /// Show the effective settings and the source of each
    Config(settings::Args),
    /// Print a script that makes a shell complete this command line
    Completions(completions::Args),
    /// Write a page for man of each command
    Man(man::Args),
    /// The program that the demo's workers run
    #[command(hide = true)]
    DemoExec(demo::exec::Args),
}

/// Runs the command line; returns the process's exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    if cli.lifeline {
        lifeline::hold();
    }
    // A worker and a hub go on without their output; where output is all that is done, it must have been written.
    let is_output_all = !matches!(cli.command, Command::Worker(_) | Command::Serve(_));
    let outcome = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(args),
        Command::Worker(args) => worker::run(args),
        Command::Submit(args) => submit::run(args),
        Command::Jobs(args) => jobs::run(args),
        Command::Dlq(args) => dlq::run(args),
        Command::Kinds(args) => kinds::run(args),
        Command::Weights(args) => weights::run(args),
        Command::Nodes(args) => nodes::run(args),
        Command::Token(args) => token::run(args),
        Command::Orphans(args) => orphans::run(args),
        Command::Smoke(args) => smoke::run(args),
        Command::Diagnose(args) => diagnose::run(&args),
        Command::Journal(args) => journal::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Policy(args) => policy::run(args),
        Command::Config(args) => settings::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::DemoExec(args) => demo::exec::run(args),
    };
    match outcome {
        Ok(_) if is_output_all && terminal::output() == terminal::Output::Failed => ExitCode::FAILURE,
        Ok(code) => code,
        Err(failure) => {
            terminal::failure(&failure);
            failure.exit_code()
        }
    }
}

/// The command line as its helps show it: what is hidden there is not in it.
fn shown() -> clap::Command {
    let full = Cli::command();
    let command = clap::Command::new(full.get_name().to_owned()).version(Build::THIS.as_str()).after_help(EXAMPLES);
    let command = match full.get_about() {
        Some(about) => command.about(about.clone()),
        None => command,
    };
    let args = full.get_arguments().filter(|arg| !arg.is_hide_set()).cloned();
    let subcommands = full.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    command.args(args).subcommands(subcommands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn only_what_says_which_hub_stands_under_that_heading() {
        fn check(command: &clap::Command) {
            for arg in command.get_arguments().filter(|arg| arg.get_help_heading() == Some("Which hub")) {
                let names = ["control", "data", "data_dir", "token_file"];
                assert!(names.contains(&arg.get_id().as_str()), "{}: {}", command.get_name(), arg.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn each_subcommand_that_is_shown_has_examples_and_names_its_exit_codes() {
        fn check(command: &clap::Command) {
            for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("sheratan-hub"), "{} has no examples", command.get_name());
                let codes = help.split("Exit code 0").nth(1).unwrap_or_default();
                assert!(codes.contains("2"), "{} does not say its exit codes", command.get_name());
                check(command);
            }
        }
        check(&Cli::command());
    }
}
