//! Bursts: the events of one rule and group, and the alert about them.
//!
//! ```text
//!             count > threshold                      count <= threshold for the cool-down
//!   quiet ───────────────────────► open (opened) ──────────────────────────────────────► quiet (resolved)
//!                                   │  ▲
//!                                   └──┘ more events: updated, once a cool-down
//! ```
//! An event counts from its instant until just before that instant plus the window. To tell whether there were more
//! than `threshold`, the last `threshold + 1` events are enough, so older ones may be put together: the decision is
//! exact and memory has a bound. O(1) an event, O(entries) when an alert changes.

use super::rule::Rule;
use crate::time::{Millis, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Entries that a burst keeps at least, so that its count and its addresses are right up to so many.
const ENTRIES_MIN: usize = 1_024;

/// An open alert is told anew no more often than this, however short its cool-down is.
const UPDATE_EVERY_MIN: Millis = Millis::from_secs(10);

/// Addresses that an alert names.
const TOP_ADDRESSES: usize = 5;

/// The events of one rule and group.
#[derive(Clone, Debug, Default)]
pub struct Burst {
    entries: VecDeque<Entry>,
    /// Events in the window.
    count: u64,
    latest_at: Timestamp,
    open: Option<Open>,
}

#[derive(Clone, Debug)]
struct Entry {
    at: Timestamp,
    address: Option<IpAddr>,
    count: u64,
}

#[derive(Clone, Debug)]
struct Open {
    opened_at: Timestamp,
    told_at: Timestamp,
    /// Events since it opened, those of the window that opened it included.
    total: u64,
    told_total: u64,
    /// Since when the count is not above the threshold; none while it is.
    quiet_since: Option<Timestamp>,
    /// Something may change then, not before.
    look_at: Timestamp,
}

/// What became of an alert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// A burst began.
    Opened,
    /// It goes on.
    Updated,
    /// It has been quiet for the cool-down.
    Resolved,
}

/// An alert as it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sight {
    /// When it opened.
    pub opened_at: Timestamp,
    /// Events in the window.
    pub count: u64,
    /// Events since it opened, with those that opened it.
    pub total: u64,
    /// The addresses with the most events in the window, and how many.
    pub top: Vec<(IpAddr, u64)>,
}

impl Burst {
    /// `count` events happened at `at`, which is not before the latest one. The alert's change, if there is one, is
    /// seen by [`Burst::look`].
    pub fn add(&mut self, rule: &Rule, at: Timestamp, address: Option<IpAddr>, count: u64) {
        self.expire(rule, at);
        self.latest_at = at;
        self.count = self.count.saturating_add(count);
        match self.entries.back_mut() {
            Some(last) if last.at == at && last.address == address => last.count = last.count.saturating_add(count),
            _ => self.entries.push_back(Entry { at, address, count }),
        }
        if self.entries.len() > entries_max(rule)
            && let (Some(oldest), Some(next)) = (self.entries.pop_front(), self.entries.front_mut())
        {
            next.count = next.count.saturating_add(oldest.count);
        }
        let is_over = self.count > rule.threshold;
        match &mut self.open {
            Some(open) => {
                open.total = open.total.saturating_add(count);
                if is_over {
                    open.quiet_since = None;
                }
                open.look_at = open.look_at.min((open.told_at + update_every(rule)).max(at));
            }
            None if is_over => {
                let total = self.count;
                // Told total 0: the opening is still to be told.
                let open = Open { opened_at: at, told_at: at, total, told_total: 0, quiet_since: None, look_at: at };
                self.open = Some(open);
            }
            None => {}
        }
    }

    /// The alert's next change up to `now`, at its own instant. Ask again until there is none.
    pub fn look(&mut self, rule: &Rule, now: Timestamp) -> Option<(Timestamp, State, Sight)> {
        loop {
            let open = self.open.as_ref().filter(|open| open.look_at <= now)?;
            let at = open.look_at;
            if open.told_total == 0 {
                return Some(self.tell(rule, at, State::Opened));
            }
            self.expire(rule, at);
            let resolve_at = self.fall_at(rule).expect("an open alert's burst ends at some time") + rule.cooldown;
            let open = self.open.as_mut().expect("it was open above");
            let has_news = open.total > open.told_total;
            let update_at = has_news.then(|| (open.told_at + update_every(rule)).max(self.latest_at));
            if resolve_at <= at {
                let told = self.tell(rule, at, State::Resolved);
                self.open = None;
                return Some(told);
            }
            if update_at.is_some_and(|update_at| update_at <= at) {
                return Some(self.tell(rule, at, State::Updated));
            }
            open.look_at = update_at.map_or(resolve_at, |update_at| update_at.min(resolve_at));
        }
    }

    /// When [`Burst::look`] may find something.
    pub fn next_look(&self) -> Option<Timestamp> {
        self.open.as_ref().map(|open| open.look_at)
    }

    /// The open alert.
    pub fn sight(&self) -> Option<Sight> {
        self.open.as_ref().map(|open| self.see(open))
    }

    /// The instant of the latest event.
    pub fn latest_at(&self) -> Timestamp {
        self.latest_at
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn tell(&mut self, rule: &Rule, at: Timestamp, state: State) -> (Timestamp, State, Sight) {
        self.expire(rule, at);
        let open = self.open.as_mut().expect("only an open alert is told");
        (open.told_at, open.told_total) = (at, open.total);
        let sight = self.see(self.open.as_ref().expect("it was open above"));
        (at, state, sight)
    }

    fn see(&self, open: &Open) -> Sight {
        let mut counts: BTreeMap<IpAddr, u64> = BTreeMap::new();
        for entry in &self.entries {
            if let Some(address) = entry.address {
                *counts.entry(address).or_default() += entry.count;
            }
        }
        let mut top: Vec<_> = counts.into_iter().collect();
        top.sort_by_key(|(address, count)| (std::cmp::Reverse(*count), *address));
        top.truncate(TOP_ADDRESSES);
        Sight { opened_at: open.opened_at, count: self.count, total: open.total, top }
    }

    /// Forgets what left the window, and notes when that made the burst quiet.
    fn expire(&mut self, rule: &Rule, now: Timestamp) {
        while let Some(oldest) = self.entries.front().filter(|entry| entry.at + rule.window <= now) {
            let (left_at, count) = (oldest.at + rule.window, oldest.count);
            self.entries.pop_front();
            let was_over = self.count > rule.threshold;
            self.count = self.count.saturating_sub(count);
            if was_over
                && self.count <= rule.threshold
                && let Some(open) = &mut self.open
            {
                open.quiet_since = Some(left_at);
            }
        }
    }

    /// When the count falls to the threshold if nothing more happens, or when it did.
    fn fall_at(&self, rule: &Rule) -> Option<Timestamp> {
        if let Some(at) = self.open.as_ref().and_then(|open| open.quiet_since) {
            return Some(at);
        }
        let mut count = self.count;
        let falls = |entry: &&Entry| {
            count = count.saturating_sub(entry.count);
            count <= rule.threshold
        };
        self.entries.iter().find(falls).map(|entry| entry.at + rule.window)
    }
}

fn entries_max(rule: &Rule) -> usize {
    // A threshold is at most 10,000.
    (rule.threshold as usize + 1).max(ENTRIES_MIN)
}

fn update_every(rule: &Rule) -> Millis {
    rule.cooldown.max(UPDATE_EVERY_MIN)
}
