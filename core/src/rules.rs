//! Rules: the decisions of the state machine that are one line each, and their version.
//!
//! A journal is replayed under the rules that wrote it. A build that decides something differently gets a new
//! [`RulesVersion`]: the function that changed branches on the version, and a hub adopts the new one by a record of its
//! own ([`Command::AdoptRules`](crate::command::Command::AdoptRules)), so that earlier commands are replayed under the
//! old rules. An old branch is removed when the oldest supported release no longer writes its version. Constants of
//! [`crate::limits`] and the defaults of [`Limits`](crate::limits::Limits) are rules as well.

use crate::command::{OnDuplicate, OnFailed};
use crate::encoding::{DecodeError, Encoded, Reader};
use crate::ids::JobSeq;
use crate::limits::{
    CREDIT_UNITS, Limits, RATE_UNITS, RECLAIMS_MAX, RELEASE_DELAY_MS_BASE, RESERVATION_MS_BASE, RESERVATION_MS_CAP,
    RETRY_FLOOR_SAVED_SECS,
};
use crate::name::Name;
use crate::outcome::{CompletedStatus, FinalStatus, Withheld};
use crate::queue::lane::Rank;
use crate::registry::node::Node;
use crate::time::{Calendar, Millis, Timestamp, Utc};

/// The version of the rules, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RulesVersion(u16);

/// What a submit under a known key means, as in the table of the wire contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KnownKey {
    /// The key's job has another payload: the submit is refused.
    Collision,
    /// A new job takes the place of the key's job, which is not final.
    Supersedes,
    /// A new job is bound to the key, whose job is final.
    Replaces,
    /// The answer is the state of the key's job.
    Repeats,
}

impl RulesVersion {
    /// The first version.
    pub const FIRST: RulesVersion = RulesVersion(1);
    /// The newest version that this build knows.
    pub const NEWEST: RulesVersion = RulesVersion(4);
    /// From this one on a retry prefers another node than that of the last attempt.
    const RETRIES_PREFER_ANOTHER_NODE: RulesVersion = RulesVersion(2);
    /// From this one on losses are counted apart from failures, retries have a budget, a dead node's leases come back at
    /// once, a revoked lease counts until its node learns of it, and dead letters leave by rules of their own.
    const CONTROLLED_DEGRADATION: RulesVersion = RulesVersion(3);
    /// From this one on jobs that wait get other turns when weights change, and all turns begin anew at one clock.
    const TURNS_BEGIN_ANEW: RulesVersion = RulesVersion(4);

    pub const fn new(version: u16) -> Self {
        RulesVersion(version)
    }

    pub const fn get(self) -> u16 {
        self.0
    }
}

/// The state's time after a call with the instant `asked`: it never goes back.
pub(crate) fn later(now: Timestamp, asked: Timestamp) -> Timestamp {
    now.max(asked)
}

/// The queue's depth: jobs that wait for an instant or for a node.
pub(crate) fn waiting(scheduled: u64, queued: u64) -> u64 {
    scheduled + queued
}

/// Whether a lease is taken back from a job that had this many leases returned.
pub(crate) fn may_reclaim(returns: u32) -> bool {
    returns < RECLAIMS_MAX
}

/// Whether a lost lease is counted apart from failures.
pub(crate) fn counts_losses(rules: RulesVersion) -> bool {
    rules >= RulesVersion::CONTROLLED_DEGRADATION
}

/// Whether a job has had too many losses.
pub(crate) fn is_lost(losses: u32, losses_max: u32) -> bool {
    losses >= losses_max
}

/// Whether the lease of a job that was cancelled or superseded counts until its node learns of that, or it ends.
pub(crate) fn holds_revoked_leases(rules: RulesVersion) -> bool {
    rules >= RulesVersion::CONTROLLED_DEGRADATION
}

/// Whether a newer job of a key waits for the run of an older one, after some leases that were taken away.
pub(crate) fn bounds_revocations(rules: RulesVersion) -> bool {
    rules >= RulesVersion::CONTROLLED_DEGRADATION
}

/// Whether the leases of a node that died come back before they end: of one that sent a heartbeat since, so that its
/// silence means something.
pub(crate) fn returns_leases_of_dead(rules: RulesVersion) -> bool {
    rules >= RulesVersion::CONTROLLED_DEGRADATION
}

/// The turn of the next job of a group of this weight, whose latest turn is `latest`. No turn is later than `turn_max`.
pub(crate) fn next_turn(latest: u64, clock: u64, weight: u32, turn_max: u64) -> u64 {
    /// What a turn takes of a group of weight 1.
    const STEP: u64 = 1_024;
    latest.max(clock).saturating_add(STEP / u64::from(weight)).min(turn_max)
}

/// The clock after a job with this turn was leased.
pub(crate) fn clock_after(clock: u64, turn: u64) -> u64 {
    clock.max(turn)
}

/// When a job ages that has been at its level since `from`.
pub(crate) fn ages_at(from: Timestamp, priority_age: Millis) -> Timestamp {
    from + priority_age
}

/// Whether jobs that wait follow a change of weights, and turns that change begin behind all that were given.
pub(crate) fn begins_turns_anew(rules: RulesVersion) -> bool {
    rules >= RulesVersion::TURNS_BEGIN_ANEW
}

/// How many levels higher a job counts that ages once more; at most `levels`.
pub(crate) fn aged_once_more(aged: u8, levels: u8) -> u8 {
    (aged + 1).min(levels)
}

/// Whether a snapshot has the weights.
pub(crate) fn stores_weights() -> bool {
    true
}

/// Whether the weights have a version.
pub(crate) fn counts_weights(rules: RulesVersion) -> bool {
    rules >= RulesVersion::TURNS_BEGIN_ANEW
}

/// Whether ready jobs are charged for their places among those that age.
pub(crate) fn charges_ageing(rules: RulesVersion) -> bool {
    rules >= RulesVersion::TURNS_BEGIN_ANEW
}

/// Whether dead letters have a retention of their own, make room by kind, and stay readable as failed jobs when they
/// leave.
pub(crate) fn refiles_letters(rules: RulesVersion) -> bool {
    rules >= RulesVersion::CONTROLLED_DEGRADATION
}

/// How long a dead letter is kept.
pub(crate) fn dead_retention(rules: RulesVersion, limits: &Limits) -> Millis {
    if refiles_letters(rules) { limits.dead_retention_ms } else { limits.job_retention_ms }
}

/// Whether a kind that an operator paused gets no lease.
pub(crate) fn closes_for_pause() -> bool {
    true
}

/// Whether a kind may have no further lease.
pub(crate) fn is_kind_full(leased: u64, inflight_max: u64) -> bool {
    leased >= inflight_max
}

/// What the bucket of a kind's rate has left after a lease.
pub(crate) fn rate_left(level: u64) -> u64 {
    level.saturating_sub(RATE_UNITS)
}

/// What is left of credits after a retry.
pub(crate) fn credits_left(level: u64) -> u64 {
    level.saturating_sub(CREDIT_UNITS)
}

/// How many credits the floor of the retry budget saves.
pub(crate) fn saved_credits_max(retries_per_sec_min: u64) -> u64 {
    retries_per_sec_min * RETRY_FLOOR_SAVED_SECS
}

/// Why a node gets no jobs, if it gets none.
pub(crate) fn withheld(node: &Node) -> Option<Withheld> {
    node.withheld()
}

/// The delay that a node asked for, up to the limit.
pub(crate) fn honoured_delay(named: Millis, cap: Millis) -> Millis {
    named.min(cap)
}

/// The clock of a requeued job that began at `from`, and ends at `at`, starts again.
pub(crate) fn restarted_clock(at: Timestamp, from: Timestamp, now: Timestamp) -> Timestamp {
    if at == Timestamp::NEVER { at } else { now + at.since(from) }
}

/// Whether the attempts of a requeued job count no more.
pub(crate) fn counts_attempts_anew() -> bool {
    true
}

/// Whether a line of the audit log reports a letter that made room for another one.
pub(crate) fn reports_evictions() -> bool {
    true
}

/// The answer to the result of a lease whose job ended while its node held it.
pub(crate) fn status_of_late_result() -> CompletedStatus {
    CompletedStatus::Acknowledged
}

/// Before which final number a letter is one that was there when an act began, of which the next job to end gets that one.
pub(crate) fn act_ends_before(next_number: u64) -> u64 {
    next_number
}

/// Whether a kind has more letters than it may.
pub(crate) fn has_too_many_letters(letters: u64, letters_max: u64) -> bool {
    letters > letters_max
}

/// How many jobs are dead letters or may become such.
pub(crate) fn possible_letters(unfinished: u64, letters: u64) -> u64 {
    unfinished + letters
}

/// Whether more orphans are kept than may be.
pub(crate) fn keeps_too_many_orphans(orphans: u64, orphans_max: u64) -> bool {
    orphans > orphans_max
}

/// The first instant at which a token is not accepted any more whose rotation ends so.
pub(crate) fn rotation_ends(calendar: Calendar, until: Utc) -> Timestamp {
    if until == Utc::NEVER { Timestamp::NEVER } else { calendar.instant(until) + Millis::new(1) }
}

/// Whether a token that a rotation has replaced is remembered, so that nothing brings it back.
pub(crate) fn remembers_replaced_token() -> bool {
    true
}

/// Whether a configuration that says what it said before changes nothing.
pub(crate) fn is_said_before(is_same: bool) -> bool {
    is_same
}

/// Whether an orphan is kept no longer once it is a job's result.
pub(crate) fn leaves_when_adopted() -> bool {
    true
}

/// Whether a lease that a node got at `started_at` is lost with the node, which died after a heartbeat.
pub(crate) fn is_lost_with_node(started_at: Timestamp, heartbeat_at: Timestamp) -> bool {
    started_at <= heartbeat_at
}

/// Whether retries have a budget.
pub(crate) fn limits_retries(rules: RulesVersion) -> bool {
    rules >= RulesVersion::CONTROLLED_DEGRADATION
}

/// How long a job waits whose node gave its lease back, the `returns`-th time: at first not at all, so that a node that
/// leaves delays nothing; then twice as long each time, so that a job that is pulled and released does not spin.
pub(crate) fn release_delay(returns: u32, cap: Millis) -> Millis {
    let doublings = returns.saturating_sub(2);
    let full = RELEASE_DELAY_MS_BASE.get().saturating_mul(1u64.checked_shl(doublings).unwrap_or(u64::MAX));
    if returns <= 1 { Millis::ZERO } else { Millis::new(full.min(cap.get().max(RELEASE_DELAY_MS_BASE.get()))) }
}

/// When an attempt that began at `started_at` has taken too long.
pub(crate) fn run_ends_at(started_at: Timestamp, max_run: Option<Millis>) -> Timestamp {
    max_run.map_or(Timestamp::NEVER, |max_run| started_at + max_run)
}

/// Whether one more waiting job is too many.
pub(crate) fn is_full(depth: u64, depth_max: u64) -> bool {
    depth >= depth_max
}

/// Bytes of unfinished jobs after one has left and one was added.
pub(crate) fn bytes_after(bytes: u64, leaving: u64, coming: u64) -> u64 {
    bytes - leaving + coming
}

/// How many more leases the hub may give.
pub(crate) fn room_in_hub(inflight_max: u64, leased: u64) -> u64 {
    inflight_max.saturating_sub(leased)
}

/// Whether a job may be leased that then takes so many bytes: one that exceeds the limit alone runs alone.
pub(crate) fn fits_under_lease(bytes_max: u64, leased: u64, coming: u64) -> bool {
    leased == 0 || coming <= bytes_max.saturating_sub(leased)
}

/// How many more leases a node may get.
pub(crate) fn room_at_node(leases_per_node_max: u64, held: u64) -> u64 {
    leases_per_node_max.saturating_sub(held)
}

/// How many more leases the nodes of a zone may get.
pub(crate) fn room_in_zone(leases_per_zone_max: u64, held: u64) -> u64 {
    leases_per_zone_max.saturating_sub(held)
}

/// The generation of a job's next lease.
pub(crate) fn next_generation(generation: u32) -> u32 {
    generation + 1
}

/// How many leases a job had after that of `generation`; `None` if there was no such lease yet.
pub(crate) fn leases_since(generation: u32, latest: u32) -> Option<u32> {
    latest.checked_sub(generation)
}

/// Whether a job has had all its attempts.
pub(crate) fn is_exhausted(charged: u32, attempts_max: u32) -> bool {
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

/// When the next attempt may start after one that ended now.
pub(crate) fn retry_at(now: Timestamp, delay: Millis) -> Timestamp {
    now + delay
}

/// Whether a retry is reserved for other nodes than that of its last attempt.
pub(crate) fn prefers_another_node(rules: RulesVersion) -> bool {
    rules >= RulesVersion::RETRIES_PREFER_ANOTHER_NODE
}

/// Whether a limit with this room left is named where it is explained why a job does not run.
pub(crate) fn is_room_used_up(room: u64) -> bool {
    room == 0
}

/// How many credits of the floor a kind with so many postponed retries gets in some rounds of turns.
pub(crate) fn credits_in_rounds(postponed: u64, rounds: u64) -> u64 {
    postponed.min(rounds)
}

/// When a reason why a job does not run ends by itself; `None` if it does not.
pub(crate) fn reason_ends_at(until: Timestamp) -> Option<Timestamp> {
    (until != Timestamp::NEVER).then_some(until)
}

/// When the reservation of a retry ends that was ready at `since`, after a lease of `generation`: after 5 s for the
/// first retry, then twice as long each time, up to a minute.
pub(crate) fn reserved_until(since: Timestamp, generation: u32) -> Timestamp {
    let factor = 1u64.checked_shl(generation.saturating_sub(1)).unwrap_or(u64::MAX);
    let duration = RESERVATION_MS_BASE.get().saturating_mul(factor).min(RESERVATION_MS_CAP.get());
    since + Millis::new(duration)
}

/// When a lease ends that is extended now: never earlier than before, not later either once the job's time to live is
/// over, and never later than `latest`, when its attempt has taken too long or its node is to be drained.
pub(crate) fn extended_until(
    until: Timestamp,
    now: Timestamp,
    duration: Millis,
    bounds: (Timestamp, Timestamp),
) -> Timestamp {
    let (expires_at, latest) = bounds;
    if expires_at <= now { until } else { until.max((now + duration).min(latest)) }
}

/// When a job becomes due that is scheduled for an instant of the calendar.
pub(crate) fn dated_at(calendar: Calendar, run_at: Utc) -> Timestamp {
    calendar.instant(run_at)
}

/// When a lease ends after the machine slept for that long: its node gets the time that was left.
pub(crate) fn until_after_sleep(until: Timestamp, slept: Millis) -> Timestamp {
    until + slept
}

/// Whether `node` may extend a lease of `holder`.
pub(crate) fn may_extend(holder: &Name, node: &Name) -> bool {
    holder == node
}

/// Whether more final jobs are retained than the limit allows.
pub(crate) fn retains_too_many(jobs: u64, jobs_max: u64) -> bool {
    jobs > jobs_max
}

/// A final job's place in the order in which final jobs are dropped.
pub(crate) fn retention_order(number: u64) -> u64 {
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

/// When a key expires whose job became final at `spent_at`.
pub(crate) fn key_expires_at(spent_at: Timestamp, ttl: Millis) -> Timestamp {
    spent_at + ttl
}

/// Whether a spent key is old enough to be evicted for a new one.
pub(crate) fn may_evict(spent_at: Timestamp, now: Timestamp, floor: Millis) -> bool {
    spent_at + floor <= now
}

/// The one to run first of a lane's first fresh job and its first late one.
pub(crate) fn first_of(fresh: Option<(Rank, JobSeq)>, late: Option<(Rank, JobSeq)>) -> Option<(Rank, JobSeq)> {
    match (fresh, late) {
        (Some(fresh), Some(late)) => Some(fresh.min(late)),
        (fresh, late) => fresh.or(late),
    }
}

/// For how many ready jobs of a lane long polls are woken.
pub(crate) fn jobs_to_wake_for(ready: u64, room: u64) -> u64 {
    ready.min(room)
}

/// Whether a lane stays marked for waking after long polls were woken for its jobs: they may lease none of them.
pub(crate) fn stays_marked(is_any_woken: bool) -> bool {
    is_any_woken
}

/// When a node becomes stale that is not seen again.
pub(crate) fn stale_at(last_seen_at: Timestamp, node_ttl: Millis) -> Timestamp {
    last_seen_at + node_ttl
}

/// Whether a dead node may be forgotten.
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
    fn a_reservation_lasts_twice_as_long_after_each_lease_up_to_a_minute() {
        let lasts = |generation| reserved_until(Timestamp::from_millis(7), generation).as_millis() - 7;
        assert_eq!([1, 2, 3, 4, 5, 100, u32::MAX].map(lasts), [5_000, 10_000, 20_000, 40_000, 60_000, 60_000, 60_000]);
    }

    #[test]
    fn a_lease_is_extended_up_to_the_instant_before_its_job_expires() {
        let at = Timestamp::from_millis;
        let extended = |now, expires_at| {
            extended_until(at(100), at(now), Millis::new(50), (at(expires_at), Timestamp::NEVER)).as_millis()
        };
        assert_eq!([extended(40, 1_000), extended(60, 1_000)], [100, 110]);
        assert_eq!([extended(60, 61), extended(60, 60), extended(60, 59)], [110, 100, 100]);
        let up_to = |latest| extended_until(at(100), at(60), Millis::new(50), (at(1_000), at(latest))).as_millis();
        assert_eq!([up_to(99), up_to(105), up_to(111)], [100, 105, 110]);
    }

    #[test]
    fn the_first_release_delays_nothing_and_each_further_one_twice_as_long() {
        let delays = |cap| [1, 2, 3, 4, 9, u32::MAX].map(|returns| release_delay(returns, Millis::new(cap)).get());
        assert_eq!(delays(15_000), [0, 1_000, 2_000, 4_000, 15_000, 15_000]);
        assert_eq!(delays(10), [0, 1_000, 1_000, 1_000, 1_000, 1_000]);
    }
}
