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
use sheratan_core::{
    Command, Complete, Completed, CompletedStatus, Hub, LeaseRef, Name, Outcome, ResultMark, Timestamp,
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
        object(&mut body, |out| write_completed(out, &self.hub, &completed));
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
            answers.push(completed, |out, completed| write_completed(out, &self.hub, &completed));
        }
        self.answer_then_pull(now, caller, answers.into_body(), then_pull)
    }

    fn complete(&mut self, now: Timestamp, caller: &Caller, fields: &Fields) -> Result<Completed, Problem> {
        let complete = self.read_complete(now, caller, fields)?;
        let node = complete.node.clone();
        let outcome = self.execute(now, self.asker(caller), Command::Complete(complete))?;
        if let Some(node) = node.filter(|_| !outcome.is_durable()) {
            self.note_liveness(now, &node);
        }
        match outcome {
            Outcome::Completed(completed) => Ok(completed),
            outcome => Err(self.problem_of(now, outcome)),
        }
    }

    fn read_complete(&mut self, now: Timestamp, caller: &Caller, fields: &Fields) -> Result<Complete, Problem> {
        let job_id = fields.text("job_id")?.ok_or_else(|| body::missing("job_id"))?;
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
        let job = self.hub.ids().parse_job_id(&job_id).ok_or_else(Problem::unknown_job)?;
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
        })
    }
}

/// The mark of a result that has an id of its node.
fn mark_of_id(result_id: &Name, content: u64) -> ResultMark {
    let hash = integrity::first_bytes(&Sha256::digest(result_id.as_bytes()).into());
    ResultMark::IdAndContent { id: hash as u32, content }
}

/// The members of the reply to a result.
fn write_completed(out: &mut Object, hub: &Hub, completed: &Completed) {
    out.flag("ok", true).plain("job_id", hub.ids().job_id(completed.job));
    match completed.status {
        CompletedStatus::Final(status) => _ = out.plain("status", status.as_str()),
        CompletedStatus::RetryScheduled(at) => {
            out.plain("status", "retry_scheduled").time("next_attempt_utc", hub.calendar().utc(at));
        }
    }
    if completed.is_duplicate {
        out.flag("duplicate", true);
    }
}
