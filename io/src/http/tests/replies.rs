//! What a reply looks like on the wire.

use super::*;
use crate::http::problem;

fn written(reply: Reply, now: Timestamp) -> Vec<u8> {
    let mut connection = connection();
    let seen = receive(&mut connection, START, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    connection.reply(now, seen[0].id, reply);
    send(&mut connection, now)
}

#[test]
fn a_reply_is_written_in_full() {
    let reply = Reply::json(429, b"{}".to_vec()).with_header("Retry-After", "3".to_owned());
    assert_eq!((reply.status(), reply.body()), (429, b"{}".as_slice()));
    let expected = "HTTP/1.1 429 Too Many Requests\r\nDate: Thu, 15 Jan 2026 20:52:03 GMT\r\n\
                    Content-Type: application/json\r\nContent-Length: 2\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nRetry-After: 3\r\n\r\n{}";
    assert_eq!(String::from_utf8(written(reply, START)).expect("text"), expected);
}

#[test]
fn a_reply_of_another_type_says_so() {
    let reply = Reply::text(200, "text/plain; version=0.0.4", b"x 1\n".to_vec());
    let all = responses(&written(reply, START), |_| true);
    assert_eq!(all[0].header("content-type"), Some("text/plain; version=0.0.4"));
    assert_eq!(all[0].body, b"x 1\n");
}

#[test]
fn the_date_is_right_from_the_epoch_to_the_end_of_the_calendar() {
    let table = [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (951_827_696_999, "Tue, 29 Feb 2000 12:34:56 GMT"),
        (784_111_777_000, "Sun, 06 Nov 1994 08:49:37 GMT"),
        // The last instant that has a date in every time zone.
        (253_402_207_200_000, "Thu, 30 Dec 9999 22:00:00 GMT"),
        (253_402_207_200_001, "Thu, 30 Dec 9999 22:00:00 GMT"),
        (u64::MAX, "Thu, 30 Dec 9999 22:00:00 GMT"),
    ];
    for (ms, date) in table {
        let all = responses(&written(Reply::json(200, Vec::new()), Timestamp::from_millis(ms)), |_| true);
        assert_eq!(all[0].header("date"), Some(date), "{ms}");
    }
}

#[test]
fn no_content_has_neither_body_nor_length() {
    for status in [204, 304] {
        let all = responses(&written(Reply::json(status, b"never sent".to_vec()), START), |_| false);
        assert_eq!((all.len(), all[0].header("content-length")), (1, None), "{status}");
    }
}

#[test]
fn small_replies_of_a_pipeline_leave_in_one_piece_and_a_large_body_is_whole() {
    let mut connection = connection();
    let large = "L".repeat(100_000);
    let seen = receive(&mut connection, START, "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(4));
    for (request, body) in seen.iter().zip(["a", "b", &large, "d"]) {
        reply_ok(&mut connection, START, request.id, body);
    }
    let first_piece = responses(&connection.output()[..connection.output().len()], |index| index < 2);
    assert_eq!(first_piece.iter().map(|response| response.body.len()).collect::<Vec<_>>(), [1, 1, 0]);
    // A socket that takes 7 bytes at a time.
    let mut sent = Vec::new();
    while !connection.output().is_empty() {
        let count = connection.output().len().min(7);
        sent.extend_from_slice(&connection.output()[..count]);
        connection.wrote(START, count);
    }
    let bodies: Vec<_> = responses(&sent, |_| true).into_iter().map(|response| response.body).collect();
    assert_eq!(bodies, [b"a".to_vec(), b"b".to_vec(), large.into_bytes(), b"d".to_vec()]);
}

#[test]
fn a_problem_has_its_members_whatever_its_detail_says() {
    let detail = "quote \" backslash \\ line\nend \u{1} \u{e9}";
    let reply = problem(409, "lease_lost", detail, ",\"max\":7");
    let body: serde_json::Value = serde_json::from_slice(reply.body()).expect("JSON");
    let expected = serde_json::json!({
        "type": "about:blank", "title": "Conflict", "status": 409, "detail": detail,
        "ok": false, "error": "lease_lost", "max": 7,
    });
    assert_eq!((reply.status(), body), (409, expected));
    let all = responses(&written(reply, START), |_| true);
    assert_eq!(all[0].header("content-type"), Some("application/problem+json"));
}

#[test]
#[should_panic(expected = "final")]
fn an_interim_status_is_no_reply() {
    Reply::json(100, Vec::new());
}
