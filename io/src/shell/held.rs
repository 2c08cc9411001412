//! Held replies: what may not leave before the journal holds what it speaks of.

use super::rules;
use crate::http::Reply;
use crate::service::Origin;
use std::collections::VecDeque;

/// One reply that waits.
#[derive(Debug)]
struct Held {
    seq: u64,
    origin: Origin,
    reply: Reply,
    is_acknowledgement: bool,
    /// When its request came, in microseconds of the shell's stopwatch; none for a long poll, whose wait is its client's
    /// wish.
    came_at: Option<u64>,
}

/// A reply that may leave.
#[derive(Debug)]
pub struct Released {
    /// Where it goes.
    pub origin: Origin,
    /// The reply.
    pub reply: Reply,
    /// Whether its client may take it for a promise: its request changed something, repeats one that did, or shows what
    /// one did.
    pub is_acknowledgement: bool,
    /// When its request came, in microseconds of the shell's stopwatch, unless that was a long poll.
    pub came_at: Option<u64>,
}

/// All replies that wait, in the order they were made; so their records' numbers never fall.
#[derive(Default, Debug)]
pub struct HeldReplies {
    replies: VecDeque<Held>,
}

impl HeldReplies {
    /// Holds a reply until the journal holds record `seq`. `is_acknowledgement` if its client may take it for
    /// a promise.
    pub fn hold(&mut self, seq: u64, origin: Origin, reply: Reply, is_acknowledgement: bool, came_at: Option<u64>) {
        assert!(self.replies.back().is_none_or(|last| last.seq <= seq), "replies are made in the journal's order");
        self.replies.push_back(Held { seq, origin, reply, is_acknowledgement, came_at });
    }

    /// Takes out the next reply that may leave when the journal holds all up to `durable`.
    pub fn release(&mut self, durable: u64) -> Option<Released> {
        if rules::may_leave(self.replies.front()?.seq, durable) { self.give_up() } else { None }
    }

    /// The journal failed: takes out a reply, which would have acknowledged what is not durable if it says so.
    pub fn give_up(&mut self) -> Option<Released> {
        let Held { origin, reply, is_acknowledgement, came_at, .. } = self.replies.pop_front()?;
        Some(Released { origin, reply, is_acknowledgement, came_at })
    }
}
