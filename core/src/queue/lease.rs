//! Leases: who works on a job and until when, how its attempts ended, and which leases a node holds.
//!
//! Each lease has a generation, which fences the ones before it. Not every lease is charged as an attempt: one that is
//! taken back for the hub's or an operator's reasons is not. By their ends leases are ordered among the timers
//! ([`crate::timers`]); [`Leases`] has them by node.

use crate::command::ResultMark;
use crate::encoding::{DecodeError, Encoded, Reader, members, numbered};
use crate::ids::{JobSeq, NodeIndex};
use crate::limits::{ATTEMPT_BYTES, ATTEMPTS_KEPT_MAX};
use crate::name::Name;
use crate::payload::Payload;
use crate::rules;
use crate::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};

/// One lease of a job.
#[derive(Clone, PartialEq, Debug)]
pub struct Attempt {
    /// The node that tried.
    pub node: Name,
    pub started_at: Timestamp,
    pub end: AttemptEnd,
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Debug)]
pub enum AttemptEnd {
    /// Not yet.
    Running,
    /// With a result.
    Completed { at: Timestamp, mark: ResultMark },
    /// With an error.
    Failed {
        at: Timestamp,
        mark: ResultMark,
        /// Absent if it was long.
        error: Option<Payload>,
        /// When the next attempt may start, as the node was told; absent if the job ended.
        retry_at: Option<Timestamp>,
    },
    /// Its lease ended without a result.
    Expired { at: Timestamp },
    /// Its lease was taken back.
    Revoked { at: Timestamp, why: Revocation },
}

/// Why a lease was taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revocation {
    /// A newer job under the same key took the job's place.
    Superseded,
    /// A client or an operator cancelled the job.
    Cancelled,
    /// An operator drained the node.
    Drained,
    /// The node is dead.
    NodeDead,
    /// The node gave it back.
    Released,
}

/// The lease numbers of a job, how many attempts they were charged as, and how the earlier ones ended.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Tries {
    generation: u32,
    charged: u32,
    /// Ended attempts before the latest one, oldest first. Boxed: most jobs have none.
    #[expect(clippy::box_collection, reason = "8 bytes in each job's record, not 32")]
    earlier: Option<Box<VecDeque<Attempt>>>,
}

/// The leases that nodes hold.
#[derive(Default, Debug)]
pub(crate) struct Leases {
    by_node: BTreeMap<NodeIndex, Vec<JobSeq>>,
    count: u64,
}

/// Leases for which a node's list keeps its room when it is empty.
const LEASES_KEPT_ROOM: usize = 8;

impl AttemptEnd {
    /// When; `None` if it runs.
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            AttemptEnd::Running => None,
            AttemptEnd::Completed { at, .. }
            | AttemptEnd::Failed { at, .. }
            | AttemptEnd::Expired { at }
            | AttemptEnd::Revoked { at, .. } => Some(*at),
        }
    }

    /// What tells its result from another, if it ended with one.
    pub fn mark(&self) -> Option<ResultMark> {
        match self {
            AttemptEnd::Completed { mark, .. } | AttemptEnd::Failed { mark, .. } => Some(*mark),
            AttemptEnd::Running | AttemptEnd::Expired { .. } | AttemptEnd::Revoked { .. } => None,
        }
    }

    /// Whether it counts among the attempts that the job may have.
    fn is_charged(&self) -> bool {
        match self {
            AttemptEnd::Running
            | AttemptEnd::Completed { .. }
            | AttemptEnd::Failed { .. }
            | AttemptEnd::Expired { .. } => true,
            AttemptEnd::Revoked { why, .. } => match why {
                Revocation::Superseded | Revocation::Cancelled | Revocation::NodeDead => true,
                Revocation::Drained | Revocation::Released => false,
            },
        }
    }
}

impl Revocation {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Revocation::Superseded => "superseded",
            Revocation::Cancelled => "cancelled",
            Revocation::Drained => "drained",
            Revocation::NodeDead => "node_dead",
            Revocation::Released => "released",
        }
    }
}

impl Attempt {
    /// Bytes of memory beside what the job's own record has.
    pub(super) fn bytes(&self) -> u64 {
        let error = match &self.end {
            AttemptEnd::Failed { error, .. } => Payload::bytes_of(error),
            _ => 0,
        };
        ATTEMPT_BYTES + self.node.bytes() + error
    }
}

impl Tries {
    /// The latest lease's number, from 1; 0 before the first.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// How many of the leases count as attempts.
    pub fn charged(&self) -> u32 {
        self.charged
    }

    /// A lease begins.
    pub fn begin(&mut self) {
        self.generation = rules::next_generation(self.generation);
        self.charged += 1;
    }

    /// The latest lease ended so.
    pub fn end(&mut self, end: &AttemptEnd) {
        if !end.is_charged() {
            self.charged -= 1;
        }
    }

    /// The latest attempt becomes an earlier one; the first of too many are forgotten, all if there is no `has_room`.
    pub fn keep(&mut self, attempt: Attempt, has_room: bool) {
        let earlier = self.earlier.get_or_insert_default();
        // With the next one, which is the job's own, there will be one more.
        let kept_max = if has_room { ATTEMPTS_KEPT_MAX - 2 } else { 0 };
        earlier.drain(..earlier.len().saturating_sub(kept_max));
        // One more at a time: few jobs have many.
        earlier.shrink_to(earlier.len() + 1);
        earlier.reserve_exact(1);
        earlier.push_back(attempt);
    }

    /// The attempts before the latest one, as far as they are kept, oldest first.
    pub fn earlier(&self) -> impl DoubleEndedIterator<Item = &Attempt> + ExactSizeIterator {
        self.earlier.as_deref().unwrap_or(const { &VecDeque::new() }).iter()
    }

    /// Bytes of memory that the history takes.
    pub fn bytes(&self) -> u64 {
        self.earlier.as_deref().map_or(0, |earlier| earlier.iter().map(Attempt::bytes).sum())
    }

    /// The tries of a job of a snapshot.
    pub(super) fn restore(generation: u32, charged: u32, earlier: Vec<Attempt>) -> Tries {
        let earlier = (!earlier.is_empty()).then(|| Box::new(VecDeque::from(earlier)));
        Tries { generation, charged, earlier }
    }
}

impl Leases {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The jobs that a node has under lease, in no order that means something.
    pub fn of(&self, node: NodeIndex) -> &[JobSeq] {
        self.by_node.get(&node).map_or(&[], Vec::as_slice)
    }

    /// A node got a lease; its place among the node's leases.
    pub(super) fn insert(&mut self, node: NodeIndex, job: JobSeq) -> u32 {
        let held = self.by_node.entry(node).or_default();
        held.push(job);
        self.count += 1;
        (held.len() - 1) as u32
    }

    /// A node's lease ended; the job whose lease has its place now, if another one does.
    pub(super) fn remove(&mut self, node: NodeIndex, place: u32) -> Option<JobSeq> {
        let held = self.by_node.get_mut(&node).expect("a node with a lease has a list of them");
        held.swap_remove(place as usize);
        self.count -= 1;
        // The room of many leases is given back when few are left.
        if held.capacity() > LEASES_KEPT_ROOM && held.len() < held.capacity() / 4 {
            held.shrink_to(held.len() * 2);
        }
        held.get(place as usize).copied()
    }

    /// The node is forgotten.
    pub(crate) fn forget(&mut self, node: NodeIndex) {
        let held = self.by_node.remove(&node);
        assert!(held.is_none_or(|held| held.is_empty()), "a node with leases is not forgotten");
    }
}

impl Encoded for Attempt {
    fn encode(&self, out: &mut Vec<u8>) {
        self.node.encode(out);
        self.started_at.encode(out);
        match &self.end {
            AttemptEnd::Running => out.push(0),
            AttemptEnd::Completed { at, mark } => {
                out.push(1);
                at.encode(out);
                mark.encode(out);
            }
            AttemptEnd::Failed { at, mark, error, retry_at } => {
                out.push(2);
                Failure { at: *at, mark: *mark, error: error.clone(), retry_at: *retry_at }.encode(out);
            }
            AttemptEnd::Expired { at } => {
                out.push(3);
                at.encode(out);
            }
            AttemptEnd::Revoked { at, why } => {
                out.push(4);
                at.encode(out);
                why.encode(out);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (node, started_at) = (Encoded::decode(from)?, Encoded::decode(from)?);
        let end = match from.byte()? {
            0 => AttemptEnd::Running,
            1 => AttemptEnd::Completed { at: Encoded::decode(from)?, mark: Encoded::decode(from)? },
            2 => {
                let Failure { at, mark, error, retry_at } = Encoded::decode(from)?;
                AttemptEnd::Failed { at, mark, error, retry_at }
            }
            3 => AttemptEnd::Expired { at: Encoded::decode(from)? },
            4 => AttemptEnd::Revoked { at: Encoded::decode(from)?, why: Encoded::decode(from)? },
            other => return Err(DecodeError::UnknownVariant("attempt's end", other.into())),
        };
        Ok(Attempt { node, started_at, end })
    }
}

/// How a failed attempt is written.
struct Failure {
    at: Timestamp,
    mark: ResultMark,
    error: Option<Payload>,
    retry_at: Option<Timestamp>,
}

members!(Failure { 1 at: required, 2 mark: required, 3 error, 4 retry_at });
numbered!(Revocation { 0 Superseded, 1 Cancelled, 2 Drained, 3 NodeDead, 4 Released });

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn attempt(end: AttemptEnd) -> Attempt {
        Attempt { node: Name::new("n").unwrap(), started_at: Timestamp::ZERO, end }
    }

    #[test]
    fn the_latest_attempts_are_kept_and_all_are_counted() {
        let mut tries = Tries::default();
        for ms in 0..40 {
            tries.begin();
            let end = AttemptEnd::Expired { at: Timestamp::from_millis(ms) };
            tries.end(&end);
            tries.keep(attempt(end), true);
            // With the latest one, which is the job's own, there are as many as are kept.
            assert_eq!(tries.earlier().len(), (ms as usize + 1).min(ATTEMPTS_KEPT_MAX - 1));
        }
        assert_eq!((tries.generation(), tries.charged()), (40, 40));
        tries.keep(attempt(AttemptEnd::Expired { at: Timestamp::from_millis(39) }), false);
        assert_eq!(tries.earlier().len(), 1, "without room the latest one stays");
        assert_eq!(tries.earlier().last().and_then(|attempt| attempt.end.at()), Some(Timestamp::from_millis(39)));
    }

    #[test]
    fn a_lease_that_was_taken_back_for_the_nodes_sake_is_not_charged() {
        let at = Timestamp::ZERO;
        let table = [
            (AttemptEnd::Expired { at }, 1),
            (AttemptEnd::Revoked { at, why: Revocation::Superseded }, 1),
            (AttemptEnd::Revoked { at, why: Revocation::Cancelled }, 1),
            (AttemptEnd::Revoked { at, why: Revocation::NodeDead }, 1),
            (AttemptEnd::Revoked { at, why: Revocation::Drained }, 0),
            (AttemptEnd::Revoked { at, why: Revocation::Released }, 0),
        ];
        for (end, charged) in table {
            let mut tries = Tries::default();
            tries.begin();
            tries.end(&end);
            assert_eq!((tries.generation(), tries.charged()), (1, charged), "{end:?}");
        }
    }

    #[test]
    fn a_nodes_leases_are_known_whichever_ends_first() {
        let mut leases = Leases::default();
        let node = NodeIndex::new(3);
        let jobs: Vec<_> = (1..=4).map(JobSeq::new).collect();
        let places: Vec<_> = jobs.iter().map(|job| leases.insert(node, *job)).collect();
        assert_eq!(places, [0, 1, 2, 3]);
        assert_eq!(leases.remove(node, 1), Some(jobs[3]), "the last one takes its place");
        assert_eq!(leases.remove(node, 2), None);
        assert_eq!((leases.of(node), leases.count()), (&[jobs[0], jobs[3]][..], 2));
        assert_eq!(leases.remove(node, 0), Some(jobs[3]));
        assert_eq!(leases.remove(node, 0), None);
        leases.forget(node);
        assert_eq!((leases.of(node).len(), leases.count()), (0, 0));
    }

    #[test]
    fn an_attempt_reads_back_as_it_was_written() {
        let (at, mark) = (Timestamp::from_millis(5), ResultMark::Content(7));
        let ends = [
            AttemptEnd::Running,
            AttemptEnd::Completed { at, mark },
            AttemptEnd::Failed { at, mark, error: Some(Payload::new(b"1")), retry_at: Some(at) },
            AttemptEnd::Failed { at, mark, error: None, retry_at: None },
            AttemptEnd::Expired { at },
            AttemptEnd::Revoked { at, why: Revocation::Released },
        ];
        for end in ends {
            let mut bytes = Vec::new();
            attempt(end.clone()).encode(&mut bytes);
            assert_eq!(Attempt::decode(&mut Reader::new(&bytes)), Ok(attempt(end)));
        }
    }
}
