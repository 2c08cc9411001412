//! `scripts/load_test.sh` on a running hub: what it shows, and with which exit code it ends.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::hub::bench;
use sheratan_tests::{Hub, Run};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

/// Runs the script on a data plane, with the token of a hub.
fn load_test(hub: &Hub, data: SocketAddr, args: &[&str]) -> Run {
    let mut script = Command::new("sh");
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/load_test.sh"));
    script.args(["--url", &format!("http://{data}"), "--token-file"]).arg(hub.folder().join("secrets/hub_token"));
    script.args(args).env("SHERATAN_BENCH", bench());
    Run::from(script.output().unwrap())
}

#[test]
fn a_hub_that_throttles_and_recovers_passes_and_is_left_as_it_was() {
    let hub = Hub::start_with(&["--max-queue-depth", "200"]);
    let waiting = hub.submit(json!({"kind": "other"}));
    let run = load_test(&hub, hub.data, &["--json"]);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    let figures: Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(figures["statuses"]["429"].as_u64().unwrap() > 0, "{figures}");
    assert!(
        figures["drops_1m"].as_u64().unwrap() > 0 && figures["queue_depth_most"].as_u64().unwrap() <= 200,
        "{figures}"
    );
    let queued = hub.data().get("/mesh/jobs?status=queued").ok();
    let queued: Vec<_> = queued["jobs"].as_array().unwrap().iter().map(|job| &job["job_id"]).collect();
    assert_eq!(queued, [&json!(waiting)], "its own jobs are done, another's is not touched");
    let run = load_test(&hub, hub.data, &[]);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("the metrics showed the throttling"), "{}", run.stdout);
}

#[test]
fn a_hub_that_refuses_nothing_fails_and_one_that_cannot_be_asked_is_told_from_it() {
    let hub = Hub::start();
    let run = load_test(&hub, hub.data, &["--duration", "1", "--connections", "1"]);
    assert_eq!(run.code, Some(1), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("the hub refused submits"), "{}", run.stdout);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = load_test(&hub, nobody, &["--duration", "1"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{}", run.stderr);
    assert!(run.stderr.contains(&nobody.to_string()), "{}", run.stderr);
    assert_eq!(load_test(&hub, hub.data, &["--nonsense"]).code, Some(2));
}
