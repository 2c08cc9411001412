//! The core alone, without sockets and files: what its operations cost, and whether they cost the same in a large hub.

mod backlog;
mod cost;
mod job_memory;
mod recovery;

use crate::report::Report;
use backlog::Shape;
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
    /// How often the two take turns.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// All figures of the core.
pub fn measure(settings: &Settings) -> Report {
    let mut report = Report::default();
    let Settings { few, many, jobs, rounds } = *settings;
    let jobs = jobs.unwrap_or(many);
    let plain_weight = job_memory::weigh_plain(jobs);
    let comparison = Comparison { few, many, rounds };
    cost::measure(&mut report, Shape::Plain, comparison);
    cost::measure(&mut report, Shape::Keyed, comparison);
    recovery::measure(&mut report, many);
    job_memory::measure(&mut report, jobs, &plain_weight);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_of_the_core_is_in_the_report() {
        let report = measure(&Settings { few: 100, many: 200, jobs: None, rounds: 2 });
        let value: serde_json::Value = serde_json::from_str(&report.to_json()).expect("it is JSON");
        for operation in ["submit", "pull", "result", "lease expiry", "retry falls due"] {
            for shape in ["cost_plain", "cost_keyed"] {
                assert!(value[shape][operation]["many_ns"].as_f64().is_some_and(|ns| ns > 0.0), "{shape} {operation}");
            }
        }
        for shape in ["requested_per_queued_job_plain", "requested_per_queued_job_keyed"] {
            assert!(value[shape]["live"].as_f64().is_some_and(|bytes| bytes > 200.0), "{shape}");
        }
        assert_eq!(value["targets"].as_array().map(Vec::len), Some(3));
    }
}
