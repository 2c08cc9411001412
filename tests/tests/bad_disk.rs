//! A disk that does not give some bytes, files that cannot be opened, and files of another release: what a start,
//! `journal verify` and `journal repair` do with them.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![cfg(unix)]

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sheratan_tests::shim::Shim;
use sheratan_tests::{Client, Hub, Run, command};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The page of a segment that is made unreadable: records of about 80 bytes are on it.
const PAGE: u64 = 12_288;
const PAGE_BYTES: u64 = 4_096;

/// Segments that are made quickly.
const SMALL: &[&str] = &["--journal-segment-bytes", "1MiB"];

fn submit(data: &mut Client, n: u64) -> String {
    let answer = data.post("/mesh/submit_request", &json!({"kind": "k", "params": {"n": n}})).ok();
    answer["job_id"].as_str().unwrap().to_owned()
}

fn submit_many(data: &mut Client, count: u64) -> Vec<String> {
    let requests: Vec<_> = (0..count).map(|n| json!({"kind": "k", "params": {"n": n}})).collect();
    let answer = data.post("/mesh/submit_requests", &json!({"requests": requests})).ok();
    let results = answer["results"].as_array().unwrap();
    results.iter().map(|result| result["job_id"].as_str().unwrap().to_owned()).collect()
}

/// The newest file of a folder with this extension.
fn newest(folder: &Path, extension: &str) -> PathBuf {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_named = |path: &PathBuf| !path.file_name().unwrap().to_str().unwrap().starts_with("spare");
    paths.filter(|path| path.extension().is_some_and(|found| found == extension) && is_named(path)).max().unwrap()
}

/// The journal's and the snapshots' files with their bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let folders = ["journal", "snapshots"].map(|name| folder.join(name));
    let paths = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn with(env: &[(String, String)], args: &[&str], folder: &Path) -> Run {
    let mut command = command(args);
    command.arg("--data-dir").arg(folder).envs(env.iter().map(|(name, value)| (name, value)));
    Run::from(command.output().unwrap())
}

fn serve(env: &[(String, String)], folder: &Path) -> Run {
    with(env, &["serve", "--control-addr", "127.0.0.1:0", "--data-addr", "127.0.0.1:0"], folder)
}

/// A start that is refused changes neither the journal nor the snapshots.
fn assert_refused(refused: &Run, hub: &Hub, before: &BTreeMap<PathBuf, Vec<u8>>, words: &[&str]) {
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for words in words {
        assert!(refused.stderr.contains(words), "{words}: {refused:?}");
    }
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&files(hub.folder())), names(before));
    assert!(files(hub.folder()) == *before, "a refused start changed a file");
}

#[test]
fn an_unreadable_sector_behind_the_records_is_a_notice() {
    let Some(shim) = Shim::build() else { return };
    let mut hub = Hub::start();
    let id = submit(&mut hub.data(), 1);
    hub.kill();
    let segment = newest(&hub.folder().join("journal"), "seg");
    let env = shim.unreadable(&segment, 40 << 20, PAGE_BYTES);
    let verified = with(&env, &["journal", "verify"], hub.folder());
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(verified.stdout.contains("the disk does not give the 4096 bytes at offset 41943040"), "{verified:?}");
    hub.set_env(env);
    hub.restart();
    assert!(hub.said().contains("the disk does not give the 4096 bytes at offset 41943040"), "{}", hub.said());
    let mut data = hub.data();
    assert_eq!(data.get(&format!("/mesh/jobs/{id}")).status, 200);
    let later = submit(&mut data, 2);
    hub.kill();
    hub.restart();
    assert_eq!(hub.data().get(&format!("/mesh/jobs/{later}")).status, 200);
}

#[test]
fn an_unreadable_sector_among_the_records_is_named_and_can_be_cut() {
    let Some(shim) = Shim::build() else { return };
    let mut hub = Hub::start_with(SMALL);
    let ids: Vec<_> = (0..4).flat_map(|_| submit_many(&mut hub.data(), 100)).collect();
    hub.kill();
    let segment = newest(&hub.folder().join("journal"), "seg");
    let env = shim.unreadable(&segment, PAGE, PAGE_BYTES);
    let before = files(hub.folder());
    let name = segment.file_name().unwrap().to_str().unwrap();
    let words = [name, "the disk does not give the 4096 bytes at offset 12288", "journal repair", "loses"];
    assert_refused(&serve(&env, hub.folder()), &hub, &before, &words);
    let verified = with(&env, &["journal", "verify", "--json"], hub.folder());
    let report: Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_eq!((verified.code, &report["problem"]["reason"]["unreadable"]["offset"]), (Some(1), &json!(PAGE)));
    assert!(report["segments"][0]["records"].as_u64().unwrap() > 50, "{report}");
    let repaired = with(&env, &["journal", "repair"], hub.folder());
    assert_eq!(repaired.code, Some(0), "{repaired:?}");
    hub.restart();
    let mut data = hub.data();
    let known = ids.iter().take_while(|id| data.get(&format!("/mesh/jobs/{id}")).status == 200).count();
    assert!(known > 50 && known < 300, "{known} jobs are before the sector");
    submit(&mut data, 1);
}

#[test]
fn an_unreadable_header_is_named_and_the_snapshot_before_it_is_kept() {
    let Some(shim) = Shim::build() else { return };
    let mut hub = Hub::start_with(SMALL);
    let id = submit(&mut hub.data(), 1);
    hub.stop();
    hub.restart();
    submit(&mut hub.data(), 2);
    hub.kill();
    let segment = newest(&hub.folder().join("journal"), "seg");
    let env = shim.unreadable(&segment, 0, PAGE_BYTES);
    let before = files(hub.folder());
    assert_refused(&serve(&env, hub.folder()), &hub, &before, &["the disk does not give the header"]);
    let repaired = with(&env, &["journal", "repair"], hub.folder());
    assert_eq!(repaired.code, Some(0), "{repaired:?}");
    hub.restart();
    assert_eq!(hub.data().get(&format!("/mesh/jobs/{id}")).status, 200);
}

#[test]
fn a_snapshot_that_the_disk_does_not_give_is_passed_over_and_stays() {
    let Some(shim) = Shim::build() else { return };
    let mut hub = Hub::start_with(SMALL);
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(submit(&mut hub.data(), n));
        hub.stop();
        if n < 2 {
            hub.restart();
        }
    }
    let snapshot = newest(&hub.folder().join("snapshots"), "snap");
    hub.set_env(shim.unreadable(&snapshot, 0, PAGE_BYTES));
    hub.restart();
    for id in &ids {
        assert_eq!(hub.data().get(&format!("/mesh/jobs/{id}")).status, 200);
    }
    assert!(hub.said().contains("cannot be read"), "{}", hub.said());
}

#[test]
fn files_that_cannot_be_opened_stop_the_start_and_nothing_is_renamed() {
    let Some(shim) = Shim::build() else { return };
    let mut hub = Hub::start_with(SMALL);
    for n in 0..2 {
        submit(&mut hub.data(), n);
        hub.stop();
        hub.restart();
    }
    submit(&mut hub.data(), 3);
    hub.kill();
    let before = files(hub.folder());
    let snapshot = newest(&hub.folder().join("snapshots"), "snap");
    let segment = newest(&hub.folder().join("journal"), "seg");
    // EMFILE, EACCES, EIO.
    for errno in [24, 13, 5] {
        for file in [&snapshot, &segment] {
            let env = shim.unopenable(file, errno);
            let name = file.file_name().unwrap().to_str().unwrap();
            if errno == 5 && file == &snapshot {
                continue;
            }
            assert_refused(&serve(&env, hub.folder()), &hub, &before, &[name]);
        }
        let repaired = with(&shim.unopenable(&snapshot, errno), &["journal", "repair"], hub.folder());
        assert!(errno == 5 || repaired.code == Some(1), "{repaired:?}");
        assert!(errno == 5 || files(hub.folder()) == before, "repair changed a file: {repaired:?}");
    }
}

/// A folder whose journal begins behind its two snapshots.
fn truncated() -> (Hub, Vec<String>) {
    let mut hub = Hub::start_with(SMALL);
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(submit(&mut hub.data(), n));
        hub.stop();
        hub.restart();
    }
    ids.push(submit(&mut hub.data(), 5));
    hub.kill();
    assert!(!hub.folder().join("journal/journal-00000000000000000001.seg").exists());
    (hub, ids)
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

fn seal_header(snapshot: &mut [u8]) {
    let crc = crc32(&[&snapshot[0..12], &snapshot[16..256]].concat());
    snapshot[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// A snapshot with one more record, of a kind that no build knows yet; all checksums match.
fn with_unknown_record(snapshot: &[u8]) -> Vec<u8> {
    let (mut out, mut at, mut digest, mut records) = (snapshot[..256].to_vec(), 256, Sha256::new(), 0u64);
    let mut put = |out: &mut Vec<u8>, record: &[u8]| {
        out.extend((record.len() as u32).to_le_bytes());
        out.extend(crc32(record).to_le_bytes());
        out.extend(record);
        digest.update((record.len() as u64).to_le_bytes());
        digest.update(record);
        records += 1;
    };
    loop {
        let len = u32::from_le_bytes(snapshot[at..at + 4].try_into().unwrap());
        if len == u32::MAX {
            break;
        }
        let record = &snapshot[at + 8..at + 8 + len as usize];
        if record[0] == 6 {
            put(&mut out, &[77, 1, 2, 3]);
        }
        put(&mut out, record);
        at += 8 + len as usize;
    }
    out.extend(u32::MAX.to_le_bytes());
    out.extend(records.to_le_bytes());
    out.extend(digest.finalize());
    out
}

#[test]
fn a_release_that_cannot_read_a_newer_ones_snapshots_changes_nothing() {
    let (hub, _) = truncated();
    let whole = files(hub.folder());
    let snapshots: Vec<_> =
        whole.keys().filter(|path| path.extension().is_some_and(|name| name == "snap")).cloned().collect();
    assert_eq!(snapshots.len(), 2);
    type Change = (&'static str, fn(&[u8]) -> Vec<u8>);
    let newer: [Change; 3] = [
        ("format version 3", |bytes| {
            let mut bytes = bytes.to_vec();
            bytes[8] = 3;
            seal_header(&mut bytes);
            bytes
        }),
        ("its records have format 9", |bytes| {
            let mut bytes = bytes.to_vec();
            bytes[72] = 9;
            seal_header(&mut bytes);
            bytes
        }),
        ("is whole, and this hub cannot restore it", with_unknown_record),
    ];
    for (words, change) in newer {
        snapshots.iter().for_each(|path| fs::write(path, change(&whole[path])).unwrap());
        let before = files(hub.folder());
        let refused = serve(&[], hub.folder());
        assert_refused(&refused, &hub, &before, &[words, "start"]);
        assert!(!refused.stderr.contains("repair"), "it advises what loses data: {refused:?}");
        let repaired = with(&[], &["journal", "repair"], hub.folder());
        assert!(repaired.code == Some(1) || repaired.stdout.contains("nothing to repair"), "{repaired:?}");
        assert!(files(hub.folder()) == before, "a repair changed a file: {repaired:?}");
    }
}

#[test]
fn snapshots_that_an_earlier_release_set_aside_are_used_again_by_a_repair() {
    let (mut hub, ids) = truncated();
    let snapshots: Vec<_> =
        files(hub.folder()).into_keys().filter(|path| path.extension().unwrap() == "snap").collect();
    snapshots.iter().for_each(|path| fs::rename(path, path.with_extension("bad")).unwrap());
    let before = files(hub.folder());
    let refused = serve(&[], hub.folder());
    assert_refused(&refused, &hub, &before, &["the oldest segment begins at record", "set aside"]);
    let repaired = hub.run(&["journal", "repair"]);
    assert_eq!(repaired.code, Some(0), "{repaired:?}");
    assert!(repaired.stdout.contains("is used again"), "{repaired:?}");
    hub.restart();
    for id in &ids {
        assert_eq!(hub.data().get(&format!("/mesh/jobs/{id}")).status, 200);
    }
}

#[test]
fn a_repair_that_would_leave_nothing_is_refused_unless_the_loss_is_accepted() {
    let (mut hub, _) = truncated();
    let snapshots: Vec<_> =
        files(hub.folder()).into_keys().filter(|path| path.extension().unwrap() == "snap").collect();
    snapshots.iter().for_each(|path| fs::remove_file(path).unwrap());
    let before = files(hub.folder());
    let repaired = hub.run(&["journal", "repair"]);
    assert_eq!(repaired.code, Some(1), "{repaired:?}");
    assert!(repaired.stderr.contains("would lose all records"), "{repaired:?}");
    assert!(files(hub.folder()) == before, "a refused repair changed a file");
    let accepted = hub.run(&["journal", "repair", "--accept-loss"]);
    assert_eq!(accepted.code, Some(0), "{accepted:?}");
    hub.restart();
    submit(&mut hub.data(), 1);
}
