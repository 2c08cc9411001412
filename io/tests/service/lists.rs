//! Lists of jobs: each filter, alone and with others, over pages.

use crate::scene::{self, LOCAL, NOW};
use serde_json::{Value, json};
use sheratan_core::{Command, Millis, Name, Submit, Timestamp, Zone};
use sheratan_io::http::{Connection, Limits};
use sheratan_io::service::{Answer, Caller, Origin, Plane, Service};

fn ask(service: &mut Service, now: Timestamp, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut wire = Connection::new(now, &Limits::default());
    let head = format!("{method} {path} HTTP/1.1\r\nHost: hub\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    wire.received(now, head.as_bytes());
    let request = wire.next_request(now).expect("a whole request came");
    let caller = Caller { plane: Plane::Data, ip: LOCAL, origin: Origin { connection: 1, request: request.id() } };
    match service.handle(now, &caller, &request) {
        Answer::Reply(reply) | Answer::Now(reply) => {
            (reply.status(), serde_json::from_slice(reply.body()).expect("replies are JSON"))
        }
        Answer::Parked | Answer::Stream(_) | Answer::Page(_) => unreachable!("it is answered at once"),
    }
}

fn ok(service: &mut Service, now: Timestamp, method: &str, path: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (status, answer) = ask(service, now, method, path, &body);
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

fn list(service: &mut Service, query: &str) -> Value {
    ok(service, NOW + Millis::from_secs(100), "GET", &format!("/mesh/jobs?{query}"), &Value::Null)
}

/// The params of the jobs on a page: their numbers.
fn numbers(service: &mut Service, ids: &[String], query: &str) -> Vec<usize> {
    let page = list(service, query);
    let jobs = page["jobs"].as_array().expect("a list").iter();
    jobs.map(|job| ids.iter().position(|id| *id == job["job_id"]).expect("it was submitted")).collect()
}

fn refusal(service: &mut Service, query: &str) -> String {
    let (status, answer) = ask(service, NOW, "GET", &format!("/mesh/jobs?{query}"), "");
    assert_eq!(status, 400, "{query}: {answer}");
    answer["detail"].as_str().expect("it has one").to_owned()
}

/// Job 0 completed at `w1`; 1 dead at `w2`, of another kind; 2 leased at `w1`; 3 waits in another zone; 4 is scheduled. A
/// second lies between their submits.
fn some() -> (Service, Vec<String>) {
    let mut service = scene::service(scene::settings());
    let jobs = [
        json!({"kind": "a", "idempotency_key": "first"}),
        json!({"kind": "b", "max_attempts": 1}),
        json!({"kind": "a"}),
        json!({"kind": "a", "zone": "far", "idempotency_key": " far one "}),
        json!({"kind": "a", "delay_ms": 500_000}),
    ];
    let mut ids = Vec::new();
    for (n, job) in jobs.iter().enumerate() {
        let now = NOW + Millis::from_secs(n as u64);
        let answer = ok(&mut service, now, "POST", "/mesh/submit_request", job);
        ids.push(answer["job_id"].as_str().expect("it has one").to_owned());
    }
    let now = NOW + Millis::from_secs(10);
    for (node, result) in [
        ("w1", Some(json!({"ok": true, "result": 1}))),
        ("w2", Some(json!({"ok": false, "error": {"code": "E_DISK", "message": "no space left"}}))),
        ("w1", None),
    ] {
        let job = ok(&mut service, now, "POST", "/mesh/pull_requests", &json!({"node_id": node}))["jobs"][0].clone();
        if let Some(mut result) = result {
            result["job_id"] = job["job_id"].clone();
            ok(&mut service, now, "POST", "/mesh/submit_result", &result);
        }
    }
    (service, ids)
}

#[test]
fn each_filter_lists_the_jobs_that_it_names_alone_and_with_others() {
    let (mut service, ids) = some();
    let table: [(&str, &[usize]); 28] = [
        ("", &[4, 3, 2, 1, 0]),
        ("status=completed", &[0]),
        ("status=dead", &[1]),
        ("status=leased", &[2]),
        ("status=queued", &[3]),
        ("status=scheduled", &[4]),
        ("status=failed", &[]),
        ("kind=a", &[4, 3, 2, 0]),
        ("kind=c", &[]),
        ("kind=a&status=leased", &[2]),
        ("kind=b&status=leased", &[]),
        ("node=w1", &[2, 0]),
        ("node=w1&status=completed", &[0]),
        ("node=w3", &[]),
        ("zone=far", &[3]),
        ("zone=default", &[4, 2, 1, 0]),
        ("zone=near", &[]),
        ("error=E_DISK", &[1]),
        ("error=no%20space", &[1]),
        ("error=e_disk", &[]),
        ("idempotency_key=first", &[0]),
        ("key=far+one", &[3]),
        ("idempotency_key=%20far%20one%20&zone=default", &[]),
        ("key=unknown", &[]),
        ("after_utc=2026-01-15T18:00:03Z", &[4, 3]),
        ("before_utc=2026-01-15T18:00:02.000Z&kind=a", &[0]),
        ("after_utc=2026-01-15T19:00:01%2B01:00&before_utc=2026-01-15T18:00:03Z", &[2, 1]),
        ("after_utc=2026-01-15T18:00:04.001Z", &[]),
    ];
    assert_eq!(
        ok(&mut service, NOW, "GET", &format!("/mesh/jobs/{}", ids[0]), &Value::Null)["job"]["submitted_utc"],
        "2026-01-15T18:00:00.000Z"
    );
    for (query, expected) in table {
        assert_eq!(numbers(&mut service, &ids, query), expected, "{query}");
        assert_eq!(numbers(&mut service, &ids, &format!("{query}&other=1")), expected, "{query}");
    }
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        listed.extend(numbers(&mut service, &ids, &format!("kind=a&limit=2{cursor}")));
        match list(&mut service, &format!("kind=a&limit=2{cursor}"))["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(listed, [4, 3, 2, 0]);
}

#[test]
fn what_is_not_understood_in_a_query_is_refused() {
    let (mut service, ids) = some();
    for (query, detail) in [
        ("status=done", "status must be one of scheduled, queued, leased, completed, failed, dead, cancelled"),
        ("status=", "status must be one of"),
        ("status=queued&status=leased", "status is given more than once"),
        ("Status=queued", "status is misspelled"),
        ("kinds=a", "kind is misspelled"),
        ("kind[]=a", "kind is misspelled"),
        ("kind=", "kind must not be empty"),
        ("zones=a", "zone is misspelled"),
        ("nodes=a", "node is misspelled"),
        ("errors=a", "error is misspelled"),
        ("error=", "error must not be empty"),
        ("afterUtc=2026-01-15T18:00:00Z", "after_utc is misspelled"),
        ("after_utc=yesterday", "after_utc: expected an RFC 3339 instant"),
        ("before_utc=", "before_utc: expected an RFC 3339 instant"),
        ("idempotencyKey=a", "idempotency_key is misspelled"),
        ("idempotency_key=%20", "idempotency_key must not be blank"),
        ("key=a&idempotency_key=a", "are the same parameter"),
        ("limit=0", "limit must be a whole number from 1 to 1000"),
        ("limit=1001", "limit must be a whole number from 1 to 1000"),
        ("cursor=job_1", "cursor must be the next_cursor of a page"),
    ] {
        let refused = refusal(&mut service, query);
        assert!(refused.contains(detail), "{query}: {refused}");
    }
    assert!(refusal(&mut service, &format!("error={}", "x".repeat(257))).contains("at most 256 bytes"));
    let of_other = ids[0].replace("job_", "job_f");
    assert!(refusal(&mut service, &format!("cursor={}", &of_other[..24])).contains("cursor must be"));
}

/// More jobs than one scan examines, none of them asked for but the first.
#[test]
fn an_empty_page_says_how_far_it_looked_and_its_cursor_goes_on_there() {
    let mut service = scene::service(scene::settings());
    let submit = |zone: &str| {
        let zone = Zone::new(Name::new(zone).unwrap());
        Command::Submit(Box::new(Submit { zone, ..Submit::new(Name::new("k").unwrap(), None) }))
    };
    _ = service.command(NOW, submit("far")).unwrap();
    (0..30_000).for_each(|_| _ = service.command(NOW, submit("near")).unwrap());
    let first = list(&mut service, "zone=far");
    assert_eq!((&first["jobs"], first["scanned"].as_u64().unwrap() / 100), (&json!([]), 199));
    let second = list(&mut service, &format!("zone=far&cursor={}", first["next_cursor"].as_str().unwrap()));
    assert_eq!((second["jobs"].as_array().unwrap().len(), &second["next_cursor"]), (1, &Value::Null));
    assert_eq!(first["scanned"].as_u64().unwrap() + second["scanned"].as_u64().unwrap(), 30_001);
    let leased = list(&mut service, "status=leased");
    assert_eq!((&leased["jobs"], &leased["scanned"], &leased["next_cursor"]), (&json!([]), &json!(0), &Value::Null));
}
