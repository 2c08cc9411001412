//! Bursts: the events of one rule and group, and the alert about them.
//!
//! ```text
//!             count > threshold                      count <= threshold for the cool-down
//!   quiet ───────────────────────► open (opened) ──────────────────────────────────────► quiet (resolved)
//!                                   │  ▲
//!                                   └──┘ more events: updated, once a cool-down
//! ```
//! An event counts from its instant until just before that instant plus the window. To decide whether there were more
//! than `threshold`, the last `threshold + 1` events are enough, so older ones may be merged: the decision is exact and
//! memory is bounded. O(1) for an event, O(entries) when an alert changes.

use super::rule::Rule;
use crate::time::{Millis, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// So many entries are kept in any case, so that the count and the addresses of smaller bursts are exact.
const ENTRIES_MIN: usize = 1_024;

/// Updates of an open alert are at least this far apart, however short its cool-down is.
const UPDATE_INTERVAL_MIN: Millis = Millis::from_secs(10);

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
    reported_at: Timestamp,
    /// Events since it opened, those of the window that opened it included.
    total: u64,
    reported_total: u64,
    /// Since when the count has not been above the threshold; `None` while it is.
    quiet_since: Option<Timestamp>,
    /// No change is due before this.
    check_at: Timestamp,
}

/// How an alert changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// A burst began.
    Opened,
    /// There were more events.
    Updated,
    /// The burst has been over for the cool-down.
    Resolved,
}

/// An open alert at an instant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenAlert {
    /// When it opened.
    pub opened_at: Timestamp,
    /// Events in the window.
    pub count: u64,
    /// Events since it opened, including those that opened it.
    pub total: u64,
    /// The addresses with the most events in the window, and their counts.
    pub top: Vec<(IpAddr, u64)>,
}

impl Burst {
    /// Adds `count` events at `at`, which is not before the latest one. [`Burst::next_change`] returns the alert's
    /// change, if any.
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
                open.check_at = open.check_at.min((open.reported_at + update_interval(rule)).max(at));
            }
            None if is_over => {
                let total = self.count;
                // A reported total of 0: the opening is not reported yet.
                let open =
                    Open { opened_at: at, reported_at: at, total, reported_total: 0, quiet_since: None, check_at: at };
                self.open = Some(open);
            }
            None => {}
        }
    }

    /// The alert's next change up to `now`, with its own instant. Call this until it returns `None`.
    pub fn next_change(&mut self, rule: &Rule, now: Timestamp) -> Option<(Timestamp, State, OpenAlert)> {
        loop {
            let open = self.open.as_ref().filter(|open| open.check_at <= now)?;
            let at = open.check_at;
            if open.reported_total == 0 {
                return Some(self.report(rule, at, State::Opened));
            }
            self.expire(rule, at);
            let resolve_at =
                self.quiet_at(rule).expect("the burst of an open alert ends when its events have left the window")
                    + rule.cooldown;
            let open = self.open.as_mut().expect("it was open above");
            let is_changed = open.total > open.reported_total;
            let update_at = is_changed.then(|| (open.reported_at + update_interval(rule)).max(self.latest_at));
            if resolve_at <= at {
                let change = self.report(rule, at, State::Resolved);
                self.open = None;
                return Some(change);
            }
            if update_at.is_some_and(|update_at| update_at <= at) {
                return Some(self.report(rule, at, State::Updated));
            }
            open.check_at = update_at.map_or(resolve_at, |update_at| update_at.min(resolve_at));
        }
    }

    /// When [`Burst::next_change`] may return a change.
    pub fn next_check_at(&self) -> Option<Timestamp> {
        self.open.as_ref().map(|open| open.check_at)
    }

    pub fn open_alert(&self) -> Option<OpenAlert> {
        self.open.as_ref().map(|open| self.describe(open))
    }

    /// The instant of the latest event.
    pub fn latest_at(&self) -> Timestamp {
        self.latest_at
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn report(&mut self, rule: &Rule, at: Timestamp, state: State) -> (Timestamp, State, OpenAlert) {
        self.expire(rule, at);
        let open = self.open.as_mut().expect("only an open alert is reported");
        (open.reported_at, open.reported_total) = (at, open.total);
        let alert = self.describe(self.open.as_ref().expect("it was open above"));
        (at, state, alert)
    }

    fn describe(&self, open: &Open) -> OpenAlert {
        let mut counts: BTreeMap<IpAddr, u64> = BTreeMap::new();
        for entry in &self.entries {
            if let Some(address) = entry.address {
                *counts.entry(address).or_default() += entry.count;
            }
        }
        let mut top: Vec<_> = counts.into_iter().collect();
        top.sort_by_key(|(address, count)| (std::cmp::Reverse(*count), *address));
        top.truncate(TOP_ADDRESSES);
        OpenAlert { opened_at: open.opened_at, count: self.count, total: open.total, top }
    }

    /// Removes the entries that have left the window, and records when the count fell to the threshold.
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

    /// When the count fell to the threshold, or will fall to it without more events.
    fn quiet_at(&self, rule: &Rule) -> Option<Timestamp> {
        if let Some(at) = self.open.as_ref().and_then(|open| open.quiet_since) {
            return Some(at);
        }
        let mut count = self.count;
        let ends_burst = |entry: &&Entry| {
            count = count.saturating_sub(entry.count);
            count <= rule.threshold
        };
        self.entries.iter().find(ends_burst).map(|entry| entry.at + rule.window)
    }
}

fn entries_max(rule: &Rule) -> usize {
    // A threshold is at most 10,000.
    (rule.threshold as usize + 1).max(ENTRIES_MIN)
}

fn update_interval(rule: &Rule) -> Millis {
    rule.cooldown.max(UPDATE_INTERVAL_MIN)
}
