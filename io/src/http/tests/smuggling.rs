//! Requests that could be read in two ways, or are no requests: each is refused, and the connection with it.

use super::*;
use crate::http::Fault::{self, *};
use crate::http::Refusal::BadHttp;

const HOST: &str = "Host: h\r\n";

/// Refused whole, and byte by byte, with a request before it, which is answered.
#[track_caller]
fn assert_bytes_refused(bytes: &[u8], refusal: Refusal) {
    for step in [bytes.len(), 1] {
        let mut connection = connection();
        let first = receive(&mut connection, START, "GET /first HTTP/1.1\r\nHost: h\r\n\r\n");
        reply_ok(&mut connection, START, first[0].id, "1");
        assert!(!response(&mut connection, START).closes());
        for part in bytes.chunks(step) {
            assert_eq!(receive(&mut connection, START, part), [], "{:?}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(connection.refusal(), Some(refusal), "{:?}", String::from_utf8_lossy(bytes));
        assert_refused(&mut connection, START, refusal.status(), refusal.code());
    }
}

#[test]
fn lengths_that_can_be_read_in_two_ways_are_refused() {
    let table = [
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", BothLengths),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", BothLengths),
        ("Content-Length: 3\r\nContent-Length: 4\r\n", ContentLength),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", ContentLength),
        ("Content-Length: 3, 3\r\n", ContentLength),
        ("Content-Length: 3,4\r\n", ContentLength),
        ("Content-Length: +3\r\n", ContentLength),
        ("Content-Length: -3\r\n", ContentLength),
        ("Content-Length: 0x3\r\n", ContentLength),
        ("Content-Length: 3 3\r\n", ContentLength),
        ("Content-Length: 3.0\r\n", ContentLength),
        ("Content-Length:\r\n", ContentLength),
        ("Content-Length: 99999999999999999999\r\n", ContentLength),
        ("Content-Length: 18446744073709551619\r\n", ContentLength),
        ("Content-Length: \u{b3}\r\n", ContentLength),
        ("Transfer-Encoding: identity\r\n", TransferEncoding),
        ("Transfer-Encoding:\r\n", TransferEncoding),
        ("Transfer-Encoding: xchunked\r\n", TransferEncoding),
        ("Transfer-Encoding: \"chunked\"\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked, identity\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked, chunked\r\n", TransferEncoding),
        ("Transfer-Encoding: , chunked\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", TransferEncoding),
        ("Transfer-Encoding : chunked\r\n", HeaderName),
        ("Transfer-Encoding\t: chunked\r\n", HeaderName),
        (" Transfer-Encoding: chunked\r\n", FoldedHeader),
        ("Transfer-Encoding:\x0bchunked\r\n", HeaderValue),
        ("X: y\rTransfer-Encoding: chunked\r\n", BareCarriageReturn),
        ("X: y\nTransfer-Encoding: chunked\r\n", BareLineFeed),
        ("Transfer-Encoding: chunked\r\r\n", BareCarriageReturn),
    ];
    for (headers, fault) in table {
        assert_bytes_refused(format!("POST / HTTP/1.1\r\n{HOST}{headers}\r\n").as_bytes(), BadHttp(fault));
    }
    let http10 = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_bytes_refused(http10, BadHttp(TransferEncodingInHttp10));
}

#[test]
fn heads_that_are_not_what_the_standard_says_are_refused() {
    let table: [(&[u8], Fault); 40] = [
        (b"GET / HTTP/1.1\nHost: h\r\n\r\n", BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: h\n\r\n", BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\n", BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", BareCarriageReturn),
        (b"GET / HTTP/1.1\r\r\nHost: h\r\n\r\n", BareCarriageReturn),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", Nul),
        (b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", Nul),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x01b\r\n\r\n", HeaderValue),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x7fb\r\n\r\n", HeaderValue),
        (b"GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", FoldedHeader),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\tfolded\r\n\r\n", FoldedHeader),
        (b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", FoldedHeader),
        (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", HeaderName),
        (b"GET / HTTP/1.1\r\nHost: h\r\n: empty\r\n\r\n", HeaderName),
        (b"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", HeaderName),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX(y): z\r\n\r\n", HeaderName),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX\xe9: z\r\n\r\n", HeaderName),
        (b"GET / HTTP/1.1\r\n\r\n", Host),
        (b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", Host),
        (b"GET / HTTP/1.0\r\nHost: h\r\nHost: i\r\n\r\n", Host),
        (b"GET / HTTP/1.1\r\nHost: h i\r\n\r\n", Host),
        (b"GET / HTTP/1.1\r\nHost: user@h\r\n\r\n", Host),
        (b"GET / HTTP/1.1\r\nHost: h/path\r\n\r\n", Host),
        (b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine),
        (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine),
        (b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", RequestLine),
        (b" GET / HTTP/1.1\r\nHost: h\r\n\r\n", FoldedHeader),
        (b"GET\t/\tHTTP/1.1\r\nHost: h\r\n\r\n", RequestLine),
        (b"GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine),
        (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n", TargetBytes),
        (b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", TargetBytes),
        (b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", TargetForm),
        (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", TargetForm),
        (b"GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n", TargetForm),
        (b"GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n", TargetForm),
        (b"GET http://u@h/a HTTP/1.1\r\nHost: h\r\n\r\n", TargetForm),
        (b"GET ftp://h/a HTTP/1.1\r\nHost: h\r\n\r\n", TargetForm),
        (b"GET /\r\n\r\n", RequestLine),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", EmptyRequestLine),
        (b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", BareLineFeed),
    ];
    for (bytes, fault) in table {
        assert_bytes_refused(bytes, BadHttp(fault));
    }
}

#[test]
fn versions_methods_and_expectations_that_the_hub_does_not_speak_are_refused() {
    let table: [(&[u8], Refusal, u16, &str); 7] = [
        (b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", Refusal::UnknownVersion, 505, "bad_http"),
        (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", Refusal::UnknownVersion, 505, "bad_http"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::UnknownVersion, 505, "bad_http"),
        (b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", Refusal::ConnectMethod, 405, "method_not_allowed"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nExpect: cookies\r\n\r\n", Refusal::UnknownExpectation, 417, "bad_http"),
        (
            b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Refusal::UnknownCoding,
            501,
            "bad_http",
        ),
        // A TLS client on a plain port.
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\n", BadHttp(BareLineFeed), 400, "bad_http"),
    ];
    for (bytes, refusal, status, code) in table {
        assert_eq!((refusal.status(), refusal.code()), (status, code));
        assert_bytes_refused(bytes, refusal);
    }
}

#[test]
fn chunks_that_are_not_what_the_standard_says_are_refused() {
    let table: [(&[u8], Fault); 27] = [
        (b"\r\n", ChunkSize),
        (b"g\r\n", ChunkSize),
        (b"0x3\r\nabc\r\n", ChunkSize),
        (b"+3\r\nabc\r\n", ChunkSize),
        (b"-3\r\nabc\r\n", ChunkSize),
        (b" 3\r\nabc\r\n", ChunkSize),
        (b"3 \r\nabc\r\n", ChunkSize),
        (b"3 ;x\r\nabc\r\n", ChunkSize),
        (b";x\r\nabc\r\n", ChunkSize),
        (b"3\nabc\r\n", ChunkSize),
        (b"3\rabc\r\n", BareCarriageReturn),
        (b"3\r\r\nabc\r\n", BareCarriageReturn),
        (b"3;x\nabc\r\n", ChunkExtension),
        (b"3;x\0\r\nabc\r\n", ChunkExtension),
        (b"3;x\ry\r\nabc\r\n", BareCarriageReturn),
        (b"3\r\nabcd\r\n", ChunkEnd),
        (b"3\r\nabc\n", ChunkEnd),
        (b"3\r\nabc\r3", ChunkEnd),
        (b"00000000000000003\r\nabc\r\n", ChunkSize),
        (b"10000000000000000\r\n", ChunkSize),
        (b"0\r\nno colon\r\n\r\n", Trailer),
        (b"0\r\n: empty\r\n\r\n", Trailer),
        (b"0\r\nX : y\r\n\r\n", Trailer),
        (b"0\r\nX: y\n\r\n", Trailer),
        (b"0\r\n folded: x\r\n\r\n", Trailer),
        (b"0\r\nX: y\0\r\n\r\n", Trailer),
        (b"0\r\n\rX", BareCarriageReturn),
    ];
    for (chunks, fault) in table {
        let head = format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
        assert_bytes_refused(&[head.as_bytes(), chunks].concat(), BadHttp(fault));
    }
}

#[test]
fn a_body_that_looks_like_a_request_is_a_body() {
    let inner = "GET /inner HTTP/1.1\r\nHost: h\r\n\r\n";
    let bytes = format!("POST /outer HTTP/1.1\r\n{HOST}Content-Length: {}\r\n\r\n{inner}", inner.len());
    let seen = receive(&mut connection(), START, bytes);
    assert_eq!((seen.len(), seen[0].body.as_slice()), (1, inner.as_bytes()));
}

#[test]
fn a_header_cannot_be_smuggled_into_a_reply() {
    let mut connection = connection();
    let seen = receive(&mut connection, START, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let reply = Reply::json(200, Vec::new())
        .with_header("X-One", "a\r\nX-Evil: b\r\n\r\nHTTP/1.1 200 OK".to_owned())
        .with_header("X-Two", "c\0d\x7fe\u{e9}f\u{141}g".to_owned());
    connection.reply(START, seen[0].id, reply);
    let response = response(&mut connection, START);
    assert_eq!(response.header("x-one"), Some("a  X-Evil: b    HTTP/1.1 200 OK"));
    assert_eq!(response.header("x-two"), Some("c d e f g"));
    assert_eq!(response.header("x-evil"), None);
}

#[test]
fn a_reply_cannot_have_a_second_length_or_a_name_that_is_none() {
    for name in ["Content-Length", "transfer-encoding", "Connection", "Date", "Content-Type", "", "X\r\nY", "X:"] {
        let result = std::panic::catch_unwind(|| Reply::json(200, Vec::new()).with_header(name, String::new()));
        assert!(result.is_err(), "{name:?}");
    }
}
