//! What if: applies the recorded commands to a hub under other limits, beside one as it was.
//!
//! Both hubs are given the same commands in the same order, and decide for themselves. Jobs and leases that a command
//! names must be translated, since under other limits other jobs are accepted and get other numbers:
//! - A recorded result or extension names a lease, the i-th one that some recorded pull granted. It is applied to the
//!   i-th one that the same pull granted under the other limits. If that granted fewer, the result is left out and
//!   counted.
//! - A lease without a recorded counterpart (the recorded pull granted fewer) has no recorded result. It is assumed to
//!   run as long as jobs of its kind ran on average and to succeed; its node then pulls again, as a waiting node does.
//!   In this way no node holds more leases at once than it did at its recorded peak.
//!
//! What clients would have done under other limits cannot be known: a client that was refused may have submitted again,
//! and that submit is recorded too. So under a higher limit some work is accepted twice unless it has an idempotency
//! key.

use super::ReplayError;
use super::history::{Input, RecordedCommand, Recording};
use super::replay::{Measured, PROGRESS_INPUTS, Progress, Replay, State, leases};
use super::timeline::{Row, Tally, Waits, Watched};
use sheratan_core::State as JobState;
use sheratan_core::{
    AdoptOrphan, Command, Complete, Extend, Extended, Hub, JobSeq, JobView, LeaseRef, Leased, Millis, Name, Outcome,
    Pull, Release, Restore, ResultMark, Submitted, Timestamp, Utc,
};
use sheratan_io::config::Changes;
use std::collections::BTreeMap;
use std::path::Path;

/// How long a job is assumed to run if the recording has no successful attempt.
pub const RUN_MS_UNKNOWN: Millis = Millis::from_secs(1);

/// The results of the two hubs.
#[derive(Debug)]
pub struct WhatIf {
    /// The hub as it was recorded.
    pub recorded: Side,
    /// The hub under the other limits.
    pub changed: Side,
    /// What was assumed or left out for `changed`.
    pub assumptions: Assumptions,
}

/// The result of one hub.
#[derive(Debug)]
pub struct Side {
    /// One row for each minute in which something happened.
    pub rows: Vec<Row>,
    /// The sums of all rows.
    pub total: Tally,
    /// How long jobs waited, over all rows.
    pub waits: Option<Waits>,
    /// Refused submits by reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Pulls that found nothing.
    pub empty_pulls: u64,
    /// The state at the end.
    pub state: State,
}

/// What was assumed or left out, since the recording does not have it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Assumptions {
    /// Leases without a recorded result, whose jobs are assumed to succeed.
    pub assumed_leases: u64,
    /// Assumed leases that were completed within the window.
    pub assumed_completions: u64,
    /// Recorded results of leases that were not granted under the other limits.
    pub results_left_out: u64,
    /// Recorded extensions of leases that were not granted under the other limits.
    pub extensions_left_out: u64,
    /// Pulls that were left out because their node was at its recorded peak.
    pub pulls_left_out: u64,
}

/// Applies a recording to two hubs. `replay` is the replay of the same recording, up to the same moment.
pub fn what_if(
    data_dir: &Path,
    until: Option<Utc>,
    changes: &Changes,
    replay: &Replay,
    progress: &mut Progress<'_>,
) -> Result<WhatIf, ReplayError> {
    let mut recording = Recording::open(data_dir)?;
    let first_seq = recording.snapshot_seq().unwrap_or(0);
    let hub = recording.take_hub();
    let mut both = Both::new(hub, changes, &replay.measured)?;
    let (mut seq, mut inputs) = (first_seq, 0u64);
    while let Some(input) = recording.next()? {
        let Input::Command(recorded) = input else { continue };
        if until.is_some_and(|until| recorded.now > both.recorded.hub().calendar().instant(until)) {
            break;
        }
        // A running hub may have added records since the replay.
        if recorded.seq > replay.state.seq {
            break;
        }
        seq = recorded.seq;
        inputs += 1;
        if inputs.is_multiple_of(PROGRESS_INPUTS) {
            progress(seq - first_seq, recording.last_seq() - first_seq);
        }
        both.apply(recorded)?;
    }
    both.advance(replay.state.now);
    Ok(both.end(seq))
}

struct Both<'a> {
    recorded: Watched,
    changed: Watched,
    changes: &'a Changes,
    measured: &'a Measured,
    /// By recorded lease, its counterpart under the other limits.
    leases: BTreeMap<LeaseRef, LeaseRef>,
    /// By recorded job, the job of the same submit under the other limits; jobs that ended with a result are left out.
    jobs: BTreeMap<JobSeq, JobSeq>,
    /// Assumed extensions and results by instant, in the order of their numbers at one instant.
    assumed: BTreeMap<(Timestamp, u64), Assumed>,
    next_number: u64,
    assumptions: Assumptions,
}

/// A lease without a recorded result.
struct Assumed {
    lease: LeaseRef,
    /// The pull that granted it, to be repeated after it.
    pull: Pull,
    ends_at: Timestamp,
}

impl<'a> Both<'a> {
    fn new(hub: Hub, changes: &'a Changes, measured: &'a Measured) -> Result<Self, ReplayError> {
        let copy = copy_of(&hub)?;
        let limits = changes.over(hub.limits()).map_err(ReplayError::Limits)?;
        let held = hub.queue().iter_from(JobSeq::FIRST).filter(|job| matches!(job.state(), JobState::Leased { .. }));
        let leases = held.map(|job| (job.lease(), job.lease())).collect();
        let unfinished = hub.queue().iter_from(JobSeq::FIRST).filter(|job| !job.is_final());
        let jobs = unfinished.map(|job| (job.seq(), job.seq())).collect();
        let mut changed = Watched::new(copy);
        let now = changed.hub().now();
        changed.apply(now, Command::Set(limits.differences(changed.hub().limits())));
        Ok(Both {
            recorded: Watched::new(hub),
            changed,
            changes,
            measured,
            leases,
            jobs,
            assumed: BTreeMap::new(),
            next_number: 0,
            assumptions: Assumptions::default(),
        })
    }

    /// Applies a recorded command to both hubs, translated for the changed one.
    fn apply(&mut self, recorded: RecordedCommand) -> Result<(), ReplayError> {
        let RecordedCommand { now, command, .. } = recorded;
        self.advance(now);
        match command {
            Command::Set(settings) => {
                self.recorded.apply(now, Command::Set(settings));
                let changed = self.changes.over(self.recorded.hub().limits()).map_err(ReplayError::Limits)?;
                self.changed.apply(now, Command::Set(changed.differences(self.changed.hub().limits())));
            }
            Command::Pull(pull) => self.pull(now, pull),
            Command::Extend(extend) => self.extend(now, extend),
            Command::Complete(complete) => self.complete(now, complete),
            Command::Reclaim(leases) => {
                let known = leases.iter().filter_map(|lease| self.leases.remove(lease)).collect();
                self.recorded.apply(now, Command::Reclaim(leases));
                self.changed.apply(now, Command::Reclaim(known));
            }
            // Nodes have the same index in both hubs only if they registered in the same order.
            Command::NodesSeen(nodes) => {
                let name = |index| self.recorded.hub().registry().get(index).map(|node| node.name().clone());
                let names: Vec<_> = nodes.iter().filter_map(|index| name(*index)).collect();
                let registry = self.changed.hub().registry();
                let indices = names.iter().filter_map(|name| Some(registry.by_name(name)?.index())).collect();
                self.recorded.apply(now, Command::NodesSeen(nodes));
                self.changed.apply(now, Command::NodesSeen(indices));
            }
            command @ Command::Submit(_) => {
                let recorded = accepted(&self.recorded.apply(now, command.clone()));
                let changed = accepted(&self.changed.apply(now, command));
                self.jobs.extend(recorded.zip(changed));
            }
            Command::Release(release) => {
                let known = release.leases.iter().filter_map(|lease| self.leases.remove(lease)).collect();
                let translated = Release { node: release.node.clone(), leases: known };
                self.recorded.apply(now, Command::Release(release));
                self.changed.apply(now, Command::Release(translated));
            }
            Command::Cancel(job) => self.on_job(now, job, Command::Cancel),
            Command::Requeue(job) => self.on_job(now, job, Command::Requeue),
            Command::Discard(job) => self.on_job(now, job, Command::Discard),
            Command::AdoptOrphan(adopt) => {
                self.on_job(now, adopt.job, |job| Command::AdoptOrphan(AdoptOrphan { job, ..adopt }));
            }
            command @ (Command::SetKind(_)
            | Command::Drain(_)
            | Command::Resume(_)
            | Command::RemoveNode(_)
            | Command::BeginAct(_)
            | Command::CancelAct(_)
            | Command::ParkResult(_)
            | Command::DiscardOrphan(_)
            | Command::SetWeights(_)
            | Command::Accept(_)
            | Command::Quarantine(_)
            | Command::ClearNode(_)
            | Command::Tokens(_)
            | Command::AddPolicy(_)
            | Command::ActivatePolicy(_)
            | Command::RekeyNode(_)
            | Command::Heartbeat(_)
            | Command::Tick
            | Command::AdoptRules(_)
            | Command::BeginSalt(_)
            | Command::SetCalendar(_)
            | Command::Slept(_)) => {
                self.recorded.apply(now, command.clone());
                self.changed.apply(now, command);
            }
        }
        Ok(())
    }

    /// A command about one job: the changed hub has it by another number, or not at all.
    fn on_job(&mut self, now: Timestamp, job: JobSeq, command: impl Fn(JobSeq) -> Command) {
        self.recorded.apply(now, command(job));
        if let Some(job) = self.jobs.get(&job) {
            self.changed.apply(now, command(*job));
        }
    }

    fn pull(&mut self, now: Timestamp, pull: Pull) {
        let outcome = self.recorded.apply(now, Command::Pull(pull.clone()));
        let recorded = leases(&outcome);
        // A node accepts as many jobs as it did, and more up to its recorded peak.
        let room = (recorded.len() as u64).max(self.room_of(&pull.node));
        let jobs_max = pull.jobs_max.max(1).min(u32::try_from(room).unwrap_or(u32::MAX));
        if jobs_max == 0 {
            self.assumptions.pulls_left_out += 1;
            return;
        }
        let changed = self.changed.apply(now, Command::Pull(Pull { jobs_max, ..pull.clone() }));
        let changed = leases(&changed);
        self.leases.extend(recorded.iter().zip(changed).map(|(recorded, changed)| (recorded.lease, changed.lease)));
        for leased in changed.iter().skip(recorded.len()) {
            self.assume(now, *leased, &pull);
        }
    }

    fn extend(&mut self, now: Timestamp, extend: Extend) {
        let known: Vec<_> = extend.leases.iter().filter_map(|lease| self.leases.get(lease).copied()).collect();
        let missing = (extend.leases.len() - known.len()) as u64;
        let changed = Extend { leases: known, ..extend.clone() };
        if self.recorded.apply(now, Command::Extend(extend)).is_durable() {
            self.assumptions.extensions_left_out += missing;
        }
        if !changed.leases.is_empty() {
            self.changed.apply(now, Command::Extend(changed));
        }
    }

    fn complete(&mut self, now: Timestamp, complete: Complete) {
        // Clients of v1.5 name only the job: they mean its latest lease, or the job itself while it waits.
        let job = self.recorded.hub().queue().get(complete.job);
        if complete.lease.is_none() && job.as_ref().is_some_and(is_waiting) {
            return self.complete_waiting(now, complete);
        }
        let lease = complete.lease.or_else(|| job.map(|job| job.lease()));
        let counterpart = lease.and_then(|lease| self.leases.get(&lease).copied());
        let is_durable = self.recorded.apply(now, Command::Complete(complete.clone())).is_durable();
        if let Some(lease) = lease.filter(|_| is_durable) {
            // A further result of this lease is a repeat, and changes nothing in either hub.
            self.leases.remove(&lease);
        }
        match counterpart {
            Some(lease) => {
                let changed = Complete { job: lease.job, lease: Some(lease), ..complete };
                self.changed.apply(now, Command::Complete(changed));
            }
            None => self.assumptions.results_left_out += u64::from(is_durable),
        }
    }

    /// A result for a job that waits.
    fn complete_waiting(&mut self, now: Timestamp, complete: Complete) {
        let job = complete.job;
        let is_durable = self.recorded.apply(now, Command::Complete(complete.clone())).is_durable();
        match self.jobs.get(&job).copied() {
            Some(job) => _ = self.changed.apply(now, Command::Complete(Complete { job, ..complete })),
            None => self.assumptions.results_left_out += u64::from(is_durable),
        }
        if self.recorded.hub().queue().get(job).is_none_or(|job| job.is_final()) {
            self.jobs.remove(&job);
        }
    }

    /// How many more jobs a node could hold up to its recorded peak.
    fn room_of(&self, node: &Name) -> u64 {
        let held = self.changed.hub().registry().by_name(node).map_or(0, |node| node.leases());
        self.measured.peak_of(node).saturating_sub(held)
    }

    /// Plans the end of a lease that has no recorded result.
    fn assume(&mut self, now: Timestamp, leased: Leased, pull: &Pull) {
        self.assumptions.assumed_leases += 1;
        let job = self.changed.hub().queue().get(leased.lease.job).expect("a job that has just been leased is known");
        let run = self.measured.run_of(job.kind()).unwrap_or(RUN_MS_UNKNOWN);
        let assumed = Assumed { lease: leased.lease, pull: pull.clone(), ends_at: now + run.max(Millis::new(1)) };
        self.plan(leased.until, assumed);
    }

    /// Plans the result at the assumed end, or an extension just before the lease expires.
    fn plan(&mut self, until: Timestamp, assumed: Assumed) {
        let at = assumed.ends_at.min(until - Millis::new(1));
        self.assumed.insert((at, self.next_number), assumed);
        self.next_number += 1;
    }

    /// Applies the assumed extensions and results that are due, and advances both hubs.
    fn advance(&mut self, now: Timestamp) {
        while let Some(first) = self.assumed.first_entry().filter(|first| first.key().0 <= now) {
            let ((at, _), assumed) = first.remove_entry();
            self.apply_assumed(at, assumed);
        }
        self.recorded.advance(now);
        self.changed.advance(now);
    }

    fn apply_assumed(&mut self, at: Timestamp, assumed: Assumed) {
        let Assumed { lease, pull, ends_at } = assumed;
        if at < ends_at {
            let extend = Extend {
                node: pull.node.clone(),
                leases: vec![lease],
                lease_duration_ms: pull.lease_duration_ms,
                progress: None,
                note: None,
            };
            let outcome = self.changed.apply(at, Command::Extend(extend));
            if let Outcome::Extended(extended) = outcome
                && let [Extended::Until { until, .. }] = extended[..]
            {
                self.plan(until, Assumed { lease, pull, ends_at });
            }
            return;
        }
        let complete = Complete {
            job: lease.job,
            lease: Some(lease),
            node: Some(pull.node.clone()),
            ok: true,
            result: None,
            error: None,
            is_retryable: false,
            mark: ResultMark::Content(0),
            integrity: None,
            retry_after_ms: None,
        };
        if self.changed.apply(at, Command::Complete(complete)).is_durable() {
            self.assumptions.assumed_completions += 1;
        }
        if self.room_of(&pull.node) > 0 {
            let next = self.changed.apply(at, Command::Pull(Pull { jobs_max: 1, ..pull.clone() }));
            for leased in leases(&next) {
                self.assume(at, *leased, &pull);
            }
        }
    }

    fn end(self, seq: u64) -> WhatIf {
        let side = |watched: Watched| Side {
            rows: watched.rows(),
            total: watched.total(),
            waits: watched.total_waits(),
            refusals: watched.refusals().clone(),
            empty_pulls: watched.empty_pulls(),
            state: State::of(watched.hub(), seq),
        };
        WhatIf { recorded: side(self.recorded), changed: side(self.changed), assumptions: self.assumptions }
    }
}

fn is_waiting(job: &JobView) -> bool {
    !job.is_final() && !matches!(job.state(), JobState::Leased { .. })
}

/// The job that a submit made.
fn accepted(outcome: &Outcome) -> Option<JobSeq> {
    match outcome {
        Outcome::Submitted(Submitted::Accepted { job, .. }) => Some(*job),
        _ => None,
    }
}

/// A copy of the hub's durable state.
fn copy_of(hub: &Hub) -> Result<Hub, ReplayError> {
    let mut restore = Restore::new(*hub.key());
    let mut result = Ok(());
    hub.snapshot(|record| {
        if result.is_ok() {
            result = restore.record(record);
        }
    });
    result.and_then(|()| restore.finish()).map_err(ReplayError::Restore)
}
