//! Logs: the hub's files beside the journal, the audit log and the trace, as production writes them, over all lives; and
//! what must hold of them.
//!
//! They lie on a disk of their own, which dies with the journal's: so a crash at one of the disk's operations strikes the
//! journal's commits as often as if there were no logs, and the logs' operations as well; and the journal's disk draws the
//! same faults whatever the logs do.
//!
//! In production each log has a thread; here what the loop hands over is written in its round.

mod audit;
mod trace;

pub use audit::LogPage;
use sheratan_core::Timestamp;

use super::oracle::{Violation, holds};
use super::process::DATA;
use crate::disk::{Faults, VirtualDisk};
use crate::draw::{Draw, Stream};
use audit::AuditLedger;
use sheratan_io::audit::{self as audit_log, Feed};
use sheratan_io::http::Reply;
use sheratan_io::journal::HubId;
use sheratan_io::service::{Event, Page, Problem};
use sheratan_io::shell::reader::audit_page;
use sheratan_io::trace::{self as trace_ring, Pending};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trace::{Damage, TraceLedger};

/// Older files of the audit log that are kept: few, so that the oldest go in a run.
const AUDIT_FILES_KEPT: u32 = 4;

/// A crash that is planned for the logs' disk comes within so many of its operations.
const CRASH_WITHIN_OPS: u64 = 12;

/// What was written is on the disk after about so many seconds without being synced: systems write back by themselves.
const WRITTEN_BACK_S: u64 = 20;

/// The logs of all lives.
#[derive(Debug)]
pub struct Logs {
    disk: VirtualDisk,
    draw: Draw,
    audit_settings: audit_log::Settings,
    trace_settings: trace_ring::Settings,
    audit: AuditLedger,
    trace: TraceLedger,
    life: Option<Life>,
    /// How the last life ended.
    ending: Ending,
    /// The bit that flipped at rest: the file and the byte's place.
    flipped: Option<(PathBuf, u64)>,
    marks: BTreeMap<&'static str, u64>,
}

/// What one life has open.
#[derive(Debug)]
struct Life {
    audit: audit_log::Writer,
    feed: Feed,
    trace: trace_ring::Writer,
}

/// How a life ended, as far as its files are concerned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Ending {
    /// All that it wrote is there.
    Between,
    /// It was killed within one of the disk's operations: that one may be done in part.
    Within,
    /// The power was cut: what was not on the disk yet may be gone.
    Power,
}

impl Logs {
    /// No logs yet, on an empty disk.
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
            life: None,
            ending: Ending::Between,
            flipped: None,
            marks: BTreeMap::new(),
        }
    }

    /// A life begins, whose journal ends with `last_seq`: what is there must be what was written, and is gone on with. A
    /// hub that cannot open its audit log does not start.
    pub fn start(&mut self, hub_id: HubId, last_seq: u64, now: Timestamp) -> Result<io::Result<()>, Violation> {
        self.look_at_damage(hub_id, last_seq)?;
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
        self.life = Some(Life { audit, feed, trace });
        Ok(Ok(()))
    }

    /// What a round of the loop has for the logs is written. `written` is told of lines of the audit log once they are there.
    pub fn record(
        &mut self,
        now: Timestamp,
        events: Vec<Event>,
        traced: Option<Pending>,
        written: impl FnMut(&[u8]),
    ) -> Result<(), Violation> {
        let Some(life) = &mut self.life else { return Ok(()) };
        events.into_iter().for_each(|event| life.audit.take(event));
        life.audit.advance(now);
        life.audit.flush();
        self.audit.written(&mut life.feed, written)?;
        if let Some(pending) = traced {
            self.trace.take(&pending);
            life.trace.take(pending);
            self.trace.taken(life.trace.run_id(), life.trace.gap());
        }
        Ok(())
    }

    /// A page that somebody asked for, as the log reader's thread reads it. The alerts' file is not there.
    pub fn page(&self, page: Page) -> Reply {
        match page {
            Page::Audit { after, limit } => audit_page(&self.disk, &self.audit_settings.path, after, limit),
            Page::Alerts { .. } => Problem::new(503, "not_ready", "there is no file of alerts".to_owned()).into_reply(),
        }
    }

    /// Somebody was given a page of the audit log.
    pub fn told_page(&mut self, page: &LogPage) -> Result<(), Violation> {
        if self.audit.check_page(&self.disk, &self.audit_settings.path, page)? {
            self.mark("audit page read: what it should begin with has gone");
        }
        Ok(())
    }

    /// A life ends in good order. Gives how many events of the audit log the disk did not take.
    pub fn finish(&mut self, last_seq: u64, now: Timestamp) -> Result<usize, Violation> {
        let Some(Life { audit, mut feed, trace }) = self.life.take() else { return Ok(0) };
        self.trace.ended(trace.finish(last_seq, now));
        let lost = audit.finish();
        self.audit.written(&mut feed, |_| {})?;
        Ok(lost)
    }

    /// The last look, after the last life has ended.
    pub fn last_look(&mut self, hub_id: HubId, last_seq: u64) -> Result<(), Violation> {
        self.disk.kill();
        self.check(hub_id, last_seq)
    }

    fn check(&mut self, hub_id: HubId, last_seq: u64) -> Result<(), Violation> {
        let ending = std::mem::replace(&mut self.ending, Ending::Between);
        let report = self.audit.check(&self.disk, &self.audit_settings, ending)?;
        if report.torn > 0 {
            self.mark("audit log: a torn line is told");
        }
        if report.first_seq > 1 {
            self.mark("audit log: the oldest file has gone");
        }
        let coverage = self.trace.check(Arc::new(self.disk.clone()), hub_id, last_seq)?;
        if !coverage.gaps.is_empty() {
            self.mark("trace: a gap is told");
        }
        if coverage.orphans > 0 {
            self.mark("trace: what followed lost records is left out");
        }
        Ok(())
    }

    /// A bit that flipped is seen: the audit log's check names a line unless none follows it, the hub can go on with both
    /// logs, and the trace has no record that was not there. Then the bit is turned back, as by whoever has a good copy.
    fn look_at_damage(&mut self, hub_id: HubId, last_seq: u64) -> Result<(), Violation> {
        let Some((path, at)) = self.flipped.take() else { return Ok(()) };
        if path.starts_with(&self.trace_settings.folder) {
            self.trace.check_damaged(Arc::new(self.disk.clone()), hub_id, last_seq, &Damage::new(&path, at))?;
        } else {
            audit::check_damaged(&self.disk, &self.audit_settings.path, &path, at)?;
            self.mark("audit log: damage was looked at");
        }
        self.disk.unflip();
        Ok(())
    }

    /// A bit flips at rest, while no hub runs. True if there was a file for that.
    pub fn flip(&mut self) -> bool {
        if self.flipped.is_some() || self.life.is_some() {
            return false;
        }
        let settings = (&self.trace_settings.folder, self.audit_settings.path.parent());
        let folder = if self.draw.chance(500) { Some(settings.0.as_path()) } else { settings.1 };
        self.flipped = self.disk.flip_bit_of(&mut self.draw, |path| path.parent() == folder);
        self.flipped.is_some()
    }

    /// The process is killed; what it wrote stays.
    pub fn kill(&mut self) {
        self.end(Ending::Between);
        self.disk.kill();
    }

    /// The power is cut.
    pub fn power_off(&mut self) {
        self.end(Ending::Power);
        self.trace.lose();
        self.disk.crash(&mut self.draw);
    }

    fn end(&mut self, ending: Ending) {
        // What an earlier life lost is not looked at yet if this one did not get that far.
        self.ending = self.ending.max(ending);
        if self.disk.is_dead() {
            self.ending = self.ending.max(Ending::Within);
            self.trace.untold_last();
        }
        self.life = None;
    }

    /// The disk dies at one of its next operations, if the crash that is planned is one of the logs'.
    pub fn crash_later(&mut self) -> bool {
        let is_logs = self.life.is_some() && self.draw.chance(250);
        if is_logs {
            self.disk.crash_at(self.disk.ops() + 1 + self.draw.below(CRASH_WITHIN_OPS));
        }
        is_logs
    }

    /// Whether the disk died at an operation, and the process with it.
    pub fn is_dead(&self) -> bool {
        self.disk.is_dead()
    }

    /// Whether whoever died at an operation was killed; else the power was cut.
    pub fn was_killed(&mut self) -> bool {
        self.draw.chance(500)
    }

    /// A second passes.
    pub fn second(&mut self) {
        if self.draw.below(WRITTEN_BACK_S) == 0 {
            self.disk.write_back();
        }
    }

    /// What goes wrong with writes from now on. Syncs do not fail: what they would take from a chain nobody promises.
    pub fn set_faults(&mut self, write_permille: u64) {
        self.disk.set_faults(Faults { write_permille, sync_permille: 0 });
    }

    /// Whether there is no room on the disk.
    pub fn set_full(&mut self, is_full: bool) {
        self.disk.set_full(is_full);
    }

    /// Lines of the audit log that were written, over all lives.
    pub fn lines(&self) -> u64 {
        self.audit.lines()
    }

    /// The last line of the audit log that was told to be in the file.
    pub fn last_line(&self) -> u64 {
        self.audit.last_line()
    }

    /// How often what went wrong with the disk.
    pub fn tally(&self) -> BTreeMap<&'static str, u64> {
        self.disk.tally()
    }

    /// What was seen.
    pub fn marks(&self) -> &BTreeMap<&'static str, u64> {
        &self.marks
    }

    fn mark(&mut self, name: &'static str) {
        *self.marks.entry(name).or_default() += 1;
    }
}
