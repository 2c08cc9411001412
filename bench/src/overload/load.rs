//! The load: workers that take a fixed time for each job, and submits that start when they are due, whether the ones
//! before were answered or not (an open loop). One thread drives both.
//!
//! A submit's latency is counted from the instant at which it was due, so that what waits for a connection or for this
//! program counts as well. While submits are due within a millisecond the thread does not sleep: a poll's timeout is no
//! finer than that.

use crate::client::answer::text_after;
use crate::client::connection::Connection;
use crate::client::latency::Call;
use crate::client::request::{JOB_ID_BYTES, LEASE_ID_BYTES, Requests, Target};
use crate::client::worker::read_result;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};
use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Workers and submitters, connected to a hub.
pub struct Load {
    poll: Poll,
    events: Events,
    workers: Vec<Worker>,
    submitters: Vec<Submitter>,
    /// Submitters without a request.
    idle: Vec<usize>,
    /// Submits that are due and wait for a connection: when they were due.
    overdue: VecDeque<Instant>,
    /// Workers at a job, with the instant at which each is done; in that order, since all take the same time.
    working: VecDeque<(Instant, usize)>,
    service_time: Duration,
    arrivals: Arrivals,
    interrupt: Interrupt,
    counts: Counts,
}

/// What happened in a phase of the load.
pub struct Counts {
    /// Submits that were due.
    pub offered: u64,
    /// Jobs whose results were accepted.
    pub completed: u64,
    /// Answers to submits, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Latencies of the answers to submits, in nanoseconds.
    pub latencies: Histogram<u64>,
    /// How long it lasted.
    pub time: Duration,
}

struct Worker {
    connection: Connection,
    requests: Requests,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Pulling,
    Working { job_id: [u8; JOB_ID_BYTES], lease_id: [u8; LEASE_ID_BYTES] },
    Reporting,
}

struct Submitter {
    connection: Connection,
    request: Vec<u8>,
    due_at: Option<Instant>,
}

/// The instants at which submits are due: a Poisson process from a fixed seed.
struct Arrivals {
    state: u64,
}

/// How long a worker's pull waits for a job.
const WAIT_MS: u64 = 10_000;
/// How soon an interrupt is noticed while nothing happens.
const POLL_MAX: Duration = Duration::from_millis(100);
/// No sleep is shorter than this.
const SLEEP_MIN: Duration = Duration::from_millis(1);
/// How long the hub may take to finish what waits.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const EVENTS_MAX: usize = 1024;
const LATENCY_MAX: Duration = Duration::from_secs(120);

impl Load {
    /// Connects workers, which begin to pull, and submitters. All jobs are of one kind.
    pub fn connect(
        address: SocketAddr,
        target: &Target,
        (workers, service_time): (usize, Duration),
        submitters: usize,
        interrupt: Interrupt,
    ) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(Failure::system("create a poll"))?;
        let kind = kind();
        let mut load = Load {
            workers: Vec::with_capacity(workers),
            submitters: Vec::with_capacity(submitters),
            idle: (0..submitters).collect(),
            events: Events::with_capacity(EVENTS_MAX),
            overdue: VecDeque::new(),
            working: VecDeque::new(),
            service_time,
            arrivals: Arrivals { state: 1 },
            interrupt,
            counts: Counts::new(),
            poll,
        };
        for number in 0..workers {
            let requests = Requests::of_kind(target, &format!("{kind}-{number}"), &kind, WAIT_MS);
            let connection = open(&load.poll, address, target, number)?;
            load.workers.push(Worker { connection, requests, stage: Stage::Pulling });
        }
        for number in 0..submitters {
            let request = Requests::of_kind(target, &kind, &kind, 0).submit;
            let connection = open(&load.poll, address, target, workers + number)?;
            load.submitters.push(Submitter { connection, request, due_at: None });
        }
        for worker in &mut load.workers {
            worker.connection.send(&worker.requests.pull)?;
        }
        Ok(load)
    }

    /// Offers `rate` submits a second for a while, and returns what happened meanwhile.
    pub fn offer(&mut self, rate: f64, time: Duration) -> Result<Counts, Failure> {
        let start = Instant::now();
        let end = start + time;
        let mut next_due_at = start + self.arrivals.gap(rate);
        self.counts = Counts::new();
        let mut now = start;
        while now < end {
            while next_due_at <= now {
                self.counts.offered += 1;
                self.overdue.push_back(next_due_at);
                next_due_at += self.arrivals.gap(rate);
            }
            self.send_overdue()?;
            self.finish_jobs(now)?;
            self.wait(now, next_due_at.min(end))?;
            now = Instant::now();
        }
        let mut counts = std::mem::replace(&mut self.counts, Counts::new());
        counts.time = now - start;
        Ok(counts)
    }

    /// Lets the workers work, while others submit.
    pub fn run(&mut self, time: Duration) -> Result<Counts, Failure> {
        self.offer(f64::MIN_POSITIVE, time)
    }

    /// Lets the workers finish all jobs, without another submit: all are answered, and no worker has a job for a while.
    pub fn drain(&mut self) -> Result<Duration, Failure> {
        let start = Instant::now();
        let mut last_busy_at = start;
        let calm = self.service_time.max(Duration::from_millis(50)) * 2;
        loop {
            let now = Instant::now();
            if now - start > SILENCE_MAX {
                return Err(Failure::Silence(SILENCE_MAX));
            }
            self.send_overdue()?;
            self.finish_jobs(now)?;
            let is_busy = !self.working.is_empty()
                || !self.overdue.is_empty()
                || self.submitters.iter().any(|submitter| submitter.due_at.is_some());
            if is_busy {
                last_busy_at = now;
            } else if now - last_busy_at > calm {
                return Ok(last_busy_at - start);
            }
            self.wait(now, now + POLL_MAX)?;
        }
    }

    fn send_overdue(&mut self) -> Result<(), Failure> {
        while !self.overdue.is_empty()
            && let Some(index) = self.idle.pop()
        {
            let submitter = &mut self.submitters[index];
            submitter.due_at = self.overdue.pop_front();
            submitter.connection.send(&submitter.request)?;
        }
        Ok(())
    }

    fn finish_jobs(&mut self, now: Instant) -> Result<(), Failure> {
        while let Some((done_at, index)) = self.working.front().copied()
            && done_at <= now
        {
            self.working.pop_front();
            let Worker { connection, requests, stage } = &mut self.workers[index];
            let Stage::Working { job_id, lease_id } = *stage else { unreachable!("it is at work") };
            connection.send(requests.result(&job_id, &lease_id))?;
            *stage = Stage::Reporting;
        }
        Ok(())
    }

    /// Waits until something happens, at most until then, and handles the answers that have come.
    fn wait(&mut self, now: Instant, until: Instant) -> Result<(), Failure> {
        self.interrupt.check()?;
        let next = self.working.front().map_or(until, |(done_at, _)| until.min(*done_at));
        let time = next.saturating_duration_since(now).min(POLL_MAX);
        let timeout = if time < SLEEP_MIN * 2 { Duration::ZERO } else { time - SLEEP_MIN };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            done => done.map_err(Failure::system("wait for answers"))?,
        }
        let tokens: Vec<_> = self.events.iter().map(|event| event.token().0).collect();
        for token in tokens {
            match token.checked_sub(self.workers.len()) {
                Some(index) => self.receive_submitted(index)?,
                None => self.receive_at_worker(token)?,
            }
        }
        Ok(())
    }

    fn receive_submitted(&mut self, index: usize) -> Result<(), Failure> {
        let submitter = &mut self.submitters[index];
        let Some(due_at) = submitter.due_at else { return Ok(()) };
        let Some((status, _)) = submitter.connection.receive()? else { return Ok(()) };
        submitter.due_at = None;
        self.counts.answered(status, due_at.elapsed());
        self.idle.push(index);
        Ok(())
    }

    fn receive_at_worker(&mut self, index: usize) -> Result<(), Failure> {
        let Worker { connection, requests, stage } = &mut self.workers[index];
        if matches!(stage, Stage::Working { .. }) {
            return Ok(());
        }
        let Some((status, body)) = connection.receive()? else { return Ok(()) };
        match stage {
            Stage::Pulling => {
                let job_id = text_after(body, r#""jobs":[{"job_id":""#).copied();
                match (job_id, text_after(body, r#""lease_id":""#).copied()) {
                    (Some(job_id), Some(lease_id)) if self.service_time.is_zero() => {
                        connection.send(requests.result(&job_id, &lease_id))?;
                        *stage = Stage::Reporting;
                    }
                    (Some(job_id), Some(lease_id)) => {
                        *stage = Stage::Working { job_id, lease_id };
                        self.working.push_back((Instant::now() + self.service_time, index));
                    }
                    // Nothing came within the wait.
                    _ if status == 200 => connection.send(&requests.pull)?,
                    _ => return Err(refused(Call::Pull, status, body)),
                }
            }
            Stage::Reporting => {
                read_result(status, body).ok_or_else(|| refused(Call::Result, status, body))?;
                self.counts.completed += 1;
                connection.send(&requests.pull)?;
                *stage = Stage::Pulling;
            }
            Stage::Working { .. } => unreachable!("a worker at a job awaits nothing"),
        }
        Ok(())
    }
}

/// The kind of all jobs.
pub fn kind() -> String {
    format!("overload-{}", std::process::id())
}

fn open(poll: &Poll, address: SocketAddr, target: &Target, number: usize) -> Result<Connection, Failure> {
    let mut connection = Connection::open(address, target.payload_bytes)?;
    connection.register(poll.registry(), Token(number)).map_err(Failure::system("watch a connection"))?;
    Ok(connection)
}

fn refused(call: Call, status: u16, body: &[u8]) -> Failure {
    Failure::Answer { call, status, body: String::from_utf8_lossy(body).into_owned() }
}

impl Counts {
    pub fn new() -> Self {
        let latencies = Histogram::new_with_bounds(100, LATENCY_MAX.as_nanos() as u64, 3);
        Counts {
            offered: 0,
            completed: 0,
            statuses: BTreeMap::new(),
            latencies: latencies.expect("bounds and digits are valid"),
            time: Duration::ZERO,
        }
    }

    /// Adds those of another phase.
    pub fn add(&mut self, other: &Counts) {
        self.offered += other.offered;
        self.completed += other.completed;
        other.statuses.iter().for_each(|(status, count)| *self.statuses.entry(*status).or_default() += count);
        self.latencies.add(&other.latencies).expect("both have the same bounds");
        self.time += other.time;
    }

    /// Jobs completed a second.
    pub fn goodput(&self) -> f64 {
        self.completed as f64 / self.time.as_secs_f64()
    }

    /// The latency in milliseconds that a share of the answers to submits (0 to 1) has at most.
    pub fn latency_ms(&self, share: f64) -> f64 {
        self.latencies.value_at_quantile(share) as f64 / 1e6
    }

    fn answered(&mut self, status: u16, latency: Duration) {
        *self.statuses.entry(status).or_default() += 1;
        self.latencies.saturating_record(latency.as_nanos() as u64);
    }
}

impl Arrivals {
    /// The time until the next arrival at this rate.
    fn gap(&mut self, rate: f64) -> Duration {
        // SplitMix64; the upper 53 bits are a number in (0, 1].
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let uniform = ((z ^ z >> 31) >> 11) as f64 + 1.0;
        let secs = -(uniform / (1u64 << 53) as f64).ln() / rate;
        Duration::try_from_secs_f64(secs).unwrap_or(LATENCY_MAX).min(LATENCY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_have_the_rate_that_was_asked_for_and_are_not_evenly_spaced() {
        let mut arrivals = Arrivals { state: 1 };
        let gaps: Vec<_> = (0..100_000).map(|_| arrivals.gap(1_000.0).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean - 0.001).abs() < 0.000_02, "{mean}");
        // Of an exponential distribution 1 - 1/e are shorter than the mean.
        let short = gaps.iter().filter(|gap| **gap < 0.001).count() as f64 / gaps.len() as f64;
        assert!((short - 0.632).abs() < 0.01, "{short}");
    }

    #[test]
    fn phases_are_added_up() {
        let mut sum = Counts::new();
        for (status, ms) in [(200, 1), (429, 3), (429, 5)] {
            let mut counts = Counts::new();
            counts.answered(status, Duration::from_millis(ms));
            (counts.offered, counts.completed, counts.time) = (2, 1, Duration::from_millis(500));
            sum.add(&counts);
        }
        assert_eq!((sum.offered, sum.completed, sum.goodput()), (6, 3, 2.0));
        assert_eq!(sum.statuses, BTreeMap::from([(200, 1), (429, 2)]));
        assert!((sum.latency_ms(1.0) - 5.0).abs() < 0.01 && (sum.latency_ms(0.3) - 1.0).abs() < 0.01);
    }
}
