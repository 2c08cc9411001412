//! Kinds in the metrics: the jobs that are held, by kind and state.
//!
//! Clients choose the names of kinds, so at most [`METRIC_KINDS_MAX`] have series of their own: all, if there are so few,
//! else those whose events are counted by kind. The jobs of the others are summed.

use super::family::{Series, Value};
use crate::service::Service;
use sheratan_core::limits::METRIC_KINDS_MAX;
use sheratan_core::telemetry::kinds::OTHER;
use sheratan_core::{Status, Tally};
use std::collections::BTreeMap;

/// Numbers of jobs, in the order of [`Status::ALL`].
type Counts = [u64; Status::ALL.len()];

/// Series only for states with jobs: most kinds have few.
pub fn held_jobs(service: &Service) -> Vec<Series> {
    let mut by_label: BTreeMap<String, Counts> = BTreeMap::new();
    let mut add = |kind: &str, counts: Counts| {
        // Kinds share a label if their names hold secrets, or are the label of all further kinds.
        let label = service.settings.redactor.redact_text(kind).into_owned();
        by_label.entry(label).or_default().iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    };
    let queue = service.hub.queue();
    if queue.kind_count() <= METRIC_KINDS_MAX {
        queue.kind_counts().for_each(|(kind, tally)| add(kind, counts(tally)));
    } else {
        let mut others = counts(queue.tally());
        for (kind, tally) in service.hub.telemetry().kinds().iter().filter_map(|(kind, _)| queue.kind_tally(kind)) {
            others.iter_mut().zip(counts(tally)).for_each(|(sum, count)| *sum -= count);
            add(kind, counts(tally));
        }
        add(OTHER, others);
    }
    let series = by_label.into_iter().flat_map(|(kind, counts)| {
        let held = Status::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0);
        held.map(move |(status, count)| Series {
            labels: vec![("kind", kind.clone()), ("status", status.as_str().to_owned())],
            value: Value::Number(count),
        })
    });
    series.collect()
}

fn counts(tally: &Tally) -> Counts {
    Status::ALL.map(|status| tally.get(status))
}
