//! Reading a job: at once or when it has ended.

use crate::http::{Reply, Request};
use crate::object::{Object, object, write_text};
use crate::service::corrupt::{self, Corrupt};
use crate::service::long_polls::{self, LongPoll, Read, WaitsFor};
use crate::service::problem::Problem;
use crate::service::query::Query;
use crate::service::{Answer, Caller, Service, reply};
use sheratan_core::{AttemptEnd, Calendar, EndedJob, Hub, JobSeq, JobView, Name, State, Timestamp};

impl Service {
    pub(super) fn read_job(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        id: &str,
    ) -> Result<Answer, Problem> {
        let query = Query::parse(request.query(), &["wait_ms"])?;
        let wait_ms = query.number("wait_ms", 0..=long_polls::WAIT_MS_MAX)?.unwrap_or(0);
        let seq = self.hub.ids().parse_job_id(id).ok_or_else(Problem::unknown_job)?;
        let job = self.hub.queue().get(seq);
        if job.is_none_or(|job| job.is_final()) || wait_ms == 0 || self.is_draining {
            return Ok(self.show(now, caller, Read::Job(seq)));
        }
        if !self.may_wait {
            self.note_unparked(caller);
            return Err(Problem::share_is_used());
        }
        let id = self.long_polls.next_id();
        let until = long_polls::deadline(now, wait_ms);
        self.long_polls.insert(
            id,
            LongPoll { origin: caller.origin, until, token: self.token_used, waits_for: WaitsFor::End(seq) },
        );
        Ok(Answer::Parked)
    }

    /// The reply that shows a job as it is now.
    pub(in crate::service) fn job_reply(&mut self, seq: JobSeq) -> Reply {
        if let Some(reason) = self.why_hidden(&Read::Job(seq)) {
            return Problem::not_durable(reason).into_reply();
        }
        let Some(job) = self.hub.queue().get(seq) else { return Problem::unknown_job().into_reply() };
        let (reply, corrupt) = self.show_job(job);
        self.note_corrupt(corrupt);
        reply
    }

    /// The reply that shows a job that is gone.
    pub(in crate::service) fn gone_reply(&mut self, job: &EndedJob) -> Reply {
        let (reply, corrupt) = self.show_job(job.view());
        self.note_corrupt(corrupt);
        reply
    }

    /// The reply that shows this job, and what has to be reported of its result.
    fn show_job(&self, job: JobView<'_>) -> (Reply, Option<Corrupt>) {
        if let Some(reason) = self.uncommitted.job_hidden_because(self.hub.ended_at(), job) {
            return (Problem::not_durable(reason).into_reply(), None);
        }
        let corrupt = corrupt::of_job(self.hub.ids(), job);
        let shown = if corrupt.is_some() { Shown::AllButResult } else { Shown::All };
        let mut text = Vec::new();
        write_job(&mut text, &self.hub, job, shown);
        let reply = match corrupt {
            None => reply::ok(|out| _ = out.flag("ok", true).raw("job", &text)),
            Some(_) => {
                let job = String::from_utf8_lossy(&text);
                Problem::result_corrupt(format!(",\"job\":{job}")).into_reply()
            }
        };
        (reply, corrupt)
    }
}

/// How much of a job is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// As on a page: neither payloads nor attempts.
    Row,
    All,
    /// Not the result and the error that it ended with.
    AllButResult,
}

/// A job.
pub(super) fn write_job(out: &mut Vec<u8>, hub: &Hub, job: JobView<'_>, shown: Shown) {
    object(out, |out| {
        write_members(out, hub, job);
        if shown == Shown::Row {
            return;
        }
        if let State::Final { result, error, integrity, .. } = job.state() {
            if shown == Shown::All {
                out.payload("result", result.as_ref()).payload("error", error.as_ref());
            }
            corrupt::write_integrity(out, integrity.as_ref());
        }
        out.payload("params", job.params());
        write_attempts(out, hub.calendar(), job, shown);
    });
}

/// The members of a job, without its attempts and payloads.
pub fn write_members(out: &mut Object, hub: &Hub, job: JobView<'_>) {
    let (ids, calendar) = (hub.ids(), hub.calendar());
    out.plain("job_id", ids.job_id(job.seq())).plain("request_id", ids.request_id(job.seq()));
    out.text("kind", job.kind()).plain("status", job.status()).plain("priority", job.priority().as_str());
    out.text("zone", job.class().zone.as_str());
    out.array("requires", job.class().requires.iter(), |out, name: &Name| write_text(out, name));
    if let Some(client) = job.client() {
        out.object("client", |out| _ = out.text("node_id", client));
    }
    out.time("submitted_utc", calendar.utc(job.submitted_at()));
    if job.expires_at() != Timestamp::NEVER {
        out.time("expires_utc", calendar.utc(job.expires_at()));
    }
    out.number("attempts_max", u64::from(job.attempts_max()));
    out.number("attempt", u64::from(job.generation()));
    if job.losses() > 0 {
        out.number("losses", u64::from(job.losses()));
    }
    if let Some(reason) = job.end_reason() {
        out.plain("reason", reason.as_str());
    }
    let (progress, note) = job.progress();
    if let Some(percent) = progress {
        out.number("progress", u64::from(percent));
    }
    if let Some(note) = note {
        out.text("note", note);
    }
    if let Some(node) = job.leased_to() {
        out.text("node_id", node);
    }
    write_state(out, calendar, &job.state());
}

fn write_state(out: &mut Object, calendar: Calendar, state: &State) {
    match state {
        State::Dated { run_at } => _ = out.time("run_at_utc", *run_at),
        State::Scheduled { due_at } => _ = out.time("run_at_utc", calendar.utc(*due_at)),
        // A retry that is due and waits for the retry budget: it has no instant.
        State::Postponed { since } => _ = out.time("postponed_utc", calendar.utc(*since)),
        State::Queued { since } => _ = out.time("queued_utc", calendar.utc(*since)),
        State::Leased { until, .. } => _ = out.time("lease_until_utc", calendar.utc(*until)),
        State::Final { at, .. } => _ = out.time("final_utc", calendar.utc(*at)),
    }
}

fn write_attempts(out: &mut Object, calendar: Calendar, job: JobView<'_>, shown: Shown) {
    // The earliest of many attempts are dropped; the others keep their numbers.
    let first = job.generation() + 1 - job.attempts().count() as u32;
    out.array("attempts", (first..).zip(job.attempts()), |out, (number, attempt)| {
        object(out, |out| {
            out.number("attempt", u64::from(number)).text("node_id", &attempt.node);
            out.time("start_utc", calendar.utc(attempt.started_at));
            let (word, end, error) = match &attempt.end {
                AttemptEnd::Running => ("running", None, None),
                AttemptEnd::Completed { at, .. } => ("completed", Some(*at), None),
                AttemptEnd::Failed { at, error, .. } => ("failed", Some(*at), error.as_ref()),
                AttemptEnd::Expired { at } => ("lease_expired", Some(*at), None),
                AttemptEnd::Revoked { at, .. } => ("revoked", Some(*at), None),
            };
            out.plain("outcome", word);
            match end {
                Some(at) => out.time("end_utc", calendar.utc(at)),
                None => out.raw("end_utc", b"null"),
            };
            if let AttemptEnd::Revoked { why, .. } = &attempt.end {
                out.plain("reason", why.as_str());
            }
            // The last attempt shares its error with the job.
            let is_hidden = shown == Shown::AllButResult && number == job.generation();
            out.payload("error", error.filter(|_| !is_hidden));
        });
    });
}
