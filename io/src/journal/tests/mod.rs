//! Tests of the journal on real files: appended records are found again after every kind of failure in between.

mod appending;
mod damage;
mod divergence;
mod process;
mod rewind;
mod snapshots;

use super::*;
use sheratan_core::Timestamp;
use std::path::Path;
use tempfile::TempDir;

/// Segments that are full after a few batches.
fn small() -> Options {
    Options { segment_bytes: 16 << 10, ..Options::default() }
}

/// A record's payload, made from its number, so that a wrong one is noticed.
fn payload(seq: u64) -> Vec<u8> {
    let bytes = (seq * 37 % 90) as usize;
    format!("{seq}:").into_bytes().into_iter().chain((0..bytes).map(|at| (seq as usize + at) as u8)).collect()
}

fn batch(seqs: std::ops::RangeInclusive<u64>) -> Batch {
    let mut batch = Batch::new();
    for seq in seqs {
        batch.begin(seq, Timestamp::from_millis(1_000 + seq)).extend_from_slice(&payload(seq));
        batch.commit();
    }
    batch
}

fn append(appender: &mut Appender, seqs: std::ops::RangeInclusive<u64>) {
    let (first, last) = (*seqs.start(), *seqs.end());
    assert_eq!(appender.append(first, &mut batch(seqs), hash(first)).expect("the disk works"), last);
}

/// The outcome hash before a record, in these tests.
fn hash(seq: u64) -> [u8; 16] {
    u128::from(seq).to_le_bytes()
}

/// Opens a journal whose records are payloads of [`payload`], checks each, and returns how many there are.
fn open(folder: &Path) -> Result<(Store, Appender, u64, Vec<Notice>), OpenError> {
    let (store, mut recovered) = open_store(folder)?;
    let mut next_seq = 1;
    while let Some(item) = recovered.next()? {
        let Item::Record(record) = item else { continue };
        assert_eq!((record.seq, record.now), (next_seq, Timestamp::from_millis(1_000 + next_seq)));
        assert_eq!(record.payload, payload(next_seq));
        next_seq += 1;
    }
    let (appender, notices) = recovered.finish(hash(next_seq), hash(next_seq))?;
    assert_eq!(appender.next_seq(), next_seq);
    Ok((store, appender, next_seq - 1, notices))
}

/// Another test may be starting a process: between its fork and its exec the child holds this process' locks too, so a
/// lock that was just released may be held for some milliseconds more.
fn open_store(folder: &Path) -> Result<(Store, Recovered), OpenError> {
    let is_own = |error: &OpenError| matches!(error, OpenError::Lock(LockError::Held { pid: Some(pid), .. }) if *pid == std::process::id());
    for _ in 0..100 {
        match Store::open(folder, small()) {
            Err(error) if is_own(&error) => std::thread::sleep(std::time::Duration::from_millis(2)),
            opened => return opened,
        }
    }
    Store::open(folder, small())
}

fn opened(folder: &TempDir) -> (Store, Appender, u64, Vec<Notice>) {
    open(folder.path()).expect("the journal is intact")
}

fn segments(folder: &TempDir) -> Vec<std::path::PathBuf> {
    let folder = folder::Folder::unlocked(folder.path());
    folder.segments().expect("the folder is there").into_iter().map(|segment| segment.path).collect()
}

/// Changes bytes of a file in place.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("the file is there");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("the file can be written");
}

/// Changes a segment's header as if `build` had written it.
fn set_build(path: &Path, build: Build) {
    change(path, |bytes| {
        let header = format::Header::decode(bytes).expect("the header is intact");
        let header = format::Header { written_by: build, ..header }.encode();
        bytes[..header.len()].copy_from_slice(&header);
    });
}

/// Each file of a data folder and its bytes, except the lock, into which each process writes its id.
fn contents(folder: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut contents = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        match path.is_dir() {
            true => contents.extend(self::contents(&path)),
            false if path.ends_with("lock") => {}
            false => _ = contents.insert(path.clone(), std::fs::read(&path).expect("the file is there")),
        }
    }
    contents
}

/// A copy of a data folder, for a test to damage.
fn copy(folder: &TempDir) -> TempDir {
    let copy = scratch();
    for name in ["journal", "snapshots"] {
        std::fs::create_dir(copy.path().join(name)).expect("it is new");
        for entry in std::fs::read_dir(folder.path().join(name)).expect("the folder is there") {
            let path = entry.expect("it can be listed").path();
            let to = copy.path().join(name).join(path.file_name().expect("a file has a name"));
            std::fs::copy(path, to).expect("there is room");
        }
    }
    copy
}

/// A folder in memory if the system has one, since tests that open thousands of journals do not test the disk.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("there is room")
}
