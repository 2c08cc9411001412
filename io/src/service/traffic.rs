//! Traffic: how many requests were answered, with which status, and how long that took.
//!
//! The labels are fixed words (plane, route, status), so their number is bounded: some thirty routes, a dozen statuses.

use super::plane::Plane;
use sheratan_core::Timestamp;
use sheratan_core::telemetry::timing::{Timing, Unit};

/// Counts and latencies of replies since the start.
#[derive(Debug)]
pub struct Traffic {
    /// In no order; what is counted moves towards the front.
    answers: Vec<(Plane, &'static str, u16, u64)>,
    control: Timing,
    data: Timing,
}

impl Default for Traffic {
    fn default() -> Self {
        Traffic { answers: Vec::new(), control: Timing::new(Unit::Micros), data: Timing::new(Unit::Micros) }
    }
}

impl Traffic {
    /// Counts a reply. O(n) in the distinct labels, of which the frequent ones are in front.
    pub fn answered(&mut self, plane: Plane, route: &'static str, status: u16) {
        let is_same = |row: &(Plane, &str, u16, u64)| (row.0, row.1, row.2) == (plane, route, status);
        match self.answers.iter().position(is_same) {
            None => self.answers.push((plane, route, status, 1)),
            Some(at) => {
                self.answers[at].3 += 1;
                if at > 0 && self.answers[at].3 > self.answers[at - 1].3 {
                    self.answers.swap(at, at - 1);
                }
            }
        }
    }

    /// Records a latency, from a request's arrival until its reply may be sent. Long polls are not recorded: they take
    /// as long as their clients ask for.
    pub fn took(&mut self, now: Timestamp, plane: Plane, took_us: u64) {
        match plane {
            Plane::Control => self.control.record(now, took_us),
            Plane::Data => self.data.record(now, took_us),
        }
    }

    /// A plane's replies: route, status, count; in the order of routes and statuses.
    pub fn of(&self, plane: Plane) -> impl Iterator<Item = (&'static str, u16, u64)> + use<> {
        let of_plane = self.answers.iter().filter(|row| row.0 == plane);
        let mut rows: Vec<_> = of_plane.map(|(_, route, status, count)| (*route, *status, *count)).collect();
        rows.sort_unstable();
        rows.into_iter()
    }

    /// The latencies of a plane's requests.
    pub fn timing(&self, plane: Plane) -> &Timing {
        match plane {
            Plane::Control => &self.control,
            Plane::Data => &self.data,
        }
    }
}
