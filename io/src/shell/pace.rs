//! Pace: whether the next batch is committed in the loop's own thread or in the journal's.
//!
//! To hand a batch over costs two wake-ups of a thread, which a fast disk does not repay: it is done sooner than the
//! other thread begins. A slow disk repays them many times, since the loop fills the next batch meanwhile. A moving mean
//! of what commits took tells them apart; one that took very long moves it far enough at once.

use std::time::Duration;

/// A disk whose commits take less than this in the mean is fast. Measured: see docs/benchmarks.md.
const FAST_US: u64 = 400;

/// A disk that was fast stays so until its commits take longer than this in the mean.
const SLOW_US: u64 = 700;

/// Each commit counts for this share of the mean.
const SHARE: u64 = 8;

/// A commit counts for no more than this: after one pause of the disk the next few batches are handed over, not
/// thousands.
const COUNTED_US_MAX: u64 = 20_000;

/// A larger batch is always handed over: to write it takes long, whatever a sync takes.
const BYTES_MAX: usize = 256 << 10;

/// How long commits take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    mean_us: u64,
    is_fast: bool,
}

impl Pace {
    /// Nothing is known of the disk: it is taken for slow until it shows.
    pub const fn unknown() -> Self {
        Pace { mean_us: SLOW_US, is_fast: false }
    }

    /// Notes what a commit of so many bytes took.
    pub fn note(&mut self, bytes: usize, took: Duration) {
        if bytes > BYTES_MAX {
            return;
        }
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(COUNTED_US_MAX);
        self.mean_us = (self.mean_us * (SHARE - 1) + took_us) / SHARE;
        self.is_fast = self.mean_us < if self.is_fast { SLOW_US } else { FAST_US };
    }

    /// Whether the loop commits a batch of so many bytes itself.
    pub fn commits_here(&self, bytes: usize) -> bool {
        self.is_fast && bytes <= BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(commits: &[(u64, u32)]) -> Pace {
        let mut pace = Pace::unknown();
        for (took_us, times) in commits {
            (0..*times).for_each(|_| pace.note(1_000, Duration::from_micros(*took_us)));
        }
        pace
    }

    #[test]
    fn a_disk_is_slow_until_it_has_shown_that_it_is_fast() {
        assert!(!Pace::unknown().commits_here(1));
        assert!(!after(&[(50, 1)]).commits_here(1));
        assert!(after(&[(50, 20)]).commits_here(1));
        assert!(!after(&[(FAST_US, 1_000)]).commits_here(1));
    }

    #[test]
    fn between_the_two_bounds_it_stays_what_it_was() {
        let between = (FAST_US + SLOW_US) / 2;
        assert!(after(&[(50, 20), (between, 1_000)]).commits_here(1));
        assert!(!after(&[(50, 20), (SLOW_US * 2, 100), (between, 1_000)]).commits_here(1));
    }

    #[test]
    fn a_commit_that_took_very_long_hands_over_the_next_batches_and_is_forgotten_soon() {
        let paused = after(&[(50, 100), (60_000_000, 1)]);
        assert!(!paused.commits_here(1));
        assert!(after(&[(50, 100), (60_000_000, 1), (50, 40)]).commits_here(1));
    }

    #[test]
    fn a_large_batch_is_handed_over_and_says_nothing_of_the_disk() {
        let mut pace = after(&[(50, 20)]);
        assert!(pace.commits_here(BYTES_MAX) && !pace.commits_here(BYTES_MAX + 1));
        (0..100).for_each(|_| pace.note(BYTES_MAX + 1, Duration::from_secs(1)));
        assert!(pace.commits_here(1));
    }
}
