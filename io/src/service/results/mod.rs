//! Results: nodes submit the results of leased jobs, one in a request or up to a thousand, and fetch those of the jobs
//! that they submitted.

mod integrity;
pub mod signatures;
mod sync;

use self::integrity::SentResult;
use super::batch::{self, Answers, Batch};
use super::body::{self, Fields};
use super::leases::PullRequest;
use super::path;
use super::problem::Problem;
use super::{Answer, Caller, Service};
use crate::http::Request;
use crate::object::{Object, object};
use sha2::{Digest, Sha256};
use sheratan_core::integrity::checksum::Claimed;
use sheratan_core::integrity::stored::ResultIntegrity;
use sheratan_core::limits::NAME_BYTES_MAX;
use sheratan_core::{
    Command, Complete, Completed, CompletedStatus, FinalStatus, Hub, JobSeq, LeaseRef, Millis, Name, Outcome,
    ParkResult, Refusal, ResultMark, Timestamp,
};

/// The members of a result.
const MEMBERS: &[&str] = &[
    "job_id",
    "node_id",
    "lease_id",
    "result_id",
    "ok",
    "result",
    "error",
    "retryable",
    "retry_after_ms",
    "integrity",
    "pull",
];

/// The paths of this resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// Submit one result.
    SubmitOne,
    /// Submit a batch of results.
    SubmitMany,
    /// Fetch the results of a client, by the node id in the path.
    Fetch(&'a str),
}

impl<'a> Route<'a> {
    pub fn find(path: &'a str) -> Option<Self> {
        match path {
            "/mesh/submit_result" | "/mesh/results/submit" | "/mesh/sync_result" => Some(Route::SubmitOne),
            "/mesh/submit_results" => Some(Route::SubmitMany),
            _ => path::parameter(path, "/mesh/results/").map(Route::Fetch),
        }
    }

    /// Its label in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::SubmitOne => "submit_result",
            Route::SubmitMany => "submit_results",
            Route::Fetch(_) => "results",
        }
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        match self {
            Route::SubmitOne | Route::SubmitMany => "POST",
            Route::Fetch(_) => "GET, HEAD",
        }
    }

    /// Whether its reply shows the state of jobs, and changes none.
    pub const fn is_read(&self) -> bool {
        matches!(self, Route::Fetch(_))
    }
}

impl Service {
    pub(super) fn handle_results(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        route: Route,
    ) -> Result<Answer, Problem> {
        match route {
            Route::SubmitOne => self.complete_one(now, caller, request),
            Route::SubmitMany => self.complete_many(now, caller, request),
            Route::Fetch(node) => self.fetch_results(now, caller, request, node),
        }
    }

    fn complete_one(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Result<Answer, Problem> {
        let fields = Fields::parse(request.body(), MEMBERS)?;
        let then_pull = PullRequest::of_result(&fields)?;
        let completed = self.complete(now, caller, &fields)?;
        let mut body = Vec::new();
        object(&mut body, |out| write_accepted(out, &self.hub, &completed));
        self.answer_then_pull(now, caller, body, then_pull)
    }

    fn complete_many(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Result<Answer, Problem> {
        let batch = Batch::read(request.body(), "results")?;
        let fields = batch.fields(&["results", "node_id", "pull"])?;
        let then_pull = PullRequest::of_result(&fields)?;
        let entries = batch.entries(&fields)?;
        let mut answers = Answers::new("results");
        for entry in entries {
            let completed = batch::read_entry(entry, MEMBERS).and_then(|fields| self.complete(now, caller, &fields));
            answers.push(completed, |out, completed| write_accepted(out, &self.hub, &completed));
        }
        self.answer_then_pull(now, caller, answers.into_body(), then_pull)
    }

    fn complete(&mut self, now: Timestamp, caller: &Caller, fields: &Fields) -> Result<Accepted, Problem> {
        let complete = self.read_complete(now, caller, fields)?;
        if self.hub.queue().get(complete.job).is_none() {
            return self.park_result(now, caller, fields, complete);
        }
        let node = complete.node.clone();
        let outcome = self.execute(now, self.asker(caller), Command::Complete(complete))?;
        if let Some(node) = node.filter(|_| !outcome.is_durable()) {
            self.note_liveness(now, &node);
        }
        match outcome {
            // Its lease counts no more, and that is a record; the result itself changes nothing.
            Outcome::Completed(Completed { status: CompletedStatus::Acknowledged, .. }) => {
                Err(self.problem_of(now, Outcome::Refused(Refusal::LeaseLost)))
            }
            Outcome::Completed(completed) => Ok(Accepted::Completed(completed)),
            outcome => Err(self.problem_of(now, outcome)),
        }
    }

    /// A result of a job that the hub does not know: the work was done, so it is kept for an operator. A worker that
    /// named a lease learns that it is lost.
    fn park_result(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        fields: &Fields,
        complete: Complete,
    ) -> Result<Accepted, Problem> {
        let Complete { node, lease, ok, result, error, mark, integrity, .. } = complete;
        let text = fields.text("job_id")?.unwrap_or_default();
        let job_id = body::name("job_id", &text)?;
        // The worker's checksum is of the id as it was sent, with white space.
        let own = || ResultIntegrity::of_hub(error.as_ref(), &job_id, ok, result.as_ref()).map(Box::new);
        let integrity = if *job_id == *text { integrity } else { own() };
        let parked = ParkResult { job_id: job_id.clone(), node, ok, result, error, mark, integrity };
        let limits = self.hub.limits();
        if limits.orphans_max == 0 || parked.bytes() > limits.orphans_bytes_max {
            // All others would go for it, and then it.
            let limits = (limits.orphans_max, limits.orphans_bytes_max);
            return Err(match lease {
                Some(_) => self.problem_of(now, Outcome::Refused(Refusal::LeaseLost)),
                None => Problem::orphan_not_kept(parked.bytes(), limits),
            });
        }
        let outcome = self.execute(now, self.asker(caller), Command::ParkResult(Box::new(parked)))?;
        if let Outcome::Parked { orphan, is_duplicate: false } = outcome {
            self.note_orphan(orphan, caller.ip);
        }
        match outcome {
            Outcome::Parked { .. } if lease.is_some() => {
                Err(self.problem_of(now, Outcome::Refused(Refusal::LeaseLost)))
            }
            Outcome::Parked { is_duplicate, .. } => Ok(Accepted::Parked { job_id, is_duplicate }),
            outcome => Err(self.problem_of(now, outcome)),
        }
    }

    fn read_complete(&mut self, now: Timestamp, caller: &Caller, fields: &Fields) -> Result<Complete, Problem> {
        let job_id = fields.text("job_id")?.ok_or_else(|| body::missing("job_id"))?;
        // It is in the audit log if the integrity is wrong.
        if job_id.len() > NAME_BYTES_MAX {
            return Err(Problem::bad_request(format!("job_id must have at most {NAME_BYTES_MAX} bytes")));
        }
        let ok = fields.flag("ok")?.ok_or_else(|| body::missing("ok"))?;
        let lease_id = fields.text("lease_id")?;
        let result_id = fields.key("result_id")?;
        let (result, error) = (fields.raw("result"), fields.raw("error"));
        let claimed = match fields.object("integrity", &["mode", "sha256", "sig"])? {
            // An empty one is absent: clients without a key send it so.
            Some(integrity) => {
                let text = |key| integrity.text(key).map(|text| text.filter(|text| !text.trim().is_empty()));
                Claimed { sha256: text("sha256")?, sig: text("sig")? }
            }
            None => Claimed { sha256: None, sig: None },
        };
        let node = fields.name("node_id")?;
        let sent = SentResult { claimed, error, job_id: &job_id, ok, result, node: node.as_ref() };
        let (content, integrity) = self.check_integrity(now, caller, &sent)?;
        // A text that is no job id of this hub is a job that it does not know: its result may be parked.
        let job = self.hub.ids().parse_job_id(&job_id).unwrap_or(JobSeq::new(0));
        // A text that is not a lease id of this hub is fenced like an ended lease: no lease has generation 0.
        let no_lease = LeaseRef { job, generation: 0 };
        let lease = lease_id.map(|text| self.hub.parse_lease_id(&text).unwrap_or(no_lease));
        Ok(Complete {
            job,
            lease,
            node,
            ok,
            result: fields.payload("result"),
            error: fields.payload("error"),
            is_retryable: fields.flag("retryable")?.unwrap_or(true),
            mark: result_id.map_or(ResultMark::Content(content), |id| mark_of_id(&id, content)),
            integrity: Some(Box::new(integrity)),
            retry_after_ms: fields.number("retry_after_ms", 0..=u64::from(u32::MAX))?.map(Millis::new),
        })
    }
}

/// The mark of a result that has an id of its node.
fn mark_of_id(result_id: &Name, content: u64) -> ResultMark {
    let hash = integrity::first_bytes(&Sha256::digest(result_id.as_bytes()).into());
    ResultMark::IdAndContent { id: hash as u32, content }
}

/// A result that was accepted.
enum Accepted {
    Completed(Completed),
    /// It is that of an unknown job, and is kept.
    Parked {
        job_id: Name,
        is_duplicate: bool,
    },
}

fn write_accepted(out: &mut Object, hub: &Hub, accepted: &Accepted) {
    match accepted {
        Accepted::Completed(completed) => write_completed(out, hub, completed),
        Accepted::Parked { job_id, is_duplicate } => {
            out.flag("ok", true).text("job_id", job_id).plain("status", "orphaned");
            if *is_duplicate {
                out.flag("duplicate", true);
            }
        }
    }
}

/// The members of the reply to a result.
pub fn write_completed(out: &mut Object, hub: &Hub, completed: &Completed) {
    out.flag("ok", true).plain("job_id", hub.ids().job_id(completed.job));
    match completed.status {
        CompletedStatus::Final(FinalStatus::Failed | FinalStatus::Superseded) => _ = out.plain("status", "dropped"),
        CompletedStatus::Final(status) => _ = out.plain("status", status.as_str()),
        CompletedStatus::Acknowledged => unreachable!("it is answered as a lost lease"),
        CompletedStatus::RetryScheduled(at) => {
            out.plain("status", "retry_scheduled").time("next_attempt_utc", hub.calendar().utc(at));
        }
    }
    if completed.is_duplicate {
        out.flag("duplicate", true);
    }
}
