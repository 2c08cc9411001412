//! Traffic: how many requests were answered, with what, and how long that took.
//!
//! The labels are words of ours (plane, route, status), so their number has a bound: some thirty routes, a dozen statuses.

use super::route::Plane;
use sheratan_core::Timestamp;
use sheratan_core::telemetry::timing::{Timing, Unit};
use std::collections::BTreeMap;

/// What was answered since the start.
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
    /// A request was answered. O(log answers).
    pub fn answered(&mut self, plane: Plane, route: &'static str, status: u16) {
        *self.answers.entry((plane, route, status)).or_default() += 1;
    }

    /// From a request's arrival to the moment when its reply may leave. Long polls are not among them: they take as long as
    /// their clients want.
    pub fn took(&mut self, now: Timestamp, plane: Plane, took_us: u64) {
        match plane {
            Plane::Control => self.control.record(now, took_us),
            Plane::Data => self.data.record(now, took_us),
        }
    }

    /// What a plane answered: route, status, how often.
    pub fn of(&self, plane: Plane) -> impl Iterator<Item = (&'static str, u16, u64)> {
        let answers = self.answers.range((plane, "", 0)..);
        answers
            .take_while(move |((of, ..), _)| *of == plane)
            .map(|((_, route, status), count)| (*route, *status, *count))
    }

    /// How long a plane's requests took.
    pub fn timing(&self, plane: Plane) -> &Timing {
        match plane {
            Plane::Control => &self.control,
            Plane::Data => &self.data,
        }
    }
}
