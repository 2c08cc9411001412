//! Idempotency keys: which job a repeated submit refers to.
//!
//! A key is held as 128 bits of a keyed hash (a client that could choose two keys with one hash would need the hub's
//! key), with the start of its payload's hash and its job. When the job becomes final the key is spent: it stores the
//! answer to repeats, so the answer outlives the job's retention.
//!
//! Entries are stored in a slab; a hash table finds them by the hash they already have, in one step and with at most one
//! cache miss. The table's order is that of the hashes, which are keyed; nothing depends on it: keys are written by job
//! number and evicted by age. Spent keys are queued in the order in which they were spent, which is also the order in
//! which they expire; only a key with a shorter time to live of its own has a timer. A key takes about 100 bytes, an
//! answer 32 and its payloads.

mod slab;

use crate::encoding::{members, numbered};
use crate::ids::JobSeq;
use crate::integrity::stored::ResultIntegrity;
use crate::ledger::{Account, Ledger};
use crate::limits::{ANSWER_BYTES, KEY_BYTES, Limits};
use crate::outcome::{FinalStatus, Refusal};
use crate::payload::Payload;
use crate::rules;
use crate::time::{Millis, Timestamp};
use crate::timers::Timers;
use hashbrown::HashTable;
use std::collections::{BTreeMap, VecDeque};

pub(crate) use slab::KeyPlace;
use slab::Slab;

/// Capacity that the tables keep with few keys.
const CAPACITY_MIN: usize = 1_024;

/// All keys.
#[derive(Default, Debug)]
pub struct Dedup {
    table: HashTable<KeyPlace>,
    slab: Slab,
    /// References to spent keys in the order of spending; stale ones are to keys that were evicted or bound again
    /// since.
    spent: VecDeque<SpentRef>,
    /// Spent keys that are held: `spent` without the stale references.
    spent_count: usize,
    /// How many of `spent`, from the front, have had their answers dropped.
    answers_dropped: usize,
    /// The spent keys whose jobs have results or errors that their answers have not, by job.
    left_out: BTreeMap<JobSeq, KeyPlace>,
}

/// A reference to a spent key; stale once the version of its place is another one.
#[derive(Clone, Copy, Debug)]
struct SpentRef {
    place: KeyPlace,
    version: u32,
}

/// A key that is bound to a job.
#[derive(Debug)]
pub(crate) struct Entry {
    /// In two halves: an alignment of 8 instead of 16.
    key: [u64; 2],
    /// The first half of the payload's SHA-256: a client that constructs a collision harms only itself.
    payload_hash: [u8; 16],
    pub job: JobSeq,
    /// How long it is remembered once it is spent; [`Millis::MAX`] if only the hub's limit applies.
    ttl_ms: Millis,
    spent: Option<Spent>,
}

/// When the key's job became final, and how.
#[derive(Debug)]
struct Spent {
    at: Timestamp,
    status: FinalStatus,
    /// Absent if there was none, it was too large, or it was dropped.
    answer: Option<Box<Answer>>,
    /// Whether the answer has what the job ended with: nothing was too large or dropped.
    is_whole: bool,
    /// If it is not whole and the job is not held: the instant at which what it lacks was dropped.
    gone_at: Timestamp,
}

#[derive(Clone, PartialEq, Debug)]
struct Answer {
    result: Option<Payload>,
    error: Option<Payload>,
    /// Absent unless both are what the checksum is over.
    integrity: Option<Box<ResultIntegrity>>,
}

/// What a key's job ended with.
#[derive(Clone, Copy)]
pub(crate) struct Answered<'a> {
    pub result: Option<&'a Payload>,
    pub error: Option<&'a Payload>,
    pub integrity: Option<&'a ResultIntegrity>,
}

/// The answer to a repeat of a submit whose job is final.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct RepeatAnswer {
    pub status: FinalStatus,
    pub result: Option<Payload>,
    pub error: Option<Payload>,
    pub integrity: Option<ResultIntegrity>,
    /// If the answer lacks something: the instant at which that was dropped, unless the job has it. It is
    /// [`Timestamp::NEVER`] if it is not known.
    pub lacks_since: Option<Timestamp>,
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
    integrity: Option<Box<ResultIntegrity>>,
    /// Whether the answer lacks something; earlier versions did not record it.
    is_part: bool,
    gone_at: Option<Timestamp>,
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
    10 integrity,
    11 is_part,
    12 gone_at,
});

numbered!(FinalStatus { 0 Completed, 1 Failed, 2 Dead, 3 Cancelled, 4 Expired, 5 Superseded });

impl Entry {
    /// Whether this is the hash of the payload that the key was bound with.
    pub fn has_payload(&self, payload_hash: &[u8; 32]) -> bool {
        payload_hash.starts_with(&self.payload_hash)
    }

    /// The first bytes of the payload's hash.
    pub fn hash_prefix(&self) -> [u8; 4] {
        *self.payload_hash.first_chunk().expect("it has sixteen bytes")
    }

    /// How the key's job ended, if it is final.
    pub fn ended(&self) -> Option<FinalStatus> {
        self.spent.as_ref().map(|spent| spent.status)
    }

    /// The answer to a repeat, if the key's job is final.
    pub fn answer(&self) -> Option<RepeatAnswer> {
        let spent = self.spent.as_ref()?;
        let (result, error, integrity) = match spent.answer.as_deref() {
            Some(Answer { result, error, integrity }) => (result.clone(), error.clone(), integrity.as_deref().copied()),
            None => (None, None, None),
        };
        let lacks_since = (!spent.is_whole).then_some(spent.gone_at);
        Some(RepeatAnswer { status: spent.status, result, error, integrity, lacks_since })
    }

    fn bytes(&self) -> u64 {
        let answer = self.spent.as_ref().and_then(|spent| spent.answer.as_deref());
        KEY_BYTES + answer.map_or(0, Answer::bytes)
    }

    fn has_own_ttl(&self) -> bool {
        self.ttl_ms != Millis::MAX
    }

    /// When it expires, if it is spent: after its own time to live or the hub's, whichever is shorter.
    fn expires_at(&self, ttl_ms: Millis) -> Option<Timestamp> {
        let spent = self.spent.as_ref()?;
        Some(rules::key_expires_at(spent.at, self.ttl_ms.min(ttl_ms)))
    }
}

impl Answer {
    fn bytes(&self) -> u64 {
        let Answer { result, error, integrity } = self;
        let payloads = Payload::bytes_of(result) + Payload::bytes_of(error);
        ANSWER_BYTES + payloads + ResultIntegrity::bytes_of(integrity)
    }
}

impl Dedup {
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Keys whose jobs are final.
    pub fn spent_count(&self) -> usize {
        self.spent_count
    }

    pub(crate) fn get(&self, key: u128) -> Option<(KeyPlace, &Entry)> {
        let key = halves(key);
        let place = *self.table.find(key[0], |place| self.entry(*place).key == key)?;
        Some((place, self.entry(place)))
    }

    /// Whether there is room for one more key, or a spent one that is old enough to be evicted.
    pub(crate) fn admit(&self, now: Timestamp, limits: &Limits) -> Result<(), Refusal> {
        let keys_max = limits.idempotency_keys_max;
        if (self.len() as u64) < keys_max || self.next_to_evict(now, limits).is_some() {
            return Ok(());
        }
        Err(Refusal::KeysFull { keys: self.len() as u64, keys_max })
    }

    /// When there will be room for one more key, if jobs that are not final stay so: the oldest spent key may be evicted
    /// then, or expires. Keys with timers of their own are not counted.
    pub(crate) fn room_at(&self, limits: &Limits) -> Option<Timestamp> {
        let spent = self.slab.get(self.spent.front()?.place).spent.as_ref().expect("the first spent key is spent");
        Some((spent.at + limits.idempotency_floor_ms).min(rules::key_expires_at(spent.at, limits.idempotency_ttl_ms)))
    }

    /// Binds a new key, which was admitted, to a job. Evicts up to two keys, so that a lowered limit is reached step by
    /// step.
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
            let Some(oldest) = self.next_to_evict(now, limits) else { break };
            self.evict(limits, timers, ledger, oldest);
        }
        let Binding { payload_hash, job, ttl_ms } = binding;
        let payload_hash = *payload_hash.first_chunk().expect("it has 32 bytes");
        let ttl_ms = ttl_ms.unwrap_or(Millis::MAX);
        let place = self.insert(ledger, Entry { key: halves(key), payload_hash, job, ttl_ms, spent: None });
        self.drop_excess_answers((now, limits), ledger);
        place
    }

    /// Binds a key that is held to another job.
    pub(crate) fn bind_again(
        &mut self,
        (now, limits): (Timestamp, &Limits),
        (timers, ledger): (&mut Timers, &mut Ledger),
        place: KeyPlace,
        binding: Binding,
    ) -> KeyPlace {
        let key = self.entry(place).key;
        self.evict(limits, timers, ledger, place);
        let Binding { payload_hash, job, ttl_ms } = binding;
        let payload_hash = *payload_hash.first_chunk().expect("it has 32 bytes");
        let ttl_ms = ttl_ms.unwrap_or(Millis::MAX);
        let place = self.insert(ledger, Entry { key, payload_hash, job, ttl_ms, spent: None });
        self.drop_excess_answers((now, limits), ledger);
        place
    }

    /// The key in a place that is taken.
    pub(crate) fn key_in(&self, place: KeyPlace) -> u128 {
        let key = self.entry(place).key;
        u128::from(key[1]) << 64 | u128::from(key[0])
    }

    /// The job of a spent key is not final any more: repeats refer to it again.
    pub(crate) fn unspend(
        &mut self,
        limits: &Limits,
        (timers, ledger): (&mut Timers, &mut Ledger),
        place: KeyPlace,
    ) -> KeyPlace {
        let &Entry { key, payload_hash, job, ttl_ms, .. } = self.entry(place);
        self.evict(limits, timers, ledger, place);
        self.insert(ledger, Entry { key, payload_hash, job, ttl_ms, spent: None })
    }

    /// The key's job became final: stores the answer to repeats.
    pub(crate) fn spend(
        &mut self,
        (now, limits): (Timestamp, &Limits),
        (timers, ledger): (&mut Timers, &mut Ledger),
        place: KeyPlace,
        status: FinalStatus,
        Answered { result, error, integrity }: Answered,
    ) {
        let fits = |payload: &&Payload| payload.len() as u64 <= limits.idempotency_cached_bytes_max;
        let is_whole = result.is_none_or(|result| fits(&result)) && error.is_none_or(|error| fits(&error));
        let (result, error) = (result.filter(fits).cloned(), error.filter(fits).cloned());
        let has_answer = result.is_some() || error.is_some();
        let integrity = integrity.filter(|_| is_whole).map(|integrity| Box::new(*integrity));
        let answer = has_answer.then(|| Box::new(Answer { result, error, integrity }));
        ledger.charge(Account::Answers, answer.as_deref().map_or(0, Answer::bytes));
        let entry = self.slab.get_mut(place);
        assert!(entry.spent.is_none(), "a key is spent once");
        entry.spent = Some(Spent { at: now, status, answer, is_whole, gone_at: Timestamp::NEVER });
        if !is_whole {
            self.left_out.insert(entry.job, place);
        }
        if entry.has_own_ttl() {
            let expires_at = entry.expires_at(limits.idempotency_ttl_ms).expect("it is spent");
            timers.set(expires_at, place.timer());
        }
        self.spent.push_back(SpentRef { place, version: self.slab.version(place) });
        self.spent_count += 1;
        self.drop_excess_answers((now, limits), ledger);
    }

    /// A job was dropped: what it had and the answer of its key lacks is gone. O(log n).
    pub(crate) fn note_dropped(&mut self, now: Timestamp, job: JobSeq) {
        if let Some(place) = self.left_out.remove(&job) {
            let spent = self.slab.get_mut(place).spent.as_mut().expect("only a spent key lacks something");
            spent.gone_at = now;
        }
    }

    /// When the oldest spent key expires, keys with timers of their own not counted.
    pub(crate) fn next_expiry_at(&self, limits: &Limits) -> Option<Timestamp> {
        let front = self.spent.front()?;
        let spent = self.slab.get(front.place).spent.as_ref().expect("the first spent key is spent");
        let at = rules::key_expires_at(spent.at, limits.idempotency_ttl_ms);
        (at != Timestamp::NEVER).then_some(at)
    }

    /// Removes the oldest spent key, which has expired.
    pub(crate) fn evict_oldest(&mut self, limits: &Limits, timers: &mut Timers, ledger: &mut Ledger) {
        if let Some(front) = self.spent.front() {
            self.evict(limits, timers, ledger, front.place);
        }
    }

    /// The timer of a key with a time to live of its own fired.
    pub(crate) fn expire(&mut self, ledger: &mut Ledger, place: u32) {
        let place = KeyPlace::new(place as usize);
        let entry = self.remove(ledger, place);
        assert!(
            entry.spent.is_some() && entry.has_own_ttl(),
            "only a spent key with a time to live of its own has a timer"
        );
    }

    /// The limits changed: sets the timers of keys anew and drops answers beyond the limit. O(keys), rare.
    pub(crate) fn reconfigure(
        &mut self,
        now: Timestamp,
        (old, new): (&Limits, &Limits),
        (timers, ledger): (&mut Timers, &mut Ledger),
    ) {
        if old.idempotency_ttl_ms != new.idempotency_ttl_ms {
            for (place, entry) in self.slab.iter().filter(|(_, entry)| entry.has_own_ttl()) {
                let timer = place.timer();
                if let Some(at) = entry.expires_at(old.idempotency_ttl_ms) {
                    timers.cancel(at, timer);
                }
                if let Some(at) = entry.expires_at(new.idempotency_ttl_ms) {
                    timers.set(at, timer);
                }
            }
        }
        self.drop_excess_answers((now, new), ledger);
    }

    /// The keys for the snapshot: bound ones by job number, then spent ones in the order in which they were spent.
    /// O(n log n), and 8 bytes of memory for each bound key.
    pub(crate) fn records(&self) -> impl Iterator<Item = KeyRecord> {
        let entries = self.slab.iter().map(|(_, entry)| entry);
        let mut bound: Vec<_> = entries.filter(|entry| entry.spent.is_none()).collect();
        bound.sort_unstable_by_key(|entry| entry.job);
        let spent = self.spent.iter().filter(|spent| self.is_current(spent)).map(|spent| self.entry(spent.place));
        bound.into_iter().chain(spent).map(KeyRecord::of)
    }

    /// Restores a key of a snapshot; returns its place if it is not spent. The error says what contradicts earlier
    /// records.
    pub(crate) fn restore(
        &mut self,
        limits: &Limits,
        (timers, ledger): (&mut Timers, &mut Ledger),
        record: KeyRecord,
    ) -> Result<(Option<KeyPlace>, JobSeq), &'static str> {
        if self.get(record.key).is_some() {
            return Err("two records have the same key");
        }
        let KeyRecord { key, payload_hash, job, ttl_ms, spent_at, status, has_answer, result, error, .. } = record;
        let KeyRecord { integrity, is_part, gone_at, .. } = record;
        let gone_at = gone_at.unwrap_or(Timestamp::NEVER);
        let answer = has_answer.then(|| Box::new(Answer { result, error, integrity }));
        let spent = match (spent_at, status) {
            (Some(at), Some(status)) => Some(Spent { at, status, answer, is_whole: !is_part, gone_at }),
            (None, None) => None,
            _ => return Err("a key has only one of the instant and the status of its job's end"),
        };
        let is_answer_dropped = spent.as_ref().is_some_and(|spent| spent.answer.is_none());
        let is_spent = spent.is_some();
        let ttl_ms = ttl_ms.unwrap_or(Millis::MAX);
        let place = self.insert(ledger, Entry { key: halves(key), payload_hash, job, ttl_ms, spent });
        if !is_spent {
            return Ok((Some(place), job));
        }
        let entry = self.entry(place);
        if let Some(at) = entry.expires_at(limits.idempotency_ttl_ms).filter(|_| entry.has_own_ttl()) {
            timers.set(at, place.timer());
        }
        if is_part {
            self.left_out.insert(job, place);
        }
        if is_answer_dropped && self.answers_dropped == self.spent.len() {
            self.answers_dropped += 1;
        }
        self.spent.push_back(SpentRef { place, version: self.slab.version(place) });
        self.spent_count += 1;
        Ok((None, job))
    }

    /// What the keys are charged, recomputed. O(n).
    pub(crate) fn bytes(&self) -> u64 {
        self.slab.iter().map(|(_, entry)| entry.bytes()).sum()
    }

    /// The oldest spent key, if it is old enough to be evicted.
    fn next_to_evict(&self, now: Timestamp, limits: &Limits) -> Option<KeyPlace> {
        let place = self.spent.front()?.place;
        let spent = self.entry(place).spent.as_ref().expect("the first spent key is spent");
        rules::may_evict(spent.at, now, limits.idempotency_floor_ms).then_some(place)
    }

    fn evict(&mut self, limits: &Limits, timers: &mut Timers, ledger: &mut Ledger, place: KeyPlace) {
        let entry = self.entry(place);
        if let Some(at) = entry.expires_at(limits.idempotency_ttl_ms).filter(|_| entry.has_own_ttl()) {
            timers.cancel(at, place.timer());
        }
        self.remove(ledger, place);
    }

    /// Drops the oldest answers until the account is within its limit.
    fn drop_excess_answers(&mut self, (now, limits): (Timestamp, &Limits), ledger: &mut Ledger) {
        while ledger.get(Account::Answers) > limits.answers_bytes_max && self.answers_dropped < self.spent.len() {
            let spent = self.spent[self.answers_dropped];
            self.answers_dropped += 1;
            if self.is_current(&spent) {
                let entry = self.slab.get_mut(spent.place);
                let held = entry.spent.as_mut().expect("it is spent");
                let Some(answer) = held.answer.take() else { continue };
                (held.is_whole, held.gone_at) = (false, now);
                self.left_out.insert(entry.job, spent.place);
                ledger.release(Account::Answers, answer.bytes());
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
        self.shrink();
        if entry.spent.is_some() {
            self.left_out.remove(&entry.job);
            self.spent_count -= 1;
            self.drop_stale_references();
        }
        entry
    }

    /// Removes stale references from the front of `spent`, and all of them when they are more than half.
    fn drop_stale_references(&mut self) {
        while self.spent.front().is_some_and(|spent| !self.is_current(spent)) {
            self.spent.pop_front();
            self.answers_dropped = self.answers_dropped.saturating_sub(1);
        }
        if self.spent.len() > 2 * self.spent_count + 64 {
            let (spent, mut answers_dropped, mut index) = (std::mem::take(&mut self.spent), self.answers_dropped, 0);
            let kept = spent.into_iter().filter(|spent| {
                let is_current = self.is_current(spent);
                answers_dropped -= usize::from(!is_current && index < self.answers_dropped);
                index += 1;
                is_current
            });
            let kept = kept.collect();
            (self.spent, self.answers_dropped) = (kept, answers_dropped);
        }
    }

    /// Releases the capacity of many keys when few are left. O(1) amortised.
    fn shrink(&mut self) {
        if self.table.capacity() > CAPACITY_MIN && self.table.len() < self.table.capacity() / 8 {
            let slab = &self.slab;
            self.table.shrink_to(2 * self.table.len(), |place| slab.get(*place).key[0]);
        }
        if self.spent.capacity() > CAPACITY_MIN && self.spent.len() < self.spent.capacity() / 8 {
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

/// What a key is bound to, and how.
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
            ttl_ms: entry.has_own_ttl().then_some(entry.ttl_ms),
            spent_at: spent.map(|spent| spent.at),
            status: spent.map(|spent| spent.status),
            has_answer: answer.is_some(),
            result: answer.and_then(|answer| answer.result.clone()),
            error: answer.and_then(|answer| answer.error.clone()),
            integrity: answer.and_then(|answer| answer.integrity.clone()),
            is_part: spent.is_some_and(|spent| !spent.is_whole),
            gone_at: spent.map(|spent| spent.gone_at).filter(|at| *at != Timestamp::NEVER),
        }
    }
}

/// The lower half first: it is the hash that finds the bucket, since the key is a keyed hash already.
fn halves(key: u128) -> [u64; 2] {
    [key as u64, (key >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Complete, Idempotency, OnDuplicate, OnFailed, Pull, ResultMark, Submit};
    use crate::hub::Hub;
    use crate::ids::HubKey;
    use crate::name::Name;
    use crate::name_set::NameSet;
    use crate::outcome::{LeftOut, Outcome, Submitted};
    use crate::settings::Setting;
    use std::collections::BTreeSet;

    #[test]
    fn a_key_of_an_earlier_version_refers_to_its_job_for_what_its_answer_lacks() {
        let name = |text: &str| Name::new(text).expect("a valid name");
        let mut hub = Hub::new(HubKey::new([1; 16]));
        let mut apply = |command| hub.apply(Timestamp::ZERO, command);
        apply(Command::Set(vec![Setting::IdempotencyCachedBytesMax(0)]));
        let (key, payload_hash) = (name("a"), [1; 32]);
        let (on_duplicate, on_failed) = (OnDuplicate::SameResult, OnFailed::SameResult);
        let idempotency = Some(Idempotency { key, payload_hash, on_duplicate, on_failed, ttl_ms: None });
        let submit = Command::Submit(Box::new(Submit { idempotency, ..Submit::new(name("k"), None) }));
        apply(submit.clone());
        let pull = Pull { node: name("n"), jobs_max: 1, kinds: NameSet::EMPTY, lease_duration_ms: None };
        let Outcome::Pulled(pulled) = apply(Command::Pull(pull)) else { panic!("a pull is answered") };
        apply(Command::Complete(Complete {
            job: JobSeq::FIRST,
            lease: Some(pulled.leases[0].lease),
            node: None,
            ok: true,
            result: Some(Payload::new(b"1")),
            error: None,
            is_retryable: true,
            mark: ResultMark::Content(1),
            retry_after_ms: None,
            integrity: None,
        }));
        let mut restored = Hub::new(HubKey::new([1; 16]));
        restored.queue.restore_next_numbers(hub.queue.next_numbers());
        for job in hub.queue.records(&hub.timers) {
            restored.restore_job(&mut BTreeSet::new(), job).expect("it was just written");
        }
        for key in hub.dedup.records() {
            assert!(key.is_part, "it lacks the result");
            restored.restore_key(KeyRecord { is_part: false, ..key }).expect("it was just written");
        }
        let answer = restored.apply(Timestamp::ZERO, submit);
        let Outcome::Submitted(Submitted::Final { left_out, .. }) = answer else { panic!("{answer:?}") };
        assert_eq!(left_out, Some(LeftOut::InJob));
    }
}
