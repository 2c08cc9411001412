//! Invariants: what must hold of every state, and whether the hub's rows equal the model's.

use crate::model_check::model::{self, Model, liveness_at};
use crate::model_check::violation::{Violation, holds};
use sheratan_core::limits::ATTEMPTS_KEPT_MAX;
use sheratan_core::{Account, AttemptEnd, Counts, FinalStatus, Hub, JobSeq, JobView, Liveness, State, Timestamp};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Checks limits and counts. O(1), so it runs after each step.
pub fn check_bounds(hub: &Hub) -> Result<(), Violation> {
    let (counts, limits) = (hub.counts(), hub.limits());
    holds(counts.retained <= limits.retained_jobs_max, || {
        format!("{} final jobs are kept of {}", counts.retained, limits.retained_jobs_max)
    })?;
    // Kinds that keep their letters keep them when the limit is lowered.
    holds(counts.dead <= limits.dead_jobs_max || limits.dead_full_refuses != 0, || {
        format!("{} dead jobs are kept of {}", counts.dead, limits.dead_jobs_max)
    })?;
    let bounds = [(Account::Retained, limits.retained_bytes_max), (Account::Dead, limits.dead_bytes_max)];
    for (account, bytes_max) in bounds {
        let bytes = hub.ledger().get(account);
        holds(bytes <= bytes_max, || format!("{bytes} bytes are on account {} of {bytes_max}", account.as_str()))?;
    }
    let unfinished = counts.waiting() + counts.leased - counts.held;
    holds(hub.queue().len() as u64 == unfinished + counts.retained + counts.dead, || {
        format!(
            "{} jobs are known, {unfinished} unfinished, {} final and {} dead",
            hub.queue().len(),
            counts.retained,
            counts.dead
        )
    })?;
    let nodes: u64 =
        [Liveness::Online, Liveness::Stale, Liveness::Dead].map(|one| hub.registry().count(one)).iter().sum();
    // A job has a timer for its expiry and one for its next instant; a node and a spent key have one each.
    let timers_max = 2 * unfinished + nodes + hub.dedup().len() as u64;
    holds(hub.timer_count() as u64 <= timers_max, || {
        format!("{} timers are set for {unfinished} jobs, {nodes} nodes, {} keys", hub.timer_count(), hub.dedup().len())
    })
}

/// Checks, after `Hub::advance`, that no timer is due.
pub fn check_nothing_is_due(hub: &Hub) -> Result<(), Violation> {
    let next = hub.next_due_at().filter(|_| hub.now() != Timestamp::NEVER);
    holds(next.is_none_or(|at| at > hub.now()), || {
        format!("{:?} is still due at {:?} after the hub was advanced", next, hub.now())
    })
}

/// Walks over all jobs: counts are sums, states fit attempts. O(n).
pub fn check_jobs(hub: &Hub) -> Result<(), Violation> {
    let mut counts = Counts::default();
    let mut held = BTreeMap::new();
    let mut last = JobSeq::new(0);
    for job in hub.queue().iter_from(JobSeq::FIRST) {
        let seq = job.seq().get();
        holds(last < job.seq() && job.seq() < hub.queue().next_seq(), || format!("job {seq} is out of order"))?;
        last = job.seq();
        let running = job.attempts().filter(|attempt| attempt.end == AttemptEnd::Running).count();
        let is_last_running = job.attempts().next_back().is_some_and(|attempt| attempt.end == AttemptEnd::Running);
        let is_leased = matches!(job.state(), State::Leased { .. });
        holds(running == usize::from(is_leased) && is_last_running == is_leased, || {
            format!("job {seq} is {} and {running} of its attempts run", job.status())
        })?;
        holds(job.attempts_charged() <= job.attempts_max() && job.attempts().count() <= ATTEMPTS_KEPT_MAX, || {
            format!("job {seq} had too many attempts")
        })?;
        if let Some(node) = job.held_by() {
            counts.leased += 1;
            counts.held += 1;
            *held.entry(node.get()).or_insert(0u64) += 1;
        }
        match job.state() {
            State::Dated { .. } | State::Scheduled { .. } | State::Postponed { .. } => counts.scheduled += 1,
            State::Queued { .. } => counts.queued += 1,
            State::Leased { node, .. } => {
                counts.leased += 1;
                *held.entry(node.get()).or_insert(0u64) += 1;
            }
            State::Final { status: FinalStatus::Dead, .. } => counts.dead += 1,
            State::Final { .. } => counts.retained += 1,
        }
    }
    let walked = hub.recount();
    holds(walked == *hub.ledger(), || format!("a walk charges {walked:?}, the ledger has {:?}", hub.ledger()))?;
    holds(counts == hub.counts(), || format!("a walk counts {counts:?}, the hub {:?}", hub.counts()))?;
    for node in hub.registry().iter() {
        let leases = held.remove(&node.index().get()).unwrap_or(0);
        holds(node.leases() == leases, || format!("{} holds {leases} leases, not {}", node.name(), node.leases()))?;
        let liveness = liveness_at(hub.now(), hub.limits(), node.last_seen_at());
        // At the end of time no timer is left to make a node stale.
        holds(node.liveness() == liveness || hub.now() == Timestamp::NEVER, || {
            format!(
                "{} is {} at {}, last seen at {}; it should be {}",
                node.name(),
                node.liveness().as_str(),
                hub.now().as_millis(),
                node.last_seen_at().as_millis(),
                liveness.as_str()
            )
        })?;
    }
    holds(held.is_empty(), || format!("nodes hold leases and are unknown: {held:?}"))
}

/// Checks that the hub's rows equal the model's. O(n).
pub fn check_rows(hub: &Hub, model: &Model) -> Result<(), Violation> {
    let differs = |what: String| Err(Violation::Rows(what));
    let mut jobs = hub.queue().iter_from(JobSeq::FIRST);
    for expected in model.jobs() {
        let Some(job) = jobs.next() else { return differs(format!("job {} is missing", expected.seq.get())) };
        check_job(job, expected)?;
    }
    if let Some(job) = jobs.next() {
        return differs(format!("job {} should have been dropped", job.seq().get()));
    }
    if hub.counts() != model.counts() {
        return differs(format!("expected {:?}, there are {:?}", model.counts(), hub.counts()));
    }
    for account in
        [Account::Waiting, Account::Leased, Account::Retained, Account::Dead, Account::Answers, Account::Nodes]
    {
        let (expected, found) = (model.bytes(account), hub.ledger().get(account));
        if expected != found {
            return differs(format!("account {} should have {expected} bytes, has {found}", account.as_str()));
        }
    }
    for expected in model.nodes() {
        let Some(node) = hub.registry().get(expected.index) else {
            return differs(format!("node {} is missing", expected.name));
        };
        let is_same = *node.name() == expected.name
            && *node.zone() == expected.zone
            && *node.capabilities() == expected.capabilities
            && node.last_seen_at() == expected.last_seen_at
            && node.liveness() == expected.liveness;
        if !is_same {
            return differs(format!("expected {expected:?}, there is {node:?}"));
        }
    }
    let sizes = (hub.registry().iter().count(), hub.dedup().len());
    if sizes != (model.nodes().len(), model.key_count()) {
        return differs(format!("nodes and keys: {sizes:?}, not {:?}", (model.nodes().len(), model.key_count())));
    }
    Ok(())
}

/// Reports the first difference only: a job may have a hundred attempts.
fn check_job(job: JobView<'_>, expected: &model::Job) -> Result<(), Violation> {
    let differ = |what: &str, expected: &dyn Debug, found: &dyn Debug| {
        Err(Violation::Rows(format!("job {}: {what} should be {expected:?}, is {found:?}", job.seq().get())))
    };
    if job.seq() != expected.seq {
        return differ("its number", &expected.seq.get(), &job.seq().get());
    }
    if job.state() != expected.state {
        return differ("its state (or result)", &expected.state, &job.state());
    }
    let withheld_from = expected.withheld_from.as_ref().map(|(node, until)| (node, *until));
    if job.withheld_from() != withheld_from {
        return differ("the node that does not get it yet", &withheld_from, &job.withheld_from());
    }
    if !job.attempts().eq(expected.kept_attempts()) {
        return differ("its last attempt (or an earlier one)", &expected.attempts.last(), &job.attempts().next_back());
    }
    if job.params() != expected.asked.params.as_ref() {
        return differ("its payload", &expected.asked.params, &job.params());
    }
    let priority = expected.asked.priority.unwrap_or_default();
    let terms = (&expected.asked.kind, priority, expected.expires_at, expected.attempts_max);
    let found = (job.kind(), job.priority(), job.expires_at(), job.attempts_max());
    if terms == found { Ok(()) } else { differ("what was asked for", &terms, &found) }
}
