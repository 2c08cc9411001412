//! Held replies: replies that wait until the records they depend on are durable.

use super::rules;
use crate::http::Reply;
use crate::service::Origin;
use sheratan_core::{Millis, Timestamp};
use std::collections::VecDeque;
use std::mem;

/// How long the loop waits for the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// A commit that takes longer than this is taken for a disk that hangs: commands are refused until it returns.
    pub commit_ms_max: Millis,
    /// A reply is held at most for this long, then its client is answered that the outcome is unknown. Most clients
    /// give up a request after 30 s to 60 s, and would learn nothing from a later answer.
    pub held_ms_max: Millis,
}

impl Patience {
    /// The defaults.
    pub const DEFAULT: Patience = Patience { commit_ms_max: Millis::from_secs(5), held_ms_max: Millis::from_secs(30) };
}

/// A reply that waits for a record.
#[derive(Debug)]
struct Held {
    seq: u64,
    origin: Origin,
    reply: Reply,
    is_acknowledgement: bool,
    held_at: Timestamp,
    /// When its request arrived, in microseconds of the shell's stopwatch; `None` for a long poll, whose wait its
    /// client asked for.
    came_at: Option<u64>,
}

/// A reply that is held no longer.
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
    bytes: usize,
}

impl HeldReplies {
    /// Holds a reply from `now` on until record `seq` is durable.
    pub fn hold(
        &mut self,
        now: Timestamp,
        seq: u64,
        origin: Origin,
        reply: Reply,
        is_acknowledgement: bool,
        came_at: Option<u64>,
    ) {
        assert!(self.replies.back().is_none_or(|last| last.seq <= seq), "replies are made in the journal's order");
        self.bytes += reply.bytes();
        self.replies.push_back(Held { seq, origin, reply, is_acknowledgement, held_at: now, came_at });
    }

    /// Removes and returns the next reply that may be sent when all records up to `durable` are durable.
    pub fn release(&mut self, durable: u64) -> Option<Released> {
        if rules::may_leave(self.replies.front()?.seq, durable) { self.pop() } else { None }
    }

    /// Removes and returns the next reply that was held for `held_ms_max`: if it is an acknowledgement, it must not be
    /// sent as it is.
    pub fn release_overdue(&mut self, now: Timestamp, held_ms_max: Millis) -> Option<Released> {
        if self.oldest_at()? + held_ms_max <= now { self.pop() } else { None }
    }

    /// Removes and returns the replies that acknowledge nothing: they may be sent though the journal failed. O(n).
    pub fn release_harmless(&mut self) -> Vec<Released> {
        let (held, harmless) = mem::take(&mut self.replies).into_iter().partition(|held| held.is_acknowledgement);
        self.replies = held;
        let harmless: VecDeque<Held> = harmless;
        self.bytes -= harmless.iter().map(|held| held.reply.bytes()).sum::<usize>();
        harmless.into_iter().map(Held::into_released).collect()
    }

    /// Since when the oldest reply is held.
    pub fn oldest_at(&self) -> Option<Timestamp> {
        Some(self.replies.front()?.held_at)
    }

    /// Removes and returns all replies.
    pub fn drain(&mut self) -> Vec<Released> {
        self.bytes = 0;
        self.replies.drain(..).map(Held::into_released).collect()
    }

    fn pop(&mut self) -> Option<Released> {
        let held = self.replies.pop_front()?;
        self.bytes -= held.reply.bytes();
        Some(held.into_released())
    }

    /// The bytes that they hold.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Held {
    fn into_released(self) -> Released {
        let Held { origin, reply, is_acknowledgement, came_at, .. } = self;
        Released { origin, reply, is_acknowledgement, came_at }
    }
}
