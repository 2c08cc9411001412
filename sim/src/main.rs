//! `sheratan-sim`: runs the hub's core under virtual time, from seeds.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use sheratan_sim::check::check;
use sheratan_sim::world::{self, Broken, Report};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sheratan-sim check                       1,000 seeds: random commands, crashes, recoveries
  sheratan-sim check --seeds 5000..9000    others
  sheratan-sim run --seed 42               one seed, and the digest of its last state";

/// Runs the hub's core under virtual time: random commands from a seed, crashes, recovery from journal and snapshot
#[derive(Parser)]
#[command(name = "sheratan-sim", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    what: What,
    /// One JSON object instead of words
    #[arg(long, global = true)]
    json: bool,
    /// Steps of each run
    #[arg(long, global = true, default_value_t = 1_000)]
    steps: u64,
}

#[derive(Subcommand)]
enum What {
    /// One seed
    Run {
        /// The seed
        #[arg(long)]
        seed: u64,
    },
    /// Many seeds; stops at the first that breaks, and says how to run it again
    Check {
        /// From the first to before the last
        #[arg(long, default_value = "0..1000", value_parser = range)]
        seeds: std::ops::Range<u64>,
        /// Threads; as many as the machine has cores if absent
        #[arg(long)]
        jobs: Option<usize>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.what {
        What::Run { seed } => world::run(seed, cli.steps),
        What::Check { seeds, jobs } => {
            let threads = jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
            let bar = ProgressBar::new(seeds.end.saturating_sub(seeds.start));
            bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {eta} left").expect("it is one"));
            let result = check(seeds, cli.steps, threads, |_| bar.inc(1));
            bar.finish_and_clear();
            result
        }
    };
    match result {
        Ok(report) => {
            println!("{}", if cli.json { json(&report) } else { words(&report) });
            ExitCode::SUCCESS
        }
        Err(Broken { seed, step, what }) => {
            if cli.json {
                println!("{}", serde_json::json!({"ok": false, "seed": seed, "step": step, "what": what}));
            }
            eprintln!("seed {seed} broke at step {step}: {what}");
            eprintln!("run it again: sheratan-sim run --seed {seed} --steps {step}");
            ExitCode::FAILURE
        }
    }
}

fn range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(start, end)| Some(start.parse().ok()?..end.parse().ok()?));
    parsed.filter(|range| !range.is_empty()).ok_or_else(|| "expected two numbers such as 0..1000".into())
}

fn words(report: &Report) -> String {
    let Report { commands, records, crashes, submitted, leased, ended, digest } = report;
    let digest = if digest.is_empty() { String::new() } else { format!("\ndigest {digest}") };
    format!(
        "ok: {commands} commands, {records} of them journaled, {crashes} crashes recovered; {submitted} jobs, {leased} leases, {ended} ends{digest}"
    )
}

fn json(report: &Report) -> String {
    serde_json::json!({
        "ok": true, "commands": report.commands, "records": report.records, "crashes": report.crashes,
        "submitted": report.submitted, "leased": report.leased, "ended": report.ended, "digest": report.digest,
    })
    .to_string()
}
