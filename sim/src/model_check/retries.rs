//! Retries: never more become ready than their budget allows.
//!
//! It knows no credits: the retries that were leased are no more than the seconds that passed, each with the floor of its
//! time, and the share of the fresh jobs, and what the floor may have saved. A retry is a lease of a job whose last attempt
//! failed, or took too long; those that were ready before the budget began do not count.

use crate::model_check::violation::{Violation, holds};
use sheratan_core::limits::RETRY_FLOOR_SAVED_SECS;
use sheratan_core::{
    AttemptEnd, Command, Hub, JobSeq, JobView, Limits, Outcome, Revocation, RulesVersion, State, Submitted, Timestamp,
};

/// The first rules with a budget.
const LIMITED: RulesVersion = RulesVersion::new(3);

/// The retries that were leased, and those that may have become ready.
#[derive(Default, Debug)]
pub struct Retries {
    leased: u64,
    /// In thousandths of hundredths: a floor of one a second gives 100 in each millisecond.
    allowed: u128,
    /// The instant of the last command, with the floor from then on; absent before there is a budget.
    since: Option<(Timestamp, u32)>,
}

const ONE: u128 = 100_000;

impl Retries {
    /// Checks a command's outcome; `hub` has just returned it.
    pub fn outcome(&mut self, command: &Command, outcome: &Outcome, hub: &Hub) -> Result<(), Violation> {
        if hub.rules() < LIMITED {
            return Ok(());
        }
        let limits = hub.limits();
        match self.since {
            None => self.begin(hub),
            Some((since, floor)) => self.allowed += u128::from(hub.now().since(since).get()) * u128::from(floor) * 100,
        }
        self.since = Some((hub.now(), limits.retries_per_sec_min));
        match outcome {
            Outcome::Submitted(Submitted::Accepted { .. }) => {
                self.allowed += u128::from(limits.retry_share_percent) * (ONE / 100);
            }
            Outcome::Pulled(pulled) => {
                let jobs = pulled.leases.iter().filter_map(|leased| hub.queue().get(leased.lease.job));
                self.leased += jobs.filter(|job| is_retry(job, 1)).count() as u64;
            }
            _ => {}
        }
        let allowed = self.allowed / ONE;
        holds(u128::from(self.leased) <= allowed, || {
            format!("{} retries were leased and {allowed} may have become ready after {command:?}", self.leased)
        })
    }

    fn begin(&mut self, hub: &Hub) {
        let Limits { retries_per_sec_min, .. } = hub.limits();
        let ready = hub.queue().iter_from(JobSeq::FIRST).filter(|job| {
            let is_ready = matches!(job.state(), State::Queued { .. });
            is_ready && is_retry(job, 0)
        });
        let saved = u64::from(*retries_per_sec_min) * RETRY_FLOOR_SAVED_SECS;
        self.allowed = u128::from(saved + ready.count() as u64) * ONE;
    }
}

/// Whether the attempt before the latest `skipped` ones makes the next one a retry. Those before a job was requeued do not
/// count.
fn is_retry(job: &JobView<'_>, skipped: usize) -> bool {
    let is_failure = job.attempts().rev().nth(skipped).is_some_and(|attempt| {
        matches!(attempt.end, AttemptEnd::Failed { .. } | AttemptEnd::Revoked { why: Revocation::MaxRun, .. })
    });
    is_failure && job.attempts_charged() as usize > skipped
}
