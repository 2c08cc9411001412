//! Kinds: how many jobs of each kind were submitted and how they ended.
//!
//! Clients choose the names of kinds, so their number is bounded: [`METRIC_KINDS_MAX`](crate::limits::METRIC_KINDS_MAX)
//! have counts of their own, all others share one. A kind without events for [`IDLE`] is evicted for a new one and its
//! counts are added to the shared ones, so that a flood of names does not exclude the kinds in use for ever. A kind
//! that is called [`OTHER`] is counted with the shared ones, since two series may not have one name. An event costs
//! O(1), or O(kinds) if its kind has no row.

use crate::limits::METRIC_KINDS_MAX;
use crate::name::Name;
use crate::outcome::FinalStatus;
use crate::telemetry::window::Window;
use crate::time::{Millis, Timestamp};
use std::collections::BTreeMap;

/// The name of the counts that all other kinds share.
pub const OTHER: &str = "other";

/// A kind without events for so long may be evicted.
const IDLE: Millis = Millis::from_secs(600);

/// Counts by kind.
#[derive(Clone, Default, Debug)]
pub struct Kinds {
    rows: Vec<Row>,
    by_name: BTreeMap<Name, u16>,
    other: KindCounts,
}

#[derive(Clone, Debug)]
struct Row {
    name: Name,
    counts: KindCounts,
    counted_at: Timestamp,
    /// Jobs that ended without becoming dead letters.
    without_letter: Window,
    /// Incremented when the row gets another kind.
    version: u32,
}

/// A reference to a kind's row; stale when the row has another version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RowRef {
    row: u16,
    version: u32,
}

/// Counts of the jobs of a kind since the start.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct KindCounts {
    pub submitted: u64,
    /// By the number of the [`FinalStatus`].
    pub ended: [u64; FinalStatus::ALL.len()],
}

impl KindCounts {
    pub fn add(&mut self, other: &KindCounts) {
        self.submitted += other.submitted;
        self.ended.iter_mut().zip(other.ended).for_each(|(count, more)| *count += more);
    }
}

impl Kinds {
    /// The counts of a kind; `row_ref` caches its row.
    pub(super) fn counts_mut(&mut self, at: Timestamp, kind: &Name, row_ref: &mut Option<RowRef>) -> &mut KindCounts {
        let known = row_ref.filter(|row_ref| self.rows[usize::from(row_ref.row)].version == row_ref.version);
        let known = known.map(|row_ref| row_ref.row).or_else(|| self.by_name.get(kind).copied());
        let Some(row) = known.or_else(|| self.insert(at, kind)) else { return &mut self.other };
        let found = &mut self.rows[usize::from(row)];
        *row_ref = Some(RowRef { row, version: found.version });
        found.counted_at = found.counted_at.max(at);
        &mut found.counts
    }

    /// Counts a job that ended without becoming a dead letter; `row_ref` is that of [`Kinds::counts_mut`].
    pub(super) fn count_without_letter(&mut self, at: Timestamp, row_ref: Option<RowRef>) {
        let Some(row_ref) = row_ref else { return };
        let row = &mut self.rows[usize::from(row_ref.row)];
        if row.version == row_ref.version {
            row.without_letter.add(at, 1);
        }
    }

    /// How many jobs of a kind ended in the last minute without becoming dead letters, when the second of the oldest began,
    /// and when a job of it was submitted or ended last; `None` if the kind has no counts of its own.
    pub(crate) fn without_letter(&self, now: Timestamp, kind: &str) -> Option<(u64, Option<Timestamp>, Timestamp)> {
        let row = &self.rows[usize::from(*self.by_name.get(kind)?)];
        Some((row.without_letter.sum(now), row.without_letter.oldest_at(now), row.counted_at))
    }

    fn insert(&mut self, at: Timestamp, kind: &Name) -> Option<u16> {
        if **kind == *OTHER {
            return None;
        }
        let (name, counts) = (kind.clone(), KindCounts::default());
        let row = if self.rows.len() < METRIC_KINDS_MAX {
            self.rows.push(Row { name, counts, counted_at: at, without_letter: Window::default(), version: 0 });
            self.rows.len() - 1
        } else {
            let (row, idle) = self.rows.iter_mut().enumerate().min_by_key(|(_, row)| row.counted_at)?;
            if at < idle.counted_at + IDLE {
                return None;
            }
            self.other.add(&idle.counts);
            self.by_name.remove(&idle.name);
            let (without_letter, version) = (Window::default(), idle.version.wrapping_add(1));
            *idle = Row { name, counts, counted_at: at, without_letter, version };
            row
        };
        self.by_name.insert(kind.clone(), row as u16);
        Some(row as u16)
    }

    /// Kinds with counts of their own, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &KindCounts)> {
        self.by_name.iter().map(|(kind, row)| (&**kind, &self.rows[usize::from(*row)].counts))
    }

    /// The counts that all other kinds share; `None` if they are zero.
    pub fn other(&self) -> Option<&KindCounts> {
        (self.other != KindCounts::default()).then_some(&self.other)
    }
}

const _: () = assert!(METRIC_KINDS_MAX > 0 && METRIC_KINDS_MAX <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn submit(kinds: &mut Kinds, ms: u64, kind: &str) {
        let kind = Name::new(kind).expect("a valid name");
        kinds.counts_mut(Timestamp::from_millis(ms), &kind, &mut None).submitted += 1;
    }

    fn full() -> Kinds {
        let mut kinds = Kinds::default();
        (0..METRIC_KINDS_MAX).for_each(|n| submit(&mut kinds, 0, &format!("k{n}")));
        kinds
    }

    #[test]
    fn kinds_beyond_the_limit_share_one_count() {
        let mut kinds = full();
        (0..METRIC_KINDS_MAX).for_each(|n| submit(&mut kinds, 0, &format!("k{n}")));
        assert_eq!((kinds.iter().count(), kinds.other()), (METRIC_KINDS_MAX, None));
        (0..1_000).for_each(|n| submit(&mut kinds, 0, &format!("more{n}")));
        submit(&mut kinds, 0, "k0");
        assert_eq!(kinds.iter().count(), METRIC_KINDS_MAX);
        assert_eq!(kinds.other().map(|counts| counts.submitted), Some(1_000));
        assert_eq!(kinds.iter().next().map(|(kind, counts)| (kind, counts.submitted)), Some(("k0", 3)));
    }

    #[test]
    fn an_idle_kind_is_evicted_and_no_count_is_lost() {
        let mut kinds = full();
        submit(&mut kinds, 5_000, "k0");
        let row_ref = &mut None;
        let k1 = Name::new("k1").unwrap();
        kinds.counts_mut(Timestamp::ZERO, &k1, row_ref);
        submit(&mut kinds, IDLE.get() - 1, "early");
        assert_eq!(kinds.other().map(|counts| counts.submitted), Some(1));
        // The longest idle one is evicted, among several the first row: k1, since k0 had an event later.
        submit(&mut kinds, IDLE.get(), "new");
        assert!(kinds.iter().any(|(kind, _)| kind == "new") && kinds.iter().all(|(kind, _)| kind != "k1"));
        // A stale reference to its row does not count for the new kind.
        kinds.counts_mut(Timestamp::from_millis(IDLE.get()), &k1, row_ref).submitted += 1;
        assert!(kinds.iter().any(|(kind, counts)| kind == "k1" && counts.submitted == 1));
        let own: u64 = kinds.iter().map(|(_, counts)| counts.submitted).sum();
        let others = kinds.other().map_or(0, |counts| counts.submitted);
        assert_eq!(own + others, METRIC_KINDS_MAX as u64 + 4);
    }

    #[test]
    fn a_kind_named_like_the_shared_counts_is_counted_with_them() {
        let mut kinds = Kinds::default();
        submit(&mut kinds, 0, OTHER);
        assert_eq!(kinds.iter().count(), 0);
        assert_eq!(kinds.other().map(|counts| counts.submitted), Some(1));
    }
}
