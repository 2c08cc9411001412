//! Command line of the benchmarks: which figures there are, and how to ask for them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "those lists are the core's")]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod child;
mod client;
mod cpu;
mod failure;
mod hostile;
mod hub;
mod idle;
mod interrupt;
mod load;
mod machine;
mod memory;
mod overload;
mod platform;
mod probe;
mod report;
mod requested;
mod sample;
mod terminal;
mod trace;

use clap::{Parser, Subcommand};
use failure::Failure;
use report::Report;
use std::process::ExitCode;

/// The system's allocator, as in the builds that are compared. It counts nothing unless `core` measures memory.
#[global_allocator]
static ALLOCATOR: requested::Counting = requested::Counting;

/// Figures of Sheratan Hub, measured on this machine.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    figure: Figure,
    /// Print one JSON object instead of tables.
    #[arg(long, global = true)]
    json: bool,
    /// Exit with 1 if a target is missed.
    #[arg(long, global = true)]
    check: bool,
}

#[derive(Subcommand)]
enum Figure {
    /// Whole lifecycles over real sockets, beside the pace of the disk.
    Load(load::Settings),
    /// The same while many connections are idle.
    Idle(idle::Settings),
    /// The core alone: cost per operation with few and with many queued jobs, replay, snapshot, memory; or its cost
    /// beside another build's.
    Core(machine::Settings),
    /// What clients without a token do to the others, and to the hub's memory.
    Hostile(hostile::Settings),
    /// More jobs than the workers can do: goodput, latency of submits, what a refusal costs.
    #[command(after_long_help = overload::EXAMPLES)]
    Overload(overload::Settings),
    /// Throttling and recovery of a hub that runs; its queue is full for a while. Exits with 1 if a target is missed.
    #[command(after_long_help = overload::running::EXAMPLES)]
    LoadTest(overload::running::Settings),
    /// Requests that are refused or find nothing, with the trace and without it.
    Trace(trace::Settings),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments.figure) {
        Ok(report) => {
            let text = if arguments.json { report.to_json() } else { report.to_text() };
            if let Err(error) = terminal::print(&text) {
                terminal::note(format_args!("sheratan-bench: the report cannot be written: {error}"));
                return ExitCode::from(2);
            }
            let is_checked = arguments.check || matches!(arguments.figure, Figure::LoadTest(_));
            let is_missed = is_checked && !report.is_met();
            if is_missed { ExitCode::from(1) } else { ExitCode::SUCCESS }
        }
        Err(failure) => {
            terminal::note(format_args!("sheratan-bench: {failure}"));
            ExitCode::from(2)
        }
    }
}

fn measure(figure: &Figure) -> Result<Report, Failure> {
    match figure {
        Figure::Load(settings) => load::measure(settings),
        Figure::Idle(settings) => idle::measure(settings),
        Figure::Core(settings) => machine::measure(settings),
        Figure::Hostile(settings) => hostile::measure(settings),
        Figure::Overload(settings) => overload::measure(settings),
        Figure::LoadTest(settings) => overload::running::measure(settings),
        Figure::Trace(settings) => trace::measure(settings),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn is_accepted(line: &str) -> bool {
        Arguments::try_parse_from(line.split(' ')).is_ok()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_hub_that_runs_already_needs_both_addresses_its_token_and_its_folder() {
        let hub = "bench load --addr 127.0.0.1:8787,127.0.0.1:8788";
        assert!(is_accepted(&format!("{hub} --token-file t --dir d --check")));
        assert!(!is_accepted(&format!("{hub} --dir d")));
        assert!(!is_accepted(&format!("{hub} --token-file t")));
        assert!(!is_accepted(&format!("{hub} --token-file t --dir d --hub h")));
        assert!(!is_accepted("bench load --addr 127.0.0.1:8787 --token-file t --dir d"));
    }

    #[test]
    fn each_figure_has_defaults() {
        for line in [
            "bench load",
            "bench idle --json",
            "bench core --check",
            "bench load --connections 1 --duration 5",
            "bench load --connections 8 --against-hub other/sheratan-hub --dir d",
            "bench overload --json --check",
            "bench overload --hub other/sheratan-hub --duration 12 --capacity 500",
            "bench load-test --url http://127.0.0.1:8788 --token-file t",
            "bench trace --duration 6",
            "bench hostile --connections 100",
        ] {
            assert!(is_accepted(line), "{line}");
        }
        assert!(!is_accepted("bench load --connections 0"));
    }

    #[test]
    fn another_build_is_a_commit_or_a_binary() {
        assert!(is_accepted("bench core --against HEAD~3 --target-dir t --rounds 3 --check --json"));
        assert!(is_accepted("bench core --against-binary b --few 100 --many 200"));
        assert!(!is_accepted("bench core --against HEAD --against-binary b"));
        assert!(!is_accepted("bench core --against-binary b --target-dir t"), "nothing is built");
        assert!(!is_accepted("bench core --against HEAD --only memory"));
        assert!(is_accepted("bench core --only memory,cost --jobs 100000"));
    }
}
