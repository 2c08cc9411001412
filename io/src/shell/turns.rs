//! Turns: in which order connections are served, and how many requests of each in a round.
//!
//! A connection that has just become ready gets its first request answered before those that have more requests from
//! before: who pipelines waits behind who asks once. The others take turns, until the round has answered
//! [`ROUND_REQUESTS_MAX`]; the rest waits for the next round, behind connections that have become ready meanwhile.
//!
//! Those whose last request was a submit come after all others, for [`SUBMITTERS_US_MAX`] in a round: where the hub's
//! own processor is the limit, work that is done comes in before more of it. At least one of each queue is served in
//! each round, so none starves.

use std::collections::VecDeque;

/// Requests of a connection in the round in which it becomes ready.
pub const FIRST_REQUESTS_MAX: usize = 1;

/// Requests of a connection in each later turn.
pub const REQUESTS_MAX: usize = 16;

/// After this many requests in later turns a round begins no more of them: a tenth of a millisecond of refusals, so that
/// nobody who asks once waits longer for those who pipeline.
pub const ROUND_REQUESTS_MAX: usize = 16;

/// After so many microseconds a round serves no more of those that submit and have just become ready: a hundred of them,
/// so that a batch of the journal has enough to share.
pub const SUBMITTERS_US_MAX: u64 = 1_000;

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

/// Who a connection waits among.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Order {
    #[default]
    Others,
    /// Those whose last request was a submit.
    Submitters,
}

/// The connections that wait for their turns. Each is in one of the queues at most, as its [`Place`] says.
#[derive(Default, Debug)]
pub struct Turns {
    /// By [`Order`].
    first: [VecDeque<u64>; 2],
    later: [VecDeque<u64>; 2],
    paused: Vec<u64>,
}

impl Turns {
    /// Adds a connection that has become ready, unless it waits already.
    pub fn add(&mut self, id: u64, place: &mut Place, order: Order) {
        if *place == Place::None {
            *place = Place::First;
            self.first[order as usize].push_back(id);
        }
    }

    /// Adds a connection that has more, unless it waits already.
    pub fn add_later(&mut self, id: u64, place: &mut Place, order: Order) {
        if *place == Place::None {
            *place = Place::Later;
            self.later[order as usize].push_back(id);
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
        self.later[Order::Others as usize].extend(self.paused.drain(..));
    }

    /// Whether connections are paused.
    pub fn has_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    /// How many connections have just become ready, and how many wait for a later turn.
    pub fn counts(&self, order: Order) -> (usize, usize) {
        (self.first[order as usize].len(), self.later[order as usize].len())
    }

    /// The next connection that has just become ready.
    pub fn pop_first(&mut self, order: Order) -> Option<u64> {
        self.first[order as usize].pop_front()
    }

    /// The next connection that has more.
    pub fn pop_later(&mut self, order: Order) -> Option<u64> {
        self.later[order as usize].pop_front()
    }

    /// Whether no connection waits.
    pub fn is_empty(&self) -> bool {
        self.first.iter().chain(&self.later).all(VecDeque::is_empty)
    }
}
