//! Tokens: which token all callers share, and its rotation. The hub holds digests, never a token.
//!
//! A rotation replaces the active token by the next one. In its window both are accepted, until and including an instant of the
//! calendar; after it the next one becomes the active one, once, and the one before is retired. A retired token is never
//! accepted again: not by a clock that is set back, and not by a configuration that still names it.
//!
//! What a configuration says counts when it says something else than it did the last time: a hub that starts again with
//! a rotation's old token in its environment keeps what the rotation led to.

use crate::encoding::{DecodeError, Encoded, Reader, members};
use crate::envelope::Principal;
use crate::limits::{RETIRED_TOKENS_KEPT, RETIRED_TOKENS_MAX, RETIRED_TOKENS_MS};
use crate::rules;
use crate::time::{Calendar, Millis, Timestamp, Utc};
use std::fmt;

/// The digest of a token, keyed by a secret of the installation: a token that can be guessed is not found out by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenDigest([u8; 32]);

/// What is to happen to the shared token.
#[derive(Clone, PartialEq, Debug)]
pub enum TokenOrder {
    /// What the configuration says at a start or when it is read again.
    Configure(TokenConfig),
    /// An operator begins a rotation.
    Begin(TokenRotation),
    /// An operator moves the end of the window.
    Move(Utc),
    /// An operator ends the window now, and the next token becomes the active one.
    Finish,
    /// An operator ends the rotation, and the active token stays.
    Abort,
}

/// The tokens of a configuration.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TokenConfig {
    pub active: Option<TokenDigest>,
    pub rotation: Option<TokenRotation>,
}

/// The token that becomes the active one, and until when the one before is accepted too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenRotation {
    pub next: TokenDigest,
    pub until: Utc,
}

/// What a presented token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenVerdict {
    /// The active one, and there is no other.
    Active,
    /// The one that a rotation replaces, within its window.
    Old,
    /// The next one of a rotation.
    Next,
    /// One that a rotation has replaced.
    Retired,
    Unknown,
}

/// A window, as operators see it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TokenWindow {
    pub rotation: TokenRotation,
    pub began_at: Timestamp,
    pub by: Principal,
}

/// A token that a rotation has replaced.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RetiredToken {
    pub digest: TokenDigest,
    pub at: Timestamp,
}

/// The shared token, its rotation, and the tokens that it had.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tokens {
    active: Option<TokenDigest>,
    window: Option<TokenWindow>,
    /// Oldest first.
    retired: Vec<RetiredToken>,
    /// What the configuration said last.
    configured: TokenConfig,
}

/// Why an order is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenRefusal {
    /// The hub requires no token.
    NoToken,
    /// The next token is the active one.
    SameToken,
    /// The next token was replaced by a rotation.
    Retired,
    /// Another rotation is under way.
    WindowOpen(TokenRotation),
    /// No rotation is under way.
    NoWindow,
}

/// What an order or the end of a window did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenChange {
    /// The configuration names another token; the one before is not accepted any more.
    Replaced {
        active: TokenDigest,
    },
    Begun(TokenRotation),
    Moved(TokenRotation),
    Aborted(TokenRotation),
    /// The next token is the active one.
    Finalized {
        active: TokenDigest,
        retired: TokenDigest,
    },
}

impl TokenDigest {
    pub const fn new(bytes: [u8; 32]) -> Self {
        TokenDigest(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both are equal, in a time that does not depend on where they differ.
    fn is(&self, other: &TokenDigest) -> bool {
        self.0.iter().zip(&other.0).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
    }
}

/// The start of the digest: enough to tell tokens apart, too little to find one.
impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest({self})")
    }
}

impl Tokens {
    /// What a token is at an instant. O(1) for one that is accepted, else O(retired).
    pub fn judge(&self, now: Timestamp, calendar: Calendar, presented: &TokenDigest) -> TokenVerdict {
        let is_active = self.active.is_some_and(|active| active.is(presented));
        let window = self.window.as_ref();
        let is_next = window.is_some_and(|window| window.rotation.next.is(presented));
        let is_over = self.ends_at(calendar).is_some_and(|at| at <= now);
        match (is_active, is_next) {
            (true, _) if window.is_none() => TokenVerdict::Active,
            (true, _) if is_over => TokenVerdict::Retired,
            (true, _) => TokenVerdict::Old,
            (false, true) => TokenVerdict::Next,
            _ if self.is_retired(presented) => TokenVerdict::Retired,
            _ => TokenVerdict::Unknown,
        }
    }

    /// What the configuration said last.
    pub fn configured(&self) -> &TokenConfig {
        &self.configured
    }

    pub fn active(&self) -> Option<&TokenDigest> {
        self.active.as_ref()
    }

    pub fn window(&self) -> Option<&TokenWindow> {
        self.window.as_ref()
    }

    /// The tokens that rotations have replaced, oldest first.
    pub fn retired(&self) -> &[RetiredToken] {
        &self.retired
    }

    /// The first instant at which the window is over.
    pub fn ends_at(&self, calendar: Calendar) -> Option<Timestamp> {
        let until = self.window.as_ref()?.rotation.until;
        Some(rules::rotation_ends(calendar, until))
    }

    /// Carries out an order. Returns what changed, in order; nothing for one that was carried out before.
    pub(crate) fn order(
        &mut self,
        now: Timestamp,
        by: Principal,
        order: TokenOrder,
    ) -> Result<Vec<TokenChange>, TokenRefusal> {
        match order {
            TokenOrder::Configure(config) => Ok(self.configure(now, by, config)),
            TokenOrder::Begin(rotation) => self.begin(now, by, rotation).map(Vec::from_iter),
            TokenOrder::Move(until) => {
                let window = self.window.as_mut().ok_or(TokenRefusal::NoWindow)?;
                let is_same = window.rotation.until == until;
                window.rotation.until = until;
                Ok((!is_same).then_some(TokenChange::Moved(window.rotation)).into_iter().collect())
            }
            TokenOrder::Finish => self.finish(now).map(|change| vec![change]).ok_or(TokenRefusal::NoWindow),
            TokenOrder::Abort => {
                let window = self.window.take().ok_or(TokenRefusal::NoWindow)?;
                Ok(vec![TokenChange::Aborted(window.rotation)])
            }
        }
    }

    /// Ends the window: the next token becomes the active one. `None` if there is no window.
    pub(crate) fn finish(&mut self, now: Timestamp) -> Option<TokenChange> {
        let window = self.window.take()?;
        let retired = self.active.replace(window.rotation.next).expect("a rotation replaces a token");
        self.retire(now, retired);
        Some(TokenChange::Finalized { active: window.rotation.next, retired })
    }

    fn begin(
        &mut self,
        now: Timestamp,
        by: Principal,
        rotation: TokenRotation,
    ) -> Result<Option<TokenChange>, TokenRefusal> {
        let active = self.active.as_ref().ok_or(TokenRefusal::NoToken)?;
        if active.is(&rotation.next) {
            return Err(TokenRefusal::SameToken);
        }
        if self.is_retired(&rotation.next) {
            return Err(TokenRefusal::Retired);
        }
        match &self.window {
            Some(window) if window.rotation == rotation => Ok(None),
            Some(window) => Err(TokenRefusal::WindowOpen(window.rotation)),
            None => {
                self.window = Some(TokenWindow { rotation, began_at: now, by });
                Ok(Some(TokenChange::Begun(rotation)))
            }
        }
    }

    fn configure(&mut self, now: Timestamp, by: Principal, config: TokenConfig) -> Vec<TokenChange> {
        if rules::is_said_before(config == self.configured) {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.configured, config.clone());
        let mut changes = Vec::new();
        if let Some(active) = config.active.filter(|active| !self.is_retired(active)) {
            changes.extend(self.configure_active(now, active));
        }
        match config.rotation {
            Some(rotation) => changes.extend(self.configure_rotation(now, by, rotation)),
            // The configuration began it, and takes it back.
            None if before.rotation.map(|rotation| rotation.next) == self.window.map(|window| window.rotation.next) => {
                changes.extend(self.window.take().map(|window| TokenChange::Aborted(window.rotation)));
            }
            None => {}
        }
        changes
    }

    /// The configuration names this token as the active one.
    fn configure_active(&mut self, now: Timestamp, active: TokenDigest) -> Vec<TokenChange> {
        if self.active == Some(active) {
            return Vec::new();
        }
        if self.window.is_some_and(|window| window.rotation.next == active) {
            return self.finish(now).into_iter().collect();
        }
        let aborted = self.window.take().map(|window| TokenChange::Aborted(window.rotation));
        let replaced = self.active.replace(active).map(|_| TokenChange::Replaced { active });
        aborted.into_iter().chain(replaced).collect()
    }

    /// The configuration names this token as the next one.
    fn configure_rotation(&mut self, now: Timestamp, by: Principal, rotation: TokenRotation) -> Vec<TokenChange> {
        // A token that none replaces is the active one at once.
        if self.active.is_none() {
            self.active = Some(rotation.next);
            return Vec::new();
        }
        if let Some(window) = self.window.as_mut()
            && window.rotation.next == rotation.next
        {
            let is_same = window.rotation.until == rotation.until;
            window.rotation.until = rotation.until;
            return (!is_same).then_some(TokenChange::Moved(rotation)).into_iter().collect();
        }
        if self.active == Some(rotation.next) || self.is_retired(&rotation.next) {
            return Vec::new();
        }
        let aborted = self.window.take().map(|window| TokenChange::Aborted(window.rotation));
        let begun = self.begin(now, by, rotation).ok().flatten();
        aborted.into_iter().chain(begun).collect()
    }

    fn is_retired(&self, digest: &TokenDigest) -> bool {
        self.retired.iter().any(|retired| retired.digest.is(digest))
    }

    /// Keeps a token among those that are never accepted again. The oldest are forgotten beyond a number and an age, and beyond
    /// another number whatever their age.
    fn retire(&mut self, now: Timestamp, digest: TokenDigest) {
        if rules::remembers_replaced_token() {
            self.retired.push(RetiredToken { digest, at: now });
        }
        let len = self.retired.len();
        let is_kept = |(index, retired): (usize, &RetiredToken)| {
            index + RETIRED_TOKENS_MAX >= len
                && (index + RETIRED_TOKENS_KEPT >= len || now.since(retired.at) <= Millis::new(RETIRED_TOKENS_MS))
        };
        let first = self.retired.iter().enumerate().position(is_kept).unwrap_or(len);
        self.retired.drain(..first);
    }

    /// Whether it is what a hub may have; the error says how it contradicts itself.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let next = self.window.map(|window| window.rotation.next);
        if self.retired.len() > RETIRED_TOKENS_MAX || (next.is_some() && (self.active.is_none() || next == self.active))
        {
            return Err("the rotation of the token contradicts itself");
        }
        Ok(())
    }
}

impl Encoded for TokenDigest {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Encoded::decode(from).map(TokenDigest)
    }
}

impl Encoded for TokenOrder {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            TokenOrder::Configure(config) => {
                out.push(1);
                config.encode(out);
            }
            TokenOrder::Begin(rotation) => {
                out.push(2);
                rotation.encode(out);
            }
            TokenOrder::Move(until) => {
                out.push(3);
                until.encode(out);
            }
            TokenOrder::Finish => out.push(4),
            TokenOrder::Abort => out.push(5),
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match from.byte()? {
            1 => TokenOrder::Configure(Encoded::decode(from)?),
            2 => TokenOrder::Begin(Encoded::decode(from)?),
            3 => TokenOrder::Move(Encoded::decode(from)?),
            4 => TokenOrder::Finish,
            5 => TokenOrder::Abort,
            other => return Err(DecodeError::UnknownVariant("token order", other.into())),
        })
    }
}

members!(TokenConfig { 1 active, 2 rotation });
members!(TokenRotation { 1 next: required, 2 until: required });
members!(TokenWindow { 1 rotation: required, 2 began_at: required, 3 by });
members!(RetiredToken { 1 digest: required, 2 at: required });
members!(Tokens { 1 active, 2 window, 3 retired, 4 configured });

#[cfg(test)]
mod tests {
    use super::*;
    use TokenVerdict::{Active, Next, Old, Retired, Unknown};

    fn digest(byte: u8) -> TokenDigest {
        TokenDigest::new([byte; 32])
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn rotation(next: u8, until: u64) -> TokenRotation {
        TokenRotation { next: digest(next), until: Utc::from_millis(until) }
    }

    fn config(active: u8, next: Option<(u8, u64)>) -> TokenOrder {
        let rotation = next.map(|(next, until)| rotation(next, until));
        TokenOrder::Configure(TokenConfig { active: Some(digest(active)), rotation })
    }

    fn order(tokens: &mut Tokens, ms: u64, order: TokenOrder) -> Result<Vec<TokenChange>, TokenRefusal> {
        let changes = tokens.order(at(ms), Principal::SharedToken, order);
        tokens.check().unwrap();
        let mut bytes = Vec::new();
        tokens.encode(&mut bytes);
        assert_eq!(Tokens::decode(&mut Reader::new(&bytes)).as_ref(), Ok(&*tokens));
        changes
    }

    /// What tokens 1, 2, 3 are at an instant of a calendar that shows the hub's own time.
    fn verdicts(tokens: &Tokens, ms: u64) -> [TokenVerdict; 3] {
        [1, 2, 3].map(|byte| tokens.judge(at(ms), Calendar::UNSET, &digest(byte)))
    }

    #[test]
    fn both_tokens_are_accepted_until_and_including_the_instant() {
        let mut tokens = Tokens::default();
        assert_eq!(verdicts(&tokens, 0), [Unknown; 3]);
        assert_eq!(order(&mut tokens, 0, config(1, None)), Ok(vec![]));
        assert_eq!(verdicts(&tokens, 0), [Active, Unknown, Unknown]);
        let begun = order(&mut tokens, 1, TokenOrder::Begin(rotation(2, 100)));
        assert_eq!(begun, Ok(vec![TokenChange::Begun(rotation(2, 100))]));
        assert_eq!(verdicts(&tokens, 100), [Old, Next, Unknown]);
        assert_eq!(tokens.ends_at(Calendar::UNSET), Some(at(101)));
        assert_eq!(verdicts(&tokens, 101), [Retired, Next, Unknown], "also before the window is closed");
        assert_eq!(tokens.finish(at(101)), Some(TokenChange::Finalized { active: digest(2), retired: digest(1) }));
        assert_eq!(tokens.finish(at(101)), None, "once");
        for ms in [0, 100, 101] {
            assert_eq!(verdicts(&tokens, ms), [Retired, Active, Unknown], "also if the clock is set back");
        }
    }

    #[test]
    fn orders_in_the_wrong_state_are_refused_and_repeats_change_nothing() {
        let mut tokens = Tokens::default();
        let begin = |next, until| TokenOrder::Begin(rotation(next, until));
        assert_eq!(order(&mut tokens, 0, begin(2, 9)), Err(TokenRefusal::NoToken));
        order(&mut tokens, 0, config(1, None)).unwrap();
        for wrong in [TokenOrder::Move(Utc::ZERO), TokenOrder::Finish, TokenOrder::Abort] {
            assert_eq!(order(&mut tokens, 0, wrong), Err(TokenRefusal::NoWindow));
        }
        assert_eq!(order(&mut tokens, 0, begin(1, 9)), Err(TokenRefusal::SameToken));
        order(&mut tokens, 0, begin(2, 9)).unwrap();
        assert_eq!(order(&mut tokens, 1, begin(2, 9)), Ok(vec![]));
        assert_eq!(order(&mut tokens, 1, begin(3, 9)), Err(TokenRefusal::WindowOpen(rotation(2, 9))));
        assert_eq!(order(&mut tokens, 1, begin(2, 10)), Err(TokenRefusal::WindowOpen(rotation(2, 9))));
        assert_eq!(
            order(&mut tokens, 1, TokenOrder::Move(Utc::from_millis(20))),
            Ok(vec![TokenChange::Moved(rotation(2, 20))])
        );
        assert_eq!(order(&mut tokens, 1, TokenOrder::Move(Utc::from_millis(20))), Ok(vec![]));
        assert_eq!(order(&mut tokens, 1, TokenOrder::Abort), Ok(vec![TokenChange::Aborted(rotation(2, 20))]));
        assert_eq!(verdicts(&tokens, 50), [Active, Unknown, Unknown]);
        order(&mut tokens, 2, begin(2, 9)).unwrap();
        order(&mut tokens, 3, TokenOrder::Finish).unwrap();
        assert_eq!(order(&mut tokens, 4, begin(1, 99)), Err(TokenRefusal::Retired));
        assert_eq!(verdicts(&tokens, 0), [Retired, Active, Unknown]);
    }

    #[test]
    fn an_old_configuration_does_not_undo_what_happened_since() {
        let mut tokens = Tokens::default();
        order(&mut tokens, 0, config(1, None)).unwrap();
        order(&mut tokens, 1, TokenOrder::Begin(rotation(2, 10))).unwrap();
        assert_eq!(order(&mut tokens, 2, config(1, None)), Ok(vec![]), "a start within the window");
        assert_eq!(verdicts(&tokens, 2), [Old, Next, Unknown]);
        tokens.finish(at(11)).unwrap();
        assert_eq!(order(&mut tokens, 12, config(1, None)), Ok(vec![]), "a start after it");
        assert_eq!(order(&mut tokens, 13, config(1, Some((3, 99)))).unwrap().len(), 1, "the next token is new");
        assert_eq!(verdicts(&tokens, 13), [Retired, Old, Next]);
        assert_eq!(
            order(&mut tokens, 14, config(3, None)).unwrap().len(),
            1,
            "it becomes the only one before its time"
        );
        assert_eq!(verdicts(&tokens, 14), [Retired, Retired, Active]);
    }

    #[test]
    fn a_configuration_begins_moves_and_takes_back_a_rotation_of_its_own() {
        let mut tokens = Tokens::default();
        assert_eq!(order(&mut tokens, 0, config(1, Some((2, 10)))), Ok(vec![TokenChange::Begun(rotation(2, 10))]));
        assert_eq!(order(&mut tokens, 1, config(1, Some((2, 20)))), Ok(vec![TokenChange::Moved(rotation(2, 20))]));
        order(&mut tokens, 2, TokenOrder::Move(Utc::from_millis(30))).unwrap();
        assert_eq!(order(&mut tokens, 3, config(1, Some((2, 20)))), Ok(vec![]), "a start does not move it back");
        assert_eq!(tokens.window().map(|window| window.rotation), Some(rotation(2, 30)));
        assert_eq!(order(&mut tokens, 4, config(1, None)), Ok(vec![TokenChange::Aborted(rotation(2, 30))]));
        order(&mut tokens, 5, TokenOrder::Begin(rotation(3, 99))).unwrap();
        assert_eq!(
            order(&mut tokens, 6, config(2, None)),
            Ok(vec![TokenChange::Aborted(rotation(3, 99)), TokenChange::Replaced { active: digest(2) }])
        );
        assert_eq!(verdicts(&tokens, 6), [Unknown, Active, Unknown], "a token that is replaced so may come back");
    }

    #[test]
    fn retired_tokens_are_kept_for_long_and_not_for_ever() {
        let mut tokens = Tokens { active: Some(digest(0)), ..Tokens::default() };
        let numbered = |number: u64| {
            let mut bytes = [0xff; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            TokenDigest::new(bytes)
        };
        let rotate = |tokens: &mut Tokens, number: u64, ms: u64| {
            let rotation = TokenRotation { next: numbered(number), until: Utc::NEVER };
            order(tokens, ms, TokenOrder::Begin(rotation)).unwrap();
            order(tokens, ms, TokenOrder::Finish).unwrap();
        };
        for number in 1..=2 * RETIRED_TOKENS_MAX as u64 {
            rotate(&mut tokens, number, 0);
        }
        assert_eq!(tokens.retired().len(), RETIRED_TOKENS_MAX);
        rotate(&mut tokens, 1 << 40, RETIRED_TOKENS_MS + 1);
        assert_eq!(tokens.retired().len(), RETIRED_TOKENS_KEPT, "the old ones are too old");
    }
}
