//! Resend: delivers results that an earlier worker could not.

use super::outbox;
use super::verdict::Verdict;
use crate::cli::failure::Failure;
use crate::cli::link::Link;
use crate::cli::patience::PATIENCE;
use crate::cli::terminal;
use crate::client::calls::JobResult;
use sheratan_io::backoff::Backoff;
use sheratan_io::integrity::Signer;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Sends each result of a file. The file then holds those that the hub did not accept, or is removed if there are none.
pub fn run(path: &Path, link: &Link, signer: &Signer) -> Result<ExitCode, Failure> {
    let local = |error| Failure::local(path.display(), error);
    let results = outbox::read(path).map_err(local)?;
    let total = results.len();
    let mut left = Vec::new();
    let mut away = None;
    for result in results {
        let job_id = result.job_id.clone();
        match away.is_none().then(|| send(link, signer, &result)) {
            Some(Ok(status)) => terminal::line(format_args!("{job_id} {status}")),
            Some(Err(Unsent { reason, is_away })) => {
                terminal::note(format_args!("{job_id} is not delivered: {reason}"));
                away = is_away.then_some(reason);
                left.push(result);
            }
            None => left.push(result),
        }
    }
    if left.is_empty() {
        std::fs::remove_file(path).map_err(local)?;
        terminal::note(format_args!("{total} delivered; {} was removed", path.display()));
        return Ok(ExitCode::SUCCESS);
    }
    if left.len() < total {
        outbox::write(path, &left).map_err(local)?;
    }
    let delivered = total - left.len();
    terminal::note(format_args!("{delivered} delivered, {} left in {}", left.len(), path.display()));
    Ok(ExitCode::FAILURE)
}

/// Why a result was not delivered.
struct Unsent {
    reason: String,
    /// Whether the hub did not decide on it, so that the next one need not be tried.
    is_away: bool,
}

/// Sends one result until the hub decides on it, or was away for too long; returns the job's status.
fn send(link: &Link, signer: &Signer, result: &JobResult) -> Result<String, Unsent> {
    let integrity = signer.sign(result.error.as_deref(), &result.job_id, result.ok, result.result.as_deref());
    let result = JobResult { integrity, pull: None, ..result.clone() };
    let (mut backoff, started) = (Backoff::default(), Instant::now());
    loop {
        let error = match link.client().submit_result(&result) {
            Ok(answer) => return Ok(answer.status),
            Err(error) => error,
        };
        let is_away = Verdict::of(&error) == Verdict::Later;
        let is_changed = is_away && link.look_again();
        let wait = backoff.next_wait(error.retry_after());
        if !is_away
            || (error.code().is_some() && !error.is_transient() && !is_changed)
            || started.elapsed() + wait > PATIENCE
        {
            return Err(Unsent { reason: error.to_string(), is_away });
        }
        std::thread::sleep(wait);
    }
}
