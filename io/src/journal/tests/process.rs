//! Other processes: a hub that holds the lock, one that is killed, and one whose files may not grow.
//!
//! The child is this test binary; an environment variable selects its part.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::tempdir;

const PART: &str = "SHERATAN_JOURNAL_TEST_PART";
const FOLDER: &str = "SHERATAN_JOURNAL_TEST_FOLDER";

/// Appends a batch of three records for each line that it reads, and prints the last durable record.
#[test]
#[ignore = "the child process of other tests"]
fn child() {
    #[cfg_attr(not(target_os = "linux"), allow(unused_variables, reason = "only Linux limits a file's size here"))]
    let Ok(part) = std::env::var(PART) else { return };
    let folder = std::env::var(FOLDER).expect("the parent sets the folder");
    #[cfg(target_os = "linux")]
    if part == "limited" {
        limit_file_size(8 << 10);
    }
    let mut line = String::new();
    let mut input = std::io::stdin().lines();
    let (_store, mut appender) = match open(Path::new(&folder)) {
        Ok((store, appender, ..)) => (store, appender),
        Err(error) => return report(&format!("refused {error}")),
    };
    report("open");
    while let Some(Ok(next)) = input.next() {
        line.clear();
        line.push_str(&next);
        #[cfg(target_os = "linux")]
        if line == "grow" {
            limit_file_size(1 << 30);
            continue;
        }
        let first = appender.next_seq();
        match appender.append(first, &mut batch(first..=first + 2), hash(first)) {
            Ok(durable) => report(&format!("durable {durable}")),
            Err(AppendError::NoSpace { .. }) => report("no space"),
            Err(error) => report(&error.to_string()),
        }
    }
}

fn report(line: &str) {
    println!("\n> {line}");
    std::io::stdout().flush().expect("the parent reads the output");
}

/// The soft limit only, so that it can be raised again.
#[cfg(target_os = "linux")]
fn limit_file_size(bytes: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: Some(bytes), maximum }).expect("below the hard limit");
}

struct Hub {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Hub {
    fn start(part: &str, folder: &TempDir) -> Hub {
        // A shell in between, because only an ignored SIGXFSZ makes a write beyond the limit an error.
        let binary = std::env::current_exe().expect("the test binary has a path");
        let mut command = if cfg!(unix) { Command::new("sh") } else { Command::new(&binary) };
        if cfg!(unix) {
            command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(&binary);
        }
        let mut process = command
            .args(["--exact", "journal::tests::process::child", "--ignored", "--nocapture"])
            .env(PART, part)
            .env(FOLDER, folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test binary starts");
        let input = process.stdin.take().expect("it is piped");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        Hub { process, input, output }
    }

    fn send(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("the child reads its input");
    }

    fn next_line(&mut self) -> String {
        let mut line = String::new();
        while !line.starts_with("> ") {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).expect("the output can be read"), 0, "the child has exited");
        }
        line[2..].trim().to_owned()
    }

    fn kill(mut self) {
        self.process.kill().expect("the child runs");
        self.process.wait().expect("the child was killed");
    }
}

#[test]
fn a_hub_in_another_process_holds_the_lock_until_it_is_killed() {
    let folder = tempdir().unwrap();
    let mut first = Hub::start("first", &folder);
    assert_eq!(first.next_line(), "open");
    let error = open(folder.path()).map(drop).unwrap_err();
    let pid = first.process.id();
    assert!(matches!(&error, OpenError::Lock(LockError::Held { pid: Some(found), .. }) if *found == pid), "{error}");
    let mut second = Hub::start("second", &folder);
    assert!(second.next_line().contains(&format!("in use by process {pid}")));
    second.process.wait().unwrap();
    first.kill();
    opened(&folder);
}

#[test]
fn a_killed_hub_loses_no_record_that_it_reported_as_durable() {
    let folder = tempdir().unwrap();
    let mut durable = 0;
    for run in 0..12 {
        let mut hub = Hub::start("killed", &folder);
        assert_eq!(hub.next_line(), "open");
        // More batches are requested than are awaited, so that the kill interrupts the appender.
        (0..50).for_each(|_| hub.send("append"));
        for _ in 0..run * 3 {
            let line = hub.next_line();
            durable = line.strip_prefix("durable ").expect("the disk works").parse().unwrap();
        }
        hub.kill();
        let found = opened(&folder).2;
        assert!(found >= durable, "run {run}: {found} of {durable}");
        assert!(found.is_multiple_of(3), "run {run}: all records of a batch, or none");
        durable = found;
    }
}

#[cfg(target_os = "linux")]
#[test]
fn without_space_nothing_is_acknowledged_and_with_space_again_appending_continues_without_a_restart() {
    let folder = tempdir().unwrap();
    // The first start needs space for a segment.
    let first = opened(&folder);
    drop(first);
    let mut hub = Hub::start("limited", &folder);
    assert_eq!(hub.next_line(), "open");
    let mut durable = 0;
    loop {
        hub.send("append");
        let line = hub.next_line();
        match line.strip_prefix("durable ") {
            Some(seq) => durable = seq.parse().unwrap(),
            None => break assert_eq!(line, "no space"),
        }
    }
    for _ in 0..3 {
        hub.send("append");
        assert_eq!(hub.next_line(), "no space");
    }
    assert!(durable > 0, "there is space for some batches");
    hub.send("grow");
    for _ in 0..100 {
        hub.send("append");
        durable += 3;
        assert_eq!(hub.next_line(), format!("durable {durable}"));
    }
    hub.kill();
    assert_eq!(opened(&folder).2, durable);
}
