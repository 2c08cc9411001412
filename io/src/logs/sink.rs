//! The sink: a thread that writes lines, and counts those that could not be written.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for the thread: a second of a hub that logs each request. They take about 200 bytes each.
const LINES_MAX: usize = 8_192;

/// How long a count of lost lines waits for a next line before it is written by itself.
const RETRY: Duration = Duration::from_millis(500);

/// The handle to the thread.
#[derive(Debug)]
pub struct Sink {
    writer: LineWriter,
    /// Disconnected when the thread ends.
    running: Receiver<()>,
}

/// The writer of one logger.
#[derive(Clone, Debug)]
pub struct LineWriter {
    /// An empty line ends the thread.
    lines: Sender<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

impl Sink {
    /// Starts a thread that calls `write` for each line; `notice` makes the line that reports how many were lost.
    pub fn start(
        name: &str,
        notice: fn(u64) -> String,
        write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, lines) = bounded(LINES_MAX);
        let (end, running) = bounded(0);
        let lost = Arc::new(AtomicU64::new(0));
        let mut drain = Drain { lines, lost: lost.clone(), notice, write };
        std::thread::Builder::new().name(name.into()).spawn(move || {
            drain.run();
            drop(end);
        })?;
        Ok(Sink { writer: LineWriter { lines: sender, lost }, running })
    }

    /// A writer for a logger.
    pub fn writer(&self) -> LineWriter {
        self.writer.clone()
    }

    /// Waits until everything is written, at most twice as long as `wait`. Later lines are lost.
    pub fn finish(&mut self, wait: Duration) {
        // If it cannot be sent, the thread is stuck, and the remaining lines are lost.
        if self.writer.lines.send_timeout(Vec::new(), wait).is_ok() {
            // Nothing is ever sent: the wait ends when the channel is disconnected.
            _ = self.running.recv_timeout(wait);
        }
    }
}

struct Drain<W> {
    lines: Receiver<Vec<u8>>,
    lost: Arc<AtomicU64>,
    notice: fn(u64) -> String,
    write: W,
}

impl<W: FnMut(&[u8]) -> io::Result<()>> Drain<W> {
    fn run(&mut self) {
        loop {
            let is_owing = self.lost.load(Ordering::Relaxed) > 0;
            let wait = if is_owing { RETRY } else { Duration::MAX };
            match self.lines.recv_timeout(wait) {
                Ok(line) if line.is_empty() => break,
                Ok(line) => {
                    if !self.tell_lost() || (self.write)(&line).is_err() {
                        self.lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Err(RecvTimeoutError::Timeout) => _ = self.tell_lost(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.tell_lost();
    }

    /// Writes how many lines were lost, if any; returns whether that succeeded.
    fn tell_lost(&mut self) -> bool {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let is_told = lost == 0 || (self.write)((self.notice)(lost).as_bytes()).is_ok();
        if !is_told {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
        is_told
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = &'a LineWriter;
    fn make_writer(&'a self) -> &'a LineWriter {
        self
    }
}

impl Write for &LineWriter {
    /// The formatter writes each event's line in one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !line.is_empty() && self.lines.try_send(line.to_vec()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn notice(count: u64) -> String {
        format!("{count} lost\n")
    }

    fn log(sink: &Sink, n: u64) {
        (&sink.writer()).write_all(format!("{n}\n").as_bytes()).unwrap();
    }

    /// A sink whose every write waits for permission, and reports its line.
    fn guarded() -> (Sink, Sender<io::Result<()>>, Receiver<String>) {
        let (allow, leave) = bounded(100_000);
        let (tell, written) = bounded(100_000);
        let sink = Sink::start("test", notice, move |line| {
            let result: io::Result<()> = leave.recv().unwrap_or(Ok(()));
            if result.is_ok() {
                tell.send(String::from_utf8(line.to_vec()).unwrap()).unwrap();
            }
            result
        });
        (sink.unwrap(), allow, written)
    }

    #[test]
    fn logging_never_blocks_and_lost_lines_are_counted() {
        let (mut sink, allow, written) = guarded();
        let lines = LINES_MAX as u64 + 1_000;
        for n in 0..lines {
            log(&sink, n);
        }
        drop(allow);
        sink.finish(LONG);
        let written: Vec<_> = written.try_iter().collect();
        let lost: u64 = written.iter().filter_map(|line| line.strip_suffix(" lost\n")?.parse::<u64>().ok()).sum();
        let kept = written.iter().filter(|line| !line.contains("lost")).count() as u64;
        // The thread may hold one line besides those in the channel.
        assert!((999..=1_000).contains(&lost), "{lost}");
        assert_eq!(kept + lost, lines);
    }

    #[test]
    fn lines_lost_to_a_full_disk_are_reported_when_there_is_space_without_a_next_line() {
        let (mut sink, allow, written) = guarded();
        let full = || Err(io::Error::from(io::ErrorKind::StorageFull));
        (0..3).for_each(|n| log(&sink, n));
        // The first line fails; then each line is lost with the notice that would have preceded it.
        (0..3).for_each(|_| allow.send(full()).unwrap());
        // The thread retries by itself, and succeeds now.
        allow.send(Ok(())).unwrap();
        assert_eq!(written.recv_timeout(LONG).unwrap(), "3 lost\n");
        drop(allow);
        log(&sink, 3);
        sink.finish(LONG);
        assert_eq!(written.try_iter().collect::<Vec<_>>(), ["3\n"]);
    }

    #[test]
    fn a_stuck_writer_does_not_keep_the_process_from_ending() {
        let (mut sink, allow, written) = guarded();
        log(&sink, 1);
        sink.finish(Duration::from_millis(1));
        assert!(written.is_empty());
        drop(allow);
        assert_eq!(written.recv_timeout(LONG).unwrap(), "1\n");
    }
}
