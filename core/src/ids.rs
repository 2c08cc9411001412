//! Ids: the hub's internal numbers, and the texts that clients see for them.
//!
//! Inside, a job is a dense sequence number and a lease is that number with a generation. Outside, each carries a tag
//! from a keyed hash (SipHash-2-4, Aumasson and Bernstein 2012) under the hub's key and a [salt](crate::salts): job ids
//! stay ordered, lease ids cannot be guessed (64 bits of tag), a mistyped id is recognised without a lookup, and every
//! replay makes the same texts. Because the texts are functions of the numbers, none is stored.

use crate::encoding::{DecodeError, Encoded, Reader};
use crate::salts::{Salt, Salts};
use crate::time::Timestamp;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::fmt;
use std::hash::Hasher;

/// The hub's own key: 16 random bytes chosen when the data folder is created, kept in the journal's header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HubKey([u8; 16]);

/// The texts of a hub's ids, by its key and its salts.
#[derive(Clone, Debug)]
pub struct Ids {
    key: HubKey,
    pub(crate) salts: Salts,
}

/// A job's place in the order of submission, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobSeq(u64);

/// A lease: the job, and which of its leases (from 1). A later lease of the same job fences the earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LeaseRef {
    /// The job under lease.
    pub job: JobSeq,
    /// Counts the leases of this job.
    pub generation: u32,
}

/// A node's number in the hub: given when the node is registered, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NodeIndex(pub(crate) u32);

/// A short ASCII text held in place: ids are rendered a few times per request and need no allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdText<const N: usize>([u8; N]);

/// `job_` + 12 hex of sequence + 8 hex of tag.
pub type JobIdText = IdText<24>;
/// `lease_` + 12 hex of job + 8 hex of generation + 16 hex of tag.
pub type LeaseIdText = IdText<42>;
/// A UUID in its usual form (RFC 9562, version 8).
pub type RequestIdText = IdText<36>;

/// `results_` + 12 hex of position + 12 hex of a job's number + 8 hex of tag.
pub type ResultCursorText = IdText<40>;

/// The purpose of a keyed hash, which is part of its input: hashes for different purposes never have the same input.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Purpose {
    Job = 1,
    Lease = 2,
    Request = 3,
    RetryJitter = 4,
    IdempotencyKey = 5,
    OutcomeChain = 6,
    ResultCursor = 7,
    Refusal = 8,
    Group = 9,
}

/// Sequence numbers are written as 12 hex digits: 2^48 jobs, 89 years at 100,000 a second.
pub(crate) const JOB_SEQ_MAX: u64 = (1 << 48) - 1;

impl JobSeq {
    /// The first job of a hub.
    pub const FIRST: JobSeq = JobSeq(1);

    pub const fn get(self) -> u64 {
        self.0
    }

    /// 0 is before all jobs.
    pub const fn new(seq: u64) -> Self {
        JobSeq(seq)
    }

    pub(crate) fn next(self) -> JobSeq {
        assert!(self.0 < JOB_SEQ_MAX, "all job sequence numbers are used");
        JobSeq(self.0 + 1)
    }
}

impl NodeIndex {
    pub const fn new(index: u32) -> Self {
        NodeIndex(index)
    }

    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Ids {
    /// The ids of a hub that has no salts yet.
    pub(crate) fn new(key: HubKey) -> Ids {
        Ids { key, salts: Salts::default() }
    }

    pub(crate) fn key(&self) -> &HubKey {
        &self.key
    }

    pub fn job_id(&self, seq: JobSeq) -> JobIdText {
        let mut text = IdText(*b"job_00000000000000000000");
        write_hex(&mut text.0[4..16], seq.0);
        write_hex(&mut text.0[16..24], u64::from(self.key.job_tag(seq, self.salts.of_job(seq))));
        text
    }

    /// The job that a text names; `None` if the text is not a job id of this hub.
    pub fn parse_job_id(&self, text: &str) -> Option<JobSeq> {
        let digits = text.strip_prefix("job_")?.as_bytes();
        if digits.len() != 20 {
            return None;
        }
        let seq = JobSeq(read_hex(&digits[..12])?);
        (read_hex(&digits[12..])? == u64::from(self.key.job_tag(seq, self.salts.of_job(seq)))).then_some(seq)
    }

    /// The id of a lease that started at that instant.
    pub fn lease_id(&self, lease: LeaseRef, started_at: Timestamp) -> LeaseIdText {
        let mut text = IdText(*b"lease_000000000000000000000000000000000000");
        write_hex(&mut text.0[6..18], lease.job.0);
        write_hex(&mut text.0[18..26], u64::from(lease.generation));
        write_hex(&mut text.0[26..42], self.key.lease_tag(lease, self.salts.of_lease(started_at)));
        text
    }

    /// The lease that a text names; `None` if the text is not the id of a lease whose start `started_at` knows.
    pub fn parse_lease_id(
        &self,
        text: &str,
        started_at: impl FnOnce(LeaseRef) -> Option<Timestamp>,
    ) -> Option<LeaseRef> {
        let digits = text.strip_prefix("lease_")?.as_bytes();
        if digits.len() != 36 {
            return None;
        }
        let job = JobSeq(read_hex(&digits[..12])?);
        let generation = u32::try_from(read_hex(&digits[12..20])?).ok()?;
        let lease = LeaseRef { job, generation };
        let tag = self.key.lease_tag(lease, self.salts.of_lease(started_at(lease)?));
        (read_hex(&digits[20..])? == tag).then_some(lease)
    }

    /// The text of a position among the results of all clients, given after job `last` was submitted.
    pub fn result_cursor(&self, position: u64, last: JobSeq) -> ResultCursorText {
        let mut text = IdText(*b"results_00000000000000000000000000000000");
        write_hex(&mut text.0[8..20], position);
        write_hex(&mut text.0[20..32], last.0);
        write_hex(&mut text.0[32..40], u64::from(self.key.cursor_tag(position, last, self.salts.of_job(last))));
        text
    }

    /// The position that a text names; `None` if this hub did not give it, or gave it from records that are gone.
    pub fn parse_result_cursor(&self, text: &str) -> Option<u64> {
        let digits = text.strip_prefix("results_")?.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let (position, last) = (read_hex(&digits[..12])?, JobSeq(read_hex(&digits[12..24])?));
        let tag = self.key.cursor_tag(position, last, self.salts.of_job(last));
        (read_hex(&digits[24..])? == u64::from(tag)).then_some(position)
    }

    /// The request id of a job's submission: a UUID version 8 made from the job's number.
    pub fn request_id(&self, seq: JobSeq) -> RequestIdText {
        let mut bytes = self.key.request_hash(seq, self.salts.of_job(seq)).to_be_bytes();
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let mut text = IdText(*b"00000000-0000-0000-0000-000000000000");
        let mut at = 0;
        for (index, byte) in bytes.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                at += 1;
            }
            write_hex(&mut text.0[at..at + 2], u64::from(*byte));
            at += 2;
        }
        text
    }
}

impl HubKey {
    /// A key from 16 bytes, which must be random and secret to keep lease ids unguessable.
    pub const fn new(bytes: [u8; 16]) -> Self {
        HubKey(bytes)
    }

    /// A number below `bound` that spreads the retries of many jobs, the same in every replay.
    pub(crate) fn retry_jitter(&self, seq: JobSeq, attempt: u32, bound: u64) -> u64 {
        let hash = self.hash(Purpose::RetryJitter, &[&seq.0.to_le_bytes(), &attempt.to_le_bytes()]) as u64;
        // Multiply-shift: the high half of hash * bound is uniform below bound, without a division.
        ((u128::from(hash) * u128::from(bound)) >> 64) as u64
    }

    /// A number below `bound` that spreads what refused clients are told.
    pub(crate) fn spread(&self, number: u64, bound: u64) -> u64 {
        let hash = self.hash(Purpose::Refusal, &[&number.to_le_bytes()]) as u64;
        ((u128::from(hash) * u128::from(bound)) >> 64) as u64
    }

    /// A number below `bound` for a group that shares with others.
    pub(crate) fn group_place(&self, group: &str, bound: u64) -> u64 {
        let hash = self.hash(Purpose::Group, &[group.as_bytes()]) as u64;
        ((u128::from(hash) * u128::from(bound)) >> 64) as u64
    }

    /// The 128-bit hash that represents an idempotency key. It is keyed, since clients choose the keys.
    pub(crate) fn idempotency_key(&self, key: &str) -> u128 {
        self.hash(Purpose::IdempotencyKey, &[key.as_bytes()])
    }

    /// The hash of all outcomes, from the accumulators that they were folded into.
    pub(crate) fn outcome_hash(&self, folded: [u64; 2]) -> u128 {
        self.hash(Purpose::OutcomeChain, &[&folded[0].to_le_bytes(), &folded[1].to_le_bytes()])
    }

    fn job_tag(&self, seq: JobSeq, salt: Option<Salt>) -> u32 {
        self.salted(Purpose::Job, salt, &[&seq.0.to_le_bytes()]) as u32
    }

    fn cursor_tag(&self, position: u64, last: JobSeq, salt: Option<Salt>) -> u32 {
        self.salted(Purpose::ResultCursor, salt, &[&position.to_le_bytes(), &last.0.to_le_bytes()]) as u32
    }

    fn lease_tag(&self, lease: LeaseRef, salt: Option<Salt>) -> u64 {
        self.salted(Purpose::Lease, salt, &[&lease.job.0.to_le_bytes(), &lease.generation.to_le_bytes()]) as u64
    }

    fn request_hash(&self, seq: JobSeq, salt: Option<Salt>) -> u128 {
        self.salted(Purpose::Request, salt, &[&seq.0.to_le_bytes()])
    }

    /// The hash of `parts`, which have the same length for the same purpose, and of the salt behind them.
    fn salted(&self, purpose: Purpose, salt: Option<Salt>, parts: &[&[u8]]) -> u128 {
        let mut hasher = self.hasher(purpose);
        parts.iter().for_each(|part| hasher.write(part));
        if let Some(salt) = salt {
            hasher.write(salt.as_bytes());
        }
        hasher.finish128().as_u128()
    }

    fn hash(&self, purpose: Purpose, parts: &[&[u8]]) -> u128 {
        let mut hasher = self.hasher(purpose);
        for part in parts {
            hasher.write(part);
        }
        hasher.finish128().as_u128()
    }

    fn hasher(&self, purpose: Purpose) -> SipHasher24 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(&[purpose as u8]);
        hasher
    }

    /// The bytes, for the journal's header.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The key makes lease ids unguessable, so it is not shown.
impl fmt::Debug for HubKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubKey(..)")
    }
}

impl<const N: usize> IdText<N> {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("ids are written as ASCII")
    }
}

impl<const N: usize> fmt::Display for IdText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for IdText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn write_hex(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 0xf) as usize];
        value >>= 4;
    }
    assert!(value == 0, "the number fits its digits");
}

/// Accepts lower-case hex only: caches between hub and client would treat two spellings of one id as two ids.
fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((value << 4) | u64::from(nibble))
    })
}

impl Encoded for JobSeq {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let seq = u64::decode(from)?;
        if seq <= JOB_SEQ_MAX { Ok(JobSeq(seq)) } else { Err(DecodeError::Malformed("job's number")) }
    }
}

impl Encoded for NodeIndex {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u32::decode(from).map(NodeIndex)
    }
}

impl Encoded for LeaseRef {
    fn encode(&self, out: &mut Vec<u8>) {
        self.job.encode(out);
        self.generation.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(LeaseRef { job: Encoded::decode(from)?, generation: Encoded::decode(from)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: HubKey = HubKey::new(*b"0123456789abcdef");
    const AT: Timestamp = Timestamp::from_millis(5);

    fn ids() -> Ids {
        Ids::new(KEY)
    }

    #[test]
    fn job_ids_parse_back_and_sort_in_order_of_submission() {
        let mut last = String::new();
        for seq in [1, 2, 9, 10, 255, 256, 1 << 20, JOB_SEQ_MAX] {
            let text = ids().job_id(JobSeq(seq)).to_string();
            assert_eq!(ids().parse_job_id(&text), Some(JobSeq(seq)));
            assert!(last < text, "{last} < {text}");
            last = text;
        }
    }

    #[test]
    fn an_id_with_a_changed_digit_is_refused() {
        let lease = ids().lease_id(LeaseRef { job: JobSeq(7), generation: 2 }, AT).to_string();
        let job = ids().job_id(JobSeq(7)).to_string();
        for (text, prefix) in [(lease, 6), (job, 4)] {
            for at in prefix..text.len() {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
                let changed = String::from_utf8(bytes).expect("still ASCII");
                assert_eq!(ids().parse_lease_id(&changed, |_| Some(AT)), None, "{changed}");
                assert_eq!(ids().parse_job_id(&changed), None, "{changed}");
            }
        }
    }

    #[test]
    fn texts_that_are_not_ids_are_refused() {
        for text in ["", "job_", "job_12", "lease_", "JOB_00000000000000000000", "job_0000000000000000000G", "job_é"] {
            assert_eq!(ids().parse_job_id(text), None);
            assert_eq!(ids().parse_lease_id(text, |_| Some(AT)), None);
        }
    }

    #[test]
    fn a_cursor_names_its_position_until_the_records_that_it_came_from_are_gone() {
        let ids = ids();
        let text = ids.result_cursor(300, JobSeq(7));
        assert_eq!(ids.parse_result_cursor(text.as_str()), Some(300));
        let mut after = ids.clone();
        after.salts.begin(JobSeq(8), AT, Salt::new([1; 8]));
        assert_eq!(after.parse_result_cursor(text.as_str()), Some(300));
        let mut cut = ids.clone();
        cut.salts.begin(JobSeq(7), AT, Salt::new([1; 8]));
        assert_eq!(cut.parse_result_cursor(text.as_str()), None);
        let mistyped = text.as_str().replace("results_00000000012c", "results_00000000012d");
        assert_eq!(ids.parse_result_cursor(&mistyped), None);
        assert_eq!(ids.parse_result_cursor(ids.job_id(JobSeq(7)).as_str()), None);
    }

    #[test]
    fn request_ids_are_uuids_of_version_8_and_differ() {
        let first = ids().request_id(JobSeq(1)).to_string();
        let second = ids().request_id(JobSeq(2)).to_string();
        assert_ne!(first, second);
        assert_eq!(&first[14..15], "8");
        assert!(matches!(&first[19..20], "8" | "9" | "a" | "b"));
        assert_eq!(first.len(), 36);
    }

    #[test]
    fn another_hub_makes_other_ids() {
        let other = Ids::new(HubKey::new([7; 16]));
        assert_eq!(other.parse_job_id(ids().job_id(JobSeq(1)).as_str()), None);
    }

    #[test]
    fn a_salt_changes_the_ids_given_after_it_and_no_earlier_one() {
        let (job, lease) = (JobSeq::new, |job| LeaseRef { job: JobSeq(job), generation: 1 });
        let before = ids();
        let mut after = ids();
        after.salts.begin(job(8), Timestamp::from_millis(6), Salt::new([1; 8]));
        assert_eq!(after.job_id(job(7)), before.job_id(job(7)));
        assert_eq!(after.request_id(job(7)), before.request_id(job(7)));
        assert_eq!(after.lease_id(lease(7), AT), before.lease_id(lease(7), AT));
        assert_ne!(after.request_id(job(8)), before.request_id(job(8)));
        assert_eq!(after.parse_job_id(before.job_id(job(8)).as_str()), None);
        assert_eq!(after.parse_job_id(after.job_id(job(8)).as_str()), Some(job(8)));
        let later = Timestamp::from_millis(6);
        let old = before.lease_id(lease(7), later);
        assert_eq!(after.parse_lease_id(old.as_str(), |_| Some(later)), None);
        assert_eq!(after.parse_lease_id(old.as_str(), |_| Some(AT)), Some(lease(7)));
        assert_eq!(after.parse_lease_id(old.as_str(), |_| None), None);
    }

    /// A thousand keys that all fall into one of 4,096 buckets under a key that their author knows.
    #[test]
    fn idempotency_keys_that_collide_under_another_key_are_spread_like_any_others() {
        const BUCKETS: u64 = 4_096;
        let bucket = |key: &HubKey, text: &str| key.idempotency_key(text) as u64 % BUCKETS;
        let (known, own) = (HubKey::new([0; 16]), HubKey::new(*b"a secret of ours"));
        let mut chosen = (0_u64..).map(|n| format!("key {n}")).filter(|text| bucket(&known, text) == 0);
        let chosen: Vec<_> = chosen.by_ref().take(1_000).collect();
        let plain: Vec<_> = (0..1_000).map(|n| format!("job {n}")).collect();
        let fullest = |texts: &[String]| {
            let mut counts = vec![0; BUCKETS as usize];
            texts.iter().for_each(|text| counts[bucket(&own, text) as usize] += 1);
            counts.into_iter().max().expect("there are buckets")
        };
        // A thousand throws into 4,096 buckets: more than six in one of them is a matter of one in a hundred thousand.
        assert!(fullest(&plain) <= 6 && fullest(&chosen) <= 6, "{} and {}", fullest(&plain), fullest(&chosen));
    }
}
