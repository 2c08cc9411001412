//! Leases whose reply was not sent: the hub takes them back, and the next node gets the job at once.

use crate::engine::{Client, Stage};
use crate::scene;
use sheratan_core::{JobSeq, Millis};

/// A hub with one durable job and a pull for it whose batch is at the journal.
fn pulled(wait_ms: u64) -> (Stage, Client) {
    let mut stage = Stage::new(scene::settings());
    let client = stage.connect();
    let pull = format!("/mesh/pull_requests/n?wait_ms={wait_ms}");
    if wait_ms > 0 {
        stage.send(&client, "GET", &pull, "");
    }
    let submitter = stage.connect();
    stage.send(&submitter, "POST", "/mesh/submit_request", r#"{"kind":"k","max_attempts":1}"#);
    if wait_ms == 0 {
        stage.commit();
        stage.send(&client, "GET", &pull, "");
    }
    (stage, client)
}

/// How many jobs are leased, how many wait, and how many attempts of the first job ended.
fn state(stage: &Stage) -> (u64, u64, usize) {
    let hub = stage.engine.service_ref().hub();
    let ended =
        hub.queue().get(JobSeq::new(1)).map_or(0, |job| job.attempts().filter(|a| a.end.at().is_some()).count());
    (hub.counts().leased, hub.counts().queued, ended)
}

#[test]
fn the_leases_of_a_client_that_resets_while_the_disk_works_are_taken_back() {
    for wait_ms in [0, 30_000] {
        let (mut stage, client) = pulled(wait_ms);
        assert_eq!(state(&stage), (1, 0, 0));
        stage.reset(&client);
        stage.commit();
        assert_eq!(state(&stage), (0, 1, 1), "wait_ms={wait_ms}");
        let other = stage.connect();
        stage.send(&other, "GET", "/mesh/pull_requests/other", "");
        stage.commit();
        let reply = other.received();
        assert!(reply.contains(r#""attempt":2"#), "{reply}");
    }
}

#[test]
fn the_leases_of_a_reply_whose_first_write_fails_are_taken_back() {
    let (mut stage, client) = pulled(0);
    client.vanish();
    stage.commit();
    assert_eq!(state(&stage), (0, 1, 1));
}

#[test]
fn the_leases_of_a_reply_behind_one_that_nobody_reads_are_taken_back() {
    let (mut stage, client) = pulled(0);
    client.block(true);
    stage.send(&client, "GET", "/livez", "");
    stage.commit();
    assert_eq!(state(&stage), (1, 0, 0), "the client may still read");
    stage.reset(&client);
    stage.commit();
    assert_eq!(state(&stage), (0, 1, 1));
}

#[test]
fn leases_that_are_taken_back_while_the_journal_works_leave_nothing_undone() {
    let (mut stage, client) = pulled(0);
    let waiting = stage.connect();
    client.block(true);
    stage.commit();
    stage.send(&waiting, "GET", "/mesh/pull_requests/other?wait_ms=30000", "");
    // In this round a batch is handed over, and then the first client's reply cannot be written.
    client.vanish();
    stage.engine.note(client.id(), false, false, true);
    let submitter = stage.connect();
    stage.send(&submitter, "POST", "/mesh/submit_request", r#"{"kind":"another","requires":["x"]}"#);
    assert_eq!(state(&stage).0, 1, "the other node has the lease");
    assert!(stage.engine.has_ready(), "its events wait for the logs");
    assert!(stage.engine.next_timeout().is_some());
    stage.commit();
    let reply = waiting.received();
    assert!(reply.contains(r#""attempt":2"#), "{reply}");
    assert!(!stage.engine.has_ready());
}

#[test]
fn the_leases_of_a_reply_that_was_sent_stand() {
    let (mut stage, client) = pulled(0);
    stage.commit();
    assert_eq!(client.statuses(), [200]);
    stage.reset(&client);
    stage.commit();
    assert_eq!(state(&stage), (1, 0, 0), "the node may have read it");
}

#[test]
fn the_leases_of_a_pull_that_was_answered_as_unknown_are_taken_back_when_the_journal_is_back() {
    let (mut stage, client) = pulled(0);
    stage.fail();
    stage.pass(Millis::from_secs(30));
    assert_eq!(client.statuses(), [503]);
    assert_eq!(state(&stage), (1, 0, 0));
    stage.commit();
    assert_eq!(state(&stage), (0, 1, 1));
}

#[test]
fn the_leases_of_a_pull_with_a_result_are_taken_back_and_the_result_stands() {
    let (mut stage, client) = pulled(0);
    stage.commit();
    let submitter = stage.connect();
    stage.send(&submitter, "POST", "/mesh/submit_request", r#"{"kind":"k"}"#);
    stage.commit();
    let job = stage.engine.service_ref().hub().ids().job_id(JobSeq::new(1));
    let body = format!(r#"{{"job_id":"{job}","node_id":"n","ok":true,"pull":{{"max":1}}}}"#);
    stage.send(&client, "POST", "/mesh/submit_result", &body);
    stage.reset(&client);
    stage.commit();
    let counts = stage.engine.service_ref().hub().counts();
    assert_eq!((counts.leased, counts.queued, counts.retained), (0, 1, 1));
}

#[test]
fn a_job_whose_replies_are_never_sent_is_taken_back_three_times_and_then_charged() {
    let (mut stage, client) = pulled(0);
    stage.reset(&client);
    stage.commit();
    for taken in 2..=4 {
        let client = stage.connect();
        stage.send(&client, "GET", "/mesh/pull_requests/n", "");
        stage.reset(&client);
        stage.commit();
        assert_eq!(state(&stage).1, u64::from(taken < 4), "{taken}");
    }
    stage.pass(Millis::from_secs(300));
    let hub = stage.engine.service_ref().hub();
    assert_eq!((hub.counts().dead, hub.counts().leased), (1, 0), "its only attempt is charged");
}
