//! Reads: what was reported of a job never goes back, for any reader and over any crash.
//!
//! For each job the latest progress that was reported is kept with its time. Every later request must be answered with
//! the same progress or more, also after a crash: so a read must show nothing that a crash may undo.

use super::{Oracle, Violation, holds};
use crate::agenda::{Micros, SECOND};
use sheratan_core::{FinalStatus, JobSeq, Payload, State, Timestamp};
use std::collections::BTreeMap;

/// How long after a job's end is durable its waiters may be answered.
const WAKE_US: Micros = 2 * SECOND;

/// The resolution of the hub's clock.
const CLOCK_US: Micros = 2_000;

/// A job as a reader was shown it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The job.
    pub job_id: String,
    /// Its status.
    pub status: String,
    /// How many attempts it has had.
    pub attempt: u64,
    /// Its result and error, if they were shown.
    pub payloads: Option<String>,
}

/// A page of jobs as a reader was given it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The jobs.
    pub rows: Vec<Row>,
    /// The page begins after this job.
    pub cursor: Option<String>,
    /// It lists jobs of this status only.
    pub status: Option<&'static str>,
    /// The next page begins after this job; `None` on the last page.
    pub next_cursor: Option<String>,
}

/// A wait for a job's end, and how it was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait {
    /// The job.
    pub job_id: String,
    /// When its request was sent.
    pub asked_at: Micros,
    /// The wait that was requested.
    pub wait_us: Micros,
    /// When the hub answered.
    pub left_at: Micros,
    /// Whether the job was shown to have ended.
    pub is_final: bool,
}

/// How far a job has come. Later is greater: attempts are only added, and between two of them a job waits. (First for
/// its retry's time, then for a node; the two are one phase since a clock that is set back at a crash may reverse
/// them.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Progress {
    attempts: u64,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Leased,
    Waiting,
    Final,
}

/// What was reported of a job.
#[derive(Debug, Default)]
struct Reported {
    /// Each progress that was reported first, and when; in increasing order.
    progress: Vec<(Micros, Progress)>,
    /// The final status that was reported, and when first.
    end: Option<(Micros, String)>,
    /// The result and error that were reported with it.
    payloads: Option<String>,
}

/// What was reported of all jobs, and when they ended.
#[derive(Debug, Default)]
pub struct Reads {
    /// The current virtual time.
    now: Micros,
    /// The latest instant that a hub's clock has shown.
    hub_now: Timestamp,
    reported: BTreeMap<u64, Reported>,
    /// When each end became durable; an end by time alone does with the next record.
    ended_at: BTreeMap<u64, Micros>,
}

impl Reads {
    pub fn ended(&mut self, job: u64) {
        self.ended_at.insert(job, self.now);
    }

    pub fn revived(&mut self, job: u64) {
        self.ended_at.remove(&job);
    }
}

impl Oracle {
    /// Sets the virtual time.
    pub fn set_now(&mut self, now: Micros) {
        self.reads.now = now;
    }

    /// Notes what a hub's clock shows.
    pub fn note_hub_clock(&mut self, at: Timestamp) {
        self.reads.hub_now = self.reads.hub_now.max(at);
    }

    pub(super) fn check_submitted(
        &mut self,
        now: Micros,
        job: u64,
        kind: u64,
        params: &str,
        status: &str,
    ) -> Result<(), Violation> {
        if let Some(known) = self.shadow.queue().get(JobSeq::new(job)) {
            let is_own = **known.kind() == *format!("k{kind}")
                && known.params().map(Payload::as_bytes) == Some(params.as_bytes());
            holds(is_own, "an answer is to its own request", || {
                let known = String::from_utf8_lossy(known.params().map_or(b"", Payload::as_bytes));
                format!("a submit of {params} was answered with job {job}, which has {known}")
            })?;
        }
        match status {
            "accepted" | "in_progress" => Ok(()),
            ended => self.check_end(now, None, job, ended, None),
        }
    }

    pub(super) fn note_leased(&mut self, now: Micros, job: u64, generation: u32) -> Result<(), Violation> {
        // A long poll's reply may be read long after a reader was shown more: it is a lower bound for later reads only.
        self.note_progress(now, job, Progress { attempts: generation.into(), phase: Phase::Leased });
        Ok(())
    }

    pub(super) fn check_completed(&mut self, now: Micros, job: u64, status: &str) -> Result<(), Violation> {
        // A repeat of a result is answered with what its job is by now: its letter may have gone.
        let status = if status == "dropped" { "failed" } else { status };
        if status == "retry_scheduled" { Ok(()) } else { self.check_end(now, None, job, status, None) }
    }

    /// Checks a job that a reader was shown; its request was sent at `asked_at`.
    pub(super) fn check_row(&mut self, now: Micros, asked_at: Micros, job: JobSeq, row: &Row) -> Result<(), Violation> {
        let phase = match &*row.status {
            "scheduled" | "queued" => Phase::Waiting,
            "leased" => Phase::Leased,
            _ => Phase::Final,
        };
        let progress = Progress { attempts: row.attempt, phase };
        let reported = self.reads.reported.get(&job.get());
        let before = reported.and_then(|reported| reported.progress.iter().rev().find(|(at, _)| *at < asked_at));
        let is_revived = self.revivals.has(job.get());
        let is_later = |before: &Progress| *before <= progress || (is_revived && before.attempts <= progress.attempts);
        holds(before.is_none_or(|(_, before)| is_later(before)), "what was reported never goes back", || {
            format!("job {} was reported as {before:?}, then as {progress:?}", job.get())
        })?;
        let end = reported.and_then(|reported| reported.end.as_ref()).filter(|(at, _)| *at < asked_at);
        let may_live = end.is_some_and(|(_, end)| self.may_live_again(job.get(), end));
        holds(end.is_none() || phase == Phase::Final || may_live, "what was reported never goes back", || {
            format!("job {} was reported as {end:?}, then as {}", job.get(), row.status)
        })?;
        if let Some(known) = self.shadow.queue().get(job) {
            let durable = u64::from(known.generation());
            holds(row.attempt <= durable, "nothing is reported before it is durable", || {
                format!("job {} was shown with {} attempts, the journal knows {durable}", job.get(), row.attempt)
            })?;
        }
        if phase == Phase::Final {
            return self.check_end(now, Some(asked_at), job.get(), &row.status, row.payloads.clone()).map(|()| {
                self.note_progress(now, job.get(), progress);
            });
        }
        self.note_progress(now, job.get(), progress);
        Ok(())
    }

    /// Checks the answer that a job which was acknowledged does not exist.
    pub(super) fn check_missing(&mut self, job: JobSeq) -> Result<(), Violation> {
        holds(self.may_be_gone(job), "what was acknowledged is there while its retention lasts", || {
            let known = self.shadow.queue().get(job).map(|job| job.state());
            format!("job {} was answered as unknown; the journal has it: {known:?}", job.get())
        })
    }

    pub(super) fn check_page(&mut self, now: Micros, asked_at: Micros, page: &Page) -> Result<(), Violation> {
        let ids = self.shadow.ids().clone();
        let seq_of = |text: &String| {
            ids.parse_job_id(text).ok_or(Violation { invariant: "ids", detail: format!("`{text}` is no job") })
        };
        let first = page.cursor.as_ref().map(seq_of).transpose()?;
        let next = page.next_cursor.as_ref().map(seq_of).transpose()?;
        let mut before = first;
        let mut listed = Vec::new();
        for row in &page.rows {
            let job = seq_of(&row.job_id)?;
            holds(before.is_none_or(|before| job < before), "a page lists each job once, the newest first", || {
                format!("job {} follows job {:?}", job.get(), before.map(JobSeq::get))
            })?;
            let is_asked_for = page.status.is_none_or(|status| status == row.status);
            holds(is_asked_for, "a page has what was asked for", || {
                format!("job {} is {} on a page of {:?}", job.get(), row.status, page.status)
            })?;
            before = Some(job);
            listed.push(job);
            self.check_row(now, asked_at, job, row)?;
        }
        // Each job that was kept from before the request until after the answer is on the page.
        let (Some(newest), None) = (listed.first().copied(), page.status) else { return Ok(()) };
        let oldest = next.unwrap_or(JobSeq::FIRST);
        let left_out = self.shadow.queue().iter_back_from(newest).take_while(|job| job.seq() >= oldest).find(|job| {
            listed.binary_search_by(|listed| job.seq().cmp(listed)).is_err() && !self.may_be_gone(job.seq())
        });
        holds(left_out.is_none(), "a page leaves no job out", || {
            let left_out = left_out.map(|job| (job.seq().get(), job.status()));
            format!("{left_out:?} is not on the page from {} to {}", newest.get(), oldest.get())
        })
    }

    pub(super) fn check_wait(&mut self, job: u64, wait: &Wait) -> Result<(), Violation> {
        let waited = wait.left_at.saturating_sub(wait.asked_at);
        // The hub's clock may run at twice the speed.
        holds(
            wait.is_final || waited + CLOCK_US >= wait.wait_us / 2,
            "a wait lasts until the end or its time",
            || {
                format!(
                    "job {job} had not ended when its wait of {} ms ended after {} ms",
                    wait.wait_us / 1_000,
                    waited / 1_000
                )
            },
        )?;
        let due_at = self.reads.ended_at.get(&job).map(|at| (*at).max(wait.asked_at));
        holds(due_at.is_none_or(|at| wait.left_at <= at + WAKE_US), "a waiter is woken by its job's end", || {
            let late = wait.left_at - due_at.unwrap_or(0);
            format!("job {job} had ended {} ms before its waiter was answered", late / 1_000)
        })
    }

    fn note_progress(&mut self, now: Micros, job: u64, progress: Progress) {
        let reported = self.reads.reported.entry(job).or_default();
        if reported.progress.last().is_none_or(|(_, last)| *last < progress) {
            reported.progress.push((now, progress));
        }
    }

    /// Checks a final status that was reported.
    fn check_end(
        &mut self,
        now: Micros,
        asked_at: Option<Micros>,
        job: u64,
        status: &str,
        payloads: Option<String>,
    ) -> Result<(), Violation> {
        let is_revived = self.revivals.has(job);
        let reported = self.reads.reported.entry(job).or_default();
        let (at, first) = reported.end.get_or_insert_with(|| (now, status.to_owned()));
        // A dead letter that is evicted or discarded is a failed job from then on.
        let is_next =
            first == status || (first.as_str(), status) == ("dead", "failed") || (is_revived && first == "dead");
        // An answer from when it was a dead letter may be read after one from when it was none any more.
        let may_be_late = asked_at.is_none_or(|asked_at| asked_at <= *at) && (is_revived || first == "failed");
        let is_late = may_be_late && status == "dead" && first != "dead";
        if is_late {
            return Ok(());
        }
        holds(is_next, "what was reported never goes back", || {
            format!("job {job} was reported as {first}, then as {status}")
        })?;
        if first != status {
            (*at, *first) = (now, status.to_owned());
        }
        if let Some(payloads) = payloads {
            let first = reported.payloads.get_or_insert_with(|| payloads.clone());
            if is_revived {
                first.clone_from(&payloads);
            }
            holds(*first == payloads, "what was reported never goes back", || {
                format!("job {job} was reported to have ended with {first}, then with {payloads}")
            })?;
        }
        // An end by a command is in the journal before it is reported; an end by time alone may get there with the next
        // record.
        let by_record = matches!(status, "completed" | "superseded" | "cancelled");
        let found = self.finals.get(&job).copied();
        holds(!by_record || found.is_some(), "nothing is reported before it is durable", || {
            format!("job {job} was reported as {status}, the journal has {found:?}")
        })?;
        let durable = found.map(FinalStatus::as_str);
        // A dead letter that is evicted or discarded is a failed job.
        let agrees = |durable: &str| durable == status || (durable, status) == ("dead", "failed");
        holds(durable.is_none_or(agrees) || self.may_live_again(job, status), "what is reported is true", || {
            format!("job {job} was reported as {status}, the journal has {durable:?}")
        })?;
        let attempts = self
            .reads
            .reported
            .get(&job)
            .and_then(|reported| reported.progress.last())
            .map_or(0, |(_, last)| last.attempts);
        self.note_progress(now, job, Progress { attempts, phase: Phase::Final });
        Ok(())
    }

    /// Whether the hub may have dropped a job, as the journal has it or is about to.
    fn may_be_gone(&self, job: JobSeq) -> bool {
        let Some(known) = self.shadow.queue().get(job) else { return true };
        let (now, limits, counts) = (self.reads.hub_now, self.shadow.limits(), self.shadow.counts());
        let is_over = match known.state() {
            State::Final { at, .. } => at + limits.job_retention_ms <= now,
            State::Leased { until, .. } => until <= now,
            State::Dated { .. } | State::Scheduled { .. } | State::Postponed { .. } | State::Queued { .. } => {
                known.expires_at() <= now
            }
        };
        // A job that time ends drops the oldest final one; dead ones are counted apart, and an unfinished job may
        // become either.
        let unfinished = counts.waiting() + counts.leased + if self.is_acting() { counts.dead } else { 0 };
        let may_be_dropped = |held: u64, held_max: u64| held + unfinished > held_max;
        let (of_retained, of_dead) = (
            may_be_dropped(counts.retained, limits.retained_jobs_max),
            may_be_dropped(counts.dead, limits.dead_jobs_max),
        );
        is_over
            || match known.state() {
                State::Final { status: FinalStatus::Dead, .. } => of_dead || (self.is_acting() && of_retained),
                State::Final { .. } => of_retained,
                State::Dated { .. }
                | State::Scheduled { .. }
                | State::Postponed { .. }
                | State::Queued { .. }
                | State::Leased { .. } => of_retained || of_dead,
            }
    }
}
