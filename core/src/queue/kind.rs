//! Kinds: the names of what jobs do, a row for each that a job or a parked long poll names, or that has rules.

use crate::encoding::members;
use crate::ledger::{Account, Ledger};
use crate::limits::{KIND_BYTES, KIND_RULES_BYTES, RULED_KINDS_MAX};
use crate::name::Name;
use crate::outcome::Refusal;
use crate::queue::kind_rules::{Bucket, Gate, KindRules};
use crate::queue::retry_budget::Earned;
use crate::queue::rows::Rows;
use crate::queue::tally::{Status, Tally};
use crate::telemetry::kinds::RowRef;
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// A kind's row. Derived: a restored hub may give other numbers, and neither durable state nor decisions depend on
/// them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct KindIndex(pub(crate) u32);

/// The capacity of a kind's list of lanes is not reduced below this.
const LANES_CAPACITY_MIN: usize = 16;

/// All kinds that a job or a parked long poll names.
#[derive(Default, Debug)]
pub(crate) struct Kinds {
    by_name: BTreeMap<Name, KindIndex>,
    rows: Rows<Kind>,
    /// Bytes of kinds that only final jobs name.
    idle_bytes: u64,
    /// The names of those with rules: up to [`RULED_KINDS_MAX`], among as many kinds as jobs name.
    ruled: BTreeSet<Name>,
    /// The version of a kind without rules: at least that of any rules that were removed, so that no version of a kind
    /// comes twice, and those that are gone need no rows.
    version_floor: u64,
}

/// One kind.
#[derive(Debug)]
pub(crate) struct Kind {
    name: Name,
    /// Jobs, final ones included: while there are any, the row is on the shared account.
    jobs: u64,
    /// The same by state, while there are any.
    tally: Option<Box<Tally>>,
    /// Places of parked long polls: while there are any, the row is on the waiters' account (as well). They are not
    /// durable, so no decision may depend on them.
    places: u64,
    /// Slots of the classes in which it has a lane.
    lanes: Vec<u16>,
    /// Its row in telemetry.
    telemetry_row: Option<RowRef>,
    /// Absent for a kind that no job has. Boxed: many polls may wait for kinds that do not exist.
    state: Option<Box<State>>,
    /// Whether its lanes are offered to nodes. Kept by [`Queue::update_gate`](super::Queue).
    pub(super) is_open: bool,
}

/// What changes as jobs of a kind run, and its rules.
#[derive(Clone, PartialEq, Default, Debug)]
struct State {
    /// Its jobs under lease, those included whose lease is held.
    leased: u64,
    /// What it earned for retries, as long as it has jobs.
    earned: Earned,
    ruled: Option<Box<Ruled>>,
}

/// The rules of a kind.
#[derive(Clone, PartialEq, Debug)]
struct Ruled {
    rules: KindRules,
    /// When its gate opens by itself: the instant of its timer.
    opens_at: Timestamp,
    /// Counts the changes.
    version: u64,
    bucket: Bucket,
    /// What `hub.toml` set last; what an operator set since is kept until the file says otherwise.
    configured: Option<Box<KindRules>>,
}

/// A kind with rules, as a snapshot holds it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct KindRecord {
    name: Name,
    rules: KindRules,
    version: u64,
    bucket: Bucket,
    configured: Option<Box<KindRules>>,
}

members!(KindRecord { 1 name: required, 2 rules: required, 3 version: required, 4 bucket, 5 configured });

impl Kinds {
    pub fn find(&self, name: &str) -> Option<KindIndex> {
        self.by_name.get(name).copied()
    }

    pub fn name(&self, kind: KindIndex) -> &Name {
        &self.row(kind).name
    }

    /// What one more job of a kind would be charged for its row: nothing if there is a job of the kind already.
    pub fn bytes_if_new(&self, kind: Option<KindIndex>, name: &Name) -> u64 {
        let is_known = kind.is_some_and(|kind| self.row(kind).jobs > 0);
        if is_known { 0 } else { bytes(name) }
    }

    /// Counts a new job. `kind` is the row of the name, if it exists.
    pub fn add_job(&mut self, ledger: &mut Ledger, kind: Option<KindIndex>, name: &Name) -> KindIndex {
        let kind = kind.unwrap_or_else(|| self.intern(name));
        let row = self.row_mut(kind);
        row.jobs += 1;
        if row.jobs == 1 {
            ledger.charge(Account::Shared, bytes(name));
            self.idle_bytes += bytes(name);
        }
        kind
    }

    /// Records that the kind has a lane in the class in `slot`: it has unfinished jobs.
    pub fn add_lane(&mut self, kind: KindIndex, slot: u16) {
        let row = self.row_mut(kind);
        row.lanes.push(slot);
        if row.lanes.len() == 1 {
            self.idle_bytes -= bytes(&self.row(kind).name);
        }
    }

    /// Records that the kind has no unfinished jobs in the class in `slot` any more.
    pub fn remove_lane(&mut self, kind: KindIndex, slot: u16) {
        let lanes = &mut self.row_mut(kind).lanes;
        let place = lanes.iter().position(|other| *other == slot).expect("a kind knows its lanes");
        lanes.swap_remove(place);
        if lanes.capacity() > LANES_CAPACITY_MIN && lanes.len() < lanes.capacity() / 4 {
            lanes.shrink_to(lanes.len() * 2);
        }
        if lanes.is_empty() {
            self.idle_bytes += bytes(&self.row(kind).name);
        }
    }

    /// Uncounts a job that was dropped; returns whether that removes the kind.
    pub fn remove_job(&mut self, ledger: &mut Ledger, kind: KindIndex) -> bool {
        let row = self.row_mut(kind);
        row.jobs -= 1;
        if row.jobs == 0 {
            let bytes = bytes(&row.name);
            ledger.release(Account::Shared, bytes);
            self.idle_bytes -= bytes;
            // Not with the row: long polls may keep that, and they are not durable.
            self.row_mut(kind).change(|state| state.earned = Earned::default());
        }
        self.remove_if_unused(kind)
    }

    /// Moves a job of a kind from the state that it was counted under, if it was, to the one that it is in, if it is held.
    pub fn count(&mut self, kind: KindIndex, before: Option<Status>, after: Option<Status>) {
        let tally = &mut self.row_mut(kind).tally;
        tally.get_or_insert_default().count(before, after);
        if after.is_none() && tally.as_ref().is_some_and(|tally| tally.total() == 0) {
            *tally = None;
        }
    }

    /// Counts a parked long poll that waits for this kind.
    pub fn add_place(&mut self, ledger: &mut Ledger, name: &Name) -> KindIndex {
        let kind = self.intern(name);
        let row = self.row_mut(kind);
        row.places += 1;
        if row.places == 1 {
            ledger.charge(Account::Waiters, bytes(name));
        }
        kind
    }

    /// Uncounts a long poll that is no longer parked; returns whether that removes the kind.
    pub fn remove_place(&mut self, ledger: &mut Ledger, kind: KindIndex) -> bool {
        let row = self.row_mut(kind);
        row.places -= 1;
        if row.places == 0 {
            ledger.release(Account::Waiters, bytes(&row.name));
        }
        self.remove_if_unused(kind)
    }

    /// Kinds with rules, in the order of their names: name, rules, version. O(log kinds) for each.
    pub fn ruled(&self) -> impl Iterator<Item = (&Name, &KindRules, u64)> {
        self.ruled_rows().map(|(name, _, ruled)| (name, &ruled.rules, ruled.version))
    }

    fn ruled_rows(&self) -> impl Iterator<Item = (&Name, KindIndex, &Ruled)> {
        self.ruled.iter().map(|name| {
            let kind = self.by_name[name];
            (name, kind, self.row(kind).ruled().expect("it is among those with rules"))
        })
    }

    /// The names of kinds that have rules or jobs, from one on, in order. O(log kinds), and O(1) for each that is passed.
    pub fn named_from(&self, from: Option<&str>) -> impl Iterator<Item = &Name> {
        let from = from.map_or(Bound::Unbounded, Bound::Included);
        let rows = self.by_name.range::<str, _>((from, Bound::Unbounded));
        let is_listed = |row: &Kind| row.tally.is_some() || row.has_rules();
        rows.filter(move |(_, kind)| is_listed(self.row(**kind))).map(|(name, _)| name)
    }

    /// The rules of a kind, and their version.
    pub fn rules_of(&self, name: &str) -> (&KindRules, u64) {
        let ruled = self.find(name).and_then(|kind| self.row(kind).ruled());
        ruled.map_or((&KindRules::NONE, self.version_floor), |ruled| (&ruled.rules, ruled.version))
    }

    /// What `hub.toml` set last for a kind.
    pub fn configured(&self, name: &str) -> &KindRules {
        let ruled = self.find(name).and_then(|kind| self.row(kind).ruled());
        ruled.and_then(|ruled| ruled.configured.as_deref()).unwrap_or(&KindRules::NONE)
    }

    /// Sets the rules of a kind if their version is `expected`, and returns the kind; its gate is updated afterwards, and
    /// rules without a member are removed by [`Kinds::remove_empty_rules`].
    pub fn set_rules(
        &mut self,
        ledger: &mut Ledger,
        now: Timestamp,
        (name, rules, configured): (&Name, KindRules, Option<KindRules>),
        expected: Option<u64>,
    ) -> Result<KindIndex, Refusal> {
        let (old, version) = self.rules_of(name);
        if expected.is_some_and(|expected| expected != version) {
            return Err(Refusal::KindChanged { version });
        }
        let is_new = self.find(name).is_none_or(|kind| !self.row(kind).has_rules());
        if is_new && self.ruled.len() >= RULED_KINDS_MAX {
            return Err(Refusal::RuledKindsFull { kinds: self.ruled.len() as u64 });
        }
        let has_same_rate = old.leases_per_1000_sec == rules.leases_per_1000_sec;
        let kind = self.intern(name);
        let row = self.row_mut(kind);
        let bucket = row.ruled().map(|ruled| ruled.bucket).filter(|_| has_same_rate);
        let bucket = bucket.unwrap_or(Bucket::empty(now));
        let opens_at = row.opens_at();
        let before = row.ruled().map_or(0, |ruled| ruled_bytes(name, ruled));
        let configured = match configured {
            Some(rules) => Some(Box::new(rules)).filter(|rules| **rules != KindRules::NONE),
            None => row.ruled().and_then(|ruled| ruled.configured.clone()),
        };
        let ruled = Ruled { rules, opens_at, version: version + 1, bucket, configured };
        ledger.charge(Account::Shared, ruled_bytes(name, &ruled));
        ledger.release(Account::Shared, before);
        row.change(|state| state.ruled = Some(Box::new(ruled)));
        if is_new {
            self.ruled.insert(name.clone());
        }
        Ok(kind)
    }

    /// Removes rules without a member, unless `hub.toml` has some, and the row if nothing else needs it.
    pub fn remove_empty_rules(&mut self, ledger: &mut Ledger, kind: KindIndex) {
        let row = self.row_mut(kind);
        let is_empty = |ruled: &mut Box<Ruled>| ruled.rules == KindRules::NONE && ruled.configured.is_none();
        let ruled = row.state.as_mut().and_then(|state| state.ruled.take_if(is_empty));
        if let Some(ruled) = ruled {
            row.change(|_| ());
            ledger.release(Account::Shared, ruled_bytes(&row.name, &ruled));
            let name = row.name.clone();
            self.ruled.remove(&name);
            self.version_floor = self.version_floor.max(ruled.version);
            self.remove_if_unused(kind);
        }
    }

    /// What kinds earned for retries, in the order of their names.
    pub fn earned(&self) -> impl Iterator<Item = (&Name, Earned)> {
        let earned = self.by_name.iter().map(|(name, kind)| (name, self.row(*kind).earned()));
        earned.filter(|(_, earned)| *earned != Earned::default())
    }

    /// The version of a kind without rules.
    pub fn version_floor(&self) -> u64 {
        self.version_floor
    }

    pub fn restore_version_floor(&mut self, version: u64) {
        self.version_floor = version;
    }

    /// The kinds with rules, for the snapshot.
    pub fn records(&self) -> impl Iterator<Item = KindRecord> {
        self.ruled_rows().map(|(name, _, ruled)| {
            let Ruled { rules, version, bucket, configured, .. } = ruled.clone();
            KindRecord { name: name.clone(), rules, version, bucket, configured }
        })
    }

    /// Restores a kind of a snapshot.
    pub fn restore(&mut self, ledger: &mut Ledger, record: KindRecord) -> Result<(), &'static str> {
        let KindRecord { name, rules, version, bucket, configured } = record;
        if self.by_name.last_key_value().is_some_and(|(last, _)| *last >= name) || version == 0 {
            return Err("kinds with rules are not in the order of their names, or one has no version");
        }
        let kind = self.intern(&name);
        let ruled = Ruled { rules, opens_at: Timestamp::NEVER, version, bucket, configured };
        ledger.charge(Account::Shared, ruled_bytes(&name, &ruled));
        self.row_mut(kind).change(|state| state.ruled = Some(Box::new(ruled)));
        self.ruled.insert(name);
        Ok(())
    }

    /// The kinds with rules.
    pub fn ruled_indexes(&self) -> Vec<KindIndex> {
        self.ruled_rows().map(|(_, kind, _)| kind).collect()
    }

    pub fn row(&self, kind: KindIndex) -> &Kind {
        self.rows.get(kind.0)
    }

    pub fn row_mut(&mut self, kind: KindIndex) -> &mut Kind {
        self.rows.get_mut(kind.0)
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The jobs of a kind by state, with its name; `None` if there are none.
    pub fn tally(&self, name: &str) -> Option<(&Name, &Tally)> {
        let (name, kind) = self.by_name.get_key_value(name)?;
        Some((name, self.row(*kind).tally.as_deref()?))
    }

    /// The kinds that jobs are of, in the order of their names, with their jobs by state.
    pub fn tallies(&self) -> impl Iterator<Item = (&Name, &Tally)> {
        let rows = self.by_name.iter().map(|(name, kind)| (name, self.row(*kind)));
        rows.filter_map(|(name, row)| Some((name, row.tally.as_deref()?)))
    }

    /// Bytes of kinds that only final jobs name.
    pub fn idle_bytes(&self) -> u64 {
        self.idle_bytes
    }

    /// What the rows are charged for jobs and for long polls, recomputed. O(n).
    pub fn bytes(&self) -> (u64, u64) {
        let idle = self.rows.iter().filter(|row| row.jobs > 0 && row.lanes.is_empty());
        assert_eq!(self.idle_bytes, idle.map(|row| bytes(&row.name)).sum::<u64>());
        let ruled = self.rows.iter().filter_map(|row| Some(ruled_bytes(&row.name, row.ruled()?)));
        let ruled: u64 = ruled.sum();
        self.rows.iter().fold((ruled, 0), |(jobs, places), row| {
            let bytes = bytes(&row.name);
            (jobs + if row.jobs > 0 { bytes } else { 0 }, places + if row.places > 0 { bytes } else { 0 })
        })
    }

    fn intern(&mut self, name: &Name) -> KindIndex {
        if let Some(kind) = self.by_name.get(name) {
            return *kind;
        }
        let row = Kind {
            name: name.clone(),
            jobs: 0,
            tally: None,
            places: 0,
            lanes: Vec::new(),
            telemetry_row: None,
            state: None,
            is_open: true,
        };
        let kind = KindIndex(self.rows.insert(row));
        self.by_name.insert(name.clone(), kind);
        kind
    }

    fn remove_if_unused(&mut self, kind: KindIndex) -> bool {
        let row = self.row(kind);
        if row.jobs > 0 || row.places > 0 || row.has_rules() {
            return false;
        }
        assert!(row.lanes.is_empty(), "a kind with a lane has jobs");
        let row = self.rows.remove(kind.0);
        self.by_name.remove(&row.name);
        true
    }
}

impl Kind {
    /// Slots of the classes in which it has a lane.
    pub fn lanes(&self) -> &[u16] {
        &self.lanes
    }

    fn ruled(&self) -> Option<&Ruled> {
        self.state.as_ref()?.ruled.as_deref()
    }

    fn ruled_mut(&mut self) -> Option<&mut Ruled> {
        self.state.as_mut()?.ruled.as_deref_mut()
    }

    /// Changes its state, which is removed if nothing is left in it.
    fn change(&mut self, change: impl FnOnce(&mut State)) {
        let state = self.state.get_or_insert_default();
        change(state);
        if **state == State::default() {
            self.state = None;
        }
    }

    pub fn rules(&self) -> &KindRules {
        self.ruled().map_or(&KindRules::NONE, |ruled| &ruled.rules)
    }

    /// When its gate opens by itself: the instant of its timer.
    pub(super) fn opens_at(&self) -> Timestamp {
        self.ruled().map_or(Timestamp::NEVER, |ruled| ruled.opens_at)
    }

    pub(super) fn set_opens_at(&mut self, at: Timestamp) {
        if let Some(ruled) = self.ruled_mut() {
            ruled.opens_at = at;
        }
    }

    /// What it earned for retries, as long as it has jobs.
    pub(super) fn earned(&self) -> Earned {
        self.state.as_ref().map_or(Earned::default(), |state| state.earned)
    }

    pub(super) fn earned_mut(&mut self) -> &mut Earned {
        &mut self.state.get_or_insert_default().earned
    }

    pub fn has_jobs(&self) -> bool {
        self.jobs > 0
    }

    pub fn has_rules(&self) -> bool {
        self.ruled().is_some()
    }

    /// Its jobs under lease, those included whose lease is held.
    pub fn leased(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.leased)
    }

    /// Whether a job of it may be leased now.
    pub fn gate(&self, now: Timestamp) -> Gate {
        let Some(ruled) = self.ruled() else { return Gate::Open };
        ruled.rules.gate(self.leased(), ruled.bucket, now)
    }

    /// All for which no job of it may be leased now.
    pub fn closed(&self, now: Timestamp) -> impl Iterator<Item = Gate> {
        self.ruled().into_iter().flat_map(move |ruled| ruled.rules.closed(self.leased(), ruled.bucket, now))
    }

    /// How many more jobs of it may be leased now.
    pub fn room(&self, now: Timestamp) -> u64 {
        self.ruled().map_or(u64::MAX, |ruled| ruled.rules.room(self.leased(), ruled.bucket, now))
    }

    pub(super) fn add_lease(&mut self) {
        self.state.get_or_insert_default().leased += 1;
    }

    /// Spends one lease of its rate.
    pub(super) fn spend_rate(&mut self, now: Timestamp) {
        if let Some(ruled) = self.ruled_mut() {
            ruled.bucket = ruled.rules.take(ruled.bucket, now);
        }
    }

    pub(super) fn remove_lease(&mut self) {
        let state = self.state.as_mut().expect("a lease that ends was counted");
        state.leased = state.leased.checked_sub(1).expect("a lease that ends was counted");
    }

    /// Ends its pause if it is over; returns whether it did.
    pub(super) fn end_pause(&mut self, ledger: &mut Ledger, now: Timestamp) -> bool {
        let name = self.name.clone();
        let Some(ruled) = self.ruled_mut() else { return false };
        let until = ruled.rules.pause.as_ref().and_then(|pause| pause.until);
        let is_over = until.is_some_and(|until| until <= now);
        if is_over {
            let before = ruled_bytes(&name, ruled);
            ruled.rules.pause = None;
            ruled.version += 1;
            ledger.transfer((Account::Shared, before), (Account::Shared, ruled_bytes(&name, ruled)));
        }
        is_over
    }

    /// Lets telemetry count an event of this kind.
    pub fn count(&mut self, count: impl FnOnce(&Name, &mut Option<RowRef>)) {
        count(&self.name, &mut self.telemetry_row);
    }
}

/// What the rules are charged: the name as well, since a kind may have rules and no job.
fn ruled_bytes(name: &Name, ruled: &Ruled) -> u64 {
    let reason =
        |rules: &KindRules| rules.pause.as_ref().and_then(|pause| pause.reason.as_ref()).map_or(0, Name::bytes);
    let configured = ruled.configured.as_deref().map_or(0, |rules| KIND_RULES_BYTES + reason(rules));
    KIND_BYTES + KIND_RULES_BYTES + name.bytes() + reason(&ruled.rules) + configured
}

fn bytes(name: &Name) -> u64 {
    KIND_BYTES + name.bytes()
}
