//! Child processes that do not outlive the run: an interrupt or an error ends them, with what they started themselves.

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::platform;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek};
use std::path::Path;
use std::process::{self, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where a child's standard error is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Errors {
    /// To the terminal.
    Shown,
    /// To a file, of which a failure shows the end.
    Kept,
}

/// A process that leads a group of its own. The terminal's ctrl-C does not reach that group: we end it.
struct Child(process::Child);

/// How often a process is polled for its end.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// How long a process may take to end after a request to stop.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of the output a failure shows.
const OUTPUT_BYTES_SHOWN: usize = 4_000;

/// Runs a program to its end, which has to be a success; returns what it printed.
pub fn run(command: &mut Command, errors: Errors, interrupt: &Interrupt) -> Result<String, Failure> {
    let mut output = file()?;
    let mut complaints = file()?;
    let again = |file: &File| file.try_clone().map_err(Failure::system("share the output's file"));
    command.stdin(Stdio::null()).stdout(again(&output)?).stderr(match errors {
        Errors::Shown => Stdio::inherit(),
        Errors::Kept => again(&complaints)?.into(),
    });
    platform::lead_a_group(command);
    let mut child = Child(command.spawn().map_err(|error| cannot_start(command, error))?);
    let status = child.wait(interrupt)?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&read(&mut output)?).into_owned());
    }
    let said = read(&mut complaints)?;
    let end = String::from_utf8_lossy(&said[said.len().saturating_sub(OUTPUT_BYTES_SHOWN)..]);
    Err(Failure::Child { what: line(command), status, output: end.trim_end().to_owned() })
}

impl Child {
    fn wait(&mut self, interrupt: &Interrupt) -> Result<ExitStatus, Failure> {
        loop {
            interrupt.check()?;
            match self.0.try_wait().map_err(Failure::system("wait for a process"))? {
                Some(status) => return Ok(status),
                None => sleep(ASK_EVERY),
            }
        }
    }

    fn ends_within(&mut self, patience: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < patience {
            match self.0.try_wait() {
                Ok(None) => sleep(ASK_EVERY),
                Ok(Some(_)) | Err(_) => return true,
            }
        }
        false
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Errors here mean that the process has ended already, which is the goal.
        if matches!(self.0.try_wait(), Ok(None)) {
            _ = platform::ask_group_to_stop(&mut self.0);
            if !self.ends_within(PATIENCE) {
                _ = platform::kill_group(&mut self.0);
                _ = self.0.wait();
            }
        }
    }
}

fn cannot_start(command: &Command, error: io::Error) -> Failure {
    let program = command.get_program().to_string_lossy().into_owned();
    match error.kind() {
        ErrorKind::NotFound => Failure::NoProgram(program),
        _ => Failure::System { what: format!("start {program}"), error },
    }
}

/// The command as one would type it, its program without the folders.
fn line(command: &Command) -> String {
    let program = command.get_program();
    let name = Path::new(program).file_name().unwrap_or(program);
    let words: Vec<_> = std::iter::once(name).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

fn file() -> Result<File, Failure> {
    tempfile::tempfile().map_err(Failure::system("create a file for a program's output"))
}

fn read(file: &mut File) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(Failure::system("read a program's output"))?;
    Ok(bytes)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_child_s_output_is_returned() {
        let output = run(&mut shell("echo out; echo err >&2"), Errors::Kept, &Interrupt::default());
        assert_eq!(output.expect("it ends well"), "out\n");
    }

    #[test]
    fn a_failure_has_the_command_and_its_output() {
        let failure = run(&mut shell("echo because >&2; exit 3"), Errors::Kept, &Interrupt::default());
        let text = failure.expect_err("it exits with 3").to_string();
        assert!(text.contains("sh -c") && text.contains('3') && text.ends_with("because"), "{text}");
    }

    #[test]
    fn a_program_that_is_not_installed_is_named() {
        let failure = run(&mut Command::new("no-such-program"), Errors::Kept, &Interrupt::default());
        let text = failure.expect_err("there is none").to_string();
        assert!(text.contains("no-such-program"), "{text}");
    }

    #[test]
    fn an_interrupt_ends_a_child_and_what_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        let status = Command::new("mkfifo").arg(&pipe).status().expect("it is there");
        assert!(status.success());
        let interrupt = Interrupt::default();
        let script = format!("sleep 1000 > '{0}' & exec sleep 1000 > '{0}'", pipe.display());
        std::thread::scope(|scope| {
            let run = scope.spawn(|| run(&mut shell(&script), Errors::Kept, &interrupt));
            // Opening waits for a writer; reading ends when no writer is left: both are gone.
            let mut reader = File::open(&pipe).expect("the children write");
            interrupt.raise();
            assert_eq!(reader.read(&mut [0; 1]).expect("it is a pipe"), 0);
            assert!(matches!(run.join().expect("no panic"), Err(Failure::Interrupted)));
        });
        fs::remove_file(&pipe).expect("it was there");
    }
}
