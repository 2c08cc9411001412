//! Nodes: their heartbeats describe them, and the registry shows them.

mod heartbeat;
mod quiet_nodes;
mod registry;

pub use quiet_nodes::QuietNodes;
pub use registry::registry_of;
use sheratan_core::Timestamp;

use super::problem::Problem;
use super::{Answer, Caller, Service};
use crate::http::Request;

/// The paths of this resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// A heartbeat of a node.
    Heartbeat,
    /// All nodes.
    Registry,
}

impl Route {
    pub fn find(path: &str) -> Option<Self> {
        match path {
            "/mesh/heartbeat" | "/api/hosts/heartbeat" => Some(Route::Heartbeat),
            "/api/registry" | "/registry" => Some(Route::Registry),
            _ => None,
        }
    }

    /// Its label in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::Heartbeat => "heartbeat",
            Route::Registry => "registry",
        }
    }

    /// Whether it only shows what is there.
    pub const fn is_read(&self) -> bool {
        matches!(self, Route::Registry)
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        match self {
            Route::Heartbeat => "POST",
            Route::Registry => "GET, HEAD",
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
        }
    }
}
