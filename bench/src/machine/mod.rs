//! The core alone, without sockets and files: what its operations cost, and whether they cost the same in a large hub.

mod against;
mod backlog;
mod checkout;
mod classes;
mod cost;
mod job_memory;
mod outcome_hash;
mod pages;
mod polls;
mod recovery;
mod refusal;

use crate::failure::Failure;
use crate::report::Report;
use backlog::Shape;
use clap::ValueEnum;
use cost::Comparison;

/// What to measure.
#[derive(clap::Args)]
pub struct Settings {
    /// Jobs queued in the small hub.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(100..))]
    few: u64,
    /// Jobs queued in the large hub.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(100..))]
    many: u64,
    /// Jobs whose memory is measured [default: as many as in the large hub].
    #[arg(long, value_parser = clap::value_parser!(u64).range(100..))]
    jobs: Option<u64>,
    /// How often the two hubs take turns [default: 15]; with --against, how often the two builds do [default: 5].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Only these figures.
    #[arg(long, value_name = "FIGURE", value_delimiter = ',', conflicts_with_all = ["against", "against_binary"])]
    only: Vec<Figure>,
    #[command(flatten)]
    against: against::Settings,
}

/// A group of figures.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// Memory of a queued job.
    Memory,
    /// Cost per operation with few and with many queued jobs.
    Cost,
    /// Replay, snapshot, restore.
    Recovery,
    /// A pull by classes and kinds.
    Classes,
    /// A long poll parked, forgotten and woken.
    Polls,
    /// The hash of all outcomes.
    Hash,
    /// A page of jobs by each filter.
    Pages,
    /// A refused submit compared with an accepted one.
    Refusal,
}

/// How often hubs take turns.
const ROUNDS: u32 = 15;
/// The same where a turn may take seconds.
const ROUNDS_OF_SLOW: u32 = 5;

/// All figures of the core, or its cost beside that of another build.
pub fn measure(settings: &Settings) -> Result<Report, Failure> {
    let Settings { few, many, .. } = *settings;
    if settings.against.is_asked_for() {
        return against::measure(&settings.against, few, many, settings.rounds);
    }
    let mut report = Report::default();
    let rounds = settings.rounds.unwrap_or(ROUNDS);
    let is_wanted = |figure| settings.only.is_empty() || settings.only.contains(&figure);
    let jobs = settings.jobs.unwrap_or(many);
    let plain_weight = is_wanted(Figure::Memory).then(|| job_memory::weigh_plain(jobs));
    if is_wanted(Figure::Cost) {
        let comparison = Comparison { few, many, rounds };
        cost::measure(&mut report, Shape::Plain, comparison);
        cost::measure(&mut report, Shape::Keyed, comparison);
    }
    if is_wanted(Figure::Recovery) {
        recovery::measure(&mut report, many);
    }
    if is_wanted(Figure::Classes) {
        classes::measure(&mut report, rounds);
    }
    if is_wanted(Figure::Polls) {
        polls::measure(&mut report, rounds.min(ROUNDS_OF_SLOW));
    }
    if is_wanted(Figure::Hash) {
        outcome_hash::measure(&mut report, rounds);
    }
    if is_wanted(Figure::Pages) {
        pages::measure(&mut report, many, rounds);
    }
    if is_wanted(Figure::Refusal) {
        refusal::measure(&mut report, rounds);
    }
    if let Some(plain) = plain_weight {
        job_memory::measure(&mut report, jobs, &plain);
    }
    Ok(report)
}

/// A refused submit compared with an accepted one, in the core alone.
pub fn refusals(report: &mut Report) {
    refusal::measure(report, ROUNDS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_of_the_core_is_in_the_report() {
        let report = measure(&settings("core --few 100 --many 200 --rounds 2")).expect("nothing can fail");
        let value: serde_json::Value = serde_json::from_str(&report.to_json()).expect("it is JSON");
        for operation in ["submit", "pull", "result", "lease expiry", "retry falls due"] {
            for shape in ["cost_plain", "cost_keyed"] {
                assert!(value[shape][operation]["many_ns"].as_f64().is_some_and(|ns| ns > 0.0), "{shape} {operation}");
            }
        }
        for shape in ["requested_per_queued_job_plain", "requested_per_queued_job_keyed"] {
            assert!(value[shape]["live"].as_f64().is_some_and(|bytes| bytes > 200.0), "{shape}");
        }
        assert_eq!(value["pull_by_classes"].as_array().map(Vec::len), Some(14));
        assert!(value["long_poll"]["park"]["large_ns"].as_f64().is_some_and(|ns| ns > 0.0));
        assert!(value["outcome_hash"]["call_ns"].as_f64().is_some_and(|ns| ns > 0.0));
        assert!(value["restore"]["count"].is_u64());
        assert_eq!(value["page_of_jobs"].as_object().map(serde_json::Map::len), Some(11));
        assert!(value["refusal"]["accepted_ns"].as_f64().is_some_and(|ns| ns > 0.0));
        assert_eq!(value["targets"].as_array().map(Vec::len), Some(5));
    }

    #[test]
    fn only_the_figures_that_are_named_are_measured() {
        let report = measure(&settings("core --few 100 --many 200 --rounds 1 --only hash,recovery")).expect("it is");
        let value: serde_json::Value = serde_json::from_str(&report.to_json()).expect("it is JSON");
        assert!(value["outcome_hash"].is_object() && value["restore"].is_object());
        assert!(value["cost_plain"].is_null() && value["long_poll"].is_null());
    }

    fn settings(line: &str) -> Settings {
        let command = <Settings as clap::Args>::augment_args(clap::Command::new("core"));
        let matches = command.try_get_matches_from(line.split(' ')).expect("the line is right");
        <Settings as clap::FromArgMatches>::from_arg_matches(&matches).expect("the line is right")
    }
}
