//! Alerts: bursts of events in the audit log, by rules.
//!
//! One engine for the hub, which hands in each event as it happens, and for a log that is read later: both give the
//! same alerts with the same ids, since time comes from the events. How to drive it: [`Alerts::event`] for each event,
//! [`Alerts::advance`] at [`Alerts::next_deadline`]; both put what changed into a list, each change at its own instant.
//! An event that says an earlier instant than the one before counts as of that.
//!
//! An event that no rule is about costs one comparison a rule, one that counts the parsing of its details. Memory: at
//! most [`ENTRIES_MAX`] entries and [`GROUPS_MAX`] groups a rule, 3 MB; the group that was quiet longest makes room,
//! its alert resolved.

mod burst;
mod rule;

pub use burst::State;
pub use rule::{COOLDOWN_SECS, IGNORED_MAX, Rule, RuleError, THRESHOLDS, WINDOW_SECS};

use crate::integrity::json;
use crate::time::{Millis, Timestamp};
use burst::{Burst, Sight};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Rules at once: each event is compared with each.
pub const RULES_MAX: usize = 32;

/// Groups that a rule counts apart.
pub const GROUPS_MAX: usize = 1_000;

/// Entries that a rule holds, of 40 bytes each, in all groups.
pub const ENTRIES_MAX: usize = 65_536;

/// Bytes of a group's value; what is longer is counted by its beginning.
const GROUP_BYTES_MAX: usize = 256;

const _: () = assert!(ENTRIES_MAX > *THRESHOLDS.end() as usize, "one group has room for its threshold");

/// All rules with what they counted.
#[derive(Clone, Debug, Default)]
pub struct Alerts {
    watches: Vec<Watch>,
    latest_at: Timestamp,
}

/// An alert that opened, goes on or is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// What became of it.
    pub state: State,
    /// The alert.
    pub alert: Alert,
}

/// A burst that somebody should look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alert {
    /// The same for all changes of one alert, and in every run over the same events.
    pub id: u64,
    /// The rule's name.
    pub rule: String,
    /// The events.
    pub event: String,
    /// More than so many in the window are a burst.
    pub threshold: u64,
    /// The time in which they are counted.
    pub window: Millis,
    /// How long it stays open after the burst.
    pub cooldown: Millis,
    /// The member that they are grouped by, and its value.
    pub group: Option<(String, String)>,
    /// When it opened.
    pub opened_at: Timestamp,
    /// Events in the window.
    pub count: u64,
    /// Events since it opened, with those that opened it.
    pub total: u64,
    /// The addresses with the most events in the window, and how many.
    pub top: Vec<(IpAddr, u64)>,
}

/// One rule with what it counted.
#[derive(Clone, Debug)]
struct Watch {
    rule: Rule,
    groups: BTreeMap<Box<str>, Burst>,
    /// Groups by their latest event: who makes room.
    quiet: BTreeSet<(Timestamp, Box<str>)>,
    looks: BTreeSet<(Timestamp, Box<str>)>,
    entries: usize,
    opened_count: u64,
}

/// What an event's details say to the rules.
struct Details<'a>(Option<json::Object<'a>>);

impl Alerts {
    /// An engine for these rules.
    ///
    /// # Errors
    /// A rule that cannot be followed, with its index; more than [`RULES_MAX`] of them are a caller's mistake.
    pub fn new(rules: Vec<Rule>) -> Result<Self, (usize, RuleError)> {
        assert!(rules.len() <= RULES_MAX, "whoever reads the rules counts them");
        for (index, rule) in rules.iter().enumerate() {
            rule.check().map_err(|error| (index, error))?;
        }
        Ok(Alerts { watches: rules.into_iter().map(Watch::new).collect(), latest_at: Timestamp::ZERO })
    }

    /// Goes on with what an engine has counted by the rules that both have. Its other alerts are told to be over:
    /// nobody would hear of them again.
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

    /// An event happened. `details` is its JSON object: `ip` is its address, and a `count` says for how many it stands.
    pub fn event(&mut self, at: Timestamp, event: &str, details: &[u8], changes: &mut Vec<Change>) {
        let at = at.max(self.latest_at);
        let mut parsed = None;
        for index in 0..self.watches.len() {
            if self.watches[index].rule.event != event {
                continue;
            }
            // What is due goes first, for all rules: changes come in the order of time.
            self.advance(at, changes);
            let details = parsed.get_or_insert_with(|| Details(json::parse_object(details).ok()));
            self.watches[index].event(at, details, changes);
        }
    }

    /// Lets time pass.
    pub fn advance(&mut self, now: Timestamp, changes: &mut Vec<Change>) {
        self.latest_at = self.latest_at.max(now);
        while let Some((_, index)) = self.next_look().filter(|(at, _)| *at <= now) {
            self.watches[index].look(now, changes);
        }
    }

    /// When an open alert may change by itself.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.next_look().map(|(at, _)| at)
    }

    /// The open alerts, in the order of the rules.
    pub fn open(&self) -> impl Iterator<Item = Alert> {
        self.watches.iter().flat_map(Watch::open)
    }

    /// The rules, with how many of their alerts are open and how many opened.
    pub fn rules(&self) -> impl Iterator<Item = (&Rule, usize, u64)> {
        self.watches.iter().map(|watch| (&watch.rule, watch.looks.len(), watch.opened_count))
    }

    fn next_look(&self) -> Option<(Timestamp, usize)> {
        let looks = self.watches.iter().enumerate().filter_map(|(index, watch)| Some((watch.next_look()?, index)));
        looks.min()
    }
}

impl Watch {
    fn new(rule: Rule) -> Self {
        let (quiet, looks) = (BTreeSet::new(), BTreeSet::new());
        Watch { rule, groups: BTreeMap::new(), quiet, looks, entries: 0, opened_count: 0 }
    }

    fn event(&mut self, at: Timestamp, details: &Details, changes: &mut Vec<Change>) {
        let address = details.address();
        if address.is_some_and(|address| self.rule.ignores(address)) {
            return;
        }
        let group = self.rule.group_by.as_ref().map_or_else(String::new, |member| details.text(member));
        let group: Box<str> = group.into();
        let mut burst = self.take(&group).unwrap_or_default();
        burst.add(&self.rule, at, address, details.count());
        self.tell(&group, &mut burst, at, changes);
        self.put(group, burst);
        while self.groups.len() > GROUPS_MAX || self.entries > ENTRIES_MAX && self.groups.len() > 1 {
            self.forget_quietest(at, changes);
        }
    }

    fn look(&mut self, now: Timestamp, changes: &mut Vec<Change>) {
        let Some((_, group)) = self.looks.first().cloned() else { return };
        let mut burst = self.take(&group).expect("a group that is to be looked at is held");
        self.tell(&group, &mut burst, now, changes);
        self.put(group, burst);
    }

    fn tell(&mut self, group: &str, burst: &mut Burst, now: Timestamp, changes: &mut Vec<Change>) {
        while let Some((at, state, sight)) = burst.look(&self.rule, now) {
            self.opened_count += u64::from(state == State::Opened);
            changes.push(Change { at, state, alert: self.alert(group, sight) });
        }
    }

    fn take(&mut self, group: &str) -> Option<Burst> {
        let (group, burst) = self.groups.remove_entry(group)?;
        self.entries -= burst.len();
        if let Some(at) = burst.next_look() {
            self.looks.remove(&(at, group.clone()));
        }
        self.quiet.remove(&(burst.latest_at(), group));
        Some(burst)
    }

    fn put(&mut self, group: Box<str>, burst: Burst) {
        self.entries += burst.len();
        if let Some(at) = burst.next_look() {
            self.looks.insert((at, group.clone()));
        }
        self.quiet.insert((burst.latest_at(), group.clone()));
        self.groups.insert(group, burst);
    }

    /// Makes room. An alert that nobody would hear of any more is told to be over.
    fn forget_quietest(&mut self, now: Timestamp, changes: &mut Vec<Change>) {
        let Some((_, group)) = self.quiet.first().cloned() else { return };
        let burst = self.take(&group).expect("a group with an event is held");
        if let Some(sight) = burst.sight() {
            changes.push(Change { at: now, state: State::Resolved, alert: self.alert(&group, sight) });
        }
    }

    fn next_look(&self) -> Option<Timestamp> {
        self.looks.first().map(|(at, _)| *at)
    }

    fn open(&self) -> impl Iterator<Item = Alert> {
        let open = |(_, group): &(Timestamp, Box<str>)| Some(self.alert(group, self.groups.get(group)?.sight()?));
        self.looks.iter().filter_map(open)
    }

    fn alert(&self, group: &str, sight: Sight) -> Alert {
        let Rule { name, event, threshold, window, group_by, cooldown, .. } = &self.rule;
        let Sight { opened_at, count, total, top } = sight;
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
        self.0.as_ref()?.get(member)
    }

    fn address(&self) -> Option<IpAddr> {
        self.get("ip")?.as_str()?.parse().ok()
    }

    /// A line that stands for many says for how many.
    fn count(&self) -> u64 {
        self.get("count").and_then(|count| count.as_u64()).unwrap_or(1).max(1)
    }

    /// The value that a group has; empty without the member.
    fn text(&self, member: &str) -> String {
        let Some(value) = self.get(member) else { return String::new() };
        let text = value.as_str().unwrap_or(value.text().into());
        let end = (0..=GROUP_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text[..end].to_owned()
    }
}

/// The first bytes of a hash: alerts are few, so two never share them.
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
    /// The word for it.
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
