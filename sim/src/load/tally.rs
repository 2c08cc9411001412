//! Tally: what is counted and measured while a scenario runs.

use super::event::Micros;
use super::promises::Promises;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// The longest wait that is counted exactly; longer ones count as this. No run is longer.
const WAIT_US_MAX: u64 = 7 * 86_400 * 1_000_000;

/// Significant digits of a quantile.
const DIGITS: u8 = 3;

/// Waits, in microseconds.
#[derive(Clone, Debug)]
pub struct Waits(Histogram<u64>);

impl Default for Waits {
    fn default() -> Self {
        Waits(Histogram::new_with_bounds(1, WAIT_US_MAX, DIGITS).expect("the bounds are those of a histogram"))
    }
}

impl Waits {
    /// Counts a wait.
    pub fn record(&mut self, wait_us: Micros) {
        self.0.saturating_record(wait_us);
    }

    /// The wait that so great a part of all was not longer than; `None` if there was none.
    pub fn quantile(&self, part: f64) -> Option<Micros> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(part))
    }

    /// The longest.
    pub fn max(&self) -> Option<Micros> {
        (!self.0.is_empty()).then(|| self.0.max())
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.reset();
    }
}

/// One point of the timeline. Counts are of the time since the point before.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// When.
    pub at: Micros,
    /// Jobs that wait.
    pub depth: u64,
    /// Jobs under lease.
    pub leased: u64,
    /// Jobs that the hub took.
    pub accepted: u64,
    /// Jobs that ended with a result.
    pub completed: u64,
    /// Jobs that the hub refused.
    pub refused: u64,
    /// The wait in the queue that one job in a hundred had or exceeded.
    pub queue_wait_p99_us: Option<Micros>,
}

/// What is counted.
#[derive(Default, Debug)]
pub struct Tally {
    /// Jobs that came.
    pub offered: u64,
    /// Jobs sent to the hub, each as often as it was sent.
    pub sent: u64,
    /// Jobs of which a client knows that the hub has them.
    pub accepted: u64,
    /// The same, of further copies of jobs.
    pub copied: u64,
    /// Answers that said that the hub has the job already.
    pub repeated: u64,
    /// Refusals of jobs, by code.
    pub refused: BTreeMap<Box<str>, u64>,
    /// Jobs that their client gave up after refusals.
    pub dropped: u64,
    /// Jobs that their client gave up without an answer.
    pub abandoned: u64,
    /// Jobs whose answer was lost or came too late.
    pub unanswered: u64,
    /// Results that the hub took.
    pub completed: u64,
    /// Results that came too late: the lease had ended.
    pub late_results: u64,
    /// Workers that a job killed.
    pub killed: u64,
    /// Nodes that the operator drained and restarted.
    pub restarted: u64,
    /// Heartbeats and pulls that were refused, by code.
    pub nodes_refused: BTreeMap<Box<str>, u64>,
    /// Connections that were opened anew, for whatever reason.
    pub reconnects: u64,
    /// From the instant when a job came to its first lease.
    pub queue_wait: Waits,
    /// From the instant when a job came to the answer to its result.
    pub until_done: Waits,
    /// The same, of the quiet client's jobs.
    pub quiet_wait: Waits,
    /// When the hub said that jobs would start.
    pub promises: Promises,
    /// From a submit's first byte to its answer.
    pub answer: Waits,
    /// From a heartbeat's first byte to its answer.
    pub heartbeat: Waits,
    /// The timeline.
    pub samples: Vec<Sample>,
    lately: Waits,
    sampled: (u64, u64, u64),
}

impl Tally {
    /// A node took a job for the first time.
    pub fn waited(&mut self, wait_us: Micros) {
        self.queue_wait.record(wait_us);
        self.lately.record(wait_us);
    }

    /// Notes the state for the timeline; `totals` are the jobs accepted and completed so far, as the hub counts.
    pub fn sample(&mut self, at: Micros, (depth, leased): (u64, u64), (accepted, completed): (u64, u64)) {
        let refused = self.refused.values().sum();
        let before = std::mem::replace(&mut self.sampled, (accepted, completed, refused));
        self.samples.push(Sample {
            at,
            depth,
            leased,
            accepted: accepted - before.0,
            completed: completed - before.1,
            refused: refused - before.2,
            queue_wait_p99_us: self.lately.quantile(0.99),
        });
        self.lately.clear();
    }
}
