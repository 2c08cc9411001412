//! Alerts: bursts of events in the audit log, by rules.
//! The hub passes each event as it happens; a log may be read later. Both give the same alerts with the same ids, since
//! time comes from the events. How to drive it: call [`Alerts::event`] for each event and [`Alerts::advance`] at
//! [`Alerts::next_deadline`]; both append the changes to a list, each with its own instant. An event with an earlier
//! instant than the one before it counts at the instant of that one.
//!
//! An event that no rule counts costs one comparison per rule; one that is counted also the parsing of its details.
//! Memory: at most [`ENTRIES_MAX`] entries and [`GROUPS_MAX`] groups per rule, 3 MB; beyond them the group whose latest
//! event is the oldest is evicted, and its alert resolved.

mod burst;
mod rule;

pub use burst::State;
pub use rule::{COOLDOWN_SECS, IGNORED_MAX, Rule, RuleError, THRESHOLDS, WINDOW_SECS};

use crate::integrity::json;
use crate::time::{Millis, Timestamp};
use burst::{Burst, OpenAlert};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Rules, built-in ones included: each event is compared with each.
pub const RULES_MAX: usize = 48;

/// Groups of a rule.
pub const GROUPS_MAX: usize = 1_000;

/// Entries of a rule in all its groups, of 40 bytes each.
pub const ENTRIES_MAX: usize = 65_536;

/// Bytes of a group's value; a longer one is truncated.
const GROUP_BYTES_MAX: usize = 256;

const _: () = assert!(ENTRIES_MAX > *THRESHOLDS.end() as usize, "one group has room for its threshold");

/// All rules with their bursts.
#[derive(Clone, Debug, Default)]
pub struct Alerts {
    watches: Vec<Watch>,
    latest_at: Timestamp,
}

/// An alert that opened, was updated or resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub at: Timestamp,
    pub state: State,
    pub alert: Alert,
}

/// A burst of events that is reported to the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alert {
    /// The same for all changes of one alert, and in every run over the same events.
    pub id: u64,
    /// The rule's name.
    pub rule: String,
    /// The name of the events.
    pub event: String,
    /// More than so many in the window are a burst.
    pub threshold: u64,
    /// The time in which they are counted.
    pub window: Millis,
    /// How long it stays open after the burst.
    pub cooldown: Millis,
    /// The member by which they are grouped, and its value.
    pub group: Option<(String, String)>,
    pub opened_at: Timestamp,
    /// Events in the window.
    pub count: u64,
    /// Events since it opened, including those that opened it.
    pub total: u64,
    /// The addresses with the most events in the window, and their counts.
    pub top: Vec<(IpAddr, u64)>,
}

/// One rule with its bursts.
#[derive(Clone, Debug)]
struct Watch {
    rule: Rule,
    groups: BTreeMap<Box<str>, Burst>,
    /// Groups by their latest event: the next one to be evicted is first.
    by_latest_event: BTreeSet<(Timestamp, Box<str>)>,
    checks: BTreeSet<(Timestamp, Box<str>)>,
    entries: usize,
    opened_count: u64,
}

/// The details of an event.
enum Details<'a> {
    /// Absent if they are not a JSON object.
    Parsed(Option<json::Object<'a>>),
    /// Only the address is known.
    Address(IpAddr),
}

impl Alerts {
    /// An engine for these rules.
    ///
    /// # Errors
    /// The index of the first invalid rule.
    ///
    /// # Panics
    /// For more than [`RULES_MAX`] rules.
    pub fn new(rules: Vec<Rule>) -> Result<Self, (usize, RuleError)> {
        assert!(rules.len() <= RULES_MAX, "the configuration's reader has checked the number of rules");
        for (index, rule) in rules.iter().enumerate() {
            rule.check().map_err(|error| (index, error))?;
        }
        Ok(Alerts { watches: rules.into_iter().map(Watch::new).collect(), latest_at: Timestamp::ZERO })
    }

    /// Takes over the bursts of an earlier engine for the rules that both have. The alerts of its other rules are
    /// reported as resolved, since they get no more changes.
    pub fn take_over(&mut self, now: Timestamp, before: Alerts, changes: &mut Vec<Change>) {
        let now = now.max(before.latest_at);
        self.latest_at = self.latest_at.max(now);
        for old in before.watches {
            match self.watches.iter_mut().find(|new| new.rule == old.rule) {
                Some(new) => *new = old,
                None => changes.extend(old.open().map(|alert| Change { at: now, state: State::Resolved, alert })),
            }
        }
    }

    /// Counts an event. `details` is its JSON object: `ip` is its address, `count` how many events it represents.
    pub fn event(&mut self, at: Timestamp, event: &str, details: &[u8], changes: &mut Vec<Change>) {
        self.count(at, event, || Details::Parsed(json::parse_object(details).ok()), changes);
    }

    /// Counts an event that was not written down, if no rule needs more of it than its address.
    pub fn event_of(&mut self, at: Timestamp, event: &str, address: IpAddr, changes: &mut Vec<Change>) {
        assert!(!self.needs_details(event), "a rule that groups by a member gets the event's details");
        self.count(at, event, || Details::Address(address), changes);
    }

    /// Whether a rule groups these events by a member other than their address.
    pub fn needs_details(&self, event: &str) -> bool {
        let mut rules = self.watches.iter().map(|watch| &watch.rule).filter(|rule| rule.event == event);
        rules.any(|rule| rule.group_by.as_ref().is_some_and(|member| member != "ip"))
    }

    fn count<'a>(&mut self, at: Timestamp, event: &str, details: impl Fn() -> Details<'a>, changes: &mut Vec<Change>) {
        let at = at.max(self.latest_at);
        let mut known = None;
        for index in 0..self.watches.len() {
            if self.watches[index].rule.event != event {
                continue;
            }
            // Due changes of all rules come first, so that changes are in the order of time.
            self.advance(at, changes);
            self.watches[index].event(at, known.get_or_insert_with(&details), changes);
        }
    }

    /// Appends the changes that are due up to `now`.
    pub fn advance(&mut self, now: Timestamp, changes: &mut Vec<Change>) {
        self.latest_at = self.latest_at.max(now);
        while let Some((_, index)) = self.next_check().filter(|(at, _)| *at <= now) {
            self.watches[index].check_next(now, changes);
        }
    }

    /// When an open alert may change without another event.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.next_check().map(|(at, _)| at)
    }

    /// The open alerts, in the order of the rules.
    pub fn open(&self) -> impl Iterator<Item = Alert> {
        self.watches.iter().flat_map(Watch::open)
    }

    /// The rules, each with the number of its open alerts and of all that opened.
    pub fn rules(&self) -> impl Iterator<Item = (&Rule, usize, u64)> {
        self.watches.iter().map(|watch| (&watch.rule, watch.checks.len(), watch.opened_count))
    }

    fn next_check(&self) -> Option<(Timestamp, usize)> {
        let checks = self.watches.iter().enumerate().filter_map(|(index, watch)| Some((watch.next_check_at()?, index)));
        checks.min()
    }
}

impl Watch {
    fn new(rule: Rule) -> Self {
        let (by_latest_event, checks) = (BTreeSet::new(), BTreeSet::new());
        Watch { rule, groups: BTreeMap::new(), by_latest_event, checks, entries: 0, opened_count: 0 }
    }

    fn event(&mut self, at: Timestamp, details: &Details, changes: &mut Vec<Change>) {
        let address = details.address();
        if address.is_some_and(|address| self.rule.ignores(address)) {
            return;
        }
        let group = self.rule.group_by.as_ref().map_or_else(String::new, |member| details.text(member));
        let group: Box<str> = group.into();
        let mut burst = self.remove(&group).unwrap_or_default();
        burst.add(&self.rule, at, address, details.count());
        self.report_changes(&group, &mut burst, at, changes);
        self.insert(group, burst);
        while self.groups.len() > GROUPS_MAX || self.entries > ENTRIES_MAX && self.groups.len() > 1 {
            self.evict_quietest(at, changes);
        }
    }

    fn check_next(&mut self, now: Timestamp, changes: &mut Vec<Change>) {
        let Some((_, group)) = self.checks.first().cloned() else { return };
        let mut burst = self.remove(&group).expect("a group with a check is held");
        self.report_changes(&group, &mut burst, now, changes);
        self.insert(group, burst);
    }

    fn report_changes(&mut self, group: &str, burst: &mut Burst, now: Timestamp, changes: &mut Vec<Change>) {
        while let Some((at, state, open)) = burst.next_change(&self.rule, now) {
            self.opened_count += u64::from(state == State::Opened);
            changes.push(Change { at, state, alert: self.alert(group, open) });
        }
    }

    fn remove(&mut self, group: &str) -> Option<Burst> {
        let (group, burst) = self.groups.remove_entry(group)?;
        self.entries -= burst.len();
        if let Some(at) = burst.next_check_at() {
            self.checks.remove(&(at, group.clone()));
        }
        self.by_latest_event.remove(&(burst.latest_at(), group));
        Some(burst)
    }

    fn insert(&mut self, group: Box<str>, burst: Burst) {
        self.entries += burst.len();
        if let Some(at) = burst.next_check_at() {
            self.checks.insert((at, group.clone()));
        }
        self.by_latest_event.insert((burst.latest_at(), group.clone()));
        self.groups.insert(group, burst);
    }

    /// Evicts the group whose latest event is the oldest. Its alert is reported as resolved, since it gets no more
    /// changes.
    fn evict_quietest(&mut self, now: Timestamp, changes: &mut Vec<Change>) {
        let Some((_, group)) = self.by_latest_event.first().cloned() else { return };
        let burst = self.remove(&group).expect("a group with an event is held");
        if let Some(open) = burst.open_alert() {
            changes.push(Change { at: now, state: State::Resolved, alert: self.alert(&group, open) });
        }
    }

    fn next_check_at(&self) -> Option<Timestamp> {
        self.checks.first().map(|(at, _)| *at)
    }

    fn open(&self) -> impl Iterator<Item = Alert> {
        let open = |(_, group): &(Timestamp, Box<str>)| Some(self.alert(group, self.groups.get(group)?.open_alert()?));
        self.checks.iter().filter_map(open)
    }

    fn alert(&self, group: &str, open: OpenAlert) -> Alert {
        let Rule { name, event, threshold, window, group_by, cooldown, .. } = &self.rule;
        let OpenAlert { opened_at, count, total, top } = open;
        Alert {
            id: id(name, group, opened_at),
            rule: name.clone(),
            event: event.clone(),
            threshold: *threshold,
            window: *window,
            cooldown: *cooldown,
            group: group_by.as_ref().map(|member| (member.clone(), group.to_owned())),
            opened_at,
            count,
            total,
            top,
        }
    }
}

impl Details<'_> {
    fn get(&self, member: &str) -> Option<json::Value<'_>> {
        match self {
            Details::Parsed(object) => object.as_ref()?.get(member),
            Details::Address(_) => None,
        }
    }

    fn address(&self) -> Option<IpAddr> {
        match self {
            Details::Parsed(_) => self.get("ip")?.as_str()?.parse().ok(),
            Details::Address(address) => Some(*address),
        }
    }

    /// How many events a line represents: 1 if it does not say.
    fn count(&self) -> u64 {
        self.get("count").and_then(|count| count.as_u64()).unwrap_or(1).max(1)
    }

    /// The value by which the event is grouped; empty without the member.
    fn text(&self, member: &str) -> String {
        if let (Details::Address(address), "ip") = (self, member) {
            return address.to_string();
        }
        let Some(value) = self.get(member) else { return String::new() };
        let text = value.as_str().unwrap_or(value.text().into());
        let end = (0..=GROUP_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text[..end].to_owned()
    }
}

/// The first bytes of a hash: alerts are so few that two never have the same.
fn id(rule: &str, group: &str, opened_at: Timestamp) -> u64 {
    let mut hasher = Sha256::new();
    for text in [rule, group] {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hasher.update(opened_at.as_millis().to_le_bytes());
    u64::from_be_bytes(*hasher.finalize().first_chunk().expect("a hash has 32 bytes"))
}

impl State {
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Opened => "opened",
            State::Updated => "updated",
            State::Resolved => "resolved",
        }
    }
}

#[cfg(test)]
mod tests;
