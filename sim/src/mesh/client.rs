//! Client: who submits, repeats what it is not sure of, and sometimes changes its mind.

use super::fault::Fault;
use super::http::{Reply, post};
use super::node::{Answer, Scene, Timer, zone_name};
use super::oracle::Told;
use super::process::TOKEN;
use crate::agenda::{Micros, SECOND};
use serde::Deserialize;
use std::collections::VecDeque;

/// Submits that a client keeps waiting; more it forgets.
const WAITING_MAX: usize = 200;

/// How often a submit is sent until its client gives up.
const TRIES_MAX: u32 = 6;

/// Keys in use; they come again.
const KEYS: u64 = 400;

/// One connection that submits.
#[derive(Debug, Default)]
pub struct Client {
    no: u64,
    waiting: VecDeque<Submit>,
    sending: Option<Submit>,
    is_pausing: bool,
}

/// What is to be done.
#[derive(Clone, Debug)]
struct Submit {
    key: Option<u64>,
    variant: u64,
    body: String,
    tries: u32,
}

#[derive(Deserialize)]
struct Submitted<'a> {
    job_id: &'a str,
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
        self.send(scene);
    }

    /// What it planned is due.
    pub fn wake(&mut self, _timer: Timer, scene: &mut Scene) {
        self.is_pausing = false;
        self.send(scene);
    }

    /// Its call was answered.
    pub fn answered(&mut self, answer: Answer, scene: &mut Scene) {
        let Some(mut submit) = self.sending.take() else { return };
        match answer {
            Answer::Reply(Reply { status: 200, body, .. }) => {
                if let Ok(submitted) = serde_json::from_slice::<Submitted>(&body) {
                    let Submit { key, variant, .. } = submit;
                    scene.told.push(Told::Submitted { key, variant, job_id: submitted.job_id.to_owned() });
                }
                if submit.key.is_some() && scene.comes(Fault::Resubmit) {
                    submit.tries = 0;
                    self.waiting.push_back(submit);
                }
            }
            // Who has no key must not repeat what may have been done.
            Answer::Lost if submit.key.is_some() && submit.tries < TRIES_MAX => return self.again(submit, scene),
            Answer::Reply(Reply { status: 429 | 503, .. }) if submit.tries < TRIES_MAX => {
                return self.again(submit, scene);
            }
            Answer::Lost | Answer::Reply(_) => {}
        }
        self.send(scene);
    }

    /// Whether it waits for nothing.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.sending.is_none()
    }

    fn again(&mut self, mut submit: Submit, scene: &mut Scene) {
        submit.tries += 1;
        let pause: Micros = (SECOND / 4) << submit.tries.min(5);
        self.waiting.push_front(submit);
        self.is_pausing = true;
        scene.timers.push((scene.now + pause, Timer::Retry));
    }

    fn put(&mut self, key: Option<u64>, variant: u64, scene: &mut Scene) {
        if self.waiting.len() >= WAITING_MAX {
            return;
        }
        let draw = &mut *scene.draw;
        // What a key stands for is drawn from the key, so that a repeat is a repeat.
        let of = key.unwrap_or_else(|| draw.number());
        let mut body = format!(r#"{{"kind":"k{}","params":{{"n":{},"v":{variant}}}"#, of % 4, of % 1_000_000);
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
        self.waiting.push_back(Submit { key, variant, body, tries: 0 });
    }

    fn send(&mut self, scene: &mut Scene) {
        if self.sending.is_some() || self.is_pausing {
            return;
        }
        let Some(submit) = self.waiting.pop_front() else { return };
        let is_lost = scene.comes(Fault::Intruder);
        let path = if is_lost { "/api/registry" } else { "/mesh/submit_request" };
        scene.calls.push((0, post(path, TOKEN, &submit.body), 10 * SECOND));
        self.sending = Some(submit);
    }
}
