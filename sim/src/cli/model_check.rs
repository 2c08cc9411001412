//! `sheratan-sim model`: run one seed of the model check, check many, replay what was found.

use super::terminal::bar;
use super::watch::Watch;
use clap::Subcommand;
use serde_json::json;
use sheratan_history::Histories;
use sheratan_sim::model_check::check::{SeedRange, Totals, check};
use sheratan_sim::model_check::profile::Profile;
use sheratan_sim::model_check::run::{Failure, Report, STEPS_DEFAULT, run_seed, run_steps};
use sheratan_sim::model_check::shrink::shrink;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

/// What `sheratan-sim model --help` says at its end.
const EXAMPLES: &str = "\
Examples:
  sheratan-sim model check --seeds 0..1000       a thousand seeds, on all cores
  sheratan-sim model run --seed 7 --verbose      one seed, step by step
  sheratan-sim model shrink --seed 7             a failing seed's shortest history
  sheratan-sim model replay sim/regressions/*    what was found before";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run one seed and report its result.
    Run {
        #[command(flatten)]
        which: Which,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        /// Print the run's profile, and each step before it is applied.
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
    /// Run a seed that fails and print the shortest history that fails alike.
    Shrink {
        #[command(flatten)]
        which: Which,
    },
    /// Run the histories in files: each is applied to the hub and to the model, which are compared.
    Replay {
        /// Their files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(clap::Args, Clone, Copy)]
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
            Task::Replay { .. } => STEPS_DEFAULT,
        }
    }
}

/// Does what the command line says; whether all was well.
pub fn run(Args { task }: Args) -> io::Result<bool> {
    let steps = task.steps();
    let watch = Watch::start(move |seed| format!("sheratan-sim model run --seed {seed} --steps {steps} --verbose"));
    let mut out = io::stdout().lock();
    match task {
        Task::Run { which, json, verbose } => run_one(&mut out, &watch, which, json, verbose),
        Task::Check { seeds, steps, jobs, verbose } => check_many(&mut out, &watch, (seeds, steps), jobs, verbose),
        Task::Shrink { which } => shrink_one(&mut out, &watch, which),
        Task::Replay { files } => replay(&mut out, &files),
    }
}

fn run_one(out: &mut impl Write, watch: &Watch, which: Which, json: bool, verbose: bool) -> io::Result<bool> {
    let Which { seed, steps } = which;
    let mut written = Ok(());
    if verbose {
        writeln!(out, "{:?}", Profile::of(seed))?;
    }
    let result = run_seed(seed, steps, |number, step| {
        // The reader of the steps may pause.
        watch.done(seed);
        if verbose && written.is_ok() {
            written = writeln!(out, "{number}: {step}");
        }
        watch.step(seed, number);
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
    let bar = bar(seeds.count(), "{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left");
    let started = Instant::now();
    let done = |seed| {
        watch.done(seed);
        bar.inc(1);
    };
    let result = check(seeds, steps, jobs, |seed, number| watch.step(seed, number), done);
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
    match run_seed(seed, steps, |number, _| watch.step(seed, number)) {
        Ok(_) => {
            writeln!(out, "# seed {seed} does not fail within {steps} steps")?;
            Ok(false)
        }
        Err(failure) => {
            write!(out, "{}", shrink(seed, &failure))?;
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
        let histories = match Histories::parse(&text) {
            Ok(histories) => histories,
            Err(error) => {
                writeln!(out, "{name}: {error}")?;
                are_all_well = false;
                continue;
            }
        };
        for history in &histories.sections {
            match run_steps(history.key_seed, &history.steps()) {
                Ok(_) => writeln!(out, "{name}: {}: well", history.title)?,
                Err(failure) => {
                    writeln!(out, "{name}: {}: {failure}", history.title)?;
                    are_all_well = false;
                }
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
        hex::encode(report.digest),
        hex::encode(report.outcome_hash),
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
        "digest": hex::encode(report.digest),
        "outcome_hash": hex::encode(report.outcome_hash),
    })
}

fn failure_text(seed: u64, steps: u64, failure: &Failure) -> String {
    format!(
        "seed {seed} failed at {failure}\n\
         replay it:  sheratan-sim model run --seed {seed} --steps {steps} --verbose\n\
         shorten it: sheratan-sim model shrink --seed {seed} --steps {steps}"
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
