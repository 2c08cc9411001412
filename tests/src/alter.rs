//! Stored bytes that were changed by what repairs checksums: neither the journal's nor the snapshots' own show it.

use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

const SEGMENT_HEADER: usize = 4_096;
const RECORD_HEADER: usize = 28;
const SNAPSHOT_HEADER: usize = 256;
/// Where a segment's header has what the checksums of its records cover: hub id, key and epoch.
const COVERED: std::ops::Range<usize> = 16..56;
const SEAL: u32 = 1 << 31;

/// Replaces a text by another one of its length in all snapshots and segments of a data folder, and makes their
/// checksums right again; returns how many records were changed.
pub fn alter_stored(folder: &Path, from: &str, to: &str) -> usize {
    assert_eq!(from.len(), to.len(), "the records keep their lengths");
    let files = |name: &str, extension: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder.join(name)).expect("the folder is there");
        let paths = entries.map(|entry| entry.expect("it is listed").path());
        paths.filter(|path| path.extension().is_some_and(|end| end == extension)).collect()
    };
    let change = |path: &PathBuf, in_file: fn(&mut [u8], &str, &str) -> usize| {
        let mut bytes = fs::read(path).expect("it is readable");
        let changed = in_file(&mut bytes, from, to);
        fs::write(path, bytes).expect("it is writable");
        changed
    };
    let snapshots = files("snapshots", "snap").iter().map(|path| change(path, in_snapshot)).sum::<usize>();
    snapshots + files("journal", "seg").iter().map(|path| change(path, in_segment)).sum::<usize>()
}

fn in_snapshot(bytes: &mut [u8], from: &str, to: &str) -> usize {
    let (mut at, mut changed, mut digest) = (SNAPSHOT_HEADER, 0, Sha256::new());
    loop {
        let length = number(bytes, at);
        if length == u32::MAX {
            bytes[at + 12..at + 44].copy_from_slice(&digest.finalize());
            return changed;
        }
        let record = at + 8..at + 8 + length as usize;
        changed += usize::from(replace(&mut bytes[record.clone()], from, to));
        let crc = crc32fast::hash(&bytes[record.clone()]);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        digest.update(u64::from(length).to_le_bytes());
        digest.update(&bytes[record.clone()]);
        at = record.end;
    }
}

/// Spares are full of zeros, and what a recycled segment has behind its records is not touched: it is of another epoch.
fn in_segment(bytes: &mut [u8], from: &str, to: &str) -> usize {
    let (mut at, mut changed) = (SEGMENT_HEADER, 0);
    while at + RECORD_HEADER <= bytes.len() {
        let length = (number(bytes, at) & !SEAL) as usize;
        let end = at + RECORD_HEADER + length;
        if length == 0 || end > bytes.len() || number(bytes, at + 4) != record_crc(bytes, at, end) {
            break;
        }
        if replace(&mut bytes[at + RECORD_HEADER..end], from, to) {
            let crc = record_crc(bytes, at, end);
            bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
            changed += 1;
        }
        at = end.next_multiple_of(4);
    }
    changed
}

fn record_crc(bytes: &[u8], at: usize, end: usize) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    [&bytes[COVERED], &bytes[at..at + 4], &bytes[at + 8..end]].into_iter().for_each(|part| crc.update(part));
    crc.finalize()
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn replace(record: &mut [u8], from: &str, to: &str) -> bool {
    let places: Vec<_> = (0..(record.len() + 1).saturating_sub(from.len()))
        .filter(|at| record[*at..].starts_with(from.as_bytes()))
        .collect();
    for at in &places {
        record[*at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    !places.is_empty()
}
