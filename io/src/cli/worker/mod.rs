//! `worker`: runs jobs on this machine.
//!
//! A worker has one thread for heartbeats ([`heart`]) and one for each slot ([`slot`]), each with its own long poll and
//! at most one job. The slots share a [`board`] with the operator's request: run, drain, abort. Output consists of
//! [`event`]s. [`process`] runs a job's process.

mod board;
mod event;
mod heart;
mod process;
mod slot;

use super::failure::Failure;
use super::interrupt;
use super::target::{self, TargetArgs};
use crate::client::calls::{Attestation, Heartbeat};
use crate::client::integrity::Signer;
use crate::client::{CallError, Client};
use crate::platform::process::host_name;
use board::{Board, Tally, Wish};
use event::{Event, Log};
use process::Program;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

/// Jobs at once: each is a thread, a connection and a process; beyond it start a second worker.
const CONCURRENCY_MAX: u64 = 256;

const EXAMPLES: &str = "\
Examples:
  sheratan-hub worker --exec 'python3 work.py'
  sheratan-hub worker --kinds resize,thumbnail --concurrency 4 -- ./convert --fast
  sheratan-hub worker --node GPU_BOX_1 --capabilities gpu:true,cuda:12 --exec ./train.sh
  sheratan-hub worker --exec 'jq .msg' --drain-when-empty

The command reads the job's params as JSON from standard input; SHERATAN_JOB_ID, SHERATAN_JOB_KIND and \
SHERATAN_ATTEMPT are in its environment. Its standard output is the result: JSON if it parses as JSON, else a \
string. An exit code other than 0 means that the attempt failed; the job is retried, unless --fatal-exit lists the \
code.

If the hub requires signed results, set SHERATAN_RESULT_HMAC_KEY or SHERATAN_RESULT_HMAC_KEY_FILE to its key or the \
key's file.

On ctrl-C or SIGTERM the worker pulls no more jobs and finishes the running ones; a second one kills them and \
reports them as failed.";

/// The arguments of `worker`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Command that runs a job, passed to the shell
    #[arg(long, value_name = "CMD", required_unless_present = "program")]
    exec: Option<String>,
    /// Program that runs a job, and its arguments, without a shell
    #[arg(last = true, value_name = "PROGRAM", conflicts_with = "exec")]
    program: Vec<OsString>,
    /// Node id of this worker [default: <host>-<random>]
    #[arg(long, value_name = "ID")]
    node: Option<String>,
    /// Kinds of jobs to run [default: all]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    kinds: Vec<String>,
    /// Maximum number of jobs that run at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=CONCURRENCY_MAX))]
    concurrency: u64,
    /// Capabilities of this worker; a job that requires others is not leased to it
    #[arg(long, value_name = "X,Y", value_delimiter = ',')]
    capabilities: Vec<String>,
    /// Zone of this worker; a job of another zone is not leased to it
    #[arg(long)]
    zone: Option<String>,
    /// Duration of a lease in seconds; it is extended after a third of that while the job runs, and the hub requeues
    /// the job of a worker that stopped extending
    #[arg(long, value_name = "SEC", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    lease_sec: u64,
    /// Exit codes of failures after which the job is not retried
    #[arg(long, value_name = "CODE,…", value_delimiter = ',')]
    fatal_exit: Vec<i32>,
    /// Run one job, then stop; exit code 1 if it failed
    #[arg(long, conflicts_with_all = ["drain_when_empty", "concurrency"])]
    once: bool,
    /// Stop when a pull returns no job
    #[arg(long)]
    drain_when_empty: bool,
    /// Report events as lines of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
}

/// A worker, shared by all of its threads.
struct Worker {
    client: Client,
    signer: Signer,
    program: Program,
    heartbeat: Heartbeat,
    kinds: Vec<String>,
    lease_sec: u64,
    fatal_exits: Vec<i32>,
    until: Until,
    log: Log,
    board: Board,
}

/// When a worker stops by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Until {
    /// Only on a signal.
    Signal,
    /// After one job.
    OneJob,
    /// When a pull finds nothing.
    Empty,
}

/// Runs a worker until it is asked to stop.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let interrupts = interrupt::listen()?;
    let worker = Arc::new(Worker::new(args)?);
    let slots = worker.board.slots();
    std::thread::spawn({
        let worker = Arc::clone(&worker);
        move || {
            for () in interrupts {
                let wish = worker.board.interrupt();
                worker.log.say(&Event::Stopping { is_abort: wish == Wish::Abort, running: worker.board.running() });
            }
        }
    });
    let interval = match heart::register(&worker)? {
        Some(interval) => interval,
        None => return Ok(ExitCode::SUCCESS),
    };
    let heart = Arc::clone(&worker);
    std::thread::spawn(move || heart::beat(&heart, interval));
    for slot in 0..slots {
        let worker = Arc::clone(&worker);
        std::thread::spawn(move || slot::run(&worker, slot));
    }
    // Slots that only wait for a job are not joined: they and their long polls end with the process.
    worker.board.wait_until_quiet();
    let Tally { done, failed, lost, refused } = worker.board.tally();
    worker.log.say(&Event::Stopped { done, failed, lost, refused });
    let is_good = worker.until != Until::OneJob || failed + lost + refused == 0;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Worker {
    fn new(args: Args) -> Result<Self, Failure> {
        let program = match args.exec {
            Some(line) => Program::Shell(line),
            None => Program::Direct(args.program),
        };
        let mut capabilities = args.capabilities;
        capabilities.sort();
        capabilities.dedup();
        let until = match (args.once, args.drain_when_empty) {
            (true, _) => Until::OneJob,
            (false, true) => Until::Empty,
            (false, false) => Until::Signal,
        };
        Ok(Worker {
            client: args.target.client()?,
            signer: target::signer()?,
            program,
            heartbeat: Heartbeat {
                node_id: args.node.unwrap_or_else(node_id_default),
                health: "GREEN",
                zone: args.zone,
                attestation: Some(attestation(&capabilities)),
                capabilities,
            },
            kinds: args.kinds,
            lease_sec: args.lease_sec,
            fatal_exits: args.fatal_exit,
            until,
            log: Log { is_json: args.json },
            board: Board::new(args.concurrency as usize),
        })
    }

    /// Reports that the hub does not answer, once for all threads.
    fn say_away(&self, error: &CallError) {
        if self.board.hub_is_away(true) {
            self.log.say(&Event::HubAway { reason: &error.summary() });
        }
    }

    /// Reports that the hub answers again, once for all threads.
    fn say_back(&self) {
        if self.board.hub_is_away(false) {
            self.log.say(&Event::HubBack);
        }
    }
}

/// A name that is unique to this machine, this worker and this run.
fn node_id_default() -> String {
    let number = getrandom::u32().unwrap_or_else(|_| std::process::id());
    format!("{}-{number:08x}", host_name().unwrap_or_else(|| "worker".to_owned()))
}

fn attestation(capabilities: &[String]) -> Attestation {
    let listed = serde_json::to_vec(capabilities).expect("a list of texts is always JSON");
    Attestation {
        schema: "attestation_v1",
        build_id: concat!("sheratan-hub-worker/", env!("CARGO_PKG_VERSION")).to_owned(),
        capability_hash: hex::encode(Sha256::digest(listed)),
        runtime: serde_json::json!({ "os": std::env::consts::OS, "arch": std::env::consts::ARCH }),
    }
}
