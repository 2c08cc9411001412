//! Invariants: what must hold of every state, and whether the hub's rows equal the model's.

use crate::model_check::model::{self, Model, Toll, liveness_at};
use crate::model_check::traffic::{TOKENS, token};
use crate::model_check::violation::{Violation, holds};
use sheratan_core::limits::ATTEMPTS_KEPT_MAX;
use sheratan_core::{
    Account, AttemptEnd, Counts, FinalStatus, Hub, JobSeq, JobView, Liveness, Millis, OnLettersFull, State, Timestamp,
};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Checks limits and counts. O(1), so it runs after each step.
pub fn check_bounds(hub: &Hub) -> Result<(), Violation> {
    let (counts, limits) = (hub.counts(), hub.limits());
    holds(counts.retained <= limits.retained_jobs_max, || {
        format!("{} final jobs are kept of {}", counts.retained, limits.retained_jobs_max)
    })?;
    // Kinds that keep their letters keep them when the limit is lowered.
    let keeps = |on_full: Option<OnLettersFull>| on_full == Some(OnLettersFull::Refuse);
    let has_keeping =
        limits.dead_full_refuses != 0 || hub.queue().ruled_kinds().any(|(_, rules, _)| keeps(rules.on_letters_full));
    holds(counts.dead <= limits.dead_jobs_max || has_keeping, || {
        format!("{} dead jobs are kept of {}", counts.dead, limits.dead_jobs_max)
    })?;
    let bounds = [
        (Account::Retained, limits.retained_bytes_max),
        (Account::Dead, limits.dead_bytes_max),
        (Account::Orphans, limits.orphans_bytes_max),
    ];
    for (account, bytes_max) in bounds {
        let bytes = hub.ledger().get(account);
        holds(bytes <= bytes_max, || format!("{bytes} bytes are on account {} of {bytes_max}", account.as_str()))?;
    }
    holds(hub.orphans().len() as u64 <= limits.orphans_max, || {
        format!("{} orphans are kept of {}", hub.orphans().len(), limits.orphans_max)
    })?;
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
    // A job has a timer for its expiry and one for its next instant; a held lease, a node, a spent key, a kind with rules
    // and an act have one each, and so has the retry budget.
    let kinds = hub.queue().ruled_kinds().count() as u64;
    let acts = hub.acts().iter().filter(|act| act.is_running()).count() as u64;
    let others = counts.held + nodes + hub.dedup().len() as u64 + kinds + acts + 1;
    holds(hub.timer_count() as u64 <= 2 * unfinished + others, || {
        format!("{} timers are set for {unfinished} jobs and {others} other things", hub.timer_count())
    })?;
    check_budget(hub)
}

/// Checks that no postponed retry starves: the floor alone gives the next credit in time.
fn check_budget(hub: &Hub) -> Result<(), Violation> {
    let (postponed, rate) = (hub.queue().postponed_count(), hub.limits().retries_per_sec_min);
    let Some(second) = 1_000_u64.checked_div(rate.into()) else { return Ok(()) };
    let latest = hub.now() + Millis::new(second + 1);
    let is_in_time = hub.next_due_at().is_some_and(|at| at <= latest) || latest == Timestamp::NEVER;
    holds(postponed == 0 || is_in_time, || {
        format!("{postponed} retries are postponed, and the next deadline is {:?}", hub.next_due_at())
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
    for number in 0..TOKENS {
        let (expected, of) = (model.token_verdict(token(number)), token(number));
        let found = hub.tokens().judge(hub.now(), hub.calendar(), &of);
        if expected != found {
            return differs(format!("token {number} should be {expected:?}, is {found:?}"));
        }
    }
    for account in Account::ALL.into_iter().filter(|one| !matches!(one, Account::Shared | Account::Waiters)) {
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
            && node.drain().is_some() == expected.drain.is_some()
            && node.liveness() == expected.liveness;
        if !is_same {
            return differs(format!("expected {expected:?}, there is {node:?}"));
        }
    }
    let sizes = (hub.registry().iter().count(), hub.dedup().len());
    if sizes != (model.nodes().len(), model.key_count()) {
        return differs(format!("nodes and keys: {sizes:?}, not {:?}", (model.nodes().len(), model.key_count())));
    }
    check_operators_rows(hub, model)
}

/// Kinds with rules, acts and orphans.
fn check_operators_rows(hub: &Hub, model: &Model) -> Result<(), Violation> {
    let mut kinds: Vec<_> = model.kinds().iter().map(|kind| (&kind.name, &kind.rules, kind.version)).collect();
    kinds.sort_by_key(|(name, _, _)| *name);
    let found: Vec<_> = hub.queue().ruled_kinds().collect();
    if found != kinds {
        return Err(Violation::Rows(format!("kinds with rules should be {kinds:?}, are {found:?}")));
    }
    let acts = model.acts().iter().map(|act| (act.id, act.done, act.skipped, act.ended_at, act.is_cancelled));
    let found = hub.acts().iter().map(|act| (act.id, act.done, act.skipped, act.ended_at, act.is_cancelled));
    if !found.eq(acts) {
        let found: Vec<_> = hub.acts().iter().collect();
        return Err(Violation::Rows(format!("acts should be {:?}, are {found:?}", model.acts())));
    }
    let found = hub.orphans().iter_from(0).map(|orphan| (orphan.id, &orphan.parked));
    if !found.eq(model.orphans().iter().map(|(id, parked)| (*id, parked))) {
        let found: Vec<_> = hub.orphans().iter_from(0).collect();
        return Err(Violation::Rows(format!("orphans should be {:?}, are {found:?}", model.orphans())));
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
    let counted = (expected.held.map(|(node, _)| node), expected.count(Toll::Charge), expected.count(Toll::Loss));
    let found = (job.held_by(), job.attempts_charged(), job.losses());
    if counted != found {
        return differ("who holds its lease, its attempts and its losses", &counted, &found);
    }
    let (progress, note) = expected.report.as_ref().map_or((None, None), |(progress, note)| (*progress, note.as_ref()));
    if (job.end_reason(), job.progress()) != (expected.reason, (progress, note)) {
        let expected = (expected.reason, progress, note);
        return differ("its end's reason and its progress", &expected, &(job.end_reason(), job.progress()));
    }
    let terms = (&expected.asked.kind, expected.priority, expected.expires_at, expected.attempts_max);
    let found = (job.kind(), job.priority(), job.expires_at(), job.attempts_max());
    if terms == found { Ok(()) } else { differ("what was asked for", &terms, &found) }
}
