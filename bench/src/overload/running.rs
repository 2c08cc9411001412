//! A load test of a hub that runs: jobs of a kind of its own are submitted until the hub refuses some, then they are
//! worked off. Shown is whether the metrics showed the throttling, and whether the hub recovered.
//!
//! The jobs fill the hub's queue: for as long as it is full, other clients are refused as well. They end with the test;
//! those of a test that was broken off expire after two minutes.

use super::flood::Flood;
use super::load::{self, Load};
use super::{PAYLOAD_BYTES, statuses_json, statuses_text};
use crate::client::answer::Answer;
use crate::client::request::{self, Target};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::platform;
use crate::report::{Bound, Report, grouped};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What the help shows.
pub const EXAMPLES: &str = "\
Examples:
  sheratan-bench load-test --url http://127.0.0.1:8788 --token-file DATA/secrets/hub_token
  SHERATAN_HUB_TOKEN=... sheratan-bench load-test --url http://hub:8788 --duration 120 --json

Exits with 0 if the hub refused some submits, showed that in its metrics, did all jobs that it had accepted and
accepts again; with 1 if not, with 2 if it could not be tested.";

/// What to test.
#[derive(clap::Args)]
pub struct Settings {
    /// The hub's data plane.
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    url: SocketAddr,
    /// The file with the hub's token [default: the variable SHERATAN_HUB_TOKEN].
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Connections that submit without a pause.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// Seconds after which a hub that refused nothing counts as not throttled.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    duration: u64,
}

/// Workers that work the jobs off.
const WORKERS: usize = 64;
/// After so many refusals the load ends.
const REFUSED_MIN: u64 = 100;
/// How long the hub may take to do what it accepted, and to be calm.
const RECOVERY_MAX: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The jobs of a test that was broken off expire.
const TTL_SECS: u64 = 120;

#[derive(Default)]
struct Seen {
    depth_before: u64,
    depth_most: u64,
    drops_1m: u64,
    is_backpressure_shown: bool,
    retry_after_secs: Option<u64>,
    statuses: BTreeMap<u16, u64>,
    load_time: Duration,
    completed: u64,
    recovery_time: Duration,
    is_calm: bool,
    accepts_again: bool,
}

/// Tests the hub.
pub fn measure(settings: &Settings) -> Result<Report, Failure> {
    platform::raise_open_files().map_err(Failure::system("raise the limit on open files"))?;
    let interrupt = Interrupt::on_signals()?;
    let token = match &settings.token_file {
        Some(file) => crate::hub::read_token(file)?,
        None => std::env::var("SHERATAN_HUB_TOKEN").unwrap_or_default(),
    };
    let target = Target { host: settings.url.to_string(), token, payload_bytes: PAYLOAD_BYTES };
    let style = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]").expect("the template is right");
    let progress = ProgressBar::new_spinner().with_style(style);
    progress.enable_steady_tick(LOOK_EVERY);
    let seen = run(settings, &target, &interrupt, &progress)?;
    progress.finish_and_clear();
    Ok(describe(&seen))
}

fn run(settings: &Settings, target: &Target, interrupt: &Interrupt, progress: &ProgressBar) -> Result<Seen, Failure> {
    let address = settings.url;
    let mut seen = Seen { depth_before: metrics(address, target)?.depth, ..Seen::default() };
    let submit = request::submit_with_ttl(target, &load::kind(), TTL_SECS);
    let start = Instant::now();
    let flood = Flood::begin(address, &submit, settings.connections as usize)?;
    while start.elapsed() < Duration::from_secs(settings.duration) && flood.refused() < REFUSED_MIN {
        interrupt.check()?;
        std::thread::sleep(LOOK_EVERY.min(Duration::from_secs(settings.duration).saturating_sub(start.elapsed())));
        seen.look(&metrics(address, target)?, progress);
    }
    if flood.refused() > 0 {
        let (status, head, _) = ask(address, &submit)?;
        let retry_after =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("retry-after: ")?.parse().ok());
        seen.retry_after_secs = retry_after.filter(|_| status != 200);
        *seen.statuses.entry(status).or_default() += 1;
    }
    seen.look(&metrics(address, target)?, progress);
    for (status, count) in flood.end()? {
        *seen.statuses.entry(status).or_default() += count;
    }
    seen.load_time = start.elapsed();
    recover(address, target, &submit, interrupt, progress, &mut seen)?;
    Ok(seen)
}

/// Works all accepted jobs off, and one more.
fn recover(
    address: SocketAddr,
    target: &Target,
    submit: &[u8],
    interrupt: &Interrupt,
    progress: &ProgressBar,
    seen: &mut Seen,
) -> Result<(), Failure> {
    let start = Instant::now();
    let mut load = Load::connect(address, target, (WORKERS, Duration::ZERO), 0, interrupt.clone())?;
    let mut accepted = seen.statuses.get(&200).copied().unwrap_or(0);
    while start.elapsed() < RECOVERY_MAX {
        seen.completed += load.run(LOOK_EVERY)?.completed;
        progress.set_message(format!("{} of {accepted} jobs are done", seen.completed));
        if seen.completed < accepted {
            continue;
        }
        if !seen.accepts_again {
            seen.recovery_time = start.elapsed();
            let (status, ..) = ask(address, submit)?;
            seen.accepts_again = status == 200;
            accepted += u64::from(seen.accepts_again);
            continue;
        }
        let now = metrics(address, target)?;
        seen.is_calm = !now.is_backpressure && now.depth <= seen.depth_before.max(1);
        if seen.is_calm {
            return Ok(());
        }
    }
    Ok(())
}

impl Seen {
    fn look(&mut self, metrics: &Metrics, progress: &ProgressBar) {
        self.depth_most = self.depth_most.max(metrics.depth);
        self.drops_1m = self.drops_1m.max(metrics.drops_1m);
        self.is_backpressure_shown |= metrics.is_backpressure;
        progress
            .set_message(format!("{} jobs wait, {} were refused in the last minute", metrics.depth, metrics.drops_1m));
    }
}

struct Metrics {
    depth: u64,
    drops_1m: u64,
    is_backpressure: bool,
}

fn metrics(address: SocketAddr, target: &Target) -> Result<Metrics, Failure> {
    let (status, _, body) = ask(address, &request::metrics(target))?;
    let unreadable = || Failure::Unreadable(format!("{status} {}", String::from_utf8_lossy(&body)));
    let value: Value = serde_json::from_slice(&body).map_err(|_| unreadable())?;
    let number = |key: &str| value[key].as_u64().ok_or_else(unreadable);
    let is_backpressure = value["backpressure_active"].as_bool().ok_or_else(unreadable)?;
    Ok(Metrics { depth: number("queue_depth")?, drops_1m: number("queue_drop_1m")?, is_backpressure })
}

/// Sends a request on a connection of its own; the status, the head and the body of its answer.
fn ask(address: SocketAddr, request: &[u8]) -> Result<(u16, String, Vec<u8>), Failure> {
    let mut stream = TcpStream::connect(address).map_err(Failure::system(format!("connect to {address}")))?;
    stream.write_all(request).map_err(Failure::system("send a request"))?;
    let (mut input, mut bytes) = (Vec::new(), [0; 16 << 10]);
    loop {
        let unreadable = |_| Failure::Unreadable("it is no answer of a hub".into());
        if let Some(Answer { status, body }) = Answer::parse(&input).map_err(unreadable)? {
            let head = String::from_utf8_lossy(&input[..body.start]).into_owned();
            return Ok((status, head, input[body].to_vec()));
        }
        match stream.read(&mut bytes).map_err(Failure::system("read an answer"))? {
            0 => return Err(Failure::Closed),
            count => input.extend_from_slice(&bytes[..count]),
        }
    }
}

fn parse_url(text: &str) -> Result<SocketAddr, String> {
    let rest = text.strip_prefix("http://").ok_or("give http://HOST:PORT of the data plane")?.trim_end_matches('/');
    let mut found = rest.to_socket_addrs().map_err(|error| format!("{rest}: {error}"))?;
    found.next().ok_or_else(|| format!("{rest} has no address"))
}

fn describe(seen: &Seen) -> Report {
    let mut report = Report::default();
    let accepted = seen.statuses.get(&200).copied().unwrap_or(0);
    let refused: u64 = seen.statuses.iter().filter(|(status, _)| **status != 200).map(|(_, count)| count).sum();
    let count = |count: u64| grouped(count as f64);
    let secs = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let retry_after = seen.retry_after_secs.map_or("none".to_owned(), |secs| format!("{secs} s"));
    let rows = [
        ("submits by status", statuses_text(&seen.statuses)),
        ("load took", secs(seen.load_time)),
        ("Retry-After of a refusal", retry_after),
        ("metrics: most jobs waiting", count(seen.depth_most)),
        ("metrics: refused in a minute", count(seen.drops_1m)),
        ("jobs done of those accepted", format!("{} of {}", count(seen.completed.min(accepted)), count(accepted))),
        ("recovery took", secs(seen.recovery_time)),
    ];
    let rows = rows.into_iter().map(|(what, value)| vec![what.to_owned(), value]).collect();
    report.table("A running hub under load", &["", "seen"], rows);
    report.figure("statuses", statuses_json(&seen.statuses));
    report.figure("retry_after_secs", json!(seen.retry_after_secs));
    report.figure("queue_depth_most", seen.depth_most);
    report.figure("drops_1m", seen.drops_1m);
    report.figure("recovery_secs", seen.recovery_time.as_secs_f64());
    let flag = |is_so: bool| if is_so { 1.0 } else { 0.0 };
    report.target(
        "the hub refused submits (else raise --duration or --connections)",
        refused as f64,
        Bound::AtLeast(1.0),
    );
    let has_time = seen.retry_after_secs.is_some_and(|secs| (1..=300).contains(&secs));
    report.target("a refusal says when to come back", flag(has_time), Bound::AtLeast(1.0));
    let is_shown = seen.is_backpressure_shown && seen.drops_1m > 0;
    report.target("the metrics showed the throttling", flag(is_shown), Bound::AtLeast(1.0));
    let done = seen.completed as f64 / (accepted.max(1)) as f64;
    report.target("jobs done of those accepted", done.min(1.0), Bound::AtLeast(1.0));
    report.target("the hub accepts again", flag(seen.accepts_again), Bound::AtLeast(1.0));
    report.target("the metrics show a calm hub again", flag(seen.is_calm), Bound::AtLeast(1.0));
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_the_data_plane() {
        assert_eq!(parse_url("http://127.0.0.1:8788/"), Ok(SocketAddr::from(([127, 0, 0, 1], 8788))));
        for text in ["127.0.0.1:8788", "https://127.0.0.1:8788", "http://127.0.0.1"] {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_hub_that_throttled_and_recovered_meets_all_targets_and_each_lack_misses_one() {
        let good = || Seen {
            drops_1m: 5,
            is_backpressure_shown: true,
            retry_after_secs: Some(3),
            statuses: BTreeMap::from([(200, 10), (429, 5)]),
            completed: 11,
            is_calm: true,
            accepts_again: true,
            ..Seen::default()
        };
        assert!(describe(&good()).is_met());
        let lacks: [fn(&mut Seen); 6] = [
            |seen| _ = seen.statuses.remove(&429),
            |seen| seen.retry_after_secs = Some(0),
            |seen| seen.is_backpressure_shown = false,
            |seen| seen.completed = 9,
            |seen| seen.accepts_again = false,
            |seen| seen.is_calm = false,
        ];
        for (index, lack) in lacks.into_iter().enumerate() {
            let mut seen = good();
            lack(&mut seen);
            assert!(!describe(&seen).is_met(), "{index}");
        }
    }
}
