//! Reading a trace: its records in order, and how much of the hub's history it covers.
//!
//! Two passes over the files, one file in memory at a time: only the next run shows which records a crash cut off the
//! journal's end, and entries that were traced after such a record belong to no history.

use super::format::{self, Entry, Gap, HEADER_BYTES, Header, Place, What};
use super::{Segment, path};
use crate::disk::{Disk, RealDisk};
use crate::journal::HubId;
use sheratan_core::Timestamp;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How much of a hub's history a trace covers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Coverage {
    /// Where it begins: the journal's last record then, and the instant. `None` without a trace.
    pub begins: Option<(u64, Timestamp)>,
    /// Records.
    pub records: u64,
    /// The known gaps: dropped records, and times between two runs without a trace.
    pub gaps: Vec<Gap>,
    /// Records left out because a crash cut the records before them off the journal.
    pub orphans: u64,
    /// Records left out because they follow the journal's end: the hub has run on since the journal was read, or a
    /// crash cut off the journal's last records.
    pub ahead: u64,
    /// Runs before the last one without an end record: entries of their last moments may be missing.
    pub crashes: u64,
}

/// Reads a trace. It takes no lock, so the trace of a running hub can be read.
#[derive(Debug)]
pub struct Reader {
    disk: Arc<dyn Disk>,
    files: Vec<Listed>,
    /// The file that is being read, and the offset in it.
    at: usize,
    offset: usize,
    buffer: Vec<u8>,
    coverage: Coverage,
}

#[derive(Debug)]
struct Listed {
    segment: Segment,
    header: Header,
    /// Where its complete records end.
    end: usize,
    /// The last record of the journal that survived this file's run.
    last_seq: u64,
}

impl Reader {
    /// Opens the trace of a data folder whose journal ends with `last_seq`; reads all of it once.
    pub fn open(data_dir: &Path, hub_id: HubId, last_seq: u64) -> io::Result<Reader> {
        Reader::open_on(Arc::new(RealDisk), data_dir, hub_id, last_seq)
    }

    /// As [`Reader::open`], on any disk.
    pub fn open_on(disk: Arc<dyn Disk>, data_dir: &Path, hub_id: HubId, last_seq: u64) -> io::Result<Reader> {
        let mut files: Vec<Listed> = Vec::new();
        let mut buffer = Vec::new();
        for segment in Segment::list(&*disk, &path(data_dir))? {
            // A running hub keeps writing: the oldest file may be removed by now.
            if !read(&*disk, &segment, &mut buffer)? {
                continue;
            }
            let Some(header) = Header::decode(&buffer).filter(|header| header.hub_id == hub_id) else { continue };
            files.push(Listed { segment, header, end: buffer.len(), last_seq });
        }
        // Backwards: a run's records are valid up to the place where the next run begins, in all of its files.
        let (mut limit, mut next_limit, mut run_id) = (last_seq, last_seq, None);
        for file in files.iter_mut().rev() {
            if run_id != Some(file.header.run_id) {
                (run_id, limit) = (Some(file.header.run_id), next_limit);
                next_limit = limit.min(file.header.run_begins.after_seq);
            }
            file.last_seq = limit;
        }
        let mut reader = Reader { disk, files, at: 0, offset: HEADER_BYTES, buffer, coverage: Coverage::default() };
        reader.cover(last_seq)?;
        Ok(reader)
    }

    /// What the trace covers.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// The run of the record that was read last, by the number of that run's first file.
    pub fn run_id(&self) -> Option<u64> {
        self.files.get(self.at).map(|file| file.header.run_id)
    }

    /// The next record; `None` at the end.
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> io::Result<Option<Entry<'_>>> {
        let found = loop {
            let Some(file) = self.files.get(self.at) else { return Ok(None) };
            if self.offset == HEADER_BYTES && !read(&*self.disk, &file.segment, &mut self.buffer)? {
                self.buffer.clear();
            }
            let bytes = self.buffer.get(self.offset..file.end).unwrap_or_default();
            let Some((record, len)) = format::decode(bytes) else {
                (self.at, self.offset) = (self.at + 1, HEADER_BYTES);
                continue;
            };
            let start = self.offset;
            self.offset += len;
            if matches!(record.what, What::Command(_)) && record.at.after_seq <= file.last_seq {
                break start;
            }
        };
        Ok(format::decode(&self.buffer[found..]).and_then(|(record, _)| match record.what {
            What::Command(command) => Some(Entry { after_seq: record.at.after_seq, now: record.at.now, command }),
            What::Gap(_) | What::End => None,
        }))
    }

    /// The first pass: fills in the coverage.
    fn cover(&mut self, journal_last_seq: u64) -> io::Result<()> {
        let mut coverage = Coverage::default();
        // Where the previous file ends, and whether it has its run's end record.
        let mut before = None::<(u64, Place, bool)>;
        for file in &mut self.files {
            // A file that a running hub has removed has no records.
            if !read(&*self.disk, &file.segment, &mut self.buffer)? {
                self.buffer.clear();
            }
            let Header { run_id, run_begins, begins, .. } = file.header;
            coverage.begins.get_or_insert((begins.after_seq, begins.now));
            if let Some((run_before, last, has_ended)) = before {
                let is_new_run = run_before != run_id;
                coverage.crashes += u64::from(is_new_run && !has_ended);
                let mut miss = |from: Place, to: Place| {
                    coverage.gaps.push(Gap { from: from.now, to: to.now.max(from.now), records: 0 });
                };
                // Between two runs, the hub ran without a trace.
                if is_new_run && has_ended && last.after_seq < run_begins.after_seq {
                    miss(last, run_begins);
                }
                // Within a run, a file is damaged or missing.
                let before = if is_new_run { run_begins } else { last };
                if before.after_seq < begins.after_seq || before.now < begins.now {
                    miss(before, begins);
                }
            }
            let (mut offset, mut last, mut has_ended) = (HEADER_BYTES, begins, false);
            while let Some((record, len)) = self.buffer.get(offset..).and_then(format::decode) {
                offset += len;
                last = last.max(record.at);
                match record.what {
                    What::Command(_) if last.after_seq <= file.last_seq => coverage.records += 1,
                    What::Command(_) if file.last_seq == journal_last_seq => coverage.ahead += 1,
                    What::Command(_) => coverage.orphans += 1,
                    What::Gap(gap) => coverage.gaps.push(gap),
                    What::End => has_ended = true,
                }
            }
            file.end = offset;
            before = Some((run_id, last, has_ended));
        }
        self.coverage = coverage;
        Ok(())
    }
}

/// Reads a whole file into `buffer`; `false` if it does not exist.
fn read(disk: &dyn Disk, segment: &Segment, buffer: &mut Vec<u8>) -> io::Result<bool> {
    match disk.read_into(&segment.path, buffer) {
        // What the disk does not give is zeros, in which no entry is found.
        Ok(_holes) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
