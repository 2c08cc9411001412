//! What clients are answered while the journal fails or hangs: refused is certainly not done, unknown may be.

use crate::engine::Stage;
use crate::scene;
use sheratan_core::Millis;
use sheratan_io::service::Plane;

const SUBMIT: (&str, &str, &str) = ("POST", "/mesh/submit_request", r#"{"kind":"k"}"#);

fn submit(stage: &mut Stage, client: &crate::engine::Client) {
    stage.send(client, SUBMIT.0, SUBMIT.1, SUBMIT.2);
}

#[test]
fn a_short_failure_of_the_journal_only_delays_a_reply() {
    let mut stage = Stage::new(scene::settings());
    let client = stage.connect();
    submit(&mut stage, &client);
    stage.fail();
    stage.pass(Millis::from_secs(29));
    assert_eq!(client.statuses(), [0; 0], "it is held");
    stage.commit();
    assert_eq!(client.statuses(), [200]);
}

#[test]
fn what_was_applied_before_a_failure_is_unknown_after_thirty_seconds_and_what_came_later_was_refused() {
    let mut stage = Stage::new(scene::settings());
    let (before, after) = (stage.connect(), stage.connect());
    submit(&mut stage, &before);
    stage.fail();
    submit(&mut stage, &after);
    let refused = after.received();
    assert!(refused.contains(" 503 ") && refused.contains(r#""applied":"no""#), "{refused}");
    stage.pass(Millis::new(29_999));
    assert_eq!(before.received(), "");
    stage.pass(Millis::new(1));
    let unknown = before.received();
    assert!(unknown.contains(" 503 ") && unknown.contains(r#""applied":"unknown""#), "{unknown}");
    stage.commit();
    assert_eq!(stage.engine.service_ref().hub().counts().queued, 1, "it was done, as it may have been");
}

#[test]
fn an_entry_of_a_batch_says_that_it_was_not_applied() {
    let mut stage = Stage::new(scene::settings());
    let client = stage.connect();
    submit(&mut stage, &client);
    stage.fail();
    let other = stage.connect();
    stage.send(&other, "POST", "/mesh/submit_requests", r#"{"requests":[{"kind":"a"},{"kind":"b"}]}"#);
    assert_eq!(other.received().matches(r#""applied":"no""#).count(), 2);
}

/// A disk that hangs reports nothing.
#[test]
fn a_commit_that_does_not_return_is_a_failure_after_five_seconds() {
    let mut stage = Stage::new(scene::settings());
    let (client, probe, late) = (stage.connect(), stage.connect(), stage.connect());
    submit(&mut stage, &client);
    stage.pass(Millis::new(4_999));
    stage.send(&probe, "GET", "/readyz", "");
    assert_eq!(probe.statuses(), [200]);
    stage.pass(Millis::new(1));
    stage.send(&probe, "GET", "/readyz", "");
    let reply = probe.received();
    assert!(reply.contains(" 503 ") && reply.contains("has not answered since 2026-01-15T18:00:00.000Z"), "{reply}");
    stage.send(&probe, "GET", "/livez", "");
    stage.send(&probe, "GET", "/metrics", "");
    assert_eq!(probe.statuses(), [200, 200]);
    submit(&mut stage, &late);
    assert!(late.received().contains(r#""applied":"no""#), "it is refused before it is applied");
    stage.pass(Millis::from_secs(25));
    assert!(client.received().contains(r#""applied":"unknown""#));
    stage.commit();
    stage.send(&probe, "GET", "/readyz", "");
    submit(&mut stage, &late);
    stage.commit();
    assert_eq!((probe.statuses(), late.statuses()), (vec![200], vec![200]));
}

#[test]
fn a_read_of_a_job_that_is_not_durable_waits_as_long_as_its_submit() {
    let mut stage = Stage::new(scene::settings());
    let (client, reader) = (stage.connect(), stage.connect());
    submit(&mut stage, &client);
    stage.fail();
    let path = format!("/mesh/jobs/{}", stage.engine.service_ref().hub().ids().job_id(sheratan_core::JobSeq::new(1)));
    stage.send(&reader, "GET", &path, "");
    assert_eq!(reader.statuses(), [0; 0]);
    stage.commit();
    assert_eq!((client.statuses(), reader.statuses()), (vec![200], vec![200]));
}

/// Its reply was made before the journal failed, and shows what a crash may undo.
#[test]
fn a_held_read_of_what_is_not_durable_is_not_sent_because_the_journal_fails() {
    let reads = [
        (Plane::Data, "/mesh/jobs"),
        (Plane::Data, "/mesh/kinds"),
        (Plane::Data, "/mesh/kinds/k"),
        (Plane::Data, "/mesh/weights"),
        (Plane::Data, "/mesh/orphans"),
        (Plane::Data, "/mesh/dlq"),
        (Plane::Data, "/mesh/dlq/acts"),
        (Plane::Data, "/mesh/results/n"),
        (Plane::Control, "/api/nodes/n"),
    ];
    let mut stage = Stage::new(scene::settings());
    let nodes = stage.connect_from(Plane::Control, scene::LOCAL);
    stage.send(&nodes, "POST", "/mesh/heartbeat", r#"{"node_id":"n"}"#);
    stage.commit();
    stage.send(&nodes, "POST", "/api/nodes/n/drain", "");
    let clients = reads.map(|(plane, path)| {
        let client = stage.connect_from(plane, scene::LOCAL);
        stage.send(&client, "GET", path, "");
        (path, client)
    });
    stage.fail();
    for (path, client) in &clients {
        assert_eq!(client.received(), "", "{path} is held");
    }
    let late = stage.connect_from(Plane::Control, scene::LOCAL);
    stage.send(&late, "GET", "/api/nodes/n", "");
    assert_eq!(late.statuses(), [503], "it does not show that the node is drained");
    stage.commit();
    for (path, client) in &clients {
        assert_eq!(client.statuses(), [200], "{path}");
    }
}
