//! Invariants: what must hold of a hub at any instant, whatever was done to it.

use sheratan_core::hub::Hub;
use sheratan_core::ids::JobSeq;
use sheratan_core::queue::job::{AttemptEnd, Job, State};
use std::collections::BTreeMap;

/// Looks at every job. O(jobs).
pub fn check(hub: &Hub) -> Result<(), String> {
    let counts = hub.counts();
    let (mut scheduled, mut queued, mut leased, mut retained) = (0, 0, 0, 0);
    let mut leases_by_node: BTreeMap<String, u64> = BTreeMap::new();
    for job in hub.queue().iter_from(JobSeq::new(0)) {
        check_job(hub, job).map_err(|what| format!("job {}: {what}", job.seq().get()))?;
        match job.state() {
            State::Scheduled { .. } => scheduled += 1,
            State::Queued { .. } => queued += 1,
            State::Leased { .. } => {
                leased += 1;
                let node = job.leased_to().ok_or("a leased job has no node")?;
                *leases_by_node.entry(node.to_string()).or_default() += 1;
            }
            State::Final { .. } => retained += 1,
        }
    }
    let found = [scheduled, queued, leased, retained];
    let counted = [counts.scheduled, counts.queued, counts.leased, counts.retained];
    if found != counted {
        return Err(format!("scheduled, queued, leased, retained are counted as {counted:?} and are {found:?}"));
    }
    for node in hub.registry().iter() {
        let held = leases_by_node.get(&**node.name()).copied().unwrap_or(0);
        if held != node.leases() {
            return Err(format!("{} counts {} leases and holds {held}", node.name(), node.leases()));
        }
    }
    if hub.limits().retained_jobs_max < counts.retained || hub.limits().retained_bytes_max < counts.retained_bytes {
        return Err(format!("{} jobs of {} bytes are retained", counts.retained, counts.retained_bytes));
    }
    // Each job and key has two timers at most, each node one.
    let timers_max = 2 * hub.queue().len() + hub.dedup().len() + hub.registry().iter().count();
    if hub.timer_count() > timers_max {
        return Err(format!("{} timers are set for what needs {timers_max}", hub.timer_count()));
    }
    match hub.next_deadline() {
        Some(at) if at <= hub.now() => Err(format!("a deadline at {at:?} was passed over at {:?}", hub.now())),
        _ => Ok(()),
    }
}

fn check_job(hub: &Hub, job: &Job) -> Result<(), String> {
    let attempts = job.attempts();
    if attempts.len() as u64 > u64::from(job.attempts_max()) {
        return Err(format!("it has {} attempts of {}", attempts.len(), job.attempts_max()));
    }
    let running = attempts.iter().filter(|attempt| attempt.end == AttemptEnd::Running).count();
    let is_leased = matches!(job.state(), State::Leased { .. });
    if running != usize::from(is_leased) {
        return Err(format!("{running} of its attempts run, and it is {}", job.status()));
    }
    let completed = attempts.iter().filter(|attempt| matches!(attempt.end, AttemptEnd::Completed { .. })).count();
    if completed != usize::from(job.status() == "completed") {
        return Err(format!("{completed} of its attempts completed it, and it is {}", job.status()));
    }
    let key = hub.key();
    if key.parse_job_id(key.job_id(job.seq()).as_str()) != Some(job.seq()) {
        return Err("its id does not read back".into());
    }
    if is_leased && key.parse_lease_id(key.lease_id(job.lease()).as_str()) != Some(job.lease()) {
        return Err("its lease's id does not read back".into());
    }
    Ok(())
}
