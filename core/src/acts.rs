//! Acts on many dead letters: an operator requeues or discards those that match a filter, at a rate.
//!
//! An act is durable: it goes on after a restart. It covers the letters that were there when it began, so that jobs that fail
//! again do not go round for ever. It works in steps that its timer starts: each handles a bounded number of letters, so no
//! act stops the hub. A letter whose key belongs to another job by now, or that is larger than all unfinished jobs may be,
//! is skipped; while the queue is full, the act waits.

use crate::encoding::{members, numbered};
use crate::envelope::Principal;
use crate::ids::JobSeq;
use crate::limits::{ACT_STEP_LETTERS, ACTS_KEPT_MAX, ACTS_RUNNING_MAX};
use crate::outcome::Refusal;
use crate::queue::letter_filter::LetterFilter;
use crate::time::{Millis, Timestamp};
use std::collections::BTreeMap;

/// A request to act on many letters.
#[derive(Clone, PartialEq, Debug)]
pub struct BeginAct {
    pub what: ActOn,
    pub filter: LetterFilter,
    /// Letters a second; as many as the hub can handle beside its other work, if absent.
    pub rate_per_sec: Option<u32>,
    /// Nothing is done if more match.
    pub count_max: Option<u64>,
}

/// What is done to each letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ActOn {
    Requeue,
    Discard,
}

/// An act on many letters.
#[derive(Clone, PartialEq, Debug)]
pub struct Act {
    pub id: u32,
    pub what: ActOn,
    pub filter: LetterFilter,
    pub rate_per_sec: Option<u32>,
    pub by: Principal,
    pub began_at: Timestamp,
    /// How many letters matched when it began.
    pub matched: u64,
    pub done: u64,
    /// Letters whose idempotency keys belong to other jobs, or that are too large.
    pub skipped: u64,
    /// The first and the last job that it changed.
    pub first: Option<JobSeq>,
    pub last: Option<JobSeq>,
    pub ended_at: Option<Timestamp>,
    pub is_cancelled: bool,
    /// The next letter to look at, and the one after the last, by final number.
    pub(crate) next_number: u64,
    pub(crate) end_number: u64,
    /// When its next step is due; [`Timestamp::NEVER`] once it has ended.
    pub(crate) step_at: Timestamp,
}

members!(BeginAct { 1 what: required, 2 filter, 3 rate_per_sec, 4 count_max });
members!(Act {
    1 id: required,
    2 what: required,
    3 filter,
    4 rate_per_sec,
    5 by,
    6 began_at: required,
    7 matched,
    8 done,
    9 skipped,
    10 first,
    11 last,
    12 ended_at,
    13 is_cancelled,
    14 next_number,
    15 end_number,
    16 step_at: required,
});
numbered!(ActOn { 0 Requeue, 1 Discard });

/// All acts that run, and the latest that ended.
#[derive(Default, Debug)]
pub struct Acts {
    by_id: BTreeMap<u32, Act>,
    next_id: u32,
}

impl ActOn {
    pub const fn as_str(self) -> &'static str {
        match self {
            ActOn::Requeue => "requeue",
            ActOn::Discard => "discard",
        }
    }
}

impl Act {
    pub fn is_running(&self) -> bool {
        self.ended_at.is_none()
    }

    /// How long until the next step after one that changed so many letters: never less than its rate asks for.
    pub(crate) fn pause_after(&self, letters: u64) -> Millis {
        Millis::new(self.rate_per_sec.map_or(1, |rate| (letters * 1_000).div_ceil(u64::from(rate.max(1))).max(1)))
    }

    /// How many letters one step may change: at a rate there are at most about 20 steps a second.
    pub(crate) fn step_letters(&self) -> u64 {
        let of_rate = self.rate_per_sec.map_or(ACT_STEP_LETTERS, |rate| u64::from(rate).div_ceil(20));
        of_rate.clamp(1, ACT_STEP_LETTERS)
    }
}

impl Acts {
    pub fn get(&self, id: u32) -> Option<&Act> {
        self.by_id.get(&id)
    }

    /// The oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Act> {
        self.by_id.values()
    }

    pub(crate) fn admit(&self) -> Result<(), Refusal> {
        let running = self.iter().filter(|act| act.is_running()).count();
        if running < ACTS_RUNNING_MAX { Ok(()) } else { Err(Refusal::TooManyActs { running: running as u64 }) }
    }

    /// Adds an act that was admitted. The oldest that ended is dropped for it.
    pub(crate) fn insert(&mut self, act: Act) {
        if self.by_id.len() >= ACTS_KEPT_MAX {
            let oldest = self.iter().find(|act| !act.is_running()).map(|act| act.id);
            oldest.map(|id| self.by_id.remove(&id));
        }
        self.next_id = self.next_id.max(act.id + 1);
        self.by_id.insert(act.id, act);
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Act> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn restore_next_id(&mut self, next_id: u32) {
        self.next_id = self.next_id.max(next_id);
    }

    pub(crate) fn next_id(&self) -> u32 {
        self.next_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rate_is_exceeded_and_none_is_missed_by_more_than_a_millisecond_a_step() {
        for rate in [1, 3, 19, 20, 21, 30, 600, 999, 1_000, 1_001, 1_999, 100_000, 1_000_000] {
            let act = Act {
                id: 0,
                what: ActOn::Requeue,
                filter: LetterFilter::default(),
                rate_per_sec: Some(rate),
                by: Principal::Hub,
                began_at: Timestamp::ZERO,
                matched: 0,
                done: 0,
                skipped: 0,
                first: None,
                last: None,
                ended_at: None,
                is_cancelled: false,
                next_number: 0,
                end_number: 0,
                step_at: Timestamp::ZERO,
            };
            let (letters, pause) = (act.step_letters(), act.pause_after(act.step_letters()).get());
            assert!((1..=ACT_STEP_LETTERS).contains(&letters));
            assert!(letters * 1_000 <= u64::from(rate) * pause, "{letters} in {pause} ms exceed {rate}/s");
            assert!(
                pause == 1 || letters * 1_000 > u64::from(rate) * (pause - 1),
                "{letters} in {pause} ms of {rate}/s"
            );
            assert_eq!(act.pause_after(0), Millis::new(1));
        }
    }
}
