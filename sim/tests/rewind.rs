//! Going back to a snapshot on a disk whose power fails at every operation: the folder is as it was, or refused until
//! another run has finished it, or done; never half of what was to be lost.

use sheratan_core::{Caller, Command, Envelope, HubKey, Name, Payload, Submit, Timestamp};
use sheratan_io::journal::{
    Batch, HubId, Identity, OpenError, Options, Recovery, RepairError, recover, rewind, verify_on,
};
use sheratan_sim::disk::VirtualDisk;
use sheratan_sim::draw::{Draw, Stream};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

const FOLDER: &str = "/data/hub";
const NOW: Timestamp = Timestamp::from_millis(1_768_510_323_348);
const BEFORE: u64 = 40;
const BEHIND: u64 = 130;

fn options(disk: &VirtualDisk) -> Options {
    Options {
        segment_bytes: 8 << 10,
        disk: Arc::new(disk.clone()),
        new_identity: Some(Identity { hub_id: HubId([1; 16]), key: HubKey::new([2; 16]) }),
        ..Options::default()
    }
}

fn start(disk: &VirtualDisk) -> Result<Recovery, OpenError> {
    recover(Path::new(FOLDER), options(disk), &mut |_| {})
}

fn work(recovery: &mut Recovery, records: u64) {
    for _ in 0..records {
        let seq = recovery.appender.next_seq();
        let (hash_before, now) = (recovery.hub.outcome_hash(), Timestamp::from_millis(1_000 + seq));
        let params = Payload::new(format!("{{\"number\":{seq},\"filler\":\"{}\"}}", "x".repeat(100)).as_bytes());
        let command = Command::Submit(Box::new(Submit::new(Name::new("echo").unwrap(), Some(params))));
        let mut batch = Batch::new();
        Envelope::encode(recovery.hub.rules(), Caller::HUB, &command, batch.begin(seq, now));
        batch.commit();
        assert!(recovery.hub.apply(now, command).is_durable());
        recovery.appender.append(seq, &mut batch, hash_before).unwrap();
    }
}

/// A folder with a snapshot in the middle of a segment, and the rest of it and several more behind: with the digests at
/// the snapshot and at the end.
fn written(seed: u64) -> (VirtualDisk, [u8; 32], [u8; 32]) {
    let disk = VirtualDisk::new(Draw::new(seed, Stream::Traffic));
    let mut recovery = start(&disk).unwrap();
    work(&mut recovery, BEFORE);
    recovery.store.write_snapshot(BEFORE, &recovery.hub).unwrap();
    let at_snapshot = recovery.hub.digest();
    work(&mut recovery, BEHIND);
    let at_end = recovery.hub.digest();
    (disk, at_snapshot, at_end)
}

#[test]
fn a_rewind_that_is_cut_off_anywhere_is_undone_or_finished_by_another() {
    let mut ends = BTreeSet::new();
    for crash_in in 1.. {
        let (disk, at_snapshot, at_end) = written(crash_in);
        disk.crash_at(disk.ops() + crash_in);
        let first = rewind(Path::new(FOLDER), options(&disk), NOW, true);
        if !disk.is_dead() {
            assert!(first.unwrap().is_done && crash_in > 20, "it has {crash_in} operations");
            break;
        }
        match crash_in % 2 {
            0 => disk.crash(&mut Draw::new(crash_in, Stream::Lives)),
            _ => disk.kill(),
        }
        let is_whole = match start(&disk) {
            Ok(recovery) if recovery.report.next_seq == BEFORE + BEHIND + 1 => {
                assert_eq!(recovery.hub.digest(), at_end, "cut at {crash_in}");
                true
            }
            Ok(recovery) => {
                assert_eq!(recovery.hub.digest(), at_snapshot, "cut at {crash_in}: half of it is lost");
                false
            }
            Err(OpenError::BadRecord(bad)) => {
                ends.insert("refused");
                assert_eq!(bad.seq, BEFORE + 1, "cut at {crash_in}: {bad}");
                let again = rewind(Path::new(FOLDER), options(&disk), NOW, true).unwrap();
                assert!(again.is_done, "cut at {crash_in}: {again}");
                false
            }
            Err(error) => panic!("cut at {crash_in}: {error}"),
        };
        ends.insert(if is_whole { "as it was" } else { "done" });
        match rewind(Path::new(FOLDER), options(&disk), NOW, true) {
            Ok(report) => assert_eq!(report.is_done, is_whole, "cut at {crash_in}: {report}"),
            Err(error @ RepairError::Io { .. }) => panic!("cut at {crash_in}, run again in the same instant: {error}"),
            Err(error) => panic!("cut at {crash_in}: {error}"),
        }
        let mut recovery = start(&disk).unwrap();
        assert_eq!(recovery.hub.digest(), at_snapshot, "cut at {crash_in}");
        work(&mut recovery, 20);
        drop(recovery);
        let report = verify_on(Arc::new(disk.clone()), Path::new(FOLDER), true).unwrap();
        assert!(report.is_ok() && report.last_seq() == BEFORE + 20, "cut at {crash_in}: {report}");
    }
    assert_eq!(ends, BTreeSet::from(["as it was", "done", "refused"]));
}
