//! Ledger: checks the hub's promises against nothing but the answers that clients were given.
//!
//! It knows no queue, no time and no model: an accepted job has a new number, a lease is newer than all before it and
//! exceeds no limit, a job is completed once and final once, and a final job stays as it is until it is dropped, unless it
//! is a dead letter. A mistake that hub and model shared would show here.

use crate::model_check::letters::Letters;
use crate::model_check::orphans::Orphans;
use crate::model_check::retries::Retries;
use crate::model_check::violation::{Violation, holds};
use sheratan_core::limits::PULL_JOBS_MAX;
use sheratan_core::{
    Account, Command, CompletedStatus, Effect, FinalStatus, Hub, JobSeq, Leased, Name, Outcome, Pull, State, Submitted,
};
use std::collections::{BTreeMap, BTreeSet};

/// The answers that clients were given.
#[derive(Default, Debug)]
pub struct Ledger {
    accepted: BTreeSet<JobSeq>,
    /// Jobs that were leased, by the generation of their last lease.
    generations: BTreeMap<JobSeq, u32>,
    /// Jobs whose end was reported, with their final status if it was seen.
    ended: BTreeMap<JobSeq, Option<FinalStatus>>,
    completed: u64,
    letters: Letters,
    orphans: Orphans,
    retries: Retries,
}

impl Ledger {
    /// How many jobs were accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.len() as u64
    }

    /// How many jobs were completed.
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// Checks an effect of a step, before its outcome.
    pub fn effect(&mut self, effect: &Effect) -> Result<(), Violation> {
        match effect {
            Effect::Ended { job: seq, .. } => {
                let is_requeued = self.letters.note_end(*seq);
                let was_reported = self.ended.insert(*seq, None).is_some() && !is_requeued;
                holds(!was_reported, || format!("job {} ended twice", seq.get()))
            }
            Effect::Audit(_, audit) => {
                self.orphans.note(audit)?;
                let unfinished = self.letters.note(audit)?;
                unfinished.map(|seq| self.ended.remove(&seq));
                Ok(())
            }
            Effect::Wake(_) => Ok(()),
        }
    }

    /// Checks a command's outcome; `hub` has just returned it.
    pub fn outcome(&mut self, command: &Command, outcome: &Outcome, hub: &Hub) -> Result<(), Violation> {
        self.retries.outcome(command, outcome, hub)?;
        self.letters.note_rules(hub)?;
        match (command, outcome) {
            (Command::Submit(submit), Outcome::Submitted(Submitted::Accepted { job, .. })) => {
                // A job that ended and was dropped within its submit names nobody any more.
                let client = hub.queue().get(*job).map(|job| job.client().cloned());
                let is_named = client.is_none_or(|client| client == submit.client);
                holds(is_named, || format!("job {} does not name the client of its submit", job.get()))?;
                self.accept(*job, hub)
            }
            (Command::Pull(pull), Outcome::Pulled(pulled)) => {
                let jobs_max = pull.jobs_max.clamp(1, PULL_JOBS_MAX) as usize;
                holds(pulled.leases.len() <= jobs_max, || "a pull gave more jobs than were asked for".to_owned())?;
                pulled.leases.iter().try_for_each(|leased| self.lease(leased, hub))?;
                if pulled.leases.is_empty() { Ok(()) } else { check_limits(pull, hub) }
            }
            (Command::Complete(_) | Command::AdoptOrphan(_), Outcome::Completed(completed))
                if !completed.is_duplicate =>
            {
                let seq = completed.job;
                // The result of a job that was not leased is that of an attempt of its own.
                if let Some(job) = hub.queue().get(seq) {
                    self.generations.insert(seq, job.generation());
                }
                if completed.status == CompletedStatus::Final(FinalStatus::Completed) {
                    self.completed += 1;
                    let status = self.ended.insert(seq, Some(FinalStatus::Completed));
                    holds(status == Some(None), || format!("job {} was completed without ending then", seq.get()))?;
                }
                Ok(())
            }
            (Command::Cancel(seq), Outcome::Done) => {
                // A cancelled job never completes.
                let ended = self.ended.insert(*seq, Some(FinalStatus::Cancelled));
                holds(ended == Some(None), || format!("job {} was cancelled without ending then", seq.get()))
            }
            _ => Ok(()),
        }
    }

    /// Checks that every accepted job is there, or ended and was dropped, and that a final job stays as it ended. O(n).
    pub fn check(&mut self, hub: &Hub) -> Result<(), Violation> {
        check_results(hub)?;
        self.orphans.check(hub)?;
        for seq in self.letters.check(hub)? {
            if hub.queue().get(seq).is_some_and(|job| !job.is_final()) {
                self.ended.remove(&seq);
            }
        }
        for seq in self.accepted.iter().copied() {
            let ended = self.ended.get(&seq).copied();
            match (hub.queue().get(seq).map(|job| job.state()), ended) {
                (None, ended) => holds(ended.is_some(), || format!("job {} was dropped and never ended", seq.get()))?,
                (Some(State::Final { status, .. }), Some(known)) => {
                    let is_refiled = (known, status) == (Some(FinalStatus::Dead), FinalStatus::Failed);
                    let is_same = known.is_none_or(|known| known == status || is_refiled);
                    holds(is_same, || format!("job {} was {known:?} and is now {status:?}", seq.get()))?;
                    self.ended.insert(seq, Some(status));
                }
                (Some(State::Final { .. }), None) => {
                    holds(false, || format!("job {} is final and its end was not reported", seq.get()))?;
                }
                (Some(_), ended) => {
                    holds(ended.is_none(), || format!("job {} ended and is now {}", seq.get(), job_status(hub, seq)))?;
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, seq: JobSeq, hub: &Hub) -> Result<(), Violation> {
        let last = self.accepted.last().copied();
        holds(last.is_none_or(|last| last < seq), || format!("job {} came after {last:?}", seq.get()))?;
        self.accepted.insert(seq);
        let (counts, limits) = (hub.counts(), hub.limits());
        holds(counts.waiting() <= limits.queue_depth_max, || {
            format!("a submit was accepted with {} jobs waiting of {}", counts.waiting(), limits.queue_depth_max)
        })?;
        let bytes = hub.ledger().unfinished();
        holds(bytes <= limits.queue_bytes_max, || {
            format!("a submit was accepted with {bytes} bytes of unfinished jobs of {}", limits.queue_bytes_max)
        })?;
        let text = hub.ids().job_id(seq);
        let reads_back = hub.ids().parse_job_id(text.as_str()) == Some(seq);
        holds(reads_back, || format!("{text} does not read back as job {}", seq.get()))
    }

    fn lease(&mut self, leased: &Leased, hub: &Hub) -> Result<(), Violation> {
        let lease = leased.lease;
        let seq = lease.job.get();
        let before = self.generations.insert(lease.job, lease.generation).unwrap_or(0);
        holds(lease.generation == before + 1, || format!("job {seq}: lease {} after {before}", lease.generation))?;
        let Some(job) = hub.queue().get(lease.job) else {
            // One whose attempts may take no time at all may have ended already.
            return holds(leased.until <= hub.now(), || format!("job {seq} was leased and is unknown"));
        };
        holds(job.lease() == lease, || format!("job {seq} was leased as {lease:?} and is under {:?}", job.lease()))?;
        holds(job.attempts_charged() <= job.attempts_max(), || {
            format!("job {seq} has attempt {} of {}", job.attempts_charged(), job.attempts_max())
        })?;
        let rules = hub.queue().kind_rules(job.kind()).0;
        holds(rules.pause.is_none(), || format!("job {seq} was leased although its kind is paused"))?;
        let leases = hub.queue().leases_of_kind(job.kind());
        holds(rules.inflight_max.is_none_or(|max| leases <= max), || {
            format!("job {seq} is one of {leases} leases of its kind, of {:?}", rules.inflight_max)
        })?;
        holds(leased.until >= hub.now(), || format!("job {seq}: its lease expired before it was granted"))?;
        let text = hub.ids().lease_id(lease, hub.now());
        holds(hub.parse_lease_id(text.as_str()) == Some(lease), || format!("{text} does not read back"))
    }
}

/// Checks that a pull that leased jobs exceeded no limit of leases.
fn check_limits(pull: &Pull, hub: &Hub) -> Result<(), Violation> {
    let (limits, queue) = (hub.limits(), hub.queue());
    let node = hub.registry().by_name(&pull.node);
    holds(node.is_some_and(|node| node.drain().is_none()), || "a drained node was given jobs".to_owned())?;
    let of_node = node.map_or(0, |node| node.leases());
    let in_zone = node.map_or(0, |node| queue.leases_in_zone(node.zone()));
    let within = [
        ("the hub", hub.counts().leased, limits.inflight_max),
        ("the node", of_node, limits.leases_per_node_max),
        ("the zone", in_zone, limits.leases_per_zone_max),
    ];
    for (what, leases, max) in within {
        holds(leases <= max, || format!("{what} has {leases} leases of {max} after {pull:?}"))?;
    }
    // One job that is under lease alone may be larger.
    let (bytes, bytes_max) = (hub.ledger().get(Account::Leased), limits.inflight_bytes_max);
    let running = queue.iter_from(JobSeq::FIRST).filter(|job| matches!(job.state(), State::Leased { .. })).count();
    holds(bytes <= bytes_max || running <= 1, || format!("{running} leased jobs take {bytes} bytes of {bytes_max}"))
}

/// Checks that each client's results are its final jobs, in the order in which they ended.
fn check_results(hub: &Hub) -> Result<(), Violation> {
    let mut by_client: BTreeMap<&Name, Vec<(u64, JobSeq)>> = BTreeMap::new();
    for job in hub.queue().iter_from(JobSeq::FIRST) {
        if let (Some(client), State::Final { number, .. }) = (job.client(), job.state()) {
            by_client.entry(client).or_default().push((number, job.seq()));
        }
    }
    for (client, mut ended) in by_client {
        ended.sort_unstable();
        let read: Vec<_> = hub.queue().results_from(client, 0).map(|job| job.seq()).collect();
        let is_same = read.iter().eq(ended.iter().map(|(_, job)| job));
        holds(is_same, || format!("the results of {client} are {read:?}, its jobs ended as {ended:?}"))?;
    }
    Ok(())
}

fn job_status(hub: &Hub, seq: JobSeq) -> &'static str {
    hub.queue().get(seq).map_or("gone", |job| job.status())
}
