//! Ends in the model: of attempts, of jobs, and of their retention.

use super::Model;
use super::job::{self, ModelJob, Toll};
use sheratan_core::integrity::stored::ResultIntegrity;
use sheratan_core::{
    Account, Attempt, AttemptEnd, CompletedStatus, EndReason, FinalStatus, JobSeq, Millis, Name, NodeIndex,
    OnExhausted, Payload, Refusal, Revocation, State, Timestamp,
};

/// What a job ends with.
#[derive(Clone, Default, Debug)]
pub(super) struct Sent {
    pub result: Option<Payload>,
    pub error: Option<Payload>,
    pub integrity: Option<ResultIntegrity>,
}

/// An attempt that did not succeed.
pub(super) struct Failure {
    /// Whether there is room for the attempts before it.
    pub has_room: bool,
    pub is_retryable: bool,
    pub retry_after_ms: Option<Millis>,
    pub sent: Sent,
}

impl Model {
    /// A job's time to live is over. What the budget kept from being retried in time ends with its error.
    pub(super) fn expire(&mut self, seq: JobSeq) {
        let job = self.job(seq);
        if !matches!(job.state, State::Postponed { .. }) {
            self.finish(seq, FinalStatus::Expired, Sent::default(), None);
            return;
        }
        let error = match job.attempts.last().map(|attempt| &attempt.end) {
            Some(AttemptEnd::Failed { error, .. }) => error.clone(),
            _ => None,
        };
        let status = self.exhausted_status(&job.asked.kind);
        self.finish(seq, status, Sent { error, ..Sent::default() }, Some(EndReason::Expired));
    }

    /// A lease ends by its timer.
    pub(super) fn expire_lease(&mut self, seq: JobSeq) {
        let job = self.job_mut(seq);
        if job.held.take().is_some() {
            return;
        }
        let State::Leased { node, .. } = job.state else { unreachable!("a lease is of a leased job") };
        let started_at = job.attempts.last().expect("a leased job has an attempt").started_at;
        let at = self.now;
        let is_drained = self.nodes.of_index(node).is_some_and(|node| node.drain.is_some());
        self.take_lease(
            seq,
            match () {
                () if at >= self.run_ends_at(seq, started_at) => AttemptEnd::Revoked { at, why: Revocation::MaxRun },
                () if is_drained => AttemptEnd::Revoked { at, why: Revocation::Drained },
                () => AttemptEnd::Expired { at },
            },
        );
    }

    /// A node died: it loses the leases that it had when it sent its last heartbeat, and learns no more that jobs ended.
    pub(super) fn return_leases(&mut self, node: NodeIndex, heartbeat_at: Timestamp) {
        let held = self.jobs.iter().filter(|job| job.counts_at().is_some_and(|(at, _)| at == node));
        for seq in held.map(|job| job.seq).collect::<Vec<_>>() {
            let job = self.job_mut(seq);
            let is_old = job.attempts.last().is_some_and(|attempt| attempt.started_at <= heartbeat_at);
            if job.held.take().is_none() && is_old {
                self.take_lease(seq, AttemptEnd::Revoked { at: self.now, why: Revocation::NodeDead });
            }
        }
    }

    /// Ends a lease that ends without a result.
    pub(super) fn take_lease(&mut self, seq: JobSeq, end: AttemptEnd) {
        let error = match &end {
            AttemptEnd::Expired { .. } => Some("\"lease expired\""),
            AttemptEnd::Revoked { why: Revocation::NodeDead, .. } => Some("\"node dead\""),
            AttemptEnd::Revoked { why: Revocation::MaxRun, .. } => Some("\"max_run\""),
            _ => None,
        };
        let error = error.map(|text| Payload::new(text.as_bytes()));
        let has_room = self.unfinished_bytes() <= self.limits.queue_bytes_max;
        self.end_attempt(seq, end);
        let sent = Sent { error, ..Sent::default() };
        self.retry_or_finish(seq, Failure { has_room, is_retryable: true, retry_after_ms: None, sent });
    }

    /// Schedules the next attempt after one that did not succeed, or ends the job.
    pub(super) fn retry_or_finish(&mut self, seq: JobSeq, failure: Failure) -> CompletedStatus {
        if self.jobs.iter().any(|job| job.after == Some(seq)) {
            // A newer job of its key waits for it: it is not retried.
            self.finish(seq, FinalStatus::Superseded, failure.sent, None);
            return CompletedStatus::Final(FinalStatus::Superseded);
        }
        let job = self.job(seq);
        let toll = *job.tolls.last().expect("an attempt has just ended");
        let rules = self.kinds.rules(&job.asked.kind);
        let (lease, cap) = (job.last_lease(), self.limits.retry_delay_ms_cap);
        let delay = match (failure.retry_after_ms, toll) {
            (_, Toll::Return) => job::release_delay(job.count(Toll::Return), cap),
            (Some(named), _) => job::named_delay(&self.key, named, self.limits.retry_after_ms_cap, lease),
            (None, _) => {
                let base = rules.retry_delay_ms_base.unwrap_or(self.limits.retry_delay_ms_base);
                let count = if self.has_degradation() { job.count(toll) } else { lease.generation };
                job::retry_delay(&self.key, (base, rules.retry_delay_ms_cap.unwrap_or(cap)), lease, count)
            }
        };
        let due_at = self.now + delay;
        // What the hub counts in a byte reaches no further.
        let losses = job.count(Toll::Loss).min(u8::MAX.into());
        let refused = match () {
            () if toll == Toll::Return => None,
            () if !failure.is_retryable => Some(EndReason::NotRetryable),
            () if job.count(Toll::Charge) >= job.attempts_max => Some(EndReason::Attempts),
            () if losses >= rules.losses_max.unwrap_or(self.limits.losses_max) => Some(EndReason::Lost),
            () if due_at > job.retry_until => Some(EndReason::RetryBudget),
            () => None,
        };
        let status = match refused {
            Some(_) => self.exhausted_status(&job.asked.kind),
            None if job.expires_at <= due_at => FinalStatus::Expired,
            None => {
                self.wait_again(seq, due_at, failure.has_room);
                if let Some(Attempt { end: AttemptEnd::Failed { retry_at, .. }, .. }) =
                    self.job_mut(seq).attempts.last_mut()
                {
                    *retry_at = due_at;
                }
                if toll == Toll::Return && due_at == self.now {
                    self.become_ready_for_all(seq);
                }
                return CompletedStatus::RetryScheduled(due_at);
            }
        };
        let reason = refused.filter(|_| self.has_degradation());
        self.finish(seq, status, failure.sent, reason);
        CompletedStatus::Final(status)
    }

    /// What becomes of a job of a kind that fails for good.
    fn exhausted_status(&self, kind: &Name) -> FinalStatus {
        let is_parked = match self.kinds.rules(kind).on_exhausted {
            Some(on_exhausted) => on_exhausted == OnExhausted::Park,
            None => self.limits.dead_letters_enabled != 0,
        };
        if is_parked { FinalStatus::Dead } else { FinalStatus::Failed }
    }

    /// A job whose attempt ended waits for an instant.
    pub(super) fn wait_again(&mut self, seq: JobSeq, due_at: Timestamp, has_room: bool) {
        let job = self.job_mut(seq);
        (job.state, job.report) = (State::Scheduled { due_at }, None);
        if !has_room {
            job.forgotten = job.attempts.len() - 1;
        }
    }

    pub(super) fn become_ready_for_all(&mut self, seq: JobSeq) {
        let since = self.now;
        self.job_mut(seq).state = State::Queued { since };
        self.take_turn(seq);
    }

    pub(super) fn end_attempt(&mut self, seq: JobSeq, end: AttemptEnd) {
        let loss = if self.has_degradation() { Toll::Loss } else { Toll::Charge };
        let toll = match &end {
            AttemptEnd::Expired { .. } | AttemptEnd::Revoked { why: Revocation::NodeDead, .. } => loss,
            AttemptEnd::Revoked {
                why: Revocation::Released | Revocation::Drained | Revocation::Undelivered, ..
            } => Toll::Return,
            _ => Toll::Charge,
        };
        let job = self.job_mut(seq);
        job.attempts.last_mut().expect("a leased job has an attempt").end = end;
        *job.tolls.last_mut().expect("each attempt has one") = toll;
    }

    /// Ends the attempt of a job that ends now. Its lease counts until its node learns of it.
    pub(super) fn hold_lease(&mut self, seq: JobSeq, why: Revocation) {
        self.end_attempt(seq, AttemptEnd::Revoked { at: self.now, why });
        let job = self.job_mut(seq);
        job.held = job.counts_at();
    }

    pub(super) fn cancel(&mut self, seq: JobSeq) -> Result<(), Refusal> {
        let job = self.jobs.iter().find(|job| job.seq == seq).ok_or(Refusal::UnknownJob)?;
        if let State::Final { status, .. } = job.state {
            return Err(Refusal::AlreadyFinal { status });
        }
        if !job.is_waiting() {
            self.hold_lease(seq, Revocation::Cancelled);
        }
        self.finish(seq, FinalStatus::Cancelled, Sent::default(), None);
        Ok(())
    }

    pub(super) fn finish(&mut self, seq: JobSeq, status: FinalStatus, sent: Sent, reason: Option<EndReason>) {
        self.job_mut(seq).is_keyed = false;
        let answer = Some(sent.clone());
        self.finish_unkeyed(seq, status, sent, reason);
        self.ended_now.last_mut().expect("it has just ended").2 = answer;
    }

    /// As [`Model::finish`], without an answer for a key.
    pub(super) fn finish_unkeyed(&mut self, seq: JobSeq, status: FinalStatus, sent: Sent, reason: Option<EndReason>) {
        let (at, number) = (self.now, self.next_number());
        let was_in_lane = self.is_in_lane(seq);
        let job = self.job_mut(seq);
        job.ended_under_lease = !job.is_waiting();
        let Sent { result, error, integrity } = sent;
        job.state = State::Final { status, at, result, error, integrity, number };
        (job.withheld_from, job.is_released, job.reason, job.after) = (None, false, reason, None);
        self.note_left_lane(was_in_lane, seq);
        self.forget_lines();
        self.ended_now.push((seq, status, None));
        if let Some(newer) = self.jobs.iter_mut().find(|job| job.after == Some(seq)) {
            newer.after = None;
            newer.revocations = if status == FinalStatus::Completed { 0 } else { newer.revocations };
            if newer.state == (State::Scheduled { due_at: Timestamp::NEVER }) {
                newer.state = State::Scheduled { due_at: at };
            }
        }
    }

    fn next_number(&mut self) -> u64 {
        self.next_final_number += 1;
        self.next_final_number - 1
    }

    /// What follows from a command or a timer: keys answer with the ends of their jobs, then letters go beyond their
    /// limits, then other final jobs.
    pub(super) fn follow_up(&mut self) {
        let mut kinds = Vec::new();
        for (seq, status, answer) in std::mem::take(&mut self.ended_now) {
            self.ended_lately.push(seq);
            if status == FinalStatus::Dead && self.has_degradation() {
                kinds.push(self.job(seq).asked.kind.clone());
                self.job_mut(seq).dead_key = self.keys.bound_to(seq).cloned();
            }
            if let Some(sent) = answer {
                self.keys.spend(self.now, &self.limits, seq, status, &sent);
            }
        }
        for kind in kinds.into_iter().filter(|kind| self.gives_up_letters(kind)).collect::<Vec<_>>() {
            let letters_max = self.kinds.rules(&kind).letters_max.unwrap_or(u64::MAX);
            while self.letters(Some(&kind)).len() as u64 > letters_max {
                self.refile(self.letters(Some(&kind))[0].seq);
            }
        }
        loop {
            let is_one_too_many = self.letters(None).len() as u64 > self.limits.dead_jobs_max;
            if !is_one_too_many && self.bytes(Account::Dead) <= self.limits.dead_bytes_max {
                break;
            }
            if !self.has_degradation() {
                self.drop_job(self.letters(None)[0].seq);
                continue;
            }
            // Errors are as large as they are: beyond the limit of bytes no kind keeps all its letters.
            let giving_up = self.oldest_of_the_most(is_one_too_many, |kind| self.gives_up_letters(kind));
            let is_too_large = self.bytes(Account::Dead) > self.limits.dead_bytes_max;
            let largest = || self.oldest_of_the_most(false, |_| true).filter(|_| is_too_large);
            let Some(seq) = giving_up.or_else(largest) else { break };
            self.refile(seq);
        }
        while self.finals().len() as u64 > self.limits.retained_jobs_max
            || self.bytes(Account::Retained) > self.limits.retained_bytes_max
        {
            self.drop_job(self.finals()[0].seq);
        }
    }

    /// The dead letters in the order in which they ended, of one kind or of all.
    pub(super) fn letters(&self, kind: Option<&Name>) -> Vec<&ModelJob> {
        let is_its = |job: &&ModelJob| kind.is_none_or(|kind| job.asked.kind == *kind);
        let mut letters: Vec<_> = self.jobs.iter().filter(|job| job.is_dead()).filter(is_its).collect();
        letters.sort_by_key(|job| job.final_number());
        letters
    }

    /// The other final jobs in the order in which they ended.
    fn finals(&self) -> Vec<&ModelJob> {
        let mut finals: Vec<_> = self.jobs.iter().filter(|job| job.is_final() && !job.is_dead()).collect();
        finals.sort_by_key(|job| job.final_number());
        finals
    }

    /// The oldest letter of the kind that has the most letters, or bytes of letters, among some; of two such kinds, the
    /// one that began first.
    fn oldest_of_the_most(&self, by_count: bool, is_among: impl Fn(&Name) -> bool) -> Option<JobSeq> {
        let mut best: Option<(u64, JobSeq)> = None;
        for letter in self.letters(None).into_iter().filter(|letter| is_among(&letter.asked.kind)) {
            let of_kind = self.letters(Some(&letter.asked.kind));
            if of_kind[0].seq != letter.seq {
                continue;
            }
            let size = match by_count {
                true => of_kind.len() as u64,
                false => of_kind.iter().map(|job| job.bytes()).sum(),
            };
            if best.is_none_or(|(most, _)| size > most) {
                best = Some((size, letter.seq));
            }
        }
        best.map(|(_, seq)| seq)
    }

    /// A dead letter becomes a failed job.
    pub(super) fn refile(&mut self, seq: JobSeq) {
        let (now, new_number) = (self.now, self.next_number());
        let job = self.job_mut(seq);
        job.dead_key = None;
        if let State::Final { status, at, number, .. } = &mut job.state {
            (*status, *at, *number) = (FinalStatus::Failed, now, new_number);
        }
    }

    /// When the next final job is too old, and which one. Of two of one instant a letter is kept longer.
    pub(super) fn next_retention_at(&self) -> Option<(Timestamp, JobSeq)> {
        let retention = self.limits.job_retention_ms;
        let of_letters = if self.has_degradation() { self.limits.dead_retention_ms } else { retention };
        let ended = |job: &&ModelJob| match job.state {
            State::Final { at, .. } => at,
            _ => unreachable!("it is final"),
        };
        let of_finals = self.finals().first().map(|job| (ended(job) + retention, job.seq));
        let of_letters = self.letters(None).first().map(|job| (ended(job) + of_letters, job.seq));
        match (of_finals, of_letters) {
            (Some(of_finals), Some(of_letters)) if of_letters.0 < of_finals.0 => Some(of_letters),
            (of_finals, of_letters) => of_finals.or(of_letters),
        }
    }

    pub(super) fn drop_oldest_final(&mut self) {
        let (_, seq) = self.next_retention_at().expect("its timer has fired");
        if self.job(seq).is_dead() && self.has_degradation() { self.refile(seq) } else { self.drop_job(seq) }
    }

    fn drop_job(&mut self, seq: JobSeq) {
        let kind = self.job(seq).asked.kind.clone();
        self.jobs.retain(|job| job.seq != seq);
        self.keys.note_dropped(self.now, seq);
        if !self.jobs.iter().any(|job| job.asked.kind == kind) {
            self.budget.forget(&kind);
        }
    }
}
