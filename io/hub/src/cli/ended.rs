//! Ended: waits for submitted jobs, and passes them on as they end.
//!
//! A few threads each hold one long poll. They wait for jobs in the order of submission, so that a thousand jobs cost a
//! thousand requests and no polling; a long job occupies one thread, not the others.

use super::link::Link;
use super::patience::Patience;
use crate::client::CallError;
use crate::client::calls::{JobView, WAIT_MAX};
use crossbeam_channel::{Receiver, Sender};
use std::sync::Arc;

/// Jobs that are waited for at once.
const JOBS_MAX: usize = 100_000;

/// Ended jobs that may wait for the receiver.
const ENDS_MAX: usize = 1_000;

/// A job that is waited for.
#[derive(Clone, Debug)]
pub struct Awaited {
    /// The caller's own number for it.
    pub number: u64,
    /// The job.
    pub job_id: String,
}

/// A job whose wait is over.
#[derive(Debug)]
pub struct Ended {
    /// Which one.
    pub awaited: Awaited,
    /// The final job, or why its end is unknown.
    pub outcome: Result<JobView, CallError>,
}

/// Jobs that are sent in are returned when they are final. The output ends after the last job of the input.
pub fn watch(link: &Arc<Link>, threads: usize) -> (Sender<Awaited>, Receiver<Ended>) {
    let (awaited_sender, awaited) = crossbeam_channel::bounded(JOBS_MAX);
    let (ended_sender, ended) = crossbeam_channel::bounded(ENDS_MAX);
    for _ in 0..threads {
        let (link, awaited, ended): (_, Receiver<Awaited>, _) =
            (Arc::clone(link), awaited.clone(), ended_sender.clone());
        std::thread::spawn(move || {
            for awaited in awaited {
                let outcome = end_of(&link, &awaited.job_id);
                if ended.send(Ended { awaited, outcome }).is_err() {
                    return;
                }
            }
        });
    }
    (awaited_sender, ended)
}

fn end_of(link: &Link, job_id: &str) -> Result<JobView, CallError> {
    let mut patience = Patience::default();
    loop {
        match link.client().job(job_id, WAIT_MAX / 2) {
            Ok(job) if job.is_final() => return Ok(job),
            Ok(_) => patience.answered(),
            Err(error) => std::thread::sleep(patience.after(link, error)?),
        }
    }
}
