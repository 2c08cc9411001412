//! Content: a file's bytes, and what of them is on the disk.

use crate::draw::Draw;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// A file's bytes, and what a power cut would make of them.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub bytes: Vec<u8>,
    /// How to take back what was not synced, oldest first.
    undo: Vec<Undo>,
    /// Sectors that the system takes for synced but the disk does not have, by their number: what the disk has there.
    stale: BTreeMap<usize, Vec<u8>>,
    /// Where the last two writes began, the last one first.
    written_at: [usize; 2],
    /// Whether it is written at its end only. File systems let such a file grow over what is on the disk: of what was not
    /// synced its beginning is left, perhaps with zeros behind it, and no sectors here and there.
    pub is_appended: bool,
    /// Handles; a file without a name and without one is gone.
    pub open_count: u32,
}

/// Takes back one write.
#[derive(Debug)]
struct Undo {
    offset: usize,
    /// What was there, as far as there was something.
    old: Vec<u8>,
    /// How many bytes were written.
    len: usize,
    /// The file's size before.
    old_len: usize,
}

/// How much of what was on its way a power cut lets through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Survival {
    Nothing,
    Everything,
    /// Some writes in order, then a part of the next one from its beginning.
    Prefix,
    /// Some writes in order, then sectors of the others here and there.
    Sectors,
}

impl Content {
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let old_len = self.bytes.len();
        // A gap reads as zeros; to take the write back is to take the gap back too.
        let (offset, gap) = if offset > old_len { (old_len, offset - old_len) } else { (offset, 0) };
        self.written_at = [offset + gap, self.written_at[0]];
        let end = offset + gap + bytes.len();
        let old = self.bytes[offset..end.min(old_len)].to_vec();
        self.bytes.resize(old_len.max(end), 0);
        self.bytes[offset + gap..end].copy_from_slice(bytes);
        self.undo.push(Undo { offset, old, len: end - offset, old_len });
    }

    /// Where the last two writes begin.
    pub fn latest_at(&self) -> usize {
        self.written_at[0].min(self.written_at[1])
    }

    /// Cuts the file; it never becomes longer by that.
    pub fn cut(&mut self, len: usize) {
        let old_len = self.bytes.len();
        let old = self.bytes.split_off(len.min(old_len));
        self.undo.push(Undo { offset: old_len - old.len(), len: old.len(), old_len, old });
    }

    /// All that was written is on the disk, but for what the system forgot before.
    pub fn settle(&mut self) {
        let dirty = self.dirty_sectors(0);
        self.stale.retain(|sector, _| !dirty.contains(sector));
        self.undo.clear();
    }

    /// What was not synced is gone.
    pub fn revert(&mut self) {
        while self.take_back() {}
    }

    /// What was not synced stays visible, and will never be synced.
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

    /// What a power cut leaves.
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
            self.take_back();
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
        // A file whose new size did not arrive ends where it ended.
        if !dirty.is_empty() && self.bytes.len() < visible.len() && draw.chance(500) {
            self.bytes.resize(visible.len(), 0);
        }
        for sector in &dirty {
            let range = bytes_of(*sector, self.bytes.len().min(visible.len()));
            self.bytes[range.clone()].copy_from_slice(&visible[range]);
        }
        self.undo.clear();
        // A forgotten sector came to the disk after all if it was written once more and that survived.
        for (sector, there) in std::mem::take(&mut self.stale) {
            let was_written = survival == Survival::Everything && settled.contains(&sector);
            if !was_written {
                let range = bytes_of(sector, self.bytes.len());
                let len = range.len();
                self.bytes[range].copy_from_slice(&there[..len]);
            }
        }
    }

    /// A part of what was appended next has arrived, and perhaps the file's size before the rest.
    fn grow(&mut self, visible: &[u8], part: Range<usize>, draw: &mut Draw) {
        if self.bytes.len() == part.start && part.end <= visible.len() {
            self.bytes.extend_from_slice(&visible[part]);
        }
        if self.bytes.len() < visible.len() && draw.chance(300) {
            let len = draw.between(self.bytes.len() as u64, visible.len() as u64);
            self.bytes.resize(len as usize, 0);
        }
    }

    /// Whether all that is seen is on the disk.
    pub fn is_synced(&self) -> bool {
        self.undo.is_empty() && self.stale.is_empty()
    }

    /// Takes back the newest write that was not synced.
    fn take_back(&mut self) -> bool {
        let Some(Undo { offset, old, old_len, .. }) = self.undo.pop() else { return false };
        self.bytes.resize(old_len, 0);
        self.bytes[offset..offset + old.len()].copy_from_slice(&old);
        true
    }

    /// The sectors that were written since the first `settled` writes that were not synced.
    fn dirty_sectors(&self, settled: usize) -> BTreeSet<usize> {
        let sectors = |undo: &Undo| undo.offset / SECTOR_BYTES..(undo.offset + undo.len).div_ceil(SECTOR_BYTES);
        self.undo[settled..].iter().flat_map(sectors).collect()
    }

    /// A sector's bytes, with zeros behind the file's end.
    fn sector(&self, sector: usize) -> Vec<u8> {
        let mut bytes = self.bytes[bytes_of(sector, self.bytes.len())].to_vec();
        bytes.resize(SECTOR_BYTES, 0);
        bytes
    }
}

/// Where a sector's bytes are in a file of that size.
fn bytes_of(sector: usize, len: usize) -> Range<usize> {
    (sector * SECTOR_BYTES).min(len)..((sector + 1) * SECTOR_BYTES).min(len)
}
