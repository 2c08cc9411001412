//! The machine's clock: it is set by hand and by the network, starts in 1970 or 2100, and stands still for nobody while
//! the machine sleeps. Durations follow the hub's own time, instants the calendar.
//!
//! The hub runs with a preloaded library whose clocks show what files say.
#![cfg(target_os = "linux")]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sheratan_tests::shim::Shim;
use sheratan_tests::{Client, Hub, Options, command, until};
use tempfile::TempDir;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// Differences that are not the clock's: a test that is slow, and the second that a step may take.
const SLACK: i64 = 20;

fn hub_on(machine: &Shim) -> Hub {
    Hub::start_in(TempDir::new().unwrap(), Options { args: Vec::new(), env: machine.clocks() })
}

/// What the machine's clock shows that is set to `ahead`, in `later` seconds.
fn wall(ahead: i64, later: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(ahead + later)
}

/// Whether a text is the instant, or one of the seconds about it.
fn is_about(text: &Value, at: Timestamp) -> bool {
    let shown: Timestamp = text.as_str().unwrap_or_default().parse().unwrap_or_else(|_| panic!("{text} is no instant"));
    shown.duration_since(at).abs() <= SignedDuration::from_secs(SLACK)
}

#[track_caller]
fn assert_about(text: &Value, at: Timestamp) {
    assert!(is_about(text, at), "{text} is not about {at}");
}

fn submit(hub: &Hub, body: &Value) -> Value {
    hub.data().post("/mesh/submit_request", body).ok()["job_id"].clone()
}

fn job(hub: &Hub, id: &Value) -> Value {
    hub.data().get(&format!("/mesh/jobs/{}", id.as_str().unwrap())).ok()["job"].clone()
}

fn lease(hub: &Hub, kind: &str, secs: i64) -> Value {
    let body = json!({"node_id": "n", "kinds": [kind], "lease_sec": secs});
    hub.data().post("/mesh/pull_requests", &body).ok()["jobs"][0].clone()
}

/// The header of any reply.
fn date(hub: &Hub) -> Timestamp {
    let reply = Client::new(hub.control, None).get("/livez");
    jiff::fmt::rfc2822::parse(reply.header("date").unwrap()).unwrap().timestamp()
}

fn await_date(hub: &Hub, ahead: i64) {
    let is_set = || date(hub).duration_since(wall(ahead, 0)).abs() <= SignedDuration::from_secs(SLACK);
    until("the hub follows the machine's clock", is_set);
}

/// The clock is set from `before` seconds ahead of the right time to `after`, in a running hub with work.
fn set_in_a_running_hub(before: i64, after: i64) {
    let Some(machine) = Shim::build() else { return };
    machine.set_clock(before);
    let hub = hub_on(&machine);
    let leased = submit(&hub, &json!({"kind": "leased"}));
    let delayed = submit(&hub, &json!({"kind": "delayed", "delay_ms": 1_800_000}));
    assert_about(&lease(&hub, "leased", 300)["lease_until_utc"], wall(before, 300));
    let tomorrow = submit(&hub, &json!({"kind": "t", "run_at_utc": wall(after, DAY).to_string()}));
    let early = submit(&hub, &json!({"kind": "e", "run_at_utc": wall(after, -HOUR).to_string()}));

    machine.set_clock(after);
    await_date(&hub, after);
    // Durations go on; what is left of them is shown on the new calendar.
    assert_eq!(job(&hub, &leased)["status"], "leased");
    assert_about(&job(&hub, &leased)["lease_until_utc"], wall(after, 300));
    assert_about(&job(&hub, &leased)["submitted_utc"], wall(after, 0));
    assert_eq!(job(&hub, &delayed)["status"], "scheduled");
    assert_about(&job(&hub, &delayed)["run_at_utc"], wall(after, 1_800));
    // Instants are on the calendar, whether they were named before or after the clock was set.
    until("an hour ago has come", || job(&hub, &early)["status"] == "queued");
    if wall(after, DAY) > wall(before, 0) {
        assert_eq!(job(&hub, &tomorrow)["status"], "scheduled");
        assert_about(&job(&hub, &tomorrow)["run_at_utc"], wall(after, DAY));
    }
    let past = submit(&hub, &json!({"kind": "p", "run_at_utc": wall(after, -HOUR).to_string()}));
    assert_eq!(job(&hub, &past)["status"], "queued");
    let later = submit(&hub, &json!({"kind": "l", "run_at_utc": wall(after, DAY).to_string()}));
    assert_eq!(job(&hub, &later)["status"], "scheduled");
    assert_about(&lease(&hub, "p", 60)["lease_until_utc"], wall(after, 60));

    let mut intruder = Client::new(hub.control, Some("another-token-of-someone".into()));
    assert_eq!(intruder.get("/api/registry").status, 403);
    until("the audit log has it", || hub.audit("AUTH_FAILURE").len() == 1);
    assert_about(&hub.audit("AUTH_FAILURE")[0]["ts"], wall(after, 0));
    let folder = hub.folder().to_str().unwrap();
    let mut query = command(&["audit", "query", "--since", "10m", "--event", "AUTH_FAILURE", "--data-dir", folder]);
    let found = query.envs(machine.clocks()).output().unwrap();
    assert!(String::from_utf8_lossy(&found.stdout).contains("AUTH_FAILURE"), "{found:?}");
    until("the clock's step is audited", || hub.audit("CLOCK_SET").len() == 1);
    let by_ms = hub.audit("CLOCK_SET")[0]["details"]["by_ms"].as_i64().unwrap();
    assert!((by_ms / 1_000 - (after - before)).abs() <= SLACK, "{by_ms}");
}

#[test]
fn a_clock_that_starts_in_1970_is_followed_when_it_is_set() {
    set_in_a_running_hub(60 - Timestamp::now().as_second(), 0);
}

#[test]
fn a_clock_that_starts_before_1970_is_followed_when_it_is_set() {
    let Some(machine) = Shim::build() else { return };
    machine.set_clock(-Timestamp::now().as_second() - 5 * YEAR);
    let hub = hub_on(&machine);
    let early = submit(&hub, &json!({"kind": "k"}));
    assert_eq!(job(&hub, &early)["status"], "queued");
    machine.set_clock(0);
    await_date(&hub, 0);
    assert_about(&lease(&hub, "k", 300)["lease_until_utc"], wall(0, 300));
}

#[test]
fn a_clock_that_was_63_hours_behind_is_followed_when_it_is_set() {
    set_in_a_running_hub(-63 * HOUR, 0);
}

#[test]
fn a_clock_that_starts_in_2100_is_followed_when_it_is_set() {
    set_in_a_running_hub(74 * YEAR, 0);
}

#[test]
fn a_clock_that_is_set_back_and_forth_is_followed() {
    let Some(machine) = Shim::build() else { return };
    let hub = hub_on(&machine);
    let tomorrow = submit(&hub, &json!({"kind": "k", "run_at_utc": wall(0, DAY).to_string()}));
    for ahead in [-3 * HOUR, 20 * HOUR, -50 * YEAR, 0] {
        machine.set_clock(ahead);
        await_date(&hub, ahead);
        assert_eq!(job(&hub, &tomorrow)["status"], "scheduled", "{ahead} s");
    }
    machine.set_clock(2 * DAY);
    until("tomorrow has come", || job(&hub, &tomorrow)["status"] == "queued");
}

#[test]
fn a_lease_and_a_long_poll_stand_still_while_the_machine_sleeps_and_delays_pass() {
    let Some(machine) = Shim::build() else { return };
    let hub = hub_on(&machine);
    hub.control().post("/mesh/heartbeat", &json!({"node_id": "n"})).ok();
    let leased = submit(&hub, &json!({"kind": "leased"}));
    lease(&hub, "leased", 300);
    let short = submit(&hub, &json!({"kind": "short", "ttl_sec": 3_600}));
    let late = submit(&hub, &json!({"kind": "late", "delay_ms": 19 * HOUR * 1_000}));
    let mut poll = hub.data();
    let body = json!({"node_id": "n", "kinds": ["late"], "wait_ms": 50_000});
    poll.send_request("POST", "/mesh/pull_requests", Some(&body)).unwrap();
    let waits = |text: String| text.lines().any(|line| line == "sheratan_hub_long_polls 1");
    until("the poll waits", || {
        let metrics = hub.data().ask("GET", "/metrics", &[("Accept", "text/plain")]);
        waits(String::from_utf8(metrics.body).unwrap())
    });

    machine.sleep(20 * HOUR);
    let got = poll.receive().unwrap().ok();
    assert_eq!(got["jobs"][0]["job_id"], late, "{got}");
    assert_about(&got["jobs"][0]["lease_until_utc"], wall(20 * HOUR, 300));
    assert_eq!(job(&hub, &leased)["status"], "leased");
    assert_about(&job(&hub, &leased)["lease_until_utc"], wall(20 * HOUR, 300));
    assert_eq!(job(&hub, &short)["status"], "expired");
    let nodes = hub.control().get("/api/registry").ok();
    assert_eq!(nodes["nodes"]["n"]["status"], "ONLINE", "{nodes}");
    assert_eq!(hub.audit("CLOCK_SET").len(), 0, "the calendar is as it was");
}

#[test]
fn a_hub_goes_on_with_its_calendar_after_a_restart() {
    let Some(machine) = Shim::build() else { return };
    machine.set_clock(74 * YEAR);
    let mut hub = hub_on(&machine);
    let leased = submit(&hub, &json!({"kind": "leased"}));
    lease(&hub, "leased", 3_600);
    machine.set_clock(0);
    await_date(&hub, 0);
    let tomorrow = submit(&hub, &json!({"kind": "k", "run_at_utc": wall(0, DAY).to_string()}));
    for _ in 0..2 {
        hub.kill();
        hub.restart();
        assert_eq!(job(&hub, &tomorrow)["status"], "scheduled");
        assert_about(&job(&hub, &leased)["lease_until_utc"], wall(0, 3_600));
        assert_eq!(hub.stop().code(), Some(0));
        hub.restart();
    }
}

#[test]
fn durations_pass_while_the_hub_is_down_and_stand_still_if_its_clock_was_set_back() {
    let Some(machine) = Shim::build() else { return };
    let mut hub = hub_on(&machine);
    let leased = submit(&hub, &json!({"kind": "leased"}));
    lease(&hub, "leased", 7_200);
    let delayed = submit(&hub, &json!({"kind": "delayed", "delay_ms": 2 * HOUR * 1_000}));
    hub.kill();
    machine.set_clock(HOUR);
    hub.restart();
    assert_about(&job(&hub, &delayed)["run_at_utc"], wall(HOUR, HOUR));
    assert_about(&job(&hub, &leased)["lease_until_utc"], wall(HOUR, HOUR));
    hub.kill();
    machine.set_clock(-HOUR);
    hub.restart();
    until("it says that the clock is behind", || hub.said().contains("behind the journal"));
    assert_about(&job(&hub, &delayed)["run_at_utc"], wall(-HOUR, HOUR));
    assert_about(&job(&hub, &leased)["lease_until_utc"], wall(-HOUR, HOUR));
}

#[test]
fn a_start_with_a_clock_years_behind_the_journal_is_refused_until_it_is_accepted() {
    let Some(machine) = Shim::build() else { return };
    machine.set_clock(3 * YEAR);
    let mut hub = hub_on(&machine);
    let leased = submit(&hub, &json!({"kind": "leased"}));
    lease(&hub, "leased", 3_600);
    assert_eq!(hub.stop().code(), Some(0));
    machine.set_clock(0);

    let folder = hub.folder().to_str().unwrap().to_owned();
    let addrs = ["--control-addr", "127.0.0.1:0", "--data-addr", "127.0.0.1:0", "--clock-wait-sec", "0"];
    let args = [&["serve", "--data-dir", &folder], &addrs[..]].concat();
    let refused = command(&args).envs(machine.clocks()).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let year = |ahead| wall(ahead, 0).to_string()[..10].to_owned();
    for part in [&*year(0), &*year(3 * YEAR), "--accept-clock"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }

    hub.set_args(&["--accept-clock"]);
    hub.restart();
    assert_about(&job(&hub, &leased)["lease_until_utc"], wall(0, 3_600));
    assert_eq!(hub.stop().code(), Some(0));
    hub.set_args(&["--clock-wait-sec", "0"]);
    hub.restart();
    assert_about(&job(&hub, &leased)["lease_until_utc"], wall(0, 3_600));
}

#[test]
fn a_start_waits_for_a_clock_that_was_not_set_yet() {
    let Some(machine) = Shim::build() else { return };
    let mut hub = hub_on(&machine);
    let leased = submit(&hub, &json!({"kind": "leased"}));
    lease(&hub, "leased", 3_600);
    hub.kill();
    machine.set_clock(60 - Timestamp::now().as_second());
    hub.begin_restart();
    until("it says what it waits for", || hub.said().contains("waiting 60 s for the machine's clock"));
    assert_eq!(Client::new(hub.control, None).get("/livez").status, 200);
    assert_eq!(Client::new(hub.control, None).get("/readyz").status, 503);
    machine.set_clock(0);
    until("it serves", || Client::new(hub.control, None).get("/readyz").status == 200);
    assert_about(&job(&hub, &leased)["lease_until_utc"], wall(0, 3_600));
}
