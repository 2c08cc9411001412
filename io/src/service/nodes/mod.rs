//! Nodes: their heartbeats describe them, and the registry shows them.

mod heartbeat;
mod operate;
mod quiet_nodes;
mod registry;

pub use quiet_nodes::QuietNodes;
pub use registry::registry_of;
use sheratan_core::Timestamp;

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
}

impl<'a> Route<'a> {
    pub fn find(path: &'a str) -> Option<Self> {
        match path {
            "/mesh/heartbeat" | "/api/hosts/heartbeat" => Some(Route::Heartbeat),
            "/api/registry" | "/registry" => Some(Route::Registry),
            _ => {
                let act = |act| path::parameter(path.strip_suffix(act)?, "/api/nodes/");
                let drain = act("/drain").map(Route::Drain);
                let one = || path::parameter(path, "/api/nodes/").map(Route::One);
                drain.or_else(|| act("/resume").map(Route::Resume)).or_else(one)
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
        }
    }

    /// Whether it only shows what is there.
    pub const fn is_read(&self) -> bool {
        matches!(self, Route::Registry)
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        match self {
            Route::Heartbeat | Route::Drain(_) | Route::Resume(_) => "POST",
            Route::Registry => "GET, HEAD",
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
            Route::Heartbeat => self.heartbeat(now, caller, request).map(Answer::Now),
            Route::Registry => self.registry(request).map(Answer::Reply),
            Route::One(node) if *request.method() == Method::Delete => self.remove_node(now, caller, node),
            Route::One(node) => self.read_node(node),
            Route::Drain(node) => self.drain_node(now, caller, request, node),
            Route::Resume(node) => self.resume_node(now, caller, node),
        }
    }
}
