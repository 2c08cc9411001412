//! Stalls: what the hub writes to and gets no answer from, since when, and what is refused meanwhile.

use super::Service;
use super::problem::Problem;
use crate::audit::Room;
use crate::object::{Object, object};
use sheratan_core::{Millis, Timestamp, Utc};
use std::time::Duration;

/// What is written beside the journal.
pub const WATCHED: [&str; 4] = ["audit_log", "alerts", "log", "stderr"];

/// A write that takes longer does not return by itself.
pub const WRITE_MAX: Duration = Duration::from_secs(5);

const JOURNAL: usize = WATCHED.len();

/// What stalls.
#[derive(Default, Debug)]
pub struct Stalls {
    /// How long a write of each has been under way.
    ages: [Duration; WATCHED.len()],
    /// Since when each stalls, and what the calendar showed then; the journal is the last.
    since: [Option<(Timestamp, Utc)>; WATCHED.len() + 1],
    /// Since when the journal has a batch.
    committing_since: Option<Timestamp>,
    room: Room,
    /// Whether an event was not recorded since [`Stalls::begin_request`].
    is_event_refused: bool,
}

impl Stalls {
    /// What stalls, and since when.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Utc)> {
        let names = WATCHED.into_iter().chain(["journal"]);
        names.zip(self.since).filter_map(|(name, since)| Some((name, since?.1)))
    }

    /// How long a write of each has been under way.
    pub fn ages(&self) -> [(&'static str, f64); WATCHED.len()] {
        std::array::from_fn(|index| (WATCHED[index], self.ages[index].as_secs_f64()))
    }

    /// How long the commit under way has been.
    pub fn commit_age(&self, now: Timestamp) -> Millis {
        self.committing_since.map_or(Millis::ZERO, |since| now.since(since))
    }

    /// Adds `stalled` to a reply, if there is something to say.
    pub fn write(&self, out: &mut Object) {
        if self.iter().next().is_some() {
            out.array("stalled", self.iter(), |out, (what, since)| {
                object(out, |out| _ = out.plain("what", what).time("since_utc", since));
            });
        }
    }

    pub fn begin_request(&mut self) {
        self.is_event_refused = false;
    }

    /// Whether the event of a request that is refused may be recorded. If not, the request is answered with
    /// [`Stalls::refusal`] instead.
    pub fn admits_refusals_event(&mut self) -> bool {
        self.is_event_refused |= self.room != Room::Free;
        self.room == Room::Free
    }

    /// Whether a request may do something that leaves an event.
    pub fn admits_commands(&self) -> bool {
        self.room < Room::None
    }

    /// The answer to a request whose event was not recorded.
    pub fn refusal(&self) -> Option<Problem> {
        self.is_event_refused.then(Problem::audit_full)
    }

    /// Whether the audit log accepts the events of all requests.
    pub fn is_audit_free(&self) -> bool {
        self.room == Room::Free
    }
}

impl Service {
    /// Sets how long a write to each of [`WATCHED`] has been under way.
    pub fn set_write_ages(&mut self, now: Timestamp, ages: [Duration; WATCHED.len()]) {
        self.stalls.ages = ages;
        for (index, age) in ages.into_iter().enumerate() {
            let since = now - Millis::new(age.as_millis() as u64);
            self.set_stalled(now, index, (age >= WRITE_MAX).then_some(since));
        }
    }

    /// Sets since when the journal has a batch.
    pub fn set_committing(&mut self, since: Option<Timestamp>) {
        self.stalls.committing_since = since;
    }

    /// Sets since when a commit takes too long, if it does.
    pub fn set_journal_stalled(&mut self, now: Timestamp, since: Option<Timestamp>) {
        self.set_stalled(now, JOURNAL, since);
    }

    /// Sets whether there is room for more audit events.
    pub fn set_audit_room(&mut self, room: Room) {
        self.stalls.room = room;
    }

    fn set_stalled(&mut self, now: Timestamp, index: usize, since: Option<Timestamp>) {
        let what = WATCHED.get(index).copied().unwrap_or("journal");
        match (self.stalls.since[index], since) {
            (None, Some(since)) => {
                let utc = self.hub.calendar().utc(since);
                let since_utc = crate::rfc3339::Rfc3339::new(utc);
                tracing::error!(what, %since_utc, "a write does not return: the disk hangs, or nobody reads the output");
                self.audit(now, "WRITE_STALLED", |out| _ = out.plain("what", what).time("since_utc", utc));
            }
            (Some((since, _)), None) => {
                let stalled_ms = now.since(since).get();
                tracing::warn!(what, stalled_ms, "writes return again");
                self.audit(now, "WRITE_RESUMED", |out| _ = out.plain("what", what).number("stalled_ms", stalled_ms));
            }
            _ => return,
        }
        self.stalls.since[index] = since.map(|since| (since, self.hub.calendar().utc(since)));
    }
}
