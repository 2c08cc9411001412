//! Each timeout: a millisecond before it, and at it.

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const LIMITS: Limits = Limits::DEFAULT;

/// Asserts that `at` is the connection's next timeout, and that nothing happens a millisecond before.
#[track_caller]
fn let_pass(connection: &mut Connection, at: Timestamp) {
    assert_eq!(connection.next_timeout(), Some(at));
    connection.handle_timeout(at - Millis::new(1));
    assert_eq!(connection.next_timeout(), Some(at));
    assert!(!connection.is_done());
    connection.handle_timeout(at);
}

#[test]
fn a_heads_timeout_is_measured_from_its_first_byte_even_if_more_bytes_trickle_in() {
    let mut connection = connection();
    let request = "GET / HTTP/1.1\r\nHost: h\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyy";
    for (index, byte) in request.bytes().enumerate() {
        assert_eq!(receive(&mut connection, after(5_000 + index as u64 * 100), [byte]), []);
    }
    let at = after(5_000) + LIMITS.head_timeout_ms;
    let_pass(&mut connection, at);
    assert_refused(&mut connection, at, 408, "request_timeout");
}

#[test]
fn the_next_head_in_a_pipeline_has_its_own_time() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, GET);
    assert_eq!(connection.next_timeout(), None, "the client waits for the hub, not the hub for the client");
    assert_eq!(receive(&mut connection, after(60_000), "GET /"), []);
    let at = after(60_000) + LIMITS.head_timeout_ms;
    let_pass(&mut connection, at);
    assert!(connection.output().is_empty(), "the refusal waits for the reply before it");
    reply_ok(&mut connection, after(80_000), seen[0].id, "1");
    let all = responses(&send(&mut connection, after(80_000)), |_| true);
    assert_eq!(
        all.iter().map(|response| (response.status, response.closes())).collect::<Vec<_>>(),
        [(200, false), (408, true)]
    );
}

#[test]
fn a_body_has_thirty_seconds_and_one_more_for_each_16_kib() {
    for chunked in [false, true] {
        let mut connection = connection();
        let step = LIMITS.body_step_bytes;
        let head =
            if chunked { "Transfer-Encoding: chunked\r\n\r\nf0000\r\n" } else { "Content-Length: 983040\r\n\r\n" };
        receive(&mut connection, START, format!("POST / HTTP/1.1\r\nHost: h\r\n{head}"));
        assert_eq!(connection.next_timeout(), Some(after(30_000)));
        receive(&mut connection, after(20_000), vec![b'b'; step - 1]);
        assert_eq!(connection.next_timeout(), Some(after(30_000)));
        receive(&mut connection, after(29_000), vec![b'b'; step + 1]);
        let at = after(32_000);
        let_pass(&mut connection, at);
        assert_refused(&mut connection, at, 408, "request_timeout");
    }
}

#[test]
fn an_idle_connection_is_closed_without_a_reply() {
    let mut fresh = connection();
    let_pass(&mut fresh, START + LIMITS.idle_timeout_ms);
    assert!(fresh.is_done() && fresh.output().is_empty());

    let mut used = connection();
    let seen = receive(&mut used, after(1_000), GET);
    reply_ok(&mut used, after(50_000), seen[0].id, "1");
    send(&mut used, after(51_000));
    let_pass(&mut used, after(51_000) + LIMITS.idle_timeout_ms);
    assert!(used.is_done() && used.output().is_empty());
}

#[test]
fn a_long_poll_outlives_the_idle_timeout() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, GET);
    connection.handle_timeout(after(1_000_000));
    assert!(!connection.is_done() && connection.next_timeout().is_none());
    reply_ok(&mut connection, after(1_000_000), seen[0].id, "1");
    assert_eq!(response(&mut connection, after(1_000_000)).status, 200);
}

#[test]
fn a_client_that_reads_nothing_of_its_replies_is_disconnected() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, GET.repeat(2));
    reply_ok(&mut connection, after(1_000), seen[0].id, "1");
    assert_eq!(connection.next_timeout(), Some(after(1_000) + LIMITS.write_timeout_ms));
    connection.wrote(after(20_000), 1);
    let_pass(&mut connection, after(20_000) + LIMITS.write_timeout_ms);
    assert!(connection.is_done() && connection.output().is_empty());
    assert!(!connection.wants_read());
    reply_ok(&mut connection, after(60_000), seen[1].id, "2");
    assert!(connection.is_done() && connection.output().is_empty(), "a late reply is dropped");
}

#[test]
fn a_client_that_is_not_read_because_its_output_is_full_is_not_late_with_its_request() {
    let mut connection = Connection::new(START, &Limits { output_bytes_max: 1_000, ..LIMITS });
    let seen = receive(&mut connection, START, format!("{GET}GET / HT"));
    reply_ok(&mut connection, after(9_000), seen[0].id, &"1".repeat(2_000));
    assert_eq!(connection.next_timeout(), Some(after(9_000) + LIMITS.write_timeout_ms));
    send(&mut connection, after(25_000));
    assert_eq!(connection.next_timeout(), Some(after(25_000) + LIMITS.head_timeout_ms));
}

#[test]
fn a_refused_client_has_a_second_to_read_why() {
    let mut connection = connection();
    receive(&mut connection, START, "bad\r\n\r\n");
    assert_eq!(connection.next_timeout(), Some(START + LIMITS.write_timeout_ms));
    assert_eq!(response(&mut connection, after(500)).status, 400);
    connection.received(after(900), b"more");
    let_pass(&mut connection, after(500) + LIMITS.linger_ms);
    assert!(connection.is_done());
}
