//! Node: a worker of the mesh, with everything that can be wrong with one.

use super::fault::Fault;
use super::http::{Reply, get, post};
use super::oracle::Observation;
use super::plan::Plan;
use super::process::TOKEN;
use super::scene::{Answer, Call, Scene, Timer};
use crate::agenda::{Micros, SECOND};
use crate::draw::Draw;
use serde::Deserialize;
use serde_json::value::RawValue;
use sheratan_io::integrity::Signer;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

/// Pause before a call that failed is repeated.
const RETRY_US: Micros = 500_000;

/// How long a node collects results for a batch.
const COLLECT_US: Micros = 500_000;

/// How long a pull within a result waits at most: pipelined requests wait behind it.
const THEN_PULL_MS: u64 = 1_000;

/// How often a result is sent until the node gives up; in the cool-down it never does.
const TRIES_MAX: u32 = 8;

/// A member that only a result has that was changed on its way.
pub const TAMPERED: &str = "tampered";

/// A node's connections.
const CONTROL: usize = 0;
const PULLS: usize = 1;
const WORK: usize = 2;

/// How many connections a node has.
pub const LANES: usize = 3;

/// A worker.
#[derive(Debug)]
pub struct Node {
    index: u64,
    zone: u64,
    capabilities: Vec<u64>,
    build: u64,
    /// How often it was started; timers of earlier incarnations are ignored.
    pub incarnation: u64,
    /// Until when it does nothing.
    pub hung_until: Micros,
    is_up: bool,
    is_beating: bool,
    is_pulling: bool,
    /// Whether it pauses before it repeats a request that failed.
    is_pausing: bool,
    work: BTreeMap<u64, Work>,
    next_work: u64,
    outbox: VecDeque<Message>,
    /// Requests that are not answered yet, in the order in which they were sent.
    sending: VecDeque<Sent>,
    last_lease: Option<String>,
}

/// A job that runs.
#[derive(Debug)]
struct Work {
    job_id: String,
    lease_id: String,
    ok: bool,
    /// Whether it fails, and no retry will help.
    is_hopeless: bool,
    is_extended: bool,
    /// Whether it is never done, but extended for ever.
    is_endless: bool,
    lease_us: Micros,
}

/// A result or an extension for the hub.
#[derive(Clone, Debug)]
struct Message {
    /// Whether it is a result; else it is an extension or a release.
    is_result: bool,
    is_release: bool,
    body: String,
    /// The body as the node wrote it, if it is changed on its way.
    honest: Option<String>,
    /// Whether it was refused before, since it was changed.
    was_tampered: bool,
    job_id: String,
    lease_id: String,
    tries: u32,
}

/// The messages of a request: more than one only in a batch of results.
#[derive(Debug)]
struct Sent {
    messages: Vec<Message>,
    is_batch: bool,
    /// Whether the request also pulls jobs.
    is_pulling: bool,
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
    #[serde(default)]
    status_code: u16,
    #[serde(default)]
    job_id: &'a str,
    #[serde(default)]
    status: &'a str,
    #[serde(default)]
    duplicate: bool,
}

#[derive(Deserialize)]
struct CompletedBatch<'a> {
    #[serde(borrow)]
    results: Vec<Completed<'a>>,
}

#[derive(Deserialize)]
struct Extended<'a> {
    #[serde(borrow)]
    leases: Vec<ExtendedLease<'a>>,
}

#[derive(Deserialize)]
struct ExtendedLease<'a> {
    lease_id: &'a str,
}

impl Message {
    fn new(is_result: bool, body: String, job_id: String, lease_id: String, tries: u32) -> Message {
        Message { is_result, is_release: false, body, honest: None, was_tampered: false, job_id, lease_id, tries }
    }
}

impl Node {
    /// A node that is not started yet. The first of each zone can do everything.
    pub fn new(plan: &Plan, index: u64, draw: &mut Draw) -> Self {
        let is_generalist = index < plan.zones;
        Node {
            index,
            zone: if is_generalist { index } else { draw.below(plan.zones) },
            capabilities: (0..2).filter(|_| is_generalist || draw.chance(500)).collect(),
            build: 1,
            incarnation: 0,
            hung_until: 0,
            is_up: false,
            is_beating: false,
            is_pulling: false,
            is_pausing: false,
            work: BTreeMap::new(),
            next_work: 1,
            outbox: VecDeque::new(),
            sending: VecDeque::new(),
            last_lease: None,
        }
    }

    /// Starts or restarts.
    pub fn start(&mut self, scene: &mut Scene) {
        self.is_up = true;
        self.incarnation += 1;
        self.beat(scene);
        scene.timers.push((scene.now + 1 + scene.draw.below(SECOND), Timer::Pull));
    }

    /// Crashes: its work and its results are lost.
    pub fn crash(&mut self) {
        self.is_up = false;
        self.incarnation += 1;
        (self.is_beating, self.is_pulling, self.is_pausing) = (false, false, false);
        self.work.clear();
        self.outbox.clear();
        self.sending.clear();
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// One of its timers fires.
    pub fn wake(&mut self, timer: Timer, scene: &mut Scene) {
        match timer {
            Timer::Heartbeat => self.beat(scene),
            Timer::Pull => self.pull(scene),
            Timer::Done(id) => self.done(id, scene),
            Timer::Extend(id) => self.extend(id, scene),
            Timer::Send => {
                self.is_pausing = false;
                self.send(scene);
            }
            Timer::Retry | Timer::Read | Timer::Listen | Timer::Act => {}
        }
    }

    /// Handles the answer to its oldest call on a lane.
    pub fn answered(&mut self, lane: usize, answer: Answer, scene: &mut Scene) {
        match lane {
            CONTROL => {
                self.is_beating = false;
                scene.timers.push((scene.now + scene.plan.heartbeat_ms * 1_000, Timer::Heartbeat));
            }
            PULLS => self.on_pulled(answer, scene),
            _ => self.on_sent(answer, scene),
        }
    }

    fn beat(&mut self, scene: &mut Scene) {
        if !self.is_up || std::mem::replace(&mut self.is_beating, true) {
            return;
        }
        if scene.draws_fault(Fault::FlipAttestation) {
            self.build += 1;
        }
        if scene.draws_fault(Fault::Intruder) {
            scene.call(CONTROL, post("/mesh/heartbeat", "not-the-token-of-this-mesh", "{}"), 5 * SECOND);
            return;
        }
        let mut capabilities = String::new();
        for capability in &self.capabilities {
            write!(capabilities, "{}\"can{capability}\"", if capabilities.is_empty() { "" } else { "," })
                .expect("a string takes all");
        }
        let body = format!(
            r#"{{"node_id":"node{}","health":"GREEN","zone":"{}","capabilities":[{capabilities}],"attestation":{{"schema":"attestation_v1","build_id":"b{}","capability_hash":"00"}}}}"#,
            self.index,
            zone_name(self.zone),
            self.build,
        );
        scene.call(CONTROL, post("/mesh/heartbeat", TOKEN, &body), 10 * SECOND);
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
        let path = format!("/mesh/pull_requests/node{}?max={slots}&wait_ms={wait_ms}{kinds}", self.index);
        let hub_wait = wait_ms * 1_000;
        scene.calls.push(Call { lane: PULLS, bytes: get(&path, TOKEN), timeout: hub_wait + 10 * SECOND, hub_wait });
    }

    fn on_pulled(&mut self, answer: Answer, scene: &mut Scene) {
        match answer {
            Answer::Reply(Reply { status: 200, body, .. }, _) => self.on_jobs(Some(&body), scene),
            Answer::Reply(..) | Answer::Lost => self.on_jobs(None, scene),
        }
    }

    fn on_jobs(&mut self, body: Option<&[u8]>, scene: &mut Scene) {
        self.is_pulling = false;
        let mut pause = RETRY_US;
        if let Some(Ok(pulled)) = body.map(serde_json::from_slice::<Pulled>) {
            pause = pulled.defer_ms * 1_000 + if pulled.jobs.is_empty() { 10_000 } else { 0 };
            for job in &pulled.jobs {
                self.begin_work(job, scene);
            }
            if pulled.jobs.is_empty() && scene.plan.pull_wait_ms == 0 {
                pause += if scene.is_cool { SECOND / 4 } else { 2 * SECOND };
            }
        }
        scene.timers.push((scene.now + pause + 1, Timer::Pull));
    }

    /// Begins to work on a job.
    fn begin_work(&mut self, job: &PulledJob, scene: &mut Scene) {
        let leased =
            Observation::Leased { node: self.index, job_id: job.job_id.to_owned(), lease_id: job.lease_id.to_owned() };
        scene.observations.push(leased);
        if scene.draws_fault(Fault::DropJob) {
            return;
        }
        let lease_us = scene.plan.limits.lease_ms.max(1_000) * 1_000;
        let work_us = scene.plan.work_ms.max(1) * 1_000;
        let mut duration = 1 + scene.draw.below(if scene.is_cool { work_us.min(50_000) } else { work_us });
        let is_overrun = scene.draws_fault(Fault::OverrunLease);
        if is_overrun {
            duration = lease_us + scene.draw.below(lease_us);
        }
        let id = self.next_work;
        self.next_work += 1;
        let is_hopeless = draws(scene, scene.plan.workers.hopeless_percent);
        let work = Work {
            job_id: job.job_id.to_owned(),
            lease_id: job.lease_id.to_owned(),
            ok: !scene.draws_fault(Fault::FailAttempt) && !is_hopeless,
            is_hopeless,
            is_extended: !is_overrun,
            is_endless: !is_overrun && draws(scene, scene.plan.workers.endless_percent),
            lease_us,
        };
        if draws(scene, scene.plan.workers.release_percent) {
            return self.release(work, scene);
        }
        if work.is_extended && (work.is_endless || duration > lease_us / 3) {
            scene.timers.push((scene.now + lease_us / 3, Timer::Extend(id)));
        }
        if !work.is_endless {
            scene.timers.push((scene.now + duration, Timer::Done(id)));
        }
        self.work.insert(id, work);
    }

    /// Gives a job back.
    fn release(&mut self, work: Work, scene: &mut Scene) {
        scene.marks.push("worker: lease released");
        let body = format!(r#"{{"node_id":"node{}","leases":["{}"]}}"#, self.index, work.lease_id);
        let message = Message::new(false, body, work.job_id, work.lease_id, TRIES_MAX);
        self.outbox.push_back(Message { is_release: true, ..message });
        self.send(scene);
    }

    fn extend(&mut self, id: u64, scene: &mut Scene) {
        let Some(work) = self.work.get(&id) else { return };
        if work.is_endless && scene.is_cool {
            return self.done(id, scene);
        }
        scene.timers.push((scene.now + work.lease_us / 3, Timer::Extend(id)));
        let told = if draws(scene, scene.plan.workers.told_percent) {
            format!(r#","progress":{},"note":"step {id}""#, id % 101)
        } else {
            String::new()
        };
        let body = format!(r#"{{"node_id":"node{}","leases":["{}"]{told}}}"#, self.index, work.lease_id);
        let (job_id, lease_id) = (work.job_id.clone(), work.lease_id.clone());
        self.outbox.push_back(Message::new(false, body, job_id, lease_id, TRIES_MAX));
        self.send(scene);
    }

    fn done(&mut self, id: u64, scene: &mut Scene) {
        let Some(work) = self.work.remove(&id) else { return };
        let is_foreign = scene.draws_fault(Fault::ForeignLease);
        let lease_id = self.last_lease.replace(work.lease_id.clone()).filter(|_| is_foreign);
        let lease_id = lease_id.unwrap_or_else(|| work.lease_id.clone());
        let value = RawValue::from_string(format!(r#"{{"n":{id}}}"#)).expect("it is JSON");
        let error = RawValue::from_string(r#""it broke""#.to_owned()).expect("it is JSON");
        let (error, result) = if work.ok { (None, Some(&*value)) } else { (Some(&*error), None) };
        let signed = Signer::default().sign(error, &work.job_id, work.ok, result);
        let sha256 = if scene.draws_fault(Fault::WrongChecksum) { "0".repeat(64) } else { signed.sha256 };
        // With a wrong checksum the result is refused, and the job waits for its lease's end.
        let is_retryable = scene.is_cool || (!scene.draw.chance(30) && !work.is_hopeless);
        let is_later = !work.ok && draws(scene, scene.plan.workers.retry_after_percent);
        let after = if is_later { r#","retry_after_ms":1500"# } else { "" };
        let body = |ok: bool, result: &str, error: &str| {
            format!(
                r#"{{"job_id":"{}","node_id":"node{}","lease_id":"{lease_id}","ok":{ok},"result":{result},"error":{error},"retryable":{is_retryable}{after},"integrity":{{"mode":"sha256","sha256":"{sha256}"}}}}"#,
                work.job_id, self.index,
            )
        };
        let [result, error] = [result, error].map(|value| value.map_or("null", RawValue::get));
        let mut message = Message::new(true, body(work.ok, result, error), work.job_id.clone(), lease_id.clone(), 0);
        if scene.draws_fault(Fault::Tamper) {
            let other = format!("{{\"{TAMPERED}\":{id}}}");
            let tampered = match scene.draw.below(3) {
                0 => body(work.ok, &other, error),
                1 => body(work.ok, result, &other),
                _ => body(!work.ok, &other, error),
            };
            message.honest = Some(std::mem::replace(&mut message.body, tampered));
        }
        if scene.draws_fault(Fault::AnswerTwice) {
            self.outbox.push_back(message.clone());
        }
        self.outbox.push_back(message);
        if scene.plan.traffic.batch_max > 1 && !self.work.is_empty() && scene.draw.chance(500) {
            // More results may join the batch.
            scene.timers.push((scene.now + scene.draw.below(COLLECT_US), Timer::Send));
        } else {
            self.send(scene);
        }
        self.pull(scene);
    }

    fn send(&mut self, scene: &mut Scene) {
        let depth = scene.plan.traffic.pipeline_max.max(1) as usize;
        while self.is_up && !self.is_pausing && self.sending.len() < depth {
            let Some(first) = self.outbox.pop_front() else { return };
            let mut messages = vec![first];
            let batch_max = scene.plan.traffic.batch_max as usize;
            while messages.len() < batch_max && messages[0].is_result {
                if !self.outbox.front().is_some_and(|next| next.is_result) {
                    break;
                }
                messages.extend(self.outbox.pop_front());
            }
            self.send_now(messages, scene);
        }
    }

    fn send_now(&mut self, messages: Vec<Message>, scene: &mut Scene) {
        let is_batch = messages.len() > 1;
        let path = match (messages[0].is_result, is_batch) {
            _ if messages[0].is_release => "/mesh/release_lease",
            (false, _) => "/mesh/extend_lease",
            (true, false) => "/mesh/submit_result",
            (true, true) => "/mesh/submit_results",
        };
        let bodies: Vec<_> = messages.iter().map(|message| message.body.as_str()).collect();
        let mut body = bodies.join(",");
        if is_batch {
            body = format!(r#"{{"node_id":"node{}","results":[{body}]}}"#, self.index);
        }
        let slots = scene.plan.slots.saturating_sub(self.work.len() as u64);
        let is_pulling = messages[0].is_result
            && slots > 0
            && !self.is_pulling
            && scene.draw.chance(scene.plan.traffic.then_pull_percent * 10);
        let wait_ms = if is_pulling { scene.draw.below(scene.plan.pull_wait_ms.min(THEN_PULL_MS) + 1) } else { 0 };
        if is_pulling {
            self.is_pulling = true;
            body.pop();
            write!(body, r#","pull":{{"max":{slots},"wait_ms":{wait_ms}}}}}"#).expect("a string takes all");
        }
        let hub_wait = wait_ms * 1_000;
        let bytes = post(path, TOKEN, &body);
        scene.calls.push(Call { lane: WORK, bytes, timeout: hub_wait + 10 * SECOND, hub_wait: THEN_PULL_MS * 1_000 });
        self.sending.push_back(Sent { messages, is_batch, is_pulling });
    }

    fn on_sent(&mut self, answer: Answer, scene: &mut Scene) {
        let Some(Sent { messages, is_batch, is_pulling }) = self.sending.pop_front() else { return };
        let (status, body) = match answer {
            Answer::Reply(Reply { status, body, .. }, _) => (Some(status), body),
            Answer::Lost => (None, Vec::new()),
        };
        if is_pulling {
            scene.marks.push("pull with a result answered");
            self.on_jobs((status == Some(200)).then_some(&*body), scene);
        }
        match status {
            Some(200) if !messages[0].is_result => check_extended(&messages[0], &body, scene),
            Some(200) if is_batch => self.on_batch_sent(messages, &body, scene),
            Some(200) => {
                for message in messages {
                    if let Ok(completed) = serde_json::from_slice::<Completed>(&body) {
                        report_completed(message, &completed, scene);
                    }
                }
            }
            None | Some(429 | 503) => messages.into_iter().rev().for_each(|message| self.retry(message, scene)),
            // Refused: the lease is no longer valid, or the request is not.
            Some(status) => messages.into_iter().rev().for_each(|message| self.refused(message, status, scene)),
        }
        self.send(scene);
    }

    fn on_batch_sent(&mut self, messages: Vec<Message>, body: &[u8], scene: &mut Scene) {
        let results = serde_json::from_slice::<CompletedBatch>(body).map(|batch| batch.results).unwrap_or_default();
        if results.len() != messages.len() {
            let (asked, answered) = (format!("{} results", messages.len()), format!("{} members", results.len()));
            return scene.observations.push(Observation::Mismatched { asked, answered });
        }
        scene.marks.push("batch of results answered");
        for (message, completed) in messages.into_iter().zip(results).rev() {
            match completed.status_code {
                200 => report_completed(message, &completed, scene),
                429 | 503 => self.retry(message, scene),
                status => self.refused(message, status, scene),
            }
        }
    }

    /// A result that was changed on its way is sent as the node wrote it.
    fn refused(&mut self, mut message: Message, status: u16, scene: &mut Scene) {
        if status == 403
            && let Some(honest) = message.honest.take()
        {
            scene.marks.push("tampered result refused");
            (message.body, message.was_tampered) = (honest, true);
            self.outbox.push_front(message);
        }
    }

    fn retry(&mut self, mut message: Message, scene: &mut Scene) {
        if message.tries < TRIES_MAX {
            message.tries += 1;
            self.outbox.push_front(message);
            if !std::mem::replace(&mut self.is_pausing, true) {
                scene.timers.push((scene.now + RETRY_US, Timer::Send));
            }
        }
    }
}

/// Draws whether a worker does what so many of a hundred do; without such workers nothing is drawn.
fn draws(scene: &mut Scene, percent: u64) -> bool {
    scene.is_chaos && percent > 0 && scene.draw.chance(percent * 10)
}

fn check_extended(message: &Message, body: &[u8], scene: &mut Scene) {
    let extended = serde_json::from_slice::<Extended>(body).map(|extended| extended.leases).unwrap_or_default();
    let is_own = matches!(&*extended, [lease] if lease.lease_id == message.lease_id);
    if !is_own {
        let answered = String::from_utf8_lossy(body).into_owned();
        scene
            .observations
            .push(Observation::Mismatched { asked: format!("an extension of {}", message.lease_id), answered });
    }
}

fn report_completed(message: Message, completed: &Completed, scene: &mut Scene) {
    if completed.job_id != message.job_id {
        let answered = format!("{} is {}", completed.job_id, completed.status);
        return scene
            .observations
            .push(Observation::Mismatched { asked: format!("a result of {}", message.job_id), answered });
    }
    if message.honest.is_some() {
        return scene.observations.push(Observation::TamperedTaken { job_id: message.job_id });
    }
    if message.was_tampered {
        scene.marks.push("honest result taken after a tampered one");
    }
    scene.observations.push(Observation::Completed {
        job_id: message.job_id,
        lease_id: message.lease_id,
        status: completed.status.to_owned(),
        is_duplicate: completed.duplicate,
    });
}

/// A zone's name.
pub fn zone_name(zone: u64) -> &'static str {
    ["default", "north", "south"][zone as usize % 3]
}
