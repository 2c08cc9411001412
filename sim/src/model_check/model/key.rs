//! Idempotency keys in the model: a row each.

use sheratan_core::limits::Limits;
use sheratan_core::{FinalStatus, HubKey, Idempotency, JobSeq, Name, Payload, Timestamp};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

#[derive(Debug)]
pub(super) struct ModelKeys {
    hub_key: HubKey,
    rows: Vec<ModelKey>,
}

#[derive(Debug)]
pub(super) struct ModelKey {
    name: Name,
    /// Decides between keys that go at the same instant, and for nothing else.
    hash: u128,
    pub payload_hash: [u8; 32],
    pub job: JobSeq,
    pub answer: Option<ModelAnswer>,
}

/// What a repeat of a final job's submit is told, until when.
#[derive(Debug)]
pub(super) struct ModelAnswer {
    pub status: FinalStatus,
    pub result: Payload,
    pub error: Payload,
    expires_at: Timestamp,
}

impl ModelKeys {
    pub fn new(hub_key: HubKey) -> Self {
        ModelKeys { hub_key, rows: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn get(&self, name: &Name) -> Option<&ModelKey> {
        self.rows.iter().find(|row| row.name == *name)
    }

    /// Whether one more may come: there is room, or a key of a final job that can make some.
    pub fn has_room(&self, keys_max: u64) -> bool {
        (self.rows.len() as u64) < keys_max || self.rows.iter().any(|row| row.answer.is_some())
    }

    /// The key stands for that job from now on.
    pub fn bind(&mut self, idempotency: &Idempotency, job: JobSeq, keys_max: u64) {
        self.rows.retain(|row| row.name != idempotency.key);
        while self.rows.len() as u64 >= keys_max
            && let Some((_, oldest)) = self.forgotten_at().min()
        {
            self.forget(oldest);
        }
        let mut hasher = SipHasher24::new_with_key(self.hub_key.as_bytes());
        hasher.write(&[5]);
        hasher.write(idempotency.key.as_bytes());
        let hash = hasher.finish128().as_u128();
        let (name, payload_hash) = (idempotency.key.clone(), idempotency.payload_hash);
        self.rows.push(ModelKey { name, hash, payload_hash, job, answer: None });
    }

    /// A job ended: if a key stands for it, its outcome is what the key answers.
    pub fn settle(
        &mut self,
        now: Timestamp,
        limits: &Limits,
        job: JobSeq,
        status: FinalStatus,
        result: &Payload,
        error: &Payload,
    ) {
        let kept = |payload: &Payload| {
            let is_small = payload.len() as u64 <= limits.idempotency_cached_bytes_max;
            if is_small { payload.clone() } else { Payload::ABSENT }
        };
        for row in self.rows.iter_mut().filter(|row| row.job == job) {
            let expires_at = now + limits.idempotency_ttl_ms;
            row.answer = Some(ModelAnswer { status, result: kept(result), error: kept(error), expires_at });
        }
    }

    /// When each key of a final job is forgotten.
    pub fn forgotten_at(&self) -> impl Iterator<Item = (Timestamp, u128)> {
        self.rows.iter().filter_map(|row| row.answer.as_ref().map(|answer| (answer.expires_at, row.hash)))
    }

    pub fn forget(&mut self, hash: u128) {
        self.rows.retain(|row| row.hash != hash);
    }
}
