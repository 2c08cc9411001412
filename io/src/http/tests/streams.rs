//! Streams: replies whose bodies have no end yet.

use super::*;

const GET: &str = "GET /events HTTP/1.1\r\nHost: h\r\n\r\n";
const LIMITS: Limits = Limits::DEFAULT;

fn begin(connection: &mut Connection, now: Timestamp, id: RequestId) {
    connection.begin_stream(now, id, Reply::text(200, "text/event-stream", b"first;".to_vec()));
}

/// A connection with an open stream whose beginning was sent.
fn streaming() -> Connection {
    let mut connection = connection();
    let seen = receive(&mut connection, START, GET);
    begin(&mut connection, START, seen[0].id);
    send(&mut connection, START);
    connection
}

/// The responses before a stream's, its head, and what its body is so far.
fn split(sent: &[u8]) -> (Vec<Response>, Response, String) {
    let all = String::from_utf8(sent.to_vec()).unwrap();
    let start = all.rfind("HTTP/1.1").expect("a response");
    let head_end = start + all[start..].find("\r\n\r\n").expect("a head") + 4;
    let head = responses(&sent[start..head_end], |_| false).remove(0);
    (responses(&sent[..start], |_| true), head, all[head_end..].to_owned())
}

#[test]
fn a_stream_has_no_length_and_grows_until_it_is_ended() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, GET);
    begin(&mut connection, START, seen[0].id);
    assert!(connection.push(START, b"second;"));
    let (before, head, body) = split(&send(&mut connection, START));
    assert_eq!((before, head.status, body.as_str()), (vec![], 200, "first;second;"));
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert!(head.header("content-length").is_none() && head.header("transfer-encoding").is_none() && head.closes());
    assert!(connection.push(after(5), b"third;"));
    assert_eq!(send(&mut connection, after(5)), b"third;");
    assert!(!connection.is_done() && !connection.is_idle());
    assert!(connection.push(after(6), b"last"));
    connection.end_stream(after(6));
    assert!(!connection.push(after(6), b"late") && !connection.is_done(), "what was pushed is sent");
    assert_eq!(send(&mut connection, after(6)), b"last");
    assert!(connection.is_done() && !connection.is_aborted());
}

#[test]
fn a_head_request_gets_the_streams_head_alone() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, GET.replace("GET", "HEAD"));
    begin(&mut connection, START, seen[0].id);
    assert!(!connection.push(START, b"more"));
    let (_, head, body) = split(&send(&mut connection, START));
    assert!(head.closes() && head.header("content-length").is_none() && body.is_empty());
    assert!(connection.is_done());
}

#[test]
fn a_stream_waits_for_the_replies_before_it_and_keeps_what_is_pushed() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, GET.repeat(2));
    begin(&mut connection, START, seen[1].id);
    assert!(connection.push(START, b"second;"));
    assert!(connection.output().is_empty());
    reply_ok(&mut connection, after(10), seen[0].id, "1");
    assert!(connection.push(after(10), b"third;"));
    let (before, head, body) = split(&send(&mut connection, after(10)));
    assert_eq!((before.len(), before[0].body.as_slice(), before[0].closes()), (1, b"1".as_slice(), false));
    assert_eq!((head.status, body.as_str()), (200, "first;second;third;"));
    assert!(connection.push(after(11), b"more"));
}

#[test]
fn a_stream_that_was_ended_before_its_turn_is_a_reply_like_any_other() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, GET.repeat(2));
    begin(&mut connection, START, seen[1].id);
    connection.push(START, b"second;");
    connection.end_stream(START);
    reply_ok(&mut connection, START, seen[0].id, "1");
    let all = responses(&send(&mut connection, START), |_| true);
    assert_eq!(all[1].body, b"first;second;");
    assert!(all[1].closes() && connection.is_done());
}

#[test]
fn bytes_that_a_client_sends_after_a_streams_request_are_discarded() {
    let bad = "bad\r\n\r\n";
    for (with, later) in [("", GET), (GET, ""), (bad, ""), ("", bad), ("POST / HTTP/1.1\r\nHost: h\r\nConte", "x")] {
        let mut connection = connection();
        connection.received(START, format!("{GET}{with}").as_bytes());
        let id = connection.next_request(START).unwrap().id();
        connection.handle_timeout(after(60_000));
        begin(&mut connection, START, id);
        assert!(connection.wants_read());
        connection.received(START, later.as_bytes());
        assert!(!connection.has_request() && connection.next_request(START).is_none());
        assert!(connection.push(START, b"second;"));
        let (before, head, body) = split(&send(&mut connection, START));
        assert_eq!((before, head.status, body.as_str()), (vec![], 200, "first;second;"));
        assert_eq!(connection.refusal(), None);
        connection.end_stream(after(5));
        assert!(connection.wants_shutdown(), "the client was sending: it reads the end before the reset");
    }
}

#[test]
fn a_refusal_of_bytes_after_a_request_is_dropped_if_the_request_becomes_a_stream() {
    let mut connection = connection();
    connection.received(START, GET.as_bytes());
    let id = connection.next_request(START).unwrap().id();
    connection.received(START, b"bad\r\n\r\n");
    assert!(connection.refusal().is_some());
    begin(&mut connection, START, id);
    assert!(connection.push(START, b"second;") && connection.refusal().is_none());
    let (before, _, body) = split(&send(&mut connection, START));
    assert_eq!((before, body.as_str()), (vec![], "first;second;"));
}

#[test]
fn a_client_that_disconnects_or_a_hub_that_stops_ends_the_stream() {
    let mut left = streaming();
    left.push(after(1), b"more");
    left.received_end(after(2));
    assert!(!left.push(after(2), b"late"));
    assert_eq!(send(&mut left, after(2)), b"more");
    assert!(left.is_done() && !left.wants_read());

    let mut stopped = streaming();
    stopped.push(after(1), b"more");
    stopped.begin_drain(after(2));
    assert!(!stopped.push(after(2), b"late"));
    assert_eq!(send(&mut stopped, after(2)), b"more");
    assert!(stopped.is_done());
}

#[test]
fn a_stream_begun_after_the_clients_end_or_during_a_drain_has_its_beginning_only() {
    for drains in [false, true] {
        let mut connection = connection();
        let seen = receive(&mut connection, START, GET);
        if drains {
            connection.begin_drain(START)
        } else {
            connection.received_end(START)
        }
        begin(&mut connection, START, seen[0].id);
        assert!(!connection.push(START, b"more"));
        let response = response(&mut connection, START);
        assert_eq!((response.body.as_slice(), response.closes()), (b"first;".as_slice(), true));
        assert!(connection.is_done() || connection.wants_shutdown());
    }
}

#[test]
fn a_quiet_stream_outlives_the_idle_timeout_and_a_stuck_one_does_not_outlive_the_write_timeout() {
    let mut connection = streaming();
    assert_eq!(connection.next_timeout(), None);
    connection.handle_timeout(after(1_000_000));
    assert!(connection.push(after(1_000_000), b"more"));
    let at = after(1_000_000) + LIMITS.write_timeout_ms;
    assert_eq!(connection.next_timeout(), Some(at));
    assert!(connection.push(at - Millis::new(1), b"more"), "that it is pushed to does not show that it reads");
    connection.handle_timeout(at - Millis::new(1));
    assert!(!connection.is_done());
    connection.handle_timeout(at);
    assert!(connection.is_done() && connection.is_aborted() && connection.output().is_empty());
    assert!(!connection.push(at, b"late"));
}

#[test]
fn a_client_that_reads_too_slowly_is_cut_off_at_the_limit_and_costs_no_more_memory_than_it() {
    let limits = Limits { stream_bytes_max: 10_000, ..LIMITS };
    for is_waiting in [false, true] {
        let mut connection = Connection::new(START, &limits);
        let seen = receive(&mut connection, START, GET.repeat(2));
        if !is_waiting {
            reply_ok(&mut connection, START, seen[0].id, &"1".repeat(500_000));
        }
        begin(&mut connection, START, seen[1].id);
        let head = "first;".len();
        let mut pushed = 0;
        while connection.push(START, &[b'x'; 100]) {
            pushed += 100;
            let heap = connection.heap();
            assert!(heap.output_bytes <= 2 * 10_000 + if is_waiting { 1_000 } else { 510_000 }, "{heap:?}");
        }
        assert!(pushed > 9_500 && pushed + head <= 10_000 + 100, "{pushed}");
        assert!(connection.is_done() && connection.is_aborted() && connection.output().is_empty());
        assert_eq!(connection.heap().output_bytes, 0);
    }
}

#[test]
fn a_client_that_reads_is_never_cut_off_however_much_is_pushed() {
    let mut connection = Connection::new(START, &Limits { stream_bytes_max: 10_000, ..LIMITS });
    let seen = receive(&mut connection, START, GET);
    begin(&mut connection, START, seen[0].id);
    for _ in 0..1_000 {
        assert!(connection.push(START, &[b'x'; 5_000]));
        let half = connection.output().len() / 2;
        connection.wrote(START, half);
        assert!(connection.push(START, &[b'x'; 1_000]));
        send(&mut connection, START);
    }
}
