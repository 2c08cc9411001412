//! Dead letters from the command line: listed, shown, requeued and discarded, one by one or many at a rate.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::failure;
use sheratan_tests::{Hub, Run, command, until};
use std::process::{Child, Stdio};

/// Dead letters of a kind, each with this error; their jobs.
fn letters(hub: &Hub, kind: &str, error: &Value, count: usize) -> Vec<String> {
    let requests: Vec<_> = (0..count).map(|n| json!({"kind": kind, "params": n, "max_attempts": 1})).collect();
    hub.data().post("/mesh/submit_requests", &json!({"requests": requests})).ok();
    let pulled = hub.data().post("/mesh/pull_requests", &json!({"node_id": "n", "kinds": [kind], "max": count})).ok();
    let jobs = pulled["jobs"].as_array().unwrap();
    let results: Vec<_> = jobs.iter().map(|job| failure(job, "n", error)).collect();
    let answers = hub.data().post("/mesh/submit_results", &json!({"results": results})).ok();
    assert!(answers["results"].as_array().unwrap().iter().all(|answer| answer["status"] == "dead"), "{answers}");
    jobs.iter().map(|job| job["job_id"].as_str().unwrap().to_owned()).collect()
}

fn status(hub: &Hub, id: &str) -> Value {
    hub.job(id)["status"].clone()
}

fn begin(hub: &Hub, args: &[&str]) -> Child {
    let folder = hub.folder().to_str().unwrap();
    let mut command = command(&[args, &["--data-dir", folder]].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The acts on many letters.
fn acts(hub: &Hub) -> Vec<Value> {
    hub.data().get("/mesh/dlq/acts").ok()["acts"].as_array().unwrap().clone()
}

/// How often the hub was asked for one act.
fn acts_asked(hub: &Hub) -> u64 {
    let metrics = hub.data().ask("GET", "/metrics", &[("Accept", "text/plain")]).body;
    let metrics = String::from_utf8(metrics).unwrap();
    let line = metrics.lines().find(|line| line.contains("route=\"dlq_act\""));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn dead_letters_are_listed_by_each_filter_and_shown_with_their_errors() {
    let hub = Hub::start();
    let old = letters(&hub, "old", &json!("no disk"), 3);
    let new = letters(&hub, "a/b", &json!({"code": "E\u{202e}1"}), 2);
    let run = hub.run(&["dlq", "list"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let mut lines = run.stdout.lines();
    assert!(lines.next().unwrap().starts_with("JOB"), "{}", run.stdout);
    let listed: Vec<_> = lines.map(|line| line.split_whitespace().take(3).collect::<Vec<_>>()).collect();
    let expected = old.iter().map(|id| [id, "old", "attempts"]).chain(new.iter().map(|id| [id, "a/b", "attempts"]));
    assert_eq!(listed, expected.collect::<Vec<_>>());

    let list = |args: &[&str]| hub.run(&[&["dlq", "list", "--json"], args].concat()).document();
    let ids = |page: &Value| -> Vec<String> {
        page["letters"].as_array().unwrap().iter().map(|letter| letter["job_id"].as_str().unwrap().into()).collect()
    };
    for (filter, expected) in [
        (&["--kind", "a/b"][..], &new[..]),
        (&["--error", "no disk"], &old),
        (&["--reason", "lost"], &[]),
        (&["--reason", "attempts", "--since", "1h", "--kind", "old"], &old),
        (&["--until", "1h"], &[]),
    ] {
        assert_eq!(ids(&list(filter)), expected, "{filter:?}");
    }
    let first = list(&["--limit", "2"]);
    assert_eq!((ids(&first), &first["total"]), (old[..2].to_vec(), &json!(5)));
    let rest = list(&["--cursor", first["next_cursor"].as_str().unwrap()]);
    assert_eq!(ids(&rest), [&old[2..], &new].concat());

    let shown = hub.run(&["dlq", "show", &new[0]]);
    assert_eq!((shown.member("error"), shown.member("reason")), (r#"{"code":"E\u{202e}1"}"#, "attempts"));
    assert_eq!(hub.run(&["dlq", "show", &new[0], "--json"]).document()["job"]["error"], json!({"code": "E\u{202e}1"}));
    let living = hub.submit(json!({"kind": "k"}));
    hub.run(&["dlq", "show", &living]).is_refused(1, "404 unknown_job");
    hub.run(&["dlq", "list", "--error", " "]).is_refused(2, "--error");
}

#[test]
fn letters_are_requeued_and_discarded_by_their_names() {
    let hub = Hub::start();
    let ids = letters(&hub, "k", &json!("no"), 4);
    let run = hub.run(&["dlq", "requeue", &ids[0], "--dry-run"]);
    assert_eq!((run.code, run.stdout.trim()), (Some(0), format!("{} would be requeued", ids[0]).as_str()));
    assert_eq!(status(&hub, &ids[0]), "dead", "a dry run does nothing");
    let run = hub.run(&["dlq", "requeue", &ids[0], "job_none", &ids[1]]);
    assert_eq!((run.code, run.stdout.lines().count()), (Some(1), 2), "{}", run.stdout);
    assert!(run.stderr.contains("job_none: the hub refused with 404 unknown_job"), "{}", run.stderr);
    assert_eq!([0, 1].map(|index| status(&hub, &ids[index])), ["queued", "queued"]);
    hub.run(&["dlq", "requeue", &ids[0]]).is_refused(1, "409 not_dead");
    let answer = hub.run(&["dlq", "discard", &ids[2], "--json"]).document();
    assert_eq!((&answer["job_id"], &answer["status"]), (&json!(ids[2]), &json!("failed")));
    let left = hub.run(&["dlq", "list", "--json"]).document();
    assert_eq!((&left["total"], &left["letters"][0]["job_id"]), (&json!(1), &json!(ids[3])));
}

#[test]
fn many_letters_are_acted_on_only_if_it_is_said_which() {
    let hub = Hub::start();
    letters(&hub, "k", &json!("no"), 3);
    for verb in ["requeue", "discard"] {
        hub.run(&["dlq", verb]).is_refused(2, "--all --dry-run");
        hub.run(&["dlq", verb, "--rate", "1"]).is_refused(2, "nothing says which letters");
        hub.run(&["dlq", verb, "--all", "--kind", "k"]).is_refused(2, "cannot be used with");
        hub.run(&["dlq", verb, "job_1", "--all"]).is_refused(2, "cannot be used with");
        hub.run(&["dlq", verb, "job_1", "--kind", "k"]).is_refused(2, "cannot be used with");
        hub.run(&["dlq", verb, "--kind", ""]).is_refused(2, "--kind");
        hub.run(&["dlq", verb, "--all", "--max-count", "2"]).is_refused(1, "409 too_many_matches");
        let run = hub.run(&["dlq", verb, "--all", "--dry-run"]);
        assert_eq!((run.code, run.stdout.starts_with("3 dead letter(s) would be")), (Some(0), true), "{}", run.stdout);
        let run = hub.run(&["dlq", verb, "--all", "--dry-run", "--max-count", "2"]);
        assert_eq!((run.code, run.stdout.contains("more than --max-count")), (Some(1), true), "{}", run.stdout);
        let counted = hub.run(&["dlq", verb, "--kind", "other", "--dry-run", "--json"]).document();
        assert_eq!((&counted["dry_run"], &counted["matched"]), (&json!(true), &json!(0)));
    }
    assert!(acts(&hub).is_empty());
    assert_eq!(hub.run(&["dlq", "list", "--json"]).document()["total"], 3);
}

#[test]
fn an_act_on_many_is_waited_for_and_its_end_is_shown() {
    let hub = Hub::start();
    let good = letters(&hub, "good", &json!("timeout after 3 s"), 5);
    let bad = letters(&hub, "bad", &json!("no"), 5);
    let run = hub.run(&["dlq", "requeue", "--error", "timeout", "--rate", "100"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let shown = ["status", "matched", "done", "rate_per_sec"].map(|name| run.member(name));
    assert_eq!(shown, ["done", "5", "5", "100"]);
    assert!(good.iter().all(|id| status(&hub, id) == "queued") && bad.iter().all(|id| status(&hub, id) == "dead"));
    let answer = hub.run(&["dlq", "discard", "--all", "--max-count", "5", "--json"]).document();
    assert_eq!((&answer["act"]["status"], &answer["act"]["done"]), (&json!("done"), &json!(5)));
    assert_eq!(hub.run(&["dlq", "list", "--json"]).document()["total"], 0);
    let listed = hub.run(&["dlq", "acts", "list", "--json"]).document();
    assert_eq!(listed["acts"].as_array().unwrap().len(), 2);
    let table = hub.run(&["dlq", "acts", "list"]).stdout;
    assert!(table.starts_with("ACT  WHAT") && table.contains("error=\"timeout\""), "{table}");
    assert_eq!(table.lines().count(), 3);
    let act = listed["acts"][0]["act_id"].to_string();
    assert_eq!(hub.run(&["dlq", "acts", "show", &act, "--json"]).document()["act"], listed["acts"][0]);
    for command in ["show", "watch"] {
        assert_eq!(hub.run(&["dlq", "acts", command, &act]).member("status"), "done");
    }
    hub.run(&["dlq", "acts", "show", "77"]).is_refused(1, "404 unknown_act");
    hub.run(&["dlq", "acts", "show", "first"]).is_refused(2, "first");
}

#[test]
fn a_letter_whose_key_belongs_to_another_job_is_skipped_and_the_exit_code_says_so() {
    let hub = Hub::start();
    hub.submit(json!({"kind": "k", "max_attempts": 1, "idempotency_key": "a"}));
    let job = hub.data().post("/mesh/pull_requests", &json!({"node_id": "n"})).ok()["jobs"][0].clone();
    hub.data().post("/mesh/submit_result", &failure(&job, "n", &json!("no"))).ok();
    hub.submit(json!({"kind": "k", "max_attempts": 1, "idempotency_key": "a", "on_failed": "new_job"}));
    let id = job["job_id"].as_str().unwrap();
    hub.run(&["dlq", "requeue", id]).is_refused(1, "409 idempotency_key_collision");
    let run = hub.run(&["dlq", "requeue", "--kind", "k"]);
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    assert_eq!(run.member("skipped"), "1");
    assert!(run.stderr.contains("1 letter(s) were skipped and stay"), "{}", run.stderr);
    assert_eq!(status(&hub, id), "dead");
}

#[test]
fn an_act_goes_on_when_its_command_is_interrupted_and_over_a_restart_until_it_is_cancelled() {
    let mut hub = Hub::start();
    letters(&hub, "k", &json!("no"), 100);
    let command = begin(&hub, &["dlq", "requeue", "--kind", "k", "--rate", "1"]);
    until("the act runs", || acts(&hub).iter().any(|act| act["status"] == "running"));
    let id = acts(&hub)[0]["act_id"].to_string();
    let pid = rustix::process::Pid::from_raw(command.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let run = Run::from(command.wait_with_output().unwrap());
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("`sheratan-hub dlq acts cancel {id}` ends it")), "{}", run.stderr);
    assert_eq!(run.member("status"), "running");

    let asked = acts_asked(&hub);
    let watch = begin(&hub, &["dlq", "acts", "watch", &id, "--json"]);
    until("the command has seen the act", || acts_asked(&hub) > asked);
    hub.kill();
    hub.restart();
    until("it goes on", || acts(&hub)[0]["done"].as_u64() >= Some(1));
    let answer = hub.run(&["dlq", "acts", "cancel", &id, "--json"]).document();
    assert_eq!(answer["act"]["status"], "cancelled");
    let run = Run::from(watch.wait_with_output().unwrap());
    assert_eq!(run.code, Some(1), "it was not done to the end: {}", run.stderr);
    let last: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(last["act"]["status"], "cancelled");
    hub.run(&["dlq", "acts", "cancel", &id]).is_refused(1, "409 already_final");

    let run = hub.run(&["dlq", "discard", "--kind", "k", "--rate", "1", "--no-wait"]);
    assert_eq!((run.code, run.stdout.contains("running")), (Some(0), true), "{}{}", run.stdout, run.stderr);
}
