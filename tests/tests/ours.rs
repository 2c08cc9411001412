//! The data folder is the hub's alone: what a hub does when its lock, its journal or its logs are removed or replaced
//! while it runs, and when a second hub is started.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![cfg(unix)]

use serde_json::{Value, json};
use sheratan_tests::{Client, Hub, Run, run, until};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

fn try_submit(data: &mut Client, n: u64) -> (u16, Value) {
    let answer = data.post("/mesh/submit_request", &json!({"kind": "k", "params": {"n": n}}));
    (answer.status, answer.json())
}

fn submit(data: &mut Client, n: u64) -> String {
    let (status, answer) = try_submit(data, n);
    assert_eq!(status, 200, "{answer}");
    answer["job_id"].as_str().unwrap().to_owned()
}

fn second(folder: &Path) -> Run {
    let folder = folder.to_str().unwrap();
    run(&["serve", "--control-addr", "127.0.0.1:0", "--data-addr", "127.0.0.1:0", "--data-dir", folder])
}

/// Waits until the hub acknowledges nothing more, and says so everywhere.
fn await_down(hub: &Hub, words: &str) {
    let mut data = hub.data();
    let mut refused = Value::Null;
    until("nothing is acknowledged", || {
        let (status, answer) = try_submit(&mut data, 1);
        refused = answer;
        status == 503
    });
    assert_eq!(refused["error"], "journal_unavailable", "{refused}");
    until("/readyz reports it", || data.get("/readyz").status == 503);
    assert_eq!(data.get("/livez").status, 200);
    let metrics =
        String::from_utf8(Client::new(hub.data, None).ask("GET", "/metrics", &[("accept", "text/plain")]).body)
            .unwrap();
    assert!(metrics.lines().any(|line| line == "sheratan_hub_journal_up 0"), "{metrics}");
    until("the hub says why", || hub.said().contains(words));
}

fn journal(hub: &Hub) -> PathBuf {
    hub.folder().join("journal")
}

fn segment(hub: &Hub) -> PathBuf {
    let paths = fs::read_dir(journal(hub)).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("journal-")).max().unwrap()
}

#[test]
fn a_second_hub_is_refused_although_the_lock_file_was_removed() {
    let mut hub = Hub::start();
    let lock = hub.folder().join("lock");
    let mut ids = vec![submit(&mut hub.data(), 1)];
    for replacement in [None, Some("7\n")] {
        fs::remove_file(&lock).unwrap();
        if let Some(text) = replacement {
            fs::write(&lock, text).unwrap();
        }
        let refused = second(hub.folder());
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("is in use by"), "{refused:?}");
        ids.push(submit(&mut hub.data(), 2));
        until("the lock file names the hub again", || {
            fs::read_to_string(&lock).is_ok_and(|text| text.trim() == hub.pid().to_string())
        });
    }
    assert!(hub.said().contains("the lock file was removed or replaced"), "{}", hub.said());
    let refused = second(hub.folder());
    assert!(refused.stderr.contains(&format!("in use by process {}", hub.pid())), "{refused:?}");
    hub.kill();
    hub.restart();
    for id in &ids {
        assert_eq!(hub.data().get(&format!("/mesh/jobs/{id}")).status, 200, "{id} was acknowledged");
    }
}

#[test]
fn a_hub_whose_lock_another_process_has_acknowledges_nothing_more() {
    let hub = Hub::start();
    let lock = hub.folder().join("lock");
    let id = submit(&mut hub.data(), 1);
    // Another program locks its own file before it has the name.
    let theirs = hub.folder().join("lock.theirs");
    let file = File::create(&theirs).unwrap();
    file.try_lock().unwrap();
    fs::rename(&theirs, &lock).unwrap();
    await_down(&hub, "another process has locked");
    // It may have written meanwhile: only a start finds out.
    drop(file);
    let mut data = hub.data();
    assert_eq!(data.get(&format!("/mesh/jobs/{id}")).status, 200, "reads are served");
    assert_eq!(try_submit(&mut data, 2).0, 503);
}

#[test]
fn a_journal_that_was_moved_away_is_not_written_until_it_is_back() {
    let mut hub = Hub::start();
    let mut ids = vec![submit(&mut hub.data(), 1)];
    let aside = hub.folder().join("journal.aside");
    fs::rename(journal(&hub), &aside).unwrap();
    await_down(&hub, "was removed or replaced while the hub runs");
    fs::rename(&aside, journal(&hub)).unwrap();
    until("it is written again", || hub.data().get("/readyz").status == 200);
    ids.push(submit(&mut hub.data(), 2));
    hub.kill();
    hub.restart();
    for id in &ids {
        assert_eq!(hub.data().get(&format!("/mesh/jobs/{id}")).status, 200, "{id} was acknowledged");
    }
}

#[test]
fn a_hub_whose_files_are_removed_acknowledges_nothing_more() {
    type Removal = (&'static str, fn(&Hub));
    let removals: [Removal; 4] = [
        ("the journal", |hub| fs::remove_dir_all(journal(hub)).unwrap()),
        ("the snapshots", |hub| fs::remove_dir_all(hub.folder().join("snapshots")).unwrap()),
        ("everything in the folder", |hub| {
            for entry in fs::read_dir(hub.folder()).unwrap().map(|entry| entry.unwrap().path()) {
                // The token stays for this test's requests.
                match entry.file_name().unwrap().to_str() {
                    Some("secrets") => {}
                    _ if entry.is_dir() => fs::remove_dir_all(&entry).unwrap(),
                    _ => fs::remove_file(&entry).unwrap(),
                }
            }
        }),
        ("the newest segment", |hub| fs::remove_file(segment(hub)).unwrap()),
    ];
    for (what, remove) in removals {
        let hub = Hub::start();
        submit(&mut hub.data(), 1);
        remove(&hub);
        eprintln!("removed: {what}");
        await_down(&hub, "was removed or replaced while the hub runs");
    }
}

#[test]
fn a_segment_that_was_replaced_is_not_written() {
    let hub = Hub::start();
    submit(&mut hub.data(), 1);
    let (segment, copy) = (segment(&hub), hub.folder().join("copy"));
    fs::copy(&segment, &copy).unwrap();
    fs::rename(&copy, &segment).unwrap();
    await_down(&hub, "was removed or replaced while the hub runs");
}

#[test]
fn a_log_that_was_removed_or_replaced_goes_on_under_its_name() {
    let hub = Hub::start();
    let audit = hub.folder().join("logs/hub_security_audit.jsonl");
    let mut stranger = Client::new(hub.data, Some("a wrong token".to_owned()));
    let failures = |path: &Path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter(|line| line.contains("AUTH_FAILURE")).count()
    };
    stranger.get("/mesh/jobs");
    until("the first is written", || failures(&audit) > 0);
    // A tool that rotates logs moves the file and makes another one.
    fs::rename(&audit, audit.with_extension("old")).unwrap();
    fs::write(&audit, "").unwrap();
    until("a later one is in the file of that name", || {
        stranger.get("/mesh/jobs");
        failures(&audit) > 0
    });
    fs::remove_file(&audit).unwrap();
    until("and in the next", || {
        stranger.get("/mesh/jobs");
        failures(&audit) > 0
    });
    until("a warning says so", || hub.log().contains("a log file was removed or replaced"));
    let log = hub.folder().join("logs/hub.jsonl");
    fs::remove_file(&log).unwrap();
    fs::remove_file(hub.folder().join("lock")).unwrap();
    until("the hub's own log goes on too", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("the lock file was removed or replaced"))
    });
}
