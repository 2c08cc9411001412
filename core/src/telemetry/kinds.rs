//! Kinds: what became of the jobs of each kind, for as many kinds as there is room.
//!
//! A kind is a client's word, so their number must have a bound: the first [`METRIC_KINDS_MAX`](crate::limits::METRIC_KINDS_MAX)
//! that the hub meets have counts of their own, all others share one. So does a kind that is called like these others: two
//! series of one name are no metric. O(log kinds) an event.

use crate::limits::METRIC_KINDS_MAX;
use crate::outcome::FinalStatus;
use std::collections::BTreeMap;

/// What the kinds without counts of their own are called together.
pub const OTHER: &str = "other";

/// Counts by kind.
#[derive(Clone, Default, Debug)]
pub struct Kinds {
    counts: BTreeMap<Box<str>, KindCounts>,
    other: KindCounts,
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
    /// The counts of a kind, to add to.
    pub(super) fn of(&mut self, kind: &str) -> &mut KindCounts {
        if self.counts.contains_key(kind) {
            return self.counts.get_mut(kind).expect("it was just found");
        }
        if kind == OTHER || self.counts.len() >= METRIC_KINDS_MAX {
            return &mut self.other;
        }
        self.counts.entry(kind.into()).or_default()
    }

    /// Kinds with counts of their own, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &KindCounts)> {
        self.counts.iter().map(|(kind, counts)| (&**kind, counts))
    }

    /// The counts of all other kinds together; `None` if there are none.
    pub fn other(&self) -> Option<&KindCounts> {
        (self.other != KindCounts::default()).then_some(&self.other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_beyond_the_limit_share_one_count() {
        let mut kinds = Kinds::default();
        for _ in 0..2 {
            for n in 0..METRIC_KINDS_MAX {
                kinds.of(&format!("k{n}")).submitted += 1;
            }
            assert_eq!((kinds.iter().count(), kinds.other()), (METRIC_KINDS_MAX, None));
        }
        (0..1_000).for_each(|n| kinds.of(&format!("more{n}")).submitted += 1);
        kinds.of("k0").submitted += 1;
        assert_eq!(kinds.iter().count(), METRIC_KINDS_MAX);
        assert_eq!(kinds.other().map(|counts| counts.submitted), Some(1_000));
        assert_eq!(kinds.iter().next().map(|(kind, counts)| (kind, counts.submitted)), Some(("k0", 3)));
    }

    #[test]
    fn a_kind_that_is_called_like_the_others_is_counted_with_them() {
        let mut kinds = Kinds::default();
        kinds.of(OTHER).submitted += 1;
        assert_eq!(kinds.iter().count(), 0);
        assert_eq!(kinds.other().map(|counts| counts.submitted), Some(1));
    }
}
