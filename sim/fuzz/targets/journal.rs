//! A journal on a disk: whatever is appended, and whatever then happens to its files, a start gives the state of a
//! prefix of the records or says what is wrong; a repair makes a folder that starts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sheratan_core::{Caller, Command, Envelope, Hub, HubKey, Name, Payload, Submit, Timestamp};
use sheratan_fuzz::{Input, damage, disk, planted, shared};
use sheratan_io::journal::{Batch, HubId, Identity, OpenError, Options, Recovery, recover, repair, verify_on};
use sheratan_sim::disk::VirtualDisk;
use std::path::Path;

const FOLDER: &str = "/data/hub";
const IDENTITY: Identity = Identity { hub_id: HubId([1; 16]), key: HubKey::new([2; 16]) };

fn options(disk: &VirtualDisk) -> Options {
    Options { segment_bytes: 8 << 10, disk: shared(disk), new_identity: Some(IDENTITY), ..Options::default() }
}

fn start(disk: &VirtualDisk) -> Result<Recovery, OpenError> {
    recover(Path::new(FOLDER), options(disk), &mut |_| {})
}

/// Appends what the input says. Returns the digest after each record.
fn append(disk: &VirtualDisk, input: &mut Input) -> Vec<[u8; 16]> {
    let Recovery { mut hub, mut appender, store, .. } = start(disk).expect("a new folder");
    let mut hashes = vec![hub.outcome_hash()];
    let mut covered_seq = 0;
    for _ in 0..input.byte() % 32 {
        let hash_before = hub.outcome_hash();
        let first_seq = appender.next_seq();
        let mut batch = Batch::new();
        let choice = input.byte();
        for seq in first_seq..=first_seq + u64::from(choice % 4) {
            let now = Timestamp::from_millis(1_000 * seq);
            let filler = "x".repeat(usize::from(input.byte()) * 8);
            let payload = Payload::new(format!("\"{filler}\"").as_bytes());
            let command = Command::Submit(Box::new(Submit::new(Name::new("echo").expect("short"), Some(payload))));
            Envelope::encode(hub.rules(), Caller::HUB, &command, batch.begin(seq, now));
            batch.commit();
            hub.apply(now, command);
            hashes.push(hub.outcome_hash());
        }
        appender.append(first_seq, &mut batch, hash_before).expect("the disk does not fail");
        if choice & 0x80 != 0 && appender.sealed_through() > covered_seq {
            covered_seq = appender.sealed_through();
            let report = store.snapshot_by_replay(covered_seq, &mut |_| true).expect("the disk does not fail");
            store.truncate(&report).expect("the disk does not fail");
        }
    }
    if input.byte() % 2 == 0 {
        appender.seal(hub.outcome_hash());
    }
    hashes
}

fn check(hub: &Hub, next_seq: u64, hashes: &[[u8; 16]]) {
    let known = hashes.get(next_seq as usize - 1);
    assert_eq!(known, Some(&hub.outcome_hash()), "not the state of the first {} records", next_seq - 1);
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let disk = disk();
    let hashes = append(&disk, &mut input);
    disk.kill();
    let is_damaged = !input.is_empty();
    damage(&disk, &mut input, |path| !path.ends_with("lock"));
    let verified = verify_on(shared(&disk), Path::new(FOLDER), true).map(|report| report.is_ok());
    match start(&disk) {
        Ok(recovery) => {
            check(&recovery.hub, recovery.report.next_seq, &hashes);
            assert!(is_damaged || verified.is_ok_and(|is_ok| is_ok), "a journal that nobody damaged is not in order");
            return;
        }
        Err(_) => assert!(is_damaged, "a journal that nobody damaged does not start"),
    }
    disk.kill();
    let now = Timestamp::from_millis(1_768_510_323_348);
    let Ok(report) = repair(Path::new(FOLDER), options(&disk), now, false) else { return };
    // A repair that cut the journal behind its first segment.
    planted(report.lost.is_some_and(|lost| lost.first_seq > 8));
    let recovery = start(&disk).expect("a repaired folder starts");
    check(&recovery.hub, recovery.report.next_seq, &hashes);
});
