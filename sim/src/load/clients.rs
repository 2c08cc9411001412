//! Clients: jobs arrive whether the hub keeps up or not, wait for a client's connection, and are sent; a parcel that is
//! refused or not answered is sent again, as often as the scenario says.

use super::arrivals::exponential;
use super::driver::Network;
use super::event::{Event, LineId, Micros};
use super::scenario::{Arrivals, Duration, Jobs};
use super::tally::Tally;
use super::wire::{self, Asked, Entry, Plan, Said, Shape, Status};
use crate::draw::{Draw, Stream};
use std::collections::{BTreeMap, VecDeque};

/// Jobs of one request.
#[derive(Clone, Debug)]
struct Parcel {
    jobs: Vec<Plan>,
    tries: u32,
    /// Whether another parcel has the same jobs, and counts them.
    is_copy: bool,
}

/// All clients. A client is one connection; which one sends a parcel makes no difference.
#[derive(Debug)]
pub struct Clients {
    arrivals: Arrivals,
    about: Jobs,
    until: Micros,
    first_line: LineId,
    /// What each client has sent without an answer yet, and when.
    under_way: Vec<Option<(Parcel, Micros)>>,
    idle: VecDeque<u32>,
    /// Parcels that wait for an idle client.
    backlog: VecDeque<Parcel>,
    /// Parcels that wait to be sent again, by number.
    waiting: BTreeMap<u32, Parcel>,
    next_waiting: u32,
    next_job: u64,
    arrival_draw: Draw,
    job_draw: Draw,
}

impl Parcel {
    /// Its jobs, if no other parcel counts them.
    fn offered(&self) -> u64 {
        if self.is_copy { 0 } else { self.jobs.len() as u64 }
    }
}

impl Clients {
    /// Clients whose lines begin at `first_line`.
    pub fn new(
        net: &mut Network,
        seed: u64,
        arrivals: &Arrivals,
        about: &Jobs,
        seconds: u64,
        first_line: LineId,
    ) -> Self {
        let mut clients = Clients {
            arrivals: arrivals.clone(),
            about: about.clone(),
            until: arrivals.until_sec.unwrap_or(seconds).min(seconds) * 1_000_000,
            first_line,
            under_way: vec![None; arrivals.clients as usize],
            idle: (0..arrivals.clients as u32).collect(),
            backlog: VecDeque::new(),
            waiting: BTreeMap::new(),
            next_waiting: 0,
            next_job: 0,
            arrival_draw: Draw::new(seed, Stream::LoadArrivals),
            job_draw: Draw::new(seed, Stream::LoadJobs),
        };
        clients.plan_offer(net, 0);
        clients
    }

    /// Writes the pending request of a line; returns how many jobs are in it.
    pub fn write(&self, line: LineId, out: &mut Vec<u8>, body: &mut Vec<u8>) -> u64 {
        let (parcel, _) =
            self.under_way[self.client_of(line)].as_ref().expect("a client that sends has something to send");
        let shape = Shape {
            has_key: self.arrivals.keys,
            has_client: self.arrivals.quiet_permille.is_some(),
            quiet_priority: self.arrivals.quiet_priority,
            params_bytes: self.about.params_bytes,
        };
        let job = |body: &mut Vec<u8>, plan: &Plan| wire::job(body, plan, shape);
        match &parcel.jobs[..] {
            [one] => wire::post(out, body, "/mesh/submit_request", |body| job(body, one)),
            many => wire::post(out, body, "/mesh/submit_requests", |body| {
                body.extend_from_slice(b"{\"requests\":");
                wire::list(body, many, job);
                body.push(b'}');
            }),
        }
        parcel.jobs.len() as u64
    }

    /// How to parse the reply on a line.
    pub fn asked(&self, line: LineId) -> Asked {
        match &self.under_way[self.client_of(line)] {
            Some((parcel, _)) if parcel.jobs.len() == 1 => Asked::One,
            _ => Asked::Many,
        }
    }

    /// Submits the next jobs.
    pub fn offer(&mut self, net: &mut Network, tally: &mut Tally, now: Micros) {
        let left = self.arrivals.jobs_max.map_or(u64::MAX, |max| max - self.next_job);
        let count = self.arrivals.batch.min(left);
        let jobs = (0..count).map(|index| self.plan(now, self.next_job + index)).collect::<Vec<_>>();
        self.next_job += count;
        tally.offered += count;
        for _ in 1..self.arrivals.copies {
            self.send(net, tally, now, Parcel { jobs: jobs.clone(), tries: 0, is_copy: true });
        }
        self.send(net, tally, now, Parcel { jobs, tries: 0, is_copy: false });
        self.plan_offer(net, now);
    }

    /// Sends a parcel again.
    pub fn resend(&mut self, net: &mut Network, tally: &mut Tally, now: Micros, index: u32) {
        let parcel = self.waiting.remove(&index).expect("a parcel is sent again once");
        self.send(net, tally, now, parcel);
    }

    /// Handles a reply to a client.
    pub fn reply(&mut self, net: &mut Network, tally: &mut Tally, now: Micros, line: LineId, said: Said) {
        let (mut parcel, sent_at) = self.finish_request(line);
        tally.answer.record(now - sent_at);
        let entries = match said {
            Said::Entries(entries) => entries,
            Said::Refused(code) => vec![Entry::Refused(code); parcel.jobs.len()],
            Said::Done | Said::Jobs(..) => unreachable!("a submit is not answered so"),
        };
        let mut entries = entries.into_iter();
        let is_copy = parcel.is_copy;
        parcel.jobs.retain(|_| match entries.next().expect("one entry for each job") {
            Entry::Ok(status) => {
                *(if is_copy { &mut tally.copied } else { &mut tally.accepted }) += 1;
                tally.repeated += u64::from(status != Status::Accepted);
                false
            }
            Entry::Refused(code) => {
                *tally.refused.entry(code).or_default() += 1;
                true
            }
        });
        if !parcel.jobs.is_empty() {
            let count = parcel.offered();
            if !self.try_later(net, now, parcel) {
                tally.dropped += count;
            }
        }
        self.send_backlog(net, tally, now);
    }

    /// Whether the request of a line has timed out.
    pub fn is_over(&self, line: LineId, now: Micros) -> bool {
        let Some((_, sent_at)) = &self.under_way[self.client_of(line)] else { return false };
        self.arrivals.timeout_ms.is_some_and(|timeout_ms| sent_at + timeout_ms * 1_000 <= now)
    }

    /// Times out a client's request.
    pub fn time_out(&mut self, net: &mut Network, tally: &mut Tally, now: Micros, line: LineId) {
        net.cut(now, line);
        let (parcel, _) = self.finish_request(line);
        tally.unanswered += parcel.jobs.len() as u64;
        let count = parcel.offered();
        if !self.try_later(net, now, parcel) {
            tally.abandoned += count;
        }
        self.send_backlog(net, tally, now);
    }

    /// Handles the begin of an outage: unanswered parcels have to be sent again.
    pub fn begin_outage(&mut self, tally: &mut Tally) {
        for index in 0..self.under_way.len() {
            if let Some((parcel, _)) = self.under_way[index].take() {
                tally.unanswered += parcel.jobs.len() as u64;
                self.backlog.push_back(parcel);
                self.idle.push_back(index as u32);
            }
        }
    }

    /// Handles the end of an outage: all clients send at once.
    pub fn end_outage(&mut self, net: &mut Network, tally: &mut Tally, now: Micros) {
        self.send_backlog(net, tally, now);
    }

    /// Jobs that are sent or waiting, without an answer yet.
    pub fn pending(&self) -> u64 {
        let under_way = self.under_way.iter().flatten().map(|(parcel, _)| parcel);
        let parcels = under_way.chain(&self.backlog).chain(self.waiting.values());
        parcels.map(Parcel::offered).sum()
    }

    fn plan(&mut self, now: Micros, number: u64) -> Plan {
        let work_us = match self.about.time {
            Duration::Constant { ms } => ms * 1_000,
            Duration::Uniform { min_ms, max_ms } => self.job_draw.between(min_ms * 1_000, max_ms * 1_000),
            Duration::Exponential { mean_ms, max_ms } => {
                let work_us = (exponential(&mut self.job_draw) * mean_ms as f64 * 1_000.0) as u64;
                work_us.min(max_ms * 1_000)
            }
        };
        let is_poison = self.job_draw.chance(self.about.poison_permille);
        let is_quiet = self.arrivals.quiet_permille.is_some_and(|permille| self.job_draw.chance(permille));
        Plan { number, at: now, work_us, is_poison, is_quiet }
    }

    fn plan_offer(&mut self, net: &mut Network, now: Micros) {
        if self.arrivals.jobs_max.is_some_and(|max| self.next_job >= max) {
            return;
        }
        let next = self.arrivals.rate.next(&mut self.arrival_draw, now, self.until, self.arrivals.batch);
        if let Some(at) = next {
            net.agenda.plan(at, Event::Offer);
        }
    }

    fn send(&mut self, net: &mut Network, tally: &mut Tally, now: Micros, parcel: Parcel) {
        self.backlog.push_back(parcel);
        self.send_backlog(net, tally, now);
    }

    fn send_backlog(&mut self, net: &mut Network, tally: &mut Tally, now: Micros) {
        while !net.is_out()
            && !self.backlog.is_empty()
            && let Some(index) = self.idle.pop_front()
        {
            let parcel = self.backlog.pop_front().expect("it is not empty");
            tally.sent += parcel.jobs.len() as u64;
            self.under_way[index as usize] = Some((parcel, now));
            let line = self.first_line + index;
            let connection = net.send(now, line).expect("an idle client's line is free");
            if let Some(timeout_ms) = self.arrivals.timeout_ms {
                net.agenda.plan(now + timeout_ms * 1_000, Event::GiveUp(line, connection));
            }
        }
    }

    fn finish_request(&mut self, line: LineId) -> (Parcel, Micros) {
        let index = self.client_of(line);
        self.idle.push_back(index as u32);
        self.under_way[index].take().expect("a request that is answered was sent")
    }

    /// Plans to send a parcel again; `false` if it was tried often enough.
    fn try_later(&mut self, net: &mut Network, now: Micros, mut parcel: Parcel) -> bool {
        if parcel.tries >= self.arrivals.tries_max {
            return false;
        }
        let factor = self.arrivals.retry_factor.saturating_pow(parcel.tries);
        let wait_us = self.arrivals.retry_ms.saturating_mul(1_000).saturating_mul(factor);
        parcel.tries += 1;
        let index = self.next_waiting;
        self.next_waiting += 1;
        self.waiting.insert(index, parcel);
        net.agenda.plan(now.saturating_add(wait_us), Event::Resend(index));
        true
    }

    fn client_of(&self, line: LineId) -> usize {
        (line - self.first_line) as usize
    }
}
