//! Promises: when the hub says that waiting jobs will start, and when they do.

use super::event::Micros;
use super::hub::{micros, timestamp};
use sheratan_core::{Hub as Core, JobSeq, Timestamp};
use std::collections::VecDeque;

/// Jobs of which an estimate was asked.
#[derive(Default, Debug)]
pub struct Promises {
    /// Those that have not started: when it was asked, and the instant that was named.
    open: VecDeque<(JobSeq, Micros, Timestamp)>,
    /// Promised by real waits, of those that have.
    ratios: Vec<f64>,
}

impl Promises {
    /// Asks for the job that was submitted last, if it waits, and looks who has started since the last time.
    pub fn look(&mut self, core: &Core, now: Micros, submitted: u64) {
        while let Some((job, asked_at, named)) = self.open.front().copied() {
            let started_at = core.queue().get(job).and_then(|job| Some(job.attempts().next()?.started_at));
            match (started_at, core.queue().get(job).is_some()) {
                (Some(started_at), _) => {
                    let promised = micros(named).saturating_sub(asked_at).max(1_000);
                    let real = micros(started_at).saturating_sub(asked_at).max(1_000);
                    self.ratios.push(promised as f64 / real as f64);
                }
                // It has gone before anyone looked.
                (None, false) => {}
                (None, true) => break,
            }
            self.open.pop_front();
        }
        if submitted > 0
            && let Some(named) = core.explain(JobSeq::new(submitted)).and_then(|explained| explained.starts_at)
            && core.queue().get(JobSeq::new(submitted)).is_some_and(|job| job.attempts().next().is_none())
        {
            self.open.push_back((JobSeq::new(submitted), now, named.max(timestamp(now))));
        }
    }

    /// How many have started, and the promised by the real wait that so great a part of them was not above.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let mut ratios = self.ratios.clone();
        ratios.sort_by(f64::total_cmp);
        let last = ratios.len().checked_sub(1)?;
        Some(ratios[(last as f64 * part).round() as usize])
    }

    /// How many have started.
    pub fn count(&self) -> usize {
        self.ratios.len()
    }
}
