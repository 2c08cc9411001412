//! Windows: the number of events in the last 60 seconds.
//!
//! A ring with one bucket per second. An event is counted in the whole second in which it happened, and the window is
//! the current second with the 59 before it: exact at the resolution of a second, in whatever order events arrive. An
//! event costs O(1) (a bucket is cleared when it is reused for a new second), a sum 60 additions; a window takes 256
//! bytes.

use crate::time::Timestamp;

/// The window's length, in seconds and buckets.
pub const WINDOW_SECS: u64 = 60;

const BUCKETS: usize = WINDOW_SECS as usize;

/// Counts of the last 60 seconds.
#[derive(Clone, Debug)]
pub struct Window {
    buckets: [u32; BUCKETS],
    /// The latest second that has a bucket; the other buckets are of the 59 before it.
    latest_sec: u64,
}

impl Default for Window {
    fn default() -> Self {
        Window { buckets: [0; BUCKETS], latest_sec: 0 }
    }
}

impl Window {
    /// Counts `count` events at `at`; does nothing if they are older than the window.
    pub fn add(&mut self, at: Timestamp, count: u32) {
        // Most events are of the latest second, which is known without a division.
        let is_latest = at.as_millis().wrapping_sub(self.latest_sec * 1_000) < 1_000;
        let sec = if is_latest { self.latest_sec } else { second_of(at) };
        if sec > self.latest_sec {
            for passed in self.latest_sec + 1..=sec.min(self.latest_sec + WINDOW_SECS) {
                self.buckets[bucket_index(passed)] = 0;
            }
            self.latest_sec = sec;
        }
        if sec + WINDOW_SECS > self.latest_sec {
            let bucket = &mut self.buckets[bucket_index(sec)];
            *bucket = bucket.saturating_add(count);
        }
    }

    /// The count of the window that ends at `now`.
    pub fn sum(&self, now: Timestamp) -> u64 {
        seconds_of_window(second_of(now), self.latest_sec).map(|sec| u64::from(self.buckets[bucket_index(sec)])).sum()
    }

    /// When the oldest second with events began that is in the window which ends at `now`.
    pub fn oldest_at(&self, now: Timestamp) -> Option<Timestamp> {
        let mut secs = seconds_of_window(second_of(now), self.latest_sec);
        secs.find(|sec| self.buckets[bucket_index(*sec)] > 0).map(|sec| Timestamp::from_millis(sec * 1_000))
    }
}

/// The whole second of an instant.
pub(super) fn second_of(at: Timestamp) -> u64 {
    at.as_millis() / 1_000
}

/// The index of a second's bucket.
pub(super) fn bucket_index(sec: u64) -> usize {
    (sec % WINDOW_SECS) as usize
}

/// The seconds of the window at `now_sec` for which a ring whose latest second is `latest_sec` has buckets.
pub(super) fn seconds_of_window(now_sec: u64, latest_sec: u64) -> std::ops::RangeInclusive<u64> {
    // Time does not go back: a `now` before the latest event counts as the instant of that event.
    let now_sec = now_sec.max(latest_sec);
    (now_sec + 1).saturating_sub(WINDOW_SECS)..=latest_sec
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn an_event_is_counted_until_its_second_is_sixty_seconds_old() {
        let mut window = Window::default();
        window.add(at(1_999), 1);
        for (now, sum) in [(1_999, 1), (2_000, 1), (60_999, 1), (61_000, 0), (10_000_000, 0)] {
            assert_eq!(window.sum(at(now)), sum, "at {now} ms");
        }
    }

    #[test]
    fn an_event_that_arrives_late_is_counted_in_its_own_second_and_one_older_than_the_window_is_not() {
        let mut window = Window::default();
        window.add(at(100_000), 1);
        window.add(at(41_000), 2);
        window.add(at(40_999), 4);
        assert_eq!(window.sum(at(100_000)), 3);
        assert_eq!(window.sum(at(101_000)), 1);
    }

    #[test]
    fn a_bucket_does_not_wrap() {
        let mut window = Window::default();
        window.add(at(0), u32::MAX);
        window.add(at(0), 1);
        assert_eq!(window.sum(at(0)), u64::from(u32::MAX));
    }

    proptest! {
        /// Against a list of all events.
        #[test]
        fn a_sum_is_that_of_a_list_of_events(
            events in prop::collection::vec((0u64..40_000, 0u64..3), 0..200),
            reads in prop::collection::vec(0u64..200_000, 1..20),
        ) {
            let (mut window, mut list, mut now) = (Window::default(), Vec::new(), 0u64);
            for (step, late) in events {
                now += step;
                let event = now.saturating_sub(late * 25_000);
                window.add(at(event), 1);
                list.push((now, event));
            }
            for read in reads {
                let now = now + read;
                // An event that was older than the window when it was added is never counted.
                let mut newest = 0;
                let expected = list.iter().filter(|(_, event)| {
                    newest = newest.max(event / 1_000);
                    event / 1_000 + WINDOW_SECS > newest && event / 1_000 + WINDOW_SECS > now / 1_000
                });
                prop_assert_eq!(window.sum(at(now)), expected.count() as u64);
            }
        }
    }
}
