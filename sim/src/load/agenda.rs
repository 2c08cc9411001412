//! Agenda: what happens next, in virtual microseconds.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Microseconds since the run began.
pub type Micros = u64;

/// One client's or node's place for a request under way; at most one is.
pub type LineNo = u32;

/// Something that happens at an instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The request of a line reaches the hub, on the connection of that number.
    Arrive(LineNo, u64),
    /// The hub's thread has time for the next request.
    Turn,
    /// The journal holds what it was given.
    Commit,
    /// Something falls due in the service.
    HubTimer,
    /// The reply of a connection reaches its line.
    Reply(LineNo, u64),
    /// The client at a line waits no longer for the reply of that connection.
    GiveUp(LineNo, u64),
    /// The next jobs are there to be handed in.
    Offer,
    /// A parcel that was refused is tried again.
    Resend(u32),
    /// A node sends its heartbeat.
    Beat(u32),
    /// A node asks for jobs.
    Pull(u32),
    /// A node ends the job in one of its slots, in the life of that number.
    Done(u32, u32, u16),
    /// A node that died starts again.
    Restart(u32),
    /// The network is gone.
    OutageBegins,
    /// The network is back.
    OutageEnds,
    /// The state is noted for the timeline.
    Sample,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    at: Micros,
    no: u64,
    event: Event,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the greatest first.
        (other.at, other.no).cmp(&(self.at, self.no))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Events by their instants; those of one instant in the order in which they were planned. O(log n) each way.
#[derive(Default, Debug)]
pub struct Agenda {
    entries: BinaryHeap<Entry>,
    next_no: u64,
}

impl Agenda {
    /// Plans an event.
    pub fn plan(&mut self, at: Micros, event: Event) {
        self.entries.push(Entry { at, no: self.next_no, event });
        self.next_no += 1;
    }

    /// Takes the next event, if it is not later than `until`.
    pub fn next(&mut self, until: Micros) -> Option<(Micros, Event)> {
        if self.entries.peek()?.at > until {
            return None;
        }
        self.entries.pop().map(|entry| (entry.at, entry.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_their_instants_and_in_the_order_of_planning() {
        let mut agenda = Agenda::default();
        agenda.plan(5, Event::Turn);
        agenda.plan(3, Event::Offer);
        agenda.plan(3, Event::Sample);
        assert_eq!(agenda.next(9), Some((3, Event::Offer)));
        assert_eq!(agenda.next(9), Some((3, Event::Sample)));
        assert_eq!(agenda.next(4), None);
        assert_eq!(agenda.next(5), Some((5, Event::Turn)));
    }
}
