//! Routes: which path means what, and on which plane.
//!
//! One table for both planes, so that the leak guard and the router cannot disagree: a path of the other plane is known
//! as such even where this release does not serve it yet.

use std::net::SocketAddr;

/// The two planes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Plane {
    /// Nodes and operators.
    Control,
    /// Clients and workers.
    Data,
}

/// What a path names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// Whether the hub is there, with its version.
    Health,
    /// Whether the process runs.
    Livez,
    /// Whether it takes work.
    Readyz,
    /// What the hub counts.
    Metrics,
    /// A node says what it is.
    Heartbeat,
    /// All nodes.
    Registry,
    /// The latest audit events.
    Audit,
    /// The alerts.
    Alerts,
    /// What happens, as it happens.
    Events,
    /// One job in.
    SubmitOne,
    /// Many jobs in.
    SubmitMany,
    /// Jobs out, to the node that the path or the body names.
    Pull(Option<&'a str>),
    /// Leases kept.
    ExtendLease,
    /// One result in.
    ResultOne,
    /// Many results in.
    ResultMany,
    /// A page of jobs.
    Jobs,
    /// One job.
    Job(&'a str),
    /// A path of this plane that this release does not serve.
    Unserved,
}

/// Where a path leads, seen from a plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way<'a> {
    /// To a route of this plane.
    Here(Route<'a>),
    /// To the other plane.
    OtherPlane,
    /// Nowhere.
    Unknown,
}

/// Paths that this release does not serve, by the plane that they belong to. A trailing `*` stands for the rest.
const RESERVED: &[(Plane, &str)] = &[
    (Plane::Control, "/"),
    (Plane::Control, "/openapi.json"),
    (Plane::Control, "/dashboard*"),
    (Plane::Control, "/api/nodes*"),
    (Plane::Control, "/api/hosts*"),
    (Plane::Control, "/api/policies*"),
    (Plane::Control, "/api/tokens*"),
    (Plane::Data, "/mesh/dlq*"),
    (Plane::Data, "/mesh/jobs/*"),
];

impl Way<'_> {
    /// A word for it, for the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Way::Here(route) => route.name(),
            Way::OtherPlane => "other_plane",
            Way::Unknown => "unknown",
        }
    }
}

impl Route<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Route::Health => "health",
            Route::Livez => "livez",
            Route::Readyz => "readyz",
            Route::Metrics => "metrics",
            Route::Heartbeat => "heartbeat",
            Route::Registry => "registry",
            Route::Audit => "audit",
            Route::Alerts => "alerts",
            Route::Events => "events",
            Route::SubmitOne => "submit_request",
            Route::SubmitMany => "submit_requests",
            Route::Pull(_) => "pull_requests",
            Route::ExtendLease => "extend_lease",
            Route::ResultOne => "submit_result",
            Route::ResultMany => "submit_results",
            Route::Jobs => "jobs",
            Route::Job(_) => "job",
            Route::Unserved => "unserved",
        }
    }
}

impl Plane {
    /// The other one.
    pub const fn other(self) -> Plane {
        match self {
            Plane::Control => Plane::Data,
            Plane::Data => Plane::Control,
        }
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Plane::Control => "control",
            Plane::Data => "data",
        }
    }
}

/// The addresses of both planes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlaneAddrs {
    /// Of the control plane.
    pub control: SocketAddr,
    /// Of the data plane.
    pub data: SocketAddr,
}

impl PlaneAddrs {
    /// The address of one.
    pub const fn of(&self, plane: Plane) -> SocketAddr {
        match plane {
            Plane::Control => self.control,
            Plane::Data => self.data,
        }
    }
}

/// Where `path` leads, seen from `plane`.
pub fn find(plane: Plane, path: &str) -> Way<'_> {
    match belongs(path) {
        None => Way::Unknown,
        Some((None, route)) => Way::Here(route),
        Some((Some(owner), route)) if owner == plane => Way::Here(route),
        Some(_) => Way::OtherPlane,
    }
}

/// The plane that owns a path (none: both serve it) and its route.
fn belongs(path: &str) -> Option<(Option<Plane>, Route<'_>)> {
    let control = |route| Some((Some(Plane::Control), route));
    let data = |route| Some((Some(Plane::Data), route));
    match path {
        "/health" => Some((None, Route::Health)),
        "/livez" => Some((None, Route::Livez)),
        "/readyz" => Some((None, Route::Readyz)),
        "/metrics" | "/api/metrics" => Some((None, Route::Metrics)),
        "/mesh/heartbeat" | "/api/hosts/heartbeat" => control(Route::Heartbeat),
        "/api/registry" | "/registry" => control(Route::Registry),
        "/api/audit" => control(Route::Audit),
        "/api/alerts" => control(Route::Alerts),
        "/api/events" => control(Route::Events),
        "/mesh/submit_request" => data(Route::SubmitOne),
        "/mesh/submit_requests" => data(Route::SubmitMany),
        "/mesh/pull_requests" => data(Route::Pull(None)),
        "/mesh/extend_lease" => data(Route::ExtendLease),
        "/mesh/submit_result" | "/mesh/results/submit" | "/mesh/sync_result" => data(Route::ResultOne),
        "/mesh/submit_results" => data(Route::ResultMany),
        "/mesh/jobs" => data(Route::Jobs),
        _ => with_parameter(path).or_else(|| {
            let owner = RESERVED.iter().find(|(_, pattern)| matches(pattern, path))?.0;
            Some((Some(owner), Route::Unserved))
        }),
    }
}

fn with_parameter(path: &str) -> Option<(Option<Plane>, Route<'_>)> {
    let parameter = |prefix| path.strip_prefix(prefix).filter(|rest| !rest.is_empty() && !rest.contains('/'));
    let pull = parameter("/mesh/pull_requests/").map(|node| Route::Pull(Some(node)));
    let job = || parameter("/mesh/jobs/").map(Route::Job);
    Some((Some(Plane::Data), pull.or_else(job)?))
}

fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/')),
        None => pattern == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_leads_to_its_plane_and_is_gone_on_the_other() {
        let table = [
            (Plane::Control, "/mesh/heartbeat", Route::Heartbeat),
            (Plane::Control, "/api/hosts/heartbeat", Route::Heartbeat),
            (Plane::Control, "/registry", Route::Registry),
            (Plane::Control, "/api/registry", Route::Registry),
            (Plane::Control, "/api/events", Route::Events),
            (Plane::Control, "/api/nodes/x/drain", Route::Unserved),
            (Plane::Control, "/api/policies", Route::Unserved),
            (Plane::Control, "/", Route::Unserved),
            (Plane::Data, "/mesh/submit_request", Route::SubmitOne),
            (Plane::Data, "/mesh/pull_requests", Route::Pull(None)),
            (Plane::Data, "/mesh/pull_requests/NODE_1", Route::Pull(Some("NODE_1"))),
            (Plane::Data, "/mesh/sync_result", Route::ResultOne),
            (Plane::Data, "/mesh/jobs/job_1", Route::Job("job_1")),
            (Plane::Data, "/mesh/jobs/job_1/explain", Route::Unserved),
            (Plane::Data, "/mesh/dlq", Route::Unserved),
        ];
        for (plane, path, route) in table {
            assert_eq!(find(plane, path), Way::Here(route), "{path}");
            assert_eq!(find(plane.other(), path), Way::OtherPlane, "{path}");
        }
    }

    #[test]
    fn some_paths_are_of_both_planes_and_some_of_none() {
        for plane in [Plane::Control, Plane::Data] {
            assert_eq!(find(plane, "/health"), Way::Here(Route::Health));
            for path in ["/mesh", "/mesh/pull_requests/", "/mesh/pull_requests/a/b", "/api", "/healthz", "/api/nodesx"]
            {
                assert_eq!(find(plane, path), Way::Unknown, "{path}");
            }
        }
    }
}
