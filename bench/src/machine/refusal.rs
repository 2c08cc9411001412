//! What a refused submit costs, compared with an accepted one.
//!
//! The hub owns the commands that it is given, so it frees a refused submit: its texts were allocated by whoever read
//! the request. That is shown apart, and is not part of what the target is for.

use super::backlog::{Backlog, Shape};
use crate::report::{Bound, Report};
use crate::sample::Samples;
use serde_json::json;

/// Jobs that wait.
const DEPTH: u64 = 10_000;
/// Commands that are timed together.
const BATCH: u64 = 100;
/// Batches of a round, and those before that are not counted.
const BATCHES: u32 = 50;
const WARM_BATCHES: u32 = 10;
/// A refusal may cost this share of an accepted submit.
const RATIO_MAX: f64 = 0.1;

/// Compares them on one hub, in turns.
pub fn measure(report: &mut Report, rounds: u32) {
    let mut backlog = Backlog::new(Shape::Plain, DEPTH);
    let [mut accepted, mut refused, mut freed] = <[Samples; 3]>::default();
    for _ in 0..rounds {
        let mut sums = [0.0; 3];
        for batch in 0..WARM_BATCHES + BATCHES {
            let of_accepted = backlog.submit(BATCH);
            backlog.pull(BATCH);
            backlog.complete();
            backlog.set_full(true);
            let of_refused = backlog.refuse(BATCH);
            backlog.set_full(false);
            let of_freed = backlog.drop_submits(BATCH);
            if batch >= WARM_BATCHES {
                sums[0] += of_accepted.as_secs_f64();
                sums[1] += of_refused.as_secs_f64();
                sums[2] += of_freed.as_secs_f64();
            }
        }
        let [of_accepted, of_refused, of_freed] = sums.map(|sum| sum * 1e9 / (f64::from(BATCHES) * BATCH as f64));
        accepted.push(of_accepted);
        refused.push((of_refused - of_freed).max(0.0));
        freed.push(of_freed);
    }
    let [accepted_ns, refused_ns, freed_ns] = [&accepted, &refused, &freed].map(Samples::median);
    let ratio = refused.paired_ratio(&accepted);
    let row = vec![
        format!("{DEPTH} queued"),
        format!("{accepted_ns:.0} ns"),
        format!("{refused_ns:.0} ns"),
        format!("{freed_ns:.0} ns"),
        format!("{ratio:.2}"),
    ];
    report.table(
        "A submit in the core alone",
        &["", "accepted", "refused", "to free the request", "refused to accepted"],
        vec![row],
    );
    report.figure(
        "refusal",
        json!({"accepted_ns": accepted_ns, "refused_ns": refused_ns, "freed_ns": freed_ns, "ratio": ratio}),
    );
    report.target("a refused submit to an accepted one in the core", ratio, Bound::AtMost(RATIO_MAX));
}
