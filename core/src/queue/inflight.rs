//! Bytes under lease: whether a job fits under their limit.
//!
//! A job that does not fit is not passed over: those behind it would keep it waiting for ever. It waits until enough leases
//! of others have ended, and a job that exceeds the limit alone until all have.

use super::Queue;
use super::job::Job;
use super::kind::KindIndex;
use super::profile::{ProfileIndex, Wanted};
use crate::command::Pull;
use crate::ids::JobSeq;
use crate::ledger::{Account, Ledger};
use crate::limits::{Limits, RUN_BYTES};
use crate::name::Name;
use crate::rules;

impl Queue {
    /// Whether a waiting job may be leased to a node, whose name takes `name_bytes`, as far as bytes are concerned. O(log n),
    /// O(1) without a limit.
    pub(crate) fn fits_under_lease(&self, (limits, ledger): (&Limits, &Ledger), seq: JobSeq, name_bytes: u64) -> bool {
        let bytes_max = limits.inflight_bytes_max;
        let bytes = |job: &Job| job.charge().1 + RUN_BYTES + name_bytes;
        bytes_max == u64::MAX
            || self
                .table
                .get(seq)
                .is_none_or(|job| rules::fits_under_lease(bytes_max, ledger.get(Account::Leased), bytes(job)))
    }

    /// Whether the first job for a pull does not fit.
    pub(crate) fn waits_for_bytes(
        &mut self,
        (limits, ledger): (&Limits, &Ledger),
        profile: ProfileIndex,
        pull: &Pull,
    ) -> bool {
        if limits.inflight_bytes_max == u64::MAX {
            return false;
        }
        let first = self.first_for(&pull.node, profile, pull);
        first.is_some_and(|seq| !self.fits_under_lease((limits, ledger), seq, pull.node.bytes()))
    }

    /// The job that a pull leases first.
    fn first_for(&mut self, node: &Name, profile: ProfileIndex, pull: &Pull) -> Option<JobSeq> {
        if pull.kinds.is_empty() {
            return self.first_of_any(node, profile).map(|(_, seq)| seq);
        }
        let wanted: Vec<KindIndex> = pull.kinds.iter().filter_map(|name| self.kinds.find(name)).collect();
        let Queue { profiles, classes, reserved, kinds, .. } = self;
        let reserved = reserved.first_for((classes, kinds), profiles, (node, profile), Some(&wanted));
        let heads = wanted.iter().filter_map(|kind| {
            let (_, slot) = profiles.first(classes, kinds, profile, Wanted::Kind(*kind))?;
            classes.head(slot, Some(*kind))
        });
        heads.chain(reserved).min().map(|(_, seq)| seq)
    }
}
