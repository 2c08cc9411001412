//! What if: the recorded inputs once more, to a hub under other limits, beside one as it was.
//!
//! Both hubs are told the same in the same order, and decide for themselves. What the inputs name must be translated, since
//! under other limits other jobs come in and get other numbers:
//! - A recorded result or extension names a lease. It is the i-th one that some recorded pull gave; it goes to the i-th one
//!   that the same pull gave under the other limits. Where that gave fewer, the result is left out and counted.
//! - A lease that has no recorded counterpart (the pull found nothing then, or fewer) has no recorded result. It is assumed
//!   to run as long as jobs of its kind ran on average and to succeed; its node then asks for the next one, as a node that
//!   waits does. No node holds more leases at once in this way than it did at its recorded peak.
//!
//! What cannot be known is how clients would have gone on: who was refused may have tried again, and those tries are in
//! the trace, so under a higher limit some work comes in twice unless it has an idempotency key.

use super::ReplayError;
use super::history::{Input, Recording, Told};
use super::replay::{Measured, PROGRESS_INPUTS, Progress, Replay, State, leases};
use super::timeline::{Row, Tally, Waits, Watched};
use sheratan_core::State as JobState;
use sheratan_core::{
    Command, Complete, Extend, Extended, Hub, JobSeq, LeaseRef, Leased, Millis, Name, Outcome, Pull, Restore,
    ResultMark, Timestamp,
};
use sheratan_io::config::Changes;
use std::collections::BTreeMap;
use std::path::Path;

/// How long a job is assumed to run where the recording has not one successful attempt.
pub const RUN_MS_UNKNOWN: Millis = Millis::from_secs(1);

/// Two histories of the same inputs.
#[derive(Debug)]
pub struct WhatIf {
    /// As it was.
    pub recorded: Side,
    /// Under the other limits.
    pub changed: Side,
    /// What had to be made up or left out for it.
    pub made_up: MadeUp,
}

/// One of them.
#[derive(Debug)]
pub struct Side {
    /// Minute by minute.
    pub rows: Vec<Row>,
    /// In all.
    pub total: Tally,
    /// In all.
    pub waits: Option<Waits>,
    /// Why submits were refused.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Pulls that found nothing.
    pub empty_pulls: u64,
    /// The state at the end.
    pub state: State,
}

/// What the recording does not say of the other history.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MadeUp {
    /// Leases without a recorded result, whose jobs are assumed to succeed.
    pub assumed_leases: u64,
    /// Those that ended within the window.
    pub assumed_completions: u64,
    /// Recorded results of leases that were not given.
    pub results_left_out: u64,
    /// Recorded extensions of leases that were not given.
    pub extensions_left_out: u64,
    /// Pulls that were left out because their node was as busy as it ever was.
    pub pulls_left_out: u64,
}

/// Applies a recording to two hubs; `replay` is the same recording's, up to the same moment.
pub fn what_if(
    data_dir: &Path,
    until: Option<Timestamp>,
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
        let Input::Told(told) = input else { continue };
        if until.is_some_and(|until| told.now > until) {
            break;
        }
        // A running hub has gone on since the replay.
        if told.seq > replay.state.seq {
            break;
        }
        seq = told.seq;
        inputs += 1;
        if inputs.is_multiple_of(PROGRESS_INPUTS) {
            progress(seq - first_seq, recording.last_seq() - first_seq);
        }
        both.tell(told)?;
    }
    both.pass(replay.state.now);
    Ok(both.end(seq))
}

struct Both<'a> {
    recorded: Watched,
    changed: Watched,
    changes: &'a Changes,
    measured: &'a Measured,
    /// Of each recorded lease the one that stands for it.
    leases: BTreeMap<LeaseRef, LeaseRef>,
    /// What is assumed to happen, by instant; the number keeps the order of those at one instant.
    assumed: BTreeMap<(Timestamp, u64), Assumed>,
    next_number: u64,
    made_up: MadeUp,
}

/// A lease without a recorded result.
struct Assumed {
    lease: LeaseRef,
    /// The pull that gave it, to be repeated after it.
    pull: Pull,
    ends_at: Timestamp,
}

impl<'a> Both<'a> {
    fn new(hub: Hub, changes: &'a Changes, measured: &'a Measured) -> Result<Self, ReplayError> {
        let copy = copy_of(&hub)?;
        let limits = changes.over(hub.limits()).map_err(ReplayError::Limits)?;
        let held = hub.queue().iter_from(JobSeq::FIRST).filter(|job| matches!(job.state(), JobState::Leased { .. }));
        let leases = held.map(|job| (job.lease(), job.lease())).collect();
        let mut changed = Watched::new(copy);
        let now = changed.hub().now();
        changed.apply(now, Command::Set(limits.differences(changed.hub().limits())));
        Ok(Both {
            recorded: Watched::new(hub),
            changed,
            changes,
            measured,
            leases,
            assumed: BTreeMap::new(),
            next_number: 0,
            made_up: MadeUp::default(),
        })
    }

    /// Tells both hubs what was recorded.
    fn tell(&mut self, told: Told) -> Result<(), ReplayError> {
        let Told { now, command, .. } = told;
        self.pass(now);
        match command {
            Command::Set(settings) => {
                self.recorded.apply(now, Command::Set(settings));
                let changed = self.changes.over(self.recorded.hub().limits()).map_err(ReplayError::Limits)?;
                self.changed.apply(now, Command::Set(changed.differences(self.changed.hub().limits())));
            }
            Command::Pull(pull) => self.pull(now, pull),
            Command::Extend(extend) => self.extend(now, extend),
            Command::Complete(complete) => self.complete(now, complete),
            // Nodes have the same numbers on both sides only as far as they came in the same order.
            Command::NodesSeen(nodes) => {
                let name = |index| self.recorded.hub().registry().get(index).map(|node| node.name().clone());
                let names: Vec<_> = nodes.iter().filter_map(|index| name(*index)).collect();
                let registry = self.changed.hub().registry();
                let indices = names.iter().filter_map(|name| Some(registry.by_name(name)?.index())).collect();
                self.recorded.apply(now, Command::NodesSeen(nodes));
                self.changed.apply(now, Command::NodesSeen(indices));
            }
            command @ (Command::Heartbeat(_) | Command::Submit(_) | Command::Tick | Command::AdoptRules(_)) => {
                self.recorded.apply(now, command.clone());
                self.changed.apply(now, command);
            }
        }
        Ok(())
    }

    fn pull(&mut self, now: Timestamp, pull: Pull) {
        let outcome = self.recorded.apply(now, Command::Pull(pull.clone()));
        let recorded = leases(&outcome);
        // A node takes what it took, and what it still had room for.
        let room = (recorded.len() as u64).max(self.room_of(&pull.node));
        let jobs_max = pull.jobs_max.max(1).min(u32::try_from(room).unwrap_or(u32::MAX));
        if jobs_max == 0 {
            self.made_up.pulls_left_out += 1;
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
            self.made_up.extensions_left_out += missing;
        }
        if !changed.leases.is_empty() {
            self.changed.apply(now, Command::Extend(changed));
        }
    }

    fn complete(&mut self, now: Timestamp, complete: Complete) {
        // Clients of v1.5 name only the job: they mean its latest lease.
        let job = self.recorded.hub().queue().get(complete.job);
        let lease = complete.lease.or_else(|| job.map(|job| job.lease()));
        let counterpart = lease.and_then(|lease| self.leases.get(&lease).copied());
        let is_durable = self.recorded.apply(now, Command::Complete(complete.clone())).is_durable();
        if let Some(lease) = lease.filter(|_| is_durable) {
            // What comes of it once more is a repeat, and changes nothing on either side.
            self.leases.remove(&lease);
        }
        match counterpart {
            Some(lease) => {
                let changed = Complete { job: lease.job, lease: Some(lease), ..complete };
                self.changed.apply(now, Command::Complete(changed));
            }
            None => self.made_up.results_left_out += u64::from(is_durable),
        }
    }

    /// Jobs that a node could take besides those that it has.
    fn room_of(&self, node: &Name) -> u64 {
        let held = self.changed.hub().registry().by_name(node).map_or(0, |node| node.leases());
        self.measured.peak_of(node).saturating_sub(held)
    }

    /// A lease was given of which no result is recorded.
    fn assume(&mut self, now: Timestamp, leased: Leased, pull: &Pull) {
        self.made_up.assumed_leases += 1;
        let job = self.changed.hub().queue().get(leased.lease.job).expect("a job that has just been leased is known");
        let run = self.measured.run_of(job.kind()).unwrap_or(RUN_MS_UNKNOWN);
        let assumed = Assumed { lease: leased.lease, pull: pull.clone(), ends_at: now + run.max(Millis::new(1)) };
        self.plan(leased.until, assumed);
    }

    /// Plans the result, or an extension just before the lease's end.
    fn plan(&mut self, until: Timestamp, assumed: Assumed) {
        let at = assumed.ends_at.min(until - Millis::new(1));
        self.assumed.insert((at, self.next_number), assumed);
        self.next_number += 1;
    }

    /// What is assumed to happen up to `now` happens.
    fn pass(&mut self, now: Timestamp) {
        while let Some(first) = self.assumed.first_entry().filter(|first| first.key().0 <= now) {
            let ((at, _), assumed) = first.remove_entry();
            self.happen(at, assumed);
        }
        self.recorded.advance(now);
        self.changed.advance(now);
    }

    fn happen(&mut self, at: Timestamp, assumed: Assumed) {
        let Assumed { lease, pull, ends_at } = assumed;
        if at < ends_at {
            let extend =
                Extend { node: pull.node.clone(), leases: vec![lease], lease_duration_ms: pull.lease_duration_ms };
            let outcome = self.changed.apply(at, Command::Extend(extend));
            if let Outcome::Extended(extended) = outcome
                && let [Extended::Until(until)] = extended[..]
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
        };
        if self.changed.apply(at, Command::Complete(complete)).is_durable() {
            self.made_up.assumed_completions += 1;
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
        WhatIf { recorded: side(self.recorded), changed: side(self.changed), made_up: self.made_up }
    }
}

/// The same state once more.
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
