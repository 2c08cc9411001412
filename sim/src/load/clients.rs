//! Clients: jobs come whether the hub keeps up or not, wait for a client's connection, and are sent; what is refused or not
//! answered is sent again, as often as the scenario says.

use super::arrivals::exponential;
use super::driver::Network;
use super::event::{Event, LineNo, Micros};
use super::scenario::{Arrivals, Duration, Jobs};
use super::tally::Tally;
use super::wire::{self, Asked, Entry, Plan, Said, Status};
use crate::draw::{Draw, Stream};
use std::collections::{BTreeMap, VecDeque};

/// Jobs that are sent together.
#[derive(Clone, Debug)]
struct Parcel {
    jobs: Vec<Plan>,
    tries: u32,
}

/// All clients. A client is one connection; which one sends a parcel makes no difference.
#[derive(Debug)]
pub struct Clients {
    arrivals: Arrivals,
    about: Jobs,
    until: Micros,
    first_line: LineNo,
    /// What each client has sent and knows no answer to, and when it was sent.
    under_way: Vec<Option<(Parcel, Micros)>>,
    idle: VecDeque<u32>,
    /// Parcels that no client had time for.
    backlog: VecDeque<Parcel>,
    /// Parcels that are tried again later.
    waiting: BTreeMap<u32, Parcel>,
    next_waiting: u32,
    next_job: u64,
    arrival_draw: Draw,
    job_draw: Draw,
}

impl Clients {
    /// Clients whose lines begin at `first_line`.
    pub fn new(
        net: &mut Network,
        seed: u64,
        arrivals: &Arrivals,
        about: &Jobs,
        seconds: u64,
        first_line: LineNo,
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

    /// Writes the request that waits on a line; how many jobs are in it.
    pub fn write(&self, line: LineNo, out: &mut Vec<u8>, body: &mut Vec<u8>) -> u64 {
        let (parcel, _) = self.under_way[self.no(line)].as_ref().expect("a client that sends has something to send");
        let job = |body: &mut Vec<u8>, plan: &Plan| wire::job(body, plan, self.arrivals.keys, self.about.params_bytes);
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

    /// What the reply on a line is to be read as.
    pub fn asked(&self, line: LineNo) -> Asked {
        match &self.under_way[self.no(line)] {
            Some((parcel, _)) if parcel.jobs.len() == 1 => Asked::One,
            _ => Asked::Many,
        }
    }

    /// The next jobs are there.
    pub fn offer(&mut self, net: &mut Network, tally: &mut Tally, now: Micros) {
        let left = self.arrivals.jobs_max.map_or(u64::MAX, |max| max - self.next_job);
        let count = self.arrivals.batch.min(left);
        let jobs = (0..count).map(|index| self.plan(now, self.next_job + index)).collect::<Vec<_>>();
        self.next_job += count;
        tally.offered += count;
        self.send(net, tally, now, Parcel { jobs, tries: 0 });
        self.plan_offer(net, now);
    }

    /// A parcel's time to be sent again has come.
    pub fn resend(&mut self, net: &mut Network, tally: &mut Tally, now: Micros, no: u32) {
        let parcel = self.waiting.remove(&no).expect("a parcel is sent again once");
        self.send(net, tally, now, parcel);
    }

    /// A reply reached a client.
    pub fn reply(&mut self, net: &mut Network, tally: &mut Tally, now: Micros, line: LineNo, said: Said) {
        let (mut parcel, sent_at) = self.take(line);
        tally.answer.record(now - sent_at);
        let entries = match said {
            Said::Entries(entries) => entries,
            Said::Refused(code) => vec![Entry::Refused(code); parcel.jobs.len()],
            Said::Done | Said::Jobs(..) => unreachable!("a submit is not answered so"),
        };
        let mut entries = entries.into_iter();
        parcel.jobs.retain(|_| match entries.next().expect("one entry for each job") {
            Entry::Ok(status) => {
                tally.accepted += 1;
                tally.repeated += u64::from(status != Status::Accepted);
                false
            }
            Entry::Refused(code) => {
                *tally.refused.entry(code).or_default() += 1;
                true
            }
        });
        if !parcel.jobs.is_empty() {
            let count = parcel.jobs.len() as u64;
            if !self.try_later(net, now, parcel) {
                tally.dropped += count;
            }
        }
        self.send_backlog(net, tally, now);
    }

    /// Whether the request of a line was sent so long ago that its client gives up.
    pub fn is_over(&self, line: LineNo, now: Micros) -> bool {
        let Some((_, sent_at)) = &self.under_way[self.no(line)] else { return false };
        self.arrivals.timeout_ms.is_some_and(|timeout_ms| sent_at + timeout_ms * 1_000 <= now)
    }

    /// A client waits no longer.
    pub fn give_up(&mut self, net: &mut Network, tally: &mut Tally, now: Micros, line: LineNo) {
        net.cut(now, line);
        let (parcel, _) = self.take(line);
        let count = parcel.jobs.len() as u64;
        tally.unanswered += count;
        if !self.try_later(net, now, parcel) {
            tally.abandoned += count;
        }
        self.send_backlog(net, tally, now);
    }

    /// The network is gone: what was not answered is to be sent again.
    pub fn lose_network(&mut self, tally: &mut Tally) {
        for no in 0..self.under_way.len() {
            if let Some((parcel, _)) = self.under_way[no].take() {
                tally.unanswered += parcel.jobs.len() as u64;
                self.backlog.push_back(parcel);
                self.idle.push_back(no as u32);
            }
        }
    }

    /// The network is back: all clients come at once.
    pub fn find_network(&mut self, net: &mut Network, tally: &mut Tally, now: Micros) {
        self.send_backlog(net, tally, now);
    }

    /// Jobs of which no client knows whether the hub has them.
    pub fn pending(&self) -> u64 {
        let under_way = self.under_way.iter().flatten().map(|(parcel, _)| parcel);
        let parcels = under_way.chain(&self.backlog).chain(self.waiting.values());
        parcels.map(|parcel| parcel.jobs.len() as u64).sum()
    }

    fn plan(&mut self, now: Micros, no: u64) -> Plan {
        let work_us = match self.about.time {
            Duration::Constant { ms } => ms * 1_000,
            Duration::Uniform { min_ms, max_ms } => self.job_draw.between(min_ms * 1_000, max_ms * 1_000),
            Duration::Exponential { mean_ms, max_ms } => {
                let work_us = (exponential(&mut self.job_draw) * mean_ms as f64 * 1_000.0) as u64;
                work_us.min(max_ms * 1_000)
            }
        };
        Plan { no, at: now, work_us, is_poison: self.job_draw.chance(self.about.poison_permille) }
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
            && let Some(no) = self.idle.pop_front()
        {
            let parcel = self.backlog.pop_front().expect("it is not empty");
            tally.sent += parcel.jobs.len() as u64;
            self.under_way[no as usize] = Some((parcel, now));
            let line = self.first_line + no;
            let connection = net.send(now, line).expect("an idle client's line is free");
            if let Some(timeout_ms) = self.arrivals.timeout_ms {
                net.agenda.plan(now + timeout_ms * 1_000, Event::GiveUp(line, connection));
            }
        }
    }

    fn take(&mut self, line: LineNo) -> (Parcel, Micros) {
        let no = self.no(line);
        self.idle.push_back(no as u32);
        self.under_way[no].take().expect("what is answered was sent")
    }

    /// `false` if the parcel was tried often enough.
    fn try_later(&mut self, net: &mut Network, now: Micros, mut parcel: Parcel) -> bool {
        if parcel.tries >= self.arrivals.tries_max {
            return false;
        }
        let factor = self.arrivals.retry_factor.saturating_pow(parcel.tries);
        let wait_us = self.arrivals.retry_ms.saturating_mul(1_000).saturating_mul(factor);
        parcel.tries += 1;
        let no = self.next_waiting;
        self.next_waiting += 1;
        self.waiting.insert(no, parcel);
        net.agenda.plan(now.saturating_add(wait_us), Event::Resend(no));
        true
    }

    fn no(&self, line: LineNo) -> usize {
        (line - self.first_line) as usize
    }
}
