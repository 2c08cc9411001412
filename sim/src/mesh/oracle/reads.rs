//! Reads: what was told of a job never goes back, whoever is told next and whatever happened between.
//!
//! Of each job it is kept how far it was told to be, and when. Who asks after that must be told as much or more, also after
//! a crash: so a read must show nothing that a crash may take back.

use super::{Oracle, Violation, holds};
use crate::agenda::{Micros, SECOND};
use sheratan_core::{FinalStatus, JobSeq, Payload, State, Timestamp};
use std::collections::BTreeMap;

/// How late a reply may be that waits for a job's end, after the end is durable.
const WAKE_US: Micros = 2 * SECOND;

/// The grain of the hub's clock.
const CLOCK_US: Micros = 2_000;

/// A job as a reader was shown it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The job.
    pub job_id: String,
    /// Its state.
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
    /// The page goes on after this job.
    pub cursor: Option<String>,
    /// It shows jobs of this state only.
    pub status: Option<&'static str>,
    /// There is another page after this job.
    pub next_cursor: Option<String>,
}

/// A wait for a job's end, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait {
    /// The job.
    pub job_id: String,
    /// When it was asked for.
    pub asked_at: Micros,
    /// How long it was to wait.
    pub wait_us: Micros,
    /// When the hub answered.
    pub left_at: Micros,
    /// Whether the job was shown to have ended.
    pub is_final: bool,
}

/// How far a job has come. Later is greater: attempts are only added, and between two of them a job waits. (For its retry
/// and then for a node: which of these, a clock may tell that is set back at a crash.)
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

/// What was told of a job.
#[derive(Debug, Default)]
struct Story {
    /// How far it was told to be, and when: each is further than the one before.
    told: Vec<(Micros, Progress)>,
    /// How it was told to have ended, and when first.
    end: Option<(Micros, String)>,
    /// With what.
    payloads: Option<String>,
}

/// What was told of all jobs, and when they ended.
#[derive(Debug, Default)]
pub struct Reads {
    /// Now, in virtual time.
    now: Micros,
    /// The latest instant that a hub's clock has shown.
    hub_now: Timestamp,
    stories: BTreeMap<u64, Story>,
    /// When the journal had each end; of time's own doing, when it had the next record.
    ended_at: BTreeMap<u64, Micros>,
}

impl Reads {
    pub fn ended(&mut self, job: u64) {
        self.ended_at.insert(job, self.now);
    }
}

impl Oracle {
    /// It is that late.
    pub fn set_now(&mut self, now: Micros) {
        self.reads.now = now;
    }

    /// A hub's clock shows that.
    pub fn hub_clock(&mut self, at: Timestamp) {
        self.reads.hub_now = self.reads.hub_now.max(at);
    }

    pub(super) fn told_submitted(
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
                format!("a submit of {params} was told of job {job}, which has {known}")
            })?;
        }
        match status {
            "accepted" | "in_progress" => Ok(()),
            ended => self.told_end(now, job, ended, None),
        }
    }

    pub(super) fn told_leased(&mut self, now: Micros, job: u64, generation: u32) -> Result<(), Violation> {
        // A long poll's reply may be read long after others were told more: it is a floor for later reads only.
        self.told_progress(now, job, Progress { attempts: generation.into(), phase: Phase::Leased });
        Ok(())
    }

    pub(super) fn told_completed(&mut self, now: Micros, job: u64, status: &str) -> Result<(), Violation> {
        if status == "retry_scheduled" { Ok(()) } else { self.told_end(now, job, status, None) }
    }

    /// A reader was shown a job that it asked for at `asked_at`.
    pub(super) fn told_row(&mut self, now: Micros, asked_at: Micros, job: JobSeq, row: &Row) -> Result<(), Violation> {
        let phase = match &*row.status {
            "scheduled" | "queued" => Phase::Waiting,
            "leased" => Phase::Leased,
            _ => Phase::Final,
        };
        let progress = Progress { attempts: row.attempt, phase };
        let story = self.reads.stories.get(&job.get());
        let told = story.and_then(|story| story.told.iter().rev().find(|(at, _)| *at < asked_at));
        holds(told.is_none_or(|(_, told)| *told <= progress), "what was told never goes back", || {
            format!("job {} was told to be {told:?}, then {progress:?}", job.get())
        })?;
        let end = story.and_then(|story| story.end.as_ref()).filter(|(at, _)| *at < asked_at);
        holds(end.is_none() || phase == Phase::Final, "what was told never goes back", || {
            format!("job {} was told to be {end:?}, then {}", job.get(), row.status)
        })?;
        if let Some(known) = self.shadow.queue().get(job) {
            let durable = u64::from(known.generation());
            holds(row.attempt <= durable, "nothing is told before it is durable", || {
                format!("job {} was shown with {} attempts, the journal knows {durable}", job.get(), row.attempt)
            })?;
        }
        if phase == Phase::Final {
            return self.told_end(now, job.get(), &row.status, row.payloads.clone()).map(|()| {
                self.told_progress(now, job.get(), progress);
            });
        }
        self.told_progress(now, job.get(), progress);
        Ok(())
    }

    /// A reader was told that there is no such job, which it had been told of.
    pub(super) fn told_missing(&mut self, job: JobSeq) -> Result<(), Violation> {
        holds(self.may_be_gone(job), "what was acknowledged is there while its retention lasts", || {
            let known = self.shadow.queue().get(job).map(|job| job.state());
            format!("job {} was told to be unknown; the journal has it: {known:?}", job.get())
        })
    }

    pub(super) fn told_page(&mut self, now: Micros, asked_at: Micros, page: &Page) -> Result<(), Violation> {
        let key = *self.shadow.key();
        let seq_of = |text: &String| {
            key.parse_job_id(text).ok_or(Violation { invariant: "ids", detail: format!("`{text}` is no job") })
        };
        let first = page.cursor.as_ref().map(seq_of).transpose()?;
        let next = page.next_cursor.as_ref().map(seq_of).transpose()?;
        let mut before = first;
        let mut listed = Vec::new();
        for row in &page.rows {
            let job = seq_of(&row.job_id)?;
            holds(before.is_none_or(|before| job < before), "a page lists each job once, the newest first", || {
                format!("job {} stands behind job {:?}", job.get(), before.map(JobSeq::get))
            })?;
            let is_asked_for = page.status.is_none_or(|status| status == row.status);
            holds(is_asked_for, "a page has what was asked for", || {
                format!("job {} is {} on a page of {:?}", job.get(), row.status, page.status)
            })?;
            before = Some(job);
            listed.push(job);
            self.told_row(now, asked_at, job, row)?;
        }
        // All that stayed from before the question until after the answer is on it.
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

    pub(super) fn told_waited(&mut self, job: u64, wait: &Wait) -> Result<(), Violation> {
        let waited = wait.left_at.saturating_sub(wait.asked_at);
        // Its clock may run at twice the speed.
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
        holds(due_at.is_none_or(|at| wait.left_at <= at + WAKE_US), "who waits for a job's end is woken by it", || {
            let late = wait.left_at - due_at.unwrap_or(0);
            format!("job {job} had ended {} ms before who waited for it was answered", late / 1_000)
        })
    }

    fn told_progress(&mut self, now: Micros, job: u64, progress: Progress) {
        let story = self.reads.stories.entry(job).or_default();
        if story.told.last().is_none_or(|(_, last)| *last < progress) {
            story.told.push((now, progress));
        }
    }

    /// A job was told to have ended.
    fn told_end(&mut self, now: Micros, job: u64, status: &str, payloads: Option<String>) -> Result<(), Violation> {
        let story = self.reads.stories.entry(job).or_default();
        let (_, first) = story.end.get_or_insert_with(|| (now, status.to_owned()));
        holds(first == status, "what was told never goes back", || {
            format!("job {job} was told to be {first}, then {status}")
        })?;
        if let Some(payloads) = payloads {
            let first = story.payloads.get_or_insert_with(|| payloads.clone());
            holds(*first == payloads, "what was told never goes back", || {
                format!("job {job} was told to have ended with {first}, then with {payloads}")
            })?;
        }
        // What ended by a record did so in the journal; what time ended the journal may learn with its next record.
        let by_record = matches!(status, "completed" | "superseded");
        let found = self.finals.get(&job).copied();
        holds(!by_record || found.is_some(), "nothing is told before it is durable", || {
            format!("job {job} was told to be {status}, the journal says {found:?}")
        })?;
        let durable = found.map(FinalStatus::as_str);
        holds(durable.is_none_or(|durable| durable == status), "what is told is so", || {
            format!("job {job} was told to be {status}, the journal says {durable:?}")
        })?;
        let attempts =
            self.reads.stories.get(&job).and_then(|story| story.told.last()).map_or(0, |(_, last)| last.attempts);
        self.told_progress(now, job, Progress { attempts, phase: Phase::Final });
        Ok(())
    }

    /// Whether the hub may have forgotten a job that the journal has, or has not.
    fn may_be_gone(&self, job: JobSeq) -> bool {
        let Some(known) = self.shadow.queue().get(job) else { return true };
        let (now, limits, counts) = (self.reads.hub_now, self.shadow.limits(), self.shadow.counts());
        let is_over = match known.state() {
            State::Final { at, .. } => at + limits.job_retention_ms <= now,
            State::Leased { until, .. } => until <= now,
            State::Scheduled { .. } | State::Queued { .. } => known.expires_at() <= now,
        };
        // What time ends pushes out the oldest of what has ended, dead ones apart; what has not ended may come to be either.
        let unfinished = counts.waiting() + counts.leased;
        let may_be_pushed_out = |held: u64, held_max: u64| held + unfinished > held_max;
        let (of_retained, of_dead) = (
            may_be_pushed_out(counts.retained, limits.retained_jobs_max),
            may_be_pushed_out(counts.dead, limits.dead_jobs_max),
        );
        is_over
            || match known.state() {
                State::Final { status: FinalStatus::Dead, .. } => of_dead,
                State::Final { .. } => of_retained,
                State::Scheduled { .. } | State::Queued { .. } | State::Leased { .. } => of_retained || of_dead,
            }
    }
}
