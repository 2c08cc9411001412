//! The trace's tests: which records are read back, which files are removed, and which gaps a reader sees.

use super::*;
use crate::disk::{RealDisk, faults};
use crate::journal::HubId;
use sheratan_core::Timestamp;
use std::fs;
use std::sync::Arc;

const HUB: HubId = HubId([7; 16]);

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn pending(records: std::ops::Range<u64>, bytes: usize) -> Pending {
    let mut pending = Pending::default();
    records.for_each(|n| pending.push(n, at(n), &vec![n as u8; bytes]));
    pending
}

fn settings(folder: &tempfile::TempDir, bytes_max: u64) -> Settings {
    Settings { folder: path(folder.path()), bytes_max }
}

fn read(folder: &tempfile::TempDir, last_seq: u64) -> (Vec<(u64, u64, usize)>, Coverage) {
    let mut reader = Reader::open(folder.path(), HUB, last_seq).unwrap();
    let mut found = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        assert!(entry.command.iter().all(|byte| *byte == entry.after_seq as u8));
        found.push((entry.after_seq, entry.now.as_millis(), entry.command.len()));
    }
    (found, reader.coverage().clone())
}

#[test]
fn traced_records_are_read_back_in_order_across_files_and_runs() {
    let folder = tempfile::tempdir().unwrap();
    for run in [10..40, 50..60] {
        let mut trace = Trace::start(settings(&folder, 64 << 10), HUB, run.start, at(run.start)).unwrap();
        run.clone().for_each(|n| trace.record(pending(n..n + 1, 300)));
        trace.end(run.end, at(run.end));
    }
    let (found, coverage) = read(&folder, 100);
    let expected: Vec<_> = (10..40).chain(50..60).map(|n| (n, n, 300)).collect();
    assert_eq!(found, expected);
    assert!(Segment::list(&RealDisk, &path(folder.path())).unwrap().len() > 3);
    assert_eq!((coverage.begins, coverage.records, coverage.crashes), (Some((10, at(10))), 40, 0));
    // Between the runs the hub journaled without a trace.
    assert_eq!(coverage.gaps, [Gap { from: at(40), to: at(50), records: 0 }]);
}

#[test]
fn a_full_ring_drops_its_oldest_file_and_shows_where_it_begins_now() {
    let folder = tempfile::tempdir().unwrap();
    let mut trace = Trace::start(settings(&folder, 16 << 10), HUB, 0, at(0)).unwrap();
    trace.record(pending(0..200, 200));
    drop(trace);
    let bytes: u64 =
        Segment::list(&RealDisk, &path(folder.path())).unwrap().iter().map(|s| s.path.metadata().unwrap().len()).sum();
    assert!(bytes <= 16 << 10, "{bytes}");
    let (found, coverage) = read(&folder, 1_000);
    let (first, last) = (found[0].0, found[found.len() - 1].0);
    assert_eq!((last, found.len() as u64), (199, 200 - first));
    assert!(first > 100 && coverage.begins == Some((first - 1, at(first - 1))), "{first} {coverage:?}");
    assert!(coverage.gaps.is_empty());
}

#[test]
fn a_record_that_fits_no_file_is_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let mut trace = Trace::start(settings(&folder, 16 << 10), HUB, 0, at(0)).unwrap();
    trace.record(pending(1..3, 2_000));
    trace.send();
    trace.record(pending(3..4, 10));
    drop(trace);
    let (found, coverage) = read(&folder, 100);
    assert_eq!(found, [(3, 3, 10)]);
    assert_eq!(coverage.gaps, [Gap { from: at(1), to: at(2), records: 2 }]);
}

#[test]
fn a_flood_in_one_round_is_bounded_and_counted() {
    let pending = pending(0..20, 1 << 20);
    assert!(pending.bytes.len() <= 8 << 20);
    let gap = pending.gap.unwrap();
    assert_eq!(pending.records + gap.records, 20);
    assert_eq!((gap.from, gap.to), (at(pending.records), at(19)));
    assert_eq!(pending.into_gap(), Some(Gap { from: at(0), to: at(19), records: 20 }));
}

#[test]
fn records_that_follow_records_lost_in_a_crash_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut trace = Trace::start(settings(&folder, 64 << 10), HUB, 0, at(0)).unwrap();
    trace.record(pending(1..10, 10));
    drop(trace);
    let mut trace = Trace::start(settings(&folder, 64 << 10), HUB, 5, at(20)).unwrap();
    trace.record(pending(6..8, 10));
    drop(trace);
    let (found, coverage) = read(&folder, 6);
    assert_eq!(found.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!((coverage.orphans, coverage.ahead, coverage.crashes), (4, 1, 1));
}

#[test]
fn a_torn_or_changed_record_ends_its_file_and_another_hubs_trace_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let mut trace = Trace::start(settings(&folder, 64 << 10), HUB, 0, at(0)).unwrap();
    trace.record(pending(1..4, 10));
    drop(trace);
    let file = Segment::list(&RealDisk, &path(folder.path())).unwrap().remove(0).path;
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert_eq!(read(&folder, 9).0.len(), 2);
    fs::write(&file, &bytes[..last - 30]).unwrap();
    assert_eq!(read(&folder, 9).0.len(), 2);
    let other = Reader::open(folder.path(), HubId([8; 16]), 9).unwrap();
    assert_eq!(other.coverage().begins, None);
}

#[test]
fn a_missing_file_in_the_middle_is_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let mut trace = Trace::start(settings(&folder, 64 << 10), HUB, 0, at(0)).unwrap();
    trace.record(pending(1..40, 300));
    drop(trace);
    let files = Segment::list(&RealDisk, &path(folder.path())).unwrap();
    assert!(files.len() > 3);
    fs::remove_file(&files[1].path).unwrap();
    let (found, coverage) = read(&folder, 100);
    let missing_from = found.windows(2).find(|pair| pair[1].0 > pair[0].0 + 1).unwrap();
    let gap = Gap { from: at(missing_from[0].0), to: at(missing_from[1].0 - 1), records: 0 };
    assert_eq!(coverage.gaps, [gap]);
}

#[test]
fn a_missing_first_file_of_a_run_is_a_gap_even_if_the_run_before_has_its_end_record() {
    for has_ended in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut trace = Trace::start(settings(&folder, 64 << 10), HUB, 0, at(0)).unwrap();
        trace.record(pending(1..2, 10));
        if has_ended {
            trace.end(1, at(1))
        } else {
            drop(trace)
        }
        let mut trace = Trace::start(settings(&folder, 64 << 10), HUB, 1, at(5)).unwrap();
        trace.record(pending(5..40, 300));
        drop(trace);
        let files = Segment::list(&RealDisk, &path(folder.path())).unwrap();
        fs::remove_file(&files[1].path).unwrap();
        let (found, coverage) = read(&folder, 100);
        assert_eq!(coverage.gaps, [Gap { from: at(5), to: at(found[1].0 - 1), records: 0 }]);
    }
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_a_trace() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    drop(Trace::start(settings(&folder, 64 << 10), HUB, 0, at(0)).unwrap());
    let file = Segment::list(&RealDisk, &path(folder.path())).unwrap().remove(0).path;
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn records_of_several_rounds_are_sent_together_when_the_first_is_a_tenth_of_a_second_old() {
    let folder = tempfile::tempdir().unwrap();
    let mut trace = Trace::start(settings(&folder, 64 << 10), HUB, 0, at(0)).unwrap();
    assert_eq!(trace.due_at(), None);
    (1..4).for_each(|n| trace.record(pending(n..n + 1, 10)));
    assert_eq!(trace.due_at(), Some(at(101)));
    trace.send_due(at(100));
    assert_eq!(trace.due_at(), Some(at(101)));
    trace.send_due(at(101));
    assert_eq!(trace.due_at(), None);
    // So many bytes do not wait.
    trace.record(pending(5..70, 1_000));
    assert_eq!(trace.due_at(), None);
    trace.record(pending(80..81, 10));
    drop(trace);
    let (found, coverage) = read(&folder, 100);
    assert_eq!(found.last().map(|(seq, ..)| *seq), Some(80));
    assert_eq!(coverage.gaps, []);
}

/// A file in the folder's place makes every write fail.
#[test]
fn a_disk_that_fails_delays_no_caller_and_leaves_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(path(folder.path()), "").unwrap();
    let mut trace = Trace::start(settings(&folder, 64 << 10), HUB, 0, at(0)).unwrap();
    trace.record(pending(1..4, 10));
    trace.send();
    while trace.waiting_bytes() > 0 {
        std::thread::yield_now();
    }
    fs::remove_file(path(folder.path())).unwrap();
    trace.record(pending(5..6, 10));
    trace.end(6, at(6));
    let (found, coverage) = read(&folder, 9);
    assert_eq!(found, [(5, 5, 10)]);
    assert_eq!(coverage.gaps, [Gap { from: at(1), to: at(3), records: 3 }]);
}

#[test]
fn only_the_failed_part_of_a_write_across_two_files_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(Arc::new(RealDisk), settings(&folder, 16 << 10), HUB, 0, at(0));
    faults::arm(faults::Operation::Create, io::ErrorKind::Other);
    writer.take(pending(1..5, 400));
    assert_eq!(writer.gap(), Some(Gap { from: at(3), to: at(4), records: 2 }));
    writer.take(pending(6..7, 10));
    assert_eq!(writer.gap(), None);
    let (found, coverage) = read(&folder, 100);
    assert_eq!(found.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(), [1, 2, 6]);
    assert_eq!(coverage.gaps, [Gap { from: at(3), to: at(4), records: 2 }]);
}

#[test]
fn a_gap_is_recorded_before_the_records_that_follow_it_so_that_a_crash_cannot_leave_only_those() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(Arc::new(RealDisk), settings(&folder, 16 << 10), HUB, 0, at(0));
    writer.take(pending(1..2, 900));
    faults::arm(faults::Operation::Create, io::ErrorKind::Other);
    (2..4).for_each(|n| writer.take(pending(n..n + 1, 400)));
    writer.take(pending(5..6, 900));
    let file = Segment::list(&RealDisk, &path(folder.path())).unwrap().remove(1).path;
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let (found, coverage) = read(&folder, 100);
    assert_eq!(found.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(), [1, 5]);
    let reported = Gap { from: at(2), to: at(2), records: 1 };
    assert_eq!(coverage.gaps, [reported, Gap { from: at(2), to: at(3), records: 0 }]);
    // Without it, the previous file shows how far it reaches, and the next one how far it should reach.
    fs::write(&file, &bytes[..format::HEADER_BYTES]).unwrap();
    assert_eq!(read(&folder, 100).1.gaps, [Gap { from: at(1), to: at(3), records: 0 }]);
}

#[test]
fn a_run_whose_first_file_cannot_be_written_begins_later() {
    let folder = tempfile::tempdir().unwrap();
    faults::arm(faults::Operation::Sync, io::ErrorKind::Other);
    let mut writer = Writer::open(Arc::new(RealDisk), settings(&folder, 64 << 10), HUB, 3, at(3));
    assert!(writer.run_id().is_none() && Segment::list(&RealDisk, &path(folder.path())).unwrap().is_empty());
    writer.take(pending(4..5, 10));
    assert_eq!(writer.run_id(), Some(1));
    assert_eq!(read(&folder, 9).1.begins, Some((3, at(3))));
}
