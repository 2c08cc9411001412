//! Turns: in which order connections are served, and how many requests of each in a round.
//!
//! A connection that has just become ready gets its first request answered before those that have more requests from
//! before: who pipelines waits behind who asks once. The others take turns, until the round has answered
//! [`ROUND_REQUESTS_MAX`]; the rest waits for the next round, behind connections that have become ready meanwhile.

use std::collections::VecDeque;

/// Requests of a connection in the round in which it becomes ready.
pub const FIRST_REQUESTS_MAX: usize = 1;

/// Requests of a connection in each later turn.
pub const REQUESTS_MAX: usize = 16;

/// After this many requests in later turns a round begins no more of them: a tenth of a millisecond of refusals, so that
/// nobody who asks once waits longer for those who pipeline.
pub const ROUND_REQUESTS_MAX: usize = 16;

/// Where a connection waits for its turn.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Place {
    /// Nowhere: it has nothing to read or to answer.
    #[default]
    None,
    /// Among those that have just become ready.
    First,
    /// Among those that have more.
    Later,
    /// Among those that are not read while memory is scarce.
    Paused,
}

/// The connections that wait for their turns. Each is in one of the queues at most, as its [`Place`] says.
#[derive(Default, Debug)]
pub struct Turns {
    first: VecDeque<u64>,
    later: VecDeque<u64>,
    paused: Vec<u64>,
}

impl Turns {
    /// Adds a connection that has become ready, unless it waits already.
    pub fn add(&mut self, id: u64, place: &mut Place) {
        if *place == Place::None {
            *place = Place::First;
            self.first.push_back(id);
        }
    }

    /// Adds a connection that has more, unless it waits already.
    pub fn add_later(&mut self, id: u64, place: &mut Place) {
        if *place == Place::None {
            *place = Place::Later;
            self.later.push_back(id);
        }
    }

    /// Adds a connection that is not read while memory is scarce, unless it waits already.
    pub fn pause(&mut self, id: u64, place: &mut Place) {
        if *place == Place::None {
            *place = Place::Paused;
            self.paused.push(id);
        }
    }

    /// Lets the paused connections wait for their turns.
    pub fn resume(&mut self) {
        self.later.extend(self.paused.drain(..));
    }

    /// Whether connections are paused.
    pub fn has_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    /// How many connections wait in each queue.
    pub fn counts(&self) -> (usize, usize) {
        (self.first.len(), self.later.len())
    }

    /// The next connection that has just become ready.
    pub fn pop_first(&mut self) -> Option<u64> {
        self.first.pop_front()
    }

    /// The next connection that has more.
    pub fn pop_later(&mut self) -> Option<u64> {
        self.later.pop_front()
    }

    /// Whether no connection waits.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.later.is_empty()
    }
}
