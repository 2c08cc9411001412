//! Agenda: events by instant, and in the order of planning where instants are equal. An [`Alarm`] is a timer that is
//! postponed or moved up often.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Virtual time in microseconds since the run began.
pub type Micros = u64;

/// A second.
pub const SECOND: Micros = 1_000_000;

/// A minute.
pub const MINUTE: Micros = 60 * SECOND;

/// Events to come. O(log n) each.
#[derive(Debug)]
pub struct Agenda<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    count: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Micros,
    index: u64,
    event: E,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Agenda { heap: BinaryHeap::new(), count: 0 }
    }
}

impl<E> Agenda<E> {
    /// Plans an event.
    pub fn plan(&mut self, at: Micros, event: E) {
        self.count += 1;
        self.heap.push(Reverse(Entry { at, index: self.count, event }));
    }

    /// Removes the next event, if it is not later than `until`.
    pub fn next(&mut self, until: Micros) -> Option<(Micros, E)> {
        if self.heap.peek()?.0.at > until {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}

/// A timer that moves often but needs few events: an event that comes too early is planned again, and none is planned
/// if one that is early enough is planned already.
#[derive(Debug, Default)]
pub struct Alarm {
    at: Option<Micros>,
    /// Events that are planned, the earliest last.
    planned: Vec<Micros>,
}

impl Alarm {
    /// Sets the instant at which it fires. True if the caller has to plan an event for that instant.
    #[must_use]
    pub fn set(&mut self, at: Micros) -> bool {
        self.at = Some(at);
        let is_missing = self.planned.last().is_none_or(|planned| at < *planned);
        if is_missing {
            self.planned.push(at);
        }
        is_missing
    }

    /// When it fires.
    pub fn at(&self) -> Option<Micros> {
        self.at
    }

    /// Makes it not fire.
    pub fn clear(&mut self) {
        self.at = None;
    }

    /// Handles one of its events. `Ok` if it fires, which clears it; otherwise `Err` with the instant for which the
    /// caller has to plan an event, if any.
    pub fn handle_event(&mut self, now: Micros) -> Result<(), Option<Micros>> {
        self.planned.pop();
        match self.at {
            Some(at) if at <= now => {
                self.at = None;
                Ok(())
            }
            Some(at) => Err(self.set(at).then_some(at)),
            None => Err(None),
        }
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.index) == (other.at, other.index)
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.index).cmp(&(other.at, other.index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_instant_and_then_in_the_order_of_planning() {
        let mut agenda = Agenda::default();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')] {
            agenda.plan(at, event);
        }
        assert_eq!(agenda.next(0), None);
        assert_eq!(agenda.next(1), Some((1, 'a')));
        let order: String = std::iter::from_fn(|| agenda.next(9)).map(|(_, event)| event).collect();
        assert_eq!(order, "bcd");
    }

    #[test]
    fn an_alarm_that_is_postponed_often_needs_few_events() {
        let (mut agenda, mut alarm) = (Agenda::default(), Alarm::default());
        let (mut planned, mut fired) = (0, Vec::new());
        let mut plan = |agenda: &mut Agenda<()>, at: Micros| {
            planned += 1;
            agenda.plan(at, ());
        };
        for now in 0..1_000 {
            while let Some((at, ())) = agenda.next(now) {
                match alarm.handle_event(at) {
                    Ok(()) => fired.push(at),
                    Err(Some(at)) => plan(&mut agenda, at),
                    Err(None) => {}
                }
            }
            // Until 900 it is postponed before it fires; once it is moved up.
            let at = if now == 500 { 503 } else { now + 100 };
            if now < 900 && alarm.set(at) {
                plan(&mut agenda, at);
            }
        }
        assert_eq!(fired, [999]);
        assert!((10..=12).contains(&planned), "{planned} events");
        alarm.clear();
        assert_eq!((alarm.at(), alarm.handle_event(2_000)), (None, Err(None)));
    }
}
