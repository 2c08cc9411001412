//! Health: whether the process runs, whether the hub has recovered, and whether it accepts jobs.

use super::plane::Plane;
use super::problem::Problem;
use super::stalls::Stalls;
use super::{Answer, Caller, Service, reply};
use crate::http::Reply;
use sheratan_core::{Timestamp, Utc};

/// The paths of this resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// Whether the hub runs, with its version.
    Health,
    /// Whether the process runs.
    Livez,
    /// Whether the hub accepts jobs.
    Readyz,
}

impl Route {
    pub fn find(path: &str) -> Option<Self> {
        match path {
            "/health" => Some(Route::Health),
            "/livez" => Some(Route::Livez),
            "/readyz" => Some(Route::Readyz),
            _ => None,
        }
    }

    /// Its label in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::Health => "health",
            Route::Livez => "livez",
            Route::Readyz => "readyz",
        }
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        "GET, HEAD"
    }

    /// Whether a token that is sent is checked although none is needed. A probe with an old token must not restart the
    /// hub.
    pub const fn checks_token(&self) -> bool {
        matches!(self, Route::Health)
    }

    /// Whether it needs no token. On the data plane, `/health` needs one except from this machine.
    pub fn is_public(&self, plane: Plane, is_local: bool) -> bool {
        match self {
            Route::Livez | Route::Readyz => true,
            Route::Health => plane == Plane::Control || is_local,
        }
    }
}

impl Service {
    pub(super) fn handle_health(&self, now: Timestamp, caller: &Caller, route: Route) -> Result<Answer, Problem> {
        match route {
            Route::Health => Ok(Answer::Now(health(self.hub.calendar().utc(now), caller.plane, &self.stalls))),
            Route::Livez => Ok(Answer::Now(livez(&self.stalls))),
            Route::Readyz => self.readyz().map(Answer::Now),
        }
    }

    /// Whether the hub accepts jobs.
    pub(super) fn is_ready(&self) -> bool {
        self.uncommitted.journal_down().is_none() && !self.is_draining && self.stalls.is_audit_free()
    }

    fn readyz(&self) -> Result<Reply, Problem> {
        if let Some(reason) = self.uncommitted.journal_down() {
            return Err(Problem::journal_unavailable(reason));
        }
        if self.is_draining {
            return Err(Problem::stopping());
        }
        if !self.stalls.is_audit_free() {
            return Err(Problem::audit_full());
        }
        Ok(reply::ok(|out| {
            out.flag("ok", true).plain("status", "ready");
            self.stalls.write(out);
        }))
    }
}

pub fn health(now: Utc, plane: Plane, stalls: &Stalls) -> Reply {
    let service = match plane {
        Plane::Control => "Sheratan Hub Control",
        Plane::Data => "Sheratan Hub Data",
    };
    reply::ok(|out| {
        out.flag("ok", true).plain("status", "ok").plain("service", service).time("ts", now);
        out.plain("plane", plane.as_str()).plain("version", env!("CARGO_PKG_VERSION"));
        stalls.write(out);
    })
}

pub fn livez(stalls: &Stalls) -> Reply {
    reply::ok(|out| {
        out.flag("ok", true).plain("status", "alive");
        stalls.write(out);
    })
}
