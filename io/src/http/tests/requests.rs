//! What a request is seen as: targets, headers, bodies, versions.

use super::*;
use crate::http::Method;

#[test]
fn a_request_is_seen_as_it_was_sent() {
    let mut connection = connection();
    connection.received(
        START,
        b"POST /mesh/jobs/a%20b?wait_ms=5&x=? HTTP/1.1\r\nHost: h:1\r\nX-Tag:  one \t\r\nx-tag: two\r\nEmpty:\r\nContent-Length: 4\r\n\r\nbodyGET",
    );
    assert!(connection.has_request());
    let request = connection.next_request(START).expect("it is whole");
    assert_eq!(*request.method(), Method::Post);
    assert_eq!(request.path(), "/mesh/jobs/a%20b");
    assert_eq!(request.query(), Some("wait_ms=5&x=?"));
    assert_eq!(request.header("x-TAG"), Some(b"one".as_slice()), "the first of two, without blanks");
    assert_eq!(request.header("empty"), Some(b"".as_slice()));
    assert_eq!(request.header("absent"), None);
    assert_eq!(request.body(), b"body");
    assert_eq!(connection.next_request(START).map(|request| request.id()), None);
}

#[test]
fn methods_are_recognized_in_upper_case_only() {
    let table = [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("DELETE", Method::Delete),
        ("PATCH", Method::Patch),
        ("OPTIONS", Method::Options),
        ("TRACE", Method::Other("TRACE".to_owned())),
        ("get", Method::Other("get".to_owned())),
    ];
    for (token, method) in table {
        let mut connection = connection();
        connection.received(START, format!("{token} / HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let request = connection.next_request(START).expect("a request");
        assert_eq!(*request.method(), method);
        assert_eq!(request.method().as_str(), token);
    }
}

#[test]
fn targets_are_split_into_path_and_query() {
    let table = [
        ("/", "/", None),
        ("/a?", "/a", Some("")),
        ("//a", "//a", None),
        ("/a?b?c", "/a", Some("b?c")),
        ("http://h/a?b", "/a", Some("b")),
        ("HTTPS://h:1/", "/", None),
        ("http://h", "/", None),
        ("http://h?q", "/", Some("q")),
        ("http://[::1]:80/x", "/x", None),
    ];
    for (target, path, query) in table {
        let seen = receive(&mut connection(), START, format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!((seen[0].path.as_str(), seen[0].query.as_deref()), (path, query), "{target}");
    }
}

#[test]
fn a_chunked_body_is_decoded_and_its_extensions_and_trailers_are_dropped() {
    let table = [
        ("0\r\n\r\n", ""),
        ("3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("003\r\nabc\r\nA\r\n0123456789\r\n00\r\n\r\n", "abc0123456789"),
        ("3;a=b;c=\"d e\"\r\nabc\r\n0;z\r\nX-Tag: no\r\nExpires: never\r\n\r\n", "abc"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
    ];
    for (chunks, body) in table {
        let bytes = format!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n{chunks}GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
        );
        let seen = receive(&mut connection(), START, bytes);
        assert_eq!((seen[0].body.as_slice(), seen[0].tag.as_deref()), (body.as_bytes(), None), "{chunks:?}");
        assert_eq!((seen[1].path.as_str(), seen.len()), ("/next", 2), "{chunks:?}");
    }
}

#[test]
fn one_empty_line_before_a_request_is_skipped_and_keeps_the_connection_idle() {
    let mut connection = connection();
    assert_eq!(receive(&mut connection, START, "\r"), []);
    assert!(!connection.is_idle());
    assert_eq!(receive(&mut connection, START, "\n"), []);
    assert!(connection.is_idle());
    assert_eq!(connection.next_timeout(), Some(START + Limits::DEFAULT.idle_timeout_ms));
    assert_eq!(receive(&mut connection, START, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").len(), 1);
}

#[test]
fn http_1_0_closes_unless_asked_to_keep_the_connection() {
    let table = [
        ("GET / HTTP/1.0\r\n\r\n", Some("close")),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Some("keep-alive")),
        ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", Some("close")),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: te, CLOSE\r\n\r\n", Some("close")),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: te\r\nConnection: close\r\n\r\n", Some("close")),
    ];
    for (bytes, says) in table {
        let mut connection = connection();
        let seen = receive(&mut connection, START, bytes);
        reply_ok(&mut connection, START, seen[0].id, "1");
        let response = response(&mut connection, START);
        assert_eq!(response.header("connection"), says, "{bytes:?}");
        assert_eq!(connection.is_done(), says == Some("close"), "{bytes:?}");
    }
}

#[test]
fn nothing_is_read_after_a_request_that_closes() {
    let mut connection = connection();
    let close = "GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let seen = receive(&mut connection, START, format!("{close}GET /2 HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_eq!(seen.len(), 1);
    assert!(!connection.wants_read());
    reply_ok(&mut connection, START, seen[0].id, "1");
    assert!(response(&mut connection, START).closes());
    assert!(!connection.is_done() && connection.wants_shutdown(), "the client was sending more: it must not be reset");
    connection.handle_timeout(START + Limits::DEFAULT.linger_ms);
    assert!(connection.is_done());
}
