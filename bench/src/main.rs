//! Command line of the benchmarks: which figures there are, and how to ask for them.

mod client;
mod failure;
mod hub;
mod interrupt;
mod load;
mod machine;
mod memory;
mod platform;
mod probe;
mod report;
mod sample;

use clap::{Parser, Subcommand};
use failure::Failure;
use report::Report;
use std::process::ExitCode;

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
    /// The core alone: cost per operation with few and with many queued jobs, replay, snapshot, memory.
    Core(machine::Settings),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments.figure) {
        Ok(report) => {
            print!("{}", if arguments.json { report.to_json() } else { report.to_text() });
            let is_missed = arguments.check && !report.is_met();
            if is_missed { ExitCode::from(1) } else { ExitCode::SUCCESS }
        }
        Err(failure) => {
            eprintln!("sheratan-bench: {failure}");
            ExitCode::from(2)
        }
    }
}

fn measure(figure: &Figure) -> Result<Report, Failure> {
    match figure {
        Figure::Load(settings) => load::measure(settings),
        Figure::Core(settings) => Ok(machine::measure(settings)),
    }
}
