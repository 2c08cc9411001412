//! The journal's files, torn, flipped and full, under the real binary.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::result;
use sheratan_tests::{Client, Hub, Options, Run, command, run, until};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn submit(data: &mut Client, n: u64) -> String {
    let answer = data.post("/mesh/submit_request", &json!({"kind": "k", "params": {"n": n}})).ok();
    answer["job_id"].as_str().unwrap().to_owned()
}

/// The newest segment.
fn segment(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| {
            path.extension().is_some_and(|name| name == "seg") && path.to_str().unwrap().contains("journal-")
        })
        .max()
        .unwrap()
}

/// The offset of a command in a segment, found by the number in its params.
fn position(bytes: &[u8], n: u64) -> usize {
    let needle = format!("{{\"n\":{n}}}").into_bytes();
    bytes.windows(needle.len()).position(|window| window == needle).unwrap()
}

fn serve(folder: &Path) -> Run {
    let folder = folder.to_str().unwrap();
    run(&["serve", "--control-addr", "127.0.0.1:0", "--data-addr", "127.0.0.1:0", "--data-dir", folder])
}

#[test]
fn a_torn_tail_is_cut_with_a_notice_and_everything_before_it_is_there() {
    let mut hub = Hub::start();
    let mut data = hub.data();
    let ids: Vec<_> = (100..110).map(|n| submit(&mut data, n)).collect();
    hub.kill();
    // As if the machine had lost power while the last batch was being written.
    let path = segment(hub.folder());
    let mut bytes = fs::read(&path).unwrap();
    let at = position(&bytes, 109);
    bytes[at + 3..at + 40].fill(0);
    fs::write(&path, bytes).unwrap();
    hub.restart();
    let mut data = hub.data();
    for id in &ids[..9] {
        assert_eq!(data.get(&format!("/mesh/jobs/{id}")).status, 200);
    }
    assert_eq!(data.get(&format!("/mesh/jobs/{}", ids[9])).status, 404);
    until("the log reports it", || hub.log().contains("the journal's end was cut"));
    submit(&mut data, 200);
}

#[test]
fn a_flipped_byte_before_the_tail_stops_the_start_and_repair_keeps_what_it_cuts() {
    let mut hub = Hub::start();
    let mut data = hub.data();
    let ids: Vec<_> = (100..120).map(|n| submit(&mut data, n)).collect();
    hub.kill();
    let path = segment(hub.folder());
    let mut bytes = fs::read(&path).unwrap();
    let at = position(&bytes, 110);
    bytes[at + 2] ^= 1;
    fs::write(&path, bytes).unwrap();

    let refused = serve(hub.folder());
    assert_eq!(refused.code, Some(1));
    let name = path.file_name().unwrap().to_str().unwrap();
    for word in [name, "offset", "journal verify", "journal repair"] {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
    let folder = hub.folder().to_str().unwrap().to_owned();
    let verified = run(&["journal", "verify", "--data-dir", &folder, "--json"]);
    assert_eq!(verified.code, Some(1));
    let report: Value = serde_json::from_str(&verified.stdout).unwrap();
    assert!(!report["problem"].is_null(), "{report}");

    let repaired = run(&["journal", "repair", "--data-dir", &folder]);
    assert_eq!(repaired.code, Some(0), "{repaired:?}");
    assert!(hub.folder().join("quarantine").exists(), "{repaired:?}");
    assert_eq!(run(&["journal", "verify", "--data-dir", &folder]).code, Some(0));
    hub.restart();
    let mut data = hub.data();
    let status = |data: &mut Client, id: &String| data.get(&format!("/mesh/jobs/{id}")).status;
    assert!(ids[..10].iter().all(|id| status(&mut data, id) == 200));
    assert!(ids[10..].iter().all(|id| status(&mut data, id) == 404));
}

/// A job that was leased, whose ids a client and a worker keep: what the ids name must not change.
struct Kept {
    job_id: String,
    lease: Value,
}

impl Kept {
    fn submit_and_lease(data: &mut Client) -> Kept {
        let job_id = submit(data, 1_000);
        let pulled = data.post("/mesh/pull_requests", &json!({"node_id": "n1", "max": 100})).ok();
        let mut leases = pulled["jobs"].as_array().unwrap().iter();
        Kept { lease: leases.find(|leased| leased["job_id"] == job_id.as_str()).unwrap().clone(), job_id }
    }

    /// The hub has lost the job. Others are submitted and leased, with the numbers that this one had.
    fn assert_names_nothing(&self, data: &mut Client) {
        let others: Vec<_> = (2_000..2_030).map(|n| submit(data, n)).collect();
        let pulled = data.post("/mesh/pull_requests", &json!({"node_id": "n1", "max": 100})).ok();
        let leased = pulled["jobs"].as_array().unwrap();
        assert!(!others.contains(&self.job_id), "the lost job's id was given to another");
        let is_known = |member: &str| leased.iter().any(|leased| leased[member] == self.lease[member]);
        assert!(!is_known("lease_id") && !is_known("request_id"), "{leased:?}");
        let read = data.get(&format!("/mesh/jobs/{}", self.job_id));
        assert_eq!((read.status, read.error().as_str()), (404, "unknown_job"));
        let answer = data.post("/mesh/submit_result", &result(&self.lease, "n1", &json!({"late": true})));
        assert_eq!((answer.status, answer.error().as_str()), (409, "lease_lost"), "it is parked");
        let mut mixed = self.lease.clone();
        mixed["job_id"] = leased[0]["job_id"].clone();
        let answer = data.post("/mesh/submit_result", &result(&mixed, "n1", &json!({"late": true})));
        assert_eq!((answer.status, answer.error().as_str()), (409, "lease_lost"));
        let extended = json!({"node_id": "n1", "leases": [self.lease["lease_id"]]});
        let extended = data.post("/mesh/extend_lease", &extended).ok();
        assert_eq!(extended["leases"][0]["error"], "lease_lost", "{extended}");
    }
}

#[test]
fn an_id_of_a_job_that_a_repair_lost_names_no_other_job() {
    let mut hub = Hub::start();
    let mut data = hub.data();
    let early: Vec<_> = (100..110).map(|n| submit(&mut data, n)).collect();
    let keyed = json!({"kind": "k", "params": {"n": 5}, "idempotency_key": "a key"});
    let keyed_id = data.post("/mesh/submit_request", &keyed).ok()["job_id"].clone();
    submit(&mut data, 110);
    let kept = Kept::submit_and_lease(&mut data);
    hub.kill();
    let path = segment(hub.folder());
    let mut bytes = fs::read(&path).unwrap();
    let at = position(&bytes, 110);
    bytes[at + 2] ^= 1;
    fs::write(&path, bytes).unwrap();
    let repaired = hub.run(&["journal", "repair"]);
    assert_eq!(repaired.code, Some(0), "{repaired:?}");
    assert!(repaired.stdout.contains("ids of lost jobs and leases"), "{repaired:?}");
    hub.restart();
    let mut data = hub.data();
    kept.assert_names_nothing(&mut data);
    for id in &early {
        assert_eq!(data.get(&format!("/mesh/jobs/{id}")).status, 200, "{id} was before the damage");
    }
    let again = data.post("/mesh/submit_request", &keyed).ok();
    assert_eq!((&again["job_id"], &again["dedup"]), (&keyed_id, &json!(true)), "the key is known");
}

#[test]
fn an_id_given_since_a_copy_was_made_names_nothing_when_the_copy_is_back() {
    let mut hub = Hub::start();
    let early = submit(&mut hub.data(), 100);
    hub.stop();
    let copied = files(hub.folder());
    hub.restart();
    let kept = Kept::submit_and_lease(&mut hub.data());
    hub.kill();
    files(hub.folder()).keys().for_each(|path| fs::remove_file(path).unwrap());
    copied.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    hub.restart();
    let mut data = hub.data();
    kept.assert_names_nothing(&mut data);
    assert_eq!(data.get(&format!("/mesh/jobs/{early}")).status, 200);
}

#[test]
fn verify_reads_beside_a_running_hub_and_a_replay_agrees_with_it() {
    let hub = Hub::start();
    let mut data = hub.data();
    (0..50).for_each(|n| _ = submit(&mut data, n));
    let run = hub.run(&["journal", "verify", "--replay"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains("agrees with what the hub decided"), "{run:?}");
    assert!(run.stdout.contains("in use by a running hub"), "{run:?}");
}

/// Segments of 1 MiB fill quickly: the hub rolls, makes snapshots by replay, recycles, and recovers from all of that.
#[test]
fn segments_roll_snapshots_are_made_by_replay_and_old_segments_are_removed() {
    let mut hub = Hub::start_with(&["--journal-segment-bytes", "1MiB"]);
    let mut data = hub.data();
    let filler = "x".repeat(1_000);
    let mut last = String::new();
    for _ in 0..80 {
        let requests: Vec<_> = (0..100).map(|n| json!({"kind": "k", "params": {"n": n, "filler": filler}})).collect();
        let answer = data.post("/mesh/submit_requests", &json!({"requests": requests})).ok();
        last = answer["results"][99]["job_id"].as_str().unwrap().to_owned();
    }
    until("a snapshot was made by replay", || {
        hub.log().contains("a snapshot was made, and the replay agreed with the hub")
    });
    hub.kill();
    hub.restart();
    let mut data = hub.data();
    assert_eq!(data.get(&format!("/mesh/jobs/{last}")).ok()["job"]["params"]["n"], 99);
    assert_eq!(hub.run(&["journal", "verify", "--replay"]).code, Some(0));
    let first = hub.folder().join("journal/journal-00000000000000000001.seg");
    let mut n = 0;
    until("two snapshots cover the first segment, and it is gone", || {
        n += 1;
        submit(&mut data, n);
        let requests: Vec<_> = (0..100).map(|n| json!({"kind": "k", "params": {"n": n, "filler": filler}})).collect();
        data.post("/mesh/submit_requests", &json!({"requests": requests})).ok();
        !first.exists()
    });
}

/// A disk of 12 MiB: segments of 1 MiB fill it up.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_refuses_reads_on_and_recovers_without_a_restart() {
    let Some(disk) = SmallDisk::mount(12) else { return };
    let options = Options {
        args: ["--journal-segment-bytes", "1MiB", "--max-queue-bytes", "1GiB"].map(str::to_owned).to_vec(),
        env: Vec::new(),
    };
    let folder = TempDir::new_in(disk.path()).unwrap();
    let mut hub = Hub::start_in(folder, options);
    let mut data = hub.data();
    let first = submit(&mut data, 1);
    // Another program's file takes most of the space.
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 7 << 20]).unwrap();
    let filler = "x".repeat(60_000);
    let mut acknowledged = vec![first];
    let refused = loop {
        let response = data.post("/mesh/submit_request", &json!({"kind": "k", "params": filler}));
        if response.status != 200 {
            break response;
        }
        acknowledged.push(response.json()["job_id"].as_str().unwrap().to_owned());
        assert!(acknowledged.len() < 1_000, "the disk is never full");
    };
    assert_eq!((refused.status, refused.error().as_str()), (503, "journal_unavailable"));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(data.get("/readyz").status, 503);
    assert_eq!(data.get("/livez").status, 200);
    for id in &acknowledged {
        assert_eq!(data.get(&format!("/mesh/jobs/{id}")).status, 200, "reads are served");
    }
    fs::remove_file(ballast).unwrap();
    until("it takes submits again", || data.get("/readyz").status == 200);
    acknowledged.push(submit(&mut data, 2));
    hub.kill();
    hub.restart();
    let mut data = hub.data();
    for id in &acknowledged {
        assert_eq!(data.get(&format!("/mesh/jobs/{id}")).status, 200, "{id} was acknowledged");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_hub_starts_on_a_full_disk_serves_reads_and_resumes_when_there_is_space() {
    let Some(disk) = SmallDisk::mount(12) else { return };
    let free = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [control, data] = free.map(|listener| listener.local_addr().unwrap().to_string());
    let options = Options {
        args: ["--journal-segment-bytes", "1MiB", "--control-addr", &control, "--data-addr", &data]
            .map(str::to_owned)
            .to_vec(),
        env: Vec::new(),
    };
    let mut hub = Hub::start_in(TempDir::new_in(disk.path()).unwrap(), options);
    let ids: Vec<_> = (100..110).map(|n| submit(&mut hub.data(), n)).collect();
    for is_torn in [false, true] {
        hub.kill();
        for spare in fs::read_dir(hub.folder().join("journal")).unwrap().map(|entry| entry.unwrap().path()) {
            if spare.file_name().unwrap().to_str().unwrap().starts_with("spare") {
                fs::remove_file(spare).unwrap();
            }
        }
        if is_torn {
            let path = segment(hub.folder());
            let mut bytes = fs::read(&path).unwrap();
            // The last one.
            let at = position(&bytes, 1);
            bytes[at + 3..at + 40].fill(0);
            fs::write(&path, bytes).unwrap();
        }
        // The lock file is empty, so that even one block more is too much.
        fs::write(hub.folder().join("lock"), "").unwrap();
        let ballast = disk.path().join("ballast");
        fill(&ballast);
        hub.begin_restart_without_addr();
        let mut client = hub.data();
        until("it serves reads", || {
            assert!(hub.exited().is_none(), "{}", hub.said());
            client = hub.data();
            client.try_request("GET", &format!("/mesh/jobs/{}", ids[0]), None).is_ok_and(|reply| reply.status == 200)
        });
        for id in &ids {
            assert_eq!(client.get(&format!("/mesh/jobs/{id}")).status, 200, "{id}");
        }
        if is_torn {
            until("submits are refused", || client.get("/readyz").status == 503);
        }
        fs::remove_file(&ballast).unwrap();
        until("it takes submits again", || client.get("/readyz").status == 200);
        submit(&mut client, 1);
    }
}

/// Writes a file until the disk is full.
#[cfg(target_os = "linux")]
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(path).unwrap();
    for piece in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![1; piece]).is_ok() {}
    }
}

/// A file system in memory, of a given size.
#[cfg(target_os = "linux")]
struct SmallDisk(TempDir);

#[cfg(target_os = "linux")]
impl SmallDisk {
    /// `None`, and the test is skipped, without the right to mount.
    fn mount(mib: u32) -> Option<SmallDisk> {
        let folder = TempDir::new().unwrap();
        let size = format!("size={mib}m");
        let mut mount = std::process::Command::new("mount");
        let status = mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).status();
        if !status.is_ok_and(|status| status.success()) {
            sheratan_tests::tools::skipped("a small file system cannot be mounted here: it needs root");
            return None;
        }
        Some(SmallDisk(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a hub that a failing test left behind is killed only after this.
        _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// The journal's and the snapshots' files with their bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let folders = ["journal", "snapshots"].map(|name| folder.join(name));
    let paths = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// A folder whose snapshot is of another history than the records after it, so that these cannot be replayed.
fn of_two_histories() -> Hub {
    let mut hub = Hub::start();
    (0..2).for_each(|n| _ = submit(&mut hub.data(), n));
    hub.stop();
    let common = files(hub.folder());
    hub.restart();
    submit(&mut hub.data(), 100);
    hub.stop();
    let others = files(hub.folder());
    let (snapshot, state) =
        others.iter().filter(|(path, _)| path.extension().is_some_and(|name| name == "snap")).max().unwrap();
    others.keys().for_each(|path| fs::remove_file(path).unwrap());
    common.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    hub.restart();
    let mut data = hub.data();
    let pulled = data.post("/mesh/pull_requests", &json!({"node_id": "n1", "max": 1})).ok();
    (200..205).for_each(|n| _ = submit(&mut data, n));
    data.post("/mesh/submit_result", &result(&pulled["jobs"][0], "n1", &json!({"n": 0}))).ok();
    hub.kill();
    fs::write(snapshot, state).unwrap();
    hub
}

#[test]
fn a_journal_that_cannot_be_replayed_stops_the_start_and_repair_goes_back_only_if_loss_is_accepted() {
    let mut hub = of_two_histories();
    let folder = hub.folder().to_str().unwrap().to_owned();
    let before = files(hub.folder());
    let runbook = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbook.md")).unwrap();

    let refused = serve(hub.folder());
    assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{refused:?}");
    let version = run(&["--version"]).stdout;
    let build = version.trim().rsplit(' ').next().unwrap();
    assert!(refused.stderr.contains(build), "{refused:?}");
    let said = [
        "the journal cannot be replayed: record ",
        "is decided otherwise: it changed the hub's",
        "refuses it (",
        "nothing was changed.",
        "`sheratan-hub journal repair --from-snapshot --accept-loss`",
    ];
    let unwrapped = runbook.replace("\n> ", " ");
    for words in said {
        assert!(refused.stderr.contains(words), "{words}: {refused:?}");
        assert!(unwrapped.contains(words), "the runbook shows it: {words}");
    }
    assert!(runbook.contains("\n### The journal cannot be replayed\n"));
    assert_eq!(files(hub.folder()), before);

    let asked = run(&["journal", "repair", "--from-snapshot", "--json", "--data-dir", &folder]);
    assert_eq!(asked.code, Some(1), "{asked:?}");
    let report: Value = serde_json::from_str(&asked.stdout).unwrap();
    let (first, last) = (report["lost"]["first_seq"].as_u64().unwrap(), report["lost"]["last_seq"].as_u64().unwrap());
    assert!(first <= last && report["lost"]["first_at"].is_string(), "{report}");
    assert_eq!((&report["is_done"], &report["snapshot"]["covered_seq"]), (&json!(false), &json!(first - 1)));
    assert_eq!(files(hub.folder()), before);
    let done = run(&["journal", "repair", "--from-snapshot", "--accept-loss", "--data-dir", &folder]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains(&format!("{} records, {first} to {last}", last - first + 1)), "{done:?}");
    hub.restart();
    let held = hub.run(&["journal", "repair", "--from-snapshot", "--accept-loss"]);
    assert!(held.code == Some(1) && held.stderr.contains("stop that hub"), "{held:?}");
    let listed = hub.data().get("/mesh/jobs?status=queued").ok();
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 3, "{listed}");
    assert_eq!(hub.run(&["journal", "verify"]).code, Some(0));
}

#[test]
fn a_journal_of_another_version_is_refused_with_what_to_do() {
    let mut hub = Hub::start();
    submit(&mut hub.data(), 1);
    hub.kill();
    let path = segment(hub.folder());
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = bytes[8].wrapping_add(40);
    fs::write(&path, bytes).unwrap();
    let refused = serve(hub.folder());
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
}

#[test]
fn verify_refuses_a_path_that_is_not_a_data_folder() {
    let folder = TempDir::new().unwrap();
    let nowhere = folder.path().join("nowhere");
    let run = Run::from(command(&["journal", "verify", "--data-dir", nowhere.to_str().unwrap()]).output().unwrap());
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("nowhere"), "{run:?}");
}
