//! Rules of kinds: what operators set for all jobs of one kind, and the gate that follows from it.
//!
//! Some rules are bound to a job when it is submitted (priority, time to live, lease duration, attempts), the others are
//! asked when they are needed. A lower limit revokes nothing. The gate is asked at each lease, on every path: while it is
//! closed the kind's lanes are withdrawn from all views, so a kind without room costs other kinds nothing.

use crate::command::Priority;
use crate::encoding::{members, numbered};
use crate::limits::RATE_UNITS;
use crate::name::Name;
use crate::rules;
use crate::time::{Millis, Timestamp};

/// What an operator set for a kind; an absent member is the hub's own setting, or no limit.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct KindRules {
    /// Jobs of the kind under lease.
    pub inflight_max: Option<u64>,
    /// Leases in 1,000 seconds, retries included; submits are never limited. Zero: none.
    pub leases_per_1000_sec: Option<u64>,
    /// Leases that may follow at once on a quiet time; by default those of one second, and at least one.
    pub burst: Option<u32>,
    /// Of jobs that name no priority. Bound at submission.
    pub priority: Option<Priority>,
    /// Of jobs that name no lease duration. Bound at submission.
    pub lease_duration_ms: Option<Millis>,
    /// Of jobs that name no time to live. Bound at submission.
    pub ttl_ms: Option<Millis>,
    /// Of jobs that name no limit of attempts. Bound at submission.
    pub attempts_max: Option<u32>,
    /// Leases of a job that may be lost.
    pub losses_max: Option<u32>,
    /// How long one attempt may take, from its lease on; a job's own bound goes first.
    pub max_run_ms: Option<Millis>,
    pub retry_delay_ms_base: Option<Millis>,
    pub retry_delay_ms_cap: Option<Millis>,
    pub on_exhausted: Option<OnExhausted>,
    /// Dead letters of the kind.
    pub letters_max: Option<u64>,
    pub on_letters_full: Option<OnLettersFull>,
    pub pause: Option<Pause>,
}

/// No job of the kind is leased; those under lease go on.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Pause {
    pub reason: Option<Name>,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

/// What becomes of a job that fails for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnExhausted {
    /// It is a dead letter.
    Park,
    /// It ends as failed, and is retained like other final jobs.
    Drop,
}

/// What happens when there is no room for a further dead letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnLettersFull {
    /// The oldest one goes.
    Evict,
    /// Submits are refused in good time.
    Refuse,
}

/// Whether a job of the kind may be leased now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    Open,
    /// Until then, or [`Timestamp::NEVER`].
    Paused(Timestamp),
    /// As many jobs are under lease as may be.
    Full,
    /// Its rate allows the next lease then, or [`Timestamp::NEVER`].
    RateLimited(Timestamp),
}

/// How many leases a kind's rate allows at once: a token bucket (RFC 2697 calls its size the burst), which begins empty, so
/// that a restart is no burst.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Bucket {
    /// In millionths of a lease, at the instant `at`.
    level: u64,
    at: Timestamp,
}

members!(KindRules {
    1 inflight_max,
    2 leases_per_1000_sec,
    3 burst,
    4 priority,
    5 lease_duration_ms,
    6 ttl_ms,
    7 attempts_max,
    8 losses_max,
    9 max_run_ms,
    10 retry_delay_ms_base,
    11 retry_delay_ms_cap,
    12 on_exhausted,
    13 letters_max,
    14 on_letters_full,
    15 pause,
});
members!(Pause { 1 reason, 2 until });
members!(Bucket { 1 level, 2 at });
numbered!(OnExhausted { 0 Park, 1 Drop });
numbered!(OnLettersFull { 0 Evict, 1 Refuse });

impl KindRules {
    /// The rules of a kind for which none are set.
    pub const NONE: KindRules = KindRules {
        inflight_max: None,
        leases_per_1000_sec: None,
        burst: None,
        priority: None,
        lease_duration_ms: None,
        ttl_ms: None,
        attempts_max: None,
        losses_max: None,
        max_run_ms: None,
        retry_delay_ms_base: None,
        retry_delay_ms_cap: None,
        on_exhausted: None,
        letters_max: None,
        on_letters_full: None,
        pause: None,
    };

    /// Whether a job of the kind may be leased, of which so many are under lease.
    pub(crate) fn gate(&self, leased: u64, bucket: Bucket, now: Timestamp) -> Gate {
        let limited = || self.closed_by_limit(leased).or_else(|| self.closed_by_rate(bucket, now));
        self.closed_by_pause().or_else(limited).unwrap_or(Gate::Open)
    }

    /// All for which no job of the kind may be leased: each has to be lifted.
    pub(crate) fn closed(&self, leased: u64, bucket: Bucket, now: Timestamp) -> impl Iterator<Item = Gate> {
        let gates = [self.closed_by_pause(), self.closed_by_limit(leased), self.closed_by_rate(bucket, now)];
        gates.into_iter().flatten()
    }

    fn closed_by_pause(&self) -> Option<Gate> {
        let pause = self.pause.as_ref().filter(|_| rules::closes_for_pause())?;
        Some(Gate::Paused(pause.until.unwrap_or(Timestamp::NEVER)))
    }

    fn closed_by_limit(&self, leased: u64) -> Option<Gate> {
        self.inflight_max.is_some_and(|max| rules::is_kind_full(leased, max)).then_some(Gate::Full)
    }

    fn closed_by_rate(&self, bucket: Bucket, now: Timestamp) -> Option<Gate> {
        let rate = self.leases_per_1000_sec?;
        let is_spent = bucket.leases(rate, self.burst_max(rate), now) == 0;
        is_spent.then(|| Gate::RateLimited(bucket.next_at(rate, now)))
    }

    /// How many more jobs of the kind may be leased now.
    pub(crate) fn room(&self, leased: u64, bucket: Bucket, now: Timestamp) -> u64 {
        if self.gate(leased, bucket, now) != Gate::Open {
            return 0;
        }
        let room = self.inflight_max.map_or(u64::MAX, |max| max.saturating_sub(leased));
        let rate = self.leases_per_1000_sec;
        room.min(rate.map_or(u64::MAX, |rate| bucket.leases(rate, self.burst_max(rate), now)))
    }

    /// The bucket after a lease.
    pub(crate) fn take(&self, bucket: Bucket, now: Timestamp) -> Bucket {
        match self.leases_per_1000_sec {
            Some(rate) => bucket.take(rate, self.burst_max(rate), now),
            None => Bucket { level: 0, at: now },
        }
    }

    fn burst_max(&self, rate: u64) -> u64 {
        self.burst.map_or(rate.div_ceil(1_000), u64::from).max(1)
    }
}

impl Gate {
    /// When it opens by itself; [`Timestamp::NEVER`] if it is open, or opens for another reason.
    pub(crate) fn opens_at(self) -> Timestamp {
        match self {
            Gate::Open | Gate::Full => Timestamp::NEVER,
            Gate::Paused(until) | Gate::RateLimited(until) => until,
        }
    }
}

impl Bucket {
    pub fn empty(now: Timestamp) -> Bucket {
        Bucket { level: 0, at: now }
    }

    fn level_at(self, rate: u64, burst: u64, now: Timestamp) -> u64 {
        let gained = now.since(self.at).get().saturating_mul(rate);
        self.level.saturating_add(gained).min(burst.saturating_mul(RATE_UNITS))
    }

    fn leases(self, rate: u64, burst: u64, now: Timestamp) -> u64 {
        self.level_at(rate, burst, now) / RATE_UNITS
    }

    fn take(self, rate: u64, burst: u64, now: Timestamp) -> Bucket {
        // The instant moves on even if the bucket was full: idle time is not credited twice.
        Bucket { level: rules::rate_left(self.level_at(rate, burst, now)), at: now.max(self.at) }
    }

    /// When it has enough for one lease.
    fn next_at(self, rate: u64, now: Timestamp) -> Timestamp {
        if rate == 0 {
            return Timestamp::NEVER;
        }
        let missing = RATE_UNITS.saturating_sub(self.level);
        (self.at + Millis::new(missing.div_ceil(rate))).max(now + Millis::new(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_bucket_begins_empty_fills_at_its_rate_and_never_holds_more_than_a_burst() {
        // Two a second, three at once.
        let rules = KindRules { leases_per_1000_sec: Some(2_000), burst: Some(3), ..KindRules::NONE };
        let empty = Bucket::empty(at(1_000));
        assert_eq!(rules.gate(0, empty, at(1_000)), Gate::RateLimited(at(1_500)));
        assert_eq!(rules.gate(0, empty, at(1_499)), Gate::RateLimited(at(1_500)));
        assert_eq!([1_499, 1_500, 1_999, 2_000, 9_000].map(|ms| rules.room(0, empty, at(ms))), [0, 1, 1, 2, 3]);
        let mut bucket = empty;
        for _ in 0..3 {
            assert_eq!(rules.gate(0, bucket, at(9_000)), Gate::Open);
            bucket = rules.take(bucket, at(9_000));
        }
        assert_eq!(rules.gate(0, bucket, at(9_000)), Gate::RateLimited(at(9_500)));
    }

    #[test]
    fn a_rate_below_one_a_second_is_exact_and_a_rate_of_zero_never_opens() {
        let slow = KindRules { leases_per_1000_sec: Some(3), ..KindRules::NONE };
        assert_eq!(slow.gate(0, Bucket::empty(at(0)), at(5)), Gate::RateLimited(at(333_334)));
        assert_eq!(slow.gate(0, Bucket::empty(at(0)), at(333_334)), Gate::Open);
        let none = KindRules { leases_per_1000_sec: Some(0), ..KindRules::NONE };
        assert_eq!(none.gate(0, Bucket::empty(at(0)), at(u64::MAX / 2)), Gate::RateLimited(Timestamp::NEVER));
    }

    #[test]
    fn a_pause_goes_before_a_limit_and_a_limit_counts_leases() {
        let pause = Some(Pause { reason: None, until: Some(at(9)) });
        let rules = KindRules { inflight_max: Some(2), pause, ..KindRules::NONE };
        assert_eq!(rules.gate(2, Bucket::default(), at(5)), Gate::Paused(at(9)));
        let rules = KindRules { pause: None, ..rules };
        let gates = [1, 2, 3].map(|leased| rules.gate(leased, Bucket::default(), at(5)));
        assert_eq!(gates, [Gate::Open, Gate::Full, Gate::Full]);
        assert_eq!([0, 1, 2, 3].map(|leased| rules.room(leased, Bucket::default(), at(5))), [2, 1, 0, 0]);
    }
}
