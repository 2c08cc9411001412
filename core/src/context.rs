//! What the rooms of the state machine share while one command or timer is handled.

use crate::effect::{Audit, Effect, Stage};
use crate::ids::HubKey;
use crate::limits::Limits;
use crate::name::Name;
use crate::time::Timestamp;
use crate::timers::Timers;

/// The instant, the settings, and where timers and effects go.
pub(crate) struct Context<'a> {
    pub now: Timestamp,
    pub key: &'a HubKey,
    pub limits: &'a Limits,
    pub timers: &'a mut Timers,
    pub effects: &'a mut Vec<Effect>,
}

impl Context<'_> {
    pub fn audit(&mut self, event: Audit) {
        self.effects.push(Effect::Audit(self.now, event));
    }

    pub fn stage(&mut self, kind: &Name, stage: Stage) {
        self.effects.push(Effect::Stage(self.now, kind.clone(), stage));
    }
}
