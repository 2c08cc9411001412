//! Submits in the model: which are repeats, and for which there is room.

use super::Model;
use super::ending::Sent;
use super::job::{self, ModelJob};
use sheratan_core::limits::{CLASSES_MAX, CLASSES_PER_ZONE_MAX, REVOCATIONS_MAX, RUN_BYTES};
use sheratan_core::{
    AttemptEnd, ClassKey, FinalStatus, Idempotency, JobSeq, LeftOut, Millis, Name, OnDuplicate, OnFailed,
    OnLettersFull, Refusal, Revocation, State, Submit, Submitted, Timestamp, Utc,
};

impl Model {
    pub(super) fn submit(&mut self, submit: &Submit) -> Result<Submitted, Refusal> {
        let mut supersedes = None;
        let mut replaces = None;
        if let Some(idempotency) = &submit.idempotency {
            match self.recognise(idempotency)? {
                Known::No => {}
                Known::Repeat(submitted) => return Ok(submitted),
                Known::Supersedes(job) => supersedes = Some(job),
                Known::Replaces(job) => replaces = Some(job),
            }
        }
        // After some leases in a row that were taken away the older job's run goes on, and the newer one waits for it.
        let waits_for = supersedes.filter(|old| self.must_finish(*old));
        let supersedes = supersedes.filter(|_| waits_for.is_none());
        self.check_room(submit, supersedes)?;
        let (mut place, mut revocations, mut after, mut turn) = (None, 0, waits_for, (0, 0));
        if let Some(old) = waits_for {
            let job = self.job_mut(old);
            job.is_keyed = false;
            revocations = job.revocations;
        }
        if let Some(old) = supersedes {
            let job = self.job_mut(old);
            job.is_keyed = false;
            (revocations, after) = (job.revocations + u32::from(!job.is_waiting()), job.after);
            if job.is_waiting() {
                place = Some(job.place.unwrap_or(job.seq));
                turn = (job.level(), job.turn);
            } else if self.has_degradation() {
                self.hold_lease(old, Revocation::Superseded);
            } else {
                self.end_attempt(old, AttemptEnd::Revoked { at: self.now, why: Revocation::Superseded });
            }
            self.finish_unkeyed(old, FinalStatus::Superseded, Sent::default(), None);
        }
        let seq = self.next_seq;
        self.next_seq = JobSeq::new(seq.get() + 1);
        let rules = self.kinds.rules(&submit.kind);
        let mut job = ModelJob::new(seq, (self.now, self.calendar_now()), &self.limits, &rules, submit, place);
        (job.revocations, job.after) = (revocations.min(REVOCATIONS_MAX.into()), after);
        if after.is_some() && matches!(job.state, State::Queued { .. }) {
            job.state = State::Scheduled { due_at: Timestamp::NEVER };
        }
        if job.priority as usize == turn.0 {
            job.turn = turn.1;
        }
        let is_ready = matches!(job.state, State::Queued { .. });
        self.jobs.push(job);
        if self.has_degradation() {
            self.earn_credit(&submit.kind);
        }
        if is_ready {
            self.take_turn(seq);
        }
        if let Some(idempotency) = &submit.idempotency {
            self.keys.bind(self.now, &self.limits, idempotency, seq);
        }
        Ok(Submitted::Accepted { job: seq, supersedes, replaces })
    }

    fn must_finish(&self, old: JobSeq) -> bool {
        let job = self.job(old);
        let is_leased = matches!(job.state, State::Leased { .. });
        self.has_degradation() && is_leased && job.revocations >= REVOCATIONS_MAX.into()
    }

    fn recognise(&self, idempotency: &Idempotency) -> Result<Known, Refusal> {
        let Some(row) = self.keys.get(&idempotency.key) else {
            let (keys, keys_max) = (self.keys.len() as u64, self.limits.idempotency_keys_max);
            let has_room = self.keys.has_room(self.now, &self.limits);
            return if has_room { Ok(Known::No) } else { Err(Refusal::KeysFull { keys, keys_max }) };
        };
        let is_same = row.payload_hash == idempotency.payload_hash;
        if !is_same {
            return match (idempotency.on_duplicate, &row.answer) {
                (OnDuplicate::SameResult, _) => {
                    let old_hash_prefix = *row.payload_hash.first_chunk().expect("a hash has 32 bytes");
                    Err(Refusal::KeyCollision { job: row.job, old_hash_prefix })
                }
                (OnDuplicate::LatestWins, None) => Ok(Known::Supersedes(row.job)),
                (OnDuplicate::LatestWins, Some(_)) => Ok(Known::Replaces(row.job)),
            };
        }
        let Some(answer) = &row.answer else {
            return Ok(Known::Repeat(Submitted::InProgress { job: row.job }));
        };
        if answer.status != FinalStatus::Completed && idempotency.on_failed == OnFailed::NewJob {
            return Ok(Known::Replaces(row.job));
        }
        let (status, result, error) = (answer.status, answer.result.clone(), answer.error.clone());
        let integrity = answer.integrity;
        let left_out = match self.jobs.iter().find(|job| job.seq == row.job).map(|job| &job.state) {
            Some(State::Final { result: whole, error: reason, .. }) => {
                let lacks = whole.is_some() && result.is_none() || reason.is_some() && error.is_none();
                lacks.then_some(LeftOut::InJob)
            }
            _ if answer.is_whole => None,
            // At the end of time no instant is told from none.
            _ => Some(LeftOut::Gone(answer.gone_at.filter(|at| *at != Timestamp::NEVER))),
        };
        Ok(Known::Repeat(Submitted::Final { job: row.job, status, result, error, integrity, left_out }))
    }

    /// Whether there would be room for the job without the one that it supersedes.
    fn check_room(&self, submit: &Submit, supersedes: Option<JobSeq>) -> Result<(), Refusal> {
        let others = || self.jobs.iter().filter(|job| Some(job.seq) != supersedes);
        let depth_without = others().filter(|job| job.is_waiting()).count() as u64;
        let bytes_of = |job: &ModelJob| job.bytes() + self.ageing_bytes_if(job);
        let bytes_without: u64 = others().filter(|job| !job.is_final()).map(bytes_of).sum();
        let asked_again = Submit { delay_ms: Millis::ZERO, ..submit.clone() };
        let at_start = (Timestamp::ZERO, Utc::ZERO);
        let rules = self.kinds.rules(&submit.kind);
        let mut coming = ModelJob::new(self.next_seq, at_start, &self.limits, &rules, &asked_again, None);
        // A job whose time to live never ends is charged for its timer all the same.
        coming.is_keyed |= submit.ttl_ms.or(rules.ttl_ms).is_some() || submit.retry_budget_ms.is_some();
        coming.turn = u64::from(self.has_turns());
        let (own, bytes_max) = (coming.bytes() + self.ageing_bytes_of(&coming), self.limits.queue_bytes_max);
        if own > self.job_bytes_max() {
            return Err(Refusal::JobTooLarge { bytes: own, bytes_max: self.job_bytes_max() });
        }
        // The client is answered with the current numbers.
        let (depth, depth_max) = (self.counts().waiting(), self.limits.queue_depth_max);
        if depth_without >= depth_max {
            return Err(Refusal::QueueFull { depth, depth_max });
        }
        let bytes_with = bytes_without + own;
        if bytes_with > bytes_max {
            let (bytes, over) = (self.unfinished_bytes(), bytes_with - bytes_max);
            return Err(Refusal::QueueBytesFull { bytes, bytes_max, depth, over });
        }
        self.check_class(supersedes, &job::class_of(submit))?;
        self.check_letters(supersedes, &submit.kind, own)
    }

    /// Whether one more job of a class may be unfinished, without the one that leaves.
    pub(super) fn check_class(&self, leaving: Option<JobSeq>, own: &ClassKey) -> Result<(), Refusal> {
        let classes_of = |jobs: &mut dyn Iterator<Item = &ModelJob>| {
            let mut classes: Vec<_> = jobs.filter(|job| !job.is_final()).map(ModelJob::class).collect();
            classes.sort();
            classes.dedup();
            classes
        };
        let with = classes_of(&mut self.jobs.iter());
        let without = classes_of(&mut self.jobs.iter().filter(|job| Some(job.seq) != leaving));
        let in_zone = |classes: &[ClassKey]| classes.iter().filter(|class| class.zone == own.zone).count();
        let has_room = without.len() < CLASSES_MAX && in_zone(&without) < CLASSES_PER_ZONE_MAX;
        if with.contains(own) || has_room {
            return Ok(());
        }
        let (classes, zone_classes) = (with.len() as u64, in_zone(&with) as u64);
        Err(Refusal::ClassesFull { classes, zone: own.zone.clone(), zone_classes })
    }

    /// Whether the letters of a kind go when there is no room; if not, its work is refused in good time.
    pub(super) fn gives_up_letters(&self, kind: &Name) -> bool {
        match self.kinds.rules(kind).on_letters_full {
            Some(on_full) => on_full == OnLettersFull::Evict,
            None => self.limits.dead_full_refuses == 0,
        }
    }

    /// Whether one more job of so many bytes may become a dead letter, of a kind that refuses work rather than give up
    /// letters.
    fn check_letters(&self, leaving: Option<JobSeq>, kind: &Name, bytes: u64) -> Result<(), Refusal> {
        let may_die = |job: &&ModelJob| !job.is_final() || job.is_dead();
        let check = |jobs: Vec<&ModelJob>, letters_max: u64, of: Option<&Name>| {
            let left = jobs.iter().filter(|job| Some(job.seq) != leaving).count() as u64;
            let letters = jobs.len() as u64;
            let refusal = Refusal::LettersFull { letters, letters_max, kind: of.cloned() };
            if left >= letters_max { Err(refusal) } else { Ok(()) }
        };
        if self.gives_up_letters(kind) {
            return Ok(());
        }
        let bytes_max = self.limits.dead_bytes_max;
        if bytes + RUN_BYTES > bytes_max {
            return Err(Refusal::JobTooLarge { bytes: bytes + RUN_BYTES, bytes_max });
        }
        check(self.jobs.iter().filter(may_die).collect(), self.limits.dead_jobs_max, None)?;
        // What a job will be as a letter, but for its errors.
        let as_letter = |job: &ModelJob| job.bytes() + if job.is_waiting() { RUN_BYTES } else { 0 };
        let places = self.ageing_bytes();
        let all = self.jobs.iter().filter(may_die).map(as_letter).sum::<u64>() + places;
        let others = self.jobs.iter().filter(may_die).filter(|job| Some(job.seq) != leaving);
        let left = others.map(as_letter).sum::<u64>() + places;
        if left + bytes + RUN_BYTES > bytes_max {
            return Err(Refusal::LetterBytesFull { bytes: all, bytes_max });
        }
        let of_kind = self.jobs.iter().filter(may_die).filter(|job| job.asked.kind == *kind);
        let letters_max = self.kinds.rules(kind).letters_max;
        letters_max.map_or(Ok(()), |letters_max| check(of_kind.collect(), letters_max, Some(kind)))
    }

    /// A fresh job earns a part of a credit, which may release the oldest postponed retry of its kind.
    fn earn_credit(&mut self, kind: &Name) {
        self.budget.earn(self.now, &self.limits, kind);
        if let Some((_, seq)) = self.oldest_postponed(kind)
            && self.budget.take_earned(self.now, &self.limits, kind)
        {
            self.release_postponed(seq);
        }
    }
}

/// What the lookup of a submit's key returns.
enum Known {
    No,
    Repeat(Submitted),
    Supersedes(JobSeq),
    Replaces(JobSeq),
}
