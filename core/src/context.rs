//! What the rooms of the state machine share while one command or timer is handled.

use crate::ids::HubKey;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::queue::event::Event;
use crate::time::Timestamp;
use crate::timers::Timers;

/// The instant, the settings, and where timers, bytes and events go.
pub(crate) struct Context<'a> {
    pub now: Timestamp,
    pub key: &'a HubKey,
    pub limits: &'a Limits,
    pub timers: &'a mut Timers,
    pub ledger: &'a mut Ledger,
    /// What happened to jobs; the hub follows it up when the room is done.
    pub events: &'a mut Vec<Event>,
}
