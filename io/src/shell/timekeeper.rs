//! The timekeeper: the hub's time and calendar from what the machine's clocks show. It reads no clock itself.
//!
//! The hub's time is the time that the machine was awake, and the sleeps of the machine that the journal has. So it
//! never jumps, however the machine's clock is set. The calendar is that time plus an offset, which follows the
//! machine's clock: a step at once, drift now and then. Both changes are commands: they are in the journal before
//! anything depends on them.

use crate::rfc3339::Rfc3339;
use crate::service::CLOCK_STEP_MS;
use sheratan_core::{Calendar, Millis, Timestamp, Utc};
use std::fmt;

/// A shorter sleep is none: it passes as drift of the calendar.
const SLEEP_US_MIN: u64 = 1_000_000;

/// A smaller difference of the calendar is not worth a record.
const DRIFT_US_MIN: u64 = 100_000;

/// Time between two records of drift: 60 an hour at most.
const DRIFT_EVERY_US: u64 = 60_000_000;

/// Time between two records of steps, in case that two programs set the machine's clock in turns.
const STEP_EVERY_US: u64 = 1_000_000;

/// A machine's clock that is further behind the journal at a start was not set back by hand, but is not set.
const BEHIND_MAX: Millis = Millis::from_secs(86_400);

/// A hub that was down for longer was not: the machine's clock shows a year that has not come.
const DOWN_MAX: Millis = Millis::from_secs(366 * 86_400);

/// 2020-01-01: an earlier instant is that of a clock that was never set.
const PLAUSIBLE: Utc = Utc::from_millis(1_577_836_800_000);

/// What the machine's clocks show, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// How long the machine has been awake since the process began.
    pub awake: u64,
    /// How long it slept since then, as far as it is known.
    pub asleep: u64,
    /// Its wall time since the epoch, unless the reading took too long to be compared with the others.
    pub wall: Option<i64>,
}

/// The hub's time on top of the machine's.
#[derive(Debug)]
pub struct Timekeeper {
    /// The hub's time minus the time awake.
    ahead: i64,
    /// Sleep that the hub's time includes or that was too short.
    asleep: u64,
    /// When the calendar was changed last, in time awake.
    changed_at: Option<u64>,
}

/// The hub's time and calendar at a start.
#[derive(Debug)]
pub struct Start {
    pub timekeeper: Timekeeper,
    pub calendar: Calendar,
    pub notice: Option<Notice>,
}

/// What an operator should know about the machine's clock at a start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// It was never set.
    Unset(Utc),
    /// It is behind the journal: durations continue as if the hub had not been down.
    Behind(Millis),
    /// It is so far ahead of the journal that the hub cannot have been down for so long.
    Ahead(Millis),
}

/// The machine's clock is so far behind the journal that one of them must be wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FarBehind {
    /// What the calendar showed at the last record.
    pub journal: Utc,
    /// What the machine's clock shows.
    pub wall: Utc,
}

/// What a reading changed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Changes {
    /// The machine slept.
    pub slept: Option<Millis>,
    /// The calendar was set ahead or back by so many milliseconds.
    pub stepped_ms: Option<i64>,
}

impl Reading {
    /// The time awake as an instant, for what is measured on it: connections, which do not outlive the process.
    pub fn awake_at(&self) -> Timestamp {
        Timestamp::from_millis(self.awake / 1_000)
    }

    fn wall_utc(&self) -> Utc {
        Utc::from_millis(u64::try_from(self.wall.unwrap_or(0) / 1_000).unwrap_or(0))
    }
}

impl Timekeeper {
    /// Starts the time of a hub whose last record is of `last`. While the hub was down, time passed by the machine's
    /// clock, if that is plausible. `is_accepted` says that a clock that is far behind is right.
    ///
    /// # Panics
    /// If the reading has no wall time.
    pub fn start(
        reading: &Reading,
        last: Timestamp,
        calendar: Calendar,
        is_accepted: bool,
    ) -> Result<Start, FarBehind> {
        let wall_us = reading.wall.expect("a start reads wall time");
        let wall = reading.wall_utc();
        let unset = (wall < PLAUSIBLE).then_some(Notice::Unset(wall));
        if last == Timestamp::ZERO {
            let timekeeper = Timekeeper::at(Timestamp::from_millis(wall.as_millis()), reading);
            return Ok(Start { timekeeper, calendar, notice: unset });
        }
        let shown = calendar.utc(last);
        let (down, behind) = (wall.since(shown), shown.since(wall));
        if behind > BEHIND_MAX && !is_accepted {
            return Err(FarBehind { journal: shown, wall });
        }
        let is_ahead = down > DOWN_MAX;
        let passed = if is_ahead { Millis::ZERO } else { down };
        let now = last + passed;
        let offset_ms = wall_us / 1_000 - i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let is_step = is_ahead || behind.get() >= CLOCK_STEP_MS;
        let notice = match (is_ahead, behind.get() >= CLOCK_STEP_MS) {
            (true, _) => Some(Notice::Ahead(down)),
            (false, true) => Some(Notice::Behind(behind)),
            (false, false) => unset,
        };
        let calendar = if is_step { Calendar::from_offset_ms(offset_ms) } else { calendar };
        Ok(Start { timekeeper: Timekeeper::at(now, reading), calendar, notice })
    }

    fn at(now: Timestamp, reading: &Reading) -> Timekeeper {
        let now_us = i64::try_from(now.as_millis().saturating_mul(1_000)).unwrap_or(i64::MAX);
        Timekeeper { ahead: now_us.saturating_sub_unsigned(reading.awake), asleep: reading.asleep, changed_at: None }
    }

    /// The hub's time.
    pub fn now(&self, reading: &Reading) -> Timestamp {
        Timestamp::from_millis(self.micros(reading) / 1_000)
    }

    /// How long the machine slept since the last sleep that was noted, unless that was too short.
    pub fn slept(&mut self, reading: &Reading) -> Option<Millis> {
        let slept = reading.asleep.saturating_sub(self.asleep);
        if slept < SLEEP_US_MIN {
            self.asleep = self.asleep.max(reading.asleep);
            return None;
        }
        Some(Millis::new(slept / 1_000))
    }

    /// The journal has the sleep: from now on the hub's time includes it.
    pub fn note_sleep(&mut self, slept: Millis) {
        let slept_us = slept.get() * 1_000;
        self.asleep += slept_us;
        self.ahead = self.ahead.saturating_add_unsigned(slept_us);
    }

    /// The calendar that shows the machine's wall time, if that differs enough from what `calendar` shows.
    pub fn step(&self, reading: &Reading, calendar: Calendar) -> Option<Calendar> {
        let wall = i128::from(reading.wall?);
        // Sleep that the journal does not have yet is part of wall time.
        let pending = i128::from(reading.asleep.saturating_sub(self.asleep));
        let shown = i128::from(self.micros(reading)) + pending + i128::from(calendar.offset_ms()) * 1_000;
        let off = wall - shown;
        let pause = match u64::try_from(off.unsigned_abs()).unwrap_or(u64::MAX) {
            off if off >= CLOCK_STEP_MS * 1_000 => STEP_EVERY_US,
            off if off >= DRIFT_US_MIN => DRIFT_EVERY_US,
            _ => return None,
        };
        if self.changed_at.is_some_and(|at| reading.awake.saturating_sub(at) < pause) {
            return None;
        }
        let offset_ms = i128::from(calendar.offset_ms()) + off / 1_000;
        Some(Calendar::from_offset_ms(offset_ms.clamp(i64::MIN.into(), i64::MAX.into()) as i64))
    }

    /// The journal has the new calendar.
    pub fn note_step(&mut self, reading: &Reading) {
        self.changed_at = Some(reading.awake);
    }

    fn micros(&self, reading: &Reading) -> u64 {
        reading.awake.saturating_add_signed(self.ahead)
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Unset(wall) => write!(
                f,
                "the machine's clock shows {}, it was not set: instants are wrong until it is, durations are not affected",
                Rfc3339::new(*wall)
            ),
            Notice::Behind(by) => write!(
                f,
                "the machine's clock is {} s behind the journal: the calendar follows it; leases and delays continue as if the hub had not been down",
                by.as_secs_ceil()
            ),
            Notice::Ahead(by) => write!(
                f,
                "the machine's clock is {} days ahead of the journal: the calendar follows it, and jobs with an earlier run_at_utc are due; leases and delays continue as if the hub had not been down",
                by.get() / 86_400_000
            ),
        }
    }
}

impl fmt::Display for FarBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the machine's clock shows {}, but the journal's last record is of {}: set the machine's clock; if it is right, start once with `serve --accept-clock`, which sets the hub's calendar back and changes no lease or delay",
            Rfc3339::new(self.wall),
            Rfc3339::new(self.journal)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const DAY: i64 = 86_400 * SECOND;
    const NOW: i64 = 1_768_510_323 * SECOND;

    fn reading(awake: i64, asleep: i64, wall: i64) -> Reading {
        Reading { awake: awake as u64, asleep: asleep as u64, wall: Some(wall) }
    }

    fn at(wall: i64) -> Timestamp {
        Timestamp::from_millis((wall / 1_000) as u64)
    }

    fn start(wall: i64, last: i64) -> Result<Start, FarBehind> {
        Timekeeper::start(&reading(0, 0, wall), at(last), Calendar::UNSET, false)
    }

    /// What the calendar shows then, in microseconds.
    fn shown(timekeeper: &Timekeeper, reading: &Reading, calendar: Calendar) -> i64 {
        calendar.utc(timekeeper.now(reading)).as_millis() as i64 * 1_000
    }

    #[test]
    fn a_new_hub_begins_at_wall_time_whatever_that_is() {
        for (wall, notice) in [(NOW, None), (60 * SECOND, Some(Notice::Unset(Utc::from_millis(60_000))))] {
            let start = start(wall, 0).unwrap();
            assert_eq!(start.timekeeper.now(&reading(0, 0, wall)), at(wall));
            assert_eq!((start.calendar, start.notice), (Calendar::UNSET, notice));
        }
    }

    #[test]
    fn a_start_continues_the_time_of_the_journal() {
        let (second, hour) = (SECOND, 3_600 * SECOND);
        // Wall time minus that of the last record; how long the hub was down; what the operator is told.
        let table = [
            (0, 0, None),
            (hour, hour, None),
            (300 * DAY, 300 * DAY, None),
            (400 * DAY, 0, Some(Notice::Ahead(Millis::from_secs(400 * 86_400)))),
            (-second, 0, None),
            (-2 * second, 0, Some(Notice::Behind(Millis::from_secs(2)))),
            (-DAY, 0, Some(Notice::Behind(Millis::from_secs(86_400)))),
        ];
        for (off, down, notice) in table {
            let wall = NOW + off;
            let start = start(wall, NOW).unwrap();
            let read = reading(0, 0, wall);
            assert_eq!(start.timekeeper.now(&read), at(NOW + down), "{off}");
            assert_eq!(start.notice, notice, "{off}");
            let drift = shown(&start.timekeeper, &read, start.calendar) - wall;
            assert!(drift.abs() < 2 * SECOND, "{off}: the calendar shows {drift} µs more than wall time");
        }
        let far_behind = FarBehind { journal: Utc::from_millis((NOW / 1_000) as u64), wall: Utc::from_millis(0) };
        assert_eq!(start(0, NOW).unwrap_err(), far_behind);
        let off = NOW - DAY - SECOND;
        assert!(start(off, NOW).is_err(), "a second more than a day");
        let accepted = Timekeeper::start(&reading(0, 0, off), at(NOW), Calendar::UNSET, true).unwrap();
        assert_eq!(shown(&accepted.timekeeper, &reading(0, 0, off), accepted.calendar), off);
        assert_eq!(accepted.timekeeper.now(&reading(0, 0, off)), at(NOW), "durations go on from the last record");
    }

    #[test]
    fn a_clock_that_is_set_steps_the_calendar_and_no_time() {
        for wall in [0, -5 * 365 * DAY, NOW - 2 * SECOND, NOW + 2 * SECOND, NOW + 74 * 365 * DAY] {
            let mut timekeeper = start(NOW, 0).unwrap().timekeeper;
            let read = reading(7 * SECOND, 0, wall + 7 * SECOND);
            let calendar = timekeeper.step(&read, Calendar::UNSET).expect("it is off");
            assert_eq!(timekeeper.now(&read), at(NOW + 7 * SECOND));
            assert_eq!(calendar.offset_ms(), (wall - NOW) / 1_000);
            timekeeper.note_step(&read);
            assert_eq!(timekeeper.step(&read, calendar), None);
            // It is set back at once: the next step comes a second later.
            assert_eq!(timekeeper.step(&reading(7_999_999, 0, NOW + 8 * SECOND), calendar), None);
            assert!(timekeeper.step(&reading(8 * SECOND, 0, NOW + 8 * SECOND), calendar).is_some());
        }
    }

    #[test]
    fn drift_is_followed_once_a_minute() {
        let mut timekeeper = start(NOW, 0).unwrap().timekeeper;
        assert_eq!(timekeeper.step(&reading(SECOND, 0, NOW + SECOND + 99_999), Calendar::UNSET), None);
        let read = reading(SECOND, 0, NOW + SECOND - 100_000);
        let calendar = timekeeper.step(&read, Calendar::UNSET).expect("a tenth of a second");
        assert_eq!(calendar.offset_ms(), -100);
        timekeeper.note_step(&read);
        assert_eq!(timekeeper.step(&reading(60 * SECOND, 0, NOW + 60 * SECOND), calendar), None);
        assert!(timekeeper.step(&reading(61 * SECOND, 0, NOW + 61 * SECOND), calendar).is_some());
    }

    #[test]
    fn a_sleep_is_part_of_the_time_once_the_journal_has_it() {
        let mut timekeeper = start(NOW, 0).unwrap().timekeeper;
        let read = reading(SECOND, DAY, NOW + SECOND + DAY);
        assert_eq!(timekeeper.slept(&read), Some(Millis::from_secs(86_400)));
        assert_eq!(timekeeper.now(&read), at(NOW + SECOND));
        assert_eq!(timekeeper.step(&read, Calendar::UNSET), None, "the clock was not set");
        timekeeper.note_sleep(Millis::from_secs(86_400));
        assert_eq!(timekeeper.slept(&read), None);
        assert_eq!(timekeeper.now(&read), at(NOW + SECOND + DAY));
        assert_eq!(timekeeper.step(&read, Calendar::UNSET), None);
        let short = reading(SECOND, DAY + 999_999, NOW + SECOND + DAY + 999_999);
        assert_eq!(timekeeper.slept(&short), None);
        assert!(timekeeper.step(&short, Calendar::UNSET).is_some(), "a short one is drift");
    }

    #[test]
    fn a_reading_without_wall_time_changes_no_calendar() {
        let timekeeper = start(NOW, 0).unwrap().timekeeper;
        let read = Reading { wall: None, ..reading(SECOND, 0, 0) };
        assert_eq!(timekeeper.step(&read, Calendar::UNSET), None);
        assert_eq!(timekeeper.now(&read), at(NOW + SECOND));
    }
}
