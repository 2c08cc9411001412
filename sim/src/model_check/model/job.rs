//! A job in the model: one row, with the submit it came from.

use super::node::ModelNode;
use sheratan_core::limits::{
    ATTEMPT_BYTES, ATTEMPTS_KEPT_MAX, ATTEMPTS_MAX, CLIENT_BYTES, HEAP_HEADER_BYTES, INTEGRITY_BYTES, JOB_BYTES,
    Limits, RARE_TERMS_BYTES, REPORT_BYTES, RUN_BYTES, TERMS_BYTES,
};
use sheratan_core::{
    Attempt, AttemptEnd, ClassKey, Complete, CompletedStatus, EndReason, FinalStatus, HubKey, JobSeq, KindRules,
    LeaseRef, Millis, Name, NodeIndex, Payload, Priority, Refusal, ResultMark, Revocation, State, Submit, Timestamp,
    Utc, Zone,
};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// One job.
#[derive(Clone, Debug)]
pub struct ModelJob {
    /// Its number.
    pub seq: JobSeq,
    /// What the client asked for.
    pub asked: Submit,
    /// When its time to live ends.
    pub expires_at: Timestamp,
    /// No retry starts after it.
    pub retry_until: Timestamp,
    /// Attempts in all.
    pub attempts_max: u32,
    /// The place in its lane that it took over from an older job.
    pub place: Option<JobSeq>,
    /// Whether an idempotency key is bound to it and not spent.
    pub is_keyed: bool,
    /// Whether it ended together with a lease.
    pub ended_under_lease: bool,
    /// Its state.
    pub state: State,
    /// The node that does not get it before an instant, if it is a retry that is reserved for other nodes.
    pub withheld_from: Option<(Name, Timestamp)>,
    /// When its delay ends, for a job that waits for an instant of the calendar.
    pub not_before: Timestamp,
    /// Its attempts, oldest first; all of them, while the hub keeps the latest.
    pub attempts: Vec<Attempt>,
    /// What each of them counts as, in the same order.
    pub tolls: Vec<Toll>,
    /// How many of the first attempts were dropped for lack of room.
    pub forgotten: usize,
    /// How many of the first attempts were before it was requeued last, and count no more.
    pub counted_from: usize,
    /// When its clocks began: when it was submitted, or requeued last.
    pub clock_from: Timestamp,
    /// Whether it was requeued.
    pub is_requeued: bool,
    /// What the rules of its kind were when it was submitted.
    pub priority: Priority,
    /// As above.
    pub lease_duration_ms: Option<Millis>,
    /// Why no attempt followed.
    pub reason: Option<EndReason>,
    /// The node whose lease still counts although the job is final, and when it ends.
    pub held: Option<(NodeIndex, Timestamp)>,
    /// What its node said about its work.
    pub report: Option<(Option<u8>, Option<Name>)>,
    /// The key that it had, of a dead letter.
    pub dead_key: Option<Name>,
    /// How many leases in a row newer jobs of its key took from older ones.
    pub revocations: u32,
    /// The older job of its key whose run it waits for.
    pub after: Option<JobSeq>,
    /// Whether it got a credit of the retry budget, and becomes ready at this instant.
    pub is_released: bool,
    /// Its turn; 0 if it has none.
    pub turn: u64,
    /// How many levels it has aged.
    pub aged: usize,
}

/// What the end of an attempt counts as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Toll {
    /// An attempt; also that of one that runs.
    Charge,
    /// A lost lease.
    Loss,
    /// A lease that was given or taken back.
    Return,
}

impl ModelJob {
    pub(super) fn new(
        seq: JobSeq,
        (now, calendar_now): (Timestamp, Utc),
        limits: &Limits,
        rules: &KindRules,
        submit: &Submit,
        place: Option<JobSeq>,
    ) -> Self {
        let not_before = now + submit.delay_ms;
        let state = if submit.run_at > calendar_now && not_before != Timestamp::NEVER {
            State::Dated { run_at: submit.run_at }
        } else if not_before > now {
            State::Scheduled { due_at: not_before }
        } else {
            State::Queued { since: now }
        };
        ModelJob {
            seq,
            asked: submit.clone(),
            expires_at: submit.ttl_ms.or(rules.ttl_ms).map_or(Timestamp::NEVER, |ttl| now + ttl),
            retry_until: submit.retry_budget_ms.map_or(Timestamp::NEVER, |budget| now + budget),
            attempts_max: submit
                .attempts_max
                .or(rules.attempts_max)
                .unwrap_or(limits.attempts_max)
                .clamp(1, ATTEMPTS_MAX),
            place,
            is_keyed: submit.idempotency.is_some(),
            ended_under_lease: false,
            state,
            withheld_from: None,
            not_before,
            attempts: Vec::new(),
            tolls: Vec::new(),
            forgotten: 0,
            counted_from: 0,
            clock_from: now,
            is_requeued: false,
            priority: submit.priority.or(rules.priority).unwrap_or_default(),
            lease_duration_ms: submit.lease_duration_ms.or(rules.lease_duration_ms),
            reason: None,
            held: None,
            report: None,
            dead_key: None,
            revocations: 0,
            after: None,
            is_released: false,
            turn: 0,
            aged: 0,
        }
    }

    /// Its place in the order of leasing; the smaller is leased first.
    pub(super) fn order(&self) -> (usize, u64, JobSeq) {
        (self.level(), self.turn, self.place.unwrap_or(self.seq))
    }

    /// Whether it waits for an instant or a node.
    pub fn is_waiting(&self) -> bool {
        matches!(
            self.state,
            State::Dated { .. } | State::Scheduled { .. } | State::Postponed { .. } | State::Queued { .. }
        )
    }

    /// Whether it is a dead letter.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, State::Final { status: FinalStatus::Dead, .. })
    }

    /// Its place in the order of ending.
    pub fn final_number(&self) -> Option<u64> {
        match self.state {
            State::Final { number, .. } => Some(number),
            _ => None,
        }
    }

    /// The node on whose lease limits it counts, and until when: it is leased, or its lease is held.
    pub fn counts_at(&self) -> Option<(NodeIndex, Timestamp)> {
        match self.state {
            State::Leased { node, until } => Some((node, until)),
            _ => self.held,
        }
    }

    /// The node of the lease on which it counts.
    pub fn holder(&self) -> Option<&Name> {
        let latest = self.attempts.last()?;
        self.counts_at().map(|_| &latest.node)
    }

    /// Begins an attempt.
    pub(super) fn begin_attempt(&mut self, node: &Name, started_at: Timestamp) {
        self.attempts.push(Attempt { node: node.clone(), started_at, end: AttemptEnd::Running });
        self.tolls.push(Toll::Charge);
        (self.withheld_from, self.report) = (None, None);
    }

    /// How many of its leases since its clocks began count as this.
    pub fn count(&self, toll: Toll) -> u32 {
        self.tolls[self.counted_from..].iter().filter(|one| **one == toll).count() as u32
    }

    /// Whether it ended.
    pub fn is_final(&self) -> bool {
        matches!(self.state, State::Final { .. })
    }

    /// Its latest lease; of generation 0 before the first.
    pub fn last_lease(&self) -> LeaseRef {
        LeaseRef { job: self.seq, generation: self.attempts.len() as u32 }
    }

    /// What decides which nodes may run it.
    pub(super) fn class(&self) -> ClassKey {
        class_of(&self.asked)
    }

    /// The node whose attempt failed or was lost last.
    pub(super) fn failed_at(&self) -> Option<&Name> {
        let latest = self.attempts.last()?;
        let is_bad_sign = matches!(
            latest.end,
            AttemptEnd::Failed { .. }
                | AttemptEnd::Expired { .. }
                | AttemptEnd::Revoked { why: Revocation::MaxRun | Revocation::NodeDead, .. }
        );
        is_bad_sign.then_some(&latest.node)
    }

    pub(super) fn may_run_on(&self, node: Option<&ModelNode>) -> bool {
        let ClassKey { zone, requires } = self.class();
        let has = |name| node.is_some_and(|node| node.capabilities.contains(name));
        zone == node.map_or(Zone::DEFAULT, |node| node.zone.clone()) && requires.iter().all(has)
    }

    /// The attempts that are still kept: the latest, and before it up to one less than the limit, without those that
    /// were dropped for lack of room.
    pub fn kept_attempts(&self) -> &[Attempt] {
        let is_latest_apart = !self.is_waiting() && !self.ended_while_it_waited();
        let kept = if is_latest_apart { ATTEMPTS_KEPT_MAX } else { ATTEMPTS_KEPT_MAX - 1 };
        &self.attempts[self.attempts.len().saturating_sub(kept).max(self.forgotten)..]
    }

    /// The bytes that it is charged.
    pub fn bytes(&self) -> u64 {
        let payload =
            |payload: &Option<Payload>| payload.as_ref().map_or(0, |text| HEAP_HEADER_BYTES + text.len() as u64);
        let has_terms = self.expires_at != Timestamp::NEVER
            || self.retry_until != Timestamp::NEVER
            || self.lease_duration_ms.is_some()
            || self.place.is_some()
            || self.is_keyed
            || self.asked.client.is_some()
            || self.has_rare_terms();
        let client = |name: &Name| CLIENT_BYTES + HEAP_HEADER_BYTES + name.len() as u64;
        let mut bytes = JOB_BYTES + payload(&self.asked.params) + if has_terms { TERMS_BYTES } else { 0 };
        bytes += self.asked.client.as_ref().map_or(0, client);
        bytes += if self.has_rare_terms() { RARE_TERMS_BYTES } else { 0 };
        let text = |name: &Name| HEAP_HEADER_BYTES + name.len() as u64;
        bytes += self.report.as_ref().map_or(0, |(_, note)| REPORT_BYTES + note.as_ref().map_or(0, text));
        let is_latest_apart = !self.is_waiting() && !self.ended_while_it_waited();
        let kept = self.kept_attempts();
        let (earlier, latest) = kept.split_at(kept.len() - usize::from(is_latest_apart));
        for attempt in earlier {
            bytes += ATTEMPT_BYTES + HEAP_HEADER_BYTES + attempt.node.len() as u64;
            if let AttemptEnd::Failed { error, .. } = &attempt.end {
                bytes += payload(error);
            }
        }
        if !self.is_waiting() {
            bytes += RUN_BYTES + latest.first().map_or(0, |attempt| HEAP_HEADER_BYTES + attempt.node.len() as u64);
        }
        if let State::Final { result, error, integrity, .. } = &self.state {
            bytes += payload(result) + payload(error) + if integrity.is_some() { INTEGRITY_BYTES } else { 0 };
        }
        bytes
    }

    fn has_rare_terms(&self) -> bool {
        self.asked.max_run_ms.is_some() || self.is_requeued || self.dead_key.is_some() || self.turn > 0
    }

    /// Whether it expired or was superseded while it waited, without a lease.
    fn ended_while_it_waited(&self) -> bool {
        self.is_final() && !self.ended_under_lease
    }

    /// What becomes of a result: it is accepted, repeats that of an attempt, tells the node that its lease is lost, or is
    /// refused.
    pub(super) fn judge(&self, complete: &Complete) -> Result<Judged<'_>, Refusal> {
        let other = match self.state {
            State::Final { status, .. } => Refusal::AlreadyFinal { status },
            _ => Refusal::LeaseLost,
        };
        let taken = |attempt: &Attempt| match attempt.end {
            AttemptEnd::Completed { mark, .. } | AttemptEnd::Failed { mark, .. } => Some(mark),
            _ => None,
        };
        // An id that was used before is not enough, unless an earlier build accepted that result.
        let is_repeat_of = |accepted| match (accepted, complete.mark) {
            (ResultMark::Id(accepted), ResultMark::IdAndContent { id, .. }) => accepted as u32 == id,
            (accepted, mark) => accepted == mark,
        };
        if let Some(lease) = complete.lease {
            let is_one_of_its = lease.job == self.seq && (1..=self.last_lease().generation).contains(&lease.generation);
            let forgotten = (self.attempts.len() - self.kept_attempts().len()) as u32;
            if !is_one_of_its || lease.generation <= forgotten {
                return Err(Refusal::LeaseLost);
            }
            let attempt = &self.attempts[lease.generation as usize - 1];
            if complete.node.as_ref().is_some_and(|node| *node != attempt.node) {
                return Err(Refusal::LeaseLost);
            }
            return match (&attempt.end, taken(attempt)) {
                (AttemptEnd::Running, _) => Ok(Judged::First),
                _ if lease == self.last_lease() && self.held.is_some() => Ok(Judged::Held),
                (_, Some(mark)) if is_repeat_of(mark) => Ok(Judged::Repeat(attempt)),
                // Another result than the accepted one.
                (_, Some(_)) if lease == self.last_lease() => Err(other),
                _ => Err(Refusal::LeaseLost),
            };
        }
        let is_its_node = |attempt: &Attempt| complete.node.as_ref().is_none_or(|node| *node == attempt.node);
        let is_repeat = |attempt: &&Attempt| is_its_node(attempt) && taken(attempt).is_some_and(is_repeat_of);
        if matches!(complete.mark, ResultMark::Id(_) | ResultMark::IdAndContent { .. })
            && let Some(repeated) = self.kept_attempts().iter().find(is_repeat)
        {
            return Ok(Judged::Repeat(repeated));
        }
        let is_cancelled = matches!(self.state, State::Final { status: FinalStatus::Cancelled, .. });
        match self.kept_attempts().last() {
            Some(attempt) if is_its_node(attempt) && attempt.end == AttemptEnd::Running => Ok(Judged::First),
            Some(attempt) if is_its_node(attempt) && self.held.is_some() => Ok(Judged::Held),
            _ if is_cancelled => Err(Refusal::LeaseLost),
            Some(attempt) if is_repeat(&attempt) => Ok(Judged::Repeat(attempt)),
            _ if self.is_waiting() => Ok(Judged::First),
            Some(_) => Err(other),
            None => Err(Refusal::LeaseLost),
        }
    }

    /// The answer to the result that ended this attempt.
    pub(super) fn answer_of(&self, attempt: &Attempt) -> CompletedStatus {
        match (&attempt.end, &self.state) {
            (AttemptEnd::Failed { retry_at, .. }, _) if *retry_at != Timestamp::NEVER => {
                CompletedStatus::RetryScheduled(*retry_at)
            }
            // It made the job a dead letter, which began anew since.
            (AttemptEnd::Failed { .. }, _)
                if !self.is_final() || self.ended_while_it_waited() || self.attempts.last() != Some(attempt) =>
            {
                CompletedStatus::Final(FinalStatus::Dead)
            }
            (_, State::Final { status, .. }) => CompletedStatus::Final(*status),
            _ => panic!("a result without a retry ended its job"),
        }
    }
}

/// What becomes of a result.
pub(super) enum Judged<'a> {
    /// It is accepted.
    First,
    /// It repeats that of this attempt.
    Repeat(&'a Attempt),
    /// Its job has ended, and its lease counts no more from now on.
    Held,
}

pub(super) fn class_of(submit: &Submit) -> ClassKey {
    ClassKey { zone: submit.zone.clone(), requires: submit.requires.clone() }
}

/// For how long a retry after that attempt is reserved: 5 s, then twice as long each time, at most a minute.
pub(super) fn reservation(attempt: u32) -> Millis {
    match attempt {
        0 | 1 => Millis::from_secs(5),
        2 => Millis::from_secs(10),
        3 => Millis::from_secs(20),
        4 => Millis::from_secs(40),
        _ => Millis::from_secs(60),
    }
}

/// `d = min(cap, base * 2^(count - 1))`: its larger half, and of the other half a part that the hub's key, the job
/// and the attempt choose.
pub(super) fn retry_delay(key: &HubKey, (base, cap): (Millis, Millis), lease: LeaseRef, count: u32) -> Millis {
    let mut full = base.get();
    for _ in 1..count {
        full = full.saturating_mul(2);
    }
    let full = full.min(cap.get());
    let half = full / 2;
    Millis::new(full - half + part_of(key, lease, half + 1))
}

/// What a node asked for, up to the limit, and up to a tenth more.
pub(super) fn named_delay(key: &HubKey, named: Millis, cap: Millis, lease: LeaseRef) -> Millis {
    let named = named.min(cap).get();
    Millis::new(named.saturating_add(part_of(key, lease, named / 10 + 1)))
}

/// How long a job waits after it was given back so often: not at all at first, then 1 s, then twice as long each time.
pub(super) fn release_delay(returns: u32, cap: Millis) -> Millis {
    if returns <= 1 {
        return Millis::ZERO;
    }
    let mut full = 1_000_u64;
    for _ in 2..returns {
        full = full.saturating_mul(2);
    }
    Millis::new(full.min(cap.get().max(1_000)))
}

/// A number below `bound` that the hub's key, the job and the attempt choose.
fn part_of(key: &HubKey, lease: LeaseRef, bound: u64) -> u64 {
    let mut hasher = SipHasher24::new_with_key(key.as_bytes());
    hasher.write(&[4]);
    hasher.write(&lease.job.get().to_le_bytes());
    hasher.write(&lease.generation.to_le_bytes());
    let part = hasher.finish128().as_u128() & u128::from(u64::MAX);
    ((part * u128::from(bound)) >> 64) as u64
}
