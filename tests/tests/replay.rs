//! Replay of production: a real hub's data folder, under the real simulator binary.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::{failure, result};
use sheratan_tests::{Bundle, Client, Hub, Options, Run, sim, until};
use std::fs;
use std::process::Command;
use tempfile::TempDir;

/// Few jobs may wait in these hubs, and a retry is later than the end of any test.
const SETTINGS: [(&str, &str); 3] = [
    ("SHERATAN_MAX_QUEUE_DEPTH", "5"),
    ("SHERATAN_RETRY_BACKOFF_BASE_MS", "600000"),
    ("SHERATAN_RETRY_BACKOFF_CAP_MS", "600000"),
];

fn start() -> Hub {
    start_with(&[])
}

fn start_with(env: &[(&str, &str)]) -> Hub {
    let env = SETTINGS.iter().chain(env).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Hub::start_in(TempDir::new().unwrap(), Options { args: Vec::new(), env })
}

fn submit(data: &mut Client, n: u64) -> u16 {
    data.post("/mesh/submit_request", &json!({"kind": "k", "params": {"n": n}})).status
}

fn pull(data: &mut Client) -> Vec<Value> {
    let answer = data.post("/mesh/pull_requests", &json!({"node_id": "n1", "max": 1})).ok();
    answer["jobs"].as_array().unwrap().clone()
}

/// Submits 20 jobs of which 5 may wait, and completes two of those; one fails once before.
fn flood(hub: &Hub) {
    let mut data = hub.data();
    let answers: Vec<_> = (0..20).map(|n| submit(&mut data, n)).collect();
    assert_eq!(answers.iter().filter(|status| **status == 429).count(), 15);
    let job = pull(&mut data).remove(0);
    data.post("/mesh/submit_result", &failure(&job, "n1", &json!("no"))).ok();
    for _ in 0..2 {
        let job = pull(&mut data).remove(0);
        data.post("/mesh/submit_result", &result(&job, "n1", &json!({"n": 1}))).ok();
    }
}

fn replay(hub: &Hub, args: &[&str]) -> Run {
    let folder = hub.folder().to_str().unwrap();
    Command::new(sim()).args(["replay", "--journal", folder]).args(args).output().unwrap().into()
}

fn json(run: &Run) -> Value {
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    serde_json::from_str(&run.stdout).unwrap()
}

#[test]
fn with_a_higher_limit_the_replay_accepts_what_the_hub_refused() {
    let mut hub = start();
    flood(&hub);
    assert!(hub.stop().success());
    let verified = hub.run(&["journal", "verify", "--replay", "--json"]);
    let verified: Value = serde_json::from_str(&verified.stdout).unwrap();

    let as_it_was = json(&replay(&hub, &["--json"]));
    assert_eq!((&as_it_was["ok"], &as_it_was["diverged"]), (&json!(true), &Value::Null));
    assert_eq!(as_it_was["state"]["digest"], verified["replay"]["digest"]);
    assert_eq!(as_it_was["records"], verified["replay"]["records"]);
    let total = &as_it_was["total"];
    let counts = ["accepted", "refused", "completed", "retried", "leased"].map(|count| total[count].as_u64().unwrap());
    assert_eq!(counts, [5, 15, 2, 1, 3]);
    assert_eq!(total["refusals"], json!({"queue_depth": 15}));
    assert_eq!(as_it_was["trace"]["percent"], 100.0);
    assert_eq!((&as_it_was["trace"]["gaps"], &as_it_was["trace"]["crashes"]), (&json!([]), &json!(0)));

    let what_if = &json(&replay(&hub, &["--set", "max_queue_depth=500", "--json"]))["what_if"];
    let of = |side: &str, count: &str| what_if[side]["total"][count].as_u64().unwrap();
    assert_eq!([of("recorded", "accepted"), of("recorded", "refused"), of("recorded", "completed")], [5, 15, 2]);
    assert_eq!([of("changed", "accepted"), of("changed", "refused"), of("changed", "completed")], [20, 0, 2]);
    assert_eq!(what_if["set"], json!({"max_queue_depth": 500}));
    assert_eq!(what_if["results_left_out"], 0);

    let lower = &json(&replay(&hub, &["--set", "max_queue_depth=1", "--json"]))["what_if"];
    assert_eq!(
        (&lower["changed"]["total"]["accepted"], &lower["changed"]["total"]["refused"]),
        (&json!(1), &json!(19))
    );
    // The second job was never accepted, so its results are left out; the first had failed and waits for its retry.
    assert_eq!(lower["results_left_out"], 2);

    let shown = replay(&hub, &["--set", "max_queue_depth=500"]);
    for line in ["what if max_queue_depth=500: recorded | with it", "15 |      0", "covers 100.0 % of the window"] {
        assert!(shown.stdout.contains(line), "{line}: {}", shown.stdout);
    }
}

#[test]
fn a_pull_that_found_nothing_gets_a_job_under_a_higher_limit_and_is_assumed_to_complete_it() {
    let mut hub = start();
    flood(&hub);
    let mut data = hub.data();
    for _ in 0..2 {
        let job = pull(&mut data).remove(0);
        data.post("/mesh/submit_result", &result(&job, "n1", &json!({"n": 2}))).ok();
    }
    assert!(pull(&mut data).is_empty(), "the job that failed waits");
    assert!(hub.stop().success());
    let what_if = &json(&replay(&hub, &["--set", "max_queue_depth=500", "--json"]))["what_if"];
    let of = |side: &str, count: &str| what_if[side]["total"][count].as_u64().unwrap();
    assert_eq!([of("recorded", "leased"), of("recorded", "empty_pulls")], [5, 1]);
    // The hub ran for some moments after that pull, in which the node is assumed to complete jobs and to pull again.
    let leased = of("changed", "leased");
    assert!((6..=20).contains(&leased), "{what_if}");
    assert!(of("changed", "empty_pulls") == 0 || leased == 20, "{what_if}");
    assert_eq!((&what_if["assumed_leases"], &what_if["pulls_left_out"]), (&json!(leased - 5), &json!(0)));
    assert_eq!(what_if["changed"]["state"]["queued"], 20 - leased);
}

#[test]
fn a_running_hubs_folder_and_that_of_one_that_was_killed_are_replayed_over_a_restart() {
    let mut hub = start();
    flood(&hub);
    // The trace's thread may be some moments behind.
    let mut running = Value::Null;
    until("the trace has all that was refused", || {
        running = json(&replay(&hub, &["--json"]));
        running["total"]["refused"] == 15
    });
    assert_eq!(running["is_in_use"], true);
    hub.kill();
    hub.restart();
    flood_again(&hub);
    assert!(hub.stop().success());
    let both = json(&replay(&hub, &["--json"]));
    assert_eq!((&both["ok"], &both["trace"]["crashes"]), (&json!(true), &json!(1)));
    assert_eq!(both["total"]["refused"], 15 + 20 - 2);
    // Up to the moment before the second half, which is the end of the first replay.
    let until = running["window"]["to"].as_str().unwrap();
    let first = json(&replay(&hub, &["--until", until, "--json"]));
    assert_eq!((&first["total"], &first["records"]), (&running["total"], &running["records"]));
    assert_eq!(first["state"]["at"], until);
}

/// Submits again: three of five jobs still wait, or wait again.
fn flood_again(hub: &Hub) {
    let mut data = hub.data();
    let answers: Vec<_> = (0..20).map(|n| submit(&mut data, n)).collect();
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 2, "{answers:?}");
}

#[test]
fn without_a_trace_the_replay_says_that_what_was_refused_is_not_known() {
    let mut hub = start_with(&[("SHERATAN_TRACE_MAX_BYTES", "0")]);
    flood(&hub);
    assert!(hub.stop().success());
    assert!(!hub.folder().join("trace").exists());
    let replayed = json(&replay(&hub, &["--json"]));
    assert_eq!((&replayed["trace"]["percent"], &replayed["trace"]["span"]), (&json!(0.0), &Value::Null));
    assert_eq!((&replayed["total"]["accepted"], &replayed["total"]["refused"]), (&json!(5), &json!(0)));
    assert!(replay(&hub, &[]).stdout.contains("what was refused is not known"));
}

#[test]
fn what_cannot_be_replayed_is_refused_with_a_next_step() {
    let mut hub = start();
    let unknown = replay(&hub, &["--set", "max_depth=5"]);
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.stderr.contains("max_depth is no limit of the hub; these are: max_queue_depth, "),
        "{}",
        unknown.stderr
    );
    let contradiction = replay(&hub, &["--set", "node_ttl_sec=100000"]);
    assert_eq!(contradiction.code, Some(2), "{}", contradiction.stderr);
    assert_eq!(replay(&hub, &["--until", "yesterday"]).code, Some(2));
    assert!(hub.stop().success());
    let nothing = Command::new(sim()).args(["replay", "--journal", "/nowhere"]).output().unwrap();
    let nothing = Run::from(nothing);
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.stderr.contains("/nowhere is no data folder"), "{}", nothing.stderr);
}

#[test]
fn the_trace_holds_what_was_refused_and_the_diagnose_bundle_nothing_of_it() {
    let mut hub = start();
    let mut data = hub.data();
    for _ in 0..6 {
        data.post("/mesh/submit_request", &json!({"kind": "k", "params": {"text": "only in a payload"}}));
    }
    assert!(hub.stop().success());
    let has = |bytes: &[u8]| bytes.windows(17).any(|window| window == b"only in a payload");
    let files = fs::read_dir(hub.folder().join("trace")).unwrap().map(|entry| entry.unwrap().path());
    assert!(files.map(|path| fs::read(path).unwrap()).any(|bytes| has(&bytes)));
    let archive = hub.folder().join("bundle.zip");
    assert_eq!(hub.run(&["diagnose", "--output", archive.to_str().unwrap()]).code, Some(0));
    let bundle = Bundle::open(&archive);
    assert!(bundle.json("disk.json")["bytes_of_parts"]["trace"].as_u64().unwrap() > 0);
    assert!(bundle.files.values().all(|bytes| !has(bytes)));
}

/// A file in place of the trace's folder stands for a disk that fails.
#[test]
fn trace_records_that_the_disk_refuses_are_counted_and_delay_no_client() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("trace"), "").unwrap();
    let env = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let hub = Hub::start_in(folder, Options { args: Vec::new(), env });
    flood(&hub);
    let count = |name: &str| {
        let text = Client::new(hub.data, None).ask("GET", "/metrics", &[("Accept", "text/plain")]).body;
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("sheratan_hub_trace_{name}_total ")));
        line.unwrap_or_else(|| panic!("{name} is served")).parse::<u64>().unwrap()
    };
    until("all that was refused is counted", || count("records_dropped") >= 15);
    assert_eq!([count("records"), count("bytes")], [0, 0]);
    let dropped = count("records_dropped");
    fs::remove_file(hub.folder().join("trace")).unwrap();
    (20..30).for_each(|n| _ = submit(&mut hub.data(), n));
    // What was dropped is reported in a record of its own.
    until("what is refused now is written", || count("records") > 5);
    assert_eq!(count("records_dropped"), dropped);
    let replayed = json(&replay(&hub, &["--json"]));
    let missing = replayed["trace"]["gaps"].as_array().unwrap().iter().map(|gap| gap["records"].as_u64().unwrap());
    assert_eq!(missing.sum::<u64>(), dropped);
}
