//! A worker: drives whole lifecycles over its connection, each call after the answer to the one before.
//!
//! ```text
//! Idle ─ start ► Submit ─ accepted ► Pull ─ that job ► Result ─ completed ► Idle
//! ```
//! Any other answer ends the run with its body: a figure with errors in it would be the figure of something else.

use super::answer::{has, text_after};
use super::connection::Connection;
use super::latency::{Call, Latencies};
use super::request::{JOB_ID_BYTES, LEASE_ID_BYTES, Requests};
use crate::failure::Failure;
use std::time::Instant;

/// A connection at work.
pub struct Worker {
    connection: Connection,
    requests: Requests,
    stage: Stage,
    lifecycle_started_at: Instant,
    call_started_at: Instant,
}

/// Which answer is awaited.
#[derive(Clone, Copy)]
enum Stage {
    Idle,
    Submit,
    Pull { job_id: [u8; JOB_ID_BYTES] },
    Result,
}

/// How far a lifecycle got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The socket has to become ready again.
    Waiting,
    /// It is over.
    Finished,
}

impl Worker {
    /// A worker without work.
    pub fn new(connection: Connection, requests: Requests) -> Self {
        let now = Instant::now();
        Worker { connection, requests, stage: Stage::Idle, lifecycle_started_at: now, call_started_at: now }
    }

    /// Starts a lifecycle.
    pub fn start(&mut self, now: Instant) -> Result<(), Failure> {
        assert!(matches!(self.stage, Stage::Idle), "one lifecycle at a time");
        self.connection.send(&self.requests.submit)?;
        (self.lifecycle_started_at, self.call_started_at) = (now, now);
        self.stage = Stage::Submit;
        Ok(())
    }

    /// Handles a ready socket. May also be called on an idle worker, whose socket has become writable.
    pub fn ready(&mut self, latencies: &mut Latencies) -> Result<Progress, Failure> {
        if matches!(self.stage, Stage::Idle) {
            return Ok(Progress::Waiting);
        }
        let Some((status, body)) = self.connection.receive()? else { return Ok(Progress::Waiting) };
        let now = Instant::now();
        let (call, next) = match self.stage {
            Stage::Idle => unreachable!("an idle worker awaits nothing"),
            Stage::Submit => {
                let job_id = read_submit(status, body).ok_or_else(|| refused(Call::Submit, status, body))?;
                self.connection.send(&self.requests.pull)?;
                (Call::Submit, Stage::Pull { job_id })
            }
            Stage::Pull { job_id } => {
                let lease_id = read_pull(status, body, &job_id).ok_or_else(|| refused(Call::Pull, status, body))?;
                self.connection.send(self.requests.result(&job_id, &lease_id))?;
                (Call::Pull, Stage::Result)
            }
            Stage::Result => {
                read_result(status, body).ok_or_else(|| refused(Call::Result, status, body))?;
                latencies.lifecycle(now - self.lifecycle_started_at);
                (Call::Result, Stage::Idle)
            }
        };
        latencies.call(call, now - self.call_started_at);
        self.call_started_at = now;
        self.stage = next;
        Ok(if matches!(next, Stage::Idle) { Progress::Finished } else { Progress::Waiting })
    }
}

/// The id of a job that was accepted.
fn read_submit(status: u16, body: &[u8]) -> Option<[u8; JOB_ID_BYTES]> {
    let is_accepted = status == 200 && has(body, r#""ok":true"#) && has(body, r#""status":"accepted""#);
    is_accepted.then(|| text_after(body, r#""job_id":""#).copied())?
}

/// The id of the lease, if the pull leased the job that was submitted.
fn read_pull(status: u16, body: &[u8], job_id: &[u8; JOB_ID_BYTES]) -> Option<[u8; LEASE_ID_BYTES]> {
    let is_that_job = status == 200
        && has(body, r#""ok":true"#)
        && text_after::<JOB_ID_BYTES>(body, r#""jobs":[{"job_id":""#) == Some(job_id);
    is_that_job.then(|| text_after(body, r#""lease_id":""#).copied())?
}

pub fn read_result(status: u16, body: &[u8]) -> Option<()> {
    let is_completed = status == 200 && has(body, r#""ok":true"#) && has(body, r#""status":"completed""#);
    is_completed.then_some(())
}

fn refused(call: Call, status: u16, body: &[u8]) -> Failure {
    Failure::Answer { call, status, body: String::from_utf8_lossy(body).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &[u8; JOB_ID_BYTES] = b"job_00000000000112345678";

    #[test]
    fn only_an_accepted_submit_has_a_job() {
        let accepted =
            br#"{"ok":true,"request_id":"u","job_id":"job_00000000000112345678","dedup":false,"status":"accepted"}"#;
        let repeated = br#"{"ok":true,"job_id":"job_00000000000112345678","dedup":true,"status":"in_progress"}"#;
        assert_eq!(read_submit(200, accepted), Some(*JOB));
        assert_eq!(read_submit(503, accepted), None);
        assert_eq!(read_submit(200, repeated), None);
        assert_eq!(read_submit(200, br#"{"ok":true,"job_id":"job_1","status":"accepted"}"#), None);
    }

    #[test]
    fn only_the_job_that_was_submitted_is_worked_on() {
        let lease = "lease_".to_owned() + &"0".repeat(LEASE_ID_BYTES - 6);
        let body = format!(
            r#"{{"ok":true,"jobs":[{{"job_id":"job_00000000000112345678","kind":"k","params":{{}},"lease_id":"{lease}"}}],"defer_ms":0}}"#
        );
        assert_eq!(read_pull(200, body.as_bytes(), JOB).as_ref().map(|id| &id[..]), Some(lease.as_bytes()));
        assert_eq!(read_pull(200, body.as_bytes(), b"job_00000000000212345678"), None);
        assert_eq!(read_pull(200, br#"{"ok":true,"jobs":[],"defer_ms":500}"#, JOB), None);
    }

    #[test]
    fn a_result_counts_only_if_its_job_is_completed() {
        assert!(read_result(200, br#"{"ok":true,"job_id":"job_1","status":"completed"}"#).is_some());
        assert!(read_result(200, br#"{"ok":true,"job_id":"job_1","status":"retry_scheduled"}"#).is_none());
        assert!(read_result(409, br#"{"ok":false,"error":"lease_lost","status":409}"#).is_none());
    }
}
