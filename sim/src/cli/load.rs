//! `sheratan-sim load`: runs a load scenario and reports its result.

use super::interrupt::{Interrupt, ended_by};
use super::scenario::{self, Named};
use super::terminal::{MISUSED, bar, ended, failed, line};
use serde_json::Value;
use sheratan_sim::load::driver::Driver;
use sheratan_sim::load::report::{Report, Speed};
use sheratan_sim::load::scenario::Scenario;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// What `sheratan-sim load --help` says at its end.
const EXAMPLES: &str = "\
Examples:
  sheratan-sim load --list
  sheratan-sim load spike --html spike.html
  sheratan-sim load million-nodes --scale 0.1 --json
  sheratan-sim load my-mesh.toml --seed 7

A scenario is a TOML file; begin with a copy of one in sim/scenarios. Exit code 1 if the books of a run do not balance, \
2 if there is no such scenario.";

/// The default seed.
const SEED_DEFAULT: u64 = 1;

/// The arguments of `load`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The scenario: a name from --list, or a TOML file
    #[arg(required_unless_present = "list", value_name = "NAME|FILE")]
    scenario: Option<String>,
    /// Print the names of the scenarios that come with the program, and what each shows
    #[arg(long, conflicts_with = "scenario")]
    list: bool,
    /// The seed of all chance in the run
    #[arg(long, default_value_t = SEED_DEFAULT)]
    seed: u64,
    /// So many times the nodes, clients and jobs, on a hub so many times as fast
    #[arg(long, default_value_t = 1.0, value_parser = scale)]
    scale: f64,
    /// Write the report with its timeline to a file, as one HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A run of a load scenario.
pub struct Run<'a> {
    name: &'a str,
    scenario: Scenario,
    seed: u64,
    report: Report,
    speed: Speed,
}

/// Does what the command line says.
pub fn run(args: &Args) -> ExitCode {
    let Some(word) = &args.scenario else {
        scenario::list(scenario::loads(), args.json);
        return ExitCode::SUCCESS;
    };
    let load = match scenario::read(word) {
        Ok(Named::Load(load)) => load,
        Ok(Named::Default | Named::Plan(_)) => {
            let reason = format!("{word} is a run of the mesh, not a load: sheratan-sim run --scenario {word}");
            return failed(reason, MISUSED);
        }
        Err(reason) => return failed(reason, MISUSED),
    };
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(reason) => return failed(reason, 1),
    };
    match Run::of(word, load.scaled(args.scale), Some(args.seed), &interrupt) {
        Some(run) => run.print(args.html.as_deref(), args.json),
        None => ended_by(format_args!("{word} did not run to its end")),
    }
}

impl<'a> Run<'a> {
    /// Runs a scenario, under a progress bar; `None` if it was interrupted.
    pub fn of(name: &'a str, scenario: Scenario, seed: Option<u64>, interrupt: &Interrupt) -> Option<Self> {
        let seed = seed.unwrap_or(SEED_DEFAULT);
        let bar = bar(scenario.seconds, "{wide_bar} {pos}/{len} virtual seconds, {eta} left");
        let started = Instant::now();
        let report = Driver::new(&scenario, seed).run_while(|now| {
            bar.set_position(now / 1_000_000);
            !interrupt.is_asked()
        });
        let wall_secs = started.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let speed = Speed { wall_secs, peak_rss_bytes: peak_rss_bytes() };
        report.map(|report| Run { name, scenario, seed, report, speed })
    }

    /// Checks the report.
    pub fn check(&self) -> Result<(), String> {
        self.report.check()
    }

    /// Runs it again: the report must be the same.
    pub fn check_again(&self) -> Result<(), String> {
        let other = Driver::new(&self.scenario, self.seed).run(|_| ());
        match other.to_json() == self.report.to_json() {
            true => Ok(()),
            false => Err("a seed means one run, but a second run of this one had another report".to_owned()),
        }
    }

    /// The report as one JSON object.
    pub fn to_json(&self) -> Value {
        let mut json = self.report.to_json();
        json["speed"] = self.speed.to_json(&self.report);
        json
    }

    /// A summary in a few words.
    pub fn summary(&self) -> String {
        format!("{:.1} jobs/s", self.report.goodput())
    }

    /// Prints the report, and writes its page if one is asked for.
    pub fn print(&self, html: Option<&Path>, is_json: bool) -> ExitCode {
        if let Some(file) = html {
            let page = self.report.to_page(self.name, Some(self.speed)).to_html();
            if let Err(error) = fs::write(file, page) {
                return failed(format_args!("{} cannot be written: {error}", file.display()), 1);
            }
        }
        if is_json {
            line(self.to_json());
        } else {
            let figures = self.speed.figures(&self.report);
            let figures: Vec<_> = figures.iter().map(|(name, value)| format!("{name:<28}{value}")).collect();
            line(format_args!("{}\n{}", self.report, figures.join("\n")));
        }
        match self.check() {
            Ok(()) => ended(true),
            Err(reason) => failed(reason, 1),
        }
    }
}

/// The most memory that the process had, where Linux says so.
fn peak_rss_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// A scale from the command line.
pub fn scale(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(scale) if (0.000_1..=100.0).contains(&scale) => Ok(scale),
        _ => Err("it must be a number from 0.0001 to 100".to_owned()),
    }
}
