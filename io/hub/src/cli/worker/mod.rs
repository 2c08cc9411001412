//! `worker`: runs jobs on this machine.
//!
//! A worker has one thread for heartbeats ([`heart`]) and one for each slot ([`slot`]), each with its own long poll and
//! at most one job. The slots share a [`board`] with the operator's request: run, drain, abort. Output consists of
//! [`event`]s. [`process`] runs a job's process, which may [`report`] how it is doing, [`lease`] keeps its lease, the
//! [`outbox`] its result, until the hub decides on that ([`verdict`]); what is left in the end, [`resend`] delivers later.

mod board;
mod event;
mod heart;
mod identity;
mod lease;
mod outbox;
mod process;
mod report;
mod resend;
mod slot;
mod verdict;

use super::failure::Failure;
use super::interrupt;
use super::link::Link;
use super::names;
use super::target::{self, TargetArgs};
use super::terminal;
use crate::client::CallError;
use crate::client::calls::{Attestation, Heartbeat};
use crate::platform::guard::Guard;
use crate::platform::init;
use crate::platform::process::host_name;
use board::{Board, Tally, Wish};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use event::{Event, Log};
use identity::Identity;
use outbox::{Outbox, Saved};
use process::{JobCommand, Program};
use sha2::{Digest, Sha256};
use sheratan_io::config;
use sheratan_io::integrity::Signer;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a hub may refuse the token before the worker ends: a hub that restarts may be about to write another one.
const AUTH_PATIENCE: Duration = Duration::from_secs(5);

/// Jobs at once: each is a thread, a connection and a process; beyond it start a second worker.
const CONCURRENCY_MAX: u64 = 256;

const EXAMPLES: &str = "\
Examples:
  sheratan-hub worker --exec 'python3 work.py'
  sheratan-hub worker --kinds resize,thumbnail --concurrency 4 -- ./convert --fast
  sheratan-hub worker --node GPU_BOX_1 --capabilities gpu:true,cuda:12 --exec ./train.sh
  sheratan-hub worker --node gpu-1 --identity-key gpu-1.key --exec ./train.sh    signed heartbeats
  sheratan-hub worker --exec 'jq .msg' --drain-when-empty
  sheratan-hub worker --resend sheratan-results-box-1768510323348.jsonl

The command reads the job's params as JSON from standard input; SHERATAN_JOB_ID, SHERATAN_JOB_KIND and \
SHERATAN_ATTEMPT are in its environment. Its standard output is the result: JSON if it parses as JSON, else a \
string. An exit code other than 0 means that the attempt failed; the job is retried, unless --fatal-exit lists the \
code.

If the hub requires signed results, set SHERATAN_RESULT_HMAC_KEY or SHERATAN_RESULT_HMAC_KEY_FILE to its key or the \
key's file. The command gets none of the hub's secrets that are in the worker's environment.

A result that the hub does not take (it is away, a proxy answers for it) is sent again until it does. Those that are \
left after 24 hours, or when the worker is asked to stop, go to a file, named on standard error, in the data folder, \
else in the current one; --resend delivers them.

The command is stopped (SIGTERM, then SIGKILL, with its children) when its job is cancelled, its lease ends or \
its time to run (max_run_sec of the kind) is over, and killed if the worker is. A \
command that is not there, or a request that the hub refuses for good, ends the worker with exit code 1.

Lines of the command's standard error may be reports: `sheratan-progress: 40 half way` is shown with the job, and \
`sheratan-retry-after: 60` says in how many seconds another attempt may succeed, if this one fails.

On ctrl-C or SIGTERM the worker pulls no more jobs and finishes the running ones; a second one kills them and gives \
their leases back, which costs them no attempt. With --grace-sec the second one comes by itself, before a supervisor \
kills the worker.

Exit code 0 after a stop that was asked for, 1 if a result is left in a file, with --once if the job was not completed, or \
if no job can run here (the hub refuses for good, the command is not there), 2 for an invalid command line.";

/// The arguments of `worker`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Command that runs a job, passed to the shell
    #[arg(long, value_name = "CMD", required_unless_present_any = ["program", "resend"], value_parser = names::not_blank)]
    exec: Option<String>,
    /// Program that runs a job, and its arguments, without a shell
    #[arg(last = true, value_name = "PROGRAM", conflicts_with = "exec")]
    program: Vec<OsString>,
    /// Deliver the results in a file that an earlier worker left, then stop; the file is removed when all were taken
    #[arg(long, value_name = "FILE", conflicts_with_all = ["exec", "program"])]
    resend: Option<PathBuf>,
    /// Node id of this worker [default: <host>-<random>]
    #[arg(long, value_name = "ID", value_parser = names::name)]
    node: Option<String>,
    /// Sign heartbeats with the key in this file, which is made if it is not there; the hub pins the first key that signs
    /// for a node id, so the worker needs one that stays the same
    #[arg(long, value_name = "FILE", requires = "node")]
    identity_key: Option<PathBuf>,
    /// Kinds of jobs to run [default: all]
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = names::name)]
    kinds: Vec<String>,
    /// Maximum number of jobs that run at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=CONCURRENCY_MAX))]
    concurrency: u64,
    /// Capabilities of this worker; a job that requires others is not leased to it
    #[arg(long, value_name = "X,Y", value_delimiter = ',', value_parser = names::name)]
    capabilities: Vec<String>,
    /// Zone of this worker; a job of another zone is not leased to it
    #[arg(long, value_parser = names::name)]
    zone: Option<String>,
    /// Duration of a lease in seconds; it is extended after a third of that while the job runs, and the hub requeues
    /// the job of a worker that stopped extending
    #[arg(long, value_name = "SEC", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    lease_sec: u64,
    /// Exit codes of failures after which the job is not retried
    #[arg(long, value_name = "CODE,…", value_delimiter = ',')]
    fatal_exit: Vec<i32>,
    /// Run one job, then stop; exit code 1 if it was not completed
    #[arg(long, conflicts_with_all = ["drain_when_empty", "concurrency"])]
    once: bool,
    /// Stop when a pull returns no job
    #[arg(long)]
    drain_when_empty: bool,
    /// Seconds that running jobs may take to finish after ctrl-C or SIGTERM; then they are killed and given back, as by a
    /// second signal [default: as long as they need]
    #[arg(long, value_name = "SEC")]
    grace_sec: Option<u64>,
    /// Report events as lines of JSON
    #[arg(long)]
    json: bool,
    /// Leave the hub's token in the environment of the command, for a command that calls the hub
    #[arg(long)]
    pass_token: bool,
    #[command(flatten)]
    target: TargetArgs,
}

/// A worker, shared by all of its threads.
struct Worker {
    link: Link,
    signer: Signer,
    command: JobCommand,
    heartbeat: Heartbeat,
    /// Its heartbeats are not signed if absent.
    identity: Option<Identity>,
    kinds: Vec<String>,
    lease_sec: u64,
    fatal_exits: Vec<i32>,
    until: Until,
    grace: Option<Duration>,
    log: Log,
    board: Board,
    outbox: Outbox,
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
    match init::stand_in() {
        Ok(Some(code)) => return Ok(code),
        Ok(None) => {}
        Err(error) => terminal::warning(format_args!("orphans of commands stay as zombies: {error}")),
    }
    if let Some(path) = &args.resend {
        return resend::run(path, &Link::new(args.target)?, &target::signer()?);
    }
    let interrupts = interrupt::listen()?;
    let worker = Arc::new(Worker::new(args)?);
    let ended = worker.run(interrupts);
    // What is in the outbox now was computed, and no slot will deliver it any more.
    worker.save(Outbox::save_all);
    let tally @ Tally { done, failed, lost, cancelled, released, refused, undelivered } = worker.board.tally();
    if tally != Tally::default() || ended.is_ok() {
        worker.log.say(&Event::Stopped { done, failed, lost, cancelled, released, refused, undelivered });
    }
    worker.log.finish();
    ended?;
    if let Some(reason) = worker.board.failure() {
        return Err(Failure::Local(reason));
    }
    let is_good =
        undelivered == 0 && (worker.until != Until::OneJob || failed + lost + cancelled + released + refused == 0);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Worker {
    /// Runs jobs until no slot has one and none will start.
    fn run(self: &Arc<Self>, interrupts: Receiver<()>) -> Result<(), Failure> {
        if let Some(reason) = self.command.missing() {
            return Err(Failure::Local(reason));
        }
        let worker = Arc::clone(self);
        std::thread::spawn(move || worker.stop_on(&interrupts));
        let Some(interval) = heart::register(self)? else { return Ok(()) };
        let worker = Arc::clone(self);
        std::thread::spawn(move || heart::beat(&worker, interval));
        for slot in 0..self.board.slots() {
            let worker = Arc::clone(self);
            std::thread::spawn(move || slot::run(&worker, slot));
        }
        // Slots that only wait for a job or for the hub are not joined: they end with the process.
        self.board.wait_until_quiet();
        Ok(())
    }

    /// Stops at the first interrupt when the running jobs are finished, and at once at the second, or when the time that
    /// they are given is over.
    fn stop_on(&self, interrupts: &Receiver<()>) {
        let mut is_interrupted = interrupts.recv().is_ok();
        while is_interrupted {
            let wish = self.board.interrupt();
            self.log.say(&Event::Stopping { is_abort: wish == Wish::Abort, running: self.board.running() });
            is_interrupted = match self.grace.filter(|_| wish == Wish::Drain) {
                Some(grace) => interrupts.recv_timeout(grace) != Err(RecvTimeoutError::Disconnected),
                None => interrupts.recv().is_ok(),
            };
        }
    }

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
        let guard = Guard::start().unwrap_or_else(|error| {
            terminal::warning(format_args!(
                "commands would outlive a worker that is killed: sh cannot be started: {error}"
            ));
            Guard::none()
        });
        let node_id = args.node.unwrap_or_else(node_id_default);
        let data_dir = args.target.data_dir().to_owned();
        let folders = [Some(data_dir).filter(|folder| folder.is_dir()), Some(".".into()), Some(std::env::temp_dir())];
        Ok(Worker {
            link: Link::new(args.target)?,
            signer: target::signer()?,
            command: JobCommand { program, hidden: hidden_variables(args.pass_token), guard },
            outbox: Outbox::new(node_id.clone(), folders.into_iter().flatten().collect()),
            heartbeat: Heartbeat {
                node_id,
                health: "GREEN",
                zone: args.zone,
                attestation: Some(attestation(&capabilities)),
                capabilities,
            },
            identity: args.identity_key.as_deref().map(Identity::open).transpose()?,
            kinds: args.kinds,
            lease_sec: args.lease_sec,
            fatal_exits: args.fatal_exit,
            until,
            grace: args.grace_sec.map(Duration::from_secs),
            log: Log::start(args.json).map_err(|error| Failure::local("a thread", error))?,
            board: Board::new(args.concurrency as usize),
        })
    }

    /// Reports that the hub does not answer, once for all threads, and looks whether it moved.
    fn say_away(&self, error: &CallError) {
        if self.board.hub_is_away(true) {
            self.log.say(&Event::HubAway { reason: &error.summary() });
        }
        self.link.look_again();
    }

    /// Whether a failed request would fail each time: the hub refused it, and not for now. A token is final once it was
    /// refused for [`AUTH_PATIENCE`] and did not change.
    fn is_final(&self, error: &CallError, refused_since: &mut Option<Instant>) -> bool {
        let CallError::Refused(refused) = error else {
            return matches!(error, CallError::Unsendable { .. }) && !self.link.look_again();
        };
        match refused.code.as_str() {
            _ if error.is_transient() || refused.status >= 500 => false,
            // The next heartbeat registers the node.
            "unknown_node" => false,
            "auth_failure" if self.link.look_again() => {
                *refused_since = None;
                false
            }
            "auth_failure" => refused_since.get_or_insert_with(Instant::now).elapsed() > AUTH_PATIENCE,
            _ => true,
        }
    }

    /// Writes results to a file, and says which.
    fn save(&self, save: impl FnOnce(&Outbox) -> io::Result<Option<Saved>>) {
        match save(&self.outbox) {
            Ok(None) => {}
            Ok(Some(Saved { path, results })) => {
                self.board.count(|tally| tally.undelivered += results as u64);
                let path = path.display().to_string();
                self.log.say(&Event::ResultsSaved { results, path: &path });
                terminal::warning(format_args!(
                    "{results} result(s) were not delivered and are in {0}: `sheratan-hub worker --resend {0}` delivers them",
                    terminal::printable(&path)
                ));
            }
            Err(error) => {
                self.board.count(|tally| tally.undelivered += 1);
                self.log.say(&Event::ResultsLost { reason: &error.to_string() });
                terminal::warning(format_args!("results were not delivered, and no file can be written: {error}"));
            }
        }
    }

    /// Reports that the hub answers again, once for all threads.
    fn say_back(&self) {
        if self.board.hub_is_away(false) {
            self.log.say(&Event::HubBack);
        }
    }
}

/// The variables with secrets that the environment has: those of the hub's settings, and those that begin like one
/// (`SHERATAN_HUB_TOKEN_FILE`, `…_NEXT`).
fn hidden_variables(is_token_passed: bool) -> Vec<OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    let is_hidden = |name: &OsString| {
        let name = name.to_string_lossy().to_uppercase();
        config::is_secret_variable(&name) && !(is_token_passed && name.starts_with("SHERATAN_HUB_TOKEN"))
    };
    names.filter(is_hidden).collect()
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
