//! Events: what can happen in a load scenario.

use crate::agenda;
pub use crate::agenda::Micros;

/// What happens next.
pub type Agenda = agenda::Agenda<Event>;

/// One client's or node's place for a request under way; at most one is.
pub type LineNo = u32;

/// Something that happens at an instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The request of a line reaches the hub, on the connection of that number.
    Arrive(LineNo, u64),
    /// The hub's thread has time for the next request.
    Turn,
    /// The journal holds what it was given.
    Commit,
    /// Something falls due in the service.
    HubTimer,
    /// The reply of a connection reaches its line.
    Reply(LineNo, u64),
    /// The client at a line waits no longer for the reply of that connection.
    GiveUp(LineNo, u64),
    /// The next jobs are there to be handed in.
    Offer,
    /// A parcel that was refused is tried again.
    Resend(u32),
    /// A node sends its heartbeat.
    Beat(u32),
    /// A node asks for jobs.
    Pull(u32),
    /// A node ends the job in one of its slots, in the life of that number.
    Done(u32, u32, u16),
    /// A node that died starts again.
    Restart(u32),
    /// The network is gone.
    OutageBegins,
    /// The network is back.
    OutageEnds,
    /// The state is noted for the timeline.
    Sample,
}
