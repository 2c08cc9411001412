//! Snapshots: written by replay beside a live hub, compared with it, and starts if one cannot be read.

use super::super::format::HEADER_BYTES;
use super::*;
use crate::disk::faults::{self, Operation};
use sheratan_core::{
    Caller, Command, Complete, Envelope, Hub, Name, NameSet, Outcome, Payload, Pull, ResultMark, RulesVersion, Submit,
};
use std::collections::VecDeque;
use std::path::PathBuf;
use tempfile::tempdir;

/// A hub with its journal, used as the loop uses them.
pub struct Live {
    pub hub: Hub,
    pub appender: Appender,
    pub store: Store,
    pub report: RecoveryReport,
    pub now: u64,
    leased: VecDeque<sheratan_core::LeaseRef>,
}

impl Live {
    pub fn open(folder: &Path) -> Result<Live, OpenError> {
        let Recovery { hub, appender, store, report } = recover(folder, small(), &mut |_| {})?;
        let now = hub.now().as_millis() + 1;
        Ok(Live { hub, appender, store, report, now, leased: VecDeque::new() })
    }

    /// Appends batches of a submit, a pull and a result, until at least `records` records are appended.
    pub fn append_records(&mut self, records: u64) {
        let until = self.appender.next_seq() + records;
        while self.appender.next_seq() < until {
            let mut batch = Batch::new();
            let hash_before = self.hub.outcome_hash();
            let first_seq = self.appender.next_seq();
            for turn in 0..(first_seq % 5 + 1) * 3 {
                self.now += 7;
                let command = self.command(turn);
                let now = Timestamp::from_millis(self.now);
                let outcome = self.hub.apply(now, command.clone());
                if let Outcome::Pulled(pulled) = &outcome {
                    self.leased.extend(pulled.leases.iter().map(|leased| leased.lease));
                }
                if outcome.is_durable() {
                    let seq = first_seq + u64::from(batch.records());
                    encode(&command, batch.begin(seq, now));
                    batch.commit();
                }
            }
            self.appender.append(first_seq, &mut batch, hash_before).expect("the disk works");
        }
    }

    /// Appends `records` submits, each as a batch of its own.
    pub fn append_submits(&mut self, records: u64) {
        for _ in 0..records {
            self.now += 7;
            let (seq, now) = (self.appender.next_seq(), Timestamp::from_millis(self.now));
            let (hash_before, command) = (self.hub.outcome_hash(), Command::Submit(Box::new(submit(self.now))));
            let mut batch = Batch::new();
            encode(&command, batch.begin(seq, now));
            batch.commit();
            assert!(self.hub.apply(now, command).is_durable());
            self.appender.append(seq, &mut batch, hash_before).expect("the disk works");
        }
    }

    fn command(&mut self, turn: u64) -> Command {
        match turn % 3 {
            0 => Command::Submit(Box::new(submit(self.now))),
            1 => Command::Pull(Pull {
                node: Name::new("node").unwrap(),
                jobs_max: 1,
                kinds: NameSet::EMPTY,
                lease_duration_ms: None,
            }),
            _ => {
                let lease = self.leased.pop_front().expect("the turn before leased a job");
                Command::Complete(Complete {
                    job: lease.job,
                    lease: Some(lease),
                    node: None,
                    ok: !self.now.is_multiple_of(4),
                    result: Some(Payload::new(b"{\"lines\":3}")),
                    error: None,
                    is_retryable: true,
                    mark: ResultMark::Content(self.now),
                    integrity: None,
                    retry_after_ms: None,
                })
            }
        }
    }

    /// The digest that a replay must have after the last record: each batch ends with a command that is in the journal.
    pub fn digest(&self) -> [u8; 32] {
        self.hub.digest()
    }

    /// Writes the snapshot that the background thread writes after a segment is sealed.
    pub fn snapshot(&mut self) -> SnapshotReport {
        self.appender.seal(self.hub.outcome_hash());
        let through = self.appender.sealed_through();
        self.store.snapshot_by_replay(through, &mut |_| true).expect("the replay decides as the hub did")
    }
}

pub fn submit(number: u64) -> Submit {
    Submit::new(Name::new("echo").unwrap(), Some(Payload::new(format!("{{\"number\":{number}}}").as_bytes())))
}

pub fn snapshot_files(folder: &TempDir) -> Vec<PathBuf> {
    let folder = folder::Folder::unlocked(folder.path());
    folder.snapshot_files().unwrap().into_iter().map(|file| file.path).collect()
}

/// A folder with two snapshots and records before, between and after them; the digest at the end, the last records that
/// the snapshots cover, and the last record.
pub fn two_snapshots() -> (TempDir, [u8; 32], [u64; 2], u64) {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    let covered = [400, 300].map(|records| {
        live.append_records(records);
        live.snapshot().covered_seq
    });
    live.append_records(100);
    (folder, live.digest(), covered, live.appender.next_seq() - 1)
}

#[test]
fn a_hub_has_the_same_state_after_each_restart() {
    let folder = tempdir().unwrap();
    let mut digest = Live::open(folder.path()).unwrap().digest();
    for run in 0..8 {
        let mut live = Live::open(folder.path()).unwrap();
        assert_eq!(live.digest(), digest, "run {run}");
        assert_eq!(live.report.notices, vec![]);
        live.append_records(150);
        digest = live.digest();
        if run % 3 == 1 {
            live.store.write_snapshot(live.appender.next_seq() - 1, &live.hub).unwrap();
        }
    }
}

#[test]
fn a_snapshot_by_replay_has_the_digest_of_the_live_hub() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    for _ in 0..4 {
        live.append_records(200);
        let report = live.snapshot();
        assert_eq!(report.covered_seq, live.appender.next_seq() - 1);
        assert_eq!(report.digest, hex::encode(live.digest()));
        assert!(report.replayed >= 200 && report.replayed < 300, "only the new records: {}", report.replayed);
    }
    let again = live.snapshot();
    assert_eq!((again.replayed, again.digest), (0, hex::encode(live.digest())), "without new records it is the same");
    live.append_records(50);
    let (digest, store) = (live.digest(), live.store.identity().hub_id);
    drop(live);
    let live = Live::open(folder.path()).unwrap();
    assert_eq!((live.digest(), live.store.identity().hub_id), (digest, store));
    assert!(live.report.snapshot_seq.is_some() && live.report.records < 100, "{:?}", live.report);
}

#[test]
fn a_cancelled_replay_writes_nothing() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    live.append_records(5_000);
    live.appender.seal(live.hub.outcome_hash());
    let error = live.store.snapshot_by_replay(live.appender.sealed_through(), &mut |_| false).unwrap_err();
    assert!(matches!(error, ReplayError::Cancelled), "{error}");
    assert!(snapshot_files(&folder).is_empty());
}

#[test]
fn segments_are_removed_only_when_the_older_of_two_snapshots_covers_them() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    live.append_records(400);
    let first = live.snapshot();
    let before = segments(&folder);
    assert!(before.len() >= 2);
    assert_eq!(live.store.truncate(&first).unwrap(), Truncated::default(), "the fallback is the first record");
    live.append_records(300);
    let second = live.snapshot();
    let truncated = live.store.truncate(&second).unwrap();
    assert_eq!(truncated.recycled, 2, "as many as spares are kept");
    assert_eq!(truncated.recycled + truncated.deleted, before.len());
    let oldest = folder::Folder::unlocked(folder.path()).segments().unwrap()[0].first_seq;
    assert_eq!(oldest, first.covered_seq + 1);
    live.append_records(300);
    let third = live.snapshot();
    assert_eq!(live.store.truncate(&third).unwrap().snapshots_deleted, 1);
    assert_eq!(snapshot_files(&folder).len(), 2);
    live.append_records(40);
    let digest = live.digest();
    drop(live);
    let report = verify(folder.path(), true).unwrap();
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.replay.unwrap().digest, hex::encode(digest));
    // The newest snapshot cannot be read.
    change(&snapshot_files(&folder)[0], |bytes| bytes[200] ^= 1);
    let live = Live::open(folder.path()).unwrap();
    assert_eq!((live.digest(), live.report.snapshot_seq), (digest, Some(second.covered_seq)));
}

#[test]
fn without_a_readable_snapshot_the_start_replays_from_the_first_record_or_stops() {
    let (folder, digest, [first, second], last) = two_snapshots();
    for path in snapshot_files(&folder) {
        change(&path, |bytes| bytes.truncate(bytes.len() - 1));
    }
    let live = Live::open(folder.path()).unwrap();
    assert_eq!((live.digest(), live.report.snapshot_seq, live.report.records), (digest, None, last));
    let bad = |notice: &Notice| matches!(notice, Notice::SnapshotBad { file, .. } if file.is_file());
    assert_eq!(live.report.notices.iter().filter(|notice| bad(notice)).count(), 2);
    assert!(first < second && snapshot_files(&folder).is_empty());
    drop(live);
    std::fs::remove_file(&segments(&folder)[0]).unwrap();
    let error = Live::open(folder.path()).map(drop).unwrap_err();
    assert!(matches!(&error, OpenError::BadRecord(bad) if bad.seq == 1), "{error}");
}

#[test]
fn a_flipped_bit_anywhere_in_a_snapshot_is_detected() {
    let (folder, ..) = two_snapshots();
    let path = snapshot_files(&folder).remove(0);
    let identity = *Store::open(folder.path(), small()).unwrap().0.identity();
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 300 + 1).chain(0..100).chain(whole.len() - 60..whole.len()) {
        change(&path, |bytes| bytes[at] ^= 4);
        assert!(replay::load(&crate::disk::RealDisk, &path, &identity).is_err(), "byte {at}");
        std::fs::write(&path, &whole).unwrap();
    }
    assert!(replay::load(&crate::disk::RealDisk, &path, &identity).is_ok());
}

#[test]
fn a_snapshot_that_cannot_be_written_leaves_nothing_behind() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    live.append_records(50);
    for operation in [Operation::Create, Operation::Write, Operation::Sync, Operation::Rename] {
        faults::arm(operation, std::io::ErrorKind::StorageFull);
        let error = live.store.write_snapshot(live.appender.next_seq() - 1, &live.hub).unwrap_err();
        assert!(matches!(error, SnapshotError::Io { .. }), "{error}");
        assert_eq!(std::fs::read_dir(folder.path().join("snapshots")).unwrap().count(), 0, "{operation:?}");
    }
}

#[test]
fn a_journal_that_ends_before_its_snapshot_continues_after_the_snapshot() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    live.append_records(60);
    let covered_seq = live.appender.next_seq() - 1;
    live.store.write_snapshot(covered_seq, &live.hub).unwrap();
    let digest = live.digest();
    drop(live);
    change(&segments(&folder)[0], |bytes| bytes.truncate(HEADER_BYTES + 2_000));
    let mut live = Live::open(folder.path()).unwrap();
    assert_eq!(live.digest(), digest);
    let behind =
        |notice: &Notice| matches!(notice, Notice::JournalBehind { snapshot_seq, .. } if *snapshot_seq == covered_seq);
    assert!(live.report.notices.iter().any(behind), "{:?}", live.report.notices);
    assert_eq!(live.appender.next_seq(), covered_seq + 1);
    live.append_records(30);
    let digest = live.digest();
    drop(live);
    assert_eq!(Live::open(folder.path()).unwrap().digest(), digest);
}

#[test]
fn damage_that_a_snapshot_covers_is_repaired_without_losing_a_record() {
    let (folder, digest, [_, second], last) = two_snapshots();
    let files = folder::Folder::unlocked(folder.path()).segments().unwrap();
    let covered = files.windows(2).filter(|pair| pair[1].first_seq <= second + 1).count();
    assert!(covered > 1);
    for at in 0..covered {
        let copy = copy(&folder);
        change(&segments(&copy)[at], |bytes| bytes[HEADER_BYTES + 40] ^= 1);
        let report = repair(copy.path(), small(), Timestamp::from_millis(9), true).unwrap();
        assert!(report.damage.is_some() && report.lost.is_none(), "{report}");
        assert_eq!(report.next_seq, last + 1);
        assert_eq!(Live::open(copy.path()).unwrap().digest(), digest);
        let report = verify(copy.path(), true).unwrap();
        assert!(report.is_ok(), "{report}");
    }
}

/// The snapshot of a stop covers the first part of a segment, whose damage is harmless.
#[test]
fn damage_in_the_covered_part_of_the_last_segment_is_repaired_without_losing_a_record() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    live.append_records(30);
    live.store.write_snapshot(live.appender.next_seq() - 1, &live.hub).unwrap();
    live.append_records(30);
    let (digest, next_seq) = (live.digest(), live.appender.next_seq());
    drop(live);
    change(&segments(&folder)[0], |bytes| bytes[HEADER_BYTES + 40] ^= 1);
    let error = Live::open(folder.path()).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::BadRecord(_)), "{error}");
    let report = repair(folder.path(), small(), Timestamp::from_millis(9), true).unwrap();
    assert_eq!((report.lost, report.next_seq), (None, next_seq), "{report}");
    assert_eq!(Live::open(folder.path()).unwrap().digest(), digest);
    assert!(verify(folder.path(), true).unwrap().is_ok());
}

#[test]
fn verify_reads_the_journal_of_a_running_hub_without_changing_it() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    live.append_records(200);
    let report = verify(folder.path(), true).unwrap();
    assert!(report.is_in_use && report.is_ok(), "{report}");
    assert_eq!(report.last_seq(), live.appender.next_seq() - 1);
    assert_eq!(report.replay.as_ref().unwrap().digest, hex::encode(live.digest()));
    assert!(report.to_string().contains("in use"));
    live.append_records(10);
}

#[test]
fn a_spare_is_prepared_ahead_and_becomes_the_next_segment() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    assert!(live.store.prepare_spare().unwrap());
    assert!(!live.store.prepare_spare().unwrap(), "one is enough");
    faults::arm(Operation::Fill, std::io::ErrorKind::StorageFull);
    while segments(&folder).len() < 2 {
        live.append_records(20);
    }
    faults::disarm();
    assert!(live.store.prepare_spare().unwrap());
}

/// As a hub that has adopted no other rules.
pub fn encode(command: &Command, buffer: &mut Vec<u8>) {
    Envelope::encode(RulesVersion::FIRST, Caller::HUB, command, buffer);
}
