//! Process: the command that runs one job, with its input and its outputs.
//!
//! Four threads serve it: one writes its input, two read its outputs, one waits for its end. So a command may read
//! late, print much, or close its output early without a deadlock. It runs in a process group of its own: an interrupt
//! of the terminal does not reach it, and killing it kills its children.

use crate::platform::process as platform;
use crossbeam_channel::Receiver;
use shared_child::SharedChild;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// The most bytes that are kept of a command's output; the hub's limit is usually lower (`max_body_bytes`).
pub const RESULT_BYTES_MAX: usize = 16 << 20;

/// The end of a failed command's messages: enough for the last error, within what the hub keeps of an attempt's error.
const MESSAGE_BYTES_MAX: usize = 2_048;

/// How long outputs may stay open after the command ended, held by processes that it left running.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// The command of a job.
#[derive(Clone, Debug)]
pub enum Program {
    /// A line for the shell.
    Shell(String),
    /// A program and its arguments; not empty.
    Direct(Vec<OsString>),
}

/// A command that runs, or has just ended.
pub struct Process {
    child: Arc<SharedChild>,
    ended: Receiver<io::Result<ExitStatus>>,
    output: Receiver<Output>,
    messages: Receiver<Vec<u8>>,
}

/// The output of a command.
#[derive(Debug)]
pub struct Output {
    /// The bytes, up to [`RESULT_BYTES_MAX`].
    pub bytes: Vec<u8>,
    /// Whether there were more.
    pub is_cut: bool,
}

/// How a command ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: io::Result<ExitStatus>,
    /// Its output.
    pub output: Output,
    /// The end of its messages.
    pub messages: String,
}

impl Program {
    fn command(&self) -> Command {
        match self {
            Program::Direct(words) => {
                let (program, arguments) = words.split_first().expect("a program is at least one word");
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            Program::Shell(line) => platform::shell(line),
        }
    }
}

impl Process {
    /// Starts a command with `input` on its standard input.
    pub fn start(program: &Program, input: Vec<u8>, environment: &[(&str, String)]) -> io::Result<Self> {
        let mut command = program.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        platform::in_own_group(&mut command);
        let child = Arc::new(SharedChild::spawn(&mut command)?);
        let mut stdin = child.take_stdin().expect("its input was piped");
        // A command may end without reading its input.
        std::thread::spawn(move || _ = stdin.write_all(&input));
        let stdout = child.take_stdout().expect("its output was piped");
        let output = on_thread(move || read_head(stdout, RESULT_BYTES_MAX));
        let stderr = child.take_stderr().expect("its messages were piped");
        let messages = on_thread(move || read_tail(stderr, MESSAGE_BYTES_MAX));
        let waited = Arc::clone(&child);
        let ended = on_thread(move || waited.wait());
        Ok(Process { child, ended, output, messages })
    }

    /// Receives a message when the command has ended, to be passed to [`Process::finish`].
    pub fn ended(&self) -> &Receiver<io::Result<ExitStatus>> {
        &self.ended
    }

    /// Kills the command and its children. The group's id is not reused while it has a member; the time between its
    /// last member's end and this call is too short for the system to cycle through all ids.
    pub fn kill(&self) {
        platform::kill_group(self.child.id());
        // It may have ended just now.
        let _ = self.child.kill();
    }

    /// How the command ended, for the message that [`Process::ended`] received.
    pub fn finish(self, status: io::Result<ExitStatus>) -> Finished {
        let output = self.output.recv_timeout(OUTPUT_GRACE).or_else(|_| {
            platform::kill_group(self.child.id());
            self.output.recv_timeout(OUTPUT_GRACE)
        });
        let output = output.unwrap_or(Output { bytes: Vec::new(), is_cut: true });
        let messages = self.messages.recv_timeout(OUTPUT_GRACE).unwrap_or_default();
        Finished { status, output, messages: String::from_utf8_lossy(&messages).into_owned() }
    }
}

fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    // The output of a killed command is not waited for.
    std::thread::spawn(move || _ = sender.send(work()));
    receiver
}

/// The first bytes; the others are read and dropped, so that the command does not block on a full pipe.
fn read_head(mut from: impl Read, bytes_max: usize) -> Output {
    let mut bytes = Vec::new();
    // An output that cannot be read any more has ended.
    let _ = from.by_ref().take(bytes_max as u64).read_to_end(&mut bytes);
    let rest = io::copy(&mut from, &mut io::sink()).unwrap_or(0);
    Output { bytes, is_cut: rest > 0 }
}

/// The last bytes.
fn read_tail(mut from: impl Read, bytes_max: usize) -> Vec<u8> {
    let mut tail = Vec::new();
    let mut buffer = [0; 4_096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        tail.extend_from_slice(&buffer[..count]);
        let surplus = tail.len().saturating_sub(bytes_max);
        tail.drain(..surplus);
    }
    tail
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::time::Instant;

    fn run(line: &str, input: &[u8]) -> Finished {
        let program = Program::Shell(line.to_owned());
        let process = Process::start(&program, input.to_vec(), &[("SHERATAN_JOB_ID", "job_1".to_owned())]).unwrap();
        let status = process.ended().recv().unwrap();
        process.finish(status)
    }

    #[test]
    fn a_command_gets_its_input_and_environment_and_returns_its_output_and_exit_code() {
        let finished = run("cat; printf %s \"$SHERATAN_JOB_ID\"; echo oops >&2; exit 3", b"in:");
        assert_eq!(finished.output.bytes, b"in:job_1");
        assert_eq!(finished.messages, "oops\n");
        assert_eq!(finished.status.unwrap().code(), Some(3));
    }

    #[test]
    fn a_command_that_never_reads_a_large_input_or_prints_much_does_not_hang() {
        let large = vec![b'x'; 4 << 20];
        assert_eq!(run("exit 0", &large).status.unwrap().code(), Some(0));
        let finished = run(&format!("head -c {} /dev/zero", RESULT_BYTES_MAX + 1), b"");
        assert_eq!(finished.output.bytes.len(), RESULT_BYTES_MAX);
        assert!(finished.output.is_cut);
        assert_eq!(run("head -c 100000 /dev/zero >&2", b"").messages.len(), MESSAGE_BYTES_MAX);
    }

    #[test]
    fn processes_that_a_command_left_running_do_not_delay_its_result() {
        let started = Instant::now();
        let finished = run("sleep 60 & echo done", b"");
        assert_eq!(finished.output.bytes, b"done\n");
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }

    #[test]
    fn killing_a_command_kills_its_children() {
        let program = Program::Shell("sleep 60 & sleep 60; echo never".to_owned());
        let process = Process::start(&program, Vec::new(), &[]).unwrap();
        process.kill();
        let status = process.ended().recv().unwrap();
        let finished = process.finish(status);
        assert!(!finished.status.unwrap().success());
        assert!(finished.output.bytes.is_empty());
    }

    #[test]
    fn a_program_runs_without_a_shell() {
        let words = ["printf", "%s", "$HOME; `x`"].map(OsString::from);
        let process = Process::start(&Program::Direct(words.to_vec()), Vec::new(), &[]).unwrap();
        let status = process.ended().recv().unwrap();
        assert_eq!(process.finish(status).output.bytes, b"$HOME; `x`");
        assert!(Process::start(&Program::Direct(vec!["/no/such/program".into()]), Vec::new(), &[]).is_err());
    }
}
