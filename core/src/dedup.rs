//! Idempotency keys: which job a repeated submit is one with.
//!
//! A key is held as 128 bits of a keyed hash (a client that could choose two keys with one hash would need the hub's
//! key), with the hash of its payload and its job. When the job is final the entry takes over what it will answer, so
//! the answer outlives the job's retention; the entry goes `idempotency_ttl_ms` later. An entry is about 130 bytes.

use crate::context::Context;
use crate::ids::JobSeq;
use crate::mutants::{self, Mutant};
use crate::outcome::{FinalStatus, Refusal};
use crate::payload::Payload;
use crate::time::{Millis, Timestamp};
use crate::timers::Timer;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// All keys.
#[derive(Default, Debug)]
pub struct Dedup {
    entries: BTreeMap<u128, Entry>,
    /// Keys of final jobs by the instant they go: who makes room first.
    spent: BTreeSet<(Timestamp, u128)>,
}

/// What is known of a key.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub payload_hash: [u8; 32],
    pub job: JobSeq,
    pub answer: Option<Answer>,
}

/// What a repeat of a finished job's submit is told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub status: FinalStatus,
    pub result: Payload,
    pub error: Payload,
    pub expires_at: Timestamp,
}

impl Dedup {
    /// How many keys are held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn get(&self, key: u128) -> Option<&Entry> {
        self.entries.get(&key)
    }

    /// Whether there is room for one more key, or one of a final job that can make some.
    pub(crate) fn admit(&self, keys_max: u64) -> Result<(), Refusal> {
        let is_full = self.entries.len() as u64 >= keys_max && self.spent.is_empty();
        if is_full { Err(Refusal::KeysFull { keys_max }) } else { Ok(()) }
    }

    /// The key stands for this job from now on.
    pub(crate) fn bind(&mut self, cx: &mut Context, key: u128, payload_hash: [u8; 32], job: JobSeq) {
        self.forget(cx, key);
        while self.entries.len() as u64 >= cx.limits.idempotency_keys_max
            && let Some((_, oldest)) = self.first_to_go()
        {
            self.forget(cx, oldest);
        }
        self.entries.insert(key, Entry { payload_hash, job, answer: None });
    }

    /// The key's job is final.
    pub(crate) fn settle(
        &mut self,
        cx: &mut Context,
        key: u128,
        job: JobSeq,
        status: FinalStatus,
        result: &Payload,
        error: &Payload,
    ) {
        // A superseded job's key belongs to the job that took its place.
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.job == job) else { return };
        let mut expires_at = cx.now + cx.limits.idempotency_ttl_ms;
        if mutants::is_active(Mutant::KeyExpiresEarly) {
            expires_at = (expires_at - Millis::new(1)).max(cx.now);
        }
        let fits = |payload: &Payload| payload.len() as u64 <= cx.limits.idempotency_cached_bytes_max;
        let kept = |payload: &Payload| if fits(payload) { payload.clone() } else { Payload::ABSENT };
        entry.answer = Some(Answer { status, result: kept(result), error: kept(error), expires_at });
        self.spent.insert((expires_at, key));
        cx.timers.set(expires_at, Timer::KeyExpires(key));
    }

    /// The key's timer fired.
    pub(crate) fn expire(&mut self, now: Timestamp, key: u128) {
        let entry = self.entries.remove(&key).expect("a key with a timer is held");
        let expires_at = entry.answer.expect("only a settled key has a timer").expires_at;
        assert!(expires_at <= now, "a key is not forgotten early");
        self.spent.remove(&(expires_at, key));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u128, &Entry)> {
        self.entries.iter().map(|(key, entry)| (*key, entry))
    }

    pub(crate) fn restore(&mut self, cx: &mut Context, key: u128, entry: Entry) {
        if let Some(answer) = &entry.answer {
            self.spent.insert((answer.expires_at, key));
            cx.timers.set(answer.expires_at, Timer::KeyExpires(key));
        }
        self.entries.insert(key, entry);
    }

    /// The spent key that makes room for a new one.
    fn first_to_go(&self) -> Option<(Timestamp, u128)> {
        if mutants::is_active(Mutant::NewestKeyEvicted) {
            return self.spent.last().copied();
        }
        self.spent.first().copied()
    }

    fn forget(&mut self, cx: &mut Context, key: u128) {
        if let Some(answer) = self.entries.remove(&key).and_then(|entry| entry.answer) {
            self.spent.remove(&(answer.expires_at, key));
            cx.timers.cancel(answer.expires_at, Timer::KeyExpires(key));
        }
    }
}
