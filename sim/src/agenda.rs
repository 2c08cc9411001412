//! Agenda: what is to happen, by instant, and in the order it was put there where instants are equal.

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
    no: u64,
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
        self.heap.push(Reverse(Entry { at, no: self.count, event }));
    }

    /// Takes the next event, if it is not later than `until`.
    pub fn next(&mut self, until: Micros) -> Option<(Micros, E)> {
        if self.heap.peek()?.0.at > until {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.no) == (other.at, other.no)
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
        (self.at, self.no).cmp(&(other.at, other.no))
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
}
