//! Alerts: bursts in the audit log are reported once, in a file, over HTTP, by webhook, and by `watch` from outside the
//! hub.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::prometheus::Alertmanager;
use sheratan_tests::tools::tool;
use sheratan_tests::{Client, Hub, Options, command, run, until};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// A hub whose data folder has these rules.
fn hub_with_rules(rules: &Value, options: Options) -> Hub {
    let folder = TempDir::new().unwrap();
    write_rules(folder.path(), rules);
    Hub::start_in(folder, options)
}

fn write_rules(folder: &Path, rules: &Value) {
    fs::write(folder.join("alert_rules.json"), json!({ "rules": rules }).to_string()).unwrap();
}

/// The built-in rule about ports, faster: more than two in a second, resolved after a second without any.
fn fast_rule() -> Value {
    json!({"name": "port_mismatch_burst", "event": "PORT_MISMATCH", "threshold": 2, "window_sec": 1, "cooldown_sec": 0})
}

/// Asks the control plane for a path of the data plane.
fn mismatch(hub: &Hub, times: usize) {
    let mut control = Client::new(hub.control, None);
    (0..times).for_each(|_| assert_eq!(control.get("/mesh/jobs").status, 410));
}

fn fail_to_authenticate(hub: &Hub, times: usize) {
    let mut control = Client::new(hub.control, None);
    (0..times).for_each(|_| assert_eq!(control.get("/api/registry").status, 403));
}

/// The lines of the alerts' file.
fn reported(hub: &Hub) -> Vec<Value> {
    let text = fs::read_to_string(hub.folder().join("logs/alerts.jsonl")).unwrap_or_default();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    whole.lines().map(|line| serde_json::from_str(line).expect("a whole line is JSON")).collect()
}

fn states(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["details"]["state"].as_str().unwrap()).collect()
}

#[test]
fn a_burst_is_reported_once_and_fewer_events_are_not() {
    let hub = Hub::start();
    let open = || hub.control().get("/api/alerts").ok()["open"].as_array().unwrap().len();
    mismatch(&hub, 20);
    assert_eq!(open(), 0, "as many as the threshold");
    mismatch(&hub, 30);
    until("the alert is in the file", || !reported(&hub).is_empty());
    let alerts = hub.control().get("/api/alerts").ok();
    assert_eq!(alerts["open"][0]["total"], 50);
    assert_eq!(alerts["alerts"].as_array().unwrap().len(), 1);
    let lines = reported(&hub);
    assert_eq!(states(&lines), ["opened"]);
    assert_eq!(lines[0], alerts["alerts"][0]);
    assert_eq!(lines[0]["event"], "BURST_PORT_MISMATCH");
    let details = &lines[0]["details"];
    let numbers = ["count", "window_sec", "threshold"].map(|member| details[member].as_u64().unwrap());
    assert_eq!(numbers, [21, 60, 20]);
    assert_eq!(details["top_ips"], json!([{"ip": "127.0.0.1", "count": 21}]));
    // When it opened is when the audit log has the twenty-first.
    until("all are in the audit log", || hub.audit("PORT_MISMATCH").len() == 50);
    assert_eq!(details["opened_ts"], hub.audit("PORT_MISMATCH")[20]["ts"]);
}

#[test]
fn failures_to_authenticate_from_this_machine_are_a_burst_only_where_a_rule_says_so() {
    let silent = Hub::start();
    fail_to_authenticate(&silent, 30);
    until("all are in the audit log", || silent.audit("AUTH_FAILURE").len() == 30);
    assert_eq!(silent.control().get("/api/alerts").ok()["open"], json!([]));
    assert!(reported(&silent).is_empty());

    let rule = json!([{"name": "auth_failure_burst", "event": "AUTH_FAILURE", "threshold": 20, "ignore": []}]);
    let with_rule = hub_with_rules(&rule, Options::default());
    fail_to_authenticate(&with_rule, 30);
    until("the alert is in the file", || !reported(&with_rule).is_empty());
    assert_eq!(reported(&with_rule)[0]["event"], "BURST_AUTH_FAILURE");
}

#[test]
fn an_alert_that_opened_is_resolved_when_the_burst_is_over() {
    let hub = hub_with_rules(&json!([fast_rule()]), Options::default());
    mismatch(&hub, 5);
    until("it is over", || states(&reported(&hub)) == ["opened", "resolved"]);
    let lines = reported(&hub);
    assert_eq!(lines[0]["details"]["alert_id"], lines[1]["details"]["alert_id"]);
    assert_eq!(lines[1]["details"]["total"], 5);
    assert_eq!(hub.control().get("/api/alerts").ok()["open"], json!([]));
    mismatch(&hub, 3);
    until("the next burst is reported", || reported(&hub).len() > 2);
    assert_ne!(reported(&hub)[2]["details"]["alert_id"], lines[0]["details"]["alert_id"]);
}

#[test]
fn rules_are_reloaded_on_sighup_and_wrong_ones_leave_the_old_ones() {
    let mut hub = hub_with_rules(&json!([]), Options::default());
    let hang_up = |hub: &mut Hub, text: &str| {
        let pid = rustix::process::Pid::from_raw(hub.pid() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
        until("the log says so", || hub.log().contains(text));
    };
    mismatch(&hub, 3);
    write_rules(hub.folder(), &json!([fast_rule()]));
    hang_up(&mut hub, "the alert rules were read again");
    mismatch(&hub, 3);
    until("the new rule holds", || states(&reported(&hub)).contains(&"opened"));
    fs::write(hub.folder().join("alert_rules.json"), r#"{"rules":[{"name":"x"}]}"#).unwrap();
    hang_up(&mut hub, "the rules before stay");
    until("the first burst is over", || states(&reported(&hub)).ends_with(&["resolved"]));
    mismatch(&hub, 3);
    until("the rule still holds", || states(&reported(&hub)) == ["opened", "resolved", "opened"]);
    assert!(hub.exited().is_none());
}

#[test]
fn rules_that_are_not_understood_stop_the_start_with_the_rule_that_is_wrong() {
    let folder = TempDir::new().unwrap();
    let serve = |args: &[&str]| {
        let base = ["serve", "--control-addr", "127.0.0.1:0", "--data-addr", "127.0.0.1:0", "--data-dir"];
        run(&[&base[..], &[folder.path().to_str().unwrap()], args].concat())
    };
    write_rules(folder.path(), &json!([{"name": "mine", "event": "LEASE_REAP", "threshold": 10_001}]));
    let refused = serve(&[]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("\"mine\"") && refused.stderr.contains("threshold must be"), "{}", refused.stderr);
    let missing = serve(&["--alert-rules-file", "/nowhere/rules.json"]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.contains("/nowhere/rules.json"), "{}", missing.stderr);
}

/// A receiver of webhooks: answers with these statuses in turn, then with 200, and passes on the bodies.
fn receiver(statuses: &'static [u16]) -> (SocketAddr, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, bodies) = channel();
    thread::spawn(move || {
        let mut statuses = statuses.iter();
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            while let Some((target, body)) = read_request(&mut stream) {
                let status = statuses.next().unwrap_or(&200);
                let reply = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
                if sender.send((target, body)).is_err() || stream.get_mut().write_all(reply.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    (addr, bodies)
}

fn read_request(stream: &mut impl BufRead) -> Option<(String, Value)> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let target = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((target, serde_json::from_slice(&body).unwrap()))
}

fn posting_to(addr: SocketAddr, path: &str) -> Options {
    let url = format!("http://{addr}{path}");
    Options { env: vec![("SHERATAN_ALERT_WEBHOOK_URL".into(), url)], ..Options::default() }
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_webhook_gets_what_an_alertmanager_would_and_a_failed_post_is_repeated() {
    let (addr, bodies) = receiver(&[503, 429]);
    let hub = hub_with_rules(&json!([fast_rule()]), posting_to(addr, "/hook"));
    mismatch(&hub, 3);
    let posts: Vec<_> = (0..4).map(|_| bodies.recv_timeout(LONG).unwrap()).collect();
    assert!(posts.iter().all(|(target, _)| target == "/hook"));
    let (_, firing) = &posts[0];
    assert_eq!(posts[0], posts[1], "the first was answered with 503");
    assert_eq!(posts[1], posts[2], "the second with 429");
    let (_, resolved) = &posts[3];
    assert_eq!((&firing["version"], &firing["status"]), (&json!("4"), &json!("firing")));
    let alert = &firing["alerts"][0];
    let labels = json!({
        "alertname": "BURST_PORT_MISMATCH", "rule": "port_mismatch_burst", "severity": "warning", "service": "sheratan-hub"
    });
    assert_eq!((&alert["labels"], &firing["commonLabels"]), (&labels, &labels));
    assert_eq!(alert["annotations"]["summary"], "3 PORT_MISMATCH events in 1 s (threshold 2)");
    assert_eq!(alert["generatorURL"], format!("http://{}/api/alerts", hub.control));
    assert_eq!((&resolved["status"], &resolved["alerts"][0]["status"]), (&json!("resolved"), &json!("resolved")));
    assert_eq!(resolved["alerts"][0]["fingerprint"], alert["fingerprint"]);
    until("the end is in the file", || reported(&hub).len() == 2);
    assert_eq!(resolved["alerts"][0]["endsAt"], reported(&hub)[1]["ts"]);
    assert!(!hub.log().contains("/hook"), "a webhook's URL may be a secret");
}

#[test]
fn an_alertmanagers_own_address_gets_a_list_of_alerts() {
    let (addr, bodies) = receiver(&[]);
    let hub = hub_with_rules(&json!([fast_rule()]), posting_to(addr, "/api/v2/alerts"));
    mismatch(&hub, 3);
    let (_, posted) = bodies.recv_timeout(LONG).unwrap();
    assert_eq!(posted.as_array().unwrap().len(), 1);
    assert_eq!(posted[0]["labels"]["alertname"], "BURST_PORT_MISMATCH");
    until("the alert is in the file", || !reported(&hub).is_empty());
    assert_eq!(posted[0]["startsAt"], reported(&hub)[0]["ts"]);
    // The rule's second and what is added for a receiver that takes it late.
    let instant = |member: &str| posted[0][member].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(instant("endsAt").duration_since(instant("startsAt")).as_millis(), 71_000);
    assert!(posted[0].get("status").is_none());
}

#[test]
fn what_a_webhook_refuses_is_counted_and_not_tried_again() {
    let (addr, bodies) = receiver(&[404]);
    let hub = hub_with_rules(&json!([fast_rule()]), posting_to(addr, "/"));
    mismatch(&hub, 3);
    let statuses: Vec<_> = (0..2).map(|_| bodies.recv_timeout(LONG).unwrap().1["status"].clone()).collect();
    assert_eq!(statuses, ["firing", "resolved"], "the next change follows at once");
    let text = Client::new(hub.control, None).ask("GET", "/metrics", &[("Accept", "text/plain")]);
    assert!(String::from_utf8(text.body).unwrap().contains("\nsheratan_hub_alerts_lost_total 1\n"));
}

#[test]
fn an_alertmanager_shows_an_alert_while_it_is_open_and_then_no_more() {
    let Some(program) = tool("prometheus-alertmanager", "prometheus-alertmanager") else { return };
    let alertmanager = Alertmanager::start(&program);
    let mut rule = fast_rule();
    // Open until the test has seen it.
    rule["window_sec"] = json!(3);
    let hub = hub_with_rules(&json!([rule]), posting_to(alertmanager.addr(), "/api/v2/alerts"));
    mismatch(&hub, 3);
    until("it shows the alert", || !alertmanager.firing().is_empty());
    let firing = alertmanager.firing();
    assert_eq!(firing.len(), 1);
    assert_eq!(firing[0]["labels"]["alertname"], "BURST_PORT_MISMATCH");
    assert_eq!(firing[0]["status"]["state"], "active");
    until("it is over", || alertmanager.firing().is_empty());
    assert_eq!(states(&reported(&hub)), ["opened", "resolved"]);
}

#[test]
fn a_webhook_that_never_answers_delays_neither_the_hub_nor_its_stop() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut hub = hub_with_rules(&json!([fast_rule()]), posting_to(listener.local_addr().unwrap(), "/"));
    mismatch(&hub, 3);
    // The hub is connected and waits for an answer that does not come.
    let (stream, _) = listener.accept().unwrap();
    until("the alert is in the file all the same", || !reported(&hub).is_empty());
    mismatch(&hub, 50);
    hub.data().post("/mesh/submit_request", &json!({"kind": "k"})).ok();
    assert!(hub.stop().success());
    drop(stream);
}

#[test]
fn an_invalid_webhook_stops_the_start_without_being_shown() {
    for (url, reason) in [("https://hooks.lan/s3cret-path", "TLS"), ("hooks.lan/s3cret-path", "http://")] {
        let folder = TempDir::new().unwrap();
        let output = command(&["serve", "--data-dir", folder.path().to_str().unwrap()])
            .env("SHERATAN_ALERT_WEBHOOK_URL", url)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(
            stderr.contains(reason) && stderr.contains("alert_webhook_url") && !stderr.contains("s3cret"),
            "{stderr}"
        );
    }
}

#[test]
fn watch_finds_in_the_log_what_the_hub_reported() {
    let mut hub = hub_with_rules(&json!([fast_rule()]), Options::default());
    for burst in 1..=2 {
        mismatch(&hub, 4);
        until("it is over", || states(&reported(&hub)).iter().filter(|state| **state == "resolved").count() == burst);
    }
    // A line of another second, by which the log says that time has passed.
    fail_to_authenticate(&hub, 1);
    assert!(hub.stop().success());
    let watched = hub.run(&["watch", "--once", "--json"]);
    assert_eq!(watched.code, Some(0), "{}", watched.stderr);
    let lines: Vec<Value> = watched.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, reported(&hub));
    assert!(watched.stderr.contains("2 alerts, 0 of them still open"), "{}", watched.stderr);

    let rules = hub.folder().join("other.json");
    fs::write(&rules, json!({"rules": [{"name": "port_mismatch_burst", "enabled": false}]}).to_string()).unwrap();
    let other = hub.run(&["watch", "--once", "--json", "--rules", rules.to_str().unwrap()]);
    assert_eq!((other.code, &*other.stdout), (Some(0), ""));
}

#[test]
fn watch_follows_a_burst_over_a_rotation_and_ends_on_sigint() {
    let args = ["--audit-file-bytes", "4096"].map(String::from).to_vec();
    let hub = Hub::start_in(TempDir::new().unwrap(), Options { args, env: Vec::new() });
    let alerts = hub.folder().join("watched.jsonl");
    let mut watch = command(&["watch", "--json", "--alerts", alerts.to_str().unwrap(), "--data-dir"])
        .arg(hub.folder())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = BufReader::new(watch.stdout.take().unwrap());
    // About a dozen lines fill a file: the twenty-first is behind a rotation.
    mismatch(&hub, 40);
    let mut line = String::new();
    shown.read_line(&mut line).unwrap();
    let opened: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&opened["details"]["state"], &opened["details"]["count"]), (&json!("opened"), &json!(21)));
    assert!(hub.folder().join("logs/hub_security_audit.jsonl.1").exists());
    until("the file has it", || fs::read_to_string(&alerts).unwrap() == line);
    let pid = rustix::process::Pid::from_raw(watch.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = watch.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && stderr.contains("1 alerts, 1 of them still open"), "{stderr}");
    let mut rest = String::new();
    shown.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "a burst is reported once");
    assert_eq!(reported(&hub)[0], opened, "as the hub reported it");
}

#[test]
fn watch_says_what_is_missing() {
    let folder = TempDir::new().unwrap();
    let missing = run(&["watch", "--once", "--data-dir", folder.path().to_str().unwrap()]);
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.stderr.contains("there is no audit log") && missing.stderr.contains("--file"),
        "{}",
        missing.stderr
    );
    let rules = folder.path().join("rules.json");
    fs::write(&rules, "{}").unwrap();
    let wrong = run(&["watch", "--once", "--rules", rules.to_str().unwrap()]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("missing field `rules`"), "{}", wrong.stderr);
}
