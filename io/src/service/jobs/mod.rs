//! Jobs: clients submit them, read them one by one or in pages, and wait for their ends.

mod read;
mod submit;

use super::problem::Problem;
use super::route;
use super::{Answer, Caller, Service};
use crate::http::Request;
use sheratan_core::time::Timestamp;

/// What a path of this resource names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// One job in.
    SubmitOne,
    /// Many jobs in.
    SubmitMany,
    /// A page of jobs.
    List,
    /// One job, by its id.
    One(&'a str),
}

impl<'a> Route<'a> {
    pub fn find(path: &'a str) -> Option<Self> {
        match path {
            "/mesh/submit_request" => Some(Route::SubmitOne),
            "/mesh/submit_requests" => Some(Route::SubmitMany),
            "/mesh/jobs" => Some(Route::List),
            _ => route::parameter(path, "/mesh/jobs/").map(Route::One),
        }
    }

    /// The word for it in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::SubmitOne => "submit_request",
            Route::SubmitMany => "submit_requests",
            Route::List => "jobs",
            Route::One(_) => "job",
        }
    }

    /// The methods that it takes, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        match self {
            Route::SubmitOne | Route::SubmitMany => "POST",
            Route::List | Route::One(_) => "GET, HEAD",
        }
    }

    /// Whether its reply shows jobs as they are.
    pub const fn is_read(&self) -> bool {
        matches!(self, Route::List | Route::One(_))
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
            Route::SubmitOne => self.submit_one(now, request).map(Answer::Reply),
            Route::SubmitMany => self.submit_many(now, request).map(Answer::Reply),
            Route::List => self.list_jobs(request).map(Answer::Reply),
            Route::One(id) => self.read_job(now, caller, request, id),
        }
    }
}
