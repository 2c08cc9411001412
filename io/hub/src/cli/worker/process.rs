//! Process: the command that runs one job, with its input and its outputs.
//!
//! Four threads serve it: one writes its input, two read its outputs, one waits for its end. So a command may read
//! late, print much, or close its output early without a deadlock. It runs in a process group of its own: an interrupt
//! of the terminal does not reach it, and killing it kills its children. A [`Guard`] kills them when the worker itself is
//! killed.

use super::report::{self, Reports};
use crate::platform::guard::Guard;
use crate::platform::process as platform;
use crossbeam_channel::Receiver;
use shared_child::SharedChild;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most bytes that are kept of a command's output; the hub's limit is usually lower (`max_body_bytes`).
pub const RESULT_BYTES_MAX: usize = 16 << 20;

/// The end of a failed command's messages: enough for the last error, within what the hub keeps of an attempt's error.
const MESSAGE_BYTES_MAX: usize = 2_048;

/// How long outputs may stay open after the command ended, held by processes that it left running.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// Exit codes of a shell that cannot execute or find a command (POSIX).
const SHELL_FAILURES: [i32; 2] = [126, 127];

/// What runs jobs.
pub struct JobCommand {
    /// The program.
    pub program: Program,
    /// Variables of the worker's environment that the program does not get.
    pub hidden: Vec<OsString>,
    /// Kills the program if the worker is killed.
    pub guard: Guard,
}

/// The program of a job.
#[derive(Clone, Debug)]
pub enum Program {
    /// A line for the shell.
    Shell(String),
    /// A program and its arguments; not empty.
    Direct(Vec<OsString>),
}

/// A command that runs, or has just ended.
pub struct Process<'a> {
    child: Arc<SharedChild>,
    guard: &'a Guard,
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

impl JobCommand {
    /// Why the program is not there, if it is not; `None` also if that cannot be told before it runs.
    pub fn missing(&self) -> Option<String> {
        let word = match &self.program {
            Program::Direct(words) => words.first()?.clone(),
            Program::Shell(line) => first_word(line)?.into(),
        };
        let is_there = match &self.program {
            Program::Direct(_) => platform::finds(&word),
            Program::Shell(_) => platform::shell_finds(&word),
        };
        let missing = format!("the command cannot be started: {} is not there, or cannot be executed", word.display());
        (!is_there).then_some(missing)
    }

    /// Why no job can run, if that is why a command ended: its shell did not find it.
    pub fn not_there(&self, finished: &Finished) -> Option<String> {
        let code = finished.status.as_ref().ok()?.code()?;
        let is_shell = matches!(self.program, Program::Shell(_));
        if is_shell && SHELL_FAILURES.contains(&code) { self.missing() } else { None }
    }
}

/// The first word of a shell's line, if it is a plain name or path.
fn first_word(line: &str) -> Option<&str> {
    let word = line.split_whitespace().next()?;
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._+-".contains(letter);
    word.chars().all(is_plain).then_some(word)
}

impl<'a> Process<'a> {
    /// Starts a command with `input` on its standard input; its reports go to `reports`, not into its messages.
    pub fn start(
        job: &'a JobCommand,
        input: Vec<u8>,
        environment: &[(&str, String)],
        reports: &Arc<Reports>,
    ) -> io::Result<Self> {
        let mut command = job.program.command();
        job.hidden.iter().for_each(|name| _ = command.env_remove(name));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        platform::in_own_group(&mut command);
        let child = Arc::new(SharedChild::spawn(&mut command)?);
        job.guard.hold(child.id());
        let mut stdin = child.take_stdin().expect("its input was piped");
        // A command may end without reading its input.
        std::thread::spawn(move || _ = stdin.write_all(&input));
        let stdout = child.take_stdout().expect("its output was piped");
        let output = on_thread(move || read_head(stdout, RESULT_BYTES_MAX));
        let stderr = child.take_stderr().expect("its messages were piped");
        let reports = Arc::clone(reports);
        let messages = on_thread(move || read_messages(stderr, &reports));
        let waited = Arc::clone(&child);
        let ended = on_thread(move || waited.wait());
        Ok(Process { child, guard: &job.guard, ended, output, messages })
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

    /// Asks the command and its children to end, and kills those that are left at `until`.
    pub fn stop(&self, until: Instant) {
        platform::terminate_group(self.child.id());
        // Either the command has ended or the time has come: what is left of the group is killed.
        _ = self.ended.recv_deadline(until);
        self.kill();
    }

    /// How the command ended, for the message that [`Process::ended`] received.
    pub fn finish(&self, status: io::Result<ExitStatus>) -> Finished {
        let output = self.output.recv_timeout(OUTPUT_GRACE).or_else(|_| {
            platform::kill_group(self.child.id());
            self.output.recv_timeout(OUTPUT_GRACE)
        });
        let output = output.unwrap_or(Output { bytes: Vec::new(), is_cut: true });
        let messages = self.messages.recv_timeout(OUTPUT_GRACE).unwrap_or_default();
        Finished { status, output, messages: String::from_utf8_lossy(&messages).into_owned() }
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        self.guard.release(self.child.id());
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

/// The last bytes of a command's messages, without its reports, which are passed on line by line.
fn read_messages(from: impl Read, reports: &Reports) -> Vec<u8> {
    let mut from = BufReader::new(from);
    let (mut tail, mut line, mut is_long) = (Vec::new(), Vec::new(), false);
    loop {
        // A line that is too long for a report comes in parts.
        let part = from.by_ref().take(report::LINE_BYTES_MAX as u64).read_until(b'\n', &mut line);
        if !matches!(part, Ok(1..)) {
            return tail;
        }
        // A whole line ends with a line break, or with the output.
        let is_whole = line.ends_with(b"\n") || line.len() < report::LINE_BYTES_MAX;
        if is_long || !is_whole || !reports.take(line.trim_ascii_end()) {
            tail.extend_from_slice(&line);
            let surplus = tail.len().saturating_sub(MESSAGE_BYTES_MAX);
            tail.drain(..surplus);
        }
        is_long = !is_whole;
        line.clear();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(line: &str) -> JobCommand {
        JobCommand { program: Program::Shell(line.to_owned()), hidden: Vec::new(), guard: Guard::none() }
    }

    fn direct(words: &[&str]) -> JobCommand {
        let program = Program::Direct(words.iter().map(OsString::from).collect());
        JobCommand { program, hidden: Vec::new(), guard: Guard::none() }
    }

    fn run(line: &str, input: &[u8]) -> Finished {
        let command = shell(line);
        let process =
            Process::start(&command, input.to_vec(), &[("SHERATAN_JOB_ID", "job_1".to_owned())], &Arc::default())
                .unwrap();
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
    fn reports_are_whole_lines_and_no_messages() {
        let messages = |bytes: &[u8]| {
            let reports = Reports::default();
            let messages = String::from_utf8(read_messages(bytes, &reports)).unwrap();
            (messages, reports.progress().map(|progress| progress.percent))
        };
        assert_eq!(messages(b"a\nsheratan-progress: 1\r\nb\n"), ("a\nb\n".to_owned(), Some(1)));
        assert_eq!(messages(b"a\nsheratan-progress: 2"), ("a\n".to_owned(), Some(2)));
        let long = format!("sheratan-progress: 3 {}\n", "x".repeat(report::LINE_BYTES_MAX));
        assert_eq!(messages(long.as_bytes()), (long, None));
        let behind = format!("{}sheratan-progress: 4\n", "x".repeat(report::LINE_BYTES_MAX));
        assert_eq!(messages(behind.as_bytes()), (behind, None));
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
        let command = shell("sleep 60 & sleep 60; echo never");
        let process = Process::start(&command, Vec::new(), &[], &Arc::default()).unwrap();
        process.kill();
        let status = process.ended().recv().unwrap();
        let finished = process.finish(status);
        assert!(!finished.status.unwrap().success());
        assert!(finished.output.bytes.is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_command_that_is_stopped_may_clean_up_and_is_killed_if_it_does_not_end() {
        let command = shell("trap 'echo cleaned; exit 0' TERM; echo up; while :; do sleep 0.01; done");
        let process = Process::start(&command, Vec::new(), &[], &Arc::default()).unwrap();
        until_looping(&process);
        process.stop(Instant::now() + Duration::from_secs(60));
        assert_eq!(process.output.recv().unwrap().bytes, b"up\ncleaned\n");
        let stubborn = shell("trap '' TERM; while :; do sleep 0.01; done");
        let process = Process::start(&stubborn, Vec::new(), &[], &Arc::default()).unwrap();
        until_looping(&process);
        process.stop(Instant::now());
        assert_eq!(platform::signal_of(&process.child.wait().unwrap()), Some(9));
    }

    /// Waits until a shell runs the loop behind its trap: then it has a child.
    #[cfg(target_os = "linux")]
    fn until_looping(process: &Process) {
        let children = format!("/proc/{0}/task/{0}/children", process.child.id());
        while std::fs::read_to_string(&children).is_ok_and(|children| children.is_empty()) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_runs_without_a_shell_and_without_hidden_variables() {
        let command = direct(&["printf", "%s", "$HOME; `x`"]);
        let process = Process::start(&command, Vec::new(), &[], &Arc::default()).unwrap();
        let status = process.ended().recv().unwrap();
        assert_eq!(process.finish(status).output.bytes, b"$HOME; `x`");
        assert!(Process::start(&direct(&["/no/such/program"]), Vec::new(), &[], &Arc::default()).is_err());
        let command = JobCommand { hidden: vec!["PATH".into()], ..direct(&["/usr/bin/env"]) };
        let process = Process::start(&command, Vec::new(), &[], &Arc::default()).unwrap();
        let status = process.ended().recv().unwrap();
        let output = process.finish(status).output.bytes;
        assert!(String::from_utf8_lossy(&output).lines().all(|line| !line.starts_with("PATH=")));
    }

    #[test]
    fn a_program_that_is_not_there_is_told_from_a_job_that_fails() {
        for command in [shell("/no/such x"), shell("no-such-program"), direct(&["no-such"]), direct(&["/etc/passwd"])] {
            assert!(command.missing().is_some(), "{:?}", command.program);
        }
        for command in
            [shell("cat"), shell("if true; then :; fi"), shell("X=1 no-such"), direct(&["sh"]), shell("/bin/sh")]
        {
            assert!(command.missing().is_none(), "{:?}", command.program);
        }
        let finished = |code: i32| {
            use std::os::unix::process::ExitStatusExt;
            let output = Output { bytes: Vec::new(), is_cut: false };
            Finished { status: Ok(ExitStatus::from_raw(code << 8)), output, messages: String::new() }
        };
        assert!(shell("/no/such").not_there(&finished(127)).is_some());
        assert!(shell("/no/such").not_there(&finished(1)).is_none());
        assert!(shell("cat").not_there(&finished(127)).is_none(), "it was the job that found no program");
    }
}
