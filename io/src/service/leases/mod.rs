//! Leases: nodes pull jobs, at once or with a long poll, and extend the leases that they hold.

mod extend;
mod pull;

pub use pull::{PullRequest, REPLY_HEAD};
use sheratan_core::{Millis, Timestamp};

use super::body::Fields;
use super::problem::Problem;
use super::route;
use super::{Answer, Caller, Service};
use crate::http::Request;
use sheratan_core::limits::{LEASE_DURATION_MAX, LEASE_DURATION_MIN};
use std::ops::RangeInclusive;

const LEASE_SECS: RangeInclusive<u64> = LEASE_DURATION_MIN.get() / 1000..=LEASE_DURATION_MAX.get() / 1000;

/// The paths of this resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// Lease jobs to the node that the path or the body names.
    Pull(Option<&'a str>),
    /// Extend leases.
    Extend,
}

impl<'a> Route<'a> {
    pub fn find(path: &'a str) -> Option<Self> {
        match path {
            "/mesh/pull_requests" => Some(Route::Pull(None)),
            "/mesh/extend_lease" => Some(Route::Extend),
            _ => route::parameter(path, "/mesh/pull_requests/").map(|node| Route::Pull(Some(node))),
        }
    }

    /// Its label in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::Pull(_) => "pull_requests",
            Route::Extend => "extend_lease",
        }
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        match self {
            // HEAD would lease jobs and drop them.
            Route::Pull(Some(_)) => "GET, POST",
            Route::Pull(None) | Route::Extend => "POST",
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
        }
    }
}

/// The lease duration, if the body has one.
pub fn read_lease_duration(fields: &Fields) -> Result<Option<Millis>, Problem> {
    fields.seconds("lease_sec", LEASE_SECS)
}
