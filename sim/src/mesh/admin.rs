//! Admin: an operator who acts on jobs, kinds, nodes and weights, and who in the cool-down lifts all that holds jobs back.

use super::http::{Reply, delete, get, post, put};
use super::oracle::{DRY_RUN, Done, Observation, ShownAct};
use super::plan::Plan;
use super::process::TOKEN;
use super::scene::{Answer, Scene, Timer};
use crate::agenda::{MINUTE, Micros, SECOND};
use crate::draw::{Draw, Stream};
use serde::Deserialize;
use sheratan_io::service::Plane;
use std::collections::BTreeSet;

/// An operator's connections.
const DATA: usize = 0;
const CONTROL: usize = 1;

/// How many connections an operator has.
pub const ADMIN_LANES: usize = 2;

/// Jobs of a page, at most.
const PAGE_JOBS: u64 = 20;

/// Jobs that are cancelled of a page, at most.
const CANCELS_MAX: u64 = 3;

/// Kinds of the clients' jobs.
pub const KINDS: u64 = 4;

/// How often all that holds jobs back is lifted in the cool-down: a repeat of an earlier request may come after it.
const LIFT_US: Micros = 10 * SECOND;

/// An operator. It has one call at a time on each connection, and random numbers of its own.
#[derive(Debug)]
pub struct Admin {
    draw: Draw,
    asked: [Option<Asked>; ADMIN_LANES],
    /// Jobs to cancel, and requests to repeat.
    next: Vec<Asked>,
    /// The version of each kind that it was shown last.
    versions: [u64; KINDS as usize],
    weights_version: u64,
    /// Kinds and nodes that may hold jobs back.
    kinds: BTreeSet<u64>,
    nodes: BTreeSet<u64>,
    /// The latest act on many letters, as it was shown.
    act: Option<ShownAct>,
}

/// A request.
#[derive(Clone, Debug)]
struct Asked {
    what: What,
    /// How many records were durable when it was sent.
    durable: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    List,
    Cancel(String),
    Drain(u64),
    Resume(u64),
    ShowKind(u64),
    SetKind(u64, String, Option<u64>),
    SetWeights(String, Option<u64>),
    Letters,
    Requeue(String),
    Discard(String),
    /// An act on many letters: its path and its body.
    Begin(&'static str, String),
    ShowAct(u32),
    CancelAct(u32),
}

#[derive(Deserialize)]
struct Jobs<'a> {
    #[serde(borrow)]
    jobs: Vec<Job<'a>>,
}

#[derive(Deserialize)]
struct Job<'a> {
    job_id: &'a str,
}

#[derive(Deserialize)]
struct Kind<'a> {
    kind: &'a str,
    version: u64,
    paused: bool,
}

#[derive(Deserialize)]
struct Letters<'a> {
    #[serde(borrow)]
    letters: Vec<Job<'a>>,
}

#[derive(Deserialize)]
struct Counted {
    matched: u64,
}

#[derive(Deserialize)]
struct Begun<'a> {
    #[serde(borrow)]
    act: BegunAct<'a>,
}

#[derive(Deserialize)]
struct BegunAct<'a> {
    act_id: u32,
    status: &'a str,
    matched: u64,
    done: u64,
    skipped: u64,
}

#[derive(Deserialize)]
struct Weights {
    version: u64,
}

impl What {
    const fn lane(&self) -> usize {
        if matches!(self, What::Drain(_) | What::Resume(_)) { CONTROL } else { DATA }
    }
}

impl Admin {
    /// An operator who has done nothing yet.
    pub fn new(seed: u64) -> Self {
        Admin {
            draw: Draw::new(seed, Stream::Admin),
            asked: [None, None],
            next: Vec::new(),
            versions: [0; KINDS as usize],
            weights_version: 0,
            kinds: BTreeSet::new(),
            nodes: BTreeSet::new(),
            act: None,
        }
    }

    /// Its timer fires: it acts, or lifts what holds jobs back.
    pub fn wake(&mut self, scene: &mut Scene) {
        if scene.is_cool {
            scene.timers.push((scene.now + LIFT_US, Timer::Act));
            self.lift();
        } else {
            let mean = MINUTE / scene.plan.operator.acts_per_min.max(1);
            scene.timers.push((scene.now + 1 + self.draw.below(2 * mean), Timer::Act));
            // In the warm-up nothing is in the way of anything.
            if scene.is_chaos && self.next.is_empty() {
                let what = self.choose(scene.plan);
                self.next.push(Asked { what, durable: 0 });
            }
        }
        self.send(scene);
    }

    /// Handles the answer to its call on a lane.
    pub fn answered(&mut self, lane: usize, answer: Answer, scene: &mut Scene) {
        let Some(asked) = self.asked[lane].take() else { return };
        if let Answer::Reply(Reply { status, body, .. }, _) = answer {
            self.on_reply(asked, status, &body, scene);
        }
        self.send(scene);
    }

    /// Asks for all to be lifted that it may have asked for, whether or not it was answered.
    fn lift(&mut self) {
        let kinds = self.kinds.iter().map(|kind| {
            let body = r#"{"paused":false,"max_inflight":null,"rate_per_sec":null,"burst":null}"#;
            What::SetKind(*kind, body.to_owned(), None)
        });
        let nodes = self.nodes.iter().map(|node| What::Resume(*node));
        self.next = kinds.chain(nodes).map(|what| Asked { what, durable: 0 }).collect();
    }

    fn choose(&mut self, plan: &Plan) -> What {
        let kind = self.draw.below(KINDS);
        match self.draw.weighted(&[30, 10, 10, 10, 30, 10, 15, 15, 15]) {
            0 => What::List,
            1 => What::Drain(self.draw.below(plan.nodes)),
            2 => What::Resume(self.draw.below(plan.nodes)),
            3 => What::ShowKind(kind),
            4 => {
                let body = match self.draw.below(7) {
                    0 => r#"{"paused":true,"pause_reason":"upgrade"}"#.to_owned(),
                    1 => r#"{"paused":false}"#.to_owned(),
                    2 => format!(r#"{{"max_inflight":{}}}"#, self.draw.pick(&["0", "1", "3", "null"])),
                    3 => format!(
                        r#"{{"rate_per_sec":{},"burst":{}}}"#,
                        self.draw.pick(&["0", "0.1", "2", "null"]),
                        self.draw.pick(&["1", "5", "null"]),
                    ),
                    4 => r#"{"paused":false,"max_inflight":null,"rate_per_sec":null,"burst":null}"#.to_owned(),
                    5 => format!(r#"{{"max_run_sec":{}}}"#, self.draw.pick(&["3", "30", "null"])),
                    _ => format!(r#"{{"priority":{}}}"#, self.draw.pick(&["\"high\"", "\"low\"", "null"])),
                };
                let known = self.versions[kind as usize];
                What::SetKind(kind, body, self.draws_expected(known))
            }
            6 => What::Letters,
            7 => {
                let path = *self.draw.pick(&["/mesh/dlq/requeue", "/mesh/dlq/requeue", "/mesh/dlq/discard"]);
                What::Begin(path, self.draws_act(true))
            }
            8 => match self.act {
                Some(act) if self.draw.chance(250) => What::CancelAct(act.id),
                Some(act) => What::ShowAct(act.id),
                None => What::Letters,
            },
            _ => {
                let weights = [(); 2].map(|()| self.draw.between(1, 5));
                let body = format!(r#"{{"weights":{{"client0":{},"k1":{}}}}}"#, weights[0], weights[1]);
                let known = self.weights_version;
                What::SetWeights(body, self.draws_expected(known))
            }
        }
    }

    /// The body of an act on many letters, or of a request that only counts them.
    fn draws_act(&mut self, is_dry: bool) -> String {
        let filter = *self.draw.pick(&[r#""all":true"#, r#""kind":"k0""#, r#""kind":"k1""#, r#""reason":"attempts""#]);
        if is_dry {
            return format!(r#"{{{filter},"dry_run":true,"max_count":{DRY_RUN}}}"#);
        }
        let rate = *self.draw.pick(&["", "", r#","rate_per_sec":1"#, r#","rate_per_sec":20"#]);
        let max = *self.draw.pick(&["", "", r#","max_count":2"#, r#","max_count":500"#]);
        format!("{{{filter}{rate}{max}}}")
    }

    /// The version that a change names: none, the known one, or an older one.
    fn draws_expected(&mut self, known: u64) -> Option<u64> {
        match self.draw.below(6) {
            0 | 1 => Some(known),
            2 => known.checked_sub(1),
            _ => None,
        }
    }

    /// Sends what waits, one request on each lane.
    fn send(&mut self, scene: &mut Scene) {
        for lane in 0..ADMIN_LANES {
            if self.asked[lane].is_some() {
                continue;
            }
            let Some(at) = self.next.iter().position(|asked| asked.what.lane() == lane) else { continue };
            let what = self.next.remove(at).what;
            let bytes = self.request(&what);
            self.asked[lane] = Some(Asked { what, durable: scene.durable });
            scene.call(lane, bytes, 10 * SECOND);
        }
    }

    fn request(&mut self, what: &What) -> Vec<u8> {
        match what {
            What::List => {
                let status = self.draw.pick(&["queued", "leased"]);
                get(&format!("/mesh/jobs?status={status}&limit={PAGE_JOBS}"), TOKEN)
            }
            What::Cancel(job_id) => post(&format!("/mesh/jobs/{job_id}/cancel"), TOKEN, ""),
            What::Drain(node) => {
                self.nodes.insert(*node);
                let body = self.draw.pick(&[
                    "{}",
                    r#"{"deadline_sec":5}"#,
                    r#"{"deadline_sec":300,"reason":"kernel update"}"#,
                ]);
                post(&format!("/api/nodes/node{node}/drain"), TOKEN, body)
            }
            What::Resume(node) => post(&format!("/api/nodes/node{node}/resume"), TOKEN, ""),
            What::ShowKind(kind) => get(&format!("/mesh/kinds/k{kind}"), TOKEN),
            What::SetKind(kind, body, expected) => {
                self.kinds.insert(*kind);
                put(&format!("/mesh/kinds/k{kind}"), TOKEN, *expected, body)
            }
            What::Letters => get(&format!("/mesh/dlq?limit={PAGE_JOBS}"), TOKEN),
            What::Requeue(job_id) => post(&format!("/mesh/dlq/{job_id}/requeue"), TOKEN, ""),
            What::Discard(job_id) => delete(&format!("/mesh/dlq/{job_id}"), TOKEN),
            What::Begin(path, body) => post(path, TOKEN, body),
            What::ShowAct(id) => get(&format!("/mesh/dlq/acts/{id}"), TOKEN),
            What::CancelAct(id) => post(&format!("/mesh/dlq/acts/{id}/cancel"), TOKEN, ""),
            What::SetWeights(body, expected) => put("/mesh/weights", TOKEN, *expected, body),
        }
    }

    fn on_reply(&mut self, asked: Asked, status: u16, body: &[u8], scene: &mut Scene) {
        let Asked { what, durable } = asked;
        if status == 412 {
            scene.marks.push("operator: refused for an older version");
        }
        if status != 200 {
            return;
        }
        let done = match what {
            What::List => {
                let Jobs { jobs } = serde_json::from_slice(body).expect("a page is what the contract says");
                let first = self.draw.below(jobs.len() as u64) as usize;
                let count = self.draw.between(1, CANCELS_MAX) as usize;
                let cancels = jobs.iter().skip(first).take(count).map(|job| What::Cancel(job.job_id.to_owned()));
                self.next.extend(cancels.map(|what| Asked { what, durable: 0 }));
                return;
            }
            What::Cancel(job_id) => {
                scene.marks.push("operator: job cancelled");
                Done::Cancelled { job_id }
            }
            What::Letters => {
                let Letters { letters } = serde_json::from_slice(body).expect("letters are what the contract says");
                scene.marks.push(if letters.is_empty() {
                    "operator: no dead letter"
                } else {
                    "operator: dead letters"
                });
                let first = self.draw.below(letters.len() as u64) as usize;
                for letter in letters.iter().skip(first).take(2) {
                    let job_id = letter.job_id.to_owned();
                    let what = if self.draw.chance(700) { What::Requeue(job_id) } else { What::Discard(job_id) };
                    self.next.push(Asked { what, durable: 0 });
                }
                return;
            }
            What::Requeue(job_id) => {
                scene.marks.push("operator: letter requeued");
                Done::LetterHandled { job_id }
            }
            What::Discard(job_id) => {
                scene.marks.push("operator: letter discarded");
                Done::LetterHandled { job_id }
            }
            What::Begin(path, ref asked) if asked.contains("dry_run") => {
                let Counted { matched } = serde_json::from_slice(body).expect("a count is what the contract says");
                scene.marks.push("operator: letters counted");
                if matched > 0 {
                    let what = What::Begin(path, self.draws_act(false));
                    self.next.push(Asked { what, durable: 0 });
                }
                return;
            }
            What::Begin(..) | What::ShowAct(_) | What::CancelAct(_) => {
                let Begun { act } = serde_json::from_slice(body).expect("an act is what the contract says");
                let BegunAct { act_id: id, status, matched, done, skipped } = act;
                let is_begun = matches!(what, What::Begin(..));
                scene.marks.push(match (status, is_begun) {
                    ("running", _) => "operator: act runs",
                    ("cancelled", _) => "operator: act cancelled",
                    (_, true) => "operator: act done at once",
                    _ => "operator: act done",
                });
                let act = ShownAct { id, matched, done, skipped, is_running: status == "running" };
                let before = self.act.replace(act).filter(|before| before.id == id);
                Done::ActShown { before, act }
            }
            What::Drain(node) => {
                scene.marks.push("operator: node drained");
                Done::Drained { node }
            }
            What::Resume(node) => {
                scene.marks.push("operator: node resumed");
                Done::Resumed { node }
            }
            What::ShowKind(kind) | What::SetKind(kind, ..) => {
                let is_set = matches!(what, What::SetKind(..));
                let shown: Kind = serde_json::from_slice(body).expect("a kind is what the contract says");
                if shown.kind != format!("k{kind}") {
                    let (asked, answered) = (format!("kind k{kind}"), shown.kind.to_owned());
                    return scene.observations.push(Observation::Mismatched { asked, answered });
                }
                if is_set {
                    scene.marks.push(if shown.paused { "operator: kind paused" } else { "operator: kind set" });
                }
                let before = std::mem::replace(&mut self.versions[kind as usize], shown.version);
                let Kind { version, paused, .. } = shown;
                Done::KindShown { kind, before, version, is_paused: paused }
            }
            What::SetWeights(..) => {
                scene.marks.push("operator: weights set");
                let Weights { version } = serde_json::from_slice(body).expect("weights are what the contract says");
                let before = std::mem::replace(&mut self.weights_version, version);
                Done::WeightsSet { before, version }
            }
        };
        scene.observations.push(Observation::OperatorDone { durable, done });
    }
}

/// The plane that an operator's connection is opened to.
pub fn plane(lane: usize) -> Plane {
    if lane == CONTROL { Plane::Control } else { Plane::Data }
}
