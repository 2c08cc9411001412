//! Retention: final jobs that are still readable, in the order in which they ended. Dead ones are kept separately, with
//! limits of their own.

use crate::ids::JobSeq;
use crate::outcome::FinalStatus;
use crate::time::{Millis, Timestamp};
use std::collections::VecDeque;

/// All final jobs: dead letters, and the others.
#[derive(Default, Debug)]
pub(super) struct Retention {
    finals: Row,
    dead: Row,
    next_number: u64,
}

/// Jobs in the order in which they ended: the next one to be dropped is in front.
#[derive(Default, Debug)]
struct Row(VecDeque<(Timestamp, JobSeq)>);

/// Capacity that a row keeps with few jobs.
const CAPACITY_MIN: usize = 1_024;

impl Retention {
    /// Dead jobs not counted.
    pub fn final_count(&self) -> u64 {
        self.finals.0.len() as u64
    }

    pub fn dead_count(&self) -> u64 {
        self.dead.0.len() as u64
    }

    /// The final number of the next job to end.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Adds a job that ended; returns its final number, which counts in the order of ending.
    pub fn insert(&mut self, at: Timestamp, job: JobSeq, status: FinalStatus) -> u64 {
        self.row_mut(status).0.push_back((at, job));
        self.next_number += 1;
        self.next_number - 1
    }

    /// When the oldest one is dropped for its age.
    pub fn next_at(&self, retention: Millis) -> Option<Timestamp> {
        let at = match (self.finals.oldest_at(), self.dead.oldest_at()) {
            (Some(finals), Some(dead)) => Some(finals.min(dead)),
            (finals, dead) => finals.or(dead),
        };
        at.map(|at| at + retention)
    }

    /// Removes the one that ended first. Of two that ended at the same instant, the dead one is kept longer.
    pub fn pop_oldest(&mut self) -> Option<JobSeq> {
        let is_dead = match (self.finals.oldest_at(), self.dead.oldest_at()) {
            (Some(finals), Some(dead)) => dead < finals,
            (None, Some(_)) => true,
            _ => false,
        };
        if is_dead { self.pop_dead() } else { self.pop_final() }
    }

    /// Removes the one that ended first among those that are not dead.
    pub fn pop_final(&mut self) -> Option<JobSeq> {
        self.finals.pop()
    }

    /// Removes the dead one that ended first.
    pub fn pop_dead(&mut self) -> Option<JobSeq> {
        self.dead.pop()
    }

    /// Restores a job of a snapshot. Snapshots have jobs in the order of submission.
    pub fn restore(&mut self, at: Timestamp, job: JobSeq, status: FinalStatus) {
        self.row_mut(status).0.push_back((at, job));
    }

    pub fn restore_next_number(&mut self, next_number: u64) {
        self.next_number = next_number;
    }

    /// All jobs of a snapshot are restored: sorts them by final number. O(n log n).
    pub fn restored(&mut self, number: impl Fn(JobSeq) -> u64) {
        for row in [&mut self.finals, &mut self.dead] {
            row.0.make_contiguous().sort_by_cached_key(|(_, job)| number(*job));
        }
    }

    fn row_mut(&mut self, status: FinalStatus) -> &mut Row {
        if status == FinalStatus::Dead { &mut self.dead } else { &mut self.finals }
    }
}

impl Row {
    fn oldest_at(&self) -> Option<Timestamp> {
        self.0.front().map(|(at, _)| *at)
    }

    fn pop(&mut self) -> Option<JobSeq> {
        let popped = self.0.pop_front().map(|(_, job)| job);
        if self.0.capacity() > CAPACITY_MIN && self.0.len() < self.0.capacity() / 8 {
            self.0.shrink_to(self.0.len() * 2);
        }
        popped
    }
}
