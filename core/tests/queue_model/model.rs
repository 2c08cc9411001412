//! The model: a list of jobs and loops over it, slow and obviously right.

use sheratan_core::command::{Command, Complete, Extend, Pull, Submit};
use sheratan_core::ids::{JobSeq, LeaseRef};
use sheratan_core::limits::{DEFER_MS, Limits};
use sheratan_core::name::Name;
use sheratan_core::outcome::{
    Completed, CompletedStatus, Extended, FinalStatus, Leased, Outcome, Pulled, Refusal, Submitted,
};
use sheratan_core::time::{Millis, Timestamp};

/// The retry delay of both; all that is random in it is tested where it is made.
pub const RETRY_DELAY: Millis = Millis::new(1);

/// The nodes: their names, zones and capabilities.
pub const NODES: [(&str, &str, &[&str]); 3] =
    [("a", "default", &[]), ("b", "default", &["gpu"]), ("c", "west", &["gpu"])];

/// All jobs.
pub struct Model {
    limits: Limits,
    pub now: Timestamp,
    next_seq: u64,
    /// Known jobs, oldest first.
    pub jobs: Vec<ModelJob>,
    /// Final ones among them, in the order in which they ended.
    pub finals: Vec<u64>,
}

/// One job.
pub struct ModelJob {
    pub seq: u64,
    submit: Submit,
    submitted_at: Timestamp,
    state: ModelState,
    attempts: Vec<(Name, Timestamp, End)>,
}

#[derive(Clone, Copy, PartialEq)]
enum ModelState {
    /// Waits; ready from then on.
    Waiting(Timestamp),
    LeasedUntil(Timestamp),
    Final(FinalStatus),
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Running,
    WithResult(u64),
    Expired,
}

impl ModelJob {
    fn expires_at(&self) -> Timestamp {
        self.submit.ttl_ms.map_or(Timestamp::NEVER, |ttl| self.submitted_at + ttl)
    }

    fn lease(&self) -> LeaseRef {
        LeaseRef { job: JobSeq::new(self.seq), generation: self.attempts.len() as u32 }
    }

    fn is_for(&self, pull: &Pull, now: Timestamp) -> bool {
        let (_, zone, capabilities) = NODES.iter().find(|(node, ..)| *node == &*pull.node).expect("one of the nodes");
        matches!(self.state, ModelState::Waiting(due_at) if due_at <= now)
            && self.submit.zone.as_deref().unwrap_or("default") == *zone
            && self.submit.requires.iter().all(|name| capabilities.contains(&&**name))
            && (pull.kinds.is_empty() || pull.kinds.contains(&self.submit.kind))
    }

    pub fn is_held_by(&self, node: &Name) -> bool {
        matches!(self.state, ModelState::LeasedUntil(_)) && self.attempts.last().expect("it is leased").0 == *node
    }

    fn lease_duration(&self, asked: Option<Millis>, limits: &Limits) -> Millis {
        asked.or(self.submit.lease_duration_ms).unwrap_or(limits.lease_duration_ms).max(Millis::new(1_000))
    }

    pub fn status(&self, now: Timestamp) -> &'static str {
        match self.state {
            ModelState::Waiting(due_at) if due_at > now => "scheduled",
            ModelState::Waiting(_) => "queued",
            ModelState::LeasedUntil(_) => "leased",
            ModelState::Final(status) => status.as_str(),
        }
    }
}

impl Model {
    pub fn new(limits: Limits) -> Self {
        Model { limits, now: Timestamp::ZERO, next_seq: 1, jobs: Vec::new(), finals: Vec::new() }
    }

    pub fn apply(&mut self, command: &Command) -> Outcome {
        let outcome = match command {
            Command::Submit(submit) => self.submit(submit).map_or_else(Outcome::Refused, Outcome::Submitted),
            Command::Pull(pull) => Outcome::Pulled(self.pull(pull)),
            Command::Extend(extend) => {
                Outcome::Extended(extend.leases.iter().map(|lease| self.extend(extend, *lease)).collect())
            }
            Command::Complete(complete) => self.complete(complete).map_or_else(Outcome::Refused, Outcome::Completed),
            other => panic!("not in the model: {other:?}"),
        };
        // What is due at once happens at once.
        self.pass(self.now);
        outcome
    }

    /// Time passes, from one instant at which something happens to the next.
    pub fn pass(&mut self, to: Timestamp) {
        loop {
            let instants = self.jobs.iter().filter_map(|job| match job.state {
                ModelState::Waiting(_) => Some(job.expires_at()),
                ModelState::LeasedUntil(until) => Some(until),
                ModelState::Final(_) => None,
            });
            let Some(at) = instants.min().filter(|at| *at <= to) else { break };
            self.now = at;
            let seqs: Vec<u64> = self.jobs.iter().map(|job| job.seq).collect();
            for seq in &seqs {
                if let Some(job) = self.jobs.iter().find(|job| job.seq == *seq)
                    && matches!(job.state, ModelState::Waiting(_))
                    && job.expires_at() <= at
                {
                    self.finish(*seq, FinalStatus::Expired);
                }
            }
            for seq in &seqs {
                if let Some(job) = self.jobs.iter_mut().find(|job| job.seq == *seq)
                    && matches!(job.state, ModelState::LeasedUntil(until) if until <= at)
                {
                    job.attempts.last_mut().expect("it is leased").2 = End::Expired;
                    self.retry_or_finish(*seq, true);
                }
            }
        }
        self.now = to;
    }

    fn submit(&mut self, submit: &Submit) -> Result<Submitted, Refusal> {
        let (depth, bytes) = (self.count("scheduled") + self.count("queued"), self.waiting_bytes());
        let Limits { queue_depth_max: depth_max, queue_bytes_max: bytes_max, .. } = self.limits;
        if depth >= depth_max {
            return Err(Refusal::QueueFull { depth, depth_max });
        }
        if bytes + submit.params.len() as u64 > bytes_max {
            return Err(Refusal::QueueBytesFull { bytes, bytes_max, depth });
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        let state = ModelState::Waiting((self.now + submit.delay_ms).max(submit.run_at));
        let (submit, submitted_at) = (submit.clone(), self.now);
        self.jobs.push(ModelJob { seq, submit, submitted_at, state, attempts: Vec::new() });
        Ok(Submitted::Accepted { job: JobSeq::new(seq), supersedes: None, replaces: None })
    }

    fn pull(&mut self, pull: &Pull) -> Pulled {
        let held = self.jobs.iter().filter(|job| job.is_held_by(&pull.node)).count() as u64;
        let leased = self.count("leased");
        if leased >= self.limits.inflight_max || held >= self.limits.leases_per_node_max {
            return Pulled { leases: Vec::new(), defer_ms: DEFER_MS };
        }
        let room = (self.limits.inflight_max - leased).min(self.limits.leases_per_node_max - held);
        let now = self.now;
        let mut ready: Vec<&mut ModelJob> = self.jobs.iter_mut().filter(|job| job.is_for(pull, now)).collect();
        ready.sort_by_key(|job| (job.submit.priority, job.seq));
        ready.truncate(room.min(u64::from(pull.jobs_max)) as usize);
        let leases = ready.into_iter().map(|job| {
            let until = now + job.lease_duration(pull.lease_duration_ms, &self.limits);
            job.attempts.push((pull.node.clone(), now, End::Running));
            job.state = ModelState::LeasedUntil(until);
            Leased { lease: job.lease(), until }
        });
        Pulled { leases: leases.collect(), defer_ms: Millis::ZERO }
    }

    fn extend(&mut self, extend: &Extend, lease: LeaseRef) -> Extended {
        let Some(job) = self.jobs.iter_mut().find(|job| job.lease() == lease) else { return Extended::LeaseLost };
        match job.state {
            ModelState::LeasedUntil(until) if job.is_held_by(&extend.node) => {
                let until = until.max(self.now + job.lease_duration(extend.lease_duration_ms, &self.limits));
                job.state = ModelState::LeasedUntil(until);
                Extended::Until(until)
            }
            _ => Extended::LeaseLost,
        }
    }

    fn complete(&mut self, complete: &Complete) -> Result<Completed, Refusal> {
        let seq = complete.job.get();
        let job = self.jobs.iter_mut().find(|job| job.seq == seq).ok_or(Refusal::UnknownJob)?;
        let is_leased = matches!(job.state, ModelState::LeasedUntil(_));
        let attempt = match complete.lease {
            Some(lease) => {
                let index = lease.generation.checked_sub(1).ok_or(Refusal::LeaseLost)?;
                job.attempts.get(index as usize).filter(|_| lease.job == complete.job)
            }
            None => job.attempts.last(),
        };
        let is_same_node = |node: &Name| complete.node.as_ref().is_none_or(|named| named == node);
        let is_repeat = match attempt.filter(|(node, ..)| is_same_node(node)) {
            Some((_, _, End::Running)) if is_leased => false,
            Some((_, _, End::WithResult(mark))) if *mark == complete.mark => true,
            other => {
                // Another result than the one that ended the job is told so; without a lease any is.
                let is_the_last = matches!(other, Some((_, _, End::WithResult(_))))
                    && complete.lease.is_some_and(|lease| lease.generation as usize == job.attempts.len());
                return Err(match job.state {
                    ModelState::Final(status)
                        if is_the_last || complete.lease.is_none() && !job.attempts.is_empty() =>
                    {
                        Refusal::AlreadyFinal { status }
                    }
                    _ => Refusal::LeaseLost,
                });
            }
        };
        let status = if is_repeat {
            match job.state {
                ModelState::Waiting(due_at) => CompletedStatus::RetryScheduled(due_at),
                ModelState::LeasedUntil(_) => CompletedStatus::RetryScheduled(job.attempts.last().expect("leased").1),
                ModelState::Final(status) => CompletedStatus::Final(status),
            }
        } else {
            job.attempts.last_mut().expect("it is leased").2 = End::WithResult(complete.mark);
            if complete.ok {
                self.finish(seq, FinalStatus::Completed)
            } else {
                self.retry_or_finish(seq, complete.is_retryable)
            }
        };
        Ok(Completed { job: complete.job, status, is_duplicate: is_repeat })
    }

    fn retry_or_finish(&mut self, seq: u64, is_retryable: bool) -> CompletedStatus {
        let (now, attempts_max) = (self.now, self.limits.attempts_max);
        let due_at = now + RETRY_DELAY;
        let job = self.jobs.iter_mut().find(|job| job.seq == seq).expect("known");
        let retry_until = job.submit.retry_budget_ms.map_or(Timestamp::NEVER, |budget| job.submitted_at + budget);
        let is_spent = job.attempts.len() as u32 >= job.submit.attempts_max.unwrap_or(attempts_max);
        if job.expires_at() <= now {
            self.finish(seq, FinalStatus::Expired)
        } else if is_spent || !is_retryable || due_at > retry_until {
            self.finish(seq, FinalStatus::Dead)
        } else {
            job.state = ModelState::Waiting(due_at);
            CompletedStatus::RetryScheduled(due_at)
        }
    }

    fn finish(&mut self, seq: u64, status: FinalStatus) -> CompletedStatus {
        self.jobs.iter_mut().find(|job| job.seq == seq).expect("known").state = ModelState::Final(status);
        self.finals.push(seq);
        if self.finals.len() as u64 > self.limits.retained_jobs_max {
            let oldest = self.finals.remove(0);
            self.jobs.retain(|job| job.seq != oldest);
        }
        CompletedStatus::Final(status)
    }

    pub fn count(&self, status: &str) -> u64 {
        self.jobs.iter().filter(|job| job.status(self.now) == status).count() as u64
    }

    pub fn waiting_bytes(&self) -> u64 {
        let waiting = self.jobs.iter().filter(|job| matches!(job.state, ModelState::Waiting(_)));
        waiting.map(|job| job.submit.params.len() as u64).sum()
    }
}
