//! The retry budget in the model. The retries that wait are the jobs that are postponed.

use sheratan_core::limits::{CREDIT_UNITS, Limits, RETRY_FLOOR_SAVED_SECS};
use sheratan_core::{Millis, Name, Timestamp};

#[derive(Default, Debug)]
pub(super) struct ModelBudget {
    /// Millionths of credits that came with time, at the instant.
    level: u64,
    at: Timestamp,
    /// How many of them were granted to postponed retries.
    granted_count: u64,
    kinds: Vec<Earned>,
}

/// What a kind with jobs earned.
#[derive(Debug)]
struct Earned {
    kind: Name,
    level: u64,
    minute: u64,
    fresh: u64,
    fresh_before: u64,
    granted: u64,
}

impl ModelBudget {
    /// The rules begin that have a budget: ten seconds are saved.
    pub fn begin(&mut self, now: Timestamp, limits: &Limits) {
        (self.level, self.at) = (saved_max(limits), now);
    }

    /// The limits are about to change.
    pub fn settle(&mut self, now: Timestamp, limits: &Limits) {
        (self.level, self.at) = (self.level_at(now, limits), now);
    }

    /// A fresh job of a kind was submitted.
    pub fn earn(&mut self, now: Timestamp, limits: &Limits, kind: &Name) {
        let earned = self.of(now, limits, kind);
        earned.fresh += 1;
        earned.level = (earned.level + share(limits)).min(earned.level_max(limits));
    }

    /// Takes a credit that the kind earned.
    pub fn take_earned(&mut self, now: Timestamp, limits: &Limits, kind: &Name) -> bool {
        let earned = self.of(now, limits, kind);
        let has_one = earned.level >= CREDIT_UNITS;
        earned.level -= if has_one { CREDIT_UNITS } else { 0 };
        has_one
    }

    /// Takes a credit that came with time.
    pub fn take_of_floor(&mut self, now: Timestamp, limits: &Limits) -> bool {
        let level = self.level_at(now, limits);
        let has_one = level >= CREDIT_UNITS;
        if has_one {
            (self.level, self.at) = (level - CREDIT_UNITS, now);
        }
        has_one
    }

    /// The number of the last grant to a kind; 0 before the first.
    pub fn granted_to(&self, kind: &Name) -> u64 {
        self.kinds.iter().find(|earned| earned.kind == *kind).map_or(0, |earned| earned.granted)
    }

    /// A postponed retry of a kind got a credit of the floor.
    pub fn note_grant(&mut self, kind: &Name) {
        self.granted_count += 1;
        let count = self.granted_count;
        self.find_or_add(kind).granted = count;
    }

    /// When the floor has a whole credit.
    pub fn next_at(&self, limits: &Limits) -> Timestamp {
        let a_millisecond = u64::from(limits.retries_per_sec_min) * (CREDIT_UNITS / 1_000);
        let missing = CREDIT_UNITS.saturating_sub(self.level);
        match a_millisecond {
            0 => Timestamp::NEVER,
            a_millisecond => self.at + Millis::new(missing.div_ceil(a_millisecond)),
        }
    }

    /// The last job of a kind was dropped.
    pub fn forget(&mut self, kind: &Name) {
        self.kinds.retain(|earned| earned.kind != *kind);
    }

    fn level_at(&self, now: Timestamp, limits: &Limits) -> u64 {
        let a_millisecond = u64::from(limits.retries_per_sec_min) * (CREDIT_UNITS / 1_000);
        let gained = now.since(self.at).get().saturating_mul(a_millisecond);
        self.level.saturating_add(gained).min(saved_max(limits))
    }

    /// What a kind earned: no more than its share of this minute and the one before.
    fn of(&mut self, now: Timestamp, limits: &Limits, kind: &Name) -> &mut Earned {
        let earned = self.find_or_add(kind);
        let minute = now.as_millis() / 60_000;
        if minute != earned.minute {
            earned.fresh_before = if minute == earned.minute + 1 { earned.fresh } else { 0 };
            (earned.minute, earned.fresh) = (minute, 0);
        }
        earned.level = earned.level.min(earned.level_max(limits));
        earned
    }

    fn find_or_add(&mut self, kind: &Name) -> &mut Earned {
        if !self.kinds.iter().any(|earned| earned.kind == *kind) {
            let kind = kind.clone();
            self.kinds.push(Earned { kind, level: 0, minute: 0, fresh: 0, fresh_before: 0, granted: 0 });
        }
        self.kinds.iter_mut().find(|earned| earned.kind == *kind).expect("it is there now")
    }
}

impl Earned {
    fn level_max(&self, limits: &Limits) -> u64 {
        (self.fresh + self.fresh_before).saturating_mul(share(limits))
    }
}

/// What one fresh job earns.
fn share(limits: &Limits) -> u64 {
    u64::from(limits.retry_share_percent) * (CREDIT_UNITS / 100)
}

fn saved_max(limits: &Limits) -> u64 {
    u64::from(limits.retries_per_sec_min) * RETRY_FLOOR_SAVED_SECS * CREDIT_UNITS
}
