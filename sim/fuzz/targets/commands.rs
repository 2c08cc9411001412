//! Commands of a journal: no record's bytes make the decoder or the hub panic; what is decoded is encoded to the same
//! command; the state that commands make is the state that its snapshot makes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sheratan_core::{Command, Envelope, Hub, HubKey, Restore, Timestamp};
use sheratan_fuzz::{Input, planted};

const KEY: HubKey = HubKey::new([7; 16]);

fuzz_target!(|data: &[u8]| {
    let mut hub = Hub::new(KEY);
    let (mut now, mut submits, mut pulls) = (1_000_000, 0, 0);
    for mut record in Input::new(data).parts().take(64) {
        now += u64::from(record.byte()) * 1_000;
        let Ok(envelope) = Envelope::decode(record.rest()) else { continue };
        let mut bytes = Vec::new();
        Envelope::encode(envelope.rules, envelope.caller, &envelope.command, &mut bytes);
        assert_eq!(Envelope::decode(&bytes).as_ref(), Ok(&envelope), "another command is read back");
        let (is_submit, is_pull) =
            (matches!(envelope.command, Command::Submit(_)), matches!(envelope.command, Command::Pull(_)));
        let outcome = hub.apply(Timestamp::from_millis(now), envelope.command);
        submits += u32::from(is_submit && outcome.is_durable());
        pulls += u32::from(is_pull && outcome.is_durable());
        // A job was submitted, and leased.
        planted(submits > 0 && pulls > 0);
        hub.settle(&mut Vec::new());
    }
    assert_eq!(hub.ledger(), &hub.recount(), "the ledger is not what is there");
    let mut restore = Restore::new(KEY);
    hub.snapshot(|record| restore.record(record).expect("a hub's own record"));
    let restored = restore.finish().expect("a hub's own records");
    assert_eq!(restored.digest(), hub.digest());
});
