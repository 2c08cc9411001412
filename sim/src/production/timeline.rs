//! The timeline: what happened in a hub, minute by minute, counted from its outcomes and effects.

use hdrhistogram::Histogram;
use sheratan_core::telemetry::Counter;
use sheratan_core::{
    Audit, Calendar, Command, Effect, Hub, JobSeq, JobView, Millis, Outcome, Refusal, State, Submitted, Timestamp,
};
use std::collections::BTreeMap;

const MINUTE_MS: u64 = 60_000;

/// Significant digits of waits: a table shows no more than three.
const WAIT_DIGITS: u8 = 3;

/// The longest wait that is counted exactly, a month; longer ones count as this.
const WAIT_MS_MAX: u64 = 30 * 86_400_000;

/// What happened in a minute, or in all.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// Jobs that were accepted.
    pub accepted: u64,
    /// Submits that were refused.
    pub refused: u64,
    /// Leases that were granted.
    pub leased: u64,
    /// Jobs that were completed.
    pub completed: u64,
    /// Jobs that ended otherwise.
    pub failed: u64,
    /// Attempts after which a retry was scheduled.
    pub retried: u64,
}

/// How long jobs were ready before they were leased.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Waits {
    /// The median, in milliseconds.
    pub p50_ms: u64,
    /// The 99th percentile, in milliseconds.
    pub p99_ms: u64,
}

/// A minute in which something happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its first instant.
    pub minute: Timestamp,
    /// What happened.
    pub tally: Tally,
    /// Jobs that wait at its end.
    pub depth: u64,
    /// The waits of the jobs that were leased in it; `None` without any.
    pub waits: Option<Waits>,
}

/// A hub, and counts of what happens in it.
#[derive(Debug)]
pub struct Watched {
    hub: Hub,
    /// When each waiting job is ready, until its next lease.
    ready_at: BTreeMap<JobSeq, Timestamp>,
    rows: Vec<Row>,
    minute: u64,
    tally: Tally,
    waits: Histogram<u64>,
    total: Tally,
    total_waits: Histogram<u64>,
    effects: Vec<Effect>,
    /// The telemetry's count of completed jobs after the last settling.
    completed: u64,
    refusals: BTreeMap<&'static str, u64>,
    empty_pulls: u64,
}

impl Watched {
    /// Watches a hub from its state on.
    pub fn new(mut hub: Hub) -> Watched {
        hub.serve();
        let jobs = hub.queue().iter_from(JobSeq::FIRST);
        let ready_at = jobs.filter_map(|job| Some((job.seq(), ready_at(hub.calendar(), job)?)));
        let histogram = || {
            Histogram::new_with_max(WAIT_MS_MAX, WAIT_DIGITS).expect("these are bounds and digits that there can be")
        };
        Watched {
            minute: minute_of(hub.now()),
            ready_at: ready_at.collect(),
            hub,
            rows: Vec::new(),
            tally: Tally::default(),
            waits: histogram(),
            total: Tally::default(),
            total_waits: histogram(),
            effects: Vec::new(),
            completed: 0,
            refusals: BTreeMap::new(),
            empty_pulls: 0,
        }
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Fires the timers that are due, then applies a command.
    pub fn apply(&mut self, now: Timestamp, command: Command) -> Outcome {
        self.advance(now);
        let (is_submit, is_pull) = (matches!(command, Command::Submit(_)), matches!(command, Command::Pull(_)));
        let outcome = self.hub.apply(now, command);
        self.settle();
        match &outcome {
            Outcome::Submitted(Submitted::Accepted { job, .. }) => {
                self.tally.accepted += 1;
                let ready_at = self.hub.queue().get(*job).and_then(|job| ready_at(self.hub.calendar(), job));
                self.ready_at.extend(ready_at.map(|at| (*job, at)));
            }
            Outcome::Pulled(pulled) if !pulled.leases.is_empty() => {
                self.tally.leased += pulled.leases.len() as u64;
                for leased in &pulled.leases {
                    let ready_at = self.ready_at.remove(&leased.lease.job).expect("a job that is leased was ready");
                    let waited_ms = self.hub.now().since(ready_at).get();
                    self.waits.saturating_record(waited_ms);
                    self.total_waits.saturating_record(waited_ms);
                }
            }
            Outcome::Refused(refusal) if is_submit => {
                self.tally.refused += 1;
                *self.refusals.entry(reason(refusal)).or_default() += 1;
            }
            Outcome::Pulled(pulled) if is_pull && pulled.leases.is_empty() => self.empty_pulls += 1,
            _ => {}
        }
        outcome
    }

    /// Fires the timers that are due up to `now`, each counted in its own minute.
    pub fn advance(&mut self, now: Timestamp) {
        let now = now.max(self.hub.now());
        while let Some(at) = self.hub.next_deadline().filter(|at| *at <= now) {
            self.end_minute_before(at);
            self.hub.advance(at);
            self.settle();
        }
        self.end_minute_before(now);
        self.hub.advance(now);
    }

    /// The minutes in which something happened, the current one included.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = self.rows.clone();
        rows.extend(self.row());
        rows
    }

    /// What happened in all.
    pub fn total(&self) -> Tally {
        self.total.and(self.tally)
    }

    /// How long jobs waited in all.
    pub fn total_waits(&self) -> Option<Waits> {
        waits(&self.total_waits)
    }

    /// Refused submits by reason.
    pub fn refusals(&self) -> &BTreeMap<&'static str, u64> {
        &self.refusals
    }

    /// Pulls that found nothing.
    pub fn empty_pulls(&self) -> u64 {
        self.empty_pulls
    }

    /// Ends the current minute if `now` is in a later one.
    fn end_minute_before(&mut self, now: Timestamp) {
        if minute_of(now) <= self.minute {
            return;
        }
        self.rows.extend(self.row());
        self.total = self.total();
        (self.tally, self.minute) = (Tally::default(), minute_of(now));
        self.waits.reset();
    }

    fn row(&self) -> Option<Row> {
        let minute = Timestamp::from_millis(self.minute * MINUTE_MS);
        let row = Row { minute, tally: self.tally, depth: self.hub.counts().waiting(), waits: waits(&self.waits) };
        (self.tally != Tally::default()).then_some(row)
    }

    fn settle(&mut self) {
        // This hub has no long polls, event streams or audit log.
        loop {
            self.hub.settle(&mut self.effects);
            if self.effects.is_empty() {
                break;
            }
            for effect in self.effects.drain(..) {
                match effect {
                    Effect::Audit(at, Audit::RetryScheduled { job, delay_ms, .. }) => {
                        self.tally.retried += 1;
                        self.ready_at.insert(job, at + delay_ms);
                    }
                    // Completed ones are subtracted below.
                    Effect::Ended { job, .. } => {
                        self.tally.failed += 1;
                        self.ready_at.remove(&job);
                    }
                    Effect::Audit(..) | Effect::Wake(_) => {}
                }
            }
        }
        let completed = self.hub.telemetry().total(Counter::Completed);
        let more = completed - std::mem::replace(&mut self.completed, completed);
        self.tally.completed += more;
        self.tally.failed -= more;
    }
}

impl Row {
    /// The instant after its last one.
    pub fn end(&self) -> Timestamp {
        self.minute + Millis::new(MINUTE_MS)
    }
}

impl Tally {
    /// Both together.
    pub fn and(self, other: Tally) -> Tally {
        Tally {
            accepted: self.accepted + other.accepted,
            refused: self.refused + other.refused,
            leased: self.leased + other.leased,
            completed: self.completed + other.completed,
            failed: self.failed + other.failed,
            retried: self.retried + other.retried,
        }
    }
}

fn minute_of(at: Timestamp) -> u64 {
    at.as_millis() / MINUTE_MS
}

fn waits(histogram: &Histogram<u64>) -> Option<Waits> {
    let at = |quantile| histogram.value_at_quantile(quantile);
    (!histogram.is_empty()).then(|| Waits { p50_ms: at(0.5), p99_ms: at(0.99) })
}

/// When a job that waits is ready for a node.
fn ready_at(calendar: Calendar, job: JobView<'_>) -> Option<Timestamp> {
    match job.state() {
        State::Dated { run_at } => Some(calendar.instant(run_at)),
        State::Scheduled { due_at: at } | State::Postponed { since: at } | State::Queued { since: at } => Some(at),
        State::Leased { .. } | State::Final { .. } => None,
    }
}

/// The word for a refusal.
fn reason(refusal: &Refusal) -> &'static str {
    match refusal.full() {
        Some(full) => full.reason.as_str(),
        None if matches!(refusal, Refusal::KeyCollision { .. }) => "key_collision",
        None => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheratan_core::{Complete, HubKey, Name, NameSet, Payload, Pull, ResultMark, Setting, Submit};

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_row_has_the_depth_at_its_minute_s_end_and_the_waits_in_it() {
        let mut watched = Watched::new(Hub::new(HubKey::new([1; 16])));
        watched.apply(at(0), Command::Set(vec![Setting::QueueDepthMax(2)]));
        let submit = || Command::Submit(Box::new(Submit::new(Name::new("k").unwrap(), Some(Payload::new(b"{}")))));
        for second in [1, 2, 3] {
            watched.apply(at(second * 1_000), submit());
        }
        let node = Name::new("n").unwrap();
        let pull = Pull { node: node.clone(), jobs_max: 1, kinds: NameSet::EMPTY, lease_duration_ms: None };
        watched.apply(at(11_000), Command::Pull(pull.clone()));
        watched.apply(
            at(130_000),
            Command::Complete(Complete {
                job: JobSeq::new(1),
                lease: None,
                node: Some(node),
                ok: true,
                result: None,
                error: None,
                is_retryable: false,
                mark: ResultMark::Content(1),
                integrity: None,
                retry_after_ms: None,
            }),
        );
        watched.apply(at(140_000), Command::Pull(Pull { node: Name::new("m").unwrap(), ..pull }));
        let rows = watched.rows();
        let first = Tally { accepted: 2, refused: 1, leased: 1, ..Tally::default() };
        let last = Tally { leased: 1, completed: 1, ..Tally::default() };
        assert_eq!(
            rows.iter().map(|row| (row.minute, row.tally, row.depth)).collect::<Vec<_>>(),
            [(at(0), first, 1), (at(120_000), last, 0),]
        );
        assert!(rows[0].waits.unwrap().p99_ms.abs_diff(10_000) < 20, "{:?}", rows[0].waits);
        assert_eq!(watched.total(), first.and(last));
        assert_eq!(watched.refusals().get("queue_depth"), Some(&1));
    }
}
