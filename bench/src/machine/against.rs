//! This build's core beside another's: both measure in turns, each time as a process of its own, and pairs are
//! compared.
//!
//! What slows the machine for a minute slows both of a pair, so ratios of pairs say more than medians do. The two take
//! turns in being first.

use super::checkout::Commit;
use super::cost::OPERATIONS;
use crate::child::{self, Errors};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::report::{Bound, Report, grouped};
use crate::sample::Samples;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Another build to measure beside this one.
#[derive(clap::Args)]
#[group(id = "other_build")]
pub struct Settings {
    /// Measure this build beside that of another commit, in turns: builds it in a temporary worktree.
    #[arg(long, value_name = "COMMIT", conflicts_with_all = ["against_binary", "jobs"])]
    against: Option<String>,
    /// The same beside a sheratan-bench that is built already.
    #[arg(long, value_name = "PATH", conflicts_with = "jobs")]
    against_binary: Option<PathBuf>,
    /// Where to build the other commit [default: target/against of the repository].
    #[arg(long, value_name = "FOLDER", requires = "against", conflicts_with = "against_binary")]
    target_dir: Option<PathBuf>,
}

/// How often the builds take turns.
const ROUNDS: u32 = 5;
/// The goals, as ratios of this build's cost to the other's.
const PLAIN_LIFECYCLE_RATIO_MAX: f64 = 0.55;
const KEYED_SUBMIT_RATIO_MAX: f64 = 0.25;
/// A job's lifecycle: the sum of these operations.
const LIFECYCLE: [&str; 3] = ["submit", "pull", "result"];
const SHAPES: [&str; 2] = ["plain", "keyed"];

/// One figure of a run: an operation on jobs of a shape, with few or many queued, in a batch or alone.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Figure {
    shape: &'static str,
    is_many: bool,
    operation: &'static str,
    /// Whether this build's hub is settled after each command. The other's cost is that of its only way.
    is_alone: bool,
}

/// Nanoseconds of a figure, a sample a round.
#[derive(Default)]
struct Pair {
    old: Samples,
    new: Samples,
}

impl Settings {
    pub fn is_asked_for(&self) -> bool {
        self.against.is_some() || self.against_binary.is_some()
    }
}

/// Runs both builds' core measurements, and compares them.
pub fn measure(settings: &Settings, few: u64, many: u64, rounds: Option<u32>) -> Result<Report, Failure> {
    let interrupt = Interrupt::on_signals()?;
    let new = std::env::current_exe().map_err(Failure::system("find this program"))?;
    let (old, old_name) = find_or_build(settings, &interrupt)?;
    let rounds = rounds.unwrap_or(ROUNDS);
    let mut pairs: Vec<_> = figures().map(|figure| (figure, Pair::default())).collect();
    let progress = progress_bar(rounds);
    let depths = ["--few", &few.to_string(), "--many", &many.to_string()].map(str::to_owned);
    // Both weigh plain jobs first, so that both measure costs on a heap that was used in the same way. An older build
    // knows no `--only`.
    let run_old = || run(Command::new(&old).args(["core", "--json"]).args(&depths), &interrupt, &progress, &old_name);
    let run_new = || {
        let mut command = Command::new(&new);
        run(
            command.args(["core", "--json", "--only", "memory,cost"]).args(&depths),
            &interrupt,
            &progress,
            "this build",
        )
    };
    for round in 0..rounds {
        let (old, new) = if round % 2 == 0 {
            let old = run_old()?;
            (old, run_new()?)
        } else {
            let new = run_new()?;
            (run_old()?, new)
        };
        for (figure, pair) in &mut pairs {
            pair.old.push(Figure { is_alone: false, ..*figure }.read(&old)?);
            pair.new.push(figure.read(&new)?);
        }
    }
    progress.finish_and_clear();
    let mut report = Report::default();
    describe(&mut report, &old_name, [few, many], rounds, &pairs);
    Ok(report)
}

/// The other build, and its name.
fn find_or_build(settings: &Settings, interrupt: &Interrupt) -> Result<(PathBuf, String), Failure> {
    if let Some(path) = &settings.against_binary {
        let path = std::path::absolute(path).map_err(Failure::system("find the other build"))?;
        let name = path.display().to_string();
        return Ok((path, name));
    }
    let name = settings.against.as_deref().expect("one of the two is given");
    let commit = Commit::find(name, interrupt)?;
    let binary = commit.build(settings.target_dir.as_deref(), interrupt)?;
    Ok((binary, commit.short_hash().to_owned()))
}

/// A progress bar on a terminal; without one nothing is shown.
fn progress_bar(rounds: u32) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} run {pos} of {len} done, {msg} [{elapsed}]");
    let bar = ProgressBar::new(2 * u64::from(rounds)).with_style(style.expect("the template is right"));
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}

fn run(command: &mut Command, interrupt: &Interrupt, progress: &ProgressBar, name: &str) -> Result<Value, Failure> {
    progress.set_message(format!("at {name}"));
    let output = child::run(command, Errors::Kept, interrupt)?;
    progress.inc(1);
    serde_json::from_str(&output).map_err(|error| Failure::Figures(format!("{name} printed no JSON: {error}")))
}

fn figures() -> impl Iterator<Item = Figure> {
    let operations = || LIFECYCLE.into_iter().chain(["lifecycle"]).chain(OPERATIONS[LIFECYCLE.len()..].iter().copied());
    let depths = || SHAPES.into_iter().flat_map(|shape| [false, true].map(|is_many| (shape, is_many)));
    let in_batches = depths().flat_map(move |(shape, is_many)| {
        operations().map(move |operation| Figure { shape, is_many, operation, is_alone: false })
    });
    let alone = depths().map(|(shape, is_many)| Figure { shape, is_many, operation: "lifecycle", is_alone: true });
    in_batches.chain(alone)
}

impl Figure {
    fn read(self, run: &Value) -> Result<f64, Failure> {
        if self.operation == "lifecycle" {
            return LIFECYCLE.into_iter().map(|operation| Figure { operation, ..self }.read(run)).sum();
        }
        let table = format!("cost_{}", self.shape);
        let ns = &run[&table][self.operation][self.member()];
        ns.as_f64().filter(|ns| *ns > 0.0).ok_or_else(|| {
            Failure::Figures(format!("a run's JSON has no cost of `{}` in `{table}`, but {ns}", self.operation))
        })
    }
}

impl Figure {
    fn member(self) -> &'static str {
        match (self.is_many, self.is_alone) {
            (false, false) => "few_ns",
            (true, false) => "many_ns",
            (false, true) => "few_alone_ns",
            (true, true) => "many_alone_ns",
        }
    }
}

impl Pair {
    /// The ratio of this build's cost to the other's.
    fn ratio(&self) -> f64 {
        self.new.paired_ratio(&self.old)
    }
}

fn describe(report: &mut Report, old_name: &str, depths: [u64; 2], rounds: u32, pairs: &[(Figure, Pair)]) {
    let mut rows = Vec::new();
    let mut figures = Vec::new();
    for (figure, pair) in pairs {
        let Figure { shape, is_many, operation, is_alone } = *figure;
        let how = if is_alone { ", settled after each command" } else { "" };
        let queued = depths[usize::from(is_many)];
        let ratios = pair.new.ratios(&pair.old);
        rows.push(vec![
            format!("{operation}, {shape}, {} queued{how}", grouped(queued as f64)),
            format!("{:.0} ns", pair.old.median()),
            range(&pair.old, 0),
            format!("{:.0} ns", pair.new.median()),
            range(&pair.new, 0),
            format!("{:.2}", ratios.median()),
            range(&ratios, 2),
        ]);
        figures.push(json!({
            "operation": operation, "jobs": shape, "queued": queued, "alone": is_alone,
            "old_ns": pair.old.values(), "new_ns": pair.new.values(),
            "old_median_ns": pair.old.median(), "new_median_ns": pair.new.median(), "ratio": ratios.median(),
        }));
    }
    let title =
        format!("Cost per operation: {old_name} and this build ({rounds} rounds in turns; ratios are of pairs)");
    report.table(title, &["operation", "old", "range", "new", "range", "new : old", "range"], rows);
    report.figure("against", json!({"old": old_name, "rounds": rounds, "operations": figures}));
    let ratio = |shape, is_many, operation| {
        let wanted = Figure { shape, is_many, operation, is_alone: false };
        pairs.iter().find(|(figure, _)| *figure == wanted).expect("all figures are there").1.ratio()
    };
    let most = Bound::AtMost(PLAIN_LIFECYCLE_RATIO_MAX);
    report.target("plain lifecycle with few queued, new : old", ratio("plain", false, "lifecycle"), most);
    report.target("plain lifecycle with many queued, new : old", ratio("plain", true, "lifecycle"), most);
    let most = Bound::AtMost(KEYED_SUBMIT_RATIO_MAX);
    report.target("keyed submit with many queued, new : old", ratio("keyed", true, "submit"), most);
}

fn range(samples: &Samples, digits: usize) -> String {
    let (least, most) = samples.range();
    format!("{least:.digits$}–{most:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run in which each operation takes so long, and as long in a hub of many jobs times ten.
    fn a_run(ns: f64) -> Value {
        let operation = json!({
            "few_ns": ns, "many_ns": 10.0 * ns, "ratio": 10.0, "few_alone_ns": 2.0 * ns, "many_alone_ns": 20.0 * ns,
        });
        let table: serde_json::Map<_, _> =
            OPERATIONS.iter().map(|name| ((*name).to_owned(), operation.clone())).collect();
        json!({"cost_plain": table, "cost_keyed": table})
    }

    #[test]
    fn a_lifecycle_is_submit_and_pull_and_result() {
        let figure = Figure { shape: "plain", is_many: true, operation: "lifecycle", is_alone: false };
        assert_eq!(figure.read(&a_run(7.0)).expect("it is there"), 210.0);
        assert_eq!(Figure { is_alone: true, ..figure }.read(&a_run(7.0)).expect("it is there"), 420.0);
    }

    #[test]
    fn a_run_without_a_figure_is_refused_with_its_name() {
        let mut run = a_run(7.0);
        run["cost_keyed"]["pull"] = Value::Null;
        let figure = Figure { shape: "keyed", is_many: false, operation: "lifecycle", is_alone: false };
        let text = figure.read(&run).expect_err("pull is missing").to_string();
        assert!(text.contains("`pull`") && text.contains("`cost_keyed`"), "{text}");
    }

    #[test]
    fn ratios_are_of_pairs_and_the_goals_are_targets() {
        let mut pairs: Vec<_> = figures().map(|figure| (figure, Pair::default())).collect();
        assert_eq!(pairs.len(), 28);
        for (old, new) in [(100.0, 50.0), (1_000.0, 500.0), (10.0, 5.0)] {
            for (figure, pair) in &mut pairs {
                pair.old.push(figure.read(&a_run(old)).expect("it is there"));
                pair.new.push(figure.read(&a_run(new)).expect("it is there"));
            }
        }
        let mut report = Report::default();
        describe(&mut report, "0123abcde", [1_000, 1_000_000], 3, &pairs);
        let value: Value = serde_json::from_str(&report.to_json()).expect("it is JSON");
        assert_eq!(value["against"]["operations"][0]["ratio"], 0.5);
        let met: Vec<_> = value["targets"].as_array().expect("targets").iter().map(|target| &target["met"]).collect();
        assert_eq!(met, [&json!(true), &json!(true), &json!(false)], "0.5 meets 0.55 and misses 0.25");
        let text = report.to_text();
        assert!(text.contains("lifecycle, keyed, 1,000,000 queued") && text.contains("100–10000"), "{text}");
    }
}
