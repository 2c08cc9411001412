//! Nodes: their heartbeats describe them, and the registry shows them.

mod care;
mod heartbeat;
mod operate;
mod quiet_nodes;
mod registry;
mod signing;
mod standing;

pub(super) use operate::fields_of;
pub use quiet_nodes::QuietNodes;
pub use registry::registry_of;
use sheratan_core::Timestamp;
pub use signing::key_prefix;

use super::problem::Problem;
use super::{Answer, Caller, Service, path};
use crate::http::{Method, Request};

/// The paths of this resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// A heartbeat of a node.
    Heartbeat,
    /// All nodes.
    Registry,
    /// One node, as it is encoded in the path.
    One(&'a str),
    Drain(&'a str),
    Resume(&'a str),
    /// What a node attests becomes its baseline.
    Accept(&'a str),
    Quarantine(&'a str),
    Release(&'a str),
    /// A node's key is pinned, or forgotten.
    Rekey(&'a str),
    /// The nodes that are not normal.
    Policies,
    /// One of them is normal again.
    ClearPolicy,
}

impl<'a> Route<'a> {
    pub fn find(path: &'a str) -> Option<Self> {
        match path {
            "/mesh/heartbeat" | "/api/hosts/heartbeat" => Some(Route::Heartbeat),
            "/api/registry" | "/registry" => Some(Route::Registry),
            "/api/admin/policies" => Some(Route::Policies),
            "/api/admin/policies/clear" => Some(Route::ClearPolicy),
            _ => {
                let act = |act| path::parameter(path.strip_suffix(act)?, "/api/nodes/");
                let found = act("/drain").map(Route::Drain).or_else(|| act("/resume").map(Route::Resume));
                let found = found.or_else(|| act("/accept").map(Route::Accept));
                let found = found.or_else(|| act("/quarantine").map(Route::Quarantine));
                let found = found.or_else(|| act("/release").map(Route::Release));
                let found = found.or_else(|| act("/rekey").map(Route::Rekey));
                found.or_else(|| path::parameter(path, "/api/nodes/").map(Route::One))
            }
        }
    }

    /// Its label in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::Heartbeat => "heartbeat",
            Route::Registry => "registry",
            Route::One(_) => "node",
            Route::Drain(_) => "node_drain",
            Route::Resume(_) => "node_resume",
            Route::Accept(_) => "node_accept",
            Route::Quarantine(_) => "node_quarantine",
            Route::Release(_) => "node_release",
            Route::Rekey(_) => "node_rekey",
            Route::Policies => "node_policies",
            Route::ClearPolicy => "node_policy_clear",
        }
    }

    /// Whether it only shows what is there.
    pub const fn is_read(&self) -> bool {
        matches!(self, Route::Registry | Route::Policies)
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        match self {
            Route::Heartbeat | Route::Drain(_) | Route::Resume(_) => "POST",
            Route::Accept(_) | Route::Quarantine(_) | Route::Release(_) | Route::Rekey(_) | Route::ClearPolicy => {
                "POST"
            }
            Route::Registry | Route::Policies => "GET, HEAD",
            Route::One(_) => "GET, HEAD, DELETE",
        }
    }
}

impl Service {
    pub(super) fn handle_nodes(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        route: Route,
    ) -> Result<Answer, Problem> {
        match route {
            Route::Heartbeat => self.heartbeat(now, caller, request),
            Route::Registry => self.registry(request).map(Answer::Reply),
            Route::One(node) if *request.method() == Method::Delete => self.remove_node(now, caller, node),
            Route::One(node) => self.read_node(node),
            Route::Drain(node) => self.drain_node(now, caller, request, node),
            Route::Resume(node) => self.resume_node(now, caller, node),
            Route::Accept(node) => self.accept_node(now, caller, request, node),
            Route::Quarantine(node) => self.quarantine_node(now, caller, request, node),
            Route::Release(node) => self.release_node(now, caller, node),
            Route::Rekey(node) => self.rekey_node(now, caller, request, node),
            Route::Policies => Ok(self.list_policies()),
            Route::ClearPolicy => self.clear_policy(now, caller, request),
        }
    }
}
