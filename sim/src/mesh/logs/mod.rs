//! Logs: the audit log and the trace, as production writes them, over all processes of the hub, and their invariants.
//!
//! They have a virtual disk of their own, which dies with the journal's. So a crash that is planned for a disk
//! operation hits the journal's commits as often as if there were no logs, and the journal's disk draws the same faults
//! whatever the logs do.
//!
//! In production each log has a thread; here each round writes what it hands over.

mod audit;
mod trace;

pub use audit::LogPage;
use sheratan_core::Timestamp;

use super::oracle::{Violation, holds, line_of_event};
use super::process::DATA;
use crate::disk::{Faults, VirtualDisk};
use crate::draw::{Draw, Stream};
use audit::AuditLedger;
use sheratan_io::audit::Event;
use sheratan_io::audit::{self as audit_log, Feed};
use sheratan_io::http::Reply;
use sheratan_io::journal::HubId;
use sheratan_io::service::{Page, Problem};
use sheratan_io::shell::reader::audit_page;
use sheratan_io::trace::{self as trace_ring, Pending};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trace::{Damage, TraceLedger};

/// Older files of the audit log that are kept: few, so that some are removed in a run.
const AUDIT_FILES_KEPT: u32 = 4;

/// A crash that is planned for the logs' disk happens within so many of its operations.
const CRASH_WITHIN_OPS: u64 = 12;

/// Mean seconds until written bytes are durable without a sync, as operating systems write back by themselves.
const WRITTEN_BACK_S: u64 = 20;

/// The logs of all hub processes.
#[derive(Debug)]
pub struct Logs {
    disk: VirtualDisk,
    draw: Draw,
    audit_settings: audit_log::Settings,
    trace_settings: trace_ring::Settings,
    audit: AuditLedger,
    trace: TraceLedger,
    open: Option<OpenLogs>,
    /// How the last process ended.
    ending: Ending,
    /// The bit that flipped at rest: the file and the byte's offset.
    flipped: Option<(PathBuf, u64)>,
    marks: BTreeMap<&'static str, u64>,
    /// What the events say that were handed over, for the oracle.
    reported: Vec<String>,
}

/// The writers of the running process.
#[derive(Debug)]
struct OpenLogs {
    audit: audit_log::Writer,
    feed: Feed,
    trace: trace_ring::Writer,
}

/// How a process ended, as far as its files are concerned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Ending {
    /// Between two disk operations: all that it wrote is there.
    Between,
    /// Killed within a disk operation: that one may be done in part.
    Within,
    /// By a power cut: bytes that were not durable may be lost.
    Power,
}

impl Logs {
    /// No logs, on an empty disk.
    pub fn new(seed: u64) -> Self {
        let mut draw = Draw::new(seed, Stream::Logs);
        let bytes_max = *draw.pick(&[1 << 10, 4 << 10, 16 << 10]);
        let path = audit_log::path(Path::new(DATA));
        let folder = trace_ring::path(Path::new(DATA));
        let trace_bytes_max = *draw.pick(&[16 << 10, 64 << 10, 512 << 10]);
        Logs {
            disk: VirtualDisk::new(Draw::new(seed, Stream::LogDisk)),
            draw,
            audit_settings: audit_log::Settings { path, bytes_max, kept: AUDIT_FILES_KEPT },
            trace_settings: trace_ring::Settings { folder, bytes_max: trace_bytes_max },
            audit: AuditLedger::default(),
            trace: TraceLedger::default(),
            open: None,
            ending: Ending::Between,
            flipped: None,
            marks: BTreeMap::new(),
            reported: Vec::new(),
        }
    }

    /// Starts a process whose journal ends with `last_seq`: checks that the files have what was written, and opens
    /// them. A hub that cannot open its audit log does not start.
    pub fn start(&mut self, hub_id: HubId, last_seq: u64, now: Timestamp) -> Result<io::Result<()>, Violation> {
        self.check_damage(hub_id, last_seq)?;
        self.check(hub_id, last_seq)?;
        let disk = Arc::new(self.disk.clone());
        let (tap, mut feed) = Feed::new(|| {});
        feed.set_wanted(true);
        let audit = match audit_log::Writer::open(disk.clone(), &self.audit_settings, Some(tap)) {
            Ok(audit) => audit,
            Err(error) => return Ok(Err(error)),
        };
        let trace = trace_ring::Writer::open(disk, self.trace_settings.clone(), hub_id, last_seq, now);
        self.trace.begin(last_seq, trace.run_id());
        self.open = Some(OpenLogs { audit, feed, trace });
        Ok(Ok(()))
    }

    /// Writes what a round of the loop has for the logs. `written` is called with lines of the audit log once they are
    /// written.
    pub fn record(
        &mut self,
        now: Timestamp,
        events: Vec<Event>,
        traced: Option<Pending>,
        written: impl FnMut(&[u8]),
    ) -> Result<(), Violation> {
        let Some(open) = &mut self.open else { return Ok(()) };
        self.reported.extend(events.iter().filter_map(line_of_event));
        events.into_iter().for_each(|event| open.audit.take(event));
        open.audit.advance(now);
        open.audit.flush();
        self.audit.written(&mut open.feed, written)?;
        if let Some(pending) = traced {
            self.trace.hand_over(&pending);
            open.trace.take(pending);
            self.trace.note_written(open.trace.run_id(), open.trace.gap());
        }
        Ok(())
    }

    /// A page that was requested, as the log reader's thread reads it. There is no alerts file.
    pub fn page(&self, page: Page) -> Reply {
        match page {
            Page::Audit { after, limit } => audit_page(&self.disk, &self.audit_settings.path, after, limit),
            Page::Alerts { .. } => Problem::new(503, "not_ready", "there is no file of alerts".to_owned()).into_reply(),
        }
    }

    /// Checks a page of the audit log that a reader was given.
    pub fn check_page(&mut self, page: &LogPage) -> Result<(), Violation> {
        if self.audit.check_page(&self.disk, &self.audit_settings.path, page)? {
            self.mark("audit page read: what it should begin with has gone");
        }
        Ok(())
    }

    /// Closes the logs in an orderly stop. Returns how many events of the audit log were not written.
    pub fn finish(&mut self, last_seq: u64, now: Timestamp) -> Result<usize, Violation> {
        let Some(OpenLogs { audit, mut feed, trace }) = self.open.take() else { return Ok(0) };
        self.trace.ended(trace.finish(last_seq, now));
        let lost = audit.finish();
        self.audit.written(&mut feed, |_| {})?;
        Ok(lost)
    }

    /// Checks the files after the last process has ended.
    pub fn final_check(&mut self, hub_id: HubId, last_seq: u64) -> Result<(), Violation> {
        self.disk.kill();
        self.check(hub_id, last_seq)
    }

    fn check(&mut self, hub_id: HubId, last_seq: u64) -> Result<(), Violation> {
        let ending = std::mem::replace(&mut self.ending, Ending::Between);
        let report = self.audit.check(&self.disk, &self.audit_settings, ending)?;
        if report.torn > 0 {
            self.mark("audit log: a torn line is reported");
        }
        if report.first_seq > 1 {
            self.mark("audit log: the oldest file has gone");
        }
        let coverage = self.trace.check(Arc::new(self.disk.clone()), hub_id, last_seq)?;
        if !coverage.gaps.is_empty() {
            self.mark("trace: a gap is reported");
        }
        if coverage.orphans > 0 {
            self.mark("trace: what followed lost records is left out");
        }
        Ok(())
    }

    /// Checks that a flipped bit is detected: the audit log's check names a line if one follows it, a hub can continue
    /// both logs, and the trace shows no record that was not traced. Then restores the bit, as an operator does from a
    /// copy.
    fn check_damage(&mut self, hub_id: HubId, last_seq: u64) -> Result<(), Violation> {
        let Some((path, at)) = self.flipped.take() else { return Ok(()) };
        if path.starts_with(&self.trace_settings.folder) {
            self.trace.check_damaged(Arc::new(self.disk.clone()), hub_id, last_seq, &Damage::new(&path, at))?;
        } else {
            audit::check_damaged(&self.disk, &self.audit_settings.path, &path, at)?;
            self.mark("audit log: damage was checked");
        }
        self.disk.unflip();
        Ok(())
    }

    /// Flips a bit at rest, while no hub runs. True if there was a file to flip it in.
    pub fn flip(&mut self) -> bool {
        if self.flipped.is_some() || self.open.is_some() {
            return false;
        }
        let settings = (&self.trace_settings.folder, self.audit_settings.path.parent());
        let folder = if self.draw.chance(500) { Some(settings.0.as_path()) } else { settings.1 };
        self.flipped = self.disk.flip_bit_of(&mut self.draw, |path| path.parent() == folder);
        self.flipped.is_some()
    }

    /// Kills the process; what it wrote stays.
    pub fn kill(&mut self) {
        self.end(Ending::Between);
        self.disk.kill();
    }

    /// Cuts the power.
    pub fn power_off(&mut self) {
        self.end(Ending::Power);
        self.trace.cut_power();
        self.disk.crash(&mut self.draw);
    }

    fn end(&mut self, ending: Ending) {
        // If this process did not get to check the files, an earlier one's losses are still to be checked.
        self.ending = self.ending.max(ending);
        if self.disk.is_dead() {
            self.ending = self.ending.max(Ending::Within);
            self.trace.note_unreported();
        }
        self.open = None;
    }

    /// Draws whether a planned crash is the logs', and plans it for one of their disk's next operations if so.
    pub fn crash_later(&mut self) -> bool {
        let is_logs = self.open.is_some() && self.draw.chance(250);
        if is_logs {
            self.disk.crash_at(self.disk.ops() + 1 + self.draw.below(CRASH_WITHIN_OPS));
        }
        is_logs
    }

    /// Whether the disk, and the process with it, died at an operation.
    pub fn is_dead(&self) -> bool {
        self.disk.is_dead()
    }

    /// Draws whether the process that died at an operation was killed; else the power was cut.
    pub fn was_killed(&mut self) -> bool {
        self.draw.chance(500)
    }

    /// Lets a second pass, after which the disk may write back.
    pub fn pass_second(&mut self) {
        if self.draw.below(WRITTEN_BACK_S) == 0 {
            self.disk.write_back();
        }
    }

    /// Sets how many writes fail from now on. Syncs do not fail: nothing is promised of a chain after a failed sync.
    pub fn set_faults(&mut self, write_permille: u64) {
        self.disk.set_faults(Faults { write_permille, ..Faults::default() });
    }

    /// Sets whether the disk is full.
    pub fn set_full(&mut self, is_full: bool) {
        self.disk.set_full(is_full);
    }

    /// What the events say that were handed over since the last call.
    pub fn take_reported(&mut self) -> Vec<String> {
        std::mem::take(&mut self.reported)
    }

    /// Lines of the audit log that were written, over all processes.
    pub fn lines(&self) -> u64 {
        self.audit.lines()
    }

    /// The last line of the audit log that was reported as written.
    pub fn last_line(&self) -> u64 {
        self.audit.last_line()
    }

    /// Disk faults that were injected, by name.
    pub fn tally(&self) -> BTreeMap<&'static str, u64> {
        self.disk.tally()
    }

    /// Events that were counted by name.
    pub fn marks(&self) -> &BTreeMap<&'static str, u64> {
        &self.marks
    }

    fn mark(&mut self, name: &'static str) {
        *self.marks.entry(name).or_default() += 1;
    }
}
