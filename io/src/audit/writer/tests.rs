//! The writer's tests: its chain across files, restarts, torn lines and failing writes.

use super::super::{ChainCheck, page, verify};
use super::*;
use std::fs;

fn settings(folder: &tempfile::TempDir) -> Settings {
    Settings { path: folder.path().join("logs/audit.jsonl"), bytes_max: 2_000, kept: 100 }
}

fn tear(path: &PathBuf, bytes: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
}

fn event(n: u64) -> Event {
    let details = format!(r#"{{"n":{n}}}"#).into_bytes();
    let ts = Timestamp::from_millis(n);
    Event { ts, calendar: Calendar::UNSET, event: "AUTH_FAILURE", details, is_count: false, times: 1 }
}

fn record(settings: &Settings, events: std::ops::Range<u64>) {
    let mut audit = Audit::start(settings, None, WriteWatch::default()).unwrap();
    events.for_each(|n| audit.record(event(n)));
}

fn writer(settings: &Settings) -> Writer {
    Writer::open(Arc::new(RealDisk), settings, None).unwrap()
}

fn files(path: &std::path::Path) -> Vec<String> {
    let text = |part: crate::rotated::Part| io::read_to_string(part.open().unwrap().unwrap()).unwrap();
    crate::rotated::newest_first(&RealDisk, path).unwrap().into_iter().map(text).collect()
}

#[test]
fn the_chain_continues_across_rotations_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    record(&settings, 0..50);
    record(&settings, 50..80);
    let report = verify(&RealDisk, &settings.path).unwrap();
    assert_eq!((report.lines, report.first_seq, report.last_seq), (80, 1, 80));
    assert!(crate::rotated::newest_first(&RealDisk, &settings.path).unwrap().len() > 3);
    let text = fs::read_to_string(&settings.path).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&line["event"], &line["details"]["n"]), (&"AUTH_FAILURE".into(), &79.into()));
    assert_eq!(line["ts"], "1970-01-01T00:00:00.079Z");
}

#[test]
fn without_its_thread_the_log_is_written_on_flush() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let mut writer = writer(&settings);
    (0..3).for_each(|n| writer.take(event(n)));
    assert_eq!(fs::read_to_string(&settings.path).unwrap(), "");
    writer.advance(Timestamp::from_millis(1_000));
    writer.flush();
    assert_eq!(verify(&RealDisk, &settings.path).unwrap().lines, 3);
    writer.take(event(2_000));
    assert_eq!(writer.finish(), 0);
    assert_eq!(verify(&RealDisk, &settings.path).unwrap().lines, 4);
}

#[test]
fn a_changed_or_missing_line_is_detected() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { bytes_max: 1 << 20, ..settings(&folder) };
    record(&settings, 0..5);
    let text = fs::read_to_string(&settings.path).unwrap();
    let without_third: Vec<_> = text.lines().enumerate().filter(|(at, _)| *at != 2).map(|(_, line)| line).collect();
    for changed in [text.replace(r#""n":2"#, r#""n":7"#), without_third.join("\n") + "\n"] {
        fs::write(&settings.path, changed).unwrap();
        assert!(verify(&RealDisk, &settings.path).is_err());
    }
}

#[test]
fn a_log_that_is_rotated_and_shortened_while_it_is_read_is_one_chain() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { bytes_max: 500, kept: 3, ..settings(&folder) };
    record(&settings, 0..1);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut writer = writer(&settings);
            for n in 1..2_000 {
                writer.pending.push_back(event(n));
                writer.flush();
            }
        });
        while !writer.is_finished() {
            if let Err(error) = verify(&RealDisk, &settings.path) {
                panic!("{error}");
            }
        }
    });
    assert_eq!(verify(&RealDisk, &settings.path).unwrap().last_seq, 2_000);
}

#[test]
fn a_torn_line_is_reported_and_the_chain_covers_it() {
    let folder = tempfile::tempdir().unwrap();
    for bytes_max in [1 << 20, 700] {
        for whole in [0, 3] {
            let settings = Settings { bytes_max, path: folder.path().join(format!("{bytes_max}-{whole}")), kept: 9 };
            record(&settings, 0..whole + 1);
            tear(&settings.path, 20);
            let report = verify(&RealDisk, &settings.path).unwrap();
            assert_eq!((report.lines, report.is_tail_torn), (whole, true));
            record(&settings, 4..6);
            let report = verify(&RealDisk, &settings.path).unwrap();
            assert_eq!((report.lines, report.torn, report.is_tail_torn), (whole + 3, 1, false));
            let lines = page(&RealDisk, &settings.path, None, 3).unwrap();
            assert!(lines[0].contains(r#""event":"AUDIT_LINE_TORN""#), "{}", lines[0]);
            assert!(lines[2].contains(r#""n":5"#));
        }
    }
}

#[test]
fn a_line_that_reports_a_torn_one_may_be_torn_as_well() {
    let folder = tempfile::tempdir().unwrap();
    for (name, again) in [("end", "\n"), ("part", "\n{\"ts\":\"2026"), ("zeros", "\0\0"), ("blank", "\n\n")] {
        let settings = Settings { bytes_max: 700, path: folder.path().join(name), kept: 9 };
        record(&settings, 0..4);
        tear(&settings.path, 20);
        let torn = fs::read_to_string(&settings.path).unwrap() + again;
        fs::write(&settings.path, torn).unwrap();
        let report = verify(&RealDisk, &settings.path).unwrap();
        assert_eq!((report.lines, report.is_tail_torn), (3, true), "{name}");
        record(&settings, 4..6);
        let report = verify(&RealDisk, &settings.path).unwrap();
        assert_eq!((report.lines, report.torn, report.is_tail_torn), (6, 1, false), "{name}");
        let changed = |part: crate::rotated::Part| {
            let text = fs::read_to_string(&part.path).unwrap();
            fs::write(&part.path, text.replacen(r#""n":3"#, r#""n":7"#, 1)).unwrap();
        };
        crate::rotated::newest_first(&RealDisk, &settings.path).unwrap().into_iter().for_each(changed);
        assert!(verify(&RealDisk, &settings.path).is_err(), "{name}: what is torn is in the chain too");
    }
}

#[test]
fn a_page_is_checked_across_a_torn_line_that_it_leaves_out() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    record(&settings, 0..4);
    tear(&settings.path, 20);
    record(&settings, 4..7);
    let check = |lines: &[String]| {
        let mut check = ChainCheck::of_page();
        lines.iter().try_for_each(|line| check.line(line.as_bytes())).map(|()| check.report().lines)
    };
    let lines = page(&RealDisk, &settings.path, None, 100).unwrap();
    for start in 0..lines.len() {
        assert_eq!(check(&lines[start..]), Ok((lines.len() - start) as u64));
    }
    for at in 1..lines.len() - 1 {
        let (mut missing, mut changed, mut torn) = (lines.clone(), lines.clone(), lines.clone());
        missing.remove(at);
        changed[at] = changed[at].replacen("1970", "1971", 1);
        torn[at].pop();
        assert!([missing, changed, torn].iter().all(|lines| check(lines).is_err()), "line {at}");
    }
}

#[test]
fn a_line_that_only_lacks_its_end_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    record(&settings, 0..3);
    tear(&settings.path, 1);
    record(&settings, 3..4);
    let report = verify(&RealDisk, &settings.path).unwrap();
    assert_eq!((report.lines, report.torn), (4, 0));
}

#[test]
fn a_torn_line_that_was_inserted_or_removed_is_detected() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { bytes_max: 1 << 20, ..settings(&folder) };
    record(&settings, 0..3);
    tear(&settings.path, 20);
    record(&settings, 3..4);
    let text = fs::read_to_string(&settings.path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let changed = [
        [lines[0], lines[1], lines[3], lines[4]].to_vec(),
        [lines[0], "", lines[1], lines[2], lines[3], lines[4]].to_vec(),
        [lines[0], lines[2], lines[3], lines[4]].to_vec(),
        [lines[0], lines[1], lines[2], lines[4]].to_vec(),
    ];
    for lines in changed {
        fs::write(&settings.path, lines.join("\n") + "\n").unwrap();
        assert!(matches!(verify(&RealDisk, &settings.path), Err(super::super::ChainError::Broken { .. })), "{lines:?}");
    }
}

/// A renamed folder, in which no file can be rotated, takes the place of a full disk.
#[test]
fn events_are_kept_while_writes_fail() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { bytes_max: 1_000, ..settings(&folder) };
    let mut writer = writer(&settings);
    let (logs, away) = (folder.path().join("logs"), folder.path().join("away"));
    fs::rename(&logs, &away).unwrap();
    fs::write(&logs, "").unwrap();
    for n in 0..20 {
        writer.pending.push_back(event(n));
        if n % 3 == 0 {
            writer.flush();
        }
    }
    assert!(writer.is_failing && writer.pending.len() > 10);
    fs::remove_file(&logs).unwrap();
    fs::rename(&away, &logs).unwrap();
    writer.pending.push_back(event(20));
    writer.flush();
    assert!(!writer.is_failing && writer.pending.is_empty());
    assert_eq!(verify(&RealDisk, &settings.path).unwrap().lines, 21);
}

#[test]
fn events_written_together_result_in_the_same_files_as_events_written_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    for (bytes_max, events) in [(100, 50), (1_000, 200), (3 * CHUNK_BYTES / 2, 1_500)] {
        let settings = ["together", "one-by-one"].map(|name| Settings {
            bytes_max,
            path: folder.path().join(format!("{name}-{bytes_max}")),
            kept: 9_999,
        });
        let [mut together, mut one_by_one] = settings.each_ref().map(writer);
        for n in 0..events {
            together.pending.push_back(event(n));
            one_by_one.pending.push_back(event(n));
            one_by_one.flush();
        }
        together.flush();
        assert!(files(&settings[0].path).len() > 2 && together.link == one_by_one.link);
        assert_eq!(files(&settings[0].path), files(&settings[1].path));
        assert_eq!(verify(&RealDisk, &settings[0].path).unwrap().lines, events);
    }
}

/// A write of only a part of the lines takes the place of a failed write whose part could not be truncated.
#[test]
fn lines_that_a_failed_write_left_in_the_file_are_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { bytes_max: 1 << 20, ..settings(&folder) };
    let mut all = writer(&settings);
    all.pending.extend((0..5).map(event));
    all.flush();
    let text = fs::read_to_string(&settings.path).unwrap();
    let second_end = text.match_indices('\n').nth(1).unwrap().0;
    for (left, torn) in
        [(0, 0), (40, 1), (second_end - 1, 1), (second_end, 0), (second_end + 1, 0), (second_end + 9, 1)]
    {
        fs::remove_file(&settings.path).unwrap();
        let mut writer = writer(&settings);
        writer.pending.extend((0..5).map(event));
        writer.lines = text.as_bytes().to_vec();
        writer.file.write(&text.as_bytes()[..left]).unwrap();
        let count = writer.keep_left(left);
        writer.pending.drain(..count);
        writer.file = RotatedFile::open(&settings.path, settings.bytes_max, settings.kept).unwrap();
        writer.flush();
        let report = verify(&RealDisk, &settings.path).unwrap();
        assert_eq!((report.lines, report.torn), (5 + torn, torn), "{left} bytes left");
    }
}

#[test]
fn the_chain_begins_with_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    record(&settings, 0..1);
    let text = fs::read_to_string(&settings.path).unwrap();
    assert!(text.contains(&format!(r#""seq":1,"prev":"{}""#, "0".repeat(64))), "{text}");
    fs::write(&settings.path, text.replace("0000\"}", "0001\"}")).unwrap();
    assert!(verify(&RealDisk, &settings.path).is_err());
}
