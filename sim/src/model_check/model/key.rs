//! Idempotency keys in the model: a row each.

use super::Sent;
use sheratan_core::integrity::stored::ResultIntegrity;
use sheratan_core::limits::{ANSWER_BYTES, HEAP_HEADER_BYTES, INTEGRITY_BYTES, KEY_BYTES, Limits};
use sheratan_core::{FinalStatus, Idempotency, JobSeq, Millis, Name, Payload, Timestamp};

#[derive(Default, Debug)]
pub(super) struct ModelKeys {
    rows: Vec<ModelKey>,
    /// How many keys were spent so far.
    spent_count: u64,
}

#[derive(Debug)]
pub(super) struct ModelKey {
    name: Name,
    pub payload_hash: [u8; 32],
    pub job: JobSeq,
    ttl_ms: Option<Millis>,
    pub answer: Option<ModelAnswer>,
}

/// The answer to a repeat of a final job's submit.
#[derive(Debug)]
pub(super) struct ModelAnswer {
    pub status: FinalStatus,
    pub result: Option<Payload>,
    pub error: Option<Payload>,
    pub integrity: Option<ResultIntegrity>,
    /// Whether it has all that the job ended with.
    pub is_whole: bool,
    /// When what it lacks was dropped, if the job is not held.
    pub gone_at: Option<Timestamp>,
    spent_at: Timestamp,
    /// Its index in the order in which keys were spent.
    number: u64,
}

impl ModelKeys {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn get(&self, name: &Name) -> Option<&ModelKey> {
        self.rows.iter().find(|row| row.name == *name)
    }

    /// Whether one more key may be bound: there is room, or the oldest spent key is old enough to be evicted.
    pub fn has_room(&self, now: Timestamp, limits: &Limits) -> bool {
        (self.rows.len() as u64) < limits.idempotency_keys_max || self.next_evicted(now, limits).is_some()
    }

    /// Binds a key to a job. Evicts two old keys at most.
    pub fn bind(&mut self, now: Timestamp, limits: &Limits, idempotency: &Idempotency, job: JobSeq) {
        let is_new = self.get(&idempotency.key).is_none();
        self.rows.retain(|row| row.name != idempotency.key);
        for _ in 0..2 {
            if is_new
                && self.rows.len() as u64 >= limits.idempotency_keys_max
                && let Some(oldest) = self.next_evicted(now, limits)
            {
                self.rows.remove(oldest);
            }
        }
        let Idempotency { key, payload_hash, ttl_ms, .. } = idempotency.clone();
        self.rows.push(ModelKey { name: key, payload_hash, job, ttl_ms, answer: None });
        self.drop_answers(now, limits);
    }

    /// Spends the key that is bound to a job which has ended, if any: it answers with the job's end.
    pub fn spend(&mut self, now: Timestamp, limits: &Limits, job: JobSeq, status: FinalStatus, sent: &Sent) {
        let fits = |payload: &Payload| payload.len() as u64 <= limits.idempotency_cached_bytes_max;
        let kept = |payload: &Option<Payload>| payload.clone().filter(fits);
        let (result, error, number) = (kept(&sent.result), kept(&sent.error), self.spent_count);
        let is_nothing = result.is_none() && error.is_none();
        // A checksum of what is not kept proves nothing.
        let is_part = (&result, &error) != (&sent.result, &sent.error);
        let integrity = sent.integrity.filter(|_| !is_nothing && !is_part);
        for row in self.rows.iter_mut().filter(|row| row.job == job && row.answer.is_none()) {
            self.spent_count += 1;
            let (result, error) = (result.clone(), error.clone());
            let (is_whole, gone_at) = (!is_part, None);
            row.answer =
                Some(ModelAnswer { status, result, error, integrity, is_whole, gone_at, spent_at: now, number });
        }
        self.drop_answers(now, limits);
    }

    /// A job was dropped: what the answer of its key lacks is gone.
    pub fn note_dropped(&mut self, now: Timestamp, job: JobSeq) {
        let answers = self.rows.iter_mut().filter(|row| row.job == job).filter_map(|row| row.answer.as_mut());
        answers.filter(|answer| !answer.is_whole).for_each(|answer| answer.gone_at = Some(now));
    }

    /// Drops the oldest answers while all of them exceed the limit; their keys stay.
    pub fn drop_answers(&mut self, now: Timestamp, limits: &Limits) {
        while self.bytes() > limits.answers_bytes_max {
            let answers = self.rows.iter_mut().filter_map(|row| row.answer.as_mut());
            let with_payload = answers.filter(|answer| answer.result.is_some() || answer.error.is_some());
            let Some(oldest) = with_payload.min_by_key(|answer| answer.number) else { return };
            (oldest.result, oldest.error, oldest.integrity) = (None, None, None);
            (oldest.is_whole, oldest.gone_at) = (false, Some(now));
        }
    }

    /// The bytes that keys and answers are charged.
    pub fn bytes(&self) -> u64 {
        let payload =
            |payload: &Option<Payload>| payload.as_ref().map_or(0, |text| HEAP_HEADER_BYTES + text.len() as u64);
        let answer = |answer: &ModelAnswer| match (&answer.result, &answer.error) {
            (None, None) => 0,
            (result, error) => {
                let integrity = if answer.integrity.is_some() { INTEGRITY_BYTES } else { 0 };
                ANSWER_BYTES + payload(result) + payload(error) + integrity
            }
        };
        self.rows.iter().map(|row| KEY_BYTES + row.answer.as_ref().map_or(0, answer)).sum()
    }

    /// When each spent key expires, with its job, and whether it has a time to live of its own.
    pub fn expiries(&self, limits: &Limits) -> impl Iterator<Item = (Timestamp, JobSeq, bool)> {
        let hubs = limits.idempotency_ttl_ms;
        self.rows.iter().filter_map(move |row| {
            let answer = row.answer.as_ref()?;
            // The longest time is none.
            let own = row.ttl_ms.filter(|own| *own != Millis::MAX);
            Some((answer.spent_at + own.map_or(hubs, |own| own.min(hubs)), row.job, own.is_some()))
        })
    }

    /// The key that is bound to a job, and not spent.
    pub fn bound_to(&self, job: JobSeq) -> Option<&Name> {
        self.rows.iter().find(|row| row.job == job && row.answer.is_none()).map(|row| &row.name)
    }

    /// The job of a spent key is not final any more.
    pub fn unspend(&mut self, name: &Name) {
        self.rows.iter_mut().filter(|row| row.name == *name).for_each(|row| row.answer = None);
    }

    pub fn remove(&mut self, job: JobSeq) {
        self.rows.retain(|row| row.job != job);
    }

    fn next_evicted(&self, now: Timestamp, limits: &Limits) -> Option<usize> {
        let spent = self.rows.iter().enumerate().filter_map(|(at, row)| Some((row.answer.as_ref()?, at)));
        let (oldest, at) = spent.min_by_key(|(answer, _)| answer.number)?;
        (oldest.spent_at + limits.idempotency_floor_ms <= now).then_some(at)
    }
}
