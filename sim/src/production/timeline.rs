//! The timeline: what happened in a hub, minute by minute, told by its effects and outcomes.

use hdrhistogram::Histogram;
use sheratan_core::{Audit, Command, Effect, FinalStatus, Hub, Millis, Outcome, Refusal, Stage, Timestamp};
use std::collections::BTreeMap;

const MINUTE_MS: u64 = 60_000;

/// Digits of the waits that are kept: one part in a thousand is below what anybody reads off a table.
const WAIT_DIGITS: u8 = 3;

/// The longest wait that is told from a longer one: a month.
const WAIT_MS_MAX: u64 = 30 * 86_400_000;

/// What happened in a minute, or in all.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// Jobs that came in.
    pub accepted: u64,
    /// Submits that were refused.
    pub refused: u64,
    /// Leases given.
    pub leased: u64,
    /// Jobs that were done.
    pub completed: u64,
    /// Jobs that ended otherwise.
    pub failed: u64,
    /// Attempts after which another was planned.
    pub retried: u64,
}

/// How long jobs were ready before they were leased.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Waits {
    /// Half of them at most so many milliseconds.
    pub p50_ms: u64,
    /// All but one in a hundred at most so many milliseconds.
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
    /// Of the jobs that were leased in it; none without any.
    pub waits: Option<Waits>,
}

/// A hub that is applied to, and what is seen of it.
#[derive(Debug)]
pub struct Watched {
    hub: Hub,
    rows: Vec<Row>,
    minute: u64,
    tally: Tally,
    waits: Histogram<u64>,
    total: Tally,
    total_waits: Histogram<u64>,
    refusals: BTreeMap<&'static str, u64>,
    empty_pulls: u64,
}

impl Watched {
    /// Watches a hub from its state on.
    pub fn new(hub: Hub) -> Watched {
        let histogram = || {
            Histogram::new_with_max(WAIT_MS_MAX, WAIT_DIGITS).expect("these are bounds and digits that there can be")
        };
        Watched {
            minute: minute_of(hub.now()),
            hub,
            rows: Vec::new(),
            tally: Tally::default(),
            waits: histogram(),
            total: Tally::default(),
            total_waits: histogram(),
            refusals: BTreeMap::new(),
            empty_pulls: 0,
        }
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Applies a command after all that falls due before it.
    pub fn apply(&mut self, now: Timestamp, command: Command) -> Outcome {
        self.advance(now);
        let (is_submit, is_pull) = (matches!(command, Command::Submit(_)), matches!(command, Command::Pull(_)));
        let outcome = self.hub.apply(now, command);
        self.drain();
        match &outcome {
            Outcome::Refused(refusal) if is_submit => {
                self.tally.refused += 1;
                *self.refusals.entry(reason(refusal)).or_default() += 1;
            }
            Outcome::Pulled(pulled) if is_pull && pulled.leases.is_empty() => self.empty_pulls += 1,
            _ => {}
        }
        outcome
    }

    /// Lets happen what falls due up to `now`, each minute on its own.
    pub fn advance(&mut self, now: Timestamp) {
        let now = now.max(self.hub.now());
        while let Some(at) = self.hub.next_deadline().filter(|at| *at <= now) {
            self.turn(at);
            self.hub.advance(at);
            self.drain();
        }
        self.turn(now);
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

    /// Why submits were refused.
    pub fn refusals(&self) -> &BTreeMap<&'static str, u64> {
        &self.refusals
    }

    /// Pulls that found nothing.
    pub fn empty_pulls(&self) -> u64 {
        self.empty_pulls
    }

    /// A minute may be over: nothing falls due any more before `now`.
    fn turn(&mut self, now: Timestamp) {
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

    fn drain(&mut self) {
        for effect in std::mem::take(self.hub.effects()) {
            match effect {
                Effect::Stage(_, _, Stage::Submitted) => self.tally.accepted += 1,
                Effect::Stage(_, _, Stage::Leased { waited }) => {
                    self.tally.leased += 1;
                    self.waits.saturating_record(waited.get());
                    self.total_waits.saturating_record(waited.get());
                }
                Effect::Stage(_, _, Stage::Ended(FinalStatus::Completed)) => self.tally.completed += 1,
                Effect::Stage(_, _, Stage::Ended(_)) => self.tally.failed += 1,
                Effect::Audit(_, Audit::RetryScheduled { .. }) => self.tally.retried += 1,
                // Nobody polls, listens or reads this hub's audit log.
                _ => {}
            }
        }
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

/// The word for a refusal.
fn reason(refusal: &Refusal) -> &'static str {
    match refusal.drop_reason() {
        Some(reason) => reason.as_str(),
        None if matches!(refusal, Refusal::KeyCollision { .. }) => "key_collision",
        None => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheratan_core::Name;
    use sheratan_core::Payload;
    use sheratan_core::command::{Complete, Pull, Submit};
    use sheratan_core::ids::{HubKey, JobSeq};
    use sheratan_core::limits::Limits;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_minute_is_told_with_the_depth_at_its_end_and_the_waits_in_it() {
        let mut watched = Watched::new(Hub::new(HubKey::new([1; 16])));
        let limits = Limits { queue_depth_max: 2, ..Limits::default() };
        watched.apply(at(0), Command::Configure(Box::new(limits)));
        let submit = || Command::Submit(Box::new(Submit::new(Name::new("k").unwrap(), Payload::new(b"{}"))));
        for second in [1, 2, 3] {
            watched.apply(at(second * 1_000), submit());
        }
        let node = Name::new("n").unwrap();
        let pull = Pull { node: node.clone(), jobs_max: 1, kinds: Vec::new(), lease_duration_ms: None };
        watched.apply(at(11_000), Command::Pull(pull.clone()));
        watched.apply(
            at(130_000),
            Command::Complete(Complete {
                job: JobSeq::new(1),
                lease: None,
                node: Some(node),
                ok: true,
                result: Payload::ABSENT,
                error: Payload::ABSENT,
                is_retryable: false,
                mark: 1,
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
