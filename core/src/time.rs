//! Time in the core: instants and durations in whole milliseconds, always passed as arguments, never read from a clock.
//!
//! They are two types, so that an instant cannot be added to an instant, and a bare number is neither. All arithmetic
//! saturates: a delay of `u64::MAX` means "never", and neither panics nor wraps to the past.
//!
//! There are two kinds of instants. A [`Timestamp`] is of the hub's own time, which never jumps: every duration is
//! measured on it. A [`Utc`] is of the calendar: clients name it and are shown it. The [`Calendar`] converts between
//! them, by one offset that changes when the machine's clock is set.

use crate::encoding::{DecodeError, Encoded, Reader};
use std::ops::{Add, Sub};

/// An instant of the hub's time, in milliseconds. A new hub begins at its machine's wall time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(u64);

/// An instant of the calendar: milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Utc(u64);

/// What the calendar shows at an instant of the hub's time: that instant and an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Calendar {
    offset_ms: i64,
}

/// A duration in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Millis(u64);

impl Timestamp {
    /// Before any other instant.
    pub const ZERO: Timestamp = Timestamp(0);
    /// An instant that is never reached.
    pub const NEVER: Timestamp = Timestamp(u64::MAX);

    pub const fn from_millis(ms: u64) -> Self {
        Timestamp(ms)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub const fn since(self, earlier: Timestamp) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Utc {
    /// The Unix epoch; also used for "before any other instant".
    pub const ZERO: Utc = Utc(0);
    /// An instant that is never reached.
    pub const NEVER: Utc = Utc(u64::MAX);

    /// The instant `ms` milliseconds after the Unix epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Utc(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub const fn since(self, earlier: Utc) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Calendar {
    /// The calendar of a hub whose time is wall time: no clock was set since it began.
    pub const UNSET: Calendar = Calendar { offset_ms: 0 };

    /// The calendar that shows `utc` at `at`.
    pub fn showing(utc: Utc, at: Timestamp) -> Calendar {
        let offset = i128::from(utc.0) - i128::from(at.0);
        Calendar::from_offset_ms(offset.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }

    pub const fn from_offset_ms(offset_ms: i64) -> Calendar {
        Calendar { offset_ms }
    }

    /// How far the calendar is ahead of the hub's time.
    pub const fn offset_ms(self) -> i64 {
        self.offset_ms
    }

    /// What the calendar shows at `at`. "Never" stays "never"; nothing is before 1970.
    pub const fn utc(self, at: Timestamp) -> Utc {
        if at.0 == Timestamp::NEVER.0 { Utc::NEVER } else { Utc(at.0.saturating_add_signed(self.offset_ms)) }
    }

    /// When the calendar shows `utc`.
    pub const fn instant(self, utc: Utc) -> Timestamp {
        let offset = self.offset_ms.unsigned_abs();
        match (utc.0, self.offset_ms < 0) {
            (u64::MAX, _) => Timestamp::NEVER,
            (utc, true) => Timestamp(utc.saturating_add(offset)),
            (utc, false) => Timestamp(utc.saturating_sub(offset)),
        }
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

impl Add<Millis> for Utc {
    type Output = Utc;
    fn add(self, duration: Millis) -> Utc {
        Utc(self.0.saturating_add(duration.0))
    }
}

impl Sub<Millis> for Utc {
    type Output = Utc;
    fn sub(self, duration: Millis) -> Utc {
        Utc(self.0.saturating_sub(duration.0))
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

impl Encoded for Utc {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::decode(from).map(Utc)
    }
}

/// The offset, zigzag-encoded: a small one takes few bytes, whatever its sign.
impl Encoded for Calendar {
    fn encode(&self, out: &mut Vec<u8>) {
        ((self.offset_ms << 1 ^ self.offset_ms >> 63) as u64).encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = u64::decode(from)?;
        Ok(Calendar { offset_ms: (number >> 1) as i64 ^ -((number & 1) as i64) })
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
    fn the_calendar_converts_both_ways_and_keeps_never() {
        let (at, utc) = (Timestamp::from_millis, Utc::from_millis);
        for (offset, shown, instant) in [(0, 50, 50), (7, 57, 50), (-7, 43, 50), (-50, 0, 50)] {
            let calendar = Calendar::from_offset_ms(offset);
            assert_eq!((calendar.utc(at(50)), calendar.instant(utc(shown))), (utc(shown), at(instant)), "{offset}");
            assert_eq!(Calendar::showing(utc(shown), at(50)), calendar);
            assert_eq!((calendar.utc(Timestamp::NEVER), calendar.instant(Utc::NEVER)), (Utc::NEVER, Timestamp::NEVER));
        }
        assert_eq!(Calendar::from_offset_ms(-80).utc(at(50)), Utc::ZERO, "nothing is before 1970");
        assert_eq!(Calendar::from_offset_ms(80).instant(utc(50)), Timestamp::ZERO, "it was shown before the hub began");
    }

    #[test]
    fn an_encoded_calendar_decodes_to_itself() {
        for (offset, bytes) in [(0, 1), (-1, 1), (63, 1), (-64, 1), (64, 2), (i64::MAX, 10), (i64::MIN, 10)] {
            let mut out = Vec::new();
            Calendar::from_offset_ms(offset).encode(&mut out);
            assert_eq!(out.len(), bytes, "{offset}");
            assert_eq!(Calendar::decode(&mut Reader::new(&out)), Ok(Calendar::from_offset_ms(offset)));
        }
    }

    #[test]
    fn seconds_are_rounded_up() {
        let table = [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2)];
        for (ms, secs) in table {
            assert_eq!(Millis::new(ms).as_secs_ceil(), secs);
        }
    }
}
