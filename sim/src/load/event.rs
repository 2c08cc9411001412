//! Events: what can happen in a load scenario.

use crate::agenda;
pub use crate::agenda::Micros;

/// The events to come.
pub type Agenda = agenda::Agenda<Event>;

/// Index of a line: one client's or node's slot for a request under way; it has one at most.
pub type LineId = u32;

/// Something that happens at an instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The request of a line reaches the hub, on the connection with this id.
    Arrive(LineId, u64),
    /// The hub's thread runs the next round.
    Turn,
    /// The journal's batch is durable.
    Commit,
    /// A timer of the service fires.
    HubTimer,
    /// The reply of a connection reaches its line.
    Reply(LineId, u64),
    /// The request of a line on that connection times out.
    GiveUp(LineId, u64),
    /// The next jobs are submitted.
    Offer,
    /// A parcel is sent again.
    Resend(u32),
    /// A node sends its heartbeat.
    Beat(u32),
    /// A node pulls.
    Pull(u32),
    /// The work in a node's slot ends, if the node is still in this incarnation.
    Done(u32, u32, u16),
    /// A node that died restarts.
    Restart(u32),
    /// The operator does what is next.
    Operate,
    /// An outage begins.
    OutageBegins,
    /// The outage ends.
    OutageEnds,
    /// A sample for the timeline is taken.
    Sample,
}
