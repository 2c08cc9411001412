//! Room: when there will be room for what was refused, estimated from how fast work ended in the last minute.
//!
//! What a client is told is ephemeral: it is computed from [telemetry](crate::telemetry), no outcome holds it and no
//! decision reads it. It is never below the estimate, and spread by a keyed hash, so that those refused together do not
//! return together. It is no promise of a place: others may take it.

use crate::hub::Hub;
use crate::ids::HubKey;
use crate::ledger::Account;
use crate::limits::{DEFER_MS_MAX, DEFER_MS_MIN, RETRY_AFTER_SECS_MAX};
use crate::name::Name;
use crate::name_set::NameSet;
use crate::outcome::Refusal;
use crate::queue::kind_rules::Gate;
use crate::queue::tally::Status;
use crate::registry::node::Node;
use crate::telemetry::window::WINDOW_SECS;
use crate::telemetry::{Counter, Telemetry};
use crate::time::{Millis, Timestamp};
use crate::zone::Zone;

/// How fast something becomes free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Drain {
    /// So many in so long.
    Of { count: u64, over: Millis },
    /// None for so long, which is less than the window.
    NoneFor(Millis),
    /// None in the whole window.
    Stopped,
}

impl Hub {
    /// How long the client of a refused command should wait before it tries again: whole seconds, 1 to
    /// [`RETRY_AFTER_SECS_MAX`]. `None` if waiting does not help. `number` spreads those that are refused together: the
    /// caller gives each refusal another one.
    pub fn retry_after(&self, now: Timestamp, refusal: &Refusal, number: u64) -> Option<Millis> {
        refusal.full()?;
        let now = now.max(self.now());
        let counts = self.counts();
        let until = match *refusal {
            Refusal::QueueFull { depth, depth_max } => {
                let drain = of_waiting(self.telemetry(), now);
                drain.until((depth + 1).saturating_sub(depth_max))
            }
            Refusal::QueueBytesFull { over, bytes, .. } => {
                let jobs = (counts.waiting() + counts.leased).max(1);
                of_jobs(self.telemetry(), now).until(over.div_ceil((bytes / jobs).max(1)))
            }
            // Which of the jobs are the last of their kind or class is not known: all that are held have to end.
            Refusal::SharedBytesFull { .. } | Refusal::ClassesFull { .. } => {
                of_jobs(self.telemetry(), now).until(counts.waiting() + counts.leased)
            }
            // A letter or a job that may become one leaves when its job ends otherwise; letters themselves leave only by an
            // operator's act.
            Refusal::LettersFull { letters, letters_max, ref kind } => {
                let places = (letters + 1).saturating_sub(letters_max);
                let (unfinished, drain) = match kind {
                    None => (counts.waiting() + counts.leased, of_jobs_without_letters(self.telemetry(), now)),
                    Some(kind) => (self.unfinished_of(kind), of_jobs_without_letters_of(self.telemetry(), now, kind)),
                };
                if places <= unfinished { drain.until(places) } else { None }
            }
            Refusal::LetterBytesFull { bytes, bytes_max } => {
                let all = (counts.waiting() + counts.leased + counts.dead).max(1);
                let over = bytes.saturating_sub(bytes_max).max(1);
                of_jobs_without_letters(self.telemetry(), now).until(over.div_ceil((bytes / all).max(1)))
            }
            Refusal::KeysFull { .. } => self.dedup.room_at(self.limits()).map(|at| at.since(now)),
            // A node may be silent for as long before it makes room.
            _ => None,
        };
        Some(spread_secs(self.key(), number, until))
    }

    fn unfinished_of(&self, kind: &Name) -> u64 {
        let Some((_, tally)) = self.queue().kind_tally(kind) else { return 0 };
        [Status::Scheduled, Status::Queued, Status::Leased].map(|status| tally.get(status)).iter().sum()
    }

    /// How long a node should wait before its next pull, whose pull got no jobs because too many are under lease. As
    /// [`Hub::retry_after`], [`DEFER_MS_MIN`] to [`DEFER_MS_MAX`].
    pub fn defer_for(&self, now: Timestamp, node: &Name, number: u64) -> Millis {
        let now = now.max(self.now());
        let (leased, limits) = (self.counts().leased, self.limits());
        let node = self.registry().by_name(node);
        let in_zone = self.queue().leases_in_zone(node.map_or(&Zone::DEFAULT, Node::zone));
        let at_node = node.map_or(0, Node::leases);
        // At a zone's limit only its own leases make room, at a node's only the node's: its share of all.
        let held = match () {
            () if leased >= limits.inflight_max => leased,
            () if in_zone >= limits.leases_per_zone_max => in_zone,
            () if at_node < limits.leases_per_node_max => return self.defer_for_bytes(now, number),
            () => at_node,
        };
        self.defer_until(now, held, number)
    }

    /// Until as many leases have ended as take the bytes of one job that is as large as they are on average.
    fn defer_for_bytes(&self, now: Timestamp, number: u64) -> Millis {
        let bytes = self.ledger().get(Account::Leased);
        let one = (bytes / self.counts().leased.max(1)).max(1);
        let over = (bytes + one).saturating_sub(self.limits().inflight_bytes_max);
        spread_ms(self.key(), number, of_leases(self.telemetry(), now).until(over.div_ceil(one)))
    }

    /// How long a node should wait before its next pull, whose pull named none but kinds that are closed; `None` if one of
    /// them is open, or it named none.
    pub fn defer_for_kinds(&self, now: Timestamp, kinds: &NameSet, number: u64) -> Option<Millis> {
        let now = now.max(self.now());
        let waits = kinds.iter().map(|kind| match self.queue().kind_gate(now, kind) {
            Gate::Open => None,
            Gate::Full => Some(self.defer_until(now, self.queue().leases_of_kind(kind), number)),
            Gate::Paused(until) | Gate::RateLimited(until) => {
                let until = (until != Timestamp::NEVER).then(|| until.since(now));
                Some(spread_ms(self.key(), number, until))
            }
        });
        waits.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// Until one of `held` leases ends, as their share of all.
    fn defer_until(&self, now: Timestamp, held: u64, number: u64) -> Millis {
        let needed = self.counts().leased.div_ceil(held.max(1));
        spread_ms(self.key(), number, of_leases(self.telemetry(), now).until(needed))
    }

    /// How long a node should wait before its next pull, whose long poll found no place: polls end within a minute, and
    /// one of many ends soon.
    pub fn defer_unparked(&self, number: u64) -> Millis {
        spread_ms(self.key(), number, Some(Millis::from_secs(1)))
    }
}

impl Drain {
    fn until(self, needed: u64) -> Option<Millis> {
        match self {
            Drain::Of { count, over } => {
                let ms = u128::from(over.get()) * u128::from(needed.max(1));
                Some(Millis::new(u64::try_from(ms.div_ceil(u128::from(count))).unwrap_or(u64::MAX)))
            }
            // What has not happened for some time takes about as long again.
            Drain::NoneFor(time) => Some(time),
            Drain::Stopped => None,
        }
    }

    /// `count` events in the window; `oldest_at` is when the first of them was, `waits_since` since when one could be.
    fn new(now: Timestamp, count: u64, oldest_at: Option<Timestamp>, waits_since: Timestamp) -> Drain {
        let window = Millis::from_secs(WINDOW_SECS);
        match oldest_at {
            Some(oldest_at) if count > 0 => {
                let over = now.since(oldest_at).max(Millis::from_secs(1)).min(window);
                Drain::Of { count, over }
            }
            _ if now.since(waits_since) < window => Drain::NoneFor(now.since(waits_since)),
            _ => Drain::Stopped,
        }
    }
}

/// How long until so many ready jobs are leased, at the rate of the window; `None` if none was.
pub(crate) fn time_to_lease(telemetry: &Telemetry, now: Timestamp, jobs: u64) -> Option<Millis> {
    let count = telemetry.last_minute(now, Counter::Leased);
    let drain = Drain::new(now, count, oldest(telemetry, now, &[Counter::Leased]), now);
    if count == 0 { None } else { drain.until(jobs) }
}

/// Jobs that stopped waiting: each lease is one, and each end of a job without an attempt; an attempt after which its
/// job waits again takes one back.
fn of_waiting(telemetry: &Telemetry, now: Timestamp) -> Drain {
    let sum = |counter| telemetry.last_minute(now, counter);
    let left = sum(Counter::Leased) + ends(telemetry, now);
    let count = left.saturating_sub(sum(Counter::AttemptEnded));
    let oldest_at =
        oldest(telemetry, now, &[Counter::Leased, Counter::Completed, Counter::Failed, Counter::EndedOtherwise]);
    Drain::new(now, count, oldest_at, telemetry.waits_since())
}

/// Jobs that ended.
fn of_jobs(telemetry: &Telemetry, now: Timestamp) -> Drain {
    let oldest_at = oldest(telemetry, now, &[Counter::Completed, Counter::Failed, Counter::EndedOtherwise]);
    Drain::new(now, ends(telemetry, now), oldest_at, telemetry.waits_since())
}

/// Jobs that ended, but for those that failed: they are letters, or may be.
fn of_jobs_without_letters(telemetry: &Telemetry, now: Timestamp) -> Drain {
    let counters = [Counter::Completed, Counter::EndedOtherwise];
    let count = counters.map(|counter| telemetry.last_minute(now, counter)).iter().sum();
    Drain::new(now, count, oldest(telemetry, now, &counters), telemetry.waits_since())
}

/// The same of one kind; of all, if there are so many kinds that this one has no counts of its own.
fn of_jobs_without_letters_of(telemetry: &Telemetry, now: Timestamp, kind: &Name) -> Drain {
    match telemetry.kinds().without_letter(now, kind) {
        Some((count, oldest_at, counted_at)) => Drain::new(now, count, oldest_at, counted_at),
        None => of_jobs_without_letters(telemetry, now),
    }
}

/// Leases that ended.
fn of_leases(telemetry: &Telemetry, now: Timestamp) -> Drain {
    let count = telemetry.last_minute(now, Counter::AttemptEnded);
    Drain::new(now, count, oldest(telemetry, now, &[Counter::AttemptEnded]), telemetry.leased_at())
}

fn ends(telemetry: &Telemetry, now: Timestamp) -> u64 {
    [Counter::Completed, Counter::Failed, Counter::EndedOtherwise]
        .map(|counter| telemetry.last_minute(now, counter))
        .iter()
        .sum()
}

fn oldest(telemetry: &Telemetry, now: Timestamp, counters: &[Counter]) -> Option<Timestamp> {
    counters.iter().filter_map(|counter| telemetry.oldest_of_minute(now, *counter)).min()
}

/// Whole seconds, not below the estimate and up to half as long again; towards the longest wait, and where there is no
/// estimate, below that by up to half.
fn spread_secs(key: &HubKey, number: u64, until: Option<Millis>) -> Millis {
    let estimate = until.map_or(u64::MAX, |until| until.as_secs_ceil().max(1));
    Millis::from_secs(spread(key, number, estimate, RETRY_AFTER_SECS_MAX, 1))
}

fn spread_ms(key: &HubKey, number: u64, until: Option<Millis>) -> Millis {
    let estimate = until.map_or(u64::MAX, |until| until.get().max(DEFER_MS_MIN.get()));
    Millis::new(spread(key, number, estimate, DEFER_MS_MAX.get(), 0))
}

fn spread(key: &HubKey, number: u64, estimate: u64, max: u64, least: u64) -> u64 {
    if estimate >= max {
        return max - key.spread(number, max / 2 + 1);
    }
    let width = (estimate / 2).max(least).min(max - estimate);
    estimate + key.spread(number, width + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const KEY: HubKey = HubKey::new([3; 16]);

    fn secs(estimate: Option<u64>) -> BTreeSet<u64> {
        let until = estimate.map(Millis::new);
        (0..2_000).map(|number| spread_secs(&KEY, number, until).get()).collect()
    }

    #[test]
    fn a_wait_is_spread_upward_from_the_estimate_and_downward_from_the_longest() {
        for (estimate_ms, least, most) in [
            (Some(0), 1, 2),
            (Some(1_000), 1, 2),
            (Some(1_001), 2, 3),
            (Some(20_000), 20, 30),
            (Some(250_000), 250, 300),
            (Some(299_000), 299, 300),
            (Some(300_000), 150, 300),
            (Some(u64::MAX), 150, 300),
            (None, 150, 300),
        ] {
            let expected: BTreeSet<_> = (least..=most).map(|secs| secs * 1_000).collect();
            assert_eq!(secs(estimate_ms), expected, "{estimate_ms:?} ms");
        }
    }

    #[test]
    fn a_deferral_is_a_tenth_of_a_second_to_ten_seconds() {
        for (estimate_ms, least, most) in
            [(Some(0), 100, 150), (Some(100), 100, 150), (Some(4_000), 4_000, 6_000), (None, 5_000, 10_000)]
        {
            let all: Vec<_> =
                (0..5_000).map(|number| spread_ms(&KEY, number, estimate_ms.map(Millis::new)).get()).collect();
            let (first, last) = (all.iter().min().copied(), all.iter().max().copied());
            assert!(first >= Some(least) && last <= Some(most), "{estimate_ms:?}: {first:?} to {last:?}");
            assert!(
                last.zip(first).is_some_and(|(last, first)| (last - first) * 10 > (most - least) * 9),
                "{estimate_ms:?}"
            );
        }
    }

    #[test]
    fn room_comes_at_the_rate_of_the_window() {
        let at = Timestamp::from_millis;
        let drain = Drain::new(at(100_000), 20, Some(at(90_000)), at(0));
        assert_eq!(drain.until(1), Some(Millis::new(500)));
        assert_eq!(drain.until(7), Some(Millis::new(3_500)));
        assert_eq!(Drain::new(at(100_000), 1, Some(at(99_999)), at(0)).until(1), Some(Millis::new(1_000)));
        assert_eq!(Drain::new(at(100_000), 0, None, at(93_000)).until(9), Some(Millis::new(7_000)));
        assert_eq!(Drain::new(at(100_000), 0, None, at(40_001)).until(9), Some(Millis::new(59_999)));
        assert_eq!(Drain::new(at(100_000), 0, None, at(40_000)).until(1), None);
        assert_eq!(Drain::Of { count: 1, over: Millis::from_secs(60) }.until(u64::MAX), Some(Millis::MAX));
    }
}
