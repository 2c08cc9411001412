//! Undurable: which jobs were changed by records that the journal does not hold yet.
//!
//! While the journal takes records, whatever shows such a job waits for it. While it takes none nothing would come of
//! waiting, and a crash would take back what was shown: then these jobs are not shown, and all others are.

use sheratan_core::ids::JobSeq;
use sheratan_core::outcome::{Outcome, Submitted};
use std::collections::VecDeque;

/// Jobs by the record that changed them, the earliest first. As long as what waits for the journal, whose bytes have a
/// bound: a record changes one job, or the thousand of a pull or an extension.
#[derive(Default, Debug)]
pub struct Undurable {
    changes: VecDeque<(u64, JobSeq)>,
}

impl Undurable {
    /// Record `seq` had this outcome; `extended` are the jobs of the leases that it named, if it was an extension.
    pub fn note(&mut self, seq: u64, outcome: &Outcome, extended: Vec<JobSeq>) {
        let mut note = |job| self.changes.push_back((seq, job));
        match outcome {
            Outcome::Submitted(Submitted::Accepted { job, supersedes, .. }) => {
                note(*job);
                supersedes.iter().copied().for_each(note);
            }
            Outcome::Pulled(pulled) => pulled.leases.iter().for_each(|leased| note(leased.lease.job)),
            Outcome::Completed(completed) => note(completed.job),
            Outcome::Extended(_) => extended.into_iter().for_each(note),
            Outcome::Done | Outcome::Heard { .. } | Outcome::Submitted(_) | Outcome::Refused(_) => {}
        }
    }

    /// The journal holds all up to this record.
    pub fn forget(&mut self, up_to: u64) {
        while self.changes.front().is_some_and(|(seq, _)| *seq <= up_to) {
            self.changes.pop_front();
        }
    }

    /// Whether a job is among them. O(n), asked only while the journal takes nothing.
    pub fn has(&self, job: JobSeq) -> bool {
        self.changes.iter().any(|(_, changed)| *changed == job)
    }
}
