//! What the hash of all outcomes costs, as far as it can be timed from outside.
//!
//! Each command folds its outcome into the hash; that is part of every operation's cost and is read from a profile
//! (docs/benchmarks.md says how). Here it is what asking for the hash costs, which is done once a batch of the journal.

use super::backlog::{Backlog, Shape};
use crate::report::Report;
use crate::sample::Samples;
use serde_json::json;
use std::time::Duration;

/// Calls that are timed together. Reading the clock costs about as much as some calls.
const CALLS: u32 = 100;
/// Jobs in the hub, and lifecycles beside which the hash is asked for.
const JOBS: u64 = 1_000;

pub fn measure(report: &mut Report, rounds: u32) {
    let mut backlog = Backlog::new(Shape::Plain, JOBS);
    let (mut call, mut lifecycle) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        let time = backlog.submit(JOBS) + backlog.pull(JOBS) + backlog.complete();
        lifecycle.push(nanoseconds(time) / JOBS as f64);
        call.push(nanoseconds(backlog.outcome_hash(CALLS)) / f64::from(CALLS));
    }
    let (call_ns, share) = (call.median(), call.paired_ratio(&lifecycle));
    let title = format!("The hash of all outcomes (medians of {rounds} rounds)");
    let rows =
        vec![vec!["asked for, once a batch of the journal".into(), format!("{call_ns:.1} ns"), format!("{share:.3}")]];
    report.table(title, &["", "a call", "of a lifecycle"], rows);
    report.figure("outcome_hash", json!({"call_ns": call_ns, "of_lifecycle": share}));
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}
