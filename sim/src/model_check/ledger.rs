//! Ledger: checks the hub's promises against nothing but the answers that clients were given.
//!
//! It knows no queue, no time and no model: an accepted job has the next number, a lease is newer than all before it, a
//! job is completed once and final once, and a final job stays as it is until it is dropped. A mistake that hub and
//! model shared would show here.

use crate::model_check::violation::{Violation, holds};
use sheratan_core::limits::{PULL_JOBS_MAX, RECLAIMS_MAX};
use sheratan_core::{
    Command, CompletedStatus, Effect, FinalStatus, Hub, JobSeq, Leased, Name, Outcome, State, Submitted,
};
use std::collections::BTreeMap;

/// The answers that clients were given.
#[derive(Default, Debug)]
pub struct Ledger {
    accepted: u64,
    /// Jobs that were leased, by the generation of their last lease.
    generations: BTreeMap<JobSeq, u32>,
    /// Jobs whose end was reported, with their final status if it was seen.
    ended: BTreeMap<JobSeq, Option<FinalStatus>>,
    completed: u64,
}

impl Ledger {
    /// How many jobs were accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How many jobs were completed.
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// Checks an effect of a step, before its outcome.
    pub fn effect(&mut self, effect: &Effect) -> Result<(), Violation> {
        if let Effect::Ended { job: seq, .. } = effect {
            let was_reported = self.ended.insert(*seq, None).is_some();
            holds(!was_reported, || format!("job {} ended twice", seq.get()))?;
        }
        Ok(())
    }

    /// Checks a command's outcome; `hub` has just returned it.
    pub fn outcome(&mut self, command: &Command, outcome: &Outcome, hub: &Hub) -> Result<(), Violation> {
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
                pulled.leases.iter().try_for_each(|leased| self.lease(leased, hub))
            }
            (Command::Complete(_), Outcome::Completed(completed)) if !completed.is_duplicate => {
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
            _ => Ok(()),
        }
    }

    /// Checks that every accepted job is there, or ended and was dropped, and that a final job stays as it ended. O(n).
    pub fn check(&mut self, hub: &Hub) -> Result<(), Violation> {
        check_results(hub)?;
        for seq in (1..=self.accepted).map(JobSeq::new) {
            let ended = self.ended.get(&seq).copied();
            match (hub.queue().get(seq).map(|job| job.state()), ended) {
                (None, ended) => holds(ended.is_some(), || format!("job {} was dropped and never ended", seq.get()))?,
                (Some(State::Final { status, .. }), Some(known)) => {
                    let is_same = known.is_none_or(|known| known == status);
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
        self.accepted += 1;
        holds(seq.get() == self.accepted, || format!("job {} came after job {}", seq.get(), self.accepted - 1))?;
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
            return holds(false, || format!("job {seq} was leased and is unknown"));
        };
        holds(job.lease() == lease, || format!("job {seq} was leased as {lease:?} and is under {:?}", job.lease()))?;
        holds(lease.generation <= job.attempts_max() + RECLAIMS_MAX, || {
            format!("job {seq} has lease {} of {} attempts", lease.generation, job.attempts_max())
        })?;
        holds(leased.until >= hub.now(), || format!("job {seq}: its lease expired before it was granted"))?;
        let text = hub.ids().lease_id(lease, hub.now());
        holds(hub.parse_lease_id(text.as_str()) == Some(lease), || format!("{text} does not read back"))
    }
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
