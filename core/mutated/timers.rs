//! Timers of which the active mutant ignores some.

#[path = "../src/timers.rs"]
mod real;

pub(crate) use real::Timer;

use crate::ids::JobSeq;
use crate::time::{Calendar, Timestamp, Utc};
use sheratan_mutants::{Mutant, is_active};

/// The real timers, without those of the active mutant.
#[derive(Default, Debug)]
pub(crate) struct Timers(real::Timers);

impl Timers {
    pub fn set(&mut self, at: Timestamp, timer: Timer) {
        if !is_ignored(timer) {
            self.0.set(at, timer);
        }
    }

    pub fn cancel(&mut self, at: Timestamp, timer: Timer) {
        if !is_ignored(timer) {
            self.0.cancel(at, timer);
        }
    }

    pub fn set_dated(&mut self, run_at: Utc, seq: JobSeq, not_before: Timestamp) {
        self.0.set_dated(run_at, seq, not_before);
    }

    pub fn cancel_dated(&mut self, run_at: Utc, seq: JobSeq) {
        self.0.cancel_dated(run_at, seq);
    }

    pub fn not_before(&self, run_at: Utc, seq: JobSeq) -> Timestamp {
        self.0.not_before(run_at, seq)
    }

    pub fn calendar(&self) -> Calendar {
        self.0.calendar()
    }

    pub fn set_calendar(&mut self, calendar: Calendar) {
        self.0.set_calendar(calendar);
    }

    pub fn next_at(&self) -> Option<Timestamp> {
        self.0.next_at()
    }

    pub fn pop(&mut self) -> Option<(Timestamp, Timer)> {
        self.0.pop()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn is_ignored(timer: Timer) -> bool {
    match timer {
        Timer::JobExpires(_) => is_active(Mutant::JobTtlSkipped),
        Timer::LeaseEnds(_) => is_active(Mutant::LeaseExpirySkipped),
        Timer::ReservationEnds(_) => is_active(Mutant::ReservationNeverEnds),
        _ => false,
    }
}
