//! Sockets: when they are read again.

use crate::engine::{Stage, request};
use crate::scene;

#[test]
fn each_request_of_a_connection_is_answered_where_only_a_read_that_would_block_raises_the_next_event() {
    let mut stage = Stage::new(scene::settings());
    let client = stage.connect();
    client.rearm_by_would_block();
    for _ in 0..3 {
        stage.send(&client, "GET", "/livez", "");
        // The loop runs again for as long as a socket may hold bytes.
        while stage.engine.has_ready() {
            stage.round();
        }
        assert_eq!(client.statuses(), [200]);
    }
}

#[test]
fn a_poll_whose_client_closed_its_writing_side_meanwhile_is_answered_at_once() {
    let mut stage = Stage::new(scene::settings());
    let client = stage.connect();
    stage.put(&client, &request("POST", "/mesh/pull_requests", r#"{"node_id":"n","wait_ms":60000}"#));
    stage.end(&client);
    stage.round();
    while stage.engine.has_ready() {
        stage.round();
    }
    stage.commit();
    assert_eq!(client.statuses(), [200]);
}

#[test]
fn a_request_behind_one_that_waits_for_the_journal_is_applied_before_the_commit() {
    let mut stage = Stage::new(scene::settings());
    let client = stage.connect();
    stage.put(&client, &request("POST", "/mesh/submit_request", r#"{"kind":"k"}"#).repeat(2));
    stage.round();
    while stage.engine.has_ready() {
        stage.round();
    }
    assert_eq!(stage.engine.service().hub().counts().queued, 2);
    stage.commit();
    assert_eq!(client.statuses(), [200, 200]);
}
