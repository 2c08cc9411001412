//! Trail: a hash over all events of a run, and the latest events as text.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::collections::VecDeque;
use std::fmt;
use std::hash::Hasher;

/// How many of the latest events a failure shows.
const NOTES_MAX: usize = 40;

/// One event of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note {
    /// Virtual time in microseconds.
    pub at: u64,
    /// Its kind.
    pub what: &'static str,
    /// Two numbers that identify it among events of its kind.
    pub which: [u64; 2],
}

/// The events of a run. The same seed must give the same hash, in every build profile.
#[derive(Clone, Debug)]
pub struct Trail {
    hasher: SipHasher13,
    last: VecDeque<Note>,
    count: u64,
}

impl Default for Trail {
    fn default() -> Self {
        Trail { hasher: SipHasher13::new(), last: VecDeque::with_capacity(NOTES_MAX), count: 0 }
    }
}

impl Trail {
    /// Appends an event.
    pub fn note(&mut self, at: u64, what: &'static str, which: [u64; 2]) {
        self.hasher.write_u64(at);
        self.hasher.write(what.as_bytes());
        self.hasher.write_u64(which[0]);
        self.hasher.write_u64(which[1]);
        self.count += 1;
        if self.last.len() == NOTES_MAX {
            self.last.pop_front();
        }
        self.last.push_back(Note { at, what, which });
    }

    /// Adds bytes to the hash that no event shows.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
    }

    /// The hash over all events and bytes so far.
    pub fn hash(&self) -> u128 {
        self.hasher.finish128().as_u128()
    }

    /// How many events were appended.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The latest events, the oldest of them first.
    pub fn last(&self) -> impl Iterator<Item = &Note> {
        self.last.iter()
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = self.which;
        write!(f, "{:>12.6} s  {} {one} {other}", self.at as f64 / 1e6, self.what)
    }
}
