//! The metrics through the real service, without a socket: who may read them, and that reading changes nothing.

use crate::scene::{self, LOCAL, NOW};
use sheratan_core::telemetry::Counter;
use sheratan_io::http::{Connection, Limits, Reply};
use sheratan_io::journal::Batch;
use sheratan_io::secret::Secret;
use sheratan_io::service::{Answer, Caller, Origin, Plane, Service, Settings};
use sheratan_io::shared_token::SharedToken;
use sheratan_io::token::Token;
use std::net::{IpAddr, Ipv4Addr};

const FOREIGN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const PLANES: [Plane; 2] = [Plane::Control, Plane::Data];
const FORMS: [&str; 3] = ["application/json", "text/plain", "application/openmetrics-text"];
const TOKEN: &str = "0123456789abcdef";

fn service(is_metrics_public: bool) -> Service {
    let token = Token::new(Secret::new(TOKEN)).expect("it is long enough");
    let settings = Settings { token: Some(SharedToken::single(&token)), is_metrics_public, ..scene::settings() };
    let mut service = scene::service(settings);
    // Which token it is, is a record.
    service.set_durable(service.last_seq());
    service
}

/// Sends a request on a connection of its own; the reply, and whether it may be sent regardless of the journal.
fn ask(service: &mut Service, plane: Plane, ip: IpAddr, head: &str, body: &str) -> (Reply, bool) {
    let mut wire = Connection::new(NOW, &Limits::default());
    let bytes = format!("{head}Host: hub\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    wire.received(NOW, bytes.as_bytes());
    let request = wire.next_request(NOW).expect("a whole request came");
    let caller = Caller { plane, ip, origin: Origin { connection: 1, request: request.id() } };
    match service.handle(NOW, &caller, &request) {
        Answer::Now(reply) => (reply, true),
        Answer::Reply(reply) => (reply, false),
        Answer::Parked | Answer::Stream(_) | Answer::Page(_) => unreachable!("none of these requests waits"),
    }
}

fn scrape(service: &mut Service, plane: Plane, form: &str) -> String {
    let head = format!("GET /metrics HTTP/1.1\r\nAccept: {form}\r\n");
    let (reply, is_at_once) = ask(service, plane, LOCAL, &head, "");
    assert_eq!(reply.status(), 200);
    assert!(is_at_once, "a scrape waits for no disk");
    String::from_utf8(reply.body().to_vec()).expect("it is text")
}

fn status(service: &mut Service, plane: Plane, ip: IpAddr, headers: &str) -> u16 {
    ask(service, plane, ip, &format!("GET /metrics HTTP/1.1\r\n{headers}"), "").0.status()
}

#[test]
fn another_machine_needs_the_token_unless_the_metrics_are_public() {
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    for plane in PLANES {
        let mut service = service(false);
        assert_eq!(status(&mut service, plane, LOCAL, ""), 200);
        assert_eq!(status(&mut service, plane, FOREIGN, ""), 403);
        assert_eq!(status(&mut service, plane, FOREIGN, "X-Sheratan-Token: another\r\n"), 403);
        assert_eq!(status(&mut service, plane, FOREIGN, &right), 200);
    }
    for plane in PLANES {
        let mut service = service(true);
        assert_eq!(status(&mut service, plane, FOREIGN, ""), 200);
        let (jobs, _) = ask(&mut service, Plane::Data, FOREIGN, "GET /mesh/jobs HTTP/1.1\r\n", "");
        assert_eq!(jobs.status(), 403, "the metrics are public, and nothing else");
    }
}

/// A submit is applied and its batch not even handed to the journal.
#[test]
fn a_thousand_scrapes_change_no_state_and_wait_for_no_record() {
    let mut service = service(false);
    let submit = format!("POST /mesh/submit_request HTTP/1.1\r\nX-Sheratan-Token: {TOKEN}\r\n");
    let (reply, is_at_once) = ask(&mut service, Plane::Data, LOCAL, &submit, r#"{"kind":"k","idempotency_key":"a"}"#);
    assert_eq!((reply.status(), is_at_once), (200, false));
    service.settle(NOW);
    service.events().clear();
    assert!(service.take_batch(Batch::new()).is_some());
    let counters = [Counter::AuthSuccess, Counter::AuthFailureMissing, Counter::Submitted, Counter::JournalCommit];
    let totals = |service: &Service| counters.map(|counter| service.hub().telemetry().total(counter));
    let (digest, outcomes, before) = (service.hub().digest(), service.hub().outcome_hash(), totals(&service));
    for n in 0..1_000 {
        scrape(&mut service, PLANES[n % 2], FORMS[n % 3]);
    }
    service.settle(NOW);
    assert!(!service.has_batch() && service.events().is_empty() && service.late_replies().is_empty());
    assert_eq!((service.hub().digest(), service.hub().outcome_hash(), totals(&service)), (digest, outcomes, before));
    let counted = |plane, n: usize, service: &mut Service| {
        let line = format!("sheratan_hub_requests_total{{route=\"metrics\",status=\"200\"}} {n}\n");
        assert!(scrape(service, plane, "text/plain").contains(&line), "{line}");
    };
    PLANES.into_iter().for_each(|plane| counted(plane, 500, &mut service));
}

#[test]
fn a_journal_failure_and_its_recovery_are_visible() {
    let mut service = service(false);
    let shows = |service: &mut Service, lines: [&str; 3]| {
        let text = scrape(service, Plane::Data, "text/plain");
        lines.iter().for_each(|line| assert!(text.contains(&format!("\nsheratan_hub_{line}\n")), "{line}: {text}"));
        let ready = format!("\nsheratan_hub_{}\n", lines[0]);
        assert!(scrape(service, Plane::Control, "text/plain").contains(&ready), "both planes say {ready}");
    };
    let submit = format!("POST /mesh/submit_request HTTP/1.1\r\nX-Sheratan-Token: {TOKEN}\r\n");
    ask(&mut service, Plane::Data, LOCAL, &submit, r#"{"kind":"k"}"#);
    shows(&mut service, ["ready 1", "journal_up 1", "journal_pending_records 1"]);
    service.journal_failed("the disk is full".into());
    shows(&mut service, ["ready 0", "journal_up 0", "journal_pending_records 1"]);
    service.set_durable(service.last_seq());
    service.journal_recovered(NOW);
    shows(&mut service, ["ready 1", "journal_up 1", "journal_pending_records 0"]);
}

#[test]
fn jobs_are_shown_by_kind_and_state_and_those_of_many_kinds_as_one() {
    let mut service = service(false);
    let post = |service: &mut Service, path: &str, body: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nX-Sheratan-Token: {TOKEN}\r\n");
        assert_eq!(ask(service, Plane::Data, LOCAL, &head, body).0.status(), 200);
    };
    let held = |service: &mut Service| {
        let text = scrape(service, Plane::Data, "text/plain");
        let lines = text.lines().filter_map(|line| line.strip_prefix("sheratan_hub_kind_jobs"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    for body in [r#"{"kind":"a"}"#, r#"{"kind":"b","delay_ms":9}"#, r#"{"kind":"a"}"#, r#"{"kind":"c","ttl_sec":1}"#] {
        post(&mut service, "/mesh/submit_request", body);
    }
    post(&mut service, "/mesh/pull_requests", r#"{"node_id":"n","kinds":["a"]}"#);
    let few = [
        r#"{kind="a",status="queued"} 1"#,
        r#"{kind="a",status="leased"} 1"#,
        r#"{kind="b",status="scheduled"} 1"#,
        r#"{kind="c",status="queued"} 1"#,
    ];
    assert_eq!(held(&mut service), few);
    let jobs: Vec<_> = (0..300).map(|n| format!(r#"{{"kind":"k{n}"}}"#)).collect();
    post(&mut service, "/mesh/submit_requests", &format!(r#"{{"requests":[{}]}}"#, jobs.join(",")));
    let many = held(&mut service);
    assert_eq!(many.len(), 202, "{many:?}");
    assert!(few.iter().all(|line| many.contains(&(*line).to_owned())), "{many:?}");
    let others = many.iter().find_map(|line| line.strip_prefix(r#"{kind="other",status="queued"} "#));
    assert_eq!(others, Some("103"), "{many:?}");
}
