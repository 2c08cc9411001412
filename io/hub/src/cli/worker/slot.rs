//! Slot: runs one job at a time, from the pull to the accepted result.
//!
//! The loop: pull a job, run it, submit its result (with the next pull in the same round trip). If its lease ends, the
//! job's command is stopped and no result is submitted, since the hub may have leased the job to another worker. A
//! result stays in the [outbox](super::outbox) until the hub decides on it. A job that the worker does not finish because
//! it stops is given back.

use super::board::Wish;
use super::event::Event;
use super::lease::{Lease, News};
use super::process::{Finished, Process};
use super::report::Reports;
use super::verdict::Verdict;
use super::{Until, Worker};
use crate::client::CallError;
use crate::client::calls::{JobResult, LeaseState, LeasedJob, Pull};
use crate::platform::process::signal_of;
use crossbeam_channel::Receiver;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use sheratan_io::backoff::Backoff;
use sheratan_io::integrity;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest long poll: below the idle limits of the proxies in common use.
const WAIT_MS: u64 = 30_000;

/// How long a result is sent again before it goes to a file: longer than any outage that people sleep through.
const DELIVERY_MAX: Duration = Duration::from_secs(24 * 3_600);

/// How long a command may take to end after it was asked to, when its lease has ended already.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// The longest delay that the hub reads; it has a limit of its own (`retry_after_max_sec`).
const RETRY_AFTER_MS_MAX: u128 = u32::MAX as u128;

/// How long a lease is tried to be given back.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// The result of a job's command.
struct Outcome {
    ok: bool,
    result: Option<Box<RawValue>>,
    error: Option<Box<RawValue>>,
    is_retryable: bool,
    /// When another attempt may succeed, if the command said so.
    retry_after: Option<Duration>,
    /// Whether it was computed. Otherwise it says only that the job did not run to its end, and is not worth a file.
    is_computed: bool,
    /// A short error, for the log.
    reason: Option<String>,
}

/// How a job's command ended.
enum Run {
    /// By itself.
    Ended(Outcome),
    /// It could not be started, nor can any other job's.
    NotStarted(String),
    /// It was stopped because the lease ended, as the text says.
    LeaseLost(String),
    /// It was stopped because the job was cancelled.
    Cancelled,
    /// It was killed because the operator stopped the worker.
    Aborted,
}

/// Runs jobs until the worker stops.
pub fn run(worker: &Arc<Worker>, slot: usize) {
    let mut backoff = Backoff::default();
    let mut refused_since = None;
    while worker.board.idle(slot) {
        let wait_ms = if worker.until == Until::Empty { 0 } else { WAIT_MS };
        let asked = Instant::now();
        let pulled = match worker.link.client().pull(&pull(worker, wait_ms)) {
            Ok(pulled) => pulled,
            Err(error) => {
                if worker.is_final(&error, &mut refused_since) {
                    worker.board.fail(error.to_string());
                    break;
                }
                worker.say_away(&error);
                worker.board.pause(backoff.next_wait(error.retry_after()), Wish::Run);
                continue;
            }
        };
        worker.say_back();
        refused_since = None;
        if worker.board.jobs_are_withheld(pulled.reason.as_deref()) {
            worker.log.say(&Event::JobsWithheld { reason: pulled.reason.as_deref() });
        }
        let mut next = pulled.jobs.into_iter().next();
        // What is withheld will not come soon; what is deferred for want of leases may.
        let is_empty = next.is_none() && (pulled.defer_ms == 0 || pulled.reason.is_some());
        if is_empty && worker.until == Until::Empty {
            break;
        }
        let is_early = next.is_none() && pulled.defer_ms == 0 && asked.elapsed() < Duration::from_millis(wait_ms / 2);
        while let Some(job) = next {
            // Asked to stop while it waited for the answer, the worker begins nothing.
            if worker.board.wish() != Wish::Run {
                worker.board.delivering(slot);
                give_back(worker, &job);
                break;
            }
            next = run_one(worker, slot, &job);
        }
        if pulled.defer_ms > 0 {
            worker.board.pause(Duration::from_millis(pulled.defer_ms), Wish::Run);
        } else if is_early {
            // A hub that is about to stop ends long polls early, and a proxy may not let them last.
            worker.board.pause(backoff.next_wait(None), Wish::Run);
        } else {
            backoff.reset();
        }
    }
    worker.board.end(slot);
}

fn pull(worker: &Worker, wait_ms: u64) -> Pull {
    Pull {
        node_id: worker.heartbeat.node_id.clone(),
        max: 1,
        kinds: worker.kinds.clone(),
        wait_ms,
        lease_sec: worker.lease_sec,
    }
}

/// Runs one job and submits its result; returns the next job, if there was one at once.
fn run_one(worker: &Arc<Worker>, slot: usize, job: &LeasedJob) -> Option<LeasedJob> {
    let killed = worker.board.busy(slot);
    worker.log.say(&Event::Started { job_id: &job.job_id, kind: &job.kind, attempt: job.attempt });
    let started = Instant::now();
    let reports = Arc::default();
    // It is kept until the hub has decided on the result.
    let mut lease = Lease::keep(worker, job, &reports);
    let outcome = match run_command(worker, job, &mut lease, &killed, &reports) {
        Run::Ended(outcome) => Outcome { retry_after: reports.retry_after(), ..outcome },
        Run::Aborted => {
            if give_back(worker, job) {
                return None;
            }
            not_run(json!({ "error": "worker_stopped" }), "the worker was stopped")
        }
        Run::Cancelled => {
            worker.board.count(|tally| tally.cancelled += 1);
            worker.log.say(&Event::Cancelled { job_id: &job.job_id });
            return None;
        }
        Run::LeaseLost(reason) => {
            worker.board.count(|tally| tally.lost += 1);
            worker.log.say(&Event::LeaseLost { job_id: &job.job_id, reason: &reason });
            return None;
        }
        Run::NotStarted(reason) => {
            worker.board.fail(format!("{reason}; no job can run here, so the worker stops"));
            if give_back(worker, job) {
                return None;
            }
            not_run(json!({ "error": "not_started", "detail": reason }), &reason)
        }
    };
    let run_ms = started.elapsed().as_millis() as u64;
    let next = deliver(worker, slot, job, outcome, run_ms);
    if worker.until == Until::OneJob {
        worker.board.drain();
    }
    next
}

/// Runs a job's command to its end, or to the end of its lease.
fn run_command(
    worker: &Worker,
    job: &LeasedJob,
    lease: &mut Lease,
    killed: &Receiver<()>,
    reports: &Arc<Reports>,
) -> Run {
    let input = job.params.as_ref().map_or(Vec::new(), |params| params.get().as_bytes().to_vec());
    let environment = [
        ("SHERATAN_JOB_ID", job.job_id.clone()),
        ("SHERATAN_JOB_KIND", job.kind.clone()),
        ("SHERATAN_ATTEMPT", job.attempt.to_string()),
    ];
    let process = match Process::start(&worker.command, input, &environment, reports) {
        Ok(process) => process,
        Err(error) => return Run::NotStarted(format!("the command cannot be started: {error}")),
    };
    let (why, until) = loop {
        crossbeam_channel::select! {
            recv(process.ended()) -> status => {
                let status = status.expect("the thread that waits says how it ended");
                let finished = process.finish(status);
                if let Some(reason) = worker.command.not_there(&finished) {
                    return Run::NotStarted(reason);
                }
                return Run::Ended(outcome_of(finished, &worker.fatal_exits));
            }
            recv(killed) -> _ => {
                process.kill();
                return Run::Aborted;
            }
            recv(lease.news()) -> news => match news {
                Ok(News::Extended { until, is_last }) => lease.extend(until, is_last),
                Ok(News::Ended(code)) if code == "cancelled" => {
                    process.stop(Instant::now() + STOP_GRACE);
                    return Run::Cancelled;
                }
                Ok(News::Ended(code)) => break (format!("the hub says {code}"), Instant::now() + STOP_GRACE),
                Err(_) => unreachable!("the thread that extends the lease ends after the lease was dropped"),
            },
            recv(crossbeam_channel::at(lease.stop_at())) -> _ => {
                let why = match lease.is_last() {
                    true => "its time to run is over (max_run_sec of its kind, or the deadline of a drain)",
                    false => "no extension reached the hub in time",
                };
                break (why.to_owned(), lease.until());
            }
        }
    };
    process.stop(until);
    Run::LeaseLost(format!("{why}; its command was stopped"))
}

/// Gives a job back that does not run to its end here; whether the hub took it.
fn give_back(worker: &Worker, job: &LeasedJob) -> bool {
    let (mut backoff, started) = (Backoff::default(), Instant::now());
    loop {
        let client = worker.link.client().with_answer_max(RELEASE_MAX / 2);
        match client.release(&worker.heartbeat.node_id, &job.lease_id) {
            Ok(LeaseState::Done { .. }) => {
                worker.board.count(|tally| tally.released += 1);
                worker.log.say(&Event::Released { job_id: &job.job_id });
                return true;
            }
            // It was not the worker's any more.
            Ok(LeaseState::Ended(_)) => return true,
            Err(error) if error.is_transient() && started.elapsed() < RELEASE_MAX => {
                worker.say_away(&error);
                let wish = worker.board.wish();
                worker.board.pause(backoff.next_wait(error.retry_after()).min(RELEASE_MAX / 4), wish);
            }
            // Without an answer the lease ends by itself; a hub that cannot release one is given a failure.
            Err(error) => return error.is_transient(),
        }
    }
}

/// Submits the result of a job until the hub decides on it.
fn deliver(worker: &Worker, slot: usize, job: &LeasedJob, mut outcome: Outcome, run_ms: u64) -> Option<LeasedJob> {
    let (mut backoff, started) = (Backoff::default(), Instant::now());
    // Only the first try pulls: a job that was leased to a lost reply waits for its lease to end.
    let mut is_first = true;
    let mut is_of_form = false;
    worker.board.delivering(slot);
    loop {
        let mut result = result_of(worker, job, &outcome);
        if outcome.is_computed {
            worker.outbox.keep(slot, result.clone());
        }
        let is_pull =
            std::mem::take(&mut is_first) && worker.board.wish() == Wish::Run && worker.until != Until::OneJob;
        result.pull = is_pull.then(|| pull(worker, 0));
        let error = match worker.link.client().submit_result(&result) {
            Ok(answer) => {
                worker.outbox.drop_of(slot);
                worker.say_back();
                worker.board.count(|tally| if outcome.ok { tally.done += 1 } else { tally.failed += 1 });
                worker.log.say(&Event::Finished {
                    job_id: &job.job_id,
                    kind: &job.kind,
                    ok: outcome.ok,
                    status: &answer.status,
                    run_ms,
                    reason: outcome.reason.as_deref(),
                });
                return answer.jobs.into_iter().next();
            }
            Err(error) => error,
        };
        match Verdict::of(&error) {
            Verdict::Later => {
                worker.say_away(&error);
                if started.elapsed() > DELIVERY_MAX {
                    worker.save(|outbox| outbox.save_of(slot));
                    return None;
                }
                let wish = worker.board.wish();
                worker.board.pause(backoff.next_wait(error.retry_after()), wish);
            }
            Verdict::Late => {
                worker.outbox.drop_of(slot);
                worker.say_back();
                worker.board.count(|tally| tally.lost += 1);
                worker.log.say(&Event::LeaseLost { job_id: &job.job_id, reason: "its result came too late" });
                return None;
            }
            // The refusal may have been of the pull.
            Verdict::Form if is_pull => {}
            // The job would fail like this each time: it ends with the reason.
            Verdict::Form if !std::mem::replace(&mut is_of_form, true) => {
                worker.outbox.drop_of(slot);
                let detail = error.to_string();
                let code = error.code().unwrap_or("result_refused");
                outcome = failure(json!({ "error": code, "detail": detail }), false, &detail);
            }
            Verdict::Form => {
                worker.outbox.drop_of(slot);
                refused(worker, job, &error);
                return None;
            }
            Verdict::Integrity => {
                refused(worker, job, &error);
                worker.save(|outbox| outbox.save_of(slot));
                worker.board.fail(format!("{error}; no result of this worker is accepted, so it stops"));
                return None;
            }
        }
    }
}

fn refused(worker: &Worker, job: &LeasedJob, error: &CallError) {
    worker.board.count(|tally| tally.refused += 1);
    worker.log.say(&Event::ResultRefused { job_id: &job.job_id, reason: &error.to_string() });
}

fn result_of(worker: &Worker, job: &LeasedJob, outcome: &Outcome) -> JobResult {
    let Outcome { ok, result, error, is_retryable, retry_after, .. } = outcome;
    // A success needs no other attempt.
    let retry_after_ms = retry_after.filter(|_| !ok).map(|after| after.as_millis().min(RETRY_AFTER_MS_MAX) as u64);
    JobResult {
        job_id: job.job_id.clone(),
        node_id: worker.heartbeat.node_id.clone(),
        lease_id: Some(job.lease_id.clone()),
        ok: *ok,
        integrity: worker.signer.sign(error.as_deref(), &job.job_id, *ok, result.as_deref()),
        result: result.clone(),
        error: error.clone(),
        retryable: *is_retryable,
        retry_after_ms,
        pull: None,
    }
}

/// The result of a process that has ended.
fn outcome_of(finished: Finished, fatal_exits: &[i32]) -> Outcome {
    let status = match finished.status {
        Ok(status) => status,
        Err(error) => {
            let reason = format!("the command cannot be waited for: {error}");
            return failure(json!({ "error": "not_waited_for", "detail": reason }), true, &reason);
        }
    };
    let messages = finished.messages.trim_end();
    match status.code() {
        Some(0) if finished.output.is_cut => {
            let reason = "the command printed more than a result may have, or left its output open";
            failure(json!({ "error": "result_too_large", "detail": reason }), false, reason)
        }
        Some(0) => Outcome {
            ok: true,
            result: result_text(&finished.output.bytes),
            error: None,
            is_retryable: true,
            retry_after: None,
            is_computed: true,
            reason: None,
        },
        Some(code) => {
            let last_line = messages.lines().last().map(|line| format!(": {line}")).unwrap_or_default();
            let error = json!({ "exit_code": code, "stderr": messages });
            failure(error, !fatal_exits.contains(&code), &format!("exit code {code}{last_line}"))
        }
        None => {
            let signal = signal_of(&status).unwrap_or(0);
            failure(json!({ "signal": signal, "stderr": messages }), true, &format!("killed by signal {signal}"))
        }
    }
}

fn failure(error: serde_json::Value, is_retryable: bool, reason: &str) -> Outcome {
    let error = to_raw_value(&error).expect("a JSON value is always JSON");
    let reason = Some(reason.to_owned());
    Outcome { ok: false, result: None, error: Some(error), is_retryable, retry_after: None, is_computed: true, reason }
}

/// The failure of a job that did not run to its end for a reason of this worker's.
fn not_run(error: serde_json::Value, reason: &str) -> Outcome {
    Outcome { is_computed: false, ..failure(error, true, reason) }
}

/// A command's output as JSON: unchanged if it is JSON, `None` if it is empty, else as a text without its last line
/// break.
fn result_text(bytes: &[u8]) -> Option<Box<RawValue>> {
    let text = String::from_utf8_lossy(bytes);
    if text.trim().is_empty() {
        return None;
    }
    let line = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    let as_text = || to_raw_value(line).expect("a text is always JSON");
    Some(integrity::as_json(bytes).unwrap_or_else(as_text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_that_is_json_is_the_result_and_any_other_is_a_text() {
        for (output, result) in [
            ("{\"a\": 1}\n", Some(r#"{"a": 1}"#)),
            ("{\"a\":1,\"a\":2}", Some(r#""{\"a\":1,\"a\":2}""#)),
            ("42", Some("42")),
            ("hello\n", Some(r#""hello""#)),
            ("two\nlines\r\n", Some(r#""two\nlines""#)),
            ("{not json", Some(r#""{not json""#)),
            (" \n", None),
            ("", None),
        ] {
            assert_eq!(result_text(output.as_bytes()).as_deref().map(RawValue::get), result, "{output:?}");
        }
        assert_eq!(result_text(b"\xff").unwrap().get(), "\"\u{fffd}\"");
    }

    #[cfg(unix)]
    #[test]
    fn the_exit_status_decides_the_error_and_whether_to_retry() {
        use super::super::process::Output;
        use std::os::unix::process::ExitStatusExt;
        let outcome = |status: i32, is_cut: bool| {
            let status = Ok(std::process::ExitStatus::from_raw(status));
            let output = Output { bytes: b"7".to_vec(), is_cut };
            outcome_of(Finished { status, output, messages: "first\nlast\n".to_owned() }, &[65])
        };
        let done = outcome(0, false);
        assert!(done.ok && done.error.is_none());
        assert_eq!(done.result.unwrap().get(), "7");

        let failed = outcome(3 << 8, false);
        assert!(!failed.ok && failed.is_retryable && failed.result.is_none());
        assert_eq!(failed.error.unwrap().get(), r#"{"exit_code":3,"stderr":"first\nlast"}"#);
        assert_eq!(failed.reason.unwrap(), "exit code 3: last");

        assert!(!outcome(65 << 8, false).is_retryable, "a fatal exit code");
        assert!(!outcome(0, true).is_retryable, "a result that is too large stays too large");
        assert_eq!(outcome(9, false).error.unwrap().get(), r#"{"signal":9,"stderr":"first\nlast"}"#);
    }
}
