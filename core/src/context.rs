//! What the modules of the state machine share while one command or timer is handled.

use crate::ids::HubKey;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::queue::event::Event;
use crate::rules::RulesVersion;
use crate::time::Timestamp;
use crate::timers::Timers;

/// The instant, the rules and the settings, and the timers, ledger and events to change.
pub(crate) struct Context<'a> {
    pub now: Timestamp,
    pub key: &'a HubKey,
    pub rules: RulesVersion,
    pub limits: &'a Limits,
    pub timers: &'a mut Timers,
    pub ledger: &'a mut Ledger,
    /// What happened to jobs; the hub handles these events when the module's function returns.
    pub events: &'a mut Vec<Event>,
}
