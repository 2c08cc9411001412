//! Appended records are found again: after restarts, over full segments, and on disks that fail or are full.

use super::*;
use crate::disk::faults::{self, Operation};
use std::io::ErrorKind;
use tempfile::tempdir;

#[test]
fn records_are_found_again_after_many_restarts_and_segments() {
    let folder = tempdir().unwrap();
    let mut last = 0;
    for run in 0..12 {
        let (_, mut appender, found, notices) = opened(&folder);
        assert_eq!((found, notices), (last, vec![]), "run {run}");
        for size in [1, 7, 64] {
            append(&mut appender, last + 1..=last + size);
            last += size;
        }
    }
    assert_eq!(opened(&folder).2, last);
    assert!(segments(&folder).len() > 3, "the records are in several segments");
}

#[test]
fn a_journal_keeps_the_identity_of_its_first_start() {
    let folder = tempdir().unwrap();
    let first = *opened(&folder).0.identity();
    assert_eq!(*opened(&folder).0.identity(), first);
    assert_ne!(first.key.as_bytes(), &[0; 16]);
}

#[test]
fn a_batch_larger_than_a_segment_has_a_segment_of_its_own() {
    let folder = tempdir().unwrap();
    let (_, mut appender, ..) = opened(&folder);
    append(&mut appender, 1..=3);
    append(&mut appender, 4..=2_000);
    append(&mut appender, 2_001..=2_002);
    drop(appender);
    assert_eq!(opened(&folder).2, 2_002);
}

#[test]
fn a_batch_with_another_first_record_is_fenced_and_not_written() {
    let folder = tempdir().unwrap();
    let (_, mut appender, ..) = opened(&folder);
    append(&mut appender, 1..=2);
    for (expected, mut wrong) in [(4, batch(4..=4)), (2, batch(2..=3)), (3, batch(4..=4))] {
        let error = appender.append(expected, &mut wrong, hash(0)).unwrap_err();
        assert!(matches!(error, AppendError::Fenced { expected_seq: 3, .. }), "{error}");
    }
    append(&mut appender, 3..=3);
    drop(appender);
    assert_eq!(opened(&folder).2, 3);
}

#[test]
fn a_second_hub_is_refused_with_the_process_that_holds_the_lock() {
    let folder = tempdir().unwrap();
    let held = opened(&folder);
    let error = open(folder.path()).map(drop).unwrap_err();
    let pid = std::process::id();
    assert!(matches!(&error, OpenError::Lock(LockError::Held { pid: Some(found), .. }) if *found == pid), "{error}");
    assert!(error.to_string().contains(&folder.path().display().to_string()));
    drop(held);
    opened(&folder);
}

/// Every operation fails once at every batch of a run over several segments; the batch is appended again.
#[test]
fn a_failed_batch_can_be_appended_again_and_each_record_is_stored_once() {
    let operations = [Operation::Write, Operation::Sync, Operation::Create, Operation::Fill, Operation::Rename];
    for operation in operations {
        let folder = tempdir().unwrap();
        let (_, mut appender, ..) = opened(&folder);
        let mut failures = 0;
        for first in (1..=400).step_by(20) {
            let mut batch = batch(first..=first + 19);
            faults::arm(operation, ErrorKind::Other);
            while let Err(error) = appender.append(first, &mut batch, hash(first)) {
                assert!(matches!(error, AppendError::Io { .. }), "{error}");
                failures += 1;
            }
        }
        faults::disarm();
        drop(appender);
        assert_eq!(opened(&folder).2, 400, "{operation:?}");
        assert!(failures > 0, "{operation:?} never failed");
    }
}

/// After a failure, the hub stops before it appends the batch again: the next start finds all acknowledged records, and
/// none or the first ones of the failed batch.
#[test]
fn a_stop_after_a_failure_keeps_all_acknowledged_records() {
    for operation in [Operation::Write, Operation::Sync] {
        let folder = tempdir().unwrap();
        let (_, mut appender, ..) = opened(&folder);
        append(&mut appender, 1..=10);
        faults::arm(operation, ErrorKind::Other);
        appender.append(11, &mut batch(11..=20), hash(11)).unwrap_err();
        drop(appender);
        let (_, mut appender, found, _) = opened(&folder);
        assert!((10..=20).contains(&found), "{operation:?}: {found}");
        append(&mut appender, found + 1..=30);
        drop(appender);
        assert_eq!(opened(&folder).2, 30, "{operation:?}");
    }
}

#[test]
fn a_full_disk_is_reported_as_such_and_leaves_no_temporary_file() {
    let folder = tempdir().unwrap();
    let (_, mut appender, ..) = opened(&folder);
    append(&mut appender, 1..=150);
    let mut next = batch(151..=300);
    faults::arm(Operation::Fill, ErrorKind::StorageFull);
    let error = appender.append(151, &mut next, hash(151)).unwrap_err();
    assert!(matches!(error, AppendError::NoSpace { .. }), "{error}");
    let leftovers = folder::Folder::unlocked(folder.path()).leftovers().unwrap();
    assert_eq!(leftovers, Vec::<std::path::PathBuf>::new());
    assert_eq!(appender.append(151, &mut next, hash(151)).unwrap(), 300);
    drop(appender);
    assert_eq!(opened(&folder).2, 300);
}
