//! Troubles: what is bad only if it lasts has an event when it has lasted, and an alert.

use crate::scene::{self, NOW, ask_at};
use serde_json::{Value, json};
use sheratan_core::{Command, Millis, RulesVersion, Setting, Timestamp};
use sheratan_io::service::Service;

fn service(settings: Vec<Setting>) -> Service {
    let mut service = scene::service(scene::settings());
    service.set_alerts(NOW, sheratan_io::alerts::rules::built_in());
    service.command(NOW, Command::AdoptRules(RulesVersion::NEWEST)).expect("the journal works");
    service.command(NOW, Command::Set(settings)).expect("the journal works");
    service.settle(NOW);
    service
}

fn at(secs: u64) -> Timestamp {
    NOW + Millis::from_secs(secs)
}

fn post(service: &mut Service, now: Timestamp, path: &str, body: &Value) -> Value {
    let (_, body) = ask_at(now, service, "POST", path, &body.to_string()).expect("it is not parked");
    service.settle(now);
    serde_json::from_str(&body).expect("replies are JSON")
}

/// Submits a job, and has a node lease it.
fn leased(service: &mut Service, now: Timestamp, kind: &str) -> Value {
    post(service, now, "/mesh/submit_request", &json!({"kind": kind}));
    post(service, now, "/mesh/pull_requests", &json!({"node_id": "n", "kinds": [kind]}))["jobs"][0].clone()
}

fn end(service: &mut Service, now: Timestamp, job: &Value, is_done: bool) {
    let body = json!({"job_id": job["job_id"], "lease_id": job["lease_id"], "node_id": "n", "ok": is_done,
        "error": if is_done { Value::Null } else { json!("broken") }, "retryable": false});
    post(service, now, "/mesh/submit_result", &body);
}

/// Lets the service do what is due until then.
fn go_on(service: &mut Service, until: Timestamp) {
    while let Some(due) = service.next_timeout().filter(|due| *due <= until) {
        service.handle_timeout(due);
        service.settle(due);
    }
}

/// The details of the events of that name since the last call, each with its second.
fn events(service: &mut Service, name: &str) -> Vec<(u64, Value)> {
    let events = service.events().drain(..).filter(|event| event.event == name);
    let seconds = |event: &sheratan_io::audit::Event| event.ts.since(NOW).get() / 1_000;
    events.map(|event| (seconds(&event), serde_json::from_slice(&event.details).expect("details are JSON"))).collect()
}

fn alerts(service: &mut Service) -> Vec<String> {
    let lines = service.alert_lines().drain(..).collect::<Vec<_>>();
    let changes = lines.into_iter().filter_map(|line| line.change);
    changes.map(|change| format!("{} {}", change.alert.rule, change.state.as_str())).collect()
}

#[test]
fn a_hub_on_which_nothing_waits_and_nothing_fails_is_not_looked_at() {
    let mut service = service(Vec::new());
    assert_eq!(service.next_timeout(), None);
    let job = leased(&mut service, NOW, "k");
    end(&mut service, NOW, &job, true);
    go_on(&mut service, at(11));
    let next = service.next_timeout().expect("the job's retention and the node's liveness");
    assert!(next > at(60), "{next:?}");
}

#[test]
fn no_progress_is_reported_after_ten_minutes_and_every_ten_while_it_lasts() {
    let mut service = service(vec![Setting::LeaseDuration(Millis::from_secs(86_400))]);
    let job = leased(&mut service, NOW, "k");
    post(&mut service, NOW, "/mesh/submit_request", &json!({"kind": "k"}));
    go_on(&mut service, at(599));
    assert_eq!(events(&mut service, "NO_PROGRESS"), []);
    go_on(&mut service, at(1_300));
    let reported = events(&mut service, "NO_PROGRESS");
    let seconds: Vec<_> = reported.iter().map(|(second, _)| *second).collect();
    assert!(matches!(seconds[..], [600..=620, 1_200..=1_230]), "{seconds:?}");
    assert_eq!([&reported[0].1["ready"], &reported[0].1["leased"]], [1, 1]);
    assert_eq!(alerts(&mut service), ["no_progress opened"]);
    // A lease is progress.
    end(&mut service, at(1_300), &job, true);
    post(&mut service, at(1_300), "/mesh/pull_requests", &json!({"node_id": "n"}));
    post(&mut service, at(1_300), "/mesh/submit_request", &json!({"kind": "k"}));
    go_on(&mut service, at(1_890));
    assert_eq!(events(&mut service, "NO_PROGRESS"), []);
}

#[test]
fn jobs_of_a_paused_kind_are_no_missing_progress() {
    let mut service = service(Vec::new());
    let body = json!({"paused": true}).to_string();
    ask_at(NOW, &mut service, "PUT", "/mesh/kinds/k", &body).expect("it is not parked");
    post(&mut service, NOW, "/mesh/submit_request", &json!({"kind": "k"}));
    go_on(&mut service, at(3_000));
    assert_eq!(events(&mut service, "NO_PROGRESS"), []);
}

#[test]
fn backpressure_is_reported_when_it_has_lasted_two_minutes() {
    let mut service = service(vec![Setting::QueueDepthMax(1)]);
    post(&mut service, NOW, "/mesh/submit_request", &json!({"kind": "k"}));
    go_on(&mut service, at(119));
    assert_eq!(events(&mut service, "BACKPRESSURE_LASTS"), []);
    go_on(&mut service, at(140));
    let reported = events(&mut service, "BACKPRESSURE_LASTS");
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert_eq!([&reported[0].1["queue_depth"], &reported[0].1["max"]], [1, 1]);
    assert_eq!(alerts(&mut service), ["backpressure_lasts opened"]);
    // It ends, and begins anew.
    let job = post(&mut service, at(140), "/mesh/pull_requests", &json!({"node_id": "n"}))["jobs"][0].clone();
    end(&mut service, at(140), &job, true);
    go_on(&mut service, at(260));
    post(&mut service, at(260), "/mesh/submit_request", &json!({"kind": "k"}));
    go_on(&mut service, at(379));
    assert_eq!(events(&mut service, "BACKPRESSURE_LASTS"), []);
    go_on(&mut service, at(400));
    assert_eq!(events(&mut service, "BACKPRESSURE_LASTS").len(), 1);
}

#[test]
fn a_kind_that_only_fails_is_named_and_one_that_completes_at_times_is_not() {
    let mut service = service(Vec::new());
    let run = |service: &mut Service, second: u64, kind: &str, is_done: bool| {
        go_on(service, at(second));
        let job = leased(service, at(second), kind);
        end(service, at(second), &job, is_done);
    };
    for n in 0..4 {
        run(&mut service, n * 11, "bad", false);
        run(&mut service, n * 11, "mixed", n % 2 == 0);
    }
    go_on(&mut service, at(60));
    assert_eq!(events(&mut service, "KIND_ONLY_FAILS"), []);
    run(&mut service, 60, "bad", false);
    run(&mut service, 60, "mixed", false);
    run(&mut service, 60, "mixed", false);
    go_on(&mut service, at(80));
    let reported = events(&mut service, "KIND_ONLY_FAILS");
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert_eq!([&reported[0].1["kind"], &reported[0].1["failures"]], [&json!("bad"), &json!(5)]);
    assert_eq!(alerts(&mut service), ["kind_only_fails opened"]);
    // Its failures are forgotten ten minutes after the last one, or when it completes a job.
    run(&mut service, 90, "bad", true);
    for n in 0..4 {
        run(&mut service, 100 + n * 11, "bad", false);
    }
    go_on(&mut service, at(800));
    run(&mut service, 800, "bad", false);
    go_on(&mut service, at(900));
    assert_eq!(events(&mut service, "KIND_ONLY_FAILS"), []);
}

#[test]
fn dead_letters_are_reported_at_four_fifths_of_their_limit_and_when_they_grow() {
    let mut service = service(vec![Setting::DeadJobsMax(50)]);
    let die = |service: &mut Service, second: u64, count: u64| {
        for _ in 0..count {
            let job = leased(service, at(second), "k");
            end(service, at(second), &job, false);
        }
        go_on(service, at(second + 15));
    };
    die(&mut service, 0, 20);
    assert_eq!(alerts(&mut service), ["kind_only_fails opened"]);
    die(&mut service, 20, 1);
    assert_eq!(alerts(&mut service), ["dead_letters_growing opened"]);
    die(&mut service, 40, 18);
    assert_eq!(events(&mut service, "DLQ_NEARLY_FULL"), [], "39 of 50");
    die(&mut service, 60, 1);
    let reported = events(&mut service, "DLQ_NEARLY_FULL");
    assert_eq!([&reported[0].1["letters"], &reported[0].1["letters_max"]], [40, 50]);
    assert_eq!(alerts(&mut service), ["dead_letters_nearly_full opened"]);
}
