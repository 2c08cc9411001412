//! A trace: whatever happens to its files, a reader gives records that were written, in their order, and ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sheratan_core::Timestamp;
use sheratan_fuzz::{Input, damage, disk, planted, shared};
use sheratan_io::journal::HubId;
use sheratan_io::trace::{Pending, Reader, Settings, Writer, path};
use std::path::Path;

const FOLDER: &str = "/data/hub";
const HUB: HubId = HubId([7; 16]);

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let disk = disk();
    let bytes_max = 1_024 + u64::from(input.u16());
    let mut written = 0;
    for _ in 0..1 + input.byte() % 3 {
        let settings = Settings { folder: path(Path::new(FOLDER)), bytes_max };
        let mut writer = Writer::open(shared(&disk), settings, HUB, written, Timestamp::from_millis(written));
        for _ in 0..input.byte() % 16 {
            let mut pending = Pending::default();
            for _ in 0..1 + input.byte() % 4 {
                written += 1;
                let command = vec![written as u8; usize::from(input.byte())];
                pending.push(written, Timestamp::from_millis(written), &command);
            }
            writer.take(pending);
        }
        if input.byte() % 2 == 0 {
            writer.finish(written, Timestamp::from_millis(written));
        }
    }
    damage(&disk, &mut input, |_| true);
    let Ok(mut reader) = Reader::open_on(shared(&disk), Path::new(FOLDER), HUB, written) else { return };
    let (mut last, mut records, mut runs) = (0, 0, Vec::new());
    while let Ok(Some(entry)) = reader.next() {
        assert!(entry.after_seq > last && entry.after_seq <= written, "{} after {last}", entry.after_seq);
        assert!(entry.command.iter().all(|byte| *byte == entry.after_seq as u8), "a record that was never written");
        last = entry.after_seq;
        records += 1;
        runs.push(reader.run_id());
    }
    runs.dedup();
    assert!(records <= reader.coverage().records, "{records} records, {:?}", reader.coverage());
    // Records of three runs, one of which was cut off.
    planted(runs.len() > 2 && reader.coverage().crashes > 0);
});
