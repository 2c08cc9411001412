//! What a restart costs: commands replayed, snapshots written and read.

use super::backlog::{Backlog, Shape};
use crate::report::{Report, grouped};
use serde_json::json;
use sheratan_core::{Command, Envelope, Hub, HubKey, Restore, RulesVersion, Setting, Timestamp};
use std::time::{Duration, Instant};

/// Jobs at work at a time while lifecycles are recorded.
const WINDOW: u64 = 100;

/// Replay of the commands that made a backlog, and of as many whole lifecycles; snapshot of the backlog, and back.
pub fn measure(report: &mut Report, jobs: u64) {
    let mut rows = Vec::new();
    let mut line = |what: &str, count: u64, bytes: usize, time: Duration| {
        let rate = count as f64 / time.as_secs_f64();
        rows.push(vec![
            what.to_owned(),
            grouped(count as f64),
            format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)),
            format!("{:.2} s", time.as_secs_f64()),
            grouped(rate),
        ]);
        json!({"count": count, "bytes": bytes, "seconds": time.as_secs_f64(), "per_second": rate})
    };

    let mut backlog = Backlog::empty(Shape::Plain, jobs);
    backlog.start_record();
    (0..jobs / WINDOW).for_each(|_| _ = backlog.submit(WINDOW));
    let commands = backlog.drain_record();
    let (hub, time) = replay(&backlog, &commands);
    assert_eq!(hub.digest(), backlog.hub().digest(), "a replay ends in the state that was recorded");
    report.figure("replay_submits", line("replay of submits (commands)", commands.len() as u64, size(&commands), time));
    drop((hub, commands));

    let (records, time) = timed(|| snapshot(backlog.hub()));
    report.figure("snapshot", line("snapshot written (jobs)", jobs, records.iter().map(Vec::len).sum(), time));
    let (restored, time) = timed(|| restore(*backlog.hub().key(), &records));
    report.figure("restore", line("snapshot read (jobs)", jobs, records.iter().map(Vec::len).sum(), time));
    let (digest, time) = timed(|| restored.digest());
    assert_eq!(digest, backlog.hub().digest(), "a restored state is the one that was written");
    report.figure("digest", line("digest (jobs)", jobs, records.iter().map(Vec::len).sum(), time));
    drop((restored, records));

    let mut backlog = Backlog::empty(Shape::Plain, jobs);
    backlog.start_record();
    for _ in 0..jobs / WINDOW {
        backlog.submit(WINDOW);
        backlog.pull(WINDOW);
        backlog.complete();
    }
    let commands = backlog.drain_record();
    let (hub, time) = replay(&backlog, &commands);
    assert_eq!(hub.digest(), backlog.hub().digest(), "a replay ends in the state that was recorded");
    let figure = line("replay of whole lifecycles (commands)", commands.len() as u64, size(&commands), time);
    report.figure("replay_lifecycles", figure);

    report.table("Recovery, in memory", &["", "count", "encoded", "time", "per s"], rows);
}

/// Decodes and applies commands as a start of the hub does, but from memory. The hub follows: it has no effects.
fn replay(original: &Backlog, commands: &[(Timestamp, Vec<u8>)]) -> (Hub, Duration) {
    // The record starts after the limits were set and the rules were adopted.
    let limits = original.hub().limits().clone();
    let mut hub = Hub::new(*original.hub().key());
    let started_at = Backlog::started_at();
    hub.apply(started_at, Command::Set(Setting::all(&limits)));
    hub.apply(started_at, Command::AdoptRules(RulesVersion::NEWEST));
    let start = Instant::now();
    for (now, bytes) in commands {
        let envelope = Envelope::decode(bytes).expect("what was encoded decodes");
        hub.apply(*now, envelope.command);
    }
    (hub, start.elapsed())
}

fn snapshot(hub: &Hub) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    hub.snapshot(|record| records.push(record.to_vec()));
    records
}

fn restore(key: HubKey, records: &[Vec<u8>]) -> Hub {
    let mut restore = Restore::new(key);
    for record in records {
        restore.record(record).expect("what a hub wrote is read back");
    }
    restore.finish().expect("the snapshot is whole")
}

fn size(commands: &[(Timestamp, Vec<u8>)]) -> usize {
    commands.iter().map(|(_, bytes)| bytes.len()).sum()
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_recovery_is_measured_and_ends_in_the_same_state() {
        let mut report = Report::default();
        measure(&mut report, 1_000);
        let value: serde_json::Value = serde_json::from_str(&report.to_json()).expect("it is JSON");
        assert_eq!(value["replay_submits"]["count"], 1_000);
        assert_eq!(value["replay_lifecycles"]["count"], 3_000);
        assert_eq!(value["restore"]["count"], 1_000);
    }
}
