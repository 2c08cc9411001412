//! `load`: runs a load scenario and reports what came of it.

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sheratan_sim::load::driver::Driver;
use sheratan_sim::load::library;
use sheratan_sim::load::report::{Report, Speed};
use sheratan_sim::load::scenario::Scenario;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  sheratan-sim load --list
  sheratan-sim load spike --html spike.html
  sheratan-sim load million-nodes --scale 0.1 --json
  sheratan-sim load my-mesh.toml --seed 7

A scenario is a TOML file; begin with a copy of one in sim/scenarios. Exit code 1 if the books of a run do not balance, \
2 if there is no such scenario.";

/// The arguments of `load`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct LoadArgs {
    /// The scenario: a name from --list, or a TOML file
    #[arg(required_unless_present = "list", value_name = "NAME|FILE")]
    scenario: Option<String>,
    /// Print the names of the scenarios that come with the program, and what each shows
    #[arg(long, conflicts_with = "scenario")]
    list: bool,
    /// The seed of all chance in the run
    #[arg(long, default_value_t = 1)]
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

/// Runs it.
pub fn run(args: LoadArgs) -> ExitCode {
    match try_run(&args) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::from(2)
        }
    }
}

fn try_run(args: &LoadArgs) -> Result<ExitCode, String> {
    let Some(name) = &args.scenario else { return list(args.json) };
    let scenario = read(name)?.scaled(args.scale);
    let (report, speed) = watched(&scenario, args.seed);
    if let Some(file) = &args.html {
        let page = report.to_page(name, Some(speed)).to_html();
        std::fs::write(file, page).map_err(|error| format!("{} cannot be written: {error}", file.display()))?;
    }
    let said = match args.json {
        true => {
            let mut json = report.to_json();
            json["speed"] = speed.to_json(&report);
            format!("{json}\n")
        }
        false => {
            let figures = speed.figures(&report);
            let figures: String = figures.iter().map(|(name, value)| format!("{name:<28}{value}\n")).collect();
            format!("{report}\n{figures}")
        }
    };
    print(&said)?;
    match report.check() {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(reason) => {
            eprintln!("{reason}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn list(is_json: bool) -> Result<ExitCode, String> {
    let mut said = String::new();
    let mut entries = Vec::new();
    for (name, text) in library::ALL {
        let shows = text.lines().next().unwrap_or_default().trim_start_matches(['#', ' ']);
        said.push_str(&format!("{name:<20}{shows}\n"));
        entries.push(serde_json::json!({ "name": name, "shows": shows }));
    }
    print(&if is_json { format!("{}\n", serde_json::Value::from(entries)) } else { said })?;
    Ok(ExitCode::SUCCESS)
}

fn read(name: &str) -> Result<Scenario, String> {
    let text = match library::find(name) {
        Some(text) => text.to_owned(),
        None => std::fs::read_to_string(name).map_err(|error| {
            format!("`{name}` is no scenario of the program (see --list) and cannot be read as a file: {error}")
        })?,
    };
    Scenario::parse(&text).map_err(|error| format!("{name}: {error}"))
}

/// Runs a scenario under a progress bar, if somebody looks.
fn watched(scenario: &Scenario, seed: u64) -> (Report, Speed) {
    let bar = match io::stderr().is_terminal() {
        true => ProgressBar::new(scenario.seconds),
        false => ProgressBar::hidden(),
    };
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} virtual seconds, {eta} left");
    bar.set_style(style.expect("the template is one"));
    let started = Instant::now();
    let report = Driver::new(scenario, seed).run(|now| bar.set_position(now / 1_000_000));
    let wall_secs = started.elapsed().as_secs_f64();
    bar.finish_and_clear();
    (report, Speed { wall_secs, peak_rss_bytes: peak_rss_bytes() })
}

/// The most memory that the process had, where Linux says so.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Prints to a reader that may have gone: `sheratan-sim load spike | head`.
fn print(said: &str) -> Result<(), String> {
    match io::stdout().write_all(said.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot write the output: {error}")),
        _ => Ok(()),
    }
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(scale) if (0.000_1..=100.0).contains(&scale) => Ok(scale),
        _ => Err("it must be a number from 0.0001 to 100".to_owned()),
    }
}
