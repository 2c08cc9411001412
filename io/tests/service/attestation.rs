//! What nodes attest: answered when it is durable, and told to the alerts' file up to a limit.

use crate::engine::Stage;
use crate::scene::{self, LOCAL, NOW};
use sheratan_core::{Attestation, Command, Health, Heartbeat, Millis, Name, NameSet, Timestamp, Zone};
use sheratan_io::service::{Plane, Service};

/// Lines of `alerts.jsonl` in a minute that are events of the audit log.
const LINES_MAX: usize = 60;

#[test]
fn a_new_attestation_is_answered_when_it_is_durable_and_a_known_one_at_once() {
    let mut stage = Stage::new(scene::settings());
    let node = stage.connect_from(Plane::Control, LOCAL);
    let body = r#"{"node_id":"n","attestation":{"build_id":"b","capability_hash":"h"}}"#;
    stage.send(&node, "POST", "/mesh/heartbeat", body);
    assert_eq!(node.statuses(), [0; 0], "a crash may still take the baseline back");
    stage.commit();
    assert_eq!(node.statuses(), [200]);
    stage.fail();
    let again = stage.connect_from(Plane::Control, LOCAL);
    stage.send(&again, "POST", "/mesh/heartbeat", body);
    assert_eq!(again.statuses(), [200], "it changes nothing");
}

fn attest(service: &mut Service, now: Timestamp, build: &str) {
    let name = |text: &str| Name::new(text).expect("a name");
    let attestation = Attestation { build_id: Some(name(build)), capability_hash: None, runtime: None };
    let heartbeat = Heartbeat {
        node: name("n"),
        zone: Zone::default(),
        capabilities: NameSet::EMPTY,
        health: Health::Green,
        endpoint: None,
        labels: None,
        attestation: Some(Box::new(attestation)),
        signing: None,
    };
    service.command(now, Command::Heartbeat(heartbeat)).expect("the journal works");
    service.settle(now);
}

/// Warns about the node so often; returns the lines for the alerts' file.
fn warn(service: &mut Service, now: Timestamp, times: usize) -> usize {
    for _ in 0..times {
        attest(service, now, "first");
        attest(service, now, "second");
    }
    service.alert_lines().drain(..).filter(|line| line.change.is_none()).count()
}

#[test]
fn a_node_that_changes_again_and_again_fills_a_minute_of_the_alerts_file_and_no_more() {
    let mut service = scene::service(scene::settings());
    assert_eq!(warn(&mut service, NOW, LINES_MAX - 1), LINES_MAX - 1);
    assert_eq!(warn(&mut service, NOW, 1), 1, "the last of the minute");
    assert_eq!(warn(&mut service, NOW, 1), 0);
    let late = NOW + Millis::new(59_999);
    assert_eq!(warn(&mut service, late, 1), 0);
    assert_eq!(warn(&mut service, late + Millis::new(1), 1), 1, "another minute");
}
