//! The trace's ledger: the records that were handed to the trace, and checks of the files against them: the same
//! records, in order, with gaps reported.

use super::{DATA, Violation, holds};
use sheratan_io::disk::Disk;
use sheratan_io::journal::HubId;
use sheratan_io::trace::{Coverage, Gap, HEADER_BYTES, Pending, Reader};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::path::Path;
use std::sync::Arc;

const TRUE: &str = "the trace has what was traced";

/// The records that were traced, by run of the hub.
#[derive(Debug, Default)]
pub struct TraceLedger {
    runs: Vec<TracedRun>,
}

/// A bit that flipped at rest.
#[derive(Debug)]
pub struct Damage {
    /// The file's number.
    file: Option<u64>,
    /// Whether it is in the header, which says whose file it is and where its run of the hub begins.
    is_in_header: bool,
}

impl Damage {
    /// A flipped bit in byte `at` of a file.
    pub fn new(path: &Path, at: u64) -> Self {
        let name = path.file_stem().and_then(|name| name.to_str());
        let file = name.and_then(|name| name.strip_prefix("trace-")?.parse().ok());
        Damage { file, is_in_header: at < HEADER_BYTES as u64 }
    }
}

/// What one run of the hub traced.
#[derive(Debug)]
struct TracedRun {
    /// The journal's last record at its start.
    begins: u64,
    /// Its id in its files; `None` if there are none, as when all writes of the run failed.
    id: Option<u64>,
    records: Vec<Traced>,
    /// The span of the records that were handed over last.
    last: Option<Gap>,
    /// The gap that it knew of and had reported in no file when it died.
    unreported: Option<Gap>,
    /// Whether the power was cut before its files were certain to be durable.
    is_cut: bool,
}

/// A record that was handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Traced {
    after_seq: u64,
    now: u64,
    /// Its command's hash.
    hash: u64,
}

impl TraceLedger {
    /// Begins a run; `id` is its id in its files, if there is one yet.
    pub fn begin(&mut self, begins: u64, id: Option<u64>) {
        self.runs.push(TracedRun { begins, id, records: Vec::new(), last: None, unreported: None, is_cut: false });
    }

    /// Records what a round hands to the trace.
    pub fn hand_over(&mut self, pending: &Pending) {
        let Some(run) = self.runs.last_mut() else { return };
        run.last = None;
        for entry in pending.entries() {
            let traced = Traced::new(entry.after_seq, entry.now.as_millis(), entry.command);
            let from = run.last.map_or(entry.now, |last| last.from);
            run.last = Some(Gap { from, to: entry.now, records: 0 });
            run.records.push(traced);
        }
    }

    /// Records the state after the write: the run's id in its files, and the gap that no file reports yet.
    pub fn note_written(&mut self, id: Option<u64>, gap: Option<Gap>) {
        if let Some(last) = self.runs.last_mut() {
            (last.id, last.unreported) = (id, gap);
        }
    }

    /// Records an orderly end; the run's first file may be the one that the end's record needed.
    pub fn ended(&mut self, id: Option<u64>) {
        if let Some(last) = self.runs.last_mut() {
            last.id = id;
        }
    }

    /// The process died while it wrote what was handed over last: those records may be missing without a report.
    pub fn note_unreported(&mut self) {
        let Some(run) = self.runs.last_mut() else { return };
        run.unreported = match (run.unreported, run.last) {
            (Some(unreported), Some(last)) => Some(Gap { to: last.to, ..unreported }),
            (unreported, last) => unreported.or(last),
        };
    }

    /// Records a power cut: no run's end is certain to be durable.
    pub fn cut_power(&mut self) {
        self.runs.iter_mut().for_each(|run| run.is_cut = true);
    }

    /// Reads the trace of a journal that ends with `last_seq`: each record was traced, they are in order and belong to
    /// the journal's history, and missing records are reported as gaps or follow from how their run ended.
    pub fn check(&self, disk: Arc<dyn Disk>, hub_id: HubId, last_seq: u64) -> Result<Coverage, Violation> {
        self.read(disk, hub_id, last_seq, None)
    }

    /// The same for a trace with a flipped bit, which loses records and reports only some of them.
    pub fn check_damaged(
        &self,
        disk: Arc<dyn Disk>,
        hub_id: HubId,
        last_seq: u64,
        damage: &Damage,
    ) -> Result<Coverage, Violation> {
        self.read(disk, hub_id, last_seq, Some(damage))
    }

    fn read(
        &self,
        disk: Arc<dyn Disk>,
        hub_id: HubId,
        last_seq: u64,
        damage: Option<&Damage>,
    ) -> Result<Coverage, Violation> {
        let unreadable = |error: std::io::Error| Violation { invariant: TRUE, detail: error.to_string() };
        let mut reader = Reader::open_on(disk, Path::new(DATA), hub_id, last_seq).map_err(unreadable)?;
        let coverage = reader.coverage().clone();
        // A run's records count up to where a later run's journal begins, if the header that says so is readable.
        let lost = damage.filter(|damage| damage.is_in_header).and_then(|damage| damage.file);
        let is_known = |run: &&TracedRun| run.id.is_some() && run.id != lost;
        let begins = |later: &[TracedRun]| later.iter().filter(is_known).map(|run| run.begins).min();
        let limits: Vec<u64> =
            (1..=self.runs.len()).map(|next| begins(&self.runs[next..]).unwrap_or(u64::MAX).min(last_seq)).collect();
        let mut traced = self.runs.iter().enumerate().flat_map(|(at, run)| run.records.iter().map(move |it| (at, it)));
        let mut skipped: Vec<(usize, Traced)> = Vec::new();
        let mut before = None::<(usize, Traced)>;
        loop {
            let found = reader.next().map_err(unreadable)?;
            let found = found.map(|entry| Traced::new(entry.after_seq, entry.now.as_millis(), entry.command));
            let found_run = reader.run_id();
            let mut at = None;
            for (run, record) in traced.by_ref() {
                // After the clock was set back two runs may have traced the same record at the same instant.
                if found.as_ref() == Some(record) && self.runs[run].id == found_run {
                    at = Some((run, *record));
                    break;
                }
                skipped.push((run, *record));
            }
            if let Some(record) = &found {
                holds(at.is_some(), TRUE, || {
                    format!("{record:?} was not traced, or before the one that was read last")
                })?;
            }
            if let Some((run, record)) = at {
                holds(record.after_seq <= limits[run], "a traced record belongs to the journal's history", || {
                    format!("{record:?} of run {run} is read, whose journal was lost after {}", limits[run])
                })?;
            }
            for (run, record) in skipped.drain(..) {
                // A power cut may take a run's end, and records of the same instant as the last one that is left.
                let is_end = at.is_none_or(|(next, _)| next != run);
                let is_alike = before.is_some_and(|(last, left)| last == run && left.now == record.now);
                // The ring has removed the oldest files. A run's clock may begin before the end of the last one's.
                let is_old = coverage.begins.is_some_and(|(seq, now)| {
                    record.now <= now.as_millis() || before.is_none() && is_end && record.after_seq <= seq
                });
                let is_excused = damage.is_some()
                    || is_old
                    || record.after_seq > limits[run]
                    || coverage.gaps.iter().chain(&self.runs[run].unreported).any(|gap| record.is_in(gap))
                    || self.runs[run].is_cut && (is_end || is_alike);
                holds(is_excused, "what is missing in the trace is reported as a gap", || {
                    format!("{record:?} of run {run} is missing; the trace reports {coverage:?}")
                })?;
            }
            if found.is_none() {
                return Ok(coverage);
            }
            before = at;
        }
    }
}

impl Traced {
    fn new(after_seq: u64, now: u64, command: &[u8]) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(command);
        Traced { after_seq, now, hash: hasher.finish() }
    }

    fn is_in(&self, gap: &Gap) -> bool {
        (gap.from.as_millis()..=gap.to.as_millis()).contains(&self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::VirtualDisk;
    use crate::draw::{Draw, Stream};
    use sheratan_core::Timestamp;
    use sheratan_io::trace::{Settings, Writer, path};

    const HUB: HubId = HubId([7; 16]);

    fn at(now: u64) -> Timestamp {
        Timestamp::from_millis(now)
    }

    /// Runs of the hub on a disk that may be full.
    struct Runs {
        disk: VirtualDisk,
        ledger: TraceLedger,
        writer: Option<Writer>,
    }

    impl Runs {
        fn new() -> Self {
            let disk = VirtualDisk::new(Draw::new(1, Stream::LogDisk));
            disk.create_folder(Path::new(DATA)).unwrap();
            Runs { disk, ledger: TraceLedger::default(), writer: None }
        }

        fn begin(&mut self, now: u64) {
            self.disk.set_full(false);
            let settings = Settings { folder: path(Path::new(DATA)), bytes_max: 1 << 20 };
            let writer = Writer::open(Arc::new(self.disk.clone()), settings, HUB, 0, at(now));
            self.ledger.begin(0, writer.run_id());
            self.writer = Some(writer);
        }

        fn trace(&mut self, after_seq: u64, now: u64, is_full: bool) {
            self.disk.set_full(is_full);
            let mut pending = Pending::default();
            pending.push(after_seq, at(now), b"the same");
            self.ledger.hand_over(&pending);
            let writer = self.writer.as_mut().unwrap();
            writer.take(pending);
            self.ledger.note_written(writer.run_id(), writer.gap());
        }

        fn die(&mut self) {
            self.writer = None;
            self.disk.kill();
        }

        fn check(&self, last_seq: u64) -> Result<Coverage, Violation> {
            self.ledger.check(Arc::new(self.disk.clone()), HUB, last_seq)
        }
    }

    #[test]
    fn of_equal_records_of_two_runs_the_ledger_knows_which_is_missing() {
        for is_first_missing in [true, false] {
            let mut runs = Runs::new();
            runs.begin(1);
            runs.trace(0, 5, is_first_missing);
            runs.die();
            // The clock was set back meanwhile, and the same record is traced at the same instant.
            runs.begin(2);
            runs.trace(0, 5, !is_first_missing);
            runs.die();
            assert_eq!(runs.check(0).unwrap().records, 1);
        }
    }

    #[test]
    fn a_record_of_the_current_history_may_equal_one_of_a_lost_history() {
        let mut runs = Runs::new();
        runs.begin(1);
        runs.trace(1, 5, false);
        runs.die();
        // The journal's record 1 was lost; then the same record was made again.
        runs.begin(2);
        runs.trace(1, 5, false);
        runs.die();
        let coverage = runs.check(1).unwrap();
        assert_eq!((coverage.records, coverage.orphans), (1, 1));
    }

    #[test]
    fn the_beginning_of_a_run_is_unknown_only_if_its_first_file_s_header_is_damaged() {
        let mut runs = Runs::new();
        runs.begin(1);
        runs.trace(1, 5, false);
        runs.die();
        // The journal's record 1 was lost.
        runs.begin(2);
        runs.trace(0, 6, false);
        runs.die();
        let file = path(Path::new(DATA)).join("trace-00000000000000000002.seg");
        let mut bytes = Vec::new();
        runs.disk.read_into(&file, &mut bytes).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            runs.disk.remove(&file).unwrap();
            runs.disk.create(&file).unwrap().write_all(&damaged).unwrap();
            let damage = Damage::new(&file, at as u64);
            let read = runs.ledger.check_damaged(Arc::new(runs.disk.clone()), HUB, 1, &damage).unwrap();
            assert_eq!(read.orphans == 0, at < HEADER_BYTES, "byte {at}: {read:?}");
        }
    }

    #[test]
    fn a_missing_record_that_no_gap_reports_is_a_violation() {
        let mut runs = Runs::new();
        runs.begin(1);
        runs.trace(0, 5, true);
        runs.trace(0, 6, false);
        runs.die();
        let coverage = runs.check(0).unwrap();
        assert_eq!((coverage.records, coverage.gaps.len()), (1, 1), "the gap is reported");
        runs.ledger.runs[0].records.push(Traced::new(0, 7, b"in no file"));
        runs.begin(8);
        runs.trace(0, 9, false);
        runs.die();
        assert_eq!(runs.check(0).unwrap_err().invariant, "what is missing in the trace is reported as a gap");
    }
}
