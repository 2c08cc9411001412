//! Windows: how many events there were in the last 60 seconds.
//!
//! A ring of one bucket a second. An event belongs to the whole second in which it happened, and the window is the
//! second of now with the 59 before it: exact to a second's edge, whatever the order in which events arrive. An event
//! costs O(1) (a bucket is cleared when its second comes round again), a look 60 additions; a window takes 256 bytes.

use crate::time::Timestamp;

/// The window's length, in seconds and buckets.
pub const WINDOW_SECS: u64 = 60;

const BUCKETS: usize = WINDOW_SECS as usize;

/// Counts of the last 60 seconds.
#[derive(Clone, Debug)]
pub struct Window {
    buckets: [u32; BUCKETS],
    /// The latest second that a bucket stands for; the buckets stand for it and the 59 before it.
    latest_sec: u64,
}

impl Default for Window {
    fn default() -> Self {
        Window { buckets: [0; BUCKETS], latest_sec: 0 }
    }
}

impl Window {
    /// `count` events happened. One that is older than the window is not counted.
    pub fn add(&mut self, at: Timestamp, count: u32) {
        let sec = second(at);
        if sec > self.latest_sec {
            for passed in self.latest_sec + 1..=sec.min(self.latest_sec + WINDOW_SECS) {
                self.buckets[place(passed)] = 0;
            }
            self.latest_sec = sec;
        }
        if sec + WINDOW_SECS > self.latest_sec {
            let bucket = &mut self.buckets[place(sec)];
            *bucket = bucket.saturating_add(count);
        }
    }

    /// How many there were up to `now`.
    pub fn sum(&self, now: Timestamp) -> u64 {
        seconds(second(now), self.latest_sec).map(|sec| u64::from(self.buckets[place(sec)])).sum()
    }
}

/// The whole second of an instant.
pub(super) fn second(at: Timestamp) -> u64 {
    at.as_millis() / 1_000
}

/// Where a second's bucket is.
pub(super) fn place(sec: u64) -> usize {
    (sec % WINDOW_SECS) as usize
}

/// The seconds of the window at `now_sec` for which a ring whose latest second is `latest_sec` has buckets.
pub(super) fn seconds(now_sec: u64, latest_sec: u64) -> std::ops::RangeInclusive<u64> {
    // A look that lies before the latest event is a look at that event's instant: time does not go back.
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
        /// Beside a list of all events.
        #[test]
        fn it_counts_as_a_list_does(
            events in prop::collection::vec((0u64..40_000, 0u64..3), 0..200),
            looks in prop::collection::vec(0u64..200_000, 1..20),
        ) {
            let (mut window, mut list, mut now) = (Window::default(), Vec::new(), 0u64);
            for (step, late) in events {
                now += step;
                let event = now.saturating_sub(late * 25_000);
                window.add(at(event), 1);
                list.push((now, event));
            }
            for look in looks {
                let now = now + look;
                // What was too old when it came is not counted; nothing that came later could make it younger.
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
