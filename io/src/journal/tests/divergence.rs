//! Divergence: a replay that decides otherwise than the hub did fails with a report and changes nothing.

use super::snapshots::{Live, encode, snapshot_files, submit};
use super::*;
use sheratan_core::{Command, Complete, Extend, JobSeq, Name, Pull, ResultMark};
use tempfile::tempdir;

const OLDER: Build = Build::new("0.9.0+older");

/// A pull of a kind of which there are no jobs.
fn empty_pull() -> Command {
    let (node, kinds) = (Name::new("node").unwrap(), vec![Name::new("none").unwrap()].into());
    Command::Pull(Pull { node, jobs_max: 1, kinds, lease_duration_ms: None })
}

/// Appends a record that the live hub did not apply, and returns its number.
fn append_unapplied(live: &mut Live, payload: &[u8]) -> u64 {
    let seq = live.appender.next_seq();
    let mut batch = Batch::new();
    batch.begin(seq, Timestamp::from_millis(live.now)).extend_from_slice(payload);
    batch.commit();
    live.appender.append(seq, &mut batch, live.hub.outcome_hash()).unwrap();
    seq
}

fn encoded(command: &Command) -> Vec<u8> {
    let mut payload = Vec::new();
    encode(command, &mut payload);
    payload
}

fn diverged(error: OpenError) -> Divergence {
    let OpenError::Diverged(divergence) = error else { panic!("another error: {error}") };
    *divergence
}

#[test]
fn a_record_that_is_decided_otherwise_stops_the_start_with_builds_records_and_the_next_step() {
    let nothing = Command::Extend(Extend {
        node: Name::new("node").unwrap(),
        leases: vec![],
        lease_duration_ms: None,
        progress: None,
        note: None,
    });
    let refused = Command::Complete(Complete {
        job: JobSeq::new((1 << 48) - 1),
        lease: None,
        node: None,
        ok: true,
        result: None,
        error: None,
        is_retryable: false,
        mark: ResultMark::Content(0),
        integrity: None,
        retry_after_ms: None,
    });
    let table = [
        ("a result of an unknown job", encoded(&refused), "refuses it (UnknownJob)"),
        ("a pull that gets nothing", encoded(&empty_pull()), "changes nothing by it"),
        ("an extension of nothing", encoded(&nothing), "changes nothing by it"),
        ("no command", vec![0xFF; 9], "cannot be read by this build"),
    ];
    for (name, payload, reason) in table {
        let folder = tempdir().unwrap();
        let mut live = Live::open(folder.path()).unwrap();
        live.append_records(60);
        let covered_seq = live.snapshot().covered_seq;
        live.append_records(60);
        let bad_seq = append_unapplied(&mut live, &payload);
        live.append_submits(3);
        let last_seq = live.appender.next_seq() - 1;
        drop(live);
        segments(&folder).iter().for_each(|path| set_build(path, OLDER));
        // A successful start would remove it.
        std::fs::write(folder.path().join("journal/segment.tmp"), b"left behind").unwrap();
        let before = contents(folder.path());

        let error = Live::open(folder.path()).map(drop).unwrap_err();
        let text = error.to_string();
        let divergence = diverged(error);
        assert_eq!((divergence.first_seq, divergence.last_seq), (bad_seq, bad_seq), "{name}: {text}");
        assert_eq!((divergence.written_by, divergence.read_by), (OLDER, Build::THIS), "{name}");
        assert_eq!(divergence.snapshot_seq, Some(covered_seq), "{name}");
        let lost = divergence.lost.expect("there are records after the snapshot");
        assert_eq!((lost.first_seq, lost.last_seq), (covered_seq + 1, last_seq), "{name}");
        assert!(lost.first_at.is_some() && lost.last_at.is_some(), "{name}");
        let file = divergence.file.file_name().unwrap().to_str().unwrap();
        let count = format!("lose {} records, {} to {last_seq}", last_seq - covered_seq, covered_seq + 1);
        let next_step = "`sheratan-hub journal repair --from-snapshot --accept-loss`";
        let record = format!("record {bad_seq} ");
        for word in
            [reason, file, &record, OLDER.as_str(), Build::THIS.as_str(), "Start build 0.9.0+older", &count, next_step]
        {
            assert!(text.contains(word), "{name}: {word}: {text}");
        }
        assert_eq!(contents(folder.path()), before, "{name}: a refused start changes nothing");

        let report = verify(folder.path(), true).unwrap();
        let replay = report.replay.as_ref().unwrap();
        assert!(!report.is_ok() && replay.problem.as_ref().unwrap().contains(reason), "{name}: {report}");
        assert_eq!(replay.divergence.as_ref().unwrap().last_seq, bad_seq, "{name}");
        assert_eq!(contents(folder.path()), before, "{name}");
    }
}

#[test]
fn another_outcome_hash_at_a_mark_stops_every_replay_with_the_records_since_the_last_mark() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    live.append_records(20);
    live.appender.seal(live.hub.outcome_hash());
    let agreed_seq = live.appender.next_seq() - 1;
    live.append_records(20);
    // The live hub does not apply that command.
    let seq = append_unapplied(&mut live, &encoded(&Command::Submit(Box::new(submit(0)))));
    let recorded_hash = live.hub.outcome_hash();
    live.appender.seal(recorded_hash);
    let error = live.store.snapshot_by_replay(seq, &mut |_| true).unwrap_err();
    let ReplayError::Diverged(divergence) = &error else { panic!("another error: {error}") };
    assert_eq!((divergence.first_seq, divergence.last_seq), (agreed_seq + 1, seq), "{error}");
    let Cause::OutcomeHash { recorded, replayed } = &divergence.cause else { panic!("another cause: {error}") };
    assert_eq!(recorded, &hex::encode(recorded_hash));
    for word in [recorded, replayed, "Both are the same build", "no snapshot can be read"] {
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
    assert!(snapshot_files(&folder).is_empty());
    drop(live);
    let before = contents(folder.path());
    let found = diverged(Live::open(folder.path()).map(drop).unwrap_err());
    assert_eq!(&found, &**divergence);
    let report = verify(folder.path(), true).unwrap();
    assert!(!report.is_ok() && report.replay.unwrap().problem.unwrap().contains("outcome hash"));
    assert_eq!(contents(folder.path()), before);
}

/// The older build, which may be started next, must find it.
#[test]
fn a_refused_start_does_not_move_an_unreadable_snapshot() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    live.append_records(40);
    let first = live.snapshot().covered_seq;
    live.append_records(40);
    live.snapshot();
    append_unapplied(&mut live, b"none");
    drop(live);
    change(&snapshot_files(&folder)[0], |bytes| bytes.truncate(bytes.len() - 1));
    let before = contents(folder.path());
    let divergence = diverged(Live::open(folder.path()).map(drop).unwrap_err());
    assert_eq!((divergence.snapshot_seq, divergence.lost.unwrap().first_seq), (Some(first), first + 1));
    assert_eq!(contents(folder.path()), before);
}

#[test]
fn a_snapshot_of_another_format_stops_the_start() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    live.append_records(40);
    live.snapshot();
    drop(live);
    change(&snapshot_files(&folder)[0], |bytes| {
        bytes[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[0..12]);
        hasher.update(&bytes[16..256]);
        bytes[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    });
    let before = contents(folder.path());
    let refusals = [
        Live::open(folder.path()).map(drop).unwrap_err().to_string(),
        repair(folder.path(), small(), Timestamp::from_millis(1), true).unwrap_err().to_string(),
    ];
    for refusal in refusals {
        assert!(refusal.contains("start a newer sheratan-hub"), "{refusal}");
    }
    assert_eq!(contents(folder.path()), before);
}

/// A segment's header names one build.
#[test]
fn a_start_of_another_build_begins_a_segment_of_its_own() {
    let folder = tempdir().unwrap();
    let mut live = Live::open(folder.path()).unwrap();
    live.append_records(30);
    let (digest, last_seq) = (live.digest(), live.appender.next_seq() - 1);
    drop(live);
    set_build(&segments(&folder)[0], OLDER);
    let mut live = Live::open(folder.path()).unwrap();
    assert_eq!((live.digest(), live.report.notices.clone()), (digest, vec![]));
    live.append_records(10);
    let digest = live.digest();
    drop(live);
    let report = verify(folder.path(), true).unwrap();
    let builds: Vec<_> = report.segments.iter().map(|segment| (segment.first_seq, segment.written_by)).collect();
    assert_eq!(builds, [(1, Some(OLDER)), (last_seq + 1, Some(Build::THIS))]);
    assert!(report.is_ok() && report.to_string().contains(OLDER.as_str()), "{report}");
    assert_eq!(Live::open(folder.path()).unwrap().digest(), digest);
    assert_eq!(segments(&folder).len(), 2, "the same build continues its segment");
}
