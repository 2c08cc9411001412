//! Nodes: they say what they are with heartbeats, and the registry shows them.

mod heartbeat;
mod quiet_nodes;
mod registry;

pub use quiet_nodes::QuietNodes;
pub use registry::registry_of;

use super::problem::Problem;
use super::{Answer, Service};
use crate::http::Request;
use sheratan_core::time::Timestamp;

/// What a path of this resource names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// A node says what it is.
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

    /// The word for it in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::Heartbeat => "heartbeat",
            Route::Registry => "registry",
        }
    }

    /// The methods that it takes, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        match self {
            Route::Heartbeat => "POST",
            Route::Registry => "GET, HEAD",
        }
    }
}

impl Service {
    pub(super) fn handle_nodes(&mut self, now: Timestamp, request: &Request, route: Route) -> Result<Answer, Problem> {
        match route {
            Route::Heartbeat => self.heartbeat(now, request).map(Answer::Now),
            Route::Registry => Ok(Answer::Reply(self.registry())),
        }
    }
}
