//! Orphans: no result of an unknown job leaves without a line of the audit log.
//!
//! It knows nothing but the effects: an orphan of which the log says that it is kept is there until the log says that it was
//! adopted, discarded or evicted. Evictions are told as a count, and take the oldest.

use crate::model_check::violation::{Violation, holds};
use sheratan_core::{Audit, Hub};
use std::collections::BTreeSet;

/// The orphans, as the audit log tells of them.
#[derive(Default, Debug)]
pub struct Orphans {
    kept: BTreeSet<u64>,
    /// The last id that was given.
    last: Option<u64>,
}

impl Orphans {
    /// Notes a line.
    pub fn note(&mut self, audit: &Audit) -> Result<(), Violation> {
        match audit {
            Audit::ResultOrphaned { orphan, evicted, .. } => {
                holds(self.last < Some(*orphan), || format!("orphan {orphan} came after {:?}", self.last))?;
                self.last = Some(*orphan);
                self.kept.insert(*orphan);
                self.evict(*evicted)
            }
            Audit::OrphansEvicted { orphans } => self.evict(*orphans),
            Audit::OrphanAdopted { orphan, .. } | Audit::OrphanDiscarded { orphan, .. } => {
                let was_kept = self.kept.remove(orphan);
                holds(was_kept, || format!("orphan {orphan} was adopted or discarded and was not kept"))
            }
            _ => Ok(()),
        }
    }

    /// Checks that the hub keeps these and no others. O(orphans).
    pub fn check(&self, hub: &Hub) -> Result<(), Violation> {
        let found: BTreeSet<u64> = hub.orphans().iter_from(0).map(|orphan| orphan.id).collect();
        holds(found == self.kept, || {
            format!("orphans {found:?} are kept; by the audit log they should be {:?}", self.kept)
        })
    }

    fn evict(&mut self, count: u64) -> Result<(), Violation> {
        (0..count).try_for_each(|_| {
            let evicted = self.kept.pop_first();
            holds(evicted.is_some(), || format!("{count} orphans were evicted, of fewer"))
        })
    }
}
