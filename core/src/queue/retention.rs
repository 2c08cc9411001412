//! Retention: final jobs that are still readable, in the order in which they ended.

use crate::ids::JobSeq;
use crate::time::{Millis, Timestamp};
use std::collections::VecDeque;

/// Final jobs, the first to go in front.
#[derive(Default, Debug)]
pub(super) struct Retention {
    order: VecDeque<(Timestamp, JobSeq)>,
}

impl Retention {
    /// How many there are.
    pub fn len(&self) -> u64 {
        self.order.len() as u64
    }

    /// A job ended.
    pub fn push(&mut self, at: Timestamp, job: JobSeq) {
        self.order.push_back((at, job));
    }

    /// When the oldest one has been readable for long enough.
    pub fn next_at(&self, retention: Millis) -> Option<Timestamp> {
        self.order.front().map(|(at, _)| *at + retention)
    }

    /// Takes out the oldest one.
    pub fn pop(&mut self) -> Option<JobSeq> {
        self.order.pop_front().map(|(_, job)| job)
    }

    /// When the oldest one ended.
    pub fn oldest_at(&self) -> Option<Timestamp> {
        self.order.front().map(|(at, _)| *at)
    }

    /// Puts restored jobs, which came in the order of submission, into the order of their ends. O(n log n).
    pub fn sort_by_key(&mut self, key: impl Fn(JobSeq) -> u64) {
        self.order.make_contiguous().sort_by_key(|(_, job)| key(*job));
    }
}
