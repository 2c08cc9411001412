//! Kinds: what became of the jobs of each kind, for as many kinds as there is room.
//!
//! A kind is a client's word, so their number must have a bound: [`METRIC_KINDS_MAX`](crate::limits::METRIC_KINDS_MAX)
//! have counts of their own, all others share one. A kind of which nothing was heard for [`IDLE`] makes room for a new
//! one, its counts go to the others': so a flood of words does not keep the kinds in use out for good. One that is
//! called like these others is counted with them: two series of one name are no metric. O(1) an event, O(kinds) for one
//! without a row.

use crate::limits::METRIC_KINDS_MAX;
use crate::name::Name;
use crate::outcome::FinalStatus;
use crate::time::{Millis, Timestamp};
use std::collections::BTreeMap;

/// What the kinds without counts of their own are called together.
pub const OTHER: &str = "other";

/// After so long a kind's counts may go to the others'.
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
    /// Counts the kinds that stood here.
    version: u32,
}

/// Where a kind is counted, as long as its row is its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    row: u16,
    version: u32,
}

/// What became of the jobs of a kind, since the start.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct KindCounts {
    /// Jobs that came in.
    pub submitted: u64,
    /// Jobs that ended, by how.
    pub ended: [u64; FinalStatus::ALL.len()],
}

impl KindCounts {
    /// Adds another kind's counts.
    pub fn add(&mut self, other: &KindCounts) {
        self.submitted += other.submitted;
        self.ended.iter_mut().zip(other.ended).for_each(|(count, more)| *count += more);
    }
}

impl Kinds {
    /// The counts of a kind, to add to; `place` remembers its row.
    pub(super) fn of(&mut self, at: Timestamp, kind: &Name, place: &mut Option<Place>) -> &mut KindCounts {
        let known = place.filter(|place| self.rows[usize::from(place.row)].version == place.version);
        let known = known.map(|place| place.row).or_else(|| self.by_name.get(kind).copied());
        let Some(row) = known.or_else(|| self.make_row(at, kind)) else { return &mut self.other };
        let found = &mut self.rows[usize::from(row)];
        *place = Some(Place { row, version: found.version });
        found.counted_at = found.counted_at.max(at);
        &mut found.counts
    }

    fn make_row(&mut self, at: Timestamp, kind: &Name) -> Option<u16> {
        if **kind == *OTHER {
            return None;
        }
        let (name, counts) = (kind.clone(), KindCounts::default());
        let row = if self.rows.len() < METRIC_KINDS_MAX {
            self.rows.push(Row { name, counts, counted_at: at, version: 0 });
            self.rows.len() - 1
        } else {
            let (row, idle) = self.rows.iter_mut().enumerate().min_by_key(|(_, row)| row.counted_at)?;
            if at < idle.counted_at + IDLE {
                return None;
            }
            self.other.add(&idle.counts);
            self.by_name.remove(&idle.name);
            *idle = Row { name, counts, counted_at: at, version: idle.version.wrapping_add(1) };
            row
        };
        self.by_name.insert(kind.clone(), row as u16);
        Some(row as u16)
    }

    /// Kinds with counts of their own, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &KindCounts)> {
        self.by_name.iter().map(|(kind, row)| (&**kind, &self.rows[usize::from(*row)].counts))
    }

    /// The counts of all other kinds together; `None` if there are none.
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
        kinds.of(Timestamp::from_millis(ms), &kind, &mut None).submitted += 1;
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
    fn a_kind_that_is_idle_makes_room_and_no_count_is_lost() {
        let mut kinds = full();
        submit(&mut kinds, 5_000, "k0");
        let place = &mut None;
        let k1 = Name::new("k1").unwrap();
        kinds.of(Timestamp::ZERO, &k1, place);
        submit(&mut kinds, IDLE.get() - 1, "early");
        assert_eq!(kinds.other().map(|counts| counts.submitted), Some(1));
        // The longest idle one goes first, of those alike the first row: k1, since k0 was heard of since.
        submit(&mut kinds, IDLE.get(), "new");
        assert!(kinds.iter().any(|(kind, _)| kind == "new") && kinds.iter().all(|(kind, _)| kind != "k1"));
        // Whoever remembered its row is not counted in another's.
        kinds.of(Timestamp::from_millis(IDLE.get()), &k1, place).submitted += 1;
        assert!(kinds.iter().any(|(kind, counts)| kind == "k1" && counts.submitted == 1));
        let own: u64 = kinds.iter().map(|(_, counts)| counts.submitted).sum();
        let others = kinds.other().map_or(0, |counts| counts.submitted);
        assert_eq!(own + others, METRIC_KINDS_MAX as u64 + 4);
    }

    #[test]
    fn a_kind_that_is_called_like_the_others_is_counted_with_them() {
        let mut kinds = Kinds::default();
        submit(&mut kinds, 0, OTHER);
        assert_eq!(kinds.iter().count(), 0);
        assert_eq!(kinds.other().map(|counts| counts.submitted), Some(1));
    }
}
