//! Leases: nodes pull jobs, at once or with a long poll, extend the leases that they hold, and give them back.

mod extend;
mod pull;
mod release;

pub use pull::PullRequest;
use sheratan_core::{Millis, Timestamp};

use super::body::{self, Fields};
use super::path;
use super::problem::Problem;
use super::{Answer, Caller, Service};
use crate::http::Request;
use sheratan_core::integrity::json::Value;
use sheratan_core::limits::{LEASE_DURATION_MAX, LEASE_DURATION_MIN, PULL_JOBS_MAX};
use std::borrow::Cow;
use std::ops::RangeInclusive;

const LEASE_SECS: RangeInclusive<u64> = LEASE_DURATION_MIN.get() / 1000..=LEASE_DURATION_MAX.get() / 1000;

/// The paths of this resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// Lease jobs to the node that the path or the body names.
    Pull(Option<&'a str>),
    /// Extend leases.
    Extend,
    /// Give leases back.
    Release,
}

impl<'a> Route<'a> {
    pub fn find(path: &'a str) -> Option<Self> {
        match path {
            "/mesh/pull_requests" => Some(Route::Pull(None)),
            "/mesh/extend_lease" => Some(Route::Extend),
            "/mesh/release_lease" => Some(Route::Release),
            _ => path::parameter(path, "/mesh/pull_requests/").map(|node| Route::Pull(Some(node))),
        }
    }

    /// Its label in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::Pull(_) => "pull_requests",
            Route::Extend => "extend_lease",
            Route::Release => "release_lease",
        }
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        match self {
            // HEAD would lease jobs and drop them.
            Route::Pull(Some(_)) => "GET, POST",
            Route::Pull(None) | Route::Extend | Route::Release => "POST",
        }
    }
}

impl Service {
    pub(super) fn handle_leases(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        route: Route,
    ) -> Result<Answer, Problem> {
        match route {
            Route::Pull(node) => self.pull(now, caller, request, node),
            Route::Extend => self.extend_leases(now, caller, request).map(Answer::Reply),
            Route::Release => self.release_leases(now, caller, request).map(Answer::Reply),
        }
    }
}

/// The leases that a body names, a text each.
fn read_leases<'a>(fields: &Fields<'a>) -> Result<Vec<Cow<'a, str>>, Problem> {
    let texts = fields.array("leases")?.ok_or_else(|| body::missing("leases"))?;
    if texts.len() > PULL_JOBS_MAX as usize {
        return Err(Problem::bad_request(format!("leases must have at most {PULL_JOBS_MAX} entries")));
    }
    let text = |text: &Value<'a>| text.as_str().ok_or_else(|| Problem::bad_request("leases must be a list of strings"));
    texts.iter().map(text).collect()
}

/// The lease duration, if the body has one.
pub fn read_lease_duration(fields: &Fields) -> Result<Option<Millis>, Problem> {
    fields.seconds("lease_sec", LEASE_SECS)
}
