//! A hub at its limits: what is refused, what is answered all the same, and how refusals are counted.

use crate::engine::{Client, Stage, request};
use crate::scene::{self, NOW, ask_at};
use serde_json::{Value, json};
use sheratan_core::limits::{PULL_KINDS_MAX, WAITER_LINES_MAX};
use sheratan_core::telemetry::Counter;
use sheratan_core::{Command, DropReason, Millis, Setting, Timestamp};
use sheratan_io::http::Limits;
use sheratan_io::service::{Plane, Service};

fn service(settings: Vec<Setting>) -> Service {
    let mut service = scene::service(scene::settings());
    service.command(NOW, Command::Set(settings)).expect("the journal works");
    service
}

fn post_at(now: Timestamp, service: &mut Service, path: &str, body: &Value) -> (u16, Value) {
    let (status, body) = ask_at(now, service, "POST", path, &body.to_string()).expect("it is not parked");
    (status, serde_json::from_str(&body).expect("replies are JSON"))
}

fn post(service: &mut Service, path: &str, body: &Value) -> (u16, Value) {
    post_at(NOW, service, path, body)
}

fn batch(service: &mut Service, entries: &[Value]) -> Vec<Value> {
    let (status, body) = post(service, "/mesh/submit_requests", &json!({ "requests": entries }));
    assert_eq!(status, 200);
    body["results"].as_array().expect("a list").clone()
}

fn codes(answers: &[Value]) -> Vec<u64> {
    answers.iter().map(|answer| answer["status_code"].as_u64().expect("each has one")).collect()
}

fn drops(service: &Service) -> u64 {
    service.hub().telemetry().total(Counter::Dropped(DropReason::QueueDepth))
}

/// The counts of the events for refusals that were added, with the path of each.
fn events(service: &mut Service) -> Vec<(u64, String)> {
    let events = service.events().drain(..).filter(|event| event.event == "BACKPRESSURE_DROP");
    let details = |event: sheratan_io::audit::Event| {
        let details: Value = serde_json::from_slice(&event.details).expect("details are JSON");
        (event.times, details["path"].as_str().unwrap_or_default().to_owned())
    };
    events.map(details).collect()
}

#[test]
fn entries_behind_one_that_found_the_queue_full_get_its_answer_with_their_own_index() {
    let mut service = service(vec![Setting::QueueDepthMax(2)]);
    let answers = batch(&mut service, &vec![json!({"kind": "k"}); 5]);
    assert_eq!(codes(&answers), [200, 200, 429, 429, 429]);
    for (index, answer) in answers.iter().enumerate().skip(2) {
        assert_eq!((&answer["error"], &answer["index"]), (&json!("backpressure"), &json!(index)));
        assert_eq!((&answer["queue_depth"], &answer["max"]), (&json!(2), &json!(2)));
        let detail = answer["detail"].as_str().expect("a text");
        assert!(detail.starts_with(&format!("requests[{index}]: the queue is full: 2 of 2 jobs wait")), "{detail}");
        assert!(answer["retry_after_ms"].as_u64().is_some_and(|ms| ms >= 1_000));
    }
    assert_eq!(drops(&service), 3);
    service.settle(NOW);
    assert_eq!(events(&mut service), [(3, "/mesh/submit_requests".into())]);
}

#[test]
fn a_known_key_is_answered_in_a_full_queue_wherever_it_stands_in_a_batch() {
    let mut service = service(vec![Setting::QueueDepthMax(2)]);
    let known = json!({"kind": "k", "idempotency_key": "known"});
    let newer = json!({"kind": "k", "params": 2, "idempotency_key": "newer", "on_duplicate": "latest_wins"});
    let older = json!({"kind": "k", "params": 1, "idempotency_key": "newer"});
    let first = batch(&mut service, &[known.clone(), older]);
    assert_eq!(codes(&first), [200, 200]);
    let fresh = json!({"kind": "k"});
    let other = json!({"kind": "k", "idempotency_key": "other"});
    let body = format!(
        r#"{{"requests":[{fresh},{fresh},{known},{other},{{"kind":"k","idempotency\u005fkey":"known"}},{newer},{fresh}]}}"#
    );
    let (_, body) = ask_at(NOW, &mut service, "POST", "/mesh/submit_requests", &body).expect("it is not parked");
    let body: Value = serde_json::from_str(&body).expect("replies are JSON");
    let answers = body["results"].as_array().expect("a list");
    assert_eq!(codes(answers), [429, 429, 200, 429, 200, 200, 429]);
    for index in [2, 4] {
        assert_eq!((&answers[index]["dedup"], &answers[index]["job_id"]), (&json!(true), &first[0]["job_id"]));
    }
    assert_eq!(answers[5]["supersedes"], first[1]["job_id"], "it adds no job");
    assert_eq!(service.hub().counts().waiting(), 2);
    // A refused submit binds no key.
    service.command(NOW, Command::Set(vec![Setting::QueueDepthMax(3)])).expect("the journal works");
    let again = batch(&mut service, &[json!({"kind": "k", "params": "of another job", "idempotency_key": "other"})]);
    assert_eq!((codes(&again), &again[0]["dedup"]), (vec![200], &json!(false)));
}

#[test]
fn refusals_of_a_tenth_of_a_second_are_one_event_and_none_is_lost() {
    let mut service = service(vec![Setting::QueueDepthMax(1)]);
    let mut now = NOW;
    let mut counted = Vec::new();
    for _ in 0..1_001 {
        post_at(now, &mut service, "/mesh/submit_request", &json!({"kind": "k"}));
        service.handle_timeout(now);
        service.settle(now);
        counted.extend(events(&mut service).into_iter().map(|(count, _)| count));
        now = now + Millis::new(1);
    }
    assert_eq!(counted[0], 1, "the first is not delayed");
    assert!(counted[1..].iter().all(|count| *count == 100), "{counted:?}");
    let due_at = service.next_timeout().expect("events are due");
    assert!(due_at <= now + Millis::new(100));
    service.handle_timeout(due_at);
    service.settle(due_at);
    counted.extend(events(&mut service).into_iter().map(|(count, _)| count));
    assert_eq!((counted.iter().sum::<u64>(), drops(&service)), (1_000, 1_000));
}

#[test]
fn what_was_refused_last_is_in_the_audit_log_of_a_hub_that_stops() {
    let mut service = service(vec![Setting::QueueDepthMax(1)]);
    for _ in 0..4 {
        post(&mut service, "/mesh/submit_request", &json!({"kind": "k"}));
        service.settle(NOW);
    }
    assert_eq!(events(&mut service).len(), 1);
    service.flush(NOW);
    assert_eq!(events(&mut service), [(2, "/mesh/submit_request".into())]);
}

#[test]
fn a_job_that_never_fits_is_too_large_and_not_told_to_wait() {
    let mut service = service(vec![Setting::QueueBytesMax(1_000), Setting::QueueDepthMax(1)]);
    assert_eq!(post(&mut service, "/mesh/submit_request", &json!({"kind": "k"})).0, 200);
    let (status, body) = post(&mut service, "/mesh/submit_request", &json!({"kind": "k", "params": "x".repeat(1_000)}));
    assert_eq!((status, &body["error"]), (413, &json!("payload_too_large")));
    assert!(body["detail"].as_str().is_some_and(|detail| detail.contains("max_queue_bytes")));
    let answers = batch(&mut service, &[json!({"kind": "k", "params": "x".repeat(1_000)}), json!({"kind": "k"})]);
    assert_eq!(codes(&answers), [413, 429]);
    assert_eq!(answers[0].get("retry_after_ms"), None);
}

#[test]
fn clients_that_are_refused_together_do_not_return_together() {
    let mut service = service(vec![Setting::QueueDepthMax(1), Setting::InflightMax(0)]);
    post(&mut service, "/mesh/submit_request", &json!({"kind": "k"}));
    let mut later = NOW + Millis::from_secs(40);
    let mut waits = std::collections::BTreeSet::new();
    let mut deferrals = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let answers = {
            let body = json!({"requests": [{"kind": "k"}]});
            post_at(later, &mut service, "/mesh/submit_requests", &body).1["results"].clone()
        };
        waits.insert(answers[0]["retry_after_ms"].as_u64().expect("each is told to wait"));
        let (_, pulled) = post_at(later, &mut service, "/mesh/pull_requests", &json!({"node_id": "n"}));
        deferrals.insert(pulled["defer_ms"].as_u64().expect("it is saturated"));
        later = later + Millis::new(1);
    }
    assert!(waits.len() >= 15 && waits.iter().all(|ms| (40_000..=61_000).contains(ms)), "{waits:?}");
    assert!(deferrals.len() >= 150 && deferrals.iter().all(|ms| (100..=10_000).contains(ms)), "{deferrals:?}");
}

fn refuse(stage: &mut Stage, client: &Client, path: &str, body: &str) -> String {
    stage.send(client, "POST", path, body);
    stage.commit();
    client.received()
}

const SUBMIT: &str = "/mesh/submit_request";
const JOB: &str = r#"{"kind":"k"}"#;
const PULL: &str = r#"{"node_id":"n","wait_ms":60000}"#;

#[test]
fn what_a_client_sent_that_has_gone_is_not_done() {
    for (is_gone, applied) in [(true, 0), (false, 3)] {
        let mut stage = Stage::new(scene::settings());
        let client = stage.connect();
        stage.put(&client, &request("POST", SUBMIT, JOB).repeat(3));
        stage.end(&client);
        if is_gone {
            stage.engine.note_gone(client.id());
        }
        stage.round();
        while stage.engine.has_ready() {
            stage.round();
        }
        stage.commit();
        // A client that closed only its own direction still reads.
        assert_eq!(client.statuses(), vec![200; applied]);
        assert_eq!(stage.engine.service().hub().counts().queued, applied as u64);
    }
}

#[test]
fn a_job_that_was_submitted_runs_whatever_becomes_of_its_client() {
    let mut stage = Stage::new(scene::settings());
    let client = stage.connect();
    stage.put(&client, &request("POST", SUBMIT, JOB));
    stage.round();
    stage.engine.note_gone(client.id());
    stage.commit();
    assert_eq!(stage.engine.service().hub().counts().queued, 1);
}

#[test]
fn the_poll_of_a_client_that_has_gone_is_unparked_at_once() {
    let mut stage = Stage::new(scene::settings());
    let (client, other) = (stage.connect(), stage.connect());
    stage.send(&client, "POST", "/mesh/pull_requests", PULL);
    assert_eq!(stage.engine.service().hub().queue().waiter_count(), 1);
    stage.engine.note_gone(client.id());
    assert_eq!(stage.engine.service().hub().queue().waiter_count(), 0);
    stage.send(&other, "POST", SUBMIT, JOB);
    stage.commit();
    assert_eq!(stage.engine.service().hub().counts().queued, 1, "nobody was given the job");
}

#[test]
fn submits_and_long_polls_hold_four_fifths_of_the_connections_and_the_rest_is_for_those_who_finish_work() {
    let mut stage = Stage::new(scene::settings());
    stage.engine.set_connections_max(5);
    let clients: Vec<_> = (0..6).map(|_| stage.connect()).collect();
    for client in &clients[..3] {
        assert!(refuse(&mut stage, client, SUBMIT, JOB).starts_with("HTTP/1.1 200"));
    }
    // It leases one of the jobs, so its connection does not wait; then it does.
    let pulled = refuse(&mut stage, &clients[3], "/mesh/pull_requests", r#"{"node_id":"n","max":3}"#);
    let body: Value = serde_json::from_str(pulled.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    let job = body["jobs"][0].clone();
    assert_eq!(refuse(&mut stage, &clients[3], "/mesh/pull_requests", PULL), "", "it is parked");
    for (client, path, body) in [(&clients[4], SUBMIT, JOB), (&clients[5], "/mesh/pull_requests", PULL)] {
        let reply = refuse(&mut stage, client, path, body);
        assert!(reply.starts_with("HTTP/1.1 503") && reply.contains(r#""error":"overloaded""#), "{path}: {reply}");
        assert!(reply.contains("Retry-After: 1") && reply.contains("Connection: close"), "{reply}");
        stage.pass(Limits::DEFAULT.linger_ms);
        assert!(stage.engine.socket(client.id()).is_none(), "it does not hold a connection that is kept");
    }
    // One that counts already may go on.
    assert!(refuse(&mut stage, &clients[0], SUBMIT, JOB).starts_with("HTTP/1.1 200"));
    let lease = json!({"node_id": "n", "leases": [job["lease_id"]]}).to_string();
    let result = json!({"job_id": job["job_id"], "node_id": "n", "lease_id": job["lease_id"], "ok": true}).to_string();
    let worker = stage.connect();
    for (path, body) in [("/mesh/extend_lease", &lease), ("/mesh/submit_result", &result)] {
        let reply = refuse(&mut stage, &worker, path, body);
        assert!(reply.starts_with("HTTP/1.1 200"), "{path}: {reply}");
    }
    let control = stage.connect_from(Plane::Control, scene::LOCAL);
    assert!(refuse(&mut stage, &control, "/mesh/heartbeat", r#"{"node_id":"n"}"#).starts_with("HTTP/1.1 200"));
    // Whoever asks for something else gives its part up.
    stage.send(&clients[1], "GET", "/livez", "");
    let late = stage.connect();
    assert!(refuse(&mut stage, &late, SUBMIT, JOB).starts_with("HTTP/1.1 200"));
    let metrics = stage.connect();
    stage.put(&metrics, "GET /metrics HTTP/1.1\r\nHost: hub\r\nAccept: text/plain\r\n\r\n");
    stage.round();
    let text = metrics.received();
    assert!(text.contains(r#"overloaded_total{what="connections_of_submits_and_polls"} 2"#), "{text}");
    let events = stage.engine.service().events().drain(..);
    let sum: u64 = events.filter(|event| event.event == "OVERLOADED").map(|event| event.times).sum();
    assert_eq!(sum, 2);
}

/// An operator who frees the hub of work must get in when those who submit have taken their share.
#[test]
fn what_operators_do_is_not_counted_with_the_submits() {
    let mut stage = Stage::new(scene::settings());
    stage.engine.set_connections_max(5);
    let clients: Vec<_> = (0..4).map(|_| stage.connect()).collect();
    let replies = clients.iter().map(|client| refuse(&mut stage, client, SUBMIT, JOB)).collect::<Vec<_>>();
    let body: Value = serde_json::from_str(replies[0].split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    let of_job = |end: &str| format!("/mesh/jobs/{}{end}", body["job_id"].as_str().expect("an id"));
    let operator = stage.connect();
    for (method, path, body) in [
        ("POST", of_job("/cancel"), ""),
        ("GET", of_job(""), ""),
        ("GET", of_job("/explain"), ""),
        ("GET", "/mesh/jobs".to_owned(), ""),
        ("PUT", "/mesh/kinds/k".to_owned(), r#"{"paused":true}"#),
        ("PUT", "/mesh/weights".to_owned(), r#"{"weights":{}}"#),
        ("POST", "/mesh/dlq/discard".to_owned(), r#"{"all":true}"#),
    ] {
        stage.send(&operator, method, &path, body);
        stage.commit();
        let reply = operator.received();
        assert!(reply.starts_with("HTTP/1.1 200"), "{method} {path}: {reply}");
    }
}

#[test]
fn a_submit_is_refused_where_the_last_fifth_of_the_bytes_begins_and_a_result_is_not() {
    let mut stage = Stage::new(scene::settings());
    let hoarder = stage.connect();
    stage.send(&hoarder, "POST", SUBMIT, &json!({"kind": "k", "params": "x".repeat(50_000)}).to_string());
    stage.commit();
    let reply = hoarder.received();
    let job: Value = serde_json::from_str(reply.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    hoarder.block(true);
    stage.send(&hoarder, "GET", &format!("/mesh/jobs/{}", job["job_id"].as_str().expect("an id")), "");
    let held = stage.engine.buffered_bytes();
    assert!(held > 50_000, "{held}");
    let client = stage.connect();
    for (max, expected) in [(held * 5 / 4 + 10_000, "200"), (held * 5 / 4 - 1_000, "503")] {
        stage.engine.set_buffered_bytes_max(max);
        let reply = refuse(&mut stage, &client, SUBMIT, JOB);
        assert_eq!(&reply[9..12], expected, "{held} of {max}: {reply}");
        let extended = refuse(&mut stage, &client, "/mesh/extend_lease", r#"{"node_id":"n","leases":["lease_x"]}"#);
        assert!(extended.starts_with("HTTP/1.1 200"), "{extended}");
    }
}

#[test]
fn who_submitted_last_is_read_after_all_others_and_never_starves() {
    let mut stage = Stage::new(scene::settings());
    let (submitter, worker) = (stage.connect(), stage.connect());
    assert!(refuse(&mut stage, &submitter, SUBMIT, JOB).starts_with("HTTP/1.1 200"));
    assert!(refuse(&mut stage, &worker, "/mesh/pull_requests", r#"{"node_id":"n"}"#).contains("lease_id"));
    stage.put(&submitter, &request("POST", SUBMIT, JOB));
    stage.put(&worker, &request("POST", "/mesh/pull_requests", r#"{"node_id":"n"}"#));
    stage.round();
    stage.commit();
    assert!(worker.received().contains(r#""jobs":[]"#), "it was read before the submit that came first");
    assert_eq!(submitter.statuses(), [200]);
    let others: Vec<_> = (0..20).map(|_| stage.connect()).collect();
    for other in &others {
        stage.put(other, &request("GET", "/livez", "").repeat(500));
    }
    for _ in 0..5 {
        stage.put(&submitter, &request("POST", SUBMIT, JOB));
        stage.round();
        stage.commit();
        assert_eq!(submitter.statuses(), [200], "it is served in each round");
    }
}

/// Each poll waits for 64 kinds of its own: so many lines of polls are the first of their limits that is reached.
#[test]
fn long_polls_wait_up_to_their_limit_and_one_more_is_told_to_come_back() {
    let mut service = scene::service(scene::settings());
    let polls = WAITER_LINES_MAX / PULL_KINDS_MAX;
    let mut poll = |n: usize| {
        let kinds: Vec<_> = (0..PULL_KINDS_MAX).map(|kind| format!("k{n}-{kind}")).collect();
        let body = json!({"node_id": format!("n{n}"), "kinds": kinds, "wait_ms": 30_000});
        ask_at(NOW, &mut service, "POST", "/mesh/pull_requests", &body.to_string())
    };
    for n in 1..=polls {
        assert_eq!(poll(n), None, "{n} of {polls} waits");
    }
    let refused = [polls + 1, polls + 2].map(|n| poll(n).expect("there is no line left"));
    let defer_ms = refused.map(|(status, body)| {
        let body: Value = serde_json::from_str(&body).expect("replies are JSON");
        assert_eq!((status, &body["jobs"]), (200, &json!([])), "{body}");
        body["defer_ms"].as_u64().expect("a number")
    });
    assert!(defer_ms.iter().all(|ms| (1_000..=1_500).contains(ms)) && defer_ms[0] != defer_ms[1], "{defer_ms:?}");
    service.settle(NOW);
    let overloaded: Vec<_> = service.events().drain(..).filter(|event| event.event == "OVERLOADED").collect();
    assert_eq!(overloaded.iter().map(|event| event.times).sum::<u64>(), 2);
    let details: Value = serde_json::from_slice(&overloaded[0].details).expect("details are JSON");
    assert_eq!(details["what"], "long_polls");
    // One that ends makes room.
    service.end_waits(1);
    assert_eq!(service.late_replies().len(), polls);
    let body = json!({"node_id": "late", "kinds": ["another"], "wait_ms": 30_000});
    assert_eq!(ask_at(NOW, &mut service, "POST", "/mesh/pull_requests", &body.to_string()), None, "it waits");
}
