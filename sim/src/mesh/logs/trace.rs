//! The trace's ledger: what was handed to the trace, and whether what is read is that, in order, with gaps told.

use super::{DATA, Violation, holds};
use sheratan_io::disk::Disk;
use sheratan_io::journal::HubId;
use sheratan_io::trace::{Coverage, Gap, HEADER_BYTES, Pending, Reader};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::path::Path;
use std::sync::Arc;

const TRUE: &str = "the trace has what was traced";

/// What was traced, life by life.
#[derive(Debug, Default)]
pub struct TraceLedger {
    lives: Vec<TracedLife>,
}

/// A bit that flipped at rest.
#[derive(Debug)]
pub struct Damage {
    /// The file's number.
    file: Option<u64>,
    /// Whether it is where the file says whose it is, and where its life begins.
    is_in_header: bool,
}

impl Damage {
    /// In that byte of that file.
    pub fn new(path: &Path, at: u64) -> Self {
        let name = path.file_stem().and_then(|name| name.to_str());
        let file = name.and_then(|name| name.strip_prefix("trace-")?.parse().ok());
        Damage { file, is_in_header: at < HEADER_BYTES as u64 }
    }
}

/// What one life traced.
#[derive(Debug)]
struct TracedLife {
    /// The journal's last record at its start.
    begins: u64,
    /// What its files call it; none if there was none: a disk that took nothing in a whole life leaves no trace of it.
    life: Option<u64>,
    records: Vec<Traced>,
    /// What was handed over last.
    last: Option<Gap>,
    /// What it knew to be missing, and had told in no file, when it died.
    untold: Option<Gap>,
    /// Whether the power was cut before its files must have been on the disk.
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
    /// A life begins; what its files call it, if one says where.
    pub fn begin(&mut self, begins: u64, life: Option<u64>) {
        self.lives.push(TracedLife { begins, life, records: Vec::new(), last: None, untold: None, is_cut: false });
    }

    /// What a round traced is handed over.
    pub fn take(&mut self, pending: &Pending) {
        let Some(life) = self.lives.last_mut() else { return };
        life.last = None;
        for entry in pending.entries() {
            let traced = Traced::new(entry.after_seq, entry.now.as_millis(), entry.command);
            let from = life.last.map_or(entry.now, |last| last.from);
            life.last = Some(Gap { from, to: entry.now, records: 0 });
            life.records.push(traced);
        }
    }

    /// It was written: what its files call the life by now, and what is missing and no file says so yet.
    pub fn taken(&mut self, life: Option<u64>, gap: Option<Gap>) {
        if let Some(last) = self.lives.last_mut() {
            (last.life, last.untold) = (life, gap);
        }
    }

    /// It ended in good order; its first file may be the one that the end's record needed.
    pub fn ended(&mut self, life: Option<u64>) {
        if let Some(last) = self.lives.last_mut() {
            last.life = life;
        }
    }

    /// The process died while it wrote what was handed over last.
    pub fn untold_last(&mut self) {
        let Some(life) = self.lives.last_mut() else { return };
        life.untold = match (life.untold, life.last) {
            (Some(untold), Some(last)) => Some(Gap { to: last.to, ..untold }),
            (untold, last) => untold.or(last),
        };
    }

    /// The power is cut.
    pub fn lose(&mut self) {
        self.lives.iter_mut().for_each(|life| life.is_cut = true);
    }

    /// Reads the trace of a journal that ends with `last_seq`: each record was traced, they are in order, belong to the
    /// history that is, and what is missing is told or follows from how the life ended.
    pub fn check(&self, disk: Arc<dyn Disk>, hub_id: HubId, last_seq: u64) -> Result<Coverage, Violation> {
        self.read(disk, hub_id, last_seq, None)
    }

    /// The same of a trace in which a bit has flipped, which takes records and tells of it only in part.
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
        // A life's records count up to where the journal begins that outlived it, if the file that says so is readable.
        let lost = damage.filter(|damage| damage.is_in_header).and_then(|damage| damage.file);
        let is_known = |life: &&TracedLife| life.life.is_some() && life.life != lost;
        let begins = |later: &[TracedLife]| later.iter().filter(is_known).map(|life| life.begins).min();
        let limits: Vec<u64> =
            (1..=self.lives.len()).map(|next| begins(&self.lives[next..]).unwrap_or(u64::MAX).min(last_seq)).collect();
        let mut traced =
            self.lives.iter().enumerate().flat_map(|(at, life)| life.records.iter().map(move |it| (at, it)));
        let mut skipped: Vec<(usize, Traced)> = Vec::new();
        let mut before = None::<(usize, Traced)>;
        loop {
            let found = reader.next().map_err(unreadable)?;
            let found = found.map(|entry| Traced::new(entry.after_seq, entry.now.as_millis(), entry.command));
            let found_life = reader.run_id();
            let mut at = None;
            for (life, record) in traced.by_ref() {
                // Where the clock was set back two lives may have traced the same at the same instant.
                if found.as_ref() == Some(record) && self.lives[life].life == found_life {
                    at = Some((life, *record));
                    break;
                }
                skipped.push((life, *record));
            }
            if let Some(record) = &found {
                holds(at.is_some(), TRUE, || {
                    format!("{record:?} was not traced, or before the one that was read last")
                })?;
            }
            if let Some((life, record)) = at {
                holds(record.after_seq <= limits[life], "a traced record belongs to the history that is", || {
                    format!("{record:?} of life {life} is read, whose journal was lost after {}", limits[life])
                })?;
            }
            for (life, record) in skipped.drain(..) {
                // In a power cut a life may lose its end, and what came in one instant with the last that is left.
                let is_end = at.is_none_or(|(next, _)| next != life);
                let is_alike = before.is_some_and(|(last, left)| last == life && left.now == record.now);
                // The ring has gone round. A life's clock may begin before the end of the last one's.
                let is_old = coverage.begins.is_some_and(|(seq, now)| {
                    record.now <= now.as_millis() || before.is_none() && is_end && record.after_seq <= seq
                });
                let is_excused = damage.is_some()
                    || is_old
                    || record.after_seq > limits[life]
                    || coverage.gaps.iter().chain(&self.lives[life].untold).any(|gap| record.is_in(gap))
                    || self.lives[life].is_cut && (is_end || is_alike);
                holds(is_excused, "what is missing in the trace is told", || {
                    format!("{record:?} of life {life} is missing; told are {coverage:?}")
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

    /// Lives of the trace on a disk that has room or not.
    struct Lives {
        disk: VirtualDisk,
        ledger: TraceLedger,
        writer: Option<Writer>,
    }

    impl Lives {
        fn new() -> Self {
            let disk = VirtualDisk::new(Draw::new(1, Stream::LogDisk));
            disk.create_folder(Path::new(DATA)).unwrap();
            Lives { disk, ledger: TraceLedger::default(), writer: None }
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
            self.ledger.take(&pending);
            let writer = self.writer.as_mut().unwrap();
            writer.take(pending);
            self.ledger.taken(writer.run_id(), writer.gap());
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
    fn of_two_lives_records_that_are_alike_the_ledger_knows_which_is_missing() {
        for is_first_missing in [true, false] {
            let mut lives = Lives::new();
            lives.begin(1);
            lives.trace(0, 5, is_first_missing);
            lives.die();
            // The clock was set back meanwhile, and the same came at the same instant.
            lives.begin(2);
            lives.trace(0, 5, !is_first_missing);
            lives.die();
            assert_eq!(lives.check(0).unwrap().records, 1);
        }
    }

    #[test]
    fn a_record_of_the_history_that_is_may_be_like_one_of_a_history_that_was_lost() {
        let mut lives = Lives::new();
        lives.begin(1);
        lives.trace(1, 5, false);
        lives.die();
        // The journal's record 1 was lost; then the same came again.
        lives.begin(2);
        lives.trace(1, 5, false);
        lives.die();
        let told = lives.check(1).unwrap();
        assert_eq!((told.records, told.orphans), (1, 1));
    }

    #[test]
    fn where_a_life_begins_is_unknown_if_its_first_file_s_header_is_damaged_and_only_then() {
        let mut lives = Lives::new();
        lives.begin(1);
        lives.trace(1, 5, false);
        lives.die();
        // The journal's record 1 was lost.
        lives.begin(2);
        lives.trace(0, 6, false);
        lives.die();
        let file = path(Path::new(DATA)).join("trace-00000000000000000002.seg");
        let mut bytes = Vec::new();
        lives.disk.read_into(&file, &mut bytes).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            lives.disk.remove(&file).unwrap();
            lives.disk.create(&file).unwrap().write_all(&damaged).unwrap();
            let damage = Damage::new(&file, at as u64);
            let read = lives.ledger.check_damaged(Arc::new(lives.disk.clone()), HUB, 1, &damage).unwrap();
            assert_eq!(read.orphans == 0, at < HEADER_BYTES, "byte {at}: {read:?}");
        }
    }

    #[test]
    fn what_is_missing_and_was_told_nowhere_is_a_violation() {
        let mut lives = Lives::new();
        lives.begin(1);
        lives.trace(0, 5, true);
        lives.trace(0, 6, false);
        lives.die();
        let told = lives.check(0).unwrap();
        assert_eq!((told.records, told.gaps.len()), (1, 1), "a gap's record tells of it");
        lives.ledger.lives[0].records.push(Traced::new(0, 7, b"in no file"));
        lives.begin(8);
        lives.trace(0, 9, false);
        lives.die();
        assert_eq!(lives.check(0).unwrap_err().invariant, "what is missing in the trace is told");
    }
}
