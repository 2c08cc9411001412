//! Kinds with rules in the model: a row each.

use sheratan_core::limits::{RATE_UNITS, RULED_KINDS_MAX};
use sheratan_core::{KindRules, Name, Refusal, SetKind, Timestamp};

#[derive(Default, Debug)]
pub(super) struct ModelKinds {
    rows: Vec<ModelKind>,
    /// The highest version of rules that were removed.
    removed_version: u64,
}

/// A kind with rules.
#[derive(Clone, PartialEq, Debug)]
pub struct ModelKind {
    /// Its name.
    pub name: Name,
    /// Its rules.
    pub rules: KindRules,
    /// How often they changed.
    pub version: u64,
    /// What its rate allows at once, in millionths of a lease at the instant.
    level: u64,
    at: Timestamp,
    /// What the file of settings said last: a kind that is in it keeps its row.
    configured: KindRules,
}

impl ModelKinds {
    pub fn rows(&self) -> &[ModelKind] {
        &self.rows
    }

    fn get(&self, name: &Name) -> Option<&ModelKind> {
        self.rows.iter().find(|row| row.name == *name)
    }

    /// The rules of a kind; none if none are set.
    pub fn rules(&self, name: &Name) -> KindRules {
        self.get(name).map_or(KindRules::NONE, |row| row.rules.clone())
    }

    pub fn version(&self, name: &Name) -> u64 {
        self.get(name).map_or(self.removed_version, |row| row.version)
    }

    /// Sets the rules of a kind; without a member they are removed.
    pub fn set(&mut self, now: Timestamp, set: &SetKind) -> Result<(), Refusal> {
        let version = self.version(&set.kind);
        if set.expected.is_some_and(|expected| expected != version) {
            return Err(Refusal::KindChanged { version });
        }
        if self.get(&set.kind).is_none() && self.rows.len() >= RULED_KINDS_MAX {
            return Err(Refusal::RuledKindsFull { kinds: self.rows.len() as u64 });
        }
        // A new rate begins with nothing saved.
        let kept = self.get(&set.kind).filter(|row| row.rules.leases_per_1000_sec == set.rules.leases_per_1000_sec);
        let (level, at) = kept.map_or((0, now), |row| (row.level, row.at));
        let known = || self.get(&set.kind).map_or(KindRules::NONE, |row| row.configured.clone());
        let configured = set.configured.clone().unwrap_or_else(known);
        self.rows.retain(|row| row.name != set.kind);
        let (name, rules) = (set.kind.clone(), set.rules.clone());
        self.rows.push(ModelKind { name, rules, version: version + 1, level, at, configured });
        Ok(())
    }

    /// Removes rules without a member, unless their pause ends at once.
    pub fn remove_empty(&mut self) {
        let is_empty = |row: &ModelKind| row.rules == KindRules::NONE && row.configured == KindRules::NONE;
        let versions = self.rows.iter().filter(|row| is_empty(row)).map(|row| row.version);
        self.removed_version = versions.fold(self.removed_version, u64::max);
        self.rows.retain(|row| !is_empty(row));
    }

    /// When pauses end, with the kinds' places.
    pub fn pause_ends(&self) -> impl Iterator<Item = (Timestamp, usize)> {
        let untils = self.rows.iter().map(|row| row.rules.pause.as_ref().and_then(|pause| pause.until));
        untils.enumerate().filter_map(|(at, until)| Some((until?, at)))
    }

    /// The pause of the kind at a place is over.
    pub fn end_pause(&mut self, at: usize) {
        self.rows[at].rules.pause = None;
        self.rows[at].version += 1;
        self.remove_empty();
    }

    /// Whether a job of a kind may be leased, of which so many are under lease.
    pub fn is_open(&self, now: Timestamp, name: &Name, leased: u64) -> bool {
        self.get(name).is_none_or(|row| {
            row.rules.pause.is_none()
                && row.rules.inflight_max.is_none_or(|max| leased < max)
                && row.rules.leases_per_1000_sec.is_none_or(|rate| row.level_at(rate, now) >= RATE_UNITS)
        })
    }

    /// A job of a kind is leased.
    pub fn spend(&mut self, now: Timestamp, name: &Name) {
        for row in self.rows.iter_mut().filter(|row| row.name == *name) {
            row.level = match row.rules.leases_per_1000_sec {
                Some(rate) => row.level_at(rate, now).saturating_sub(RATE_UNITS),
                None => 0,
            };
            row.at = now;
        }
    }
}

impl ModelKind {
    /// What has come since, up to the burst: by default the leases of a second, and at least one.
    fn level_at(&self, rate: u64, now: Timestamp) -> u64 {
        let burst = self.rules.burst.map_or(rate.div_ceil(1_000), u64::from).max(1);
        let gained = now.since(self.at).get().saturating_mul(rate);
        self.level.saturating_add(gained).min(burst.saturating_mul(RATE_UNITS))
    }
}
