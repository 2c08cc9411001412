//! Jobs: clients submit them, read them one by one or in pages, and wait until they end.

mod explain;
mod list;
mod read;
mod submit;

pub use read::write_members;

use super::path;
use super::problem::Problem;
use super::{Answer, Caller, Service, reply, rules};
use crate::http::Request;
use sheratan_core::{Command, Outcome, Timestamp};

/// The paths of this resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// Submit one job.
    SubmitOne,
    /// Submit a batch of jobs.
    SubmitMany,
    /// A page of jobs.
    List,
    /// One job, by its id.
    One(&'a str),
    /// Cancel one.
    Cancel(&'a str),
    /// Why one does not run.
    Explain(&'a str),
}

impl<'a> Route<'a> {
    pub fn find(path: &'a str) -> Option<Self> {
        match path {
            "/mesh/submit_request" => Some(Route::SubmitOne),
            "/mesh/submit_requests" => Some(Route::SubmitMany),
            "/mesh/jobs" => Some(Route::List),
            _ => {
                let of = |end| path::parameter(path.strip_suffix(end)?, "/mesh/jobs/");
                let other = || of("/cancel").map(Route::Cancel).or_else(|| of("/explain").map(Route::Explain));
                path::parameter(path, "/mesh/jobs/").map(Route::One).or_else(other)
            }
        }
    }

    /// Its label in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::SubmitOne => "submit_request",
            Route::SubmitMany => "submit_requests",
            Route::List => "jobs",
            Route::One(_) => "job",
            Route::Cancel(_) => "job_cancel",
            Route::Explain(_) => "job_explain",
        }
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        match self {
            Route::SubmitOne | Route::SubmitMany | Route::Cancel(_) => "POST",
            Route::List | Route::One(_) | Route::Explain(_) => "GET, HEAD",
        }
    }

    /// Whether its reply shows the state of jobs.
    pub const fn is_read(&self) -> bool {
        matches!(self, Route::List | Route::One(_) | Route::Explain(_))
    }
}

impl Service {
    pub(super) fn handle_jobs(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        route: Route,
    ) -> Result<Answer, Problem> {
        match route {
            Route::SubmitOne => self.submit_one(now, caller, request).map(Answer::Reply),
            Route::SubmitMany => self.submit_many(now, caller, request).map(Answer::Reply),
            Route::List => self.list_jobs(now, caller, request),
            Route::One(id) => self.read_job(now, caller, request, id),
            Route::Cancel(id) => self.cancel_job(now, caller, id),
            Route::Explain(_) => Ok(self.show_of(now, caller, request)),
        }
    }

    fn cancel_job(&mut self, now: Timestamp, caller: &Caller, id: &str) -> Result<Answer, Problem> {
        let job = self.parse_job(id)?;
        match self.execute(now, self.asker(caller), Command::Cancel(job))? {
            Outcome::Done => {
                self.note_cancelled(job);
                Ok(rules::acknowledgement(reply::ok(|out| {
                    out.flag("ok", true).plain("job_id", self.hub.ids().job_id(job)).plain("status", "cancelled");
                })))
            }
            outcome => Err(self.problem_of(now, outcome)),
        }
    }
}
