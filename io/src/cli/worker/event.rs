//! Events: a worker's output about its jobs, as text or as lines of JSON.

use crate::cli::terminal::{self, BAD, BOLD, DIM, GOOD, WARN, styled};
use serde::Serialize;

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
    /// The hub refused the result of a job.
    ResultRefused {
        /// The job.
        job_id: &'a str,
        /// What the hub says.
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
        /// Jobs whose result the hub refused.
        refused: u64,
    },
}

/// Prints events on standard output.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// Lines of JSON instead of lines for people.
    pub is_json: bool,
}

impl Log {
    /// Prints an event.
    pub fn say(self, event: &Event) {
        let ts = jiff::Timestamp::now();
        if self.is_json {
            #[derive(Serialize)]
            struct Line<'a> {
                ts: String,
                #[serde(flatten)]
                event: &'a Event<'a>,
            }
            let line = Line { ts: format!("{ts:.3}"), event };
            terminal::line(serde_json::to_string(&line).expect("an event is always JSON"));
        } else {
            let time = format!("{ts:.3}");
            terminal::line(format_args!("{} {}", styled(DIM, &time[11..]), sentence(event)));
        }
    }
}

fn sentence(event: &Event) -> String {
    match event {
        Event::Registered { node_id, kinds, slots, hub } => {
            let kinds = if kinds.is_empty() { "all kinds".to_owned() } else { kinds.join(", ") };
            let jobs = if *slots == 1 { "one job".to_owned() } else { format!("{slots} jobs") };
            format!("{} waits for {jobs} at a time ({kinds}) from {hub}", styled(BOLD, node_id))
        }
        Event::Started { job_id, kind, attempt } => {
            let again = if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
            format!("{} {job_id} {kind}{again}", styled(DIM, "▸"))
        }
        Event::Finished { job_id, kind, ok: true, run_ms, .. } => {
            format!("{} {job_id} {kind} {run_ms} ms", styled(GOOD, "✓"))
        }
        Event::Finished { job_id, kind, status, run_ms, reason, .. } => {
            let reason = reason.unwrap_or("failed");
            format!("{} {job_id} {kind} {run_ms} ms: {reason} → {status}", styled(BAD, "✗"))
        }
        Event::LeaseLost { job_id, reason } => format!("{} {job_id} lease lost: {reason}", styled(WARN, "!")),
        Event::ResultRefused { job_id, reason } => format!("{} {job_id} result refused: {reason}", styled(BAD, "✗")),
        Event::HeartbeatRefused { reason } => format!("{} heartbeat refused: {reason}", styled(BAD, "✗")),
        Event::HubAway { reason } => format!("{} {reason}; trying again", styled(WARN, "!")),
        Event::HubBack => format!("{} the hub is back", styled(GOOD, "✓")),
        Event::Stopping { is_abort: true, running } => {
            format!("{} stopping at once: {running} job(s) killed and reported as failed", styled(WARN, "!"))
        }
        Event::Stopping { running: 0, .. } => "stopping: nothing runs".to_owned(),
        Event::Stopping { running, .. } => {
            format!(
                "stopping when {running} job(s) are finished; a second signal kills them and reports them as failed"
            )
        }
        Event::Stopped { done, failed, lost, refused } => {
            let lost = if *lost > 0 { format!(", {lost} with their lease lost") } else { String::new() };
            let refused = if *refused > 0 { format!(", {refused} with their result refused") } else { String::new() };
            format!("stopped: {done} done, {failed} failed{lost}{refused}")
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
