//! Idempotency keys: which job a repeated submit refers to.
//!
//! A key is held as 128 bits of a keyed hash (a client that could choose two keys with one hash would need the hub's
//! key), with the start of its payload's hash and its job. When the job is final the key is spent: it takes over what it
//! will answer, so the answer outlives the job's retention.
//!
//! Entries are in a slab; a hash table finds them by the hash that is there already, in one step and at most one cache
//! miss. Its order is that of the hashes, which are keyed, and shows nowhere: what is written or evicted goes by number
//! or by age. Spent keys are kept in the order in which they were spent, which is also the order in which they expire;
//! only a key with a shorter time of its own has a timer. A key takes about 100 bytes, an answer 32 and its payloads.

mod slab;

use crate::encoding::{members, numbered};
use crate::ids::JobSeq;
use crate::ledger::{Account, Ledger};
use crate::limits::{ANSWER_BYTES, KEY_BYTES, Limits};
use crate::outcome::{FinalStatus, Refusal};
use crate::payload::Payload;
use crate::rules;
use crate::time::{Millis, Timestamp};
use crate::timers::Timers;
use hashbrown::HashTable;
use std::collections::VecDeque;

pub(crate) use slab::KeyPlace;
use slab::Slab;

/// Keys for which the tables keep their room when they have few.
const KEYS_KEPT_ROOM: usize = 1_024;

/// All keys.
#[derive(Default, Debug)]
pub struct Dedup {
    table: HashTable<KeyPlace>,
    slab: Slab,
    /// Spent keys, the first that was spent in front; some were forgotten or bound again since.
    spent: VecDeque<SpentRef>,
    /// Spent keys that are held.
    spent_count: usize,
    /// How many of `spent`, from the front, have lost their answers' payloads already.
    stripped: usize,
}

/// A spent key in the order of spending, or what was one.
#[derive(Clone, Copy, Debug)]
struct SpentRef {
    place: KeyPlace,
    version: u32,
}

/// What is known of a key.
#[derive(Debug)]
pub(crate) struct Entry {
    /// In two halves, which need not stand at a multiple of 16.
    key: [u64; 2],
    /// The first half of the payload's SHA-256: whoever makes two payloads with one deceives himself alone.
    payload_hash: [u8; 16],
    pub job: JobSeq,
    /// How long it is remembered once it is spent; [`Millis::MAX`] if it has no time of its own but the hub's.
    ttl_ms: Millis,
    spent: Option<Spent>,
}

/// When the key's job became final, and how.
#[derive(Debug)]
struct Spent {
    at: Timestamp,
    status: FinalStatus,
    /// What came of it, unless that was too large or is forgotten.
    answer: Option<Box<Answer>>,
}

#[derive(Clone, PartialEq, Debug)]
struct Answer {
    result: Option<Payload>,
    error: Option<Payload>,
}

/// What a repeat of a finished job's submit is answered.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Answered {
    pub status: FinalStatus,
    pub result: Option<Payload>,
    pub error: Option<Payload>,
}

/// A key as a snapshot holds it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct KeyRecord {
    key: u128,
    payload_hash: [u8; 16],
    job: JobSeq,
    ttl_ms: Option<Millis>,
    spent_at: Option<Timestamp>,
    status: Option<FinalStatus>,
    has_answer: bool,
    result: Option<Payload>,
    error: Option<Payload>,
}

members!(KeyRecord {
    1 key: required,
    2 payload_hash: required,
    3 job: required,
    4 ttl_ms,
    5 spent_at,
    6 status,
    7 has_answer,
    8 result,
    9 error,
});

numbered!(FinalStatus { 0 Completed, 1 Failed, 2 Dead, 3 Cancelled, 4 Expired, 5 Superseded });

impl Entry {
    /// Whether a payload is the one that the key was given with.
    pub fn has_payload(&self, payload_hash: &[u8; 32]) -> bool {
        payload_hash.starts_with(&self.payload_hash)
    }

    /// The first bytes of the payload's hash.
    pub fn hash_prefix(&self) -> [u8; 4] {
        *self.payload_hash.first_chunk().expect("it has sixteen bytes")
    }

    /// How the key's job ended, if it did.
    pub fn ended(&self) -> Option<FinalStatus> {
        self.spent.as_ref().map(|spent| spent.status)
    }

    /// What a repeat is answered, if the key's job ended.
    pub fn answered(&self) -> Option<Answered> {
        let spent = self.spent.as_ref()?;
        let (result, error) = match spent.answer.as_deref() {
            Some(Answer { result, error }) => (result.clone(), error.clone()),
            None => (None, None),
        };
        Some(Answered { status: spent.status, result, error })
    }

    fn bytes(&self) -> u64 {
        let answer = self.spent.as_ref().and_then(|spent| spent.answer.as_deref());
        KEY_BYTES + answer.map_or(0, Answer::bytes)
    }

    fn has_own_time(&self) -> bool {
        self.ttl_ms != Millis::MAX
    }

    /// When it is forgotten: by its own time, if it has one, by the hub's in any case.
    fn expires_at(&self, ttl_ms: Millis) -> Option<Timestamp> {
        let spent = self.spent.as_ref()?;
        Some(rules::key_expires_at(spent.at, self.ttl_ms.min(ttl_ms)))
    }
}

impl Answer {
    fn bytes(&self) -> u64 {
        ANSWER_BYTES + Payload::bytes_of(&self.result) + Payload::bytes_of(&self.error)
    }
}

impl Dedup {
    /// How many keys are held.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many of them are spent: their jobs are final.
    pub fn spent_count(&self) -> usize {
        self.spent_count
    }

    /// What is known of a key.
    pub(crate) fn get(&self, key: u128) -> Option<(KeyPlace, &Entry)> {
        let key = halves(key);
        let place = *self.table.find(key[0], |place| self.entry(*place).key == key)?;
        Some((place, self.entry(place)))
    }

    /// Whether there is room for one more key, or a spent one that is old enough to make some.
    pub(crate) fn admit(&self, now: Timestamp, limits: &Limits) -> Result<(), Refusal> {
        let keys_max = limits.idempotency_keys_max;
        if (self.len() as u64) < keys_max || self.first_to_go(now, limits).is_some() {
            return Ok(());
        }
        Err(Refusal::KeysFull { keys: self.len() as u64, keys_max })
    }

    /// A new key, which was admitted, stands for this job from now on. Evicts at most one more key than are new, so that
    /// a limit that was lowered is reached step by step.
    pub(crate) fn bind(
        &mut self,
        (now, limits): (Timestamp, &Limits),
        (timers, ledger): (&mut Timers, &mut Ledger),
        key: u128,
        binding: Binding,
    ) -> KeyPlace {
        for _ in 0..2 {
            if (self.len() as u64) < limits.idempotency_keys_max {
                break;
            }
            let Some(oldest) = self.first_to_go(now, limits) else { break };
            self.forget(limits, timers, ledger, oldest);
        }
        let Binding { payload_hash, job, ttl_ms } = binding;
        let payload_hash = *payload_hash.first_chunk().expect("it has 32 bytes");
        let ttl_ms = ttl_ms.unwrap_or(Millis::MAX);
        let place = self.insert(ledger, Entry { key: halves(key), payload_hash, job, ttl_ms, spent: None });
        self.strip(limits, ledger);
        place
    }

    /// A key that is held stands for another job from now on.
    pub(crate) fn bind_again(
        &mut self,
        limits: &Limits,
        (timers, ledger): (&mut Timers, &mut Ledger),
        place: KeyPlace,
        binding: Binding,
    ) -> KeyPlace {
        let key = self.entry(place).key;
        self.forget(limits, timers, ledger, place);
        let Binding { payload_hash, job, ttl_ms } = binding;
        let payload_hash = *payload_hash.first_chunk().expect("it has 32 bytes");
        let ttl_ms = ttl_ms.unwrap_or(Millis::MAX);
        let place = self.insert(ledger, Entry { key, payload_hash, job, ttl_ms, spent: None });
        self.strip(limits, ledger);
        place
    }

    /// The key's job is final.
    pub(crate) fn settle(
        &mut self,
        (now, limits): (Timestamp, &Limits),
        (timers, ledger): (&mut Timers, &mut Ledger),
        place: KeyPlace,
        status: FinalStatus,
        (result, error): (Option<&Payload>, Option<&Payload>),
    ) {
        let fits = |payload: &&Payload| payload.len() as u64 <= limits.idempotency_cached_bytes_max;
        let (result, error) = (result.filter(fits).cloned(), error.filter(fits).cloned());
        let has_answer = result.is_some() || error.is_some();
        let answer = has_answer.then(|| Box::new(Answer { result, error }));
        ledger.charge(Account::Answers, answer.as_deref().map_or(0, Answer::bytes));
        let entry = self.slab.get_mut(place);
        assert!(entry.spent.is_none(), "a key is spent once");
        entry.spent = Some(Spent { at: now, status, answer });
        if entry.has_own_time() {
            let expires_at = entry.expires_at(limits.idempotency_ttl_ms).expect("it is spent");
            timers.set(expires_at, place.timer());
        }
        self.spent.push_back(SpentRef { place, version: self.slab.version(place) });
        self.spent_count += 1;
        self.strip(limits, ledger);
    }

    /// When the oldest spent key is forgotten, those with a timer of their own not counted.
    pub(crate) fn next_expiry_at(&self, limits: &Limits) -> Option<Timestamp> {
        let front = self.spent.front()?;
        let spent = self.slab.get(front.place).spent.as_ref().expect("the first spent key is spent");
        let at = rules::key_expires_at(spent.at, limits.idempotency_ttl_ms);
        (at != Timestamp::NEVER).then_some(at)
    }

    /// Forgets the oldest spent key: its time is over.
    pub(crate) fn forget_oldest(&mut self, limits: &Limits, timers: &mut Timers, ledger: &mut Ledger) {
        if let Some(front) = self.spent.front() {
            self.forget(limits, timers, ledger, front.place);
        }
    }

    /// The timer of a key with a time of its own fired.
    pub(crate) fn expire(&mut self, ledger: &mut Ledger, place: u32) {
        let place = KeyPlace::new(place as usize);
        let entry = self.remove(ledger, place);
        assert!(entry.spent.is_some() && entry.has_own_time(), "only a spent key with a time of its own has a timer");
    }

    /// Other limits hold: timers of keys follow them, and answers that are too many go. O(keys), rare.
    pub(crate) fn reconfigure(&mut self, old: &Limits, new: &Limits, timers: &mut Timers, ledger: &mut Ledger) {
        if old.idempotency_ttl_ms != new.idempotency_ttl_ms {
            for (place, entry) in self.slab.iter().filter(|(_, entry)| entry.has_own_time()) {
                let timer = place.timer();
                if let Some(at) = entry.expires_at(old.idempotency_ttl_ms) {
                    timers.cancel(at, timer);
                }
                if let Some(at) = entry.expires_at(new.idempotency_ttl_ms) {
                    timers.set(at, timer);
                }
            }
        }
        self.strip(new, ledger);
    }

    /// The keys for the snapshot: those whose jobs are not final by their jobs' numbers, then the spent ones in the order
    /// in which they were spent. O(n log n), and 8 bytes of memory for each of the former.
    pub(crate) fn records(&self) -> impl Iterator<Item = KeyRecord> {
        let entries = self.slab.iter().map(|(_, entry)| entry);
        let mut bound: Vec<_> = entries.filter(|entry| entry.spent.is_none()).collect();
        bound.sort_unstable_by_key(|entry| entry.job);
        let spent = self.spent.iter().filter(|spent| self.is_current(spent)).map(|spent| self.entry(spent.place));
        bound.into_iter().chain(spent).map(KeyRecord::of)
    }

    /// Puts back a key of a snapshot; its place if it is not spent. The error says what contradicts the records before it.
    pub(crate) fn restore(
        &mut self,
        limits: &Limits,
        (timers, ledger): (&mut Timers, &mut Ledger),
        record: KeyRecord,
    ) -> Result<(Option<KeyPlace>, JobSeq), &'static str> {
        if self.get(record.key).is_some() {
            return Err("a key is there twice");
        }
        let KeyRecord { key, payload_hash, job, ttl_ms, spent_at, status, has_answer, result, error } = record;
        let answer = has_answer.then(|| Box::new(Answer { result, error }));
        let spent = match (spent_at, status) {
            (Some(at), Some(status)) => Some(Spent { at, status, answer }),
            (None, None) => None,
            _ => return Err("a key is spent by half"),
        };
        let is_stripped = spent.as_ref().is_some_and(|spent| spent.answer.is_none());
        let is_spent = spent.is_some();
        let ttl_ms = ttl_ms.unwrap_or(Millis::MAX);
        let place = self.insert(ledger, Entry { key: halves(key), payload_hash, job, ttl_ms, spent });
        if !is_spent {
            return Ok((Some(place), job));
        }
        let entry = self.entry(place);
        if let Some(at) = entry.expires_at(limits.idempotency_ttl_ms).filter(|_| entry.has_own_time()) {
            timers.set(at, place.timer());
        }
        if is_stripped && self.stripped == self.spent.len() {
            self.stripped += 1;
        }
        self.spent.push_back(SpentRef { place, version: self.slab.version(place) });
        self.spent_count += 1;
        Ok((None, job))
    }

    /// What the keys are charged, walked.
    pub(crate) fn bytes(&self) -> u64 {
        self.slab.iter().map(|(_, entry)| entry.bytes()).sum()
    }

    /// The spent key that makes room for a new one: the oldest, if it is old enough.
    fn first_to_go(&self, now: Timestamp, limits: &Limits) -> Option<KeyPlace> {
        let place = self.spent.front()?.place;
        let spent = self.entry(place).spent.as_ref().expect("the first spent key is spent");
        rules::may_evict(spent.at, now, limits.idempotency_floor_ms).then_some(place)
    }

    fn forget(&mut self, limits: &Limits, timers: &mut Timers, ledger: &mut Ledger, place: KeyPlace) {
        let entry = self.entry(place);
        if let Some(at) = entry.expires_at(limits.idempotency_ttl_ms).filter(|_| entry.has_own_time()) {
            timers.cancel(at, place.timer());
        }
        self.remove(ledger, place);
    }

    /// The oldest answers lose their payloads until the account is within its limit.
    fn strip(&mut self, limits: &Limits, ledger: &mut Ledger) {
        while ledger.get(Account::Answers) > limits.answers_bytes_max && self.stripped < self.spent.len() {
            let spent = self.spent[self.stripped];
            self.stripped += 1;
            if self.is_current(&spent) {
                let entry = self.slab.get_mut(spent.place);
                let answer = entry.spent.as_mut().and_then(|spent| spent.answer.take());
                ledger.release(Account::Answers, answer.as_deref().map_or(0, Answer::bytes));
            }
        }
    }

    fn insert(&mut self, ledger: &mut Ledger, entry: Entry) -> KeyPlace {
        ledger.charge(Account::Answers, entry.bytes());
        let key = entry.key;
        let place = self.slab.insert(entry);
        let slab = &self.slab;
        let hash_of = |place: &KeyPlace| slab.get(*place).key[0];
        self.table.insert_unique(key[0], place, hash_of);
        place
    }

    fn remove(&mut self, ledger: &mut Ledger, place: KeyPlace) -> Entry {
        let key = self.entry(place).key;
        let found = self.table.find_entry(key[0], |other| *other == place);
        found.expect("a key that is held is in the table").remove();
        let entry = self.slab.remove(place);
        ledger.release(Account::Answers, entry.bytes());
        self.give_room_back();
        if entry.spent.is_some() {
            self.spent_count -= 1;
            self.drop_old_references();
        }
        entry
    }

    /// The first spent key is one that is held; references to others do not become more than half.
    fn drop_old_references(&mut self) {
        while self.spent.front().is_some_and(|spent| !self.is_current(spent)) {
            self.spent.pop_front();
            self.stripped = self.stripped.saturating_sub(1);
        }
        if self.spent.len() > 2 * self.spent_count + 64 {
            let (spent, mut stripped, mut index) = (std::mem::take(&mut self.spent), self.stripped, 0);
            let kept = spent.into_iter().filter(|spent| {
                let is_current = self.is_current(spent);
                stripped -= usize::from(!is_current && index < self.stripped);
                index += 1;
                is_current
            });
            let kept = kept.collect();
            (self.spent, self.stripped) = (kept, stripped);
        }
    }

    /// The room of many keys is given back when few are left. O(1) over all.
    fn give_room_back(&mut self) {
        if self.table.capacity() > KEYS_KEPT_ROOM && self.table.len() < self.table.capacity() / 8 {
            let slab = &self.slab;
            self.table.shrink_to(2 * self.table.len(), |place| slab.get(*place).key[0]);
        }
        if self.spent.capacity() > KEYS_KEPT_ROOM && self.spent.len() < self.spent.capacity() / 8 {
            self.spent.shrink_to(2 * self.spent.len());
        }
    }

    fn is_current(&self, spent: &SpentRef) -> bool {
        self.slab.version(spent.place) == spent.version
    }

    fn entry(&self, place: KeyPlace) -> &Entry {
        self.slab.get(place)
    }
}

/// What a key is bound to.
#[derive(Clone, Copy)]
pub(crate) struct Binding {
    pub payload_hash: [u8; 32],
    pub job: JobSeq,
    pub ttl_ms: Option<Millis>,
}

impl KeyRecord {
    fn of(entry: &Entry) -> KeyRecord {
        let spent = entry.spent.as_ref();
        let answer = spent.and_then(|spent| spent.answer.as_deref());
        KeyRecord {
            key: u128::from(entry.key[1]) << 64 | u128::from(entry.key[0]),
            payload_hash: entry.payload_hash,
            job: entry.job,
            ttl_ms: entry.has_own_time().then_some(entry.ttl_ms),
            spent_at: spent.map(|spent| spent.at),
            status: spent.map(|spent| spent.status),
            has_answer: answer.is_some(),
            result: answer.and_then(|answer| answer.result.clone()),
            error: answer.and_then(|answer| answer.error.clone()),
        }
    }
}

/// The key is a keyed hash already: its lower half, which is the first here, finds the bucket.
fn halves(key: u128) -> [u64; 2] {
    [key as u64, (key >> 64) as u64]
}
