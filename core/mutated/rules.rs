//! The state machine's rules, with the mistake of the active mutant.

#[path = "../src/rules.rs"]
mod real;

pub use real::*;

use crate::command::{OnDuplicate, OnFailed};
use crate::ids::JobSeq;
use crate::limits::Limits;
use crate::name::Name;
use crate::outcome::{CompletedStatus, FinalStatus, Withheld};
use crate::queue::lane::Rank;
use crate::registry::node::Node;
use crate::time::{Calendar, Millis, Timestamp, Utc};
use sheratan_mutants::{Mutant, is_active};

pub(crate) fn later(now: Timestamp, asked: Timestamp) -> Timestamp {
    if is_active(Mutant::TimeGoesBack) { asked } else { real::later(now, asked) }
}

pub(crate) fn waiting(scheduled: u64, queued: u64) -> u64 {
    real::waiting(if is_active(Mutant::ScheduledNotCounted) { 0 } else { scheduled }, queued)
}

pub(crate) fn is_full(depth: u64, depth_max: u64) -> bool {
    real::is_full(depth, one_more(Mutant::QueueLimitOffByOne, depth_max))
}

pub(crate) fn bytes_after(bytes: u64, leaving: u64, coming: u64) -> u64 {
    real::bytes_after(bytes, if is_active(Mutant::LeavingBytesCounted) { 0 } else { leaving }, coming)
}

pub(crate) fn room_in_hub(inflight_max: u64, leased: u64) -> u64 {
    real::room_in_hub(one_more(Mutant::InflightLimitOffByOne, inflight_max), leased)
}

pub(crate) fn room_at_node(leases_per_node_max: u64, held: u64) -> u64 {
    real::room_at_node(one_more(Mutant::NodeLeasesOffByOne, leases_per_node_max), held)
}

pub(crate) fn next_generation(generation: u32) -> u32 {
    if is_active(Mutant::LeaseGenerationReused) && generation > 0 {
        generation
    } else {
        real::next_generation(generation)
    }
}

pub(crate) fn leases_since(generation: u32, latest: u32) -> Option<u32> {
    let since = real::leases_since(generation, latest);
    if is_active(Mutant::StaleLeaseCompletes) { since.map(|_| 0) } else { since }
}

pub(crate) fn is_exhausted(charged: u32, attempts_max: u32) -> bool {
    real::is_exhausted(charged + u32::from(is_active(Mutant::AttemptCountedTwice)), attempts_max)
}

pub(crate) fn may_reclaim(returns: u32) -> bool {
    real::may_reclaim(returns) || is_active(Mutant::ReclaimedForEver)
}

pub(crate) fn counts_losses(rules: RulesVersion) -> bool {
    real::counts_losses(rules) && !is_active(Mutant::LossCharged)
}

pub(crate) fn is_lost(losses: u32, losses_max: u32) -> bool {
    real::is_lost(losses, losses_max.saturating_add(is_active(Mutant::LossesOffByOne).into()))
}

pub(crate) fn holds_revoked_leases(rules: RulesVersion) -> bool {
    real::holds_revoked_leases(rules) && !is_active(Mutant::RevokedLeaseFreed)
}

pub(crate) fn bounds_revocations(rules: RulesVersion) -> bool {
    real::bounds_revocations(rules) && !is_active(Mutant::RevocationsUnbounded)
}

pub(crate) fn returns_leases_of_dead(rules: RulesVersion) -> bool {
    real::returns_leases_of_dead(rules) && !is_active(Mutant::DeadNodeKeepsLeases)
}

pub(crate) fn is_lost_with_node(started_at: Timestamp, heartbeat_at: Timestamp) -> bool {
    real::is_lost_with_node(started_at, heartbeat_at) || is_active(Mutant::NewLeaseLostWithNode)
}

pub(crate) fn dead_retention(rules: RulesVersion, limits: &Limits) -> Millis {
    if is_active(Mutant::LetterKeptAsFinal) { limits.job_retention_ms } else { real::dead_retention(rules, limits) }
}

pub(crate) fn limits_retries(rules: RulesVersion) -> bool {
    real::limits_retries(rules) && !is_active(Mutant::RetriesUnlimited)
}

pub(crate) fn credits_left(level: u64) -> u64 {
    if is_active(Mutant::CreditNotSpent) { level } else { real::credits_left(level) }
}

pub(crate) fn saved_credits_max(retries_per_sec_min: u64) -> u64 {
    if is_active(Mutant::CreditsSavedForEver) { u64::MAX } else { real::saved_credits_max(retries_per_sec_min) }
}

pub(crate) fn release_delay(returns: u32, cap: Millis) -> Millis {
    if is_active(Mutant::ReleaseSpins) { Millis::ZERO } else { real::release_delay(returns, cap) }
}

pub(crate) fn honoured_delay(named: Millis, cap: Millis) -> Millis {
    if is_active(Mutant::RetryAfterUnlimited) { named } else { real::honoured_delay(named, cap) }
}

pub(crate) fn run_ends_at(started_at: Timestamp, max_run: Option<Millis>) -> Timestamp {
    if is_active(Mutant::MaxRunIgnored) { Timestamp::NEVER } else { real::run_ends_at(started_at, max_run) }
}

pub(crate) fn room_in_zone(leases_per_zone_max: u64, held: u64) -> u64 {
    real::room_in_zone(one_more(Mutant::ZoneLeasesOffByOne, leases_per_zone_max), held)
}

pub(crate) fn is_kind_full(leased: u64, inflight_max: u64) -> bool {
    real::is_kind_full(leased, one_more(Mutant::KindLeasesOffByOne, inflight_max))
}

pub(crate) fn closes_for_pause() -> bool {
    real::closes_for_pause() && !is_active(Mutant::PausedKindLeased)
}

pub(crate) fn rate_left(level: u64) -> u64 {
    if is_active(Mutant::RateNotSpent) { level } else { real::rate_left(level) }
}

pub(crate) fn withheld(node: &Node) -> Option<Withheld> {
    let is_unnoticed = |withheld: &Withheld| *withheld == Withheld::Drained && is_active(Mutant::DrainedNodeLeases);
    real::withheld(node).filter(|withheld| !is_unnoticed(withheld))
}

pub(crate) fn next_turn(latest: u64, clock: u64, weight: u32, turn_max: u64) -> u64 {
    real::next_turn(latest, clock, if is_active(Mutant::WeightIgnored) { 1 } else { weight }, turn_max)
}

pub(crate) fn clock_after(clock: u64, turn: u64) -> u64 {
    if is_active(Mutant::TurnsNotKept) { clock } else { real::clock_after(clock, turn) }
}

pub(crate) fn ages_at(from: Timestamp, priority_age: Millis) -> Timestamp {
    let at = real::ages_at(from, priority_age);
    if is_active(Mutant::AgedStaysBehind) {
        return Timestamp::NEVER;
    }
    if is_active(Mutant::AgesEarly) { at - Millis::new(1) } else { at }
}

pub(crate) fn begins_turns_anew(rules: RulesVersion) -> bool {
    real::begins_turns_anew(rules) && !is_active(Mutant::WeightsNotFollowed)
}

pub(crate) fn aged_once_more(aged: u8, levels: u8) -> u8 {
    real::aged_once_more(aged + u8::from(is_active(Mutant::AgesTwice)), levels)
}

pub(crate) fn stores_weights() -> bool {
    real::stores_weights() && !is_active(Mutant::WeightsNotStored)
}

pub(crate) fn is_room_used_up(room: u64) -> bool {
    let is_named_early = is_active(Mutant::ExplainNamesLimitEarly) && room == 1;
    (real::is_room_used_up(room) || is_named_early) && !is_active(Mutant::ExplainOmitsLimit)
}

pub(crate) fn credits_in_rounds(postponed: u64, rounds: u64) -> u64 {
    if is_active(Mutant::ExplainCountsEmptyTurns) { rounds } else { real::credits_in_rounds(postponed, rounds) }
}

pub(crate) fn reason_ends_at(until: Timestamp) -> Option<Timestamp> {
    real::reason_ends_at(until + Millis::new(is_active(Mutant::ExplainInstantLate).into()))
}

pub(crate) fn restarted_clock(at: Timestamp, from: Timestamp, now: Timestamp) -> Timestamp {
    if is_active(Mutant::RequeuedClockRunsOn) { at } else { real::restarted_clock(at, from, now) }
}

pub(crate) fn counts_attempts_anew() -> bool {
    real::counts_attempts_anew() && !is_active(Mutant::RequeuedKeepsAttempts)
}

pub(crate) fn reports_evictions() -> bool {
    real::reports_evictions() && !is_active(Mutant::EvictionUntold)
}

pub(crate) fn status_of_late_result() -> CompletedStatus {
    if is_active(Mutant::LateResultCompletes) {
        CompletedStatus::Final(FinalStatus::Completed)
    } else {
        real::status_of_late_result()
    }
}

pub(crate) fn act_ends_before(next_number: u64) -> u64 {
    if is_active(Mutant::ActGoesRound) { u64::MAX } else { real::act_ends_before(next_number) }
}

pub(crate) fn has_too_many_letters(letters: u64, letters_max: u64) -> bool {
    real::has_too_many_letters(letters, one_more(Mutant::KindLettersOffByOne, letters_max))
}

pub(crate) fn possible_letters(unfinished: u64, letters: u64) -> u64 {
    if is_active(Mutant::UnfinishedMayNotDie) {
        unfinished.min(1) + letters
    } else {
        real::possible_letters(unfinished, letters)
    }
}

pub(crate) fn keeps_too_many_orphans(orphans: u64, orphans_max: u64) -> bool {
    real::keeps_too_many_orphans(orphans, one_more(Mutant::OrphansOffByOne, orphans_max))
}

pub(crate) fn rotation_ends(calendar: Calendar, until: Utc) -> Timestamp {
    let at = real::rotation_ends(calendar, until);
    if is_active(Mutant::RotationEndsEarly) && at != Timestamp::NEVER { at - Millis::new(1) } else { at }
}

pub(crate) fn remembers_replaced_token() -> bool {
    real::remembers_replaced_token() && !is_active(Mutant::ReplacedTokenForgotten)
}

pub(crate) fn is_said_before(is_same: bool) -> bool {
    real::is_said_before(is_same) && !is_active(Mutant::OldConfigurationRevives)
}

pub(crate) fn leaves_when_adopted() -> bool {
    real::leaves_when_adopted() && !is_active(Mutant::OrphanAdoptedTwice)
}

pub(crate) fn is_too_late(expires_at: Timestamp, due_at: Timestamp) -> bool {
    real::is_too_late(expires_at, due_at) && !is_active(Mutant::ExpiredJobRetried)
}

pub(crate) fn retry_at(now: Timestamp, delay: Millis) -> Timestamp {
    real::retry_at(now, if is_active(Mutant::RetryDelayIgnored) { Millis::ZERO } else { delay })
}

pub(crate) fn extended_until(
    until: Timestamp,
    now: Timestamp,
    duration: Millis,
    bounds: (Timestamp, Timestamp),
) -> Timestamp {
    if is_active(Mutant::ExtensionShortensLease) && now < bounds.0 {
        now + duration
    } else {
        real::extended_until(until, now, duration, bounds)
    }
}

pub(crate) fn dated_at(calendar: Calendar, run_at: Utc) -> Timestamp {
    real::dated_at(if is_active(Mutant::RunAtIgnoresClock) { Calendar::UNSET } else { calendar }, run_at)
}

pub(crate) fn until_after_sleep(until: Timestamp, slept: Millis) -> Timestamp {
    if is_active(Mutant::LeaseEndsInSleep) { until } else { real::until_after_sleep(until, slept) }
}

pub(crate) fn may_extend(holder: &Name, node: &Name) -> bool {
    real::may_extend(holder, node) || is_active(Mutant::ExtensionByAnotherNode)
}

pub(crate) fn retains_too_many(jobs: u64, jobs_max: u64) -> bool {
    real::retains_too_many(jobs, one_more(Mutant::RetainedJobsOffByOne, jobs_max))
}

pub(crate) fn retention_order(number: u64) -> u64 {
    if is_active(Mutant::FinalOrderLost) { 0 } else { real::retention_order(number) }
}

pub(crate) fn known_key(
    is_same_payload: bool,
    ended: Option<FinalStatus>,
    on_duplicate: OnDuplicate,
    on_failed: OnFailed,
) -> KnownKey {
    let is_same_payload = is_same_payload || is_active(Mutant::KeyHashIgnored);
    match real::known_key(is_same_payload, ended, on_duplicate, on_failed) {
        KnownKey::Supersedes if is_active(Mutant::SupersedeForgotten) => KnownKey::Replaces,
        known => known,
    }
}

pub(crate) fn key_expires_at(spent_at: Timestamp, ttl: Millis) -> Timestamp {
    let expires_at = real::key_expires_at(spent_at, ttl);
    if is_active(Mutant::KeyExpiresEarly) { expires_at - Millis::new(1) } else { expires_at }
}

pub(crate) fn may_evict(spent_at: Timestamp, now: Timestamp, floor: Millis) -> bool {
    real::may_evict(spent_at, now, floor) || is_active(Mutant::YoungKeyEvicted)
}

pub(crate) fn prefers_another_node(rules: RulesVersion) -> bool {
    real::prefers_another_node(rules) && !is_active(Mutant::RetryPrefersNoNode)
}

pub(crate) fn first_of(fresh: Option<(Rank, JobSeq)>, late: Option<(Rank, JobSeq)>) -> Option<(Rank, JobSeq)> {
    if is_active(Mutant::LaneOrderReversed) { fresh.max(late) } else { real::first_of(fresh, late) }
}

pub(crate) fn jobs_to_wake_for(ready: u64, room: u64) -> u64 {
    if is_active(Mutant::WakeForgotten) { 0 } else { real::jobs_to_wake_for(ready, room) }
}

pub(crate) fn stays_marked(is_any_woken: bool) -> bool {
    real::stays_marked(is_any_woken) && !is_active(Mutant::SecondWakeForgotten)
}

pub(crate) fn stale_at(last_seen_at: Timestamp, node_ttl: Millis) -> Timestamp {
    if is_active(Mutant::NodeNeverStale) { Timestamp::NEVER } else { real::stale_at(last_seen_at, node_ttl) }
}

pub(crate) fn may_forget(leases: u64) -> bool {
    real::may_forget(leases) || is_active(Mutant::NodeForgottenWithLeases)
}

/// The limit, or one more while this mutant is active.
fn one_more(mutant: Mutant, max: u64) -> u64 {
    max.saturating_add(is_active(mutant).into())
}
