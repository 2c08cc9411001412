//! Oracle: what must be true whatever goes wrong, asked with nothing but what became durable and what actors were told.
//!
//! It follows the journal with a core of its own, the shadow: what the journal took goes in, what the core says comes out.
//! So it knows what a hub that loses nothing would know, before and after any crash.

mod reads;
mod streams;

pub use reads::{Page, Row, Wait};
use sheratan_core::{
    Command, CompletedStatus, Effect, Envelope, FinalStatus, Hub, HubKey, JobSeq, JobView, Outcome, State, Submitted,
    Timestamp,
};

use super::listener::Heard;
use crate::agenda::Micros;
use crate::model_check::invariants::{check_bounds, check_jobs};
use crate::model_check::sightings::Sightings;
use memchr::memmem;
use reads::Reads;
use sheratan_core::telemetry::{Counter, Telemetry};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use streams::Streams;

/// After how many records all jobs are walked through.
const WALK_EVERY: u64 = 128;

/// What a run found wrong: the invariant's name, and what was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// What was expected and what was there.
    pub detail: String,
}

/// Goes on if `is_so`; else that invariant is violated.
pub fn holds(is_so: bool, invariant: &'static str, detail: impl FnOnce() -> String) -> Result<(), Violation> {
    if is_so { Ok(()) } else { Err(Violation { invariant, detail: detail() }) }
}

/// What an actor was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// A submit was answered with 200.
    Submitted {
        /// Its key.
        key: Option<u64>,
        /// Which of its key's payloads it had.
        variant: u64,
        /// Its kind.
        kind: u64,
        /// Its payload.
        params: String,
        /// The job.
        job_id: String,
        /// What the hub says of the job.
        status: String,
    },
    /// A node was given a job.
    Leased {
        /// The node.
        node: u64,
        /// The job.
        job_id: String,
        /// The lease.
        lease_id: String,
    },
    /// A result was taken.
    Completed {
        /// The job.
        job_id: String,
        /// The lease that it was sent with.
        lease_id: String,
        /// What the hub says that the job is now.
        status: String,
        /// Whether it was a repeat.
        is_duplicate: bool,
    },
    /// A reader was shown a job.
    Saw {
        /// When it asked.
        asked_at: Micros,
        /// What it was shown.
        row: Row,
    },
    /// A reader was told that there is no such job.
    Missed {
        /// The job.
        job_id: String,
    },
    /// A reader was given a page of jobs.
    Paged {
        /// When it asked.
        asked_at: Micros,
        /// The page.
        page: Page,
    },
    /// A reader waited for a job's end.
    Waited(Wait),
    /// A listener heard something.
    Heard(Heard),
    /// An actor was answered what it had not asked.
    Astray {
        /// What it had asked.
        asked: String,
        /// What it was answered.
        answered: String,
    },
}

/// All that is known of what must be true.
#[derive(Debug)]
pub struct Oracle {
    shadow: Hub,
    /// The last record that the shadow has.
    seq: u64,
    last_at: Timestamp,
    finals: BTreeMap<u64, FinalStatus>,
    /// Leases that were given of each job that is not final.
    leases: BTreeMap<u64, u32>,
    /// Jobs for which a node said that another attempt does not help.
    hopeless: BTreeSet<u64>,
    /// The job of each key and payload, as clients were told last.
    keys: BTreeMap<(u64, u64), u64>,
    /// Who was told of each lease.
    holders: BTreeMap<(u64, u32), u64>,
    /// Who completed each job that was told to be completed.
    completions: BTreeMap<u64, String>,
    /// What the shadow had counted when the process began that lives now.
    counted: Numbers,
    sightings: Sightings,
    /// Jobs that clients were told of.
    acknowledged: u64,
    reads: Reads,
    streams: Streams,
}

/// Numbers of telemetry by what they count.
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

impl Oracle {
    /// Before the first record.
    pub fn new(key: HubKey) -> Self {
        let mut shadow = Hub::new(key);
        shadow.serve();
        Oracle {
            seq: 0,
            last_at: Timestamp::ZERO,
            finals: BTreeMap::new(),
            leases: BTreeMap::new(),
            hopeless: BTreeSet::new(),
            keys: BTreeMap::new(),
            holders: BTreeMap::new(),
            completions: BTreeMap::new(),
            counted: numbers(shadow.telemetry()),
            sightings: Sightings::default(),
            acknowledged: 0,
            reads: Reads::default(),
            streams: Streams::default(),
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

    /// What was seen.
    pub fn sightings(&self) -> &Sightings {
        &self.sightings
    }

    /// Jobs that clients were told of, and jobs that ended.
    pub fn counts(&self) -> (u64, u64) {
        (self.acknowledged, self.finals.len() as u64)
    }

    /// The journal took a record.
    pub fn durable(&mut self, seq: u64, now: Timestamp, payload: &[u8]) -> Result<(), Violation> {
        holds(seq == self.seq + 1, "dense journal", || format!("record {seq} follows record {}", self.seq))?;
        holds(now >= self.last_at, "time never goes back", || {
            format!("record {seq} is of {}, the one before of {}", now.as_millis(), self.last_at.as_millis())
        })?;
        (self.seq, self.last_at) = (seq, now);
        let envelope = Envelope::decode(payload)
            .map_err(|error| Violation { invariant: "readable journal", detail: format!("record {seq}: {error}") })?;
        let (rules, command) = (envelope.rules, envelope.command);
        holds(rules == self.shadow.rules(), "a record is of the rules that hold", || {
            format!("record {seq} is of rules {}, the hub has {}", rules.get(), self.shadow.rules().get())
        })?;
        // As the command's own step would, so that what is full is full when it comes.
        self.shadow.advance(now);
        self.take_effects()?;
        let before = self.shadow.counts();
        let hopeless = match &command {
            Command::Complete(complete) if !complete.ok && !complete.is_retryable => Some(complete.job.get()),
            _ => None,
        };
        self.hopeless.extend(hopeless);
        let is_hopeless = hopeless.is_some();
        let node = match &command {
            Command::Pull(pull) => Some(pull.node.clone()),
            _ => None,
        };
        let outcome = self.shadow.apply(now, command);
        self.take_effects()?;
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
                    holds(*given == leased.lease.generation, "a lease is new", || {
                        format!(
                            "job {} has lease {} when it is given the {given}. time",
                            leased.lease.job.get(),
                            leased.lease.generation
                        )
                    })?;
                }
            }
            Outcome::Completed(completed) if is_hopeless => {
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

    fn take_effects(&mut self) -> Result<(), Violation> {
        let mut effects = Vec::new();
        self.shadow.settle(&mut effects);
        // Nobody polls the shadow, so that these are all.
        self.shadow.settle(&mut effects);
        for effect in effects {
            self.sightings.effect(&effect);
            let Effect::Ended { job, gone } = effect else { continue };
            let known = self.shadow.queue().get(job);
            holds(known.is_none() || gone.is_none(), "a job that is gone is not known", || {
                format!("job {}", job.get())
            })?;
            let ended = known.or(gone.as_ref().map(|gone| gone.view()));
            let Some((ended, State::Final { status, at, .. })) = ended.map(|ended| (ended, ended.state())) else {
                let detail = format!("job {} ended and is {:?}", job.get(), ended.map(|ended| ended.status()));
                return Err(Violation { invariant: "an end is told with its job", detail });
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
                holds(is_hopeless || given >= attempts_max, "all attempts are made", || {
                    format!("job {} is dead after {given} of {attempts_max} attempts", job.get())
                })?;
            }
        }
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
                // Who has it in hand may end it: its time to live is for its wait.
                State::Leased { until, .. } => until <= now,
                State::Scheduled { .. } | State::Queued { .. } => job.expires_at() <= now,
            };
            holds(!is_retried_too_late(job), "no retry is promised for when its job has expired", || {
                format!("job {} is scheduled and expires at {}", job.seq().get(), job.expires_at().as_millis())
            })?;
            holds(!is_over, "nothing outlives its time", || format!("job {} is {}", job.seq().get(), job.status()))?;
        }
        let (ledger, recount) = (self.shadow.ledger(), self.shadow.recount());
        holds(*ledger == recount, "the ledger equals a recount", || format!("{ledger:?}, a walk gives {recount:?}"))?;
        let counts = self.shadow.counts();
        let (known, ended) = (self.shadow.queue().next_seq().get() - 1, self.finals.len() as u64);
        let held = counts.waiting() + counts.leased;
        holds(known == ended + held, "conservation", || {
            format!("{known} jobs were accepted, {ended} ended, {held} are held")
        })
    }

    /// Bytes left the hub: what they speak of must be durable.
    pub fn left(&self, bytes: &[u8]) -> Result<(), Violation> {
        const MARK: &[u8] = b"\"job_id\":\"";
        let mut rest = bytes;
        while let Some(at) = memmem::find(rest, MARK) {
            rest = &rest[at + MARK.len()..];
            let end = rest.iter().position(|byte| *byte == b'"').unwrap_or(rest.len());
            let text = String::from_utf8_lossy(&rest[..end]);
            // A reply that is cut by the window ends within an id.
            let Some(job) = self.shadow.key().parse_job_id(&text) else { continue };
            holds(job < self.shadow.queue().next_seq(), "nothing is told before it is durable", || {
                format!("job {} was told of, the journal knows {}", job.get(), self.shadow.queue().next_seq().get() - 1)
            })?;
        }
        Ok(())
    }

    /// An actor was told something.
    pub fn told(&mut self, now: Micros, told: Told) -> Result<(), Violation> {
        let key = *self.shadow.key();
        let job_of = |text: &str| {
            key.parse_job_id(text).ok_or(Violation { invariant: "ids", detail: format!("`{text}` is no job") })
        };
        match told {
            Told::Submitted { key, variant, kind, params, job_id, status } => {
                let job = job_of(&job_id)?.get();
                self.told_submitted(now, job, kind, &params, &status)?;
                holds(job < self.shadow.queue().next_seq().get(), "an acknowledged job is there", || {
                    format!("job {job} was acknowledged, the journal does not know it")
                })?;
                self.acknowledged += 1;
                let Some(key) = key else { return Ok(()) };
                let before = self.keys.insert((key, variant), job);
                // A later job under the key is right only if the earlier one had ended: its key was spent or given away.
                let is_two = before.is_some_and(|before| before != job && !self.finals.contains_key(&before.min(job)));
                holds(!is_two, "one job a key", || {
                    format!("key {key} has the jobs {} and {job} at once", before.unwrap_or(0))
                })
            }
            Told::Leased { node, job_id, lease_id } => {
                let job = job_of(&job_id)?;
                let lease = key.parse_lease_id(&lease_id).filter(|lease| lease.job == job);
                let lease = lease.ok_or(Violation { invariant: "ids", detail: format!("`{lease_id}` is no lease") })?;
                let known = self.shadow.queue().get(job).map(|job| job.generation());
                holds(known.is_none_or(|known| known >= lease.generation), "an acknowledged lease is there", || {
                    format!("job {} was given under lease {}, the journal knows {known:?}", job.get(), lease.generation)
                })?;
                self.told_leased(now, job.get(), lease.generation)?;
                let holder = *self.holders.entry((job.get(), lease.generation)).or_insert(node);
                holds(holder == node, "a lease has one holder", || {
                    format!("lease {} of job {} is with nodes {holder} and {node}", lease.generation, job.get())
                })
            }
            Told::Completed { job_id, lease_id, status, is_duplicate } => {
                let job = job_of(&job_id)?.get();
                self.told_completed(now, job, &status)?;
                if status == "completed" {
                    let found = self.finals.get(&job).copied();
                    holds(found == Some(FinalStatus::Completed), "an acknowledged result is there", || {
                        format!("job {job} was told to be completed, the journal says {found:?}")
                    })?;
                    // The same result once more is a repeat, from whoever it comes.
                    if !is_duplicate && let Some(first) = self.completions.insert(job, lease_id.clone()) {
                        holds(first == lease_id, "a job is completed once", || {
                            format!("job {job} was completed under {first} and {lease_id}")
                        })?;
                    }
                }
                Ok(())
            }
            Told::Saw { asked_at, row } => self.told_row(now, asked_at, job_of(&row.job_id)?, &row),
            Told::Missed { job_id } => self.told_missing(job_of(&job_id)?),
            Told::Paged { asked_at, page } => self.told_page(now, asked_at, &page),
            Told::Waited(wait) => self.told_waited(job_of(&wait.job_id)?.get(), &wait),
            Told::Heard(heard) => self.told_heard(&heard),
            Told::Astray { asked, answered } => {
                let detail = format!("to {asked} came {answered}");
                Err(Violation { invariant: "an answer is to its own request", detail })
            }
        }
    }

    /// A hub was recovered: it is the one that is durable.
    pub fn recovered(&self, hub: &Hub, next_seq: u64, what: &str) -> Result<(), Violation> {
        holds(next_seq == self.seq + 1, "nothing acknowledged is lost", || {
            format!("{what} goes on at record {next_seq}, {} are durable", self.seq)
        })?;
        holds(hub.outcome_hash() == self.shadow.outcome_hash(), "replay gives the same outcomes", || {
            format!("{what} differs after record {}", self.seq)
        })?;
        holds(hub.digest() == self.shadow.digest(), "replay gives the same state", || {
            format!("{what} differs after record {}", self.seq)
        })
    }

    /// A new process begins to count.
    pub fn begin_recount(&mut self) {
        self.counted = numbers(self.shadow.telemetry());
    }

    /// At the end, when all that was done is durable: the live hub's state and numbers are those of what is durable.
    pub fn compare(&mut self, live: &Hub) -> Result<(), Violation> {
        self.shadow.advance(live.now());
        self.take_effects()?;
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

/// A first attempt may be asked for at any instant; a retry is only scheduled if the job will not have expired.
fn is_retried_too_late(job: JobView<'_>) -> bool {
    matches!(job.state(), State::Scheduled { due_at } if job.generation() > 0 && due_at >= job.expires_at())
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

impl std::error::Error for Violation {}
