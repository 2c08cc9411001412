//! Latencies: histograms of how long clients waited, for each call and for whole lifecycles.

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::time::Duration;

/// A call of the lifecycle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// A job is submitted.
    Submit,
    /// A job is leased.
    Pull,
    /// A result is submitted.
    Result,
}

/// The histograms.
pub struct Latencies {
    calls: [Histogram<u64>; 3],
    lifecycle: Histogram<u64>,
}

/// Latencies are counted in buckets of a thousandth.
const DIGITS: u8 = 3;
/// A call that takes longer counts as this long.
const LATENCY_MAX: Duration = Duration::from_secs(60);

impl Default for Latencies {
    fn default() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(100, LATENCY_MAX.as_nanos() as u64, DIGITS).expect("bounds and digits are valid")
        };
        Latencies { calls: [histogram(), histogram(), histogram()], lifecycle: histogram() }
    }
}

impl Latencies {
    /// Records the latency of a call.
    pub fn call(&mut self, call: Call, time: Duration) {
        self.calls[call as usize].saturating_record(time.as_nanos() as u64);
    }

    /// Records the duration of a lifecycle.
    pub fn lifecycle(&mut self, time: Duration) {
        self.lifecycle.saturating_record(time.as_nanos() as u64);
    }

    /// How many lifecycles were recorded.
    pub fn lifecycles(&self) -> u64 {
        self.lifecycle.len()
    }

    /// The duration that a share of the lifecycles (0 to 1) took at most.
    pub fn lifecycle_quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.lifecycle.value_at_quantile(share))
    }

    /// The latencies, a row for each call and for lifecycles: name, p50, p99, longest.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |(name, histogram): (&str, &Histogram<u64>)| {
            let quantile = |share| milliseconds(histogram.value_at_quantile(share));
            vec![name.to_owned(), quantile(0.5), quantile(0.99), milliseconds(histogram.max())]
        };
        self.named().map(row).collect()
    }

    /// The same in milliseconds.
    pub fn to_json(&self) -> Value {
        let member = |(name, histogram): (&str, &Histogram<u64>)| {
            let ms = |nanos: u64| nanos as f64 / 1e6;
            let quantile = |share| ms(histogram.value_at_quantile(share));
            (name.to_owned(), json!({"p50_ms": quantile(0.5), "p99_ms": quantile(0.99), "max_ms": ms(histogram.max())}))
        };
        Value::Object(self.named().map(member).collect())
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        ["submit", "pull", "result"].into_iter().zip(&self.calls).chain([("lifecycle", &self.lifecycle)])
    }
}

fn milliseconds(nanos: u64) -> String {
    format!("{:.2} ms", nanos as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_what_that_share_took_at_most() {
        let mut latencies = Latencies::default();
        (1..=100).for_each(|ms| latencies.lifecycle(Duration::from_millis(ms)));
        for (share, ms) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let measured = latencies.lifecycle_quantile(share).as_secs_f64() * 1e3;
            assert!((measured / ms - 1.0).abs() < 0.001, "{share}: {measured} ms");
        }
        assert_eq!(latencies.lifecycles(), 100);
    }

    #[test]
    fn calls_are_counted_apart() {
        let mut latencies = Latencies::default();
        latencies.call(Call::Pull, Duration::from_millis(4));
        latencies.call(Call::Result, Duration::from_millis(8));
        let value = latencies.to_json();
        let p50 = |name: &str| value[name]["p50_ms"].as_f64().expect("a number").round();
        assert_eq!([p50("submit"), p50("pull"), p50("result")], [0.0, 4.0, 8.0]);
    }

    #[test]
    fn what_takes_longer_than_the_longest_counts_as_that() {
        let mut latencies = Latencies::default();
        latencies.lifecycle(LATENCY_MAX * 10);
        assert!(latencies.lifecycle_quantile(1.0) >= LATENCY_MAX);
    }
}
