//! Command line of the simulator: run one seed, check many, replay what was found.

// The clock tells how long a check took and whether a step never ends.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod cli;
mod watch;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sheratan_sim::check::{SeedRange, Totals, check};
use sheratan_sim::profile::Profile;
use sheratan_sim::run::{Failure, Report, STEPS_DEFAULT, run_seed, run_steps};
use sheratan_sim::scenario::Scenario;
use sheratan_sim::shrink::shrink;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;
use watch::Watch;

/// Sheratan Hub's state machine under virtual time: random commands, crashes and replays, all from a seed.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run one seed and say how it went.
    Run {
        #[command(flatten)]
        which: Which,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        /// Print the run's profile, and each step before it happens.
        #[arg(long)]
        verbose: bool,
    },
    /// Run many seeds; stop at one that fails and print the command that replays it.
    Check {
        /// The seeds, the last one excluded: `0..1000`.
        #[arg(long, value_name = "A..B")]
        seeds: SeedRange,
        /// Steps of each run.
        #[arg(long, default_value_t = STEPS_DEFAULT)]
        steps: u64,
        /// Threads; as many as there are cores if absent.
        #[arg(long)]
        jobs: Option<NonZero<usize>>,
        /// Print how often each kind of outcome and effect was seen.
        #[arg(long)]
        verbose: bool,
    },
    /// Run a seed that fails and print the shortest scenario that fails alike.
    Shrink {
        #[command(flatten)]
        which: Which,
    },
    /// Replay what a hub recorded in its data folder, and what would have come of it under other limits.
    Replay(cli::replay::Args),
    /// Run scenarios.
    Scenarios {
        /// Their files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Args, Clone, Copy)]
struct Which {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// Steps of the run.
    #[arg(long, default_value_t = STEPS_DEFAULT)]
    steps: u64,
}

impl Task {
    /// The steps of its runs.
    fn steps(&self) -> u64 {
        match self {
            Task::Run { which, .. } | Task::Shrink { which } => which.steps,
            Task::Check { steps, .. } => *steps,
            Task::Scenarios { .. } | Task::Replay(_) => STEPS_DEFAULT,
        }
    }
}

fn main() -> ExitCode {
    let task = Arguments::parse().task;
    if let Task::Replay(args) = &task {
        return cli::replay::run(args);
    }
    let watch = Watch::start(task.steps());
    let mut out = io::stdout().lock();
    let done = match task {
        Task::Run { which, json, verbose } => run_one(&mut out, &watch, which, json, verbose),
        Task::Check { seeds, steps, jobs, verbose } => check_many(&mut out, &watch, (seeds, steps), jobs, verbose),
        Task::Shrink { which } => shrink_one(&mut out, &watch, which),
        Task::Scenarios { files } => replay(&mut out, &files),
        Task::Replay(_) => unreachable!("it has no steps to be watched, and was done before"),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Who reads the output has gone: `sheratan-sim run --verbose | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write the output: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_one(out: &mut impl Write, watch: &Watch, which: Which, json: bool, verbose: bool) -> io::Result<bool> {
    let Which { seed, steps } = which;
    let mut written = Ok(());
    if verbose {
        writeln!(out, "{:?}", Profile::of(seed))?;
    }
    let result = run_seed(seed, steps, |no, step| {
        // Who reads the steps may take a pause.
        watch.done(seed);
        if verbose && written.is_ok() {
            written = writeln!(out, "{no}: {step}");
        }
        watch.step(seed, no);
    });
    written?;
    match (&result, json) {
        (Ok(report), true) => writeln!(out, "{}", report_json(which, report))?,
        (Ok(report), false) => writeln!(out, "{}", report_text(which, report))?,
        (Err(failure), true) => writeln!(out, "{}", failure_json(which, failure))?,
        (Err(failure), false) => writeln!(out, "{}", failure_text(seed, steps, failure))?,
    }
    Ok(result.is_ok())
}

fn check_many(
    out: &mut impl Write,
    watch: &Watch,
    (seeds, steps): (SeedRange, u64),
    jobs: Option<NonZero<usize>>,
    verbose: bool,
) -> io::Result<bool> {
    let jobs = jobs.or(thread::available_parallelism().ok()).map_or(1, NonZero::get);
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left");
    let bar = ProgressBar::new(seeds.count()).with_style(style.expect("the template is one"));
    let started = Instant::now();
    let done = |seed| {
        watch.done(seed);
        bar.inc(1);
    };
    let result = check(seeds, steps, jobs, |seed, no| watch.step(seed, no), done);
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    match &result {
        Ok(totals) => {
            writeln!(out, "{}", totals_text(totals, seconds))?;
            if verbose {
                totals.sightings.iter().try_for_each(|(what, count)| writeln!(out, "{count:>10}  {what}"))?;
            }
        }
        Err((seed, failure)) => writeln!(out, "{}", failure_text(*seed, steps, failure))?,
    }
    Ok(result.is_ok())
}

fn shrink_one(out: &mut impl Write, watch: &Watch, Which { seed, steps }: Which) -> io::Result<bool> {
    match run_seed(seed, steps, |no, _| watch.step(seed, no)) {
        Ok(_) => {
            writeln!(out, "# seed {seed} does not fail within {steps} steps")?;
            Ok(false)
        }
        Err(failure) => {
            let scenario = shrink(seed, &failure);
            let found = run_steps(scenario.key_seed, &scenario.steps).expect_err("a shrunk run fails");
            writeln!(out, "# {}\n{scenario}", found.violation)?;
            Ok(true)
        }
    }
}

fn replay(out: &mut impl Write, files: &[PathBuf]) -> io::Result<bool> {
    let mut are_all_well = true;
    for file in files {
        let name = file.display();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                writeln!(out, "{name}: cannot be read: {error}")?;
                are_all_well = false;
                continue;
            }
        };
        let scenario = match Scenario::parse(&text) {
            Ok(scenario) => scenario,
            Err(error) => {
                writeln!(out, "{name}: {error}")?;
                are_all_well = false;
                continue;
            }
        };
        match run_steps(scenario.key_seed, &scenario.steps) {
            Ok(_) => writeln!(out, "{name}: well")?,
            Err(failure) => {
                writeln!(out, "{name}: {failure}")?;
                are_all_well = false;
            }
        }
    }
    Ok(are_all_well)
}

fn report_text(which: Which, report: &Report) -> String {
    let tally = &report.tally;
    format!(
        "seed {}: well after {} steps\n\
         commands   {} ({} changed something, {} were refused)\n\
         jobs       {} accepted, {} completed\n\
         crashes    {} ({} lost records), {} snapshots, {} long polls woken\n\
         digest     {}\n\
         outcomes   {}",
        which.seed,
        tally.steps,
        tally.commands,
        tally.durable,
        tally.refused,
        report.accepted,
        report.completed,
        tally.crashes,
        tally.torn,
        tally.snapshots,
        tally.wakes,
        hex(&report.digest),
        hex(&report.outcome_hash),
    )
}

fn report_json(which: Which, report: &Report) -> serde_json::Value {
    let tally = &report.tally;
    json!({
        "ok": true,
        "seed": which.seed,
        "steps": tally.steps,
        "commands": tally.commands,
        "durable": tally.durable,
        "refused": tally.refused,
        "accepted": report.accepted,
        "completed": report.completed,
        "crashes": tally.crashes,
        "torn": tally.torn,
        "snapshots": tally.snapshots,
        "wakes": tally.wakes,
        "seen": report.sightings.iter().collect::<BTreeMap<_, _>>(),
        "digest": hex(&report.digest),
        "outcome_hash": hex(&report.outcome_hash),
    })
}

fn failure_text(seed: u64, steps: u64, failure: &Failure) -> String {
    format!(
        "seed {seed} failed at {failure}\n\
         replay it:  sheratan-sim run --seed {seed} --steps {steps} --verbose\n\
         shorten it: sheratan-sim shrink --seed {seed} --steps {steps}"
    )
}

fn failure_json(which: Which, failure: &Failure) -> serde_json::Value {
    json!({
        "ok": false,
        "seed": which.seed,
        "step": failure.steps.len(),
        "kind": failure.violation.kind(),
        "reason": failure.violation.to_string(),
    })
}

fn totals_text(totals: &Totals, seconds: f64) -> String {
    let tally = &totals.tally;
    format!(
        "{} seeds well in {seconds:.1} s: {} steps, {} commands ({} changed something, {} were refused), \
         {} jobs accepted, {} completed, {} crashes ({} lost records), {} snapshots, {} long polls woken",
        totals.seeds,
        tally.steps,
        tally.commands,
        tally.durable,
        tally.refused,
        totals.accepted,
        totals.completed,
        tally.crashes,
        tally.torn,
        tally.snapshots,
        tally.wakes,
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
