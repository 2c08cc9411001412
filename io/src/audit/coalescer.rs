//! The coalescer: a burst of one kind of event becomes one line per 10 s with a count, so that neither an attacker nor a
//! busy hour fills the disk.
//!
//! Some kinds repeat by nature: of those each window's first is written as it is, the rest as one line at its end. Of the
//! others, which are evidence one by one, each window's first hundred are.

use crate::service::Event;
use sheratan_core::time::{Millis, Timestamp};
use std::collections::BTreeMap;

/// How long events of a kind are collected.
pub const WINDOW: Millis = Millis::from_secs(10);

/// Kinds of which one line a window says enough.
const REPEATING: [&str; 5] =
    ["BACKPRESSURE_DROP", "INFLIGHT_SATURATED", "IDEMPOTENCY_HIT", "LEASE_REAP", "RETRY_SCHEDULED"];

/// Lines of any other kind in one window.
const SINGLE_LINES_MAX: u64 = 100;

/// Collects what repeats.
#[derive(Default, Debug)]
pub struct Coalescer {
    /// Kinds are words of ours, so there are few.
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
    /// Takes an event: gives it back if it is to be written now.
    pub fn take(&mut self, event: Event) -> Option<Event> {
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
            return Some(event);
        }
        if window.held == 0 {
            window.first_held_at = event.ts;
        }
        window.held += 1;
        window.last_details = event.details;
        None
    }

    /// The lines of the windows that are over: the last event's details, with how many there were and since when.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Event> {
        let mut due = Vec::new();
        self.windows.retain(|event, window| {
            let is_over = window.started_at + WINDOW <= now;
            if is_over && window.held > 0 {
                due.push(summary(now, event, window));
            }
            !is_over
        });
        due
    }

    /// Everything that is held, at the end.
    pub fn take_all(&mut self, now: Timestamp) -> Vec<Event> {
        let windows = std::mem::take(&mut self.windows);
        windows
            .iter()
            .filter(|(_, window)| window.held > 0)
            .map(|(event, window)| summary(now, event, window))
            .collect()
    }
}

fn summary(now: Timestamp, event: &'static str, window: &Window) -> Event {
    let since = crate::rfc3339::Rfc3339::new(window.first_held_at);
    let rest = window.last_details.get(1..).filter(|rest| rest.len() > 1);
    let mut details = format!(r#"{{"count":{},"since":"{since}""#, window.held).into_bytes();
    match rest {
        Some(rest) => {
            details.push(b',');
            details.extend_from_slice(rest);
        }
        None => details.push(b'}'),
    }
    Event { ts: now, event, details }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(ms: u64, event: &'static str, details: &str) -> Event {
        Event { ts: Timestamp::from_millis(ms), event, details: details.as_bytes().to_vec() }
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn of_a_repeating_kind_the_first_is_written_and_the_rest_counted() {
        let mut coalescer = Coalescer::default();
        assert!(coalescer.take(event(1_000, "LEASE_REAP", "{}")).is_some());
        assert!(coalescer.take(event(2_000, "LEASE_REAP", r#"{"n":1}"#)).is_none());
        assert!(coalescer.take(event(3_000, "LEASE_REAP", r#"{"n":2}"#)).is_none());
        assert!(coalescer.take(event(3_000, "BACKPRESSURE_DROP", "{}")).is_some(), "kinds do not mix");
        assert_eq!(coalescer.take_due(at(10_999)), []);
        let details = r#"{"count":2,"since":"1970-01-01T00:00:02.000Z","n":2}"#;
        assert_eq!(coalescer.take_due(at(11_000)), [event(11_000, "LEASE_REAP", details)]);
        assert!(coalescer.take(event(11_000, "LEASE_REAP", "{}")).is_some(), "a new window");
    }

    #[test]
    fn of_other_kinds_the_first_hundred_of_a_window_are_written() {
        let mut coalescer = Coalescer::default();
        let written = (0..150).filter(|ms| coalescer.take(event(*ms, "AUTH_FAILURE", "{}")).is_some()).count();
        assert_eq!(written, 100);
        let details = r#"{"count":50,"since":"1970-01-01T00:00:00.100Z"}"#;
        assert_eq!(coalescer.take_all(at(200)), [event(200, "AUTH_FAILURE", details)]);
        assert_eq!(coalescer.take_all(at(200)), []);
    }
}
