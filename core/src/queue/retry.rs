//! Retry delays: exponential, capped, and spread so that jobs that failed together are not retried together.
//!
//! `d = min(cap, base * 2^(attempt - 1))`, then half of it fixed and half from a keyed hash of job and attempt ("equal
//! jitter": a retry is early by at most half, and all replays with the same key agree).

use crate::ids::{HubKey, JobSeq};
use crate::limits::Limits;
use crate::rules;
use crate::time::Millis;

/// How long after the end of attempt `attempt` (from 1) the next one may start, which is the `count`-th that counts (from
/// 1): losses and failures are counted apart.
pub(super) fn delay(key: &HubKey, (base, cap): (Millis, Millis), (seq, attempt): (JobSeq, u32), count: u32) -> Millis {
    let factor = 1u64.checked_shl(count.saturating_sub(1)).unwrap_or(u64::MAX);
    let full = base.get().saturating_mul(factor).min(cap.get());
    let half = full / 2;
    Millis::new(full - half + key.retry_jitter(seq, attempt, half + 1))
}

/// The delay that a node named, up to the limit, and up to a tenth more: jobs that were refused together by a server that
/// asked for time do not return to it together, and none returns early.
pub(super) fn named_delay(key: &HubKey, limits: &Limits, seq: JobSeq, attempt: u32, named: Millis) -> Millis {
    let named = rules::honoured_delay(named, limits.retry_after_ms_cap).get();
    Millis::new(named.saturating_add(key.retry_jitter(seq, attempt, named / 10 + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_lies_between_half_and_the_whole_of_the_capped_double() {
        let key = HubKey::new([1; 16]);
        let limits = Limits::default();
        let table = [(1, 500), (2, 1_000), (3, 2_000), (5, 8_000), (6, 15_000), (7, 15_000), (u32::MAX, 15_000)];
        for (attempt, full) in table {
            let mut seen = std::collections::BTreeSet::new();
            for seq in 1..200 {
                let bounds = (limits.retry_delay_ms_base, limits.retry_delay_ms_cap);
                let ms = delay(&key, bounds, (JobSeq::new(seq), attempt), attempt).get();
                assert!((full / 2..=full).contains(&ms), "attempt {attempt}: {ms} of {full}");
                seen.insert(ms);
            }
            assert!(seen.len() > 100, "the delays are spread");
        }
    }

    #[test]
    fn a_boundless_cap_is_reached_from_the_smallest_base() {
        let one = Millis::new(1);
        let delay_of = |attempt| delay(&HubKey::new([1; 16]), (one, Millis::MAX), (JobSeq::new(1), attempt), attempt);
        assert!((1 << 62..=1 << 63).contains(&delay_of(64).get()));
        assert!(delay_of(65).get() >= 1 << 63 && delay_of(100).get() >= 1 << 63);
    }

    #[test]
    fn a_named_delay_is_never_shortened_but_to_its_limit() {
        let (key, limits) = (HubKey::new([1; 16]), Limits::default());
        let mut seen = std::collections::BTreeSet::new();
        for seq in 1..200 {
            let delay_of = |ms| named_delay(&key, &limits, JobSeq::new(seq), 1, Millis::new(ms)).get();
            assert!((60_000..=66_000).contains(&delay_of(60_000)));
            assert!((3_600_000..=3_960_000).contains(&delay_of(u64::MAX)));
            assert_eq!(delay_of(0), 0);
            seen.insert(delay_of(60_000));
        }
        assert!(seen.len() > 100, "the delays are spread");
    }
}
