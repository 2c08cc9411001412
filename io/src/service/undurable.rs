//! Undurable: what was done and the journal does not hold yet, as far as it shows in jobs.
//!
//! While the journal takes records, whatever shows a job waits for it. While it takes none nothing would come of waiting,
//! and a crash would take back what was shown: then the jobs that such records changed are not shown, and all others are.
//!
//! Time has no records of its own. A job that expires does so again after a crash, unless the clock is set back: so what
//! time alone ended is to be a record before it is told.

use sheratan_core::effect::Effect;
use sheratan_core::ids::JobSeq;
use sheratan_core::outcome::{Outcome, Submitted};
use sheratan_core::queue::job::{AttemptEnd, Job, State};
use sheratan_core::time::Timestamp;
use std::collections::VecDeque;

/// What the journal does not hold.
#[derive(Debug)]
pub struct Undurable {
    /// Jobs by the record that changed them, the earliest first. As long as what waits for the journal, whose bytes have a
    /// bound: a record changes one job, or the thousand of a pull or an extension.
    changes: VecDeque<(u64, JobSeq)>,
    /// The instant of the last record, which holds all that time did until then.
    recorded_at: Timestamp,
    /// When an attempt or a job ended last.
    ended_at: Timestamp,
    /// Of the effects that were not settled, so many were looked at.
    looked_at: usize,
}

impl Undurable {
    /// All that happened until `now` is in the journal.
    pub fn new(now: Timestamp) -> Self {
        Undurable { changes: VecDeque::new(), recorded_at: now, ended_at: now, looked_at: 0 }
    }

    /// Record `seq` had this outcome; `extended` are the jobs of the leases that it named, if it was an extension.
    pub fn note(&mut self, seq: u64, now: Timestamp, outcome: &Outcome, extended: Vec<JobSeq>) {
        self.recorded_at = now;
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

    /// Looks at the effects that came since this was last called. Each is looked at once.
    pub fn look(&mut self, effects: &[Effect]) {
        for effect in &effects[self.looked_at..] {
            if let Effect::Stage(at, ..) = effect {
                self.ended_at = self.ended_at.max(*at);
            }
        }
        self.looked_at = effects.len();
    }

    /// The effects that were looked at are gone.
    pub fn settled(&mut self) {
        self.looked_at = 0;
    }

    /// Whether something ended after the last record: time alone did that.
    pub fn is_time_ahead(&self) -> bool {
        self.ended_at > self.recorded_at
    }

    /// The journal holds all up to this record.
    pub fn forget(&mut self, up_to: u64) {
        while self.changes.front().is_some_and(|(seq, _)| *seq <= up_to) {
            self.changes.pop_front();
        }
    }

    /// Whether a job is not durable as it is. O(n) in what is not, asked only while the journal takes nothing.
    pub fn has(&self, job: &Job) -> bool {
        let ended_at = match (job.state(), job.attempts().last().map(|attempt| &attempt.end)) {
            (State::Final { at, .. }, _) => *at,
            (_, Some(AttemptEnd::Expired { at })) => *at,
            _ => Timestamp::ZERO,
        };
        ended_at > self.recorded_at || self.changes.iter().any(|(_, changed)| *changed == job.seq())
    }
}
