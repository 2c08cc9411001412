//! Events: what the audit log has lines of.

use crate::object::{Object, object};
use sheratan_core::{Calendar, Timestamp, Utc};

/// One event for the audit log.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// When it happened, by the hub's time: the windows of rules and of the audit log are measured on it.
    pub ts: Timestamp,
    /// What the calendar showed then.
    pub calendar: Calendar,
    /// Its name.
    pub event: &'static str,
    /// Its details, a JSON object.
    pub details: Vec<u8>,
    /// Whether it stands for a number of events, which its details say.
    pub is_count: bool,
    /// How many events it stands for that have the same details; these do not say it.
    pub times: u64,
}

impl Event {
    /// An event with the members that `fill` writes.
    pub fn new((ts, calendar): (Timestamp, Calendar), event: &'static str, fill: impl FnOnce(&mut Object)) -> Event {
        let mut details = Vec::new();
        object(&mut details, fill);
        Event { ts, calendar, event, details, is_count: false, times: 1 }
    }

    /// When it happened.
    pub fn utc(&self) -> Utc {
        self.calendar.utc(self.ts)
    }

    /// The event on the time of another calendar: it shows the same instant.
    pub fn on(self, calendar: Calendar) -> Event {
        Event { ts: calendar.instant(self.utc()), calendar, ..self }
    }

    /// The event as it is written: if it stands for several, its details say how many.
    pub fn written(self) -> Event {
        if self.times == 1 {
            return self;
        }
        let counted = Event::counted((self.ts, self.calendar), self.event, self.times, self.ts, &self.details);
        Event { is_count: self.is_count, ..counted }
    }

    /// One event for `count` events of a kind: the last one's details, with the count and the first one's instant.
    pub fn counted(
        (ts, calendar): (Timestamp, Calendar),
        event: &'static str,
        count: u64,
        first_ts: Timestamp,
        last_details: &[u8],
    ) -> Event {
        let first_ts = calendar.utc(first_ts);
        let fill = |out: &mut Object| _ = out.number("count", count).time("first_ts", first_ts);
        let mut counted = Event { is_count: true, ..Event::new((ts, calendar), event, fill) };
        if let Some(members) = last_details.strip_prefix(b"{").filter(|members| members.len() > 1) {
            counted.details.pop();
            counted.details.push(b',');
            counted.details.extend_from_slice(members);
        }
        counted
    }
}
