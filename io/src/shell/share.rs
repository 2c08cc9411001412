//! Share: what part of the connections and of the memory those may hold who submit jobs or wait for them. The rest is
//! kept for those who finish work, so that results, extensions and heartbeats get in when everybody wants something.
//!
//! A connection counts from a submit or a parked long poll until its next other request, or its end.

/// A connection that holds no more than this is read also where memory is scarce: a head fits, and a usual request.
const SMALL_BYTES: usize = 16 << 10;

/// How scarce memory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scarcity {
    None,
    /// A connection that holds much already is not read, unless its request finishes work: what it sends waits in its
    /// socket.
    ButFinishing,
    /// A connection that holds much already is not read.
    ForAll,
}

impl Scarcity {
    /// While `held` bytes of `max` are held: the last quarter is for small requests and those that finish work, the last
    /// sixteenth for small ones.
    pub const fn of(held: usize, max: usize) -> Self {
        match () {
            () if held > max - max / 16 => Scarcity::ForAll,
            () if held > max - max / 4 => Scarcity::ButFinishing,
            () => Scarcity::None,
        }
    }

    /// Whether a connection is read that holds so many bytes; `is_finishing` if the request that arrives finishes work.
    pub const fn lets_read(self, held: usize, is_finishing: bool) -> bool {
        match self {
            Scarcity::None => true,
            Scarcity::ButFinishing => is_finishing || held <= SMALL_BYTES,
            Scarcity::ForAll => held <= SMALL_BYTES,
        }
    }
}

/// The share of submits and long polls.
#[derive(Debug)]
pub struct Share {
    /// Connections that may count.
    connections_max: usize,
    /// Connections that count.
    connections: usize,
}

/// The fifth that is kept free of them.
const KEPT_PART: usize = 5;

impl Share {
    /// The share of so many connections.
    pub fn of(connections_max: usize) -> Self {
        Share { connections_max: (connections_max - connections_max / KEPT_PART).max(1), connections: 0 }
    }

    /// Sets how many connections there may be.
    pub fn set_connections_max(&mut self, connections_max: usize) {
        self.connections_max = Share::of(connections_max).connections_max;
    }

    /// Whether a connection may send a submit or wait; `counts` if it counts already.
    pub fn has_room(&self, counts: bool) -> bool {
        counts || self.connections < self.connections_max
    }

    /// A connection counts from now on, or no more.
    pub fn set(&mut self, counts: &mut bool, now: bool) {
        match (*counts, now) {
            (false, true) => self.connections += 1,
            (true, false) => self.connections -= 1,
            _ => {}
        }
        *counts = now;
    }

    /// Bytes that may be held before a submit is refused.
    pub const fn bytes_max(bytes_max: usize) -> usize {
        bytes_max - bytes_max / KEPT_PART
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_fifths_may_submit_or_wait_and_one_that_counts_already_may_go_on() {
        for (connections_max, expected) in [(10, 8), (5, 4), (4, 4), (1, 1), (10_240, 8_192)] {
            let mut share = Share::of(connections_max);
            let mut counts = vec![false; connections_max];
            let mut admitted = 0;
            for counts in &mut counts {
                if share.has_room(*counts) {
                    share.set(counts, true);
                    share.set(counts, true);
                    admitted += 1;
                }
            }
            assert_eq!(admitted, expected, "{connections_max}");
            assert!(share.has_room(true) && !share.has_room(false));
            share.set(&mut counts[0], false);
            assert!(share.has_room(false));
        }
    }
}
