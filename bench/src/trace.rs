//! The trace: what it costs to record requests that are refused or find nothing.
//!
//! Two hubs, one with a trace and one without, take the same requests in turns. None of these is journaled, so the
//! disk's pace is not in the figure, and requests are pipelined, so that little but the hub's own work is.

use crate::client::answer::{Answer, has};
use crate::client::request::{Requests, Target};
use crate::failure::Failure;
use crate::hub::{self, Hub};
use crate::interrupt::Interrupt;
use crate::report::{Bound, Report, grouped};
use crate::sample::Samples;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What to measure.
#[derive(clap::Args)]
pub struct Settings {
    /// Seconds of load, half of it on each hub.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=600))]
    duration: u64,
    /// The program of the hubs to start [default: sheratan-hub beside this program].
    #[arg(long, value_name = "PATH")]
    hub: Option<PathBuf>,
    /// Where the data folders are made; on a disk [default: the folder of this program].
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// How often each load runs on each hub.
const ROUNDS: u32 = 6;
/// Requests that are sent at once: they fit into one read of the hub.
const BURST: usize = 64;
const PAYLOAD_BYTES: usize = 200;
/// With a trace the rate may be lower by this: the hub copies each command once more, and another thread writes it.
const RATE_RATIO_MIN: f64 = 0.85;
/// One job may wait, so that all others are refused.
const QUEUE: (&str, &str) = ("SHERATAN_MAX_QUEUE_DEPTH", "1");

/// A hub and what it did.
struct Side {
    hub: Hub,
    stream: TcpStream,
    requests: Requests,
    refused: Samples,
    empty: Samples,
}

/// Starts both hubs, and compares.
pub fn measure(settings: &Settings) -> Result<Report, Failure> {
    let interrupt = Interrupt::on_signals()?;
    let own = hub::Settings::of_our_own(settings.hub.clone(), settings.dir.clone());
    let mut plain = Side::start(&own, &[QUEUE, ("SHERATAN_TRACE_MAX_BYTES", "0")], &interrupt)?;
    let mut traced = Side::start(&own, &[QUEUE], &interrupt)?;
    let slice = Duration::from_secs(settings.duration) / (4 * ROUNDS);
    for round in 0..=ROUNDS {
        // The first round warms both up. The second of a round finds the machine as the first left it.
        let is_counted = round > 0;
        let sides = if round % 2 == 0 { [&mut plain, &mut traced] } else { [&mut traced, &mut plain] };
        for side in sides {
            interrupt.check()?;
            side.measure(slice, is_counted)?;
        }
    }
    let report = describe(&plain, &traced);
    plain.hub.stop()?;
    traced.hub.stop()?;
    Ok(report)
}

impl Side {
    fn start(settings: &hub::Settings, env: &[(&str, &str)], interrupt: &Interrupt) -> Result<Self, Failure> {
        let hub = Hub::start_with(settings, env, interrupt)?;
        let target = Target { host: hub.data.to_string(), token: hub.token.clone(), payload_bytes: PAYLOAD_BYTES };
        let stream = TcpStream::connect(hub.data).map_err(Failure::system(format!("connect to {}", hub.data)))?;
        stream.set_nodelay(true).map_err(Failure::system("set a connection up"))?;
        let requests = Requests::new(&target, "bench");
        let mut side = Side { hub, stream, requests, refused: Samples::default(), empty: Samples::default() };
        // The job that waits is of another kind than the pulls ask for.
        let other = Requests::new(&target, "other").submit;
        side.ask(&other, 1, &|status, _| status == 200)?;
        Ok(side)
    }

    fn measure(&mut self, slice: Duration, is_counted: bool) -> Result<(), Failure> {
        let (submit, pull) = (self.requests.submit.repeat(BURST), self.requests.pull.repeat(BURST));
        let refused = self.rate(&submit, slice, &|status, _| status == 429)?;
        let empty = self.rate(&pull, slice, &|status, body| status == 200 && has(body, r#""jobs":[]"#))?;
        if is_counted {
            self.refused.push(refused);
            self.empty.push(empty);
        }
        Ok(())
    }

    /// Answers a second.
    fn rate(
        &mut self,
        burst: &[u8],
        slice: Duration,
        is_expected: &dyn Fn(u16, &[u8]) -> bool,
    ) -> Result<f64, Failure> {
        let (start, mut answers) = (Instant::now(), 0);
        while start.elapsed() < slice {
            self.ask(burst, BURST, is_expected)?;
            answers += BURST;
        }
        Ok(answers as f64 / start.elapsed().as_secs_f64())
    }

    /// Sends `count` requests at once and waits for their answers.
    fn ask(&mut self, requests: &[u8], count: usize, is_expected: &dyn Fn(u16, &[u8]) -> bool) -> Result<(), Failure> {
        self.stream.write_all(requests).map_err(Failure::system("send requests"))?;
        let (mut input, mut start) = (Vec::new(), 0);
        for _ in 0..count {
            let Answer { status, body } = loop {
                let answer = Answer::parse(&input[start..]);
                let unreadable = |_| Failure::Unreadable(String::from_utf8_lossy(&input[start..]).into_owned());
                if let Some(answer) = answer.map_err(unreadable)? {
                    break answer;
                }
                let mut bytes = [0; 64 << 10];
                match self.stream.read(&mut bytes).map_err(Failure::system("read answers"))? {
                    0 => return Err(Failure::Closed),
                    read => input.extend_from_slice(&bytes[..read]),
                }
            };
            let end = start + body.end;
            let body = &input[start..][body];
            if !is_expected(status, body) {
                return Err(Failure::Unreadable(format!("{status} {}", String::from_utf8_lossy(body))));
            }
            start = end;
        }
        Ok(())
    }
}

fn describe(plain: &Side, traced: &Side) -> Report {
    let mut report = Report::default();
    let line = |what: &str, plain: &Samples, traced: &Samples| {
        let ratio = format!("{:.2}", traced.paired_ratio(plain));
        vec![what.to_owned(), grouped(plain.median()), grouped(traced.median()), ratio]
    };
    let rows = vec![
        line("submits refused/s", &plain.refused, &traced.refused),
        line("pulls that find nothing/s", &plain.empty, &traced.empty),
    ];
    let title =
        format!("One connection, {BURST} requests at once, {PAYLOAD_BYTES} bytes of params (medians of {ROUNDS})");
    report.table(title, &["", "without a trace", "with one", "ratio"], rows);
    let side =
        |side: &Side| json!({"refused_per_second": side.refused.median(), "empty_per_second": side.empty.median()});
    report.figure("without_trace", side(plain));
    report.figure("with_trace", side(traced));
    let ratios = [traced.refused.paired_ratio(&plain.refused), traced.empty.paired_ratio(&plain.empty)];
    report.figure("refused_ratio", ratios[0]);
    report.figure("empty_ratio", ratios[1]);
    report.target("submits refused with a trace to those without", ratios[0], Bound::AtLeast(RATE_RATIO_MIN));
    report.target("pulls that find nothing with a trace to those without", ratios[1], Bound::AtLeast(RATE_RATIO_MIN));
    report
}
