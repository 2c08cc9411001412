//! What is not understood is refused with its name, never half-taken: in a path, a query, a header and a batch.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::result;
use sheratan_tests::{Client, Hub, Response};

fn submit(hub: &Hub, kind: &str) {
    hub.data().post("/mesh/submit_request", &json!({"kind": kind})).ok();
}

/// The kinds of the jobs that an answer to a pull has.
fn kinds_of(answer: &Value) -> Vec<&str> {
    answer["jobs"].as_array().expect("a list of jobs").iter().map(|job| job["kind"].as_str().unwrap()).collect()
}

/// Sends a body of any bytes with these headers besides.
fn post(hub: &Hub, path: &str, headers: &str, body: &[u8]) -> Response {
    let mut client = Client::new(hub.data, None);
    let (token, length) = (hub.token(), body.len());
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nX-Sheratan-Token: {token}\r\nContent-Length: {length}\r\n");
    client.send(&[format!("{head}{headers}\r\n").as_bytes(), body].concat()).unwrap();
    client.receive().unwrap()
}

#[track_caller]
fn assert_refused(answer: &Response, detail: &str) {
    let problem = answer.json();
    assert_eq!((answer.status, problem["error"].as_str()), (400, Some("bad_request")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().starts_with(detail), "{problem}");
}

#[test]
fn a_node_whose_name_has_a_plus_pulls_in_its_own_name() {
    let hub = Hub::start();
    hub.control().post("/mesh/heartbeat", &json!({"node_id": "gpu+1", "capabilities": ["gpu:true"]})).ok();
    for path in ["/mesh/pull_requests/gpu+1", "/mesh/pull_requests/gpu%2B1"] {
        hub.data().post("/mesh/submit_request", &json!({"kind": "k", "requires": ["gpu:true"]})).ok();
        let pulled = hub.data().get(path).ok();
        let job = pulled["jobs"].get(0).unwrap_or_else(|| panic!("{path}: no job for gpu+1: {pulled}"));
        hub.data().post("/mesh/submit_result", &result(job, "gpu+1", &json!(1))).ok();
    }
    let nodes = hub.control().get("/api/registry").ok()["nodes"].clone();
    assert_eq!(nodes.as_object().unwrap().keys().collect::<Vec<_>>(), ["gpu+1"]);
}

#[test]
fn a_list_in_a_query_is_repeated_or_separated_by_commas() {
    let hub = Hub::start();
    for query in ["kinds=a&kinds=b", "kinds=a,b", "kinds=a%2Cb", "kinds=+a,+b"] {
        ["a", "b", "c"].iter().for_each(|kind| submit(&hub, kind));
        let pulled = hub.data().get(&format!("/mesh/pull_requests/n?max=10&{query}")).ok();
        assert_eq!(kinds_of(&pulled), ["a", "b"], "{query}");
    }
    let mut events = hub.control().events("/api/events?events=alert&events=counters").expect("a stream");
    let first = events.receive().unwrap().expect("an event");
    assert_eq!(first.event, "counters", "the second of two is subscribed to as well");
}

#[test]
fn a_parameter_that_is_misspelled_or_twice_or_no_value_is_refused_and_leases_nothing() {
    let hub = Hub::start();
    submit(&hub, "secret-kind");
    let pull = |query: &str| hub.data().get(&format!("/mesh/pull_requests/n?{query}"));
    for query in ["kinds[]=a", "kinds%5B%5D=a", "Kinds=a", "kind=a", "kinds=a&kind[]=b"] {
        assert_refused(&pull(query), "kinds is misspelled: it is written kinds");
    }
    for query in ["max=3&max=1", "max=3&max=3"] {
        assert_refused(&pull(query), "max is given more than once");
    }
    for query in ["max=", "max=ten", "max=1.5", "max=%2B1"] {
        assert_refused(&pull(query), "max must be a whole number from 1 to 1000");
    }
    for query in ["waitMs=0", "WAIT_MS=0"] {
        assert_refused(&pull(query), "wait_ms is misspelled");
    }
    assert_refused(&pull("kinds="), "kinds must not be empty");
    assert_refused(&pull("kinds=a,,b"), "kinds must not be empty");
    assert_refused(&pull("lease_sec=x"), "lease_sec must be a whole number");
    let both = |body: &[u8]| post(&hub, "/mesh/pull_requests/n?max=2&kinds=a", "", body);
    assert_refused(&both(br#"{"max":3}"#), "max is given more than once, and the values differ");
    assert_refused(&both(br#"{"kinds":["b"]}"#), "kinds is given more than once");
    assert_refused(&both(br#"{"node_id":"m"}"#), "node_id is given more than once");
    assert_refused(&both(br#"{"kind":"a"}"#), "kinds is misspelled");
    assert_eq!(both(br#"{"max":2,"kinds":["a"],"node_id":"n"}"#).ok()["jobs"], json!([]), "the same in both");
    assert_eq!(hub.data().get("/mesh/jobs?status=leased").ok()["jobs"], json!([]));
    assert_eq!(kinds_of(&pull("something=else&max=1&kindness=1").ok()), ["secret-kind"], "unknown names are ignored");

    let list = |query: &str| hub.data().get(&format!("/mesh/jobs?{query}"));
    assert_refused(&list("kind=a&kind=b"), "kind is given more than once");
    assert_refused(&list("kinds=a"), "kind is misspelled");
    assert_refused(&list("status=waiting"), "status must be one of scheduled, queued, leased, completed");
    assert_refused(&list("status="), "status must be one of");
    assert_refused(&list("cursor="), "cursor must be the next_cursor of a page");
    assert_eq!(list("status=leased").ok()["jobs"].as_array().unwrap().len(), 1);
    assert_refused(&hub.data().get("/mesh/jobs/x?waitms=1"), "wait_ms is misspelled");
    assert_refused(&hub.control().get("/api/audit?limit=1&limit=2"), "limit is given more than once");
    assert_refused(&hub.control().get("/api/audit?After=1"), "after is misspelled");
    assert_refused(&hub.control().get("/api/alerts?limit="), "limit must be a whole number");
    assert_refused(&hub.control().get("/api/events?event=audit"), "events is misspelled");
}

#[test]
fn a_member_that_is_misspelled_is_refused_and_an_unknown_one_ignored() {
    let hub = Hub::start();
    let submit = |body: &[u8]| post(&hub, "/mesh/submit_request", "", body);
    assert_refused(&submit(br#"{"kind":"k","require":["gpu:true"]}"#), "requires is misspelled");
    assert_refused(&submit(br#"{"kind":"k","Priority":"high"}"#), "priority is misspelled");
    assert_refused(&submit(br#"{"kind":"k","idempotencyKey":"a"}"#), "idempotency_key is misspelled");
    submit(br#"{"kind":"k","parameters":{"Kind":1},"colour":"red","params":{"Kind":1}}"#).ok();
    let beat = hub.control().post("/mesh/heartbeat", &json!({"node_id": "n", "Zone": "z"}));
    assert_refused(&beat, "zone is misspelled");
}

#[test]
fn a_header_that_a_request_has_once_is_refused_when_it_is_sent_twice() {
    let hub = Hub::start();
    let body = br#"{"kind":"k"}"#;
    for (headers, name) in [
        ("Idempotency-Key: a\r\nIdempotency-Key: b\r\n", "Idempotency-Key"),
        ("Idempotency-Key: a\r\nidempotency-key: a\r\n", "Idempotency-Key"),
        ("X-Sheratan-Token: other\r\n", "X-Sheratan-Token"),
        ("Authorization: Bearer a\r\nAuthorization: Bearer b\r\n", "Authorization"),
        ("Content-Type: application/json\r\nContent-Type: text/xml\r\n", "Content-Type"),
    ] {
        let answer = post(&hub, "/mesh/submit_request", headers, body);
        assert_refused(&answer, &format!("{name} is sent more than once"));
    }
    let batch = br#"{"requests":[{"kind":"k"}]}"#;
    let answer = post(&hub, "/mesh/submit_requests", "Idempotency-Key: a\r\n", batch);
    assert_refused(&answer, "Idempotency-Key belongs to one job");
    let answer = post(&hub, "/mesh/submit_request", "Content-Encoding: gzip\r\n", body);
    assert_eq!((answer.status, answer.error().as_str()), (415, "unsupported_media_type"));
    assert_eq!(hub.data().get("/mesh/jobs").ok()["jobs"], json!([]), "nothing was taken");
    let mut client = Client::new(hub.data, Some(hub.token()));
    let answer = client.ask("GET", "/metrics", &[("Accept", "text/html"), ("Accept", "text/plain")]);
    assert!(answer.header("content-type").unwrap().starts_with("text/plain"), "lists may be split over headers");
}

#[test]
fn a_blank_idempotency_key_is_none_and_others_are_trimmed() {
    let hub = Hub::start();
    let submit = |headers: &str, body: Value| {
        let answer = post(&hub, "/mesh/submit_request", headers, body.to_string().as_bytes()).ok();
        (answer["job_id"].as_str().unwrap().to_owned(), answer["dedup"].as_bool().unwrap())
    };
    for blank in ["", " ", "\t "] {
        for _ in 0..2 {
            assert!(!submit("", json!({"kind": "k", "idempotency_key": blank})).1, "{blank:?}");
        }
    }
    assert!(!submit("Idempotency-Key: \r\n", json!({"kind": "k"})).1);
    let (first, _) = submit("", json!({"kind": "k", "idempotency_key": " a key "}));
    for (headers, key) in
        [("", json!("a key")), ("Idempotency-Key: a key\r\n", Value::Null), ("Idempotency-Key:\r\n", json!("a key\n"))]
    {
        assert_eq!(submit(headers, json!({"kind": "k", "idempotency_key": key})), (first.clone(), true));
    }
}

#[test]
fn names_are_trimmed_and_nothing_unseen_is_in_them() {
    let hub = Hub::start();
    let beat = json!({"node_id": "\u{a0}n ", "capabilities": [" cuda:12"]});
    assert_eq!(hub.control().post("/mesh/heartbeat", &beat).ok()["node_id"], "n");
    hub.data().post("/mesh/submit_request", &json!({"kind": " k ", "requires": ["cuda:12 "]})).ok();
    let pulled = hub.data().get("/mesh/pull_requests/n?kinds=k+,%20l").ok();
    assert_eq!(kinds_of(&pulled), ["k"]);
    for unseen in ["k\u{200b}", "k\u{202e}k", "\u{feff}k"] {
        let refused = hub.data().post("/mesh/submit_request", &json!({"kind": unseen}));
        assert_refused(&refused, "kind must not contain zero-width or bidirectional characters");
    }
    assert_refused(&hub.data().get("/mesh/pull_requests/a%e2%80%8bb"), "node_id must not contain zero-width");
}

/// Entries that are not what they must be, each for a reason of its own.
fn bad_entries() -> Vec<(Vec<u8>, &'static str)> {
    let deep = format!(r#"{{"kind":"k","params":{}{}}}"#, "[".repeat(128), "]".repeat(128));
    vec![
        (br#"{"kind":"k","params":{"a":1,"a":2}}"#.to_vec(), "an object has a key twice"),
        (br#"{"kind":"k","params":"\ud83d"}"#.to_vec(), "a surrogate is not part of a pair"),
        (deep.into_bytes(), "it is nested deeper than 128 levels"),
        (b"{\"kind\":\"k\",\"params\":\"\xff\"}".to_vec(), "it is not UTF-8"),
        (b"{\"kind\":\"k\",\"params\":\"a\nb\"}".to_vec(), "a string has a control character"),
        (br#"{"kind":"k","params":01}"#.to_vec(), "a number is not written as JSON allows"),
        (br#"{"kind":"k"} {}"#.to_vec(), "bytes follow the value"),
        (br#""kind""#.to_vec(), "it is JSON, but not an object"),
        (b"nonsense".to_vec(), "a value is missing or invalid"),
    ]
}

#[test]
fn one_bad_request_of_a_batch_is_refused_alone_and_named_by_its_index() {
    let hub = Hub::start();
    for (bad, reason) in bad_entries() {
        let good = br#"{"kind":"good"}"#.as_slice();
        let body = [br#"{"requests":["#, good, b", ", &bad, b" ,", good, b"]}"].concat();
        let results = post(&hub, "/mesh/submit_requests", "", &body).ok()["results"].clone();
        let statuses: Vec<_> = results.as_array().unwrap().iter().map(|answer| &answer["status_code"]).collect();
        assert_eq!(statuses, [200, 400, 200], "{reason}: {results}");
        let detail = results[1]["detail"].as_str().unwrap();
        assert!(detail.starts_with("requests[1]: ") && detail.contains(reason), "{reason}: {detail}");
        assert_eq!(results[1]["index"], 1);
    }
    let kinds = hub.data().get("/mesh/jobs?kind=good").ok()["jobs"].as_array().unwrap().len();
    assert_eq!(kinds, 2 * bad_entries().len());
}

#[test]
fn one_bad_result_of_a_batch_is_refused_alone() {
    let hub = Hub::start();
    for (bad, reason) in bad_entries() {
        submit(&hub, "k");
        let job = hub.data().get("/mesh/pull_requests/n").ok()["jobs"][0].clone();
        let good = result(&job, "n", &json!(1)).to_string();
        let body = [br#"{"results":["#.as_slice(), &bad, b",", good.as_bytes(), b"]}"].concat();
        let results = post(&hub, "/mesh/submit_results", "", &body).ok()["results"].clone();
        assert_eq!((&results[0]["status_code"], &results[1]["status"]), (&json!(400), &json!("completed")), "{reason}");
    }
}

#[test]
fn a_job_may_be_nested_as_deeply_in_a_batch_as_alone() {
    let hub = Hub::start();
    for (depth, status) in [(126, 200), (127, 200), (128, 400)] {
        let job = format!(r#"{{"kind":"k","params":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(post(&hub, "/mesh/submit_request", "", job.as_bytes()).status, status, "{depth} alone");
        let batch = format!(r#"{{"requests":[{job}]}}"#);
        let answer = post(&hub, "/mesh/submit_requests", "", batch.as_bytes());
        assert_eq!(answer.json()["results"][0]["status_code"], status, "{depth} in a batch: {}", answer.json());
    }
}

#[test]
fn a_batch_whose_entries_cannot_be_told_apart_is_refused_as_a_whole() {
    let hub = Hub::start();
    for body in [
        r#"{"requests":[{"kind":"k"},]}"#,
        r#"{"requests":[{"kind":"k"},,{"kind":"k"}]}"#,
        r#"{"requests":[{"kind":"k"},{"kind":"k]}"#,
        r#"{"requests":[{"kind":"k"}],"requests":[]}"#,
        r#"{"requests":[{"kind":"k"}],"a":nul}"#,
        r#"{"requests":[{"kind":"k"}]} x"#,
    ] {
        assert_refused(&post(&hub, "/mesh/submit_requests", "", body.as_bytes()), "the body is not a JSON object");
    }
    assert_refused(&post(&hub, "/mesh/submit_requests", "", br#"{"request":[]}"#), "requests is misspelled");
    assert_refused(&post(&hub, "/mesh/submit_requests", "", br#"{"requests":{}}"#), "requests must be a list");
    assert_refused(&post(&hub, "/mesh/submit_requests", "", b"{}"), "requests is missing");
    assert_eq!(hub.data().get("/mesh/jobs").ok()["jobs"], json!([]));
    let escaped = br#"{"\u0072equests":[{"kind":"k"}]}"#;
    assert_eq!(post(&hub, "/mesh/submit_requests", "", escaped).ok()["results"][0]["status_code"], 200);
}
