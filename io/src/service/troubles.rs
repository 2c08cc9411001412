//! Troubles: what no single event shows, since it is bad only if it lasts. Each has an event when it has lasted long enough,
//! and again every ten minutes while it lasts; alert rules count these events as they count all others.
//!
//! The hub is looked at every ten seconds, and only while there is something to look at: O(kinds in the metrics).

use super::Service;
use crate::object::Object;
use sheratan_core::telemetry::Counter;
use sheratan_core::{Account, FinalStatus, Gate, Millis, Status, Timestamp};
use std::collections::BTreeMap;

/// How often the hub is looked at.
const LOOK_MS: Millis = Millis::from_secs(10);

/// How often a trouble that lasts is reported again.
const REPEAT_MS: Millis = Millis::from_secs(600);

/// How long submits are refused before that is a trouble.
const BACKPRESSURE_MS: Millis = Millis::from_secs(120);

/// How long no job is leased although some are ready before that is a trouble.
const NO_PROGRESS_MS: Millis = Millis::from_secs(600);

/// Jobs of a kind that fail, and none that completes, before that is a trouble.
const FAILURES: u64 = 5;

/// After so long without a failure those of a kind are forgotten.
const FAILURES_FORGOTTEN_MS: Millis = Millis::from_secs(600);

/// Dead letters are nearly full from this many percent of one of their limits on.
const NEARLY_FULL_PERCENT: u64 = 80;

/// The state of what is looked at.
#[derive(Debug, Default)]
pub struct Troubles {
    looked_at: Timestamp,
    ended: u64,
    /// Since when there is no look without a refusal, or without a ready job.
    refuses_since: Option<Timestamp>,
    ready_since: Option<Timestamp>,
    /// Kinds that failed since they last completed a job.
    failing: BTreeMap<String, Failing>,
    reported: BTreeMap<(&'static str, String), Timestamp>,
}

/// A kind of which jobs fail.
#[derive(Clone, Debug)]
struct Failing {
    completed: u64,
    /// Its failures when none had failed yet, and now.
    failed_before: u64,
    failed: u64,
    since: Timestamp,
    failed_at: Timestamp,
}

/// A trouble as its event writes it.
struct Trouble {
    event: &'static str,
    /// What it is about, where there may be several.
    about: String,
    numbers: Vec<(&'static str, u64)>,
    since: Option<Timestamp>,
}

impl Troubles {
    /// Which troubles of these are to be reported now. Those that are over are forgotten.
    fn report(&mut self, now: Timestamp, troubles: Vec<Trouble>) -> Vec<Trouble> {
        let lasts: Vec<_> = troubles.iter().map(|trouble| (trouble.event, trouble.about.clone())).collect();
        self.reported.retain(|key, _| lasts.contains(key));
        let mut due = troubles;
        due.retain(|trouble| {
            let at = self.reported.entry((trouble.event, trouble.about.clone())).or_insert(Timestamp::ZERO);
            let is_due = *at == Timestamp::ZERO || now >= *at + REPEAT_MS;
            *at = if is_due { now } else { *at };
            is_due
        });
        due
    }
}

impl Service {
    /// When the hub is looked at next; never while nothing waits, nothing fails, and nothing is wrong.
    pub(super) fn troubles_due_at(&self) -> Option<Timestamp> {
        let (troubles, counts) = (&self.troubles, self.hub.counts());
        let is_quiet = counts.waiting() == 0
            && counts.dead == 0
            && troubles.refuses_since.is_none()
            && troubles.failing.values().all(|known| known.failed == known.failed_before)
            && troubles.ended == self.ended_count();
        (!is_quiet).then(|| (troubles.looked_at + LOOK_MS).max(self.hub.now()))
    }

    /// Looks at the hub, if that is due.
    pub(super) fn look_for_troubles(&mut self, now: Timestamp) {
        if self.troubles_due_at().is_none_or(|at| at > now) {
            return;
        }
        self.troubles.looked_at = now;
        self.troubles.ended = self.ended_count();
        let mut found = Vec::new();
        found.extend(self.nearly_full_letters());
        found.extend(self.lasting_backpressure(now));
        found.extend(self.missing_progress(now));
        found.extend(self.failing_kinds(now));
        let calendar = self.hub.calendar();
        for trouble in self.troubles.report(now, found) {
            self.audit(now, trouble.event, |out: &mut Object| {
                if !trouble.about.is_empty() {
                    out.text("kind", &trouble.about);
                }
                trouble.numbers.iter().for_each(|(key, number)| _ = out.number(key, *number));
                if let Some(since) = trouble.since {
                    out.time("since_utc", calendar.utc(since));
                }
            });
        }
    }

    fn ended_count(&self) -> u64 {
        let telemetry = self.hub.telemetry();
        telemetry.total(Counter::Completed) + telemetry.total(Counter::Failed)
    }

    fn nearly_full_letters(&self) -> Option<Trouble> {
        let (limits, letters) = (self.hub.limits(), self.hub.counts().dead);
        let bytes = self.hub.ledger().get(Account::Dead);
        let is_nearly = |held: u64, max: u64| {
            held > 0 && u128::from(held) * 100 >= u128::from(max) * u128::from(NEARLY_FULL_PERCENT)
        };
        let numbers = vec![
            ("letters", letters),
            ("letters_max", limits.dead_jobs_max),
            ("bytes", bytes),
            ("bytes_max", limits.dead_bytes_max),
        ];
        let is_trouble = is_nearly(letters, limits.dead_jobs_max) || is_nearly(bytes, limits.dead_bytes_max);
        is_trouble.then(|| Trouble { event: "DLQ_NEARLY_FULL", about: String::new(), numbers, since: None })
    }

    fn lasting_backpressure(&mut self, now: Timestamp) -> Option<Trouble> {
        let drops = self.hub.telemetry().dropped_last_minute(now);
        let refuses = drops > 0 || self.is_queue_full();
        let since = self.troubles.refuses_since.filter(|_| refuses).or(refuses.then_some(now));
        self.troubles.refuses_since = since;
        let since = since.filter(|since| now >= *since + BACKPRESSURE_MS)?;
        let (depth, max) = (self.hub.counts().waiting(), self.hub.limits().queue_depth_max);
        let numbers = vec![("queue_depth", depth), ("max", max), ("drops_1m", drops)];
        Some(Trouble { event: "BACKPRESSURE_LASTS", about: String::new(), numbers, since: Some(since) })
    }

    /// Jobs are ready and none is leased. Those of paused kinds do not count.
    fn missing_progress(&mut self, now: Timestamp) -> Option<Trouble> {
        let queue = self.hub.queue();
        let is_stopped = |kind: &str| match queue.kind_gate(now, kind) {
            Gate::Paused(_) => true,
            Gate::RateLimited(at) => at == Timestamp::NEVER,
            Gate::Open | Gate::Full => false,
        };
        let stopped = queue.ruled_kinds().filter(|(name, ..)| is_stopped(name));
        let stopped: u64 = stopped.filter_map(|(name, ..)| Some(queue.kind_tally(name)?.1.get(Status::Queued))).sum();
        let ready = self.hub.counts().queued.saturating_sub(stopped);
        let since = self.troubles.ready_since.filter(|_| ready > 0).or((ready > 0).then_some(now));
        self.troubles.ready_since = since;
        let since = since?.max(self.hub.telemetry().leased_at());
        let numbers = vec![("ready", ready), ("leased", self.hub.counts().leased)];
        let trouble = Trouble { event: "NO_PROGRESS", about: String::new(), numbers, since: Some(since) };
        (now >= since + NO_PROGRESS_MS).then_some(trouble)
    }

    fn failing_kinds(&mut self, now: Timestamp) -> Vec<Trouble> {
        let (hub, failing) = (&self.hub, &mut self.troubles.failing);
        for (kind, counts) in hub.telemetry().kinds().iter() {
            let of = |status: FinalStatus| counts.ended[status as usize];
            let (completed, failed) = (of(FinalStatus::Completed), of(FinalStatus::Failed) + of(FinalStatus::Dead));
            match failing.get_mut(kind) {
                Some(known) if known.completed == completed => {
                    known.failed_at = if failed > known.failed { now } else { known.failed_at };
                    known.failed = failed;
                }
                Some(known) => {
                    *known =
                        Failing { completed, failed_before: failed, failed, since: now, failed_at: known.failed_at }
                }
                None if failed > 0 => {
                    let fresh = Failing { completed, failed_before: 0, failed, since: now, failed_at: now };
                    // What happened before the first look is one look old at most, unless jobs completed meanwhile.
                    let failed_before = if completed == 0 { 0 } else { failed };
                    failing.insert(kind.to_owned(), Failing { failed_before, ..fresh });
                }
                None => {}
            }
        }
        failing.values_mut().filter(|known| now >= known.failed_at + FAILURES_FORGOTTEN_MS).for_each(|known| {
            known.failed_before = known.failed;
        });
        let only_fails = |known: &Failing| known.failed - known.failed_before >= FAILURES;
        let troubles = failing.iter().filter(|(_, known)| only_fails(known)).map(|(kind, known)| Trouble {
            event: "KIND_ONLY_FAILS",
            about: kind.clone(),
            numbers: vec![("failures", known.failed - known.failed_before)],
            since: Some(known.since),
        });
        troubles.collect()
    }

    /// Whether one of the queue's limits is reached.
    pub(super) fn is_queue_full(&self) -> bool {
        let (counts, limits) = (self.hub.counts(), self.hub.limits());
        counts.waiting() >= limits.queue_depth_max || self.hub.ledger().unfinished() >= limits.queue_bytes_max
    }
}
