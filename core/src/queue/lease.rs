//! Leases: which node works on a job and until when, how its attempts ended, and which leases a node holds.
//!
//! Each lease has a generation, which fences the earlier ones. What its end counts as is its [`Toll`]: a failure is
//! charged as an attempt; a loss (the lease expired, its node died) has a limit of its own, since one job that crashes
//! nodes must not spend the attempts of those beside it; a return (the node was drained, or released it, or never learnt
//! of it) is free. The ends of leases are timers ([`crate::timers`]); [`Leases`] lists them by node.

use crate::command::ResultMark;
use crate::encoding::{DecodeError, Encoded, Reader, members, numbered};
use crate::ids::{JobSeq, NodeIndex};
use crate::limits::{ATTEMPT_BYTES, ATTEMPTS_KEPT_MAX};
use crate::name::Name;
use crate::payload::Payload;
use crate::rules::{self, RulesVersion};
use crate::time::Timestamp;
use crate::zone::Zone;
use std::collections::{BTreeMap, VecDeque};

/// One lease of a job.
#[derive(Clone, PartialEq, Debug)]
pub struct Attempt {
    pub node: Name,
    pub started_at: Timestamp,
    pub end: AttemptEnd,
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Debug)]
pub enum AttemptEnd {
    /// It has not ended yet.
    Running,
    Completed {
        at: Timestamp,
        mark: ResultMark,
    },
    Failed {
        at: Timestamp,
        mark: ResultMark,
        /// Absent if there was none, it was too long, or the hub had no room for it.
        error: Option<Payload>,
        /// When the next attempt may start, as the node was answered; [`Timestamp::NEVER`] if the job ended.
        retry_at: Timestamp,
    },
    /// Its lease ended without a result.
    Expired {
        at: Timestamp,
    },
    Revoked {
        at: Timestamp,
        why: Revocation,
    },
}

/// Why a lease was revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revocation {
    /// A newer job under the same key took the job's place.
    Superseded,
    /// A client or an operator cancelled the job.
    Cancelled,
    /// An operator drained the node.
    Drained,
    NodeDead,
    /// The node released it.
    Released,
    /// The reply that granted it never left the hub.
    Undelivered,
    /// The attempt took longer than its `max_run`.
    MaxRun,
}

/// What the end of a lease counts as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Toll {
    /// An attempt.
    Charge,
    Loss,
    Return,
}

/// How many leases a job had, what they counted as, and how the earlier ones ended.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct AttemptHistory {
    generation: u32,
    /// Since the job was submitted or requeued, as the other counts.
    charged: u8,
    losses: u8,
    returns: u16,
    /// Ended attempts before the latest one, oldest first. Boxed: most jobs have none.
    #[expect(clippy::box_collection, reason = "8 bytes in each job's record, not 32")]
    earlier: Option<Box<VecDeque<Attempt>>>,
}

/// The leases that nodes hold.
#[derive(Default, Debug)]
pub(crate) struct Leases {
    by_node: BTreeMap<NodeIndex, Vec<JobSeq>>,
    by_zone: BTreeMap<Zone, u64>,
    count: u64,
    /// How many of them are of final jobs.
    pub(super) held: u64,
}

/// The capacity of a node's list of leases is not reduced below this.
const LEASES_CAPACITY_MIN: usize = 8;

impl AttemptEnd {
    /// When it ended; `None` if it is running.
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            AttemptEnd::Running => None,
            AttemptEnd::Completed { at, .. }
            | AttemptEnd::Failed { at, .. }
            | AttemptEnd::Expired { at }
            | AttemptEnd::Revoked { at, .. } => Some(*at),
        }
    }

    /// The mark of its result, if it ended with one.
    pub fn mark(&self) -> Option<ResultMark> {
        match self {
            AttemptEnd::Completed { mark, .. } | AttemptEnd::Failed { mark, .. } => Some(*mark),
            AttemptEnd::Running | AttemptEnd::Expired { .. } | AttemptEnd::Revoked { .. } => None,
        }
    }

    /// Whether its node gave it back, or it was taken back for no fault of the job.
    pub fn is_returned(&self) -> bool {
        matches!(self, AttemptEnd::Revoked { why, .. }
            if matches!(why, Revocation::Drained | Revocation::Released | Revocation::Undelivered))
    }

    pub(crate) fn toll(&self, rules: RulesVersion) -> Toll {
        let loss = if rules::counts_losses(rules) { Toll::Loss } else { Toll::Charge };
        match self {
            AttemptEnd::Running | AttemptEnd::Completed { .. } | AttemptEnd::Failed { .. } => Toll::Charge,
            AttemptEnd::Expired { .. } => loss,
            AttemptEnd::Revoked { why, .. } => match why {
                Revocation::Superseded | Revocation::Cancelled | Revocation::MaxRun => Toll::Charge,
                Revocation::NodeDead => loss,
                Revocation::Drained | Revocation::Released | Revocation::Undelivered => Toll::Return,
            },
        }
    }
}

impl Revocation {
    pub const fn as_str(self) -> &'static str {
        match self {
            Revocation::Superseded => "superseded",
            Revocation::Cancelled => "cancelled",
            Revocation::Drained => "drained",
            Revocation::NodeDead => "node_dead",
            Revocation::Released => "released",
            Revocation::Undelivered => "undelivered",
            Revocation::MaxRun => "max_run",
        }
    }
}

impl Attempt {
    /// Bytes of memory in addition to the job's own record.
    pub(super) fn bytes(&self) -> u64 {
        let error = match &self.end {
            AttemptEnd::Failed { error, .. } => Payload::bytes_of(error),
            _ => 0,
        };
        ATTEMPT_BYTES + self.node.bytes() + error
    }
}

impl AttemptHistory {
    /// The latest lease's generation, from 1; 0 before the first.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Leases that were charged as attempts, that of a running one included.
    pub fn charged(&self) -> u32 {
        self.charged.into()
    }

    /// Leases that were lost.
    pub fn losses(&self) -> u32 {
        self.losses.into()
    }

    /// Leases that were given or taken back, up to [`u16::MAX`].
    pub fn returns(&self) -> u32 {
        self.returns.into()
    }

    /// Leases that were neither charged nor lost, up to [`u16::MAX`].
    pub fn unpaid(&self) -> u32 {
        (self.generation.saturating_sub(self.charged() + self.losses())).min(u16::MAX.into())
    }

    pub fn begin(&mut self) {
        self.generation = rules::next_generation(self.generation);
        self.charged = self.charged.saturating_add(1);
    }

    pub fn end(&mut self, toll: Toll) {
        match toll {
            Toll::Charge => return,
            Toll::Loss => self.losses = self.losses.saturating_add(1),
            Toll::Return => self.returns = self.returns.saturating_add(1),
        }
        self.charged -= 1;
    }

    /// The job starts anew: its attempts stay readable, and count no more.
    pub fn reset_counts(&mut self) {
        (self.losses, self.returns) = (0, 0);
        if rules::counts_attempts_anew() {
            self.charged = 0;
        }
    }

    /// Adds an attempt to the earlier ones. Drops the oldest of these beyond the limit, or all of them without
    /// `has_room`.
    pub fn keep(&mut self, attempt: Attempt, has_room: bool) {
        let earlier = self.earlier.get_or_insert_default();
        // Together with this attempt and the next one, which the job's own record holds, these are the limit.
        let kept_max = if has_room { ATTEMPTS_KEPT_MAX - 2 } else { 0 };
        earlier.drain(..earlier.len().saturating_sub(kept_max));
        // Exact capacity: few jobs have many attempts.
        earlier.shrink_to(earlier.len() + 1);
        earlier.reserve_exact(1);
        earlier.push_back(attempt);
    }

    /// The attempts before the latest one that are kept, oldest first.
    pub fn earlier(&self) -> impl DoubleEndedIterator<Item = &Attempt> + ExactSizeIterator {
        self.earlier.as_deref().unwrap_or(const { &VecDeque::new() }).iter()
    }

    /// Bytes of memory that the history takes.
    pub fn bytes(&self) -> u64 {
        self.earlier.as_deref().map_or(0, |earlier| earlier.iter().map(Attempt::bytes).sum())
    }

    /// The history of a snapshot; `None` if a count is too large.
    pub(super) fn restore(
        generation: u32,
        [charged, losses, returns]: [u32; 3],
        earlier: Vec<Attempt>,
    ) -> Option<AttemptHistory> {
        let earlier = (!earlier.is_empty()).then(|| Box::new(VecDeque::from(earlier)));
        let (charged, losses) = (u8::try_from(charged).ok()?, u8::try_from(losses).ok()?);
        Some(AttemptHistory { generation, charged, losses, returns: u16::try_from(returns).ok()?, earlier })
    }
}

impl Leases {
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Jobs of a zone under lease.
    pub fn in_zone(&self, zone: &Zone) -> u64 {
        self.by_zone.get(zone).copied().unwrap_or(0)
    }

    /// Jobs under lease by zone.
    pub fn zones(&self) -> impl Iterator<Item = (&Zone, u64)> {
        self.by_zone.iter().map(|(zone, count)| (zone, *count))
    }

    /// The jobs that a node has under lease, in no particular order.
    pub fn of(&self, node: NodeIndex) -> &[JobSeq] {
        self.by_node.get(&node).map_or(&[], Vec::as_slice)
    }

    /// All jobs under lease, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = JobSeq> {
        self.by_node.values().flatten().copied()
    }

    /// Adds a lease of a node for a job of a zone; returns its place in the node's list.
    pub(super) fn insert(&mut self, node: NodeIndex, zone: &Zone, job: JobSeq) -> u32 {
        match self.by_zone.get_mut(zone) {
            Some(count) => *count += 1,
            None => _ = self.by_zone.insert(zone.clone(), 1),
        }
        let held = self.by_node.entry(node).or_default();
        held.push(job);
        self.count += 1;
        (held.len() - 1) as u32
    }

    /// Removes a lease; returns the job whose lease was moved to its place, if there is one.
    pub(super) fn remove(&mut self, node: NodeIndex, zone: &Zone, place: u32) -> Option<JobSeq> {
        let in_zone = self.by_zone.get_mut(zone).expect("the zone of a lease is counted");
        *in_zone -= 1;
        if *in_zone == 0 {
            self.by_zone.remove(zone);
        }
        let held = self.by_node.get_mut(&node).expect("a node with a lease has a list of them");
        held.swap_remove(place as usize);
        self.count -= 1;
        // Reduces the capacity when little of it is used.
        if held.capacity() > LEASES_CAPACITY_MIN && held.len() < held.capacity() / 4 {
            held.shrink_to(held.len() * 2);
        }
        held.get(place as usize).copied()
    }

    /// Removes the list of a node that is forgotten.
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
                Failure {
                    at: *at,
                    mark: *mark,
                    error: error.clone(),
                    retry_at: Some(*retry_at).filter(|at| *at != Timestamp::NEVER),
                }
                .encode(out);
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
                AttemptEnd::Failed { at, mark, error, retry_at: retry_at.unwrap_or(Timestamp::NEVER) }
            }
            3 => AttemptEnd::Expired { at: Encoded::decode(from)? },
            4 => AttemptEnd::Revoked { at: Encoded::decode(from)?, why: Encoded::decode(from)? },
            other => return Err(DecodeError::UnknownVariant("attempt's end", other.into())),
        };
        Ok(Attempt { node, started_at, end })
    }
}

/// The encoding of [`AttemptEnd::Failed`].
struct Failure {
    at: Timestamp,
    mark: ResultMark,
    error: Option<Payload>,
    retry_at: Option<Timestamp>,
}

members!(Failure { 1 at: required, 2 mark: required, 3 error, 4 retry_at });
numbered!(Revocation { 0 Superseded, 1 Cancelled, 2 Drained, 3 NodeDead, 4 Released, 5 Undelivered, 6 MaxRun });

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn attempt(end: AttemptEnd) -> Attempt {
        Attempt { node: Name::new("n").unwrap(), started_at: Timestamp::ZERO, end }
    }

    #[test]
    fn the_latest_attempts_are_kept_and_all_are_counted() {
        let mut history = AttemptHistory::default();
        for ms in 0..40 {
            history.begin();
            let end = AttemptEnd::Expired { at: Timestamp::from_millis(ms) };
            history.end(end.toll(RulesVersion::FIRST));
            history.keep(attempt(end), true);
            // The latest one is in the job's own record.
            assert_eq!(history.earlier().len(), (ms as usize + 1).min(ATTEMPTS_KEPT_MAX - 1));
        }
        assert_eq!((history.generation(), history.charged()), (40, 40));
        history.keep(attempt(AttemptEnd::Expired { at: Timestamp::from_millis(39) }), false);
        assert_eq!(history.earlier().len(), 1, "without room only the latest one is kept");
        assert_eq!(history.earlier().last().and_then(|attempt| attempt.end.at()), Some(Timestamp::from_millis(39)));
    }

    #[test]
    fn a_lost_lease_is_charged_under_the_first_rules_only_and_a_returned_one_never() {
        let at = Timestamp::ZERO;
        let revoked = |why| AttemptEnd::Revoked { at, why };
        let table = [
            (AttemptEnd::Expired { at }, [1, 0, 0], [0, 1, 0]),
            (revoked(Revocation::NodeDead), [1, 0, 0], [0, 1, 0]),
            (revoked(Revocation::Superseded), [1, 0, 0], [1, 0, 0]),
            (revoked(Revocation::Cancelled), [1, 0, 0], [1, 0, 0]),
            (revoked(Revocation::MaxRun), [1, 0, 0], [1, 0, 0]),
            (revoked(Revocation::Drained), [0, 0, 1], [0, 0, 1]),
            (revoked(Revocation::Released), [0, 0, 1], [0, 0, 1]),
            (revoked(Revocation::Undelivered), [0, 0, 1], [0, 0, 1]),
        ];
        for (end, first, newest) in table {
            for (rules, expected) in [(RulesVersion::FIRST, first), (RulesVersion::NEWEST, newest)] {
                let mut history = AttemptHistory::default();
                history.begin();
                history.end(end.toll(rules));
                assert_eq!([history.charged(), history.losses(), history.returns()], expected, "{end:?} {rules:?}");
            }
        }
    }

    #[test]
    fn a_nodes_list_of_leases_is_right_in_whichever_order_they_end() {
        let mut leases = Leases::default();
        let (node, zone) = (NodeIndex::new(3), Zone::DEFAULT);
        let jobs: Vec<_> = (1..=4).map(JobSeq::new).collect();
        let places: Vec<_> = jobs.iter().map(|job| leases.insert(node, &zone, *job)).collect();
        assert_eq!(places, [0, 1, 2, 3]);
        assert_eq!(leases.remove(node, &zone, 1), Some(jobs[3]), "the last one is moved to its place");
        assert_eq!(leases.remove(node, &zone, 2), None);
        assert_eq!((leases.of(node), leases.count()), (&[jobs[0], jobs[3]][..], 2));
        assert_eq!(leases.remove(node, &zone, 0), Some(jobs[3]));
        assert_eq!(leases.remove(node, &zone, 0), None);
        leases.forget(node);
        assert_eq!((leases.of(node).len(), leases.count()), (0, 0));
    }

    #[test]
    fn an_encoded_attempt_decodes_to_itself() {
        let (at, mark) = (Timestamp::from_millis(5), ResultMark::Content(7));
        let ends = [
            AttemptEnd::Running,
            AttemptEnd::Completed { at, mark },
            AttemptEnd::Failed { at, mark, error: Some(Payload::new(b"1")), retry_at: at },
            AttemptEnd::Failed { at, mark, error: None, retry_at: Timestamp::NEVER },
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
