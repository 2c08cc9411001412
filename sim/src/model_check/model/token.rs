//! The shared token in the model: which one counts, which one comes, and a list of all that were replaced.

use sheratan_core::{TokenConfig, TokenDigest, TokenOrder, TokenRefusal, TokenRotation, TokenVerdict};

#[derive(Default, Debug)]
pub(super) struct ModelTokens {
    token: Option<TokenDigest>,
    coming: Option<TokenRotation>,
    replaced: Vec<TokenDigest>,
    /// What the configuration said last.
    said: TokenConfig,
}

impl ModelTokens {
    /// What a token is, once all that is due has happened.
    pub fn verdict(&self, of: TokenDigest) -> TokenVerdict {
        let is_coming = self.coming.is_some_and(|rotation| rotation.next == of);
        match self.token {
            Some(token) if token == of && self.coming.is_some() => TokenVerdict::Old,
            Some(token) if token == of => TokenVerdict::Active,
            _ if is_coming => TokenVerdict::Next,
            _ if self.replaced.contains(&of) => TokenVerdict::Retired,
            _ => TokenVerdict::Unknown,
        }
    }

    /// The rotation that is under way.
    pub fn coming(&self) -> Option<TokenRotation> {
        self.coming
    }

    /// The next token takes over.
    pub fn end(&mut self) {
        if let Some(rotation) = self.coming.take() {
            self.replaced.extend(self.token);
            self.token = Some(rotation.next);
        }
    }

    pub fn order(&mut self, order: &TokenOrder) -> Result<(), TokenRefusal> {
        let under_way = self.coming.ok_or(TokenRefusal::NoWindow);
        match order {
            TokenOrder::Configure(config) if *config != self.said => self.configure(config),
            TokenOrder::Configure(_) => {}
            TokenOrder::Begin(rotation) => self.begin(*rotation)?,
            TokenOrder::Move(until) => self.coming = Some(TokenRotation { until: *until, ..under_way? }),
            TokenOrder::Finish => {
                under_way?;
                self.end();
            }
            TokenOrder::Abort => {
                under_way?;
                self.coming = None;
            }
        }
        Ok(())
    }

    fn begin(&mut self, rotation: TokenRotation) -> Result<(), TokenRefusal> {
        let token = self.token.ok_or(TokenRefusal::NoToken)?;
        match self.coming {
            _ if token == rotation.next => Err(TokenRefusal::SameToken),
            _ if self.replaced.contains(&rotation.next) => Err(TokenRefusal::Retired),
            Some(coming) if coming != rotation => Err(TokenRefusal::WindowOpen(coming)),
            _ => {
                self.coming = Some(rotation);
                Ok(())
            }
        }
    }

    fn configure(&mut self, config: &TokenConfig) {
        let said_before = std::mem::replace(&mut self.said, config.clone());
        if let Some(named) = config.active.filter(|named| !self.replaced.contains(named) && self.token != Some(*named))
        {
            match self.coming {
                Some(coming) if coming.next == named => self.end(),
                _ => (self.token, self.coming) = (Some(named), None),
            }
        }
        match (config.rotation, self.coming) {
            (Some(named), _) if self.token.is_none() => self.token = Some(named.next),
            (Some(named), Some(coming)) if coming.next == named.next => self.coming = Some(named),
            (Some(named), _) if self.token != Some(named.next) && !self.replaced.contains(&named.next) => {
                self.coming = Some(named);
            }
            (None, Some(coming)) if said_before.rotation.is_some_and(|said| said.next == coming.next) => {
                self.coming = None;
            }
            _ => {}
        }
    }
}
