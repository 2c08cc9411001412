//! Mutants: mistakes that can be compiled in and switched on one at a time, to see whether the simulator finds them.
//!
//! Production code asks [`is_active`] where it decides. Without the feature `sim-mutants` that is the constant `false`, so
//! the hub that is shipped has no trace of them. With it, one mutant at most is active in the whole process.

/// The table of mutants: whether it is in the core or in the shell, what it is called, what goes wrong.
macro_rules! mutants {
    ($($place:ident $mutant:ident: $name:literal, $description:literal;)+) => {
        /// A mistake that somebody could make.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $(#[doc = $description] $mutant,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$mutant),+];

            /// The word for it.
            pub const fn name(self) -> &'static str {
                match self { $(Mutant::$mutant => $name,)+ }
            }

            /// What goes wrong.
            pub const fn description(self) -> &'static str {
                match self { $(Mutant::$mutant => $description,)+ }
            }

            /// Whether the mistake is the state machine's; else it is the shell's.
            pub const fn is_in_core(self) -> bool {
                match self { $(Mutant::$mutant => matches!(Place::$place, Place::Core),)+ }
            }
        }
    };
}

/// Whose mistake it is.
enum Place {
    Core,
    Shell,
}

mutants! {
    Core LeaseGenerationReused: "lease-generation-reused", "a second lease of a job has the generation of the first";
    Core AttemptCountedTwice: "attempt-counted-twice", "a job has had one attempt more than it had";
    Core JobTtlSkipped: "job-ttl-skipped", "a job whose time to live is over goes on waiting";
    Core ExpiredJobRetried: "expired-job-retried", "a job whose time to live ended under a lease is tried again";
    Core LeaseExpirySkipped: "lease-expiry-skipped", "a lease whose time is over goes on";
    Core ExtensionShortensLease: "extension-shortens-lease", "an extension may make a lease shorter";
    Core ExtensionByAnotherNode: "extension-by-another-node", "a node may extend the lease of another node";
    Core QueueLimitOffByOne: "queue-limit-off-by-one", "one job more than the queue's limit waits";
    Core ScheduledNotCounted: "scheduled-not-counted", "scheduled jobs do not count for the queue's limit";
    Core InflightLimitOffByOne: "inflight-limit-off-by-one", "one lease more than the limit is out in the whole hub";
    Core NodeLeasesOffByOne: "node-leases-off-by-one", "one lease more than the limit is at one node";
    Core LeavingBytesCounted: "leaving-bytes-counted", "a job that is replaced makes no room for the bytes of the new one";
    Core RetainedJobsOffByOne: "retained-jobs-off-by-one", "one final job more than the limit is kept";
    Core SupersedeForgotten: "supersede-forgotten", "a job that latest_wins replaces goes on as if nothing were";
    Core KeyHashIgnored: "key-hash-ignored", "a key with another payload passes for a repeat";
    Core KeyExpiresEarly: "key-expires-early", "a key is forgotten one millisecond early";
    Core NewestKeyEvicted: "newest-key-evicted", "a full table of keys forgets the newest answer, not the oldest";
    Core RetryDelayIgnored: "retry-delay-ignored", "a failed job is tried again at once";
    Core LaneOrderReversed: "lane-order-reversed", "the last job of a lane goes first";
    Core WakeForgotten: "wake-forgotten", "a job that becomes ready wakes no long poll";
    Core SecondWakeForgotten: "second-wake-forgotten", "a long poll is not woken for the job that another one left";
    Core NodeNeverStale: "node-never-stale", "a node that is heard of no more stays online";
    Core NodeForgottenWithLeases: "node-forgotten-with-leases", "a dead node is forgotten although it holds a lease";
    Core TimeGoesBack: "time-goes-back", "an earlier instant than the last one sets the hub's time back";
    Core FinalOrderLost: "final-order-lost", "a restored hub drops final jobs in the order of submission, not of their ends";
    Shell AppendNotSynced: "append-not-synced", "a batch is acknowledged before it was synced";
    Shell SegmentNotSynced: "segment-not-synced", "a new segment gets its name before it was synced";
    Shell FolderNotSynced: "folder-not-synced", "a new name is used before its folder was synced";
    Shell ReplyNotHeld: "reply-not-held", "a reply leaves while its record is on the way to the disk";
    Shell FailureAcknowledged: "failure-acknowledged", "a reply acknowledges what the journal failed to take";
    Shell UndurableShown: "undurable-shown", "a read shows what the journal failed to take";
    Shell TimeNotRecorded: "time-not-recorded", "what time alone ended is told although no record holds it";
    Shell HeldReadShown: "held-read-shown", "a read that waits for the journal is answered when that fails";
    Shell EndNotTold: "end-not-told", "who waits for a job's end is not answered when it comes";
    Shell BatchReversed: "batch-reversed", "the last entry of a batch is answered first";
    Shell LineNotTold: "line-not-told", "who listens is not told some lines of the audit log";
    Shell PageBeginsLate: "page-begins-late", "a page of the audit log begins with the newest file at the earliest";
    Shell RecordNotJournaled: "record-not-journaled", "a command that changed something is not handed to the journal";
    Shell TornTailIgnored: "torn-tail-ignored", "a torn batch passes for the journal's clean end";
    Shell LastBatchNotRewritten: "last-batch-not-rewritten", "a start trusts a last batch that may never have reached the disk";
    Shell SnapshotCoversTooMuch: "snapshot-covers-too-much", "a snapshot says that it has one record more than it has";
    Shell SnapshotCoversTooLittle: "snapshot-covers-too-little", "a snapshot says that it has one record less than it has";
    Shell AuditLinkNotAdvanced: "audit-link-not-advanced", "the next line of the audit log does not link to the last";
    Shell AuditChainRestarted: "audit-chain-restarted", "a start begins the audit log's chain anew";
    Shell AuditTailUntold: "audit-tail-untold", "a line of the audit log that a crash tore is passed over in silence";
    Shell AuditFileNotSynced: "audit-file-not-synced", "a full file of the audit log is not synced before the next one";
    Shell TraceGapUntold: "trace-gap-untold", "what is missing in the trace is told nowhere";
    Shell TraceGapToldLate: "trace-gap-told-late", "what is missing in the trace is told after what follows it";
    Shell TraceBeginningNotSynced: "trace-beginning-not-synced", "where a life of the trace begins is not synced";
    Shell EffectNotCounted: "effect-not-counted", "what the state machine said is not counted";
}

/// Whether this mistake is made.
#[cfg(not(feature = "sim-mutants"))]
#[inline(always)]
pub const fn is_active(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "sim-mutants")]
pub use switch::{activate, is_active};

/// Does something, unless this mutant forgets it.
#[inline(always)]
pub fn unless<E>(mutant: Mutant, act: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    if is_active(mutant) { Ok(()) } else { act() }
}

/// Which mutant is active, for the whole process.
#[cfg(feature = "sim-mutants")]
mod switch {
    use super::Mutant;
    use std::sync::atomic::{AtomicU8, Ordering};

    /// The active mutant's number; zero for none.
    static ACTIVE: AtomicU8 = AtomicU8::new(0);

    /// Switches that mutant on, and any other off.
    pub fn activate(mutant: Option<Mutant>) {
        ACTIVE.store(mutant.map_or(0, number), Ordering::Relaxed);
    }

    /// Whether this mistake is made.
    #[inline]
    pub fn is_active(mutant: Mutant) -> bool {
        ACTIVE.load(Ordering::Relaxed) == number(mutant)
    }

    const fn number(mutant: Mutant) -> u8 {
        1 + mutant as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_mutant_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        assert_eq!(names.len(), Mutant::ALL.len());
    }

    #[test]
    fn no_mutant_is_active_unless_it_was_switched_on() {
        for mutant in Mutant::ALL.iter().copied() {
            assert!(!is_active(mutant), "{}", mutant.name());
        }
    }
}
