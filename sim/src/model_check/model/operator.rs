//! What operators do, in the model: dead letters, acts on many of them, nodes in and out of service, orphans.

use super::Model;
use sheratan_core::integrity::stored::ResultIntegrity;
use sheratan_core::limits::{ACT_STEP_LETTERS, ACT_WAIT_MS, ACTS_KEPT_MAX, ACTS_RUNNING_MAX};
use sheratan_core::{
    ActOn, AdoptOrphan, BeginAct, Complete, Completed, Drain, JobSeq, LetterFilter, Liveness, Millis, Name, Outcome,
    ParkResult, Refusal, State, Timestamp,
};

/// An act on many dead letters.
#[derive(Clone, PartialEq, Debug)]
pub struct ModelAct {
    /// Its number.
    pub id: u32,
    /// Letters that it changed.
    pub done: u64,
    /// Letters that it passed over.
    pub skipped: u64,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Whether an operator ended it.
    pub is_cancelled: bool,
    pub(super) step_at: Timestamp,
    begin: BeginAct,
    next_number: u64,
    end_number: u64,
}

impl Model {
    /// Why a job is no dead letter.
    fn check_letter(&self, seq: JobSeq) -> Result<(), Refusal> {
        let job = self.jobs.iter().find(|job| job.seq == seq).ok_or(Refusal::UnknownJob)?;
        match job.state {
            State::Final { .. } if job.is_dead() => Ok(()),
            State::Final { status, .. } => Err(Refusal::AlreadyFinal { status }),
            _ => Err(Refusal::NotDead),
        }
    }

    /// A dead letter waits again at the end of its lane, unless its key is another job's or there is no room.
    pub(super) fn requeue(&mut self, seq: JobSeq) -> Result<(), Refusal> {
        self.check_letter(seq)?;
        let job = self.job(seq);
        if let Some(row) = job.dead_key.as_ref().and_then(|key| self.keys.get(key)).filter(|row| row.job != seq) {
            let old_hash_prefix = *row.payload_hash.first_chunk().expect("a hash has 32 bytes");
            return Err(Refusal::KeyCollision { job: row.job, old_hash_prefix });
        }
        let (depth, depth_max) = (self.counts().waiting(), self.limits.queue_depth_max);
        if depth >= depth_max {
            return Err(Refusal::QueueFull { depth, depth_max });
        }
        let (own, bytes, bytes_max) = (job.bytes(), self.unfinished_bytes(), self.limits.queue_bytes_max);
        if own > self.job_bytes_max() {
            return Err(Refusal::JobTooLarge { bytes: own, bytes_max: self.job_bytes_max() });
        }
        if bytes + own > bytes_max {
            return Err(Refusal::QueueBytesFull { bytes, bytes_max, depth, over: bytes + own - bytes_max });
        }
        self.check_class(None, &job.class())?;
        self.begin_anew(seq);
        self.become_ready_for_all(seq);
        Ok(())
    }

    /// A dead letter waits again: its clocks and counts start anew, its attempts stay readable, its key is bound to it.
    pub(super) fn begin_anew(&mut self, seq: JobSeq) {
        let job = self.job(seq);
        let has_room = self.unfinished_bytes() + job.bytes() <= self.limits.queue_bytes_max;
        let key = job.dead_key.clone().filter(|key| self.keys.get(key).is_some_and(|row| row.job == seq));
        key.iter().for_each(|key| self.keys.unspend(key));
        let (now, place) = (self.now, self.next_seq);
        self.next_seq = JobSeq::new(place.get() + 1);
        let job = self.job_mut(seq);
        let again = |at: Timestamp| if at == Timestamp::NEVER { at } else { now + at.since(job.clock_from) };
        (job.expires_at, job.retry_until) = (again(job.expires_at), again(job.retry_until));
        (job.clock_from, job.is_requeued, job.place) = (now, true, Some(place));
        (job.dead_key, job.is_keyed) = (None, key.is_some());
        (job.report, job.reason) = (None, None);
        (job.turn, job.aged) = (0, 0);
        job.counted_from = job.attempts.len();
        if job.ended_under_lease && !has_room {
            job.forgotten = job.attempts.len() - 1;
        }
        job.state = State::Scheduled { due_at: now };
    }

    pub(super) fn discard(&mut self, seq: JobSeq) -> Result<(), Refusal> {
        self.check_letter(seq)?;
        self.refile(seq);
        Ok(())
    }

    pub(super) fn begin_act(&mut self, begin: &BeginAct) -> Outcome {
        let running = self.acts.iter().filter(|act| act.ended_at.is_none()).count();
        if running >= ACTS_RUNNING_MAX {
            return Outcome::Refused(Refusal::TooManyActs { running: running as u64 });
        }
        let matched = self.letters(None).iter().filter(|job| matches(&begin.filter, job)).count() as u64;
        if let Some(max) = begin.count_max.filter(|max| matched > *max) {
            return Outcome::Refused(Refusal::TooManyLetters { matched, max });
        }
        if self.acts.len() >= ACTS_KEPT_MAX
            && let Some(oldest) = self.acts.iter().position(|act| act.ended_at.is_some())
        {
            self.acts.remove(oldest);
        }
        let id = self.next_act;
        self.next_act += 1;
        self.acts.push(ModelAct {
            id,
            done: 0,
            skipped: 0,
            ended_at: None,
            is_cancelled: false,
            step_at: self.now,
            begin: begin.clone(),
            next_number: 0,
            end_number: self.next_final_number,
        });
        Outcome::ActBegun { act: id, matched }
    }

    pub(super) fn cancel_act(&mut self, id: u32) -> Result<(), Refusal> {
        let now = self.now;
        let act = self.acts.iter_mut().find(|act| act.id == id).ok_or(Refusal::UnknownAct)?;
        if act.ended_at.is_some() {
            return Err(Refusal::ActEnded);
        }
        (act.ended_at, act.is_cancelled, act.step_at) = (Some(now), true, Timestamp::NEVER);
        Ok(())
    }

    /// An act handles its next letters: of those that were there when it began.
    pub(super) fn step_act(&mut self, id: u32) {
        let at = self.acts.iter().position(|act| act.id == id).expect("an act with a timer is kept");
        let mut act = self.acts[at].clone();
        let BeginAct { what, filter, rate_per_sec, .. } = act.begin.clone();
        // With a rate it makes up to 20 steps a second, and after each waits for as long as its letters take.
        let rate = rate_per_sec.map(u64::from);
        let count = rate.map_or(ACT_STEP_LETTERS, |rate| rate.div_ceil(20)).clamp(1, ACT_STEP_LETTERS);
        let (mut left, mut waits_for_room, before) = (count, false, act.done);
        loop {
            let letters = self.letters(filter.kind.as_ref());
            let mut ahead = letters.iter().filter_map(|job| {
                job.final_number().filter(|number| (act.next_number..act.end_number).contains(number))
            });
            let Some(number) = ahead.next() else {
                act.next_number = act.end_number;
                break;
            };
            if left == 0 {
                break;
            }
            let job = letters.iter().find(|job| job.final_number() == Some(number)).expect("it is one of them");
            let seq = job.seq;
            if matches(&filter, job) {
                let handled = match what {
                    ActOn::Requeue => self.requeue(seq),
                    ActOn::Discard => self.discard(seq),
                };
                match handled {
                    Ok(()) => act.done += 1,
                    Err(refusal) if refusal.full().is_some() => {
                        waits_for_room = true;
                        break;
                    }
                    Err(_) => act.skipped += 1,
                }
                left -= 1;
            }
            act.next_number = number + 1;
        }
        if act.next_number >= act.end_number {
            (act.ended_at, act.step_at) = (Some(self.now), Timestamp::NEVER);
        } else {
            let changed_ms = (act.done - before) * 1_000;
            let pause = rate.map_or(1, |rate| changed_ms.div_ceil(rate.max(1)).max(1));
            act.step_at = self.now + if waits_for_room { ACT_WAIT_MS } else { Millis::new(pause) };
        }
        self.acts[at] = act;
    }

    pub(super) fn drain(&mut self, drain: &Drain) -> Result<(), Refusal> {
        let until = drain.deadline_ms.map(|deadline| self.now + deadline);
        let node = self.nodes.get_mut(&drain.node).ok_or(Refusal::UnknownNode)?;
        node.drain = Some((drain.clone(), until));
        let index = node.index;
        let Some(latest) = until else { return Ok(()) };
        for job in &mut self.jobs {
            match (&mut job.state, &mut job.held) {
                (State::Leased { node, until }, _) | (_, Some((node, until))) if *node == index => {
                    *until = latest.min(*until);
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn resume(&mut self, node: &Name) -> Result<(), Refusal> {
        self.nodes.get_mut(node).ok_or(Refusal::UnknownNode)?.drain = None;
        Ok(())
    }

    pub(super) fn remove_node(&mut self, name: &Name) -> Result<(), Refusal> {
        let node = self.nodes.get(name).ok_or(Refusal::UnknownNode)?;
        let leases = super::leases_of(&self.jobs, node.index);
        if leases > 0 || node.liveness == Liveness::Online {
            return Err(Refusal::NodeInUse { leases });
        }
        self.nodes.remove(name);
        Ok(())
    }

    /// An orphan becomes the result of a job, as if an unnamed node had sent it now; not of one whose own node has still
    /// to learn that it ended.
    pub(super) fn adopt_orphan(&mut self, adopt: &AdoptOrphan, adopting: &str) -> Result<Completed, Refusal> {
        let parked = self.orphans.get(adopt.orphan).ok_or(Refusal::UnknownOrphan)?.clone();
        if let Some(job) = self.jobs.iter().find(|job| job.seq == adopt.job && job.held.is_some())
            && let State::Final { status, .. } = job.state
        {
            return Err(Refusal::AlreadyFinal { status });
        }
        let ParkResult { job_id, ok, result, error, mark, integrity, .. } = parked;
        // The worker's checksum is of the job that it named: another one gets the hub's own.
        let integrity = match *job_id == *adopting {
            true => integrity,
            false => ResultIntegrity::of_hub(error.as_ref(), adopting, ok, result.as_ref()).map(Box::new),
        };
        let (lease, node, is_retryable, retry_after_ms) = (None, None, true, None);
        let complete =
            Complete { job: adopt.job, lease, node, ok, result, error, is_retryable, mark, integrity, retry_after_ms };
        let completed = self.complete(&complete)?;
        if !completed.is_duplicate {
            self.orphans.remove(adopt.orphan);
        }
        Ok(completed)
    }
}

/// Whether an operator means a dead letter.
fn matches(filter: &LetterFilter, job: &super::ModelJob) -> bool {
    let State::Final { at, error, .. } = &job.state else { return false };
    let error = error.as_ref().map(|error| String::from_utf8_lossy(error.as_bytes()));
    filter.kind.as_ref().is_none_or(|kind| *kind == job.asked.kind)
        && filter.reason.is_none_or(|reason| job.reason == Some(reason))
        && filter.before.is_none_or(|before| *at < before)
        && filter.after.is_none_or(|after| *at >= after)
        && filter.error.as_ref().is_none_or(|text| error.is_some_and(|error| error.contains(&**text)))
}
