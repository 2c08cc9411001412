//! A hub as a process: started on free ports, killed or stopped by its id.

use crate::client::Client;
use serde_json::Value;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a start or a stop may take before the test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A build of a binary that the first tests wait for so long is reported, or their time would be taken for theirs.
const BUILD_TOLD_FROM: Duration = Duration::from_secs(5);

/// How often a condition that cannot wake the test is polled.
const POLL: Duration = Duration::from_millis(5);

/// A running hub with its data folder.
#[derive(Debug)]
pub struct Hub {
    child: Child,
    options: Options,
    folder: TempDir,
    said: Said,
    /// The control plane's address.
    pub control: SocketAddr,
    /// The data plane's address.
    pub data: SocketAddr,
}

/// How a hub is started.
#[derive(Clone, Default, Debug)]
pub struct Options {
    /// Flags after `serve`.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
}

/// What a hub wrote on standard error so far.
type Said = Arc<Mutex<String>>;

/// The result of a command that ran to its end.
#[derive(Debug)]
pub struct Run {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Hub {
    /// A hub with its defaults.
    pub fn start() -> Hub {
        Hub::start_with(&[])
    }

    /// A hub with these flags.
    pub fn start_with(args: &[&str]) -> Hub {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Hub::start_in(TempDir::new().expect("a temporary folder"), Options { args, env: Vec::new() })
    }

    /// A hub on an existing folder.
    pub fn start_in(folder: TempDir, options: Options) -> Hub {
        let mut child = spawn(folder.path(), &options);
        let said = Said::default();
        let (control, data) = await_addrs(folder.path(), &mut child, &said);
        Hub { child, options, folder, said, control, data }
    }

    /// Kills the hub as a power cut would, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was started here");
    }

    /// Starts a hub that was killed or stopped again, on the same folder.
    pub fn restart(&mut self) {
        self.child = spawn(self.folder.path(), &self.options);
        (self.control, self.data) = await_addrs(self.folder.path(), &mut self.child, &self.said);
    }

    /// Starts a hub again as [`Hub::restart`] does, but waits only until it says where it listens: it may be
    /// recovering.
    pub fn begin_restart(&mut self) {
        self.child = spawn(self.folder.path(), &self.options);
        let stderr = self.child.stderr.take().expect("it is a pipe");
        let said = self.said.clone();
        thread::spawn(move || drain(stderr, &said));
        let mut addrs = None;
        until("the hub says where it listens", || {
            addrs = read_addrs(self.folder.path(), false);
            addrs.is_some()
        });
        (self.control, self.data) = addrs.expect("it was waited for");
    }

    /// Starts a hub again whose addresses are given by its flags: it may not be able to write them into its folder.
    pub fn begin_restart_without_addr(&mut self) {
        self.child = spawn(self.folder.path(), &self.options);
        let stderr = self.child.stderr.take().expect("it is a pipe");
        let said = self.said.clone();
        thread::spawn(move || drain(stderr, &said));
    }

    /// Other flags from the next start on.
    pub fn set_args(&mut self, args: &[&str]) {
        self.options.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    }

    /// Other variables from the next start on.
    pub fn set_env(&mut self, env: Vec<(String, String)>) {
        self.options.env = env;
    }

    /// Asks the hub to stop (SIGTERM) and waits for it.
    #[cfg(unix)]
    pub fn stop(&mut self) -> ExitStatus {
        self.terminate();
        wait(&mut self.child)
    }

    /// Asks the hub to stop (SIGTERM).
    #[cfg(unix)]
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Asks the hub to read its rules and the log's level again (SIGHUP).
    #[cfg(unix)]
    pub fn reload(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    /// Sends a signal. After one that stops it, it has stopped: a signal arrives a moment after it was sent.
    #[cfg(unix)]
    pub fn signal(&self, signal: rustix::process::Signal) {
        use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
        let pid = Pid::from_raw(self.pid() as i32).expect("a process has a number");
        kill_process(pid, signal).expect("it runs");
        if signal == Signal::STOP {
            waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED).expect("it is a child of this process");
        }
    }

    /// The process' number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it was started here")
    }

    /// What it wrote on standard error, from its first start on.
    pub fn said(&self) -> String {
        self.said.lock().expect("reading does not fail").clone()
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The token that the hub made at its first start.
    pub fn token(&self) -> String {
        let text = fs::read_to_string(self.folder().join("secrets/hub_token")).expect("the first start makes a token");
        text.trim().to_owned()
    }

    /// A client of the control plane, with the token.
    pub fn control(&self) -> Client {
        Client::new(self.control, Some(self.token()))
    }

    /// A client of the data plane, with the token.
    pub fn data(&self) -> Client {
        Client::new(self.data, Some(self.token()))
    }

    /// Runs the binary's subcommand against this hub.
    pub fn run(&self, args: &[&str]) -> Run {
        let folder = self.folder().to_str().expect("a temporary folder's path is text");
        run(&[args, &["--data-dir", folder]].concat())
    }

    /// Submits a job; its id.
    #[track_caller]
    pub fn submit(&self, request: Value) -> String {
        let answer = self.data().post("/mesh/submit_request", &request).ok();
        answer["job_id"].as_str().expect("a job has an id").to_owned()
    }

    /// A job as the hub shows it.
    #[track_caller]
    pub fn job(&self, job_id: &str) -> Value {
        self.data().get(&format!("/mesh/jobs/{job_id}")).ok()["job"].clone()
    }

    /// A job, once it has ended.
    #[track_caller]
    pub fn until_final(&self, job_id: &str) -> Value {
        until("the job is final", || {
            !["queued", "scheduled", "leased"]
                .contains(&self.job(job_id)["status"].as_str().expect("a job has a status"))
        });
        self.job(job_id)
    }

    /// The newest file of the hub's own log. A thread writes it: what the hub did a moment ago may not be in it yet.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("logs/hub.jsonl")).unwrap_or_default()
    }

    /// The lines of the audit log whose event is this one.
    pub fn audit(&self, event: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.folder().join("logs/hub_security_audit.jsonl")).unwrap_or_default();
        // The hub may be writing the last line.
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).expect("a whole line is JSON"));
        lines.filter(|line| line["event"] == event).collect()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // It may have ended before; what matters is that it is not left behind.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Waits until `ask` returns true.
#[track_caller]
pub fn until(what: &str, mut ask: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ask() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(POLL);
    }
}

/// Runs the binary to its end, without a hub's environment.
pub fn run(args: &[&str]) -> Run {
    let output = command(args).output().expect("the binary starts");
    Run::from(output)
}

/// The binary with these arguments, in a temporary folder's peace: no variable of the tests' own reaches it.
pub fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::null()).current_dir(env::temp_dir());
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SHERATAN_")) {
        command.env_remove(name);
    }
    command
}

/// The binary under test: `SHERATAN_TEST_BINARY`, or the one that cargo builds in the tests' own profile.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| find("SHERATAN_TEST_BINARY", "sheratan-hub", "sheratan-hub"))
}

/// The simulator: `SHERATAN_TEST_SIM`, or the one that cargo builds in the tests' own profile.
pub fn sim() -> &'static Path {
    static SIM: OnceLock<PathBuf> = OnceLock::new();
    SIM.get_or_init(|| find("SHERATAN_TEST_SIM", "sheratan-sim", "sheratan-sim"))
}

/// The benchmarks: `SHERATAN_TEST_BENCH`, or the ones that cargo builds in the tests' own profile.
pub fn bench() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| find("SHERATAN_TEST_BENCH", "sheratan-bench", "sheratan-bench"))
}

fn find(variable: &str, package: &str, name: &str) -> PathBuf {
    if let Some(path) = env::var_os(variable) {
        return PathBuf::from(path);
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "-p", package, "--bin", name, "--message-format=json"]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let began = Instant::now();
    let output = cargo.output().expect("cargo starts");
    assert!(output.status.success(), "the binary builds");
    if began.elapsed() >= BUILD_TOLD_FROM {
        // Not by a macro for tests, whose output is shown only of those that fail.
        let line =
            format!("{name} took {} s to build, which the time of the tests includes\n", began.elapsed().as_secs());
        io::stderr().write_all(line.as_bytes()).expect("standard error is open");
    }
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let mut messages = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let path = messages.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    path.expect("cargo says where the binary is")
}

impl Run {
    /// The one document of JSON that a command printed that did what it was asked.
    #[track_caller]
    pub fn document(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        let document = serde_json::from_str(&self.stdout);
        document.unwrap_or_else(|error| panic!("not one document ({error}): {}", self.stdout))
    }

    /// The text of a member that a command showed on a line of its own.
    #[track_caller]
    pub fn member(&self, name: &str) -> &str {
        let line = self.stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("  "));
        line.unwrap_or_else(|| panic!("no {name}: {}", self.stdout)).trim()
    }

    /// The command printed nothing, said this on standard error, and ended with this code.
    #[track_caller]
    pub fn is_refused(&self, code: i32, said: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{}", self.stderr);
        assert!(self.stderr.contains(said), "{}", self.stderr);
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        Run {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

fn spawn(folder: &Path, options: &Options) -> Child {
    // A killed hub has left its file, which has the old ports.
    _ = fs::remove_file(folder.join("hub.addr"));
    let mut command = command(&["serve", "--data-dir"]);
    command.arg(folder).args(&options.args);
    for flag in ["--control-addr", "--data-addr"] {
        if options.args.iter().all(|arg| arg != flag) {
            command.args([flag, "127.0.0.1:0"]);
        }
    }
    command.envs(options.env.iter().map(|(name, value)| (name, value)));
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts")
}

/// Waits until the hub is ready and says where it listens.
fn await_addrs(folder: &Path, child: &mut Child, said: &Said) -> (SocketAddr, SocketAddr) {
    let stderr = child.stderr.take().expect("it is a pipe");
    let reader = thread::spawn({
        let said = said.clone();
        move || drain(stderr, &said)
    });
    let start = Instant::now();
    loop {
        if let Some(addrs) = read_addrs(folder, true) {
            return addrs;
        }
        if let Some(status) = child.try_wait().expect("it was started here") {
            reader.join().expect("reading does not fail");
            panic!("the hub ended at its start ({status}): {}", said.lock().expect("reading does not fail"));
        }
        assert!(start.elapsed() < PATIENCE, "the hub does not start");
        thread::sleep(POLL);
    }
}

/// Reads a pipe to its end, so that the hub never waits for a reader.
fn drain(pipe: impl std::io::Read, said: &Said) {
    for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
        let mut said = said.lock().expect("reading does not fail");
        said.push_str(&String::from_utf8_lossy(&line));
        said.push('\n');
    }
}

/// Where the hub says that it listens; with `needs_ready` once it has recovered.
fn read_addrs(folder: &Path, needs_ready: bool) -> Option<(SocketAddr, SocketAddr)> {
    let text = fs::read_to_string(folder.join("hub.addr")).ok()?;
    let addrs: Value = serde_json::from_str(&text).ok()?;
    let addr = |plane: &str| addrs[plane].as_str()?.parse().ok();
    (!needs_ready || addrs["ready"] == true).then(|| Some((addr("control")?, addr("data")?)))?
}

#[cfg(unix)]
fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it was started here") {
            return status;
        }
        assert!(start.elapsed() < PATIENCE, "the hub does not stop");
        thread::sleep(POLL);
    }
}
