//! What the shell counts and the metrics show.

use crate::service::Service;
use crate::trace;

/// Counts of the shell, as of its last word.
#[derive(Default, Debug)]
pub struct ShellCounts {
    /// Connections that are open.
    pub connections: u64,
    /// Changes of alerts that could not be delivered.
    pub alerts_lost: u64,
    /// What became of what was traced.
    pub traced: trace::Counts,
}

impl Service {
    /// How many connections the shell holds.
    pub fn set_connections(&mut self, connections: u64) {
        self.shell_counts.connections = connections;
    }

    /// How many changes of alerts the shell could not deliver.
    pub fn set_alerts_lost(&mut self, alerts_lost: u64) {
        self.shell_counts.alerts_lost = alerts_lost;
    }

    /// What became of what was traced, as far as the shell knows.
    pub fn set_traced(&mut self, traced: trace::Counts) {
        self.shell_counts.traced = traced;
    }
}
