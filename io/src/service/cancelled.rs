//! Cancelled leases: how a node learns that a job under one of its leases was cancelled.
//!
//! Every answer to a pull lists the cancelled leases that the node holds still. A poll that waits is answered for one as soon
//! as the cancel is durable, and one that would begin to wait at once; but for each lease only one of them, so that a node
//! that takes its time to stop does not ask in a circle. A restart forgets who was told.

use super::Service;
use crate::object::{Object, write_text};
use sheratan_core::{FinalStatus, JobSeq, JobView, LeaseRef, Name, Node};
use std::collections::{BTreeSet, VecDeque};

/// Whose polls have to be answered, and what was told.
#[derive(Default, Debug)]
pub struct CancelledLeases {
    /// The nodes whose leases were cancelled, each with the record that did so, the earliest first. Bounded by the uncommitted
    /// records.
    undurable: VecDeque<(u64, Name)>,
    /// Jobs whose nodes were told. Not more than leases are held, and one.
    told: BTreeSet<JobSeq>,
}

impl Service {
    /// A job was cancelled by the last record.
    pub(super) fn note_cancelled(&mut self, job: JobSeq) {
        let node = self.hub.queue().get(job).and_then(|job| job.held_by());
        if let Some(node) = node.and_then(|node| self.hub.registry().get(node)) {
            self.cancelled.undurable.push_back((self.uncommitted.last_seq(), node.name().clone()));
        }
    }

    /// All records up to this one are durable: polls that wait are answered for the leases that these cancelled.
    pub(super) fn tell_cancelled(&mut self, up_to: u64) {
        while self.cancelled.undurable.front().is_some_and(|(seq, _)| *seq <= up_to) {
            let (_, node) = self.cancelled.undurable.pop_front().expect("there is one");
            if self.has_untold(&node) {
                self.end_polls_of_node(&node);
            }
        }
    }

    /// Whether a node holds a cancelled lease that it was not told of. O(leases of the node) if any are held at all.
    pub(super) fn has_untold(&self, node: &Name) -> bool {
        self.cancelled_of(node).any(|job| !self.cancelled.told.contains(&job.seq()))
    }

    /// Writes the leases of a node whose jobs were cancelled, so that it stops their work.
    pub(super) fn write_cancelled(&self, out: &mut Object, node: &Name) {
        if self.hub.counts().held == 0 {
            return;
        }
        let mut cancelled = self.cancelled_of(node).peekable();
        if cancelled.peek().is_some() {
            out.array("cancelled", cancelled, |out, job| {
                let started_at = job.attempts().next_back().expect("a leased job has an attempt").started_at;
                let lease = LeaseRef { job: job.seq(), generation: job.generation() };
                write_text(out, &self.hub.ids().lease_id(lease, started_at).to_string());
            });
        }
    }

    /// A node is told of all its cancelled leases.
    pub(super) fn note_told(&mut self, node: &Name) {
        if self.hub.counts().held == 0 {
            self.cancelled.told.clear();
            return;
        }
        let jobs: Vec<_> = self.cancelled_of(node).map(|job| job.seq()).collect();
        self.cancelled.told.extend(jobs);
        if self.cancelled.told.len() as u64 > self.hub.counts().held {
            let queue = self.hub.queue();
            self.cancelled.told.retain(|job| queue.get(*job).is_some_and(|job| job.is_held()));
        }
    }

    /// The cancelled jobs under leases of a node. It is not told what a crash would undo.
    fn cancelled_of(&self, node: &Name) -> impl Iterator<Item = JobView<'_>> {
        let node = self.hub.registry().by_name(node).map(Node::index);
        let held = node.into_iter().flat_map(|node| self.hub.queue().held_by(node));
        held.filter(|job| job.status() == FinalStatus::Cancelled.as_str() && self.uncommitted.is_durable(*job))
    }
}
