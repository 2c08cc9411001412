//! The connection's tests: bytes in every split, every way to be misunderstood, every limit and its neighbour.

use super::*;
use proptest::prelude::*;
use sheratan_core::time::{Millis, Timestamp};

const NOW: Timestamp = Timestamp::from_millis(784_111_777_000);

/// A request as it was handed out.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Got {
    method: Method,
    path: String,
    query: Option<String>,
    x: Option<Vec<u8>>,
    body: Vec<u8>,
}

fn limits() -> Limits {
    Limits { body_bytes_max: 1_000, ..Limits::default() }
}

fn connection() -> Connection {
    Connection::new(NOW, &limits())
}

fn after(ms: u64) -> Timestamp {
    NOW + Millis::new(ms)
}

/// All requests that are there, each answered at once with the path as the body.
fn serve(connection: &mut Connection) -> Vec<Got> {
    let mut all = Vec::new();
    while let Some(request) = connection.next_request(NOW) {
        let got = Got {
            method: request.method(),
            path: request.path().to_owned(),
            query: request.query().map(str::to_owned),
            x: request.header("x").map(<[u8]>::to_vec),
            body: request.body().to_vec(),
        };
        let no = request.no();
        connection.reply(NOW, no, Reply::json(200, got.path.clone().into_bytes()));
        all.push(got);
    }
    all
}

fn written(connection: &mut Connection) -> String {
    let mut all = Vec::new();
    while !connection.output().is_empty() {
        let part = connection.output().len().min(7);
        all.extend_from_slice(&connection.output()[..part]);
        connection.wrote(NOW, part);
    }
    String::from_utf8(all).unwrap()
}

/// The statuses of the replies in the output.
fn statuses(text: &str) -> Vec<u16> {
    text.match_indices("HTTP/1.1 ").filter_map(|(at, _)| text[at + 9..at + 12].parse().ok()).collect()
}

#[test]
fn a_request_is_handed_out_whole_and_its_reply_is_written() {
    let mut connection = connection();
    connection.received(NOW, b"POST /a/b?c=d HTTP/1.1\r\nHost: h\r\nX:  y \r\nContent-Length: 3\r\n\r\n{");
    assert!(connection.next_request(NOW).is_none());
    connection.received(NOW, b"}\n");
    let got = serve(&mut connection);
    let expected = Got {
        method: Method::Post,
        path: "/a/b".into(),
        query: Some("c=d".into()),
        x: Some(b"y".to_vec()),
        body: b"{}\n".to_vec(),
    };
    assert_eq!(got, [expected]);
    let text = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n/a/b";
    assert_eq!(written(&mut connection), text);
    assert!(!connection.is_done());
}

#[test]
fn replies_leave_in_the_order_of_their_requests() {
    let mut connection = connection();
    let wire: String = (0..5).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    connection.received(NOW, wire.as_bytes());
    let mut numbers = Vec::new();
    while let Some(request) = connection.next_request(NOW) {
        numbers.push(request.no());
    }
    assert_eq!(numbers.len(), 5);
    for (index, no) in numbers.iter().enumerate().rev() {
        assert!(connection.output().is_empty());
        connection.reply(NOW, *no, Reply::json(200, format!("[{index}]").into_bytes()));
    }
    let text = written(&mut connection);
    let at: Vec<_> = (0..5).map(|index| text.find(&format!("[{index}]")).unwrap()).collect();
    assert!(at.is_sorted());
}

#[test]
fn head_has_the_length_of_the_body_and_no_body() {
    let mut connection = connection();
    connection.received(NOW, b"HEAD /path HTTP/1.1\r\nHost: h\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n");
    serve(&mut connection);
    let text = written(&mut connection);
    let (head, rest) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Length: 5"));
    assert!(rest.starts_with("HTTP/1.1 200"));
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_when_its_turn_has_come() {
    let expecting = b"POST /b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let mut connection = connection();
    connection.received(NOW, expecting);
    assert_eq!(written(&mut connection), "HTTP/1.1 100 Continue\r\n\r\n");
    connection.received(NOW, b"ok");
    assert_eq!(serve(&mut connection)[0].body, b"ok");
    assert_eq!(statuses(&written(&mut connection)), [200]);

    // Behind another request that is not answered yet.
    connection.received(NOW, b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    connection.received(NOW, expecting);
    let no = connection.next_request(NOW).unwrap().no();
    assert!(connection.output().is_empty());
    connection.reply(NOW, no, Reply::json(200, Vec::new()));
    assert_eq!(statuses(&written(&mut connection)), [200, 100]);

    // With the body there is no need to.
    let mut connection = self::connection();
    connection.received(NOW, &[&expecting[..], b"ok"].concat());
    assert_eq!(serve(&mut connection).len(), 1);
    assert_eq!(statuses(&written(&mut connection)), [200]);

    // And not when it would be refused anyway.
    let mut connection = self::connection();
    connection.received(NOW, b"POST /b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n");
    assert_eq!(statuses(&written(&mut connection)), [413]);
}

#[test]
fn http_1_0_closes_unless_asked_to_stay() {
    let mut connection = connection();
    connection.received(NOW, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n");
    assert_eq!(serve(&mut connection).len(), 2);
    let text = written(&mut connection);
    let connections: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("Connection: ")).collect();
    assert_eq!(connections, ["keep-alive", "close"]);
    assert!(connection.wants_shutdown());
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_and_nothing_after_it_is_read() {
    let table: &[(&str, u16)] = &[
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 3\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -3\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x3\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3 3\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 3\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\n Content-Length: 3\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: h\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\nb: c\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /\u{e9} HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /  HTTP/1.1\r\nHost: h\r\n\r\n", 505),
        ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nExpect: the-unexpected\r\nContent-Length: 3\r\n\r\n", 417),
    ];
    for (head, status) in table {
        let mut connection = connection();
        connection.received(NOW, format!("{head}GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        assert_eq!(serve(&mut connection), [], "{head:?}");
        let text = written(&mut connection);
        assert_eq!(statuses(&text), [*status], "{head:?}");
        assert!(text.contains("Connection: close\r\n"), "{head:?}");
        connection.received(NOW, b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(serve(&mut connection), [], "{head:?}");
    }
}

#[test]
fn bad_chunking_is_refused() {
    let table = [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\nA\r\n",
        "1 1\r\nA\r\n",
        "1\nA\r\n",
        "1\r\nAB\r\n",
        "1\r\nA\n",
        "1\rA\r\n",
        "1\r\nA\r\n0\r\nX: y\n\r\n",
        "fffffffffffffffff\r\n",
        "1;\0\r\nA\r\n",
        "1\r\nA\r\n0\r\nX\rY\r\n\r\n",
    ];
    for body in table {
        let mut connection = connection();
        connection.received(NOW, b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        connection.received(NOW, body.as_bytes());
        assert_eq!(serve(&mut connection), [], "{body:?}");
        assert_eq!(statuses(&written(&mut connection)), [400], "{body:?}");
    }
}

#[test]
fn a_chunked_body_comes_out_as_one_and_its_extensions_and_trailers_are_dropped() {
    let mut connection = connection();
    let wire = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\nA \r\n0123456789\r\n0\r\nX: y\r\n\r\nGET /n HTTP/1.1\r\nHost: h\r\n\r\n";
    connection.received(NOW, wire);
    let got = serve(&mut connection);
    assert_eq!(got[0].body, b"abc0123456789");
    assert_eq!(got[1].path, "/n");
}

#[test]
fn each_size_is_taken_at_its_limit_and_refused_beyond() {
    let small = Limits { head_bytes_max: 200, target_bytes_max: 50, ..limits() };
    let status = |wire: &str| {
        let mut connection = Connection::new(NOW, &small);
        connection.received(NOW, wire.as_bytes());
        serve(&mut connection);
        statuses(&written(&mut connection)).first().copied()
    };
    let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(bytes - 1));
    assert_eq!(status(&target(50)), Some(200));
    assert_eq!(status(&target(51)), Some(414));
    assert_eq!(status(&"x".repeat(69)), Some(414));
    let head = |bytes: usize| {
        let rest = "GET / HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n";
        rest.replace("X: ", &format!("X: {}", "x".repeat(bytes - rest.len())))
    };
    assert_eq!(status(&head(200)), Some(200));
    assert_eq!(status(&head(201)), Some(431));
    assert_eq!(status(&head(199)[..199 - 2]), None);
    let many = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    let many_status = |count| {
        let mut connection = connection();
        connection.received(NOW, many(count).as_bytes());
        serve(&mut connection);
        statuses(&written(&mut connection))
    };
    assert_eq!((many_status(100), many_status(101)), (vec![200], vec![431]));
    let known =
        |bytes: usize| format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes));
    assert_eq!((status(&known(1_000)), status(&known(1_001))), (Some(200), Some(413)));
    let chunked = |bytes: usize| {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}1\r\ny\r\n{:x}\r\n{}\r\n0\r\n\r\n", bytes - 1, "x".repeat(bytes - 1))
    };
    assert_eq!((status(&chunked(1_000)), status(&chunked(1_001))), (Some(200), Some(413)));
}

#[test]
fn a_client_that_sends_more_than_may_be_in_flight_is_not_read_until_it_is_answered() {
    let mut connection = connection();
    let pipeline_max = limits().pipeline_max;
    connection.received(NOW, "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(pipeline_max + 2).as_bytes());
    let mut first = None;
    for _ in 0..pipeline_max {
        let no = connection.next_request(NOW).unwrap().no();
        first.get_or_insert(no);
    }
    assert!(connection.next_request(NOW).is_none());
    assert!(!connection.wants_read());
    connection.reply(NOW, first.unwrap(), Reply::json(200, Vec::new()));
    assert!(connection.next_request(NOW).is_some());
}

#[test]
fn each_wait_ends_at_its_instant_and_not_before() {
    let limits = limits();
    let expire = |connection: &mut Connection, ms: u64| {
        assert_eq!(connection.next_timeout(), Some(after(ms)));
        connection.handle_timeout(after(ms - 1));
        assert_eq!(connection.next_timeout(), Some(after(ms)), "not a millisecond before");
        connection.handle_timeout(after(ms));
    };
    let mut idle = connection();
    expire(&mut idle, limits.idle_timeout_ms.get());
    assert!(idle.is_done() && idle.output().is_empty());

    let mut trickling = connection();
    for (ms, byte) in b"GET / HT".iter().enumerate() {
        trickling.received(after(ms as u64 * 1_000), &[*byte]);
    }
    expire(&mut trickling, limits.head_timeout_ms.get());
    assert_eq!(statuses(&written(&mut trickling)), [408]);

    let mut stuck = connection();
    stuck.received(NOW, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n12345678");
    expire(&mut stuck, limits.body_timeout_ms.get());
    assert_eq!(statuses(&written(&mut stuck)), [408]);

    let mut unread = connection();
    unread.received(NOW, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    serve(&mut unread);
    expire(&mut unread, limits.write_timeout_ms.get());
    assert!(unread.is_done());

    let mut refused = connection();
    refused.received(NOW, b"\n");
    written(&mut refused);
    assert!(refused.wants_shutdown() && !refused.is_done());
    expire(&mut refused, limits.linger_ms.get());
    assert!(refused.is_done());

    let mut polling = connection();
    polling.received(NOW, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    polling.next_request(NOW).unwrap();
    assert_eq!(polling.next_timeout(), None, "a long poll is the service's to end");
}

#[test]
fn a_drain_answers_what_came_whole_and_closes_the_idle() {
    let mut idle = connection();
    idle.begin_drain(NOW);
    assert!(idle.is_done());

    let mut busy = connection();
    busy.received(NOW, b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3");
    let no = busy.next_request(NOW).unwrap().no();
    busy.begin_drain(NOW);
    assert!(!busy.is_done() && !busy.wants_read());
    busy.reply(NOW, no, Reply::json(200, Vec::new()));
    assert_eq!(serve(&mut busy).len(), 1);
    let text = written(&mut busy);
    assert_eq!(statuses(&text), [200, 200]);
    assert_eq!(text.matches("Connection: close").count(), 1);
    assert!(busy.wants_shutdown());
    busy.received_end(NOW);
    assert!(busy.is_done());
}

#[test]
fn a_client_that_ends_its_side_gets_what_it_asked_for() {
    let mut connection = connection();
    connection.received(NOW, b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET");
    connection.received_end(NOW);
    assert_eq!(serve(&mut connection).len(), 2);
    assert_eq!(statuses(&written(&mut connection)), [200, 200]);
    assert!(connection.is_done());
}

#[test]
fn no_text_of_a_client_becomes_a_header() {
    let reply = Reply::json(200, Vec::new()).with_header("Retry-After", "1\r\nX: y".into());
    let mut connection = connection();
    connection.received(NOW, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let no = connection.next_request(NOW).unwrap().no();
    connection.reply(NOW, no, reply);
    assert!(written(&mut connection).contains("Retry-After: 1X: y\r\n"));
}

/// A request in one of the forms that clients use.
fn request() -> impl Strategy<Value = (Vec<u8>, Got)> {
    let body = proptest::collection::vec(any::<u8>(), 0..300);
    let sizes = proptest::collection::vec(1usize..50, 1..20);
    (0..3u8, "[a-z]{1,10}", proptest::option::of("[a-z=&%0-9]{0,10}"), body, sizes, any::<bool>()).prop_map(
        |(form, path, query, body, sizes, has_empty_line)| {
            let target = query.as_ref().map_or(format!("/{path}"), |query| format!("/{path}?{query}"));
            let mut wire = if has_empty_line { b"\r\n".to_vec() } else { Vec::new() };
            let method = if form == 0 { "GET" } else { "POST" };
            wire.extend_from_slice(format!("{method} {target} HTTP/1.1\r\nhost: h\r\nX: {path}\r\n").as_bytes());
            let body = if form == 0 { Vec::new() } else { body };
            match form {
                0 => wire.extend_from_slice(b"\r\n"),
                1 => {
                    wire.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
                    wire.extend_from_slice(&body);
                }
                _ => {
                    wire.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
                    let mut rest = &body[..];
                    for size in sizes.iter().cycle() {
                        let (chunk, after) = rest.split_at(rest.len().min(*size));
                        if chunk.is_empty() {
                            break;
                        }
                        wire.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                        wire.extend_from_slice(chunk);
                        wire.extend_from_slice(b"\r\n");
                        rest = after;
                    }
                    wire.extend_from_slice(b"0\r\n\r\n");
                }
            }
            let x = Some(path.clone().into_bytes());
            let method = if form == 0 { Method::Get } else { Method::Post };
            (wire, Got { method, path: format!("/{path}"), query, x, body })
        },
    )
}

proptest! {
    #[test]
    fn bytes_split_anywhere_give_the_same_requests(
        requests in proptest::collection::vec(request(), 1..6),
        cuts in proptest::collection::vec(1usize..200, 0..60),
    ) {
        let wire: Vec<u8> = requests.iter().flat_map(|(wire, _)| wire.clone()).collect();
        let expected: Vec<_> = requests.into_iter().map(|(_, got)| got).collect();
        let mut connection = connection();
        let (mut got, mut rest) = (Vec::new(), &wire[..]);
        for cut in cuts.into_iter().chain([wire.len()]) {
            let (part, after) = rest.split_at(rest.len().min(cut));
            connection.received(NOW, part);
            got.extend(serve(&mut connection));
            rest = after;
        }
        prop_assert_eq!(got, expected);
        let text = written(&mut connection);
        prop_assert!(statuses(&text).iter().all(|status| *status == 200));
    }

    #[test]
    fn no_bytes_make_it_panic_or_hold_more_than_its_limits(
        start in proptest::option::of(request()),
        mut noise in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':')], 0..600),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in 1usize..100,
    ) {
        let mut wire = start.map_or(Vec::new(), |(wire, _)| wire);
        wire.append(&mut noise);
        for (index, byte) in flips {
            if !wire.is_empty() {
                let at = index.index(wire.len());
                wire[at] = byte;
            }
        }
        let mut connection = connection();
        for part in wire.chunks(cut) {
            connection.received(NOW, part);
            serve(&mut connection);
            prop_assert!(connection.output().len() < 64 * 1024);
            let was_refused = connection.output().windows(5).any(|window| window == b"close");
            if was_refused {
                connection.received(NOW, b"GET /after HTTP/1.1\r\nHost: h\r\n\r\n");
                prop_assert!(serve(&mut connection).is_empty());
            }
        }
        while let Some(at) = connection.next_timeout() {
            written(&mut connection);
            connection.handle_timeout(at.max(NOW));
            if connection.is_done() {
                break;
            }
        }
    }
}

/// Every split of one stream into two parts, and byte by byte.
#[test]
fn every_boundary_of_a_stream_can_be_cut() {
    let wire = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nT: x\r\n\r\n\r\nPOST /b?q HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nwxyzGET /c HTTP/1.1\r\nHost: h\r\n\r\n";
    let run = |parts: &[&[u8]]| {
        let mut connection = connection();
        let mut got = Vec::new();
        for part in parts {
            connection.received(NOW, part);
            got.extend(serve(&mut connection));
        }
        got
    };
    let whole = run(&[wire]);
    assert_eq!(whole.len(), 3);
    for at in 0..=wire.len() {
        assert_eq!(run(&[&wire[..at], &wire[at..]]), whole, "cut at {at}");
    }
    let bytes: Vec<&[u8]> = wire.chunks(1).collect();
    assert_eq!(run(&bytes), whole);
}
