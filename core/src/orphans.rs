//! Orphans: results for jobs that the hub does not know. The work was done, so they are kept for an operator to look at; they
//! are never adopted by themselves. Beyond their limits the oldest goes.

use crate::command::ResultMark;
use crate::encoding::members;
use crate::integrity::stored::ResultIntegrity;
use crate::ledger::{Account, Ledger};
use crate::limits::{Limits, ORPHAN_BYTES};
use crate::name::Name;
use crate::payload::Payload;
use crate::rules;
use crate::time::Timestamp;
use std::collections::BTreeMap;

/// A result of an unknown job.
#[derive(Clone, PartialEq, Debug)]
pub struct ParkResult {
    /// The job's id, as its node sent it.
    pub job_id: Name,
    pub node: Option<Name>,
    pub ok: bool,
    pub result: Option<Payload>,
    pub error: Option<Payload>,
    pub mark: ResultMark,
    pub integrity: Option<Box<ResultIntegrity>>,
}

/// An orphan, as the hub keeps it.
#[derive(Clone, PartialEq, Debug)]
pub struct Orphan {
    pub id: u64,
    pub at: Timestamp,
    pub parked: ParkResult,
}

members!(ParkResult { 1 job_id: required, 2 node, 3 ok: required, 4 result, 5 error, 6 mark: required, 7 integrity });
members!(Orphan { 1 id: required, 2 at: required, 3 parked: required });

/// All orphans.
#[derive(Default, Debug)]
pub struct Orphans {
    by_id: BTreeMap<u64, Orphan>,
    /// A repeated result is the same orphan.
    by_result: BTreeMap<(Name, bool, u64), u64>,
    next_id: u64,
}

impl ParkResult {
    /// Whether it is still what its checksum is of.
    pub fn is_whole(&self) -> bool {
        // The checksum of a success is not over its error.
        let error = self.error.as_ref().filter(|_| !self.ok);
        let is_of = |own: &ResultIntegrity| own.is_of(error, &self.job_id, self.ok, self.result.as_ref());
        self.integrity.as_deref().is_none_or(is_of)
    }

    /// What it is charged.
    pub fn bytes(&self) -> u64 {
        let ParkResult { job_id, node, result, error, integrity, .. } = self;
        let texts = 2 * job_id.bytes() + node.as_ref().map_or(0, Name::bytes);
        let payloads = Payload::bytes_of(result) + Payload::bytes_of(error);
        ORPHAN_BYTES + texts + payloads + ResultIntegrity::bytes_of(integrity)
    }
}

impl Orphan {
    fn bytes(&self) -> u64 {
        self.parked.bytes()
    }

    /// What a repeat has in common with it: the id of its node, or else its content.
    fn key(&self) -> (Name, bool, u64) {
        let (is_id, hash) = match self.parked.mark {
            ResultMark::Content(hash) => (false, hash),
            ResultMark::Id(hash) => (true, hash),
            ResultMark::IdAndContent { id, .. } => (true, id.into()),
        };
        (self.parked.job_id.clone(), is_id, hash)
    }
}

impl Orphans {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn get(&self, id: u64) -> Option<&Orphan> {
        self.by_id.get(&id)
    }

    /// The orphans from an id on, the oldest first.
    pub fn iter_from(&self, id: u64) -> impl Iterator<Item = &Orphan> {
        self.by_id.range(id..).map(|(_, orphan)| orphan)
    }

    /// Keeps a result; returns its id, whether it was kept before, and how many went for it.
    pub(crate) fn park(
        &mut self,
        ledger: &mut Ledger,
        limits: &Limits,
        now: Timestamp,
        parked: ParkResult,
    ) -> (u64, bool, u64) {
        let orphan = Orphan { id: self.next_id, at: now, parked };
        if let Some(id) = self.by_result.get(&orphan.key()) {
            return (*id, true, 0);
        }
        let id = orphan.id;
        self.insert(ledger, orphan);
        (id, false, self.enforce(ledger, limits))
    }

    /// Drops the oldest beyond the limits; returns how many.
    pub(crate) fn enforce(&mut self, ledger: &mut Ledger, limits: &Limits) -> u64 {
        let mut evicted = 0;
        while rules::keeps_too_many_orphans(self.by_id.len() as u64, limits.orphans_max)
            || ledger.get(Account::Orphans) > limits.orphans_bytes_max
        {
            let (oldest, _) = self.by_id.first_key_value().expect("a limit that is exceeded has orphans");
            self.remove(ledger, *oldest);
            evicted += 1;
        }
        evicted
    }

    pub(crate) fn remove(&mut self, ledger: &mut Ledger, id: u64) -> Option<Orphan> {
        let orphan = self.by_id.remove(&id)?;
        self.by_result.remove(&orphan.key());
        ledger.release(Account::Orphans, orphan.bytes());
        Some(orphan)
    }

    pub(crate) fn insert(&mut self, ledger: &mut Ledger, orphan: Orphan) {
        ledger.charge(Account::Orphans, orphan.bytes());
        self.next_id = self.next_id.max(orphan.id + 1);
        self.by_result.insert(orphan.key(), orphan.id);
        self.by_id.insert(orphan.id, orphan);
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id
    }

    pub(crate) fn restore_next_id(&mut self, next_id: u64) {
        self.next_id = self.next_id.max(next_id);
    }

    /// What the orphans are charged, recomputed. O(n).
    pub(crate) fn bytes(&self) -> u64 {
        self.by_id.values().map(Orphan::bytes).sum()
    }
}
