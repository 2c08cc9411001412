//! Rules: the decisions of the state machine that are one line each, and the version they have.
//!
//! A journal is replayed under the rules that wrote it. A build that decides something otherwise gets a new
//! [`RulesVersion`]: the function that changed asks the version, and a hub takes the new one up by a record of its own
//! ([`Command::AdoptRules`](crate::command::Command::AdoptRules)), so what was decided before it is decided again as it
//! was. An old branch goes when the oldest supported release no longer writes its version. Constants of [`crate::limits`]
//! and the defaults of [`Limits`](crate::limits::Limits) are rules as well.

use crate::command::{OnDuplicate, OnFailed};
use crate::encoding::{DecodeError, Encoded, Reader};
use crate::ids::JobSeq;
use crate::name::Name;
use crate::outcome::FinalStatus;
use crate::queue::lane::Rank;
use crate::time::{Millis, Timestamp};

/// Which rules decide, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RulesVersion(u16);

/// What a submit under a key that is known means: the contract's table, row by row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KnownKey {
    /// The key's job has another payload: refused.
    Collision,
    /// A new job takes the place of the key's job, which is not final.
    Supersedes,
    /// A new job under the key, whose job is final.
    Replaces,
    /// The key's job answers, as far as it is.
    Repeats,
}

impl RulesVersion {
    /// The first version.
    pub const FIRST: RulesVersion = RulesVersion(1);
    /// The newest version that this build knows.
    pub const NEWEST: RulesVersion = RulesVersion(1);

    /// The version of that number.
    pub const fn new(version: u16) -> Self {
        RulesVersion(version)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// The state's time after somebody looked at `asked`: it never goes back.
pub(crate) fn later(now: Timestamp, asked: Timestamp) -> Timestamp {
    now.max(asked)
}

/// Jobs that wait, for an instant or for a node: what the queue's depth is about.
pub(crate) fn waiting(scheduled: u64, queued: u64) -> u64 {
    scheduled + queued
}

/// Whether one more job is too many where `depth` wait.
pub(crate) fn is_full(depth: u64, depth_max: u64) -> bool {
    depth >= depth_max
}

/// Bytes of unfinished jobs, with one that leaves and one that comes.
pub(crate) fn bytes_after(bytes: u64, leaving: u64, coming: u64) -> u64 {
    bytes - leaving + coming
}

/// How many more leases the hub may give.
pub(crate) fn room_in_hub(inflight_max: u64, leased: u64) -> u64 {
    inflight_max.saturating_sub(leased)
}

/// How many more leases a node may get.
pub(crate) fn room_at_node(leases_per_node_max: u64, held: u64) -> u64 {
    leases_per_node_max.saturating_sub(held)
}

/// The number of a job's next lease.
pub(crate) fn next_generation(generation: u32) -> u32 {
    generation + 1
}

/// How many leases a job had after one of that generation, up to the latest; `None` if it had no such lease yet.
pub(crate) fn leases_since(generation: u32, latest: u32) -> Option<u32> {
    latest.checked_sub(generation)
}

/// Whether a job has had all its attempts.
pub(crate) fn is_spent(charged: u32, attempts_max: u32) -> bool {
    charged >= attempts_max
}

/// When a job's time to live is over.
pub(crate) fn expires_at(now: Timestamp, ttl: Millis) -> Timestamp {
    now + ttl
}

/// Whether a job will have expired by the instant of its next attempt.
pub(crate) fn is_too_late(expires_at: Timestamp, due_at: Timestamp) -> bool {
    expires_at <= due_at
}

/// When an attempt may follow one that ended now.
pub(crate) fn retry_at(now: Timestamp, delay: Millis) -> Timestamp {
    now + delay
}

/// When a lease ends that is extended now: never earlier than its node was promised, and not later than that once the
/// job's time to live is over.
pub(crate) fn extended_until(until: Timestamp, now: Timestamp, duration: Millis, expires_at: Timestamp) -> Timestamp {
    if expires_at <= now { until } else { until.max(now + duration) }
}

/// Whether a node may extend a lease that another, or itself, holds.
pub(crate) fn may_extend(holder: &Name, node: &Name) -> bool {
    holder == node
}

/// Whether more final jobs are kept than may be.
pub(crate) fn keeps_too_many(jobs: u64, jobs_max: u64) -> bool {
    jobs > jobs_max
}

/// Where a final job stands in the order in which jobs go.
pub(crate) fn order_of_ends(number: u64) -> u64 {
    number
}

/// What a submit under a known key means; `ended` is how the key's job ended, if it did.
pub(crate) fn known_key(
    is_same_payload: bool,
    ended: Option<FinalStatus>,
    on_duplicate: OnDuplicate,
    on_failed: OnFailed,
) -> KnownKey {
    match (is_same_payload, ended, on_duplicate, on_failed) {
        (false, _, OnDuplicate::SameResult, _) => KnownKey::Collision,
        (false, None, OnDuplicate::LatestWins, _) => KnownKey::Supersedes,
        (false, Some(_), OnDuplicate::LatestWins, _) => KnownKey::Replaces,
        (true, Some(status), _, OnFailed::NewJob) if status != FinalStatus::Completed => KnownKey::Replaces,
        (true, _, _, _) => KnownKey::Repeats,
    }
}

/// When a key is forgotten whose job became final at `spent_at`.
pub(crate) fn key_expires_at(spent_at: Timestamp, ttl: Millis) -> Timestamp {
    spent_at + ttl
}

/// Whether a spent key is old enough to make room for a new one.
pub(crate) fn may_evict(spent_at: Timestamp, now: Timestamp, floor: Millis) -> bool {
    spent_at + floor <= now
}

/// Of the first fresh job of a lane and the first that came late, the one to run first.
pub(crate) fn first_of(fresh: Option<(Rank, JobSeq)>, late: Option<(Rank, JobSeq)>) -> Option<(Rank, JobSeq)> {
    match (fresh, late) {
        (Some(fresh), Some(late)) => Some(fresh.min(late)),
        (fresh, late) => fresh.or(late),
    }
}

/// For how many jobs long polls are woken.
pub(crate) fn jobs_to_wake_for(ready: u64, room: u64) -> u64 {
    ready.min(room)
}

/// Whether a lane is looked at again after long polls were woken for its jobs: they may leave them.
pub(crate) fn is_looked_at_again(was_anybody_woken: bool) -> bool {
    was_anybody_woken
}

/// When a node is stale that is not heard of again.
pub(crate) fn stale_at(last_seen_at: Timestamp, node_ttl: Millis) -> Timestamp {
    last_seen_at + node_ttl
}

/// Whether a dead node's record may go.
pub(crate) fn may_forget(leases: u64) -> bool {
    leases == 0
}

impl Encoded for RulesVersion {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u16::decode(from).map(RulesVersion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_key_is_answered_by_the_contracts_table() {
        use FinalStatus::{Completed, Dead};
        use KnownKey::{Collision, Repeats, Replaces, Supersedes};
        use OnDuplicate::{LatestWins, SameResult};
        let table = [
            (true, None, SameResult, OnFailed::SameResult, Repeats),
            (true, None, LatestWins, OnFailed::NewJob, Repeats),
            (true, Some(Completed), SameResult, OnFailed::NewJob, Repeats),
            (true, Some(Dead), SameResult, OnFailed::SameResult, Repeats),
            (true, Some(Dead), SameResult, OnFailed::NewJob, Replaces),
            (false, None, SameResult, OnFailed::NewJob, Collision),
            (false, Some(Dead), SameResult, OnFailed::NewJob, Collision),
            (false, None, LatestWins, OnFailed::SameResult, Supersedes),
            (false, Some(Completed), LatestWins, OnFailed::SameResult, Replaces),
        ];
        for (is_same, ended, on_duplicate, on_failed, expected) in table {
            let found = known_key(is_same, ended, on_duplicate, on_failed);
            assert_eq!(found, expected, "{is_same} {ended:?} {on_duplicate:?} {on_failed:?}");
        }
    }

    #[test]
    fn a_lease_is_extended_up_to_the_instant_before_its_job_expires() {
        let at = Timestamp::from_millis;
        let extended = |now, expires_at| extended_until(at(100), at(now), Millis::new(50), at(expires_at)).as_millis();
        assert_eq!([extended(40, 1_000), extended(60, 1_000)], [100, 110]);
        assert_eq!([extended(60, 61), extended(60, 60), extended(60, 59)], [110, 100, 100]);
    }
}
