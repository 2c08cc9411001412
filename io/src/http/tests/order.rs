//! The order of things: pipelines, long polls, expectations, half-closed clients, the hub's end.

use super::*;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn bodies(bytes: &[u8]) -> Vec<String> {
    let text = |response: Response| String::from_utf8(response.body).expect("text");
    responses(bytes, |_| true).into_iter().map(text).collect()
}

#[test]
fn replies_are_sent_in_the_order_of_their_requests_for_any_order_of_answers() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, (0..8).map(|n| get(&format!("/{n}"))).collect::<String>());
    assert_eq!(
        seen.iter().map(|seen| seen.path.as_str()).collect::<Vec<_>>(),
        ["/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7"]
    );
    for (index, request) in seen.iter().enumerate().skip(1).rev() {
        reply_ok(&mut connection, START, request.id, &index.to_string());
        assert!(connection.output().is_empty());
        assert_eq!(connection.pending(), index);
    }
    reply_ok(&mut connection, START, seen[0].id, "0");
    assert_eq!(bodies(&send(&mut connection, START)), ["0", "1", "2", "3", "4", "5", "6", "7"]);
    assert!(connection.is_idle());
}

#[test]
fn request_ids_ascend_for_as_long_as_the_connection_is_open() {
    let mut connection = connection();
    let mut numbers = Vec::new();
    for _ in 0..3 {
        for seen in receive(&mut connection, START, get("/").repeat(2)) {
            reply_ok(&mut connection, START, seen.id, "");
            numbers.push(seen.id);
        }
        send(&mut connection, START);
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

#[test]
#[should_panic(expected = "a request is answered once")]
fn a_second_reply_is_a_programmer_s_error() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, get("/").repeat(2));
    reply_ok(&mut connection, START, seen[0].id, "1");
    reply_ok(&mut connection, START, seen[0].id, "1");
}

#[test]
fn a_refusal_in_a_pipeline_is_sent_after_the_replies_before_it() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, format!("{}{}bad\r\n\r\n{}", get("/0"), get("/1"), get("/3")));
    assert_eq!(seen.len(), 2);
    assert!(!connection.wants_read() && connection.output().is_empty());
    reply_ok(&mut connection, START, seen[1].id, "1");
    reply_ok(&mut connection, START, seen[0].id, "0");
    let all = responses(&send(&mut connection, START), |_| true);
    assert_eq!(
        all.iter().map(|response| (response.status, response.closes())).collect::<Vec<_>>(),
        [(200, false), (200, false), (400, true)]
    );
}

#[test]
fn head_gets_the_headers_of_get_and_no_body() {
    let mut connection = connection();
    let bytes = format!("HEAD /0 HTTP/1.1\r\nHost: h\r\n\r\n{}", get("/1"));
    for seen in receive(&mut connection, START, bytes) {
        reply_ok(&mut connection, START, seen.id, "12345");
    }
    let all = responses(&send(&mut connection, START), |index| index == 1);
    assert_eq!(all[0].headers, all[1].headers);
    assert_eq!((all[0].header("content-length"), all[0].body.len()), (Some("5"), 0));
    assert_eq!(all[1].body, b"12345");

    receive(&mut connection, START, "HEAD /0 HTTP/1.1\r\n\r\n");
    let refused = responses(&send(&mut connection, START), |_| false);
    assert_eq!((refused.len(), refused[0].status), (1, 400));
}

const EXPECT: &str = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n";
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[test]
fn a_client_that_waits_is_told_to_continue() {
    for body in ["Content-Length: 3\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"] {
        let mut connection = connection();
        assert_eq!(receive(&mut connection, START, format!("{EXPECT}{body}")), []);
        assert_eq!(send(&mut connection, START), CONTINUE);
        let rest = if body.starts_with('C') { "abc" } else { "3\r\nabc\r\n0\r\n\r\n" };
        let seen = receive(&mut connection, START, rest);
        assert_eq!(seen[0].body, b"abc");
        assert!(connection.output().is_empty(), "it is said once");
    }
}

#[test]
fn continue_is_not_sent_to_a_client_that_does_not_wait_for_it() {
    let table = [
        format!("{EXPECT}Content-Length: 3\r\n\r\na"),
        format!("{EXPECT}Content-Length: 3\r\n\r\nabc"),
        format!("{EXPECT}Content-Length: 0\r\n\r\n"),
        format!("{EXPECT}\r\n"),
        "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n".to_owned(),
        "POST / HTTP/1.0\r\nExpect: cookies\r\nContent-Length: 3\r\n\r\n".to_owned(),
    ];
    for bytes in table {
        let mut connection = connection();
        receive(&mut connection, START, &bytes);
        assert!(connection.output().is_empty() && connection.refusal().is_none(), "{bytes:?}");
    }
}

#[test]
fn continue_is_not_sent_if_the_body_arrived_while_it_waited() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, format!("{}{EXPECT}Content-Length: 3\r\n\r\n", get("/0")));
    receive(&mut connection, START, "a");
    reply_ok(&mut connection, START, seen[0].id, "0");
    assert_eq!(bodies(&send(&mut connection, START)), ["0"]);
    assert_eq!(receive(&mut connection, START, "bc")[0].body, b"abc");
}

#[test]
fn a_body_above_the_limit_is_refused_instead_of_awaited() {
    let mut connection = connection();
    receive(&mut connection, START, format!("{EXPECT}Content-Length: 99999999\r\n\r\n"));
    assert_refused(&mut connection, START, 413, "payload_too_large");
}

#[test]
fn continue_waits_for_the_replies_before_it_and_the_body_s_time_with_it() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, format!("{}{EXPECT}Content-Length: 3\r\n\r\n", get("/0")));
    assert_eq!((seen.len(), connection.next_timeout()), (1, None));
    assert!(connection.output().is_empty(), "it would be taken for an answer to the first request");
    reply_ok(&mut connection, after(60_000), seen[0].id, "0");
    let sent = send(&mut connection, after(60_000));
    assert!(sent.ends_with(CONTINUE));
    assert_eq!(connection.next_timeout(), Some(after(60_000) + Limits::DEFAULT.body_timeout_ms));
    assert_eq!(receive(&mut connection, after(60_000), "abc")[0].body, b"abc");
}

#[test]
fn a_half_closed_client_gets_its_replies() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, format!("{}{}GET /par", get("/0"), get("/1")));
    connection.received_end(START);
    assert!(connection.has_input_ended() && !connection.wants_read() && !connection.is_done());
    reply_ok(&mut connection, after(60_000), seen[0].id, "0");
    reply_ok(&mut connection, after(60_000), seen[1].id, "1");
    let all = responses(&send(&mut connection, after(60_000)), |_| true);
    assert_eq!(all.iter().map(Response::closes).collect::<Vec<_>>(), [false, true]);
    assert!(connection.is_done());
}

#[test]
fn a_half_closed_client_s_requests_after_a_full_pipeline_are_answered() {
    let mut connection = Connection::new(START, &Limits { pipeline_max: 2, ..Limits::DEFAULT });
    let mut seen = receive(&mut connection, START, get("/").repeat(5));
    connection.received_end(START);
    let mut answered = 0;
    while let Some(request) = seen.pop() {
        reply_ok(&mut connection, START, request.id, "");
        answered += 1;
        seen.extend(take(&mut connection, START));
        seen.sort_by_key(|seen| std::cmp::Reverse(seen.id));
    }
    let all = responses(&send(&mut connection, START), |_| true);
    assert_eq!((answered, all.len()), (5, 5));
    assert!(all[4].closes() && connection.is_done());
}

#[test]
fn a_refusal_after_a_full_pipeline_does_not_linger_when_the_client_has_half_closed() {
    let mut connection = Connection::new(START, &Limits { pipeline_max: 1, ..Limits::DEFAULT });
    let seen = receive(&mut connection, START, format!("{}bad\r\n\r\n", get("/0")));
    connection.received_end(START);
    reply_ok(&mut connection, START, seen[0].id, "0");
    let all = responses(&send(&mut connection, START), |_| true);
    assert_eq!(all.iter().map(|response| response.status).collect::<Vec<_>>(), [200, 400]);
    assert!(connection.is_done());
}

#[test]
fn the_last_reply_says_close_even_if_it_precedes_the_call_for_the_next_request() {
    let mut connection = connection();
    connection.received(START, b"GET / HTTP/1.0\r\n\r\n");
    let id = connection.next_request(START).expect("it is whole").id();
    reply_ok(&mut connection, START, id, "");
    assert!(response(&mut connection, START).closes());
}

#[test]
fn a_client_that_disconnects_ends_the_connection_at_once() {
    for bytes in ["", "GET / HT", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab"] {
        let mut connection = connection();
        receive(&mut connection, START, bytes);
        connection.received_end(START);
        assert!(connection.is_done() && connection.output().is_empty(), "{bytes:?}");
    }
}

#[test]
fn a_refused_client_that_disconnects_is_not_waited_for() {
    let mut connection = connection();
    receive(&mut connection, START, "bad\r\n\r\n");
    connection.received_end(START);
    assert!(!connection.is_done(), "it may still read the refusal");
    assert_eq!(response(&mut connection, START).status, 400);
    assert!(connection.is_done());
}

#[test]
fn draining_closes_an_idle_connection_at_once() {
    let mut connection = connection();
    connection.begin_drain(START);
    assert!(connection.is_done());
}

#[test]
fn draining_answers_complete_requests_and_says_close_on_the_last() {
    let mut connection = connection();
    let first = receive(&mut connection, START, get("/0"));
    connection.received(START, format!("{}{}POST /par", get("/1"), get("/2")).as_bytes());
    connection.begin_drain(START);
    assert!(!connection.is_done());
    let rest = take(&mut connection, START);
    assert_eq!(rest.iter().map(|seen| seen.path.as_str()).collect::<Vec<_>>(), ["/1", "/2"]);
    assert!(!connection.wants_read() && receive(&mut connection, START, get("/3")).is_empty());
    for seen in rest.iter().chain(&first) {
        reply_ok(&mut connection, START, seen.id, &seen.path);
    }
    let all = responses(&send(&mut connection, START), |_| true);
    assert_eq!(all.iter().map(Response::closes).collect::<Vec<_>>(), [false, false, true]);
    assert!(connection.wants_shutdown(), "a request may be on its way: it must not reset the reply");
    connection.received_end(START);
    assert!(connection.is_done());
}

#[test]
fn draining_a_long_poll_lingers_for_a_request_that_may_be_on_its_way() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, get("/0"));
    connection.begin_drain(START);
    assert!(!connection.is_done() && !connection.wants_read());
    reply_ok(&mut connection, START, seen[0].id, "0");
    assert!(response(&mut connection, START).closes());
    assert!(connection.wants_shutdown() && connection.wants_read() && !connection.is_done());
}

#[test]
fn draining_sends_waiting_output_first() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, get("/0"));
    reply_ok(&mut connection, START, seen[0].id, "0");
    connection.begin_drain(START);
    assert!(!connection.is_done());
    assert_eq!(response(&mut connection, START).body, b"0");
    connection.handle_timeout(START + Limits::DEFAULT.linger_ms);
    assert!(connection.is_done());
}
