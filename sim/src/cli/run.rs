//! `sheratan-sim run`: a scenario in virtual time: the mesh with all that can go wrong, or a load.

use super::interrupt::{Interrupt, ended_by};
use super::load::{self, scale};
use super::mesh::{Described, How, Runner, Source};
use super::mutants;
use super::scenario::{self, DEFAULT, Named};
use super::terminal::{BAD, GOOD, MISUSED, ended, failed, line};
use serde_json::json;
use sheratan_mutants::Mutant;
use sheratan_sim::mesh::plan::MINUTES_MAX;
use sheratan_sim::model_check::check::SeedRange;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

/// What `sheratan-sim run --help` says at its end.
const EXAMPLES: &str = "\
Examples:
  sheratan-sim run --seed 7                        one run of the mesh, with what it was like
  sheratan-sim run --seed 7 --html seed-7.html     the same as a page, with what happened when
  sheratan-sim run --seeds 0..2000                 many; stops at the first that fails
  sheratan-sim run --seeds 0..2000 --twice         each twice, to see that a seed means one run
  sheratan-sim run --seeds 0..1000000 --keep-going     a night's work: all of them, and which failed
  sheratan-sim run --seed 7 --shrink               the smallest scenario that fails as seed 7 does
  sheratan-sim run --scenario sim/regressions/*.toml     what was found before
  sheratan-sim run --scenario a.toml --shrink      the same of a file
  sheratan-sim run --scenario spike --seed 3       a load scenario, with its report
  sheratan-sim run --list                          the names of all scenarios

Ctrl-C ends a run and says what was reached; with --seeds also how to go on. Exit code 1: an invariant is violated, or the \
books of a load do not balance; 2: the arguments cannot be meant; 130: interrupted.";

/// Which runs.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// `default` (the mesh, with everything in it), other names from --list, or files: load scenarios and plans of the mesh
    #[arg(long, value_name = "NAME|FILE", num_args = 1.., default_value = DEFAULT)]
    scenario: Vec<String>,
    /// Print the names of the scenarios that come with the program, and what each shows
    #[arg(long)]
    list: bool,
    /// The seed of a single run; 0 for the mesh, 1 for a load, and a file's own if absent
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Many seeds of the mesh, the last one excluded: `0..1000`
    #[arg(long, value_name = "A..B")]
    seeds: Option<SeedRange>,
    /// Minutes of chaos in each run of the mesh; 2, or what the file says, if absent
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=MINUTES_MAX))]
    minutes: Option<u64>,
    /// So many times the nodes, clients and jobs of a load, on a hub so many times as fast
    #[arg(long, value_parser = scale)]
    scale: Option<f64>,
    /// Run all of --seeds though some fail, and say at the end what was violated how often
    #[arg(long, requires = "seeds")]
    keep_going: bool,
    /// Threads for many seeds; as many as there are cores if absent
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
    /// Run each seed twice and compare everything that happened
    #[arg(long)]
    twice: bool,
    /// Make a run of the mesh that fails as small as it goes, and print it as a scenario file
    #[arg(long, conflicts_with_all = ["seeds", "twice", "html", "json"])]
    shrink: bool,
    /// Write the report of a single run, with its timeline, to a file, as one HTML page
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    html: Option<PathBuf>,
    /// Run a hub with this mistake in it (`sheratan-sim mutants` lists them): what it does, and which plan shows it
    #[arg(long, value_name = "NAME", value_parser = mutants::parse_name)]
    mutant: Option<Mutant>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Does what the command line says.
pub fn run(args: &Args) -> ExitCode {
    if args.list {
        scenario::list(scenario::names(), args.json);
        return ExitCode::SUCCESS;
    }
    if let Some(Err(reason)) = args.mutant.map(mutants::switch_on) {
        return failed(reason, MISUSED);
    }
    let mut scenarios = Vec::new();
    for word in &args.scenario {
        match scenario::read(word).and_then(|named| args.fits(word, &named).map(|()| named)) {
            Ok(named) => scenarios.push((word.as_str(), named)),
            Err(reason) => return failed(reason, MISUSED),
        }
    }
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(reason) => return failed(reason, 1),
    };
    let runner = Runner::new(How { is_twice: args.twice, is_json: args.json, keeps_going: args.keep_going }, interrupt);
    match scenarios.pop() {
        Some((word, named)) if scenarios.is_empty() => one(&runner, args, word, named),
        last => several(&runner, args, scenarios.into_iter().chain(last)),
    }
}

impl Args {
    /// Whether the other options can be used with that scenario.
    fn fits(&self, word: &str, named: &Named) -> Result<(), String> {
        let is_alone = self.scenario.len() == 1;
        let asked = [
            ("--seeds", self.seeds.is_some(), is_alone, "one scenario"),
            ("--shrink", self.shrink, is_alone, "one scenario"),
            ("--html", self.html.is_some(), is_alone, "one scenario"),
            ("--jobs", self.jobs.is_some(), self.seeds.is_some(), "many seeds (--seeds)"),
        ];
        let is_load = matches!(named, Named::Load(_));
        let of_mesh = "runs of the mesh, and this is a load scenario";
        let of_kind = [
            ("--seeds", self.seeds.is_some(), !is_load, of_mesh),
            ("--minutes", self.minutes.is_some(), !is_load, of_mesh),
            ("--shrink", self.shrink, !is_load, of_mesh),
            ("--scale", self.scale.is_some(), is_load, "load scenarios, and this is a run of the mesh"),
        ];
        let unfit = asked.iter().chain(&of_kind).find(|(_, is_asked, is_fit, _)| *is_asked && !is_fit);
        unfit.map_or(Ok(()), |(flag, _, _, what)| Err(format!("--scenario {word}: {flag} is for {what}")))
    }
}

fn one(runner: &Runner, args: &Args, word: &str, named: Named) -> ExitCode {
    let plan = match named {
        Named::Load(load) => {
            let load = load.scaled(args.scale.unwrap_or(1.0));
            let Some(run) = load::Run::of(word, load, args.seed, runner.interrupt()) else {
                return ended_by(format_args!("{word} did not run to its end"));
            };
            let code = run.print(args.html.as_deref(), args.json);
            return match args.twice.then(|| run.check_again()) {
                Some(Err(reason)) => failed(reason, 1),
                _ => code,
            };
        }
        Named::Default => None,
        Named::Plan(plan) => Some(*plan),
    };
    let source = Source::new(word, plan, args.minutes);
    match &args.seeds {
        Some(seeds) => {
            let jobs = args.jobs.or(thread::available_parallelism().ok()).map_or(1, NonZero::get);
            runner.many(&source, seeds, jobs)
        }
        None if args.shrink => runner.shrink(&source, args.seed),
        None => runner.one(&source, args.seed, args.html.as_deref()),
    }
}

/// Runs scenarios one after the other, and prints a line for each, or the whole report if it fails.
fn several<'a>(runner: &Runner, args: &Args, scenarios: impl Iterator<Item = (&'a str, Named)>) -> ExitCode {
    let mut is_well = true;
    let mut runs = Vec::new();
    for (word, named) in scenarios {
        let Some(described) = run_described(runner, args, word, named) else {
            if args.json {
                line(json!({ "ok": false, "interrupted": true, "scenarios": runs }));
            }
            return ended_by(format_args!("{word} and what follows it did not run to their end"));
        };
        is_well &= described.is_well;
        if args.json {
            runs.push(json!({ "scenario": word, "ok": described.is_well, "report": described.json }));
        } else if described.is_well {
            line(format_args!("{word}: {GOOD}well{GOOD:#} ({})", described.text));
        } else {
            line(format_args!("{word}: {BAD}failed{BAD:#}\n{}", described.text));
        }
    }
    if args.json {
        line(json!({ "ok": is_well, "scenarios": runs }));
    }
    ended(is_well)
}

fn run_described(runner: &Runner, args: &Args, word: &str, named: Named) -> Option<Described> {
    let plan = match named {
        Named::Load(load) => {
            let run = load::Run::of(word, load.scaled(args.scale.unwrap_or(1.0)), args.seed, runner.interrupt())?;
            let checked = run.check().and_then(|()| if args.twice { run.check_again() } else { Ok(()) });
            let is_well = checked.is_ok();
            return Some(Described {
                is_well,
                text: checked.err().unwrap_or_else(|| run.summary()),
                json: run.to_json(),
            });
        }
        Named::Default => None,
        Named::Plan(plan) => Some(*plan),
    };
    runner.one_of_several(&Source::new(word, plan, args.minutes), args.seed)
}
