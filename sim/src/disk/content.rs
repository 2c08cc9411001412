//! Content: a file's visible bytes, and which of them are durable.

use crate::draw::Draw;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The unit that a disk writes atomically.
pub(super) const SECTOR_BYTES: usize = 512;

/// A file's visible bytes, and how to undo the writes that were not synced.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub bytes: Vec<u8>,
    /// Undo log of the writes that were not synced, oldest first.
    undo: Vec<Undo>,
    /// Sectors that the system takes for synced but the disk does not have, by index: the disk's bytes of each.
    stale: BTreeMap<usize, Vec<u8>>,
    /// The offsets of the last two writes, the last one first.
    written_at: [usize; 2],
    /// Whether it is only appended to. After a power cut such a file has a prefix of the unsynced bytes, perhaps
    /// followed by zeros, but no scattered sectors.
    pub is_appended: bool,
    /// Sectors that cannot be read, by index.
    bad: BTreeSet<usize>,
    /// Open handles; a file without a name and without a handle is removed.
    pub open_count: u32,
}

/// How to undo one write.
#[derive(Debug)]
struct Undo {
    offset: usize,
    /// The bytes that were overwritten.
    old: Vec<u8>,
    /// How many bytes were written.
    len: usize,
    /// The file's size before the write.
    old_len: usize,
}

/// Which of the unsynced writes survive a power cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Survival {
    Nothing,
    Everything,
    /// Some writes in order, then a part of the next one from its beginning.
    Prefix,
    /// Some writes in order, then scattered sectors of the others.
    Sectors,
}

impl Content {
    pub fn of(bytes: Vec<u8>) -> Content {
        Content { bytes, ..Content::default() }
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let old_len = self.bytes.len();
        // A gap before the write reads as zeros, and is undone with it.
        let (offset, gap) = if offset > old_len { (old_len, offset - old_len) } else { (offset, 0) };
        self.written_at = [offset + gap, self.written_at[0]];
        let end = offset + gap + bytes.len();
        let old = self.bytes[offset..end.min(old_len)].to_vec();
        self.bytes.resize(old_len.max(end), 0);
        self.bytes[offset + gap..end].copy_from_slice(bytes);
        // A disk gives a sector that is written as a whole another place.
        let written = (offset + gap).div_ceil(SECTOR_BYTES)..end / SECTOR_BYTES;
        self.bad.retain(|sector| !written.contains(sector));
        self.undo.push(Undo { offset, old, len: end - offset, old_len });
    }

    /// Makes a sector unreadable; returns its offset.
    pub fn spoil(&mut self, draw: &mut Draw) -> u64 {
        let sector = draw.below(self.bytes.len().div_ceil(SECTOR_BYTES) as u64);
        self.bad.insert(sector as usize);
        sector * SECTOR_BYTES as u64
    }

    pub fn heal(&mut self) {
        self.bad.clear();
    }

    /// The parts of a range that cannot be read.
    pub fn holes(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let sectors = self.bad.iter().map(|sector| sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES);
        let parts = sectors.map(|sector| sector.start.max(range.start)..sector.end.min(range.end));
        parts.filter(|part| !part.is_empty()).collect()
    }

    /// Whether a write to this range replaces a part of a sector that cannot be read.
    pub fn is_partly_bad(&self, range: Range<usize>) -> bool {
        let is_whole = |sector: usize| range.start <= sector * SECTOR_BYTES && (sector + 1) * SECTOR_BYTES <= range.end;
        let touched = range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES);
        self.bad.range(touched).any(|sector| !is_whole(*sector))
    }

    /// Where the last two writes begin.
    pub fn latest_at(&self) -> usize {
        self.written_at[0].min(self.written_at[1])
    }

    /// Truncates the file; never makes it longer.
    pub fn cut(&mut self, len: usize) {
        let old_len = self.bytes.len();
        let old = self.bytes.split_off(len.min(old_len));
        self.undo.push(Undo { offset: old_len - old.len(), len: old.len(), old_len, old });
    }

    /// Makes all writes durable, except in stale sectors that were not written again.
    pub fn settle(&mut self) {
        let dirty = self.dirty_sectors(0);
        self.stale.retain(|sector, _| !dirty.contains(sector));
        self.undo.clear();
    }

    /// Undoes all writes that were not synced.
    pub fn revert(&mut self) {
        while self.undo_last() {}
    }

    /// Keeps the unsynced writes visible, but never makes them durable.
    pub fn go_stale(&mut self) {
        let dirty = self.dirty_sectors(0);
        let visible = self.bytes.clone();
        self.revert();
        for sector in dirty {
            let there = self.sector(sector);
            self.stale.entry(sector).or_insert(there);
        }
        self.bytes = visible;
    }

    /// Applies a power cut.
    pub fn lose(&mut self, draw: &mut Draw) {
        let survival =
            [Survival::Nothing, Survival::Everything, Survival::Prefix, Survival::Sectors][draw.below(4) as usize];
        let whole = match survival {
            _ if self.undo.is_empty() => 0,
            Survival::Nothing => 0,
            Survival::Everything => self.undo.len(),
            Survival::Prefix | Survival::Sectors => draw.between(0, self.undo.len() as u64 - 1) as usize,
        };
        let next = self.undo.get(whole).map_or(0..0, |undo| undo.offset..undo.offset + undo.len);
        let part_end = next.start + draw.below(next.len() as u64 + 1) as usize;
        let mut dirty = self.dirty_sectors(whole);
        let settled = self.dirty_sectors(0);
        let visible = self.bytes.clone();
        while self.undo.len() > whole {
            self.undo_last();
        }
        if self.is_appended && matches!(survival, Survival::Prefix | Survival::Sectors) {
            self.grow(&visible, next.start..part_end, draw);
            dirty.clear();
        }
        let first_sectors = next.start / SECTOR_BYTES..part_end / SECTOR_BYTES;
        dirty.retain(|sector| match survival {
            Survival::Nothing | Survival::Everything => false,
            Survival::Prefix => first_sectors.contains(sector),
            Survival::Sectors => draw.chance(500),
        });
        // If the new size did not reach the disk the file keeps its old size.
        if !dirty.is_empty() && self.bytes.len() < visible.len() && draw.chance(500) {
            self.bytes.resize(visible.len(), 0);
        }
        for sector in &dirty {
            let range = bytes_of(*sector, self.bytes.len().min(visible.len()));
            self.bytes[range.clone()].copy_from_slice(&visible[range]);
        }
        self.undo.clear();
        // A stale sector is durable after all if it was written again and that write survived.
        for (sector, there) in std::mem::take(&mut self.stale) {
            let was_written = survival == Survival::Everything && settled.contains(&sector);
            if !was_written {
                let range = bytes_of(sector, self.bytes.len());
                let len = range.len();
                self.bytes[range].copy_from_slice(&there[..len]);
            }
        }
    }

    /// Appends a part of the next write, and perhaps extends the file with zeros, as if its size had reached the disk
    /// first.
    fn grow(&mut self, visible: &[u8], part: Range<usize>, draw: &mut Draw) {
        if self.bytes.len() == part.start && part.end <= visible.len() {
            self.bytes.extend_from_slice(&visible[part]);
        }
        if self.bytes.len() < visible.len() && draw.chance(300) {
            let len = draw.between(self.bytes.len() as u64, visible.len() as u64);
            self.bytes.resize(len as usize, 0);
        }
    }

    /// Whether all visible bytes are durable.
    pub fn is_synced(&self) -> bool {
        self.undo.is_empty() && self.stale.is_empty()
    }

    /// Undoes the newest write that was not synced. False if there is none.
    fn undo_last(&mut self) -> bool {
        let Some(Undo { offset, old, old_len, .. }) = self.undo.pop() else { return false };
        self.bytes.resize(old_len, 0);
        self.bytes[offset..offset + old.len()].copy_from_slice(&old);
        true
    }

    /// The sectors of the unsynced writes after the first `settled` ones.
    fn dirty_sectors(&self, settled: usize) -> BTreeSet<usize> {
        let sectors = |undo: &Undo| undo.offset / SECTOR_BYTES..(undo.offset + undo.len).div_ceil(SECTOR_BYTES);
        self.undo[settled..].iter().flat_map(sectors).collect()
    }

    /// A sector's bytes, with zeros after the file's end.
    fn sector(&self, sector: usize) -> Vec<u8> {
        let mut bytes = self.bytes[bytes_of(sector, self.bytes.len())].to_vec();
        bytes.resize(SECTOR_BYTES, 0);
        bytes
    }
}

/// The range of a sector's bytes in a file of size `len`.
fn bytes_of(sector: usize, len: usize) -> Range<usize> {
    (sector * SECTOR_BYTES).min(len)..((sector + 1) * SECTOR_BYTES).min(len)
}
