//! Rewinding: a return to the newest snapshot, only if the loss is accepted, without deleting anything.

use super::snapshots::{Live, snapshot_files, two_snapshots};
use super::*;
use std::path::PathBuf;
use tempfile::tempdir;

const NOW: Timestamp = Timestamp::from_millis(1_768_510_323_348);

fn rewound(folder: &Path) -> RewindReport {
    rewind(folder, small(), NOW, true).unwrap()
}

/// The records in the quarantine's segments.
fn quarantined_records(report: &RewindReport) -> Vec<u64> {
    let names = report.moved.iter().filter(|path| path.extension().is_some_and(|name| name == "seg"));
    let mut kept: Vec<u64> = names.flat_map(records_of).collect();
    kept.sort_unstable();
    kept.dedup();
    kept
}

fn records_of(path: &PathBuf) -> Vec<u64> {
    let bytes = std::fs::read(path).unwrap();
    let seed = format::Header::decode(&bytes).unwrap().seed();
    let (mut offset, mut seqs) = (format::HEADER_BYTES, Vec::new());
    while let Some(format::Entry::Record { seq, end, .. }) = format::entry_at(&bytes, offset, &seed) {
        (offset, _) = (end, seqs.push(seq));
    }
    seqs
}

#[test]
fn unless_the_loss_is_accepted_nothing_is_changed_and_the_loss_is_reported() {
    let (folder, _, [_, covered_seq], last_seq) = two_snapshots();
    let before = contents(folder.path());
    let report = rewind(folder.path(), small(), NOW, false).unwrap();
    let lost = report.lost.unwrap();
    assert_eq!((lost.first_seq, lost.last_seq), (covered_seq + 1, last_seq));
    assert!(lost.first_at.is_some() && lost.last_at.is_some());
    assert!(!report.is_done && report.moved.is_empty() && report.quarantine.is_none());
    let count = format!("{} records, {} to {last_seq}", last_seq - covered_seq, covered_seq + 1);
    for word in [&count, "nothing was changed", "--accept-loss"] {
        assert!(report.to_string().contains(word), "{word}: {report}");
    }
    assert_eq!(contents(folder.path()), before);
}

#[test]
fn a_rewound_journal_continues_after_its_snapshot_and_the_lost_records_are_in_the_quarantine() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    live.append_records(200);
    live.snapshot();
    live.append_records(80);
    let covered_seq = live.appender.next_seq() - 1;
    // As at a clean stop, in the middle of a segment.
    live.store.write_snapshot(covered_seq, &live.hub).unwrap();
    let at_snapshot = live.digest();
    live.append_records(400);
    let last_seq = live.appender.next_seq() - 1;
    drop(live);
    assert!(folder::Folder::unlocked(folder.path()).segments().unwrap().iter().any(|s| s.first_seq > covered_seq + 1));
    let report = rewound(folder.path());
    assert!(report.is_done);
    assert!(report.quarantine.as_ref().unwrap().ends_with("quarantine/20260115T205203.348Z"));
    assert_eq!((report.snapshot.covered_seq, report.next_seq), (covered_seq, covered_seq + 1));
    let kept = quarantined_records(&report);
    assert!((covered_seq + 1..=last_seq).all(|seq| kept.binary_search(&seq).is_ok()), "{report}");
    let verified = verify(folder.path(), true).unwrap();
    assert!(verified.is_ok() && verified.last_seq() == covered_seq, "{verified}");
    assert_eq!(verified.replay.unwrap().digest, hex::encode(at_snapshot));
    let quarantined: Vec<_> = report.moved.iter().map(|path| std::fs::read(path).unwrap()).collect();

    let mut live = Live::open(folder.path()).unwrap();
    assert_eq!((live.digest(), live.appender.next_seq()), (at_snapshot, covered_seq + 1));
    live.append_records(900);
    let snapshot = live.snapshot();
    live.append_records(900);
    live.store.truncate(&snapshot).unwrap();
    live.snapshot();
    let digest = live.digest();
    drop(live);
    assert_eq!(Live::open(folder.path()).unwrap().digest(), digest);
    let now: Vec<_> = report.moved.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(now == quarantined, "files in the quarantine are never overwritten");
}

#[test]
fn after_a_rewind_the_older_snapshot_still_has_its_records() {
    let (folder, ..) = two_snapshots();
    rewound(folder.path());
    let digest = Live::open(folder.path()).unwrap().digest();
    change(&snapshot_files(&folder)[0], |bytes| bytes.truncate(bytes.len() - 1));
    assert_eq!(Live::open(folder.path()).unwrap().digest(), digest);
}

#[test]
fn without_records_after_the_snapshot_nothing_is_changed() {
    let (folder, ..) = two_snapshots();
    assert!(rewound(folder.path()).is_done);
    let before = contents(folder.path());
    let again = rewound(folder.path());
    assert!(!again.is_done && again.lost.is_none(), "{again}");
    assert_eq!(contents(folder.path()), before);
}

#[test]
fn an_unreadable_snapshot_is_skipped_and_moved_to_the_quarantine() {
    let (folder, _, [first, second], last_seq) = two_snapshots();
    change(&snapshot_files(&folder)[0], |bytes| bytes[300] ^= 1);
    let report = rewound(folder.path());
    let lost = report.lost.unwrap();
    assert_eq!((report.snapshot.covered_seq, lost.first_seq, lost.last_seq), (first, first + 1, last_seq));
    let is_snapshot = |path: &&PathBuf| path.to_string_lossy().ends_with(&format!("snapshot-{second:020}.snap"));
    assert_eq!(report.moved.iter().filter(is_snapshot).count(), 1, "{report}");
    assert_eq!(Live::open(folder.path()).unwrap().appender.next_seq(), first + 1);
}

#[test]
fn damage_before_or_after_the_snapshot_does_not_prevent_a_rewind() {
    let (folder, _, [_, covered_seq], _) = two_snapshots();
    let count = segments(&folder).len();
    for at in 0..count {
        for bytes_at in [20, format::HEADER_BYTES + 40, format::HEADER_BYTES + 3_000] {
            let copy = copy(&folder);
            change(&segments(&copy)[at], |bytes| bytes[bytes_at] ^= 1);
            let report = rewound(copy.path());
            assert!(report.is_done, "segment {at}, byte {bytes_at}: {report}");
            let verified = verify(copy.path(), true).unwrap();
            assert!(verified.is_ok(), "segment {at}, byte {bytes_at}: {verified}");
            assert_eq!(Live::open(copy.path()).unwrap().appender.next_seq(), covered_seq + 1);
        }
    }
}

#[test]
fn without_a_snapshot_or_the_lock_a_rewind_is_refused_with_the_next_step() {
    let (folder, ..) = two_snapshots();
    snapshot_files(&folder).iter().for_each(|path| change(path, |bytes| bytes.truncate(100)));
    let before = contents(folder.path());
    let error = rewind(folder.path(), small(), NOW, true).unwrap_err().to_string();
    let start = format!("start build {}", Build::THIS);
    for word in ["no snapshot in", &start, "backup"] {
        assert!(error.contains(word), "{word}: {error}");
    }
    assert_eq!(contents(folder.path()), before);

    let live = Live::open(folder.path()).unwrap();
    let error = rewind(folder.path(), small(), NOW, true).unwrap_err();
    assert!(matches!(error, RepairError::Lock(LockError::Held { .. })), "{error}");
    drop(live);

    let empty = tempdir().unwrap();
    let error = rewind(&empty.path().join("hub"), small(), NOW, true).unwrap_err();
    assert!(matches!(error, RepairError::NothingReadable(_)), "{error}");
    assert!(contents(empty.path()).is_empty() && !empty.path().join("hub").exists());
}
