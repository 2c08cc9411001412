//! Reads of jobs: changes that a crash may undo are not shown, even while the journal is down; all others are.

use crate::scene::{self, NOW, ask, ask_at};
use sheratan_core::{JobSeq, Millis, Timestamp};
use sheratan_io::audit::Room;
use sheratan_io::service::Service;

fn get(service: &mut Service, path: &str) -> (u16, String) {
    ask(service, "GET", path, "").expect("it is answered at once")
}

/// A hub with durable jobs 1 and 2, which then leased job 2 and accepted job 3, and whose disk is full.
fn failed() -> (Service, [String; 4]) {
    let mut service = scene::service(scene::settings());
    let submit = |service: &mut Service, kind: &str| {
        let body = format!(r#"{{"kind":"{kind}"}}"#);
        let (status, text) = ask(service, "POST", "/mesh/submit_request", &body).expect("it is answered at once");
        assert_eq!(status, 200, "{text}");
    };
    submit(&mut service, "first");
    submit(&mut service, "second");
    service.set_durable(service.last_seq());
    let pull = r#"{"node_id":"n","kinds":["second"]}"#;
    let (status, text) = ask(&mut service, "POST", "/mesh/pull_requests", pull).expect("there is a job");
    assert!(status == 200 && text.contains("lease_id"), "{text}");
    submit(&mut service, "third");
    service.journal_failed("the disk is full".into());
    let path = |seq| format!("/mesh/jobs/{}", service.hub().ids().job_id(JobSeq::new(seq)));
    let paths = [1, 2, 3, 4].map(path);
    (service, paths)
}

#[test]
fn a_job_is_shown_while_the_journal_fails_only_if_all_its_changes_are_durable() {
    let (mut service, [untouched, leased, new, unknown]) = failed();
    let (status, text) = get(&mut service, &untouched);
    assert!(status == 200 && text.contains(r#""status":"queued""#), "{text}");
    for path in [&*leased, &*new, &*unknown, "/mesh/jobs"] {
        assert_eq!(ask(&mut service, "GET", path, ""), None, "{path} waits");
    }
    assert_eq!(get(&mut service, "/mesh/jobs/job_1").0, 404, "what is no id of this hub stays none");
}

/// A hub whose disk is full, and which has changed each thing that operators read since its last durable record. The
/// paths are those of all reads of the data plane that show more than one job.
fn operated() -> (Service, Vec<String>) {
    let mut service = scene::service(scene::settings());
    let mut done = |method: &str, path: &str, body: &str| {
        let (status, text) = ask(&mut service, method, path, body).expect("it is answered at once");
        assert_eq!(status, 200, "{path}: {text}");
    };
    done("POST", "/mesh/submit_request", r#"{"kind":"k","max_attempts":1}"#);
    done("POST", "/mesh/pull_requests", r#"{"node_id":"n"}"#);
    service.set_durable(service.last_seq());
    let job = service.hub().ids().job_id(JobSeq::new(1)).to_string();
    let mut done = |method: &str, path: &str, body: &str| {
        let (status, text) = ask(&mut service, method, path, body).expect("it is answered at once");
        assert_eq!(status, 200, "{path}: {text}");
    };
    done("POST", "/mesh/submit_result", &format!(r#"{{"job_id":"{job}","ok":false,"error":"x","retryable":false}}"#));
    done("POST", "/mesh/submit_result", r#"{"job_id":"job_of_another_hub","ok":true}"#);
    done("PUT", "/mesh/kinds/k", r#"{"max_inflight":1}"#);
    done("PUT", "/mesh/weights", r#"{"weights":{"k":2}}"#);
    done("POST", "/mesh/dlq/requeue", r#"{"kind":"other"}"#);
    service.journal_failed("the disk is full".into());
    let paths = [
        "/mesh/kinds",
        "/mesh/kinds/k",
        "/mesh/kinds/unknown",
        "/mesh/weights",
        "/mesh/orphans",
        "/mesh/orphans/0",
        "/mesh/dlq",
        "/mesh/dlq/acts",
        "/mesh/dlq/acts/0",
        "/mesh/jobs",
        "/mesh/results/n",
    ];
    let of_job = ["/mesh/dlq/JOB", "/mesh/jobs/JOB", "/mesh/jobs/JOB/explain"].map(|path| path.replace("JOB", &job));
    (service, paths.map(str::to_owned).into_iter().chain(of_job).collect())
}

#[test]
fn what_operators_read_waits_for_the_journal() {
    let (mut service, paths) = operated();
    for path in &paths {
        for method in ["GET", "HEAD"] {
            assert_eq!(ask(&mut service, method, path, ""), None, "{method} {path} waits");
        }
    }
    service.set_durable(service.last_seq());
    service.journal_recovered(NOW);
    let expected: Vec<_> = (0..2 * paths.len()).map(|_| (200, true)).collect();
    assert_eq!(late(&mut service), expected);
}

#[test]
fn what_operators_read_is_shown_while_the_journal_fails_if_it_is_durable() {
    let (mut service, paths) = operated();
    service.set_durable(service.last_seq());
    for path in &paths {
        assert_eq!(get(&mut service, path).0, 200, "{path}");
    }
}

/// They add nothing to it.
#[test]
fn reads_are_answered_while_the_audit_log_accepts_nothing() {
    let (mut service, paths) = operated();
    service.set_durable(service.last_seq());
    service.set_audit_room(Room::None);
    for path in &paths {
        assert_eq!(get(&mut service, path).0, 200, "{path}");
    }
    let (status, text) = ask(&mut service, "PUT", "/mesh/kinds/k", r#"{"paused":true}"#).expect("it never waits");
    assert!(status == 503 && text.contains("overloaded"), "{text}");
}

/// It would count letters that a crash may take back.
#[test]
fn a_dry_run_is_refused_while_the_journal_does_not_hold_what_it_counts() {
    let (mut service, _) = operated();
    for path in ["/mesh/dlq/requeue", "/mesh/dlq/discard"] {
        let (status, text) = ask(&mut service, "POST", path, r#"{"all":true,"dry_run":true}"#).expect("it never waits");
        assert!(status == 503 && text.contains(r#""applied":"no""#), "{path}: {text}");
    }
    service.set_durable(service.last_seq());
    let (status, text) = ask(&mut service, "POST", "/mesh/dlq/requeue", r#"{"all":true,"dry_run":true}"#).unwrap();
    assert!(status == 200 && text.contains(r#""matched":1"#), "{text}");
}

#[test]
fn a_read_that_waits_for_the_journal_is_answered_when_it_recovers() {
    let (mut service, [_, leased, new, unknown]) = failed();
    for path in [&*leased, &*new, &*unknown, "/mesh/jobs"] {
        assert_eq!(ask(&mut service, "GET", path, ""), None, "{path} waits");
    }
    service.set_durable(service.last_seq());
    service.journal_recovered(NOW);
    assert_eq!(late(&mut service), [(200, true), (200, true), (404, true), (200, true)]);
}

#[test]
fn a_read_waits_thirty_seconds_for_the_journal() {
    let (mut service, [_, leased, ..]) = failed();
    assert_eq!(ask(&mut service, "GET", &leased, ""), None, "it waits");
    service.handle_timeout(NOW + Millis::new(29_999));
    assert_eq!(late(&mut service), []);
    service.handle_timeout(NOW + Millis::new(30_000));
    assert_eq!(late(&mut service), [(503, false)]);
}

/// The expiry has no record when the journal fails, so its end is shown after it has one.
#[test]
fn a_read_that_waited_shows_an_expiry_only_with_its_record() {
    let (mut service, path) = short_lived();
    service.journal_failed("the disk is full".into());
    service.handle_timeout(LATER);
    service.settle(LATER);
    assert_eq!(ask_at(LATER, &mut service, "GET", &path, ""), None, "it waits");
    service.journal_recovered(LATER);
    assert_eq!((late(&mut service), service.last_seq()), (vec![(200, true)], 2));
}

/// The status of each late reply, and whether it must wait for the journal.
fn late(service: &mut Service) -> Vec<(u16, bool)> {
    service.late_replies().drain(..).map(|late| (late.reply.status(), late.is_acknowledgement)).collect()
}

#[test]
fn everything_is_shown_again_as_soon_as_it_is_durable() {
    let (mut service, [_, leased, new, unknown]) = failed();
    service.set_durable(service.last_seq());
    let statuses = [&*leased, &*new, &*unknown, "/mesh/jobs"].map(|path| get(&mut service, path).0);
    assert_eq!(statuses, [200, 200, 404, 200], "even if it takes nothing more");
    service.journal_recovered(NOW);
    assert_eq!(get(&mut service, &leased).0, 200);
}

#[test]
fn a_wait_that_ends_while_the_journal_fails_shows_nothing_that_a_crash_may_undo() {
    let (mut service, [untouched, leased, ..]) = failed();
    for path in [untouched, leased] {
        assert_eq!(ask(&mut service, "GET", &format!("{path}?wait_ms=1000"), ""), None, "it has not ended");
    }
    service.handle_timeout(NOW + Millis::new(1_000));
    assert_eq!(late(&mut service), [(200, true), (503, false)]);
}

const LATER: Timestamp = Timestamp::from_millis(NOW.as_millis() + 1_000);

/// A hub with one durable job that lives for a second.
fn short_lived() -> (Service, String) {
    let mut service = scene::service(scene::settings());
    let (status, text) = ask(&mut service, "POST", "/mesh/submit_request", r#"{"kind":"k","ttl_sec":1}"#).unwrap();
    assert_eq!(status, 200, "{text}");
    service.settle(NOW);
    service.set_durable(service.last_seq());
    let path = format!("/mesh/jobs/{}", service.hub().ids().job_id(JobSeq::new(1)));
    (service, path)
}

/// Without a record, a hub that crashes and whose clock is set back would run a job that its client was shown as
/// expired.
#[test]
fn an_expiry_is_journaled_before_it_is_shown() {
    let (mut service, path) = short_lived();
    service.handle_timeout(LATER);
    service.settle(LATER);
    assert_eq!(service.last_seq(), 1, "nobody asks");
    for _ in 0..2 {
        let (status, text) = ask_at(LATER, &mut service, "GET", &path, "").unwrap();
        assert!(status == 200 && text.contains(r#""status":"expired""#), "{text}");
        assert_eq!(service.last_seq(), 2, "the reply waits for one record");
    }
}

#[test]
fn a_wait_that_an_expiry_ends_is_answered_when_the_expiry_is_journaled() {
    let (mut service, path) = short_lived();
    assert_eq!(ask(&mut service, "GET", &format!("{path}?wait_ms=5000"), ""), None, "it has not ended");
    service.handle_timeout(LATER);
    service.settle(LATER);
    assert_eq!((service.late_replies().len(), service.last_seq()), (1, 2));
}

#[test]
fn an_expiry_is_not_shown_while_it_cannot_be_journaled() {
    let (mut service, path) = short_lived();
    service.journal_failed("the disk is full".into());
    assert_eq!(get(&mut service, &path).0, 200, "it has not ended");
    service.handle_timeout(LATER);
    service.settle(LATER);
    for path in [&*path, "/mesh/jobs"] {
        assert_eq!(ask_at(LATER, &mut service, "GET", path, ""), None, "{path} waits");
    }
    service.journal_recovered(LATER);
    assert_eq!(ask_at(LATER, &mut service, "GET", &path, "").unwrap().0, 200);
}

/// The record of another command covers the expiry, but the journal does not have it.
#[test]
fn an_expiry_within_a_record_that_is_not_durable_is_not_shown_while_the_journal_fails() {
    let (mut service, path) = short_lived();
    let submit = r#"{"kind":"another"}"#;
    let (status, text) = ask_at(LATER, &mut service, "POST", "/mesh/submit_request", submit).unwrap();
    assert_eq!((status, service.last_seq()), (200, 2), "{text}");
    service.journal_failed("the disk is full".into());
    for path in [&*path, "/mesh/jobs"] {
        assert_eq!(ask_at(LATER, &mut service, "GET", path, ""), None, "{path} waits");
    }
    service.set_durable(2);
    for path in [&*path, "/mesh/jobs"] {
        assert_eq!(ask_at(LATER, &mut service, "GET", path, "").unwrap().0, 200, "{path}");
    }
}

#[test]
fn a_job_shows_the_node_that_its_submit_named_as_its_client() {
    let mut service = scene::service(scene::settings());
    let mut submit = |client: &str| {
        let body = format!(r#"{{"kind":"k","client":{client}}}"#);
        ask(&mut service, "POST", "/mesh/submit_request", &body).expect("it is answered at once")
    };
    for (client, detail) in [
        (r#""NODE_A""#, "client must be an object"),
        (r#"{"node_id":7}"#, "node_id must be a string"),
        (r#"{"node_id":" "}"#, "client.node_id must not be empty"),
        (r#"{"node":"NODE_A","NodeID":"NODE_A"}"#, "node_id is misspelled"),
    ] {
        let (status, text) = submit(client);
        assert!(status == 400 && text.contains(detail), "{client}: {text}");
    }
    for client in ["null", "{}", r#"{"node_id":null}"#, r#"{"node_id":" NODE_A ","other":1}"#] {
        assert_eq!(submit(client).0, 200, "{client}");
    }
    service.set_durable(service.last_seq());
    for seq in 1..=4 {
        let path = format!("/mesh/jobs/{}", service.hub().ids().job_id(JobSeq::new(seq)));
        let (_, text) = get(&mut service, &path);
        assert_eq!(text.contains(r#""client":{"node_id":"NODE_A"}"#), seq == 4, "{text}");
        assert_eq!(text.contains("client"), seq == 4, "{text}");
    }
    let (_, text) = get(&mut service, "/mesh/jobs");
    assert_eq!(text.matches(r#""client":{"node_id":"NODE_A"}"#).count(), 1, "{text}");
}

#[test]
fn a_poll_that_waits_is_answered_for_a_cancelled_lease_when_that_is_durable_and_no_earlier() {
    let mut service = scene::service(scene::settings());
    let ask = |service: &mut Service, path: &str, body: &str| ask(service, "POST", path, body);
    ask(&mut service, "/mesh/submit_request", r#"{"kind":"k"}"#).expect("it is answered at once");
    ask(&mut service, "/mesh/pull_requests", r#"{"node_id":"n"}"#).expect("it is answered at once");
    let poll = r#"{"node_id":"n","wait_ms":1000}"#;
    assert_eq!(ask(&mut service, "/mesh/pull_requests", poll), None, "it waits");
    service.set_durable(service.last_seq());
    let path = format!("/mesh/jobs/{}/cancel", service.hub().ids().job_id(JobSeq::new(1)));
    assert_eq!(ask(&mut service, &path, "").expect("it is answered at once").0, 200);
    assert_eq!(ask(&mut service, "/mesh/pull_requests", poll), None, "a crash would undo it: so it waits, too");
    service.settle(NOW);
    assert!(service.late_replies().is_empty());
    service.set_durable(service.last_seq() - 1);
    service.settle(NOW);
    assert!(service.late_replies().is_empty());
    service.set_durable(service.last_seq());
    let late: Vec<_> = service.late_replies().drain(..).collect();
    assert_eq!(late.len(), 2);
    assert!(late.iter().all(|late| String::from_utf8_lossy(late.reply.body()).contains("cancelled")));
    assert_eq!(ask(&mut service, "/mesh/pull_requests", poll), None, "it was told");
}

#[test]
fn a_node_is_told_of_a_cancelled_lease_once_that_is_durable() {
    let mut service = scene::service(scene::settings());
    let mut post = |path: &str, body: &str| {
        let (status, text) = ask(&mut service, "POST", path, body).expect("it is answered at once");
        assert_eq!(status, 200, "{text}");
        text
    };
    post("/mesh/submit_request", r#"{"kind":"k"}"#);
    post("/mesh/pull_requests", r#"{"node_id":"n"}"#);
    let poll = r#"{"node_id":"n","wait_ms":1000}"#;
    for _ in 0..2 {
        assert_eq!(ask(&mut service, "POST", "/mesh/pull_requests", poll), None, "it waits");
    }
    let path = format!("/mesh/jobs/{}/cancel", service.hub().ids().job_id(JobSeq::new(1)));
    assert_eq!(ask(&mut service, "POST", &path, "").expect("it is answered at once").0, 200);
    service.settle(NOW);
    service.journal_failed("the disk is full".into());
    service.handle_timeout(NOW + Millis::new(1_000));
    let bodies = |service: &mut Service| -> Vec<bool> {
        let text = |reply: &sheratan_io::http::Reply| String::from_utf8(reply.body().to_vec()).expect("it is JSON");
        service.late_replies().drain(..).map(|late| text(&late.reply).contains("cancelled")).collect()
    };
    assert_eq!(bodies(&mut service), [false, false]);
    service.set_durable(service.last_seq());
    service.journal_recovered(NOW);
    assert!(ask(&mut service, "POST", "/mesh/pull_requests", r#"{"node_id":"n"}"#).unwrap().1.contains("cancelled"));
}
