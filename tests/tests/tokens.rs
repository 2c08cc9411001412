//! The shared token is rotated without downtime: by the environment, by files, by the API and at the command line.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::{Client, Hub, Options, Response, until};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const OLD: &str = "the-old-token-of-this-mesh";
const NEW: &str = "the-new-token-of-this-mesh";

fn with_env(folder: TempDir, env: &[(&str, &str)]) -> Hub {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Hub::start_in(folder, Options { env, ..Options::default() })
}

fn temp() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// An instant so far from now, to the second, as the field's script writes it.
fn utc(after_secs: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(after_secs);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn health(hub: &Hub, token: &str) -> Response {
    control(hub, token).get("/health")
}

fn control(hub: &Hub, token: &str) -> Client {
    Client::new(hub.control, Some(token.to_owned()))
}

fn data(hub: &Hub, token: &str) -> Client {
    Client::new(hub.data, Some(token.to_owned()))
}

fn is_retired(response: &Response) -> bool {
    response.status == 403 && response.json()["reason"] == "old_token_after_rotation"
}

/// The field's check of rotation, request by request: both tokens within the window, and after it the next one alone, also on
/// `/health`.
#[test]
fn both_tokens_of_the_environment_are_accepted_in_the_window_and_then_the_next_one_alone() {
    let until_utc = utc(4);
    let hub = with_env(
        temp(),
        &[
            ("SHERATAN_HUB_TOKEN", OLD),
            ("SHERATAN_HUB_TOKEN_ACTIVE", OLD),
            ("SHERATAN_HUB_TOKEN_NEXT", NEW),
            ("SHERATAN_HUB_TOKEN_ROTATION_UNTIL", &until_utc),
            ("SHERATAN_HUB_TOKEN_REQUIRED", "1"),
        ],
    );
    for token in [OLD, NEW] {
        assert_eq!(control(&hub, token).get("/registry").status, 200, "{token}");
    }
    assert_eq!(hub.audit("TOKEN_ROTATION_BEGUN").len(), 1);
    until("the end of the window", || is_retired(&health(&hub, OLD)));
    assert!(is_retired(&control(&hub, OLD).get("/registry")));
    assert_eq!((health(&hub, NEW).status, control(&hub, NEW).get("/registry").status), (200, 200));
    until("the events", || !hub.audit("TOKEN_ROTATION_FINALIZED").is_empty() && !hub.audit("TOKEN_RETIRED").is_empty());
    assert_eq!(hub.audit("TOKEN_ROTATION_FINALIZED").len(), 1);
    for event in ["TOKEN_ACCEPTED_NEXT", "TOKEN_OLD_ACCEPTED_IN_WINDOW"] {
        assert_eq!(hub.audit(event).len(), 1, "{event}");
    }
    let metrics = control(&hub, NEW).get("/metrics").ok();
    assert!(metrics["auth_failure"]["old_token_1m"].as_u64().unwrap() >= 2, "{metrics}");
    assert!(
        metrics["auth_fail_old_token_1m"].as_u64().unwrap() >= 2
            && metrics["auth_success_next_1m"].as_u64().unwrap() >= 1
    );
    assert_eq!(metrics["security"]["auth_fail_1m"], 0, "a client that was not told is no attacker");
}

#[test]
fn a_deadline_that_is_past_at_the_start_and_settings_that_name_a_retired_token() {
    let env = [
        ("SHERATAN_HUB_TOKEN_ACTIVE", OLD),
        ("SHERATAN_HUB_TOKEN_NEXT", NEW),
        ("SHERATAN_HUB_TOKEN_ROTATION_UNTIL", "2026-01-01T00:00:00Z"),
    ];
    let mut hub = with_env(temp(), &env);
    assert!(is_retired(&health(&hub, OLD)));
    assert_eq!(health(&hub, NEW).status, 200);
    // The old settings come back, as they were before anybody thought of a rotation.
    hub.kill();
    hub.set_env(vec![("SHERATAN_HUB_TOKEN".to_owned(), OLD.to_owned())]);
    hub.restart();
    assert!(is_retired(&health(&hub, OLD)));
    assert_eq!(health(&hub, NEW).status, 200);
    until("the warning", || !hub.audit("TOKEN_CONFIG_REFUSED").is_empty());
    assert_eq!(hub.audit("TOKEN_ROTATION_FINALIZED").len(), 1, "once");
}

#[test]
fn an_operator_rotates_the_hub_s_own_token_at_the_command_line() {
    let hub = Hub::start();
    let old = hub.token();
    let run = hub.run(&["token", "rotate", "--for", "1h"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let new = run.stdout.trim().to_owned();
    assert!(new.starts_with("shr_") && new.len() == 42, "{new}");
    assert!(run.stderr.contains("both are accepted until"), "{run:?}");
    for token in [&old, &new] {
        assert_eq!(control(&hub, token).get("/api/registry").status, 200);
    }
    assert_eq!(hub.token(), old, "the old one has its file until the end");
    let again = hub.run(&["token", "rotate", "--for", "2h"]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("token extend"), "{again:?}");
    assert_eq!(hub.run(&["token", "extend", "--for", "2h"]).code, Some(0));
    control(&hub, &old).post("/mesh/heartbeat", &json!({"node_id": "sleeper"})).ok();
    control(&hub, &old).post("/mesh/heartbeat", &json!({"node_id": "told"})).ok();
    control(&hub, &new).post("/mesh/heartbeat", &json!({"node_id": "told"})).ok();
    let dry = hub.run(&["token", "rotate", "--dry-run"]);
    assert_eq!((dry.code, dry.stdout.trim()), (Some(0), "sleeper"), "{dry:?}");
    let status = hub.run(&["token", "status"]);
    assert!(status.stdout.contains("sleeper") && status.stdout.contains("127.0.0.1"), "{status:?}");
    let cli = |line: &&str| line.starts_with("next") && !line.contains("told");
    assert_eq!(status.stdout.lines().filter(cli).count(), 1, "this command line has switched by itself: {status:?}");
    let finish = hub.run(&["token", "finish"]);
    assert_eq!(finish.code, Some(1));
    assert!(finish.stderr.contains("still use the old one"), "{finish:?}");
    assert_eq!(hub.run(&["token", "finish", "--force"]).code, Some(0));
    assert!(is_retired(&health(&hub, &old)));
    assert_eq!(hub.token(), new, "the file has the next one");
    assert_eq!(hub.run(&["nodes", "list"]).code, Some(0), "and programs on this machine go on");
    assert_eq!(hub.run(&["token", "abort"]).code, Some(1), "nothing is left to take back");
}

#[test]
fn a_rotation_that_only_this_machine_saw_is_finished_without_force() {
    let hub = Hub::start();
    assert_eq!(hub.run(&["token", "rotate", "--for", "1h"]).code, Some(0));
    assert_eq!(hub.run(&["nodes", "list"]).code, Some(0));
    until("the use of the old token is no use of it any more", || hub.run(&["token", "finish"]).code == Some(0));
    assert_eq!(hub.run(&["token", "status"]).code, Some(0));
}

#[test]
fn a_rotation_is_taken_back_and_wrong_ones_are_refused() {
    let hub = with_env(temp(), &[("SHERATAN_HUB_TOKEN", OLD)]);
    let post = |act: &str, body: Value| control(&hub, OLD).post(&format!("/api/tokens/{act}"), &body);
    for (body, error) in [
        (json!({}), "bad_request"),
        (json!({"next_token": "short", "for_sec": 60}), "bad_request"),
        (json!({"next_token": NEW, "rotation_until_utc": "2026-01-01T00:00:00Z"}), "bad_request"),
        (json!({"next_token": NEW, "for_sec": 60, "rotation_until_utc": utc(60)}), "bad_request"),
        (json!({"next_token": OLD, "for_sec": 60}), "same_token"),
        (json!({"next_token": NEW, "for_sec": 60, "odd": 1}), "bad_request"),
    ] {
        let refused = post("rotate", body.clone());
        assert_eq!(refused.error(), error, "{body}");
        let said = refused.json().to_string();
        assert!(!said.contains(OLD) && !said.contains(NEW), "{said}");
    }
    for act in ["finalize", "abort"] {
        assert_eq!(post(act, json!({})).error(), "no_rotation");
    }
    let begun = post("rotate", json!({"next_token": NEW, "for_sec": 600})).ok();
    assert_eq!(begun.get("next_token"), None, "only what the hub made is told");
    let other = post("rotate", json!({"next_token": "another-token-of-this-mesh", "for_sec": 600}));
    assert_eq!(
        (other.error(), other.json()["next"].clone()),
        ("rotation_open".to_owned(), begun["rotation"]["next"].clone())
    );
    assert_eq!(health(&hub, NEW).status, 200);
    control(&hub, NEW).get("/registry").ok();
    assert_eq!(post("abort", json!({})).error(), "token_in_use");
    let file = hub.folder().join("secrets/hub_token_next");
    assert!(file.exists());
    post("abort", json!({"force": true})).ok();
    until("the file is gone", || !file.exists());
    assert_eq!(control(&hub, NEW).get("/registry").json()["reason"], "bad_token");
    assert_eq!(health(&hub, OLD).status, 200);
}

#[test]
fn files_are_read_again_at_sighup() {
    let folder = temp();
    let (next, end) = (folder.path().join("next"), folder.path().join("until"));
    [&next, &end].iter().for_each(|path| std::fs::write(path, "").expect("it is written"));
    let paths = [&next, &end].map(|path| path.to_str().expect("it is UTF-8"));
    let hub = with_env(
        temp(),
        &[
            ("SHERATAN_HUB_TOKEN", OLD),
            ("SHERATAN_HUB_TOKEN_NEXT_FILE", paths[0]),
            ("SHERATAN_HUB_TOKEN_ROTATION_UNTIL_FILE", paths[1]),
        ],
    );
    std::fs::write(&next, format!(" {NEW}\n")).expect("it is written");
    std::fs::write(&end, format!("{}\n", utc(3_600))).expect("it is written");
    hub.reload();
    until("the next token", || health(&hub, NEW).status == 200);
    assert_eq!(health(&hub, OLD).status, 200);
    std::fs::write(&end, "2026-01-01T00:00:00Z").expect("it is written");
    hub.reload();
    until("the end of the window", || is_retired(&health(&hub, OLD)));
    assert_eq!(health(&hub, NEW).status, 200);
}

/// The hub's own token stands in a file that programs on its machine read, so what replaces it has to get there.
#[test]
fn settings_rotate_the_hub_s_own_token_too() {
    let (place, folder) = (temp(), temp());
    let (next, end) = (place.path().join("next"), place.path().join("until"));
    [&next, &end].iter().for_each(|path| std::fs::write(path, "").expect("it is written"));
    let paths = [&next, &end].map(|path| path.to_str().expect("it is UTF-8"));
    let env = [("SHERATAN_HUB_TOKEN_NEXT_FILE", paths[0]), ("SHERATAN_HUB_TOKEN_ROTATION_UNTIL_FILE", paths[1])];
    let mut hub = with_env(folder, &env);
    let old = hub.token();
    std::fs::write(&next, NEW).expect("it is written");
    std::fs::write(&end, utc(3_600)).expect("it is written");
    hub.reload();
    until("the next token", || health(&hub, NEW).status == 200);
    std::fs::write(&end, "2026-01-01T00:00:00Z").expect("it is written");
    hub.reload();
    until("the end of the window", || is_retired(&health(&hub, &old)));
    assert_eq!((hub.token(), hub.run(&["nodes", "list"]).code), (NEW.to_owned(), Some(0)));
    // Settings that still name it must not take the place of a rotation that an operator begins afterwards.
    let third = hub.run(&["token", "rotate", "--for", "1h"]).stdout.trim().to_owned();
    hub.kill();
    hub.restart();
    assert_eq!(hub.run(&["token", "finish", "--force"]).code, Some(0));
    assert_eq!((hub.token(), hub.run(&["nodes", "list"]).code), (third, Some(0)));
}

#[test]
fn what_waits_with_the_old_token_ends_with_it_and_gets_no_job() {
    let hub = with_env(temp(), &[("SHERATAN_HUB_TOKEN", OLD)]);
    let mut old = data(&hub, OLD);
    old.send_request("POST", "/mesh/pull_requests", Some(&json!({"node_id": "a", "wait_ms": 50_000}))).unwrap();
    let mut streamed = control(&hub, OLD).events("/api/events").expect("a stream");
    control(&hub, OLD).post("/api/tokens/rotate", &json!({"next_token": NEW, "for_sec": 600})).ok();
    let mut new = data(&hub, NEW);
    new.send_request("POST", "/mesh/pull_requests", Some(&json!({"node_id": "b", "wait_ms": 50_000}))).unwrap();
    until("both wait", || hub_waiters(&hub) == 2);
    control(&hub, OLD).post("/api/tokens/finalize", &json!({"force": true})).ok();
    let refused = old.receive().unwrap();
    assert!(is_retired(&refused), "{}", refused.json());
    while let Ok(Some(_)) = streamed.receive() {}
    data(&hub, NEW).post("/mesh/submit_request", &json!({"kind": "k"})).ok();
    let leased = new.receive().unwrap().ok();
    assert_eq!(leased["jobs"].as_array().unwrap().len(), 1);
}

fn hub_waiters(hub: &Hub) -> u64 {
    let text = data(hub, NEW).ask("GET", "/metrics", &[("Accept", "text/plain")]).body;
    let text = String::from_utf8(text).expect("it is UTF-8");
    let line = text.lines().find(|line| line.starts_with("sheratan_hub_long_polls ")).expect("the metric is there");
    line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok()).expect("a number") as u64
}

/// Lets the clients of a test end when it fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Twenty clients under continuous load switch one by one; the hub is killed and restarted in the window; one client, a
/// probe, never switches. No request is refused for its token within the window.
#[test]
fn twenty_clients_switch_one_by_one_while_the_hub_is_killed() {
    let hub = Mutex::new(with_env(temp(), &[("SHERATAN_HUB_TOKEN", OLD)]));
    let addrs = {
        let hub = hub.lock().unwrap();
        [hub.control, hub.data]
    };
    // A restarted hub listens on the same ports.
    let [of_control, of_data] = addrs.map(|addr| addr.to_string());
    hub.lock().unwrap().set_args(&["--control-addr", &of_control, "--data-addr", &of_data]);
    let (is_over, answered, switched) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let refused = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        let _ended = OnDrop(&is_over);
        for number in 0..20_u64 {
            let (is_over, answered, switched, refused) = (&is_over, &answered, &switched, &refused);
            threads.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let token = if switched.load(Ordering::Relaxed) > number { NEW } else { OLD };
                    let node = format!("node-{number}");
                    let beat = json!({"node_id": node});
                    let mut client = Client::new(addrs[0], Some(token.to_owned()));
                    let asked = client.try_request("POST", "/mesh/heartbeat", Some(&beat));
                    // Killed: it is asked again, as clients do.
                    let Ok(response) = asked else {
                        std::thread::sleep(Duration::from_millis(20));
                        continue;
                    };
                    answered.fetch_add(1, Ordering::Relaxed);
                    if !matches!(response.status, 200 | 503) {
                        refused.lock().unwrap().push(format!("{number}: {} {}", response.status, response.json()));
                    }
                }
            });
        }
        let wait_for = |more: u64| {
            let from = answered.load(Ordering::Relaxed);
            until("the clients are answered", || answered.load(Ordering::Relaxed) >= from + more);
        };
        wait_for(100);
        let rotate = json!({"next_token": NEW, "for_sec": 600});
        Client::new(addrs[0], Some(OLD.to_owned())).post("/api/tokens/rotate", &rotate).ok();
        for number in 1..=20 {
            switched.store(number, Ordering::Relaxed);
            wait_for(20);
            if number == 10 {
                let mut hub = hub.lock().unwrap();
                hub.kill();
                hub.restart();
            }
        }
        wait_for(200);
        let users = Client::new(addrs[0], Some(NEW.to_owned())).get("/api/tokens").ok();
        let not_switched = users["not_switched"].as_array().cloned();
        assert_eq!(not_switched, Some(vec![]), "{users}");
    });
    assert_eq!(*refused.lock().unwrap(), Vec::<String>::new());
    let hub = hub.into_inner().unwrap();
    let nodes = control(&hub, NEW).get("/registry").ok()["nodes"].clone();
    let nodes = nodes.as_object().unwrap();
    assert!(nodes.len() == 20 && nodes.values().all(|node| node["status"] == "ONLINE"), "{nodes:?}");
    control(&hub, NEW).post("/api/tokens/finalize", &json!({"force": true})).ok();
    assert!(is_retired(&health(&hub, OLD)));
    until("the events", || !hub.audit("TOKEN_RETIRED").is_empty());
    assert_eq!(hub.audit("TOKEN_ROTATION_FINALIZED").len(), 1);
    for event in ["TOKEN_ACCEPTED_NEXT", "TOKEN_OLD_ACCEPTED_IN_WINDOW"] {
        assert!(!hub.audit(event).is_empty(), "{event}");
    }
}

/// The token stands in the files of `secrets` alone, wherever clients put it.
#[test]
fn no_file_but_those_of_the_secrets_has_a_token() {
    let mut hub = Hub::start();
    let old = hub.token();
    let new = control(&hub, &old).post("/api/tokens/rotate", &json!({"for_sec": 600})).ok()["next_token"].clone();
    let new = new.as_str().expect("the hub made one").to_owned();
    for token in [&old, &new] {
        control(&hub, token).get(&format!("/api/registry?token={token}"));
        control(&hub, token).get(&format!("/nowhere/{token}"));
        data(&hub, token).post("/mesh/submit_request", &json!({"kind": "k"})).ok();
    }
    control(&hub, &new).post("/api/tokens/finalize", &json!({"force": true})).ok();
    control(&hub, &old).get(&format!("/nowhere/{old}"));
    assert!(hub.stop().success());
    let mut stack = vec![hub.folder().to_owned()];
    while let Some(folder) = stack.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                if !path.ends_with("secrets") {
                    stack.push(path);
                }
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            for token in [&old, &new] {
                let is_there = bytes.windows(token.len()).any(|part| part == token.as_bytes());
                assert!(!is_there, "{} has a token", path.display());
            }
        }
    }
}

/// A proxy on the hub's machine does not make its clients local.
#[test]
fn a_request_that_a_proxy_forwards_is_not_one_of_this_machine() {
    let hub = with_env(temp(), &[("SHERATAN_HUB_TOKEN", OLD)]);
    let metrics = |header: Option<(&str, &str)>| {
        let mut client = Client::new(hub.control, None);
        client.ask("GET", "/metrics", header.as_slice()).status
    };
    assert_eq!(metrics(None), 200);
    for header in ["X-Forwarded-For", "X-Forwarded-Host", "x-forwarded-proto", "Forwarded", "Via", "X-Real-IP"] {
        assert_eq!(metrics(Some((header, "127.0.0.1"))), 403, "{header}");
        let refused = control(&hub, OLD).ask("POST", "/api/tokens/finalize", &[(header, "::1")]);
        assert_eq!(refused.error(), "admin_local_only", "{header}");
    }
}
