//! Calls: the requests of nodes, submitters and workers, typed.
//!
//! Payloads (`params`, `result`, `error`) stay the JSON text as received: nothing here parses or re-serialises them.

use super::{CallError, Client, Plane};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use sheratan_io::integrity::Integrity;
use std::time::Duration;

/// The longest wait of a long poll that the hub accepts.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// A heartbeat of a node.
#[derive(Clone, Serialize, Debug)]
pub struct Heartbeat {
    /// The node's name.
    pub node_id: String,
    /// `GREEN` or `YELLOW`.
    pub health: &'static str,
    /// Its zone; the hub's default if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its capabilities.
    pub capabilities: Vec<String>,
    /// The software that it runs, so that the hub notices a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Attestation>,
}

/// The software of a node.
#[derive(Clone, Serialize, Debug)]
pub struct Attestation {
    /// `attestation_v1`.
    pub schema: &'static str,
    /// The program and its version.
    pub build_id: String,
    /// SHA-256 over the sorted capabilities, in hex.
    pub capability_hash: String,
    /// The operating system and such.
    pub runtime: serde_json::Value,
}

/// The answer to a heartbeat.
#[derive(Clone, Deserialize, Debug)]
pub struct Heard {
    /// `ONLINE`, as a rule.
    pub status: String,
    /// When to send the next.
    pub next_heartbeat_ms: u64,
}

/// One job to submit.
#[derive(Clone, Default, Serialize, Debug)]
pub struct Submit {
    /// What is to be done.
    pub kind: String,
    /// With what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<Box<RawValue>>,
    /// Makes a repeated submit safe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// How long the hub remembers the key after the job ended; its own setting if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_ttl_sec: Option<u64>,
    /// `critical`, `high`, `normal` or `low`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// Which nodes may have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What a node must be able to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// How long it waits before it may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// How long it may live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_sec: Option<u64>,
    /// How often it may be tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
}

/// The answer to one entry of a batch of submits.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct SubmitAnswer {
    /// Whether the hub accepted the job.
    pub ok: bool,
    /// The HTTP status that a reply of its own would have.
    pub status_code: u16,
    /// The job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// Whether the key was known.
    #[serde(default)]
    pub dedup: bool,
    /// `accepted`, `in_progress`, `completed` or `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The code of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is wrong, and the next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When to ask again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// `no` or `unknown`: whether an entry that was not acknowledged was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<String>,
}

/// Asks for jobs.
#[derive(Clone, Serialize, Debug)]
pub struct Pull {
    /// Who asks.
    pub node_id: String,
    /// How many at most.
    pub max: u32,
    /// Of which kinds; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// How long to wait for one.
    pub wait_ms: u64,
    /// The lease's duration.
    pub lease_sec: u64,
}

/// Jobs under lease.
#[derive(Clone, Default, Deserialize, Debug)]
pub struct Pulled {
    /// One entry a job.
    pub jobs: Vec<LeasedJob>,
    /// How long to wait before the next pull.
    #[serde(default)]
    pub defer_ms: u64,
    /// Why the node gets none at all: `drained`, `quarantined`.
    #[serde(default)]
    pub reason: Option<String>,
}

/// One job under lease.
#[derive(Clone, Deserialize, Debug)]
pub struct LeasedJob {
    /// The job.
    pub job_id: String,
    /// What is to be done.
    pub kind: String,
    /// With what; `None` where the submit had none.
    pub params: Option<Box<RawValue>>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// What fences the result.
    pub lease_id: String,
    /// When the lease ends by the hub's clock, RFC 3339.
    pub lease_until_utc: String,
    /// How long that is from the answer; a hub of an earlier release does not say.
    #[serde(default)]
    pub lease_ms: Option<u64>,
}

/// The answer for one lease of an extension or a release.
#[derive(Clone, Deserialize, Debug)]
struct LeaseAnswer {
    ok: bool,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    lease_ms: Option<u64>,
    #[serde(default)]
    last: bool,
}

/// What came of a lease that was to be extended or released.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LeaseState {
    /// It was.
    Done {
        /// How long an extended lease lasts from the answer; a hub of an earlier release does not say.
        lease_ms: Option<u64>,
        /// Whether it is not extended further.
        is_last: bool,
    },
    /// The hub says that the lease has ended; its code: `lease_lost` or `cancelled`.
    Ended(String),
}

/// What a worker says of a job with an extension.
#[derive(Clone, PartialEq, Eq, Serialize, Default, Debug)]
pub struct Report {
    /// How far it is, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<u8>,
    /// A few words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The result of a job.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct JobResult {
    /// The job.
    pub job_id: String,
    /// Who did it.
    pub node_id: String,
    /// Under which lease; without one the result is not fenced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<String>,
    /// Whether it is done.
    pub ok: bool,
    /// What came out.
    #[serde(default, deserialize_with = "as_sent")]
    pub result: Option<Box<RawValue>>,
    /// What went wrong.
    #[serde(default, deserialize_with = "as_sent")]
    pub error: Option<Box<RawValue>>,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// When, in milliseconds from now; as the hub chooses if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The checksum over all that.
    #[serde(skip_deserializing)]
    pub integrity: Integrity,
    /// A pull to answer in the same round trip.
    #[serde(skip_serializing_if = "Option::is_none", skip_deserializing)]
    pub pull: Option<Pull>,
}

/// The answer to a result.
#[derive(Clone, Deserialize, Debug)]
pub struct ResultAnswer {
    /// The job.
    pub job_id: String,
    /// What became of the job: `completed`, `retry_scheduled`, `dead`, `failed`, …
    pub status: String,
    /// Whether this result had been accepted before.
    #[serde(default)]
    pub duplicate: bool,
    /// The jobs of the pull that the result carried.
    #[serde(default)]
    pub jobs: Vec<LeasedJob>,
}

/// A job as the hub shows it.
#[derive(Clone, Deserialize, Debug)]
pub struct JobView {
    /// Its id.
    pub job_id: String,
    /// What is to be done.
    pub kind: String,
    /// Its state.
    pub status: String,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: Vec<AttemptView>,
    /// What came out, if it is completed.
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
    /// What went wrong, if it is final and not completed.
    #[serde(default)]
    pub error: Option<Box<RawValue>>,
    /// The checksum of both, if it ended with a result.
    #[serde(default)]
    pub integrity: Option<JobIntegrity>,
}

/// The checksum that a final job shows.
#[derive(Clone, Deserialize, Debug)]
pub struct JobIntegrity {
    /// Who made it, and how it was checked.
    pub mode: String,
    /// In hex.
    pub sha256: String,
}

/// One attempt at a job.
#[derive(Clone, Deserialize, Debug)]
pub struct AttemptView {
    /// Who had it.
    pub node_id: String,
    /// `running`, `completed`, `failed`, `lease_expired` or `revoked`.
    pub outcome: String,
}

/// A page of jobs, newest first.
#[derive(Clone, Deserialize, Debug)]
pub struct JobPage {
    /// Without payloads.
    pub jobs: Vec<JobView>,
    /// What to ask for next.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

impl JobView {
    /// Whether nothing more will happen to it.
    pub fn is_final(&self) -> bool {
        !matches!(self.status.as_str(), "scheduled" | "queued" | "leased")
    }

    /// Whether it was done.
    pub fn is_completed(&self) -> bool {
        self.status == "completed"
    }
}

impl Client {
    /// Sends a heartbeat, which registers the node if it is new.
    pub fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Heard, CallError> {
        self.post(Plane::Control, "/mesh/heartbeat", &json(heartbeat), Duration::ZERO)
    }

    /// Sends the body of a heartbeat that is signed, as it was signed.
    pub fn signed_heartbeat(&self, body: &[u8]) -> Result<Heard, CallError> {
        self.post(Plane::Control, "/mesh/heartbeat", body, Duration::ZERO)
    }

    /// Submits up to 1,000 jobs; one answer each, in order.
    pub fn submit_many(&self, requests: &[Submit]) -> Result<Vec<SubmitAnswer>, CallError> {
        #[derive(Serialize)]
        struct Body<'a> {
            requests: &'a [Submit],
        }
        self.batch("/mesh/submit_requests", &json(&Body { requests }), requests.len())
    }

    /// Leases jobs.
    pub fn pull(&self, pull: &Pull) -> Result<Pulled, CallError> {
        self.post(Plane::Data, "/mesh/pull_requests", &json(pull), Duration::from_millis(pull.wait_ms))
    }

    /// Extends a lease.
    pub fn extend(
        &self,
        node_id: &str,
        lease_id: &str,
        lease_sec: u64,
        report: &Report,
    ) -> Result<LeaseState, CallError> {
        self.lease("/mesh/extend_lease", node_id, lease_id, Some(lease_sec), report)
    }

    /// Gives a lease back whose job is not finished here: the attempt is not counted.
    pub fn release(&self, node_id: &str, lease_id: &str) -> Result<LeaseState, CallError> {
        self.lease("/mesh/release_lease", node_id, lease_id, None, &Report::default())
    }

    fn lease(
        &self,
        path: &str,
        node_id: &str,
        lease_id: &str,
        lease_sec: Option<u64>,
        report: &Report,
    ) -> Result<LeaseState, CallError> {
        #[derive(Serialize)]
        struct Body<'a> {
            node_id: &'a str,
            leases: [&'a str; 1],
            #[serde(skip_serializing_if = "Option::is_none")]
            lease_sec: Option<u64>,
            #[serde(flatten)]
            report: &'a Report,
        }
        #[derive(Deserialize)]
        struct Answers {
            leases: Vec<LeaseAnswer>,
        }
        let body = json(&Body { node_id, leases: [lease_id], lease_sec, report });
        let answers: Answers = self.post(Plane::Data, path, &body, Duration::ZERO)?;
        match <[LeaseAnswer; 1]>::try_from(answers.leases) {
            Ok([LeaseAnswer { ok: true, lease_ms, last, .. }]) => Ok(LeaseState::Done { lease_ms, is_last: last }),
            Ok([LeaseAnswer { error: Some(code), .. }]) => Ok(LeaseState::Ended(code)),
            Ok([_]) | Err(_) => {
                Err(self.garbled(Plane::Data, format!("its answer to {path} is not one for one lease")))
            }
        }
    }

    /// Submits the result of a job.
    pub fn submit_result(&self, result: &JobResult) -> Result<ResultAnswer, CallError> {
        let wait = result.pull.as_ref().map_or(Duration::ZERO, |pull| Duration::from_millis(pull.wait_ms));
        let answer: ResultAnswer = self.post(Plane::Data, "/mesh/submit_result", &json(result), wait)?;
        if answer.job_id == result.job_id {
            return Ok(answer);
        }
        Err(self.garbled(Plane::Data, "its answer to a result is about another job".to_owned()))
    }

    /// Shows a job; waits for its end up to `wait`.
    pub fn job(&self, job_id: &str, wait: Duration) -> Result<JobView, CallError> {
        #[derive(Deserialize)]
        struct Body {
            job: JobView,
        }
        let path = format!("/mesh/jobs/{job_id}?wait_ms={}", wait.min(WAIT_MAX).as_millis());
        let body: Body = self.get(Plane::Data, &path, wait)?;
        Ok(body.job)
    }

    /// A page of the jobs that `query` asks for: `status=…&kind=…&node=…&limit=…&cursor=…`.
    pub fn jobs(&self, query: &str) -> Result<JobPage, CallError> {
        self.get(Plane::Data, &format!("/mesh/jobs?{query}"), Duration::ZERO)
    }

    fn batch<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        body: &[u8],
        entries: usize,
    ) -> Result<Vec<T>, CallError> {
        #[derive(Deserialize)]
        struct Results<T> {
            results: Vec<T>,
        }
        let answer: Results<T> = self.post(Plane::Data, path, body, Duration::ZERO)?;
        if answer.results.len() == entries {
            return Ok(answer.results);
        }
        let reason = format!("it gave {} answers to {entries} entries", answer.results.len());
        Err(self.garbled(Plane::Data, reason))
    }
}

/// A payload as it was sent; `null` is none.
fn as_sent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    Ok(Some(raw).filter(|raw| raw.get() != "null"))
}

fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("these types have no maps with keys that are not strings, and a buffer takes all")
}
