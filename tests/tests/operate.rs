//! What operators ask of a running hub and have it do, from the command line: jobs, kinds, nodes, orphans.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::result;
use sheratan_tests::{Fault, Hub, Proxy, Run, command, until};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

/// The rows of a table that a command printed, without its header: each the cells that are not empty.
#[track_caller]
fn rows(run: &Run, header: &str) -> Vec<Vec<String>> {
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(!run.stdout.contains('\u{1b}'), "a pipe gets no colours: {:?}", run.stdout);
    let cells =
        |line: &str| line.split("  ").map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect();
    let mut lines = run.stdout.lines().map(cells);
    let first: Vec<String> = lines.next().unwrap_or_default();
    assert_eq!(first.join(" "), header);
    lines.collect()
}

/// Submits jobs of a kind; their ids.
fn submit_many(hub: &Hub, kind: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for start in (0..count).step_by(1_000) {
        let requests: Vec<_> = (start..count.min(start + 1_000)).map(|n| json!({"kind": kind, "params": n})).collect();
        let answer = hub.data().post("/mesh/submit_requests", &json!({"requests": requests})).ok();
        let answers = answer["results"].as_array().unwrap().iter();
        ids.extend(answers.map(|answer| answer["job_id"].as_str().unwrap().to_owned()));
    }
    ids
}

fn pull(hub: &Hub, node: &str) -> Value {
    hub.data().post("/mesh/pull_requests", &json!({"node_id": node})).ok()["jobs"][0].clone()
}

/// A command of this hub that is running, with its standard output in a pipe.
fn begin(hub: &Hub, args: &[&str]) -> Child {
    let folder = hub.folder().to_str().unwrap();
    let mut command = command(&[args, &["--data-dir", folder]].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The lines that it prints, as they come.
fn lines_of(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap)
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

fn ended(child: Child) -> Run {
    Run::from(child.wait_with_output().unwrap())
}

const JOBS: &str = "JOB KIND STATUS PRIORITY ATTEMPT NODE SUBMITTED";

#[test]
fn a_list_of_jobs_follows_the_hubs_pages_and_is_one_document() {
    let hub = Hub::start();
    let ids = submit_many(&hub, "many", 2_300);
    hub.submit(json!({"kind": "other"}));
    let list = |args: &[&str]| hub.run(&[&["jobs", "list", "--kind", "many", "--json"], args].concat()).document();
    let first = list(&["--limit", "2200"]);
    let listed = |answer: &Value| -> Vec<String> {
        let jobs = answer["jobs"].as_array().unwrap().iter();
        jobs.map(|job| job["job_id"].as_str().unwrap().to_owned()).collect()
    };
    let newest: Vec<_> = ids.iter().rev().cloned().collect();
    assert_eq!(listed(&first), newest[..2_200]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = list(&["--limit", "2200", "--cursor", cursor]);
    assert_eq!((listed(&rest).as_slice(), &rest["next_cursor"]), (&newest[2_200..], &Value::Null));
    assert_eq!(rest["ok"], true);

    let run = hub.run(&["jobs", "list", "--kind", "many", "--limit", "3"]);
    let table = rows(&run, JOBS);
    assert_eq!(table.iter().map(|row| row[0].clone()).collect::<Vec<_>>(), newest[..3]);
    assert_eq!(table[0][1..5], ["many", "queued", "normal", "0/5"]);
    assert!(run.stderr.contains("go on with --cursor job_"), "{}", run.stderr);
}

#[test]
fn jobs_are_listed_by_each_filter_of_the_hub() {
    let hub = Hub::start();
    let dead = hub.submit(json!({"kind": "a b&c", "max_attempts": 1, "zone": "z", "idempotency_key": "k 1"}));
    hub.data().post("/mesh/pull_requests", &json!({"node_id": "n/1"})).ok();
    hub.submit(json!({"kind": "other"}));
    let control = json!({"node_id": "n/1", "zone": "z"});
    hub.control().post("/mesh/heartbeat", &control).ok();
    let job = hub.data().post("/mesh/pull_requests", &json!({"node_id": "n/1"})).ok()["jobs"][0].clone();
    assert_eq!(job["job_id"], dead);
    hub.data().post("/mesh/submit_result", &sheratan_tests::client::failure(&job, "n/1", &json!("E 100%"))).ok();
    let filters = [
        &["--kind", "a b&c"][..],
        &["--status", "dead"],
        &["--zone", "z"],
        &["--node", "n/1"],
        &["--error", "100%"],
        &["--key", "k 1"],
        &["--until", "2999-01-01T00:00:00Z", "--since", "1h", "--status", "dead"],
    ];
    for filter in filters {
        let listed = hub.run(&[&["jobs", "list", "--json"], filter].concat()).document();
        assert_eq!(listed["jobs"].as_array().unwrap().len(), 1, "{filter:?}");
        assert_eq!(listed["jobs"][0]["job_id"], dead, "{filter:?}");
    }
    let none = hub.run(&["jobs", "list", "--until", "1h"]);
    assert_eq!((none.code, none.stdout.as_str(), none.stderr.trim()), (Some(0), "", "no job matches"));
    hub.run(&["jobs", "list", "--status", "nonsense"]).is_refused(2, "possible values: scheduled, queued");
    hub.run(&["jobs", "list", "--since", "yesterday"]).is_refused(2, "15m");
}

#[test]
fn a_job_is_shown_with_its_attempts_and_its_result_is_verified() {
    let hub = Hub::start();
    let id = hub.submit(json!({"kind": "k", "params": {"n": 1.50}}));
    let job = pull(&hub, "n");
    let progress = json!({"node_id": "n", "leases": [job["lease_id"]], "progress": 40, "note": "half way"});
    hub.data().post("/mesh/extend_lease", &progress).ok();
    let shown = hub.run(&["jobs", "show", &id]);
    assert_eq!((shown.member("progress"), shown.member("note")), ("40", "half way"));
    let list = rows(&hub.run(&["jobs", "list"]), JOBS);
    assert_eq!((list[0][2].as_str(), list[0][5].as_str()), ("leased 40 %", "n"));
    hub.data().post("/mesh/submit_result", &result(&job, "n", &json!({"sum": 41}))).ok();
    let run = hub.run(&["jobs", "show", &id]);
    for part in ["completed", "(verified)", r#"{"sum":41}"#, r#"{"n":1.5}"#, "ATTEMPT  NODE  OUTCOME"] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
    let answer = hub.run(&["jobs", "show", &id, "--json"]).document();
    assert_eq!((&answer["job"]["job_id"], &answer["job"]["result"]), (&json!(id), &json!({"sum": 41})));

    let proxy = Proxy::to(hub.data);
    proxy.fail("/mesh/jobs/", 1, Fault::Alter("{\"sum\":41}", "{\"sum\":42}"));
    let (control, data) = (hub.control.to_string(), proxy.addr.to_string());
    let mut show = command(&["jobs", "show", &id, "--control", &control, "--data", &data]);
    let run = Run::from(show.env("SHERATAN_HUB_TOKEN", hub.token()).output().unwrap());
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert!(run.stderr.contains("does not match the checksum"), "{}", run.stderr);
}

#[test]
fn a_job_is_explained_with_what_lifts_each_reason() {
    let hub = Hub::start();
    hub.control().post("/mesh/heartbeat", &json!({"node_id": "n"})).ok();
    let ids = submit_many(&hub, "k", 2);
    assert_eq!(
        hub.run(&["kinds", "pause", "k", "--reason", "no disk", "--until", "2999-01-01T00:00:00Z"]).code,
        Some(0)
    );
    let answer = hub.run(&["jobs", "explain", &ids[1], "--json"]).document();
    assert_eq!(answer, hub.data().get(&format!("/mesh/jobs/{}/explain", ids[1])).ok());
    let run = hub.run(&["jobs", "explain", &ids[1]]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let expected = [
        format!("{} is queued", ids[1]),
        "  kind_paused: Its kind is paused: no disk.".to_owned(),
        "    lifted by resuming the kind, or the end of its pause (at 2999-01-01T00:00:00.000Z)".to_owned(),
    ];
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines[..3], expected, "{}", run.stdout);
    assert_eq!(hub.run(&["kinds", "resume", "k"]).code, Some(0));
    let job = pull(&hub, "n");
    assert!(hub.run(&["jobs", "explain", &ids[0]]).stdout.contains("leased: It runs on node 'n'."));
    assert!(hub.run(&["jobs", "explain", &ids[1]]).stdout.contains("turn: It is ready"));
    hub.data().post("/mesh/submit_result", &result(&job, "n", &json!(1))).ok();
    let run = hub.run(&["jobs", "explain", &ids[0]]);
    assert!(run.stdout.starts_with(&format!("{} is completed", ids[0])), "{}", run.stdout);
    hub.run(&["jobs", "explain", "job_none"]).is_refused(1, "404 unknown_job");
}

#[test]
fn jobs_are_cancelled_and_one_that_cannot_be_does_not_keep_the_others() {
    let hub = Hub::start();
    let ids = submit_many(&hub, "k", 3);
    let answer = hub.run(&["jobs", "cancel", &ids[0], "--json"]).document();
    assert_eq!((&answer["job_id"], &answer["status"]), (&json!(ids[0]), &json!("cancelled")));
    let run = hub.run(&["jobs", "cancel", &ids[0], "job_none", &ids[1]]);
    assert_eq!((run.code, run.stdout.trim()), (Some(1), format!("{} cancelled", ids[1]).as_str()));
    assert!(run.stderr.contains("409 already_final") && run.stderr.contains("404 unknown_job"), "{}", run.stderr);
    assert_eq!(hub.job(&ids[1])["status"], "cancelled");
    assert_eq!(hub.job(&ids[2])["status"], "queued");
}

#[test]
fn a_watched_job_is_shown_at_each_change_over_a_restart_until_it_has_ended() {
    let mut hub = Hub::start();
    let id = hub.submit(json!({"kind": "k", "max_attempts": 1}));
    let (mut plain, mut as_json) =
        (begin(&hub, &["jobs", "watch", &id]), begin(&hub, &["jobs", "watch", &id, "--json"]));
    let (mut lines, mut documents) = (lines_of(&mut plain), lines_of(&mut as_json));
    let document = |line: String| serde_json::from_str::<Value>(&line).unwrap();
    assert!(lines.next().unwrap().ends_with(&format!("{id}  queued")));
    assert_eq!(document(documents.next().unwrap())["job"]["status"], "queued");
    hub.kill();
    hub.restart();
    let job = pull(&hub, "n");
    let progress = json!({"node_id": "n", "leases": [job["lease_id"]], "progress": 40, "note": "half way"});
    hub.data().post("/mesh/extend_lease", &progress).ok();
    let leased = lines.find(|line| line.contains("40 %")).unwrap();
    assert!(leased.ends_with(&format!("{id}  leased 40 %  attempt 1 at n  half way")), "{leased}");
    assert!(documents.by_ref().map(document).any(|document| document["job"]["progress"] == 40));
    hub.data().post("/mesh/submit_result", &result(&job, "n", &json!({"sum": 41}))).ok();
    assert!(lines.last().unwrap().contains("completed"));
    assert_eq!(document(documents.last().unwrap())["job"]["result"], json!({"sum": 41}));
    assert_eq!((ended(plain).code, ended(as_json).code), (Some(0), Some(0)));

    let failing = hub.submit(json!({"kind": "k", "max_attempts": 1}));
    let job = pull(&hub, "n");
    let watch = begin(&hub, &["jobs", "watch", &failing, &id]);
    hub.data().post("/mesh/submit_result", &sheratan_tests::client::failure(&job, "n", &json!("no"))).ok();
    assert_eq!(ended(watch).code, Some(1), "one did not complete");
}

#[test]
fn a_watch_that_is_interrupted_ends_at_once_and_leaves_the_job_alone() {
    let hub = Hub::start();
    let id = hub.submit(json!({"kind": "k"}));
    let mut watch = begin(&hub, &["jobs", "watch", &id]);
    assert!(lines_of(&mut watch).next().unwrap().contains("queued"));
    interrupt(&watch);
    let run = ended(watch);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("1 job(s) have not ended; they go on"), "{}", run.stderr);
    assert_eq!(hub.job(&id)["status"], "queued");
}

const KINDS: &str = "KIND VERSION GATE QUEUED LEASED DEAD RULES PAUSED UNTIL REASON";

#[test]
fn the_rules_of_a_kind_are_set_and_each_change_says_its_versions() {
    let hub = Hub::start();
    let none = hub.run(&["kinds", "list"]);
    assert_eq!((none.code, none.stdout.as_str(), none.stderr.trim()), (Some(0), "", "no kind has rules or jobs"));
    let set = |args: &[&str]| hub.run(&[&["kinds", "set", "a/b"], args].concat());
    let run = set(&["--max-inflight", "5", "--rate-per-sec", "2.5", "--priority", "low"]);
    assert!(run.stdout.starts_with("a/b: version 0 → 1\n"), "{}", run.stdout);
    assert!(run.stdout.contains("max_inflight  default → 5") && run.stdout.contains("rate_per_sec  default → 2.5"));
    set(&["--max-inflight", "6", "--if-version", "0"]).is_refused(1, "412 version_mismatch");
    let answer = set(&["--max-inflight", "default", "--if-version", "1", "--json"]).document();
    assert_eq!((&answer["version"], &answer["rules"]), (&json!(2), &json!({"priority": "low", "rate_per_sec": 2.5})));
    let listed = rows(&hub.run(&["kinds", "list"]), KINDS);
    assert_eq!(listed[0][..2], ["a/b", "2"]);
    assert_eq!(listed[0].last().unwrap(), "priority=low rate_per_sec=2.5");
    hub.submit(json!({"kind": "b"}));
    let listed = hub.run(&["kinds", "list", "--json", "--limit", "1"]).document();
    assert_eq!((&listed["kinds"][0]["kind"], listed["kinds"].as_array().unwrap().len()), (&json!("a/b"), 1));
    let cursor = listed["next_cursor"].as_str().unwrap();
    let listed = hub.run(&["kinds", "list", "--json", "--cursor", cursor]).document();
    assert_eq!((&listed["kinds"][0]["kind"], &listed["kinds"][0]["jobs"]["queued"]), (&json!("b"), &json!(1)));
    assert_eq!(hub.run(&["kinds", "show", "a/b"]).member("rate_per_sec"), "2.5");
    assert_eq!(hub.run(&["kinds", "show", "none", "--json"]).document()["version"], 0);
    set(&[]).is_refused(2, "no rule is named");
    set(&["--priority", "urgent"]).is_refused(1, "priority");
    set(&["--max-inflight=-1"]).is_refused(1, "max_inflight");
}

#[test]
fn each_rule_of_the_hub_is_a_flag() {
    let hub = Hub::start();
    let refused = hub.data().try_request("PUT", "/mesh/kinds/k", Some(&json!({}))).unwrap().json();
    let rules = refused["detail"].as_str().unwrap().split("the rules are ").nth(1).unwrap().to_owned();
    let (set, pause) =
        (sheratan_tests::run(&["kinds", "set", "--help"]).stdout, ["paused", "pause_reason", "paused_until_utc"]);
    let rules: Vec<_> = rules.split(", ").filter(|rule| !pause.contains(rule)).collect();
    assert!(rules.len() > 10, "{rules:?}");
    for rule in rules {
        assert!(set.contains(&format!("--{} <", rule.replace('_', "-"))), "{rule}: {set}");
    }
}

#[test]
fn a_paused_kind_leases_nothing_until_it_is_resumed() {
    let hub = Hub::start();
    hub.submit(json!({"kind": "k"}));
    let run = hub.run(&["kinds", "pause", "k", "--reason", "disk full", "--for", "2h"]);
    assert!(run.stdout.contains("pause_reason  none → disk full"), "{}{}", run.stdout, run.stderr);
    assert_eq!(pull(&hub, "n"), Value::Null);
    let listed = rows(&hub.run(&["kinds", "list"]), KINDS);
    assert_eq!(listed[0][..6], ["k", "1", "paused", "1", "0", "0"]);
    assert_eq!(listed[0].last().unwrap(), "disk full");
    hub.run(&["kinds", "resume", "k", "--if-version", "7"]).is_refused(1, "412");
    assert_eq!(hub.run(&["kinds", "resume", "k", "--json"]).document()["paused"], false);
    assert_eq!(hub.run(&["kinds", "pause", "k"]).code, Some(0));
    assert!(hub.run(&["kinds", "resume", "k"]).stdout.contains("paused  true → false"));
    assert_eq!(pull(&hub, "n")["kind"], "k");
    let until = "2999-01-01T00:00:00Z";
    let paused = hub.run(&["kinds", "pause", "k", "--until", until, "--json"]).document();
    assert_eq!(paused["paused_until_utc"], "2999-01-01T00:00:00.000Z");
    hub.run(&["kinds", "pause", "k", "--until", "2001-01-01T00:00:00Z"]).is_refused(1, "must be in the future");
    hub.run(&["kinds", "pause", "k", "--for", "soon"]).is_refused(2, "2h");
}

const NODES: &str = "NODE STATUS HEALTH ATTESTATION IDENTITY STATE ZONE LEASES DRAINED CAPABILITIES LAST SEEN";

#[test]
fn nodes_are_accepted_quarantined_and_released() {
    let hub = Hub::start();
    let attest = |build: &str| {
        let attestation = json!({"build_id": build, "capability_hash": "h"});
        hub.control().post("/mesh/heartbeat", &json!({"node_id": "a", "attestation": attestation})).ok()
    };
    attest("b1");
    attest("b2");
    let list = rows(&hub.run(&["nodes", "list"]), NODES);
    assert_eq!(list[0][..6], ["a", "ONLINE", "YELLOW", "DRIFT", "UNPINNED", "WARN"]);
    let other = hub.run(&["nodes", "accept", "a", "--build", "b1"]);
    assert_eq!(other.code, Some(1), "{}", other.stdout);
    assert!(other.stderr.contains("attests something else"), "{}", other.stderr);
    let accepted = hub.run(&["nodes", "accept", "a", "--build", "b2"]);
    assert_eq!((accepted.code, accepted.stdout.trim()), (Some(0), "a is in service"), "{}", accepted.stderr);
    let kept = hub.run(&["nodes", "quarantine", "a", "--for", "90s", "--reason", "odd", "--json"]).document();
    assert_eq!([&kept["policy_state"], &kept["policy_note"]], ["QUARANTINED", "odd"]);
    assert_eq!(hub.run(&["nodes", "show", "a"]).member("policy_state"), "QUARANTINED");
    let job = hub.submit(json!({"kind": "k"}));
    assert!(hub.run(&["jobs", "explain", &job]).stdout.contains("in quarantine"));
    assert_eq!(hub.run(&["nodes", "release", "a"]).stdout.trim(), "a is in service");
    assert_eq!(hub.run(&["nodes", "release", "x"]).code, Some(1));
}

#[test]
fn nodes_are_listed_drained_resumed_and_removed() {
    let hub = Hub::start_with(&["--node-ttl-sec", "1"]);
    let beat =
        |node: &str| hub.control().post("/mesh/heartbeat", &json!({"node_id": node, "capabilities": ["gpu:true"]}));
    beat("a/1").ok();
    beat("b").ok();
    let list = rows(&hub.run(&["nodes", "list"]), NODES);
    assert_eq!(list[0][..9], ["a/1", "ONLINE", "GREEN", "MISSING", "UNPINNED", "NORMAL", "default", "0", "no"]);
    let first = hub.run(&["nodes", "list", "--limit", "1", "--json"]).document();
    assert_eq!(first["nodes"].as_object().unwrap().keys().collect::<Vec<_>>(), ["a/1"]);
    let rest = hub.run(&["nodes", "list", "--cursor", first["next_cursor"].as_str().unwrap(), "--json"]).document();
    assert_eq!(rest["nodes"].as_object().unwrap().keys().collect::<Vec<_>>(), ["b"]);

    hub.submit(json!({"kind": "k"}));
    let job = pull(&hub, "a/1");
    let run = hub.run(&["nodes", "drain", "a/1", "--reason", "new disk", "--deadline", "1h"]);
    assert_eq!((run.code, run.stdout.trim()), (Some(0), "a/1 is drained; 1 lease(s) are left"));
    assert_eq!(hub.run(&["nodes", "show", "a/1"]).member("drain_reason"), "new disk");
    let shown = hub.run(&["nodes", "show", "a/1", "--json"]).document();
    assert_eq!(shown["nodes"]["a/1"]["undrained_leases"], 1);
    let mut wait = begin(&hub, &["nodes", "drain", "a/1", "--wait", "--json"]);
    hub.run(&["nodes", "remove", "a/1"]).is_refused(1, "409 node_in_use");
    assert!(wait.try_wait().unwrap().is_none(), "it waits for the lease");
    hub.data().post("/mesh/submit_result", &result(&job, "a/1", &json!(1))).ok();
    assert_eq!(ended(wait).document()["nodes"]["a/1"]["leases"], 0);
    assert_eq!(rows(&hub.run(&["nodes", "list"]), NODES)[0][8], "yes");

    assert_eq!(hub.run(&["nodes", "resume", "a/1", "--json"]).document()["drained"], false);
    until("the node is not online any more", || hub.run(&["nodes", "remove", "a/1"]).code == Some(0));
    until("nor is the other", || {
        hub.run(&["nodes", "remove", "b", "--json"]).stdout == "{\"ok\":true,\"node_id\":\"b\"}\n"
    });
    let none = hub.run(&["nodes", "list"]);
    assert_eq!((none.code, none.stdout.as_str(), none.stderr.trim()), (Some(0), "", "no node is registered"));
    hub.run(&["nodes", "show", "a/1"]).is_refused(1, "404 unknown_node");
}

#[test]
fn a_drain_that_is_waited_for_can_be_left_and_goes_on() {
    let hub = Hub::start();
    hub.submit(json!({"kind": "k"}));
    pull(&hub, "n");
    let mut wait = begin(&hub, &["nodes", "drain", "n", "--wait"]);
    let mut notes = BufReader::new(wait.stderr.take().unwrap()).lines();
    assert_eq!(notes.next().unwrap().unwrap(), "n has 1 lease(s) left");
    interrupt(&wait);
    assert_eq!(ended(wait).code, Some(1));
    assert_eq!(hub.run(&["nodes", "show", "n", "--json"]).document()["nodes"]["n"]["drained"], true);
}

#[test]
fn a_drain_is_waited_for_over_a_restart_of_the_hub() {
    let mut hub = Hub::start();
    hub.submit(json!({"kind": "k"}));
    let job = pull(&hub, "n");
    let mut wait = begin(&hub, &["nodes", "drain", "n", "--wait", "--json"]);
    let mut notes = BufReader::new(wait.stderr.take().unwrap()).lines();
    assert_eq!(notes.next().unwrap().unwrap(), "n has 1 lease(s) left");
    hub.kill();
    hub.restart();
    hub.data().post("/mesh/submit_result", &result(&job, "n", &json!(1))).ok();
    assert_eq!(ended(wait).document()["nodes"]["n"]["leases"], 0);
}

#[test]
fn orphans_are_listed_shown_adopted_and_discarded() {
    let hub = Hub::start();
    let id = hub.submit(json!({"kind": "k"}));
    for job in ["job_of_old", "job_of_older", &id[..id.len() - 1]] {
        let orphan = result(&json!({"job_id": job, "lease_id": null}), "n", &json!({"of": job}));
        assert_eq!(hub.data().post("/mesh/submit_result", &orphan).ok()["status"], "orphaned");
    }
    let list = rows(&hub.run(&["orphans", "list"]), "ORPHAN JOB NODE OK RECEIVED");
    let (first, second) = (list[0][0].as_str(), list[1][0].as_str());
    assert_eq!(list[0][1..4], ["job_of_old", "n", "yes"]);
    let page = hub.run(&["orphans", "list", "--limit", "1", "--json"]).document();
    assert_eq!((page["orphans"].as_array().unwrap().len(), &page["total"]), (1, &json!(3)));
    let shown = hub.run(&["orphans", "show", first, "--json"]).document();
    assert_eq!(shown["orphan"]["result"], json!({"of": "job_of_old"}));
    assert!(hub.run(&["orphans", "show", first]).stdout.contains(r#"{"of":"job_of_old"}"#));
    hub.run(&["orphans", "adopt", first]).is_refused(1, "404 unknown_job");
    let adopted = hub.run(&["orphans", "adopt", first, "--job", &id, "--json"]).document();
    assert_eq!((&adopted["job_id"], &adopted["status"]), (&json!(id), &json!("completed")));
    let job = hub.job(&id);
    assert_eq!((&job["result"], &job["integrity"]["mode"]), (&json!({"of": "job_of_old"}), &json!("hub")));
    assert!(hub.run(&["jobs", "show", &id]).stdout.contains("(verified)"), "its checksum is of this job now");
    let run = hub.run(&["orphans", "discard", first, second]);
    assert_eq!((run.code, run.stdout.trim()), (Some(1), format!("{second} discarded").as_str()));
    assert!(run.stderr.contains(&format!("{first}: ")) && run.stderr.contains("unknown_orphan"), "{}", run.stderr);
    assert_eq!(hub.run(&["orphans", "list", "--json"]).document()["total"], 1);
    let last = hub.run(&["orphans", "list", "--json"]).document()["orphans"][0]["orphan_id"].to_string();
    let other = hub.submit(json!({"kind": "k"}));
    let run = hub.run(&["orphans", "adopt", &last, "--job", &other]);
    assert_eq!((run.code, run.stdout.trim()), (Some(0), format!("{other} completed").as_str()), "{}", run.stderr);
    let orphan = result(&json!({"job_id": "job_of_old", "lease_id": null}), "n", &json!(1));
    hub.data().post("/mesh/submit_result", &orphan).ok();
    let parked = hub.run(&["orphans", "list", "--json"]).document()["orphans"][0]["orphan_id"].to_string();
    assert_eq!(hub.run(&["orphans", "discard", &parked, "--json"]).document(), json!({"ok": true}));
    let none = hub.run(&["orphans", "list"]);
    assert_eq!((none.code, none.stdout.as_str(), none.stderr.trim()), (Some(0), "", "there are no orphans"));
}

/// Each command that calls the hub, at least once.
const COMMANDS: &[&[&str]] = &[
    &["jobs", "list"],
    &["jobs", "show", "job_1"],
    &["jobs", "explain", "job_1"],
    &["jobs", "cancel", "job_1", "job_2"],
    &["jobs", "watch", "job_1"],
    &["dlq", "list"],
    &["dlq", "show", "job_1"],
    &["dlq", "requeue", "job_1"],
    &["dlq", "requeue", "--all"],
    &["dlq", "discard", "--kind", "k", "--dry-run"],
    &["dlq", "acts", "list"],
    &["dlq", "acts", "show", "1"],
    &["dlq", "acts", "watch", "1"],
    &["dlq", "acts", "cancel", "1"],
    &["kinds", "list"],
    &["kinds", "show", "k"],
    &["kinds", "set", "k", "--burst", "1"],
    &["kinds", "pause", "k"],
    &["kinds", "resume", "k"],
    &["weights", "show"],
    &["weights", "set", "a=2"],
    &["nodes", "list"],
    &["nodes", "show", "n"],
    &["nodes", "drain", "n"],
    &["nodes", "drain", "n", "--wait"],
    &["nodes", "resume", "n"],
    &["nodes", "remove", "n"],
    &["orphans", "list"],
    &["orphans", "show", "1"],
    &["orphans", "adopt", "1"],
    &["orphans", "discard", "1", "2"],
];

#[test]
fn without_a_hub_or_with_a_wrong_token_each_command_says_so_and_ends() {
    let mut hub = Hub::start();
    for args in COMMANDS {
        let folder = hub.folder().to_str().unwrap();
        let mut command = command(&[args, &["--data-dir", folder, "--json"][..]].concat());
        let run = Run::from(command.env("SHERATAN_HUB_TOKEN", "not-this-hubs-token").output().unwrap());
        run.is_refused(1, "auth_failure");
    }
    hub.kill();
    for args in COMMANDS {
        let run = hub.run(args);
        run.is_refused(1, "start one with `sheratan-hub serve`");
        assert!(!run.stderr.contains("may have been done"), "{args:?}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{args:?}: {}", run.stderr);
    }
}

#[test]
fn an_act_whose_answer_was_lost_says_that_it_may_have_been_done_and_where_to_look() {
    let hub = Hub::start();
    let id = hub.submit(json!({"kind": "k"}));
    let proxy = Proxy::to(hub.data);
    proxy.fail("/cancel", 1, Fault::Swallow);
    let (control, data) = (hub.control.to_string(), proxy.addr.to_string());
    let mut cancel = command(&["jobs", "cancel", &id, "--control", &control, "--data", &data]);
    let run = Run::from(cancel.env("SHERATAN_HUB_TOKEN", hub.token()).output().unwrap());
    run.is_refused(1, "it may have been done all the same");
    assert!(run.stderr.contains(&format!("sheratan-hub jobs show {id}")), "{}", run.stderr);
    assert_eq!(hub.job(&id)["status"], "cancelled");
}

#[test]
fn on_a_terminal_a_table_fits_its_width_and_has_colours_unless_no_color_is_set() {
    let hub = Hub::start();
    let id = hub.submit(json!({"kind": "k", "run_at_utc": "2999-01-01T00:00:00Z"}));
    let on_terminal = |columns: u32, no_color: bool| {
        let binary = sheratan_tests::binary().display().to_string();
        let line = format!("stty cols {columns}; '{binary}' jobs list --data-dir '{}'", hub.folder().display());
        // Part of every Debian, BSD and macOS; util-linux' own takes the command like this.
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).env("TERM", "xterm").env_remove("NO_COLOR");
        if no_color {
            script.env("NO_COLOR", "1");
        }
        String::from_utf8_lossy(&script.output().unwrap().stdout).into_owned()
    };
    let coloured = on_terminal(200, false);
    assert!(coloured.contains("\u{1b}[1m") && coloured.contains("scheduled"), "{coloured:?}");
    let plain = on_terminal(200, true);
    assert!(!plain.contains('\u{1b}') && plain.contains("scheduled"), "{plain:?}");
    let narrow = on_terminal(60, true);
    let widths = narrow.lines().map(|line| line.trim_end().chars().count());
    assert!(widths.max().unwrap() <= 60 && narrow.contains(&id), "{narrow}");
}

#[test]
fn every_help_has_examples() {
    let names: BTreeSet<&[&str]> =
        COMMANDS.iter().map(|args| &args[..if args[0] == "dlq" && args[1] == "acts" { 3 } else { 2 }]).collect();
    for name in names {
        let run = sheratan_tests::run(&[name, &["--help"]].concat());
        assert_eq!(run.code, Some(0));
        assert!(run.stdout.contains("Examples:\n  sheratan-hub"), "{name:?}: {}", run.stdout);
        assert!(run.stdout.contains("Exit code 0 if"), "{name:?}: {}", run.stdout);
        assert!(run.stdout.contains("--json"), "{name:?}: {}", run.stdout);
    }
}
