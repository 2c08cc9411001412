//! Each row of the wire contract's errors that exists by now, and the guards before them.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::result;
use sheratan_tests::{Client, Hub, until};

/// Checks the members of every problem (RFC 9457), its status and its code.
#[track_caller]
fn assert_problem(response: &sheratan_tests::Response, status: u16, code: &str) -> Value {
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    let problem = response.json();
    assert_eq!((response.status, problem["error"].as_str()), (status, Some(code)), "{problem}");
    assert_eq!((&problem["ok"], &problem["status"]), (&json!(false), &json!(status)));
    assert!(problem["type"].is_string() && problem["title"].is_string());
    assert!(!problem["detail"].as_str().unwrap().is_empty());
    problem
}

#[test]
fn a_path_of_the_other_plane_is_gone_before_the_token_is_checked() {
    let hub = Hub::start();
    let table = [
        (hub.control, hub.data, "POST", "/mesh/submit_request"),
        (hub.control, hub.data, "GET", "/mesh/jobs/job_1"),
        (hub.control, hub.data, "GET", "/mesh/dlq"),
        (hub.data, hub.control, "POST", "/mesh/heartbeat"),
        (hub.data, hub.control, "GET", "/api/registry?token=secret"),
        (hub.data, hub.control, "GET", "/registry"),
    ];
    for (asked, expected, method, path) in table {
        let mut client = Client::new(asked, None);
        let response = client.try_request(method, path, Some(&json!({}))).unwrap();
        let problem = assert_problem(&response, 410, "port_mismatch");
        assert_eq!(problem["expected_port"], expected.port());
    }
    until("all are in the audit log", || hub.audit("PORT_MISMATCH").len() == table.len());
    let line = &hub.audit("PORT_MISMATCH")[4];
    let details = json!({
        "ip": "127.0.0.1", "path": "/api/registry", "port": hub.data.port(), "expected": hub.control.port()
    });
    assert_eq!(line["details"], details, "without the query");
}

#[test]
fn a_token_is_needed_in_either_form_and_never_shown() {
    let mut hub = Hub::start();
    let token = hub.token();
    for addr in [hub.control, hub.data] {
        let path = if addr == hub.control { "/api/registry" } else { "/mesh/jobs" };
        let ask = |header: &str| {
            let mut client = Client::new(addr, None);
            client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{header}\r\n").as_bytes()).unwrap();
            client.receive().unwrap()
        };
        let missing = assert_problem(&ask(""), 403, "auth_failure");
        assert_eq!(missing["reason"], "missing_token");
        for wrong in [
            "X-Sheratan-Token: wrong-token-value\r\n".to_owned(),
            "Authorization: Bearer wrong-token-value\r\n".to_owned(),
            format!("X-Sheratan-Token: {}\r\n", &token[1..]),
            format!("X-Sheratan-Token: {token}x\r\n"),
        ] {
            let problem = assert_problem(&ask(&wrong), 403, "auth_failure");
            assert_eq!(problem["reason"], "bad_token");
        }
        for right in [
            format!("X-Sheratan-Token: {token}\r\n"),
            format!("x-sheratan-token: {token}\r\n"),
            format!("Authorization: Bearer {token}\r\n"),
            format!("authorization: bearer {token}\r\n"),
        ] {
            assert_eq!(ask(&right).status, 200, "{right}");
        }
    }
    until("all are in the audit log", || hub.audit("AUTH_FAILURE").len() == 10);
    let first = &hub.audit("AUTH_FAILURE")[0]["details"];
    let details = json!({
        "path": "/api/registry", "ip": "127.0.0.1", "reason": "missing_token", "method": "GET", "token_present": false
    });
    assert_eq!(first, &details);
    // The last lines are written when it has ended.
    assert!(hub.stop().success());
    for file in ["hub_security_audit.jsonl", "hub.jsonl"] {
        let text = std::fs::read_to_string(hub.folder().join("logs").join(file)).unwrap();
        for secret in [&token[..], "wrong-token-value"] {
            assert!(!text.contains(secret), "{file} has a token");
        }
    }
}

#[test]
fn health_is_public_and_says_which_plane_it_is() {
    let hub = Hub::start();
    for (addr, plane) in [(hub.control, "control"), (hub.data, "data")] {
        let mut client = Client::new(addr, None);
        let health = client.get("/health").ok();
        assert_eq!((&health["ok"], &health["plane"]), (&json!(true), &json!(plane)));
        assert_eq!(client.get("/livez").ok()["status"], "alive");
        assert_eq!(client.get("/readyz").ok()["status"], "ready");
    }
}

#[test]
fn a_body_that_is_not_what_the_route_takes_is_refused_with_the_member_that_is_wrong() {
    let hub = Hub::start();
    let mut data = hub.data();
    let submits = [
        ("{", "the body is not a JSON object"),
        ("[]", "the body is not a JSON object"),
        (r#"{"kind":"k","kind":"l"}"#, "the body is not a JSON object"),
        ("{\"kind\":\"\\ud800\"}", "the body is not a JSON object"),
        ("{}", "kind is missing"),
        (r#"{"kind":null}"#, "kind is missing"),
        (r#"{"kind":7}"#, "kind must be a string"),
        (r#"{"kind":""}"#, "kind must not be empty"),
        (r#"{"kind":"k","priority":"urgent"}"#, "priority must be critical, high, normal or low"),
        (r#"{"kind":"k","delay_ms":-1}"#, "delay_ms must be a whole number from 0 to"),
        (r#"{"kind":"k","run_at_utc":"soon"}"#, "run_at_utc: expected an RFC 3339 instant"),
        (r#"{"kind":"k","ttl_sec":0}"#, "ttl_sec must be a number of seconds from 1 to"),
        (r#"{"kind":"k","max_attempts":101}"#, "max_attempts must be a whole number from 1 to 100"),
        (r#"{"kind":"k","requires":"gpu"}"#, "requires must be a list"),
        (r#"{"kind":"k","on_duplicate":"x"}"#, "on_duplicate must be same_result or latest_wins"),
        (r#"{"kind":"k","lease_sec":0.5}"#, "lease_sec must be a number of seconds from 1 to 86400"),
    ];
    for (body, detail) in submits {
        let problem = assert_problem(&post_raw(&hub, "/mesh/submit_request", body), 400, "bad_request");
        assert!(problem["detail"].as_str().unwrap().starts_with(detail), "{body}: {problem}");
    }
    for (path, detail) in [
        ("/mesh/pull_requests/n?max=0", "max must be a whole number from 1 to 1000"),
        ("/mesh/pull_requests/n?wait_ms=60001", "wait_ms must be a whole number from 0 to 60000"),
        ("/mesh/pull_requests/%zz", "the path is not well encoded"),
        ("/mesh/jobs?limit=x", "limit must be a whole number from 1 to 1000"),
        ("/mesh/jobs?cursor=x", "cursor must be the next_cursor of a page"),
    ] {
        let problem = assert_problem(&data.get(path), 400, "bad_request");
        assert_eq!(problem["detail"], detail, "{path}");
    }
    let both = "Idempotency-Key: a\r\n";
    let problem = post_with(&hub, "/mesh/submit_request", both, r#"{"kind":"k","idempotency_key":"b"}"#);
    assert_problem(&problem, 400, "bad_request");
}

#[test]
fn unknown_paths_jobs_and_methods_have_different_errors() {
    let hub = Hub::start();
    let (mut data, mut control) = (hub.data(), hub.control());
    assert_problem(&data.get("/nowhere"), 404, "unknown_path");
    assert_problem(&control.get("/"), 404, "unknown_path");
    assert_problem(&data.get("/mesh/jobs/job_000000000001deadbeef"), 404, "unknown_job");
    assert_problem(&data.get("/mesh/jobs/nothing"), 404, "unknown_job");
    let refused = data.get("/mesh/submit_request");
    assert_problem(&refused, 405, "method_not_allowed");
    assert_eq!(refused.header("allow"), Some("POST"));
    let refused = data.try_request("HEAD", "/mesh/pull_requests/n", None).unwrap();
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, POST")));
    let refused = control.post("/api/registry", &json!({}));
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    let refused = post_with(&hub, "/mesh/submit_request", "Content-Type: text/xml\r\n", "<a/>");
    assert_problem(&refused, 415, "unsupported_media_type");
}

#[test]
fn a_result_with_wrong_or_without_integrity_is_refused_and_the_job_stays_leased() {
    let hub = Hub::start();
    let mut data = hub.data();
    let id = data.post("/mesh/submit_request", &json!({"kind": "k"})).ok()["job_id"].clone();
    let job = data.post("/mesh/pull_requests", &json!({"node_id": "n"})).ok()["jobs"][0].clone();
    let good = result(&job, "n", &json!({"x": 1}));
    let mut missing = good.clone();
    missing.as_object_mut().unwrap().remove("integrity");
    let mut wrong = good.clone();
    wrong["result"] = json!({"x": 2});
    for (body, reason) in [(&missing, "missing_integrity"), (&wrong, "sha_mismatch")] {
        let problem = assert_problem(&data.post("/mesh/submit_result", body), 403, "result_integrity_fail");
        assert_eq!(problem["reason"], reason);
    }
    let shown = data.get(&format!("/mesh/jobs/{}", id.as_str().unwrap())).ok();
    assert_eq!(shown["job"]["status"], "leased");
    until("both are in the audit log", || hub.audit("RESULT_INTEGRITY_FAIL").len() == 2);
    let details = &hub.audit("RESULT_INTEGRITY_FAIL")[1]["details"];
    assert_eq!(*details, json!({"job_id": id, "mode": "sha256", "reason": "sha_mismatch", "ip": "127.0.0.1"}));
    data.post("/mesh/submit_result", &good).ok();
}

#[test]
fn a_signed_result_needs_the_right_key() {
    let key = "0123456789abcdef0123456789abcdef";
    let hub = Hub::start_in(
        tempfile::TempDir::new().unwrap(),
        sheratan_tests::Options {
            args: vec!["--result-integrity-mode".into(), "hmac".into()],
            env: vec![("SHERATAN_RESULT_HMAC_KEY".into(), key.into())],
        },
    );
    let mut data = hub.data();
    data.post("/mesh/submit_request", &json!({"kind": "k"})).ok();
    let job = data.post("/mesh/pull_requests", &json!({"node_id": "n"})).ok()["jobs"][0].clone();
    let mut body = result(&job, "n", &json!(7));
    let problem = assert_problem(&data.post("/mesh/submit_result", &body), 403, "result_integrity_fail");
    assert_eq!(problem["reason"], "missing_integrity");
    body["integrity"]["mode"] = json!("hmac");
    body["integrity"]["sig"] = json!("00".repeat(32));
    let problem = assert_problem(&data.post("/mesh/submit_result", &body), 403, "result_integrity_fail");
    assert_eq!(problem["reason"], "sig_mismatch");
    let canonical = json!({"error": null, "job_id": job["job_id"], "ok": true, "result": 7}).to_string();
    body["integrity"]["sig"] = json!(sheratan_tests::client::hmac(key.as_bytes(), canonical.as_bytes()));
    data.post("/mesh/submit_result", &body).ok();
}

#[test]
fn leases_that_are_not_this_nodes_or_not_of_this_hub_are_lost() {
    let hub = Hub::start();
    let mut data = hub.data();
    for _ in 0..2 {
        data.post("/mesh/submit_request", &json!({"kind": "k"})).ok();
    }
    let jobs = data.post("/mesh/pull_requests", &json!({"node_id": "n", "max": 2})).ok();
    let (first, second) = (&jobs["jobs"][0], &jobs["jobs"][1]);
    let mut foreign = result(first, "n", &json!(1));
    foreign["lease_id"] = second["lease_id"].clone();
    let mut invented = result(first, "n", &json!(1));
    invented["lease_id"] = json!("lease_000000000001000000010000000000000000");
    for body in [foreign, invented] {
        assert_problem(&data.post("/mesh/submit_result", &body), 409, "lease_lost");
    }
    let mut without = result(first, "n", &json!(1));
    without.as_object_mut().unwrap().remove("lease_id");
    let mut elsewhere = without.clone();
    elsewhere["node_id"] = json!("other");
    assert_problem(&data.post("/mesh/submit_result", &elsewhere), 409, "lease_lost");
    data.post("/mesh/submit_result", &without).ok();
}

#[test]
fn what_is_too_large_or_too_slow_or_no_http_is_refused_and_the_connection_closed() {
    let hub = Hub::start_with(&["--max-body-bytes", "1000"]);
    let token = hub.token();
    let table: [(String, u16, &str); 7] = [
        (format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(9_000)), 414, "uri_too_long"),
        (format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(20_000)), 431, "headers_too_large"),
        (
            format!(
                "POST /mesh/submit_request HTTP/1.1\r\nHost: h\r\nX-Sheratan-Token: {token}\r\nContent-Length: 1001\r\n\r\n"
            ),
            413,
            "payload_too_large",
        ),
        ("GARBAGE\r\n\r\n".into(), 400, "bad_http"),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400, "bad_http"),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            400,
            "bad_http",
        ),
        ("GET / HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n".into(), 400, "bad_http"),
    ];
    for (request, status, code) in table {
        let mut client = Client::new(hub.data, None);
        client.send(request.as_bytes()).unwrap();
        let response = client.receive().unwrap();
        assert_problem(&response, status, code);
        assert_eq!(response.header("connection"), Some("close"), "{code}");
    }
}

fn post_raw(hub: &Hub, path: &str, body: &str) -> sheratan_tests::Response {
    post_with(hub, path, "", body)
}

fn post_with(hub: &Hub, path: &str, headers: &str, body: &str) -> sheratan_tests::Response {
    let mut client = Client::new(hub.data, None);
    let token = hub.token();
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nX-Sheratan-Token: {token}\r\nContent-Length: {length}\r\n");
    client.send(format!("{head}{headers}\r\n{body}").as_bytes()).unwrap();
    client.receive().unwrap()
}
