//! Submits: new jobs, and repeats that a key is known by.

use super::Hub;
use crate::command::{Idempotency, Submit};
use crate::dedup::{Binding, KeyPlace, RepeatAnswer};
use crate::effect::Audit;
use crate::ids::JobSeq;
use crate::outcome::{LeftOut, Refusal, Submitted};
use crate::queue::job::State;
use crate::queue::successor::Taken;
use crate::rules::{self, KnownKey};
use crate::time::Timestamp;

impl Hub {
    pub(super) fn submit(&mut self, submit: Box<Submit>) -> Result<Submitted, Refusal> {
        if let Some(denial) = self.denial_of_submit(&submit) {
            return Err(Refusal::PolicyDenied(denial));
        }
        match submit.idempotency.clone() {
            Some(idempotency) => self.submit_with_key(submit, idempotency),
            None => {
                let admitted = self.queue.admit(&self.limits, &self.ledger, &submit, None)?;
                let job = self.with_queue(|queue, cx| queue.submit(cx, submit, admitted, Taken::default()));
                Ok(Submitted::Accepted { job, supersedes: None, replaces: None })
            }
        }
    }

    /// A known key is answered before the limits are looked at, and a refused submit binds no key.
    fn submit_with_key(&mut self, submit: Box<Submit>, idempotency: Idempotency) -> Result<Submitted, Refusal> {
        let key = self.key().idempotency_key(&idempotency.key);
        let Some((place, entry)) = self.dedup.get(key) else {
            self.dedup.admit(self.now, &self.limits)?;
            let admitted = self.queue.admit(&self.limits, &self.ledger, &submit, None)?;
            let job = self.with_queue(|queue, cx| queue.submit(cx, submit, admitted, Taken::default()));
            let binding = Binding::new(&idempotency, job);
            let stores = (&mut self.timers, &mut self.ledger);
            let place = self.dedup.bind((self.now, &self.limits), stores, key, binding);
            self.queue.set_key(job, place);
            return Ok(Submitted::Accepted { job, supersedes: None, replaces: None });
        };
        let (old, ended) = (entry.job, entry.ended());
        let is_same = entry.has_payload(&idempotency.payload_hash);
        match rules::known_key(is_same, ended, idempotency.on_duplicate, idempotency.on_failed) {
            KnownKey::Collision => {
                let old_hash_prefix = entry.hash_prefix();
                self.audit(Audit::IdempotencyKeyCollision {
                    key: idempotency.key,
                    old_hash_prefix,
                    new_hash_prefix: *idempotency.payload_hash.first_chunk().expect("a hash has 32 bytes"),
                });
                Err(Refusal::KeyCollision { job: old, old_hash_prefix })
            }
            KnownKey::Repeats => {
                let answer = entry.answer();
                let ended = answer.as_ref().map(|answer| answer.status);
                self.audit(Audit::IdempotencyHit { job: old, key: idempotency.key, ended });
                Ok(match answer {
                    None => Submitted::InProgress { job: old },
                    Some(answer) => {
                        let RepeatAnswer { status, result, error, integrity, lacks_since } = answer;
                        let left_out = match (self.queue.get(old).map(|job| job.state()), lacks_since) {
                            (Some(State::Final { result: whole, error: reason, .. }), _) => {
                                // Earlier versions did not record what an answer lacks.
                                let lacks = |of_job: bool, of_answer: bool| of_job && !of_answer;
                                let is_part = lacks(whole.is_some(), result.is_some())
                                    || lacks(reason.is_some(), error.is_some());
                                is_part.then_some(LeftOut::InJob)
                            }
                            (_, Some(gone_at)) => {
                                Some(LeftOut::Gone(Some(gone_at).filter(|at| *at != Timestamp::NEVER)))
                            }
                            (_, None) => None,
                        };
                        Submitted::Final { job: old, status, result, error, integrity, left_out }
                    }
                })
            }
            KnownKey::Supersedes => {
                // The superseded job frees the room that the new one needs.
                let is_bounded = self.queue.must_finish(self.rules, old);
                let leaving = Some(old).filter(|_| !is_bounded);
                let admitted = self.queue.admit(&self.limits, &self.ledger, &submit, leaving)?;
                let job = self.with_queue(|queue, cx| {
                    if is_bounded {
                        return queue.submit_after(cx, submit, admitted, old);
                    }
                    let taken = queue.supersede(cx, old);
                    queue.submit(cx, submit, admitted, taken)
                });
                self.bind_again(place, &idempotency, job);
                Ok(Submitted::Accepted { job, supersedes: leaving, replaces: None })
            }
            KnownKey::Replaces => {
                let admitted = self.queue.admit(&self.limits, &self.ledger, &submit, None)?;
                let job = self.with_queue(|queue, cx| queue.submit(cx, submit, admitted, Taken::default()));
                self.bind_again(place, &idempotency, job);
                Ok(Submitted::Accepted { job, supersedes: None, replaces: Some(old) })
            }
        }
    }

    fn bind_again(&mut self, place: KeyPlace, idempotency: &Idempotency, job: JobSeq) {
        let stores = (&mut self.timers, &mut self.ledger);
        let place = self.dedup.bind_again((self.now, &self.limits), stores, place, Binding::new(idempotency, job));
        self.queue.set_key(job, place);
    }
}

impl Binding {
    fn new(idempotency: &Idempotency, job: JobSeq) -> Binding {
        Binding { payload_hash: idempotency.payload_hash, job, ttl_ms: idempotency.ttl_ms }
    }
}
