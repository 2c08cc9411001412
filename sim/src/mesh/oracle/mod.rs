//! Oracle: the invariants that hold under every fault, checked against what became durable and what actors observed.
//!
//! It applies each record that became durable to a core of its own, the shadow. So the shadow has the state of a hub
//! that loses nothing, before and after any crash.

mod audited;
mod letters;
mod operator;
mod reads;
mod refusals;
mod streams;

use audited::Audited;
pub use audited::line_of_event;
use letters::Revivals;
pub use letters::ShownAct;
use operator::{Act, Operations};
pub use operator::{DRY_RUN, Done};
pub use reads::{Page, Row, Wait};
use sheratan_core::integrity::stored::ResultIntegrity;
use sheratan_core::{
    Command, Complete, CompletedStatus, Effect, EndReason, Envelope, FinalStatus, Hub, HubKey, Ids, JobSeq, JobView,
    LeaseRef, Outcome, Payload, State, Submitted, Timestamp,
};

use super::listener::Received;
use super::node::TAMPERED;
use crate::agenda::Micros;
use crate::model_check::invariants::{check_bounds, check_jobs};
use crate::model_check::sightings::Sightings;
use memchr::memmem;
use reads::Reads;
pub use refusals::MARK as SUBMIT_MARK;
use refusals::Refusals;
use sheratan_core::telemetry::{Counter, Telemetry};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use streams::Streams;

/// How many records there are between two walks through all jobs.
const WALK_EVERY: u64 = 128;

/// An invariant that a run violated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The invariant's name.
    pub invariant: &'static str,
    /// What was expected and what was found.
    pub detail: String,
}

/// Returns the violation of `invariant` unless `is_so`.
pub fn holds(is_so: bool, invariant: &'static str, detail: impl FnOnce() -> String) -> Result<(), Violation> {
    if is_so { Ok(()) } else { Err(Violation { invariant, detail: detail() }) }
}

/// What an actor was answered or shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Observation {
    /// A submit was answered with 200.
    Submitted {
        /// Its key.
        key: Option<u64>,
        /// Index of the payload among those that its key is used with.
        variant: u64,
        /// Its kind.
        kind: u64,
        /// Its payload.
        params: String,
        /// The job.
        job_id: String,
        /// The job's status as answered.
        status: String,
    },
    /// A submit was answered as certainly not done.
    NotDone {
        /// Its payload.
        params: String,
    },
    /// A node was leased a job.
    Leased {
        /// The node.
        node: u64,
        /// The job.
        job_id: String,
        /// The lease.
        lease_id: String,
    },
    /// A result was accepted.
    Completed {
        /// The job.
        job_id: String,
        /// The lease that the result was sent under.
        lease_id: String,
        /// The job's status as answered.
        status: String,
        /// Whether it was answered as a repeat.
        is_duplicate: bool,
    },
    /// A result that was changed on its way was accepted.
    TamperedTaken {
        /// The job.
        job_id: String,
    },
    /// A reader was shown a job.
    JobShown {
        /// When the reader sent its request.
        asked_at: Micros,
        /// The job as shown.
        row: Row,
    },
    /// A reader was answered that there is no such job.
    JobMissing {
        /// The job.
        job_id: String,
    },
    /// A reader was given a page of jobs.
    PageShown {
        /// When the reader sent its request.
        asked_at: Micros,
        /// The page.
        page: Page,
    },
    /// A reader's wait for a job's end was answered.
    WaitEnded(Wait),
    /// A listener received an event.
    EventReceived(Received),
    /// An act of an operator was acknowledged.
    OperatorDone {
        /// How many records were durable when it was requested.
        durable: u64,
        /// The act.
        done: Done,
    },
    /// An actor received an answer to another request than its own.
    Mismatched {
        /// Its request.
        asked: String,
        /// The answer.
        answered: String,
    },
}

/// The shadow, and what is recorded of records and observations to check the next ones against.
#[derive(Debug)]
pub struct Oracle {
    shadow: Hub,
    /// The last record that was applied to the shadow.
    seq: u64,
    last_at: Timestamp,
    finals: BTreeMap<u64, FinalStatus>,
    /// How many leases each job that is not final has had.
    leases: BTreeMap<u64, u32>,
    /// When each lease started.
    lease_starts: BTreeMap<LeaseRef, Timestamp>,
    /// Jobs that a node failed as not retryable.
    hopeless: BTreeSet<u64>,
    /// The job of each key and payload, as last acknowledged.
    keys: BTreeMap<(u64, u64), u64>,
    /// The node that each lease was given to, by job and generation.
    holders: BTreeMap<(u64, u32), u64>,
    /// Leases that the hub took back, by job and generation: no node may learn of them.
    reclaimed: BTreeSet<(u64, u32)>,
    /// The lease under which each acknowledged completion was sent, by job.
    completions: BTreeMap<u64, String>,
    /// The shadow's counters at the start of the current hub process.
    counted: Numbers,
    sightings: Sightings,
    /// Submits that were acknowledged.
    acknowledged: u64,
    reads: Reads,
    refusals: Refusals,
    streams: Streams,
    operations: Operations,
    revivals: Revivals,
    audited: Audited,
}

/// Telemetry's numbers by name.
type Numbers = BTreeMap<String, u64>;

/// Counters that follow from durable commands alone.
const RECOUNTED: [(Counter, &str); 8] = [
    (Counter::Submitted, "submitted"),
    (Counter::Completed, "completed"),
    (Counter::Failed, "failed"),
    (Counter::Leased, "leased"),
    (Counter::AttemptEnded, "attempts ended"),
    (Counter::RetryScheduled, "retries scheduled"),
    (Counter::RetryExhausted, "retries exhausted"),
    (Counter::LeaseReaped, "leases reaped"),
];

/// A result that is durable is as its worker wrote it, with its checksum.
fn check_integrity(ids: &Ids, command: &Command) -> Result<(), Violation> {
    let Command::Complete(complete) = command else { return Ok(()) };
    let Complete { job, ok, result, error, integrity, .. } = complete;
    let is_tampered = |payload: &Option<Payload>| {
        payload.as_ref().is_some_and(|payload| memmem::find(payload.as_bytes(), TAMPERED.as_bytes()).is_some())
    };
    holds(!is_tampered(result) && !is_tampered(error), "a tampered result changes nothing", || {
        format!("that of job {} is durable", job.get())
    })?;
    let job_id = ids.job_id(*job).to_string();
    let is_whole = |integrity: &ResultIntegrity| integrity.is_of(error.as_ref(), &job_id, *ok, result.as_ref());
    holds(integrity.as_deref().is_some_and(is_whole), "a result is stored with its checksum", || {
        format!("that of job {} has {integrity:?}", job.get())
    })
}

impl Oracle {
    /// An oracle before the first record of a hub with this key.
    pub fn new(key: HubKey) -> Self {
        let mut shadow = Hub::new(key);
        shadow.serve();
        Oracle {
            seq: 0,
            last_at: Timestamp::ZERO,
            finals: BTreeMap::new(),
            leases: BTreeMap::new(),
            lease_starts: BTreeMap::new(),
            hopeless: BTreeSet::new(),
            keys: BTreeMap::new(),
            holders: BTreeMap::new(),
            reclaimed: BTreeSet::new(),
            completions: BTreeMap::new(),
            counted: numbers(shadow.telemetry()),
            sightings: Sightings::default(),
            acknowledged: 0,
            reads: Reads::default(),
            refusals: Refusals::default(),
            streams: Streams::default(),
            operations: Operations::default(),
            revivals: Revivals::default(),
            audited: Audited::default(),
            shadow,
        }
    }

    /// The state that is durable.
    pub fn shadow(&self) -> &Hub {
        &self.shadow
    }

    /// The last record that is durable.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// What the shadow's outcomes and effects were, counted.
    pub fn sightings(&self) -> &Sightings {
        &self.sightings
    }

    /// Submits that were acknowledged, and ends of jobs: one that was requeued may end again.
    pub fn counts(&self) -> (u64, u64) {
        (self.acknowledged, self.finals.len() as u64 + self.revivals.count())
    }

    /// Applies a record that became durable, and checks its outcome.
    pub fn durable(&mut self, seq: u64, now: Timestamp, payload: &[u8]) -> Result<(), Violation> {
        holds(seq == self.seq + 1, "dense journal", || format!("record {seq} follows record {}", self.seq))?;
        holds(now >= self.last_at, "time never goes back", || {
            format!("record {seq} is of {}, the one before of {}", now.as_millis(), self.last_at.as_millis())
        })?;
        (self.seq, self.last_at) = (seq, now);
        let envelope = Envelope::decode(payload)
            .map_err(|error| Violation { invariant: "readable journal", detail: format!("record {seq}: {error}") })?;
        let Envelope { rules, caller, command } = envelope;
        holds(rules == self.shadow.rules(), "a record is of the rules that hold", || {
            format!("record {seq} is of rules {}, the hub has {}", rules.get(), self.shadow.rules().get())
        })?;
        // As applying the command would do first, so that limits are checked against the state that the command meets.
        self.shadow.advance(now);
        self.check_effects()?;
        let before = self.shadow.counts();
        let hopeless = match &command {
            Command::Complete(complete) if !complete.ok && !complete.is_retryable => Some(complete.job.get()),
            _ => None,
        };
        self.hopeless.extend(hopeless);
        let is_hopeless = hopeless.is_some();
        if let Command::Submit(submit) = &command
            && let Some(params) = &submit.params
        {
            self.refusals.done(params.as_bytes())?;
        }
        check_integrity(self.shadow.ids(), &command)?;
        let reclaimed = match &command {
            Command::Reclaim(leases) => leases.clone(),
            _ => Vec::new(),
        };
        let node = match &command {
            Command::Pull(pull) => Some(pull.node.clone()),
            _ => None,
        };
        let act = Act::of(&command);
        let outcome = self.shadow.apply_for(caller, now, command);
        self.check_effects()?;
        act.map_or(Ok(()), |act| self.follow(act, &outcome))?;
        self.note_letter_rules()?;
        self.sightings.outcome(&outcome);
        let (counts, limits) = (self.shadow.counts(), self.shadow.limits());
        if let Outcome::Submitted(Submitted::Accepted { .. }) = &outcome {
            let (bytes, bytes_max) = (self.shadow.ledger().unfinished(), limits.queue_bytes_max);
            holds(bytes <= bytes_max, "byte limit", || format!("{bytes} of {bytes_max} bytes are of unfinished jobs"))?;
        }
        match &outcome {
            Outcome::Submitted(Submitted::Accepted { supersedes: None, .. }) => {
                holds(before.waiting() < limits.queue_depth_max, "queue limit", || {
                    format!("a job was accepted with {} of {} waiting", before.waiting(), limits.queue_depth_max)
                })?;
            }
            Outcome::Pulled(pulled) => {
                let now = self.shadow.now();
                self.lease_starts.extend(pulled.leases.iter().map(|leased| (leased.lease, now)));
                holds(pulled.leases.is_empty() || counts.leased <= limits.inflight_max, "inflight limit", || {
                    format!("{} of {} jobs are under lease", counts.leased, limits.inflight_max)
                })?;
                let held = node.and_then(|node| self.shadow.registry().by_name(&node)).map_or(0, |node| node.leases());
                holds(pulled.leases.is_empty() || held <= limits.leases_per_node_max, "node limit", || {
                    format!("a node holds {held} of {} leases", limits.leases_per_node_max)
                })?;
                for leased in &pulled.leases {
                    let given = self.leases.entry(leased.lease.job.get()).or_default();
                    *given += 1;
                    let number = *given + self.revivals.leases_before(leased.lease.job.get());
                    holds(number == leased.lease.generation, "a lease is new", || {
                        format!(
                            "job {} has lease generation {} at its lease number {number}",
                            leased.lease.job.get(),
                            leased.lease.generation
                        )
                    })?;
                }
            }
            Outcome::Reclaimed(jobs) => {
                for lease in reclaimed.iter().filter(|lease| jobs.contains(&lease.job)) {
                    self.reclaimed.insert((lease.job.get(), lease.generation));
                    self.check_reclaimed(lease.job.get(), lease.generation)?;
                }
            }
            Outcome::Completed(completed) if is_hopeless && completed.status != CompletedStatus::Acknowledged => {
                holds(
                    completed.status == CompletedStatus::Final(FinalStatus::Dead),
                    "what is hopeless is dead",
                    || format!("job {} is {:?}", completed.job.get(), completed.status),
                )?;
            }
            _ => {}
        }
        holds(outcome.is_durable(), "what is journaled changes something", || format!("record {seq}: {outcome:?}"))?;
        check_bounds(&self.shadow).map_err(|found| Violation { invariant: "bounds", detail: found.to_string() })?;
        if seq.is_multiple_of(WALK_EVERY) { self.walk() } else { Ok(()) }
    }

    fn check_reclaimed(&self, job: u64, generation: u32) -> Result<(), Violation> {
        let lease = (job, generation);
        let is_seen = self.reclaimed.contains(&lease) && self.holders.contains_key(&lease);
        holds(!is_seen, "a lease that is taken back was seen by no node", || {
            format!("lease {generation} of job {job} was seen and taken back")
        })
    }

    fn check_effects(&mut self) -> Result<(), Violation> {
        let mut effects = Vec::new();
        self.shadow.settle(&mut effects);
        // The shadow has no long polls, so two calls deliver all effects.
        self.shadow.settle(&mut effects);
        for effect in effects {
            self.sightings.effect(&effect);
            if let Effect::Audit(_, audit) = &effect {
                self.check_logged(audit)?;
                self.follow_letter(audit)?;
            }
            let Effect::Ended { job, gone } = effect else { continue };
            self.note_letter_end(job);
            let known = self.shadow.queue().get(job);
            holds(known.is_none() || gone.is_none(), "a job that is gone is not known", || {
                format!("job {}", job.get())
            })?;
            let ended = known.or(gone.as_ref().map(|gone| gone.view()));
            let Some((ended, State::Final { status, at, .. })) = ended.map(|ended| (ended, ended.state())) else {
                let detail = format!("job {} ended and is {:?}", job.get(), ended.map(|ended| ended.status()));
                return Err(Violation { invariant: "an end is reported with its job", detail });
            };
            let (attempts_max, expires_at) = (ended.attempts_max(), ended.expires_at());
            let retry_at_max = at + self.shadow.limits().retry_delay_ms_cap;
            holds(status != FinalStatus::Expired || expires_at <= retry_at_max, "no job expires early", || {
                format!("job {} expired at {}, not {}", job.get(), at.as_millis(), expires_at.as_millis())
            })?;
            let before = self.finals.insert(job.get(), status);
            self.reads.ended(job.get());
            holds(before.is_none(), "a job ends once", || format!("job {} ended twice", job.get()))?;
            let given = self.leases.remove(&job.get()).unwrap_or(0);
            if status == FinalStatus::Dead {
                let is_hopeless = self.hopeless.remove(&job.get());
                let losses_max = self.shadow.limits().losses_max;
                let is_lost = ended.end_reason() == Some(EndReason::Lost) && ended.losses() >= losses_max;
                holds(is_hopeless || is_lost || given >= attempts_max, "all attempts are made", || {
                    format!("job {} is dead after {given} of {attempts_max} attempts", job.get())
                })?;
            }
        }
        self.follow_acts()?;
        holds(self.shadow.next_deadline().is_none_or(|at| at > self.shadow.now()), "nothing due is left", || {
            format!("at {} ms something is due", self.shadow.now().as_millis())
        })
    }

    /// Walks through all jobs. O(n).
    pub fn walk(&self) -> Result<(), Violation> {
        check_jobs(&self.shadow).map_err(|found| Violation { invariant: "jobs", detail: found.to_string() })?;
        let now = self.shadow.now();
        for job in self.shadow.queue().iter_from(JobSeq::FIRST) {
            let is_over = match job.state() {
                State::Final { .. } => false,
                // A leased job may outlive its time to live, which bounds only how long it waits.
                State::Leased { until, .. } => until <= now,
                State::Dated { run_at } if run_at <= self.shadow.calendar().utc(now) => true,
                State::Dated { .. } | State::Scheduled { .. } | State::Postponed { .. } | State::Queued { .. } => {
                    job.expires_at() <= now
                }
            };
            holds(!is_retried_too_late(job), "no retry is promised for when its job has expired", || {
                format!("job {} is scheduled and expires at {}", job.seq().get(), job.expires_at().as_millis())
            })?;
            holds(!is_over, "nothing outlives its time", || format!("job {} is {}", job.seq().get(), job.status()))?;
        }
        let (ledger, recount) = (self.shadow.ledger(), self.shadow.recount());
        holds(*ledger == recount, "the ledger equals a recount", || format!("{ledger:?}, a walk gives {recount:?}"))?;
        let counts = self.shadow.counts();
        let places = self.shadow.queue().next_seq().get() - 1;
        let (known, ended) = (places - self.revivals.count(), self.finals.len() as u64);
        // A job that was cancelled has ended, and its lease may be held until its node learns of it.
        let held = counts.waiting() + counts.leased - counts.held;
        holds(known == ended + held, "conservation", || {
            format!("{known} jobs were accepted, {ended} ended, {held} are held")
        })
    }

    /// Checks bytes that left the hub: each job whose id is in them must be durable.
    pub fn check_sent(&self, bytes: &[u8]) -> Result<(), Violation> {
        let is_tampered = memmem::find(bytes, TAMPERED.as_bytes()).is_some();
        holds(!is_tampered, "a tampered result is never shown", || String::from_utf8_lossy(bytes).into_owned())?;
        const MARK: &[u8] = b"\"job_id\":\"";
        let mut rest = bytes;
        while let Some(at) = memmem::find(rest, MARK) {
            rest = &rest[at + MARK.len()..];
            let end = rest.iter().position(|byte| *byte == b'"').unwrap_or(rest.len());
            let text = String::from_utf8_lossy(&rest[..end]);
            // A reply that the window cuts may end within an id.
            let Some(job) = self.shadow.ids().parse_job_id(&text) else { continue };
            holds(job < self.shadow.queue().next_seq(), "nothing is reported before it is durable", || {
                format!("job {} was sent, the journal knows {}", job.get(), self.shadow.queue().next_seq().get() - 1)
            })?;
        }
        Ok(())
    }

    /// Notes that the network repeats a request.
    pub fn note_repeated(&mut self, request: &[u8]) {
        self.refusals.repeated(request);
    }

    /// Checks what an actor observed.
    pub fn observe(&mut self, now: Micros, observation: Observation) -> Result<(), Violation> {
        let ids = self.shadow.ids().clone();
        let job_of = |text: &str| {
            ids.parse_job_id(text).ok_or(Violation { invariant: "ids", detail: format!("`{text}` is no job") })
        };
        match observation {
            Observation::Submitted { key, variant, kind, params, job_id, status } => {
                let job = job_of(&job_id)?.get();
                self.check_submitted(now, job, kind, &params, &status)?;
                holds(job < self.shadow.queue().next_seq().get(), "an acknowledged job is durable", || {
                    format!("job {job} was acknowledged, the journal does not know it")
                })?;
                self.acknowledged += 1;
                let Some(key) = key else { return Ok(()) };
                let before = self.keys.insert((key, variant), job);
                // A later job under the key is right only if the earlier one had ended: its key was spent or evicted.
                let has_ended = |job: u64| self.finals.contains_key(&job) || self.revivals.has(job);
                let is_two = before.is_some_and(|before| before != job && !has_ended(before.min(job)));
                holds(!is_two, "one job a key", || {
                    format!("key {key} has the jobs {} and {job} at once", before.unwrap_or(0))
                })
            }
            Observation::NotDone { params } => self.refusals.refused(params.as_bytes()),
            Observation::Leased { node, job_id, lease_id } => {
                let job = job_of(&job_id)?;
                let started_at = |lease: LeaseRef| self.lease_starts.get(&lease).copied();
                let lease = ids.parse_lease_id(&lease_id, started_at).filter(|lease| lease.job == job);
                let lease = lease.ok_or(Violation { invariant: "ids", detail: format!("`{lease_id}` is no lease") })?;
                let known = self.shadow.queue().get(job).map(|job| job.generation());
                holds(known.is_none_or(|known| known >= lease.generation), "an acknowledged lease is durable", || {
                    format!(
                        "job {} was leased with generation {}, the journal knows {known:?}",
                        job.get(),
                        lease.generation
                    )
                })?;
                self.note_leased(now, job.get(), lease.generation)?;
                let holder = *self.holders.entry((job.get(), lease.generation)).or_insert(node);
                self.check_reclaimed(job.get(), lease.generation)?;
                holds(holder == node, "a lease has one holder", || {
                    format!("lease {} of job {} is with nodes {holder} and {node}", lease.generation, job.get())
                })
            }
            Observation::Completed { job_id, lease_id, status, is_duplicate } => {
                let job = job_of(&job_id)?.get();
                self.check_completed(now, job, &status)?;
                if status == "completed" {
                    let found = self.finals.get(&job).copied();
                    holds(found == Some(FinalStatus::Completed), "an acknowledged result is durable", || {
                        format!("job {job} was answered as completed, the journal has {found:?}")
                    })?;
                    // The same result sent again is a repeat, whichever node sends it.
                    if !is_duplicate && let Some(first) = self.completions.insert(job, lease_id.clone()) {
                        holds(first == lease_id, "a job is completed once", || {
                            format!("job {job} was completed under {first} and {lease_id}")
                        })?;
                    }
                }
                Ok(())
            }
            Observation::TamperedTaken { job_id } => {
                Err(Violation { invariant: "a tampered result is refused", detail: format!("job {job_id}") })
            }
            Observation::JobShown { asked_at, row } => self.check_row(now, asked_at, job_of(&row.job_id)?, &row),
            Observation::JobMissing { job_id } => self.check_missing(job_of(&job_id)?),
            Observation::PageShown { asked_at, page } => self.check_page(now, asked_at, &page),
            Observation::WaitEnded(wait) => self.check_wait(job_of(&wait.job_id)?.get(), &wait),
            Observation::EventReceived(received) => self.check_received(&received),
            Observation::OperatorDone { durable, done } => self.check_done(durable, done),
            Observation::Mismatched { asked, answered } => {
                let detail = format!("{asked} was answered with {answered}");
                Err(Violation { invariant: "an answer is to its own request", detail })
            }
        }
    }

    /// Checks that a recovered hub has the durable state.
    pub fn recovered(&self, hub: &Hub, next_seq: u64, what: &str) -> Result<(), Violation> {
        holds(next_seq == self.seq + 1, "nothing acknowledged is lost", || {
            format!("{what} continues at record {next_seq}, {} are durable", self.seq)
        })?;
        holds(hub.outcome_hash() == self.shadow.outcome_hash(), "replay gives the same outcomes", || {
            format!("{what} differs after record {}", self.seq)
        })?;
        holds(hub.digest() == self.shadow.digest(), "replay gives the same state", || {
            format!("{what} differs after record {}", self.seq)
        })
    }

    /// Starts a recount: a new hub process counts from zero, and its events are those that follow.
    pub fn begin_recount(&mut self) {
        self.counted = numbers(self.shadow.telemetry());
        self.follow_log();
    }

    /// Checks at the end, when all commands are durable, that the live hub's state and numbers equal the shadow's.
    pub fn compare(&mut self, live: &Hub) -> Result<(), Violation> {
        self.shadow.advance(live.now());
        self.check_effects()?;
        self.walk()?;
        let recounted = numbers(self.shadow.telemetry());
        for (name, counted) in numbers(live.telemetry()) {
            let recounted = recounted[&name] - self.counted[&name];
            holds(counted == recounted, "telemetry equals a recount", || {
                format!("the hub counts {counted} {name}, a recount gives {recounted}")
            })?;
        }
        holds(live.digest() == self.shadow.digest(), "replay gives the same state", || {
            format!("the live hub differs from the journal after record {}", self.seq)
        })
    }
}

/// The numbers that follow from durable commands alone.
fn numbers(telemetry: &Telemetry) -> Numbers {
    let mut numbers: Numbers = RECOUNTED.map(|(counter, name)| (name.to_owned(), telemetry.total(counter))).into();
    for (name, timing) in [("waits", telemetry.queue_wait()), ("runs", telemetry.run())] {
        let buckets = timing.totals().buckets.into_iter();
        numbers.extend(buckets.map(|(bound, count)| (format!("{name} of up to {bound} s"), count)));
    }
    for status in FinalStatus::ALL {
        let kinds = telemetry.kinds();
        let counts = kinds.iter().map(|(_, counts)| counts).chain(kinds.other());
        let ended = counts.map(|counts| counts.ended[status as usize]).sum();
        numbers.insert(format!("jobs {}", status.as_str()), ended);
    }
    numbers
}

/// Whether a retry is scheduled for when the job has expired. A first attempt may be scheduled for any instant.
fn is_retried_too_late(job: JobView<'_>) -> bool {
    matches!(job.state(), State::Scheduled { due_at } if job.generation() > 0 && due_at >= job.expires_at())
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

impl std::error::Error for Violation {}
