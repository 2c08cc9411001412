//! The fleet: nodes that send heartbeats, pull jobs, run them, and submit their results.
//!
//! A node has a line for heartbeats, pulls and results each, since a long poll delays the requests behind it.

use super::driver::Network;
use super::event::{Event, LineId, Micros};
use super::scenario::{Jobs, Nodes, PullStyle};
use super::tally::Tally;
use super::wire::{self, Asked, Entry, Said, Status, Taken};
use crate::draw::{Draw, Stream};
use std::io::Write;

/// Lines of a node.
pub const LINES: u32 = 3;

const BEAT: u32 = 0;
const PULL: u32 = 1;
const RESULTS: u32 = 2;

/// Results of one request, at most.
const RESULTS_MAX: usize = 1_000;

/// How long a node waits after a pull that found nothing or was refused.
const PAUSE_US: Micros = 100_000;

/// One node.
#[derive(Debug)]
struct Node {
    /// Counts its restarts: the work of earlier incarnations is lost.
    incarnation: u32,
    is_up: bool,
    is_slow: bool,
    /// Its jobs under way.
    slots: Vec<Option<Taken>>,
    /// Results that were not sent yet.
    finished: Vec<(Taken, bool)>,
    /// Results of the request under way.
    reporting: Vec<(Taken, bool)>,
    is_pull_planned: bool,
    /// When it sent its last heartbeat.
    beat_at: Micros,
}

/// All nodes.
#[derive(Debug)]
pub struct Fleet {
    nodes: Vec<Node>,
    about: Nodes,
    fail_permille: u64,
    draw: Draw,
}

impl Fleet {
    /// Nodes that start one after another, spread over a heartbeat's interval.
    pub fn new(net: &mut Network, seed: u64, about: &Nodes, jobs: &Jobs) -> Self {
        let mut draw = Draw::new(seed, Stream::LoadNodes);
        let pulls_from = about.from_sec * 1_000_000;
        let nodes = (0..about.count as u32).map(|index| {
            let begins_at = draw.below(about.heartbeat_ms * 1_000);
            net.agenda.plan(begins_at, Event::Beat(index));
            if about.slots > 0 {
                let spread = match about.pull {
                    PullStyle::Wait { .. } => 1_000_000,
                    PullStyle::Every { ms } => ms * 1_000,
                };
                net.agenda.plan(pulls_from + draw.below(spread), Event::Pull(index));
            }
            Node {
                incarnation: 0,
                is_up: true,
                // An exact share, evenly spread, however few the nodes are.
                is_slow: u64::from(index + 1) * about.slow_permille / 1_000
                    > u64::from(index) * about.slow_permille / 1_000,
                slots: vec![None; about.slots as usize],
                finished: Vec::new(),
                reporting: Vec::new(),
                is_pull_planned: about.slots > 0,
                beat_at: 0,
            }
        });
        let nodes = nodes.collect();
        Fleet { nodes, about: about.clone(), fail_permille: jobs.fail_permille, draw }
    }

    /// Whether a line is a node's.
    pub fn has(&self, line: LineId) -> bool {
        (line / LINES) < self.nodes.len() as u32
    }

    /// Writes the pending request of a line; returns how many results are in it.
    pub fn write(&self, line: LineId, out: &mut Vec<u8>, body: &mut Vec<u8>) -> u64 {
        let (index, node) = (line / LINES, &self.nodes[(line / LINES) as usize]);
        match line % LINES {
            BEAT => {
                wire::post(out, body, "/mesh/heartbeat", |body| {
                    write!(body, "{{\"node_id\":\"n{index}\",\"health\":\"GREEN\"}}").expect("a buffer takes all");
                });
                0
            }
            PULL => {
                let wait_ms = match self.about.pull {
                    PullStyle::Wait { ms } => ms,
                    PullStyle::Every { .. } => 0,
                };
                let max = node.free();
                wire::post(out, body, "/mesh/pull_requests", |body| {
                    write!(body, "{{\"node_id\":\"n{index}\",\"max\":{max},\"wait_ms\":{wait_ms}}}")
                        .expect("a buffer takes all");
                });
                0
            }
            _ => {
                let result = |body: &mut Vec<u8>, (taken, is_ok): &(Taken, bool)| {
                    let Taken { job_id, lease_id, .. } = taken;
                    write!(
                        body,
                        "{{\"job_id\":\"{job_id}\",\"lease_id\":\"{lease_id}\",\"node_id\":\"n{index}\",\"ok\":{is_ok}}}"
                    )
                    .expect("a buffer takes all");
                };
                match &node.reporting[..] {
                    [one] => wire::post(out, body, "/mesh/submit_result", |body| result(body, one)),
                    many => wire::post(out, body, "/mesh/submit_results", |body| {
                        body.extend_from_slice(b"{\"results\":");
                        wire::list(body, many, result);
                        body.push(b'}');
                    }),
                }
                node.reporting.len() as u64
            }
        }
    }

    /// How to parse the reply on a line.
    pub fn asked(&self, line: LineId) -> Asked {
        match line % LINES {
            BEAT => Asked::Done,
            PULL => Asked::Jobs,
            _ if self.nodes[(line / LINES) as usize].reporting.len() == 1 => Asked::One,
            _ => Asked::Many,
        }
    }

    /// Sends a node's heartbeat.
    pub fn beat(&mut self, net: &mut Network, now: Micros, index: u32) {
        net.agenda.plan(now + self.about.heartbeat_ms * 1_000, Event::Beat(index));
        if self.nodes[index as usize].is_up {
            self.send_beat(net, now, index);
        }
    }

    /// Makes a node pull.
    pub fn pull(&mut self, net: &mut Network, now: Micros, index: u32) {
        self.nodes[index as usize].is_pull_planned = false;
        if let PullStyle::Every { ms } = self.about.pull {
            self.plan_pull(net, now + ms * 1_000, index);
        }
        self.try_pull(net, now, index);
    }

    /// Handles a reply to a node.
    pub fn reply(&mut self, net: &mut Network, tally: &mut Tally, now: Micros, line: LineId, said: Said) {
        let index = line / LINES;
        if let Said::Refused(code) = &said {
            *tally.nodes_refused.entry(code.clone()).or_default() += 1;
        }
        match (line % LINES, said) {
            (BEAT, _) => tally.heartbeat.record(now - self.nodes[index as usize].beat_at),
            (PULL, Said::Jobs(jobs, defer_ms)) => {
                let is_empty = jobs.is_empty();
                jobs.into_iter().for_each(|taken| self.begin_work(net, tally, now, index, taken));
                if matches!(self.about.pull, PullStyle::Wait { .. }) {
                    match is_empty {
                        true => self.plan_pull(net, now + PAUSE_US.max(defer_ms * 1_000), index),
                        false => self.try_pull(net, now, index),
                    }
                }
            }
            (RESULTS, Said::Entries(entries)) => {
                let reported = std::mem::take(&mut self.nodes[index as usize].reporting);
                for ((taken, _), entry) in reported.iter().zip(entries) {
                    match entry {
                        Entry::Ok(Status::Completed) => {
                            tally.completed += 1;
                            tally.until_done.record(now - taken.at);
                        }
                        Entry::Ok(_) => {}
                        Entry::Refused(_) => tally.late_results += 1,
                    }
                }
                self.send_results(net, now, index);
            }
            (PULL, _) if matches!(self.about.pull, PullStyle::Wait { .. }) => {
                self.plan_pull(net, now + PAUSE_US, index)
            }
            _ => {}
        }
    }

    /// Ends the work in a node's slot, which may kill the node.
    pub fn done(
        &mut self,
        net: &mut Network,
        tally: &mut Tally,
        now: Micros,
        (index, incarnation, slot): (u32, u32, u16),
    ) {
        let node = &mut self.nodes[index as usize];
        if node.incarnation != incarnation {
            return;
        }
        let taken = node.slots[slot as usize].take().expect("work that ends was begun");
        if taken.is_poison {
            tally.killed += 1;
            return self.die(net, now, index);
        }
        let is_ok = !self.draw.chance(self.fail_permille);
        node.finished.push((taken, is_ok));
        self.send_results(net, now, index);
        if matches!(self.about.pull, PullStyle::Wait { .. }) {
            self.try_pull(net, now, index);
        }
    }

    /// Stops a node, which restarts.
    pub fn stop(&mut self, net: &mut Network, now: Micros, index: u32) {
        if self.nodes[index as usize].is_up {
            self.die(net, now, index);
        }
    }

    /// Restarts a node that died.
    pub fn restart(&mut self, net: &mut Network, now: Micros, index: u32) {
        self.nodes[index as usize].is_up = true;
        self.send_beat(net, now, index);
        if matches!(self.about.pull, PullStyle::Wait { .. }) {
            self.try_pull(net, now, index);
        }
    }

    /// Handles the begin of an outage: unanswered requests have to be sent again.
    pub fn begin_outage(&mut self) {
        for node in &mut self.nodes {
            let reporting = std::mem::take(&mut node.reporting);
            node.finished.extend(reporting);
        }
    }

    /// Handles the end of an outage: all nodes send at once.
    pub fn end_outage(&mut self, net: &mut Network, now: Micros) {
        for index in 0..self.nodes.len() as u32 {
            if self.nodes[index as usize].is_up {
                self.send_beat(net, now, index);
                self.send_results(net, now, index);
                self.try_pull(net, now, index);
            }
        }
    }

    /// Jobs that run at a node, or whose result the hub has not acknowledged.
    pub fn under_way(&self) -> u64 {
        let of = |node: &Node| node.slots.len() - node.free() + node.finished.len() + node.reporting.len();
        self.nodes.iter().map(|node| of(node) as u64).sum()
    }

    fn send_beat(&mut self, net: &mut Network, now: Micros, index: u32) {
        if net.send(now, index * LINES + BEAT).is_some() {
            self.nodes[index as usize].beat_at = now;
        }
    }

    fn plan_pull(&mut self, net: &mut Network, at: Micros, index: u32) {
        let node = &mut self.nodes[index as usize];
        if !node.is_pull_planned {
            node.is_pull_planned = true;
            net.agenda.plan(at, Event::Pull(index));
        }
    }

    fn try_pull(&mut self, net: &mut Network, now: Micros, index: u32) {
        let node = &self.nodes[index as usize];
        if node.is_up && node.free() > 0 && now >= self.about.from_sec * 1_000_000 {
            net.send(now, index * LINES + PULL);
        }
    }

    fn begin_work(&mut self, net: &mut Network, tally: &mut Tally, now: Micros, index: u32, taken: Taken) {
        if taken.attempt == 1 {
            tally.waited(now - taken.at);
            if taken.is_quiet {
                tally.quiet_wait.record(now - taken.at);
            }
        }
        let node = &mut self.nodes[index as usize];
        let factor = if node.is_slow { self.about.slow_factor } else { 1 };
        let slot = node.slots.iter().position(Option::is_none).expect("a node pulls as many jobs as it has free slots");
        net.agenda.plan(now + taken.work_us * factor, Event::Done(index, node.incarnation, slot as u16));
        node.slots[slot] = Some(taken);
    }

    fn send_results(&mut self, net: &mut Network, now: Micros, index: u32) {
        let node = &mut self.nodes[index as usize];
        if node.finished.is_empty() || !net.can_send(index * LINES + RESULTS) {
            return;
        }
        let count = node.finished.len().min(RESULTS_MAX);
        node.reporting = node.finished.drain(..count).collect();
        net.send(now, index * LINES + RESULTS);
    }

    fn die(&mut self, net: &mut Network, now: Micros, index: u32) {
        let node = &mut self.nodes[index as usize];
        node.incarnation += 1;
        node.is_up = false;
        node.slots.fill(None);
        node.finished.clear();
        node.reporting.clear();
        (0..LINES).for_each(|line| net.cut(now, index * LINES + line));
        net.agenda.plan(now + self.about.restart_ms * 1_000, Event::Restart(index));
    }
}

impl Node {
    fn free(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_none()).count()
    }
}
