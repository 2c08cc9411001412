//! Client: who submits, one by one or in batches, repeats what it is not sure of, and sometimes changes its mind.

use super::fault::Fault;
use super::http::{Reply, post};
use super::node::zone_name;
use super::oracle::Told;
use super::process::TOKEN;
use super::scene::{Answer, Scene, Timer};
use crate::agenda::{Micros, SECOND};
use serde::Deserialize;
use std::collections::VecDeque;

/// Submits that a client keeps waiting; more it forgets.
pub const WAITING_MAX: usize = 200;

/// How often a submit is sent until its client gives up.
const TRIES_MAX: u32 = 6;

/// How long a submit takes at most that is refused until its client gives up: its pauses, and its calls.
pub const GIVE_UP_US: Micros = 25 * SECOND;

/// Keys in use; they come again.
pub const KEYS: u64 = 400;

/// How long a client collects for a batch.
const COLLECT_US: Micros = 2 * SECOND;

/// One connection that submits.
#[derive(Debug, Default)]
pub struct Client {
    no: u64,
    waiting: VecDeque<Submit>,
    /// Requests that were sent, in their order.
    sending: VecDeque<Sent>,
    is_pausing: bool,
    is_collecting: bool,
}

/// What is to be done.
#[derive(Clone, Debug)]
struct Submit {
    key: Option<u64>,
    variant: u64,
    kind: u64,
    params: String,
    body: String,
    tries: u32,
}

/// What a request asked for.
#[derive(Debug)]
enum Sent {
    One(Submit),
    /// What stands between the submits is none.
    Batch(Vec<Option<Submit>>),
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
}

impl Client {
    /// A client that has nothing to do.
    pub fn new(no: u64) -> Self {
        Client { no, ..Client::default() }
    }

    /// There is something to be done.
    pub fn submit(&mut self, scene: &mut Scene) {
        let key = scene.draw.chance(scene.plan.keyed_percent * 10).then(|| self.no * KEYS + scene.draw.below(KEYS));
        // A key means one payload, unless its client changes its mind.
        let variant = u64::from(key.is_some() && scene.comes(Fault::ChangedPayload));
        self.put(key, variant, scene);
        if scene.plan.traffic.batch_max > 1 && !self.is_collecting && scene.draw.chance(700) {
            self.is_collecting = true;
            scene.timers.push((scene.now + scene.draw.below(COLLECT_US), Timer::Retry));
        }
        self.send(scene);
    }

    /// What it planned is due.
    pub fn wake(&mut self, _timer: Timer, scene: &mut Scene) {
        (self.is_pausing, self.is_collecting) = (false, false);
        self.send(scene);
    }

    /// The first of its calls was answered.
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
                Answer::Reply(Reply { status, .. }, _) => self.refused(submit, status, scene),
            },
            Some(Sent::Batch(submits)) => self.batch_answered(submits, answer, scene),
            None => return,
        }
        self.send(scene);
    }

    /// Whether it waits for nothing.
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
            return submits.into_iter().rev().flatten().for_each(|submit| self.refused(submit, status, scene));
        }
        if members.len() != submits.len() {
            let (asked, answered) = (format!("{} submits", submits.len()), format!("{} members", members.len()));
            return scene.told.push(Told::Astray { asked, answered });
        }
        scene.marks.push("batch of submits answered");
        if members.iter().any(|member| member.status_code == 200)
            && members.iter().any(|member| member.status_code != 200)
        {
            scene.marks.push("batch answered in part");
        }
        // Backwards, so that what is repeated comes to stand as it stood.
        for (submit, member) in submits.into_iter().zip(members).rev() {
            let Some(submit) = submit else {
                if member.status_code != 400 {
                    let answered = format!("status {}", member.status_code);
                    scene.told.push(Told::Astray { asked: "what is no submit".to_owned(), answered });
                }
                continue;
            };
            match member.status_code {
                200 => self.acknowledged(submit, member.job_id, member.job_status.unwrap_or(member.status), scene),
                status => self.refused(submit, status, scene),
            }
        }
    }

    fn acknowledged(&mut self, mut submit: Submit, job_id: &str, status: &str, scene: &mut Scene) {
        let Submit { key, variant, kind, ref params, .. } = submit;
        let (job_id, status, params) = (job_id.to_owned(), status.to_owned(), params.clone());
        scene.told.push(Told::Submitted { key, variant, kind, params, job_id, status });
        if submit.key.is_some() && scene.comes(Fault::Resubmit) {
            submit.tries = 0;
            self.waiting.push_back(submit);
        }
    }

    fn lost(&mut self, submit: Submit, scene: &mut Scene) {
        // Who has no key must not repeat what may have been done.
        if submit.key.is_some() {
            self.again(submit, scene);
        }
    }

    fn refused(&mut self, submit: Submit, status: u16, scene: &mut Scene) {
        if matches!(status, 429 | 503) {
            self.again(submit, scene);
        }
    }

    fn again(&mut self, mut submit: Submit, scene: &mut Scene) {
        if submit.tries >= TRIES_MAX {
            return;
        }
        submit.tries += 1;
        let pause = pause(submit.tries);
        self.waiting.push_front(submit);
        if !std::mem::replace(&mut self.is_pausing, true) {
            scene.timers.push((scene.now + pause, Timer::Retry));
        }
    }

    fn put(&mut self, key: Option<u64>, variant: u64, scene: &mut Scene) {
        if self.waiting.len() >= WAITING_MAX {
            return;
        }
        let draw = &mut *scene.draw;
        // What a key stands for is drawn from the key, so that a repeat is a repeat.
        let of = key.unwrap_or_else(|| draw.number());
        let (kind, params) = (of % 4, format!(r#"{{"n":{},"v":{variant}}}"#, of % 1_000_000));
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
        body.push('}');
        self.waiting.push_back(Submit { key, variant, kind, params, body, tries: 0 });
    }

    fn send(&mut self, scene: &mut Scene) {
        let depth = scene.plan.traffic.pipeline_max.max(1) as usize;
        while self.sending.len() < depth && !self.is_pausing && !self.is_collecting && !self.waiting.is_empty() {
            let batch_max = scene.plan.traffic.batch_max as usize;
            let is_batch = batch_max > 1 && self.waiting.len() > 1;
            let (path, body, sent) = if is_batch { self.take_batch(batch_max, scene) } else { self.take_one() };
            let path = if scene.comes(Fault::Intruder) { "/api/registry" } else { path };
            scene.call(0, post(path, TOKEN, &body), 10 * SECOND);
            self.sending.push_back(sent);
        }
    }

    fn take_one(&mut self) -> (&'static str, String, Sent) {
        let submit = self.waiting.pop_front().expect("something waits");
        ("/mesh/submit_request", submit.body.clone(), Sent::One(submit))
    }

    fn take_batch(&mut self, batch_max: usize, scene: &mut Scene) -> (&'static str, String, Sent) {
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

/// How long a client waits after a submit was sent in vain so often.
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
