//! Traffic: how many requests were answered, with which status, and how long that took.
//!
//! The labels are fixed words (plane, route, status), so their number is bounded: some thirty routes, a dozen statuses.

use super::plane::Plane;
use sheratan_core::Timestamp;
use sheratan_core::telemetry::timing::{Timing, Unit};
use std::collections::BTreeMap;

/// Counts and latencies of replies since the start.
#[derive(Debug)]
pub struct Traffic {
    answers: BTreeMap<(Plane, &'static str, u16), u64>,
    control: Timing,
    data: Timing,
}

impl Default for Traffic {
    fn default() -> Self {
        Traffic { answers: BTreeMap::new(), control: Timing::new(Unit::Micros), data: Timing::new(Unit::Micros) }
    }
}

impl Traffic {
    /// Counts a reply. O(log n) in the distinct labels.
    pub fn answered(&mut self, plane: Plane, route: &'static str, status: u16) {
        *self.answers.entry((plane, route, status)).or_default() += 1;
    }

    /// Records a latency, from a request's arrival until its reply may be sent. Long polls are not recorded: they take
    /// as long as their clients ask for.
    pub fn took(&mut self, now: Timestamp, plane: Plane, took_us: u64) {
        match plane {
            Plane::Control => self.control.record(now, took_us),
            Plane::Data => self.data.record(now, took_us),
        }
    }

    /// A plane's replies: route, status, count.
    pub fn of(&self, plane: Plane) -> impl Iterator<Item = (&'static str, u16, u64)> {
        let answers = self.answers.range((plane, "", 0)..);
        answers
            .take_while(move |((of, ..), _)| *of == plane)
            .map(|((_, route, status), count)| (*route, *status, *count))
    }

    /// The latencies of a plane's requests.
    pub fn timing(&self, plane: Plane) -> &Timing {
        match plane {
            Plane::Control => &self.control,
            Plane::Data => &self.data,
        }
    }
}
