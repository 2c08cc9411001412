//! Damage: a batch that a power cut has torn is cut off, a missing acknowledged record is detected, and a record that
//! was not written is never read.

use super::super::format::HEADER_BYTES;
use super::*;
use proptest::prelude::*;
use std::path::PathBuf;
use tempfile::tempdir;

/// A journal of one segment with the batches 1..=4, 5..=9, 10..=13, and where each batch ends.
fn three_batches() -> (TempDir, PathBuf, [usize; 3]) {
    let folder = tempdir().unwrap();
    let (_, mut appender, ..) = opened(&folder);
    let mut end = HEADER_BYTES;
    let ends = [1..=4, 5..=9, 10..=13].map(|seqs| {
        end += batch(seqs.clone()).bytes();
        append(&mut appender, seqs);
        end
    });
    let path = segments(&folder).pop().unwrap();
    (folder, path, ends)
}

/// Opens a copy of the journal whose last segment is changed: the number of records found, or the error.
fn open_changed(folder: &TempDir, change_bytes: impl FnOnce(&mut Vec<u8>)) -> Result<(u64, Vec<Notice>), OpenError> {
    let folder = copy(folder);
    change(&segments(&folder).pop().unwrap(), change_bytes);
    let (_, mut appender, found, notices) = open(folder.path())?;
    // After any result, the journal continues after the records found, and the next start finds all of them.
    append(&mut appender, found + 1..=found + 2);
    drop(appender);
    let (_, _, found_again, notices_again) = open(folder.path())?;
    assert_eq!((found_again, notices_again), (found + 2, vec![]));
    Ok((found, notices))
}

/// Nothing after some byte reached the disk; all batches that end before it are found.
#[test]
fn a_journal_that_is_cut_anywhere_keeps_every_batch_before_the_cut() {
    let (folder, _, ends) = three_batches();
    for cut in HEADER_BYTES..=ends[2] {
        let acknowledged = [4, 9, 13].into_iter().zip(ends).filter(|(_, end)| *end <= cut).map(|(seq, _)| seq).max();
        for is_file_cut in [false, true] {
            let (found, notices) = open_changed(&folder, |bytes| match is_file_cut {
                true => bytes.truncate(cut),
                false => bytes[cut..].fill(0),
            })
            .unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            assert!(found >= acknowledged.unwrap_or(0), "cut at {cut}: {found}");
            let is_noticed = matches!(&notices[..], [Notice::Torn(torn)] if torn.is_file_cut == is_file_cut);
            assert!(is_noticed || notices.is_empty() && !is_file_cut, "cut at {cut}: {notices:?}");
        }
    }
}

#[test]
fn a_segment_that_is_cut_in_its_header_stops_the_start() {
    let (folder, ..) = three_batches();
    for cut in [0, 1, 100, HEADER_BYTES - 1] {
        let error = open_changed(&folder, |bytes| bytes.truncate(cut)).unwrap_err();
        assert!(matches!(&error, OpenError::BadRecord(bad) if bad.offset == 0), "{error}");
    }
}

/// Any block of the last batch may be missing while later ones are written: the disk writes them in any order.
#[test]
fn a_hole_anywhere_in_the_last_batch_cuts_it_there_with_a_notice() {
    let (folder, _, ends) = three_batches();
    for hole in (ends[1]..ends[2]).step_by(8) {
        let (found, notices) = open_changed(&folder, |bytes| bytes[hole..(hole + 24).min(ends[2])].fill(0)).unwrap();
        assert!((9..=12).contains(&found), "hole at {hole}: {found}");
        assert!(matches!(&notices[..], [Notice::Torn(torn)] if torn.seq == found + 1), "hole at {hole}: {notices:?}");
    }
}

/// The same hole in a batch before another one, which was written after the first had been acknowledged.
#[test]
fn a_hole_anywhere_in_an_acknowledged_batch_stops_the_start_with_its_offset() {
    let (folder, path, ends) = three_batches();
    for hole in (HEADER_BYTES..ends[1] - 24).step_by(8) {
        let error = open_changed(&folder, |bytes| bytes[hole..hole + 24].fill(0)).map(drop).unwrap_err();
        let OpenError::BadRecord(bad) = &error else { panic!("hole at {hole}: {error}") };
        assert!(bad.offset as usize <= hole + 24 && (1..=9).contains(&bad.seq), "hole at {hole}: {bad}");
        assert_eq!(bad.file.file_name(), path.file_name());
        assert!(matches!(bad.reason, Reason::Damaged { .. }), "{bad}");
        assert!(error.to_string().contains("journal repair"), "{error}");
    }
}

/// The start finds the same records, or a prefix with a notice, or is refused; [`open`] compares each record with the
/// written one.
#[test]
fn a_flipped_bit_anywhere_never_changes_a_record() {
    let (folder, path, ends) = three_batches();
    for at in (0..256).chain(HEADER_BYTES..ends[2] + 64) {
        for bit in [at % 8, (at + 3) % 8] {
            match open_changed(&folder, |bytes| bytes[at] ^= 1 << bit) {
                Ok((13, notices)) => {
                    let is_behind = at >= ends[2];
                    assert!(notices.is_empty() || is_behind, "byte {at}: {notices:?}");
                }
                Ok((found, notices)) => {
                    assert!(at >= ends[1] && found >= 9, "byte {at}: {found}");
                    assert!(matches!(notices[..], [Notice::Torn(_)]), "byte {at}: {notices:?}");
                }
                Err(OpenError::BadRecord(bad)) => {
                    assert!(at < ends[1], "byte {at}: {bad}");
                    assert_eq!(bad.file.file_name(), path.file_name());
                }
                Err(error) => panic!("byte {at}: {error}"),
            }
        }
    }
}

#[test]
fn a_segment_that_is_missing_or_of_another_hub_stops_the_start() {
    let folder = tempdir().unwrap();
    let (_, mut appender, ..) = opened(&folder);
    for first in (1..=600).step_by(20) {
        append(&mut appender, first..=first + 19);
    }
    drop(appender);
    let count = segments(&folder).len();
    assert!(count >= 4);
    for at in 0..count - 1 {
        let copy = copy(&folder);
        std::fs::remove_file(&segments(&copy)[at]).unwrap();
        let error = open(copy.path()).map(drop).unwrap_err();
        assert!(matches!(error, OpenError::BadRecord(_)), "{error}");
    }
    let other = tempdir().unwrap();
    opened(&other);
    let copy = copy(&folder);
    std::fs::copy(&segments(&other)[0], &segments(&copy)[1]).unwrap();
    let error = open(copy.path()).map(drop).unwrap_err();
    assert!(error.to_string().contains("another hub"), "{error}");
}

/// A recycled segment is full of intact records of an older one, at every offset where a new record could start.
#[test]
fn records_of_a_recycled_segment_are_never_read_again() {
    for sizes in [[1, 1, 1], [3, 50, 2], [20, 1, 7]] {
        let folder = tempdir().unwrap();
        let (_, mut appender, ..) = opened(&folder);
        append(&mut appender, 1..=50);
        append(&mut appender, 51..=100);
        // The first segment's bytes, as a spare.
        let spare = folder.path().join("journal/spare-0.seg");
        std::fs::copy(&segments(&folder)[0], &spare).unwrap();
        appender.seal(hash(101));
        let mut last = 100;
        for size in sizes {
            append(&mut appender, last + 1..=last + size);
            last += size;
        }
        assert!(!spare.exists(), "the spare is in use");
        drop(appender);
        let (_, _, found, notices) = opened(&folder);
        assert_eq!((found, notices), (last, vec![]));
        let path = segments(&folder).pop().unwrap();
        let header =
            folder::SegmentFile { disk: Options::default().disk, path, first_seq: 101 }.header().unwrap().unwrap();
        assert!(header.is_recycled && header.epoch == 2);
    }
}

#[test]
fn the_first_copy_of_a_batch_that_was_written_twice_is_not_read() {
    use crate::disk::faults::{self, Operation};
    let folder = tempdir().unwrap();
    let (_, mut appender, ..) = opened(&folder);
    append(&mut appender, 1..=5);
    // The batch is written, but its sync fails; before it is repeated a record is added to it.
    faults::arm(Operation::Sync, std::io::ErrorKind::Other);
    appender.append(6, &mut batch(6..=9), hash(6)).unwrap_err();
    append(&mut appender, 6..=10);
    drop(appender);
    assert_eq!(segments(&folder).len(), 2);
    assert_eq!(opened(&folder).2, 10);
    let report = verify(folder.path(), false).unwrap();
    assert!(report.is_ok() && report.last_seq() == 10, "{report}");
    assert_eq!(report.segments[0].status, SegmentStatus::Superseded);
    assert_eq!(report.segments[0].records, 5);
}

#[test]
fn verify_reports_the_damage_and_repair_cuts_there_and_moves_the_rest_to_the_quarantine() {
    let folder = tempdir().unwrap();
    let (_, mut appender, ..) = opened(&folder);
    for first in (1..=600).step_by(20) {
        append(&mut appender, first..=first + 19);
    }
    drop(appender);
    let now = Timestamp::from_millis(1_768_510_323_348);
    let untouched = repair(folder.path(), small(), now, true).unwrap();
    assert!(untouched.damage.is_none() && untouched.moved.is_empty() && untouched.next_seq == 601);
    let count = segments(&folder).len();
    for at in 0..count - 1 {
        let copy = copy(&folder);
        let damaged = segments(&copy)[at].clone();
        change(&damaged, |bytes| bytes[HEADER_BYTES + 3_000] ^= 1);
        let before = verify(copy.path(), false).unwrap();
        let bad = before.problem.clone().expect("the damage is detected");
        assert_eq!(bad.file, damaged);
        assert_eq!(before.last_seq(), bad.seq - 1);
        let report = repair(copy.path(), small(), now, true).unwrap();
        assert_eq!(report.damage.as_ref(), Some(&bad));
        assert_eq!(report.lost.map(range), Some((bad.seq, 600)), "{report}");
        assert_eq!(report.next_seq, bad.seq);
        assert_eq!(report.moved.len(), count - at);
        assert!(report.quarantine.unwrap().ends_with("quarantine/20260115T205203.348Z"));
        assert!(report.moved.iter().all(|path| path.is_file()));
        let after = verify(copy.path(), false).unwrap();
        assert!(after.is_ok(), "{after}");
        let (_, mut appender, found, notices) = opened(&copy);
        assert_eq!((found, notices), (bad.seq - 1, vec![]));
        append(&mut appender, found + 1..=found + 30);
        drop(appender);
        assert_eq!(opened(&copy).2, found + 30);
    }
}

fn range(lost: Lost) -> (u64, u64) {
    (lost.first_seq, lost.last_seq)
}

#[test]
fn a_journal_of_another_format_is_not_repaired() {
    let folder = tempdir().unwrap();
    let (_, mut appender, ..) = opened(&folder);
    append(&mut appender, 1..=20);
    appender.seal(hash(21));
    append(&mut appender, 21..=40);
    drop(appender);
    for (at, path) in segments(&folder).iter().enumerate() {
        let whole = std::fs::read(path).unwrap();
        change(path, |bytes| {
            bytes[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&bytes[0..12]);
            hasher.update(&bytes[16..256]);
            bytes[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
        });
        let before = contents(folder.path());
        let refusals = [
            open(folder.path()).map(drop).unwrap_err().to_string(),
            repair(folder.path(), small(), Timestamp::from_millis(1), true).unwrap_err().to_string(),
            rewind(folder.path(), small(), Timestamp::from_millis(1), true).unwrap_err().to_string(),
            verify(folder.path(), false).unwrap().to_string(),
        ];
        for refusal in refusals {
            assert!(refusal.contains("start a newer sheratan-hub"), "segment {at}: {refusal}");
            assert!(!refusal.contains("journal repair"), "segment {at}: {refusal}");
        }
        assert_eq!(contents(folder.path()), before);
        std::fs::write(path, whole).unwrap();
    }
}

#[test]
fn repair_restores_a_journal_without_its_first_or_a_middle_segment() {
    let folder = tempdir().unwrap();
    let (_, mut appender, ..) = opened(&folder);
    for first in (1..=600).step_by(20) {
        append(&mut appender, first..=first + 19);
    }
    drop(appender);
    for at in [0, 2] {
        let copy = copy(&folder);
        let first_lost = folder::Folder::unlocked(copy.path()).segments().unwrap()[at].first_seq;
        std::fs::remove_file(&segments(&copy)[at]).unwrap();
        let report = repair(copy.path(), small(), Timestamp::from_millis(5), true).unwrap();
        assert_eq!(report.lost.map(range), Some((first_lost, 600)));
        let at = |seq: u64| Some(crate::rfc3339::Rfc3339::new(sheratan_core::Utc::from_millis(1_000 + seq)));
        assert_eq!(report.lost.unwrap().last_at, at(600));
        assert_eq!(opened(&copy).2, first_lost - 1);
        assert_eq!(opened(&copy).0.identity(), opened(&folder).0.identity());
    }
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempdir().unwrap();
    let folder = root.path().join("data");
    drop(open(&folder).unwrap());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let segment = folder::Folder::unlocked(&folder).segments().unwrap().remove(0).path;
    assert_eq!([mode(&folder), mode(&folder.join("journal"))], [0o700, 0o700]);
    assert_eq!([mode(&segment), mode(&folder.join("lock"))], [0o600, 0o600]);
}

/// A journal with three batches in a recycled segment, and the segment's bytes before and after the third.
fn third_batch_over_old_records() -> (TempDir, Vec<u8>, Vec<u8>) {
    let folder = tempdir().unwrap();
    let (_, mut appender, ..) = opened(&folder);
    append(&mut appender, 1..=50);
    append(&mut appender, 51..=100);
    std::fs::copy(&segments(&folder)[0], folder.path().join("journal/spare-0.seg")).unwrap();
    appender.seal(hash(101));
    append(&mut appender, 101..=104);
    append(&mut appender, 105..=109);
    let path = segments(&folder).pop().unwrap();
    let before = std::fs::read(&path).unwrap();
    append(&mut appender, 110..=119);
    (folder, before, std::fs::read(&path).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Changes, cuts and copies inside a segment never cause a panic or a record that was not written.
    #[test]
    fn a_mangled_segment_gives_only_written_records(
        changes in prop::collection::vec((0usize..5_000, any::<u8>(), 0usize..600, 0u8..4), 1..6),
    ) {
        thread_local! {
            static WRITTEN: (TempDir, PathBuf, [usize; 3]) = three_batches();
        }
        let copy = WRITTEN.with(|(folder, ..)| copy(folder));
        change(&segments(&copy).pop().unwrap(), |bytes| {
            for (at, byte, length, what) in changes {
                let (at, end) = (at.min(bytes.len()), (at + length).min(bytes.len()));
                match what {
                    0 => bytes[at..end].fill(byte),
                    1 => bytes.truncate(HEADER_BYTES.max(at)),
                    2 if at < bytes.len() => bytes[at] = byte,
                    _ => {
                        let to = HEADER_BYTES.min(bytes.len() - (end - at));
                        bytes.copy_within(at..end, to);
                    }
                }
            }
        });
        // In the order in which an operator runs them.
        match open(copy.path()) {
            Ok((.., found, _)) => prop_assert!(found <= 13),
            Err(OpenError::BadRecord(_)) => {
                prop_assert!(!verify(copy.path(), false).unwrap().is_ok());
                match repair(copy.path(), small(), Timestamp::from_millis(1), true) {
                    Ok(report) => prop_assert_eq!(open(copy.path()).unwrap().2 + 1, report.next_seq),
                    Err(error) => prop_assert!(matches!(error, RepairError::NothingReadable(_)), "{}", error),
                }
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
    }

    /// A power cut while a batch overwrites an older segment's records: any pieces of it reached the disk.
    #[test]
    fn a_batch_of_which_any_pieces_were_written_is_torn(pieces in prop::collection::vec(any::<bool>(), 64)) {
        thread_local! {
            static WRITTEN: (TempDir, Vec<u8>, Vec<u8>) = third_batch_over_old_records();
        }
        let (copy, before, after) =
            WRITTEN.with(|(folder, before, after)| (copy(folder), before.clone(), after.clone()));
        let is_new = |at: usize| pieces[at / 16 % pieces.len()];
        let mixed: Vec<u8> = (0..after.len()).map(|at| if is_new(at) { after[at] } else { before[at] }).collect();
        std::fs::write(segments(&copy).pop().unwrap(), mixed).unwrap();
        let (_, mut appender, found, notices) = open(copy.path()).unwrap();
        prop_assert!((109..=119).contains(&found) && (found < 119 || notices.is_empty()));
        append(&mut appender, found + 1..=found + 12);
        drop(appender);
        prop_assert_eq!(open(copy.path()).unwrap().2, found + 12);
    }
}
