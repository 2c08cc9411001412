//! Events: a worker's output about its jobs, as text or as lines of JSON.

use crate::cli::terminal::{BAD, BOLD, DIM, GOOD, WARN, out, printable, styled};
use serde::Serialize;
use sheratan_io::logs::sink::{LineWriter, Sink};
use std::io::{self, Write};
use std::sync::Mutex;
use std::time::Duration;

/// How long the end of the worker waits for unwritten lines.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// One event.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// The node is registered at the hub.
    Registered {
        /// The node.
        node_id: &'a str,
        /// The kinds that it runs; empty for all.
        kinds: &'a [String],
        /// Jobs at a time.
        slots: usize,
        /// The hub's address.
        hub: &'a str,
    },
    /// A job began.
    Started {
        /// The job.
        job_id: &'a str,
        /// What is to be done.
        kind: &'a str,
        /// Which attempt.
        attempt: u32,
    },
    /// The hub accepted the result of a job.
    Finished {
        /// The job.
        job_id: &'a str,
        /// What is to be done.
        kind: &'a str,
        /// Whether the job succeeded.
        ok: bool,
        /// The job's status at the hub.
        status: &'a str,
        /// How long it ran.
        run_ms: u64,
        /// The error, in short.
        reason: Option<&'a str>,
    },
    /// The lease ended before the job did: another worker may have it now.
    LeaseLost {
        /// The job.
        job_id: &'a str,
        /// How that was noticed.
        reason: &'a str,
    },
    /// The job was cancelled at the hub, and its command stopped.
    Cancelled {
        /// The job.
        job_id: &'a str,
    },
    /// The job was given back because the worker stops: the attempt is not counted.
    Released {
        /// The job.
        job_id: &'a str,
    },
    /// The hub refused the result of a job.
    ResultRefused {
        /// The job.
        job_id: &'a str,
        /// What the hub says.
        reason: &'a str,
    },
    /// A result that was not delivered is in a file.
    ResultsSaved {
        /// How many.
        results: usize,
        /// The file.
        path: &'a str,
    },
    /// The results that were not delivered cannot be written to a file.
    ResultsLost {
        /// Why.
        reason: &'a str,
    },
    /// The hub refused the heartbeat.
    HeartbeatRefused {
        /// What the hub says.
        reason: &'a str,
    },
    /// The hub does not answer.
    HubAway {
        /// Why the call failed.
        reason: &'a str,
    },
    /// The hub answers again.
    HubBack,
    /// The hub gives this node no jobs, or gives it jobs again.
    JobsWithheld {
        /// Why: `drained`, `quarantined`; `None` once that is over.
        reason: Option<&'a str>,
    },
    /// The operator asked the worker to stop.
    Stopping {
        /// Whether at once.
        is_abort: bool,
        /// How many jobs run.
        running: usize,
    },
    /// The worker ends.
    Stopped {
        /// Jobs done.
        done: u64,
        /// Jobs that failed.
        failed: u64,
        /// Jobs whose lease ended first.
        lost: u64,
        /// Jobs that were cancelled.
        cancelled: u64,
        /// Jobs that were given back.
        released: u64,
        /// Jobs whose result the hub refused.
        refused: u64,
        /// Jobs whose result was not delivered.
        undelivered: u64,
    },
}

/// Prints events on standard output.
///
/// A thread writes them, and lines that cannot be written are counted and lost: a reader that hangs or is gone, or a
/// full disk, must not stop the jobs.
pub struct Log {
    is_json: bool,
    lines: LineWriter,
    sink: Mutex<Sink>,
}

impl Log {
    /// A log; `is_json` for lines of JSON instead of lines for people.
    pub fn start(is_json: bool) -> io::Result<Self> {
        let lost = if is_json { lost_as_json } else { lost_as_text };
        let sink = Sink::start("log", lost, |line: &[u8]| out(line))?;
        Ok(Log { is_json, lines: sink.writer(), sink: Mutex::new(sink) })
    }

    /// Prints an event.
    pub fn say(&self, event: &Event) {
        let ts = jiff::Timestamp::now();
        let line = if self.is_json {
            #[derive(Serialize)]
            struct Line<'a> {
                ts: String,
                #[serde(flatten)]
                event: &'a Event<'a>,
            }
            let line = Line { ts: format!("{ts:.3}"), event };
            serde_json::to_string(&line).expect("an event is always JSON")
        } else {
            let time = format!("{ts:.3}");
            format!("{} {}", styled(DIM, &time[11..]), sentence(event))
        };
        // The writer counts a line that it cannot take.
        _ = (&self.lines).write_all(format!("{line}\n").as_bytes());
    }

    /// Waits, for a limited time, until everything is written.
    pub fn finish(&self) {
        self.sink.lock().expect("no thread panics while it holds the sink").finish(FLUSH_MAX);
    }
}

fn lost_as_json(count: u64) -> String {
    let ts = jiff::Timestamp::now();
    format!("{{\"ts\":\"{ts:.3}\",\"event\":\"lines_lost\",\"count\":{count}}}\n")
}

fn lost_as_text(count: u64) -> String {
    format!("{count} lines of this log were lost\n")
}

fn sentence(event: &Event) -> String {
    match event {
        Event::Registered { node_id, kinds, slots, hub } => {
            let kinds = if kinds.is_empty() { "all kinds".to_owned() } else { kinds.join(", ") };
            let (node_id, kinds) = (printable(node_id), printable(&kinds));
            let jobs = if *slots == 1 { "one job".to_owned() } else { format!("{slots} jobs") };
            format!("{} waits for {jobs} at a time ({kinds}) from {hub}", styled(BOLD, node_id))
        }
        Event::Started { job_id, kind, attempt } => {
            let again = if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
            format!("{} {} {}{again}", styled(DIM, "▸"), printable(job_id), printable(kind))
        }
        Event::Finished { job_id, kind, ok: true, run_ms, .. } => {
            format!("{} {} {} {run_ms} ms", styled(GOOD, "✓"), printable(job_id), printable(kind))
        }
        Event::Finished { job_id, kind, status, run_ms, reason, .. } => {
            let (job_id, kind, status) = (printable(job_id), printable(kind), printable(status));
            let reason = printable(reason.unwrap_or("failed"));
            format!("{} {job_id} {kind} {run_ms} ms: {reason} → {status}", styled(BAD, "✗"))
        }
        Event::LeaseLost { job_id, reason } => {
            format!("{} {} lease lost: {}", styled(WARN, "!"), printable(job_id), printable(reason))
        }
        Event::Cancelled { job_id } => {
            format!("{} {} cancelled: its command was stopped", styled(WARN, "!"), printable(job_id))
        }
        Event::Released { job_id } => {
            format!("{} {} given back: another worker gets it", styled(WARN, "!"), printable(job_id))
        }
        Event::ResultRefused { job_id, reason } => {
            format!("{} {} result refused: {}", styled(BAD, "✗"), printable(job_id), printable(reason))
        }
        Event::ResultsSaved { results, path } => {
            format!("{} {results} result(s) were not delivered and are in {}", styled(BAD, "✗"), printable(path))
        }
        Event::ResultsLost { reason } => {
            format!("{} results were not delivered and are lost: {}", styled(BAD, "✗"), printable(reason))
        }
        Event::HeartbeatRefused { reason } => format!("{} heartbeat refused: {}", styled(BAD, "✗"), printable(reason)),
        Event::HubAway { reason } => format!("{} {}; trying again", styled(WARN, "!"), printable(reason)),
        Event::HubBack => format!("{} the hub is back", styled(GOOD, "✓")),
        Event::JobsWithheld { reason: Some(reason) } => {
            format!("{} the hub gives this node no jobs: it is {}", styled(WARN, "!"), printable(reason))
        }
        Event::JobsWithheld { reason: None } => format!("{} the hub gives this node jobs again", styled(GOOD, "✓")),
        Event::Stopping { is_abort: true, running } => {
            format!("{} stopping at once: {running} job(s) killed and given back", styled(WARN, "!"))
        }
        Event::Stopping { running: 0, .. } => "stopping: nothing runs".to_owned(),
        Event::Stopping { running, .. } => {
            format!("stopping when {running} job(s) are finished; a second signal kills them and gives them back")
        }
        Event::Stopped { done, failed, lost, cancelled, released, refused, undelivered } => {
            let lost = if *lost > 0 { format!(", {lost} with their lease lost") } else { String::new() };
            let cancelled = if *cancelled > 0 { format!(", {cancelled} cancelled") } else { String::new() };
            let released = if *released > 0 { format!(", {released} given back") } else { String::new() };
            let refused = if *refused > 0 { format!(", {refused} with their result refused") } else { String::new() };
            let undelivered = match undelivered {
                0 => String::new(),
                count => format!(", {count} with their result not delivered"),
            };
            format!("stopped: {done} done, {failed} failed{lost}{cancelled}{released}{refused}{undelivered}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_as_a_sentence_and_as_json() {
        let event = Event::Finished {
            job_id: "job_1",
            kind: "echo",
            ok: false,
            status: "retry_scheduled",
            run_ms: 12,
            reason: Some("exit code 3"),
        };
        let plain = anstream::adapter::strip_str(&sentence(&event)).to_string();
        assert_eq!(plain, "✗ job_1 echo 12 ms: exit code 3 → retry_scheduled");
        assert_eq!(
            serde_json::to_value(&event).unwrap(),
            serde_json::json!({"event": "finished", "job_id": "job_1", "kind": "echo", "ok": false,
                "status": "retry_scheduled", "run_ms": 12, "reason": "exit code 3"})
        );
    }
}
