//! Rotations of the shared token: configured, begun, moved, finished and taken back, at any time.

use super::Traffic;
use sheratan_core::{Command, Hub, Millis, Timestamp, TokenConfig, TokenDigest, TokenOrder, TokenRotation, Utc};
use sheratan_history::Step;

/// The tokens of a run.
pub const TOKENS: u8 = 5;

pub fn token(number: u8) -> TokenDigest {
    TokenDigest::new([number; 32])
}

impl Traffic {
    /// Draws an order about the token, if any.
    pub(super) fn token_order(&mut self, hub: &Hub) -> Option<Step> {
        if !self.rotates_token || !self.token_draw.chance(40) {
            return None;
        }
        let order = match self.token_draw.below(10) {
            // A start with the settings of the last one.
            0..=1 => TokenOrder::Configure(self.configured.clone()),
            2..=3 => {
                let rotation = self.token_draw.chance(500).then(|| self.rotation(hub));
                let active = self.token_draw.chance(900).then(|| self.token());
                self.configured = TokenConfig { active, rotation };
                TokenOrder::Configure(self.configured.clone())
            }
            4..=6 => TokenOrder::Begin(self.rotation(hub)),
            7 => TokenOrder::Move(self.rotation(hub).until),
            8 => TokenOrder::Finish,
            _ => TokenOrder::Abort,
        };
        Some(Step::Apply(self.clock, Command::Tokens(Box::new(order))))
    }

    fn token(&mut self) -> TokenDigest {
        token(self.token_draw.below(TOKENS.into()) as u8)
    }

    /// A rotation that ends now, before or soon, or never.
    fn rotation(&mut self, hub: &Hub) -> TokenRotation {
        let now = hub.calendar().utc(self.clock.max(hub.now()).min(Timestamp::NEVER - Millis::new(1)));
        let until = match self.token_draw.below(8) {
            0 => Utc::NEVER,
            1 => now - Millis::new(self.token_draw.magnitude(100_000)),
            2 => now,
            _ => now + Millis::new(self.token_draw.magnitude(100_000)),
        };
        TokenRotation { next: self.token(), until }
    }
}
