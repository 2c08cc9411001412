//! Each limit: at it and one above.

use super::*;

const HEAD: &str = "POST / HTTP/1.1\r\nHost: h\r\n";

fn limited(change: impl FnOnce(&mut Limits)) -> Connection {
    let mut limits = Limits::DEFAULT;
    change(&mut limits);
    Connection::new(START, &limits)
}

/// The requests returned when the bytes arrive at once and one by one.
#[track_caller]
fn assert_outcome(make: impl Fn() -> Connection, bytes: &str, refused: Option<(u16, &str)>) {
    for step in [bytes.len(), 1] {
        let mut connection = make();
        let seen: usize = bytes.as_bytes().chunks(step).map(|part| receive(&mut connection, START, part).len()).sum();
        assert_eq!(seen, usize::from(refused.is_none()), "step {step}");
        match refused {
            Some((status, code)) => assert_refused(&mut connection, START, status, code),
            None => assert_eq!(connection.refusal(), None),
        }
    }
}

#[test]
fn a_head_may_be_as_long_as_the_limit() {
    let max = Limits::DEFAULT.head_bytes_max;
    let head = |len: usize| format!("{HEAD}X: {}\r\n\r\n", "y".repeat(len - HEAD.len() - "X: \r\n\r\n".len()));
    assert_eq!(head(max).len(), max);
    assert_outcome(connection, &head(max), None);
    assert_outcome(connection, &head(max + 1), Some((431, "headers_too_large")));
    assert_outcome(connection, &head(max + 1)[..max + 1], Some((431, "headers_too_large")));
}

#[test]
fn a_target_may_be_as_long_as_the_limit() {
    let max = Limits::DEFAULT.target_bytes_max;
    let get = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(len - 1));
    assert_outcome(connection, &get(max), None);
    assert_outcome(connection, &get(max + 1), Some((414, "uri_too_long")));
    assert_outcome(connection, &format!("GET /{}", "a".repeat(max + 100)), Some((414, "uri_too_long")));
}

#[test]
fn a_method_may_have_32_bytes() {
    let request = |len: usize| format!("{} / HTTP/1.1\r\nHost: h\r\n\r\n", "M".repeat(len));
    assert_outcome(connection, &request(32), None);
    assert_outcome(connection, &request(33), Some((400, "bad_http")));
}

#[test]
fn a_request_may_have_as_many_headers_as_the_limit() {
    let request = |count: usize| format!("{HEAD}{}\r\n", "X: y\r\n".repeat(count - 1));
    let max = Limits::DEFAULT.headers_max as usize;
    assert_outcome(connection, &request(max), None);
    assert_outcome(connection, &request(max + 1), Some((431, "headers_too_large")));
}

#[test]
fn a_body_may_be_as_long_as_the_limit_and_is_refused_before_it_is_sent() {
    let make = || limited(|limits| limits.body_bytes_max = 40);
    let counted = |len: usize| format!("{HEAD}Content-Length: {len}\r\n\r\n");
    assert_outcome(make, &format!("{}{}", counted(40), "b".repeat(40)), None);
    assert_outcome(make, &counted(41), Some((413, "payload_too_large")));
    assert_outcome(make, &counted(9_999_999_999_999_999_999), Some((413, "payload_too_large")));
}

#[test]
fn a_chunked_body_may_be_as_long_as_the_limit() {
    let make = || limited(|limits| limits.body_bytes_max = 40);
    let chunked = |chunks: &str| format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{chunks}");
    let (ten, thirty) = ("a\r\n0123456789\r\n", format!("1e\r\n{}\r\n", "b".repeat(30)));
    assert_outcome(make, &chunked(&format!("{ten}{thirty}0\r\n\r\n")), None);
    assert_outcome(make, &chunked(&format!("{ten}{thirty}1\r\n")), Some((413, "payload_too_large")));
    assert_outcome(make, &chunked(&format!("{ten}1f\r\n")), Some((413, "payload_too_large")));
    assert_outcome(make, &chunked("ffffffffffffffff\r\n"), Some((413, "payload_too_large")));
}

#[test]
fn extensions_and_trailers_together_may_be_as_long_as_a_head() {
    let max = Limits::DEFAULT.head_bytes_max;
    let chunked = |chunks: String| format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{chunks}");
    let both = |trailer: usize| {
        let extensions = format!("1;{}\r\nb\r\n", "e".repeat(100)).repeat(10);
        chunked(format!("{extensions}0\r\nX:{}\r\n\r\n", "t".repeat(trailer)))
    };
    assert_outcome(connection, &both(max - 1_000 - 1), None);
    assert_outcome(connection, &both(max - 1_000), Some((431, "headers_too_large")));
    assert_outcome(connection, &chunked(format!("1;{}\r\nb\r\n0\r\n\r\n", "e".repeat(max))), None);
    assert_outcome(connection, &chunked(format!("1;{}", "e".repeat(max + 1))), Some((400, "bad_http")));
}

#[test]
fn a_full_pipeline_stops_reading_until_a_reply_leaves() {
    let mut connection = limited(|limits| limits.pipeline_max = 3);
    let seen = receive(&mut connection, START, "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(5));
    assert_eq!((seen.len(), connection.pending()), (3, 3));
    assert!(!connection.wants_read() && !connection.has_request());
    reply_ok(&mut connection, START, seen[1].id, "2");
    assert!(!connection.has_request(), "the second reply waits for the first");
    reply_ok(&mut connection, START, seen[0].id, "1");
    assert!(connection.has_request());
    assert_eq!(take(&mut connection, START).len(), 2);
    assert_eq!(connection.pending(), 3);
    assert!(!connection.wants_read());
}

#[test]
fn output_that_the_client_does_not_read_stops_reading_until_it_is_read() {
    let mut connection = limited(|limits| limits.output_bytes_max = 1_000);
    let seen = receive(&mut connection, START, "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2));
    assert!(connection.wants_read());
    // The second reply waits for the first, and counts all the same.
    reply_ok(&mut connection, START, seen[1].id, &"2".repeat(1_001));
    assert!(!connection.wants_read());
    connection.received(START, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(!connection.has_request() && take(&mut connection, START).is_empty());
    reply_ok(&mut connection, START, seen[0].id, "1");
    assert!(!connection.wants_read());
    let bytes = connection.output().len();
    connection.wrote(START, bytes - 1_001);
    assert!(!connection.has_request());
    connection.wrote(START, 1);
    assert!(connection.has_request());
    assert_eq!(take(&mut connection, START).len(), 1);
}

#[test]
fn a_lingering_connection_discards_as_much_as_the_limit() {
    for (count, is_done) in [(100, false), (101, true)] {
        let mut connection = limited(|limits| limits.linger_bytes_max = 100);
        receive(&mut connection, START, "bad\r\n\r\n");
        assert!(!connection.wants_read(), "nothing is read before the refusal was sent");
        assert_eq!(response(&mut connection, START).status, 400);
        assert!(connection.wants_read() && connection.wants_shutdown());
        for _ in 0..count {
            connection.received(START, b"x");
        }
        assert_eq!(connection.is_done(), is_done);
    }
}
