//! Counts of the shell that the metrics show.

use crate::service::Service;
use crate::trace;

/// Counts as the shell last reported them.
#[derive(Default, Debug)]
pub struct ShellCounts {
    /// Connections that are open.
    pub connections: u64,
    /// Connections that were refused because of their address.
    pub connections_refused: u64,
    /// Bytes that connections and held replies hold.
    pub buffered_bytes: u64,
    /// Changes of alerts that could not be delivered.
    pub alerts_lost: u64,
    /// Counts of the trace.
    pub traced: trace::Counts,
}

impl Service {
    /// Sets how many connections are open.
    pub fn set_connections(&mut self, connections: u64) {
        self.shell_counts.connections = connections;
    }

    /// Counts a connection that was refused because its address has too many.
    pub fn count_refused_connection(&mut self) {
        self.shell_counts.connections_refused += 1;
    }

    /// Sets how many bytes connections and held replies hold.
    pub fn set_buffered_bytes(&mut self, bytes: u64) {
        self.shell_counts.buffered_bytes = bytes;
    }

    /// Sets how many changes of alerts could not be delivered.
    pub fn set_alerts_lost(&mut self, alerts_lost: u64) {
        self.shell_counts.alerts_lost = alerts_lost;
    }

    /// Sets the counts of the trace.
    pub fn set_traced(&mut self, traced: trace::Counts) {
        self.shell_counts.traced = traced;
    }
}
