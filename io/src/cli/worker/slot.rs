//! Slot: runs one job at a time, from the pull to the accepted result.
//!
//! The loop: pull a job, run it, submit its result (with the next pull in the same round trip). If its lease is lost,
//! the job's process is killed and no result is submitted, since the hub may have leased the job to another worker.

use super::board::Wish;
use super::event::Event;
use super::process::{Finished, Process};
use super::{Until, Worker};
use crate::backoff::Backoff;
use crate::client::calls::{JobResult, LeasedJob, Pull};
use crate::client::{CallError, integrity};
use crate::platform::process::signal_of;
use crossbeam_channel::Receiver;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use std::time::{Duration, Instant};

/// The longest long poll: below the idle limits of the proxies in common use.
const WAIT_MS: u64 = 30_000;

/// The result of a job's process.
struct Outcome {
    ok: bool,
    result: Option<Box<RawValue>>,
    error: Option<Box<RawValue>>,
    is_retryable: bool,
    /// A short error, for the log.
    reason: Option<String>,
}

/// How a job's process ended.
enum Run {
    /// By itself, or it could not be started.
    Ended(Outcome),
    /// It was killed because the lease was lost.
    LeaseLost,
    /// It was killed because the operator stopped the worker.
    Aborted,
}

/// Runs jobs until the worker stops.
pub fn run(worker: &Worker, slot: usize) {
    let mut backoff = Backoff::new();
    while worker.board.idle(slot) {
        let wait_ms = if worker.until == Until::Empty { 0 } else { WAIT_MS };
        let pulled = match worker.client.pull(&pull(worker, wait_ms)) {
            Ok(pulled) => pulled,
            Err(error) => {
                worker.say_away(&error);
                worker.board.pause(backoff.next_wait(error.retry_after()), Wish::Run);
                continue;
            }
        };
        worker.say_back();
        backoff.reset();
        let mut next = pulled.jobs.into_iter().next();
        if next.is_none() && pulled.defer_ms == 0 && worker.until == Until::Empty {
            break;
        }
        while let Some(job) = next {
            next = run_one(worker, slot, &job);
        }
        if pulled.defer_ms > 0 {
            worker.board.pause(Duration::from_millis(pulled.defer_ms), Wish::Run);
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
fn run_one(worker: &Worker, slot: usize, job: &LeasedJob) -> Option<LeasedJob> {
    let killed = worker.board.busy(slot);
    worker.log.say(&Event::Started { job_id: &job.job_id, kind: &job.kind, attempt: job.attempt });
    let started = Instant::now();
    let outcome = match run_process(worker, job, &killed) {
        Run::Ended(outcome) => outcome,
        Run::Aborted => failure(json!({ "error": "worker_stopped" }), true, "the worker was stopped"),
        Run::LeaseLost => {
            worker.board.count(|tally| tally.lost += 1);
            worker.log.say(&Event::LeaseLost { job_id: &job.job_id, reason: "its process was killed" });
            return None;
        }
    };
    let run_ms = started.elapsed().as_millis() as u64;
    if worker.until == Until::OneJob {
        worker.board.drain();
    }
    deliver(worker, job, outcome, run_ms)
}

/// Runs a job's process to its end, and extends its lease meanwhile.
fn run_process(worker: &Worker, job: &LeasedJob, killed: &Receiver<()>) -> Run {
    let input = job.params.as_ref().map_or(Vec::new(), |params| params.get().as_bytes().to_vec());
    let environment = [
        ("SHERATAN_JOB_ID", job.job_id.clone()),
        ("SHERATAN_JOB_KIND", job.kind.clone()),
        ("SHERATAN_ATTEMPT", job.attempt.to_string()),
    ];
    let process = match Process::start(&worker.program, input, &environment) {
        Ok(process) => process,
        Err(error) => {
            let reason = format!("the command cannot be started: {error}");
            return Run::Ended(failure(json!({ "error": "not_started", "detail": reason }), true, &reason));
        }
    };
    let third = Duration::from_secs(worker.lease_sec) / 3;
    let mut extend_at = Instant::now() + third;
    let is_abort = loop {
        crossbeam_channel::select! {
            recv(process.ended()) -> status => {
                let status = status.expect("the thread that waits says how it ended");
                return Run::Ended(outcome_of(process.finish(status), &worker.fatal_exits));
            }
            recv(killed) -> _ => break true,
            recv(crossbeam_channel::at(extend_at)) -> _ => match worker.client.extend(
                &worker.heartbeat.node_id, &job.lease_id, worker.lease_sec,
            ) {
                Ok(true) => extend_at = Instant::now() + third,
                Ok(false) => break false,
                // Two thirds of the lease are left, so the extension is retried after a tenth of a third.
                Err(error) => {
                    worker.say_away(&error);
                    extend_at = Instant::now() + third / 10;
                }
            },
        }
    };
    process.kill();
    if is_abort { Run::Aborted } else { Run::LeaseLost }
}

/// Submits the result of a job until the hub accepts or refuses it.
fn deliver(worker: &Worker, job: &LeasedJob, mut outcome: Outcome, run_ms: u64) -> Option<LeasedJob> {
    let mut backoff = Backoff::new();
    let mut is_second_try = false;
    loop {
        match worker.client.submit_result(&result_of(worker, job, &outcome)) {
            Ok(answer) => {
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
            Err(error) if error.is_transient() || error.code() == Some("auth_failure") => {
                worker.say_away(&error);
                if worker.board.wish() == Wish::Abort {
                    return give_up(worker, job, &error);
                }
                worker.board.pause(backoff.next_wait(error.retry_after()), Wish::Drain);
            }
            Err(error) if matches!(error.code(), Some("lease_lost" | "already_final" | "unknown_job")) => {
                worker.say_back();
                worker.board.count(|tally| tally.lost += 1);
                worker.log.say(&Event::LeaseLost { job_id: &job.job_id, reason: "its result came too late" });
                return None;
            }
            // A result that the hub refuses is submitted as a failure with the reason.
            Err(error) if !std::mem::replace(&mut is_second_try, true) => {
                let detail = error.to_string();
                let code = error.code().unwrap_or("result_refused");
                outcome = failure(json!({ "error": code, "detail": detail }), false, &detail);
            }
            Err(error) => return give_up(worker, job, &error),
        }
    }
}

/// Gives up a job, which is requeued when its lease expires.
fn give_up(worker: &Worker, job: &LeasedJob, error: &CallError) -> Option<LeasedJob> {
    worker.board.count(|tally| tally.refused += 1);
    worker.log.say(&Event::ResultRefused { job_id: &job.job_id, reason: &error.to_string() });
    None
}

fn result_of(worker: &Worker, job: &LeasedJob, outcome: &Outcome) -> JobResult {
    let Outcome { ok, result, error, is_retryable, .. } = outcome;
    let is_running_on = worker.board.wish() == Wish::Run && worker.until != Until::OneJob;
    JobResult {
        job_id: job.job_id.clone(),
        node_id: worker.heartbeat.node_id.clone(),
        lease_id: Some(job.lease_id.clone()),
        ok: *ok,
        integrity: worker.signer.sign(error.as_deref(), &job.job_id, *ok, result.as_deref()),
        result: result.clone(),
        error: error.clone(),
        retryable: *is_retryable,
        pull: is_running_on.then(|| pull(worker, 0)),
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
    Outcome { ok: false, result: None, error: Some(error), is_retryable, reason: Some(reason.to_owned()) }
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
