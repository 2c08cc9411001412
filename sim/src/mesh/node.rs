//! Node: a worker of the mesh, with everything that can be wrong with one.

use super::fault::{Fault, Injected};
use super::http::{Reply, get, post};
use super::oracle::Told;
use super::plan::Plan;
use super::process::TOKEN;
use crate::agenda::{Micros, SECOND};
use crate::draw::Draw;
use serde::Deserialize;
use serde_json::value::RawValue;
use sheratan_io::client::integrity::Signer;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

/// Pause before a call that failed is repeated.
const RETRY_US: Micros = 500_000;

/// How often a result is sent until the node gives up; in the cool-down it never does.
const TRIES_MAX: u32 = 8;

/// What an actor can ask of the world, and what it is given.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Now.
    pub now: Micros,
    /// What the run is like.
    pub plan: &'a Plan,
    /// Chance.
    pub draw: &'a mut Draw,
    /// Faults come.
    pub is_chaos: bool,
    /// Work must come to an end.
    pub is_cool: bool,
    /// Calls to make: lane, request, how long to wait for the reply.
    pub calls: Vec<(usize, Vec<u8>, Micros)>,
    /// When to be woken, and what for.
    pub timers: Vec<(Micros, Timer)>,
    /// For the oracle.
    pub told: Vec<Told>,
    /// Faults that came.
    pub injected: &'a mut Injected,
}

impl Scene<'_> {
    /// Whether a fault comes now.
    pub fn comes(&mut self, fault: Fault) -> bool {
        let rate = self.plan.rate(fault);
        let is_so = self.is_chaos && rate > 0 && self.draw.below(10_000) < rate;
        if is_so {
            *self.injected.entry(fault.name()).or_default() += 1;
        }
        is_so
    }
}

/// What an actor wants to be woken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// The next heartbeat.
    Heartbeat,
    /// The next pull.
    Pull,
    /// A job is done.
    Done(u64),
    /// A lease is to be extended.
    Extend(u64),
    /// Results wait to be sent.
    Send,
    /// A client's submit is tried again.
    Retry,
}

/// What came of a call.
#[derive(Debug)]
pub enum Answer {
    /// A reply.
    Reply(Reply),
    /// The connection or the patience ended first.
    Lost,
}

/// A node's connections.
const CONTROL: usize = 0;
const PULLS: usize = 1;
const WORK: usize = 2;

/// How many connections a node has.
pub const LANES: usize = 3;

/// A worker.
#[derive(Debug)]
pub struct Node {
    no: u64,
    zone: u64,
    capabilities: Vec<u64>,
    build: u64,
    /// How often it was started; what was planned before its death is no more.
    pub incarnation: u64,
    /// It does nothing before then.
    pub hung_until: Micros,
    is_up: bool,
    is_beating: bool,
    is_pulling: bool,
    work: BTreeMap<u64, Work>,
    next_work: u64,
    outbox: VecDeque<Message>,
    sending: Option<Message>,
    last_lease: Option<String>,
}

/// A job that runs.
#[derive(Debug)]
struct Work {
    job_id: String,
    lease_id: String,
    ok: bool,
    is_extended: bool,
    lease_us: Micros,
}

/// Something to tell the hub.
#[derive(Clone, Debug)]
struct Message {
    path: &'static str,
    body: String,
    job_id: String,
    lease_id: String,
    tries: u32,
}

#[derive(Deserialize)]
struct Pulled<'a> {
    #[serde(borrow)]
    jobs: Vec<PulledJob<'a>>,
    #[serde(default)]
    defer_ms: u64,
}

#[derive(Deserialize)]
struct PulledJob<'a> {
    job_id: &'a str,
    lease_id: &'a str,
}

#[derive(Deserialize)]
struct Completed<'a> {
    status: &'a str,
    #[serde(default)]
    duplicate: bool,
}

impl Node {
    /// A node that is not started yet. The first of each zone can do everything.
    pub fn new(plan: &Plan, no: u64, draw: &mut Draw) -> Self {
        let is_generalist = no < plan.zones;
        Node {
            no,
            zone: if is_generalist { no } else { draw.below(plan.zones) },
            capabilities: (0..2).filter(|_| is_generalist || draw.chance(500)).collect(),
            build: 1,
            incarnation: 0,
            hung_until: 0,
            is_up: false,
            is_beating: false,
            is_pulling: false,
            work: BTreeMap::new(),
            next_work: 1,
            outbox: VecDeque::new(),
            sending: None,
            last_lease: None,
        }
    }

    /// Starts, perhaps once more.
    pub fn start(&mut self, scene: &mut Scene) {
        self.is_up = true;
        self.incarnation += 1;
        self.beat(scene);
        scene.timers.push((scene.now + 1 + scene.draw.below(SECOND), Timer::Pull));
    }

    /// Dies: what it worked on is lost.
    pub fn crash(&mut self) {
        self.is_up = false;
        self.incarnation += 1;
        (self.is_beating, self.is_pulling) = (false, false);
        self.work.clear();
        self.outbox.clear();
        self.sending = None;
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// Something that it planned is due.
    pub fn wake(&mut self, timer: Timer, scene: &mut Scene) {
        match timer {
            Timer::Heartbeat => self.beat(scene),
            Timer::Pull => self.pull(scene),
            Timer::Done(no) => self.done(no, scene),
            Timer::Extend(no) => self.extend(no, scene),
            Timer::Send | Timer::Retry => self.send(scene),
        }
    }

    /// A call was answered.
    pub fn answered(&mut self, lane: usize, answer: Answer, scene: &mut Scene) {
        match lane {
            CONTROL => {
                self.is_beating = false;
                scene.timers.push((scene.now + scene.plan.heartbeat_ms * 1_000, Timer::Heartbeat));
            }
            PULLS => self.pulled(answer, scene),
            _ => self.sent(answer, scene),
        }
    }

    fn beat(&mut self, scene: &mut Scene) {
        if !self.is_up || std::mem::replace(&mut self.is_beating, true) {
            return;
        }
        if scene.comes(Fault::FlipAttestation) {
            self.build += 1;
        }
        if scene.comes(Fault::Intruder) {
            scene.calls.push((CONTROL, post("/mesh/heartbeat", "not-the-token-of-this-mesh", "{}"), 5 * SECOND));
            return;
        }
        let mut capabilities = String::new();
        for capability in &self.capabilities {
            write!(capabilities, "{}\"can{capability}\"", if capabilities.is_empty() { "" } else { "," })
                .expect("a string takes all");
        }
        let body = format!(
            r#"{{"node_id":"node{}","health":"GREEN","zone":"{}","capabilities":[{capabilities}],"attestation":{{"schema":"attestation_v1","build_id":"b{}","capability_hash":"00"}}}}"#,
            self.no,
            zone_name(self.zone),
            self.build,
        );
        scene.calls.push((CONTROL, post("/mesh/heartbeat", TOKEN, &body), 10 * SECOND));
    }

    fn pull(&mut self, scene: &mut Scene) {
        let slots = scene.plan.slots.saturating_sub(self.work.len() as u64);
        if !self.is_up || self.is_pulling {
            return;
        }
        if slots == 0 {
            scene.timers.push((scene.now + RETRY_US, Timer::Pull));
            return;
        }
        self.is_pulling = true;
        let wait_ms = if scene.is_cool { scene.plan.pull_wait_ms.min(2_000) } else { scene.plan.pull_wait_ms };
        let kinds = if scene.is_chaos && scene.draw.chance(100) { "&kinds=k0,k1" } else { "" };
        let path = format!("/mesh/pull_requests/node{}?max={slots}&wait_ms={wait_ms}{kinds}", self.no);
        scene.calls.push((PULLS, get(&path, TOKEN), wait_ms * 1_000 + 10 * SECOND));
    }

    fn pulled(&mut self, answer: Answer, scene: &mut Scene) {
        self.is_pulling = false;
        let mut pause = RETRY_US;
        if let Answer::Reply(Reply { status: 200, body, .. }) = &answer
            && let Ok(pulled) = serde_json::from_slice::<Pulled>(body)
        {
            pause = pulled.defer_ms * 1_000 + if pulled.jobs.is_empty() { 10_000 } else { 0 };
            for job in &pulled.jobs {
                self.take(job, scene);
            }
            if pulled.jobs.is_empty() && scene.plan.pull_wait_ms == 0 {
                pause += if scene.is_cool { SECOND / 4 } else { 2 * SECOND };
            }
        }
        scene.timers.push((scene.now + pause + 1, Timer::Pull));
    }

    /// Begins to work on a job.
    fn take(&mut self, job: &PulledJob, scene: &mut Scene) {
        let told = Told::Leased { node: self.no, job_id: job.job_id.to_owned(), lease_id: job.lease_id.to_owned() };
        scene.told.push(told);
        if scene.comes(Fault::DropJob) {
            return;
        }
        let lease_us = scene.plan.limits.lease_ms.max(1_000) * 1_000;
        let work_us = scene.plan.work_ms.max(1) * 1_000;
        let mut takes = 1 + scene.draw.below(if scene.is_cool { work_us.min(50_000) } else { work_us });
        let is_overrun = scene.comes(Fault::OverrunLease);
        if is_overrun {
            takes = lease_us + scene.draw.below(lease_us);
        }
        let no = self.next_work;
        self.next_work += 1;
        let work = Work {
            job_id: job.job_id.to_owned(),
            lease_id: job.lease_id.to_owned(),
            ok: !scene.comes(Fault::FailAttempt),
            is_extended: !is_overrun,
            lease_us,
        };
        if work.is_extended && takes > lease_us / 3 {
            scene.timers.push((scene.now + lease_us / 3, Timer::Extend(no)));
        }
        scene.timers.push((scene.now + takes, Timer::Done(no)));
        self.work.insert(no, work);
    }

    fn extend(&mut self, no: u64, scene: &mut Scene) {
        let Some(work) = self.work.get(&no) else { return };
        scene.timers.push((scene.now + work.lease_us / 3, Timer::Extend(no)));
        let body = format!(r#"{{"node_id":"node{}","leases":["{}"]}}"#, self.no, work.lease_id);
        let (job_id, lease_id) = (String::new(), String::new());
        self.outbox.push_back(Message { path: "/mesh/extend_lease", body, job_id, lease_id, tries: TRIES_MAX });
        self.send(scene);
    }

    fn done(&mut self, no: u64, scene: &mut Scene) {
        let Some(work) = self.work.remove(&no) else { return };
        let is_foreign = scene.comes(Fault::ForeignLease);
        let lease_id = self.last_lease.replace(work.lease_id.clone()).filter(|_| is_foreign);
        let lease_id = lease_id.unwrap_or_else(|| work.lease_id.clone());
        let value = RawValue::from_string(format!(r#"{{"n":{no}}}"#)).expect("it is JSON");
        let error = RawValue::from_string(r#""it broke""#.to_owned()).expect("it is JSON");
        let (error, result) = if work.ok { (None, Some(&*value)) } else { (Some(&*error), None) };
        let signed = Signer::default().sign(error, &work.job_id, work.ok, result);
        let sha256 = if scene.comes(Fault::WrongChecksum) { "0".repeat(64) } else { signed.sha256 };
        // A lie that the hub finds out is followed by the truth, or the job waits for its lease's end.
        let is_retryable = scene.is_cool || !scene.draw.chance(30);
        let body = format!(
            r#"{{"job_id":"{}","node_id":"node{}","lease_id":"{lease_id}","ok":{},"result":{},"error":{},"retryable":{is_retryable},"integrity":{{"mode":"sha256","sha256":"{sha256}"}}}}"#,
            work.job_id,
            self.no,
            work.ok,
            result.map_or("null", RawValue::get),
            error.map_or("null", RawValue::get),
        );
        let message = Message { path: "/mesh/submit_result", body, job_id: work.job_id, lease_id, tries: 0 };
        if scene.comes(Fault::AnswerTwice) {
            self.outbox.push_back(message.clone());
        }
        self.outbox.push_back(message);
        self.send(scene);
        self.pull(scene);
    }

    fn send(&mut self, scene: &mut Scene) {
        if !self.is_up || self.sending.is_some() {
            return;
        }
        let Some(message) = self.outbox.pop_front() else { return };
        scene.calls.push((WORK, post(message.path, TOKEN, &message.body), 10 * SECOND));
        self.sending = Some(message);
    }

    fn sent(&mut self, answer: Answer, scene: &mut Scene) {
        let Some(mut message) = self.sending.take() else { return };
        match answer {
            Answer::Reply(Reply { status: 200, body, .. }) if !message.job_id.is_empty() => {
                if let Ok(completed) = serde_json::from_slice::<Completed>(&body) {
                    scene.told.push(Told::Completed {
                        job_id: message.job_id,
                        lease_id: message.lease_id,
                        status: completed.status.to_owned(),
                        is_duplicate: completed.duplicate,
                    });
                }
            }
            Answer::Lost | Answer::Reply(Reply { status: 429 | 503, .. }) if message.tries < TRIES_MAX => {
                message.tries += 1;
                self.outbox.push_front(message);
                scene.timers.push((scene.now + RETRY_US, Timer::Send));
                return;
            }
            // Refused: the job went to another, or nobody can know.
            Answer::Lost | Answer::Reply(_) => {}
        }
        self.send(scene);
    }
}

/// A zone's name.
pub fn zone_name(zone: u64) -> &'static str {
    ["default", "north", "south"][zone as usize % 3]
}
