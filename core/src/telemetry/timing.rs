//! Timings: how long things take, since the start and in the last 60 seconds.
//! For the time since the start there are counts in buckets with fixed bounds, as Prometheus histograms have them: they
//! can be summed over hubs and over time. For the last 60 seconds there are quantiles, from a ring of one HDR histogram
//! per second (two significant digits: a quantile is at most 1 % above the true one; <https://hdrhistogram.org>). A
//! sample costs O(1); to read the quantiles sums the ring. A timing takes 60 to 900 kB, growing with its longest
//! sample.

use super::window::{WINDOW_SECS, bucket_index, second_of, seconds_of_window};
use crate::time::Timestamp;
use hdrhistogram::Histogram;

/// The unit of a timing, which determines the bounds of its buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Milliseconds, with bounds from 1 ms to a day: waits and runs of jobs.
    Millis,
    /// Microseconds, with bounds from 10 µs to 10 s: operations of a disk or a processor.
    Micros,
}

const MILLIS: &[u64] = &[
    1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000,
    21_600_000, 86_400_000,
];

const MICROS: &[u64] = &[
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// Longer samples are recorded as this: a year of milliseconds.
const SAMPLE_MAX: u64 = 366 * 86_400 * 1_000;

/// How long things took.
#[derive(Clone, Debug)]
pub struct Timing {
    unit: Unit,
    /// One for each bound, and one for samples above all of them.
    counts: Vec<u64>,
    sum: u64,
    seconds: Vec<Histogram<u32>>,
    latest_sec: u64,
}

/// The distribution of the last 60 seconds, in the timing's unit; all zero without a sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quantiles {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub max: u64,
}

/// Counts since the start.
#[derive(Clone, PartialEq, Debug)]
pub struct Totals {
    /// For each bound, in seconds: the samples up to it and above the bound before. The last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all samples, in seconds.
    pub sum_secs: f64,
    /// The number of samples.
    pub count: u64,
}

impl Unit {
    const fn bounds(self) -> &'static [u64] {
        match self {
            Unit::Millis => MILLIS,
            Unit::Micros => MICROS,
        }
    }

    const fn per_sec(self) -> f64 {
        match self {
            Unit::Millis => 1e3,
            Unit::Micros => 1e6,
        }
    }
}

impl Timing {
    pub fn new(unit: Unit) -> Self {
        Timing { unit, counts: vec![0; unit.bounds().len() + 1], sum: 0, seconds: Vec::new(), latest_sec: 0 }
    }

    /// Records a sample, in the timing's unit.
    pub fn record(&mut self, at: Timestamp, sample: u64) {
        let sample = sample.min(SAMPLE_MAX);
        self.counts[self.unit.bounds().partition_point(|bound| *bound < sample)] += 1;
        self.sum = self.sum.saturating_add(sample);
        let sec = second_of(at);
        if self.seconds.is_empty() {
            let empty = Histogram::new(2).expect("two significant digits are allowed");
            self.seconds = vec![empty; WINDOW_SECS as usize];
            self.latest_sec = sec;
        }
        for passed in self.latest_sec + 1..=sec.min(self.latest_sec + WINDOW_SECS) {
            self.seconds[bucket_index(passed)].reset();
        }
        self.latest_sec = self.latest_sec.max(sec);
        if sec + WINDOW_SECS > self.latest_sec {
            self.seconds[bucket_index(sec)].record(sample).expect("it grows to the largest sample");
        }
    }

    /// Quantiles of the last 60 seconds.
    pub fn quantiles(&self, now: Timestamp) -> Quantiles {
        if self.seconds.is_empty() {
            return Quantiles::default();
        }
        let mut all: Histogram<u32> = Histogram::new(2).expect("two significant digits are allowed");
        for sec in seconds_of_window(second_of(now), self.latest_sec) {
            let one = &self.seconds[bucket_index(sec)];
            if !one.is_empty() {
                all.add(one).expect("it grows to the largest sample");
            }
        }
        let at = |quantile| all.value_at_quantile(quantile);
        Quantiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: all.max() }
    }

    /// Totals since the start.
    pub fn totals(&self) -> Totals {
        let bounds = self.unit.bounds().iter().map(|bound| self.secs(*bound)).chain([f64::INFINITY]);
        let buckets = bounds.zip(&self.counts).map(|(bound, count)| (bound, *count)).collect();
        Totals { buckets, sum_secs: self.secs(self.sum), count: self.counts.iter().sum() }
    }

    pub fn unit(&self) -> Unit {
        self.unit
    }

    fn secs(&self, samples: u64) -> f64 {
        samples as f64 / self.unit.per_sec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1_000)
    }

    #[test]
    fn bounds_ascend() {
        for bounds in [MILLIS, MICROS] {
            assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{bounds:?}");
        }
    }

    #[test]
    fn a_sample_is_counted_below_the_first_bound_that_it_does_not_exceed() {
        let mut timing = Timing::new(Unit::Millis);
        for sample in [0, 1, 2, 5, 6, 86_400_000, 86_400_001, u64::MAX] {
            timing.record(at(1), sample);
        }
        let totals = timing.totals();
        assert_eq!(totals.count, 8);
        let counted: Vec<_> = totals.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(counted, [(0.001, 2), (0.005, 2), (0.01, 1), (86_400.0, 1), (f64::INFINITY, 2)]);
    }

    #[test]
    fn quantiles_forget_what_is_sixty_seconds_old_and_totals_do_not() {
        let mut timing = Timing::new(Unit::Millis);
        assert_eq!(timing.quantiles(at(0)), Quantiles::default());
        timing.record(at(100), 1_000);
        (0..99).for_each(|_| timing.record(at(130), 10));
        assert_eq!(timing.quantiles(at(159)), Quantiles { p50: 10, p90: 10, p99: 10, max: 1_003 });
        assert_eq!(timing.quantiles(at(160)), Quantiles { p50: 10, p90: 10, p99: 10, max: 10 });
        assert_eq!(timing.quantiles(at(190)), Quantiles::default());
        assert_eq!(timing.totals().count, 100);
        assert!((timing.totals().sum_secs - 1.99).abs() < 1e-9);
    }

    proptest! {
        /// Against a sorted list: at most a hundredth above, never below.
        #[test]
        fn quantiles_are_those_of_a_sorted_list(
            samples in prop::collection::vec((0u64..5, 0u64..10_000_000), 1..200),
        ) {
            let (mut timing, mut now, mut list) = (Timing::new(Unit::Micros), 1_000, Vec::new());
            for (step, sample) in samples {
                now += step;
                timing.record(at(now), sample);
                list.push((now, sample));
            }
            let mut recent: Vec<_> = list.iter().filter(|(sec, _)| sec + WINDOW_SECS > now).map(|(_, s)| *s).collect();
            recent.sort_unstable();
            let quantiles = timing.quantiles(at(now));
            for (quantile, is) in [(0.5, quantiles.p50), (0.9, quantiles.p90), (0.99, quantiles.p99), (1.0, quantiles.max)] {
                let rank = ((quantile * recent.len() as f64).ceil() as usize).max(1);
                let expected = recent[rank - 1];
                prop_assert!(is >= expected && is as f64 <= expected as f64 * 1.01, "{quantile}: {is}, not {expected}");
            }
        }
    }
}
