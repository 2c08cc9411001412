//! Snapshots: no records make the reader panic; those that are taken make a hub that works, and whose snapshot makes
//! the same hub. No file makes the reader of files panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sheratan_core::{Command, Hub, HubKey, Millis, Name, NameSet, Pull, Restore, Submit};
use sheratan_fuzz::{Input, disk, planted, write};
use sheratan_io::journal::SnapshotReader;
use std::path::Path;

const KEY: HubKey = HubKey::new([7; 16]);

fn records(mut input: Input) {
    let mut restore = Restore::new(KEY);
    let mut count = 0;
    for mut record in input.parts() {
        if restore.record(record.rest()).is_err() {
            return;
        }
        count += 1;
    }
    let Ok(mut hub) = restore.finish() else { return };
    // Beside the head and the end there is a record of something.
    planted(count > 2);
    assert_eq!(hub.ledger(), &hub.recount(), "the ledger is not what is there");
    let mut again = Restore::new(KEY);
    hub.snapshot(|record| again.record(record).expect("a hub's own record"));
    assert_eq!(again.finish().expect("a hub's own records").digest(), hub.digest());
    work(&mut hub);
}

/// Some of what any hub is asked to do.
fn work(hub: &mut Hub) {
    let mut now = hub.now();
    let name = |text| Name::new(text).expect("it is short");
    let submit = || Command::Submit(Box::new(Submit::new(name("echo"), None)));
    let pull = || Pull { node: name("node"), jobs_max: 2, kinds: NameSet::default(), lease_duration_ms: None };
    for _ in 0..3 {
        for command in [submit(), Command::Pull(pull()), submit()] {
            hub.apply(now, command);
            hub.settle(&mut Vec::new());
        }
        now = now + Millis::from_secs(400);
        hub.advance(now);
        hub.settle(&mut Vec::new());
    }
    assert_eq!(hub.ledger(), &hub.recount(), "the ledger is not what is there");
}

fn file(bytes: &[u8]) {
    let (disk, path) = (disk(), Path::new("/data/snapshots/00000000000000000001.snap"));
    write(&disk, path, bytes);
    let Ok(mut reader) = SnapshotReader::open(&disk, path) else { return };
    while let Ok(Some(_)) = reader.next() {}
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    match input.byte() % 8 {
        0 => file(input.rest()),
        _ => records(input),
    }
});
