//! The memory of a queued job: the bytes that the hub requests for it beside its params, and the resident memory of the
//! process.

use super::backlog::{Backlog, PARAMS_BYTES, Shape};
use crate::memory::resident_bytes;
use crate::report::{Bound, Report, grouped};
use crate::requested::Count;
use serde_json::json;

/// Requested bytes beside params of a job with a kind.
const PLAIN_BYTES_MAX: f64 = 160.0;
/// The same of one with an idempotency key and a time to live as well.
const KEYED_BYTES_MAX: f64 = 260.0;

/// Bytes of a job, params included.
pub struct Weight {
    /// Requested, with all jobs queued: slack of what grew counts.
    requested: f64,
    /// Requested, from half of the jobs on, when it was most for each queued one: each table that doubles did so once.
    requested_worst: f64,
    /// The most that was live at a moment, while a table and the larger one that replaces it existed, for each of all
    /// jobs.
    peak: f64,
    /// Resident.
    resident: Option<f64>,
}

/// Plain jobs. Has to be measured first: memory that was freed before would be resident already.
pub fn weigh_plain(jobs: u64) -> Weight {
    weigh(Shape::Plain, jobs)
}

/// Weighs keyed jobs, and describes them beside the plain ones. Not before the costs are measured: keyed jobs
/// leave holes in the heap, which an older build's costs are measured without.
pub fn measure(report: &mut Report, jobs: u64, plain: &Weight) {
    // The plain jobs' memory was freed, and may or may not be resident.
    let keyed = Weight { resident: None, ..weigh(Shape::Keyed, jobs) };
    if let Some(bytes) = plain.resident {
        report.figure("bytes_per_queued_job", bytes);
    }
    let rows = [("plain", plain), ("with key and time to live", &keyed)].map(|(what, weight)| {
        let shown = |bytes: f64| format!("{:.0}", bytes - PARAMS_BYTES as f64);
        let resident = weight.resident.map_or("-".into(), shown);
        vec![what.into(), shown(weight.requested), shown(weight.requested_worst), shown(weight.peak), resident]
    });
    let title = format!("Bytes of each of {} queued jobs beside its {PARAMS_BYTES} of params", grouped(jobs as f64));
    let heads = ["", "requested", "at the worst count from half on", "peak", "resident"];
    report.table(title, &heads, rows.into());
    for (name, weight) in [("plain", plain), ("keyed", &keyed)] {
        let Weight { requested, requested_worst, peak, .. } = weight;
        report.figure(
            &format!("requested_per_queued_job_{name}"),
            json!({"jobs": jobs, "params": PARAMS_BYTES, "live": requested, "live_worst": requested_worst, "peak": peak}),
        );
    }
    let beside = |weight: &Weight| weight.requested - PARAMS_BYTES as f64;
    report.target("bytes requested for a queued job beside params", beside(plain), Bound::AtMost(PLAIN_BYTES_MAX));
    let what = "bytes requested for a queued job with key and time to live beside params";
    report.target(what, beside(&keyed), Bound::AtMost(KEYED_BYTES_MAX));
}

fn weigh(shape: Shape, jobs: u64) -> Weight {
    let mut backlog = Backlog::empty(shape, jobs);
    let resident = || resident_bytes(std::process::id());
    let before = resident();
    let count = Count::start();
    let mut worst = 0.0f64;
    backlog.fill(jobs, |hub| {
        let queued = hub.counts().queued;
        if queued >= jobs / 2 {
            worst = worst.max(count.live() as f64 / queued as f64);
        }
    });
    let (live, peak) = (count.live(), count.peak());
    let after = resident();
    let each = |bytes: f64| bytes / jobs as f64;
    Weight {
        requested: each(live as f64),
        requested_worst: worst,
        peak: each(peak as f64),
        resident: before.zip(after).map(|(before, after)| each(after as f64 - before as f64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_weighs_its_params_at_least_and_a_keyed_one_more() {
        let (plain, keyed) = (weigh(Shape::Plain, 1_050), weigh(Shape::Keyed, 1_050));
        for weight in [&plain, &keyed] {
            assert!(weight.requested > PARAMS_BYTES as f64, "{}", weight.requested);
            assert!(weight.requested <= weight.requested_worst && weight.requested <= weight.peak);
        }
        assert!(keyed.requested > plain.requested + 22.0, "it has a key of 22 bytes at least");
    }
}
