//! Held replies: what may not leave before the journal holds what it speaks of.

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
}

/// All replies that wait, in the order they were made; so their records' numbers never fall.
#[derive(Default, Debug)]
pub struct HeldReplies {
    replies: VecDeque<Held>,
}

impl HeldReplies {
    /// Holds a reply until the journal holds record `seq`. `is_acknowledgement` if its request changed something.
    pub fn hold(&mut self, seq: u64, origin: Origin, reply: Reply, is_acknowledgement: bool) {
        assert!(self.replies.back().is_none_or(|last| last.seq <= seq), "replies are made in the journal's order");
        self.replies.push_back(Held { seq, origin, reply, is_acknowledgement });
    }

    /// Takes out the next reply that may leave when the journal holds all up to `durable`.
    pub fn release(&mut self, durable: u64) -> Option<(Origin, Reply)> {
        if self.replies.front()?.seq > durable {
            return None;
        }
        self.replies.pop_front().map(|held| (held.origin, held.reply))
    }

    /// The journal failed: takes out a reply, and whether it would have acknowledged what is not durable.
    pub fn give_up(&mut self) -> Option<(Origin, Reply, bool)> {
        self.replies.pop_front().map(|held| (held.origin, held.reply, held.is_acknowledgement))
    }
}
