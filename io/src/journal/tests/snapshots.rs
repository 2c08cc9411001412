//! Snapshots: made by replay beside a live hub, proven, and what happens when one cannot be read.

use super::super::format::HEADER_BYTES;
use super::*;
use crate::disk::faults::{self, Operation};
use sheratan_core::{
    Caller, Command, Complete, Envelope, Hub, Name, NameSet, Outcome, Payload, Pull, ResultMark, RulesVersion, Submit,
};
use std::collections::VecDeque;
use std::path::PathBuf;
use tempfile::tempdir;

/// A hub with its journal, driven as the loop drives it.
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

    /// Batches of a submit, a pull and a result, until so many records were appended.
    pub fn work(&mut self, records: u64) {
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

    /// As many submits, each a batch of its own.
    pub fn work_on_submits(&mut self, records: u64) {
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
                let lease = self.leased.pop_front().expect("a job was leased a turn ago");
                Command::Complete(Complete {
                    job: lease.job,
                    lease: Some(lease),
                    node: None,
                    ok: !self.now.is_multiple_of(4),
                    result: Some(Payload::new(b"{\"lines\":3}")),
                    error: None,
                    is_retryable: true,
                    mark: ResultMark::Content(self.now),
                })
            }
        }
    }

    /// What a replay up to the last record must have: each batch ends with a command that is in the journal.
    pub fn digest(&self) -> [u8; 32] {
        self.hub.digest()
    }

    /// The snapshot that the background makes after a roll.
    pub fn snapshot(&mut self) -> SnapshotReport {
        self.appender.seal(self.hub.outcome_hash());
        let through = self.appender.sealed_through();
        self.store.snapshot_by_replay(through, &mut |_| true).expect("the replay agrees")
    }
}

pub fn submit(number: u64) -> Submit {
    Submit::new(Name::new("echo").unwrap(), Some(Payload::new(format!("{{\"number\":{number}}}").as_bytes())))
}

pub fn snapshot_files(folder: &TempDir) -> Vec<PathBuf> {
    let folder = folder::Folder::unlocked(folder.path());
    folder.snapshot_files().unwrap().into_iter().map(|file| file.path).collect()
}

/// A folder with two snapshots and records before, between and behind them; and the digest at its end.
pub fn two_snapshots() -> (TempDir, [u8; 32], [u64; 2], u64) {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    let covered = [400, 300].map(|records| {
        live.work(records);
        live.snapshot().covered_seq
    });
    live.work(100);
    (folder, live.digest(), covered, live.appender.next_seq() - 1)
}

#[test]
fn a_hub_comes_back_as_it_was_however_often_it_stops() {
    let folder = tempdir().unwrap();
    let mut digest = Live::open(folder.path()).unwrap().digest();
    for run in 0..8 {
        let mut live = Live::open(folder.path()).unwrap();
        assert_eq!(live.digest(), digest, "run {run}");
        assert_eq!(live.report.notices, vec![]);
        live.work(150);
        digest = live.digest();
        if run % 3 == 1 {
            live.store.write_snapshot(live.appender.next_seq() - 1, &live.hub).unwrap();
        }
    }
}

#[test]
fn a_snapshot_by_replay_is_the_live_hub_digest_for_digest() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    for _ in 0..4 {
        live.work(200);
        let report = live.snapshot();
        assert_eq!(report.covered_seq, live.appender.next_seq() - 1);
        assert_eq!(report.digest, hex::encode(live.digest()));
        assert!(report.replayed >= 200 && report.replayed < 300, "only what is new: {}", report.replayed);
    }
    let again = live.snapshot();
    assert_eq!((again.replayed, again.digest), (0, hex::encode(live.digest())), "with nothing new it is the same");
    live.work(50);
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
    live.work(5_000);
    live.appender.seal(live.hub.outcome_hash());
    let error = live.store.snapshot_by_replay(live.appender.sealed_through(), &mut |_| false).unwrap_err();
    assert!(matches!(error, ReplayError::Cancelled), "{error}");
    assert!(snapshot_files(&folder).is_empty());
}

#[test]
fn segments_go_only_when_the_older_of_two_snapshots_covers_them() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    live.work(400);
    let first = live.snapshot();
    let before = segments(&folder);
    assert!(before.len() >= 2);
    assert_eq!(live.store.truncate(&first).unwrap(), Truncated::default(), "the fallback is the first record");
    live.work(300);
    let second = live.snapshot();
    let truncated = live.store.truncate(&second).unwrap();
    assert_eq!(truncated.recycled, 2, "as many spares as are kept");
    assert_eq!(truncated.recycled + truncated.deleted, before.len());
    let oldest = folder::Folder::unlocked(folder.path()).segments().unwrap()[0].first_seq;
    assert_eq!(oldest, first.covered_seq + 1);
    live.work(300);
    let third = live.snapshot();
    assert_eq!(live.store.truncate(&third).unwrap().snapshots_deleted, 1);
    assert_eq!(snapshot_files(&folder).len(), 2);
    live.work(40);
    let digest = live.digest();
    drop(live);
    let report = verify(folder.path(), true).unwrap();
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.replay.unwrap().digest, hex::encode(digest));
    // The day comes when the newest cannot be read.
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
fn a_flipped_bit_anywhere_in_a_snapshot_is_noticed() {
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
    live.work(50);
    for operation in [Operation::Create, Operation::Write, Operation::Sync, Operation::Rename] {
        faults::arm(operation, std::io::ErrorKind::StorageFull);
        let error = live.store.write_snapshot(live.appender.next_seq() - 1, &live.hub).unwrap_err();
        assert!(matches!(error, SnapshotError::Io { .. }), "{error}");
        assert_eq!(std::fs::read_dir(folder.path().join("snapshots")).unwrap().count(), 0, "{operation:?}");
    }
}

#[test]
fn a_journal_cut_behind_its_snapshot_goes_on_from_the_snapshot() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    live.work(60);
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
    live.work(30);
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
        let report = repair(copy.path(), small(), Timestamp::from_millis(9)).unwrap();
        assert!(report.damage.is_some() && report.lost.is_none(), "{report}");
        assert_eq!(report.next_seq, last + 1);
        assert_eq!(Live::open(copy.path()).unwrap().digest(), digest);
        let report = verify(copy.path(), true).unwrap();
        assert!(report.is_ok(), "{report}");
    }
}

/// A snapshot at a stop ends in the middle of a segment, whose damage in front of it is harmless.
#[test]
fn damage_in_the_covered_part_of_the_last_segment_is_repaired_without_losing_a_record() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    live.work(30);
    live.store.write_snapshot(live.appender.next_seq() - 1, &live.hub).unwrap();
    live.work(30);
    let (digest, next_seq) = (live.digest(), live.appender.next_seq());
    drop(live);
    change(&segments(&folder)[0], |bytes| bytes[HEADER_BYTES + 40] ^= 1);
    let error = Live::open(folder.path()).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::BadRecord(_)), "{error}");
    let report = repair(folder.path(), small(), Timestamp::from_millis(9)).unwrap();
    assert_eq!((report.lost, report.next_seq), (None, next_seq), "{report}");
    assert_eq!(Live::open(folder.path()).unwrap().digest(), digest);
    assert!(verify(folder.path(), true).unwrap().is_ok());
}

#[test]
fn verify_looks_at_a_running_hub_without_disturbing_it() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    live.work(200);
    let report = verify(folder.path(), true).unwrap();
    assert!(report.is_in_use && report.is_ok(), "{report}");
    assert_eq!(report.last_seq(), live.appender.next_seq() - 1);
    assert_eq!(report.replay.as_ref().unwrap().digest, hex::encode(live.digest()));
    assert!(report.to_string().contains("in use"));
    live.work(10);
}

#[test]
fn spares_are_made_ahead_of_need_and_used() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    assert!(live.store.prepare_spare().unwrap());
    assert!(!live.store.prepare_spare().unwrap(), "one is enough");
    faults::arm(Operation::Fill, std::io::ErrorKind::StorageFull);
    while segments(&folder).len() < 2 {
        live.work(20);
    }
    faults::disarm();
    assert!(live.store.prepare_spare().unwrap());
}

pub fn encode(command: &Command, buffer: &mut Vec<u8>) {
    Envelope::encode(RulesVersion::NEWEST, Caller::HUB, command, buffer);
}
