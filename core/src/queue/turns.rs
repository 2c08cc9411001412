//! Turns: groups of jobs share the workers of a class fairly, whatever each of them has waiting.
//!
//! Self-clocked fair queueing (Golestani, *A self-clocked fair queueing scheme for broadband applications*, INFOCOM 1994)
//! at each level of a class: a job gets a turn when it becomes ready, one step after the latest of its group, but not
//! before the clock, which is the turn of the job that was leased last. The steps of a group are as short as its weight is
//! high. So a job waits for about one job of each other group and each of its own group before it, not for all that were
//! submitted earlier; and a group that had nothing waiting comes back at the clock, with neither credit nor debt.
//!
//! Turns are ranks, so that groups cost nothing when a job is leased; to give one is O(log n) in the groups that wait.

use crate::encoding::members;
use crate::ids::HubKey;
use crate::limits::GROUPS_MAX;
use crate::name::Name;
use crate::name_set::NameSet;
use crate::queue::lane::{LEVELS, TURN_MAX};
use crate::rules;
use crate::zone::Zone;
use std::collections::BTreeMap;

/// The jobs of one client or kind; `None` for those that name no client.
pub(crate) type Group = Option<Name>;

/// The clocks of all classes: the latest turn of each level. A class without jobs that wait for a turn continues here.
pub(crate) type Clocks = [u64; LEVELS];

/// Groups that a level remembers beyond two for each job that waits: what it holds is bounded by the bytes of those jobs.
const GROUPS_SPARE: u64 = 8;
/// The largest weight.
pub const WEIGHT_MAX: u32 = 100;

/// The turns of a class.
#[derive(Clone, Default, Debug)]
pub(super) struct Turns {
    levels: [Level; LEVELS],
}

#[derive(Clone, Default, Debug)]
struct Level {
    clock: u64,
    /// The latest turn of each group. One that is not after the clock means nothing.
    latest: BTreeMap<Group, u64>,
    /// Ready jobs with turns.
    waiting: u64,
}

/// The turns of a level of a class as a snapshot stores them.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct TurnsRecord {
    pub zone: Zone,
    pub requires: NameSet,
    pub level: u8,
    pub clock: u64,
    /// Groups by name, and their latest turns; of those that name no client separately.
    pub groups: Vec<Name>,
    pub latest: Vec<u64>,
    pub latest_unnamed: Option<u64>,
}

members!(TurnsRecord {
    1 zone,
    2 requires,
    3 level,
    4 clock,
    5 groups,
    6 latest,
    7 latest_unnamed,
});

impl Turns {
    /// The turn of a job of a group that becomes ready.
    pub fn next(&mut self, level: usize, clocks: &Clocks, key: &HubKey, group: Group, weight: u32) -> u64 {
        let of_all = clocks[level];
        let level = &mut self.levels[level];
        if level.waiting == 0 {
            level.clock = level.clock.max(of_all);
            level.latest.clear();
        }
        let group = level.place_of(key, group);
        let latest = level.latest.entry(group).or_default();
        *latest = rules::next_turn(*latest, level.clock, weight.clamp(1, WEIGHT_MAX), TURN_MAX);
        *latest
    }

    /// A job with this turn was put into a lane.
    pub fn add(&mut self, level: usize) {
        self.levels[level].waiting += 1;
    }

    /// A job was taken from its lane.
    pub fn remove(&mut self, level: usize) {
        let level = &mut self.levels[level];
        level.waiting -= 1;
        level.forget_groups();
    }

    /// A job with this turn was leased.
    pub fn advance(&mut self, level: usize, turn: u64) {
        let clock = &mut self.levels[level].clock;
        *clock = rules::clock_after(*clock, turn);
    }

    /// The latest turns that were given.
    pub fn latest(&self) -> Clocks {
        self.levels.each_ref().map(|level| level.latest.values().copied().fold(level.clock, u64::max))
    }

    /// All turns from now on come after these. A level of which no job waits has no state of its own.
    pub fn begin_anew(&mut self, clocks: &Clocks) {
        for (level, clock) in self.levels.iter_mut().zip(clocks) {
            level.clock = if level.waiting == 0 { 0 } else { *clock };
            level.latest.clear();
        }
    }

    /// The levels that have a clock or groups, for a snapshot.
    pub fn records(&self, zone: &Zone, requires: &NameSet) -> impl Iterator<Item = TurnsRecord> {
        let used = self.levels.iter().enumerate().filter(|(_, level)| level.clock > 0 || !level.latest.is_empty());
        used.map(|(number, level)| {
            let named = || level.latest.iter().filter_map(|(group, latest)| Some((group.clone()?, *latest)));
            TurnsRecord {
                zone: zone.clone(),
                requires: requires.clone(),
                level: number as u8,
                clock: level.clock,
                groups: named().map(|(group, _)| group).collect(),
                latest: named().map(|(_, latest)| latest).collect(),
                latest_unnamed: level.latest.get(&None).copied(),
            }
        })
    }

    pub fn restore(&mut self, record: TurnsRecord) -> Result<(), &'static str> {
        let TurnsRecord { level, clock, groups, latest, latest_unnamed, .. } = record;
        let level = self.levels.get_mut(usize::from(level)).ok_or("there is no such level of turns")?;
        if groups.len() != latest.len() || groups.len() > GROUPS_MAX {
            return Err("groups have other turns than one each");
        }
        level.clock = clock;
        level.latest = groups.into_iter().map(Some).zip(latest).collect();
        level.latest.extend(latest_unnamed.map(|latest| (None, latest)));
        Ok(())
    }
}

impl Level {
    /// Forgets groups of which no job waits, if there are many for the jobs that wait: those whose turns are over, and if that
    /// is not enough those with the earliest turns. O(groups) then.
    fn forget_groups(&mut self) {
        let max = if self.waiting == 0 { 0 } else { 2 * self.waiting + GROUPS_SPARE };
        if self.latest.len() as u64 <= max {
            return;
        }
        self.latest.retain(|_, latest| *latest > self.clock);
        while self.latest.len() as u64 > max {
            let earliest = self.latest.iter().min_by_key(|(_, latest)| **latest).map(|(group, _)| group.clone());
            self.latest.remove(&earliest.expect("there are more than the most"));
        }
    }

    /// The group whose turns a job gets: its own, unless too many groups have jobs that wait; then it shares with another.
    fn place_of(&mut self, key: &HubKey, group: Group) -> Group {
        if self.latest.len() < GROUPS_MAX || self.latest.contains_key(&group) {
            return group;
        }
        self.latest.retain(|_, latest| *latest > self.clock);
        if self.latest.len() < GROUPS_MAX {
            return group;
        }
        let index = key.group_place(group.as_deref().unwrap_or_default(), self.latest.len() as u64);
        self.latest.keys().nth(index as usize).cloned().unwrap_or(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = 1_024;

    fn name(text: &str) -> Group {
        Some(Name::new(text).unwrap())
    }

    #[test]
    fn groups_alternate_whatever_they_have_waiting() {
        let (mut turns, key) = (Turns::default(), HubKey::new([1; 16]));
        let mut next = |group: &str, weight| {
            turns.add(2);
            turns.next(2, &[0; LEVELS], &key, name(group), weight)
        };
        let of_a: Vec<_> = (0..1_000).map(|_| next("a", 1)).collect();
        assert_eq!(next("b", 1), of_a[0], "it waits for one of the others");
        assert_eq!(next("b", 1), of_a[1]);
        assert_eq!(next("c", 4), STEP / 4, "four times in a round");
    }

    #[test]
    fn a_group_comes_back_at_the_clock() {
        let (mut turns, key) = (Turns::default(), HubKey::new([1; 16]));
        let clocks = [0; LEVELS];
        (0..10).for_each(|_| {
            turns.next(2, &clocks, &key, name("a"), 1);
            turns.add(2);
        });
        turns.advance(2, 5 * STEP);
        assert_eq!(turns.next(2, &clocks, &key, name("b"), 1), 6 * STEP);
        (0..10).for_each(|_| turns.remove(2));
        // Nothing waits any more: a class that was idle goes on where all others are.
        assert_eq!(turns.next(2, &[0, 0, 90 * STEP, 0], &key, name("a"), 1), 91 * STEP);
    }

    #[test]
    fn groups_are_forgotten_with_their_jobs_whether_those_were_leased_or_cancelled() {
        let (mut turns, key) = (Turns::default(), HubKey::new([1; 16]));
        let clocks = [0; LEVELS];
        // One job waits for long; jobs of ever other groups come and go beside it.
        turns.next(2, &clocks, &key, name("long"), 1);
        turns.add(2);
        for number in 0..1_000 {
            let turn = turns.next(2, &clocks, &key, name(&format!("g{number}")), 1);
            turns.add(2);
            if number % 3 == 0 {
                turns.advance(2, turn);
            }
            turns.remove(2);
            assert!(turns.levels[2].latest.len() as u64 <= 2 + GROUPS_SPARE);
        }
        turns.remove(2);
        assert!(turns.levels[2].latest.is_empty());
    }

    #[test]
    fn beyond_the_limit_groups_share_with_others_that_wait() {
        let (mut turns, key) = (Turns::default(), HubKey::new([1; 16]));
        let clocks = [0; LEVELS];
        for number in 0..GROUPS_MAX {
            turns.add(2);
            assert_eq!(turns.next(2, &clocks, &key, name(&format!("g{number}")), 1), STEP);
        }
        turns.add(2);
        assert_eq!(turns.next(2, &clocks, &key, name("late"), 1), 2 * STEP, "it shares");
        turns.advance(2, STEP);
        assert_eq!(turns.next(2, &clocks, &key, name("later"), 1), 2 * STEP, "the others' turns are over");
        assert!(turns.levels[2].latest.len() < 4);
    }
}
