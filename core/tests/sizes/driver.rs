//! A hub that is filled, and a count of the bytes that it allocates.

use crate::requested::Count;
use sheratan_core::integrity::stored::{Origin, ResultIntegrity};
use sheratan_core::{
    Command, Complete, Health, Heartbeat, Hub, HubKey, Idempotency, LeaseRef, Leased, Limits, Millis, Name, NameSet,
    OnDuplicate, OnFailed, Outcome, Payload, Pull, ResultMark, Setting, Submit, Submitted, Timestamp, WaiterId, Zone,
};

pub const KEY: HubKey = HubKey::new(*b"the sizes' key..");

/// A hub, and the instant of its next commands. All bytes that it allocates are counted.
pub struct Driver {
    pub hub: Hub,
    pub now_ms: u64,
    count: Count,
}

impl Driver {
    pub fn with(set: impl FnOnce(&mut Limits)) -> Self {
        let count = Count::start();
        let mut driver = Driver { hub: Hub::new(KEY), now_ms: 0, count };
        let mut limits = Limits::default();
        set(&mut limits);
        driver.apply(Command::Set(limits.differences(&Limits::default())));
        driver
    }

    /// A hub without limits of the operator on unfinished jobs and leases.
    pub fn without_limits() -> Self {
        Driver::with(|limits| {
            limits.queue_depth_max = u64::MAX;
            limits.queue_bytes_max = u64::MAX;
            limits.inflight_max = u64::MAX;
            limits.leases_per_node_max = u64::MAX;
        })
    }

    /// Bytes that are allocated and not freed.
    pub fn held(&self) -> u64 {
        self.count.live().try_into().expect("a hub holds at least some bytes")
    }

    pub fn peak(&self) -> u64 {
        self.count.peak().try_into().expect("a hub holds at least some bytes")
    }

    pub fn apply(&mut self, command: Command) -> Outcome {
        self.hub.apply(Timestamp::from_millis(self.now_ms), command)
    }

    /// Whether it was accepted as a new job.
    pub fn submit(&mut self, submit: Submit) -> bool {
        matches!(self.apply(Command::Submit(Box::new(submit))), Outcome::Submitted(Submitted::Accepted { .. }))
    }

    pub fn pull(&mut self, node: &str, jobs_max: u32) -> Vec<Leased> {
        self.pull_as(pull(node, jobs_max))
    }

    pub fn pull_as(&mut self, pull: Pull) -> Vec<Leased> {
        match self.apply(Command::Pull(pull)) {
            Outcome::Pulled(pulled) => pulled.leases,
            other => panic!("a pull is not answered by {other:?}"),
        }
    }

    pub fn complete(&mut self, complete: Complete) {
        let outcome = self.apply(Command::Complete(complete));
        assert!(matches!(outcome, Outcome::Completed(_)), "{outcome:?}");
    }

    pub fn heartbeat(&mut self, heartbeat: Heartbeat) -> bool {
        matches!(self.apply(Command::Heartbeat(heartbeat)), Outcome::Heard { .. })
    }

    pub fn park(&mut self, id: u64, pull: &Pull) -> bool {
        self.hub.park(WaiterId(id), pull)
    }

    pub fn set(&mut self, setting: Setting) {
        self.apply(Command::Set(vec![setting]));
    }
}

pub fn name(text: &str) -> Name {
    Name::new(text).expect("a test's name is valid")
}

pub fn zone(text: &str) -> Zone {
    Zone::new(name(text))
}

pub fn payload(bytes: usize) -> Option<Payload> {
    (bytes > 0).then(|| Payload::new(&vec![b'1'; bytes]))
}

pub fn job(kind: &str, bytes: usize) -> Submit {
    Submit::new(name(kind), payload(bytes))
}

pub fn keyed(key: &str, submit: Submit) -> Submit {
    let idempotency = Idempotency {
        key: name(key),
        payload_hash: [7; 32],
        on_duplicate: OnDuplicate::SameResult,
        on_failed: OnFailed::SameResult,
        ttl_ms: None,
    };
    Submit { idempotency: Some(idempotency), ..submit }
}

pub fn pull(node: &str, jobs_max: u32) -> Pull {
    Pull { node: name(node), jobs_max, kinds: NameSet::EMPTY, lease_duration_ms: Some(Millis::from_secs(86_400)) }
}

pub fn success(lease: LeaseRef, bytes: usize) -> Complete {
    Complete {
        job: lease.job,
        lease: Some(lease),
        node: None,
        ok: true,
        result: payload(bytes),
        error: None,
        is_retryable: true,
        retry_after_ms: None,
        mark: ResultMark::Content(1),
        integrity: Some(Box::new(ResultIntegrity { origin: Origin::Worker, sha256: [1; 32] })),
    }
}

pub fn failure(lease: LeaseRef, bytes: usize) -> Complete {
    Complete { ok: false, result: None, error: payload(bytes), ..success(lease, 0) }
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
