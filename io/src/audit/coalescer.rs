//! The coalescer: a burst of one kind of event becomes one line per 10 s with a count, so that neither an attacker nor
//! a busy hour fills the disk.
//!
//! Some kinds repeat by nature: the first event of a window is written as it is, the rest as one line at the window's
//! end. Of all other kinds, whose single events are evidence, the first hundred of a window are written as they are.

use super::Event;
use sheratan_core::{Calendar, Millis, Timestamp};
use std::collections::BTreeMap;

/// How long events of a kind are collected.
pub const WINDOW: Millis = Millis::from_secs(10);

/// Kinds for which one line a window is enough.
const REPEATING: [&str; 6] =
    ["BACKPRESSURE_DROP", "OVERLOADED", "INFLIGHT_SATURATED", "IDEMPOTENCY_HIT", "LEASE_REAP", "RETRY_SCHEDULED"];

/// Lines of any other kind in one window.
const SINGLE_LINES_MAX: u64 = 100;

/// Collects repeated events.
#[derive(Default, Debug)]
pub struct Coalescer {
    /// By kind. Kinds are fixed words, so there are few.
    windows: BTreeMap<&'static str, Window>,
}

#[derive(Debug)]
struct Window {
    started_at: Timestamp,
    written: u64,
    held: u64,
    first_held_at: Timestamp,
    last_details: Vec<u8>,
}

impl Coalescer {
    /// Adds an event, and puts into `out` the events to write now: the summary of its kind's last window, if that is
    /// over, and the event itself, unless it is only counted.
    pub fn add(&mut self, event: Event, out: &mut impl Extend<Event>) {
        if event.is_count {
            // There are few, and one within another count would be lost.
            out.extend([event]);
            return;
        }
        if let Some(window) = self.windows.get(event.event)
            && window.is_over(event.ts)
        {
            out.extend(window.summary((event.ts, event.calendar), event.event));
            self.windows.remove(event.event);
        }
        let window = self.windows.entry(event.event).or_insert_with(|| Window {
            started_at: event.ts,
            written: 0,
            held: 0,
            first_held_at: event.ts,
            last_details: Vec::new(),
        });
        let written_max = if REPEATING.contains(&event.event) { 1 } else { SINGLE_LINES_MAX };
        if window.written < written_max {
            window.written += 1;
            out.extend([event.written()]);
            return;
        }
        if window.held == 0 {
            window.first_held_at = event.ts;
        }
        window.held += event.times;
        window.last_details = event.details;
    }

    /// Puts into `out` the summaries of the windows that are over.
    pub fn drain_due(&mut self, (now, calendar): (Timestamp, Calendar), out: &mut impl Extend<Event>) {
        self.windows.retain(|event, window| {
            let is_over = window.is_over(now);
            if is_over {
                out.extend(window.summary((now, calendar), event));
            }
            !is_over
        });
    }

    /// Puts into `out` the summaries of all windows, at the end.
    pub fn drain_all(&mut self, clock: (Timestamp, Calendar), out: &mut impl Extend<Event>) {
        for (event, window) in std::mem::take(&mut self.windows) {
            out.extend(window.summary(clock, event));
        }
    }
}

impl Window {
    fn is_over(&self, now: Timestamp) -> bool {
        self.started_at + WINDOW <= now
    }

    /// The last counted event, with the count and the first one's instant; `None` if none were counted.
    fn summary(&self, clock: (Timestamp, Calendar), event: &'static str) -> Option<Event> {
        if self.held == 0 {
            return None;
        }
        Some(Event::counted(clock, event, self.held, self.first_held_at, &self.last_details))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAP: &str = "LEASE_REAP";
    const FAILURE: &str = "AUTH_FAILURE";

    fn event(ms: u64, event: &'static str, details: &str) -> Event {
        Event {
            ts: at(ms),
            calendar: Calendar::UNSET,
            event,
            details: details.as_bytes().to_vec(),
            is_count: false,
            times: 1,
        }
    }

    fn count(ms: u64, name: &'static str, details: &str) -> Event {
        Event { is_count: true, ..event(ms, name, details) }
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn taken(coalescer: &mut Coalescer, event: Event) -> Vec<Event> {
        let mut out = Vec::new();
        coalescer.add(event, &mut out);
        out
    }

    fn due(coalescer: &mut Coalescer, ms: u64) -> Vec<Event> {
        let mut out = Vec::new();
        coalescer.drain_due((at(ms), Calendar::UNSET), &mut out);
        out
    }

    #[test]
    fn the_first_event_of_a_repeating_kind_is_written_and_the_rest_are_counted() {
        let mut coalescer = Coalescer::default();
        assert_eq!(taken(&mut coalescer, event(1_000, REAP, "{}")), [event(1_000, REAP, "{}")]);
        assert_eq!(taken(&mut coalescer, event(2_000, REAP, r#"{"n":1}"#)), []);
        assert_eq!(taken(&mut coalescer, event(3_000, REAP, r#"{"n":2}"#)), []);
        assert_eq!(taken(&mut coalescer, event(3_000, "BACKPRESSURE_DROP", "{}")).len(), 1, "kinds do not mix");
        assert_eq!(due(&mut coalescer, 10_999), []);
        let details = r#"{"count":2,"first_ts":"1970-01-01T00:00:02.000Z","n":2}"#;
        assert_eq!(due(&mut coalescer, 11_000), [count(11_000, REAP, details)]);
        assert_eq!(due(&mut coalescer, 11_000), []);
        assert_eq!(taken(&mut coalescer, event(11_000, REAP, "{}")).len(), 1, "a new window");
    }

    #[test]
    fn the_first_hundred_events_of_another_kind_in_a_window_are_written() {
        let mut coalescer = Coalescer::default();
        let written: usize = (0..150).map(|ms| taken(&mut coalescer, event(ms, FAILURE, "{}")).len()).sum();
        assert_eq!(written, 100);
        let details = r#"{"count":50,"first_ts":"1970-01-01T00:00:00.100Z"}"#;
        let mut out = Vec::new();
        coalescer.drain_all((at(200), Calendar::UNSET), &mut out);
        coalescer.drain_all((at(200), Calendar::UNSET), &mut out);
        assert_eq!(out, [count(200, FAILURE, details)]);
    }

    #[test]
    fn an_event_that_is_a_count_is_written_whatever_came_before_it() {
        let mut coalescer = Coalescer::default();
        (0..150).for_each(|ms| _ = taken(&mut coalescer, event(ms, FAILURE, "{}")));
        let seven = count(150, FAILURE, r#"{"count":7}"#);
        assert_eq!(taken(&mut coalescer, seven.clone()), [seven]);
    }

    #[test]
    fn an_event_after_its_kinds_window_ends_that_window_and_begins_one() {
        let mut coalescer = Coalescer::default();
        taken(&mut coalescer, event(0, REAP, "{}"));
        taken(&mut coalescer, event(9_999, REAP, r#"{"n":1}"#));
        let summary = count(10_000, REAP, r#"{"count":1,"first_ts":"1970-01-01T00:00:09.999Z","n":1}"#);
        assert_eq!(
            taken(&mut coalescer, event(10_000, REAP, r#"{"n":2}"#)),
            [summary, event(10_000, REAP, r#"{"n":2}"#)]
        );
        assert_eq!(due(&mut coalescer, 20_000), [], "nothing was counted in the second");
    }

    proptest::proptest! {
        /// For any sequence, each event is written once: as a line of its own, or in a count.
        #[test]
        fn no_event_is_lost_or_written_twice(steps in proptest::collection::vec((0..8_000u64, 0..3usize), 1..500)) {
            let (mut coalescer, mut out, mut now) = (Coalescer::default(), Vec::new(), 0);
            for (step, kind) in &steps {
                now += step;
                if step % 2 == 0 {
                    coalescer.drain_due((at(now), Calendar::UNSET), &mut out);
                }
                coalescer.add(event(now, [REAP, FAILURE, "RETRY_SCHEDULED"][*kind], "{}"), &mut out);
            }
            coalescer.drain_all((at(now), Calendar::UNSET), &mut out);
            let reported: u64 = out.iter().map(|event| {
                let details: serde_json::Value = serde_json::from_slice(&event.details).unwrap();
                details["count"].as_u64().unwrap_or(1)
            }).sum();
            proptest::prop_assert_eq!(reported, steps.len() as u64);
            proptest::prop_assert!(out.is_sorted_by_key(|event| event.ts));
        }
    }
}
