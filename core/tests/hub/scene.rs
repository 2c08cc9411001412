//! A hub under test: the instant is set once for all commands that follow.
//!
//! Every scene writes the journal that a shell would write. When a test passes, a replay of that journal and a restored
//! snapshot must both give the same state: so each test is also one of replay and restore.

use sheratan_core::limits::Limits;
use sheratan_core::{
    Caller, Command, Complete, Completed, CompletedStatus, Effect, EndedJob, Envelope, Health, Heartbeat, Hub, HubKey,
    Idempotency, JobSeq, LeaseRef, Leased, Name, NameSet, OnDuplicate, OnFailed, Outcome, Payload, Pull, Pulled,
    Refusal, Restore, ResultMark, RulesVersion, Submit, Submitted, Timestamp, WaiterId, Zone,
};

pub const KEY: HubKey = HubKey::new(*b"the scenes' key.");

pub struct Scene {
    pub hub: Hub,
    pub journal: Vec<(Timestamp, Command)>,
    effects: Vec<Effect>,
    now: Timestamp,
}

impl Scene {
    pub fn new() -> Self {
        let mut hub = Hub::new(KEY);
        hub.serve();
        Scene { hub, journal: Vec::new(), effects: Vec::new(), now: Timestamp::ZERO }
    }

    /// A hub whose first command set these limits.
    pub fn with(set: impl FnOnce(&mut Limits)) -> Self {
        let mut scene = Scene::new();
        scene.limit(set);
        scene
    }

    pub fn limit(&mut self, set: impl FnOnce(&mut Limits)) {
        let mut limits = self.hub.limits().clone();
        set(&mut limits);
        let settings = limits.differences(self.hub.limits());
        assert_eq!(self.apply(Command::Set(settings)), Outcome::Done);
    }

    /// Sets the instant of the commands that follow; timers that are due up to then fire.
    pub fn at(&mut self, ms: u64) -> &mut Self {
        self.now = at(ms);
        self.hub.advance(self.now);
        self
    }

    pub fn apply(&mut self, command: Command) -> Outcome {
        let journaled = (self.now.max(self.hub.now()), command.clone());
        let outcome = self.hub.apply(self.now, command);
        if outcome.is_durable() {
            self.journal.push(journaled);
        }
        outcome
    }

    pub fn try_submit(&mut self, submit: Submit) -> Result<Submitted, Refusal> {
        match self.apply(Command::Submit(Box::new(submit))) {
            Outcome::Submitted(submitted) => Ok(submitted),
            Outcome::Refused(refusal) => Err(refusal),
            other => panic!("a submit is not answered by {other:?}"),
        }
    }

    pub fn submit(&mut self, submit: Submit) -> JobSeq {
        match self.try_submit(submit) {
            Ok(Submitted::Accepted { job, .. }) => job,
            other => panic!("not accepted: {other:?}"),
        }
    }

    pub fn pull_as(&mut self, pull: Pull) -> Pulled {
        match self.apply(Command::Pull(pull)) {
            Outcome::Pulled(pulled) => pulled,
            other => panic!("a pull is not answered by {other:?}"),
        }
    }

    /// The leases of a pull for up to `jobs_max` jobs of any kind.
    pub fn pull(&mut self, node: &str, jobs_max: u32) -> Vec<Leased> {
        self.pull_as(pull(node, jobs_max)).leases
    }

    /// The jobs of a pull.
    pub fn pull_jobs(&mut self, node: &str, jobs_max: u32) -> Vec<JobSeq> {
        self.pull(node, jobs_max).into_iter().map(|leased| leased.lease.job).collect()
    }

    /// The one lease of a pull for one job.
    pub fn lease(&mut self, node: &str) -> Leased {
        match self.pull(node, 1)[..] {
            [leased] => leased,
            ref other => panic!("one lease was expected: {other:?}"),
        }
    }

    pub fn complete(&mut self, complete: Complete) -> Result<Completed, Refusal> {
        match self.apply(Command::Complete(complete)) {
            Outcome::Completed(completed) => Ok(completed),
            Outcome::Refused(refusal) => Err(refusal),
            other => panic!("a result is not answered by {other:?}"),
        }
    }

    /// Submits a success for a lease.
    pub fn succeed(&mut self, lease: LeaseRef) -> CompletedStatus {
        self.complete(success(lease)).expect("the lease is the job's").status
    }

    /// Submits a retryable failure for a lease.
    pub fn fail(&mut self, lease: LeaseRef) -> CompletedStatus {
        self.complete(failure(lease)).expect("the lease is the job's").status
    }

    pub fn heartbeat(&mut self, heartbeat: Heartbeat) {
        assert!(matches!(self.apply(Command::Heartbeat(heartbeat)), Outcome::Heard { .. }));
    }

    /// The name of a job's state; `gone` if the hub does not hold it any more.
    pub fn status(&self, job: JobSeq) -> &'static str {
        self.hub.queue().get(job).map_or("gone", |job| job.status())
    }

    /// Settles the hub once; returns the long polls that were woken since the last call.
    pub fn woken(&mut self) -> Vec<u64> {
        let effects = self.drain_effects();
        effects
            .into_iter()
            .filter_map(|effect| if let Effect::Wake(WaiterId(id)) = effect { Some(id) } else { None })
            .collect()
    }

    /// Settles the hub once; returns the ends of jobs since the last call, each with the job if it was dropped.
    pub fn ends(&mut self) -> Vec<(JobSeq, Option<Box<EndedJob>>)> {
        let effects = self.drain_effects();
        effects
            .into_iter()
            .filter_map(|effect| if let Effect::Ended { job, gone } = effect { Some((job, gone)) } else { None })
            .collect()
    }

    fn drain_effects(&mut self) -> Vec<Effect> {
        self.hub.settle(&mut self.effects);
        std::mem::take(&mut self.effects)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        loop {
            self.hub.settle(&mut self.effects);
            if std::mem::take(&mut self.effects).is_empty() {
                break;
            }
        }
        assert_eq!(self.hub.recount(), *self.hub.ledger(), "the accounts are not the sums of what is held");
        let digest = self.hub.digest();
        let mut replayed = replay(&self.journal);
        replayed.advance(self.hub.now());
        assert_eq!(replayed.digest(), digest, "a replay of the journal ends in another state");
        assert_eq!(replayed.outcome_hash(), self.hub.outcome_hash(), "a replay decided differently");
        let restored = restore(&self.hub);
        assert_eq!(restored.digest(), digest, "a restored snapshot has another state");
        assert_eq!(restored.counts(), self.hub.counts(), "a restored snapshot has other counts");
        assert_eq!(restored.recount(), *restored.ledger(), "a restored snapshot has other accounts");
        assert_eq!(restored.next_deadline(), self.hub.next_deadline(), "a restored snapshot has other timers");
    }
}

pub fn replay(journal: &[(Timestamp, Command)]) -> Hub {
    let mut hub = Hub::new(KEY);
    for (now, command) in journal {
        let mut bytes = Vec::new();
        Envelope::encode(RulesVersion::NEWEST, Caller::HUB, command, &mut bytes);
        let outcome = hub.apply(*now, Envelope::decode(&bytes).expect("it was just encoded").command);
        assert!(outcome.is_durable(), "a command that changed something changes nothing in a replay: {outcome:?}");
    }
    hub
}

pub fn restore(hub: &Hub) -> Hub {
    let mut reader = Restore::new(*hub.key());
    hub.snapshot(|record| reader.record(record).expect("a record that was just written can be read"));
    reader.finish().expect("the snapshot is whole")
}

pub fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

pub fn name(text: &str) -> Name {
    Name::new(text).expect("a test's name is valid")
}

pub fn names(texts: &[&str]) -> NameSet {
    texts.iter().map(|text| name(text)).collect()
}

pub fn zone(text: &str) -> Zone {
    Zone::new(name(text))
}

/// A job with all defaults.
pub fn job(kind: &str) -> Submit {
    Submit::new(name(kind), None)
}

/// A job under an idempotency key; its payload's hash is made of the byte `payload`.
pub fn keyed(key: &str, payload: u8, on_duplicate: OnDuplicate, on_failed: OnFailed) -> Submit {
    let idempotency =
        Idempotency { key: name(key), payload_hash: [payload; 32], on_duplicate, on_failed, ttl_ms: None };
    Submit { idempotency: Some(idempotency), ..job("k") }
}

pub fn pull(node: &str, jobs_max: u32) -> Pull {
    Pull { node: name(node), jobs_max, kinds: NameSet::EMPTY, lease_duration_ms: None }
}

pub fn success(lease: LeaseRef) -> Complete {
    Complete {
        job: lease.job,
        lease: Some(lease),
        node: None,
        ok: true,
        result: Some(Payload::new(b"\"done\"")),
        error: None,
        is_retryable: true,
        mark: ResultMark::Content(1),
        integrity: None,
        retry_after_ms: None,
    }
}

pub fn failure(lease: LeaseRef) -> Complete {
    let (result, error) = (None, Some(Payload::new(b"\"broken\"")));
    Complete { ok: false, result, error, mark: ResultMark::Content(2), ..success(lease) }
}

pub fn heartbeat(node: &str) -> Heartbeat {
    Heartbeat {
        node: name(node),
        zone: Zone::DEFAULT,
        capabilities: NameSet::EMPTY,
        health: Health::Green,
        endpoint: None,
        labels: None,
        attestation: None,
        signing: None,
    }
}
