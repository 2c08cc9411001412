//! Time in the core: instants and durations in whole milliseconds, always passed as arguments, never read from a clock.
//!
//! They are two types, so that an instant cannot be added to an instant, and a bare number is neither. All arithmetic
//! saturates: a delay of `u64::MAX` means "never", and neither panics nor wraps to the past.

use crate::encoding::{DecodeError, Encoded, Reader};
use std::ops::{Add, Sub};

/// An instant: milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(u64);

/// A duration in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Millis(u64);

impl Timestamp {
    /// The Unix epoch; also used for "before any other instant".
    pub const ZERO: Timestamp = Timestamp(0);
    /// An instant that is never reached.
    pub const NEVER: Timestamp = Timestamp(u64::MAX);

    /// The instant `ms` milliseconds after the Unix epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Timestamp(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub const fn since(self, earlier: Timestamp) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Millis {
    pub const ZERO: Millis = Millis(0);
    /// Longer than any other duration; used for "unlimited".
    pub const MAX: Millis = Millis(u64::MAX);

    pub const fn new(ms: u64) -> Self {
        Millis(ms)
    }

    /// Saturates.
    pub const fn from_secs(secs: u64) -> Self {
        Millis(secs.saturating_mul(1000))
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whole seconds, rounded up as `Retry-After` needs them: to retry a second too early is worse than one too late.
    pub const fn as_secs_ceil(self) -> u64 {
        self.0.div_ceil(1000)
    }
}

impl Add<Millis> for Timestamp {
    type Output = Timestamp;
    fn add(self, duration: Millis) -> Timestamp {
        Timestamp(self.0.saturating_add(duration.0))
    }
}

impl Sub<Millis> for Timestamp {
    type Output = Timestamp;
    fn sub(self, duration: Millis) -> Timestamp {
        Timestamp(self.0.saturating_sub(duration.0))
    }
}

impl Encoded for Timestamp {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::decode(from).map(Timestamp)
    }
}

impl Encoded for Millis {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::decode(from).map(Millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_never_and_at_the_epoch() {
        assert_eq!(Timestamp::from_millis(1) + Millis::MAX, Timestamp::NEVER);
        assert_eq!(Timestamp::from_millis(1) - Millis::new(2), Timestamp::ZERO);
        assert_eq!(Timestamp::from_millis(1).since(Timestamp::from_millis(5)), Millis::ZERO);
        assert_eq!(Millis::from_secs(u64::MAX), Millis::MAX);
    }

    #[test]
    fn seconds_are_rounded_up() {
        let table = [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2)];
        for (ms, secs) in table {
            assert_eq!(Millis::new(ms).as_secs_ceil(), secs);
        }
    }
}
