//! Held replies: replies that wait until the records they depend on are durable.

use super::rules;
use crate::http::Reply;
use crate::service::Origin;
use std::collections::VecDeque;

/// A reply that waits for a record.
#[derive(Debug)]
struct Held {
    seq: u64,
    origin: Origin,
    reply: Reply,
    is_acknowledgement: bool,
    /// When its request arrived, in microseconds of the shell's stopwatch; `None` for a long poll, whose wait its
    /// client asked for.
    came_at: Option<u64>,
}

/// A reply that may leave.
#[derive(Debug)]
pub struct Released {
    /// The request that it answers.
    pub origin: Origin,
    /// The reply.
    pub reply: Reply,
    /// Whether it acknowledges records: its request changed the state, repeats one that did, or shows what one changed.
    pub is_acknowledgement: bool,
    /// When its request arrived, in microseconds of the shell's stopwatch; `None` for a long poll.
    pub came_at: Option<u64>,
}

/// All held replies, in the order they were made; so their records' numbers never decrease.
#[derive(Default, Debug)]
pub struct HeldReplies {
    replies: VecDeque<Held>,
}

impl HeldReplies {
    /// Holds a reply until record `seq` is durable.
    pub fn hold(&mut self, seq: u64, origin: Origin, reply: Reply, is_acknowledgement: bool, came_at: Option<u64>) {
        assert!(self.replies.back().is_none_or(|last| last.seq <= seq), "replies are made in the journal's order");
        self.replies.push_back(Held { seq, origin, reply, is_acknowledgement, came_at });
    }

    /// Removes and returns the next reply that may be sent when all records up to `durable` are durable.
    pub fn release(&mut self, durable: u64) -> Option<Released> {
        if rules::may_leave(self.replies.front()?.seq, durable) { self.pop() } else { None }
    }

    /// Removes and returns the oldest reply, after the journal failed: if it is an acknowledgement, it must not be sent
    /// as it is.
    pub fn pop(&mut self) -> Option<Released> {
        let Held { origin, reply, is_acknowledgement, came_at, .. } = self.replies.pop_front()?;
        Some(Released { origin, reply, is_acknowledgement, came_at })
    }
}
