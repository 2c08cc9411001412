//! Scans: the jobs that a filter matches, newest first, page by page.
//!
//! Blocks of jobs that have none in the state or of the kind are passed as one, instants of submission by bisection; the rest is looked
//! for in each job. A scan ends after a bounded cost, also in the middle of jobs that do not match, and says where it
//! stopped: the next one goes on there.

use super::Queue;
use super::job::{Job, JobView};
use super::kind::KindIndex;
use super::tally::Status;
use crate::ids::JobSeq;
use crate::limits::{SCAN_COST_JOB, SCAN_COST_MAX};
use crate::time::Timestamp;

/// Which jobs are looked for. What is absent matches all.
#[derive(Clone, Copy, Default, Debug)]
pub struct Filter<'a> {
    pub status: Option<Status>,
    pub kind: Option<&'a str>,
    pub zone: Option<&'a str>,
    /// The node of the latest attempt, which is that of the current lease.
    pub node: Option<&'a str>,
    /// A part of the JSON text of the [last error](JobView::last_error).
    pub error: Option<&'a str>,
}

/// Jobs that were found.
#[derive(Debug)]
pub struct Found<'a> {
    /// Newest first.
    pub jobs: Vec<JobView<'a>>,
    /// How many jobs were examined.
    pub scanned: u64,
    /// If the scan was ended by its limits: the oldest number that it passed. What is older was not looked at.
    pub passed: Option<JobSeq>,
}

impl Queue {
    /// Up to `limit` jobs of the numbers from `oldest` to `newest` that match, newest first. Its cost is bounded by
    /// [`SCAN_COST_MAX`].
    pub fn scan(&self, filter: &Filter<'_>, (oldest, newest): (JobSeq, JobSeq), limit: usize) -> Found<'_> {
        let mut found = Found { jobs: Vec::new(), scanned: 0, passed: None };
        let kind = match filter.kind.map(|name| self.kinds.find(name)) {
            Some(None) => return found,
            kind => kind.flatten(),
        };
        let mut cost = 0;
        let mut passed = JobSeq::new(newest.get() + 1);
        for ((first, last), block) in self.table.blocks_back(newest, oldest) {
            cost += 1;
            if block.may_have(filter.status, kind) {
                for job in self.table.iter_back_from(last).take_while(|job| job.seq >= first) {
                    if found.jobs.len() == limit || cost >= SCAN_COST_MAX {
                        found.passed = Some(passed);
                        return found;
                    }
                    found.scanned += 1;
                    passed = job.seq;
                    cost += 1;
                    if self.matches(filter, kind, job, &mut cost) {
                        found.jobs.push(self.view(job));
                    }
                }
            }
            passed = first;
        }
        found
    }

    /// The numbers of the jobs that were submitted at `since` or later, and before `until`; `None` if there are none.
    pub fn submitted_between(&self, since: Timestamp, until: Timestamp) -> Option<(JobSeq, JobSeq)> {
        let oldest = self.table.first_since(since)?;
        let end = self.table.first_since(until).unwrap_or(self.next_seq);
        (oldest < end).then(|| (oldest, JobSeq::new(end.get() - 1)))
    }

    /// Whether a job matches; adds what it costs to read its error.
    fn matches(&self, filter: &Filter<'_>, kind: Option<KindIndex>, job: &Job, cost: &mut u64) -> bool {
        if filter.status.is_some_and(|status| job.counted != Some(status)) || kind.is_some_and(|kind| job.kind != kind)
        {
            return false;
        }
        *cost += SCAN_COST_JOB - 1;
        filter.zone.is_none_or(|zone| self.classes.key(job.class).zone.as_str() == zone)
            && filter.node.is_none_or(|node| job.attempts().next_back().is_some_and(|attempt| *attempt.node == *node))
            && filter.error.is_none_or(|part| has_error(job, part, cost))
    }
}

fn has_error(job: &Job, part: &str, cost: &mut u64) -> bool {
    let Some(error) = job.last_error() else { return false };
    *cost += error.len() as u64 / 16;
    let (text, part) = (error.as_bytes(), part.as_bytes());
    text.len() >= part.len() && text.windows(part.len().max(1)).any(|window| window == part)
}
