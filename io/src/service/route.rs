//! Routes: which resource and plane a path belongs to.
//!
//! Each resource defines its own paths; this module combines them into one table for both planes, so that the leak
//! guard and the router cannot disagree. A path of the other plane is refused as such even if this release does not
//! serve it.

use super::path;
use super::plane::Plane;
use super::{
    health, jobs, kinds, leases, letters, metrics, nodes, notifications, orphans, policies, results, tokens, weights,
};
use crate::http::Method;

/// A route of a resource. Each resource's module defines its paths, their methods and their labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// Of both planes.
    Health(health::Route),
    /// Of both planes: what the hub counts.
    Metrics,
    /// Of the control plane.
    Nodes(nodes::Route<'a>),
    /// Of the control plane.
    Policies(policies::Route<'a>),
    /// Of the control plane.
    Notifications(notifications::Route),
    /// Of the control plane.
    Tokens(tokens::Route),
    /// Of the data plane.
    Jobs(jobs::Route<'a>),
    /// Of the data plane.
    Leases(leases::Route<'a>),
    /// Of the data plane.
    Results(results::Route<'a>),
    /// Of the data plane.
    Kinds(kinds::Route<'a>),
    /// Of the data plane.
    Letters(letters::Route<'a>),
    /// Of the data plane.
    Orphans(orphans::Route<'a>),
    /// Of the data plane.
    Weights(weights::Route),
    /// A path of this plane that this release does not serve.
    Unserved,
}

/// The result of looking up a path on a plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup<'a> {
    /// A route of this plane.
    Found(Route<'a>),
    /// A path of the other plane.
    OtherPlane,
    /// A path of neither plane.
    Unknown,
}

/// What requests do to the hub's load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// They bring work.
    Submit,
    /// They finish work, or keep it alive: results, extensions, releases, cancels, heartbeats.
    Finish,
    /// They do neither.
    Other,
}

/// Paths that this release does not serve, by the plane that they belong to. A trailing `*` stands for the rest.
const RESERVED: &[(Plane, &str)] = &[
    (Plane::Control, "/"),
    (Plane::Control, "/openapi.json"),
    (Plane::Control, "/dashboard*"),
    (Plane::Control, "/api/nodes*"),
    (Plane::Control, "/api/hosts*"),
    (Plane::Control, "/api/admin*"),
    (Plane::Control, "/api/policies*"),
    (Plane::Control, "/api/tokens*"),
    (Plane::Data, "/mesh/dlq*"),
    (Plane::Data, "/mesh/jobs/*"),
    (Plane::Data, "/mesh/results*"),
    (Plane::Data, "/admin*"),
];

impl Lookup<'_> {
    /// Its label in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Lookup::Found(route) => route.name(),
            Lookup::OtherPlane => "other_plane",
            Lookup::Unknown => "unknown",
        }
    }
}

impl Route<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Route::Health(route) => route.name(),
            Route::Metrics => "metrics",
            Route::Nodes(route) => route.name(),
            Route::Policies(route) => route.name(),
            Route::Notifications(route) => route.name(),
            Route::Tokens(route) => route.name(),
            Route::Jobs(route) => route.name(),
            Route::Leases(route) => route.name(),
            Route::Results(route) => route.name(),
            Route::Kinds(route) => route.name(),
            Route::Letters(route) => route.name(),
            Route::Orphans(route) => route.name(),
            Route::Weights(route) => route.name(),
            Route::Unserved => "unserved",
        }
    }

    /// What a request for it does to the hub's load.
    pub const fn load(&self) -> Load {
        match self {
            Route::Jobs(jobs::Route::SubmitOne | jobs::Route::SubmitMany) => Load::Submit,
            Route::Jobs(jobs::Route::Cancel(_)) => Load::Finish,
            Route::Results(route) if !route.is_read() => Load::Finish,
            Route::Leases(leases::Route::Extend | leases::Route::Release) => Load::Finish,
            Route::Nodes(route) if !route.is_read() => Load::Finish,
            _ => Load::Other,
        }
    }

    /// Whether a read of it shows state, which must be durable.
    pub const fn shows_state(&self) -> bool {
        match self {
            Route::Jobs(route) => route.is_read(),
            Route::Results(route) => route.is_read(),
            Route::Nodes(route) => matches!(route, nodes::Route::One(_) | nodes::Route::Policies),
            Route::Kinds(_) | Route::Letters(_) | Route::Orphans(_) | Route::Weights(_) | Route::Tokens(_) => true,
            Route::Policies(route) => !matches!(route, policies::Route::Explain),
            // What the hub is like now, durable or not.
            Route::Health(_) | Route::Metrics | Route::Notifications(_) | Route::Leases(_) | Route::Unserved => false,
        }
    }

    /// Whether a request for it may do something that the audit log has an event for.
    pub const fn leaves_events(&self, method: &Method) -> bool {
        let is_read = matches!(method, Method::Get | Method::Head) && self.shows_state();
        match self {
            Route::Health(_) | Route::Metrics | Route::Notifications(_) | Route::Unserved => false,
            Route::Nodes(nodes::Route::Registry | nodes::Route::Policies) => false,
            Route::Policies(policies::Route::Explain) => false,
            _ => !is_read,
        }
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        match self {
            Route::Health(route) => route.methods(),
            Route::Metrics => "GET, HEAD",
            Route::Nodes(route) => route.methods(),
            Route::Policies(route) => route.methods(),
            Route::Notifications(route) => route.methods(),
            Route::Tokens(route) => route.methods(),
            Route::Jobs(route) => route.methods(),
            Route::Leases(route) => route.methods(),
            Route::Results(route) => route.methods(),
            Route::Kinds(route) => route.methods(),
            Route::Letters(route) => route.methods(),
            Route::Orphans(route) => route.methods(),
            Route::Weights(route) => route.methods(),
            Route::Unserved => "POST",
        }
    }
}

/// Looks up a path on a plane.
pub fn find(plane: Plane, path: &str) -> Lookup<'_> {
    match belongs(path) {
        None => Lookup::Unknown,
        Some((None, route)) => Lookup::Found(route),
        Some((Some(owner), route)) if owner == plane => Lookup::Found(route),
        Some(_) => Lookup::OtherPlane,
    }
}

/// The plane that owns a path (`None` if both serve it) and its route.
fn belongs(path: &str) -> Option<(Option<Plane>, Route<'_>)> {
    let of_both = || {
        let metrics = || metrics::PATHS.contains(&path).then_some(Route::Metrics);
        Some((None, health::Route::find(path).map(Route::Health).or_else(metrics)?))
    };
    let of_control = || {
        let notifications = || notifications::Route::find(path).map(Route::Notifications);
        let tokens = || tokens::Route::find(path).map(Route::Tokens);
        let policies = || policies::Route::find(path).map(Route::Policies);
        let route = nodes::Route::find(path).map(Route::Nodes).or_else(policies).or_else(notifications);
        Some((Some(Plane::Control), route.or_else(tokens)?))
    };
    let of_data = || {
        let jobs = jobs::Route::find(path).map(Route::Jobs);
        let leases = || leases::Route::find(path).map(Route::Leases);
        let results = || results::Route::find(path).map(Route::Results);
        let kinds = || kinds::Route::find(path).map(Route::Kinds);
        let letters = || letters::Route::find(path).map(Route::Letters);
        let orphans = || orphans::Route::find(path).map(Route::Orphans);
        let weights = || weights::Route::find(path).map(Route::Weights);
        let route = jobs.or_else(leases).or_else(results).or_else(kinds).or_else(letters).or_else(orphans);
        Some((Some(Plane::Data), route.or_else(weights)?))
    };
    let unserved = || {
        let owner = RESERVED.iter().find(|(_, pattern)| path::matches(pattern, path))?.0;
        Some((Some(owner), Route::Unserved))
    };
    of_data().or_else(of_control).or_else(of_both).or_else(unserved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheratan_core::ActOn;

    #[test]
    fn each_path_leads_to_its_plane_and_is_refused_on_the_other() {
        let table = [
            (Plane::Control, "/mesh/heartbeat", Route::Nodes(nodes::Route::Heartbeat)),
            (Plane::Control, "/api/hosts/heartbeat", Route::Nodes(nodes::Route::Heartbeat)),
            (Plane::Control, "/registry", Route::Nodes(nodes::Route::Registry)),
            (Plane::Control, "/api/registry", Route::Nodes(nodes::Route::Registry)),
            (Plane::Control, "/api/events", Route::Notifications(notifications::Route::Events)),
            (Plane::Control, "/api/nodes/x/drain", Route::Nodes(nodes::Route::Drain("x"))),
            (Plane::Control, "/api/nodes/x", Route::Nodes(nodes::Route::One("x"))),
            (Plane::Control, "/api/nodes/x/accept", Route::Nodes(nodes::Route::Accept("x"))),
            (Plane::Control, "/api/nodes/x/quarantine", Route::Nodes(nodes::Route::Quarantine("x"))),
            (Plane::Control, "/api/nodes/x/release", Route::Nodes(nodes::Route::Release("x"))),
            (Plane::Control, "/api/admin/policies", Route::Nodes(nodes::Route::Policies)),
            (Plane::Control, "/api/admin/policies/clear", Route::Nodes(nodes::Route::ClearPolicy)),
            (Plane::Control, "/api/tokens", Route::Tokens(tokens::Route::Show)),
            (Plane::Control, "/api/tokens/rotate", Route::Tokens(tokens::Route::Rotate)),
            (Plane::Control, "/api/tokens/finalize", Route::Tokens(tokens::Route::Finalize)),
            (Plane::Control, "/api/tokens/abort", Route::Tokens(tokens::Route::Abort)),
            (Plane::Control, "/api/tokens/scoped", Route::Unserved),
            (Plane::Control, "/api/policies", Route::Policies(policies::Route::List)),
            (Plane::Control, "/api/policies/2", Route::Policies(policies::Route::One("2"))),
            (Plane::Control, "/api/policies/2/activate", Route::Policies(policies::Route::Activate("2"))),
            (Plane::Control, "/api/policies/explain", Route::Policies(policies::Route::Explain)),
            (Plane::Control, "/api/policies/2/shadow", Route::Unserved),
            (Plane::Control, "/api/nodes/x/rekey", Route::Nodes(nodes::Route::Rekey("x"))),
            (Plane::Control, "/", Route::Unserved),
            (Plane::Data, "/mesh/submit_request", Route::Jobs(jobs::Route::SubmitOne)),
            (Plane::Data, "/mesh/pull_requests", Route::Leases(leases::Route::Pull(None))),
            (Plane::Data, "/mesh/pull_requests/NODE_1", Route::Leases(leases::Route::Pull(Some("NODE_1")))),
            (Plane::Data, "/mesh/sync_result", Route::Results(results::Route::SubmitOne)),
            (Plane::Data, "/mesh/jobs/job_1", Route::Jobs(jobs::Route::One("job_1"))),
            (Plane::Data, "/mesh/dlq", Route::Letters(letters::Route::List)),
            (Plane::Data, "/mesh/dlq/requeue", Route::Letters(letters::Route::Many(ActOn::Requeue))),
            (Plane::Data, "/mesh/dlq/job_1", Route::Letters(letters::Route::One("job_1"))),
            (Plane::Data, "/mesh/dlq/job_1/requeue", Route::Letters(letters::Route::Requeue("job_1"))),
            (Plane::Data, "/mesh/dlq/acts", Route::Letters(letters::Route::Acts)),
            (Plane::Data, "/mesh/dlq/acts/1", Route::Letters(letters::Route::Act("1"))),
            (Plane::Data, "/mesh/dlq/acts/1/cancel", Route::Letters(letters::Route::CancelAct("1"))),
            (Plane::Data, "/mesh/dlq/job_1/anything", Route::Unserved),
            (Plane::Data, "/mesh/weights", Route::Weights(weights::Route)),
            (Plane::Data, "/mesh/kinds", Route::Kinds(kinds::Route::List)),
            (Plane::Data, "/mesh/kinds/k", Route::Kinds(kinds::Route::One("k"))),
            (Plane::Data, "/mesh/orphans/1/adopt", Route::Orphans(orphans::Route::Adopt("1"))),
            (Plane::Data, "/mesh/jobs/job_1/cancel", Route::Jobs(jobs::Route::Cancel("job_1"))),
            (Plane::Data, "/mesh/jobs/job_1/explain", Route::Jobs(jobs::Route::Explain("job_1"))),
            (Plane::Data, "/mesh/results/submit", Route::Results(results::Route::SubmitOne)),
            (Plane::Data, "/mesh/results/NODE_1", Route::Results(results::Route::Fetch("NODE_1"))),
            (Plane::Data, "/mesh/results", Route::Unserved),
            (Plane::Data, "/admin/anything/at/all", Route::Unserved),
            (Plane::Data, "/admin", Route::Unserved),
        ];
        for (plane, path, route) in table {
            assert_eq!(find(plane, path), Lookup::Found(route), "{path}");
            assert_eq!(find(plane.other(), path), Lookup::OtherPlane, "{path}");
        }
    }

    #[test]
    fn some_paths_belong_to_both_planes_and_some_to_neither() {
        for plane in [Plane::Control, Plane::Data] {
            assert_eq!(find(plane, "/health"), Lookup::Found(Route::Health(health::Route::Health)));
            for path in [
                "/mesh",
                "/mesh/pull_requests/",
                "/mesh/pull_requests/a/b",
                "/api",
                "/healthz",
                "/api/nodesx",
                "/administrator",
            ] {
                assert_eq!(find(plane, path), Lookup::Unknown, "{path}");
            }
        }
    }
}
