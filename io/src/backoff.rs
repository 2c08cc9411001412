//! Backoff: how long a client waits before it retries.
//!
//! Each wait is drawn from the upper half of a span that doubles up to a cap, so that a thousand workers that lost
//! their hub at one instant do not reconnect at one instant.

use std::time::Duration;

/// The first span, short: a hub that restarts at once is reached again at once.
const SPAN_MIN: Duration = Duration::from_millis(200);

/// The longest span: after an outage, all workers reach the hub within this time.
const SPAN_MAX: Duration = Duration::from_secs(10);

/// The waits between retries.
#[derive(Clone, Debug)]
pub struct Backoff {
    span: Duration,
}

impl Default for Backoff {
    /// Starts with the first span.
    fn default() -> Self {
        Backoff { span: SPAN_MIN }
    }
}

impl Backoff {
    /// How long to wait now; at least as long as the hub asked for.
    pub fn next_wait(&mut self, asked: Option<Duration>) -> Duration {
        let half = self.span / 2;
        let wait = half + half.mul_f64(fraction());
        self.span = (self.span * 2).min(SPAN_MAX);
        asked.map_or(wait, |asked| asked.max(wait))
    }

    /// The last try succeeded.
    pub fn reset(&mut self) {
        self.span = SPAN_MIN;
    }
}

/// A random number from 0 to 1; 1, the longest wait, if the system provides no randomness.
fn fraction() -> f64 {
    getrandom::u32().map_or(1.0, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        let mut span = SPAN_MIN;
        for _ in 0..12 {
            let wait = backoff.next_wait(None);
            assert!(wait >= span / 2 && wait <= span, "{wait:?} of {span:?}");
            span = (span * 2).min(SPAN_MAX);
        }
        assert_eq!(span, SPAN_MAX);
        backoff.reset();
        assert!(backoff.next_wait(None) <= SPAN_MIN);
    }

    #[test]
    fn the_wait_that_the_hub_asks_for_is_a_lower_bound() {
        assert_eq!(Backoff::default().next_wait(Some(Duration::from_secs(30))), Duration::from_secs(30));
        assert!(Backoff::default().next_wait(Some(Duration::ZERO)) >= SPAN_MIN / 2);
    }
}
