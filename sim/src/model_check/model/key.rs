//! Idempotency keys in the model: a row each.

use sheratan_core::limits::{ANSWER_BYTES, HEAP_HEADER_BYTES, KEY_BYTES, Limits};
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

/// What a repeat of a final job's submit is answered.
#[derive(Debug)]
pub(super) struct ModelAnswer {
    pub status: FinalStatus,
    pub result: Option<Payload>,
    pub error: Option<Payload>,
    spent_at: Timestamp,
    /// Its place in the order in which keys were spent.
    number: u64,
}

impl ModelKeys {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn get(&self, name: &Name) -> Option<&ModelKey> {
        self.rows.iter().find(|row| row.name == *name)
    }

    /// Whether one more may come: there is room, or the oldest spent key is old enough to make some.
    pub fn has_room(&self, now: Timestamp, limits: &Limits) -> bool {
        (self.rows.len() as u64) < limits.idempotency_keys_max || self.first_to_go(now, limits).is_some()
    }

    /// The key stands for that job from now on. Two old ones go at most.
    pub fn bind(&mut self, now: Timestamp, limits: &Limits, idempotency: &Idempotency, job: JobSeq) {
        let is_new = self.get(&idempotency.key).is_none();
        self.rows.retain(|row| row.name != idempotency.key);
        for _ in 0..2 {
            if is_new
                && self.rows.len() as u64 >= limits.idempotency_keys_max
                && let Some(oldest) = self.first_to_go(now, limits)
            {
                self.rows.remove(oldest);
            }
        }
        let Idempotency { key, payload_hash, ttl_ms, .. } = idempotency.clone();
        self.rows.push(ModelKey { name: key, payload_hash, job, ttl_ms, answer: None });
        self.strip(limits);
    }

    /// A job ended: if a key stands for it, its outcome is what the key answers.
    pub fn settle(
        &mut self,
        now: Timestamp,
        limits: &Limits,
        job: JobSeq,
        status: FinalStatus,
        (result, error): (&Option<Payload>, &Option<Payload>),
    ) {
        let fits = |payload: &Payload| payload.len() as u64 <= limits.idempotency_cached_bytes_max;
        let kept = |payload: &Option<Payload>| payload.clone().filter(fits);
        let number = self.spent_count;
        for row in self.rows.iter_mut().filter(|row| row.job == job && row.answer.is_none()) {
            self.spent_count += 1;
            row.answer = Some(ModelAnswer { status, result: kept(result), error: kept(error), spent_at: now, number });
        }
        self.strip(limits);
    }

    /// The oldest answers are forgotten while all of them take too much; their keys are not.
    pub fn strip(&mut self, limits: &Limits) {
        while self.bytes() > limits.answers_bytes_max {
            let answers = self.rows.iter_mut().filter_map(|row| row.answer.as_mut());
            let with_payload = answers.filter(|answer| answer.result.is_some() || answer.error.is_some());
            let Some(oldest) = with_payload.min_by_key(|answer| answer.number) else { return };
            (oldest.result, oldest.error) = (None, None);
        }
    }

    /// What keys and answers are charged.
    pub fn bytes(&self) -> u64 {
        let payload =
            |payload: &Option<Payload>| payload.as_ref().map_or(0, |text| HEAP_HEADER_BYTES + text.len() as u64);
        let answer = |answer: &ModelAnswer| match (&answer.result, &answer.error) {
            (None, None) => 0,
            (result, error) => ANSWER_BYTES + payload(result) + payload(error),
        };
        self.rows.iter().map(|row| KEY_BYTES + row.answer.as_ref().map_or(0, answer)).sum()
    }

    /// When each key of a final job is forgotten, with its job.
    pub fn forgotten_at(&self, limits: &Limits) -> impl Iterator<Item = (Timestamp, JobSeq)> {
        let hubs = limits.idempotency_ttl_ms;
        self.rows.iter().filter_map(move |row| {
            let answer = row.answer.as_ref()?;
            Some((answer.spent_at + row.ttl_ms.map_or(hubs, |own| own.min(hubs)), row.job))
        })
    }

    pub fn forget(&mut self, job: JobSeq) {
        self.rows.retain(|row| row.job != job);
    }

    fn first_to_go(&self, now: Timestamp, limits: &Limits) -> Option<usize> {
        let spent = self.rows.iter().enumerate().filter_map(|(at, row)| Some((row.answer.as_ref()?, at)));
        let (oldest, at) = spent.min_by_key(|(answer, _)| answer.number)?;
        (oldest.spent_at + limits.idempotency_floor_ms <= now).then_some(at)
    }
}
