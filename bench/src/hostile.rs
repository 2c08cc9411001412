//! Strangers: what clients without a token do to the others, and to the hub's memory.
//!
//! Some connections pipeline requests that are refused, without a pause, and others send bodies that nobody asked for;
//! meanwhile one client on a connection of its own asks `/livez`, with and without the strangers in turns.

use crate::failure::Failure;
use crate::hub::{self, Hub};
use crate::idle::read_answer;
use crate::interrupt::Interrupt;
use crate::memory::resident_bytes;
use crate::report::{Bound, Report};
use crate::sample::Samples;
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What to measure.
#[derive(clap::Args)]
pub struct Settings {
    /// Connections that pipeline refused requests.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// Connections that send a megabyte of a body without a token.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=800))]
    bodies: u32,
    /// Seconds in all, half of them with the strangers.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=600))]
    duration: u64,
    #[command(flatten)]
    hub: hub::Settings,
}

/// How often it is measured with and without the strangers.
const ROUNDS: u32 = 3;
/// How much slower `/livez` may be beside the strangers, at the median, and how slow.
const SLOWER_MAX: f64 = 10.0;
const MEDIAN_MS_MAX: f64 = 50.0;
/// What the hub's memory may grow by: its budget of buffered bytes.
const GROWTH_BYTES_MAX: f64 = 256.0 * 1024.0 * 1024.0;
/// Refused requests in one write: a path of the other plane needs no token to be refused.
const AT_ONCE: usize = 500;
const BODY_BYTES: usize = 1_000_000;

struct Figures {
    alone_ms: Samples,
    beside_ms: Samples,
    refused_per_second: f64,
    growth_bytes: Option<f64>,
    livez_count: u64,
}

/// Starts or finds the hub, and compares.
pub fn measure(settings: &Settings) -> Result<Report, Failure> {
    let interrupt = Interrupt::on_signals()?;
    let hub = Hub::find_or_start(&settings.hub, &interrupt)?;
    let figures = run(settings, &hub)?;
    hub.stop()?;
    Ok(describe(settings, &figures))
}

fn run(settings: &Settings, hub: &Hub) -> Result<Figures, Failure> {
    let slice = Duration::from_secs(settings.duration) / (2 * ROUNDS);
    let mut figures = Figures {
        alone_ms: Samples::default(),
        beside_ms: Samples::default(),
        refused_per_second: 0.0,
        growth_bytes: None,
        livez_count: 0,
    };
    let mut probe = connect(hub.data)?;
    for _ in 0..ROUNDS {
        let (median, count) = livez_median_ms(&mut probe, slice)?;
        figures.alone_ms.push(median);
        figures.livez_count += count;
        let before = hub.pid().and_then(resident_bytes);
        let strangers = Strangers::begin(hub.data, settings)?;
        // The first replies have come: all of them are at work.
        strangers.wait_for_work();
        let started = Instant::now();
        let (median, count) = livez_median_ms(&mut probe, slice)?;
        figures.beside_ms.push(median);
        figures.livez_count += count;
        let after = hub.pid().and_then(resident_bytes);
        let refused = strangers.end();
        figures.refused_per_second = refused as f64 / started.elapsed().as_secs_f64();
        if let (Some(before), Some(after)) = (before, after) {
            let growth = after.saturating_sub(before) as f64;
            figures.growth_bytes = Some(figures.growth_bytes.unwrap_or(0.0).max(growth));
        }
    }
    Ok(figures)
}

fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address).map_err(Failure::system(format!("connect to {address}")))?;
    stream.set_nodelay(true).map_err(Failure::system("set an option of a socket"))?;
    Ok(stream)
}

/// The median of the times that `/livez` takes, asked again and again, and how often it was.
fn livez_median_ms(stream: &mut TcpStream, slice: Duration) -> Result<(f64, u64), Failure> {
    let started = Instant::now();
    let mut times = Vec::new();
    while started.elapsed() < slice {
        let asked = Instant::now();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: hub\r\n\r\n").map_err(Failure::system("send a request"))?;
        read_answer(stream)?;
        times.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times.len() as u64))
}

/// The strangers' threads.
struct Strangers {
    is_over: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    connections: u64,
}

impl Strangers {
    fn begin(address: SocketAddr, settings: &Settings) -> Result<Self, Failure> {
        let (is_over, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let pipelining = (0..settings.connections).map(|_| connect(address)).collect::<Result<Vec<_>, _>>()?;
        let (over, count) = (is_over.clone(), refused.clone());
        let pipeliners = std::thread::spawn(move || pipeline(pipelining, &over, &count));
        let (over, bodies) = (is_over.clone(), settings.bodies);
        let senders = std::thread::spawn(move || send_bodies(address, bodies, &over));
        let connections = settings.connections.into();
        Ok(Strangers { is_over, refused, threads: vec![pipeliners, senders], connections })
    }

    fn wait_for_work(&self) {
        while self.refused.load(Ordering::Relaxed) < self.connections {
            std::thread::yield_now();
        }
    }

    /// Ends them; returns how many requests were refused.
    fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("the strangers' threads do not panic");
        }
        self.refused.load(Ordering::Relaxed)
    }
}

/// Sends refused requests on all connections, as many as they accept, and reads the replies.
fn pipeline(mut streams: Vec<TcpStream>, is_over: &AtomicBool, refused: &AtomicU64) {
    let requests = "GET /api/policies HTTP/1.1\r\nHost: hub\r\n\r\n".repeat(AT_ONCE).into_bytes();
    let mut sent = vec![0; streams.len()];
    let mut input = vec![0; 1 << 20];
    for stream in &streams {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
    }
    while !is_over.load(Ordering::Relaxed) {
        for (stream, sent) in streams.iter_mut().zip(&mut sent) {
            // A connection that the hub has closed stays silent.
            if let Ok(count) = stream.write(&requests[*sent..]) {
                *sent = (*sent + count) % requests.len();
            }
            if let Ok(count) = stream.read(&mut input) {
                let replies = memchr::memmem::find_iter(&input[..count], b"HTTP/1.1 410").count();
                refused.fetch_add(replies as u64, Ordering::Relaxed);
            }
        }
    }
}

/// Sends the beginning of a large body on connections of its own, again when the hub closes one.
fn send_bodies(address: SocketAddr, count: u32, is_over: &AtomicBool) {
    let head = format!("POST /mesh/submit_request HTTP/1.1\r\nHost: hub\r\nContent-Length: {}\r\n\r\n", BODY_BYTES + 1);
    let request = [head.into_bytes(), vec![b' '; BODY_BYTES]].concat();
    let open = || {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((stream, 0))
    };
    let mut streams: Vec<Option<(TcpStream, usize)>> = (0..count).map(|_| open()).collect();
    while !is_over.load(Ordering::Relaxed) {
        for entry in &mut streams {
            let Some((stream, sent)) = entry else {
                *entry = open();
                continue;
            };
            match stream.write(&request[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => *entry = None,
            }
        }
        // The hub's own work is measured, not the machine's.
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn describe(settings: &Settings, figures: &Figures) -> Report {
    let mut report = Report::default();
    let Figures { alone_ms, beside_ms, refused_per_second, growth_bytes, livez_count } = figures;
    let ratio = beside_ms.paired_ratio(alone_ms);
    let milliseconds = |samples: &Samples| format!("{:.3} ms", samples.median());
    let Settings { connections, bodies, .. } = settings;
    let rows = vec![vec![
        "median of /livez".to_owned(),
        milliseconds(alone_ms),
        milliseconds(beside_ms),
        format!("{ratio:.2}"),
    ]];
    let title =
        format!("{connections} connections that pipeline refused requests, {bodies} that send bodies, no token");
    report.table(title, &["", "alone", "beside them", "ratio"], rows);
    if let Some(bytes) = growth_bytes {
        let row = vec!["resident memory of the hub".to_owned(), format!("{:.1} MiB", bytes / (1 << 20) as f64)];
        report.table("Memory", &["", "growth"], vec![row]);
    }
    report.figure("connections", *connections);
    report.figure("bodies", *bodies);
    report.figure("livez_count", *livez_count);
    report.figure("livez_ms", json!({"alone": alone_ms.median(), "beside": beside_ms.median()}));
    report.figure("refused_per_second", *refused_per_second);
    report.figure("livez_ratio", ratio);
    report.figure("growth_bytes", *growth_bytes);
    report.target("median of /livez beside strangers to the median alone", ratio, Bound::AtMost(SLOWER_MAX));
    report.target("median of /livez beside strangers in ms", beside_ms.median(), Bound::AtMost(MEDIAN_MS_MAX));
    if let Some(bytes) = growth_bytes {
        let share = bytes / GROWTH_BYTES_MAX;
        report.target("growth of the hub's memory to its budget", share, Bound::AtMost(1.0));
    }
    report
}
