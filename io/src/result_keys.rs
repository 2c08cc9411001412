//! Keys of results' signatures. A rotation replaces one by the next: until an instant of the calendar both are accepted,
//! from it on the next one alone.
//!
//! [`ResultKeys::advance`] ends a window, once: a clock that is set back does not open it again.

use crate::secret::Secret;
use sheratan_core::Utc;
use std::fmt;

/// The keys, and their rotation if there is one.
#[derive(Clone, Default, Debug)]
pub struct ResultKeys {
    active: Option<Secret>,
    rotation: Option<Rotation>,
}

#[derive(Clone, Debug)]
struct Rotation {
    next: Secret,
    until: Utc,
    is_over: bool,
}

/// Which key a signature is by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyRole {
    /// The only one, or the next one of a rotation.
    New,
    /// The one that a rotation replaces.
    Old,
}

/// A rotation, as operators see it.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// The key that is replaced; absent if there is none.
    pub old: Option<&'a Secret>,
    pub new: &'a Secret,
    pub until: Utc,
    pub is_over: bool,
}

/// Why keys cannot be used together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResultKeysError {
    /// A next key, and no instant from which on it is the only one.
    NoDeadline,
    /// An instant, and no next key.
    NoNextKey,
    /// The next key is the one that it should replace.
    SameKey,
}

impl ResultKeys {
    pub fn new(active: Option<Secret>, next: Option<Secret>, until: Option<Utc>) -> Result<Self, ResultKeysError> {
        let rotation = match (next, until) {
            (None, None) => None,
            (Some(_), None) => return Err(ResultKeysError::NoDeadline),
            (None, Some(_)) => return Err(ResultKeysError::NoNextKey),
            (Some(next), Some(until)) => Some(Rotation { next, until, is_over: false }),
        };
        if let (Some(active), Some(rotation)) = (&active, &rotation)
            && active.is(rotation.next.expose())
        {
            return Err(ResultKeysError::SameKey);
        }
        Ok(ResultKeys { active, rotation })
    }

    /// One key that is not rotated.
    pub fn single(key: Secret) -> Self {
        ResultKeys { active: Some(key), rotation: None }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.active.is_none() && self.rotation.is_none()
    }

    /// The keys by which a signature is accepted, the likelier first. Call [`ResultKeys::advance`] before.
    pub fn accepted(&self) -> impl Iterator<Item = (KeyRole, &Secret)> {
        let next = self.rotation.as_ref().map(|rotation| (KeyRole::New, &rotation.next));
        let role = if self.rotation.is_some() { KeyRole::Old } else { KeyRole::New };
        let active = self.active.as_ref().filter(|_| !self.is_over()).map(|active| (role, active));
        next.into_iter().chain(active)
    }

    /// The key that a rotation has replaced.
    pub fn replaced(&self) -> Option<&Secret> {
        self.active.as_ref().filter(|_| self.is_over())
    }

    /// All keys, to be redacted.
    pub fn all(&self) -> impl Iterator<Item = &Secret> {
        self.active.iter().chain(self.rotation.as_ref().map(|rotation| &rotation.next))
    }

    pub fn window(&self) -> Option<Window<'_>> {
        let Rotation { next, until, is_over } = self.rotation.as_ref()?;
        Some(Window { old: self.active.as_ref(), new: next, until: *until, is_over: *is_over })
    }

    /// When the window ends, while it is open.
    pub fn ends_at(&self) -> Option<Utc> {
        self.rotation.as_ref().filter(|rotation| !rotation.is_over).map(|rotation| rotation.until)
    }

    /// Ends the window if the calendar shows its end or later; whether it ended now.
    pub fn advance(&mut self, utc: Utc) -> bool {
        match &mut self.rotation {
            Some(rotation) if !rotation.is_over && rotation.until <= utc => {
                rotation.is_over = true;
                true
            }
            _ => false,
        }
    }

    /// Takes over keys that were read again; whether they differ. A window that has ended stays ended unless its end or
    /// a key is another one.
    pub fn replace(&mut self, other: ResultKeys) -> bool {
        let is_same = |a: Option<&Secret>, b: Option<&Secret>| match (a, b) {
            (Some(a), Some(b)) => a.is(b.expose()),
            (None, None) => true,
            _ => false,
        };
        let next = |keys: &ResultKeys| keys.rotation.as_ref().map(|rotation| (rotation.next.clone(), rotation.until));
        let (mine, its) = (next(self), next(&other));
        if is_same(self.active.as_ref(), other.active.as_ref())
            && is_same(mine.as_ref().map(|(key, _)| key), its.as_ref().map(|(key, _)| key))
            && mine.map(|(_, until)| until) == its.map(|(_, until)| until)
        {
            return false;
        }
        *self = other;
        true
    }

    fn is_over(&self) -> bool {
        self.rotation.as_ref().is_some_and(|rotation| rotation.is_over)
    }
}

impl fmt::Display for ResultKeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResultKeysError::NoDeadline => {
                "result_hmac_key_next is set, but not until when both keys are accepted: set result_hmac_key_rotation_until"
            }
            ResultKeysError::NoNextKey => {
                "result_hmac_key_rotation_until is set, but there is no next key: set result_hmac_key_next, or take the instant out"
            }
            ResultKeysError::SameKey => {
                "result_hmac_key_next is the same key as result_hmac_key: a rotation needs another one"
            }
        })
    }
}

impl std::error::Error for ResultKeysError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(active: &str, next: &str, until: u64) -> ResultKeys {
        let secret = |text: &str| (!text.is_empty()).then(|| Secret::new(text));
        ResultKeys::new(secret(active), secret(next), Some(Utc::from_millis(until))).unwrap()
    }

    fn accepted(keys: &ResultKeys) -> Vec<(KeyRole, String)> {
        let text = |key: &Secret| String::from_utf8(key.expose().to_vec()).unwrap();
        keys.accepted().map(|(role, key)| (role, text(key))).collect()
    }

    #[test]
    fn both_keys_are_accepted_until_the_instant_and_at_it_the_next_one_alone() {
        let mut keys = keys("old", "new", 100);
        let (old, new) = ((KeyRole::Old, "old".to_owned()), (KeyRole::New, "new".to_owned()));
        for utc in [0, 99] {
            assert!(!keys.advance(Utc::from_millis(utc)));
            assert_eq!(
                (accepted(&keys), keys.ends_at()),
                (vec![new.clone(), old.clone()], Some(Utc::from_millis(100)))
            );
        }
        assert!(keys.advance(Utc::from_millis(100)), "the window ends");
        for utc in [100, 101, 50] {
            assert!(!keys.advance(Utc::from_millis(utc)), "once, also if the clock is set back");
            assert_eq!((accepted(&keys), keys.ends_at()), (vec![new.clone()], None));
        }
        assert!(keys.replaced().is_some_and(|key| key.is(b"old")));
    }

    #[test]
    fn keys_that_are_read_again_unchanged_keep_an_ended_window_ended() {
        let mut held = keys("old", "new", 100);
        held.advance(Utc::from_millis(100));
        assert!(!held.replace(keys("old", "new", 100)));
        assert_eq!(held.ends_at(), None);
        for other in
            [keys("old", "new", 101), keys("old", "newer", 100), keys("", "new", 100), keys("older", "new", 100)]
        {
            let mut held = held.clone();
            assert!(held.replace(other.clone()));
            assert_eq!((accepted(&held), held.ends_at()), (accepted(&other), other.ends_at()));
        }
        assert!(held.replace(ResultKeys::single(Secret::new("new"))));
        assert_eq!(accepted(&held), [(KeyRole::New, "new".to_owned())]);
    }

    #[test]
    fn a_rotation_needs_two_keys_that_differ_and_an_instant() {
        let secret = |text: &str| Some(Secret::new(text));
        let until = Some(Utc::from_millis(1));
        let refused = |active, next, until| ResultKeys::new(active, next, until).unwrap_err();
        assert_eq!(refused(secret("a"), secret("b"), None), ResultKeysError::NoDeadline);
        assert_eq!(refused(secret("a"), None, until), ResultKeysError::NoNextKey);
        assert_eq!(refused(secret("a"), secret("a"), until), ResultKeysError::SameKey);
        assert!(ResultKeys::new(None, secret("b"), until).is_ok(), "workers begin to sign");
        assert!(ResultKeys::new(None, None, None).unwrap().is_empty());
    }
}
