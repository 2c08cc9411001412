//! A fleet: workers with a connection each, driven by one thread.

use super::connection::Connection;
use super::latency::Latencies;
use super::request::{Requests, Target};
use super::worker::{Progress, Worker};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use mio::{Events, Poll, Token};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Workers that run lifecycles at the same time.
pub struct Fleet {
    poll: Poll,
    events: Events,
    workers: Vec<Worker>,
    interrupt: Interrupt,
}

/// The result of a fleet over a span of time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stretch {
    /// Lifecycles that were started and finished in it.
    pub lifecycles: u64,
    /// From the first start to the last finish.
    pub time: Duration,
}

/// Events taken from the poll at a time.
const EVENTS_MAX: usize = 1024;
/// How long the hub may send no answer before the run fails.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How soon an interrupt is noticed while no answers arrive.
const POLL_MAX: Duration = Duration::from_millis(500);

impl Fleet {
    /// Workers that are connected to the data plane. No two fleets have workers of the same name.
    pub fn connect(
        address: SocketAddr,
        target: &Target,
        connections: usize,
        interrupt: Interrupt,
    ) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(Failure::system("create a poll"))?;
        let process = std::process::id();
        let mut workers = Vec::with_capacity(connections);
        for no in 0..connections {
            let mut connection = Connection::open(address, target.payload_bytes)?;
            connection.register(poll.registry(), Token(no)).map_err(Failure::system("watch a connection"))?;
            workers.push(Worker::new(connection, Requests::new(target, &format!("bench-{process}-{no}"))));
        }
        Ok(Fleet { poll, events: Events::with_capacity(EVENTS_MAX), workers, interrupt })
    }

    /// Runs lifecycle after lifecycle on each connection; none is started after `time`, and all are finished.
    pub fn run(&mut self, time: Duration, latencies: &mut Latencies) -> Result<Stretch, Failure> {
        let before = latencies.lifecycles();
        let start = Instant::now();
        let end = start + time;
        for worker in &mut self.workers {
            worker.start(Instant::now())?;
        }
        let mut at_work = self.workers.len();
        let mut last_answer_at = start;
        while at_work > 0 {
            self.wait()?;
            for event in &self.events {
                let worker = &mut self.workers[event.token().0];
                if worker.ready(latencies)? == Progress::Waiting {
                    continue;
                }
                last_answer_at = Instant::now();
                if last_answer_at < end {
                    worker.start(last_answer_at)?;
                } else {
                    at_work -= 1;
                }
            }
            if last_answer_at.elapsed() > SILENCE_MAX {
                return Err(Failure::Silence(SILENCE_MAX));
            }
        }
        Ok(Stretch { lifecycles: latencies.lifecycles() - before, time: last_answer_at - start })
    }

    fn wait(&mut self) -> Result<(), Failure> {
        self.interrupt.check()?;
        match self.poll.poll(&mut self.events, Some(POLL_MAX)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            done => done.map_err(Failure::system("wait for answers")),
        }
    }
}

impl Stretch {
    /// Lifecycles a second.
    pub fn rate(&self) -> f64 {
        self.lifecycles as f64 / self.time.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::request::{JOB_ID_BYTES, LEASE_ID_BYTES};
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// Answers as the wire contract says, one thread a connection, without any queue behind it. After `refuse_after`
    /// calls of a connection it refuses.
    fn fake_hub(refuse_after: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        std::thread::spawn(move || {
            for (no, stream) in listener.incoming().enumerate() {
                let stream = stream.expect("a connection");
                std::thread::spawn(move || answer_all(stream, no, refuse_after));
            }
        });
        address
    }

    fn answer_all(mut stream: TcpStream, no: usize, refuse_after: usize) {
        let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
        for call in 0.. {
            let Some(path) = read_request(&mut reader) else { return };
            let job = format!("job_{:0width$}", no * 1_000_000 + call / 3, width = JOB_ID_BYTES - 4);
            let lease = format!("lease_{:0width$}", call, width = LEASE_ID_BYTES - 6);
            let (status, body) = if call >= refuse_after {
                ("429 Too Many Requests", r#"{"ok":false,"error":"backpressure"}"#.to_owned())
            } else {
                let body = match path.as_str() {
                    "/mesh/submit_request" => format!(r#"{{"ok":true,"job_id":"{job}","status":"accepted"}}"#),
                    "/mesh/pull_requests" => {
                        format!(r#"{{"ok":true,"jobs":[{{"job_id":"{job}","lease_id":"{lease}"}}],"defer_ms":0}}"#)
                    }
                    "/mesh/submit_result" => format!(r#"{{"ok":true,"job_id":"{job}","status":"completed"}}"#),
                    other => panic!("no such path: {other}"),
                };
                ("200 OK", body)
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            // In two pieces, so that a client has to put them together.
            let (first, second) = answer.split_at(answer.len() / 2);
            if stream.write_all(first.as_bytes()).and_then(|()| stream.write_all(second.as_bytes())).is_err() {
                return;
            }
        }
    }

    /// Reads a whole request; its path.
    fn read_request(reader: &mut BufReader<TcpStream>) -> Option<String> {
        let mut path = None;
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.parse().ok()?;
            } else if line.is_empty() {
                reader.read_exact(&mut vec![0; length]).ok()?;
                return path;
            }
            path = path.or_else(|| line.split(' ').nth(1).map(str::to_owned));
        }
    }

    fn fleet(address: SocketAddr, connections: usize) -> Fleet {
        let target = Target { host: address.to_string(), token: "t".into(), payload_bytes: 200 };
        Fleet::connect(address, &target, connections, Interrupt::default()).expect("it listens")
    }

    #[test]
    fn every_connection_runs_whole_lifecycles_until_the_time_is_over_and_again_after_a_pause() {
        let mut fleet = fleet(fake_hub(usize::MAX), 5);
        let mut latencies = Latencies::default();
        for _ in 0..2 {
            let stretch = fleet.run(Duration::from_millis(50), &mut latencies).expect("all is answered");
            assert!(stretch.lifecycles >= 5, "{stretch:?}");
            assert!(stretch.time >= Duration::from_millis(50), "{stretch:?}");
        }
        let p50 = latencies.to_json()["pull"]["p50_ms"].as_f64();
        assert!(p50.is_some_and(|ms| ms > 0.0), "{p50:?}");
    }

    #[test]
    fn a_refusal_ends_the_run_with_its_call_and_body() {
        let mut fleet = fleet(fake_hub(4), 1);
        let failure = fleet.run(Duration::from_secs(10), &mut Latencies::default()).expect_err("a call is refused");
        assert_eq!(failure.to_string(), r#"the hub answered 429 to pull: {"ok":false,"error":"backpressure"}"#);
    }

    #[test]
    fn a_connection_that_the_hub_closes_ends_the_run() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut fleet = fleet(address, 1);
        drop(listener.accept());
        let failure = fleet.run(Duration::from_secs(10), &mut Latencies::default()).expect_err("nobody answers");
        assert!(matches!(failure, Failure::Closed | Failure::System { .. }), "{failure}");
    }
}
