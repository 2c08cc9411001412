//! Effects: what the shell has to do after a command or timer, beside the answer. A hub that replays a journal has
//! none.

use crate::acts::ActOn;
use crate::envelope::Principal;
use crate::ids::JobSeq;
use crate::name::Name;
use crate::outcome::{DropReason, FinalStatus};
use crate::policy::{AttestationStatus, IdentityStatus};
use crate::queue::EndedJob;
use crate::queue::job::EndReason;
use crate::queue::kind_rules::KindRules;
use crate::queue::letter_filter::LetterFilter;
use crate::queue::waiter::WaiterId;
use crate::registry::attestation::Drift;
use crate::registry::identity::PublicKey;
use crate::registry::node_state::StateReason;
use crate::time::{Millis, Timestamp};
use crate::tokens::TokenChange;

/// One thing for the shell to do.
#[derive(Debug)]
pub enum Effect {
    /// Write this into the audit log.
    Audit(Timestamp, Audit),
    /// Repeat this long poll's pull: there is a job for it. The poll is no longer parked.
    Wake(WaiterId),
    /// Answer the clients that wait for this job's end.
    Ended {
        job: JobSeq,
        /// The job itself, if retention dropped it before this effect was delivered: the hub does not hold it any more.
        gone: Option<Box<EndedJob>>,
    },
}

/// An event for the audit log.
#[derive(Clone, PartialEq, Debug)]
pub enum Audit {
    /// Submits or heartbeats were refused because a limit is reached: those of a round, with the latest one's figures.
    BackpressureDrop {
        /// Which limit.
        reason: DropReason,
        /// How much is held.
        held: u64,
        /// The limit.
        max: u64,
        /// Waiting jobs.
        queue_depth: u64,
        /// How many were refused.
        count: u64,
    },
    /// A pull got no job, since the bytes of jobs under lease are at their limit.
    InflightBytesSaturated { node: Name, bytes: u64, bytes_max: u64 },
    /// A pull got no jobs because too many are under lease.
    InflightSaturated {
        node: Name,
        /// Jobs under lease in the hub, or at the node if that limit is the one that is reached.
        inflight: u64,
        /// The limit.
        max: u64,
    },
    /// A lease ended without a result.
    LeaseReap {
        job: JobSeq,
        /// The node that held it.
        node: Name,
        attempt: u32,
    },
    /// Another attempt of a job is scheduled.
    RetryScheduled {
        job: JobSeq,
        /// The attempt that failed.
        attempt: u32,
        /// How long until the next one.
        delay_ms: Millis,
    },
    /// A result was accepted of a job that was under no lease.
    ResultUnleased {
        job: JobSeq,
        /// The node, if the result names it.
        node: Option<Name>,
    },
    /// A job's attempts or its retry budget are exhausted.
    RetryExhausted {
        job: JobSeq,
        /// How many attempts it had.
        attempts: u32,
    },
    /// A submit repeated an earlier one.
    IdempotencyHit {
        /// The job that it refers to.
        job: JobSeq,
        /// The whole key: the shell decides whether its beginning may be shown.
        key: Name,
        /// How that job ended, if it did.
        ended: Option<FinalStatus>,
    },
    /// A submit had a known key and another payload.
    IdempotencyKeyCollision {
        /// The whole key: the shell decides whether its beginning may be shown.
        key: Name,
        /// The first bytes of the known payload's hash.
        old_hash_prefix: [u8; 4],
        /// The first bytes of the refused payload's hash.
        new_hash_prefix: [u8; 4],
    },
    /// A job became a dead letter.
    DeadLetterAdded {
        job: JobSeq,
        kind: Name,
        reason: EndReason,
        /// How many leases it had.
        attempts: u32,
    },
    /// An operator requeued a dead letter.
    DeadLetterRequeued { job: JobSeq, kind: Name, by: Principal },
    /// An operator discarded a dead letter.
    DeadLetterDiscarded { job: JobSeq, kind: Name, by: Principal },
    /// A dead letter went: another one needed the room, or it was kept for as long as letters are.
    DeadLetterEvicted { job: JobSeq, kind: Name, is_aged: bool },
    /// A result came for a dead letter.
    DeadLetterCompleted { job: JobSeq, kind: Name },
    /// An operator began to act on many dead letters.
    ActBegan { act: u32, what: ActOn, filter: LetterFilter, matched: u64, by: Principal },
    /// An act on many dead letters ended.
    ActEnded {
        act: u32,
        what: ActOn,
        filter: LetterFilter,
        done: u64,
        /// Letters whose keys belong to other jobs, or that are too large.
        skipped: u64,
        /// The first and the last job that it changed.
        jobs: Option<(JobSeq, JobSeq)>,
        is_cancelled: bool,
        /// Who began it, or cancelled it.
        by: Principal,
    },
    /// A result came for an unknown job, and is kept.
    ResultOrphaned {
        orphan: u64,
        /// The job's id as its node sent it.
        job_id: Name,
        node: Option<Name>,
        /// How many older ones were dropped for it.
        evicted: u64,
    },
    /// A lower limit left no room for the oldest orphans.
    OrphansEvicted { orphans: u64 },
    /// An operator made an orphan the result of a job.
    OrphanAdopted { orphan: u64, job: JobSeq, node: Option<Name>, by: Principal },
    /// An operator discarded an orphan.
    OrphanDiscarded { orphan: u64, by: Principal },
    /// A job was cancelled.
    JobCancelled { job: JobSeq, by: Principal },
    /// The rules of a kind were set.
    KindChanged {
        kind: Name,
        version: u64,
        /// Before and after.
        rules: Box<(KindRules, KindRules)>,
        by: Principal,
    },
    /// The weights of clients or kinds that take turns were set.
    WeightsChanged { groups: u64, by: Principal },
    /// The pause of a kind was over.
    KindResumed { kind: Name },
    /// An operator drained a node.
    NodeDrained { node: Name, until: Option<Timestamp>, reason: Option<Name>, by: Principal },
    /// An operator let a drained node work again.
    NodeResumed { node: Name, by: Principal },
    /// An operator had a node forgotten.
    NodeRemoved { node: Name, by: Principal },
    /// A node attested for the first time.
    AttestationFirstSeen { node: Name, build_id: Option<Name>, capability_hash: Option<Name> },
    /// A node attests something that is not its baseline.
    AttestationDrift { node: Name, drift: Box<Drift> },
    /// A node's capability hash changed too often.
    AttestationSpoofSuspect {
        node: Name,
        /// How often it changed, ever.
        flips: u32,
    },
    /// A node is back at its baseline.
    AttestationRestored { node: Name },
    /// A node that attested does so no more.
    AttestationMissing { node: Name },
    /// An operator made what a node attests its baseline.
    AttestationAccepted { node: Name, drift: Box<Drift>, by: Principal },
    /// A node's first key that signed is pinned.
    IdentityPinned { node: Name, key: PublicKey },
    /// A heartbeat under a node's name is not shown to be the node's; not told again while the fault is the same.
    IdentityFault {
        node: Name,
        /// The key that it presents.
        key: Option<PublicKey>,
        status: IdentityStatus,
        /// It was recorded and sent again.
        is_replayed: bool,
    },
    /// Another key of a node is pinned, or none any more: by an operator, or by the node itself, which announced it.
    IdentityRekeyed { node: Name, key: Option<PublicKey>, status: IdentityStatus, by: Principal },
    /// A node is warned about from now on.
    NodeWarned { node: Name, reason: StateReason, attestation: AttestationStatus },
    /// A node gets no jobs from now on.
    NodeQuarantined {
        node: Name,
        reason: StateReason,
        attestation: AttestationStatus,
        until: Option<Timestamp>,
        note: Option<Name>,
        by: Principal,
    },
    /// A node's quarantine, or the warning about it, is over.
    NodeNormal { node: Name, attestation: AttestationStatus },
    /// An operator ended a node's quarantine, or the warning about it.
    NodeCleared { node: Name, by: Principal },
    /// The shared token changed, or its rotation.
    TokenChanged { change: TokenChange, by: Principal },
    /// A policy was added.
    PolicyAdded { version: u64, sha256: [u8; 32], by: Principal },
    /// A policy became active.
    PolicyActivated { version: u64, sha256: [u8; 32], previous: u64, by: Principal },
    /// A policy was to be added whose version is held with another content.
    PolicyTampered {
        version: u64,
        /// That of the one that is held.
        sha256: [u8; 32],
        by: Principal,
    },
    /// A node was seen for the first time.
    NodeRegistered { node: Name },
    /// A stale or dead node was seen again.
    NodeOnline { node: Name },
    /// A node was not seen for `node_ttl_ms`.
    NodeStale { node: Name },
    /// A node was not seen for `node_dead_ms`.
    NodeDead { node: Name },
}
