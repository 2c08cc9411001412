//! Classes: which nodes may run a job. A class is a zone and a set of requirements, and has the lanes of its ready
//! jobs.
//!
//! Each class with unfinished jobs has a slot: the index of its bit in profiles. At most [`CLASSES_MAX`] classes have
//! one at a time. A class with final jobs only keeps its row, and its slot until another class needs it.

use crate::ids::{HubKey, JobSeq};
use crate::ledger::{Account, Ledger};
use crate::limits::{CLASS_BYTES, CLASSES_MAX, CLASSES_PER_ZONE_MAX, LANE_BYTES};
use crate::name_set::NameSet;
use crate::outcome::Refusal;
use crate::queue::heads::{Head, HeadPositions, Heads};
use crate::queue::kind::{KindIndex, Kinds};
use crate::queue::lane::{Lane, Rank};
use crate::queue::rows::Rows;
use crate::queue::turns::{Clocks, Group, Turns, TurnsRecord};
use crate::rules;
use crate::zone::Zone;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Which nodes may run a job.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ClassKey {
    /// Nodes of this zone.
    pub zone: Zone,
    /// Nodes that have all of these capabilities.
    pub requires: NameSet,
}

/// A class's row. Derived, like [`KindIndex`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ClassIndex(pub(super) u32);

/// A lane. Each of its unfinished jobs stores it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LaneIndex(pub(super) u32);

impl LaneIndex {
    /// A final job's: it has no lane.
    pub const NONE: LaneIndex = LaneIndex(u32::MAX);
}

/// A number of its own for each class with unfinished jobs.
pub(crate) type Slot = u16;

/// All classes.
#[derive(Default, Debug)]
pub(crate) struct Classes {
    by_key: BTreeMap<Arc<ClassKey>, ClassIndex>,
    rows: Rows<Class>,
    slots: Vec<Option<ClassIndex>>,
    free_slots: Vec<Slot>,
    /// Slots whose classes had no unfinished jobs when they were put here, each once: candidates for reuse.
    idle: VecDeque<Slot>,
    is_listed_idle: Vec<bool>,
    /// Classes with unfinished jobs, in total and by zone.
    in_use: usize,
    /// Bytes of classes with final jobs only.
    idle_bytes: u64,
    by_zone: BTreeMap<Zone, usize>,
    /// The latest [`CLASSES_MAX`] assignments of slots to classes, in order.
    assigned: VecDeque<Slot>,
    /// How many assignments there were before these.
    assigned_before: u64,
    lanes: Rows<Box<Lane>>,
    head_positions: HeadPositions,
    /// Emptied lanes, for reuse.
    #[expect(clippy::vec_box, reason = "lanes are held in boxes, which are reused")]
    spare: Vec<Box<Lane>>,
}

#[derive(Debug)]
struct Class {
    key: Arc<ClassKey>,
    unfinished: u64,
    /// Final jobs that are retained.
    retained: u64,
    slot: Option<Slot>,
    lanes: BTreeMap<KindIndex, LaneIndex>,
    /// The first ready job of each lane.
    heads: Heads,
    /// Of jobs with turns; dropped with the last unfinished job.
    turns: Option<Box<Turns>>,
}

/// The class, kind and lane of an unfinished job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobPlace {
    pub class: ClassIndex,
    pub kind: KindIndex,
    pub lane: LaneIndex,
}

/// The heads whose rank a new ready job lowered: that of its lane, and that of its class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lowered {
    Neither,
    Lane,
    LaneAndClass,
}

const SPARE_LANES_MAX: usize = 64;

impl ClassKey {
    /// Whether a node of that zone with those capabilities may run jobs of this class.
    pub fn admits(&self, zone: &Zone, capabilities: &NameSet) -> bool {
        self.zone == *zone && self.requires.is_subset_of(capabilities)
    }

    fn bytes(&self) -> u64 {
        CLASS_BYTES + self.zone.bytes() + self.requires.bytes()
    }
}

impl Classes {
    pub fn key(&self, class: ClassIndex) -> &Arc<ClassKey> {
        &self.row(class).key
    }

    /// Whether one more job may have this class, after a job of the class `leaving` has ended. Returns the class if it
    /// exists. O(log n).
    pub fn admit(&self, key: &ClassKey, leaving: Option<ClassIndex>) -> Result<Option<ClassIndex>, Refusal> {
        let class = self.by_key.get(key).copied();
        if class.is_some_and(|class| self.row(class).unfinished > 0) {
            return Ok(class);
        }
        let freed = leaving.map(|class| self.row(class)).filter(|row| row.unfinished == 1);
        let classes = self.in_use as u64;
        let zone_classes = self.by_zone.get(&key.zone).map_or(0, |count| *count as u64);
        let left = classes - u64::from(freed.is_some());
        let left_in_zone = zone_classes - u64::from(freed.is_some_and(|row| row.key.zone == key.zone));
        if left < CLASSES_MAX as u64 && left_in_zone < CLASSES_PER_ZONE_MAX as u64 {
            return Ok(class);
        }
        Err(Refusal::ClassesFull { classes, zone: key.zone.clone(), zone_classes })
    }

    /// What one more job of a class and kind would be charged for its lane and its class: nothing for those that exist.
    pub fn bytes_if_new(&self, key: &ClassKey, class: Option<ClassIndex>, kind: Option<KindIndex>) -> u64 {
        let Some(class) = class else { return key.bytes() + LANE_BYTES };
        let has_lane = kind.is_some_and(|kind| self.row(class).lanes.contains_key(&kind));
        if has_lane { 0 } else { LANE_BYTES }
    }

    /// Adds an unfinished job that was admitted or is restored. `class` is the row of `key`, if it exists.
    pub fn add_unfinished(
        &mut self,
        ledger: &mut Ledger,
        kinds: &mut Kinds,
        class: Option<ClassIndex>,
        key: ClassKey,
        kind: KindIndex,
    ) -> (ClassIndex, LaneIndex) {
        let class = class.unwrap_or_else(|| self.intern(ledger, key));
        let row = self.row_mut(class);
        row.unfinished += 1;
        if row.unfinished == 1 {
            let (zone, bytes) = (row.key.zone.clone(), row.key.bytes());
            self.idle_bytes -= bytes;
            self.in_use += 1;
            *self.by_zone.entry(zone).or_default() += 1;
        }
        let slot = self.slot(class);
        let row = self.rows.get_mut(class.0);
        let lane = *row.lanes.entry(kind).or_insert_with(|| {
            ledger.charge(Account::Shared, LANE_BYTES);
            kinds.add_lane(kind, slot);
            let mut lane = self.spare.pop().unwrap_or_default();
            lane.is_open = kinds.row(kind).is_open;
            LaneIndex(self.lanes.insert(lane))
        });
        self.lane_mut(lane).jobs += 1;
        (class, lane)
    }

    /// A final job of a class and kind is unfinished again; the class was admitted. Returns its lane.
    pub fn revive(&mut self, ledger: &mut Ledger, kinds: &mut Kinds, class: ClassIndex, kind: KindIndex) -> LaneIndex {
        let key = ClassKey::clone(self.key(class));
        let (_, lane) = self.add_unfinished(ledger, kinds, Some(class), key, kind);
        self.row_mut(class).retained -= 1;
        lane
    }

    /// Adds a final job that is restored.
    pub fn add_retained(&mut self, ledger: &mut Ledger, key: ClassKey) -> ClassIndex {
        let class = self.intern(ledger, key);
        self.row_mut(class).retained += 1;
        class
    }

    /// Counts an unfinished job as final and retained; returns the slot of its lane if that was its last job.
    pub fn finish(&mut self, ledger: &mut Ledger, kinds: &mut Kinds, job: JobPlace) -> Option<Slot> {
        let JobPlace { class, kind, lane } = job;
        let row = self.rows.get_mut(class.0);
        row.unfinished -= 1;
        row.retained += 1;
        let slot = row.slot.expect("a class with unfinished jobs has a slot");
        let jobs = &mut self.lanes.get_mut(lane.0).jobs;
        *jobs -= 1;
        let is_lane_removed = *jobs == 0;
        if is_lane_removed {
            let emptied = self.lanes.remove(lane.0);
            assert!(emptied.ready() == 0, "a ready job is unfinished");
            row.lanes.remove(&kind);
            ledger.release(Account::Shared, LANE_BYTES);
            if self.spare.len() < SPARE_LANES_MAX {
                self.spare.push(emptied);
            }
            kinds.remove_lane(kind, slot);
        }
        if row.unfinished == 0 {
            row.turns = None;
            let zone = row.key.zone.clone();
            self.idle_bytes += row.key.bytes();
            self.in_use -= 1;
            if !std::mem::replace(&mut self.is_listed_idle[usize::from(slot)], true) {
                self.idle.push_back(slot);
            }
            let count = self.by_zone.get_mut(&zone).expect("its zone is counted");
            *count -= 1;
            if *count == 0 {
                self.by_zone.remove(&zone);
            }
        }
        is_lane_removed.then_some(slot)
    }

    /// Removes a final job that was dropped.
    pub fn remove_retained(&mut self, ledger: &mut Ledger, class: ClassIndex) {
        let row = self.row_mut(class);
        row.retained -= 1;
        if row.retained == 0 && row.unfinished == 0 {
            let row = self.rows.remove(class.0);
            if let Some(slot) = row.slot {
                self.slots[usize::from(slot)] = None;
                self.free_slots.push(slot);
            }
            self.by_key.remove(&row.key);
            ledger.release(Account::Shared, row.key.bytes());
            self.idle_bytes -= row.key.bytes();
        }
    }

    /// Adds a ready job; returns the class's slot and the heads that it lowered.
    pub fn push(&mut self, job: JobPlace, rank: Rank, seq: JobSeq) -> (Slot, Lowered) {
        let row = self.rows.get_mut(job.class.0);
        let lane = self.lanes.get_mut(job.lane.0);
        let slot = row.slot.expect("a class with unfinished jobs has a slot");
        if rank.turn() > 0 {
            row.turns.get_or_insert_default().add(rank.level());
        }
        let old_head = lane.head().map(|(rank, _)| rank);
        lane.push(rank, seq);
        if !lane.is_open {
            return (slot, Lowered::Neither);
        }
        let head = Head { rank, job: seq, kind: job.kind, lane: job.lane };
        match old_head {
            Some(old) if old < rank => return (slot, Lowered::Neither),
            Some(_) => row.heads.replace(&mut self.head_positions, head),
            None => row.heads.insert(&mut self.head_positions, head),
        }
        let is_first = row.heads.first() == Some(&head);
        (slot, if is_first { Lowered::LaneAndClass } else { Lowered::Lane })
    }

    /// Removes a job that is no longer ready.
    pub fn remove(&mut self, job: JobPlace, rank: Rank) {
        let JobPlace { class, kind, lane } = job;
        let row = self.rows.get_mut(class.0);
        let ready_jobs = self.lanes.get_mut(lane.0);
        let is_head = ready_jobs.head().is_some_and(|(head, _)| head == rank);
        ready_jobs.remove(rank);
        if rank.turn() > 0 {
            row.turns.as_mut().expect("its turn was counted").remove(rank.level());
        }
        if is_head && ready_jobs.is_open {
            match ready_jobs.head() {
                Some((rank, job)) => row.heads.replace(&mut self.head_positions, Head { rank, job, kind, lane }),
                None => row.heads.remove(&mut self.head_positions, lane),
            }
        }
    }

    /// The turn of a job of a group that becomes ready at a level.
    pub fn next_turn(
        &mut self,
        class: ClassIndex,
        level: usize,
        clocks: &Clocks,
        key: &HubKey,
        (group, weight): (Group, u32),
    ) -> u64 {
        self.row_mut(class).turns.get_or_insert_default().next(level, clocks, key, group, weight)
    }

    /// A job of that rank is leased: the clocks advance to its turn.
    pub fn advance(&mut self, class: ClassIndex, rank: Rank, clocks: &mut Clocks) {
        let (level, turn) = (rank.level(), rank.turn());
        if turn > 0 {
            // A retry that was reserved for other nodes has a turn, although no job of its class may wait.
            self.row_mut(class).turns.get_or_insert_default().advance(level, turn);
            clocks[level] = rules::clock_after(clocks[level], turn);
        }
    }

    /// Turns of all classes begin anew behind those that were given, so that whoever comes next is not before them.
    pub fn begin_turns_anew(&mut self, clocks: &mut Clocks) {
        let classes: Vec<_> = self.by_key.values().copied().collect();
        for class in &classes {
            let latest = self.row(*class).turns.as_ref().map(|turns| turns.latest()).unwrap_or_default();
            clocks.iter_mut().zip(latest).for_each(|(clock, latest)| *clock = latest.max(*clock));
        }
        for class in classes {
            if let Some(turns) = &mut self.row_mut(class).turns {
                turns.begin_anew(clocks);
            }
        }
    }

    /// The turns of all classes, in the order of their keys.
    pub fn turn_records(&self) -> impl Iterator<Item = TurnsRecord> {
        let rows = self.by_key.values().map(|class| self.row(*class));
        rows.filter_map(|row| Some(row.turns.as_ref()?.records(&row.key.zone, &row.key.requires))).flatten()
    }

    /// Restores turns of a class, whose jobs are restored.
    pub fn restore_turns(&mut self, key: &ClassKey, record: TurnsRecord) -> Result<(), &'static str> {
        let class = self.by_key.get(key).copied().filter(|class| self.row(*class).unfinished > 0);
        let class = class.ok_or("a class without jobs has turns")?;
        self.row_mut(class).turns.get_or_insert_default().restore(record)
    }

    /// Opens the lane of a class and kind, whose jobs are offered to nodes again; returns its first job, and the heads that
    /// it lowered.
    pub fn open_lane(&mut self, slot: Slot, kind: KindIndex) -> Option<(Rank, Lowered)> {
        let (row, lane) = self.lane_in(slot, kind);
        let ready_jobs = self.lanes.get_mut(lane.0);
        ready_jobs.is_open = true;
        let (rank, job) = ready_jobs.head()?;
        let (heads, head) = (&mut self.rows.get_mut(row.0).heads, Head { rank, job, kind, lane });
        heads.insert(&mut self.head_positions, head);
        let is_first = heads.first() == Some(&head);
        Some((rank, if is_first { Lowered::LaneAndClass } else { Lowered::Lane }))
    }

    /// Closes the lane of a class and kind: its jobs are withdrawn.
    pub fn close_lane(&mut self, slot: Slot, kind: KindIndex) {
        let (row, lane) = self.lane_in(slot, kind);
        let ready_jobs = self.lanes.get_mut(lane.0);
        ready_jobs.is_open = false;
        if ready_jobs.head().is_some() {
            self.rows.get_mut(row.0).heads.remove(&mut self.head_positions, lane);
        }
    }

    /// The slot of a class with unfinished jobs.
    pub fn slot_of(&self, class: ClassIndex) -> Slot {
        self.row(class).slot.expect("a class with unfinished jobs has a slot")
    }

    /// The first job of a class, of one kind or of any, among the kinds whose gates are open.
    pub fn head(&self, slot: Slot, kind: Option<KindIndex>) -> Option<(Rank, JobSeq)> {
        let row = self.row(self.slots[usize::from(slot)]?);
        match kind {
            Some(kind) => Some(self.lane(*row.lanes.get(&kind)?)).filter(|lane| lane.is_open)?.head(),
            None => row.heads.first().map(|head| (head.rank, head.job)),
        }
    }

    /// How many jobs of a class and kind are ready, if the kind's gate is open.
    pub fn ready(&self, slot: Slot, kind: KindIndex) -> u64 {
        let lane = self.slots[usize::from(slot)].and_then(|class| self.row(class).lanes.get(&kind));
        lane.map(|lane| self.lane(*lane)).filter(|lane| lane.is_open).map_or(0, Lane::ready)
    }

    /// Ready jobs of a class with a smaller rank, in the lanes that are open and in that of a kind.
    pub fn ahead_of(&self, class: ClassIndex, kind: KindIndex, rank: Rank) -> u64 {
        let lanes = self.row(class).lanes.iter().map(|(of, lane)| (*of == kind, self.lane(*lane)));
        lanes.filter(|(is_own, lane)| *is_own || lane.is_open).map(|(_, lane)| lane.before(rank)).sum()
    }

    /// Unfinished jobs of a class and kind.
    pub fn unfinished(&self, slot: Slot, kind: KindIndex) -> u64 {
        let lane = self.slots[usize::from(slot)].and_then(|class| self.row(class).lanes.get(&kind));
        lane.map_or(0, |lane| self.lane(*lane).jobs)
    }

    pub fn key_in(&self, slot: Slot) -> Option<&ClassKey> {
        self.slots.get(usize::from(slot)).copied().flatten().map(|class| &*self.row(class).key)
    }

    /// How many slots there are, with or without a class.
    pub fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// How often a slot was assigned to a class.
    pub fn assigned_count(&self) -> u64 {
        self.assigned_before + self.assigned.len() as u64
    }

    /// The slots that were assigned after the first `count` assignments; `None` if these are not recorded any more.
    pub fn assigned_since(&self, count: u64) -> Option<impl Iterator<Item = Slot>> {
        let skipped = count.checked_sub(self.assigned_before)?;
        Some(self.assigned.iter().skip(skipped as usize).copied())
    }

    /// Bytes of classes with final jobs only.
    pub fn idle_bytes(&self) -> u64 {
        self.idle_bytes
    }

    /// What rows and lanes are charged, recomputed. O(n).
    pub fn bytes(&self) -> u64 {
        let idle = self.rows.iter().filter(|row| row.unfinished == 0);
        assert_eq!(self.idle_bytes, idle.map(|row| row.key.bytes()).sum::<u64>());
        self.rows.iter().map(|row| row.key.bytes() + row.lanes.len() as u64 * LANE_BYTES).sum()
    }

    fn intern(&mut self, ledger: &mut Ledger, key: ClassKey) -> ClassIndex {
        if let Some(class) = self.by_key.get(&key) {
            return *class;
        }
        ledger.charge(Account::Shared, key.bytes());
        self.idle_bytes += key.bytes();
        let key = Arc::new(key);
        let (lanes, heads) = (BTreeMap::new(), Heads::default());
        let key_of_row = Arc::clone(&key);
        let row = Class { key: key_of_row, unfinished: 0, retained: 0, slot: None, lanes, heads, turns: None };
        let class = ClassIndex(self.rows.insert(row));
        self.by_key.insert(key, class);
        class
    }

    /// The slot of a class that has unfinished jobs.
    fn slot(&mut self, class: ClassIndex) -> Slot {
        if let Some(slot) = self.row(class).slot {
            return slot;
        }
        let slot = self.free_slots.pop().or_else(|| {
            let slot = self.slots.len();
            (slot < CLASSES_MAX).then(|| {
                self.slots.push(None);
                self.is_listed_idle.push(false);
                slot as Slot
            })
        });
        let slot = slot.unwrap_or_else(|| self.reclaim_idle_slot());
        self.slots[usize::from(slot)] = Some(class);
        self.row_mut(class).slot = Some(slot);
        self.assigned.push_back(slot);
        if self.assigned.len() > CLASSES_MAX {
            self.assigned.pop_front();
            self.assigned_before += 1;
        }
        slot
    }

    /// Takes the slot from the class that has had no unfinished jobs for longest.
    fn reclaim_idle_slot(&mut self) -> Slot {
        loop {
            let slot = self.idle.pop_front().expect("a class that was admitted gets a slot");
            self.is_listed_idle[usize::from(slot)] = false;
            let Some(class) = self.slots[usize::from(slot)] else { continue };
            let row = self.row_mut(class);
            if row.unfinished == 0 {
                row.slot = None;
                return slot;
            }
        }
    }

    /// The class in a slot, and its lane for a kind that has one.
    fn lane_in(&self, slot: Slot, kind: KindIndex) -> (ClassIndex, LaneIndex) {
        let class = self.slots[usize::from(slot)].expect("a slot with a lane has a class");
        (class, *self.row(class).lanes.get(&kind).expect("a kind knows its lanes"))
    }

    fn row(&self, class: ClassIndex) -> &Class {
        self.rows.get(class.0)
    }

    fn lane(&self, lane: LaneIndex) -> &Lane {
        self.lanes.get(lane.0)
    }

    fn lane_mut(&mut self, lane: LaneIndex) -> &mut Lane {
        self.lanes.get_mut(lane.0)
    }

    fn row_mut(&mut self, class: ClassIndex) -> &mut Class {
        self.rows.get_mut(class.0)
    }
}
