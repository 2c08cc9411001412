//! The clock: monotonic time anchored to wall time at start.
//!
//! Leases and timers must not jump when an operator sets the machine's clock or a laptop resumes from sleep: the clock
//! follows wall time by running at twice or half its speed until the two agree. Twice is the most that is safe: workers
//! extend their leases at a third of the duration, so no lease expires before its extension while the clock catches up.

use super::engine::micros;
use sheratan_core::{Millis, Timestamp};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A difference that is worth a line in the log: more than what a busy machine or a leap second makes.
const JUMP_MS: u64 = 2_000;

/// Reads the machine's clocks.
pub struct Clock {
    started: Instant,
    slew: Slew,
}

/// A jump of wall time between two reads of the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Jump {
    /// Wall time jumped ahead by this much.
    Ahead(Millis),
    /// Wall time jumped back by this much.
    Back(Millis),
}

impl Clock {
    /// A clock that shows wall time now.
    pub fn new() -> Self {
        Clock::not_before(Timestamp::ZERO)
    }

    /// A clock that shows wall time now, but nothing before `earliest`: the hub's time at its last record. If wall time
    /// was set back while the hub was down, time continues from there at half its speed. It does not stop until wall
    /// time has caught up, since every lease and retry would stop with it.
    pub fn not_before(earliest: Timestamp) -> Self {
        Clock { started: Instant::now(), slew: Slew::not_before(wall_micros(), earliest) }
    }

    /// The current instant, never earlier than the one before; and a jump of wall time, reported once.
    pub fn now(&mut self) -> (Timestamp, Option<Jump>) {
        self.slew.read(micros(self.started.elapsed()), wall_micros())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

/// The clock's arithmetic, in microseconds: the loop reads the clock more often than once a millisecond.
#[derive(Debug)]
pub struct Slew {
    now: u64,
    monotonic: u64,
    is_jumping: bool,
}

impl Slew {
    /// A clock that starts now and shows `wall` (microseconds), but nothing before `earliest`.
    pub fn not_before(wall: u64, earliest: Timestamp) -> Self {
        Slew { now: wall.max(earliest.as_millis().saturating_mul(1_000)), monotonic: 0, is_jumping: false }
    }

    /// The instant `monotonic` µs after the start, when wall time is `wall` µs; and a jump of wall time, reported once.
    pub fn read(&mut self, monotonic: u64, wall: u64) -> (Timestamp, Option<Jump>) {
        let elapsed = monotonic.saturating_sub(self.monotonic);
        self.monotonic = monotonic;
        let straight = self.now + elapsed;
        let (ahead, back) = (wall.saturating_sub(straight), straight.saturating_sub(wall));
        self.now = straight + ahead.min(elapsed) - back.min(elapsed / 2);
        let off = Millis::new(ahead.max(back) / 1_000);
        let was_jumping = std::mem::replace(&mut self.is_jumping, off.get() >= JUMP_MS);
        let jump = if ahead > 0 { Jump::Ahead(off) } else { Jump::Back(off) };
        (Timestamp::from_millis(self.now / 1_000), (self.is_jumping && !was_jumping).then_some(jump))
    }
}

fn wall_micros() -> u64 {
    // A machine whose clock shows a time before 1970 counts from 1970.
    micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000_000_000_000;
    const HOUR: u64 = 3_600_000_000;

    #[test]
    fn it_follows_wall_time_while_the_two_agree() {
        let mut slew = Slew::not_before(START, Timestamp::ZERO);
        for elapsed in [0, 1, 999, 1_000, 5_000_000] {
            let (now, jump) = slew.read(elapsed, START + elapsed);
            assert_eq!(now.as_millis(), (START + elapsed) / 1_000);
            assert_eq!(jump, None);
        }
    }

    #[test]
    fn a_hub_whose_clock_was_set_back_while_it_was_down_goes_on_from_its_last_record_at_half_the_speed() {
        let last = Timestamp::from_millis((START + HOUR) / 1_000);
        let mut slew = Slew::not_before(START, last);
        let (now, jump) = slew.read(2_000_000, START + 2_000_000);
        assert_eq!(now, last + Millis::from_secs(1));
        assert!(matches!(jump, Some(Jump::Back(_))));
        let (now, _) = slew.read(3 * HOUR, START + 3 * HOUR);
        assert_eq!(now.as_millis(), (START + 3 * HOUR) / 1_000, "caught up");
    }

    #[test]
    fn wall_time_that_jumps_ahead_is_caught_up_with_at_twice_the_speed() {
        let mut slew = Slew::not_before(START, Timestamp::ZERO);
        let (now, jump) = slew.read(1_000_000, START + HOUR);
        assert_eq!(now.as_millis(), (START + 2_000_000) / 1_000);
        assert_eq!(jump, Some(Jump::Ahead(Millis::new((HOUR - 1_000_000) / 1_000))));
        let (_, jump) = slew.read(2_000_000, START + HOUR + 1_000_000);
        assert_eq!(jump, None, "a jump is reported once");
        let (now, _) = slew.read(HOUR, START + 2 * HOUR - 1_000_000);
        assert_eq!(now.as_millis(), (START + 2 * HOUR - 1_000_000) / 1_000, "caught up, and not beyond");
    }

    #[test]
    fn wall_time_that_jumps_back_is_waited_for_at_half_the_speed_and_time_never_goes_back() {
        let mut slew = Slew::not_before(START, Timestamp::ZERO);
        let (now, jump) = slew.read(1_000_000, START - HOUR);
        assert_eq!(now.as_millis(), (START + 500_000) / 1_000);
        assert!(matches!(jump, Some(Jump::Back(_))));
        let mut last = now;
        for second in 2..10_000 {
            let (now, _) = slew.read(second * 1_000_000, START - HOUR + second * 1_000_000);
            assert!(now >= last);
            last = now;
        }
        assert_eq!(last.as_millis(), (START - HOUR) / 1_000 + 9_999_000);
    }
}
