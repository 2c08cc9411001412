//! Idle connections: whether many silent connections, and a few that send very slowly, slow the active ones.
//!
//! The active connections run slices of load with and without the others, in turns, so that changes of the disk's speed
//! affect both.

use crate::client::answer::Answer;
use crate::client::fleet::Fleet;
use crate::client::latency::Latencies;
use crate::client::request::{self, Target};
use crate::failure::Failure;
use crate::hub::{self, Hub};
use crate::interrupt::Interrupt;
use crate::memory::resident_bytes;
use crate::platform;
use crate::report::{Bound, Report, grouped};
use crate::sample::Samples;
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What to measure.
#[derive(clap::Args)]
pub struct Settings {
    /// Connections that send nothing after their first request.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=25_000))]
    connections: u32,
    /// Connections that send a byte of a request's head each second.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    slow: u32,
    /// Active connections.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    active: u32,
    /// Seconds of load, half of it with the idle connections.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=600))]
    duration: u64,
    #[command(flatten)]
    hub: hub::Settings,
}

/// How often the load runs with and without the others.
const ROUNDS: u32 = 6;
/// A warm-up, which is not counted.
const WARM: Duration = Duration::from_secs(1);
const PAYLOAD_BYTES: usize = 200;
/// Files that the hub and this program need besides connections.
const OTHER_FILES: u64 = 256;
/// How much lower the rate may be with the others: changes of the disk's speed that turns do not cancel.
const RATE_RATIO_MIN: f64 = 0.9;
/// How much slower the slowest lifecycles may be; a slice's p99 depends on some dozens of them.
const P99_RATIO_MAX: f64 = 1.5;

/// The measurements of the active connections in slices of one sort.
#[derive(Default)]
struct Side {
    rates: Samples,
    p50_ms: Samples,
    p99_ms: Samples,
}

struct Figures {
    alone: Side,
    crowded: Side,
    bytes_per_connection: Option<f64>,
}

/// Starts or finds the hub, and compares.
pub fn measure(settings: &Settings) -> Result<Report, Failure> {
    let needed = u64::from(settings.connections + settings.slow + settings.active) + OTHER_FILES;
    let granted = platform::raise_open_files().map_err(Failure::system("raise the limit on open files"))?;
    if let Some(granted) = granted.filter(|granted| *granted < needed) {
        return Err(Failure::OpenFiles { granted, needed });
    }
    let interrupt = Interrupt::on_signals()?;
    let hub = Hub::find_or_start(&settings.hub, &interrupt)?;
    let figures = run(settings, &hub, interrupt)?;
    hub.stop()?;
    Ok(describe(settings, &figures))
}

fn run(settings: &Settings, hub: &Hub, interrupt: Interrupt) -> Result<Figures, Failure> {
    let target = Target { host: hub.data.to_string(), token: hub.token.clone(), payload_bytes: PAYLOAD_BYTES };
    let mut fleet = Fleet::connect(hub.data, &target, settings.active as usize, interrupt)?;
    fleet.run(WARM, &mut Latencies::default())?;
    let slice = Duration::from_secs(settings.duration) / (2 * ROUNDS);
    let mut figures = Figures { alone: Side::default(), crowded: Side::default(), bytes_per_connection: None };
    for round in 0..ROUNDS {
        // The second of a round finds files and caches as the first left them, so each is second equally often.
        if round % 2 == 0 {
            figures.alone.measure(&mut fleet, slice)?;
        }
        let before = hub.pid().and_then(resident_bytes);
        let crowd = Crowd::open(hub.data, &target, settings)?;
        let after = hub.pid().and_then(resident_bytes);
        if round == 0
            && let (Some(before), Some(after)) = (before, after)
        {
            // Later rounds reuse the memory of the first one's connections.
            let growth = after.saturating_sub(before) as f64;
            figures.bytes_per_connection = Some(growth / f64::from(settings.connections + settings.slow));
        }
        figures.crowded.measure(&mut fleet, slice)?;
        crowd.close()?;
        if round % 2 == 1 {
            figures.alone.measure(&mut fleet, slice)?;
        }
    }
    Ok(figures)
}

impl Side {
    fn measure(&mut self, fleet: &mut Fleet, slice: Duration) -> Result<(), Failure> {
        let mut latencies = Latencies::default();
        let stretch = fleet.run(slice, &mut latencies)?;
        self.rates.push(stretch.rate());
        self.p50_ms.push(latencies.lifecycle_quantile(0.5).as_secs_f64() * 1e3);
        self.p99_ms.push(latencies.lifecycle_quantile(0.99).as_secs_f64() * 1e3);
        Ok(())
    }
}

/// The idle and slow connections.
struct Crowd {
    idle: Vec<TcpStream>,
    slow: Slow,
}

impl Crowd {
    /// Opens them all; each idle one has sent one health request and received its answer.
    fn open(address: SocketAddr, target: &Target, settings: &Settings) -> Result<Self, Failure> {
        let request = request::livez(target);
        let idle = (0..settings.connections).map(|_| open_idle(address, &request)).collect::<Result<_, _>>()?;
        let slow = Slow::open(address, request, settings.slow)?;
        Ok(Crowd { idle, slow })
    }

    /// Closes them. An error if the hub has closed an idle one meanwhile.
    fn close(self) -> Result<(), Failure> {
        self.slow.close()?;
        for mut stream in self.idle {
            stream.set_nonblocking(true).map_err(Failure::system("look at an idle connection"))?;
            match stream.read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => return Err(Failure::IdleClosed),
            }
        }
        Ok(())
    }
}

fn open_idle(address: SocketAddr, request: &[u8]) -> Result<TcpStream, Failure> {
    let mut stream =
        TcpStream::connect(address).map_err(|error| Failure::system(format!("connect to {address}"))(error))?;
    stream.write_all(request).map_err(Failure::system("send a request"))?;
    read_answer(&mut stream)?;
    Ok(stream)
}

/// Reads one answer, which must be 200.
pub fn read_answer(stream: &mut TcpStream) -> Result<(), Failure> {
    let mut input = [0; 4096];
    let mut filled = 0;
    loop {
        match stream.read(&mut input[filled..]).map_err(Failure::system("read an answer"))? {
            0 => return Err(Failure::Closed),
            bytes => filled += bytes,
        }
        match Answer::parse(&input[..filled]) {
            Ok(None) => {}
            Ok(Some(Answer { status: 200, .. })) => return Ok(()),
            _ => return Err(Failure::Unreadable(String::from_utf8_lossy(&input[..filled]).into_owned())),
        }
    }
}

/// A thread whose connections send a request's head byte by byte (the attack known as Slowloris).
struct Slow {
    stop: Sender<()>,
    thread: JoinHandle<Result<(), Failure>>,
}

/// How long a slow client waits from byte to byte.
const SLOW_EVERY: Duration = Duration::from_secs(1);

impl Slow {
    fn open(address: SocketAddr, request: Vec<u8>, connections: u32) -> Result<Self, Failure> {
        let connect = move || TcpStream::connect(address).map_err(Failure::system("connect a slow client"));
        let mut streams = (0..connections).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            // Never the last byte: the request stays open.
            for byte in request[..request.len() - 1].iter().cycle() {
                for stream in &mut streams {
                    // The hub may close such a connection; the client opens another.
                    if stream.write_all(&[*byte]).is_err() {
                        *stream = connect()?;
                    }
                }
                if stopped.recv_timeout(SLOW_EVERY) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            Ok(())
        });
        Ok(Slow { stop, thread })
    }

    fn close(self) -> Result<(), Failure> {
        drop(self.stop);
        self.thread.join().expect("the slow clients' thread does not panic")
    }
}

fn describe(settings: &Settings, figures: &Figures) -> Report {
    let mut report = Report::default();
    let Settings { connections, slow, active, .. } = settings;
    let Figures { alone, crowded, bytes_per_connection } = figures;
    let rate_ratio = crowded.rates.paired_ratio(&alone.rates);
    let p99_ratio = crowded.p99_ms.paired_ratio(&alone.p99_ms);
    let line = |what: &str, alone: &Samples, crowded: &Samples, format: fn(f64) -> String| {
        let ratio = format!("{:.2}", crowded.paired_ratio(alone));
        vec![what.to_owned(), format(alone.median()), format(crowded.median()), ratio]
    };
    let milliseconds = |ms: f64| format!("{ms:.2} ms");
    let rows = vec![
        line("lifecycles/s", &alone.rates, &crowded.rates, grouped),
        line("lifecycle p50", &alone.p50_ms, &crowded.p50_ms, milliseconds),
        line("lifecycle p99", &alone.p99_ms, &crowded.p99_ms, milliseconds),
    ];
    let title =
        format!("{active} connections at work, beside {connections} idle and {slow} slow ones (medians of {ROUNDS})");
    report.table(title, &["", "alone", "beside them", "ratio"], rows);
    if let Some(bytes) = bytes_per_connection {
        let row = vec!["resident memory of the hub for each of them".to_owned(), format!("{} bytes", grouped(*bytes))];
        report.table("Memory", &["", "growth"], vec![row]);
    }
    let side = |side: &Side| json!({"lifecycles_per_second": side.rates.median(), "p50_ms": side.p50_ms.median(), "p99_ms": side.p99_ms.median()});
    report.figure("idle_connections", *connections);
    report.figure("slow_connections", *slow);
    report.figure("active_connections", *active);
    report.figure("alone", side(alone));
    report.figure("beside_idle", side(crowded));
    report.figure("rate_ratio", rate_ratio);
    report.figure("p99_ratio", p99_ratio);
    report.figure("hub_bytes_per_connection", *bytes_per_connection);
    report.target("rate beside idle connections to the rate alone", rate_ratio, Bound::AtLeast(RATE_RATIO_MIN));
    report.target("p99 beside idle connections to the p99 alone", p99_ratio, Bound::AtMost(P99_RATIO_MAX));
    report
}
