//! The table of mutants: where each is made, its name, what goes wrong.

macro_rules! mutants {
    ($($place:ident $mutant:ident: $name:literal, $description:literal;)+) => {
        /// A mistake that could be made in the hub.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $(#[doc = $description] $mutant,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$mutant),+];

            /// Its name on the command line and in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Mutant::$mutant => $name,)+ }
            }

            /// What goes wrong.
            pub const fn description(self) -> &'static str {
                match self { $(Mutant::$mutant => $description,)+ }
            }

            /// Where the mistake is made.
            pub const fn place(self) -> Place {
                match self { $(Mutant::$mutant => Place::$place,)+ }
            }

            /// Whether the mistake is the state machine's.
            pub const fn is_in_core(self) -> bool {
                matches!(self.place(), Place::Core)
            }
        }
    };
}

/// Where a mistake is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the state machine: `core/mutated`.
    Core,
    /// In the shell: `io/mutated`.
    Shell,
    /// In the simulated disk, which skips a sync: `sim/src/disk/mistakes.rs`.
    Disk,
}

mutants! {
    Core LeaseGenerationReused: "lease-generation-reused", "a second lease of a job has the generation of the first";
    Core StaleLeaseCompletes: "stale-lease-completes", "a result under a lease that has ended is accepted as the running attempt's";
    Core AttemptCountedTwice: "attempt-counted-twice", "one attempt too many is counted of a job";
    Core RunAtIgnoresClock: "run-at-ignores-clock", "a job that is scheduled for an instant of the calendar keeps its place when the clock is set";
    Core LeaseEndsInSleep: "lease-ends-in-sleep", "a lease ends while the machine sleeps";
    Core JobTtlSkipped: "job-ttl-skipped", "a job whose time to live has ended keeps waiting";
    Core ExpiredJobRetried: "expired-job-retried", "a job whose time to live ended under a lease is retried";
    Core ReclaimedForEver: "reclaimed-for-ever", "a job's leases are taken back uncharged without a limit";
    Core LeaseExpirySkipped: "lease-expiry-skipped", "a lease does not expire";
    Core ExtensionShortensLease: "extension-shortens-lease", "an extension may make a lease shorter";
    Core ExtensionByAnotherNode: "extension-by-another-node", "a node may extend the lease of another node";
    Core QueueLimitOffByOne: "queue-limit-off-by-one", "one job more than the queue's limit waits";
    Core ScheduledNotCounted: "scheduled-not-counted", "scheduled jobs do not count for the queue's limit";
    Core InflightLimitOffByOne: "inflight-limit-off-by-one", "one lease more than the hub's limit is granted";
    Core NodeLeasesOffByOne: "node-leases-off-by-one", "one lease more than a node's limit is granted";
    Core LeavingBytesCounted: "leaving-bytes-counted", "a superseded job's bytes still count when the new job is checked";
    Core RetainedJobsOffByOne: "retained-jobs-off-by-one", "one final job more than the limit is retained";
    Core SupersedeForgotten: "supersede-forgotten", "a job that latest_wins supersedes is not ended";
    Core KeyHashIgnored: "key-hash-ignored", "a key with another payload is taken for a repeat";
    Core KeyExpiresEarly: "key-expires-early", "a key expires one millisecond early";
    Core YoungKeyEvicted: "young-key-evicted", "a full table of keys evicts a spent key that is younger than the floor";
    Core RetryDelayIgnored: "retry-delay-ignored", "a failed job is retried at once";
    Core RetryPrefersNoNode: "retry-prefers-no-node", "a retry is leased to the node of its last attempt although another one could run it";
    Core ReservationNeverEnds: "reservation-never-ends", "a retry waits for another node for ever";
    Core LaneOrderReversed: "lane-order-reversed", "of a lane's fresh and returned jobs the later one is leased first";
    Core WakeForgotten: "wake-forgotten", "a job that becomes ready wakes no long poll";
    Core SecondWakeForgotten: "second-wake-forgotten", "a long poll is not woken for the job that another one left";
    Core NodeNeverStale: "node-never-stale", "a silent node stays online";
    Core NodeForgottenWithLeases: "node-forgotten-with-leases", "a dead node is dropped although it holds a lease";
    Core TimeGoesBack: "time-goes-back", "an earlier instant than the last one sets the hub's time back";
    Core FinalOrderLost: "final-order-lost", "a restored hub drops final jobs in the order of submission, not of their ends";
    Core LossCharged: "loss-charged", "a lost lease is charged as an attempt";
    Core LossesOffByOne: "losses-off-by-one", "a job may be lost once more than the limit";
    Core RevokedLeaseFreed: "revoked-lease-freed", "the lease of a superseded job counts no more although its node is still at work";
    Core RevocationsUnbounded: "revocations-unbounded", "newer jobs of a key take leases from older ones without end";
    Core DeadNodeKeepsLeases: "dead-node-keeps-leases", "a node that died keeps its leases to their ends";
    Core NewLeaseLostWithNode: "new-lease-lost-with-node", "a lease that a node got after its last heartbeat is lost with it";
    Core LetterKeptAsFinal: "letter-kept-as-final", "a dead letter is kept for as long as any final job";
    Core RetriesUnlimited: "retries-unlimited", "retries have no budget";
    Core CreditNotSpent: "credit-not-spent", "a retry spends no credit of the budget";
    Core CreditsSavedForEver: "credits-saved-for-ever", "the floor of the retry budget saves all its credits";
    Core ReleaseSpins: "release-spins", "a job that is released again and again is ready at once";
    Core RetryAfterUnlimited: "retry-after-unlimited", "a node may put off the next attempt for any time";
    Core MaxRunIgnored: "max-run-ignored", "an attempt takes as long as its lease is extended";
    Core ZoneLeasesOffByOne: "zone-leases-off-by-one", "one lease more than a zone's limit is granted";
    Core KindLeasesOffByOne: "kind-leases-off-by-one", "one lease more than a kind's limit is granted";
    Core PausedKindLeased: "paused-kind-leased", "a job of a paused kind is leased";
    Core RateNotSpent: "rate-not-spent", "a lease spends nothing of its kind's rate";
    Core DrainedNodeLeases: "drained-node-leases", "a drained node is given jobs";
    Core RequeuedClockRunsOn: "requeued-clock-runs-on", "a requeued letter has the rest of its old time to live";
    Core RequeuedKeepsAttempts: "requeued-keeps-attempts", "the attempts of a requeued letter still count";
    Core EvictionUntold: "eviction-untold", "no line of the audit log reports a letter that made room for another one";
    Core LateResultCompletes: "late-result-completes", "the late result of a cancelled or superseded job is answered as its completion";
    Core ActGoesRound: "act-goes-round", "an act handles letters that came after it began";
    Core KindLettersOffByOne: "kind-letters-off-by-one", "one dead letter more than a kind's limit is kept";
    Core UnfinishedMayNotDie: "unfinished-may-not-die", "unfinished jobs do not count where submits are refused to keep letters";
    Core OrphansOffByOne: "orphans-off-by-one", "one orphan more than the limit is kept";
    Core OrphanAdoptedTwice: "orphan-adopted-twice", "an adopted orphan is kept and can be adopted again";
    Core ExplainOmitsLimit: "explain-omits-limit", "a limit of leases that is reached is not named as a reason why a job waits";
    Core ExplainNamesLimitEarly: "explain-names-limit-early", "a limit that leaves room for one lease is named as a reason why a job waits";
    Core ExplainCountsEmptyTurns: "explain-counts-empty-turns", "a retry is said to wait for credits of kinds that have no more retries";
    Core ExplainInstantLate: "explain-instant-late", "a reason is said to end a millisecond late";
    Core WeightIgnored: "weight-ignored", "all clients and kinds have as many turns as each other";
    Core TurnsNotKept: "turns-not-kept", "a lease does not advance the clock of turns, so that who comes late is before all others";
    Core WeightsNotFollowed: "weights-not-followed", "jobs that wait keep their turns when weights change";
    Core AgesEarly: "ages-early", "a job counts one priority higher a millisecond early";
    Core AgesTwice: "ages-twice", "a job that ages counts two priorities higher";
    Core AgedStaysBehind: "aged-stays-behind", "a job that ages keeps its place behind those of the next priority";
    Core WeightsNotStored: "weights-not-stored", "a snapshot lacks the weights";
    Core RotationEndsEarly: "rotation-ends-early", "at the last instant of a rotation the old token is refused already";
    Core ReplacedTokenForgotten: "replaced-token-forgotten", "a token that a rotation has replaced may come back";
    Core OldConfigurationRevives: "old-configuration-revives", "a configuration that says what it said before is followed again";
    Disk AppendNotSynced: "append-not-synced", "a batch is acknowledged before it was synced";
    Disk SegmentNotSynced: "segment-not-synced", "a new segment gets its name before it was synced";
    Disk FolderNotSynced: "folder-not-synced", "a new name in the journal's folders is used before its folder was synced";
    Shell SaltRepeated: "salt-repeated", "each start makes its ids with the salt of the start before";
    Shell ShortReadDrains: "short-read-drains", "a short read counts as a drained socket where the system raises no event then";
    Shell ReplyNotHeld: "reply-not-held", "a reply leaves while its record is on the way to the disk";
    Shell FailureAcknowledged: "failure-acknowledged", "a reply acknowledges what the journal failed to append";
    Shell UnknownRefused: "unknown-refused", "a command that was applied is answered as not done";
    Shell SentLeaseReclaimed: "sent-lease-reclaimed", "a lease is taken back although its node was told of it";
    Shell UndurableShown: "undurable-shown", "a read shows what the journal failed to take";
    Shell TimeNotRecorded: "time-not-recorded", "an end by time alone is reported although no record holds it";
    Shell HeldReadShown: "held-read-shown", "a read that waits for the journal is answered although the journal failed";
    Shell EndNotTold: "end-not-told", "a waiter is not answered at its job's end";
    Shell BatchReversed: "batch-reversed", "the last entry of a batch is answered first";
    Shell IntegrityNotChecked: "integrity-not-checked", "a result is accepted whatever its checksum and signature say";
    Shell ActNotHeld: "act-not-held", "an operator's act is acknowledged before it is durable";
    Shell CancelNotLogged: "cancel-not-logged", "the audit log has no line of a job's cancellation";
    Shell DrainNotLogged: "drain-not-logged", "the audit log has no line of a node's drain";
    Shell KindNotLogged: "kind-not-logged", "the audit log has no line of a change to a kind's rules";
    Shell WeightsNotLogged: "weights-not-logged", "the audit log has no line of a change of weights";
    Shell EvictionNotLogged: "eviction-not-logged", "the audit log has no line of a dead letter's eviction";
    Shell ActEndNotLogged: "act-end-not-logged", "the audit log does not say how many dead letters an act has changed";
    Shell KindConfiguredAgain: "kind-configured-again", "each start sets what the configuration says of kinds, changed or not";
    Shell KindSetAnew: "kind-set-anew", "a start that sets a changed rule of a kind also sets the rules that are as before";
    Shell LineNotTold: "line-not-told", "some lines of the audit log are not sent to listeners";
    Shell PageBeginsLate: "page-begins-late", "a page of the audit log shows no line before the newest file";
    Shell RecordNotJournaled: "record-not-journaled", "a command that changed something is not handed to the journal";
    Shell TornTailIgnored: "torn-tail-ignored", "a start takes a torn batch for a clean end and appends behind it";
    Shell LastBatchNotRewritten: "last-batch-not-rewritten", "a start trusts a last batch that may never have reached the disk";
    Shell LostLockIgnored: "lost-lock-ignored", "a hub writes on although another one has locked its data folder";
    Shell SnapshotCoversTooMuch: "snapshot-covers-too-much", "a snapshot says that it has one record more than it has";
    Shell SnapshotCoversTooLittle: "snapshot-covers-too-little", "a snapshot says that it has one record less than it has";
    Shell AuditLinkNotAdvanced: "audit-link-not-advanced", "the next line of the audit log does not link to the last";
    Shell AuditChainRestarted: "audit-chain-restarted", "a start does not continue the audit log's chain and begins a new one";
    Shell AuditTailUntold: "audit-tail-untold", "no line of the audit log reports the one before that a crash tore";
    Disk AuditFileNotSynced: "audit-file-not-synced", "a full file of the audit log is not synced before the next one";
    Shell TraceGapUntold: "trace-gap-untold", "the trace does not report its gaps";
    Shell TraceGapToldLate: "trace-gap-told-late", "the trace reports a gap after the records that follow it";
    Disk TraceBeginningNotSynced: "trace-beginning-not-synced", "the first trace file of a run of the hub is not synced";
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
}
