//! Kinds: the names of what jobs do, a row for each that a job or a parked long poll names.

use crate::ledger::{Account, Ledger};
use crate::limits::KIND_BYTES;
use crate::name::Name;
use crate::queue::rows::Rows;
use crate::queue::tally::{Status, Tally};
use crate::telemetry::kinds::RowRef;
use std::collections::BTreeMap;

/// A kind's row. Derived: a restored hub may give other numbers, and neither durable state nor decisions depend on
/// them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct KindIndex(pub(super) u32);

/// The capacity of a kind's list of lanes is not reduced below this.
const LANES_CAPACITY_MIN: usize = 16;

/// All kinds that a job or a parked long poll names.
#[derive(Default, Debug)]
pub(crate) struct Kinds {
    by_name: BTreeMap<Name, KindIndex>,
    rows: Rows<Kind>,
    /// Bytes of kinds that only final jobs name.
    idle_bytes: u64,
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
}

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
        self.rows.iter().fold((0, 0), |(jobs, places), row| {
            let bytes = bytes(&row.name);
            (jobs + if row.jobs > 0 { bytes } else { 0 }, places + if row.places > 0 { bytes } else { 0 })
        })
    }

    fn intern(&mut self, name: &Name) -> KindIndex {
        if let Some(kind) = self.by_name.get(name) {
            return *kind;
        }
        let row = Kind { name: name.clone(), jobs: 0, tally: None, places: 0, lanes: Vec::new(), telemetry_row: None };
        let kind = KindIndex(self.rows.insert(row));
        self.by_name.insert(name.clone(), kind);
        kind
    }

    fn remove_if_unused(&mut self, kind: KindIndex) -> bool {
        let row = self.row(kind);
        if row.jobs > 0 || row.places > 0 {
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

    /// Lets telemetry count an event of this kind.
    pub fn count(&mut self, count: impl FnOnce(&Name, &mut Option<RowRef>)) {
        count(&self.name, &mut self.telemetry_row);
    }
}

fn bytes(name: &Name) -> u64 {
    KIND_BYTES + name.bytes()
}
