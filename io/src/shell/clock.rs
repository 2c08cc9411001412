//! The clock: reads the machine's clocks for the [`Timekeeper`](super::timekeeper::Timekeeper).
//!
//! A round of the loop reads one clock, and every few milliseconds all of them: about 25 ns each.

use super::engine::micros;
use super::timekeeper::Reading;
use crate::platform;
use sheratan_core::{Timestamp, Utc};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Time awake between two readings of all clocks.
const ALL_EVERY_US: u64 = 5_000;

/// If more time than this passes while wall time is read, it is not compared with the other clocks.
const READING_US_MAX: u64 = 5_000;

/// How often wall time is read until that takes less.
const TRIES_MAX: u32 = 3;

/// The clocks of the machine.
#[derive(Debug)]
pub struct Clock {
    /// What the sleepless clock showed when the machine had been awake for as long as the process then.
    sleepless_before: Option<u64>,
    asleep: u64,
    next_at: u64,
}

impl Clock {
    pub fn new() -> Self {
        let awake = awake_us();
        let sleepless_before = platform::sleepless_us().map(|now| now.saturating_sub(awake));
        Clock { sleepless_before, asleep: 0, next_at: 0 }
    }

    /// What the clocks show now; without wall time if all clocks were read just before.
    pub fn read(&mut self) -> Reading {
        let awake = awake_us();
        if awake < self.next_at {
            return Reading { awake, asleep: self.asleep, wall: None };
        }
        self.next_at = awake + ALL_EVERY_US;
        self.read_all()
    }

    /// What the clocks show now, wall time included, however long that takes.
    pub fn read_with_wall(&mut self) -> Reading {
        loop {
            let reading = self.read_all();
            if reading.wall.is_some() {
                return reading;
            }
        }
    }

    fn read_all(&mut self) -> Reading {
        self.note_sleep();
        for _ in 0..TRIES_MAX {
            let (before, wall, awake) = (awake_us(), wall_us(), awake_us());
            if awake - before <= READING_US_MAX {
                return Reading { awake, asleep: self.asleep, wall: Some(wall) };
            }
        }
        Reading { awake: awake_us(), asleep: self.asleep, wall: None }
    }

    /// A pause between the two clocks makes the sleep shorter until the next reading.
    fn note_sleep(&mut self) {
        if let (Some(now), Some(before)) = (platform::sleepless_us(), self.sleepless_before) {
            self.asleep = self.asleep.max(now.saturating_sub(before).saturating_sub(awake_us()));
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

/// Wall time now.
pub fn wall_time() -> Utc {
    Utc::from_millis(u64::try_from(wall_us() / 1_000).unwrap_or(0))
}

/// The time that the machine has been awake since the process began: connections are measured on it.
pub fn awake_at() -> Timestamp {
    Timestamp::from_millis(awake_us() / 1_000)
}

/// The same in microseconds: a stopwatch.
pub(super) fn awake_us() -> u64 {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    micros(STARTED.get_or_init(Instant::now).elapsed())
}

/// Negative before 1970.
fn wall_us() -> i64 {
    let signed = |duration: std::time::Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => signed(since),
        Err(error) => -signed(error.duration()),
    }
}
