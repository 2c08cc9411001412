//! Ends: a line for each job that was waited for, with its result if that is what the job's worker sent.

use super::ended::{Awaited, Ended};
use super::terminal;
use crate::client::integrity::Integrity;
use crossbeam_channel::Receiver;
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::value::RawValue;
use std::thread::JoinHandle;

/// The exit code if a result does not match its checksum.
pub const EXIT_CORRUPT: u8 = 3;

/// How jobs ended that were waited for.
#[derive(Default)]
pub struct Ends {
    /// Not completed.
    pub failed: u64,
    /// With a result that does not match its checksum; these did not complete.
    corrupt: u64,
    /// Completed without a checksum.
    unverified: u64,
}

/// One line of what `--wait` prints.
#[derive(Serialize)]
struct EndLine<'a> {
    line: u64,
    job_id: &'a str,
    ok: bool,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    attempts: usize,
}

impl Ends {
    /// Says on standard error what was not verified, and what was changed; returns whether anything was changed.
    pub fn note(&self) -> bool {
        let Ends { corrupt, unverified, .. } = *self;
        if unverified > 0 {
            terminal::note(format_args!("{unverified} result(s) have no checksum: this hub is of an earlier release"));
        }
        if corrupt > 0 {
            let word = terminal::styled(terminal::BAD, "corrupt");
            terminal::note(format_args!(
                "{word}: {corrupt} result(s) do not match the checksum of their worker: do not use them"
            ));
        }
        corrupt > 0
    }
}

/// Prints a line for each ended job; returns how they ended.
pub fn print(ended: Receiver<Ended>, progress: ProgressBar) -> JoinHandle<Ends> {
    std::thread::spawn(move || {
        let mut ends = Ends::default();
        for ended in ended {
            let (text, end) = end_line(&ended);
            ends.failed += u64::from(!matches!(end, End::Completed | End::Unverified));
            ends.corrupt += u64::from(end == End::Corrupt);
            ends.unverified += u64::from(end == End::Unverified);
            progress.suspend(|| terminal::json(text));
            if terminal::output() != terminal::Output::Whole {
                break;
            }
        }
        ends
    })
}

/// How a job ended that was waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Completed,
    /// Completed, and the hub shows no checksum.
    Unverified,
    /// Its result, or its error, is not what its worker sent.
    Corrupt,
    Failed,
}

fn end_line(ended: &Ended) -> (String, End) {
    let Awaited { number, job_id } = &ended.awaited;
    let without_job = |status, problem| EndLine {
        line: *number,
        job_id,
        ok: false,
        status,
        result: None,
        error: None,
        problem: Some(problem),
        attempts: 0,
    };
    let (line, end) = match &ended.outcome {
        Ok(job) => match (job.integrity_as(job_id), job.is_completed()) {
            (Integrity::Changed, _) => {
                let problem = "what the hub shows of the job does not match the checksum that its worker sent";
                (EndLine { attempts: job.attempts.len(), ..without_job("corrupt", problem.to_owned()) }, End::Corrupt)
            }
            (integrity, is_completed) => {
                let end = match (is_completed, integrity) {
                    (false, _) => End::Failed,
                    (true, Integrity::Unknown) => End::Unverified,
                    (true, _) => End::Completed,
                };
                let line = EndLine {
                    line: *number,
                    job_id,
                    ok: is_completed,
                    status: &job.status,
                    result: job.result.as_deref(),
                    error: job.error.as_deref(),
                    problem: None,
                    attempts: job.attempts.len(),
                };
                (line, end)
            }
        },
        Err(error) if error.code() == Some("result_corrupt") => {
            (without_job("corrupt", error.to_string()), End::Corrupt)
        }
        Err(error) => (without_job("unknown", error.to_string()), End::Failed),
    };
    (serde_json::to_string(&line).expect("a line of texts and JSON is always JSON"), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_an_ended_job_is_json_with_the_result_as_it_came() {
        let job: crate::client::calls::JobView = serde_json::from_str(
            r#"{"job_id":"job_1","kind":"k","status":"completed","result":{"b": 1.0},"error":null,
                "attempts":[{"node_id":"n","outcome":"completed"}]}"#,
        )
        .unwrap();
        let awaited = Awaited { number: 7, job_id: "job_1".to_owned() };
        let (text, end) = end_line(&Ended { awaited, outcome: Ok(job) });
        assert_eq!(end, End::Unverified);
        assert_eq!(
            text,
            r#"{"line":7,"job_id":"job_1","ok":true,"status":"completed","result":{"b": 1.0},"attempts":1}"#
        );
    }
}
