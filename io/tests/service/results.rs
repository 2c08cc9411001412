//! Fetching results: a client reads the results of its jobs in the order of their ends, from where it stopped.

use crate::scene::{self, LOCAL, NOW};
use serde_json::{Value, json};
use sheratan_core::{Command, Millis, Setting, Timestamp};
use sheratan_io::http::{Connection, Limits, Reply};
use sheratan_io::service::{Answer, Caller, Origin, Plane, Service};

/// A hub whose clients submit, whose node completes, and whose time passes.
struct Scene {
    service: Service,
    now: Timestamp,
    connection: u64,
}

impl Scene {
    fn new() -> Scene {
        Scene { service: scene::service(scene::settings()), now: NOW, connection: 0 }
    }

    /// Sends a request on a connection of its own; `None` if it is parked.
    fn ask(&mut self, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        self.connection += 1;
        let mut wire = Connection::new(self.now, &Limits::default());
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: hub\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        wire.received(self.now, head.as_bytes());
        let request = wire.next_request(self.now).expect("a whole request came");
        let plane = if path.starts_with("/api") { Plane::Control } else { Plane::Data };
        let origin = Origin { connection: self.connection, request: request.id() };
        match self.service.handle(self.now, &Caller { plane, ip: LOCAL, origin }, &request) {
            Answer::Parked => None,
            Answer::Reply(reply) | Answer::Now(reply) => Some(read(&reply)),
            Answer::Stream(_) | Answer::Page(_) => unreachable!("nobody asked for a log"),
        }
    }

    fn ok(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, body).expect("it is answered at once");
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    fn submit(&mut self, client: &str) -> String {
        let body = json!({"kind": "k", "max_attempts": 1, "client": {"node_id": client}});
        text(&self.ok("POST", "/mesh/submit_request", &body)["job_id"])
    }

    /// Ends the job that waits longest.
    fn end_next(&mut self, ok: bool) {
        let job = self.ok("POST", "/mesh/pull_requests", &json!({"node_id": "worker"}))["jobs"][0].clone();
        let result = json!({
            "job_id": job["job_id"], "lease_id": job["lease_id"], "ok": ok,
            "result": {"of": job["job_id"]}, "error": if ok { Value::Null } else { "broken".into() },
        });
        self.ok("POST", "/mesh/submit_result", &result);
    }

    fn end_one_of(&mut self, client: &str) -> String {
        let job = self.submit(client);
        self.end_next(true);
        job
    }

    fn fetch(&mut self, client: &str, query: &str) -> Value {
        self.service.settle(self.now);
        self.ok("GET", &format!("/mesh/results/{client}?{query}"), &Value::Null)
    }

    /// Whether a fetch with these parameters is parked.
    fn is_parked(&mut self, client: &str, query: &str) -> bool {
        self.ask("GET", &format!("/mesh/results/{client}?{query}"), &Value::Null).is_none()
    }

    /// The answers to parked requests since the last call, with their connections.
    fn late(&mut self) -> Vec<(u64, u16, Value)> {
        self.service.settle(self.now);
        let late = self.service.late_replies().drain(..);
        late.map(|late| {
            let (status, answer) = read(&late.reply);
            (late.origin.connection, status, answer)
        })
        .collect()
    }

    /// What the registry and the metrics show of results that were not fetched.
    fn unread(&mut self, node: &str) -> (Value, Value) {
        self.ok("POST", "/api/hosts/heartbeat", &json!({"node_id": node}));
        let registry = self.ok("GET", "/api/registry", &Value::Null);
        let metrics = self.ok("GET", "/metrics", &Value::Null);
        (registry["nodes"][node]["queue"]["outbound_results"].clone(), metrics["queue"]["results_pending"].clone())
    }
}

fn read(reply: &Reply) -> (u16, Value) {
    (reply.status(), serde_json::from_slice(reply.body()).expect("replies are JSON"))
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn ids(answer: &Value) -> Vec<String> {
    answer["results"].as_array().expect("a list").iter().map(|result| text(&result["job_id"])).collect()
}

#[test]
fn a_client_reads_the_results_of_its_own_jobs_in_the_order_of_their_ends() {
    let mut scene = Scene::new();
    let [first, _, third] = ["a", "b", "a"].map(|client| scene.submit(client));
    scene.ok("POST", "/mesh/submit_request", &json!({"kind": "k"}));
    let waits = scene.submit("a");
    [true, true, false, true].into_iter().for_each(|ok| scene.end_next(ok));
    let answer = scene.fetch("a", "");
    assert_eq!(ids(&answer), [first.clone(), third]);
    let [success, failure] = [&answer["results"][0], &answer["results"][1]];
    assert_eq!((&success["ok"], &success["status"]), (&json!(true), &json!("completed")));
    assert_eq!((&success["result"], &success["error"]), (&json!({"of": first}), &Value::Null));
    assert_eq!(
        (&failure["ok"], &failure["status"], &failure["error"]),
        (&json!(false), &json!("dead"), &json!("broken"))
    );
    assert!(success["final_utc"].is_string() && success["request_id"].is_string() && success["kind"] == "k");
    assert_eq!((&answer["has_more"], &answer["dropped"]), (&json!(false), &json!(false)));

    scene.end_next(true);
    let after = text(&answer["cursor"]);
    assert_eq!(ids(&scene.fetch("a", &format!("after={after}"))), [waits]);
    assert!(ids(&scene.fetch("nobody", "")).is_empty());
}

#[test]
fn cursors_lead_through_all_results_once_whatever_the_limit_and_whoever_else_ends() {
    let mut scene = Scene::new();
    let all: Vec<_> = (0..7).map(|n| (n % 3 == 0, scene.end_one_of(if n % 3 == 0 { "b" } else { "a" }))).collect();
    let of_a: Vec<_> = all.into_iter().filter(|(is_other, _)| !is_other).map(|(_, job)| job).collect();
    for limit in 1..=5 {
        let (mut read, mut query, mut steps) = (Vec::new(), format!("limit={limit}"), 0);
        loop {
            let answer = scene.fetch("a", &query);
            steps += 1;
            read.extend(ids(&answer));
            query = format!("limit={limit}&after={}", text(&answer["cursor"]));
            if answer["has_more"] == false {
                break;
            }
        }
        assert_eq!((read, steps), (of_a.clone(), 4_usize.div_ceil(limit)), "limit {limit}");
        assert!(ids(&scene.fetch("a", &query)).is_empty());
    }
}

#[test]
fn a_fetch_waits_for_an_end_of_its_own_clients_jobs_only() {
    let mut scene = Scene::new();
    scene.end_one_of("a");
    let after = text(&scene.fetch("a", "")["cursor"]);
    assert!(!scene.is_parked("a", "wait_ms=1000"), "there is one that it has not read");
    let query = format!("after={after}&wait_ms=1000");
    assert!(scene.is_parked("a", &query) && scene.is_parked("b", "wait_ms=1000"));
    let of_a = scene.connection - 1;
    scene.end_one_of("c");
    assert!(scene.late().is_empty());
    let job = scene.end_one_of("a");
    let late = scene.late();
    assert_eq!((late.len(), late[0].0, ids(&late[0].2)), (1, of_a, vec![job]));

    scene.now = scene.now + Millis::new(1_000);
    scene.service.handle_timeout(scene.now);
    let late = scene.late();
    assert_eq!((late.len(), late[0].1, ids(&late[0].2)), (1, 200, vec![]), "b's wait is over");
    assert!(late[0].2["cursor"].is_string());
}

#[test]
fn a_waiting_client_gets_the_result_of_a_job_that_is_dropped_as_it_ends() {
    let mut scene = Scene::new();
    scene.service.command(NOW, Command::Set(vec![Setting::RetainedJobsMax(0)])).unwrap();
    assert!(scene.is_parked("a", "wait_ms=1000"));
    let job = scene.end_one_of("a");
    let late = scene.late();
    assert_eq!((late.len(), ids(&late[0].2), &late[0].2["dropped"]), (1, vec![job], &json!(false)));
    assert_eq!(scene.fetch("a", "")["dropped"], true);
}

#[test]
fn results_that_were_dropped_before_they_were_read_are_reported_and_no_others() {
    let mut scene = Scene::new();
    scene.service.command(NOW, Command::Set(vec![Setting::RetainedJobsMax(2)])).unwrap();
    scene.end_one_of("a");
    let read_first = scene.fetch("a", "");
    assert_eq!(read_first["dropped"], false);
    let read_first = text(&read_first["cursor"]);
    let second = scene.end_one_of("a");
    let third = scene.end_one_of("b");
    let answer = scene.fetch("a", &format!("after={read_first}"));
    assert_eq!((ids(&answer), &answer["dropped"]), (vec![second], &json!(false)), "only what it had read is gone");
    let read_second = text(&answer["cursor"]);
    assert_eq!(scene.fetch("a", "")["dropped"], true);
    scene.end_one_of("c");
    assert_eq!(scene.fetch("a", &format!("after={read_first}"))["dropped"], true);
    assert_eq!(scene.fetch("a", &format!("after={read_second}"))["dropped"], false);
    let of_b = scene.fetch("b", "");
    assert_eq!((ids(&of_b), &of_b["dropped"]), (vec![third], &json!(false)), "nothing of b's was dropped");
}

#[test]
fn what_a_client_has_not_read_is_in_the_registry_and_in_the_metrics() {
    let mut scene = Scene::new();
    assert_eq!(scene.unread("a"), (json!(0), json!(0)));
    for client in ["a", "a", "b", "a"] {
        scene.end_one_of(client);
    }
    assert_eq!(scene.unread("a"), (json!(3), json!(4)));
    let answer = scene.fetch("a", "limit=2");
    assert_eq!(scene.unread("a"), (json!(3), json!(4)), "an answer may be lost: it has read it when it asks on");
    let last = text(&scene.fetch("a", &format!("after={}", text(&answer["cursor"])))["cursor"]);
    assert_eq!(scene.unread("a"), (json!(1), json!(2)));
    scene.fetch("a", "");
    assert_eq!(scene.unread("a"), (json!(1), json!(2)), "who reads again from the start has read it all the same");
    scene.fetch("a", &format!("after={last}"));
    assert_eq!((scene.unread("a"), scene.unread("b")), ((json!(0), json!(1)), (json!(1), json!(1))));
}

#[test]
fn an_answer_ends_after_a_mebibyte_and_has_at_least_one_result() {
    let mut scene = Scene::new();
    for _ in 0..4 {
        scene.submit("a");
        let job = scene.ok("POST", "/mesh/pull_requests", &json!({"node_id": "worker"}))["jobs"][0].clone();
        let result = json!({"job_id": job["job_id"], "ok": true, "result": "x".repeat(600 << 10)});
        scene.ok("POST", "/mesh/submit_result", &result);
    }
    let first = scene.fetch("a", "");
    let second = scene.fetch("a", &format!("after={}", text(&first["cursor"])));
    assert_eq!((ids(&first).len(), &first["has_more"]), (2, &json!(true)));
    assert_eq!((ids(&second).len(), &second["has_more"]), (2, &json!(false)));
}

#[test]
fn a_cursor_that_this_hub_did_not_give_is_refused() {
    let mut scene = Scene::new();
    scene.end_one_of("a");
    let cursor = text(&scene.fetch("a", "")["cursor"]);
    let other = cursor.replace("results_000000000001", "results_000000000000");
    assert_ne!(other, cursor);
    let mut ahead = Scene::new();
    (0..2).for_each(|_| _ = ahead.end_one_of("a"));
    let ahead = text(&ahead.fetch("a", "")["cursor"]);
    for after in ["", "1", "results_", &other, &ahead, &cursor[1..], &format!("{cursor}0")] {
        let (status, answer) = scene.ask("GET", &format!("/mesh/results/a?after={after}"), &Value::Null).unwrap();
        let detail = text(&answer["detail"]);
        assert!(status == 400 && detail.contains("begin again without it"), "{after}: {answer}");
    }
    for (query, detail) in [
        ("limit=0", "limit must be a whole number from 1 to 1000"),
        ("limit=1001", "limit must be a whole number from 1 to 1000"),
        ("wait_ms=60001", "wait_ms must be a whole number from 0 to 60000"),
        ("waitMs=1", "wait_ms is misspelled"),
        ("limit=1&limit=1", "limit is given more than once"),
    ] {
        let (status, answer) = scene.ask("GET", &format!("/mesh/results/a?{query}"), &Value::Null).unwrap();
        assert!(status == 400 && text(&answer["detail"]).contains(detail), "{query}: {answer}");
    }
    let (status, answer) = scene.ask("POST", "/mesh/results/a", &json!({})).unwrap();
    assert_eq!((status, &answer["error"]), (405, &json!("method_not_allowed")));
}

#[test]
fn results_that_are_not_durable_are_not_shown_while_the_journal_fails() {
    let mut scene = Scene::new();
    let first = scene.end_one_of("a");
    scene.service.set_durable(scene.service.last_seq());
    let after = text(&scene.fetch("a", "")["cursor"]);
    assert!(scene.is_parked("a", &format!("after={after}&wait_ms=50000")));
    let second = scene.end_one_of("a");
    scene.service.journal_failed("the disk is full".into());
    assert!(scene.late().is_empty(), "the end of the second job is not durable");
    assert!(scene.is_parked("a", ""), "neither is it for a fetch that comes now");
    let last = scene.service.last_seq();
    scene.service.set_durable(last);
    scene.service.journal_recovered(scene.now);
    let mut late = scene.late();
    late.sort_by_key(|(connection, ..)| *connection);
    let read: Vec<_> = late.iter().map(|(_, status, answer)| (*status, ids(answer))).collect();
    assert_eq!(read, [(200, vec![second.clone()]), (200, vec![first, second])]);
}
