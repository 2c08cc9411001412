//! Retention: final jobs that are still readable, in the order in which they ended. Dead ones are kept separately, as
//! [`Letters`].

use crate::ids::JobSeq;
use crate::queue::letters::{Letter, Letters};
use crate::time::{Millis, Timestamp};
use std::collections::VecDeque;

/// All final jobs: dead letters, and the others.
#[derive(Default, Debug)]
pub(super) struct Retention {
    finals: Row,
    letters: Letters,
    next_number: u64,
}

/// A final job that is dropped for its age.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Oldest {
    /// The first that is not dead.
    Final,
    /// The dead one with this number.
    Letter(u64),
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
        self.letters.len()
    }

    pub fn letters(&self) -> &Letters {
        &self.letters
    }

    pub fn letters_mut(&mut self) -> &mut Letters {
        &mut self.letters
    }

    /// The final number of the next job to end.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// The final number of one more job that ended: it counts in the order of ending.
    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    /// Adds a job that ended and is not dead.
    pub fn push(&mut self, at: Timestamp, job: JobSeq) {
        self.finals.0.push_back((at, job));
    }

    /// Which one is dropped next for its age, and when. Of two at the same instant, the dead one is kept longer.
    pub fn next(&self, retention: Millis, dead_retention: Millis) -> Option<(Timestamp, Oldest)> {
        let of_finals = self.finals.oldest_at().map(|at| (at + retention, Oldest::Final));
        let of_letters = self.letters.oldest().map(|(number, at)| (at + dead_retention, Oldest::Letter(number)));
        match (of_finals, of_letters) {
            (Some(of_finals), Some(of_letters)) if of_letters.0 < of_finals.0 => Some(of_letters),
            (of_finals, of_letters) => of_finals.or(of_letters),
        }
    }

    /// Removes the one that ended first among those that are not dead.
    pub fn pop_final(&mut self) -> Option<JobSeq> {
        self.finals.pop()
    }

    /// Restores a job of a snapshot that is not dead. Snapshots have jobs in the order of submission.
    pub fn restore(&mut self, at: Timestamp, job: JobSeq) {
        self.finals.0.push_back((at, job));
    }

    /// Restores a dead job of a snapshot.
    pub fn restore_letter(&mut self, number: u64, letter: Letter) -> Result<(), &'static str> {
        if self.letters.has(number) {
            return Err("two dead jobs have the same place in the order of ending");
        }
        self.letters.insert(number, letter);
        Ok(())
    }

    pub fn restore_next_number(&mut self, next_number: u64) {
        self.next_number = next_number;
    }

    /// All jobs of a snapshot are restored: sorts them by final number. O(n log n).
    pub fn restored(&mut self, number: impl Fn(JobSeq) -> u64) {
        self.finals.0.make_contiguous().sort_by_cached_key(|(_, job)| number(*job));
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
