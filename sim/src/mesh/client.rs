//! Client: submits jobs one by one or in batches, repeats submits of unknown result, and sometimes changes a payload.

use super::fault::Fault;
use super::http::{Reply, post};
use super::node::zone_name;
use super::oracle::{Observation, SUBMIT_MARK};
use super::process::TOKEN;
use super::scene::{Answer, Scene, Timer};
use super::world::WALL_START_US;
use crate::agenda::{Micros, SECOND};
use serde::Deserialize;
use sheratan_core::Utc;
use sheratan_io::rfc3339::Rfc3339;
use std::collections::VecDeque;

/// Submits that wait at a client; beyond this new ones are dropped.
pub const WAITING_MAX: usize = 200;

/// How often a submit is repeated until its client gives up.
const TRIES_MAX: u32 = 6;

/// How long a submit that is always refused takes until its client gives up: its pauses and its calls.
pub const GIVE_UP_US: Micros = 25 * SECOND;

/// How many keys a client uses, again and again.
pub const KEYS: u64 = 400;

/// How long a client collects for a batch.
const COLLECT_US: Micros = 2 * SECOND;

/// A client with one connection.
#[derive(Debug, Default)]
pub struct Client {
    index: u64,
    waiting: VecDeque<Submit>,
    /// Requests that are not answered yet, in the order in which they were sent.
    sending: VecDeque<Sent>,
    is_pausing: bool,
    is_collecting: bool,
    /// How many marks it has given to submits without a key.
    marks: u64,
}

/// A submit.
#[derive(Clone, Debug)]
struct Submit {
    key: Option<u64>,
    variant: u64,
    kind: u64,
    params: String,
    body: String,
    tries: u32,
    /// Its number among the client's marks, if it has no key.
    mark: u64,
}

impl Submit {
    fn mark(&self, client: u64) -> String {
        format!(r#"{SUBMIT_MARK}{client}.{}""#, self.mark)
    }
}

/// The submits of a request.
#[derive(Debug)]
enum Sent {
    One(Submit),
    /// `None` is an invalid member of the batch.
    Batch(Vec<Option<Submit>>),
}

/// A problem, as far as a client reads it.
#[derive(Deserialize)]
struct Refused<'a> {
    #[serde(default)]
    applied: &'a str,
}

#[derive(Deserialize)]
struct Submitted<'a> {
    job_id: &'a str,
    #[serde(default)]
    job_status: Option<&'a str>,
    status: &'a str,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    results: Vec<Member<'a>>,
}

#[derive(Deserialize)]
struct Member<'a> {
    status_code: u16,
    #[serde(default)]
    job_id: &'a str,
    #[serde(default)]
    job_status: Option<&'a str>,
    #[serde(default)]
    status: &'a str,
    #[serde(default)]
    applied: &'a str,
}

impl Client {
    /// A client without submits.
    pub fn new(index: u64) -> Self {
        Client { index, ..Client::default() }
    }

    /// Draws a submit and sends it, or collects it for a batch.
    pub fn submit(&mut self, scene: &mut Scene) {
        let key = scene.draw.chance(scene.plan.keyed_percent * 10).then(|| self.index * KEYS + scene.draw.below(KEYS));
        // A key always has the same payload, but for this fault.
        let variant = u64::from(key.is_some() && scene.draws_fault(Fault::ChangedPayload));
        self.push_submit(key, variant, scene);
        if scene.plan.traffic.batch_max > 1 && !self.is_collecting && scene.draw.chance(700) {
            self.is_collecting = true;
            scene.timers.push((scene.now + scene.draw.below(COLLECT_US), Timer::Retry));
        }
        self.send(scene);
    }

    /// One of its timers fires.
    pub fn wake(&mut self, _timer: Timer, scene: &mut Scene) {
        (self.is_pausing, self.is_collecting) = (false, false);
        self.send(scene);
    }

    /// Handles the answer to its oldest call.
    pub fn answered(&mut self, answer: Answer, scene: &mut Scene) {
        match self.sending.pop_front() {
            Some(Sent::One(submit)) => match answer {
                Answer::Reply(Reply { status: 200, body, .. }, _) => {
                    if let Ok(submitted) = serde_json::from_slice::<Submitted>(&body) {
                        let status = submitted.job_status.unwrap_or(submitted.status);
                        self.acknowledged(submit, submitted.job_id, status, scene);
                    }
                }
                Answer::Lost => self.lost(submit, scene),
                Answer::Reply(Reply { status, body, .. }, _) => self.refused(submit, status, applied(&body), scene),
            },
            Some(Sent::Batch(submits)) => self.batch_answered(submits, answer, scene),
            None => return,
        }
        self.send(scene);
    }

    /// Whether it has no submits to send and no calls under way.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.sending.is_empty()
    }

    fn batch_answered(&mut self, submits: Vec<Option<Submit>>, answer: Answer, scene: &mut Scene) {
        let (status, body) = match answer {
            Answer::Lost => return submits.into_iter().rev().flatten().for_each(|submit| self.lost(submit, scene)),
            Answer::Reply(Reply { status, body, .. }, _) => (status, body),
        };
        let members = serde_json::from_slice::<Batch>(&body).map(|batch| batch.results).unwrap_or_default();
        if status != 200 {
            let applied = applied(&body);
            return submits.into_iter().rev().flatten().for_each(|submit| self.refused(submit, status, applied, scene));
        }
        if members.len() != submits.len() {
            let (asked, answered) = (format!("{} submits", submits.len()), format!("{} members", members.len()));
            return scene.observations.push(Observation::Mismatched { asked, answered });
        }
        scene.marks.push("batch of submits answered");
        if members.iter().any(|member| member.status_code == 200)
            && members.iter().any(|member| member.status_code != 200)
        {
            scene.marks.push("batch answered in part");
        }
        // Behind an entry that a full queue refused, others may be refused unread.
        let is_full = |status: u16| matches!(status, 429 | 503);
        let full_at = members.iter().position(|member| is_full(member.status_code)).unwrap_or(members.len());
        // Backwards, so that submits that are pushed to the front keep their order.
        for (index, (submit, member)) in submits.into_iter().zip(members).enumerate().rev() {
            let Some(submit) = submit else {
                let is_unread = index > full_at && is_full(member.status_code);
                if member.status_code != 400 && !is_unread {
                    let answered = format!("status {}", member.status_code);
                    scene
                        .observations
                        .push(Observation::Mismatched { asked: "an invalid submit".to_owned(), answered });
                }
                continue;
            };
            match member.status_code {
                200 => self.acknowledged(submit, member.job_id, member.job_status.unwrap_or(member.status), scene),
                status => self.refused(submit, status, member.applied, scene),
            }
        }
    }

    fn acknowledged(&mut self, mut submit: Submit, job_id: &str, status: &str, scene: &mut Scene) {
        let Submit { key, variant, kind, ref params, .. } = submit;
        let (job_id, status, params) = (job_id.to_owned(), status.to_owned(), params.clone());
        scene.observations.push(Observation::Submitted { key, variant, kind, params, job_id, status });
        if submit.key.is_some() && scene.draws_fault(Fault::Resubmit) {
            submit.tries = 0;
            self.waiting.push_back(submit);
        }
    }

    fn lost(&mut self, submit: Submit, scene: &mut Scene) {
        // Without a key a repeat might be a second job.
        if submit.key.is_some() {
            self.retry(submit, scene);
        }
    }

    fn refused(&mut self, submit: Submit, status: u16, applied: &str, scene: &mut Scene) {
        match (status, applied) {
            (503, "unknown") => {
                scene.marks.push("submit of unknown outcome");
                self.lost(submit, scene);
            }
            (429 | 503, _) => {
                if applied == "no" {
                    scene.marks.push("submit refused by the journal");
                    scene.observations.push(Observation::NotDone { params: submit.params.clone() });
                }
                self.retry(submit, scene);
            }
            _ => {}
        }
    }

    fn retry(&mut self, mut submit: Submit, scene: &mut Scene) {
        if submit.tries >= TRIES_MAX {
            return;
        }
        submit.tries += 1;
        if submit.key.is_none() {
            // Each try has a mark of its own.
            let before = submit.mark(self.index);
            self.marks += 1;
            submit.mark = self.marks;
            let after = submit.mark(self.index);
            submit.params = submit.params.replace(&before, &after);
            submit.body = submit.body.replace(&before, &after);
        }
        let pause = pause(submit.tries);
        self.waiting.push_front(submit);
        if !std::mem::replace(&mut self.is_pausing, true) {
            scene.timers.push((scene.now + pause, Timer::Retry));
        }
    }

    fn push_submit(&mut self, key: Option<u64>, variant: u64, scene: &mut Scene) {
        if self.waiting.len() >= WAITING_MAX {
            return;
        }
        let draw = &mut *scene.draw;
        // Kind and payload follow from the key, so that a later submit of the key is a repeat.
        let of = key.unwrap_or_else(|| draw.number());
        let kind = of % 4;
        let mut params = format!(r#"{{"n":{},"v":{variant}}}"#, of % 1_000_000);
        if key.is_none() {
            self.marks += 1;
            params.pop();
            params += &format!(r#",{SUBMIT_MARK}{}.{}"}}"#, self.index, self.marks);
        }
        let mut body = format!(r#"{{"kind":"k{kind}","params":{params}"#);
        if let Some(key) = key {
            let on_duplicate = if key.is_multiple_of(5) { "latest_wins" } else { "same_result" };
            let on_failed = if key.is_multiple_of(7) { "new_job" } else { "same_result" };
            body +=
                &format!(r#","idempotency_key":"key{key}","on_duplicate":"{on_duplicate}","on_failed":"{on_failed}""#);
        }
        let priority = ["critical", "high", "normal", "low"][draw.below(4) as usize];
        body += &format!(r#","priority":"{priority}","zone":"{}""#, zone_name(draw.below(scene.plan.zones)));
        if draw.chance(200) {
            body += &format!(r#","requires":["can{}"]"#, draw.below(2));
        }
        if draw.chance(scene.plan.ttl_percent * 10) {
            body += &format!(r#","ttl_sec":{}"#, draw.between(1, 30));
        }
        if draw.chance(100) {
            body += &format!(r#","delay_ms":{}"#, draw.below(10_000));
        }
        if of % 16 == 3 {
            // By a clock that is right, which that of the hub's machine may not be.
            let run_at = Utc::from_millis((WALL_START_US + scene.now) / 1_000 + of % 8_000);
            body += &format!(r#","run_at_utc":"{}""#, Rfc3339::new(run_at));
        }
        if of % 3 == 1 {
            body += &format!(r#","client":{{"node_id":"client{}"}}"#, of % 2);
        }
        body.push('}');
        self.waiting.push_back(Submit { key, variant, kind, params, body, tries: 0, mark: self.marks });
    }

    fn send(&mut self, scene: &mut Scene) {
        let depth = scene.plan.traffic.pipeline_max.max(1) as usize;
        while self.sending.len() < depth && !self.is_pausing && !self.is_collecting && !self.waiting.is_empty() {
            let batch_max = scene.plan.traffic.batch_max as usize;
            let is_batch = batch_max > 1 && self.waiting.len() > 1;
            let (path, body, sent) = if is_batch { self.next_batch(batch_max, scene) } else { self.next_single() };
            let path = if scene.draws_fault(Fault::Intruder) { "/api/registry" } else { path };
            scene.call(0, post(path, TOKEN, &body), 10 * SECOND);
            self.sending.push_back(sent);
        }
    }

    fn next_single(&mut self) -> (&'static str, String, Sent) {
        let submit = self.waiting.pop_front().expect("a submit waits");
        ("/mesh/submit_request", submit.body.clone(), Sent::One(submit))
    }

    fn next_batch(&mut self, batch_max: usize, scene: &mut Scene) -> (&'static str, String, Sent) {
        let mut submits = Vec::new();
        let mut bodies = Vec::new();
        while submits.len() < batch_max {
            if scene.draw.chance(scene.plan.traffic.faulty_percent * 10) {
                bodies.push(["7", r#"{"params":{}}"#, r#"{"kind":{}}"#][scene.draw.below(3) as usize].to_owned());
                submits.push(None);
                continue;
            }
            let Some(submit) = self.waiting.pop_front() else { break };
            bodies.push(submit.body.clone());
            submits.push(Some(submit));
        }
        ("/mesh/submit_requests", format!(r#"{{"requests":[{}]}}"#, bodies.join(",")), Sent::Batch(submits))
    }
}

/// What a problem says of its request: `no` if it was certainly not applied.
fn applied(body: &[u8]) -> &str {
    serde_json::from_slice::<Refused>(body).map_or("", |refused| refused.applied)
}

/// How long a client pauses after so many tries of a submit failed.
const fn pause(tries: u32) -> Micros {
    (SECOND / 4) << if tries < 5 { tries } else { 5 }
}

const _: () = {
    let (mut tries, mut pauses) = (1, 0);
    while tries <= TRIES_MAX {
        pauses += pause(tries);
        tries += 1;
    }
    assert!(pauses + TRIES_MAX as Micros * SECOND / 4 <= GIVE_UP_US);
};
